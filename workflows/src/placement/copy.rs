//! A tenant's rows, from one place to another, a batch at a time.
//!
//! ```text
//! while the tenant works    rows, parents first ─ rings
//! while it is frozen        extras, children first ─ rows ─ rings   (what changed meanwhile)
//!                           again if some would not fit, and at last from nothing ─ verified
//! ```
//!
//! A batch is some rows in the order of their keys. Each is written where it is new or differs, so
//! a pass over what was copied before only mends. While the tenant works a row may refer to one that
//! is not copied yet, or hold a value that a deleted one still holds at the new place: such a row is
//! left for the next pass. Once it is frozen the rows fit together as they are.

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use sqlx::{Acquire as _, PgConnection};

use super::shape::{self, Fit};
use super::store;
use crate::data_map;
use crate::product::maps::Map;
use crate::product::{OnceKey, Place, ProductError, Site, Sources};

/// After so many passes over a frozen tenant that leave rows behind, the new place is emptied.
const PASSES: u32 = 3;

/// How many batches one step does: to open both places costs as much as some batches.
pub(super) const STRIDE: u64 = 50;

/// What a pass does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Stage {
    /// Deletes at the new place what is not at the old one, children first.
    Extras,
    /// Nulls what closes rings at the new place, so that it can be emptied.
    Loosen,
    /// Empties the new place, children first.
    Empty,
    /// Writes rows, parents first.
    Rows,
    /// Writes what closes rings.
    Rings,
}

/// Where a copy is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Walk {
    /// What is done.
    pub stage: Stage,
    /// To which table, in the order of the stage.
    pub table: usize,
    /// After which key.
    pub after: Option<String>,
    /// The number of the batch, which none before it had.
    pub batch: u64,
    /// How many rows were written or deleted.
    pub rows: u64,
    /// How many rows of this pass would not fit.
    pub left: u64,
    /// How many passes over the frozen tenant were made before.
    pub passes: u32,
}

/// What came of a batch.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Batch {
    /// The last key, if there may be more behind it.
    after: Option<String>,
    rows: u64,
    left: u64,
}

/// What is to be done after a batch.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Next {
    Batch(Walk),
    Done(Walk),
}

impl Walk {
    /// While the tenant works.
    pub(super) fn first() -> Self {
        Self {
            stage: Stage::Rows,
            table: 0,
            after: None,
            batch: 1,
            rows: 0,
            left: 0,
            passes: 0,
        }
    }

    /// Once it is frozen.
    pub(super) fn again(self) -> Self {
        Self {
            stage: Stage::Extras,
            table: 0,
            after: None,
            left: 0,
            ..self
        }
    }

    /// Pure. `tables` is how many there are.
    pub(super) fn next(mut self, batch: &Batch, tables: usize, frozen: bool) -> Next {
        self.batch += 1;
        self.rows += batch.rows;
        self.left += batch.left;
        self.after.clone_from(&batch.after);
        if batch.after.is_some() {
            return Next::Batch(self);
        }
        self.table += 1;
        if self.table < tables {
            return Next::Batch(self);
        }
        self.table = 0;
        self.stage = match self.stage {
            Stage::Extras | Stage::Empty => Stage::Rows,
            Stage::Loosen => Stage::Empty,
            Stage::Rows => Stage::Rings,
            Stage::Rings if !frozen => return Next::Done(self),
            Stage::Rings => {
                self.passes += 1;
                let left = std::mem::take(&mut self.left);
                match self.passes {
                    _ if left == 0 => return Next::Done(self),
                    PASSES => Stage::Loosen,
                    passes if passes > PASSES => return Next::Done(self),
                    _ => Stage::Extras,
                }
            }
        };
        Next::Batch(self)
    }
}

/// Two places, opened and fitted together.
pub(super) struct Pair {
    pub(super) from: Site,
    pub(super) to: Site,
    pub(super) fits: Vec<Fit>,
}

/// A tenant's rows of a table, counted and digested.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Digest {
    /// The table, without its schema's name where that differs.
    pub table: String,
    /// How many rows.
    pub rows: i64,
    /// What they hold.
    pub digest: String,
}

impl Pair {
    pub(super) async fn open(
        sources: &Sources,
        tenant: uuid::Uuid,
        from: (&Place, &Arc<Map>),
        to: (&Place, &Arc<Map>),
    ) -> Result<Self, ProductError> {
        let from = Site::at(sources, tenant, from.0, from.1).await?;
        let to = Site::at(sources, tenant, to.0, to.1).await?;
        let (old, new) = (read(&from).await?, read(&to).await?);
        let fits = shape::fit((&from.map().map, &old), (&to.map().map, &new));
        let fits = fits.map_err(ProductError::DoesNotFit)?;
        Ok(Self { from, to, fits })
    }

    /// The tables in the order of a stage.
    fn fit(&self, walk: &Walk) -> &Fit {
        let place = match walk.stage {
            Stage::Rows | Stage::Rings => walk.table,
            Stage::Extras | Stage::Loosen | Stage::Empty => self.fits.len() - 1 - walk.table,
        };
        &self.fits[place]
    }

    /// Does some batches, each once. A step that is asked for again finds those that were done in
    /// the ledger, and goes on behind them.
    pub(super) async fn stride(
        &self,
        job: uuid::Uuid,
        mut walk: Walk,
        size: u32,
        frozen: bool,
    ) -> Result<Next, ProductError> {
        for _ in 0..STRIDE {
            let done = self.batch(job, &walk, size).await?;
            match walk.next(&done, self.fits.len(), frozen) {
                Next::Batch(next) => walk = next,
                Next::Done(last) => return Ok(Next::Done(last)),
            }
        }
        Ok(Next::Batch(walk))
    }

    /// Does one batch, once.
    async fn batch(&self, job: uuid::Uuid, walk: &Walk, size: u32) -> Result<Batch, ProductError> {
        let key = batch_key(job, walk.batch);
        // Told by the ledger before anything is read.
        if let Some(done) = self.to.recorded::<Option<Batch>>(&key).await? {
            return done.ok_or_else(|| ProductError::Refused("the move was backed out".to_owned()));
        }
        let fit = self.fit(walk);
        let size = i64::from(size);
        let done = match walk.stage {
            Stage::Rings | Stage::Loosen if fit.ring.is_empty() => return Ok(Batch::nothing()),
            Stage::Rows | Stage::Rings => self.write(&key, fit, walk, size).await?,
            Stage::Extras => self.delete_extras(&key, fit, walk, size).await?,
            Stage::Loosen => self.empty(&key, fit, Emptying::Loosen, size).await?,
            Stage::Empty => self.empty(&key, fit, Emptying::Delete, size).await?,
        };
        done.ok_or_else(|| ProductError::Refused("the move was backed out".to_owned()))
    }

    async fn write(
        &self,
        key: &OnceKey,
        fit: &Fit,
        walk: &Walk,
        size: i64,
    ) -> Result<Option<Batch>, ProductError> {
        let mut tx = self.from.begin().await?;
        store::speak_alike(&mut tx).await?;
        let after = walk.after.as_deref();
        let read = store::read_rows(&mut tx, &self.from, &fit.from, &fit.key, after, size).await?;
        tx.rollback().await?;
        let (rows, keys): (Vec<String>, Vec<String>) = read.into_iter().unzip();
        let last = last_of(&keys, size);
        let rings = walk.stage == Stage::Rings;
        self.to
            .once(key, async |conn| {
                store::speak_alike(conn).await?;
                let (done, left) = self.write_what_fits(conn, fit, &rows, rings).await?;
                Ok(Some(Batch {
                    after: last.clone(),
                    rows: done,
                    left,
                }))
            })
            .await
    }

    /// All rows at once, or one by one if some do not fit; how many were written, and left.
    async fn write_what_fits(
        &self,
        conn: &mut PgConnection,
        fit: &Fit,
        rows: &[String],
        rings: bool,
    ) -> Result<(u64, u64), ProductError> {
        let mut written = 0;
        let mut left = 0;
        if rows.is_empty() {
            return Ok((0, 0));
        }
        match self.try_write(conn, fit, &rows.join(","), rings).await? {
            Some(done) => return Ok((done, 0)),
            None if rows.len() == 1 => return Ok((0, 1)),
            None => {}
        }
        for row in rows {
            match self.try_write(conn, fit, row, rings).await? {
                Some(done) => written += done,
                None => left += 1,
            }
        }
        Ok((written, left))
    }

    /// Writes rows, unless a constraint refuses one: then none, and `None`.
    async fn try_write(
        &self,
        conn: &mut PgConnection,
        fit: &Fit,
        rows: &str,
        rings: bool,
    ) -> Result<Option<u64>, ProductError> {
        let rows = format!("[{rows}]");
        let mut attempt = conn.begin().await?;
        let done = if rings {
            store::write_rings(&mut attempt, &self.to, fit, &rows).await
        } else {
            store::write_rows(&mut attempt, &self.to, fit, &rows).await
        };
        kept(attempt, done).await
    }

    async fn delete_extras(
        &self,
        key: &OnceKey,
        fit: &Fit,
        walk: &Walk,
        size: i64,
    ) -> Result<Option<Batch>, ProductError> {
        let mut tx = self.to.begin().await?;
        store::speak_alike(&mut tx).await?;
        let after = walk.after.as_deref();
        let read = store::read_rows(&mut tx, &self.to, &fit.to, &fit.key, after, size).await?;
        tx.rollback().await?;
        let keys: Vec<String> = read.into_iter().map(|(_, key)| key).collect();
        let last = last_of(&keys, size);
        let mut tx = self.from.begin().await?;
        store::speak_alike(&mut tx).await?;
        let asked = format!("[{}]", keys.join(","));
        let gone = store::missing(&mut tx, &self.from, &fit.from, &fit.key, &asked).await?;
        tx.rollback().await?;
        self.to
            .once(key, async |conn| {
                store::speak_alike(conn).await?;
                let (mut rows, mut left) = (0, 0);
                for one in &gone {
                    let mut attempt = conn.begin().await?;
                    let keys = format!("[{one}]");
                    let done = store::delete_keys(&mut attempt, &self.to, fit, &keys).await;
                    match kept(attempt, done).await? {
                        Some(done) => rows += done,
                        // Another row refers to it until that one is written, too.
                        None => left += 1,
                    }
                }
                Ok(Some(Batch {
                    after: last.clone(),
                    rows,
                    left,
                }))
            })
            .await
    }

    async fn empty(
        &self,
        key: &OnceKey,
        fit: &Fit,
        what: Emptying,
        size: i64,
    ) -> Result<Option<Batch>, ProductError> {
        self.to
            .once(key, async |conn| {
                Ok(Some(
                    empty_some(conn, &self.to, &fit.to, (&fit.key, &fit.ring), what, size).await?,
                ))
            })
            .await
    }

    /// What the tenant has at a place, by table.
    pub(super) async fn digests(&self, at: At) -> Result<Vec<Digest>, ProductError> {
        let site = match at {
            At::From => &self.from,
            At::To => &self.to,
        };
        let mut tx = site.begin().await?;
        store::speak_alike(&mut tx).await?;
        let mut found = Vec::new();
        for fit in &self.fits {
            let (name, hidden) = match at {
                At::From => (&fit.from, &fit.hidden_from),
                At::To => (&fit.to, &fit.hidden_to),
            };
            let (rows, digest) = store::digest(&mut tx, site, name, hidden).await?;
            found.push(Digest {
                table: fit.to.clone(),
                rows,
                digest,
            });
        }
        tx.rollback().await?;
        Ok(found)
    }

    /// The first table at the new place that holds a row of the tenant's.
    pub(super) async fn first_full(&self) -> Result<Option<&str>, ProductError> {
        let mut tx = self.to.begin().await?;
        for fit in &self.fits {
            if store::has_rows(&mut tx, &self.to, &fit.to).await? {
                return Ok(Some(&fit.to));
            }
        }
        Ok(None)
    }
}

/// Which of two places.
#[derive(Debug, Clone, Copy)]
pub(super) enum At {
    From,
    To,
}

impl Batch {
    fn nothing() -> Self {
        Self {
            after: None,
            rows: 0,
            left: 0,
        }
    }
}

/// The key of a batch in the ledger of the new place.
pub(super) fn batch_key(job: uuid::Uuid, batch: u64) -> OnceKey {
    OnceKey::new(job, format!("batch/{batch}"))
}

/// The catalog of a place.
pub(super) async fn read(site: &Site) -> Result<data_map::Snapshot, ProductError> {
    let mut conn = site.connect().await?;
    Ok(data_map::read(&mut conn, site.place().model, &site.schemas()).await?)
}

/// What is done to empty a place: first nothing closes a ring any more, in any table.
#[derive(Debug, Clone, Copy)]
pub(super) enum Emptying {
    Loosen,
    Delete,
}

/// Does so to so many rows of a table; while there are more, the batch has an `after`.
pub(super) async fn empty_some(
    conn: &mut PgConnection,
    site: &Site,
    name: &str,
    (key, ring): (&[String], &[String]),
    what: Emptying,
    size: i64,
) -> Result<Batch, ProductError> {
    let rows = match what {
        Emptying::Loosen if ring.is_empty() => 0,
        Emptying::Loosen => store::null_rings(conn, site, name, key, ring, size).await?,
        Emptying::Delete => store::delete_rows(conn, site, name, key, size).await?,
    };
    let full = i64::try_from(rows).is_ok_and(|rows| rows >= size);
    Ok(Batch {
        after: full.then(|| "{}".to_owned()),
        rows,
        left: 0,
    })
}

/// Whether more follows after a batch.
pub(super) fn goes_on(batch: &Batch) -> bool {
    batch.after.is_some()
}

fn last_of(keys: &[String], size: i64) -> Option<String> {
    let full = i64::try_from(keys.len()).is_ok_and(|count| count >= size);
    keys.last().filter(|_| full).cloned()
}

/// Keeps what was tried, or takes it back if a constraint refused it.
async fn kept(
    attempt: sqlx::Transaction<'_, sqlx::Postgres>,
    done: sqlx::Result<u64>,
) -> Result<Option<u64>, ProductError> {
    match done {
        Ok(done) => {
            attempt.commit().await?;
            Ok(Some(done))
        }
        Err(sqlx::Error::Database(error))
            if error.code().is_some_and(|code| code.starts_with("23")) =>
        {
            attempt.rollback().await?;
            Ok(None)
        }
        Err(error) => Err(error.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn batch(after: Option<&str>, left: u64) -> Batch {
        Batch {
            after: after.map(ToOwned::to_owned),
            rows: 1,
            left,
        }
    }

    /// Walks to the end with batches that leave `left` rows in each table; the stages on the way.
    fn stages(mut walk: Walk, left: impl Fn(u32) -> u64, frozen: bool) -> Vec<Stage> {
        let mut seen = vec![walk.stage];
        loop {
            let left = match walk.stage {
                Stage::Rows => left(walk.passes),
                _ => 0,
            };
            match walk.next(&batch(None, left), 2, frozen) {
                Next::Done(_) => return seen,
                Next::Batch(next) => {
                    if next.table == 0 {
                        seen.push(next.stage);
                    }
                    walk = next;
                }
            }
        }
    }

    #[test]
    fn a_tenant_that_works_is_copied_once_and_a_frozen_one_until_all_fits() {
        use Stage::{Empty, Extras, Loosen, Rings, Rows};
        assert_eq!(stages(Walk::first(), |_| 5, false), [Rows, Rings]);
        let frozen = || Walk::first().again();
        assert_eq!(stages(frozen(), |_| 0, true), [Extras, Rows, Rings]);
        let once = stages(frozen(), |passes| u64::from(passes < 1), true);
        assert_eq!(once, [Extras, Rows, Rings, Extras, Rows, Rings]);
        let never = stages(frozen(), |_| 1, true);
        let passes = [Extras, Rows, Rings].repeat(3);
        assert_eq!(never, [passes, vec![Loosen, Empty, Rows, Rings]].concat());
    }

    #[test]
    fn a_full_batch_goes_on_after_its_last_key_under_a_new_number() {
        let walk = Walk::first();
        let Next::Batch(next) = walk.next(&batch(Some("{\"id\": 7}"), 0), 2, false) else {
            panic!("there is more");
        };
        assert_eq!((next.table, next.batch, next.rows), (0, 2, 1));
        assert_eq!(next.after.as_deref(), Some("{\"id\": 7}"));
        let Next::Batch(next) = next.next(&batch(None, 0), 2, false) else {
            panic!("there is another table");
        };
        assert_eq!((next.table, next.batch, next.after), (1, 3, None));
    }
}

//! The sweep: a walk over all runs that drops those whose time is up.
//!
//! # Why by row and not by partition
//!
//! Finished runs stay in their table until they are deleted, a page at a time. The other way, to move
//! them at their end into a table partitioned by month and to drop its partitions, was tried on
//! 200,000 finished runs with a message each, beside 50,000 live ones, with both ways written as
//! SQL in the server (Postgres 15, in memory, two rounds on a machine that others worked on, too):
//!
//! | | dead rows in `engine.run` | WAL | time |
//! |---|---|---|---|
//! | delete in pages of 1,000 | 200,000 | 21 MB | 3.9 s, 1.5 s |
//! | move in pages of 1,000 | 200,000 | 200 MB | 3.6 s, 2.8 s |
//! | … then drop the partition and free the keys | | 11 MB | 0.1 s |
//! | vacuum, either way | | 7 MB | 0.4 s |
//!
//! The times say little, two rounds differ too much; dead rows and WAL were the same in both. A row
//! that is moved dies in the hot table all the same, its contents go through the WAL once more, its
//! key has to be kept in a table of its own (another dead row each), and every start and every look
//! at a run would have to ask two tables. What the deletes leave is used again: after each of four
//! rounds of *drop, vacuum, fill with 200,000* the table had 174 MB, as at first; its indexes went
//! from 34 to 60 MB in the first and stayed there. The logs, which nobody reads by key, do go by
//! partition.
//!
//! # The walk
//!
//! One worker at a time has the turn (`engine.sweep`). It walks the runs in the order of their
//! primary key, a page a transaction, and so needs no index that a visit would have to keep: an
//! index on the end of runs would cost every update of a run its place on its page (HOT). Under
//! way it notes the months in which the journal of an open visit or a held run has lines; at the
//! end of the pass it drops the other partitions of the logs that are old enough, and old rows of
//! the audit. A note stays true until then: what is not open now is never opened again, nothing is
//! written into an old month, and who places a hold lets the pass begin anew.
//!
//! A run that somebody keeps a late signal with at this moment (`engine.keep_run`) is passed over; who
//! comes while it is dropped hears that there is no such run. So no message is left with nobody.
//!
//! Each transaction that drops something locks the turn's row first, and so does each that decides
//! what must stay. Parents and watchers of a run that goes have been told of its end, with its
//! output, in a message of their own: they need nothing of it any more.
//!
//! # The archive
//!
//! A batch is written down before its file, the file is on the disk before anything is dropped, and
//! the batch is forgotten in the transaction that drops its runs. Whoever has the turn after a crash
//! finds the batch and writes the same file again.

use std::path::Path;
use std::time::Duration;

use sqlx::{PgConnection, PgPool};
use uuid::Uuid;

use super::archive::Writing;
use super::{Policies, RetentionConfig};
use crate::clock;
use crate::id::{self, ShardId};
use crate::registry::Registry;
use crate::store;
use crate::store::sweep::{Batch, Stand, Written};

/// The most pages of one turn; the rest is the next one's.
const PAGES_PER_TURN: usize = 60;
/// The most runs in one file of the archive.
const MAX_BATCH: usize = 500;
/// Where a pass stands that has looked at all runs: behind the last id that there can be.
const END: Uuid = Uuid::max();
/// How long a turn rests between two pages, so that it never takes the database for itself.
const BREATH: Duration = Duration::from_millis(20);
/// The most partitions of one turn.
const PARTITIONS_PER_TURN: usize = 24;

/// What a turn came to.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Swept {
    /// Whether all runs have been looked at; otherwise the next turn goes on.
    pub whole: bool,
    /// Runs that were dropped, those that were archived included.
    pub dropped: i64,
    /// Runs that were written to the archive.
    pub archived: u64,
    /// Partitions of the logs that were dropped.
    pub partitions: usize,
    /// Rows of the audit that were dropped.
    pub audit: u64,
    /// Operations on many runs that were dropped.
    pub operations: u64,
}

/// Drops those of the runs that nobody else has in hand; how many. The others are looked at again by
/// the next pass.
async fn drop_runs(
    conn: &mut PgConnection,
    mut runs: Vec<Written>,
    policies: &Policies,
) -> sqlx::Result<i64> {
    let keys: Vec<_> = runs.iter().map(|run| run.key).collect();
    let locked = store::sweep::lock_runs(conn, &keys).await?;
    runs.retain(|run| locked.contains(&run.key.run_id));
    store::sweep::drop_runs(conn, &runs, policies).await
}

/// Why a turn ended early.
#[derive(Debug, thiserror::Error)]
enum SweepError {
    #[error("the database failed")]
    Database(#[from] sqlx::Error),
    #[error("the archive cannot be written")]
    Archive(#[from] std::io::Error),
    #[error("another took the turn")]
    Overtaken,
}

/// Sweeps whenever it is this process's turn, for ever.
pub(crate) async fn keep_sweeping(pool: PgPool, registry: Registry, config: RetentionConfig) {
    loop {
        clock::sleep(config.look_every.mul_f64(0.75 + 0.5 * clock::chance())).await;
        sweep(&pool, &registry, &config).await;
    }
}

/// Takes a turn, if there is one to take: a bounded part of a pass. Trouble is logged, and the next
/// turn goes on where this one stopped.
pub async fn sweep(pool: &PgPool, registry: &Registry, config: &RetentionConfig) -> Swept {
    let turn = Turn {
        pool,
        registry,
        config,
        holder: id::random_uuid(),
    };
    let mut swept = Swept::default();
    match turn.take(&mut swept).await {
        Ok(()) | Err(SweepError::Overtaken) => {}
        Err(error) => tracing::warn!(error = ?error, "retention stopped early; it goes on later"),
    }
    let nothing = Swept {
        whole: swept.whole,
        ..Swept::default()
    };
    if swept != nothing {
        tracing::info!(
            runs = swept.dropped,
            archived = swept.archived,
            partitions = swept.partitions,
            audit = swept.audit,
            operations = swept.operations,
            "retention dropped what is past its time"
        );
    }
    swept
}

/// One process's turn.
struct Turn<'a> {
    pool: &'a PgPool,
    registry: &'a Registry,
    config: &'a RetentionConfig,
    holder: Uuid,
}

impl Turn<'_> {
    async fn take(&self, swept: &mut Swept) -> Result<(), SweepError> {
        let mut conn = self.pool.acquire().await?;
        if !store::sweep::take_turn(&mut conn, self.holder).await? {
            return Ok(());
        }
        drop(conn);
        let walked = self.walk(swept).await;
        let rest = (walked.is_ok() && swept.whole).then_some(self.config.pass_every);
        let mut conn = self.pool.acquire().await?;
        store::sweep::give_back(&mut conn, self.holder, rest).await?;
        walked
    }

    async fn walk(&self, swept: &mut Swept) -> Result<(), SweepError> {
        for _ in 0..PAGES_PER_TURN {
            self.settle_batch(swept).await?;
            if self.turn_page(swept).await? {
                self.settle_batch(swept).await?;
                self.drop_audit(swept).await?;
                self.drop_operations(swept).await?;
                // Last, because it gives up where somebody reads the logs for long.
                swept.whole = self.drop_logs(swept).await?;
                return Ok(());
            }
            clock::sleep(BREATH).await;
        }
        Ok(())
    }

    /// What holds now, read under the lock of the turn's row.
    async fn policies(&self, conn: &mut PgConnection) -> sqlx::Result<Policies> {
        let decided = store::retention::list_overrides(conn).await?;
        let has_archive = self.config.archive_folder.is_some();
        Ok(Policies::of(self.registry, decided, has_archive))
    }

    async fn lock(&self, conn: &mut PgConnection) -> Result<Stand, SweepError> {
        let stand = store::sweep::lock(conn, self.holder).await?;
        stand.ok_or(SweepError::Overtaken)
    }

    /// Looks at one page of runs, drops those that are only to be dropped, and writes down those
    /// that are to be archived; true when it was the last page.
    async fn turn_page(&self, swept: &mut Swept) -> Result<bool, SweepError> {
        let mut tx = crate::pool::begin(self.pool).await?;
        let mut stand = self.lock(&mut tx).await?;
        let policies = self.policies(&mut tx).await?;
        let page = i64::from(self.config.page);
        let before = store::sweep::find_logs_before(&mut tx, self.config.log_months).await?;
        let sight = store::sweep::look(&mut tx, stand.after_run, page, &policies, before).await?;
        let (archived, plain): (Vec<_>, Vec<_>) = sight
            .expired
            .into_iter()
            .partition(|(_, archived)| *archived);
        let plain: Vec<_> = plain
            .into_iter()
            .map(|(key, _)| Written::unwritten(key))
            .collect();
        let mut dropped = 0;
        if !plain.is_empty() {
            dropped = drop_runs(&mut tx, plain, &policies).await?;
        }
        let fit = archived.len().min(MAX_BATCH);
        // A page with more than one file of them is looked at again behind the first file's.
        let last = match archived.get(fit) {
            Some(_) => archived.get(fit - 1).map(|(key, _)| key.run_id.0),
            None => sight.last,
        };
        let is_last = fit == archived.len() && sight.looked < page;
        if fit > 0 && stand.batch.is_none() {
            let (runs, shards) = archived[..fit]
                .iter()
                .map(|(key, _)| (key.run_id.0, key.shard_id.0))
                .unzip();
            stand.batch = Some(Batch {
                batch_id: id::new_uuid(ShardId(0)),
                runs,
                shards,
            });
        }
        stand.after_run = if is_last {
            END
        } else {
            last.unwrap_or(stand.after_run)
        };
        stand.months.extend(sight.months);
        stand.months.sort_unstable();
        stand.months.dedup();
        store::sweep::save(&mut tx, &stand).await?;
        tx.commit().await?;
        swept.dropped += dropped;
        Ok(is_last)
    }

    /// Writes the batch that is written down, if there is one, and drops its runs.
    async fn settle_batch(&self, swept: &mut Swept) -> Result<(), SweepError> {
        let Some(folder) = &self.config.archive_folder else {
            return Ok(());
        };
        let mut tx = crate::pool::begin(self.pool).await?;
        let batch = self.lock(&mut tx).await?.batch;
        tx.commit().await?;
        let Some(batch) = batch else { return Ok(()) };
        let mut conn = self.pool.acquire().await?;
        let written = write(&mut conn, folder, &batch).await?;
        drop(conn);
        let mut tx = crate::pool::begin(self.pool).await?;
        let mut stand = self.lock(&mut tx).await?;
        let policies = self.policies(&mut tx).await?;
        let archived = written.len() as u64;
        let dropped = drop_runs(&mut tx, written, &policies).await?;
        stand.batch = None;
        store::sweep::save(&mut tx, &stand).await?;
        tx.commit().await?;
        swept.dropped += dropped;
        swept.archived += archived;
        Ok(())
    }

    /// Drops partitions that are old enough and of no month that was met; true when none is left.
    async fn drop_logs(&self, swept: &mut Swept) -> Result<bool, SweepError> {
        let months = self.config.log_months;
        for _ in 0..PARTITIONS_PER_TURN {
            let mut tx = crate::pool::begin(self.pool).await?;
            let stand = self.lock(&mut tx).await?;
            if stand.after_run != END {
                // Somebody decided something meanwhile: what was noted is no longer all.
                return Ok(false);
            }
            let before = store::sweep::find_logs_before(&mut tx, months).await?;
            let dropped = store::sweep::drop_partition(&mut tx, before, &stand.months).await?;
            let Some(name) = dropped else { return Ok(true) };
            tx.commit().await?;
            tracing::info!(partition = name, "dropped a month of the logs");
            swept.partitions += 1;
        }
        Ok(false)
    }

    async fn drop_audit(&self, swept: &mut Swept) -> Result<(), SweepError> {
        for _ in 0..PAGES_PER_TURN {
            let mut tx = crate::pool::begin(self.pool).await?;
            self.lock(&mut tx).await?;
            let (days, page) = (self.config.audit_days, i64::from(self.config.page));
            let dropped = store::sweep::drop_audit(&mut tx, days, page).await?;
            tx.commit().await?;
            swept.audit += dropped;
            if dropped < page.unsigned_abs() {
                break;
            }
        }
        Ok(())
    }

    /// Drops what came of each run first, and the operation when nothing of it is left.
    async fn drop_operations(&self, swept: &mut Swept) -> Result<(), SweepError> {
        let (days, page) = (self.config.operation_days, i64::from(self.config.page));
        for _ in 0..PAGES_PER_TURN {
            let mut tx = crate::pool::begin(self.pool).await?;
            self.lock(&mut tx).await?;
            store::sweep::abort_forgotten(&mut tx, days).await?;
            let lines = store::sweep::drop_operation_lines(&mut tx, days, page).await?;
            let done = lines < page.unsigned_abs();
            if done {
                swept.operations += store::sweep::drop_operations(&mut tx, days).await?;
            }
            tx.commit().await?;
            if done {
                break;
            }
        }
        Ok(())
    }
}

/// Writes a batch's file; which runs are in it. One that is gone by now is left out.
async fn write(
    conn: &mut PgConnection,
    folder: &Path,
    batch: &Batch,
) -> Result<Vec<Written>, SweepError> {
    let mut writing = Writing::begin(folder, batch.batch_id)?;
    let mut written = Vec::with_capacity(batch.runs.len());
    for (run, shard) in batch.runs.iter().zip(&batch.shards) {
        let Some(line) = store::sweep::find_line(conn, *run, *shard).await? else {
            continue;
        };
        writing.add(&line.workflow, line.ended_at, &line.json)?;
        written.push(Written {
            key: store::sweep::key_of(line.run_id, line.shard_id),
            messages: Some(line.messages),
        });
    }
    let manifest = tokio::task::spawn_blocking(move || writing.finish())
        .await
        .map_err(std::io::Error::other)??;
    tracing::info!(file = manifest.file, runs = manifest.runs, "archived runs");
    Ok(written)
}

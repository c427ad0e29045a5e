//! Gathering starts: many starts of one key become one run.
//!
//! *Debounce*: the run starts once nothing more has come for a while, with the last input. *Batch*: it
//! starts with all inputs as a list, once there are enough or enough time has passed. Both are bounded
//! in time, so that a stream without end still starts runs.
//!
//! The run that gathers is an ordinary run whose start lies ahead, so it is seen, paused, fired and
//! cancelled like one. `engine.gathering` says which run the next start of a key goes into; a start
//! locks that row, then the run, and changes the run only while it waits and no worker has had it.
//! Otherwise the row is pointed to a new run: a start never goes into a run that has begun, and none
//! is lost. The inputs of a batch lie in `engine.fan_item` and become the run's input when a worker
//! loads it.
//!
//! Each call counts, also with the same input: who may call twice for one cause passes an
//! `Idempotency-Key` to the API, or calls in the transaction that records the cause.

use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use serde_json::{Value, json};
use sqlx::{Connection as _, PgConnection};

use crate::error::EngineError;
use crate::id::TenantId;
use crate::payload;
use crate::registry::Registry;
use crate::start::{self, FROM_INPUT, MAX_KEY_BYTES, Origin, Started};
use crate::store;
use crate::store::gathering::Open;
use crate::store::run::{NewRun, Place};

/// The name of the state of a batch that has not begun.
pub(crate) const GATHERING: &str = "gathering";

/// The most inputs of one batch.
pub const MAX_BATCH: u32 = 1_000;
/// The longest that starts are gathered.
pub const MAX_GATHERING: Duration = Duration::from_hours(30 * 24);
/// What a run's key has behind the key that it was gathered by: a slash and its id.
const SUFFIX: usize = 37;

/// How many starts become one. Times are the tenant's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Gather {
    /// It starts with the last input.
    Debounce {
        /// Once no other start has come for so long.
        quiet: Duration,
        /// At the latest so long after the first.
        at_most: Duration,
    },
    /// It starts with all inputs, as a list in the order in which they came.
    Batch {
        /// Once there are so many, 2 to [`MAX_BATCH`]; or as many as one payload holds.
        size: u32,
        /// At the latest so long after the first.
        at_most: Duration,
    },
}

impl Gather {
    fn check(self) -> Result<(), EngineError> {
        let (at_most, shortest) = match self {
            Self::Debounce { quiet, at_most } => (at_most, quiet),
            Self::Batch { at_most, .. } => (at_most, Duration::ZERO),
        };
        if let Self::Batch { size, .. } = self
            && !(2..=MAX_BATCH).contains(&size)
        {
            return Err(bad(format!(
                "a batch has 2 to {MAX_BATCH} inputs; not {size}"
            )));
        }
        if matches!(self, Self::Debounce { quiet, .. } if quiet.is_zero()) {
            return Err(bad("a debounce is quiet for longer than nothing".to_owned()));
        }
        if at_most.is_zero() || at_most < shortest || at_most > MAX_GATHERING {
            return Err(bad(
                "starts are gathered for more than nothing, not shorter than the quiet time, and at \
                 most 30 days"
                    .to_owned(),
            ));
        }
        Ok(())
    }

    fn at_most(self) -> TimeDelta {
        let (Self::Debounce { at_most, .. } | Self::Batch { at_most, .. }) = self;
        TimeDelta::from_std(at_most).unwrap_or(TimeDelta::MAX)
    }

    /// When a run starts that has taken `inputs` inputs by now.
    fn starts_at(self, inputs: i32, now: DateTime<Utc>, until: DateTime<Utc>) -> DateTime<Utc> {
        match self {
            Self::Debounce { quiet, .. } => {
                let quiet = TimeDelta::from_std(quiet).unwrap_or(TimeDelta::MAX);
                until.min(now + quiet)
            }
            Self::Batch { .. } if self.is_full(inputs) => now,
            Self::Batch { .. } => until,
        }
    }

    fn is_full(self, inputs: i32) -> bool {
        matches!(self, Self::Batch { size, .. } if inputs.unsigned_abs() >= size)
    }
}

/// What is gathered, for whom and how.
pub(crate) struct Call<'a> {
    pub(crate) tenant: TenantId,
    pub(crate) place: &'a Place,
    pub(crate) workflow: &'a str,
    /// What it is gathered by.
    pub(crate) key: &'a str,
    pub(crate) gather: Gather,
}

/// Puts a start into the run that gathers for its key, or opens one.
pub(crate) async fn start(
    conn: &mut PgConnection,
    registry: &Registry,
    call: &Call<'_>,
    input: &Value,
) -> Result<Started, EngineError> {
    call.gather.check()?;
    if !conn.is_in_transaction() {
        return Err(bad("starts are gathered in a transaction".to_owned()));
    }
    let limit = registry.payload_limit();
    let mut new = prepare(registry, call, input)?;
    let bytes = payload::to_bytes("input", input, limit)?;
    let now = store::run::find_tenant_now(conn, call.place.clock_id).await?;
    let until = now + call.gather.at_most();
    let open = store::gathering::hold(conn, call, &new, until).await?;
    let run_id = new.run_id;
    if open.run_id != run_id && join(conn, call, &new, &bytes, &open, now, limit).await? {
        return Ok(Started {
            run_id: open.run_id,
            created: false,
        });
    }
    new.starts_at = Some(call.gather.starts_at(1, now, until));
    store::gathering::open(conn, call, &new, until, bytes.len()).await?;
    store::run::insert(conn, call.tenant, call.place, Origin::default(), &[new]).await?;
    if call.is_batch() {
        store::gathering::append(conn, call, run_id, 0, &bytes).await?;
    }
    Ok(Started {
        run_id,
        created: true,
    })
}

/// Puts a start into the run that is open; false when that has begun or is full.
async fn join(
    conn: &mut PgConnection,
    call: &Call<'_>,
    new: &NewRun,
    bytes: &[u8],
    open: &Open,
    now: DateTime<Utc>,
    limit: usize,
) -> Result<bool, EngineError> {
    let inputs = open.inputs + 1;
    let total = open.bytes + i64::try_from(bytes.len()).unwrap_or(i64::MAX);
    // A comma each, and the brackets.
    let whole = usize::try_from(total + i64::from(inputs) + 1).unwrap_or(usize::MAX);
    let fits = !call.is_batch() || whole <= limit;
    let at = if fits {
        call.gather.starts_at(inputs, now, open.until)
    } else {
        now
    };
    let content = (!call.is_batch()).then_some(new);
    let changed = store::gathering::change(conn, call, open.run_id, content, at, at <= now).await?;
    if !changed || !fits {
        return Ok(false);
    }
    if call.is_batch() {
        store::gathering::append(conn, call, open.run_id, open.inputs, bytes).await?;
    }
    let closed = call.gather.is_full(inputs);
    store::gathering::count(conn, call, total, closed).await?;
    Ok(true)
}

impl Call<'_> {
    fn is_batch(&self) -> bool {
        matches!(self.gather, Gather::Batch { .. })
    }
}

/// Checks a start and makes the row of the run that it would open.
fn prepare(registry: &Registry, call: &Call<'_>, input: &Value) -> Result<NewRun, EngineError> {
    let (workflow, key) = (call.workflow, call.key);
    start::check_key(workflow, key)?;
    if key.len() > MAX_KEY_BYTES - SUFFIX {
        return Err(EngineError::Malformed {
            what: "key",
            workflow: workflow.to_owned(),
            detail: format!(
                "a key to gather by has at most {} bytes",
                MAX_KEY_BYTES - SUFFIX
            ),
        });
    }
    let whole = if call.is_batch() {
        json!([input])
    } else {
        input.clone()
    };
    let mut new = start::prepare(registry, call.place, workflow, key, &whole)?;
    new.key = format!("{key}/{}", new.run_id);
    if call.is_batch() {
        // A build that knows nothing of batches cannot begin it: this is nobody's input.
        new.version = FROM_INPUT;
        GATHERING.clone_into(&mut new.state);
        new.data = b"null".to_vec();
        new.attributes = None;
    }
    Ok(new)
}

/// The inputs of a batch as one.
pub(crate) fn join_inputs<'a>(inputs: impl Iterator<Item = &'a [u8]>) -> Vec<u8> {
    let inputs: Vec<&[u8]> = inputs.collect();
    [b"[".as_slice(), &inputs.join(b",".as_slice()), b"]"].concat()
}

fn bad(detail: String) -> EngineError {
    EngineError::Malformed {
        what: "gather",
        workflow: String::new(),
        detail,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn at(second: i64) -> DateTime<Utc> {
        DateTime::from_timestamp(second, 0).unwrap()
    }

    #[test]
    fn a_debounce_is_put_off_by_each_start_but_not_for_ever() {
        let gather = Gather::Debounce {
            quiet: 10 * SECOND,
            at_most: 60 * SECOND,
        };
        assert_eq!(gather.starts_at(1, at(0), at(60)), at(10));
        assert_eq!(gather.starts_at(9, at(45), at(60)), at(55));
        assert_eq!(gather.starts_at(10, at(55), at(60)), at(60));
    }

    #[test]
    fn a_batch_starts_when_it_is_full_or_its_time_has_come() {
        let gather = Gather::Batch {
            size: 3,
            at_most: 60 * SECOND,
        };
        assert_eq!(gather.starts_at(2, at(5), at(60)), at(60));
        assert_eq!(gather.starts_at(3, at(6), at(60)), at(6));
        assert_eq!(join_inputs([b"1".as_slice(), b"{}"].into_iter()), b"[1,{}]");
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        let second = SECOND;
        for gather in [
            Gather::Batch {
                size: 1,
                at_most: second,
            },
            Gather::Batch {
                size: MAX_BATCH + 1,
                at_most: second,
            },
            Gather::Batch {
                size: 2,
                at_most: Duration::ZERO,
            },
            Gather::Debounce {
                quiet: Duration::ZERO,
                at_most: second,
            },
            Gather::Debounce {
                quiet: 2 * second,
                at_most: second,
            },
            Gather::Debounce {
                quiet: second,
                at_most: MAX_GATHERING + second,
            },
        ] {
            assert!(gather.check().is_err(), "{gather:?}");
        }
    }
}

//! Progress of a step that works long: kept, shown, and missed when it stops.
//!
//! A report goes no further than this process until it is kept: at most about once a second for each
//! attempt, in the group commit, fenced by the lease as every write is. What was reported last is
//! there for the next attempt, whichever worker makes it. Kept beside the journal and not in it: it is
//! no answer, and a newer report replaces the older one.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde::Serialize;
use serde::de::DeserializeOwned;
use sqlx::PgPool;
use tokio::sync::Notify;

use crate::clock;
use crate::committer::Committer;
use crate::context::Step;
use crate::error::StepError;
use crate::seal::TenantKeys;
use crate::store;
use crate::store::progress::{Place, Report};

/// How often a report of one attempt is kept.
const KEEP_EVERY: Duration = Duration::from_secs(1);
/// The most bytes of one report: a position, not the work itself.
const MAX_REPORT: usize = 16 * 1024;

/// Where an attempt's reports go.
pub(crate) struct Reports {
    place: Place,
    repeated: bool,
    pool: PgPool,
    committer: Committer,
    keys: TenantKeys,
    /// The last one that is not kept yet.
    latest: Mutex<Option<Vec<u8>>>,
    heard: Notify,
}

/// Why an attempt is cut off.
#[derive(Debug)]
pub(crate) enum CutOff {
    /// It stopped reporting.
    Silent(StepError),
    /// The run is somebody else's by now.
    Fenced,
}

impl Step {
    /// Reports how far the step has come. Cheap: call it as often as you like; about one report a
    /// second is kept, and shown with the run. A text is shown as it is, `{"done": …, "of": …}` as a
    /// part of the whole.
    ///
    /// # Errors
    /// Terminal, when the report has more than 16 KiB.
    pub fn progress(&self, value: &impl Serialize) -> Result<(), StepError> {
        let bytes = serde_json::to_vec(value)
            .map_err(|error| StepError::terminal("malformed_progress", error))?;
        if bytes.len() > MAX_REPORT {
            let text = format!("{} bytes; the limit is {MAX_REPORT}", bytes.len());
            return Err(StepError::terminal("payload_too_large", text));
        }
        *self.reports.latest() = Some(bytes);
        self.reports.heard.notify_one();
        Ok(())
    }

    /// What an earlier attempt of this step reported last, also before a crash: go on from there.
    /// `None` when there was none, or what it reported does not fit `T`.
    ///
    /// # Errors
    /// Retryable, when the database does not answer.
    pub async fn last_progress<T: DeserializeOwned>(&self) -> Result<Option<T>, StepError> {
        if !self.reports.repeated {
            return Ok(None);
        }
        let mut conn = self.reports.pool.acquire().await?;
        let kept = store::progress::find(&mut conn, &self.reports.place).await?;
        let kept = kept.as_deref().map(|bytes| self.reports.keys.open(bytes));
        let kept = kept.transpose()?;
        Ok(kept.and_then(|bytes| serde_json::from_slice(&bytes).ok()))
    }
}

impl Reports {
    pub(crate) fn new(
        place: Place,
        repeated: bool,
        pool: &PgPool,
        committer: &Committer,
        keys: &TenantKeys,
    ) -> Arc<Self> {
        Arc::new(Self {
            place,
            repeated,
            pool: pool.clone(),
            committer: committer.clone(),
            keys: keys.clone(),
            latest: Mutex::default(),
            heard: Notify::new(),
        })
    }

    /// Keeps what is reported, until the attempt is to be cut off.
    pub(crate) async fn keep(&self, within: Option<Duration>) -> CutOff {
        let mut heard = clock::monotonic();
        let mut kept = None;
        loop {
            let waits = self.latest().is_some();
            let next = waits.then(|| kept.map_or(Duration::ZERO, |at| left(KEEP_EVERY, at)));
            let silence = within.map(|within| left(within, heard));
            tokio::select! {
                biased;
                () = pause(next) => {
                    kept = Some(clock::monotonic());
                    if !self.flush().await {
                        return CutOff::Fenced;
                    }
                }
                () = self.heard.notified() => heard = clock::monotonic(),
                () = pause(silence) => {
                    let within = within.unwrap_or_default();
                    let text = format!("no progress was reported within {within:?}");
                    return CutOff::Silent(StepError::retryable("no_progress", text));
                }
            }
        }
    }

    /// Keeps the last report, if there is one; false when fenced. One that the database does not take
    /// is let go: the next one says more.
    pub(crate) async fn flush(&self) -> bool {
        let Some(value) = self.latest().take() else {
            return true;
        };
        let report = Report {
            place: self.place.clone(),
            value: self.keys.seal(value).into_owned(),
        };
        match self.committer.report(report).await {
            Ok(durable) => durable,
            Err(error) => {
                tracing::warn!(error = %error, "a report of progress was not kept");
                true
            }
        }
    }

    fn latest(&self) -> MutexGuard<'_, Option<Vec<u8>>> {
        self.latest.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl std::fmt::Debug for Reports {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Reports").field(&self.place).finish()
    }
}

fn left(of: Duration, since: std::time::Instant) -> Duration {
    of.saturating_sub(clock::monotonic() - since)
}

/// Waits for a while, or for ever.
async fn pause(for_long: Option<Duration>) {
    match for_long {
        Some(duration) => clock::sleep(duration).await,
        None => std::future::pending().await,
    }
}

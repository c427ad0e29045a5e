//! What a build would strand: asked before a roll-out ([`plan`]) and by a worker that starts
//! ([`sample`]). Reads only.
//!
//! [`plan`] looks at every live run, open journal and waiting signal, in pages, in the order of
//! their keys. [`sample`] must not keep a node from starting, so it asks an index which versions of
//! which workflows there are, and looks at a few runs of each. What is decided about one run is in
//! `rules.rs`.

mod rules;
mod tally;

use std::collections::HashMap;
use std::pin::pin;
use std::time::Duration;

use futures_util::TryStreamExt as _;
use sqlx::{PgConnection, PgPool};
use uuid::Uuid;

use crate::clock;
use crate::error::EngineError;
use crate::id::TenantId;
use crate::id::{RunId, ShardId};
use crate::registry::{Handler, Registry};
use crate::run::RunKey;
use crate::seal::{self, MasterKeyError, Unreadable};
use crate::store;
use crate::store::deploy::{StoredMessage, StoredRun};
use rules::{Judged, judge_journal, judge_signal, judge_state, judge_version};
use tally::{Place, Tally};

pub use rules::Verdict;
pub use tally::{Group, Plan};

/// How many runs or messages one statement looks at.
const PAGE: i64 = 1_000;
/// How many runs of a workflow and version a start looks at, at each end.
const SAMPLE: i64 = 250;
/// The same, when the build has no handler for them and only has to find one that is live.
const SAMPLE_UNHANDLED: i64 = 5_000;
/// A start looks for no longer than this, and a statement.
const START_BUDGET: Duration = Duration::from_millis(500);

/// Before every run.
const FIRST: RunKey = RunKey {
    run_id: RunId(Uuid::nil()),
    shard_id: ShardId(i16::MIN),
};

/// Tells what this build could do with every live run, open journal and waiting signal.
///
/// Takes memory for the groups, and with `run_ids` 16 bytes for each run that is not fine.
///
/// # Errors
/// When the database fails.
pub async fn plan(pool: &PgPool, registry: &Registry, run_ids: bool) -> Result<Plan, EngineError> {
    let mut tally = Tally::new(run_ids);
    let mut conn = pool.acquire().await?;
    let mut after = FIRST;
    while let Some(last) = look_at_runs(&mut conn, registry, after, &mut tally).await? {
        after = last;
    }
    let mut after = (FIRST, String::new());
    while let Some(last) = look_at_messages(&mut conn, registry, &after, &mut tally).await? {
        after = last;
    }
    Ok(tally.close())
}

/// Tells whether this build would strand runs, from a few of each workflow and version: the newest
/// and the oldest 250, or 5,000 where the build has no handler. Journals and signals are left out.
///
/// # Errors
/// When the database fails.
pub async fn sample(pool: &PgPool, registry: &Registry) -> Result<Plan, EngineError> {
    let mut tally = Tally::new(false);
    let mut conn = pool.acquire().await?;
    let begun = clock::monotonic();
    let mut pairs: Vec<_> = store::deploy::list_versions(&mut conn)
        .await?
        .into_iter()
        .map(|(workflow, version)| {
            let handler = registry.find(&workflow);
            let (verdict, _) = judge_version(handler.as_deref(), version);
            (verdict == Verdict::Fine, workflow, version)
        })
        .collect();
    // What has no handler comes first: it matters most if time runs out.
    pairs.sort();
    for (handled, workflow, version) in &pairs {
        if begun.elapsed() > START_BUDGET {
            tracing::warn!(
                "not every version of the runs was looked at: that takes longer than a start may"
            );
            break;
        }
        let limit = if *handled { SAMPLE } else { SAMPLE_UNHANDLED };
        let mut runs = pin!(store::deploy::sample(&mut conn, workflow, *version, limit));
        while let Some(mut run) = runs.try_next().await? {
            open(registry, run.tenant_id, run.data.as_mut()).await?;
            judge(registry, &run, &mut tally);
        }
    }
    Ok(tally.close())
}

/// Says what this build could do with a state that `version` of the workflow wrote, and why not.
#[must_use]
pub fn state(
    registry: &Registry,
    workflow: &str,
    version: i32,
    state: &str,
    data: &[u8],
) -> (Verdict, Option<String>) {
    judge_state(registry.find(workflow).as_deref(), version, state, data)
}

/// Says whether this build could read a signal that waits for a run of the workflow, and why not.
#[must_use]
pub fn signal(
    registry: &Registry,
    workflow: &str,
    name: &str,
    payload: &[u8],
) -> (Verdict, Option<String>) {
    match registry.find(workflow) {
        Some(handler) => judge_signal(&*handler, name, payload),
        None => judge_version(None, 0),
    }
}

/// Looks at one page of runs and their journals; where it ended, unless it was the last.
async fn look_at_runs(
    conn: &mut PgConnection,
    registry: &Registry,
    after: RunKey,
    tally: &mut Tally,
) -> Result<Option<RunKey>, EngineError> {
    let mut last = None;
    let mut begun = HashMap::new();
    {
        let mut runs = pin!(store::deploy::page(conn, after, PAGE));
        while let Some(mut run) = runs.try_next().await? {
            open(registry, run.tenant_id, run.data.as_mut()).await?;
            last = Some(run.key);
            let verdict = judge(registry, &run, tally);
            if verdict == Some(Verdict::Fine) && run.begun {
                begun.insert(run.key.run_id, run);
            }
        }
    }
    if begun.is_empty() {
        return Ok(last);
    }
    let visits: Vec<_> = begun.values().map(|run| (run.key, run.visit)).collect();
    let mut journals = store::deploy::list_journals(conn, &visits).await?;
    // A run whose visit two other versions worked at is counted once.
    journals.sort();
    for (run_id, version) in journals {
        let found = begun
            .get(&run_id)
            .and_then(|run| Some((run, registry.find(&run.workflow)?)));
        if let Some((run, handler)) = found {
            let judged = judge_journal(&*handler, version);
            tally.add_beside(place(run), run_id, judged);
        }
    }
    Ok(last)
}

/// Opens a payload, to judge it. What its tenant's keys do not open is unreadable to any build; but
/// without a master key nothing can be said.
async fn open(
    registry: &Registry,
    tenant: TenantId,
    payload: Option<&mut Vec<u8>>,
) -> Result<(), EngineError> {
    let Some(payload) = payload.filter(|payload| seal::is_sealed(payload)) else {
        return Ok(());
    };
    let keys = registry.keyring().required_reader(tenant).await?;
    match keys.open(payload) {
        Ok(opened) => *payload = opened.into_owned(),
        Err(Unreadable::Away(why)) => return Err(MasterKeyError::Unavailable(why).into()),
        Err(_) => {}
    }
    Ok(())
}

/// Judges a run that has not ended.
fn judge(registry: &Registry, run: &StoredRun, tally: &mut Tally) -> Option<Verdict> {
    let data = run.data.as_deref()?;
    let handler = registry.find(&run.workflow);
    let judged = judge_state(handler.as_deref(), run.version, &run.state, data);
    let judged = unless_stuck_already(run, judged);
    let verdict = judged.0;
    tally.add(place(run), run.key.run_id, judged);
    Some(verdict)
}

/// A run that could not be read before is not stranded by this deploy.
fn unless_stuck_already(run: &StoredRun, judged: Judged) -> Judged {
    match (run.stuck.as_deref(), judged) {
        (
            Some("undecodable"),
            (Verdict::NotLifted | Verdict::UnknownState | Verdict::Unreadable, reason),
        ) => (Verdict::StuckAlready, reason),
        (_, judged) => judged,
    }
}

fn place(run: &StoredRun) -> Place {
    Place {
        workflow: run.workflow.clone(),
        version: run.version,
        state: run.state.clone(),
    }
}

/// Looks at one page of waiting messages; where it ended, unless it was the last.
async fn look_at_messages(
    conn: &mut PgConnection,
    registry: &Registry,
    after: &(RunKey, String),
    tally: &mut Tally,
) -> Result<Option<(RunKey, String)>, EngineError> {
    let mut last = None;
    let (run, signal) = after;
    let mut messages = pin!(store::deploy::messages(conn, *run, signal, PAGE));
    while let Some(mut message) = messages.try_next().await? {
        open(registry, message.tenant_id, message.payload.as_mut()).await?;
        if let Some(handler) = registry.find(&message.workflow) {
            judge_message(&*handler, &message, tally);
        }
        last = Some((message.key, message.signal_id));
    }
    Ok(last)
}

fn judge_message(handler: &dyn Handler, message: &StoredMessage, tally: &mut Tally) {
    let Some(payload) = &message.payload else {
        return;
    };
    // Without a handler the message waits with its run.
    if judge_version(Some(handler), message.version).0 != Verdict::Fine {
        return;
    }
    let judged = judge_signal(handler, &message.name, payload);
    let place = Place {
        workflow: message.workflow.clone(),
        version: message.version,
        state: message.state.clone(),
    };
    tally.add_beside(place, message.key.run_id, judged);
}

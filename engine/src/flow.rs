//! Flow control for humans: the numbers of limits, pauses of workflows, queues and tenants, and
//! breakers. Each act has an author and a reason, and leaves a line in `engine.control_audit`.
//!
//! How runs wait and are woken is told in `gate.rs`. The verbs join the caller's transaction; after
//! its commit [`open`] wakes whoever may go on now (otherwise a worker finds them within seconds).

use chrono::{DateTime, Utc};
use serde_json::{Value, json};
use sqlx::PgConnection;

use crate::audit::Deed;
use crate::client::Client;
use crate::error::EngineError;
use crate::gate;
use crate::id::{self, TenantId};
use crate::limit::Rate;
use crate::store;
use crate::store::breaker::{BreakerRow, BreakerState};

/// The longest reason, in characters.
const MAX_REASON: usize = 2_000;

/// Who changes the flow, and why.
#[derive(Debug, Clone)]
pub struct Author {
    /// From the token, never from the request.
    pub actor: String,
    /// The role in which they act.
    pub role: String,
    /// Why, 1 to 2,000 characters.
    pub reason: String,
}

/// The numbers of a limit; `None` does not bound.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Numbers {
    /// Visits in flight at once, per key; zero lets nobody begin.
    pub concurrency: Option<u32>,
    /// Visits that may begin per period, per key.
    pub rate: Option<Rate>,
}

/// A limit as lists show it.
#[derive(Debug, Clone, PartialEq)]
pub struct LimitLine {
    /// What workflows call it.
    pub name: String,
    /// What it allows.
    pub numbers: Numbers,
    /// Permits that are out now, over all keys.
    pub in_use: i64,
    /// Runs that wait for room, over all keys.
    pub waiting: i64,
    /// When the numbers were last set, in real time.
    pub changed_at: DateTime<Utc>,
    /// The operator who set them; `None` when they are the code's.
    pub changed_by: Option<String>,
    /// Why, in the operator's words.
    pub reason: Option<String>,
}

/// What a pause of more than one run covers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scope {
    /// All runs of a workflow.
    Workflow,
    /// All runs of the workflows of a queue.
    Queue,
    /// All runs of a tenant.
    Tenant,
}

impl Scope {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Workflow, Self::Queue, Self::Tenant];

    /// The stored spelling.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Workflow => "workflow",
            Self::Queue => "queue",
            Self::Tenant => "tenant",
        }
    }

    /// Reads the stored spelling.
    #[must_use]
    pub fn from_word(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|scope| scope.word() == word)
    }

    /// The tenant that a name of this scope is.
    fn tenant(self, name: &str) -> Option<TenantId> {
        match self {
            Self::Tenant => name.parse().ok().map(TenantId),
            Self::Workflow | Self::Queue => None,
        }
    }
}

/// A pause of more than one run. What becomes due under it is blocked until it is lifted; visits
/// under way end as they would.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PauseLine {
    /// What it covers.
    pub scope: String,
    /// Which workflow, queue or tenant.
    pub name: String,
    /// When, in real time.
    pub since: DateTime<Utc>,
    /// Who.
    pub paused_by: String,
    /// Why.
    pub reason: String,
    /// Runs that became due meanwhile.
    pub waiting: i64,
}

/// A pause as somebody saw it: the next one of its scope differs in one of these.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PauseSeen {
    /// When, in real time.
    pub since: DateTime<Utc>,
    /// Who.
    pub paused_by: String,
    /// Why.
    pub reason: String,
}

/// The breaker of an outside dependency.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BreakerLine {
    /// The dependency, as steps name it.
    pub name: String,
    /// `closed`, `open` or `probing`.
    pub state: &'static str,
    /// An operator holds it open.
    pub forced: bool,
    /// Since when, in real time.
    pub changed_at: DateTime<Utc>,
    /// When a run tries next whether the dependency answers.
    pub probe_at: Option<DateTime<Utc>>,
    /// The last error, or the operator's words.
    pub reason: String,
    /// The operator who set it; `None` when steps did.
    pub changed_by: Option<String>,
    /// Runs that wait.
    pub waiting: i64,
}

/// A breaker as somebody saw it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BreakerSeen {
    /// `closed`, `open` or `probing`.
    pub state: String,
    /// An operator holds it open.
    pub forced: bool,
    /// The operator who set it; `None` when steps did.
    pub changed_by: Option<String>,
}

/// Lists the limits.
///
/// # Errors
/// When the database does not answer.
pub async fn limits(conn: &mut PgConnection) -> Result<Vec<LimitLine>, EngineError> {
    Ok(store::limit::list(conn).await?)
}

/// Sets a limit's numbers; they count from the commit on, also for who waits.
///
/// # Errors
/// [`EngineError::NoSuchGate`] when no workflow names the limit; [`EngineError::Malformed`] for a
/// bad reason or a rate without tokens.
pub async fn set_limit(
    conn: &mut PgConnection,
    name: &str,
    numbers: Numbers,
    author: &Author,
) -> Result<(), EngineError> {
    check_reason(author)?;
    if let Some(rate) = numbers.rate
        && (rate.count == 0 || rate.period_seconds == 0 || rate.burst == 0)
    {
        return Err(malformed(
            "rate",
            "count, period_seconds and burst are at least 1; to stop everything, set concurrency to 0",
        ));
    }
    let before = store::limit::list(conn).await?;
    let before = before.into_iter().find(|limit| limit.name == name);
    let Some(before) = before else {
        return Err(no_such("limit", name));
    };
    store::limit::update(conn, name, numbers, author).await?;
    let deed = Deed {
        action: "set limit",
        subject: name,
        tenant: None,
        before: describe(before.numbers),
        after: describe(numbers),
    };
    audit(conn, author, &deed).await
}

/// Refuses a limit whose numbers are not those that somebody saw, and keeps others from setting them
/// until the caller's transaction ends: [`set_limit`] in it overwrites nothing unseen.
///
/// # Errors
/// [`EngineError::Changed`] with the numbers as they are; [`EngineError::NoSuchGate`] when no workflow
/// names the limit.
pub async fn expect_limit(
    conn: &mut PgConnection,
    name: &str,
    seen: Numbers,
) -> Result<(), EngineError> {
    // What another transaction set until the lock is there counts.
    let locked = store::limit::lock(conn, &[name]).await?;
    let Some(locked) = locked.first() else {
        return Err(no_such("limit", name));
    };
    let rate = (locked.rate, locked.period_seconds, locked.burst);
    if store::limit::numbers(locked.concurrency, rate) == seen {
        return Ok(());
    }
    let limits = store::limit::list(conn).await?;
    let found = limits.into_iter().find(|limit| limit.name == name);
    let Some(found) = found else {
        return Err(no_such("limit", name));
    };
    let by = found.changed_by.zip(found.reason);
    let what = format!("limit {name}");
    Err(changed(what, &in_words(found.numbers), by))
}

/// The numbers of a limit, for people.
pub(crate) fn in_words(numbers: Numbers) -> String {
    let concurrency = numbers.concurrency.map(|most| format!("{most} at once"));
    let rate = numbers.rate.map(|rate| {
        let (count, seconds, burst) = (rate.count, rate.period_seconds, rate.burst);
        format!("{count} per {seconds} s, burst {burst}")
    });
    let bounds: Vec<String> = concurrency.into_iter().chain(rate).collect();
    if bounds.is_empty() {
        return "not bounded".to_owned();
    }
    bounds.join(", ")
}

fn describe(numbers: Numbers) -> Value {
    json!({
        "concurrency": numbers.concurrency,
        "rate": numbers.rate.map(|rate| json!({
            "count": rate.count, "period_seconds": rate.period_seconds, "burst": rate.burst,
        })),
    })
}

/// Lists the pauses.
///
/// # Errors
/// When the database does not answer.
pub async fn pauses(conn: &mut PgConnection) -> Result<Vec<PauseLine>, EngineError> {
    Ok(store::pause::list(conn).await?)
}

/// Pauses a workflow, a queue or a tenant; one that is paused already keeps its author and reason.
///
/// # Errors
/// [`EngineError::NoSuchGate`] when there is no such workflow, queue or tenant;
/// [`EngineError::Malformed`] for a bad reason.
pub async fn pause(
    conn: &mut PgConnection,
    client: &Client,
    scope: Scope,
    name: &str,
    author: &Author,
) -> Result<(), EngineError> {
    check_reason(author)?;
    let registry = client.registry();
    let known = match scope {
        Scope::Workflow => registry.knows(name),
        Scope::Queue => registry
            .versions()
            .into_keys()
            .any(|workflow| registry.queue(workflow) == name),
        Scope::Tenant => match scope.tenant(name) {
            Some(tenant) => store::run::find_place(conn, tenant).await?.is_some(),
            None => false,
        },
    };
    if !known {
        return Err(no_such(scope.word(), name));
    }
    if store::pause::insert(conn, scope.word(), name, author).await? {
        let subject = format!("{} {name}", scope.word());
        let deed = Deed {
            action: "pause",
            subject: &subject,
            tenant: scope.tenant(name),
            before: json!({ "paused": false }),
            after: json!({ "paused": true }),
        };
        audit(conn, author, &deed).await?;
    }
    Ok(())
}

/// Lifts a pause.
///
/// # Errors
/// [`EngineError::NoSuchGate`] when it does not stand; [`EngineError::Malformed`] for a bad reason.
pub async fn lift(
    conn: &mut PgConnection,
    scope: Scope,
    name: &str,
    author: &Author,
) -> Result<(), EngineError> {
    check_reason(author)?;
    let subject = format!("{} {name}", scope.word());
    if !store::pause::delete(conn, scope.word(), name).await? {
        return Err(no_such("pause of", &subject));
    }
    let deed = Deed {
        action: "lift pause",
        subject: &subject,
        tenant: scope.tenant(name),
        before: json!({ "paused": true }),
        after: json!({ "paused": false }),
    };
    audit(conn, author, &deed).await
}

/// Refuses a pause that is not the one that somebody saw, and keeps others from lifting it until the
/// caller's transaction ends: [`lift`] in it lifts no pause of somebody else.
///
/// # Errors
/// [`EngineError::Changed`] with the pause that stands; [`EngineError::NoSuchGate`] when none does.
pub async fn expect_pause(
    conn: &mut PgConnection,
    scope: Scope,
    name: &str,
    seen: &PauseSeen,
) -> Result<(), EngineError> {
    let subject = format!("{} {name}", scope.word());
    let Some(found) = store::pause::lock(conn, scope.word(), name).await? else {
        return Err(no_such("pause of", &subject));
    };
    if found == *seen {
        return Ok(());
    }
    let by = Some((found.paused_by, found.reason));
    let since = format!("since {}", found.since.to_rfc3339());
    Err(changed(format!("pause of {subject}"), &since, by))
}

/// Lists the breakers of dependencies that ever failed, or that an operator has held open.
///
/// # Errors
/// When the database does not answer.
pub async fn breakers(conn: &mut PgConnection) -> Result<Vec<BreakerLine>, EngineError> {
    let rows = store::breaker::list(conn).await?;
    let lines = rows.into_iter().map(|(row, waiting)| BreakerLine {
        state: row.state.word(),
        name: row.name,
        forced: row.forced,
        changed_at: row.changed_at,
        probe_at: row.probe_at,
        reason: row.reason,
        changed_by: row.changed_by,
        waiting,
    });
    Ok(lines.collect())
}

/// Opens a breaker until an operator closes it (no probe does), or closes it.
///
/// # Errors
/// [`EngineError::Malformed`] for a bad reason or name.
pub async fn set_breaker(
    conn: &mut PgConnection,
    name: &str,
    open: bool,
    author: &Author,
) -> Result<(), EngineError> {
    check_reason(author)?;
    if name.is_empty() || name.len() > 63 {
        return Err(malformed("breaker", "a name has 1 to 63 bytes"));
    }
    store::breaker::ensure(conn, name).await?;
    let Some(row) = store::breaker::lock(conn, name).await? else {
        return Err(no_such("breaker", name));
    };
    let before = json!({ "state": row.state.word(), "forced": row.forced });
    let state = if open {
        BreakerState::Open
    } else {
        BreakerState::Closed
    };
    let row = BreakerRow {
        state,
        forced: open,
        trips: 0,
        changed_at: row.now,
        probe_at: None,
        changed_by: Some(author.actor.clone()),
        reason: author.reason.clone(),
        ..row
    };
    store::breaker::store(conn, &row).await?;
    let deed = Deed {
        action: "set breaker",
        subject: name,
        tenant: None,
        before,
        after: json!({ "state": state.word(), "forced": open }),
    };
    audit(conn, author, &deed).await
}

/// Refuses a breaker that is not as somebody saw it, and keeps steps and others from setting it until
/// the caller's transaction ends: [`set_breaker`] in it overwrites nothing unseen.
///
/// # Errors
/// [`EngineError::Changed`] with how it is; [`EngineError::NoSuchGate`] when the dependency never
/// failed and nobody ever held it open.
pub async fn expect_breaker(
    conn: &mut PgConnection,
    name: &str,
    seen: &BreakerSeen,
) -> Result<(), EngineError> {
    let Some(row) = store::breaker::lock(conn, name).await? else {
        return Err(no_such("breaker", name));
    };
    let found = BreakerSeen {
        state: row.state.word().to_owned(),
        forced: row.forced,
        changed_by: row.changed_by,
    };
    // A probe comes and goes by itself: nobody has decided anything.
    let closed = BreakerState::Closed.word();
    let is_open = |breaker: &BreakerSeen| breaker.state != closed;
    let decided = (found.forced, &found.changed_by) != (seen.forced, &seen.changed_by);
    if is_open(&found) == is_open(seen) && !decided {
        return Ok(());
    }
    let by = found.changed_by.map(|by| (by, row.reason));
    Err(changed(format!("breaker {name}"), &found.state, by))
}

/// Says how something is now, and who decided that, and why, where somebody did.
fn changed(what: String, now: &str, by: Option<(String, String)>) -> EngineError {
    let by = by.map(|(by, reason)| format!(", by {by}: {reason}"));
    let by = by.unwrap_or_default();
    EngineError::Changed {
        what,
        now: format!("{now}{by}"),
    }
}

/// Wakes whoever may go on after a change that was committed.
///
/// # Errors
/// When the database does not answer; a worker then finds them within seconds.
pub async fn open(client: &Client) -> Result<(), EngineError> {
    let mut conn = client.pool().acquire().await?;
    client.breakers().look(&mut conn).await?;
    drop(conn);
    gate::sweep(client.pool()).await?;
    client.ring();
    Ok(())
}

async fn audit(
    conn: &mut PgConnection,
    author: &Author,
    deed: &Deed<'_>,
) -> Result<(), EngineError> {
    store::control::insert(conn, id::random_uuid(), author, deed).await?;
    Ok(())
}

pub(crate) fn check_reason(author: &Author) -> Result<(), EngineError> {
    let length = author.reason.trim().chars().count();
    if length == 0 || length > MAX_REASON {
        return Err(malformed("reason", "it has 1 to 2,000 characters"));
    }
    Ok(())
}

fn malformed(what: &'static str, detail: &str) -> EngineError {
    EngineError::Malformed {
        what,
        workflow: String::new(),
        detail: detail.to_owned(),
    }
}

fn no_such(what: &'static str, name: &str) -> EngineError {
    EngineError::NoSuchGate {
        what,
        name: name.to_owned(),
    }
}

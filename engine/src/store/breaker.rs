//! Breakers: which outside dependencies do not answer.

use chrono::{DateTime, Utc};
use sqlx::PgConnection;

/// What a breaker lets through.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum BreakerState {
    Closed,
    Open,
    Probing,
}

impl BreakerState {
    pub(crate) const fn word(self) -> &'static str {
        match self {
            Self::Closed => "closed",
            Self::Open => "open",
            Self::Probing => "probing",
        }
    }

    fn from_word(word: &str) -> Self {
        match word {
            "open" => Self::Open,
            "probing" => Self::Probing,
            _ => Self::Closed,
        }
    }
}

/// A row of `engine.breaker`, with the database's time.
#[derive(Debug, Clone)]
pub(crate) struct BreakerRow {
    pub(crate) name: String,
    pub(crate) state: BreakerState,
    /// An operator holds it open.
    pub(crate) forced: bool,
    pub(crate) trips: i32,
    pub(crate) changed_at: DateTime<Utc>,
    pub(crate) probe_at: Option<DateTime<Utc>>,
    pub(crate) changed_by: Option<String>,
    pub(crate) reason: String,
    pub(crate) now: DateTime<Utc>,
}

/// Makes sure that a breaker has a row, closed at first.
pub(crate) async fn ensure(conn: &mut PgConnection, name: &str) -> sqlx::Result<()> {
    sqlx::query!(
        r#"
        insert into engine.breaker (name, state, forced, trips, changed_at, probe_at, changed_by, reason)
        values ($1, 'closed', false, 0, engine.now(), null, null, '')
        on conflict (name) do nothing
        "#,
        name,
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// Locks a breaker; `None` when the dependency never failed.
pub(crate) async fn lock(conn: &mut PgConnection, name: &str) -> sqlx::Result<Option<BreakerRow>> {
    let row = sqlx::query!(
        r#"
        select
          name, state, forced, trips, changed_at, probe_at, changed_by, reason,
          engine.now() as "now!"
        from engine.breaker
        where name = $1
        for update
        "#,
        name,
    )
    .fetch_optional(conn)
    .await?;
    Ok(row.map(|row| BreakerRow {
        name: row.name,
        state: BreakerState::from_word(&row.state),
        forced: row.forced,
        trips: row.trips,
        changed_at: row.changed_at,
        probe_at: row.probe_at,
        changed_by: row.changed_by,
        reason: row.reason,
        now: row.now,
    }))
}

/// Writes a locked breaker down.
pub(crate) async fn store(conn: &mut PgConnection, row: &BreakerRow) -> sqlx::Result<()> {
    sqlx::query!(
        r#"
        update engine.breaker
        set
          state = $2,
          forced = $3,
          trips = $4,
          changed_at = $5,
          probe_at = $6,
          changed_by = $7,
          reason = $8
        where name = $1
        "#,
        row.name,
        row.state.word(),
        row.forced,
        row.trips,
        row.changed_at,
        row.probe_at,
        row.changed_by.as_deref(),
        row.reason,
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// Lists the breakers that are not closed.
pub(crate) async fn list_shut(conn: &mut PgConnection) -> sqlx::Result<Vec<String>> {
    sqlx::query_scalar!("select name from engine.breaker where state <> 'closed'")
        .fetch_all(conn)
        .await
}

/// Lists the breakers that were ever opened, with how many runs wait at each.
pub(crate) async fn list(conn: &mut PgConnection) -> sqlx::Result<Vec<(BreakerRow, i64)>> {
    let rows = sqlx::query!(
        r#"
        select
          breaker.name, breaker.state, breaker.forced, breaker.trips, breaker.changed_at,
          breaker.probe_at, breaker.changed_by, breaker.reason,
          engine.now() as "now!",
          (select count(*) from engine.waiter
            where waiter.gate = 'breaker' and waiter.name = breaker.name) as "waiting!"
        from engine.breaker
        order by breaker.name
        "#
    )
    .fetch_all(conn)
    .await?;
    Ok(rows
        .into_iter()
        .map(|row| {
            let breaker = BreakerRow {
                name: row.name,
                state: BreakerState::from_word(&row.state),
                forced: row.forced,
                trips: row.trips,
                changed_at: row.changed_at,
                probe_at: row.probe_at,
                changed_by: row.changed_by,
                reason: row.reason,
                now: row.now,
            };
            (breaker, row.waiting)
        })
        .collect())
}

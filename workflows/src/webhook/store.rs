//! The shelf of events. All of it but the last works on control tables.

use chrono::{DateTime, Utc};
use sqlx::PgConnection;
use tenure_engine::{ShardId, TenantId};
use uuid::Uuid;

use super::{Envelope, EventRow, STRIPE};

/// Inserts an event; false when it had come before, which is counted.
pub(super) async fn insert(
    conn: &mut PgConnection,
    event: &Envelope,
    body: &[u8],
    listed: bool,
) -> sqlx::Result<bool> {
    let deliveries = sqlx::query_scalar!(
        r#"
        insert into app.webhook_event
          (endpoint, event_id, event_type, status, deliveries, received_at, body, listed)
        -- Of a tenant that is being erased, or is, no more is kept than that something was told.
        select $1, $2, $3, 'ignored', 1, engine.now(), case when exists (
            select from app.deletion
            where shard_id = 0
              and final_at is not null
              and (subject_id = $6
                or subject_id = (
                  select tenant_id from app.payment where provider_intent_id = $7 limit 1))
          ) then ''::bytea else $4 end, $5
        on conflict (endpoint, event_id) do update
        set deliveries = webhook_event.deliveries + 1
        returning deliveries
        "#,
        STRIPE,
        event.id,
        event.kind,
        body,
        listed,
        event.tenant().map(|tenant| tenant.0),
        event.intent(),
    )
    .fetch_one(conn)
    .await?;
    Ok(deliveries == 1)
}

/// What became of an event.
pub(super) struct Outcome<'a> {
    pub(super) status: &'static str,
    pub(super) reason: Option<&'a str>,
    pub(super) tries: i32,
    pub(super) next_try_at: Option<DateTime<Utc>>,
}

/// Writes down what became of an event.
pub(super) async fn apply(
    conn: &mut PgConnection,
    event_id: &str,
    outcome: &Outcome<'_>,
) -> sqlx::Result<()> {
    sqlx::query!(
        r#"
        update app.webhook_event
        -- What nothing is kept of cannot be tried again.
        set status = $3, reason = $4, tries = $5,
          next_try_at = case when body <> ''::bytea then $6::timestamptz end
        where endpoint = $1
          and event_id = $2
        "#,
        STRIPE,
        event_id,
        outcome.status,
        outcome.reason,
        outcome.tries,
        outcome.next_try_at,
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// Finds an event with its body.
pub(super) async fn find(
    conn: &mut PgConnection,
    event_id: &str,
) -> sqlx::Result<Option<(EventRow, Vec<u8>)>> {
    let row = sqlx::query!(
        r#"
        select event_id, event_type, status, reason, deliveries, listed, tries, next_try_at, received_at,
          body
        from app.webhook_event
        where endpoint = $1
          and event_id = $2
        "#,
        STRIPE,
        event_id,
    )
    .fetch_optional(conn)
    .await?;
    Ok(row.map(|row| {
        let found = EventRow {
            event_id: row.event_id,
            event_type: row.event_type,
            status: row.status,
            reason: row.reason,
            deliveries: row.deliveries,
            listed: row.listed,
            tries: row.tries,
            next_try_at: row.next_try_at,
            received_at: row.received_at,
        };
        (found, row.body)
    }))
}

/// Lists events, the latest first.
pub(super) async fn list(
    conn: &mut PgConnection,
    status: Option<&str>,
    limit: i64,
) -> sqlx::Result<Vec<EventRow>> {
    sqlx::query_as!(
        EventRow,
        r#"
        select event_id, event_type, status, reason, deliveries, listed, tries, next_try_at, received_at
        from app.webhook_event
        where endpoint = $1
          and ($2::text is null or status = $2)
        order by received_at desc, event_id
        limit $3
        "#,
        STRIPE,
        status,
        limit,
    )
    .fetch_all(conn)
    .await
}

/// Locks events of the quarantine that are due to be tried again, the longest due first.
pub(super) async fn lock_due(
    conn: &mut PgConnection,
    limit: i64,
) -> sqlx::Result<Vec<(Vec<u8>, i32)>> {
    let rows = sqlx::query!(
        r#"
        select body, tries
        from app.webhook_event
        where endpoint = $1
          and next_try_at <= engine.now()
        order by next_try_at
        limit $2
        for update skip locked
        "#,
        STRIPE,
        limit,
    )
    .fetch_all(conn)
    .await?;
    Ok(rows.into_iter().map(|row| (row.body, row.tries)).collect())
}

/// Whose charge it is.
pub(super) struct Place {
    pub(super) tenant: TenantId,
    pub(super) shard: ShardId,
    pub(super) invoice: Uuid,
    pub(super) generation: i32,
}

/// Finds the attempt that a payment intent was made for, of whichever tenant.
pub(super) async fn find_charge(
    conn: &mut PgConnection,
    intent: &str,
) -> sqlx::Result<Option<Place>> {
    sqlx::query_as!(
        Place,
        r#"
        select tenant_id as "tenant: TenantId", shard_id as "shard: ShardId", invoice_id as invoice,
          generation
        from app.payment
        where provider_intent_id = $1
        "#,
        intent,
    )
    .fetch_optional(conn)
    .await
}

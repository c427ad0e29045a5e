//! The webhook inbox: what the provider tells us, once per event, mapped to the run that waits.
//!
//! The event and the signal it leads to are one transaction. The snapshot in the event is never
//! acted on: the run that is told fetches the object. What cannot be mapped is kept.

use serde::Deserialize;
use sqlx::PgConnection;
use tenure_engine::{Client, EngineError, RunId, TenantId};

use crate::door::{DoorError, as_control, as_tenant};

/// Which door an event came through.
pub const STRIPE: &str = "stripe";

/// The part of an event that mapping needs.
#[derive(Debug, Deserialize)]
struct Envelope {
    id: String,
    #[serde(rename = "type")]
    kind: String,
    data: Data,
}

#[derive(Debug, Deserialize)]
struct Data {
    object: Object,
}

#[derive(Debug, Deserialize)]
struct Object {
    #[serde(default)]
    metadata: Option<Metadata>,
}

#[derive(Debug, Default, Deserialize)]
struct Metadata {
    tenant: Option<String>,
    run: Option<String>,
}

/// What became of an event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Received {
    /// A run was signalled.
    Mapped,
    /// It had come before.
    Repeated,
    /// Nobody needs it.
    Ignored,
    /// Nobody could be found; it is kept.
    Quarantined(String),
}

/// Stores a verified event and signals the run that it belongs to, in the caller's transaction.
///
/// # Errors
/// [`DoorError::Malformed`] when the body is no event.
pub async fn receive(
    client: &Client,
    conn: &mut PgConnection,
    body: &[u8],
) -> Result<Received, DoorError> {
    let event: Envelope = serde_json::from_slice(body).map_err(|error| DoorError::Malformed {
        field: "body",
        detail: format!("this is no event: {error}"),
    })?;
    as_control(conn).await?;
    if !insert(conn, &event, body).await? {
        return Ok(Received::Repeated);
    }
    let received = match map(&event) {
        Mapping::Ignored => Received::Ignored,
        Mapping::Unknown(reason) => Received::Quarantined(reason),
        Mapping::Run(tenant, run) => signal(client, conn, &event, tenant, run).await?,
    };
    as_control(conn).await?;
    let (status, reason) = match &received {
        Received::Mapped | Received::Repeated => ("mapped", None),
        Received::Ignored => ("ignored", Some("no workflow waits for this kind of event")),
        Received::Quarantined(reason) => ("quarantined", Some(reason.as_str())),
    };
    apply_status(conn, &event.id, status, reason).await?;
    Ok(received)
}

async fn signal(
    client: &Client,
    conn: &mut PgConnection,
    event: &Envelope,
    tenant: TenantId,
    run: RunId,
) -> Result<Received, DoorError> {
    as_tenant(conn, tenant).await?;
    let signal = serde_json::json!({ "ProviderEvent": { "kind": event.kind } });
    match client
        .signal_named(conn, tenant, run, &event.id, &signal)
        .await
    {
        // A run that has ended knows the outcome already; the signal is kept as late.
        Ok(_) | Err(EngineError::RunFinished { .. }) => Ok(Received::Mapped),
        Err(EngineError::RunNotFound(_) | EngineError::UnknownTenant(_)) => Ok(
            Received::Quarantined(format!("run {run} of tenant {tenant} is not known")),
        ),
        Err(EngineError::Malformed { .. }) => Ok(Received::Ignored),
        Err(other) => Err(other.into()),
    }
}

// Rules.

enum Mapping {
    Run(TenantId, RunId),
    Ignored,
    Unknown(String),
}

/// Finds whom an event is for: objects that we made carry tenant and run.
fn map(event: &Envelope) -> Mapping {
    let ours = ["payment_intent.", "refund."];
    if !ours.iter().any(|kind| event.kind.starts_with(kind)) {
        return Mapping::Ignored;
    }
    let metadata = event.data.object.metadata.as_ref();
    let tenant = metadata.and_then(|metadata| metadata.tenant.as_deref()?.parse().ok());
    let run = metadata.and_then(|metadata| metadata.run.as_deref()?.parse().ok());
    match (tenant, run) {
        (Some(tenant), Some(run)) => Mapping::Run(tenant, run),
        _ => Mapping::Unknown("the object carries no tenant and run in its metadata".to_owned()),
    }
}

// Shelf.

/// Inserts an event; false when it had come before, which is counted.
async fn insert(conn: &mut PgConnection, event: &Envelope, body: &[u8]) -> sqlx::Result<bool> {
    let deliveries = sqlx::query_scalar!(
        r#"
        insert into app.webhook_event
          (endpoint, event_id, event_type, status, deliveries, received_at, body)
        select $1, $2, $3, 'ignored', 1, engine.now(), $4
        on conflict (endpoint, event_id) do update
        set deliveries = webhook_event.deliveries + 1
        returning deliveries
        "#,
        STRIPE,
        event.id,
        event.kind,
        body,
    )
    .fetch_one(conn)
    .await?;
    Ok(deliveries == 1)
}

async fn apply_status(
    conn: &mut PgConnection,
    event_id: &str,
    status: &str,
    reason: Option<&str>,
) -> sqlx::Result<()> {
    sqlx::query!(
        r#"
        update app.webhook_event
        set status = $3, reason = $4
        where endpoint = $1
          and event_id = $2
        "#,
        STRIPE,
        event_id,
        status,
        reason,
    )
    .execute(conn)
    .await?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(json: serde_json::Value) -> Envelope {
        serde_json::from_value(json).unwrap()
    }

    #[test]
    fn only_payment_intents_with_tenant_and_run_are_mapped() {
        let tenant = "0190a5c0-0000-7000-8000-000000000001";
        let run = "0190a5c0-0000-7000-8000-000000000002";
        let mapped = event(serde_json::json!({
            "id": "evt_1", "type": "payment_intent.succeeded",
            "data": { "object": { "metadata": { "tenant": tenant, "run": run } } }
        }));
        assert!(matches!(map(&mapped), Mapping::Run(..)));
        let foreign = event(serde_json::json!({
            "id": "evt_2", "type": "payment_intent.succeeded", "data": { "object": {} }
        }));
        assert!(matches!(map(&foreign), Mapping::Unknown(_)));
        let other = event(serde_json::json!({
            "id": "evt_3", "type": "customer.created", "data": { "object": { "metadata": {} } }
        }));
        assert!(matches!(map(&other), Mapping::Ignored));
    }
}

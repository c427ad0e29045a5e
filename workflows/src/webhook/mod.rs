//! The webhook inbox: what the provider tells us, once per event, mapped to the run that waits.
//!
//! The event and the signal it leads to are one transaction. The snapshot in the event is never
//! acted on: the run that is told fetches the object. What cannot be mapped is kept, and tried again:
//! what it is about may only be written down a moment later. Events that never came are found in the
//! provider's list ([`watch`]).
//!
//! | Event | Is for |
//! |---|---|
//! | `payment_intent.*`, `refund.*`, `charge.refund.updated` | the run in its metadata; once that has ended, the [`charge`] |
//! | `charge.dispute.*`, which bears no metadata of ours | the charge of its payment intent |
//!
//! Of these, those of [`EVENTS`]: nothing comes of any other, such as the creation of an intent that we
//! made ourselves.

mod store;
pub mod watch;

use chrono::{DateTime, TimeDelta, Utc};
use serde::{Deserialize, Serialize};
use sqlx::PgConnection;
use tenure_engine::{Client, EngineError, RunId, SYSTEM_TENANT, TenantId};

use crate::charge::{self, ChargeWorkflow};
use crate::door::{DoorError, as_control, as_tenant};
use crate::payment;

/// Which door an event came through.
pub const STRIPE: &str = "stripe";

/// The kinds of events that something comes of: no more than twenty, as the provider's list takes.
pub const EVENTS: [&str; 14] = [
    "payment_intent.succeeded",
    "payment_intent.payment_failed",
    "payment_intent.canceled",
    "payment_intent.requires_action",
    "payment_intent.processing",
    "refund.created",
    "refund.updated",
    "refund.failed",
    "charge.refund.updated",
    "charge.dispute.created",
    "charge.dispute.updated",
    "charge.dispute.closed",
    "charge.dispute.funds_withdrawn",
    "charge.dispute.funds_reinstated",
];

/// How often an event in quarantine is tried again by itself: for about six days.
const TRIES: i32 = 16;
/// The first wait; each further one is twice as long, a day at most.
const FIRST_WAIT: TimeDelta = TimeDelta::minutes(1);

/// The part of an event that mapping needs.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Envelope {
    id: String,
    #[serde(rename = "type")]
    kind: String,
    data: Data,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Data {
    object: Object,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Object {
    #[serde(default)]
    id: Option<String>,
    #[serde(default)]
    payment_intent: Option<Reference>,
    #[serde(default)]
    metadata: Option<Metadata>,
}

/// An object's id, or the object where it was expanded.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
enum Reference {
    Id(String),
    Object { id: String },
}

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
struct Metadata {
    tenant: Option<String>,
    run: Option<String>,
}

/// An event, as it is kept.
#[derive(Debug, Clone, PartialEq)]
pub struct EventRow {
    /// The provider's id.
    pub event_id: String,
    /// The provider's name for what happened.
    pub event_type: String,
    /// mapped, ignored or quarantined.
    pub status: String,
    /// Why, unless it was mapped.
    pub reason: Option<String>,
    /// How often it came.
    pub deliveries: i32,
    /// It never came, and was found in the provider's list.
    pub listed: bool,
    /// How often it was tried again.
    pub tries: i32,
    /// When it is tried again by itself.
    pub next_try_at: Option<DateTime<Utc>>,
    /// When it first came.
    pub received_at: DateTime<Utc>,
}

/// What became of an event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Received {
    /// A run was signalled, or knew already.
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
    let event = read(body)?;
    as_control(conn).await?;
    if !store::insert(conn, &event, body, false).await? {
        return Ok(Received::Repeated);
    }
    process(client, conn, &event, 0).await
}

/// Takes an event that the provider lists; one that was delivered is left alone.
async fn receive_listed(
    client: &Client,
    conn: &mut PgConnection,
    event: &Envelope,
) -> Result<Received, DoorError> {
    let body = serde_json::to_vec(event).map_err(|error| malformed(&error))?;
    as_control(conn).await?;
    if store::find(conn, &event.id).await?.is_some()
        || !store::insert(conn, event, &body, true).await?
    {
        return Ok(Received::Repeated);
    }
    process(client, conn, event, 0).await
}

/// Plays an event again, as if it came now: whoever it is for looks once more. The transaction works
/// on control tables.
///
/// # Errors
/// [`DoorError::NotFound`] for an event that never came; [`DoorError::Conflict`] when nothing is kept of
/// it.
pub async fn replay(
    client: &Client,
    conn: &mut PgConnection,
    event_id: &str,
) -> Result<(EventRow, EventRow), DoorError> {
    as_control(conn).await?;
    let (before, body) = store::find(conn, event_id)
        .await?
        .ok_or_else(|| DoorError::not_found("webhook event", event_id))?;
    if body.is_empty() {
        return Err(DoorError::Conflict(format!(
            "nothing is kept of {event_id}: it is about a tenant that was deleted"
        )));
    }
    let event = read(&body)?;
    process(client, conn, &event, before.tries + 1).await?;
    let after = store::find(conn, event_id).await?;
    let (after, _) = after.ok_or_else(|| DoorError::not_found("webhook event", event_id))?;
    Ok((before, after))
}

/// Lists events, the latest first: all, or those of one status.
///
/// # Errors
/// When the database does not answer.
pub async fn list(
    conn: &mut PgConnection,
    status: Option<&str>,
    limit: i64,
) -> Result<Vec<EventRow>, DoorError> {
    as_control(conn).await?;
    Ok(store::list(conn, status, limit).await?)
}

/// Tries again what is in quarantine and due, in the caller's transaction; returns how many.
async fn retry_due(client: &Client, conn: &mut PgConnection) -> Result<usize, DoorError> {
    as_control(conn).await?;
    let due = store::lock_due(conn, 100).await?;
    let tried = due.len();
    for (body, tries) in due {
        let event = read(&body)?;
        process(client, conn, &event, tries + 1).await?;
    }
    Ok(tried)
}

/// Tells whom an event is for, and writes down what became of it. The transaction works on control
/// tables before and afterwards.
async fn process(
    client: &Client,
    conn: &mut PgConnection,
    event: &Envelope,
    tries: i32,
) -> Result<Received, DoorError> {
    let received = tell(client, conn, event, tries).await?;
    as_control(conn).await?;
    let (status, reason) = match &received {
        Received::Mapped | Received::Repeated => ("mapped", None),
        Received::Ignored => ("ignored", Some("no workflow waits for this kind of event")),
        Received::Quarantined(reason) => ("quarantined", Some(reason.as_str())),
    };
    let next_try_at = match next_wait(tries) {
        Some(wait) if status == "quarantined" => {
            // The system tenant follows real time, by the database's clock.
            let now = tenure_engine::tenant::now(conn, SYSTEM_TENANT).await?;
            Some(now + wait)
        }
        _ => None,
    };
    let outcome = store::Outcome {
        status,
        reason,
        tries,
        next_try_at,
    };
    store::apply(conn, &event.id, &outcome).await?;
    Ok(received)
}

async fn tell(
    client: &Client,
    conn: &mut PgConnection,
    event: &Envelope,
    tries: i32,
) -> Result<Received, DoorError> {
    // A run hears of an event once; what is tried again is told anew.
    let signal_id = match tries {
        0 => event.id.clone(),
        tries => format!("{}:{tries}", event.id),
    };
    match map(event) {
        Mapping::Ignored => Ok(Received::Ignored),
        Mapping::Unknown(reason) => Ok(Received::Quarantined(reason)),
        Mapping::Run(tenant, run) => {
            as_tenant(conn, tenant).await?;
            let signal = serde_json::json!({ "ProviderEvent": { "kind": event.kind } });
            let sent = client
                .signal_named(conn, tenant, run, &signal_id, &signal)
                .await;
            match sent {
                Ok(_) => Ok(Received::Mapped),
                Err(EngineError::RunFinished { .. }) => {
                    tell_charge(client, conn, event, &signal_id).await
                }
                Err(
                    EngineError::RunNotFound(_)
                    | EngineError::UnknownTenant(_)
                    | EngineError::KeysDestroyed(_),
                ) => Ok(Received::Quarantined(format!(
                    "run {run} of tenant {tenant} is not known"
                ))),
                Err(EngineError::Malformed { .. }) => Ok(Received::Ignored),
                Err(other) => Err(other.into()),
            }
        }
        Mapping::Charge => tell_charge(client, conn, event, &signal_id).await,
    }
}

/// Tells the charge of an event: its attempt has ended, or the event knows of none.
async fn tell_charge(
    client: &Client,
    conn: &mut PgConnection,
    event: &Envelope,
    signal_id: &str,
) -> Result<Received, DoorError> {
    let Some(intent) = event.intent() else {
        let reason = "the object names no payment intent".to_owned();
        return Ok(Received::Quarantined(reason));
    };
    as_control(conn).await?;
    let Some(place) = store::find_charge(conn, intent).await? else {
        let reason = format!("no payment of ours has intent {intent}");
        return Ok(Received::Quarantined(reason));
    };
    let (tenant, invoice_id, generation) = (place.tenant, place.invoice, place.generation);
    as_tenant(conn, tenant).await?;
    if event.kind == "refund.created" {
        // Its run made it, and has seen its end since.
        return Ok(Received::Mapped);
    }
    if event.kind.starts_with("payment_intent.") {
        // The attempt has ended: only money that came late is news.
        let known = charge::store::find(conn, invoice_id, generation, place.shard).await?;
        let late = known.is_some_and(|known| known.counts_as_failed());
        if !late || event.kind != "payment_intent.succeeded" {
            return Ok(Received::Mapped);
        }
    }
    let key = payment::key(invoice_id, generation);
    let input = charge::Input {
        invoice_id,
        generation,
    };
    let signal = charge::Signal::ProviderEvent {
        kind: event.kind.clone(),
    };
    let sent = client
        .signal_with_start::<ChargeWorkflow>(conn, tenant, &key, &input, signal_id, &signal)
        .await;
    match sent {
        // One that was cancelled: its tenant is about to go.
        Ok(_) | Err(EngineError::RunFinished { .. }) => Ok(Received::Mapped),
        // It may be restored yet; then it is tried again.
        Err(
            EngineError::TenantClosing(_)
            | EngineError::KeysDestroyed(_)
            | EngineError::UnknownTenant(_),
        ) => Ok(Received::Quarantined(format!(
            "tenant {tenant} is being deleted, or is"
        ))),
        Err(other) => Err(other.into()),
    }
}

// Rules.

fn read(body: &[u8]) -> Result<Envelope, DoorError> {
    serde_json::from_slice(body).map_err(|error| malformed(&error))
}

fn malformed(error: &serde_json::Error) -> DoorError {
    DoorError::Malformed {
        field: "body",
        detail: format!("this is no event: {error}"),
    }
}

#[derive(Debug)]
enum Mapping {
    Run(TenantId, RunId),
    Charge,
    Ignored,
    Unknown(String),
}

impl Envelope {
    /// The tenant that its object names.
    fn tenant(&self) -> Option<TenantId> {
        let metadata = self.data.object.metadata.as_ref()?;
        metadata.tenant.as_deref()?.parse().ok()
    }

    /// The payment intent that it is about.
    fn intent(&self) -> Option<&str> {
        let object = &self.data.object;
        if self.kind.starts_with("payment_intent.") {
            return object.id.as_deref();
        }
        object.payment_intent.as_ref().map(|intent| match intent {
            Reference::Id(id) | Reference::Object { id } => id.as_str(),
        })
    }
}

/// Finds whom an event is for: objects that we made carry tenant and run.
fn map(event: &Envelope) -> Mapping {
    if !EVENTS.contains(&&*event.kind) {
        return Mapping::Ignored;
    }
    if event.kind.starts_with("charge.dispute.") {
        return Mapping::Charge;
    }
    let metadata = event.data.object.metadata.as_ref();
    let tenant = event.tenant();
    let run = metadata.and_then(|metadata| metadata.run.as_deref()?.parse().ok());
    match (tenant, run) {
        (Some(tenant), Some(run)) => Mapping::Run(tenant, run),
        _ => Mapping::Unknown("the object carries no tenant and run in its metadata".to_owned()),
    }
}

/// How long an event waits in quarantine that was tried again so often; `None` when it is left there.
fn next_wait(tries: i32) -> Option<TimeDelta> {
    let doubled = 2_i32.checked_pow(u32::try_from(tries).ok()?)?;
    (tries < TRIES).then(|| (FIRST_WAIT * doubled).min(TimeDelta::days(1)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(json: serde_json::Value) -> Envelope {
        serde_json::from_value(json).unwrap()
    }

    #[test]
    fn an_event_is_for_the_run_in_its_metadata_or_for_the_charge_of_its_intent() {
        let tenant = "0190a5c0-0000-7000-8000-000000000001";
        let run = "0190a5c0-0000-7000-8000-000000000002";
        let mapped = event(serde_json::json!({
            "id": "evt_1", "type": "payment_intent.succeeded",
            "data": { "object": { "id": "pi_1", "metadata": { "tenant": tenant, "run": run } } }
        }));
        assert!(matches!(map(&mapped), Mapping::Run(..)));
        assert_eq!(mapped.intent(), Some("pi_1"));
        let foreign = event(serde_json::json!({
            "id": "evt_2", "type": "payment_intent.succeeded", "data": { "object": {} }
        }));
        assert!(matches!(map(&foreign), Mapping::Unknown(_)));
        for kind in ["customer.created", "payment_intent.created"] {
            let other = event(serde_json::json!({
                "id": "evt_3", "type": kind,
                "data": { "object": { "metadata": { "tenant": tenant, "run": run } } }
            }));
            assert!(matches!(map(&other), Mapping::Ignored), "{kind}");
        }
        for intent in [
            serde_json::json!("pi_1"),
            serde_json::json!({ "id": "pi_1", "amount": 1 }),
        ] {
            let disputed = event(serde_json::json!({
                "id": "evt_4", "type": "charge.dispute.created",
                "data": { "object": { "id": "dp_1", "metadata": {}, "payment_intent": intent } }
            }));
            assert!(matches!(map(&disputed), Mapping::Charge));
            assert_eq!(disputed.intent(), Some("pi_1"));
        }
    }

    #[test]
    fn quarantine_is_tried_again_at_doubling_intervals_for_some_days() {
        let minutes: Vec<i64> = (0..TRIES)
            .filter_map(|tries| next_wait(tries).map(|wait| wait.num_minutes()))
            .collect();
        assert_eq!(minutes[..4], [1, 2, 4, 8]);
        assert_eq!(minutes[15], 24 * 60);
        assert_eq!(next_wait(TRIES), None);
    }
}

//! How the provider's webhooks come: late, twice, out of order, or not at all.

use std::collections::BTreeSet;

use serde_json::json;
use stripe_sandbox::WebhookMode;
use tenure_client::{ReplayWebhookEvent, RunFilter, SendSignal, WebhookEventFilter};

use super::kinds::Kind;
use super::life::{Life, World, key};
use crate::support::eventually;

/// Kinds of events that somebody acts on: what was dropped of them is found in the list.
const WATCHED: [&str; 4] = [
    "payment_intent.succeeded",
    "payment_intent.payment_failed",
    "charge.dispute.created",
    "charge.dispute.closed",
];

impl Life<'_> {
    /// The webhooks of all customers come like this until somebody changes it again.
    pub(super) fn change_webhooks(&self, kind: Kind, mode: WebhookMode) {
        self.world.control.set_webhook_mode(mode).unwrap();
        self.world.tally.count(kind);
    }

    /// What comes of one more subscription is held and then let go, the newest first.
    pub(super) async fn hold_webhooks(&mut self) {
        let control = self.world.control.clone();
        control.set_webhook_mode(WebhookMode::Held).unwrap();
        self.subscribe_to("team-monthly", None).await;
        self.rest().await;
        control.set_webhook_mode(WebhookMode::Normal).unwrap();
        if control.release_webhooks(true).unwrap() > 0 {
            self.world.tally.count(Kind::WebhooksHeld);
        }
    }

    /// Support plays the latest event again.
    pub(super) async fn replay_webhook(&self) {
        let filter = WebhookEventFilter {
            status: Some("mapped".to_owned()),
        };
        let events = self.client().list_webhook_events(&filter).await.unwrap();
        let Some(latest) = events.first() else {
            return;
        };
        let asked = ReplayWebhookEvent {
            reason: "a question".to_owned(),
        };
        let played = self
            .client()
            .replay_webhook_event(&latest.event_id, &asked, &key())
            .await;
        self.world.tally.counted(Kind::ReplayWebhook, played);
    }
}

impl World<'_> {
    /// Fair weather: what is held goes on its way, and what was dropped is found.
    pub(super) async fn clear_up(&self) {
        let control = &self.control;
        control.set_webhook_mode(WebhookMode::Normal).unwrap();
        control.release_webhooks(false).unwrap();
        let dropped: BTreeSet<String> = control
            .deliveries()
            .iter()
            .filter(|one| one["state"] == "never")
            .filter(|one| WATCHED.iter().any(|kind| one["type"] == *kind))
            .map(|one| one["event"].as_str().unwrap().to_owned())
            .collect();
        let dropped: Vec<String> = dropped.into_iter().collect();
        let filter = RunFilter {
            workflow: Some("webhook-watch".to_owned()),
            ..RunFilter::default()
        };
        let watch = self.client.list_runs(&filter).await.unwrap().items[0].run_id;
        let look = SendSignal {
            id: tenure_engine::random_uuid().to_string(),
            name: None,
            signal: json!("Look"),
            reason: Some("a story".to_owned()),
        };
        self.client.send_signal(watch, &look, &key()).await.unwrap();
        let conn = crate::support::connect(self.options).await;
        let conn = tokio::sync::Mutex::new(conn);
        eventually("what was dropped is found", async || {
            let found: i64 = sqlx::query_scalar(
                "select count(*) from app.webhook_event where event_id = any($1)",
            )
            .bind(&dropped)
            .fetch_one(&mut *conn.lock().await)
            .await
            .unwrap();
            found == i64::try_from(dropped.len()).unwrap()
        })
        .await;
    }
}

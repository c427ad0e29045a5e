//! `tenure webhook`: what the payment provider told, through the API.

use tenure_client::{IdempotencyKey, ReplayWebhookEvent, WebhookEvent, WebhookEventFilter};

use super::run::{ApiArgs, print, rfc3339};

/// What to do with the provider's events.
#[derive(Debug, clap::Subcommand)]
pub(super) enum WebhookCommand {
    /// List what the provider told, the latest first; at most 200.
    List {
        #[command(flatten)]
        api: ApiArgs,
        /// Only those that are mapped, ignored or quarantined.
        #[arg(long)]
        status: Option<String>,
    },
    /// Play an event again, as if it came now: whoever it is for looks once more.
    Replay {
        #[command(flatten)]
        api: ApiArgs,
        /// The provider's id of it, such as `evt_1`.
        event_id: String,
        /// Why; kept in the audit.
        #[arg(long)]
        reason: String,
    },
}

pub(super) async fn run(command: WebhookCommand) -> anyhow::Result<()> {
    match command {
        WebhookCommand::List { api, status } => {
            let filter = WebhookEventFilter { status };
            let events = api.client()?.list_webhook_events(&filter).await?;
            print(&api, &events, || events.iter().for_each(tell))
        }
        WebhookCommand::Replay {
            api,
            event_id,
            reason,
        } => {
            let (asked, key) = (ReplayWebhookEvent { reason }, IdempotencyKey::generate());
            let client = api.client()?;
            let event = client.replay_webhook_event(&event_id, &asked, &key).await?;
            print(&api, &event, || tell(&event))
        }
    }
}

fn tell(event: &WebhookEvent) {
    let (id, kind, status) = (&event.event_id, &event.event_type, &event.status);
    let why = event.reason.as_deref().unwrap_or_default();
    let again = event.next_try_at.map(rfc3339);
    let again = again.map_or(String::new(), |at| format!("  again at {at}"));
    outln!(
        "{id}  {}  {status}  {kind}  {why}{again}",
        rfc3339(event.received_at)
    );
}

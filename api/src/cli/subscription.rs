//! `tenure subscription`: what tenants buy, for scripts, through the API.

use tenure_client::{
    CancelSubscription, CancelWhen, IdempotencyKey, NewSubscription, Subscription,
    SubscriptionStatus,
};
use uuid::Uuid;

use super::run::{ApiArgs, print, rfc3339};

/// What to do with subscriptions.
#[derive(Debug, clap::Subcommand)]
pub(super) enum SubscriptionCommand {
    /// List a tenant's subscriptions, newest first.
    List {
        #[command(flatten)]
        api: ApiArgs,
        /// The tenant.
        #[arg(long)]
        tenant: Uuid,
    },
    /// Show a subscription.
    Show(OneArgs),
    /// Subscribe a tenant to a plan; the same key again is the first subscription.
    Create {
        #[command(flatten)]
        api: ApiArgs,
        /// The tenant.
        #[arg(long)]
        tenant: Uuid,
        /// Code of the plan.
        #[arg(long)]
        plan: String,
        /// A currency that it is sold in, such as EUR.
        #[arg(long)]
        currency: String,
        /// Its key, unique per tenant; made by the server when none is given.
        #[arg(long)]
        key: Option<String>,
    },
    /// End a subscription.
    Cancel {
        #[command(flatten)]
        one: OneArgs,
        /// With the period that is paid, or at once.
        #[arg(long, value_parser = ["period-end", "now"])]
        when: String,
    },
}

/// One subscription of a tenant.
#[derive(Debug, clap::Args)]
pub(super) struct OneArgs {
    #[command(flatten)]
    api: ApiArgs,
    /// The tenant.
    #[arg(long)]
    tenant: Uuid,
    /// The subscription.
    subscription_id: Uuid,
}

pub(super) async fn run(command: SubscriptionCommand) -> anyhow::Result<()> {
    match command {
        SubscriptionCommand::List { api, tenant } => {
            let found = api.client()?.list_subscriptions(tenant).await?;
            print(&api, &found, || found.iter().for_each(print_line))
        }
        SubscriptionCommand::Show(one) => {
            let client = one.api.client()?;
            let found = client.subscription(one.tenant, one.subscription_id).await?;
            print(&one.api, &found, || {
                print_line(&found);
                println!("run {}", found.run_id);
            })
        }
        SubscriptionCommand::Create {
            api,
            tenant,
            plan,
            currency,
            key,
        } => {
            let new = NewSubscription {
                plan,
                currency,
                key,
            };
            let made = api
                .client()?
                .subscribe(tenant, &new, &IdempotencyKey::generate())
                .await?;
            print(&api, &made, || print_line(&made))
        }
        SubscriptionCommand::Cancel { one, when } => {
            let when = match when.as_str() {
                "now" => CancelWhen::Now,
                _ => CancelWhen::PeriodEnd,
            };
            let cancel = CancelSubscription { when };
            let key = IdempotencyKey::generate();
            let sent = one
                .api
                .client()?
                .cancel_subscription(one.tenant, one.subscription_id, &cancel, &key)
                .await?;
            print(&one.api, &sent, || {
                println!("sent {} to run {}", sent.signal_id, sent.run_id);
            })
        }
    }
}

fn print_line(subscription: &Subscription) {
    let until = match (subscription.status, subscription.ended_at) {
        (_, Some(ended)) => {
            let reason = subscription.end_reason.as_deref().unwrap_or("no reason");
            format!("ended {} ({reason})", rfc3339(ended))
        }
        (SubscriptionStatus::Trialing, _) => when("trial until", subscription.trial_ends_at),
        (SubscriptionStatus::Ending, _) => when("ends", subscription.cancel_at),
        _ => when("period until", subscription.period_end),
    };
    println!(
        "{}  {}  {}  {}  {until}",
        subscription.subscription_id,
        subscription.plan,
        subscription.status.as_str(),
        subscription.price,
    );
}

fn when(what: &str, at: Option<chrono::DateTime<chrono::Utc>>) -> String {
    at.map_or(String::new(), |at| format!("{what} {}", rfc3339(at)))
}

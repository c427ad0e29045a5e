//! `tenure subscription`: what tenants buy, for scripts, through the API.

use std::collections::BTreeMap;
use std::str::FromStr;

use chrono::{DateTime, Utc};
use tenure_client::{
    CancelSubscription, ChangeSubscription, CreditPolicy, IdempotencyKey, IntentKind, MoveAnchor,
    NewSubscription, PauseSubscription, ResumeSubscription, Subscription, SubscriptionAct,
    SubscriptionDetail, SubscriptionStatus, UndoIntent, When,
};
use tenure_workflows::calendar;
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
    /// Show a subscription, what it has, and what will become of it.
    Show(OneArgs),
    /// Subscribe a tenant to a plan; the same key again is the first subscription.
    Create(CreateArgs),
    /// Change plan, seats or add-ons; what is not said stays.
    Change {
        #[command(flatten)]
        act: ActArgs,
        /// Code of another plan.
        #[arg(long)]
        plan: Option<String>,
        /// The current version, also of the plan and the add-ons that it has.
        #[arg(long)]
        newest: bool,
        /// How many seats.
        #[arg(long)]
        seats: Option<u32>,
        /// An add-on and how many, such as extra-storage=2; all that it has from then on.
        #[arg(long = "add-on", value_parser = add_on)]
        add_ons: Vec<(String, u32)>,
        /// No add-ons from then on.
        #[arg(long, conflicts_with = "add_ons")]
        no_add_ons: bool,
    },
    /// End a subscription.
    Cancel {
        #[command(flatten)]
        act: ActArgs,
        /// What is given back of what was paid for.
        #[arg(long, default_value = "none", value_parser = policy)]
        credit: CreditPolicy,
    },
    /// Pause a subscription: no use and no billing.
    Pause {
        #[command(flatten)]
        act: ActArgs,
        /// When it goes on by itself, in the tenant's time.
        #[arg(long)]
        until: Option<DateTime<Utc>>,
    },
    /// Let a paused subscription go on.
    Resume(ActArgs),
    /// Let periods begin on another day of the month.
    MoveAnchor {
        #[command(flatten)]
        act: ActArgs,
        /// 1 to 31; in shorter months their last.
        #[arg(long)]
        day: u32,
    },
    /// Take back what was to come about.
    Undo {
        #[command(flatten)]
        one: OneArgs,
        /// What.
        #[arg(value_parser = ["change", "cancel", "pause", "resume", "move-anchor"])]
        intent: String,
        /// Why; kept in the audit.
        #[arg(long)]
        reason: Option<String>,
    },
}

/// A subscription to make.
#[derive(Debug, clap::Args)]
pub(super) struct CreateArgs {
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
    /// How many seats; those that the plan includes otherwise.
    #[arg(long)]
    seats: Option<u32>,
    /// An add-on and how many, such as extra-storage=2.
    #[arg(long = "add-on", value_parser = add_on)]
    add_ons: Vec<(String, u32)>,
    /// A coupon to redeem.
    #[arg(long)]
    coupon: Option<String>,
    /// When it begins, in the tenant's time; now otherwise.
    #[arg(long)]
    start_at: Option<DateTime<Utc>>,
    /// The day of the month on which its periods begin.
    #[arg(long)]
    anchor_day: Option<u32>,
    /// Only tell what it would come to.
    #[arg(long)]
    dry_run: bool,
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

/// An act on a subscription.
#[derive(Debug, clap::Args)]
pub(super) struct ActArgs {
    #[command(flatten)]
    one: OneArgs,
    /// now, period-end, or an instant of the tenant's time such as 2027-01-31T00:00:00Z.
    #[arg(long, default_value = "now", value_parser = moment)]
    when: When,
    /// Only tell what it would come to.
    #[arg(long)]
    dry_run: bool,
    /// Why; kept in the audit.
    #[arg(long)]
    reason: Option<String>,
}

fn add_on(text: &str) -> Result<(String, u32), String> {
    let wrong = || format!("{text:?} is no add-on and number, such as extra-storage=2");
    let (key, count) = text.split_once('=').ok_or_else(wrong)?;
    Ok((key.to_owned(), count.parse().map_err(|_| wrong())?))
}

fn policy(text: &str) -> Result<CreditPolicy, String> {
    match text {
        "none" => Ok(CreditPolicy::None),
        "credit" => Ok(CreditPolicy::Credit),
        "refund" => Ok(CreditPolicy::Refund),
        _ => Err("none, credit or refund".to_owned()),
    }
}

fn moment(text: &str) -> Result<When, String> {
    match text {
        "now" => Ok(When::Now),
        "period-end" => Ok(When::PeriodEnd),
        instant => match DateTime::<Utc>::from_str(instant) {
            Ok(at) => Ok(When::At(at)),
            Err(_) => Err("now, period-end, or an instant such as 2027-01-31T00:00:00Z".to_owned()),
        },
    }
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
            print(&one.api, &found, || print_detail(&found))
        }
        SubscriptionCommand::Create(args) => create(args).await,
        SubscriptionCommand::Undo {
            one,
            intent,
            reason,
        } => undo(one, &intent, reason).await,
        act => perform(act).await,
    }
}

async fn create(args: CreateArgs) -> anyhow::Result<()> {
    let new = NewSubscription {
        plan: args.plan,
        currency: args.currency,
        key: args.key,
        seats: args.seats,
        add_ons: args.add_ons.into_iter().collect(),
        coupon: args.coupon,
        start_at: args.start_at,
        anchor_day: args.anchor_day,
        dry_run: args.dry_run,
    };
    let client = args.api.client()?;
    let key = IdempotencyKey::generate();
    if args.dry_run {
        let told = client.preview_subscription(args.tenant, &new, &key).await?;
        return tell(&args.api, args.tenant, &told).await;
    }
    let made = client.subscribe(args.tenant, &new, &key).await?;
    print(&args.api, &made, || print_line(&made))
}

async fn undo(one: OneArgs, intent: &str, reason: Option<String>) -> anyhow::Result<()> {
    let intent = match intent {
        "change" => IntentKind::Change,
        "cancel" => IntentKind::Cancel,
        "pause" => IntentKind::Pause,
        "resume" => IntentKind::Resume,
        _ => IntentKind::MoveAnchor,
    };
    let (client, key) = (one.api.client()?, IdempotencyKey::generate());
    let (undo, id) = (UndoIntent { intent, reason }, one.subscription_id);
    let sent = client.undo_intent(one.tenant, id, &undo, &key).await?;
    print(&one.api, &sent, || {
        outln!("sent {} to run {}", sent.signal_id, sent.run_id);
    })
}

#[expect(clippy::too_many_lines, reason = "an arm a command")]
async fn perform(command: SubscriptionCommand) -> anyhow::Result<()> {
    let key = IdempotencyKey::generate();
    let of = |act: &ActArgs| (act.one.tenant, act.one.subscription_id);
    match command {
        SubscriptionCommand::Change {
            act,
            plan,
            newest,
            seats,
            add_ons,
            no_add_ons,
        } => {
            let asked = ChangeSubscription {
                plan,
                newest,
                seats,
                add_ons: add_ons_from(add_ons, no_add_ons),
                ..change_of(&act)
            };
            let (client, (tenant, id)) = (act.one.api.client()?, of(&act));
            let told = client.change_subscription(tenant, id, &asked, &key).await?;
            tell(&act.one.api, tenant, &told).await
        }
        SubscriptionCommand::Cancel { act, credit } => {
            let asked = CancelSubscription {
                when: act.when,
                credit,
                reason: act.reason.clone(),
                dry_run: act.dry_run,
            };
            let (client, (tenant, id)) = (act.one.api.client()?, of(&act));
            let told = client.cancel_subscription(tenant, id, &asked, &key).await?;
            tell(&act.one.api, tenant, &told).await
        }
        SubscriptionCommand::Pause { act, until } => {
            let asked = PauseSubscription {
                when: act.when,
                until,
                reason: act.reason.clone(),
                dry_run: act.dry_run,
            };
            let (client, (tenant, id)) = (act.one.api.client()?, of(&act));
            let told = client.pause_subscription(tenant, id, &asked, &key).await?;
            tell(&act.one.api, tenant, &told).await
        }
        SubscriptionCommand::Resume(act) => {
            let asked = ResumeSubscription {
                when: act.when,
                reason: act.reason.clone(),
                dry_run: act.dry_run,
            };
            let (client, (tenant, id)) = (act.one.api.client()?, of(&act));
            let told = client.resume_subscription(tenant, id, &asked, &key).await?;
            tell(&act.one.api, tenant, &told).await
        }
        SubscriptionCommand::MoveAnchor { act, day } => {
            let asked = MoveAnchor {
                day,
                when: act.when,
                reason: act.reason.clone(),
                dry_run: act.dry_run,
            };
            let (client, (tenant, id)) = (act.one.api.client()?, of(&act));
            let told = client.move_anchor(tenant, id, &asked, &key).await?;
            tell(&act.one.api, tenant, &told).await
        }
        SubscriptionCommand::List { .. }
        | SubscriptionCommand::Show(_)
        | SubscriptionCommand::Create(_)
        | SubscriptionCommand::Undo { .. } => Ok(()),
    }
}

/// A change that says when and why, and not what.
fn change_of(act: &ActArgs) -> ChangeSubscription {
    ChangeSubscription {
        when: act.when,
        reason: act.reason.clone(),
        dry_run: act.dry_run,
        ..ChangeSubscription::default()
    }
}

/// All add-ons from then on, if anything is said of them.
fn add_ons_from(add_ons: Vec<(String, u32)>, none: bool) -> Option<BTreeMap<String, u32>> {
    (none || !add_ons.is_empty()).then(|| add_ons.into_iter().collect())
}

async fn tell(api: &ApiArgs, tenant: Uuid, told: &SubscriptionAct) -> anyhow::Result<()> {
    // Dates are read in the tenant's zone, as its periods are.
    let tenant = api.client()?.tenant(tenant).await?;
    let zone = calendar::zone(&tenant.zone)?;
    print(api, told, || {
        for line in told.words(&zone) {
            outln!("{line}");
        }
        match (&told.signal_id, told.run_id) {
            (Some(signal), Some(run)) => outln!("sent {signal} to run {run}"),
            _ => outln!("nothing was done: this was a dry run"),
        }
    })
}

fn print_detail(found: &SubscriptionDetail) {
    print_line(&found.subscription);
    outln!("run {}", found.subscription.run_id);
    for item in &found.items {
        outln!(
            "has {} x {} at {}",
            item.quantity,
            item.name,
            item.unit_price
        );
    }
    for intent in &found.intents {
        let kind = serde_json::to_value(intent.kind).unwrap_or_default();
        let kind = kind.as_str().unwrap_or_default().replace('_', " ");
        outln!("will {kind} {}", rfc3339(intent.at));
    }
    if let Some(next) = &found.successor {
        let at = rfc3339(next.at);
        outln!(
            "its plan is retired: moves to {} at {} {at}",
            next.name,
            next.price
        );
    }
    if let Some(plan) = &found.succeeds {
        outln!("was moved here when {plan} was retired");
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
    outln!(
        "{}  {}  {}  {}  {until}",
        subscription.subscription_id,
        subscription.plan,
        subscription.status.as_str(),
        subscription.price,
    );
}

fn when(what: &str, at: Option<DateTime<Utc>>) -> String {
    at.map_or(String::new(), |at| format!("{what} {}", rfc3339(at)))
}

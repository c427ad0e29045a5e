//! The product's own workflows through every fault: the same invoices, one charge for each that is
//! paid, each mail once. And that no workflow is left out.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use chrono::{DateTime, Utc};
use serde_json::json;
use stripe_sandbox::{
    ChargeSummary, Sandbox, SandboxConfig, SandboxHandle, WebhookEndpoint, WebhookMode,
};
use tempfile::TempDir;
use tenure_engine::operator::{self, Act, Verb};
use tenure_engine::testkit::{Play, PlayError, Scene, fault_matrix};
use tenure_engine::{ClockId, PoolConfig, RunId, SYSTEM_TENANT, TenantId};
use tenure_workflows::charge::{self, ChargeWorkflow};
use tenure_workflows::money::Money;
use tenure_workflows::ports::mail::{MailConfig, Mailer};
use tenure_workflows::ports::stripe::{Charge, Stripe};
use tenure_workflows::product::Sources;
use tenure_workflows::subscription::intent::When;
use tenure_workflows::subscription::money::CreditPolicy;
use tenure_workflows::subscription::{NewSubscription, Wanted};
use tenure_workflows::tenant::{NewTenant, TenantRow};
use tenure_workflows::webhook::watch::{self, WebhookWatchWorkflow};
use tenure_workflows::{Environment, clock, invoice, notice, subscription, tenant, webhook};

use crate::support;
use crate::support::app::SANDBOX_KEY;
use crate::support::matrix::{assert_borne, borne_somewhere};

const HOUR: Duration = Duration::from_secs(3_600);
const DAY: Duration = Duration::from_secs(24 * 3_600);

/// The provider and the mails of one play.
pub(crate) struct Outside {
    sandbox: SandboxHandle,
    mails: Arc<TempDir>,
    environment: Environment,
    /// By how many milliseconds the time is moved that the environment's own connections tell.
    ahead: Arc<AtomicI64>,
}

pub(crate) async fn scene() -> Scene<Outside> {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let database = support::database_with_catalogue().await;
    let sandbox = Sandbox::start(SandboxConfig::new(SANDBOX_KEY));
    let sandbox = sandbox.await.unwrap();
    let mails = Arc::new(tempfile::tempdir().unwrap());
    let mail = MailConfig::Capture {
        folder: mails.path().to_owned(),
        from: "Tenure <billing@tenure.example>".to_owned(),
    };
    let ahead = Arc::<AtomicI64>::default();
    let config = PoolConfig {
        max_connections: 2,
        clock_offset_ms: Some(ahead.clone()),
        ..PoolConfig::default()
    };
    let pool = tenure_engine::connect(database.clone(), &config);
    let environment = Environment::new(
        Stripe::new(sandbox.url(), SANDBOX_KEY).unwrap(),
        Mailer::new(&mail).unwrap(),
        pool.await.unwrap(),
        Sources::default(),
    );
    Scene {
        database,
        workflows: tenure_workflows::workflows(&environment),
        outside: Outside {
            sandbox,
            mails,
            environment,
            ahead,
        },
    }
}

/// What must not depend on what went wrong.
#[derive(Debug, PartialEq)]
pub(crate) struct Facts {
    pub(crate) subscriptions: Vec<String>,
    pub(crate) invoices: Vec<String>,
    pub(crate) charges: Vec<usize>,
    pub(crate) refunded: Vec<i64>,
    pub(crate) notices: Vec<String>,
    files: usize,
}

pub(crate) async fn facts(play: &Play, outside: &Outside) -> Result<Facts, PlayError> {
    let tenant = play.tenant();
    let mut tx = tenure_engine::begin_for(play.client().pool(), tenant).await?;
    let subscriptions = subscription::list(&mut tx, tenant).await?;
    let invoices = invoice::list(&mut tx, tenant).await?;
    let mut notices: Vec<String> = notice::list(&mut tx, Some(tenant), None, 200)
        .await?
        .into_iter()
        .map(|notice| format!("{} {}", notice.kind, notice.status))
        .collect();
    notices.sort();
    let charges = invoices.iter().map(|invoice| {
        let of = invoice.invoice_id.to_string();
        let charges = outside.sandbox.control().charges(&[("invoice", &of)]);
        charges.iter().filter(|charge| charge.paid).count()
    });
    let refunded = invoices.iter().map(|invoice| {
        let of = invoice.invoice_id.to_string();
        let charges = outside.sandbox.control().charges(&[("invoice", &of)]);
        charges.iter().map(|charge| charge.amount_refunded).sum()
    });
    Ok(Facts {
        charges: charges.collect(),
        refunded: refunded.collect(),
        subscriptions: subscriptions
            .into_iter()
            .map(|(_, status)| format!("{status:?}"))
            .collect(),
        invoices: invoices
            .into_iter()
            .map(|row| format!("{:?} {} {}", row.number, row.status, row.total))
            .collect(),
        notices,
        files: std::fs::read_dir(outside.mails.path())?.count(),
    })
}

/// A tenant with a card.
pub(crate) async fn arrive(
    play: &mut Play,
    card: &str,
    test_clock: Option<DateTime<Utc>>,
) -> Result<TenantRow, PlayError> {
    let new = NewTenant {
        name: "Acme".to_owned(),
        email: "billing@acme.example".to_owned(),
        zone: "Europe/Berlin".to_owned(),
        locale: None,
        test_clock,
        legal_entity: None,
    };
    let client = play.client().clone();
    let mut tx = tenure_engine::begin(client.pool()).await?;
    let made = tenant::create(&client, &mut tx, &new).await?;
    tx.commit().await?;
    play.speak_for(made.tenant_id);
    give(play, card).await?;
    Ok(made)
}

/// Gives the tenant a card.
pub(crate) async fn give(play: &Play, card: &str) -> Result<(), PlayError> {
    let (client, tenant) = (play.client(), play.tenant());
    for _ in 0..play.times(card) {
        let mut tx = tenure_engine::begin_for(client.pool(), tenant).await?;
        tenant::attach_method(client, &mut tx, tenant, card, card, None).await?;
        tx.commit().await?;
    }
    play.settle().await
}

pub(crate) async fn subscribe(play: &Play, plan: &str) -> Result<uuid::Uuid, PlayError> {
    let (client, tenant) = (play.client(), play.tenant());
    let new = NewSubscription {
        plan: plan.to_owned(),
        currency: "EUR".to_owned(),
        key: Some("main".to_owned()),
        ..NewSubscription::default()
    };
    let mut tx = tenure_engine::begin_for(client.pool(), tenant).await?;
    let (row, ..) = subscription::create(client, &mut tx, tenant, &new).await?;
    tx.commit().await?;
    play.settle().await?;
    Ok(row.subscription_id)
}

/// Asks for something to be done to the subscription at once.
async fn ask(
    play: &Play,
    subscription: uuid::Uuid,
    name: &str,
    wanted: Wanted,
) -> Result<(), PlayError> {
    let (client, tenant) = (play.client(), play.tenant());
    for _ in 0..play.times(name) {
        let mut tx = tenure_engine::begin_for(client.pool(), tenant).await?;
        let now = When::Now;
        subscription::act(client, &mut tx, tenant, subscription, name, &wanted, now).await?;
        tx.commit().await?;
    }
    play.settle().await
}

async fn cancel(
    play: &Play,
    subscription: uuid::Uuid,
    credit: CreditPolicy,
) -> Result<(), PlayError> {
    ask(play, subscription, "cancel", Wanted::Cancel { credit }).await
}

async fn pass(play: &Play, days: u32) -> Result<(), PlayError> {
    play.advance(days * DAY);
    play.settle().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_trial_that_is_paid_and_cancelled_bears_every_fault() {
    let script = async |play: &mut Play, outside: &Outside| {
        arrive(play, "pm_card_visa", None).await?;
        let subscription = subscribe(play, "starter-monthly").await?;
        pass(play, 12).await?;
        pass(play, 3).await?;
        cancel(play, subscription, CreditPolicy::None).await?;
        facts(play, outside).await
    };
    let report = fault_matrix(scene, script).await.unwrap();
    assert_borne(&report, &["tenant", "subscription", "invoice", "payment"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cancel_with_money_back_bears_every_fault() {
    let script = async |play: &mut Play, outside: &Outside| {
        arrive(play, "pm_card_visa", None).await?;
        let subscription = subscribe(play, "team-monthly").await?;
        pass(play, 10).await?;
        cancel(play, subscription, CreditPolicy::Refund).await?;
        facts(play, outside).await
    };
    let report = fault_matrix(scene, script).await.unwrap();
    assert_borne(&report, &["refund"]);
    assert!(report.expected.contains("refunded: ["), "{report}");
    assert!(!report.expected.contains("refunded: [0]"), "{report}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_card_that_fails_and_is_mended_bears_every_fault() {
    let script = async |play: &mut Play, outside: &Outside| {
        arrive(play, "pm_card_visa", None).await?;
        subscribe(play, "team-monthly").await?;
        give(play, "pm_sandbox_insufficient_funds").await?;
        pass(play, 31).await?;
        pass(play, 1).await?;
        let owing = facts(play, outside).await?;
        give(play, "pm_card_mastercard").await?;
        Ok((owing, facts(play, outside).await?))
    };
    let report = fault_matrix(scene, script).await.unwrap();
    assert_borne(&report, &["dunning", "notice"]);
    assert!(report.expected.contains("PastDue"), "{report}");
    assert!(report.expected.contains("[\"Active\"]"), "{report}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pause_and_what_goes_on_after_it_bear_every_fault() {
    let script = async |play: &mut Play, outside: &Outside| {
        arrive(play, "pm_card_visa", None).await?;
        let subscription = subscribe(play, "team-monthly").await?;
        pass(play, 5).await?;
        ask(play, subscription, "pause", Wanted::Pause { until: None }).await?;
        let paused = facts(play, outside).await?;
        // Longer than the period that was paid for.
        pass(play, 40).await?;
        ask(play, subscription, "resume", Wanted::Resume).await?;
        Ok((paused, facts(play, outside).await?))
    };
    let report = fault_matrix(scene, script).await.unwrap();
    assert!(report.is_clean(), "{report}");
    assert!(report.expected.contains("[\"Paused\"]"), "{report}");
    assert!(report.expected.contains("[\"Active\"]"), "{report}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_of_seats_and_of_plan_bears_every_fault() {
    let script = async |play: &mut Play, outside: &Outside| {
        arrive(play, "pm_card_visa", None).await?;
        let subscription = subscribe(play, "team-monthly").await?;
        pass(play, 10).await?;
        let more = Wanted::Change {
            plan: None,
            newest: false,
            seats: Some(8),
            add_ons: None,
        };
        ask(play, subscription, "more", more).await?;
        let other = Wanted::Change {
            plan: Some("team-yearly".to_owned()),
            newest: false,
            seats: None,
            add_ons: None,
        };
        ask(play, subscription, "other", other).await?;
        facts(play, outside).await
    };
    let report = fault_matrix(scene, script).await.unwrap();
    assert!(report.is_clean(), "{report}");
    assert!(report.expected.contains("charges: [1, 1, 1]"), "{report}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_first_payment_that_comes_late_bears_every_fault() {
    let script = async |play: &mut Play, outside: &Outside| {
        arrive(play, "pm_sandbox_insufficient_funds", None).await?;
        subscribe(play, "scale-monthly").await?;
        let waits = facts(play, outside).await?;
        play.advance(HOUR * 5);
        give(play, "pm_card_visa").await?;
        Ok((waits, facts(play, outside).await?))
    };
    let report = fault_matrix(scene, script).await.unwrap();
    assert!(report.is_clean(), "{report}");
    assert!(report.expected.contains("[\"Incomplete\"]"), "{report}");
    assert!(report.expected.contains("[\"Active\"]"), "{report}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_first_payment_that_never_comes_bears_every_fault() {
    let script = async |play: &mut Play, outside: &Outside| {
        arrive(play, "pm_sandbox_insufficient_funds", None).await?;
        subscribe(play, "scale-monthly").await?;
        pass(play, 1).await?;
        facts(play, outside).await
    };
    let report = fault_matrix(scene, script).await.unwrap();
    assert!(report.is_clean(), "{report}");
    assert!(report.expected.contains("[\"Ended\"]"), "{report}");
    assert!(report.expected.contains("charges: [0]"), "{report}");
}

/// What stands on the balance and how that came about, and what was charged for each invoice.
async fn money(play: &Play, outside: &Outside) -> Result<Vec<String>, PlayError> {
    let tenant = play.tenant();
    let mut tx = tenure_engine::begin_for(play.client().pool(), tenant).await?;
    let (balances, entries) = invoice::find_credit(&mut tx, tenant).await?;
    let mut told: Vec<String> = balances
        .iter()
        .map(|one| format!("balance {one}"))
        .collect();
    told.extend(
        entries
            .iter()
            .map(|one| format!("{} {}", one.reason, one.amount)),
    );
    for row in invoice::list(&mut tx, tenant).await? {
        let of = row.invoice_id.to_string();
        let charges = outside.sandbox.control().charges(&[("invoice", &of)]);
        let paid = charges.iter().filter(|charge| charge.paid);
        told.extend(paid.map(|charge| format!("charged {}", charge.amount)));
    }
    Ok(told)
}

async fn grant(play: &Play, amount: &str) -> Result<(), PlayError> {
    let (client, tenant) = (play.client(), play.tenant());
    let amount = Money::new(amount.parse()?, "EUR".parse()?);
    let mut tx = tenure_engine::begin_for(client.pool(), tenant).await?;
    invoice::grant_credit(client, &mut tx, tenant, amount, "a gift", "suite").await?;
    tx.commit().await?;
    play.settle().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rest_that_is_carried_over_and_collected_bears_every_fault() {
    let script = async |play: &mut Play, outside: &Outside| {
        arrive(play, "pm_card_visa", None).await?;
        subscribe(play, "team-monthly").await?;
        grant(play, "48.70").await?;
        pass(play, 31).await?;
        let carried = money(play, outside).await?;
        pass(play, 31).await?;
        Ok((
            carried,
            money(play, outside).await?,
            facts(play, outside).await?,
        ))
    };
    let report = fault_matrix(scene, script).await.unwrap();
    assert!(report.is_clean(), "{report}");
    for told in [
        "carried_over -0.30 EUR",
        "balance -0.30 EUR",
        "collected 0.30 EUR",
        "balance 0.00 EUR",
        "charged 4930",
    ] {
        assert!(report.expected.contains(told), "{told}: {report}");
    }
}

/// Moves a test clock; its run looks every few milliseconds whether all is quiet.
async fn move_clock(play: &Play, clock: ClockId, by: &str) -> Result<(), PlayError> {
    let client = play.client();
    let mut tx = tenure_engine::begin(client.pool()).await?;
    let now = clock::find(&mut tx, clock).await?.now;
    clock::advance(client, &mut tx, clock, clock::target_after(now, by)?).await?;
    tx.commit().await?;
    loop {
        play.settle().await?;
        let mut conn = client.pool().acquire().await?;
        if clock::find(&mut conn, clock).await?.target.is_none() {
            return Ok(());
        }
        play.advance(Duration::from_millis(20));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_advance_of_a_clock_bears_every_fault() {
    let script = async |play: &mut Play, outside: &Outside| {
        let start = "2027-01-31T09:00:00Z".parse()?;
        let tenant = arrive(play, "pm_card_visa", Some(start)).await?;
        let clock = tenant.test_clock_id.ok_or("no clock")?;
        move_clock(play, clock, "40d").await?;
        let mut conn = play.client().pool().acquire().await?;
        let stands = clock::find(&mut conn, clock).await?.now;
        Ok((stands, facts(play, outside).await?))
    };
    let report = fault_matrix(scene, script).await.unwrap();
    assert_borne(&report, &["clock-advance"]);
}

/// A scene in which a tenant has taken a plan, and what followed from that is over.
struct Begun {
    outside: Outside,
    tenant: TenantId,
}

/// Lets something happen before a story, with nothing broken: other stories break it.
async fn after(begin: impl AsyncFn(&mut Play) -> Result<(), PlayError>) -> Scene<Begun> {
    let Scene {
        database,
        workflows,
        outside,
    } = scene().await;
    let mut play = Play::open(database.clone(), workflows).await.unwrap();
    begin(&mut play).await.unwrap();
    let tenant = play.tenant();
    play.close().await;
    Scene {
        database,
        workflows: tenure_workflows::workflows(&outside.environment),
        outside: Begun { outside, tenant },
    }
}

/// Gives back a part of the only invoice.
async fn give_back(play: &Play, amount: &str) -> Result<(), PlayError> {
    let (client, tenant) = (play.client(), play.tenant());
    let wanted = invoice::Wanted {
        amount: Some(Money::new(amount.parse()?, "EUR".parse()?)),
        refund: true,
        reason: "an outage".to_owned(),
        author: "suite".to_owned(),
    };
    let mut tx = tenure_engine::begin_for(client.pool(), tenant).await?;
    let paid = invoice::list(&mut tx, tenant).await?.remove(0).invoice_id;
    invoice::give_credit_note(client, &mut tx, tenant, paid, &wanted).await?;
    tx.commit().await?;
    play.settle().await
}

/// The provider's only charge.
fn only_charge(outside: &Outside) -> Result<ChargeSummary, PlayError> {
    let charges = outside.sandbox.control().charges(&[]);
    Ok(charges.into_iter().next().ok_or("nothing was charged")?)
}

/// A webhook about a charge, each kind once, and as often as the matrix wants.
async fn hear(play: &Play, charge: &ChargeSummary, kind: &str) -> Result<(), PlayError> {
    let client = play.client();
    let intent = &charge.payment_intent;
    let object = json!({ "id": intent, "payment_intent": intent, "metadata": charge.metadata });
    let event = json!({ "id": format!("evt_{kind}"), "type": kind, "data": { "object": object } });
    for _ in 0..play.times(kind) {
        let mut tx = tenure_engine::begin(client.pool()).await?;
        webhook::receive(client, &mut tx, event.to_string().as_bytes()).await?;
        tx.commit().await?;
    }
    play.settle().await
}

async fn disputes(play: &Play) -> Result<Vec<String>, PlayError> {
    let tenant = play.tenant();
    let mut tx = tenure_engine::begin_for(play.client().pool(), tenant).await?;
    let rows = charge::list_disputes(&mut tx, tenant).await?;
    let told = rows
        .iter()
        .map(|row| format!("{} {}", row.standing, row.amount));
    Ok(told.collect())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refund_that_comes_back_and_a_dispute_bear_every_fault() {
    let scene = async || {
        after(async |play: &mut Play| {
            arrive(play, "pm_card_visa", None).await?;
            subscribe(play, "team-monthly").await?;
            give_back(play, "10.00").await
        })
        .await
    };
    let script = async |play: &mut Play, begun: &Begun| {
        let outside = &begun.outside;
        play.speak_for(begun.tenant);
        let (control, charge) = (outside.sandbox.control(), only_charge(outside)?);
        let mut tx = tenure_engine::begin_for(play.client().pool(), begun.tenant).await?;
        let refund: String = sqlx::query_scalar("select provider_refund_id from app.refund")
            .fetch_one(&mut *tx)
            .await?;
        tx.rollback().await?;
        control.settle_refund(&refund, Some("lost_or_stolen_card"))?;
        hear(play, &charge, "refund.failed").await?;
        let dispute = control.open_dispute(&charge.id, "fraudulent", None, false)?;
        hear(play, &charge, "charge.dispute.created").await?;
        let open = disputes(play).await?;
        // Nobody tells of its end: the charge's run looks by itself.
        control.close_dispute(&dispute, true)?;
        pass(play, 1).await?;
        let found = (money(play, outside).await?, facts(play, outside).await?);
        Ok((open, disputes(play).await?, found))
    };
    let report = fault_matrix(scene, script).await.unwrap();
    assert_borne(&report, &["charge"]);
    for told in ["[\"open ", "[\"won ", "refund_failed 10.00 EUR"] {
        assert!(report.expected.contains(told), "{told}: {report}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn money_that_comes_after_its_time_bears_every_fault() {
    let scene = async || {
        after(async |play: &mut Play| {
            arrive(play, "pm_sandbox_processing", None).await?;
            subscribe(play, "team-monthly").await?;
            Ok(())
        })
        .await
    };
    let script = async |play: &mut Play, begun: &Begun| {
        let outside = &begun.outside;
        play.speak_for(begun.tenant);
        // The bank has a week, and is asked on the day after.
        pass(play, 7).await?;
        pass(play, 1).await?;
        let owing = facts(play, outside).await?;
        let charge = only_charge(outside)?;
        let control = outside.sandbox.control();
        control.settle_payment(&charge.payment_intent, None)?;
        hear(play, &charge, "payment_intent.succeeded").await?;
        let money = money(play, outside).await?;
        Ok((owing, money, facts(play, outside).await?))
    };
    let report = fault_matrix(scene, script).await.unwrap();
    assert_borne(&report, &["charge"]);
    for told in ["[\"PastDue\"]", "late_payment ", "[\"Active\"]"] {
        assert!(report.expected.contains(told), "{told}: {report}");
    }
}

/// Lets what the workflows do by connections of their own happen at the play's time.
async fn keep_pace(play: &Play, outside: &Outside) -> Result<(), PlayError> {
    let asked = "select (extract(epoch from engine.now() - now()) * 1000)::bigint";
    let ahead: i64 = sqlx::query_scalar(asked)
        .fetch_one(play.client().pool())
        .await?;
    outside.ahead.store(ahead, Ordering::Relaxed);
    Ok(())
}

/// Sends the watch back to before all that the provider keeps: plays begin on the day after, and the
/// provider tells real time.
async fn look_back(play: &Play, run: RunId) -> Result<(), PlayError> {
    let state = watch::State::Watching {
        upto: watch::Upto::Instant("2020-01-01T00:00:00Z".parse()?),
        looks: 0,
    };
    let verb = Verb::Move {
        state: serde_json::to_value(state)?,
    };
    let act = Act {
        actor: "maria".to_owned(),
        role: "operator".to_owned(),
        reason: "it has begun too late".to_owned(),
        revision: play.detail(run).await?.summary.revision(),
    };
    let client = play.client();
    let mut tx = tenure_engine::begin(client.pool()).await?;
    operator::intervene(&mut tx, client.registry(), run, &verb, &act).await?;
    tx.commit().await?;
    play.settle().await
}

/// Two payments of which no webhook tells: one is about a run of ours, one is somebody else's.
async fn pay_unheard(outside: &Outside, tenant: TenantId, run: RunId) -> Result<(), PlayError> {
    let control = outside.sandbox.control();
    let endpoint = WebhookEndpoint::new("http://localhost:9/", "whsec_suite");
    control.put_webhook_endpoint(None, endpoint)?;
    control.set_webhook_mode(WebhookMode::Never)?;
    let stripe = Stripe::new(outside.sandbox.url(), SANDBOX_KEY)?;
    let customer = stripe
        .create_customer("beech", "Beech", "office@beech.example", None, "beech")
        .await
        .unwrap();
    let method = stripe.attach_method(&customer, "pm_card_visa", "method");
    let method = method.await.unwrap()?.id;
    let ours = HashMap::from([
        ("tenant".to_owned(), tenant.to_string()),
        ("run".to_owned(), run.to_string()),
    ]);
    for (key, metadata) in [("ours", ours), ("theirs", HashMap::new())] {
        let charge = Charge {
            customer: customer.clone(),
            method: method.clone(),
            money: Money::new("49.00".parse()?, "EUR".parse()?),
            key: key.to_owned(),
            metadata,
        };
        stripe.charge(&charge).await.unwrap();
    }
    Ok(())
}

/// What the watch finds of what was never told, and whom it tells.
async fn watch_over(play: &mut Play, outside: &Outside) -> Result<Vec<String>, PlayError> {
    // It waits for whatever comes, and knows no charge.
    let of = charge::Input {
        invoice_id: uuid::Uuid::nil(),
        generation: 1,
    };
    let (tenant, waits) = (
        play.tenant(),
        play.start::<ChargeWorkflow>("unknown", &of).await?,
    );
    play.speak_for(SYSTEM_TENANT);
    let input = watch::Input {};
    let run = play
        .start::<WebhookWatchWorkflow>(watch::KEY, &input)
        .await?;
    play.settle().await?;
    look_back(play, run).await?;
    pay_unheard(outside, tenant, waits).await?;
    keep_pace(play, outside).await?;
    play.signal::<WebhookWatchWorkflow>(run, "look", &watch::Signal::Look)
        .await?;
    play.settle().await?;
    // What nobody could be found for is tried again after a minute.
    play.advance(Duration::from_secs(120));
    keep_pace(play, outside).await?;
    play.settle().await?;
    let mut tx = tenure_engine::begin(play.client().pool()).await?;
    let events = webhook::list(&mut tx, None, 100).await?;
    tx.rollback().await?;
    let mut found: Vec<String> = events
        .iter()
        .map(|one| {
            let (status, listed, tries) = (&one.status, one.listed, one.tries);
            format!(
                "{} {status}, listed {listed}, tries {tries}",
                one.event_type
            )
        })
        .collect();
    found.sort();
    let heard: i64 = sqlx::query_scalar("select count(*) from engine.inbox where run_id = $1")
        .bind(waits.0)
        .fetch_one(play.client().pool())
        .await?;
    found.push(format!("heard {heard}"));
    Ok(found)
}

#[tokio::test(flavor = "multi_thread")]
async fn the_watch_over_webhooks_bears_every_fault() {
    let script = async |play: &mut Play, outside: &Outside| {
        let client = play.client().clone();
        outside.environment.connect(Some(client));
        let found = watch_over(play, outside).await;
        // The client holds the workflows, and they hold the environment.
        outside.environment.connect(None);
        found
    };
    let report = fault_matrix(scene, script).await.unwrap();
    assert_borne(&report, &["webhook-watch"]);
    for told in [
        "payment_intent.succeeded mapped, listed true, tries 0",
        "payment_intent.succeeded quarantined, listed true, tries 1",
        "heard 1",
    ] {
        assert!(report.expected.contains(told), "{told}: {report}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_workflow_of_the_project_has_a_matrix() {
    let registry = scene().await.workflows.build().unwrap();
    let borne = borne_somewhere();
    let left: Vec<&str> = registry
        .versions()
        .into_keys()
        .filter(|workflow| !borne.contains(*workflow))
        .collect();
    assert!(left.is_empty(), "no story breaks visits of {left:?}");
}

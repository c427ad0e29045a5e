//! The product's own workflows through every fault: the same invoices, one charge for each that is
//! paid, each mail once.

use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Utc};
use stripe_sandbox::{Sandbox, SandboxConfig, SandboxHandle};
use tempfile::TempDir;
use tenure_engine::testkit::{Play, PlayError, Scene, fault_matrix};
use tenure_engine::{ClockId, PoolConfig};
use tenure_workflows::money::Money;
use tenure_workflows::ports::mail::{MailConfig, Mailer};
use tenure_workflows::ports::stripe::Stripe;
use tenure_workflows::product::Sources;
use tenure_workflows::subscription::intent::When;
use tenure_workflows::subscription::money::CreditPolicy;
use tenure_workflows::subscription::{NewSubscription, Wanted};
use tenure_workflows::tenant::{NewTenant, TenantRow};
use tenure_workflows::{Environment, clock, invoice, notice, subscription, tenant};

use crate::support;
use crate::support::app::{SANDBOX_KEY, seed};

const HOUR: Duration = Duration::from_secs(3_600);
const DAY: Duration = Duration::from_secs(24 * 3_600);

/// The provider and the mails of one play.
pub(crate) struct Outside {
    sandbox: SandboxHandle,
    mails: Arc<TempDir>,
}

pub(crate) async fn scene() -> Scene<Outside> {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let database = support::database().await;
    seed(&database).await;
    let sandbox = Sandbox::start(SandboxConfig::new(SANDBOX_KEY));
    let sandbox = sandbox.await.unwrap();
    let mails = Arc::new(tempfile::tempdir().unwrap());
    let mail = MailConfig::Capture {
        folder: mails.path().to_owned(),
        from: "Tenure <billing@tenure.example>".to_owned(),
    };
    let config = PoolConfig {
        max_connections: 2,
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
        outside: Outside { sandbox, mails },
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
    assert!(report.is_clean(), "{report}");
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
    assert!(report.is_clean(), "{report}");
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
    assert!(report.is_clean(), "{report}");
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
    assert!(report.is_clean(), "{report}");
}

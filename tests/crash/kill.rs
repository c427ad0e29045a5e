//! The process is killed: at many moments of the story, and at the worst one.

use nix::sys::signal::Signal;
use sqlx::postgres::PgConnectOptions;
use tenure_client::{
    AttachPaymentMethod, Client, ClientError, IdempotencyKey, NewSubscription, NewTenant,
    RunFilter, RunStatus, Why,
};

use super::{Move, STORY, Stage, left, ready};
use crate::support::app::{Customer, Subscriber};
use crate::support::{self, eventually};

#[tokio::test(flavor = "multi_thread")]
async fn kill_9_at_any_moment_of_the_story_changes_nothing() {
    let mut stage = Stage::set().await;
    let client = stage.client.clone();
    let make = Customer { client: &client };
    let args = (
        "2027-01-31T09:00:00Z",
        "Europe/Berlin",
        "starter-monthly",
        "EUR",
        "pm_card_visa",
    );
    let calm = make.subscribe(args.0, args.1, args.2, args.3, args.4).await;
    for (before, by, _) in STORY {
        before.make(&calm).await;
        calm.advance(by).await;
    }
    let expected = left(&calm).await;
    let paid = expected.0.iter().filter(|line| line.contains("Paid"));
    assert_eq!(paid.count(), 3, "{expected:?}");

    let killed = make.subscribe(args.0, args.1, args.2, args.3, args.4).await;
    let mut under_way = 0;
    for (before, by, kills) in STORY {
        before.make(&killed).await;
        killed.begin_advance(by).await;
        for looks in kills {
            for _ in 0..*looks {
                if killed.is_ready().await.unwrap_or(false) {
                    break;
                }
            }
            under_way += usize::from(!killed.is_ready().await.unwrap_or(false));
            stage.server.kill();
            stage
                .sandbox
                .control()
                .forget_idempotency_keys(None)
                .unwrap();
            stage.server.start_ready(&client).await;
        }
        ready(&killed).await;
    }
    assert!(
        under_way >= 5,
        "only {under_way} kills met the story under way"
    );
    assert_eq!(left(&killed).await, expected);
    stage.assert_once(&killed, 3).await;
    stage.server.signal(Signal::SIGTERM);
    assert!(stage.server.wait(), "an orderly stop is a success");
}

/// A request is killed when all of it is done and its answer is about to be kept; nobody has heard of
/// it, so the same is sent again, under the same key.
async fn killed_within<T>(
    stage: &mut Stage,
    options: &PgConnectOptions,
    send: impl AsyncFn() -> Result<T, ClientError>,
) -> T {
    let mut keeper = support::connect(options).await;
    sqlx::raw_sql("begin; lock table app.idempotency in share mode")
        .execute(&mut keeper)
        .await
        .unwrap();
    let kill = async {
        eventually("the request waits within its transaction", async || {
            sqlx::query_scalar(
                "select exists (select from pg_locks
                 where not granted and relation = 'app.idempotency'::regclass)",
            )
            .fetch_one(&mut support::connect(options).await)
            .await
            .unwrap()
        })
        .await;
        stage.server.kill();
    };
    let (lost, ()) = tokio::join!(send(), kill);
    assert!(lost.is_err(), "it was answered before the kill");
    sqlx::raw_sql("commit").execute(&mut keeper).await.unwrap();
    let client = stage.client.clone();
    stage.server.start_ready(&client).await;
    send().await.unwrap()
}

/// A starter, each of whose requests is killed.
async fn starter_under_kills<'a>(
    stage: &mut Stage,
    options: &PgConnectOptions,
    client: &'a Client,
) -> Subscriber<'a> {
    let new = NewTenant {
        name: "Acme".to_owned(),
        email: "billing@acme.example".to_owned(),
        zone: "UTC".to_owned(),
        locale: None,
        test_clock: Some("2027-01-31T09:00:00Z".parse().unwrap()),
        legal_entity: None,
    };
    let key = IdempotencyKey::generate();
    let make = async || client.create_tenant(&new, &key).await;
    let tenant = killed_within(stage, options, make).await;
    let mut starter = Subscriber {
        client,
        clock: tenant.test_clock_id.unwrap(),
        tenant,
        subscription: uuid::Uuid::nil(),
    };
    let attach = AttachPaymentMethod {
        payment_method: "pm_card_visa".to_owned(),
        position: None,
    };
    let (tenant, key) = (starter.tenant.tenant_id, IdempotencyKey::generate());
    let send = async || client.attach_payment_method(tenant, &attach, &key).await;
    killed_within(stage, options, send).await;
    starter.advance("0h").await;
    let new = NewSubscription {
        plan: "starter-monthly".to_owned(),
        currency: "EUR".to_owned(),
        ..NewSubscription::default()
    };
    let key = IdempotencyKey::generate();
    let send = async || client.subscribe(tenant, &new, &key).await;
    let made = killed_within(stage, options, send).await;
    starter.subscription = made.subscription_id;
    starter.advance("0h").await;
    starter
}

#[tokio::test(flavor = "multi_thread")]
async fn a_kill_within_each_request_of_the_story_changes_nothing_once_it_is_sent_again() {
    let database = support::database_url().await;
    let options: PgConnectOptions = database.parse().unwrap();
    let mut stage = Stage::at(database, &options).await;
    let client = stage.client.clone();
    let calm = Customer { client: &client }.starter().await;
    for (before, by, _) in STORY {
        before.make(&calm).await;
        calm.advance(by).await;
    }
    let expected = left(&calm).await;

    let killed = starter_under_kills(&mut stage, &options, &client).await;
    for (before, by, _) in STORY {
        if !matches!(before, Move::Nothing) {
            let key = IdempotencyKey::generate();
            let send = async || before.send(&killed, &key).await;
            killed_within(&mut stage, &options, send).await;
            killed.advance("0h").await;
        }
        killed.advance(by).await;
    }
    assert_eq!(left(&killed).await, expected);
    stage.assert_once(&killed, 3).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_kill_between_charge_and_record_charges_once_though_the_provider_forgot_the_key() {
    let mut stage = Stage::set().await;
    let client = stage.client.clone();
    let make = Customer { client: &client };
    let customer = make.starter().await;
    stage.charge_without_an_answer(&customer).await;
    stage.server.kill();
    stage
        .sandbox
        .control()
        .forget_idempotency_keys(None)
        .unwrap();
    stage.server.start_ready(&client).await;
    ready(&customer).await;
    let recovered = stage.metric("tenure_recovered_runs_total").await;
    assert!(
        recovered >= 1.0,
        "nothing was taken over from the killed one"
    );
    let ledger = customer.ledger().await;
    assert!(
        ledger.len() == 1 && ledger[0].contains("Paid"),
        "{ledger:?}"
    );
    stage.assert_once(&customer, 1).await;
}

/// Until when the lease is that the explanation speaks of.
fn lease(why: &Why) -> Option<&str> {
    let mut facts = why.evidence.iter();
    let fact = facts.find(|fact| fact.label == "lease until")?;
    Some(&fact.value)
}

#[tokio::test(flavor = "multi_thread")]
async fn why_says_until_when_a_killed_worker_is_waited_for() {
    let mut stage = Stage::set().await;
    let client = stage.client.clone();
    let make = Customer { client: &client };
    let customer = make.starter().await;
    stage.server.signal(Signal::SIGTERM);
    assert!(stage.server.wait());
    // Long enough that the next process is there before the lease ends.
    let mut command = stage.server.command();
    command.env("TENURE_LEASE_SECONDS", "30");
    stage.server.start_by(command);
    stage.server.ready(&client).await;
    stage.charge_without_an_answer(&customer).await;
    let filter = RunFilter {
        workflow: Some("payment".to_owned()),
        status: Some(RunStatus::Running),
        ..RunFilter::default()
    };
    let charging = client.list_runs(&filter).await.unwrap().items[0].run_id;
    stage.server.kill();

    // What nobody renews is waited for until it ends, and that is what is said.
    stage.server.start_ready(&client).await;
    let told = client.run(charging).await.unwrap().why;
    assert_eq!(told.kind, "running", "{told:?}");
    let until = lease(&told).unwrap().to_owned();
    let words = format!("If it is not heard of before {until}, another takes it over.");
    assert!(told.summary.contains(&words), "{told:?}");
    eventually("it is taken over", async || {
        let run = client.run(charging).await.unwrap();
        let waits = run.why.kind == "running" && lease(&run.why) == Some(&until);
        !waits && run.summary.finished_at.is_some()
    })
    .await;
    ready(&customer).await;
    stage.assert_once(&customer, 1).await;
}

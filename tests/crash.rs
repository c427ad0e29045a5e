//! The story survives: kill -9, a frozen process, a provider that forgets, a database that goes away.

use std::collections::BTreeMap;

use nix::sys::signal::Signal;
use stripe_sandbox::{Sandbox, SandboxConfig, SandboxHandle, WebhookEndpoint};
use tenure_api::postgres::{Cluster, ClusterConfig, Durability};
use tenure_client::{CancelSubscription, CancelWhen, Client, IdempotencyKey, MailFilter};
use tenure_engine::Status;

use crate::engine::workflows::{Errand, Outside, registry};
use crate::support::app::{Customer, SANDBOX_KEY, Subscriber, WEBHOOK_SECRET, seed};
use crate::support::engine::TestEngine;
use crate::support::process::Server;
use crate::support::smtp::{SmtpServer, header};
use crate::support::{self, eventually};

/// Everything around a server that can be killed.
struct Stage {
    server: Server,
    client: Client,
    token: String,
    sandbox: SandboxHandle,
    smtp: SmtpServer,
}

impl Stage {
    async fn set() -> Self {
        let smtp = SmtpServer::start().await;
        let database = support::database_url().await;
        let token = seed(&database.parse().unwrap()).await;
        let sandbox = Sandbox::start(SandboxConfig::new(SANDBOX_KEY))
            .await
            .unwrap();
        let mut server = Server::new(database, sandbox.url().to_owned(), smtp.url());
        let hook = format!("{}/v1/webhooks/stripe", server.url());
        let endpoint = WebhookEndpoint::new(hook, WEBHOOK_SECRET);
        sandbox
            .control()
            .put_webhook_endpoint(Some("suite"), endpoint)
            .unwrap();
        let client = Client::new(&server.url(), &token).unwrap();
        server.start_ready(&client).await;
        Self {
            server,
            client,
            token,
            sandbox,
            smtp,
        }
    }

    /// Each invoice was charged once, and each mail came once or with the same id.
    async fn assert_once(&self, customer: &Subscriber<'_>, invoices: usize) {
        let tenant = customer.tenant.tenant_id.to_string();
        let mut paid: BTreeMap<String, usize> = BTreeMap::new();
        for charge in self.sandbox.control().charges(&[("tenant", &tenant)]) {
            if charge.paid {
                *paid.entry(charge.metadata["invoice"].clone()).or_default() += 1;
            }
        }
        assert_eq!(paid.len(), invoices);
        assert!(
            paid.values().all(|count| *count == 1),
            "charged twice: {paid:?}"
        );
        let mails = customer
            .client
            .list_mails(&MailFilter::default())
            .await
            .unwrap();
        assert!(mails.next_cursor.is_none(), "more mails than a page");
        let mut known: Vec<String> = mails
            .items
            .iter()
            .map(|mail| format!("<{}@tenure.example>", mail.notice_id))
            .collect();
        let mut came: Vec<String> = self
            .smtp
            .mails()
            .iter()
            .filter_map(|mail| header(mail, "message-id"))
            .collect();
        came.sort();
        came.dedup();
        known.sort();
        assert_eq!(came, known, "the server has other mails than were sent");
    }
}

async fn ready(customer: &Subscriber<'_>) {
    eventually("the clock is ready", async || {
        customer.is_ready().await.unwrap_or(false)
    })
    .await;
}

/// The story: what is done before the clock moves, how far it moves, and the looks at the clock
/// after which the server is killed meanwhile.
const STORY: [(Move, &str, &[usize]); 5] = [
    (Move::Nothing, "15d", &[0, 5]),
    (Move::Nothing, "1mo", &[2, 11]),
    (
        Move::Attach("pm_sandbox_insufficient_funds"),
        "1mo",
        &[1, 4, 17],
    ),
    (Move::Attach("pm_card_visa"), "1d", &[0]),
    (Move::Cancel, "2mo", &[0, 3]),
];

#[derive(Clone, Copy)]
enum Move {
    Nothing,
    Attach(&'static str),
    Cancel,
}

impl Move {
    async fn make(self, customer: &Subscriber<'_>) {
        match self {
            Self::Nothing => {}
            Self::Attach(method) => customer.attach(method).await,
            Self::Cancel => {
                let cancel = CancelSubscription {
                    when: CancelWhen::PeriodEnd,
                };
                let (tenant, id) = (customer.tenant.tenant_id, customer.subscription);
                let key = IdempotencyKey::generate();
                let sent = customer
                    .client
                    .cancel_subscription(tenant, id, &cancel, &key);
                sent.await.unwrap();
            }
        }
    }
}

/// What the story left behind.
async fn left(customer: &Subscriber<'_>) -> (Vec<String>, Vec<String>, String) {
    let subscription = customer.subscription().await;
    let end = format!("{:?} {:?}", subscription.status, subscription.ended_at);
    (customer.ledger().await, customer.mails().await, end)
}

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

#[tokio::test(flavor = "multi_thread")]
async fn a_kill_between_charge_and_record_charges_once_though_the_provider_forgot_the_key() {
    let mut stage = Stage::set().await;
    let client = stage.client.clone();
    let make = Customer { client: &client };
    let customer = make.starter().await;
    customer.begin_advance("15d").await;
    // The moment after the provider has charged: the answer is on its way or just recorded.
    let tenant = customer.tenant.tenant_id.to_string();
    eventually("the provider has charged", async || {
        !stage
            .sandbox
            .control()
            .charges(&[("tenant", &tenant)])
            .is_empty()
    })
    .await;
    stage.server.kill();
    stage
        .sandbox
        .control()
        .forget_idempotency_keys(None)
        .unwrap();
    stage.server.start_ready(&client).await;
    ready(&customer).await;
    assert_eq!(customer.ledger().await.len(), 1);
    assert!(customer.ledger().await[0].contains("Paid"));
    stage.assert_once(&customer, 1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_frozen_worker_writes_nothing_when_it_wakes() {
    let frozen = Stage::set().await;
    let client = frozen.client.clone();
    let make = Customer { client: &client };
    let customer = make.starter().await;
    customer.begin_advance("6mo").await;
    frozen.server.signal(Signal::SIGSTOP);
    // Another server on the same database takes over once the lease has ended.
    let mut other = frozen.server.twin();
    let beside = Client::new(&other.url(), &frozen.token).unwrap();
    other.start_ready(&beside).await;
    let seen = Subscriber {
        client: &beside,
        tenant: customer.tenant.clone(),
        clock: customer.clock,
        subscription: customer.subscription,
    };
    ready(&seen).await;
    let ledger = seen.ledger().await;
    assert_eq!(ledger.len(), 6);
    frozen.server.signal(Signal::SIGCONT);
    eventually("the woken server serves again", async || {
        client.readyz().await.is_ok()
    })
    .await;
    seen.advance("1mo").await;
    assert_eq!(seen.ledger().await[..6], ledger[..]);
    frozen.assert_once(&seen, 7).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_that_goes_away_at_once_loses_nothing() {
    let root = tempfile::tempdir().unwrap();
    use std::os::unix::fs::PermissionsExt as _;
    std::fs::set_permissions(root.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
    let mut cluster = Cluster::start(ClusterConfig {
        root: root.path().join("cluster"),
        binaries: support::binaries(),
        durability: Durability::Durable,
    })
    .await
    .unwrap();
    cluster.ensure_database("tenure").await.unwrap();
    let options = cluster.connect_options("tenure");
    support::migrate(options.clone()).await.unwrap();
    let outside = Outside::default();
    let engine = TestEngine::on(options, registry(&outside)).await;
    let worker = engine.worker().await;
    for round in 0..3 {
        let starts: Vec<_> = (0..300).map(|n| (format!("run-{round}-{n}"), 1)).collect();
        let mut conn = engine.pool().acquire().await.unwrap();
        let runs = engine
            .client
            .start_many::<Errand>(&mut conn, engine.tenant, &starts)
            .await;
        assert_eq!(runs.unwrap().len(), 300);
        drop(conn);
        engine.client.ring();
        eventually("some work is under way", async || {
            outside.keys("first").len() > round * 300 + 20
        })
        .await;
        cluster.stop_immediate().await;
        cluster.restart().await.unwrap();
        eventually("the database answers the engine", async || {
            sqlx::query("select 1").execute(engine.pool()).await.is_ok()
        })
        .await;
    }
    let all_complete = async || {
        let left: Result<i64, _> =
            sqlx::query_scalar("select count(*) from engine.run where status <> $1")
                .bind(Status::Completed.code())
                .fetch_one(engine.pool())
                .await;
        left.is_ok_and(|left| left == 0)
    };
    eventually("all runs complete", all_complete).await;
    worker.shutdown().await;
    let effects: i64 = sqlx::query_scalar("select count(*) from app.debt")
        .fetch_one(&mut support::connect(&engine.options).await)
        .await
        .unwrap();
    assert_eq!(effects, 900, "a database effect was lost or done twice");
    engine.assert_nothing_lost().await;
    cluster.stop().await;
}

//! The whole product in one process: API, worker, Stripe sandbox, captured mail, a clocked tenant.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use chrono::{DateTime, Utc};
use sqlx::postgres::PgConnectOptions;
use sqlx::{Connection as _, PgConnection};
use stripe_sandbox::{Sandbox, SandboxConfig, SandboxHandle, WebhookEndpoint};
use tenure_api::auth::{self, NewToken};
use tenure_api::config::StripeConfig;
use tenure_api::serve::{Running, ServeConfig, start};
use tenure_client::{
    ActOnRun, AdvanceTestClock, AttachPaymentMethod, Client, IdempotencyKey, Invoice,
    NewSubscription, NewTenant, PublishCatalog, Role, RunDetail, RunFilter, RunStatus,
    Subscription, Tenant, TestClockStatus,
};
use tenure_engine::seal::{LocalMasterKey, MasterKey};
use tenure_engine::{PoolConfig, TenantId, WorkerConfig};
use tenure_workflows::archive::ArchiveConfig;
use tenure_workflows::catalog;
use tenure_workflows::certificate::{LocalSigningKey, SigningKey};
use tenure_workflows::ports::mail::MailConfig;
use tenure_workflows::product::Sources;
use tokio::net::TcpListener;
use tokio::sync::Mutex;
use uuid::Uuid;

pub(crate) const SANDBOX_KEY: &str = "sk_test_suite";
pub(crate) const WEBHOOK_SECRET: &str = "whsec_suite";

/// How often a clock is looked at that is waited for.
const LOOK_EVERY: Duration = Duration::from_millis(15);
/// How long a clock may stand at one deadline.
const LONGEST_STAND: Duration = Duration::from_secs(60);

/// What signs the suite's certificates.
pub(crate) const CERTIFICATE_KEY: &str = "suite:AQIDBAUGBwgJCgsMDQ4PEBESExQVFhcYGRobHB0eHyA=";

/// Publishes a catalogue.
pub(crate) fn for_a_story() -> PublishCatalog {
    PublishCatalog {
        dry_run: None,
        reason: Some("a story".to_owned()),
    }
}

pub(crate) fn certificate_key() -> Arc<dyn SigningKey> {
    Arc::new(LocalSigningKey::parse(CERTIFICATE_KEY).unwrap())
}

/// A served product.
pub(crate) struct TestApp {
    pub(crate) url: String,
    pub(crate) token: String,
    pub(crate) client: Client,
    pub(crate) sandbox: SandboxHandle,
    pub(crate) options: PgConnectOptions,
    mails: tempfile::TempDir,
    running: Mutex<Option<Running>>,
}

/// Loads the demo catalogue and makes an admin's token.
pub(crate) async fn seed(options: &PgConnectOptions) -> String {
    publish_catalogue(options).await;
    admin(options).await
}

/// Loads the demo catalogue.
pub(crate) async fn publish_catalogue(options: &PgConnectOptions) {
    let mut conn = super::connect(options).await;
    let mut tx = conn.begin().await.unwrap();
    tenure_workflows::as_control(&mut tx).await.unwrap();
    let plans = catalog::parse(include_str!("../../fixtures/seed/catalog.json")).unwrap();
    catalog::publish(&mut tx, &plans).await.unwrap();
    tx.commit().await.unwrap();
    conn.close().await.unwrap();
}

/// Makes an admin's token.
async fn admin(options: &PgConnectOptions) -> String {
    token(&mut super::connect(options).await, Role::Admin, None).await
}

/// Makes a token.
pub(crate) async fn token(conn: &mut PgConnection, role: Role, tenant: Option<TenantId>) -> String {
    let mut tx = conn.begin().await.unwrap();
    tenure_workflows::as_control(&mut tx).await.unwrap();
    let new = NewToken {
        name: format!("suite {}", role.as_str()),
        role,
        tenant,
        days: 1,
    };
    let token = auth::create(&mut tx, &new).await.unwrap();
    tx.commit().await.unwrap();
    token
}

/// What a process is served with.
struct Served<'a> {
    options: &'a PgConnectOptions,
    sandbox: &'a SandboxHandle,
    mails: &'a Path,
}

impl Served<'_> {
    fn config(&self, listener: TcpListener, worker: Option<WorkerConfig>) -> ServeConfig {
        ServeConfig {
            database: self.options.clone().into(),
            listener: Some(listener),
            metrics: None,
            worker,
            allow_stranding: false,
            stripe: StripeConfig {
                url: self.sandbox.url().to_owned(),
                secret_key: SANDBOX_KEY.to_owned(),
                webhook_secrets: vec![WEBHOOK_SECRET.to_owned()],
            },
            mail: MailConfig::Capture {
                folder: self.mails.to_owned(),
                from: "Tenure <billing@tenure.example>".to_owned(),
            },
            master_key: None,
            certificate_key: Some(certificate_key()),
            products: Sources::default(),
            archive: None,
            environment: "suite".to_owned(),
            pool: PoolConfig {
                acquire_timeout: Duration::from_secs(2),
                ..PoolConfig::default()
            },
        }
    }
}

impl TestApp {
    pub(crate) async fn new() -> Self {
        let options = super::database_with_catalogue().await;
        Self::with(options, None, Sources::default(), None).await
    }

    /// One whose payloads are sealed.
    pub(crate) async fn sealed() -> Self {
        Self::sealed_with_catalogue(super::database_with_catalogue().await).await
    }

    async fn sealed_with_catalogue(options: PgConnectOptions) -> Self {
        let master = LocalMasterKey::parse(&LocalMasterKey::generate("suite")).unwrap();
        Self::with(options, Some(Arc::new(master)), Sources::default(), None).await
    }

    /// The same, on a database that has no catalogue yet.
    pub(crate) async fn sealed_on(options: PgConnectOptions) -> Self {
        publish_catalogue(&options).await;
        Self::sealed_with_catalogue(options).await
    }

    /// One on a database that has no catalogue yet.
    pub(crate) async fn on(options: PgConnectOptions) -> Self {
        publish_catalogue(&options).await;
        Self::with(options, None, Sources::default(), None).await
    }

    /// One that knows databases of a product; see `support::product`.
    pub(crate) async fn with_products(products: Sources) -> Self {
        let options = super::database_with_catalogue().await;
        Self::with(options, None, products, None).await
    }

    /// One that knows databases of a product and has a store of archives.
    pub(crate) async fn with_archive(products: Sources, archive: ArchiveConfig) -> Self {
        let options = super::database_with_catalogue().await;
        Self::with(options, None, products, Some(archive)).await
    }

    async fn with(
        options: PgConnectOptions,
        master_key: Option<Arc<dyn MasterKey>>,
        products: Sources,
        archive: Option<ArchiveConfig>,
    ) -> Self {
        let mails = tempfile::tempdir().unwrap();
        let token = admin(&options).await;
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let mut config = SandboxConfig::new(SANDBOX_KEY);
        config.webhooks = vec![WebhookEndpoint::new(
            format!("{url}/v1/webhooks/stripe"),
            WEBHOOK_SECRET,
        )];
        let sandbox = Sandbox::start(config).await.unwrap();
        let served = Served {
            options: &options,
            sandbox: &sandbox,
            mails: mails.path(),
        };
        let config = ServeConfig {
            master_key,
            products,
            archive,
            ..served.config(listener, Some(WorkerConfig::default()))
        };
        let running = start(config).await.unwrap();
        Self {
            client: Client::new(&url, &token).unwrap(),
            url,
            token,
            sandbox,
            options,
            mails,
            running: Mutex::new(Some(running)),
        }
    }

    /// Stops the process and starts it anew at its address, with a worker or without; for one whose
    /// payloads are in clear and that knows no product.
    pub(crate) async fn restart(&self, worker: Option<WorkerConfig>) {
        let mut running = self.running.lock().await;
        if let Some(before) = running.take() {
            before.shutdown().await;
        }
        let address = self.url.trim_start_matches("http://");
        let listener = TcpListener::bind(address).await.unwrap();
        let served = Served {
            options: &self.options,
            sandbox: &self.sandbox,
            mails: self.mails.path(),
        };
        *running = Some(start(served.config(listener, worker)).await.unwrap());
    }

    /// Stops everything, and checks that no run is stuck and no mail left unsent.
    pub(crate) async fn finish(self) {
        let mut conn = super::connect(&self.options).await;
        let stuck: Vec<(String, Option<String>)> = sqlx::query_as(
            "select workflow || ' ' || key, error::text from engine.run where status = 8",
        )
        .fetch_all(&mut conn)
        .await
        .unwrap();
        assert!(stuck.is_empty(), "stuck runs: {stuck:?}");
        let unsent: i64 =
            sqlx::query_scalar("select count(*) from app.notice where status = 'queued'")
                .fetch_one(&mut conn)
                .await
                .unwrap();
        assert_eq!(unsent, 0, "mails were left unsent");
        if let Some(running) = self.running.into_inner() {
            running.shutdown().await;
        }
        self.sandbox.shutdown().await;
    }

    /// A run that nobody works on: what it told of itself is settled, and its revision is one to
    /// act by.
    pub(crate) async fn at_rest(&self, run: Uuid) -> RunDetail {
        let rests = |status| {
            use RunStatus::{Paused, Stuck, Waiting};
            matches!(status, Waiting | Paused | Stuck)
        };
        super::eventually("the run is at rest", async || {
            rests(self.client.run(run).await.unwrap().summary.status)
        })
        .await;
        self.client.run(run).await.unwrap()
    }

    /// Does a verb to a run once it is at rest.
    pub(crate) async fn act_on_run(&self, run: Uuid, verb: &str) {
        let act = ActOnRun {
            reason: "a story".to_owned(),
            revision: self.at_rest(run).await.revision,
            ..ActOnRun::default()
        };
        let key = IdempotencyKey::generate();
        self.client.act_on_run(run, verb, &act, &key).await.unwrap();
    }

    pub(crate) fn customer(&self) -> Customer<'_> {
        Customer {
            client: &self.client,
        }
    }
}

/// Makes customers through the API.
pub(crate) struct Customer<'a> {
    pub(crate) client: &'a Client,
}

/// A clocked tenant with a subscription.
pub(crate) struct Subscriber<'a> {
    pub(crate) client: &'a Client,
    pub(crate) tenant: Tenant,
    pub(crate) clock: Uuid,
    pub(crate) subscription: Uuid,
}

impl<'a> Customer<'a> {
    /// On the starter plan with a good card, from 31 January 2027 in UTC; it begins with a trial.
    pub(crate) async fn starter(&self) -> Subscriber<'a> {
        let start = "2027-01-31T09:00:00Z";
        self.subscribe(start, "UTC", "starter-monthly", "EUR", "pm_card_visa")
            .await
    }

    /// On the team plan, which begins paid, from 1 June 2027 in UTC.
    pub(crate) async fn team(&self, card: &str) -> Subscriber<'a> {
        self.subscribe("2027-06-01T08:00:00Z", "UTC", "team-monthly", "USD", card)
            .await
    }

    pub(crate) async fn subscribe(
        &self,
        start: &str,
        zone: &str,
        plan: &str,
        currency: &str,
        card: &str,
    ) -> Subscriber<'a> {
        let new = NewTenant {
            name: "Acme".to_owned(),
            email: "billing@acme.example".to_owned(),
            zone: zone.to_owned(),
            locale: None,
            test_clock: Some(start.parse().unwrap()),
            legal_entity: None,
        };
        let key = IdempotencyKey::generate();
        let tenant = self.client.create_tenant(&new, &key).await.unwrap();
        let mut subscriber = Subscriber {
            client: self.client,
            clock: tenant.test_clock_id.unwrap(),
            tenant,
            subscription: Uuid::nil(),
        };
        subscriber.attach(card).await;
        let new = NewSubscription {
            plan: plan.to_owned(),
            currency: currency.to_owned(),
            ..NewSubscription::default()
        };
        let key = IdempotencyKey::generate();
        let made = self
            .client
            .subscribe(subscriber.tenant.tenant_id, &new, &key);
        subscriber.subscription = made.await.unwrap().subscription_id;
        subscriber.advance("0h").await;
        subscriber
    }
}

impl Subscriber<'_> {
    /// Gives it a method in place of the one that is charged first.
    pub(crate) async fn attach(&self, method: &str) {
        self.attach_at(method, None).await;
    }

    /// Gives it a method at a place of its order.
    pub(crate) async fn attach_at(&self, method: &str, position: Option<u32>) {
        let attach = AttachPaymentMethod {
            payment_method: method.to_owned(),
            position,
        };
        let key = IdempotencyKey::generate();
        let tenant = self.tenant.tenant_id;
        self.client
            .attach_payment_method(tenant, &attach, &key)
            .await
            .unwrap();
        self.advance("0h").await;
    }

    /// Moves the clock and waits until it is ready: for as long as it takes, if it only moves on.
    pub(crate) async fn advance(&self, by: &str) {
        self.begin_advance(by).await;
        self.settle().await;
    }

    /// Moves the clock to an instant and waits until it is ready.
    pub(crate) async fn advance_to(&self, to: DateTime<Utc>) {
        let advance = AdvanceTestClock {
            to: Some(to),
            by: None,
        };
        let key = IdempotencyKey::generate();
        let sent = self.client.advance_test_clock(self.clock, &advance, &key);
        sent.await.unwrap();
        self.settle().await;
    }

    /// Waits until the clock is ready.
    async fn settle(&self) {
        let mut tick = tokio::time::interval(LOOK_EVERY);
        let mut stood = (None, Instant::now());
        loop {
            let clock = self.client.test_clock(self.clock).await.unwrap();
            if clock.status == TestClockStatus::Ready {
                return;
            }
            if stood.0 != Some(clock.now) {
                stood = (Some(clock.now), Instant::now());
            }
            if stood.1.elapsed() > LONGEST_STAND {
                panic!("the clock stands still\n{}", self.what_moves().await);
            }
            tick.tick().await;
        }
    }

    pub(crate) async fn begin_advance(&self, by: &str) {
        let advance = AdvanceTestClock {
            to: None,
            by: Some(by.to_owned()),
        };
        let key = IdempotencyKey::generate();
        let sent = self.client.advance_test_clock(self.clock, &advance, &key);
        sent.await.unwrap();
    }

    pub(crate) async fn is_ready(&self) -> Result<bool, tenure_client::ClientError> {
        let clock = self.client.test_clock(self.clock).await?;
        Ok(clock.status == TestClockStatus::Ready)
    }

    /// The tenant's runs that do not merely wait, and why they are where they are.
    pub(crate) async fn what_moves(&self) -> String {
        let of_tenant = RunFilter {
            tenant_id: Some(self.tenant.tenant_id),
            ..RunFilter::default()
        };
        let of_clock = RunFilter {
            workflow: Some("clock-advance".to_owned()),
            ..RunFilter::default()
        };
        let mut told = format!("{:?}", self.client.test_clock(self.clock).await);
        let mut found = Vec::new();
        for filter in [of_clock, of_tenant] {
            let page = self.client.list_runs(&filter).await;
            found.extend(page.map_or(Vec::new(), |page| page.items));
        }
        for run in found {
            let Ok(run) = self.client.run(run.run_id).await else {
                continue;
            };
            let (one, why) = (&run.summary, &run.why);
            told += &format!(
                "\n{} {:?} {} attempt {}: {} {:?}",
                one.workflow, one.status, one.state, one.attempt, why.summary, why.evidence
            );
        }
        told
    }

    pub(crate) async fn now(&self) -> DateTime<Utc> {
        self.client.test_clock(self.clock).await.unwrap().now
    }

    pub(crate) async fn subscription(&self) -> Subscription {
        let tenant = self.tenant.tenant_id;
        let found = self.client.subscription(tenant, self.subscription).await;
        found.unwrap().subscription
    }

    /// The invoices, oldest first.
    pub(crate) async fn invoices(&self) -> Vec<Invoice> {
        let mut all = self
            .client
            .list_invoices(self.tenant.tenant_id)
            .await
            .unwrap();
        all.reverse();
        all
    }

    /// Number, status, amount and dates of the invoices: what must not depend on how time passed.
    pub(crate) async fn ledger(&self) -> Vec<String> {
        let line = |invoice: Invoice| {
            format!(
                "{} {:?} {} {}..{} paid {:?} after {}",
                invoice.number.unwrap_or_default(),
                invoice.status,
                invoice.total,
                invoice.period_start,
                invoice.period_end,
                invoice.paid_at,
                invoice.attempts
            )
        };
        self.invoices().await.into_iter().map(line).collect()
    }

    /// The kinds of the mails that were sent, oldest first.
    pub(crate) async fn mails(&self) -> Vec<String> {
        let mails = self.client.list_tenant_mails(self.tenant.tenant_id).await;
        let mut mails = mails.unwrap();
        mails.sort_by_key(|mail| (mail.sent_at, mail.kind.clone()));
        let sent = mails.into_iter().filter(|mail| mail.sent_at.is_some());
        sent.map(|mail| mail.kind).collect()
    }
}

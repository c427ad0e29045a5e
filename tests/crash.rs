//! The story survives: kill -9, a frozen process, a provider that forgets, a database that goes away.

use std::collections::BTreeMap;

use sqlx::postgres::PgConnectOptions;
use stripe_sandbox::{
    Failure, FailureKind, Sandbox, SandboxConfig, SandboxHandle, WebhookEndpoint,
};
use tenure_client::{
    AttachPaymentMethod, CancelSubscription, Client, ClientError, IdempotencyKey, MailFilter, When,
};

use crate::support::app::{SANDBOX_KEY, Subscriber, WEBHOOK_SECRET, seed};
use crate::support::process::Server;
use crate::support::smtp::{SmtpServer, header};
use crate::support::{self, eventually, eventually_or_tell};

mod drain;
mod freeze;
mod kill;
mod nodes;
mod outage;

/// Everything around a server that can be killed.
pub(crate) struct Stage {
    pub(crate) server: Server,
    pub(crate) client: Client,
    pub(crate) token: String,
    metrics: String,
    pub(crate) sandbox: SandboxHandle,
    smtp: SmtpServer,
}

impl Stage {
    async fn set() -> Self {
        Self::on(support::database_url().await).await
    }

    async fn on(database: String) -> Self {
        let options = database.parse().unwrap();
        Self::at(database, &options).await
    }

    /// On a database that may have several hosts; `options` names the one that takes writes now.
    pub(crate) async fn at(database: String, options: &PgConnectOptions) -> Self {
        let smtp = SmtpServer::start().await;
        let token = seed(options).await;
        let sandbox = Sandbox::start(SandboxConfig::new(SANDBOX_KEY))
            .await
            .unwrap();
        let mut server = Server::new(database, sandbox.url().to_owned(), smtp.url());
        let metrics = server.serve_metrics();
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
            metrics,
            sandbox,
            smtp,
        }
    }

    /// Begins an advance past the trial and returns when the provider has charged and nobody has
    /// heard of it: the answer is kept back.
    async fn charge_without_an_answer(&self, customer: &Subscriber<'_>) {
        let control = self.sandbox.control();
        let mut hold = Failure::new(FailureKind::Hold, 1);
        hold.method = Some("POST".to_owned());
        hold.path = Some("/v1/payment_intents".to_owned());
        control.fail_next(hold);
        customer.begin_advance("15d").await;
        eventually("the provider keeps the answer back", async || {
            control.held_answers() == 1
        })
        .await;
        let tenant = customer.tenant.tenant_id.to_string();
        let charges = control.charges(&[("tenant", &tenant)]);
        assert!(charges.len() == 1 && charges[0].paid, "{charges:?}");
    }

    /// The sum of a metric's samples at the server; 0 when it does not tell.
    async fn metric(&self, name: &str) -> f64 {
        let Ok(response) = reqwest::get(&self.metrics).await else {
            return 0.0;
        };
        let text = response.text().await.unwrap_or_default();
        let samples = text.lines().filter(|line| line.starts_with(name));
        let values = samples.filter_map(|line| line.rsplit_once(' ')?.1.parse::<f64>().ok());
        values.sum()
    }

    /// Each invoice was charged once, and each mail came once or with the same id.
    pub(crate) async fn assert_once(&self, customer: &Subscriber<'_>, invoices: usize) {
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

pub(crate) async fn ready(customer: &Subscriber<'_>) {
    eventually_or_tell(
        "the clock is ready",
        async || customer.is_ready().await.unwrap_or(false),
        async || customer.what_moves().await,
    )
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
        let key = IdempotencyKey::generate();
        self.send(customer, &key).await.unwrap();
        customer.advance("0h").await;
    }

    async fn send(
        self,
        customer: &Subscriber<'_>,
        key: &IdempotencyKey,
    ) -> Result<(), ClientError> {
        let (client, tenant) = (customer.client, customer.tenant.tenant_id);
        match self {
            Self::Nothing => Ok(()),
            Self::Attach(method) => {
                let attach = AttachPaymentMethod {
                    payment_method: method.to_owned(),
                    position: None,
                };
                let sent = client.attach_payment_method(tenant, &attach, key);
                sent.await.map(drop)
            }
            Self::Cancel => {
                let cancel = CancelSubscription {
                    when: When::PeriodEnd,
                    ..CancelSubscription::default()
                };
                let id = customer.subscription;
                let sent = client.cancel_subscription(tenant, id, &cancel, key);
                sent.await.map(drop)
            }
        }
    }
}

/// What the story left behind.
pub(crate) async fn left(customer: &Subscriber<'_>) -> (Vec<String>, Vec<String>, String) {
    let subscription = customer.subscription().await;
    let end = format!("{:?} {:?}", subscription.status, subscription.ended_at);
    (customer.ledger().await, customer.mails().await, end)
}

//! `tenure tenant methods`: what a tenant pays by, in its order.

use tenure_client::{AttachPaymentMethod, IdempotencyKey, OrderPaymentMethods, SignalAccepted};
use uuid::Uuid;

use super::run::{ApiArgs, print};

/// What to do with a tenant's payment methods.
#[derive(Debug, clap::Subcommand)]
pub(super) enum MethodsCommand {
    /// List them, the one that is charged first first.
    List {
        #[command(flatten)]
        api: ApiArgs,
        /// The tenant.
        tenant: Uuid,
    },
    /// Give it one more.
    Add {
        #[command(flatten)]
        api: ApiArgs,
        /// The tenant.
        tenant: Uuid,
        /// The payment method's id at the provider.
        payment_method: String,
        /// Its place, from 1; behind all others otherwise.
        #[arg(long)]
        position: Option<u32>,
    },
    /// Charge them in another order.
    Order {
        #[command(flatten)]
        api: ApiArgs,
        /// The tenant.
        tenant: Uuid,
        /// All of its payment methods' ids at the provider, the first first.
        #[arg(required = true)]
        payment_methods: Vec<String>,
    },
    /// Take one away, here and at the provider.
    Remove {
        #[command(flatten)]
        api: ApiArgs,
        /// The tenant.
        tenant: Uuid,
        /// The payment method's id at the provider.
        payment_method: String,
    },
}

pub(super) async fn run(command: MethodsCommand) -> anyhow::Result<()> {
    let key = IdempotencyKey::generate();
    match command {
        MethodsCommand::List { api, tenant } => {
            let all = api.client()?.list_payment_methods(tenant).await?;
            print(&api, &all, || {
                for (place, one) in (1..).zip(&all) {
                    let until = one
                        .expires_on
                        .map_or_else(String::new, |day| format!("  until {day}"));
                    let (brand, last4, id) = (&one.brand, &one.last4, &one.provider_id);
                    outln!("{place}  {brand} {last4}  {id}{until}");
                }
            })
        }
        MethodsCommand::Add {
            api,
            tenant,
            payment_method,
            position,
        } => {
            let attach = AttachPaymentMethod {
                payment_method,
                position: Some(position.unwrap_or(u32::MAX)),
            };
            let client = api.client()?;
            let sent = client.attach_payment_method(tenant, &attach, &key).await?;
            print_sent(&api, &sent)
        }
        MethodsCommand::Order {
            api,
            tenant,
            payment_methods,
        } => {
            let order = OrderPaymentMethods { payment_methods };
            let client = api.client()?;
            let sent = client.order_payment_methods(tenant, &order, &key).await?;
            print_sent(&api, &sent)
        }
        MethodsCommand::Remove {
            api,
            tenant,
            payment_method,
        } => {
            let client = api.client()?;
            let sent = client
                .remove_payment_method(tenant, &payment_method, &key)
                .await?;
            print_sent(&api, &sent)
        }
    }
}

fn print_sent(api: &ApiArgs, sent: &SignalAccepted) -> anyhow::Result<()> {
    print(api, sent, || {
        outln!("sent {} to run {}", sent.signal_id, sent.run_id);
    })
}

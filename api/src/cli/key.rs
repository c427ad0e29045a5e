//! `tenure key`: the master key, and the keys that seal tenants' payloads.

use chrono::SecondsFormat;
use tenure_client::{DataKey, DestroyKeys, IdempotencyKey, RewrapKeys, RotateKey};
use tenure_engine::seal::LocalMasterKey;
use uuid::Uuid;

use super::run::{ApiArgs, print};

/// How many keys one call wraps anew.
const PAGE: u32 = 500;

/// What to do with keys.
#[derive(Debug, clap::Subcommand)]
pub(super) enum KeyCommand {
    /// Print a new master key, as `TENURE_MASTER_KEY` takes it. Asks no server.
    New {
        /// Its name, kept with what it wraps: such as the month.
        name: String,
    },
    /// List the versions of the key that seals a tenant's payloads.
    List {
        #[command(flatten)]
        api: ApiArgs,
        /// The tenant.
        tenant: Uuid,
    },
    /// Make a new version of a tenant's key; it seals two minutes later.
    Rotate {
        #[command(flatten)]
        api: ApiArgs,
        /// The tenant.
        tenant: Uuid,
        /// Why; kept in the audit.
        #[arg(long)]
        reason: String,
    },
    /// Destroy a tenant's keys: nothing that they sealed can be read any more, ever.
    Destroy {
        #[command(flatten)]
        api: ApiArgs,
        /// The tenant.
        tenant: Uuid,
        /// The tenant once more, so that no slip destroys another's.
        #[arg(long, value_name = "TENANT")]
        confirm: Uuid,
        /// Why; kept in the audit.
        #[arg(long)]
        reason: String,
    },
    /// Wrap all keys anew that an older master key wraps, so that it can go.
    Rewrap {
        #[command(flatten)]
        api: ApiArgs,
        /// Why; kept in the audit.
        #[arg(long)]
        reason: String,
    },
}

pub(super) async fn run(command: KeyCommand) -> anyhow::Result<()> {
    match command {
        KeyCommand::New { name } => {
            let pair = LocalMasterKey::generate(&name);
            LocalMasterKey::parse(&pair).map_err(anyhow::Error::msg)?;
            outln!("{pair}");
            Ok(())
        }
        KeyCommand::List { api, tenant } => {
            let keys = api.client()?.list_keys(tenant).await?;
            show(&api, &keys)
        }
        KeyCommand::Rotate {
            api,
            tenant,
            reason,
        } => {
            let rotate = RotateKey { reason };
            let key = IdempotencyKey::generate();
            let keys = api.client()?.rotate_key(tenant, &rotate, &key).await?;
            show(&api, &keys)
        }
        KeyCommand::Destroy {
            api,
            tenant,
            confirm,
            reason,
        } => {
            anyhow::ensure!(
                tenant == confirm,
                "--confirm names another tenant; nothing was destroyed"
            );
            let destroy = DestroyKeys { reason };
            let key = IdempotencyKey::generate();
            let keys = api.client()?.destroy_keys(tenant, &destroy, &key).await?;
            show(&api, &keys)
        }
        KeyCommand::Rewrap { api, reason } => {
            let client = api.client()?;
            let asked = RewrapKeys {
                limit: PAGE,
                reason,
            };
            let mut total = 0;
            loop {
                let key = IdempotencyKey::generate();
                let done = client.rewrap_keys(&asked, &key).await?;
                total += done.rewrapped;
                if done.rewrapped == 0 {
                    break;
                }
            }
            let done = tenure_client::KeysRewrapped { rewrapped: total };
            print(&api, &done, || outln!("{total} keys wrapped anew"))
        }
    }
}

fn show(api: &ApiArgs, keys: &Vec<DataKey>) -> anyhow::Result<()> {
    print(api, keys, || {
        if keys.is_empty() {
            outln!("nothing of the tenant is sealed");
        }
        keys.iter().for_each(print_key);
    })
}

fn print_key(key: &DataKey) {
    let time = |at: chrono::DateTime<chrono::Utc>| at.to_rfc3339_opts(SecondsFormat::Secs, true);
    let state = match key.destroyed_at {
        Some(at) => format!("destroyed {}", time(at)),
        None => format!("seals from {}", time(key.usable_at)),
    };
    let (version, master) = (key.version, &key.master_key);
    outln!("version {version}  under {master}  {state}");
}

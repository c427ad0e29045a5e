//! `tenure token`: API tokens, made and taken back beside the database.

use chrono::SecondsFormat;
use sqlx::{Connection as _, PgConnection};
use tenure_client::Role;
use tenure_engine::TenantId;
use uuid::Uuid;

use crate::auth::{self, NewToken};
use crate::config::DatabaseArgs;

/// What to do with tokens.
#[derive(Debug, clap::Subcommand)]
pub(super) enum TokenCommand {
    /// Make a token and print it, this once.
    Create {
        #[command(flatten)]
        database: DatabaseArgs,
        /// Who or what holds it: the actor of its acts.
        #[arg(long)]
        name: String,
        /// What it may do.
        #[arg(long, value_parser = ["viewer", "support", "operator", "admin"])]
        role: String,
        /// The one tenant that it sees; all when none is given.
        #[arg(long)]
        tenant: Option<TenantId>,
        /// For how many days.
        #[arg(long, default_value_t = 90, value_parser = clap::value_parser!(u32).range(1..=3650))]
        days: u32,
    },
    /// List tokens, without their texts.
    List(DatabaseArgs),
    /// Take a token back.
    Revoke {
        #[command(flatten)]
        database: DatabaseArgs,
        /// Its id, from the list.
        token_id: Uuid,
    },
}

pub(super) async fn run(command: TokenCommand) -> anyhow::Result<()> {
    match command {
        TokenCommand::Create {
            database,
            name,
            role,
            tenant,
            days,
        } => {
            let new = NewToken {
                name,
                role: parse(&role),
                tenant,
                days,
            };
            let mut conn = connect(&database).await?;
            let mut tx = conn.begin().await?;
            tenure_workflows::as_control(&mut tx).await?;
            let token = auth::create(&mut tx, &new).await?;
            tx.commit().await?;
            println!("{token}");
        }
        TokenCommand::List(database) => {
            let mut conn = connect(&database).await?;
            for row in auth::list(&mut conn).await? {
                let ends = auth::ends_at(&row).to_rfc3339_opts(SecondsFormat::Secs, true);
                let ended = if row.revoked_at.is_some() {
                    "revoked"
                } else {
                    "until"
                };
                let sees = row
                    .tenant_id
                    .map_or("all tenants".to_owned(), |id| id.to_string());
                println!(
                    "{}  {:<8}  {ended} {ends}  {sees}  {}",
                    row.token_id,
                    row.role.as_str(),
                    row.name
                );
            }
        }
        TokenCommand::Revoke { database, token_id } => {
            let mut conn = connect(&database).await?;
            anyhow::ensure!(
                auth::revoke(&mut conn, token_id).await?,
                "no token {token_id} counts: see `tenure token list`"
            );
            println!("revoked {token_id}");
        }
    }
    Ok(())
}

fn parse(role: &str) -> Role {
    [Role::Admin, Role::Operator, Role::Support]
        .into_iter()
        .find(|known| known.as_str() == role)
        .unwrap_or(Role::Viewer)
}

async fn connect(database: &DatabaseArgs) -> anyhow::Result<PgConnection> {
    Ok(database.database()?.connect().await?)
}

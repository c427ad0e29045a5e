//! `tenure token`: API tokens, made and taken back beside the database.

use anyhow::Context as _;
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
    /// Make a new token of the same name, role and tenant, and let the old one end.
    Rotate {
        #[command(flatten)]
        database: DatabaseArgs,
        /// The old one's id, from the list.
        token_id: Uuid,
        /// For how many days the new one counts.
        #[arg(long, default_value_t = 90, value_parser = clap::value_parser!(u32).range(1..=3650))]
        days: u32,
        /// For how many hours the old one counts beside it; with 0 it is taken back at once.
        #[arg(long, default_value_t = 24, value_parser = clap::value_parser!(u32).range(0..=720))]
        overlap_hours: u32,
    },
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
            // A connection of this command alone: given up half-way, it is closed and nobody's next.
            let mut conn = connect(&database).await?;
            let mut tx = conn.begin().await?;
            tenure_workflows::as_control(&mut tx).await?;
            let token = auth::create(&mut tx, &new).await?;
            tx.commit().await?;
            outln!("{token}");
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
                outln!(
                    "{}  {:<8}  {ended} {ends}  {sees}  {}",
                    row.token_id,
                    row.role.as_str(),
                    row.name
                );
            }
        }
        TokenCommand::Rotate {
            database,
            token_id,
            days,
            overlap_hours,
        } => {
            let mut conn = connect(&database).await?;
            let mut tx = conn.begin().await?;
            tenure_workflows::as_control(&mut tx).await?;
            let token = auth::rotate(&mut tx, token_id, days, overlap_hours).await?;
            let token = token.with_context(|| no_such(token_id))?;
            tx.commit().await?;
            outln!("{token}");
        }
        TokenCommand::Revoke { database, token_id } => {
            let mut conn = connect(&database).await?;
            anyhow::ensure!(auth::revoke(&mut conn, token_id).await?, no_such(token_id));
            outln!("revoked {token_id}");
        }
    }
    Ok(())
}

fn no_such(token_id: Uuid) -> String {
    format!("no token {token_id} counts: see `tenure token list`")
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

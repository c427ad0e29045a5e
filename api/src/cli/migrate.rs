//! `tenure migrate`: the schema's way up and back.

use std::time::Duration;

use anyhow::Context as _;
use sqlx::PgConnection;

use crate::MIGRATOR;
use crate::config::DatabaseArgs;

/// The advisory lock of who migrates a database: "tenure" in ASCII.
const MIGRATING: i64 = 0x7465_6e75_7265;
/// How often somebody who waits for it asks.
const ASK_EVERY: Duration = Duration::from_millis(200);

/// What to do with the schema.
#[derive(Debug, clap::Subcommand)]
pub(super) enum MigrateCommand {
    /// Bring the schema up to this version. Two at once wait for each other.
    Up(DatabaseArgs),
    /// Take the schema back to a version; 0 takes everything away, with all data.
    Down {
        #[command(flatten)]
        database: DatabaseArgs,
        /// The version to go back to.
        #[arg(long)]
        to: i64,
    },
    /// Say which migrations have been applied.
    Status(DatabaseArgs),
}

pub(super) async fn run(command: MigrateCommand) -> anyhow::Result<()> {
    match command {
        MigrateCommand::Up(database) => {
            let mut conn = connect(&database).await?;
            wait_for_others(&mut conn).await?;
            MIGRATOR.run(&mut conn).await?;
            outln!("the schema is at version {}", newest());
        }
        MigrateCommand::Down { database, to } => {
            let mut conn = connect(&database).await?;
            wait_for_others(&mut conn).await?;
            MIGRATOR.undo(&mut conn, to).await?;
            outln!("the schema is at version {to}");
        }
        MigrateCommand::Status(database) => {
            let mut conn = connect(&database).await?;
            let applied = applied(&mut conn).await?;
            for migration in MIGRATOR
                .iter()
                .filter(|one| one.migration_type.is_up_migration())
            {
                let state = if applied.contains(&migration.version) {
                    "applied"
                } else {
                    "pending"
                };
                outln!(
                    "{:>4}  {:<10}  {}",
                    migration.version,
                    state,
                    migration.description
                );
            }
        }
    }
    Ok(())
}

async fn connect(database: &DatabaseArgs) -> anyhow::Result<PgConnection> {
    let connected = database.direct()?.connect().await;
    connected.context("cannot connect to the database")
}

/// Waits until nobody else migrates, and keeps others from it for as long as the connection lasts.
///
/// By asking again and again, before the migrator asks for its own lock: a statement that waits for
/// a lock holds a snapshot, an index that is built concurrently waits for every snapshot, and so the
/// two would wait for each other.
async fn wait_for_others(conn: &mut PgConnection) -> anyhow::Result<()> {
    let ask = || sqlx::query_scalar("select pg_try_advisory_lock($1)").bind(MIGRATING);
    while !ask().fetch_one(&mut *conn).await? {
        tenure_engine::sleep(ASK_EVERY).await;
    }
    Ok(())
}

fn newest() -> i64 {
    MIGRATOR
        .iter()
        .map(|one| one.version)
        .max()
        .unwrap_or_default()
}

async fn applied(conn: &mut PgConnection) -> anyhow::Result<Vec<i64>> {
    let exists: bool = sqlx::query_scalar("select to_regclass('_sqlx_migrations') is not null")
        .fetch_one(&mut *conn)
        .await?;
    if !exists {
        return Ok(Vec::new());
    }
    let rows = sqlx::query_scalar("select version from _sqlx_migrations where success");
    Ok(rows.fetch_all(conn).await?)
}

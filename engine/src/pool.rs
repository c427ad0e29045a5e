//! Connections that speak as the engine's role.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use sqlx::postgres::{PgConnectOptions, PgPoolOptions};
use sqlx::{PgConnection, PgPool, Postgres, Transaction};

/// How the engine connects.
#[derive(Debug, Clone)]
pub struct PoolConfig {
    /// The most connections.
    pub max_connections: u32,
    /// How long a caller waits for one.
    pub acquire_timeout: Duration,
    /// Ends a transaction that its process left open, so that a frozen process cannot hold a lock
    /// for ever; at most the lease.
    pub idle_in_transaction_timeout: Duration,
    /// Moves the engine's own time by this many milliseconds, for tests of the engine's time.
    pub clock_offset_ms: Option<Arc<AtomicI64>>,
}

impl Default for PoolConfig {
    fn default() -> Self {
        Self {
            max_connections: 16,
            acquire_timeout: Duration::from_secs(10),
            idle_in_transaction_timeout: Duration::from_secs(10),
            clock_offset_ms: None,
        }
    }
}

/// Opens a pool whose connections act as role `tenure_engine`. The login must be a member of
/// `tenure_engine` and `tenure_tenant`.
///
/// # Errors
/// When the database cannot be reached or the role is missing.
pub async fn connect(options: PgConnectOptions, config: &PoolConfig) -> sqlx::Result<PgPool> {
    connect_as(options, config, "set role tenure_engine").await
}

/// Opens a pool whose connections act as role `tenure_control`: for single statements on control
/// tables, which then need no transaction to say for whom they speak.
///
/// # Errors
/// When the database cannot be reached or the role is missing.
pub async fn connect_control(
    options: PgConnectOptions,
    config: &PoolConfig,
) -> sqlx::Result<PgPool> {
    connect_as(options, config, "set role tenure_control").await
}

async fn connect_as(
    options: PgConnectOptions,
    config: &PoolConfig,
    set_role: &'static str,
) -> sqlx::Result<PgPool> {
    let options = options.options([
        (
            "idle_in_transaction_session_timeout",
            config.idle_in_transaction_timeout.as_millis().to_string(),
        ),
        ("lock_timeout", "5000".to_owned()),
        ("statement_timeout", "30000".to_owned()),
        // Rows are few and short-lived: plans made for any value are right, and made once. They may
        // be made while the tables are empty and are used when they are not, so they go by keys.
        ("plan_cache_mode", "force_generic_plan".to_owned()),
        ("enable_seqscan", "off".to_owned()),
        ("jit", "off".to_owned()),
    ]);
    let mut pool = PgPoolOptions::new()
        .max_connections(config.max_connections)
        .acquire_timeout(config.acquire_timeout)
        .test_before_acquire(false);
    let offset = config.clock_offset_ms.clone();
    pool = pool.after_connect(move |conn, _| {
        let offset = offset.clone();
        Box::pin(async move {
            sqlx::raw_sql(set_role).execute(&mut *conn).await?;
            // A new connection is handed out without being asked for again below.
            match offset {
                Some(offset) => move_clock(conn, &offset).await,
                None => Ok(()),
            }
        })
    });
    if let Some(offset) = config.clock_offset_ms.clone() {
        pool = pool.before_acquire(move |conn, _| {
            let offset = offset.clone();
            Box::pin(async move {
                move_clock(conn, &offset).await?;
                Ok(true)
            })
        });
    }
    pool.connect_with(options).await
}

/// Begins a transaction, and leaves none behind when whoever asks is dropped meanwhile.
///
/// sqlx 0.9.0 does not see a transaction whose `begin` is given up half-way: the connection goes back
/// to the pool inside it, and what its next user writes is acknowledged and then lost
/// (transact-rs/sqlx#4393). A task of its own cannot be given up; what it brings back to nobody is
/// rolled back.
///
/// # Errors
/// When the database does not answer.
pub async fn begin(pool: &PgPool) -> sqlx::Result<Transaction<'static, Postgres>> {
    let pool = pool.clone();
    let begun = tokio::spawn(async move { pool.begin().await });
    begun.await.unwrap_or(Err(sqlx::Error::WorkerCrashed))
}

async fn move_clock(conn: &mut PgConnection, offset: &AtomicI64) -> sqlx::Result<()> {
    let offset = offset.load(Ordering::Relaxed);
    sqlx::query("select set_config('engine.clock_offset', $1, false)")
        .bind(format!("{offset} milliseconds"))
        .execute(conn)
        .await?;
    Ok(())
}

//! Connections that speak as the engine's role.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use sqlx::postgres::{PgConnectOptions, PgPoolOptions, PgRow};
use sqlx::{AssertSqlSafe, PgConnection, PgPool, Postgres, Row as _, Transaction};

use crate::database::{Database, Needs};
use crate::id::TenantId;

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
/// `tenure_engine` and `tenure_tenant`. With several hosts the pool follows the one that takes writes,
/// until it is closed.
///
/// # Errors
/// When no host takes writes (each is named, with the reason), or the role is missing.
pub async fn connect(database: impl Into<Database>, config: &PoolConfig) -> sqlx::Result<PgPool> {
    connect_as(database.into(), config, ROLE).await
}

/// Opens a pool whose connections act as role `tenure_control`: for single statements on control
/// tables, which then need no transaction to say for whom they speak.
///
/// # Errors
/// As [`connect`]; a pooler in transaction mode keeps no session that could act as control.
pub async fn connect_control(
    database: impl Into<Database>,
    config: &PoolConfig,
) -> sqlx::Result<PgPool> {
    connect_as(database.into(), config, "tenure_control").await
}

async fn connect_as(
    database: Database,
    config: &PoolConfig,
    role: &'static str,
) -> sqlx::Result<PgPool> {
    let session = Session::new(config, role);
    let pool = PgPoolOptions::new()
        .max_connections(config.max_connections)
        .acquire_timeout(config.acquire_timeout)
        .test_before_acquire(false);
    database.open(pool, session).await
}

/// Has each idle connection tested, and those closed that broke. After an outage all of them may have,
/// and whoever was handed one would fail on it, one after the other.
pub fn shed_broken(pool: &PgPool) {
    let mut idle = Vec::new();
    while let Some(conn) = pool.try_acquire() {
        idle.push(conn);
    }
    // The pool tests what comes back to it.
    drop(idle);
}

/// What each connection of a pool speaks as, and under which settings.
#[derive(Debug, Clone)]
pub(crate) struct Session {
    role: &'static str,
    settings: Vec<(&'static str, String)>,
    clock_offset_ms: Option<Arc<AtomicI64>>,
}

impl Default for Session {
    /// The engine's, without settings.
    fn default() -> Self {
        Self {
            role: ROLE,
            settings: Vec::new(),
            clock_offset_ms: None,
        }
    }
}

impl Session {
    fn new(config: &PoolConfig, role: &'static str) -> Self {
        let settings = [
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
        ];
        Self {
            role,
            settings: settings.into(),
            clock_offset_ms: config.clock_offset_ms.clone(),
        }
    }

    pub(crate) fn apply(&self, options: PgConnectOptions) -> PgConnectOptions {
        options.options(self.settings.iter().map(|(name, value)| (name, value)))
    }

    /// Makes a new connection speak as its role; why its server will not do, if so. One round trip.
    pub(crate) async fn begin(
        &self,
        conn: &mut PgConnection,
        needs: Needs,
    ) -> sqlx::Result<Option<String>> {
        let asked = format!("{STANDING}; set role {}", self.role);
        let rows = sqlx::raw_sql(AssertSqlSafe(asked)).fetch_all(conn).await?;
        judge(rows.first(), needs)
    }

    /// What the login must have in the database because a pooler keeps no sessions, as statements
    /// that would set it; `None` when it has all.
    pub(crate) async fn missing(&self, conn: &mut PgConnection) -> sqlx::Result<Option<String>> {
        // In one batch and without names, whatever the pooler can do.
        let names: Vec<String> = self
            .settings
            .iter()
            .map(|(name, _)| format!("'{name}'"))
            .collect();
        let asked = format!(
            "select session_user::text as login, 'role' as name, current_setting('role') as setting
             union all
             select session_user::text, name, setting from pg_settings where name in ('', {})",
            names.join(", ")
        );
        let rows = sqlx::raw_sql(AssertSqlSafe(asked)).fetch_all(conn).await?;
        let wanted = self
            .settings
            .iter()
            .map(|(name, value)| (*name, value.as_str()));
        let mut statements = Vec::new();
        for (name, value) in [("role", ROLE)].into_iter().chain(wanted) {
            for row in &rows {
                let found: String = row.try_get("setting")?;
                // How long to wait is the operator's choice; that there is an end to it is not.
                let will_do = found == value || name.ends_with("_timeout") && found != "0";
                if row.try_get::<String, _>("name")? == name && !will_do {
                    let login: String = row.try_get("login")?;
                    statements.push(format!("alter role \"{login}\" set {name} = {value}"));
                }
            }
        }
        let missing = statements.join("; ");
        Ok((!missing.is_empty()).then(|| {
            format!("behind a pooler the login needs its settings in the database: {missing}")
        }))
    }

    /// Before each use.
    pub(crate) async fn ready(&self, conn: &mut PgConnection) -> sqlx::Result<()> {
        match &self.clock_offset_ms {
            Some(offset) => move_clock(conn, offset).await,
            None => Ok(()),
        }
    }
}

/// The engine's role.
const ROLE: &str = "tenure_engine";

/// What a server says of writing.
const STANDING: &str = "select pg_is_in_recovery() as recovering, \
     current_setting('transaction_read_only') = 'on' as read_only";

/// Why the connection's server will not do, if so.
pub(crate) async fn refusal(conn: &mut PgConnection, needs: Needs) -> sqlx::Result<Option<String>> {
    let rows = sqlx::raw_sql(STANDING).fetch_all(conn).await?;
    judge(rows.first(), needs)
}

fn judge(standing: Option<&PgRow>, needs: Needs) -> sqlx::Result<Option<String>> {
    if needs == Needs::Reads {
        return Ok(None);
    }
    let standing = standing.ok_or(sqlx::Error::RowNotFound)?;
    let reason = if standing.try_get("recovering")? {
        Some("is a standby (in recovery)")
    } else if standing.try_get("read_only")? {
        Some("is read-only (default_transaction_read_only is on)")
    } else {
        None
    };
    Ok(reason.map(str::to_owned))
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
    begin_with(pool, "begin".to_owned()).await
}

/// Begins a transaction that speaks for a tenant until it ends, in one round trip: row-level security
/// shows it no other.
///
/// # Errors
/// As [`begin`]; when the login is no member of role `tenure_tenant`.
pub async fn begin_for(
    pool: &PgPool,
    tenant: TenantId,
) -> sqlx::Result<Transaction<'static, Postgres>> {
    // The id is a UUID, so the text is safe; `set local` takes no parameters. Statements that are sent
    // together are a transaction, which `begin` only makes stay open: one of them that fails ends it, where
    // after a `begin` it would be left behind, aborted, for whoever gets the connection next.
    let whom = format!("set local role tenure_tenant; set local app.tenant = '{tenant}'");
    begin_with(pool, format!("{whom}; begin")).await
}

async fn begin_with(pool: &PgPool, begin: String) -> sqlx::Result<Transaction<'static, Postgres>> {
    let pool = pool.clone();
    let begun = tokio::spawn(async move { pool.begin_with(AssertSqlSafe(begin)).await });
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

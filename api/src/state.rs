//! What every handler shares, and for whom its transaction speaks.

use std::ops::{Deref, DerefMut};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use sqlx::pool::PoolConnection;
use sqlx::{PgConnection, PgPool, Postgres, Transaction};
use tenure_engine::seal::Keyring;
use tenure_engine::{Client, TenantId};
use tenure_workflows::archive::{Archive, ArchiveError};
use tenure_workflows::product::Sources;

use crate::auth::Caller;
use crate::entitlements::Entitlements;
use crate::error::ApiError;

/// The API's dependencies; cheap to clone.
#[derive(Clone)]
pub struct AppState(Arc<Inner>);

struct Inner {
    client: Client,
    pool: PgPool,
    readers: Option<PgPool>,
    outside: Outside,
    entitlements: Entitlements,
    webhook_secrets: Vec<String>,
    environment: String,
    draining: AtomicBool,
}

/// What the API reaches and knows besides the engine.
#[derive(Clone, Default)]
pub struct Outside {
    /// The product's own databases.
    pub products: Sources,
    /// The store of archives.
    pub archive: Option<Archive>,
    /// Whether certificates are signed here.
    pub signs: bool,
}

/// What acts as control for a read: a session that does so anyway, or a transaction.
pub(crate) enum Reader {
    Session(PoolConnection<Postgres>),
    Transaction(Transaction<'static, Postgres>),
}

impl Deref for Reader {
    type Target = PgConnection;

    fn deref(&self) -> &PgConnection {
        match self {
            Self::Session(conn) => conn,
            Self::Transaction(tx) => tx,
        }
    }
}

impl DerefMut for Reader {
    fn deref_mut(&mut self) -> &mut PgConnection {
        match self {
            Self::Session(conn) => conn,
            Self::Transaction(tx) => tx,
        }
    }
}

impl AppState {
    /// `pool` is the API's own, so that its requests never starve the worker; `readers` acts as
    /// control, for reads of one statement; behind a pooler, which keeps no sessions, there are none.
    #[must_use]
    pub fn new(
        client: Client,
        pool: PgPool,
        readers: Option<PgPool>,
        outside: Outside,
        webhook_secrets: Vec<String>,
        environment: String,
    ) -> Self {
        Self(Arc::new(Inner {
            client,
            pool,
            readers,
            outside,
            entitlements: Entitlements::default(),
            webhook_secrets,
            environment,
            draining: AtomicBool::new(false),
        }))
    }

    /// The engine's door.
    #[must_use]
    pub fn client(&self) -> &Client {
        &self.0.client
    }

    /// What opens payloads.
    #[must_use]
    pub fn keyring(&self) -> &Keyring {
        self.0.client.registry().keyring()
    }

    /// The name of this installation, which the console shows.
    #[must_use]
    pub fn environment(&self) -> &str {
        &self.0.environment
    }

    /// The store of archives.
    pub(crate) fn archive(&self) -> Result<&Archive, ApiError> {
        let none = || ApiError::Conflict {
            code: "archive_not_configured",
            detail: ArchiveError::NotConfigured.to_string(),
        };
        self.0.outside.archive.as_ref().ok_or_else(none)
    }

    /// Whether certificates are signed here.
    #[must_use]
    pub fn signs(&self) -> bool {
        self.0.outside.signs
    }

    /// The product's own databases.
    #[must_use]
    pub fn products(&self) -> &Sources {
        &self.0.outside.products
    }

    pub(crate) fn pool(&self) -> &PgPool {
        &self.0.pool
    }

    /// Connections that act as control, for reads of one statement.
    pub(crate) fn readers(&self) -> Option<&PgPool> {
        self.0.readers.as_ref()
    }

    /// Lets go of the connections that broke, of all that nobody uses just now.
    pub(crate) fn shed_broken(&self) {
        let pools = [self.client().pool(), self.pool()];
        let pools = pools.into_iter().chain(self.readers());
        pools.for_each(tenure_engine::shed_broken);
    }

    /// What acts as control for a read.
    pub(crate) async fn reader(&self) -> Result<Reader, ApiError> {
        Ok(match &self.0.readers {
            Some(readers) => Reader::Session(readers.acquire().await?),
            None => Reader::Transaction(self.begin_control().await?),
        })
    }

    /// What is kept of entitlements between requests.
    pub(crate) fn entitlements(&self) -> &Entitlements {
        &self.0.entitlements
    }

    pub(crate) fn webhook_secrets(&self) -> &[String] {
        &self.0.webhook_secrets
    }

    /// From now on `/readyz` says no.
    pub fn drain(&self) {
        self.0.draining.store(true, Ordering::Relaxed);
    }

    pub(crate) async fn close(&self) {
        self.0.pool.close().await;
        if let Some(readers) = &self.0.readers {
            readers.close().await;
        }
        self.0.client.pool().close().await;
        self.0.outside.products.close().await;
    }

    pub(crate) fn is_draining(&self) -> bool {
        self.0.draining.load(Ordering::Relaxed)
    }

    /// A transaction of the engine's role.
    pub(crate) async fn begin(&self) -> Result<Transaction<'static, Postgres>, ApiError> {
        Ok(tenure_engine::begin(&self.0.pool).await?)
    }

    /// A transaction that works on control tables.
    pub(crate) async fn begin_control(&self) -> Result<Transaction<'static, Postgres>, ApiError> {
        let mut tx = self.begin().await?;
        tenure_workflows::as_control(&mut tx).await?;
        Ok(tx)
    }

    /// A transaction that sees one tenant's rows and no other's.
    pub(crate) async fn begin_tenant(
        &self,
        tenant: TenantId,
    ) -> Result<Transaction<'static, Postgres>, ApiError> {
        Ok(tenure_engine::begin_for(&self.0.pool, tenant).await?)
    }

    /// A transaction that sees what the caller may see: its tenant's rows, or all runs.
    pub(crate) async fn begin_for(
        &self,
        caller: &Caller,
    ) -> Result<Transaction<'static, Postgres>, ApiError> {
        match caller.tenant {
            Some(tenant) => self.begin_tenant(tenant).await,
            None => self.begin().await,
        }
    }
}

/// Lets a transaction see what the caller may see.
pub(crate) async fn see_as(conn: &mut PgConnection, caller: &Caller) -> Result<(), ApiError> {
    match caller.tenant {
        Some(tenant) => tenure_workflows::as_tenant(conn, tenant).await?,
        None => as_engine(conn).await?,
    }
    Ok(())
}

/// Lets a transaction work on the runs of all tenants.
pub(crate) async fn as_engine(conn: &mut PgConnection) -> Result<(), ApiError> {
    sqlx::raw_sql("set local role tenure_engine")
        .execute(conn)
        .await?;
    Ok(())
}

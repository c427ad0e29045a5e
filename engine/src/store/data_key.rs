//! Rows of tenants' wrapped keys.

use std::time::Duration;

use chrono::{DateTime, Utc};
use sqlx::PgConnection;

use crate::id::{ShardId, TenantId};

/// A version of a tenant's key, as stored.
#[derive(Debug)]
pub(crate) struct StoredKey {
    pub(crate) version: i32,
    pub(crate) master_key: String,
    pub(crate) wrapped: Option<Vec<u8>>,
    pub(crate) created_at: DateTime<Utc>,
    pub(crate) usable_at: DateTime<Utc>,
    pub(crate) destroyed_at: Option<DateTime<Utc>>,
    /// Its time to seal has come.
    pub(crate) usable: bool,
}

/// Lists the versions of a tenant's key, oldest first.
pub(crate) async fn list(
    conn: &mut PgConnection,
    tenant: TenantId,
) -> sqlx::Result<Vec<StoredKey>> {
    sqlx::query_as!(
        StoredKey,
        r#"
        select
          version, master_key, wrapped, created_at, usable_at, destroyed_at,
          usable_at <= engine.now() as "usable!"
        from engine.data_key
        where tenant_id = $1
        order by version
        "#,
        tenant.0,
    )
    .fetch_all(conn)
    .await
}

/// Writes a new version; one that is there already stays.
pub(crate) async fn insert(
    conn: &mut PgConnection,
    tenant: TenantId,
    version: i32,
    master_key: &str,
    wrapped: &[u8],
    lead: Duration,
) -> sqlx::Result<()> {
    sqlx::query!(
        r#"
        insert into engine.data_key (tenant_id, version, master_key, wrapped, created_at, usable_at)
        values ($1, $2, $3, $4, engine.now(), engine.now() + $5 * interval '1 second')
        on conflict (tenant_id, version) do nothing
        "#,
        tenant.0,
        version,
        master_key,
        wrapped,
        lead.as_secs_f64(),
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// Locks the tenant's line in the directory: who rotates or destroys does so alone.
pub(crate) async fn lock(conn: &mut PgConnection, tenant: TenantId) -> sqlx::Result<()> {
    sqlx::query!(
        r#"
        select tenant_id
        from engine.tenant
        where tenant_id = $1
        for no key update
        "#,
        tenant.0,
    )
    .fetch_optional(conn)
    .await?;
    Ok(())
}

/// Why the keys of a tenant must stay, if they must.
pub(crate) async fn find_obstacle(
    conn: &mut PgConnection,
    tenant: TenantId,
    shard: ShardId,
) -> sqlx::Result<Option<&'static str>> {
    let row = sqlx::query!(
        r#"
        select
          exists (
            select from engine.legal_hold where tenant_id = $1 and shard_id = $2
          ) as "held!",
          exists (
            select from engine.run where tenant_id = $1 and shard_id = $2 and status < 10
          ) as "live!"
        "#,
        tenant.0,
        shard.0,
    )
    .fetch_one(conn)
    .await?;
    Ok(if row.held {
        Some("a legal hold stands on the tenant")
    } else if row.live {
        Some("the tenant has runs that have not ended; cancel or terminate them first")
    } else {
        None
    })
}

/// Destroys all versions of a tenant's key. Without one, a first version that never was is written,
/// so that none is made later.
pub(crate) async fn destroy(conn: &mut PgConnection, tenant: TenantId) -> sqlx::Result<()> {
    sqlx::query!(
        r#"
        insert into engine.data_key (tenant_id, version, master_key, created_at, usable_at, destroyed_at)
        values ($1, 1, 'none', engine.now(), engine.now(), engine.now())
        on conflict (tenant_id, version) do nothing
        "#,
        tenant.0,
    )
    .execute(&mut *conn)
    .await?;
    sqlx::query!(
        r#"
        update engine.data_key
        set wrapped = null, destroyed_at = engine.now()
        where tenant_id = $1
          and wrapped is not null
        "#,
        tenant.0,
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// Lists keys that another master key than this one wraps.
pub(crate) async fn list_under_others(
    conn: &mut PgConnection,
    master_key: &str,
    limit: i64,
) -> sqlx::Result<Vec<(TenantId, StoredKey)>> {
    let rows = sqlx::query!(
        r#"
        select
          tenant_id as "tenant_id: TenantId", version, master_key, wrapped, created_at, usable_at
        from engine.data_key
        where master_key <> $1
          and wrapped is not null
        order by tenant_id, version
        limit $2
        for no key update
        "#,
        master_key,
        limit,
    )
    .fetch_all(conn)
    .await?;
    let keys = rows.into_iter().map(|row| {
        let key = StoredKey {
            version: row.version,
            master_key: row.master_key,
            wrapped: row.wrapped,
            created_at: row.created_at,
            usable_at: row.usable_at,
            destroyed_at: None,
            usable: false,
        };
        (row.tenant_id, key)
    });
    Ok(keys.collect())
}

/// Lists one key of each master key that wraps any.
pub(crate) async fn list_one_per_master(
    conn: &mut PgConnection,
) -> sqlx::Result<Vec<(TenantId, StoredKey)>> {
    let rows = sqlx::query!(
        r#"
        select distinct on (master_key)
          tenant_id as "tenant_id: TenantId", version, master_key, wrapped, created_at, usable_at
        from engine.data_key
        where wrapped is not null
        order by master_key, tenant_id, version
        "#
    )
    .fetch_all(conn)
    .await?;
    let keys = rows.into_iter().map(|row| {
        let key = StoredKey {
            version: row.version,
            master_key: row.master_key,
            wrapped: row.wrapped,
            created_at: row.created_at,
            usable_at: row.usable_at,
            destroyed_at: None,
            usable: false,
        };
        (row.tenant_id, key)
    });
    Ok(keys.collect())
}

/// Puts a version under another master key; how many rows.
pub(crate) async fn rewrap(
    conn: &mut PgConnection,
    tenant: TenantId,
    key: &StoredKey,
    master_key: &str,
    wrapped: &[u8],
) -> sqlx::Result<u64> {
    let done = sqlx::query!(
        r#"
        update engine.data_key
        set master_key = $3, wrapped = $4
        where tenant_id = $1
          and version = $2
          and wrapped is not null
        "#,
        tenant.0,
        key.version,
        master_key,
        wrapped,
    )
    .execute(conn)
    .await?;
    Ok(done.rows_affected())
}

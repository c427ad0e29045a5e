//! The rows of overrides, and the versions of what is sold.

use serde_json::Value;
use sqlx::PgConnection;
use tenure_engine::{ShardId, TenantId};

use super::{OfferKey, Override};
use crate::catalog::Entry;

/// Finds a published version.
pub(super) async fn find_version(
    conn: &mut PgConnection,
    key: &OfferKey,
) -> sqlx::Result<Option<Entry>> {
    let terms: Option<Value> = sqlx::query_scalar!(
        r#"
        select terms
        from app.catalogue_entry
        where kind = $1
          and key = $2
          and version = $3
        "#,
        key.kind,
        key.key,
        key.version,
    )
    .fetch_optional(conn)
    .await?;
    terms
        .map(|terms| Entry::from_terms(key.kind, terms))
        .transpose()
        .map_err(|error| sqlx::Error::Decode(Box::new(error)))
}

/// Sets a tenant's override of a feature, in place of the one before.
pub(super) async fn put(
    conn: &mut PgConnection,
    tenant: TenantId,
    shard: ShardId,
    one: &Override,
) -> sqlx::Result<()> {
    sqlx::query!(
        r#"
        insert into app.entitlement_override
          (tenant_id, feature, shard_id, value, reason, author, set_at, expires_at)
        values ($1, $2, $3, $4, $5, $6, $7, $8)
        on conflict (tenant_id, feature, shard_id) do update
        set value = excluded.value,
          reason = excluded.reason,
          author = excluded.author,
          set_at = excluded.set_at,
          expires_at = excluded.expires_at
        "#,
        tenant.0,
        one.feature,
        shard.0,
        one.value,
        one.reason,
        one.author,
        one.set_at,
        one.expires_at,
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// Takes a tenant's override of a feature away; false when there was none.
pub(super) async fn delete(
    conn: &mut PgConnection,
    tenant: TenantId,
    shard: ShardId,
    feature: &str,
) -> sqlx::Result<bool> {
    let done = sqlx::query!(
        r#"
        delete from app.entitlement_override
        where tenant_id = $1
          and shard_id = $2
          and feature = $3
        "#,
        tenant.0,
        shard.0,
        feature,
    )
    .execute(conn)
    .await?;
    Ok(done.rows_affected() == 1)
}

/// Lists a tenant's overrides by feature; the one of `feature` when it names one.
pub(super) async fn list(
    conn: &mut PgConnection,
    tenant: TenantId,
    shard: ShardId,
    feature: Option<&str>,
) -> sqlx::Result<Vec<Override>> {
    sqlx::query_as!(
        Override,
        r#"
        select feature, value, reason, author, set_at, expires_at
        from app.entitlement_override
        where tenant_id = $1
          and shard_id = $2
          and ($3::text is null or feature = $3)
        order by feature
        "#,
        tenant.0,
        shard.0,
        feature,
    )
    .fetch_all(conn)
    .await
}

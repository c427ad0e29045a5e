//! The token's row.

use chrono::{DateTime, TimeDelta, Utc};
use sqlx::PgConnection;
use tenure_client::Role;
use tenure_engine::TenantId;
use uuid::Uuid;

use super::NewToken;

/// A token, without its text.
#[derive(Debug, Clone)]
pub struct TokenRow {
    /// Identity.
    pub token_id: Uuid,
    /// Who or what holds it.
    pub name: String,
    /// What it may do.
    pub role: Role,
    /// The one tenant that it sees.
    pub tenant_id: Option<TenantId>,
    /// When it ends.
    pub expires_at: DateTime<Utc>,
    /// When it was taken back.
    pub revoked_at: Option<DateTime<Utc>>,
}

fn role(word: &str) -> Role {
    [Role::Admin, Role::Operator, Role::Support]
        .into_iter()
        .find(|role| role.as_str() == word)
        .unwrap_or(Role::Viewer)
}

pub(super) async fn insert(
    conn: &mut PgConnection,
    token_id: Uuid,
    new: &NewToken,
    digest: &[u8],
    lifetime: TimeDelta,
) -> sqlx::Result<()> {
    sqlx::query!(
        r#"
        insert into app.token (token_id, name, digest, role, tenant_id, created_at, expires_at)
        values ($1, $2, $3, $4, $5, engine.now(), engine.now() + $6 * interval '1 second')
        "#,
        token_id,
        new.name.trim(),
        digest,
        new.role.as_str(),
        new.tenant.map(|tenant| tenant.0),
        lifetime.num_seconds() as f64,
    )
    .execute(conn)
    .await?;
    Ok(())
}

pub(super) async fn find_by_digest(
    conn: &mut PgConnection,
    digest: &[u8],
) -> sqlx::Result<Option<(TokenRow, DateTime<Utc>)>> {
    let row = sqlx::query!(
        r#"
        select token_id, name, role, tenant_id as "tenant_id: TenantId", expires_at, revoked_at,
          engine.now() as "now!"
        from app.token
        where digest = $1
        "#,
        digest,
    )
    .fetch_optional(conn)
    .await?;
    Ok(row.map(|row| {
        let token = TokenRow {
            token_id: row.token_id,
            name: row.name,
            role: role(&row.role),
            tenant_id: row.tenant_id,
            expires_at: row.expires_at,
            revoked_at: row.revoked_at,
        };
        (token, row.now)
    }))
}

/// What a tenant's entitlements follow from, as the database tells it.
pub(crate) struct TenantFacts {
    /// The tenant's time.
    pub(crate) now: DateTime<Utc>,
    /// The facts.
    pub(crate) facts: String,
}

/// Finds a token, the time, and what the entitlements of `tenant` follow from. The pool's connections
/// act as control.
pub(super) async fn find_with_facts(
    conn: &mut PgConnection,
    digest: &[u8],
    tenant: TenantId,
) -> sqlx::Result<Option<(TokenRow, DateTime<Utc>, Option<TenantFacts>)>> {
    let row = sqlx::query!(
        r#"
        select
          token.token_id, token.name, token.role, token.tenant_id as "tenant_id: TenantId",
          token.expires_at, token.revoked_at, engine.now() as "now!",
          told.tenant_now as "tenant_now?", told.facts as "facts?"
        from app.token
        left join lateral app.entitlement_facts($2) as told on true
        where token.digest = $1
        "#,
        digest,
        tenant.0,
    )
    .fetch_optional(conn)
    .await?;
    Ok(row.map(|row| {
        let token = TokenRow {
            token_id: row.token_id,
            name: row.name,
            role: role(&row.role),
            tenant_id: row.tenant_id,
            expires_at: row.expires_at,
            revoked_at: row.revoked_at,
        };
        let facts = match (row.tenant_now, row.facts) {
            (Some(now), Some(facts)) => Some(TenantFacts { now, facts }),
            _ => None,
        };
        (token, row.now, facts)
    }))
}

/// Lists all tokens, newest first. The transaction must act as control.
///
/// # Errors
/// When the database does not answer.
pub async fn list(conn: &mut PgConnection) -> sqlx::Result<Vec<TokenRow>> {
    let rows = sqlx::query!(
        r#"
        select token_id, name, role, tenant_id as "tenant_id: TenantId", expires_at, revoked_at
        from app.token
        order by created_at desc
        "#
    )
    .fetch_all(conn)
    .await?;
    Ok(rows
        .into_iter()
        .map(|row| TokenRow {
            token_id: row.token_id,
            name: row.name,
            role: role(&row.role),
            tenant_id: row.tenant_id,
            expires_at: row.expires_at,
            revoked_at: row.revoked_at,
        })
        .collect())
}

/// Takes a token back; false when there is none that counts. The transaction must act as control.
///
/// # Errors
/// When the database does not answer.
pub async fn revoke(conn: &mut PgConnection, token_id: Uuid) -> sqlx::Result<bool> {
    let done = sqlx::query!(
        r#"
        update app.token
        set revoked_at = engine.now()
        where token_id = $1
          and revoked_at is null
        "#,
        token_id,
    )
    .execute(conn)
    .await?;
    Ok(done.rows_affected() == 1)
}

/// Ends a token after `overlap` at the latest, at once when that is nothing; the token, if one that
/// counts is there.
pub(super) async fn retire(
    conn: &mut PgConnection,
    token_id: Uuid,
    overlap: TimeDelta,
) -> sqlx::Result<Option<TokenRow>> {
    let row = sqlx::query!(
        r#"
        update app.token
        set expires_at = case when $2 > 0::float8
              then least(expires_at, engine.now() + $2 * interval '1 second')
              else expires_at
            end,
            revoked_at = case when $2 > 0::float8 then null else engine.now() end
        where token_id = $1
          and revoked_at is null
          and expires_at > engine.now()
        returning token_id, name, role, tenant_id as "tenant_id: TenantId", expires_at, revoked_at
        "#,
        token_id,
        overlap.num_seconds() as f64,
    )
    .fetch_optional(conn)
    .await?;
    Ok(row.map(|row| TokenRow {
        token_id: row.token_id,
        name: row.name,
        role: role(&row.role),
        tenant_id: row.tenant_id,
        expires_at: row.expires_at,
        revoked_at: row.revoked_at,
    }))
}

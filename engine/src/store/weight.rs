//! Rows of tenants' weights.

use sqlx::PgConnection;

use crate::id::TenantId;

/// A tenant's weight, which nobody else sets until the transaction ends. One of 1 has no row that could be
/// locked: it gets one, for [`put`] or [`delete`] to follow.
pub(crate) async fn lock(conn: &mut PgConnection, tenant: TenantId) -> sqlx::Result<i16> {
    loop {
        let placed = sqlx::query!(
            r#"
            insert into engine.tenant_weight (tenant_id, weight)
            values ($1, 2)
            on conflict (tenant_id) do nothing
            "#,
            tenant.0,
        )
        .execute(&mut *conn)
        .await?;
        if placed.rows_affected() > 0 {
            return Ok(1);
        }
        let found = sqlx::query_scalar!(
            "select weight from engine.tenant_weight where tenant_id = $1 for update",
            tenant.0
        )
        .fetch_optional(&mut *conn)
        .await?;
        // Whoever had it may have given it back in between.
        if let Some(weight) = found {
            return Ok(weight);
        }
    }
}

/// Gives a tenant its weight.
pub(crate) async fn put(
    conn: &mut PgConnection,
    tenant: TenantId,
    weight: i16,
) -> sqlx::Result<()> {
    sqlx::query!(
        r#"
        insert into engine.tenant_weight (tenant_id, weight)
        values ($1, $2)
        on conflict (tenant_id) do update set weight = excluded.weight
        "#,
        tenant.0,
        weight,
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// Gives a tenant the weight of all.
pub(crate) async fn delete(conn: &mut PgConnection, tenant: TenantId) -> sqlx::Result<()> {
    sqlx::query!(
        "delete from engine.tenant_weight where tenant_id = $1",
        tenant.0
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// Lists the tenants whose weight is not 1, the heaviest first.
pub(crate) async fn list(conn: &mut PgConnection) -> sqlx::Result<Vec<(TenantId, i16)>> {
    let rows = sqlx::query!(
        r#"
        select tenant_id as "tenant_id: TenantId", weight
        from engine.tenant_weight
        order by weight desc, tenant_id
        "#
    )
    .fetch_all(conn)
    .await?;
    Ok(rows
        .into_iter()
        .map(|row| (row.tenant_id, row.weight))
        .collect())
}

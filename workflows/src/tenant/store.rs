//! The tenant's rows: the directory entry, and the customer at the provider.

use sqlx::PgConnection;
use tenure_engine::{ClockId, ShardId, TenantId};
use uuid::Uuid;

use super::methods::Offered;
use super::{Profile, TenantRow};
use crate::ports::stripe::Method;
use crate::pricing::Tax;

/// Inserts the directory entry.
pub(super) async fn insert(conn: &mut PgConnection, tenant: &TenantRow) -> sqlx::Result<()> {
    sqlx::query!(
        r#"
        insert into app.tenant
          (tenant_id, shard_id, test_clock_id, name, email, zone, locale, created_at, legal_entity)
        values ($1, $2, $3, $4, $5, $6, $7, $8, $9)
        "#,
        tenant.tenant_id.0,
        tenant.shard_id.0,
        tenant.test_clock_id.map(|clock| clock.0),
        tenant.name,
        tenant.email,
        tenant.zone,
        tenant.locale,
        tenant.created_at,
        tenant.legal_entity,
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// Keeps others from moving the tenant to another zone until the transaction ends.
pub(crate) async fn share_zone(conn: &mut PgConnection, tenant: TenantId) -> sqlx::Result<()> {
    sqlx::query!(
        "select pg_advisory_xact_lock_shared(hashtextextended('app.tenant.zone ' || $1, 0))",
        tenant.to_string(),
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// Waits until nobody begins anything in the tenant's zone, and keeps others from it until the
/// transaction ends.
pub(super) async fn lock_zone(conn: &mut PgConnection, tenant: TenantId) -> sqlx::Result<()> {
    sqlx::query!(
        "select pg_advisory_xact_lock(hashtextextended('app.tenant.zone ' || $1, 0))",
        tenant.to_string(),
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// Keeps others from changing by what terms the tenant is billed (who sells, what tax) until the
/// transaction ends, so that each change tells what it really replaces.
pub(super) async fn lock_terms(conn: &mut PgConnection, tenant: TenantId) -> sqlx::Result<()> {
    sqlx::query!(
        "select pg_advisory_xact_lock(hashtextextended('app.tenant.terms ' || $1, 0))",
        tenant.to_string(),
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// Sets the zone of a tenant. As control.
pub(super) async fn apply_zone(
    conn: &mut PgConnection,
    tenant: TenantId,
    zone: &str,
) -> sqlx::Result<()> {
    sqlx::query!(
        "update app.tenant set zone = $2 where tenant_id = $1",
        tenant.0,
        zone,
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// Sets the legal entity that issues a tenant's invoices. As control.
pub(super) async fn apply_legal_entity(
    conn: &mut PgConnection,
    tenant: TenantId,
    legal_entity: &str,
) -> sqlx::Result<()> {
    sqlx::query!(
        "update app.tenant set legal_entity = $2 where tenant_id = $1",
        tenant.0,
        legal_entity,
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// Finds the key of the legal entity that issues a tenant's invoices.
pub(crate) async fn find_legal_entity(
    conn: &mut PgConnection,
    tenant: TenantId,
) -> sqlx::Result<String> {
    sqlx::query_scalar!(
        "select legal_entity from app.tenant where tenant_id = $1",
        tenant.0,
    )
    .fetch_one(conn)
    .await
}

/// Finds a tenant whose invoices a legal entity issues. As control.
pub(crate) async fn find_with_legal_entity(
    conn: &mut PgConnection,
    legal_entity: &str,
) -> sqlx::Result<Option<TenantId>> {
    sqlx::query_scalar!(
        r#"
        select tenant_id as "tenant_id: TenantId"
        from app.tenant
        where legal_entity = $1
        order by tenant_id
        limit 1
        "#,
        legal_entity,
    )
    .fetch_optional(conn)
    .await
}

/// Lists tenants by id, those whose name, mail or id holds `query` and those that are `named`, after
/// the cursor.
pub(super) async fn list(
    conn: &mut PgConnection,
    tenant: Option<TenantId>,
    query: Option<&str>,
    named: &[Uuid],
    after: Option<TenantId>,
    limit: i64,
) -> sqlx::Result<Vec<TenantRow>> {
    let rows = sqlx::query!(
        r#"
        select
          tenant_id as "tenant_id: TenantId",
          shard_id as "shard_id: ShardId",
          test_clock_id as "test_clock_id: ClockId",
          name, email, zone, locale, created_at, legal_entity
        from app.tenant
        where ($1::uuid is null or tenant_id = $1)
          and ($2::text is null
            or position(lower($2) in lower(name || ' ' || email || ' ' || tenant_id)) > 0
            or tenant_id = any($5))
          and ($3::uuid is null or tenant_id < $3)
        order by tenant_id desc
        limit $4
        "#,
        tenant.map(|tenant| tenant.0),
        query,
        after.map(|after| after.0),
        limit,
        named,
    )
    .fetch_all(conn)
    .await?;
    Ok(rows
        .into_iter()
        .map(|row| TenantRow {
            tenant_id: row.tenant_id,
            shard_id: row.shard_id,
            test_clock_id: row.test_clock_id,
            name: row.name,
            email: row.email,
            zone: row.zone,
            locale: row.locale,
            created_at: row.created_at,
            legal_entity: row.legal_entity,
        })
        .collect())
}

/// Finds tenants by what the provider calls their customer, their method or a charge.
pub(super) async fn find_by_provider_id(
    conn: &mut PgConnection,
    provider_id: &str,
) -> sqlx::Result<Vec<Uuid>> {
    sqlx::query_scalar!(
        r#"
        select tenant_id as "tenant_id!" from app.customer where provider_customer_id = $1
        union
        select tenant_id from app.payment_method where method_id = $1
        union
        select tenant_id from app.payment where provider_intent_id = $1
        "#,
        provider_id,
    )
    .fetch_all(conn)
    .await
}

/// Finds tenants by their whole name, in capitals or not.
pub(super) async fn find_named(
    conn: &mut PgConnection,
    name: &str,
    limit: i64,
) -> sqlx::Result<Vec<TenantId>> {
    sqlx::query_scalar!(
        r#"
        select tenant_id as "tenant_id: TenantId"
        from app.tenant
        where lower(name) = lower($1)
        order by tenant_id desc
        limit $2
        "#,
        name,
        limit,
    )
    .fetch_all(conn)
    .await
}

/// Lists the names of tenants.
pub(super) async fn list_names(
    conn: &mut PgConnection,
    tenants: &[TenantId],
) -> sqlx::Result<Vec<(TenantId, String)>> {
    let ids: Vec<Uuid> = tenants.iter().map(|tenant| tenant.0).collect();
    let rows = sqlx::query!(
        r#"
        select tenant_id as "tenant_id: TenantId", name
        from app.tenant
        where tenant_id = any($1)
        "#,
        &ids,
    )
    .fetch_all(conn)
    .await?;
    Ok(rows
        .into_iter()
        .map(|row| (row.tenant_id, row.name))
        .collect())
}

/// Finds what mails and invoices need of the tenant. Seen by the tenant itself only.
pub(crate) async fn find_profile(
    conn: &mut PgConnection,
    tenant: TenantId,
) -> sqlx::Result<Profile> {
    sqlx::query_as!(
        Profile,
        r#"
        select name, email, zone, test_clock_id is not null as "clocked!", locale
        from app.tenant
        where tenant_id = $1
        "#,
        tenant.0,
    )
    .fetch_one(conn)
    .await
}

/// Records the customer at the provider.
pub(super) async fn insert_customer(
    conn: &mut PgConnection,
    tenant: TenantId,
    shard: ShardId,
    customer: &str,
    clock: Option<&str>,
) -> sqlx::Result<()> {
    sqlx::query!(
        r#"
        insert into app.customer (tenant_id, shard_id, provider_customer_id, provider_clock_id)
        values ($1, $2, $3, $4)
        on conflict (tenant_id, shard_id) do nothing
        "#,
        tenant.0,
        shard.0,
        customer,
        clock,
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// The customer at the provider, and what is charged.
#[derive(Debug, Clone)]
pub struct Customer {
    /// The provider's id of the customer.
    pub provider_customer_id: String,
    /// The first of its methods.
    pub method: Option<Method>,
    /// Why the last method that was offered was refused.
    pub method_error: Option<String>,
}

/// Finds the customer.
pub(crate) async fn find_customer(
    conn: &mut PgConnection,
    tenant: TenantId,
    shard: ShardId,
) -> sqlx::Result<Option<Customer>> {
    let row = sqlx::query!(
        r#"
        select customer.provider_customer_id, customer.method_error, method.method_id as "method_id?",
          method.brand as "brand?", method.last4 as "last4?", method.expires_on
        from app.customer
        left join app.payment_method as method
          on method.tenant_id = customer.tenant_id
            and method.shard_id = customer.shard_id
        where customer.tenant_id = $1
          and customer.shard_id = $2
        order by method.position
        limit 1
        "#,
        tenant.0,
        shard.0,
    )
    .fetch_optional(conn)
    .await?;
    Ok(row.map(|row| {
        let method = match (row.method_id, row.brand, row.last4) {
            (Some(id), Some(brand), Some(last4)) => Some(Method {
                id,
                brand,
                last4,
                expires_on: row.expires_on,
            }),
            _ => None,
        };
        Customer {
            provider_customer_id: row.provider_customer_id,
            method,
            method_error: row.method_error,
        }
    }))
}

/// Lists the tenant's methods in its order. With an invoice, it is told of each whether the last offer
/// of it was declined there in one of the `final_classes`.
pub(crate) async fn list_methods(
    conn: &mut PgConnection,
    tenant: TenantId,
    shard: ShardId,
    of: Option<Uuid>,
    final_classes: &[String],
) -> sqlx::Result<Vec<Offered>> {
    let rows = sqlx::query!(
        r#"
        select method.method_id, method.brand, method.last4, method.expires_on, method.offer,
          exists (
            select
            from app.payment
            where payment.invoice_id = $3
              and payment.shard_id = $2
              and payment.method_id = method.method_id
              and payment.method_offer = method.offer
              and payment.status = 'declined'
              and payment.decline_class = any($4)) as "refused!"
        from app.payment_method as method
        where method.tenant_id = $1
          and method.shard_id = $2
        order by method.position
        "#,
        tenant.0,
        shard.0,
        of,
        final_classes,
    )
    .fetch_all(conn)
    .await?;
    Ok(rows
        .into_iter()
        .map(|row| Offered {
            method: Method {
                id: row.method_id,
                brand: row.brand,
                last4: row.last4,
                expires_on: row.expires_on,
            },
            offer: row.offer,
            refused: row.refused,
        })
        .collect())
}

/// Finds the provider's test clock of a tenant that is bound to one.
pub(crate) async fn find_provider_clock(
    conn: &mut PgConnection,
    tenant: TenantId,
    shard: ShardId,
) -> sqlx::Result<Option<String>> {
    let found = sqlx::query_scalar!(
        "select provider_clock_id from app.customer where tenant_id = $1 and shard_id = $2",
        tenant.0,
        shard.0,
    )
    .fetch_optional(conn)
    .await?;
    Ok(found.flatten())
}

/// Locks the tenant's methods and lists their ids in its order.
pub(super) async fn lock_methods(
    conn: &mut PgConnection,
    tenant: TenantId,
    shard: ShardId,
) -> sqlx::Result<Vec<String>> {
    sqlx::query!(
        "select from app.customer where tenant_id = $1 and shard_id = $2 for update",
        tenant.0,
        shard.0,
    )
    .fetch_optional(&mut *conn)
    .await?;
    sqlx::query_scalar!(
        r#"
        select method_id
        from app.payment_method
        where tenant_id = $1
          and shard_id = $2
        order by position
        "#,
        tenant.0,
        shard.0,
    )
    .fetch_all(conn)
    .await
}

/// Adds a method behind the others; one that is there already was offered anew.
pub(super) async fn put_method(
    conn: &mut PgConnection,
    tenant: TenantId,
    shard: ShardId,
    method: &Method,
) -> sqlx::Result<()> {
    sqlx::query!(
        r#"
        insert into app.payment_method
          (tenant_id, shard_id, method_id, position, brand, last4, expires_on, offer)
        select $1, $2, $3, coalesce(max(position), 0) + 1, $4, $5, $6, 1
        from app.payment_method
        where tenant_id = $1
          and shard_id = $2
        on conflict (tenant_id, shard_id, method_id) do update
        set brand = excluded.brand,
          last4 = excluded.last4,
          expires_on = excluded.expires_on,
          offer = payment_method.offer + 1
        "#,
        tenant.0,
        shard.0,
        method.id,
        method.brand,
        method.last4,
        method.expires_on,
    )
    .execute(&mut *conn)
    .await?;
    sqlx::query!(
        "update app.customer set method_error = null where tenant_id = $1 and shard_id = $2",
        tenant.0,
        shard.0,
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// Sets the order of the tenant's methods; those that it does not name are gone.
pub(super) async fn apply_order(
    conn: &mut PgConnection,
    tenant: TenantId,
    shard: ShardId,
    methods: &[String],
) -> sqlx::Result<()> {
    sqlx::query!(
        r#"
        delete from app.payment_method
        where tenant_id = $1
          and shard_id = $2
          and method_id <> all($3)
        "#,
        tenant.0,
        shard.0,
        methods,
    )
    .execute(&mut *conn)
    .await?;
    sqlx::query!(
        r#"
        update app.payment_method as method
        set position = ordered.position::integer
        from unnest($3::text[]) with ordinality as ordered (method_id, position)
        where method.tenant_id = $1
          and method.shard_id = $2
          and method.method_id = ordered.method_id
        "#,
        tenant.0,
        shard.0,
        methods,
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// Records why a method was refused; the old one stays.
pub(super) async fn apply_method_error(
    conn: &mut PgConnection,
    tenant: TenantId,
    shard: ShardId,
    error: &str,
) -> sqlx::Result<()> {
    sqlx::query!(
        "update app.customer set method_error = $3 where tenant_id = $1 and shard_id = $2",
        tenant.0,
        shard.0,
        error,
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// In which currencies the tenant owes.
pub(super) async fn list_debts(
    conn: &mut PgConnection,
    tenant: TenantId,
    shard: ShardId,
) -> sqlx::Result<Vec<String>> {
    sqlx::query_scalar!(
        r#"
        select currency
        from app.debt
        where tenant_id = $1
          and shard_id = $2
          and state <> 'clear'
        order by currency
        "#,
        tenant.0,
        shard.0,
    )
    .fetch_all(conn)
    .await
}

/// Finds the tax on what the tenant is billed.
pub(crate) async fn find_tax(
    conn: &mut PgConnection,
    tenant: TenantId,
    shard: ShardId,
) -> sqlx::Result<Option<Tax>> {
    let row = sqlx::query!(
        r#"
        select name, percent, inclusive
        from app.tenant_tax
        where tenant_id = $1
          and shard_id = $2
        "#,
        tenant.0,
        shard.0,
    )
    .fetch_optional(conn)
    .await?;
    Ok(row.map(|row| Tax {
        name: row.name,
        percent: row.percent,
        inclusive: row.inclusive,
    }))
}

/// Sets the tax on what the tenant is billed from now on, or takes it away.
pub(super) async fn apply_tax(
    conn: &mut PgConnection,
    tenant: TenantId,
    shard: ShardId,
    tax: Option<&Tax>,
) -> sqlx::Result<()> {
    let Some(tax) = tax else {
        sqlx::query!(
            "delete from app.tenant_tax where tenant_id = $1 and shard_id = $2",
            tenant.0,
            shard.0,
        )
        .execute(conn)
        .await?;
        return Ok(());
    };
    sqlx::query!(
        r#"
        insert into app.tenant_tax (tenant_id, shard_id, name, percent, inclusive)
        values ($1, $2, $3, $4, $5)
        on conflict (tenant_id, shard_id) do update
        set name = excluded.name, percent = excluded.percent, inclusive = excluded.inclusive
        "#,
        tenant.0,
        shard.0,
        tax.name,
        tax.percent,
        tax.inclusive,
    )
    .execute(conn)
    .await?;
    Ok(())
}

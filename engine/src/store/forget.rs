//! What is dropped when a tenant is forgotten, a page a statement.

use sqlx::PgConnection;
use uuid::Uuid;

use crate::forget::About;
use crate::id::{RunId, SYSTEM_TENANT, ShardId, TenantId};

/// What a page came to, and where the next one begins.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Page {
    pub(crate) dropped: i64,
    /// The last row that was looked at; `None` when there is no more.
    pub(crate) last: Option<Uuid>,
}

/// Lists live runs of a tenant with their revisions, after a run.
pub(crate) async fn list_live(
    conn: &mut PgConnection,
    tenant: TenantId,
    shard: ShardId,
    after: RunId,
    limit: i64,
) -> sqlx::Result<Vec<(RunId, i64)>> {
    let rows = sqlx::query!(
        r#"
        select run_id as "run_id: RunId", epoch + visit as "revision!"
        from engine.run
        where tenant_id = $1
          and shard_id = $2
          and run_id > $3
          and status < 10
        order by run_id
        limit $4
        "#,
        tenant.0,
        shard.0,
        after.0,
        limit,
    )
    .fetch_all(conn)
    .await?;
    let rows = rows.into_iter();
    Ok(rows.map(|row| (row.run_id, row.revision)).collect())
}

/// Lists live runs of the system tenant whose key begins with a tenant's id, or is one of these.
pub(crate) async fn list_about(
    conn: &mut PgConnection,
    tenant: TenantId,
    keys: &[String],
) -> sqlx::Result<Vec<About>> {
    let begins = format!("{tenant}/");
    sqlx::query_as!(
        About,
        r#"
        select run_id as "run_id: RunId", state, epoch + visit as "revision!"
        from engine.run
        where tenant_id = $1
          and shard_id = $2
          and status < 10
          and (starts_with(key, $3) or key = any($4))
        order by run_id
        "#,
        SYSTEM_TENANT.0,
        SYSTEM_TENANT.shard().0,
        begins,
        keys,
    )
    .fetch_all(conn)
    .await
}

/// Counts the live runs of a tenant by workflow.
pub(crate) async fn count_live(
    conn: &mut PgConnection,
    tenant: TenantId,
    shard: ShardId,
) -> sqlx::Result<Vec<(String, i64)>> {
    let rows = sqlx::query!(
        r#"
        select workflow, count(*) as "count!"
        from engine.run
        where tenant_id = $1
          and shard_id = $2
          and status < 10
        group by workflow
        order by workflow
        "#,
        tenant.0,
        shard.0,
    )
    .fetch_all(conn)
    .await?;
    Ok(rows
        .into_iter()
        .map(|row| (row.workflow, row.count))
        .collect())
}

/// Whether a legal hold stands on the tenant or on a run of it; its reason.
pub(crate) async fn find_hold(
    conn: &mut PgConnection,
    tenant: TenantId,
    shard: ShardId,
) -> sqlx::Result<Option<String>> {
    sqlx::query_scalar!(
        r#"
        select reason
        from engine.legal_hold
        where tenant_id = $1
          and shard_id = $2
        order by since
        limit 1
        "#,
        tenant.0,
        shard.0,
    )
    .fetch_optional(conn)
    .await
}

/// Drops schedules of a tenant with what became of their slots.
pub(crate) async fn drop_schedules(
    conn: &mut PgConnection,
    tenant: TenantId,
    shard: ShardId,
    limit: i64,
) -> sqlx::Result<Page> {
    let row = sqlx::query!(
        r#"
        with page as (
          select schedule_id, shard_id, key
          from engine.slot
          where tenant_id = $1
            and shard_id = $2
          limit $3
        ), unslotted as (
          delete from engine.slot
          using page
          where slot.schedule_id = page.schedule_id
            and slot.shard_id = page.shard_id
            and slot.shard_id = $2
            and slot.key = page.key
          returning slot.schedule_id
        ), gone as (
          delete from engine.schedule
          where tenant_id = $1
            and shard_id = $2
            and not exists (
              select from engine.slot
              where slot.schedule_id = schedule.schedule_id and slot.shard_id = schedule.shard_id
                and slot.shard_id = $2)
          returning schedule_id
        )
        select
          (select count(*) from gone) as "dropped!",
          (select schedule_id from unslotted limit 1) as last
        "#,
        tenant.0,
        shard.0,
        limit,
    )
    .fetch_one(conn)
    .await?;
    Ok(Page {
        dropped: row.dropped,
        last: row.last,
    })
}

/// Drops runs of a tenant that have ended, with all that hangs on them.
#[expect(clippy::too_many_lines, reason = "one statement")]
pub(crate) async fn drop_runs(
    conn: &mut PgConnection,
    tenant: TenantId,
    shard: ShardId,
    limit: i64,
) -> sqlx::Result<Page> {
    let row = sqlx::query!(
        r#"
        with page as (
          select run_id, shard_id
          from engine.run
          where tenant_id = $1
            and shard_id = $2
            and status >= 10
          order by run_id
          limit $3
        ), gone as (
          delete from engine.run
          using page
          where run.run_id = page.run_id
            and run.shard_id = page.shard_id
            and run.shard_id = $2
          returning run.run_id, run.shard_id
        ), emptied as (
          delete from engine.inbox
          using gone
          where inbox.run_id = gone.run_id
            and inbox.shard_id = gone.shard_id
            and inbox.shard_id = $2
        ), unlisted as (
          delete from engine.fan_item
          using gone
          where fan_item.run_id = gone.run_id
            and fan_item.shard_id = gone.shard_id
            and fan_item.shard_id = $2
        ), unreported as (
          delete from engine.progress
          using gone
          where progress.run_id = gone.run_id
            and progress.shard_id = gone.shard_id
            and progress.shard_id = $2
        ), unlogged as (
          delete from engine.step
          using gone
          where step.run_id = gone.run_id
            and step.shard_id = gone.shard_id
            and step.shard_id = $2
        ), untold as (
          delete from engine.transition
          using gone
          where transition.run_id = gone.run_id
            and transition.shard_id = gone.shard_id
            and transition.shard_id = $2
        ), unparked as (
          delete from engine.parked
          using gone
          where parked.run_id = gone.run_id
            and parked.shard_id = gone.shard_id
            and parked.shard_id = $2
        ), undue as (
          delete from engine.due
          using gone
          where due.run_id = gone.run_id
            and due.shard_id = gone.shard_id
            and due.shard_id = $2
        ), unclocked as (
          delete from engine.clocked
          using gone
          where clocked.run_id = gone.run_id
            and clocked.shard_id = gone.shard_id
            and clocked.shard_id = $2
        ), unwaited as (
          delete from engine.waiter
          using gone
          where waiter.run_id = gone.run_id
            and waiter.shard_id = gone.shard_id
            and waiter.shard_id = $2
        ), unselected as (
          delete from engine.bulk_run
          using gone
          where bulk_run.run_id = gone.run_id
            and bulk_run.shard_id = gone.shard_id
            and bulk_run.shard_id = $2
        )
        select count(*) as "dropped!",
          (select run_id from gone order by run_id desc limit 1) as last
        from gone
        "#,
        tenant.0,
        shard.0,
        limit,
    )
    .fetch_one(conn)
    .await?;
    Ok(Page {
        dropped: row.dropped,
        last: row.last,
    })
}

/// Drops what the logs keep of runs of a tenant that retention dropped before. The logs are walked by
/// run, a page at a time: nothing else tells whose a line is.
pub(crate) async fn drop_logs(
    conn: &mut PgConnection,
    tenant: TenantId,
    after: Uuid,
    limit: i64,
) -> sqlx::Result<Page> {
    let row = sqlx::query!(
        r#"
        with page as materialized (
          select run_id, shard_id, tenant_id
          from engine.transition
          where run_id > $2
          order by run_id
          limit $3
        ), own as (
          select distinct run_id, shard_id
          from page
          where tenant_id = $1
        ), unlogged as (
          delete from engine.step
          using own
          where step.run_id = own.run_id
            and step.shard_id = own.shard_id
        ), gone as (
          delete from engine.transition
          using own
          where transition.run_id = own.run_id
            and transition.shard_id = own.shard_id
          returning 1
        )
        select
          (select count(*) from gone) as "dropped!",
          (select run_id from page order by run_id desc limit 1) as last
        "#,
        tenant.0,
        after,
        limit,
    )
    .fetch_one(conn)
    .await?;
    Ok(Page {
        dropped: row.dropped,
        last: row.last,
    })
}

/// Drops the audit of what people did to runs of a tenant, walked by its key.
pub(crate) async fn drop_audit(
    conn: &mut PgConnection,
    tenant: TenantId,
    after: Uuid,
    limit: i64,
) -> sqlx::Result<Page> {
    let row = sqlx::query!(
        r#"
        with page as materialized (
          select audit_id, shard_id, tenant_id
          from engine.audit
          where audit_id > $2
          order by audit_id
          limit $3
        ), gone as (
          delete from engine.audit
          using page
          where audit.audit_id = page.audit_id
            and audit.shard_id = page.shard_id
            and page.tenant_id = $1
          returning 1
        )
        select
          (select count(*) from gone) as "dropped!",
          (select audit_id from page order by audit_id desc limit 1) as last
        "#,
        tenant.0,
        after,
        limit,
    )
    .fetch_one(conn)
    .await?;
    Ok(Page {
        dropped: row.dropped,
        last: row.last,
    })
}

/// Drops what is left and small: messages and wake-ups without a run, selections, gatherings, the
/// tenant's weight and its pause.
pub(crate) async fn drop_rest(conn: &mut PgConnection, tenant: TenantId) -> sqlx::Result<Page> {
    let dropped = sqlx::query_scalar!(
        r#"
        with unselected as (
          delete from engine.bulk_run
          using engine.bulk
          where bulk_run.bulk_id = bulk.bulk_id
            and (bulk.tenant_id = $1 or bulk_run.tenant_id = $1)
          returning 1
        ), operation as (
          delete from engine.bulk where tenant_id = $1 returning 1
        ), gathering as (
          delete from engine.gathering where tenant_id = $1 returning 1
        ), nudge as (
          delete from engine.nudge where tenant_id = $1 returning 1
        ), due as (
          delete from engine.due where tenant_id = $1 returning 1
        ), clocked as (
          delete from engine.clocked where tenant_id = $1 returning 1
        ), parked as (
          delete from engine.parked where tenant_id = $1 returning 1
        ), waiter as (
          delete from engine.waiter where tenant_id = $1 returning 1
        ), inbox as (
          delete from engine.inbox where tenant_id = $1 returning 1
        ), item as (
          delete from engine.fan_item where tenant_id = $1 returning 1
        ), progress as (
          delete from engine.progress where tenant_id = $1 returning 1
        ), weight as (
          delete from engine.tenant_weight where tenant_id = $1 returning 1
        ), pause as (
          delete from engine.pause where scope = 'tenant' and name = $1::text returning 1
        )
        select (select count(*) from unselected) + (select count(*) from operation)
          + (select count(*) from gathering) + (select count(*) from nudge)
          + (select count(*) from due) + (select count(*) from clocked)
          + (select count(*) from parked) + (select count(*) from waiter)
          + (select count(*) from inbox) + (select count(*) from item)
          + (select count(*) from progress) + (select count(*) from weight)
          + (select count(*) from pause) as "dropped!"
        "#,
        tenant.0,
    )
    .fetch_one(conn)
    .await?;
    Ok(Page {
        dropped,
        last: None,
    })
}

/// Empties what the audit of acts says of a tenant; who acted, when and why stays.
pub(crate) async fn minimise_acts(conn: &mut PgConnection, tenant: TenantId) -> sqlx::Result<i64> {
    let done = sqlx::query!(
        r#"
        update engine.control_audit
        set before = '{}', after = '{}'
        where tenant_id = $1
          and (before <> '{}' or after <> '{}')
        "#,
        tenant.0,
    )
    .execute(conn)
    .await?;
    Ok(i64::try_from(done.rows_affected()).unwrap_or(i64::MAX))
}

/// Counts what the engine has of a tenant, by table.
pub(crate) async fn count(
    conn: &mut PgConnection,
    tenant: TenantId,
) -> sqlx::Result<Vec<(String, i64)>> {
    let rows = sqlx::query!(
        r#"
        select 'run' as "name!", count(*) as "count!" from engine.run where tenant_id = $1
        union all select 'due', count(*) from engine.due where tenant_id = $1
        union all select 'nudge', count(*) from engine.nudge where tenant_id = $1
        union all select 'clocked', count(*) from engine.clocked where tenant_id = $1
        union all select 'parked', count(*) from engine.parked where tenant_id = $1
        union all select 'inbox', count(*) from engine.inbox where tenant_id = $1
        union all select 'transition', count(*) from engine.transition where tenant_id = $1
        union all select 'audit', count(*) from engine.audit where tenant_id = $1
        union all select 'schedule', count(*) from engine.schedule where tenant_id = $1
        union all select 'slot', count(*) from engine.slot where tenant_id = $1
        union all select 'waiter', count(*) from engine.waiter where tenant_id = $1
        union all select 'bulk', count(*) from engine.bulk where tenant_id = $1
        union all select 'bulk_run', count(*) from engine.bulk_run where tenant_id = $1
        union all select 'fan_item', count(*) from engine.fan_item where tenant_id = $1
        union all select 'progress', count(*) from engine.progress where tenant_id = $1
        union all select 'gathering', count(*) from engine.gathering where tenant_id = $1
        union all select 'tenant_weight', count(*) from engine.tenant_weight where tenant_id = $1
        "#,
        tenant.0,
    )
    .fetch_all(conn)
    .await?;
    Ok(rows.into_iter().map(|row| (row.name, row.count)).collect())
}

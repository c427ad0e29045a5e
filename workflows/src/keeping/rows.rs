//! The rows of keeping in our own database.

use chrono::{DateTime, Utc};
use serde_json::{Map, Value};
use sqlx::PgConnection;
use tenure_engine::{ShardId, TenantId};
use uuid::Uuid;

use super::hold::{DataHold, Scope, Standing};

/// Waits for deletes under way and keeps others away until the transaction ends; what time it is.
pub(super) async fn take_turn(
    conn: &mut PgConnection,
    tenant: TenantId,
    shard: ShardId,
) -> sqlx::Result<DateTime<Utc>> {
    let now = find_now(conn).await?;
    sqlx::query!(
        r#"
        insert into app.keeping_turn (tenant_id, shard_id, decided_at)
        values ($1, $2, $3)
        on conflict (tenant_id, shard_id)
          do update set decided_at = excluded.decided_at
        "#,
        tenant.0,
        shard.0,
        now,
    )
    .execute(conn)
    .await?;
    Ok(now)
}

/// Keeps whoever would place a hold waiting until the transaction ends.
pub(super) async fn share_turn(
    conn: &mut PgConnection,
    tenant: TenantId,
    shard: ShardId,
) -> sqlx::Result<()> {
    let now = find_now(conn).await?;
    sqlx::query!(
        r#"
        insert into app.keeping_turn (tenant_id, shard_id, decided_at)
        values ($1, $2, $3)
        on conflict (tenant_id, shard_id)
          do nothing
        "#,
        tenant.0,
        shard.0,
        now,
    )
    .execute(&mut *conn)
    .await?;
    sqlx::query!(
        r#"
        select decided_at
        from app.keeping_turn
        where tenant_id = $1
          and shard_id = $2
        for share
        "#,
        tenant.0,
        shard.0,
    )
    .fetch_one(conn)
    .await?;
    Ok(())
}

/// The time, in real time.
pub(crate) async fn find_now(conn: &mut PgConnection) -> sqlx::Result<DateTime<Utc>> {
    sqlx::query_scalar!(r#"select engine.now() as "now!""#)
        .fetch_one(conn)
        .await
}

pub(super) async fn insert_hold(
    conn: &mut PgConnection,
    shard: ShardId,
    hold: &DataHold,
) -> sqlx::Result<()> {
    let matches = hold.scope.matches().cloned().map(Value::Object);
    sqlx::query!(
        r#"
        insert into app.data_hold
          (hold_id, shard_id, tenant_id, case_name, table_name, row_match, reason, author, placed_at, expires_at)
        values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)
        "#,
        hold.hold_id,
        shard.0,
        hold.tenant_id.0,
        hold.case,
        hold.scope.table(),
        matches,
        hold.reason,
        hold.author,
        hold.placed_at,
        hold.expires_at,
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// Lifts a hold that was not lifted; `false` when it was, or is not there.
pub(super) async fn lift_hold(
    conn: &mut PgConnection,
    hold: Uuid,
    shard: ShardId,
    by: &str,
    reason: &str,
) -> sqlx::Result<bool> {
    let done = sqlx::query!(
        r#"
        update app.data_hold
        set lifted_at = engine.now(), lifted_by = $3, lift_reason = $4
        where hold_id = $1
          and shard_id = $2
          and lifted_at is null
        "#,
        hold,
        shard.0,
        by,
        reason,
    )
    .execute(conn)
    .await?;
    Ok(done.rows_affected() == 1)
}

/// Lists holds, newest first: those that count, and with `past` all; one of them when `hold` names it.
pub(super) async fn list_holds(
    conn: &mut PgConnection,
    tenant: TenantId,
    shard: ShardId,
    past: bool,
    hold: Option<Uuid>,
) -> sqlx::Result<Vec<DataHold>> {
    let rows = sqlx::query!(
        r#"
        select hold_id, case_name, table_name, row_match, reason, author, placed_at, expires_at, lifted_at,
          lifted_by, lift_reason
        from app.data_hold
        where tenant_id = $1
          and shard_id = $2
          and ($3 or (lifted_at is null and (expires_at is null or expires_at > engine.now())))
          and ($4::uuid is null or hold_id = $4)
        order by hold_id desc
        "#,
        tenant.0,
        shard.0,
        past,
        hold,
    )
    .fetch_all(conn)
    .await?;
    let holds = rows.into_iter().map(|row| {
        let lifted = match (row.lifted_at, row.lifted_by, row.lift_reason) {
            (Some(at), Some(by), Some(reason)) => Some((at, by, reason)),
            _ => None,
        };
        DataHold {
            hold_id: row.hold_id,
            tenant_id: tenant,
            scope: scope(row.table_name, row.row_match),
            case: row.case_name,
            reason: row.reason,
            author: row.author,
            placed_at: row.placed_at,
            expires_at: row.expires_at,
            lifted,
        }
    });
    Ok(holds.collect())
}

/// The holds that count now.
pub(super) async fn list_standing(
    conn: &mut PgConnection,
    tenant: TenantId,
    shard: ShardId,
    most: i64,
) -> sqlx::Result<Vec<Standing>> {
    let rows = sqlx::query!(
        r#"
        select hold_id, case_name, table_name, row_match
        from app.data_hold
        where tenant_id = $1
          and shard_id = $2
          and lifted_at is null
          and (expires_at is null or expires_at > engine.now())
        order by hold_id
        limit $3
        "#,
        tenant.0,
        shard.0,
        most,
    )
    .fetch_all(conn)
    .await?;
    let standing = rows.into_iter().map(|row| Standing {
        hold_id: row.hold_id,
        scope: scope(row.table_name, row.row_match),
        case: row.case_name,
    });
    Ok(standing.collect())
}

fn scope(table: Option<String>, matches: Option<Value>) -> Scope {
    match (table, matches) {
        (None, _) => Scope::Tenant,
        (Some(table), Some(Value::Object(matches))) => Scope::Rows { table, matches },
        (Some(table), Some(_)) => Scope::Rows {
            table,
            matches: Map::new(),
        },
        (Some(table), None) => Scope::Table(table),
    }
}

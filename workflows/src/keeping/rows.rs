//! The rows of keeping in our own database.

use chrono::{DateTime, Utc};
use serde_json::{Map, Value};
use sqlx::PgConnection;
use tenure_engine::{ShardId, TenantId};
use uuid::Uuid;

use super::hold::{DataHold, Scope, Standing};

/// Waits for deletes under way and keeps others away until the transaction ends; what time it is.
pub(crate) async fn take_turn(
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
    .fetch_one(&mut *conn)
    .await?;
    // It waits for the product longer than a transaction may be idle otherwise; losing the lock before
    // the delete has committed would let a hold be answered that does not hold. An attempt at a delete
    // is cut off before this.
    sqlx::raw_sql("set local idle_in_transaction_session_timeout = '300s'")
        .execute(conn)
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

/// The holds in law on the tenant's subscriptions that count at an instant of its time.
pub(super) async fn list_legal(
    conn: &mut PgConnection,
    tenant: TenantId,
    shard: ShardId,
    at: DateTime<Utc>,
) -> sqlx::Result<Vec<Standing>> {
    let rows = sqlx::query!(
        r#"
        select hold_id, reason
        from app.hold
        where tenant_id = $1
          and shard_id = $2
          and kind = 'legal'
          and lifted_at is null
          and starts_at <= $3
          and (ends_at is null or ends_at > $3)
        order by placed_at
        "#,
        tenant.0,
        shard.0,
        at,
    )
    .fetch_all(conn)
    .await?;
    let standing = rows.into_iter().map(|row| Standing {
        hold_id: row.hold_id,
        scope: Scope::Tenant,
        case: row.reason,
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

/// A version of a policy.
#[derive(Debug, Clone, PartialEq)]
pub struct PolicyRow {
    /// The product's database.
    pub source: String,
    /// Counts from 1.
    pub version: i32,
    /// What it says.
    pub document: Value,
    /// Who loaded it.
    pub author: String,
    /// Why, in their words.
    pub reason: String,
    /// When, in real time.
    pub loaded_at: DateTime<Utc>,
}

/// Finds a version of a source's policy, or the newest. The transaction must act as control.
pub(crate) async fn find_policy(
    conn: &mut PgConnection,
    source: &str,
    version: Option<i32>,
) -> sqlx::Result<Option<PolicyRow>> {
    sqlx::query_as!(
        PolicyRow,
        r#"
        select source, version, document, author, reason, loaded_at
        from app.keeping_policy
        where source = $1
          and ($2::int4 is null or version = $2)
        order by version desc
        limit 1
        "#,
        source,
        version,
    )
    .fetch_optional(conn)
    .await
}

/// Inserts a version of a policy; `false` when somebody else inserted it.
pub(super) async fn insert_policy(
    conn: &mut PgConnection,
    source: &str,
    version: i32,
    document: &Value,
    author: &str,
    reason: &str,
) -> sqlx::Result<bool> {
    let done = sqlx::query!(
        r#"
        insert into app.keeping_policy (source, version, document, author, reason, loaded_at)
        values ($1, $2, $3, $4, $5, engine.now())
        on conflict (source, version) do nothing
        "#,
        source,
        version,
        document,
        author,
        reason,
    )
    .execute(conn)
    .await?;
    Ok(done.rows_affected() == 1)
}

/// An archive that is complete.
#[derive(Debug, Clone)]
pub(super) struct NewArchive {
    pub(super) archive_id: Uuid,
    pub(super) sweep_id: Uuid,
    pub(super) table: String,
    pub(super) manifest_sha256: String,
    pub(super) rows: u64,
    pub(super) bytes: u64,
    pub(super) made_at: DateTime<Utc>,
    pub(super) destroy_at: Option<DateTime<Utc>>,
}

/// An archive of rows that retention took out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ArchiveRow {
    /// Identity.
    pub archive_id: Uuid,
    /// The sweep that made it.
    pub sweep_id: Uuid,
    /// The table.
    pub table: String,
    /// complete, restoring, restored or destroyed.
    pub status: String,
    /// SHA-256 of its manifest.
    pub manifest_sha256: String,
    /// Rows in it.
    pub rows: i64,
    /// Bytes of its parts.
    pub bytes: i64,
    /// When it was complete.
    pub made_at: DateTime<Utc>,
    /// When it is destroyed; `None` keeps it.
    pub destroy_at: Option<DateTime<Utc>>,
    /// When it was destroyed.
    pub destroyed_at: Option<DateTime<Utc>>,
    /// When its rows were last brought back.
    pub restored_at: Option<DateTime<Utc>>,
}

pub(super) async fn insert_archive(
    conn: &mut PgConnection,
    tenant: TenantId,
    shard: ShardId,
    new: &NewArchive,
) -> sqlx::Result<()> {
    sqlx::query!(
        r#"
        insert into app.data_archive
          (archive_id, shard_id, tenant_id, sweep_id, table_name, status, manifest_sha256, row_count, bytes,
           made_at, destroy_at)
        values ($1, $2, $3, $4, $5, 'complete', $6, $7, $8, $9, $10)
        on conflict (archive_id, shard_id) do nothing
        "#,
        new.archive_id,
        shard.0,
        tenant.0,
        new.sweep_id,
        new.table,
        new.manifest_sha256,
        i64::try_from(new.rows).unwrap_or(i64::MAX),
        i64::try_from(new.bytes).unwrap_or(i64::MAX),
        new.made_at,
        new.destroy_at,
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// Lists a tenant's archives, newest first: of one sweep, or one of them.
pub(super) async fn list_archives(
    conn: &mut PgConnection,
    tenant: TenantId,
    shard: ShardId,
    sweep: Option<Uuid>,
    archive: Option<Uuid>,
    after: Option<Uuid>,
    limit: i64,
) -> sqlx::Result<Vec<ArchiveRow>> {
    sqlx::query_as!(
        ArchiveRow,
        r#"
        select archive_id, sweep_id, table_name as "table", status, manifest_sha256, row_count as "rows", bytes,
          made_at, destroy_at, destroyed_at, restored_at
        from app.data_archive
        where tenant_id = $1
          and shard_id = $2
          and ($3::uuid is null or sweep_id = $3)
          and ($4::uuid is null or archive_id = $4)
          and ($5::uuid is null or archive_id < $5)
        order by archive_id desc
        limit $6
        "#,
        tenant.0,
        shard.0,
        sweep,
        archive,
        after,
        limit,
    )
    .fetch_all(conn)
    .await
}

/// Says that the archives of a sweep whose window has ended are destroyed, but those of held tables (by
/// their bare names) and those that are being restored; which.
pub(super) async fn condemn(
    conn: &mut PgConnection,
    sweep: Uuid,
    shard: ShardId,
    now: DateTime<Utc>,
    held: &[String],
) -> sqlx::Result<Vec<Uuid>> {
    sqlx::query!(
        r#"
        update app.data_archive
        set status = 'destroyed', destroyed_at = $3
        where sweep_id = $1
          and shard_id = $2
          and destroy_at <= $3
          and split_part(table_name, '.', -1) <> all ($4)
          and status in ('complete', 'restored')
        "#,
        sweep,
        shard.0,
        now,
        held,
    )
    .execute(&mut *conn)
    .await?;
    // Asked again after its answer was lost, it tells the same ones.
    sqlx::query_scalar!(
        r#"
        select archive_id
        from app.data_archive
        where sweep_id = $1
          and shard_id = $2
          and destroyed_at = $3
        "#,
        sweep,
        shard.0,
        now,
    )
    .fetch_all(conn)
    .await
}

/// When the next archive of a sweep is to be destroyed.
pub(super) async fn find_next_destroy(
    conn: &mut PgConnection,
    sweep: Uuid,
    shard: ShardId,
) -> sqlx::Result<Option<DateTime<Utc>>> {
    sqlx::query_scalar!(
        r#"
        select min(destroy_at)
        from app.data_archive
        where sweep_id = $1
          and shard_id = $2
          and status <> 'destroyed'
        "#,
        sweep,
        shard.0,
    )
    .fetch_one(conn)
    .await
}

/// Begins or ends a restore, unless the archive is destroyed or another has begun one; whether it did.
pub(super) async fn mark_archive(
    conn: &mut PgConnection,
    archive: Uuid,
    shard: ShardId,
    to: &str,
    restored_at: Option<DateTime<Utc>>,
) -> sqlx::Result<bool> {
    let done = sqlx::query!(
        r#"
        update app.data_archive
        set status = $3, restored_at = coalesce($4, restored_at)
        where archive_id = $1
          and shard_id = $2
          and status <> 'destroyed'
        "#,
        archive,
        shard.0,
        to,
        restored_at,
    )
    .execute(conn)
    .await?;
    Ok(done.rows_affected() == 1)
}

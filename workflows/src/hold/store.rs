//! The rows of holds.

use sqlx::PgConnection;
use tenure_engine::{ShardId, TenantId};
use uuid::Uuid;

use super::{Blocks, HoldRow, Kind, Lifted};

/// Places a hold. One that the same source has placed already stands as it is: `false`.
pub(crate) async fn insert(
    conn: &mut PgConnection,
    shard: ShardId,
    hold: &HoldRow,
) -> sqlx::Result<bool> {
    let done = sqlx::query!(
        r#"
        insert into app.hold
          (hold_id, shard_id, tenant_id, subscription_id, kind, source, starts_at, ends_at, blocks_changes,
           blocks_access, blocks_billing, reason, author, placed_at)
        values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14)
        on conflict (source, tenant_id, subscription_id, kind, shard_id)
          where source is not null and lifted_at is null
          do nothing
        "#,
        hold.hold_id,
        shard.0,
        hold.tenant_id.0,
        hold.subscription_id,
        hold.kind.word(),
        hold.source,
        hold.starts_at,
        hold.ends_at,
        hold.blocks.changes,
        hold.blocks.access,
        hold.blocks.billing,
        hold.reason,
        hold.author,
        hold.placed_at,
    )
    .execute(conn)
    .await?;
    Ok(done.rows_affected() == 1)
}

/// Lifts a hold that stands; `false` when it was lifted before.
pub(crate) async fn apply_lift(
    conn: &mut PgConnection,
    hold: Uuid,
    shard: ShardId,
    lifted: &Lifted,
) -> sqlx::Result<bool> {
    let done = sqlx::query!(
        r#"
        update app.hold
        set lifted_at = $3, lifted_by = $4, lift_reason = $5
        where hold_id = $1
          and shard_id = $2
          and lifted_at is null
        "#,
        hold,
        shard.0,
        lifted.at,
        lifted.by,
        lifted.reason,
    )
    .execute(conn)
    .await?;
    Ok(done.rows_affected() == 1)
}

/// Lists the tenant's holds, newest first: those that stand, and with `lifted` all; one of them
/// when `hold` names it.
pub(crate) async fn list(
    conn: &mut PgConnection,
    tenant: TenantId,
    shard: ShardId,
    lifted: bool,
    hold: Option<Uuid>,
) -> sqlx::Result<Vec<HoldRow>> {
    let rows = sqlx::query!(
        r#"
        select hold_id, subscription_id, kind, source, starts_at, ends_at, blocks_changes, blocks_access,
          blocks_billing, reason, author, placed_at, lifted_at, lifted_by, lift_reason
        from app.hold
        where tenant_id = $1
          and shard_id = $2
          and ($3 or lifted_at is null)
          and ($4::uuid is null or hold_id = $4)
        order by hold_id desc
        "#,
        tenant.0,
        shard.0,
        lifted,
        hold,
    )
    .fetch_all(conn)
    .await?;
    rows.into_iter()
        .map(|row| {
            let kind = Kind::from_word(&row.kind);
            let lifted = match (row.lifted_at, row.lifted_by, row.lift_reason) {
                (Some(at), Some(by), Some(reason)) => Some(Lifted { at, by, reason }),
                _ => None,
            };
            Ok(HoldRow {
                hold_id: row.hold_id,
                tenant_id: tenant,
                subscription_id: row.subscription_id,
                kind: kind.ok_or_else(|| unknown_kind(&row.kind))?,
                source: row.source,
                starts_at: row.starts_at,
                ends_at: row.ends_at,
                blocks: Blocks::new(row.blocks_changes, row.blocks_access, row.blocks_billing),
                reason: row.reason,
                author: row.author,
                placed_at: row.placed_at,
                lifted,
            })
        })
        .collect()
}

fn unknown_kind(word: &str) -> sqlx::Error {
    sqlx::Error::Decode(format!("{word:?} is no kind of hold").into())
}

//! The rows of deletions: what they are, how far they are, and the chain of what was done.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use sqlx::PgConnection;
use tenure_engine::{RunId, SYSTEM_TENANT, ShardId, TenantId};
use uuid::Uuid;

use super::rules::{Action, Anew, Planned, Realm};
use super::{DeletionRow, Unit};
use crate::certificate::{ROOT, Record, link};
use crate::product::Place;

/// The values that must not be found afterwards, and what third parties call the tenant.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(super) struct Known {
    /// Values to look for.
    pub(super) values: Vec<String>,
    /// The provider's id of the customer.
    #[serde(default)]
    pub(super) customer: Option<String>,
    /// What keeps equal values equal where the map hashes; gone with this.
    pub(super) hash_key: String,
    /// Where its rows were in the product.
    #[serde(default)]
    pub(super) place: Option<Place>,
}

/// The system tenant's.
const SHARD: ShardId = ShardId(0);

/// Inserts a deletion; `false` when one of the tenant is under way or done.
pub(super) async fn insert(conn: &mut PgConnection, row: &DeletionRow) -> sqlx::Result<bool> {
    let done = sqlx::query!(
        r#"
        insert into app.deletion
          (deletion_id, shard_id, tenant_id, subject_id, run_id, state, detail, reason, requested_by,
           requested_at, due_at, cooling_off_days, backup_days, alerts, export_id)
        values ($1, $2, $3, $4, $5, 'requested', $6, $7, $8, $9, $10, $11, $12, 0, $13)
        on conflict (subject_id, shard_id) where ended_at is null or state = 'certified' do nothing
        "#,
        row.deletion_id,
        SHARD.0,
        SYSTEM_TENANT.0,
        row.subject.0,
        row.run_id.0,
        row.detail,
        row.reason,
        row.requested_by,
        row.requested_at,
        row.due_at,
        row.cooling_off_days,
        row.backup_days,
        row.export_id,
    )
    .execute(conn)
    .await?;
    Ok(done.rows_affected() == 1)
}

/// Lists deletions, newest first.
pub(super) async fn list(
    conn: &mut PgConnection,
    deletion: Option<Uuid>,
    subject: Option<TenantId>,
    after: Option<Uuid>,
    limit: i64,
) -> sqlx::Result<Vec<DeletionRow>> {
    sqlx::query_as!(
        DeletionRow,
        r#"
        select deletion_id, subject_id as "subject: TenantId", run_id as "run_id: RunId", state, detail,
          reason, requested_by, requested_at, due_at, cooling_off_days, backup_days, approved_by,
          approved_at, cools_until, final_at, ended_at, alerts, export_id, certificate
        from app.deletion
        where shard_id = $1
          and ($2::uuid is null or deletion_id = $2)
          and ($3::uuid is null or subject_id = $3)
          and ($4::uuid is null or deletion_id < $4)
        order by deletion_id desc
        limit $5
        "#,
        SHARD.0,
        deletion,
        subject.map(|subject| subject.0),
        after,
        limit,
    )
    .fetch_all(conn)
    .await
}

/// Says where a deletion is, and what it waits for.
pub(super) async fn apply_state(
    conn: &mut PgConnection,
    deletion: Uuid,
    state: &str,
    detail: Option<&str>,
) -> sqlx::Result<()> {
    sqlx::query!(
        r#"
        update app.deletion
        set state = $3, detail = $4
        where deletion_id = $1
          and shard_id = $2
        "#,
        deletion,
        SHARD.0,
        state,
        detail,
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// Writes down the second person. One who asked for it cannot be that.
pub(super) async fn apply_approval(
    conn: &mut PgConnection,
    deletion: Uuid,
    by: &str,
    at: DateTime<Utc>,
) -> sqlx::Result<bool> {
    let done = sqlx::query!(
        r#"
        update app.deletion
        set approved_by = $3, approved_at = $4
        where deletion_id = $1
          and shard_id = $2
          and approved_by is null
          and requested_by <> $3
        "#,
        deletion,
        SHARD.0,
        by,
        at,
    )
    .execute(conn)
    .await?;
    Ok(done.rows_affected() == 1)
}

/// Writes down until when it can be taken back, or that it no longer can.
pub(super) async fn apply_times(
    conn: &mut PgConnection,
    deletion: Uuid,
    cools_until: Option<DateTime<Utc>>,
    final_at: Option<DateTime<Utc>>,
) -> sqlx::Result<()> {
    sqlx::query!(
        r#"
        update app.deletion
        set cools_until = coalesce(cools_until, $3), final_at = coalesce(final_at, $4)
        where deletion_id = $1
          and shard_id = $2
        "#,
        deletion,
        SHARD.0,
        cools_until,
        final_at,
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// Writes down that somebody was told of its deadline.
pub(super) async fn apply_alert(
    conn: &mut PgConnection,
    deletion: Uuid,
    alerts: i32,
) -> sqlx::Result<()> {
    sqlx::query!(
        "update app.deletion set alerts = $3 where deletion_id = $1 and shard_id = $2",
        deletion,
        SHARD.0,
        alerts,
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// Ends it as cancelled, or as certified with its certificate; what was known is forgotten.
pub(super) async fn end(
    conn: &mut PgConnection,
    deletion: Uuid,
    state: &str,
    certificate: Option<&Value>,
    at: DateTime<Utc>,
) -> sqlx::Result<()> {
    sqlx::query!(
        r#"
        update app.deletion
        set state = $3, certificate = $4, ended_at = $5, known = null, detail = null
        where deletion_id = $1
          and shard_id = $2
        "#,
        deletion,
        SHARD.0,
        state,
        certificate,
        at,
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// Keeps what must not be found afterwards, unless something is kept already.
pub(super) async fn put_known(
    conn: &mut PgConnection,
    deletion: Uuid,
    known: &Value,
) -> sqlx::Result<()> {
    sqlx::query!(
        r#"
        update app.deletion
        set known = coalesce(known, $3)
        where deletion_id = $1
          and shard_id = $2
        "#,
        deletion,
        SHARD.0,
        known,
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// What must not be found afterwards.
pub(super) async fn find_known(
    conn: &mut PgConnection,
    deletion: Uuid,
) -> sqlx::Result<Option<Value>> {
    let found = sqlx::query_scalar!(
        "select known from app.deletion where deletion_id = $1 and shard_id = $2",
        deletion,
        SHARD.0,
    )
    .fetch_optional(conn)
    .await?;
    Ok(found.flatten())
}

/// Makes the plan what it is by now; `last` is the highest number that a step ever had.
pub(super) async fn plan_anew(
    conn: &mut PgConnection,
    deletion: Uuid,
    anew: &Anew,
    last: i32,
) -> sqlx::Result<()> {
    sqlx::query!(
        r#"
        delete from app.deletion_unit
        where deletion_id = $1
          and shard_id = $2
          and seq = any($3)
          and chunk = 0
          and done_at is null
        "#,
        deletion,
        SHARD.0,
        &anew.drops,
    )
    .execute(&mut *conn)
    .await?;
    let (seqs, places): (Vec<i32>, Vec<i32>) = anew.stands.iter().copied().unzip();
    sqlx::query!(
        r#"
        update app.deletion_unit
        set place = turn.place
        from unnest($3::integer[], $4::integer[]) as turn (seq, place)
        where deletion_unit.deletion_id = $1
          and deletion_unit.shard_id = $2
          and deletion_unit.seq = turn.seq
        "#,
        deletion,
        SHARD.0,
        &seqs,
        &places,
    )
    .execute(&mut *conn)
    .await?;
    insert_units(conn, deletion, &anew.adds, last).await
}

async fn insert_units(
    conn: &mut PgConnection,
    deletion: Uuid,
    adds: &[(i32, Planned)],
    last: i32,
) -> sqlx::Result<()> {
    let steps = || adds.iter().map(|(_, step)| step);
    let places: Vec<i32> = adds.iter().map(|(place, _)| *place).collect();
    let realms: Vec<String> = steps().map(|one| one.realm.word().to_owned()).collect();
    let names: Vec<String> = steps().map(|one| one.name.clone()).collect();
    let actions: Vec<String> = steps().map(|one| one.action.word().to_owned()).collect();
    let bases: Vec<Option<String>> = steps().map(|one| one.basis.clone()).collect();
    sqlx::query!(
        r#"
        insert into app.deletion_unit
          (deletion_id, seq, shard_id, tenant_id, realm, name, action, basis, found, erased, masked, kept,
           chunk, place)
        select $1, $4 + planned.nr::integer, $2, $3, planned.realm, planned.name, planned.action,
          planned.basis, 0, 0, 0, 0, 0, planned.place
        from unnest($5::text[], $6::text[], $7::text[], $8::text[], $9::integer[]) with ordinality
          as planned (realm, name, action, basis, place, nr)
        "#,
        deletion,
        SHARD.0,
        SYSTEM_TENANT.0,
        last,
        &realms,
        &names,
        &actions,
        &bases as &[Option<String>],
        &places,
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// Lists the plan with how far it is.
pub(super) async fn list_units(conn: &mut PgConnection, deletion: Uuid) -> sqlx::Result<Vec<Unit>> {
    let rows = sqlx::query!(
        r#"
        select seq, realm, name, action, basis, found, erased, masked, kept, chunk, after,
          coalesce(place, seq) as "place!", done_at
        from app.deletion_unit
        where deletion_id = $1
          and shard_id = $2
        order by done_at is null, coalesce(place, seq), seq
        "#,
        deletion,
        SHARD.0,
    )
    .fetch_all(conn)
    .await?;
    rows.into_iter()
        .map(|row| {
            let unknown =
                |what: &str| sqlx::Error::Decode(format!("no {what} is called so").into());
            Ok(Unit {
                seq: row.seq,
                planned: Planned {
                    realm: Realm::from_word(&row.realm).ok_or_else(|| unknown("realm"))?,
                    action: Action::from_word(&row.action).ok_or_else(|| unknown("action"))?,
                    name: row.name,
                    basis: row.basis,
                },
                found: row.found,
                erased: row.erased,
                masked: row.masked,
                kept: row.kept,
                chunk: row.chunk,
                after: row.after,
                place: row.place,
                done_at: row.done_at,
            })
        })
        .collect()
}

/// What a chunk adds to a step.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Counts {
    pub(super) found: i64,
    pub(super) erased: i64,
    pub(super) masked: i64,
    pub(super) kept: i64,
}

/// Adds a chunk to a step, once: `chunk` is how many it had before. `false` when it was added before.
pub(super) async fn add_chunk(
    conn: &mut PgConnection,
    deletion: Uuid,
    (seq, chunk): (i32, i64),
    counts: Counts,
    after: Option<&str>,
) -> sqlx::Result<bool> {
    let done = sqlx::query!(
        r#"
        update app.deletion_unit
        set found = found + $5, erased = erased + $6, masked = masked + $7, kept = kept + $8,
          chunk = chunk + 1, after = $9
        where deletion_id = $1
          and seq = $2
          and shard_id = $3
          and chunk = $4
          and done_at is null
        "#,
        deletion,
        seq,
        SHARD.0,
        chunk,
        counts.found,
        counts.erased,
        counts.masked,
        counts.kept,
        after,
    )
    .execute(conn)
    .await?;
    Ok(done.rows_affected() == 1)
}

/// Marks a step as done; when, or `None` when it was.
pub(super) async fn finish_unit(
    conn: &mut PgConnection,
    deletion: Uuid,
    seq: i32,
) -> sqlx::Result<Option<DateTime<Utc>>> {
    let done = sqlx::query_scalar!(
        r#"
        update app.deletion_unit
        set done_at = engine.now()
        where deletion_id = $1
          and seq = $2
          and shard_id = $3
          and done_at is null
        returning done_at
        "#,
        deletion,
        seq,
        SHARD.0,
    )
    .fetch_optional(conn)
    .await?;
    Ok(done.flatten())
}

/// Binds a record to the chain.
pub(super) async fn append(
    conn: &mut PgConnection,
    deletion: Uuid,
    body: &Value,
) -> sqlx::Result<()> {
    // One at a time: the next one needs this one's hash.
    sqlx::query!(
        "select from app.deletion where deletion_id = $1 and shard_id = $2 for update",
        deletion,
        SHARD.0,
    )
    .execute(&mut *conn)
    .await?;
    let last = list_records(conn, deletion).await?.pop();
    let (seq, before) = match &last {
        Some(last) => (last.seq + 1, last.hash.as_str()),
        None => (1, ROOT),
    };
    sqlx::query!(
        r#"
        insert into app.deletion_record (deletion_id, seq, shard_id, tenant_id, body, hash)
        values ($1, $2, $3, $4, $5, $6)
        "#,
        deletion,
        seq,
        SHARD.0,
        SYSTEM_TENANT.0,
        body,
        link(before, body),
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// Lists the chain.
pub(super) async fn list_records(
    conn: &mut PgConnection,
    deletion: Uuid,
) -> sqlx::Result<Vec<Record>> {
    sqlx::query_as!(
        Record,
        r#"
        select seq, body, hash
        from app.deletion_record
        where deletion_id = $1
          and shard_id = $2
        order by seq
        "#,
        deletion,
        SHARD.0,
    )
    .fetch_all(conn)
    .await
}

/// Lists the subscriptions of a tenant that have not ended, with their runs. As control, for the tenant.
pub(super) async fn list_subscriptions(
    conn: &mut PgConnection,
    tenant: TenantId,
) -> sqlx::Result<Vec<RunId>> {
    sqlx::query_scalar!(
        r#"
        select run_id as "run_id: RunId"
        from app.subscription
        where tenant_id = $1
          and shard_id = $2
          and lifecycle <> 'ended'
        order by subscription_id
        "#,
        tenant.0,
        tenant.shard().0,
    )
    .fetch_all(conn)
    .await
}

/// An archive of a tenant's rows that was not destroyed.
#[derive(Debug, Clone)]
pub(super) struct Archived {
    pub(super) archive_id: Uuid,
    pub(super) table: String,
    pub(super) manifest_sha256: String,
    pub(super) rows: i64,
    pub(super) made_at: DateTime<Utc>,
    pub(super) destroy_at: Option<DateTime<Utc>>,
}

/// The archives of a tenant's rows that were not destroyed. As control, for the tenant.
pub(super) async fn list_archives(
    conn: &mut PgConnection,
    tenant: TenantId,
) -> sqlx::Result<Vec<Archived>> {
    sqlx::query_as!(
        Archived,
        r#"
        select archive_id, table_name as "table", manifest_sha256, row_count as "rows", made_at, destroy_at
        from app.data_archive
        where tenant_id = $1
          and shard_id = $2
          and status <> 'destroyed'
        order by archive_id
        "#,
        tenant.0,
        tenant.shard().0,
    )
    .fetch_all(conn)
    .await
}

/// Lets an archive outlive its tenant, for the law that asks for it. As control, for the tenant.
pub(super) async fn keep_archive(
    conn: &mut PgConnection,
    tenant: TenantId,
    archive: Uuid,
    basis: &str,
    until: Option<DateTime<Utc>>,
) -> sqlx::Result<()> {
    sqlx::query!(
        r#"
        update app.data_archive
        set law_basis = $4, law_until = $5
        where archive_id = $1
          and shard_id = $2
          and tenant_id = $3
        "#,
        archive,
        tenant.shard().0,
        tenant.0,
        basis,
        until,
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// The archives that outlive a tenant. As control, for the tenant.
pub(super) async fn list_kept_archives(
    conn: &mut PgConnection,
    tenant: TenantId,
) -> sqlx::Result<Vec<Uuid>> {
    sqlx::query_scalar!(
        r#"
        select archive_id
        from app.data_archive
        where tenant_id = $1
          and shard_id = $2
          and status <> 'destroyed'
          and law_basis is not null
        "#,
        tenant.0,
        tenant.shard().0,
    )
    .fetch_all(conn)
    .await
}

/// When the next of the archives that outlive a tenant is to be destroyed. As control, for the tenant.
pub(super) async fn find_kept_until(
    conn: &mut PgConnection,
    tenant: TenantId,
) -> sqlx::Result<Option<DateTime<Utc>>> {
    sqlx::query_scalar!(
        r#"
        select min(law_until)
        from app.data_archive
        where tenant_id = $1
          and shard_id = $2
          and status <> 'destroyed'
          and law_basis is not null
        "#,
        tenant.0,
        tenant.shard().0,
    )
    .fetch_one(conn)
    .await
}

/// Says that the archives are destroyed whose law wants them no longer, but those of held tables (by
/// their bare names); which. As control, for the tenant.
pub(super) async fn condemn_kept(
    conn: &mut PgConnection,
    tenant: TenantId,
    now: DateTime<Utc>,
    held: &[String],
) -> sqlx::Result<Vec<Uuid>> {
    sqlx::query!(
        r#"
        update app.data_archive
        set status = 'destroyed', destroyed_at = $3
        where tenant_id = $1
          and shard_id = $2
          and law_until <= $3
          and status <> 'destroyed'
          and split_part(table_name, '.', -1) <> all ($4)
        "#,
        tenant.0,
        tenant.shard().0,
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
        where tenant_id = $1
          and shard_id = $2
          and law_basis is not null
          and destroyed_at = $3
        "#,
        tenant.0,
        tenant.shard().0,
        now,
    )
    .fetch_all(conn)
    .await
}

/// Says that archives are destroyed; how many were not before.
pub(super) async fn say_destroyed(
    conn: &mut PgConnection,
    tenant: TenantId,
    archives: &[Uuid],
) -> sqlx::Result<i64> {
    let done = sqlx::query!(
        r#"
        update app.data_archive
        set status = 'destroyed', destroyed_at = engine.now()
        where tenant_id = $1
          and shard_id = $2
          and archive_id = any($3)
          and status <> 'destroyed'
        "#,
        tenant.0,
        tenant.shard().0,
        archives,
    )
    .execute(conn)
    .await?;
    Ok(i64::try_from(done.rows_affected()).unwrap_or(i64::MAX))
}

/// Exports of a tenant that have not ended.
pub(super) async fn list_exports(
    conn: &mut PgConnection,
    tenant: TenantId,
) -> sqlx::Result<Vec<Uuid>> {
    sqlx::query_scalar!(
        r#"
        select export_id
        from app.data_export
        where tenant_id = $1
          and shard_id = $2
          and status <> 'ended'
        "#,
        tenant.0,
        tenant.shard().0,
    )
    .fetch_all(conn)
    .await
}

/// Whether a tenant is shut because it is being deleted. As control.
pub(super) async fn is_shut(conn: &mut PgConnection, tenant: TenantId) -> sqlx::Result<bool> {
    sqlx::query_scalar!(
        r#"
        select exists (
          select from app.deletion
          where subject_id = $1
            and shard_id = $2
            and cools_until is not null
            and state <> 'cancelled') as "shut!"
        "#,
        tenant.0,
        SHARD.0,
    )
    .fetch_one(conn)
    .await
}

/// Whether a tenant's deletion is asked for, under way or done. As control.
pub(super) async fn is_asked(conn: &mut PgConnection, tenant: TenantId) -> sqlx::Result<bool> {
    sqlx::query_scalar!(
        r#"
        select exists (
          select from app.deletion
          where subject_id = $1
            and shard_id = $2
            and (ended_at is null or state = 'certified')) as "asked!"
        "#,
        tenant.0,
        SHARD.0,
    )
    .fetch_one(conn)
    .await
}

/// How many invoices of a tenant are drafts.
pub(super) async fn count_drafts(conn: &mut PgConnection, tenant: TenantId) -> sqlx::Result<i64> {
    sqlx::query_scalar!(
        r#"
        select count(*) as "count!"
        from app.subscription
        cross join lateral (
          select from app.invoice
          where invoice.subscription_id = subscription.subscription_id
            and invoice.shard_id = subscription.shard_id
            and invoice.status = 'draft'
        ) as draft
        where subscription.tenant_id = $1
          and subscription.shard_id = $2
        "#,
        tenant.0,
        tenant.shard().0,
    )
    .fetch_one(conn)
    .await
}

/// Takes back the tokens that see this tenant only; how many.
pub(super) async fn revoke_tokens(conn: &mut PgConnection, tenant: TenantId) -> sqlx::Result<u64> {
    let done = sqlx::query!(
        r#"
        update app.token
        set revoked_at = engine.now()
        where tenant_id = $1
          and revoked_at is null
        "#,
        tenant.0,
    )
    .execute(conn)
    .await?;
    Ok(done.rows_affected())
}

/// Lets the deletion's hold block billing, or not, so that a last invoice can come.
pub(super) async fn apply_hold_billing(
    conn: &mut PgConnection,
    tenant: TenantId,
    source: &str,
    blocks: bool,
) -> sqlx::Result<()> {
    sqlx::query!(
        r#"
        update app.hold
        set blocks_billing = $4
        where tenant_id = $1
          and shard_id = $2
          and source = $3
          and lifted_at is null
        "#,
        tenant.0,
        tenant.shard().0,
        source,
        blocks,
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// Lifts the deletion's hold.
pub(super) async fn lift_hold(
    conn: &mut PgConnection,
    tenant: TenantId,
    source: &str,
    (by, reason): (&str, &str),
    at: DateTime<Utc>,
) -> sqlx::Result<()> {
    sqlx::query!(
        r#"
        update app.hold
        set lifted_at = $4, lifted_by = $5, lift_reason = $6
        where tenant_id = $1
          and shard_id = $2
          and source = $3
          and lifted_at is null
        "#,
        tenant.0,
        tenant.shard().0,
        source,
        at,
        by,
        reason,
    )
    .execute(conn)
    .await?;
    Ok(())
}

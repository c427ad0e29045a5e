//! The debt row, the facts that it follows from, policies and exemptions.

use chrono::{DateTime, Utc};
use serde_json::Value;
use sqlx::PgConnection;
use tenure_engine::{RunId, ShardId, TenantId};
use uuid::Uuid;

use super::policy::{DisputeAction, Policy};
use super::rules::{
    Attempt, Decision, Declined, Disputed, LastDecline, UnderWay, Unpaid, Waited, WaitsFor,
};
use super::{Assignment, AssignmentScope, DebtRow, ExemptionRow, PolicyRow};
use crate::hold::Lifted;
use crate::money::{Currency, Money};
use crate::payment::rules::DeclineClass;

/// Those of some invoices whose subscription still waits for its first payment.
pub(super) async fn list_first(
    conn: &mut PgConnection,
    shard: ShardId,
    invoices: &[Uuid],
) -> sqlx::Result<Vec<Uuid>> {
    sqlx::query_scalar!(
        r#"
        select invoice.invoice_id
        from app.invoice
        join app.subscription using (subscription_id, shard_id)
        where invoice.invoice_id = any($1)
          and invoice.shard_id = $2
          and subscription.lifecycle = 'incomplete'
        "#,
        invoices,
        shard.0,
    )
    .fetch_all(conn)
    .await
}

/// Lists what the tenant owes in a currency: invoices that are open and were declined, the oldest
/// first. Which method would be charged for each is the rules' to say.
pub(crate) async fn list_unpaid(
    conn: &mut PgConnection,
    tenant: TenantId,
    shard: ShardId,
    currency: Currency,
) -> sqlx::Result<Vec<Unpaid>> {
    let rows = sqlx::query!(
        r#"
        select invoice.invoice_id, invoice.subscription_id,
          invoice.total - invoice.credited - invoice.balance_applied as "total!",
          invoice.finalized_at as "finalized_at!",
          -- An amount that the provider takes of nobody is no failure of the customer's.
          coalesce(
            min(payment.settled_at) filter (where payment.decline_class <> 'amount'),
            min(payment.settled_at) filter (where payment.status = 'declined')) as "failed_at!",
          max(coalesce(payment.settled_at, payment.sent_at)) as "tried_at!",
          array_agg(payment.sent_at order by payment.generation)
            filter (where payment.status = 'declined') as "sent!",
          array_agg(payment.settled_at order by payment.generation)
            filter (where payment.status = 'declined') as "answered!",
          invoice.attempts as "generation!",
          -- Nothing is known of it while it is about to be written down.
          last.status as "status?", last.decline_class as class, last.sent_at as "sent_at?"
        from app.invoice
        join app.payment using (invoice_id, shard_id)
        left join app.payment as last
          on last.invoice_id = invoice.invoice_id
          and last.shard_id = $2
          and last.generation = invoice.attempts
        where invoice.tenant_id = $1
          and invoice.shard_id = $2
          and invoice.currency = $3
          and invoice.status = 'open'
        group by invoice.invoice_id, invoice.shard_id, last.invoice_id, last.generation, last.shard_id
        having bool_or(payment.status = 'declined')
        order by invoice.finalized_at, invoice.number, invoice.invoice_id
        "#,
        tenant.0,
        shard.0,
        currency.code(),
    )
    .fetch_all(conn)
    .await?;
    rows.into_iter()
        .map(|row| {
            let declined = row.class.as_deref().map(read_class).transpose()?;
            let sent = (row.generation, row.sent_at);
            let last = last_attempt(declined, row.status.as_deref(), sent);
            Ok(Unpaid {
                invoice_id: row.invoice_id,
                subscription_id: row.subscription_id,
                total: Money::new(row.total, currency),
                finalized_at: row.finalized_at,
                failed_at: row.failed_at,
                tried_at: row.tried_at,
                waits: waits(row.failed_at, &row.sent, &row.answered),
                last,
                next: None,
            })
        })
        .collect()
}

/// How the last attempt stands: which, and when it was sent.
fn last_attempt(
    declined: Option<DeclineClass>,
    status: Option<&str>,
    (generation, since): (i32, Option<DateTime<Utc>>),
) -> Attempt {
    let waits_for = match (declined, status) {
        (Some(DeclineClass::Amount), _) => WaitsFor::Operator,
        (Some(class), _) => return Attempt::Declined(Declined { generation, class }),
        (None, Some("processing")) => WaitsFor::Bank,
        (None, Some("requires_action")) => WaitsFor::Customer,
        (None, _) => WaitsFor::Provider,
    };
    Attempt::UnderWay(UnderWay { since, waits_for })
}

/// The attempts after the first failure that were declined; when each was sent, and when answered.
fn waits(
    failed_at: DateTime<Utc>,
    sent: &[DateTime<Utc>],
    answered: &[DateTime<Utc>],
) -> Vec<Waited> {
    sent.iter()
        .zip(answered)
        .map(|(sent_at, answered_at)| Waited {
            sent_at: *sent_at,
            answered_at: *answered_at,
        })
        .filter(|wait| wait.sent_at >= failed_at)
        .collect()
}

/// Lists what is disputed in a currency and withdrawn, as far as nothing was credited for it since, the
/// oldest first. What is held for it is the policy's to say.
pub(super) async fn list_disputed(
    conn: &mut PgConnection,
    tenant: TenantId,
    shard: ShardId,
    currency: Currency,
) -> sqlx::Result<Vec<Disputed>> {
    let rows = sqlx::query!(
        r#"
        select invoice.subscription_id, dispute.standing = 'lost' as "lost!", dispute.opened_at
        from app.dispute
        join app.invoice using (invoice_id, shard_id)
        where dispute.tenant_id = $1
          and dispute.shard_id = $2
          and dispute.currency = $3
          and dispute.standing in ('open', 'lost')
          -- Something of it is not settled by other ways: see `invoice::store::Standing`. For what the
          -- invoice collected for earlier ones nothing is held: no credit note could take that off.
          and invoice.total > invoice.credited + greatest(invoice.balance_applied, 0)
            + coalesce((
              select sum(payment.amount)
              from app.payment
              where payment.invoice_id = invoice.invoice_id
                and payment.shard_id = $2
                and payment.status = 'succeeded'), 0)
            - coalesce((
              select sum(entry.amount)
              from app.credit_entry as entry
              where entry.reference = invoice.invoice_id
                and entry.reason = 'overpaid'
                and entry.tenant_id = $1
                and entry.shard_id = $2), 0)
            - coalesce((
              select sum(other.amount)
              from app.dispute as other
              where other.invoice_id = invoice.invoice_id
                and other.shard_id = $2
                and other.standing in ('open', 'lost')), 0)
        order by dispute.opened_at, dispute.dispute_id
        "#,
        tenant.0,
        shard.0,
        currency.code(),
    )
    .fetch_all(conn)
    .await?;
    Ok(rows
        .into_iter()
        .map(|row| Disputed {
            subscription_id: row.subscription_id,
            lost: row.lost,
            opened_at: row.opened_at,
            action: DisputeAction::Leave,
        })
        .collect())
}

/// A decline, as it is shown.
#[derive(Debug, Clone)]
pub(super) struct Decline {
    pub(super) last: LastDecline,
    pub(super) code: String,
    pub(super) at: DateTime<Utc>,
}

/// Finds the last decline of what is owed in a currency; before those after which another attempt is
/// under way, one of what that is not so of; before those of an amount, which say nothing of a method,
/// any other.
pub(super) async fn find_last_decline(
    conn: &mut PgConnection,
    tenant: TenantId,
    shard: ShardId,
    currency: Currency,
) -> sqlx::Result<Option<Decline>> {
    let row = sqlx::query!(
        r#"
        select invoice.invoice_id, payment.decline_class as "class!", payment.decline_code as "code!",
          payment.method_id,
          payment.settled_at as "at!"
        from app.invoice
        join app.payment using (invoice_id, shard_id)
        where invoice.tenant_id = $1
          and invoice.shard_id = $2
          and invoice.currency = $3
          and invoice.status = 'open'
          and payment.status = 'declined'
        order by payment.decline_class = 'amount', payment.generation = invoice.attempts desc,
          payment.settled_at desc,
          payment.generation desc, payment.invoice_id desc
        limit 1
        "#,
        tenant.0,
        shard.0,
        currency.code(),
    )
    .fetch_optional(conn)
    .await?;
    row.map(|row| {
        let class = read_class(&row.class)?;
        Ok(Decline {
            last: LastDecline {
                invoice_id: row.invoice_id,
                class,
                method: row.method_id,
            },
            code: row.code,
            at: row.at,
        })
    })
    .transpose()
}

fn read_class(word: &str) -> sqlx::Result<DeclineClass> {
    DeclineClass::from_word(word)
        .ok_or_else(|| sqlx::Error::Decode(format!("{word:?} is no class").into()))
}

/// Counts the retries with a method for an amount since an instant, as networks do: attempts that came
/// after a declined one, whatever invoice they were at and whoever asked for them.
pub(super) async fn count_retries(
    conn: &mut PgConnection,
    tenant: TenantId,
    shard: ShardId,
    method: &str,
    money: Money,
    since: DateTime<Utc>,
) -> sqlx::Result<u32> {
    let retries = sqlx::query_scalar!(
        r#"
        select count(*) as "retries!"
        from app.payment
        where tenant_id = $1
          and shard_id = $2
          and method_id = $3
          and currency = $4
          and amount = $5
          and sent_at > $6
          and (
            select earlier.status
            from app.payment as earlier
            where earlier.tenant_id = $1
              and earlier.shard_id = $2
              and earlier.method_id = $3
              and earlier.currency = $4
              and earlier.amount = $5
              and (earlier.sent_at, earlier.generation, earlier.invoice_id)
                < (payment.sent_at, payment.generation, payment.invoice_id)
            order by earlier.sent_at desc, earlier.generation desc, earlier.invoice_id desc
            limit 1) = 'declined'
        "#,
        tenant.0,
        shard.0,
        method,
        money.currency().code(),
        money.amount(),
        since,
    )
    .fetch_one(conn)
    .await?;
    Ok(u32::try_from(retries).unwrap_or(u32::MAX))
}

/// Lists the runs of the subscriptions that still live, of those that are named.
pub(super) async fn list_runs(
    conn: &mut PgConnection,
    tenant: TenantId,
    shard: ShardId,
    subscriptions: &[Uuid],
) -> sqlx::Result<Vec<RunId>> {
    sqlx::query_scalar!(
        r#"
        select run_id as "run_id: RunId"
        from app.subscription
        where tenant_id = $1
          and shard_id = $2
          and subscription_id = any($3)
          and lifecycle <> 'ended'
        order by subscription_id
        "#,
        tenant.0,
        shard.0,
        subscriptions,
    )
    .fetch_all(conn)
    .await
}

/// A policy and which one it is; `None` is the one that is built in.
#[derive(Debug, Clone)]
pub(crate) struct Chosen {
    pub(crate) policy: Policy,
    pub(crate) of: Option<(String, i32)>,
}

/// Finds the policy that a tenant goes by for a subscription: its own, that of the plan, the
/// default, the one that is built in; each in its newest version.
pub(crate) async fn find_policy_for(
    conn: &mut PgConnection,
    tenant: TenantId,
    shard: ShardId,
    subscription: Option<Uuid>,
) -> sqlx::Result<Chosen> {
    let row = sqlx::query!(
        r#"
        select policy.policy, policy.version, policy.document
        from app.dunning_assignment assignment
        join app.dunning_policy policy using (policy)
        where (assignment.scope, assignment.subject) in (
            ('tenant', $1),
            ('plan', (
              select subscription.plan
              from app.subscription
              where subscription.subscription_id = $2
                and subscription.shard_id = $3)),
            ('default', ''))
        order by array_position(array['tenant', 'plan', 'default'], assignment.scope), policy.version desc
        limit 1
        "#,
        tenant.to_string(),
        subscription,
        shard.0,
    )
    .fetch_optional(conn)
    .await?;
    let Some(row) = row else {
        return Ok(Chosen {
            policy: Policy::built_in(),
            of: None,
        });
    };
    let policy = serde_json::from_value(row.document);
    Ok(Chosen {
        policy: policy.map_err(|error| sqlx::Error::Decode(Box::new(error)))?,
        of: Some((row.policy, row.version)),
    })
}

/// Records how the debt stands.
pub(super) async fn apply(
    conn: &mut PgConnection,
    tenant: TenantId,
    shard: ShardId,
    currency: Currency,
    decision: &Decision,
    policy: Option<&(String, i32)>,
) -> sqlx::Result<()> {
    sqlx::query!(
        r#"
        insert into app.debt
          (tenant_id, currency, shard_id, state, since, next_attempt_at, step, policy, policy_version,
           next_step, next_step_at, ends_at)
        values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12)
        on conflict (tenant_id, currency, shard_id) do update
        set state = excluded.state,
          since = excluded.since,
          next_attempt_at = excluded.next_attempt_at,
          step = excluded.step,
          policy = excluded.policy,
          policy_version = excluded.policy_version,
          next_step = excluded.next_step,
          next_step_at = excluded.next_step_at,
          ends_at = excluded.ends_at
        "#,
        tenant.0,
        currency.code(),
        shard.0,
        decision.stage.word(),
        decision.since,
        decision.retry_at,
        decision.step,
        policy.map(|(name, _)| name),
        policy.map(|(_, version)| *version),
        decision.next_step.as_ref().map(|next| &next.step),
        decision.next_step.as_ref().map(|next| next.at),
        decision.ends_at,
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// Lists the tenant's debts by currency, those that are clear too.
pub(super) async fn list_debts(
    conn: &mut PgConnection,
    tenant: TenantId,
    shard: ShardId,
) -> sqlx::Result<Vec<DebtRow>> {
    let rows = sqlx::query!(
        r#"
        select currency, state, since, next_attempt_at, step, policy, policy_version, next_step,
          next_step_at, ends_at
        from app.debt
        where tenant_id = $1
          and shard_id = $2
        order by currency
        "#,
        tenant.0,
        shard.0,
    )
    .fetch_all(conn)
    .await?;
    rows.into_iter()
        .map(|row| {
            let currency = row.currency.parse();
            Ok(DebtRow {
                currency: currency.map_err(|error| sqlx::Error::Decode(Box::new(error)))?,
                state: row.state,
                since: row.since,
                next_attempt_at: row.next_attempt_at,
                step: row.step,
                policy: row.policy.zip(row.policy_version),
                next_step: row.next_step.zip(row.next_step_at),
                ends_at: row.ends_at,
            })
        })
        .collect()
}

/// Up to when the tenant is exempt in a currency, if it is.
pub(super) async fn find_exempt_until(
    conn: &mut PgConnection,
    tenant: TenantId,
    shard: ShardId,
    currency: Currency,
    now: DateTime<Utc>,
) -> sqlx::Result<Option<DateTime<Utc>>> {
    sqlx::query_scalar!(
        r#"
        select max(ends_at)
        from app.dunning_exemption
        where tenant_id = $1
          and shard_id = $2
          and (currency is null or currency = $3)
          and ends_at > $4
          and lifted_at is null
        "#,
        tenant.0,
        shard.0,
        currency.code(),
        now,
    )
    .fetch_one(conn)
    .await
}

/// Inserts an exemption.
pub(super) async fn insert_exemption(
    conn: &mut PgConnection,
    tenant: TenantId,
    shard: ShardId,
    row: &ExemptionRow,
) -> sqlx::Result<()> {
    sqlx::query!(
        r#"
        insert into app.dunning_exemption
          (exemption_id, shard_id, tenant_id, currency, ends_at, reason, author, placed_at)
        values ($1, $2, $3, $4, $5, $6, $7, $8)
        "#,
        row.exemption_id,
        shard.0,
        tenant.0,
        row.currency.map(Currency::code),
        row.ends_at,
        row.reason,
        row.author,
        row.placed_at,
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// Takes an exemption back; `false` when that was done before.
pub(super) async fn apply_exemption_lift(
    conn: &mut PgConnection,
    exemption: Uuid,
    shard: ShardId,
    lifted: &Lifted,
) -> sqlx::Result<bool> {
    let done = sqlx::query!(
        r#"
        update app.dunning_exemption
        set lifted_at = $3, lifted_by = $4, lift_reason = $5
        where exemption_id = $1
          and shard_id = $2
          and lifted_at is null
        "#,
        exemption,
        shard.0,
        lifted.at,
        lifted.by,
        lifted.reason,
    )
    .execute(conn)
    .await?;
    Ok(done.rows_affected() == 1)
}

/// Lists the tenant's exemptions, newest first.
pub(super) async fn list_exemptions(
    conn: &mut PgConnection,
    tenant: TenantId,
    shard: ShardId,
) -> sqlx::Result<Vec<ExemptionRow>> {
    let rows = sqlx::query!(
        r#"
        select exemption_id, currency, ends_at, reason, author, placed_at, lifted_at, lifted_by,
          lift_reason
        from app.dunning_exemption
        where tenant_id = $1
          and shard_id = $2
        order by exemption_id desc
        "#,
        tenant.0,
        shard.0,
    )
    .fetch_all(conn)
    .await?;
    rows.into_iter()
        .map(|row| {
            let currency = row.currency.map(|code| code.parse()).transpose();
            let lifted = match (row.lifted_at, row.lifted_by, row.lift_reason) {
                (Some(at), Some(by), Some(reason)) => Some(Lifted { at, by, reason }),
                _ => None,
            };
            Ok(ExemptionRow {
                exemption_id: row.exemption_id,
                currency: currency.map_err(|error| sqlx::Error::Decode(Box::new(error)))?,
                ends_at: row.ends_at,
                reason: row.reason,
                author: row.author,
                placed_at: row.placed_at,
                lifted,
            })
        })
        .collect()
}

/// Inserts a version of a policy, unless somebody else has inserted it meanwhile (`None`).
pub(super) async fn insert_policy(
    conn: &mut PgConnection,
    policy: &str,
    version: i32,
    document: &Value,
    author: &str,
    reason: &str,
) -> sqlx::Result<Option<DateTime<Utc>>> {
    sqlx::query_scalar!(
        r#"
        insert into app.dunning_policy (policy, version, document, author, reason, loaded_at)
        values ($1, $2, $3, $4, $5, engine.now())
        on conflict (policy, version) do nothing
        returning loaded_at
        "#,
        policy,
        version,
        document,
        author,
        reason,
    )
    .fetch_optional(conn)
    .await
}

/// Lists versions of policies, by key and newest first: all, or those of one.
pub(super) async fn list_policies(
    conn: &mut PgConnection,
    policy: Option<&str>,
) -> sqlx::Result<Vec<PolicyRow>> {
    sqlx::query_as!(
        PolicyRow,
        r#"
        select policy, version, document, author, reason, loaded_at
        from app.dunning_policy
        where ($1::text is null or policy = $1)
        order by policy, version desc
        "#,
        policy,
    )
    .fetch_all(conn)
    .await
}

/// Assigns a policy.
pub(super) async fn put_assignment(
    conn: &mut PgConnection,
    scope: &AssignmentScope,
    policy: &str,
    author: &str,
    reason: &str,
) -> sqlx::Result<()> {
    sqlx::query!(
        r#"
        with current as (select engine.now() as at)
        insert into app.dunning_assignment (scope, subject, policy, author, reason, assigned_at)
        select $1, $2, $3, $4, $5, at
        from current
        on conflict (scope, subject) do update
        set policy = excluded.policy,
          author = excluded.author,
          reason = excluded.reason,
          assigned_at = excluded.assigned_at
        "#,
        scope.word(),
        scope.subject(),
        policy,
        author,
        reason,
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// Takes an assignment away.
pub(super) async fn delete_assignment(
    conn: &mut PgConnection,
    scope: &AssignmentScope,
) -> sqlx::Result<bool> {
    let done = sqlx::query!(
        "delete from app.dunning_assignment where scope = $1 and subject = $2",
        scope.word(),
        scope.subject(),
    )
    .execute(conn)
    .await?;
    Ok(done.rows_affected() == 1)
}

/// Lists the assignments.
pub(super) async fn list_assignments(conn: &mut PgConnection) -> sqlx::Result<Vec<Assignment>> {
    let rows = sqlx::query!(
        r#"
        select scope, subject, policy, author, reason, assigned_at
        from app.dunning_assignment
        order by scope, subject
        "#
    )
    .fetch_all(conn)
    .await?;
    rows.into_iter()
        .map(|row| {
            let scope = AssignmentScope::from_words(&row.scope, &row.subject);
            let unread = || sqlx::Error::Decode(format!("{:?} is no scope", row.scope).into());
            Ok(Assignment {
                scope: scope.ok_or_else(unread)?,
                policy: row.policy,
                author: row.author,
                reason: row.reason,
                assigned_at: row.assigned_at,
            })
        })
        .collect()
}

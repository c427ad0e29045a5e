//! A look at a debt: read the facts, decide, write what follows. One transaction, so that the debt
//! row and the holds are never of two opinions.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

use chrono::{DateTime, NaiveDate, TimeDelta, Utc};
use rust_decimal::Decimal;
use serde::{Deserialize, Serialize};
use sqlx::PgConnection;
use tenure_engine::{ResultExt as _, RunId, ShardId, StepError, TenantId};
use uuid::Uuid;

use super::policy::{Ceiling, EndAction};
use super::rules::{self, Decision, Disputed, Facts, Next, Stage, Unpaid, Wanted};
use super::{Debt, store};
use crate::calendar;
use crate::hold::{self, HoldRow, Lifted};
use crate::money::Currency;
use crate::payment::rules::DeclineClass;
use crate::ports::stripe::chargeable;
use crate::subscription;
use crate::tenant::{self, methods};

/// What a look came to, as the journal keeps it.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(untagged)]
pub(super) enum Stored {
    /// What was decided.
    Looked(Box<Looked>),
    /// What version 1 kept: when something comes next.
    Next(DateTime<Utc>),
}

/// What was decided, and whom it concerns.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Looked {
    pub(super) at: DateTime<Utc>,
    pub(super) decision: Decision,
    /// What is unpaid, and no attempt is under way for.
    pub(super) invoices: Vec<Uuid>,
    /// The subscriptions that end, when that is how it ends.
    pub(super) runs: Vec<RunId>,
    /// What was given up before and is not written off yet.
    #[serde(default)]
    pub(super) given_up: Vec<Uuid>,
    /// What the oldest of it is for.
    #[serde(default)]
    pub(super) subscription_id: Option<Uuid>,
}

impl Stored {
    /// What to go on with: a visit that version 1 began looks again when it said that something comes.
    pub(super) fn looked(self, debt: &Debt) -> Looked {
        match self {
            Self::Looked(looked) => *looked,
            Self::Next(at) => Looked {
                at: debt.since,
                decision: Decision {
                    stage: Stage::PastDue,
                    since: Some(debt.since),
                    retry_at: Some(at),
                    ..Decision::clear()
                },
                invoices: Vec::new(),
                runs: Vec::new(),
                given_up: debt.given_up.clone(),
                subscription_id: debt.subscription_id,
            },
        }
    }
}

/// Whose debt is looked at, and how.
#[derive(Debug, Clone, Copy)]
pub(super) struct Ask<'a> {
    pub(super) tenant: TenantId,
    pub(super) shard: ShardId,
    pub(super) debt: &'a Debt,
    /// Whether something was owed at the last look.
    pub(super) owing: bool,
}

/// Looks at a debt. The transaction must act as the tenant.
pub(super) async fn look(conn: &mut PgConnection, ask: Ask<'_>) -> Result<Looked, StepError> {
    let (tenant, shard, currency) = (ask.tenant, ask.shard, ask.debt.currency);
    let unpaid = store::list_unpaid(conn, tenant, shard, currency).await?;
    let unpaid = without_lapsed(conn, ask, unpaid).await?;
    // What was given up is open still until its own run has written it off.
    let (given_up, mut unpaid): (Vec<_>, Vec<_>) = unpaid
        .into_iter()
        .partition(|one| ask.debt.given_up.contains(&one.invoice_id));
    let given_up = given_up.iter().map(|one| one.invoice_id).collect();
    let disputed = disputed(conn, ask).await?;
    let first = unpaid.first().map(|oldest| oldest.subscription_id);
    let Some(first) = first.or(disputed.first().map(|one| one.subscription_id)) else {
        return clear(conn, ask, given_up).await;
    };
    let now = tenure_engine::tenant::now(conn, tenant).await?;
    let chosen = store::find_policy_for(conn, tenant, shard, Some(first)).await?;
    let profile = tenant::store::find_profile(conn, tenant).await?;
    let last = store::find_last_decline(conn, tenant, shard, currency).await?;
    let zone = calendar::zone(&profile.zone).terminal("unknown_zone")?;
    find_next_methods(conn, ask, calendar::local_day(now, zone), &mut unpaid).await?;
    let retries = match chosen.policy.ceiling {
        Some(ceiling) => count_retries(conn, ask, ceiling, now, &unpaid).await?,
        None => BTreeMap::new(),
    };
    let facts = Facts {
        unpaid: &unpaid,
        disputed: &disputed,
        last_decline: last.as_ref().map(|decline| &decline.last),
        retries: &retries,
        exempt_until: store::find_exempt_until(conn, tenant, shard, currency, now).await?,
        policy: &chosen.policy,
        asked_at: ask.debt.asked_at,
        collect_now: ask.debt.new_method,
        now,
        zone,
        seed: tenant.0,
    };
    let decision = rules::decide(&facts);
    store::apply(conn, tenant, shard, currency, &decision, chosen.of.as_ref()).await?;
    sync_holds(conn, ask, &decision.holds, now).await?;
    unpaid.retain(|one| one.under_way().is_none());
    Ok(Looked {
        at: now,
        given_up,
        subscription_id: Some(first),
        runs: ending(conn, ask, &decision, &unpaid).await?,
        invoices: unpaid.iter().map(|one| one.invoice_id).collect(),
        decision,
    })
}

/// Finds which method would be charged for each of what is unpaid.
async fn find_next_methods(
    conn: &mut PgConnection,
    ask: Ask<'_>,
    today: NaiveDate,
    unpaid: &mut [Unpaid],
) -> sqlx::Result<()> {
    let finals = DeclineClass::finals();
    for one in unpaid {
        let of = Some(one.invoice_id);
        let offered = tenant::store::list_methods(conn, ask.tenant, ask.shard, of, &finals).await?;
        one.next = methods::choose(&offered, today).map(|choice| Next {
            method: choice.offered.method.id.clone(),
            usable: choice.usable,
        });
    }
    Ok(())
}

/// Counts how often each of the methods that would be charged was tried again for what it would be
/// charged.
async fn count_retries(
    conn: &mut PgConnection,
    ask: Ask<'_>,
    ceiling: Ceiling,
    now: DateTime<Utc>,
    unpaid: &[Unpaid],
) -> sqlx::Result<BTreeMap<(String, Decimal), u32>> {
    let since = now - TimeDelta::days(i64::from(ceiling.days));
    let mut retries = BTreeMap::new();
    for one in unpaid {
        let Some(next) = &one.next else {
            continue;
        };
        let charged = chargeable(one.total);
        if let Entry::Vacant(entry) = retries.entry((next.method.clone(), charged.amount())) {
            let (tenant, shard, method) = (ask.tenant, ask.shard, &next.method);
            let counted = store::count_retries(conn, tenant, shard, method, charged, since);
            entry.insert(counted.await?);
        }
    }
    Ok(retries)
}

/// What is disputed and held for, each by the policy of its own subscription.
async fn disputed(conn: &mut PgConnection, ask: Ask<'_>) -> sqlx::Result<Vec<Disputed>> {
    let (tenant, shard) = (ask.tenant, ask.shard);
    let mut held = store::list_disputed(conn, tenant, shard, ask.debt.currency).await?;
    for one in &mut held {
        let of = Some(one.subscription_id);
        let chosen = store::find_policy_for(conn, tenant, shard, of).await?;
        let disputes = chosen.policy.disputes;
        one.action = if one.lost {
            disputes.lost
        } else {
            disputes.open
        };
    }
    held.retain(|one| one.action.hold().is_some());
    Ok(held)
}

/// Without first payments whose time is over since they were last tried (a bank's no gives them their time
/// again): their subscription is about to expire, and the order in which the two are come to, when both are late, makes no difference to what
/// is charged.
async fn without_lapsed(
    conn: &mut PgConnection,
    ask: Ask<'_>,
    mut unpaid: Vec<Unpaid>,
) -> Result<Vec<Unpaid>, StepError> {
    if unpaid.is_empty() {
        return Ok(unpaid);
    }
    let now = tenure_engine::tenant::now(conn, ask.tenant).await?;
    let is_late = |one: &&Unpaid| {
        one.tried_at + subscription::FIRST_PAYMENT <= now && one.under_way().is_none()
    };
    let late: Vec<Uuid> = unpaid
        .iter()
        .filter(is_late)
        .map(|one| one.invoice_id)
        .collect();
    if !late.is_empty() {
        let lapsed = store::list_first(conn, ask.shard, &late).await?;
        unpaid.retain(|one| !lapsed.contains(&one.invoice_id));
    }
    Ok(unpaid)
}

/// Nothing is owed. How the last debt ended stays in its row until there is another.
async fn clear(
    conn: &mut PgConnection,
    ask: Ask<'_>,
    given_up: Vec<Uuid>,
) -> Result<Looked, StepError> {
    let (tenant, shard, debt) = (ask.tenant, ask.shard, ask.debt);
    let decision = Decision::clear();
    if ask.owing {
        let now = tenure_engine::tenant::now(conn, tenant).await?;
        store::apply(conn, tenant, shard, debt.currency, &decision, None).await?;
        sync_holds(conn, ask, &[], now).await?;
    }
    Ok(Looked {
        at: debt.since,
        decision,
        invoices: Vec::new(),
        runs: Vec::new(),
        given_up,
        subscription_id: debt.subscription_id,
    })
}

async fn ending(
    conn: &mut PgConnection,
    ask: Ask<'_>,
    decision: &Decision,
    unpaid: &[Unpaid],
) -> sqlx::Result<Vec<RunId>> {
    if decision.end != Some(EndAction::Cancel) {
        return Ok(Vec::new());
    }
    let of: Vec<Uuid> = unpaid.iter().map(|one| one.subscription_id).collect();
    store::list_runs(conn, ask.tenant, ask.shard, &of).await
}

/// What dunning in a currency signs its holds with.
pub(super) fn source(currency: Currency) -> String {
    format!("dunning/{currency}")
}

/// Lifts the holds that should not stand any more and places those that should, and leaves alone
/// what stands as it should and what anybody else has placed.
async fn sync_holds(
    conn: &mut PgConnection,
    ask: Ask<'_>,
    wanted: &[Wanted],
    now: DateTime<Utc>,
) -> sqlx::Result<()> {
    let (tenant, shard, source) = (ask.tenant, ask.shard, source(ask.debt.currency));
    let mut standing = hold::store::list(conn, tenant, shard, false, None).await?;
    standing.retain(|hold| hold.source.as_deref() == Some(&source));
    let fits = |hold: &HoldRow, wanted: &Wanted| {
        (hold.subscription_id, hold.kind, hold.blocks)
            == (wanted.subscription_id, wanted.kind, wanted.blocks)
    };
    for hold in &standing {
        if wanted.iter().any(|wanted| fits(hold, wanted)) {
            continue;
        }
        let superseded = wanted
            .iter()
            .any(|one| one.subscription_id == hold.subscription_id);
        let reason = if superseded {
            "another step holds"
        } else {
            "nothing of it is held any more"
        };
        let lifted = Lifted {
            at: now,
            by: source.clone(),
            reason: reason.to_owned(),
        };
        hold::store::apply_lift(conn, hold.hold_id, shard, &lifted).await?;
    }
    for one in wanted {
        if standing.iter().any(|hold| fits(hold, one)) {
            continue;
        }
        let placed = HoldRow {
            hold_id: tenure_engine::new_uuid(shard),
            tenant_id: tenant,
            subscription_id: one.subscription_id,
            kind: one.kind,
            source: Some(source.clone()),
            starts_at: now,
            ends_at: None,
            blocks: one.blocks,
            reason: format!("what is owed in {} is unpaid", ask.debt.currency),
            author: source.clone(),
            placed_at: now,
            lifted: None,
        };
        hold::store::insert(conn, shard, &placed).await?;
    }
    Ok(())
}

//! Questions: what is asked for a screen, and how the parts become one answer.

use super::names::Known;
use super::{life, part, told, visible};
use crate::detail::Tab;
use crate::event::{
    Answer, BillingAnswer, Content, FlowAnswer, Request, RetentionAnswer, RunAnswer, TenantAnswer,
};
use tenure_client::{
    AuditQuery, BulkFilter, BulkOutcome, BulkResultFilter, Client, ClientError, HoldFilter,
    LegalHoldFilter, MailFilter, RunCountFilter, RunFilter, RunStatus, ScheduleFilter,
    SubscriptionDetail, Tenant, TenantFilter, TestClock,
};
use uuid::Uuid;

/// Mails asked for at once.
const MAILS: u32 = 100;
/// Schedules asked for at once: the most that the server gives.
const SCHEDULES: u32 = 200;
/// Operations on many runs asked for at once.
const BULKS: u32 = 100;
/// Runs of an operation asked for at once.
const RESULTS: u32 = 100;
/// Tenants asked for at once.
const TENANTS: u32 = 100;
/// Live runs of a tenant asked for at once.
const LIVE: u32 = 100;
/// Subscriptions looked at closely.
const CLOSELY: usize = 20;
/// Legal holds asked for at once: the most that the server gives.
const HOLDS: u32 = 200;

/// Asks the server, as often as the answer takes.
pub(super) async fn ask(
    client: &Client,
    known: &Known,
    request: Request,
) -> Result<Answer, ClientError> {
    Ok(match request {
        Request::Runs(filter) => Answer::Runs(client.list_runs(&filter).await?),
        Request::Mails => {
            let filter = MailFilter {
                cursor: None,
                limit: Some(MAILS),
            };
            Answer::Mails(client.list_mails(&filter).await?.items)
        }
        Request::Schedules(chosen) => schedules(client, chosen).await?,
        Request::Run {
            run_id,
            tenant_id,
            tab,
            tenant,
        } => {
            let tenant_id = match tenant_id {
                Some(tenant_id) => tenant_id,
                None => client.run(run_id).await?.summary.tenant_id,
            };
            let (around, content) = tokio::join!(
                surroundings(client, tenant_id, tenant),
                content(client, run_id, tenant_id, tab),
            );
            let (tenant, clock) = around?;
            let content = told(content)?;
            // Asked last: what may be done with it is never older than what is told of it.
            let run = client.run(run_id).await?;
            Answer::Run(Box::new(RunAnswer {
                run,
                tenant,
                clock,
                content,
            }))
        }
        Request::Flow => flow(client).await?,
        Request::Retention => retention(client).await?,
        Request::Audit(query) => audit(client, known, query).await?,
        Request::Many(filter) => many(client, filter).await?,
        Request::Bulks => bulks(client).await?,
        Request::Bulk {
            bulk_operation_id,
            outcome,
            cursor,
        } => bulk(client, bulk_operation_id, outcome, cursor).await?,
        Request::Tenants(query) => {
            let filter = TenantFilter {
                q: (!query.is_empty()).then_some(query),
                cursor: None,
                limit: Some(TENANTS),
            };
            Answer::Tenants(client.list_tenants(&filter).await?)
        }
        Request::Tenant(tenant_id) => tenant(client, tenant_id).await?,
        Request::Life { shelf, cursor } => life::shelf(client, known, shelf, cursor).await?,
        Request::Backfill {
            backfill_id,
            status,
            cursor,
        } => life::backfill(client, known, backfill_id, (status, cursor)).await?,
        Request::Deletion(deletion_id) => life::deletion(client, known, deletion_id).await?,
        Request::Export(tenant_id, export_id) => {
            let found = client.data_export(tenant_id, export_id).await?;
            Answer::Export(Box::new(found))
        }
    })
}

async fn schedules(client: &Client, chosen: Option<Uuid>) -> Result<Answer, ClientError> {
    let filter = ScheduleFilter {
        limit: Some(SCHEDULES),
        ..ScheduleFilter::default()
    };
    let chosen = async {
        match chosen {
            // One that was taken away meanwhile is simply not there.
            Some(schedule_id) => visible(client.schedule(schedule_id).await),
            None => Ok(None),
        }
    };
    let (all, chosen) = tokio::try_join!(client.list_schedules(&filter), chosen)?;
    Ok(Answer::Schedules(all.items, chosen.map(Box::new)))
}

async fn many(client: &Client, filter: String) -> Result<Answer, ClientError> {
    let filter = RunCountFilter {
        filter: Some(filter),
    };
    let (count, verbs) = tokio::try_join!(client.count_runs(&filter), client.list_bulk_verbs())?;
    Ok(Answer::Many(count, verbs))
}

async fn bulks(client: &Client) -> Result<Answer, ClientError> {
    let filter = BulkFilter {
        limit: Some(BULKS),
        ..BulkFilter::default()
    };
    let page = client.list_bulk_operations(&filter).await?;
    Ok(Answer::Bulks(page.items))
}

async fn bulk(
    client: &Client,
    bulk_operation_id: Uuid,
    outcome: Option<BulkOutcome>,
    cursor: Option<String>,
) -> Result<Answer, ClientError> {
    let filter = BulkResultFilter {
        outcome,
        cursor,
        limit: Some(RESULTS),
    };
    let (bulk, results) = tokio::try_join!(
        client.bulk_operation(bulk_operation_id),
        client.list_bulk_results(bulk_operation_id, &filter)
    )?;
    Ok(Answer::Bulk(Box::new(bulk), results))
}

async fn flow(client: &Client) -> Result<Answer, ClientError> {
    let (limits, pauses, breakers, weights) = tokio::join!(
        client.list_limits(),
        client.list_pauses(),
        client.list_breakers(),
        client.list_weights(),
    );
    Ok(Answer::Flow(Box::new(FlowAnswer {
        limits: part(limits)?,
        pauses: part(pauses)?,
        breakers: part(breakers)?,
        weights: part(weights)?,
    })))
}

async fn retention(client: &Client) -> Result<Answer, ClientError> {
    let holds = holds(None);
    let (policies, holds) = tokio::join!(client.list_retention(), client.list_legal_holds(&holds));
    Ok(Answer::Retention(Box::new(RetentionAnswer {
        policies: part(policies)?,
        holds: part(holds.map(|page| page.items))?,
    })))
}

/// A page of what people did, with what the tenants in it are called.
async fn audit(client: &Client, known: &Known, query: AuditQuery) -> Result<Answer, ClientError> {
    let page = client.list_audit(&query).await?;
    let tenants = page.items.iter().filter_map(|line| line.tenant_id);
    let tenants: Vec<_> = tenants.collect();
    let names = known.names(client, &tenants).await?;
    Ok(Answer::Audit(page, names))
}

/// All that is a tenant's, each part by a question of its own.
async fn tenant(client: &Client, tenant_id: Uuid) -> Result<Answer, ClientError> {
    let (live, holds) = (live(tenant_id), holds(Some(tenant_id)));
    let own = ScheduleFilter {
        tenant_id: Some(tenant_id),
        limit: Some(SCHEDULES),
        ..ScheduleFilter::default()
    };
    let (around, subscriptions, invoices, runs, schedules, mails, holds, keys, billing, life) = tokio::join!(
        async {
            let tenant = client.tenant(tenant_id).await?;
            surroundings(client, tenant_id, Some(Box::new(tenant))).await
        },
        client.list_subscriptions(tenant_id),
        client.list_invoices(tenant_id),
        client.list_runs(&live),
        client.list_schedules(&own),
        client.list_tenant_mails(tenant_id),
        client.list_legal_holds(&holds),
        client.list_keys(tenant_id),
        billing(client, tenant_id),
        life::of_tenant(client, tenant_id),
    );
    let (Some(tenant), clock) = around? else {
        return Err(ClientError::Configuration(
            "there is no such tenant".to_owned(),
        ));
    };
    Ok(Answer::Tenant(Box::new(TenantAnswer {
        tenant,
        clock,
        subscriptions: part(subscriptions)?,
        invoices: part(invoices)?,
        runs: part(runs.map(|page| page.items))?,
        schedules: part(schedules.map(|page| page.items))?,
        mails: part(mails)?,
        holds: part(holds.map(|page| page.items))?,
        keys: part(keys)?,
        billing: billing?,
        life: life?,
    })))
}

/// A tenant's money, and what it may use.
async fn billing(client: &Client, tenant_id: Uuid) -> Result<BillingAnswer, ClientError> {
    let holds = HoldFilter::default();
    let (details, debts, credit, notes, holds, entitlements, usage, plans) = tokio::join!(
        details(client, tenant_id),
        client.list_debts(tenant_id),
        client.credit(tenant_id),
        client.list_credit_notes(tenant_id),
        client.list_holds(tenant_id, &holds),
        client.entitlements(tenant_id),
        client.list_usage(tenant_id),
        client.list_plans(),
    );
    Ok(BillingAnswer {
        details: part(details)?,
        debts: part(debts)?,
        credit: part(credit)?,
        notes: part(notes)?,
        holds: part(holds)?,
        entitlements: part(entitlements)?,
        usage: part(usage)?,
        plans: part(plans)?,
    })
}

/// What live subscriptions have, and what will become of them.
async fn details(client: &Client, tenant_id: Uuid) -> Result<Vec<SubscriptionDetail>, ClientError> {
    let all = client.list_subscriptions(tenant_id).await?;
    let live = all.into_iter().filter(|one| one.ended_at.is_none());
    let asked = live.take(CLOSELY).map(|one| {
        let client = client.clone();
        async move { client.subscription(tenant_id, one.subscription_id).await }
    });
    futures_util::future::try_join_all(asked).await
}

/// The newest runs of a tenant that have not ended.
fn live(tenant_id: Uuid) -> RunFilter {
    let ended = RunStatus::ALL.into_iter();
    let ended: Vec<_> = ended
        .filter(|status| status.is_terminal())
        .map(RunStatus::as_str)
        .collect();
    RunFilter {
        tenant_id: Some(tenant_id),
        filter: Some(format!("-status:{}", ended.join(","))),
        limit: Some(LIVE),
        ..RunFilter::default()
    }
}

fn holds(tenant_id: Option<Uuid>) -> LegalHoldFilter {
    LegalHoldFilter {
        tenant_id,
        limit: Some(HOLDS),
        ..LegalHoldFilter::default()
    }
}

/// The tenant and its test clock, as far as the token may see them.
async fn surroundings(
    client: &Client,
    tenant_id: Uuid,
    known: Option<Box<Tenant>>,
) -> Result<(Option<Tenant>, Option<TestClock>), ClientError> {
    let tenant = match known {
        Some(tenant) => Some(*tenant),
        None => visible(client.tenant(tenant_id).await)?,
    };
    let clock = match tenant.as_ref().and_then(|tenant| tenant.test_clock_id) {
        Some(test_clock_id) => visible(client.test_clock(test_clock_id).await)?,
        None => None,
    };
    Ok((tenant, clock))
}

async fn content(
    client: &Client,
    run_id: Uuid,
    tenant_id: Uuid,
    tab: Tab,
) -> Result<Content, ClientError> {
    Ok(match tab {
        Tab::Timeline => {
            let (transitions, steps) =
                tokio::try_join!(client.list_transitions(run_id), client.list_steps(run_id))?;
            Content::Timeline(transitions, steps)
        }
        Tab::Data => Content::Data,
        Tab::Steps => Content::Steps(client.list_steps(run_id).await?),
        Tab::Signals => Content::Signals(client.list_signals(run_id).await?),
        Tab::Mails => Content::Mails(client.list_tenant_mails(tenant_id).await?),
    })
}

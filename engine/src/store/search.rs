//! Finding runs by whatever people ask for.
//!
//! One statement with optional parameters. It is planned for the values at hand, so that what is not
//! asked for falls away and the rest may use an index: runs of a tenant have one, keys have one, and
//! stuck and paused runs are read from `engine.parked`. Everything else is tested on the way along
//! the newest runs.

use serde_json::Value;
use sqlx::PgConnection;
use uuid::Uuid;

use crate::id::{ClockId, RunId, TenantId};
use crate::inspect::RunSummary;
use crate::run::Status;
use crate::search::{RunFilter, Wanted};
use crate::store::claim::decode_error;

/// Lets statements of this transaction be planned for their values: a plan that fits all of them
/// fits none.
pub(crate) async fn plan_for_values(conn: &mut PgConnection) -> sqlx::Result<()> {
    sqlx::query!("select set_config('plan_cache_mode', 'force_custom_plan', true) as mode")
        .fetch_one(conn)
        .await?;
    Ok(())
}

/// A wanted set as parameters: one value, which an index serves in order, or several.
struct Split<T> {
    one: Option<T>,
    any: Option<Vec<T>>,
    none: Option<Vec<T>>,
}

fn split<T, U>(wanted: &Wanted<T>, column: impl Fn(&T) -> U) -> Split<U> {
    let columns = |values: &[T]| values.iter().map(&column).collect::<Vec<U>>();
    let mut split = Split {
        one: None,
        any: wanted.any.as_deref().map(columns),
        none: (!wanted.none.is_empty()).then(|| columns(&wanted.none)),
    };
    if split.any.as_ref().is_some_and(|any| any.len() == 1) {
        split.one = split.any.take().and_then(|mut any| any.pop());
    }
    split
}

/// The statuses that are wanted, if all of them are kept in `engine.parked`: paused, no handler,
/// stuck.
fn parked(wanted: &Wanted<Status>) -> Option<Vec<i16>> {
    let any = wanted.any.as_ref()?;
    let codes: Vec<i16> = any.iter().map(|status| status.code()).collect();
    codes
        .iter()
        .all(|code| [5, 7, 8].contains(code))
        .then_some(codes)
}

/// Finds runs, newest first, after the cursor.
#[expect(clippy::too_many_lines, reason = "one statement")]
pub(crate) async fn find(
    conn: &mut PgConnection,
    filter: &RunFilter,
    after: Option<RunId>,
    limit: i64,
) -> sqlx::Result<Vec<RunId>> {
    let workflow = split(&filter.workflow, String::clone);
    let tenant = split(&filter.tenant, |tenant| tenant.0);
    let state = split(&filter.state, String::clone);
    let status = split(&filter.status, |status| status.code());
    let key = split(&filter.key, String::clone);
    let parent = split(&filter.parent, |run| run.0);
    let tests = &filter.attributes;
    let names: Vec<&str> = tests.iter().map(|test| test.name.as_str()).collect();
    let compares: Vec<i16> = tests.iter().map(|test| test.compare.code()).collect();
    let values: Vec<&Value> = tests.iter().map(|test| &test.value).collect();
    let negated: Vec<bool> = tests.iter().map(|test| test.negated).collect();
    sqlx::query_scalar!(
        r#"
        select run_id as "run_id: RunId"
        from engine.run
        where ($1::uuid is null or run_id < $1)
          and ($3::text is null or workflow = $3)
          and ($4::text[] is null or workflow = any($4))
          and ($5::text[] is null or workflow <> all($5))
          and ($6::uuid is null or tenant_id = $6)
          and ($7::uuid[] is null or tenant_id = any($7))
          and ($8::uuid[] is null or tenant_id <> all($8))
          and ($9::text is null or key = $9)
          and ($10::text[] is null or key = any($10))
          and ($11::text[] is null or key <> all($11))
          and ($12::text is null or state = $12)
          and ($13::text[] is null or state = any($13))
          and ($14::text[] is null or state <> all($14))
          and ($15::smallint is null or status = $15)
          and ($16::smallint[] is null or status = any($16))
          and ($17::smallint[] is null or status <> all($17))
          and ($18::smallint[] is null or run_id = any(array(
            select parked.run_id from engine.parked where parked.status = any($18))))
          and ($19::bigint is null or attempt >= $19)
          and ($20::bigint is null or attempt < $20)
          and ($21::bigint is null or visit >= $21)
          and ($22::bigint is null or visit < $22)
          and ($23::timestamptz is null or started_at >= $23)
          and ($24::timestamptz is null or started_at < $24)
          and (($25::bigint is null and $26::bigint is null) or (
            select
              ($25::bigint is null or started_at <= tenant.now_at - $25 * interval '1 second')
              and ($26::bigint is null or started_at > tenant.now_at - $26 * interval '1 second')
            from (
              select coalesce(
                (select now_at from engine.test_clock where test_clock.clock_id = run.clock_id),
                engine.now()
              ) as now_at
            ) as tenant
          ))
          and ($31::uuid is null or parent_run_id = $31)
          and ($32::uuid[] is null or parent_run_id = any($32))
          and ($33::uuid[] is null or parent_run_id is null or parent_run_id <> all($33))
          and ($27::text[] is null or not exists (
            select
            from unnest($27, $28::smallint[], $29::jsonb[], $30::boolean[])
              as test (name, compare, value, negated)
            where test.negated = coalesce(
              case
                when test.compare = 0 then test.value @> (run.attributes -> test.name)
                -- What another type's value comes before is of no interest.
                when jsonb_typeof(run.attributes -> test.name) <> jsonb_typeof(test.value) then false
                when test.compare = 1 then run.attributes -> test.name < test.value
                when test.compare = 2 then run.attributes -> test.name <= test.value
                when test.compare = 3 then run.attributes -> test.name > test.value
                else run.attributes -> test.name >= test.value
              end,
              false
            )
          ))
        order by run_id desc
        limit $2
        "#,
        after.map(|run| run.0),
        limit,
        workflow.one,
        workflow.any as Option<Vec<String>>,
        workflow.none as Option<Vec<String>>,
        tenant.one,
        tenant.any as Option<Vec<Uuid>>,
        tenant.none as Option<Vec<Uuid>>,
        key.one,
        key.any as Option<Vec<String>>,
        key.none as Option<Vec<String>>,
        state.one,
        state.any as Option<Vec<String>>,
        state.none as Option<Vec<String>>,
        status.one,
        status.any as Option<Vec<i16>>,
        status.none as Option<Vec<i16>>,
        parked(&filter.status) as Option<Vec<i16>>,
        filter.attempt.from,
        filter.attempt.before,
        filter.visit.from,
        filter.visit.before,
        filter.started.from,
        filter.started.before,
        filter.age_seconds.from,
        filter.age_seconds.before,
        (!tests.is_empty()).then_some(names) as Option<Vec<&str>>,
        &compares,
        &values as &[&Value],
        &negated,
        parent.one,
        parent.any as Option<Vec<Uuid>>,
        parent.none as Option<Vec<Uuid>>,
    )
    .fetch_all(conn)
    .await
}

/// Lists runs by id, newest first.
pub(crate) async fn list(conn: &mut PgConnection, runs: &[RunId]) -> sqlx::Result<Vec<RunSummary>> {
    let run_ids: Vec<Uuid> = runs.iter().map(|run| run.0).collect();
    let rows = sqlx::query!(
        r#"
        select
          run_id as "run_id!: RunId",
          tenant_id as "tenant_id!: TenantId",
          workflow as "workflow!",
          key as "key!",
          version as "version!",
          status as "status!",
          state as "state!",
          epoch as "epoch!",
          visit as "visit!",
          attempt as "attempt!",
          next_at,
          clock_id as "clock_id: ClockId",
          stuck,
          error,
          started_at as "started_at!",
          changed_at as "changed_at!"
        from engine.run_summary
        where run_id = any($1)
        order by run_id desc
        "#,
        &run_ids,
    )
    .fetch_all(conn)
    .await?;
    Ok(rows
        .into_iter()
        .map(|row| RunSummary {
            run_id: row.run_id,
            tenant_id: row.tenant_id,
            workflow: row.workflow,
            key: row.key,
            version: row.version,
            status: Status::from_code(row.status).unwrap_or(Status::Stuck),
            state: row.state,
            epoch: row.epoch,
            visit: row.visit,
            attempt: row.attempt,
            next_at: row.next_at,
            clock_id: row.clock_id,
            stuck: row.stuck,
            error: decode_error(row.error),
            started_at: row.started_at,
            changed_at: row.changed_at,
        })
        .collect())
}

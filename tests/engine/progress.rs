//! Steps that work long: reports are kept, survive a crash, and are missed when they stop.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::json;
use tenure_engine::{
    Context, Event, Registry, RetryPolicy, Status, Step, StepError, Transition, Workflow,
};
use tokio::sync::Notify;

use crate::support::engine::TestEngine;
use crate::support::eventually;

/// What the copy does at each of its attempts.
#[derive(Clone, Default)]
struct Table(Arc<TableParts>);

#[derive(Default)]
struct TableParts {
    /// Where each attempt began.
    begun_at: Mutex<Vec<u64>>,
    /// Rows after which an attempt says nothing more until it is let go.
    silent_at: Mutex<Option<u64>>,
    go_on: Notify,
}

impl Table {
    fn silent_at(&self, row: Option<u64>) {
        *self.0.silent_at.lock().unwrap() = row;
    }

    fn begun_at(&self) -> Vec<u64> {
        self.0.begun_at.lock().unwrap().clone()
    }

    async fn copy(&self, step: Step) -> Result<u64, StepError> {
        let last: Option<serde_json::Value> = step.last_progress().await?;
        let from = last.map_or(0, |last| last["done"].as_u64().unwrap());
        self.0.begun_at.lock().unwrap().push(from);
        for row in from..100 {
            if *self.0.silent_at.lock().unwrap() == Some(row) {
                self.0.go_on.notified().await;
            }
            step.progress(&json!({ "done": row + 1, "of": 100 }))?;
            tokio::task::yield_now().await;
        }
        Ok(100 - from)
    }
}

struct Copy {
    table: Table,
    policy: RetryPolicy,
}

#[derive(Serialize, Deserialize)]
enum CopyState {
    Copying,
}

#[derive(Serialize, Deserialize)]
enum Nothing {}

impl Workflow for Copy {
    const NAME: &'static str = "copy";
    const VERSION: i32 = 1;
    type Input = ();
    type State = CopyState;
    type Signal = Nothing;
    type Output = u64;

    fn start(&self, (): ()) -> CopyState {
        CopyState::Copying
    }

    async fn handle(
        &self,
        cx: &Context,
        _state: CopyState,
        _event: Event<Nothing>,
    ) -> Result<Transition<Self>, StepError> {
        let copy = async |step| self.table.copy(step).await;
        let copied = cx.step("copy-rows", &self.policy, copy).await?;
        Ok(Transition::complete(copied))
    }
}

async fn engine(table: &Table, policy: RetryPolicy) -> TestEngine {
    let table = table.clone();
    let registry: Registry = Registry::builder()
        .register(Copy { table, policy })
        .build()
        .unwrap();
    TestEngine::new(registry).await
}

/// Never silent for so long that a busy machine could be mistaken for it.
const PATIENT: RetryPolicy = RetryPolicy::DEFAULT.report_within(Duration::from_secs(600));

async fn kept(engine: &TestEngine) -> Option<String> {
    sqlx::query_scalar("select convert_from(value, 'UTF8') from engine.progress")
        .fetch_optional(engine.pool())
        .await
        .unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_copy_goes_on_where_it_stood_after_a_crash() {
    let table = Table::default();
    table.silent_at(Some(40));
    let engine = engine(&table, PATIENT).await;
    let run = engine.start::<Copy>("a", &()).await;
    let worker = engine.worker().await;
    eventually("the fortieth row is kept", async || {
        kept(&engine).await.is_some_and(|kept| kept.contains("40"))
    })
    .await;
    let detail = engine.detail(run).await;
    let line = &detail.progress[0];
    assert_eq!(
        (line.step.as_str(), line.words().as_str()),
        ("copy-rows", "40 % (40 of 100)")
    );
    assert!(
        detail
            .why
            .summary
            .contains("Step copy-rows: 40 % (40 of 100), last report "),
        "{:?}",
        detail.why
    );
    worker.crash().await;
    table.silent_at(None);
    engine.advance(Duration::from_secs(60));
    let worker = engine.worker().await;
    eventually("the rest is copied", async || {
        engine.status(run).await == Status::Completed
    })
    .await;
    worker.shutdown().await;
    assert_eq!(table.begun_at(), [0, 40]);
    assert_eq!(engine.output::<u64>(run).await, 60);
    assert!(engine.detail(run).await.progress.is_empty());
    engine.assert_nothing_lost().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_attempt_that_stops_reporting_is_cut_off_and_tried_again() {
    let table = Table::default();
    table.silent_at(Some(70));
    let policy = RetryPolicy {
        initial: Duration::from_secs(600),
        ..RetryPolicy::DEFAULT.report_within(Duration::from_secs(2))
    };
    let engine = engine(&table, policy).await;
    let run = engine.start::<Copy>("a", &()).await;
    engine.drain().await;
    let detail = engine.detail(run).await;
    assert_eq!(detail.summary.status, Status::Retrying, "{:?}", detail.why);
    assert_eq!(detail.summary.error.unwrap().code, "no_progress");
    // What it reported within the last second was kept when it was cut off.
    assert!(detail.why.summary.contains("70 of 100"), "{:?}", detail.why);
    table.silent_at(None);
    engine.advance(Duration::from_secs(700));
    engine.drain().await;
    assert_eq!(engine.status(run).await, Status::Completed);
    assert_eq!(table.begun_at(), [0, 70]);
    engine.assert_nothing_lost().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_report_costs_no_commit_and_an_old_worker_keeps_none() {
    let table = Table::default();
    table.silent_at(Some(90));
    let engine = engine(&table, PATIENT).await;
    let run = engine.start::<Copy>("a", &()).await;
    let mut conn = crate::support::connect(&engine.options).await;
    sqlx::raw_sql(
        "create sequence public.kept;
         create function public.kept() returns trigger language plpgsql as $$
         begin perform nextval('public.kept'); return null; end $$;
         grant all on public.kept to public;
         create trigger kept after insert or update on engine.progress
         for each row execute function public.kept();",
    )
    .execute(&mut conn)
    .await
    .unwrap();
    let worker = engine.worker().await;
    eventually("the ninetieth row is kept", async || {
        kept(&engine).await.is_some_and(|kept| kept.contains("90"))
    })
    .await;
    let writes: i64 = sqlx::query_scalar("select last_value from public.kept")
        .fetch_one(&mut conn)
        .await
        .unwrap();
    assert!(writes < 10, "ninety reports took {writes} writes");
    // Its lease is taken away under its feet, as recovery does.
    sqlx::raw_sql("delete from engine.lease")
        .execute(&mut conn)
        .await
        .unwrap();
    table.silent_at(None);
    table.0.go_on.notify_one();
    worker.crash().await;
    assert!(kept(&engine).await.unwrap().contains("90"));
    engine.advance(Duration::from_secs(60));
    let worker = engine.worker().await;
    eventually("it completes elsewhere", async || {
        engine.status(run).await == Status::Completed
    })
    .await;
    worker.shutdown().await;
    assert_eq!(*table.begun_at().last().unwrap(), 90);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_step_as_a_whole_is_given_up_when_its_time_is_used_up() {
    let table = Table::default();
    table.silent_at(Some(1));
    let policy = RetryPolicy {
        initial: Duration::from_secs(1),
        cap: Duration::from_secs(1),
        max_attempts: 1_000,
        attempt_timeout: Duration::from_millis(50),
        ..RetryPolicy::DEFAULT.within(Duration::from_secs(3_600))
    };
    let engine = engine(&table, policy).await;
    let run = engine.start::<Copy>("a", &()).await;
    engine.drain().await;
    let detail = engine.detail(run).await;
    assert_eq!(detail.summary.status, Status::Retrying);
    assert_eq!(detail.summary.error.unwrap().code, "timed_out");
    engine.advance(Duration::from_secs(3_700));
    engine.drain().await;
    let detail = engine.detail(run).await;
    assert_eq!(detail.summary.stuck.as_deref(), Some("attempts_exhausted"));
    assert!(table.begun_at().len() < 10);
    engine.assert_nothing_lost().await;
}

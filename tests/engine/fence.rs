//! One writer: a worker that lost its lease writes nothing, and others go on where it was.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use tenure_engine::{
    Context, Event, Registry, Status, StepError, Transition, Worker, WorkerConfig, Workflow,
};

use super::workflows::{Door, Errand, ErrandOutput, Nothing, Outside, registry};
use crate::support::engine::TestEngine;
use crate::support::eventually;

#[tokio::test(flavor = "multi_thread")]
async fn a_crashed_workers_run_goes_on_elsewhere_with_the_same_key() {
    let outside = Outside::default();
    let engine = TestEngine::new(registry(&outside)).await;
    outside.hold();
    let run = engine.start::<Errand>("a", &1).await;
    let worker = engine.worker().await;
    outside.arrived().await;
    worker.crash().await;
    assert_eq!(engine.status(run).await, Status::Running);
    outside.release();
    engine.advance(Duration::from_secs(60));
    assert_eq!(engine.detail(run).await.why.kind, "worker_lost");
    let worker = engine.worker().await;
    eventually("the run completes", async || {
        engine.status(run).await == Status::Completed
    })
    .await;
    worker.shutdown().await;
    let keys = outside.keys("first");
    assert!(keys.len() >= 2, "the unrecorded step is repeated");
    assert!(
        keys.iter().all(|key| *key == keys[0]),
        "with the same idempotency key: {keys:?}"
    );
    engine.assert_nothing_lost().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_that_lost_its_lease_cannot_write() {
    let outside = Outside::default();
    let engine = TestEngine::new(registry(&outside)).await;
    outside.hold();
    let run = engine.start::<Errand>("a", &1).await;
    let frozen = engine.worker().await;
    outside.arrived().await;
    // Its lease is taken away under its feet, as recovery does.
    let mut conn = crate::support::connect(&engine.options).await;
    sqlx::raw_sql("delete from engine.lease")
        .execute(&mut conn)
        .await
        .unwrap();
    outside.release();
    // Its step comes back and finds no lease: neither the answer nor anything after it is written.
    eventually("the step was called", async || {
        !outside.keys("first").is_empty()
    })
    .await;
    frozen.crash().await;
    let steps: i64 = sqlx::query_scalar(
        "select count(*) from engine.step where name <> 'now' and name <> 'uuid'",
    )
    .fetch_one(&mut conn)
    .await
    .unwrap();
    assert_eq!(steps, 0, "a fenced worker recorded a step");
    assert!(outside.keys("second").is_empty(), "a fenced worker went on");
    engine.advance(Duration::from_secs(60));
    let worker = engine.worker().await;
    eventually("the run completes", async || {
        engine.status(run).await == Status::Completed
    })
    .await;
    worker.shutdown().await;
    let output: ErrandOutput = engine.output(run).await;
    assert_eq!(output.answers[0], "first done");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_without_a_handler_waits_visibly_and_goes_on_when_one_appears() {
    let engine = TestEngine::new(registry(&Outside::default())).await;
    let run = engine.start::<Errand>("a", &0).await;
    let doors = Registry::builder().register(Door).build().unwrap();
    let narrow = engine.beside(doors).await;
    narrow.drain().await;
    let detail = engine.detail(run).await;
    assert_eq!(detail.summary.status, Status::NoHandler);
    assert_eq!(detail.why.kind, "no_handler");
    assert_eq!(detail.summary.attempt, 0, "no attempt is burnt");
    engine.assert_nothing_lost().await;
    engine.drain().await;
    assert_eq!(engine.status(run).await, Status::Completed);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_visit_that_kills_its_worker_again_and_again_is_stuck_in_the_end() {
    let outside = Outside::default();
    let engine = TestEngine::new(registry(&outside)).await;
    let run = engine.start::<Errand>("a", &0).await;
    outside.hold();
    for _ in 0..11 {
        let worker = engine.worker().await;
        outside.arrived().await;
        worker.crash().await;
        engine.advance(Duration::from_secs(60));
    }
    let worker = engine.worker().await;
    eventually("the run is stuck", async || {
        engine.status(run).await == Status::Stuck
    })
    .await;
    worker.shutdown().await;
    let detail = engine.detail(run).await;
    assert_eq!(detail.summary.stuck.as_deref(), Some("worker_lost"));
    engine.assert_nothing_lost().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn two_workers_share_the_work_and_do_nothing_twice() {
    let outside = Outside::default();
    let engine = TestEngine::new(registry(&outside)).await;
    let other = engine.beside(registry(&outside)).await;
    let starts: Vec<_> = (0..1_000).map(|n| (format!("run-{n}"), 0)).collect();
    let mut conn = engine.pool().acquire().await.unwrap();
    let runs = engine
        .client
        .start_many::<Errand>(&mut conn, engine.tenant, &starts);
    runs.await.unwrap();
    drop(conn);
    let (mut one, mut two) = tokio::join!(engine.worker(), other.worker());
    tokio::join!(one.idle(), two.idle());
    eventually("all complete", async || {
        let done: i64 = sqlx::query_scalar("select count(*) from engine.run where status = 10")
            .fetch_one(engine.pool())
            .await
            .unwrap();
        done == 1_000
    })
    .await;
    tokio::join!(one.shutdown(), two.shutdown());
    assert_eq!(outside.keys("first").len(), 1_000, "a step was done twice");
}

/// The first settlement is swallowed, so the run leaves without one; the statement that gives it back
/// fails, and with it the lease ends.
const SWALLOW_AND_FAIL: &str = r"
create sequence fault;
create function swallow() returns trigger language plpgsql security definer as $$
begin
  case nextval('public.fault')
    when 1 then return null;
    when 2 then raise exception 'not now';
    else return new;
  end case;
end
$$;
create trigger swallow before update on engine.run
for each row when (old.worker_id is not null) execute function swallow();
";

#[tokio::test(flavor = "multi_thread")]
async fn a_run_that_nobody_settled_stays_booked_until_it_is_free() {
    let outside = Outside::default();
    let engine = TestEngine::new(registry(&outside)).await;
    let run = engine.start::<Errand>("a", &1).await;
    let mut conn = crate::support::connect(&engine.options).await;
    sqlx::raw_sql(SWALLOW_AND_FAIL)
        .execute(&mut conn)
        .await
        .unwrap();
    let worker = engine.worker().await;
    eventually("the run completes", async || {
        engine.status(run).await == Status::Completed
    })
    .await;
    worker.shutdown().await;
    let faults: i64 = sqlx::query_scalar("select last_value from fault")
        .fetch_one(&mut conn)
        .await
        .unwrap();
    assert!(faults > 2, "the faults came: {faults}");
    engine.assert_nothing_lost().await;
}

/// Writes a row that says who wrote it, once the outside has answered.
struct Clerk {
    name: &'static str,
    outside: Outside,
}

#[derive(Serialize, Deserialize)]
enum ClerkState {
    Writing,
}

impl Workflow for Clerk {
    const NAME: &'static str = "clerk";
    const VERSION: i32 = 1;
    type Input = ();
    type State = ClerkState;
    type Signal = Nothing;
    type Output = ();

    fn start(&self, (): ()) -> ClerkState {
        ClerkState::Writing
    }

    async fn handle(
        &self,
        cx: &Context,
        _state: ClerkState,
        _event: Event<Nothing>,
    ) -> Result<Transition<Self>, StepError> {
        self.outside.call("ask", String::new()).await?;
        let (tenant, shard) = (cx.tenant_id().0, cx.shard_id().0);
        cx.transact("write", async |tx| {
            sqlx::query(
                "insert into app.debt (tenant_id, currency, shard_id, state)
                 values ($1, $2, $3, 'clear')",
            )
            .bind(tenant)
            .bind(self.name)
            .bind(shard)
            .execute(&mut *tx)
            .await?;
            Ok(())
        })
        .await?;
        Ok(Transition::complete(()))
    }
}

fn clerk(name: &'static str) -> (Registry, Outside) {
    let outside = Outside::default();
    outside.hold();
    let clerk = Clerk {
        name,
        outside: outside.clone(),
    };
    let registry = Registry::builder().register(clerk).build().unwrap();
    (registry, outside)
}

/// A standby that was behind knows nothing of the last claim: another worker claims under the same epoch.
#[tokio::test(flavor = "multi_thread")]
async fn who_made_a_claim_that_a_failover_lost_commits_no_transact() {
    let (registry, first) = clerk("first");
    let engine = TestEngine::new(registry).await;
    // With its one hand full it claims nothing else.
    let config = WorkerConfig {
        in_flight: 1,
        claim_batch: 1,
        ..WorkerConfig::default()
    };
    let lost = Worker::start(&engine.client, config).await.unwrap();
    let run = engine.start::<Clerk>("a", &()).await;
    first.arrived().await;
    let (registry, second) = clerk("second");
    let other = engine.beside(registry).await;
    let mut conn = crate::support::connect(&engine.options).await;
    sqlx::raw_sql(
        "delete from engine.claimed;
         insert into engine.due (run_id, shard_id, due_at, tenant_id, priority)
           select run_id, shard_id, engine.now(), tenant_id, priority from engine.run;
         update engine.run set status = 0, worker_id = null, nudged = false, epoch = epoch - 1",
    )
    .execute(&mut conn)
    .await
    .unwrap();
    let worker = other.worker().await;
    second.arrived().await;
    first.release();
    lost.shutdown().await;
    let writers = "select currency from app.debt";
    let wrote: Vec<String> = sqlx::query_scalar(writers)
        .fetch_all(&mut conn)
        .await
        .unwrap();
    assert!(wrote.is_empty(), "{wrote:?}");
    second.release();
    eventually("the run completes", async || {
        engine.status(run).await == Status::Completed
    })
    .await;
    worker.shutdown().await;
    let wrote: Vec<String> = sqlx::query_scalar(writers)
        .fetch_all(&mut conn)
        .await
        .unwrap();
    assert_eq!(wrote, ["second"]);
    engine.assert_nothing_lost().await;
}

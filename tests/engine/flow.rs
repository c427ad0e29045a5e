//! Flow control: limits, rates, pauses and breakers block runs, and nobody waits for ever.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use tenure_engine::flow::{self, Author, Numbers, Scope};
use tenure_engine::operator::Verb;
use tenure_engine::{
    Context, EngineError, Event, Limit, Need, Rate, Registry, RetryPolicy, RunId, Status,
    StepError, TenantId, Transition, Worker, WorkerConfig, Workflow,
};

use super::workflows::{Outside, POLICY};
use crate::support::engine::TestEngine;
use crate::support::eventually;

const SLOTS: Limit = Limit::named("slots").concurrency(2);
const OWN_SLOT: Limit = Limit::named("own-slot").concurrency(1);
const METER: Limit = Limit::named("meter").rate(Rate {
    count: 3,
    period_seconds: 60,
    burst: 3,
});

/// One call under the limits that its input names, then the end.
struct Caller(Outside);

#[derive(Clone, Serialize, Deserialize)]
struct CallerInput {
    limits: Vec<String>,
    key: String,
    tenant: TenantId,
}

#[derive(Serialize, Deserialize)]
enum CallerState {
    Calling { of: CallerInput },
}

#[derive(PartialEq, Serialize, Deserialize)]
enum Nothing {}

impl Workflow for Caller {
    const NAME: &'static str = "caller";
    const VERSION: i32 = 1;
    const QUEUE: &'static str = "calls";
    const LIMITS: &'static [Limit] = &[SLOTS, OWN_SLOT, METER];
    type Input = CallerInput;
    type State = CallerState;
    type Signal = Nothing;
    type Output = ();

    fn start(&self, of: CallerInput) -> CallerState {
        CallerState::Calling { of }
    }

    fn needs(&self, CallerState::Calling { of }: &CallerState) -> Vec<Need> {
        let need = |name: &String| match name.as_str() {
            "slots" => SLOTS.shared(),
            "own-slot" => OWN_SLOT.for_key(of.key.clone()),
            "tenant-slot" => OWN_SLOT.for_tenant(of.tenant),
            "own-meter" => METER.for_key(of.key.clone()),
            _ => METER.shared(),
        };
        of.limits.iter().map(need).collect()
    }

    async fn handle(
        &self,
        cx: &Context,
        _: CallerState,
        event: Event<Nothing>,
    ) -> Result<Transition<Self>, StepError> {
        if event == Event::CancelRequested {
            return Ok(Transition::cancelled());
        }
        let policy = RetryPolicy {
            attempt_timeout: Duration::from_secs(600),
            ..POLICY
        };
        cx.step("call", &policy.on("outside"), async |step| {
            self.0.note("door", "in".to_owned());
            let answer = self.0.call("call", step.key).await;
            self.0.note("door", "out".to_owned());
            answer
        })
        .await?;
        Ok(Transition::complete(()))
    }
}

struct Scene {
    outside: Outside,
    engine: TestEngine,
}

impl Scene {
    async fn set() -> Self {
        let outside = Outside::default();
        let registry = Registry::builder().register(Caller(outside.clone()));
        let engine = TestEngine::new(registry.build().unwrap()).await;
        Self { outside, engine }
    }

    async fn start(&self, key: &str, limits: &[&str]) -> RunId {
        self.start_for(self.engine.tenant, key, limits).await
    }

    async fn start_for(&self, tenant: TenantId, key: &str, limits: &[&str]) -> RunId {
        let input = CallerInput {
            limits: limits.iter().map(ToString::to_string).collect(),
            key: key.split('-').next().unwrap().to_owned(),
            tenant,
        };
        let client = &self.engine.client;
        let mut conn = self.engine.pool().acquire().await.unwrap();
        let started = client.start::<Caller>(&mut conn, tenant, key, &input);
        let run = started.await.unwrap().run_id;
        client.ring();
        run
    }

    async fn start_some(&self, count: usize, limits: &[&str]) -> Vec<RunId> {
        let mut runs = Vec::new();
        for n in 0..count {
            runs.push(self.start(&format!("run-{n}"), limits).await);
        }
        runs
    }

    async fn count(&self, runs: &[RunId], status: Status) -> usize {
        let mut count = 0;
        for run in runs {
            count += usize::from(self.engine.status(*run).await == status);
        }
        count
    }

    async fn all_complete(&self, runs: &[RunId]) {
        eventually("all runs complete", async || {
            self.count(runs, Status::Completed).await == runs.len()
        })
        .await;
    }

    async fn eventually_blocked(&self, runs: &[RunId], count: usize) {
        eventually("so many are blocked", async || {
            self.count(runs, Status::Blocked).await == count
        })
        .await;
    }

    /// Calls that are inside now.
    fn inside(&self) -> usize {
        let doors = self.outside.keys("door");
        2 * doors.iter().filter(|door| *door == "in").count() - doors.len()
    }

    async fn rows(&self, table: &'static str) -> i64 {
        let count = sqlx::AssertSqlSafe(format!("select count(*) from engine.{table}"));
        sqlx::query_scalar(count)
            .fetch_one(self.engine.pool())
            .await
            .unwrap()
    }

    /// Nobody waits and no room is taken when all is done.
    async fn assert_at_rest(&self) {
        eventually("all room is given back", async || {
            self.rows("permit").await + self.rows("waiter").await == 0
        })
        .await;
        self.engine.assert_nothing_lost().await;
    }

    async fn pause(&self, scope: Scope, name: &str) -> Result<(), EngineError> {
        let mut conn = self.engine.pool().acquire().await.unwrap();
        flow::pause(&mut conn, &self.engine.client, scope, name, &author()).await
    }

    async fn lift(&self, scope: Scope, name: &str) {
        let mut conn = self.engine.pool().acquire().await.unwrap();
        flow::lift(&mut conn, scope, name, &author()).await.unwrap();
        drop(conn);
        flow::open(&self.engine.client).await.unwrap();
    }

    async fn set_concurrency(&self, name: &str, most: u32) {
        let numbers = Numbers {
            concurrency: Some(most),
            rate: None,
        };
        let mut conn = self.engine.pool().acquire().await.unwrap();
        flow::set_limit(&mut conn, name, numbers, &author())
            .await
            .unwrap();
        drop(conn);
        flow::open(&self.engine.client).await.unwrap();
    }

    async fn act(&self, run: RunId, verb: Verb) {
        self.engine.act(run, verb).await;
        self.engine.client.ring();
    }
}

fn author() -> Author {
    Author {
        actor: "maria".to_owned(),
        role: "admin".to_owned(),
        reason: "the provider asked for it".to_owned(),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn no_more_visits_than_the_limit_run_at_once_and_all_come_to_their_turn() {
    let scene = Scene::set().await;
    scene.outside.hold();
    let runs = scene.start_some(40, &["slots"]).await;
    let (one, other) = (scene.engine.worker().await, scene.engine.worker().await);
    for _ in 0..runs.len() / 2 {
        eventually("two are inside", async || scene.inside() == 2).await;
        scene.outside.release();
        scene.outside.hold();
    }
    scene.outside.release();
    scene.all_complete(&runs).await;
    let doors = scene.outside.keys("door");
    assert_eq!(doors.len(), 80, "each run called once");
    let (mut inside, mut most) = (0, 0);
    for door in doors {
        inside += if door == "in" { 1 } else { -1 };
        most = most.max(inside);
    }
    assert_eq!(most, 2);
    one.shutdown().await;
    other.shutdown().await;
    scene.assert_at_rest().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn why_tells_the_limit_and_who_is_ahead() {
    let scene = Scene::set().await;
    scene.outside.hold();
    let runs = scene.start_some(5, &["slots"]).await;
    let worker = scene.engine.worker().await;
    scene.eventually_blocked(&runs, 3).await;
    let mut told = Vec::new();
    for run in &runs {
        let why = scene.engine.detail(*run).await.why;
        if why.kind == "blocked_by_limit" {
            told.push(why.summary);
        }
    }
    told.sort();
    let expected: Vec<_> = (0..3)
        .map(|ahead| format!("Blocked by limit slots, {ahead} ahead of it."))
        .collect();
    assert_eq!(told, expected);
    scene.outside.release();
    scene.all_complete(&runs).await;
    worker.shutdown().await;
    scene.assert_at_rest().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn each_key_has_its_own_count() {
    let scene = Scene::set().await;
    scene.outside.hold();
    let mut runs = Vec::new();
    for key in ["a-1", "a-2", "b-1", "b-2", "c-1"] {
        runs.push(scene.start(key, &["own-slot"]).await);
    }
    let worker = scene.engine.worker().await;
    scene.eventually_blocked(&runs, 2).await;
    eventually("one of each key is inside", async || scene.inside() == 3).await;
    scene.outside.release();
    scene.all_complete(&runs).await;
    worker.shutdown().await;
    scene.assert_at_rest().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn each_tenant_has_its_own_count_and_why_says_whose_is_full() {
    let scene = Scene::set().await;
    scene.outside.hold();
    let mut runs = Vec::new();
    for tenant in [scene.engine.tenant, scene.engine.add_tenant(None).await] {
        for key in ["a", "b"] {
            runs.push(scene.start_for(tenant, key, &["tenant-slot"]).await);
        }
    }
    let worker = scene.engine.worker().await;
    scene.eventually_blocked(&runs, 2).await;
    eventually("one of each tenant is inside", async || scene.inside() == 2).await;
    for run in &runs {
        let detail = scene.engine.detail(*run).await;
        if detail.summary.status == Status::Blocked {
            let tenant = detail.summary.tenant_id;
            let words = format!("Blocked by limit own-slot, key {tenant}, 0 ahead of it.");
            assert_eq!(detail.why.summary, words);
        }
    }
    scene.outside.release();
    scene.all_complete(&runs).await;
    worker.shutdown().await;
    scene.assert_at_rest().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rate_lets_through_what_its_bucket_holds_and_more_as_time_passes() {
    let scene = Scene::set().await;
    let runs = scene.start_some(8, &["meter"]).await;
    scene.engine.drain().await;
    assert_eq!(scene.count(&runs, Status::Completed).await, 3);
    assert_eq!(scene.count(&runs, Status::Blocked).await, 5);
    scene.engine.assert_nothing_lost().await;
    // A token comes every 20 seconds.
    scene.engine.advance(Duration::from_secs(21));
    scene.engine.drain().await;
    assert_eq!(scene.count(&runs, Status::Completed).await, 4);
    scene.engine.advance(Duration::from_secs(600));
    scene.engine.drain().await;
    assert_eq!(
        scene.count(&runs, Status::Completed).await,
        7,
        "no more than the burst"
    );
    scene.engine.advance(Duration::from_secs(60));
    scene.engine.drain().await;
    scene.all_complete(&runs).await;
    scene.assert_at_rest().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn each_key_has_its_own_bucket_of_a_rate() {
    let scene = Scene::set().await;
    let mut runs = Vec::new();
    for n in 0..5 {
        runs.push(scene.start(&format!("ada-{n}"), &["own-meter"]).await);
    }
    let other = scene.start("ben-0", &["own-meter"]).await;
    scene.engine.drain().await;
    assert_eq!(scene.count(&runs, Status::Completed).await, 3);
    assert_eq!(scene.engine.status(other).await, Status::Completed);
    let mut blocked = 0;
    for run in &runs {
        let detail = scene.engine.detail(*run).await;
        if detail.summary.status == Status::Blocked {
            let words = format!("Blocked by limit meter, key ada, {blocked} ahead of it.");
            assert_eq!(detail.why.summary, words);
            let allows = ("the limit allows", "3 per 60 s, burst 3".to_owned());
            assert!(detail.why.evidence.contains(&allows), "{:?}", detail.why);
            blocked += 1;
        }
    }
    assert_eq!(blocked, 2);
    scene.engine.advance(Duration::from_secs(41));
    scene.engine.drain().await;
    scene.all_complete(&runs).await;
    scene.assert_at_rest().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_room_of_a_worker_that_died_is_given_to_others() {
    let scene = Scene::set().await;
    scene.outside.hold();
    let runs = scene.start_some(6, &["slots"]).await;
    let worker = scene.engine.worker().await;
    scene.eventually_blocked(&runs, 4).await;
    worker.crash().await;
    scene.outside.release();
    scene.engine.advance(Duration::from_secs(60));
    let worker = scene.engine.worker().await;
    scene.all_complete(&runs).await;
    worker.shutdown().await;
    scene.assert_at_rest().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn all_needs_are_met_or_none() {
    let scene = Scene::set().await;
    scene.outside.hold();
    let mut runs = vec![scene.start("a-0", &["slots", "own-slot"]).await];
    let worker = scene.engine.worker().await;
    eventually("the first is inside", async || scene.inside() == 1).await;
    runs.push(scene.start("a-1", &["slots", "own-slot"]).await);
    scene.eventually_blocked(&runs, 1).await;
    // The one that waits for its key holds no slot: another key gets it.
    runs.push(scene.start("b-1", &["slots", "own-slot"]).await);
    eventually("the other key is inside", async || scene.inside() == 2).await;
    scene.outside.release();
    scene.all_complete(&runs).await;
    worker.shutdown().await;
    scene.assert_at_rest().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_limit_can_be_closed_and_opened_while_runs_wait() {
    let scene = Scene::set().await;
    let worker = scene.engine.worker().await;
    scene.set_concurrency("slots", 0).await;
    let runs = scene.start_some(5, &["slots"]).await;
    scene.eventually_blocked(&runs, 5).await;
    let mut conn = scene.engine.pool().acquire().await.unwrap();
    let limits = flow::limits(&mut conn).await.unwrap();
    let line = limits.iter().find(|limit| limit.name == "slots").unwrap();
    assert_eq!((line.waiting, line.in_use), (5, 0));
    assert_eq!(line.changed_by.as_deref(), Some("maria"));
    let unknown = Numbers {
        concurrency: None,
        rate: None,
    };
    let refused = flow::set_limit(&mut conn, "nope", unknown, &author()).await;
    assert!(matches!(refused, Err(EngineError::NoSuchGate { .. })));
    drop(conn);
    scene.set_concurrency("slots", 10).await;
    scene.all_complete(&runs).await;
    worker.shutdown().await;
    assert_eq!(scene.rows("control_audit").await, 2);
    scene.assert_at_rest().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pause_of_a_workflow_queue_or_tenant_blocks_what_becomes_due() {
    let scene = Scene::set().await;
    let tenant = scene.engine.tenant.to_string();
    for (scope, name) in [
        (Scope::Workflow, "caller"),
        (Scope::Queue, "calls"),
        (Scope::Tenant, tenant.as_str()),
    ] {
        scene.pause(scope, name).await.unwrap();
        scene.pause(scope, name).await.unwrap();
        let run = scene.start(scope.word(), &[]).await;
        scene.engine.drain().await;
        let why = scene.engine.detail(run).await.why;
        assert_eq!(why.kind, "blocked_by_pause");
        let because = ("reason", "maria: the provider asked for it".to_owned());
        assert!(why.evidence.contains(&because), "{why:?}");
        scene.engine.assert_nothing_lost().await;
        scene.lift(scope, name).await;
        scene.engine.drain().await;
        assert_eq!(scene.engine.status(run).await, Status::Completed);
        let unknown = scene.pause(scope, "nope").await;
        assert!(matches!(unknown, Err(EngineError::NoSuchGate { .. })));
    }
    assert_eq!(scene.outside.keys("call").len(), 3);
    scene.assert_at_rest().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pause_of_another_scope_blocks_nobody() {
    let scene = Scene::set().await;
    let other = scene.engine.add_tenant(None).await;
    scene
        .pause(Scope::Tenant, &other.to_string())
        .await
        .unwrap();
    let run = scene.start("run", &["slots"]).await;
    scene.engine.drain().await;
    assert_eq!(scene.engine.status(run).await, Status::Completed);
    scene.assert_at_rest().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_waits_can_be_cancelled_terminated_and_paused_alone() {
    let scene = Scene::set().await;
    scene.pause(Scope::Workflow, "caller").await.unwrap();
    let cancelled = scene.start("cancelled", &["slots"]).await;
    let terminated = scene.start("terminated", &[]).await;
    let paused = scene.start("paused", &[]).await;
    scene.engine.drain().await;
    assert_eq!(
        scene
            .count(&[cancelled, terminated, paused], Status::Blocked)
            .await,
        3
    );
    scene.act(cancelled, Verb::Cancel).await;
    scene.act(terminated, Verb::Terminate).await;
    scene.act(paused, Verb::Pause).await;
    scene.engine.drain().await;
    assert_eq!(scene.engine.status(cancelled).await, Status::Cancelled);
    assert_eq!(scene.engine.status(terminated).await, Status::Terminated);
    assert_eq!(scene.engine.status(paused).await, Status::Paused);
    scene.lift(Scope::Workflow, "caller").await;
    scene.engine.drain().await;
    assert_eq!(scene.engine.status(paused).await, Status::Paused);
    scene.act(paused, Verb::Resume).await;
    scene.engine.drain().await;
    assert_eq!(scene.engine.status(paused).await, Status::Completed);
    assert_eq!(scene.outside.keys("call").len(), 1);
    scene.assert_at_rest().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dependency_that_keeps_failing_is_left_alone_and_tried_by_one() {
    let scene = Scene::set().await;
    scene.outside.fail("call", 6);
    let first = scene.start_some(5, &[]).await;
    scene.engine.drain().await;
    assert_eq!(scene.outside.keys("call").len(), 5);
    // The breaker is open: whoever comes now waits, and those that failed too when they retry.
    let late = scene.start("late", &[]).await;
    scene.engine.drain().await;
    let why = scene.engine.detail(late).await.why;
    assert_eq!(why.kind, "blocked_by_breaker", "{why:?}");
    assert!(why.summary.contains("asks outside"), "{why:?}");
    assert_eq!(scene.engine.detail(late).await.summary.attempt, 0);
    assert_eq!(scene.outside.keys("call").len(), 5, "nobody tries");
    // One probes, fails, and it stays open for longer.
    scene.engine.advance(Duration::from_secs(11));
    scene.engine.drain().await;
    assert_eq!(scene.outside.keys("call").len(), 6, "one probes");
    let breakers = async || {
        let mut conn = scene.engine.pool().acquire().await.unwrap();
        flow::breakers(&mut conn).await.unwrap().remove(0)
    };
    assert_eq!(breakers().await.state, "open");
    scene.engine.advance(Duration::from_secs(11));
    scene.engine.drain().await;
    assert_eq!(scene.outside.keys("call").len(), 6, "the pause has doubled");
    // The next probe goes well, and all go on; their retries come due.
    for _ in 0..4 {
        scene.engine.advance(Duration::from_secs(700));
        scene.engine.drain().await;
    }
    assert_eq!(breakers().await.state, "closed");
    let mut all = first;
    all.push(late);
    scene.all_complete(&all).await;
    scene.assert_at_rest().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_breaker_that_an_operator_holds_open_is_not_probed() {
    let scene = Scene::set().await;
    let set = async |open| {
        let mut conn = scene.engine.pool().acquire().await.unwrap();
        flow::set_breaker(&mut conn, "outside", open, &author())
            .await
            .unwrap();
        drop(conn);
        flow::open(&scene.engine.client).await.unwrap();
    };
    set(true).await;
    let run = scene.start("run", &[]).await;
    scene.engine.drain().await;
    scene.engine.advance(Duration::from_secs(3_600));
    scene.engine.drain().await;
    let why = scene.engine.detail(run).await.why;
    assert!(why.summary.contains("an operator closes it"), "{why:?}");
    assert!(scene.outside.keys("call").is_empty());
    set(false).await;
    scene.engine.drain().await;
    assert_eq!(scene.engine.status(run).await, Status::Completed);
    scene.assert_at_rest().await;
}

/// Waking takes as long as it takes: here because somebody holds the limit's row, elsewhere because
/// thousands wait at a limit that was raised.
#[tokio::test(flavor = "multi_thread")]
async fn a_worker_keeps_its_lease_while_waking_is_held_up() {
    let scene = Scene::set().await;
    let config = WorkerConfig {
        // The wait for the lock, and what lies before the next renewal, would outlast it.
        lease: Duration::from_secs(6),
        ..WorkerConfig::default()
    };
    let worker = Worker::start(&scene.engine.client, config).await.unwrap();
    scene.set_concurrency("slots", 0).await;
    let runs = scene.start_some(1, &["slots"]).await;
    scene.eventually_blocked(&runs, 1).await;
    let pool = scene.engine.pool();
    let lease = async || -> (uuid::Uuid, chrono::DateTime<chrono::Utc>) {
        sqlx::query_as("select worker_id, expires_at from engine.worker")
            .fetch_one(pool)
            .await
            .unwrap()
    };
    let mut held = pool.begin().await.unwrap();
    sqlx::query("select from engine.flow_limit where name = 'slots' for update")
        .execute(&mut *held)
        .await
        .unwrap();
    let (holder, before) = lease().await;
    eventually(
        "the lease has been renewed for longer than it lasts",
        async || {
            // The one who lost it would be gone from here, or be back under another name.
            let (now_held_by, until) = lease().await;
            assert_eq!(now_held_by, holder);
            until - before > chrono::TimeDelta::seconds(9)
        },
    )
    .await;
    held.rollback().await.unwrap();
    scene.set_concurrency("slots", 1).await;
    scene.outside.release();
    scene.all_complete(&runs).await;
    worker.shutdown().await;
    scene.assert_at_rest().await;
}

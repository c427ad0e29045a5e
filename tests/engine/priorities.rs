//! In which order workers take what is due: priorities, weights of tenants, and starts that lie ahead.

use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use tenure_engine::flow::Author;
use tenure_engine::operator::{self, Act, Verb};
use tenure_engine::{
    ClockId, Context, EngineError, Event, Priority, Registry, RunId, RunRef, ShardId, StartOptions,
    Status, StepError, TenantId, Transition, Worker, WorkerConfig, Workflow, test_clock, weight,
};

use super::workflows::{Door, DoorSignal, Errand, Outside, registry};
use crate::support::engine::TestEngine;

fn of(priority: Priority) -> StartOptions {
    StartOptions {
        priority: Some(priority),
        ..StartOptions::default()
    }
}

async fn start(engine: &TestEngine, key: &str, options: StartOptions) -> RunId {
    let mut conn = engine.pool().acquire().await.unwrap();
    let started = engine
        .client
        .start_with::<Errand>(&mut conn, engine.tenant, key, &0, options);
    started.await.unwrap().run_id
}

/// Many runs of a tenant, of the given priority.
async fn flood(engine: &TestEngine, tenant: TenantId, prefix: &str, priority: Priority) {
    let flood: Vec<_> = (0..1_500).map(|n| (format!("{prefix}-{n}"), 0)).collect();
    let mut conn = engine.pool().acquire().await.unwrap();
    let started = engine
        .client
        .start_many::<Errand>(&mut conn, tenant, &flood);
    started.await.unwrap();
    // As starts one by one would: `start_many` takes the workflow's own.
    for table in ["run", "due"] {
        let update = format!(
            "update engine.{table} set priority = $1
             where tenant_id = $2 and run_id in (select run_id from engine.run where key like $3)"
        );
        sqlx::query(sqlx::AssertSqlSafe(update))
            .bind(priority.code())
            .bind(tenant.0)
            .bind(format!("{prefix}-%"))
            .execute(&mut *conn)
            .await
            .unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_urgent_overtakes_a_flood_and_what_is_not_is_not_starved() {
    let outside = Outside::default();
    let engine = TestEngine::new(registry(&outside)).await;
    let mut lowest = Vec::new();
    for n in 0..3 {
        lowest.push(start(&engine, &format!("low-{n}"), of(Priority::Lowest)).await);
    }
    flood(&engine, engine.tenant, "flood", Priority::High).await;
    let mut urgent = Vec::new();
    for n in 0..20 {
        urgent.push(start(&engine, &format!("urgent-{n}"), of(Priority::Highest)).await);
    }
    // A claim takes 128 of 1,523: all that is urgent, and the oldest of what is not.
    outside.hold();
    let worker = engine.worker().await;
    outside.arrived().await;
    for run in urgent {
        assert_eq!(engine.status(run).await, Status::Running);
    }
    assert_eq!(engine.status(lowest[0]).await, Status::Running);
    outside.release();
    worker.shutdown().await;
    assert_eq!(engine.detail(lowest[0]).await.priority, Priority::Lowest);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_with_room_for_one_starves_nobody_either() {
    let outside = Outside::default();
    let engine = TestEngine::new(registry(&outside)).await;
    let urgent = async |n: u32| {
        start(&engine, &format!("urgent-{n}"), of(Priority::Highest)).await;
    };
    for n in 0..4 {
        urgent(n).await;
    }
    let lowest = start(&engine, "lowest", of(Priority::Lowest)).await;
    for n in 4..24 {
        urgent(n).await;
    }
    let config = WorkerConfig {
        in_flight: 1,
        ..WorkerConfig::default()
    };
    let mut worker = Worker::start(&engine.client, config).await.unwrap();
    worker.idle().await;
    worker.shutdown().await;
    let ended: Vec<uuid::Uuid> =
        sqlx::query_scalar("select run_id from engine.run order by changed_at")
            .fetch_all(engine.pool())
            .await
            .unwrap();
    let place = ended.iter().position(|run| *run == lowest.0).unwrap();
    // Nor does it come before what is urgent and older.
    assert!((4..16).contains(&place), "it was number {}", place + 1);
    assert_eq!(ended.len(), 25);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_retry_keeps_the_priority_and_a_deadline_is_a_level_later() {
    let outside = Outside::default();
    let engine = TestEngine::new(registry(&outside)).await;
    outside.fail("first", 1);
    let run = start(&engine, "k", of(Priority::High)).await;
    engine.drain().await;
    assert_eq!(engine.status(run).await, Status::Retrying);
    assert_eq!(due_as(&engine, run).await, Priority::High.code());

    let door = open_door(&engine, "door", of(Priority::High)).await;
    let wait = async |door: RunId| {
        for (id, signal) in [
            ("open", DoorSignal::Open),
            ("wait", DoorSignal::Wait { seconds: 3_600 }),
        ] {
            let mut conn = engine.pool().acquire().await.unwrap();
            let (client, to) = (&engine.client, RunRef::Id(door));
            let sent = client.signal::<Door>(&mut conn, engine.tenant, to, id, &signal);
            sent.await.unwrap();
            engine.drain().await;
        }
    };
    wait(door).await;
    assert_eq!(due_as(&engine, door).await, Priority::Normal.code());
    assert_eq!(engine.detail(door).await.priority, Priority::High);
    // Nothing is later than the last.
    let last = open_door(&engine, "last", of(Priority::Lowest)).await;
    wait(last).await;
    assert_eq!(due_as(&engine, last).await, Priority::Lowest.code());
}

/// The level at which a run is taken.
async fn due_as(engine: &TestEngine, run: RunId) -> i16 {
    sqlx::query_scalar("select priority from engine.due where run_id = $1")
        .bind(run.0)
        .fetch_one(engine.pool())
        .await
        .unwrap()
}

/// A crowd of doors whose time has come at one instant, and one start after it.
#[tokio::test(flavor = "multi_thread")]
async fn who_starts_something_does_not_stand_behind_all_that_fell_due_at_once() {
    let outside = Outside::default();
    let engine = TestEngine::new(registry(&outside)).await;
    let crowd: Vec<_> = (0..600).map(|n| (format!("door-{n}"), ())).collect();
    let mut conn = engine.pool().acquire().await.unwrap();
    let started = engine
        .client
        .start_many::<Door>(&mut conn, engine.tenant, &crowd);
    started.await.unwrap();
    engine.drain().await;
    for (key, ()) in &crowd {
        let (client, to) = (&engine.client, RunRef::Key(key));
        let delay = DoorSignal::Delay { seconds: 3_600 };
        let sent = client.signal::<Door>(&mut conn, engine.tenant, to, "delay", &delay);
        sent.await.unwrap();
    }
    engine.drain().await;
    sqlx::query("update engine.due set due_at = engine.now()")
        .execute(&mut *conn)
        .await
        .unwrap();
    let mut latest = Vec::new();
    for n in 0..5 {
        latest.push(start(&engine, &format!("now-{n}"), StartOptions::default()).await);
    }
    // A claim takes 128 of 605.
    outside.hold();
    let worker = engine.worker().await;
    outside.arrived().await;
    for run in latest {
        assert_eq!(engine.status(run).await, Status::Running);
    }
    outside.release();
    worker.shutdown().await;
}

/// Does nothing, soon or late.
struct Sweep;

#[derive(serde::Serialize, serde::Deserialize)]
enum SweepState {
    Idle,
}

#[derive(serde::Serialize, serde::Deserialize)]
enum Never {}

impl Workflow for Sweep {
    const NAME: &'static str = "sweep";
    const VERSION: i32 = 1;
    const PRIORITY: Priority = Priority::Low;
    type Input = ();
    type State = SweepState;
    type Signal = Never;
    type Output = ();

    fn start(&self, (): ()) -> SweepState {
        SweepState::Idle
    }

    async fn handle(
        &self,
        _cx: &Context,
        _state: SweepState,
        _event: Event<Never>,
    ) -> Result<Transition<Self>, StepError> {
        Ok(Transition::complete(()))
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_workflow_says_how_urgent_its_runs_are() {
    let engine = TestEngine::new(Registry::builder().register(Sweep).build().unwrap()).await;
    let run = engine.start::<Sweep>("k", &()).await;
    assert_eq!(engine.detail(run).await.priority, Priority::Low);
    engine.drain().await;
    assert_eq!(engine.status(run).await, Status::Completed);
}

fn author(reason: &str) -> Author {
    Author {
        actor: "ada".to_owned(),
        role: "operator".to_owned(),
        reason: reason.to_owned(),
    }
}

async fn running(engine: &TestEngine, tenant: TenantId) -> i64 {
    sqlx::query_scalar("select count(*) from engine.run where tenant_id = $1 and status = 1")
        .bind(tenant.0)
        .fetch_one(engine.pool())
        .await
        .unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tenant_of_weight_three_has_three_turns_for_one() {
    let outside = Outside::default();
    let engine = TestEngine::new(registry(&outside)).await;
    let heavy = engine.add_tenant(None).await;
    let mut conn = engine.pool().acquire().await.unwrap();
    weight::set(&mut conn, heavy, 3, None, &author("a contract"))
        .await
        .unwrap();
    assert_eq!(weight::list(&mut conn).await.unwrap(), [(heavy, 3)]);
    flood(&engine, engine.tenant, "light", Priority::Normal).await;
    flood(&engine, heavy, "heavy", Priority::Normal).await;
    outside.hold();
    let worker = engine.worker().await;
    outside.arrived().await;
    // A batch is marked as a whole, and more than one may be under way when the first visit is heard
    // of; nothing ends meanwhile, so the shares come to stand.
    crate::support::eventually(
        "heavy has about three turns for one of light's",
        async || {
            let light = running(&engine, engine.tenant).await;
            let heavier = running(&engine, heavy).await;
            light >= 32 && (2 * light..=4 * light).contains(&heavier)
        },
    )
    .await;
    outside.release();
    worker.shutdown().await;

    weight::set(&mut conn, heavy, 1, None, &author("it has ended"))
        .await
        .unwrap();
    assert_eq!(weight::list(&mut conn).await.unwrap(), []);
    let none = weight::set(&mut conn, heavy, 0, None, &author("none")).await;
    assert!(
        matches!(none, Err(EngineError::Malformed { what: "weight", .. })),
        "{none:?}"
    );
    let nobody = weight::set(
        &mut conn,
        TenantId::new(ShardId(1)),
        2,
        None,
        &author("whose"),
    )
    .await;
    assert!(
        matches!(nobody, Err(EngineError::UnknownTenant(_))),
        "{nobody:?}"
    );
    let why = weight::set(&mut conn, heavy, 2, None, &author("")).await;
    assert!(
        matches!(why, Err(EngineError::Malformed { what: "reason", .. })),
        "{why:?}"
    );
}

async fn now(engine: &TestEngine) -> DateTime<Utc> {
    sqlx::query_scalar("select engine.now()")
        .fetch_one(engine.pool())
        .await
        .unwrap()
}

fn at(at: DateTime<Utc>) -> StartOptions {
    StartOptions {
        at: Some(at),
        ..StartOptions::default()
    }
}

async fn open_door(engine: &TestEngine, key: &str, options: StartOptions) -> RunId {
    let mut conn = engine.pool().acquire().await.unwrap();
    let started = engine
        .client
        .start_with::<Door>(&mut conn, engine.tenant, key, &(), options);
    started.await.unwrap().run_id
}

#[tokio::test(flavor = "multi_thread")]
async fn a_start_that_lies_ahead_waits_for_its_time_and_keeps_signals() {
    let engine = TestEngine::new(registry(&Outside::default())).await;
    let hour = now(&engine).await + TimeDelta::hours(1);
    let later = open_door(&engine, "later", at(hour)).await;
    let past = open_door(&engine, "past", at(hour - TimeDelta::days(1))).await;
    let fired = open_door(&engine, "fired", at(hour)).await;
    let ended = open_door(&engine, "ended", at(hour)).await;
    engine
        .signal::<Door>(later, "open", &DoorSignal::Open)
        .await;
    let mut conn = engine.pool().acquire().await.unwrap();
    engine
        .client
        .cancel(&mut conn, engine.tenant, ended)
        .await
        .unwrap();
    let act = Act {
        actor: "ada".to_owned(),
        role: "operator".to_owned(),
        reason: "now".to_owned(),
        revision: engine.detail(fired).await.summary.revision(),
    };
    let fire = Verb::FireDeadline {
        name: "run-start".to_owned(),
    };
    let registry = engine.client.registry();
    operator::intervene(&mut conn, registry, fired, &fire, &act)
        .await
        .unwrap();
    engine.drain().await;
    let detail = engine.detail(later).await;
    assert_eq!(detail.summary.status, Status::Waiting);
    assert_eq!(detail.why.kind, "starts_later", "{:?}", detail.why);
    assert_eq!(detail.summary.next_at, Some(detail.deadlines[0].at));
    assert_eq!(visits(&engine, later).await, 0);
    assert_eq!(visits(&engine, past).await, 1);
    assert_eq!(visits(&engine, fired).await, 1);
    assert!(engine.detail(fired).await.deadlines.is_empty());
    assert_eq!(engine.status(ended).await, Status::Cancelled);
    engine.assert_nothing_lost().await;

    engine.advance(Duration::from_secs(3_601));
    engine.drain().await;
    assert!(visits(&engine, later).await >= 2, "entered, and the signal");
    assert!(engine.detail(later).await.deadlines.is_empty());
    engine.assert_nothing_lost().await;
}

async fn visits(engine: &TestEngine, run: RunId) -> i64 {
    sqlx::query_scalar("select visit from engine.run where run_id = $1")
        .bind(run.0)
        .fetch_one(engine.pool())
        .await
        .unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_clocked_tenants_start_waits_for_its_clock() {
    let mut engine = TestEngine::new(registry(&Outside::default())).await;
    let clock = ClockId::new(ShardId(3));
    let begin = "2030-01-01T00:00:00Z".parse().unwrap();
    let mut conn = engine.pool().acquire().await.unwrap();
    test_clock::create(&mut conn, clock, begin).await.unwrap();
    engine.tenant = engine.add_tenant(Some(clock)).await;
    let noon = begin + TimeDelta::hours(12);
    let later = open_door(&engine, "later", at(noon)).await;
    let past = open_door(&engine, "past", at(begin)).await;
    engine.drain().await;
    assert_eq!(visits(&engine, later).await, 0);
    assert_eq!(visits(&engine, past).await, 1);
    let moved = test_clock::move_to_next(&mut conn, clock, begin + TimeDelta::days(1)).await;
    assert_eq!(moved.unwrap().now, noon);
    engine.drain().await;
    assert_eq!(visits(&engine, later).await, 1);
    engine.assert_nothing_lost().await;
}

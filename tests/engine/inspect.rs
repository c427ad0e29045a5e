//! `why`, lists and logs tell the truth.

use std::time::Duration;

use chrono::TimeDelta;
use serde::{Deserialize, Serialize};
use tenure_engine::flow::{self, Author, Scope};
use tenure_engine::inspect;
use tenure_engine::operator::Verb;
use tenure_engine::search::{self, RunFilter, Wanted};
use tenure_engine::{
    Context, Event, Registry, RunId, StartOptions, Status, StepError, Transition, Worker,
    WorkerConfig, Workflow,
};

use super::workflows::{
    Booking, Door, DoorSignal, Errand, House, HouseSignal, Nothing, Outside, registry,
};
use crate::support::engine::TestEngine;
use crate::support::{connect, eventually};

#[tokio::test(flavor = "multi_thread")]
async fn due_work_without_a_worker_is_told_apart_from_due_work() {
    let outside = Outside::default();
    let engine = TestEngine::new(registry(&outside)).await;
    let run = engine.start::<Errand>("a", &0).await;
    assert_eq!(engine.detail(run).await.why.kind, "no_worker");
    outside.hold();
    let worker = engine.worker().await;
    outside.arrived().await;
    let why = engine.detail(run).await.why;
    assert_eq!(why.kind, "running");
    assert!(
        why.evidence
            .iter()
            .any(|(label, _)| *label == "lease until")
    );
    outside.release();
    worker.shutdown().await;
    assert_eq!(engine.detail(run).await.why.kind, "ended");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_busy_worker_is_told_apart_from_none() {
    let outside = Outside::default();
    let engine = TestEngine::new(registry(&outside)).await;
    outside.hold();
    engine.start::<Errand>("a", &0).await;
    let config = WorkerConfig {
        in_flight: 1,
        claim_batch: 1,
        ..WorkerConfig::default()
    };
    let worker = Worker::start(&engine.client, config).await.unwrap();
    outside.arrived().await;
    let waits = engine.start::<Errand>("b", &0).await;
    let why = engine.detail(waits).await.why;
    assert_eq!(why.kind, "due");
    assert!(why.summary.contains("next free worker"), "{why:?}");
    outside.release();
    worker.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_waits_names_the_signals_that_it_would_handle() {
    let engine = TestEngine::new(registry(&Outside::default())).await;
    let run = engine.start::<Door>("a", &()).await;
    engine.drain().await;
    let why = engine.detail(run).await.why;
    assert_eq!(why.kind, "waiting_for_signal");
    let since = engine.detail(run).await.summary.changed_at;
    let since = since.to_rfc3339_opts(chrono::SecondsFormat::Secs, true);
    let words = format!("State Closed waits since {since} for signal Open");
    assert!(why.summary.starts_with(&words), "{why:?}");
    // What the state leaves for later is none of them.
    assert!(!why.summary.contains("Knock"), "{why:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn whatever_wants_a_worker_says_so_where_there_is_none() {
    let outside = Outside::default();
    let engine = TestEngine::new(registry(&outside)).await;
    let door = engine.start::<Door>("a", &()).await;
    outside.fail("second", 2);
    let errand = engine.start::<Errand>("b", &0).await;
    let house = engine.start::<House>("c", &()).await;
    engine.drain().await;
    // A message that its state leaves for later wants none.
    let knock = DoorSignal::Knock("ada".to_owned());
    engine.signal::<Door>(door, "1", &knock).await;
    engine.drain().await;
    assert_eq!(engine.detail(door).await.why.kind, "waiting_for_signal");
    assert_eq!(engine.detail(errand).await.why.kind, "retrying");
    engine.signal::<Door>(door, "2", &DoorSignal::Open).await;
    engine
        .signal::<House>(house, "1", &HouseSignal::Leave)
        .await;
    engine.advance(Duration::from_secs(700));
    for (run, words) in [
        (door, "There is a message for it"),
        (house, "There is a message for it"),
        (errand, "Step second failed in "),
    ] {
        let why = engine.detail(run).await.why;
        assert_eq!(why.kind, "no_worker", "{why:?}");
        assert!(why.summary.starts_with(words), "{why:?}");
        assert!(why.summary.contains("no worker that knows"), "{why:?}");
    }
    // Whoever speaks for the tenant is told the same.
    let mut tx = engine.pool().begin().await.unwrap();
    tenure_workflows::as_tenant(&mut tx, engine.tenant)
        .await
        .unwrap();
    let told = inspect::detail(&mut tx, engine.client.registry(), door)
        .await
        .unwrap();
    assert_eq!(told.why.kind, "no_worker");
    drop(tx);
    // What has not started yet keeps its signals, worker or not.
    let at = Some(told.summary.changed_at + TimeDelta::days(2));
    let options = StartOptions {
        at,
        ..StartOptions::default()
    };
    let mut conn = engine.pool().acquire().await.unwrap();
    let started = engine
        .client
        .start_with::<Door>(&mut conn, engine.tenant, "later", &(), options);
    let later = started.await.unwrap().run_id;
    drop(conn);
    engine.signal::<Door>(later, "1", &DoorSignal::Open).await;
    assert_eq!(engine.detail(later).await.why.kind, "starts_later");
    for _ in 0..2 {
        engine.drain().await;
        engine.advance(Duration::from_secs(700));
    }
    engine.drain().await;
    assert_eq!(engine.detail(door).await.why.kind, "waiting_for_signal");
    assert_eq!(engine.detail(errand).await.why.kind, "ended");
}

#[tokio::test(flavor = "multi_thread")]
async fn lists_filter_and_page_without_gaps() {
    let engine = TestEngine::new(registry(&Outside::default())).await;
    for n in 0..7 {
        engine.start::<Door>(&format!("door-{n}"), &()).await;
    }
    engine.start::<Errand>("errand", &0).await;
    engine.drain().await;
    let mut conn = engine.pool().begin().await.unwrap();
    let filter = RunFilter {
        workflow: Wanted::only("door".to_owned()),
        status: Wanted::only(Status::Waiting),
        state: Wanted::only("Closed".to_owned()),
        tenant: Wanted::only(engine.tenant),
        ..RunFilter::default()
    };
    let mut seen: Vec<RunId> = Vec::new();
    loop {
        let page = search::list(&mut conn, &filter, seen.last().copied(), 3).await;
        let page = page.unwrap();
        seen.extend(page.iter().map(|run| run.run_id));
        if page.len() < 3 {
            break;
        }
    }
    assert_eq!(seen.len(), 7);
    assert!(
        seen.is_sorted_by(|one, next| one > next),
        "newest first, each once"
    );
    let ended = RunFilter {
        key: Wanted::only("errand".to_owned()),
        ..RunFilter::default()
    };
    let found = search::list(&mut conn, &ended, None, 10).await.unwrap();
    assert_eq!(found.len(), 1);
    assert_eq!(found[0].status, Status::Completed);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_log_shows_visits_and_steps() {
    let outside = Outside::default();
    let engine = TestEngine::new(registry(&outside)).await;
    outside.fail("second", 1);
    let run = engine.start::<Errand>("a", &0).await;
    engine.drain().await;
    engine.advance(std::time::Duration::from_secs(700));
    engine.drain().await;
    let mut conn = engine.pool().acquire().await.unwrap();
    let visits = inspect::transitions(&mut conn, run).await.unwrap();
    let told: Vec<_> = visits
        .iter()
        .rev()
        .map(|line| (line.event.as_str(), line.outcome.as_str()))
        .collect();
    assert_eq!(told, [("entered", "retrying"), ("entered", "completed")]);
    assert!(
        visits[1]
            .detail
            .as_deref()
            .unwrap()
            .contains("outside_down")
    );
    let steps = inspect::steps(&mut conn, engine.keyring(), run)
        .await
        .unwrap();
    let names: Vec<_> = steps.iter().rev().map(|step| step.name.as_str()).collect();
    assert_eq!(names, ["now", "uuid", "first", "effect", "second"]);
}

/// Falls, whatever it is to do.
struct Clumsy;

#[derive(Serialize, Deserialize)]
enum ClumsyState {
    Walking,
}

impl Workflow for Clumsy {
    const NAME: &'static str = "clumsy";
    const VERSION: i32 = 1;
    type Input = ();
    type State = ClumsyState;
    type Signal = Nothing;
    type Output = ();

    fn start(&self, (): ()) -> ClumsyState {
        ClumsyState::Walking
    }

    async fn handle(
        &self,
        _cx: &Context,
        _state: ClumsyState,
        _event: Event<Nothing>,
    ) -> Result<Transition<Self>, StepError> {
        panic!("it falls")
    }
}

/// A run that is stuck, the kind, and how its words begin.
type Stuck = (RunId, &'static str, &'static str);

/// Runs that their own work brings to a stop.
async fn stuck_by_their_work(engine: &TestEngine, outside: &Outside) -> Vec<Stuck> {
    outside.refuse("first", 1);
    let refused = engine.start::<Errand>("refused", &0).await;
    engine.drain().await;
    outside.refuse("car", 1);
    outside.refuse("cancel-car", 1);
    let trip = engine.start::<Booking>("trip", &()).await;
    engine.drain().await;
    outside.fail("second", 3);
    let tired = engine.start::<Errand>("tired", &0).await;
    let clumsy = engine.start::<Clumsy>("clumsy", &()).await;
    for _ in 0..8 {
        engine.drain().await;
        engine.advance(Duration::from_secs(700));
    }
    vec![
        (
            refused,
            "terminal_error",
            "A step failed for good and the workflow has no branch for it. refused: first is",
        ),
        (
            trip,
            "undo_failed",
            "It was reversing what a failed visit did, and a reverse failed. refused: cancel-car",
        ),
        (
            tired,
            "attempts_exhausted",
            "Its attempts are used up. step second: outside_down: second is down.",
        ),
        (clumsy, "panicked", "Its code panicked. panicked: it falls."),
    ]
}

/// Runs that what is around them brings to a stop: their bytes, their workers, the database.
async fn stuck_by_others(engine: &TestEngine, outside: &Outside) -> Vec<Stuck> {
    let unreadable = engine.start::<Errand>("unreadable", &0).await;
    sqlx::query("update engine.run set data = '{\"Lost\":{}}' where run_id = $1")
        .bind(unreadable.0)
        .execute(engine.pool())
        .await
        .unwrap();
    engine.drain().await;
    // The eleventh worker that dies with it in its hands.
    outside.hold_at("second");
    let lost = engine.start::<Errand>("lost", &0).await;
    let worker = engine.worker().await;
    outside.arrived().await;
    sqlx::query("update engine.run set losses = 10 where run_id = $1")
        .bind(lost.0)
        .execute(engine.pool())
        .await
        .unwrap();
    worker.crash().await;
    outside.release();
    engine.advance(Duration::from_secs(60));
    let worker = engine.worker().await;
    eventually("the run is stuck", async || {
        engine.status(lost).await == Status::Stuck
    })
    .await;
    worker.shutdown().await;
    let refuse =
        "alter table engine.step add constraint no_first check (name <> 'first') not valid";
    sqlx::raw_sql(refuse)
        .execute(&mut connect(&engine.options).await)
        .await
        .unwrap();
    let unkept = engine.start::<Errand>("unkept", &0).await;
    engine.drain().await;
    vec![
        (
            unreadable,
            "undecodable",
            "What is stored cannot be read by this version of the workflow. undecodable: ",
        ),
        (
            lost,
            "worker_lost",
            "It was in the hands of a worker that died, too many times in a row",
        ),
        (
            unkept,
            "not_recordable",
            "The database will never take the answer of a step. step first: not_recordable: ",
        ),
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn each_kind_of_stuck_is_told_in_words_of_its_own() {
    let outside = Outside::default();
    let registry = Registry::builder()
        .register(Errand(outside.clone()))
        .register(Booking(outside.clone()))
        .register(Clumsy);
    let engine = TestEngine::new(registry.build().unwrap()).await;
    let mut stuck = stuck_by_their_work(&engine, &outside).await;
    let lost = stuck_by_others(&engine, &outside).await;
    stuck.extend(lost);
    for (run, kind, words) in stuck {
        let detail = engine.detail(run).await;
        assert_eq!(detail.summary.stuck.as_deref(), Some(kind));
        let why = detail.why;
        assert_eq!(why.kind, "stuck", "{why:?}");
        assert!(why.summary.starts_with(words), "{why:?}");
        let helps = match kind {
            "undecodable" => "let a version run that reads it, then retry",
            _ => "mend the cause, then retry",
        };
        let helps = format!("Only a human can help: {helps}.");
        assert!(why.summary.ends_with(&helps), "{why:?}");
        assert!(why.evidence.contains(&("kind", kind.to_owned())), "{why:?}");
        let mut facts = why.evidence.iter();
        let losses = facts.find(|(label, _)| *label == "workers lost");
        let losses = losses.map(|(_, number)| number.as_str());
        assert_eq!(losses, (kind == "worker_lost").then_some("11"), "{why:?}");
    }
    engine.assert_nothing_lost().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_reversed_is_told_and_that_nobody_is_there_to_reverse_it() {
    let outside = Outside::default();
    let engine = TestEngine::new(registry(&outside)).await;
    outside.refuse("car", 1);
    outside.fail("cancel-car", 1);
    let run = engine.start::<Booking>("trip", &()).await;
    engine.drain().await;
    let left = "cancel-car, cancel-hotel, cancel-flight".to_owned();
    let left = ("left to reverse", left);
    let why = engine.detail(run).await.why;
    assert_eq!(why.kind, "undoing");
    let words = "It reverses what a failed visit did; the reverse failed and is tried again at ";
    assert!(why.summary.starts_with(words), "{why:?}");
    let because = "because: outside_down: cancel-car is down";
    assert!(why.summary.ends_with(because), "{why:?}");
    assert!(why.evidence.contains(&left), "{why:?}");
    engine.advance(Duration::from_secs(700));
    let why = engine.detail(run).await.why;
    assert_eq!(why.kind, "no_worker");
    let words = "What a failed visit did is to be reversed, but no worker";
    assert!(why.summary.starts_with(words), "{why:?}");
    let error = "outside_down: cancel-car is down".to_owned();
    for fact in [left, ("last error", error)] {
        assert!(why.evidence.contains(&fact), "{why:?}");
    }
    engine.drain().await;
    let why = engine.detail(run).await.why;
    assert_eq!(why.kind, "ended");
    let words = "It has ended: failed (refused: car is refused).";
    assert_eq!(why.summary, words);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deadline_that_has_passed_waits_for_a_free_worker_or_for_any() {
    let outside = Outside::default();
    let engine = TestEngine::new(registry(&outside)).await;
    let door = engine.start::<Door>("a", &()).await;
    let wait = DoorSignal::Wait { seconds: 600 };
    for (id, signal) in [("1", DoorSignal::Open), ("2", wait)] {
        engine.signal::<Door>(door, id, &signal).await;
    }
    engine.drain().await;
    let why = engine.detail(door).await.why;
    assert_eq!(why.kind, "waiting_for_deadline");
    assert!(why.summary.contains(" for deadline bell; "), "{why:?}");
    // The one hand that there is holds something else.
    outside.hold();
    engine.start::<Errand>("b", &0).await;
    let config = WorkerConfig {
        in_flight: 1,
        claim_batch: 1,
        lease: Duration::from_secs(3_600),
        ..WorkerConfig::default()
    };
    let worker = Worker::start(&engine.client, config.clone()).await.unwrap();
    outside.arrived().await;
    let knock = DoorSignal::Knock("ada".to_owned());
    engine.signal::<Door>(door, "3", &knock).await;
    let why = engine.detail(door).await.why;
    assert_eq!(why.kind, "due");
    let words = "There is a message for it: the next free worker takes it.";
    assert_eq!(why.summary, words);
    worker.crash().await;
    outside.release();
    engine.advance(Duration::from_secs(2 * 3_600));
    engine.drain().await;
    let waits = DoorSignal::Wait { seconds: 600 };
    engine.signal::<Door>(door, "4", &waits).await;
    engine.drain().await;
    outside.hold();
    engine.start::<Errand>("c", &0).await;
    let worker = Worker::start(&engine.client, config).await.unwrap();
    outside.arrived().await;
    engine.advance(Duration::from_secs(700));
    let why = engine.detail(door).await.why;
    assert_eq!(why.kind, "due");
    let words = "Deadline bell has passed: the next free worker takes it.";
    assert_eq!(why.summary, words);
    worker.crash().await;
    outside.release();
    engine.advance(Duration::from_secs(2 * 3_600));
    let why = engine.detail(door).await.why;
    assert_eq!(why.kind, "no_worker");
    let words = "Deadline bell has passed, but no worker that knows its workflow is running.";
    assert_eq!(why.summary, words);
    engine.drain().await;
    let heard = serde_json::json!(["ada", "bell", "bell"]);
    assert_eq!(engine.detail(door).await.data["Open"]["heard"], heard);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_blocked_run_for_which_there_is_room_waits_for_a_worker() {
    let outside = Outside::default();
    let engine = TestEngine::new(registry(&outside)).await;
    let author = Author {
        actor: "maria".to_owned(),
        role: "admin".to_owned(),
        reason: "the provider asked for it".to_owned(),
    };
    let mut conn = engine.pool().acquire().await.unwrap();
    let scope = Scope::Workflow;
    flow::pause(&mut conn, &engine.client, scope, "door", &author)
        .await
        .unwrap();
    let run = engine.start::<Door>("a", &()).await;
    engine.drain().await;
    let why = engine.detail(run).await.why;
    assert_eq!(why.kind, "blocked_by_pause");
    let words = "workflow door is paused; it goes on when that is lifted.";
    assert_eq!(why.summary, words);
    // The one hand that there is holds something else.
    outside.hold();
    engine.start::<Errand>("b", &0).await;
    let config = WorkerConfig {
        in_flight: 1,
        claim_batch: 1,
        lease: Duration::from_secs(3_600),
        ..WorkerConfig::default()
    };
    let worker = Worker::start(&engine.client, config).await.unwrap();
    outside.arrived().await;
    flow::lift(&mut conn, scope, "door", &author).await.unwrap();
    drop(conn);
    flow::open(&engine.client).await.unwrap();
    let why = engine.detail(run).await.why;
    assert_eq!(why.kind, "blocked");
    let words = "There is room for it now: the next free worker takes it.";
    assert_eq!(why.summary, words);
    worker.crash().await;
    outside.release();
    engine.advance(Duration::from_secs(2 * 3_600));
    let why = engine.detail(run).await.why;
    assert_eq!(why.kind, "no_worker");
    let words = "There is room for it now, but no worker that knows its workflow is running.";
    assert_eq!(why.summary, words);
    engine.drain().await;
    assert_eq!(engine.detail(run).await.why.kind, "waiting_for_signal");
    engine.assert_nothing_lost().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_paused_a_run_is_told_before_and_after_its_visit_is_over() {
    let outside = Outside::default();
    let engine = TestEngine::new(registry(&outside)).await;
    outside.hold();
    let run = engine.start::<Errand>("a", &0).await;
    let worker = engine.worker().await;
    outside.arrived().await;
    engine.act(run, Verb::Pause).await;
    let why = engine.detail(run).await.why;
    assert_eq!(why.kind, "running");
    let words = " It is to be paused when its visit is over, or if ";
    assert!(why.summary.contains(words), "{why:?}");
    let by = ("paused by", "maria: because".to_owned());
    assert!(why.evidence.contains(&by), "{why:?}");
    // It stops at the end of an attempt: what is left of the visit comes after the pause.
    outside.fail("first", 1);
    outside.release();
    worker.shutdown().await;
    let why = engine.detail(run).await.why;
    assert_eq!(why.kind, "paused");
    assert!(why.evidence.contains(&by), "{why:?}");
}

//! One verb to many runs: to those that were frozen and confirmed, once each, whatever happens.

use std::time::Duration;

use chrono::TimeDelta;
use serde_json::json;
use tenure_engine::bulk::{
    self, Action, Bulk, BulkOutcome, BulkStatus, BulkWorkflow, LineFilter, NewBulk,
};
use tenure_engine::operator::{self, Act, RestartFrom, Verb};
use tenure_engine::retention::{self, RetentionConfig, Scope};
use tenure_engine::testkit::{Play, PlayError, Scene, fault_matrix};
use tenure_engine::{BulkId, EngineError, Registry, RegistryBuilder, RunId, SYSTEM_TENANT, Status};

use super::workflows::{Door, DoorSignal};
use crate::support::engine::TestEngine;
use crate::support::matrix::assert_borne;
use crate::support::{connect, eventually};

fn workflows() -> RegistryBuilder {
    Registry::builder().register(Door).register(BulkWorkflow)
}

fn registry() -> Registry {
    workflows().build().unwrap()
}

fn act(revision: i64) -> Act {
    Act {
        actor: "ada".to_owned(),
        role: "operator".to_owned(),
        reason: "the doors were repaired".to_owned(),
        revision,
    }
}

fn new(verb: Verb, pace: i32) -> NewBulk {
    NewBulk {
        action: Action::Verb(verb),
        filter: "workflow:door".to_owned(),
        pace,
        stop_after: None,
    }
}

async fn doors(engine: &TestEngine, count: usize) -> Vec<RunId> {
    let mut doors = Vec::new();
    for n in 0..count {
        doors.push(engine.start::<Door>(&format!("door-{n}"), &()).await);
    }
    engine.drain().await;
    doors
}

async fn prepare(engine: &TestEngine, new: &NewBulk, runs: &[RunId]) -> Result<Bulk, EngineError> {
    let mut tx = engine.pool().begin().await.unwrap();
    let bulk = bulk::prepare(&mut tx, SYSTEM_TENANT, new, runs, &act(0)).await?;
    tx.commit().await.unwrap();
    Ok(bulk)
}

async fn confirm(engine: &TestEngine, bulk: &Bulk, count: i64) -> Result<Bulk, EngineError> {
    let mut tx = engine.pool().begin().await.unwrap();
    let begun = bulk::confirm(&mut tx, &engine.client, bulk.bulk_id, count, &act(0)).await?;
    tx.commit().await.unwrap();
    engine.client.ring();
    Ok(begun)
}

async fn begin(engine: &TestEngine, new: &NewBulk, runs: &[RunId]) -> Bulk {
    let bulk = prepare(engine, new, runs).await.unwrap();
    let count = i64::from(bulk.selected);
    confirm(engine, &bulk, count).await.unwrap()
}

async fn find(engine: &TestEngine, bulk: BulkId) -> Bulk {
    let mut conn = engine.pool().acquire().await.unwrap();
    bulk::find(&mut conn, bulk).await.unwrap()
}

/// Lets it act until it has ended.
async fn finish(engine: &TestEngine, bulk: &Bulk) -> Bulk {
    for _ in 0..60 {
        engine.drain().await;
        let found = find(engine, bulk.bulk_id).await;
        if found.ended_at.is_some() {
            let run = found.run_id.unwrap();
            assert!(engine.status(run).await.is_finished());
            return found;
        }
        engine.advance(Duration::from_secs(1));
    }
    panic!(
        "the operation does not end: {:?}",
        find(engine, bulk.bulk_id).await
    );
}

async fn intervene(engine: &TestEngine, run: RunId, verb: Verb) {
    let revision = engine.detail(run).await.summary.revision();
    let mut tx = engine.pool().begin().await.unwrap();
    operator::intervene(
        &mut tx,
        engine.client.registry(),
        run,
        &verb,
        &act(revision),
    )
    .await
    .unwrap();
    tx.commit().await.unwrap();
}

/// How often each run was acted on, by the audit.
async fn audited(engine: &TestEngine, run: RunId, action: &str) -> i64 {
    sqlx::query_scalar(
        "select count(*) from engine.audit
         where run_id = $1 and action = $2 and actor = 'ada' and role = 'operator'
           and reason like 'the doors were repaired (bulk operation %)'",
    )
    .bind(run.0)
    .bind(action)
    .fetch_one(engine.pool())
    .await
    .unwrap()
}

async fn outcomes(engine: &TestEngine, bulk: BulkId) -> Vec<(RunId, BulkOutcome)> {
    let mut conn = engine.pool().acquire().await.unwrap();
    let lines = bulk::lines(&mut conn, bulk, &LineFilter::default(), 100).await;
    let lines = lines.unwrap().into_iter();
    lines.map(|line| (line.run_id, line.outcome)).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_frozen_runs_are_acted_on_at_a_pace_once_the_number_is_confirmed() {
    let engine = TestEngine::new(registry()).await;
    let runs = doors(&engine, 5).await;
    let bulk = prepare(&engine, &new(Verb::Pause, 2), &runs).await.unwrap();
    assert_eq!((bulk.status, bulk.selected), (BulkStatus::Prepared, 5));
    let late = engine.start::<Door>("late", &()).await;
    engine.drain().await;
    for run in &runs {
        assert_eq!(engine.status(*run).await, Status::Waiting);
    }
    let wrong = confirm(&engine, &bulk, 6).await.unwrap_err();
    assert_eq!(wrong.to_string(), "you said 6 runs; the selection has 5");
    let begun = confirm(&engine, &bulk, 5).await.unwrap();
    assert_eq!(begun.status, BulkStatus::Acting);
    let again = confirm(&engine, &bulk, 5).await.unwrap_err();
    assert_eq!(
        again.to_string(),
        "confirm is not possible: the operation is acting"
    );

    let ended = finish(&engine, &bulk).await;
    assert_eq!((ended.status, ended.done), (BulkStatus::Done, 5));
    for run in &runs {
        assert_eq!(engine.status(*run).await, Status::Paused);
        assert_eq!(audited(&engine, *run, "pause").await, 1);
    }
    assert_eq!(engine.status(late).await, Status::Waiting);
    let mut conn = engine.pool().acquire().await.unwrap();
    let lines = bulk::lines(&mut conn, bulk.bulk_id, &LineFilter::default(), 100)
        .await
        .unwrap();
    let took = lines[4].acted_at.unwrap() - lines[0].acted_at.unwrap();
    assert!(
        took >= TimeDelta::seconds(1),
        "two a second: five took {took}"
    );
    engine.assert_nothing_lost().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_that_moved_on_is_left_alone_and_the_rest_goes_on() {
    let engine = TestEngine::new(registry()).await;
    let runs = doors(&engine, 3).await;
    let bulk = prepare(&engine, &new(Verb::Terminate, 100), &runs)
        .await
        .unwrap();
    intervene(&engine, runs[1], Verb::Pause).await;
    confirm(&engine, &bulk, 3).await.unwrap();
    let ended = finish(&engine, &bulk).await;
    assert_eq!(
        (ended.status, ended.done, ended.moved),
        (BulkStatus::Done, 2, 1)
    );
    assert_eq!(engine.status(runs[1]).await, Status::Paused);
    let mut conn = engine.pool().acquire().await.unwrap();
    let moved = LineFilter {
        outcome: Some(BulkOutcome::Moved),
        after: None,
    };
    let lines = bulk::lines(&mut conn, bulk.bulk_id, &moved, 100)
        .await
        .unwrap();
    assert_eq!((lines.len(), lines[0].run_id), (1, runs[1]));
    assert!(
        lines[0]
            .detail
            .as_deref()
            .unwrap()
            .starts_with("it moved on")
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn it_stops_when_too_many_refuse() {
    let engine = TestEngine::new(registry()).await;
    let runs = doors(&engine, 5).await;
    intervene(&engine, runs[0], Verb::Pause).await;
    let new = NewBulk {
        stop_after: Some(2),
        ..new(Verb::Resume, 100)
    };
    let bulk = begin(&engine, &new, &runs).await;
    let ended = finish(&engine, &bulk).await;
    assert_eq!(
        (ended.status, ended.done, ended.refused),
        (BulkStatus::Stopped, 1, 2)
    );
    let outcomes = outcomes(&engine, bulk.bulk_id).await;
    let outcomes: Vec<_> = outcomes.into_iter().map(|(_, outcome)| outcome).collect();
    use BulkOutcome::{Done, Pending, Refused};
    assert_eq!(outcomes, [Done, Refused, Refused, Pending, Pending]);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_abort_is_heard_before_the_next_run() {
    let engine = TestEngine::new(registry()).await;
    let runs = doors(&engine, 30).await;
    let bulk = begin(&engine, &new(Verb::Pause, 1), &runs).await;
    engine.drain().await;
    let mut tx = engine.pool().begin().await.unwrap();
    bulk::abort(&mut tx, bulk.bulk_id, &act(0)).await.unwrap();
    tx.commit().await.unwrap();
    let ended = find(&engine, bulk.bulk_id).await;
    assert_eq!(ended.status, BulkStatus::Aborted);
    assert!((1..30).contains(&ended.done), "{}", ended.done);
    engine.advance(Duration::from_secs(60));
    engine.drain().await;
    assert_eq!(find(&engine, bulk.bulk_id).await, ended);
    assert!(engine.status(bulk.run_id.unwrap()).await.is_finished());
    let mut tx = engine.pool().begin().await.unwrap();
    let again = bulk::abort(&mut tx, bulk.bulk_id, &act(0))
        .await
        .unwrap_err();
    assert_eq!(
        again.to_string(),
        "abort is not possible: the operation is aborted"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_that_dies_in_the_middle_leaves_each_run_acted_on_once() {
    let engine = TestEngine::new(registry()).await;
    let runs = doors(&engine, 9).await;
    // Somebody holds the fifth run, so that the worker is in the middle when it dies.
    let mut holder = connect(&engine.options).await;
    let hold = format!(
        "begin; select from engine.run where run_id = '{}' for update",
        runs[4]
    );
    sqlx::raw_sql(sqlx::AssertSqlSafe(hold))
        .execute(&mut holder)
        .await
        .unwrap();
    let bulk = begin(&engine, &new(Verb::Pause, 100), &runs).await;
    let worker = engine.worker().await;
    eventually("four are done, and the fifth is waited for", async || {
        find(&engine, bulk.bulk_id).await.done == 4
    })
    .await;
    worker.crash().await;
    sqlx::raw_sql("rollback")
        .execute(&mut holder)
        .await
        .unwrap();
    // Another worker takes over when the lease has run out.
    engine.advance(Duration::from_secs(60));
    let worker = engine.worker().await;
    eventually("the operation is done", async || {
        find(&engine, bulk.bulk_id).await.status == BulkStatus::Done
    })
    .await;
    worker.shutdown().await;
    for run in &runs {
        assert_eq!(engine.status(*run).await, Status::Paused);
        assert_eq!(audited(&engine, *run, "pause").await, 1, "{run}");
    }
    let outcomes = outcomes(&engine, bulk.bulk_id).await;
    assert!(
        outcomes
            .iter()
            .all(|(_, outcome)| *outcome == BulkOutcome::Done)
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn many_are_signalled_and_the_ended_restarted_under_keys_of_their_own() {
    let engine = TestEngine::new(registry()).await;
    let runs = doors(&engine, 3).await;
    let moved = runs[2];
    let finish_all = NewBulk {
        action: Action::Signal {
            signal: json!("Finish"),
        },
        ..new(Verb::Pause, 100)
    };
    let bulk = prepare(&engine, &finish_all, &runs).await.unwrap();
    engine
        .signal::<Door>(moved, "open", &DoorSignal::Open)
        .await;
    engine.drain().await;
    confirm(&engine, &bulk, 3).await.unwrap();
    let ended = finish(&engine, &bulk).await;
    assert_eq!((ended.action.word(), ended.done), ("signal", 2));
    let closed: Vec<_> = outcomes(&engine, bulk.bulk_id).await;
    let closed: Vec<_> = closed.into_iter().map(|(_, outcome)| outcome).collect();
    use BulkOutcome::{Done, Moved, Refused};
    assert_eq!(closed, [Done, Done, Moved]);
    engine.drain().await;
    assert_eq!(engine.status(runs[0]).await, Status::Completed);
    assert_eq!(engine.status(moved).await, Status::Waiting);
    assert_eq!(audited(&engine, runs[0], "signal").await, 1);

    let again = NewBulk {
        action: Action::Restart {
            from: RestartFrom::Input(json!(null)),
        },
        ..new(Verb::Pause, 100)
    };
    let bulk = begin(&engine, &again, &runs).await;
    let ended = finish(&engine, &bulk).await;
    assert_eq!((ended.action.word(), ended.done), ("restart", 2));
    let told: Vec<_> = outcomes(&engine, bulk.bulk_id).await;
    assert_eq!(told[2], (moved, Refused), "it has not ended");
    let mut conn = engine.pool().acquire().await.unwrap();
    for n in 0..2 {
        let key = format!("door-{n}/{}", bulk.bulk_id);
        let found = engine
            .client
            .find_by_key::<Door>(&mut conn, engine.tenant, &key);
        let run = found.await.unwrap().unwrap();
        assert_eq!(engine.status(run).await, Status::Waiting, "{key}");
    }
    engine.assert_nothing_lost().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_operation_that_makes_no_sense_is_refused_before_anything_is_frozen() {
    let engine = TestEngine::new(registry()).await;
    let runs = doors(&engine, 1).await;
    let cases = [
        (
            prepare(&engine, &new(Verb::Pause, 0), &runs).await,
            "pace: 1 to 500 runs per second",
        ),
        (
            prepare(&engine, &new(Verb::Pause, 1), &[]).await,
            "filter: it finds no run",
        ),
        (
            prepare(
                &engine,
                &NewBulk {
                    stop_after: Some(0),
                    ..new(Verb::Pause, 1)
                },
                &runs,
            )
            .await,
            "stop_after: at least 1, or nothing",
        ),
    ];
    for (refused, told) in cases {
        assert_eq!(refused.unwrap_err().to_string(), told);
    }
    let mut conn = engine.pool().acquire().await.unwrap();
    assert_eq!(bulk::list(&mut conn, None, 10).await.unwrap(), []);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_old_operation_goes_with_its_lines_unless_a_run_of_it_is_held() {
    let engine = TestEngine::new(registry()).await;
    let runs = doors(&engine, 3).await;
    let pause = new(Verb::Pause, 100);
    let ended = finish(&engine, &begin(&engine, &pause, &runs).await).await;
    let forgotten = prepare(&engine, &pause, &runs).await.unwrap();
    let mut conn = engine.pool().acquire().await.unwrap();
    let hold = retention::place(&mut conn, Scope::Run(runs[1]), &act(0)).await;
    let hold = hold.unwrap();
    let day = Duration::from_secs(86_400);
    let config = RetentionConfig {
        page: 2,
        ..RetentionConfig::default()
    };
    let sweep = async || {
        let swept = retention::sweep(engine.pool(), engine.client.registry(), &config).await;
        assert!(swept.whole);
        swept.operations
    };
    engine.advance(89 * day);
    assert_eq!(sweep().await, 0);
    engine.advance(day);
    assert_eq!(sweep().await, 0, "a run of it is held");
    let left = outcomes(&engine, ended.bulk_id).await;
    assert_eq!(left, [(runs[1], BulkOutcome::Done)]);
    let found = find(&engine, forgotten.bulk_id).await;
    assert_eq!(found.status, BulkStatus::Aborted);
    retention::lift(&mut conn, hold.hold_id, &act(0))
        .await
        .unwrap();
    engine.advance(day);
    assert_eq!(sweep().await, 1);
    let gone = bulk::find(&mut conn, ended.bulk_id).await;
    assert!(
        matches!(gone, Err(EngineError::BulkNotFound(_))),
        "{gone:?}"
    );
    engine.advance(90 * day);
    assert_eq!(sweep().await, 1);
    assert!(bulk::list(&mut conn, None, 10).await.unwrap().is_empty());
}

/// Ends five doors, three a second, and says what became of each.
async fn end_all(play: &Play) -> Result<(BulkStatus, i64, Vec<Status>), PlayError> {
    let mut runs = Vec::new();
    for n in 0..5 {
        runs.push(play.start::<Door>(&format!("door-{n}"), &()).await?);
    }
    play.settle().await?;
    let client = play.client();
    let mut tx = tenure_engine::begin(client.pool()).await?;
    let new = new(Verb::Terminate, 3);
    let made = bulk::prepare(&mut tx, SYSTEM_TENANT, &new, &runs, &act(0)).await?;
    bulk::confirm(&mut tx, client, made.bulk_id, 5, &act(0)).await?;
    tx.commit().await?;
    for _ in 0..10 {
        play.settle().await?;
        play.advance(Duration::from_secs(1));
    }
    let mut conn = client.pool().acquire().await?;
    let ended = bulk::find(&mut conn, made.bulk_id).await?;
    let mut statuses = Vec::new();
    for run in runs {
        statuses.push(play.detail(run).await?.summary.status);
    }
    Ok((ended.status, ended.done, statuses))
}

#[tokio::test(flavor = "multi_thread")]
async fn an_operation_on_many_bears_every_fault() {
    let scene = async || Scene {
        database: crate::support::database().await,
        workflows: workflows(),
        outside: (),
    };
    let script = async |play: &mut Play, (): &()| end_all(play).await;
    let report = fault_matrix(scene, script).await.unwrap();
    assert_borne(&report, &["bulk"]);
    assert!(
        report.expected.starts_with("(Done, 5, [Terminated"),
        "{report}"
    );
}

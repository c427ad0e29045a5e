//! What people do to runs: each verb on a real run, with its effect, its refusals and its audit.

use std::time::Duration;

use serde_json::{Value, json};
use sqlx::PgConnection;
use tenure_engine::operator::{self, Act, Intervention, RestartFrom, Verb};
use tenure_engine::{EngineError, RunId, Status, Worker};

use super::workflows::{
    Door, DoorSignal, Errand, Family, House, HouseSignal, Outside, Shop, registry,
};
use crate::support::engine::TestEngine;
use crate::support::{connect, eventually};

/// Does a verb at the run's present revision.
async fn act(engine: &TestEngine, run: RunId, verb: Verb) -> Result<Intervention, EngineError> {
    let mut tx = engine.pool().begin().await.unwrap();
    let seen = act_on(engine, run, "because").await;
    let done = operator::intervene(&mut tx, engine.client.registry(), run, &verb, &seen).await;
    if done.is_ok() {
        tx.commit().await.unwrap();
    }
    done
}

async fn act_on(engine: &TestEngine, run: RunId, reason: &str) -> Act {
    Act {
        actor: "maria".to_owned(),
        role: "operator".to_owned(),
        reason: reason.to_owned(),
        revision: engine.detail(run).await.summary.revision(),
    }
}

async fn stuck_errand(engine: &TestEngine, outside: &Outside, rows: i32) -> RunId {
    outside.fail("second", 3);
    let run = engine.start::<Errand>("errand", &rows).await;
    for _ in 0..3 {
        engine.drain().await;
        engine.advance(Duration::from_secs(700));
    }
    assert_eq!(engine.status(run).await, Status::Stuck);
    run
}

async fn open_door(engine: &TestEngine, key: &str) -> RunId {
    let run = engine.start::<Door>(key, &()).await;
    engine.signal::<Door>(run, "open", &DoorSignal::Open).await;
    engine.drain().await;
    run
}

/// Pauses a run in a worker's hands, loses the worker, and waits until recovery has paused the run.
async fn pause_and_lose(engine: &TestEngine, outside: &Outside, run: RunId, worker: Worker) {
    act(engine, run, Verb::Pause).await.unwrap();
    worker.crash().await;
    outside.release();
    engine.advance(Duration::from_secs(60));
    let other = engine.worker().await;
    eventually("the lost worker's run is paused", async || {
        engine.status(run).await == Status::Paused
    })
    .await;
    other.shutdown().await;
}

async fn actions(conn: &mut PgConnection, run: RunId) -> Vec<String> {
    sqlx::query_scalar("select action from engine.audit where run_id = $1 order by at")
        .bind(run.0)
        .fetch_all(conn)
        .await
        .unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_step_answered_by_hand_is_not_done_and_the_visit_goes_on_behind_it() {
    let outside = Outside::default();
    let engine = TestEngine::new(registry(&outside)).await;
    let run = stuck_errand(&engine, &outside, 1).await;
    let calls = outside.keys("second").len();
    let done = act(
        &engine,
        run,
        Verb::Skip {
            answer: json!("by hand"),
        },
    )
    .await
    .unwrap();
    assert!(done.effects[0].contains("second"), "{:?}", done.effects);
    engine.drain().await;
    assert_eq!(engine.status(run).await, Status::Completed);
    assert_eq!(outside.keys("second").len(), calls);
    assert_eq!(
        outside.keys("first").len(),
        1,
        "answered steps stay answered"
    );
    let output: Value = engine.output(run).await;
    assert_eq!(output["answers"], json!(["first done", "by hand"]));
    engine.assert_nothing_lost().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_step_failed_by_hand_gives_the_workflow_its_error() {
    let outside = Outside::default();
    let engine = TestEngine::new(registry(&outside)).await;
    let run = stuck_errand(&engine, &outside, 0).await;
    let verb = Verb::FailStep {
        code: "given_up".to_owned(),
        message: "the outside is gone for good".to_owned(),
    };
    act(&engine, run, verb).await.unwrap();
    engine.drain().await;
    // The errand has no branch for it: stuck again, now for what the operator said.
    let detail = engine.detail(run).await;
    assert_eq!(detail.summary.stuck.as_deref(), Some("terminal_error"));
    assert!(
        detail.why.summary.contains("given_up"),
        "{}",
        detail.why.summary
    );
    assert_eq!(outside.keys("second").len(), 3);
    // That answer is not for ever: a retry does the step again.
    act(&engine, run, Verb::Retry).await.unwrap();
    engine.drain().await;
    assert_eq!(engine.status(run).await, Status::Completed);
    assert_eq!(outside.keys("second").len(), 4);
    engine.assert_nothing_lost().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pause_freezes_relative_deadlines_and_leaves_absolute_ones() {
    let engine = TestEngine::new(registry(&Outside::default())).await;
    let run = open_door(&engine, "d").await;
    engine
        .signal::<Door>(run, "w", &DoorSignal::Wait { seconds: 600 })
        .await;
    engine
        .signal::<Door>(run, "t", &DoorSignal::Delay { seconds: 600 })
        .await;
    engine.drain().await;
    act(&engine, run, Verb::Pause).await.unwrap();
    assert_eq!(engine.status(run).await, Status::Paused);
    engine
        .signal::<Door>(run, "k", &DoorSignal::Knock("ann".into()))
        .await;
    engine.advance(Duration::from_secs(3_600));
    engine.drain().await;
    assert_eq!(
        engine.detail(run).await.data,
        json!({"Open": {"heard": []}})
    );
    engine.assert_nothing_lost().await;
    act(&engine, run, Verb::Resume).await.unwrap();
    engine.drain().await;
    // The knock came before the bell rang; the timer has most of its time left.
    let heard = json!({"Open": {"heard": ["ann", "bell"]}});
    assert_eq!(engine.detail(run).await.data, heard);
    engine.advance(Duration::from_secs(601));
    engine.drain().await;
    let heard = json!({"Open": {"heard": ["ann", "bell", "timer"]}});
    assert_eq!(engine.detail(run).await.data, heard);
    engine.assert_nothing_lost().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_in_a_workers_hands_is_paused_when_its_visit_ends() {
    let outside = Outside::default();
    let engine = TestEngine::new(registry(&outside)).await;
    outside.fail("second", 1);
    let run = engine.start::<Errand>("a", &0).await;
    outside.hold();
    let worker = engine.worker().await;
    outside.arrived().await;
    let done = act(&engine, run, Verb::Pause).await.unwrap();
    assert!(done.effects[0].contains("visit"), "{:?}", done.effects);
    assert_eq!(engine.status(run).await, Status::Running);
    outside.release();
    worker.shutdown().await;
    assert_eq!(engine.status(run).await, Status::Paused);
    engine.assert_nothing_lost().await;
    act(&engine, run, Verb::Resume).await.unwrap();
    engine.drain().await;
    assert_eq!(engine.status(run).await, Status::Completed);
    assert_eq!(
        outside.keys("first").len(),
        1,
        "the visit went on where it was"
    );
    engine.assert_nothing_lost().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pause_that_was_asked_for_survives_the_worker() {
    let outside = Outside::default();
    let engine = TestEngine::new(registry(&outside)).await;
    let run = engine.start::<Errand>("a", &0).await;
    outside.hold();
    let worker = engine.worker().await;
    outside.arrived().await;
    pause_and_lose(&engine, &outside, run, worker).await;
    engine.assert_nothing_lost().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_edited_state_must_fit_the_workflow_and_keep_its_name() {
    let engine = TestEngine::new(registry(&Outside::default())).await;
    let run = open_door(&engine, "d").await;
    let edited = |state| Verb::Edit { state };
    let open = json!({"Open": {"heard": ["edited"]}});
    let early = act(&engine, run, edited(open.clone())).await;
    assert!(
        matches!(early, Err(EngineError::NotAllowed { .. })),
        "{early:?}"
    );
    act(&engine, run, Verb::Pause).await.unwrap();
    let bad = act(&engine, run, edited(json!({"Open": {"heard": 3}}))).await;
    assert!(matches!(
        bad,
        Err(EngineError::Malformed { what: "state", .. })
    ));
    let other = act(&engine, run, edited(json!({"Closed": {"heard": []}}))).await;
    assert!(matches!(other, Err(EngineError::NotAllowed { .. })));
    let done = act(&engine, run, edited(open)).await.unwrap();
    assert_eq!(done.before["data"], json!({"Open": {"heard": []}}));
    assert_eq!(done.after["data"], json!({"Open": {"heard": ["edited"]}}));
    assert_eq!(engine.status(run).await, Status::Paused);
    act(&engine, run, Verb::Resume).await.unwrap();
    engine.signal::<Door>(run, "f", &DoorSignal::Finish).await;
    engine.drain().await;
    let heard: Vec<String> = engine.output(run).await;
    assert_eq!(heard, ["edited"]);
    let mut conn = engine.pool().acquire().await.unwrap();
    assert_eq!(
        actions(&mut conn, run).await,
        ["pause", "edit-state", "resume"]
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_moved_run_enters_the_other_state_and_forgets_old_deadlines() {
    let engine = TestEngine::new(registry(&Outside::default())).await;
    let run = open_door(&engine, "d").await;
    engine
        .signal::<Door>(run, "w", &DoorSignal::Wait { seconds: 600 })
        .await;
    engine.drain().await;
    let closed = json!({"Closed": {"heard": ["moved"]}});
    act(&engine, run, Verb::Move { state: closed })
        .await
        .unwrap();
    engine.drain().await;
    let detail = engine.detail(run).await;
    assert_eq!(detail.summary.state, "Closed");
    assert!(detail.deadlines.is_empty());
    engine.advance(Duration::from_secs(601));
    engine.drain().await;
    let data = engine.detail(run).await.data;
    assert_eq!(data, json!({"Closed": {"heard": ["moved"]}}));
    engine.assert_nothing_lost().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deadline_is_fired_or_moved_by_hand() {
    let engine = TestEngine::new(registry(&Outside::default())).await;
    let run = open_door(&engine, "d").await;
    let wait = DoorSignal::Wait { seconds: 600 };
    engine.signal::<Door>(run, "w1", &wait).await;
    engine.drain().await;
    let unknown = Verb::FireDeadline {
        name: "gong".to_owned(),
    };
    let unknown = act(&engine, run, unknown).await;
    assert!(matches!(unknown, Err(EngineError::NotAllowed { .. })));
    let fire = Verb::FireDeadline {
        name: "bell".to_owned(),
    };
    act(&engine, run, fire).await.unwrap();
    engine.drain().await;
    assert_eq!(
        engine.detail(run).await.data["Open"]["heard"],
        json!(["bell"])
    );
    engine.signal::<Door>(run, "w2", &wait).await;
    engine.drain().await;
    let at = engine.detail(run).await.deadlines[0].at + chrono::TimeDelta::hours(1);
    let later = Verb::MoveDeadline {
        name: "bell".to_owned(),
        at,
    };
    act(&engine, run, later).await.unwrap();
    engine.advance(Duration::from_secs(700));
    engine.drain().await;
    assert_eq!(
        engine.detail(run).await.data["Open"]["heard"],
        json!(["bell"])
    );
    engine.advance(Duration::from_secs(3_600));
    engine.drain().await;
    let heard = json!(["bell", "bell"]);
    assert_eq!(engine.detail(run).await.data["Open"]["heard"], heard);
    engine.assert_nothing_lost().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stuck_or_failing_run_hears_a_cancel() {
    let outside = Outside::default();
    let engine = TestEngine::new(registry(&outside)).await;
    let run = stuck_errand(&engine, &outside, 0).await;
    act(&engine, run, Verb::Cancel).await.unwrap();
    engine.drain().await;
    assert_eq!(engine.status(run).await, Status::Cancelled);

    // A visit that is being retried gives way, too.
    outside.fail("second", 3);
    let run = engine.start::<Errand>("b", &0).await;
    engine.drain().await;
    assert_eq!(engine.status(run).await, Status::Retrying);
    act(&engine, run, Verb::Cancel).await.unwrap();
    engine.drain().await;
    assert_eq!(engine.status(run).await, Status::Cancelled);
    engine.assert_nothing_lost().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_clean_up_that_fails_is_stuck_when_its_policy_runs_out() {
    let outside = Outside::default();
    let engine = TestEngine::new(registry(&outside)).await;
    let run = engine.start::<Shop>("corner", &()).await;
    engine.drain().await;
    outside.fail("lock", 6);
    act(&engine, run, Verb::Cancel).await.unwrap();
    let tried = || (outside.keys("sweep").len(), outside.keys("lock").len());
    let try_until_it_runs_out = async || {
        for _ in 0..4 {
            engine.drain().await;
            engine.advance(Duration::from_secs(700));
        }
        assert_eq!(engine.status(run).await, Status::Stuck);
    };
    try_until_it_runs_out().await;
    assert_eq!(tried(), (1, 3), "what was answered is not done again");

    // A second cancel begins it anew, once and not for ever.
    act(&engine, run, Verb::Cancel).await.unwrap();
    try_until_it_runs_out().await;
    assert_eq!(tried(), (2, 6));
    act(&engine, run, Verb::Retry).await.unwrap();
    engine.drain().await;
    assert_eq!(engine.status(run).await, Status::Cancelled);
    assert_eq!(tried(), (2, 7));
    engine.assert_nothing_lost().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_terminated_run_ends_at_once_whoever_holds_it() {
    let outside = Outside::default();
    let engine = TestEngine::new(registry(&outside)).await;
    let run = engine.start::<Errand>("a", &1).await;
    outside.hold();
    let worker = engine.worker().await;
    outside.arrived().await;
    act(&engine, run, Verb::Terminate).await.unwrap();
    assert_eq!(engine.status(run).await, Status::Terminated);
    outside.release();
    worker.shutdown().await;
    assert_eq!(engine.status(run).await, Status::Terminated);
    let rows: i64 = sqlx::query_scalar("select count(*) from app.debt")
        .fetch_one(&mut connect(&engine.options).await)
        .await
        .unwrap();
    assert_eq!(rows, 0, "what came after the end was not written");
    let again = act(&engine, run, Verb::Terminate).await;
    assert!(matches!(again, Err(EngineError::NotAllowed { .. })));
    engine.assert_nothing_lost().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn children_end_with_their_parent_as_their_policy_says() {
    let engine = TestEngine::new(registry(&Outside::default())).await;
    for (key, end, ended) in [
        ("done", None, Status::Completed),
        ("killed", Some(Verb::Terminate), Status::Terminated),
        ("called-off", Some(Verb::Cancel), Status::Cancelled),
    ] {
        let house = engine.start::<House>(key, &()).await;
        engine.drain().await;
        let mut conn = engine.pool().acquire().await.unwrap();
        let mut doors = Vec::new();
        for policy in ["left", "cancelled", "terminated"] {
            let key = format!("{key}-{policy}");
            let door = engine
                .client
                .find_by_key::<Door>(&mut conn, engine.tenant, &key);
            doors.push(door.await.unwrap().unwrap());
        }
        // One that nobody works on hears of it all the same.
        act(&engine, doors[1], Verb::Pause).await.unwrap();
        match end {
            Some(verb) => drop(act(&engine, house, verb).await.unwrap()),
            None => {
                engine
                    .signal::<House>(house, "l", &HouseSignal::Leave)
                    .await
            }
        }
        engine.drain().await;
        assert_eq!(engine.status(house).await, ended);
        let mut statuses = Vec::new();
        for door in &doors {
            statuses.push(engine.status(*door).await);
        }
        let expected = [Status::Waiting, Status::Cancelled, Status::Terminated];
        assert_eq!(statuses, expected, "{key}");
        // What was left goes on, and its end changes nothing of what has ended.
        let finish = DoorSignal::Finish;
        engine.signal::<Door>(doors[0], "f", &finish).await;
        engine.drain().await;
        assert_eq!(engine.status(doors[0]).await, Status::Completed, "{key}");
        assert_eq!(engine.status(house).await, ended);
    }
    engine.assert_nothing_lost().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn children_in_the_middle_of_their_work_go_on_when_their_parent_is_cancelled() {
    let outside = Outside::default();
    let engine = TestEngine::new(registry(&outside)).await;
    outside.refuse("second", 2);
    let names = ["ann", "ben"].map(str::to_owned);
    let family = engine.start::<Family>("family", &names.to_vec()).await;
    engine.drain().await;
    let mut conn = engine.pool().acquire().await.unwrap();
    let mut children = Vec::new();
    for name in &names {
        let child = engine
            .client
            .find_by_key::<Errand>(&mut conn, engine.tenant, name);
        children.push(child.await.unwrap().unwrap());
    }
    drop(conn);
    act(&engine, family, Verb::Cancel).await.unwrap();
    engine.drain().await;
    assert_eq!(engine.status(family).await, Status::Cancelled);
    for child in &children {
        let detail = engine.detail(*child).await;
        assert_eq!(detail.summary.status, Status::Stuck);
        assert_eq!(detail.parent_run_id, Some(family));
        act(&engine, *child, Verb::Retry).await.unwrap();
    }
    engine.drain().await;
    for child in &children {
        assert_eq!(engine.status(*child).await, Status::Completed);
    }
    // They went on where they were.
    assert_eq!(outside.keys("first").len(), 2);
    assert_eq!(outside.keys("second").len(), 4);
    // Their ends change nothing of what has ended, and nothing is left of that news.
    let detail = engine.detail(family).await;
    assert_eq!(detail.summary.status, Status::Cancelled);
    assert_eq!(detail.output, None);
    let woken: i64 = sqlx::query_scalar("select count(*) from engine.nudge")
        .fetch_one(engine.pool())
        .await
        .unwrap();
    assert_eq!(woken, 0);
    engine.assert_nothing_lost().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_ended_run_is_restarted_under_a_key_of_its_own() {
    let engine = TestEngine::new(registry(&Outside::default())).await;
    let run = open_door(&engine, "d").await;
    let mut conn = engine.pool().acquire().await.unwrap();
    let registry = engine.client.registry();
    let seen = act_on(&engine, run, "again").await;
    let from = RestartFrom::LastState;
    let early = operator::restart(&mut conn, registry, run, "d2", &from, &seen).await;
    assert!(matches!(early, Err(EngineError::NotAllowed { .. })));
    act(&engine, run, Verb::Terminate).await.unwrap();
    let seen = act_on(&engine, run, "again").await;
    let from = [
        RestartFrom::LastState,
        RestartFrom::State(json!({"Open": {"heard": ["before"]}})),
        RestartFrom::Input(Value::Null),
    ];
    let mut states = Vec::new();
    for (n, from) in from.iter().enumerate() {
        let key = format!("d-again-{n}");
        let started = operator::restart(&mut conn, registry, run, &key, from, &seen).await;
        let started = started.unwrap();
        assert!(started.created);
        engine.drain().await;
        states.push(engine.detail(started.run_id).await.data);
    }
    let expected = [
        json!({"Open": {"heard": []}}),
        json!({"Open": {"heard": ["before"]}}),
        json!({"Closed": {"heard": []}}),
    ];
    assert_eq!(states, expected);
    let taken = operator::restart(
        &mut conn,
        registry,
        run,
        "d",
        &RestartFrom::LastState,
        &seen,
    )
    .await;
    assert!(
        matches!(taken, Err(EngineError::KeyTaken { .. })),
        "{taken:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dry_run_tells_and_changes_nothing() {
    let engine = TestEngine::new(registry(&Outside::default())).await;
    let run = open_door(&engine, "d").await;
    let before = engine.detail(run).await;
    let mut tx = engine.pool().begin().await.unwrap();
    let seen = act_on(&engine, run, "only looking").await;
    let would = operator::intervene(
        &mut tx,
        engine.client.registry(),
        run,
        &Verb::Terminate,
        &seen,
    )
    .await
    .unwrap();
    tx.rollback().await.unwrap();
    assert_eq!(would.after["status"], "terminated");
    assert!(!would.effects.is_empty());
    let after = engine.detail(run).await;
    assert_eq!(after.summary.revision(), before.summary.revision());
    assert_eq!(after.summary.status, Status::Waiting);
    let mut conn = engine.pool().acquire().await.unwrap();
    assert!(actions(&mut conn, run).await.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_signal_by_hand_is_recorded_with_its_reason() {
    let engine = TestEngine::new(registry(&Outside::default())).await;
    let run = open_door(&engine, "d").await;
    let mut conn = engine.pool().acquire().await.unwrap();
    let act = act_on(&engine, run, "the customer called").await;
    let finish = json!("Finish");
    operator::signal(
        &mut conn,
        engine.client.registry(),
        run,
        "hand-1",
        &finish,
        &act,
    )
    .await
    .unwrap();
    engine.drain().await;
    assert_eq!(engine.status(run).await, Status::Completed);
    let row: (String, String, Value) =
        sqlx::query_as("select actor, reason, after from engine.audit where action = 'signal'")
            .fetch_one(&mut *conn)
            .await
            .unwrap();
    assert_eq!(row.0, "maria");
    assert_eq!(row.1, "the customer called");
    assert_eq!(row.2, json!({"signal": "Finish", "signal_id": "hand-1"}));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_resumed_visit_remembers_what_it_did_before_its_worker_died() {
    let outside = Outside::default();
    let engine = TestEngine::new(registry(&outside)).await;
    let run = engine.start::<Errand>("a", &1).await;
    outside.hold_at("second");
    let worker = engine.worker().await;
    outside.arrived().await;
    pause_and_lose(&engine, &outside, run, worker).await;
    act(&engine, run, Verb::Resume).await.unwrap();
    engine.drain().await;
    assert_eq!(engine.status(run).await, Status::Completed);
    assert_eq!(outside.keys("first").len(), 1);
    let mut conn = connect(&engine.options).await;
    let effects: i64 = sqlx::query_scalar("select count(*) from app.debt")
        .fetch_one(&mut conn)
        .await
        .unwrap();
    assert_eq!(effects, 1, "a database effect is done exactly once");
}

#[tokio::test(flavor = "multi_thread")]
async fn of_two_opposing_verbs_at_once_one_wins_and_the_other_is_told_the_revision() {
    let engine = TestEngine::new(registry(&Outside::default())).await;
    for round in 0..8 {
        let run = open_door(&engine, &format!("door-{round}")).await;
        let seen = act_on(&engine, run, "at once").await;
        let registry = engine.client.registry();
        let one = async |verb: Verb| {
            let mut tx = engine.pool().begin().await.unwrap();
            let done = operator::intervene(&mut tx, registry, run, &verb, &seen).await;
            if done.is_ok() {
                tx.commit().await.unwrap();
            }
            done
        };
        let (paused, ended) = tokio::join!(one(Verb::Pause), one(Verb::Terminate));
        let now = engine.detail(run).await.summary;
        let (won, lost) = match (paused, ended) {
            (Ok(_), Err(lost)) => (Status::Paused, lost),
            (Err(lost), Ok(_)) => (Status::Terminated, lost),
            both => panic!("{both:?}"),
        };
        assert_eq!(now.status, won);
        match lost {
            EngineError::Moved { seen: was, current } => {
                assert_eq!((was, current), (seen.revision, now.revision()));
            }
            other => panic!("{other:?}"),
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_signal_of_the_wrong_shape_is_refused_and_nothing_is_stored() {
    let engine = TestEngine::new(registry(&Outside::default())).await;
    let run = open_door(&engine, "d").await;
    let mut conn = engine.pool().acquire().await.unwrap();
    let before = engine.detail(run).await.summary.revision();
    for wrong in [json!("Explode"), json!({"Open": 7}), json!(null)] {
        let act = act_on(&engine, run, "by mistake").await;
        let registry = engine.client.registry();
        let refused = operator::signal(&mut conn, registry, run, "wrong", &wrong, &act).await;
        match refused {
            Err(EngineError::Malformed { what, .. }) => assert_eq!(what, "signal"),
            other => panic!("{wrong}: {other:?}"),
        }
    }
    let kept: i64 = sqlx::query_scalar("select count(*) from engine.audit where action = 'signal'")
        .fetch_one(&mut *conn)
        .await
        .unwrap();
    assert_eq!(kept, 0);
    assert_eq!(engine.detail(run).await.summary.revision(), before);
}

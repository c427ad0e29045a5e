//! Locks: what meets on the same rows waits in the order that `docs/architecture.md` writes down.
//! Where one order cannot be kept (a claim takes what it finds), a deadlock that Postgres breaks
//! costs no caller anything: no error reaches it, and nothing is lost.

use std::cell::Cell;
use std::collections::BTreeSet;
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use futures_util::future::join_all;
use sqlx::{AssertSqlSafe, Connection as _};
use tenure_engine::operator::{self, Act, RestartFrom, Verb};
use tenure_engine::retention::{self, Retention, RetentionConfig, Scope};
use tenure_engine::{ClockId, EngineError, RunId, RunRef, ShardId, Status, test_clock};

use super::workflows::{Door, DoorSignal, Errand, Family, Outside, registry};
use crate::support::engine::TestEngine;
use crate::support::{connect, database, eventually};

/// An engine on a database that finds deadlocks at once.
async fn arena(outside: &Outside) -> TestEngine {
    let options = database().await;
    let name = options.get_database().unwrap();
    let hasty = format!("alter database \"{name}\" set deadlock_timeout = '50ms'");
    sqlx::raw_sql(AssertSqlSafe(hasty))
        .execute(&mut connect(&options).await)
        .await
        .unwrap();
    TestEngine::on(options, registry(outside)).await
}

/// Ends all of the engine's sessions, so that all is counted, and looks how often Postgres had to
/// break a deadlock.
async fn assert_no_deadlock(engine: &TestEngine) {
    engine.assert_nothing_lost().await;
    engine.pool().close().await;
    let mut conn = connect(&engine.options).await;
    let count = "select count(*) from pg_stat_activity
                 where datname = current_database() and backend_type = 'client backend'
                   and pid <> pg_backend_pid()";
    // A session that has ended has told what it counted.
    for _ in 0..10_000 {
        let others: i64 = sqlx::query_scalar(count)
            .fetch_one(&mut conn)
            .await
            .unwrap();
        if others == 0 {
            break;
        }
    }
    let deadlocks: i64 = sqlx::query_scalar(
        "select deadlocks from pg_stat_database where datname = current_database()",
    )
    .fetch_one(&mut conn)
    .await
    .unwrap();
    assert_eq!(deadlocks, 0, "deadlocks that Postgres had to break");
}

async fn doors(engine: &TestEngine, count: usize) -> Vec<RunId> {
    let keys = 0..count;
    let doors = join_all(keys.map(async |n| {
        let run = engine.start::<Door>(&format!("door-{n}"), &()).await;
        engine.signal::<Door>(run, "open", &DoorSignal::Open).await;
        run
    }));
    doors.await
}

/// What is written on a door that was told to finish.
async fn heard(engine: &TestEngine, door: RunId) -> Vec<String> {
    engine
        .signal::<Door>(door, "finish", &DoorSignal::Finish)
        .await;
    eventually("the door is done", async || {
        engine.status(door).await == Status::Completed
    })
    .await;
    engine.output(door).await
}

async fn finished(engine: &TestEngine, count: i64) {
    eventually("all are completed", async || {
        let done: i64 = sqlx::query_scalar("select count(*) from engine.run where status = 10")
            .fetch_one(engine.pool())
            .await
            .unwrap();
        done == count
    })
    .await;
}

/// A claim takes the due row of a run that another holds for a signal, while that one settles.
#[tokio::test(flavor = "multi_thread")]
async fn a_deadline_falls_due_while_signals_are_settled() {
    let engine = arena(&Outside::default()).await;
    let other = engine.beside(registry(&Outside::default())).await;
    let (one, two) = tokio::join!(engine.worker(), other.worker());
    let doors = doors(&engine, 12).await;
    const ROUNDS: usize = 40;
    for round in 0..ROUNDS {
        let told = doors.iter().map(async |door| {
            let wait = DoorSignal::Wait { seconds: 0 };
            let id = format!("wait-{round}");
            engine.signal::<Door>(*door, &id, &wait).await;
            engine.advance(Duration::from_millis(10));
            let knock = DoorSignal::Knock(format!("knock {round}"));
            let id = format!("knock-{round}");
            engine.signal::<Door>(*door, &id, &knock).await;
        });
        join_all(told).await;
    }
    for door in doors {
        let heard = heard(&engine, door).await;
        let knocks = heard.iter().filter(|what| what.starts_with("knock"));
        assert_eq!(knocks.count(), ROUNDS, "{heard:?}");
    }
    tokio::join!(one.shutdown(), two.shutdown());
    assert_no_deadlock(&engine).await;
}

/// Recovery deletes the lease under which others record and settle.
#[tokio::test(flavor = "multi_thread")]
async fn workers_are_taken_over_while_they_record_and_settle() {
    let outside = Outside::default();
    let engine = arena(&outside).await;
    let other = engine.beside(registry(&outside)).await;
    let (one, two) = tokio::join!(engine.worker(), other.worker());
    for round in 0..6 {
        let starts: Vec<_> = (0..50).map(|n| (format!("run-{round}-{n}"), 1)).collect();
        let mut conn = engine.pool().acquire().await.unwrap();
        let made = engine
            .client
            .start_many::<Errand>(&mut conn, engine.tenant, &starts);
        made.await.unwrap();
        drop(conn);
        engine.client.ring();
        // Longer than a lease: whoever renews first takes over from the other.
        engine.advance(Duration::from_secs(25));
        finished(&engine, 50 * (round + 1)).await;
    }
    let effects: i64 = sqlx::query_scalar("select count(*) from app.debt")
        .fetch_one(&mut connect(&engine.options).await)
        .await
        .unwrap();
    assert_eq!(effects, 300, "each effect once");
    tokio::join!(one.shutdown(), two.shutdown());
    other.pool().close().await;
    assert_no_deadlock(&engine).await;
}

/// An operator retries runs at the moment at which they are tried by themselves.
#[tokio::test(flavor = "multi_thread")]
async fn an_operator_retries_what_is_being_tried() {
    let outside = Outside::default();
    outside.fail("second", 60);
    let engine = arena(&outside).await;
    let runs = join_all((0..20).map(|n| {
        let engine = &engine;
        async move { engine.start::<Errand>(&format!("run-{n}"), &0).await }
    }))
    .await;
    let worker = engine.worker().await;
    let done = async |run: RunId| engine.status(run).await == Status::Completed;
    for _ in 0..100 {
        engine.advance(Duration::from_secs(7));
        engine.client.ring();
        let tries = runs.iter().map(async |run| {
            let revision = engine.detail(*run).await.summary.revision();
            let act = Act {
                actor: "maria".to_owned(),
                role: "operator".to_owned(),
                reason: "now".to_owned(),
                revision,
            };
            let mut tx = engine.pool().begin().await.unwrap();
            let registry = engine.client.registry();
            match operator::intervene(&mut tx, registry, *run, &Verb::Retry, &act).await {
                Ok(_) => tx.commit().await.unwrap(),
                Err(EngineError::Moved { .. } | EngineError::NotAllowed { .. }) => {
                    tx.rollback().await.unwrap();
                }
                Err(error) => panic!("{error:?}"),
            }
            done(*run).await
        });
        if join_all(tries).await.into_iter().all(|done| done) {
            break;
        }
    }
    finished(&engine, 20).await;
    worker.shutdown().await;
    assert_no_deadlock(&engine).await;
}

/// A clock's move takes deadlines from runs that settle new ones.
#[tokio::test(flavor = "multi_thread")]
async fn a_clock_advances_while_its_runs_settle() {
    let start: DateTime<Utc> = "2027-01-31T09:00:00Z".parse().unwrap();
    let mut engine = arena(&Outside::default()).await;
    let clock = ClockId::new(ShardId::any());
    let mut conn = engine.pool().acquire().await.unwrap();
    test_clock::create(&mut conn, clock, start).await.unwrap();
    drop(conn);
    engine.tenant = engine.add_tenant(Some(clock)).await;
    let worker = engine.worker().await;
    let doors = doors(&engine, 10).await;
    const ROUNDS: usize = 50;
    for round in 0..ROUNDS {
        let told = join_all(doors.iter().map(async |door| {
            let id = format!("wait-{round}");
            let wait = DoorSignal::Wait { seconds: 30 };
            engine.signal::<Door>(*door, &id, &wait).await;
            let id = format!("knock-{round}");
            let knock = DoorSignal::Knock(format!("knock {round}"));
            engine.signal::<Door>(*door, &id, &knock).await;
        }));
        let moved = async {
            let mut tx = engine.pool().begin().await.unwrap();
            let seconds = i64::try_from(round).unwrap() * 60;
            let target = start + TimeDelta::seconds(seconds);
            test_clock::move_to_next(&mut tx, clock, target)
                .await
                .unwrap();
            tx.commit().await.unwrap();
            engine.client.ring();
        };
        tokio::join!(told, moved);
    }
    for door in doors {
        let heard = heard(&engine, door).await;
        let knocks = heard.iter().filter(|what| what.starts_with("knock"));
        assert_eq!(knocks.count(), ROUNDS, "{heard:?}");
    }
    worker.shutdown().await;
    assert_no_deadlock(&engine).await;
}

/// Parents of the same children: one watches a run while it ends.
#[tokio::test(flavor = "multi_thread")]
async fn runs_end_while_others_begin_to_watch_them() {
    let outside = Outside::default();
    let engine = arena(&outside).await;
    let other = engine.beside(registry(&outside)).await;
    let (one, two) = tokio::join!(engine.worker(), other.worker());
    let names: Vec<String> = (0..8).map(|n| format!("child-{n}")).collect();
    let families = join_all((0..30).map(|n| {
        let (engine, mut names) = (&engine, names.clone());
        // Each begins with another child.
        names.rotate_left(n % 8);
        async move { engine.start::<Family>(&format!("family-{n}"), &names).await }
    }))
    .await;
    finished(&engine, 30 + 8).await;
    for family in families {
        let ended: Vec<String> = engine.output(family).await;
        assert_eq!(ended.len(), 8);
    }
    tokio::join!(one.shutdown(), two.shutdown());
    assert_no_deadlock(&engine).await;
}

/// Somebody's open transaction holds the key of a child: its parent waits, and nobody else does.
#[tokio::test(flavor = "multi_thread")]
async fn a_parent_that_waits_for_a_key_holds_nobody_up() {
    let engine = arena(&Outside::default()).await;
    let worker = engine.worker().await;
    let mut tx = engine.pool().begin().await.unwrap();
    let held = engine
        .client
        .start::<Errand>(&mut tx, engine.tenant, "child", &0);
    held.await.unwrap();
    let family = engine
        .start::<Family>("family", &vec!["child".to_owned()])
        .await;
    one_waits_for_a_lock(&engine).await;
    let other = engine.start::<Errand>("other", &0).await;
    let others = vec!["another".to_owned()];
    let others = engine.start::<Family>("others", &others).await;
    finished(&engine, 3).await;
    assert_eq!(engine.status(other).await, Status::Completed);
    assert_eq!(engine.status(others).await, Status::Completed);
    assert_eq!(engine.status(family).await, Status::Running);
    tx.rollback().await.unwrap();
    engine.client.ring();
    finished(&engine, 5).await;
    assert_eq!(engine.status(family).await, Status::Completed);
    worker.shutdown().await;
    assert_no_deadlock(&engine).await;
}

/// Two callers start the same keys in opposite orders, each in one call.
#[tokio::test(flavor = "multi_thread")]
async fn the_same_keys_are_started_in_any_order() {
    let engine = arena(&Outside::default()).await;
    for round in 0..50 {
        let forth: Vec<_> = (0..40).map(|n| (format!("run-{round}-{n}"), 0)).collect();
        let back: Vec<_> = forth.iter().rev().cloned().collect();
        let start = async |starts: Vec<(String, i32)>| {
            let mut conn = engine.pool().acquire().await.unwrap();
            let made = engine
                .client
                .start_many::<Errand>(&mut conn, engine.tenant, &starts);
            made.await.unwrap();
        };
        tokio::join!(start(forth), start(back));
    }
    let runs: i64 = sqlx::query_scalar("select count(*) from engine.run")
        .fetch_one(engine.pool())
        .await
        .unwrap();
    assert_eq!(runs, 50 * 40);
    assert_no_deadlock(&engine).await;
}

/// Starts some finished run anew, if there is one still.
async fn restart_one(engine: &TestEngine, act: &Act, key: &str) {
    let mut tx = engine.pool().begin().await.unwrap();
    let one: Option<(uuid::Uuid, i64)> =
        sqlx::query_as("select run_id, epoch + visit from engine.run where status = 10 limit 1")
            .fetch_optional(&mut *tx)
            .await
            .unwrap();
    let Some((run, revision)) = one else { return };
    let act = Act {
        revision,
        ..act.clone()
    };
    let (registry, from) = (engine.client.registry(), RestartFrom::Input(0.into()));
    match operator::restart(&mut tx, registry, RunId(run), key, &from, &act).await {
        Ok(_) => tx.commit().await.unwrap(),
        Err(EngineError::RunNotFound(_)) => {}
        Err(error) => panic!("{error:?}"),
    }
}

/// Runs are dropped while their keys are started again, while somebody holds them and lets them go,
/// and while they are started anew after their end.
#[tokio::test(flavor = "multi_thread")]
async fn finished_runs_are_dropped_under_everybodys_hands() {
    const ROUNDS: usize = 40;
    let engine = arena(&Outside::default()).await;
    let act = Act {
        actor: "maria".to_owned(),
        role: "operator".to_owned(),
        reason: "all at once".to_owned(),
        revision: 0,
    };
    let registry = engine.client.registry();
    let mut conn = engine.pool().acquire().await.unwrap();
    retention::decide(&mut conn, registry, "errand", Retention::Drop(0), &act)
        .await
        .unwrap();
    drop(conn);
    let config = RetentionConfig {
        pass_every: Duration::ZERO,
        page: 7,
        ..RetentionConfig::default()
    };
    let worker = engine.worker().await;
    // As many began again as there are keys: earlier runs with them were dropped meanwhile.
    let all_began_anew = Cell::new(false);
    let starts = async {
        let mut ids = BTreeSet::new();
        let mut rounds = 0;
        while rounds < ROUNDS || ids.len() < 20 {
            let started =
                (0..10).map(async |n| engine.start::<Errand>(&format!("run-{n}"), &0).await);
            ids.extend(join_all(started).await.into_iter().map(|run| run.0));
            rounds += 1;
        }
        all_began_anew.set(true);
    };
    let sweeps = async {
        let mut dropped = 0;
        while !all_began_anew.get() {
            dropped += retention::sweep(engine.pool(), registry, &config)
                .await
                .dropped;
        }
        dropped
    };
    let holds = async {
        for _ in 0..ROUNDS {
            let mut tx = engine.pool().begin().await.unwrap();
            let scope = Scope::Tenant(engine.tenant);
            let hold = retention::place(&mut tx, scope, &act).await.unwrap();
            tx.commit().await.unwrap();
            let mut tx = engine.pool().begin().await.unwrap();
            retention::lift(&mut tx, hold.hold_id, &act).await.unwrap();
            tx.commit().await.unwrap();
        }
    };
    let restarts = async {
        for round in 0..ROUNDS {
            restart_one(&engine, &act, &format!("again-{round}")).await;
        }
    };
    let ((), dropped, (), ()) = tokio::join!(starts, sweeps, holds, restarts);
    assert!(dropped >= 10, "{dropped} dropped");
    eventually("all are dropped", async || {
        retention::sweep(engine.pool(), registry, &config).await;
        let left: i64 = sqlx::query_scalar("select count(*) from engine.run")
            .fetch_one(engine.pool())
            .await
            .unwrap();
        left == 0
    })
    .await;
    worker.shutdown().await;
    assert_no_deadlock(&engine).await;
}

async fn one_waits_for_a_lock(engine: &TestEngine) {
    eventually("somebody waits for a lock", async || {
        let waiting: i64 = sqlx::query_scalar(
            "select count(*) from pg_stat_activity
             where datname = current_database() and wait_event_type = 'Lock'",
        )
        // Another role's waits are hidden from the engine's.
        .fetch_one(&mut connect(&engine.options).await)
        .await
        .unwrap();
        waiting == 1
    })
    .await;
}

/// How many messages lie with no run.
async fn strays(engine: &TestEngine) -> i64 {
    let count = "select count(*) from engine.inbox
                 where not exists (select from engine.run where run.run_id = inbox.run_id)";
    sqlx::query_scalar(count)
        .fetch_one(engine.pool())
        .await
        .unwrap()
}

/// A door that has ended and whose time is up.
async fn closed_door(engine: &TestEngine, key: &str) -> RunId {
    let door = engine.start::<Door>(key, &()).await;
    engine
        .signal::<Door>(door, "finish", &DoorSignal::Finish)
        .await;
    engine.drain().await;
    assert_eq!(engine.status(door).await, Status::Completed);
    door
}

/// A late signal is on its way, from Rust or from SQL, when the sweep comes by; and the other way round.
#[tokio::test(flavor = "multi_thread")]
#[expect(clippy::too_many_lines, reason = "one story, told in order")]
async fn a_late_signal_and_the_drop_of_its_run_leave_nothing_with_nobody() {
    let engine = arena(&Outside::default()).await;
    let registry = engine.client.registry();
    let act = Act {
        actor: "maria".to_owned(),
        role: "operator".to_owned(),
        reason: "at once".to_owned(),
        revision: 0,
    };
    let mut conn = engine.pool().acquire().await.unwrap();
    retention::decide(&mut conn, registry, "door", Retention::Drop(0), &act)
        .await
        .unwrap();
    drop(conn);
    let config = RetentionConfig {
        pass_every: Duration::ZERO,
        ..RetentionConfig::default()
    };
    let sweep = async || retention::sweep(engine.pool(), registry, &config).await;
    for by_sql in [false, true] {
        let door = closed_door(&engine, &format!("first-{by_sql}")).await;
        // The product's login, not the engine's, sends from SQL.
        let mut product = connect(&engine.options).await;
        let mut tx = if by_sql {
            product.begin().await.unwrap()
        } else {
            engine.pool().begin().await.unwrap()
        };
        if by_sql {
            let how: String =
                sqlx::query_scalar("select engine.send_signal($1, $2, 'late', '\"Push\"')")
                    .bind(engine.tenant.0)
                    .bind(door.0)
                    .fetch_one(&mut *tx)
                    .await
                    .unwrap();
            assert_eq!(how, "late");
        } else {
            let push = &DoorSignal::Push;
            let sent = engine
                .client
                .signal::<Door>(&mut tx, engine.tenant, RunRef::Id(door), "late", push)
                .await;
            assert!(
                matches!(sent, Err(EngineError::RunFinished { .. })),
                "{sent:?}"
            );
        }
        assert_eq!(sweep().await.dropped, 0, "it was dropped under the signal");
        tx.commit().await.unwrap();
        assert_eq!(sweep().await.dropped, 1);
        assert_eq!(strays(&engine).await, 0);
    }

    // The sweep has the run first: whoever signals then hears that there is none.
    let door = closed_door(&engine, "last").await;
    let mut tx = engine.pool().begin().await.unwrap();
    sqlx::query("delete from engine.inbox where run_id = $1")
        .bind(door.0)
        .execute(&mut *tx)
        .await
        .unwrap();
    sqlx::query("delete from engine.run where run_id = $1")
        .bind(door.0)
        .execute(&mut *tx)
        .await
        .unwrap();
    let mut other = engine.pool().acquire().await.unwrap();
    let push = &DoorSignal::Push;
    let sent =
        engine
            .client
            .signal::<Door>(&mut other, engine.tenant, RunRef::Id(door), "late", push);
    let committed = async {
        one_waits_for_a_lock(&engine).await;
        tx.commit().await.unwrap();
    };
    let (sent, ()) = tokio::join!(sent, committed);
    assert!(matches!(sent, Err(EngineError::RunNotFound(_))), "{sent:?}");
    assert_eq!(strays(&engine).await, 0);
    drop(other);
    assert_no_deadlock(&engine).await;
}

//! A database with several hosts: the one that takes writes is found, and a failover is survived.

use std::collections::BTreeSet;
use std::process::Command;
use std::time::Duration;

use tenure_engine::{Database, PoolConfig, Status};

use crate::crash::{Stage, left, ready};
use crate::engine::workflows::{Errand, Outside, registry};
use crate::support::app::Customer;
use crate::support::engine::TestEngine;
use crate::support::process::tenure;
use crate::support::replica::{Pair, Replication};
use crate::support::{self, eventually};

#[tokio::test(flavor = "multi_thread")]
async fn a_failover_under_load_is_survived_and_each_effect_happens_once() {
    let mut pair = Pair::start(Replication::Synchronous).await;
    let outside = Outside::default();
    let database: Database = pair.url().parse().unwrap();
    let engine = TestEngine::at(database.clone(), pair.first(), registry(&outside)).await;
    let workers = [engine.worker().await, engine.worker().await];
    let starts: Vec<_> = (0..600).map(|n| (format!("run-{n}"), 1)).collect();
    let mut conn = engine.pool().acquire().await.unwrap();
    let started = engine
        .client
        .start_many::<Errand>(&mut conn, engine.tenant, &starts)
        .await;
    assert_eq!(started.unwrap().len(), 600);
    drop(conn);
    engine.client.ring();
    eventually("some work is under way", async || {
        outside.keys("first").len() > 60
    })
    .await;
    pair.fail_over().await;
    let all_complete = async || {
        let left: Result<i64, _> =
            sqlx::query_scalar("select count(*) from engine.run where status <> $1")
                .bind(Status::Completed.code())
                .fetch_one(engine.pool())
                .await;
        left.is_ok_and(|left| left == 0)
    };
    eventually("all runs complete on the new primary", all_complete).await;
    for worker in workers {
        worker.shutdown().await;
    }
    let mut conn = support::connect(&pair.second()).await;
    let effects: i64 = sqlx::query_scalar("select count(*) from app.debt")
        .fetch_one(&mut conn)
        .await
        .unwrap();
    assert_eq!(effects, 600, "a database effect was lost or done twice");
    let keys: BTreeSet<_> = outside.keys("first").into_iter().collect();
    assert_eq!(keys.len(), 600, "an outside effect had two keys");
    engine.assert_nothing_lost().await;
    engine.pool().close().await;
    pair.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_story_goes_on_by_itself_after_a_failover() {
    let mut pair = Pair::start(Replication::Synchronous).await;
    let stage = Stage::at(pair.url(), &pair.first()).await;
    let client = stage.client.clone();
    let make = Customer { client: &client };
    let calm = make.starter().await;
    calm.advance("15d").await;
    calm.advance("1mo").await;
    let expected = left(&calm).await;

    let struck = make.starter().await;
    struck.advance("15d").await;
    struck.begin_advance("1mo").await;
    assert!(!struck.is_ready().await.unwrap(), "it is under way");
    pair.fail_over().await;
    eventually("the server is ready again, by itself", async || {
        client.readyz().await.is_ok()
    })
    .await;
    ready(&struck).await;
    assert_eq!(left(&struck).await, expected);
    stage.assert_once(&struck, 2).await;
    drop(stage);
    pair.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn each_host_that_will_not_do_is_named_with_the_reason() {
    let mut pair = Pair::start(Replication::Asynchronous).await;
    let impatient = PoolConfig {
        acquire_timeout: Duration::from_secs(1),
        ..PoolConfig::default()
    };
    let standby = pair.second().get_socket().unwrap().display().to_string();
    let primary = pair.first().get_socket().unwrap().display().to_string();

    // A standby alone.
    let refused = tenure_engine::connect(pair.second(), &impatient).await;
    let refused = refused.unwrap_err().to_string();
    assert!(
        refused.ends_with(&format!(
            "no host takes writes: {standby} is a standby (in recovery)"
        )),
        "{refused}"
    );
    // What only reads takes it.
    let url = pair.url().replace("read-write", "any");
    let reads: Database = url.parse().unwrap();
    tenure_engine::connect(reads, &impatient).await.unwrap();

    // A primary that was made read-only.
    pair.on_primary("alter system set default_transaction_read_only = on")
        .await;
    pair.on_primary("select pg_reload_conf()").await;
    let list: Database = pair.url().parse().unwrap();
    eventually("the primary is read-only", async || {
        list.connect().await.is_err()
    })
    .await;
    let refused = list.connect().await.unwrap_err().to_string();
    assert!(
        refused.contains(&format!(
            "{primary} is read-only (default_transaction_read_only is on); \
             {standby} is a standby (in recovery)"
        )),
        "{refused}"
    );

    // And one that is gone, told by a command that is people's.
    pair.primary.stop_immediate().await;
    let told = Command::new(tenure())
        .args(["token", "list"])
        .env_clear()
        .env("DATABASE_URL", pair.url())
        .output()
        .unwrap();
    assert!(!told.status.success());
    let told = String::from_utf8_lossy(&told.stderr);
    assert!(
        told.contains(&format!("{primary} cannot be connected to")),
        "{told}"
    );
    assert!(told.contains(&format!("{standby} is a standby")), "{told}");
    pair.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_to_a_host_that_became_read_only_are_dropped() {
    let pair = Pair::start(Replication::Asynchronous).await;
    let list: Database = pair.url().parse().unwrap();
    let pool = tenure_engine::connect(list, &PoolConfig::default())
        .await
        .unwrap();
    let writes = async || {
        let tried = sqlx::query("create temporary table tried () on commit drop");
        tried.execute(&pool).await.is_ok()
    };
    assert!(writes().await);
    // The server lives on and keeps its connections; only it takes no writes any more. The standby
    // is promoted beside it.
    pair.on_primary("alter system set default_transaction_read_only = on")
        .await;
    pair.on_primary("select pg_reload_conf()").await;
    pair.promote();
    eventually("the pool writes to the new primary", async || {
        let newer = "select left(pg_walfile_name(pg_current_wal_insert_lsn()), 8) > '00000001'";
        let newer: Result<bool, _> = sqlx::query_scalar(newer).fetch_one(&pool).await;
        newer.is_ok_and(|newer| newer) && writes().await
    })
    .await;
    // Back to life as a primary of its own: the newer timeline is right, whatever the list's order.
    pair.on_primary("alter system reset default_transaction_read_only")
        .await;
    pair.on_primary("select pg_reload_conf()").await;
    let again: Database = pair.url().parse().unwrap();
    let mut found = again.connect().await.unwrap();
    let timeline = "select left(pg_walfile_name(pg_current_wal_insert_lsn()), 8)";
    let timeline: String = sqlx::query_scalar(timeline)
        .fetch_one(&mut found)
        .await
        .unwrap();
    assert_eq!(timeline, "00000002");
    pool.close().await;
    pair.stop().await;
}

/// What `tenure doctor` says, and its exit code.
fn doctor(url: &str) -> (Option<i32>, String) {
    let told = Command::new(tenure())
        .arg("doctor")
        .env_clear()
        .env("DATABASE_URL", url)
        .output()
        .unwrap();
    let words = [told.stdout, told.stderr].concat();
    (
        told.status.code(),
        String::from_utf8_lossy(&words).into_owned(),
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn commits_that_a_failover_lost_are_noticed_and_reported() {
    let mut pair = Pair::start(Replication::Asynchronous).await;
    let (code, words) = doctor(&pair.url());
    assert_eq!(code, Some(3), "{words}");
    assert!(words.contains("commits do not wait for them"), "{words}");

    let outside = Outside::default();
    let engine = TestEngine::at(
        pair.url().parse().unwrap(),
        pair.first(),
        registry(&outside),
    )
    .await;
    let worker = engine.worker().await;
    let complete = async |runs: &[tenure_engine::RunId]| {
        for run in runs {
            let mut conn = match engine.pool().acquire().await {
                Ok(conn) => conn,
                Err(_) => return false,
            };
            let found =
                tenure_engine::inspect::detail(&mut conn, engine.client.registry(), *run).await;
            if !found.is_ok_and(|detail| detail.summary.status == Status::Completed) {
                return false;
            }
        }
        true
    };
    let kept = [
        engine.start::<Errand>("kept-1", &1).await,
        engine.start::<Errand>("kept-2", &1).await,
    ];
    eventually("those before are complete", async || complete(&kept).await).await;
    pair.caught_up().await;
    // From here on the standby hears nothing, and the primary answers all the same.
    pair.cut_off().await;
    let lost = [
        engine.start::<Errand>("lost-1", &1).await,
        engine.start::<Errand>("lost-2", &1).await,
    ];
    eventually("what will be lost is complete", async || {
        complete(&lost).await
    })
    .await;
    pair.fail_over().await;

    let failovers = async || {
        let mut conn = support::connect(&pair.second()).await;
        tenure_engine::failover::list(&mut conn, 10).await.unwrap()
    };
    eventually("the worker has told", async || {
        !failovers().await.is_empty()
    })
    .await;
    let told = failovers().await;
    assert_eq!((told[0].timeline_before, told[0].timeline_after), (1, 2));
    assert!(told[0].lost_commits >= 2, "{told:?}");
    assert!(told[0].lost_commits < told[0].checked, "{told:?}");
    assert!(told[0].lost_rows >= told[0].lost_commits, "{told:?}");
    assert!(lost.contains(&told[0].first_lost_run.unwrap()), "{told:?}");
    let (code, words) = doctor(&pair.url());
    assert_eq!(code, Some(3), "{words}");
    assert!(words.contains("timeline 1 to 2"), "{words}");
    assert!(words.contains("commits looked up are gone"), "{words}");
    // What the standby had goes on, and what it had not is started again under the same key.
    eventually("what was kept is complete", async || complete(&kept).await).await;
    let again = engine.start::<Errand>("lost-1", &1).await;
    eventually("the lost is done again", async || complete(&[again]).await).await;
    worker.shutdown().await;
    engine.assert_nothing_lost().await;
    engine.pool().close().await;
    pair.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn after_a_synchronous_failover_nothing_is_missed() {
    let mut pair = Pair::start(Replication::Synchronous).await;
    let (code, words) = doctor(&pair.url());
    assert_eq!(code, Some(0), "{words}");
    let outside = Outside::default();
    let engine = TestEngine::at(
        pair.url().parse().unwrap(),
        pair.first(),
        registry(&outside),
    )
    .await;
    let worker = engine.worker().await;
    let run = engine.start::<Errand>("run", &1).await;
    eventually("it is complete", async || {
        engine.status(run).await == Status::Completed
    })
    .await;
    pair.fail_over().await;
    let failovers = async || {
        let mut conn = support::connect(&pair.second()).await;
        tenure_engine::failover::list(&mut conn, 10).await.unwrap()
    };
    eventually("the worker has told", async || {
        !failovers().await.is_empty()
    })
    .await;
    let told = failovers().await;
    assert!(told[0].checked > 0, "{told:?}");
    assert_eq!(told[0].lost_commits, 0, "{told:?}");
    assert_eq!(told[0].first_lost_run, None);
    worker.shutdown().await;
    engine.pool().close().await;
    pair.stop().await;
}

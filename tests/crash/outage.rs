//! The database goes away at once, as in a crash, and comes back.

use tenure_engine::Status;

use super::{STORY, Stage, left, ready};
use crate::engine::workflows::{Errand, Outside, registry};
use crate::support::app::Customer;
use crate::support::engine::TestEngine;
use crate::support::{self, eventually};

#[tokio::test(flavor = "multi_thread")]
async fn the_story_goes_on_by_itself_after_each_immediate_stop_of_the_database() {
    let (mut cluster, _root) = support::durable_cluster().await;
    let stage = Stage::on(cluster.url("tenure")).await;
    let client = stage.client.clone();
    let make = Customer { client: &client };
    let calm = make.starter().await;
    for (before, by, _) in STORY {
        before.make(&calm).await;
        calm.advance(by).await;
    }
    let expected = left(&calm).await;

    let struck = make.starter().await;
    let mut under_way = 0;
    for (before, by, stops) in STORY {
        before.make(&struck).await;
        struck.begin_advance(by).await;
        for looks in stops {
            for _ in 0..*looks {
                if struck.is_ready().await.unwrap_or(false) {
                    break;
                }
            }
            under_way += usize::from(!struck.is_ready().await.unwrap_or(false));
            cluster.stop_immediate().await;
            cluster.restart().await.unwrap();
            eventually("the server is ready again, by itself", async || {
                client.readyz().await.is_ok()
            })
            .await;
        }
        ready(&struck).await;
    }
    assert!(
        under_way >= 5,
        "only {under_way} stops met the story under way"
    );
    let found = left(&struck).await;
    assert_eq!(found, expected, "{}", struck.what_moves().await);
    stage.assert_once(&struck, 3).await;
    drop(stage);
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_that_goes_away_at_once_loses_nothing() {
    let (mut cluster, _root) = support::durable_cluster().await;
    let options = cluster.connect_options("tenure");
    let outside = Outside::default();
    let engine = TestEngine::on(options, registry(&outside)).await;
    let worker = engine.worker().await;
    for round in 0..3 {
        let starts: Vec<_> = (0..300).map(|n| (format!("run-{round}-{n}"), 1)).collect();
        let mut conn = engine.pool().acquire().await.unwrap();
        let runs = engine
            .client
            .start_many::<Errand>(&mut conn, engine.tenant, &starts)
            .await;
        assert_eq!(runs.unwrap().len(), 300);
        drop(conn);
        engine.client.ring();
        eventually("some work is under way", async || {
            outside.keys("first").len() > round * 300 + 20
        })
        .await;
        cluster.stop_immediate().await;
        cluster.restart().await.unwrap();
        eventually("the database answers the engine", async || {
            sqlx::query("select 1").execute(engine.pool()).await.is_ok()
        })
        .await;
    }
    let all_complete = async || {
        let left: Result<i64, _> =
            sqlx::query_scalar("select count(*) from engine.run where status <> $1")
                .bind(Status::Completed.code())
                .fetch_one(engine.pool())
                .await;
        left.is_ok_and(|left| left == 0)
    };
    eventually("all runs complete", all_complete).await;
    worker.shutdown().await;
    let effects: i64 = sqlx::query_scalar("select count(*) from app.debt")
        .fetch_one(&mut support::connect(&engine.options).await)
        .await
        .unwrap();
    assert_eq!(effects, 900, "a database effect was lost or done twice");
    engine.assert_nothing_lost().await;
    cluster.stop().await;
}

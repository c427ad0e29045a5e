//! The two scopes of a claim: all of the database in one statement, or shard by shard.

use std::time::Duration;

use tenure_engine::{ClaimScope, Worker, WorkerConfig};

use super::workflows::{Errand, Outside, registry};
use crate::support::engine::TestEngine;

/// What is left of many runs of many tenants, in an order that does not depend on ids.
async fn left_by(scope: ClaimScope) -> Vec<(String, i16, i64, i64)> {
    let outside = Outside::default();
    let engine = TestEngine::new(registry(&outside)).await;
    outside.fail("first", 3);
    for tenant in 0..12 {
        let owner = engine.add_tenant(None).await;
        let starts: Vec<_> = (0..20).map(|n| (format!("run-{tenant}-{n}"), 1)).collect();
        let mut conn = engine.pool().acquire().await.unwrap();
        let started = engine
            .client
            .start_many::<Errand>(&mut conn, owner, &starts)
            .await;
        assert_eq!(started.unwrap().len(), 20);
    }
    let config = WorkerConfig {
        claim_scope: scope,
        claim_batch: 16,
        ..WorkerConfig::default()
    };
    // What failed is tried again after a minute or two.
    for _ in 0..3 {
        let worker = Worker::start(&engine.client, config.clone()).await;
        let mut worker = worker.unwrap();
        worker.idle().await;
        worker.shutdown().await;
        engine.advance(Duration::from_secs(300));
    }
    engine.assert_nothing_lost().await;
    let stuck: Vec<(String, Option<String>)> =
        sqlx::query_as("select key, error::text from engine.run where status = 8")
            .fetch_all(engine.pool())
            .await
            .unwrap();
    assert!(stuck.is_empty(), "{stuck:?}");
    assert_eq!(outside.keys("first").len(), 243, "240 runs and 3 failures");
    sqlx::query_as(
        "select run.key, run.status, run.visit,
           (select count(*) from app.debt where debt.tenant_id = run.tenant_id)
         from engine.run order by run.key",
    )
    .fetch_all(&mut crate::support::connect(&engine.options).await)
    .await
    .unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn shard_by_shard_or_all_at_once_the_outcome_is_the_same() {
    let all_at_once = left_by(ClaimScope::Database).await;
    assert_eq!(all_at_once.len(), 240);
    assert_eq!(left_by(ClaimScope::Shard).await, all_at_once);
}

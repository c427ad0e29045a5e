//! Starting: once per key, in the caller's transaction, with clear refusals. Children.

use sqlx::Connection as _;
use tenure_engine::{EngineError, Registry, StartOptions, Status};

use super::workflows::{Door, Errand, Family, Outside, registry};
use crate::support::engine::TestEngine;

#[tokio::test(flavor = "multi_thread")]
async fn the_same_start_again_returns_the_first_run_and_another_input_is_refused() {
    let engine = TestEngine::new(registry(&Outside::default())).await;
    let mut conn = engine.pool().acquire().await.unwrap();
    let (client, tenant) = (&engine.client, engine.tenant);
    let first = client
        .start::<Errand>(&mut conn, tenant, "a", &1)
        .await
        .unwrap();
    let again = client
        .start::<Errand>(&mut conn, tenant, "a", &1)
        .await
        .unwrap();
    assert!(first.created && !again.created);
    assert_eq!(first.run_id, again.run_id);
    let other = client.start::<Errand>(&mut conn, tenant, "a", &2).await;
    assert!(matches!(other, Err(EngineError::KeyTaken { run_id, .. }) if run_id == first.run_id));
    // The key stays taken after the run has ended.
    engine.drain().await;
    let after = client
        .start::<Errand>(&mut conn, tenant, "a", &1)
        .await
        .unwrap();
    assert_eq!((after.run_id, after.created), (first.run_id, false));
}

#[tokio::test(flavor = "multi_thread")]
async fn fifty_starts_of_one_key_at_once_are_one_run() {
    let engine = TestEngine::new(registry(&Outside::default())).await;
    let starts = (0..50).map(|_| async {
        let mut conn = engine.pool().acquire().await.unwrap();
        let started = engine
            .client
            .start::<Errand>(&mut conn, engine.tenant, "k", &0);
        started.await.unwrap()
    });
    let started = futures_util::future::join_all(starts).await;
    assert_eq!(started.iter().filter(|one| one.created).count(), 1);
    assert!(started.iter().all(|one| one.run_id == started[0].run_id));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_start_belongs_to_its_callers_transaction() {
    let engine = TestEngine::new(registry(&Outside::default())).await;
    let mut conn = engine.pool().acquire().await.unwrap();
    let mut tx = conn.begin().await.unwrap();
    let lost = engine
        .client
        .start::<Errand>(&mut tx, engine.tenant, "a", &0)
        .await;
    let lost = lost.unwrap().run_id;
    tx.rollback().await.unwrap();
    engine.drain().await;
    let gone: bool =
        sqlx::query_scalar("select not exists (select from engine.run where run_id = $1)")
            .bind(lost.0)
            .fetch_one(engine.pool())
            .await
            .unwrap();
    assert!(gone, "a rolled back start left a run");
}

#[tokio::test(flavor = "multi_thread")]
async fn bad_starts_are_refused_by_name() {
    let engine = TestEngine::new(registry(&Outside::default())).await;
    let mut conn = engine.pool().acquire().await.unwrap();
    let (client, tenant) = (&engine.client, engine.tenant);
    let null = serde_json::Value::Null;
    let unknown = client
        .start_named(
            &mut conn,
            tenant,
            ("nope", "k"),
            &null,
            StartOptions::default(),
        )
        .await;
    assert!(matches!(unknown, Err(EngineError::UnknownWorkflow(name)) if name == "nope"));
    let malformed = client
        .start_named(
            &mut conn,
            tenant,
            ("errand", "k"),
            &null,
            StartOptions::default(),
        )
        .await;
    assert!(matches!(
        malformed,
        Err(EngineError::Malformed { what: "input", .. })
    ));
    let nobody = tenure_engine::TenantId::new(tenure_engine::ShardId(7));
    let stranger = client
        .start_named(
            &mut conn,
            nobody,
            ("errand", "k"),
            &1.into(),
            StartOptions::default(),
        )
        .await;
    assert!(matches!(stranger, Err(EngineError::UnknownTenant(id)) if id == nobody));
    for key in ["", "nul\0", &"x".repeat(256)] {
        let keyed = client
            .start_named(
                &mut conn,
                tenant,
                ("errand", key),
                &1.into(),
                StartOptions::default(),
            )
            .await;
        assert!(
            matches!(keyed, Err(EngineError::Malformed { what: "key", .. })),
            "{key:?}"
        );
    }
    let twice = Registry::builder().register(Door).register(Door).build();
    assert!(matches!(twice, Err(EngineError::RegisteredTwice("door"))));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_payload_over_the_limit_is_refused_and_nothing_is_stored() {
    let small = Registry::builder()
        .register(Family)
        .register(Errand(Outside::default()))
        .payload_limit(64)
        .build()
        .unwrap();
    let engine = TestEngine::new(small).await;
    let mut conn = engine.pool().acquire().await.unwrap();
    let names = vec!["x".repeat(100)];
    let refused = engine
        .client
        .start::<Family>(&mut conn, engine.tenant, "k", &names)
        .await;
    assert!(matches!(
        refused,
        Err(EngineError::PayloadTooLarge {
            what: "input",
            bytes: 104,
            limit: 64
        })
    ));
    let runs: i64 = sqlx::query_scalar("select count(*) from engine.run")
        .fetch_one(engine.pool())
        .await
        .unwrap();
    assert_eq!(runs, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_parent_hears_of_the_end_of_its_children_and_of_runs_that_hold_their_keys() {
    let outside = Outside::default();
    let engine = TestEngine::new(registry(&outside)).await;
    // "old" has ended before the family starts, "young" runs while it does.
    engine.start::<Errand>("old", &0).await;
    engine.drain().await;
    outside.hold();
    engine.start::<Errand>("young", &0).await;
    let worker = engine.worker().await;
    outside.arrived().await;
    let names = ["new", "old", "young"].map(str::to_owned).to_vec();
    let family = engine.start::<Family>("f", &names).await;
    let mut worker = worker;
    outside.release();
    worker.idle().await;
    worker.shutdown().await;
    let ended: Vec<String> = engine.output(family).await;
    assert_eq!(ended, ["new completed", "old completed", "young completed"]);
    assert_eq!(engine.status(family).await, Status::Completed);
    engine.assert_nothing_lost().await;
}

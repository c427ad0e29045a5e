//! Tenants apart: by row-level security in the database, and fair to each other.

use sqlx::Connection as _;
use tenure_engine::search::{self, RunFilter};
use tenure_engine::{ClockId, PoolConfig, ShardId, Status, inspect, test_clock};

use super::workflows::{Door, DoorSignal, Errand, Outside, registry};
use crate::support::engine::TestEngine;

/// Whoever gets the connection next must not find it inside what failed.
#[tokio::test(flavor = "multi_thread")]
async fn a_transaction_that_may_not_speak_for_a_tenant_leaves_nothing_behind() {
    let engine = TestEngine::new(registry(&Outside::default())).await;
    let mut owner = crate::support::connect(&engine.options).await;
    let login = format!("half_{}", crate::support::unique());
    let make = format!("create role {login} login; grant tenure_engine to {login}");
    sqlx::raw_sql(sqlx::AssertSqlSafe(make))
        .execute(&mut owner)
        .await
        .unwrap();
    let config = PoolConfig {
        max_connections: 1,
        ..PoolConfig::default()
    };
    let options = engine.options.clone().username(&login);
    let pool = tenure_engine::connect(options, &config).await.unwrap();
    let refused = tenure_engine::begin_for(&pool, engine.tenant).await;
    let refused = refused.err().unwrap().to_string();
    assert!(refused.contains("tenure_tenant"), "{refused}");
    let mut tx = tenure_engine::begin(&pool).await.unwrap();
    let role = "select current_user::text";
    let role: String = sqlx::query_scalar(role).fetch_one(&mut *tx).await.unwrap();
    assert_eq!(role, "tenure_engine");
    tx.rollback().await.unwrap();
    pool.close().await;
    let drop = format!("drop role {login}");
    sqlx::raw_sql(sqlx::AssertSqlSafe(drop))
        .execute(&mut owner)
        .await
        .unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tenant_sees_and_writes_its_own_rows_only() {
    let engine = TestEngine::new(registry(&Outside::default())).await;
    let mine = engine.start::<Errand>("a", &0).await;
    engine.drain().await;
    let stranger = engine.add_tenant(None).await;
    let mut conn = engine.pool().acquire().await.unwrap();
    let mut tx = conn.begin().await.unwrap();
    tenure_workflows::as_tenant(&mut tx, stranger)
        .await
        .unwrap();
    let seen = search::list(&mut tx, &RunFilter::default(), None, 10)
        .await
        .unwrap();
    assert!(seen.is_empty());
    assert!(
        inspect::detail(&mut tx, engine.client.registry(), mine)
            .await
            .is_err()
    );
    let tables = [
        "run",
        "step",
        "transition",
        "inbox",
        "due",
        "parked",
        "audit",
        "clocked",
    ];
    for table in tables {
        let statement = format!("select count(*) from engine.{table}");
        let rows: i64 = sqlx::query_scalar(sqlx::AssertSqlSafe(statement))
            .fetch_one(&mut *tx)
            .await
            .unwrap();
        assert_eq!(rows, 0, "engine.{table} shows a stranger's rows");
    }
    tx.rollback().await.unwrap();
    for statement in [
        "update engine.run set key = 'stolen'",
        "delete from engine.run",
        "insert into engine.step select * from engine.step",
        "insert into engine.nudge values (gen_random_uuid(), 1, gen_random_uuid())",
    ] {
        let mut tx = conn.begin().await.unwrap();
        tenure_workflows::as_tenant(&mut tx, stranger)
            .await
            .unwrap();
        let refused = sqlx::query(statement).execute(&mut *tx).await;
        let code = refused.unwrap_err().into_database_error().unwrap();
        assert_eq!(code.code().as_deref(), Some("42501"), "{statement}");
        tx.rollback().await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flood_of_one_tenant_does_not_keep_another_waiting() {
    let outside = Outside::default();
    let engine = TestEngine::new(registry(&outside)).await;
    let small = engine.add_tenant(None).await;
    let flood: Vec<_> = (0..3_000).map(|n| (format!("flood-{n}"), 0)).collect();
    let mut conn = engine.pool().acquire().await.unwrap();
    let flooded = engine
        .client
        .start_many::<Errand>(&mut conn, engine.tenant, &flood);
    flooded.await.unwrap();
    let few: Vec<_> = (0..3).map(|n| (format!("few-{n}"), 0)).collect();
    let runs = engine
        .client
        .start_many::<Errand>(&mut conn, small, &few)
        .await
        .unwrap();
    drop(conn);
    // The first claim takes 128 of 3,003: the three that came last are among them.
    outside.hold();
    let worker = engine.worker().await;
    outside.arrived().await;
    for run in runs {
        assert_eq!(engine.status(run).await, Status::Running);
    }
    outside.release();
    worker.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_clocked_tenants_deadline_waits_for_its_clock_alone() {
    let mut engine = TestEngine::new(registry(&Outside::default())).await;
    let clock = ClockId::new(ShardId(3));
    let start = "2030-01-01T00:00:00Z".parse().unwrap();
    let mut conn = engine.pool().acquire().await.unwrap();
    test_clock::create(&mut conn, clock, start).await.unwrap();
    engine.tenant = engine.add_tenant(Some(clock)).await;
    let door = engine.start::<Door>("d", &()).await;
    engine.signal::<Door>(door, "open", &DoorSignal::Open).await;
    engine
        .signal::<Door>(door, "wait", &DoorSignal::Wait { seconds: 3_600 })
        .await;
    engine.drain().await;
    assert!(test_clock::is_quiet(&mut conn, clock).await.unwrap());
    // Real time passes; the tenant's does not.
    engine.advance(std::time::Duration::from_secs(7_200));
    engine.drain().await;
    assert_eq!(engine.status(door).await, Status::Waiting);
    let target = start + chrono::TimeDelta::days(1);
    let moved = test_clock::move_to_next(&mut conn, clock, target)
        .await
        .unwrap();
    assert_eq!(moved.now, start + chrono::TimeDelta::hours(1));
    assert!(!moved.arrived);
    assert!(!test_clock::is_quiet(&mut conn, clock).await.unwrap());
    engine.drain().await;
    let moved = test_clock::move_to_next(&mut conn, clock, target)
        .await
        .unwrap();
    assert!(moved.arrived);
    engine
        .signal::<Door>(door, "end", &DoorSignal::Finish)
        .await;
    engine.drain().await;
    let heard: Vec<String> = engine.output(door).await;
    assert_eq!(heard, ["bell"]);
    engine.assert_nothing_lost().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_advance_that_arrives_again_leaves_the_next_one_on_its_way() {
    let engine = TestEngine::new(registry(&Outside::default())).await;
    let clock = ClockId::new(ShardId(3));
    let start = "2030-01-01T00:00:00Z".parse().unwrap();
    let mut conn = engine.pool().acquire().await.unwrap();
    test_clock::create(&mut conn, clock, start).await.unwrap();
    let day = |n| start + chrono::TimeDelta::days(n);
    assert!(
        test_clock::set_out(&mut conn, clock, day(1)).await.unwrap(),
        "nothing is under way"
    );
    assert!(
        !test_clock::set_out(&mut conn, clock, day(2)).await.unwrap(),
        "one is under way"
    );
    test_clock::arrive(&mut conn, clock, day(1)).await.unwrap();
    assert!(test_clock::set_out(&mut conn, clock, day(2)).await.unwrap());
    // The database went away before the visit that arrived was settled, so it is made again.
    test_clock::arrive(&mut conn, clock, day(1)).await.unwrap();
    let found = test_clock::find(&mut conn, clock).await.unwrap();
    assert_eq!(found.unwrap().target, Some(day(2)));
}

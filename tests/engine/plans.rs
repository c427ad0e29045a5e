//! Plans that were made for empty tables do not outlive a rush.

use sqlx::{AssertSqlSafe, Connection as _, PgConnection};

use super::workflows::{Errand, Outside, registry};
use crate::support::engine::TestEngine;

/// As many as make a scan of all of them for each felt, in hundreds of pages.
const RUSH: usize = 3_000;

/// Rows that the indexes of a table have given out, as told by sessions that have ended.
async fn read_by_index(conn: &mut PgConnection, table: &str) -> i64 {
    let asked = format!(
        "select coalesce(sum(idx_tup_read), 0)::int8 from pg_stat_user_indexes
         where schemaname = 'engine' and relname = '{table}'"
    );
    sqlx::query_scalar(AssertSqlSafe(asked))
        .fetch_one(conn)
        .await
        .unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rush_on_tables_that_were_empty_reads_each_run_by_its_key() {
    let engine = TestEngine::new(registry(&Outside::default())).await;
    // As autovacuum leaves a quiet installation: few runs, and all is known to be small.
    engine.start::<Errand>("before", &0).await;
    engine.drain().await;
    let mut owner = PgConnection::connect_with(&engine.options).await.unwrap();
    sqlx::raw_sql("vacuum analyze")
        .execute(&mut owner)
        .await
        .unwrap();
    // Autovacuum must neither do what is looked at here nor keep the tables from it.
    sqlx::raw_sql(
        "alter table engine.run set (autovacuum_enabled = false);
         alter table engine.due set (autovacuum_enabled = false)",
    )
    .execute(&mut owner)
    .await
    .unwrap();

    let mut worker = engine.worker().await;
    engine.start::<Errand>("one", &0).await;
    worker.idle().await;
    let rush: Vec<_> = (0..RUSH).map(|n| (format!("rush-{n}"), 0)).collect();
    let mut conn = engine.pool().acquire().await.unwrap();
    let started = engine
        .client
        .start_many::<Errand>(&mut conn, engine.tenant, &rush);
    started.await.unwrap();
    drop(conn);
    worker.idle().await;
    worker.shutdown().await;
    // A session tells what it has read when it ends, at the latest.
    engine.pool().close().await;
    for table in ["run", "due"] {
        let read = read_by_index(&mut owner, table).await;
        let each = read / i64::try_from(RUSH).unwrap();
        assert!(each < 100, "engine.{table}: {each} rows read for each run");
    }
}

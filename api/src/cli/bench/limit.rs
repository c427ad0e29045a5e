//! The limit: what Postgres itself does here with the same durability, over the same driver.

use std::time::Instant;

use sqlx::{Executor as _, PgPool};

use super::figure::{Figure, Measured, collect};

const INSERTS_PER_CONNECTION: u32 = 400;
const BATCHES_PER_CONNECTION: u32 = 40;
const ROWS_PER_BATCH: i64 = 100;

/// The limits of all rounds.
#[derive(Default)]
pub(crate) struct Limits {
    figures: Vec<Figure>,
}

impl Limits {
    /// Measures each limit once.
    pub(crate) async fn measure(&mut self, pool: &PgPool) -> anyhow::Result<()> {
        let mut conn = pool.acquire().await?;
        // The engine's role owns no schema, so the tables are temporary in kind but logged.
        conn.execute(
            "reset role;
             drop table if exists bench_limit_step, bench_limit_run;
             create table bench_limit_step (id uuid not null, seq bigint not null, answer bytea not null);
             create table bench_limit_run (id bigint primary key, state text not null) with (fillfactor = 50);
             grant all on bench_limit_step, bench_limit_run to tenure_engine;
             set role tenure_engine",
        )
        .await?;
        let alone = inserts(pool, 1).await?;
        let eight = inserts(pool, 8).await?;
        let hundred = batches(pool, 4).await?;
        conn.execute(
            "reset role; drop table bench_limit_step, bench_limit_run; set role tenure_engine",
        )
        .await?;
        let measured: Measured = vec![
            ("L1_1_steps_per_s".to_owned(), alone),
            ("L1_1_ms".to_owned(), 1000.0 / alone),
            ("L1_8_steps_per_s".to_owned(), eight),
            ("L100_rows_per_s".to_owned(), hundred),
        ];
        collect(&mut self.figures, "limit", 1, measured);
        Ok(())
    }

    pub(crate) fn figures(&self) -> Vec<Figure> {
        self.figures.clone()
    }

    /// Sets each figure's limit and its ratio to it.
    pub(crate) fn compare(&self, figures: &mut [Figure]) {
        // One row by its primary key, asked for at the same rate in the same round.
        let lookup = figures
            .iter()
            .find(|figure| figure.workload == "E1" && figure.metric == "lookup_p99_ms")
            .map(|figure| figure.median);
        for figure in figures {
            if figure.workload == "E1" && figure.metric == "read_p99_ms" {
                figure.limit = lookup;
                figure.ratio = lookup.map(|limit| figure.median / limit);
                continue;
            }
            let against = match (figure.workload.as_str(), figure.metric.as_str()) {
                ("W1", "start_runs_per_s" | "complete_runs_per_s") => "L100_rows_per_s",
                ("W2" | "W2T", "steps_per_s") => "L1_8_steps_per_s",
                ("W2L", "step_p50_ms" | "step_p99_ms") => "L1_1_ms",
                _ => continue,
            };
            let limit = self.figures.iter().find(|limit| limit.metric == against);
            figure.limit = limit.map(|limit| limit.median);
            figure.ratio = figure.limit.map(|limit| figure.median / limit);
        }
    }
}

/// One small insert per commit.
async fn inserts(pool: &PgPool, connections: u32) -> anyhow::Result<f64> {
    let began = Instant::now();
    let mut tasks = Vec::new();
    for _ in 0..connections {
        let pool = pool.clone();
        tasks.push(tokio::spawn(async move {
            let mut conn = pool.acquire().await?;
            let id = tenure_engine::random_uuid();
            for seq in 0..INSERTS_PER_CONNECTION {
                sqlx::query("insert into bench_limit_step (id, seq, answer) values ($1, $2, $3)")
                    .bind(id)
                    .bind(i64::from(seq))
                    .bind(b"{\"done\":1,\"ok\":true}".as_slice())
                    .execute(&mut *conn)
                    .await?;
            }
            Ok::<(), sqlx::Error>(())
        }));
    }
    for task in tasks {
        task.await??;
    }
    let rows = f64::from(connections * INSERTS_PER_CONNECTION);
    Ok(rows / began.elapsed().as_secs_f64())
}

/// One multi-row update and one multi-row insert of a hundred rows per commit.
async fn batches(pool: &PgPool, connections: i64) -> anyhow::Result<f64> {
    sqlx::query(
        "insert into bench_limit_run (id, state) select id, 'new' from generate_series(0, $1 - 1) as id",
    )
    .bind(connections * ROWS_PER_BATCH)
    .execute(pool)
    .await?;
    let began = Instant::now();
    let mut tasks = Vec::new();
    for connection in 0..connections {
        let pool = pool.clone();
        tasks.push(tokio::spawn(async move {
            let mut conn = pool.acquire().await?;
            let first = connection * ROWS_PER_BATCH;
            let ids: Vec<i64> = (first..first + ROWS_PER_BATCH).collect();
            for _ in 0..BATCHES_PER_CONNECTION {
                sqlx::query(
                    "with moved as (
                       update bench_limit_run set state = 'next'
                       where id = any($1) returning id
                     )
                     insert into bench_limit_step (id, seq, answer)
                     select $2, id, $3 from moved",
                )
                .bind(&ids)
                .bind(tenure_engine::random_uuid())
                .bind(b"{\"done\":1,\"ok\":true}".as_slice())
                .execute(&mut *conn)
                .await?;
            }
            Ok::<(), sqlx::Error>(())
        }));
    }
    for task in tasks {
        task.await??;
    }
    let batches = connections * i64::from(BATCHES_PER_CONNECTION);
    Ok((batches * ROWS_PER_BATCH) as f64 / began.elapsed().as_secs_f64())
}

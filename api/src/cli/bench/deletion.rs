//! B2: the deletion of a tenant of two million rows in thirty tables, while the product works for
//! others at 500 transactions a second: how long it takes, how long it holds a lock at the most, and what
//! the others feel of it.

use std::time::{Duration, Instant};

use tenure_client::{DeletionAct, IdempotencyKey, RequestDeletion};
use uuid::Uuid;

use super::figure::{Measured, percentile};
use super::ground::Ground;
use super::load::Bench;

/// Rows, and the tables that they lie in.
const ROWS: u32 = 2_000_000;
const TABLES: u32 = 30;
/// How long it may take.
const PATIENCE: Duration = Duration::from_secs(7_200);
/// How often its locks are looked at.
const LOOK_EVERY: Duration = Duration::from_millis(5);

pub(super) async fn measure(bench: &Bench) -> anyhow::Result<Measured> {
    let each = (bench.scaled(ROWS) / TABLES as usize).max(1);
    let ground = Ground::make(bench, TABLES, each).await?;
    let alone = ground.alone().await?;
    let began = Instant::now();
    let id = begin(&ground).await?;
    let (beside, longest) = watch(&ground, id, began).await?;
    let took = began.elapsed().as_secs_f64();
    let seen = ground.client.deletion(id).await?;
    let steps = seen.steps.iter().filter(|step| step.realm == "product");
    let erased: i64 = steps.map(|step| step.rows).sum();
    ground.end(bench).await?;
    let rows = each * TABLES as usize;
    anyhow::ensure!(
        usize::try_from(erased)? == rows,
        "{erased} of {rows} rows were erased"
    );
    Ok(vec![
        ("minutes".to_owned(), took / 60.0),
        ("erased_rows_per_s".to_owned(), rows as f64 / took),
        ("longest_lock_ms".to_owned(), longest),
        ("alone_p50_ms".to_owned(), percentile(&alone, 0.5)),
        ("alone_p99_ms".to_owned(), percentile(&alone, 0.99)),
        ("beside_p50_ms".to_owned(), percentile(&beside, 0.5)),
        ("beside_p99_ms".to_owned(), percentile(&beside, 0.99)),
        // What the longest lock is held against: a disk that stalls makes everybody's transactions long.
        ("alone_max_ms".to_owned(), percentile(&alone, 1.0)),
        ("beside_max_ms".to_owned(), percentile(&beside, 1.0)),
    ])
}

/// Two people ask for it; nobody takes time to think.
async fn begin(ground: &Ground) -> anyhow::Result<Uuid> {
    let wanted = RequestDeletion {
        tenant_id: ground.tenant,
        cooling_off_days: 0,
        backup_days: 0,
        export_link_days: None,
        reason: "bench".to_owned(),
    };
    let key = IdempotencyKey::generate();
    let id = ground
        .client
        .request_deletion(&wanted, &key)
        .await?
        .deletion_id;
    let because = DeletionAct {
        reason: "bench".to_owned(),
    };
    let key = IdempotencyKey::generate();
    let approved = ground.second.act_on_deletion(id, "approve", &because, &key);
    approved.await?;
    Ok(id)
}

/// Lets the product work until it is certified; the milliseconds of its transactions, and the longest
/// that Tenure held a lock there.
async fn watch(ground: &Ground, id: Uuid, began: Instant) -> anyhow::Result<(Vec<f64>, f64)> {
    let watched = async {
        let mut longest = 0.0_f64;
        loop {
            for _ in 0..20 {
                longest = longest.max(held_ms(ground).await?);
                tenure_engine::sleep(LOOK_EVERY).await;
            }
            let seen = ground.client.deletion(id).await?.deletion;
            anyhow::ensure!(
                seen.state != "failed_step" && began.elapsed() < PATIENCE,
                "the deletion does not end: {seen:?}"
            );
            if seen.state == "certified" {
                return Ok(longest);
            }
        }
    };
    tokio::pin!(watched);
    let mut times = Vec::new();
    loop {
        let look = ground.look();
        tokio::pin!(look);
        tokio::select! {
            longest = &mut watched => {
                times.extend(look.await?);
                return Ok((times, longest?));
            }
            looked = &mut look => times.extend(looked?),
        }
    }
}

/// How long the oldest transaction of Tenure that has written to the product has been open.
async fn held_ms(ground: &Ground) -> anyhow::Result<f64> {
    let held =
        "select coalesce(max(extract(epoch from clock_timestamp() - xact_start)), 0)::float8 * 1000
         from pg_stat_activity
         where datname = current_database() and application_name = 'tenure'
           and backend_xid is not null";
    Ok(sqlx::query_scalar(held).fetch_one(&ground.product).await?)
}

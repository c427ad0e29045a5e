//! B1: a backfill of ten million rows, while the product works at 500 transactions a second: rows a
//! second, and what the product feels of it. Once as a backfill is by default, then, of another column,
//! as fast as it can.

use std::time::{Duration, Instant};

use tenure_client::{ActOnBackfill, IdempotencyKey, StartBackfill};

use super::figure::{Measured, percentile};
use super::ground::{Ground, table};
use super::load::Bench;

/// Rows that are filled.
const ROWS: u32 = 10_000_000;
/// As seldom as a console does: looks are no load of the backfill's.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// How long a phase may take.
const PATIENCE: Duration = Duration::from_secs(7_200);

/// A column more; the trigger and the proof are as in any backfill.
const DEFINITION: &str = r#"
version = 1
name = "{name}"
table = "{table}"
sources = ["bench"]
reads = ["amount"]

[columns.cents]
type = "bigint"
value = "amount * 100"
"#;

/// What lets nothing hold it back.
const UNTHROTTLED: &str = r#"
[pace]
load = "off"
target = "400ms"
target_wal = "32MB"

[throttle]
replica_lag = "off"
slot = "off"
wal_rate = "off"
autovacuum = false
xid_age = "off"
lock_waiters = "off"
longest_transaction = "off"
"#;

pub(super) async fn measure(bench: &Bench) -> anyhow::Result<Measured> {
    let rows = bench.scaled(ROWS);
    let ground = Ground::make(bench, 1, rows).await?;
    let alone = ground.alone().await?;
    let (beside, took) = backfill(&ground, rows, DEFINITION).await?;
    let fast = format!("{DEFINITION}{UNTHROTTLED}");
    let (beside_fast, took_fast) = backfill(&ground, rows, &fast).await?;
    ground.end(bench).await?;
    let (alone_p99, beside_p99) = (percentile(&alone, 0.99), percentile(&beside, 0.99));
    Ok(vec![
        ("fill_rows_per_s".to_owned(), rows as f64 / took),
        ("fill_s".to_owned(), took),
        ("alone_p50_ms".to_owned(), percentile(&alone, 0.5)),
        ("alone_p99_ms".to_owned(), alone_p99),
        ("beside_p50_ms".to_owned(), percentile(&beside, 0.5)),
        ("beside_p99_ms".to_owned(), beside_p99),
        ("beside_x_alone".to_owned(), beside_p99 / alone_p99),
        ("fast_rows_per_s".to_owned(), rows as f64 / took_fast),
        ("fast_p99_ms".to_owned(), percentile(&beside_fast, 0.99)),
    ])
}

/// Fills all rows, and takes the new column away again; the milliseconds of the product's transactions
/// meanwhile, and the seconds of the fill.
async fn backfill(
    ground: &Ground,
    rows: usize,
    definition: &str,
) -> anyhow::Result<(Vec<f64>, f64)> {
    let name = format!("bench-{}", tenure_engine::random_uuid().simple());
    let name = name[..18].to_owned();
    let start = StartBackfill {
        definition: definition
            .replace("{name}", &name)
            .replace("{table}", &table(1)),
        reason: "bench".to_owned(),
    };
    let key = IdempotencyKey::generate();
    ground.client.start_backfill(&start, &key).await?;
    let seen = fill(ground, &name).await?;
    let filled = ground.client.backfill(&name).await?.progress.done_rows;
    undo(ground, &name).await?;
    anyhow::ensure!(
        usize::try_from(filled)? == rows,
        "{filled} of {rows} rows were filled"
    );
    Ok(seen)
}

/// Lets the product work until all rows are filled; the milliseconds of its transactions, and the
/// seconds that the fill took.
async fn fill(ground: &Ground, name: &str) -> anyhow::Result<(Vec<f64>, f64)> {
    let began = Instant::now();
    let filled = async {
        let mut first = None;
        loop {
            let of = ground.client.backfill(name).await?;
            anyhow::ensure!(began.elapsed() < PATIENCE, "the fill does not end: {of:?}");
            match of.phase.as_str() {
                "expand" | "dual-write" => {}
                "fill" => first = first.or(Some(Instant::now())),
                _ => return Ok(first.unwrap_or(began).elapsed().as_secs_f64()),
            }
            tenure_engine::sleep(LOOK_EVERY).await;
        }
    };
    tokio::pin!(filled);
    let mut times = Vec::new();
    loop {
        let look = ground.look();
        tokio::pin!(look);
        tokio::select! {
            took = &mut filled => {
                times.extend(look.await?);
                return Ok((times, took?));
            }
            looked = &mut look => times.extend(looked?),
        }
    }
}

/// Takes the new column away again, so that no run is left.
async fn undo(ground: &Ground, name: &str) -> anyhow::Result<()> {
    let began = Instant::now();
    let mut asked = false;
    loop {
        let of = ground.client.backfill(name).await?;
        if of.status == "ended" {
            return Ok(());
        }
        if !asked && of.phase == "switch" {
            let back = ActOnBackfill {
                to: Some("undone".to_owned()),
                reason: "bench".to_owned(),
                ..ActOnBackfill::default()
            };
            let key = IdempotencyKey::generate();
            ground
                .client
                .act_on_backfill(name, "back", &back, &key)
                .await?;
            asked = true;
        }
        anyhow::ensure!(
            began.elapsed() < PATIENCE,
            "the backfill does not end: {of:?}"
        );
        tenure_engine::sleep(Duration::from_millis(50)).await;
    }
}

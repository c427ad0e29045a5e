//! `tenure bench` runs, at a scale that says nothing of speed: each workload gives its figures, two
//! files are held against each other, and the curve is drawn.

use std::path::Path;
use std::process::Command;

use serde_json::Value;

use crate::support;
use crate::support::process::tenure;

fn bench(database: &str, args: &[&str]) -> String {
    let output = Command::new(tenure())
        .arg("bench")
        .args(args)
        .env_clear()
        .env("DATABASE_URL", database)
        .output()
        .unwrap();
    let text = String::from_utf8([output.stdout, output.stderr].concat()).unwrap();
    assert!(output.status.success(), "{args:?}: {text}");
    text
}

/// The figures of a file, and the machine that its first line tells of.
fn figures(path: &Path) -> (Value, Vec<Value>) {
    let text = std::fs::read_to_string(path).unwrap();
    let mut lines = text.lines().map(|line| serde_json::from_str(line).unwrap());
    let machine = lines.next().unwrap();
    (machine, lines.collect())
}

/// All of the engine but W8, which watches a worker that has none: for ten seconds, twelve after it fell
/// idle, and no scale makes that shorter. Its bound is held by `engine::idle`.
#[tokio::test(flavor = "multi_thread")]
async fn every_workload_of_the_engine_that_has_work_gives_its_figures_and_two_files_are_compared() {
    const EXPECTED: [(&str, &str); 15] = [
        ("W1", "complete_runs_per_s"),
        ("W2", "steps_per_s"),
        ("W2T", "steps_per_s"),
        ("W2L", "step_p50_ms"),
        ("W3", "late_20k_p99_ms"),
        ("W3", "asleep_bytes_each"),
        ("W4", "alone_p50_ms"),
        ("W5", "flood_x_empty"),
        ("W6", "blocked_x_empty"),
        ("W6", "blocked_runs"),
        ("W7", "drift_x"),
        ("W7", "last_p99_ms"),
        ("W9", "all_again_s"),
        ("W10", "starts_per_s"),
        ("W10", "signals_per_s"),
    ];
    let database = support::database_url().await;
    let folder = tempfile::tempdir().unwrap();
    let (one, two) = (folder.path().join("one"), folder.path().join("two"));
    let small = ["--runs", "1", "--scale", "0.002", "--in-flight", "16"];
    let all = [
        "W1", "W2", "W2T", "W2L", "W3", "W4", "W5", "W6", "W7", "W9", "W10",
    ];
    let path = one.to_str().unwrap();
    bench(&database, &[&all[..], &small, &["--json", path]].concat());
    let (machine, told) = figures(&one);
    assert!(machine["cores"].as_u64() > Some(0), "{machine}");
    for (workload, metric) in EXPECTED {
        let found = told
            .iter()
            .find(|figure| figure["workload"] == workload && figure["metric"] == metric);
        let figure = found.unwrap_or_else(|| panic!("{workload} {metric} is not in {told:#?}"));
        assert!(figure["median"].as_f64() > Some(0.0), "{figure}");
        assert_eq!(figure["runs"].as_array().unwrap().len(), 1, "{figure}");
        assert_eq!(figure["in_flight"], 16, "{figure}");
    }
    let blocked = told
        .iter()
        .find(|figure| figure["metric"] == "blocked_runs");
    assert_eq!(blocked.unwrap()["median"], 200.0, "all had no room");
    let repeated = told.iter().find(|figure| figure["metric"] == "rows_twice");
    assert_eq!(repeated.unwrap()["median"], 0.0, "an effect came twice");
    let left: i64 = sqlx::query_scalar(
        "select count(*) from engine.run where status < 10 and workflow <> 'bench-listener'",
    )
    .fetch_one(&mut support::connect(&database.parse().unwrap()).await)
    .await
    .unwrap();
    assert_eq!(left, 0, "a workload left something behind");

    let second = two.to_str().unwrap();
    bench(
        &database,
        &[&["W2"][..], &small, &["--json", second]].concat(),
    );
    let table = bench(&database, &["compare", path, second]);
    let is_told = |line: &str| line.starts_with("W2 ") && line.contains(" steps_per_s");
    assert!(table.lines().any(is_told), "{table}");

    let svg = folder.path().join("curve.svg");
    let drawing = svg.to_str().unwrap();
    bench(
        &database,
        &["curve", "--svg", drawing, "--runs", "1", "--scale", "0.01"],
    );
    let drawn = std::fs::read_to_string(&svg).unwrap();
    assert_eq!(drawn.matches("<polyline").count(), 2, "{drawn}");
    assert_eq!(drawn.matches("<circle").count(), 10, "{drawn}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_soak_tells_of_each_part_what_has_grown() {
    let database = support::database_url().await;
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("soak");
    let short = ["--minutes", "0.1", "--parts", "3", "--rate", "40"];
    let path = file.to_str().unwrap();
    let told = bench(
        &database,
        &[
            &["soak"][..],
            &short,
            &["--in-flight", "16", "--json", path],
        ]
        .concat(),
    );
    let parts = told.lines().filter(|line| {
        let cells: Vec<_> = line.split_whitespace().collect();
        cells.len() == 8 && cells.iter().all(|cell| cell.parse::<f64>().is_ok())
    });
    assert_eq!(parts.count(), 3, "{told}");
    let (_, figures) = figures(&file);
    let of = |metric: &str| {
        let mut found = figures.iter().filter(|figure| figure["metric"] == metric);
        found.next().unwrap_or_else(|| panic!("{metric}: {told}"))["median"].as_f64()
    };
    assert_eq!(of("starts_per_s"), Some(40.0));
    assert!(of("last_p99_ms") > Some(0.0), "{told}");
    assert!(of("last_process_mib") > Some(0.0), "{told}");
    // 240 starts, of which those that napped may still run; what has ended is dropped as it goes.
    let (brief, late): (i64, i64) = sqlx::query_as(
        "select count(*) filter (where status = 10), count(*) filter (where status not in (2, 10))
         from engine.run where workflow = 'bench-brief'",
    )
    .fetch_one(&mut support::connect(&database.parse().unwrap()).await)
    .await
    .unwrap();
    assert!(brief < 240, "nothing was dropped");
    assert_eq!(late, 0, "its worker left work behind");
}

/// What is told of a product's rows; two rounds, because each makes the product anew.
#[tokio::test(flavor = "multi_thread")]
async fn a_backfill_and_a_deletion_are_measured_beside_a_product_that_works() {
    const EXPECTED: [(&str, &[&str]); 2] = [
        (
            "B1",
            &[
                "fill_rows_per_s",
                "fill_s",
                "alone_p99_ms",
                "beside_p99_ms",
                "fast_rows_per_s",
                "fast_p99_ms",
            ],
        ),
        (
            "B2",
            &[
                "minutes",
                "erased_rows_per_s",
                "longest_lock_ms",
                "alone_p99_ms",
                "beside_p99_ms",
            ],
        ),
    ];
    let database = support::database_url().await;
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("figures");
    let path = file.to_str().unwrap();
    bench(
        &database,
        &[
            "B1", "B2", "--runs", "2", "--scale", "0.0005", "--json", path,
        ],
    );
    let (_, told) = figures(&file);
    for (workload, metrics) in EXPECTED {
        for metric in metrics {
            let found = told
                .iter()
                .find(|figure| figure["workload"] == workload && figure["metric"] == *metric);
            let figure = found.unwrap_or_else(|| panic!("{workload} {metric} is not in {told:#?}"));
            assert!(figure["median"].as_f64() > Some(0.0), "{figure}");
            assert_eq!(figure["runs"].as_array().unwrap().len(), 2, "{figure}");
        }
    }
    let mut conn = support::connect(&database.parse().unwrap()).await;
    let (live, certified, databases): (i64, i64, i64) = sqlx::query_as(
        "select (select count(*) from engine.run
             where status < 10 and workflow in ('backfill', 'backfill-range', 'deletion')),
           (select count(*) from app.deletion where state = 'certified'),
           (select count(*) from pg_database where datname = 'bench_product')",
    )
    .fetch_one(&mut conn)
    .await
    .unwrap();
    assert_eq!(
        (live, certified, databases),
        (0, 2, 0),
        "something was left"
    );
}

/// Ten subscriptions in each of two rounds, with a provider in a process of its own.
#[tokio::test(flavor = "multi_thread")]
async fn a_renewal_day_is_measured_against_what_the_provider_allows() {
    let database = support::database_url().await;
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("figures");
    let path = file.to_str().unwrap();
    bench(
        &database,
        &["R1", "--runs", "2", "--scale", "0.0001", "--json", path],
    );
    let (_, told) = figures(&file);
    let runs = |metric: &str| -> Vec<f64> {
        let found = told.iter().find(|figure| figure["metric"] == metric);
        let found = found.unwrap_or_else(|| panic!("{metric} is not in {told:#?}"));
        let runs = found["runs"].as_array().unwrap().iter();
        runs.map(|run| run.as_f64().unwrap()).collect()
    };
    assert_eq!(runs("renewals"), [10.0, 10.0]);
    for each in runs("requests_each") {
        assert!((1.0..=2.0).contains(&each), "{each} requests a renewal");
    }
    for metric in [
        "renewals_per_s",
        "slow_x_allowed",
        "alone_p99_ms",
        "beside_p99_ms",
    ] {
        assert!(runs(metric).iter().all(|run| *run > 0.0), "{metric}");
    }
}

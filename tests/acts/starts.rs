//! Starts that are gathered, over HTTP and from the command line: many become one run, and what
//! makes no sense starts none.

use std::time::Duration;

use serde_json::{Value, json};
use tenure_client::{
    GatherStarts, IdempotencyKey, RunCountFilter, RunDetail, RunPriority, RunStatus, StartRun,
};
use uuid::Uuid;

use super::counter::Counter;
use super::refusal;
use crate::support::unique;

/// What is waited for is told in minutes: the engine's time goes on by itself meanwhile.
const MINUTE: Duration = Duration::from_secs(60);

const PAIR: GatherStarts = GatherStarts::Batch {
    size: 2,
    at_most_seconds: 600,
};
const QUIET: GatherStarts = GatherStarts::Debounce {
    quiet_seconds: 600,
    at_most_seconds: 3_600,
};

/// A start of a family, whose input is a list of names and whose output says what became of each.
fn family(counter: &Counter, input: Value, gather: GatherStarts) -> StartRun {
    StartRun {
        gather: Some(gather),
        ..counter.new_run("family", "callers", input)
    }
}

async fn gathered(counter: &Counter, input: Value, gather: GatherStarts) -> RunDetail {
    let start = family(counter, input, gather);
    let once = IdempotencyKey::generate();
    counter.client.start_run(&start, &once).await.unwrap()
}

/// What a run that has ended leaves behind.
async fn output(counter: &Counter, run: Uuid) -> Value {
    let ended = counter.settled(run).await;
    assert_eq!(ended.summary.status, RunStatus::Completed);
    ended.output.unwrap()
}

async fn assert_gathers(counter: &Counter, run: Uuid) {
    let waiting = counter.settled(run).await;
    assert_eq!(waiting.summary.status, RunStatus::Waiting);
    assert_eq!(waiting.why.kind, "starts_later");
}

async fn assert_nothing_started(counter: &Counter) {
    let all = RunCountFilter::default();
    let count = counter.client.count_runs(&all).await.unwrap();
    assert_eq!(count.runs, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_over_http_starts_when_it_is_full_or_its_time_has_come() {
    let counter = Counter::open().await;
    let one = gathered(&counter, json!("ann"), PAIR).await.summary;
    assert!(one.key.starts_with("callers/"), "{}", one.key);
    assert_gathers(&counter, one.run_id).await;
    let two = gathered(&counter, json!("bob"), PAIR).await.summary;
    assert_eq!(two.run_id, one.run_id);
    let three = gathered(&counter, json!("eve"), PAIR).await.summary;
    assert_ne!(three.run_id, one.run_id, "the first is full");
    let both = json!(["ann completed", "bob completed"]);
    assert_eq!(output(&counter, one.run_id).await, both);
    assert_gathers(&counter, three.run_id).await;
    counter.engine.advance(11 * MINUTE);
    let alone = json!(["eve completed"]);
    assert_eq!(output(&counter, three.run_id).await, alone);
    counter.engine.assert_nothing_lost().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_debounce_over_http_starts_once_it_is_quiet_with_the_last_input() {
    let counter = Counter::open().await;
    let first = gathered(&counter, json!(["ann"]), QUIET).await.summary;
    counter.engine.advance(9 * MINUTE);
    let last = gathered(&counter, json!(["bob"]), QUIET).await.summary;
    assert_eq!(last.run_id, first.run_id);
    counter.engine.advance(9 * MINUTE);
    assert_gathers(&counter, first.run_id).await;
    counter.engine.advance(2 * MINUTE);
    let bob = json!(["bob completed"]);
    assert_eq!(output(&counter, first.run_id).await, bob);
    let next = gathered(&counter, json!(["eve"]), QUIET).await.summary;
    assert_ne!(next.run_id, first.run_id, "that one has begun");
    counter.engine.assert_nothing_lost().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_command_line_gathers_starts() {
    let counter = Counter::open().await;
    let tenant = counter.engine.tenant.0.to_string();
    let start = |key: &str, input: &str, how: &[&str]| {
        let start = ["run", "start", "family", "--tenant", &tenant];
        let what = ["--key", key, "--input", input, "--json"];
        let (done, text) = counter.command(&[&start[..], &what, how].concat());
        assert!(done, "{text}");
        let run: Value = serde_json::from_str(&text).unwrap();
        run["run_id"].as_str().unwrap().parse::<Uuid>().unwrap()
    };
    let pair = ["--batch", "2", "--within", "600"];
    let one = start("callers", "\"ann\"", &pair);
    assert_gathers(&counter, one).await;
    assert_eq!(start("callers", "\"bob\"", &pair), one);
    let both = json!(["ann completed", "bob completed"]);
    assert_eq!(output(&counter, one).await, both);

    let quiet = ["--debounce", "600", "--within", "3600"];
    let first = start("guests", "[\"eve\"]", &quiet);
    assert_eq!(start("guests", "[\"joe\"]", &quiet), first);
    assert_gathers(&counter, first).await;
    counter.engine.advance(11 * MINUTE);
    let joe = json!(["joe completed"]);
    assert_eq!(output(&counter, first).await, joe);
    counter.engine.assert_nothing_lost().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_makes_no_sense_over_http_is_refused_where_it_stands() {
    let counter = Counter::open().await;
    let (batch, debounce) = (
        json!({"size": 2, "at_most_seconds": 60}),
        json!({"quiet_seconds": 10, "at_most_seconds": 60}),
    );
    let cases = [
        (
            json!({"debounce": {"quiet_seconds": -1, "at_most_seconds": 60}}),
            "/gather/debounce/quiet_seconds",
            "`-1`, expected u32",
        ),
        (
            json!({"batch": {"size": 2, "at_most_seconds": 99_999_999_999_u64}}),
            "/gather/batch/at_most_seconds",
            "`99999999999`, expected u32",
        ),
        (
            json!({"debounce": {"quiet_seconds": 10}}),
            "/gather/debounce/at_most_seconds",
            "missing field `at_most_seconds`",
        ),
        (
            json!({"batch": batch, "debounce": debounce}),
            "/gather",
            "one of its choices is wanted here, and that one alone",
        ),
    ];
    // reqwest wants a TLS provider even for plain HTTP.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let tenant = counter.engine.tenant.0;
    for (gather, pointer, says) in cases {
        let body = json!({
            "workflow": "family", "tenant_id": tenant, "key": "k", "input": "ann", "gather": gather,
        });
        let asked = reqwest::Client::new()
            .post(format!("{}/v1/runs", counter.url))
            .bearer_auth(&counter.token)
            .header("idempotency-key", unique().to_string())
            .json(&body);
        let answer = asked.send().await.unwrap();
        let problem: Value = answer.json().await.unwrap();
        let told = (&problem["status"], &problem["code"]);
        assert_eq!(told, (&json!(422), &json!("invalid")), "{problem}");
        assert_eq!(problem["errors"][0]["pointer"], pointer, "{problem}");
        let detail = problem["detail"].as_str().unwrap();
        assert!(detail.contains(says), "{problem}");
    }
    assert_nothing_started(&counter).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_gathered_over_http_is_refused() {
    let counter = Counter::open().await;
    let batch = |size, at_most_seconds| GatherStarts::Batch {
        size,
        at_most_seconds,
    };
    let debounce = |quiet_seconds, at_most_seconds| GatherStarts::Debounce {
        quiet_seconds,
        at_most_seconds,
    };
    let names = json!(["ann"]);
    let urgent = StartRun {
        priority: Some(RunPriority::High),
        ..family(&counter, json!("ann"), PAIR)
    };
    let later = StartRun {
        start_at: Some("2100-01-01T00:00:00Z".parse().unwrap()),
        ..family(&counter, json!("ann"), PAIR)
    };
    let cases = [
        (family(&counter, json!("ann"), batch(0, 60)), "/gather"),
        (family(&counter, json!("ann"), batch(1, 60)), "/gather"),
        (family(&counter, json!("ann"), batch(1_001, 60)), "/gather"),
        (family(&counter, json!("ann"), batch(2, 0)), "/gather"),
        (family(&counter, names.clone(), debounce(0, 60)), "/gather"),
        (family(&counter, names.clone(), debounce(61, 60)), "/gather"),
        (
            family(&counter, names.clone(), debounce(1, u32::MAX)),
            "/gather",
        ),
        (urgent, "/gather"),
        (later, "/gather"),
        // A batch is of inputs that make up the workflow's, a debounce of whole ones.
        (family(&counter, names, PAIR), "/input"),
        (family(&counter, json!("ann"), QUIET), "/input"),
    ];
    for (start, pointer) in cases {
        let once = IdempotencyKey::generate();
        let refused = counter.client.start_run(&start, &once).await;
        let expected = (422, "invalid".to_owned(), pointer.to_owned());
        assert_eq!(refusal(refused), expected, "{start:?}");
    }
    assert_nothing_started(&counter).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_makes_no_sense_on_the_command_line_is_refused() {
    let counter = Counter::open().await;
    let tenant = counter.engine.tenant.0.to_string();
    let start = ["run", "start", "family", "--tenant", &tenant];
    let what = ["--key", "k", "--input", "\"ann\""];
    let at = "2100-01-01T00:00:00Z";
    let cases: [(&[&str], &str); 11] = [
        (&["--debounce=-1"], "for '--debounce <SECONDS>'"),
        (&["--debounce=99999999999"], "for '--debounce <SECONDS>'"),
        (&["--batch=-1"], "for '--batch <SIZE>'"),
        (&["--batch=2", "--within=-1"], "for '--within <SECONDS>'"),
        (&["--debounce=9", "--batch=2"], "cannot be used with"),
        (&["--batch=2", "--at", at], "cannot be used with"),
        (&["--batch=0"], "a batch has 2 to 1000 inputs; not 0"),
        (&["--batch=1001"], "a batch has 2 to 1000 inputs; not 1001"),
        (&["--debounce=0"], "quiet for longer than nothing"),
        (&["--debounce=301"], "not shorter than the quiet time"),
        (&["--batch=2", "--within=2592001"], "at most 30 days"),
    ];
    for (how, says) in cases {
        let (done, text) = counter.command(&[&start[..], &what, how].concat());
        assert!(!done && text.contains(says), "{how:?}: {text}");
    }
    assert_nothing_started(&counter).await;
}

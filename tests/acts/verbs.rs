//! The verbs that mend runs, over HTTP and from the command line: each is done, and what becomes of
//! the run is seen where people look.

use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use serde_json::{Value, json};
use tenure_client::{ActionArgs, Deadline, IdempotencyKey, RunDetail, RunStatus, StartRun};
use uuid::Uuid;

use super::counter::Counter;
use super::{act, refusal, tenant_run};
use crate::support::app::TestApp;
use crate::support::eventually;

/// An errand whose second step is tried three times in vain.
async fn stuck_errand(counter: &Counter, key: &str) -> RunDetail {
    counter.outside.fail("second", 3);
    let run = counter.start("errand", key, json!(0)).await;
    for _ in 0..3 {
        counter.engine.drain().await;
        counter.engine.advance(Duration::from_secs(700));
    }
    let stuck = counter.client.run(run).await.unwrap();
    assert_eq!(stuck.summary.status, RunStatus::Stuck);
    stuck
}

async fn open_door(counter: &Counter) -> Uuid {
    let run = counter.start("door", "front", Value::Null).await;
    counter.signal(run, "open", json!("Open")).await;
    assert_eq!(counter.settled(run).await.summary.state, "Open");
    run
}

/// Lets an open door wait for its bell, which rings in ten minutes.
async fn wait_for_bell(counter: &Counter, door: Uuid, signal_id: &str) -> Deadline {
    let wait = json!({"Wait": {"seconds": 600}});
    counter.signal(door, signal_id, wait).await;
    let mut deadlines = counter.settled(door).await.deadlines;
    assert_eq!(deadlines.len(), 1, "{deadlines:?}");
    deadlines.remove(0)
}

fn with_state(state: &Value) -> ActionArgs {
    ActionArgs {
        state: Some(state.clone()),
        ..ActionArgs::default()
    }
}

fn with_bell(at: Option<DateTime<Utc>>) -> ActionArgs {
    ActionArgs {
        name: Some("bell".to_owned()),
        at,
        ..ActionArgs::default()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stuck_run_is_retried_as_it_was_seen_and_not_otherwise() {
    let counter = Counter::open().await;
    let stuck = stuck_errand(&counter, "e").await;
    let (run, revision) = (stuck.summary.run_id, stuck.revision);
    let none = ActionArgs::default;
    let stale = act(&counter.client, run, "retry", revision - 1, none(), false).await;
    let problem = stale.as_ref().unwrap_err().problem().unwrap();
    let told = problem.detail.clone().unwrap();
    let current = format!("it is now at {revision}");
    assert!(told.contains(&current), "{told}");
    let moved = (409, "moved".to_owned(), "/revision".to_owned());
    assert_eq!(refusal(stale), moved);
    let still = counter.client.run(run).await.unwrap();
    assert_eq!(still.summary.status, RunStatus::Stuck);
    assert_eq!(still.revision, revision);

    let done = counter.act(run, "retry", none()).await;
    assert_eq!(done.before["status"], "stuck");
    let ended = counter.settled(run).await;
    assert_eq!(ended.summary.status, RunStatus::Completed);
    let calls = |step: &str| counter.outside.keys(step).len();
    assert_eq!(calls("second"), 4);
    assert_eq!(calls("first"), 1, "what was answered is not done again");
    assert_eq!(counter.audited(run).await, ["retry: because"]);
    counter.engine.assert_nothing_lost().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_step_is_answered_or_failed_by_hand() {
    let counter = Counter::open().await;
    let answered = stuck_errand(&counter, "answered").await.summary.run_id;
    let calls = counter.outside.keys("second").len();
    let answer = ActionArgs {
        answer: Some(json!("by hand")),
        ..ActionArgs::default()
    };
    let done = counter.act(answered, "skip-step", answer).await;
    assert!(done.effects[0].contains("second"), "{:?}", done.effects);
    let ended = counter.settled(answered).await;
    assert_eq!(ended.summary.status, RunStatus::Completed);
    let answers = &ended.output.unwrap()["answers"];
    assert_eq!(*answers, json!(["first done", "by hand"]));
    let called = counter.outside.keys("second").len();
    assert_eq!(called, calls, "the step was not done");

    let failed = stuck_errand(&counter, "failed").await.summary.run_id;
    let failure = ActionArgs {
        code: Some("given_up".to_owned()),
        message: Some("the outside is gone for good".to_owned()),
        ..ActionArgs::default()
    };
    let done = counter.act(failed, "fail-step", failure).await;
    assert!(done.effects[0].contains("second"), "{:?}", done.effects);
    // The errand has no branch for it: stuck again, now for what the operator said.
    let stuck = counter.settled(failed).await;
    let kind = stuck.summary.stuck_kind.as_deref();
    assert_eq!(kind, Some("terminal_error"));
    assert!(stuck.why.summary.contains("given_up"), "{:?}", stuck.why);
    counter.act(failed, "retry", ActionArgs::default()).await;
    let ended = counter.settled(failed).await;
    assert_eq!(ended.summary.status, RunStatus::Completed);
    let acts = ["fail-step: because", "retry: because"];
    assert_eq!(counter.audited(failed).await, acts);
    counter.engine.assert_nothing_lost().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_state_is_edited_and_left_for_another_with_its_deadlines() {
    let counter = Counter::open().await;
    let door = open_door(&counter).await;
    wait_for_bell(&counter, door, "wait").await;
    counter.act(door, "pause", ActionArgs::default()).await;
    let edited = json!({"Open": {"heard": ["edited"]}});
    let done = counter.act(door, "edit-state", with_state(&edited)).await;
    assert_eq!(done.before["data"], json!({"Open": {"heard": []}}));
    let paused = counter.settled(door).await;
    assert_eq!(paused.summary.status, RunStatus::Paused);
    assert_eq!(paused.data, edited);
    for (state, status, words) in [
        (json!({"Open": {"heard": 3}}), 422, "invalid type: integer"),
        (json!({"Ajar": {"heard": []}}), 422, "unknown variant"),
        (json!({"Closed": {"heard": []}}), 409, "use move"),
    ] {
        let args = with_state(&state);
        let refused = act(
            &counter.client,
            door,
            "edit-state",
            paused.revision,
            args,
            false,
        )
        .await;
        let refused = refused.unwrap_err();
        let problem = refused.problem().unwrap();
        assert_eq!(problem.status, status, "{problem:?}");
        let detail = problem.detail.as_deref().unwrap_or_default();
        assert!(detail.contains(words), "{problem:?}");
    }
    let still = counter.client.run(door).await.unwrap();
    assert_eq!((still.revision, still.data), (paused.revision, edited));

    counter.act(door, "resume", ActionArgs::default()).await;
    let waiting = counter.settled(door).await;
    assert_eq!(waiting.summary.status, RunStatus::Waiting);
    assert_eq!(waiting.deadlines.len(), 1, "{:?}", waiting.deadlines);
    let closed = json!({"Closed": {"heard": ["moved"]}});
    counter.act(door, "move", with_state(&closed)).await;
    let moved = counter.settled(door).await;
    assert_eq!(moved.summary.state, "Closed");
    assert_eq!((moved.data, moved.deadlines), (closed.clone(), Vec::new()));
    counter.engine.advance(Duration::from_secs(601));
    let later = counter.settled(door).await;
    assert_eq!(later.data, closed, "no bell rings at a closed door");
    let acts = [
        "signal: because",
        "signal: because",
        "pause: because",
        "edit-state: because",
        "resume: because",
        "move: because",
    ];
    assert_eq!(counter.audited(door).await, acts);
    counter.engine.assert_nothing_lost().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deadline_is_fired_before_its_time_and_another_put_off() {
    let counter = Counter::open().await;
    let door = open_door(&counter).await;
    wait_for_bell(&counter, door, "first").await;
    counter.act(door, "fire-deadline", with_bell(None)).await;
    let rung = counter.settled(door).await;
    assert_eq!(rung.data["Open"]["heard"], json!(["bell"]));
    assert!(rung.deadlines.is_empty(), "{:?}", rung.deadlines);

    let bell = wait_for_bell(&counter, door, "second").await;
    let later = with_bell(Some(bell.at + TimeDelta::hours(1)));
    counter.act(door, "move-deadline", later).await;
    let moved = counter.settled(door).await;
    assert_eq!(moved.deadlines[0].at, bell.at + TimeDelta::hours(1));
    counter.engine.advance(Duration::from_secs(700));
    let quiet = counter.settled(door).await;
    assert_eq!(quiet.data["Open"]["heard"], json!(["bell"]));
    counter.engine.advance(Duration::from_secs(3_600));
    let rung = counter.settled(door).await;
    assert_eq!(rung.data["Open"]["heard"], json!(["bell", "bell"]));
    counter.engine.assert_nothing_lost().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cancelled_run_is_restarted_in_a_state_and_another_anew_with_its_own_input() {
    let counter = Counter::open().await;
    let door = open_door(&counter).await;
    counter.act(door, "cancel", ActionArgs::default()).await;
    let ended = counter.settled(door).await;
    assert_eq!(ended.summary.status, RunStatus::Cancelled);
    let state = json!({"Open": {"heard": ["before"]}});
    let again = ActionArgs {
        key: Some("front-again".to_owned()),
        ..with_state(&state)
    };
    let done = counter.act(door, "restart", again).await;
    let restarted = counter.settled(done.started_run_id.unwrap()).await;
    assert_eq!(restarted.summary.status, RunStatus::Waiting);
    assert_eq!(restarted.summary.key, "front-again");
    assert_eq!(restarted.data, state);

    let family = counter.start("family", "ann", json!(["ann"])).await;
    let ended = counter.settled(family).await;
    assert_eq!(ended.output, Some(json!(["ann completed"])));
    let with_input = |key: &str| ActionArgs {
        key: Some(key.to_owned()),
        input: Some(json!(["bob"])),
        ..ActionArgs::default()
    };
    let revision = ended.revision;
    let taken = with_input("ann");
    let taken = act(&counter.client, family, "restart", revision, taken, false).await;
    let refused = (409, "key_taken".to_owned(), "/key".to_owned());
    assert_eq!(refusal(taken), refused);
    let done = counter.act(family, "restart", with_input("bob")).await;
    let restarted = counter.settled(done.started_run_id.unwrap()).await;
    assert_eq!(restarted.output, Some(json!(["bob completed"])));
    assert_eq!(counter.audited(family).await, ["restart: because"]);
    counter.engine.assert_nothing_lost().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_command_line_gives_each_verb_what_it_takes() {
    let counter = Counter::open().await;
    let does = |verb: &str, run: Uuid, args: &[&str]| {
        let run = run.to_string();
        let act = ["run", "act", verb, &run, "--reason", "because"];
        counter.command(&[&act[..], args].concat())
    };
    let errand = stuck_errand(&counter, "e").await.summary.run_id;
    let (done, text) = does("skip-step", errand, &["--answer", "by hand"]);
    assert!(!done && text.contains("no JSON"), "{text}");
    let (done, text) = does("skip-step", errand, &["--answer", "\"by hand\""]);
    assert!(done && text.contains("Step second counts"), "{text}");
    let ended = counter.settled(errand).await;
    assert_eq!(ended.summary.status, RunStatus::Completed);
    let failed = stuck_errand(&counter, "f").await.summary.run_id;
    let failure = ["--code", "given_up", "--message", "gone"];
    let (done, text) = does("fail-step", failed, &failure);
    assert!(done && text.contains("Step second fails"), "{text}");
    let stuck = counter.settled(failed).await;
    assert!(stuck.why.summary.contains("given_up"), "{:?}", stuck.why);

    let door = open_door(&counter).await;
    let bell = wait_for_bell(&counter, door, "wait").await;
    let at = (bell.at + TimeDelta::hours(1)).to_rfc3339();
    let (done, text) = does("move-deadline", door, &["--name", "bell", "--at", &at]);
    assert!(done && text.contains("Deadline bell moves"), "{text}");
    let moved = counter.settled(door).await;
    let (done, text) = does("fire-deadline", door, &["--name", "gong"]);
    assert!(!done && text.contains("not \"gong\""), "{text}");
    assert_eq!(moved.deadlines[0].at, bell.at + TimeDelta::hours(1));
    let (done, text) = does("terminate", door, &[]);
    assert!(done, "{text}");
    let state = ["--key", "again", "--state", r#"{"Closed": {"heard": []}}"#];
    let (done, text) = does("restart", door, &state);
    assert!(done && text.contains("started "), "{text}");
    let (_, started) = text.trim_end().rsplit_once(' ').unwrap();
    let started = counter.settled(started.parse().unwrap()).await;
    assert_eq!(started.summary.state, "Closed");
    counter.engine.assert_nothing_lost().await;
}

/// Waits until a run of the product is where it is to come to.
async fn comes_to(app: &TestApp, run: Uuid, status: RunStatus) {
    eventually(status.as_str(), async || {
        app.client.run(run).await.unwrap().summary.status == status
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn runs_of_the_product_are_cancelled_and_started_over() {
    let app = TestApp::new().await;
    let tenant = tenant_run(&app).await;
    let shown = app.client.run(tenant).await.unwrap();
    let (seen, none) = (shown.revision, ActionArgs::default());
    let done = act(&app.client, tenant, "cancel", seen, none, false).await;
    done.unwrap();
    comes_to(&app, tenant, RunStatus::Cancelled).await;

    let start = StartRun {
        workflow: "notice".to_owned(),
        tenant_id: shown.summary.tenant_id,
        key: "welcome-back".to_owned(),
        input: json!({"recovered": {}}),
        priority: None,
        start_at: None,
        gather: None,
    };
    let once = IdempotencyKey::generate();
    let notice = app.client.start_run(&start, &once).await.unwrap();
    let notice = notice.summary.run_id;
    comes_to(&app, notice, RunStatus::Completed).await;
    let seen = app.client.run(notice).await.unwrap().revision;
    let ended = json!({"plan": "Team", "ended_at": "2027-01-01T00:00:00Z", "unpaid": false});
    let other = ActionArgs {
        key: Some("goodbye".to_owned()),
        input: Some(json!({"cancelled": ended})),
        ..ActionArgs::default()
    };
    let done = act(&app.client, notice, "restart", seen, other, false).await;
    let again = done.unwrap().started_run_id.unwrap();
    comes_to(&app, again, RunStatus::Completed).await;
    let mails = app.client.list_tenant_mails(start.tenant_id).await;
    let mails = mails.unwrap();
    let mut kinds: Vec<&str> = mails.iter().map(|mail| mail.kind.as_str()).collect();
    kinds.sort_unstable();
    assert_eq!(kinds, ["cancelled", "recovered"]);
    app.finish().await;
}

//! Schedules through the API, the client and the command line.

use std::process::Command;

use chrono::{DateTime, Utc};
use serde_json::Value;
use tenure_client::{
    ActOnSchedule, AdvanceTestClock, CatchUpPolicy, ChangeSchedule, Client, ClientError,
    IdempotencyKey, NewSchedule, NewTenant, OverlapPolicy, Role, ScheduleFilter, SlotOutcome,
    TestClockStatus,
};
use tenure_engine::TenantId;
use uuid::Uuid;

use crate::support::app::{TestApp, token};
use crate::support::process::tenure;
use crate::support::{self, eventually};

async fn add_tenant(app: &TestApp, name: &str) -> Uuid {
    let new = NewTenant {
        name: name.to_owned(),
        email: "billing@acme.example".to_owned(),
        zone: "UTC".to_owned(),
        locale: None,
        test_clock: None,
        legal_entity: None,
    };
    let key = IdempotencyKey::generate();
    let made = app.client.create_tenant(&new, &key).await;
    made.unwrap().tenant_id
}

fn new(tenant_id: Uuid, name: &str) -> NewSchedule {
    NewSchedule {
        tenant_id,
        name: name.to_owned(),
        workflow: "dunning".to_owned(),
        input: serde_json::json!({"currency": "EUR"}),
        cron: "30 2 29 2 *".to_owned(),
        zone: "Europe/Berlin".to_owned(),
        overlap: OverlapPolicy::Queue,
        catch_up: CatchUpPolicy::All,
        jitter_seconds: 60,
        reason: "as agreed".to_owned(),
    }
}

fn act(revision: i64) -> ActOnSchedule {
    ActOnSchedule {
        reason: "as agreed".to_owned(),
        revision,
    }
}

/// Status, code and pointer of a refusal.
fn refusal<T: std::fmt::Debug>(answer: Result<T, ClientError>) -> (u16, String, String) {
    match answer.unwrap_err() {
        ClientError::Problem(problem) => {
            let pointer = problem.errors.first().map(|error| error.pointer.clone());
            (problem.status, problem.code, pointer.unwrap_or_default())
        }
        other => panic!("{other:?}"),
    }
}

fn expect(status: u16, code: &str, pointer: &str) -> (u16, String, String) {
    (status, code.to_owned(), pointer.to_owned())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_schedule_is_made_shown_and_changed() {
    let app = TestApp::new().await;
    let client = &app.client;
    let tenant = add_tenant(&app, "Acme").await;
    let key = IdempotencyKey::generate();
    let made = client
        .create_schedule(&new(tenant, "leap"), &key)
        .await
        .unwrap();
    let again = client
        .create_schedule(&new(tenant, "leap"), &key)
        .await
        .unwrap();
    assert_eq!(
        made, again,
        "the same request is answered as the first time"
    );
    assert_eq!(made.overlap, OverlapPolicy::Queue);
    assert_eq!(made.catch_up, CatchUpPolicy::All);
    assert_eq!((made.revision, made.jitter_seconds), (1, 60));
    let id = made.schedule_id;
    let shown = client.schedule(id).await.unwrap();
    assert_eq!(shown.schedule, made);
    assert_eq!(shown.coming.len(), 10);
    assert_eq!(Some(shown.coming[0]), made.next_slot);
    assert!(shown.slots.is_empty());
    let possible = |action: &str, shown: &tenure_client::ScheduleDetail| {
        let mut all = shown.allowed_actions.iter();
        all.find(|one| one.action == action).unwrap().allowed
    };
    assert!(possible("pause", &shown) && !possible("resume", &shown));

    let fresh = IdempotencyKey::generate;
    let change = ChangeSchedule {
        cron: Some("@daily".to_owned()),
        overlap: Some(OverlapPolicy::Skip),
        reason: "nightly after all".to_owned(),
        revision: 1,
        ..ChangeSchedule::default()
    };
    let changed = client.change_schedule(id, &change, &fresh()).await.unwrap();
    assert_eq!((changed.revision, changed.cron.as_str()), (2, "@daily"));
    assert_eq!(changed.overlap, OverlapPolicy::Skip);
    assert_eq!(changed.catch_up, CatchUpPolicy::All);
    let stale = client.change_schedule(id, &change, &fresh()).await;
    assert_eq!(refusal(stale), expect(409, "moved", "/revision"));
    app.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_schedule_is_paused_resumed_run_and_deleted() {
    let app = TestApp::new().await;
    let client = &app.client;
    let tenant = add_tenant(&app, "Acme").await;
    let fresh = IdempotencyKey::generate;
    let made = client.create_schedule(&new(tenant, "leap"), &fresh()).await;
    let id = made.unwrap().schedule_id;
    let paused = client.pause_schedule(id, &act(1), &fresh()).await.unwrap();
    assert!(paused.paused && paused.next_slot.is_none());
    let twice = client.pause_schedule(id, &act(2), &fresh()).await;
    assert_eq!(refusal(twice), expect(409, "not_allowed", ""));
    let extra = client
        .run_schedule_now(id, &act(2), &fresh())
        .await
        .unwrap();
    assert_eq!(extra.schedule_id, id);
    let resumed = client.resume_schedule(id, &act(2), &fresh()).await.unwrap();
    assert!(resumed.next_slot.is_some());
    let shown = client.schedule(id).await.unwrap();
    assert_eq!(shown.slots[0].run_id, Some(extra.run_id));
    assert_eq!(shown.slots[0].outcome, SlotOutcome::Started);
    let run = client.run(extra.run_id).await.unwrap();
    assert_eq!(run.summary.tenant_id, tenant);
    assert_eq!(run.summary.key, shown.slots[0].key);

    let filter = ScheduleFilter {
        tenant_id: Some(tenant),
        name: Some("leap".to_owned()),
        ..ScheduleFilter::default()
    };
    let listed = tenure_client::Schedule {
        tenant_name: Some("Acme".to_owned()),
        ..resumed
    };
    assert_eq!(
        client.list_schedules(&filter).await.unwrap().items,
        [listed]
    );
    let gone = fresh();
    for _ in 0..2 {
        let deleted = client.delete_schedule(id, &act(3), &gone).await.unwrap();
        assert_eq!(deleted.schedule_id, id);
    }
    assert_eq!(
        refusal(client.schedule(id).await),
        expect(404, "unknown_schedule", "")
    );
    let mut conn = support::connect(&app.options).await;
    let audited: Vec<(String, String)> = sqlx::query_as(
        "select action, actor from engine.audit where run_id = $1 order by at, audit_id",
    )
    .bind(id)
    .fetch_all(&mut conn)
    .await
    .unwrap();
    let actions: Vec<_> = audited.iter().map(|row| row.0.as_str()).collect();
    let verbs = ["create", "pause", "run now", "resume", "delete"];
    assert_eq!(actions, verbs.map(|verb| format!("schedule {verb}")));
    assert!(audited.iter().all(|row| row.1 == "suite admin"));
    app.finish().await;
}

type Spoil = fn(&mut NewSchedule);

#[tokio::test(flavor = "multi_thread")]
async fn bad_schedules_get_a_problem_that_points_at_the_field() {
    let app = TestApp::new().await;
    let tenant = add_tenant(&app, "Acme").await;
    let cases: [(Spoil, _); 11] = [
        (
            |new| new.cron = "0 25 * * *".to_owned(),
            expect(422, "invalid", "/cron"),
        ),
        (
            |new| new.cron = "0 0 30 2 *".to_owned(),
            expect(422, "invalid", "/cron"),
        ),
        (
            |new| new.zone = "Europe/Atlantis".to_owned(),
            expect(422, "invalid", "/zone"),
        ),
        (
            |new| new.name = "a/b".to_owned(),
            expect(422, "invalid", "/name"),
        ),
        (
            |new| new.jitter_seconds = 90_000,
            expect(422, "invalid", "/jitter_seconds"),
        ),
        (
            |new| new.overlap = OverlapPolicy::Unknown,
            expect(422, "invalid", "/overlap"),
        ),
        (
            |new| new.catch_up = CatchUpPolicy::Unknown,
            expect(422, "invalid", "/catch_up"),
        ),
        (
            |new| new.reason = " ".to_owned(),
            expect(422, "invalid", "/reason"),
        ),
        (
            |new| new.input = Value::Null,
            expect(422, "invalid", "/input"),
        ),
        (
            |new| new.workflow = "nope".to_owned(),
            expect(404, "unknown_workflow", "/workflow"),
        ),
        (
            |new| new.tenant_id = Uuid::from_u128(7),
            expect(404, "unknown_tenant", "/tenant_id"),
        ),
    ];
    for (number, (spoil, expected)) in cases.into_iter().enumerate() {
        let mut bad = new(tenant, "bad");
        spoil(&mut bad);
        let key = IdempotencyKey::generate();
        let refused = app.client.create_schedule(&bad, &key).await;
        assert_eq!(refusal(refused), expected, "case {number}");
    }
    app.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_name_is_taken_once_and_strangers_find_nothing() {
    let app = TestApp::new().await;
    let tenant = add_tenant(&app, "Acme").await;
    let key = IdempotencyKey::generate();
    let good = new(tenant, "good");
    let made = app.client.create_schedule(&good, &key).await.unwrap();
    let key = IdempotencyKey::generate();
    let taken = app.client.create_schedule(&good, &key).await;
    assert_eq!(refusal(taken), expect(409, "name_taken", "/name"));

    // Another tenant's token does not find it; a viewer's changes nothing.
    let stranger = add_tenant(&app, "Other").await;
    let mut conn = support::connect(&app.options).await;
    let other = token(&mut conn, Role::Admin, Some(TenantId(stranger))).await;
    let other = Client::new(&app.url, &other).unwrap();
    let id = made.schedule_id;
    let hidden = expect(404, "unknown_schedule", "");
    assert_eq!(refusal(other.schedule(id).await), hidden);
    let key = IdempotencyKey::generate();
    let refused = other.run_schedule_now(id, &act(1), &key).await;
    assert_eq!(refusal(refused), hidden);
    assert_eq!(refusal(other.create_schedule(&good, &key).await).0, 404);
    let filter = ScheduleFilter::default();
    assert!(
        other
            .list_schedules(&filter)
            .await
            .unwrap()
            .items
            .is_empty()
    );
    let viewer = token(&mut conn, Role::Viewer, None).await;
    let viewer = Client::new(&app.url, &viewer).unwrap();
    let shown = viewer.schedule(id).await.unwrap();
    assert!(shown.allowed_actions.iter().all(|action| !action.allowed));
    let refused = viewer.pause_schedule(id, &act(1), &key).await;
    assert_eq!(refusal(refused), expect(403, "forbidden", ""));
    app.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_command_line_looks_after_schedules() {
    let app = TestApp::new().await;
    let tenant = add_tenant(&app, "Acme").await.to_string();
    let command = |args: &[&str]| {
        let output = Command::new(tenure())
            .arg("schedule")
            .args(args)
            .args(["--url", &app.url, "--token", &app.token])
            .output()
            .unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        let error = String::from_utf8(output.stderr).unwrap();
        (output.status.success(), text, error)
    };
    let create = |cron: &str| {
        command(&[
            "create",
            "nightly",
            "--tenant",
            &tenant,
            "--workflow",
            "dunning",
            "--input",
            r#"{"currency": "EUR"}"#,
            "--cron",
            cron,
            "--zone",
            "Europe/Berlin",
            "--reason",
            "new",
            "--json",
        ])
    };
    let (ok, _, error) = create("61 * * * *");
    assert!(!ok && error.contains("minute \"61\""), "{error}");
    let (ok, made, error) = create("30 2 * * *");
    assert!(ok, "{error}");
    let made: Value = serde_json::from_str(&made).unwrap();
    let id = made["schedule_id"].as_str().unwrap();
    let (_, listed, _) = command(&["list", "--paused", "false"]);
    assert!(
        listed.contains(id) && listed.contains("nightly"),
        "{listed}"
    );
    let (ok, _, error) = command(&["update", id, "--cron", "0 4 * * *", "--reason", "later"]);
    assert!(ok, "{error}");
    let (_, paused, _) = command(&["pause", id, "--reason", "holiday"]);
    assert!(paused.contains("paused"), "{paused}");
    let stale = command(&["resume", id, "--reason", "back", "--revision", "1"]);
    assert!(!stale.0 && stale.2.contains("revision"), "{}", stale.2);
    assert!(command(&["resume", id, "--reason", "back"]).0);
    let (_, started, _) = command(&["run-now", id, "--reason", "now"]);
    assert!(started.starts_with("started run"), "{started}");
    let (_, shown, _) = command(&["show", id]);
    for part in ["\"0 4 * * *\"", "coming", "started run", "overlap skip"] {
        assert!(shown.contains(part), "no {part}: {shown}");
    }
    assert!(command(&["delete", id, "--reason", "done"]).0);
    assert!(!command(&["show", id]).0);
    app.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_advance_of_a_test_clock_stops_at_each_slot() {
    let app = TestApp::new().await;
    let client = &app.client;
    let tenant = NewTenant {
        name: "Acme".to_owned(),
        email: "billing@acme.example".to_owned(),
        zone: "UTC".to_owned(),
        locale: None,
        test_clock: Some("2027-03-25T12:00:00Z".parse().unwrap()),
        legal_entity: None,
    };
    let tenant = client
        .create_tenant(&tenant, &IdempotencyKey::generate())
        .await
        .unwrap();
    let clock = tenant.test_clock_id.unwrap();
    let mut new = new(tenant.tenant_id, "nightly");
    new.cron = "30 2 * * *".to_owned();
    new.overlap = OverlapPolicy::Allow;
    let key = IdempotencyKey::generate();
    let made = client.create_schedule(&new, &key).await.unwrap();
    assert_eq!(made.test_clock_id, Some(clock));
    let advance = AdvanceTestClock {
        to: None,
        by: Some("5d".to_owned()),
    };
    let key = IdempotencyKey::generate();
    let sent = client.advance_test_clock(clock, &advance, &key).await;
    sent.unwrap();
    eventually("the clock is ready", async || {
        client.test_clock(clock).await.unwrap().status == TestClockStatus::Ready
    })
    .await;
    let shown = client.schedule(made.schedule_id).await.unwrap();
    let slots: Vec<_> = shown.slots.iter().rev().map(|line| line.slot).collect();
    let expected = [
        "2027-03-26T01:30:00Z",
        "2027-03-27T01:30:00Z",
        // The clocks change: half past two is swallowed.
        "2027-03-28T01:00:00Z",
        "2027-03-29T00:30:00Z",
        "2027-03-30T00:30:00Z",
    ];
    let expected = expected.map(|slot| slot.parse::<DateTime<Utc>>().unwrap());
    assert_eq!(slots, expected);
    for line in &shown.slots {
        let run = client.run(line.run_id.unwrap()).await.unwrap();
        assert_eq!(run.summary.tenant_started_at, Some(line.slot));
    }
    app.finish().await;
}

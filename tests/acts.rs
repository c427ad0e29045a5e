//! What people do to runs over HTTP: seen in the list by name, told before it is done, refused by
//! name, recorded.

use serde_json::json;
use tenure_client::{
    ActOnRun, ActionArgs, CancelSubscription, Client, ClientError, IdempotencyKey, NewTenant, Role,
    RunFilter, RunStatus, SendSignal, SignalKind, SignalOutcome, When,
};
use uuid::Uuid;

use crate::support::app::{TestApp, token};
use crate::support::{connect, eventually};

mod counter;
mod private;
mod starts;
mod verbs;

/// A tenant whose run is at rest.
async fn tenant_run(app: &TestApp) -> Uuid {
    let new = NewTenant {
        name: "Acme".to_owned(),
        email: "billing@acme.example".to_owned(),
        zone: "UTC".to_owned(),
        locale: None,
        test_clock: None,
        legal_entity: None,
    };
    let key = IdempotencyKey::generate();
    let tenant = app.client.create_tenant(&new, &key).await.unwrap();
    let filter = RunFilter {
        workflow: Some("tenant".to_owned()),
        tenant_id: Some(tenant.tenant_id),
        ..RunFilter::default()
    };
    let page = app.client.list_runs(&filter).await.unwrap();
    assert_eq!(page.items[0].tenant_name.as_deref(), Some("Acme"));
    let run = page.items[0].run_id;
    eventually("the tenant is provisioned", async || {
        let run = app.client.run(run).await.unwrap();
        run.summary.state == "Ready" && run.summary.status == RunStatus::Waiting
    })
    .await;
    run
}

async fn act(
    client: &Client,
    run: Uuid,
    verb: &str,
    revision: i64,
    args: ActionArgs,
    dry_run: bool,
) -> Result<tenure_client::ActionAccepted, ClientError> {
    let body = ActOnRun {
        reason: "because".to_owned(),
        revision,
        dry_run,
        args,
    };
    let key = IdempotencyKey::generate();
    client.act_on_run(run, verb, &body, &key).await
}

/// Status and code of a refusal, and the field that it points to.
fn refusal<T: std::fmt::Debug>(result: Result<T, ClientError>) -> (u16, String, String) {
    let error = result.unwrap_err();
    let problem = error.problem().unwrap();
    let field = problem.errors.first();
    let field = field.map_or(String::new(), |field| field.pointer.clone());
    (problem.status, problem.code.clone(), field)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pause_is_told_dry_done_once_and_recorded() {
    let app = TestApp::new().await;
    let run = tenant_run(&app).await;
    let shown = app.client.run(run).await.unwrap();
    let revision = shown.revision;
    let args = ActionArgs::default;
    let dry = act(&app.client, run, "pause", revision, args(), true).await;
    let dry = dry.unwrap();
    assert!(dry.dry_run);
    assert_eq!(dry.after["status"], "paused");
    assert!(!dry.effects.is_empty());
    assert_eq!(app.client.run(run).await.unwrap().revision, revision);

    let done = act(&app.client, run, "pause", revision, args(), false).await;
    assert!(!done.unwrap().dry_run);
    let paused = app.client.run(run).await.unwrap();
    assert_eq!(paused.summary.status, RunStatus::Paused);
    assert_eq!(paused.why.kind, "paused");
    let may = |action: &str| {
        let one = paused
            .allowed_actions
            .iter()
            .find(|one| one.action == action);
        one.unwrap().allowed
    };
    assert!(may("resume") && may("edit-state") && may("terminate") && !may("pause"));
    let stale = act(&app.client, run, "resume", revision, args(), false).await;
    assert_eq!(
        refusal(stale),
        (409, "moved".to_owned(), "/revision".to_owned())
    );
    let resumed = act(&app.client, run, "resume", paused.revision, args(), false).await;
    resumed.unwrap();
    let signal = SendSignal {
        id: "by-hand".to_owned(),
        name: None,
        signal: json!({"ProviderEvent": {"kind": "customer.updated"}}),
        reason: Some("the provider lost it".to_owned()),
    };
    let key = IdempotencyKey::generate();
    app.client.send_signal(run, &signal, &key).await.unwrap();
    let mut conn = connect(&app.options).await;
    let audit: Vec<(String, String)> = sqlx::query_as(
        "select action, reason from engine.audit where run_id = $1 order by at, audit_id",
    )
    .bind(run)
    .fetch_all(&mut conn)
    .await
    .unwrap();
    let told: Vec<_> = audit
        .iter()
        .map(|(action, reason)| format!("{action}: {reason}"))
        .collect();
    assert_eq!(
        told,
        [
            "pause: because",
            "resume: because",
            "signal: the provider lost it"
        ]
    );
    app.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_verb_that_does_not_fit_is_refused_by_name() {
    let app = TestApp::new().await;
    let run = tenant_run(&app).await;
    let shown = app.client.run(run).await.unwrap();
    let revision = shown.revision;
    // What is offered can be done: a run without a deadline has none to fire.
    let mut fire = shown.allowed_actions.iter();
    let fire = fire.find(|one| one.action == "fire-deadline").unwrap();
    assert_eq!(fire.reason.as_deref(), Some("it has no deadline"));
    let name = ActionArgs {
        name: Some("gong".to_owned()),
        ..ActionArgs::default()
    };
    let state = |state| ActionArgs {
        state: Some(state),
        ..ActionArgs::default()
    };
    let none = ActionArgs::default;
    let expected =
        |status: u16, code: &str, field: &str| (status, code.to_owned(), field.to_owned());
    let cases = [
        ("burn", none(), expected(404, "not_found", "")),
        ("signal", none(), expected(404, "not_found", "")),
        (
            "pause",
            name.clone(),
            expected(422, "invalid", "/args/name"),
        ),
        (
            "skip-step",
            none(),
            expected(422, "invalid", "/args/answer"),
        ),
        ("retry", none(), expected(409, "not_allowed", "")),
        ("fire-deadline", name, expected(409, "not_allowed", "")),
        (
            "move",
            state(json!("Nowhere")),
            expected(422, "invalid", "/args/state"),
        ),
        (
            "edit-state",
            state(json!("Ready")),
            expected(409, "not_allowed", ""),
        ),
        ("restart", none(), expected(422, "invalid", "/args/key")),
    ];
    for (verb, args, expected) in cases {
        let refused = act(&app.client, run, verb, revision, args, false).await;
        assert_eq!(refusal(refused), expected, "{verb}");
    }
    let silent = ActOnRun {
        reason: " ".to_owned(),
        revision,
        ..ActOnRun::default()
    };
    let key = IdempotencyKey::generate();
    let silent = app.client.act_on_run(run, "pause", &silent, &key).await;
    assert_eq!(refusal(silent).2, "/reason");
    let mut conn = connect(&app.options).await;
    let support = token(&mut conn, Role::Support, None).await;
    let support = Client::new(&app.url, &support).unwrap();
    let refused = act(&support, run, "pause", revision, none(), false).await;
    assert_eq!(refusal(refused).0, 403);
    assert_eq!(app.client.run(run).await.unwrap().revision, revision);
    app.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_late_signal_is_refused_and_kept_in_sight() {
    let app = TestApp::new().await;
    let run = tenant_run(&app).await;
    let revision = app.client.run(run).await.unwrap().revision;
    let none = ActionArgs::default();
    act(&app.client, run, "terminate", revision, none, false)
        .await
        .unwrap();
    for (id, reason) in [("plain", None), ("by-hand", Some("too late".to_owned()))] {
        let signal = SendSignal {
            id: id.to_owned(),
            name: None,
            signal: json!({"ProviderEvent": {"kind": "customer.updated"}}),
            reason,
        };
        let key = IdempotencyKey::generate();
        let late = app.client.send_signal(run, &signal, &key).await;
        assert_eq!(refusal(late).1, "run_finished");
    }
    let kept = app.client.list_signals(run).await.unwrap();
    let late = kept.iter().filter(|one| one.outcome == SignalOutcome::Late);
    let late: Vec<_> = late.map(|one| one.signal_id.as_str()).collect();
    assert_eq!(late, ["plain", "by-hand"]);

    let filter = RunFilter {
        workflow: Some("dunnning".to_owned()),
        ..RunFilter::default()
    };
    let unknown = app.client.list_runs(&filter).await;
    assert_eq!(refusal(unknown).1, "unknown_workflow");
    app.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_tells_the_signals_that_it_knows_and_what_its_state_does_with_each() {
    let app = TestApp::new().await;
    let customer = app.customer().starter().await;
    let (tenant, id) = (customer.tenant.tenant_id, customer.subscription);
    let subscription = app.client.subscription(tenant, id).await.unwrap();
    let run = subscription.subscription.run_id;
    let told = async |run: uuid::Uuid| {
        let run = app.client.run(run).await.unwrap();
        let told = |kind: SignalKind| {
            let reception = kind.reception.map(|one| format!("{one:?}").to_lowercase());
            let reason = kind.reason.map(|why| format!(": {why}"));
            let reception = reception.unwrap_or_default();
            format!("{} {reception}{}", kind.name, reason.unwrap_or_default())
        };
        run.signals.into_iter().map(told).collect::<Vec<_>>()
    };
    // What moves money comes through its own doors, which are named, and how it looks is told.
    let guarded = told(run).await;
    assert_eq!(guarded.len(), 8);
    for kind in guarded {
        let door = " reject: signal ";
        assert!(
            kind.contains(door) && kind.contains("comes only through"),
            "{kind}"
        );
    }
    let run_of = app.client.run(run).await.unwrap();
    let cancel = run_of.signals.iter().find(|kind| kind.name == "Cancel");
    let sketch = json!({"Cancel": {"when": null, "credit": null}});
    assert_eq!(cancel.unwrap().sketch, sketch);
    customer.advance("15d").await;
    // An invoice that waits to be paid is told by its state.
    let card = "pm_sandbox_insufficient_funds";
    let make = app.customer();
    let owing = make.subscribe("2027-01-31T09:00:00Z", "UTC", "team-monthly", "EUR", card);
    let owing = owing.await;
    let filter = RunFilter {
        workflow: Some("invoice".to_owned()),
        tenant_id: Some(owing.tenant.tenant_id),
        ..RunFilter::default()
    };
    let invoices = app.client.list_runs(&filter).await.unwrap().items;
    let known = told(invoices[0].run_id).await;
    for kind in ["Collect accept", "Credited accept"] {
        assert!(known.iter().any(|one| one == kind), "{known:?}");
    }
    let guarded = known
        .iter()
        .filter(|one| one.contains("(tenure invoice --help)"));
    assert_eq!(guarded.count(), 2, "{known:?}");
    let over = CancelSubscription {
        when: When::Now,
        ..CancelSubscription::default()
    };
    let key = IdempotencyKey::generate();
    let sent = app.client.cancel_subscription(tenant, id, &over, &key);
    sent.await.unwrap();
    customer.advance("0h").await;
    assert_eq!(told(run).await, [""; 0], "a run that has ended takes none");
    app.finish().await;
}

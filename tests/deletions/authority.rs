//! Two people decide about a deletion, and no way but its own doors says that they have.

use std::process::Command;

use serde_json::{Value, json};
use sqlx::PgConnection;
use tenure_client::{
    ActOnRun, ActionArgs, BulkOutcome, BulkResultFilter, BulkStatus, CatchUpPolicy, Client,
    ClientError, ConfirmBulk, IdempotencyKey, NewCreditNote, NewSchedule, OverlapPolicy,
    PrepareBulk, Role, RunDetail, RunFilter, SendSignal, SignalReception, StartRun,
};
use tenure_engine::SYSTEM_TENANT;
use uuid::Uuid;

use super::{act, reaches, request, second, show};
use crate::support::app::{TestApp, token};
use crate::support::process::tenure;
use crate::support::product::Product;
use crate::support::{connect, eventually};

/// Status, code and detail of a refusal.
fn refused<T: std::fmt::Debug>(answer: Result<T, ClientError>) -> (u16, String, String) {
    match answer.unwrap_err() {
        ClientError::Problem(problem) => (
            problem.status,
            problem.code,
            problem.detail.unwrap_or_default(),
        ),
        other => panic!("{other:?}"),
    }
}

async fn send(
    client: &Client,
    run: Uuid,
    signal: &Value,
    reason: Option<&str>,
) -> Result<(), ClientError> {
    let send = SendSignal {
        id: tenure_engine::random_uuid().to_string(),
        name: None,
        signal: signal.clone(),
        reason: reason.map(ToOwned::to_owned),
    };
    let key = IdempotencyKey::generate();
    client.send_signal(run, &send, &key).await.map(drop)
}

/// What the doors in SQL say to a product's login.
async fn in_sql(conn: &mut PgConnection, sql: &'static str, run: Uuid, body: &Value) -> String {
    let answer = sqlx::query(sql).bind(SYSTEM_TENANT.0).bind(run).bind(body);
    let error = answer.execute(conn).await.unwrap_err();
    let told = error.as_database_error().unwrap();
    assert_eq!(told.code().as_deref(), Some("42501"), "{told}");
    told.message().to_owned()
}

const FORGED: [(&str, &str); 3] = [
    ("Approve", "/approve"),
    ("Retry", "/retry"),
    ("Accept", "/accept"),
];

fn forged(name: &str) -> Value {
    json!({ name: { "by": "anyone", "reason": "because" } })
}

/// A verb over all deletions at once, which each of them refuses, and names the door.
async fn refused_in_bulk(app: &TestApp, verb: &str, args: ActionArgs, door: &str) {
    let bulk = PrepareBulk {
        filter: "workflow:deletion".to_owned(),
        verb: verb.to_owned(),
        args,
        reason: "all at once".to_owned(),
        pace: 10,
        stop_after: None,
    };
    let key = IdempotencyKey::generate();
    let bulk = app.client.prepare_bulk(&bulk, &key).await.unwrap();
    let bulk = bulk.bulk_operation_id;
    let confirm = ConfirmBulk {
        runs: 1,
        reason: "one it is".to_owned(),
    };
    let key = IdempotencyKey::generate();
    app.client.confirm_bulk(bulk, &confirm, &key).await.unwrap();
    eventually("the operation is done", async || {
        app.client.bulk_operation(bulk).await.unwrap().status == BulkStatus::Done
    })
    .await;
    let all = BulkResultFilter::default();
    let lines = app.client.list_bulk_results(bulk, &all);
    let line = lines.await.unwrap().items.remove(0);
    assert_eq!(line.outcome, BulkOutcome::Refused);
    let detail = line.detail.unwrap();
    assert!(detail.contains(door), "{detail}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_approval_comes_through_its_own_door_and_not_by_signal_sql_command_or_in_bulk() {
    let app = TestApp::new().await;
    let make = app.customer();
    let customer = make.team("pm_card_visa").await;
    let deletion = request(&app, customer.tenant.tenant_id, 14).await;
    let (id, run) = (deletion.deletion_id, deletion.run_id);
    reaches(&app, id, "requested").await;
    let mut conn = connect(&app.options).await;
    let support = token(&mut conn, Role::Support, None).await;
    let tokens = [support.clone(), app.token.clone()];

    for token in &tokens {
        let client = Client::new(&app.url, token).unwrap();
        for (name, door) in FORGED {
            for reason in [None, Some("ticket 17")] {
                let (status, code, detail) =
                    refused(send(&client, run, &forged(name), reason).await);
                assert_eq!((status, code.as_str()), (409, "own_door"), "{detail}");
                assert!(detail.contains(door), "{detail}");
            }
        }
    }
    let done = Command::new(tenure())
        .args(["run", "signal", &run.to_string(), "--reason", "ticket 17"])
        .arg(forged("Approve").to_string())
        .args(["--url", &app.url, "--token", &support])
        .output()
        .unwrap();
    let told = String::from_utf8_lossy(&done.stderr).into_owned();
    assert!(!done.status.success(), "{told}");
    assert!(told.contains("tenure deletion approve"), "{told}");

    sqlx::raw_sql("set role tenure_client")
        .execute(&mut conn)
        .await
        .unwrap();
    let by_id = "select engine.send_signal($1, $2, 'forged', $3)";
    let told = in_sql(&mut conn, by_id, run, &forged("Approve")).await;
    assert!(
        told.contains("/v1/deletions/{deletion_id}/approve"),
        "{told}"
    );
    let start = "select engine.start_run($1, 'deletion', $2::text, $3)";
    let told = in_sql(&mut conn, start, run, &json!({})).await;
    assert!(told.contains("POST /v1/deletions"), "{told}");

    let approve = ActionArgs {
        signal: Some(forged("Approve")),
        ..ActionArgs::default()
    };
    refused_in_bulk(&app, "signal", approve, "/approve").await;

    let found = show(&app, id).await.deletion;
    assert_eq!(
        (found.state.as_str(), found.approved_by),
        ("requested", None)
    );
    act(&second(&app).await, id, "approve").await.unwrap();
    reaches(&app, id, "cooling_off").await;
    act(&app.client, id, "cancel").await.unwrap();
    reaches(&app, id, "cancelled").await;
    customer.advance("0h").await;
    app.finish().await;
}

/// A deletion begins by a request, neither by a plain start nor by a schedule.
async fn refused_to_start(client: &Client) {
    let start = StartRun {
        workflow: "deletion".to_owned(),
        key: "another".to_owned(),
        input: json!({}),
        tenant_id: SYSTEM_TENANT.0,
        priority: None,
        start_at: None,
        gather: None,
    };
    let key = IdempotencyKey::generate();
    let answer = client.start_run(&start, &key).await;
    assert_eq!(refused(answer).1, "own_door");
    let schedule = NewSchedule {
        tenant_id: SYSTEM_TENANT.0,
        name: "nightly".to_owned(),
        workflow: "deletion".to_owned(),
        input: json!({}),
        cron: "0 3 * * *".to_owned(),
        zone: "UTC".to_owned(),
        overlap: OverlapPolicy::Skip,
        catch_up: CatchUpPolicy::None,
        jitter_seconds: 0,
        reason: "in a hurry".to_owned(),
    };
    let key = IdempotencyKey::generate();
    let answer = client.create_schedule(&schedule, &key).await;
    assert_eq!(refused(answer).1, "own_door");
}

/// The verbs by which a run could be brought past its cooling-off.
fn shortcuts(job: &Value) -> [(&'static str, ActionArgs); 6] {
    let ending = json!({ "Ending": { "job": job } });
    let none = ActionArgs::default();
    [
        (
            "fire-deadline",
            ActionArgs {
                name: Some("cooled-off".to_owned()),
                ..none.clone()
            },
        ),
        (
            "move",
            ActionArgs {
                state: Some(ending.clone()),
                ..none.clone()
            },
        ),
        (
            "edit-state",
            ActionArgs {
                state: Some(ending.clone()),
                ..none.clone()
            },
        ),
        (
            "skip-step",
            ActionArgs {
                answer: Some(json!(true)),
                ..none.clone()
            },
        ),
        (
            "move-deadline",
            ActionArgs {
                name: Some("cooled-off".to_owned()),
                at: Some("2020-01-01T00:00:00Z".parse().unwrap()),
                ..none.clone()
            },
        ),
        (
            "restart",
            ActionArgs {
                key: Some("once-more".to_owned()),
                state: Some(ending),
                ..none.clone()
            },
        ),
    ]
}

/// A run refuses a verb, does not offer it, and names the door.
async fn refused_to_act(
    client: &Client,
    seen: &RunDetail,
    verb: &str,
    args: ActionArgs,
    door: &str,
) {
    let body = ActOnRun {
        reason: "in a hurry".to_owned(),
        revision: seen.revision,
        dry_run: false,
        args,
    };
    let key = IdempotencyKey::generate();
    let answer = client
        .act_on_run(seen.summary.run_id, verb, &body, &key)
        .await;
    let (status, code, detail) = refused(answer);
    assert_eq!(
        (status, code.as_str()),
        (409, "own_door"),
        "{verb}: {detail}"
    );
    assert!(detail.contains(door), "{verb}: {detail}");
    let mut allowed = seen.allowed_actions.iter();
    let allowed = allowed.find(|one| one.action == verb).unwrap();
    assert!(!allowed.allowed, "{verb} is offered");
}

/// No verb ends a deletion, neither by itself nor over many.
async fn refused_to_end(app: &TestApp, run: Uuid) {
    for (verb, door) in [("cancel", "tenure deletion cancel"), ("terminate", "retry")] {
        let seen = app.at_rest(run).await;
        refused_to_act(&app.client, &seen, verb, ActionArgs::default(), door).await;
        refused_in_bulk(app, verb, ActionArgs::default(), door).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn no_verb_ends_a_deletion_and_none_leaves_a_tenant_erased_by_half() {
    let product = Product::fleet().await;
    let (app, birch) = (&product.app, &product.birch);
    product.rows(birch, 12).await;
    product
        .write(
            birch,
            "create function work.refuse() returns trigger language plpgsql as
               $$ begin raise exception 'not while I am here'; end $$;
             create trigger refuse before delete on work.app_user
               for each row execute function work.refuse()",
        )
        .await;
    let deletion = request(app, birch.tenant, 0).await;
    let (id, run) = (deletion.deletion_id, deletion.run_id);
    reaches(app, id, "requested").await;
    refused_to_end(app, run).await;
    assert_eq!(show(app, id).await.deletion.state, "requested");

    act(&second(app).await, id, "approve").await.unwrap();
    reaches(app, id, "failed_step").await;
    refused_to_end(app, run).await;
    assert_eq!(show(app, id).await.deletion.state, "failed_step");
    product
        .write(birch, "drop trigger refuse on work.app_user")
        .await;
    act(&app.client, id, "retry").await.unwrap();
    reaches(app, id, "certified").await;
    product.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refund_begins_with_its_credit_note_and_is_ended_by_admins_alone() {
    let app = TestApp::new().await;
    let make = app.customer();
    let customer = make.team("pm_card_visa").await;
    let tenant = customer.tenant.tenant_id;
    customer.attach("pm_card_pendingRefund").await;
    let start = StartRun {
        workflow: "refund".to_owned(),
        key: "another".to_owned(),
        input: json!({ "credit_note_id": Uuid::nil() }),
        tenant_id: tenant,
        priority: None,
        start_at: None,
        gather: None,
    };
    let key = IdempotencyKey::generate();
    let (_, code, detail) = refused(app.client.start_run(&start, &key).await);
    assert_eq!(code, "own_door", "{detail}");
    assert!(detail.contains("tenure invoice credit"), "{detail}");
    customer.advance("30d").await;
    let july = customer.invoices().await.remove(1);
    let note = NewCreditNote {
        amount: None,
        refund: true,
        reason: "an outage".to_owned(),
        dry_run: false,
    };
    let key = IdempotencyKey::generate();
    let given = app
        .client
        .give_credit_note(tenant, july.invoice_id, &note, &key);
    given.await.unwrap();
    customer.advance("0h").await;
    let filter = RunFilter {
        workflow: Some("refund".to_owned()),
        tenant_id: Some(tenant),
        ..RunFilter::default()
    };
    let refund = app.client.list_runs(&filter).await.unwrap().items[0].run_id;
    let mut conn = connect(&app.options).await;
    let operator = token(&mut conn, Role::Operator, None).await;
    let operator = Client::new(&app.url, &operator).unwrap();
    for verb in ["terminate", "cancel", "pause"] {
        let may = async |client: &Client| {
            let seen = client.run(refund).await.unwrap();
            let mut allowed = seen.allowed_actions.iter();
            allowed.find(|one| one.action == verb).unwrap().allowed
        };
        assert_eq!(may(&operator).await, verb == "pause", "{verb}");
        assert!(may(&app.client).await, "{verb}");
    }
    customer.advance("10d").await;
    app.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn no_verb_start_or_schedule_goes_round_the_approval_or_the_cooling_off() {
    let app = TestApp::new().await;
    let make = app.customer();
    let customer = make.team("pm_card_visa").await;
    let deletion = request(&app, customer.tenant.tenant_id, 14).await;
    let (id, run) = (deletion.deletion_id, deletion.run_id);
    act(&second(&app).await, id, "approve").await.unwrap();
    reaches(&app, id, "cooling_off").await;
    let seen = app.at_rest(run).await;
    let job = seen.data["CoolingOff"]["job"].clone();
    for (verb, args) in shortcuts(&job) {
        refused_to_act(&app.client, &seen, verb, args, "tenure deletion").await;
    }
    let mut signals = seen.signals.iter();
    let approve = signals.find(|one| one.name == "Approve").unwrap();
    assert_eq!(approve.reception, Some(SignalReception::Reject));
    assert!(approve.reason.as_ref().unwrap().contains("/approve"));

    refused_to_start(&app.client).await;

    let found = show(&app, id).await.deletion;
    assert_eq!(
        (found.state.as_str(), found.final_at),
        ("cooling_off", None)
    );
    act(&app.client, id, "cancel").await.unwrap();
    reaches(&app, id, "cancelled").await;
    customer.advance("0h").await;
    app.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_write_off_a_change_of_price_and_a_skip_are_no_plain_signals_either() {
    let app = TestApp::new().await;
    let make = app.customer();
    let customer = make.team("pm_card_visa").await;
    let mut conn = connect(&app.options).await;
    let support = token(&mut conn, Role::Support, None).await;
    let support = Client::new(&app.url, &support).unwrap();
    let run_of = async |workflow: &str| {
        let filter = RunFilter {
            workflow: Some(workflow.to_owned()),
            tenant_id: Some(customer.tenant.tenant_id),
            ..Default::default()
        };
        let page = app.client.list_runs(&filter).await.unwrap();
        page.items[0].run_id
    };
    let subscription = run_of("subscription").await;
    for (signal, door) in [
        (json!("Unpaid"), "dunning"),
        (json!({ "Cancel": { "when": "now" } }), "/subscriptions/"),
    ] {
        let answer = send(&support, subscription, &signal, Some("ticket 17")).await;
        let (_, code, detail) = refused(answer);
        assert_eq!(code, "own_door", "{detail}");
        assert!(detail.contains(door), "{detail}");
    }
    let invoice = run_of("invoice").await;
    for signal in [json!("WriteOff"), json!("Void")] {
        let answer = send(&support, invoice, &signal, Some("ticket 17")).await;
        assert_eq!(refused(answer).1, "own_door");
    }
    // Anybody may tell a run that the provider has news: it looks itself.
    let look = json!({ "ProviderEvent": { "kind": "customer.updated" } });
    send(&support, run_of("tenant").await, &look, None)
        .await
        .unwrap();
    customer.advance("0h").await;
    app.finish().await;
}

//! Private fields over HTTP and the command line: no answer shows one, and who has to see one says why.

use std::process::Command;

use serde_json::{Value, json};
use tenure_client::{AuditQuery, Client, ClientError, RevealField, Role, RunFilter};
use tenure_engine::TenantId;
use uuid::Uuid;

use crate::support;
use crate::support::app::{TestApp, token};
use crate::support::process::tenure;

/// Where the mails of the suite's customers go.
const ADDRESS: &str = "billing@acme.example";

/// A run that has written a mail, and the field that says to whom.
struct Written {
    run: Uuid,
    tenant: TenantId,
    field: String,
}

impl Written {
    async fn new(app: &TestApp) -> Self {
        let customer = app.customer().starter().await;
        customer.advance("15d").await;
        let tenant = customer.tenant.tenant_id;
        let filter = RunFilter {
            workflow: Some("notice".to_owned()),
            tenant_id: Some(tenant),
            ..RunFilter::default()
        };
        let run = app.client.list_runs(&filter).await.unwrap().items[0].run_id;
        let steps = app.client.list_steps(run).await.unwrap();
        let step = steps.iter().find(|step| step.name == "write-mail").unwrap();
        Self {
            run,
            tenant: TenantId(tenant),
            field: format!("/steps/{}/{}/answer/recipient", step.visit, step.seq),
        }
    }
}

async fn reveal(
    client: &Client,
    run: Uuid,
    field: &str,
    reason: &str,
) -> Result<Value, ClientError> {
    let asked = RevealField {
        field: field.to_owned(),
        reason: reason.to_owned(),
    };
    Ok(client.reveal_field(run, &asked).await?.value)
}

/// The client of a token of this role and tenant.
async fn client_of(app: &TestApp, role: Role, tenant: Option<TenantId>) -> Client {
    let mut conn = support::connect(&app.options).await;
    let token = token(&mut conn, role, tenant).await;
    Client::new(&app.url, &token).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn no_answer_about_runs_shows_a_private_field() {
    let app = TestApp::new().await;
    Written::new(&app).await;
    let page = app.client.list_runs(&RunFilter::default()).await.unwrap();
    let mut masks = 0;
    for run in &page.items {
        let run_id = run.run_id;
        let told = [
            json!(app.client.run(run_id).await.unwrap()),
            json!(app.client.list_steps(run_id).await.unwrap()),
            json!(app.client.list_signals(run_id).await.unwrap()),
            json!(app.client.list_transitions(run_id).await.unwrap()),
        ];
        for told in told.map(|told| told.to_string()) {
            assert!(!told.contains(ADDRESS), "{}: {told}", run.workflow);
            masks += told.matches(tenure_client::MASK).count();
        }
    }
    // The profile that the customer was made of, and at least one mail.
    assert!(masks >= 5, "{masks} of {} runs", page.items.len());
    assert!(page.next_cursor.is_none(), "all runs were looked at");
    app.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_has_to_see_a_private_field_says_why_and_the_audit_tells() {
    let app = TestApp::new().await;
    let Written { run, tenant, field } = Written::new(&app).await;
    for (role, tenant) in [(Role::Support, None), (Role::Operator, Some(tenant))] {
        let client = client_of(&app, role, tenant).await;
        let seen = reveal(&client, run, &field, "ticket 17").await.unwrap();
        assert_eq!(seen, ADDRESS);
        let shown = client.run(run).await.unwrap();
        let verb = shown
            .allowed_actions
            .iter()
            .find(|one| one.action == "reveal");
        assert!(verb.unwrap().allowed, "{verb:?}");
    }
    let query = AuditQuery {
        run_id: Some(run),
        action: Some("reveal".to_owned()),
        ..AuditQuery::default()
    };
    let lines = app.client.list_audit(&query).await.unwrap().items;
    let told: Vec<_> = lines
        .iter()
        .map(|line| {
            (
                line.role.as_str(),
                line.reason.as_str(),
                &line.after["field"],
            )
        })
        .collect();
    let field_told = json!(field);
    let expected = [
        ("operator", "ticket 17", &field_told),
        ("support", "ticket 17", &field_told),
    ];
    assert_eq!(told, expected);
    assert!(!format!("{lines:?}").contains(ADDRESS));
    app.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_private_field_is_not_revealed_to_everybody_nor_by_mistake() {
    let app = TestApp::new().await;
    let Written { run, tenant, field } = Written::new(&app).await;
    let viewer = client_of(&app, Role::Viewer, None).await;
    let stranger = app.customer().starter().await;
    let stranger = TenantId(stranger.tenant.tenant_id);
    assert_ne!(stranger, tenant);
    let stranger = client_of(&app, Role::Operator, Some(stranger)).await;
    let subject = field.replace("recipient", "subject");
    for (client, field, reason, status, pointer) in [
        (&viewer, field.as_str(), "curious", 403, None),
        (&stranger, &field, "curious", 404, None),
        (&app.client, &field, " ", 422, Some("/reason")),
        (&app.client, &subject, "why not", 422, Some("/field")),
        (&app.client, "/data/nowhere", "why not", 422, Some("/field")),
    ] {
        let refused = reveal(client, run, field, reason).await.unwrap_err();
        let problem = refused.problem().unwrap();
        assert_eq!(problem.status, status, "{field}: {problem:?}");
        let place = problem.errors.first().map(|error| error.pointer.as_str());
        assert_eq!(place, pointer, "{field}: {problem:?}");
    }
    let shown = viewer.run(run).await.unwrap();
    let verb = shown
        .allowed_actions
        .iter()
        .find(|one| one.action == "reveal");
    let why = verb.and_then(|verb| verb.reason.as_deref());
    assert_eq!(why, Some("needs role support"));
    let query = AuditQuery {
        action: Some("reveal".to_owned()),
        ..AuditQuery::default()
    };
    assert!(
        app.client
            .list_audit(&query)
            .await
            .unwrap()
            .items
            .is_empty()
    );
    app.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_command_line_shows_masks_and_reveals_a_field() {
    let app = TestApp::new().await;
    let Written { run, field, .. } = Written::new(&app).await;
    let ask = |words: &[&str]| {
        let output = Command::new(tenure())
            .args(words)
            .args(["--url", &app.url, "--token", &app.token])
            .output()
            .unwrap();
        let text = [output.stdout, output.stderr].concat();
        (output.status.success(), String::from_utf8(text).unwrap())
    };
    let run = run.to_string();
    let (done, told) = ask(&["run", "steps", &run]);
    assert!(
        done && told.contains("[private]") && !told.contains(ADDRESS),
        "{told}"
    );
    let because = ["--reason", "ticket 17"];
    let asked = [&["run", "reveal", &run, &field][..], &because].concat();
    assert_eq!(ask(&asked), (true, format!("{ADDRESS}\n")));
    let (done, told) = ask(&[&["run", "reveal", &run, "/data"][..], &because].concat());
    assert!(!done && told.contains("/data is not private"), "{told}");
    app.finish().await;
}

/// Nobody who sends a mask back means the word itself.
#[test]
fn server_and_client_mean_the_same_mask() {
    assert_eq!(tenure_client::MASK, tenure_engine::MASK);
}

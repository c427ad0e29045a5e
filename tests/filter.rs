//! The filter language over HTTP: the same words for the list, the count and the command line.

use serde_json::json;
use tenure_client::{
    AssignDunningPolicy, Client, ClientError, DunningScope, IdempotencyKey, LoadDunningPolicy,
    NewTenant, Role, RunCountFilter, RunFilter, RunSummary,
};
use tenure_engine::TenantId;

use crate::support::app::{TestApp, token};
use crate::support::connect;

async fn find(client: &Client, filter: &str) -> Result<Vec<RunSummary>, ClientError> {
    let mut found = Vec::new();
    let mut asked = RunFilter {
        filter: Some(filter.to_owned()),
        // So that the pages are many.
        limit: Some(2),
        ..RunFilter::default()
    };
    loop {
        let page = client.list_runs(&asked).await?;
        found.extend(page.items);
        if page.next_cursor.is_none() {
            break;
        }
        asked.cursor = page.next_cursor;
    }
    let counted = RunCountFilter {
        filter: asked.filter,
    };
    let count = client.count_runs(&counted).await?;
    assert_eq!(usize::try_from(count.runs), Ok(found.len()), "{filter}");
    assert!(!count.more);
    Ok(found)
}

async fn workflows(client: &Client, filter: &str) -> Vec<String> {
    let mut found: Vec<_> = find(client, filter)
        .await
        .unwrap()
        .into_iter()
        .map(|run| format!("{} {}", run.workflow, run.state))
        .collect();
    found.sort();
    found
}

async fn refusal(client: &Client, filter: &str) -> (String, String) {
    let error = find(client, filter).await.unwrap_err();
    let problem = error.problem().unwrap().clone();
    assert_eq!(problem.status, 400);
    (problem.code, problem.detail.unwrap())
}

async fn tenant(client: &Client, name: &str, email: &str) -> TenantId {
    let new = NewTenant {
        name: name.to_owned(),
        email: email.to_owned(),
        zone: "UTC".to_owned(),
        locale: None,
        test_clock: None,
        legal_entity: None,
    };
    let key = IdempotencyKey::generate();
    TenantId(client.create_tenant(&new, &key).await.unwrap().tenant_id)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_subscriber_is_found_by_what_support_knows_of_it() {
    let app = TestApp::new().await;
    let customer = app.customer();
    let acme = customer.starter().await;
    acme.advance("15d").await;
    let birch = tenant(&app.client, "Birch & Sons", "office@birch.example").await;
    let client = &app.client;
    assert_eq!(
        workflows(client, "tenant:acme workflow:subscription,invoice").await,
        ["invoice Paid", "subscription Active"]
    );
    assert_eq!(
        workflows(client, "plan:starter-monthly state:active").await,
        ["subscription Active"]
    );
    assert_eq!(
        workflows(
            client,
            "workflow:subscription attr.currency:EUR -cancelled:true period_ends:2027-03-14"
        )
        .await,
        ["subscription Active"]
    );
    assert_eq!(
        workflows(client, "plan:starter-monthly period_ends:<2027-03-14").await,
        [""; 0]
    );
    assert_eq!(
        workflows(client, "number:INV-00001 total:>1").await.len(),
        1
    );
    assert_eq!(
        workflows(client, "age:>14d age:<16d workflow:subscription")
            .await
            .len(),
        1
    );
    assert_eq!(
        workflows(client, "started:2027-01-31 workflow:subscription")
            .await
            .len(),
        1
    );
    assert_eq!(
        workflows(client, "tenant:office@birch").await,
        ["tenant Ready"]
    );
    let by_id = format!("workflow:tenant -tenant:{}", birch.0);
    assert_eq!(workflows(client, &by_id).await.len(), 1);
    let invoice = &find(client, "workflow:invoice").await.unwrap()[0];
    let shown = client
        .run(invoice.run_id)
        .await
        .unwrap()
        .attributes
        .unwrap();
    assert_eq!(shown["currency"], "EUR");
    assert_eq!(shown["number"], json!("INV-00001"));
    let offered = client.list_workflows().await.unwrap();
    let dunning = offered
        .iter()
        .find(|one| one.workflow == "dunning")
        .unwrap();
    assert_eq!(dunning.attributes[0].name, "currency");

    let mut conn = connect(&app.options).await;
    let token = token(&mut conn, Role::Support, Some(birch)).await;
    let own = Client::new(&app.url, &token).unwrap();
    assert_eq!(workflows(&own, "").await, ["tenant Ready"]);
    assert_eq!(refusal(&own, "tenant:acme").await.0, "unknown_tenant");
    app.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_filter_that_cannot_be_met_is_refused_with_what_there_is() {
    let app = TestApp::new().await;
    let client = &app.client;
    tenant(client, "Acme One", "a@one.example").await;
    tenant(client, "Acme Two", "a@two.example").await;
    for (filter, code, detail) in [
        (
            "status:lost",
            "invalid_filter",
            "filter, at character 8: no status \"lost\"; there are due,",
        ),
        (
            "workflow:dunnning",
            "unknown_workflow",
            "no workflow is called \"dunnning\"; there are backfill, backfill-range, bulk, charge",
        ),
        (
            "workflow:dunning state:grace",
            "unknown_state",
            "no state is called \"grace\"; there are Clear, PastDue, UnderWay, and the attributes currency, rungs, since, stage; see /v1/workflows",
        ),
        (
            "workflow:dunning plan:x",
            "invalid_filter",
            "filter, at character 18: no field \"plan\"; there are workflow, state,",
        ),
        (
            "tenant:acme",
            "unknown_tenant",
            "several tenants match \"acme\": Acme Two, Acme One; write more",
        ),
        (
            "tenant:nobody",
            "unknown_tenant",
            "no tenant matches \"nobody\"",
        ),
    ] {
        let (found, told) = refusal(client, filter).await;
        assert_eq!(found, code);
        assert!(told.starts_with(detail), "{told}");
    }
    let twice = RunFilter {
        workflow: Some("dunning".to_owned()),
        filter: Some("workflow:dunning".to_owned()),
        ..RunFilter::default()
    };
    let twice = client.list_runs(&twice).await.unwrap_err();
    assert_eq!(twice.problem().unwrap().code, "invalid_query");
    app.finish().await;
}

/// Lets all tenants go by a policy: grace on the second day of a debt, the end on the fourteenth.
async fn give_grace(client: &Client) {
    let load = LoadDunningPolicy {
        document: json!({
            "ladders": { "soft": { "days": [1, 3, 5, 7] } },
            "steps": [{ "name": "time to pay", "day": 2, "action": "grace" }],
            "end": { "day": 14, "action": "cancel" },
        }),
        reason: "a story".to_owned(),
    };
    let once = IdempotencyKey::generate();
    let loaded = client.load_dunning_policy("story", &load, &once).await;
    loaded.unwrap();
    let assign = AssignDunningPolicy {
        scope: DunningScope::Default,
        subject: String::new(),
        policy: Some("story".to_owned()),
        reason: "a story".to_owned(),
    };
    let once = IdempotencyKey::generate();
    let assigned = client.assign_dunning_policy(&assign, &once).await;
    assigned.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_debt_in_grace_is_found_by_its_stage_which_is_no_state() {
    let app = TestApp::new().await;
    let client = &app.client;
    give_grace(client).await;
    let make = app.customer();
    let acme = make.team("pm_card_visa").await;
    acme.attach("pm_sandbox_insufficient_funds").await;
    acme.advance("30d").await;
    let found = "workflow:dunning stage:grace age:>1d tenant:acme";
    assert_eq!(workflows(client, found).await, [""; 0], "not yet");
    acme.advance("4d").await;
    assert_eq!(workflows(client, found).await, ["dunning PastDue"]);
    let both = "workflow:dunning state:past-due stage:grace age:>3d attempt:>2 tenant:acme";
    assert_eq!(workflows(client, both).await, [""; 0], "no attempt failed");
    // Grace is how a debt stands, and PastDue is where its run is: who asks for the one by the name
    // of the other is told both.
    let state = "workflow:dunning state:grace age:>3d attempt:>2 tenant:acme";
    let (code, told) = refusal(client, state).await;
    assert_eq!(code, "unknown_state");
    assert!(told.contains("there are Clear, PastDue"), "{told}");
    assert!(told.contains("the attributes currency,"), "{told}");
    app.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_run_started_is_found_by_its_id() {
    let app = TestApp::new().await;
    let customer = app.customer().team("pm_card_visa").await;
    customer.advance("1d").await;
    let [invoice] = &find(&app.client, "workflow:invoice").await.unwrap()[..] else {
        panic!("one invoice");
    };
    let of = |parent: uuid::Uuid| format!("parent:{parent}");
    let started = find(&app.client, &of(invoice.run_id)).await.unwrap();
    let payment = started.iter().find(|run| run.workflow == "payment");
    let payment = payment.expect("its payment");
    let detail = app.client.run(payment.run_id).await.unwrap();
    assert_eq!(detail.parent_run_id, Some(invoice.run_id));
    // All others, also those that nobody's run started.
    let others = format!("-{}", of(invoice.run_id));
    let others = find(&app.client, &others).await.unwrap();
    let all = find(&app.client, "").await.unwrap();
    assert!(others.iter().any(|run| run.run_id == invoice.run_id));
    assert_eq!(others.len() + started.len(), all.len());
    assert_eq!(find(&app.client, &of(uuid::Uuid::nil())).await.unwrap(), []);
    let (code, detail) = refusal(&app.client, "parent:invoice").await;
    assert_eq!(code, "invalid_filter");
    assert!(detail.contains("no id of a run"), "{detail}");
    app.finish().await;
}

//! Retention and legal holds through the API, the client and the command line.

use std::process::Command;
use std::time::Duration;

use tenure_client::{
    Client, ClientError, IdempotencyKey, LegalHoldFilter, LiftLegalHold, NewTenant, PlaceLegalHold,
    PutRetention, RetentionAction, Role, RunFilter,
};
use tenure_engine::TenantId;
use tenure_engine::retention::{self, Retention, RetentionConfig};
use uuid::Uuid;

use crate::engine::workflows::{Errand, Outside, registry};
use crate::support::app::{TestApp, token};
use crate::support::engine::TestEngine;
use crate::support::process::tenure;
use crate::support::{self, eventually};

/// A tenant, and the run that looks after it.
async fn add_tenant(app: &TestApp, name: &str) -> (Uuid, Uuid) {
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
    let tenant_id = made.unwrap().tenant_id;
    let filter = RunFilter {
        tenant_id: Some(tenant_id),
        ..RunFilter::default()
    };
    eventually("the tenant has a run", async || {
        !app.client
            .list_runs(&filter)
            .await
            .unwrap()
            .items
            .is_empty()
    })
    .await;
    let run = app.client.list_runs(&filter).await.unwrap().items[0].run_id;
    (tenant_id, run)
}

fn code<T: std::fmt::Debug>(answer: Result<T, ClientError>) -> (u16, String) {
    match answer.unwrap_err() {
        ClientError::Problem(problem) => (problem.status, problem.code),
        other => panic!("{other:?}"),
    }
}

fn refused(status: u16, code: &str) -> (u16, String) {
    (status, code.to_owned())
}

fn hold_on(tenant_id: Option<Uuid>, run_id: Option<Uuid>) -> PlaceLegalHold {
    PlaceLegalHold {
        tenant_id,
        run_id,
        reason: "a case at court".to_owned(),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_policy_is_decided_on_and_read_back() {
    let app = TestApp::new().await;
    let client = &app.client;
    let fresh = IdempotencyKey::generate;
    let declared = client.list_retention().await.unwrap();
    assert!(declared.iter().any(|one| one.workflow == "invoice"));
    assert!(declared.iter().all(|one| one.changed_by.is_none()));
    let mut put = PutRetention {
        action: RetentionAction::Archive,
        keep_days: Some(3_650),
        reason: "as the law asks".to_owned(),
    };
    let decided = client
        .put_retention("invoice", &put, &fresh())
        .await
        .unwrap();
    assert_eq!(decided.keep_days, Some(3_650));
    assert_eq!(decided.reason.as_deref(), Some("as the law asks"));
    let all = client.list_retention().await.unwrap();
    assert!(all.contains(&decided));
    let unknown = client.put_retention("none", &put, &fresh()).await;
    assert_eq!(code(unknown), refused(404, "unknown_workflow"));
    put.action = RetentionAction::Keep;
    let both = client.put_retention("invoice", &put, &fresh()).await;
    assert_eq!(code(both), refused(422, "invalid"));
    put.keep_days = None;
    let kept = client
        .put_retention("invoice", &put, &fresh())
        .await
        .unwrap();
    assert_eq!((kept.action, kept.keep_days), (RetentionAction::Keep, None));
    app.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hold_is_placed_shown_and_lifted_and_a_tenant_does_not_lift_its_own() {
    let app = TestApp::new().await;
    let client = &app.client;
    let fresh = IdempotencyKey::generate;
    let (tenant, run) = add_tenant(&app, "Acme").await;
    let (other, _) = add_tenant(&app, "Birch").await;
    let neither = client
        .place_legal_hold(&hold_on(None, None), &fresh())
        .await;
    assert_eq!(code(neither), refused(422, "invalid"));
    let key = fresh();
    let on_run = hold_on(None, Some(run));
    let placed = client.place_legal_hold(&on_run, &key).await.unwrap();
    let again = client.place_legal_hold(&on_run, &key).await.unwrap();
    assert_eq!(
        placed, again,
        "the same request is answered as the first time"
    );
    let twice = client.place_legal_hold(&on_run, &fresh()).await;
    assert_eq!(code(twice), refused(409, "not_allowed"));
    let on_tenant = hold_on(Some(tenant), None);
    let wide = client.place_legal_hold(&on_tenant, &fresh()).await.unwrap();
    let shown = client.run(run).await.unwrap();
    assert_eq!(shown.legal_holds, [placed.clone(), wide.clone()]);
    let evidence = shown
        .why
        .evidence
        .iter()
        .filter(|one| one.label == "legal hold");
    assert_eq!(evidence.count(), 2);

    let mut conn = support::connect(&app.options).await;
    let own = token(&mut conn, Role::Operator, Some(TenantId(tenant))).await;
    let own = Client::new(&app.url, &own).unwrap();
    let theirs = token(&mut conn, Role::Operator, Some(TenantId(other))).await;
    let theirs = Client::new(&app.url, &theirs).unwrap();
    let viewer = token(&mut conn, Role::Viewer, None).await;
    let viewer = Client::new(&app.url, &viewer).unwrap();
    let all = LegalHoldFilter::default();
    assert_eq!(own.list_legal_holds(&all).await.unwrap().items.len(), 2);
    assert!(
        theirs
            .list_legal_holds(&all)
            .await
            .unwrap()
            .items
            .is_empty()
    );
    let lift = LiftLegalHold {
        reason: "it was won".to_owned(),
    };
    let refusal = own.lift_legal_hold(wide.hold_id, &lift, &fresh()).await;
    assert_eq!(code(refusal), refused(404, "not_found"));
    let refusal = viewer.lift_legal_hold(wide.hold_id, &lift, &fresh()).await;
    assert_eq!(code(refusal), refused(403, "forbidden"));
    for hold in [placed, wide] {
        let lifted = client.lift_legal_hold(hold.hold_id, &lift, &fresh()).await;
        assert_eq!(lifted.unwrap(), hold);
    }
    assert!(client.run(run).await.unwrap().legal_holds.is_empty());
    app.finish().await;
}

fn command(args: &[&str]) -> (bool, String) {
    let output = Command::new(tenure()).args(args).output().unwrap();
    let text = [output.stdout, output.stderr].concat();
    (output.status.success(), String::from_utf8(text).unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn the_command_line_decides_and_holds() {
    let app = TestApp::new().await;
    let (tenant, _) = add_tenant(&app, "Acme").await;
    let tenant = tenant.to_string();
    let ask = |args: &[&str]| {
        let api = ["--url", &app.url, "--token", &app.token];
        command(&[&["retention"], args, &api].concat())
    };
    let why = ["--reason", "as agreed"];
    let (done, text) = ask(&[&["set", "invoice", "--archive-after", "30"][..], &why].concat());
    assert!(done && text.contains("archive after 30 days"), "{text}");
    let (_, text) = ask(&["list"]);
    assert!(
        text.contains("archive after 30 days") && text.contains("as agreed"),
        "{text}"
    );
    let (done, text) = ask(&[&["set", "invoice"][..], &why].concat());
    assert!(!done, "{text}");
    let (done, held) = ask(&[&["hold", "--tenant", &tenant][..], &why].concat());
    assert!(done && held.contains(&tenant), "{held}");
    let id = held.split_whitespace().next().unwrap().to_owned();
    let (_, text) = ask(&["holds", "--tenant", &tenant]);
    assert_eq!(text, held);
    let (done, text) = ask(&[&["lift", &id][..], &why].concat());
    assert!(done && text.contains("lifted"), "{text}");
    assert_eq!(ask(&["holds"]).1, "");
    app.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_command_line_shows_a_run_of_the_archive() {
    let engine = TestEngine::new(registry(&Outside::default())).await;
    let run = engine.start::<Errand>("a", &0).await;
    engine.drain().await;
    let folder = tempfile::tempdir().unwrap();
    let config = RetentionConfig {
        archive_folder: Some(folder.path().to_owned()),
        ..RetentionConfig::default()
    };
    let mut conn = engine.pool().acquire().await.unwrap();
    let act = tenure_engine::operator::Act {
        actor: "maria".to_owned(),
        role: "operator".to_owned(),
        reason: "as agreed".to_owned(),
        revision: 0,
    };
    let registry = engine.client.registry();
    retention::decide(&mut conn, registry, "errand", Retention::Archive(1), &act)
        .await
        .unwrap();
    drop(conn);
    engine.advance(Duration::from_secs(24 * 3_600));
    let swept = retention::sweep(engine.pool(), registry, &config).await;
    assert_eq!((swept.archived, swept.dropped), (1, 1));
    let month = std::fs::read_dir(folder.path()).unwrap().next().unwrap();
    let files = std::fs::read_dir(month.unwrap().path()).unwrap();
    let mut paths = files.map(|file| file.unwrap().path().display().to_string());
    let file = paths.find(|path| path.ends_with(".jsonl.gz")).unwrap();
    let show = |run: &str| command(&["run", "show", run, "--archive", &file]);
    let (done, text) = show(&run.to_string());
    assert!(done, "{text}");
    let shown: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!(shown["run"]["key"], "a");
    assert_eq!(shown["run"]["output"]["answers"][0], "first done");
    assert_eq!(shown["steps"].as_array().unwrap().len(), 5);
    let (done, text) = show(&Uuid::max().to_string());
    assert!(!done && text.contains("has no run"), "{text}");
}

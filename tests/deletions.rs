//! The deletion of a tenant, from the request to a certificate that holds: in three tenancy models, at
//! the provider, under holds, failures and cut connections; and what it must not touch.

use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;
use std::time::Duration;

use serde_json::Value;
use sqlx::postgres::PgConnectOptions;
use sqlx::{AssertSqlSafe, Connection as _};
use tenure_api::auth::{self, NewToken};
use tenure_client::{
    Client, ClientError, DataArchiveFilter, Deletion, DeletionAct, DeletionDetail, IdempotencyKey,
    LiftDataHold, LiftLegalHold, LoadDataMap, NewSubscription, PlaceDataHold, PlaceLegalHold,
    RequestDeletion, Role, StartExport, StartRun, SubscriptionStatus,
};
use tenure_engine::testkit::{Play, PlayError, Scene, fault_matrix};
use tenure_workflows::certificate::{self, LocalSigningKey, SigningKey as _};
use tenure_workflows::data_map;
use tenure_workflows::deletion::door::{self, NewDeletion, Verb};
use tenure_workflows::deletion::{DeletionRow, own};
use tenure_workflows::export::Token;
use uuid::Uuid;

use crate::exports;
use crate::keeping::{self, Office};
use crate::support;
use crate::support::app::{CERTIFICATE_KEY, SANDBOX_KEY, TestApp};
use crate::support::matrix::assert_borne;
use crate::support::process::tenure;
use crate::support::product::{Member, Product, TABLES, map_of};

mod acts;
mod authority;
mod crawl;
mod kill;
mod law;
mod looks;

fn code<T: std::fmt::Debug>(answer: Result<T, ClientError>) -> (u16, String) {
    match answer.unwrap_err() {
        ClientError::Problem(problem) => (problem.status, problem.detail.unwrap_or_default()),
        other => panic!("{other:?}"),
    }
}

fn because(reason: &str) -> DeletionAct {
    DeletionAct {
        reason: reason.to_owned(),
    }
}

/// A second admin.
async fn second(app: &TestApp) -> Client {
    Client::new(&app.url, &second_token(&app.options, "grace").await).unwrap()
}

/// Another admin's token.
pub(crate) async fn second_token(options: &PgConnectOptions, name: &str) -> String {
    let mut conn = support::connect(options).await;
    let mut tx = conn.begin().await.unwrap();
    tenure_workflows::as_control(&mut tx).await.unwrap();
    let new = NewToken {
        name: name.to_owned(),
        role: Role::Admin,
        tenant: None,
        days: 1,
    };
    let token = auth::create(&mut tx, &new).await.unwrap();
    tx.commit().await.unwrap();
    token
}

fn wanted(tenant_id: Uuid, cooling_off_days: i32) -> RequestDeletion {
    RequestDeletion {
        tenant_id,
        cooling_off_days,
        backup_days: 35,
        export_link_days: None,
        reason: "the contract has ended".to_owned(),
    }
}

async fn request(app: &TestApp, tenant: Uuid, cooling_off_days: i32) -> Deletion {
    let key = IdempotencyKey::generate();
    let wanted = wanted(tenant, cooling_off_days);
    app.client.request_deletion(&wanted, &key).await.unwrap()
}

async fn act(client: &Client, id: Uuid, verb: &str) -> Result<Deletion, ClientError> {
    let key = IdempotencyKey::generate();
    client
        .act_on_deletion(id, verb, &because("ticket 17"), &key)
        .await
}

async fn show(app: &TestApp, id: Uuid) -> DeletionDetail {
    app.client.deletion(id).await.unwrap()
}

async fn reaches(app: &TestApp, id: Uuid, state: &str) -> DeletionDetail {
    let mut last = show(app, id).await;
    let tick = tokio::time::Duration::from_millis(20);
    let mut tick = tokio::time::interval(tick);
    let within = tokio::time::Duration::from_secs(120);
    let reached = tokio::time::timeout(within, async {
        while last.deletion.state != state {
            tick.tick().await;
            last = show(app, id).await;
        }
    });
    let reached = reached.await.is_ok();
    assert!(reached, "it is {:?}, not {state}", last.deletion);
    last
}

/// From the request to the certificate, without time to think.
pub(crate) async fn delete(app: &TestApp, tenant: Uuid) -> (Uuid, certificate::Verified) {
    let id = request(app, tenant, 0).await.deletion_id;
    act(&second(app).await, id, "approve").await.unwrap();
    reaches(app, id, "certified").await;
    (id, verified(app, id).await)
}

async fn verified(app: &TestApp, id: Uuid) -> certificate::Verified {
    let signed = app.client.deletion_certificate(id).await.unwrap();
    let text = serde_json::to_string_pretty(&signed).unwrap();
    let key = LocalSigningKey::parse(CERTIFICATE_KEY).unwrap();
    certificate::verify(&text, &key.public()).unwrap()
}

fn table<'a>(
    verified: &'a certificate::Verified,
    name: &str,
    action: &str,
) -> &'a certificate::Table {
    let mut tables = verified.tables.iter();
    let found = tables.find(|table| table.name == name && table.action == action);
    found.unwrap_or_else(|| panic!("{action} {name} in {:?}", verified.tables))
}

/// All rows of some members, to the byte.
async fn everything(product: &Product, members: &[&Member]) -> Vec<(String, Vec<Value>)> {
    let mut all = Vec::new();
    for member in members {
        for table in TABLES {
            let rows = product.contents(member, &member.place, table).await;
            all.push((format!("{} {table}", member.name), rows));
        }
    }
    all
}

#[tokio::test(flavor = "multi_thread")]
#[expect(clippy::too_many_lines, reason = "one story, told in order")]
async fn a_tenant_goes_in_every_model_and_the_others_stay_to_the_byte() {
    let product = Product::fleet().await;
    for member in product.members() {
        product.rows(member, 120).await;
    }
    let app = &product.app;
    let others = [&product.salthouse, &product.quarry];
    let before = everything(&product, &others).await;
    let counts: BTreeMap<_, _> = product
        .counts(&product.birch, &product.birch.place)
        .await
        .into_iter()
        .collect();

    let found = app
        .client
        .preview_deletion(product.birch.tenant)
        .await
        .unwrap();
    assert!(found.obstacles.is_empty(), "{:?}", found.obstacles);
    let steps = found.steps.iter();
    let tasks: i64 = steps
        .filter(|one| one.name == "work.task" && one.action == "delete")
        .map(|one| one.rows)
        .sum();
    assert_eq!(tasks, counts["task"]);
    assert_eq!(
        product
            .contents(&product.birch, &product.birch.place, "task")
            .await
            .len(),
        usize::try_from(tasks).unwrap()
    );

    for member in [&product.birch, &product.cedar, &product.ilex] {
        let counts = product.counts(member, &member.place).await;
        let counts: BTreeMap<_, _> = counts.into_iter().collect();
        let (id, verified) = delete(app, member.tenant).await;
        assert_eq!(verified.subject, member.tenant.to_string());
        let prefix = if member.place.schema.is_some() {
            ""
        } else {
            "work."
        };
        let action = if prefix.is_empty() || member.place.source == "vault" {
            "drop"
        } else {
            "delete"
        };
        let task = table(&verified, &format!("{prefix}task"), action);
        assert!(counts["task"] >= 120, "{}", member.name);
        assert_eq!((task.found, task.erased), (counts["task"], counts["task"]));
        let invoice = table(&verified, &format!("{prefix}invoice"), "mask");
        assert!(invoice.basis.is_some());
        assert_eq!((invoice.masked, invoice.erased), (counts["invoice"], 0));
        let rows = product.contents(member, &member.place, "invoice").await;
        assert_eq!(rows.len(), usize::try_from(invoice.masked).unwrap());
        for row in rows {
            assert_eq!(row["ordered_by"], Value::Null);
            assert_eq!(row["buyer_name"], "erased", "{row}");
        }
        let mut conn = product.connect(&member.place).await;
        let left: i64 =
            sqlx::query_scalar("select count(*) from tenure.done where name like 'erase/%'")
                .fetch_one(&mut conn)
                .await
                .unwrap();
        assert_eq!(left, 0, "the ledger keeps nothing of {id}");
    }
    for gone in ["task", "app_user", "comment", "attachment"] {
        assert!(
            product
                .contents(&product.birch, &product.birch.place, gone)
                .await
                .is_empty()
        );
    }
    assert_eq!(everything(&product, &others).await, before);
    product.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn two_people_decide_once_and_the_first_can_take_it_back() {
    let app = TestApp::new().await;
    let make = app.customer();
    let customer = make.team("pm_card_visa").await;
    let tenant = customer.tenant.tenant_id;
    let grace = second(&app).await;
    let id = request(&app, tenant, 14).await.deletion_id;
    reaches(&app, id, "requested").await;

    let (status, detail) = code(act(&app.client, id, "approve").await);
    assert_eq!(status, 409);
    assert!(detail.contains("a second person"), "{detail}");
    let key = IdempotencyKey::generate();
    let again = app.client.request_deletion(&wanted(tenant, 14), &key).await;
    let (status, detail) = code(again);
    assert_eq!(status, 409);
    assert!(detail.contains(&id.to_string()), "{detail}");
    for (days, field) in [(31, "cooling_off_days"), (-1, "cooling_off_days")] {
        let key = IdempotencyKey::generate();
        let refused = app
            .client
            .request_deletion(&wanted(tenant, days), &key)
            .await;
        let (status, detail) = code(refused);
        assert_eq!(status, 422);
        assert!(detail.contains(field), "{detail}");
    }

    act(&grace, id, "approve").await.unwrap();
    let cooling = reaches(&app, id, "cooling_off").await.deletion;
    assert_eq!(cooling.approved_by.as_deref(), Some("grace"));
    let start = StartRun {
        workflow: "tenant".to_owned(),
        key: "another".to_owned(),
        input: serde_json::json!({}),
        tenant_id: tenant,
        priority: None,
        start_at: None,
        gather: None,
    };
    let key = IdempotencyKey::generate();
    let (status, detail) = code(app.client.start_run(&start, &key).await);
    assert_eq!(status, 409);
    assert!(detail.contains("being deleted"), "{detail}");
    let more = NewSubscription {
        plan: "starter-monthly".to_owned(),
        currency: "USD".to_owned(),
        ..NewSubscription::default()
    };
    let key = IdempotencyKey::generate();
    assert_eq!(code(app.client.subscribe(tenant, &more, &key).await).0, 409);

    act(&app.client, id, "cancel").await.unwrap();
    reaches(&app, id, "cancelled").await;
    assert_eq!(code(act(&grace, id, "approve").await).0, 409);
    let key = IdempotencyKey::generate();
    app.client.subscribe(tenant, &more, &key).await.unwrap();
    customer.advance("0h").await;
    assert_eq!(
        customer.subscription().await.status,
        SubscriptionStatus::Active
    );

    app.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
#[expect(clippy::too_many_lines, reason = "one story, told in order")]
async fn a_paying_tenant_is_billed_to_the_end_then_forgotten_and_its_books_stay() {
    let app = TestApp::sealed().await;
    let make = app.customer();
    let customer = make.team("pm_card_visa").await;
    let other = make.team("pm_card_visa").await;
    customer.advance("40d").await;
    other.advance("40d").await;
    let tenant = customer.tenant.tenant_id;
    let invoices = customer.ledger().await;
    assert_eq!(invoices.len(), 2, "{invoices:?}");
    let kept = other.ledger().await;
    let mut conn = support::connect(&app.options).await;
    let provider: String =
        sqlx::query_scalar("select provider_customer_id from app.customer where tenant_id = $1")
            .bind(tenant)
            .fetch_one(&mut conn)
            .await
            .unwrap();

    let id = request(&app, tenant, 0).await.deletion_id;
    act(&second(&app).await, id, "approve").await.unwrap();
    // The tenant lives by a test clock, and so does the end of its subscription.
    reaches(&app, id, "ending").await;
    customer.advance("0h").await;
    reaches(&app, id, "certified").await;
    let verified = verified(&app, id).await;
    let notices = table(&verified, "notice", "delete");
    assert!(notices.erased > 0 && notices.found == notices.erased);
    let invoice = table(&verified, "invoice", "keep");
    assert_eq!((invoice.kept, invoice.erased), (2, 0));
    assert_eq!(invoice.basis.as_deref(), Some(own::BOOKS));
    let keys = table(&verified, "data keys", "shred");
    assert_eq!(keys.erased, 1);

    let (name, email): (String, String) =
        sqlx::query_as("select name, email from app.tenant where tenant_id = $1")
            .bind(tenant)
            .fetch_one(&mut conn)
            .await
            .unwrap();
    assert_eq!((name.as_str(), email.as_str()), ("Acme", "erased@invalid"));
    for own in own::TABLES
        .iter()
        .filter(|own| own.rule == own::Rule::Delete)
    {
        let asked = format!(
            "select count(*) from app.{} as t where {}",
            own.name, own.own
        );
        let left: i64 = sqlx::query_scalar(AssertSqlSafe(asked))
            .bind(tenant)
            .fetch_one(&mut conn)
            .await
            .unwrap();
        assert_eq!(left, 0, "app.{}", own.name);
    }
    for engine in tenure_engine::forget::TABLES {
        let asked = format!("select count(*) from engine.{engine} where tenant_id = $1");
        let left: i64 = sqlx::query_scalar(AssertSqlSafe(asked))
            .bind(tenant)
            .fetch_one(&mut conn)
            .await
            .unwrap();
        assert_eq!(left, 0, "engine.{engine}");
    }
    // The credit note for what was not used of the last period is one of the books.
    let credited: i64 =
        sqlx::query_scalar("select count(*) from app.credit_note where tenant_id = $1")
            .bind(tenant)
            .fetch_one(&mut conn)
            .await
            .unwrap();
    assert_eq!(credited, 1);
    let known: Option<Value> =
        sqlx::query_scalar("select known from app.deletion where deletion_id = $1")
            .bind(id)
            .fetch_one(&mut conn)
            .await
            .unwrap();
    assert_eq!(known, None, "what was looked for is forgotten, too");

    let asked = format!("{}v1/customers/{provider}", app.sandbox.url());
    let gone: Value = reqwest::Client::new()
        .get(asked)
        .bearer_auth(SANDBOX_KEY)
        .send()
        .await
        .unwrap()
        .json()
        .await
        .unwrap();
    assert_eq!(gone["deleted"], true, "{gone}");
    assert_eq!(other.ledger().await, kept);
    other.advance("30d").await;
    assert_eq!(other.ledger().await.len(), 3, "the other lives on");

    let file = tempfile::NamedTempFile::new().unwrap();
    let signed = app.client.deletion_certificate(id).await.unwrap();
    std::fs::write(file.path(), serde_json::to_vec(&signed).unwrap()).unwrap();
    let public = LocalSigningKey::parse(CERTIFICATE_KEY).unwrap().public();
    let verify = |file: &std::path::Path| {
        let mut command = Command::new(tenure());
        command.args([
            "certificate",
            "verify",
            "--json",
            "--key",
            &public.to_string(),
        ]);
        command.arg(file).output().unwrap()
    };
    let held = verify(file.path());
    assert!(held.status.success());
    let told: Value = serde_json::from_slice(&held.stdout).unwrap();
    assert_eq!(
        (&told["holds"], told["deletion_id"].as_str()),
        (&Value::Bool(true), Some(id.to_string().as_str()))
    );
    let text = serde_json::to_string(&signed).unwrap();
    assert!(
        !text.contains("acme.example") && !text.contains(&provider),
        "{text}"
    );
    std::fs::write(file.path(), text.replace("\"erased\":1", "\"erased\":2")).unwrap();
    assert_eq!(verify(file.path()).status.code(), Some(3));

    app.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hold_in_law_stops_it_until_it_is_lifted() {
    let app = TestApp::new().await;
    let make = app.customer();
    let customer = make.team("pm_card_visa").await;
    let tenant = customer.tenant.tenant_id;
    let place = PlaceLegalHold {
        tenant_id: Some(tenant),
        run_id: None,
        reason: "a lawsuit".to_owned(),
    };
    let key = IdempotencyKey::generate();
    let hold = app.client.place_legal_hold(&place, &key).await.unwrap();
    let id = request(&app, tenant, 0).await.deletion_id;
    act(&second(&app).await, id, "approve").await.unwrap();
    let held = reaches(&app, id, "held").await.deletion;
    assert!(held.detail.unwrap().contains("a lawsuit"));
    let lift = LiftLegalHold {
        reason: "it was settled".to_owned(),
    };
    let key = IdempotencyKey::generate();
    app.client
        .lift_legal_hold(hold.hold_id, &lift, &key)
        .await
        .unwrap();
    act(&app.client, id, "retry").await.unwrap();
    reaches(&app, id, "certified").await;
    let (status, detail) = code(act(&app.client, id, "cancel").await);
    assert_eq!(status, 409);
    assert!(detail.contains("certified"), "{detail}");
    let key = IdempotencyKey::generate();
    let again = app.client.request_deletion(&wanted(tenant, 0), &key).await;
    let (status, detail) = code(again);
    assert_eq!(status, 409);
    assert!(detail.contains(&format!("deletion {id}")), "{detail}");
    app.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
#[expect(clippy::too_many_lines, reason = "one story, told in order")]
async fn archives_go_under_no_hold_and_what_the_tenant_takes_along_is_opened_by_its_link() {
    let (folder, config) = keeping::folder();
    let product = Product::fleet_with(Some(config)).await;
    let (birch, salthouse) = (&product.birch, &product.salthouse);
    keeping::load(
        &product,
        "main",
        keeping::policy("work.", keeping::window()),
    )
    .await;
    for member in [birch, salthouse] {
        product.rows(member, 200).await;
        let swept = keeping::sweep(&product, member, false).await;
        assert_eq!(swept.summary.state, "Window", "{:?}", swept.data);
    }
    let app = &product.app;
    let filter = DataArchiveFilter::default();
    let listed = app.client.list_data_archives(birch.tenant, &filter).await;
    let made = listed.unwrap().items.len();
    assert!(made > 0);
    let of = |tenant: Uuid| -> usize {
        let folder = std::fs::read_dir(folder.path().join(tenant.to_string())).unwrap();
        let of = folder.flatten().map(|one| one.path());
        of.filter(|one| std::fs::read_dir(one).unwrap().count() > 0)
            .count()
    };
    assert_eq!(of(birch.tenant), made);
    let others = of(salthouse.tenant);
    let rows: i64 = product
        .counts(birch, &birch.place)
        .await
        .into_iter()
        .map(|(_, rows)| rows)
        .sum();

    let place = PlaceDataHold {
        case: "7 O 12/26".to_owned(),
        table: Some("work.comment".to_owned()),
        matches: None,
        reason: "counsel asks for it".to_owned(),
        expires_at: None,
    };
    let key = IdempotencyKey::generate();
    let hold = app.client.place_data_hold(birch.tenant, &place, &key).await;
    let hold = hold.unwrap().hold_id;
    let wanted = RequestDeletion {
        export_link_days: Some(3),
        ..wanted(birch.tenant, 0)
    };
    let key = IdempotencyKey::generate();
    let asked = app.client.request_deletion(&wanted, &key).await.unwrap();
    let again = app.client.request_deletion(&wanted, &key).await.unwrap();
    let (id, link) = (asked.deletion_id, asked.export_link.unwrap());
    assert_eq!((again.deletion_id, again.export_link), (id, None));
    let url = format!("{}{link}", app.url);
    assert_eq!(reqwest::get(&url).await.unwrap().status(), 409);
    act(&second(app).await, id, "approve").await.unwrap();
    let held = reaches(app, id, "held").await.deletion;
    assert!(held.detail.unwrap().contains("7 O 12/26"));
    assert_eq!(
        of(birch.tenant),
        made,
        "what is held stays, archived or not"
    );
    let lift = LiftDataHold {
        reason: "it was settled".to_owned(),
    };
    let key = IdempotencyKey::generate();
    let lifted = app
        .client
        .lift_data_hold(birch.tenant, hold, &lift, &key)
        .await;
    lifted.unwrap();
    act(&app.client, id, "retry").await.unwrap();
    reaches(app, id, "certified").await;

    let verified = verified(app, id).await;
    let archives = table(&verified, "archives", "delete");
    assert_eq!(archives.erased, i64::try_from(made).unwrap());
    assert_eq!(of(birch.tenant), 1, "only what it takes along");
    assert_eq!(of(salthouse.tenant), others);
    let (status, tar) = exports::fetch(&url).await;
    assert_eq!(status, 200);
    let (ours, products): (Vec<_>, Vec<_>) = exports::unpack(&tar)
        .into_iter()
        .partition(|(table, _)| table.starts_with("tenure:"));
    let count = |tables: Vec<(String, Vec<Value>)>| -> i64 {
        let all: usize = tables.iter().map(|(_, rows)| rows.len()).sum();
        i64::try_from(all).unwrap()
    };
    assert_eq!(count(products), rows);
    let rows = rows + count(ours);
    let signed = app.client.deletion_certificate(id).await.unwrap();
    let records = signed.document["records"].as_array().unwrap().clone();
    let made = records
        .iter()
        .find(|one| one["body"]["kind"] == "export")
        .unwrap();
    assert_eq!(made["body"]["made"], true);
    assert_eq!(made["body"]["rows"].as_i64().unwrap(), rows);
    // Nothing new is made of it.
    let export = StartExport {
        link_days: None,
        reason: "once more".to_owned(),
    };
    let key = IdempotencyKey::generate();
    let refused = app.client.start_export(birch.tenant, &export, &key).await;
    let (status, detail) = code(refused);
    assert_eq!(status, 409);
    assert!(detail.contains("being deleted"), "{detail}");
    product.finish().await;
}

/// Asks in a play, and lets another approve.
async fn ask(play: &Play, cooling_off_days: i32) -> Result<Uuid, PlayError> {
    let client = play.client();
    let new = NewDeletion {
        subject: play.tenant(),
        cooling_off_days,
        backup_days: 35,
        reason: "the contract has ended".to_owned(),
        export_link_days: None,
    };
    let token = Token::generate();
    let mut tx = tenure_engine::begin(client.pool()).await?;
    let row = door::request(client, &mut tx, &new, true, ("ada", &token)).await?;
    tx.commit().await?;
    play.settle().await?;
    Ok(row.deletion_id)
}

async fn approve(play: &Play, id: Uuid) -> Result<(), PlayError> {
    let client = play.client();
    let mut tx = tenure_engine::begin(client.pool()).await?;
    tenure_workflows::as_control(&mut tx).await?;
    door::tell(client, &mut tx, id, Verb::Approve, ("grace", "ticket 17")).await?;
    tx.commit().await?;
    play.settle().await
}

async fn row(play: &Play, id: Uuid) -> Result<DeletionRow, PlayError> {
    let mut tx = tenure_engine::begin(play.client().pool()).await?;
    tenure_workflows::as_control(&mut tx).await?;
    Ok(door::find(&mut tx, id).await?)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deletion_bears_every_fault() {
    let script = async |play: &mut Play, office: &Office| {
        office.arrive(play, 40).await?;
        let id = ask(play, 0).await?;
        approve(play, id).await?;
        // Its runs are given time to end by themselves.
        for _ in 0..60 {
            let state = row(play, id).await?.state;
            if ["certified", "failed_step"].contains(&state.as_str()) {
                break;
            }
            play.advance(Duration::from_secs(40));
            play.settle().await?;
        }
        let found = row(play, id).await?;
        let Some(certificate) = found.certificate else {
            return Ok((found.state, found.detail, Vec::new(), Vec::new()));
        };
        let text = serde_json::to_string(&certificate)?;
        let key = LocalSigningKey::parse(CERTIFICATE_KEY)?;
        let verified = certificate::verify(&text, &key.public())?;
        let tables = verified.tables.iter();
        let of_product = tables.filter(|table| table.realm == "product");
        let counts = of_product.map(|one| (one.name.clone(), one.erased, one.masked, one.kept));
        let mut left = Vec::new();
        for name in ["task", "app_user", "comment", "invoice"] {
            left.push(office.contents(name).await.len());
        }
        Ok((found.state, found.detail, counts.collect(), left))
    };
    let report = fault_matrix(async || keeping::scene(None).await, script)
        .await
        .unwrap();
    assert_borne(&report, &["deletion"]);
    assert!(
        report.expected.starts_with("(\"certified\", None"),
        "{report}"
    );
    assert!(report.expected.contains("[0, 0, 0, "), "{report}");
    assert!(report.plays > 20, "{report}");
}

#[tokio::test(flavor = "multi_thread")]
async fn it_waits_until_it_has_cooled_off_and_its_month_is_watched() {
    let Scene {
        database,
        workflows,
        outside: office,
    } = keeping::scene(None).await;
    let mut play = Play::open(database, workflows).await.unwrap();
    office.arrive(&mut play, 20).await.unwrap();
    let day = Duration::from_secs(86_400);
    let id = ask(&play, 30).await.unwrap();
    play.advance(day * 20);
    play.settle().await.unwrap();
    let waits = row(&play, id).await.unwrap();
    assert_eq!((waits.state.as_str(), waits.alerts), ("requested", 0));
    play.advance(day * 4 + day / 2);
    play.settle().await.unwrap();
    assert_eq!(row(&play, id).await.unwrap().alerts, 1, "a week before");

    approve(&play, id).await.unwrap();
    let cooling = row(&play, id).await.unwrap();
    assert_eq!((cooling.state.as_str(), cooling.alerts), ("cooling_off", 1));
    play.advance(day * 8);
    play.settle().await.unwrap();
    let late = row(&play, id).await.unwrap();
    assert_eq!((late.state.as_str(), late.alerts), ("cooling_off", 2));
    let tasks = office.contents("task").await.len();
    assert!(tasks > 0, "nothing has gone yet");
    play.advance(day * 23);
    play.settle().await.unwrap();
    let gone = row(&play, id).await.unwrap();
    assert!(gone.final_at.is_some(), "{gone:?}");
    play.close().await;
}

#[tokio::test(flavor = "multi_thread")]
#[expect(clippy::too_many_lines, reason = "one story, told in order")]
async fn what_fails_has_a_name_and_leftovers_are_found_before_anything_is_certified() {
    let product = Product::fleet().await;
    let birch = &product.birch;
    product.rows(birch, 120).await;
    let counts = product.counts(birch, &birch.place).await;
    let counts: BTreeMap<_, _> = counts.into_iter().collect();
    product
        .write(
            birch,
            "create function work.refuse() returns trigger language plpgsql as
               $$ begin raise exception 'not while I am here'; end $$;
             create trigger refuse before delete on work.app_user
               for each row execute function work.refuse()",
        )
        .await;
    let app = &product.app;
    let id = request(app, birch.tenant, 0).await.deletion_id;
    act(&second(app).await, id, "approve").await.unwrap();
    let failed = reaches(app, id, "failed_step").await;
    let detail = failed.deletion.detail.unwrap();
    assert!(
        detail.starts_with("trigger_failed: not while I am here"),
        "{detail}"
    );
    assert!(failed.deletion.ended_at.is_none());
    let (status, detail) = code(act(&app.client, id, "cancel").await);
    assert_eq!(status, 409);
    assert!(detail.contains("point of no return"), "{detail}");

    // Somebody has made a copy meanwhile, which no map names.
    let slug = &birch.place.key[birch.place.key.len() - 12..];
    let copy = format!(
        "drop trigger refuse on work.app_user;
         create table work.copy (line text);
         grant select on work.copy to public;
         insert into work.copy values ('to: PERSON1@{slug}.example')"
    );
    product.write(birch, &copy).await;
    act(&app.client, id, "retry").await.unwrap();
    let found = tokio::time::timeout(tokio::time::Duration::from_secs(60), async {
        let mut tick = tokio::time::interval(tokio::time::Duration::from_millis(20));
        loop {
            tick.tick().await;
            let seen = show(app, id).await.deletion;
            let detail = seen.detail.clone().unwrap_or_default();
            if seen.state == "failed_step" && detail.starts_with("leftovers") {
                return detail;
            }
        }
    });
    let detail = found.await.unwrap();
    assert!(
        detail.contains("1 rows of work.copy by known_value"),
        "{detail}"
    );
    assert_eq!(code(app.client.deletion_certificate(id).await).0, 409);
    act(&app.client, id, "accept").await.unwrap();
    reaches(app, id, "certified").await;
    let signed = app.client.deletion_certificate(id).await.unwrap();
    let records = signed.document["records"].as_array().unwrap().clone();
    let kinds: Vec<_> = records
        .iter()
        .map(|one| one["body"]["kind"].as_str().unwrap())
        .collect();
    for kind in [
        "requested",
        "approved",
        "point_of_no_return",
        "export",
        "retried",
        "leftovers_accepted",
        "verification",
    ] {
        assert!(kinds.contains(&kind), "{kind} in {kinds:?}");
    }
    let verified = verified(app, id).await;
    let task = table(&verified, "work.task", "delete");
    assert_eq!(task.erased, counts["task"]);
    product.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn counts_are_true_however_often_the_product_hangs_up() {
    let product = Product::fleet().await;
    let birch = &product.birch;
    product.rows(birch, 6_000).await;
    let counts: BTreeMap<_, _> = product
        .counts(birch, &birch.place)
        .await
        .into_iter()
        .collect();
    let app = &product.app;
    let id = request(app, birch.tenant, 0).await.deletion_id;
    act(&second(app).await, id, "approve").await.unwrap();
    let mut conn = product.connect(&birch.place).await;
    let mut cuts = 0;
    for step in [
        "work.attachment",
        "work.comment",
        "work.task",
        "work.app_user",
    ] {
        support::eventually("the step has begun", async || {
            let seen = show(app, id).await;
            let mut steps = seen.steps.iter();
            steps.any(|one| one.name == step && (one.rows > 0 || one.done_at.is_some()))
        })
        .await;
        let cut: i64 = sqlx::query_scalar(
            "select count(*) filter (where pg_terminate_backend(pid)) from pg_stat_activity
             where datname = current_database() and application_name = 'tenure'",
        )
        .fetch_one(&mut conn)
        .await
        .unwrap();
        cuts += cut;
    }
    assert!(cuts > 0, "nobody was connected");
    reaches(app, id, "certified").await;
    let verified = verified(app, id).await;
    for name in ["task", "comment", "attachment", "app_user"] {
        let done = table(&verified, &format!("work.{name}"), "delete");
        assert_eq!(done.erased, counts[name], "{name}");
    }
    product.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_table_of_ours_that_holds_a_tenants_rows_is_in_our_own_map() {
    let mut conn = support::connect(&support::database().await).await;
    let tables: Vec<(String, String, bool)> = sqlx::query_as(
        "select c.relnamespace::regnamespace::text, c.relname::text, exists (
           select from pg_attribute a
           where a.attrelid = c.oid and a.attname = 'tenant_id' and not a.attisdropped)
         from pg_class c
         where c.relnamespace in ('engine'::regnamespace, 'app'::regnamespace)
           and c.relkind in ('r', 'p') and not c.relispartition",
    )
    .fetch_all(&mut conn)
    .await
    .unwrap();
    let of = |schema: &str| -> BTreeSet<&str> {
        let tables = tables.iter().filter(|(of, ..)| of == schema);
        tables.map(|(_, name, _)| name.as_str()).collect()
    };
    let named: BTreeSet<&str> = own::TABLES
        .iter()
        .map(|table| table.name)
        .chain(own::NOBODYS.iter().map(|(name, _)| *name))
        .collect();
    assert_eq!(
        of("app"),
        named,
        "workflows/src/deletion/own.rs names each table of schema app"
    );
    let erased = tenure_engine::forget::TABLES.into_iter();
    let kept = tenure_engine::forget::KEPT
        .into_iter()
        .map(|(name, _)| name);
    let known: BTreeSet<&str> = erased.chain(kept).collect();
    for (schema, name, holds) in &tables {
        if schema == "engine" && *holds {
            assert!(
                known.contains(name.as_str()),
                "engine.{name} is not in engine/src/forget.rs"
            );
        }
    }
    // What is emptied there is a column, and what is asked runs.
    for own in &own::TABLES {
        let asked = format!(
            "select count(*) from app.{} as t where {}",
            own.name, own.own
        );
        let none: i64 = sqlx::query_scalar(AssertSqlSafe(asked))
            .bind(Uuid::nil())
            .fetch_one(&mut conn)
            .await
            .unwrap_or_else(|error| panic!("app.{}: {error}", own.name));
        assert_eq!(none, 0, "app.{}", own.name);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn another_tenants_row_or_key_that_leads_here_is_named_and_never_cut() {
    let product = Product::fleet().await;
    let (birch, salthouse) = (&product.birch, &product.salthouse);
    for member in [birch, salthouse, &product.cedar, &product.quarry] {
        product.rows(member, 20).await;
    }
    // Where tenants share tables it is a row that leads to another tenant's.
    product
        .write(
            birch,
            "set role sample_product_owner;
             create table work.pin (
               org_id uuid not null, pin_id uuid not null, of_org uuid not null, task_id uuid not null,
               pinned_at timestamptz not null,
               primary key (org_id, pin_id),
               constraint pin_task foreign key (of_org, task_id) references work.task (org_id, task_id));
             create index on work.pin (of_org, task_id);
             alter table work.pin enable row level security;
             alter table work.pin force row level security;
             create policy tenant on work.pin using (org_id = work.org());
             reset role;
             insert into work.pin
             select o.org_id, gen_random_uuid(), t.org_id, t.task_id, now()
             from work.organisation o
             cross join (select org_id, task_id from work.task where org_id = '{key}' order by 2 limit 1) t
             where o.org_id <> '{key}'",
        )
        .await;
    let text = map_of(product.url("main"), data_map::Model::Shared, "work").await;
    let text = text.replacen(
        "[tables.\"work.pin\"]\n",
        "[tables.\"work.pin\"]\nunguarded = [\"pin_task\"]\n",
        1,
    );
    let map = LoadDataMap {
        text,
        unchecked: false,
    };
    let app = &product.app;
    let key = IdempotencyKey::generate();
    app.client.load_data_map("main", &map, &key).await.unwrap();
    // Where each has a schema it is a table that refers to another tenant's.
    product
        .write(
            &product.quarry,
            "set role sample_product_owner;
             create table {w}pin (
               pin_id uuid primary key,
               task_id uuid not null constraint pin_task references cedar.task);
             insert into {w}pin select gen_random_uuid(), task_id from cedar.task order by 2 limit 1",
        )
        .await;
    let admin = second(app).await;
    for (member, mend) in [
        (birch, "delete from work.pin"),
        (
            &product.cedar,
            "alter table quarry.pin drop constraint pin_task",
        ),
    ] {
        let id = request(app, member.tenant, 0).await.deletion_id;
        act(&admin, id, "approve").await.unwrap();
        let failed = reaches(app, id, "failed_step").await;
        let detail = failed.deletion.detail.unwrap();
        assert!(detail.starts_with("row_of_two_tenants: "), "{detail}");
        assert!(detail.contains("pin_task"), "{detail}");
        product.write(member, mend).await;
        act(&app.client, id, "retry").await.unwrap();
        reaches(app, id, "certified").await;
    }
    let pins = product.contents(&product.quarry, &product.quarry.place, "pin");
    assert_eq!(pins.await.len(), 1, "what is another's is as it was");
    product.finish().await;
}

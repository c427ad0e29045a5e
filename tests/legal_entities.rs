//! Who issues a tenant's invoices, and the numbers that they give, through the public door.

use std::collections::BTreeMap;

use rust_decimal::Decimal;
use serde_json::{Value, json};
use sqlx::AssertSqlSafe;
use tenure_api::MIGRATOR;
use tenure_client::{
    ActOnPause, CatalogPublished, ChangeLegalEntity, ChangeSubscription, ClientError,
    IdempotencyKey, Invoice, LegalEntityChange, NewCreditNote, NewSubscription, NewTenant,
    PauseScope, When,
};
use tenure_workflows::pricing::Bill;
use uuid::Uuid;

use crate::support;
use crate::support::app::{Subscriber, TestApp, for_a_story};

fn key() -> IdempotencyKey {
    IdempotencyKey::generate()
}

/// A German company that tenants have when they name none, and an American one.
fn two() -> Value {
    json!({"legal_entities": {
        "de": {
            "name": "Acme Software GmbH",
            "address": ["Lange Straße 1", "10115 Berlin"],
            "country": "DE",
            "tax_id": "DE123456789",
            "prefix": "DE",
            "default": true
        },
        "us": {
            "name": "Acme Software, Inc.",
            "address": ["1 Main Street", "Springfield"],
            "country": "US",
            "prefix": "US"
        }
    }})
}

/// The same with another value in a field of one.
fn with(key: &str, field: &str, value: Value) -> Value {
    let mut catalog = two();
    catalog["legal_entities"][key][field] = value;
    catalog
}

async fn publish(app: &TestApp, catalog: &Value) -> Result<CatalogPublished, ClientError> {
    let publish = for_a_story();
    app.client.publish_catalog(catalog, &publish, &key()).await
}

/// A clocked tenant from 1 June 2027 in UTC, with a card and without a subscription.
async fn arrived<'a>(app: &'a TestApp, legal_entity: Option<&str>) -> Subscriber<'a> {
    let new = NewTenant {
        name: "Birch".to_owned(),
        email: "billing@birch.example".to_owned(),
        zone: "UTC".to_owned(),
        locale: None,
        test_clock: Some("2027-06-01T08:00:00Z".parse().unwrap()),
        legal_entity: legal_entity.map(str::to_owned),
    };
    let tenant = app.client.create_tenant(&new, &key()).await.unwrap();
    let customer = Subscriber {
        client: &app.client,
        clock: tenant.test_clock_id.unwrap(),
        tenant,
        subscription: Uuid::nil(),
    };
    customer.attach("pm_card_visa").await;
    customer.advance("0h").await;
    customer
}

/// One more subscription to the team plan; 49.00 EUR a month.
async fn subscribes(customer: &Subscriber<'_>) -> Uuid {
    let new = NewSubscription {
        plan: "team-monthly".to_owned(),
        currency: "EUR".to_owned(),
        ..NewSubscription::default()
    };
    let tenant = customer.tenant.tenant_id;
    let made = customer.client.subscribe(tenant, &new, &key()).await;
    made.unwrap().subscription_id
}

async fn team<'a>(app: &'a TestApp) -> Subscriber<'a> {
    let mut customer = arrived(app, None).await;
    customer.subscription = subscribes(&customer).await;
    customer.advance("0h").await;
    customer
}

fn to(legal_entity: &str) -> ChangeLegalEntity {
    ChangeLegalEntity {
        legal_entity: legal_entity.to_owned(),
        reason: Some("they moved".to_owned()),
        dry_run: false,
    }
}

async fn moves(customer: &Subscriber<'_>, legal_entity: &str) -> LegalEntityChange {
    let (tenant, asked) = (customer.tenant.tenant_id, to(legal_entity));
    let told = customer
        .client
        .change_legal_entity(tenant, &asked, &key())
        .await;
    told.unwrap()
}

async fn give_back(customer: &Subscriber<'_>, invoice: &Invoice) -> String {
    let note = NewCreditNote {
        amount: Some(tenure_client::Money {
            amount: "5.00".parse().unwrap(),
            currency: "EUR".to_owned(),
        }),
        refund: false,
        reason: "a bad day".to_owned(),
        dry_run: false,
    };
    let (tenant, id) = (customer.tenant.tenant_id, invoice.invoice_id);
    let given = customer
        .client
        .give_credit_note(tenant, id, &note, &key())
        .await;
    given.unwrap().number
}

fn numbers(invoices: &[Invoice]) -> Vec<&str> {
    let all = invoices.iter();
    all.map(|one| one.number.as_deref().unwrap_or("none"))
        .collect()
}

/// Each legal entity has numbered what it issued from 1 on. How many each has.
fn assert_gapless(invoices: &[Invoice]) -> BTreeMap<String, usize> {
    let mut series: BTreeMap<String, Vec<usize>> = BTreeMap::new();
    for one in invoices {
        let legal_entity = one.legal_entity.clone().unwrap_or_default();
        let number = one.number.as_deref().unwrap();
        let (begins, counts) = number.rsplit_once('-').unwrap();
        assert_eq!(begins, format!("{}-INV", legal_entity.to_uppercase()));
        let counts = counts.parse().unwrap();
        series.entry(legal_entity).or_default().push(counts);
    }
    let mut counts = BTreeMap::new();
    for (legal_entity, mut given) in series {
        given.sort_unstable();
        let wanted: Vec<usize> = (1..=given.len()).collect();
        assert_eq!(given, wanted, "{legal_entity}");
        counts.insert(legal_entity, given.len());
    }
    counts
}

/// What each invoice was computed of gives the same lines, the same text and the same hash, and names
/// the seller that stands on it.
async fn assert_proven(app: &TestApp, customer: &Subscriber<'_>) {
    let mut conn = support::connect(&app.options).await;
    let tenant = customer.tenant.tenant_id;
    for one in customer.invoices().await {
        let shown = app.client.invoice(tenant, one.invoice_id).await.unwrap();
        let text: String =
            sqlx::query_scalar("select priced from app.invoice where invoice_id = $1")
                .bind(one.invoice_id)
                .fetch_one(&mut conn)
                .await
                .unwrap();
        assert_eq!(Some(Bill::hash(&text)), shown.priced_hash);
        let bill: Bill = serde_json::from_str(&text).unwrap();
        assert_eq!(bill.to_text().unwrap(), text);
        let again: Vec<Decimal> = bill.price().into_iter().map(|line| line.amount).collect();
        let lines = shown.lines.iter().map(|line| line.amount.amount);
        assert_eq!(again, lines.collect::<Vec<_>>());
        let named = serde_json::to_value(&bill.seller).unwrap();
        assert_eq!(named, serde_json::to_value(&shown.seller).unwrap());
        let key = shown.seller.map(|seller| seller.legal_entity);
        assert_eq!(key, one.legal_entity);
    }
}

/// The change stands in the audit, once, with its reason.
async fn assert_audited(app: &TestApp, tenant: Uuid) {
    let mut conn = support::connect(&app.options).await;
    let audited: Vec<(String, String)> =
        sqlx::query_as("select action, reason from engine.control_audit where subject = $1")
            .bind(tenant.to_string())
            .fetch_all(&mut conn)
            .await
            .unwrap();
    let wanted = (
        "change legal entity of tenant".to_owned(),
        "they moved".to_owned(),
    );
    assert_eq!(audited, [wanted]);
}

/// The worked example of docs/billing.md, without its head.
fn example() -> Vec<[String; 3]> {
    let text = include_str!("../docs/billing.md");
    let table = text
        .split_once("| A tenant of `de`, moved to `us`")
        .unwrap()
        .1;
    let rows = table
        .lines()
        .skip(2)
        .take_while(|line| line.starts_with('|'));
    let row = |line: &str| {
        let cells = line.trim_matches('|').split('|');
        let cells: Vec<String> = cells.map(|cell| cell.trim().to_owned()).collect();
        cells.try_into().unwrap()
    };
    rows.map(row).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tenant_moves_and_comes_back_as_the_docs_say() {
    let app = TestApp::new().await;
    publish(&app, &two()).await.unwrap();
    let customer = team(&app).await;
    let (client, tenant) = (customer.client, customer.tenant.tenant_id);
    assert_eq!(customer.tenant.legal_entity.as_deref(), Some("de"));
    customer.advance("40d").await;

    let asked = ChangeLegalEntity {
        reason: None,
        dry_run: true,
        ..to("us")
    };
    let tried = client.change_legal_entity(tenant, &asked, &key()).await;
    let tried = tried.unwrap();
    assert!(tried.dry_run);
    let stays = client.tenant(tenant).await.unwrap();
    assert_eq!(stays.legal_entity.as_deref(), Some("de"));
    // Once, however often it is asked for.
    let (key, asked) = (key(), to("us"));
    let moved = client.change_legal_entity(tenant, &asked, &key).await;
    let again = client.change_legal_entity(tenant, &asked, &key).await;
    let (moved, again) = (moved.unwrap(), again.unwrap());
    assert_eq!(moved, again);
    assert_eq!(moved.next_number, tried.next_number);
    assert_eq!(moved.next_number, "US-INV-00001");
    assert_eq!(moved.legal_entity_before.as_deref(), Some("de"));
    assert_audited(&app, tenant).await;

    customer.advance("31d").await;
    let invoices = customer.invoices().await;
    let of_july = give_back(&customer, &invoices[1]).await;
    let back = moves(&customer, "de").await;
    let of_august = give_back(&customer, &invoices[2]).await;
    customer.advance("31d").await;
    let invoices = customer.invoices().await;
    assert_eq!(invoices[3].number.as_ref(), Some(&back.next_number));
    let notes = client.list_credit_notes(tenant).await.unwrap();
    let listed: Vec<&str> = notes.iter().map(|note| &*note.number).collect();
    assert_eq!(listed, [&of_august, &of_july], "the newest first");

    let of = |one: &Invoice| {
        [
            one.legal_entity.clone().unwrap(),
            one.number.clone().unwrap(),
        ]
    };
    let told = |what: &str, [by, number]: [String; 2]| [what.to_owned(), by, number];
    let note = |by: &str, number: &str| [by.to_owned(), number.to_owned()];
    let happened = [
        told("the invoice of June", of(&invoices[0])),
        told("the invoice of July", of(&invoices[1])),
        told("the invoice of August", of(&invoices[2])),
        told(
            "a credit note of July's invoice, given in August",
            note("de", &of_july),
        ),
        told(
            "a credit note of August's invoice, given after the way back",
            note("us", &of_august),
        ),
        told("the invoice of September", of(&invoices[3])),
    ];
    assert_eq!(example(), happened);
    assert_proven(&app, &customer).await;
    app.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn each_numbers_without_gaps_also_at_once() {
    let app = TestApp::new().await;
    publish(&app, &two()).await.unwrap();
    let customer = team(&app).await;
    let more = async || {
        subscribes(&customer).await;
    };
    let change = async || {
        moves(&customer, "us").await;
    };
    tokio::join!(more(), more(), more(), change(), more(), more(), more());
    customer.advance("0h").await;
    assert_gapless(&customer.invoices().await);
    // Seven renewals at one instant, twice by the one and once by the other.
    customer.advance("62d").await;
    moves(&customer, "de").await;
    customer.advance("31d").await;
    let counts = assert_gapless(&customer.invoices().await);
    assert_eq!(counts.values().sum::<usize>(), 28);
    assert!(counts["us"] >= 14 && counts["de"] >= 8, "{counts:?}");
    let all = customer.invoices().await;
    let notes = async |one: &Invoice| give_back(&customer, one).await;
    let (us, de): (Vec<_>, Vec<_>) = all
        .iter()
        .partition(|one| one.legal_entity.as_deref() == Some("us"));
    let given = tokio::join!(
        notes(us[0]),
        notes(de[0]),
        notes(us[1]),
        notes(de[1]),
        notes(us[2])
    );
    let mut given = [given.0, given.1, given.2, given.3, given.4];
    given.sort_unstable();
    let wanted = [
        "DE-CN-00001",
        "DE-CN-00002",
        "US-CN-00001",
        "US-CN-00002",
        "US-CN-00003",
    ];
    assert_eq!(given, wanted);
    assert_proven(&app, &customer).await;
    app.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_page_names_its_seller_as_the_catalogue_did_when_it_was_finalised() {
    let app = TestApp::new().await;
    publish(&app, &two()).await.unwrap();
    let customer = team(&app).await;
    let tenant = customer.tenant.tenant_id;
    let renamed = with("de", "name", json!("Acme & Söhne AG"));
    let published = publish(&app, &renamed).await.unwrap();
    assert_eq!(published.entries[0].changed, ["name"]);
    customer.advance("31d").await;
    let invoices = customer.invoices().await;
    let page = async |one: &Invoice| {
        let page = app.client.invoice_page(tenant, one.invoice_id).await;
        page.unwrap()
    };
    let first = page(&invoices[0]).await;
    for told in [
        "<title>Invoice DE-INV-00001</title>",
        "Acme Software GmbH<br>Lange Straße 1<br>10115 Berlin<br>DE<br>Tax ID DE123456789",
    ] {
        assert!(first.contains(told), "{told} is not in {first}");
    }
    let second = page(&invoices[1]).await;
    assert!(second.contains("<p>Acme &amp; Söhne AG<br>"), "{second}");
    let proofs = async |one: &Invoice| {
        let shown = app.client.invoice(tenant, one.invoice_id).await.unwrap();
        shown.priced_hash.unwrap()
    };
    assert!(second.contains(&proofs(&invoices[1]).await), "{second}");
    let receipts = app.client.list_tenant_mails(tenant).await.unwrap();
    let subjects: Vec<&str> = receipts.iter().map(|mail| &*mail.subject).collect();
    let named = subjects.iter().any(|one| one.contains("DE-INV-00002"));
    assert!(named, "{subjects:?}");
    assert_proven(&app, &customer).await;
    app.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_legal_entities_all_is_as_it_was_until_a_tenant_is_moved() {
    let app = TestApp::new().await;
    let customer = team(&app).await;
    let tenant = customer.tenant.tenant_id;
    assert_eq!(customer.tenant.legal_entity, None);
    publish(&app, &two()).await.unwrap();
    customer.advance("31d").await;
    let invoices = customer.invoices().await;
    assert_eq!(numbers(&invoices), ["INV-00001", "INV-00002"]);
    assert_eq!(invoices[1].legal_entity, None);
    assert_eq!(give_back(&customer, &invoices[1]).await, "CN-00001");
    let shown = app.client.invoice(tenant, invoices[1].invoice_id).await;
    assert_eq!(shown.unwrap().seller, None);
    assert_proven(&app, &customer).await;
    let moved = moves(&customer, "de").await;
    assert_eq!(moved.legal_entity_before, None);
    customer.advance("31d").await;
    let invoices = customer.invoices().await;
    assert_eq!(
        numbers(&invoices),
        ["INV-00001", "INV-00002", "DE-INV-00001"]
    );
    assert_eq!(give_back(&customer, &invoices[0]).await, "CN-00002");
    let named = arrived(&app, Some("us")).await.tenant.legal_entity;
    assert_eq!(named.as_deref(), Some("us"));
    app.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_draft_of_which_something_was_given_back_keeps_who_numbered_that() {
    let app = TestApp::new().await;
    publish(&app, &two()).await.unwrap();
    let mut customer = arrived(&app, None).await;
    let tenant = customer.tenant.tenant_id;
    let pause = ActOnPause {
        scope: PauseScope::Workflow,
        name: "invoice".to_owned(),
        reason: "the month is being closed".to_owned(),
        seen: None,
    };
    app.client.pause_scope(&pause, &key()).await.unwrap();
    customer.subscription = subscribes(&customer).await;
    customer.advance("0h").await;
    assert_eq!(numbers(&customer.invoices().await), ["none"]);
    let asked = ChangeSubscription {
        plan: Some("team-yearly".to_owned()),
        when: When::Now,
        ..ChangeSubscription::default()
    };
    let id = customer.subscription;
    let changed = app
        .client
        .change_subscription(tenant, id, &asked, &key())
        .await;
    changed.unwrap();
    customer.advance("0h").await;
    let notes = app.client.list_credit_notes(tenant).await.unwrap();
    assert_eq!(notes[0].number, "DE-CN-00001");
    moves(&customer, "us").await;
    app.client.lift_pause(&pause, &key()).await.unwrap();
    customer.advance("0h").await;
    let invoices = customer.invoices().await;
    assert_eq!(numbers(&invoices), ["DE-INV-00001", "US-INV-00001"]);
    assert_proven(&app, &customer).await;
    app.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn of_changes_at_once_to_one_entity_one_is_made() {
    let app = TestApp::new().await;
    publish(&app, &two()).await.unwrap();
    let customer = arrived(&app, None).await;
    let tenant = customer.tenant.tenant_id;
    let change = async |legal_entity| {
        let asked = to(legal_entity);
        let key = key();
        let changed = app.client.change_legal_entity(tenant, &asked, &key);
        changed.await.is_ok()
    };
    for wanted in ["us", "de", "us", "de"] {
        let made = futures_util::future::join_all((0..6).map(|_| change(wanted))).await;
        let made = made.iter().filter(|made| **made).count();
        assert_eq!(made, 1, "to {wanted}");
    }
    app.finish().await;
}

/// Status, pointer and words of a refusal.
fn refused<T: std::fmt::Debug>(asked: Result<T, ClientError>) -> (u16, String, String) {
    let error = asked.unwrap_err();
    let problem = error.problem().unwrap_or_else(|| panic!("{error}"));
    let pointer = problem.errors.first().map(|one| one.pointer.clone());
    (
        problem.status,
        pointer.unwrap_or_default(),
        error.to_string(),
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn a_catalogue_that_would_break_numbers_or_strand_tenants_is_refused() {
    let app = TestApp::new().await;
    let without_default = with("de", "default", json!(false));
    let (status, pointer, words) = refused(publish(&app, &without_default).await);
    assert_eq!((status, &*pointer), (422, "/legal_entities"), "{words}");
    publish(&app, &two()).await.unwrap();
    let customer = arrived(&app, Some("us")).await;
    let us = json!({"legal_entities": {"uk": {
        "name": "Acme Ltd", "address": ["1 High Street"], "country": "GB", "prefix": "US"
    }}});
    let cases = [
        (
            with("us", "prefix", json!("USA")),
            "us/prefix",
            "its prefix never changes",
        ),
        (
            with("us", "prefix", json!("DE")),
            "de/prefix",
            "\"DE\" is the prefix of \"us\"",
        ),
        (
            with("us", "prefix", json!("us-1")),
            "us/prefix",
            "1 to 8 characters of A-Z",
        ),
        (
            with("us", "country", json!("USA")),
            "us/country",
            "ISO 3166-1",
        ),
        (
            with("us", "address", json!([])),
            "us/address",
            "1 to 10 lines",
        ),
        (
            with("us", "default", json!(true)),
            "de/default",
            "\"us\" is the default",
        ),
        (us, "uk/prefix", "\"US\" is the prefix of \"us\""),
        (
            with("us", "retired", json!(true)),
            "us/retired",
            "move them to another one first",
        ),
        (
            with("de", "retired", json!(true)),
            "de/retired",
            "make another one the default",
        ),
    ];
    let before = app.client.list_catalog().await.unwrap();
    for (catalog, at, says) in cases {
        let (status, pointer, words) = refused(publish(&app, &catalog).await);
        let at = format!("/legal_entities/{at}");
        assert_eq!((status, pointer), (422, at), "{words}");
        assert!(words.contains(says), "{words}");
    }
    assert_eq!(app.client.list_catalog().await.unwrap(), before);
    // What is to be done is done, and then it goes.
    moves(&customer, "de").await;
    publish(&app, &with("us", "retired", json!(true)))
        .await
        .unwrap();
    // What a publication does not name stays, so one that names others only is enough.
    let plans =
        json!({"plans": {"x": {"name": "X", "interval": "month", "prices": {"EUR": "1.00"}}}});
    publish(&app, &plans).await.unwrap();
    let none = arrived(&app, None).await.tenant;
    assert_eq!(none.legal_entity.as_deref(), Some("de"));
    app.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_to_nobody_is_refused_and_changes_nothing() {
    let app = TestApp::new().await;
    let customer = arrived(&app, None).await;
    let (client, tenant) = (customer.client, customer.tenant.tenant_id);
    let ask = async |asked: &ChangeLegalEntity| {
        refused(client.change_legal_entity(tenant, asked, &key()).await)
    };
    let (status, pointer, words) = ask(&to("de")).await;
    assert_eq!((status, &*pointer), (422, "/legal_entity"), "{words}");
    assert!(words.contains("the catalogue has none"), "{words}");
    publish(&app, &two()).await.unwrap();
    publish(&app, &with("us", "retired", json!(true)))
        .await
        .unwrap();
    let (status, pointer, words) = ask(&to("fr")).await;
    assert_eq!((status, &*pointer), (422, "/legal_entity"), "{words}");
    assert!(words.contains("the catalogue has de"), "{words}");
    let (status, pointer, words) = ask(&to("us")).await;
    assert_eq!((status, &*pointer), (422, "/legal_entity"), "{words}");
    assert!(words.contains("is retired"), "{words}");
    let no_reason = ChangeLegalEntity {
        reason: None,
        ..to("de")
    };
    let (status, pointer, words) = ask(&no_reason).await;
    assert_eq!((status, &*pointer), (422, "/reason"), "{words}");
    let nobody = client
        .change_legal_entity(Uuid::nil(), &to("de"), &key())
        .await;
    assert_eq!(refused(nobody).0, 404);
    let new = NewTenant {
        name: "Cedar".to_owned(),
        email: "billing@cedar.example".to_owned(),
        zone: "UTC".to_owned(),
        locale: None,
        test_clock: None,
        legal_entity: Some("fr".to_owned()),
    };
    let (status, pointer, words) = refused(client.create_tenant(&new, &key()).await);
    assert_eq!((status, &*pointer), (422, "/legal_entity"), "{words}");
    let found = client.tenant(tenant).await.unwrap();
    assert_eq!(found.legal_entity, None);

    moves(&customer, "de").await;
    let (status, _, words) = ask(&to("de")).await;
    assert_eq!(status, 409, "{words}");
    assert!(words.contains("already"), "{words}");
    publish(&app, &two()).await.unwrap();
    let mut conn = support::connect(&app.options).await;
    let close = "update engine.tenant set closing_since = now() where tenant_id = $1";
    let closed = sqlx::query(close).bind(tenant).execute(&mut conn).await;
    closed.unwrap();
    let (status, _, words) = ask(&to("us")).await;
    assert_eq!(status, 409, "{words}");
    app.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn there_is_no_way_back_where_two_series_gave_one_number() {
    let options = support::empty_database().await;
    let mut conn = support::connect(&options).await;
    MIGRATOR.run(&mut conn).await.unwrap();
    let tenant = "01a209f6-4762-727e-b736-2430e0a79587";
    let seller = json!({"name": "Acme Software GmbH", "prefix": "DE"});
    let invoice = |id: u8, legal_entity: &str, number: u8, seller: &str| {
        format!(
            "insert into app.invoice (invoice_id, shard_id, tenant_id, subscription_id, status, reason,
               number, legal_entity, seller, currency, subtotal, total, attempts, period_start,
               period_end, created_at, finalized_at)
             values ('00000000-0000-7000-8000-0000000000{id:02}', 5, '{tenant}', '{tenant}', 'open', 'cycle',
               {number}, '{legal_entity}', {seller}, 'EUR', 1, 1, 0, now(), now() + interval '1 day', now(),
               now());
             insert into app.invoice_series (tenant_id, shard_id, legal_entity, last_number)
             values ('{tenant}', 5, '{legal_entity}', {number});"
        )
    };
    let named = format!("'{seller}'");
    let rows = [invoice(1, "", 1, "null"), invoice(2, "de", 1, &named)].concat();
    sqlx::raw_sql(AssertSqlSafe(rows))
        .execute(&mut conn)
        .await
        .unwrap();
    let error = MIGRATOR.undo(&mut conn, 130).await.unwrap_err();
    let told = format!("{error:?}");
    assert!(
        told.contains(tenant) && told.contains("cannot be undone"),
        "{told}"
    );

    sqlx::raw_sql("update app.invoice set number = 2 where legal_entity = 'de'; update app.invoice_series set last_number = 2 where legal_entity = 'de'")
        .execute(&mut conn)
        .await
        .unwrap();
    MIGRATOR.undo(&mut conn, 130).await.unwrap();
    let last: Vec<i32> = sqlx::query_scalar("select last_number from app.invoice_series")
        .fetch_all(&mut conn)
        .await
        .unwrap();
    assert_eq!(last, [2], "the one that is furthest goes on");
    MIGRATOR.run(&mut conn).await.unwrap();
}

//! The audit is read: what people did to runs and to anything else, over HTTP, and who sees what of it.

use chrono::{DateTime, Utc};
use serde_json::{Value, json};
use sqlx::Connection as _;
use tenure_client::{
    ActOnPause, ActOnRun, AssignDunningPolicy, AuditLine, AuditQuery, CancelSubscription, Client,
    CreditPolicy, DunningScope, GrantCredit, HoldKind, IdempotencyKey, IntentKind,
    LoadDunningPolicy, Money, NewCreditNote, NewTenant, PauseScope, PlaceHold, PublishCatalog,
    Role, RunFilter, RunStatus, SetFlowLimit, SetTenantWeight, UndoIntent, When,
};
use tenure_engine::seal::Keyring;
use tenure_engine::{TenantId, audit};
use uuid::Uuid;

use crate::support::app::{Subscriber, TestApp, token};
use crate::support::{connect, eventually};

/// A tenant with its run, which is at rest.
struct Site {
    tenant: Uuid,
    run: Uuid,
}

impl Site {
    async fn new(app: &TestApp) -> Self {
        let new = NewTenant {
            name: "Acme".to_owned(),
            email: "billing@acme.example".to_owned(),
            zone: "UTC".to_owned(),
            locale: None,
            test_clock: None,
            legal_entity: None,
        };
        let tenant = app.client.create_tenant(&new, &key()).await.unwrap();
        let filter = RunFilter {
            workflow: Some("tenant".to_owned()),
            tenant_id: Some(tenant.tenant_id),
            ..RunFilter::default()
        };
        let run = app.client.list_runs(&filter).await.unwrap().items[0].run_id;
        eventually("the tenant is provisioned", async || {
            let run = app.client.run(run).await.unwrap();
            run.summary.state == "Ready" && run.summary.status == RunStatus::Waiting
        })
        .await;
        Self {
            tenant: tenant.tenant_id,
            run,
        }
    }

    /// Pauses the run; the revision that was seen.
    async fn pause(&self, client: &Client, reason: &str) -> i64 {
        let revision = client.run(self.run).await.unwrap().revision;
        let act = ActOnRun {
            reason: reason.to_owned(),
            revision,
            ..ActOnRun::default()
        };
        let done = client.act_on_run(self.run, "pause", &act, &key()).await;
        done.unwrap();
        revision
    }
}

fn key() -> IdempotencyKey {
    IdempotencyKey::generate()
}

async fn set_limit(client: &Client) {
    let set = SetFlowLimit {
        concurrency: Some(5),
        rate: None,
        reason: "the provider asked for it".to_owned(),
        seen: None,
    };
    let set = client.set_limit("stripe-charges", &set, &key()).await;
    set.unwrap();
}

async fn set_weight(client: &Client, tenant: Uuid) {
    let set = SetTenantWeight {
        tenant_id: tenant,
        weight: 3,
        reason: "a large customer".to_owned(),
        seen: None,
    };
    client.set_weight(&set, &key()).await.unwrap();
}

async fn pause_tenant(client: &Client, tenant: Uuid) {
    let act = ActOnPause {
        scope: PauseScope::Tenant,
        name: tenant.to_string(),
        reason: "they asked for it".to_owned(),
        seen: None,
    };
    client.pause_scope(&act, &key()).await.unwrap();
}

async fn place_hold(client: &Client, tenant: Uuid) -> Uuid {
    let place = PlaceHold {
        kind: HoldKind::Fraud,
        subscription_id: None,
        starts_at: None,
        ends_at: None,
        blocks: None,
        reason: "ticket 17".to_owned(),
    };
    let placed = client.place_hold(tenant, &place, &key()).await;
    placed.unwrap().hold_id
}

/// Verb and what it was done to, of each line.
fn told(lines: &[AuditLine]) -> Vec<String> {
    let told = lines.iter().map(|line| {
        let run = line.run_id.map(|run| run.to_string());
        let what = run.or(line.subject.clone()).unwrap();
        format!("{} {what}", line.action)
    });
    told.collect()
}

/// A query of one part.
fn by(set: impl FnOnce(&mut AuditQuery)) -> AuditQuery {
    let mut query = AuditQuery::default();
    set(&mut query);
    query
}

fn between(from: DateTime<Utc>, to: DateTime<Utc>) -> AuditQuery {
    AuditQuery {
        from: Some(from),
        to: Some(to),
        ..AuditQuery::default()
    }
}

async fn listed(client: &Client, query: AuditQuery) -> Vec<AuditLine> {
    client.list_audit(&query).await.unwrap().items
}

#[tokio::test(flavor = "multi_thread")]
async fn what_people_did_to_runs_and_to_anything_else_is_read_newest_first() {
    let app = TestApp::new().await;
    let site = Site::new(&app).await;
    let revision = site.pause(&app.client, "a look").await;
    set_limit(&app.client).await;
    let page = app.client.list_audit(&AuditQuery::default()).await.unwrap();
    assert_eq!(page.next_cursor, None);
    let [limit, pause] = &page.items[..] else {
        panic!("{:?}", page.items);
    };
    assert!(limit.at > pause.at);
    for line in [limit, pause] {
        let who = (line.actor.as_str(), line.role.as_str());
        assert_eq!(who, ("suite admin", "admin"));
    }
    assert_eq!(pause.action, "pause");
    assert_eq!(pause.reason, "a look");
    assert_eq!(pause.run_id, Some(site.run));
    assert_eq!(pause.tenant_id, Some(site.tenant));
    assert_eq!((&pause.subject, pause.revision), (&None, Some(revision)));
    assert_eq!(pause.before["status"], "waiting");
    assert_eq!(pause.before["state"], "Ready");
    assert_eq!(pause.after["status"], "paused");

    assert_eq!(limit.action, "set limit");
    assert_eq!(limit.reason, "the provider asked for it");
    assert_eq!(limit.subject.as_deref(), Some("stripe-charges"));
    let no_runs = (limit.run_id, limit.tenant_id, limit.revision);
    assert_eq!(no_runs, (None, None, None));
    assert_eq!(limit.before["rate"]["count"], 80);
    assert_eq!(limit.after, json!({ "concurrency": 5, "rate": null }));
    app.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_audit_is_narrowed_by_each_of_its_parts_and_read_in_pages() {
    let app = TestApp::new().await;
    let (one, other) = (Site::new(&app).await, Site::new(&app).await);
    let mut conn = connect(&app.options).await;
    let operator = token(&mut conn, Role::Operator, None).await;
    let operator = Client::new(&app.url, &operator).unwrap();
    one.pause(&app.client, "a look").await;
    other.pause(&operator, "a look").await;
    set_limit(&app.client).await;
    set_weight(&operator, one.tenant).await;
    pause_tenant(&operator, other.tenant).await;
    let hold = place_hold(&app.client, one.tenant).await;
    let all = [
        format!("place hold {hold}"),
        format!("pause tenant {}", other.tenant),
        format!("set weight {}", one.tenant),
        "set limit stripe-charges".to_owned(),
        format!("pause {}", other.run),
        format!("pause {}", one.run),
    ];
    let lines = listed(&app.client, AuditQuery::default()).await;
    assert_eq!(told(&lines), all);
    let owners: Vec<_> = lines.iter().map(|line| line.tenant_id).collect();
    let (mine, others) = (Some(one.tenant), Some(other.tenant));
    assert_eq!(owners, [mine, others, mine, None, others, mine]);

    let text = |text: &str| Some(text.to_owned());
    let (at, tenant, run) = (lines[3].at, one.tenant.to_string(), other.run.to_string());
    let cases: [(AuditQuery, &[usize]); 11] = [
        (by(|query| query.run_id = Some(one.run)), &[5]),
        (by(|query| query.tenant_id = mine), &[0, 2, 5]),
        (by(|query| query.tenant_id = others), &[1, 4]),
        (by(|query| query.actor = text("suite operator")), &[1, 2, 4]),
        (by(|query| query.action = text("pause")), &[1, 4, 5]),
        (by(|query| query.subject = text("stripe-charges")), &[3]),
        (by(|query| query.subject = text(&tenant)), &[2]),
        (by(|query| query.subject = text(&run)), &[4]),
        (by(|query| query.from = Some(at)), &[0, 1, 2, 3]),
        (by(|query| query.to = Some(at)), &[4, 5]),
        (between(at, lines[1].at), &[2, 3]),
    ];
    for (query, expected) in cases {
        let expected: Vec<&str> = expected.iter().map(|place| all[*place].as_str()).collect();
        let found = listed(&app.client, query.clone()).await;
        assert_eq!(told(&found), expected, "{query:?}");
    }

    let nothing = AuditQuery {
        run_id: Some(one.run),
        subject: text("stripe-charges"),
        ..AuditQuery::default()
    };
    assert!(listed(&app.client, nothing).await.is_empty());

    let mut paged = Vec::new();
    let mut query = by(|query| query.limit = Some(4));
    loop {
        let page = app.client.list_audit(&query).await.unwrap();
        assert!(page.items.len() <= 4, "{}", page.items.len());
        paged.extend(page.items);
        match page.next_cursor {
            Some(next) => query.cursor = Some(next),
            None => break,
        }
    }
    assert_eq!(paged, lines);
    app.finish().await;
}

/// Support cancels a subscription, takes that back, and gives credit in two ways.
async fn serve(customer: &Subscriber<'_>) -> Vec<String> {
    let (client, tenant) = (customer.client, customer.tenant.tenant_id);
    let id = customer.subscription;
    let reason = || Some("they called".to_owned());
    let cancel = CancelSubscription {
        when: When::PeriodEnd,
        credit: CreditPolicy::None,
        reason: reason(),
        dry_run: false,
    };
    let once = key();
    let cancelled = client.cancel_subscription(tenant, id, &cancel, &once);
    cancelled.await.unwrap();
    customer.advance("0h").await;
    let undo = UndoIntent {
        intent: IntentKind::Cancel,
        reason: reason(),
    };
    let once = key();
    let undone = client.undo_intent(tenant, id, &undo, &once);
    undone.await.unwrap();
    let grant = GrantCredit {
        amount: Money {
            amount: "5.00".parse().unwrap(),
            currency: "USD".to_owned(),
        },
        reason: "an outage".to_owned(),
        dry_run: false,
    };
    client.grant_credit(tenant, &grant, &key()).await.unwrap();
    let note = NewCreditNote {
        amount: None,
        refund: false,
        reason: "an outage".to_owned(),
        dry_run: false,
    };
    let invoice = customer.invoices().await[0].invoice_id;
    let once = key();
    let given = client.give_credit_note(tenant, invoice, &note, &once);
    given.await.unwrap();
    vec![
        format!("give credit note {invoice}"),
        format!("grant credit {tenant}"),
        format!("undo cancel {id}"),
        format!("cancel subscription {id}"),
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_done_to_what_a_tenant_has_is_found_by_that_tenant() {
    let app = TestApp::new().await;
    let make = app.customer();
    let (one, other) = (
        make.team("pm_card_visa").await,
        make.team("pm_card_visa").await,
    );
    for customer in [&one, &other] {
        let done = serve(customer).await;
        let tenant = customer.tenant.tenant_id;
        let lines = listed(&app.client, by(|query| query.tenant_id = Some(tenant))).await;
        assert_eq!(told(&lines), done);
        assert!(lines.iter().all(|line| line.tenant_id == Some(tenant)));
    }
    app.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_publishes_a_catalogue_says_why_and_what_came_of_it_is_kept() {
    let app = TestApp::new().await;
    let publish = async |names: &[&str], publish: PublishCatalog| {
        let coupons = names.iter().map(|name| {
            let terms = json!({ "name": *name, "off": { "percent": "10" }, "duration": "once" });
            ((*name).to_owned(), terms)
        });
        let coupons: serde_json::Map<String, Value> = coupons.collect();
        let catalog = json!({ "coupons": coupons });
        app.client.publish_catalog(&catalog, &publish, &key()).await
    };
    let why = |reason: &str| PublishCatalog {
        dry_run: None,
        reason: Some(reason.to_owned()),
    };
    for none in [PublishCatalog::default(), why(" ")] {
        let refused = publish(&["summer"], none).await.unwrap_err();
        let problem = refused.problem().unwrap();
        assert_eq!(
            (problem.status, &*problem.errors[0].pointer),
            (422, "/reason")
        );
    }
    let dry = PublishCatalog {
        dry_run: Some(true),
        reason: None,
    };
    publish(&["summer"], dry).await.unwrap();
    let catalogues = by(|query| query.action = Some("publish catalogue".to_owned()));
    assert!(listed(&app.client, catalogues.clone()).await.is_empty());
    publish(&["summer"], why("a campaign")).await.unwrap();
    publish(&["summer", "autumn"], why("another"))
        .await
        .unwrap();
    // What is as it was is no act.
    publish(&["summer"], why("once more")).await.unwrap();
    let lines = listed(&app.client, catalogues).await;
    let kept = lines.iter().map(|line| {
        let entries = line.after.as_array().unwrap().iter();
        let keys = entries.map(|entry| entry["key"].as_str().unwrap());
        (line.reason.as_str(), keys.collect::<Vec<_>>())
    });
    let kept: Vec<_> = kept.collect();
    assert_eq!(
        kept,
        [("another", vec!["autumn"]), ("a campaign", vec!["summer"])]
    );
    app.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_of_one_tenant_reads_what_was_done_to_it_and_nothing_else() {
    let app = TestApp::new().await;
    let (one, other) = (Site::new(&app).await, Site::new(&app).await);
    for site in [&one, &other] {
        site.pause(&app.client, "a look").await;
        set_weight(&app.client, site.tenant).await;
    }
    pause_tenant(&app.client, one.tenant).await;
    set_limit(&app.client).await;
    place_hold(&app.client, one.tenant).await;
    // What is kept of an assignment tells how all tenants stand.
    let load = LoadDunningPolicy {
        document: json!({
            "ladders": { "soft": { "days": [2] } },
            "steps": [],
            "end": { "day": 9, "action": "cancel" },
        }),
        reason: "a story".to_owned(),
    };
    let loaded = app.client.load_dunning_policy("story", &load, &key()).await;
    loaded.unwrap();
    let assign = AssignDunningPolicy {
        scope: DunningScope::Tenant,
        subject: one.tenant.to_string(),
        policy: Some("story".to_owned()),
        reason: load.reason,
    };
    let assigned = app.client.assign_dunning_policy(&assign, &key()).await;
    assigned.unwrap();

    let mut conn = connect(&app.options).await;
    let own = async |conn: &mut sqlx::PgConnection, tenant: Uuid| {
        let token = token(conn, Role::Viewer, Some(TenantId(tenant))).await;
        Client::new(&app.url, &token).unwrap()
    };
    let client = own(&mut conn, one.tenant).await;
    let seen = [
        format!("pause tenant {}", one.tenant),
        format!("set weight {}", one.tenant),
        format!("pause {}", one.run),
    ];
    assert_eq!(told(&listed(&client, AuditQuery::default()).await), seen);
    for (tenant, expected) in [(one.tenant, &seen[..]), (other.tenant, &seen[..0])] {
        let query = by(|query| query.tenant_id = Some(tenant));
        assert_eq!(told(&listed(&client, query).await), expected);
    }
    let client = own(&mut conn, other.tenant).await;
    let seen = [
        format!("set weight {}", other.tenant),
        format!("pause {}", other.run),
    ];
    assert_eq!(told(&listed(&client, AuditQuery::default()).await), seen);
    app.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_sealed_is_read_open_or_said_to_be_unreadable() {
    let app = TestApp::sealed().await;
    let site = Site::new(&app).await;
    site.pause(&app.client, "a look").await;
    let mut conn = connect(&app.options).await;
    let kept: Value = sqlx::query_scalar("select before from engine.audit where run_id = $1")
        .bind(site.run)
        .fetch_one(&mut conn)
        .await
        .unwrap();
    assert!(kept["sealed"].is_string(), "{kept}");
    let lines = listed(&app.client, AuditQuery::default()).await;
    assert_eq!(lines[0].before["state"], "Ready");
    assert_eq!(lines[0].after["status"], "paused");

    // A process that has not the key.
    let mut tx = conn.begin().await.unwrap();
    let (none, all) = (Keyring::default(), audit::Query::default());
    let lines = audit::list(&mut tx, &none, &all, None, 10).await.unwrap();
    for kept in [&lines[0].before, &lines[0].after] {
        let why = kept["unreadable"].as_str().unwrap();
        assert!(why.contains("no master key"), "{why}");
    }
    drop(tx);
    app.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_query_that_makes_no_sense_is_refused_by_the_name_of_its_part() {
    let app = TestApp::new().await;
    // reqwest wants a TLS provider even for plain HTTP.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let http = reqwest::Client::new();
    let refused = async |query: &str| {
        let url = format!("{}/v1/audit?{query}", app.url);
        let answer = http.get(url).bearer_auth(&app.token).send().await.unwrap();
        answer.json::<Value>().await.unwrap()
    };
    for (query, says) in [
        ("run_id=abc", "run_id"),
        (
            "from=yesterday",
            "from: \"yesterday\" is no instant; write it as RFC 3339 does",
        ),
        ("who=maria", "who"),
        ("limit=0", "limit is 0"),
        ("cursor=abc", "next_cursor"),
        (
            "cursor=-1.01a209f6-4762-727e-b736-2430e0a79587",
            "next_cursor",
        ),
    ] {
        let problem = refused(query).await;
        assert_eq!(problem["status"], 400, "{problem}");
        assert_eq!(problem["code"], "invalid_query", "{problem}");
        let detail = problem["detail"].as_str().unwrap();
        assert!(detail.contains(says), "{problem}");
    }
    for (query, pointer) in [
        ("actor=nul%00", "/actor"),
        ("subject=nul%00", "/subject"),
        ("from=2027-02-01T00:00:00Z&to=2027-01-31T00:00:00Z", "/to"),
    ] {
        let problem = refused(query).await;
        assert_eq!(problem["status"], 422, "{problem}");
        assert_eq!(problem["errors"][0]["pointer"], pointer, "{problem}");
    }
    let url = format!("{}/v1/audit", app.url);
    let stranger = http.get(url).send().await.unwrap();
    assert_eq!(stranger.status().as_u16(), 401);
    app.finish().await;
}

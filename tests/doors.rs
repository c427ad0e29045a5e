//! Every verb has its doors: what the API can do, a script can do with `tenure … --json`, and a person
//! can do from a menu of the console; or it says here why not. A verb that is added to one of them
//! and forgotten in the others fails.

use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;

use serde_json::{Value, json};
use tenure_client::filter::FIELDS;
use tenure_client::{AllowedAction, RunCount};
use tenure_console::crossterm::event::KeyCode;
use tenure_console::event::{Answer, Content};
use tenure_engine::operator::Verb;

use crate::console::desk::Desk;
use crate::console::samples::{
    bulk, detail, flow, id, page, parse, results, retention, run, run_answer, schedule,
    schedule_detail, tenant_answer, tenants,
};
use crate::support::app::TestApp;
use crate::support::process::tenure;

/// A way in, or why there is none.
enum Way {
    /// The words of the command line, or the place in the console and the verb of its menu.
    At(&'static str, &'static str),
    /// Nobody needs it there.
    Not(&'static str),
}

use Way::{At, Not};

/// What a program does, not a person.
const PROGRAM: Way = Not("a program calls it");
/// What is written down in a file that is kept under review.
const FILE: Way = Not("it is loaded from a file, which a screen has none of");
/// What support does for a customer so far from a script.
const SCRIPT: Way = Not("a form of many fields, or a rare act, which the command line has");

/// What changes something: the operation, its command, and its menu.
#[rustfmt::skip] // A table is read by its columns.
const DOORS: &[(&str, Way, Way)] = &[
    ("POST /v1/backfills", At("backfill start", ""), FILE),
    ("POST /v1/backfills/plan", At("backfill plan", ""), FILE),
    ("POST /v1/backfills/{name}/actions/{verb}", At("backfill pause", ""), SCRIPT),
    ("POST /v1/backfills/{name}/ranges/{range_id}/actions/{verb}", At("backfill skip", ""), SCRIPT),
    ("POST /v1/breakers/{name}/actions/close", At("flow close-breaker", ""), At("flow", "close-breaker")),
    ("POST /v1/breakers/{name}/actions/open", At("flow open-breaker", ""), At("flow", "open-breaker")),
    ("POST /v1/bulk-operations", At("bulk prepare", ""), At("many", "retry")),
    ("POST /v1/bulk-operations/{bulk_operation_id}/abort", At("bulk abort", ""), At("bulk", "abort")),
    ("POST /v1/bulk-operations/{bulk_operation_id}/confirm", At("bulk confirm", ""), At("bulk", "confirm")),
    ("POST /v1/catalog", At("catalog load", ""), FILE),
    ("POST /v1/deletions", At("deletion request", ""), SCRIPT),
    ("POST /v1/deletions/{deletion_id}/accept", At("deletion accept", ""), SCRIPT),
    ("POST /v1/deletions/{deletion_id}/approve", At("deletion approve", ""), SCRIPT),
    ("POST /v1/deletions/{deletion_id}/cancel", At("deletion cancel", ""), SCRIPT),
    ("POST /v1/deletions/{deletion_id}/retry", At("deletion retry", ""), SCRIPT),
    ("PUT /v1/dunning-assignments", At("dunning-policy assign", ""), SCRIPT),
    ("PUT /v1/dunning-policies/{policy}", At("dunning-policy load", ""), FILE),
    ("POST /v1/keys/actions/rewrap", At("key rewrap", ""), At("tenant", "rewrap-keys")),
    ("POST /v1/legal-holds", At("retention hold", ""), At("retention", "place-hold")),
    ("DELETE /v1/legal-holds/{hold_id}", At("retention lift", ""), At("retention", "lift-hold")),
    ("POST /v1/limits/{name}/actions/set", At("flow set-limit", ""), At("flow", "set-limit")),
    ("POST /v1/pauses", At("flow pause", ""), At("flow", "pause")),
    ("POST /v1/pauses/actions/lift", At("flow lift", ""), At("flow", "lift-pause")),
    ("POST /v1/product-migrations", At("placement migrate", ""), FILE),
    ("PUT /v1/retention/{workflow}", At("retention set", ""), At("retention", "set-policy")),
    ("POST /v1/runs", At("run start", ""), At("runs", "start")),
    ("POST /v1/runs/{run_id}/actions/{verb}", At("run act", ""), At("run", "retry")),
    ("POST /v1/runs/{run_id}/signals", At("run signal", ""), At("run", "signal")),
    ("POST /v1/runs/{run_id}/reveal", At("run reveal", ""), At("run", "reveal")),
    ("POST /v1/schedules", At("schedule create", ""), At("schedules", "create")),
    ("DELETE /v1/schedules/{schedule_id}", At("schedule delete", ""), At("schedules", "delete")),
    ("PATCH /v1/schedules/{schedule_id}", At("schedule update", ""), At("schedules", "change")),
    ("POST /v1/schedules/{schedule_id}/actions/pause", At("schedule pause", ""), At("schedules", "pause")),
    ("POST /v1/schedules/{schedule_id}/actions/resume", At("schedule resume", ""), At("schedules", "resume")),
    ("POST /v1/schedules/{schedule_id}/actions/run-now", At("schedule run-now", ""), At("schedules", "run-now")),
    ("POST /v1/sources/{source}/data-maps", At("data-map load", ""), FILE),
    ("POST /v1/sources/{source}/retention-policy", At("keep load", ""), FILE),
    ("POST /v1/tenants", At("tenant create", ""), SCRIPT),
    ("POST /v1/tenants/{tenant_id}/credit", At("tenant credit grant", ""), At("tenant", "grant-credit")),
    ("POST /v1/tenants/{tenant_id}/data-holds", At("keep hold", ""), SCRIPT),
    ("POST /v1/tenants/{tenant_id}/data-holds/{hold_id}/lift", At("keep lift", ""), SCRIPT),
    ("POST /v1/tenants/{tenant_id}/dunning-exemptions", At("tenant exempt grant", ""), At("tenant", "exempt")),
    ("POST /v1/tenants/{tenant_id}/dunning-exemptions/{exemption_id}/lift", At("tenant exempt lift", ""), At("tenant", "end-exemption")),
    ("POST /v1/tenants/{tenant_id}/exports", At("export start", ""), SCRIPT),
    ("POST /v1/tenants/{tenant_id}/holds", At("tenant hold place", ""), At("tenant", "hold-service")),
    ("POST /v1/tenants/{tenant_id}/holds/{hold_id}/lift", At("tenant hold lift", ""), At("tenant", "lift-service")),
    ("POST /v1/tenants/{tenant_id}/invoices/{invoice_id}/credit-notes", At("invoice credit-note", ""), At("tenant", "credit-note")),
    ("POST /v1/tenants/{tenant_id}/invoices/{invoice_id}/{verb}", At("invoice collect", ""), At("tenant", "collect")),
    ("DELETE /v1/tenants/{tenant_id}/keys", At("key destroy", ""), At("tenant", "destroy-keys")),
    ("POST /v1/tenants/{tenant_id}/keys", At("key rotate", ""), At("tenant", "rotate-key")),
    ("POST /v1/tenants/{tenant_id}/legal-entity", At("tenant legal-entity", ""), At("tenant", "change-entity")),
    ("DELETE /v1/tenants/{tenant_id}/overrides/{feature}", At("tenant override clear", ""), At("tenant", "clear-override")),
    ("PUT /v1/tenants/{tenant_id}/overrides/{feature}", At("tenant override set", ""), At("tenant", "set-override")),
    ("POST /v1/tenants/{tenant_id}/payment-methods", At("tenant attach", ""), At("tenant", "attach-method")),
    ("PUT /v1/tenants/{tenant_id}/payment-methods", At("tenant methods order", ""), SCRIPT),
    ("DELETE /v1/tenants/{tenant_id}/payment-methods/{method}", At("tenant methods remove", ""), SCRIPT),
    ("PUT /v1/tenants/{tenant_id}/placement", At("placement set", ""), SCRIPT),
    ("POST /v1/tenants/{tenant_id}/placement/back-out", At("placement back-out", ""), SCRIPT),
    ("POST /v1/tenants/{tenant_id}/placement/move", At("placement move", ""), SCRIPT),
    ("POST /v1/tenants/{tenant_id}/placement/provision", At("placement provision", ""), SCRIPT),
    ("POST /v1/tenants/{tenant_id}/restores", At("keep restore", ""), SCRIPT),
    ("POST /v1/tenants/{tenant_id}/subscriptions", At("subscription create", ""), SCRIPT),
    ("POST /v1/tenants/{tenant_id}/subscriptions/{subscription_id}/cancel", At("subscription cancel", ""), At("tenant", "cancel")),
    ("POST /v1/tenants/{tenant_id}/subscriptions/{subscription_id}/change", At("subscription change", ""), At("tenant", "change")),
    ("POST /v1/tenants/{tenant_id}/subscriptions/{subscription_id}/move-anchor", At("subscription move-anchor", ""), At("tenant", "move-anchor")),
    ("POST /v1/tenants/{tenant_id}/subscriptions/{subscription_id}/pause", At("subscription pause", ""), At("tenant", "pause")),
    ("POST /v1/tenants/{tenant_id}/subscriptions/{subscription_id}/resume", At("subscription resume", ""), At("tenant", "resume")),
    ("POST /v1/tenants/{tenant_id}/subscriptions/{subscription_id}/undo", At("subscription undo", ""), At("tenant", "undo")),
    ("POST /v1/tenants/{tenant_id}/sweeps", At("keep sweep", ""), SCRIPT),
    ("PUT /v1/tenants/{tenant_id}/tax", At("tenant tax set", ""), At("tenant", "set-tax")),
    ("PUT /v1/tenants/{tenant_id}/usage/{feature}", At("tenant usage report", ""), PROGRAM),
    ("POST /v1/tenants/{tenant_id}/zone", At("tenant zone", ""), At("tenant", "change-zone")),
    ("POST /v1/test-clocks/{test_clock_id}/advance", At("test-clock advance", ""), SCRIPT),
    ("POST /v1/webhook-events/{event_id}/replay", At("webhook replay", ""), SCRIPT),
    ("POST /v1/webhooks/stripe", PROGRAM, PROGRAM),
    ("POST /v1/weights", At("flow set-weight", ""), At("flow", "set-weight")),
];

/// What the API describes that changes something.
fn described() -> BTreeSet<String> {
    let document: Value = serde_json::from_str(include_str!("../docs/openapi.json")).unwrap();
    let paths = document["paths"].as_object().unwrap();
    let operations = paths.iter().flat_map(|(path, methods)| {
        let methods = methods.as_object().unwrap().keys();
        methods.map(move |method| format!("{} {path}", method.to_uppercase()))
    });
    operations.filter(|one| !one.starts_with("GET ")).collect()
}

#[test]
fn every_operation_of_the_api_says_where_else_it_is() {
    let told: BTreeSet<String> = DOORS.iter().map(|(one, ..)| (*one).to_owned()).collect();
    assert_eq!(told.len(), DOORS.len(), "one is told twice");
    let described = described();
    let forgotten: Vec<_> = described.difference(&told).collect();
    assert!(forgotten.is_empty(), "without a door: {forgotten:#?}");
    let gone: Vec<_> = told.difference(&described).collect();
    assert!(gone.is_empty(), "there is no such operation: {gone:#?}");
}

/// What a command says of itself.
fn help(words: &str) -> String {
    let output = Command::new(tenure())
        .args(words.split_whitespace())
        .arg("--help")
        .env_clear()
        .output()
        .unwrap();
    let text = String::from_utf8([output.stdout, output.stderr].concat()).unwrap();
    assert!(output.status.success(), "tenure {words}: {text}");
    text
}

#[test]
fn every_operation_has_its_command_that_prints_json() {
    for (operation, command, _) in DOORS {
        match command {
            At(words, _) => {
                let text = help(words);
                let usage = format!("Usage: tenure {words}");
                assert!(text.contains(&usage), "{operation}: {text}");
                assert!(text.contains("--json"), "{operation}: {text}");
            }
            Not(why) => assert!(!why.is_empty(), "{operation}"),
        }
    }
}

/// The words for what is done to a run, by whom it may be.
fn verbs_of_runs() -> Vec<&'static str> {
    let words = Verb::WORDS.into_iter();
    words.chain(["signal", "restart", "reveal"]).collect()
}

/// What a server offers for a thing on which everything can be done.
fn allowed() -> Vec<AllowedAction> {
    let actions = verbs_of_runs()
        .into_iter()
        .map(|word| parse(json!({"action": word, "allowed": true, "help": "Does it."})));
    actions.collect()
}

/// The consoles in which each place is on show.
fn places() -> BTreeMap<&'static str, Desk> {
    let mut shown = Desk::with_runs(vec![run(1)]);
    shown.key(KeyCode::Enter);
    let mut whole = detail(1);
    whole.allowed_actions = allowed();
    let nothing = Content::Timeline(Vec::new(), Vec::new());
    shown.answer(run_answer(whole, nothing));

    let mut many = Desk::with_runs(vec![run(1)]);
    many.key(KeyCode::Char('/'));
    many.type_text("status:stuck");
    many.key(KeyCode::Enter);
    many.answer(Answer::Runs(page(vec![run(1)])));
    many.key(KeyCode::Char('B'));
    let (runs, more) = (12, false);
    many.answer(Answer::Many(RunCount { runs, more }, allowed()));

    let mut flows = Desk::of("admin");
    flows.key(KeyCode::Char('f'));
    flows.answer(Answer::Flow(Box::new(flow())));

    let mut kept = Desk::of("admin");
    kept.key(KeyCode::Char('h'));
    kept.answer(Answer::Retention(Box::new(retention())));

    let mut schedules = Desk::of("admin");
    schedules.key(KeyCode::Char('s'));
    let mut close = schedule_detail(1);
    let slots = ["update", "pause", "resume", "run-now", "delete"]
        .map(|word| parse(json!({"action": word, "allowed": true, "help": "Does it."})));
    close.allowed_actions = slots.to_vec();
    schedules.answer(Answer::Schedules(vec![schedule(1)], Some(Box::new(close))));

    let mut tenant = Desk::of("admin");
    tenant.key(KeyCode::Char('t'));
    tenant.type_text("acme");
    tenant.key(KeyCode::Enter);
    tenant.answer(Answer::Tenants(page(tenants())));
    tenant.key(KeyCode::Enter);
    let mut whole = tenant_answer();
    let debts = whole.billing.debts.as_mut().unwrap();
    debts[0].exemption = Some(parse(json!({
        "exemption_id": id(75), "ends_at": "2027-01-09T09:00:00Z", "author": "maria",
        "reason": "they moved", "placed_at": "2026-12-19T09:00:00Z",
    })));
    tenant.answer(Answer::Tenant(Box::new(whole)));
    // What it may use is folded.
    tenant.key(KeyCode::Char('e'));

    let mut operation = Desk::of("admin");
    operation.key(KeyCode::Char('b'));
    operation.answer(Answer::Bulks(vec![bulk("prepared")]));
    operation.key(KeyCode::Enter);
    operation.answer(Answer::Bulk(Box::new(bulk("prepared")), page(results())));

    BTreeMap::from([
        ("run", shown),
        ("many", many),
        ("flow", flows),
        ("retention", kept),
        ("schedules", schedules),
        ("tenant", tenant),
        ("bulk", operation),
    ])
}

/// All verbs that the menus of a place offer, wherever its cursor is.
fn offered(desk: &mut Desk) -> BTreeSet<String> {
    let mut verbs = BTreeSet::new();
    // Verbs lead a line, be it of a menu's box or of the page of verbs for many.
    let mut note = |text: &str| {
        let parts = text.lines().flat_map(|line| line.split('│'));
        let words = parts.filter_map(|part| {
            let part = part.trim_start_matches([' ', '>']);
            part.split_whitespace().next()
        });
        verbs.extend(words.map(str::to_owned));
    };
    note(&desk.text());
    desk.key(KeyCode::Home);
    for _ in 0..200 {
        desk.key(KeyCode::Char('a'));
        note(&desk.text());
        desk.key(KeyCode::Esc);
        let before = desk.text();
        desk.key(KeyCode::Down);
        if desk.text() == before {
            break;
        }
    }
    verbs
}

#[test]
fn every_operation_has_its_line_in_a_menu() {
    let mut places = places();
    let offered: BTreeMap<_, _> = places
        .iter_mut()
        .map(|(place, desk)| (*place, offered(desk)))
        .collect();
    for (operation, _, console) in DOORS {
        match console {
            // A key of the list opens the form, because there is nothing to choose from.
            At("runs", "start") => {
                let mut desk = Desk::of("admin");
                desk.answer(Answer::Runs(page(vec![run(1)])));
                desk.key(KeyCode::Char('N'));
                assert!(desk.model.has_dialog(), "{operation}");
            }
            At(place, verb) => {
                let verbs = &offered[place];
                assert!(verbs.contains(*verb), "{operation}: {verbs:?}");
            }
            Not(why) => assert!(!why.is_empty(), "{operation}"),
        }
    }
    for verb in verbs_of_runs() {
        for place in ["run", "many"] {
            assert!(offered[place].contains(verb), "{verb} is not with {place}");
        }
    }
}

/// Asks for each field of the filter language, as the API, the command line and the console take it.
async fn every_field(app: &TestApp, tenant: uuid::Uuid) {
    let id = tenant.to_string();
    for field in FIELDS {
        let value = match field {
            "workflow" => "subscription",
            "state" => "Trialing",
            "status" => "waiting",
            "tenant" => id.as_str(),
            "key" => "none",
            "parent" => id.as_str(),
            "age" => ">1s",
            "attempt" | "visit" => ">=0",
            "started" => ">=2020-01-01",
            field => panic!("no value is known for {field}"),
        };
        let term = format!("{field}:{value}");
        let asked = tenure_client::RunFilter {
            filter: Some(term.clone()),
            ..tenure_client::RunFilter::default()
        };
        app.client.list_runs(&asked).await.unwrap();
        let done = Command::new(tenure())
            .args(["run", "list", "--json", "--filter", &term])
            .args(["--url", &app.url, "--token", &app.token])
            .output()
            .unwrap();
        assert!(done.status.success(), "{term}");
        let listed: Value = serde_json::from_slice(&done.stdout).unwrap();
        assert!(listed["items"].is_array(), "{listed}");
        let mut desk = Desk::of("admin");
        desk.answer(Answer::Runs(page(Vec::new())));
        desk.key(KeyCode::Char('/'));
        desk.type_text(&term);
        desk.key(KeyCode::Enter);
        assert!(desk.question().starts_with("Runs("), "{}", desk.text());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_verb_on_a_run_and_every_filter_has_all_three_doors() {
    let app = TestApp::new().await;
    let customer = app.customer().starter().await;
    let tenant = customer.tenant.tenant_id;
    let filter = tenure_client::RunFilter {
        tenant_id: Some(tenant),
        ..tenure_client::RunFilter::default()
    };
    let found = app.client.list_runs(&filter).await.unwrap();
    let run = app.client.run(found.items[0].run_id).await.unwrap();
    let actions = run.allowed_actions.clone();
    let offered: BTreeSet<&str> = actions.iter().map(|one| one.action.as_str()).collect();
    assert_eq!(offered, verbs_of_runs().into_iter().collect());
    let many = app.client.list_bulk_verbs().await.unwrap();
    let mut many: BTreeSet<&str> = many.iter().map(|one| one.action.as_str()).collect();
    assert!(many.insert("reveal"), "it is done to one run only");
    assert_eq!(many, offered, "one run and many");
    let (act, prepare) = (help("run act"), help("run"));
    for verb in offered.iter().filter(|verb| **verb != "signal") {
        let told = act.contains(verb) || prepare.contains(verb);
        assert!(told, "tenure run does not name {verb}");
    }

    // The same answer to why, on the command line and in the console.
    let id = run.summary.run_id.to_string();
    let shown = Command::new(tenure())
        .args(["run", "show", "--json", &id])
        .args(["--url", &app.url, "--token", &app.token])
        .output()
        .unwrap();
    let shown: Value = serde_json::from_slice(&shown.stdout).unwrap();
    assert_eq!(shown["why"]["kind"], run.why.kind);
    let mut desk = Desk::with_runs(vec![run.summary.clone()]);
    desk.key(KeyCode::Enter);
    let words: Vec<String> = run
        .why
        .summary
        .split(' ')
        .take(3)
        .map(str::to_owned)
        .collect();
    desk.answer(run_answer(run, Content::Timeline(Vec::new(), Vec::new())));
    assert!(desk.text().contains(&words.join(" ")), "{}", desk.text());

    every_field(&app, tenant).await;
    app.finish().await;
}

/// Every reason that `why` knows is named where it is documented, and each of the engine's words for
/// one is in the source of `why` alone.
#[test]
fn every_reason_of_why_is_documented_for_operators() {
    let source = include_str!("../engine/src/inspect/why.rs");
    let operating = include_str!("../docs/operating.md");
    let kinds = source.split("kind: \"").skip(1);
    let mut kinds: BTreeSet<&str> = kinds.filter_map(|rest| rest.split('"').next()).collect();
    let simple = source.split("simple(\"").skip(1);
    kinds.extend(simple.filter_map(|rest| rest.split('"').next()));
    let doors = source.split("(\"blocked_by_").skip(1);
    let doors: Vec<String> = doors
        .filter_map(|rest| rest.split('"').next())
        .map(|door| format!("blocked_by_{door}"))
        .collect();
    kinds.extend(doors.iter().map(String::as_str));
    assert!(kinds.len() > 15, "{kinds:?}");
    for kind in kinds {
        let named = format!("`{kind}`");
        assert!(
            operating.contains(&named),
            "{kind} is not in docs/operating.md"
        );
    }
}

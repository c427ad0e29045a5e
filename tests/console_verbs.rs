//! What a person does to more than one run, from the console that they have: the real program in a
//! pseudo-terminal of the usual size, against a served product.

use serde_json::json;
use tenure_client::{
    BulkStatus, IdempotencyKey, LegalHoldFilter, NewTenant, PauseScope, RetentionAction, Role,
    RunFilter, RunStatus, ScheduleFilter, Tenant,
};

use crate::console_pty::{Console, ENTER, acme, size};
use crate::support::app::{TestApp, token};
use crate::support::{connect, eventually};

pub(crate) const ESCAPE: &str = "\x1b";
/// Empties the field under the cursor.
pub(crate) const EMPTY: &str = "\x15";
const DOWN: &str = "\x1b[B";

/// Types into the field under the cursor and goes on to the next.
pub(crate) async fn fill(console: &mut Console, text: &str) {
    console.press(EMPTY);
    console.press(text);
    console.sees(&[&format!("> {text}")]).await;
    console.press(ENTER);
}

/// Goes back, and waits for what is there. A lone escape is one only when nothing follows it.
pub(crate) async fn back_to(console: &mut Console, words: &[&str]) {
    console.press(ESCAPE);
    console.sees(words).await;
}

/// Opens the menu and chooses a verb of it.
pub(crate) async fn choose(console: &mut Console, verb: &str) {
    console.press("a");
    console.sees(&["choose", "close", "│ > "]).await;
    let wanted = format!("│ > {verb}");
    // It begins at the first verb that can be done, so what is wanted is there or below.
    while !console.text().contains(&wanted) {
        let before = under_cursor(console);
        console.press(DOWN);
        eventually("the cursor moves", async || under_cursor(console) != before).await;
    }
    console.press(ENTER);
    console.sees(&[&format!("suite: {verb}, ")]).await;
}

/// The verb of the menu that the cursor is on. What stands beside it may change by itself.
fn under_cursor(console: &Console) -> Option<String> {
    let text = console.text();
    let (_, behind) = text.split_once("│ > ")?;
    behind.split_whitespace().next().map(str::to_owned)
}

/// Opens a tenant's page from the list.
pub(crate) async fn open_tenant(console: &mut Console, part: &str, name: &str) {
    console.press("t");
    console.sees(&["TENANTS: type"]).await;
    console.press(part);
    console.sees(&[&format!("/ {part}")]).await;
    console.press(ENTER);
    console
        .sees(&["TENANTS, newest", &format!(">  {name}")])
        .await;
    console.press(ENTER);
    console
        .sees(&[&format!("TENANT {name}"), "owes nothing"])
        .await;
}

async fn tenant(app: &TestApp, name: &str) -> Tenant {
    let new = NewTenant {
        name: name.to_owned(),
        email: format!("{}@tenants.example", name.to_lowercase()),
        zone: "Europe/Berlin".to_owned(),
        locale: None,
        test_clock: None,
        legal_entity: None,
    };
    let key = IdempotencyKey::generate();
    let made = app.client.create_tenant(&new, &key);
    made.await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_limit_a_breaker_and_a_tenant_are_held_and_let_go() {
    let app = TestApp::new().await;
    let acme = acme(&app).await;
    let mut console = Console::open(&app, size(24, 80));
    console.sees(&["suite", "live", "tenant"]).await;
    console.press("f");
    console
        .sees(&["LIMITS", "stripe-charges", "80 per 1 s"])
        .await;
    console.press("j");
    choose(&mut console, "set-limit").await;
    fill(&mut console, "0").await;
    console.press(&ENTER.repeat(3));
    fill(&mut console, "the provider is down").await;
    console
        .sees(&["at once: not bounded -> 0", "> [ Do it: set-limit ]"])
        .await;
    console.press(ENTER);
    console.sees(&["0 of 0 in use"]).await;
    let limits = app.client.list_limits().await.unwrap();
    let charges = limits.iter().find(|one| one.name == "stripe-charges");
    let charges = charges.unwrap();
    assert_eq!(charges.concurrency, Some(0));
    assert_eq!(charges.rate.unwrap().count, 80, "that is as it was");
    assert_eq!(charges.reason.as_deref(), Some("the provider is down"));

    choose(&mut console, "open-breaker").await;
    fill(&mut console, "stripe").await;
    fill(&mut console, "they asked us to").await;
    console.sees(&["Steps on stripe wait"]).await;
    console.press(ENTER);
    console.sees(&["BREAKERS  [1]", "x held open"]).await;
    console.press("G");
    console.press("k");
    choose(&mut console, "close-breaker").await;
    fill(&mut console, "they are back").await;
    console.press(ENTER);
    console.sees(&["+ closed"]).await;
    assert_eq!(app.client.list_breakers().await.unwrap()[0].state, "closed");

    // A pause of a tenant is written on its own page, and found again here.
    back_to(&mut console, &["WORKFLOW"]).await;
    open_tenant(&mut console, "billing@acme", "Acme").await;
    console.sees(&["has no payment method"]).await;
    choose(&mut console, "pause").await;
    console.press(&ENTER.repeat(2));
    fill(&mut console, "they move").await;
    console.press(ENTER);
    console.sees(&["is paused."]).await;
    let pauses = app.client.list_pauses().await.unwrap();
    let pause = &pauses[0];
    let wanted = (PauseScope::Tenant, acme.tenant_id.to_string());
    assert_eq!((pause.scope, pause.name.clone()), wanted);
    back_to(&mut console, &["TENANTS, newest"]).await;
    back_to(&mut console, &["WORKFLOW"]).await;
    console.press("f");
    console
        .sees(&["= tenant", "by suite admin", "they move"])
        .await;
    console.press("jjj");
    choose(&mut console, "lift-pause").await;
    fill(&mut console, "they moved").await;
    console.press(ENTER);
    console.sees(&["PAUSES  none"]).await;
    assert_eq!(app.client.list_pauses().await.unwrap(), Vec::new());
    console.press("q");
    assert_eq!(console.ended().await, 0);
    app.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
#[expect(
    clippy::too_many_lines,
    reason = "one story, from its beginning to its end"
)]
async fn many_runs_are_paused_by_their_number_and_another_selection_is_ended() {
    let app = TestApp::new().await;
    for name in ["Acme", "Birch", "Cedar"] {
        tenant(&app, name).await;
    }
    let filter = RunFilter {
        filter: Some("workflow:tenant state:Ready status:waiting".to_owned()),
        ..RunFilter::default()
    };
    eventually("the tenants are provisioned", async || {
        app.client.list_runs(&filter).await.unwrap().items.len() == 3
    })
    .await;
    let mut console = Console::open(&app, size(24, 80));
    console.sees(&["suite", "live", "Cedar"]).await;
    console.press("B");
    console.sees(&["filter the list first"]).await;
    console.press("/");
    console.press("workflow:tenant");
    console.press(ENTER);
    console.sees(&["/ workflow:tenant", "Acme"]).await;
    console.press("B");
    console
        .sees(&["ACT ON 3 runs: workflow:tenant", "terminate"])
        .await;
    console.press("jjjj");
    console.sees(&[">  pause"]).await;
    console.press(ENTER);
    console
        .sees(&["suite: pause, all runs of workflow:tenant"])
        .await;
    fill(&mut console, "100").await;
    fill(&mut console, "1").await;
    fill(&mut console, "the provider is down").await;
    console.sees(&["[ Do it: select the runs ]"]).await;
    let paused = RunFilter {
        status: Some(RunStatus::Paused),
        ..RunFilter::default()
    };
    console.press(ENTER);
    console
        .sees(&["3 runs are selected", "to go on, type 3"])
        .await;
    assert_eq!(app.client.list_runs(&paused).await.unwrap().items.len(), 0);
    console.press("4");
    console.press(&ENTER.repeat(2));
    console.sees(&["! runs: to go on, type 3"]).await;
    console.press("\x1b[Z");
    fill(&mut console, "3").await;
    fill(&mut console, "all three").await;
    console
        .sees(&["pause is done to 3 runs, 100 a second"])
        .await;
    console.press(ENTER);
    console
        .sees(&["+ done", "3 of 3 done", "RUNS: all runs"])
        .await;
    assert_eq!(app.client.list_runs(&paused).await.unwrap().items.len(), 3);
    console.press("\t");
    console.sees(&["RUNS: refused", "None of these."]).await;
    console.press("\t\t");
    console.sees(&["RUNS: done", ">  + done"]).await;
    console.press(ENTER);
    console.sees(&["= paused", "state Ready"]).await;

    // What they were selected for is thought over.
    back_to(&mut console, &["RUNS: done"]).await;
    back_to(&mut console, &["ACT ON 3 runs"]).await;
    console.press("j");
    console.sees(&[">  resume"]).await;
    console.press(ENTER);
    console.press(&ENTER.repeat(2));
    fill(&mut console, "they are back").await;
    console.press(ENTER);
    console
        .sees(&["3 runs are selected", "to go on, type 3"])
        .await;
    back_to(&mut console, &["? prepared", "Nothing was changed."]).await;
    choose(&mut console, "abort").await;
    fill(&mut console, "not yet").await;
    console.sees(&["3 runs are left alone."]).await;
    console.press(ENTER);
    console.sees(&["- aborted"]).await;
    back_to(&mut console, &["ACT ON 3 runs"]).await;
    back_to(&mut console, &["/ workflow:tenant"]).await;
    console.press("b");
    console
        .sees(&["- aborted", "+ done", "pause", "resume"])
        .await;
    let all = app.client.list_bulk_operations(&Default::default()).await;
    let all = all.unwrap().items;
    let statuses: Vec<_> = all.iter().map(|one| one.status).collect();
    assert_eq!(statuses, [BulkStatus::Aborted, BulkStatus::Done]);
    console.press("q");
    assert_eq!(console.ended().await, 0);
    app.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_kept_is_decided_and_a_run_is_held() {
    let app = TestApp::new().await;
    acme(&app).await;
    let mut console = Console::open(&app, size(24, 80));
    console.sees(&["suite", "live", "tenant", "waiting"]).await;
    console.press("h");
    console
        .sees(&["POLICIES", "bulk", "as its code says"])
        .await;
    console.press("jjjj");
    choose(&mut console, "set-policy").await;
    fill(&mut console, "keep").await;
    console.press(EMPTY);
    console.press(ENTER);
    fill(&mut console, "we want to see").await;
    console.sees(&["-> kept for ever"]).await;
    console.press(ENTER);
    console.sees(&["kept for ever", "by suite admin"]).await;
    let policies = app.client.list_retention().await.unwrap();
    let decided = policies.iter().find(|one| one.workflow == "bulk").unwrap();
    assert_eq!(decided.action, RetentionAction::Keep);

    back_to(&mut console, &["WORKFLOW"]).await;
    console.press(ENTER);
    console.sees(&["tenant v1", "You may: "]).await;
    choose(&mut console, "place-hold").await;
    console.press(&ENTER.repeat(2));
    fill(&mut console, "a case at court").await;
    console.press(ENTER);
    console.sees(&["is dropped now."]).await;
    let held = LegalHoldFilter::default();
    let holds = app.client.list_legal_holds(&held).await.unwrap().items;
    let tenants = RunFilter {
        workflow: Some("tenant".to_owned()),
        ..RunFilter::default()
    };
    let run = app.client.list_runs(&tenants).await.unwrap().items[0].run_id;
    assert_eq!(holds[0].run_id, Some(run));
    choose(&mut console, "place-hold").await;
    console.press(&ENTER.repeat(2));
    fill(&mut console, "once more").await;
    console.press(ENTER);
    console
        .sees(&["! It contradicts", "the same is held"])
        .await;
    back_to(&mut console, &["Nothing was changed."]).await;

    back_to(&mut console, &["WORKFLOW"]).await;
    console.press("h");
    console.sees(&["HOLDS  [1]", "a case at court"]).await;
    console.press("j");
    choose(&mut console, "lift-hold").await;
    fill(&mut console, "settled").await;
    console.press(ENTER);
    console.sees(&["HOLDS  nothing is held"]).await;
    assert_eq!(app.client.list_legal_holds(&held).await.unwrap().items, []);
    console.press("q");
    assert_eq!(console.ended().await, 0);
    app.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn runs_and_schedules_are_started_and_one_that_ended_is_started_over() {
    let app = TestApp::new().await;
    let acme = acme(&app).await;
    let mut console = Console::open(&app, size(24, 80));
    console.sees(&["suite", "live", "Acme", "waiting"]).await;
    console.press("N");
    console.sees(&["suite: start, a new run of Acme"]).await;
    fill(&mut console, "notice").await;
    console.press(ENTER);
    fill(&mut console, "welcome-back").await;
    fill(&mut console, "{\"recovered\": {}}").await;
    console.press(&ENTER.repeat(5));
    console
        .sees(&["with key welcome-back starts at once."])
        .await;
    console.press(ENTER);
    console
        .sees(&["notice v", "completed", "key welcome-back"])
        .await;

    // The same again under another key, as another mail.
    choose(&mut console, "restart").await;
    fill(&mut console, "welcome-back-2").await;
    console.press(ENTER);
    let cancelled = "{\"cancelled\": {\"plan\": \"Team\", \"ended_at\": \"2027-01-01T00:00:00Z\", \"unpaid\": false}}";
    console.press(cancelled);
    console.sees(&["JSON is fine"]).await;
    console.press(ENTER);
    fill(&mut console, "the first was the wrong one").await;
    console.sees(&["> [ Do it: restart ]"]).await;
    console.press(ENTER);
    console.sees(&["completed", "key welcome-back-2"]).await;
    let notices = RunFilter {
        workflow: Some("notice".to_owned()),
        ..RunFilter::default()
    };
    let notices = app.client.list_runs(&notices).await.unwrap().items;
    let keys: Vec<_> = notices.iter().map(|run| run.key.as_str()).collect();
    assert_eq!(keys, ["welcome-back-2", "welcome-back"]);

    // From the run to its tenant, and there a schedule.
    console.press("t");
    console.sees(&["TENANT Acme", "SCHEDULES  none"]).await;
    choose(&mut console, "create").await;
    fill(&mut console, "nightly").await;
    fill(&mut console, "notice").await;
    console.press(ENTER);
    fill(&mut console, "{\"recovered\": {}}").await;
    fill(&mut console, "30 2 * * *").await;
    console.press(&ENTER.repeat(4));
    fill(&mut console, "they want it").await;
    console.sees(&["> [ Do it: create ]"]).await;
    console.press(ENTER);
    console.sees(&["SCHEDULES  [1]", "nightly"]).await;
    let own = ScheduleFilter {
        tenant_id: Some(acme.tenant_id),
        ..ScheduleFilter::default()
    };
    let made = app.client.list_schedules(&own).await.unwrap().items;
    assert_eq!(made[0].cron, "30 2 * * *");
    assert_eq!(made[0].input, json!({"recovered": {}}));
    console.press("q");
    assert_eq!(console.ended().await, 0);
    app.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_subscriber_is_on_one_page_and_its_keys_are_rotated() {
    let app = TestApp::sealed().await;
    let customer = app.customer();
    let subscriber = customer.starter().await;
    subscriber.advance("15d").await;
    let mut console = Console::open(&app, size(40, 120));
    console.sees(&["suite", "live", "subscription"]).await;
    console.press("t");
    console.press("acm");
    console.press(ENTER);
    console.sees(&["TENANTS, newest", ">  Acme "]).await;
    console.press(ENTER);
    console
        .sees(&[
            "TENANT Acme",
            "pays by visa",
            "owes nothing",
            "+ active",
            "period ends 14 Mar 2027",
            "(tenant's) starter-monthly period ends",
            "+ paid",
            "19.00 EUR",
            "LIVE RUNS",
            "KEYS  [1]",
        ])
        .await;
    console.press("jjjjj");
    console.sees(&[">  ▸ + active"]).await;
    console.press(ENTER);
    console
        .sees(&["subscription v", "state ", "You may: "])
        .await;
    back_to(&mut console, &["KEYS  [1]"]).await;
    choose(&mut console, "rotate-key").await;
    fill(&mut console, "once a year").await;
    console.sees(&["Version 2 is made"]).await;
    console.press(ENTER);
    console.sees(&["KEYS  [2]"]).await;
    let keys = app.client.list_keys(subscriber.tenant.tenant_id).await;
    assert_eq!(keys.unwrap().len(), 2);
    // Runs of it have not ended, so the server refuses what cannot be taken back.
    choose(&mut console, "destroy-keys").await;
    fill(&mut console, "Acme").await;
    fill(&mut console, "they asked for it").await;
    console.sees(&["There is no way back."]).await;
    console.press(ENTER);
    console.sees(&["! ", "[ See what will happen ]"]).await;
    let keys = app.client.list_keys(subscriber.tenant.tenant_id).await;
    assert!(keys.unwrap().iter().all(|key| key.destroyed_at.is_none()));
    back_to(&mut console, &["Nothing was changed."]).await;
    console.press("q");
    assert_eq!(console.ended().await, 0);
    app.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
#[expect(
    clippy::too_many_lines,
    reason = "one story, from its beginning to its end"
)]
async fn what_a_tenant_bought_is_changed_after_the_money_was_shown() {
    let app = TestApp::new().await;
    let customer = app.customer();
    let subscriber = customer.team("pm_card_visa").await;
    let (tenant, id) = (subscriber.tenant.tenant_id, subscriber.subscription);
    subscriber.advance("10d").await;
    // Found by what the provider calls its payment method.
    let known = app.client.tenant(tenant).await.unwrap();
    let method = known.default_payment_method.unwrap().provider_id;
    let mut console = Console::open(&app, size(40, 140));
    console.sees(&["suite", "live", "subscription"]).await;
    console.press("t");
    console.press(&method);
    console.press(ENTER);
    console.sees(&["TENANTS, newest", ">  Acme "]).await;
    console.press(ENTER);
    console
        .sees(&["TENANT Acme", "+ active", "team-monthly", "service is on"])
        .await;
    console.press("jjjjj");
    console.sees(&[">  ▸ + active"]).await;

    // Three more seats, from the eleventh of thirty days on.
    choose(&mut console, "change").await;
    console.press(ENTER);
    fill(&mut console, "8").await;
    console.press(ENTER);
    console.press(ENTER);
    console.press("they grow");
    console.press(ENTER);
    let changed = |seats| tenure_client::ChangeSubscription {
        seats: Some(seats),
        ..tenure_client::ChangeSubscription::default()
    };
    let asked = tenure_client::ChangeSubscription {
        dry_run: true,
        ..changed(8)
    };
    let key = IdempotencyKey::generate();
    let told = app.client.change_subscription(tenant, id, &asked, &key);
    let told = told.await.unwrap();
    let due = format!("In all {} (tax ", told.total);
    console
        .sees(&["What will happen", &due, "[ Do it: change ]"])
        .await;
    let before = app.client.subscription(tenant, id).await.unwrap();
    assert_eq!(before.subscription.seats, Some(5), "it was only shown");
    console.press(ENTER);
    console
        .sees(&["The subscription's run has been told"])
        .await;
    subscriber.advance("0h").await;
    let after = app.client.subscription(tenant, id).await.unwrap();
    assert_eq!(after.subscription.seats, Some(8));
    let billed = app.client.list_invoices(tenant).await.unwrap();
    assert_eq!(billed[0].total, told.total, "what was shown was billed");

    // Its end is planned and taken back.
    choose(&mut console, "cancel").await;
    console.press(&ENTER.repeat(2));
    console.press("they leave");
    console.press(ENTER);
    console
        .sees(&["Nothing is charged.", "[ Do it: cancel ]"])
        .await;
    console.press(ENTER);
    console.sees(&["~ will cancel"]).await;
    choose(&mut console, "undo").await;
    console.press(ENTER);
    console.press("they stay");
    console.press(ENTER);
    console
        .sees(&["The cancel on ", "does not come about."])
        .await;
    console.press(ENTER);
    eventually("nothing is to come", async || {
        let one = app.client.subscription(tenant, id).await.unwrap();
        one.intents.is_empty()
    })
    .await;

    // What was paid is given back, and credit is given besides.
    console.sees(&[">  ▸ + active"]).await;
    while !console.text().contains(">  ▸ + paid") {
        let before = console.text();
        console.press(DOWN);
        eventually("the cursor moves", async || console.text() != before).await;
    }
    choose(&mut console, "refund").await;
    fill(&mut console, "10.00").await;
    console.press("an apology");
    console.press(ENTER);
    console
        .sees(&["10.00 USD goes back to the payment method."])
        .await;
    assert_eq!(app.client.list_credit_notes(tenant).await.unwrap(), []);
    console.press(ENTER);
    console
        .sees(&["Credit note ", "gives back 10.00 USD."])
        .await;
    choose(&mut console, "grant-credit").await;
    fill(&mut console, "7.50").await;
    console.press(ENTER);
    console.press("another");
    console.press(ENTER);
    console.sees(&["7.50 USD is added to its balance."]).await;
    console.press(ENTER);
    console
        .sees(&["7.50 USD is granted.", "7.50 USD  in credit"])
        .await;
    let credit = app.client.credit(tenant).await.unwrap();
    assert_eq!(credit.balances[0].to_string(), "7.50 USD");

    // What a person did stands in the audit with the reason.
    let mut conn = connect(&app.options).await;
    let deeds: Vec<(String, String)> = sqlx::query_as(
        "select action, reason from engine.control_audit where actor = 'suite admin' order by at",
    )
    .fetch_all(&mut conn)
    .await
    .unwrap();
    let deeds: Vec<(&str, &str)> = deeds
        .iter()
        .map(|(action, reason)| (action.as_str(), reason.as_str()))
        .collect();
    assert_eq!(
        deeds,
        [
            ("change subscription", "they grow"),
            ("cancel subscription", "they leave"),
            ("undo cancel", "they stay"),
            ("give credit note", "an apology"),
            ("grant credit", "another"),
        ]
    );
    console.press("q");
    assert_eq!(console.ended().await, 0);
    app.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_only_looks_sees_all_and_is_told_why_nothing_can_be_done() {
    let app = TestApp::new().await;
    let tenant = acme(&app).await;
    let mut conn = connect(&app.options).await;
    let viewer = token(&mut conn, Role::Viewer, None).await;
    let mut console = Console::open_as(&app, size(24, 80), &viewer);
    console.sees(&["(viewer)", "live", "tenant"]).await;
    console.press("N");
    console
        .sees(&["You cannot start this run now: needs role operator"])
        .await;
    console.press("f");
    console.sees(&["LIMITS", "stripe-charges"]).await;
    console.press("a");
    console
        .sees(&["[not now: needs role operator]", "Esc close"])
        .await;
    console.press(ENTER);
    console.sees(&["You cannot pause this flow now"]).await;
    back_to(&mut console, &["Space unfold"]).await;
    back_to(&mut console, &["WORKFLOW"]).await;
    console.press("h");
    console.sees(&["POLICIES", "HOLDS  nothing is held"]).await;
    back_to(&mut console, &["WORKFLOW"]).await;
    console.press("b");
    console.sees(&["Nothing was done to many runs yet."]).await;
    back_to(&mut console, &["WORKFLOW"]).await;
    console.press("/workflow:tenant\r");
    console.sees(&["/ workflow:tenant", "Acme"]).await;
    console.press("B");
    console
        .sees(&["ACT ON 1 run", "[not now: needs role support]"])
        .await;
    back_to(&mut console, &["/ workflow:tenant", "waiting"]).await;
    console.press(ENTER);
    console.sees(&["You may: look only"]).await;
    console.press("t");
    console.sees(&["TENANT Acme", "LEGAL HOLDS  none"]).await;
    console.press("a");
    console
        .sees(&["[not now: needs role operator]", "Esc close"])
        .await;
    back_to(&mut console, &["Space unfold"]).await;

    // A token of one tenant is told what it does not see; the rest stands.
    let own = tenure_engine::TenantId(tenant.tenant_id);
    let bound = token(&mut conn, Role::Operator, Some(own)).await;
    let mut console = Console::open_as(&app, size(24, 80), &bound);
    console.sees(&["(operator)", "live", "tenant"]).await;
    console.press("f");
    console.sees(&["LIMITS  ! ", "WEIGHTS  ! "]).await;
    console.press("a");
    console
        .sees(&["needs a token that is not bound", "Esc close"])
        .await;
    back_to(&mut console, &["Space unfold"]).await;
    back_to(&mut console, &["WORKFLOW"]).await;
    console.press("t");
    console.press(ENTER);
    console.sees(&[">  Acme "]).await;
    console.press(ENTER);
    console
        .sees(&["TENANT Acme", "KEYS  ! ", "owes nothing"])
        .await;
    console.press("q");
    assert_eq!(console.ended().await, 0);
    app.finish().await;
}

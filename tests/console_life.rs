//! What becomes of tenants' data, from the console that people have: the real program against a served
//! product with a backfill, a deletion, an export and holds in it.

use serde_json::json;
use tenure_client::{
    Client, DataHoldFilter, DeletionFilter, IdempotencyKey, Role, RunFilter, StartBackfill,
};
use tenure_workflows::certificate::{self, LocalSigningKey, SigningKey as _};

use crate::backfills::STATE;
use crate::console_pty::{Console, ENTER, size};
use crate::console_verbs::{back_to, choose, fill, open_tenant};
use crate::deletions::second_token;
use crate::keeping;
use crate::support::app::{CERTIFICATE_KEY, TestApp, token};
use crate::support::connect;
use crate::support::product::Product;

#[tokio::test(flavor = "multi_thread")]
#[expect(
    clippy::too_many_lines,
    reason = "one story, from its beginning to its end"
)]
async fn a_backfill_is_led_from_its_fill_past_a_held_range_to_its_switch_and_back() {
    let product = Product::fleet().await;
    product.rows(&product.cedar, 30).await;
    product.rows(&product.quarry, 30).await;
    let app = &product.app;
    let wanted = "sources = [\"rooms\"]\nwait_at = [\"fill\", \"switch\"]\n\n[columns.state]";
    let start = StartBackfill {
        definition: STATE.replacen("[columns.state]", wanted, 1),
        reason: "ticket 40".to_owned(),
    };
    let key = IdempotencyKey::generate();
    app.client.start_backfill(&start, &key).await.unwrap();
    let mut console = Console::open(app, size(24, 80));
    console.sees(&["suite", "live", "backfill"]).await;
    console.press("d");
    console
        .sees(&[
            "<1 backfills>",
            "? waiting",
            "task-state",
            "fill (3 of 6)",
            "? fill waits for somebody's word",
        ])
        .await;

    // What would happen is the server's word, and a range that cannot be filled is held.
    product
        .write(&product.cedar, "alter table {w}task drop column state")
        .await;
    choose(&mut console, "advance").await;
    fill(&mut console, "looks well").await;
    console
        .sees(&["fill begins.", "The server would accept it now."])
        .await;
    console.press(ENTER);
    console
        .sees(&["! 1 ranges are held", "fill (3 of 6)"])
        .await;
    console.press(ENTER);
    console
        .sees(&[
            "RANGES: all",
            "! held",
            "Cedar Street Dental",
            "column_gone",
        ])
        .await;
    console.press("\t");
    console.sees(&["RANGES: held", "Cedar Street Dental"]).await;
    let add = "alter table {w}task add column state smallint";
    product.write(&product.cedar, add).await;
    choose(&mut console, "retry-range").await;
    fill(&mut console, "it is back").await;
    console.sees(&["> [ Do it: retry-range ]"]).await;
    console.press(ENTER);
    console
        .sees(&[
            "switch (5 of 6)",
            "switch waits for somebody's word",
            "None of these.",
        ])
        .await;

    choose(&mut console, "advance").await;
    fill(&mut console, "verified").await;
    console.sees(&["switch begins."]).await;
    console.press(ENTER);
    console.sees(&["* working", "not yet contract"]).await;
    choose(&mut console, "roll-out").await;
    fill(&mut console, "100").await;
    fill(&mut console, "all at once").await;
    console
        .sees(&["100 % of the tenants read the new columns, 0 % do now."])
        .await;
    console.press(ENTER);
    // On the page, no longer in the dialog: what is asked for next is held against what was seen.
    console
        .sees(&["\n100 % of the tenants read the new columns "])
        .await;
    let of = app.client.backfill("task-state").await.unwrap();
    assert_eq!(of.percent_reading, 100);

    choose(&mut console, "back").await;
    fill(&mut console, "undone").await;
    fill(&mut console, "a wrong name").await;
    console.sees(&["all is as it was before"]).await;
    console.press(ENTER);
    console.sees(&["- undone"]).await;
    console.press("a");
    console.sees(&["[not now: it has ended]"]).await;
    back_to(&mut console, &["RANGES: held"]).await;
    back_to(&mut console, &["<1 backfills>", "- undone"]).await;
    let of = app.client.backfill("task-state").await.unwrap();
    assert_eq!((of.phase.as_str(), of.status.as_str()), ("undone", "ended"));

    // Where everybody's rows are stands on the next shelf.
    console.press("2");
    console
        .sees(&[
            "UNDER WAY  no tenant is moved",
            "MIGRATIONS  none was asked for",
            "+ active",
            "Birch & Barrow Arch",
            "main shared",
            "rooms schema cedar",
        ])
        .await;
    console.press("q");
    assert_eq!(console.ended().await, 0);
    product.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tenant_is_deleted_by_two_people_who_see_it_certified() {
    let product = Product::fleet().await;
    product.rows(&product.birch, 40).await;
    let app = &product.app;
    let grace = second_token(&app.options, "grace").await;
    let mut asking = Console::open(app, size(24, 80));
    asking.sees(&["suite", "live"]).await;
    open_tenant(&mut asking, "Birch", "Birch & Barrow Architects").await;
    choose(&mut asking, "delete-tenant").await;
    fill(&mut asking, "0").await;
    asking.press(&ENTER.repeat(2));
    fill(&mut asking, "Birch & Barrow Architects").await;
    fill(&mut asking, "the contract has ended").await;
    asking
        .sees(&["rows would be erased", "another admin approves"])
        .await;
    let wanted = DeletionFilter::default();
    let none = app.client.list_deletions(&wanted).await.unwrap().items;
    assert!(none.is_empty(), "nothing was asked for yet");
    asking.press(ENTER);
    asking
        .sees(&["? requested", "Birch & Barrow Architects", "second person"])
        .await;
    asking.press("a");
    asking.sees(&["[not now: you asked for it"]).await;
    back_to(&mut asking, &["STEPS  none before the point"]).await;

    let mut approving = Console::open_as(app, size(40, 120), &grace);
    approving.sees(&["suite", "live"]).await;
    approving.press("d3");
    approving
        .sees(&["<3 deletions>", "? requested", "Birch & Barrow Architec"])
        .await;
    choose(&mut approving, "approve").await;
    fill(&mut approving, "ticket 17").await;
    approving.sees(&["are held at once"]).await;
    approving.press(ENTER);
    approving.sees(&["has been told: approve."]).await;
    approving.press(ENTER);
    for console in [&approving, &asking] {
        console
            .sees(&[
                "+ certified",
                "CERTIFICATE",
                "signed with key",
                "approved by grace",
            ])
            .await;
    }
    approving
        .sees(&["backups expire on", "work.task", "erased"])
        .await;
    approving.press("a");
    approving.sees(&["[not now: it is certified"]).await;

    let all = app.client.list_deletions(&wanted).await.unwrap().items;
    let signed = app.client.deletion_certificate(all[0].deletion_id).await;
    let signed = serde_json::to_string(&signed.unwrap()).unwrap();
    let key = LocalSigningKey::parse(CERTIFICATE_KEY).unwrap();
    let holds = certificate::verify(&signed, &key.public()).unwrap();
    let erased: i64 = holds.tables.iter().map(|table| table.erased).sum();
    assert!(erased > 0, "{holds:?}");
    product.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tenant_takes_its_data_along_and_rows_of_it_are_held_and_counted() {
    let (_folder, archive) = keeping::folder();
    let product = Product::fleet_with(Some(archive)).await;
    product.rows(&product.birch, 40).await;
    let document = keeping::policy("work.", keeping::window());
    keeping::load(&product, "main", document).await;
    let app = &product.app;
    let mut console = Console::open(app, size(40, 100));
    console.sees(&["suite", "live"]).await;
    open_tenant(&mut console, "Birch", "Birch & Barrow Architects").await;

    choose(&mut console, "hold-data").await;
    fill(&mut console, "7 O 12/27").await;
    fill(&mut console, "work.task").await;
    console.press(&ENTER.repeat(2));
    fill(&mut console, "a lawsuit").await;
    console.sees(&["archives included"]).await;
    console.press(ENTER);
    console.sees(&["DATA HOLDS  [1]", "all of work.task"]).await;
    let standing = DataHoldFilter::default();
    let holds = app.client.list_data_holds(product.birch.tenant, &standing);
    assert_eq!(holds.await.unwrap()[0].case, "7 O 12/27");

    // The link is on show until somebody goes on, and works.
    choose(&mut console, "start-export").await;
    console.press(ENTER);
    fill(&mut console, "Art. 20 GDPR").await;
    console.press(ENTER);
    console
        .sees(&["told this once", "/v1/exports/", "+ ready"])
        .await;
    let exports = app.client.list_exports(product.birch.tenant).await.unwrap();
    assert_eq!(exports[0].status, "ready");
    assert!(exports[0].rows > 40);
    back_to(&mut console, &["EXPORTS  [1]", "its link works until"]).await;

    choose(&mut console, "start-sweep").await;
    console.press(&ENTER.repeat(2));
    fill(&mut console, "how many?").await;
    console.sees(&["nothing is touched"]).await;
    console.press(ENTER);
    console.sees(&["data-retention v", "completed"]).await;
    back_to(&mut console, &["TENANT Birch"]).await;
    back_to(&mut console, &["TENANTS, newest"]).await;
    back_to(&mut console, &["WORKFLOW"]).await;
    console.press("d4");
    console
        .sees(&[
            "POLICIES  [4]",
            "version 1",
            "sweep",
            "Birch & Barrow",
            "export",
        ])
        .await;
    let sweeps = RunFilter {
        workflow: Some("data-retention".to_owned()),
        ..RunFilter::default()
    };
    assert_eq!(app.client.list_runs(&sweeps).await.unwrap().items.len(), 1);
    console.press("q");
    assert_eq!(console.ended().await, 0);
    product.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_may_only_look_is_told_so_on_each_shelf() {
    let app = TestApp::new().await;
    let mut conn = connect(&app.options).await;
    let viewer = token(&mut conn, Role::Viewer, None).await;
    let who = Client::new(&app.url, &viewer).unwrap().whoami().await;
    assert_eq!(json!(who.unwrap().role), json!("viewer"));
    let mut console = Console::open_as(&app, size(24, 80), &viewer);
    console.sees(&["suite", "live"]).await;
    console.press("d");
    console.sees(&["No backfill was started yet"]).await;
    console.press("3");
    console
        .sees(&["<3 deletions>", "needs role operator"])
        .await;
    console.press("1");
    console
        .sees(&["<1 backfills>", "No backfill was started yet"])
        .await;
    console.press("q");
    assert_eq!(console.ended().await, 0);
    app.finish().await;
}

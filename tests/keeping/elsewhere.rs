//! Archives, sweeps and exports of tenants whose tables have changed, and of tenants who have moved.

use std::collections::BTreeMap;

use serde_json::{Value, json};
use tenure_client::{IdempotencyKey, RunDetail, RunStatus, StartRestore, TenancyModel};
use uuid::Uuid;

use super::{everything, folder, load, policy, rest, signal, sweep, swept, window};
use crate::placements::{at_rest, begin_move};
use crate::support::product::{self, Member, Product, TABLES};

/// Makes a tenant's tables in a new schema.
const ROOM: &str = "call shared.make_tables()";

pub(super) async fn restore(product: &Product, member: &Member, sweep: Uuid) -> RunDetail {
    restore_of(product, member, (Some(sweep), None)).await
}

async fn restore_of(
    product: &Product,
    member: &Member,
    (sweep_id, archive_id): (Option<Uuid>, Option<Uuid>),
) -> RunDetail {
    let start = StartRestore {
        sweep_id,
        archive_id,
        reason: "they want it back".to_owned(),
    };
    let key = IdempotencyKey::generate();
    let client = &product.app.client;
    let started = client.start_restore(member.tenant, &start, &key).await;
    rest(product, started.unwrap().run_id).await
}

/// The rows of a table, each without one column.
fn without(rows: &[Value], column: &str) -> Vec<Value> {
    let mut rows = rows.to_vec();
    for row in &mut rows {
        row.as_object_mut().unwrap().remove(column);
    }
    rows.sort_by_key(ToString::to_string);
    rows
}

fn at(member: &Member, place: &tenure_client::Place) -> Member {
    Member {
        place: place.clone(),
        ..member.clone()
    }
}

/// Moves a tenant and waits until nothing of it is left behind.
async fn move_to(product: &Product, member: &Member, to: &tenure_client::Place) -> Member {
    let sql = (to.model == TenancyModel::Schema).then_some(ROOM);
    begin_move(product, member, to, sql, 0).await;
    let placed = at_rest(product, member.tenant).await;
    assert_eq!(placed.place, *to);
    at(member, to)
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_come_back_into_tables_that_were_changed_meanwhile() {
    let (_folder, config) = folder();
    let product = Product::fleet_with(Some(config)).await;
    load(&product, "rooms", policy("", window())).await;
    let member = &product.cedar;
    product.rows(member, 400).await;
    let before = everything(&product, member).await;
    let run = sweep(&product, member, false).await;
    let came = swept(&run);
    assert!(
        came["task"].deleted > 0 && came["comment"].deleted > 0,
        "{came:?}"
    );
    let change = "alter table {w}task add column rank int not null default 7;
                  alter table {w}comment drop column body";
    product.write(member, change).await;

    let halted = restore(&product, member, run.summary.run_id).await;
    let why = &halted.data["Halted"]["why"];
    assert_eq!(why["code"], "columns_gone", "{why}");
    assert_eq!(why["skip"], json!({ "Columns": { "comment": ["body"] } }));
    // What came later has its default, and nothing of a row is lost on the way.
    let tasks = product.contents(member, &member.place, "task").await;
    assert!(tasks.iter().all(|task| task["rank"] == 7), "{tasks:?}");
    assert_eq!(without(&tasks, "rank"), without(&before["task"], "rank"));

    let done = signal(&product, halted.summary.run_id, "Skip").await;
    assert_eq!(done.summary.status, RunStatus::Completed, "{:?}", done.data);
    let came = &done.output.unwrap()["tables"]["comment"];
    assert_eq!(came["without"], json!(["body"]), "{came}");
    assert_eq!(came["skipped"], 0, "{came}");
    let comments = product.contents(member, &member.place, "comment").await;
    assert_eq!(
        without(&comments, "body"),
        without(&before["comment"], "body")
    );
    let files = product.contents(member, &member.place, "attachment").await;
    assert_eq!(without(&files, ""), without(&before["attachment"], ""));
    product.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_archive_comes_back_to_where_its_tenant_is_now_whatever_the_model_was() {
    let (_folder, config) = folder();
    let product = Product::fleet_with(Some(config)).await;
    for (source, prefix) in [("main", "work."), ("rooms", "")] {
        load(&product, source, policy(prefix, window())).await;
    }
    let shared = product.add_shared("Oak & Sons").await;
    product.rows(&shared, 400).await;
    let before = everything(&product, &shared).await;
    let neighbour = everything(&product, &product.salthouse).await;
    let room = product::place(
        TenancyModel::Schema,
        "rooms",
        Some("oak"),
        &shared.place.key,
    );

    let run = sweep(&product, &shared, false).await;
    assert!(swept(&run)["task"].deleted > 0, "{:?}", run.data);
    let moved = move_to(&product, &shared, &room).await;
    let back = restore(&product, &moved, run.summary.run_id).await;
    assert_eq!(back.summary.status, RunStatus::Completed, "{:?}", back.data);
    assert_eq!(everything(&product, &moved).await, before);

    // And the other way: what had no tenant column has one again, and it is this tenant's.
    let run = sweep(&product, &moved, false).await;
    assert!(swept(&run)["task"].deleted > 0, "{:?}", run.data);
    let home = move_to(&product, &moved, &shared.place).await;
    let back = restore(&product, &home, run.summary.run_id).await;
    assert_eq!(back.summary.status, RunStatus::Completed, "{:?}", back.data);
    assert_eq!(everything(&product, &home).await, before);
    assert_eq!(everything(&product, &product.salthouse).await, neighbour);
    product.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_row_whose_parent_is_no_more_halts_a_restore_until_its_part_is_left_out() {
    let (_folder, config) = folder();
    let product = Product::fleet_with(Some(config)).await;
    load(&product, "rooms", policy("", window())).await;
    let member = &product.cedar;
    product.rows(member, 400).await;
    let before = everything(&product, member).await;
    let run = sweep(&product, member, false).await;
    let filter = tenure_client::DataArchiveFilter::default();
    let archives = product
        .app
        .client
        .list_data_archives(member.tenant, &filter);
    let archives = archives.await.unwrap().items;
    let files = archives.iter().find(|one| one.table == "attachment");
    let files = files.unwrap();

    // The comments that they belong to are still away.
    let halted = restore_of(&product, member, (None, Some(files.archive_id))).await;
    let why = &halted.data["Halted"]["why"];
    assert_eq!(why["code"], "parent_missing", "{why}");
    let done = signal(&product, halted.summary.run_id, "Skip").await;
    assert_eq!(done.summary.status, RunStatus::Completed, "{:?}", done.data);
    let came = &done.output.unwrap()["tables"]["attachment"];
    assert_eq!(
        (&came["restored"], &came["skipped"]),
        (&json!(0), &json!(files.rows)),
        "{came}"
    );
    // What was left out is in the archive still: with its parents it comes back.
    let back = restore(&product, member, run.summary.run_id).await;
    assert_eq!(back.summary.status, RunStatus::Completed, "{:?}", back.data);
    assert_eq!(everything(&product, member).await, before);
    product.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sweep_whose_tenant_moves_ends_by_itself_and_the_next_one_takes_over() {
    let (_folder, config) = folder();
    let product = Product::fleet_with(Some(config)).await;
    for (source, prefix) in [("main", "work."), ("rooms", "")] {
        load(&product, source, policy(prefix, window())).await;
    }
    let oak = product.add_shared("Oak & Sons").await;
    product.rows(&oak, 400).await;
    // It halts half-way, with archives that are to be destroyed.
    let refuse = "
        create function work.refuse() returns trigger language plpgsql as
          $$ begin raise exception 'not while I am here'; end $$;
        create trigger refuse before delete on work.task for each row execute function work.refuse()";
    product.write(&oak, refuse).await;
    let halted = sweep(&product, &oak, false).await;
    let why = &halted.data["Halted"]["why"];
    assert_eq!(why["code"], "product_failed", "{why}");
    product
        .write(&oak, "drop trigger refuse on work.task")
        .await;

    let room = product::place(TenancyModel::Schema, "rooms", Some("oak"), &oak.place.key);
    let moved = move_to(&product, &oak, &room).await;
    let ended = signal(&product, halted.summary.run_id, "Resume").await;
    assert_eq!(ended.summary.state, "Window", "{:?}", ended.data);
    let of = &ended.data["Window"]["of"];
    let told = of["ended"].as_str().unwrap();
    assert!(
        told.contains("moved") && told.contains("schema oak of source rooms"),
        "{told}"
    );
    assert!(
        of["destroy_at"].is_string(),
        "its archives have an end: {of}"
    );
    assert!(swept(&ended)["comment"].deleted > 0, "{of}");

    let next = sweep(&product, &moved, false).await;
    assert!(swept(&next)["task"].deleted > 0, "{:?}", next.data);
    product.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn while_a_tenant_moves_a_sweep_and_a_restore_wait() {
    let (_folder, config) = folder();
    let product = Product::fleet_with(Some(config)).await;
    for (source, prefix) in [("main", "work."), ("rooms", "")] {
        load(&product, source, policy(prefix, window())).await;
    }
    let oak = product.add_shared("Oak & Sons").await;
    product.rows(&oak, 400).await;
    let before: BTreeMap<_, _> = everything(&product, &oak).await;
    assert_eq!(before.len(), TABLES.len());
    let run = sweep(&product, &oak, false).await;
    // It is not at rest until what it has left is deleted, in an hour.
    let room = product::place(TenancyModel::Schema, "rooms", Some("oak"), &oak.place.key);
    begin_move(&product, &oak, &room, Some(ROOM), 1).await;
    let waits = restore(&product, &oak, run.summary.run_id).await;
    assert_eq!(
        waits.data["Halted"]["why"]["code"], "place_busy",
        "{:?}",
        waits.data
    );
    let swept = sweep(&product, &oak, false).await;
    assert_eq!(
        swept.data["Halted"]["why"]["code"], "place_busy",
        "{:?}",
        swept.data
    );
    for run in [waits, swept] {
        let deadlines = &run.deadlines;
        assert!(
            deadlines.iter().any(|one| one.name == "look"),
            "it looks again by itself: {deadlines:?}"
        );
    }
    product.finish().await;
}

//! What leaves a backfill: tenants that are gone, ranges that somebody leaves out while they are
//! compared, and a backfill that is cancelled when there is no way back.

use tenure_client::{ActOnBackfill, IdempotencyKey, StartBackfill, TenancyModel};

use tenure_workflows::data_map;

use super::{Story, assert_filled, tasks, with};
use crate::deletions;
use crate::placements::{at_rest, begin_move};
use crate::support::product::{self, Product};

#[tokio::test(flavor = "multi_thread")]
async fn tenants_that_move_or_are_deleted_leave_a_backfill_and_do_not_bar_its_contract() {
    let product = Product::fleet().await;
    let oak = product.add_shared("Oak & Sons").await;
    for member in [&product.birch, &product.salthouse, &oak] {
        product.rows(member, 40).await;
    }
    let text = with(&[
        ("[columns.state]", "sources = [\"main\"]\n"),
        ("[throttle]", "[verify]\nclean_for = \"1s\"\n"),
    ]);
    let story = Story::start(&product, &text).await;
    story.waits_before("switch").await;
    // Maps that know the new column, as a move and a deletion want them.
    let main = (data_map::Model::Shared, "work");
    product::load_map(&product.app.client, "main", product.url("main"), main).await;
    for member in [&product.cedar, &product.quarry] {
        let column = "alter table {w}task add column state smallint";
        product.write(member, column).await;
    }
    let rooms = (data_map::Model::Schema, "cedar");
    product::load_map(&product.app.client, "rooms", product.url("rooms"), rooms).await;
    let room = product::place(TenancyModel::Schema, "rooms", Some("oak"), &oak.place.key);
    let tables = "call shared.make_tables(); alter table task add column state smallint";
    begin_move(&product, &oak, &room, Some(tables), 0).await;
    assert_eq!(at_rest(&product, oak.tenant).await.place, room);
    deletions::delete(&product.app, product.salthouse.tenant).await;

    story.act("verify").await;
    let left = story
        .until("has let them go", |of| {
            of.progress.gone_ranges == 2 && of.next.is_some()
        })
        .await;
    assert_eq!((left.mismatches, left.progress.held_ranges), (Some(0), 0));
    assert!(left.refusals.is_empty(), "{left:?}");
    assert_eq!(left.progress.finished_ranges, left.progress.ranges);
    let gone = story.ranges(Some("gone")).await;
    let of_oak = gone.iter().find(|range| range.tenant_id == oak.tenant);
    let why = of_oak.unwrap().detail.clone().unwrap();
    assert!(why.contains("has moved to source rooms"), "{why}");
    let others = gone.iter().find(|range| range.tenant_id != oak.tenant);
    let why = others.unwrap().detail.clone().unwrap();
    assert!(why.contains("no place any more"), "{why}");
    // Nothing is to be said to them.
    let refused = story.tell_range(gone[0].range_id, "skip").await;
    let refused = refused.unwrap_err().to_string();
    assert!(refused.contains("nothing is to be done"), "{refused}");

    story.act("advance").await;
    story.switched().await;
    story.roll_out(100).await;
    story
        .until("may contract", |of| {
            of.next.is_some() && of.refusals.is_empty()
        })
        .await;
    story.act("advance").await;
    let done = story.until("is done", |of| of.status == "ended").await;
    assert_eq!(done.phase, "done");
    product.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_range_that_cannot_be_compared_can_be_left_out_and_then_bars_the_switch() {
    let product = Product::fleet().await;
    product.rows(&product.ilex, 40).await;
    let text = with(&[("[columns.state]", "sources = [\"vault\"]\n")]);
    let story = Story::start(&product, &text).await;
    story.waits_before("switch").await;

    // What is compared and not held goes on by itself, and says so.
    story.act("pause").await;
    story.act("verify").await;
    story
        .until("rests", |of| of.phase == "verify" && of.status == "working")
        .await;
    let paused = async || story.ranges(Some("paused")).await;
    crate::support::eventually("its range rests", async || !paused().await.is_empty()).await;
    let range = paused().await[0].range_id;
    let refused = story.tell_range(range, "skip").await.unwrap_err();
    assert!(refused.to_string().contains("it is compared"), "{refused}");
    let switch = "alter table {w}task disable trigger tenure_backfill_task_state";
    product.write(&product.ilex, switch).await;
    story.act("resume").await;
    story
        .until("is held", |of| of.progress.held_ranges == 1)
        .await;
    story.act_on_range(range, "skip").await;
    let left = story.waits_before("switch").await;
    assert_eq!(left.progress.skipped_ranges, 1);
    assert!(left.mismatches.unwrap() > 0, "nobody knows: {left:?}");
    let refused = story.refused("advance").await;
    assert!(refused.contains("skipped"), "{refused}");

    product
        .write(&product.ilex, &switch.replace("disable", "enable"))
        .await;
    story.act("retry").await;
    story
        .until("is clean", |of| {
            of.next.is_some() && of.refusals.is_empty() && of.mismatches == Some(0)
        })
        .await;
    assert_filled(&product, &product.ilex).await;
    product.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_contract_that_is_cancelled_when_it_is_held_ends_and_says_where_it_was_done() {
    let product = Product::fleet().await;
    for member in [&product.cedar, &product.quarry] {
        product.rows(member, 20).await;
    }
    let text = with(&[
        ("[columns.state]", "sources = [\"rooms\"]\n"),
        ("[throttle]", "[verify]\nclean_for = \"1s\"\n"),
    ]);
    let story = Story::start(&product, &text).await;
    story.waits_before("switch").await;
    story.act("advance").await;
    story.switched().await;
    story.roll_out(100).await;
    product
        .write(
            &product.quarry,
            "create view {w}open_task as select task_id from {w}task where status = 'open'",
        )
        .await;
    story
        .until("may contract", |of| {
            of.next.is_some() && of.refusals.is_empty()
        })
        .await;
    story.act("advance").await;
    let held = story.until("is held", |of| of.status == "held").await;
    assert_eq!(held.phase, "contract");
    assert_eq!(held.trouble.unwrap().kind, "still_needed");

    product.app.act_on_run(held.run_id, "cancel").await;
    let ended = story.until("has ended", |of| of.status == "ended").await;
    assert_eq!(ended.phase, "contract");
    assert!(ended.ended_at.is_some());
    let trouble = ended.trouble.unwrap();
    assert_eq!(trouble.kind, "half_done");
    for told in [
        "still_needed",
        "done at: rooms/cedar;",
        "not done at: rooms/quarry",
    ] {
        assert!(trouble.detail.contains(told), "{told} in {trouble:?}");
    }
    // Its name is free.
    let elsewhere = with(&[("[columns.state]", "sources = [\"vault\"]\n")]);
    let again = Story::start(&product, &elsewhere).await;
    let again = again.waits_before("switch").await;
    assert_ne!(again.backfill_id, ended.backfill_id);
    product.finish().await;
}

/// Ends the run of a backfill where it is.
/// It is told as terminated, with what it left, and takes no word but the one that clears that.
async fn says_what_it_left(story: &Story<'_>) {
    let left = story.look().await;
    assert_eq!((&*left.status, &*left.phase), ("terminated", "switch"));
    assert!(left.next.is_none());
    let trouble = left.trouble.unwrap();
    assert_eq!(trouble.kind, "terminated");
    assert!(trouble.detail.contains("new columns stay"), "{trouble:?}");
    assert!(
        trouble.remedy.contains("back --to undone"),
        "{}",
        trouble.remedy
    );
    for verb in ["pause", "verify", "retry", "advance"] {
        let refused = story.refused(verb).await;
        assert!(refused.contains("terminated"), "{verb}: {refused}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backfill_that_is_terminated_frees_its_name_and_what_it_left_is_taken_back() {
    let product = Product::fleet().await;
    for member in [&product.birch, &product.ilex] {
        product.rows(member, 20).await;
    }
    let main = with(&[("[columns.state]", "sources = [\"main\"]\n")]);
    let vault = with(&[("[columns.state]", "sources = [\"vault\"]\n")]);
    let story = Story::start(&product, &main).await;
    let first = story.waits_before("switch").await;
    product.app.act_on_run(first.run_id, "terminate").await;
    says_what_it_left(&story).await;
    // Where its columns stay another one is refused, and told which left them.
    let start = StartBackfill {
        definition: main.clone(),
        reason: "once more".to_owned(),
    };
    let key = IdempotencyKey::generate();
    let client = &product.app.client;
    let refused = client.start_backfill(&start, &key).await.unwrap_err();
    let told = format!("back {} --to undone", first.backfill_id);
    assert!(refused.to_string().contains(&told), "{refused}");
    // Its name is free, and what it left is taken away once nobody else has the name.
    let second = Story::start(&product, &vault).await;
    let second = second.waits_before("switch").await;
    let first_by_id = Story {
        product: &product,
        name: first.backfill_id.to_string(),
    };
    let refused = first_by_id.act_with("back", undone()).await.unwrap_err();
    assert!(refused.to_string().contains("under way"), "{refused}");
    product.app.act_on_run(second.run_id, "terminate").await;
    assert_eq!(first_by_id.look().await.status, "terminated");

    let second_by_id = Story {
        product: &product,
        name: second.backfill_id.to_string(),
    };
    for story in [&first_by_id, &second_by_id] {
        story.back("undone").await;
        let ended = story
            .until("is taken back", |of| of.status == "ended")
            .await;
        assert_eq!((&*ended.phase, ended.trouble), ("undone", None));
        assert_ne!(ended.run_id, first.run_id);
    }
    for member in [&product.birch, &product.ilex] {
        let tasks = tasks(&product, member).await;
        assert!(tasks.iter().all(|task| task.get("state").is_none()));
    }
    // Nothing of it is in the way.
    let again = Story::start(&product, &main).await;
    again.waits_before("switch").await;
    product.finish().await;
}

fn undone() -> ActOnBackfill {
    ActOnBackfill {
        to: Some("undone".to_owned()),
        ..ActOnBackfill::default()
    }
}

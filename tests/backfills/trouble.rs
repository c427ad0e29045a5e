//! What goes wrong at the product: columns that vanish, triggers that refuse, rows that take too
//! long. Each is held under a name, and somebody can resolve it.

use super::{STATE, Story, assert_filled, tasks, with};
use crate::support::product::Product;
use tenure_client::{IdempotencyKey, StartBackfill};

#[tokio::test(flavor = "multi_thread")]
async fn a_column_that_is_dropped_meanwhile_holds_its_ranges_until_it_is_back() {
    let product = Product::fleet().await;
    product.rows(&product.cedar, 30).await;
    product.rows(&product.quarry, 30).await;
    let text = with(&[(
        "[columns.state]",
        "sources = [\"rooms\"]\nwait_at = [\"fill\", \"switch\"]\n",
    )]);
    let story = Story::start(&product, &text).await;
    story.waits_before("fill").await;
    let refused = story.refused("retry").await;
    assert!(refused.contains("waiting in fill"), "{refused}");
    product
        .write(&product.cedar, "alter table {w}task drop column state")
        .await;
    story.act("advance").await;
    let held = story
        .until("is held", |of| of.progress.held_ranges == 1)
        .await;
    assert_eq!(
        (held.phase.as_str(), held.status.as_str()),
        ("fill", "working")
    );
    let ranges = story.ranges(Some("held")).await;
    let trouble = ranges[0].trouble.clone().unwrap();
    assert_eq!(trouble.kind, "column_gone");
    assert_eq!(ranges[0].tenant_id, product.cedar.tenant);
    assert!(
        trouble.remedy.contains("add the column again"),
        "{trouble:?}"
    );
    product
        .write(
            &product.cedar,
            "alter table {w}task add column state smallint",
        )
        .await;
    story.act_on_range(ranges[0].range_id, "retry").await;
    story.waits_before("switch").await;
    assert_filled(&product, &product.cedar).await;
    assert_filled(&product, &product.quarry).await;
    product.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_trigger_that_refuses_a_row_names_it_and_what_is_skipped_bars_the_switch() {
    let product = Product::fleet().await;
    product.rows(&product.ilex, 50).await;
    let refuse = "
        create function {w}refuse() returns trigger language plpgsql as $$
        begin
          if new.title like '% 33' then raise exception 'task % is under seal', new.title; end if;
          return new;
        end $$;
        create trigger refuse before update on {w}task for each row execute function {w}refuse()";
    product.write(&product.ilex, refuse).await;
    let text = with(&[("[columns.state]", "sources = [\"vault\"]\n")]);
    let story = Story::start(&product, &text).await;
    story
        .until("is held", |of| of.progress.held_ranges == 1)
        .await;
    let range = story.ranges(Some("held")).await.remove(0);
    let trouble = range.trouble.clone().unwrap();
    assert_eq!(trouble.kind, "row_refused");
    assert!(trouble.detail.contains("under seal"), "{trouble:?}");
    let sealed = tasks(&product, &product.ilex).await;
    let sealed = sealed
        .iter()
        .find(|task| task["title"].as_str().unwrap().ends_with(" 33"));
    let key = trouble.key.clone().unwrap();
    assert_eq!(
        sealed.unwrap()["task_id"],
        key[0],
        "the row that was refused"
    );

    story.act_on_range(range.range_id, "skip").await;
    let waits = story.waits_before("switch").await;
    assert!(waits.mismatches.unwrap() >= 1, "{waits:?}");
    let refused = story.refused("advance").await;
    assert!(
        refused.contains("rows are wrong") && refused.contains("skipped"),
        "{refused}"
    );
    let skipped = story.ranges(Some("skipped")).await;
    assert!(
        skipped[0]
            .detail
            .clone()
            .unwrap()
            .contains("a row of nobody"),
        "{skipped:?}"
    );

    product
        .write(&product.ilex, "drop trigger refuse on {w}task")
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
async fn a_batch_that_takes_too_long_is_split_until_it_fits() {
    let product = Product::fleet().await;
    product.rows(&product.ilex, 60).await;
    let slow = "
        create function {w}slow() returns trigger language plpgsql as $$
        begin perform pg_sleep(0.01); return new; end $$;
        create trigger slow before update on {w}task for each row execute function {w}slow()";
    product.write(&product.ilex, slow).await;
    let text = with(&[("[columns.state]", "sources = [\"vault\"]\n")]);
    let text = text.replace(
        "first_rows = 20",
        "first_rows = 60\nmin_rows = 1\ntarget = \"60ms\"\ntimeout = \"200ms\"",
    );
    let story = Story::start(&product, &text).await;
    let filled = story.waits_before("switch").await;
    assert_eq!(
        (filled.progress.held_ranges, filled.mismatches),
        (0, Some(0))
    );
    let range = story.ranges(None).await.remove(0);
    assert!(
        range.batch_rows < 30,
        "the batch fits the time-out: {range:?}"
    );
    assert_filled(&product, &product.ilex).await;
    product.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mismatch_bars_the_contract_until_it_is_mended_and_a_lost_trigger_is_named() {
    let product = Product::fleet().await;
    product.rows(&product.birch, 20).await;
    let text = with(&[
        ("[columns.state]", "sources = [\"main\"]\n"),
        ("[throttle]", "[verify]\nclean_for = \"1s\"\n"),
    ]);
    let story = Story::start(&product, &text).await;
    story.waits_before("switch").await;
    story.act("advance").await;
    story.switched().await;
    story.roll_out(100).await;
    // Somebody writes past the trigger.
    let past = "set session_replication_role = replica;
                update {w}task set state = 9 where status = 'done'{and_plain};
                set session_replication_role = origin";
    product
        .write(&product.birch, &past.replace("{and_plain}", ""))
        .await;
    story.act("verify").await;
    let wrong = story
        .until("found it", |of| {
            of.mismatches.is_some_and(|wrong| wrong > 0) && of.next.is_some()
        })
        .await;
    assert_eq!(wrong.clean_since, None);
    let refused = story.refused("advance").await;
    assert!(refused.contains("rows are wrong"), "{refused}");
    let ranges = story.ranges(None).await;
    assert!(
        ranges
            .iter()
            .any(|range| range.first_mismatch.is_some() && range.found_sum != range.expected_sum)
    );
    story.act("retry").await;
    story
        .until("is clean again", |of| {
            of.mismatches == Some(0) && of.next.is_some() && of.refusals.is_empty()
        })
        .await;
    assert_filled(&product, &product.birch).await;

    product
        .write(
            &product.birch,
            "alter table {w}task disable trigger tenure_backfill_task_state",
        )
        .await;
    story.act("verify").await;
    story
        .until("names the trigger", |of| of.progress.held_ranges == 2)
        .await;
    let held = story.ranges(Some("held")).await;
    assert_eq!(held[0].trouble.clone().unwrap().kind, "trigger_gone");
    product
        .write(
            &product.birch,
            "alter table {w}task enable trigger tenure_backfill_task_state",
        )
        .await;
    for range in held {
        story.act_on_range(range.range_id, "retry").await;
    }
    story.switched().await;
    product.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_stands_in_the_way_is_refused_before_anything_begins() {
    let product = Product::fleet().await;
    let client = &product.app.client;
    let refused = async |text: &str| {
        let start = StartBackfill {
            definition: text.to_owned(),
            reason: "ticket 40".to_owned(),
        };
        let refused = client
            .start_backfill(&start, &IdempotencyKey::generate())
            .await;
        refused.unwrap_err().to_string()
    };
    let taken = STATE
        .replace("[columns.state]", "[columns.title]")
        .replace("state + 1", "title::int");
    let told = refused(&taken).await;
    assert!(
        told.contains("name_taken") && told.contains("title"),
        "{told}"
    );
    let told = refused(&STATE.replace("[\"status\"]", "[\"state_word\"]")).await;
    assert!(
        told.contains("column_gone") && told.contains("state_word"),
        "{told}"
    );
    let told = refused(&STATE.replace("table = \"task\"", "table = \"tusk\"")).await;
    assert!(told.contains("tusk"), "{told}");
    let told = refused(&STATE.replace("table = \"task\"", "table = \"currency\"")).await;
    assert!(told.contains("nothing of tenants"), "{told}");
    let told = refused(&STATE.replace("parallel = 3", "parallel = \"3\"")).await;
    assert!(
        told.contains("line 6") && told.contains("parallel"),
        "{told}"
    );
    let told = refused(&with(&[("[columns.state]", "key = [\"title\"]\n")])).await;
    assert!(
        told.contains("no_key") && told.contains("would pass over rows"),
        "{told}"
    );
    let story = Story::start(&product, STATE).await;
    story.waits_before("switch").await;
    // The columns of the one that is under way are in the way of another.
    let told = refused(STATE).await;
    assert!(told.contains("name_taken"), "{told}");
    product.finish().await;
}

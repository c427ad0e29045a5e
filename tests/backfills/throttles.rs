//! What throttles a backfill, by the real thing: a long transaction, a waiter for a lock, WAL, a slot,
//! a vacuum, old transaction ids; and what a login does not see.
//!
//! The suite's cluster has other guests, who write WAL and wait for locks, too: so each is told while
//! the real thing goes on, and not that nothing else is. A standby that is behind needs a cluster of its
//! own, and is not here.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use sqlx::{Connection as _, PgConnection};
use tenure_client::{Backfill, IdempotencyKey, StartBackfill};

use super::{Story, with};
use crate::support::product::Product;
use crate::support::{self, eventually};

/// A backfill of one source that is throttled by one thing only, and by nothing before its fill.
fn throttled_by(off: &str, limit: &str) -> String {
    let text = with(&[(
        "[columns.state]",
        "sources = [\"vault\"]\nwait_at = [\"fill\", \"switch\"]\n",
    )]);
    let changed = text.replace(off, limit);
    assert_ne!(changed, text, "{off}");
    changed
}

/// A backfill that is about to fill.
async fn ready<'a>(product: &'a Product, text: &str) -> Story<'a> {
    let story = Story::start(product, text).await;
    story.waits_before("fill").await;
    story
}

/// Lets a backfill fill until it is throttled.
async fn bites(story: &Story<'_>, code: &str) -> Backfill {
    story.act("advance").await;
    let by = |of: &Backfill| {
        let mut reasons = of.progress.throttled.iter();
        reasons.any(|one| one.reason.starts_with(&format!("{code}: ")))
    };
    let label = format!("is throttled by {code}");
    story.until(&label, by).await
}

/// Before the first row.
async fn bites_at_once(product: &Product, text: &str, code: &str) {
    let story = ready(product, text).await;
    let throttled = bites(&story, code).await;
    assert_eq!(throttled.progress.done_rows, 0, "{throttled:?}");
    undo(&story).await;
}

async fn undo(story: &Story<'_>) {
    story.back("undone").await;
    story.until("is undone", |of| of.status == "ended").await;
}

/// A connection of the product's own login, whose sessions ours sees.
async fn product_session(product: &Product) -> PgConnection {
    product.connect_as_product(&product.ilex.place).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_long_transaction_a_waiter_and_old_ids_each_hold_it_back() {
    let product = Product::fleet().await;
    product.rows(&product.ilex, 30).await;
    let mut first = product_session(&product).await;
    let mut long = first.begin().await.unwrap();
    sqlx::raw_sql("select 1 from work.project for update")
        .execute(&mut *long)
        .await
        .unwrap();
    let text = throttled_by(
        "longest_transaction = \"off\"",
        "longest_transaction = \"100ms\"",
    );
    bites_at_once(&product, &text, "long_transaction").await;

    let mut second = product_session(&product).await;
    let waiter = tokio::spawn(async move {
        let wait = "begin; select 1 from work.project for update; rollback";
        sqlx::raw_sql(wait).execute(&mut second).await
    });
    let text = throttled_by("lock_waiters = \"off\"", "lock_waiters = 0");
    bites_at_once(&product, &text, "lock_waiters").await;
    long.rollback().await.unwrap();
    waiter.await.unwrap().unwrap();

    let text = throttled_by("xid_age = \"off\"", "xid_age = 1");
    bites_at_once(&product, &text, "xid_age").await;
    product.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn much_wal_and_a_slot_that_keeps_it_each_hold_it_back() {
    let product = Product::fleet().await;
    product.rows(&product.ilex, 3_000).await;
    let mut keeper = product.connect(&product.ilex.place).await;
    let slot = format!("tenure_suite_{}", support::unique());
    sqlx::query("select pg_create_physical_replication_slot($1, true, false)")
        .bind(&slot)
        .execute(&mut keeper)
        .await
        .unwrap();
    // Until it is told, somebody writes more than is allowed.
    let stop = Arc::new(AtomicBool::new(false));
    let mut writer = product.connect(&product.ilex.place).await;
    let writing = tokio::spawn({
        let stop = stop.clone();
        async move {
            sqlx::raw_sql("create table work.noise (line text)")
                .execute(&mut writer)
                .await
                .unwrap();
            while !stop.load(Ordering::Relaxed) {
                let much = "insert into work.noise select repeat(md5(n::text), 30) from generate_series(1, 4000) n;
                            truncate work.noise";
                sqlx::raw_sql(much).execute(&mut writer).await.unwrap();
            }
        }
    });
    let text = throttled_by("wal_rate = \"off\"", "wal_rate = \"1MB\"");
    // A rate is told from the second look on, and visits are short.
    let text = text.replace(
        "first_rows = 20",
        "first_rows = 20\nmax_rows = 20\nsub_batches = 1",
    );
    let story = ready(&product, &text).await;
    let throttled = bites(&story, "wal_rate").await;
    assert!(throttled.progress.done_rows < 3_000, "{throttled:?}");
    undo(&story).await;
    let text = throttled_by("slot = \"off\"", "slot = \"1MB\"");
    bites_at_once(&product, &text, "replication_slot").await;
    stop.store(true, Ordering::Relaxed);
    writing.await.unwrap();
    sqlx::query("select pg_drop_replication_slot($1)")
        .bind(&slot)
        .execute(&mut keeper)
        .await
        .unwrap();
    product.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_vacuum_of_the_table_holds_it_back() {
    let product = Product::fleet().await;
    product.rows(&product.ilex, 3_000).await;
    product
        .write(&product.ilex, "update {w}task set title = title || '.'")
        .await;
    let text = throttled_by("autovacuum = false", "autovacuum = true");
    let story = ready(&product, &text).await;
    let mut vacuum = product_session(&product).await;
    let cancel: i32 = sqlx::query_scalar("select pg_backend_pid()")
        .fetch_one(&mut vacuum)
        .await
        .unwrap();
    let vacuuming = tokio::spawn(async move {
        let slowly = [
            "set vacuum_cost_delay = '100ms'",
            "set vacuum_cost_limit = 1",
        ];
        for set in slowly {
            sqlx::raw_sql(set).execute(&mut vacuum).await.unwrap();
        }
        // It ends when the story lets it.
        let _ = sqlx::raw_sql("vacuum (freeze, disable_page_skipping) work.task")
            .execute(&mut vacuum)
            .await;
    });
    let mut keeper = product.connect(&product.ilex.place).await;
    eventually("the vacuum has begun", async || {
        let mut watcher = product.connect(&product.ilex.place).await;
        let begun = "select exists (select from pg_stat_progress_vacuum where pid = $1)";
        let begun = sqlx::query_scalar(begun).bind(cancel);
        begun.fetch_one(&mut watcher).await.unwrap()
    })
    .await;
    let throttled = bites(&story, "autovacuum").await;
    assert_eq!(throttled.progress.done_rows, 0, "{throttled:?}");
    assert!(!vacuuming.is_finished(), "it went on all the time");
    sqlx::query("select pg_cancel_backend($1)")
        .bind(cancel)
        .execute(&mut keeper)
        .await
        .unwrap();
    vacuuming.await.unwrap();
    undo(&story).await;
    product.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_login_does_not_see_is_told_before_and_while_it_throttles_nothing() {
    let product = Product::fleet().await;
    product.rows(&product.ilex, 30).await;
    let text = throttled_by("replica_lag = \"off\"", "replica_lag = \"5s\"");
    let asked = StartBackfill {
        definition: text.clone(),
        reason: String::new(),
    };
    let client = &product.app.client;
    let key = IdempotencyKey::generate();
    let plan = client.plan_backfill(&asked, &key).await.unwrap();
    let warning = plan
        .warnings
        .iter()
        .find(|one| one.contains("does not see"));
    let warning = warning.unwrap_or_else(|| panic!("{:?}", plan.warnings));
    assert!(
        warning.contains("source vault does not see replica_lag, which")
            && warning.contains("pg_read_all_stats"),
        "{warning}"
    );
    let story = Story::start(&product, &text).await;
    story.waits_before("fill").await;
    story.act("advance").await;
    let filled = story.waits_before("switch").await;
    assert_eq!(filled.progress.unseen, ["vault: replica_lag"]);
    assert_eq!(story.ranges(None).await[0].unseen, ["vault: replica_lag"]);
    story.back("undone").await;
    story.until("is undone", |of| of.status == "ended").await;

    // Nothing is to throttle: nothing is missed.
    let quiet = with(&[("[columns.state]", "sources = [\"vault\"]\n")]);
    let asked = StartBackfill {
        definition: quiet,
        reason: String::new(),
    };
    let key = IdempotencyKey::generate();
    let plan = client.plan_backfill(&asked, &key).await.unwrap();
    let mut warnings = plan.warnings.iter();
    assert!(!warnings.any(|one| one.contains("does not see")));
    product.finish().await;
}

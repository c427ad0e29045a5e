//! Partitions that are dropped whole: nothing is read under the lock, and what somebody has written to
//! meanwhile stays.

use serde_json::{Value, json};
use sqlx::{AssertSqlSafe, Connection as _};
use tenure_client::{DataArchiveFilter, RunStatus};

use super::elsewhere::restore;
use super::{folder, load, policy, signal, sweep, swept, window};
use crate::support::eventually;
use crate::support::product::{Member, Product};

/// A column whose values tell who reads them under a lock that keeps everybody away.
const TELLTALE: &str = "
    create type {w}mark as enum ('kept');
    create function {w}tell({w}mark) returns json language plpgsql as $$
    begin
      if exists (
        select from pg_locks where pid = pg_backend_pid() and mode = 'AccessExclusiveLock'
          and relation in (to_regclass('{w}audit_event_2026_09'), to_regclass('{w}audit_event')))
      then raise exception 'read under an exclusive lock'; end if;
      return '\"kept\"';
    end $$;
    create cast ({w}mark as json) with function {w}tell({w}mark);
    alter table {w}audit_event add column mark {w}mark default 'kept'";

fn audits(audit: Value) -> Value {
    let mut document = policy("", window());
    document["classes"]["audit"] = audit;
    document["tables"] = json!({});
    document
}

async fn in_partition(product: &Product, member: &Member) -> Option<i64> {
    let mut conn = product.connect(&member.place).await;
    let schema = member.place.schema.as_deref().unwrap();
    let there: Option<String> =
        sqlx::query_scalar("select to_regclass($1 || '.audit_event_2026_09')::text")
            .bind(schema)
            .fetch_one(&mut conn)
            .await
            .unwrap();
    there.as_ref()?;
    let count = format!("select count(*) from {schema}.audit_event_2026_09");
    let count = sqlx::query_scalar(AssertSqlSafe(count));
    Some(count.fetch_one(&mut conn).await.unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_partition_is_dropped_without_a_row_being_read_under_its_lock() {
    let (_folder, config) = folder();
    let product = Product::fleet_with(Some(config)).await;
    let kept = json!({ "action": "archive", "after_days": 30, "age": "happened_at" });
    let gone = json!({ "action": "delete", "after_days": 30, "age": "happened_at" });
    for (member, audit) in [(&product.cedar, kept), (&product.quarry, gone)] {
        load(&product, "rooms", audits(audit)).await;
        product.rows(member, 1_000).await;
        product.write(member, TELLTALE).await;
        let rows = in_partition(&product, member).await.unwrap();
        assert!(rows > 0);
        let run = sweep(&product, member, false).await;
        assert_eq!(run.summary.status, RunStatus::Completed, "{:?}", run.data);
        assert_eq!(in_partition(&product, member).await, None);
        let came = &swept(&run)["audit_event"];
        assert_eq!(came.partitions, 1, "{came:?}");
        assert!(came.deleted >= rows.unsigned_abs(), "{came:?}");
        assert_eq!(came.left, 0, "{came:?}");
    }
    product.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_partition_that_is_written_to_meanwhile_goes_row_by_row_and_nothing_is_lost() {
    let (_folder, config) = folder();
    let product = Product::fleet_with(Some(config)).await;
    let member = &product.cedar;
    load(
        &product,
        "rooms",
        audits(json!({ "action": "archive", "after_days": 30, "age": "happened_at" })),
    )
    .await;
    product.rows(member, 1_000).await;
    let rows = in_partition(&product, member).await.unwrap();

    // Somebody reads, and so nothing is dropped until they have ended.
    let mut reader = product.connect(&member.place).await;
    let mut reading = reader.begin().await.unwrap();
    sqlx::raw_sql("lock table cedar.audit_event_2026_09 in access share mode")
        .execute(&mut *reading)
        .await
        .unwrap();
    let (run, ()) = tokio::join!(sweep(&product, member, false), async {
        eventually("it is archived", async || {
            let filter = DataArchiveFilter::default();
            let client = &product.app.client;
            let archives = client.list_data_archives(member.tenant, &filter).await;
            !archives.unwrap().items.is_empty()
        })
        .await;
        let late = "update {w}audit_event set action = 'task.renamed' where event_id = (
                      select event_id from {w}audit_event_2026_09 order by 1 limit 1)";
        product.write(member, late).await;
        reading.rollback().await.unwrap();
    });
    let run = match run.summary.state.as_str() {
        "Halted" => signal(&product, run.summary.run_id, "Resume").await,
        _ => run,
    };
    assert_eq!(run.summary.status, RunStatus::Completed, "{:?}", run.data);
    let came = &swept(&run)["audit_event"];
    assert_eq!(came.partitions, 0, "{came:?}");
    assert!(came.left >= rows.unsigned_abs(), "{came:?}");
    assert_eq!(in_partition(&product, member).await, Some(0));
    let mut conn = product.connect(&member.place).await;
    let watched: i64 = sqlx::query_scalar(
        "select count(*) from pg_trigger
         where tgrelid = 'cedar.audit_event_2026_09'::regclass and tgname like 'tenure%'",
    )
    .fetch_one(&mut conn)
    .await
    .unwrap();
    assert_eq!(watched, 0, "nobody watches it any longer");

    // What was written last is what comes back.
    let back = restore(&product, member, run.summary.run_id).await;
    assert_eq!(back.summary.status, RunStatus::Completed, "{:?}", back.data);
    let found = product.contents(member, &member.place, "audit_event").await;
    let renamed = found.iter().filter(|one| one["action"] == "task.renamed");
    assert_eq!((found.len(), renamed.count()), (1_000, 1));
    product.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn parts_that_were_damaged_before_they_were_sealed_do_not_stay_in_the_store() {
    let (folder, config) = folder();
    let product = Product::fleet_with(Some(config)).await;
    let member = &product.cedar;
    let comments =
        json!({ "action": "delete", "after_days": 30, "restore_days": 30, "age": "created_at" });
    let mut document = policy("", comments.clone());
    document["tables"] = json!({ "comment": comments });
    document["classes"]["audit"] = json!({ "action": "keep" });
    load(&product, "rooms", document).await;
    product.rows(member, 1_500).await;
    // Nothing refers to a comment; the last one is read only once somebody lets it.
    let gate = "
        delete from {w}attachment;
        create type {w}mark as enum ('open', 'shut');
        create function {w}pass({w}mark) returns json language plpgsql as $$
        begin
          if $1 = 'shut' then perform pg_advisory_xact_lock(137); end if;
          return to_json($1::text);
        end $$;
        create cast ({w}mark as json) with function {w}pass({w}mark);
        alter table {w}comment add column mark {w}mark default 'open';
        update {w}comment set mark = 'shut' where comment_id = (
          select comment_id from {w}comment order by 1 desc limit 1)";
    product.write(member, gate).await;
    let mut keeper = product.connect(&member.place).await;
    sqlx::raw_sql("select pg_advisory_lock(137)")
        .execute(&mut keeper)
        .await
        .unwrap();
    let tenant = folder.path().join(member.tenant.to_string());
    let archives = || -> Vec<std::path::PathBuf> {
        let found = std::fs::read_dir(&tenant).into_iter().flatten().flatten();
        let folders = found.map(|one| one.path());
        let full = |one: &std::path::PathBuf| std::fs::read_dir(one).unwrap().count() > 0;
        folders.filter(full).collect()
    };
    let (halted, ()) = tokio::join!(sweep(&product, member, false), async {
        eventually("its first part is written", async || {
            archives()
                .iter()
                .any(|one| one.join("comment-00001.jsonl.gz").exists())
        })
        .await;
        let part = archives()[0].join("comment-00001.jsonl.gz");
        let mut bytes = std::fs::read(&part).unwrap();
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        std::fs::write(&part, bytes).unwrap();
        sqlx::raw_sql("select pg_advisory_unlock(137)")
            .execute(&mut keeper)
            .await
            .unwrap();
    });
    let why = &halted.data["Halted"]["why"];
    assert_eq!(why["code"], "archive_damaged", "{:?}", halted.data);
    let done = signal(&product, halted.summary.run_id, "Resume").await;
    assert_eq!(done.summary.state, "Window", "{:?}", done.data);
    let filter = DataArchiveFilter::default();
    let client = &product.app.client;
    let known = client.list_data_archives(member.tenant, &filter).await;
    let known = known.unwrap().items;
    assert_eq!(
        archives().len(),
        known.len(),
        "{:?} beside {known:?}",
        archives()
    );
    product.finish().await;
}

//! Retention: finished runs are kept exactly as long as promised, and nothing else goes with them.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use sqlx::PgPool;
use tenure_engine::operator::{self, Act, Verb};
use tenure_engine::retention::{
    self, HoldFilter, Retention, RetentionConfig, Scope, Swept, archive,
};
use tenure_engine::{EngineError, RunId, Status, Worker, WorkerConfig, inspect};

use super::workflows::{Door, DoorSignal, Errand, House, HouseSignal, Outside, registry};
use crate::support::engine::TestEngine;
use crate::support::{self, eventually};

const HOUR: Duration = Duration::from_secs(3_600);
const DAY: Duration = Duration::from_secs(24 * 3_600);
/// What the tests' workflows declare, by saying nothing.
const KEPT_DAYS: u32 = 400;

/// Every sweep is a whole pass, in several pages.
fn config() -> RetentionConfig {
    RetentionConfig {
        pass_every: Duration::ZERO,
        page: 3,
        ..RetentionConfig::default()
    }
}

async fn sweep_with(engine: &TestEngine, config: &RetentionConfig) -> Swept {
    retention::sweep(engine.pool(), engine.client.registry(), config).await
}

async fn sweep(engine: &TestEngine) -> Swept {
    let swept = sweep_with(engine, &config()).await;
    assert!(swept.whole, "the pass ended early");
    swept
}

fn act(reason: &str) -> Act {
    Act {
        actor: "maria".to_owned(),
        role: "operator".to_owned(),
        reason: reason.to_owned(),
        revision: 0,
    }
}

async fn exists(engine: &TestEngine, run: RunId) -> bool {
    let mut conn = engine.pool().acquire().await.unwrap();
    match inspect::detail(&mut conn, engine.client.registry(), run).await {
        Ok(_) => true,
        Err(EngineError::RunNotFound(_)) => false,
        Err(error) => panic!("{error:?}"),
    }
}

async fn count(pool: &PgPool, query: &'static str) -> i64 {
    sqlx::query_scalar(query).fetch_one(pool).await.unwrap()
}

async fn decide(engine: &TestEngine, workflow: &str, retention: Retention) {
    let mut tx = engine.pool().begin().await.unwrap();
    let registry = engine.client.registry();
    retention::decide(&mut tx, registry, workflow, retention, &act("as agreed"))
        .await
        .unwrap();
    tx.commit().await.unwrap();
}

async fn place(engine: &TestEngine, scope: Scope) -> retention::Hold {
    let mut tx = engine.pool().begin().await.unwrap();
    let hold = retention::place(&mut tx, scope, &act("a case at court")).await;
    tx.commit().await.unwrap();
    hold.unwrap()
}

async fn lift(engine: &TestEngine, hold: &retention::Hold) {
    let mut tx = engine.pool().begin().await.unwrap();
    let lifted = retention::lift(&mut tx, hold.hold_id, &act("it was won")).await;
    assert_eq!(lifted.unwrap(), *hold);
    tx.commit().await.unwrap();
}

/// An engine with one finished errand, `a`.
async fn with_errand() -> (TestEngine, RunId) {
    let engine = TestEngine::new(registry(&Outside::default())).await;
    let run = engine.start::<Errand>("a", &0).await;
    engine.drain().await;
    assert_eq!(engine.status(run).await, Status::Completed);
    (engine, run)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_and_its_key_are_kept_as_long_as_its_workflow_says_and_no_longer() {
    let (engine, run) = with_errand().await;
    engine.advance(KEPT_DAYS * DAY - HOUR);
    assert_eq!(sweep(&engine).await.dropped, 0);
    assert_eq!(
        engine.start::<Errand>("a", &0).await,
        run,
        "the key is free"
    );
    engine.advance(HOUR);
    assert_eq!(sweep(&engine).await.dropped, 1);
    assert!(!exists(&engine, run).await);
    let next = engine.start::<Errand>("a", &0).await;
    assert_ne!(next, run, "the key is still taken");
    engine.drain().await;
    assert_eq!(engine.status(next).await, Status::Completed);
    engine.assert_nothing_lost().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn operators_decide_otherwise_and_it_is_audited() {
    let (engine, run) = with_errand().await;
    engine.advance(KEPT_DAYS * DAY);
    decide(&engine, "errand", Retention::Keep).await;
    assert_eq!(sweep(&engine).await.dropped, 0);
    decide(&engine, "errand", Retention::Drop(KEPT_DAYS + 1)).await;
    assert_eq!(sweep(&engine).await.dropped, 0);
    engine.advance(DAY);
    assert_eq!(sweep(&engine).await.dropped, 1);
    assert!(!exists(&engine, run).await);

    let mut conn = engine.pool().acquire().await.unwrap();
    let registry = engine.client.registry();
    let all = retention::policies(&mut conn, registry).await.unwrap();
    let policy = all.iter().find(|one| one.workflow == "errand").unwrap();
    assert_eq!(policy.retention, Retention::Drop(KEPT_DAYS + 1));
    assert_eq!(policy.declared, Some(Retention::DEFAULT));
    assert_eq!(policy.decided.as_ref().unwrap().by, "maria");
    let door = all.iter().find(|one| one.workflow == "door").unwrap();
    assert_eq!((door.retention, &door.decided), (Retention::DEFAULT, &None));
    let unknown = retention::decide(&mut conn, registry, "none", Retention::Keep, &act("x")).await;
    assert!(matches!(unknown, Err(EngineError::UnknownWorkflow(_))));
    let silent = retention::decide(&mut conn, registry, "door", Retention::Keep, &act(" ")).await;
    assert!(matches!(silent, Err(EngineError::Malformed { .. })));
    let audited: Vec<serde_json::Value> =
        sqlx::query_scalar("select after from engine.audit where action = 'retention' order by at")
            .fetch_all(engine.pool())
            .await
            .unwrap();
    let days = serde_json::json!({"action": "drop", "keep_days": KEPT_DAYS + 1});
    assert_eq!(audited[0]["retention"]["action"], "keep");
    assert_eq!(audited[1]["retention"], days);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_held_stays_until_the_hold_is_lifted() {
    let (engine, run) = with_errand().await;
    let free = engine.start::<Errand>("free", &0).await;
    engine.drain().await;
    engine.advance(2 * KEPT_DAYS * DAY);
    let of_run = place(&engine, Scope::Run(run)).await;
    assert_eq!(
        engine.detail(run).await.holds,
        std::slice::from_ref(&of_run)
    );
    let of_tenant = place(&engine, Scope::Tenant(engine.tenant)).await;
    assert_eq!(
        engine.detail(free).await.holds,
        std::slice::from_ref(&of_tenant)
    );
    assert_eq!(sweep(&engine).await.dropped, 0);
    lift(&engine, &of_tenant).await;
    assert_eq!(sweep(&engine).await.dropped, 1);
    assert!(!exists(&engine, free).await && exists(&engine, run).await);

    let mut conn = engine.pool().acquire().await.unwrap();
    let twice = retention::place(&mut conn, Scope::Run(run), &act("again")).await;
    assert!(matches!(twice, Err(EngineError::NotAllowed { .. })));
    let gone = retention::place(&mut conn, Scope::Run(free), &act("late")).await;
    assert!(matches!(gone, Err(EngineError::RunNotFound(_))));
    let listed = retention::holds(&mut conn, &HoldFilter::default(), None, 10).await;
    assert_eq!(listed.unwrap(), std::slice::from_ref(&of_run));
    lift(&engine, &of_run).await;
    let lifted = retention::lift(&mut conn, of_run.hold_id, &act("twice")).await;
    assert!(matches!(lifted, Err(EngineError::HoldNotFound(_))));
    assert_eq!(sweep(&engine).await.dropped, 1);
    let actions: Vec<String> = sqlx::query_scalar("select action from engine.audit order by at")
        .fetch_all(engine.pool())
        .await
        .unwrap();
    assert_eq!(actions, ["hold", "hold", "lift hold", "lift hold"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hold_that_is_placed_in_the_middle_of_a_pass_is_met() {
    let (engine, run) = with_errand().await;
    // The pass stands behind the run, and has noted nothing of it.
    sweep(&engine).await;
    sqlx::query("update engine.sweep set after_run = $1")
        .bind(uuid::Uuid::max())
        .execute(engine.pool())
        .await
        .unwrap();
    engine.advance(3 * KEPT_DAYS * DAY);
    place(&engine, Scope::Run(run)).await;
    let config = RetentionConfig {
        log_months: 1,
        ..config()
    };
    let before = count(engine.pool(), "select count(*) from engine.step").await;
    assert!(before > 0);
    sweep_with(&engine, &config).await;
    let after = count(engine.pool(), "select count(*) from engine.step").await;
    assert_eq!(after, before, "the logs of a held run are gone");
}

#[tokio::test(flavor = "multi_thread")]
async fn live_runs_are_never_touched() {
    let engine = TestEngine::new(registry(&Outside::default())).await;
    decide(&engine, "door", Retention::Drop(0)).await;
    let mut doors = Vec::new();
    for number in 0..10 {
        doors.push(engine.start::<Door>(&format!("d{number}"), &()).await);
    }
    engine.drain().await;
    for (number, door) in doors.iter().enumerate() {
        if number % 2 == 0 {
            engine
                .signal::<Door>(*door, "end", &DoorSignal::Finish)
                .await;
        }
    }
    engine.drain().await;
    engine.advance(10 * KEPT_DAYS * DAY);
    assert_eq!(sweep(&engine).await.dropped, 5);
    for (number, door) in doors.iter().enumerate() {
        assert_eq!(exists(&engine, *door).await, number % 2 == 1);
    }
    let left = count(engine.pool(), "select count(*) from engine.inbox").await;
    assert_eq!(left, 0, "messages of runs that are gone");
    for door in doors.iter().skip(1).step_by(2) {
        engine
            .signal::<Door>(*door, "end", &DoorSignal::Finish)
            .await;
    }
    engine.drain().await;
    assert_eq!(engine.status(doors[1]).await, Status::Completed);
    engine.assert_nothing_lost().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_parent_and_a_child_outlive_each_other() {
    let engine = TestEngine::new(registry(&Outside::default())).await;
    let early = engine.start::<House>("early", &()).await;
    let late = engine.start::<House>("late", &()).await;
    engine.drain().await;
    let door = async |key: &str| -> RunId {
        let id: uuid::Uuid = sqlx::query_scalar("select run_id from engine.run where key = $1")
            .bind(key)
            .fetch_one(engine.pool())
            .await
            .unwrap();
        RunId(id)
    };
    // One house ends before its door, the other after it.
    engine
        .signal::<House>(early, "leave", &HouseSignal::Leave)
        .await;
    let (orphan, child) = (door("early-left").await, door("late-left").await);
    engine
        .signal::<Door>(child, "end", &DoorSignal::Finish)
        .await;
    engine.drain().await;
    engine.advance(KEPT_DAYS * DAY);
    // The early house with the two doors that ended with it, and the late house's door.
    assert_eq!(sweep(&engine).await.dropped, 4);
    engine
        .signal::<Door>(orphan, "end", &DoorSignal::Finish)
        .await;
    engine
        .signal::<House>(late, "leave", &HouseSignal::Leave)
        .await;
    engine.drain().await;
    assert_eq!(engine.status(orphan).await, Status::Completed);
    assert_eq!(engine.status(late).await, Status::Completed);
    engine.assert_nothing_lost().await;
    engine.advance(KEPT_DAYS * DAY);
    assert_eq!(sweep(&engine).await.dropped, 4);
    for left in [
        "select count(*) from engine.run",
        "select count(*) from engine.inbox",
        "select count(*) from engine.nudge",
    ] {
        assert_eq!(count(engine.pool(), left).await, 0, "{left}");
    }
}

/// All runs in all files of an archive, with the file of each.
fn archived(folder: &Path) -> Vec<(PathBuf, archive::Manifest)> {
    let months = std::fs::read_dir(folder).unwrap();
    let files = months.flat_map(|month| std::fs::read_dir(month.unwrap().path()).unwrap());
    let paths = files.map(|file| file.unwrap().path());
    let mut paths: Vec<PathBuf> = paths.collect();
    paths.sort();
    assert!(paths.iter().all(|path| path.extension().unwrap() != "part"));
    paths
        .into_iter()
        .filter(|path| path.extension().unwrap() == "json")
        .map(|path| {
            let manifest = std::fs::read_to_string(&path).unwrap();
            let manifest: archive::Manifest = serde_json::from_str(&manifest).unwrap();
            (path.with_file_name(&manifest.file), manifest)
        })
        .collect()
}

/// Doors that were opened, heard one knock and ended.
async fn finished_doors(engine: &TestEngine, number: usize) -> Vec<RunId> {
    let mut doors = Vec::new();
    for number in 0..number {
        let door = engine.start::<Door>(&format!("d{number}"), &()).await;
        let knock = DoorSignal::Knock("milk".to_owned());
        for (id, signal) in [
            ("open", DoorSignal::Open),
            ("knock", knock),
            ("end", DoorSignal::Finish),
        ] {
            engine.signal::<Door>(door, id, &signal).await;
        }
        doors.push(door);
    }
    engine.drain().await;
    doors
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_is_archived_once_with_all_that_hangs_on_it_whatever_dies_between() {
    let folder = tempfile::tempdir().unwrap();
    let config = RetentionConfig {
        archive_folder: Some(folder.path().to_owned()),
        ..config()
    };
    let engine = TestEngine::new(registry(&Outside::default())).await;
    decide(&engine, "door", Retention::Archive(30)).await;
    let doors = finished_doors(&engine, 7).await;
    engine.advance(30 * DAY);
    // Without a place for them they stay.
    assert_eq!(sweep(&engine).await.dropped, 0);
    // The file is written, and then its writer is gone.
    let mut conn = support::connect(&engine.options).await;
    let deny = "revoke delete on engine.run from tenure_engine";
    sqlx::raw_sql(deny).execute(&mut conn).await.unwrap();
    let swept = sweep_with(&engine, &config).await;
    assert_eq!((swept.dropped, swept.whole), (0, false));
    let first = archived(folder.path());
    assert_eq!(first.len(), 1);
    assert!(exists(&engine, doors[0]).await, "gone before its time");
    // A message that comes late is in the file as well.
    let (tenant, push) = (engine.tenant, serde_json::json!("Push"));
    let mut sender = engine.pool().acquire().await.unwrap();
    let late = engine
        .client
        .signal_named(&mut sender, tenant, doors[0], "late", &push);
    assert!(matches!(late.await, Err(EngineError::RunFinished { .. })));
    drop(sender);
    let allow = "grant delete on engine.run to tenure_engine";
    sqlx::raw_sql(allow).execute(&mut conn).await.unwrap();
    let swept = sweep_with(&engine, &config).await;
    assert_eq!((swept.dropped, swept.archived, swept.whole), (7, 7, true));

    let files = archived(folder.path());
    assert!(files.iter().any(|(path, _)| *path == first[0].0));
    assert_eq!(
        files.iter().map(|(_, manifest)| manifest.runs).sum::<u64>(),
        7
    );
    for door in &doors {
        assert!(!exists(&engine, *door).await);
        let found = files
            .iter()
            .filter_map(|(path, _)| archive::find(path, *door).unwrap());
        let found: Vec<_> = found.collect();
        assert_eq!(found.len(), 1, "{door} is archived {} times", found.len());
        assert_eq!(found[0]["run"]["output"], serde_json::json!(["milk"]));
        assert_eq!(
            found[0]["messages"][1]["payload"],
            serde_json::json!({"Knock": "milk"})
        );
        assert_eq!(found[0]["transitions"].as_array().unwrap().len(), 5);
        let late = usize::from(door == &doors[0]);
        assert_eq!(found[0]["messages"].as_array().unwrap().len(), 3 + late);
    }
    let (path, manifest) = &files[0];
    assert_eq!(manifest.workflows, ["door"]);
    assert_eq!(std::fs::metadata(path).unwrap().len(), manifest.bytes);
    let mut bytes = std::fs::read(path).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    std::fs::write(path, bytes).unwrap();
    assert!(
        archive::find(path, doors[0]).is_err(),
        "a broken file is read"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_held_is_not_archived_either() {
    let folder = tempfile::tempdir().unwrap();
    let (engine, run) = with_errand().await;
    decide(&engine, "errand", Retention::Archive(1)).await;
    place(&engine, Scope::Tenant(engine.tenant)).await;
    engine.advance(2 * DAY);
    let config = RetentionConfig {
        archive_folder: Some(folder.path().to_owned()),
        ..config()
    };
    let swept = sweep_with(&engine, &config).await;
    assert_eq!((swept.dropped, swept.archived, swept.whole), (0, 0, true));
    assert!(exists(&engine, run).await);
    assert!(archived(folder.path()).is_empty());
}

/// The partitions of a log that hold something.
async fn months(engine: &TestEngine, log: &'static str) -> i64 {
    let query = match log {
        "step" => "select count(distinct tableoid) from engine.step",
        _ => "select count(distinct tableoid) from engine.transition",
    };
    count(engine.pool(), query).await
}

#[tokio::test(flavor = "multi_thread")]
async fn the_journal_of_an_open_visit_outlives_its_month() {
    let outside = Outside::default();
    let engine = TestEngine::new(registry(&outside)).await;
    let done = engine.start::<Errand>("done", &0).await;
    engine.drain().await;
    outside.refuse("second", 1);
    let open = engine.start::<Errand>("open", &0).await;
    engine.drain().await;
    assert_eq!(engine.status(open).await, Status::Stuck);
    let config = RetentionConfig {
        log_months: 1,
        ..config()
    };
    engine.advance(20 * DAY);
    assert_eq!(sweep_with(&engine, &config).await.partitions, 0);
    // A month and more on: transitions of that month would go, but an open visit has its journal there.
    engine.advance(80 * DAY);
    sweep_with(&engine, &config).await;
    assert_eq!(months(&engine, "step").await, 1);
    let mut conn = engine.pool().acquire().await.unwrap();
    let mut act = act("it is up again");
    act.revision = engine.detail(open).await.summary.revision();
    let registry = engine.client.registry();
    operator::intervene(&mut conn, registry, open, &Verb::Retry, &act)
        .await
        .unwrap();
    drop(conn);
    engine.drain().await;
    assert_eq!(engine.status(open).await, Status::Completed);
    assert_eq!(
        outside.keys("first").len(),
        2,
        "an answered step is done again"
    );
    // Now nobody needs that month; what the retry wrote is of a later one.
    sweep_with(&engine, &config).await;
    assert_eq!(months(&engine, "step").await, 1);
    engine.advance(80 * DAY);
    let swept = sweep_with(&engine, &config).await;
    assert!(swept.whole && swept.partitions >= 2, "{swept:?}");
    assert_eq!(months(&engine, "step").await, 0);
    assert_eq!(months(&engine, "transition").await, 0);
    // Runs are kept without their logs.
    assert!(exists(&engine, done).await && exists(&engine, open).await);
    engine.start::<Errand>("new", &0).await;
    engine.drain().await;
    engine.assert_nothing_lost().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_held_tenants_logs_keep_their_month() {
    let (engine, _) = with_errand().await;
    let hold = place(&engine, Scope::Tenant(engine.tenant)).await;
    engine.advance(100 * DAY);
    let config = RetentionConfig {
        log_months: 1,
        ..config()
    };
    sweep_with(&engine, &config).await;
    assert_eq!(months(&engine, "step").await, 1);
    assert_eq!(months(&engine, "transition").await, 1);
    lift(&engine, &hold).await;
    sweep_with(&engine, &config).await;
    assert_eq!(months(&engine, "step").await, 0);
    assert_eq!(months(&engine, "transition").await, 0);
}

/// The pages of each table and index that runs come and go in, and of the logs together.
async fn pages(engine: &TestEngine) -> BTreeMap<String, i64> {
    let pages: Vec<(String, i64)> = sqlx::query_as(
        "with kept as (
           select named::oid as oid
           from unnest(array['engine.run', 'engine.due', 'engine.nudge', 'engine.inbox']::regclass[]) as named
         ), file as (
           select oid as place, oid from kept
           union all
           select indexrelid, indexrelid from pg_index join kept on kept.oid = indrelid
           union all
           select inhparent, inhrelid from pg_inherits
           where inhparent in ('engine.step'::regclass, 'engine.transition'::regclass)
         )
         select place::regclass::text, (sum(
             case when place = oid then pg_relation_size(oid) else pg_total_relation_size(oid) end
           ) / current_setting('block_size')::bigint)::bigint
         from file
         group by place",
    )
    .fetch_all(engine.pool())
    .await
    .unwrap();
    pages.into_iter().collect()
}

/// Runs come and end: some with a journal, some with messages.
async fn a_thousand_come_and_end(engine: &TestEngine) {
    // As upkeep does it ahead of time.
    sqlx::query("select engine.ensure_partitions(engine.now())")
        .execute(engine.pool())
        .await
        .unwrap();
    let starts: Vec<_> = (0..960).map(|n| (format!("run-{n}"), 0)).collect();
    let mut conn = engine.pool().acquire().await.unwrap();
    engine
        .client
        .start_many::<Errand>(&mut conn, engine.tenant, &starts)
        .await
        .unwrap();
    drop(conn);
    finished_doors(engine, 40).await;
    let ended = "select count(*) from engine.run where status = 10";
    assert_eq!(count(engine.pool(), ended).await, 1_000);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_dropped_makes_room_for_what_comes_after_it() {
    // Pages of an index are used again when nobody in the cluster may still be looking at them: a cluster
    // of its own, so that the other tests do not.
    let (cluster, _folder) = support::durable_cluster().await;
    let options = cluster.connect_options("tenure");
    let engine = TestEngine::on(options, registry(&Outside::default())).await;
    for workflow in ["errand", "door"] {
        decide(&engine, workflow, Retention::Drop(30)).await;
    }
    let config = RetentionConfig {
        log_months: 1,
        page: 200,
        ..config()
    };
    let mut owner = support::connect(&engine.options).await;
    // What it does from time to time is done here when all have ended.
    for off in [
        "alter system set autovacuum = off",
        "select pg_reload_conf()",
    ] {
        sqlx::raw_sql(off).execute(&mut owner).await.unwrap();
    }
    let mut full = Vec::new();
    for round in 0..5 {
        a_thousand_come_and_end(&engine).await;
        full.push(pages(&engine).await);
        let by_month = "select count(*) from engine.step
                        where tableoid <> 'engine.step_default'::regclass";
        assert!(count(engine.pool(), by_month).await >= 4_800);
        engine.advance(70 * DAY);
        let swept = sweep_with(&engine, &config).await;
        assert!(swept.whole && swept.dropped == 1_000, "{round}: {swept:?}");
        // The month goes as a whole, and takes its files with it.
        assert!(swept.partitions >= 2, "{round}: {swept:?}");
        for log in ["step", "transition"] {
            assert_eq!(months(&engine, log).await, 0, "{round}: {log}");
        }
        let partitions = "select count(*) from pg_inherits
            where inhparent in ('engine.step'::regclass, 'engine.transition'::regclass)";
        assert!(count(engine.pool(), partitions).await <= 8, "{round}");
        sqlx::raw_sql("vacuum engine.run, engine.due, engine.nudge, engine.inbox")
            .execute(&mut owner)
            .await
            .unwrap();
    }
    // An index keeps what it had in the first round until the second has ended; from then on nothing
    // grows. What is never given back would be two and a half times as large by the last round.
    let settled = &full[1];
    for (round, now) in full.iter().enumerate().skip(2) {
        for (file, pages) in now {
            let before = settled[file];
            assert!(
                *pages <= before + before / 2 + 4,
                "round {round}: {file} grew from {before} to {pages} pages"
            );
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_audit_is_kept_longer_and_then_goes() {
    let (engine, run) = with_errand().await;
    decide(&engine, "errand", Retention::Drop(1)).await;
    let hold = place(&engine, Scope::Run(run)).await;
    engine.advance(300 * DAY);
    let config = RetentionConfig {
        audit_days: 300,
        ..config()
    };
    // What is about a held run stays; the decision on the workflow is about nobody.
    assert_eq!(sweep_with(&engine, &config).await.audit, 1);
    lift(&engine, &hold).await;
    let swept = sweep_with(&engine, &config).await;
    assert_eq!((swept.audit, swept.dropped), (1, 1));
    let left: Vec<String> = sqlx::query_scalar("select action from engine.audit")
        .fetch_all(engine.pool())
        .await
        .unwrap();
    assert_eq!(left, ["lift hold"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn one_worker_at_a_time_sweeps_by_itself_and_a_lost_turn_is_taken_over() {
    let (engine, run) = with_errand().await;
    engine.advance(KEPT_DAYS * DAY);
    // Somebody took the turn and died with it.
    sqlx::query("update engine.sweep set holder = $1, until = engine.now() + interval '1 minute'")
        .bind(uuid::Uuid::max())
        .execute(engine.pool())
        .await
        .unwrap();
    assert_eq!(sweep_with(&engine, &config()).await, Swept::default());
    engine.advance(HOUR);
    let config = WorkerConfig {
        retention: RetentionConfig {
            look_every: Duration::from_millis(5),
            ..RetentionConfig::default()
        },
        ..WorkerConfig::default()
    };
    let one = Worker::start(&engine.client, config.clone()).await.unwrap();
    let two = Worker::start(&engine.client, config).await.unwrap();
    eventually("the run is dropped", async || !exists(&engine, run).await).await;
    one.shutdown().await;
    two.shutdown().await;
}

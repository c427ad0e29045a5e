//! Retention of a product's rows in all three models: what a dry run says is what a sweep does, what was
//! archived comes back as it was, what is held stays, and nothing is lost on the way.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use serde_json::{Value, json};
use sqlx::{AssertSqlSafe, Connection as _};
use tenure_client::{
    ClientError, DataArchiveFilter, DataHoldFilter, IdempotencyKey, LiftDataHold,
    LoadKeepingPolicy, PlaceDataHold, PlaceLegalHold, RunDetail, RunStatus, SendSignal,
    StartRestore, StartSweep, TenancyModel,
};
use tenure_engine::testkit::{Play, PlayError, Scene, fault_matrix};
use tenure_engine::{RunId, TenantId};
use tenure_workflows::archive::{
    Archive, ArchiveConfig, ArchiveError, FORMAT, Key, Kind, Manifest,
};
use tenure_workflows::keeping::sweep::{Output, Swept};
use tenure_workflows::keeping::{ArchiveFilter, hold, restore};
use tenure_workflows::ports::mail::{MailConfig, Mailer};
use tenure_workflows::ports::stripe::Stripe;
use tenure_workflows::product::{Place, door, maps};
use tenure_workflows::{Environment, as_control, as_tenant, data_map, keeping, tenant};
use uuid::Uuid;

use crate::support::app::certificate_key;
use crate::support::disk::Disk;
use crate::support::matrix::assert_borne;
use crate::support::product::{self, Member, Product, TABLES};
use crate::support::s3::S3Server;
use crate::support::{self, connect, eventually};

mod elsewhere;
mod holds;
mod partitions;

/// The instant that days are counted back from: 671 days after 18 January 2025.
pub(crate) const AS_OF: &str = "2026-11-20T00:00:00Z";
const TASK_CUTOFF: &str = "2025-01-18 00:00+00";

pub(crate) fn folder() -> (tempfile::TempDir, ArchiveConfig) {
    let folder = tempfile::tempdir().unwrap();
    let config = ArchiveConfig::Folder(folder.path().to_owned());
    (folder, config)
}

/// A policy for the sample product; tables are named as a model's map names them.
pub(crate) fn policy(prefix: &str, comments: Value) -> Value {
    let table = |name: &str| format!("{prefix}{name}");
    let mut attachments = comments.clone();
    attachments["age_of"] = json!(["attachment_comment"]);
    json!({
        "classes": {
            "content": { "action": "keep" },
            "financial": { "action": "keep", "legal_min_days": 3650, "basis": "§ 147 AO" },
            "audit": { "action": "archive", "after_days": 30, "age": "happened_at" }
        },
        "tables": {
            (table("comment")): comments,
            (table("attachment")): attachments,
            (table("task")): { "action": "archive", "after_days": 671, "age": "created_at" }
        }
    })
}

pub(crate) fn window() -> Value {
    json!({ "action": "delete", "after_days": 671, "restore_days": 30, "age": "created_at" })
}

pub(crate) async fn load(product: &Product, source: &str, document: Value) {
    let load = LoadKeepingPolicy {
        document,
        reason: "as counsel says".to_owned(),
    };
    let key = IdempotencyKey::generate();
    let loaded = product.app.client.load_keeping_policy(source, &load, &key);
    loaded.await.unwrap();
}

/// Starts a sweep and waits until it does nothing by itself.
pub(crate) async fn sweep(product: &Product, member: &Member, dry_run: bool) -> RunDetail {
    let start = StartSweep {
        dry_run,
        as_of: Some(AS_OF.parse().unwrap()),
        reason: (!dry_run).then(|| "the month is over".to_owned()),
    };
    let key = IdempotencyKey::generate();
    let started = product.app.client.start_sweep(member.tenant, &start, &key);
    rest(product, started.await.unwrap().run_id).await
}

async fn rest(product: &Product, run: Uuid) -> RunDetail {
    let client = &product.app.client;
    eventually("the job rests", async || {
        let run = client.run(run).await.unwrap();
        let waits = ["Halted", "Window"].contains(&run.summary.state.as_str());
        run.summary.status == RunStatus::Completed
            || run.summary.status == RunStatus::Stuck
            || (waits && run.summary.status == RunStatus::Waiting)
    })
    .await;
    client.run(run).await.unwrap()
}

/// By bare table, what came of a sweep.
fn swept(run: &RunDetail) -> BTreeMap<String, Swept> {
    let tables = match &run.output {
        Some(output) => output["tables"].clone(),
        None => run.data["Window"]["of"]["done"].clone(),
    };
    let tables: BTreeMap<String, Swept> =
        serde_json::from_value(tables).unwrap_or_else(|error| panic!("{error}: {:?}", run.data));
    let bare = |name: String| name.trim_start_matches("work.").to_owned();
    tables
        .into_iter()
        .map(|(name, came)| (bare(name), came))
        .collect()
}

async fn signal(product: &Product, run: Uuid, word: &str) -> RunDetail {
    let signal = SendSignal {
        id: Uuid::from_u128(support::unique().into()).to_string(),
        name: None,
        signal: json!(word),
        reason: Some("it was mended".to_owned()),
    };
    let key = IdempotencyKey::generate();
    let sent = product.app.client.send_signal(run, &signal, &key).await;
    sent.unwrap();
    let client = &product.app.client;
    eventually("the signal is heard", async || {
        let run = client.run(run).await.unwrap();
        run.summary.state != "Halted" || run.summary.status != RunStatus::Waiting
    })
    .await;
    rest(product, run).await
}

async fn everything(product: &Product, member: &Member) -> BTreeMap<&'static str, Vec<Value>> {
    let mut all = BTreeMap::new();
    for table in TABLES {
        all.insert(table, product.contents(member, &member.place, table).await);
    }
    all
}

/// What must go of a tenant's tasks, comments and attachments, worked out without the code: rows of a
/// table that are older than the cutoff, and of tasks only those that nothing which stays refers to.
async fn expected(product: &Product, member: &Member) -> BTreeMap<&'static str, u64> {
    let mut conn = product.connect(&member.place).await;
    let schema = member.place.schema.as_deref().unwrap_or("work");
    let own = match member.place.model {
        TenancyModel::Shared => format!("org_id = '{}'", member.place.key),
        _ => "true".to_owned(),
    };
    let mut counts = BTreeMap::new();
    for (table, query) in [
        ("comment", format!("select count(*) from {schema}.comment where {own} and created_at < '{TASK_CUTOFF}'")),
        ("attachment", format!(
            "select count(*) from {schema}.attachment a where a.comment_id in
               (select comment_id from {schema}.comment where {own} and created_at < '{TASK_CUTOFF}')"
        )),
        ("task", format!(
            "select count(*) from {schema}.task t where {own} and created_at < '{TASK_CUTOFF}'
               and task_id not in (select task_id from {schema}.comment where created_at >= '{TASK_CUTOFF}')
               and task_id not in (select parent_task_id from {schema}.task where parent_task_id is not null)"
        )),
        ("audit_event", format!(
            "select count(*) from {schema}.audit_event where {own} and happened_at < '2026-10-21 00:00+00'"
        )),
    ] {
        let count: i64 = sqlx::query_scalar(AssertSqlSafe(query))
            .fetch_one(&mut conn)
            .await
            .unwrap();
        counts.insert(table, count.unsigned_abs());
    }
    counts
}

#[tokio::test(flavor = "multi_thread")]
#[expect(clippy::too_many_lines, reason = "one story, told in order")]
async fn a_sweep_takes_what_its_dry_run_counted_and_a_restore_brings_it_back_in_every_model() {
    let (_folder, config) = folder();
    let product = Product::fleet_with(Some(config)).await;
    for (source, prefix) in [("main", "work."), ("rooms", ""), ("vault", "work.")] {
        load(&product, source, policy(prefix, window())).await;
    }
    product.rows(&product.salthouse, 400).await;
    let neighbour = everything(&product, &product.salthouse).await;
    for member in [&product.birch, &product.cedar, &product.ilex] {
        product.rows(member, 700).await;
        let before = everything(&product, member).await;
        let expected = expected(&product, member).await;
        assert!(expected.values().all(|count| *count > 0), "{expected:?}");

        let dry = sweep(&product, member, true).await;
        assert_eq!(dry.summary.status, RunStatus::Completed, "{:?}", dry.why);
        for (table, came) in &swept(&dry) {
            assert_eq!(
                came.counted.rows,
                expected[table.as_str()],
                "{table} of {}",
                member.name
            );
            assert!(came.counted.bytes > 0);
        }
        assert_eq!(
            everything(&product, member).await,
            before,
            "a dry run touches nothing"
        );

        let run = sweep(&product, member, false).await;
        assert_eq!(run.summary.state, "Window", "{:?} {:?}", run.why, run.data);
        for (table, came) in &swept(&run) {
            let count = expected[table.as_str()];
            assert_eq!(
                (came.archived, came.deleted, came.left),
                (count, count, 0),
                "{table}"
            );
        }
        let own = member.place.model != TenancyModel::Shared;
        assert_eq!(
            swept(&run)["audit_event"].partitions > 0,
            own,
            "{}",
            member.name
        );
        let after = product.counts(member, &member.place).await;
        for (table, count) in after {
            let was = before[table].len() as u64;
            let gone = expected.get(table).copied().unwrap_or_default();
            assert_eq!(
                count.unsigned_abs(),
                was - gone,
                "{table} of {}",
                member.name
            );
        }

        let start = StartRestore {
            sweep_id: Some(run.summary.run_id),
            archive_id: None,
            reason: "they want it back".to_owned(),
        };
        let key = IdempotencyKey::generate();
        let started = product
            .app
            .client
            .start_restore(member.tenant, &start, &key);
        let back = rest(&product, started.await.unwrap().run_id).await;
        assert_eq!(
            back.summary.status,
            RunStatus::Completed,
            "{:?} {:?}",
            back.why,
            back.data
        );
        assert_eq!(
            everything(&product, member).await,
            before,
            "{}",
            member.name
        );
    }
    assert_eq!(everything(&product, &product.salthouse).await, neighbour);
    product.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
#[expect(clippy::too_many_lines, reason = "one story, told in order")]
async fn what_is_held_stays_until_it_is_lifted() {
    let (_folder, config) = folder();
    let product = Product::fleet_with(Some(config)).await;
    load(&product, "main", policy("work.", window())).await;
    let member = &product.birch;
    product.rows(member, 300).await;
    let client = &product.app.client;
    let place = async |table: Option<&str>, matches: Option<Value>| {
        let place = PlaceDataHold {
            case: "7 O 12/27".to_owned(),
            table: table.map(ToOwned::to_owned),
            matches: matches.map(|matches| serde_json::from_value(matches).unwrap()),
            expires_at: None,
            reason: "the court asked".to_owned(),
        };
        let key = IdempotencyKey::generate();
        client.place_data_hold(member.tenant, &place, &key).await
    };
    let lift = async |hold_id: Uuid| {
        let lift = LiftDataHold {
            reason: "it was settled".to_owned(),
        };
        let key = IdempotencyKey::generate();
        let lifted = client.lift_data_hold(member.tenant, hold_id, &lift, &key);
        lifted.await.unwrap()
    };
    let missing = place(None, Some(json!({ "task_id": "x" }))).await;
    assert!(missing.is_err(), "values without a table hold nothing");
    let nested = place(Some("work.task"), Some(json!({ "task_id": {} }))).await;
    assert!(nested.is_err(), "a value is plain");

    // One matter: the tasks that are done, by what they share.
    let matter = place(Some("work.task"), Some(json!({ "status": "done" })))
        .await
        .unwrap();
    let comments = place(Some("work.comment"), None).await.unwrap();
    let done = async || {
        let tasks = product.contents(member, &member.place, "task").await;
        tasks.iter().filter(|task| task["status"] == "done").count()
    };
    let before = (done().await, everything(&product, member).await);
    let dry = swept(&sweep(&product, member, true).await);
    assert!(
        dry["task"].counted.held > 0 && dry["task"].counted.rows > 0,
        "{dry:?}"
    );
    let run = sweep(&product, member, false).await;
    let came = swept(&run);
    assert_eq!(came["task"].deleted, dry["task"].counted.rows);
    assert!(came["comment"].kept.is_some(), "{came:?}");
    assert_eq!(done().await, before.0, "no task that is done went");
    let after = everything(&product, member).await;
    assert_eq!(after["comment"], before.1["comment"]);

    // All that is the tenant's: the sweep says so and waits for a person.
    let all = place(None, None).await.unwrap();
    let halted = sweep(&product, member, false).await;
    assert_eq!(halted.data["Halted"]["why"]["code"], "held");
    for hold in [all.hold_id, matter.hold_id, comments.hold_id] {
        assert!(lift(hold).await.lifted_at.is_some());
    }
    let key = IdempotencyKey::generate();
    let again = LiftDataHold {
        reason: "again".to_owned(),
    };
    let again = client
        .lift_data_hold(member.tenant, all.hold_id, &again, &key)
        .await;
    assert!(matches!(again, Err(ClientError::Problem(problem)) if problem.status == 409));
    let resumed = signal(&product, halted.summary.run_id, "Resume").await;
    let came = swept(&resumed);
    assert!(
        came["task"].deleted > 0 && came["comment"].deleted > 0,
        "{came:?}"
    );
    let held = client
        .list_data_holds(member.tenant, &DataHoldFilter::default())
        .await;
    assert!(held.unwrap().is_empty());
    product.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_asks_whether_a_tenant_is_held_hears_of_every_kind_and_waits_for_who_deletes() {
    let (_folder, config) = folder();
    let product = Product::fleet_with(Some(config)).await;
    let member = &product.birch;
    let tenant = TenantId(member.tenant);
    let is_held = async || {
        let mut conn = connect(&product.app.options).await;
        let mut tx = conn.begin().await.unwrap();
        as_tenant(&mut tx, tenant).await.unwrap();
        hold::is_held(&mut tx, tenant).await.unwrap()
    };
    assert!(is_held().await.is_none());
    let legal = PlaceLegalHold {
        tenant_id: Some(member.tenant),
        run_id: None,
        reason: "an inquiry".to_owned(),
    };
    let key = IdempotencyKey::generate();
    product
        .app
        .client
        .place_legal_hold(&legal, &key)
        .await
        .unwrap();
    let held = is_held().await.unwrap();
    assert_eq!(
        (held.scope, held.case.as_str()),
        (hold::Scope::Tenant, "an inquiry")
    );

    // A delete is under way: the hold that comes meanwhile is answered when it has ended.
    let mut conn = connect(&product.app.options).await;
    let mut deleting = conn.begin().await.unwrap();
    as_tenant(&mut deleting, tenant).await.unwrap();
    hold::share_turn(&mut deleting, tenant).await.unwrap();
    let place = PlaceDataHold {
        case: "1 BvR 1/27".to_owned(),
        reason: "it was asked for".to_owned(),
        ..PlaceDataHold::default()
    };
    let client = product.app.client.clone();
    let placing = tokio::spawn({
        let tenant = member.tenant;
        async move {
            client
                .place_data_hold(tenant, &place, &IdempotencyKey::generate())
                .await
        }
    });
    eventually("the hold waits", async || {
        let waiting = "select exists (select from pg_stat_activity
           where datname = current_database() and wait_event_type = 'Lock' and query like '%keeping_turn%')";
        let mut watcher = connect(&product.app.options).await;
        sqlx::query_scalar(waiting).fetch_one(&mut watcher).await.unwrap()
    })
    .await;
    assert!(!placing.is_finished());
    deleting.commit().await.unwrap();
    placing.await.unwrap().unwrap();
    product.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
#[expect(clippy::too_many_lines, reason = "one story, told in order")]
async fn a_row_that_leads_to_another_tenant_halts_a_sweep_until_somebody_decides() {
    let (_folder, config) = folder();
    let product = Product::fleet_with(Some(config)).await;
    let (birch, salthouse) = (&product.birch, &product.salthouse);
    for member in [birch, salthouse] {
        product.rows(member, 60).await;
    }
    product
        .write(
            birch,
            "set role sample_product_owner;
             create table work.reminder (
               org_id uuid not null, reminder_id uuid not null, invoice_id uuid not null, sent_at timestamptz not null,
               primary key (org_id, reminder_id),
               constraint reminder_invoice foreign key (invoice_id) references work.invoice (invoice_id));
             alter table work.reminder enable row level security;
             alter table work.reminder force row level security;
             create policy tenant on work.reminder using (org_id = work.org());
             reset role;
             insert into work.reminder
             select o.org_id, gen_random_uuid(), i.invoice_id, '2025-01-01'
             from work.organisation o
             cross join (select invoice_id from work.invoice where org_id = '{key}' order by number limit 2) i",
        )
        .await;
    let text = product::map_of(product.url("main"), data_map::Model::Shared, "work").await;
    let text = text.replacen(
        "[tables.\"work.reminder\"]\n",
        "[tables.\"work.reminder\"]\nunguarded = [\"reminder_invoice\"]\n",
        1,
    );
    let map = tenure_client::LoadDataMap {
        text,
        unchecked: false,
    };
    let key = IdempotencyKey::generate();
    product
        .app
        .client
        .load_data_map("main", &map, &key)
        .await
        .unwrap();
    let document = json!({
        "classes": {
            "content": { "action": "keep" },
            "financial": { "action": "keep" },
            "audit": { "action": "keep" }
        },
        "tables": {
            "work.reminder": { "action": "archive", "after_days": 30, "age": "sent_at" },
            "work.invoice_line": { "action": "archive", "after_days": 30, "age": "issued_on", "age_of": ["invoice_line_invoice"] },
            "work.invoice": { "action": "archive", "after_days": 30, "age": "issued_on" }
        }
    });
    load(&product, "main", document).await;

    // Salthouse's reminders lead to Birch's invoices.
    let halted = sweep(&product, salthouse, false).await;
    assert_eq!(halted.summary.state, "Halted", "{:?}", halted.data);
    let why = &halted.data["Halted"]["why"];
    assert_eq!(why["code"], "crosses_tenants", "{why}");
    assert!(
        why["detail"].as_str().unwrap().contains("reminder_invoice"),
        "{why}"
    );
    let done = signal(&product, halted.summary.run_id, "Skip").await;
    let came = swept(&done);
    assert!(came["invoice"].deleted > 0, "{came:?}");
    assert!(
        !came.contains_key("reminder") || came["reminder"].deleted == 0,
        "{came:?}"
    );

    // Birch's invoices are what they lead to: only the foreign key sees that.
    let halted = sweep(&product, birch, false).await;
    let why = &halted.data["Halted"]["why"];
    assert_eq!(why["code"], "still_referenced", "{:?}", halted.data);
    let before = product.contents(birch, &birch.place, "invoice").await.len();
    let done = signal(&product, halted.summary.run_id, "Skip").await;
    assert_eq!(done.summary.status, RunStatus::Completed, "{:?}", done.data);
    let came = swept(&done);
    assert_eq!(
        (came["invoice"].deleted, came["invoice"].left),
        (0, before as u64)
    );
    product.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_halts_a_sweep_that_goes_on_when_there_is_room() {
    let mount = tempfile::tempdir().unwrap();
    let disk = Disk::of(mount.path(), "64k");
    let config = ArchiveConfig::Folder(mount.path().to_owned());
    let product = Product::fleet_with(Some(config)).await;
    load(&product, "main", policy("work.", window())).await;
    let member = &product.birch;
    product.rows(member, 700).await;
    let filler = mount.path().join("filler");
    std::fs::write(&filler, vec![0; 60 << 10]).unwrap();
    let before = everything(&product, member).await;
    let halted = sweep(&product, member, false).await;
    assert_eq!(
        halted.data["Halted"]["why"]["code"], "archive_full",
        "{:?}",
        halted.data
    );
    assert_eq!(
        everything(&product, member).await,
        before,
        "nothing is deleted"
    );
    std::fs::remove_file(&filler).unwrap();
    disk.resize("16m");
    let done = signal(&product, halted.summary.run_id, "Resume").await;
    assert_eq!(done.summary.state, "Window", "{:?}", done.data);
    let expected = swept(&done);
    assert!(expected["task"].deleted > 0);
    product.finish().await;
    drop(disk);
}

/// A play with one tenant whose rows are in shared tables.
pub(crate) struct Office {
    pub(crate) sources: tenure_workflows::product::Sources,
    url: String,
    map: String,
    pub(crate) archive: Archive,
    pub(crate) environment: Environment,
    folder: Option<tempfile::TempDir>,
}

pub(crate) async fn scene(config: Option<ArchiveConfig>) -> Scene<Office> {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let (sources, url, map) = product::shared_source().await;
    let (config, folder) = match config {
        Some(config) => (config, None),
        None => {
            let (folder, config) = folder();
            (config, Some(folder))
        }
    };
    let archive = Archive::open(&config).unwrap();
    let database = support::database().await;
    let mail = MailConfig::Smtp {
        url: "smtp://localhost:9".to_owned(),
        from: "nobody@localhost".to_owned(),
    };
    let config = tenure_engine::PoolConfig::default();
    let pool = tenure_engine::connect(database.clone(), &config);
    let environment = Environment::new(
        Stripe::new("http://localhost:9/", "none").unwrap(),
        Mailer::new(&mail).unwrap(),
        pool.await.unwrap(),
        sources.clone(),
    )
    .with_archive(Some(archive.clone()));
    environment.sign_with(certificate_key());
    Scene {
        database,
        workflows: tenure_workflows::workflows(&environment),
        outside: Office {
            sources,
            url,
            map,
            archive,
            environment,
            folder,
        },
    }
}

impl Office {
    /// Runs SQL of the superuser's in the product's database; `{w}` before a table.
    pub(crate) async fn write(&self, sql: &str) {
        let mut conn = connect(&self.url.parse().unwrap()).await;
        let sql = sql.replace("{w}", "work.");
        sqlx::raw_sql(AssertSqlSafe(sql))
            .execute(&mut conn)
            .await
            .unwrap();
    }

    /// A tenant at its place, with rows.
    pub(crate) async fn arrive(&self, play: &mut Play, rows: usize) -> Result<Member, PlayError> {
        let client = play.client().clone();
        let new = tenant::NewTenant {
            name: "Birch".to_owned(),
            email: "office@birch.example".to_owned(),
            zone: "UTC".to_owned(),
            locale: None,
            test_clock: None,
            legal_entity: None,
        };
        let mut tx = tenure_engine::begin(client.pool()).await?;
        let made = tenant::create(&client, &mut tx, &new).await?;
        tx.commit().await?;
        play.speak_for(made.tenant_id);
        let mut tx = tenure_engine::begin(client.pool()).await?;
        as_control(&mut tx).await?;
        maps::load(&mut tx, &self.sources, "main", &self.map, false, "suite").await?;
        let place = Place {
            model: data_map::Model::Shared,
            source: "main".to_owned(),
            database: None,
            schema: None,
            key: product::BIRCH.to_owned(),
        };
        door::set(&mut tx, &self.sources, made.tenant_id, &place).await?;
        tx.commit().await?;
        let member = Member {
            tenant: made.tenant_id.0,
            name: "Birch".to_owned(),
            place: tenure_client::Place {
                model: TenancyModel::Shared,
                source: "main".to_owned(),
                database: None,
                schema: None,
                key: product::BIRCH.to_owned(),
            },
        };
        product::fill(&self.url, &member, rows).await;
        Ok(member)
    }

    /// Rows of a tenant's table, as JSON.
    pub(crate) async fn contents(&self, table: &str) -> Vec<Value> {
        let mut conn = connect(&self.url.parse().unwrap()).await;
        let asked = format!(
            "select to_jsonb(t) from work.{table} t where org_id = '{}' order by 1",
            product::BIRCH
        );
        sqlx::query_scalar(AssertSqlSafe(asked))
            .fetch_all(&mut conn)
            .await
            .unwrap()
    }

    pub(crate) async fn sweep(&self, play: &Play, document: &Value) -> Result<RunId, PlayError> {
        let client = play.client();
        let mut tx = tenure_engine::begin(client.pool()).await?;
        as_control(&mut tx).await?;
        keeping::load_policy(&mut tx, "main", document, "suite", "a story").await?;
        let as_of = Some(AS_OF.parse()?);
        let input = keeping::prepare_sweep(&mut tx, play.tenant(), as_of, false).await?;
        tx.commit().await?;
        let mut tx = tenure_engine::begin(client.pool()).await?;
        let started = keeping::start_sweep(client, &mut tx, &input).await?;
        tx.commit().await?;
        play.settle().await?;
        Ok(started.run_id)
    }

    async fn restore(&self, play: &Play, sweep: RunId) -> Result<RunId, PlayError> {
        let client = play.client();
        let filter = ArchiveFilter {
            sweep_id: Some(sweep.0),
            archive_id: None,
        };
        let mut tx = tenure_engine::begin(client.pool()).await?;
        as_tenant(&mut tx, play.tenant()).await?;
        let archives = keeping::find_restorable(&mut tx, play.tenant(), &filter).await?;
        tx.commit().await?;
        let mut tx = tenure_engine::begin(client.pool()).await?;
        as_control(&mut tx).await?;
        let input = keeping::prepare_restore(&mut tx, play.tenant(), archives).await?;
        tx.commit().await?;
        let mut tx = tenure_engine::begin(client.pool()).await?;
        let started = keeping::start_restore(client, &mut tx, &input).await?;
        tx.commit().await?;
        play.settle().await?;
        Ok(started.run_id)
    }

    /// Every object of the archive's folder.
    pub(crate) fn files(&self) -> Vec<std::path::PathBuf> {
        let folder = self.folder.as_ref().expect("a folder");
        let mut files = Vec::new();
        walk(folder.path(), &mut files);
        files.sort();
        files
    }
}

fn walk(folder: &Path, files: &mut Vec<std::path::PathBuf>) {
    for entry in std::fs::read_dir(folder).unwrap().flatten() {
        match entry.path() {
            path if path.is_dir() => walk(&path, files),
            path => files.push(path),
        }
    }
}

fn only_comments() -> Value {
    let mut document = policy("work.", window());
    document["classes"]["audit"] = json!({ "action": "keep" });
    document["tables"]["work.task"] = json!({ "action": "keep" });
    document
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sweep_and_its_restore_bear_every_fault() {
    let script = async |play: &mut Play, office: &Office| {
        office.arrive(play, 40).await?;
        let before = office.contents("comment").await;
        let run = office.sweep(play, &only_comments()).await?;
        let state = play.detail(run).await?.summary.state;
        let left = office.contents("comment").await.len();
        let restored = office.restore(play, run).await?;
        let back: restore::Output = play.output(restored).await?;
        let same = office.contents("comment").await == before;
        let counts: Vec<_> = back.tables.values().map(|one| one.restored).collect();
        Ok((state, left, counts, same))
    };
    let report = fault_matrix(async || scene(None).await, script)
        .await
        .unwrap();
    assert_borne(&report, &["data-retention", "data-restore"]);
    assert!(report.expected.contains("(\"Window\", "), "{report}");
    assert!(report.expected.contains("true"), "{report}");
    assert!(report.plays > 20, "{report}");
}

#[tokio::test(flavor = "multi_thread")]
#[expect(clippy::too_many_lines, reason = "one story, told in order")]
async fn a_sweep_into_an_s3_store_is_destroyed_when_its_window_ends_and_then_there_is_no_way_back()
{
    let store = S3Server::start().await;
    let Scene {
        database,
        workflows,
        outside: office,
    } = scene(Some(store.config())).await;
    let mut play = Play::open(database, workflows).await.unwrap();
    let member = office.arrive(&mut play, 200).await.unwrap();
    let run = office.sweep(&play, &only_comments()).await.unwrap();
    assert_eq!(play.detail(run).await.unwrap().summary.state, "Window");
    let archives = async || {
        let mut tx = tenure_engine::begin(play.client().pool()).await.unwrap();
        as_tenant(&mut tx, play.tenant()).await.unwrap();
        let filter = ArchiveFilter::default();
        keeping::list_archives(&mut tx, play.tenant(), &filter, None, 100)
            .await
            .unwrap()
    };
    let made = archives().await;
    assert_eq!(made.len(), 2, "{made:?}");
    for row in &made {
        let place = (member.tenant, row.archive_id);
        let manifest = office
            .archive
            .verify(place, &row.manifest_sha256, None)
            .await
            .unwrap();
        assert_eq!(manifest.rows, row.rows.unsigned_abs());
    }

    // A hold keeps what is archived, too.
    let hold = async |lift: Option<Uuid>| {
        let mut tx = tenure_engine::begin(play.client().pool()).await.unwrap();
        as_tenant(&mut tx, play.tenant()).await.unwrap();
        let tenant = play.tenant();
        let done = match lift {
            None => {
                let new = hold::NewDataHold {
                    scope: hold::Scope::Tenant,
                    case: "7 O 12/27".to_owned(),
                    reason: "the court asked".to_owned(),
                    expires_at: None,
                };
                let placed = hold::place(&mut tx, &office.sources, tenant, &new, "ada");
                placed.await.unwrap().0
            }
            Some(one) => hold::lift(&mut tx, tenant, one, "ada", "it was settled")
                .await
                .unwrap(),
        };
        tx.commit().await.unwrap();
        done.hold_id
    };
    let held = hold(None).await;
    play.advance(Duration::from_secs(31 * 86_400));
    play.settle().await.unwrap();
    assert!(archives().await.iter().all(|row| row.status == "complete"));
    hold(Some(held)).await;
    play.advance(Duration::from_secs(2 * 86_400));
    play.settle().await.unwrap();
    let output: Output = play.output(run).await.unwrap();
    assert_eq!(output.destroyed, 2);
    for row in archives().await {
        assert_eq!(row.status, "destroyed");
        let place = (member.tenant, row.archive_id);
        let gone = office
            .archive
            .verify(place, &row.manifest_sha256, None)
            .await;
        assert!(matches!(gone, Err(ArchiveError::NotFound(_))), "{gone:?}");
    }
    let late = office.restore(&play, run).await.unwrap_err().to_string();
    assert!(late.contains("its rows cannot come back"), "{late}");
    play.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_part_that_was_damaged_is_not_restored_from_and_says_so() {
    let Scene {
        database,
        workflows,
        outside: office,
    } = scene(None).await;
    let mut play = Play::open(database, workflows).await.unwrap();
    office.arrive(&mut play, 60).await.unwrap();
    let run = office.sweep(&play, &only_comments()).await.unwrap();
    let left = office.contents("comment").await;
    for file in office.files() {
        if file.to_string_lossy().contains("comment-") {
            let mut bytes = std::fs::read(&file).unwrap();
            let middle = bytes.len() / 2;
            bytes[middle] ^= 1;
            std::fs::write(&file, bytes).unwrap();
        }
    }
    let restored = office.restore(&play, run).await.unwrap();
    let halted = play.detail(restored).await.unwrap();
    assert_eq!(halted.summary.state, "Halted");
    assert_eq!(
        halted.data["Halted"]["why"]["code"], "archive_damaged",
        "{:?}",
        halted.data
    );
    assert_eq!(
        office.contents("comment").await,
        left,
        "nothing of it came back"
    );
    play.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_archive_is_what_its_manifest_says_in_a_folder_and_in_a_bucket() {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let store = S3Server::start().await;
    let (_folder, local) = folder();
    for (config, key) in [(local, None), (store.config(), Some(Key::generate()))] {
        let archive = Archive::open(&config).unwrap();
        let place = (Uuid::from_u128(1), Uuid::from_u128(2));
        let lines: Vec<String> = (0..500)
            .map(|n| json!({ "n": n, "text": "ü\n" }).to_string())
            .collect();
        let mut parts = Vec::new();
        for name in ["t-00001.jsonl.gz", "t-00002.jsonl.gz"] {
            // A repeated step writes the same part again.
            for _ in 0..2 {
                let written = archive.write_part(place, name, "t", &lines, key.as_ref());
                parts.push(written.await.unwrap());
            }
        }
        parts = vec![parts.remove(1), parts.remove(2)];
        let manifest = Manifest {
            format: FORMAT,
            archive_id: place.1,
            kind: Kind::Retention,
            tenant_id: place.0,
            data_map: "main version 1".to_owned(),
            made_at: AS_OF.parse().unwrap(),
            sealed_with: None,
            rows: 1000,
            tables: Vec::new(),
            parts: parts.clone(),
        };
        let early = archive.verify(place, &"0".repeat(64), key.as_ref()).await;
        assert!(
            matches!(early, Err(ArchiveError::NotFound(_))),
            "without a manifest there is none"
        );
        let sha256 = archive.write_manifest(&manifest).await.unwrap();
        assert_eq!(
            archive.verify(place, &sha256, key.as_ref()).await.unwrap(),
            manifest
        );
        assert_eq!(
            archive
                .read_part(place, &parts[1], key.as_ref())
                .await
                .unwrap(),
            lines
        );
        let other = archive.verify(place, &"0".repeat(64), key.as_ref()).await;
        assert!(matches!(other, Err(ArchiveError::Damaged(_))));
        let fewer = archive.write_part(place, "t-00002.jsonl.gz", "t", &lines[1..], key.as_ref());
        fewer.await.unwrap();
        let damaged = archive.verify(place, &sha256, key.as_ref()).await;
        assert!(matches!(damaged, Err(ArchiveError::Damaged(part)) if part.contains("00002")));
        assert_eq!(archive.destroy(place).await.unwrap(), 2);
        assert_eq!(archive.destroy(place).await.unwrap(), 0);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_policy_that_does_not_fit_is_refused_with_its_place() {
    let product = Product::fleet().await;
    let client = &product.app.client;
    let refuse = async |document: Value| {
        let load = LoadKeepingPolicy {
            document,
            reason: "a story".to_owned(),
        };
        let key = IdempotencyKey::generate();
        match client.load_keeping_policy("main", &load, &key).await {
            Err(ClientError::Problem(problem)) => {
                let pointer = problem.errors.first().map(|error| error.pointer.clone());
                (problem.status, pointer.unwrap_or_default())
            }
            other => panic!("{other:?}"),
        }
    };
    let mut unknown = policy("work.", window());
    unknown["tables"]["work.nothing"] = json!({ "action": "keep" });
    assert_eq!(
        refuse(unknown).await,
        (422, "/document/tables/work.nothing".to_owned())
    );
    let mut typo = policy("work.", window());
    typo["classes"]["audit"]["after_day"] = json!(3);
    assert_eq!(refuse(typo).await.0, 422);
    let mut early = policy("work.", window());
    early["tables"]["work.invoice"] =
        json!({ "action": "delete", "after_days": 9, "age": "issued_on" });
    assert_eq!(
        refuse(early).await,
        (422, "/document/tables/work.invoice/after_days".to_owned())
    );

    let mut late = policy("work.", window());
    late["classes"]["audit"] = json!({
        "action": "delete", "after_days": 30, "restore_days": 10, "age": "happened_at",
        "legal_max_days": 39, "basis": "Art. 5 GDPR"
    });
    assert_eq!(
        refuse(late.clone()).await,
        (422, "/document/classes/audit/after_days".to_owned())
    );
    let mut kept = late.clone();
    kept["classes"]["audit"] =
        json!({ "action": "keep", "legal_max_days": 39, "basis": "Art. 5 GDPR" });
    assert_eq!(
        refuse(kept).await,
        (422, "/document/classes/audit/action".to_owned())
    );
    // With a day more the law has nothing against it.
    late["classes"]["audit"]["legal_max_days"] = json!(40);
    load(&product, "main", late).await;
    load(&product, "main", policy("work.", window())).await;
    load(&product, "main", policy("work.", window())).await;
    assert_eq!(
        client.keeping_policy("main").await.unwrap().version,
        2,
        "the same is the same"
    );
    // Without a store of archives a sweep says so, and nothing is touched.
    product.rows(&product.birch, 300).await;
    let halted = sweep(&product, &product.birch, false).await;
    assert_eq!(
        halted.data["Halted"]["why"]["code"],
        "archive_not_configured"
    );
    let filter = DataArchiveFilter::default();
    let archives = client.list_data_archives(product.birch.tenant, &filter);
    assert!(archives.await.unwrap().items.is_empty());
    product.finish().await;
}

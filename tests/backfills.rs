//! Backfills of the sample product in all three models: from expand to contract, and back; what
//! throttles them, what holds them, and what a crash leaves.

use std::sync::Arc;

use serde_json::Value;
use sqlx::AssertSqlSafe;
use tenure_client::{
    ActOnBackfill, ActOnBackfillRange, Backfill, BackfillRange, BackfillRangeFilter, ClientError,
    IdempotencyKey, Page, StartBackfill,
};
use tenure_engine::flow::Author;
use tenure_engine::testkit::{Play, PlayError, Scene, fault_matrix};
use tenure_engine::{PoolConfig, TenantId};
use tenure_workflows::backfill::{self, reads_new};
use tenure_workflows::data_map::Model;
use tenure_workflows::ports::mail::{MailConfig, Mailer};
use tenure_workflows::ports::stripe::Stripe;
use tenure_workflows::product::{self, Sources, maps};
use tenure_workflows::{Environment, as_control, tenant};
use uuid::Uuid;

use crate::support::matrix::assert_borne;
use crate::support::process::Server;
use crate::support::product::{BIRCH, Member, Product, as_login, database, map_of};
use crate::support::{self, eventually};

mod kill;
mod left;
mod throttles;
mod trouble;

/// A task's state as a number, in place of a word. Nothing throttles it: the suite's cluster has
/// other guests.
pub(crate) const STATE: &str = r#"
version = 1
name = "task-state"
table = "task"
reads = ["status"]
parallel = 3

[columns.state]
type = "smallint"
value = "case status when 'open' then 0 when 'doing' then 1 else 2 end"

[back.status]
value = "(array['open', 'doing', 'done'])[state + 1]"

[contract]
drop = ["status"]

[throttle]
replica_lag = "off"
slot = "off"
wal_rate = "off"
autovacuum = false
xid_age = "off"
lock_waiters = "off"
longest_transaction = "off"

[pace]
first_rows = 20
"#;

/// The definition with more to say: each line goes where its table is.
fn with(changes: &[(&str, &str)]) -> String {
    let mut text = STATE.to_owned();
    for (before, more) in changes {
        let changed = text.replacen(before, &format!("{more}\n{before}"), 1);
        assert_ne!(changed, text, "{before}");
        text = changed;
    }
    text
}

/// What a story does with one backfill.
struct Story<'a> {
    product: &'a Product,
    name: String,
}

impl<'a> Story<'a> {
    async fn start(product: &'a Product, definition: &str) -> Self {
        let start = StartBackfill {
            definition: definition.to_owned(),
            reason: "ticket 40".to_owned(),
        };
        let key = IdempotencyKey::generate();
        let started = product
            .app
            .client
            .start_backfill(&start, &key)
            .await
            .unwrap();
        Self {
            product,
            name: started.name,
        }
    }

    async fn look(&self) -> Backfill {
        self.product.app.client.backfill(&self.name).await.unwrap()
    }

    async fn until(&self, what: &str, holds: impl Fn(&Backfill) -> bool) -> Backfill {
        let label = format!("{} {what}", self.name);
        eventually(&label, async || holds(&self.look().await)).await;
        self.look().await
    }

    /// Until it waits for somebody's word before a phase.
    async fn waits_before(&self, phase: &str) -> Backfill {
        let waits = |of: &Backfill| of.phase == phase && of.status == "waiting";
        self.until(&format!("waits before {phase}"), waits).await
    }

    async fn switched(&self) -> Backfill {
        let switched = |of: &Backfill| of.phase == "switch" && of.status == "working";
        self.until("has switched", switched).await
    }

    async fn act_with(&self, verb: &str, act: ActOnBackfill) -> Result<Backfill, ClientError> {
        let act = ActOnBackfill {
            reason: "ticket 40".to_owned(),
            ..act
        };
        let key = IdempotencyKey::generate();
        let client = &self.product.app.client;
        client.act_on_backfill(&self.name, verb, &act, &key).await
    }

    async fn act(&self, verb: &str) -> Backfill {
        self.act_with(verb, ActOnBackfill::default()).await.unwrap()
    }

    async fn refused(&self, verb: &str) -> String {
        let refused = self.act_with(verb, ActOnBackfill::default()).await;
        refused.unwrap_err().to_string()
    }

    async fn roll_out(&self, percent: i16) {
        let percent = Some(percent);
        let act = ActOnBackfill {
            percent,
            ..ActOnBackfill::default()
        };
        self.act_with("roll-out", act).await.unwrap();
        self.until("reads so far", |of| Some(of.percent_reading) == percent)
            .await;
    }

    async fn back(&self, to: &str) {
        let to = Some(to.to_owned());
        let act = ActOnBackfill {
            to,
            ..ActOnBackfill::default()
        };
        self.act_with("back", act).await.unwrap();
    }

    async fn ranges(&self, status: Option<&str>) -> Vec<BackfillRange> {
        let filter = BackfillRangeFilter {
            status: status.map(ToOwned::to_owned),
            ..BackfillRangeFilter::default()
        };
        let client = &self.product.app.client;
        let page: Page<BackfillRange> = client
            .list_backfill_ranges(&self.name, &filter)
            .await
            .unwrap();
        page.items
    }

    async fn tell_range(&self, range: Uuid, verb: &str) -> Result<BackfillRange, ClientError> {
        let act = ActOnBackfillRange {
            reason: "a row of nobody".to_owned(),
        };
        let key = IdempotencyKey::generate();
        let client = &self.product.app.client;
        client
            .act_on_backfill_range(&self.name, range, verb, &act, &key)
            .await
    }

    async fn act_on_range(&self, range: Uuid, verb: &str) {
        self.tell_range(range, verb).await.unwrap();
    }
}

async fn tasks(product: &Product, member: &Member) -> Vec<Value> {
    product.contents(member, &member.place, "task").await
}

/// Every task of a member has the state of its word.
async fn assert_filled(product: &Product, member: &Member) {
    let tasks = tasks(product, member).await;
    assert!(!tasks.is_empty(), "{}", member.name);
    for task in tasks {
        let expected = match task["status"].as_str().unwrap() {
            "open" => 0,
            "doing" => 1,
            _ => 2,
        };
        assert_eq!(task["state"], expected, "{}: {task}", member.name);
    }
}

#[tokio::test(flavor = "multi_thread")]
#[expect(clippy::too_many_lines, reason = "one story, told in order")]
async fn a_backfill_goes_from_expand_to_contract_in_all_three_models() {
    let product = Product::fleet().await;
    for member in product.members() {
        product.rows(member, 90).await;
    }
    let client = &product.app.client;
    let definition = with(&[("[throttle]", "[verify]\nclean_for = \"1s\"\n")]);
    let asked = StartBackfill {
        definition: definition.clone(),
        reason: String::new(),
    };
    let plan = client
        .plan_backfill(&asked, &IdempotencyKey::generate())
        .await
        .unwrap();
    let sources: Vec<&str> = plan
        .targets
        .iter()
        .map(|target| target.source.as_str())
        .collect();
    assert_eq!(sources, ["main", "rooms", "vault"]);
    assert_eq!((plan.tenants, plan.obstacles.len()), (5, 0), "{plan:?}");
    assert!(
        plan.estimated_rows > 0 && plan.latest_seconds > 0,
        "{plan:?}"
    );
    let at_rooms = plan.statements.iter().filter(|one| one.source == "rooms");
    assert!(
        at_rooms
            .clone()
            .any(|one| one.sql.contains("\"cedar\".\"task\"")),
        "{plan:?}"
    );
    assert!(
        tasks(&product, &product.birch).await[0]
            .get("state")
            .is_none()
    );

    let story = Story::start(&product, &definition).await;
    let filled = story.waits_before("switch").await;
    let mut rows = 0;
    for member in product.members() {
        assert_filled(&product, member).await;
        rows += i64::try_from(tasks(&product, member).await.len()).unwrap();
    }
    assert_eq!(filled.progress.done_rows, rows);
    assert_eq!(filled.progress.written_rows, rows);
    assert_eq!(
        (filled.progress.ranges, filled.progress.finished_ranges),
        (5, 5)
    );
    assert_eq!(
        (filled.mismatches, filled.refusals.len()),
        (Some(0), 0),
        "{filled:?}"
    );
    assert!((filled.progress.percent - 100.0).abs() < 1e-9, "{filled:?}");
    for range in story.ranges(None).await {
        assert_eq!(range.found_sum, range.expected_sum);
        assert_eq!(
            (range.verified_rows, range.mismatches),
            (Some(range.done_rows), Some(0))
        );
    }

    story.act("advance").await;
    story.switched().await;
    story.roll_out(40).await;
    for member in product.members() {
        let reads = client
            .backfill_reads("task-state", member.tenant)
            .await
            .unwrap();
        let new = reads_new("task-state", member.tenant, 40);
        assert_eq!(reads.columns, if new { "new" } else { "old" });
    }
    let refused = story.refused("advance").await;
    assert!(refused.contains("40 % of the tenants"), "{refused}");
    story.roll_out(100).await;
    story
        .until("may contract", |of| {
            of.next.is_some() && of.refusals.is_empty()
        })
        .await;
    story.act("advance").await;
    let done = story.until("is done", |of| of.status == "ended").await;
    assert_eq!(done.phase, "done");
    for member in product.members() {
        let tasks = tasks(&product, member).await;
        assert!(
            tasks
                .iter()
                .all(|task| task["state"].is_i64() && task.get("status").is_none())
        );
        // The trigger is gone with the column that it read.
        product
            .write(member, "update {w}task set state = 1{where}")
            .await;
        let mut conn = product.connect(&member.place).await;
        let left: i64 = sqlx::query_scalar("select count(*) from tenure.done")
            .fetch_one(&mut conn)
            .await
            .unwrap();
        assert_eq!(left, 0, "the ledger of {} forgets", member.name);
    }
    let reads = client
        .backfill_reads("task-state", product.birch.tenant)
        .await
        .unwrap();
    assert_eq!(reads.columns, "new");
    product.finish().await;
}

/// A twentieth of one connection: a statement of some milliseconds is followed by a rest of hundreds, and
/// what is left of a rest when a visit has lasted two seconds is a deadline, which keeps no worker.
#[tokio::test(flavor = "multi_thread")]
async fn a_backfill_rests_so_that_it_makes_no_more_load_than_it_may() {
    let product = Product::fleet().await;
    product.rows(&product.birch, 400).await;
    let pace = "first_rows = 1\nmin_rows = 1\nmax_rows = 1\nsub_batches = 100\nload = 5";
    let gentle = STATE.replace("first_rows = 20", pace);
    let story = Story::start(&product, &gentle).await;
    let pool = sqlx::PgPool::connect_with(product.app.options.clone())
        .await
        .unwrap();
    // Each visit of one tenant's range that the end of a rest began, two seconds at least after the one
    // before.
    let rested =
        "select count(*), coalesce(extract(epoch from max(at) - min(run.started_at))::float8, 0)
         from app.backfill_range
         join engine.run using (run_id, shard_id)
         join engine.transition using (run_id, shard_id)
         where backfill_range.owner_id = $1 and transition.event = 'deadline look'";
    let seen = async || -> (i64, f64) {
        let found = sqlx::query_as(rested).bind(product.birch.tenant);
        found.fetch_one(&pool).await.unwrap()
    };
    eventually("three rests have come to their end", async || {
        seen().await.0 >= 3
    })
    .await;
    let now = story.look().await;
    assert_eq!(now.phase, "fill", "it is far from its end: {now:?}");
    let (visits, seconds) = seen().await;
    assert!(seconds >= 2.0 * visits as f64, "{visits} in {seconds} s");
    // Who has a single statement to do rests after it, too.
    let shortest: Option<f64> = sqlx::query_scalar(
        "select min(extract(epoch from changed_at - started_at))::float8
         from engine.run where workflow = 'backfill-range' and status = 10",
    )
    .fetch_one(&pool)
    .await
    .unwrap();
    assert!(
        shortest.is_none_or(|shortest| shortest > 0.1),
        "{shortest:?}"
    );
    product.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn old_and_new_stay_alike_and_before_the_contract_one_can_go_back() {
    let product = Product::fleet().await;
    for member in [&product.birch, &product.cedar, &product.ilex] {
        product.rows(member, 30).await;
    }
    let story = Story::start(&product, STATE).await;
    story.waits_before("switch").await;
    story.act("advance").await;
    story.switched().await;
    story.roll_out(100).await;
    for member in [&product.birch, &product.cedar, &product.ilex] {
        // Code that knows the old column, and code that knows the new one.
        product
            .write(
                member,
                "update {w}task set status = 'done' where status = 'open'",
            )
            .await;
        assert_filled(&product, member).await;
        product
            .write(member, "update {w}task set state = 0 where state = 1")
            .await;
        let new = "insert into {w}task ({o}task_id, project_id, title, state, created_at)
                   select {k}gen_random_uuid(), project_id, 'By new code', 1, now() from {w}project t
                   where true{and} limit 1";
        product.write(member, new).await;
        assert_filled(&product, member).await;
        let words = tasks(&product, member).await;
        let count = |word| words.iter().filter(|task| task["status"] == word).count();
        assert!(
            count("open") > 0 && count("done") > 0 && count("doing") == 1,
            "{words:?}"
        );
    }
    let refused = story.refused("advance").await;
    assert!(
        refused.contains("clean for") && refused.contains("24 h"),
        "{refused}"
    );
    assert!(
        story
            .act_with("back", ActOnBackfill::default())
            .await
            .is_err()
    );

    story.back("undone").await;
    let undone = story.until("is undone", |of| of.status == "ended").await;
    assert_eq!(
        (undone.phase.as_str(), undone.percent_reading),
        ("undone", 0)
    );
    for member in product.members() {
        let tasks = tasks(&product, member).await;
        assert!(tasks.iter().all(|task| task.get("state").is_none()));
        assert!(tasks.iter().all(|task| task["status"].is_string()));
    }
    // Its name is free again, and nothing of it is in the way.
    let again = Story::start(&product, STATE).await;
    let again = again.waits_before("switch").await;
    assert_ne!(again.backfill_id, undone.backfill_id);
    product.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_large_tenant_is_split_and_a_pause_rests_every_range() {
    let product = Product::fleet().await;
    product.rows(&product.birch, 9_000).await;
    product.write(&product.birch, "analyze {w}task").await;
    let text = with(&[(
        "[columns.state]",
        "range_rows = 2000\nsources = [\"main\"]\nwait_at = [\"fill\"]\n",
    )]);
    let story = Story::start(&product, &text).await;
    story.waits_before("fill").await;
    assert!(story.act("pause").await.paused);
    story.act("advance").await;
    eventually("all ranges that began rest", async || {
        let ranges = story.ranges(None).await;
        ranges.len() > 3
            && ranges
                .iter()
                .filter(|range| range.status == "paused")
                .count()
                == 3
    })
    .await;
    let parts = story.ranges(None).await;
    let birch = parts
        .iter()
        .filter(|range| range.tenant_id == product.birch.tenant);
    assert!((4..=6).contains(&birch.count()), "{parts:?}");
    assert!(parts.iter().all(|range| range.done_rows == 0));
    story.act("resume").await;
    let all = i64::try_from(tasks(&product, &product.birch).await.len()).unwrap();
    let more = i64::try_from(tasks(&product, &product.salthouse).await.len()).unwrap();
    let filled = story
        .until("is verified", |of| of.mismatches == Some(0))
        .await;
    assert_eq!(
        filled.progress.done_rows,
        all + more,
        "no row twice, none left out"
    );
    assert_filled(&product, &product.birch).await;
    product.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn quiet_hours_and_readings_hold_it_back_and_say_which() {
    let product = Product::fleet().await;
    let quiet = with(&[
        ("[columns.state]", "sources = [\"vault\"]\n"),
        (
            "[throttle]",
            "[quiet]\nzone = \"UTC\"\nhours = [\"00:00-12:00\", \"12:00-00:00\"]\n",
        ),
    ]);
    product.rows(&product.ilex, 10).await;
    let story = Story::start(&product, &quiet).await;
    let held = story
        .until("is throttled", |of| !of.progress.throttled.is_empty())
        .await;
    assert!(
        held.progress.throttled[0].reason.contains("quiet_hours"),
        "{held:?}"
    );
    story.back("undone").await;
    story.until("is undone", |of| of.status == "ended").await;
    product.finish().await;
}

/// The product and our own database of one play.
struct Outside {
    sources: Sources,
    url: String,
    map: String,
    _mails: Arc<tempfile::TempDir>,
}

async fn scene() -> Scene<Outside> {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let url = database(Some("shared.sql"), "").await;
    let pair = format!("main={}", as_login(&url));
    let sources = Sources::parse([pair.as_str()]).unwrap();
    let map = map_of(&url, Model::Shared, "work").await;
    let own = support::database().await;
    let mails = Arc::new(tempfile::tempdir().unwrap());
    let mail = MailConfig::Capture {
        folder: mails.path().to_owned(),
        from: "Tenure <billing@tenure.example>".to_owned(),
    };
    let pool = tenure_engine::connect(own.clone(), &PoolConfig::default())
        .await
        .unwrap();
    let environment = Environment::new(
        Stripe::new("http://localhost:9/", "none").unwrap(),
        Mailer::new(&mail).unwrap(),
        pool,
        sources.clone(),
    );
    Scene {
        database: own,
        workflows: tenure_workflows::workflows(&environment),
        outside: Outside {
            sources,
            url,
            map,
            _mails: mails,
        },
    }
}

/// Places Birch, fills its tasks in small batches, and says what is there.
async fn fill_birch(play: &mut Play, outside: &Outside) -> Result<Vec<String>, PlayError> {
    let client = play.client().clone();
    let author = Author {
        actor: "ada".to_owned(),
        role: "admin".to_owned(),
        reason: "ticket 40".to_owned(),
    };
    let new = tenant::NewTenant {
        name: "Birch".to_owned(),
        email: "office@birch.example".to_owned(),
        zone: "UTC".to_owned(),
        locale: None,
        test_clock: None,
        legal_entity: None,
    };
    let mut tx = tenure_engine::begin(client.pool()).await?;
    let birch = tenant::create(&client, &mut tx, &new).await?.tenant_id;
    tx.commit().await?;
    let mut tx = tenure_engine::begin(client.pool()).await?;
    as_control(&mut tx).await?;
    maps::load(
        &mut tx,
        &outside.sources,
        "main",
        &outside.map,
        false,
        "ada",
    )
    .await?;
    let place = product::Place {
        model: Model::Shared,
        source: "main".to_owned(),
        database: None,
        schema: None,
        key: BIRCH.to_owned(),
    };
    product::door::set(&mut tx, &outside.sources, TenantId(birch.0), &place).await?;
    let text = STATE.replace(
        "first_rows = 20",
        "first_rows = 25\nmax_rows = 25\nsub_batches = 2",
    );
    let definition = backfill::parse(&text)?;
    backfill::door::start(&mut tx, &client, &outside.sources, &definition, &author).await?;
    tx.commit().await?;
    play.settle().await?;
    let mut tx = tenure_engine::begin(client.pool()).await?;
    let of = backfill::door::find(&mut tx, "task-state").await?;
    let far = backfill::door::progress(&mut tx, &of).await?;
    let mut facts = vec![format!(
        "{} {} {:?} {} {}",
        of.phase.word(),
        of.status.word(),
        of.mismatches,
        far.done_rows,
        far.written_rows
    )];
    let mut conn = support::connect(&outside.url.parse()?).await;
    let asked =
        "select org_id || ' ' || task_id || ' ' || status || ' ' || coalesce(state::text, '-')
                 from work.task order by 1";
    let rows: Vec<String> = sqlx::query_scalar(AssertSqlSafe(asked))
        .fetch_all(&mut conn)
        .await?;
    facts.extend(rows);
    Ok(facts)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backfill_bears_every_fault_with_the_same_rows_at_the_end() {
    let report = fault_matrix(scene, fill_birch).await.unwrap();
    assert_borne(&report, &["backfill", "backfill-range"]);
    // Birch has 40 tasks, each looked at and written once; Salthouse has no place and stays as it was.
    assert!(
        report.expected.contains("switch waiting Some(0) 40 40"),
        "{report}"
    );
}

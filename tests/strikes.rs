//! What a tenant's data goes through ends the same however it is struck: the server's process is killed,
//! and the database under it and under the product is stopped at once, several times in one life. The
//! same rows, archives and certificates at the end, none lost and none left.

use tenure_client::{
    ActOnBackfill, ApplyMigration, ClientError, DeletionAct, IdempotencyKey, LoadKeepingPolicy,
    MovePlacement, Place, PlacementStatus, RequestDeletion, RunStatus, StartBackfill, StartExport,
    StartRestore, StartSweep, TenancyModel,
};
use tenure_workflows::certificate::{self, LocalSigningKey, SigningKey as _};
use tenure_workflows::product::{OnceKey, ProductError};
use uuid::Uuid;

use self::stage::{Life, Stage, World, ends_the_same, summed};
use crate::backfills::STATE;
use crate::support::app::CERTIFICATE_KEY;
use crate::support::product::{Member, add, place};
use crate::{exports, keeping};

mod stage;

/// A run that does nothing by itself any more; one that waits for a person has failed the story.
async fn rests(stage: &Stage, run: Uuid) -> Result<bool, ClientError> {
    let run = stage.client.run(run).await?;
    let (status, state) = (run.summary.status, run.summary.state.as_str());
    assert_ne!(status, RunStatus::Stuck, "{:?}", run.why);
    assert_ne!(state, "Halted", "{:?}", run.data);
    Ok(status == RunStatus::Completed || (state == "Window" && status == RunStatus::Waiting))
}

#[tokio::test(flavor = "multi_thread")]
async fn commits_that_wait_for_no_disk_are_there_when_they_are_said_to_be() {
    let mut stage = Stage::set().await;
    let site = stage.alone("calm").await;
    let job = Uuid::from_u128(9);
    let keys = ["one", "two", "three"].map(|name| OnceKey::new(job, name));
    let book = async |key: &OnceKey| {
        site.once_in_memory(key, async |_| Ok(key.name.clone()))
            .await
    };
    let booked = async |key: &OnceKey| site.recorded::<String>(key).await.unwrap();
    for key in &keys[..2] {
        book(key).await.unwrap();
    }
    stage.stop().await;
    assert_eq!(booked(&keys[0]).await, None, "it was in memory only");
    // Work went on after the stop, and would be taken for all of it.
    book(&keys[2]).await.unwrap();
    let flushed = site.flush(&keys).await;
    assert!(
        matches!(flushed, Err(ProductError::LostCommits(2))),
        "{flushed:?}"
    );
    for key in &keys {
        book(key).await.unwrap();
    }
    site.flush(&keys).await.unwrap();
    stage.stop().await;
    for key in &keys {
        assert_eq!(booked(key).await.as_ref(), Some(&key.name));
    }
}

async fn counted(world: &World) -> Vec<String> {
    let counts = world.counts().await.into_iter();
    counts
        .map(|(name, count)| format!("all {name} {count}"))
        .collect()
}

/// Whether a line begins like this.
fn told(left: &[String], words: &str) -> bool {
    left.iter().any(|line| line.starts_with(words))
}

// Sweeps and restores.

async fn start_sweep(stage: &Stage, world: &World) -> Uuid {
    let load = LoadKeepingPolicy {
        document: keeping::policy("work.", keeping::window()),
        reason: "as counsel says".to_owned(),
    };
    let key = IdempotencyKey::generate();
    let client = &stage.client;
    client
        .load_keeping_policy(world.name, &load, &key)
        .await
        .unwrap();
    let start = StartSweep {
        dry_run: false,
        as_of: Some(keeping::AS_OF.parse().unwrap()),
        reason: Some("the month is over".to_owned()),
    };
    let key = IdempotencyKey::generate();
    let started = client.start_sweep(world.oak.tenant, &start, &key).await;
    started.unwrap().run_id
}

#[derive(Default)]
struct Sweep {
    run: Uuid,
}

impl Life for Sweep {
    async fn begin(&mut self, stage: &Stage, world: &World) {
        self.run = start_sweep(stage, world).await;
    }

    async fn push(&self, stage: &Stage, _world: &World) -> Result<bool, ClientError> {
        rests(stage, self.run).await
    }

    async fn left(&self, stage: &Stage, world: &World) -> Vec<String> {
        let run = stage.client.run(self.run).await.unwrap();
        let done = &run.data["Window"]["of"]["done"];
        let mut left = vec![format!("swept {done}")];
        left.extend(world.rows(&world.oak.place).await);
        left.extend(counted(world).await);
        left
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sweep_ends_the_same_however_it_is_struck() {
    let left = ends_the_same(900, Sweep::default).await;
    assert!(told(&left, "archive Retention"), "{left:#?}");
    assert!(told(&left, "runs data-retention 2 Window 1"), "{left:#?}");
}

#[derive(Default)]
struct Restore {
    run: Uuid,
}

impl Life for Restore {
    async fn begin(&mut self, stage: &Stage, world: &World) {
        let sweep = start_sweep(stage, world).await;
        crate::support::eventually("the sweep rests", async || {
            rests(stage, sweep).await.unwrap()
        })
        .await;
        let start = StartRestore {
            sweep_id: Some(sweep),
            archive_id: None,
            reason: "they want it back".to_owned(),
        };
        let key = IdempotencyKey::generate();
        let started = stage.client.start_restore(world.oak.tenant, &start, &key);
        self.run = started.await.unwrap().run_id;
    }

    async fn push(&self, stage: &Stage, _world: &World) -> Result<bool, ClientError> {
        rests(stage, self.run).await
    }

    async fn left(&self, stage: &Stage, world: &World) -> Vec<String> {
        let run = stage.client.run(self.run).await.unwrap();
        let mut left = vec![format!(
            "restored {:?}",
            run.output.map(|output| output["tables"].clone())
        )];
        left.extend(world.rows(&world.oak.place).await);
        left.extend(counted(world).await);
        left
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restore_ends_the_same_however_it_is_struck() {
    let left = ends_the_same(900, Restore::default).await;
    assert!(told(&left, "task 900 "), "{left:#?}");
}

// Exports.

#[derive(Default)]
struct Export {
    run: Uuid,
    link: String,
}

impl Life for Export {
    async fn begin(&mut self, stage: &Stage, world: &World) {
        let start = StartExport {
            link_days: Some(3),
            reason: "Art. 20 GDPR".to_owned(),
        };
        let key = IdempotencyKey::generate();
        let started = stage.client.start_export(world.oak.tenant, &start, &key);
        let started = started.await.unwrap();
        (self.run, self.link) = (started.run_id, started.link.unwrap());
    }

    async fn push(&self, stage: &Stage, _world: &World) -> Result<bool, ClientError> {
        rests(stage, self.run).await?;
        Ok(stage.client.run(self.run).await?.summary.state == "Ready")
    }

    async fn left(&self, stage: &Stage, world: &World) -> Vec<String> {
        let (status, tar) = exports::fetch(&format!("{}{}", stage.url(), self.link)).await;
        assert_eq!(status, 200);
        let mut left = Vec::new();
        for (table, mut rows) in exports::unpack(&tar) {
            // Ours have times and ids of their own in each world.
            if table.starts_with("tenure:") {
                left.push(format!("exported {table} {}", rows.len()));
                continue;
            }
            for row in &mut rows {
                // As a place tells its rows.
                row.as_object_mut().unwrap().remove("org_id");
            }
            left.push(format!("exported {}", summed(&table, rows)));
        }
        left.extend(world.rows(&world.oak.place).await);
        left.extend(counted(world).await);
        left
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_export_ends_the_same_however_it_is_struck() {
    let left = ends_the_same(2_000, Export::default).await;
    let tasks = left
        .iter()
        .find_map(|line| line.strip_prefix("exported task "));
    assert!(
        told(&left, &format!("task {}", tasks.unwrap())),
        "{left:#?}"
    );
    assert!(told(&left, "archive Export"), "{left:#?}");
}

// Moves and migrations.

struct Move {
    to: Place,
}

impl Life for Move {
    async fn begin(&mut self, stage: &Stage, world: &World) {
        let (source, key) = (format!("{}_rooms", world.name), &world.oak.place.key);
        self.to = place(TenancyModel::Schema, &source, Some("oak"), key);
        let wanted = MovePlacement {
            to: self.to.clone(),
            sql: Some("call shared.make_tables()".to_owned()),
            keep_hours: Some(0),
            batch: Some(25),
            reason: "they have grown".to_owned(),
        };
        let key = IdempotencyKey::generate();
        let moved = stage.client.move_placement(world.oak.tenant, &wanted, &key);
        assert_eq!(moved.await.unwrap().status, PlacementStatus::Moving);
    }

    async fn push(&self, stage: &Stage, world: &World) -> Result<bool, ClientError> {
        let placement = stage.client.placement(world.oak.tenant).await?;
        Ok(placement.status == PlacementStatus::Active)
    }

    async fn left(&self, stage: &Stage, world: &World) -> Vec<String> {
        let placement = stage.client.placement(world.oak.tenant).await.unwrap();
        assert_eq!((&placement.place, placement.other), (&self.to, None));
        let mut left = Vec::new();
        for (name, at) in [("old", &world.oak.place), ("new", &self.to)] {
            let rows = world.rows(at).await.into_iter();
            left.extend(rows.map(|line| format!("{name} {line}")));
        }
        for pool in [&world.main, &world.rooms] {
            let guards = "select (select count(*) from pg_trigger where tgname ~ '^tenure_')
                   + (select count(*) from pg_proc where proname ~ '^frozen_')";
            let guards: i64 = sqlx::query_scalar(guards).fetch_one(pool).await.unwrap();
            left.push(format!("guards {guards}"));
        }
        left.extend(counted(world).await);
        left
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_move_ends_the_same_however_it_is_struck() {
    let nowhere = || Move {
        to: place(TenancyModel::Schema, "", None, ""),
    };
    let left = ends_the_same(300, nowhere).await;
    assert!(
        told(&left, "old task 0 ") && told(&left, "new task 300 "),
        "{left:#?}"
    );
    assert!(
        !left
            .iter()
            .any(|line| line.starts_with("guards ") && line != "guards 0")
    );
}

/// How many tenants of the rooms a migration goes through.
const ROOMS: u128 = 9;

#[derive(Default)]
struct Migrate {
    version: String,
}

impl Life for Migrate {
    async fn begin(&mut self, stage: &Stage, world: &World) {
        let source = format!("{}_rooms", world.name);
        for n in 1..=ROOMS {
            let (schema, key) = (format!("room_{n}"), Uuid::from_u128(n).to_string());
            let provision = format!("call shared.provision('{schema}')");
            let provision = sqlx::raw_sql(sqlx::AssertSqlSafe(provision));
            provision.execute(&world.rooms).await.unwrap();
            let at = place(TenancyModel::Schema, &source, Some(&schema), &key);
            let _: Member = add(&stage.client, &format!("Room {n}"), at).await;
        }
        self.version = format!("2026.11-{}", world.name);
        let migration = ApplyMigration {
            version: self.version.clone(),
            sql: "alter table task add column location text;
                  create table applied (n int); insert into applied values (1)"
                .to_owned(),
            sources: vec![source],
            at_most: Some(1),
            reason: "ticket 7".to_owned(),
        };
        let key = IdempotencyKey::generate();
        stage
            .client
            .apply_migration(&migration, &key)
            .await
            .unwrap();
    }

    async fn push(&self, stage: &Stage, _world: &World) -> Result<bool, ClientError> {
        let run = stage.client.migration(&self.version).await?.run_id;
        rests(stage, run).await
    }

    async fn left(&self, stage: &Stage, world: &World) -> Vec<String> {
        let places = stage.client.migration_places(&self.version).await.unwrap();
        let mut left = Vec::new();
        for place in places {
            let schema = place.place.trim_start_matches("schema/");
            let applied = format!("select count(*) from \"{schema}\".applied");
            let applied = sqlx::query_scalar(sqlx::AssertSqlSafe(applied));
            let applied: i64 = applied.fetch_one(&world.rooms).await.unwrap();
            left.push(format!("{} {:?} {applied}", place.place, place.outcome));
        }
        left.sort();
        left.extend(counted(world).await);
        left
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_migration_of_a_fleet_ends_the_same_however_it_is_struck() {
    let left = ends_the_same(10, Migrate::default).await;
    for n in 1..=ROOMS {
        assert!(
            told(&left, &format!("schema/room_{n} Applied 1")),
            "{left:#?}"
        );
    }
}

// Backfills.

struct Backfill {
    name: String,
    keys: [IdempotencyKey; 3],
}

impl Default for Backfill {
    fn default() -> Self {
        Self {
            name: String::new(),
            keys: std::array::from_fn(|_| IdempotencyKey::generate()),
        }
    }
}

impl Life for Backfill {
    async fn begin(&mut self, stage: &Stage, world: &World) {
        self.name = format!("task-state-{}", world.name);
        let definition = STATE
            .replace(
                "name = \"task-state\"",
                &format!("name = \"{}\"", self.name),
            )
            .replace(
                "[columns.state]",
                &format!("sources = [\"{}\"]\n[columns.state]", world.name),
            )
            .replace("first_rows = 20", "first_rows = 20\nmax_rows = 20")
            .replace("[throttle]", "[verify]\nclean_for = \"1s\"\n\n[throttle]");
        let start = StartBackfill {
            definition,
            reason: "ticket 40".to_owned(),
        };
        let key = IdempotencyKey::generate();
        stage.client.start_backfill(&start, &key).await.unwrap();
    }

    async fn push(&self, stage: &Stage, _world: &World) -> Result<bool, ClientError> {
        let of = stage.client.backfill(&self.name).await?;
        assert!(of.phase != "switch" || of.mismatches == Some(0), "{of:?}");
        let switches = of.phase == "switch" && of.status == "working";
        let (verb, percent, key) = if of.phase == "switch" && of.status == "waiting" {
            ("advance", None, &self.keys[0])
        } else if switches && of.percent_reading < 100 {
            ("roll-out", Some(100), &self.keys[1])
        } else if switches && of.next.is_some() && of.refusals.is_empty() {
            ("advance", None, &self.keys[2])
        } else {
            return Ok(of.status == "ended");
        };
        let act = ActOnBackfill {
            reason: "ticket 40".to_owned(),
            percent,
            ..ActOnBackfill::default()
        };
        let acted = stage.client.act_on_backfill(&self.name, verb, &act, key);
        acted.await.map(|_| false)
    }

    async fn left(&self, stage: &Stage, world: &World) -> Vec<String> {
        let of = stage.client.backfill(&self.name).await.unwrap();
        let progress = &of.progress;
        let mut left = vec![format!(
            "{} {:?} ranges {}/{} rows {} written {}",
            of.phase,
            of.mismatches,
            progress.finished_ranges,
            progress.ranges,
            progress.done_rows,
            progress.written_rows
        )];
        let states = "select concat_ws(' ', 'state', state, count(*)) from work.task group by state
                      order by 1";
        let states = sqlx::query_scalar(states).fetch_all(&world.main);
        let states: Vec<String> = states.await.unwrap();
        left.extend(states);
        left.extend(world.rows(&world.oak.place).await);
        let triggers = "select count(*) from pg_trigger where not tgisinternal";
        let triggers: i64 = sqlx::query_scalar(triggers)
            .fetch_one(&world.main)
            .await
            .unwrap();
        left.push(format!("triggers {triggers}"));
        left.extend(counted(world).await);
        left
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backfill_ends_the_same_however_it_is_struck() {
    let left = ends_the_same(600, Backfill::default).await;
    assert!(
        told(&left, "done Some(0) ranges 1/1 rows 600 written 600"),
        "{left:#?}"
    );
    assert!(
        told(&left, "state 0 200") && told(&left, "triggers 0") && told(&left, "all ledger 0"),
        "{left:#?}"
    );
}

// Deletions.

struct Delete {
    id: Uuid,
    approve: IdempotencyKey,
}

impl Default for Delete {
    fn default() -> Self {
        Self {
            id: Uuid::nil(),
            approve: IdempotencyKey::generate(),
        }
    }
}

impl Life for Delete {
    async fn begin(&mut self, stage: &Stage, world: &World) {
        let wanted = RequestDeletion {
            tenant_id: world.oak.tenant,
            cooling_off_days: 0,
            backup_days: 35,
            export_link_days: None,
            reason: "the contract has ended".to_owned(),
        };
        let key = IdempotencyKey::generate();
        let asked = stage.client.request_deletion(&wanted, &key).await;
        self.id = asked.unwrap().deletion_id;
    }

    async fn push(&self, stage: &Stage, _world: &World) -> Result<bool, ClientError> {
        let seen = stage.client.deletion(self.id).await?.deletion;
        assert_ne!(seen.state, "failed_step", "{seen:?}");
        if seen.state == "requested" {
            let act = DeletionAct {
                reason: "ticket 17".to_owned(),
            };
            let acted = stage
                .second
                .act_on_deletion(self.id, "approve", &act, &self.approve);
            acted.await?;
        }
        Ok(seen.state == "certified")
    }

    async fn left(&self, stage: &Stage, world: &World) -> Vec<String> {
        let signed = stage.client.deletion_certificate(self.id).await.unwrap();
        let text = serde_json::to_string(&signed).unwrap();
        let key = LocalSigningKey::parse(CERTIFICATE_KEY).unwrap();
        let verified = certificate::verify(&text, &key.public()).unwrap();
        assert_eq!(verified.subject, world.oak.tenant.to_string());
        let mut left = Vec::new();
        for table in &verified.tables {
            left.push(format!("certified {table:?}"));
        }
        let records = signed.document["records"].as_array().unwrap().iter();
        left.extend(records.map(|record| {
            let body = &record["body"];
            format!("record {} {}", body["kind"], body["name"])
        }));
        left.extend(world.rows(&world.oak.place).await);
        left.extend(counted(world).await);
        left
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deletion_ends_the_same_however_it_is_struck() {
    let left = ends_the_same(900, Delete::default).await;
    for words in ["task 0 ", "comment 0 ", "invoice 45 ", "runs deletion 10 "] {
        assert!(told(&left, words), "{words}: {left:#?}");
    }
}

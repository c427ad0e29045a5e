//! `tenure plan-deploy`, and the worker that refuses to strand runs, as processes.

use std::collections::{BTreeMap, BTreeSet};
use std::process::{Child, Command, Output};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;
use sqlx::PgConnection;
use tenure_engine::operator::{self, Act, Verb};
use tenure_engine::{Registry, RunId, ShardId, Status, TenantId};

use crate::support::process::{Server, parcels, tenure};
use crate::support::{self, eventually};

/// A run of this build's `subscription`, but for what the caller changes.
async fn insert(conn: &mut PgConnection, id: &str, version: i32) {
    let insert = "insert into engine.run
          (run_id, shard_id, status, entered, nudged, version, attempt, losses, tenant_id, input_digest,
           epoch, visit, started_at, changed_at, workflow, key, state, data)
        values ($1::uuid, 0, 2, true, false, $2, 0, 0, '00000000-0000-7000-8000-000000000001',
           '00000000-0000-7000-8000-0000000000d1', 0, 0, now(), now(), 'tenant', $1, 'Idle', '\"Idle\"')";
    sqlx::query(insert)
        .bind(id)
        .bind(version)
        .execute(conn)
        .await
        .unwrap();
}

fn plan(database: &str, flags: &[&str]) -> Output {
    let mut command = Command::new(tenure());
    command.arg("plan-deploy").args(flags);
    command.env_clear().env("DATABASE_URL", database);
    command.output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// `tenure serve` that reaches nothing but its database.
fn serve(server: &Server, database: &str) -> Command {
    let mut command = Command::new(tenure());
    command.arg("serve").env_clear().envs([
        ("DATABASE_URL", database),
        ("TENURE_STRIPE_URL", "http://127.0.0.1:1/"),
        ("TENURE_STRIPE_SECRET_KEY", "sk_test_suite"),
        ("TENURE_SMTP_URL", "smtp://127.0.0.1:1"),
        ("TENURE_LOG", "error"),
    ]);
    command.env("TENURE_LISTEN", server.address().to_string());
    command
}

const NEWER: &str = "00000000-0000-7000-8000-0000000000b2";

#[tokio::test(flavor = "multi_thread")]
async fn plan_deploy_tells_by_its_exit_code_and_a_worker_refuses_to_strand() {
    let database = support::database_url().await;
    let mut conn = support::connect(&database.parse().unwrap()).await;
    let empty = plan(&database, &[]);
    assert_eq!(empty.status.code(), Some(0), "{}", text(&empty.stderr));
    assert!(text(&empty.stdout).contains("strand nothing"));
    let nowhere = plan("postgres://127.0.0.1:1/nowhere", &[]);
    assert_eq!(nowhere.status.code(), Some(1));

    insert(&mut conn, NEWER, 99).await;
    let stranded = plan(&database, &["--runs"]);
    assert_eq!(
        stranded.status.code(),
        Some(3),
        "{}",
        text(&stranded.stderr)
    );
    let table = text(&stranded.stdout);
    let line = table
        .lines()
        .find(|line| line.starts_with("tenant"))
        .unwrap();
    let words: Vec<_> = line.split_whitespace().collect();
    assert_eq!(
        words.join(" "),
        "tenant 99 Idle 1 newer version this build has version 1"
    );
    assert!(table.contains(&format!("\n  {NEWER}\n")), "{table}");
    let told: Value = serde_json::from_slice(&plan(&database, &["--json"]).stdout).unwrap();
    assert_eq!(told["strands"], true);
    assert_eq!(told["build"]["tenant"], 1);
    assert_eq!(told["groups"][0]["verdict"], "newer_version");

    let nowhere = "http://127.0.0.1:1/".to_owned();
    let mut server = Server::new(database.clone(), nowhere, String::new());
    let refused = serve(&server, &database).output().unwrap();
    assert_eq!(refused.status.code(), Some(1));
    let words = text(&refused.stderr);
    assert!(
        words.contains("tenant version 99 in state Idle, at least 1 (newer version"),
        "{words}"
    );
    assert!(words.contains("--allow-stranding"), "{words}");
    let workers: i64 = sqlx::query_scalar("select count(*) from engine.worker")
        .fetch_one(&mut conn)
        .await
        .unwrap();
    assert_eq!(workers, 0, "it registered all the same");

    let mut allowed = serve(&server, &database);
    allowed.env("TENURE_ALLOW_STRANDING", "true");
    server.start_by(allowed);
    let client = tenure_client::Client::new(&server.url(), "no token").unwrap();
    eventually("the server is ready", async || {
        client.readyz().await.is_ok()
    })
    .await;
}

/// Two builds of one program on one database, of which one works at a time.
struct Rollout {
    url: String,
    conn: PgConnection,
    folder: tempfile::TempDir,
    tenant: TenantId,
    worker: Option<Child>,
}

impl Drop for Rollout {
    fn drop(&mut self) {
        if let Some(mut worker) = self.worker.take() {
            let _ = worker.kill();
            let _ = worker.wait();
        }
    }
}

/// Which build.
#[derive(Clone, Copy)]
enum Build {
    Old,
    New,
}

impl Rollout {
    async fn new() -> Self {
        let url = support::database_url().await;
        let mut conn = support::connect(&url.parse().unwrap()).await;
        let shard = ShardId::any();
        let tenant = TenantId::new(shard);
        tenure_engine::tenant::register(&mut conn, tenant, shard, None)
            .await
            .unwrap();
        Self {
            url,
            conn,
            folder: tempfile::tempdir().unwrap(),
            tenant,
            worker: None,
        }
    }

    /// What a build would strand: its exit code, and the groups that are not fine.
    fn plan(&self, build: Build) -> (Option<i32>, Vec<String>) {
        let output = Command::new(&parcels()[build as usize])
            .args(["plan", &self.url])
            .output()
            .unwrap();
        let groups: Value = serde_json::from_slice(&output.stdout).unwrap();
        let groups = groups.as_array().unwrap().iter();
        let told = groups
            .filter(|group| group["verdict"] != "fine")
            .map(|group| {
                let ids = group["run_ids"].as_array().unwrap().len();
                assert_eq!(group["runs"], ids, "run by run");
                let (version, verdict) = (&group["version"], group["verdict"].as_str().unwrap());
                format!(
                    "{version} {} {verdict} {ids}",
                    group["state"].as_str().unwrap()
                )
            });
        (output.status.code(), told.collect())
    }

    /// Lets another build work from now on; none for nobody.
    fn roll(&mut self, build: Option<Build>) {
        if let Some(mut worker) = self.worker.take() {
            let pid = Pid::from_raw(i32::try_from(worker.id()).unwrap());
            kill(pid, Signal::SIGTERM).unwrap();
            assert!(worker.wait().unwrap().success(), "an orderly stop");
        }
        self.worker = build.map(|build| {
            Command::new(&parcels()[build as usize])
                .args(["work", &self.url])
                .arg(self.folder.path())
                .spawn()
                .unwrap()
        });
    }

    fn break_printer(&self, broken: bool) {
        let file = self.folder.path().join("broken");
        if broken {
            std::fs::write(file, "").unwrap();
        } else {
            std::fs::remove_file(file).unwrap();
        }
    }

    async fn pack(&mut self, parcel: &str) {
        sqlx::query("select engine.start_run($1, 'parcel', $2, '500')")
            .bind(self.tenant.0)
            .bind(parcel)
            .execute(&mut self.conn)
            .await
            .unwrap();
    }

    async fn tell(&mut self, parcel: &str, signal: &str) {
        sqlx::query("select engine.send_signal($1, 'parcel', $2, $3, to_jsonb($3))")
            .bind(self.tenant.0)
            .bind(parcel)
            .bind(signal)
            .execute(&mut self.conn)
            .await
            .unwrap();
    }

    async fn act(&mut self, parcel: &str, verb: Verb) {
        let nothing = Registry::builder().build().unwrap();
        let (run, revision): (uuid::Uuid, i64) =
            sqlx::query_as("select run_id, epoch + visit from engine.run where key = $1")
                .bind(parcel)
                .fetch_one(&mut self.conn)
                .await
                .unwrap();
        let act = Act {
            actor: "maria".to_owned(),
            role: "operator".to_owned(),
            reason: "the roll-out".to_owned(),
            revision,
        };
        operator::intervene(&mut self.conn, &nothing, RunId(run), &verb, &act)
            .await
            .unwrap();
    }

    /// Where each parcel stands: version, status, state.
    async fn stands(&self) -> BTreeMap<String, String> {
        let mut conn = support::connect(&self.url.parse().unwrap()).await;
        let rows: Vec<(String, i32, i16, String)> =
            sqlx::query_as("select key, version, status, state from engine.run")
                .fetch_all(&mut conn)
                .await
                .unwrap();
        let rows = rows.into_iter().map(|(key, version, status, state)| {
            let status = Status::from_code(status).unwrap();
            (key, format!("{version} {status} {state}"))
        });
        rows.collect()
    }

    async fn comes_to(&self, wanted: &[(&str, &str)]) {
        eventually(&format!("the parcels come to {wanted:?}"), async || {
            let stands = self.stands().await;
            wanted
                .iter()
                .all(|(parcel, what)| stands.get(*parcel).is_some_and(|at| at == what))
        })
        .await;
    }

    /// How often each effect was had, and under how many keys.
    fn done(&self) -> BTreeMap<String, (usize, usize)> {
        let text = std::fs::read_to_string(self.folder.path().join("done")).unwrap();
        let mut keys: BTreeMap<String, Vec<&str>> = BTreeMap::new();
        for line in text.lines() {
            let (what, key) = line.rsplit_once(' ').unwrap();
            keys.entry(what.to_owned()).or_default().push(key);
        }
        let counted = keys.into_iter().map(|(what, keys)| {
            let distinct: BTreeSet<_> = keys.iter().collect();
            (what, (keys.len(), distinct.len()))
        });
        counted.collect()
    }
}

/// Two builds that differ in states, their data, signals and steps, rolled out, back and out again,
/// with a parcel in every state at each turn: what is told beforehand is what happens, nothing is
/// lost, and nothing outside is done twice.
#[tokio::test(flavor = "multi_thread")]
#[expect(
    clippy::too_many_lines,
    reason = "one story, from its beginning to its end"
)]
async fn two_builds_are_rolled_out_and_back_with_runs_in_every_state() {
    let mut out = Rollout::new().await;
    out.roll(Some(Build::Old));
    for parcel in ["waits", "sent", "printing", "torn", "held", "gone", "early"] {
        out.pack(parcel).await;
    }
    out.comes_to(&[("waits", "1 waiting Packed"), ("held", "1 waiting Packed")])
        .await;
    out.tell("sent", "Send").await;
    out.tell("gone", "Send").await;
    out.tell("gone", "Arrived").await;
    out.tell("torn", "Send").await;
    out.act("held", Verb::Pause).await;
    out.comes_to(&[
        ("sent", "1 waiting Sent"),
        ("gone", "1 completed Sent"),
        ("torn", "1 stuck Packed"),
        ("held", "1 paused Packed"),
    ])
    .await;
    out.break_printer(true);
    out.tell("printing", "Send").await;
    out.comes_to(&[("printing", "1 retrying Packed")]).await;
    out.roll(None);
    out.tell("held", "Send").await;
    out.pack("due").await;

    // Out: nothing is stranded; two journals are open.
    let risky = ["1 Packed open_journal 2".to_owned()];
    assert_eq!(out.plan(Build::New), (Some(0), risky.to_vec()));
    assert_eq!(out.plan(Build::Old), (Some(0), Vec::new()));
    out.roll(Some(Build::New));
    out.tell("sent", "Hold").await;
    out.pack("young").await;
    out.comes_to(&[
        ("sent", "2 waiting AtTheCustoms"),
        ("due", "2 waiting Packed"),
        ("young", "2 waiting Packed"),
        ("printing", "1 retrying Packed"),
        ("waits", "1 waiting Packed"),
    ])
    .await;
    out.act("torn", Verb::Retry).await;
    out.break_printer(false);
    out.comes_to(&[
        ("printing", "2 waiting OnItsWay"),
        ("torn", "2 waiting OnItsWay"),
    ])
    .await;
    out.roll(None);
    out.tell("early", "Hold").await;

    // Back: what the new build wrote is told run by run, and so is a signal that only it knows.
    let back = [
        "1 Packed signal_unreadable 1",
        "2 AtTheCustoms newer_version 1",
        "2 OnItsWay newer_version 2",
        "2 Packed newer_version 2",
    ];
    assert_eq!(
        out.plan(Build::Old),
        (Some(3), back.map(str::to_owned).to_vec())
    );
    assert_eq!(out.plan(Build::New), (Some(0), Vec::new()));
    out.roll(Some(Build::Old));
    for parcel in ["young", "printing", "torn", "sent"] {
        out.tell(parcel, "Arrived").await;
    }
    out.tell("waits", "Send").await;
    out.act("held", Verb::Resume).await;
    out.comes_to(&[
        // What it can do it does, what it cannot do waits with all that was said to it.
        ("waits", "1 waiting Sent"),
        ("held", "1 waiting Sent"),
        ("young", "2 no handler Packed"),
        ("printing", "2 no handler OnItsWay"),
        ("torn", "2 no handler OnItsWay"),
        ("sent", "2 no handler AtTheCustoms"),
    ])
    .await;
    out.roll(None);

    // And out again.
    assert_eq!(out.plan(Build::New), (Some(0), Vec::new()));
    out.roll(Some(Build::New));
    for parcel in ["waits", "held", "due"] {
        out.tell(parcel, if parcel == "due" { "Send" } else { "Arrived" })
            .await;
    }
    out.comes_to(&[
        ("printing", "2 completed OnItsWay"),
        ("torn", "2 completed OnItsWay"),
        ("sent", "2 completed AtTheCustoms"),
        ("waits", "2 completed Sent"),
        ("held", "2 completed Sent"),
        ("due", "2 waiting OnItsWay"),
        ("gone", "1 completed Sent"),
    ])
    .await;
    out.roll(None);
    let stands = out.stands().await;
    assert_eq!(stands.len(), 9, "{stands:?}");
    let done = out.done();
    for (what, (times, keys)) in &done {
        assert_eq!((*times, *keys), (1, 1), "{what}: {done:?}");
    }
    let labels = done.keys().filter(|what| what.starts_with("label"));
    assert_eq!(labels.count(), 7, "{done:?}");
    let insured: Vec<_> = done
        .keys()
        .filter_map(|what| what.strip_prefix("insure "))
        .collect();
    assert_eq!(insured, ["due", "printing", "torn"]);
}

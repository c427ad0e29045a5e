//! `tenure plan-deploy`, and the worker that refuses to strand runs, as processes.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::process::{Child, Command, Output};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};
use sqlx::PgConnection;
use tenure_engine::operator::{self, Act, Verb};
use tenure_engine::{Registry, RunId, ShardId, Status, TenantId};

use crate::support::process::{Server, parcels, tenure};
use crate::support::{self, eventually, eventually_or_tell};

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

/// Two builds of one program on one database.
struct Rollout {
    url: String,
    conn: PgConnection,
    folder: tempfile::TempDir,
    tenant: TenantId,
    /// The build at work.
    worker: Option<Child>,
    /// The one before it, while it ends what it has in hand.
    leaving: Option<Child>,
}

impl Drop for Rollout {
    fn drop(&mut self) {
        for mut worker in self.worker.take().into_iter().chain(self.leaving.take()) {
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

const LIGHT: u32 = 500;
/// With this it needs the crane, which takes one at a time.
const HEAVY: u32 = 20_000;

/// Asks a build to end what it has in hand and go.
fn dismiss(worker: &Child) {
    let pid = Pid::from_raw(i32::try_from(worker.id()).unwrap());
    kill(pid, Signal::SIGTERM).unwrap();
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
            leaving: None,
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

    fn spawn(&self, build: Build) -> Child {
        Command::new(&parcels()[build as usize])
            .args(["work", &self.url])
            .arg(self.folder.path())
            .spawn()
            .unwrap()
    }

    /// Lets another build work from now on; none for nobody.
    fn roll(&mut self, build: Option<Build>) {
        if let Some(mut worker) = self.worker.take() {
            dismiss(&worker);
            assert!(worker.wait().unwrap().success(), "an orderly stop");
        }
        self.worker = build.map(|build| self.spawn(build));
    }

    /// Ends the build at work without a word. Its lease is over at once, so that nobody waits for it.
    async fn lose(&mut self) {
        let mut worker = self.worker.take().unwrap();
        worker.kill().unwrap();
        worker.wait().unwrap();
        let over = sqlx::query("update engine.worker set expires_at = engine.now()")
            .execute(&mut self.conn)
            .await
            .unwrap();
        assert_eq!(over.rows_affected(), 1);
    }

    /// Lets another build work beside the one before it, which only ends what it has in hand: a parcel
    /// that is held.
    async fn roll_beside(&mut self, build: Build, parcel: &str, held: &str) {
        let leaving = self.worker.take().unwrap();
        dismiss(&leaving);
        self.leaving = Some(leaving);
        self.worker = Some(self.spawn(build));
        eventually("both builds are there", async || {
            let mut conn = support::connect(&self.url.parse().unwrap()).await;
            let builds: i64 = sqlx::query_scalar("select count(*) from engine.worker")
                .fetch_one(&mut conn)
                .await
                .unwrap();
            builds == 2
        })
        .await;
        self.come_to(&[("1 running Packed", parcel)]).await;
        self.go_on(held);
        let mut leaving = self.leaving.take().unwrap();
        assert!(leaving.wait().unwrap().success(), "an orderly stop");
    }

    fn file(&self, how: &str, thing: &str) -> PathBuf {
        self.folder.path().join(format!("{how} {thing}"))
    }

    /// Makes an effect, such as `label p`, fail.
    fn stop(&self, thing: &str) {
        std::fs::write(self.file("no", thing), "").unwrap();
    }

    /// Holds an effect when it begins.
    fn hold(&self, thing: &str) {
        std::fs::write(self.file("hold", thing), "").unwrap();
    }

    /// Lets an effect go on that was stopped or held.
    fn go_on(&self, thing: &str) {
        let files = ["no", "hold"].map(|how| self.file(how, thing));
        let file = files.iter().find(|file| file.exists());
        std::fs::remove_file(file.unwrap()).unwrap();
    }

    /// Waits until an effect that is held has begun.
    async fn is_at(&self, thing: &str) {
        let at = self.file("at", thing);
        eventually(&format!("it is at {thing}"), async || at.exists()).await;
    }

    async fn start(&mut self, workflow: &str, key: &str, input: Value) {
        sqlx::query("select engine.start_run($1, $2, $3, $4)")
            .bind(self.tenant.0)
            .bind(workflow)
            .bind(key)
            .bind(input)
            .execute(&mut self.conn)
            .await
            .unwrap();
    }

    /// Starts parcels, whose names are parted by blanks as everywhere here.
    async fn pack(&mut self, parcels: &str, grams: u32) {
        for parcel in parcels.split_whitespace() {
            self.start("parcel", parcel, json!(grams)).await;
        }
    }

    /// Starts a parcel that is packed when we are all gone.
    fn pack_later(&self, parcel: &str) {
        let tenant = self.tenant.0.to_string();
        let started = Command::new(&parcels()[Build::Old as usize])
            .args(["later", &self.url, &tenant, parcel, "2199-01-01T00:00:00Z"])
            .status()
            .unwrap();
        assert!(started.success());
    }

    async fn tell(&mut self, parcels: &str, signal: &str) {
        for parcel in parcels.split_whitespace() {
            sqlx::query("select engine.send_signal($1, 'parcel', $2, $3, to_jsonb($3))")
                .bind(self.tenant.0)
                .bind(parcel)
                .bind(signal)
                .execute(&mut self.conn)
                .await
                .unwrap();
        }
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

    /// Where each run stands: version, status, kind of stuck, state.
    async fn stands(&self) -> BTreeMap<String, String> {
        let mut conn = support::connect(&self.url.parse().unwrap()).await;
        let rows: Vec<(String, i32, i16, Option<String>, String)> =
            sqlx::query_as("select key, version, status, stuck, state from engine.run")
                .fetch_all(&mut conn)
                .await
                .unwrap();
        let rows = rows
            .into_iter()
            .map(|(key, version, status, stuck, state)| {
                let status = Status::from_code(status).unwrap();
                let kind = stuck.map_or(String::new(), |kind| format!(" ({kind})"));
                (key, format!("{version} {status}{kind} {state}"))
            });
        rows.collect()
    }

    /// Who does not stand where they are to: a place, and who is to stand there.
    async fn astray(&self, wanted: &[(&str, &str)]) -> Vec<String> {
        let stands = self.stands().await;
        let mut astray = Vec::new();
        for (place, parcels) in wanted {
            for parcel in parcels.split_whitespace() {
                let at = stands.get(parcel).map_or("nowhere", String::as_str);
                if at != *place {
                    astray.push(format!("{parcel} is to be {place}, and is {at}"));
                }
            }
        }
        astray
    }

    async fn come_to(&self, wanted: &[(&str, &str)]) {
        eventually_or_tell(
            "all come to where they are to",
            async || self.astray(wanted).await.is_empty(),
            async || self.astray(wanted).await.join("\n"),
        )
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

fn told<const N: usize>(groups: [&str; N]) -> Vec<String> {
    groups.map(str::to_owned).to_vec()
}

/// Two builds that differ in states, their data, signals and steps, rolled out, back and out again, with
/// a run in every state at each turn: what is told beforehand is what happens, nothing is lost, and
/// nothing outside is done twice.
#[tokio::test(flavor = "multi_thread")]
async fn two_builds_are_rolled_out_and_back_with_runs_in_every_state() {
    let mut out = Rollout::new().await;
    the_first_build_brings_runs_into_every_state(&mut out).await;
    the_first_is_lost_amid_a_step_and_the_second_takes_over(&mut out).await;
    the_second_brings_others_into_every_state(&mut out).await;
    the_first_comes_back_beside_the_second_amid_a_step(&mut out).await;
    the_second_comes_again_and_all_ends_well(&mut out).await;
    nothing_is_lost_or_done_twice(&out).await;
}

async fn the_first_build_brings_runs_into_every_state(out: &mut Rollout) {
    out.roll(Some(Build::Old));
    let light = "waits sent printing torn held gone early refused odd dropped burnt jammed";
    let heavy = "heavy-1 heavy-2 heavy-3";
    out.pack(light, LIGHT).await;
    out.pack(heavy, HEAVY).await;
    out.pack_later("later");
    let children = json!(["child-1", "child-2"]);
    out.start("convoy", "convoy", children).await;
    out.come_to(&[
        ("1 waiting Packed", light),
        ("1 waiting Packed", heavy),
        ("1 waiting Packed", "later child-1 child-2"),
        ("1 waiting Gathering", "convoy"),
    ])
    .await;
    out.tell("sent gone torn later", "Send").await;
    out.tell("gone", "Arrived").await;
    out.tell("odd", "Mislay").await;
    out.act("held", Verb::Pause).await;
    out.act("dropped", Verb::Cancel).await;
    out.act("burnt", Verb::Terminate).await;
    // Two that need the crane: it is at one, the other waits for it.
    out.hold("lift heavy-1");
    out.tell("heavy-1", "Send").await;
    out.is_at("lift heavy-1").await;
    out.tell("heavy-2", "Send").await;
    out.stop("label printing");
    out.tell("printing", "Send").await;
    out.stop("unbook refused");
    out.tell("refused", "Send").await;
    out.come_to(&[
        ("1 waiting Sent", "sent"),
        ("1 completed Sent", "gone"),
        ("1 stuck (terminal_error) Packed", "torn"),
        ("1 waiting Mislaid", "odd"),
        ("1 paused Packed", "held"),
        ("1 cancelled Packed", "dropped"),
        ("1 terminated Packed", "burnt"),
        ("1 running Packed", "heavy-1"),
        ("1 blocked Packed", "heavy-2"),
        ("1 retrying Packed", "printing"),
        ("1 undoing Packed", "refused"),
        // What has not started keeps what it is told.
        ("1 waiting Packed", "later"),
    ])
    .await;
    out.lose().await;
    out.tell("held", "Send").await;
    out.pack("due", LIGHT).await;
    out.come_to(&[("1 running Packed", "heavy-1"), ("0 due starting", "due")])
        .await;
}

async fn the_first_is_lost_amid_a_step_and_the_second_takes_over(out: &mut Rollout) {
    // One is in a state that the second build has not; four have journals that the first began.
    let up = told(["1 Mislaid not_lifted 1", "1 Packed open_journal 4"]);
    assert_eq!(out.plan(Build::New), (Some(3), up));
    assert_eq!(out.plan(Build::Old), (Some(0), Vec::new()));
    out.go_on("lift heavy-1");
    out.roll(Some(Build::New));
    out.tell("sent", "Hold").await;
    out.tell("odd", "Arrived").await;
    out.tell("child-1", "Send").await;
    out.tell("child-1", "Arrived").await;
    out.pack("young refused-2", LIGHT).await;
    out.pack("heavy-4", HEAVY).await;
    out.come_to(&[
        ("1 stuck (undecodable) Mislaid", "odd"),
        ("2 waiting OnItsWay", "heavy-1 heavy-2"),
        ("2 waiting AtTheCustoms", "sent"),
        ("2 completed OnItsWay", "child-1"),
        ("2 waiting Together", "convoy"),
        ("2 waiting Packed", "due young refused-2 heavy-4"),
        ("1 retrying Packed", "printing"),
        ("1 undoing Packed", "refused"),
        ("1 stuck (terminal_error) Packed", "torn"),
        ("1 paused Packed", "held"),
        (
            "1 waiting Packed",
            "waits early jammed later child-2 heavy-3",
        ),
    ])
    .await;
    out.act("torn", Verb::Retry).await;
    out.go_on("label printing");
    out.go_on("unbook refused");
    out.come_to(&[
        ("2 waiting OnItsWay", "printing torn"),
        ("1 failed Packed", "refused"),
    ])
    .await;
}

async fn the_second_brings_others_into_every_state(out: &mut Rollout) {
    out.hold("lift heavy-3");
    out.tell("heavy-3", "Send").await;
    out.is_at("lift heavy-3").await;
    out.tell("heavy-4", "Send").await;
    out.stop("unbook refused-2");
    out.tell("refused-2", "Send").await;
    out.stop("label jammed");
    out.tell("jammed", "Send").await;
    out.act("early", Verb::Pause).await;
    out.tell("early", "Hold").await;
    out.come_to(&[
        ("1 running Packed", "heavy-3"),
        ("2 blocked Packed", "heavy-4"),
        ("2 undoing Packed", "refused-2"),
        ("1 retrying Packed", "jammed"),
        ("1 paused Packed", "early held"),
    ])
    .await;
    // What the second build wrote is told run by run, and so is a signal that only it knows.
    let back = told([
        "2 Together newer_version 1",
        "1 Packed open_journal 2",
        "1 Packed signal_unreadable 1",
        "2 AtTheCustoms newer_version 1",
        "2 OnItsWay newer_version 4",
        "2 Packed newer_version 4",
    ]);
    assert_eq!(out.plan(Build::Old), (Some(3), back));
    let already = told(["1 Mislaid stuck_already 1"]);
    assert_eq!(out.plan(Build::New), (Some(0), already));
}

async fn the_first_comes_back_beside_the_second_amid_a_step(out: &mut Rollout) {
    out.roll_beside(Build::Old, "heavy-3", "lift heavy-3").await;
    out.tell("young printing torn sent", "Arrived").await;
    out.tell("waits child-2", "Send").await;
    out.tell("child-2", "Arrived").await;
    out.act("held", Verb::Resume).await;
    out.act("early", Verb::Resume).await;
    out.act("odd", Verb::Retry).await;
    out.come_to(&[
        // What it can do it does, what it cannot do waits with all that was said to it.
        ("1 waiting Sent", "waits held"),
        ("1 completed Sent", "child-2"),
        ("2 no handler Together", "convoy"),
        ("2 no handler Packed", "young heavy-4 refused-2"),
        ("2 no handler OnItsWay", "printing torn"),
        ("2 no handler AtTheCustoms", "sent"),
        // An open journal whose last answer is of a step that the first build does not know.
        ("1 stuck (journal_mismatch) Packed", "jammed"),
        // What the second could not read is as it was.
        ("1 waiting Packed", "odd early later"),
        ("2 waiting Packed", "due"),
        // The last of them in a visit that the second build ended before it went.
        ("2 waiting OnItsWay", "heavy-1 heavy-2 heavy-3"),
    ])
    .await;
    let (outcome, reason): (i16, String) = sqlx::query_as(
        "select outcome, inbox.reason from engine.inbox join engine.run using (run_id, shard_id)
         where key = 'early' and signal_id = 'Hold'",
    )
    .fetch_one(&mut out.conn)
    .await
    .unwrap();
    assert_eq!(outcome, 2, "rejected, as it was told");
    assert!(reason.contains("Hold"), "{reason}");
    out.roll(None);
}

/// Where all of them end.
const ENDS: [(&str, &str); 9] = [
    ("1 completed Sent", "gone child-2"),
    ("1 cancelled Packed", "dropped"),
    ("1 terminated Packed", "burnt"),
    ("1 failed Packed", "refused"),
    ("2 failed Packed", "refused-2"),
    (
        "2 completed OnItsWay",
        "printing torn jammed due early later child-1 heavy-1 heavy-2 heavy-3 heavy-4",
    ),
    ("2 completed AtTheCustoms", "sent"),
    ("2 completed Sent", "waits held"),
    ("2 waiting OnItsWay", "odd young"),
];

async fn the_second_comes_again_and_all_ends_well(out: &mut Rollout) {
    assert_eq!(out.plan(Build::New), (Some(0), Vec::new()));
    out.go_on("unbook refused-2");
    out.go_on("label jammed");
    out.roll(Some(Build::New));
    out.act("jammed", Verb::Retry).await;
    let start = Verb::FireDeadline {
        name: "run-start".to_owned(),
    };
    out.act("later", start).await;
    out.tell("due odd early young", "Send").await;
    out.tell("waits held due early later jammed", "Arrived")
        .await;
    out.tell("heavy-1 heavy-2 heavy-3 heavy-4", "Arrived").await;
    out.come_to(&ENDS).await;
    out.come_to(&[("2 completed Together", "convoy")]).await;
    out.roll(None);
    let output: Vec<u8> = sqlx::query_scalar("select output from engine.run where key = 'convoy'")
        .fetch_one(&mut out.conn)
        .await
        .unwrap();
    let output: Value = serde_json::from_slice(&output).unwrap();
    assert_eq!(output, json!(["child-1 completed", "child-2 completed"]));
}

async fn nothing_is_lost_or_done_twice(out: &Rollout) {
    let stands = out.stands().await;
    let ends = ENDS.iter().map(|(_, parcels)| parcels.split_whitespace());
    let parcels = ends.flatten().count();
    assert_eq!(stands.len(), parcels + 1, "{stands:?}");
    let done = out.done();
    for (what, (times, keys)) in &done {
        assert_eq!((*times, *keys), (1, 1), "{what}: {done:?}");
    }
    let of = |what: &str| -> Vec<&str> {
        let all = done.keys().filter_map(|thing| thing.split_once(' '));
        all.filter(|(name, _)| *name == what)
            .map(|(_, parcel)| parcel)
            .collect()
    };
    assert_eq!(of("label").len(), 18, "{done:?}");
    let heavy = "heavy-1 heavy-2 heavy-3 heavy-4";
    assert_eq!(of("lift").join(" "), heavy);
    for reversed in ["book", "recall", "unbook"] {
        assert_eq!(of(reversed), ["refused", "refused-2"]);
    }
    // Those whose label the second build printed.
    let insured = format!("child-1 due early {heavy} jammed later odd printing torn young");
    assert_eq!(of("insure").join(" "), insured);
}

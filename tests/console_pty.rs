//! The console as a person has it: the real `tenure-console` in a pseudo-terminal, against a served
//! product. What `update` and `view` promise one by one is in `console`; here is that they meet.

use std::io::{Read as _, Write};
use std::sync::{Arc, Mutex};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use portable_pty::{Child, CommandBuilder, MasterPty, PtySize, SlavePty, native_pty_system};
use serde_json::json;
use sqlx::PgConnection;
use tenure_client::{
    CatchUpPolicy, IdempotencyKey, NewSchedule, NewTenant, OverlapPolicy, RunFilter, RunStatus,
    Schedule, StartRun, Tenant,
};

use crate::console_verbs::{EMPTY, back_to, choose, fill};
use crate::support::app::TestApp;
use crate::support::process::tenure;
use crate::support::{connect, eventually, eventually_or_tell};

pub(crate) const ENTER: &str = "\r";
const BACKSPACE: &str = "\x7f";

/// What a terminal with synchronized updates (mode 2026) shows while a frame is being drawn: the last
/// whole one.
#[derive(Default)]
struct Frames {
    before: Option<String>,
}

impl vt100::Callbacks for Frames {
    fn unhandled_csi(
        &mut self,
        screen: &mut vt100::Screen,
        mark: Option<u8>,
        _: Option<u8>,
        params: &[&[u16]],
        end: char,
    ) {
        match (mark, params, end) {
            (Some(b'?'), [[2026]], 'h') => self.before = Some(screen.contents()),
            (Some(b'?'), [[2026]], 'l') => self.before = None,
            _ => {}
        }
    }
}

/// A console and the terminal in front of it. The other end of the terminal is kept, so that what the
/// console leaves behind can be looked at after its end.
pub(crate) struct Console {
    child: Box<dyn Child + Send + Sync>,
    master: Box<dyn MasterPty + Send>,
    keys: Box<dyn Write + Send>,
    screen: Arc<Mutex<vt100::Parser<Frames>>>,
    _slave: Box<dyn SlavePty + Send>,
}

impl Drop for Console {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("the screen was:\n{}", self.text());
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

pub(crate) fn size(rows: u16, cols: u16) -> PtySize {
    PtySize {
        rows,
        cols,
        ..PtySize::default()
    }
}

/// How the terminal treats keys: cooked or raw, and all the rest.
fn mode(master: &dyn MasterPty) -> String {
    format!("{:?}", master.get_termios().unwrap())
}

impl Console {
    pub(crate) fn open(app: &TestApp, size: PtySize) -> Self {
        Self::open_as(app, size, &app.token)
    }

    /// Opens it with another token than the app's own.
    pub(crate) fn open_as(app: &TestApp, size: PtySize, token: &str) -> Self {
        Self::open_program(app, size, token, "tenure-console")
    }

    /// Opens a program that is built beside `tenure`.
    fn open_program(app: &TestApp, size: PtySize, token: &str, program: &str) -> Self {
        let pair = native_pty_system().openpty(size).unwrap();
        let mut command = CommandBuilder::new(tenure().with_file_name(program));
        // A backtrace would push the words of a panic off the screen.
        command.env("RUST_BACKTRACE", "0");
        command.env("TENURE_URL", &app.url);
        command.env("TENURE_TOKEN", token);
        command.env("TERM", "xterm-256color");
        let child = pair.slave.spawn_command(command).unwrap();
        let (rows, cols) = (size.rows.try_into().unwrap(), size.cols.try_into().unwrap());
        let parser = vt100::Parser::new_with_callbacks(rows, cols, 0, Frames::default());
        let screen = Arc::new(Mutex::new(parser));
        let mut output = pair.master.try_clone_reader().unwrap();
        let drawn = screen.clone();
        // Ends with the terminal: a pseudo-terminal whose other end is closed reads as an error.
        std::thread::spawn(move || {
            let mut bytes = [0; 4096];
            while let Ok(count @ 1..) = output.read(&mut bytes) {
                drawn.lock().unwrap().process(&bytes[..count]);
            }
        });
        Self {
            child,
            keys: pair.master.take_writer().unwrap(),
            master: pair.master,
            screen,
            _slave: pair.slave,
        }
    }

    pub(crate) fn text(&self) -> String {
        let parser = self.screen.lock().unwrap();
        let before = parser.callbacks().before.clone();
        before.unwrap_or_else(|| parser.screen().contents())
    }

    pub(crate) fn press(&mut self, keys: &str) {
        self.keys.write_all(keys.as_bytes()).unwrap();
        self.keys.flush().unwrap();
    }

    /// Waits until all of these are on the screen at once.
    pub(crate) async fn sees(&self, words: &[&str]) {
        eventually_or_tell(
            &format!("the screen shows {words:?}"),
            async || {
                let text = self.text();
                words.iter().all(|word| text.contains(word))
            },
            async || self.text(),
        )
        .await;
    }

    /// Waits until the run rests and the screen shows it so. What is done to it before that is refused:
    /// it moved on since it was seen.
    async fn sees_at_rest(&self, app: &TestApp, run: uuid::Uuid) {
        eventually_or_tell(
            "the screen shows the run at rest",
            async || {
                let now = app.client.run(run).await.unwrap();
                let shown = format!("revision {} ", now.revision);
                now.summary.status == RunStatus::Waiting && self.text().contains(&shown)
            },
            async || self.text(),
        )
        .await;
    }

    /// Gives the window another size.
    pub(crate) fn resize(&self, size: PtySize) {
        let (rows, cols) = (size.rows.try_into().unwrap(), size.cols.try_into().unwrap());
        // The parser first: what is drawn for the new size must not meet the old one.
        self.screen.lock().unwrap().set_size(rows, cols);
        self.master.resize(size).unwrap();
    }

    /// Waits until the main screen is back and the cursor visible; and keys are as they were before.
    async fn is_given_back(&self, before: &str) {
        eventually("the terminal is given back", async || {
            let parser = self.screen.lock().unwrap();
            let screen = parser.screen();
            !screen.alternate_screen() && !screen.bracketed_paste() && !screen.hide_cursor()
        })
        .await;
        assert_eq!(mode(&*self.master), before);
    }

    /// Waits for its end; returns its exit code.
    pub(crate) async fn ended(&mut self) -> u32 {
        let child = Mutex::new(&mut self.child);
        let status = Mutex::new(None);
        eventually("the console ends", async || {
            let ended = child.lock().unwrap().try_wait().unwrap();
            let is_over = ended.is_some();
            *status.lock().unwrap() = ended;
            is_over
        })
        .await;
        status.into_inner().unwrap().unwrap().exit_code()
    }
}

pub(crate) async fn acme(app: &TestApp) -> Tenant {
    let new = NewTenant {
        name: "Acme".to_owned(),
        email: "billing@acme.example".to_owned(),
        zone: "UTC".to_owned(),
        locale: None,
        test_clock: None,
        legal_entity: None,
    };
    let key = IdempotencyKey::generate();
    let made = app.client.create_tenant(&new, &key);
    made.await.unwrap()
}

async fn set_zone(conn: &mut PgConnection, tenant: &Tenant, zone: &str) {
    let changed = sqlx::query("update app.tenant set zone = $2 where tenant_id = $1")
        .bind(tenant.tenant_id)
        .bind(zone)
        .execute(conn)
        .await
        .unwrap();
    assert_eq!(changed.rows_affected(), 1);
}

/// Starts a mail to the tenant.
async fn start_notice(app: &TestApp, tenant: &Tenant, key: &str) -> uuid::Uuid {
    let run = StartRun {
        workflow: "notice".to_owned(),
        tenant_id: tenant.tenant_id,
        key: key.to_owned(),
        input: json!({"recovered": {}}),
        priority: None,
        start_at: None,
        gather: None,
    };
    let key = IdempotencyKey::generate();
    let started = app.client.start_run(&run, &key).await.unwrap();
    started.summary.run_id
}

async fn status(app: &TestApp, run: uuid::Uuid) -> RunStatus {
    app.client.run(run).await.unwrap().summary.status
}

#[tokio::test(flavor = "multi_thread")]
#[expect(
    clippy::too_many_lines,
    reason = "one story, from its beginning to its end"
)]
async fn a_person_finds_a_stuck_run_retries_it_and_signals_another() {
    let app = TestApp::new().await;
    let mut conn = connect(&app.options).await;
    let tenant = acme(&app).await;
    let mut console = Console::open(&app, size(40, 120));
    console.sees(&["suite", "live", "tenant", "waiting"]).await;

    // A run that starts while somebody looks; it gets stuck on a zone that is no zone.
    set_zone(&mut conn, &tenant, "Mars/Base").await;
    let notice = start_notice(&app, &tenant, "recovered").await;
    console.sees(&["notice", "stuck", "recovered"]).await;

    // It is the newest; the cursor stayed on the run it was on.
    console.press("g");
    console.press(ENTER);
    console
        .sees(&[
            "notice v",
            "WHY",
            "unknown_zone",
            "You may: retry",
            "<1 timeline>",
        ])
        .await;

    // The cause is mended, and the run is tried again with a reason.
    set_zone(&mut conn, &tenant, "UTC").await;
    console.press("R");
    console
        .sees(&["suite: retry, notice of Acme", "reason *"])
        .await;
    console.press("the zone is right now");
    console.sees(&["> the zone is right now"]).await;
    console.press(ENTER);
    console
        .sees(&["status: stuck -> due", "> [ Do it: retry ]"])
        .await;
    console.press(ENTER);
    console
        .sees(&["notice v", "completed", "<1 timeline>"])
        .await;
    assert_eq!(status(&app, notice).await, RunStatus::Completed);
    let reason: String = sqlx::query_scalar("select reason from engine.audit where run_id = $1")
        .bind(notice)
        .fetch_one(&mut conn)
        .await
        .unwrap();
    assert_eq!(reason, "the zone is right now");

    // A smaller window draws the same run.
    console.resize(size(24, 80));
    console
        .sees(&["notice v", "completed", "WHY", "q quit"])
        .await;
    assert!(
        console.text().lines().next().unwrap().contains("suite"),
        "the header is where it was"
    );

    console.press(BACKSPACE);
    console.sees(&["WORKFLOW", "STATUS"]).await;
    // The oldest watches the provider's events; the one before it is the tenant's.
    console.press("Gk");
    console.press(ENTER);
    console
        .sees(&["tenant v", "state Ready", "You may: signal"])
        .await;
    console.press("S");
    console.sees(&["suite: signal, tenant of Acme"]).await;
    console.press("{\"AttachMethod\": {\"method\": \"pm_card_visa\"}}");
    console.sees(&["it is handled"]).await;
    console.press(ENTER);
    console.press("they called us");
    console.sees(&["> they called us"]).await;
    console.press(ENTER);
    console.sees(&["> [ Do it: signal ]"]).await;
    console.press(ENTER);
    console.sees(&["<1 timeline>", "attach"]).await;
    console.press("4");
    console.sees(&["<4 signals>", "AttachMethod"]).await;
    let filter = RunFilter {
        workflow: Some("tenant".to_owned()),
        ..RunFilter::default()
    };
    let lifecycle = app.client.list_runs(&filter).await.unwrap().items[0].run_id;
    eventually("the tenant has the card", async || {
        let tenant = app.client.tenant(tenant.tenant_id).await.unwrap();
        tenant.default_payment_method.is_some()
    })
    .await;
    // The card stands as soon as its step is done; the visit ends after it.
    console.sees_at_rest(&app, lifecycle).await;

    // Any verb that the server knows, from the menu.
    console.press("a");
    console
        .sees(&["suite: act on tenant of Acme", "[not now: "])
        .await;
    console.press("jjj");
    console.sees(&["> pause", "Takes a reason."]).await;
    console.press(ENTER);
    console.sees(&["suite: pause, tenant of Acme"]).await;
    console.press("they asked us to wait");
    console.press(ENTER);
    console.sees(&["status: waiting -> paused"]).await;
    console.press(ENTER);
    console.sees(&["= paused", "Done: pause."]).await;
    let paused = app.client.run(lifecycle).await.unwrap();
    assert_eq!(paused.summary.status, RunStatus::Paused);

    console.press("q");
    assert_eq!(console.ended().await, 0);
    app.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn however_it_is_left_the_terminal_is_as_it_was() {
    let app = TestApp::new().await;
    for leave in ["q", "\x03"] {
        let pristine = native_pty_system().openpty(size(24, 80)).unwrap();
        let before = mode(&*pristine.master);
        let mut console = Console::open(&app, size(24, 80));
        console.sees(&["live", "q quit"]).await;
        {
            let parser = console.screen.lock().unwrap();
            assert!(parser.screen().alternate_screen());
            assert!(parser.screen().bracketed_paste());
        }
        assert_ne!(mode(&*console.master), before, "it is raw");
        console.press(leave);
        assert_eq!(console.ended().await, 0);
        console.is_given_back(&before).await;
        assert_eq!(console.text().trim(), "", "nothing is left on the screen");
    }
    app.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_panic_gives_the_terminal_back_and_can_be_read() {
    let app = TestApp::new().await;
    let pristine = native_pty_system().openpty(size(24, 80)).unwrap();
    let before = mode(&*pristine.master);
    let mut console =
        Console::open_program(&app, size(24, 80), &app.token, "examples/falling-console");
    console.sees(&["live", "q quit"]).await;
    assert!(console.screen.lock().unwrap().screen().alternate_screen());
    assert_ne!(mode(&*console.master), before, "it is raw");
    let process = console.child.process_id().unwrap();
    let process = Pid::from_raw(process.try_into().unwrap());
    kill(process, Signal::SIGUSR1).unwrap();
    assert_eq!(console.ended().await, 101, "the code of a panic");
    console.is_given_back(&before).await;
    console
        .sees(&["panicked at", "the console fell, as it was told to"])
        .await;
    assert!(!console.text().contains("q quit"), "nothing of it is left");
    app.finish().await;
}

/// A schedule of Acme's.
async fn nightly(app: &TestApp) -> Schedule {
    let tenant = acme(app).await;
    let nightly = NewSchedule {
        tenant_id: tenant.tenant_id,
        name: "nightly".to_owned(),
        workflow: "notice".to_owned(),
        input: json!({"recovered": {}}),
        cron: "30 2 * * *".to_owned(),
        zone: "UTC".to_owned(),
        overlap: OverlapPolicy::Skip,
        catch_up: CatchUpPolicy::One,
        jitter_seconds: 0,
        reason: "they want it".to_owned(),
    };
    let key = IdempotencyKey::generate();
    app.client.create_schedule(&nightly, &key).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_schedule_is_changed_and_the_audit_tells_who_did_so() {
    let app = TestApp::new().await;
    let made = nightly(&app).await;
    let id = made.schedule_id;
    let mut console = Console::open(&app, size(40, 120));
    console.sees(&["suite", "live", "tenant"]).await;
    console.press("s");
    console.sees(&["SCHEDULES, newest first", "nightly"]).await;
    // What can be done to it is known once it is known closely.
    console.press(ENTER);
    console
        .sees(&["30 2 * * * UTC, overlap skip", "coming  [10]"])
        .await;
    choose(&mut console, "change").await;
    console.press(ENTER);
    fill(&mut console, "0 1 * * *").await;
    console.press(ENTER);
    fill(&mut console, "queue").await;
    console.press(&ENTER.repeat(2));
    fill(&mut console, "earlier").await;
    console
        .sees(&[
            "cron: 30 2 * * * -> 0 1 * * *",
            "overlap: skip -> queue",
            "> [ Do it: change ]",
        ])
        .await;
    let shown = app.client.schedule(id).await.unwrap().schedule;
    assert_eq!(shown, made, "it was only shown");
    console.press(ENTER);
    console.sees(&["0 1 * * * UTC, overlap queue"]).await;
    let set = app.client.schedule(id).await.unwrap().schedule;
    assert_eq!(
        (set.cron.as_str(), set.overlap, set.catch_up),
        ("0 1 * * *", OverlapPolicy::Queue, CatchUpPolicy::One)
    );

    back_to(&mut console, &["WORKFLOW"]).await;
    console.press("u");
    console
        .sees(&["AUDIT: what people did", "suite admin", "schedule update"])
        .await;
    console.press(" ");
    console
        .sees(&[
            "by suite admin (admin)",
            "earlier",
            "cron: 30 2 * * * -> 0 1 * * *",
        ])
        .await;
    console.press("/");
    console.sees(&["fields: actor, action"]).await;
    console.press("actor:nobody");
    console.press(ENTER);
    console.sees(&["Nobody did anything that passes."]).await;
    console.press("/");
    console.press(EMPTY);
    let subject = format!("subject:{id}");
    console.press(&subject);
    console.press(ENTER);
    console
        .sees(&[&format!("/ {subject}"), "schedule update", "they want it"])
        .await;
    console.press("q");
    assert_eq!(console.ended().await, 0);
    app.finish().await;
}

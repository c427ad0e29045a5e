//! The README's *Try it*, as a reader pastes it: the block itself, run by `bash` against a real
//! `tenure dev` with a home and a Postgres of its own.

use std::fs::File;
use std::process::{Child, Command, Output, Stdio};
use std::sync::mpsc;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};
use tenure_client::{CatalogEntry, Client, IdempotencyKey};

use crate::support::app::for_a_story;
use crate::support::eventually;
use crate::support::process::tenure;

/// How long `dev` may take to end in order, and a script to its last line: a minute of work, and more
/// on a machine that has much else to do.
const PATIENCE: Duration = Duration::from_secs(300);

/// A running `tenure dev`; it ends with its Postgres when this is dropped.
struct Dev {
    child: Option<Child>,
    home: tempfile::TempDir,
}

impl Drop for Dev {
    fn drop(&mut self) {
        self.end();
    }
}

impl Dev {
    /// Starts it from nothing and waits until it has played its own story and serves.
    async fn start() -> Self {
        Self::start_with(&[]).await
    }

    async fn start_with(flags: &[&str]) -> Self {
        let mut dev = Self {
            child: None,
            home: tempfile::tempdir().unwrap(),
        };
        dev.go(flags).await;
        dev
    }

    /// Ends it, and starts it again on what it kept.
    async fn restart(&mut self) {
        assert!(self.end(), "it ends in order");
        self.go(&[]).await;
    }

    async fn go(&mut self, flags: &[&str]) {
        let said = File::create(self.home.path().join("said")).unwrap();
        let child = Command::new(tenure())
            .args(["dev", "--yes", "--listen", "127.0.0.1:0"])
            .args(flags)
            .env("TENURE_HOME", self.home.path())
            .env("TENURE_LOG", "warn,stripe=error,async_stripe=error")
            .stdin(Stdio::null())
            .stdout(said)
            .spawn()
            .unwrap();
        self.child = Some(child);
        for awaited in [
            "\nAPI ",
            "\nServing until you press Ctrl-C.",
            " by hand with curl.",
        ] {
            eventually(awaited.trim(), async || self.said().contains(awaited)).await;
            let child = self.child.as_mut().unwrap();
            assert!(child.try_wait().unwrap().is_none(), "it goes on serving");
        }
    }

    /// Speaks to it.
    fn client(&self) -> Client {
        let token = std::fs::read_to_string(self.home.path().join("token")).unwrap();
        Client::new(&self.url(), token.trim()).unwrap()
    }

    fn said(&self) -> String {
        std::fs::read_to_string(self.home.path().join("said")).unwrap()
    }

    /// The URL that it printed.
    fn url(&self) -> String {
        let said = self.said();
        let line = said.lines().find(|line| line.starts_with("API "));
        line.unwrap()["API ".len()..].trim().to_owned()
    }

    /// Runs a script as somebody in another terminal would, who pasted the variables that it printed.
    async fn run(&self, script: &str) -> Output {
        let said = self.said();
        let export = said.lines().find(|line| line.starts_with("  export "));
        bash(&format!("{}\n{script}", export.unwrap())).await
    }

    /// Presses Ctrl-C and says whether it ended as a success; kills it when it does not end.
    fn end(&mut self) -> bool {
        let Some(mut child) = self.child.take() else {
            return true;
        };
        let pid = Pid::from_raw(i32::try_from(child.id()).unwrap());
        let _ = kill(pid, Signal::SIGINT);
        let (tell, told) = mpsc::channel();
        let waiting = std::thread::spawn(move || {
            let _ = tell.send(child.wait());
        });
        let ended = told.recv_timeout(PATIENCE);
        if ended.is_err() {
            // Its Postgres gets the kernel's signal when it dies.
            let _ = kill(pid, Signal::SIGKILL);
        }
        let _ = waiting.join();
        matches!(ended, Ok(Ok(status)) if status.success())
    }

    /// Ends it in order.
    fn stop(mut self) {
        assert!(self.end(), "it ends in order");
        let postmaster = self.home.path().join("postgres/data/postmaster.pid");
        assert!(postmaster.parent().unwrap().exists(), "the data is kept");
        assert!(!postmaster.exists(), "its Postgres ended too");
    }
}

/// Runs a script in a shell that knows of no installation.
async fn bash(script: &str) -> Output {
    let bash = tokio::process::Command::new("bash")
        .args(["-c", script])
        .env_remove("TENURE_HOME")
        .env_remove("TENURE_TOKEN_FILE")
        .env_remove("TENURE_URL")
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output();
    let done = tokio::time::timeout(PATIENCE, bash).await;
    done.expect("the script comes to its end").unwrap()
}

/// The first code block of a README section.
fn readme_block(section: &str) -> String {
    let readme = include_str!("../README.md");
    let (_, section) = readme.split_once(&format!("\n## {section}\n")).unwrap();
    let (_, block) = section.split_once("\n```sh\n").unwrap();
    let (block, _) = block.split_once("\n```\n").unwrap();
    block.to_owned()
}

/// What a script printed: the answers of the API, one a line, and the lines that are none.
fn answers(output: &[u8]) -> (Vec<Value>, Vec<&str>) {
    let lines = str::from_utf8(output).unwrap().lines();
    let (answers, others): (Vec<_>, Vec<_>) = lines.partition(|line| line.starts_with(['{', '[']));
    let answers = answers
        .into_iter()
        .map(|line| serde_json::from_str(line).unwrap_or_else(|_| panic!("not JSON: {line}")));
    (answers.collect(), others)
}

/// Number, status, amount, day of payment and attempts of invoices, oldest first.
fn ledger(invoices: &Value) -> Vec<String> {
    let mut lines: Vec<String> = invoices
        .as_array()
        .unwrap()
        .iter()
        .map(|invoice| {
            let text = |pointer| invoice.pointer(pointer).and_then(Value::as_str);
            format!(
                "{} {} {} {} {}..{} paid {} after {}",
                text("/number").unwrap(),
                text("/status").unwrap(),
                text("/total/amount").unwrap(),
                text("/total/currency").unwrap(),
                text("/period_start").unwrap(),
                text("/period_end").unwrap(),
                text("/paid_at").unwrap_or("never"),
                invoice["attempts"]
            )
        })
        .collect();
    lines.reverse();
    lines
}

/// The kinds of mails that were sent, oldest first.
fn kinds(mails: &Value) -> Vec<&str> {
    let mails = mails.as_array().unwrap().iter().rev();
    mails
        .inspect(|mail| assert_eq!(mail["status"], "sent"))
        .map(|mail| mail["kind"].as_str().unwrap())
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
#[expect(
    clippy::too_many_lines,
    reason = "one story, from its beginning to its end"
)]
async fn the_readmes_story_by_hand_says_what_the_readme_says() {
    let dev = Dev::start().await;
    let block = readme_block("Try it");
    let output = dev.run(&block).await;
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
    let (shown, others) = answers(&output.stderr);
    assert!(others.is_empty(), "{said}");
    let [tenant, subscribed] = shown.try_into().unwrap();
    assert_eq!(tenant["name"], "Acme");
    assert_eq!(subscribed["plan"], "starter-monthly");

    let (told, bill) = answers(&output.stdout);
    let mut told = told.into_iter();
    let mut next = || told.next().expect("another answer");
    let attached = next();
    assert!(attached["run_id"].is_string(), "{attached}");
    let trial = next();
    assert_eq!(trial["status"], "trialing");
    // Fourteen days after 31 January are over when 14 February begins in Berlin.
    assert_eq!(trial["trial_ends_at"], "2027-02-13T23:00:00Z");

    let first = "INV-00001 paid 19.00 EUR 2027-02-13T23:00:00Z..2027-03-13T23:00:00Z \
                 paid 2027-02-13T23:00:00Z after 1";
    assert_eq!(ledger(&next()), [first]);
    let mails = next();
    assert_eq!(kinds(&mails), ["trial_ending", "receipt"]);
    assert_eq!(
        mails[0]["subject"],
        "Receipt for invoice INV-00001: 19.00 EUR"
    );
    let active = next();
    assert_eq!(active["status"], "active");
    assert_eq!(active["period_end"], "2027-03-13T23:00:00Z");

    let second = "INV-00002 paid 19.00 EUR 2027-03-13T23:00:00Z..2027-04-13T22:00:00Z \
                  paid 2027-03-13T23:00:00Z after 1";
    assert_eq!(ledger(&next()), [first, second]);
    assert!(next()["run_id"].is_string());

    assert_eq!(next()["status"], "past_due");
    let open = "INV-00003 open 19.00 EUR 2027-04-13T22:00:00Z..2027-05-13T22:00:00Z \
                paid never after 2";
    assert_eq!(ledger(&next()), [first, second, open]);
    assert_eq!(
        ledger(&next()),
        [first, second, &open.replace("after 2", "after 3")]
    );
    let mails = next();
    assert_eq!(
        kinds(&mails),
        [
            "trial_ending",
            "receipt",
            "receipt",
            "payment_failed",
            "payment_failed",
            "payment_failed"
        ]
    );
    // The days 0, 1 and 3 in Berlin: when the period begins, then at ten.
    let sent = [
        "2027-04-17T08:00:00Z",
        "2027-04-15T08:00:00Z",
        "2027-04-13T22:00:00Z",
    ];
    for (mail, at) in mails.as_array().unwrap().iter().zip(sent) {
        assert_eq!(mail["sent_at"], at);
    }
    assert!(next()["run_id"].is_string());

    let recovered = next();
    assert_eq!(recovered["status"], "active");
    assert_eq!(recovered["period_end"], "2027-05-13T22:00:00Z");
    let third = "INV-00003 paid 19.00 EUR 2027-04-13T22:00:00Z..2027-05-13T22:00:00Z \
                 paid 2027-04-17T09:00:00Z after 4";
    assert_eq!(ledger(&next()), [first, second, third]);
    assert!(next()["run_id"].is_string());

    let ended = next();
    assert_eq!(ended["status"], "ended");
    assert_eq!(ended["ended_at"], "2027-05-13T22:00:00Z");
    assert_eq!(ended["end_reason"], json!("canceled"));
    assert_eq!(
        ledger(&next()),
        [first, second, third],
        "nothing more is charged"
    );
    assert!(told.next().is_none(), "the block says more than is checked");

    let (verdict, bill) = bill.split_last().unwrap();
    assert_eq!(*verdict, "Month by month it is the same.", "{bill:#?}");
    assert_eq!(bill.len(), 13);
    assert_eq!(
        bill[0],
        "INV-00001 paid 19.00 2027-02-13T23:00:00Z 2027-03-13T23:00:00Z 2027-02-13T23:00:00Z"
    );
    assert_eq!(
        bill[12],
        "INV-00013 paid 19.00 2028-02-13T23:00:00Z 2028-03-13T23:00:00Z 2028-02-13T23:00:00Z"
    );

    // The block's first lines are its functions. A clock that cannot move is not waited for.
    let functions = block.split("\n\n").next().unwrap();
    let output = dev
        .run(&format!("{functions}\nCLOCK=lost; advance 1d"))
        .await;
    assert!(!output.status.success());
    let (refused, others) = answers(&output.stderr);
    assert_eq!(refused[0]["code"], "not_found", "{others:?}");
    dev.stop();
}

#[tokio::test]
async fn the_readmes_story_ends_at_once_where_there_is_no_token() {
    let block = readme_block("Try it");
    let output = bash(&format!("export TENURE_TOKEN_FILE=/nowhere\n{block}")).await;
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success(), "{said}");
    assert!(output.stdout.is_empty());
    assert!(
        said.contains("there is no token; start dev, and export TENURE_TOKEN_FILE"),
        "{said}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn dev_starts_its_postgres_again_when_somebody_kills_it() {
    let dev = Dev::start().await;
    let client = dev.client();
    let plans = client.list_plans().await.unwrap();
    let file = dev.home.path().join("postgres/data/postmaster.pid");
    let postmaster = || -> Option<i32> {
        let text = std::fs::read_to_string(&file).ok()?;
        text.lines().next()?.parse().ok()
    };
    let first = postmaster().unwrap();
    kill(Pid::from_raw(first), Signal::SIGKILL).unwrap();
    eventually("another Postgres runs", async || {
        postmaster().is_some_and(|pid| pid != first)
    })
    .await;
    eventually("the API answers from it", async || {
        client.list_plans().await.is_ok_and(|now| now == plans)
    })
    .await;
    dev.stop();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_catalogue_that_was_changed_is_not_changed_back_when_dev_starts_again() {
    let mut dev = Dev::start().await;
    let client = dev.client();
    let mut changed: Value =
        serde_json::from_str(include_str!("../fixtures/seed/catalog.json")).unwrap();
    changed["plans"]["team-monthly"]["prices"]["EUR"] = json!("59.00");
    changed["plans"]["starter-monthly"]["retired"] = json!(true);
    let (publish, key) = (for_a_story(), IdempotencyKey::generate());
    let published = client.publish_catalog(&changed, &publish, &key).await;
    published.unwrap();
    let before = client.list_catalog().await.unwrap();
    let retired = |entry: &CatalogEntry| entry.key == "starter-monthly" && entry.retired;
    assert!(before.iter().any(retired));
    dev.restart().await;
    assert_eq!(dev.client().list_catalog().await.unwrap(), before);
    dev.stop();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_demo_keeps_customers_coming_after_the_story() {
    let dev = Dev::start_with(&["--demo"]).await;
    let client = dev.client();
    // Three seats, and the story's own tenant.
    eventually("three customers have subscribed", async || {
        let page = client.list_tenants(&Default::default()).await.unwrap();
        let mut subscribed = 0;
        for tenant in page.items.iter().filter(|one| one.test_clock_id.is_some()) {
            let found = client.list_subscriptions(tenant.tenant_id).await.unwrap();
            subscribed += found.len();
        }
        subscribed == 4
    })
    .await;
    dev.stop();
}

//! The product's own binary, as a process that can be killed, frozen and started again.

use std::ffi::OsStr;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::app::{SANDBOX_KEY, WEBHOOK_SECRET};

/// The built binary; built here when the suite is run without it.
pub(crate) fn tenure() -> &'static PathBuf {
    static BINARY: OnceLock<PathBuf> = OnceLock::new();
    BINARY.get_or_init(|| {
        let folder = build(&[
            "--package",
            "tenure-api",
            "--bin",
            "tenure",
            "--package",
            "tenure-console",
            "--bin",
            "tenure-console",
            "--package",
            "stripe-sandbox",
            "--bin",
            "stripe-sandbox",
            "--example",
            "falling-console",
        ]);
        folder.join("tenure")
    })
}

/// The two builds of the parcels' program, the first one first.
pub(crate) fn parcels() -> &'static [PathBuf; 2] {
    static BINARIES: OnceLock<[PathBuf; 2]> = OnceLock::new();
    BINARIES.get_or_init(|| {
        let names = ["parcels-old", "parcels-new"];
        let [old, new] = names;
        let package = "tenure-suite";
        let folder = build(&["--package", package, "--example", old, "--example", new]);
        names.map(|name| folder.join("examples").join(name))
    })
}

/// Builds what is named; the folder that holds it.
fn build(targets: &[&str]) -> PathBuf {
    let mut build = Command::new(env!("CARGO"));
    // What cargo tells a test about its own package would make build scripts that watch these
    // variables (ring's) run again, here and at the next build of the suite: half a minute each.
    for (name, _) in std::env::vars_os() {
        if is_about_this_package(&name) {
            build.env_remove(name);
        }
    }
    let done = build
        .args(["build", "--quiet"])
        .args(targets)
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .status();
    assert!(done.expect("cargo runs").success(), "the binary is built");
    // target/debug/deps/suite-… is where this test runs from.
    let this = std::env::current_exe().expect("a path");
    this.ancestors().nth(2).expect("target/debug").to_owned()
}

/// The Stripe sandbox's own binary, built with the product's.
pub(crate) fn stripe_sandbox() -> PathBuf {
    tenure().with_file_name("stripe-sandbox")
}

/// Whether a variable is cargo's word on the package that it runs, and not the user's to cargo.
fn is_about_this_package(name: &OsStr) -> bool {
    let name = name.to_string_lossy();
    name.starts_with("CARGO_PKG_") || name.starts_with("CARGO_MANIFEST_")
}

/// A port that was free a moment ago: the same for every start of a server.
fn free_address() -> SocketAddr {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    listener.local_addr().expect("an address")
}

/// `tenure serve` on an address of its own.
pub(crate) struct Server {
    address: SocketAddr,
    metrics: Option<SocketAddr>,
    database: String,
    stripe: String,
    smtp: String,
    child: Option<Child>,
}

impl Drop for Server {
    fn drop(&mut self) {
        self.kill();
    }
}

impl Server {
    pub(crate) fn new(database: String, stripe: String, smtp: String) -> Self {
        Self {
            address: free_address(),
            metrics: None,
            database,
            stripe,
            smtp,
            child: None,
        }
    }

    /// Another server on the same database, not started yet.
    pub(crate) fn twin(&self) -> Self {
        Self::new(
            self.database.clone(),
            self.stripe.clone(),
            self.smtp.clone(),
        )
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Serves metrics from the next start on; where.
    pub(crate) fn serve_metrics(&mut self) -> String {
        let address = *self.metrics.get_or_insert_with(free_address);
        format!("http://{address}/metrics")
    }

    pub(crate) fn start(&mut self) {
        self.start_by(self.command());
    }

    /// What starts it.
    pub(crate) fn command(&self) -> Command {
        let mut command = Command::new(tenure());
        command.arg("serve");
        if let Some(metrics) = self.metrics {
            command.arg("--metrics-listen").arg(metrics.to_string());
        }
        command
            .env("DATABASE_URL", &self.database)
            .env("TENURE_LISTEN", self.address.to_string())
            .env("TENURE_STRIPE_URL", &self.stripe)
            .env("TENURE_STRIPE_SECRET_KEY", SANDBOX_KEY)
            .env("TENURE_STRIPE_WEBHOOK_SECRETS", WEBHOOK_SECRET)
            .env("TENURE_SMTP_URL", &self.smtp)
            .env("TENURE_LEASE_SECONDS", "2")
            .env("TENURE_LOG", "warn,stripe=error,async_stripe=error");
        command
    }

    /// Starts it by a command that says itself what to serve, at this server's address.
    pub(crate) fn start_by(&mut self, mut command: Command) {
        let child = command.stdout(Stdio::null()).spawn();
        self.child = Some(child.expect("the server starts"));
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Starts it and waits until it is ready.
    pub(crate) async fn start_ready(&mut self, client: &tenure_client::Client) {
        self.start();
        self.ready(client).await;
    }

    /// Waits until it is ready.
    pub(crate) async fn ready(&self, client: &tenure_client::Client) {
        super::eventually("the server is ready", async || {
            client.readyz().await.is_ok()
        })
        .await;
    }

    /// Ends it without a word.
    pub(crate) fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    pub(crate) fn signal(&self, signal: Signal) {
        let child = self.child.as_ref().expect("it runs");
        let pid = Pid::from_raw(i32::try_from(child.id()).expect("a pid"));
        kill(pid, signal).expect("it takes the signal");
    }

    /// Waits for its end and says whether it was a success.
    pub(crate) fn wait(&mut self) -> bool {
        let mut child = self.child.take().expect("it runs");
        child.wait().expect("it ends").success()
    }
}

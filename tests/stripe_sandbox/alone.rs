//! The sandbox as a process of its own, started as its README says.

use std::path::Path;
use std::process::Stdio;

use stripe::ClientBuilder;
use stripe_core::customer::{CreateCustomer, ListCustomer};
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::{Child, Command};

use super::shop::KEY;
use crate::support::process::stripe_sandbox;

/// Starts it and reads the address that it prints.
async fn start(journal: &Path) -> (Child, String) {
    let mut child = Command::new(stripe_sandbox())
        .args(["--bind", "127.0.0.1:0", "--api-key", KEY, "--log", "warn"])
        .arg("--journal")
        .arg(journal)
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let printed = BufReader::new(child.stdout.take().unwrap());
    let url = printed.lines().next_line().await.unwrap().unwrap();
    (child, url)
}

#[tokio::test]
async fn the_sandbox_starts_alone_prints_its_address_and_survives_a_kill() {
    let folder = tempfile::tempdir().unwrap();
    let journal = folder.path().join("sandbox.jsonl");
    let (mut child, url) = start(&journal).await;
    assert!(url.starts_with("http://127.0.0.1:"), "{url}");
    let client = ClientBuilder::new(KEY).url(&url).build().unwrap();
    let made = CreateCustomer::new().email("billing@acme.example");
    let made = made.send(&client).await.unwrap();
    child.kill().await.unwrap();

    let (_child, url) = start(&journal).await;
    let client = ClientBuilder::new(KEY).url(&url).build().unwrap();
    let found = ListCustomer::new().send(&client).await.unwrap().data;
    assert_eq!(found[0].id, made.id);
}

#[tokio::test]
async fn a_key_that_could_be_a_live_one_is_refused_at_start() {
    let refused = Command::new(stripe_sandbox())
        .args(["--bind", "127.0.0.1:0", "--api-key", "sk_live_mine"])
        .output()
        .await
        .unwrap();
    assert!(!refused.status.success());
    let told = String::from_utf8_lossy(&refused.stderr);
    assert!(told.contains("sk_test_"), "{told}");
    assert!(refused.stdout.is_empty(), "there is no address");
}

//! `tenure plan-deploy`, and the worker that refuses to strand runs, as processes.

use std::process::{Command, Output};

use serde_json::Value;
use sqlx::PgConnection;

use crate::support::process::{Server, tenure};
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

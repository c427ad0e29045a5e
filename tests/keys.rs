//! Keys that seal tenants' payloads, through the API, the client and the command line.

use std::path::Path;
use std::process::Command;

use tenure_client::{
    Client, ClientError, DestroyKeys, IdempotencyKey, NewTenant, RewrapKeys, Role, RotateKey,
    RunFilter,
};
use tenure_engine::TenantId;

use crate::support;
use crate::support::app::{TestApp, seed, token};
use crate::support::process::{Server, tenure};

fn code<T: std::fmt::Debug>(answer: Result<T, ClientError>) -> (u16, String) {
    match answer.unwrap_err() {
        ClientError::Problem(problem) => (problem.status, problem.code),
        other => panic!("{other:?}"),
    }
}

fn refused(status: u16, code: &str) -> (u16, String) {
    (status, code.to_owned())
}

fn rewrap(limit: u32) -> RewrapKeys {
    RewrapKeys {
        limit,
        reason: "another master key".to_owned(),
    }
}

fn rotate(reason: &str) -> RotateKey {
    RotateKey {
        reason: reason.to_owned(),
    }
}

fn destroy(reason: &str) -> DestroyKeys {
    DestroyKeys {
        reason: reason.to_owned(),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_customers_life_is_the_same_with_sealed_payloads() {
    let app = TestApp::sealed().await;
    let subscriber = app.customer().starter().await;
    subscriber.advance("60d").await;
    let ledger = subscriber.ledger().await;
    assert_eq!(ledger.len(), 2, "{ledger:?}");
    assert!(
        ledger.iter().all(|line| line.contains("Paid")),
        "{ledger:?}"
    );
    let filter = RunFilter {
        tenant_id: Some(subscriber.tenant.tenant_id),
        ..RunFilter::default()
    };
    let runs = app.client.list_runs(&filter).await.unwrap().items;
    let mut conn = support::connect(&app.options).await;
    let clear: i64 = sqlx::query_scalar(
        "select count(*) from (
           select data from engine.run
           union all select answer from engine.step
           union all select payload from engine.inbox where payload <> 'null'
         ) as payload (bytes) where get_byte(bytes, 0) <> 1",
    )
    .fetch_one(&mut conn)
    .await
    .unwrap();
    assert_eq!(clear, 0, "payloads in clear");
    for run in runs {
        let shown = app.client.run(run.run_id).await.unwrap();
        let text = shown.data.to_string();
        assert!(!text.contains("unreadable") && text != "null", "{text}");
    }
    app.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_are_listed_rotated_and_destroyed_by_an_admin_only() {
    let app = TestApp::sealed().await;
    let fresh = IdempotencyKey::generate;
    let subscriber = app.customer().starter().await;
    let tenant = subscriber.tenant.tenant_id;
    let client = &app.client;
    assert_eq!(client.list_keys(tenant).await.unwrap().len(), 1);
    let once = fresh();
    let keys = client.rotate_key(tenant, &rotate("yearly"), &once).await;
    assert_eq!(keys.unwrap().len(), 2);
    let keys = client.rotate_key(tenant, &rotate("yearly"), &once).await;
    assert_eq!(keys.unwrap().len(), 2, "once per idempotency key");
    let unreasoned = client.rotate_key(tenant, &rotate(""), &fresh()).await;
    assert_eq!(code(unreasoned), refused(422, "invalid"));
    let unknown = client.list_keys(uuid::Uuid::nil()).await;
    assert_eq!(code(unknown), refused(404, "unknown_tenant"));

    let mut conn = support::connect(&app.options).await;
    let operator = token(&mut conn, Role::Operator, None).await;
    let own = token(&mut conn, Role::Admin, Some(TenantId(tenant))).await;
    for (token, denial) in [
        (operator, refused(403, "forbidden")),
        (own, refused(404, "not_found")),
    ] {
        let other = tenure_client::Client::new(&app.url, &token).unwrap();
        let denied = other.destroy_keys(tenant, &destroy("mine"), &fresh()).await;
        assert_eq!(code(denied), denial);
        let denied = other.rotate_key(tenant, &rotate("mine"), &fresh()).await;
        assert_eq!(code(denied), denial);
        let denied = other.rewrap_keys(&rewrap(10), &fresh()).await;
        assert_eq!(code(denied), denial);
    }

    let live = client
        .destroy_keys(tenant, &destroy("left"), &fresh())
        .await;
    assert_eq!(code(live), refused(409, "not_allowed"));
    let none = client.rewrap_keys(&rewrap(0), &fresh()).await;
    assert_eq!(code(none), refused(422, "invalid"));
    let done = client.rewrap_keys(&rewrap(1_000), &fresh()).await.unwrap();
    assert_eq!(done.rewrapped, 0, "all under the one master key");
    app.finish().await;
}

/// Runs the program; whether it ended well, and what it printed.
fn command(args: &[&str]) -> (bool, String) {
    let output = Command::new(tenure()).args(args).output().unwrap();
    let text = [output.stdout, output.stderr].concat();
    (output.status.success(), String::from_utf8(text).unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn the_command_line_makes_rotates_and_destroys() {
    let (done, pair) = command(&["key", "new", "2027-01"]);
    assert!(done && pair.starts_with("2027-01:"), "{pair}");
    let (done, text) = command(&["key", "new", "not:a:name"]);
    assert!(!done && text.contains("is not 32 bytes"), "{text}");

    let app = TestApp::sealed().await;
    let tenant = app.customer().starter().await.tenant.tenant_id.to_string();
    let ask = |args: &[&str]| {
        let api = ["--url", &app.url, "--token", &app.token];
        command(&[&["key"], args, &api].concat())
    };
    let (done, text) = ask(&["rotate", &tenant, "--reason", "yearly"]);
    assert!(done && text.contains("version 2"), "{text}");
    let (done, text) = ask(&["list", &tenant]);
    assert!(done && text.lines().count() == 2, "{text}");
    let other = uuid::Uuid::nil().to_string();
    let (done, text) = ask(&["destroy", &tenant, "--confirm", &other, "--reason", "left"]);
    assert!(!done && text.contains("nothing was destroyed"), "{text}");
    let (done, text) = ask(&["destroy", &tenant, "--confirm", &tenant, "--reason", "left"]);
    assert!(!done && text.contains("not ended"), "{text}");
    let (done, text) = ask(&["rewrap", "--reason", "another master key"]);
    assert!(done && text.contains("0 keys"), "{text}");
    app.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_process_that_could_not_read_what_is_stored_does_not_begin() {
    let url = support::database_url().await;
    let app = TestApp::sealed_on(url.parse().unwrap()).await;
    app.customer().starter().await;
    let (done, text) = command(&["plan-deploy", "--database-url", &url]);
    assert!(
        !done && text.contains("no master key is configured here"),
        "{text}"
    );
    let (_, other) = command(&["key", "new", "other"]);
    let serve = ["serve", "--listen", "127.0.0.1:0", "--database-url", &url];
    let stripe = [
        "--stripe-secret-key",
        "sk_test_x",
        "--smtp-url",
        "smtp://127.0.0.1:9",
    ];
    for (master, says) in [
        (&[][..], "no master key is configured here"),
        (
            &["--master-key", other.trim()][..],
            "\"suite\" is not configured here",
        ),
        (
            &["--master-key", "nonsense"][..],
            "master key 1 is no name:key",
        ),
    ] {
        let (done, text) = command(&[&serve[..], &stripe, master].concat());
        assert!(!done && text.contains(says), "{says}: {text}");
    }
    app.finish().await;
}

/// What makes `tenure serve` whole but for what seals; it has no database to reach.
const SERVE: [&str; 10] = [
    "serve",
    "--no-workers",
    "--listen",
    "127.0.0.1:0",
    "--database-url",
    "postgres://tenure@127.0.0.1:1/x",
    "--stripe-secret-key",
    "sk_test_x",
    "--smtp-url",
    "smtp://127.0.0.1:9",
];
const VARIABLE: &str = "TENURE_MASTER_KEY";
const FILE_VARIABLE: &str = "TENURE_MASTER_KEY_FILE";

fn new_master_key(name: &str) -> String {
    let (done, pair) = command(&["key", "new", name]);
    assert!(done, "{pair}");
    pair.trim().to_owned()
}

/// What the program says when it refuses a line under these variables.
fn refusal(args: &[&str], variables: &[(&str, &Path)]) -> String {
    let output = Command::new(tenure())
        .args(args)
        .env_remove(VARIABLE)
        .envs(variables.iter().copied())
        .output()
        .unwrap();
    assert!(!output.status.success(), "{variables:?}");
    String::from_utf8(output.stderr).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_master_key_in_a_file_seals_what_a_server_stores_and_opens_it_for_others() {
    let database = support::database_url().await;
    let admin = seed(&database.parse().unwrap()).await;
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("master-key");
    // As an editor leaves it; the second key would open what an older one wrapped.
    let (newer, older) = (new_master_key("newer"), new_master_key("older"));
    std::fs::write(&file, format!("{newer}\n{older}\n")).unwrap();
    let nowhere = "http://127.0.0.1:1/".to_owned();
    let nobody = "smtp://127.0.0.1:1".to_owned();
    let mut server = Server::new(database.clone(), nowhere, nobody);
    let mut line = server.command();
    line.arg("--no-workers").env(FILE_VARIABLE, &file);
    server.start_by(line);
    let client = Client::new(&server.url(), &admin).unwrap();
    server.ready(&client).await;
    let new = NewTenant {
        name: "Acme".to_owned(),
        email: "billing@acme.example".to_owned(),
        zone: "UTC".to_owned(),
        locale: None,
        test_clock: None,
        legal_entity: None,
    };
    let once = IdempotencyKey::generate();
    let tenant = client.create_tenant(&new, &once).await.unwrap();
    let keys = client.list_keys(tenant.tenant_id).await.unwrap();
    let names: Vec<&str> = keys.iter().map(|key| key.master_key.as_str()).collect();
    assert_eq!(names, ["newer"], "the first wraps");
    let mut conn = support::connect(&database.parse().unwrap()).await;
    let sealed: Vec<bool> = sqlx::query_scalar("select get_byte(data, 0) = 1 from engine.run")
        .fetch_all(&mut conn)
        .await
        .unwrap();
    assert_eq!(sealed, [true], "the tenant's run");

    let plan = ["plan-deploy", "--database-url", &database];
    let without = refusal(&plan, &[]);
    assert!(without.contains("no master key is"), "{without}");
    let file = file.to_str().unwrap();
    let (done, text) = command(&[&plan[..], &["--master-key-file", file]].concat());
    assert!(done && text.contains("would strand nothing"), "{text}");
}

#[test]
fn a_file_that_holds_no_master_key_is_refused_by_name() {
    let folder = tempfile::tempdir().unwrap();
    let good = new_master_key("good");
    let short = "short:c2hvcnQ=";
    let twice = format!("{good}\n{good}\n");
    for (name, content, says) in [
        ("empty", &b" \n"[..], "empty holds no secret"),
        ("words", &b"open sesame"[..], "master key 1 is no name:key"),
        ("short", short.as_bytes(), "master key \"short\" is not 32"),
        ("twice", twice.as_bytes(), "two master keys are called"),
        ("bytes", &b"\xff\xfe"[..], "cannot read "),
    ] {
        let file = folder.path().join(name);
        std::fs::write(&file, content).unwrap();
        let refused = refusal(&SERVE, &[(FILE_VARIABLE, file.as_path())]);
        assert!(refused.contains(says), "{name}: {refused}");
        assert!(!refused.contains("c2hvcnQ"), "{name}: {refused}");
    }
    let missing = folder.path().join("missing");
    for nothing in [missing.as_path(), folder.path()] {
        let refused = refusal(&SERVE, &[(FILE_VARIABLE, nothing)]);
        let says = format!("cannot read {}", nothing.display());
        assert!(refused.contains(&says), "{refused}");
    }

    let file = folder.path().join("good");
    std::fs::write(&file, &good).unwrap();
    let variables = [
        (FILE_VARIABLE, file.as_path()),
        (VARIABLE, Path::new(&good)),
    ];
    let twice = refusal(&SERVE, &variables);
    assert!(twice.contains("cannot be used with"), "{twice}");
    let flagged = [&SERVE[..], &["--master-key", &good]].concat();
    let twice = refusal(&flagged, &variables[..1]);
    assert!(twice.contains("cannot be used with"), "{twice}");
}

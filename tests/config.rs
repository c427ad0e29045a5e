//! The configuration of `tenure serve`: which source counts, what is masked, what is refused.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use reqwest::StatusCode;
use toml_edit::DocumentMut;

use crate::api::signature;
use crate::support::process::{Server, tenure};
use crate::support::{self, eventually};

/// A folder with the files of one test.
struct Files(tempfile::TempDir);

impl Files {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.0.path().join(name);
        std::fs::write(&path, text).unwrap();
        path
    }
}

/// `tenure serve` with nothing of the suite's own environment.
fn serve(flags: &[&str], environment: &[(&str, &str)]) -> Command {
    let mut command = Command::new(tenure());
    command.arg("serve").args(flags);
    command.env_clear().envs(environment.iter().copied());
    command
}

/// What `--print-config` prints.
fn printed(config: Option<&Path>, flags: &[&str], environment: &[(&str, &str)]) -> String {
    let mut command = serve(flags, environment);
    command.arg("--print-config");
    if let Some(path) = config {
        command.arg("--config").arg(path);
    }
    let output = command.output().unwrap();
    assert!(output.status.success(), "{}", complaint(&output));
    String::from_utf8(output.stdout).unwrap()
}

/// What it says when it refuses to start.
fn refusal(config: &Path, flags: &[&str], environment: &[(&str, &str)]) -> String {
    let mut command = serve(flags, environment);
    let output = command.arg("--config").arg(config).output().unwrap();
    assert!(!output.status.success());
    complaint(&output)
}

fn complaint(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// The line about a key.
fn line<'a>(printed: &'a str, key: &str) -> &'a str {
    let start = format!("{key} = ");
    let mut lines = printed.lines();
    let found = lines.find(|line| line.starts_with(&start));
    found.unwrap_or_else(|| panic!("no {key} in:\n{printed}"))
}

/// The values alone, by key.
fn values(printed: &str) -> Vec<(String, String)> {
    let document: DocumentMut = printed.parse().unwrap();
    let value = |item: &toml_edit::Item| {
        let mut value = item.as_value().unwrap().clone();
        value.decor_mut().clear();
        value.to_string()
    };
    document
        .iter()
        .map(|(key, item)| (key.to_owned(), value(item)))
        .collect()
}

#[test]
fn a_flag_outranks_the_environment_that_outranks_the_file_that_outranks_the_default() {
    let files = Files::new();
    let config = files.write("tenure.toml", "lease_seconds = 30\n");
    let lease = |config, flags: &[&str], environment: &[(&str, &str)]| {
        let printed = printed(config, flags, environment);
        line(&printed, "lease_seconds").to_owned()
    };
    let flag: &[&str] = &["--lease-seconds", "50"];
    let variable: &[(&str, &str)] = &[("TENURE_LEASE_SECONDS", "40")];
    let file = Some(config.as_path());
    assert_eq!(lease(None, &[], &[]), "lease_seconds = 10 # default");
    assert_eq!(
        lease(file, &[], &[]),
        format!("lease_seconds = 30 # file {}", config.display())
    );
    assert_eq!(
        lease(file, &[], variable),
        "lease_seconds = 40 # environment TENURE_LEASE_SECONDS"
    );
    assert_eq!(lease(file, flag, variable), "lease_seconds = 50 # flag");
}

#[test]
fn the_environment_can_name_the_file_and_a_flag_another() {
    let files = Files::new();
    let one = files.write("one.toml", "environment = \"one\"\nlog = \"warn\"\n");
    let two = files.write("two.toml", "environment = \"two\"\nno_workers = true\n");
    let variable = [("TENURE_CONFIG", one.to_str().unwrap())];
    let from_one = printed(None, &[], &variable);
    let source = format!("# file {}", one.display());
    assert_eq!(
        line(&from_one, "environment"),
        format!("environment = \"one\" {source}")
    );
    // An option of all commands is a key like any other.
    assert_eq!(line(&from_one, "log"), format!("log = \"warn\" {source}"));
    let from_two = printed(Some(&two), &[], &variable);
    let source = format!("# file {}", two.display());
    assert_eq!(
        line(&from_two, "environment"),
        format!("environment = \"two\" {source}")
    );
    assert_eq!(
        line(&from_two, "no_workers"),
        format!("no_workers = true {source}")
    );
}

#[test]
fn no_secret_is_printed_wherever_it_comes_from() {
    let files = Files::new();
    let text = "stripe_webhook_secrets = [\"whsec_hidden_1\", \"whsec_hidden_2\"]\n\
                smtp_url = \"smtps://u:hidden@mail.example\"\n";
    let config = files.write("tenure.toml", text);
    let printed = printed(
        Some(&config),
        &["--stripe-secret-key", "sk_hidden"],
        &[("DATABASE_URL", "postgres://u:hidden@db/x")],
    );
    assert!(!printed.contains("hidden"), "{printed}");
    let file = config.display();
    for expected in [
        "database_url = \"***\" # environment DATABASE_URL".to_owned(),
        "stripe_secret_key = \"***\" # flag".to_owned(),
        format!("stripe_webhook_secrets = [\"***\", \"***\"] # file {file}"),
        format!("smtp_url = \"***\" # file {file}"),
    ] {
        assert!(printed.lines().any(|line| line == expected), "{printed}");
    }
}

#[test]
fn what_is_printed_can_be_used_as_the_file() {
    let files = Files::new();
    let secrets = [
        ("DATABASE_URL", "postgres://u:hidden@db/x"),
        ("TENURE_STRIPE_WEBHOOK_SECRETS", "whsec_1,whsec_2"),
    ];
    let flags = [
        "--no-api",
        "--in-flight=7",
        "--mail-from=\"A \\ 'B'\" <a@b.example>",
        "--smtp-url-file=/run/secrets/smtp",
        "--log-format=json",
    ];
    let first = printed(None, &flags, &secrets);
    let config = files.write("printed.toml", &first);
    let second = printed(Some(&config), &[], &secrets);
    assert_eq!(values(&second), values(&first));
    assert_eq!(
        line(&second, "no_api"),
        format!("no_api = true # file {}", config.display())
    );
    // Without the environment, the mask would be taken for the secret.
    let refused = refusal(&config, &[], &[]);
    assert!(
        refused.contains(":1: `database_url`: `***` masks a secret"),
        "{refused}"
    );
}

#[test]
fn a_file_that_makes_no_sense_is_refused_with_line_and_key() {
    let files = Files::new();
    let cases = [
        ("\nlisen = \"x\"", ":2: unknown key `lisen`;"),
        ("config = \"x\"", ":1: unknown key `config`;"),
        ("[log]\nx = 1", ":1: `log`: wants a value of type string"),
        (
            "# one\nthreads = \"2\"",
            ":2: `threads`: wants a value of type integer, not string",
        ),
        ("threads = 0", ":1: `threads`: is malformed: 0 is not in"),
        (
            "no_api = 1",
            ":1: `no_api`: wants a value of type boolean, not integer",
        ),
        (
            "stripe_webhook_secrets = \"whsec_hidden\"",
            ":1: `stripe_webhook_secrets`: wants a value of type array of string, not string",
        ),
        (
            "stripe_webhook_secrets = [\"whsec_hidden\", 2]",
            ":1: `stripe_webhook_secrets`: wants a value of type array of string, not array with",
        ),
        (
            "stripe_webhook_secrets = [\"whsec_hidden,b\"]",
            ":1: `stripe_webhook_secrets`: one value holds `,`",
        ),
        (
            "log_format = \"xml\"",
            ":1: `log_format`: must be one of text, json",
        ),
        ("listen = \"here\"", ":1: `listen`: is malformed: "),
        ("\nlisten = here", ":2: `listen`: "),
        ("stripe_secret_key = \"hidden", ":1: `stripe_secret_key`: "),
        ("log = \"a\"\nlog = \"b\"", ":2: `log`: duplicate key"),
        (
            "no_api = true\nno_workers = true",
            ":2: `no_workers`: cannot be given together with `no_api` of line 1",
        ),
        (
            "database_url = \"hidden\"\ndatabase_url_file = \"/x\"",
            ":2: `database_url_file`: cannot be given together with `database_url` of line 1",
        ),
    ];
    for (text, expected) in cases {
        let config = files.write("tenure.toml", text);
        let expected = format!("tenure: {}{expected}", config.display());
        let refused = refusal(&config, &[], &[]);
        assert!(refused.starts_with(&expected), "{text}\n{refused}");
        assert!(!refused.contains("hidden"), "{text}\n{refused}");
    }
    let missing = files.0.path().join("missing.toml");
    let refused = refusal(&missing, &[], &[]);
    let expected = format!("cannot read the configuration {}: ", missing.display());
    assert!(refused.contains(&expected), "{refused}");
}

#[test]
fn what_excludes_a_key_of_the_file_outranks_it_too() {
    let files = Files::new();
    let text = "database_url_file = \"/run/secrets/database\"\nno_workers = true\n";
    let config = files.write("tenure.toml", text);
    let printed = printed(
        Some(&config),
        &["--no-api"],
        &[("DATABASE_URL", "postgres://u@db/x")],
    );
    assert!(printed.contains("\n# database_url_file is not set\n"));
    assert_eq!(line(&printed, "no_workers"), "no_workers = false # default");
    assert_eq!(line(&printed, "no_api"), "no_api = true # flag");
}

#[test]
fn a_secrets_file_that_is_missing_empty_or_besides_the_secret_is_refused() {
    let files = Files::new();
    let good = files.write("good", "postgres://u@127.0.0.1:1/x\n");
    let empty = files.write("empty", "\n");
    let config = files.write("tenure.toml", "listen = \"127.0.0.1:0\"\n");
    let missing = files.0.path().join("missing");
    let database = ("DATABASE_URL_FILE", good.to_str().unwrap());
    let key = ("TENURE_STRIPE_SECRET_KEY", "sk_test_suite");
    let mail = ("TENURE_SMTP_URL", "smtp://127.0.0.1:1");
    for (path, expected) in [
        (&missing, format!("cannot read {}", missing.display())),
        (&empty, format!("{} holds no secret", empty.display())),
    ] {
        let path = path.to_str().unwrap();
        let variables: [&[(&str, &str)]; 5] = [
            &[("DATABASE_URL_FILE", path)],
            &[database, ("TENURE_STRIPE_SECRET_KEY_FILE", path)],
            &[database, key, ("TENURE_STRIPE_WEBHOOK_SECRETS_FILE", path)],
            &[database, key, ("TENURE_SMTP_URL_FILE", path)],
            &[database, key, mail, ("TENURE_MASTER_KEY_FILE", path)],
        ];
        for variables in variables {
            let refused = refusal(&config, &[], variables);
            assert!(refused.contains(&expected), "{variables:?}\n{refused}");
        }
    }
    let both = [database, ("DATABASE_URL", "postgres://u@db/x")];
    let refused = refusal(&config, &[], &both);
    assert!(refused.contains("cannot be used with"), "{refused}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_starts_from_a_file_that_names_the_files_of_its_secrets() {
    let files = Files::new();
    let database = support::database_url().await;
    let nowhere = "http://127.0.0.1:1/".to_owned();
    let mut server = Server::new(database.clone(), nowhere, String::new());
    let text = [
        format!("listen = \"{}\"", server.address()),
        "stripe_url = \"http://127.0.0.1:1/\"".to_owned(),
        "log = \"error\"".to_owned(),
        "no_workers = true".to_owned(),
        file_key(&files, "database_url", &format!("{database}\n")),
        file_key(&files, "stripe_secret_key", "sk_test_suite\n"),
        file_key(&files, "stripe_webhook_secrets", "whsec_old\nwhsec_new\n"),
        file_key(&files, "smtp_url", "smtp://127.0.0.1:1\n"),
    ];
    let config = files.write("tenure.toml", &text.join("\n"));
    server.start_by(serve(&["--config", config.to_str().unwrap()], &[]));
    let client = tenure_client::Client::new(&server.url(), "no token").unwrap();
    eventually("the server is ready", async || {
        client.readyz().await.is_ok()
    })
    .await;

    let mut conn = support::connect(&database.parse().unwrap()).await;
    let now: i64 = sqlx::query_scalar("select extract(epoch from now())::bigint")
        .fetch_one(&mut conn)
        .await
        .unwrap();
    let _ = rustls::crypto::ring::default_provider().install_default();
    let body = r#"{"id": "evt_config", "type": "charge.updated", "data": {"object": {}}}"#;
    for (secret, expected) in [
        ("whsec_old", StatusCode::OK),
        ("whsec_new", StatusCode::OK),
        ("whsec_old\nwhsec_new", StatusCode::BAD_REQUEST),
        ("", StatusCode::BAD_REQUEST),
    ] {
        let request = reqwest::Client::new()
            .post(format!("{}/v1/webhooks/stripe", server.url()))
            .header("stripe-signature", signature(body, secret, now))
            .body(body);
        let answer = request.send().await.unwrap();
        assert_eq!(answer.status(), expected, "{secret:?}");
    }
}

/// The key for the file of a secret, which is written.
fn file_key(files: &Files, secret: &str, text: &str) -> String {
    let path = files.write(secret, text);
    format!("{secret}_file = \"{}\"", path.display())
}

#[test]
fn the_reference_is_current_and_has_a_file_for_every_secret() {
    let output = Command::new(tenure())
        .arg("configuration")
        .env_clear()
        .output()
        .unwrap();
    assert!(output.status.success());
    let current = String::from_utf8(output.stdout).unwrap();
    assert!(
        current == include_str!("../docs/configuration.md"),
        "docs/configuration.md is not current; run: cargo run -- configuration > docs/configuration.md"
    );
    let mut secrets = 0;
    for section in current.split("\n## ") {
        for row in section.lines().filter(|row| row.ends_with(" Secret. |")) {
            let name = row.split('`').nth(3).unwrap();
            let twin = format!("`{name}_FILE`");
            assert!(section.contains(&twin), "no {twin} in\n{section}");
            secrets += 1;
        }
    }
    assert!(secrets >= 4, "the database, Stripe's two, the mail server");
}

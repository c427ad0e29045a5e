//! Starting and signalling from SQL, in a transaction of the product's own.

use std::path::PathBuf;
use std::process::Command;

use serde_json::json;
use sqlx::{AssertSqlSafe, Connection as _, PgConnection};
use tenure_engine::{RunId, Status, TenantId};
use uuid::Uuid;

use super::workflows::{Door, Errand, Outside, registry};
use crate::support::engine::TestEngine;
use crate::support::{binaries, connect, unique, url};

/// A connection of the product, which may start and signal and nothing else.
async fn product(engine: &TestEngine) -> PgConnection {
    let mut conn = connect(&engine.options).await;
    sqlx::raw_sql("set role tenure_client")
        .execute(&mut conn)
        .await
        .unwrap();
    conn
}

async fn start(
    conn: &mut PgConnection,
    tenant: TenantId,
    workflow: &str,
    key: &str,
    input: serde_json::Value,
) -> Result<RunId, sqlx::Error> {
    let started: Result<Uuid, _> = sqlx::query_scalar("select engine.start_run($1, $2, $3, $4)")
        .bind(tenant.0)
        .bind(workflow)
        .bind(key)
        .bind(input)
        .fetch_one(conn)
        .await;
    started.map(RunId)
}

async fn signal(
    conn: &mut PgConnection,
    tenant: TenantId,
    key: &str,
    id: &str,
    signal: serde_json::Value,
) -> Result<String, sqlx::Error> {
    sqlx::query_scalar("select engine.send_signal($1, 'door', $2, $3, $4)")
        .bind(tenant.0)
        .bind(key)
        .bind(id)
        .bind(signal)
        .fetch_one(conn)
        .await
}

fn code<T: std::fmt::Debug>(result: Result<T, sqlx::Error>) -> String {
    let error = result.unwrap_err();
    let error = error.as_database_error().unwrap();
    error.code().unwrap().into_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_start_and_a_signal_live_and_die_with_the_callers_transaction() {
    let engine = TestEngine::new(registry(&Outside::default())).await;
    let mut conn = product(&engine).await;
    let mut tx = conn.begin().await.unwrap();
    start(&mut tx, engine.tenant, "door", "gone", json!(null))
        .await
        .unwrap();
    tx.rollback().await.unwrap();
    let mut tx = conn.begin().await.unwrap();
    let run = start(&mut tx, engine.tenant, "door", "kept", json!(null))
        .await
        .unwrap();
    let told = signal(&mut tx, engine.tenant, "kept", "s1", json!("Open")).await;
    assert_eq!(told.unwrap(), "accepted");
    let knock = json!({"Knock": "ann"});
    signal(&mut tx, engine.tenant, "kept", "s2", knock.clone())
        .await
        .unwrap();
    // While it is open, nobody waits for it and nobody sees it.
    engine.drain().await;
    tx.commit().await.unwrap();
    engine.drain().await;
    let detail = engine.detail(run).await;
    assert_eq!(detail.data, json!({"Open": {"heard": ["ann"]}}));
    assert_eq!(
        (detail.summary.state.as_str(), detail.summary.version),
        ("Open", 1)
    );
    assert_eq!(
        run.shard(),
        engine.tenant.shard(),
        "the id carries the shard"
    );

    let repeated = signal(&mut conn, engine.tenant, "kept", "s2", knock).await;
    assert_eq!(repeated.unwrap(), "repeated");
    signal(&mut conn, engine.tenant, "kept", "s3", json!("Finish"))
        .await
        .unwrap();
    sqlx::query("select engine.ring()")
        .execute(&mut conn)
        .await
        .unwrap();
    engine.drain().await;
    assert_eq!(engine.status(run).await, Status::Completed);
    let late = signal(&mut conn, engine.tenant, "kept", "s4", json!("Push")).await;
    assert_eq!(late.unwrap(), "late");
    let runs: i64 = sqlx::query_scalar("select count(*) from engine.run")
        .fetch_one(engine.pool())
        .await
        .unwrap();
    assert_eq!(runs, 1);
    engine.assert_nothing_lost().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn both_ways_in_agree_on_what_the_same_start_is() {
    let engine = TestEngine::new(registry(&Outside::default())).await;
    let mut conn = product(&engine).await;
    let mut owner = connect(&engine.options).await;
    // Keys in another order, umlauts, quotes and an empty object: the same input all the same.
    let names = ["b", "ä", "\"q\"", ""].map(str::to_owned).to_vec();
    let by_rust = engine
        .start::<super::workflows::Family>("family", &names)
        .await;
    let by_sql = start(&mut conn, engine.tenant, "family", "family", json!(names)).await;
    assert_eq!(by_sql.unwrap(), by_rust);
    for (value, canonical) in [
        (
            json!({"b": 1, "aa": {}, "a": [true, null, 1.5]}),
            r#"{"a":[true,null,1.5],"aa":{},"b":1}"#,
        ),
        (
            json!({"ä": "\u{1f}\n\"\\/", "z": []}),
            "{\"z\":[],\"ä\":\"\\u001f\\n\\\"\\\\/\"}",
        ),
    ] {
        let text: String = sqlx::query_scalar("select engine.canonical_json($1)")
            .bind(&value)
            .fetch_one(&mut owner)
            .await
            .unwrap();
        assert_eq!(text, canonical);
        assert_eq!(text, serde_json::to_string(&value).unwrap());
    }
    let by_sql = start(&mut conn, engine.tenant, "errand", "e", json!(0))
        .await
        .unwrap();
    let again = start(&mut conn, engine.tenant, "errand", "e", json!(0)).await;
    assert_eq!(again.unwrap(), by_sql);
    assert_eq!(engine.start::<Errand>("e", &0).await, by_sql);
    let other = start(&mut conn, engine.tenant, "errand", "e", json!(1)).await;
    assert_eq!(code(other), "23505");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_does_not_fit_is_refused_by_name_and_an_input_that_nobody_can_read_is_kept() {
    let engine = TestEngine::new(registry(&Outside::default())).await;
    let mut conn = product(&engine).await;
    let tenant = engine.tenant;
    let stranger = engine.add_tenant(None).await;
    engine.start::<Door>("d", &()).await;
    let cases = [
        (
            code(start(&mut conn, TenantId(Uuid::nil()), "door", "k", json!(null)).await),
            "P0002",
        ),
        (
            code(start(&mut conn, tenant, "door", "", json!(null)).await),
            "23514",
        ),
        (
            code(start(&mut conn, tenant, "", "k", json!(null)).await),
            "23514",
        ),
        (
            code(start(&mut conn, tenant, "door", "k", json!("x".repeat(1_100_000))).await),
            "54000",
        ),
        (
            code(signal(&mut conn, stranger, "d", "s", json!("Open")).await),
            "P0002",
        ),
        (
            code(signal(&mut conn, tenant, "d", "", json!("Open")).await),
            "23514",
        ),
        (
            code(signal(&mut conn, tenant, "d", "s", json!(3)).await),
            "23514",
        ),
    ];
    for (place, (was, expected)) in cases.iter().enumerate() {
        assert_eq!(was, expected, "case {place}");
    }
    for statement in [
        "select count(*) from engine.run",
        "insert into engine.nudge values (gen_random_uuid(), 1, gen_random_uuid())",
        "select engine.new_id(1::smallint)",
        "select count(*) from app.tenant",
    ] {
        let refused = sqlx::query(statement).execute(&mut conn).await;
        assert_eq!(code(refused), "42501", "{statement}");
    }
    let odd = start(&mut conn, tenant, "errand", "odd", json!("no number"))
        .await
        .unwrap();
    engine.drain().await;
    let detail = engine.detail(odd).await;
    assert_eq!(detail.summary.stuck.as_deref(), Some("undecodable"));
    assert!(
        detail.why.summary.contains("the input does not fit"),
        "{:?}",
        detail.why
    );
    assert_eq!(detail.data, json!("no number"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_start_whose_keys_holder_is_dropped_at_that_moment_has_a_run() {
    let engine = TestEngine::new(registry(&Outside::default())).await;
    let mut conn = product(&engine).await;
    let tenant = engine.tenant;
    let first = start(&mut conn, tenant, "errand", "k", json!(0)).await;
    engine.drain().await;
    // Retention has its turn between the two statements of the door: after the insert that met the
    // holder, before the look at the holder.
    let mut owner = connect(&engine.options).await;
    sqlx::raw_sql(
        "create table public.turn (taken boolean);
         insert into public.turn values (false);
         create function public.drop_holder() returns trigger language plpgsql security definer as $$
         begin
           delete from public.turn;
           if found then
             delete from engine.run where key = 'k';
           end if;
           return null;
         end $$;
         create trigger drop_holder after insert on engine.run
           for each statement execute function public.drop_holder();",
    )
    .execute(&mut owner)
    .await
    .unwrap();
    let second = start(&mut conn, tenant, "errand", "k", json!(0)).await;
    assert_ne!(second.unwrap(), first.unwrap());
}

/// The URL of a login of a product's own, with the one grant that the operator's guide names.
async fn product_url(engine: &TestEngine) -> String {
    let login = format!("product_{}", unique());
    let make = format!("create role {login} login; grant tenure_client to {login}");
    sqlx::raw_sql(AssertSqlSafe(make))
        .execute(&mut connect(&engine.options).await)
        .await
        .unwrap();
    let owner = url(&engine.options).await;
    let (_, server) = owner.split_once('@').unwrap();
    format!("postgres://{login}@{server}")
}

/// Runs statements in one session of `psql`, up to the first that is refused; whether all were done,
/// and the lines that it printed.
fn psql(url: &str, statements: &[String]) -> (bool, Vec<String>) {
    let own = binaries().bin_dir.join("psql");
    // Some packages bring the server alone; then the one on PATH is meant.
    let program = if own.is_file() {
        own
    } else {
        PathBuf::from("psql")
    };
    let mut command = Command::new(program);
    command.args(["-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1", "-d", url]);
    for statement in statements {
        command.args(["-c", statement]);
    }
    let output = command.output().expect("psql is there");
    let text = [output.stdout, output.stderr].concat();
    let text = String::from_utf8(text).unwrap();
    let lines = text.lines().map(str::to_owned).collect();
    (output.status.success(), lines)
}

/// Both doors in one transaction, and how it ends.
fn opened_door(tenant: TenantId, key: &str, end: &str) -> [String; 4] {
    let run = format!("'{tenant}', 'door', '{key}'");
    [
        "begin".to_owned(),
        format!("select engine.start_run({run}, 'null')"),
        format!("select engine.send_signal({run}, 's1', '\"Open\"')"),
        end.to_owned(),
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn psql_starts_and_signals_in_a_transaction_that_is_committed_or_not() {
    let engine = TestEngine::new(registry(&Outside::default())).await;
    let url = product_url(&engine).await;
    let (done, told) = psql(&url, &opened_door(engine.tenant, "gone", "rollback"));
    assert!(done && told.len() == 2, "{told:?}");
    let (done, told) = psql(&url, &opened_door(engine.tenant, "kept", "commit"));
    assert!(done && told[1] == "accepted", "{told:?}");
    let run = RunId(told[0].parse().unwrap());
    engine.drain().await;
    let detail = engine.detail(run).await;
    assert_eq!(detail.summary.key, "kept");
    assert_eq!(detail.data, json!({"Open": {"heard": []}}));
    let runs: i64 = sqlx::query_scalar("select count(*) from engine.run")
        .fetch_one(engine.pool())
        .await
        .unwrap();
    assert_eq!(runs, 1, "what was rolled back was never there");

    // Both doors know what was done before, and the bell may be rung.
    let (done, again) = psql(&url, &opened_door(engine.tenant, "kept", "commit"));
    assert!(done, "{again:?}");
    assert_eq!(again, [told[0].as_str(), "repeated"]);
    let finish = format!(
        "select engine.send_signal('{}', '{}', 's2', '\"Finish\"')",
        engine.tenant, run
    );
    let ring = "select engine.ring()".to_owned();
    let (done, told) = psql(&url, &[finish, ring]);
    assert!(done && told[0] == "accepted", "{told:?}");
    engine.drain().await;
    assert_eq!(engine.status(run).await, Status::Completed);
    engine.assert_nothing_lost().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn psql_is_told_what_does_not_fit_and_nothing_of_its_transaction_stays() {
    let engine = TestEngine::new(registry(&Outside::default())).await;
    let url = product_url(&engine).await;
    let tenant = engine.tenant;
    let nobody = Uuid::nil();
    let long = "k".repeat(256);
    for (statement, says) in [
        (
            "select engine.start_run('acme', 'door', 'k', 'null')".to_owned(),
            "invalid input syntax for type uuid: \"acme\"".to_owned(),
        ),
        (
            format!("select engine.start_run('{tenant}', 'door', 'k', '{{broken')"),
            "invalid input syntax for type json".to_owned(),
        ),
        (
            format!("select engine.start_run('{nobody}', 'door', 'k', 'null')"),
            format!("no tenant {nobody} is registered"),
        ),
        (
            format!("select engine.start_run('{tenant}', 'door', '{long}', 'null')"),
            "a key has 1 to 255 bytes".to_owned(),
        ),
        (
            format!("select engine.send_signal('{tenant}', 'door', 'lost', 's', '\"Open\"')"),
            "no run of door with key 'lost' exists".to_owned(),
        ),
        (
            format!("select engine.send_signal('{tenant}', 'door', 'half', 's', '3')"),
            "a signal is a name, or an object with one member of that name".to_owned(),
        ),
        (
            "select count(*) from engine.run".to_owned(),
            "permission denied for".to_owned(),
        ),
    ] {
        let good = format!("select engine.start_run('{tenant}', 'door', 'half', 'null')");
        let begin = "begin".to_owned();
        let commit = "commit".to_owned();
        let (done, told) = psql(&url, &[begin, good, statement.clone(), commit]);
        let error = told.iter().find(|line| line.contains("ERROR:"));
        assert!(!done, "{statement}");
        let error = error.unwrap_or_else(|| panic!("{statement}: {told:?}"));
        assert!(error.contains(&says), "{statement}: {error}");
    }
    let runs: i64 = sqlx::query_scalar("select count(*) from engine.run")
        .fetch_one(engine.pool())
        .await
        .unwrap();
    assert_eq!(runs, 0);
}

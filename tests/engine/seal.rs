//! Sealed payloads: nothing private lies in the database in clear, and nothing is lost when keys are
//! away, rotated or destroyed.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use sqlx::AssertSqlSafe;
use sqlx::postgres::PgConnectOptions;
use tenure_engine::flow::Author;
use tenure_engine::operator::{self, Act, Verb};
use tenure_engine::seal::{self, Keyring, LocalMasterKey, MasterKey, MasterKeyError};
use tenure_engine::testkit::{Play, Scene, fault_matrix};
use tenure_engine::{
    Context, EngineError, Event, FanOut, FinishedRun, Registry, RegistryBuilder, RetryPolicy,
    RunId, Status, StepError, Transition, Workflow,
};

use crate::support::connect;
use crate::support::engine::TestEngine;

/// What must never be seen in the database.
const SECRET: &str = "4242-Ada-Lovelace";

/// Repeats what it is given.
struct Echo;

#[derive(Debug, Serialize, Deserialize)]
enum EchoState {
    Has(String),
}

#[derive(Debug, Serialize, Deserialize)]
enum Never {}

impl Workflow for Echo {
    const NAME: &'static str = "echo";
    const VERSION: i32 = 1;
    type Input = String;
    type State = EchoState;
    type Signal = Never;
    type Output = String;

    fn start(&self, word: String) -> EchoState {
        EchoState::Has(word)
    }

    async fn handle(
        &self,
        _cx: &Context,
        EchoState::Has(word): EchoState,
        _event: Event<Never>,
    ) -> Result<Transition<Self>, StepError> {
        Ok(Transition::complete(word))
    }
}

/// Puts what it is given wherever a payload can be.
struct Keeper;

#[derive(Debug, Serialize, Deserialize)]
enum KeeperState {
    Keeps(String, Vec<String>),
}

#[derive(Debug, Serialize, Deserialize)]
enum KeeperSignal {
    /// Ends with all that was heard.
    Tell(String),
    /// Fails for good with something to undo.
    Break,
}

impl Workflow for Keeper {
    const NAME: &'static str = "keeper";
    const VERSION: i32 = 1;
    type Input = String;
    type State = KeeperState;
    type Signal = KeeperSignal;
    type Output = Vec<String>;

    fn start(&self, word: String) -> KeeperState {
        KeeperState::Keeps(word, Vec::new())
    }

    async fn handle(
        &self,
        cx: &Context,
        KeeperState::Keeps(word, mut heard): KeeperState,
        event: Event<KeeperSignal>,
    ) -> Result<Transition<Self>, StepError> {
        match event {
            Event::Entered => {
                let answer = cx.step("ask", &RetryPolicy::DEFAULT, async |step| {
                    step.progress(&word)?;
                    Ok(word.clone())
                });
                heard.push(answer.await?);
                let fan_out =
                    FanOut::of::<Echo>("echoes", [(format!("{}/f", cx.key()), word.clone())]);
                let child = format!("{}/c", cx.key());
                Ok(Transition::stay(KeeperState::Keeps(word.clone(), heard))
                    .start::<Echo>(&child, &word)
                    .fan_out(fan_out))
            }
            Event::RunFinished(FinishedRun { output, .. }) => {
                heard.push(output.as_str().unwrap_or_default().to_owned());
                Ok(Transition::stay(KeeperState::Keeps(word, heard)))
            }
            Event::Joined(joined) => {
                let children = cx.child_results::<Echo>(&joined, 0, 10).await?;
                for child in &children {
                    heard.push(child.output::<Echo>()?);
                }
                Ok(Transition::stay(KeeperState::Keeps(word, heard)))
            }
            Event::Signal(KeeperSignal::Tell(last)) => {
                heard.push(last);
                Ok(Transition::complete(heard))
            }
            Event::Signal(KeeperSignal::Break) => {
                cx.on_undo("forget", &word);
                Err(StepError::terminal("broken", "it broke"))
            }
            _ => Ok(Transition::stay(KeeperState::Keeps(word, heard))),
        }
    }

    async fn undo(&self, _cx: &Context, _name: &str, args: Value) -> Result<(), StepError> {
        assert_eq!(args, SECRET);
        Err(StepError::terminal("no", "it cannot be forgotten"))
    }
}

/// A key service that can be away.
#[derive(Debug)]
struct Service {
    keys: LocalMasterKey,
    away: AtomicBool,
}

impl Service {
    fn new() -> Arc<Self> {
        let keys = LocalMasterKey::parse(&LocalMasterKey::generate("2026")).unwrap();
        let away = AtomicBool::default();
        Arc::new(Self { keys, away })
    }

    fn answer<'a, T: Send + 'a>(
        &self,
        answer: BoxFuture<'a, Result<T, MasterKeyError>>,
    ) -> BoxFuture<'a, Result<T, MasterKeyError>> {
        if self.away.load(Ordering::SeqCst) {
            async { Err(MasterKeyError::Unavailable("no route".to_owned())) }.boxed()
        } else {
            answer
        }
    }
}

impl MasterKey for Service {
    fn id(&self) -> &str {
        self.keys.id()
    }

    fn wrap<'a>(
        &'a self,
        key: &'a [u8],
        context: &'a [u8],
    ) -> BoxFuture<'a, Result<Vec<u8>, MasterKeyError>> {
        self.answer(self.keys.wrap(key, context))
    }

    fn unwrap<'a>(
        &'a self,
        id: &'a str,
        wrapped: &'a [u8],
        context: &'a [u8],
    ) -> BoxFuture<'a, Result<Vec<u8>, MasterKeyError>> {
        self.answer(self.keys.unwrap(id, wrapped, context))
    }
}

fn workflows() -> RegistryBuilder {
    Registry::builder().register(Echo).register(Keeper)
}

fn sealed(database: &PgConnectOptions, master: Arc<dyn MasterKey>) -> Registry {
    let keyring = Keyring::new(database.clone(), master);
    workflows().keyring(keyring).build().unwrap()
}

async fn engine() -> (TestEngine, Arc<Service>) {
    let database = crate::support::database().await;
    let service = Service::new();
    let registry = sealed(&database, service.clone());
    (TestEngine::on(database, registry).await, service)
}

fn author() -> Author {
    Author {
        actor: "ada".to_owned(),
        role: "admin".to_owned(),
        reason: "a drill".to_owned(),
    }
}

async fn act(engine: &TestEngine, run: RunId, verb: &Verb) -> Result<(), EngineError> {
    let act = Act {
        actor: "ada".to_owned(),
        role: "operator".to_owned(),
        reason: "a drill".to_owned(),
        revision: engine.detail(run).await.summary.revision(),
    };
    let mut conn = engine.pool().acquire().await.unwrap();
    let registry = engine.client.registry();
    operator::intervene(&mut conn, registry, run, verb, &act).await?;
    engine.client.ring();
    Ok(())
}

/// Tables of the engine in which the secret stands in clear, as text or as bytes.
async fn leaks(engine: &TestEngine) -> Vec<String> {
    let mut conn = connect(&engine.options).await;
    let tables: Vec<String> = sqlx::query_scalar(
        "select relname::text from pg_class
         where relnamespace = 'engine'::regnamespace and relkind in ('r', 'p') and not relispartition",
    )
    .fetch_all(&mut conn)
    .await
    .unwrap();
    assert!(tables.len() > 20, "{tables:?}");
    let mut leaks = Vec::new();
    for table in tables {
        let query = format!(
            "select exists (select from engine.{table} as t
               where t::text like '%' || $1 || '%' or t::text like '%' || $2 || '%')"
        );
        let leaky: bool = sqlx::query_scalar(AssertSqlSafe(query))
            .bind(SECRET)
            .bind(hex::encode(SECRET))
            .fetch_one(&mut conn)
            .await
            .unwrap();
        if leaky {
            leaks.push(table);
        }
    }
    leaks
}

async fn stored(engine: &TestEngine, run: RunId) -> Vec<u8> {
    sqlx::query_scalar("select data from engine.run where run_id = $1")
        .bind(run.0)
        .fetch_one(engine.pool())
        .await
        .unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn wherever_a_payload_lies_it_is_sealed_and_opens_again() {
    let (engine, _) = engine().await;
    let word = SECRET.to_owned();
    let run = engine.start::<Keeper>("k", &word).await;
    let broken = engine.start::<Keeper>("b", &word).await;
    assert_eq!(leaks(&engine).await, [""; 0], "as started");
    engine.drain().await;
    engine
        .signal::<Keeper>(broken, "s", &KeeperSignal::Break)
        .await;
    engine.drain().await;
    assert_eq!(
        engine.detail(broken).await.summary.stuck.as_deref(),
        Some("undo_failed")
    );
    let held = engine.start::<Keeper>("h", &word).await;
    act(&engine, held, &Verb::Pause).await.unwrap();
    let state = json!({"Keeps": [SECRET, ["by hand"]]});
    act(&engine, held, &Verb::Edit { state }).await.unwrap();
    engine
        .signal::<Keeper>(held, "s", &KeeperSignal::Tell(word.clone()))
        .await;
    engine
        .signal::<Keeper>(run, "s", &KeeperSignal::Tell(word.clone()))
        .await;
    assert_eq!(leaks(&engine).await, [""; 0], "under way");
    engine.drain().await;
    assert_eq!(leaks(&engine).await, [""; 0], "at the end");

    let heard: Vec<String> = engine.output(run).await;
    assert_eq!(heard, [SECRET; 4], "step, child, fan-out and signal");
    let shown = engine.detail(held).await;
    assert_eq!(shown.data, json!({"Keeps": [SECRET, ["by hand"]]}));
    let mut conn = engine.pool().acquire().await.unwrap();
    let steps = tenure_engine::inspect::steps(&mut conn, engine.keyring(), run)
        .await
        .unwrap();
    assert_eq!(steps.last().unwrap().answer, Some(json!(SECRET)));
    let signals = tenure_engine::inspect::signals(&mut conn, engine.keyring(), run)
        .await
        .unwrap();
    assert!(
        signals
            .iter()
            .any(|line| line.payload == json!({"Tell": SECRET}))
    );
    engine.assert_nothing_lost().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_stored_in_clear_is_read_and_sealed_when_it_is_next_written() {
    let database = crate::support::database().await;
    let clear = TestEngine::on(database.clone(), workflows().build().unwrap()).await;
    let run = clear.start::<Keeper>("k", &SECRET.to_owned()).await;
    clear.drain().await;
    let told = KeeperSignal::Tell("last".to_owned());
    assert!(!leaks(&clear).await.is_empty());

    let mut engine = clear.beside(sealed(&database, Service::new())).await;
    engine.tenant = clear.tenant;
    engine.signal::<Keeper>(run, "s", &told).await;
    engine.drain().await;
    let heard: Vec<String> = engine.output(run).await;
    assert_eq!(heard, [SECRET, SECRET, SECRET, "last"]);
    assert_eq!(stored(&engine, run).await[0], 1, "sealed");
}

#[tokio::test(flavor = "multi_thread")]
async fn while_keys_are_away_runs_wait_and_no_attempt_is_spent() {
    let (engine, service) = engine().await;
    let run = engine.start::<Keeper>("k", &SECRET.to_owned()).await;
    engine.drain().await;
    engine
        .signal::<Keeper>(run, "s", &KeeperSignal::Tell("last".to_owned()))
        .await;
    service.away.store(true, Ordering::SeqCst);
    engine.keyring().forget();
    for _ in 0..40 {
        engine.drain().await;
        engine.advance(Duration::from_secs(20));
    }
    let detail = engine.detail(run).await;
    assert_eq!(detail.summary.status, Status::Retrying);
    assert_eq!(detail.summary.attempt, 0);
    let why = detail.data["unreadable"].to_string();
    assert!(why.contains("no route"), "{why}");
    let mut conn = engine.pool().acquire().await.unwrap();
    let refused = engine
        .client
        .start::<Keeper>(&mut conn, engine.tenant, "other", &SECRET.to_owned())
        .await;
    assert!(
        matches!(
            refused,
            Err(EngineError::MasterKey(MasterKeyError::Unavailable(_)))
        ),
        "{refused:?}"
    );
    service.away.store(false, Ordering::SeqCst);
    engine.drain().await;
    assert_eq!(engine.status(run).await, Status::Completed);
    engine.assert_nothing_lost().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rotated_key_seals_from_its_time_on_and_the_old_one_still_opens() {
    let (engine, _) = engine().await;
    let run = engine.start::<Keeper>("k", &SECRET.to_owned()).await;
    engine.drain().await;
    let before = stored(&engine, run).await;
    assert_eq!(before[1..5], 1_u32.to_be_bytes());
    let mut conn = engine.pool().acquire().await.unwrap();
    let (keyring, tenant) = (engine.keyring(), engine.tenant);
    let version = seal::rotate(&mut conn, keyring, tenant, &author()).await;
    assert_eq!(version.unwrap(), 2);
    let keys = seal::list(&mut conn, tenant).await.unwrap();
    assert_eq!(
        keys[1].usable_at - keys[1].created_at,
        chrono::TimeDelta::seconds(120)
    );
    keyring.forget();
    let early = engine.start::<Keeper>("early", &SECRET.to_owned()).await;
    assert_eq!(
        stored(&engine, early).await[1..5],
        1_u32.to_be_bytes(),
        "not yet its time"
    );

    sqlx::query("update engine.data_key set created_at = created_at - interval '3 minutes', usable_at = now() where version = 2")
        .execute(&mut *conn)
        .await
        .unwrap();
    keyring.forget();
    engine
        .signal::<Keeper>(run, "s", &KeeperSignal::Tell("last".to_owned()))
        .await;
    engine.drain().await;
    assert_eq!(stored(&engine, run).await[1..5], 2_u32.to_be_bytes());
    let heard: Vec<String> = engine.output(run).await;
    assert_eq!(heard.last().unwrap(), "last");
}

#[tokio::test(flavor = "multi_thread")]
async fn destroyed_keys_leave_nothing_to_read_and_nothing_new_is_stored() {
    let (engine, _) = engine().await;
    let run = engine.start::<Keeper>("k", &SECRET.to_owned()).await;
    engine.drain().await;
    let (keyring, tenant) = (engine.keyring(), engine.tenant);
    let mut conn = engine.pool().acquire().await.unwrap();
    let refused = seal::destroy(&mut conn, tenant, &author()).await;
    assert!(
        matches!(refused, Err(EngineError::NotAllowed { .. })),
        "{refused:?}"
    );

    engine
        .signal::<Keeper>(run, "s", &KeeperSignal::Tell("last".to_owned()))
        .await;
    engine.drain().await;
    let silent = Author {
        reason: " ".to_owned(),
        ..author()
    };
    let refused = seal::destroy(&mut conn, tenant, &silent).await;
    assert!(matches!(
        refused,
        Err(EngineError::Malformed { what: "reason", .. })
    ));
    let destroyed = seal::destroy(&mut conn, tenant, &author()).await;
    assert_eq!(destroyed.unwrap(), 1);
    keyring.forget();

    let shown = engine.detail(run).await;
    let why = shown.output.unwrap()["unreadable"].to_string();
    assert!(why.contains("destroyed"), "{why}");
    let refused = engine
        .client
        .start::<Keeper>(&mut conn, tenant, "new", &SECRET.to_owned())
        .await;
    assert!(
        matches!(refused, Err(EngineError::KeysDestroyed(_))),
        "{refused:?}"
    );
    for again in [
        seal::destroy(&mut conn, tenant, &author()).await,
        seal::rotate(&mut conn, keyring, tenant, &author()).await,
    ] {
        assert!(
            matches!(again, Err(EngineError::KeysDestroyed(_))),
            "{again:?}"
        );
    }
    let acts: i64 = sqlx::query_scalar(
        "select count(*) from engine.control_audit where action = 'destroy keys' and subject = $1",
    )
    .bind(tenant.to_string())
    .fetch_one(&mut *conn)
    .await
    .unwrap();
    assert_eq!(acts, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_whose_key_is_gone_is_stuck_as_it_was_stored_and_can_be_ended() {
    let (engine, _) = engine().await;
    let run = engine.start::<Keeper>("k", &SECRET.to_owned()).await;
    engine.drain().await;
    let before = stored(&engine, run).await;
    // What destroys keys refuses while a run lives; a start that raced it is as this.
    sqlx::query("update engine.data_key set wrapped = null, destroyed_at = now()")
        .execute(engine.pool())
        .await
        .unwrap();
    let late = KeeperSignal::Tell("last".to_owned());
    engine.signal::<Keeper>(run, "s", &late).await;
    engine.keyring().forget();
    engine.drain().await;
    let detail = engine.detail(run).await;
    assert_eq!(detail.summary.stuck.as_deref(), Some("undecodable"));
    assert_eq!(stored(&engine, run).await, before);
    let state = json!({"Keeps": ["new", []]});
    let refused = act(&engine, run, &Verb::Edit { state }).await;
    assert!(
        matches!(refused, Err(EngineError::KeysDestroyed(_))),
        "{refused:?}"
    );
    act(&engine, run, &Verb::Terminate).await.unwrap();
    assert_eq!(engine.status(run).await, Status::Terminated);
    assert_eq!(stored(&engine, run).await, before);
    engine.assert_nothing_lost().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn after_rewrapping_the_old_master_key_can_go() {
    let database = crate::support::database().await;
    let (old, new) = (
        LocalMasterKey::generate("2025"),
        LocalMasterKey::generate("2026"),
    );
    let master = |text: &str| Arc::new(LocalMasterKey::parse(text).unwrap());
    let engine = TestEngine::on(database.clone(), sealed(&database, master(&old))).await;
    let run = engine.start::<Keeper>("k", &SECRET.to_owned()).await;
    engine.drain().await;
    let mut conn = engine.pool().acquire().await.unwrap();

    let only_new = Keyring::new(database.clone(), master(&new));
    let early = only_new.check(&mut conn).await;
    assert!(
        matches!(&early, Err(EngineError::MasterKey(MasterKeyError::Unknown(id))) if id == "2025"),
        "{early:?}"
    );
    let none = Keyring::default().check(&mut conn).await;
    assert!(matches!(
        none,
        Err(EngineError::MasterKey(MasterKeyError::Missing))
    ));

    let both = Keyring::new(database.clone(), master(&format!("{new},{old}")));
    assert_eq!(
        seal::rewrap(&mut conn, &both, 100, &author())
            .await
            .unwrap(),
        1
    );
    assert_eq!(
        seal::rewrap(&mut conn, &both, 100, &author())
            .await
            .unwrap(),
        0
    );
    only_new.check(&mut conn).await.unwrap();
    let later = engine
        .beside(workflows().keyring(only_new).build().unwrap())
        .await;
    later
        .signal::<Keeper>(run, "s", &KeeperSignal::Tell("last".to_owned()))
        .await;
    later.drain().await;
    assert_eq!(later.status(run).await, Status::Completed);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sealed_run_bears_every_fault() {
    let scene = async || {
        let database = crate::support::database().await;
        let keyring = Keyring::new(database.clone(), Service::new());
        Scene {
            database,
            workflows: workflows().keyring(keyring),
            outside: (),
        }
    };
    let script = async |play: &mut Play, (): &()| {
        let run = play.start::<Keeper>("k", &SECRET.to_owned()).await?;
        play.settle().await?;
        let told = KeeperSignal::Tell("last".to_owned());
        play.signal::<Keeper>(run, "s", &told).await?;
        play.settle().await?;
        let mut heard: Vec<String> = play.output(run).await?;
        heard.sort();
        Ok(heard)
    };
    let report = fault_matrix(scene, script).await.unwrap();
    assert!(report.is_clean(), "{report}");
    assert!(report.plays > 8, "{report}");
}

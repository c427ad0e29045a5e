//! Private fields: what is shown of them, what an edit leaves of them, and who has seen one.

use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tenure_engine::operator::{self, Act, RestartFrom, Verb};
use tenure_engine::schedule::{self, CatchUp, NewSchedule, Overlap, ScheduleChange};
use tenure_engine::{
    AttributeKind, AttributeNames, Attributes, Context, EngineError, Event, Gather, MASK, Registry,
    RetryPolicy, RunId, StartOptions, StepError, Transition, Workflow, audit, inspect,
};
use tokio::sync::Notify;

use crate::support::engine::TestEngine;

/// Somebody's subscription to a letter.
#[derive(Default)]
pub(crate) struct Letter {
    /// Lets a print come to its end.
    pub(crate) printed: Arc<Notify>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Reader {
    pub(crate) email: String,
    pub(crate) copies: u32,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) enum State {
    Open {
        reader: Reader,
        friends: Vec<Reader>,
    },
    Closed {
        email: String,
    },
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) enum Signal {
    Move { email: String },
    Print,
    Close,
}

impl Workflow for Letter {
    const NAME: &'static str = "letter";
    const VERSION: i32 = 1;
    const PRIVATE: &'static [&'static str] = &["email"];
    type Input = Reader;
    type State = State;
    type Signal = Signal;
    type Output = Reader;

    fn start(&self, reader: Reader) -> State {
        let friend = |email: &str| Reader {
            email: email.to_owned(),
            copies: 1,
        };
        State::Open {
            reader,
            friends: vec![friend("bo@b.example"), friend("cy@c.example")],
        }
    }

    async fn handle(
        &self,
        cx: &Context,
        state: State,
        event: Event<Signal>,
    ) -> Result<Transition<Self>, StepError> {
        Ok(match (state, event) {
            (State::Open { reader, friends }, Event::Signal(Signal::Move { email })) => {
                let copies = reader.copies;
                let known = Reader { email, copies };
                let reader = cx.transact("look-up", async |_| Ok(known.clone())).await?;
                Transition::stay(State::Open { reader, friends })
            }
            (State::Open { reader, friends }, Event::Signal(Signal::Print)) => {
                cx.step("print", &PATIENT, async |step| {
                    step.progress(&reader)?;
                    self.printed.notified().await;
                    Ok(())
                })
                .await?;
                Transition::stay(State::Open { reader, friends })
            }
            (State::Open { reader, .. }, Event::Signal(Signal::Close)) => {
                Transition::complete(reader)
            }
            (state, _) => Transition::stay(state),
        })
    }
}

/// Starts a letter and waits for its end.
struct Publisher;

#[derive(Debug, Clone, Serialize, Deserialize)]
enum Publishing {
    Waiting,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
enum Never {}

impl Workflow for Publisher {
    const NAME: &'static str = "publisher";
    const VERSION: i32 = 1;
    type Input = ();
    type State = Publishing;
    type Signal = Never;
    type Output = ();

    fn start(&self, (): ()) -> Publishing {
        Publishing::Waiting
    }

    async fn handle(
        &self,
        _cx: &Context,
        state: Publishing,
        event: Event<Never>,
    ) -> Result<Transition<Self>, StepError> {
        let reader = Reader {
            email: ADDRESS.to_owned(),
            copies: 1,
        };
        Ok(match event {
            Event::Entered => Transition::stay(state).start::<Letter>("its", &reader),
            Event::RunFinished(_) => Transition::complete(()),
            _ => Transition::stay(state),
        })
    }
}

pub(crate) const ADDRESS: &str = "ada@a.example";
/// Never silent for so long that a busy machine could be mistaken for it.
const PATIENT: RetryPolicy = RetryPolicy::DEFAULT.report_within(Duration::from_secs(600));

fn registry() -> Registry {
    with(Letter::default())
}

pub(crate) fn with(letter: Letter) -> Registry {
    let builder = Registry::builder().register(letter).register(Publisher);
    builder.build().unwrap()
}

async fn letter(engine: &TestEngine, key: &str) -> RunId {
    let reader = Reader {
        email: ADDRESS.to_owned(),
        copies: 2,
    };
    let run = engine.start::<Letter>(key, &reader).await;
    engine.drain().await;
    run
}

fn by(revision: i64) -> Act {
    Act {
        actor: "maria".to_owned(),
        role: "operator".to_owned(),
        reason: "ticket 17".to_owned(),
        revision,
    }
}

async fn act_of(engine: &TestEngine, run: RunId) -> Act {
    by(engine.detail(run).await.summary.revision())
}

fn new_schedule(input: &Value) -> NewSchedule {
    NewSchedule {
        name: "weekly".to_owned(),
        workflow: "letter".to_owned(),
        input: input.clone(),
        cron: "0 9 * * 1".to_owned(),
        zone: "UTC".to_owned(),
        overlap: Overlap::Skip,
        catch_up: CatchUp::None,
        jitter_seconds: 0,
    }
}

async fn intervene(
    engine: &TestEngine,
    run: RunId,
    verb: &Verb,
) -> Result<operator::Intervention, EngineError> {
    let act = act_of(engine, run).await;
    let mut conn = engine.pool().acquire().await.unwrap();
    operator::intervene(&mut conn, engine.client.registry(), run, verb, &act).await
}

async fn reveal(engine: &TestEngine, run: RunId, field: &str) -> Result<Value, String> {
    let act = act_of(engine, run).await;
    let mut conn = engine.pool().acquire().await.unwrap();
    let shown = operator::reveal(&mut conn, engine.client.registry(), run, field, &act).await;
    shown.map_err(|error| error.to_string())
}

/// What people are shown of a run's state.
async fn shown(engine: &TestEngine, run: RunId) -> Value {
    let private = engine.client.registry().private("letter");
    private.mask(engine.detail(run).await.data)
}

#[tokio::test(flavor = "multi_thread")]
async fn who_edits_what_is_shown_leaves_private_fields_as_they_are() {
    let engine = TestEngine::new(registry()).await;
    let run = letter(&engine, "a").await;
    let mut edited = shown(&engine, run).await;
    assert_eq!(
        edited["Open"]["reader"],
        json!({ "email": MASK, "copies": 2 })
    );
    edited["Open"]["reader"]["copies"] = json!(5);
    intervene(&engine, run, &Verb::Pause).await.unwrap();
    let edit = Verb::Edit {
        state: edited.clone(),
    };
    let done = intervene(&engine, run, &edit).await.unwrap();
    let data = engine.detail(run).await.data;
    assert_eq!(
        data["Open"]["reader"],
        json!({ "email": ADDRESS, "copies": 5 })
    );
    assert_eq!(data["Open"]["friends"][1]["email"], "cy@c.example");
    assert_eq!(done.after["data"], edited);

    assert!(
        !done.effects.iter().any(|told| told.contains("Private")),
        "{done:?}"
    );

    let mut moved = edited.clone();
    moved["Open"]["reader"]["email"] = json!("ada@new.example");
    let done = intervene(&engine, run, &Verb::Edit { state: moved })
        .await
        .unwrap();
    assert_eq!(done.before["data"], done.after["data"], "neither shows it");
    let told = "Private fields change: /Open/reader/email.".to_owned();
    assert!(done.effects.contains(&told), "{done:?}");
    let data = engine.detail(run).await.data;
    assert_eq!(data["Open"]["reader"]["email"], "ada@new.example");

    // What does not fit is not quoted.
    let mut wrong = edited.clone();
    wrong["Open"]["friends"] = json!("Bo only");
    let refused = intervene(&engine, run, &Verb::Edit { state: wrong }).await;
    let words = refused.unwrap_err().to_string();
    assert!(
        words.contains("expected") && !words.contains("Bo"),
        "{words}"
    );

    // A friend is taken out: of the other one nobody can say who it was.
    let friends = edited["Open"]["friends"].as_array_mut().unwrap();
    friends.remove(0);
    let refused = intervene(&engine, run, &Verb::Edit { state: edited }).await;
    let words = refused.unwrap_err().to_string();
    assert!(
        words.contains("/Open/friends/0/email holds [private]"),
        "{words}"
    );
    // Another state has no such field to leave as it is.
    let elsewhere = json!({ "Closed": { "email": MASK } });
    let refused = intervene(&engine, run, &Verb::Move { state: elsewhere }).await;
    let words = refused.unwrap_err().to_string();
    assert!(words.contains("/Closed/email holds [private]"), "{words}");
    assert_eq!(engine.detail(run).await.data, data, "nothing has changed");

    // What the audit keeps shows no more than people were shown.
    let mut tx = engine.pool().begin().await.unwrap();
    let query = audit::Query {
        run: Some(run),
        ..audit::Query::default()
    };
    let lines = audit::list(&mut tx, engine.keyring(), &query, None, 10)
        .await
        .unwrap();
    let actions: Vec<&str> = lines.iter().map(|line| line.action.as_str()).collect();
    assert_eq!(actions, ["edit-state", "edit-state", "pause"]);
    assert!(!format!("{lines:?}").contains("example"), "{lines:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_that_is_started_over_as_it_is_shown_has_what_was_private() {
    let engine = TestEngine::new(registry()).await;
    let run = letter(&engine, "a").await;
    let state = shown(&engine, run).await;
    intervene(&engine, run, &Verb::Terminate).await.unwrap();
    let mut again = Vec::new();
    for (key, from) in [
        ("b", RestartFrom::State(state)),
        ("c", RestartFrom::LastState),
    ] {
        let act = act_of(&engine, run).await;
        let mut conn = engine.pool().acquire().await.unwrap();
        let registry = engine.client.registry();
        let started = operator::restart(&mut conn, registry, run, key, &from, &act).await;
        again.push(started.unwrap().run_id);
    }
    for started in again {
        let data = engine.detail(started).await.data;
        assert_eq!(data["Open"]["reader"]["email"], ADDRESS);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mask_is_never_stored() {
    let engine = TestEngine::new(registry()).await;
    let run = letter(&engine, "a").await;
    let (client, tenant) = (&engine.client, engine.tenant);
    let mut conn = engine.pool().acquire().await.unwrap();
    let input = json!({ "email": MASK, "copies": 1 });
    let options = StartOptions::default();
    let started = client.start_named(&mut conn, tenant, ("letter", "b"), &input, options);
    let words = started.await.unwrap_err().to_string();
    assert!(words.contains("/email holds [private]"), "{words}");
    let gather = Gather::Debounce {
        quiet: Duration::from_secs(1),
        at_most: Duration::from_secs(2),
    };
    let gathered = client.start_gathered_named(&mut conn, tenant, ("letter", "d"), &input, gather);
    let words = gathered.await.unwrap_err().to_string();
    assert!(words.contains("/email holds [private]"), "{words}");
    let (new, act) = (new_schedule(&input), by(0));
    let made = schedule::create(&mut conn, client.registry(), tenant, &new, &act);
    let words = made.await.unwrap_err().to_string();
    assert!(words.contains("/email holds [private]"), "{words}");
    let signal = json!({ "Move": { "email": MASK } });
    let act = act_of(&engine, run).await;
    let registry = client.registry();
    let sent = operator::signal(&mut conn, registry, run, "1", &signal, &act).await;
    let words = sent.unwrap_err().to_string();
    assert!(words.contains("/Move/email holds [private]"), "{words}");
    let act = act_of(&engine, run).await;
    let from = RestartFrom::Input(input);
    drop(conn);
    intervene(&engine, run, &Verb::Terminate).await.unwrap();
    let act = Act {
        revision: engine.detail(run).await.summary.revision(),
        ..act
    };
    let mut conn = engine.pool().acquire().await.unwrap();
    let over = operator::restart(&mut conn, registry, run, "c", &from, &act).await;
    let words = over.unwrap_err().to_string();
    assert!(words.contains("/email holds [private]"), "{words}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_field_is_revealed_wherever_it_is_and_the_audit_says_which_and_why() {
    let engine = TestEngine::new(registry()).await;
    let run = letter(&engine, "a").await;
    let moved = Signal::Move {
        email: "ada@new.example".to_owned(),
    };
    engine.signal::<Letter>(run, "some/id", &moved).await;
    engine.drain().await;
    engine.signal::<Letter>(run, "2", &Signal::Close).await;
    engine.drain().await;
    let mut conn = engine.pool().acquire().await.unwrap();
    let steps = inspect::steps(&mut conn, engine.keyring(), run)
        .await
        .unwrap();
    drop(conn);
    let step = steps.iter().find(|step| step.name == "look-up").unwrap();
    let of_step = format!("/steps/{}/{}/answer/email", step.visit, step.seq);
    let fields = [
        ("/data/Open/reader/email", "ada@new.example"),
        ("/data/Open/friends/1/email", "cy@c.example"),
        ("/output/email", "ada@new.example"),
        (of_step.as_str(), "ada@new.example"),
        ("/signals/some~1id/payload/Move/email", "ada@new.example"),
    ];
    for (field, value) in fields {
        assert_eq!(
            reveal(&engine, run, field).await,
            Ok(json!(value)),
            "{field}"
        );
    }
    let mut tx = engine.pool().begin().await.unwrap();
    let query = audit::Query {
        action: Some("reveal".to_owned()),
        ..audit::Query::default()
    };
    let lines = audit::list(&mut tx, engine.keyring(), &query, None, 10)
        .await
        .unwrap();
    let seen: Vec<&Value> = lines
        .iter()
        .rev()
        .map(|line| &line.after["field"])
        .collect();
    assert_eq!(
        seen,
        fields
            .map(|(field, _)| json!(field))
            .iter()
            .collect::<Vec<_>>()
    );
    for line in &lines {
        assert_eq!(
            (line.run_id, line.tenant_id),
            (Some(run), Some(engine.tenant))
        );
        assert_eq!(
            (line.actor.as_str(), line.reason.as_str()),
            ("maria", "ticket 17")
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_private_field_is_not_revealed() {
    let engine = TestEngine::new(registry()).await;
    let run = letter(&engine, "a").await;
    for (field, why) in [
        ("/data/Open/reader/copies", "is not private"),
        ("/data/Open/reader/phone", "there is no"),
        ("/steps/999/0/answer/email", "there is no"),
        ("/signals/nobody/payload", "there is no"),
        (
            "/data/Open/reader/email/0",
            "/data/Open/reader/email is revealed as a whole",
        ),
        ("/elsewhere", "there is no"),
        ("email", "is no JSON Pointer"),
    ] {
        let refused = reveal(&engine, run, field).await.unwrap_err();
        assert!(refused.contains(why), "{field}: {refused}");
    }
    let mut tx = engine.pool().begin().await.unwrap();
    let query = audit::Query::default();
    let lines = audit::list(&mut tx, engine.keyring(), &query, None, 10)
        .await
        .unwrap();
    assert!(lines.is_empty(), "{lines:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_child_says_is_private_is_so_in_its_parents_inbox() {
    let engine = TestEngine::new(registry()).await;
    let parent = engine.start::<Publisher>("p", &()).await;
    engine.drain().await;
    let mut conn = engine.pool().acquire().await.unwrap();
    let child: RunId =
        sqlx::query_scalar("select run_id from engine.run where workflow = 'letter'")
            .fetch_one(&mut *conn)
            .await
            .map(RunId)
            .unwrap();
    engine.signal::<Letter>(child, "1", &Signal::Close).await;
    engine.drain().await;
    let lines = inspect::signals(&mut conn, engine.keyring(), parent)
        .await
        .unwrap();
    let line = lines
        .iter()
        .find(|line| line.kind() == "run finished")
        .unwrap();
    assert_eq!(line.payload["output"]["email"], ADDRESS);
    let private = line.private(engine.client.registry(), "publisher");
    let told = private.mask(line.payload.clone());
    assert_eq!(told["output"], json!({ "email": MASK, "copies": 1 }));
    assert_eq!(told["key"], line.payload["key"]);
    drop(conn);
    let field = format!(
        "/signals/{}/payload/output/email",
        line.signal_id.replace('/', "~1")
    );
    assert_eq!(reveal(&engine, parent, &field).await, Ok(json!(ADDRESS)));
}

#[tokio::test(flavor = "multi_thread")]
async fn of_a_workflow_that_nobody_knows_everything_is_private() {
    let engine = TestEngine::new(registry()).await;
    let run = letter(&engine, "a").await;
    let other = Registry::builder().register(Publisher).build().unwrap();
    let other = engine.beside(other).await;
    let private = other.client.registry().private("letter");
    assert_eq!(private.mask(other.detail(run).await.data), MASK);
    let refused = reveal(&other, run, "/data/Open/reader/email").await;
    assert!(
        refused
            .unwrap_err()
            .contains("/data is revealed as a whole")
    );
    let revealed = reveal(&other, run, "/data").await.unwrap();
    assert_eq!(revealed["Open"]["reader"]["email"], ADDRESS);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_schedule_that_is_changed_as_it_is_shown_keeps_its_private_input() {
    let engine = TestEngine::new(registry()).await;
    let registry = engine.client.registry();
    let new = new_schedule(&json!({ "email": ADDRESS, "copies": 1 }));
    let mut conn = engine.pool().acquire().await.unwrap();
    let made = schedule::create(&mut conn, registry, engine.tenant, &new, &by(0)).await;
    let made = made.unwrap();
    let change = ScheduleChange {
        input: Some(json!({ "email": MASK, "copies": 3 })),
        ..ScheduleChange::default()
    };
    let (id, act) = (made.schedule_id, by(made.revision));
    let changed = schedule::update(&mut conn, registry, id, &change, &act).await;
    let input = changed.unwrap().input;
    assert_eq!(input, json!({ "email": ADDRESS, "copies": 3 }));
    assert_eq!(schedule::find(&mut conn, id).await.unwrap().input, input);
}

/// Would be found in clear by what it says is private.
struct Leaky;

impl Workflow for Leaky {
    const NAME: &'static str = "leaky";
    const VERSION: i32 = 1;
    const PRIVATE: &'static [&'static str] = &["email"];
    const ATTRIBUTES: AttributeNames = &[("email", AttributeKind::Text)];
    type Input = ();
    type State = Publishing;
    type Signal = Never;
    type Output = ();

    fn start(&self, (): ()) -> Publishing {
        Publishing::Waiting
    }

    fn attributes(&self, _state: &Publishing) -> Attributes {
        Attributes::none()
    }

    async fn handle(
        &self,
        _cx: &Context,
        state: Publishing,
        _event: Event<Never>,
    ) -> Result<Transition<Self>, StepError> {
        Ok(Transition::stay(state))
    }
}

#[test]
fn no_private_field_is_a_search_attribute() {
    let refused = Registry::builder().register(Leaky).build();
    let words = refused.err().unwrap().to_string();
    assert!(words.contains("email is private"), "{words}");
}

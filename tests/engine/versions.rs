//! Two versions of one workflow: rolled up and back with runs in every state, side by side.

use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tenure_engine::operator::{self, Act, Verb};
use tenure_engine::{Context, Event, Registry, RunId, Status, StepError, Transition, Workflow};

use super::workflows::{Outside, POLICY};
use crate::support::engine::TestEngine;
use crate::support::eventually;

/// An order, as it was first written.
pub(crate) struct OrderV1(pub(crate) Outside);

#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum StateV1 {
    Ordered { item: String },
    Packing { item: String },
    OnItsWay { item: String },
}

#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum SignalV1 {
    Pay,
}

impl Workflow for OrderV1 {
    const NAME: &'static str = "order";
    const VERSION: i32 = 1;
    type Input = String;
    type State = StateV1;
    type Signal = SignalV1;
    type Output = String;

    fn start(&self, item: String) -> StateV1 {
        StateV1::Ordered { item }
    }

    async fn handle(
        &self,
        cx: &Context,
        state: StateV1,
        event: Event<SignalV1>,
    ) -> Result<Transition<Self>, StepError> {
        Ok(match (state, event) {
            (StateV1::Ordered { item }, Event::Signal(SignalV1::Pay)) => {
                Transition::go(StateV1::Packing { item })
            }
            (StateV1::Packing { item }, Event::Entered) => {
                step(cx, &self.0, "weigh").await?;
                step(cx, &self.0, "pack").await?;
                let on_its_way = StateV1::OnItsWay { item };
                Transition::go(on_its_way).after("arrived", DAYS_2)
            }
            (StateV1::OnItsWay { item }, Event::Deadline(_)) => Transition::complete(item),
            (state, _) => Transition::stay(state),
        })
    }
}

/// The same with gifts, a step more, and a state in which somebody looks at the parcel.
pub(crate) struct OrderV2 {
    pub(crate) outside: Outside,
    /// The name of the first step: another one than before is a journal mismatch.
    pub(crate) weigh: &'static str,
}

#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum StateV2 {
    Ordered { item: String, gift: bool },
    Packing { item: String, gift: bool },
    Checking { item: String },
    OnItsWay { item: String },
}

#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum SignalV2 {
    Pay,
    Approve,
}

impl Workflow for OrderV2 {
    const NAME: &'static str = "order";
    const VERSION: i32 = 2;
    type Input = String;
    type State = StateV2;
    type Signal = SignalV2;
    type Output = String;

    fn start(&self, item: String) -> StateV2 {
        StateV2::Ordered { item, gift: false }
    }

    fn migrate(&self, from_version: i32, mut state: Value) -> Result<Value, String> {
        if from_version != 1 {
            return Err(format!("nobody ever wrote version {from_version}"));
        }
        for variant in ["Ordered", "Packing"] {
            if let Some(fields) = state.get_mut(variant).and_then(Value::as_object_mut) {
                fields.insert("gift".to_owned(), json!(false));
            }
        }
        Ok(state)
    }

    async fn handle(
        &self,
        cx: &Context,
        state: StateV2,
        event: Event<SignalV2>,
    ) -> Result<Transition<Self>, StepError> {
        Ok(match (state, event) {
            (StateV2::Ordered { item, gift }, Event::Signal(SignalV2::Pay)) => {
                Transition::go(StateV2::Packing { item, gift })
            }
            (StateV2::Packing { item, .. }, Event::Entered) => {
                step(cx, &self.outside, self.weigh).await?;
                step(cx, &self.outside, "pack").await?;
                step(cx, &self.outside, "label").await?;
                Transition::go(StateV2::Checking { item })
            }
            (StateV2::Checking { item }, Event::Signal(SignalV2::Approve)) => {
                let on_its_way = StateV2::OnItsWay { item };
                Transition::go(on_its_way).after("arrived", DAYS_2)
            }
            (StateV2::OnItsWay { item }, Event::Deadline(_)) => Transition::complete(item),
            (state, _) => Transition::stay(state),
        })
    }
}

async fn step(cx: &Context, outside: &Outside, name: &'static str) -> Result<String, StepError> {
    cx.step(name, &POLICY, async |step| {
        outside.call(name, step.key).await
    })
    .await
}

pub(crate) fn v1(outside: &Outside) -> Registry {
    let order = OrderV1(outside.clone());
    Registry::builder().register(order).build().unwrap()
}

pub(crate) fn v2(outside: &Outside, weigh: &'static str) -> Registry {
    let order = OrderV2 {
        outside: outside.clone(),
        weigh,
    };
    Registry::builder().register(order).build().unwrap()
}

/// A minute later than any retry.
const RETRIED: Duration = Duration::from_secs(1300);
const DAYS_2: Duration = Duration::from_secs(2 * 86_400);
const DAYS_3: Duration = Duration::from_secs(3 * 86_400);

pub(crate) async fn order(engine: &TestEngine, key: &str) -> RunId {
    engine.start::<OrderV1>(key, &key.to_owned()).await
}

pub(crate) async fn pay(engine: &TestEngine, run: RunId) {
    engine.signal::<OrderV1>(run, "pay", &SignalV1::Pay).await;
}

pub(crate) async fn approve(engine: &TestEngine, run: RunId) {
    let approve = SignalV2::Approve;
    engine.signal::<OrderV2>(run, "approve", &approve).await;
}

async fn stands(engine: &TestEngine, run: RunId) -> (Status, String, i32) {
    let summary = engine.detail(run).await.summary;
    (summary.status, summary.state, summary.version)
}

async fn act(engine: &TestEngine, run: RunId, verb: Verb) {
    let mut tx = engine.pool().begin().await.unwrap();
    let seen = Act {
        actor: "maria".to_owned(),
        role: "operator".to_owned(),
        reason: "because".to_owned(),
        revision: engine.detail(run).await.summary.revision(),
    };
    operator::intervene(&mut tx, engine.client.registry(), run, &verb, &seen)
        .await
        .unwrap();
    tx.commit().await.unwrap();
}

/// One run of version 1 in every place where a run can be.
pub(crate) struct Orders {
    pub(crate) due: RunId,
    pub(crate) ordered: RunId,
    pub(crate) retrying: RunId,
    pub(crate) stuck: RunId,
    pub(crate) paused: RunId,
    pub(crate) on_its_way: RunId,
}

impl Orders {
    pub(crate) async fn on(engine: &TestEngine, outside: &Outside) -> Self {
        let on_its_way = order(engine, "on its way").await;
        pay(engine, on_its_way).await;
        engine.drain().await;
        let stuck = order(engine, "stuck").await;
        pay(engine, stuck).await;
        outside.refuse("pack", 1);
        engine.drain().await;
        let retrying = order(engine, "retrying").await;
        pay(engine, retrying).await;
        outside.fail("pack", 1);
        engine.drain().await;
        let ordered = order(engine, "ordered").await;
        let paused = order(engine, "paused").await;
        engine.drain().await;
        act(engine, paused, Verb::Pause).await;
        Self {
            due: order(engine, "due").await,
            ordered,
            retrying,
            stuck,
            paused,
            on_its_way,
        }
    }

    fn all(&self) -> [RunId; 6] {
        [
            self.due,
            self.ordered,
            self.retrying,
            self.stuck,
            self.paused,
            self.on_its_way,
        ]
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn rolled_up_and_back_with_runs_in_every_state_nothing_is_lost() {
    let outside = Outside::default();
    let old = TestEngine::new(v1(&outside)).await;
    let new = old.beside(v2(&outside, "weigh")).await;
    let orders = Orders::on(&old, &outside).await;
    assert_eq!(old.status(orders.retrying).await, Status::Retrying);
    assert_eq!(old.status(orders.stuck).await, Status::Stuck);

    // Up: the new version takes over states, an open journal, and signals sent before.
    pay(&old, orders.due).await;
    pay(&old, orders.ordered).await;
    new.advance(RETRIED);
    new.drain().await;
    let checking = (Status::Waiting, "Checking".to_owned(), 2);
    for run in [orders.due, orders.ordered, orders.retrying] {
        assert_eq!(stands(&new, run).await, checking);
    }
    let late = order(&new, "late").await;

    // Back: what the new version wrote waits, whatever happens to it; the rest goes on.
    act(&old, orders.paused, Verb::Resume).await;
    pay(&old, orders.paused).await;
    approve(&old, orders.ordered).await;
    old.advance(DAYS_3);
    old.drain().await;
    assert_eq!(old.status(orders.on_its_way).await, Status::Completed);
    let on_its_way = (Status::Waiting, "OnItsWay".to_owned(), 1);
    assert_eq!(stands(&old, orders.paused).await, on_its_way);
    let detail = old.detail(orders.ordered).await;
    assert_eq!(detail.summary.status, Status::NoHandler);
    assert_eq!(detail.summary.attempt, 0, "an attempt was burnt");
    assert!(detail.why.summary.contains("version 2 or newer"));
    assert_eq!(stands(&old, orders.due).await, checking);
    old.assert_nothing_lost().await;

    // Up again: all of them end, and nothing was done twice.
    act(&new, orders.stuck, Verb::Retry).await;
    pay(&new, late).await;
    new.drain().await;
    let all = orders.all().into_iter().chain([late]);
    for run in all {
        if stands(&new, run).await == checking {
            approve(&new, run).await;
        }
    }
    new.drain().await;
    new.advance(DAYS_3);
    new.drain().await;
    for run in orders.all().into_iter().chain([late]) {
        let detail = new.detail(run).await;
        assert_eq!(detail.output, Some(json!(detail.summary.key)));
    }
    assert_eq!(outside.keys("weigh").len(), 7, "a step was done twice");
    assert_eq!(outside.keys("label").len(), 5);
    new.assert_nothing_lost().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn two_versions_side_by_side_leave_each_other_what_only_the_newer_can_read() {
    let outside = Outside::default();
    let old = TestEngine::new(v1(&outside)).await;
    let new = old.beside(v2(&outside, "weigh")).await;
    let (older, newer) = tokio::join!(old.worker(), new.worker());
    let mut runs = Vec::new();
    for n in 0..20 {
        let by = if n % 2 == 0 { &old } else { &new };
        let run = order(by, &format!("order-{n}")).await;
        pay(by, run).await;
        runs.push(run);
    }
    let mut approved = Vec::new();
    for run in runs {
        eventually("the order is packed", async || {
            ["Checking", "OnItsWay"].contains(&stands(&new, run).await.1.as_str())
        })
        .await;
        if stands(&new, run).await.1 == "Checking" {
            approve(&new, run).await;
            approved.push(run);
        }
    }
    for run in approved {
        eventually("the newer version hears the approval", async || {
            stands(&new, run).await == (Status::Waiting, "OnItsWay".to_owned(), 2)
        })
        .await;
    }
    tokio::join!(older.shutdown(), newer.shutdown());
    let attempts: i64 = sqlx::query_scalar("select sum(attempt + losses) from engine.run")
        .fetch_one(old.pool())
        .await
        .unwrap();
    assert_eq!(attempts, 0, "an attempt was burnt");
    assert_eq!(outside.keys("pack").len(), 20, "a step was done twice");
    old.assert_nothing_lost().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_step_that_was_renamed_in_the_middle_of_a_visit_is_told_before_any_effect() {
    let outside = Outside::default();
    let old = TestEngine::new(v1(&outside)).await;
    let orders = Orders::on(&old, &outside).await;
    let packed = outside.keys("pack").len();
    let renamed = old.beside(v2(&outside, "measure")).await;
    renamed.advance(RETRIED);
    renamed.drain().await;
    let detail = renamed.detail(orders.retrying).await;
    assert_eq!(detail.summary.stuck.as_deref(), Some("journal_mismatch"));
    for words in [
        "The code changed in the middle of a visit. step measure: ",
        r#"asks for "measure", but its journal holds an answer of "weigh""#,
    ] {
        assert!(detail.why.summary.contains(words), "{:?}", detail.why);
    }
    assert_eq!(outside.keys("measure").len(), 0, "an effect came first");
    assert_eq!(outside.keys("pack").len(), packed);

    // With the name that is in the journal it goes on where it was.
    let mended = old.beside(v2(&outside, "weigh")).await;
    act(&mended, orders.retrying, Verb::Retry).await;
    mended.drain().await;
    let checking = (Status::Waiting, "Checking".to_owned(), 2);
    assert_eq!(stands(&mended, orders.retrying).await, checking);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_whose_journal_no_longer_fits_begins_its_visit_anew_where_it_is_moved_to() {
    let outside = Outside::default();
    let old = TestEngine::new(v1(&outside)).await;
    let orders = Orders::on(&old, &outside).await;
    let (weighed, packed) = (outside.keys("weigh"), outside.keys("pack").len());
    let renamed = old.beside(v2(&outside, "measure")).await;
    renamed.advance(RETRIED);
    renamed.drain().await;
    let run = orders.retrying;
    // A retry meets the same journal.
    act(&renamed, run, Verb::Retry).await;
    renamed.drain().await;
    let detail = renamed.detail(run).await;
    assert_eq!(detail.summary.stuck.as_deref(), Some("journal_mismatch"));
    // A move leaves it behind, the answers in it, too: all steps of the state are done, by new keys.
    let state = json!({ "Packing": { "item": "retrying", "gift": true } });
    act(&renamed, run, Verb::Move { state }).await;
    renamed.drain().await;
    let checking = (Status::Waiting, "Checking".to_owned(), 2);
    assert_eq!(stands(&renamed, run).await, checking);
    assert_eq!(outside.keys("measure").len(), 1);
    assert_eq!(outside.keys("weigh"), weighed);
    assert_eq!(outside.keys("pack").len(), packed + 1);
    approve(&renamed, run).await;
    renamed.drain().await;
    renamed.advance(DAYS_3);
    renamed.drain().await;
    assert_eq!(renamed.detail(run).await.output, Some(json!("retrying")));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_older_worker_keeps_from_passing_the_newer_ones_backlog_around() {
    let outside = Outside::default();
    let old = TestEngine::new(v1(&outside)).await;
    let new = old.beside(v2(&outside, "weigh")).await;
    let starts: Vec<_> = (0..2_000)
        .map(|n| (format!("{n}"), "x".to_owned()))
        .collect();
    let mut conn = new.pool().acquire().await.unwrap();
    let starting = new
        .client
        .start_many::<OrderV2>(&mut conn, new.tenant, &starts);
    starting.await.unwrap();
    drop(conn);
    sqlx::query(
        "insert into engine.inbox
           (run_id, shard_id, kind, received_at, recorded_at, position, tenant_id, signal_id, name, payload)
         select run_id, shard_id, 0, now(), now(), 0, tenant_id, 'pay', 'Pay', '\"Pay\"' from engine.run",
    )
    .execute(new.pool())
    .await
    .unwrap();
    outside.hold_at("weigh");
    let (older, newer) = tokio::join!(old.worker(), new.worker());
    eventually("the newer worker's hands are full", async || {
        outside.keys("weigh").len() >= 256
    })
    .await;
    let claims = async || -> i64 {
        sqlx::query_scalar("select sum(epoch)::bigint from engine.run")
            .fetch_one(old.pool())
            .await
            .unwrap()
    };
    let (before, begun) = (claims().await, Instant::now());
    eventually("the older worker has handed some over", async || {
        claims().await >= before + 1_500
    })
    .await;
    // Half a second for as many as it has hands.
    let took = begun.elapsed();
    assert!(took > Duration::from_millis(1_500), "in {took:?}");
    outside.release();
    older.shutdown().await;
    newer.shutdown().await;
    old.assert_nothing_lost().await;
}

//! Rings: a child that waits for its parent is refused by name, and who watches in a ring is told.

use serde::{Deserialize, Serialize};
use tenure_engine::operator::Verb;
use tenure_engine::{
    Context, Event, FanOut, Join, Registry, RunId, Status, StepError, Transition, Workflow,
};

use super::workflows::{Outside, POLICY};
use crate::support::engine::TestEngine;
use crate::support::eventually;

/// A link of a chain: does as it is told, and ends with the first run whose end it hears of.
struct Link(Outside);

#[derive(Serialize, Deserialize)]
enum LinkState {
    Hanging,
}

#[derive(Serialize, Deserialize)]
enum Told {
    Start(String),
    /// Books something that can be reversed, then starts.
    BookAndStart(String),
    FanOut(Vec<String>),
    Watch(RunId),
    WaitSeconds(u64),
    Finish,
}

impl Workflow for Link {
    const NAME: &'static str = "link";
    const VERSION: i32 = 1;
    type Input = ();
    type State = LinkState;
    type Signal = Told;
    type Output = Vec<String>;

    fn start(&self, (): ()) -> LinkState {
        LinkState::Hanging
    }

    async fn handle(
        &self,
        cx: &Context,
        state: LinkState,
        event: Event<Told>,
    ) -> Result<Transition<Self>, StepError> {
        let stay = Transition::stay(state);
        Ok(match event {
            Event::Signal(Told::Start(key)) => stay.start::<Self>(key, &()),
            Event::Signal(Told::BookAndStart(key)) => {
                cx.on_undo("unbook", &key);
                cx.step("book", &POLICY, async |step| {
                    self.0.call("book", step.key).await
                })
                .await?;
                stay.start::<Self>(key, &())
            }
            Event::Signal(Told::FanOut(keys)) => {
                let items: Vec<_> = keys.into_iter().map(|key| (key, ())).collect();
                stay.fan_out(FanOut::of::<Self>("links", items).join(Join::All))
            }
            Event::Signal(Told::Watch(run)) => stay.watch(run),
            Event::Signal(Told::WaitSeconds(seconds)) => {
                stay.after("bell", std::time::Duration::from_secs(seconds))
            }
            Event::Signal(Told::Finish) => Transition::complete(Vec::new()),
            Event::RunFinished(run) => {
                Transition::complete(vec![format!("{} {}", run.key, run.status)])
            }
            Event::Joined(joined) => {
                let children = cx.child_results::<Self>(&joined, 0, 10).await?;
                let told = children.into_iter().map(|child| {
                    let error = child.error.map(|error| error.code);
                    format!("{} {}", child.key, error.unwrap_or_default())
                });
                Transition::complete(told.collect())
            }
            Event::CancelRequested => Transition::cancelled(),
            Event::Entered | Event::Deadline(_) | Event::RunDeadline => stay,
        })
    }

    async fn undo(
        &self,
        _cx: &Context,
        name: &str,
        args: serde_json::Value,
    ) -> Result<(), StepError> {
        self.0.note("reversed", format!("{name} {args}"));
        Ok(())
    }
}

async fn engine() -> (TestEngine, Outside) {
    let outside = Outside::default();
    let registry = Registry::builder()
        .register(Link(outside.clone()))
        .build()
        .unwrap();
    (TestEngine::new(registry).await, outside)
}

async fn tell(engine: &TestEngine, run: RunId, told: Told) {
    let id = tenure_engine::random_uuid().to_string();
    engine.signal::<Link>(run, &id, &told).await;
}

async fn start(engine: &TestEngine, of: RunId, key: &str) -> RunId {
    tell(engine, of, Told::Start(key.to_owned())).await;
    engine.drain().await;
    run_of(engine, key).await
}

async fn run_of(engine: &TestEngine, key: &str) -> RunId {
    let run = sqlx::query_scalar("select run_id from engine.run where key = $1")
        .bind(key)
        .fetch_one(engine.pool())
        .await;
    RunId(run.unwrap())
}

/// That the run is stuck because a start of it would have closed a ring, and which one.
async fn assert_refused(engine: &TestEngine, run: RunId, ring: &str) {
    let detail = engine.detail(run).await;
    assert_eq!(detail.summary.status, Status::Stuck, "{:?}", detail.why);
    let error = detail.summary.error.unwrap();
    assert_eq!(error.code, "child_cycle");
    assert!(error.message.ends_with(ring), "{}", error.message);
    assert!(detail.why.summary.contains(ring), "{:?}", detail.why);
    // The second of the ring is the one that it wanted for a child.
    let child = ring.split('"').nth(3);
    let watchers: i64 =
        sqlx::query_scalar("select count(*) from engine.run where key = $2 and $1 = any(watchers)")
            .bind(run.0)
            .bind(child)
            .fetch_one(engine.pool())
            .await
            .unwrap();
    assert_eq!(watchers, 0, "it waits all the same");
}

async fn cancel(engine: &TestEngine, run: RunId) {
    engine.act(run, Verb::Cancel).await;
    engine.drain().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_that_starts_its_parent_as_a_child_is_refused_by_name() {
    let (engine, _) = engine().await;
    let parent = engine.start::<Link>("parent", &()).await;
    let child = start(&engine, parent, "child").await;
    start(&engine, child, "parent").await;
    let ring = r#"link "child" -> link "parent" -> link "child""#;
    assert_refused(&engine, child, ring).await;
    // Whoever cancels the one that is stuck frees the other.
    cancel(&engine, child).await;
    let told: Vec<String> = engine.output(parent).await;
    assert_eq!(told, ["child cancelled"]);
    engine.assert_nothing_lost().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_that_starts_itself_as_a_child_is_refused() {
    let (engine, _) = engine().await;
    let alone = engine.start::<Link>("alone", &()).await;
    start(&engine, alone, "alone").await;
    assert_refused(&engine, alone, r#"link "alone" -> link "alone""#).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_ring_over_several_runs_that_were_there_before_is_refused_and_what_is_none_goes_on() {
    let (engine, _) = engine().await;
    let (a, b) = (
        engine.start::<Link>("a", &()).await,
        engine.start::<Link>("b", &()).await,
    );
    let (c, d) = (
        engine.start::<Link>("c", &()).await,
        engine.start::<Link>("d", &()).await,
    );
    // Two ways to d are no ring.
    for (from, to) in [(a, "b"), (b, "c"), (c, "d"), (a, "d"), (b, "d")] {
        start(&engine, from, to).await;
        assert_eq!(engine.status(from).await, Status::Waiting);
    }
    start(&engine, d, "b").await;
    let ring = r#"link "d" -> link "b" -> link "d""#;
    assert_refused(&engine, d, ring).await;
    start(&engine, c, "a").await;
    let ring = r#"link "c" -> link "a" -> link "b" -> link "c""#;
    assert_refused(&engine, c, ring).await;
    cancel(&engine, d).await;
    let told: Vec<String> = engine.output(a).await;
    assert_eq!(told, ["d cancelled"]);
    engine.assert_nothing_lost().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn of_two_that_start_each_other_at_once_one_is_refused() {
    let (engine, _) = engine().await;
    for round in 0..10 {
        let (left, right) = (format!("left-{round}"), format!("right-{round}"));
        let one = engine.start::<Link>(&left, &()).await;
        let two = engine.start::<Link>(&right, &()).await;
        engine.drain().await;
        tokio::join!(
            tell(&engine, one, Told::Start(right)),
            tell(&engine, two, Told::Start(left)),
        );
        engine.drain().await;
        let mut both = [engine.status(one).await, engine.status(two).await];
        both.sort_by_key(|status| status.code());
        assert_eq!(both, [Status::Waiting, Status::Stuck]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fan_out_of_an_ancestor_is_refused_alone_and_told() {
    let (engine, _) = engine().await;
    let top = engine.start::<Link>("top", &()).await;
    tell(&engine, top, Told::FanOut(vec!["middle".to_owned()])).await;
    engine.drain().await;
    let middle = run_of(&engine, "middle").await;
    // A child of a fan-out that starts its ancestor, ...
    let low = start(&engine, middle, "low").await;
    start(&engine, low, "top").await;
    let detail = engine.detail(low).await;
    let error = detail.summary.error.unwrap();
    assert_eq!(error.code, "child_cycle");
    assert!(error.message.contains("fan-out"), "{}", error.message);
    // ... and an ancestor among the items of a fan-out.
    let keys = vec!["other".to_owned(), "top".to_owned()];
    tell(&engine, middle, Told::FanOut(keys)).await;
    engine.drain().await;
    let other = run_of(&engine, "other").await;
    tell(&engine, other, Told::Finish).await;
    engine.drain().await;
    let told: Vec<String> = engine.output(middle).await;
    assert_eq!(told, ["other ", "top child_cycle"]);
    assert_eq!(engine.status(top).await, Status::Completed);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_refused_visit_did_is_reversed() {
    let (engine, outside) = engine().await;
    let parent = engine.start::<Link>("parent", &()).await;
    let child = start(&engine, parent, "child").await;
    tell(&engine, child, Told::BookAndStart("parent".to_owned())).await;
    engine.drain().await;
    let detail = engine.detail(child).await;
    assert_eq!(detail.summary.status, Status::Failed, "{:?}", detail.why);
    assert_eq!(detail.summary.error.unwrap().code, "child_cycle");
    assert_eq!(outside.keys("book").len(), 1);
    assert_eq!(outside.keys("reversed"), [r#"unbook "parent""#]);
    let told: Vec<String> = engine.output(parent).await;
    assert_eq!(told, ["child failed"]);
    engine.assert_nothing_lost().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn why_tells_of_runs_that_watch_each_other_in_a_ring() {
    let (engine, _) = engine().await;
    let mut links = Vec::new();
    for key in ["a", "b", "c"] {
        links.push(engine.start::<Link>(key, &()).await);
    }
    let [a, b, c] = links[..] else { unreachable!() };
    let mut worker = engine.worker().await;
    for (watcher, watched) in [(a, b), (b, c)] {
        tell(&engine, watcher, Told::Watch(watched)).await;
    }
    worker.idle().await;
    for (run, watched) in [(a, "b"), (b, "c")] {
        let why = engine.detail(run).await.why;
        assert_eq!(why.kind, "waiting_for_runs", "{why:?}");
        let end = format!("or the end of run (link {watched:?}, waiting); it has no deadline");
        assert!(why.summary.contains(&end), "{why:?}");
    }
    assert_eq!(engine.detail(c).await.why.kind, "waiting_for_signal");
    tell(&engine, c, Told::Watch(a)).await;
    worker.idle().await;
    for run in [a, b, c] {
        assert_eq!(engine.detail(run).await.why.kind, "waiting_in_ring");
    }
    let why = engine.detail(b).await.why;
    let ring = r#"link "b" -> link "c" -> link "a" -> link "b""#;
    assert!(why.summary.contains(ring), "{why:?}");
    // A deadline of one of them ends the wait of all.
    tell(&engine, c, Told::WaitSeconds(3600)).await;
    worker.idle().await;
    assert_eq!(engine.detail(a).await.why.kind, "waiting_for_runs");
    let why = engine.detail(c).await.why;
    assert_eq!(why.kind, "waiting_for_deadline");
    assert!(
        why.summary
            .contains(r#"the end of run (link "a", waiting)"#),
        "{why:?}"
    );
    tell(&engine, b, Told::Finish).await;
    eventually("all have heard", async || {
        engine.status(c).await == Status::Completed
    })
    .await;
    let told: Vec<String> = engine.output(a).await;
    assert_eq!(told, ["b completed"]);
    worker.shutdown().await;
    engine.assert_nothing_lost().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_waits_for_children_is_told_which_of_them_live() {
    let (engine, _) = engine().await;
    let parent = engine.start::<Link>("parent", &()).await;
    engine.drain().await;
    assert_eq!(engine.detail(parent).await.why.kind, "waiting_for_signal");
    let one = start(&engine, parent, "one").await;
    start(&engine, parent, "two").await;
    let why = engine.detail(parent).await.why;
    assert_eq!(why.kind, "waiting_for_children", "{why:?}");
    let names = r#"the end of 2 children (link "one", waiting; link "two", waiting)"#;
    assert!(why.summary.contains(names), "{why:?}");
    // With a deadline that is what it waits for in the first place.
    tell(&engine, parent, Told::WaitSeconds(3_600)).await;
    engine.drain().await;
    let why = engine.detail(parent).await.why;
    assert_eq!(why.kind, "waiting_for_deadline", "{why:?}");
    assert!(why.summary.contains(names), "{why:?}");
    // A child's end is a message, which nobody is there to take.
    engine.act(one, Verb::Terminate).await;
    let why = engine.detail(parent).await.why;
    assert_eq!(why.kind, "no_worker", "{why:?}");
    engine.drain().await;
    let told: Vec<String> = engine.output(parent).await;
    assert_eq!(told, ["one terminated"]);
}

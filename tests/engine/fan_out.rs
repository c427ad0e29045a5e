//! Fan-out: many children, a few at a time, one join; whatever crashes where.

use serde::{Deserialize, Serialize};
use sqlx::PgConnection;
use tenure_engine::operator::Verb;
use tenure_engine::testkit::{Play, Scene, fault_matrix};
use tenure_engine::{
    ClosePolicy, Context, Ended, Event, FanOut, Join, Registry, RegistryBuilder, RunId, Status,
    StepError, Transition, Workflow,
};

use crate::support::engine::TestEngine;
use crate::support::eventually;
use crate::support::matrix::assert_borne;

/// How a child ends.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
enum Does {
    Complete(u32),
    Fail,
    Wait,
}

struct Hand;

#[derive(Serialize, Deserialize)]
enum HandState {
    Busy(Does),
}

#[derive(Serialize, Deserialize)]
enum Told {
    Finish,
}

impl Workflow for Hand {
    const NAME: &'static str = "hand";
    const VERSION: i32 = 1;
    type Input = Does;
    type State = HandState;
    type Signal = Told;
    type Output = u32;

    fn start(&self, does: Does) -> HandState {
        HandState::Busy(does)
    }

    async fn handle(
        &self,
        _cx: &Context,
        HandState::Busy(does): HandState,
        event: Event<Told>,
    ) -> Result<Transition<Self>, StepError> {
        Ok(match (event, does) {
            (Event::CancelRequested, _) => Transition::cancelled(),
            (Event::Entered, Does::Complete(number)) => Transition::complete(number),
            (Event::Entered, Does::Fail) => Transition::fail("broken", "it broke"),
            (Event::Signal(Told::Finish), _) => Transition::complete(0),
            _ => Transition::stay(HandState::Busy(does)),
        })
    }
}

/// Fans out and reads what came of it.
struct Crew;

#[derive(Clone, Serialize, Deserialize)]
struct Plan {
    hands: Vec<(String, Does)>,
    at_most: u32,
    join: Join,
    close: ClosePolicy,
}

#[derive(Serialize, Deserialize)]
enum CrewState {
    Asking(Plan),
    Waiting,
}

#[derive(Debug, Serialize, Deserialize)]
struct Report {
    name: String,
    total: u32,
    ended: Ended,
    sum: u32,
    /// Key, and how it is: its status, or why it was not started.
    others: Vec<(String, String)>,
}

impl Workflow for Crew {
    const NAME: &'static str = "crew";
    const VERSION: i32 = 1;
    type Input = Plan;
    type State = CrewState;
    type Signal = Told;
    type Output = Report;

    fn start(&self, plan: Plan) -> CrewState {
        CrewState::Asking(plan)
    }

    async fn handle(
        &self,
        cx: &Context,
        state: CrewState,
        event: Event<Told>,
    ) -> Result<Transition<Self>, StepError> {
        match (state, event) {
            (_, Event::CancelRequested) => Ok(Transition::cancelled()),
            (CrewState::Asking(plan), Event::Entered) => {
                let fan_out = FanOut::of::<Hand>("hands", plan.hands)
                    .at_most(plan.at_most)
                    .join(plan.join)
                    .close(plan.close);
                Ok(Transition::go(CrewState::Waiting).fan_out(fan_out))
            }
            (_, Event::Joined(joined)) => {
                let (mut sum, mut others, mut from) = (0, Vec::new(), 0);
                loop {
                    let page = cx.child_results::<Hand>(&joined, from, 500).await?;
                    let Some(last) = page.last() else { break };
                    from = last.position + 1;
                    for child in page {
                        let refused = child.error.as_ref().map(|error| error.code.clone());
                        match child.status {
                            Some(Status::Completed) => sum += child.output::<Hand>()?,
                            Some(status) => others.push((child.key, status.to_string())),
                            None => others.push((child.key, refused.unwrap_or_default())),
                        }
                    }
                }
                Ok(Transition::complete(Report {
                    name: joined.name,
                    total: joined.total,
                    ended: joined.ended,
                    sum,
                    others,
                }))
            }
            (state, _) => Ok(Transition::stay(state)),
        }
    }
}

/// Starts one child and says how it ended.
struct Guardian;

impl Workflow for Guardian {
    const NAME: &'static str = "guardian";
    const VERSION: i32 = 1;
    type Input = Does;
    type State = HandState;
    type Signal = Told;
    /// How the child ended, and the code of its error.
    type Output = (Status, Option<String>);

    fn start(&self, does: Does) -> HandState {
        HandState::Busy(does)
    }

    async fn handle(
        &self,
        _cx: &Context,
        HandState::Busy(does): HandState,
        event: Event<Told>,
    ) -> Result<Transition<Self>, StepError> {
        Ok(match event {
            Event::Entered => Transition::stay(HandState::Busy(does)).start::<Hand>("ward", &does),
            Event::RunFinished(child) => {
                let code = child.error.map(|error| error.code);
                Transition::complete((child.status, code))
            }
            _ => Transition::stay(HandState::Busy(does)),
        })
    }
}

fn workflows() -> RegistryBuilder {
    let hands = Registry::builder().register(Hand).register(Crew);
    hands.register(Guardian)
}

fn registry() -> Registry {
    workflows().build().unwrap()
}

async fn engine() -> TestEngine {
    TestEngine::new(registry()).await
}

fn plan(prefix: &str, hands: &[Does]) -> Plan {
    let keys = hands.iter().enumerate();
    Plan {
        hands: keys
            .map(|(at, does)| (format!("{prefix}/{at:04}"), *does))
            .collect(),
        at_most: 2,
        join: Join::All,
        close: ClosePolicy::Leave,
    }
}

/// How many children there are by status.
async fn children(engine: &TestEngine, prefix: &str) -> Vec<(i16, i64)> {
    sqlx::query_as(
        "select status, count(*) from engine.run
         where workflow = 'hand' and key like $1 || '/%' group by status order by status",
    )
    .bind(prefix)
    .fetch_all(engine.pool())
    .await
    .unwrap()
}

async fn child(engine: &TestEngine, key: &str) -> RunId {
    sqlx::query_scalar("select run_id from engine.run where workflow = 'hand' and key = $1")
        .bind(key)
        .fetch_one(engine.pool())
        .await
        .map(|id: uuid::Uuid| RunId(id))
        .unwrap()
}

/// What the database refuses if it is broken: more living children than may.
async fn bound(engine: &TestEngine, at_most: i64) {
    let mut conn = crate::support::connect(&engine.options).await;
    sqlx::raw_sql(sqlx::AssertSqlSafe(format!(
        "create function engine.bound() returns trigger language plpgsql as $$
         begin
           if (select count(*) from engine.run where parent_run_id = new.parent_run_id
               and status < 10) > {at_most} then
             raise exception 'more children live than may';
           end if;
           return null;
         end $$;
         create trigger bound after insert on engine.run
         for each row when (new.gathered) execute function engine.bound();"
    )))
    .execute(&mut conn)
    .await
    .unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn children_start_a_few_at_a_time_and_the_parent_hears_once() {
    let engine = engine().await;
    bound(&engine, 3).await;
    let mut does: Vec<Does> = (1..=40).map(Does::Complete).collect();
    does[7] = Does::Fail;
    let plan = Plan {
        at_most: 3,
        ..plan("few", &does)
    };
    let run = engine.start::<Crew>("few", &plan).await;
    let second = engine.worker().await;
    engine.drain().await;
    eventually("it joins", async || {
        engine.status(run).await == Status::Completed
    })
    .await;
    second.shutdown().await;
    let report: Report = engine.output(run).await;
    assert_eq!((report.name.as_str(), report.total), ("hands", 40));
    assert_eq!((report.ended.completed, report.ended.failed), (39, 1));
    assert_eq!(report.sum, 40 * 41 / 2 - 8);
    let broken = ("few/0007".to_owned(), "failed".to_owned());
    assert_eq!(report.others, [broken]);
    // The parent was entered twice and woken once.
    assert_eq!(engine.detail(run).await.summary.visit, 3);
    engine.assert_nothing_lost().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fan_out_of_nobody_joins_at_once() {
    let engine = engine().await;
    let run = engine.start::<Crew>("none", &plan("none", &[])).await;
    engine.drain().await;
    let report: Report = engine.output(run).await;
    assert_eq!((report.total, report.ended.sum()), (0, 0));
    engine.assert_nothing_lost().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_early_join_closes_the_rest_as_the_policy_says() {
    let engine = engine().await;
    let hands = [Does::Wait, Does::Fail, Does::Wait, Does::Complete(1)];
    for (close, status) in [
        (ClosePolicy::Leave, Status::Waiting),
        (ClosePolicy::Cancel, Status::Cancelled),
        (ClosePolicy::Terminate, Status::Terminated),
    ] {
        let name = format!("{close:?}");
        let plan = Plan {
            join: Join::FirstFailure,
            close,
            ..plan(&name, &hands)
        };
        let run = engine.start::<Crew>(&name, &plan).await;
        engine.drain().await;
        let report: Report = engine.output(run).await;
        assert_eq!((report.ended.failed, report.ended.sum()), (1, 1));
        // The third and the fourth were never started.
        let mut expected = vec![(Status::Failed.code(), 1), (status.code(), 1)];
        expected.sort_unstable();
        assert_eq!(children(&engine, &name).await, expected, "{name}");
    }
    let plan = Plan {
        join: Join::Any(1),
        at_most: 4,
        close: ClosePolicy::Cancel,
        ..plan("any", &hands)
    };
    let run = engine.start::<Crew>("any", &plan).await;
    engine.drain().await;
    let report: Report = engine.output(run).await;
    assert_eq!(report.ended.completed, 1);
    engine.assert_nothing_lost().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_end_of_the_parent_closes_all_of_it() {
    let engine = engine().await;
    for (close, status) in [
        (ClosePolicy::Leave, Status::Waiting),
        (ClosePolicy::Cancel, Status::Cancelled),
        (ClosePolicy::Terminate, Status::Terminated),
    ] {
        let name = format!("{close:?}");
        let plan = Plan {
            close,
            ..plan(&name, &[Does::Wait; 5])
        };
        let run = engine.start::<Crew>(&name, &plan).await;
        engine.drain().await;
        let fan_out: uuid::Uuid = sqlx::query_scalar(
            "select run_id from engine.run where workflow = 'fan-out' and parent_run_id = $1",
        )
        .bind(run.0)
        .fetch_one(engine.pool())
        .await
        .unwrap();
        let why = engine.detail(RunId(fan_out)).await.why;
        assert_eq!(why.kind, "waiting_for_children");
        assert!(why.summary.contains("0 of 5 have ended, 2 live"), "{why:?}");
        engine.act(run, Verb::Cancel).await;
        engine.drain().await;
        assert_eq!(engine.status(run).await, Status::Cancelled);
        assert_eq!(children(&engine, &name).await, [(status.code(), 2)]);
    }
    engine.assert_nothing_lost().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fan_out_whose_child_has_ended_says_that_no_worker_hears_of_it() {
    let engine = engine().await;
    let crew = engine
        .start::<Crew>("crew", &plan("c", &[Does::Wait; 2]))
        .await;
    engine.drain().await;
    let fan_out: uuid::Uuid =
        sqlx::query_scalar("select run_id from engine.run where workflow = 'fan-out'")
            .fetch_one(engine.pool())
            .await
            .unwrap();
    let first = child(&engine, "c/0000").await;
    engine.act(first, Verb::Terminate).await;
    let why = engine.detail(RunId(fan_out)).await.why;
    assert_eq!(why.kind, "no_worker", "{why:?}");
    // Whoever asked for it waits for it by name.
    let why = engine.detail(crew).await.why;
    assert_eq!(why.kind, "waiting_for_children", "{why:?}");
    assert!(
        why.summary.contains("the end of child (fan-out "),
        "{why:?}"
    );
    engine.drain().await;
    let why = engine.detail(RunId(fan_out)).await.why;
    assert_eq!(why.kind, "waiting_for_children", "{why:?}");
    assert!(why.summary.contains("1 of 2 have ended"), "{why:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn every_way_in_which_a_child_ends_reaches_its_parent() {
    for (does, verb, status) in [
        (Does::Complete(1), None, Status::Completed),
        (Does::Fail, None, Status::Failed),
        (Does::Wait, Some(Verb::Cancel), Status::Cancelled),
        (Does::Wait, Some(Verb::Terminate), Status::Terminated),
    ] {
        let engine = engine().await;
        let alone = engine.start::<Guardian>("alone", &does).await;
        let crew = engine.start::<Crew>("crew", &plan("c", &[does])).await;
        engine.drain().await;
        if let Some(verb) = verb {
            for key in ["ward", "c/0000"] {
                engine.act(child(&engine, key).await, verb.clone()).await;
            }
            engine.drain().await;
        }
        let code = (status == Status::Failed).then(|| "broken".to_owned());
        let told: (Status, Option<String>) = engine.output(alone).await;
        assert_eq!(told, (status, code.clone()));
        // Who comes later hears the same.
        let late = engine.start::<Guardian>("late", &does).await;
        engine.drain().await;
        let told: (Status, Option<String>) = engine.output(late).await;
        assert_eq!(told, (status, code));
        let ended = engine.output::<Report>(crew).await.ended;
        let counted = match status {
            Status::Completed => ended.completed,
            Status::Failed => ended.failed,
            Status::Cancelled => ended.cancelled,
            _ => ended.terminated,
        };
        assert_eq!((counted, ended.sum()), (1, 1), "{status}");
        engine.assert_nothing_lost().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_taken_key_is_watched_or_refused() {
    let engine = engine().await;
    let same = engine.start::<Hand>("t/0000", &Does::Wait).await;
    engine.start::<Hand>("t/0001", &Does::Complete(9)).await;
    engine.start::<Hand>("t/0002", &Does::Complete(5)).await;
    let hands = [Does::Wait, Does::Complete(7), Does::Complete(5)];
    let run = engine.start::<Crew>("t", &plan("t", &hands)).await;
    engine.drain().await;
    assert_eq!(engine.status(run).await, Status::Waiting);
    engine.signal::<Hand>(same, "finish", &Told::Finish).await;
    engine.drain().await;
    let report: Report = engine.output(run).await;
    assert_eq!((report.ended.completed, report.ended.failed), (2, 1));
    assert_eq!(report.sum, 5);
    assert_eq!(report.others, [("t/0001".into(), "key_taken".into())]);
    engine.assert_nothing_lost().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_started_is_refused_before_anything_is() {
    let engine = engine().await;
    let mut twice = plan("same", &[Does::Wait]);
    twice.hands.push(twice.hands[0].clone());
    let run = engine.start::<Crew>("twice", &twice).await;
    let many = plan("many", &vec![Does::Wait; tenure_engine::MAX_FAN_OUT + 1]);
    let too_many = engine.start::<Crew>("many", &many).await;
    engine.drain().await;
    for (run, words) in [(run, "two children have the key"), (too_many, "10001")] {
        let why = engine.detail(run).await.why;
        assert!(why.summary.contains(words), "{why:?}");
    }
    assert!(children(&engine, "same").await.is_empty());
}

/// Two thousand children end as fast as they can: nobody waits for the parent's row, and the
/// fan-out is visited for many ends at once.
#[tokio::test(flavor = "multi_thread")]
async fn thousands_of_ends_are_counted_in_few_visits() {
    const MANY: u32 = 2_000;
    let engine = engine().await;
    let does: Vec<Does> = (1..=MANY).map(Does::Complete).collect();
    let plan = Plan {
        at_most: MANY,
        ..plan("many", &does)
    };
    let run = engine.start::<Crew>("many", &plan).await;
    let began = std::time::Instant::now();
    engine.drain().await;
    let took = began.elapsed();
    let report: Report = engine.output(run).await;
    assert_eq!(report.ended.completed, MANY);
    assert_eq!(report.sum, MANY * (MANY + 1) / 2);
    let visits: i64 = sqlx::query_scalar("select visit from engine.run where workflow = 'fan-out'")
        .fetch_one(engine.pool())
        .await
        .unwrap();
    println!("{MANY} children in {took:?}, counted in {visits} visits");
    assert!(visits < i64::from(MANY) / 4, "{visits} visits");
    let grown: i32 = sqlx::query_scalar(
        "select max(length(data)) from engine.run where workflow in ('fan-out', 'crew')
         and state <> 'Asking'",
    )
    .fetch_one(engine.pool())
    .await
    .unwrap();
    assert!(grown < 500, "a row holds {grown} bytes");
    engine.assert_nothing_lost().await;
}

/// Stops whoever makes the n-th change of the fan-out's life, until the test lets go.
const MOMENTS: &str = "
    create sequence public.moment;
    create table public.stop (at bigint);
    insert into public.stop values (0);
    create function public.moment() returns trigger language plpgsql as $$
    begin
      if nextval('public.moment') = (select at from public.stop) then
        perform pg_advisory_xact_lock_shared(42);
      end if;
      return null;
    end $$;
    grant all on public.stop, public.moment to public;
    create trigger moment_of_a_parent after insert or update on engine.run
    for each row when (new.workflow in ('fan-out', 'crew')) execute function public.moment();
    create trigger moment_of_a_child after insert on engine.run
    for each row when (new.gathered) execute function public.moment();
    create trigger moment_of_an_end after insert on engine.inbox
    for each row execute function public.moment();";

/// How a crash comes about at a moment.
#[derive(Debug, Clone, Copy)]
enum Crash {
    /// What was being written is rolled back.
    Before,
    /// It is committed, and the answer is never heard.
    After,
}

/// Whether somebody is stopped at the moment.
const STOPPED: &str = "select exists (select from pg_locks where locktype = 'advisory'
    and database = (select oid from pg_database where datname = current_database())
    and not granted)";
const CUT: &str = "select pg_terminate_backend(pid) from pg_locks where locktype = 'advisory'
    and database = (select oid from pg_database where datname = current_database())
    and not granted";

async fn do_by_hand(hand: &mut PgConnection, text: String) {
    let done = sqlx::raw_sql(sqlx::AssertSqlSafe(text)).execute(hand).await;
    done.unwrap();
}

/// Runs one fan-out and crashes its worker at a moment; false when it never came to that one.
async fn crashes_at(engine: &TestEngine, moment: i64, crash: Crash) -> bool {
    let mut hand = crate::support::connect(&engine.options).await;
    let name = format!("{crash:?}-{moment}");
    let hands = [Does::Complete(1), Does::Fail, Does::Complete(2)];
    let run = engine.start::<Crew>(&name, &plan(&name, &hands)).await;
    let stop = format!(
        "select setval('public.moment', 1, false); update public.stop set at = {moment};
         select pg_advisory_lock(42)"
    );
    do_by_hand(&mut hand, stop).await;
    let worker = engine.worker().await;
    let is_stopped = async || -> bool {
        let stopped = sqlx::query_scalar(STOPPED).fetch_one(engine.pool());
        stopped.await.unwrap()
    };
    eventually("it ends or stops", async || {
        engine.status(run).await == Status::Completed || is_stopped().await
    })
    .await;
    let stopped = is_stopped().await;
    let release = async {
        if let Crash::Before = crash {
            do_by_hand(&mut hand, CUT.to_owned()).await;
        }
        let text = "select pg_advisory_unlock(42); update public.stop set at = 0";
        do_by_hand(&mut hand, text.to_owned()).await;
    };
    tokio::join!(worker.crash(), release);
    engine.advance(std::time::Duration::from_secs(60));
    let worker = engine.worker().await;
    eventually("it joins", async || {
        engine.status(run).await == Status::Completed
    })
    .await;
    worker.shutdown().await;
    assert_whole(engine, run, &name).await;
    stopped
}

/// Each child is there once, was counted once, and the parent heard once.
async fn assert_whole(engine: &TestEngine, run: RunId, name: &str) {
    let report: Report = engine.output(run).await;
    assert_eq!(
        (report.ended.completed, report.ended.failed),
        (2, 1),
        "{name}"
    );
    assert_eq!(report.sum, 3, "{name}");
    assert_eq!(children(engine, name).await, [(10, 2), (11, 1)], "{name}");
    let heard: i64 = sqlx::query_scalar("select count(*) from engine.inbox where run_id = $1")
        .bind(run.0)
        .fetch_one(engine.pool())
        .await
        .unwrap();
    assert_eq!(heard, 1, "{name}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_crash_at_any_moment_loses_nothing_and_doubles_nothing() {
    let engine = engine().await;
    bound(&engine, 2).await;
    let mut conn = crate::support::connect(&engine.options).await;
    sqlx::raw_sql(MOMENTS).execute(&mut conn).await.unwrap();
    for crash in [Crash::Before, Crash::After] {
        let mut moment = 1;
        while crashes_at(&engine, moment, crash).await {
            moment += 1;
        }
        assert!(moment > 10, "{crash:?}: only {moment} moments");
    }
    engine.assert_nothing_lost().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fan_out_bears_every_fault() {
    let scene = async || Scene {
        database: crate::support::database().await,
        workflows: workflows(),
        outside: (),
    };
    let script = async |play: &mut Play, (): &()| {
        let hands = [Does::Complete(1), Does::Fail, Does::Complete(5)];
        let run = play.start::<Crew>("crew", &plan("a", &hands)).await?;
        play.settle().await?;
        let report: Report = play.output(run).await?;
        let sum = report.sum;
        Ok((report.name, report.total, report.ended, sum, report.others))
    };
    let report = fault_matrix(scene, script).await.unwrap();
    assert_borne(&report, &["fan-out"]);
    assert!(report.plays > 8, "{report}");
}

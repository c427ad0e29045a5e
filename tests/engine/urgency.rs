//! What follows from a deadline is a level later until it rests, and a crowd of it whose steps hold all
//! connections that visits may have keeps nobody waiting.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use sqlx::{Connection as _, PgConnection};
use tenure_engine::{
    Context, Event, Limit, Need, Priority, Registry, RunId, Status, StepError, Transition, Worker,
    WorkerConfig, Workflow,
};

use super::workflows::Nothing;
use crate::support::engine::TestEngine;
use crate::support::eventually;

/// A lock under which tellers book.
const LOCK: i64 = 4_711;

/// The desk of those who book at once.
const DESK: Limit = Limit::named("desk").concurrency(1);

/// Books under a lock, an hour later or at once.
struct Teller;

#[derive(Serialize, Deserialize)]
enum TellerState {
    Waiting { at_once: bool },
}

impl Workflow for Teller {
    const NAME: &'static str = "teller";
    const VERSION: i32 = 1;
    const LIMITS: &'static [Limit] = &[DESK];
    type Input = bool;
    type State = TellerState;
    type Signal = Nothing;
    type Output = ();

    fn start(&self, at_once: bool) -> TellerState {
        TellerState::Waiting { at_once }
    }

    fn needs(&self, TellerState::Waiting { at_once }: &TellerState) -> Vec<Need> {
        at_once.then(|| DESK.shared()).into_iter().collect()
    }

    async fn handle(
        &self,
        cx: &Context,
        state: TellerState,
        event: Event<Nothing>,
    ) -> Result<Transition<Self>, StepError> {
        let TellerState::Waiting { at_once } = state;
        if !at_once && matches!(event, Event::Entered) {
            return Ok(Transition::stay(state).after("open", Duration::from_secs(3_600)));
        }
        cx.transact("book", async |conn| {
            let lock = "select pg_advisory_xact_lock_shared($1)";
            sqlx::query(lock).bind(LOCK).execute(conn).await?;
            Ok(())
        })
        .await?;
        Ok(Transition::complete(()))
    }
}

/// Has a teller book, and another one look after that: when its hour has come, or at once.
struct Office;

#[derive(Serialize, Deserialize)]
enum OfficeState {
    Closed { at_once: bool, teller: String },
    Booking,
}

impl Workflow for Office {
    const NAME: &'static str = "office";
    const VERSION: i32 = 1;
    type Input = (bool, String);
    type State = OfficeState;
    type Signal = Nothing;
    type Output = ();

    fn start(&self, (at_once, teller): (bool, String)) -> OfficeState {
        OfficeState::Closed { at_once, teller }
    }

    async fn handle(
        &self,
        _cx: &Context,
        state: OfficeState,
        event: Event<Nothing>,
    ) -> Result<Transition<Self>, StepError> {
        Ok(match (state, event) {
            (state @ OfficeState::Closed { at_once: false, .. }, Event::Entered) => {
                Transition::stay(state).after("open", Duration::from_secs(3_600))
            }
            (OfficeState::Closed { teller, .. }, _) => {
                Transition::stay(OfficeState::Booking).start::<Teller>(teller, &true)
            }
            (OfficeState::Booking, Event::RunFinished(_)) => {
                Transition::complete(()).launch::<Teller>("looks", &true)
            }
            (state, _) => Transition::stay(state),
        })
    }
}

async fn engine() -> TestEngine {
    let registry = Registry::builder().register(Teller).register(Office);
    TestEngine::new(registry.build().unwrap()).await
}

/// Writes down from now on which levels work becomes due at, and which ends are told as later.
async fn watch_levels(engine: &TestEngine) {
    let mut conn = PgConnection::connect_with(&engine.options).await.unwrap();
    let watch =
        "create table public.seen (at bigint generated always as identity, what text, level text);
        create function public.see() returns trigger language plpgsql security definer as $$ begin
          insert into public.seen (what, level)
          select run.key, case tg_table_name when 'due' then to_jsonb(new) ->> 'priority'
            else 'told, later: ' || (to_jsonb(new) ->> 'later') end
          from engine.run where run.run_id = new.run_id;
          return null;
        end $$;
        create trigger see after insert on engine.due for each row execute function public.see();
        create trigger see after insert on engine.nudge for each row execute function public.see()";
    sqlx::raw_sql(watch).execute(&mut conn).await.unwrap();
}

/// What was written down, in order.
async fn seen(engine: &TestEngine) -> Vec<(String, String)> {
    let mut conn = PgConnection::connect_with(&engine.options).await.unwrap();
    let seen = "with seen as (delete from public.seen returning *) select what, level from seen order by at";
    sqlx::query_as(seen).fetch_all(&mut conn).await.unwrap()
}

fn told(list: &[(&str, &str)]) -> Vec<(String, String)> {
    let told = list.iter();
    told.map(|(what, level)| ((*what).to_owned(), (*level).to_owned()))
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_follows_from_a_deadline_is_a_level_later_until_it_rests() {
    let engine = engine().await;
    watch_levels(&engine).await;
    let office = engine
        .start::<Office>("office", &(false, "books".to_owned()))
        .await;
    engine.drain().await;
    assert_eq!(
        seen(&engine).await,
        told(&[("office", "3"), ("office", "4")])
    );
    engine.advance(Duration::from_secs(3_601));
    engine.drain().await;
    assert_eq!(engine.status(office).await, Status::Completed);
    // The child, its end, and what that starts; nothing of it was ever of another priority.
    let later = [
        ("books", "4"),
        ("office", "told, later: true"),
        ("looks", "4"),
    ];
    assert_eq!(seen(&engine).await, told(&later));
    assert_eq!(engine.detail(office).await.priority, Priority::Normal);

    let engine = self::engine().await;
    watch_levels(&engine).await;
    let hasty = engine
        .start::<Office>("hasty", &(true, "books".to_owned()))
        .await;
    engine.drain().await;
    assert_eq!(engine.status(hasty).await, Status::Completed);
    let at_once = [
        ("hasty", "3"),
        ("books", "3"),
        ("hasty", "told, later: false"),
        ("looks", "3"),
    ];
    assert_eq!(seen(&engine).await, told(&at_once));
}

#[tokio::test(flavor = "multi_thread")]
async fn who_has_waited_for_room_is_as_late_as_before() {
    let engine = engine().await;
    for name in ["one", "two", "three"] {
        let input = (false, format!("teller-{name}"));
        engine.start::<Office>(name, &input).await;
    }
    engine.drain().await;
    watch_levels(&engine).await;
    engine.advance(Duration::from_secs(3_601));
    engine.drain().await;
    assert_eq!(count(&engine, "teller", Status::Completed).await, 3);
    let seen = seen(&engine).await;
    let waited =
        |(what, level): &(String, String)| what.starts_with("teller") && level.starts_with("told");
    assert!(seen.iter().any(waited), "nobody had to wait: {seen:?}");
    assert!(
        seen.iter()
            .all(|(_, level)| level == "4" || level == "told, later: true"),
        "{seen:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn what_has_been_begun_is_finished_before_more_is_begun() {
    let engine = engine().await;
    let offices: Vec<_> = (0..20)
        .map(|n| (format!("office-{n}"), (false, format!("books-{n}"))))
        .collect();
    let mut conn = conn_of(&engine).await;
    let started = engine
        .client
        .start_many::<Office>(&mut conn, engine.tenant, &offices);
    started.await.unwrap();
    engine.drain().await;
    engine.advance(Duration::from_secs(3_601));
    let one_by_one = WorkerConfig {
        in_flight: 1,
        claim_batch: 1,
        lease: Duration::from_secs(20),
        ..WorkerConfig::default()
    };
    let mut worker = Worker::start(&engine.client, one_by_one).await.unwrap();
    worker.idle().await;
    worker.shutdown().await;
    // Each of them: an office begins, or the teller that it asked for has booked.
    let order: Vec<bool> = sqlx::query_scalar(
        "select run.workflow = 'teller'
        from engine.transition
        join engine.run using (run_id, shard_id)
        where run.key like 'books-%' and transition.outcome = 'completed'
          or transition.to_state = 'Booking' and transition.from_state = 'Closed'
        order by transition.at",
    )
    .fetch_all(&mut *conn)
    .await
    .unwrap();
    assert_eq!(order.len(), 40);
    let (mut begun, mut most) = (0, 0);
    for booked in &order {
        begun += if *booked { -1 } else { 1 };
        most = most.max(begun);
    }
    assert!(
        most <= 3,
        "{most} offices waited for their tellers: {order:?}"
    );
    engine.assert_nothing_lost().await;
}

/// How many of a workflow's runs have a status.
async fn count(engine: &TestEngine, prefix: &str, status: Status) -> i64 {
    let count = "select count(*) from engine.run where key like $1 || '-%' and status = $2";
    let query = sqlx::query_scalar(count).bind(prefix).bind(status.code());
    query.fetch_one(engine.pool()).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn who_starts_something_does_not_stand_behind_a_crowd_that_holds_all_seats() {
    let engine = engine().await;
    let crowd: Vec<_> = (0..300).map(|n| (format!("crowd-{n}"), false)).collect();
    let mut conn = engine.pool().acquire().await.unwrap();
    let client = &engine.client;
    let started = client.start_many::<Teller>(&mut conn, engine.tenant, &crowd);
    started.await.unwrap();
    engine.drain().await;
    engine.advance(Duration::from_secs(3_601));

    let mut held = PgConnection::connect_with(&engine.options).await.unwrap();
    let mut held = held.begin().await.unwrap();
    let lock = "select pg_advisory_xact_lock($1)";
    sqlx::query(lock)
        .bind(LOCK)
        .execute(&mut *held)
        .await
        .unwrap();
    let worker = engine.worker().await;
    let waiting = "select count(*) from pg_locks where locktype = 'advisory' and not granted";
    eventually("the crowd holds all seats", async || {
        let query = sqlx::query_scalar::<_, i64>(waiting);
        query.fetch_one(&mut *conn_of(&engine).await).await.unwrap() >= 10
    })
    .await;
    // It rests at once: what it needs is a claim.
    let office: RunId = engine
        .start::<Office>("office", &(false, "books".to_owned()))
        .await;
    eventually("the office has been looked at", async || {
        engine.status(office).await == Status::Waiting
    })
    .await;
    assert_eq!(count(&engine, "crowd", Status::Completed).await, 0);
    held.rollback().await.unwrap();
    eventually("the crowd has booked", async || {
        count(&engine, "crowd", Status::Completed).await == 300
    })
    .await;
    worker.shutdown().await;
    engine.assert_nothing_lost().await;
}

async fn conn_of(engine: &TestEngine) -> sqlx::pool::PoolConnection<sqlx::Postgres> {
    engine.pool().acquire().await.unwrap()
}

//! Runs are found by what they have and by what their workflow declares, and nothing else is.

use std::time::Duration;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tenure_engine::operator::{self, Act, Verb};
use tenure_engine::search::{self, AttributeTest, Bounds, Compare, RunFilter, Wanted};
use tenure_engine::{
    AttributeKind, AttributeNames, Attributes, Context, Event, Registry, RunId, Status, StepError,
    Transition, Workflow,
};

use super::workflows::{Door, DoorSignal, Outside};
use crate::support::engine::TestEngine;

/// A seat of a plan: found by both.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) enum Seat {
    Taken { plan: String, seats: u32 },
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) enum SeatSignal {
    Change(String),
    Leave,
}

pub(crate) struct SeatWorkflow;

impl Workflow for SeatWorkflow {
    const NAME: &'static str = "seat";
    const VERSION: i32 = 1;
    const ATTRIBUTES: AttributeNames = &[
        ("plan", AttributeKind::Text),
        ("seats", AttributeKind::Number),
        ("large", AttributeKind::Bool),
        ("since", AttributeKind::Time),
    ];
    type Input = (String, u32);
    type State = Seat;
    type Signal = SeatSignal;
    type Output = ();

    fn start(&self, (plan, seats): (String, u32)) -> Seat {
        Seat::Taken { plan, seats }
    }

    fn attributes(&self, Seat::Taken { plan, seats }: &Seat) -> Attributes {
        let since = DateTime::<Utc>::from_timestamp(i64::from(*seats) * 86_400, 0);
        let attributes = Attributes::none()
            .text("plan", plan)
            .number("seats", f64::from(*seats))
            .bool("large", *seats > 10);
        match since {
            Some(since) if *seats > 0 => attributes.time("since", since),
            _ => attributes,
        }
    }

    async fn handle(
        &self,
        _cx: &Context,
        Seat::Taken { plan, seats }: Seat,
        event: Event<SeatSignal>,
    ) -> Result<Transition<Self>, StepError> {
        Ok(match event {
            Event::Signal(SeatSignal::Change(plan)) => {
                Transition::stay(Seat::Taken { plan, seats })
            }
            Event::Signal(SeatSignal::Leave) => Transition::complete(()),
            _ => Transition::stay(Seat::Taken { plan, seats }),
        })
    }
}

fn registry() -> Registry {
    Registry::builder()
        .register(SeatWorkflow)
        .register(Door)
        .build()
        .unwrap()
}

async fn find(engine: &TestEngine, filter: &RunFilter) -> Vec<RunId> {
    let mut tx = engine.pool().begin().await.unwrap();
    let found = search::find(&mut tx, filter, None, 100).await.unwrap();
    let count = search::count(&mut tx, filter).await.unwrap();
    assert_eq!(usize::try_from(count.runs), Ok(found.len()));
    found
}

fn test(name: &str, compare: Compare, value: Value, negated: bool) -> AttributeTest {
    AttributeTest {
        name: name.to_owned(),
        compare,
        value,
        negated,
    }
}

fn by(tests: Vec<AttributeTest>) -> RunFilter {
    RunFilter {
        attributes: tests,
        ..RunFilter::default()
    }
}

#[tokio::test(flavor = "multi_thread")]
#[expect(clippy::too_many_lines, reason = "one case a line")]
async fn runs_are_found_by_the_attributes_of_their_present_state() {
    let engine = TestEngine::new(registry()).await;
    let small = engine
        .start::<SeatWorkflow>("a", &("starter".to_owned(), 2))
        .await;
    let large = engine
        .start::<SeatWorkflow>("b", &("team".to_owned(), 30))
        .await;
    let none = engine
        .start::<SeatWorkflow>("c", &("team".to_owned(), 0))
        .await;
    let door = engine.start::<Door>("d", &()).await;
    let plan = |plan: &str| by(vec![test("plan", Compare::OneOf, json!([plan]), false)]);
    // From the start on, before any visit.
    assert_eq!(find(&engine, &plan("starter")).await, [small]);
    engine.drain().await;
    let cases = [
        (
            vec![test(
                "plan",
                Compare::OneOf,
                json!(["starter", "team"]),
                false,
            )],
            vec![none, large, small],
        ),
        (
            vec![test("plan", Compare::OneOf, json!(["team"]), true)],
            vec![door, small],
        ),
        (
            vec![test("seats", Compare::Over, json!(2), false)],
            vec![large],
        ),
        (
            vec![test("seats", Compare::AtLeast, json!(2.0), false)],
            vec![large, small],
        ),
        (
            vec![test("seats", Compare::Under, json!(2), false)],
            vec![none],
        ),
        (
            vec![
                test("seats", Compare::AtMost, json!(2), false),
                test("large", Compare::OneOf, json!([true]), true),
            ],
            vec![none, small],
        ),
        (
            vec![test("large", Compare::OneOf, json!([true]), false)],
            vec![large],
        ),
        (
            vec![test(
                "since",
                Compare::AtLeast,
                json!("1970-01-10T00:00:00.000000Z"),
                false,
            )],
            vec![large],
        ),
        (
            vec![test(
                "since",
                Compare::Under,
                json!("1970-01-10T00:00:00.000000Z"),
                false,
            )],
            vec![small],
        ),
        // Another type's value is neither more nor less.
        (vec![test("plan", Compare::Over, json!(1), false)], vec![]),
        (vec![test("plan", Compare::Under, json!(1), false)], vec![]),
        (
            vec![test("colour", Compare::OneOf, json!(["red"]), false)],
            vec![],
        ),
    ];
    for (tests, expected) in cases {
        let told = format!("{tests:?}");
        assert_eq!(find(&engine, &by(tests)).await, expected, "{told}");
    }
    engine
        .signal::<SeatWorkflow>(small, "1", &SeatSignal::Change("team".to_owned()))
        .await;
    engine.drain().await;
    assert_eq!(find(&engine, &plan("starter")).await, []);
    assert_eq!(find(&engine, &plan("team")).await, [none, large, small]);
    assert_eq!(
        engine.detail(small).await.attributes,
        Some(
            json!({"plan": "team", "seats": 2.0, "large": false, "since": "1970-01-03T00:00:00.000000Z"})
        )
    );
    assert_eq!(engine.detail(door).await.attributes, None);
    // What an ended run was found by stays.
    engine
        .signal::<SeatWorkflow>(large, "2", &SeatSignal::Leave)
        .await;
    engine.drain().await;
    assert_eq!(find(&engine, &plan("team")).await, [none, large, small]);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_edited_state_is_found_as_it_is() {
    let engine = TestEngine::new(registry()).await;
    let run = engine
        .start::<SeatWorkflow>("a", &("starter".to_owned(), 2))
        .await;
    engine.drain().await;
    let verbs = [
        Verb::Pause,
        Verb::Edit {
            state: json!({"Taken": {"plan": "team", "seats": 3}}),
        },
    ];
    for verb in verbs {
        let act = Act {
            actor: "ops".to_owned(),
            role: "operator".to_owned(),
            reason: "because".to_owned(),
            revision: engine.detail(run).await.summary.revision(),
        };
        let mut tx = engine.pool().begin().await.unwrap();
        let registry = engine.client.registry();
        operator::intervene(&mut tx, registry, run, &verb, &act)
            .await
            .unwrap();
        tx.commit().await.unwrap();
    }
    let plan = by(vec![test("plan", Compare::OneOf, json!(["team"]), false)]);
    assert_eq!(find(&engine, &plan).await, [run]);
    assert_eq!(engine.status(run).await, Status::Paused);
}

#[tokio::test(flavor = "multi_thread")]
#[expect(clippy::too_many_lines, reason = "one case a line")]
async fn runs_are_found_by_what_every_run_has() {
    let outside = Outside::default();
    let engine = TestEngine::new(super::workflows::registry(&outside)).await;
    let old = engine.start::<Door>("old", &()).await;
    engine.drain().await;
    engine.advance(Duration::from_secs(3_600));
    let new = engine.start::<Door>("new", &()).await;
    engine.signal::<Door>(new, "k", &DoorSignal::Open).await;
    engine.drain().await;
    let stranger = engine.add_tenant(None).await;
    let age = |from, before| RunFilter {
        age_seconds: Bounds { from, before },
        ..RunFilter::default()
    };
    let visit = |from, before| RunFilter {
        visit: Bounds { from, before },
        ..RunFilter::default()
    };
    let visits = engine.detail(new).await.summary.visit;
    let both = vec![new, old];
    let texts = |names: &[&str]| names.iter().map(ToString::to_string).collect::<Vec<_>>();
    let cases = [
        (age(Some(3_600), None), vec![old]),
        (age(None, Some(3_600)), vec![new]),
        (age(Some(7_200), None), vec![]),
        (visit(Some(visits), None), vec![new]),
        (visit(None, Some(visits)), vec![old]),
        (
            RunFilter {
                key: Wanted {
                    any: Some(texts(&["old", "new", "none"])),
                    none: texts(&["new"]),
                },
                ..RunFilter::default()
            },
            vec![old],
        ),
        (
            RunFilter {
                tenant: Wanted {
                    any: Some(vec![engine.tenant, stranger]),
                    none: vec![stranger],
                },
                status: Wanted {
                    any: Some(vec![Status::Waiting, Status::Stuck]),
                    none: vec![],
                },
                workflow: Wanted {
                    any: None,
                    none: texts(&["errand"]),
                },
                ..RunFilter::default()
            },
            both,
        ),
        (
            RunFilter {
                tenant: Wanted {
                    any: Some(vec![]),
                    none: vec![],
                },
                ..RunFilter::default()
            },
            vec![],
        ),
        (
            RunFilter {
                status: Wanted::only(Status::Stuck),
                ..RunFilter::default()
            },
            vec![],
        ),
    ];
    for (filter, expected) in cases {
        assert_eq!(find(&engine, &filter).await, expected, "{filter:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_search_within_a_tenant_or_among_stuck_runs_reads_no_others() {
    let engine = TestEngine::new(registry()).await;
    sqlx::raw_sql(
        "insert into engine.run
           (run_id, shard_id, status, entered, nudged, version, attempt, losses, tenant_id,
            input_digest, epoch, visit, started_at, changed_at, workflow, key, state, data, stuck)
         select
           ('01a209f6-4762-727e-8000-' || lpad(to_hex(n), 12, '0'))::uuid, 7,
           case when n % 500 = 0 then 8 else 10 end, true, false, 1, 0, 0,
           ('01a209f6-4762-727e-9000-' || lpad(to_hex(n % 1000), 12, '0'))::uuid,
           '01a209f6-4762-727e-9000-000000000000', 1, 1, engine.now(), engine.now(), 'seat',
           'k' || n, 'Taken', '{}', case when n % 500 = 0 then 'undecodable' end
         from generate_series(1, 20000) as n;
         insert into engine.parked (run_id, shard_id, status, tenant_id, workflow, reason, since)
         select run_id, shard_id, 8, tenant_id, workflow, 'undecodable', engine.now()
         from engine.run
         where status = 8;
         analyze engine.run, engine.parked;",
    )
    .execute(engine.pool())
    .await
    .unwrap();
    let tenant = "01a209f6-4762-727e-9000-000000000001".parse().unwrap();
    let of_tenant = RunFilter {
        tenant: Wanted::only(tenure_engine::TenantId(tenant)),
        state: Wanted::only("Taken".to_owned()),
        ..RunFilter::default()
    };
    let stuck = RunFilter {
        status: Wanted::only(Status::Stuck),
        ..RunFilter::default()
    };
    let of_key = RunFilter {
        key: Wanted::only("k77".to_owned()),
        ..RunFilter::default()
    };
    for (filter, expected) in [(of_tenant, 20), (stuck, 40), (of_key, 1)] {
        let mut conn = engine.pool().acquire().await.unwrap();
        let read = async |conn: &mut sqlx::PgConnection| {
            let pages: i64 = sqlx::query_scalar(
                "select pg_stat_get_xact_tuples_fetched('engine.run'::regclass)
                      + pg_stat_get_xact_tuples_returned('engine.run'::regclass)",
            )
            .fetch_one(conn)
            .await
            .unwrap();
            pages
        };
        let mut tx = sqlx::Connection::begin(&mut *conn).await.unwrap();
        let before = read(&mut tx).await;
        let found = search::find(&mut tx, &filter, None, 100).await.unwrap();
        let rows = read(&mut tx).await - before;
        assert_eq!(found.len(), expected);
        assert!(rows < 500, "{filter:?} read {rows} rows for {expected}");
    }
}

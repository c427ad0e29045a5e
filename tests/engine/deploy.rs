//! What a build would strand, told before it is rolled out: each verdict on a real run.

use serde::{Deserialize, Serialize};
use serde_json::Value;
use tenure_engine::deploy::{self, Plan, Verdict};
use tenure_engine::{Context, Event, Registry, StepError, Transition, Workflow};

use super::versions::{OrderV1, Orders, SignalV2, approve, order, pay, v1, v2};
use super::workflows::{Door, Outside};
use crate::support::engine::TestEngine;

/// A later version that forgot its elders: it panics on the second, and never heard of the first.
struct Forgetful;

#[derive(Debug, Serialize, Deserialize)]
enum StateV3 {
    Everything { item: String },
}

impl Workflow for Forgetful {
    const NAME: &'static str = OrderV1::NAME;
    const VERSION: i32 = 3;
    type Input = String;
    type State = StateV3;
    type Signal = SignalV2;
    type Output = String;

    fn start(&self, item: String) -> StateV3 {
        StateV3::Everything { item }
    }

    fn migrate(&self, from_version: i32, _state: Value) -> Result<Value, String> {
        assert!(from_version < 2, "who wrote this");
        Err("too old".to_owned())
    }

    async fn handle(
        &self,
        _cx: &Context,
        state: StateV3,
        _event: Event<SignalV2>,
    ) -> Result<Transition<Self>, StepError> {
        Ok(Transition::stay(state))
    }
}

/// The groups that are not fine: version, state, verdict, runs.
fn told(plan: &Plan) -> Vec<(i32, &str, Verdict, u64)> {
    let groups = plan.groups.iter();
    groups
        .filter(|group| group.verdict != Verdict::Fine)
        .map(|group| {
            (
                group.version,
                group.state.as_str(),
                group.verdict,
                group.runs,
            )
        })
        .collect()
}

fn fine(plan: &Plan) -> u64 {
    let groups = plan.groups.iter();
    let fine = groups.filter(|group| group.verdict == Verdict::Fine);
    fine.map(|group| group.runs).sum()
}

fn reason(plan: &Plan, verdict: Verdict) -> &str {
    let group = plan.groups.iter().find(|group| group.verdict == verdict);
    group.unwrap().reason.as_deref().unwrap()
}

async fn plan(engine: &TestEngine, registry: &Registry) -> Plan {
    deploy::plan(engine.pool(), registry, true).await.unwrap()
}

async fn execute(engine: &TestEngine, statement: &'static str) {
    let done = sqlx::raw_sql(statement).execute(engine.pool()).await;
    assert!(done.unwrap().rows_affected() > 0, "{statement}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_build_that_lifts_everything_strands_nothing_and_names_the_open_journals() {
    let outside = Outside::default();
    let engine = TestEngine::new(v1(&outside)).await;
    let orders = Orders::on(&engine, &outside).await;
    let up = plan(&engine, &v2(&outside, "weigh")).await;
    assert_eq!(told(&up), [(1, "Packing", Verdict::OpenJournal, 2)]);
    assert!(!up.strands(), "an open journal only may");
    assert_eq!(fine(&up), 6);
    let open = up.groups.iter().find(|group| !group.run_ids.is_empty());
    let mut expected = [orders.retrying, orders.stuck];
    expected.sort();
    assert_eq!(open.unwrap().run_ids, expected);
    let same = plan(&engine, &v1(&outside)).await;
    assert_eq!(told(&same), [], "its own journals are no risk");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rollback_and_a_build_without_the_workflow_are_told_run_by_run() {
    let outside = Outside::default();
    let old = TestEngine::new(v1(&outside)).await;
    let new = old.beside(v2(&outside, "weigh")).await;
    let orders = Orders::on(&old, &outside).await;
    pay(&old, orders.ordered).await;
    new.drain().await;
    // The old build neither knows the new state, nor the signal that waits for an old one.
    approve(&new, orders.paused).await;
    approve(&new, orders.ordered).await;
    let back = plan(&old, old.client.registry()).await;
    assert!(back.strands());
    assert_eq!(
        told(&back),
        [
            (1, "Ordered", Verdict::SignalUnreadable, 1),
            (2, "Checking", Verdict::NewerVersion, 1),
            // It began by itself, when the new version drained what was due.
            (2, "Ordered", Verdict::NewerVersion, 1),
        ]
    );
    let stranded: Vec<_> = back.stranded().flat_map(|group| &group.run_ids).collect();
    assert_eq!(stranded, [&orders.paused, &orders.ordered, &orders.due]);
    let doors = Registry::builder().register(Door).build().unwrap();
    let without = plan(&old, &doors).await;
    assert_eq!(fine(&without), 0);
    let lost = without.stranded().map(|group| group.runs).sum::<u64>();
    assert_eq!(lost, 6);

    // A worker that starts sees the same from a few runs, ended ones among them.
    for (registry, strands) in [(old.client.registry(), true), (&doors, true)] {
        let seen = deploy::sample(old.pool(), registry).await.unwrap();
        assert_eq!(seen.strands(), strands);
    }
    let seen = deploy::sample(old.pool(), new.client.registry()).await;
    assert!(!seen.unwrap().strands());
    execute(
        &old,
        "update engine.run set status = 13, stuck = null, paused_at = null",
    )
    .await;
    let seen = deploy::sample(old.pool(), &doors).await.unwrap();
    assert_eq!(
        seen,
        Plan::default(),
        "what has ended is nobody's to handle"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_lifted_or_read_is_told_with_the_reason() {
    let outside = Outside::default();
    let engine = TestEngine::new(v1(&outside)).await;
    for key in ["kept", "renamed", "cut", "stuck"] {
        order(&engine, key).await;
    }
    execute(
        &engine,
        "update engine.run set data = '{\"Ordered\":{}}' where key = 'stuck'",
    )
    .await;
    engine.drain().await;
    execute(
        &engine,
        "update engine.run set data = '{\"Ordered\":{}}' where key = 'cut';
         update engine.run set state = 'Lost', data = '{\"Lost\":{}}' where key = 'renamed'",
    )
    .await;
    let same = plan(&engine, engine.client.registry()).await;
    assert_eq!(
        told(&same),
        [
            (1, "Lost", Verdict::UnknownState, 1),
            (1, "Ordered", Verdict::StuckAlready, 1),
            (1, "Ordered", Verdict::Unreadable, 1),
        ]
    );
    assert!(reason(&same, Verdict::Unreadable).contains("missing field `item`"));
    let knows = reason(&same, Verdict::UnknownState);
    assert!(knows.contains("only Ordered, Packing, OnItsWay"), "{knows}");

    execute(
        &engine,
        "update engine.run set version = 2 where key = 'cut'",
    )
    .await;
    let forgetful = Registry::builder().register(Forgetful).build().unwrap();
    let up = plan(&engine, &forgetful).await;
    assert_eq!(
        told(&up),
        [
            (1, "Lost", Verdict::NotLifted, 1),
            (1, "Ordered", Verdict::StuckAlready, 1),
            (1, "Ordered", Verdict::NotLifted, 1),
            (2, "Ordered", Verdict::NotLifted, 1),
        ]
    );
    let reasons: Vec<_> = up.stranded().map(|group| group.reason.as_deref()).collect();
    let panics = Some("it panics: who wrote this");
    assert_eq!(reasons, [Some("too old"), Some("too old"), panics]);
}

#[tokio::test(flavor = "multi_thread")]
async fn runs_and_signals_of_many_pages_are_each_looked_at_once() {
    let engine = TestEngine::new(v1(&Outside::default())).await;
    let starts: Vec<_> = (0..2_500)
        .map(|n| (format!("{n}"), "x".to_owned()))
        .collect();
    let mut conn = engine.pool().acquire().await.unwrap();
    let starting = engine
        .client
        .start_many::<OrderV1>(&mut conn, engine.tenant, &starts);
    starting.await.unwrap();
    drop(conn);
    execute(
        &engine,
        "insert into engine.inbox
           (run_id, shard_id, kind, received_at, recorded_at, position, tenant_id, signal_id, name, payload)
         select run_id, shard_id, 0, now(), now(), 0, tenant_id, 'sig-' || n, 'Shout', '\"Shout\"'
         from engine.run
         cross join generate_series(1, 2) as n",
    )
    .await;
    let told_of = plan(&engine, engine.client.registry()).await;
    assert_eq!(fine(&told_of), 2_500);
    assert_eq!(
        told(&told_of),
        [(1, "Ordered", Verdict::SignalUnreadable, 2_500)]
    );
    let seen = deploy::sample(engine.pool(), engine.client.registry()).await;
    assert_eq!(fine(&seen.unwrap()), 500, "a start looks at both ends");
}

//! What versions of our workflows have ever stored, as frozen in `fixtures/journals/`: the present
//! code still reads it, and goes on where an open journal ends.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use serde::Deserialize;
use serde_json::Value;
use tenure_engine::deploy::{self, Verdict};
use tenure_engine::inspect;
use tenure_engine::{PoolConfig, Registry, RunId, ShardId};
use tenure_workflows::Environment;

use crate::support;
use crate::support::engine::TestEngine;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Fixture {
    workflow: String,
    version: i32,
    states: Vec<Value>,
    signals: Vec<Value>,
    journals: Vec<Journal>,
    #[serde(default)]
    refused: Vec<Refused>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Refused {
    state: Value,
    because: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Journal {
    state: Value,
    event: String,
    signal: Option<Value>,
    steps: Vec<Answered>,
    goes_on_with: Option<String>,
    stuck: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Answered {
    name: String,
    answer: Value,
}

fn fixtures() -> Vec<Fixture> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/journals");
    let files = std::fs::read_dir(folder).unwrap();
    let mut paths: Vec<_> = files.map(|file| file.unwrap().path()).collect();
    paths.retain(|path| path.extension().is_some_and(|is| is == "json"));
    paths.sort();
    let read = |path: std::path::PathBuf| {
        let text = std::fs::read_to_string(&path).unwrap();
        let fixture: Fixture =
            serde_json::from_str(&text).unwrap_or_else(|error| panic!("{path:?}: {error}"));
        let name = format!("{}-{}", fixture.workflow, fixture.version);
        assert_eq!(path.file_stem().unwrap(), name.as_str());
        fixture
    };
    paths.into_iter().map(read).collect()
}

/// An engine with the real workflows, and nothing to reach.
async fn unplugged() -> TestEngine {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let options = support::database().await;
    let config = PoolConfig::default();
    let pool = tenure_engine::connect(options.clone(), &config).await;
    let environment = Environment::unplugged(pool.unwrap()).unwrap();
    let registry = tenure_workflows::workflows(&environment).build();
    TestEngine::on(options, registry.unwrap()).await
}

/// The name of a state's variant.
fn variant(state: &Value) -> &str {
    let tag = state.as_object().and_then(|map| map.keys().next());
    let name = tag.map(String::as_str).or(state.as_str());
    name.unwrap_or_else(|| panic!("not a state: {state}"))
}

fn judge(registry: &Registry, fixture: &Fixture, state: &Value) -> (Verdict, Option<String>) {
    let data = serde_json::to_vec(state).unwrap();
    let name = variant(state);
    deploy::state(registry, &fixture.workflow, fixture.version, name, &data)
}

#[tokio::test(flavor = "multi_thread")]
async fn every_state_and_signal_that_was_ever_stored_is_read_or_refused_by_name() {
    let engine = unplugged().await;
    let registry = engine.client.registry();
    for fixture in fixtures() {
        let of = format!("{} {}", fixture.workflow, fixture.version);
        for state in &fixture.states {
            let judged = judge(registry, &fixture, state);
            assert_eq!(judged, (Verdict::Fine, None), "{of}: {state}");
        }
        for refused in &fixture.refused {
            let (verdict, reason) = judge(registry, &fixture, &refused.state);
            assert!(verdict.strands(), "{of}: {} is read", refused.state);
            let reason = reason.unwrap();
            assert!(reason.contains(&refused.because), "{of}: {reason}");
        }
        for signal in &fixture.signals {
            let payload = serde_json::to_vec(signal).unwrap();
            let judged = deploy::signal(registry, &fixture.workflow, variant(signal), &payload);
            assert_eq!(judged, (Verdict::Fine, None), "{of}: {signal}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_version_has_its_file_and_every_state_of_the_present_one_is_in_it() {
    let engine = unplugged().await;
    let registry = engine.client.registry();
    let mut known: BTreeMap<(String, i32), BTreeSet<String>> = BTreeMap::new();
    for fixture in fixtures() {
        let states = fixture.states.iter().map(variant).map(str::to_owned);
        known.insert(
            (fixture.workflow.clone(), fixture.version),
            states.collect(),
        );
    }
    for (workflow, version) in registry.versions() {
        for older in 1..=version {
            let file = (workflow.to_owned(), older);
            assert!(known.contains_key(&file), "no {workflow}-{older}.json");
        }
        let states = &known[&(workflow.to_owned(), version)];
        let variants = registry.states(workflow).unwrap_or_default();
        assert!(!variants.is_empty(), "{workflow} has no states");
        for variant in variants {
            assert!(
                states.contains(*variant),
                "{workflow}-{version}.json has no state {variant}"
            );
        }
    }
}

/// Stores a run in the middle of a visit.
async fn store(engine: &TestEngine, fixture: &Fixture, journal: &Journal) -> RunId {
    let shard: ShardId = engine.tenant.shard();
    let run = RunId::new(shard);
    let deadline = journal.event.strip_prefix("deadline ");
    let deadlines =
        deadline.map(|name| serde_json::json!([{"name": name, "at": "2020-01-01T00:00:00Z"}]));
    let mut tx = engine.pool().begin().await.unwrap();
    sqlx::query(
        "insert into engine.run
           (run_id, shard_id, status, entered, nudged, version, attempt, losses, tenant_id, input_digest,
            epoch, visit, started_at, changed_at, workflow, key, state, data, deadlines, begun)
         values ($1, $2, 0, $3, false, $4, 0, 0, $5, $1, 1, 7, now(), now(), $6, $1::text, $7, $8, $9, true)",
    )
    .bind(run.0)
    .bind(shard.0)
    .bind(journal.event != "entered")
    .bind(fixture.version)
    .bind(engine.tenant.0)
    .bind(&fixture.workflow)
    .bind(variant(&journal.state))
    .bind(serde_json::to_vec(&journal.state).unwrap())
    .bind(deadlines)
    .execute(&mut *tx)
    .await
    .unwrap();
    sqlx::query("insert into engine.due values ($1, $2, now(), $3)")
        .bind(run.0)
        .bind(shard.0)
        .bind(engine.tenant.0)
        .execute(&mut *tx)
        .await
        .unwrap();
    if let (Some(id), Some(signal)) = (journal.event.strip_prefix("inbox "), &journal.signal) {
        sqlx::query(
            "insert into engine.inbox
               (run_id, shard_id, kind, received_at, recorded_at, position, tenant_id, signal_id, name, payload)
             values ($1, $2, 0, now(), now(), 0, $3, $4, $5, $6)",
        )
        .bind(run.0)
        .bind(shard.0)
        .bind(engine.tenant.0)
        .bind(id)
        .bind(variant(signal))
        .bind(serde_json::to_vec(signal).unwrap())
        .execute(&mut *tx)
        .await
        .unwrap();
    }
    for (seq, step) in (0_i32..).zip(&journal.steps) {
        sqlx::query(
            "insert into engine.step
               (run_id, shard_id, seq, visit, recorded_at, version, failed, name, event, answer)
             values ($1, $2, $3, 7, now(), $4, false, $5, $6, $7)",
        )
        .bind(run.0)
        .bind(shard.0)
        .bind(seq)
        .bind(fixture.version)
        .bind(&step.name)
        .bind((seq == 0).then_some(&journal.event))
        .bind(serde_json::to_vec(&step.answer).unwrap())
        .execute(&mut *tx)
        .await
        .unwrap();
    }
    tx.commit().await.unwrap();
    run
}

#[tokio::test(flavor = "multi_thread")]
async fn every_open_journal_is_gone_on_with_or_refused_by_name() {
    let engine = unplugged().await;
    let fixtures = fixtures();
    let journals = fixtures.iter().flat_map(|fixture| {
        fixture
            .journals
            .iter()
            .map(move |journal| (fixture, journal))
    });
    for (fixture, journal) in journals {
        let of = format!(
            "{} {}, {} after {} steps",
            fixture.workflow,
            fixture.version,
            journal.event,
            journal.steps.len()
        );
        let run = store(&engine, fixture, journal).await;
        engine.drain().await;
        // What failed on a provider that is not there must not keep the next one from asking.
        sqlx::query("delete from engine.breaker")
            .execute(&mut support::connect(&engine.options).await)
            .await
            .unwrap();
        let summary = engine.detail(run).await.summary;
        let step = summary.error.as_ref().and_then(|error| error.step.clone());
        if journal.stuck.is_some() {
            assert_eq!(summary.stuck, journal.stuck, "{of}: {:?}", summary.error);
            continue;
        }
        let of = format!("{of}: {:?} {:?}", summary.stuck, summary.error);
        let ended = journal.goes_on_with.is_none();
        assert_eq!(summary.visit > 7, ended || step.is_none(), "{of}");
        let mut conn = engine.pool().acquire().await.unwrap();
        let mut steps = inspect::steps(&mut conn, engine.keyring(), run)
            .await
            .unwrap();
        steps.retain(|step| step.visit == 7);
        steps.sort_by_key(|step| step.seq);
        // Nothing can be reached, so a step either fails, or finds no row and is done.
        let next = steps.get(journal.steps.len()).map(|step| step.name.clone());
        assert_eq!(next.or(step), journal.goes_on_with, "{of}");
    }
}

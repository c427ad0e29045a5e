//! Schedules: each slot once, on the days when clocks change too; overlap, catch-up, jitter; what
//! humans do to them.

use std::collections::BTreeSet;
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use chrono_tz::Tz;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use sqlx::Connection as _;
use tenure_engine::operator::Act;
use tenure_engine::schedule::{
    self, CatchUp, Cron, NewSchedule, Overlap, Schedule, ScheduleChange, ScheduleFilter, SlotLine,
    SlotOutcome,
};
use tenure_engine::{
    ClockId, Context, EngineError, Event, Registry, RunId, ScheduleId, ShardId, Status, StepError,
    Transition, Worker, WorkerConfig, Workflow, test_clock,
};

use super::workflows::{Door, DoorSignal, Errand, Nothing, Outside, registry};
use crate::support::engine::TestEngine;
use crate::support::eventually;

const HOUR: Duration = Duration::from_secs(3_600);

async fn engine_at(time: &str) -> TestEngine {
    let engine = TestEngine::new(registry(&Outside::default())).await;
    engine.set_time(time).await;
    engine
}

fn act(revision: i64) -> Act {
    Act {
        actor: "maria".to_owned(),
        role: "operator".to_owned(),
        reason: "as agreed".to_owned(),
        revision,
    }
}

fn new(name: &str, cron: &str, zone: &str) -> NewSchedule {
    NewSchedule {
        name: name.to_owned(),
        workflow: "errand".to_owned(),
        input: json!(0),
        cron: cron.to_owned(),
        zone: zone.to_owned(),
        overlap: Overlap::Allow,
        catch_up: CatchUp::All,
        jitter_seconds: 0,
    }
}

/// An hourly schedule of doors, whose runs go on until they are told to finish.
fn doors(overlap: Overlap) -> NewSchedule {
    NewSchedule {
        workflow: "door".to_owned(),
        input: Value::Null,
        overlap,
        ..new("doors", "0 * * * *", "UTC")
    }
}

async fn create(engine: &TestEngine, new: &NewSchedule) -> Schedule {
    try_create(engine, new).await.unwrap()
}

async fn try_create(engine: &TestEngine, new: &NewSchedule) -> Result<Schedule, EngineError> {
    let mut conn = engine.pool().acquire().await.unwrap();
    let registry = engine.client.registry();
    let act = act(0);
    schedule::create(&mut conn, registry, engine.tenant, new, &act).await
}

/// Does something to a schedule, on a connection that has the engine's present time.
async fn pause(engine: &TestEngine, id: ScheduleId, seen: i64) -> Result<Schedule, EngineError> {
    let mut conn = engine.pool().acquire().await.unwrap();
    let registry = engine.client.registry();
    schedule::pause(&mut conn, registry, id, &act(seen)).await
}

async fn resume(engine: &TestEngine, id: ScheduleId, seen: i64) -> Schedule {
    let mut conn = engine.pool().acquire().await.unwrap();
    let registry = engine.client.registry();
    schedule::resume(&mut conn, registry, id, &act(seen))
        .await
        .unwrap()
}

/// What became of the slots, oldest first.
async fn slots(engine: &TestEngine, id: ScheduleId) -> Vec<SlotLine> {
    let mut conn = engine.pool().acquire().await.unwrap();
    let mut slots = schedule::detail(&mut conn, id).await.unwrap().slots;
    slots.reverse();
    slots
}

/// The slots in words: hour, outcome, why.
async fn words(engine: &TestEngine, id: ScheduleId) -> Vec<String> {
    let line = |line: SlotLine| {
        let until = line.until.map(|until| until.format("-%H").to_string());
        let outcome = match (line.outcome, line.reason) {
            (SlotOutcome::Started, _) => line.status.unwrap().word().to_owned(),
            (SlotOutcome::Queued, _) => "queued".to_owned(),
            (SlotOutcome::Skipped, reason) => reason.unwrap(),
        };
        let hour = line.slot.format("%H");
        format!("{hour}{} {outcome}", until.unwrap_or_default())
    };
    slots(engine, id).await.into_iter().map(line).collect()
}

async fn run_at(engine: &TestEngine, id: ScheduleId, hour: &str) -> RunId {
    let slots = slots(engine, id).await;
    let slot = slots
        .into_iter()
        .find(|line| line.slot.format("%H").to_string() == hour);
    slot.unwrap().run_id.unwrap()
}

async fn finish(engine: &TestEngine, run: RunId) {
    engine
        .signal::<Door>(run, "finish", &DoorSignal::Finish)
        .await;
    engine.drain().await;
    assert_eq!(engine.status(run).await, Status::Completed);
}

/// The slots that the expression names between two instants.
fn expected(cron: &str, zone: &str, from: &str, until: DateTime<Utc>) -> BTreeSet<DateTime<Utc>> {
    let cron: Cron = cron.parse().unwrap();
    let zone: Tz = zone.parse().unwrap();
    cron.slots_after(from.parse().unwrap(), zone)
        .take_while(|slot| *slot <= until)
        .collect()
}

/// The slots that have a run, from the keys of the runs; each is checked to have one run only.
async fn started(engine: &TestEngine, name: &str) -> BTreeSet<DateTime<Utc>> {
    let prefix = format!("schedule/{name}/");
    let keys: Vec<String> =
        sqlx::query_scalar("select key from engine.run where starts_with(key, $1)")
            .bind(&prefix)
            .fetch_all(engine.pool())
            .await
            .unwrap();
    let slots: BTreeSet<_> = keys
        .iter()
        .map(|key| key[prefix.len()..].parse().unwrap())
        .collect();
    assert_eq!(slots.len(), keys.len(), "a slot has two runs");
    slots
}

async fn now(engine: &TestEngine) -> DateTime<Utc> {
    let mut conn = engine.pool().acquire().await.unwrap();
    sqlx::query_scalar("select engine.now()")
        .fetch_one(&mut *conn)
        .await
        .unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn each_slot_of_a_year_comes_about_once_with_three_workers_racing() {
    const START: &str = "2027-01-01T00:00:00Z";
    let entries = [
        ("daily", "30 2 * * *", "Europe/Berlin"),
        ("often", "15 */8 * * *", "America/New_York"),
        ("weekly", "0 9 * * MON", "Australia/Lord_Howe"),
    ];
    let outside = Outside::default();
    let one = engine_at(START).await;
    let two = one.beside(registry(&outside)).await;
    let three = one.beside(registry(&outside)).await;
    for (name, cron, zone) in entries {
        create(&one, &new(name, cron, zone)).await;
    }
    for _ in 0..53 {
        one.advance(7 * 24 * HOUR);
        tokio::join!(one.drain(), two.drain(), three.drain());
    }
    let until = now(&one).await;
    for (name, cron, zone) in entries {
        let expected = expected(cron, zone, START, until);
        assert!(expected.len() >= 53);
        assert_eq!(started(&one, name).await, expected, "{name}");
    }
    let open: i64 = sqlx::query_scalar("select count(*) from engine.run where status <> 10")
        .fetch_one(one.pool())
        .await
        .unwrap();
    assert_eq!(open, 0);
    one.assert_nothing_lost().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_that_crashes_between_loses_no_slot_and_doubles_none() {
    const START: &str = "2027-05-01T00:00:30Z";
    let outside = Outside::default();
    let one = engine_at(START).await;
    let two = one.beside(registry(&outside)).await;
    create(&one, &new("m", "*/5 * * * *", "UTC")).await;
    let mut queued = doors(Overlap::Queue);
    queued.cron = "*/20 * * * *".to_owned();
    let queued = create(&one, &queued).await;
    for round in 0..25 {
        one.advance(Duration::from_secs(600));
        let (doomed, other) = tokio::join!(one.worker(), two.worker());
        if round % 2 == 0 {
            // In the middle of whatever it is at.
            tokio::task::yield_now().await;
        } else {
            eventually("somebody has begun", async || {
                !started(&one, "m").await.is_empty()
            })
            .await;
        }
        tokio::join!(doomed.crash(), other.crash());
        // Their leases run out.
        one.advance(Duration::from_secs(60));
    }
    one.drain().await;
    let until = now(&one).await;
    let wanted = expected("*/5 * * * *", "UTC", START, until);
    assert_eq!(started(&one, "m").await, wanted);
    let wanted = expected("*/20 * * * *", "UTC", START, until);
    let decided: BTreeSet<_> = slots(&one, queued.schedule_id)
        .await
        .into_iter()
        .map(|line| line.slot)
        .collect();
    assert_eq!(decided, wanted, "a queued slot is lost");
    one.assert_nothing_lost().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_look_that_fails_halfway_leaves_nothing() {
    let engine = engine_at("2027-05-01T00:30:00Z").await;
    let schedule = create(&engine, &new("n", "0 * * * *", "UTC")).await;
    engine.advance(3 * HOUR);
    // The runs go in before what became of the slots is written down; that is refused.
    let mut conn = crate::support::connect(&engine.options).await;
    sqlx::raw_sql("alter table engine.slot add constraint broken check (false)")
        .execute(&mut conn)
        .await
        .unwrap();
    engine.drain().await;
    assert!(started(&engine, "n").await.is_empty());
    let stands = {
        let mut conn = engine.pool().acquire().await.unwrap();
        schedule::find(&mut conn, schedule.schedule_id)
            .await
            .unwrap()
    };
    assert_eq!(stands.next_slot, schedule.next_slot);
    sqlx::raw_sql("alter table engine.slot drop constraint broken")
        .execute(&mut conn)
        .await
        .unwrap();
    engine.advance(Duration::from_secs(6));
    engine.drain().await;
    assert_eq!(
        words(&engine, schedule.schedule_id).await,
        ["01 completed", "02 completed", "03 completed"]
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn an_idle_worker_wakes_for_the_next_slot_without_polling() {
    let engine = engine_at("2027-05-01T11:59:58Z").await;
    let noon = create(&engine, &new("noon", "0 12 * * *", "UTC")).await;
    let config = WorkerConfig {
        poll: HOUR,
        ..WorkerConfig::default()
    };
    let worker = Worker::start(&engine.client, config).await.unwrap();
    eventually("the slot has its run", async || {
        words(&engine, noon.schedule_id).await == ["12 completed"]
    })
    .await;
    worker.shutdown().await;
    let line = &slots(&engine, noon.schedule_id).await[0];
    let late = line.decided_at - line.slot;
    assert!(late < TimeDelta::seconds(5), "{late} late");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_that_is_full_looks_at_schedules_all_the_same() {
    let outside = Outside::default();
    let engine = TestEngine::new(registry(&outside)).await;
    engine.set_time("2027-05-01T11:59:59Z").await;
    let noon = create(&engine, &new("noon", "0 12 * * *", "UTC")).await;
    outside.hold();
    engine.start::<Errand>("long", &0).await;
    let config = WorkerConfig {
        in_flight: 1,
        ..WorkerConfig::default()
    };
    let worker = Worker::start(&engine.client, config).await.unwrap();
    outside.arrived().await;
    eventually("the slot has its run", async || {
        words(&engine, noon.schedule_id).await == ["12 due"]
    })
    .await;
    outside.release();
    eventually("its run completes", async || {
        words(&engine, noon.schedule_id).await == ["12 completed"]
    })
    .await;
    worker.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn on_the_days_when_clocks_change_nothing_is_lost_or_doubled() {
    let engine = engine_at("2027-03-27T12:00:00Z").await;
    let fixed = create(&engine, &new("fixed", "30 2 * * *", "Europe/Berlin")).await;
    let mut wild = new("wild", "30 * * * *", "Europe/Berlin");
    wild.workflow = "errand".to_owned();
    create(&engine, &wild).await;
    for _ in 0..24 {
        engine.advance(HOUR);
        engine.drain().await;
    }
    let gap: BTreeSet<DateTime<Utc>> = ["2027-03-28T01:00:00Z".parse().unwrap()].into();
    assert_eq!(started(&engine, "fixed").await, gap);
    assert_eq!(started(&engine, "wild").await.len(), 24);
    // Half a year passes in a pause.
    let id = fixed.schedule_id;
    pause(&engine, id, 1).await.unwrap();
    engine.set_time("2027-10-30T21:00:00Z").await;
    let resumed = resume(&engine, id, 2).await;
    // 02:30 comes twice; the first one counts.
    let twice: DateTime<Utc> = "2027-10-31T00:30:00Z".parse().unwrap();
    assert_eq!(resumed.next_slot, Some(twice));
    for _ in 0..6 {
        engine.advance(HOUR);
        engine.drain().await;
    }
    let started = started(&engine, "fixed").await;
    assert!(started.contains(&twice));
    assert!(!started.contains(&(twice + TimeDelta::hours(1))));
}

#[tokio::test(flavor = "multi_thread")]
async fn overlap_allow_starts_all_the_same_and_skip_skips_visibly() {
    let engine = engine_at("2027-05-01T00:30:00Z").await;
    let skip = create(&engine, &doors(Overlap::Skip)).await.schedule_id;
    let mut allow = doors(Overlap::Allow);
    allow.name = "allow".to_owned();
    let allow = create(&engine, &allow).await.schedule_id;
    for _ in 0..3 {
        engine.advance(HOUR);
        engine.drain().await;
    }
    assert_eq!(
        words(&engine, allow).await,
        ["01 waiting", "02 waiting", "03 waiting"]
    );
    assert_eq!(
        words(&engine, skip).await,
        ["01 waiting", "02 overlap", "03 overlap"]
    );
    finish(&engine, run_at(&engine, skip, "01").await).await;
    engine.advance(HOUR);
    engine.drain().await;
    assert_eq!(
        words(&engine, skip).await,
        ["01 completed", "02 overlap", "03 overlap", "04 waiting"]
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn overlap_queue_starts_one_after_the_other() {
    let engine = engine_at("2027-05-01T00:30:00Z").await;
    let all = create(&engine, &doors(Overlap::Queue)).await.schedule_id;
    let mut latest = doors(Overlap::Queue);
    latest.name = "latest".to_owned();
    latest.catch_up = CatchUp::One;
    let latest = create(&engine, &latest).await.schedule_id;
    for _ in 0..3 {
        engine.advance(HOUR);
        engine.drain().await;
    }
    assert_eq!(
        words(&engine, all).await,
        ["01 waiting", "02 queued", "03 queued"]
    );
    assert_eq!(
        words(&engine, latest).await,
        ["01 waiting", "02 replaced", "03 queued"]
    );
    for id in [all, latest] {
        finish(&engine, run_at(&engine, id, "01").await).await;
    }
    // The waiting slots are looked at within half a minute.
    engine.advance(Duration::from_secs(31));
    engine.drain().await;
    assert_eq!(
        words(&engine, all).await,
        ["01 completed", "02 waiting", "03 queued"]
    );
    assert_eq!(
        words(&engine, latest).await,
        ["01 completed", "02 replaced", "03 waiting"]
    );
    finish(&engine, run_at(&engine, all, "02").await).await;
    engine.advance(Duration::from_secs(31));
    engine.drain().await;
    assert_eq!(words(&engine, all).await[2], "03 waiting");
    engine.assert_nothing_lost().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn overlap_replace_cancels_the_running_one_and_starts_after_it() {
    let engine = engine_at("2027-05-01T00:30:00Z").await;
    let id = create(&engine, &doors(Overlap::Replace)).await.schedule_id;
    engine.advance(HOUR);
    engine.drain().await;
    assert_eq!(words(&engine, id).await, ["01 waiting"]);
    engine.advance(HOUR);
    engine.drain().await;
    engine.advance(Duration::from_secs(31));
    engine.drain().await;
    assert_eq!(words(&engine, id).await, ["01 cancelled", "02 waiting"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn after_a_downtime_catch_up_makes_up_none_one_or_all() {
    let engine = engine_at("2027-05-01T00:30:00Z").await;
    let mut ids = Vec::new();
    for catch_up in CatchUp::ALL {
        let mut new = new(catch_up.word(), "0 * * * *", "UTC");
        new.catch_up = catch_up;
        ids.push(create(&engine, &new).await.schedule_id);
    }
    let mut minutes = new("minutes", "* * * * *", "UTC");
    minutes.catch_up = CatchUp::All;
    create(&engine, &minutes).await;
    engine.advance(4 * HOUR);
    engine.drain().await;
    assert_eq!(words(&engine, ids[0]).await, ["01-04 missed"]);
    assert_eq!(
        words(&engine, ids[1]).await,
        ["01-03 missed", "04 completed"]
    );
    assert_eq!(
        words(&engine, ids[2]).await,
        [
            "01 completed",
            "02 completed",
            "03 completed",
            "04 completed"
        ]
    );
    // More than one look takes: it goes on at the next.
    let minutes = started(&engine, "minutes").await;
    assert!((240..=242).contains(&minutes.len()), "{}", minutes.len());
    engine.set_time("2027-05-01T05:00:10Z").await;
    engine.drain().await;
    for (id, last) in ids.into_iter().zip(["05 completed"; 3]) {
        assert_eq!(words(&engine, id).await.last().unwrap(), last);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn jitter_moves_the_runs_due_instant_and_not_the_slot() {
    let engine = engine_at("2027-05-01T00:30:00Z").await;
    let mut new = new("spread", "0 * * * *", "UTC");
    new.jitter_seconds = 1_200;
    let id = create(&engine, &new).await.schedule_id;
    let mut late = BTreeSet::new();
    for hour in 1..=8 {
        let slot: DateTime<Utc> = format!("2027-05-01T{hour:02}:00:00Z").parse().unwrap();
        engine.set_time(&slot.to_rfc3339()).await;
        engine.drain().await;
        let line = slots(&engine, id).await.pop().unwrap();
        assert_eq!(line.slot, slot);
        let due: Option<DateTime<Utc>> =
            sqlx::query_scalar("select due_at from engine.due where run_id = $1")
                .bind(line.run_id.unwrap().0)
                .fetch_optional(engine.pool())
                .await
                .unwrap();
        let Some(due) = due else { continue };
        let why = engine.detail(line.run_id.unwrap()).await.why;
        assert!(why.summary.contains("spreads its runs"), "{why:?}");
        assert!(due >= slot && due <= slot + TimeDelta::seconds(1_200));
        late.insert((due - slot).num_seconds());
    }
    assert!(late.len() > 4, "it spreads: {late:?}");
    engine.advance(Duration::from_secs(1_201));
    engine.drain().await;
    let words = words(&engine, id).await;
    assert!(
        words.iter().all(|line| line.ends_with("completed")),
        "{words:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pause_stops_slots_and_a_resume_makes_none_up() {
    let engine = engine_at("2027-05-01T00:30:00Z").await;
    let id = create(&engine, &doors(Overlap::Queue)).await.schedule_id;
    engine.advance(2 * HOUR);
    // What was due before the pause is decided on, though no worker was there.
    let paused = pause(&engine, id, 1).await.unwrap();
    assert!(paused.paused && paused.next_slot.is_none());
    assert!(schedule::coming(&paused, 5).is_empty());
    engine.drain().await;
    let before = ["01 waiting", "02 queued"];
    assert_eq!(words(&engine, id).await, before);
    finish(&engine, run_at(&engine, id, "01").await).await;
    engine.advance(5 * HOUR);
    engine.drain().await;
    assert_eq!(words(&engine, id).await, ["01 completed", "02 queued"]);
    let twice = pause(&engine, id, 2).await;
    assert!(matches!(
        twice,
        Err(EngineError::NotAllowed { verb: "pause", .. })
    ));
    let resumed = resume(&engine, id, 2).await;
    let coming = schedule::coming(&resumed, 2);
    assert_eq!(
        coming[0],
        "2027-05-01T08:00:00Z".parse::<DateTime<Utc>>().unwrap()
    );
    assert_eq!(coming[1] - coming[0], TimeDelta::hours(1));
    engine.drain().await;
    assert_eq!(words(&engine, id).await, ["01 completed", "02 waiting"]);
    engine.advance(HOUR);
    engine.drain().await;
    assert_eq!(
        words(&engine, id).await,
        ["01 completed", "02 waiting", "08 queued"]
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn run_now_starts_an_extra_run_that_later_slots_see() {
    let engine = engine_at("2027-05-01T00:30:00Z").await;
    let id = create(&engine, &doors(Overlap::Skip)).await.schedule_id;
    let mut conn = engine.pool().acquire().await.unwrap();
    let registry = engine.client.registry();
    let go = act(1);
    let first = schedule::run_now(&mut conn, registry, id, &go)
        .await
        .unwrap();
    let second = schedule::run_now(&mut conn, registry, id, &go)
        .await
        .unwrap();
    assert!(first.created && second.created && first.run_id != second.run_id);
    engine.advance(HOUR);
    engine.drain().await;
    assert_eq!(
        words(&engine, id).await,
        ["00 waiting", "00 waiting", "01 overlap"]
    );
    let audited: Vec<(String, String, Value)> = sqlx::query_as(
        "select action, reason, after from engine.audit where run_id = $1 order by at, audit_id",
    )
    .bind(id.0)
    .fetch_all(engine.pool())
    .await
    .unwrap();
    let actions: Vec<_> = audited.iter().map(|row| row.0.as_str()).collect();
    assert_eq!(
        actions,
        ["schedule create", "schedule run now", "schedule run now"]
    );
    assert_eq!(audited[1].2["run_id"], json!(first.run_id));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_holds_from_now_on_and_what_was_due_goes_by_the_old_rules() {
    let engine = engine_at("2027-05-01T00:30:00Z").await;
    let first = create(&engine, &new("n", "0 * * * *", "UTC")).await;
    let id = first.schedule_id;
    engine.advance(HOUR);
    let mut conn = engine.pool().acquire().await.unwrap();
    let registry = engine.client.registry();
    let change = ScheduleChange {
        cron: Some("0 12 * * *".to_owned()),
        zone: Some("America/New_York".to_owned()),
        overlap: Some(Overlap::Skip),
        jitter_seconds: Some(30),
        input: Some(json!(0)),
        ..ScheduleChange::default()
    };
    let edit = act(1);
    let changed = schedule::update(&mut conn, registry, id, &change, &edit).await;
    let changed = changed.unwrap();
    assert_eq!(changed.revision, 2);
    assert_eq!(changed.catch_up, CatchUp::All);
    let noon: DateTime<Utc> = "2027-05-01T16:00:00Z".parse().unwrap();
    assert_eq!(changed.next_slot, Some(noon));
    let stale = schedule::update(&mut conn, registry, id, &change, &edit).await;
    let moved = Err::<(), _>(stale.unwrap_err());
    assert!(matches!(
        moved,
        Err(EngineError::Moved {
            seen: 1,
            current: 2
        })
    ));
    engine.drain().await;
    assert_eq!(words(&engine, id).await, ["01 completed"]);
    let away = act(2);
    schedule::delete(&mut conn, registry, id, &away)
        .await
        .unwrap();
    let gone = schedule::find(&mut conn, id).await;
    assert!(matches!(gone, Err(EngineError::ScheduleNotFound(_))));
    // Made anew under its name, it starts no slot again that has a run.
    engine.set_time("2027-05-01T00:59:00Z").await;
    let again = create(&engine, &new("n", "0 * * * *", "UTC")).await;
    engine.advance(HOUR);
    engine.drain().await;
    assert_eq!(words(&engine, again.schedule_id).await, ["01 completed"]);
    assert_eq!(started(&engine, "n").await.len(), 1);
}

type Spoil = fn(&mut NewSchedule);

#[tokio::test(flavor = "multi_thread")]
async fn bad_schedules_are_refused_by_the_field() {
    let engine = engine_at("2027-05-01T00:30:00Z").await;
    let good = new("good", "0 * * * *", "UTC");
    let cases: [(&str, Spoil); 7] = [
        ("cron", |new| new.cron = "0 25 * * *".to_owned()),
        ("cron", |new| new.cron = "0 0 30 2 *".to_owned()),
        ("zone", |new| new.zone = "Europe/Atlantis".to_owned()),
        ("name", |new| new.name = "a name".to_owned()),
        ("name", |new| new.name = "x".repeat(101)),
        ("jitter_seconds", |new| new.jitter_seconds = -1),
        ("jitter_seconds", |new| new.jitter_seconds = 86_401),
    ];
    for (expected, spoil) in cases {
        let mut bad = good.clone();
        spoil(&mut bad);
        let refused = try_create(&engine, &bad).await;
        assert!(
            matches!(refused, Err(EngineError::BadSchedule { field, .. }) if field == expected),
            "{expected}"
        );
    }
    let mut unknown = good.clone();
    unknown.workflow = "nope".to_owned();
    let refused = try_create(&engine, &unknown).await;
    assert!(matches!(refused, Err(EngineError::UnknownWorkflow(_))));
    let mut malformed = good.clone();
    malformed.input = json!("seven");
    let refused = try_create(&engine, &malformed).await;
    assert!(matches!(
        refused,
        Err(EngineError::Malformed { what: "input", .. })
    ));
    create(&engine, &good).await;
    let taken = try_create(&engine, &good).await;
    assert!(matches!(taken, Err(EngineError::NameTaken(name)) if name == "good"));
    let mut conn = engine.pool().acquire().await.unwrap();
    let stranger = tenure_engine::TenantId::new(ShardId(7));
    let mut silent = act(0);
    let registry = engine.client.registry();
    let refused = schedule::create(&mut conn, registry, stranger, &good, &silent).await;
    assert!(matches!(refused, Err(EngineError::UnknownTenant(_))));
    silent.reason = " ".to_owned();
    let refused = schedule::create(&mut conn, registry, engine.tenant, &good, &silent).await;
    assert!(matches!(
        refused,
        Err(EngineError::Malformed { what: "reason", .. })
    ));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_clocked_tenants_slots_come_when_its_clock_passes_them() {
    let mut engine = TestEngine::new(registry(&Outside::default())).await;
    let clock = ClockId::new(ShardId(3));
    let start: DateTime<Utc> = "2030-01-01T00:30:00Z".parse().unwrap();
    let mut conn = engine.pool().acquire().await.unwrap();
    test_clock::create(&mut conn, clock, start).await.unwrap();
    engine.tenant = engine.add_tenant(Some(clock)).await;
    let mut new = new("daily", "0 6 * * *", "UTC");
    new.jitter_seconds = 3_600;
    let id = create(&engine, &new).await.schedule_id;
    let doors = create(&engine, &doors(Overlap::Queue)).await.schedule_id;
    // Real time passes; the tenant's does not.
    engine.advance(48 * HOUR);
    engine.drain().await;
    assert!(slots(&engine, id).await.is_empty());
    assert!(test_clock::is_quiet(&mut conn, clock).await.unwrap());
    let target = start + TimeDelta::hours(8);
    let mut stops = Vec::new();
    loop {
        let moved = test_clock::move_to_next(&mut conn, clock, target).await;
        let moved = moved.unwrap();
        stops.push(moved.now.format("%H:%M").to_string());
        engine.drain().await;
        eventually("the tenant is quiet", async || {
            let mut conn = engine.pool().acquire().await.unwrap();
            test_clock::is_quiet(&mut conn, clock).await.unwrap()
        })
        .await;
        if moved.arrived {
            break;
        }
    }
    assert_eq!(
        stops,
        [
            "01:00", "02:00", "03:00", "04:00", "05:00", "06:00", "07:00", "08:00", "08:30"
        ]
    );
    assert_eq!(words(&engine, id).await, ["06 completed"]);
    let queued = words(&engine, doors).await;
    assert_eq!(queued.len(), 8);
    assert_eq!(queued[..2], ["01 waiting", "02 queued"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_workflow_that_no_worker_knows_keeps_its_slots_until_one_does() {
    let engine = engine_at("2027-05-01T00:30:00Z").await;
    let id = create(&engine, &new("n", "0 * * * *", "UTC"))
        .await
        .schedule_id;
    let only_doors = Registry::builder().register(Door).build().unwrap();
    let narrow = engine.beside(only_doors).await;
    engine.advance(HOUR);
    narrow.drain().await;
    assert!(slots(&engine, id).await.is_empty());
    engine.drain().await;
    assert_eq!(words(&engine, id).await, ["01 completed"]);
}

/// An errand as a later release might have it, with another input.
struct Changed;

#[derive(Serialize, Deserialize)]
enum ChangedState {
    Only,
}

impl Workflow for Changed {
    const NAME: &'static str = "errand";
    const VERSION: i32 = 1;
    type Input = String;
    type State = ChangedState;
    type Signal = Nothing;
    type Output = ();

    fn start(&self, _: String) -> ChangedState {
        ChangedState::Only
    }

    async fn handle(
        &self,
        _cx: &Context,
        _state: ChangedState,
        _event: Event<Nothing>,
    ) -> Result<Transition<Self>, StepError> {
        Ok(Transition::complete(()))
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_input_that_fits_no_more_is_a_visible_skip_and_blocks_nothing() {
    let engine = engine_at("2027-05-01T00:30:00Z").await;
    let id = create(&engine, &new("n", "0 * * * *", "UTC"))
        .await
        .schedule_id;
    let changed = Registry::builder().register(Changed).build().unwrap();
    let changed = engine.beside(changed).await;
    engine.advance(HOUR);
    changed.drain().await;
    let words = words(&engine, id).await;
    assert_eq!(words.len(), 1);
    assert!(
        words[0].starts_with("01 refused: the input does not fit"),
        "{words:?}"
    );
    let mut conn = engine.pool().acquire().await.unwrap();
    let next = schedule::find(&mut conn, id).await.unwrap().next_slot;
    assert_eq!(next, Some("2027-05-01T02:00:00Z".parse().unwrap()));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_schedule_that_cannot_be_read_keeps_no_other_and_no_worker_busy() {
    let engine = engine_at("2027-05-01T00:30:00Z").await;
    let broken = create(&engine, &new("broken", "0 * * * *", "UTC")).await;
    let sound = create(&engine, &new("sound", "0 * * * *", "UTC")).await;
    sqlx::query("update engine.schedule set zone = 'Europe/Atlantis' where name = 'broken'")
        .execute(engine.pool())
        .await
        .unwrap();
    engine.advance(HOUR);
    engine.drain().await;
    assert_eq!(words(&engine, sound.schedule_id).await, ["01 completed"]);
    assert!(slots(&engine, broken.schedule_id).await.is_empty());
    sqlx::query("update engine.schedule set zone = 'UTC' where name = 'broken'")
        .execute(engine.pool())
        .await
        .unwrap();
    engine.advance(Duration::from_secs(6));
    engine.drain().await;
    assert_eq!(words(&engine, broken.schedule_id).await, ["01 completed"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tenant_sees_its_own_schedules_and_changes_none() {
    let engine = engine_at("2027-05-01T00:30:00Z").await;
    let id = create(&engine, &new("n", "0 * * * *", "UTC"))
        .await
        .schedule_id;
    engine.advance(HOUR);
    engine.drain().await;
    let stranger = engine.add_tenant(None).await;
    let mut conn = engine.pool().acquire().await.unwrap();
    for (tenant, seen) in [(engine.tenant, 1), (stranger, 0)] {
        let mut tx = conn.begin().await.unwrap();
        tenure_workflows::as_tenant(&mut tx, tenant).await.unwrap();
        let filter = ScheduleFilter::default();
        let listed = schedule::list(&mut tx, &filter, None, 10).await.unwrap();
        assert_eq!(listed.len(), seen);
        let slots: i64 = sqlx::query_scalar("select count(*) from engine.slot")
            .fetch_one(&mut *tx)
            .await
            .unwrap();
        assert_eq!(slots, i64::try_from(seen).unwrap());
        assert_eq!(schedule::detail(&mut tx, id).await.is_ok(), seen == 1);
        tx.rollback().await.unwrap();
    }
    for statement in [
        "update engine.schedule set next_slot = now()",
        "delete from engine.schedule",
        "delete from engine.slot",
    ] {
        let mut tx = conn.begin().await.unwrap();
        tenure_workflows::as_tenant(&mut tx, engine.tenant)
            .await
            .unwrap();
        let refused = sqlx::query(statement).execute(&mut *tx).await;
        let code = refused.unwrap_err().into_database_error().unwrap();
        assert_eq!(code.code().as_deref(), Some("42501"), "{statement}");
        tx.rollback().await.unwrap();
    }
    let filter = ScheduleFilter {
        workflow: Some("errand".to_owned()),
        paused: Some(false),
        name: Some("n".to_owned()),
        tenant_id: Some(engine.tenant),
    };
    let listed = schedule::list(&mut conn, &filter, None, 10).await.unwrap();
    assert_eq!(listed[0].schedule_id, id);
    let none = schedule::list(&mut conn, &filter, Some(id), 10).await;
    assert!(none.unwrap().is_empty());
    let _ = engine.start::<Errand>("unrelated", &0).await;
}

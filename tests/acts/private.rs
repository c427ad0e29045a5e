//! Private fields of a workflow of the tests' own, over HTTP: dry runs, schedules, reports of progress.

use std::sync::Arc;

use serde_json::json;
use tenure_client::{
    ActionArgs, CatchUpPolicy, ChangeSchedule, IdempotencyKey, MASK, NewSchedule, OverlapPolicy,
    RevealField, ScheduleFilter,
};
use tenure_engine::{ScheduleId, schedule};
use tokio::sync::Notify;

use super::act;
use super::counter::Counter;
use crate::engine::private::{ADDRESS, Letter, with};
use crate::support::eventually;

async fn open(letter: Letter) -> (Counter, uuid::Uuid) {
    let counter = Counter::with(with(letter)).await;
    let input = json!({ "email": ADDRESS, "copies": 1 });
    let run = counter.start("letter", "a", input).await;
    counter.settled(run).await;
    (counter, run)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dry_run_shows_masks_and_says_which_of_them_change() {
    let (counter, run) = open(Letter::default()).await;
    let shown = counter.client.run(run).await.unwrap();
    let state = json!({ "Closed": { "email": "ada@new.example" } });
    let args = ActionArgs {
        state: Some(state),
        ..ActionArgs::default()
    };
    let would = act(&counter.client, run, "move", shown.revision, args, true).await;
    let would = would.unwrap();
    assert_eq!(would.before["data"]["Open"]["reader"]["email"], MASK);
    assert_eq!(would.after["data"], json!({ "Closed": { "email": MASK } }));
    let told = "Private fields change: /Closed/email.".to_owned();
    assert!(would.effects.contains(&told), "{would:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_schedules_input_is_masked_and_stays_when_it_is_sent_back() {
    let (counter, _) = open(Letter::default()).await;
    let new = NewSchedule {
        tenant_id: counter.engine.tenant.0,
        name: "weekly".to_owned(),
        workflow: "letter".to_owned(),
        input: json!({ "email": ADDRESS, "copies": 1 }),
        cron: "0 9 * * 1".to_owned(),
        zone: "UTC".to_owned(),
        overlap: OverlapPolicy::Skip,
        catch_up: CatchUpPolicy::None,
        jitter_seconds: 0,
        reason: "as agreed".to_owned(),
    };
    let key = IdempotencyKey::generate();
    let made = counter.client.create_schedule(&new, &key).await.unwrap();
    assert_eq!(made.input, json!({ "email": MASK, "copies": 1 }));
    let all = ScheduleFilter::default();
    let listed = counter.client.list_schedules(&all).await.unwrap();
    assert_eq!(listed.items[0].input, made.input);
    let change = ChangeSchedule {
        reason: "one more".to_owned(),
        revision: made.revision,
        input: Some(json!({ "email": MASK, "copies": 2 })),
        ..ChangeSchedule::default()
    };
    let key = IdempotencyKey::generate();
    let changed = counter
        .client
        .change_schedule(made.schedule_id, &change, &key);
    assert_eq!(changed.await.unwrap().input["email"], MASK);
    let mut conn = counter.engine.pool().acquire().await.unwrap();
    let kept = schedule::find(&mut conn, ScheduleId(made.schedule_id)).await;
    assert_eq!(
        kept.unwrap().input,
        json!({ "email": ADDRESS, "copies": 2 })
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_step_reports_is_masked_also_where_it_says_why() {
    let printed = Arc::<Notify>::default();
    let letter = Letter {
        printed: printed.clone(),
    };
    let (counter, run) = open(letter).await;
    counter.signal(run, "1", json!("Print")).await;
    let worker = counter.engine.worker().await;
    eventually("the step has reported", async || {
        !counter.client.run(run).await.unwrap().progress.is_empty()
    })
    .await;
    let shown = counter.client.run(run).await.unwrap();
    assert_eq!(
        shown.progress[0].value,
        json!({ "email": MASK, "copies": 1 })
    );
    assert!(shown.why.summary.contains("Step print"), "{:?}", shown.why);
    let told = format!("{:?}", shown.why);
    assert!(told.contains(MASK) && !told.contains(ADDRESS), "{told}");
    let asked = RevealField {
        field: "/progress/print/value/email".to_owned(),
        reason: "ticket 17".to_owned(),
    };
    let seen = counter.client.reveal_field(run, &asked).await.unwrap();
    assert_eq!(seen.value, ADDRESS);
    printed.notify_one();
    worker.shutdown().await;
}

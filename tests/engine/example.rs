//! The example of the guide, as its author would test it; and that the guide quotes it truly.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use tenure_engine::testkit::{Crash, Play, PlayError, Scene, fault_matrix};
use tenure_engine::{Registry, Status, StepError};

use self::approval::{Approval, Desk, Outcome, Request, Signal};
use crate::support;
use crate::support::engine::TestEngine;

#[path = "../../engine/examples/approval/workflow.rs"]
mod approval;

const EXAMPLE: &str = include_str!("../../engine/examples/approval/workflow.rs");
const GUIDE: &str = include_str!("../../docs/writing-a-workflow.md");

/// A desk that remembers what it was asked, with the keys.
#[derive(Clone, Default)]
struct Notebook(Arc<Mutex<Vec<(String, String)>>>);

impl Notebook {
    fn said(&self) -> Vec<String> {
        let lines = self.0.lock().unwrap();
        lines.iter().map(|(_, text)| text.clone()).collect()
    }

    /// What an outside does that does nothing twice for one key.
    fn done(&self) -> Vec<String> {
        let mut lines = self.0.lock().unwrap().clone();
        lines.dedup();
        lines.into_iter().map(|(_, text)| text).collect()
    }

    fn note(&self, key: &str, text: String) {
        self.0.lock().unwrap().push((key.to_owned(), text));
    }
}

impl Desk for Notebook {
    async fn tell(&self, key: &str, text: String) -> Result<(), StepError> {
        self.note(key, text);
        Ok(())
    }

    async fn refund(&self, key: &str, request: &Request) -> Result<String, StepError> {
        self.note(key, format!("refund {}", request.cents));
        Ok(format!("receipt-{}", request.customer))
    }
}

type Tested = Approval<Notebook>;

async fn engine() -> (TestEngine, Notebook) {
    let desk = Notebook::default();
    let registry = Registry::builder().register(Approval(desk.clone()));
    (TestEngine::new(registry.build().unwrap()).await, desk)
}

fn request() -> Request {
    Request {
        customer: "ada".to_owned(),
        cents: 500,
    }
}

const DAY: Duration = Duration::from_secs(86_400);

#[tokio::test(flavor = "multi_thread")]
async fn an_approval_is_paid_after_reminders_and_a_late_word_is_refused() {
    let (engine, desk) = engine().await;
    let run = engine.start::<Tested>("r-1", &request()).await;
    engine.drain().await;
    engine.advance(2 * DAY);
    engine.drain().await;
    let by = "maria".to_owned();
    engine
        .signal::<Tested>(run, "1", &Signal::Approve { by: by.clone() })
        .await;
    engine
        .signal::<Tested>(run, "1", &Signal::Approve { by: by.clone() })
        .await;
    engine.drain().await;
    let outcome: Outcome = engine.output(run).await;
    let receipt = "receipt-ada".to_owned();
    assert_eq!(outcome, Outcome::Refunded { receipt, by });
    let said = [
        "r-1 asks for a refund",
        "r-1 still waits, reminder 1",
        "refund 500",
    ];
    assert_eq!(desk.said(), said);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_approval_expires_after_a_week_and_a_decline_ends_it() {
    let (engine, desk) = engine().await;
    let expires = engine.start::<Tested>("r-1", &request()).await;
    let declined = engine.start::<Tested>("r-2", &request()).await;
    engine.drain().await;
    let by = "maria".to_owned();
    engine
        .signal::<Tested>(declined, "1", &Signal::Decline { by: by.clone() })
        .await;
    for _ in 0..4 {
        engine.advance(2 * DAY);
        engine.drain().await;
    }
    assert_eq!(engine.output::<Outcome>(expires).await, Outcome::Expired);
    assert_eq!(engine.status(declined).await, Status::Completed);
    assert_eq!(
        engine.output::<Outcome>(declined).await,
        Outcome::Declined { by }
    );
    let reminders = desk.said();
    let reminders = reminders.iter().filter(|text| text.contains("reminder"));
    assert_eq!(reminders.count(), 3);
}

/// What matters of a play: how it ended, and what the outside did, each key once.
async fn played(play: &Play, desk: &Notebook) -> Result<(Outcome, Vec<String>), PlayError> {
    let run = play.start::<Tested>("r-1", &request()).await?;
    play.settle().await?;
    play.advance(2 * DAY);
    play.settle().await?;
    let by = "maria".to_owned();
    play.signal::<Tested>(run, "1", &Signal::Approve { by })
        .await?;
    play.settle().await?;
    Ok((play.output(run).await?, desk.done()))
}

async fn scene() -> Scene<Notebook> {
    let desk = Notebook::default();
    Scene {
        database: support::database().await,
        workflows: Registry::builder().register(Approval(desk.clone())),
        outside: desk,
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_approval_bears_every_fault() {
    let script = async |play: &mut Play, desk: &Notebook| played(play, desk).await;
    let report = fault_matrix(scene, script).await;
    let report = report.unwrap();
    assert!(report.is_clean(), "{report}");
    // Three steps of two moments and a failure each, each visit, a signal, and the one undisturbed.
    assert!(report.plays >= 15, "{report}");
}

#[tokio::test(flavor = "multi_thread")]
async fn all_plays_of_a_matrix_begin_on_the_same_morning() {
    let script = async |play: &mut Play, _: &Notebook| {
        let run = play.start::<Tested>("r-1", &request()).await?;
        play.settle().await?;
        let deadlines = play.detail(run).await?.deadlines;
        let days = deadlines
            .iter()
            .map(|one| one.at.format("%F %H").to_string());
        Ok(days.collect::<Vec<_>>())
    };
    let report = fault_matrix(scene, script).await;
    let report = report.unwrap();
    assert!(report.is_clean(), "{report}");
    assert!(report.expected.contains(" 09\""), "{report}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_matrix_names_the_faults_that_a_workflow_does_not_bear() {
    // This outside takes no keys, so what comes twice is done twice.
    let script = async |play: &mut Play, desk: &Notebook| {
        played(play, desk).await?;
        Ok(desk.said().len())
    };
    let report = fault_matrix(scene, script).await;
    let report = report.unwrap();
    let broken: Vec<&str> = report.broken.iter().map(|one| one.fault.as_str()).collect();
    let expected = ["ask", "remind", "refund"]
        .map(|step| format!("crash: approval {step} between its effect and the record"));
    assert_eq!(broken, expected, "{report}");
    assert!(report.broken.iter().all(|one| one.found == "4"), "{report}");
}

#[tokio::test(flavor = "multi_thread")]
async fn signals_whose_order_does_matter_are_found_out() {
    let script = async |play: &mut Play, _: &Notebook| {
        let run = play.start::<Tested>("r-1", &request()).await?;
        play.settle().await?;
        let by = "maria".to_owned();
        let yes = Signal::Approve { by: by.clone() };
        let no = Signal::Decline { by };
        play.signals::<Tested>(run, &[("1", yes), ("2", no)])
            .await?;
        play.settle().await?;
        play.output::<Outcome>(run).await
    };
    let report = fault_matrix(scene, script).await;
    let report = report.unwrap();
    let broken: Vec<&str> = report.broken.iter().map(|one| one.fault.as_str()).collect();
    assert_eq!(broken, ["late: signal 1"], "{report}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_play_fails_a_step_at_will() {
    let scene = scene().await;
    let play = Play::open(scene.database, scene.workflows).await.unwrap();
    let desk = scene.outside;
    let run = play.start::<Tested>("r-1", &request()).await.unwrap();
    play.fail("ask", 3);
    play.settle().await.unwrap();
    assert_eq!(desk.said(), ["r-1 asks for a refund"]);
    play.fail("remind", 100);
    play.advance(2 * DAY);
    play.settle().await.unwrap();
    let detail = play.detail(run).await.unwrap();
    assert_eq!(detail.summary.status, Status::Stuck);
    assert!(detail.why.summary.contains("remind"), "{:?}", detail.why);
    let none = play.output::<Outcome>(run).await;
    assert!(none.unwrap_err().to_string().contains("no output"));
    play.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_play_crashes_before_or_after_a_steps_effect_at_will() {
    let scene = scene().await;
    let play = Play::open(scene.database, scene.workflows).await.unwrap();
    let desk = scene.outside;
    play.crash("ask", Crash::After);
    play.start::<Tested>("r-1", &request()).await.unwrap();
    play.settle().await.unwrap();
    let asked = "r-1 asks for a refund";
    assert_eq!(desk.said(), [asked, asked], "its answer was lost");
    assert_eq!(desk.done(), [asked], "with the same key");
    play.crash("remind", Crash::Before);
    play.crash("remind", Crash::After);
    play.advance(2 * DAY);
    play.settle().await.unwrap();
    // Gone before the first, done and lost by the second, done for good by the third.
    assert_eq!(desk.said().len(), 4, "{:?}", desk.said());
    assert_eq!(desk.done().len(), 2, "{:?}", desk.done());
    play.close().await;
}

#[test]
fn the_guide_quotes_the_example_and_the_example_is_short() {
    assert!(EXAMPLE.lines().count() < 120);
    let squeezed = |text: &str| -> Vec<String> {
        let lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
        lines.map(str::to_owned).collect()
    };
    let example = squeezed(EXAMPLE);
    let mut blocks = 0;
    for block in GUIDE.split("```rust\n").skip(1) {
        let quoted = squeezed(block.split("```").next().unwrap());
        let stands = example.windows(quoted.len()).any(|lines| lines == quoted);
        assert!(stands, "not in the example: {quoted:#?}");
        blocks += 1;
    }
    assert!(blocks >= 5, "the guide quotes {blocks} blocks");
}

//! The example of the guide, as its author would test it; and that the guide quotes it truly.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use tenure_engine::{Registry, Status, StepError};

use self::approval::{Approval, Desk, Outcome, Request, Signal};
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

//! The process is killed: at many moments of the story, and at the worst one.

use nix::sys::signal::Signal;

use super::{STORY, Stage, left, ready};
use crate::support::app::Customer;

#[tokio::test(flavor = "multi_thread")]
async fn kill_9_at_any_moment_of_the_story_changes_nothing() {
    let mut stage = Stage::set().await;
    let client = stage.client.clone();
    let make = Customer { client: &client };
    let args = (
        "2027-01-31T09:00:00Z",
        "Europe/Berlin",
        "starter-monthly",
        "EUR",
        "pm_card_visa",
    );
    let calm = make.subscribe(args.0, args.1, args.2, args.3, args.4).await;
    for (before, by, _) in STORY {
        before.make(&calm).await;
        calm.advance(by).await;
    }
    let expected = left(&calm).await;
    let paid = expected.0.iter().filter(|line| line.contains("Paid"));
    assert_eq!(paid.count(), 3, "{expected:?}");

    let killed = make.subscribe(args.0, args.1, args.2, args.3, args.4).await;
    let mut under_way = 0;
    for (before, by, kills) in STORY {
        before.make(&killed).await;
        killed.begin_advance(by).await;
        for looks in kills {
            for _ in 0..*looks {
                if killed.is_ready().await.unwrap_or(false) {
                    break;
                }
            }
            under_way += usize::from(!killed.is_ready().await.unwrap_or(false));
            stage.server.kill();
            stage
                .sandbox
                .control()
                .forget_idempotency_keys(None)
                .unwrap();
            stage.server.start_ready(&client).await;
        }
        ready(&killed).await;
    }
    assert!(
        under_way >= 5,
        "only {under_way} kills met the story under way"
    );
    assert_eq!(left(&killed).await, expected);
    stage.assert_once(&killed, 3).await;
    stage.server.signal(Signal::SIGTERM);
    assert!(stage.server.wait(), "an orderly stop is a success");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_kill_between_charge_and_record_charges_once_though_the_provider_forgot_the_key() {
    let mut stage = Stage::set().await;
    let client = stage.client.clone();
    let make = Customer { client: &client };
    let customer = make.starter().await;
    stage.charge_without_an_answer(&customer).await;
    stage.server.kill();
    stage
        .sandbox
        .control()
        .forget_idempotency_keys(None)
        .unwrap();
    stage.server.start_ready(&client).await;
    ready(&customer).await;
    let recovered = stage.metric("tenure_recovered_runs_total").await;
    assert!(
        recovered >= 1.0,
        "nothing was taken over from the killed one"
    );
    let ledger = customer.ledger().await;
    assert!(
        ledger.len() == 1 && ledger[0].contains("Paid"),
        "{ledger:?}"
    );
    stage.assert_once(&customer, 1).await;
}

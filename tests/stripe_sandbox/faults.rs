//! What goes wrong on request, and what a restart keeps.

use stripe::StripeError;
use stripe_core::payment_intent::SearchPaymentIntent;
use stripe_sandbox::{Failure, FailureKind, SandboxConfig};

use super::shop::{KEY, Shop, refusal};
use crate::support::eventually;

#[tokio::test]
async fn a_charge_whose_answer_was_lost_is_not_made_again() {
    let shop = Shop::open().await;
    let wallet = shop.customer_with("pm_card_visa").await;
    for (kind, made) in [
        (FailureKind::DropBefore, 0),
        (FailureKind::ErrorBefore, 0),
        (FailureKind::RateLimit, 0),
        (FailureKind::DropAfter, 1),
        (FailureKind::ErrorAfter, 1),
    ] {
        let name = format!("{kind:?}");
        shop.control().fail_next(Failure::new(kind, 1));
        match (kind, shop.charge(&wallet, &name, &name).await) {
            (FailureKind::DropBefore | FailureKind::DropAfter, answer) => {
                assert!(matches!(answer, Err(StripeError::ClientError(_))), "{name}");
            }
            (FailureKind::RateLimit, answer) => assert_eq!(refusal(answer).0, 429),
            (_, answer) => assert_eq!(refusal(answer).0, 500, "{name}"),
        }
        assert_eq!(shop.paid(&name), made, "{name}");
        shop.charge(&wallet, &name, &name).await.unwrap();
        assert_eq!(shop.paid(&name), 1, "{name}");
    }
}

#[tokio::test]
async fn an_error_says_when_to_come_back_and_is_replayed_when_it_was_kept() {
    let shop = Shop::open().await;
    let body = "name=Acme";
    let create = |key| shop.raw_as(KEY, Some(key), "POST", "v1/customers", body);
    let mut busy = Failure::new(FailureKind::RateLimit, 1);
    busy.retry_after_seconds = Some(7);
    busy.should_retry = Some(true);
    shop.control().fail_next(busy);
    let refused = create("a").await;
    assert_eq!(refused.status, 429);
    assert_eq!(refused.headers["retry-after"], "7");
    assert_eq!(refused.headers["stripe-should-retry"], "true");
    assert_eq!(create("a").await.status, 200, "nothing was kept of it");

    let mut broken = Failure::new(FailureKind::ErrorAfter, 1);
    broken.status = Some(502);
    broken.kept = true;
    shop.control().fail_next(broken);
    assert_eq!(create("b").await.status, 502);
    let again = create("b").await;
    assert_eq!(
        again.status, 502,
        "Stripe answers the first result for good"
    );
    assert_eq!(again.headers["idempotent-replayed"], "true");
    shop.control().forget_idempotency_keys(Some("b")).unwrap();
    assert_eq!(create("b").await.status, 200);
    let listed = shop.raw("GET", "v1/customers", "").await;
    assert_eq!(listed.body["data"].as_array().unwrap().len(), 3);
}

/// One thread: the first request holds its key before the second can be sent.
#[tokio::test]
async fn a_key_is_held_while_its_first_request_runs() {
    let shop = Shop::open().await;
    let wallet = shop.customer_with("pm_card_visa").await;
    let mut delay = Failure::new(FailureKind::Delay, 1);
    delay.milliseconds = 3_600_000;
    shop.control().fail_next(delay);
    {
        let first = shop.charge(&wallet, "in_1", "k");
        let second = async {
            eventually("the first request is being worked on", async || {
                shop.control().planned_failures() == 0
            })
            .await;
            refusal(shop.charge(&wallet, "in_1", "k").await)
        };
        tokio::select! {
            _ = first => panic!("the first request takes an hour"),
            (status, error) = second => {
                assert_eq!(status, 409);
                assert_eq!(error.code.unwrap().as_str(), "idempotency_key_in_use");
            }
        }
    }
    // The first caller has hung up, so the key is free again.
    eventually("the key is free", async || {
        shop.charge(&wallet, "in_1", "k").await.is_ok()
    })
    .await;
    assert_eq!(shop.paid("in_1"), 1);
}

#[tokio::test]
async fn an_answer_that_is_kept_back_has_done_its_work_and_goes_when_released() {
    let shop = Shop::open().await;
    let wallet = shop.customer_with("pm_card_visa").await;
    shop.control().fail_next(Failure::new(FailureKind::Hold, 1));
    let released = async {
        eventually("the answer is kept back", async || {
            shop.control().held_answers() == 1
        })
        .await;
        assert_eq!(shop.paid("in_1"), 1, "the work comes first");
        shop.control().release_answers()
    };
    let (answer, released) = tokio::join!(shop.charge(&wallet, "in_1", "k"), released);
    assert_eq!((answer.is_ok(), released), (true, 1));

    shop.control().fail_next(Failure::new(FailureKind::Hold, 1));
    {
        let held = eventually("the answer is kept back", async || {
            shop.control().held_answers() == 1
        });
        tokio::select! {
            _ = shop.charge(&wallet, "in_2", "k2") => panic!("nobody released it"),
            () = held => {}
        }
    }
    eventually("a caller that hung up is not counted", async || {
        shop.control().held_answers() == 0
    })
    .await;
}

#[tokio::test]
async fn a_restart_keeps_charges_keys_and_settings() {
    let folder = tempfile::tempdir().unwrap();
    let mut config = SandboxConfig::new(KEY);
    config.journal = Some(folder.path().join("sandbox.jsonl"));
    let shop = Shop::with(config.clone()).await;
    let wallet = shop.customer_with("pm_sandbox_lost_card").await;
    let declined = refusal(shop.charge(&wallet, "in_1", "k1").await)
        .1
        .payment_intent
        .unwrap();
    shop.control()
        .set_card_behaviour(&wallet.1.id, "pays")
        .unwrap();
    let paid = shop.charge(&wallet, "in_1", "k2").await.unwrap();
    shop.sandbox.shutdown().await;

    // Twice, since the first start compacts the journal.
    for start in 1..=2 {
        let shop = Shop::with(config.clone()).await;
        assert_eq!(shop.paid("in_1"), 1, "start {start}");
        assert_eq!(
            shop.charge(&wallet, "in_1", "k2").await.unwrap().id,
            paid.id
        );
        let replayed = refusal(shop.charge(&wallet, "in_1", "k1").await).1;
        assert_eq!(replayed.payment_intent.unwrap().id, declined.id);
        assert_eq!(shop.control().requests_per_key()["k2"], start + 1);
        let found = SearchPaymentIntent::new("metadata['invoice']:'in_1'")
            .send(&shop.client)
            .await;
        assert_eq!(found.unwrap().data.len(), 2);
        shop.sandbox.shutdown().await;
    }
    let shop = Shop::with(config).await;
    shop.control().reset().unwrap();
    assert!(shop.control().charges(&[]).is_empty());
}

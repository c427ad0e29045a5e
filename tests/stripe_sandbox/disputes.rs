//! Disputes: opened by a card or on command, answered, won, lost, and never answered.

use stripe_core::dispute::{
    CloseDispute, ListDispute, RetrieveDispute, UpdateDispute, UpdateDisputeEvidence,
};
use stripe_core::refund::CreateRefund;
use stripe_shared::{Dispute, DisputeStatus};

use super::shop::{Shop, refusal};

const START: i64 = 1_800_000_000;
const DAY: i64 = 86_400;

/// The only dispute.
async fn dispute(shop: &Shop) -> Dispute {
    let mut list = ListDispute::new().send(&shop.client).await.unwrap();
    assert_eq!(list.data.len(), 1);
    list.data.remove(0)
}

async fn answer(shop: &Shop, dispute: &Dispute, text: &str) -> Dispute {
    let mut evidence = UpdateDisputeEvidence::new();
    evidence.uncategorized_text = Some(text.to_owned());
    UpdateDispute::new(dispute.id.as_str())
        .evidence(evidence)
        .send(&shop.client)
        .await
        .unwrap()
}

#[tokio::test]
async fn a_disputed_charge_loses_its_money_until_the_dispute_is_won() {
    let shop = Shop::open().await;
    let wallet = shop.customer_with("pm_card_createDispute").await;
    let told = shop.told(0).await.len();
    let paid = shop.charge(&wallet, "in_1", "1").await.unwrap();
    assert_eq!(
        shop.told(told).await[1..],
        [
            "charge.succeeded",
            "payment_intent.succeeded",
            "charge.dispute.created",
            "charge.dispute.funds_withdrawn"
        ]
    );
    let open = dispute(&shop).await;
    assert_eq!(open.status, DisputeStatus::NeedsResponse);
    assert_eq!((open.amount, open.reason.as_str()), (4900, "fraudulent"));
    assert_eq!(
        open.payment_intent.as_ref().unwrap().id().as_str(),
        paid.id.as_str()
    );
    assert_eq!(open.balance_transactions[0].net, -4900);
    assert_eq!(shop.ledger(&wallet.0).net, 0);
    let refund = CreateRefund::new().payment_intent(paid.id.as_str());
    let (_, error) = refusal(refund.clone().send(&shop.client).await);
    assert_eq!(error.code.unwrap().as_str(), "charge_disputed");

    let told = shop.told(0).await.len();
    let won = answer(&shop, &open, "winning_evidence").await;
    assert_eq!(won.status, DisputeStatus::Won);
    assert_eq!(won.balance_transactions.len(), 2);
    assert_eq!(
        shop.told(told).await,
        [
            "charge.dispute.updated",
            "charge.dispute.closed",
            "charge.dispute.funds_reinstated"
        ]
    );
    let ledger = shop.ledger(&wallet.0);
    assert_eq!(
        (ledger.disputes, ledger.won_disputes, ledger.net),
        (4900, 4900, 4900)
    );
    refund.send(&shop.client).await.unwrap();
}

#[tokio::test]
async fn a_dispute_is_lost_by_bad_evidence_by_closing_it_and_on_command() {
    let shop = Shop::open().await;
    for (number, way) in ["evidence", "close", "command"].iter().enumerate() {
        let wallet = shop.customer_with("pm_card_createDispute").await;
        let paid = shop.charge(&wallet, way, way).await.unwrap();
        let list = ListDispute::new().payment_intent(paid.id.as_str());
        let open = list.send(&shop.client).await.unwrap().data.remove(0);
        let told = shop.told(0).await.len();
        match number {
            0 => assert_eq!(
                answer(&shop, &open, "losing_evidence").await.status,
                DisputeStatus::Lost
            ),
            1 => {
                let closed = CloseDispute::new(open.id.as_str());
                let closed = closed.send(&shop.client).await.unwrap();
                assert_eq!(closed.status, DisputeStatus::Lost);
            }
            _ => {
                let reviewed = answer(&shop, &open, "They had it.").await;
                assert_eq!(reviewed.status, DisputeStatus::UnderReview);
                let path = format!("disputes/{}/close", open.id);
                assert_eq!(shop.door(&path, r#"{"won":false}"#).await.status, 200);
            }
        }
        let told = shop.told(told).await;
        assert_eq!(told.last().unwrap(), "charge.dispute.closed", "{way}");
        assert_eq!(shop.ledger(&wallet.0).net, 0, "{way}");
        let again = CloseDispute::new(open.id.as_str()).send(&shop.client).await;
        assert_eq!(refusal(again).0, 400, "{way}");
        assert!(shop.control().close_dispute(&open.id, true).is_err());
    }
}

#[tokio::test]
async fn a_dispute_that_nobody_answers_is_lost_when_its_time_is_over() {
    let shop = Shop::open().await;
    let clock = shop.clock(START).await;
    let silent = shop.clocked(&clock, "pm_card_createDispute").await;
    shop.charge(&silent, "in_1", "1").await.unwrap();
    let open = dispute(&shop).await;
    let due = open.evidence_details.due_by.unwrap();
    assert!(due > START);
    let staged = UpdateDispute::new(open.id.as_str())
        .evidence({
            let mut evidence = UpdateDisputeEvidence::new();
            evidence.customer_name = Some("Acme".to_owned());
            evidence
        })
        .submit(false)
        .send(&shop.client)
        .await
        .unwrap();
    assert_eq!(staged.status, DisputeStatus::NeedsResponse);
    assert!(staged.evidence_details.has_evidence);
    shop.advance(&clock, due - 1).await;
    assert_eq!(dispute(&shop).await.status, DisputeStatus::NeedsResponse);
    shop.advance(&clock, due + 30 * DAY).await;
    let lost = dispute(&shop).await;
    assert_eq!(lost.status, DisputeStatus::Lost);
    assert!(lost.evidence_details.past_due);
}

#[tokio::test]
async fn an_inquiry_moves_no_money_until_it_becomes_a_chargeback() {
    let shop = Shop::open().await;
    let wallet = shop.customer_with("pm_card_createDisputeInquiry").await;
    shop.charge(&wallet, "in_1", "1").await.unwrap();
    let open = dispute(&shop).await;
    assert_eq!(open.status, DisputeStatus::WarningNeedsResponse);
    assert!(open.is_charge_refundable);
    assert_eq!(shop.ledger(&wallet.0).net, 4900);
    let path = format!("disputes/{}/escalate", open.id);
    assert_eq!(shop.door(&path, "{}").await.status, 200);
    assert_eq!(shop.door(&path, "{}").await.status, 400);
    assert_eq!(dispute(&shop).await.status, DisputeStatus::NeedsResponse);
    assert_eq!(shop.ledger(&wallet.0).net, 0);
}

#[tokio::test]
async fn a_part_of_a_charge_is_disputed_on_command() {
    let shop = Shop::open().await;
    let wallet = shop.customer_with("pm_card_visa").await;
    let paid = shop.charge(&wallet, "in_1", "1").await.unwrap();
    let charge = paid.latest_charge.unwrap().id().to_string();
    let path = format!("charges/{charge}/dispute");
    let too_much = shop.door(&path, r#"{"amount":4901}"#).await;
    assert_eq!(too_much.status, 400, "{}", too_much.body);
    let opened = shop
        .door(&path, r#"{"amount":1900,"reason":"subscription_canceled"}"#)
        .await;
    let id = opened.body["id"].as_str().unwrap();
    let found = RetrieveDispute::new(id)
        .expand(["charge".to_owned()])
        .send(&shop.client)
        .await
        .unwrap();
    assert_eq!(found.reason, "subscription_canceled");
    assert!(found.charge.as_object().unwrap().disputed);
    assert_eq!(shop.ledger(&wallet.0).net, 3000);
    assert_eq!(shop.door(&path, "{}").await.status, 400, "one at a time");
    let unknown = shop.door("charges/ch_none/dispute", "{}").await;
    assert_eq!(unknown.status, 404);
}

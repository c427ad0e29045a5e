//! What a customer does with its subscription, and what is done to it.

use std::collections::BTreeMap;

use chrono::{DateTime, TimeDelta, Utc};
use rust_decimal::Decimal;
use stripe_sandbox::WebhookMode;
use tenure_client::{
    CancelSubscription, ChangeLegalEntity, ChangeSubscription, ChangeTax, ChangeZone, CreditPolicy,
    HoldBlocks, HoldKind, LiftHold, MoveAnchor, PauseSubscription, PlaceHold, ResumeSubscription,
    SubscriptionAct, SubscriptionStatus, TaxRate, UndoIntent, When,
};
use uuid::Uuid;

use super::kinds::Kind;
use super::life::{ENTITIES, Life, PLANS, SMALL_PLAN, ZONES, key};

impl Life<'_> {
    /// Lets something come about. Refusals are answers: that the books agree is all that is asked.
    pub(super) async fn act(&mut self, kind: Kind) {
        match kind {
            Kind::SubscribeNow => self.subscribe(kind, 0).await,
            Kind::SubscribeLater => self.subscribe(kind, 3).await,
            Kind::SubscribeBackdated => self.subscribe(kind, -6).await,
            Kind::SubscribeSmall => self.subscribe_to_too_little().await,
            Kind::Upgrade => self.change_plan(kind, "scale-monthly", "team-yearly").await,
            Kind::Downgrade => {
                self.change_plan(kind, "starter-monthly", "team-monthly")
                    .await
            }
            Kind::ChangeQuantity => self.change_quantity().await,
            Kind::ChangeLater => self.change_later(kind).await,
            Kind::Undo => self.undo().await,
            Kind::CancelWithoutCredit => self.cancel(kind, CreditPolicy::None).await,
            Kind::CancelWithCredit => self.cancel(kind, CreditPolicy::Credit).await,
            Kind::CancelWithRefund => self.cancel(kind, CreditPolicy::Refund).await,
            Kind::Pause => self.pause().await,
            Kind::Resume => self.resume().await,
            Kind::MoveAnchor => self.move_anchor().await,
            Kind::ChangeZone => self.change_zone().await,
            Kind::ChangeLegalEntity => self.change_legal_entity().await,
            Kind::ChangeTax => self.change_tax(true).await,
            Kind::ClearTax => self.change_tax(false).await,
            Kind::HoldChanges => self.hold(kind, (true, false, false)).await,
            Kind::HoldAccess => self.hold(kind, (false, true, false)).await,
            Kind::HoldBilling => self.hold(kind, (false, false, true)).await,
            Kind::LiftHold => self.hold_and_lift().await,
            Kind::AttachMethod => self.give_a_card().await,
            Kind::AttachBehind => self.give_another_card().await,
            Kind::OrderMethods => self.order_methods().await,
            Kind::RemoveMethod => self.remove_method().await,
            Kind::ConfirmPayment | Kind::RefusePayment | Kind::LapsePayment => {
                self.be_asked_to_confirm(kind).await;
            }
            Kind::DebitPaid | Kind::DebitFailed => self.pay_by_debit(kind).await,
            Kind::LateSuccess => self.pay_too_late().await,
            Kind::CreditNoteToBalance => self.be_given_back(kind, false).await,
            Kind::CreditNoteRefunded => self.be_given_back(kind, true).await,
            Kind::RefundThatFails => self.be_refunded_in_vain().await,
            Kind::GrantCredit => self.be_granted_credit().await,
            Kind::CollectInvoice => self.owe_and(kind, "collect").await,
            Kind::VoidInvoice => self.owe_and(kind, "void").await,
            Kind::WriteOffInvoice => self.owe_and(kind, "write-off").await,
            Kind::DisputeWon => self.dispute(kind, true).await,
            Kind::DisputeLost => self.dispute(kind, false).await,
            Kind::Inquiry => self.be_inquired_about().await,
            Kind::WebhooksLate => {
                self.change_webhooks(kind, WebhookMode::Late { milliseconds: 20 });
            }
            Kind::WebhooksTwice => self.change_webhooks(kind, WebhookMode::Twice),
            Kind::WebhooksReversed => {
                let window_milliseconds = 20;
                let mode = WebhookMode::Reversed {
                    window_milliseconds,
                };
                self.change_webhooks(kind, mode);
            }
            Kind::WebhooksHeld => self.hold_webhooks().await,
            Kind::WebhooksDropped => self.change_webhooks(kind, WebhookMode::Never),
            Kind::ReplayWebhook => self.replay_webhook().await,
        }
    }

    fn when(&mut self, now: DateTime<Utc>) -> When {
        match self.chance.below(3) {
            0 => When::Now,
            1 => When::PeriodEnd,
            _ => When::At(now + TimeDelta::days(1 + self.chance.below(20) as i64)),
        }
    }

    async fn subscribe(&mut self, kind: Kind, days: i64) {
        let at = (days != 0).then_some(self.customer.now().await + TimeDelta::days(days));
        let plan = self.chance.pick(&PLANS);
        if self.subscribe_to(plan, at).await {
            self.world.tally.count(kind);
        }
    }

    /// Buys what costs too little to be charged alone.
    async fn subscribe_to_too_little(&mut self) {
        if !self.subscribe_to(SMALL_PLAN, None).await {
            return;
        }
        self.customer.advance("0h").await;
        let invoices = self.client().list_invoices(self.tenant()).await.unwrap();
        if invoices.iter().any(|one| one.carried_over.is_some()) {
            self.world.tally.count(Kind::SubscribeSmall);
        }
    }

    async fn change(&self, kind: Kind, asked: &ChangeSubscription) -> Option<SubscriptionAct> {
        let (tenant, id) = (self.tenant(), self.customer.subscription);
        let done = self
            .client()
            .change_subscription(tenant, id, asked, &key())
            .await;
        self.world.tally.answered(kind, done)
    }

    /// To one of two plans, whichever it does not have; dearer or cheaper than before, as is asked.
    async fn change_plan(&mut self, kind: Kind, plan: &str, other: &str) {
        let before = self.customer.subscription().await;
        let plan = if before.plan == plan { other } else { plan };
        let asked = ChangeSubscription {
            plan: Some(plan.to_owned()),
            when: When::Now,
            ..ChangeSubscription::default()
        };
        let Some(done) = self.change(kind, &asked).await else {
            return;
        };
        if done.price.amount > before.price.amount {
            self.world.tally.count(Kind::Upgrade);
        } else if done.price.amount < before.price.amount {
            self.world.tally.count(Kind::Downgrade);
        }
    }

    async fn change_quantity(&mut self) {
        if !self.customer.subscription().await.plan.starts_with("team") {
            self.subscribe_to("team-monthly", None).await;
            self.customer.advance("1d").await;
        }
        let storage = ("extra-storage".to_owned(), 1 + self.chance.below(5) as u32);
        let now = self.customer.now().await;
        let asked = ChangeSubscription {
            seats: Some(5 + self.chance.below(20) as u32),
            add_ons: self.chance.heads().then(|| BTreeMap::from([storage])),
            when: if self.chance.heads() {
                When::Now
            } else {
                self.when(now)
            },
            ..ChangeSubscription::default()
        };
        if self.change(Kind::ChangeQuantity, &asked).await.is_some() {
            self.world.tally.count(Kind::ChangeQuantity);
        }
    }

    async fn change_later(&mut self, kind: Kind) {
        let now = self.customer.now().await;
        let asked = ChangeSubscription {
            plan: Some(self.chance.pick(&PLANS).to_owned()),
            when: if self.chance.heads() {
                When::PeriodEnd
            } else {
                When::At(now + TimeDelta::days(1 + self.chance.below(20) as i64))
            },
            ..ChangeSubscription::default()
        };
        if self.change(kind, &asked).await.is_some() && kind == Kind::ChangeLater {
            self.world.tally.count(kind);
        }
    }

    /// What was to come about does not.
    async fn undo(&mut self) {
        let (tenant, id) = (self.tenant(), self.customer.subscription);
        self.change_later(Kind::Undo).await;
        self.customer.advance("0h").await;
        let found = self.client().subscription(tenant, id).await.unwrap();
        for intent in found.intents {
            let asked = UndoIntent {
                reason: None,
                intent: intent.kind,
            };
            let done = self.client().undo_intent(tenant, id, &asked, &key()).await;
            self.world.tally.counted(Kind::Undo, done);
        }
    }

    async fn cancel(&mut self, kind: Kind, credit: CreditPolicy) {
        let now = self.customer.now().await;
        let asked = CancelSubscription {
            when: self.when(now),
            credit,
            ..CancelSubscription::default()
        };
        let (tenant, id) = (self.tenant(), self.customer.subscription);
        let done = self
            .client()
            .cancel_subscription(tenant, id, &asked, &key())
            .await;
        self.world.tally.counted(kind, done);
    }

    async fn pause(&mut self) {
        let now = self.customer.now().await;
        let asked = PauseSubscription {
            when: self.when(now),
            until: self.chance.heads().then(|| now + TimeDelta::days(45)),
            ..PauseSubscription::default()
        };
        let (tenant, id) = (self.tenant(), self.customer.subscription);
        let done = self
            .client()
            .pause_subscription(tenant, id, &asked, &key())
            .await;
        self.world.tally.counted(Kind::Pause, done);
    }

    /// Goes on; what is not paused is paused for some days first.
    async fn resume(&mut self) {
        let (tenant, id) = (self.tenant(), self.customer.subscription);
        if self.status().await != Some(SubscriptionStatus::Paused) {
            let asked = PauseSubscription::default();
            let done = self
                .client()
                .pause_subscription(tenant, id, &asked, &key())
                .await;
            self.world.tally.counted(Kind::Pause, done);
            let days = 1 + self.chance.below(9);
            self.customer.advance(&format!("{days}d")).await;
        }
        let asked = ResumeSubscription::default();
        let done = self
            .client()
            .resume_subscription(tenant, id, &asked, &key())
            .await;
        self.world.tally.counted(Kind::Resume, done);
    }

    async fn move_anchor(&mut self) {
        let asked = MoveAnchor {
            reason: None,
            day: 1 + self.chance.below(31) as u32,
            when: if self.chance.heads() {
                When::Now
            } else {
                When::PeriodEnd
            },
            dry_run: false,
        };
        let (tenant, id) = (self.tenant(), self.customer.subscription);
        let done = self.client().move_anchor(tenant, id, &asked, &key()).await;
        self.world.tally.counted(Kind::MoveAnchor, done);
    }
}

/// Who it is, and what is held.
impl Life<'_> {
    async fn change_zone(&mut self) {
        let asked = ChangeZone {
            zone: self.chance.pick(&ZONES).to_owned(),
            reason: Some("they moved".to_owned()),
            dry_run: false,
        };
        let tenant = self.tenant();
        let done = self.client().change_zone(tenant, &asked, &key()).await;
        self.world.tally.counted(Kind::ChangeZone, done);
    }

    async fn change_legal_entity(&mut self) {
        let asked = ChangeLegalEntity {
            legal_entity: self.chance.pick(&ENTITIES).to_owned(),
            reason: Some("they moved".to_owned()),
            dry_run: false,
        };
        let done = self
            .client()
            .change_legal_entity(self.tenant(), &asked, &key())
            .await;
        self.world.tally.counted(Kind::ChangeLegalEntity, done);
    }

    pub(super) async fn change_tax(&mut self, due: bool) {
        let tax = TaxRate {
            name: "VAT".to_owned(),
            percent: Decimal::from(7 + self.chance.below(14)),
            inclusive: self.chance.heads(),
        };
        let asked = ChangeTax {
            tax: due.then_some(tax),
            reason: Some("the tax office says so".to_owned()),
            dry_run: false,
        };
        let kind = if due { Kind::ChangeTax } else { Kind::ClearTax };
        let tenant = self.tenant();
        let done = self.client().change_tax(tenant, &asked, &key()).await;
        self.world.tally.counted(kind, done);
    }

    /// Places a hold that ends by itself or is to be lifted.
    async fn hold(&mut self, kind: Kind, (changes, access, billing): (bool, bool, bool)) {
        let now = self.customer.now().await;
        let whole = self.chance.heads();
        let ends = self.chance.heads();
        let days = 5 + self.chance.below(30) as i64;
        let hold = PlaceHold {
            kind: HoldKind::Fraud,
            subscription_id: (!whole).then_some(self.customer.subscription),
            starts_at: None,
            ends_at: ends.then(|| now + TimeDelta::days(days)),
            blocks: Some(HoldBlocks {
                changes,
                access,
                billing,
            }),
            reason: "ticket 17".to_owned(),
        };
        let placed = self.client().place_hold(self.tenant(), &hold, &key()).await;
        if let Some(placed) = self.world.tally.counted(kind, placed)
            && !ends
        {
            self.holds.push(placed.hold_id);
        }
    }

    async fn hold_and_lift(&mut self) {
        if self.holds.is_empty() {
            self.hold(Kind::HoldAccess, (false, true, true)).await;
            self.customer.advance("9d").await;
        }
        self.lift_holds().await;
    }

    pub(super) async fn lift_holds(&mut self) {
        let lift = LiftHold {
            reason: "it is over".to_owned(),
        };
        let holds: Vec<Uuid> = self.holds.drain(..).collect();
        for hold in holds {
            let lifted = self
                .client()
                .lift_hold(self.tenant(), hold, &lift, &key())
                .await;
            self.world.tally.counted(Kind::LiftHold, lifted);
        }
    }
}

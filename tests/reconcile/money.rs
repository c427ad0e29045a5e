//! How a customer pays, what it is given back, and what its bank says.

use rust_decimal::Decimal;
use tenure_client::{
    ActOnInvoice, CancelSubscription, GrantCredit, Invoice, InvoiceStatus, Money, NewCreditNote,
    OrderPaymentMethods,
};

use tenure_engine::test_clock;

use super::kinds::Kind;
use super::life::{Life, key};
use crate::support::eventually;

/// Cards that are charged first.
const CARDS: [&str; 3] = [
    "pm_card_visa",
    "pm_sandbox_insufficient_funds",
    "pm_sandbox_expires_2027_06",
];

/// Cards that stand beside others: some are refused for good.
const MORE_CARDS: [&str; 4] = [
    "pm_card_visa",
    "pm_sandbox_lost_card",
    "pm_sandbox_expired_card",
    "pm_sandbox_insufficient_funds",
];

const FAILING_SEPA: [&str; 2] = ["pm_failed_de", "pm_insufficientFunds_de"];
const FAILING_ACH: [&str; 2] = [
    "pm_usBankAccount_noAccount",
    "pm_usBankAccount_insufficientFunds",
];

/// Its methods.
impl Life<'_> {
    pub(super) async fn give_a_card(&mut self) {
        let card = self.chance.pick(&CARDS);
        self.customer.attach(card).await;
        self.world.tally.count(Kind::AttachMethod);
    }

    pub(super) async fn give_another_card(&mut self) {
        let place = 1 + self.chance.below(3) as u32;
        let card = self.chance.pick(&MORE_CARDS);
        self.customer.attach_at(card, Some(place)).await;
        self.world.tally.count(Kind::AttachBehind);
    }

    async fn methods(&self) -> Vec<String> {
        let methods = self.client().list_payment_methods(self.tenant()).await;
        let methods = methods.unwrap().into_iter();
        methods.map(|one| one.provider_id).collect()
    }

    pub(super) async fn order_methods(&mut self) {
        self.customer.attach_at("pm_card_visa", Some(2)).await;
        let mut methods = self.methods().await;
        methods.reverse();
        let order = OrderPaymentMethods {
            payment_methods: methods,
        };
        let done = self
            .client()
            .order_payment_methods(self.tenant(), &order, &key())
            .await;
        self.world.tally.counted(Kind::OrderMethods, done);
    }

    /// By chance the one that is charged first, or the only one.
    pub(super) async fn remove_method(&mut self) {
        let methods = self.methods().await;
        if methods.is_empty() {
            return;
        }
        let gone = &methods[self.chance.below(methods.len() as u64) as usize];
        let done = self
            .client()
            .remove_payment_method(self.tenant(), gone, &key())
            .await;
        self.world.tally.counted(Kind::RemoveMethod, done);
    }
}

/// Its payments.
impl Life<'_> {
    /// Waits until all that it asked for is done, whatever the provider has to tell yet.
    pub(super) async fn rest(&self) {
        let conn = crate::support::connect(self.world.options).await;
        let conn = tokio::sync::Mutex::new(conn);
        let clock = tenure_engine::ClockId(self.customer.clock);
        eventually("nothing is left to do", async || {
            test_clock::is_quiet(&mut *conn.lock().await, clock)
                .await
                .unwrap()
        })
        .await;
    }

    /// Buys something that is charged at once to a method; the invoice of it, if it was let.
    async fn buy_with(&mut self, method: &str) -> Option<Invoice> {
        self.customer.attach(method).await;
        if !self.subscribe_to("team-monthly", None).await {
            return None;
        }
        self.customer.advance("0h").await;
        let invoices = self.client().list_invoices(self.tenant()).await.unwrap();
        invoices.into_iter().next()
    }

    /// The provider's id of the charge of an invoice that stands like this.
    async fn charge(&self, invoice: &Invoice, status: &str) -> Option<String> {
        let mut conn = crate::support::connect(self.world.options).await;
        sqlx::query_scalar(
            "select provider_intent_id from app.payment
             where invoice_id = $1 and status = $2
             order by generation desc limit 1",
        )
        .bind(invoice.invoice_id)
        .bind(status)
        .fetch_optional(&mut conn)
        .await
        .unwrap()
        .flatten()
    }

    async fn stands(&self, invoice: &Invoice) -> InvoiceStatus {
        let found = self
            .client()
            .invoice(self.tenant(), invoice.invoice_id)
            .await;
        found.unwrap().invoice.status
    }

    /// Its bank asks it to confirm a payment (3-D Secure).
    pub(super) async fn be_asked_to_confirm(&mut self, kind: Kind) {
        let Some(invoice) = self.buy_with("pm_sandbox_requires_action").await else {
            return;
        };
        let Some(asked) = self.charge(&invoice, "requires_action").await else {
            return;
        };
        self.customer.attach("pm_card_visa").await;
        let control = &self.world.control;
        match kind {
            Kind::ConfirmPayment => control.complete_authentication(&asked).unwrap(),
            Kind::RefusePayment => control.fail_authentication(&asked).unwrap(),
            _ => self.customer.advance("24h").await,
        }
        // Should nobody be told, it is looked for within the hour.
        self.customer.advance("2h").await;
        let confirmed = self.stands(&invoice).await == InvoiceStatus::Paid;
        let declined = self.charge(&invoice, "declined").await.is_some();
        if (kind == Kind::ConfirmPayment && confirmed) || (kind != Kind::ConfirmPayment && declined)
        {
            self.world.tally.count(kind);
        }
    }

    pub(super) async fn pay_by_debit(&mut self, kind: Kind) {
        let debit = match (kind, self.currency.as_str()) {
            (Kind::DebitPaid, "USD") => "pm_usBankAccount_success",
            // That it takes no yen is an answer, too.
            (Kind::DebitPaid, _) => "pm_success_de",
            (_, "USD") => self.chance.pick(&FAILING_ACH),
            _ => self.chance.pick(&FAILING_SEPA),
        };
        let Some(invoice) = self.buy_with(debit).await else {
            return;
        };
        if self.charge(&invoice, "processing").await.is_none() {
            return;
        }
        self.customer.attach("pm_card_visa").await;
        self.customer.advance("6d").await;
        let paid = self.stands(&invoice).await == InvoiceStatus::Paid;
        let declined = self.charge(&invoice, "declined").await.is_some();
        if (kind == Kind::DebitPaid && paid) || (kind == Kind::DebitFailed && declined) {
            self.world.tally.count(kind);
        }
    }

    /// The bank pays when nobody waits for it any more: the attempt was given up, and the
    /// subscription ended or its invoice paid otherwise.
    pub(super) async fn pay_too_late(&mut self) {
        let Some(invoice) = self.buy_with("pm_sandbox_processing").await else {
            return;
        };
        let Some(charge) = self.charge(&invoice, "processing").await else {
            return;
        };
        if self.chance.heads() {
            let asked = CancelSubscription::default();
            let (tenant, id) = (self.tenant(), self.customer.subscription);
            let done = self
                .client()
                .cancel_subscription(tenant, id, &asked, &key())
                .await;
            self.world.tally.answered(Kind::LateSuccess, done);
        }
        self.customer.attach("pm_card_visa").await;
        self.customer.advance("8d").await;
        let settled = self.world.control.settle_payment(&charge, None);
        self.customer.advance("1d").await;
        let credit = self.client().credit(self.tenant()).await.unwrap();
        let late = |note: &Option<String>| note.as_deref() == Some(&charge);
        if settled.is_ok() && credit.entries.iter().any(|entry| late(&entry.note)) {
            self.world.tally.count(Kind::LateSuccess);
        }
    }
}

/// What support does with its invoices.
impl Life<'_> {
    async fn give_back(&self, kind: Kind, invoice: &Invoice, note: &NewCreditNote) -> bool {
        let (tenant, of) = (self.tenant(), invoice.invoice_id);
        let given = self
            .client()
            .give_credit_note(tenant, of, note, &key())
            .await;
        let given = self.world.tally.answered(kind, given);
        if given.is_some() {
            self.world
                .tally
                .note(self.tenant(), |done| done.credit_notes += 1);
        }
        given.is_some()
    }

    /// All or some of one of its invoices, paid or not.
    pub(super) async fn be_given_back(&mut self, kind: Kind, refund: bool) {
        let invoices = self.client().list_invoices(self.tenant()).await.unwrap();
        if invoices.is_empty() {
            return;
        }
        let latest = invoices.len().min(4) as u64;
        let invoice = &invoices[self.chance.below(latest) as usize];
        let some = Money {
            amount: Decimal::from(1 + self.chance.below(20)),
            currency: self.currency.clone(),
        };
        let note = NewCreditNote {
            amount: self.chance.heads().then_some(some),
            refund,
            reason: "an outage".to_owned(),
            dry_run: false,
        };
        if self.give_back(kind, invoice, &note).await {
            self.world.tally.count(kind);
        }
    }

    /// The refund arrives, and comes back days later.
    pub(super) async fn be_refunded_in_vain(&mut self) {
        let note = NewCreditNote {
            amount: None,
            refund: true,
            reason: "a mistake".to_owned(),
            dry_run: false,
        };
        let mut given = false;
        // An invoice that the balance or a coupon paid leaves nothing to refund: then it buys again.
        for _ in 0..3 {
            let Some(invoice) = self.buy_with("pm_card_refundFail").await else {
                return;
            };
            given = self.give_back(Kind::RefundThatFails, &invoice, &note).await;
            if given {
                break;
            }
        }
        self.customer.attach("pm_card_visa").await;
        if !given {
            return;
        }
        self.customer.advance("7d").await;
        let credit = self.client().credit(self.tenant()).await.unwrap();
        let mut entries = credit.entries.iter();
        if entries.any(|entry| entry.reason == "refund_failed") {
            self.world.tally.count(Kind::RefundThatFails);
        }
    }

    pub(super) async fn be_granted_credit(&mut self) {
        let amount = Decimal::from(1 + self.chance.below(30));
        let grant = GrantCredit {
            amount: Money {
                amount,
                currency: self.currency.clone(),
            },
            reason: "a gift".to_owned(),
            dry_run: false,
        };
        let granted = self
            .client()
            .grant_credit(self.tenant(), &grant, &key())
            .await;
        if self
            .world
            .tally
            .counted(Kind::GrantCredit, granted)
            .is_some()
        {
            self.world.tally.note(self.tenant(), |done| {
                *done.granted.entry(grant.amount.currency).or_default() += amount;
            });
        }
    }

    /// Owes an invoice, and somebody does something about it by hand.
    pub(super) async fn owe_and(&mut self, kind: Kind, verb: &str) {
        // Credit that is taken by an invoice comes back from one that is void.
        self.be_granted_credit().await;
        let Some(invoice) = self.buy_with("pm_sandbox_insufficient_funds").await else {
            return;
        };
        if self.stands(&invoice).await != InvoiceStatus::Open {
            return;
        }
        if self.chance.heads() {
            // The bank would pay now.
            let card = &self.methods().await[0];
            let control = &self.world.control;
            control.set_card_behaviour(card, "pays").unwrap();
        }
        let asked = ActOnInvoice {
            reason: "ticket 18".to_owned(),
            dry_run: false,
        };
        let (tenant, of) = (self.tenant(), invoice.invoice_id);
        let done = self
            .client()
            .act_on_invoice(tenant, of, verb, &asked, &key())
            .await;
        self.world.tally.counted(kind, done);
        self.customer.advance("2d").await;
        self.customer.attach("pm_card_visa").await;
    }
}

/// What its bank says of what it paid.
impl Life<'_> {
    /// Withdraws what is left of one of its payments, or only asks about it; the dispute's id.
    fn open(&mut self, inquiry: bool) -> Option<String> {
        let control = &self.world.control;
        let tenant = self.tenant().to_string();
        let mut paid = control.charges(&[("tenant", tenant.as_str())]);
        paid.retain(|charge| charge.paid && charge.amount > charge.amount_refunded);
        if paid.is_empty() {
            return None;
        }
        let latest = paid.len().min(4);
        let chosen = paid.len() - 1 - self.chance.below(latest as u64) as usize;
        // One that is disputed already is not disputed again.
        control
            .open_dispute(&paid[chosen].id, "fraudulent", None, inquiry)
            .ok()
    }

    async fn standing(&self, dispute: &str) -> Option<String> {
        let disputes = self.client().list_disputes(self.tenant()).await.unwrap();
        let found = disputes.into_iter().find(|one| one.dispute_id == dispute);
        found.map(|found| found.standing)
    }

    /// One that the bank weighs already is decided; by chance one that nobody decides yet is opened.
    pub(super) async fn dispute(&mut self, kind: Kind, won: bool) {
        if self.chance.below(3) == 0 {
            let opened = self.open(false);
            self.disputes.extend(opened);
        }
        let dispute = match self.disputes.pop() {
            Some(weighed) => weighed,
            None => {
                let Some(opened) = self.open(false) else {
                    return;
                };
                self.customer.advance("3d").await;
                opened
            }
        };
        // The sandbox decides by itself what nobody answered in time.
        let _ = self.world.control.close_dispute(&dispute, won);
        self.customer.advance("2d").await;
        let wanted = if won { "won" } else { "lost" };
        if self.standing(&dispute).await.as_deref() == Some(wanted) {
            self.world.tally.count(kind);
        }
    }

    /// The bank only asks; by chance it withdraws the money later.
    pub(super) async fn be_inquired_about(&mut self) {
        let Some(inquiry) = self.open(true) else {
            return;
        };
        self.customer.advance("1d").await;
        if self.standing(&inquiry).await.is_some() {
            self.world.tally.count(Kind::Inquiry);
        }
        if self.chance.heads() {
            self.world.control.escalate_inquiry(&inquiry).unwrap();
            self.disputes.push(inquiry);
        }
    }
}

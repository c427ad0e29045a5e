//! The story of `tenure dev`: a trial becomes a paying customer, a card fails and is mended, and the
//! subscription ends. Played through the API on a test clock, each fact checked and printed.

use chrono::{DateTime, TimeZone as _, Utc};
use stripe_sandbox::SandboxHandle;
use tenure_client::{
    Client, Invoice, InvoiceStatus, MailStatus, NewTenant, Subscription, SubscriptionStatus, When,
};
use uuid::Uuid;

use super::customer::Customer;

/// Plays the story; whether every fact held.
///
/// # Errors
/// When the API refuses something, or an advance does not end.
pub(super) async fn play(client: &Client, sandbox: &SandboxHandle) -> anyhow::Result<bool> {
    let mut story = Story::begin(client, sandbox).await?;
    story.trial().await?;
    story.paid().await?;
    story.renewal().await?;
    story.declined().await?;
    story.recovered().await?;
    story.cancelled().await?;
    Ok(story.end())
}

struct Story<'a> {
    client: &'a Client,
    sandbox: &'a SandboxHandle,
    customer: Customer<'a>,
    subscription: Uuid,
    facts: u32,
    broken: u32,
}

fn day(year: i32, month: u32, day: u32) -> DateTime<Utc> {
    // Midnight in Berlin: an hour ahead of UTC in winter, two in summer (from 28 March 2027 on).
    let summer = (month, day) >= (3, 28);
    let offset = if summer { 2 } else { 1 };
    Utc.with_ymd_and_hms(year, month, day, 0, 0, 0)
        .single()
        .unwrap_or_default()
        - chrono::TimeDelta::hours(offset)
}

impl<'a> Story<'a> {
    async fn begin(client: &'a Client, sandbox: &'a SandboxHandle) -> anyhow::Result<Self> {
        outln!("\nThe story, on a test clock in Europe/Berlin:\n");
        let new = NewTenant {
            name: "Ada's Bakery".to_owned(),
            email: "ada@bakery.example".to_owned(),
            zone: "Europe/Berlin".to_owned(),
            locale: None,
            test_clock: Utc.with_ymd_and_hms(2027, 1, 31, 9, 0, 0).single(),
            legal_entity: None,
        };
        let customer = Customer::create(client, &new).await?;
        customer.attach("pm_card_visa").await?;
        let made = customer.subscribe("starter-monthly", "EUR").await?;
        Ok(Self {
            client,
            sandbox,
            customer,
            subscription: made.subscription_id,
            facts: 0,
            broken: 0,
        })
    }

    async fn trial(&mut self) -> anyhow::Result<()> {
        let found = self.subscription().await?;
        let tenant = self.client.tenant(self.customer.tenant_id).await?;
        let card = tenant.default_payment_method.map(|method| method.last4);
        self.fact(
            day(2027, 1, 31),
            "starts Starter, monthly at 19.00 EUR with card 4242",
            card.as_deref() == Some("4242") && price(&found) == "19.00 EUR",
        );
        self.fact(
            day(2027, 1, 31),
            "is on trial for 14 days, until 14 February; nothing is charged",
            found.status == SubscriptionStatus::Trialing
                && found.trial_ends_at == Some(day(2027, 2, 14))
                && self.charges() == 0,
        );
        Ok(())
    }

    async fn paid(&mut self) -> anyhow::Result<()> {
        self.customer.advance("15d").await?;
        let warned = self.has_mail("trial_ending").await?;
        self.fact(
            day(2027, 2, 11),
            "is told by mail that the trial ends",
            warned,
        );
        let invoice = self.invoice(1).await?;
        self.fact(
            day(2027, 2, 14),
            "the trial ends: invoice INV-00001 over 19.00 EUR is paid",
            is_paid(&invoice, "INV-00001", day(2027, 2, 14)) && self.charges() == 1,
        );
        let receipt = self.has_mail("receipt").await?;
        self.fact(day(2027, 2, 14), "gets the receipt by mail", receipt);
        let found = self.subscription().await?;
        self.fact(
            day(2027, 2, 14),
            "is active until 14 March",
            found.status == SubscriptionStatus::Active
                && found.period_end == Some(day(2027, 3, 14)),
        );
        Ok(())
    }

    async fn renewal(&mut self) -> anyhow::Result<()> {
        self.customer.advance("1mo").await?;
        let invoice = self.invoice(2).await?;
        self.fact(
            day(2027, 3, 14),
            "renews: invoice INV-00002 over 19.00 EUR is paid",
            is_paid(&invoice, "INV-00002", day(2027, 3, 14)) && self.charges() == 2,
        );
        Ok(())
    }

    async fn declined(&mut self) -> anyhow::Result<()> {
        self.customer
            .attach("pm_sandbox_insufficient_funds")
            .await?;
        self.customer.advance("1mo").await?;
        let invoice = self.invoice(3).await?;
        let found = self.subscription().await?;
        self.fact(
            day(2027, 4, 14),
            "the card is declined: invoice INV-00003 over 19.00 EUR stays open, past due",
            found.status == SubscriptionStatus::PastDue
                && invoice.as_ref().is_some_and(|invoice| {
                    invoice.status == InvoiceStatus::Open
                        && invoice.finalized_at == Some(day(2027, 4, 14))
                }),
        );
        // The clock stands at 15 April, 09:00 UTC: the first retry was at 10:00 in Berlin.
        let attempts = invoice.map_or(0, |invoice| invoice.attempts);
        self.fact(
            day(2027, 4, 15),
            "the payment is tried again, in vain",
            attempts == 2,
        );
        let mails = self.count_mails("payment_failed").await?;
        self.fact(day(2027, 4, 15), "each failure is told by mail", mails == 2);
        Ok(())
    }

    async fn recovered(&mut self) -> anyhow::Result<()> {
        self.customer.attach("pm_card_visa").await?;
        self.customer.advance("0h").await?;
        let invoice = self.invoice(3).await?;
        let found = self.subscription().await?;
        self.fact(
            day(2027, 4, 15),
            "a new card: INV-00003 over 19.00 EUR is paid at once, and all is well",
            found.status == SubscriptionStatus::Active
                && invoice.is_some_and(|invoice| invoice.status == InvoiceStatus::Paid)
                && self.charges() == 3,
        );
        let told = self.has_mail("recovered").await?;
        self.fact(day(2027, 4, 15), "is told by mail that it recovered", told);
        Ok(())
    }

    async fn cancelled(&mut self) -> anyhow::Result<()> {
        let tenant = self.customer.tenant_id;
        self.customer
            .cancel(self.subscription, When::PeriodEnd)
            .await?;
        let found = self.subscription().await?;
        self.fact(
            day(2027, 4, 15),
            "cancels: access goes on until 14 May",
            found.status == SubscriptionStatus::Ending && found.cancel_at == Some(day(2027, 5, 14)),
        );
        self.customer.advance("2mo").await?;
        let found = self.subscription().await?;
        let invoices = self.client.list_invoices(tenant).await?;
        self.fact(
            day(2027, 5, 14),
            "access ends that day; nothing more is charged",
            found.status == SubscriptionStatus::Ended
                && found.ended_at == Some(day(2027, 5, 14))
                && invoices.len() == 3
                && self.charges() == 3,
        );
        let told = self.has_mail("cancelled").await?;
        self.fact(day(2027, 5, 14), "is told by mail that it ended", told);
        Ok(())
    }

    fn end(&self) -> bool {
        let held = self.facts - self.broken;
        outln!("\n{held} of {} facts held.", self.facts);
        self.broken == 0
    }

    /// Prints a fact with its local date.
    fn fact(&mut self, at: DateTime<Utc>, what: &str, held: bool) {
        self.facts += 1;
        self.broken += u32::from(!held);
        let date = at
            .with_timezone(&chrono_tz::Europe::Berlin)
            .format("%d %b %Y");
        let sign = if held { "ok " } else { "NOT" };
        outln!("  {sign}  {date}  {what}");
    }

    async fn subscription(&self) -> anyhow::Result<Subscription> {
        let tenant = self.customer.tenant_id;
        let found = self.client.subscription(tenant, self.subscription).await?;
        Ok(found.subscription)
    }

    /// The tenant's invoice with this number.
    async fn invoice(&self, number: u32) -> anyhow::Result<Option<Invoice>> {
        let printed = format!("INV-{number:05}");
        let invoices = self.client.list_invoices(self.customer.tenant_id).await?;
        Ok(invoices
            .into_iter()
            .find(|invoice| invoice.number.as_deref() == Some(&printed)))
    }

    async fn count_mails(&self, kind: &str) -> anyhow::Result<usize> {
        let mails = self
            .client
            .list_tenant_mails(self.customer.tenant_id)
            .await?;
        let sent =
            |mail: &&tenure_client::Mail| mail.kind == kind && mail.status == MailStatus::Sent;
        Ok(mails.iter().filter(sent).count())
    }

    async fn has_mail(&self, kind: &str) -> anyhow::Result<bool> {
        Ok(self.count_mails(kind).await? > 0)
    }

    /// How many charges of the tenant succeeded at the provider.
    fn charges(&self) -> usize {
        let tenant = self.customer.tenant_id.to_string();
        let all = self.sandbox.control().charges(&[("tenant", &tenant)]);
        all.iter().filter(|charge| charge.paid).count()
    }
}

fn is_paid(invoice: &Option<Invoice>, number: &str, at: DateTime<Utc>) -> bool {
    invoice.as_ref().is_some_and(|invoice| {
        invoice.status == InvoiceStatus::Paid
            && invoice.number.as_deref() == Some(number)
            && invoice.total.to_string() == "19.00 EUR"
            && invoice.paid_at == Some(at)
    })
}

fn price(subscription: &Subscription) -> String {
    subscription.price.to_string()
}

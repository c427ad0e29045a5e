//! A customer that is played through the API: on a test clock, with a card, subscribed to a plan.

use std::time::Duration;

use anyhow::Context as _;
use tenure_client::{
    AdvanceTestClock, AttachPaymentMethod, CancelSubscription, Client, IdempotencyKey,
    NewSubscription, NewTenant, Subscription, TestClockStatus, When,
};
use uuid::Uuid;

/// How long one advance is waited for.
const PATIENCE: Duration = Duration::from_secs(120);
const POLL: Duration = Duration::from_millis(20);

/// A tenant with a test clock, and the call that moves it.
pub(super) struct Customer<'a> {
    client: &'a Client,
    pub(super) tenant_id: Uuid,
    clock: Uuid,
}

impl<'a> Customer<'a> {
    /// Creates a tenant; it must have a test clock.
    pub(super) async fn create(client: &'a Client, new: &NewTenant) -> anyhow::Result<Self> {
        let tenant = client
            .create_tenant(new, &IdempotencyKey::generate())
            .await?;
        Ok(Self {
            client,
            tenant_id: tenant.tenant_id,
            clock: tenant.test_clock_id.context("the tenant has no clock")?,
        })
    }

    /// Gives it a card, and waits until all that follows from that has come to rest.
    pub(super) async fn attach(&self, method: &str) -> anyhow::Result<()> {
        let attach = AttachPaymentMethod {
            payment_method: method.to_owned(),
            position: None,
        };
        let key = IdempotencyKey::generate();
        self.client
            .attach_payment_method(self.tenant_id, &attach, &key)
            .await?;
        self.advance("0h").await
    }

    pub(super) async fn subscribe(
        &self,
        plan: &str,
        currency: &str,
    ) -> anyhow::Result<Subscription> {
        let new = NewSubscription {
            plan: plan.to_owned(),
            currency: currency.to_owned(),
            ..NewSubscription::default()
        };
        let key = IdempotencyKey::generate();
        let made = self.client.subscribe(self.tenant_id, &new, &key).await?;
        self.advance("0h").await?;
        Ok(made)
    }

    pub(super) async fn cancel(&self, subscription: Uuid, when: When) -> anyhow::Result<()> {
        let cancel = CancelSubscription {
            when,
            ..CancelSubscription::default()
        };
        let key = IdempotencyKey::generate();
        self.client
            .cancel_subscription(self.tenant_id, subscription, &cancel, &key)
            .await?;
        self.advance("0h").await
    }

    /// Moves the clock and waits until it is ready again.
    pub(super) async fn advance(&self, by: &str) -> anyhow::Result<()> {
        let advance = AdvanceTestClock {
            to: None,
            by: Some(by.to_owned()),
        };
        let key = IdempotencyKey::generate();
        self.client
            .advance_test_clock(self.clock, &advance, &key)
            .await?;
        let ready = async {
            while self.client.test_clock(self.clock).await?.status != TestClockStatus::Ready {
                tenure_engine::sleep(POLL).await;
            }
            anyhow::Ok(())
        };
        tokio::time::timeout(PATIENCE, ready)
            .await
            .with_context(|| format!("the clock did not get {by} further within {PATIENCE:?}"))?
    }
}

//! A customer's year: who it is, and what it does day by day.

use std::time::Instant;

use chrono::{DateTime, TimeDelta, Utc};
use futures_util::StreamExt as _;
use serde_json::json;
use sqlx::postgres::PgConnectOptions;
use stripe_sandbox::Control;
use tenure_client::{
    AssignDunningPolicy, CancelSubscription, Client, CreditPolicy, DunningScope, IdempotencyKey,
    LoadDunningPolicy, NewSubscription, NewTenant, SubscriptionStatus, When,
};
use uuid::Uuid;

use super::kinds::Kind;
use super::tally::Tally;
use crate::support::app::{Subscriber, for_a_story};

/// How many customers live at a time.
const AT_ONCE: usize = 8;
/// Customers that share an order of kinds, each from another place of it on.
const GROUP: u64 = 4;

const CURRENCIES: [&str; 3] = ["EUR", "USD", "JPY"];
pub(super) const ZONES: [&str; 4] = ["UTC", "Europe/Berlin", "America/New_York", "Asia/Tokyo"];
pub(super) const ENTITIES: [&str; 2] = ["de", "us"];
pub(super) const PLANS: [&str; 5] = [
    "starter-monthly",
    "team-monthly",
    "team-yearly",
    "scale-monthly",
    "pilot-quarter",
];

/// Below what the provider charges.
pub(super) const SMALL_PLAN: &str = "small-monthly";

/// Chance by a seed: xorshift (Marsaglia 2003), so that a failure can be played again.
pub(super) struct Chance(u64);

impl Chance {
    pub(super) fn of(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    pub(super) fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % bound
    }

    pub(super) fn pick<'a>(&mut self, from: &[&'a str]) -> &'a str {
        from[self.below(from.len() as u64) as usize]
    }

    pub(super) fn heads(&mut self) -> bool {
        self.below(2) == 0
    }

    /// All kinds in an order of its own.
    fn shuffle(&mut self) -> [Kind; Kind::ALL.len()] {
        let mut kinds = Kind::ALL;
        for last in (1..kinds.len()).rev() {
            kinds.swap(last, self.below(last as u64 + 1) as usize);
        }
        kinds
    }
}

pub(super) fn key() -> IdempotencyKey {
    IdempotencyKey::generate()
}

/// Where customers live: the product behind a door, its provider, its books.
pub(super) struct World<'a> {
    pub(super) client: &'a Client,
    pub(super) control: Control,
    pub(super) options: &'a PgConnectOptions,
    pub(super) tally: Tally,
}

impl<'a> World<'a> {
    /// With two legal entities, a plan that is too small to charge, and a dunning policy that does all
    /// that one can.
    pub(super) async fn open(
        client: &'a Client,
        control: &Control,
        options: &'a PgConnectOptions,
    ) -> Self {
        let entity = |name: &str, prefix: &str, default: bool| {
            json!({ "name": name, "address": ["1 Main Street"], "country": prefix, "prefix": prefix,
                "default": default })
        };
        let catalog = json!({
            "legal_entities": {
                "de": entity("Acme Software GmbH", "DE", true),
                "us": entity("Acme Software, Inc.", "US", false),
            },
            "plans": { SMALL_PLAN: {
                "name": "Small", "product": "Projects", "interval": "month",
                "prices": { "EUR": "0.20", "USD": "0.20", "JPY": "20" },
            }},
        });
        let publish = for_a_story();
        let published = client.publish_catalog(&catalog, &publish, &key()).await;
        published.unwrap();
        let load = LoadDunningPolicy {
            document: json!({
                "ladders": { "soft": { "days": [1, 3, 5, 7] } },
                "steps": [
                    { "name": "time to pay", "day": 2, "action": "grace" },
                    { "name": "shut", "day": 4, "action": "suspend" },
                ],
                "end": { "day": 14, "action": "uncollectible" },
                "disputes": { "open": "grace", "lost": "suspend" },
            }),
            reason: "a story".to_owned(),
        };
        client
            .load_dunning_policy("strict", &load, &key())
            .await
            .unwrap();
        Self {
            client,
            control: control.clone(),
            options,
            tally: Tally::default(),
        }
    }

    /// Lets so many customers live their year, and tells how long it took.
    pub(super) async fn play(&self, customers: u64) {
        let began = Instant::now();
        futures_util::stream::iter(1..=customers)
            .for_each_concurrent(AT_ONCE, |seed| async move {
                let mut life = Life::begin(self, seed).await;
                life.live().await;
            })
            .await;
        println!("{customers} customers lived for {:?}", began.elapsed());
    }

    /// Lets everybody hear what was not heard yet.
    pub(super) async fn settle(&self) {
        self.clear_up().await;
        let tenants = self.tally.done().into_keys();
        futures_util::stream::iter(tenants)
            .for_each_concurrent(AT_ONCE, |tenant| async move {
                let tenant = self.client.tenant(tenant).await.unwrap();
                let customer = Subscriber {
                    client: self.client,
                    clock: tenant.test_clock_id.unwrap(),
                    tenant,
                    subscription: Uuid::nil(),
                };
                customer.advance("1d").await;
            })
            .await;
    }
}

/// A customer, and by what chance it lives.
pub(super) struct Life<'a> {
    pub(super) world: &'a World<'a>,
    pub(super) customer: Subscriber<'a>,
    pub(super) currency: String,
    /// The plan that its subscription was sold with.
    plan: String,
    pub(super) chance: Chance,
    /// The provider's ids of disputes that the bank weighs.
    pub(super) disputes: Vec<String>,
    /// Holds that somebody has to lift.
    pub(super) holds: Vec<Uuid>,
    seed: u64,
}

impl<'a> Life<'a> {
    async fn begin(world: &'a World<'a>, seed: u64) -> Self {
        let mut chance = Chance::of(seed);
        let new = NewTenant {
            name: "Acme".to_owned(),
            email: "billing@acme.example".to_owned(),
            zone: chance.pick(&ZONES).to_owned(),
            locale: None,
            test_clock: Some("2027-01-30T09:00:00Z".parse().unwrap()),
            legal_entity: chance.heads().then(|| chance.pick(&ENTITIES).to_owned()),
        };
        let tenant = world.client.create_tenant(&new, &key()).await.unwrap();
        let currency = chance.pick(&CURRENCIES).to_owned();
        let mut life = Self {
            world,
            customer: Subscriber {
                client: world.client,
                clock: tenant.test_clock_id.unwrap(),
                tenant,
                subscription: Uuid::nil(),
            },
            currency,
            plan: String::new(),
            chance,
            disputes: Vec::new(),
            holds: Vec::new(),
            seed,
        };
        life.customer.attach("pm_card_visa").await;
        if life.chance.heads() {
            life.change_tax(true).await;
        }
        if life.chance.heads() {
            life.be_strict().await;
        }
        let plan = life.chance.pick(&PLANS);
        life.subscribe_to(plan, None).await;
        life
    }

    pub(super) fn client(&self) -> &'a Client {
        self.world.client
    }

    pub(super) fn tenant(&self) -> Uuid {
        self.customer.tenant.tenant_id
    }

    /// Its dunning goes by the strict policy.
    async fn be_strict(&self) {
        let assign = AssignDunningPolicy {
            scope: DunningScope::Tenant,
            subject: self.tenant().to_string(),
            policy: Some("strict".to_owned()),
            reason: "a story".to_owned(),
        };
        let assigned = self.client().assign_dunning_policy(&assign, &key()).await;
        assigned.unwrap();
    }

    /// Something every few days for a year; then all that is owed and can be paid is paid.
    async fn live(&mut self) {
        let begin = self.customer.now().await;
        let kinds = Chance::of(1 + self.seed / GROUP).shuffle();
        let first = (self.seed % GROUP) as usize * kinds.len() / GROUP as usize;
        for kind in kinds.into_iter().cycle().skip(first) {
            if self.customer.now().await - begin > TimeDelta::days(365) {
                break;
            }
            let days = 5 + self.chance.below(12);
            self.customer.advance(&format!("{days}d")).await;
            self.have_a_subscription().await;
            self.act(kind).await;
            if self.chance.below(3) == 0 {
                self.lift_holds().await;
            }
        }
        self.lift_holds().await;
        self.customer.attach("pm_card_visa").await;
        self.customer.advance("21d").await;
    }

    /// Without one nothing comes about.
    async fn have_a_subscription(&mut self) {
        if self.status().await == Some(SubscriptionStatus::Ended) {
            let plan = self.chance.pick(&PLANS);
            self.subscribe_to(plan, None).await;
        }
    }

    pub(super) async fn status(&self) -> Option<SubscriptionStatus> {
        let none = self.customer.subscription.is_nil();
        if none {
            return Some(SubscriptionStatus::Ended);
        }
        Some(self.customer.subscription().await.status)
    }

    /// Subscribes in the place of what it had; whether it was let.
    pub(super) async fn subscribe_to(&mut self, plan: &str, at: Option<DateTime<Utc>>) -> bool {
        let coupon = match self.chance.below(4) {
            0 => Some("welcome-20".to_owned()),
            1 => Some("five-off".to_owned()),
            _ => None,
        };
        let new = NewSubscription {
            plan: plan.to_owned(),
            currency: self.currency.clone(),
            coupon,
            start_at: at,
            anchor_day: (self.chance.below(3) == 0).then(|| 1 + self.chance.below(31) as u32),
            ..NewSubscription::default()
        };
        let made = self.client().subscribe(self.tenant(), &new, &key()).await;
        // While something is held nothing new is sold: that is an answer, too.
        let Some(made) = self.world.tally.answered(Kind::SubscribeNow, made) else {
            return false;
        };
        self.world
            .tally
            .note(self.tenant(), |done| done.subscriptions += 1);
        let before = std::mem::replace(&mut self.customer.subscription, made.subscription_id);
        let plan = std::mem::replace(&mut self.plan, made.plan);
        // A fixed term ends by itself.
        if !before.is_nil() && plan != "pilot-quarter" {
            self.end(before).await;
        }
        true
    }

    /// Lets a subscription end that has found its successor.
    async fn end(&self, subscription: Uuid) {
        let asked = CancelSubscription {
            when: When::PeriodEnd,
            credit: CreditPolicy::None,
            ..CancelSubscription::default()
        };
        let ended = self
            .client()
            .cancel_subscription(self.tenant(), subscription, &asked, &key())
            .await;
        self.world.tally.answered(Kind::CancelWithoutCredit, ended);
    }
}

//! What a tenant has now, and why. Pure.
//!
//! Each subscription brings the features of its plan's version, with its add-ons added: a number is
//! added for each that it has, anything else replaces. Several subscriptions are merged: of numbers
//! the greatest counts, of `true` and `false` the `true`, of anything else what the subscription
//! brings that began last. A hold that shuts a subscription takes what it brings; one that shuts the
//! tenant takes all, overrides too. An override of support counts in place of what was bought.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use chrono::{DateTime, Utc};
use serde_json::Value;
use uuid::Uuid;

use super::{AddOnFact, Facts, Offer, OfferKey, SubscriptionFact};
use crate::hold::{self, HoldRow, Kind};

/// The feature that counts a subscription's seats where its plan sells seats.
pub const SEATS: &str = "seats";

/// Why a feature has its value, in the words of `OpenFeature`'s resolution reasons where they fit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reason {
    /// It was bought: the plan or an add-on says so.
    TargetingMatch,
    /// Support has set it.
    Static,
    /// It was bought, and a hold has shut it.
    Disabled,
    /// Nothing that the tenant has names it.
    Default,
}

impl Reason {
    /// `OpenFeature`'s word.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::TargetingMatch => "TARGETING_MATCH",
            Self::Static => "STATIC",
            Self::Disabled => "DISABLED",
            Self::Default => "DEFAULT",
        }
    }
}

/// Where a value comes from.
#[derive(Debug, Clone, PartialEq)]
pub enum Source {
    /// What was bought.
    Subscription {
        /// The subscription.
        subscription_id: Uuid,
        /// Its plan.
        plan: String,
        /// The plan's version.
        version: i32,
        /// The add-ons that changed the plan's value, and how many it has of each.
        add_ons: Vec<(String, u32)>,
    },
    /// A decision of support.
    Override {
        /// Who decided.
        author: String,
        /// Until when it counts.
        expires_at: Option<DateTime<Utc>>,
    },
    /// What shuts it.
    Hold {
        /// The hold.
        hold_id: Uuid,
        /// What it is for.
        kind: Kind,
    },
}

/// A feature's answer.
#[derive(Debug, Clone, PartialEq)]
pub struct Entitlement {
    /// The value; null where a feature that is no switch and no number is shut, or for one that
    /// nothing names.
    pub value: Value,
    /// Why.
    pub reason: Reason,
    /// From where; `None` for one that nothing names.
    pub source: Option<Source>,
}

impl Entitlement {
    /// The answer for a feature that nothing names.
    #[must_use]
    pub const fn none() -> Self {
        Self {
            value: Value::Null,
            reason: Reason::Default,
            source: None,
        }
    }

    /// Whether it can be used at all: `true`, a number above 0, or any text.
    #[must_use]
    pub fn enabled(&self) -> bool {
        match &self.value {
            Value::Bool(on) => *on,
            Value::Number(number) => number.as_u64().is_some_and(|number| number > 0),
            Value::String(_) => true,
            _ => false,
        }
    }

    fn shut(&mut self, hold: &HoldRow) {
        self.value = match &self.value {
            Value::Bool(_) => Value::Bool(false),
            Value::Number(_) => Value::from(0),
            _ => Value::Null,
        };
        self.reason = Reason::Disabled;
        self.source = Some(Source::Hold {
            hold_id: hold.hold_id,
            kind: hold.kind,
        });
    }
}

/// All that a tenant has.
#[derive(Debug, Clone, PartialEq)]
pub struct Granted {
    /// The features that something names.
    pub features: BTreeMap<String, Entitlement>,
    /// The instant from which on the same facts may come to something else, in the tenant's time.
    pub valid_until: Option<DateTime<Utc>>,
}

/// What a tenant has at an instant of its time.
#[must_use]
pub fn granted(
    facts: &Facts,
    offers: &HashMap<OfferKey, Arc<Offer>>,
    now: DateTime<Utc>,
) -> Granted {
    let mut live: Vec<&SubscriptionFact> = facts
        .subscriptions
        .iter()
        .filter(|one| holds_at(one.started_at, one.ends_at, now))
        .collect();
    live.sort_by_key(|one| (one.started_at, one.subscription_id));
    let mut features = BTreeMap::new();
    let mut shut: BTreeMap<String, Entitlement> = BTreeMap::new();
    for subscription in live {
        let brought = brought(subscription, offers, now);
        match shutting(facts, Some(subscription.subscription_id), now) {
            None => brought
                .into_iter()
                .for_each(|(feature, one)| merge(&mut features, feature, one)),
            Some(hold) => {
                for (feature, mut one) in brought {
                    one.shut(hold);
                    shut.entry(feature).or_insert(one);
                }
            }
        }
    }
    for (feature, one) in shut {
        features.entry(feature).or_insert(one);
    }
    let all_shut = shutting(facts, None, now);
    for one in &facts.overrides {
        if one.expires_at.is_some_and(|expires| expires <= now) {
            continue;
        }
        let mut entitlement = Entitlement {
            value: one.value.clone(),
            reason: Reason::Static,
            source: Some(Source::Override {
                author: one.author.clone(),
                expires_at: one.expires_at,
            }),
        };
        if let Some(hold) = all_shut {
            entitlement.shut(hold);
        }
        features.insert(one.feature.clone(), entitlement);
    }
    Granted {
        features,
        valid_until: next_change(facts, now),
    }
}

/// Half-open, as all intervals of the business are.
fn holds_at(from: DateTime<Utc>, to: Option<DateTime<Utc>>, now: DateTime<Utc>) -> bool {
    from <= now && to.is_none_or(|to| now < to)
}

/// The hold that has shut a subscription, or the tenant as a whole, longest.
fn shutting(facts: &Facts, subscription: Option<Uuid>, now: DateTime<Utc>) -> Option<&HoldRow> {
    let access = hold::rules::standing(&facts.holds, subscription, now).access?;
    facts.holds.iter().find(|hold| hold.hold_id == access)
}

/// What one subscription brings.
fn brought(
    subscription: &SubscriptionFact,
    offers: &HashMap<OfferKey, Arc<Offer>>,
    now: DateTime<Utc>,
) -> BTreeMap<String, Entitlement> {
    let offer = |kind, key: &String, version| {
        let key = key.clone();
        offers.get(&OfferKey { kind, key, version })
    };
    let mut features = BTreeMap::new();
    let source = |add_ons: Vec<(String, u32)>| Source::Subscription {
        subscription_id: subscription.subscription_id,
        plan: subscription.plan.clone(),
        version: subscription.version,
        add_ons,
    };
    let bought = |value| Entitlement {
        value,
        reason: Reason::TargetingMatch,
        source: Some(source(Vec::new())),
    };
    if let Some(plan) = offer("plan", &subscription.plan, subscription.version) {
        for (feature, value) in &plan.features {
            features.insert(feature.clone(), bought(value.clone()));
        }
        if let Some(included) = plan.included_seats {
            let seats = subscription.seats.unwrap_or(included);
            features.insert(SEATS.to_owned(), bought(Value::from(seats)));
        }
    }
    let counts = |one: &&AddOnFact| one.quantity > 0 && holds_at(one.valid_from, one.valid_to, now);
    for add_on in subscription.add_ons.iter().filter(counts) {
        let Some(offer) = offer("add_on", &add_on.add_on, add_on.version) else {
            continue;
        };
        for (feature, value) in &offer.features {
            let one = features
                .entry(feature.clone())
                .or_insert_with(|| bought(Value::Null));
            one.value = with_add_on(&one.value, value, add_on.quantity);
            if let Some(Source::Subscription { add_ons, .. }) = &mut one.source {
                add_ons.push((add_on.add_on.clone(), add_on.quantity));
            }
        }
    }
    features
}

/// A value with so many of an add-on: numbers are added, anything else replaces.
fn with_add_on(before: &Value, each: &Value, quantity: u32) -> Value {
    match each.as_u64() {
        Some(each) => {
            let more = each.saturating_mul(u64::from(quantity));
            Value::from(before.as_u64().unwrap_or(0).saturating_add(more))
        }
        None => each.clone(),
    }
}

/// Lets one more subscription's value meet what earlier ones brought.
fn merge(features: &mut BTreeMap<String, Entitlement>, feature: String, one: Entitlement) {
    let stays = features
        .get(&feature)
        .is_some_and(|before| match (&before.value, &one.value) {
            (Value::Number(before), Value::Number(one)) => before.as_u64() >= one.as_u64(),
            (Value::Bool(before), Value::Bool(_)) => *before,
            _ => false,
        });
    if !stays {
        features.insert(feature, one);
    }
}

/// The first instant after now at which something begins, ends or expires. The end of a trial is one
/// of them: the subscription's run decides then what becomes of it.
fn next_change(facts: &Facts, now: DateTime<Utc>) -> Option<DateTime<Utc>> {
    let of_subscriptions = facts.subscriptions.iter().flat_map(|one| {
        let add_ons = (one.add_ons.iter()).flat_map(|one| [Some(one.valid_from), one.valid_to]);
        [Some(one.started_at), one.trial_ends_at, one.ends_at]
            .into_iter()
            .chain(add_ons)
    });
    let of_holds = (facts.holds.iter()).flat_map(|one| [Some(one.starts_at), one.ends_at]);
    let of_overrides = facts.overrides.iter().map(|one| one.expires_at);
    of_subscriptions
        .chain(of_holds)
        .chain(of_overrides)
        .flatten()
        .filter(|at| *at > now)
        .min()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::entitlement::OverrideFact;
    use crate::hold::Blocks;
    use chrono::TimeDelta;
    use serde_json::json;
    use tenure_engine::{ShardId, TenantId};

    fn day(day: u32) -> DateTime<Utc> {
        format!("2027-03-{day:02}T00:00:00Z").parse().unwrap()
    }

    fn offers() -> HashMap<OfferKey, Arc<Offer>> {
        let offer = |kind, key: &str, version, features: Value, included_seats| {
            let features = serde_json::from_value(features).unwrap();
            let key = OfferKey {
                kind,
                key: key.to_owned(),
                version,
            };
            (
                key,
                Arc::new(Offer {
                    features,
                    included_seats,
                }),
            )
        };
        HashMap::from([
            offer(
                "plan",
                "small",
                1,
                json!({"projects": 10, "sso": false, "support": "mail"}),
                None,
            ),
            offer("plan", "small", 2, json!({"projects": 5}), None),
            offer(
                "plan",
                "team",
                1,
                json!({"projects": 100, "storage": 50, "sso": true, "support": "chat", "seats": 1}),
                Some(5),
            ),
            offer("add_on", "storage", 1, json!({"storage": 100}), None),
            offer(
                "add_on",
                "care",
                1,
                json!({"support": "phone", "sso": true}),
                None,
            ),
        ])
    }

    fn has(id: u128, plan: &str) -> SubscriptionFact {
        SubscriptionFact {
            subscription_id: Uuid::from_u128(id),
            plan: plan.to_owned(),
            version: 1,
            started_at: day(u32::try_from(id).unwrap()),
            trial_ends_at: None,
            ends_at: None,
            seats: None,
            add_ons: Vec::new(),
        }
    }

    fn add_on(key: &str, quantity: u32) -> AddOnFact {
        AddOnFact {
            add_on: key.to_owned(),
            version: 1,
            quantity,
            valid_from: day(1),
            valid_to: None,
        }
    }

    fn hold(id: u128, on: Option<u128>, from: u32, to: Option<u32>) -> HoldRow {
        HoldRow {
            hold_id: Uuid::from_u128(id),
            tenant_id: TenantId::new(ShardId::any()),
            subscription_id: on.map(Uuid::from_u128),
            kind: Kind::Fraud,
            source: None,
            starts_at: day(from),
            ends_at: to.map(day),
            blocks: Blocks::new(false, true, false),
            reason: "a reason".to_owned(),
            author: "ada".to_owned(),
            placed_at: day(from),
            lifted: None,
        }
    }

    fn over(feature: &str, value: Value, expires: Option<u32>) -> OverrideFact {
        OverrideFact {
            feature: feature.to_owned(),
            value,
            author: "ada".to_owned(),
            expires_at: expires.map(day),
        }
    }

    fn facts(
        subscriptions: Vec<SubscriptionFact>,
        holds: Vec<HoldRow>,
        overrides: Vec<OverrideFact>,
    ) -> Facts {
        Facts {
            subscriptions,
            holds,
            overrides,
        }
    }

    /// Feature, value and reason, and a word on the source.
    fn told(facts: &Facts) -> Vec<String> {
        let granted = granted(facts, &offers(), day(10));
        let line = |(feature, one): (&String, &Entitlement)| {
            let source = match &one.source {
                Some(Source::Subscription {
                    plan,
                    version,
                    add_ons,
                    ..
                }) => {
                    let add_ons: Vec<String> = add_ons
                        .iter()
                        .map(|(key, n)| format!("+{n}{key}"))
                        .collect();
                    format!("{plan}.{version}{}", add_ons.concat())
                }
                Some(Source::Override { author, .. }) => format!("override {author}"),
                Some(Source::Hold { hold_id, .. }) => format!("hold {}", hold_id.as_u128()),
                None => "nothing".to_owned(),
            };
            format!("{feature}={} {} {source}", one.value, one.reason.word())
        };
        granted.features.iter().map(line).collect()
    }

    #[test]
    fn what_is_bought_counts_with_its_add_ons() {
        assert_eq!(told(&Facts::default()), [""; 0]);
        let small = facts(vec![has(1, "small")], vec![], vec![]);
        assert_eq!(
            told(&small),
            [
                "projects=10 TARGETING_MATCH small.1",
                "sso=false TARGETING_MATCH small.1",
                "support=\"mail\" TARGETING_MATCH small.1",
            ]
        );
        let mut one = has(1, "small");
        one.add_ons = vec![add_on("care", 1), add_on("storage", 3), add_on("care", 0)];
        assert_eq!(
            told(&facts(vec![one], vec![], vec![])),
            [
                "projects=10 TARGETING_MATCH small.1",
                "sso=true TARGETING_MATCH small.1+1care",
                "storage=300 TARGETING_MATCH small.1+3storage",
                "support=\"phone\" TARGETING_MATCH small.1+1care",
            ]
        );
        let mut team = has(1, "team");
        team.seats = Some(8);
        team.add_ons = vec![add_on("storage", 2)];
        let team = told(&facts(vec![team], vec![], vec![]));
        assert_eq!(team[1], "seats=8 TARGETING_MATCH team.1");
        assert_eq!(team[3], "storage=250 TARGETING_MATCH team.1+2storage");
        let included = told(&facts(vec![has(1, "team")], vec![], vec![]));
        assert_eq!(included[1], "seats=5 TARGETING_MATCH team.1");
    }

    #[test]
    fn the_version_that_was_sold_counts() {
        let mut second = has(1, "small");
        second.version = 2;
        assert_eq!(
            told(&facts(vec![second], vec![], vec![])),
            ["projects=5 TARGETING_MATCH small.2"]
        );
    }

    #[test]
    fn of_several_the_greatest_number_any_true_and_the_latest_text_count() {
        let both = |first: &str, second: &str| {
            told(&facts(vec![has(2, second), has(1, first)], vec![], vec![]))
        };
        let expected = [
            "projects=100 TARGETING_MATCH team.1",
            "seats=5 TARGETING_MATCH team.1",
            "sso=true TARGETING_MATCH team.1",
            "storage=50 TARGETING_MATCH team.1",
        ];
        assert_eq!(both("small", "team")[..4], expected);
        assert_eq!(both("team", "small")[..4], expected);
        assert_eq!(
            both("small", "team")[4],
            "support=\"chat\" TARGETING_MATCH team.1"
        );
        assert_eq!(
            both("team", "small")[4],
            "support=\"mail\" TARGETING_MATCH small.1"
        );
    }

    #[test]
    fn a_hold_takes_what_it_is_on_and_says_so() {
        let two = || vec![has(1, "small"), has(2, "team")];
        let on_team = told(&facts(two(), vec![hold(7, Some(2), 5, None)], vec![]));
        assert_eq!(
            on_team,
            [
                "projects=10 TARGETING_MATCH small.1",
                "seats=0 DISABLED hold 7",
                "sso=false TARGETING_MATCH small.1",
                "storage=0 DISABLED hold 7",
                "support=\"mail\" TARGETING_MATCH small.1",
            ]
        );
        let overrides = vec![over("beta", json!(true), None)];
        let on_all = told(&facts(
            two(),
            vec![hold(8, None, 6, None), hold(7, Some(2), 5, None)],
            overrides,
        ));
        assert_eq!(
            on_all,
            [
                "beta=false DISABLED hold 8",
                "projects=0 DISABLED hold 8",
                "seats=0 DISABLED hold 7",
                "sso=false DISABLED hold 8",
                "storage=0 DISABLED hold 7",
                "support=null DISABLED hold 8",
            ]
        );
        let over_or_to_come = vec![hold(7, None, 1, Some(10)), hold(8, None, 11, None)];
        let none = told(&facts(two(), over_or_to_come, vec![]));
        assert_eq!(none[0], "projects=100 TARGETING_MATCH team.1");
    }

    #[test]
    fn an_override_counts_in_place_of_what_was_bought_until_it_expires() {
        let overrides = vec![
            over("projects", json!(3), Some(11)),
            over("sso", json!(true), Some(10)),
            over("beta", json!(true), None),
        ];
        assert_eq!(
            told(&facts(vec![has(1, "small")], vec![], overrides)),
            [
                "beta=true STATIC override ada",
                "projects=3 STATIC override ada",
                "sso=false TARGETING_MATCH small.1",
                "support=\"mail\" TARGETING_MATCH small.1",
            ]
        );
    }

    #[test]
    fn what_has_not_begun_or_has_ended_brings_nothing() {
        let mut ended = has(1, "team");
        ended.ends_at = Some(day(10));
        let mut ending = has(2, "small");
        ending.ends_at = Some(day(11));
        let to_come = has(11, "team");
        assert_eq!(
            told(&facts(vec![ended, ending, to_come], vec![], vec![]))[0],
            "projects=10 TARGETING_MATCH small.1"
        );
    }

    #[test]
    fn an_answer_holds_until_the_time_it_names() {
        let mut first = has(2, "small");
        first.trial_ends_at = Some(day(4));
        first.add_ons = vec![AddOnFact {
            valid_from: day(6),
            valid_to: Some(day(9)),
            ..add_on("storage", 1)
        }];
        let mut second = has(12, "team");
        second.ends_at = Some(day(20));
        let facts = facts(
            vec![first, second],
            vec![hold(7, None, 14, Some(16)), hold(8, Some(12), 17, None)],
            vec![
                over("projects", json!(3), Some(8)),
                over("beta", json!(true), Some(15)),
            ],
        );
        let hours = || (0..31 * 24).map(|hour| day(1) + TimeDelta::hours(hour));
        let mut changes = 0;
        for now in hours() {
            let at_now = granted(&facts, &offers(), now);
            for later in hours().filter(|later| *later > now) {
                if at_now.valid_until.is_none_or(|until| later < until) {
                    assert_eq!(
                        granted(&facts, &offers(), later),
                        at_now,
                        "{now} to {later}"
                    );
                } else {
                    break;
                }
            }
            changes += u32::from(at_now.valid_until == Some(now + TimeDelta::hours(1)));
        }
        assert_eq!(changes, 11, "each instant was told the hour before");
        assert_eq!(granted(&facts, &offers(), day(20)).valid_until, None);
    }
}

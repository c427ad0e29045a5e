//! What holds come to. Pure.

use chrono::{DateTime, Utc};
use uuid::Uuid;

use super::HoldRow;

/// Whether a subscription, or what is the tenant's as a whole, can be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Service {
    /// As bought.
    On,
    /// What is there can be used; nothing can be added or changed.
    ReadOnly,
    /// Shut.
    Off,
}

impl Service {
    /// The word that the API shows.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::On => "on",
            Self::ReadOnly => "read_only",
            Self::Off => "off",
        }
    }
}

/// What is blocked, each with the hold that has blocked it longest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Standing {
    /// Plan, quantity and new subscriptions are refused.
    pub changes: Option<Uuid>,
    /// The product is shut.
    pub access: Option<Uuid>,
    /// Nothing is invoiced.
    pub billing: Option<Uuid>,
}

impl Standing {
    /// Whether it can be used.
    #[must_use]
    pub const fn service(&self) -> Service {
        match (self.access, self.changes) {
            (Some(_), _) => Service::Off,
            (None, Some(_)) => Service::ReadOnly,
            (None, None) => Service::On,
        }
    }
}

/// Whether a hold counts at an instant: half-open, and not lifted by then.
#[must_use]
pub fn counts(hold: &HoldRow, at: DateTime<Utc>) -> bool {
    let ends = hold.ends_at.is_none_or(|ends| at < ends);
    let lifted = hold.lifted.as_ref().is_some_and(|lifted| lifted.at <= at);
    hold.starts_at <= at && ends && !lifted
}

/// Whether a hold is on a subscription: its own, or all of the tenant's. With `None`, whether it is
/// on all of the tenant's.
#[must_use]
pub fn is_on(hold: &HoldRow, subscription: Option<Uuid>) -> bool {
    hold.subscription_id.is_none() || hold.subscription_id == subscription
}

/// What is blocked at an instant, of one subscription or of the tenant as a whole.
#[must_use]
pub fn standing(holds: &[HoldRow], subscription: Option<Uuid>, at: DateTime<Utc>) -> Standing {
    let counted = |hold: &&HoldRow| is_on(hold, subscription) && counts(hold, at);
    let first = |blocks: fn(&HoldRow) -> bool| {
        holds
            .iter()
            .filter(counted)
            .filter(|hold| blocks(hold))
            .min_by_key(|hold| (hold.starts_at, hold.hold_id))
            .map(|hold| hold.hold_id)
    };
    Standing {
        changes: first(|hold| hold.blocks.changes),
        access: first(|hold| hold.blocks.access),
        billing: first(|hold| hold.blocks.billing),
    }
}

/// Whether a subscription, or what is the tenant's as a whole, can be used at an instant.
#[must_use]
pub fn service(holds: &[HoldRow], subscription: Option<Uuid>, at: DateTime<Utc>) -> Service {
    standing(holds, subscription, at).service()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hold::{Blocks, Kind, Lifted};
    use tenure_engine::{ShardId, TenantId};

    fn day(day: u32) -> DateTime<Utc> {
        format!("2027-03-{day:02}T00:00:00Z").parse().unwrap()
    }

    fn hold(id: u128, on: Option<u128>, blocks: Blocks, from: u32, to: Option<u32>) -> HoldRow {
        HoldRow {
            hold_id: Uuid::from_u128(id),
            tenant_id: TenantId::new(ShardId::any()),
            subscription_id: on.map(Uuid::from_u128),
            kind: Kind::Fraud,
            source: None,
            starts_at: day(from),
            ends_at: to.map(day),
            blocks,
            reason: "a reason".to_owned(),
            author: "ada".to_owned(),
            placed_at: day(from),
            lifted: None,
        }
    }

    const CHANGES: Blocks = Blocks::new(true, false, false);
    const ACCESS: Blocks = Blocks::new(false, true, false);
    const BILLING: Blocks = Blocks::new(false, false, true);

    #[test]
    fn the_service_is_as_bad_as_the_worst_hold_that_counts() {
        let mine = Some(Uuid::from_u128(51));
        let mut lifted = hold(1, None, ACCESS, 1, None);
        lifted.lifted = Some(Lifted {
            at: day(5),
            by: "ada".to_owned(),
            reason: "a false alarm".to_owned(),
        });
        let cases = [
            ("none", vec![], Service::On),
            (
                "changes",
                vec![hold(1, None, CHANGES, 1, None)],
                Service::ReadOnly,
            ),
            ("access", vec![hold(1, None, ACCESS, 1, None)], Service::Off),
            (
                "billing alone",
                vec![hold(1, None, BILLING, 1, None)],
                Service::On,
            ),
            (
                "both",
                vec![
                    hold(1, None, CHANGES, 1, None),
                    hold(2, Some(51), ACCESS, 1, None),
                ],
                Service::Off,
            ),
            (
                "another's",
                vec![hold(1, Some(52), ACCESS, 1, None)],
                Service::On,
            ),
            (
                "to come",
                vec![hold(1, None, ACCESS, 11, None)],
                Service::On,
            ),
            (
                "begins now",
                vec![hold(1, None, ACCESS, 10, None)],
                Service::Off,
            ),
            (
                "ends now",
                vec![hold(1, None, ACCESS, 1, Some(10))],
                Service::On,
            ),
            (
                "ends later",
                vec![hold(1, None, ACCESS, 1, Some(11))],
                Service::Off,
            ),
            ("lifted", vec![lifted.clone()], Service::On),
        ];
        for (what, holds, expected) in cases {
            assert_eq!(service(&holds, mine, day(10)), expected, "{what}");
        }
        assert_eq!(service(&[lifted], mine, day(4)), Service::Off, "back then");
    }

    #[test]
    fn each_block_names_the_hold_that_stands_longest() {
        let holds = [
            hold(1, None, Blocks::new(true, true, true), 5, None),
            hold(2, None, CHANGES, 3, None),
            hold(3, Some(51), ACCESS, 4, None),
        ];
        let ids = |standing: Standing| {
            [standing.changes, standing.access, standing.billing]
                .map(|id| id.map(|id| id.as_u128()))
        };
        let of_one = standing(&holds, Some(Uuid::from_u128(51)), day(10));
        assert_eq!(ids(of_one), [Some(2), Some(3), Some(1)]);
        let of_all = standing(&holds, None, day(10));
        assert_eq!(ids(of_all), [Some(2), Some(1), Some(1)]);
    }
}

//! Holds: why a tenant or one of its subscriptions may not change, be used or be billed.
//!
//! A hold blocks any of three things: changes, access, billing (Kill Bill's blocking states have
//! the same three). Whether the service is on is a function of the holds that stand, never a column
//! of its own: whoever lifts a hold need not know what else stands.
//!
//! A hold is the tenant's, and then all of its subscriptions are held, or one subscription's.
//! What is owed for one subscription shuts no other that is paid for (killbill/killbill#1997).
//!
//! A hold that a run placed bears the run's name as its source, and only that run lifts it; what a
//! person placed, people lift. Neither forgets the other's.

mod door;
pub mod rules;
pub(crate) mod store;

pub use door::{Filter, NewHold, lift, list, place, standing};

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use tenure_engine::TenantId;
use uuid::Uuid;

/// What a hold is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// The tenant wished a pause.
    CustomerPause,
    /// Something is owed, and the tenant has time to pay.
    DebtGrace,
    /// Something is owed, and the time is over.
    DebtSuspension,
    /// Fraud is suspected.
    Fraud,
    /// A case at law.
    Legal,
    /// The tenant is being deleted.
    TenantDeletion,
}

impl Kind {
    /// All of them.
    pub const ALL: [Self; 6] = [
        Self::CustomerPause,
        Self::DebtGrace,
        Self::DebtSuspension,
        Self::Fraud,
        Self::Legal,
        Self::TenantDeletion,
    ];

    /// The stored spelling.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::CustomerPause => "customer_pause",
            Self::DebtGrace => "debt_grace",
            Self::DebtSuspension => "debt_suspension",
            Self::Fraud => "fraud",
            Self::Legal => "legal",
            Self::TenantDeletion => "tenant_deletion",
        }
    }

    /// Reads the stored spelling.
    #[must_use]
    pub fn from_word(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.word() == word)
    }

    /// What a hold of this kind blocks unless its author says otherwise.
    ///
    /// Grace refuses changes only and suspension shuts the product, as the two overdue states of
    /// Kill Bill's tests do; billing goes on, so that what is owed is what the contract says.
    #[must_use]
    pub const fn blocks(self) -> Blocks {
        match self {
            Self::DebtGrace | Self::Legal => Blocks::new(true, false, false),
            Self::DebtSuspension => Blocks::new(true, true, false),
            Self::CustomerPause | Self::Fraud | Self::TenantDeletion => {
                Blocks::new(true, true, true)
            }
        }
    }

    /// Whether a person may place it; the others belong to runs that weigh more than one fact.
    #[must_use]
    pub const fn is_for_people(self) -> bool {
        matches!(self, Self::CustomerPause | Self::Fraud | Self::Legal)
    }
}

/// Which of the three a hold blocks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Blocks {
    /// Plan, quantity and new subscriptions are refused.
    #[serde(default)]
    pub changes: bool,
    /// The product is shut.
    #[serde(default)]
    pub access: bool,
    /// Nothing is invoiced.
    #[serde(default)]
    pub billing: bool,
}

impl Blocks {
    /// Says which.
    #[must_use]
    pub const fn new(changes: bool, access: bool, billing: bool) -> Self {
        Self {
            changes,
            access,
            billing,
        }
    }

    /// Whether it blocks anything.
    #[must_use]
    pub const fn any(self) -> bool {
        self.changes || self.access || self.billing
    }
}

/// A hold.
#[derive(Debug, Clone, PartialEq)]
pub struct HoldRow {
    /// Identity.
    pub hold_id: Uuid,
    /// The tenant.
    pub tenant_id: TenantId,
    /// The one subscription that is held; `None` holds all that is the tenant's.
    pub subscription_id: Option<Uuid>,
    /// What it is for.
    pub kind: Kind,
    /// The run that placed it and lifts it; `None` when a person did.
    pub source: Option<String>,
    /// From when it counts, inclusive, in the tenant's time.
    pub starts_at: DateTime<Utc>,
    /// Until when it counts, exclusive.
    pub ends_at: Option<DateTime<Utc>>,
    /// What it blocks.
    pub blocks: Blocks,
    /// Why, in the author's words.
    pub reason: String,
    /// Who placed it.
    pub author: String,
    /// When, in the tenant's time.
    pub placed_at: DateTime<Utc>,
    /// How it was lifted, if it was.
    pub lifted: Option<Lifted>,
}

/// How a hold was lifted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lifted {
    /// When, in the tenant's time.
    pub at: DateTime<Utc>,
    /// Who did.
    pub by: String,
    /// Why, in their words.
    pub reason: String,
}

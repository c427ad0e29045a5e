//! What versions of plans and add-ons offer. Published versions never change, so what was read once
//! is kept.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, PoisonError, RwLock};

use serde_json::Value;
use sqlx::PgConnection;

use super::{Facts, store};
use crate::catalog::Entry;
use crate::door::DoorError;

/// The most versions that are kept; a catalogue with more is read again now and then.
const MOST_KEPT: usize = 10_000;

/// A version of a plan or an add-on.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct OfferKey {
    /// `plan` or `add_on`.
    pub kind: &'static str,
    /// Its key.
    pub key: String,
    /// Counts from 1.
    pub version: i32,
}

/// What of a version's terms entitlements follow from.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Offer {
    /// The features.
    pub features: BTreeMap<String, Value>,
    /// How many seats a plan includes; `None` where it sells none.
    pub included_seats: Option<u32>,
}

/// The versions that were read.
#[derive(Debug, Default)]
pub struct Offers(RwLock<HashMap<OfferKey, Arc<Offer>>>);

impl Offers {
    /// What the versions offer that the facts name; those that were never read are read now. The
    /// connection must act as control.
    ///
    /// # Errors
    /// [`DoorError::NotFound`] for a version that was never published.
    pub async fn of(
        &self,
        conn: &mut PgConnection,
        facts: &Facts,
    ) -> Result<HashMap<OfferKey, Arc<Offer>>, DoorError> {
        let mut wanted = HashMap::new();
        for key in named(facts) {
            let offer = match self.known(&key) {
                Some(offer) => offer,
                None => self.read(conn, &key).await?,
            };
            wanted.insert(key, offer);
        }
        Ok(wanted)
    }

    fn known(&self, key: &OfferKey) -> Option<Arc<Offer>> {
        let kept = self.0.read().unwrap_or_else(PoisonError::into_inner);
        kept.get(key).cloned()
    }

    async fn read(&self, conn: &mut PgConnection, key: &OfferKey) -> Result<Arc<Offer>, DoorError> {
        let entry = store::find_version(conn, key).await?;
        let offer = Arc::new(match entry {
            Some(Entry::Plan(terms)) => Offer {
                features: terms.features,
                included_seats: terms.seats.map(|seats| seats.included),
            },
            Some(Entry::AddOn(terms)) => Offer {
                features: terms.features,
                included_seats: None,
            },
            _ => {
                let id = format!("{} of version {}", key.key, key.version);
                return Err(DoorError::not_found(key.kind, id));
            }
        });
        let mut kept = self.0.write().unwrap_or_else(PoisonError::into_inner);
        if kept.len() >= MOST_KEPT {
            kept.clear();
        }
        kept.insert(key.clone(), Arc::clone(&offer));
        Ok(offer)
    }
}

/// The versions that facts name.
fn named(facts: &Facts) -> impl Iterator<Item = OfferKey> {
    facts.subscriptions.iter().flat_map(|subscription| {
        let plan = OfferKey {
            kind: "plan",
            key: subscription.plan.clone(),
            version: subscription.version,
        };
        let add_ons = subscription.add_ons.iter().map(|one| OfferKey {
            kind: "add_on",
            key: one.add_on.clone(),
            version: one.version,
        });
        std::iter::once(plan).chain(add_ons)
    })
}

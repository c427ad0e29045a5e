//! Entitlements as they are answered, and what is kept of them between requests.
//!
//! One statement tells whether the token counts and what the answer follows from. An answer is kept
//! beside a digest of those facts: it is given again only while they are the same and the tenant's
//! time has not passed the instant at which they come to something else. So what is kept saves work
//! and decides nothing; nobody has to be told to forget, and nodes need not agree.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use axum::http::HeaderValue;
use bytes::Bytes;
use chrono::{DateTime, Utc};
use serde::Serialize;
use sha2::{Digest as _, Sha256};
use tenure_client::{
    Entitlement, EntitlementAddOn, EntitlementReason, EntitlementSource, Entitlements as Entitled,
    HoldKind,
};
use tenure_engine::TenantId;
use tenure_workflows::DoorError;
use tenure_workflows::entitlement::{self, Facts, Offers, Reason, Source, rules};
use tenure_workflows::hold::Kind;

use crate::auth::{Presented, TenantFacts};
use crate::error::ApiError;
use crate::state::AppState;

/// The most answers of a generation; there are two. An answer takes some 3 KiB.
const GENERATION: usize = 8_192;

/// What is kept of entitlements between requests.
#[derive(Default)]
pub(crate) struct Entitlements {
    offers: Offers,
    answers: Mutex<Answers>,
}

/// A tenant's answer.
pub(crate) struct Answer {
    facts: [u8; 32],
    from: DateTime<Utc>,
    /// What it has.
    pub(crate) entitled: Entitled,
    /// The same as JSON.
    pub(crate) body: Tagged,
}

/// A body, and the entity tag that stands for it.
#[derive(Clone)]
pub(crate) struct Tagged {
    pub(crate) body: Bytes,
    pub(crate) etag: HeaderValue,
}

impl Tagged {
    /// An answer as JSON.
    pub(crate) fn json(answer: &impl Serialize) -> Result<Self, ApiError> {
        let body = serde_json::to_vec(answer).map_err(|_| ApiError::Internal)?;
        let digest = hex::encode(&Sha256::digest(&body)[..16]);
        let etag = HeaderValue::try_from(format!("\"{digest}\""));
        Ok(Self {
            body: body.into(),
            etag: etag.map_err(|_| ApiError::Internal)?,
        })
    }
}

impl Answer {
    fn holds(&self, facts: &[u8; 32], now: DateTime<Utc>) -> bool {
        let until = self.entitled.valid_until;
        self.facts == *facts && self.from <= now && until.is_none_or(|until| now < until)
    }
}

/// The answers of the tenants that were asked about last: when the young generation is full it
/// becomes the old one, and what was not asked for since then goes.
#[derive(Default)]
struct Answers {
    young: HashMap<TenantId, Arc<Answer>>,
    old: HashMap<TenantId, Arc<Answer>>,
}

impl Answers {
    fn find(&mut self, tenant: TenantId) -> Option<Arc<Answer>> {
        if let Some(answer) = self.young.get(&tenant) {
            return Some(Arc::clone(answer));
        }
        let answer = self.old.remove(&tenant)?;
        self.keep(tenant, Arc::clone(&answer));
        Some(answer)
    }

    fn keep(&mut self, tenant: TenantId, answer: Arc<Answer>) {
        if self.young.len() >= GENERATION {
            self.old = std::mem::take(&mut self.young);
        }
        self.young.insert(tenant, answer);
    }
}

/// What a tenant has now, for whoever holds a token.
pub(crate) async fn answer(
    state: &AppState,
    token: &Presented,
    tenant: TenantId,
) -> Result<Arc<Answer>, ApiError> {
    let mut reader = state.reader().await?;
    let found = token.find_facts(&mut reader, tenant).await?;
    let Some(TenantFacts { now, facts }) = found else {
        return Err(ApiError::NotFound(format!("no tenant {tenant} exists")));
    };
    let kept = state.entitlements();
    let digest = Sha256::digest(facts.as_bytes()).into();
    let known = kept.lock().find(tenant);
    if let Some(known) = known.filter(|known| known.holds(&digest, now)) {
        return Ok(known);
    }
    let facts = Facts::parse(&facts).map_err(|error| sqlx::Error::Decode(error.into()))?;
    let offers = kept.offers.of(&mut reader, &facts).await;
    // A version that is named and was never published is a fault of ours, not of the caller's.
    let offers = offers.map_err(|error| match error {
        DoorError::NotFound { what, id } => {
            tracing::error!(what, id, "a subscription names what was never published");
            ApiError::Internal
        }
        error => ApiError::Door(error),
    })?;
    let granted = rules::granted(&facts, &offers, now);
    let features = granted.features.into_iter();
    let entitled = Entitled {
        tenant_id: tenant.0,
        valid_until: granted.valid_until,
        features: features
            .map(|(feature, one)| (feature, to_json(one)))
            .collect(),
    };
    let answer = Arc::new(Answer {
        facts: digest,
        from: now,
        body: Tagged::json(&entitled)?,
        entitled,
    });
    kept.lock().keep(tenant, Arc::clone(&answer));
    Ok(answer)
}

impl Entitlements {
    fn lock(&self) -> std::sync::MutexGuard<'_, Answers> {
        self.answers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A feature's answer as the API tells it.
pub(crate) fn to_json(one: entitlement::Entitlement) -> Entitlement {
    Entitlement {
        enabled: one.enabled(),
        reason: match one.reason {
            Reason::TargetingMatch => EntitlementReason::TargetingMatch,
            Reason::Static => EntitlementReason::Static,
            Reason::Disabled => EntitlementReason::Disabled,
            Reason::Default => EntitlementReason::Default,
        },
        value: one.value,
        source: one.source.map(source),
    }
}

fn source(source: Source) -> EntitlementSource {
    match source {
        Source::Subscription {
            subscription_id,
            plan,
            version,
            add_ons,
        } if add_ons.is_empty() => EntitlementSource::Plan {
            subscription_id,
            plan,
            version,
        },
        Source::Subscription {
            subscription_id,
            plan,
            version,
            add_ons,
        } => EntitlementSource::AddOn {
            subscription_id,
            plan,
            version,
            add_ons: add_ons
                .into_iter()
                .map(|(add_on, quantity)| EntitlementAddOn { add_on, quantity })
                .collect(),
        },
        Source::Override { author, expires_at } => {
            EntitlementSource::Override { author, expires_at }
        }
        Source::Hold { hold_id, kind } => EntitlementSource::Hold {
            hold_id,
            hold: match kind {
                Kind::CustomerPause => HoldKind::CustomerPause,
                Kind::DebtGrace => HoldKind::DebtGrace,
                Kind::DebtSuspension => HoldKind::DebtSuspension,
                Kind::Fraud => HoldKind::Fraud,
                Kind::Legal => HoldKind::Legal,
                Kind::TenantDeletion => HoldKind::TenantDeletion,
            },
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tenure_engine::ShardId;

    fn at(second: i64) -> DateTime<Utc> {
        DateTime::from_timestamp(second, 0).unwrap()
    }

    fn kept(until: Option<i64>) -> Arc<Answer> {
        let entitled = Entitled {
            tenant_id: uuid::Uuid::nil(),
            valid_until: until.map(at),
            features: std::collections::BTreeMap::new(),
        };
        Arc::new(Answer {
            facts: [7; 32],
            from: at(10),
            body: Tagged::json(&entitled).unwrap(),
            entitled,
        })
    }

    #[test]
    fn an_answer_is_given_again_for_the_same_facts_and_in_its_time_only() {
        let bounded = kept(Some(20));
        let cases = [
            ([7; 32], 10, true),
            ([7; 32], 19, true),
            ([7; 32], 20, false),
            ([7; 32], 9, false),
            ([8; 32], 10, false),
        ];
        for (facts, now, holds) in cases {
            assert_eq!(bounded.holds(&facts, at(now)), holds, "at {now}");
        }
        assert!(kept(None).holds(&[7; 32], at(1_000_000)));
    }

    #[test]
    fn what_is_kept_is_bounded_and_what_is_asked_for_stays() {
        let mut answers = Answers::default();
        let popular = TenantId::new(ShardId::any());
        answers.keep(popular, kept(None));
        for _ in 0..5 * GENERATION {
            answers.keep(TenantId::new(ShardId::any()), kept(None));
            assert!(answers.find(popular).is_some());
            assert!(answers.young.len() <= GENERATION && answers.old.len() <= GENERATION);
        }
        let forgotten = TenantId::new(ShardId::any());
        answers.keep(forgotten, kept(None));
        for _ in 0..2 * GENERATION {
            answers.keep(TenantId::new(ShardId::any()), kept(None));
        }
        assert!(answers.find(forgotten).is_none());
    }
}

//! Bearer tokens: who asks, in which role, for which tenant.
//!
//! A token is `tenure_sk_` with 30 random letters and digits and a checksum of six, so that a
//! mistyped one is told without a look-up and a leaked one is found by scanners. Only its SHA-256
//! is kept: 178 random bits need no slow hash.

mod store;

use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use axum::http::{HeaderMap, header};
use chrono::{DateTime, TimeDelta, Utc};
use sha2::{Digest as _, Sha256};
use sqlx::PgConnection;
use tenure_client::Role;
use tenure_engine::TenantId;
use tenure_engine::operator::Act;
use uuid::Uuid;

use crate::error::ApiError;
use crate::state::AppState;

pub(crate) use store::TenantFacts;
pub use store::{TokenRow, list, revoke};

const PREFIX: &str = "tenure_sk_";
const RANDOM: usize = 30;
const CHECK: usize = 6;
const ALPHABET: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";

/// Who asks.
#[derive(Debug, Clone)]
pub struct Caller {
    pub(crate) token_id: Uuid,
    /// The token's name: the actor of its acts.
    pub name: String,
    /// What it may do.
    pub role: Role,
    /// The one tenant that it sees; `None` sees all.
    pub tenant: Option<TenantId>,
}

impl Caller {
    /// Lets through a role that reaches.
    pub(crate) fn require(&self, needed: Role) -> Result<(), ApiError> {
        if self.role >= needed {
            return Ok(());
        }
        Err(ApiError::Forbidden {
            needed: needed.as_str(),
            has: self.role.as_str(),
        })
    }

    /// An act in the caller's name.
    pub(crate) fn act(&self, reason: String, revision: i64) -> Act {
        Act {
            actor: self.name.clone(),
            role: self.role.as_str().to_owned(),
            reason,
            revision,
        }
    }

    /// Lets through a tenant that the token sees; another's is not told from one that is not.
    pub(crate) fn sees(&self, tenant: TenantId) -> Result<(), ApiError> {
        match self.tenant {
            Some(own) if own != tenant => {
                Err(ApiError::NotFound(format!("no tenant {tenant} exists")))
            }
            _ => Ok(()),
        }
    }

    /// Lets through a token that sees all tenants.
    pub(crate) fn sees_all(&self) -> Result<(), ApiError> {
        match self.tenant {
            Some(_) => Err(ApiError::NotFound("this is for all tenants".to_owned())),
            None => Ok(()),
        }
    }
}

impl FromRequestParts<AppState> for Caller {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &AppState) -> Result<Self, ApiError> {
        let presented = Presented::read(&parts.headers)?;
        let mut reader = state.reader().await?;
        let found = store::find_by_digest(&mut reader, &presented.digest).await?;
        let (row, now) = found.ok_or(UNKNOWN)?;
        Self::of(row, now)
    }
}

impl Caller {
    /// The caller that a token stands for, if it still counts.
    fn of(row: TokenRow, now: DateTime<Utc>) -> Result<Self, ApiError> {
        if row.revoked_at.is_some() {
            return Err(ApiError::Unauthorized("the token was revoked"));
        }
        if row.expires_at <= now {
            return Err(ApiError::Unauthorized(
                "the token has expired; create a new one",
            ));
        }
        Ok(Self {
            token_id: row.token_id,
            name: row.name,
            role: row.role,
            tenant: row.tenant_id,
        })
    }
}

const UNKNOWN: ApiError = ApiError::Unauthorized("the token is not known");

/// A token that was sent and is well formed; whether it counts is not known yet.
pub(crate) struct Presented {
    digest: [u8; 32],
}

impl Presented {
    fn read(headers: &HeaderMap) -> Result<Self, ApiError> {
        let token = headers
            .get(header::AUTHORIZATION)
            .and_then(|value| value.to_str().ok())
            .and_then(|value| value.strip_prefix("Bearer "))
            .ok_or(ApiError::Unauthorized(
                "send a token: Authorization: Bearer tenure_sk_...",
            ))?;
        if !is_well_formed(token) {
            return Err(ApiError::Unauthorized(
                "this is no token: check that it is whole",
            ));
        }
        Ok(Self {
            digest: digest(token),
        })
    }

    /// Asks whether the token counts, and for what a tenant's entitlements follow from, in one
    /// statement: a hot path has one round trip to the database, and a token that was revoked is
    /// refused at once. `None` for a tenant that is not there, or not the token's to see.
    pub(crate) async fn find_facts(
        &self,
        conn: &mut PgConnection,
        tenant: TenantId,
    ) -> Result<Option<TenantFacts>, ApiError> {
        let found = store::find_with_facts(conn, &self.digest, tenant).await?;
        let (row, now, facts) = found.ok_or(UNKNOWN)?;
        let caller = Caller::of(row, now)?;
        caller.sees(tenant)?;
        Ok(facts)
    }
}

impl<S: Send + Sync> FromRequestParts<S> for Presented {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Self, ApiError> {
        Self::read(&parts.headers)
    }
}

/// A token to make.
#[derive(Debug, Clone)]
pub struct NewToken {
    /// Who or what holds it.
    pub name: String,
    /// What it may do.
    pub role: Role,
    /// The one tenant that it sees; `None` sees all.
    pub tenant: Option<TenantId>,
    /// For how many days.
    pub days: u32,
}

/// Makes a token; it is shown this once. The transaction must act as control.
///
/// # Errors
/// When the database does not answer, or the name does not fit.
pub async fn create(conn: &mut PgConnection, new: &NewToken) -> Result<String, ApiError> {
    if new.name.trim().is_empty() || new.name.chars().count() > 100 {
        return Err(ApiError::Invalid {
            pointer: "/name".to_owned(),
            detail: "a name has 1 to 100 characters".to_owned(),
        });
    }
    let token = generate();
    let lifetime = TimeDelta::days(i64::from(new.days.clamp(1, 3650)));
    store::insert(
        conn,
        tenure_engine::random_uuid(),
        new,
        &digest(&token),
        lifetime,
    )
    .await?;
    Ok(token)
}

/// Makes a token like another, which counts beside it for so many hours more and no longer; `None`
/// when there is none that counts. The transaction must act as control.
///
/// # Errors
/// When the database does not answer.
pub async fn rotate(
    conn: &mut PgConnection,
    token_id: Uuid,
    days: u32,
    overlap_hours: u32,
) -> Result<Option<String>, ApiError> {
    let Some(old) = store::retire(conn, token_id, TimeDelta::hours(overlap_hours.into())).await?
    else {
        return Ok(None);
    };
    let new = NewToken {
        name: old.name,
        role: old.role,
        tenant: old.tenant_id,
        days,
    };
    create(conn, &new).await.map(Some)
}

/// Makes a well-known token valid, for a private installation that keeps it in a file.
///
/// # Errors
/// When the database does not answer.
pub async fn ensure(conn: &mut PgConnection, new: &NewToken, token: &str) -> Result<(), ApiError> {
    if store::find_by_digest(conn, &digest(token)).await?.is_none() {
        let lifetime = TimeDelta::days(i64::from(new.days));
        store::insert(
            conn,
            tenure_engine::random_uuid(),
            new,
            &digest(token),
            lifetime,
        )
        .await?;
    }
    Ok(())
}

/// Makes a token's text.
#[must_use]
pub fn generate() -> String {
    let mut random = String::with_capacity(RANDOM);
    while random.len() < RANDOM {
        // 256 is no multiple of 62: higher bytes would favour the first letters.
        let bytes = *tenure_engine::random_uuid().as_bytes();
        for (at, byte) in bytes.into_iter().enumerate() {
            // Two bytes of a UUID hold its version and variant.
            if at != 6 && at != 8 && byte < 248 && random.len() < RANDOM {
                random.push(char::from(ALPHABET[usize::from(byte) % 62]));
            }
        }
    }
    format!("{PREFIX}{random}{}", checksum(&random))
}

fn is_well_formed(token: &str) -> bool {
    let Some(body) = token.strip_prefix(PREFIX) else {
        return false;
    };
    body.len() == RANDOM + CHECK && body.is_ascii() && checksum(&body[..RANDOM]) == body[RANDOM..]
}

/// Six letters that a mistyped token does not have.
fn checksum(random: &str) -> String {
    let hash = Sha256::digest(random.as_bytes());
    hash[..CHECK]
        .iter()
        .map(|byte| char::from(ALPHABET[usize::from(*byte) % 62]))
        .collect()
}

fn digest(token: &str) -> [u8; 32] {
    Sha256::digest(token.as_bytes()).into()
}

/// When a token of `row` stops counting.
pub(crate) fn ends_at(row: &TokenRow) -> DateTime<Utc> {
    row.revoked_at.unwrap_or(row.expires_at)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_well_formed_and_a_mistyped_one_is_not() {
        let token = generate();
        assert!(is_well_formed(&token), "{token}");
        assert_ne!(token, generate());
        let mut typo = token.clone().into_bytes();
        typo[15] = if typo[15] == b'a' { b'b' } else { b'a' };
        assert!(!is_well_formed(std::str::from_utf8(&typo).unwrap()));
        assert!(!is_well_formed("tenure_sk_"));
        assert!(!is_well_formed(&token[..token.len() - 1]));
    }
}

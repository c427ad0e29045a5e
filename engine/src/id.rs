//! Identity: newtypes that cannot be swapped by mistake, and the one place that makes new ids.
//!
//! Every id of a tenant's row is a `UUIDv7` (RFC 9562 §5.7) whose ten high bits of `rand_a` hold
//! the shard, so that any id finds its shard without a look-up.
//! What an id *means* is not here; see `run.rs`.

use std::fmt;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::clock;

/// How many shards there are, for ever (see `docs/architecture.md`, *Beyond one machine*).
pub const SHARDS: i16 = 1024;

macro_rules! uuid_newtype {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(
            Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize,
            sqlx::Type,
        )]
        #[sqlx(transparent)]
        #[serde(transparent)]
        pub struct $name(pub Uuid);

        impl $name {
            /// Makes a new id that carries `shard`.
            #[must_use]
            pub fn new(shard: ShardId) -> Self {
                Self(new_uuid(shard))
            }

            /// Reads the shard that the id carries.
            #[must_use]
            pub fn shard(self) -> ShardId {
                shard_of(self.0)
            }

            /// Reads the real time, to the millisecond, at which the id was made.
            #[must_use]
            pub fn made_at(self) -> DateTime<Utc> {
                made_at(self.0)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }

        impl std::str::FromStr for $name {
            type Err = uuid::Error;

            fn from_str(text: &str) -> Result<Self, Self::Err> {
                Uuid::parse_str(text).map(Self)
            }
        }
    };
}

uuid_newtype!(
    /// Names one durable execution of a workflow.
    RunId
);
uuid_newtype!(
    /// Names the paying organisation whose data is kept apart.
    TenantId
);
uuid_newtype!(
    /// Names a test clock that only `advance` moves.
    ClockId
);
uuid_newtype!(
    /// Names a schedule.
    ScheduleId
);

uuid_newtype!(
    /// Names one verb to many runs.
    BulkId
);

/// Names one worker process's lease; a worker that lost its lease comes back under a new one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, sqlx::Type)]
#[sqlx(transparent)]
pub struct WorkerId(pub Uuid);

/// The tenant that owns fleet-wide runs; it lives on shard 0 and is never bound to a test clock.
pub const SYSTEM_TENANT: TenantId =
    TenantId(Uuid::from_u128(0x0000_0000_0000_7000_8000_0000_0000_0001));

/// One of the 1,024 fixed shards, 0 to 1023.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, sqlx::Type,
)]
#[sqlx(transparent)]
#[serde(transparent)]
pub struct ShardId(pub i16);

/// The number that each claim raises; the fence on every write.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, sqlx::Type,
)]
#[sqlx(transparent)]
#[serde(transparent)]
pub struct Epoch(pub i64);

impl ShardId {
    /// Picks a shard at random, for a tenant that is placed nowhere in particular.
    #[must_use]
    pub fn any() -> Self {
        shard_of(random_uuid())
    }
}

impl WorkerId {
    /// Makes a new lease name.
    #[must_use]
    pub fn new() -> Self {
        Self(random_uuid())
    }
}

impl Default for WorkerId {
    fn default() -> Self {
        Self::new()
    }
}

/// Makes a random id that belongs to no shard, such as a request id.
#[must_use]
#[expect(
    clippy::disallowed_methods,
    reason = "the one place that makes new ids"
)]
pub fn random_uuid() -> Uuid {
    Uuid::new_v4()
}

/// Makes a `UUIDv7` that carries `shard`.
#[must_use]
pub fn new_uuid(shard: ShardId) -> Uuid {
    let mut bytes = *random_uuid().as_bytes();
    bytes[..6].copy_from_slice(&clock::unix_millis().to_be_bytes()[2..]);
    let shard = shard.0.unsigned_abs() & 0x3ff;
    bytes[6] = 0x70 | (shard >> 6) as u8;
    bytes[7] = ((shard & 0x3f) << 2) as u8 | (bytes[7] & 0x03);
    Uuid::from_bytes(bytes)
}

/// Derives the same id from the same parts, every time; used where a retry must meet itself.
///
/// The shard is carried as in [`new_uuid`]; the time part is zero.
#[must_use]
pub fn derived_uuid(shard: ShardId, digest: [u8; 16]) -> Uuid {
    let mut bytes = digest;
    let shard = shard.0.unsigned_abs() & 0x3ff;
    bytes[6] = 0x70 | (shard >> 6) as u8;
    bytes[7] = ((shard & 0x3f) << 2) as u8 | (bytes[7] & 0x03);
    bytes[8] = 0x80 | (bytes[8] & 0x3f);
    Uuid::from_bytes(bytes)
}

fn shard_of(id: Uuid) -> ShardId {
    let bytes = id.as_bytes();
    let high = i16::from(bytes[6] & 0x0f) << 6;
    ShardId(high | i16::from(bytes[7] >> 2))
}

fn made_at(id: Uuid) -> DateTime<Utc> {
    let mut millis = [0; 8];
    millis[2..].copy_from_slice(&id.as_bytes()[..6]);
    // 48 bits of milliseconds reach beyond any date that chrono refuses.
    DateTime::from_timestamp_millis(i64::from_be_bytes(millis)).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_tells_when_it_was_made() {
        let before = clock::unix_millis();
        let made = RunId::new(ShardId(1023)).made_at().timestamp_millis();
        let made = u64::try_from(made).unwrap();
        assert!((before..=clock::unix_millis()).contains(&made));
    }

    #[test]
    fn an_id_carries_its_shard_and_is_a_version_7_uuid() {
        for shard in [0, 1, 63, 64, 511, 1023] {
            let id = RunId::new(ShardId(shard));
            assert_eq!(id.shard(), ShardId(shard));
            assert_eq!(id.0.get_version_num(), 7);
            assert_eq!(id.0.get_variant(), uuid::Variant::RFC4122);
        }
        assert_eq!(SYSTEM_TENANT.shard(), ShardId(0));
    }
}

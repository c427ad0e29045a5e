//! Which tenants read the new columns: a percentage, sticky per tenant. Pure.
//!
//! A tenant's bucket follows from the backfill's name and the tenant's id alone, so that it is the
//! same in every process and in the product, if it hashes as we do: the first eight bytes of
//! SHA-256 over `name/tenant`, as a number, modulo 10,000. Raising the percentage only adds tenants,
//! lowering it takes away those that came last.

use sha2::{Digest, Sha256};
use uuid::Uuid;

const BUCKETS: u64 = 10_000;

/// The tenant's bucket, 0 to 9,999.
#[must_use]
pub fn bucket(name: &str, tenant: Uuid) -> u16 {
    let digest = Sha256::digest(format!("{name}/{tenant}"));
    let mut first = [0; 8];
    first.copy_from_slice(&digest[..8]);
    u16::try_from(u64::from_be_bytes(first) % BUCKETS).unwrap_or_default()
}

/// Whether a tenant reads the new columns at a percentage, 0 to 100.
#[must_use]
pub fn reads_new(name: &str, tenant: Uuid, percent: i16) -> bool {
    i32::from(bucket(name, tenant)) < i32::from(percent) * 100
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tenants() -> impl Iterator<Item = Uuid> {
        (0..2_000_u128).map(|n| Uuid::from_u128(n.wrapping_mul(0x9e37_79b9_7f4a_7c15_f39c_c060)))
    }

    #[test]
    fn a_percentage_takes_about_that_share_and_only_adds() {
        let mut before = 0;
        for percent in [0, 1, 10, 25, 50, 99, 100] {
            let there = tenants().filter(|tenant| reads_new("task-state", *tenant, percent));
            let count = there.count();
            let expected = 20 * usize::from(percent.unsigned_abs());
            assert!(count.abs_diff(expected) <= 100, "{percent} %: {count}");
            assert!(count >= before);
            before = count;
        }
        assert_eq!(before, 2_000);
        for tenant in tenants().filter(|tenant| reads_new("task-state", *tenant, 10)) {
            assert!(reads_new("task-state", tenant, 11));
        }
    }

    #[test]
    fn two_backfills_do_not_begin_with_the_same_tenants() {
        let both = tenants().filter(|t| reads_new("one", *t, 10) && reads_new("two", *t, 10));
        assert!(both.count() < 60);
    }

    #[test]
    fn the_hash_is_for_ever() {
        let tenant = Uuid::from_u128(0x0c00_0000_0000_7000_8000_0000_0000_0001);
        assert_eq!(bucket("task-state", tenant), FROZEN);
    }

    /// What the first build said; another number would move tenants between old and new reads.
    const FROZEN: u16 = 7_421;
}

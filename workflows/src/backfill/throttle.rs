//! Whether the product's database can bear a batch now, and which reading says no. Pure.
//!
//! A reading that the login may not see is no reason to hold back, and no proof of peace: it is
//! reported as unseen.

use chrono::{DateTime, NaiveTime, Utc};
use chrono_tz::Tz;
use serde::{Deserialize, Serialize};

use super::definition::{Misfit, need};
use super::units::{say_bytes, say_milliseconds};

/// From where on a backfill holds back; none means never.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Limits {
    /// How far the slowest standby is behind, in milliseconds.
    pub replica_lag_ms: Option<u64>,
    /// How much WAL a replication slot keeps, in bytes.
    pub slot_bytes: Option<u64>,
    /// How much WAL is written a second, in bytes.
    pub wal_rate_bytes: Option<u64>,
    /// Whether it waits for a vacuum of the table.
    pub autovacuum: bool,
    /// The age of the oldest transaction id that is not frozen.
    pub xid_age: Option<u64>,
    /// How many sessions wait for a lock.
    pub lock_waiters: Option<u64>,
    /// How long the oldest transaction of others is open, in milliseconds.
    pub longest_transaction_ms: Option<u64>,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            replica_lag_ms: Some(5_000),
            slot_bytes: Some(4 << 30),
            wal_rate_bytes: Some(64 << 20),
            autovacuum: true,
            xid_age: Some(1_000_000_000),
            lock_waiters: Some(4),
            longest_transaction_ms: Some(300_000),
        }
    }
}

impl Limits {
    /// No limit at all: for tests and for databases that serve nobody.
    #[must_use]
    pub const fn none() -> Self {
        Self {
            replica_lag_ms: None,
            slot_bytes: None,
            wal_rate_bytes: None,
            autovacuum: false,
            xid_age: None,
            lock_waiters: None,
            longest_transaction_ms: None,
        }
    }

    pub(super) fn check(&self) -> Result<(), Misfit> {
        let age = self.xid_age.is_none_or(|age| age <= 2_000_000_000);
        need("throttle.xid_age", age, "at most 2000000000, or off")?;
        let wal = self.wal_rate_bytes.is_none_or(|rate| rate >= 1 << 20);
        need("throttle.wal_rate", wal, "at least 1MB a second, or off")
    }
}

/// What a database says of itself. None: nothing of the kind, or the login may not see it.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Readings {
    /// How far the slowest standby is behind, in milliseconds.
    pub replica_lag_ms: Option<u64>,
    /// The most WAL that a replication slot keeps, in bytes.
    pub slot_bytes: Option<u64>,
    /// WAL written a second since the last look, in bytes.
    pub wal_rate_bytes: Option<u64>,
    /// Whether a vacuum works on the table.
    pub vacuuming: bool,
    /// The age of the oldest transaction id that is not frozen.
    pub xid_age: Option<u64>,
    /// How many sessions wait for a lock.
    pub lock_waiters: Option<u64>,
    /// How long the oldest transaction of others is open, in milliseconds.
    pub longest_transaction_ms: Option<u64>,
    /// Whether the login sees what sessions of others do, standbys and vacuums included.
    pub sees_others: bool,
}

/// One reading beyond its limit.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reason {
    /// Stable: `replica_lag`, `replication_slot`, `wal_rate`, `autovacuum`, `xid_age`,
    /// `lock_waiters`, `long_transaction`, `quiet_hours`.
    pub code: String,
    /// In words, with what was read and the limit.
    pub detail: String,
}

/// The codes of what is to hold a batch back and cannot, because the login does not see it.
#[must_use]
pub fn unseen(readings: &Readings, limits: &Limits) -> Vec<&'static str> {
    if readings.sees_others {
        return Vec::new();
    }
    let wanted = [
        ("replica_lag", limits.replica_lag_ms.is_some()),
        ("autovacuum", limits.autovacuum),
        ("long_transaction", limits.longest_transaction_ms.is_some()),
    ];
    let unseen = wanted.into_iter().filter(|(_, wanted)| *wanted);
    unseen.map(|(code, _)| code).collect()
}

/// What was read, and the limit.
type Read = (Option<u64>, Option<u64>);

fn say_count(count: u64) -> String {
    count.to_string()
}

/// What holds a batch back; nothing means go.
#[must_use]
pub fn decide(readings: &Readings, limits: &Limits) -> Vec<Reason> {
    let mut reasons = Vec::new();
    let mut hold = |code: &str, words: &str, read: Read, say: fn(u64) -> String| {
        if let (Some(seen), Some(limit)) = read
            && seen > limit
        {
            reasons.push(Reason {
                code: code.to_owned(),
                detail: format!("{words} {}, the limit is {}", say(seen), say(limit)),
            });
        }
    };
    let lag = (readings.replica_lag_ms, limits.replica_lag_ms);
    hold(
        "replica_lag",
        "the slowest standby is behind by",
        lag,
        say_milliseconds,
    );
    let slot = (readings.slot_bytes, limits.slot_bytes);
    hold(
        "replication_slot",
        "a replication slot keeps",
        slot,
        say_bytes,
    );
    let wal = (readings.wal_rate_bytes, limits.wal_rate_bytes);
    hold("wal_rate", "WAL written a second is", wal, say_bytes);
    let age = (readings.xid_age, limits.xid_age);
    hold(
        "xid_age",
        "the oldest transaction id has an age of",
        age,
        say_count,
    );
    let waiters = (readings.lock_waiters, limits.lock_waiters);
    hold(
        "lock_waiters",
        "sessions that wait for a lock:",
        waiters,
        say_count,
    );
    let longest = (
        readings.longest_transaction_ms,
        limits.longest_transaction_ms,
    );
    hold(
        "long_transaction",
        "the oldest transaction is open for",
        longest,
        say_milliseconds,
    );
    if limits.autovacuum && readings.vacuuming {
        reasons.push(Reason {
            code: "autovacuum".to_owned(),
            detail: "a vacuum works on the table".to_owned(),
        });
    }
    reasons
}

/// Hours in which nothing is done.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Quiet {
    /// Whose hours.
    pub zone: Tz,
    /// From and to; over midnight where the second is the earlier one.
    pub hours: Vec<(NaiveTime, NaiveTime)>,
}

impl Quiet {
    /// The reason, when an instant lies in them.
    #[must_use]
    pub fn holds(&self, now: DateTime<Utc>) -> Option<Reason> {
        let local = now.with_timezone(&self.zone).time();
        let mut hours = self.hours.iter();
        let (from, to) = hours.find(|(from, to)| {
            if from <= to {
                (*from..*to).contains(&local)
            } else {
                local >= *from || local < *to
            }
        })?;
        Some(Reason {
            code: "quiet_hours".to_owned(),
            detail: format!(
                "quiet from {} to {} in {}",
                from.format("%H:%M"),
                to.format("%H:%M"),
                self.zone
            ),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn codes(readings: &Readings, limits: &Limits) -> Vec<String> {
        let reasons = decide(readings, limits);
        reasons.into_iter().map(|reason| reason.code).collect()
    }

    #[test]
    fn each_reading_beyond_its_limit_is_named() {
        type Change = fn(&mut Readings);
        let cases: [(&str, Change); 7] = [
            ("replica_lag", |r| r.replica_lag_ms = Some(5_001)),
            ("replication_slot", |r| r.slot_bytes = Some(5 << 30)),
            ("wal_rate", |r| r.wal_rate_bytes = Some(65 << 20)),
            ("autovacuum", |r| r.vacuuming = true),
            ("xid_age", |r| r.xid_age = Some(1_000_000_001)),
            ("lock_waiters", |r| r.lock_waiters = Some(5)),
            ("long_transaction", |r| {
                r.longest_transaction_ms = Some(300_001)
            }),
        ];
        let mut all = Readings::default();
        for (code, change) in cases {
            let mut readings = Readings::default();
            change(&mut readings);
            assert_eq!(codes(&readings, &Limits::default()), [code]);
            assert_eq!(codes(&readings, &Limits::none()), Vec::<String>::new());
            change(&mut all);
        }
        assert_eq!(codes(&all, &Limits::default()).len(), 7);
    }

    #[test]
    fn a_reading_at_its_limit_goes_and_one_beyond_is_told_with_both_numbers() {
        let mut readings = Readings {
            replica_lag_ms: Some(5_000),
            lock_waiters: Some(4),
            ..Readings::default()
        };
        assert_eq!(decide(&readings, &Limits::default()), []);
        readings.replica_lag_ms = Some(5_001);
        let limits = Limits {
            replica_lag_ms: Some(2_000),
            ..Limits::default()
        };
        assert_eq!(
            decide(&readings, &limits)[0].detail,
            "the slowest standby is behind by 5 s, the limit is 2 s"
        );
    }

    #[test]
    fn what_the_login_does_not_see_is_named_where_it_is_to_hold_back() {
        let blind = Readings::default();
        let seeing = Readings {
            sees_others: true,
            ..blind
        };
        let all = ["replica_lag", "autovacuum", "long_transaction"];
        assert_eq!(unseen(&blind, &Limits::default()), all);
        assert!(unseen(&blind, &Limits::none()).is_empty());
        assert!(unseen(&seeing, &Limits::default()).is_empty());
    }

    #[test]
    fn quiet_hours_are_local_and_may_pass_midnight() {
        let time = |text: &str| text.parse::<NaiveTime>().unwrap();
        let quiet = Quiet {
            zone: chrono_tz::Europe::Berlin,
            hours: vec![
                (time("08:00:00"), time("12:00:00")),
                (time("22:00:00"), time("02:00:00")),
            ],
        };
        let holds = |at: &str| quiet.holds(at.parse().unwrap()).is_some();
        // In summer Berlin is two hours ahead, in winter one.
        assert!(holds("2027-07-01T06:00:00Z"));
        assert!(!holds("2027-07-01T10:00:00Z"));
        assert!(!holds("2027-01-01T06:30:00Z"));
        assert!(holds("2027-01-01T21:30:00Z"));
        assert!(holds("2027-01-02T00:30:00Z"));
        assert!(!holds("2027-01-02T01:00:00Z"));
    }
}

//! The phases of a backfill, and what each of them asks before it begins. Pure.
//!
//! ```text
//! expand ─ dual-write ─ fill ─ verify ─ switch ─ contract ─ done
//!    └───────────────────── back, from any of these before contract ─────────> undone
//! ```

use chrono::{DateTime, TimeDelta, Utc};
use serde::{Deserialize, Serialize};

use super::definition::Definition;
use super::units::say_milliseconds;

/// Where a backfill is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Phase {
    /// The new columns are added.
    Expand,
    /// The trigger that keeps old and new alike is made.
    DualWrite,
    /// The rows that were there before are filled.
    Fill,
    /// Every row is compared.
    Verify,
    /// Tenants read the new columns, by percentage.
    Switch,
    /// The trigger and the old columns are dropped. There is no way back.
    Contract,
    /// Nothing is left to do.
    Done,
    /// All is as it was before.
    Undone,
}

impl Phase {
    /// All of them, by their words.
    pub const WORDS: [(&'static str, Self); 8] = [
        ("expand", Self::Expand),
        ("dual-write", Self::DualWrite),
        ("fill", Self::Fill),
        ("verify", Self::Verify),
        ("switch", Self::Switch),
        ("contract", Self::Contract),
        ("done", Self::Done),
        ("undone", Self::Undone),
    ];

    /// The word for it.
    #[must_use]
    pub fn word(self) -> &'static str {
        let mut words = Self::WORDS.into_iter();
        words
            .find(|(_, phase)| *phase == self)
            .map_or("", |(word, _)| word)
    }

    /// Reads the word.
    #[must_use]
    pub fn from_word(word: &str) -> Option<Self> {
        let mut words = Self::WORDS.into_iter();
        words.find(|(one, _)| *one == word).map(|(_, phase)| phase)
    }

    /// What follows when it is over.
    #[must_use]
    pub const fn next(self) -> Self {
        match self {
            Self::Expand => Self::DualWrite,
            Self::DualWrite => Self::Fill,
            Self::Fill => Self::Verify,
            Self::Verify => Self::Switch,
            Self::Switch => Self::Contract,
            Self::Contract | Self::Done => Self::Done,
            Self::Undone => Self::Undone,
        }
    }

    /// Whether somebody may go back to it: the phases that can be done again, and `undone`.
    #[must_use]
    pub const fn can_be_gone_back_to(self) -> bool {
        !matches!(self, Self::Switch | Self::Contract | Self::Done)
    }
}

/// What the gates look at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Facts {
    /// Now, in real time.
    pub now: DateTime<Utc>,
    /// Ranges that only a person can help.
    pub held: i64,
    /// Ranges that somebody left unfinished, with a reason.
    pub skipped: i64,
    /// Tenants that have a place, but no range: they came later.
    pub uncovered: i64,
    /// Rows that the last verification found wrong; none before the first one.
    pub mismatches: Option<i64>,
    /// Since when verification finds none.
    pub clean_since: Option<DateTime<Utc>>,
    /// How many tenants of a hundred read the new columns.
    pub percent: i16,
}

/// Why a phase must not begin yet; nothing means that it may.
#[must_use]
pub fn refusals(into: Phase, of: &Definition, facts: &Facts) -> Vec<String> {
    let mut reasons = Vec::new();
    if into >= Phase::Verify && facts.held > 0 {
        reasons.push(format!(
            "{} ranges are held: retry or skip them",
            facts.held
        ));
    }
    if !matches!(into, Phase::Switch | Phase::Contract) {
        return reasons;
    }
    match facts.mismatches {
        None => reasons.push("nothing was verified yet".to_owned()),
        Some(0) => {}
        Some(wrong) => reasons.push(format!("{wrong} rows are wrong: retry fills them again")),
    }
    if facts.skipped > 0 && facts.mismatches != Some(0) {
        reasons.push(format!("{} ranges were skipped", facts.skipped));
    }
    if facts.uncovered > 0 {
        reasons.push(format!(
            "{} tenants came later and are not covered: go back to expand",
            facts.uncovered
        ));
    }
    if into == Phase::Contract {
        add_contract(&mut reasons, of, facts);
    }
    reasons
}

fn add_contract(reasons: &mut Vec<String>, of: &Definition, facts: &Facts) {
    if facts.percent < 100 {
        reasons.push(format!(
            "{} % of the tenants read the new columns: roll out to 100",
            facts.percent
        ));
    }
    let Some(since) = facts.clean_since else {
        return;
    };
    let wanted = TimeDelta::milliseconds(
        i64::try_from(of.clean_for_seconds.saturating_mul(1_000)).unwrap_or(i64::MAX / 2),
    );
    let clean = facts.now - since;
    if clean < wanted {
        let say = |time: TimeDelta| say_milliseconds(time.num_milliseconds().unsigned_abs());
        reasons.push(format!(
            "clean for {} of {}: wait {} more",
            say(clean),
            say(wanted),
            say(wanted - clean)
        ));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn facts() -> Facts {
        let now = "2027-03-01T12:00:00Z".parse().unwrap();
        Facts {
            now,
            held: 0,
            skipped: 0,
            uncovered: 0,
            mismatches: Some(0),
            clean_since: Some(now - TimeDelta::hours(24)),
            percent: 100,
        }
    }

    #[test]
    fn the_contract_is_refused_until_all_is_clean_for_long_enough() {
        let of = Definition::new("task-state", "task");
        let refused = |facts: Facts| refusals(Phase::Contract, &of, &facts);
        assert_eq!(refused(facts()), Vec::<String>::new());
        let cases: [(&str, Facts); 6] = [
            (
                "verified",
                Facts {
                    mismatches: None,
                    clean_since: None,
                    ..facts()
                },
            ),
            (
                "3 rows",
                Facts {
                    mismatches: Some(3),
                    clean_since: None,
                    ..facts()
                },
            ),
            (
                "99 %",
                Facts {
                    percent: 99,
                    ..facts()
                },
            ),
            (
                "2 tenants",
                Facts {
                    uncovered: 2,
                    ..facts()
                },
            ),
            ("held", Facts { held: 1, ..facts() }),
            (
                "23 h of 24 h",
                Facts {
                    clean_since: Some(facts().now - TimeDelta::hours(23)),
                    ..facts()
                },
            ),
        ];
        for (expected, facts) in cases {
            let reasons = refused(facts);
            assert_eq!(reasons.len(), 1, "{reasons:?}");
            assert!(reasons[0].contains(expected), "{reasons:?}");
        }
    }

    #[test]
    fn reads_may_switch_as_soon_as_all_rows_are_right() {
        let of = Definition::new("task-state", "task");
        let young = Facts {
            clean_since: Some(facts().now),
            percent: 0,
            ..facts()
        };
        assert!(refusals(Phase::Switch, &of, &young).is_empty());
        let wrong = Facts {
            mismatches: Some(1),
            skipped: 1,
            ..young
        };
        assert_eq!(refusals(Phase::Switch, &of, &wrong).len(), 2);
        assert!(refusals(Phase::Fill, &of, &wrong).is_empty());
    }

    #[test]
    fn words_lead_there_and_back() {
        for (word, phase) in Phase::WORDS {
            assert_eq!(phase.word(), word);
            assert_eq!(Phase::from_word(word), Some(phase));
            let json = serde_json::to_value(phase).unwrap();
            assert_eq!(json, word);
        }
        assert!(!Phase::Contract.can_be_gone_back_to());
        assert!(Phase::Undone.can_be_gone_back_to());
    }
}

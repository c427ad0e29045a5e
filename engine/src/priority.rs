//! Which of what is due is taken first.

use serde::{Deserialize, Serialize};

/// How urgent a run is. Workers take what is due of a higher priority first, and within a priority
/// tenants take turns. One in eight is taken without a look at priorities, so that nothing waits for
/// ever.
///
/// What a deadline wakes is taken as if it were one level less urgent: many fall due at one instant, such
/// as renewals at midnight, and whoever has just started something waits for it. So are the first visits of
/// the children that it starts, and what their ends wake. Signals and the ends of other children are taken
/// beside what is due, whatever the priority.
#[derive(
    Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(rename_all = "snake_case")]
pub enum Priority {
    /// Before all others.
    Highest,
    /// Before most.
    High,
    /// Where nothing else is said.
    #[default]
    Normal,
    /// After most: what may wait some minutes.
    Low,
    /// After all others: backfills, clean-ups.
    Lowest,
}

impl Priority {
    /// All of them, the most urgent first.
    pub const ALL: [Self; 5] = [
        Self::Highest,
        Self::High,
        Self::Normal,
        Self::Low,
        Self::Lowest,
    ];

    /// The stored spelling.
    #[must_use]
    pub const fn code(self) -> i16 {
        match self {
            Self::Highest => 1,
            Self::High => 2,
            Self::Normal => 3,
            Self::Low => 4,
            Self::Lowest => 5,
        }
    }

    /// The stored spellings from the most urgent to this one.
    pub(crate) fn up_to(self) -> &'static [i16] {
        const CODES: [i16; 5] = [1, 2, 3, 4, 5];
        &CODES[..=self as usize]
    }

    /// Reads the stored spelling; what is unknown is normal.
    #[must_use]
    pub fn from_code(code: i16) -> Self {
        let known = Self::ALL.into_iter().find(|one| one.code() == code);
        known.unwrap_or_default()
    }

    /// The word for people.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Highest => "highest",
            Self::High => "high",
            Self::Normal => "normal",
            Self::Low => "low",
            Self::Lowest => "lowest",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_most_urgent_comes_first_however_it_is_spelled() {
        let codes: Vec<i16> = Priority::ALL.iter().map(|one| one.code()).collect();
        assert_eq!(codes, [1, 2, 3, 4, 5]);
        assert!(Priority::ALL.is_sorted());
        for one in Priority::ALL {
            assert_eq!(Priority::from_code(one.code()), one);
            assert_eq!(serde_json::to_value(one).unwrap(), one.word());
        }
        assert_eq!(Priority::from_code(9), Priority::Normal);
    }
}

//! What stops a backfill until somebody helps, and what would. Pure.

use serde::{Deserialize, Serialize};

use crate::product::ProductError;

/// Why a range, or a change of tables, is held.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Trouble {
    /// The kind.
    pub kind: Kind,
    /// What the database said.
    pub detail: String,
    /// The key of the row that was refused, where one was found.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<Vec<String>>,
}

/// The kinds of trouble.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// A column is gone that the definition names.
    ColumnGone,
    /// The table or its schema is gone.
    TableGone,
    /// A new column, a trigger or a function is there already, and is not ours.
    NameTaken,
    /// The trigger that keeps old and new alike is gone, or is disabled.
    TriggerGone,
    /// Something of the product's depends on a column that is to be dropped.
    StillNeeded,
    /// Nothing says by what rows are walked.
    NoKey,
    /// A trigger, a constraint or the expression itself refuses a row.
    RowRefused,
    /// One row alone takes longer than the time-out.
    TimedOut,
    /// The table could not be locked for a long time.
    Locked,
    /// The login lacks a right.
    NotAllowed,
    /// The statement makes no sense.
    BadStatement,
    /// The source is not configured any more, or has no map.
    PlaceGone,
    /// It was cancelled when it was held, and is done at some places only.
    HalfDone,
    /// Its run was terminated, and what it had done stays as it is.
    Terminated,
}

impl Kind {
    const WORDS: [(&'static str, Self); 14] = [
        ("column_gone", Self::ColumnGone),
        ("table_gone", Self::TableGone),
        ("name_taken", Self::NameTaken),
        ("trigger_gone", Self::TriggerGone),
        ("still_needed", Self::StillNeeded),
        ("no_key", Self::NoKey),
        ("row_refused", Self::RowRefused),
        ("timed_out", Self::TimedOut),
        ("locked", Self::Locked),
        ("not_allowed", Self::NotAllowed),
        ("bad_statement", Self::BadStatement),
        ("place_gone", Self::PlaceGone),
        ("half_done", Self::HalfDone),
        ("terminated", Self::Terminated),
    ];

    /// The stable word.
    #[must_use]
    pub fn word(self) -> &'static str {
        let mut words = Self::WORDS.into_iter();
        words
            .find(|(_, kind)| *kind == self)
            .map_or("", |(word, _)| word)
    }

    /// What a person can do.
    #[must_use]
    pub const fn remedy(self) -> &'static str {
        match self {
            Self::ColumnGone => "add the column again and retry, or go back",
            Self::TableGone => "bring the table back and retry, or skip the range",
            Self::NameTaken => "rename what is there or the new column, and retry, or go back",
            Self::TriggerGone => {
                "enable the trigger again and retry, or go back to undone and start anew"
            }
            Self::StillNeeded => "drop what depends on the column and retry",
            Self::NoKey => "give the table a primary key, or name a key in the definition",
            Self::RowRefused => {
                "mend the trigger, the constraint or the row and retry, or skip the range"
            }
            Self::TimedOut => "look at what makes the row slow and retry, or skip the range",
            Self::Locked => "end what holds the lock and retry",
            Self::NotAllowed => "grant the right and retry",
            Self::BadStatement => "go back, mend the definition and start anew",
            Self::PlaceGone => "configure the source again, load its map, and retry",
            Self::HalfDone => {
                "run the statements that the plan told of this phase at the places that it names, by hand"
            }
            Self::Terminated => {
                "tenure backfill back --to undone takes away what it left; tenure backfill retry brings a \
                 contract, or an undo, to its end"
            }
        }
    }
}

/// What follows an error at a place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Somebody has to help.
    Hold(Trouble),
    /// It took too long: fewer rows may do.
    Split,
    /// One of the rows is refused: fewer rows will tell which.
    Narrow(String),
    /// A lock was not to be had in time: the product goes first.
    Busy(String),
    /// The database is away, or in conflict: later.
    Again,
}

impl Trouble {
    pub(super) fn new(kind: Kind, detail: impl Into<String>) -> Self {
        Self {
            kind,
            detail: detail.into(),
            key: None,
        }
    }
}

/// Judges an error by its SQLSTATE.
pub(super) fn judge(error: &ProductError) -> Verdict {
    let hold =
        |kind, error: &dyn std::fmt::Display| Verdict::Hold(Trouble::new(kind, error.to_string()));
    match error {
        ProductError::Database(sqlx::Error::Database(error)) => {
            judge_state(error.code().as_deref().unwrap_or_default(), error.message())
        }
        ProductError::Refused(detail) => Verdict::Hold(Trouble::new(Kind::NoKey, detail.as_str())),
        ProductError::DoesNotFit(_) => hold(Kind::TableGone, error),
        ProductError::BypassesRowSecurity(_) => hold(Kind::NotAllowed, error),
        ProductError::UnknownSource(..)
        | ProductError::NoMap(_)
        | ProductError::UnknownVersion(..)
        | ProductError::BadMap { .. }
        | ProductError::OtherModel { .. } => hold(Kind::PlaceGone, error),
        _ => Verdict::Again,
    }
}

fn judge_state(state: &str, message: &str) -> Verdict {
    let hold = |kind| Verdict::Hold(Trouble::new(kind, message));
    match state {
        "42703" => hold(Kind::ColumnGone),
        "42P01" | "3F000" | "3D000" => hold(Kind::TableGone),
        "42701" | "42710" | "42723" | "42P07" => hold(Kind::NameTaken),
        "42501" => hold(Kind::NotAllowed),
        "2BP01" => hold(Kind::StillNeeded),
        "57014" => Verdict::Split,
        "55P03" => Verdict::Busy(message.to_owned()),
        _ => match state.get(..2) {
            // What a trigger raises has the class P0, or whatever its author chose.
            Some("22" | "23" | "P0" | "27" | "38" | "39" | "44") => {
                Verdict::Narrow(message.to_owned())
            }
            Some("42" | "0A" | "2F") => hold(Kind::BadStatement),
            _ => Verdict::Again,
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_state_of_the_database_leads_somewhere() {
        let kind = |state| match judge_state(state, "said") {
            Verdict::Hold(trouble) => trouble.kind.word().to_owned(),
            other => format!("{other:?}"),
        };
        assert_eq!(kind("42703"), "column_gone");
        assert_eq!(kind("42P01"), "table_gone");
        assert_eq!(kind("42701"), "name_taken");
        assert_eq!(kind("42601"), "bad_statement");
        assert_eq!(kind("2BP01"), "still_needed");
        assert_eq!(kind("57014"), "Split");
        assert_eq!(kind("55P03"), "Busy(\"said\")");
        assert_eq!(kind("P0001"), "Narrow(\"said\")");
        assert_eq!(kind("23514"), "Narrow(\"said\")");
        assert_eq!(kind("22012"), "Narrow(\"said\")");
        for later in ["40001", "40P01", "08006", "57P01", "53300", ""] {
            assert_eq!(kind(later), "Again", "{later}");
        }
    }
}

//! What will become of a subscription: at most one intent of a kind. Pure.
//!
//! A new intent replaces the one of its kind, and a change replaces a wish to end (Meteroid's tests
//! fix both). One is undone until the instant at which it comes about.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use super::money::CreditPolicy;
use super::terms::Offer;

/// When an act comes about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum When {
    /// At once.
    Now,
    /// At the end of what is paid for, or of the trial.
    PeriodEnd,
    /// At an instant of the tenant's time.
    At(DateTime<Utc>),
}

/// What may be done to a subscription.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Act {
    /// Another plan, other seats, other add-ons.
    Change {
        /// What it is sold at from then on.
        offer: Offer,
    },
    /// The end.
    Cancel {
        /// What is given back of what was paid for.
        credit: CreditPolicy,
    },
    /// No use and no billing.
    Pause {
        /// When it goes on by itself.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        until: Option<DateTime<Utc>>,
    },
    /// It goes on.
    Resume,
    /// Periods begin on another day of the month.
    MoveAnchor {
        /// 1 to 31; in shorter months their last.
        day: u32,
    },
}

/// The kinds of acts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// [`Act::Change`].
    Change,
    /// [`Act::Cancel`].
    Cancel,
    /// [`Act::Pause`].
    Pause,
    /// [`Act::Resume`].
    Resume,
    /// [`Act::MoveAnchor`].
    MoveAnchor,
}

impl Kind {
    /// All of them, in the order in which they come about at one instant.
    pub const ALL: [Self; 5] = [
        Self::Cancel,
        Self::Change,
        Self::MoveAnchor,
        Self::Pause,
        Self::Resume,
    ];

    /// The stored word.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Change => "change",
            Self::Cancel => "cancel",
            Self::Pause => "pause",
            Self::Resume => "resume",
            Self::MoveAnchor => "move_anchor",
        }
    }

    /// Reads the stored word.
    #[must_use]
    pub fn from_word(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.word() == word)
    }

    /// The deadline at which a dated intent comes about.
    #[must_use]
    pub const fn deadline(self) -> &'static str {
        match self {
            Self::Change => "change",
            Self::Cancel => "cancel",
            Self::Pause => "pause",
            Self::Resume => "resume",
            Self::MoveAnchor => "move-anchor",
        }
    }
}

impl Act {
    /// Which kind it is.
    #[must_use]
    pub const fn kind(&self) -> Kind {
        match self {
            Self::Change { .. } => Kind::Change,
            Self::Cancel { .. } => Kind::Cancel,
            Self::Pause { .. } => Kind::Pause,
            Self::Resume => Kind::Resume,
            Self::MoveAnchor { .. } => Kind::MoveAnchor,
        }
    }
}

/// An act that is to come about.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Intent {
    /// What.
    pub act: Act,
    /// Whether with the period, or at an instant.
    pub when: When,
    /// The instant, as far as it is known now.
    pub at: DateTime<Utc>,
}

/// The intents of a subscription.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Intents(pub Vec<Intent>);

impl Intents {
    /// Finds the one of a kind.
    #[must_use]
    pub fn find(&self, kind: Kind) -> Option<&Intent> {
        self.0.iter().find(|intent| intent.act.kind() == kind)
    }

    /// Adds one in place of that of its kind; a change takes a wish to end with it.
    pub fn put(&mut self, intent: Intent) {
        let kind = intent.act.kind();
        self.0.retain(|known| {
            let known = known.act.kind();
            known != kind && !(kind == Kind::Change && known == Kind::Cancel)
        });
        self.0.push(intent);
    }

    /// Takes the one of a kind away.
    pub fn take(&mut self, kind: Kind) -> Option<Intent> {
        self.take_if(|one| one.act.kind() == kind)
    }

    /// Takes away what comes about with the end of a period.
    pub fn take_at_end(&mut self, kind: Kind, end: DateTime<Utc>) -> Option<Intent> {
        self.take_if(|one| one.act.kind() == kind && one.is_at_end(end))
    }

    /// Takes the first away of which something holds.
    pub(super) fn take_if(&mut self, holds: impl Fn(&Intent) -> bool) -> Option<Intent> {
        let index = self.0.iter().position(holds)?;
        Some(self.0.remove(index))
    }

    /// Gives what would come about with the end of the period a date of its own.
    pub fn date(&mut self, kind: Kind, at: DateTime<Utc>) {
        let with_period = |one: &&mut Intent| one.act.kind() == kind && !one.is_dated();
        for intent in self.0.iter_mut().filter(with_period) {
            intent.when = When::At(at);
            intent.at = at;
        }
    }

    /// Moves what comes about with the end of the period to a new end.
    pub fn follow(&mut self, end: DateTime<Utc>) {
        for intent in &mut self.0 {
            if intent.when == When::PeriodEnd {
                intent.at = end;
            }
        }
    }
}

impl Intent {
    /// Whether it comes about with the end of a period.
    pub(super) fn is_at_end(&self, end: DateTime<Utc>) -> bool {
        self.when == When::PeriodEnd || self.at == end
    }

    /// Whether a deadline of its own is wanted.
    #[must_use]
    pub fn is_dated(&self) -> bool {
        self.when != When::PeriodEnd
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn intent(act: Act, day: u32) -> Intent {
        Intent {
            act,
            when: When::PeriodEnd,
            at: format!("2027-03-{day:02}T00:00:00Z").parse().unwrap(),
        }
    }

    fn cancel(credit: CreditPolicy) -> Act {
        Act::Cancel { credit }
    }

    #[test]
    fn a_new_intent_replaces_the_one_of_its_kind() {
        let mut intents = Intents::default();
        intents.put(intent(cancel(CreditPolicy::None), 1));
        intents.put(intent(Act::MoveAnchor { day: 15 }, 2));
        intents.put(intent(cancel(CreditPolicy::Credit), 3));
        let kinds: Vec<Kind> = intents.0.iter().map(|one| one.act.kind()).collect();
        assert_eq!(kinds, [Kind::MoveAnchor, Kind::Cancel]);
        let found = intents.find(Kind::Cancel).unwrap();
        assert_eq!(found.act, cancel(CreditPolicy::Credit));
    }

    #[test]
    fn what_comes_with_the_period_follows_its_end() {
        let mut intents = Intents::default();
        intents.put(intent(cancel(CreditPolicy::None), 1));
        let end = "2027-04-15T00:00:00Z".parse().unwrap();
        intents.follow(end);
        assert_eq!(intents.find(Kind::Cancel).unwrap().at, end);
        assert!(intents.take_at_end(Kind::Cancel, end).is_some());
        assert_eq!(intents, Intents::default());
    }
}

//! What of a workflow is decided at doors of its own. Pure.
//!
//! A signal says what somebody wants, and its payload may say who; only the door that reads the token
//! knows whether that is true. So a workflow names the signals that carry authority, with the door that
//! checks it: every other way in (the general route, operations on many runs, SQL) refuses them and
//! names that door. Rust code that sends a signal by its type is such a door. The verbs that would put
//! a run where no signal has brought it are guarded with it, and so are those that end it before its work
//! is done.

use crate::error::EngineError;

/// What it takes, besides what the verb asks of any run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Need {
    /// Nothing more.
    Nothing,
    /// A person with the role `operator`, or a higher one.
    Operator,
    /// A person with the role `admin`.
    Admin,
    /// Nobody may: it is decided at this door, named as a caller would find it.
    Door(&'static str),
}

/// What of a workflow is decided where.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Guard {
    /// Who starts its runs by name.
    pub start: Need,
    /// Signals that not everybody may send, by name.
    pub signals: &'static [(&'static str, Need)],
    /// What the verbs take that put a run where no signal has brought it: another state or other data,
    /// a deadline before its time, a step that was not done, a new run in its place.
    pub verbs: Need,
    /// What the verbs take that end a run before its work is done, where nobody else would do the rest.
    pub ends: Need,
}

/// The verbs that go round signals.
const ROUND: [&str; 6] = [
    "skip-step",
    "edit-state",
    "move",
    "move-deadline",
    "fire-deadline",
    "restart",
];

/// The verbs that end a run.
const ENDS: [&str; 2] = ["cancel", "terminate"];

impl Need {
    /// Whether somebody who acts in a role meets it; nobody acts where no role is given.
    fn check(self, what: impl FnOnce() -> String, role: Option<&str>) -> Result<(), EngineError> {
        let is_met = match self {
            Self::Nothing => true,
            Self::Operator => matches!(role, Some("operator" | "admin" | "system")),
            Self::Admin => matches!(role, Some("admin" | "system")),
            Self::Door(door) => {
                let what = what();
                return Err(EngineError::OwnDoor { what, door });
            }
        };
        match is_met {
            true => Ok(()),
            false => Err(EngineError::NeedsRole {
                what: what(),
                needed: self.words(),
            }),
        }
    }

    /// Where it is decided, in words; empty where nothing more is needed.
    pub(crate) const fn words(self) -> &'static str {
        match self {
            Self::Nothing => "",
            Self::Operator => "a person with role operator, who says why",
            Self::Admin => "a person with role admin, who says why",
            Self::Door(door) => door,
        }
    }
}

impl Guard {
    /// Of a workflow whose signals say nothing that has to be believed.
    pub const OPEN: Self = Self {
        start: Need::Nothing,
        signals: &[],
        verbs: Need::Nothing,
        ends: Need::Nothing,
    };

    /// Refuses a start by name.
    ///
    /// # Errors
    /// [`EngineError::OwnDoor`], [`EngineError::NeedsRole`].
    pub(crate) fn may_start(&self, workflow: &str) -> Result<(), EngineError> {
        self.start
            .check(|| format!("a run of workflow {workflow:?}"), None)
    }

    /// What a signal takes.
    #[must_use]
    pub fn of_signal(&self, name: &str) -> Need {
        let mut signals = self.signals.iter();
        let found = signals.find(|(known, _)| *known == name);
        found.map_or(Need::Nothing, |(_, need)| *need)
    }

    /// Whether somebody who acts in a role may send a signal; no role is no person.
    ///
    /// # Errors
    /// [`EngineError::OwnDoor`], [`EngineError::NeedsRole`].
    pub fn may_signal(
        &self,
        workflow: &str,
        name: &str,
        role: Option<&str>,
    ) -> Result<(), EngineError> {
        let what = || format!("signal {name} of workflow {workflow:?}");
        self.of_signal(name).check(what, role)
    }

    /// Whether somebody who acts in a role may do a verb to a run.
    ///
    /// # Errors
    /// [`EngineError::OwnDoor`], [`EngineError::NeedsRole`].
    pub fn may_do(&self, workflow: &str, verb: &str, role: &str) -> Result<(), EngineError> {
        let need = match verb {
            verb if ROUND.contains(&verb) => self.verbs,
            verb if ENDS.contains(&verb) => self.ends,
            _ => Need::Nothing,
        };
        let what = || format!("what {verb} would do to a run of workflow {workflow:?}");
        need.check(what, Some(role))
    }
}

#[cfg(test)]
mod tests {
    use super::{ENDS, Guard, Need, ROUND};
    use crate::operator::Verb;

    const GUARD: Guard = Guard {
        start: Need::Door("the counter"),
        signals: &[
            ("Approve", Need::Door("the counter")),
            ("Skip", Need::Operator),
        ],
        verbs: Need::Admin,
        ends: Need::Door("the back door"),
    };

    #[test]
    fn who_may_what_is_told_by_the_role_and_no_role_opens_a_door() {
        for role in [
            None,
            Some("support"),
            Some("operator"),
            Some("admin"),
            Some("system"),
        ] {
            let refused = GUARD.may_signal("deletion", "Approve", role).unwrap_err();
            assert_eq!(
                refused.to_string(),
                "signal Approve of workflow \"deletion\" comes only through the counter"
            );
            let high = !matches!(role, None | Some("support"));
            assert_eq!(GUARD.may_signal("deletion", "Skip", role).is_ok(), high);
            assert!(GUARD.may_signal("deletion", "Look", role).is_ok());
        }
        assert!(GUARD.may_start("deletion").is_err());
        assert!(Guard::OPEN.may_start("notice").is_ok());
        for verb in Verb::WORDS.into_iter().chain(["restart"]) {
            let (round, ends) = (ROUND.contains(&verb), ENDS.contains(&verb));
            let operator = GUARD.may_do("deletion", verb, "operator");
            assert_eq!(operator.is_ok(), !round && !ends, "{verb}");
            let admin = GUARD.may_do("deletion", verb, "admin");
            assert_eq!(admin.is_ok(), !ends, "{verb}");
        }
    }
}

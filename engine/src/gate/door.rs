//! Where runs wait, and what they wait with.

use crate::id::{Epoch, TenantId};
use crate::limit::Need;
use crate::run::RunKey;

/// Where a run waits.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) enum Door {
    /// For room under a limit, in the count of a key.
    Limit { name: String, key: String },
    /// Until a dependency answers again.
    Breaker { name: String },
    /// Until a workflow, queue or tenant goes on.
    Pause { scope: String, name: String },
}

impl Door {
    pub(crate) fn gate(&self) -> &'static str {
        match self {
            Self::Limit { .. } => "limit",
            Self::Breaker { .. } => "breaker",
            Self::Pause { .. } => "pause",
        }
    }

    pub(crate) fn name(&self) -> &str {
        match self {
            Self::Limit { name, .. } | Self::Breaker { name } => name,
            Self::Pause { scope, .. } => scope,
        }
    }

    pub(crate) fn key(&self) -> &str {
        match self {
            Self::Limit { key, .. } => key,
            Self::Breaker { .. } => "",
            Self::Pause { name, .. } => name,
        }
    }

    /// Reads the stored spelling.
    pub(crate) fn decode(gate: &str, name: String, key: String) -> Option<Self> {
        match gate {
            "limit" => Some(Self::Limit { name, key }),
            "breaker" => Some(Self::Breaker { name }),
            "pause" => Some(Self::Pause {
                scope: name,
                name: key,
            }),
            _ => None,
        }
    }

    /// In words, for the log of visits.
    pub(crate) fn describe(&self) -> String {
        match self {
            Self::Limit { name, key } if key.is_empty() => format!("no room under limit {name}"),
            Self::Limit { name, key } => format!("no room under limit {name} for {key}"),
            Self::Breaker { name } => format!("dependency {name} does not answer"),
            Self::Pause { scope, name } => format!("{scope} {name} is paused"),
        }
    }
}

/// Whose count of which limit; or a probe of a dependency.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Place {
    pub(crate) name: String,
    pub(crate) key: String,
}

/// What the permit of a probe is called; limits cannot be called so.
const PROBE: &str = "breaker:";

impl Place {
    pub(crate) fn of(need: &Need) -> Self {
        Self {
            name: need.limit.to_owned(),
            key: need.key.clone(),
        }
    }

    /// The one permit to try whether a dependency answers again.
    pub(crate) fn probe(dependency: &str) -> Self {
        Self {
            name: format!("{PROBE}{dependency}"),
            key: String::new(),
        }
    }

    /// The dependency that the permit is to probe.
    pub(crate) fn probes(&self) -> Option<&str> {
        self.name.strip_prefix(PROBE)
    }

    /// Where others wait for it.
    pub(crate) fn door(self) -> Door {
        match self.probes() {
            Some(dependency) => Door::Breaker {
                name: dependency.to_owned(),
            },
            None => Door::Limit {
                name: self.name,
                key: self.key,
            },
        }
    }
}

/// Room that is given to a run: for a hold, or reserved until it comes.
#[derive(Debug, Clone)]
pub(crate) struct Grant {
    pub(crate) place: Place,
    pub(crate) run: RunKey,
    pub(crate) epoch: Option<Epoch>,
}

/// A run and the door at which it waits.
#[derive(Debug, Clone)]
pub(crate) struct Waiting {
    pub(crate) run: RunKey,
    pub(crate) tenant_id: TenantId,
    pub(crate) later: bool,
    pub(crate) door: Door,
}

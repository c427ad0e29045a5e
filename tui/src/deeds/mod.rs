//! What can be done from here: for each kind of thing the verbs that are offered, what happens, and
//! what is sent.
//!
//! What a verb on a run or a schedule takes and does is the server's to say. The verbs on what bounds,
//! keeps and starts runs are few and known, so their forms stand here, one family a file, as they do
//! on the command line.

pub(crate) mod billing;
pub(crate) mod bulk;
pub(crate) mod flow;
pub(crate) mod keys;
pub(crate) mod life;
pub(crate) mod retention;
pub(crate) mod runs;
pub(crate) mod schedule;
pub(crate) mod start;

use crate::changes::Change;
use crate::event::Act;
use crate::form::Values;
use crate::subject::{Subject, Target};

/// A verb with all that a person said to it.
pub(crate) struct Deed<'a> {
    /// What it is done to.
    pub(crate) subject: &'a Subject,
    /// The verb.
    pub(crate) verb: &'a str,
    /// What the form had in it.
    pub(crate) values: &'a Values,
    /// Why.
    pub(crate) reason: &'a str,
}

impl Deed<'_> {
    /// The reason, to be sent.
    pub(crate) fn why(&self) -> String {
        self.reason.to_owned()
    }

    /// Said of a verb that the server offers and this console does not know.
    pub(crate) fn unknown(&self) -> String {
        let verb = self.verb;
        format!("this console is older than the server and cannot {verb}")
    }
}

/// What will happen.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Preview {
    /// In words.
    pub(crate) effects: Vec<String>,
    /// What changes from what to what.
    pub(crate) changes: Vec<Change>,
}

impl Preview {
    /// Words alone.
    pub(crate) fn words(effects: impl IntoIterator<Item = impl Into<String>>) -> Self {
        Self {
            effects: effects.into_iter().map(Into::into).collect(),
            changes: Vec::new(),
        }
    }

    /// Notes what changes, if it does.
    pub(crate) fn changes(mut self, path: &str, before: String, after: String) -> Self {
        if before != after {
            self.changes.push(Change {
                path: path.to_owned(),
                before,
                after,
            });
        }
        self
    }
}

/// What is sent for a deed, or what is wrong with it.
pub(crate) fn act(deed: &Deed<'_>, dry_run: bool) -> Result<Act, String> {
    match &deed.subject.target {
        Target::Run(run_id, revision) => runs::act(deed, *run_id, *revision, dry_run),
        Target::Schedule(schedule) => schedule::act(deed, schedule),
        Target::NewRun => start::run(deed),
        Target::NewSchedule => start::schedule(deed),
        Target::Flow
        | Target::Limit(_)
        | Target::Pause(_)
        | Target::Breaker(_)
        | Target::Weight(_) => flow::act(deed),
        Target::Many(filter) => bulk::prepare(deed, filter),
        Target::Bulk(bulk) => bulk::act(deed, bulk),
        Target::Policy(_) | Target::Holds | Target::Hold(_) => retention::act(deed),
        Target::Keys(tenant_id, _) => keys::act(deed, *tenant_id),
        Target::AllKeys => Ok(Act::RewrapKeys(deed.why())),
        Target::Tenant(_)
        | Target::Subscription(_)
        | Target::Invoice(..)
        | Target::ServiceHold(_)
        | Target::Exemption(..)
        | Target::Override(..) => billing::act(deed, dry_run),
        Target::Backfill(_)
        | Target::Range(..)
        | Target::Placement(_)
        | Target::Deletion(_)
        | Target::Data(_)
        | Target::DataHold(_)
        | Target::Archive(..) => life::act(deed, dry_run),
    }
}

/// What a deed will do, where the server is not asked beforehand.
pub(crate) fn preview(deed: &Deed<'_>, help: &str) -> Preview {
    match &deed.subject.target {
        Target::Run(..) => Preview::words([help]),
        Target::Schedule(schedule) => schedule::preview(deed, schedule, help),
        Target::NewRun => start::preview_run(deed),
        Target::NewSchedule => start::preview_schedule(deed),
        Target::Flow
        | Target::Limit(_)
        | Target::Pause(_)
        | Target::Breaker(_)
        | Target::Weight(_) => flow::preview(deed),
        Target::Many(filter) => bulk::preview_prepare(deed, filter),
        Target::Bulk(bulk) => bulk::preview(deed, bulk),
        Target::Policy(_) | Target::Holds | Target::Hold(_) => retention::preview(deed),
        Target::Keys(_, versions) => keys::preview(deed, *versions),
        Target::AllKeys => keys::preview_rewrap(),
        Target::Tenant(_)
        | Target::Subscription(_)
        | Target::Invoice(..)
        | Target::ServiceHold(_)
        | Target::Exemption(..)
        | Target::Override(..) => billing::preview(deed, help),
        Target::Backfill(_)
        | Target::Range(..)
        | Target::Placement(_)
        | Target::Deletion(_)
        | Target::Data(_)
        | Target::DataHold(_)
        | Target::Archive(..) => life::preview(deed, help),
    }
}

//! What is to go wrong in a play, and the moments at which something could.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Mutex;

use futures_util::FutureExt as _;
use tokio::sync::Notify;

use crate::error::StepError;

/// A moment of a visit at which a crash leaves something different behind. One after a step's record is
/// none of its own: between it and the next step's effect, or the settlement, nothing is written but what
/// rides with it. A play waits for the record first, which a worker does not before a settlement: without it
/// a crash leaves what one between the effect and the record does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Moment {
    /// What was drawn before a step (the time, an id, a reverse) is about to be written down.
    Riding,
    /// A step's effect is about to start; whether its policy lets it fail and be tried again.
    Before { may_fail: bool },
    /// The outside has answered, and nobody has written it down.
    Answered,
    /// The visit is over, and not settled.
    Settling,
}

/// When the worker is gone, as a script wishes it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Crash {
    /// Before the step's effect.
    Before,
    /// After its effect, with the answer written down nowhere: it is done again, with the same key.
    After,
}

impl fmt::Display for Moment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Riding => "before what was drawn for it is written",
            Self::Before { .. } => "before its effect",
            Self::Answered => "between its effect and the record",
            Self::Settling => "before it is settled",
        })
    }
}

/// One thing that goes wrong; each place is counted from 0 over the whole play.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    /// The worker is gone at a moment.
    Crash(usize),
    /// The step that begins at a moment fails once.
    Fail(usize),
    /// A signal comes twice.
    Double(usize),
    /// A signal and the one after it change places.
    Swap(usize),
}

/// What a play has seen so far, and what is to go wrong in it.
#[derive(Default)]
pub(crate) struct Faults {
    planned: Option<Fault>,
    seen: Mutex<Seen>,
    crash: Notify,
}

#[derive(Default)]
struct Seen {
    /// What each moment was, in words.
    moments: Vec<(Moment, String)>,
    /// The signals, in words.
    signals: Vec<String>,
    /// The first of each two signals that may change places, in words.
    pairs: Vec<String>,
    /// How often steps are to fail by the script's wish.
    failing: BTreeMap<String, u32>,
    /// At which steps the worker is to be gone by the script's wish, and when.
    crashing: Vec<(String, Crash)>,
}

impl Faults {
    pub(crate) fn planned(fault: Fault) -> Self {
        Self {
            planned: Some(fault),
            ..Self::default()
        }
    }

    /// All that could go wrong in the play that was seen, with its name.
    pub(crate) fn possible(&self) -> Vec<(Fault, String)> {
        let seen = self.seen();
        let mut faults = Vec::new();
        // Failing once leaves what a crash before the effect leaves, and one more attempt: of a step that
        // is taken again and again the first time shows it.
        let mut failed = BTreeSet::new();
        for (place, (moment, name)) in seen.moments.iter().enumerate() {
            faults.push((Fault::Crash(place), format!("crash: {name} {moment}")));
            if *moment == (Moment::Before { may_fail: true }) && failed.insert(name) {
                faults.push((Fault::Fail(place), format!("failure: {name}")));
            }
        }
        for (place, name) in seen.signals.iter().enumerate() {
            faults.push((Fault::Double(place), format!("twice: signal {name}")));
        }
        for (place, name) in seen.pairs.iter().enumerate() {
            faults.push((Fault::Swap(place), format!("late: signal {name}")));
        }
        faults
    }

    /// The workflows whose visits were seen.
    pub(crate) fn workflows(&self) -> BTreeSet<String> {
        let seen = self.seen();
        let names = seen.moments.iter();
        let names = names.filter_map(|(_, name)| name.split(' ').next());
        names.map(str::to_owned).collect()
    }

    /// Passes a moment of a visit; fails as planned, and does not return from a crash.
    pub(crate) async fn pass(&self, moment: Moment, name: &str) -> Result<(), StepError> {
        let place = self.note(moment, name);
        if self.planned == Some(Fault::Crash(place)) || self.crashes_at(moment, name) {
            self.crash.notify_one();
            std::future::pending::<()>().await;
        }
        // A crash comes first: the failure that was wished for is left to the next attempt.
        if self.fails_at(moment, name) || self.planned == Some(Fault::Fail(place)) {
            return Err(StepError::retryable(
                "broken_on_purpose",
                "the play says so",
            ));
        }
        Ok(())
    }

    fn note(&self, moment: Moment, name: &str) -> usize {
        let mut seen = self.seen();
        let place = seen.moments.len();
        seen.moments.push((moment, name.to_owned()));
        place
    }

    /// Whether the script wishes this attempt to fail.
    fn fails_at(&self, moment: Moment, name: &str) -> bool {
        if !matches!(moment, Moment::Before { .. }) {
            return false;
        }
        let step = name.rsplit(' ').next().unwrap_or_default();
        let mut seen = self.seen();
        seen.failing.get_mut(step).is_some_and(|left| {
            let fails = *left > 0;
            *left = left.saturating_sub(1);
            fails
        })
    }

    /// Whether the script wishes the worker gone at this moment; each wish comes true once.
    fn crashes_at(&self, moment: Moment, name: &str) -> bool {
        let when = match moment {
            Moment::Before { .. } => Crash::Before,
            Moment::Answered => Crash::After,
            Moment::Riding | Moment::Settling => return false,
        };
        let step = name.rsplit(' ').next().unwrap_or_default();
        let wishes = &mut self.seen().crashing;
        let wish = wishes.iter().position(|(of, at)| of == step && *at == when);
        wish.map(|wish| wishes.remove(wish)).is_some()
    }

    /// Lets the worker be gone at the next attempt at a step of a name.
    pub(crate) fn crash(&self, step: &str, when: Crash) {
        self.seen().crashing.push((step.to_owned(), when));
    }

    /// Lets the next attempts at steps of a name fail.
    pub(crate) fn fail(&self, step: &str, times: u32) {
        self.seen().failing.insert(step.to_owned(), times);
    }

    /// How often the next signal is to be sent.
    pub(crate) fn times(&self, signal: &str) -> usize {
        let mut seen = self.seen();
        let place = seen.signals.len();
        seen.signals.push(signal.to_owned());
        if self.planned == Some(Fault::Double(place)) {
            2
        } else {
            1
        }
    }

    /// The order in which signals are to be sent that may come in any.
    pub(crate) fn order(&self, signals: &[&str]) -> Vec<usize> {
        let mut order: Vec<usize> = (0..signals.len()).collect();
        let mut seen = self.seen();
        for first in 1..signals.len() {
            let place = seen.pairs.len();
            seen.pairs.push(signals[first - 1].to_owned());
            if self.planned == Some(Fault::Swap(place)) {
                order.swap(first - 1, first);
            }
        }
        order
    }

    /// Waits for the planned crash.
    pub(crate) async fn crashed(&self) {
        self.crash.notified().await;
    }

    /// Forgets a crash that came beside the one that was waited for: the worker is gone already.
    pub(crate) fn gone(&self) {
        let _ = self.crashed().now_or_never();
    }

    fn seen(&self) -> std::sync::MutexGuard<'_, Seen> {
        self.seen
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

//! What can be done to all runs that pass a filter, and how many they are.

use crate::deeds::bulk;
use crate::event::{Answer, Request};
use crate::keymap::Context;
use crate::place::{self, Place, cell};
use crate::subject::Offer;
use crate::theme::Tone;
use crate::tree::{Folding, Node};
use chrono::TimeDelta;
use tenure_client::{AllowedAction, RunCount, Whoami};

/// Columns for a verb.
const VERB: usize = 14;

/// A choice among the verbs for many runs.
#[derive(Clone, Debug)]
pub struct Many {
    /// The filter of the list.
    pub(crate) filter: String,
    /// How many runs pass, and the verbs; `None` until the first answer.
    pub(crate) known: Option<(RunCount, Vec<AllowedAction>)>,
    folding: Folding,
}

impl Many {
    /// For all runs that pass a filter.
    pub(crate) fn new(filter: String) -> Self {
        Self {
            filter,
            known: None,
            folding: Folding::default(),
        }
    }

    /// How many runs pass, in words.
    pub(crate) fn count(&self) -> String {
        match &self.known {
            None => "counting".to_owned(),
            Some((count, _)) if count.more => format!("more than {} runs", count.runs),
            Some((count, _)) => crate::deeds::flow::runs(count.runs),
        }
    }

    /// The verb under the cursor.
    pub(crate) fn chosen(&self, columns: usize) -> Option<Offer> {
        let verb = place::cursor(self, columns)?;
        let (_, verbs) = self.known.as_ref()?;
        let action = verbs.iter().find(|action| action.action == verb)?;
        Some(bulk::offer(action, &self.filter))
    }
}

impl Place for Many {
    fn context(&self) -> Context {
        Context::Many
    }

    fn request(&self) -> Request {
        Request::Many(self.filter.clone())
    }

    fn take(&mut self, answer: Answer) -> bool {
        if let Answer::Many(count, verbs) = answer {
            self.known = Some((count, verbs));
        }
        false
    }

    /// A count may look at many runs.
    fn pause(&self) -> TimeDelta {
        TimeDelta::seconds(5)
    }

    fn nodes(&self, _columns: usize) -> Vec<Node> {
        let known = self.known.iter().flat_map(|(_, verbs)| verbs);
        known
            .map(|action| {
                let refused = action.reason.as_ref().filter(|_| !action.allowed);
                let (strong, tone, words) = match refused {
                    Some(why) => (Tone::Dim, Tone::Dim, format!("[not now: {why}]")),
                    None => (Tone::Strong, Tone::Plain, action.help.clone()),
                };
                let line = vec![cell(strong, &action.action, VERB), (tone, words)];
                Node::leaf(&action.action, line, &action.action)
            })
            .collect()
    }

    fn folding(&self) -> Folding {
        self.folding.clone()
    }

    fn folding_mut(&mut self) -> &mut Folding {
        &mut self.folding
    }

    fn offers(&self, _who: &Whoami, _columns: usize) -> Vec<Offer> {
        let verbs = self.known.iter().flat_map(|(_, verbs)| verbs);
        verbs
            .map(|action| bulk::offer(action, &self.filter))
            .collect()
    }
}

//! One run: what is known of it, which tab is open, and what is folded.

use crate::contents;
use crate::dialog::{Subject, SubjectId};
use crate::event::{Content, Request, RunAnswer};
use crate::tree::{Folding, Node};
use chrono::{DateTime, Utc};
use std::collections::BTreeMap;
use tenure_client::{AllowedAction, RunDetail, RunSummary, Tenant, TestClock};

/// A tab of a run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Tab {
    /// What happened.
    #[default]
    Timeline,
    /// The data of the state.
    Data,
    /// Steps and their answers.
    Steps,
    /// The inbox.
    Signals,
    /// Mails to the tenant.
    Mails,
}

impl Tab {
    /// Every tab, from the left.
    pub const ALL: [Self; 5] = [
        Self::Timeline,
        Self::Data,
        Self::Steps,
        Self::Signals,
        Self::Mails,
    ];

    /// Its heading.
    pub const fn title(self) -> &'static str {
        match self {
            Self::Timeline => "timeline",
            Self::Data => "data",
            Self::Steps => "steps",
            Self::Signals => "signals",
            Self::Mails => "mails",
        }
    }

    /// The tab so many places further, around the end.
    pub fn turned(self, by: isize) -> Self {
        let here = Self::ALL.iter().position(|tab| *tab == self).unwrap_or(0);
        let count = Self::ALL.len().cast_signed();
        let there = (here.cast_signed() + by).rem_euclid(count).cast_unsigned();
        Self::ALL.get(there).copied().unwrap_or_default()
    }
}

/// Why an act is refused, in the server's words where it gave some.
pub(crate) fn why_not(action: &AllowedAction) -> &str {
    let reason = action.reason.as_deref();
    reason.unwrap_or("the server does not allow it")
}

/// One run, looked at closely.
#[derive(Clone, Debug)]
pub struct Detail {
    /// What the list showed, or what the server said last.
    pub(crate) summary: RunSummary,
    /// The run; `None` until the first answer.
    pub(crate) run: Option<RunDetail>,
    /// Its tenant, where it may be seen.
    pub(crate) tenant: Option<Tenant>,
    /// The tenant's test clock.
    pub(crate) clock: Option<TestClock>,
    /// The open tab.
    pub(crate) tab: Tab,
    /// Whether all of the explanation is shown.
    pub(crate) why_open: bool,
    contents: BTreeMap<Tab, Content>,
    foldings: BTreeMap<Tab, Folding>,
}

impl Detail {
    /// Opens a run from its line in the list.
    pub(crate) fn open(summary: RunSummary) -> Self {
        Self {
            summary,
            run: None,
            tenant: None,
            clock: None,
            tab: Tab::default(),
            why_open: false,
            contents: BTreeMap::new(),
            foldings: BTreeMap::new(),
        }
    }

    /// The next question to the server.
    pub(crate) fn request(&self) -> Request {
        Request::Run {
            run_id: self.summary.run_id,
            tenant_id: self.summary.tenant_id,
            tab: self.tab,
            tenant: self.tenant.clone().map(Box::new),
        }
    }

    /// Takes the server's answer.
    pub(crate) fn take(&mut self, answer: RunAnswer) {
        self.summary = answer.run.summary.clone();
        self.run = Some(answer.run);
        self.tenant = answer.tenant.or(self.tenant.take());
        self.clock = answer.clock;
        self.contents.insert(self.tab, answer.content);
    }

    /// The tenant's name, or what stands for it.
    pub(crate) fn tenant_name(&self) -> String {
        let named = self.tenant.as_ref().map(|tenant| tenant.name.clone());
        named
            .or_else(|| self.summary.tenant_name.clone())
            .unwrap_or_else(|| {
                let id = self.summary.tenant_id.to_string();
                format!("tenant {}", id.get(..8).unwrap_or(&id))
            })
    }

    /// Everything that could be done to the run, once it is known.
    pub(crate) fn actions(&self) -> &[AllowedAction] {
        self.run.as_ref().map_or(&[], |run| &run.allowed_actions)
    }

    /// The run as something to act on, once it is known.
    pub(crate) fn subject(&self) -> Option<Subject> {
        let run = self.run.as_ref()?;
        Some(Subject {
            id: SubjectId::Run(run.summary.run_id),
            title: format!("{} of {}", run.summary.workflow, self.tenant_name()),
            revision: run.revision,
        })
    }

    /// The time on the tenant's own clock, where a test clock holds it.
    pub(crate) fn tenant_now(&self) -> Option<DateTime<Utc>> {
        self.clock.as_ref().map(|clock| clock.now)
    }

    /// The contents of the open tab; `None` until they are known.
    pub(crate) fn content(&self) -> Option<&Content> {
        self.contents.get(&self.tab)
    }

    /// The open tab as lines that fold, for a window so many columns wide.
    pub(crate) fn nodes(&self, columns: usize) -> Vec<Node> {
        match (self.content(), &self.run) {
            (Some(Content::Data), Some(run)) => contents::data(run),
            (Some(content), _) => contents::nodes(content, columns),
            (None, _) => Vec::new(),
        }
    }

    /// What is folded in the open tab.
    pub(crate) fn folding(&self) -> Folding {
        self.foldings.get(&self.tab).cloned().unwrap_or_default()
    }

    /// The same, to change it.
    pub(crate) fn folding_mut(&mut self) -> &mut Folding {
        self.foldings.entry(self.tab).or_default()
    }
}

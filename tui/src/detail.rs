//! One run: what is known of it, which tab is open, and what is folded.

use crate::contents;
use crate::deeds::{retention, runs};
use crate::event::{Answer, Content, Request, RunAnswer};
use crate::keymap::Context;
use crate::place::Place;
use crate::reveal::{self, Revealed};
use crate::subject::{Offer, Subject, Target};
use crate::text;
use crate::tree::{Folding, Node};
use chrono::{DateTime, Utc};
use std::collections::BTreeMap;
use tenure_client::{AllowedAction, RunDetail, RunSummary, Tenant, TestClock, Whoami};
use uuid::Uuid;

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

/// One run, looked at closely.
#[derive(Clone, Debug)]
pub struct Detail {
    /// The run's id.
    pub(crate) run_id: Uuid,
    /// What the list showed, or what the server said last; `None` for one that only its id is known of.
    pub(crate) summary: Option<RunSummary>,
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
    /// The private fields on show.
    pub(crate) revealed: Revealed,
    contents: BTreeMap<Tab, Content>,
    foldings: BTreeMap<Tab, Folding>,
}

impl Detail {
    /// Opens a run from its line in the list.
    pub(crate) fn open(summary: RunSummary) -> Self {
        Self {
            summary: Some(summary.clone()),
            ..Self::of(summary.run_id)
        }
    }

    /// Opens a run that only its id is known of.
    pub(crate) fn of(run_id: Uuid) -> Self {
        Self {
            run_id,
            summary: None,
            run: None,
            tenant: None,
            clock: None,
            tab: Tab::default(),
            why_open: false,
            revealed: Revealed::default(),
            contents: BTreeMap::new(),
            foldings: BTreeMap::new(),
        }
    }

    fn keep(&mut self, answer: RunAnswer) {
        self.summary = Some(answer.run.summary.clone());
        self.run = Some(answer.run);
        self.tenant = answer.tenant.or(self.tenant.take());
        self.clock = answer.clock;
        self.contents.insert(self.tab, answer.content);
    }

    /// The tenant's name, or what stands for it.
    pub(crate) fn tenant_name(&self) -> String {
        let named = self.tenant.as_ref().map(|tenant| tenant.name.clone());
        let summary = self.summary.as_ref();
        named
            .or_else(|| summary.and_then(|run| run.tenant_name.clone()))
            .or_else(|| {
                let id = text::end_of(summary?.tenant_id);
                Some(format!("tenant {id}"))
            })
            .unwrap_or_default()
    }

    /// Everything that could be done to the run, once it is known.
    pub(crate) fn actions(&self) -> &[AllowedAction] {
        self.run.as_ref().map_or(&[], |run| &run.allowed_actions)
    }

    /// The run as something to act on, once it is known.
    pub(crate) fn subject(&self) -> Option<Subject> {
        let run = self.run.as_ref()?;
        let title = format!("{} of {}", run.summary.workflow, self.tenant_name());
        Some(Subject::new(Target::Run(self.run_id, run.revision), title))
    }

    /// The time on the tenant's own clock, where a test clock holds it.
    pub(crate) fn tenant_now(&self) -> Option<DateTime<Utc>> {
        self.clock.as_ref().map(|clock| clock.now)
    }

    /// The private field under the cursor, if it is one.
    fn field(&self, columns: usize) -> Option<String> {
        let nodes = self.nodes(columns);
        let folding = self.folding();
        let rows = folding.rows(&nodes);
        reveal::field_of(rows.get(folding.position(&rows))?.node)
    }

    /// The contents of the open tab; `None` until they are known.
    pub(crate) fn content(&self) -> Option<&Content> {
        self.contents.get(&self.tab)
    }
}

impl Place for Detail {
    fn context(&self) -> Context {
        Context::Detail
    }

    fn request(&self) -> Request {
        Request::Run {
            run_id: self.run_id,
            tenant_id: self.summary.as_ref().map(|run| run.tenant_id),
            tab: self.tab,
            tenant: self.tenant.clone().map(Box::new),
        }
    }

    fn take(&mut self, answer: Answer) -> bool {
        if let Answer::Run(answer) = answer {
            self.keep(*answer);
        }
        false
    }

    fn nodes(&self, columns: usize) -> Vec<Node> {
        let mut nodes = match (self.content(), &self.run) {
            (Some(Content::Data), Some(run)) => contents::data(run),
            (Some(content), _) => contents::nodes(content, columns),
            (None, _) => Vec::new(),
        };
        self.revealed.lift(&mut nodes, columns);
        nodes
    }

    /// What is folded in the open tab.
    fn folding(&self) -> Folding {
        self.foldings.get(&self.tab).cloned().unwrap_or_default()
    }

    fn folding_mut(&mut self) -> &mut Folding {
        self.foldings.entry(self.tab).or_default()
    }

    /// What the server names, and what is kept of the run.
    fn offers(&self, who: &Whoami, columns: usize) -> Vec<Offer> {
        let (Some(run), Some(subject)) = (&self.run, self.subject()) else {
            return Vec::new();
        };
        let verbs = run.allowed_actions.iter();
        let field = self.field(columns);
        let verbs = verbs.map(|action| {
            let mut offer = Offer::of_server(action, &subject, Some(run));
            if let (runs::REVEAL, Some(arg)) = (action.action.as_str(), offer.form.args.first_mut())
            {
                arg.begin = field.clone().unwrap_or_default();
            }
            offer
        });
        let held = Subject::new(Target::Holds, subject.title.clone());
        let place = retention::place(who, &held, None, Some(self.run_id));
        let holds = run.legal_holds.iter().filter_map(|hold| {
            let target = Target::Hold(Box::new(hold.clone()));
            retention::offer(who, &target)
        });
        verbs.chain([place]).chain(holds).collect()
    }

    fn latest(&self, target: &Target) -> Option<String> {
        let run = self.run.as_ref()?;
        let now = Target::Run(self.run_id, run.revision);
        now.is_same(target).then(|| now.seen())
    }
}

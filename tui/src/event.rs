//! Everything that can happen, everything that can be asked, and everything that may be answered.

use crate::detail::Tab;
use chrono::{DateTime, Utc};
use serde_json::Value;
use tenure_client::{
    ActOnRun, ActOnSchedule, ActionAccepted, Mail, Page, RunDetail, RunFilter, RunSummary,
    Schedule, ScheduleDetail, Signal, Step, Tenant, TestClock, Transition,
};
use uuid::Uuid;

/// Everything that can happen to the console.
#[derive(Clone, Debug)]
pub enum Event {
    /// A key, a paste, a new size, or the window's focus.
    Terminal(crossterm::event::Event),
    /// Time passed; it is now this late.
    Tick(DateTime<Utc>),
    /// The server answered a question.
    Answer {
        /// The generation of the view that asked.
        generation: u64,
        /// When the answer came.
        at: DateTime<Utc>,
        /// What it says.
        answer: Answer,
    },
    /// The server answered an act.
    Acted {
        /// The intent that the act carried out.
        intent: u64,
        /// What was done or would be, or why not.
        result: Result<Done, Refusal>,
    },
    /// The system asks the process to end.
    Terminate,
}

/// What `update` wants done.
#[derive(Clone, Debug, PartialEq)]
pub enum Action {
    /// Ask the server.
    Ask {
        /// Goes back with the answer.
        generation: u64,
        /// The question.
        request: Request,
    },
    /// Change something on the server.
    Act {
        /// Names the wish: the same intent is carried out once, however often it is sent.
        intent: u64,
        /// The change.
        act: Act,
    },
    /// Put text on the clipboard.
    Copy(String),
    /// Leave.
    Quit,
}

/// A question that changes nothing.
#[derive(Clone, Debug, PartialEq)]
pub enum Request {
    /// A page of runs.
    Runs(RunFilter),
    /// One run with the contents of a tab.
    Run {
        /// The run.
        run_id: Uuid,
        /// Its tenant.
        tenant_id: Uuid,
        /// The tab that is open.
        tab: Tab,
        /// The tenant, once it is known.
        tenant: Option<Box<Tenant>>,
    },
    /// The newest mails to all tenants.
    Mails,
    /// All schedules, and one of them closely.
    Schedules(Option<Uuid>),
}

/// A change that a person confirmed.
#[derive(Clone, Debug, PartialEq)]
pub enum Act {
    /// Send a signal.
    Signal {
        /// The run.
        run_id: Uuid,
        /// The value of the workflow's signal enum.
        signal: Value,
        /// Why.
        reason: String,
    },
    /// Do a verb to a run, or ask what that would do.
    Verb {
        /// The run.
        run_id: Uuid,
        /// The verb, in the server's word.
        verb: String,
        /// The arguments, the reason and the revision that the person saw.
        body: Box<ActOnRun>,
    },
    /// Do a verb to a schedule.
    Schedule {
        /// The schedule.
        schedule_id: Uuid,
        /// The verb.
        verb: ScheduleVerb,
        /// The reason and the revision that the person saw.
        body: ActOnSchedule,
    },
}

/// What the console can do to a schedule. To change one takes a form of its own, which the command
/// line has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ScheduleVerb {
    /// Stop its slots from coming about.
    Pause,
    /// Go on with the first slot after now.
    Resume,
    /// Start an extra run.
    RunNow,
    /// Take it away.
    Delete,
}

impl ScheduleVerb {
    /// Understands the server's word.
    pub fn parse(word: &str) -> Option<Self> {
        Some(match word {
            "pause" => Self::Pause,
            "resume" => Self::Resume,
            "run-now" => Self::RunNow,
            "delete" => Self::Delete,
            _ => return None,
        })
    }
}

/// What the server said to an act.
#[derive(Clone, Debug, PartialEq)]
pub enum Done {
    /// What it would do; nothing was done.
    Would(Box<ActionAccepted>),
    /// What it did, in words.
    Did(String),
}

/// What the server said to a question.
#[derive(Clone, Debug)]
pub enum Answer {
    /// To [`Request::Runs`].
    Runs(Page<RunSummary>),
    /// To [`Request::Run`].
    Run(Box<RunAnswer>),
    /// To [`Request::Mails`].
    Mails(Vec<Mail>),
    /// To [`Request::Schedules`].
    Schedules(Vec<Schedule>, Option<Box<ScheduleDetail>>),
    /// To any: no.
    Failed(Refusal),
}

/// A run with what surrounds it.
#[derive(Clone, Debug)]
pub struct RunAnswer {
    /// The run.
    pub run: RunDetail,
    /// Its tenant, where the asker may see it.
    pub tenant: Option<Tenant>,
    /// The tenant's test clock, where it is bound to one.
    pub clock: Option<TestClock>,
    /// The contents of the tab that was asked for.
    pub content: Content,
}

/// The contents of a tab.
#[derive(Clone, Debug, PartialEq)]
pub enum Content {
    /// Transitions and steps.
    Timeline(Vec<Transition>, Vec<Step>),
    /// Nothing beyond the run itself.
    Data,
    /// Steps.
    Steps(Vec<Step>),
    /// The inbox.
    Signals(Vec<Signal>),
    /// Mails to the tenant.
    Mails(Vec<Mail>),
    /// The server refused this tab, in its words.
    Refused(String),
}

/// A no, in words for a person.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// Whether the server was reached and answered for itself.
    pub reached: bool,
    /// Whether the same question may be answered later.
    pub retryable: bool,
    /// The problem's own words, or the transport's.
    pub words: String,
}

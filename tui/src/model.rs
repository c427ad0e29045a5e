//! Everything the console knows at one moment.

use crate::detail::Detail;
use crate::dialog::{Dialog, Subject};
use crate::event::Request;
use crate::keymap::Context;
use crate::link::Link;
use crate::list::RunList;
use crate::mails::Mails;
use crate::schedules::Schedules;
use crate::theme::{Theme, Tone};
use chrono::{DateTime, TimeDelta, Utc};
use tenure_client::{AllowedAction, Whoami};

/// How long a message stays.
const TOAST_SECONDS: i64 = 4;
/// How long a message stays that tells of trouble.
const TROUBLE_SECONDS: i64 = 12;
/// The size taken until the terminal tells its own.
const SIZE: (u16, u16) = (80, 24);

/// Everything the console knows at one moment. Views only read it; `update` alone changes it.
#[derive(Clone, Debug)]
pub struct Model {
    pub(crate) now: DateTime<Utc>,
    pub(crate) size: (u16, u16),
    pub(crate) focused: bool,
    pub(crate) who: Whoami,
    pub(crate) theme: Theme,
    pub(crate) list: RunList,
    /// Screens over the list; the last is on show.
    pub(crate) over: Vec<Screen>,
    /// The place of the cursor in the menu of acts, while it is open.
    pub(crate) menu: Option<usize>,
    pub(crate) dialog: Option<Dialog>,
    /// How far the help page is scrolled, while it is open.
    pub(crate) help: Option<usize>,
    pub(crate) toast: Option<Toast>,
    pub(crate) link: Link,
    intents: u64,
}

/// A screen that stands over the list.
#[derive(Clone, Debug)]
pub enum Screen {
    /// One run.
    Detail(Box<Detail>),
    /// The mails of all tenants.
    Mails(Mails),
    /// All schedules.
    Schedules(Schedules),
}

/// A message that goes away by itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Toast {
    pub(crate) tone: Tone,
    pub(crate) text: String,
    pub(crate) until: DateTime<Utc>,
}

impl Model {
    /// A console that has just connected and knows nothing but who is asking.
    pub fn new(who: Whoami, theme: Theme, now: DateTime<Utc>) -> Self {
        Self {
            now,
            size: SIZE,
            focused: true,
            who,
            theme,
            list: RunList::default(),
            over: Vec::new(),
            menu: None,
            dialog: None,
            help: None,
            toast: None,
            link: Link::new(now),
            intents: 0,
        }
    }

    /// The list of runs, which is always there.
    pub fn list(&self) -> &RunList {
        &self.list
    }

    /// The message on show.
    pub fn toast(&self) -> Option<&str> {
        self.toast.as_ref().map(|toast| toast.text.as_str())
    }

    /// Whether a dialog is open.
    pub fn has_dialog(&self) -> bool {
        self.dialog.is_some()
    }

    /// Where the person is, as far as keys are concerned.
    pub fn context(&self) -> Context {
        if self.help.is_some() {
            Context::Help
        } else {
            self.place()
        }
    }

    /// The same below the help page.
    pub(crate) fn place(&self) -> Context {
        match (&self.dialog, self.over.last()) {
            (Some(_), _) => Context::Dialog,
            (None, Some(_)) if self.menu.is_some() => Context::Menu,
            (None, Some(Screen::Detail(_))) => Context::Detail,
            (None, Some(Screen::Mails(_))) => Context::Mails,
            (None, Some(Screen::Schedules(_))) => Context::Schedules,
            (None, None) if self.list.editing.is_some() => Context::Filter,
            (None, None) => Context::List,
        }
    }

    /// The run on show.
    pub(crate) fn detail(&self) -> Option<&Detail> {
        match self.over.last() {
            Some(Screen::Detail(detail)) => Some(detail),
            _ => None,
        }
    }

    /// The same, to change it.
    pub(crate) fn detail_mut(&mut self) -> Option<&mut Detail> {
        match self.over.last_mut() {
            Some(Screen::Detail(detail)) => Some(detail),
            _ => None,
        }
    }

    /// The question that keeps the screen on show fresh.
    pub(crate) fn request(&self) -> Request {
        match self.over.last() {
            Some(Screen::Detail(detail)) => detail.request(),
            Some(Screen::Mails(_)) => Request::Mails,
            Some(Screen::Schedules(schedules)) => schedules.request(),
            None => self.list.request(),
        }
    }

    /// What a person can act on here, once it is known.
    pub(crate) fn subject(&self) -> Option<Subject> {
        match self.over.last()? {
            Screen::Detail(detail) => detail.subject(),
            Screen::Schedules(schedules) => schedules.subject(),
            Screen::Mails(_) => None,
        }
    }

    /// What could be done to it.
    pub(crate) fn actions(&self) -> Vec<&AllowedAction> {
        match self.over.last() {
            Some(Screen::Detail(detail)) => detail.actions().iter().collect(),
            Some(Screen::Schedules(schedules)) => schedules.actions(),
            Some(Screen::Mails(_)) | None => Vec::new(),
        }
    }

    /// Columns of the window.
    pub(crate) fn columns(&self) -> usize {
        usize::from(self.size.0)
    }

    /// Lines that a page key moves by.
    pub(crate) fn page(&self) -> isize {
        isize::try_from(self.size.1)
            .unwrap_or(24)
            .saturating_sub(8)
            .max(1)
    }

    /// A number that no wish had before.
    pub(crate) fn new_intent(&mut self) -> u64 {
        self.intents += 1;
        self.intents
    }

    /// Shows a message for a while.
    pub(crate) fn say(&mut self, tone: Tone, text: impl Into<String>) {
        let seconds = if tone == Tone::Bad {
            TROUBLE_SECONDS
        } else {
            TOAST_SECONDS
        };
        let until = self.now + TimeDelta::seconds(seconds);
        self.toast = Some(Toast {
            tone,
            text: text.into(),
            until,
        });
    }
}

//! Everything the console knows at one moment.

use crate::audit::Audit;
use crate::bulk::Bulk;
use crate::bulks::Bulks;
use crate::detail::Detail;
use crate::dialog::Dialog;
use crate::event::Request;
use crate::flow::Flow;
use crate::keymap::Context;
use crate::life::{BackfillPage, DeletionPage, ExportPage, Life};
use crate::link::Link;
use crate::list::RunList;
use crate::mails::Mails;
use crate::many::Many;
use crate::menu::Menu;
use crate::pages::Paged;
use crate::place::Place;
use crate::retention::Retention;
use crate::reveal::Revealed;
use crate::schedules::Schedules;
use crate::subject::Offer;
use crate::tenant::TenantPage;
use crate::tenants::Tenants;
use crate::theme::{Theme, Tone};
use chrono::{DateTime, TimeDelta, Utc};
use tenure_client::Whoami;

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
    /// The workflows that the server named when the console began.
    pub(crate) workflows: Vec<String>,
    pub(crate) theme: Theme,
    pub(crate) list: RunList,
    /// Screens over the list; the last is on show.
    pub(crate) over: Vec<Screen>,
    /// The menu of acts, while it is open.
    pub(crate) menu: Option<Menu>,
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
    /// Flow control.
    Flow(Flow),
    /// Retention and legal holds.
    Retention(Retention),
    /// What people did.
    Audit(Box<Audit>),
    /// What can be done to many runs.
    Many(Many),
    /// Operations on many runs.
    Bulks(Bulks),
    /// One of them.
    Bulk(Box<Bulk>),
    /// Tenants that were looked for.
    Tenants(Tenants),
    /// One tenant.
    Tenant(Box<TenantPage>),
    /// What becomes of tenants' data.
    Life(Box<Life>),
    /// A backfill.
    Backfill(Box<BackfillPage>),
    /// A deletion.
    Deletion(Box<DeletionPage>),
    /// An export.
    Export(Box<ExportPage>),
}

impl Screen {
    /// What it has in common with the others.
    pub(crate) fn place(&self) -> &dyn Place {
        match self {
            Self::Detail(screen) => &**screen,
            Self::Mails(screen) => screen,
            Self::Schedules(screen) => screen,
            Self::Flow(screen) => screen,
            Self::Retention(screen) => screen,
            Self::Audit(screen) => &**screen,
            Self::Many(screen) => screen,
            Self::Bulks(screen) => screen,
            Self::Bulk(screen) => &**screen,
            Self::Tenants(screen) => screen,
            Self::Tenant(screen) => &**screen,
            Self::Life(screen) => &**screen,
            Self::Backfill(screen) => &**screen,
            Self::Deletion(screen) => &**screen,
            Self::Export(screen) => &**screen,
        }
    }

    /// The same, to change it.
    pub(crate) fn place_mut(&mut self) -> &mut dyn Place {
        match self {
            Self::Detail(screen) => &mut **screen,
            Self::Mails(screen) => screen,
            Self::Schedules(screen) => screen,
            Self::Flow(screen) => screen,
            Self::Retention(screen) => screen,
            Self::Audit(screen) => &mut **screen,
            Self::Many(screen) => screen,
            Self::Bulks(screen) => screen,
            Self::Bulk(screen) => &mut **screen,
            Self::Tenants(screen) => screen,
            Self::Tenant(screen) => &mut **screen,
            Self::Life(screen) => &mut **screen,
            Self::Backfill(screen) => &mut **screen,
            Self::Deletion(screen) => &mut **screen,
            Self::Export(screen) => &mut **screen,
        }
    }
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
            workflows: Vec::new(),
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

    /// The same, knowing which workflows there are.
    #[must_use]
    pub fn with_workflows(self, workflows: Vec<String>) -> Self {
        Self { workflows, ..self }
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
            (None, Some(screen)) => screen.place().context(),
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

    /// What is turned page by page here, if anything is.
    pub(crate) fn paged(&self) -> Option<&dyn Paged> {
        match self.over.last() {
            None => Some(&self.list),
            Some(Screen::Bulk(bulk)) => Some(&**bulk),
            Some(Screen::Life(life)) => Some(&**life),
            Some(Screen::Backfill(page)) => Some(&**page),
            Some(Screen::Audit(audit)) => Some(&**audit),
            Some(_) => None,
        }
    }

    /// The same, to turn it.
    pub(crate) fn paged_mut(&mut self) -> Option<&mut dyn Paged> {
        match self.over.last_mut() {
            None => Some(&mut self.list),
            Some(Screen::Bulk(bulk)) => Some(&mut **bulk),
            Some(Screen::Life(life)) => Some(&mut **life),
            Some(Screen::Backfill(page)) => Some(&mut **page),
            Some(Screen::Audit(audit)) => Some(&mut **audit),
            Some(_) => None,
        }
    }

    /// What is shown of private fields, of all runs that were opened.
    pub(crate) fn revealed_mut(&mut self) -> impl Iterator<Item = &mut Revealed> {
        self.over.iter_mut().filter_map(|screen| match screen {
            Screen::Detail(detail) => Some(&mut detail.revealed),
            _ => None,
        })
    }

    /// The question that keeps the screen on show fresh.
    pub(crate) fn request(&self) -> Request {
        match self.over.last() {
            Some(screen) => screen.place().request(),
            None => self.list.request(),
        }
    }

    /// What could be done here.
    pub(crate) fn offers(&self) -> Vec<Offer> {
        let screen = self.over.last();
        screen.map_or_else(Vec::new, |screen| {
            screen.place().offers(&self.who, self.columns())
        })
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

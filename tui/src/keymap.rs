//! The one table in which keys become commands.
//!
//! Help, footer and the printed key list are read from it, so they cannot disagree with what the keys
//! do. In the contexts that hold a text field, every key that is not in the table is typing.

use crate::detail::Tab;
use crate::life::Shelf;
use crossterm::event::{KeyCode, KeyEvent, KeyModifiers};

/// Where the person is, as far as keys are concerned.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Context {
    /// The list of runs.
    List,
    /// The filter line, of the list or of what people did.
    Filter,
    /// One run.
    Detail,
    /// The mails of all tenants.
    Mails,
    /// All schedules.
    Schedules,
    /// Flow control.
    Flow,
    /// Retention and legal holds.
    Retention,
    /// What people did.
    Audit,
    /// The verbs for all runs that pass a filter.
    Many,
    /// Operations on many runs.
    Bulks,
    /// One of them.
    Bulk,
    /// The line in which a tenant is looked for.
    Find,
    /// Tenants that were found.
    Tenants,
    /// One tenant.
    Tenant,
    /// What becomes of tenants' data.
    Life,
    /// One backfill.
    Backfill,
    /// One deletion of a tenant.
    Deletion,
    /// One export of a tenant.
    Export,
    /// The menu of what can be done here.
    Menu,
    /// A dialog that will change something.
    Dialog,
    /// The help page.
    Help,
}

impl Context {
    /// Every context, in reading order.
    pub const ALL: [Self; 21] = [
        Self::List,
        Self::Filter,
        Self::Detail,
        Self::Mails,
        Self::Schedules,
        Self::Flow,
        Self::Retention,
        Self::Audit,
        Self::Many,
        Self::Bulks,
        Self::Bulk,
        Self::Find,
        Self::Tenants,
        Self::Tenant,
        Self::Life,
        Self::Backfill,
        Self::Deletion,
        Self::Export,
        Self::Menu,
        Self::Dialog,
        Self::Help,
    ];

    /// The heading of its keys.
    pub const fn title(self) -> &'static str {
        match self {
            Self::List => "Run list",
            Self::Filter => "Filter line",
            Self::Detail => "Run",
            Self::Mails => "Mails",
            Self::Schedules => "Schedules",
            Self::Flow => "Flow",
            Self::Retention => "Retention and holds",
            Self::Audit => "Audit",
            Self::Many => "Verbs for many runs",
            Self::Bulks => "Operations on many runs",
            Self::Bulk => "Operation",
            Self::Find => "Find a tenant",
            Self::Tenants => "Tenants",
            Self::Tenant => "Tenant",
            Self::Life => "Data of tenants",
            Self::Backfill => "Backfill",
            Self::Deletion => "Deletion",
            Self::Export => "Export",
            Self::Menu => "Acts",
            Self::Dialog => "Dialog",
            Self::Help => "Help",
        }
    }
}

/// What a person can ask for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Command {
    /// Leave the console.
    Quit,
    /// Show the keys of this place.
    Help,
    /// Go back one step, changing nothing.
    Back,
    /// Ask the server again now.
    Reload,
    /// Move the cursor by lines.
    Move(isize),
    /// Move the cursor by pages.
    MovePage(isize),
    /// Go to the first line.
    First,
    /// Go to the last line.
    Last,
    /// Open what is under the cursor, or unfold it where there is nothing behind it.
    Open,
    /// Unfold or fold what is under the cursor.
    Unfold,
    /// Edit the filter.
    EditFilter,
    /// Use the filter as typed.
    ApplyFilter,
    /// Older runs.
    NextPage,
    /// Newer runs.
    PreviousPage,
    /// The mails of all tenants.
    ShowMails,
    /// All schedules.
    ShowSchedules,
    /// Flow control.
    ShowFlow,
    /// Retention and legal holds.
    ShowRetention,
    /// What people did: to what is on show, or all of it.
    ShowAudit,
    /// Operations on many runs.
    ShowBulks,
    /// Look for a tenant.
    FindTenant,
    /// The page of the run's tenant.
    ShowTenant,
    /// A shelf of what becomes of tenants' data.
    ShowLife(Shelf),
    /// The verbs for all runs that pass the filter.
    ActOnMany,
    /// Prepare a new run.
    StartRun,
    /// A tab of the run.
    ShowTab(Tab),
    /// The next tab of the run.
    NextTab,
    /// The tab before.
    PreviousTab,
    /// All of the explanation, or its first lines.
    ToggleWhy,
    /// Open every node.
    UnfoldAll,
    /// Close every node.
    FoldAll,
    /// Copy what is under the cursor.
    Copy,
    /// The menu of what can be done.
    ShowMenu,
    /// Prepare the act under the cursor.
    Choose,
    /// Prepare a signal to the run.
    Signal,
    /// Prepare a retry of the run.
    Retry,
    /// Prepare to show the private field under the cursor.
    Reveal,
    /// Next field of a dialog.
    NextField,
    /// The field before.
    PreviousField,
    /// Go on from a field, or press a button.
    Press,
}

/// One key with its modifier.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Key {
    code: KeyCode,
    control: bool,
}

impl Key {
    const fn plain(code: KeyCode) -> Self {
        Self {
            code,
            control: false,
        }
    }

    const fn char(character: char) -> Self {
        Self::plain(KeyCode::Char(character))
    }

    const fn control(character: char) -> Self {
        Self {
            code: KeyCode::Char(character),
            control: true,
        }
    }

    /// The key's name on a keyboard.
    pub fn name(self) -> String {
        let name = match self.code {
            KeyCode::Char(' ') => "Space".to_owned(),
            KeyCode::Char(character) if self.control => character.to_ascii_uppercase().to_string(),
            KeyCode::Char(character) => character.to_string(),
            KeyCode::PageUp => "PgUp".to_owned(),
            KeyCode::PageDown => "PgDn".to_owned(),
            KeyCode::BackTab => "Shift-Tab".to_owned(),
            KeyCode::F(number) => format!("F{number}"),
            other => format!("{other:?}"),
        };
        if self.control {
            format!("Ctrl-{name}")
        } else {
            name
        }
    }
}

/// A row of the table.
#[derive(Clone, Copy, Debug)]
pub struct Binding {
    /// What the keys ask for.
    pub command: Command,
    /// Where they do.
    pub contexts: &'static [Context],
    /// The keys; the first is the one to show.
    pub keys: &'static [Key],
    /// One line for the help page.
    pub help: &'static str,
    /// One word for the footer, where the key deserves a place in it.
    pub label: Option<&'static str>,
}

/// Where lines unfold and lead nowhere.
const PLAIN: &[Context] = &[
    Context::Detail,
    Context::Mails,
    Context::Schedules,
    Context::Export,
];
/// Where a line may lead to another screen.
const DOORS: &[Context] = &[
    Context::Flow,
    Context::Retention,
    Context::Audit,
    Context::Bulks,
    Context::Bulk,
    Context::Tenants,
    Context::Tenant,
    Context::Life,
    Context::Backfill,
    Context::Deletion,
];
/// The same where lines unfold as well.
const UNFOLDING: &[Context] = &[
    Context::Flow,
    Context::Retention,
    Context::Audit,
    Context::Bulks,
    Context::Tenant,
    Context::Life,
    Context::Backfill,
    Context::Deletion,
];
const TREES: &[Context] = &[
    Context::Detail,
    Context::Mails,
    Context::Schedules,
    Context::Flow,
    Context::Retention,
    Context::Audit,
    Context::Bulks,
    Context::Tenant,
    Context::Life,
    Context::Backfill,
    Context::Deletion,
    Context::Export,
];
const OVER: &[Context] = &[
    Context::Detail,
    Context::Mails,
    Context::Schedules,
    Context::Flow,
    Context::Retention,
    Context::Audit,
    Context::Many,
    Context::Bulks,
    Context::Bulk,
    Context::Tenants,
    Context::Tenant,
    Context::Life,
    Context::Backfill,
    Context::Deletion,
    Context::Export,
];
const LOOKING: &[Context] = &[
    Context::List,
    Context::Detail,
    Context::Mails,
    Context::Schedules,
    Context::Flow,
    Context::Retention,
    Context::Audit,
    Context::Many,
    Context::Bulks,
    Context::Bulk,
    Context::Tenants,
    Context::Tenant,
    Context::Life,
    Context::Backfill,
    Context::Deletion,
    Context::Export,
];
const SCROLLING: &[Context] = &[
    Context::List,
    Context::Detail,
    Context::Mails,
    Context::Schedules,
    Context::Flow,
    Context::Retention,
    Context::Audit,
    Context::Many,
    Context::Bulks,
    Context::Bulk,
    Context::Tenants,
    Context::Tenant,
    Context::Life,
    Context::Backfill,
    Context::Deletion,
    Context::Export,
    Context::Menu,
    Context::Help,
];
const ACTING: &[Context] = &[
    Context::Detail,
    Context::Schedules,
    Context::Flow,
    Context::Retention,
    Context::Bulks,
    Context::Bulk,
    Context::Tenant,
    Context::Life,
    Context::Backfill,
    Context::Deletion,
];
const FILTERED: &[Context] = &[Context::Filter, Context::Find];
const PAGED: &[Context] = &[
    Context::List,
    Context::Bulk,
    Context::Life,
    Context::Backfill,
    Context::Audit,
];
const EVERYWHERE: &[Context] = &Context::ALL;

const fn row(
    command: Command,
    contexts: &'static [Context],
    keys: &'static [Key],
    help: &'static str,
    label: Option<&'static str>,
) -> Binding {
    Binding {
        command,
        contexts,
        keys,
        help,
        label,
    }
}

/// All keys of the console. The order is that of help and footer.
#[rustfmt::skip] // A table is read by its columns.
pub const BINDINGS: &[Binding] = &[
    row(Command::Open, &[Context::List], &[Key::plain(KeyCode::Enter)], "Open the run under the cursor", Some("open")),
    row(Command::Open, PLAIN, &[Key::plain(KeyCode::Enter), Key::char(' ')], "Unfold or fold the line under the cursor", Some("unfold")),
    row(Command::Open, DOORS, &[Key::plain(KeyCode::Enter)], "Open what is under the cursor: its run, tenant, operation or job; else unfold it", Some("open")),
    row(Command::Unfold, UNFOLDING, &[Key::char(' ')], "Unfold or fold the line under the cursor", Some("unfold")),
    row(Command::EditFilter, &[Context::List], &[Key::char('/')], "Edit the filter, such as workflow:dunning status:stuck", Some("filter")),
    row(Command::EditFilter, &[Context::Tenants], &[Key::char('/')], "Look for another tenant", Some("find")),
    row(Command::EditFilter, &[Context::Audit], &[Key::char('/')], "Edit the filter, such as actor:ada action:\"set limit\" from:2027-01-31", Some("filter")),
    row(Command::ApplyFilter, FILTERED, &[Key::plain(KeyCode::Enter)], "Use the line as typed", Some("use it")),
    row(Command::ActOnMany, &[Context::List], &[Key::char('B')], "Do a verb to all runs that pass the filter; counts and asks first", Some("act on all")),
    row(Command::StartRun, &[Context::List], &[Key::char('N')], "Start a run, like the one under the cursor; asks first", Some("new")),
    row(Command::ShowMenu, ACTING, &[Key::char('a')], "Everything that can be done here, and why the rest cannot", Some("act")),
    row(Command::Choose, &[Context::Menu, Context::Many], &[Key::plain(KeyCode::Enter)], "Prepare the act under the cursor; asks first", Some("choose")),
    row(Command::Signal, &[Context::Detail], &[Key::char('S')], "Send the run a signal; asks first", Some("signal")),
    row(Command::Retry, &[Context::Detail], &[Key::char('R')], "Try the run's failed step again now; asks first", Some("retry")),
    row(Command::Reveal, &[Context::Detail], &[Key::char('v')], "Show the private field under the cursor; asks why first", None),
    row(Command::ShowTenant, &[Context::Detail], &[Key::char('t')], "The run's tenant: what it bought and owes, and all that runs for it", Some("tenant")),
    row(Command::ShowAudit, &[Context::Detail], &[Key::char('u')], "What people did to the run, and how it stood before and after", None),
    row(Command::ShowAudit, &[Context::Tenant], &[Key::char('u')], "What people did to the tenant, its runs and schedules", None),
    row(Command::ToggleWhy, &[Context::Detail], &[Key::char('w')], "Show all of the explanation, or its first lines", Some("why")),
    row(Command::ShowTab(Tab::Timeline), &[Context::Detail], &[Key::char('1')], "What happened: transitions and steps, newest first", None),
    row(Command::ShowTab(Tab::Data), &[Context::Detail], &[Key::char('2')], "The data of the run's state", None),
    row(Command::ShowTab(Tab::Steps), &[Context::Detail], &[Key::char('3')], "Steps and their answers", None),
    row(Command::ShowTab(Tab::Signals), &[Context::Detail], &[Key::char('4')], "Signals to the run and what became of them", None),
    row(Command::ShowTab(Tab::Mails), &[Context::Detail], &[Key::char('5')], "Mails to the run's tenant", None),
    row(Command::NextTab, &[Context::Bulk], &[Key::plain(KeyCode::Tab), Key::plain(KeyCode::Right)], "Only runs of another outcome: refused, moved, done, pending, all", Some("outcome")),
    row(Command::PreviousTab, &[Context::Bulk], &[Key::plain(KeyCode::BackTab), Key::plain(KeyCode::Left)], "The outcome before", None),
    row(Command::NextTab, &[Context::Detail], &[Key::plain(KeyCode::Tab), Key::plain(KeyCode::Right)], "Next tab", Some("next tab")),
    row(Command::PreviousTab, &[Context::Detail], &[Key::plain(KeyCode::BackTab), Key::plain(KeyCode::Left)], "Previous tab", None),
    row(Command::ShowLife(Shelf::Backfills), &[Context::Life], &[Key::char('1')], "Backfills: phase, progress, rate, until when, and what holds them back", None),
    row(Command::ShowLife(Shelf::Placements), &[Context::Life], &[Key::char('2')], "Placements: where tenants' rows are, moves and migrations under way", None),
    row(Command::ShowLife(Shelf::Deletions), &[Context::Life], &[Key::char('3')], "Deletions of tenants: state, step, deadline, who approved", None),
    row(Command::ShowLife(Shelf::Keeping), &[Context::Life], &[Key::char('4')], "Keeping: policies, sweeps, restores and exports", None),
    row(Command::NextTab, &[Context::Life], &[Key::plain(KeyCode::Tab), Key::plain(KeyCode::Right)], "Next tab", Some("next tab")),
    row(Command::PreviousTab, &[Context::Life], &[Key::plain(KeyCode::BackTab), Key::plain(KeyCode::Left)], "Previous tab", None),
    row(Command::NextTab, &[Context::Backfill], &[Key::plain(KeyCode::Tab), Key::plain(KeyCode::Right)], "Only ranges in another status: held, throttled, filling, and so on", Some("status")),
    row(Command::PreviousTab, &[Context::Backfill], &[Key::plain(KeyCode::BackTab), Key::plain(KeyCode::Left)], "The status before", None),
    row(Command::UnfoldAll, TREES, &[Key::char('e')], "Unfold everything", None),
    row(Command::FoldAll, TREES, &[Key::char('z')], "Fold everything", None),
    row(Command::FindTenant, &[Context::List], &[Key::char('t')], "Find a tenant by name, mail address, id, or the payment provider's id", Some("tenants")),
    row(Command::ShowBulks, &[Context::List], &[Key::char('b')], "Operations on many runs: how far they are, and what came of each run", None),
    row(Command::ShowLife(Shelf::Backfills), &[Context::List], &[Key::char('d')], "Data of tenants: backfills, placements, deletions, sweeps and exports", Some("data")),
    row(Command::ShowFlow, &[Context::List], &[Key::char('f')], "Flow: limits, pauses, breakers, weights", None),
    row(Command::ShowRetention, &[Context::List], &[Key::char('h')], "Legal holds, and how long finished runs are kept", None),
    row(Command::ShowAudit, &[Context::List], &[Key::char('u')], "Audit: who did what, to what, when and why", None),
    row(Command::ShowMails, &[Context::List], &[Key::char('m')], "Mails to all tenants, newest first", None),
    row(Command::ShowSchedules, &[Context::List], &[Key::char('s')], "Schedules: what starts by itself, and what became of it", None),
    row(Command::NextPage, PAGED, &[Key::char('n')], "Next page", Some("next page")),
    row(Command::PreviousPage, PAGED, &[Key::char('p')], "Previous page", None),
    row(Command::NextField, &[Context::Dialog], &[Key::plain(KeyCode::Tab), Key::plain(KeyCode::Down)], "Next field", Some("next field")),
    row(Command::PreviousField, &[Context::Dialog], &[Key::plain(KeyCode::BackTab), Key::plain(KeyCode::Up)], "Previous field", None),
    row(Command::Press, &[Context::Dialog], &[Key::plain(KeyCode::Enter)], "Go on: to the next field, to what will happen, to the change", Some("go on")),
    row(Command::Move(-1), SCROLLING, &[Key::plain(KeyCode::Up), Key::char('k')], "Up", None),
    row(Command::Move(1), SCROLLING, &[Key::plain(KeyCode::Down), Key::char('j')], "Down", None),
    row(Command::MovePage(-1), SCROLLING, &[Key::plain(KeyCode::PageUp)], "A page up", None),
    row(Command::MovePage(1), SCROLLING, &[Key::plain(KeyCode::PageDown)], "A page down", None),
    row(Command::First, SCROLLING, &[Key::plain(KeyCode::Home), Key::char('g')], "To the top", None),
    row(Command::Last, SCROLLING, &[Key::plain(KeyCode::End), Key::char('G')], "To the end", None),
    row(Command::Copy, LOOKING, &[Key::char('y')], "Copy what is under the cursor (a run's id in the list)", None),
    row(Command::Reload, LOOKING, &[Key::plain(KeyCode::F(5)), Key::char('r')], "Ask the server again now", None),
    row(Command::Back, &[Context::List], &[Key::plain(KeyCode::Esc)], "Drop the filter", None),
    row(Command::Back, OVER, &[Key::plain(KeyCode::Esc), Key::plain(KeyCode::Backspace)], "Back", Some("back")),
    row(Command::Back, FILTERED, &[Key::plain(KeyCode::Esc)], "Leave the line as it was", Some("leave as it was")),
    row(Command::Back, &[Context::Menu], &[Key::plain(KeyCode::Esc), Key::plain(KeyCode::Backspace)], "Close the menu", Some("close")),
    row(Command::Back, &[Context::Dialog], &[Key::plain(KeyCode::Esc)], "Keep everything as it is", Some("keep as it is")),
    row(Command::Back, &[Context::Help], &[Key::plain(KeyCode::Esc), Key::char('q'), Key::char('?'), Key::plain(KeyCode::F(1))], "Close the help", Some("close")),
    row(Command::Help, LOOKING, &[Key::char('?'), Key::plain(KeyCode::F(1))], "Show the keys of this place", Some("help")),
    row(Command::Help, &[Context::Filter, Context::Find, Context::Menu, Context::Dialog], &[Key::plain(KeyCode::F(1))], "Show the keys of this place", Some("help")),
    row(Command::Quit, LOOKING, &[Key::char('q')], "Leave the console", Some("quit")),
    row(Command::Quit, EVERYWHERE, &[Key::control('c')], "Leave the console from anywhere; nothing is sent", None),
];

/// The command of a key in a context, if it has one.
pub fn command(context: Context, event: &KeyEvent) -> Option<Command> {
    if event
        .modifiers
        .intersects(KeyModifiers::ALT | KeyModifiers::SUPER | KeyModifiers::META)
    {
        return None;
    }
    // Shift is already in the character or in the key's own code.
    let key = Key {
        code: event.code,
        control: event.modifiers.contains(KeyModifiers::CONTROL),
    };
    bindings(context)
        .find(|binding| binding.keys.contains(&key))
        .map(|binding| binding.command)
}

/// The rows of a context, in the order of the table.
pub fn bindings(context: Context) -> impl Iterator<Item = &'static Binding> {
    BINDINGS
        .iter()
        .filter(move |binding| binding.contexts.contains(&context))
}

/// All keys as text, context by context, for `--keys` and the documentation.
pub fn printed() -> String {
    let mut lines = Vec::new();
    for context in Context::ALL {
        lines.push(format!("{}\n", context.title()));
        for binding in bindings(context) {
            lines.push(format!("  {:<18} {}\n", key_names(binding), binding.help));
        }
        lines.push("\n".to_owned());
    }
    lines.concat().trim_end().to_owned() + "\n"
}

/// The keys of a row, as help shows them.
pub fn key_names(binding: &Binding) -> String {
    binding
        .keys
        .iter()
        .map(|key| key.name())
        .collect::<Vec<_>>()
        .join(" or ")
}

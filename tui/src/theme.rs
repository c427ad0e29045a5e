//! How meaning looks: tones, signs and borders, with colour and without.

use ratatui::style::{Color, Modifier, Style};
use ratatui::symbols::border;
use tenure_client::RunStatus;

/// What a piece of text means. Colour only ever repeats what a sign or a word says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tone {
    /// Ordinary text.
    Plain,
    /// Less important text.
    Dim,
    /// A heading or the name of what is looked at.
    Strong,
    /// All is well.
    Good,
    /// Wants attention soon.
    Warn,
    /// Wants a person.
    Bad,
    /// Under the cursor.
    Selected,
}

/// What the terminal can show.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Theme {
    /// Never use colour, only bold, dim and reverse.
    pub no_color: bool,
    /// Draw borders, rules and marks in ASCII.
    pub ascii: bool,
}

impl Theme {
    /// The look of a tone. The sixteen colours follow the terminal's own palette.
    pub fn style(&self, tone: Tone) -> Style {
        let plain = Style::new();
        match (tone, self.no_color) {
            (Tone::Plain, _) => plain,
            (Tone::Dim, _) => plain.add_modifier(Modifier::DIM),
            (Tone::Strong, _) => plain.add_modifier(Modifier::BOLD),
            (Tone::Selected, _) => plain.add_modifier(Modifier::REVERSED),
            (Tone::Good, true) => plain,
            (Tone::Warn, true) => plain.add_modifier(Modifier::BOLD),
            (Tone::Bad, true) => plain.add_modifier(Modifier::BOLD),
            (Tone::Good, false) => plain.fg(Color::Green),
            (Tone::Warn, false) => plain.fg(Color::Yellow),
            (Tone::Bad, false) => plain.fg(Color::Red).add_modifier(Modifier::BOLD),
        }
    }

    /// What a cut text ends in.
    pub fn ellipsis(&self) -> &'static str {
        if self.ascii { "~" } else { "…" }
    }

    /// The mark of a line that is folded or open.
    pub fn fold(&self, is_open: bool) -> &'static str {
        match (is_open, self.ascii) {
            (true, true) => "v ",
            (false, true) => "> ",
            (true, false) => "▾ ",
            (false, false) => "▸ ",
        }
    }

    /// What a rule is made of.
    pub fn rule(&self) -> &'static str {
        if self.ascii { "-" } else { "─" }
    }

    /// What a box is made of.
    pub fn border(&self) -> border::Set<'static> {
        if self.ascii {
            ASCII_BORDER
        } else {
            border::PLAIN
        }
    }
}

const ASCII_BORDER: border::Set<'static> = border::Set {
    top_left: "+",
    top_right: "+",
    bottom_left: "+",
    bottom_right: "+",
    vertical_left: "|",
    vertical_right: "|",
    horizontal_top: "-",
    horizontal_bottom: "-",
};

/// The sign of a status: one ASCII character, different for each.
pub fn sign(status: RunStatus) -> char {
    match status {
        RunStatus::Due => '>',
        RunStatus::Running => '*',
        RunStatus::Waiting => '.',
        RunStatus::Retrying => '~',
        RunStatus::Undoing => '<',
        RunStatus::Paused => '=',
        RunStatus::Blocked => '#',
        RunStatus::NoHandler => '0',
        RunStatus::Stuck => '!',
        RunStatus::Completed => '+',
        RunStatus::Failed => 'x',
        RunStatus::Cancelled => '-',
        RunStatus::Terminated => '/',
        RunStatus::Unknown => '?',
    }
}

/// Sign and word of a status, as every screen shows it.
pub fn status_words(status: RunStatus) -> String {
    format!("{} {}", sign(status), status.as_str().replace('_', " "))
}

/// The tone of a status.
pub fn status_tone(status: RunStatus) -> Tone {
    match status {
        RunStatus::Stuck | RunStatus::Failed | RunStatus::NoHandler => Tone::Bad,
        RunStatus::Retrying | RunStatus::Undoing | RunStatus::Blocked | RunStatus::Paused => {
            Tone::Warn
        }
        RunStatus::Completed | RunStatus::Running | RunStatus::Due => Tone::Good,
        RunStatus::Waiting | RunStatus::Unknown => Tone::Plain,
        RunStatus::Cancelled | RunStatus::Terminated => Tone::Dim,
    }
}

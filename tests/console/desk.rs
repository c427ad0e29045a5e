//! A console without server and terminal.

use super::samples::{detail, page, parse, run, run_answer, start, would};
use chrono::{DateTime, TimeDelta, Utc};
use serde_json::json;
use tenure_client::{RunSummary, Whoami};
use tenure_console::crossterm::event::{Event as TerminalEvent, KeyCode, KeyEvent, KeyEventKind};
use tenure_console::event::{Act, Action, Answer, Content, Done, Event, Refusal};
use tenure_console::model::Model;
use tenure_console::ratatui::Terminal;
use tenure_console::ratatui::backend::TestBackend;
use tenure_console::ratatui::buffer::Buffer;
use tenure_console::theme::Theme;
use tenure_console::update::update;
use tenure_console::view;
use uuid::Uuid;

/// A console without server and terminal: events go in, actions and frames come out.
pub(crate) struct Desk {
    pub(crate) model: Model,
    pub(crate) now: DateTime<Utc>,
    pub(crate) actions: Vec<Action>,
    pub(crate) generation: u64,
    intent: u64,
}

impl Desk {
    pub(crate) fn new() -> Self {
        Self::with_theme(Theme::default())
    }

    /// One whose token has a role.
    pub(crate) fn of(role: &str) -> Self {
        Self::with(role, Theme::default())
    }

    pub(crate) fn with_theme(theme: Theme) -> Self {
        Self::with("support", theme)
    }

    fn with(role: &str, theme: Theme) -> Self {
        let who = json!({"token_name": "maria", "role": role, "environment": "dev"});
        Self::on(parse(who), theme)
    }

    pub(crate) fn with_who(who: Whoami) -> Self {
        Self::on(who, Theme::default())
    }

    fn on(who: Whoami, theme: Theme) -> Self {
        let now = start();
        let workflows = ["dunning", "notice", "payment"].map(str::to_owned);
        let model = Model::new(who, theme, now).with_workflows(workflows.to_vec());
        let mut desk = Self {
            model,
            now,
            actions: Vec::new(),
            generation: 0,
            intent: 0,
        };
        desk.tick(0);
        desk
    }

    pub(crate) fn with_runs(runs: Vec<RunSummary>) -> Self {
        let mut desk = Self::new();
        desk.answer(Answer::Runs(page(runs)));
        desk
    }

    /// Goes to the row that has these words in it.
    pub(crate) fn go_to(&mut self, words: &str) {
        self.key(KeyCode::Home);
        for _ in 0..80 {
            let text = self.text();
            let on = text.lines().find(|line| line.starts_with('>')).unwrap();
            if on.contains(words) {
                return;
            }
            self.key(KeyCode::Down);
        }
        panic!("{words} is not on\n{}", self.text());
    }

    /// A run on show; retry is allowed or refused.
    pub(crate) fn with_detail(may_retry: bool) -> Self {
        let mut desk = Self::with_runs(vec![run(1), run(2)]);
        desk.key(KeyCode::Enter);
        let mut detail = detail(1);
        if !may_retry {
            detail.allowed_actions[1].allowed = false;
            detail.allowed_actions[1].reason = Some("needs role support".to_owned());
        }
        desk.answer(run_answer(
            detail,
            Content::Timeline(Vec::new(), Vec::new()),
        ));
        desk
    }

    pub(crate) fn send(&mut self, event: Event) -> Vec<Action> {
        let actions = update(&mut self.model, event);
        for action in &actions {
            match action {
                Action::Ask { generation, .. } => self.generation = *generation,
                Action::Act { intent, .. } => self.intent = *intent,
                Action::Copy(_) | Action::Quit => {}
            }
        }
        self.actions.clone_from(&actions);
        actions
    }

    pub(crate) fn key(&mut self, code: KeyCode) -> Vec<Action> {
        self.send(press(code))
    }

    pub(crate) fn type_text(&mut self, text: &str) {
        for character in text.chars() {
            self.key(KeyCode::Char(character));
        }
    }

    pub(crate) fn tick(&mut self, seconds: i64) {
        self.now += TimeDelta::seconds(seconds);
        self.send(Event::Tick(self.now));
    }

    pub(crate) fn answer(&mut self, answer: Answer) {
        self.send(Event::Answer {
            generation: self.generation,
            at: self.now,
            answer,
        });
    }

    /// The next poll, answered.
    pub(crate) fn refresh(&mut self, answer: Answer) {
        self.tick(1);
        self.answer(answer);
    }

    /// Confirms a retry, after the server said what it would do.
    pub(crate) fn retry(&mut self, reason: &str) {
        self.key(KeyCode::Char('R'));
        self.type_text(reason);
        self.key(KeyCode::Enter);
        self.done(Ok(would()));
        self.key(KeyCode::Enter);
    }

    /// The server's word on the act that was sent last.
    pub(crate) fn done(&mut self, result: Result<Done, Refusal>) {
        let intent = self.intent;
        self.send(Event::Acted { intent, result });
    }

    pub(crate) fn generation(&self) -> u64 {
        self.generation
    }

    pub(crate) fn intent(&self) -> u64 {
        self.intent
    }

    /// Enter, so many times.
    pub(crate) fn enters(&mut self, times: usize) {
        for _ in 0..times {
            self.key(KeyCode::Enter);
        }
    }

    /// The verb of the menu that begins so, chosen.
    pub(crate) fn choose(&mut self, verb: &str) {
        self.key(KeyCode::Char('a'));
        for _ in 0..40 {
            if self.text().contains(&format!("> {verb}")) {
                break;
            }
            self.key(KeyCode::Down);
        }
        assert!(
            self.text().contains(&format!("> {verb}")),
            "{}",
            self.text()
        );
        self.key(KeyCode::Enter);
    }

    /// Empties the field under the cursor, and types another text there.
    pub(crate) fn retype(&mut self, text: &str) {
        for _ in 0..60 {
            self.key(KeyCode::Backspace);
        }
        self.type_text(text);
    }

    /// What is asked for, in the words of its debug form.
    pub(crate) fn question(&self) -> String {
        match self.asked() {
            Some(Action::Ask { request, .. }) => format!("{request:?}"),
            _ => String::new(),
        }
    }

    /// The question that the last event led to.
    pub(crate) fn asked(&self) -> Option<Action> {
        self.actions
            .iter()
            .find(|action| matches!(action, Action::Ask { .. }))
            .cloned()
    }

    /// The act that the last event led to.
    pub(crate) fn acted(&self) -> Option<(u64, Act)> {
        self.actions.iter().find_map(|action| match action {
            Action::Act { intent, act } => Some((*intent, act.clone())),
            _ => None,
        })
    }

    pub(crate) fn selected(&self) -> Option<Uuid> {
        self.model.list().selected().map(|run| run.run_id)
    }

    pub(crate) fn draw(&self, width: u16, height: u16) -> Buffer {
        let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
        terminal
            .draw(|frame| view::render(frame, &self.model))
            .unwrap();
        terminal.backend().buffer().clone()
    }

    pub(crate) fn frame(&mut self, width: u16, height: u16) -> String {
        self.send(Event::Terminal(TerminalEvent::Resize(width, height)));
        glyphs(&self.draw(width, height))
    }

    pub(crate) fn text(&self) -> String {
        glyphs(&self.draw(120, 40))
    }
}

/// The characters of a frame, line by line, without blanks at the ends.
pub(crate) fn glyphs(buffer: &Buffer) -> String {
    let width = usize::from(buffer.area.width).max(1);
    let lines = buffer.content.chunks(width).map(|row| {
        let mut line = String::new();
        let mut covered = 0;
        for cell in row {
            if covered > 0 {
                covered -= 1;
                continue;
            }
            line.push_str(cell.symbol());
            covered = tenure_console::text::width(cell.symbol()).saturating_sub(1);
        }
        line.trim_end().to_owned()
    });
    lines.collect::<Vec<_>>().join("\n")
}

pub(crate) fn press(code: KeyCode) -> Event {
    let key = KeyEvent {
        kind: KeyEventKind::Press,
        ..KeyEvent::from(code)
    };
    Event::Terminal(TerminalEvent::Key(key))
}

pub(crate) fn refused(words: &str) -> Refusal {
    Refusal {
        reached: true,
        retryable: false,
        words: words.to_owned(),
    }
}

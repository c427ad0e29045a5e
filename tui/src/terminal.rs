//! Taking the terminal over, and always giving it back.
//!
//! It is given back on drop, and by the panic hook before the panic is told, so that the words of a
//! panic stay readable.

use anyhow::Context;
use crossterm::clipboard::CopyToClipboard;
use crossterm::event::{
    DisableBracketedPaste, DisableFocusChange, EnableBracketedPaste, EnableFocusChange,
};
use crossterm::terminal::{
    self, BeginSynchronizedUpdate, EndSynchronizedUpdate, EnterAlternateScreen,
    LeaveAlternateScreen,
};
use crossterm::{execute, queue};
use ratatui::backend::CrosstermBackend;
use std::io::{Stdout, stdout};
use std::sync::atomic::{AtomicBool, Ordering};

/// Whether the terminal is ours; the panic hook has no other way to know.
static TAKEN: AtomicBool = AtomicBool::new(false);

/// The terminal while it is ours.
pub(crate) struct Terminal {
    inner: ratatui::Terminal<CrosstermBackend<Stdout>>,
}

impl Terminal {
    /// Takes the terminal over.
    pub(crate) fn enter() -> anyhow::Result<Self> {
        hook_panics();
        let taken = take();
        if taken.is_err() {
            give_back();
        }
        taken
    }

    /// Draws a model. Terminals that can (mode 2026) show it when it is whole: half of it could have
    /// the cursor on one row beside the words that stood there before.
    pub(crate) fn draw(&mut self, model: &crate::model::Model) -> anyhow::Result<()> {
        queue!(self.inner.backend_mut(), BeginSynchronizedUpdate).context("cannot draw")?;
        self.inner
            .draw(|frame| crate::view::render(frame, model))
            .context("cannot draw")?;
        execute!(self.inner.backend_mut(), EndSynchronizedUpdate).context("cannot draw")
    }

    /// The columns and rows of the terminal.
    pub(crate) fn size(&self) -> anyhow::Result<(u16, u16)> {
        terminal::size().context("cannot read the size of the terminal")
    }

    /// Hands text to the terminal's clipboard (OSC 52), also over SSH. Its content is sent as Base64.
    pub(crate) fn copy(&mut self, text: &str) -> anyhow::Result<()> {
        execute!(
            self.inner.backend_mut(),
            CopyToClipboard::to_clipboard_from(text)
        )
        .context("cannot write to the terminal")
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        give_back();
    }
}

fn take() -> anyhow::Result<Terminal> {
    TAKEN.store(true, Ordering::SeqCst);
    terminal::enable_raw_mode().context("cannot take over the terminal")?;
    execute!(
        stdout(),
        EnterAlternateScreen,
        EnableBracketedPaste,
        EnableFocusChange
    )
    .context("cannot write to the terminal")?;
    let inner = ratatui::Terminal::new(CrosstermBackend::new(stdout()))
        .context("cannot read the size of the terminal")?;
    Ok(Terminal { inner })
}

/// Gives the terminal back, once: leaving the alternate screen again would move the cursor into what a
/// panic has told meanwhile. What fails here cannot be told to anyone.
fn give_back() {
    if !TAKEN.swap(false, Ordering::SeqCst) {
        return;
    }
    let _ = execute!(
        stdout(),
        EndSynchronizedUpdate,
        DisableFocusChange,
        DisableBracketedPaste,
        LeaveAlternateScreen,
        crossterm::cursor::Show
    );
    let _ = terminal::disable_raw_mode();
}

fn hook_panics() {
    let told = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        give_back();
        told(panic);
    }));
}

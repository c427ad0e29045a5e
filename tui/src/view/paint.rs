//! The one brush. Text reaches the frame through here only, escaped, cut and toned.

use crate::text;
use crate::theme::{Theme, Tone};
use crate::tree::Piece;
use ratatui::Frame;
use ratatui::layout::{Position, Rect};
use ratatui::text::{Line, Span};
use ratatui::widgets::{Block, Clear};

/// What stands before the rows that a broken line goes on in.
const INDENT: &str = "      ";

/// Draws on a frame with a theme.
pub(super) struct Paint<'a, 'b> {
    frame: &'a mut Frame<'b>,
    theme: Theme,
}

impl<'a, 'b> Paint<'a, 'b> {
    pub(super) fn new(frame: &'a mut Frame<'b>, theme: Theme) -> Self {
        Self { frame, theme }
    }

    /// What the terminal can show.
    pub(super) fn theme(&self) -> Theme {
        self.theme
    }

    /// Draws pieces on the row of an area that is `row` below its top; outside the area nothing is drawn.
    pub(super) fn row(&mut self, area: Rect, row: usize, pieces: &[Piece]) {
        let Some(area) = row_of(area, row) else {
            return;
        };
        let line = self.line(pieces, usize::from(area.width));
        self.frame.render_widget(line, area);
    }

    /// The same, reversed over the whole width: the line under the cursor.
    pub(super) fn row_selected(&mut self, area: Rect, row: usize, pieces: &[Piece]) {
        let Some(area) = row_of(area, row) else {
            return;
        };
        let line = self.line(pieces, usize::from(area.width));
        let style = self.theme.style(Tone::Selected);
        self.frame.render_widget(line, area);
        self.frame.buffer_mut().set_style(area, style);
    }

    /// Draws words in one tone.
    pub(super) fn words(&mut self, area: Rect, row: usize, tone: Tone, words: &str) {
        self.row(area, row, &[(tone, words.to_owned())]);
    }

    /// Draws a rule with a heading in it.
    pub(super) fn rule(&mut self, area: Rect, row: usize, heading: &str) {
        let heading = if heading.is_empty() {
            String::new()
        } else {
            format!(" {heading} ")
        };
        let stroke = self.theme.rule();
        let rest = usize::from(area.width).saturating_sub(2 + text::width(&text::escape(&heading)));
        let pieces = [
            (Tone::Dim, stroke.repeat(2)),
            (Tone::Strong, heading),
            (Tone::Dim, stroke.repeat(rest)),
        ];
        self.row(area, row, &pieces);
    }

    /// Clears an area, draws a box around it, and answers the room inside.
    pub(super) fn boxed(&mut self, area: Rect, heading: &str) -> Rect {
        let title = self.line(
            &[(Tone::Strong, format!(" {heading} "))],
            usize::from(area.width),
        );
        let block = Block::bordered()
            .border_set(self.theme.border())
            .title(title);
        let inner = block.inner(area);
        self.frame.render_widget(Clear, area);
        self.frame.render_widget(block, area);
        inner
    }

    /// Draws a text field of one row and puts the terminal's cursor in it when it has the focus.
    pub(super) fn field(
        &mut self,
        area: Rect,
        row: usize,
        input: &tui_input::Input,
        focused: bool,
    ) {
        let Some(area) = row_of(area, row) else {
            return;
        };
        let columns = usize::from(area.width).max(1);
        let before: String = input.value().chars().take(input.cursor()).collect();
        let cursor = text::width(&text::escape(&before));
        let skipped = (cursor + 1).saturating_sub(columns);
        let shown = text::skip(&text::escape(input.value()), skipped);
        let line = self.line(&[(Tone::Plain, shown)], columns);
        self.frame.render_widget(line, area);
        if focused {
            let column = u16::try_from(cursor - skipped)
                .unwrap_or(0)
                .min(area.width.saturating_sub(1));
            self.frame
                .set_cursor_position(Position::new(area.x + column, area.y));
        }
    }

    /// Cuts or fills text to exactly so many columns, for tables. The text is escaped first.
    pub(super) fn cell(&self, words: &str, columns: usize) -> String {
        text::pad(&text::escape(words), columns, self.theme.ellipsis())
    }

    /// Wraps text, escaped, to the width of an area.
    pub(super) fn wrap(&self, area: Rect, words: &str) -> Vec<String> {
        text::wrap(&text::escape(words), usize::from(area.width))
    }

    /// Breaks pieces between words into rows of the width of an area; what follows the first row is
    /// set in.
    pub(super) fn wrap_pieces(&self, area: Rect, pieces: &[Piece]) -> Vec<Vec<Piece>> {
        let columns = usize::from(area.width).max(2 * INDENT.len());
        let (mut rows, mut row, mut taken) = (Vec::new(), Vec::new(), 0);
        for (tone, words) in pieces {
            for token in text::escape(words).split_inclusive(' ') {
                let (word, gap) = token.split_at(token.trim_end_matches(' ').len());
                for part in text::wrap(word, columns - INDENT.len()) {
                    if taken + text::width(&part) > columns {
                        rows.push(std::mem::take(&mut row));
                        row.push((Tone::Plain, INDENT.to_owned()));
                        taken = INDENT.len();
                    }
                    taken += text::width(&part);
                    row.push((*tone, part));
                }
                taken += gap.len();
                if taken <= columns {
                    row.push((*tone, gap.to_owned()));
                }
            }
        }
        rows.push(row);
        rows
    }

    fn line(&self, pieces: &[Piece], columns: usize) -> Line<'static> {
        let mut spans = Vec::new();
        let mut room = columns;
        for (tone, words) in pieces {
            let words = text::escape(words);
            let shown = text::cut(&words, room, self.theme.ellipsis());
            let lost = shown != words;
            room = room.saturating_sub(text::width(&shown));
            spans.push(Span::styled(shown, self.theme.style(*tone)));
            if lost {
                break;
            }
        }
        Line::from(spans)
    }
}

/// The first of `count` rows to show in `height`, so that the one under the cursor is on show.
pub(super) fn offset(cursor: usize, count: usize, height: usize) -> usize {
    cursor
        .saturating_sub(height / 2)
        .min(count.saturating_sub(height))
}

fn row_of(area: Rect, row: usize) -> Option<Rect> {
    let row = u16::try_from(row).ok().filter(|row| *row < area.height)?;
    Some(Rect {
        y: area.y + row,
        height: 1,
        ..area
    })
}

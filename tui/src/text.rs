//! Text from outside made fit for a terminal: escaped, measured, cut and wrapped.
//!
//! [`escape`] is the one place where hostile text is made harmless; everything that is drawn or
//! printed passes through it.

use ratatui::style::Style;
use ratatui::text::Span;
use std::fmt::Write;
use uuid::Uuid;

/// Characters of an id as it is written.
const ID: usize = 36;
/// Characters of an id's end that tell it from others of its time.
const ID_END: usize = 8;

/// Shows what a terminal would obey or hide: control characters as `^[`, invisible and
/// direction-changing ones as their number, `<202E>`.
pub fn escape(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '\u{7f}' => shown.push_str("^?"),
            '\0'..='\u{1f}' => {
                shown.push('^');
                shown.push(char::from(character as u8 + b'@'));
            }
            hidden if is_hidden(hidden) => {
                // Writing to a String cannot fail.
                let _ = write!(shown, "<{:X}>", u32::from(hidden));
            }
            plain => shown.push(plain),
        }
    }
    shown
}

fn is_hidden(character: char) -> bool {
    matches!(character,
        '\u{80}'..='\u{9f}'
        | '\u{ad}'
        | '\u{61c}'
        | '\u{180e}'
        | '\u{200b}'..='\u{200f}'
        | '\u{2028}'..='\u{202e}'
        | '\u{2060}'..='\u{206f}'
        | '\u{feff}'
        | '\u{fff9}'..='\u{fffb}'
        | '\u{e0000}'..='\u{e007f}')
}

/// Columns that escaped text takes.
pub fn width(text: &str) -> usize {
    Span::raw(text).width()
}

/// Cuts escaped text to `columns`, ending in `ellipsis` when something was lost.
pub fn cut(text: &str, columns: usize, ellipsis: &str) -> String {
    if width(text) <= columns {
        return text.to_owned();
    }
    let room = columns.saturating_sub(width(ellipsis));
    let mut kept = take(text, room).0.to_owned();
    if columns >= width(ellipsis) {
        kept.push_str(ellipsis);
    }
    kept
}

/// Cuts or fills escaped text to exactly `columns`. What begins with an id loses its beginning: ids
/// of one time begin alike, so that only their ends tell the rows of a table from each other.
pub fn pad(text: &str, columns: usize, ellipsis: &str) -> String {
    let begins_with_id = text.get(..ID).is_some_and(|id| Uuid::try_parse(id).is_ok());
    let mut padded = if begins_with_id {
        cut_front(text, columns, ellipsis)
    } else {
        cut(text, columns, ellipsis)
    };
    let missing = columns.saturating_sub(width(&padded));
    padded.extend(std::iter::repeat_n(' ', missing));
    padded
}

/// Cuts escaped text to `columns`, beginning with `ellipsis` when something was lost.
fn cut_front(text: &str, columns: usize, ellipsis: &str) -> String {
    if width(text) <= columns {
        return text.to_owned();
    }
    let Some(room) = columns.checked_sub(width(ellipsis)) else {
        return String::new();
    };
    let mut kept = take(text, width(text) - room).1;
    if width(kept) > room {
        // A wide character would be cut in half.
        kept = first_grapheme(kept).1;
    }
    format!("{ellipsis}{kept}")
}

/// The end of an id, for where there is no room for the whole: what it begins with is the time.
pub fn end_of(id: Uuid) -> String {
    let id = id.to_string();
    format!("..{}", &id[ID - ID_END..])
}

/// What is right of the first `columns` of escaped text.
pub fn skip(text: &str, columns: usize) -> String {
    take(text, columns).1.to_owned()
}

/// Breaks escaped text into lines of at most `columns`, between words where that is possible.
pub fn wrap(text: &str, columns: usize) -> Vec<String> {
    let columns = columns.max(1);
    let mut lines = Vec::new();
    let mut line = String::new();
    for word in text.split(' ') {
        let gap = usize::from(!line.is_empty());
        if width(&line) + gap + width(word) <= columns {
            if gap == 1 {
                line.push(' ');
            }
            line.push_str(word);
            continue;
        }
        if !line.is_empty() {
            lines.push(std::mem::take(&mut line));
        }
        line = break_word(word, columns, &mut lines);
    }
    if !line.is_empty() || lines.is_empty() {
        lines.push(line);
    }
    lines
}

/// Moves all full lines of one long word to `lines` and answers the rest.
fn break_word(word: &str, columns: usize, lines: &mut Vec<String>) -> String {
    let mut rest = word;
    while width(rest) > columns {
        let (head, tail) = take(rest, columns);
        // A character wider than the line would never fit; it is let through whole.
        let (head, tail) = if head.is_empty() {
            first_grapheme(rest)
        } else {
            (head, tail)
        };
        lines.push(head.to_owned());
        rest = tail;
    }
    rest.to_owned()
}

/// Splits text where `columns` are full.
fn take(text: &str, columns: usize) -> (&str, &str) {
    let mut used = 0;
    let mut end = 0;
    for grapheme in Span::raw(text).styled_graphemes(Style::new()) {
        used += width(grapheme.symbol);
        if used > columns {
            break;
        }
        end += grapheme.symbol.len();
    }
    text.split_at(end)
}

fn first_grapheme(text: &str) -> (&str, &str) {
    let end = Span::raw(text)
        .styled_graphemes(Style::new())
        .next()
        .map_or(text.len(), |grapheme| grapheme.symbol.len());
    text.split_at(end)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn control_characters_are_shown_and_not_obeyed() {
        assert_eq!(escape("a\u{1b}[2J\u{7}\n\u{7f}"), "a^[[2J^G^J^?");
        assert_eq!(
            escape("\u{202e}evil\u{9b}1m\u{200b}"),
            "<202E>evil<9B>1m<200B>"
        );
        assert_eq!(escape("Grüße 東京 €"), "Grüße 東京 €");
    }

    #[test]
    fn cutting_respects_wide_characters() {
        assert_eq!(cut("東京都", 6, "~"), "東京都");
        assert_eq!(cut("東京都", 5, "~"), "東京~");
        assert_eq!(cut("東京都", 4, "~"), "東~");
        assert_eq!(pad("東", 4, "~"), "東  ");
        assert_eq!(cut("abc", 0, "~"), "");
    }

    #[test]
    fn ids_are_cut_to_their_ends() {
        let id = "01a209f6-4762-727e-b736-2430e0a79587";
        assert_eq!(pad(id, 8, "~"), "~0a79587");
        assert_eq!(pad(&format!("{id}/2"), 8, "~"), "~79587/2");
        assert_eq!(pad(&format!("{id}/東"), 5, "~"), "~7/東");
        assert_eq!(pad(&format!("{id}/東"), 2, "~"), "~ ");
        assert_eq!(pad(id, 38, "~"), format!("{id}  "));
        assert_eq!(pad(id, 0, "~"), "");
        assert_eq!(pad("receipt/01a209f6-4762-727e", 8, "~"), "receipt~");
        assert_eq!(end_of(id.parse().unwrap()), "..e0a79587");
    }

    #[test]
    fn wrapping_breaks_between_words_and_in_long_ones() {
        assert_eq!(wrap("one two three", 7), ["one two", "three"]);
        assert_eq!(wrap("abcdefgh ij", 3), ["abc", "def", "gh", "ij"]);
        assert_eq!(wrap("", 5), [""]);
        assert_eq!(wrap("東京", 1), ["東", "京"]);
    }
}

//! What every screen over the list has in common: a question that keeps it fresh, lines that fold, and
//! what can be done to the line under the cursor.

use crate::event::{Answer, Door, Part, Request};
use crate::keymap::Context;
use crate::subject::{Offer, Target};
use crate::text;
use crate::theme::Tone;
use crate::tree::{Folding, Node, Piece};
use chrono::TimeDelta;
use tenure_client::Whoami;

/// Stands between a node's id and that of what is below it, and in no name.
pub(crate) const BELOW: char = '\u{1f}';

/// A screen over the list.
pub(crate) trait Place {
    /// Where the person is on it, as far as keys are concerned.
    fn context(&self) -> Context;

    /// The question that keeps it fresh.
    fn request(&self) -> Request;

    /// Takes an answer to that; says whether another question is due at once.
    fn take(&mut self, answer: Answer) -> bool;

    /// How long an answer is fresh.
    fn pause(&self) -> TimeDelta {
        TimeDelta::seconds(1)
    }

    /// Its contents as lines that fold, for a window so many columns wide.
    fn nodes(&self, columns: usize) -> Vec<Node>;

    /// What is folded.
    fn folding(&self) -> Folding;

    /// The same, to change it.
    fn folding_mut(&mut self) -> &mut Folding;

    /// The verbs that it offers.
    fn offers(&self, _who: &Whoami, _columns: usize) -> Vec<Offer> {
        Vec::new()
    }

    /// How a target is now, where it can be told here.
    fn latest(&self, _target: &Target) -> Option<String> {
        None
    }

    /// Where Enter leads from the line under the cursor.
    fn door(&self, _columns: usize) -> Option<Door> {
        None
    }

    /// Whether something else is to be asked for since the cursor moved.
    fn lacks(&self) -> bool {
        false
    }
}

/// The id of the node that the cursor is on.
pub(crate) fn cursor(place: &impl Place, columns: usize) -> Option<String> {
    let nodes = place.nodes(columns);
    let folding = place.folding();
    let rows = folding.rows(&nodes);
    let row = rows.get(folding.position(&rows))?;
    Some(row.node.id.clone())
}

/// Whether the cursor is on a node, or on something below it.
pub(crate) fn is_on(cursor: &str, id: &str) -> bool {
    let rest = cursor.strip_prefix(id);
    rest.is_some_and(|rest| rest.is_empty() || rest.starts_with(BELOW))
}

/// The id of a node below another.
pub(crate) fn below(id: &str, name: &str) -> String {
    format!("{id}{BELOW}{name}")
}

/// Several things under one heading, or why they are not known.
pub(crate) fn section<T>(
    title: &str,
    part: &Part<Vec<T>>,
    none: &str,
    node: impl Fn(&T) -> Node,
) -> Node {
    let id = format!("section {title}");
    let heading = (Tone::Strong, title.to_owned());
    match part {
        Err(words) => Node::leaf(
            id,
            vec![heading, (Tone::Bad, format!("  ! {words}"))],
            words,
        ),
        Ok(items) if items.is_empty() => {
            let none = (Tone::Dim, format!("  {none}"));
            Node::leaf(id, vec![heading, none], "")
        }
        Ok(items) => {
            let count = (Tone::Dim, format!("  [{}]", items.len()));
            let children = items.iter().map(node).collect();
            Node {
                open: true,
                ..Node::leaf(id, vec![heading, count], "").with_children(children)
            }
        }
    }
}

/// A dim line below a node; nothing where there is nothing to say.
pub(crate) fn note(id: &str, name: &str, words: impl Into<String>) -> Option<Node> {
    let words = words.into();
    let line = vec![(Tone::Dim, words.clone())];
    (!words.is_empty()).then(|| Node::leaf(below(id, name), line, words))
}

/// Words in a column of a table: filled, and cut where they are too long.
pub(crate) fn cell(tone: Tone, words: &str, columns: usize) -> Piece {
    let words = text::pad(&text::escape(words), columns, "~");
    (tone, format!("{words} "))
}

//! Things that fold: nodes with a line each, and which of them are open.
//!
//! All long contents of the console are trees (state data, steps, signals, mails), so that one cursor
//! and one way of folding serves them all. The cursor holds a node's id and survives a refresh.

use crate::theme::Tone;
use std::collections::BTreeSet;

/// A piece of a line: what it means and what it says.
pub type Piece = (Tone, String);

/// One line that may have lines below it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Node {
    /// Names the node among its siblings and over refreshes.
    pub id: String,
    /// The line.
    pub line: Vec<Piece>,
    /// What copying the node gives.
    pub copy: String,
    /// What unfolds below it.
    pub children: Vec<Node>,
    /// Whether it is open until somebody folds it.
    pub open: bool,
}

impl Node {
    /// A line with nothing below it.
    pub fn leaf(id: impl Into<String>, line: Vec<Piece>, copy: impl Into<String>) -> Self {
        Self {
            id: id.into(),
            line,
            copy: copy.into(),
            children: Vec::new(),
            open: false,
        }
    }

    /// The same with lines below it, folded.
    pub fn with_children(self, children: Vec<Node>) -> Self {
        Self { children, ..self }
    }
}

/// A node that is on show.
#[derive(Clone, Debug)]
pub struct Row<'a> {
    /// How deep it stands.
    pub depth: usize,
    /// Whether it is open; `None` when nothing is below it.
    pub open: Option<bool>,
    /// The node.
    pub node: &'a Node,
}

/// Which nodes are open, and where the cursor is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Folding {
    flipped: BTreeSet<String>,
    all: Option<bool>,
    cursor: Option<String>,
    /// Where the cursor was last, for when its node is gone.
    index: usize,
}

impl Folding {
    /// The rows on show, from the top.
    pub fn rows<'a>(&self, nodes: &'a [Node]) -> Vec<Row<'a>> {
        let mut rows = Vec::new();
        self.collect(nodes, 0, &mut rows);
        rows
    }

    /// The row under the cursor, as a place in `rows`.
    pub fn position(&self, rows: &[Row<'_>]) -> usize {
        let found = self
            .cursor
            .as_ref()
            .and_then(|id| rows.iter().position(|row| row.node.id == *id));
        found
            .unwrap_or(self.index)
            .min(rows.len().saturating_sub(1))
    }

    /// Moves the cursor by rows, stopping at the ends.
    pub fn step(&mut self, nodes: &[Node], by: isize) {
        let rows = self.rows(nodes);
        let target = self.position(&rows).saturating_add_signed(by);
        let target = target.min(rows.len().saturating_sub(1));
        self.cursor = rows.get(target).map(|row| row.node.id.clone());
        self.index = target;
    }

    /// Folds or unfolds the node under the cursor.
    pub fn toggle(&mut self, nodes: &[Node]) {
        let rows = self.rows(nodes);
        let position = self.position(&rows);
        let Some(row) = rows.get(position).filter(|row| row.open.is_some()) else {
            return;
        };
        let id = row.node.id.clone();
        self.cursor = Some(id.clone());
        self.index = position;
        if !self.flipped.remove(&id) {
            self.flipped.insert(id);
        }
    }

    /// Opens or folds every node.
    pub fn set_all(&mut self, open: bool) {
        self.all = Some(open);
        self.flipped.clear();
    }

    fn collect<'a>(&self, nodes: &'a [Node], depth: usize, rows: &mut Vec<Row<'a>>) {
        for node in nodes {
            let open = (!node.children.is_empty()).then(|| self.is_open(node));
            rows.push(Row { depth, open, node });
            if open == Some(true) {
                self.collect(&node.children, depth + 1, rows);
            }
        }
    }

    fn is_open(&self, node: &Node) -> bool {
        self.all.unwrap_or(node.open) != self.flipped.contains(&node.id)
    }
}

//! Private fields that a person asked for: shown for a minute, on this screen only, and never copied.

use crate::json;
use crate::place::{BELOW, below};
use crate::text;
use crate::theme::Tone;
use crate::tree::Node;
use chrono::{DateTime, TimeDelta, Utc};
use serde_json::Value;
use tenure_client::MASK;

/// How long a private field is shown.
const SHOWN: TimeDelta = TimeDelta::seconds(60);
/// Columns that folding takes at the left of a text.
const INDENT: usize = 8;
/// Narrowest column a text is wrapped to.
const COLUMNS_MIN: usize = 20;

/// The private fields on show.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Revealed(Vec<Field>);

#[derive(Clone, Debug, PartialEq)]
struct Field {
    /// The id of its node.
    id: String,
    value: Value,
    until: DateTime<Utc>,
}

impl Revealed {
    /// Shows a field from now on.
    pub(crate) fn add(&mut self, field: &str, value: Value, now: DateTime<Utc>) {
        let id = field.strip_prefix('/').unwrap_or(field).to_owned();
        self.0.retain(|shown| shown.id != id);
        let until = now + SHOWN;
        self.0.push(Field { id, value, until });
    }

    /// Hides what has been shown for long enough.
    pub(crate) fn pass(&mut self, now: DateTime<Utc>) {
        self.0.retain(|field| now < field.until);
    }

    /// Hides everything.
    pub(crate) fn clear(&mut self) {
        self.0.clear();
    }

    /// Puts what is shown in the place of its mask.
    pub(crate) fn lift(&self, nodes: &mut [Node], columns: usize) {
        if self.0.is_empty() {
            return;
        }
        for node in nodes {
            match self.0.iter().find(|field| field.id == node.id) {
                Some(field) if node.copy == MASK => lift(node, &field.value, columns),
                _ => self.lift(&mut node.children, columns),
            }
        }
    }
}

/// The field that a node shows a mask for, as it is asked for; not a line of what is shown of one.
pub(crate) fn field_of(node: &Node) -> Option<String> {
    let hidden = node.copy == MASK && !node.id.contains(BELOW);
    hidden.then(|| format!("/{}", node.id))
}

/// What is copied stays the mask.
fn lift(node: &mut Node, value: &Value, columns: usize) {
    let told = match value {
        Value::Object(fields) if !fields.is_empty() => None,
        Value::Array(items) if !items.is_empty() => None,
        Value::String(text) if !text.is_empty() => Some(text.clone()),
        plain => Some(plain.to_string()),
    };
    let room = columns.saturating_sub(INDENT).max(COLUMNS_MIN);
    let lines: Vec<String> = told
        .iter()
        .flat_map(|text| text.lines())
        .flat_map(|line| text::wrap(&text::escape(line), room))
        .collect();
    let fits = matches!(lines.as_slice(), [line] if text::width(line) * 2 <= columns);
    if let Some((tone, words)) = node.line.last_mut() {
        *tone = Tone::Warn;
        *words = match lines.first() {
            Some(line) if fits => line.clone(),
            _ => "shown below".to_owned(),
        };
    }
    let id = &node.id;
    let leaf = |(place, line): (usize, &String)| {
        let line = vec![(Tone::Warn, line.clone())];
        Node::leaf(below(id, &place.to_string()), line, MASK)
    };
    let children = match told {
        None => masked_copies(json::nodes(&below(id, ""), value)),
        Some(_) if fits => Vec::new(),
        Some(_) => lines.iter().enumerate().map(leaf).collect(),
    };
    node.children = children;
    node.open = true;
}

fn masked_copies(nodes: Vec<Node>) -> Vec<Node> {
    let masked = nodes.into_iter().map(|node| Node {
        copy: MASK.to_owned(),
        children: masked_copies(node.children),
        ..node
    });
    masked.collect()
}

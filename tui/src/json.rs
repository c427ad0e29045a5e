//! JSON as a tree that folds.

use crate::theme::Tone;
use crate::tree::Node;
use serde_json::Value;

/// Most nodes that one value becomes; the rest is counted, not shown.
const NODES_MAX: usize = 4_000;

/// Values up to this depth stand open.
const OPEN_DEPTH: usize = 2;

/// The members of a value as nodes below `id`; a plain value becomes one node.
pub fn nodes(id: &str, value: &Value) -> Vec<Node> {
    let mut budget = NODES_MAX;
    match value {
        Value::Object(_) | Value::Array(_) => children(id, value, 0, &mut budget),
        plain => vec![Node::leaf(
            id,
            vec![(Tone::Plain, plain.to_string())],
            copy_of(plain),
        )],
    }
}

/// One value under a name.
pub fn node(id: &str, name: &str, value: &Value) -> Node {
    let mut budget = NODES_MAX;
    named(id, name, value, 0, &mut budget)
}

/// A value on one line, for lists.
pub fn one_line(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

fn named(id: &str, name: &str, value: &Value, depth: usize, budget: &mut usize) -> Node {
    let copy = copy_of(value);
    let label = (Tone::Strong, format!("{name}  "));
    let (line, children) = match value {
        Value::Object(members) if !members.is_empty() => {
            let size = format!("{{{}}}", count(members.len(), "key"));
            (
                vec![label, (Tone::Dim, size)],
                children(id, value, depth + 1, budget),
            )
        }
        Value::Array(items) if !items.is_empty() => {
            let size = format!("[{}]", count(items.len(), "item"));
            (
                vec![label, (Tone::Dim, size)],
                children(id, value, depth + 1, budget),
            )
        }
        plain => (vec![label, (Tone::Plain, plain.to_string())], Vec::new()),
    };
    Node {
        open: depth < OPEN_DEPTH,
        ..Node::leaf(id, line, copy).with_children(children)
    }
}

fn children(id: &str, value: &Value, depth: usize, budget: &mut usize) -> Vec<Node> {
    let members: Vec<(String, &Value)> = match value {
        Value::Object(members) => members
            .iter()
            .map(|(name, value)| (name.clone(), value))
            .collect(),
        Value::Array(items) => items
            .iter()
            .enumerate()
            .map(|(n, item)| (n.to_string(), item))
            .collect(),
        _ => Vec::new(),
    };
    let mut nodes = Vec::new();
    for (shown, (name, value)) in members.iter().enumerate() {
        if *budget == 0 {
            let rest = format!("... {} more are not shown", members.len() - shown);
            nodes.push(Node::leaf(format!("{id}/..."), vec![(Tone::Dim, rest)], ""));
            break;
        }
        *budget -= 1;
        let below = format!("{id}/{}", step(name));
        nodes.push(named(&below, name, value, depth, budget));
    }
    nodes
}

/// A member's name as a JSON Pointer bears it (RFC 6901, 3), so that ids are pointers.
pub fn step(name: &str) -> String {
    name.replace('~', "~0").replace('/', "~1")
}

fn copy_of(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        other => serde_json::to_string_pretty(other).unwrap_or_else(|_| other.to_string()),
    }
}

fn count(number: usize, noun: &str) -> String {
    if number == 1 {
        format!("1 {noun}")
    } else {
        format!("{number} {noun}s")
    }
}

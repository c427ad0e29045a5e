//! The order of deletion over the graph of foreign keys. Pure.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;

/// A foreign key between two tables: the child goes before the parent.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Link {
    /// The table that refers.
    pub child: String,
    /// The table that is referred to.
    pub parent: String,
    /// The constraint's name.
    pub constraint: String,
    /// Whether it could be nulled first.
    pub nullable: bool,
}

/// Tables that refer to each other in a ring; a table that refers to itself is one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Cycle {
    /// The tables, by name.
    pub tables: Vec<String>,
    /// The foreign keys among them.
    pub links: Vec<Link>,
}

/// The order, as far as there is one.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Order {
    /// From 1; tables of a cycle share a place.
    pub places: BTreeMap<String, u32>,
    /// What has no order until a key of it is nulled first.
    pub cycles: Vec<Cycle>,
}

/// Puts tables in order: whoever refers comes before what it refers to. Links to or from tables that
/// are not among them are left out.
#[must_use]
pub fn arrange(tables: &BTreeSet<String>, links: &[Link]) -> Order {
    let links: Vec<&Link> = links
        .iter()
        .filter(|link| tables.contains(&link.child) && tables.contains(&link.parent))
        .collect();
    let mut parents: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for link in &links {
        parents.entry(&link.child).or_default().push(&link.parent);
    }
    let reach: BTreeMap<&str, BTreeSet<&str>> = tables
        .iter()
        .map(|table| (table.as_str(), reach_of(table, &parents)))
        .collect();
    // Who reaches me and is reached by me is in one ring with me.
    let ring = |table: &str| -> Vec<&str> {
        let both = reach[table].iter().copied();
        let mut ring: Vec<&str> = both.filter(|other| reach[*other].contains(table)).collect();
        if ring.is_empty() {
            ring.push(reach.get_key_value(table).map_or("", |(name, _)| *name));
        }
        ring
    };
    let rings: BTreeMap<&str, Vec<&str>> =
        reach.keys().map(|table| (*table, ring(table))).collect();
    let mut order = Order::default();
    // A ring's place is one after the last of those outside it that refer into it. Whoever reaches
    // more comes earlier, so that those are known by then.
    let mut earliest: Vec<&str> = reach.keys().copied().collect();
    let reached = |table: &str| reach[table].len() + usize::from(!reach[table].contains(table));
    earliest.sort_by_key(|table| (std::cmp::Reverse(reached(table)), *table));
    for table in earliest {
        if order.places.contains_key(table) {
            continue;
        }
        let members = &rings[table];
        let before = links.iter().filter(|link| {
            members.contains(&link.parent.as_str()) && !members.contains(&link.child.as_str())
        });
        let last = before
            .filter_map(|link| order.places.get(&link.child))
            .max();
        let place = last.map_or(1, |last| last + 1);
        for member in members {
            order.places.insert((*member).to_owned(), place);
        }
        let inside = |link: &&&Link| {
            members.contains(&link.child.as_str()) && members.contains(&link.parent.as_str())
        };
        let inside: Vec<Link> = links
            .iter()
            .filter(inside)
            .map(|link| (*link).clone())
            .collect();
        if !inside.is_empty() {
            order.cycles.push(Cycle {
                tables: members.iter().map(|name| (*name).to_owned()).collect(),
                links: inside,
            });
        }
    }
    order
        .cycles
        .sort_by(|one, other| one.tables.cmp(&other.tables));
    order
}

/// All that a table refers to, over any number of links; itself only if a way leads back.
fn reach_of<'a>(table: &str, parents: &BTreeMap<&str, Vec<&'a str>>) -> BTreeSet<&'a str> {
    let mut found = BTreeSet::new();
    let mut open = vec![table];
    while let Some(next) = open.pop() {
        for parent in parents.get(next).into_iter().flatten() {
            if found.insert(*parent) {
                open.push(parent);
            }
        }
    }
    found
}

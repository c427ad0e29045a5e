//! A first map from what the catalog says. Pure.
//!
//! What the catalog proves (keys, tenant columns, the order) is written as it is; what a name or a
//! type suggests is a guess, and marked. What only people know (a legal basis, a key that may point
//! to another tenant) is left out, so that the check asks for it.

use std::collections::{BTreeMap, BTreeSet};

use super::order::{Link, arrange};
use super::snapshot::{Column, Snapshot, Table};
use super::{Belongs, ColumnRule, DataMap, Erase, Kind, Model, TableRule};
use crate::data_map::check::{can_hash, can_mask, is_in_key, links};

/// What products call the column that names a tenant; the one that most tables have is taken.
const TENANT_COLUMNS: [&str; 9] = [
    "tenant_id",
    "organisation_id",
    "organization_id",
    "org_id",
    "account_id",
    "workspace_id",
    "company_id",
    "team_id",
    "customer_id",
];
/// Parts of a table's name, and the class that they suggest.
const CLASSES: [(&str, &[&str]); 2] = [
    (
        "financial",
        &[
            "invoice", "invoices", "payment", "payments", "receipt", "refund", "ledger", "tax",
        ],
    ),
    (
        "audit",
        &["audit", "log", "logs", "event", "events", "history"],
    ),
];
/// The class of all others.
const CONTENT: &str = "content";
/// The class whose rows outlive their tenant.
const FINANCIAL: &str = "financial";
/// Parts of a column's name that suggest what is about a person, or written by one.
const PERSONAL: [&str; 39] = [
    "name",
    "email",
    "mail",
    "phone",
    "mobile",
    "fax",
    "address",
    "street",
    "city",
    "zip",
    "postal",
    "postcode",
    "birth",
    "birthday",
    "born",
    "gender",
    "ip",
    "agent",
    "avatar",
    "photo",
    "picture",
    "login",
    "username",
    "nickname",
    "signature",
    "body",
    "title",
    "subject",
    "text",
    "message",
    "comment",
    "description",
    "note",
    "notes",
    "content",
    "bio",
    "password",
    "secret",
    "details",
];
/// Parts of a column's name that suggest money.
const MONEY: [&str; 15] = [
    "amount", "price", "total", "subtotal", "tax", "vat", "iban", "bic", "card", "currency",
    "balance", "fee", "discount", "cost", "number",
];

/// Drafts a map. The tenant column is found by its name unless it is given.
#[must_use]
pub fn draft(
    snapshot: &Snapshot,
    model: Model,
    schemas: &[String],
    tenant_column: Option<&str>,
) -> DataMap {
    let tenant = (model == Model::Shared)
        .then(|| tenant_column.or_else(|| guess_tenant_column(snapshot)))
        .flatten();
    let belongs = find_tenants(snapshot, tenant);
    let mut kept = kept_tables(snapshot);
    if model == Model::Shared {
        // Until somebody says whose their rows are, nothing of them goes with a tenant.
        let unsaid = belongs.iter().filter(|(_, one)| **one == Belongs::Unsaid);
        kept.extend(unsaid.map(|(name, _)| *name));
    }
    let mut map = DataMap {
        model,
        schemas: schemas.to_vec(),
        setting: None,
        tables: snapshot
            .tables
            .iter()
            .map(|table| {
                let belongs = belongs[table.name.as_str()].clone();
                (table.name.clone(), draft_table(table, belongs, &kept))
            })
            .collect(),
    };
    add_order(snapshot, &mut map);
    map
}

fn guess_tenant_column(snapshot: &Snapshot) -> Option<&'static str> {
    let having = |name: &str| {
        let tables = snapshot.tables.iter();
        tables.filter(|table| table.column(name).is_some()).count()
    };
    // Of equals the first of the list, which `max_by_key` would not take.
    let names = TENANT_COLUMNS.iter().rev();
    let best = names.max_by_key(|name| having(name))?;
    (having(best) > 0).then_some(*best)
}

fn parts(name: &str) -> impl Iterator<Item = &str> {
    let bare = name.rsplit('.').next().unwrap_or(name);
    bare.split('_')
}

fn class_of(table: &Table) -> &'static str {
    let classes = CLASSES.iter();
    let found = classes
        .filter(|(_, words)| parts(&table.name).any(|part| words.contains(&part)))
        .map(|(class, _)| *class);
    found.into_iter().next().unwrap_or(CONTENT)
}

/// Financial tables, and whatever their rows cannot be without.
fn kept_tables(snapshot: &Snapshot) -> BTreeSet<&str> {
    let financial = snapshot.tables.iter();
    let mut open: Vec<&Table> = financial
        .filter(|table| class_of(table) == FINANCIAL)
        .collect();
    let mut kept: BTreeSet<&str> = open.iter().map(|table| table.name.as_str()).collect();
    while let Some(table) = open.pop() {
        let keys = table.foreign_keys.iter();
        for key in keys.filter(|key| table.nullable_columns(key).is_empty()) {
            if let Some(parent) = snapshot.table(&key.parent)
                && kept.insert(&parent.name)
            {
                open.push(parent);
            }
        }
    }
    kept
}

fn draft_table(table: &Table, belongs: Belongs, kept: &BTreeSet<&str>) -> TableRule {
    let is_kept = kept.contains(table.name.as_str());
    let columns = table.columns.iter().map(|column| {
        let (kind, guess) = guess_kind(table, column);
        ColumnRule {
            name: column.name.clone(),
            kind,
            erase: if is_kept {
                erase_of_kept(table, column, kind, kept)
            } else {
                Erase::Delete
            },
            basis: None,
            guess,
        }
    });
    TableRule {
        belongs,
        class: class_of(table).to_owned(),
        order: 1,
        nulled_first: BTreeSet::new(),
        unguarded: BTreeSet::new(),
        basis: None,
        columns: columns.collect(),
    }
}

/// What a column holds, and whether that is a guess. Keys are what the catalog says they are, and a
/// number, a time or a truth value whose name says nothing else tells nobody anything.
fn guess_kind(table: &Table, column: &Column) -> (Kind, bool) {
    if table.is_primary(&column.name) || is_in_key(table, &column.name) {
        return (Kind::Operational, false);
    }
    let named = |words: &[&str]| parts(&column.name).any(|part| words.contains(&part));
    let base = column
        .data_type
        .split('(')
        .next()
        .unwrap_or_default()
        .trim();
    let plain = match base {
        "smallint" | "integer" | "bigint" | "numeric" | "real" | "double precision" | "boolean"
        | "uuid" | "date" | "interval" => true,
        other => other.starts_with("timestamp") || other.starts_with("time"),
    };
    let personal_type = matches!(
        base,
        "inet" | "cidr" | "macaddr" | "json" | "jsonb" | "bytea"
    );
    if named(&MONEY) {
        (Kind::Financial, true)
    } else if personal_type || named(&PERSONAL) {
        (Kind::Personal, true)
    } else {
        (Kind::Operational, !plain)
    }
}

fn erase_of_kept(table: &Table, column: &Column, kind: Kind, kept: &BTreeSet<&str>) -> Erase {
    let leads_away = |key: &&super::ForeignKey| !kept.contains(key.parent.as_str());
    let mut away = table.foreign_keys.iter().filter(leads_away);
    if away.any(|key| table.nullable_columns(key).contains(&column.name.as_str())) {
        return Erase::Null;
    }
    if kind != Kind::Personal || column.generated {
        return Erase::Keep;
    }
    if column.nullable && !table.is_unique(&column.name) {
        Erase::Null
    } else if can_mask(table, column).is_ok() {
        Erase::Mask
    } else if can_hash(table, column).is_ok() {
        Erase::Hash
    } else {
        Erase::Keep
    }
}

/// How each table's rows find their tenant: by the tenant column, or over foreign keys that are
/// never null, by the shortest way.
fn find_tenants<'a>(snapshot: &'a Snapshot, tenant: Option<&str>) -> BTreeMap<&'a str, Belongs> {
    let mut found: BTreeMap<&str, Belongs> = BTreeMap::new();
    for table in &snapshot.tables {
        let column = tenant.filter(|name| table.column(name).is_some());
        let belongs = column.map_or(Belongs::Unsaid, |name| Belongs::Column(name.to_owned()));
        found.insert(&table.name, belongs);
    }
    // One more key with each round, until nobody finds a way any more.
    while tenant.is_some() {
        let unsaid = snapshot.tables.iter();
        let unsaid = unsaid.filter(|table| found[table.name.as_str()] == Belongs::Unsaid);
        let ways: Vec<(&str, Vec<String>)> = unsaid
            .filter_map(|table| Some((table.name.as_str(), way(table, &found)?)))
            .collect();
        if ways.is_empty() {
            break;
        }
        for (name, way) in ways {
            found.insert(name, Belongs::Path(way));
        }
    }
    found
}

/// A way from a table over a table that has found its tenant.
fn way(table: &Table, found: &BTreeMap<&str, Belongs>) -> Option<Vec<String>> {
    let sure = |key: &&super::ForeignKey| table.nullable_columns(key).is_empty();
    table.foreign_keys.iter().filter(sure).find_map(|key| {
        let rest = match found.get(key.parent.as_str())? {
            Belongs::Column(_) => Vec::new(),
            Belongs::Path(rest) => rest.clone(),
            Belongs::Nobody(_) | Belongs::Unsaid => return None,
        };
        Some(std::iter::once(key.name.clone()).chain(rest).collect())
    })
}

/// Places each table, and breaks rings where a key can be nulled: that of the smallest table, since
/// its rows are written once more.
fn add_order(snapshot: &Snapshot, map: &mut DataMap) {
    let names: BTreeSet<String> = map.tables.keys().cloned().collect();
    loop {
        let open: Vec<Link> = links(snapshot, map)
            .into_iter()
            .filter(|link| {
                !map.tables[&link.child]
                    .nulled_first
                    .contains(&link.constraint)
            })
            .collect();
        let order = arrange(&names, &open);
        let rows = |table: &str| snapshot.table(table).map_or(0, |table| table.rows);
        let nullable = order.cycles.iter().flat_map(|cycle| &cycle.links);
        let weakest = nullable
            .filter(|link| link.nullable)
            .min_by_key(|link| (rows(&link.child), *link));
        let Some(link) = weakest else {
            for (name, place) in order.places {
                if let Some(rule) = map.tables.get_mut(&name) {
                    rule.order = place;
                }
            }
            return;
        };
        if let Some(rule) = map.tables.get_mut(&link.child) {
            rule.nulled_first.insert(link.constraint.clone());
        }
    }
}

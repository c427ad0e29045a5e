//! A map held against what the catalog says. Pure.

use std::collections::BTreeSet;

use serde::Serialize;

use super::order::{Link, arrange};
use super::snapshot::{Column, ForeignKey, OnDelete, Security, Snapshot, Table};
use super::{Belongs, ColumnRule, DataMap, Erase, Kind, Model, TableRule};

/// The shortest text that a keyed hash fits into: 64 hexadecimal digits.
const HASH_LENGTH: u32 = 64;
/// The shortest text that the mask fits into.
const MASK_LENGTH: u32 = 6;

/// What kind of thing is wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Code {
    /// The database has a table that the map does not name.
    TableNotMapped,
    /// The map names a table that the database does not have.
    TableGone,
    /// The database has a column that the map does not name.
    ColumnNotMapped,
    /// The map names a column that its table does not have.
    ColumnGone,
    /// Nobody has confirmed what was guessed.
    Guess,
    /// Nothing tells whose a row is.
    NoTenant,
    /// What should tell whose a row is does not.
    TenantUnsure,
    /// A foreign key could point to another tenant's row.
    CrossesTenants,
    /// A foreign key leads out of what the map covers.
    LeadsOutside,
    /// The map names a foreign key that is not there, or cannot be nulled.
    BadKey,
    /// A table would be emptied before what refers to it.
    Order,
    /// Tables refer to each other in a ring that nothing breaks.
    Cycle,
    /// A row that stays refers to one that goes.
    KeptNeedsDeleted,
    /// The way to erase cannot work.
    Erase,
    /// No reason is given for what is kept.
    NoBasis,
    /// Row-level security does not bind everybody.
    RowSecurity,
    /// A policy opens rows whatever the tenant.
    Policy,
    /// No index leads to a foreign key, so that each row that it refers to is expensive to delete.
    KeyWithoutIndex,
    /// No index leads to the rows of one tenant.
    TenantWithoutIndex,
}

/// One thing that is wrong, and what to do.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Finding {
    /// The table.
    pub table: String,
    /// The column, if it is about one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub column: Option<String>,
    /// What kind of thing is wrong.
    pub code: Code,
    /// What is wrong.
    pub detail: String,
    /// What to do.
    pub remedy: String,
}

/// Holds a map against a database. Sorted by table and column; empty when all is well.
#[must_use]
pub fn check(map: &DataMap, snapshot: &Snapshot) -> Vec<Finding> {
    let mut findings = Vec::new();
    for table in &snapshot.tables {
        if !map.tables.contains_key(&table.name) {
            findings.push(Finding {
                table: table.name.clone(),
                column: None,
                code: Code::TableNotMapped,
                detail: "the map does not name it".to_owned(),
                remedy: "add it: `tenure data-map draft` shows what it could say".to_owned(),
            });
        }
    }
    for (name, rule) in &map.tables {
        match snapshot.table(name) {
            Some(table) => {
                let findings = &mut findings;
                let look = Look {
                    map,
                    snapshot,
                    table,
                    rule,
                    findings,
                };
                look.all();
            }
            None => findings.push(Finding {
                table: name.clone(),
                column: None,
                code: Code::TableGone,
                detail: "the database has no such table".to_owned(),
                remedy: "take it out of the map".to_owned(),
            }),
        }
    }
    check_order(map, snapshot, &mut findings);
    findings.sort();
    findings
}

/// One table under the eye.
struct Look<'a> {
    map: &'a DataMap,
    snapshot: &'a Snapshot,
    table: &'a Table,
    rule: &'a TableRule,
    findings: &'a mut Vec<Finding>,
}

impl Look<'_> {
    fn tell(&mut self, column: Option<&str>, code: Code, detail: String, remedy: &str) {
        self.findings.push(Finding {
            table: self.table.name.clone(),
            column: column.map(ToOwned::to_owned),
            code,
            detail,
            remedy: remedy.to_owned(),
        });
    }

    fn all(mut self) {
        self.columns();
        self.named_keys();
        self.foreign_keys();
        if self.map.model == Model::Shared {
            self.tenant();
        }
    }

    fn columns(&mut self) {
        let (table, rule) = (self.table, self.rule);
        for column in &table.columns {
            match rule.column(&column.name) {
                Some(said) => self.column(column, said),
                None => self.tell(
                    Some(&column.name),
                    Code::ColumnNotMapped,
                    format!("the map does not name it ({})", column.data_type),
                    "say what it holds and how it is erased",
                ),
            }
        }
        for said in &rule.columns {
            if table.column(&said.name).is_none() {
                let detail = "the table has no such column".to_owned();
                self.tell(
                    Some(&said.name),
                    Code::ColumnGone,
                    detail,
                    "take it out of the map",
                );
            }
        }
        let is_nobodys = matches!(rule.belongs, Belongs::Nobody(_));
        if rule.is_kept() && !is_nobodys && rule.basis.is_none() {
            let detail = "its rows are kept, and no basis says why".to_owned();
            self.tell(
                None,
                Code::NoBasis,
                detail,
                "name the law as `basis`, or delete all columns",
            );
        }
    }

    fn column(&mut self, column: &Column, said: &ColumnRule) {
        let name = Some(said.name.as_str());
        if said.guess {
            let remedy = "confirm or correct it, and take `guess` out";
            self.tell(
                name,
                Code::Guess,
                "nobody has confirmed the guess".to_owned(),
                remedy,
            );
        }
        if let Err(why) = can_erase(self.table, self.rule, column, said.erase) {
            self.tell(
                name,
                Code::Erase,
                why,
                "choose another `erase`, or change the table",
            );
        }
        if said.erase == Erase::Keep && said.kind == Kind::Personal && said.basis.is_none() {
            let detail = "it is personal and kept, and no basis of its own says why".to_owned();
            self.tell(
                name,
                Code::NoBasis,
                detail,
                "name the law as the column's `basis`, or mask it",
            );
        }
    }

    /// The foreign keys that the map names.
    fn named_keys(&mut self) {
        let (table, rule) = (self.table, self.rule);
        for name in rule.nulled_first.iter().chain(&rule.unguarded) {
            if table.foreign_key(name).is_none() {
                let detail = format!("it has no foreign key {name}");
                self.tell(None, Code::BadKey, detail, "take it out of the map");
            }
        }
        let keys = rule.nulled_first.iter();
        for key in keys.filter_map(|name| table.foreign_key(name)) {
            if table.nullable_columns(key).is_empty() {
                let detail = format!(
                    "{} cannot be nulled first: its columns are not null",
                    key.name
                );
                self.tell(None, Code::BadKey, detail, "break the ring at another key");
            }
        }
    }

    fn foreign_keys(&mut self) {
        for key in &self.table.foreign_keys {
            let Some(parent) = self.map.tables.get(&key.parent) else {
                if self.snapshot.table(&key.parent).is_none() {
                    let detail = format!(
                        "{} refers to {}, which the map does not cover",
                        key.name, key.parent
                    );
                    self.tell(
                        None,
                        Code::LeadsOutside,
                        detail,
                        "add its schema to `schemas`",
                    );
                }
                continue;
            };
            if self.map.model == Model::Shared {
                self.guard(key, parent);
            }
            if self.rule.is_kept() && !parent.is_kept() && !self.is_let_go(key) {
                let detail = format!(
                    "its rows stay, and {} needs rows of {} that go",
                    key.name, key.parent
                );
                let remedy = "null a column of the key, or keep the rows of the other table";
                self.tell(None, Code::KeptNeedsDeleted, detail, remedy);
            }
        }
    }

    /// Whether a kept row's key points nowhere by the time that its parent goes.
    fn is_let_go(&self, key: &ForeignKey) -> bool {
        let nullable = self.table.nullable_columns(key);
        let nulled = |name: &&str| {
            let said = self.rule.column(name);
            said.is_some_and(|said| said.erase == Erase::Null)
        };
        if key.match_full {
            return !nullable.is_empty() && nullable.iter().all(nulled);
        }
        nullable.iter().any(nulled)
    }

    /// A key between two tables of tenants must hold the tenant, or it can leave it.
    fn guard(&mut self, key: &ForeignKey, parent: &TableRule) {
        if self.rule.unguarded.contains(&key.name) {
            return;
        }
        match (&self.rule.belongs, &parent.belongs) {
            (Belongs::Column(own), Belongs::Column(theirs)) => {
                let mut pairs = key.columns.iter().zip(&key.parent_columns);
                if !pairs.any(|pair| pair == (own, theirs)) {
                    let detail = format!(
                        "{} could point to another tenant's row of {}",
                        key.name, key.parent
                    );
                    let remedy =
                        "make the tenant column part of the key, or list it in `unguarded`";
                    self.tell(None, Code::CrossesTenants, detail, remedy);
                }
            }
            (Belongs::Path(path), Belongs::Column(_) | Belongs::Path(_))
                if path.first() != Some(&key.name) =>
            {
                let detail = format!(
                    "{} could point to another tenant's row of {}",
                    key.name, key.parent
                );
                let remedy = "give the table a tenant column, or list the key in `unguarded`";
                self.tell(None, Code::CrossesTenants, detail, remedy);
            }
            (Belongs::Nobody(_), Belongs::Column(_) | Belongs::Path(_)) => {
                let detail = format!(
                    "it is nobody's, and {} refers to tenants' rows of {}",
                    key.name, key.parent
                );
                self.tell(
                    None,
                    Code::TenantUnsure,
                    detail,
                    "say how its rows find their tenant",
                );
            }
            _ => {}
        }
    }

    fn tenant(&mut self) {
        let rule = self.rule;
        match &rule.belongs {
            Belongs::Column(name) => match self.table.column(name) {
                None => {
                    let detail = format!("its tenant column {name} is not there");
                    self.tell(None, Code::NoTenant, detail, "name the right one");
                }
                Some(column) if column.nullable => {
                    let detail = "a row without a tenant would be nobody's".to_owned();
                    let remedy = "make the tenant column not null";
                    self.tell(Some(name), Code::TenantUnsure, detail, remedy);
                    self.row_security(Some(name));
                }
                Some(_) => self.row_security(Some(name)),
            },
            Belongs::Path(path) => {
                if let Err(why) = follow(self.map, self.snapshot, self.table, path) {
                    self.tell(
                        None,
                        Code::TenantUnsure,
                        why,
                        "name a way over keys that are never null",
                    );
                }
                self.row_security(None);
            }
            Belongs::Nobody(_) => {}
            Belongs::Unsaid => {
                let detail = "it has no tenant column and no path to one".to_owned();
                let remedy = "add a tenant column, or say `no_tenant` with the reason if it holds nothing of tenants";
                self.tell(None, Code::NoTenant, detail, remedy);
            }
        }
    }

    fn row_security(&mut self, column: Option<&str>) {
        let (code, name) = (Code::RowSecurity, self.table.name.clone());
        match self.table.security {
            Security::Off => {
                let detail = "row-level security is off".to_owned();
                let remedy = format!(
                    "alter table {name} enable row level security, force row level security"
                );
                self.tell(None, code, detail, &remedy);
            }
            Security::On => {
                let detail = format!("its owner {} reads every tenant's rows", self.table.owner);
                let remedy = format!("alter table {name} force row level security");
                self.tell(None, code, detail, &remedy);
            }
            Security::Forced => {}
        }
        if self.table.owner_bypasses {
            let detail = format!(
                "its owner {} is never bound by row-level security",
                self.table.owner
            );
            let remedy = "give the table to a role that is no superuser and has no bypassrls";
            self.tell(None, code, detail, remedy);
        }
        for partition in &self.table.partitions {
            if partition.security != Security::Forced {
                let detail = format!("partition {} can be read past it by name", partition.name);
                let name = &partition.name;
                let remedy = format!(
                    "alter table {name} enable row level security, force row level security"
                );
                self.tell(None, code, detail, &remedy);
            }
        }
        let Some(column) = column else { return };
        for policy in &self.table.policies {
            if policy.conditions.iter().any(|text| !mentions(text, column)) {
                let detail = format!("policy {} does not look at {column}", policy.name);
                let remedy = "compare the tenant column in it, or make it restrictive";
                self.tell(None, Code::Policy, detail, remedy);
            }
        }
    }
}

/// Whether an expression names a column: as a word, not as a part of one.
fn mentions(text: &str, column: &str) -> bool {
    let is_word = |c: char| c.is_alphanumeric() || c == '_';
    text.match_indices(column).any(|(at, _)| {
        let before = text[..at].chars().next_back();
        let after = text[at + column.len()..].chars().next();
        !before.is_some_and(is_word) && !after.is_some_and(is_word)
    })
}

/// Follows a path of foreign keys to a table with a tenant column.
fn follow(map: &DataMap, snapshot: &Snapshot, from: &Table, path: &[String]) -> Result<(), String> {
    let mut table = from;
    for name in path {
        let key = table.foreign_key(name);
        let key = key.ok_or_else(|| format!("{} has no foreign key {name}", table.name))?;
        if !table.nullable_columns(key).is_empty() {
            return Err(format!(
                "{name} of {} may be null: such a row would be nobody's",
                table.name
            ));
        }
        let parent = snapshot.table(&key.parent);
        table = parent
            .ok_or_else(|| format!("{name} leads to {}, which is not covered", key.parent))?;
    }
    match map.tables.get(&table.name).map(|rule| &rule.belongs) {
        Some(Belongs::Column(_)) => Ok(()),
        _ => Err(format!(
            "the path ends at {}, which has no tenant column",
            table.name
        )),
    }
}

/// The foreign keys that bind the order. A parent that stays binds nobody; a row that refers to its
/// own table and goes or is let go with its parent does not, either.
pub(super) fn links(snapshot: &Snapshot, map: &DataMap) -> Vec<Link> {
    let mut links = Vec::new();
    for table in &snapshot.tables {
        for key in &table.foreign_keys {
            let goes = map
                .tables
                .get(&key.parent)
                .is_some_and(|rule| !rule.is_kept());
            let itself = key.parent == table.name && key.on_delete != OnDelete::Refuse;
            if goes && !itself && map.tables.contains_key(&table.name) {
                links.push(Link {
                    child: table.name.clone(),
                    parent: key.parent.clone(),
                    constraint: key.name.clone(),
                    nullable: !table.nullable_columns(key).is_empty(),
                });
            }
        }
    }
    links
}

fn check_order(map: &DataMap, snapshot: &Snapshot, findings: &mut Vec<Finding>) {
    let names: BTreeSet<String> = map.tables.keys().cloned().collect();
    // A key that cannot be nulled breaks no ring, though the map lists it.
    let nulled = |link: &Link| {
        let listed = &map.tables[&link.child].nulled_first;
        link.nullable && listed.contains(&link.constraint)
    };
    let links: Vec<Link> = links(snapshot, map)
        .into_iter()
        .filter(|link| !nulled(link))
        .collect();
    let order = arrange(&names, &links);
    for cycle in &order.cycles {
        let ring: Vec<String> = cycle
            .links
            .iter()
            .map(|link| format!("{} ({} to {})", link.constraint, link.child, link.parent))
            .collect();
        let nullable: Vec<String> = cycle
            .links
            .iter()
            .filter(|link| link.nullable)
            .map(|link| format!("{} of {}", link.constraint, link.child))
            .collect();
        findings.push(Finding {
            table: cycle.tables.first().cloned().unwrap_or_default(),
            column: None,
            code: Code::Cycle,
            detail: format!("rows refer to each other in a ring: {}", ring.join(", ")),
            remedy: if nullable.is_empty() {
                "make a column of one of these keys nullable, then list the key in `nulled_first`"
                    .to_owned()
            } else {
                format!(
                    "list one of these in `nulled_first` of its table: {}",
                    nullable.join(", ")
                )
            },
        });
    }
    let in_cycle = |link: &Link| order.cycles.iter().any(|cycle| cycle.links.contains(link));
    for link in links.iter().filter(|link| !in_cycle(link)) {
        let (child, parent) = (&map.tables[&link.child], &map.tables[&link.parent]);
        if child.order >= parent.order {
            findings.push(Finding {
                table: link.child.clone(),
                column: None,
                code: Code::Order,
                detail: format!(
                    "its order is {}, and {}, which {} refers to, goes at {}",
                    child.order, link.parent, link.constraint, parent.order
                ),
                remedy: format!("give it an order below that of {}", link.parent),
            });
        }
    }
}

/// Whether a column is part of a foreign key.
pub(super) fn is_in_key(table: &Table, column: &str) -> bool {
    let mut keys = table.foreign_keys.iter();
    keys.any(|key| key.columns.iter().any(|name| name == column))
}

fn can_erase(table: &Table, rule: &TableRule, column: &Column, erase: Erase) -> Result<(), String> {
    if column.generated && matches!(erase, Erase::Null | Erase::Hash | Erase::Mask) {
        return Err("its value is computed, so it cannot be written".to_owned());
    }
    match erase {
        Erase::Delete if rule.is_kept() => {
            Err("it goes with its row, but the row stays".to_owned())
        }
        Erase::Null if table.is_primary(&column.name) => {
            Err("it is part of the primary key, so it cannot be null".to_owned())
        }
        Erase::Null if !column.nullable => Err("it is not null, so it cannot be nulled".to_owned()),
        Erase::Hash => can_hash(table, column),
        Erase::Mask => can_mask(table, column),
        Erase::Delete | Erase::Null | Erase::Keep => Ok(()),
    }
}

/// Whether a keyed hash can stand in a column's place.
pub(super) fn can_hash(table: &Table, column: &Column) -> Result<(), String> {
    if is_in_key(table, &column.name) {
        return Err("it is part of a foreign key, which a hash would break".to_owned());
    }
    if table.is_primary(&column.name) {
        return Err("it is part of the primary key, which others refer to".to_owned());
    }
    fits_text(column, HASH_LENGTH, "a hash")
}

/// Whether a fixed value can stand in a column's place.
pub(super) fn can_mask(table: &Table, column: &Column) -> Result<(), String> {
    if is_in_key(table, &column.name) {
        return Err("it is part of a foreign key, which a mask would break".to_owned());
    }
    if table.is_unique(&column.name) {
        return Err("it is unique, and all masks are the same".to_owned());
    }
    match column.data_type.as_str() {
        "json" | "jsonb" | "inet" => Ok(()),
        _ => fits_text(column, MASK_LENGTH, "a mask"),
    }
}

/// Whether a text of a length fits into a column.
fn fits_text(column: &Column, length: u32, what: &str) -> Result<(), String> {
    let refusal = || format!("{what} does not fit into {}", column.data_type);
    let (base, limit) = match column.data_type.split_once('(') {
        Some((base, limit)) => (base, Some(limit.trim_end_matches(')'))),
        None => (column.data_type.as_str(), None),
    };
    if !matches!(base, "text" | "character varying" | "citext") {
        return Err(refusal());
    }
    match limit.map(str::parse::<u32>) {
        None => Ok(()),
        Some(Ok(limit)) if limit >= length => Ok(()),
        Some(_) => Err(refusal()),
    }
}

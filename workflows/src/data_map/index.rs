//! Keys that no index leads to. Pure.
//!
//! Postgres makes no index for a foreign key: whoever deletes a row that one refers to looks for rows
//! that refer to it, and without an index reads them all, once for each row that goes. Such a map is
//! true, and on a small table nobody feels it, so it is told beside the findings and fails nothing;
//! what it costs is for whoever deletes to count.

use super::snapshot::{ForeignKey, Index, Snapshot, Table};
use super::{Belongs, Code, DataMap, Finding, Model};
use crate::product::quoted;

/// What is read in place of an index.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reads {
    /// The whole table.
    Table,
    /// The tenant's rows: an index leads to them, and no further.
    Tenant,
}

/// A key of a table that no index leads to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unindexed {
    /// The table that would be read.
    pub table: String,
    /// The foreign key and the table that it refers to; `None` where it is the tenant column.
    pub key: Option<(String, String)>,
    /// The columns that want an index.
    pub columns: Vec<String>,
    /// What is read without one.
    pub reads: Reads,
    /// What an index is made on: the table, or each partition that holds rows.
    made_on: Vec<String>,
}

impl Unindexed {
    /// The statements that make the index, without keeping anybody from writing. With one schema per
    /// tenant the table is in `schema`.
    #[must_use]
    pub fn statements(&self, schema: Option<&str>) -> String {
        let columns: Vec<String> = self.columns.iter().map(|name| quoted(name)).collect();
        let columns = columns.join(", ");
        let made = self.made_on.iter().map(|table| {
            let (schema, table) = match (table.split_once('.'), schema) {
                (Some((schema, table)), _) => (Some(schema), table),
                (None, schema) => (schema, table.as_str()),
            };
            let schema = schema.map_or(String::new(), |name| format!("{}.", quoted(name)));
            format!(
                "create index concurrently on {schema}{} ({columns})",
                quoted(table)
            )
        });
        made.collect::<Vec<_>>().join("; ")
    }

    /// As a finding.
    #[must_use]
    pub fn finding(&self, schema: Option<&str>) -> Finding {
        let columns = self.columns.join(", ");
        let what = match self.reads {
            Reads::Table => "the whole table",
            Reads::Tenant => "all of the tenant's rows",
        };
        let (code, detail) = match &self.key {
            Some((key, parent)) => (
                Code::KeyWithoutIndex,
                format!(
                    "no index leads to {key} ({columns}): each row of {parent} that is deleted reads {what}"
                ),
            ),
            None => (
                Code::TenantWithoutIndex,
                format!(
                    "no index leads to {columns}: whoever looks for a tenant's rows reads {what}"
                ),
            ),
        };
        Finding {
            table: self.table.clone(),
            column: None,
            code,
            detail,
            remedy: self.statements(schema),
        }
    }
}

/// The foreign keys and tenant columns that no index leads to, by table. A key to a table of nobody is
/// left out: its rows are not deleted. A tenant column is, where an index on one of the keys would
/// serve it, too.
#[must_use]
pub fn unindexed(map: &DataMap, snapshot: &Snapshot) -> Vec<Unindexed> {
    let mut found = Vec::new();
    for table in &snapshot.tables {
        let Some(rule) = map.tables.get(&table.name) else {
            continue;
        };
        let tenant = match (&rule.belongs, map.model) {
            (Belongs::Column(name), Model::Shared) => Some(name.as_str()),
            _ => None,
        };
        let deleted = |key: &&ForeignKey| {
            let parent = map.tables.get(&key.parent);
            parent.is_some_and(|parent| !matches!(parent.belongs, Belongs::Nobody(_)))
        };
        let first = found.len();
        for key in table.foreign_keys.iter().filter(deleted) {
            if let Some(reads) = reads(table, key, tenant) {
                found.push(Unindexed {
                    table: table.name.clone(),
                    key: Some((key.name.clone(), key.parent.clone())),
                    columns: key.columns.clone(),
                    reads,
                    made_on: made_on(table),
                });
            }
        }
        let Some(tenant) = tenant else { continue };
        let leads = |columns: &[String]| columns.first().is_some_and(|name| name == tenant);
        let mut indexes = table
            .indexes
            .iter()
            .filter(|index| index.predicate.is_none());
        let served = indexes.any(|index| leads(&index.columns))
            || found[first..].iter().any(|key| leads(&key.columns));
        if !served {
            found.push(Unindexed {
                table: table.name.clone(),
                key: None,
                columns: vec![tenant.to_owned()],
                reads: Reads::Table,
                made_on: made_on(table),
            });
        }
    }
    found
}

fn made_on(table: &Table) -> Vec<String> {
    let leaves = table.partitions.iter().filter(|one| one.is_leaf);
    let leaves: Vec<String> = leaves.map(|one| one.name.clone()).collect();
    match leaves.is_empty() {
        true => vec![table.name.clone()],
        false => leaves,
    }
}

/// What is read when a row that a key refers to is deleted; `None` where an index leads there.
fn reads(table: &Table, key: &ForeignKey, tenant: Option<&str>) -> Option<Reads> {
    let mut reads = Reads::Table;
    for index in table.indexes.iter().filter(|index| serves(index, key)) {
        let is_of_key = |name: &&String| key.columns.contains(name);
        let leading: Vec<&String> = index.columns.iter().take_while(is_of_key).collect();
        let further = leading.iter().any(|name| Some(name.as_str()) != tenant);
        if further || (!leading.is_empty() && leading.len() == key.columns.len()) {
            return None;
        }
        if !leading.is_empty() {
            reads = Reads::Tenant;
        }
    }
    Some(reads)
}

/// Whether a look for rows that refer to one may use an index: it is whole, or lacks only rows in which
/// a column of the key is null.
fn serves(index: &Index, key: &ForeignKey) -> bool {
    let Some(predicate) = &index.predicate else {
        return true;
    };
    predicate.split(" AND ").all(|part| {
        let part = part.trim_matches(['(', ')']);
        let column = part
            .strip_suffix(" IS NOT NULL")
            .map(|name| name.trim_matches('"'));
        column.is_some_and(|column| key.columns.iter().any(|name| name == column))
    })
}

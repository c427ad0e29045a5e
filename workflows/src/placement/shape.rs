//! How the tables of two places fit together. Pure.

use std::collections::{BTreeMap, BTreeSet};

use crate::data_map::{self, Belongs, DataMap, Link, Model, Snapshot, Table};

/// A table at two places.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Fit {
    /// Its name in the map of the place that is left.
    pub(super) from: String,
    /// Its name in the map of the place that is moved to.
    pub(super) to: String,
    /// The columns that are written: those of both places that nobody computes.
    pub(super) written: Vec<String>,
    /// What tells a row of the tenant from its others.
    pub(super) key: Vec<String>,
    /// The primary key of the place that is moved to.
    pub(super) primary: Vec<String>,
    /// Columns that close a ring of foreign keys: null at first, written when all rows are there.
    pub(super) ring: Vec<String>,
    /// The tenant's column of the place that is moved to, where only that one has it.
    pub(super) tenant: Option<String>,
    /// Columns of the place that is left that the other one has not: its tenant's.
    pub(super) hidden_from: Vec<String>,
    /// Columns of the place that is moved to that the other one has not.
    pub(super) hidden_to: Vec<String>,
}

/// Fits the tenants' tables together, parents first.
///
/// # Errors
/// In words, when a row of one place could not be kept at the other.
pub(super) fn fit(
    from: (&DataMap, &Snapshot),
    to: (&DataMap, &Snapshot),
) -> Result<Vec<Fit>, String> {
    let ours = tenants_tables(from.0)?;
    let theirs = tenants_tables(to.0)?;
    let names: BTreeSet<String> = ours
        .keys()
        .map(|bare| theirs.get(bare).cloned().ok_or(bare))
        .collect::<Result<_, _>>()
        .map_err(|bare| format!("there is no table {bare} where the tenant moves to"))?;
    let order = parents_first(to.1, &names)?;
    let mut fits = Vec::new();
    for (name, ring) in order {
        let bare = bare(&name);
        let old = table(from.1, &ours[bare])?;
        let new = table(to.1, &name)?;
        fits.push(fit_table(from.0, old, to.0, new, ring)?);
    }
    Ok(fits)
}

/// The name without its schema.
fn bare(name: &str) -> &str {
    name.rsplit('.').next().unwrap_or(name)
}

/// The tables that hold tenants' rows, by their names without schema.
fn tenants_tables(map: &DataMap) -> Result<BTreeMap<String, String>, String> {
    let mut tables = BTreeMap::new();
    for (name, rule) in &map.tables {
        if matches!(rule.belongs, Belongs::Nobody(_)) {
            continue;
        }
        if tables.insert(bare(name).to_owned(), name.clone()).is_some() {
            let bare = bare(name);
            return Err(format!(
                "two schemas have a table {bare}, which cannot be told apart"
            ));
        }
    }
    Ok(tables)
}

fn table<'a>(snapshot: &'a Snapshot, name: &str) -> Result<&'a Table, String> {
    let found = snapshot.table(name);
    found.ok_or_else(|| format!("the map names table {name}, which is not there"))
}

fn fit_table(
    from_map: &DataMap,
    old: &Table,
    to_map: &DataMap,
    new: &Table,
    ring: Vec<String>,
) -> Result<Fit, String> {
    let tenant_column = |map: &DataMap, table: &Table| match &map.tables.get(&table.name)?.belongs {
        Belongs::Column(column) if map.model == Model::Shared => Some(column.clone()),
        _ => None,
    };
    let only = |one: &Table, other: &Table| -> Vec<String> {
        let columns = one.columns.iter().map(|column| &column.name);
        columns
            .filter(|name| other.column(name).is_none())
            .cloned()
            .collect()
    };
    let (hidden_from, hidden_to) = (only(old, new), only(new, old));
    let (ours, theirs) = (tenant_column(from_map, old), tenant_column(to_map, new));
    if let Some(lost) = hidden_from.iter().find(|name| ours.as_ref() != Some(*name)) {
        return Err(format!("{}.{lost} has no place in {}", old.name, new.name));
    }
    if let Some(empty) = hidden_to.iter().find(|name| theirs.as_ref() != Some(*name)) {
        return Err(format!("nothing says what {}.{empty} is to hold", new.name));
    }
    let kept: Vec<&str> = new
        .columns
        .iter()
        .map(|column| column.name.as_str())
        .collect();
    for name in kept
        .iter()
        .filter(|name| !hidden_to.iter().any(|hidden| hidden == *name))
    {
        let (one, other) = (old.column(name), new.column(name));
        let types = (
            one.map(|one| &one.data_type),
            other.map(|other| &other.data_type),
        );
        if types.0 != types.1 {
            return Err(format!(
                "{}.{name} is of another type than in {}",
                new.name, old.name
            ));
        }
    }
    let key_of = |table: &Table, hidden: &[String]| -> BTreeSet<String> {
        let key = table.primary_key.iter();
        key.filter(|name| !hidden.contains(name)).cloned().collect()
    };
    let key = key_of(new, &hidden_to);
    if key.is_empty() || key != key_of(old, &hidden_from) {
        let words = "have no primary key, or not the same one: rows could not be told apart";
        return Err(format!("{} and {} {words}", old.name, new.name));
    }
    let written = new.columns.iter().filter(|column| !column.generated);
    let written = written.map(|column| column.name.clone());
    Ok(Fit {
        from: old.name.clone(),
        to: new.name.clone(),
        written: written.filter(|name| !hidden_to.contains(name)).collect(),
        key: key.into_iter().collect(),
        primary: new.primary_key.clone(),
        ring,
        tenant: hidden_to.first().cloned(),
        hidden_from,
        hidden_to,
    })
}

/// Puts tables in order, parents first, each with the columns that must be null until all are
/// there.
///
/// # Errors
/// In words, when nothing breaks a ring.
pub(super) fn parents_first(
    snapshot: &Snapshot,
    names: &BTreeSet<String>,
) -> Result<Vec<(String, Vec<String>)>, String> {
    let mut links: Vec<Link> = Vec::new();
    for table in snapshot
        .tables
        .iter()
        .filter(|table| names.contains(&table.name))
    {
        for key in &table.foreign_keys {
            links.push(Link {
                child: table.name.clone(),
                parent: key.parent.clone(),
                constraint: key.name.clone(),
                nullable: !table.nullable_columns(key).is_empty(),
            });
        }
    }
    let mut ring: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    loop {
        let order = data_map::arrange(names, &links);
        let Some(cycle) = order.cycles.first() else {
            let mut places: Vec<(u32, String)> = order
                .places
                .into_iter()
                .map(|(name, place)| (place, name))
                .collect();
            places.sort_by(|one, other| other.0.cmp(&one.0).then(one.1.cmp(&other.1)));
            let with_ring = |(_, name): (u32, String)| {
                let columns = ring.remove(&name).unwrap_or_default();
                (name, columns.into_iter().collect())
            };
            return Ok(places.into_iter().map(with_ring).collect());
        };
        let weakest = cycle.links.iter().filter(|link| link.nullable).min();
        let weakest = weakest.ok_or_else(|| {
            let tables = cycle.tables.join(", ");
            format!("{tables} refer to each other in a ring, and no key of it can be null")
        })?;
        let key = snapshot
            .table(&weakest.child)
            .and_then(|table| Some((table, table.foreign_key(&weakest.constraint)?)));
        if let Some((table, key)) = key {
            let columns = table
                .nullable_columns(key)
                .into_iter()
                .map(ToOwned::to_owned);
            ring.entry(weakest.child.clone())
                .or_default()
                .extend(columns);
        }
        let gone = weakest.clone();
        links.retain(|link| *link != gone);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data_map::{Column, ForeignKey, OnDelete, TableRule};

    fn made(name: &str, columns: &[&str], key: &[&str]) -> Table {
        let columns = columns.iter().map(|name| Column {
            name: (*name).to_owned(),
            data_type: "uuid".to_owned(),
            nullable: !key.contains(name),
            generated: false,
        });
        Table {
            name: name.to_owned(),
            columns: columns.collect(),
            primary_key: key.iter().map(|name| (*name).to_owned()).collect(),
            ..Table::default()
        }
    }

    fn refers(table: &mut Table, column: &str, parent: &str) {
        table.foreign_keys.push(ForeignKey {
            name: format!("{}_{column}", bare(&table.name)),
            columns: vec![column.to_owned()],
            parent: parent.to_owned(),
            parent_columns: vec!["id".to_owned()],
            on_delete: OnDelete::Refuse,
            match_full: false,
        });
    }

    fn map(model: Model, snapshot: &Snapshot, tenant: Option<&str>) -> DataMap {
        let rule = |table: &Table| TableRule {
            belongs: tenant.map_or(Belongs::Unsaid, |name| Belongs::Column(name.to_owned())),
            class: "content".to_owned(),
            order: 1,
            nulled_first: BTreeSet::new(),
            unguarded: BTreeSet::new(),
            basis: None,
            columns: table
                .columns
                .iter()
                .map(|column| data_map::ColumnRule {
                    name: column.name.clone(),
                    kind: data_map::Kind::Operational,
                    erase: data_map::Erase::Delete,
                    basis: None,
                    guess: false,
                })
                .collect(),
        };
        let tables = snapshot.tables.iter();
        DataMap {
            model,
            schemas: vec!["work".to_owned()],
            setting: None,
            tables: tables
                .map(|table| (table.name.clone(), rule(table)))
                .collect(),
        }
    }

    #[test]
    fn the_tenants_column_is_left_behind_and_any_other_is_missed() {
        let old = Snapshot {
            tables: vec![made("work.task", &["org", "id", "title"], &["org", "id"])],
        };
        let new = Snapshot {
            tables: vec![made("task", &["id", "title"], &["id"])],
        };
        let (from, to) = (
            map(Model::Shared, &old, Some("org")),
            map(Model::Schema, &new, None),
        );
        let fits = fit((&from, &old), (&to, &new)).unwrap();
        assert_eq!(fits[0].hidden_from, ["org"]);
        assert_eq!(
            (&fits[0].key, &fits[0].tenant),
            (&vec!["id".to_owned()], &None)
        );
        // And back: the column is filled.
        let back = fit((&to, &new), (&from, &old)).unwrap();
        assert_eq!(back[0].tenant.as_deref(), Some("org"));
        assert_eq!(back[0].written, ["id", "title"]);

        let short = Snapshot {
            tables: vec![made("task", &["id"], &["id"])],
        };
        let to = map(Model::Schema, &short, None);
        let refused = fit((&from, &old), (&to, &short)).unwrap_err();
        assert_eq!(refused, "work.task.title has no place in task");
        let none = Snapshot::default();
        let to = map(Model::Schema, &none, None);
        let refused = fit((&from, &old), (&to, &none)).unwrap_err();
        assert_eq!(refused, "there is no table task where the tenant moves to");
    }

    #[test]
    fn rings_are_broken_where_a_key_may_be_null() {
        let mut user = made("user", &["id", "project"], &["id"]);
        refers(&mut user, "project", "project");
        let mut project = made("project", &["id", "lead"], &["id"]);
        refers(&mut project, "lead", "user");
        let mut task = made("task", &["id", "parent", "project"], &["id"]);
        refers(&mut task, "parent", "task");
        refers(&mut task, "project", "project");
        let mut snapshot = Snapshot {
            tables: vec![user, project, task],
        };
        let names: BTreeSet<String> = ["user", "project", "task"].map(str::to_owned).into();
        let order = parents_first(&snapshot, &names).unwrap();
        let order: Vec<_> = order
            .iter()
            .map(|(name, ring)| (name.as_str(), ring.join(",")))
            .collect();
        assert_eq!(
            order,
            [
                // A user has its project from the beginning, which can wait for its lead.
                ("project", "lead".to_owned()),
                ("task", "parent".to_owned()),
                ("user", String::new())
            ]
        );
        for table in &mut snapshot.tables {
            for column in &mut table.columns {
                column.nullable = false;
            }
        }
        assert!(
            parents_first(&snapshot, &names)
                .unwrap_err()
                .contains("in a ring")
        );
    }
}

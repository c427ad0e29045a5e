//! The product's rows: looked at, counted, read in chunks, deleted, brought back.
//!
//! Statements are built from names that the catalog told, quoted; values are bound. A chunk is found by
//! the primary key behind the last one, so it costs the same at the end of a table as at its start. All
//! text is made in one way (`set local` in [`enter`]), so that a row that has not changed reads the
//! same at each look.

use chrono::{DateTime, SecondsFormat, Utc};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use sqlx::{AssertSqlSafe, PgConnection, Row as _};
use uuid::Uuid;

use super::policy::Rule;
use crate::archive::{ColumnShape, TableShape};
use crate::product::{ProductError, Site, quoted};

/// The most rows of a chunk.
const CHUNK: i64 = 500;
/// A chunk ends with the row that makes it longer than this, in bytes.
const CHUNK_BYTES: i64 = 4 << 20;
/// The most rows that are counted by one statement.
const COUNTED: i64 = 5_000;

/// A table at a place, as its catalog tells.
#[derive(Debug, Clone)]
pub(crate) struct Table {
    /// As the data map names it.
    pub(crate) name: String,
    /// As SQL names it.
    whole: String,
    /// The same, or one of its partitions.
    pub(crate) relation: String,
    /// Whose rows, under the alias `t`.
    own: String,
    /// The primary key, in order.
    key: Vec<Column>,
    /// Columns that can be written.
    written: Vec<String>,
    columns: Vec<Column>,
    /// Columns that are left out of its rows as they are read.
    hidden: Vec<String>,
    /// Foreign keys that point here.
    referrers: Vec<Reference>,
    /// Foreign keys from here.
    references: Vec<Reference>,
}

/// A column.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Column {
    pub(crate) name: String,
    pub(crate) data_type: String,
}

/// A foreign key.
#[derive(Debug, Clone)]
pub(crate) struct Reference {
    pub(crate) name: String,
    /// The table that points, as SQL names it.
    child: String,
    child_columns: Vec<String>,
    /// The table that is pointed to.
    parent: String,
    parent_columns: Vec<String>,
}

impl Reference {
    /// Whether it points to that table.
    pub(crate) fn leads_to(&self, table: &Table) -> bool {
        self.parent == table.relation
    }
}

/// A chunk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Page {
    /// A row a line, as JSON.
    pub(crate) lines: Vec<String>,
    /// The key of its last row, where the next one goes on.
    pub(crate) last: Option<Vec<String>>,
}

/// What a count came to.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counted {
    /// Rows that go.
    pub rows: u64,
    /// Their bytes, as the table holds them.
    pub bytes: u64,
    /// Rows past their time that a hold keeps.
    pub held: u64,
    /// Rows past their time that a row that stays refers to.
    pub referenced: u64,
}

/// Makes text in one way for the rest of the transaction.
pub(crate) async fn enter(conn: &mut PgConnection) -> Result<(), ProductError> {
    sqlx::raw_sql(
        "set local timezone = 'UTC'; set local datestyle = 'ISO, YMD'; set local intervalstyle = 'postgres';
         set local extra_float_digits = 1; set local bytea_output = 'hex'",
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// Reads what the catalog tells of a table at a place.
///
/// # Errors
/// [`ProductError::DoesNotFit`] when it is not there or has no primary key.
pub(crate) async fn look(
    conn: &mut PgConnection,
    site: &Site,
    name: &str,
    partition: Option<&str>,
) -> Result<Table, ProductError> {
    let mut table = look_at(conn, name, &site.table(name), site.own(name)).await?;
    if let Some(partition) = partition {
        partition.clone_into(&mut table.relation);
    }
    Ok(table)
}

/// Reads what the catalog tells of a table that SQL names `whole`; `own` says whose its rows are.
///
/// # Errors
/// As [`look`].
pub(crate) async fn look_at(
    conn: &mut PgConnection,
    name: &str,
    whole: &str,
    own: String,
) -> Result<Table, ProductError> {
    let columns = list_columns(conn, whole).await?;
    let all: Vec<Column> = columns.iter().map(|(column, ..)| column.clone()).collect();
    let mut key: Vec<(i64, Column)> = columns
        .iter()
        .filter_map(|(column, _, place)| place.map(|place| (place, column.clone())))
        .collect();
    key.sort_by_key(|(place, _)| *place);
    if key.is_empty() {
        return Err(ProductError::DoesNotFit(format!(
            "{name} is not there or has no primary key, so its rows cannot be told apart; add one, or keep the table"
        )));
    }
    let (referrers, references) = (
        list_references(conn, whole, true).await?,
        list_references(conn, whole, false).await?,
    );
    Ok(Table {
        name: name.to_owned(),
        whole: whole.to_owned(),
        relation: whole.to_owned(),
        own,
        hidden: Vec::new(),
        key: key.into_iter().map(|(_, column)| column).collect(),
        written: columns
            .iter()
            .filter(|(_, generated, _)| !generated)
            .map(|(column, ..)| column.name.clone())
            .collect(),
        columns: all,
        referrers,
        references,
    })
}

/// Columns, whether they are computed, and their places in the primary key.
async fn list_columns(
    conn: &mut PgConnection,
    relation: &str,
) -> Result<Vec<(Column, bool, Option<i64>)>, ProductError> {
    let rows = sqlx::query!(
        r#"
        select c.attname::text as "name!", format_type(c.atttypid, c.atttypmod) as "data_type!",
          c.attgenerated <> '' as "generated!",
          (
            select part.place
            from pg_catalog.pg_index i
            cross join unnest(i.indkey::int2[]) with ordinality as part (attnum, place)
            where i.indrelid = c.attrelid and i.indisprimary and part.attnum = c.attnum
              and part.place <= i.indnkeyatts
          ) as place
        from pg_catalog.pg_attribute c
        where c.attrelid = to_regclass($1)
          and c.attnum > 0 and not c.attisdropped
        order by c.attnum
        "#,
        relation
    )
    .fetch_all(conn)
    .await?;
    let columns = rows.into_iter().map(|row| {
        let column = Column {
            name: row.name,
            data_type: row.data_type,
        };
        (column, row.generated, row.place)
    });
    Ok(columns.collect())
}

/// Foreign keys to a table, or from it.
async fn list_references(
    conn: &mut PgConnection,
    relation: &str,
    to: bool,
) -> Result<Vec<Reference>, ProductError> {
    let rows = sqlx::query!(
        r#"
        select k.conname::text as "name!",
          cn.nspname::text as "child_schema!", c.relname::text as "child!", pn.nspname::text as "parent_schema!",
          p.relname::text as "parent!",
          array(
            select a.attname::text
            from unnest(k.conkey) with ordinality as part (attnum, place)
            join pg_catalog.pg_attribute a on a.attrelid = k.conrelid and a.attnum = part.attnum
            order by part.place
          ) as "child_columns!",
          array(
            select a.attname::text
            from unnest(k.confkey) with ordinality as part (attnum, place)
            join pg_catalog.pg_attribute a on a.attrelid = k.confrelid and a.attnum = part.attnum
            order by part.place
          ) as "parent_columns!"
        from pg_catalog.pg_constraint k
        join pg_catalog.pg_class c on c.oid = k.conrelid
        join pg_catalog.pg_namespace cn on cn.oid = c.relnamespace
        join pg_catalog.pg_class p on p.oid = k.confrelid
        join pg_catalog.pg_namespace pn on pn.oid = p.relnamespace
        where k.contype = 'f' and k.conparentid = 0
          and case when $2 then k.confrelid else k.conrelid end = to_regclass($1)
        order by cn.nspname, c.relname, k.conname
        "#,
        relation,
        to,
    )
    .fetch_all(conn)
    .await?;
    let found = rows.into_iter().map(|row| Reference {
        name: row.name,
        child: format!("{}.{}", quoted(&row.child_schema), quoted(&row.child)),
        child_columns: row.child_columns,
        parent: format!("{}.{}", quoted(&row.parent_schema), quoted(&row.parent)),
        parent_columns: row.parent_columns,
    });
    Ok(found.collect())
}

/// Partitions of a table that end by a cutoff, oldest first: each is whole beyond its time. None where
/// it is not partitioned by the column that days are counted from, and none that hides rows from its
/// owner.
pub(crate) async fn list_past_partitions(
    conn: &mut PgConnection,
    site: &Site,
    rule: &Rule,
    cutoff: DateTime<Utc>,
) -> Result<Vec<String>, ProductError> {
    let rows = sqlx::query!(
        r#"
        select n.nspname::text as "schema!", c.relname::text as "name!",
          substring(pg_get_expr(c.relpartbound, c.oid) from 'TO \(''([^'']+)''\)$') as ends
        from pg_catalog.pg_partitioned_table p
        join pg_catalog.pg_attribute a on a.attrelid = p.partrelid and a.attnum = p.partattrs[0]
        join pg_catalog.pg_inherits i on i.inhparent = p.partrelid
        join pg_catalog.pg_class c on c.oid = i.inhrelid
        join pg_catalog.pg_namespace n on n.oid = c.relnamespace
        where p.partrelid = to_regclass($1)
          and p.partstrat = 'r' and p.partnatts = 1 and a.attname = $2 and c.relkind = 'r'
          and not c.relforcerowsecurity
          and a.atttypid in ('timestamptz'::regtype, 'timestamp'::regtype, 'date'::regtype)
        order by 3, 2
        "#,
        site.table(&rule.table),
        rule.age,
    )
    .fetch_all(&mut *conn)
    .await?;
    let mut past = Vec::new();
    for row in rows {
        // The default partition and an open one have no end.
        let Some(ends) = row.ends.filter(|ends| ends != "infinity") else {
            continue;
        };
        let is_past = sqlx::query_scalar!(
            r#"select $1::text::timestamptz <= $2 as "past!""#,
            ends,
            cutoff,
        );
        if is_past.fetch_one(&mut *conn).await? {
            past.push(format!("{}.{}", quoted(&row.schema), quoted(&row.name)));
        }
    }
    Ok(past)
}

fn list(columns: &[Column], prefix: &str) -> String {
    let names = columns.iter();
    let names: Vec<String> = names
        .map(|column| format!("{prefix}{}", quoted(&column.name)))
        .collect();
    names.join(", ")
}

/// The condition that a row of `child` points to one of `parent`.
fn joined(reference: &Reference, child: &str, parent: &str) -> String {
    let pairs = reference
        .child_columns
        .iter()
        .zip(&reference.parent_columns);
    let pairs: Vec<String> = pairs
        .map(|(one, other)| format!("{child}.{} = {parent}.{}", quoted(one), quoted(other)))
        .collect();
    pairs.join(" and ")
}

/// When a row was written, as a literal of the column's type; the session's zone is UTC.
fn instant(at: DateTime<Utc>, data_type: &str) -> String {
    let at = at.to_rfc3339_opts(SecondsFormat::Micros, true);
    format!("'{at}'::{data_type}")
}

/// What is past its time of a table, as conditions on the alias `t`.
#[derive(Debug, Clone)]
pub(crate) struct Past {
    old: String,
    /// Holds, as objects that a held row contains.
    held: Vec<String>,
    /// Foreign keys whose rows that point to nothing that the tenant sees stay.
    skipped: Vec<String>,
}

impl Past {
    /// Puts the conditions together.
    ///
    /// # Errors
    /// [`ProductError::DoesNotFit`] when the way to the column breaks.
    pub(crate) async fn of(
        conn: &mut PgConnection,
        table: &Table,
        rule: &Rule,
        cutoff: DateTime<Utc>,
        held: &[Value],
        skipped: &[String],
    ) -> Result<Self, ProductError> {
        Ok(Self {
            old: old(conn, table, rule, cutoff).await?,
            held: held.iter().map(Value::to_string).collect(),
            skipped: skipped.to_vec(),
        })
    }

    /// The condition that a row is past its time, whatever else holds it.
    fn is_past(&self, table: &Table) -> String {
        let mut all = vec![table.own.clone(), self.old.clone()];
        let skipped = table.references.iter();
        let skipped = skipped.filter(|key| self.skipped.contains(&key.name));
        all.extend(skipped.map(|key| format!("not ({})", leads_nowhere(key))));
        all.join(" and ")
    }
}

/// The condition that a row points to something that the tenant does not see.
fn leads_nowhere(key: &Reference) -> String {
    let set: Vec<String> = key
        .child_columns
        .iter()
        .map(|column| format!("t.{} is not null", quoted(column)))
        .collect();
    format!(
        "{} and not exists (select from {} as p where {})",
        set.join(" and "),
        key.parent,
        joined(key, "t", "p")
    )
}

/// The condition that a row, or what it is as old as, is older than the cutoff.
async fn old(
    conn: &mut PgConnection,
    table: &Table,
    rule: &Rule,
    cutoff: DateTime<Utc>,
) -> Result<String, ProductError> {
    let gone = |what: &str| {
        ProductError::DoesNotFit(format!(
            "{}: there is no {what} to count days from",
            table.name
        ))
    };
    let mut parent_of = table.references.clone();
    let (mut alias, mut relation) = ("t".to_owned(), table.relation.clone());
    let (mut opened, mut closed) = (String::new(), String::new());
    for (step, name) in rule.age_of.iter().enumerate() {
        let key = parent_of.iter().find(|key| key.name == *name);
        let key = key.ok_or_else(|| gone(&format!("foreign key {name}")))?;
        let next = format!("a{step}");
        opened.push_str(&format!(
            "exists (select from {} as {next} where {} and ",
            key.parent,
            joined(key, &alias, &next)
        ));
        closed.push(')');
        (alias, relation) = (next, key.parent.clone());
        parent_of = list_references(conn, &relation, false).await?;
    }
    let columns = list_columns(conn, &relation).await?;
    let mut columns = columns.iter().map(|(column, ..)| column);
    let column = columns.find(|column| column.name == rule.age);
    let column = column.ok_or_else(|| gone(&format!("column {}", rule.age)))?;
    let known = [
        "timestamp with time zone",
        "timestamp without time zone",
        "date",
    ];
    if !known
        .iter()
        .any(|known| column.data_type.starts_with(known))
        && !column.data_type.starts_with("timestamp")
    {
        return Err(gone(&format!("date or time in column {}", rule.age)));
    }
    Ok(format!(
        "{opened}{alias}.{} < {}{closed}",
        quoted(&column.name),
        instant(cutoff, &column.data_type)
    ))
}

impl Table {
    /// Its shape, for a manifest.
    pub(crate) fn shape(&self) -> TableShape {
        let shown = |column: &&Column| !self.hidden.contains(&column.name);
        TableShape {
            name: self.name.clone(),
            primary_key: self
                .key
                .iter()
                .filter(shown)
                .map(|column| column.name.clone())
                .collect(),
            columns: self
                .columns
                .iter()
                .filter(shown)
                .map(|column| ColumnShape {
                    name: column.name.clone(),
                    data_type: column.data_type.clone(),
                })
                .collect(),
        }
    }

    /// The same, its rows without these columns.
    pub(crate) fn without(mut self, hidden: &[&str]) -> Self {
        self.hidden = hidden.iter().map(ToString::to_string).collect();
        self
    }

    /// A row, under an alias, as JSON.
    fn as_json(&self, alias: &str) -> String {
        let hidden: Vec<String> = self.hidden.iter().map(|name| format!("'{name}'")).collect();
        match hidden.is_empty() {
            true => format!("to_jsonb({alias})"),
            false => format!("to_jsonb({alias}) - array[{}]", hidden.join(", ")),
        }
    }

    /// The condition that a row's key is behind the one that is bound from `$first` on.
    fn behind(&self, after: Option<&[String]>, first: usize) -> String {
        if after.is_none() {
            return "true".to_owned();
        }
        let values = self.key.iter().enumerate();
        let values: Vec<String> = values
            .map(|(place, column)| format!("${}::text::{}", first + place, column.data_type))
            .collect();
        format!("({}) > ({})", list(&self.key, "t."), values.join(", "))
    }

    /// The condition that some row refers to a row.
    fn is_referenced(&self) -> String {
        let referrers = self.referrers.iter();
        let each: Vec<String> = referrers
            .map(|key| {
                format!(
                    "exists (select from {} as c where {})",
                    key.child,
                    joined(key, "c", "t")
                )
            })
            .collect();
        match each.is_empty() {
            true => "false".to_owned(),
            false => format!("({})", each.join(" or ")),
        }
    }

    /// Foreign keys from here, by name.
    pub(crate) fn references(&self) -> impl Iterator<Item = &Reference> {
        self.references.iter()
    }

    /// Whether other tables refer to it.
    pub(crate) fn is_referred_to(&self) -> bool {
        !self.referrers.is_empty()
    }
}

/// Reads a chunk of the rows that a condition on the alias `t` selects; `$1` in it are the holds.
async fn page(
    conn: &mut PgConnection,
    table: &Table,
    condition: &str,
    held: &[String],
    after: Option<&[String]>,
) -> Result<Page, ProductError> {
    let keys = list(&table.key, "t.");
    let texts: Vec<String> = table
        .key
        .iter()
        .map(|column| format!("t.{}::text", quoted(&column.name)))
        .collect();
    // Only rows of the chunk are made into text, also where the chunk is sorted out of many.
    let statement = format!(
        "with page as (
           select row_number() over (order by {keys}) as place, array[{}] as key, t as whole
           from {} as t
           where {condition} and {}
           order by {keys}
           limit {CHUNK}
         ), written as materialized (
           select place, key, ({})::text as line from page
         ), sized as (
           select place, key, line, sum(octet_length(line)) over (order by place) - octet_length(line) as before
           from written
         )
         select key, line from sized where before < {CHUNK_BYTES} and cardinality($1::text[]) >= 0
         order by place",
        texts.join(", "),
        table.relation,
        table.behind(after, 2),
        table.as_json("whole"),
    );
    let mut query = sqlx::query(AssertSqlSafe(statement)).bind(held);
    for value in after.unwrap_or_default() {
        query = query.bind(value);
    }
    let rows = query.fetch_all(conn).await?;
    let last = rows.last().map(|row| row.try_get("key")).transpose()?;
    let lines = rows.iter().map(|row| row.try_get("line"));
    Ok(Page {
        lines: lines.collect::<Result<_, _>>()?,
        last,
    })
}

/// The condition that a row is held by one of the holds bound there; where there are none, no row is made
/// into JSON for it.
fn is_held(bound: usize) -> String {
    format!("(cardinality(${bound}::text[]) > 0 and to_jsonb(t) @> any(${bound}::text[]::jsonb[]))")
}

/// Reads a chunk of the rows that go.
pub(crate) async fn read_past(
    conn: &mut PgConnection,
    table: &Table,
    past: &Past,
    after: Option<&[String]>,
) -> Result<Page, ProductError> {
    let condition = format!(
        "{} and not {} and not {}",
        past.is_past(table),
        is_held(1),
        table.is_referenced()
    );
    page(conn, table, &condition, &past.held, after).await
}

/// Reads a chunk of all rows of the tenant, or of the partition that is looked at, but those that point
/// to what it does not see over one of the keys `skipped`.
pub(crate) async fn read_all(
    conn: &mut PgConnection,
    table: &Table,
    skipped: &[String],
    after: Option<&[String]>,
) -> Result<Page, ProductError> {
    let keys = table.references.iter();
    let keys = keys.filter(|key| skipped.contains(&key.name));
    let mut condition = table.own.clone();
    for key in keys {
        condition.push_str(&format!(" and not ({})", leads_nowhere(key)));
    }
    page(conn, table, &condition, &[], after).await
}

/// Counts a chunk of what is past its time. `earlier` are the tables of the same place that go before
/// this one, with what is past its time in them: rows of theirs that go do not hold a row here.
pub(crate) async fn count_past(
    conn: &mut PgConnection,
    table: &Table,
    past: &Past,
    earlier: &[(Table, Past)],
    after: Option<&[String]>,
) -> Result<(Counted, Option<Vec<String>>), ProductError> {
    let keys = list(&table.key, "t.");
    let texts: Vec<String> = table
        .key
        .iter()
        .map(|column| format!("t.{}::text", quoted(&column.name)))
        .collect();
    // Bound as they are met: this table's holds first, then each earlier one's.
    let mut bound: Vec<&[String]> = vec![&past.held];
    let referenced = still_referenced(table, "t", earlier, &mut bound);
    let first = bound.len() + 1;
    let statement = format!(
        "with page as (
           select row_number() over (order by {keys}) as place, array[{}] as key,
             pg_column_size(t.*)::int8 as bytes, {} as held, {referenced} as referenced
           from {} as t
           where {} and {}
           order by {keys}
           limit {COUNTED}
         )
         select count(*) filter (where not held and not referenced) as rows,
           coalesce(sum(bytes) filter (where not held and not referenced), 0)::int8 as bytes,
           count(*) filter (where held) as held, count(*) filter (where referenced and not held) as referenced,
           (array_agg(to_jsonb(key) order by place desc))[1] as last, count(*) as looked
         from page",
        texts.join(", "),
        is_held(1),
        table.relation,
        past.is_past(table),
        table.behind(after, first),
    );
    let mut query = sqlx::query(AssertSqlSafe(statement));
    for held in bound {
        query = query.bind(held);
    }
    for value in after.unwrap_or_default() {
        query = query.bind(value);
    }
    let row = query.fetch_one(conn).await?;
    let number = |name: &str| row.try_get::<i64, _>(name).map(i64::unsigned_abs);
    let counted = Counted {
        rows: number("rows")?,
        bytes: number("bytes")?,
        held: number("held")?,
        referenced: number("referenced")?,
    };
    let last: Option<Value> = row.try_get("last")?;
    let last = last.and_then(|last| serde_json::from_value(last).ok());
    let whole = number("looked")? < COUNTED.unsigned_abs();
    Ok((counted, if whole { None } else { last }))
}

/// The condition that a row is referred to by one that stays.
fn still_referenced<'a>(
    table: &Table,
    alias: &str,
    earlier: &'a [(Table, Past)],
    bound: &mut Vec<&'a [String]>,
) -> String {
    let mut each = Vec::new();
    for key in &table.referrers {
        let child = format!("c{}", bound.len() + each.len() * 100);
        let place = earlier
            .iter()
            .position(|(one, _)| one.relation == key.child);
        let stays = match place {
            None => "true".to_owned(),
            Some(place) => {
                let (one, past) = &earlier[place];
                bound.push(&past.held);
                let held = is_held(bound.len());
                let inner = still_referenced(one, "t", &earlier[..place], bound);
                // The child's conditions speak of `t`, so it is named so inside.
                let goes = format!("{} and not {held} and not {inner}", past.is_past(one));
                format!(
                    "not exists (select from {} as t where ({}) = ({}) and {goes})",
                    one.relation,
                    list(&one.key, "t."),
                    list(&one.key, &format!("{child}.")),
                )
            }
        };
        each.push(format!(
            "exists (select from {} as {child} where {} and {stays})",
            key.child,
            joined(key, &child, alias)
        ));
    }
    match each.is_empty() {
        true => "false".to_owned(),
        false => format!("({})", each.join(" or ")),
    }
}

/// Deletes the rows of a chunk that are still as its lines say, and that nothing refers to or holds;
/// how many.
pub(crate) async fn delete(
    conn: &mut PgConnection,
    table: &Table,
    held: &[Value],
    lines: &[String],
) -> Result<u64, ProductError> {
    let held: Vec<String> = held.iter().map(Value::to_string).collect();
    let same: Vec<String> = table
        .key
        .iter()
        .map(|column| format!("t.{0} = a.{0}", quoted(&column.name)))
        .collect();
    let (same, keys) = (same.join(" and "), list(&table.key, "r."));
    let archived = format!(
        "with archived as materialized (
           select l.line::jsonb as \"tenure.archived\", {keys}
           from unnest($1::text[]) as l (line)
           cross join lateral jsonb_populate_record(null::{}, l.line::jsonb) as r
         )",
        table.relation
    );
    // Locked first: whoever is about to refer to one of them ends before the next statement looks.
    let lock = format!(
        "{archived} select 1 from {} as t join archived as a on {same} where {} for update of t",
        table.relation, table.own
    );
    sqlx::query(AssertSqlSafe(lock))
        .bind(lines)
        .execute(&mut *conn)
        .await?;
    let delete = format!(
        "{archived} delete from {} as t using archived as a
         where {same} and to_jsonb(t) = a.\"tenure.archived\" and {} and not {}
           and not {}",
        table.relation,
        table.own,
        table.is_referenced(),
        is_held(2),
    );
    let done = sqlx::query(AssertSqlSafe(delete))
        .bind(lines)
        .bind(held)
        .execute(conn)
        .await?;
    Ok(done.rows_affected())
}

/// How long a lock on a partition is waited for: whoever comes meanwhile waits behind us.
async fn wait_briefly(conn: &mut PgConnection) -> sqlx::Result<()> {
    sqlx::raw_sql("set local lock_timeout = '100ms'")
        .execute(conn)
        .await?;
    Ok(())
}

/// The name of the trigger by which a job sees whether a partition is written to.
fn watcher(job: Uuid) -> String {
    quoted(&format!("tenure_watch_{}", job.simple()))
}

/// From the commit on, whoever writes to a partition leaves a mark in the ledger that commits with what
/// it wrote. So what is read from then on is all that the partition holds for as long as there is no
/// mark, and nobody has to read it again under a lock.
pub(crate) async fn watch(
    conn: &mut PgConnection,
    table: &Table,
    job: Uuid,
) -> Result<(), ProductError> {
    wait_briefly(conn).await?;
    // A mark a transaction, so that writers do not wait for each other.
    let function = "
        create or replace function tenure.touch() returns trigger language plpgsql security definer
        set search_path = pg_catalog, pg_temp as $touch$
        begin
          insert into tenure.done (job, subject, name)
          values (tg_argv[0]::uuid, 'watch', 'touched/' || tg_relid || '/' || pg_current_xact_id())
          on conflict (job, subject, name) do nothing;
          return null;
        end $touch$";
    sqlx::raw_sql("select pg_advisory_xact_lock(hashtextextended('tenure.touch', 0))")
        .execute(&mut *conn)
        .await?;
    sqlx::raw_sql(function).execute(&mut *conn).await?;
    let (name, on) = (watcher(job), &table.relation);
    // It fires for whoever writes past triggers, too.
    let watch = format!(
        "create or replace trigger {name} after insert or update or delete on {on}
           for each row execute function tenure.touch('{job}');
         alter table {on} enable always trigger {name};
         create or replace trigger {whole} after truncate on {on}
           for each statement execute function tenure.touch('{job}');
         alter table {on} enable always trigger {whole}",
        whole = emptied(job),
    );
    sqlx::raw_sql(AssertSqlSafe(watch)).execute(conn).await?;
    Ok(())
}

/// The same for who empties the partition.
fn emptied(job: Uuid) -> String {
    quoted(&format!("tenure_watch_all_{}", job.simple()))
}

/// Watches a partition no longer.
pub(crate) async fn unwatch(
    conn: &mut PgConnection,
    table: &Table,
    job: Uuid,
) -> Result<(), ProductError> {
    wait_briefly(conn).await?;
    let on = &table.relation;
    let drop = format!(
        "drop trigger if exists {} on {on}; drop trigger if exists {} on {on}",
        watcher(job),
        emptied(job)
    );
    sqlx::raw_sql(AssertSqlSafe(drop)).execute(conn).await?;
    Ok(())
}

/// Drops a partition: one that was archived only when the job has watched it and nobody has written to
/// it since; whether it did. Nothing is read under the lock.
pub(crate) async fn drop_partition(
    conn: &mut PgConnection,
    table: &Table,
    archived_by: Option<Uuid>,
) -> Result<bool, ProductError> {
    wait_briefly(conn).await?;
    // As who reads takes them: the whole before its part.
    let lock = format!(
        "lock table only {}, only {} in access exclusive mode",
        table.whole, table.relation
    );
    sqlx::raw_sql(AssertSqlSafe(lock))
        .execute(&mut *conn)
        .await?;
    if let Some(job) = archived_by
        && !is_untouched(conn, table, job).await?
    {
        unwatch(conn, table, job).await?;
        return Ok(false);
    }
    let drop = format!("drop table {}", table.relation);
    sqlx::raw_sql(AssertSqlSafe(drop)).execute(conn).await?;
    Ok(true)
}

/// Whether a job has watched a partition, and nobody has written to it since.
async fn is_untouched(
    conn: &mut PgConnection,
    table: &Table,
    job: Uuid,
) -> Result<bool, ProductError> {
    let asked = "
        select
          (select count(*) = 2 from pg_catalog.pg_trigger
           where tgrelid = to_regclass($1) and tgenabled = 'A' and tgname = any($2))
          and not exists (
            select from tenure.done
            where job = $3 and subject = 'watch'
              and starts_with(name, 'touched/' || to_regclass($1)::oid || '/'))";
    let names = [watcher(job), emptied(job)].map(|name| name.trim_matches('"').to_owned());
    let asked = sqlx::query_scalar(asked)
        .bind(&table.relation)
        .bind(&names[..])
        .bind(job);
    Ok(asked.fetch_one(conn).await?)
}

/// Counts the rows of a partition, for people: whoever writes meanwhile is not waited for. As the
/// planner believes where a count takes too long.
pub(crate) async fn size_up(site: &Site, table: &Table) -> Result<u64, ProductError> {
    let mut tx = site.begin().await?;
    let count = format!("select count(*) from {}", table.relation);
    let counted: Result<i64, _> = sqlx::query_scalar(AssertSqlSafe(count))
        .fetch_one(&mut *tx)
        .await;
    tx.rollback().await?;
    let is_slow = |error: &sqlx::Error| {
        let told = error.as_database_error();
        told.and_then(|told| told.code()).as_deref() == Some("57014")
    };
    let rows = match counted {
        Err(error) if is_slow(&error) => {
            let mut tx = site.begin().await?;
            let believed =
                "select reltuples::int8 from pg_catalog.pg_class where oid = to_regclass($1)";
            let believed = sqlx::query_scalar(believed).bind(&table.relation);
            believed.fetch_one(&mut *tx).await?
        }
        counted => counted?,
    };
    Ok(u64::try_from(rows).unwrap_or_default())
}

/// How rows of an archive become rows of a table.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Fit {
    /// Columns that the archive has and the table can be given.
    columns: Vec<String>,
    /// The column that says whose they are, where tenants share the table.
    tenant: Option<String>,
    /// Columns that the archive has and the table has not, but for the one that said whose they were.
    pub(crate) gone: Vec<String>,
}

impl Fit {
    /// Fits what an archive has of each row to a table. The columns that said and say whose the rows
    /// are may differ: the tenant's own key takes their place.
    pub(crate) fn of(
        archived: &TableShape,
        table: &Table,
        (was, is): (Option<&str>, Option<&str>),
    ) -> Self {
        let names = archived.columns.iter().map(|column| &column.name);
        let names = names.filter(|name| is != Some(name.as_str()));
        let there = |name: &&String| table.columns.iter().any(|column| column.name == **name);
        let (held, gone): (Vec<&String>, Vec<&String>) = names.partition(there);
        let gone = gone.into_iter().filter(|name| was != Some(name.as_str()));
        let written = held
            .into_iter()
            .filter(|name| table.written.contains(*name));
        Self {
            columns: written.cloned().collect(),
            tenant: is.map(ToOwned::to_owned),
            gone: gone.cloned().collect(),
        }
    }
}

/// Brings rows back: the columns that the archive has, the others as the table has them by default. A
/// row whose key is taken again stays as it is now; how many came back.
pub(crate) async fn restore(
    conn: &mut PgConnection,
    table: &Table,
    fit: &Fit,
    lines: &[String],
) -> Result<u64, ProductError> {
    let mut columns: Vec<String> = fit.columns.iter().map(|name| quoted(name)).collect();
    let mut values: Vec<String> = columns.iter().map(|name| format!("r.{name}")).collect();
    let tenant = fit.tenant.iter().filter_map(|tenant| {
        let mut columns = table.columns.iter();
        columns.find(|column| column.name == **tenant)
    });
    for column in tenant {
        columns.push(quoted(&column.name));
        values.push(format!(
            "current_setting('tenure.tenant_key')::{}",
            column.data_type
        ));
    }
    let statement = format!(
        "insert into {} ({}) overriding system value
         select {}
         from unnest($1::text[]) as l (line)
         cross join lateral jsonb_populate_record(null::{}, l.line::jsonb) as r
         on conflict do nothing",
        table.relation,
        columns.join(", "),
        values.join(", "),
        table.relation,
    );
    let done = sqlx::query(AssertSqlSafe(statement))
        .bind(lines)
        .execute(conn)
        .await?;
    Ok(done.rows_affected())
}

/// Whether a row points to what its tenant does not see: another's row.
pub(crate) async fn is_crossed(
    conn: &mut PgConnection,
    table: &Table,
    key: &Reference,
) -> Result<bool, ProductError> {
    let statement = format!(
        "select exists (select from {} as t where {} and {})",
        table.relation,
        table.own,
        leads_nowhere(key)
    );
    let row = sqlx::query(AssertSqlSafe(statement))
        .fetch_one(conn)
        .await?;
    Ok(row.try_get(0)?)
}

//! What a hold holds at the tenant's place: its table as the map has it, its values as the columns print
//! them, and how many rows that are now.

use serde_json::{Map, Value};
use sqlx::{AssertSqlSafe, PgConnection};

use super::hold::{Scope, bare, malformed};
use super::store;
use crate::data_map::{Belongs, DataMap, TableRule};
use crate::door::DoorError;
use crate::product::{ProductError, Site};

/// For so long the rows are counted, in milliseconds; deletes wait meanwhile.
const COUNT_MS: &str = "10000";

/// What a hold comes to.
#[derive(Debug)]
pub(super) struct Held {
    /// With the table as the map names it, and values as rows have them.
    pub(super) scope: Scope,
    /// How many rows it holds; `None` where that takes too long.
    pub(super) rows: Option<i64>,
}

/// The table that is meant, if the map knows it and its columns.
///
/// # Errors
/// Why not, in words.
pub(super) fn known<'m>(
    map: &'m DataMap,
    table: &str,
    matches: Option<&Map<String, Value>>,
) -> Result<(&'m String, &'m TableRule), String> {
    let tenants = || {
        let tables = map.tables.iter();
        tables.filter(|(_, rule)| !matches!(rule.belongs, Belongs::Nobody(_)))
    };
    let by_name = tenants().find(|(name, _)| *name == table);
    let found = by_name.or_else(|| tenants().find(|(name, _)| bare(name) == bare(table)));
    let Some((name, rule)) = found else {
        let names: Vec<&str> = tenants().map(|(name, _)| name.as_str()).collect();
        return Err(format!(
            "the data map names no table {table} of tenants; it names {}",
            names.join(", ")
        ));
    };
    for column in matches.into_iter().flat_map(Map::keys) {
        if rule.column(column).is_none() {
            return Err(format!("the data map names no column {column} of {name}"));
        }
        if matches!(&rule.belongs, Belongs::Column(own) if own == column) {
            return Err(format!(
                "{column} is the same in all of the tenant's rows, and not there in every place: leave it out"
            ));
        }
    }
    Ok((name, rule))
}

/// Finds what is meant at a place, and how many rows that are.
///
/// # Errors
/// [`DoorError::Malformed`] when the tenant's rows cannot have it; [`DoorError::Product`].
pub(super) async fn find(
    site: &Site,
    table: &str,
    matches: Option<&Map<String, Value>>,
) -> Result<Held, DoorError> {
    let map = &site.map().map;
    known(map, table, None).map_err(|why| malformed("table", &why))?;
    let (name, _) = known(map, table, matches).map_err(|why| malformed("match", &why))?;
    let mut tx = site.begin().await?;
    store::enter(&mut tx).await?;
    let mut values = Map::new();
    for (column, value) in matches.into_iter().flatten() {
        let printed = print(&mut tx, site, (name, column), value).await?;
        values.insert(column.clone(), printed);
    }
    let rows = count(&mut tx, site, name, &values).await?;
    let table = name.clone();
    let scope = match matches {
        None => Scope::Table(table),
        Some(_) => Scope::Rows {
            table,
            matches: values,
        },
    };
    Ok(Held { scope, rows })
}

/// A value as a row has it in JSON that has it in this column.
async fn print(
    conn: &mut PgConnection,
    site: &Site,
    (table, column): (&str, &str),
    value: &Value,
) -> Result<Value, DoorError> {
    let data_type: Option<String> = sqlx::query_scalar(
        "select format_type(atttypid, null) from pg_catalog.pg_attribute
         where attrelid = to_regclass($1) and attname = $2 and attnum > 0 and not attisdropped",
    )
    .bind(site.table(table))
    .bind(column)
    .fetch_optional(&mut *conn)
    .await
    .map_err(ProductError::from)?;
    let gone = || malformed("match", &format!("{table} has no column {column}"));
    let data_type = data_type.ok_or_else(gone)?;
    let text = match value {
        Value::Null => return Ok(Value::Null),
        Value::String(text) if !data_type.starts_with("json") => text.clone(),
        other => other.to_string(),
    };
    let cast = format!("select to_jsonb($1::text::{data_type})");
    let printed = sqlx::query_scalar(AssertSqlSafe(cast))
        .bind(text)
        .fetch_one(conn)
        .await;
    printed.map_err(|error| {
        let code = error.as_database_error().and_then(|told| told.code());
        match code.as_deref() {
            // Data exceptions: it is no value of the type, or breaks its check.
            Some(code) if code.starts_with("22") || code == "23514" => malformed(
                "match",
                &format!("{column} of {table} is of type {data_type}, and {value} is none"),
            ),
            _ => DoorError::Product(error.into()),
        }
    })
}

async fn count(
    conn: &mut PgConnection,
    site: &Site,
    table: &str,
    values: &Map<String, Value>,
) -> Result<Option<i64>, DoorError> {
    let limit = "select set_config('statement_timeout', $1, true)";
    let limited = sqlx::query(limit).bind(COUNT_MS).execute(&mut *conn).await;
    limited.map_err(ProductError::from)?;
    let (relation, own) = (site.table(table), site.own(table));
    let counted = format!(
        "select count(*) from {relation} as t where {own} and to_jsonb(t) @> $1::text::jsonb"
    );
    let counted = sqlx::query_scalar(AssertSqlSafe(counted))
        .bind(Value::Object(values.clone()).to_string())
        .fetch_one(conn)
        .await;
    match counted {
        Ok(rows) => Ok(Some(rows)),
        Err(error) => match error.as_database_error().and_then(|told| told.code()) {
            Some(code) if code == "57014" => Ok(None),
            _ => Err(DoorError::Product(error.into())),
        },
    }
}

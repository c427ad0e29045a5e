//! A place that was not there: a schema or a database, made with the product's own SQL.

use serde_json::json;
use sqlx::PgConnection;

use super::store;
use crate::data_map::{self, Model};
use crate::product::{OnceKey, Place, ProductError, Site, Source, ledger, quoted};

/// Makes the place, once for the job. `contained` are the product's migrations that were loaded
/// before: what is made anew has them in it.
pub(super) async fn make(
    source: &Source,
    place: &Place,
    job: uuid::Uuid,
    sql: &str,
    contained: &[String],
) -> Result<(), ProductError> {
    let sql = filled(sql, place);
    let key = OnceKey::new(job, "make");
    match (place.model, &place.schema, &place.database) {
        (Model::Schema, Some(schema), _) => {
            source
                .once(&key, async |conn| {
                    if store::schema_exists(conn, schema).await? {
                        return Err(exists("schema", schema));
                    }
                    store::create_schema(conn, schema).await?;
                    fill(conn, &sql, place, contained).await
                })
                .await
        }
        (Model::Database, _, Some(database)) => {
            make_database(source, database).await?;
            let work = async |conn: &mut PgConnection| {
                if store::count_tables(conn).await? > 0 {
                    return Err(exists("database", database));
                }
                fill(conn, &sql, place, contained).await
            };
            source.once_at(Some(database), "database", &key, work).await
        }
        _ => Err(ProductError::Refused(
            "only a schema, or a database beside the source's own, can be made: leave the SQL out"
                .to_owned(),
        )),
    }
}

async fn make_database(source: &Source, name: &str) -> Result<(), ProductError> {
    let mut conn = source.connect().await?;
    if store::database_exists(&mut conn, name).await? {
        return Ok(());
    }
    match store::create_database(&mut conn, name).await {
        // Somebody was quicker; whether it is empty is asked in a moment.
        Err(sqlx::Error::Database(error)) if error.code().as_deref() == Some("42P04") => Ok(()),
        done => Ok(done?),
    }
}

async fn fill(
    conn: &mut PgConnection,
    sql: &str,
    place: &Place,
    contained: &[String],
) -> Result<(), ProductError> {
    if !store::run_sql(conn, sql).await? {
        return Err(ends_transaction());
    }
    for version in contained {
        let answer = json!({"contained": true});
        ledger::mark(conn, &migration_key(version), &subject(place), &answer).await?;
    }
    Ok(())
}

pub(super) fn ends_transaction() -> ProductError {
    ProductError::Refused(
        "the SQL ends the transaction that it runs in: take its begin and commit out".to_owned(),
    )
}

fn exists(what: &str, name: &str) -> ProductError {
    ProductError::Refused(format!(
        "{what} {name} exists already, with what is not Tenure's; name another one, or leave the SQL \
         out to use it as it is"
    ))
}

/// A migration's key in the ledger, whatever job applies it.
pub(super) fn migration_key(version: &str) -> OnceKey {
    OnceKey::lasting(format!("migration/{version}"))
}

/// What a migration is applied to, as the ledger names it.
pub(super) fn subject(place: &Place) -> String {
    match &place.schema {
        Some(schema) => format!("schema/{schema}"),
        None => "database".to_owned(),
    }
}

/// The SQL with the place's own names.
fn filled(sql: &str, place: &Place) -> String {
    let name = |name: &Option<String>| name.as_deref().map(quoted).unwrap_or_default();
    sql.replace("{schema}", &name(&place.schema))
        .replace("{database}", &name(&place.database))
        .replace("{key}", &format!("'{}'", place.key.replace('\'', "''")))
}

/// Whether the place is as its map says.
pub(super) async fn hold_against_map(site: &Site) -> Result<(), ProductError> {
    let snapshot = super::copy::read(site).await?;
    let findings = data_map::check(&site.map().map, &snapshot);
    let Some(first) = findings.first() else {
        return Ok(());
    };
    let column = first.column.as_ref().map(|name| format!(".{name}"));
    Err(ProductError::DoesNotFit(format!(
        "{}{}: {} ({} findings)",
        first.table,
        column.unwrap_or_default(),
        first.detail,
        findings.len()
    )))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sql_is_told_its_place() {
        let place = Place {
            model: Model::Schema,
            source: "rooms".to_owned(),
            database: None,
            schema: Some("o\"dd".to_owned()),
            key: "o'neil".to_owned(),
        };
        let sql = filled(
            "grant usage on schema {schema} to app; select {key}",
            &place,
        );
        assert_eq!(
            sql,
            "grant usage on schema \"o\"\"dd\" to app; select 'o''neil'"
        );
    }
}

//! The doors to placements: find, list, set.

use sqlx::PgConnection;
use tenure_engine::TenantId;

use super::source::Sources;
use super::{Place, Placement, PlacementStatus, maps, store};
use crate::data_map::Model;
use crate::deletion;
use crate::door::DoorError;
use crate::tenant;

/// The longest name of a schema or a database, in bytes: Postgres cuts longer ones.
const MAX_NAME: usize = 63;

/// Finds a tenant's placement. The transaction must act as control, or as the tenant.
///
/// # Errors
/// [`DoorError::NotFound`].
pub async fn find(conn: &mut PgConnection, tenant: TenantId) -> Result<Placement, DoorError> {
    let found = store::find_placement(conn, tenant).await?;
    found.ok_or_else(|| DoorError::not_found("placement of tenant", tenant))
}

/// Lists placements by tenant, those that touch a source, after the cursor. The transaction must act
/// as control.
///
/// # Errors
/// When the database does not answer.
pub async fn list(
    conn: &mut PgConnection,
    source: Option<&str>,
    after: Option<TenantId>,
    limit: i64,
) -> Result<Vec<Placement>, DoorError> {
    Ok(store::list_placements(conn, source, after, limit).await?)
}

/// Says where a tenant's rows are already; nothing is made or moved. The transaction must act as
/// control.
///
/// # Errors
/// [`DoorError::NotFound`] for an unknown tenant; [`DoorError::Malformed`] for a place that makes no
/// sense; [`DoorError::Conflict`] when it is another tenant's, or the tenant is placed elsewhere;
/// [`DoorError::Product`].
pub async fn set(
    conn: &mut PgConnection,
    sources: &Sources,
    tenant: TenantId,
    place: &Place,
) -> Result<Placement, DoorError> {
    tenant::find(conn, tenant).await?;
    deletion::door::refuse_shut(conn, tenant).await?;
    check(conn, sources, place).await?;
    store::lock_places(conn).await?;
    is_free(conn, tenant, place).await?;
    if !store::insert_placement(conn, tenant, place, PlacementStatus::Active, None).await? {
        let standing = find(conn, tenant).await?;
        if standing.place != *place {
            return Err(DoorError::Conflict(format!(
                "the tenant is placed in {} already; move it",
                told(&standing.place)
            )));
        }
    }
    find(conn, tenant).await
}

/// Whether a place makes sense: its source is there and of its model, its names are names.
pub(crate) async fn check(
    conn: &mut PgConnection,
    sources: &Sources,
    place: &Place,
) -> Result<(), DoorError> {
    let malformed = |field, detail: &str| {
        Err(DoorError::Malformed {
            field,
            detail: detail.to_owned(),
        })
    };
    sources.get(&place.source)?;
    let map = maps::current(conn, &place.source).await?;
    if map.map.model != place.model {
        let detail = format!(
            "source {} is of model {}",
            place.source,
            map.map.model.word()
        );
        return malformed("model", &detail);
    }
    if place.schema.is_some() != (place.model == Model::Schema) {
        return malformed("schema", "named with model schema, and with no other");
    }
    if place.database.is_some() && place.model != Model::Database {
        return malformed("database", "named with model database only");
    }
    for (field, name) in [("schema", &place.schema), ("database", &place.database)] {
        let Some(name) = name else { continue };
        if name.is_empty() || name.len() > MAX_NAME || name.contains('\0') {
            return malformed(field, "a name of 1 to 63 bytes");
        }
        if name.starts_with("pg_") || ["tenure", "information_schema"].contains(&name.as_str()) {
            return malformed(field, "a name that is nobody else's");
        }
    }
    let key = &place.key;
    if key.is_empty() || key.chars().count() > 200 || key.contains('\0') {
        return malformed("key", "what the tenant column says: 1 to 200 characters");
    }
    Ok(())
}

/// Whether nobody else's rows are there. The placements must be locked.
pub(crate) async fn is_free(
    conn: &mut PgConnection,
    tenant: TenantId,
    place: &Place,
) -> Result<(), DoorError> {
    let mut after = None;
    loop {
        let page = store::list_placements(conn, Some(&place.source), after, 1_000).await?;
        let Some(last) = page.last() else {
            return Ok(());
        };
        after = Some(last.tenant);
        for one in page.iter().filter(|one| one.tenant != tenant) {
            let mut places = std::iter::once(&one.place).chain(&one.other);
            if places.any(|other| meets(other, place)) {
                let words = format!("{} is the place of tenant {}", told(place), one.tenant);
                return Err(DoorError::Conflict(words));
            }
        }
    }
}

/// Whether the rows of two places would be the same ones.
fn meets(one: &Place, other: &Place) -> bool {
    one.source == other.source
        && one.database == other.database
        && one.schema == other.schema
        && (one.model != Model::Shared || one.key == other.key)
}

/// A place in words.
pub(crate) fn told(place: &Place) -> String {
    match (&place.database, &place.schema) {
        (Some(database), _) => format!("database {database} beside source {}", place.source),
        (None, Some(schema)) => format!("schema {schema} of source {}", place.source),
        (None, None) => format!("source {} as {}", place.source, place.key),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(model: Model, database: Option<&str>, schema: Option<&str>, key: &str) -> Place {
        Place {
            model,
            source: "main".to_owned(),
            database: database.map(ToOwned::to_owned),
            schema: schema.map(ToOwned::to_owned),
            key: key.to_owned(),
        }
    }

    #[test]
    fn two_tenants_meet_in_one_schema_or_database_whatever_their_keys() {
        let shared = |key| place(Model::Shared, None, None, key);
        let schema = |name, key| place(Model::Schema, None, Some(name), key);
        let database = |name, key| place(Model::Database, name, None, key);
        assert!(meets(&shared("1"), &shared("1")));
        assert!(!meets(&shared("1"), &shared("2")));
        assert!(meets(&schema("a", "1"), &schema("a", "2")));
        assert!(!meets(&schema("a", "1"), &schema("b", "1")));
        assert!(meets(&database(None, "1"), &database(None, "2")));
        assert!(!meets(&database(Some("a"), "1"), &database(None, "1")));
    }
}

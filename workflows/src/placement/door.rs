//! The doors to what is done with places: provision, move, back out, migrate.

use sha2::{Digest as _, Sha256};
use sqlx::PgConnection;
use tenure_engine::{Client, EngineError, RunId, SYSTEM_TENANT, TenantId};

use super::migration::{self, Migration, MigrationInput, MigrationPlace, MigrationRow};
use super::moving::{MoveInput, MoveWorkflow};
use super::provision::{ProvisionInput, ProvisionWorkflow};
use crate::data_map::Model;
use crate::deletion;
use crate::door::{DoorError, as_control, as_engine, as_tenant};
use crate::keeping::hold;
use crate::product::door::{check, find, is_free};
use crate::product::{Place, Placement, PlacementStatus, Sources, maps, store};
use crate::tenant;

/// The longest SQL text, in bytes: it is part of what a run is started with.
const MAX_SQL: usize = 512 << 10;
/// The most rows that are copied at a time.
const MAX_BATCH: u32 = 5_000;
/// The longest that old rows are kept: a month.
const MAX_KEEP_HOURS: u32 = 31 * 24;
/// The most places that are migrated at a time.
const MAX_AT_ONCE: u32 = 256;

fn malformed(field: &'static str, detail: impl Into<String>) -> DoorError {
    DoorError::Malformed {
        field,
        detail: detail.into(),
    }
}

fn check_sql(sql: &str) -> Result<(), DoorError> {
    if sql.trim().is_empty() || sql.contains('\0') {
        return Err(malformed("sql", "SQL that is not empty"));
    }
    if sql.len() > MAX_SQL {
        return Err(malformed("sql", "512 KiB at most"));
    }
    Ok(())
}

fn check_reason(reason: &str) -> Result<(), DoorError> {
    let reason = reason.trim();
    if reason.is_empty() || reason.chars().count() > 2_000 || reason.contains('\0') {
        return Err(malformed("reason", "a reason has 1 to 2000 characters"));
    }
    Ok(())
}

/// Whether SQL can make the place.
fn check_makeable(place: &Place) -> Result<(), DoorError> {
    let own = place.model == Model::Database && place.database.is_none();
    if place.model == Model::Shared || own {
        let detail = "only a schema, or a database beside the source's own, is made: leave it out";
        return Err(malformed("sql", detail));
    }
    Ok(())
}

/// Makes a place for a tenant that has none, or takes one that is there, once it is as its map
/// says. The transaction ends up acting as control.
///
/// # Errors
/// [`DoorError::NotFound`] for an unknown tenant; [`DoorError::Malformed`];
/// [`DoorError::Conflict`] when the tenant or the place is taken; [`DoorError::Product`].
pub async fn provision(
    client: &Client,
    conn: &mut PgConnection,
    sources: &Sources,
    (tenant, place): (TenantId, &Place),
    sql: Option<&str>,
    author: &str,
) -> Result<Placement, DoorError> {
    as_control(conn).await?;
    tenant::find(conn, tenant).await?;
    deletion::door::refuse_shut(conn, tenant).await?;
    check(conn, sources, place).await?;
    if let Some(sql) = sql {
        check_sql(sql)?;
        check_makeable(place)?;
    }
    store::lock_places(conn).await?;
    is_free(conn, tenant, place).await?;
    if let Some(standing) = store::find_placement(conn, tenant).await? {
        return Err(DoorError::Conflict(format!(
            "the tenant has a placement already, which is {}; move it",
            standing.status.word()
        )));
    }
    let map = maps::current(conn, &place.source).await?;
    let input = ProvisionInput {
        tenant,
        place: place.clone(),
        map: map.version,
        sql: sql.map(ToOwned::to_owned),
        contained: migration::contained(conn).await?,
        author: author.to_owned(),
    };
    as_engine(conn).await?;
    let started = client
        .start::<ProvisionWorkflow>(conn, SYSTEM_TENANT, &key_of(tenant), &input)
        .await?;
    as_control(conn).await?;
    let (status, run) = (PlacementStatus::Provisioning, Some(started.run_id));
    store::insert_placement(conn, tenant, place, status, run).await?;
    find(conn, tenant).await
}

/// A tenant may be moved more than once, so a run's key is new each time.
fn key_of(tenant: TenantId) -> String {
    format!("{tenant}/{}", tenure_engine::random_uuid())
}

/// A move to ask for.
#[derive(Debug, Clone)]
pub struct NewMove {
    /// Where the rows are to be.
    pub to: Place,
    /// The product's SQL that makes the new place; none for one that is there and empty.
    pub sql: Option<String>,
    /// For how many hours the old rows stay after the switch.
    pub keep_hours: u32,
    /// How many rows are copied at a time.
    pub batch: u32,
    /// Who asks for it.
    pub author: String,
    /// Why.
    pub reason: String,
}

/// Begins to move a tenant. The transaction ends up acting as control.
///
/// # Errors
/// [`DoorError::NotFound`] for a tenant without a placement; [`DoorError::Malformed`];
/// [`DoorError::Conflict`] when it is on its way already, the place is another's, its deletion is asked
/// for, or a hold would hold nothing there;
/// [`DoorError::Product`].
pub async fn begin_move(
    client: &Client,
    conn: &mut PgConnection,
    sources: &Sources,
    tenant: TenantId,
    new: &NewMove,
) -> Result<Placement, DoorError> {
    check_reason(&new.reason)?;
    if !(1..=MAX_BATCH).contains(&new.batch) {
        return Err(malformed("batch", format!("1 to {MAX_BATCH} rows")));
    }
    if new.keep_hours > MAX_KEEP_HOURS {
        return Err(malformed("keep_hours", format!("at most {MAX_KEEP_HOURS}")));
    }
    as_control(conn).await?;
    tenant::find(conn, tenant).await?;
    deletion::door::refuse_asked(conn, tenant).await?;
    check(conn, sources, &new.to).await?;
    if let Some(sql) = &new.sql {
        check_sql(sql)?;
        check_makeable(&new.to)?;
    }
    store::lock_places(conn).await?;
    let seen = find(conn, tenant).await?;
    if seen.status != PlacementStatus::Active {
        return Err(busy(&seen));
    }
    if (Place {
        key: String::new(),
        ..seen.place.clone()
    }) == (Place {
        key: String::new(),
        ..new.to.clone()
    }) {
        return Err(malformed("to", "the tenant is there already"));
    }
    is_free(conn, tenant, &new.to).await?;
    let from_map = maps::current(conn, &seen.place.source).await?.version;
    let to_map = maps::current(conn, &new.to.source).await?;
    as_tenant(conn, tenant).await?;
    hold::refuse_loss(conn, tenant, &to_map.map).await?;
    as_control(conn).await?;
    let input = MoveInput {
        tenant,
        from: seen.place.clone(),
        from_map,
        to: new.to.clone(),
        to_map: to_map.version,
        sql: new.sql.clone(),
        contained: migration::contained(conn).await?,
        keep_hours: new.keep_hours,
        batch: new.batch,
        author: new.author.clone(),
        reason: new.reason.clone(),
    };
    as_engine(conn).await?;
    let started = client
        .start::<MoveWorkflow>(conn, SYSTEM_TENANT, &key_of(tenant), &input)
        .await?;
    as_control(conn).await?;
    let next = Placement {
        status: PlacementStatus::Moving,
        other: Some(new.to.clone()),
        held_by: Some(started.run_id),
        ..seen.clone()
    };
    if !store::update_placement(conn, &seen, &next).await? {
        return Err(DoorError::Conflict(
            "the placement was changed meanwhile".to_owned(),
        ));
    }
    find(conn, tenant).await
}

fn busy(seen: &Placement) -> DoorError {
    let run = seen
        .held_by
        .map_or_else(String::new, |run| format!(", by run {run}"));
    DoorError::Conflict(format!(
        "the tenant's placement is {}{run}",
        seen.status.word()
    ))
}

/// Asks a move to leave the tenant where it is. It is heard at the end of the step that is under
/// way; a move that has switched by then goes on. The transaction ends up acting as control.
///
/// # Errors
/// [`DoorError::NotFound`]; [`DoorError::Conflict`] when the tenant is not on its way, or has
/// switched.
pub async fn back_out(
    client: &Client,
    conn: &mut PgConnection,
    tenant: TenantId,
) -> Result<Placement, DoorError> {
    as_control(conn).await?;
    let seen = find(conn, tenant).await?;
    let (PlacementStatus::Moving | PlacementStatus::Frozen, Some(run)) =
        (seen.status, seen.held_by)
    else {
        return Err(match seen.status {
            PlacementStatus::Cleaning => {
                DoorError::Conflict("the tenant has switched; move it back".to_owned())
            }
            _ => DoorError::Conflict("the tenant is not being moved".to_owned()),
        });
    };
    as_engine(conn).await?;
    match client.cancel(conn, SYSTEM_TENANT, run).await {
        Ok(_) => {}
        Err(EngineError::RunFinished { .. }) => return Err(abandoned(run)),
        Err(error) => return Err(error.into()),
    }
    as_control(conn).await?;
    find(conn, tenant).await
}

fn abandoned(run: RunId) -> DoorError {
    DoorError::Conflict(format!(
        "run {run} that moved the tenant was ended by somebody and cannot back out any more"
    ))
}

/// Begins to apply a migration, at all places of some sources; asked for again, at those where it
/// is not applied. The transaction ends up acting as control.
///
/// # Errors
/// [`DoorError::Malformed`]; [`DoorError::Conflict`] when the version had another text, or is
/// still being applied; [`DoorError::Product`].
pub async fn migrate(
    client: &Client,
    conn: &mut PgConnection,
    sources: &Sources,
    new: &Migration,
) -> Result<MigrationRow, DoorError> {
    check_reason(&new.reason)?;
    check_sql(&new.sql)?;
    let plain = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
    if new.version.is_empty() || new.version.len() > 100 || !new.version.chars().all(plain) {
        return Err(malformed(
            "version",
            "1 to 100 of letters, digits, dot, _ and -",
        ));
    }
    if !(1..=MAX_AT_ONCE).contains(&new.at_most) {
        return Err(malformed("at_most", format!("1 to {MAX_AT_ONCE} places")));
    }
    as_control(conn).await?;
    let named: Vec<String> = match new.sources.is_empty() {
        true => sources.names().map(ToOwned::to_owned).collect(),
        false => new.sources.clone(),
    };
    if named.is_empty() {
        return Err(malformed(
            "sources",
            "the configuration names no product database",
        ));
    }
    for source in &named {
        sources.get(source)?;
        maps::current(conn, source).await?;
    }
    let hash = hex::encode(Sha256::digest(&new.sql));
    if let Some(standing) = migration::find(conn, &new.version).await?
        && standing.hash != hash
    {
        let words = format!("version {} was loaded with another text", new.version);
        return Err(DoorError::Conflict(words));
    }
    let input = MigrationInput {
        version: new.version.clone(),
        sources: named,
        at_most: new.at_most,
    };
    as_engine(conn).await?;
    let key = format!("{}/{}", new.version, tenure_engine::random_uuid());
    let started = client
        .start::<migration::MigrationWorkflow>(conn, SYSTEM_TENANT, &key, &input)
        .await?;
    as_control(conn).await?;
    if !migration::insert(conn, new, &hash, started.run_id).await? {
        let words = format!("version {} was loaded with another text", new.version);
        return Err(DoorError::Conflict(words));
    }
    find_migration(conn, &new.version).await
}

/// Finds a migration. The transaction must act as control.
///
/// # Errors
/// [`DoorError::NotFound`].
pub async fn find_migration(
    conn: &mut PgConnection,
    version: &str,
) -> Result<MigrationRow, DoorError> {
    let found = migration::find(conn, version).await?;
    found.ok_or_else(|| DoorError::not_found("product migration", version))
}

/// Lists migrations, newest first. The transaction must act as control.
///
/// # Errors
/// When the database does not answer.
pub async fn list_migrations(
    conn: &mut PgConnection,
    limit: i64,
) -> Result<Vec<MigrationRow>, DoorError> {
    Ok(migration::list(conn, None, limit).await?)
}

/// Lists what came of a migration at its places, what is not applied first. The transaction must
/// act as control.
///
/// # Errors
/// [`DoorError::NotFound`].
pub async fn migration_places(
    conn: &mut PgConnection,
    version: &str,
    limit: i64,
) -> Result<Vec<MigrationPlace>, DoorError> {
    find_migration(conn, version).await?;
    Ok(migration::places(conn, version, limit).await?)
}

//! A tenant's place, opened: three ways to be kept apart behind one face.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::Arc;

use serde::Serialize;
use serde::de::DeserializeOwned;
use sqlx::pool::PoolConnection;
use sqlx::{PgConnection, Postgres, Transaction};
use uuid::Uuid;

use super::ledger::{self, Commit, OnceKey};
use super::maps::Map;
use super::source::{Base, Sources};
use super::{Place, Placement, ProductError, quoted};
use crate::data_map::{Belongs, Model};

/// How conditions read the tenant's key: a transaction of ours sets it.
const KEY: &str = "current_setting('tenure.tenant_key')";

/// A tenant's place, opened under one version of the data map. Statements name the table by
/// [`Site::table`] under the alias `t`, and keep to the tenant by [`Site::own`]:
///
/// ```text
/// format!("select count(*) from {} as t where {}", site.table(name), site.own(name))
/// ```
pub struct Site {
    place: Place,
    subject: String,
    map: Arc<Map>,
    base: Base,
    search_path: String,
    /// Per table of the map, the condition that a row is the tenant's.
    own: BTreeMap<String, String>,
}

impl Site {
    /// Opens a tenant's place as it is now.
    ///
    /// # Errors
    /// As [`Site::at`].
    pub async fn open(
        sources: &Sources,
        placement: &Placement,
        map: &Arc<Map>,
    ) -> Result<Self, ProductError> {
        Self::at(sources, placement.subject(), &placement.place, map).await
    }

    /// Opens any place, such as the one that a tenant moves to.
    ///
    /// # Errors
    /// [`ProductError::UnknownSource`]; [`ProductError::OtherModel`] when the map is not the
    /// place's; [`ProductError::BypassesRowSecurity`] and [`ProductError::DoesNotFit`] where tenants
    /// share tables; [`ProductError::Database`].
    pub async fn at(
        sources: &Sources,
        tenant: Uuid,
        place: &Place,
        map: &Arc<Map>,
    ) -> Result<Self, ProductError> {
        let source = sources.get(&place.source)?;
        if map.map.model != place.model || map.source != place.source {
            return Err(ProductError::OtherModel {
                source_name: place.source.clone(),
                place: place.model.word(),
                map: map.map.model.word(),
            });
        }
        let base = source.base(place.database.as_deref());
        base.install().await?;
        let schemas: Vec<String> = match &place.schema {
            Some(schema) => vec![quoted(schema)],
            None => map.map.schemas.iter().map(|name| quoted(name)).collect(),
        };
        let mut site = Self {
            place: place.clone(),
            subject: tenant.to_string(),
            map: map.clone(),
            base,
            search_path: schemas.join(", "),
            own: BTreeMap::new(),
        };
        if place.model == Model::Shared {
            let mut conn = site.base.pool.acquire().await?;
            if ledger::bypasses_row_security(&mut conn).await? {
                return Err(ProductError::BypassesRowSecurity(place.source.clone()));
            }
            site.own = own(&mut conn, map).await?;
        }
        Ok(site)
    }

    /// Where it is.
    #[must_use]
    pub fn place(&self) -> &Place {
        &self.place
    }

    /// The map that it was opened under.
    #[must_use]
    pub fn map(&self) -> &Arc<Map> {
        &self.map
    }

    /// The schemas of the tables there.
    #[must_use]
    pub fn schemas(&self) -> Vec<String> {
        match &self.place.schema {
            Some(schema) => vec![schema.clone()],
            None => self.map.map.schemas.clone(),
        }
    }

    /// A connection there, for its catalog.
    ///
    /// # Errors
    /// [`ProductError::Database`].
    pub async fn connect(&self) -> Result<PoolConnection<Postgres>, ProductError> {
        Ok(self.base.pool.acquire().await?)
    }

    /// A transaction that sees this tenant only, with limits on locks and time.
    ///
    /// # Errors
    /// [`ProductError::Database`].
    pub async fn begin(&self) -> Result<Transaction<'static, Postgres>, ProductError> {
        self.begin_as(Commit::OnDisk).await
    }

    async fn begin_as(
        &self,
        commit: Commit,
    ) -> Result<Transaction<'static, Postgres>, ProductError> {
        let mut tx = self.base.pool.begin().await?;
        let setting = self.map.map.setting.as_deref();
        let (path, key) = (&self.search_path, &self.place.key);
        ledger::narrow(&mut tx, path, key, setting, commit).await?;
        Ok(tx)
    }

    /// The name of a table of the map at this place, quoted for SQL.
    #[must_use]
    pub fn table(&self, name: &str) -> String {
        match &self.place.schema {
            Some(schema) => format!("{}.{}", quoted(schema), quoted(name)),
            None => qualified(name),
        }
    }

    /// The condition that a row of the table, under the alias `t`, is this tenant's: `true` where
    /// the schema or the database is. `false` for a table of nobody, or that the map has not.
    #[must_use]
    pub fn own(&self, table: &str) -> String {
        let rule = self.map.map.tables.get(table);
        if rule.is_none_or(|rule| matches!(rule.belongs, Belongs::Nobody(_))) {
            return "false".to_owned();
        }
        match self.place.model {
            Model::Schema | Model::Database => "true".to_owned(),
            Model::Shared => self
                .own
                .get(table)
                .map_or("false", String::as_str)
                .to_owned(),
        }
    }

    /// As [`Site::own`], with the key written out: for what is stored in the product's database and
    /// read by sessions that are not ours.
    #[must_use]
    pub(crate) fn own_written_out(&self, table: &str) -> String {
        let key = format!("'{}'", self.place.key.replace('\'', "''"));
        self.own(table).replace(KEY, &key)
    }

    /// Does work at the place exactly once; told in the module's header.
    ///
    /// # Errors
    /// Those of `work`, after which nothing that it wrote is kept; [`ProductError::Database`].
    pub async fn once<T, F>(&self, key: &OnceKey, work: F) -> Result<T, ProductError>
    where
        T: Serialize + DeserializeOwned,
        F: AsyncFnOnce(&mut PgConnection) -> Result<T, ProductError>,
    {
        let tx = self.begin().await?;
        ledger::once(tx, key, &self.subject, work).await
    }

    /// As [`Site::once`], but its commit does not wait until it is on disk: [`Site::flush`] does.
    ///
    /// # Errors
    /// As [`Site::once`].
    pub async fn once_in_memory<T, F>(&self, key: &OnceKey, work: F) -> Result<T, ProductError>
    where
        T: Serialize + DeserializeOwned,
        F: AsyncFnOnce(&mut PgConnection) -> Result<T, ProductError>,
    {
        let tx = self.begin_as(Commit::InMemory).await?;
        ledger::once(tx, key, &self.subject, work).await
    }

    /// Waits until the work under these keys of one job is on disk.
    ///
    /// # Errors
    /// [`ProductError::LostCommits`] when some of it is gone, so that all is to be done again;
    /// [`ProductError::Database`].
    pub async fn flush(&self, keys: &[OnceKey]) -> Result<(), ProductError> {
        let Some(first) = keys.first() else {
            return Ok(());
        };
        let mut tx = self.begin().await?;
        ledger::flush(&mut tx, first.job, keys, &self.subject).await?;
        tx.commit().await?;
        Ok(())
    }

    /// What came of work that was done once, if it was.
    ///
    /// # Errors
    /// [`ProductError::Database`], [`ProductError::OtherAnswer`].
    pub async fn recorded<T: DeserializeOwned>(
        &self,
        key: &OnceKey,
    ) -> Result<Option<T>, ProductError> {
        let mut conn = self.base.pool.acquire().await?;
        let answer = ledger::look(&mut conn, key, &self.subject).await?;
        let other = |error| ProductError::OtherAnswer(key.name.clone(), error);
        answer
            .map(serde_json::from_value)
            .transpose()
            .map_err(other)
    }

    /// Drops what the ledger of this database keeps of a job.
    ///
    /// # Errors
    /// [`ProductError::Database`].
    pub async fn forget(&self, job: Uuid) -> Result<(), ProductError> {
        let mut conn = self.base.pool.acquire().await?;
        ledger::forget(&mut conn, job).await
    }
}

/// `schema.table`, quoted; a schema's name holds no dot where the map could tell them apart.
fn qualified(name: &str) -> String {
    match name.split_once('.') {
        Some((schema, table)) => format!("{}.{}", quoted(schema), quoted(table)),
        None => quoted(name),
    }
}

/// The condition of each table that tenants share. The key is compared in the column's own type,
/// so that its index serves.
async fn own(conn: &mut PgConnection, map: &Map) -> Result<BTreeMap<String, String>, ProductError> {
    let mut columns = BTreeMap::new();
    for (name, rule) in &map.map.tables {
        if let Belongs::Column(column) = &rule.belongs {
            columns.insert(name.clone(), column.clone());
        }
    }
    let (names, wanted): (Vec<_>, Vec<_>) = columns.clone().into_iter().unzip();
    let types: BTreeMap<String, String> = ledger::column_types(conn, &names, &wanted)
        .await?
        .into_iter()
        .collect();
    let is_own = |table: &str, alias: &str| {
        let (column, data_type) = (columns.get(table)?, types.get(table)?);
        let column = quoted(column);
        Some(format!("{alias}.{column} = {KEY}::{data_type}"))
    };
    let mut own = BTreeMap::new();
    for (name, rule) in &map.map.tables {
        let condition = match &rule.belongs {
            Belongs::Column(_) => is_own(name, "t"),
            Belongs::Path(keys) => along(conn, name, keys, &is_own).await?,
            Belongs::Nobody(_) | Belongs::Unsaid => continue,
        };
        let gone = || {
            let words = format!("the database does not show whose the rows of {name} are");
            ProductError::DoesNotFit(words)
        };
        own.insert(name.clone(), condition.ok_or_else(gone)?);
    }
    Ok(own)
}

/// The condition over foreign keys: there is a parent, and it is the tenant's.
async fn along(
    conn: &mut PgConnection,
    table: &str,
    keys: &[String],
    is_own: &impl Fn(&str, &str) -> Option<String>,
) -> Result<Option<String>, ProductError> {
    let mut from = String::new();
    let mut conditions = Vec::new();
    let (mut child, mut alias) = (table.to_owned(), "t".to_owned());
    for (place, key) in keys.iter().enumerate() {
        let Some((parent, columns, theirs)) = ledger::parent_columns(conn, &child, key).await?
        else {
            return Ok(None);
        };
        let next = format!("p{}", place + 1);
        let comma = if place == 0 { "" } else { ", " };
        let _ = write!(from, "{comma}{} as {next}", qualified(&parent));
        for (column, their) in columns.iter().zip(&theirs) {
            let (column, their) = (quoted(column), quoted(their));
            conditions.push(format!("{next}.{their} = {alias}.{column}"));
        }
        (child, alias) = (parent, next);
    }
    let Some(last) = is_own(&child, &alias) else {
        return Ok(None);
    };
    conditions.push(last);
    let conditions = conditions.join(" and ");
    Ok(Some(format!(
        "exists (select from {from} where {conditions})"
    )))
}

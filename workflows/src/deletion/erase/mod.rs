//! Erasing, a chunk at a time: the product's rows in the three models, then Tenure's own.
//!
//! A chunk of the product's rows is done once (the ledger there), and counted once (its number here): a
//! process that is killed between the two asks again and is told what was done. A chunk of our own
//! rows and its count are one transaction.

mod effort;
mod look;
pub(super) mod store;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use sqlx::{PgConnection, PgPool, Postgres, Transaction};
use tenure_engine::flow::Author;
use tenure_engine::forget::{self, Shelf};
use tenure_engine::{EngineError, RunId, StepError, TenantId, seal};
use uuid::Uuid;

use self::look::{Cursor, Looked, Sought};
use self::store::{KeyColumn, Rows};
use super::archives;
use super::own::{self, Rule};
use super::rules::{self, Action, FIRST_CHUNK, Failure, Realm, WHOLE};
use super::store::{Counts, Known, add_chunk};
use super::{Job, Unit, as_eraser};
use crate::archive::{Archive, ArchiveError};
use crate::data_map::{self, Belongs, Erase, Finding, Kind, Model, Snapshot, TableRule};
use crate::door::{DoorError, as_control, as_tenant};
use crate::environment::Environment;
use crate::keeping::hold;
use crate::product::maps::{self, Map};
use crate::product::{self, OnceKey, Place, PlacementStatus, ProductError, Site, Sources, quoted};

/// How long a chunk may take, and one of a single row; a statement that is no chunk has the place's own
/// limit.
const CHUNK_LIMIT: Duration = Duration::from_secs(1);
const ROW_LIMIT: Duration = Duration::from_secs(10);
/// A statement that is no chunk and took so long was cut off by the place's own limit.
const WHOLE_LIMIT: Duration = Duration::from_secs(55);
/// How long a chunk waits for a lock, in milliseconds: less than what cuts it off.
const LOCK_LIMIT_MS: u64 = 500;
/// The most values that are looked for afterwards.
const MAX_VALUES: usize = 200;
/// How many values of a column are looked for afterwards.
const VALUES: i64 = 5;

/// Why it does not go on.
#[derive(Debug)]
pub(super) enum Trouble {
    /// It passes.
    Passing(StepError),
    /// A hold stands.
    Held(String),
    /// Somebody has to do something.
    Named { code: String, message: String },
}

impl Trouble {
    pub(super) fn named(code: &str, message: impl Into<String>) -> Self {
        Self::Named {
            code: code.to_owned(),
            message: message.into(),
        }
    }
}

impl From<StepError> for Trouble {
    fn from(error: StepError) -> Self {
        Self::Passing(error)
    }
}

impl From<sqlx::Error> for Trouble {
    fn from(error: sqlx::Error) -> Self {
        Self::Passing(error.into())
    }
}

impl From<EngineError> for Trouble {
    fn from(error: EngineError) -> Self {
        match error {
            EngineError::NotAllowed { reason, .. } => Self::named("not_allowed", reason),
            error => Self::Passing(error.into()),
        }
    }
}

impl From<DoorError> for Trouble {
    fn from(error: DoorError) -> Self {
        match error {
            DoorError::Product(error) => error.into(),
            error => Self::Passing(error.into()),
        }
    }
}

impl From<ArchiveError> for Trouble {
    fn from(error: ArchiveError) -> Self {
        match error {
            ArchiveError::NotConfigured | ArchiveError::Damaged(_) => {
                Self::named(error.code(), error.to_string())
            }
            error => Self::Passing(error.step()),
        }
    }
}

impl From<ProductError> for Trouble {
    fn from(error: ProductError) -> Self {
        match error {
            ProductError::Database(error)
            | ProductError::Catalog(data_map::ReadError::Database(error)) => refused(&error),
            ProductError::Catalog(error) => Self::named("table_gone", error.to_string()),
            ProductError::UnknownSource(..) => Self::named("source", error.to_string()),
            ProductError::Refused(words) => Self::named("refused", words),
            ProductError::ReferredTo(words) => Self::named("row_of_two_tenants", words),
            error => Self::named("data_map", error.to_string()),
        }
    }
}

/// What the product's database said no to. Its message names tables and constraints; what it adds
/// about values is left out.
fn refused(error: &sqlx::Error) -> Trouble {
    let told = error.as_database_error();
    let code = told.and_then(|told| told.code());
    match rules::failure(code.as_deref()) {
        Failure::Passing => {
            let words = "the product's database does not answer, or is busy";
            Trouble::Passing(StepError::retryable("product_away", words))
        }
        Failure::Named(code) => {
            let message = told.map(|told| told.message().to_owned());
            Trouble::named(code, message.unwrap_or_default())
        }
    }
}

/// Whether a statement was cancelled, be it by its limit or by somebody.
fn is_cancelled(error: &sqlx::Error) -> bool {
    let told = error.as_database_error();
    told.and_then(|told| told.code()).as_deref() == Some("57014")
}

/// What erasing reaches.
#[derive(Clone, Copy)]
pub(super) struct Reach<'a> {
    /// A pool of the engine's role.
    pub(super) engine: &'a PgPool,
    /// The product's databases.
    pub(super) products: &'a Sources,
    /// The store of archives, where there is one.
    pub(super) archive: Option<&'a Archive>,
}

impl<'a> Reach<'a> {
    pub(super) fn of(environment: &'a Environment) -> Self {
        Self {
            engine: environment.engine(),
            products: environment.products(),
            archive: environment.archive().ok(),
        }
    }
}

/// A tenant's place in the product, with what its catalog says.
pub(super) struct Ground {
    pub(super) place: Place,
    pub(super) map: Arc<Map>,
    pub(super) snapshot: Snapshot,
    site: Site,
}

/// The place of a tenant's rows; `None` where it has none. One that is on its way is no place.
pub(super) async fn find_place(
    reach: Reach<'_>,
    subject: TenantId,
) -> Result<Option<Place>, Trouble> {
    let mut tx = tenure_engine::begin(reach.engine).await?;
    as_control(&mut tx).await?;
    let placement = match product::door::find(&mut tx, subject).await {
        Err(DoorError::NotFound { .. }) => return Ok(None),
        found => found?,
    };
    if placement.status != PlacementStatus::Active {
        let words = format!("the tenant's place is {}", placement.status.word());
        return Err(Trouble::named("placement", words));
    }
    Ok(Some(placement.place))
}

/// Opens a place with the newest map, or with the pinned version.
pub(super) async fn open(
    reach: Reach<'_>,
    subject: TenantId,
    place: &Place,
    pinned: Option<i32>,
) -> Result<Ground, Trouble> {
    let mut tx = tenure_engine::begin(reach.engine).await?;
    as_control(&mut tx).await?;
    let map = match pinned {
        Some(version) => maps::find(&mut tx, &place.source, version).await?,
        None => maps::current(&mut tx, &place.source).await?,
    };
    tx.rollback().await?;
    let site = Site::at(reach.products, subject.0, place, &map).await?;
    let snapshot = match snapshot(reach, &site, &map).await {
        // It is dropped already, and the ledger says so.
        Err(ProductError::Catalog(data_map::ReadError::UnknownSchema(_)))
            if place.model == Model::Schema =>
        {
            Snapshot::default()
        }
        found => found?,
    };
    Ok(Ground {
        place: place.clone(),
        map,
        snapshot,
        site,
    })
}

/// Whether the tenant's own database is gone, so that there is no place to open.
pub(super) async fn is_dropped(reach: Reach<'_>, place: &Place) -> Result<bool, Trouble> {
    let Some(database) = &place.database else {
        return Ok(false);
    };
    let source = reach.products.get(&place.source)?;
    let mut conn = source.connect().await?;
    let there = store::has_database(&mut conn, database).await;
    Ok(!there.map_err(ProductError::from)?)
}

async fn snapshot(reach: Reach<'_>, site: &Site, map: &Map) -> Result<Snapshot, ProductError> {
    let place = site.place();
    let source = reach.products.get(&place.source)?;
    let mut conn = source.connect_to(place.database.as_deref()).await?;
    Ok(data_map::read(&mut conn, map.map.model, &site.schemas()).await?)
}

impl Ground {
    /// What is wrong with the map.
    pub(super) fn findings(&self) -> Vec<Finding> {
        data_map::check(&self.map.map, &self.snapshot)
    }

    fn rows(&self, table: &str) -> Rows {
        Rows {
            table: self.site.table(table),
            own: self.site.own(table),
        }
    }

    fn rule(&self, table: &str) -> Result<&TableRule, ProductError> {
        let gone = || {
            let version = self.map.version;
            ProductError::DoesNotFit(format!("version {version} does not name {table}"))
        };
        self.map.map.tables.get(table).ok_or_else(gone)
    }

    /// Counts the tenant's rows, table by table, for a dry run.
    pub(super) async fn counts(&self) -> Result<BTreeMap<String, i64>, Trouble> {
        let mut counts = BTreeMap::new();
        let mut tx = self.site.begin().await?;
        for (name, rule) in &self.map.map.tables {
            if !matches!(rule.belongs, Belongs::Nobody(_)) {
                let count = store::count(&mut tx, &self.rows(name), None).await;
                counts.insert(name.clone(), count.map_err(ProductError::from)?);
            }
        }
        Ok(counts)
    }

    /// Some of the values that must not be found afterwards: personal texts that go.
    pub(super) async fn values(&self) -> Result<Vec<String>, Trouble> {
        let mut values = Vec::new();
        let mut tx = self.site.begin().await?;
        for (name, rule) in &self.map.map.tables {
            let goes = rule.columns.iter().filter(|column| {
                column.kind == Kind::Personal && !matches!(column.erase, Erase::Keep)
            });
            for column in goes {
                let text = self
                    .snapshot
                    .table(name)
                    .and_then(|it| it.column(&column.name));
                let is_text = |it: &data_map::Column| {
                    it.data_type.starts_with("text") || it.data_type.starts_with("character")
                };
                if !text.is_some_and(is_text) || values.len() >= MAX_VALUES {
                    continue;
                }
                let rows = self.rows(name);
                let found = store::list_values(&mut tx, &rows, &column.name, VALUES).await;
                values.extend(found.map_err(ProductError::from)?);
            }
        }
        Ok(values)
    }

    /// Does one chunk of a step at the product; `None` when it was cut off, and nothing is done.
    async fn chunk(
        &self,
        reach: Reach<'_>,
        job: RunId,
        unit: &Unit,
        (hash_key, limit): (&str, i64),
    ) -> Result<Option<Chunk>, Trouble> {
        if unit.planned.name == WHOLE && self.place.model == Model::Database {
            return Ok(Some(self.drop_database(reach).await?));
        }
        let within = self.within(unit, limit);
        let key = OnceKey::new(job.0, format!("erase/{}/{}", unit.seq, unit.chunk));
        let began = Instant::now();
        let done = self.site.once(&key, async |conn| {
            if let Some(within) = within {
                store::limit_chunk(conn, LOCK_LIMIT_MS, within.as_millis()).await?;
            }
            let mut chunk = self.work(conn, unit, hash_key, limit).await?;
            chunk.took_ms = store::took_ms(conn).await?;
            Ok(chunk)
        });
        match done.await {
            // Whoever cancels it by hand is quicker: that passes.
            Err(ProductError::Database(error))
                if is_cancelled(&error)
                    && within.is_some_and(|within| began.elapsed() >= within) =>
            {
                Ok(None)
            }
            Err(ProductError::Database(error))
                if is_cancelled(&error) && within.is_none() && began.elapsed() >= WHOLE_LIMIT =>
            {
                let (name, action) = (&unit.planned.name, unit.planned.action.word());
                let words = format!("{action} of {name} is one statement, and took too long");
                Err(Trouble::named("statement_too_slow", words))
            }
            done => Ok(Some(done?)),
        }
    }

    /// What the product knows of the first chunk of a step, of which nothing else does.
    pub(super) async fn recorded(
        &self,
        job: RunId,
        unit: &Unit,
    ) -> Result<Option<Counts>, Trouble> {
        let key = OnceKey::new(job.0, format!("erase/{}/{}", unit.seq, unit.chunk));
        let found: Option<Chunk> = self.site.recorded(&key).await?;
        Ok(found.map(|chunk| chunk.counts))
    }

    /// How long a chunk may take; `None` where a step is one statement, however many rows it has.
    fn within(&self, unit: &Unit, limit: i64) -> Option<Duration> {
        let name = &unit.planned.name;
        let is_seen = || Cursor::read(unit.after.as_deref()) == Some(Cursor::End);
        let in_chunks = match unit.planned.action {
            Action::NullKeys | Action::Delete | Action::Keep => true,
            Action::Mask => !self.key_of(name).is_empty(),
            Action::Drop => name != WHOLE && !is_seen(),
            Action::Shred => false,
        };
        in_chunks.then_some(if limit > 1 { CHUNK_LIMIT } else { ROW_LIMIT })
    }

    async fn work(
        &self,
        conn: &mut PgConnection,
        unit: &Unit,
        hash_key: &str,
        limit: i64,
    ) -> Result<Chunk, ProductError> {
        let name = &unit.planned.name;
        let rows = self.rows(name);
        match unit.planned.action {
            Action::Drop if name == WHOLE => {
                for schema in self.place.schema.iter() {
                    store::drop_schema(conn, schema).await?;
                }
                Ok(Chunk::default())
            }
            Action::Drop => self.drop(conn, unit, rows, limit).await,
            Action::NullKeys => {
                let columns = self.ring_columns(name)?;
                let masked = match columns.is_empty() {
                    true => 0,
                    false => store::null_columns(conn, &rows, &columns, limit).await?,
                };
                let counts = Counts {
                    masked,
                    ..Counts::default()
                };
                Ok(Chunk::more(counts, masked > 0))
            }
            Action::Delete => {
                let erased = store::delete(conn, &rows, limit).await?;
                let counts = Counts {
                    found: erased,
                    erased,
                    ..Counts::default()
                };
                Ok(Chunk::more(counts, erased > 0))
            }
            Action::Mask => self.mask(conn, unit, &rows, hash_key, limit).await,
            Action::Keep => {
                let (kept, next) = self.see(conn, unit, rows, limit).await?;
                let counts = Counts {
                    found: kept,
                    kept,
                    ..Counts::default()
                };
                Ok(Chunk {
                    after: next.print(),
                    ..Chunk::more(counts, next != Cursor::End)
                })
            }
            Action::Shred => Err(ProductError::Refused("no rows are shredded".to_owned())),
        }
    }

    /// Counts a table that is the tenant's alone, a chunk at a time, and drops it then.
    async fn drop(
        &self,
        conn: &mut PgConnection,
        unit: &Unit,
        rows: Rows,
        limit: i64,
    ) -> Result<Chunk, ProductError> {
        if !store::has_table(conn, &rows.table).await? {
            return Ok(Chunk::default());
        }
        if Cursor::read(unit.after.as_deref()) == Some(Cursor::End) {
            let schemas = self.site.schemas();
            let whole = self.place.database.is_some();
            let schemas = (!whole).then_some(&schemas[..]);
            store::drop_table(conn, &rows.table, schemas).await?;
            return Ok(Chunk::last(Counts {
                erased: unit.found,
                ..Counts::default()
            }));
        }
        let (found, next) = self.see(conn, unit, rows, limit).await?;
        let counts = Counts {
            found,
            ..Counts::default()
        };
        Ok(Chunk {
            after: next.print(),
            ..Chunk::more(counts, true)
        })
    }

    /// Counts a chunk of a step's rows; where the next one begins.
    async fn see(
        &self,
        conn: &mut PgConnection,
        unit: &Unit,
        rows: Rows,
        limit: i64,
    ) -> Result<(i64, Cursor), ProductError> {
        let name = &unit.planned.name;
        let table = Looked {
            name: name.clone(),
            rows,
            key: self.key_of(name),
        };
        let from = Cursor::read(unit.after.as_deref());
        let (seen, next) = look::look(conn, &table, None, from.as_ref(), limit).await?;
        Ok((seen.rows, next))
    }

    /// The primary key of a table; empty where it has none.
    fn key_of(&self, table: &str) -> Vec<KeyColumn> {
        let found = self.snapshot.table(table).into_iter();
        let columns = found.flat_map(|found| {
            let names = found.primary_key.iter();
            names.filter_map(|name| found.column(name))
        });
        columns
            .map(|column| KeyColumn {
                name: column.name.clone(),
                data_type: column.data_type.clone(),
            })
            .collect()
    }

    /// The columns that are nulled first, of the foreign keys that the map names.
    fn ring_columns(&self, table: &str) -> Result<Vec<String>, ProductError> {
        let rule = self.rule(table)?;
        let found = self.snapshot.table(table);
        let mut columns: Vec<String> = rule
            .nulled_first
            .iter()
            .filter_map(|key| Some((found?, found?.foreign_key(key)?)))
            .flat_map(|(table, key)| table.nullable_columns(key))
            .map(ToOwned::to_owned)
            .collect();
        columns.sort_unstable();
        columns.dedup();
        Ok(columns)
    }

    async fn mask(
        &self,
        conn: &mut PgConnection,
        unit: &Unit,
        rows: &Rows,
        hash_key: &str,
        limit: i64,
    ) -> Result<Chunk, ProductError> {
        let name = &unit.planned.name;
        let rule = self.rule(name)?;
        let found = self.snapshot.table(name);
        let gone = || ProductError::DoesNotFit(format!("the database has no table {name}"));
        let found = found.ok_or_else(gone)?;
        let becomes = |column: &data_map::ColumnRule| {
            let type_of = found.column(&column.name).map_or("", |one| &one.data_type);
            let value = becomes(&column.name, column.erase, type_of)?;
            Some((column.name.clone(), value))
        };
        let set: Vec<(String, String)> = rule.columns.iter().filter_map(becomes).collect();
        sqlx::query("select set_config('tenure.hash_key', $1, true)")
            .bind(hash_key)
            .execute(&mut *conn)
            .await?;
        let key = self.key_of(name);
        if key.is_empty() {
            let masked = store::mask_all(conn, rows, &set).await?;
            return Ok(Chunk::last(Counts {
                found: masked,
                masked,
                ..Counts::default()
            }));
        }
        let after: Option<Vec<String>> = unit
            .after
            .as_deref()
            .and_then(|after| serde_json::from_str(after).ok());
        let walked = store::mask(conn, rows, &key, &set, after.as_deref(), limit).await?;
        let counts = Counts {
            found: walked.rows,
            masked: walked.changed,
            ..Counts::default()
        };
        Ok(Chunk {
            after: walked
                .last
                .and_then(|last| serde_json::to_string(&last).ok()),
            ..Chunk::more(counts, walked.rows == limit)
        })
    }

    /// Drops a database that is the tenant's alone; the source's own stays, empty of its tables.
    async fn drop_database(&self, reach: Reach<'_>) -> Result<Chunk, Trouble> {
        let place = &self.place;
        if let Some(database) = &place.database {
            let source = reach.products.get(&place.source)?;
            let mut conn = source.connect().await?;
            let dropped = store::drop_database(&mut conn, database).await;
            dropped.map_err(ProductError::from)?;
        }
        Ok(Chunk::default())
    }

    /// A single row did not fit into its time.
    fn too_slow(&self, unit: &Unit) -> Trouble {
        let (name, seconds) = (&unit.planned.name, ROW_LIMIT.as_secs());
        let indexes = self.indexes_for(name);
        let words = format!("a single row of {name} does not go within {seconds} s{indexes}");
        Trouble::named("chunk_too_slow", words)
    }

    /// Forgets what the ledger of the product's database keeps of the job.
    pub(super) async fn forget(&self, job: RunId) -> Result<(), Trouble> {
        Ok(self.site.forget(job.0).await?)
    }

    /// What is still found at the product: rows by the tenant's key, and rows of whatever table that
    /// hold a known value where none should be.
    pub(super) async fn leftovers(&self, values: &[String]) -> Result<Vec<Leftover>, Trouble> {
        let mut found = Vec::new();
        let mut tx = self.site.begin().await?;
        let there = store::list_tables(&mut tx, &self.site.schemas()).await;
        let there = there.map_err(ProductError::from)?;
        tx.rollback().await?;
        for (schema, table) in there {
            let name = match self.place.schema {
                Some(_) => table.clone(),
                None => format!("{schema}.{table}"),
            };
            let whole = format!("{}.{}", quoted(&schema), quoted(&table));
            let rule = self.map.map.tables.get(&name);
            let own = rule.filter(|rule| !matches!(rule.belongs, Belongs::Nobody(_)));
            if let Some(rule) = own
                && !rule.is_kept()
            {
                let rows = self.count_left(&name).await?;
                push(&mut found, &name, "tenant_key", rows);
            }
            let columns: Option<Vec<String>> = rule.filter(|rule| rule.is_kept()).map(|rule| {
                let goes = rule.columns.iter().filter(|one| one.erase != Erase::Keep);
                let nobodys = matches!(rule.belongs, Belongs::Nobody(_));
                match nobodys {
                    true => rule.columns.iter().map(|one| one.name.clone()).collect(),
                    false => goes.map(|one| one.name.clone()).collect(),
                }
            });
            if values.is_empty() || columns.as_ref().is_some_and(Vec::is_empty) {
                continue;
            }
            // Other tenants may know the same people: where rows have an owner, only this one's.
            let rows = match own {
                Some(_) => self.rows(&name),
                None => Rows {
                    table: whole,
                    own: "true".to_owned(),
                },
            };
            let key = self.key_of(&name);
            let looked = Looked {
                name: name.clone(),
                rows,
                key,
            };
            let columns = columns.as_deref();
            let holding = self.count_holding(&looked, Sought { values, columns });
            push(&mut found, &name, "known_value", holding.await?);
        }
        Ok(found)
    }

    /// How many rows a table has of the tenant that should have none.
    async fn count_left(&self, table: &str) -> Result<i64, Trouble> {
        let mut tx = self.site.begin().await?;
        match store::count(&mut tx, &self.rows(table), None).await {
            Err(error) if is_cancelled(&error) => Err(look::too_slow(table)),
            rows => Ok(rows.map_err(ProductError::from)?),
        }
    }
}

/// The SQL of what a column's value becomes; `None` where it stays.
fn becomes(name: &str, erase: Erase, data_type: &str) -> Option<String> {
    match erase {
        Erase::Null => Some("null".to_owned()),
        Erase::Hash => Some(format!(
            "encode(sha256(sha256(convert_to(current_setting('tenure.hash_key') || t.{}::text, 'UTF8'))), 'hex')",
            quoted(name)
        )),
        Erase::Mask => Some(match data_type {
            "json" | "jsonb" => "'{}'".to_owned(),
            "inet" => "'0.0.0.0'".to_owned(),
            _ => "'erased'".to_owned(),
        }),
        Erase::Delete | Erase::Keep => None,
    }
}

/// Rows that should not be there.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Leftover {
    pub(super) table: String,
    /// How they were found: `tenant_key` or `known_value`.
    pub(super) by: String,
    pub(super) rows: i64,
}

impl Leftover {
    /// Whether it is no more than what was told before.
    pub(super) fn is_among(&self, told: &[Self]) -> bool {
        let mut told = told.iter();
        told.any(|one| (&one.table, &one.by) == (&self.table, &self.by) && self.rows <= one.rows)
    }
}

fn push(found: &mut Vec<Leftover>, table: &str, by: &str, rows: i64) {
    if rows > 0 {
        found.push(Leftover {
            table: table.to_owned(),
            by: by.to_owned(),
            rows,
        });
    }
}

/// What a chunk came to.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
struct Chunk {
    counts: Counts,
    after: Option<String>,
    more: bool,
    took_ms: i64,
}

impl Chunk {
    fn last(counts: Counts) -> Self {
        Self::more(counts, false)
    }

    fn more(counts: Counts, more: bool) -> Self {
        Self {
            counts,
            more,
            ..Self::default()
        }
    }
}

/// Works on one step of the plan.
pub(super) struct Eraser<'a> {
    pub(super) reach: Reach<'a>,
    pub(super) run: RunId,
    pub(super) job: &'a Job,
    pub(super) known: &'a Known,
    pub(super) ground: Option<&'a Ground>,
    pub(super) limit: i64,
}

impl Eraser<'_> {
    /// Does one chunk and counts it; whether there is more. Between two it rests for as long as the
    /// first one took: half of the time is others'.
    pub(super) async fn step(&mut self, unit: &mut Unit) -> Result<bool, Trouble> {
        if unit.chunk == 0 {
            // What was quick in the table before may be slow in this one.
            self.limit = self.limit.min(FIRST_CHUNK);
        }
        let began = Instant::now();
        let more = match unit.planned.realm {
            Realm::Archive => self.archive(unit).await?,
            Realm::Product => self.product(unit).await?,
            Realm::Tenure => self.tenure(unit).await?,
            Realm::Engine => self.engine(unit).await?,
            Realm::Keys => self.keys(unit).await?,
        };
        let took = began.elapsed();
        if matches!(unit.planned.realm, Realm::Tenure | Realm::Engine) {
            let took_ms = i64::try_from(took.as_millis()).unwrap_or(i64::MAX);
            self.limit = rules::next_chunk(self.limit, took_ms);
        }
        if more {
            tenure_engine::sleep(took).await;
        }
        Ok(more)
    }

    async fn product(&mut self, unit: &mut Unit) -> Result<bool, Trouble> {
        let Some(ground) = self.ground else {
            let words = "the tenant has no place in the product any more".to_owned();
            return Err(Trouble::named("placement", words));
        };
        let rows = (self.known.hash_key.as_str(), self.limit);
        let turn = self.while_unheld().await?;
        let chunk = ground.chunk(self.reach, self.run, unit, rows).await?;
        turn.rollback().await?;
        let Some(chunk) = chunk else {
            let half = rules::half_chunk(self.limit).ok_or_else(|| ground.too_slow(unit))?;
            self.limit = half;
            return Ok(true);
        };
        self.limit = rules::next_chunk(self.limit, chunk.took_ms);
        let mut tx = tenure_engine::begin(self.reach.engine).await?;
        as_control(&mut tx).await?;
        self.count(tx, unit, &chunk).await
    }

    /// Keeps whoever would place a hold on the tenant's data waiting, as long as the transaction is open.
    async fn while_unheld(&self) -> Result<Transaction<'static, Postgres>, Trouble> {
        let subject = self.job.subject;
        let mut tx = tenure_engine::begin_for(self.reach.engine, subject).await?;
        hold::share_turn(&mut tx, subject).await?;
        match hold::is_held(&mut tx, subject).await? {
            Some(standing) => Err(Trouble::Held(standing.case)),
            None => Ok(tx),
        }
    }

    /// Destroys archives of the tenant's rows, those that are registered and what else lies in its
    /// folder, but the export that it takes along and what the law keeps. What is registered counts.
    async fn archive(&self, unit: &mut Unit) -> Result<bool, Trouble> {
        let subject = self.job.subject;
        let turn = self.while_unheld().await?;
        let mut tx = tenure_engine::begin(self.reach.engine).await?;
        as_eraser(&mut tx, subject).await?;
        let registered = super::store::list_archives(&mut tx, subject).await?;
        let registered = archives::judge(self.reach, subject, registered).await?;
        let (kept, gone): (Vec<_>, Vec<_>) =
            registered.iter().partition(|(_, stay)| stay.is_some());
        let kept_ids: BTreeSet<Uuid> = kept.iter().map(|(one, _)| one.archive_id).collect();
        let gone: Vec<Uuid> = gone.iter().map(|(one, _)| one.archive_id).collect();
        if let Some(archive) = self.reach.archive {
            let mut all = archive.archives(subject.0).await?;
            all.extend(&gone);
            let own = self.job.export.as_ref().map(|export| export.export_id);
            let stays = |one: &Uuid| Some(*one) == own || kept_ids.contains(one);
            for one in all.into_iter().filter(|one| !stays(one)) {
                archive.destroy((subject.0, one)).await?;
            }
        }
        let erased = super::store::say_destroyed(&mut tx, subject, &gone).await?;
        archives::keep(&mut tx, self.job, &registered).await?;
        let kept = i64::try_from(kept_ids.len()).unwrap_or(i64::MAX);
        let counts = Counts {
            found: erased + kept,
            erased,
            kept,
            ..Counts::default()
        };
        let more = self.count(tx, unit, &Chunk::last(counts)).await?;
        turn.rollback().await?;
        Ok(more)
    }

    async fn tenure(&self, unit: &mut Unit) -> Result<bool, Trouble> {
        let subject = self.job.subject;
        let name = &unit.planned.name;
        let table = own::TABLES.iter().find(|table| table.name == *name);
        let gone = || Trouble::named("refused", format!("no table of ours is called {name}"));
        let table = table.ok_or_else(gone)?;
        let rows = Rows {
            table: format!("app.{}", table.name),
            own: table.own.to_owned(),
        };
        // Whoever would place a hold waits until those that are over are gone, and is seen by the next.
        let turn = match table.name {
            own::HOLDS => Some(self.while_unheld().await?),
            _ => None,
        };
        let mut tx = tenure_engine::begin(self.reach.engine).await?;
        as_eraser(&mut tx, subject).await?;
        let mut counts = Counts::default();
        let more = match table.rule {
            Rule::Delete => {
                counts.erased = store::delete_own(&mut tx, &rows, subject.0, self.limit).await?;
                counts.found = counts.erased;
                counts.erased > 0
            }
            Rule::Minimise { columns, .. } => {
                let id = subject.0;
                let masked = store::minimise_own(&mut tx, &rows, columns, id, self.limit).await?;
                counts.masked = masked;
                counts.found = masked;
                if masked == 0 {
                    // What was as it should be stays as it was.
                    let all = store::count(&mut tx, &rows, Some(id)).await?;
                    counts.kept = (all - unit.masked).max(0);
                    counts.found = counts.kept;
                }
                masked > 0
            }
            Rule::Keep { .. } => {
                counts.kept = store::count(&mut tx, &rows, Some(subject.0)).await?;
                counts.found = counts.kept;
                false
            }
        };
        let more = self.count(tx, unit, &Chunk::more(counts, more)).await?;
        if let Some(turn) = turn {
            turn.rollback().await?;
        }
        Ok(more)
    }

    async fn engine(&self, unit: &mut Unit) -> Result<bool, Trouble> {
        let subject = self.job.subject;
        let mut tx = tenure_engine::begin(self.reach.engine).await?;
        let mut counts = Counts::default();
        let mut chunk = Chunk::default();
        if unit.planned.name == own::ACTS {
            counts.masked = forget::minimise_acts(&mut tx, subject).await?;
            counts.found = counts.masked;
        } else {
            let mut shelves = Shelf::ALL.into_iter();
            let shelf = shelves.find(|shelf| shelf.word() == unit.planned.name);
            let shelf = shelf.unwrap_or(Shelf::Rest);
            let after = unit.after.as_deref().and_then(|after| after.parse().ok());
            let page = forget::drop_page(&mut tx, subject, shelf, after, self.limit).await?;
            counts.erased = page.rows;
            counts.found = page.rows;
            chunk.more = page.next.is_some();
            chunk.after = page.next.map(|next: Uuid| next.to_string());
        }
        chunk.counts = counts;
        as_control(&mut tx).await?;
        self.count(tx, unit, &chunk).await
    }

    async fn keys(&self, unit: &mut Unit) -> Result<bool, Trouble> {
        let mut tx = tenure_engine::begin(self.reach.engine).await?;
        let author = Author {
            actor: "tenure".to_owned(),
            role: "system".to_owned(),
            reason: format!("deletion {}", self.job.deletion_id),
        };
        let destroyed = match seal::destroy(&mut tx, self.job.subject, &author).await {
            Ok(versions) => i64::from(versions),
            Err(EngineError::KeysDestroyed(_)) => 0,
            Err(error) => return Err(error.into()),
        };
        let counts = Counts {
            found: destroyed,
            erased: destroyed,
            ..Counts::default()
        };
        as_control(&mut tx).await?;
        self.count(tx, unit, &Chunk::last(counts)).await
    }

    /// Counts a chunk in the transaction, and commits it. A chunk that was counted before is not again,
    /// and what the transaction did besides is undone.
    async fn count(
        &self,
        mut tx: Transaction<'static, Postgres>,
        unit: &mut Unit,
        chunk: &Chunk,
    ) -> Result<bool, Trouble> {
        let place = (unit.seq, unit.chunk);
        let after = chunk.after.as_deref();
        let deletion = self.job.deletion_id;
        if !add_chunk(&mut tx, deletion, place, chunk.counts, after).await? {
            tx.rollback().await?;
            let words = "another worker is at this step";
            return Err(StepError::retryable("overtaken", words).into());
        }
        tx.commit().await?;
        unit.chunk += 1;
        unit.found += chunk.counts.found;
        unit.masked += chunk.counts.masked;
        unit.after.clone_from(&chunk.after);
        Ok(chunk.more)
    }
}

/// Archives that still lie in the tenant's folder, but the export that it takes along and what the law
/// keeps.
pub(super) async fn archive_leftovers(
    reach: Reach<'_>,
    job: &Job,
) -> Result<Vec<Leftover>, Trouble> {
    let mut found = Vec::new();
    if let Some(archive) = reach.archive {
        let own = job.export.as_ref().map(|export| export.export_id);
        let mut tx = tenure_engine::begin(reach.engine).await?;
        as_eraser(&mut tx, job.subject).await?;
        let kept = super::store::list_kept_archives(&mut tx, job.subject).await?;
        tx.rollback().await?;
        let there = archive.archives(job.subject.0).await?.into_iter();
        let there = there.filter(|one| Some(*one) != own && !kept.contains(one));
        let there = there.count();
        let there = i64::try_from(there).unwrap_or(i64::MAX);
        push(&mut found, rules::ARCHIVES, "tenant_key", there);
    }
    Ok(found)
}

/// Deletes what has come since our own rows were: what the provider told of its customer, after that was
/// deleted there, and what was answered to whoever decides about this deletion (each answer is kept with
/// its effect, so that the one that asked for this look is among them).
pub(super) async fn delete_told(
    reach: Reach<'_>,
    subject: TenantId,
    customer: Option<&str>,
) -> Result<(), Trouble> {
    let answers = Rows {
        table: format!("app.{}", own::ANSWERS),
        own: own::ANSWERED.to_owned(),
    };
    let mut tx = tenure_engine::begin(reach.engine).await?;
    as_eraser(&mut tx, subject).await?;
    while store::delete_own(&mut tx, &answers, subject.0, rules::FIRST_CHUNK).await? > 0 {}
    if let Some(customer) = customer {
        store::delete_told(&mut tx, customer).await?;
    }
    tx.commit().await?;
    Ok(())
}

/// What is still found of Tenure's own rows: by the tenant's id, and by known values in whatever stays.
pub(super) async fn own_leftovers(
    reach: Reach<'_>,
    subject: TenantId,
    values: &[String],
) -> Result<Vec<Leftover>, Trouble> {
    let mut found = Vec::new();
    let mut tx = tenure_engine::begin(reach.engine).await?;
    let limits = "select set_config('statement_timeout', '600000', true)";
    sqlx::query(limits).execute(&mut *tx).await?;
    for (table, rows) in forget::count(&mut tx, subject).await? {
        push(&mut found, &format!("engine.{table}"), "tenant_key", rows);
    }
    as_eraser(&mut tx, subject).await?;
    for table in &own::TABLES {
        let rows = Rows {
            table: format!("app.{}", table.name),
            own: table.own.to_owned(),
        };
        let name = format!("app.{}", table.name);
        if table.rule == Rule::Delete {
            let rows = store::count(&mut tx, &rows, Some(subject.0)).await?;
            push(&mut found, &name, "tenant_key", rows);
        }
    }
    if values.is_empty() {
        return Ok(found);
    }
    // The tenant sees its own rows and no others. Its row in the directory is looked at by the plan: the
    // name stays where books name it.
    as_tenant(&mut tx, subject).await?;
    let stays = |table: &&own::OwnTable| table.rule != Rule::Delete && table.name != "tenant";
    for table in own::TABLES.iter().filter(stays) {
        let rows = match store::count_holding_own(&mut tx, table.name, values).await {
            Err(error) if is_cancelled(&error) => return Err(look::too_slow(table.name)),
            rows => rows?,
        };
        push(
            &mut found,
            &format!("app.{}", table.name),
            "known_value",
            rows,
        );
    }
    Ok(found)
}

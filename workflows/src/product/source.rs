//! The product's databases, as the configuration names them.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use serde::Serialize;
use serde::de::DeserializeOwned;
use sqlx::pool::PoolConnection;
use sqlx::postgres::{PgConnectOptions, PgPoolOptions};
use sqlx::{PgConnection, PgPool, Postgres, Transaction};
use tokio::sync::OnceCell;
use uuid::Uuid;

use super::ProductError;
use super::ledger::{self, OnceKey};

/// The most connections to one database of a product: ours is a guest there.
const CONNECTIONS: u32 = 8;
/// How long one is waited for.
const ACQUIRE: Duration = Duration::from_secs(10);
/// After how long one that nobody uses is closed, so that a fleet of databases costs nothing idle.
const IDLE: Duration = Duration::from_secs(60);

/// What is no list of sources. The text holds no part of an URL, which is a secret.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum BadSources {
    /// Not `name=url`.
    #[error("product {0}: write it as name=postgres://user:password@host/database")]
    NoPair(usize),
    /// Not a name.
    #[error("product {0:?}: a name has small letters, digits, _ and -, at most 63")]
    BadName(String),
    /// Named twice.
    #[error("product {0:?} is given twice")]
    Twice(String),
    /// Not an URL.
    #[error("product {0:?}: its URL makes no sense")]
    BadUrl(String),
}

/// All sources. Cheap to clone.
#[derive(Clone, Default)]
pub struct Sources(Arc<BTreeMap<String, Source>>);

/// One product database. Its login owns the product's tables, or may read and write them.
#[derive(Clone)]
pub struct Source(Arc<Parts>);

struct Parts {
    name: String,
    options: PgConnectOptions,
    own: Base,
    /// Databases on the same server, by their names.
    beside: Mutex<HashMap<String, Base>>,
}

/// A database with a pool, and whether its ledger is there.
#[derive(Clone)]
pub(super) struct Base {
    pub(super) pool: PgPool,
    ledger: Arc<OnceCell<()>>,
}

impl Base {
    fn new(options: PgConnectOptions) -> Self {
        let pool = PgPoolOptions::new()
            .max_connections(CONNECTIONS)
            .min_connections(0)
            .acquire_timeout(ACQUIRE)
            .idle_timeout(IDLE);
        Self {
            pool: pool.connect_lazy_with(options),
            ledger: Arc::default(),
        }
    }

    /// Makes the ledger, unless it is there.
    pub(super) async fn install(&self) -> Result<(), ProductError> {
        let install = async || {
            let mut conn = self.pool.acquire().await?;
            ledger::install(&mut conn).await
        };
        self.ledger.get_or_try_init(install).await?;
        Ok(())
    }
}

impl Sources {
    /// Reads `name=url` pairs. Nothing is connected to yet.
    ///
    /// # Errors
    /// [`BadSources`].
    pub fn parse<'a>(pairs: impl IntoIterator<Item = &'a str>) -> Result<Self, BadSources> {
        let mut sources = BTreeMap::new();
        for (place, pair) in pairs.into_iter().enumerate() {
            let (name, url) = pair.split_once('=').ok_or(BadSources::NoPair(place + 1))?;
            let (name, url) = (name.trim(), url.trim());
            if !is_name(name) {
                // What stands before the first `=` of a bare URL may be a password.
                return Err(match name.contains("://") {
                    true => BadSources::NoPair(place + 1),
                    false => BadSources::BadName(name.to_owned()),
                });
            }
            let bad = |_| BadSources::BadUrl(name.to_owned());
            let options: PgConnectOptions = url.parse().map_err(bad)?;
            let source = Source::new(name, options.application_name("tenure"));
            if sources.insert(name.to_owned(), source).is_some() {
                return Err(BadSources::Twice(name.to_owned()));
            }
        }
        Ok(Self(Arc::new(sources)))
    }

    /// A source.
    ///
    /// # Errors
    /// [`ProductError::UnknownSource`].
    pub fn get(&self, name: &str) -> Result<&Source, ProductError> {
        let unknown = || {
            let known: Vec<&str> = self.names().collect();
            let known = match known.is_empty() {
                true => "none".to_owned(),
                false => known.join(", "),
            };
            ProductError::UnknownSource(name.to_owned(), known)
        };
        self.0.get(name).ok_or_else(unknown)
    }

    /// The names of all, in order.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.0.keys().map(String::as_str)
    }

    /// Closes all connections.
    pub async fn close(&self) {
        for source in self.0.values() {
            let beside = source.0.beside.lock();
            let beside: Vec<Base> = beside
                .unwrap_or_else(PoisonError::into_inner)
                .values()
                .cloned()
                .collect();
            source.0.own.pool.close().await;
            for base in beside {
                base.pool.close().await;
            }
        }
    }
}

fn is_name(name: &str) -> bool {
    let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    name.len() <= 63
        && name.starts_with(plain)
        && name.chars().all(|c| plain(c) || c == '_' || c == '-')
}

impl Source {
    fn new(name: &str, options: PgConnectOptions) -> Self {
        Self(Arc::new(Parts {
            name: name.to_owned(),
            own: Base::new(options.clone()),
            options,
            beside: Mutex::default(),
        }))
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.0.name
    }

    /// Its own database, or one beside it.
    pub(super) fn base(&self, database: Option<&str>) -> Base {
        let Some(database) = database else {
            return self.0.own.clone();
        };
        let beside = self.0.beside.lock();
        let mut beside = beside.unwrap_or_else(PoisonError::into_inner);
        let open = || Base::new(self.0.options.clone().database(database));
        beside
            .entry(database.to_owned())
            .or_insert_with(open)
            .clone()
    }

    /// Its pool.
    #[must_use]
    pub fn pool(&self) -> &PgPool {
        &self.0.own.pool
    }

    /// A connection for fleet-wide work: catalogs, readings of load, DDL.
    ///
    /// # Errors
    /// [`ProductError::Database`].
    pub async fn connect(&self) -> Result<PoolConnection<Postgres>, ProductError> {
        Ok(self.pool().acquire().await?)
    }

    /// A connection to a database beside the source's own.
    ///
    /// # Errors
    /// [`ProductError::Database`].
    pub async fn connect_to(
        &self,
        database: Option<&str>,
    ) -> Result<PoolConnection<Postgres>, ProductError> {
        Ok(self.base(database).pool.acquire().await?)
    }

    /// A transaction for fleet-wide work. Nothing but the login's rights keeps tenants apart in it.
    ///
    /// # Errors
    /// [`ProductError::Database`].
    pub async fn begin(&self) -> Result<Transaction<'static, Postgres>, ProductError> {
        let mut tx = self.pool().begin().await?;
        ledger::set_limits(&mut tx).await?;
        Ok(tx)
    }

    /// Makes the ledger there, unless it is there. [`Source::once`] does it by itself.
    ///
    /// # Errors
    /// [`ProductError::Database`].
    pub async fn install(&self) -> Result<(), ProductError> {
        self.0.own.install().await
    }

    /// Does fleet-wide work exactly once; told in the module's header.
    ///
    /// # Errors
    /// Those of `work`, after which nothing that it wrote is kept; [`ProductError::Database`].
    pub async fn once<T, F>(&self, key: &OnceKey, work: F) -> Result<T, ProductError>
    where
        T: Serialize + DeserializeOwned,
        F: AsyncFnOnce(&mut PgConnection) -> Result<T, ProductError>,
    {
        self.once_at(None, self.name(), key, work).await
    }

    /// The same in a database beside the source's own; `subject` is what it is done to there.
    pub(crate) async fn once_at<T, F>(
        &self,
        database: Option<&str>,
        subject: &str,
        key: &OnceKey,
        work: F,
    ) -> Result<T, ProductError>
    where
        T: Serialize + DeserializeOwned,
        F: AsyncFnOnce(&mut PgConnection) -> Result<T, ProductError>,
    {
        let base = self.base(database);
        base.install().await?;
        let mut tx = base.pool.begin().await?;
        ledger::set_limits(&mut tx).await?;
        ledger::once(tx, key, subject, work).await
    }

    /// Drops what the ledger keeps of a job, in the source's own database.
    ///
    /// # Errors
    /// [`ProductError::Database`].
    pub async fn forget(&self, job: Uuid) -> Result<(), ProductError> {
        self.install().await?;
        let mut conn = self.connect().await?;
        ledger::forget(&mut conn, job).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(pairs: &[&str]) -> String {
        let parsed = Sources::parse(pairs.iter().copied());
        parsed.err().map(|error| error.to_string()).unwrap()
    }

    #[tokio::test]
    async fn sources_are_named_and_a_mistake_tells_no_secret() {
        let pairs = ["main=postgres://a:b@h/one", "eu-2=postgres://a:b@h/two?x=y"];
        let sources = Sources::parse(pairs).unwrap();
        assert_eq!(sources.names().collect::<Vec<_>>(), ["eu-2", "main"]);
        let unknown = sources.get("other").err().unwrap().to_string();
        assert!(unknown.contains("eu-2, main"), "{unknown}");

        for (pairs, expected) in [
            (vec!["postgres://a:secret@h/one?x=y"], "product 1: write it"),
            (vec!["postgres://a:secret@h/one"], "product 1: write it"),
            (
                vec!["Main=postgres://a:secret@h/one"],
                "product \"Main\": a name",
            ),
            (vec!["main=nowhere secret"], "product \"main\": its URL"),
            (
                vec!["a=postgres://h/secret", "a=postgres://h/secret"],
                "product \"a\" is given twice",
            ),
        ] {
            let told = refused(&pairs);
            assert!(told.starts_with(expected), "{told}");
            assert!(!told.contains("secret"), "{told}");
        }
    }
}

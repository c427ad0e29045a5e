//! Where a process gets tenants' keys: read once a minute, made when first needed.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use chacha20poly1305::XChaCha20Poly1305;
use chrono::{DateTime, Utc};
use serde_json::{Value, json};
use sqlx::postgres::PgPoolOptions;
use sqlx::{PgConnection, PgPool};

use super::{
    FRESH, KEY, LEAD, MasterKey, MasterKeyError, Reader, Ring, TenantKeys, cipher, context,
};
use crate::audit::Deed;
use crate::clock;
use crate::database::Database;
use crate::error::EngineError;
use crate::flow::Author;
use crate::id::{self, ShardId, TenantId};
use crate::operator;
use crate::pool::Session;
use crate::store;
use crate::store::data_key::StoredKey;

/// Seals and opens the payloads of all tenants. By default, without a master key, seals nothing.
#[derive(Clone, Default)]
pub struct Keyring(Option<Arc<Inner>>);

struct Inner {
    master: Arc<dyn MasterKey>,
    /// One connection of its own: whoever asks for a key may hold one of the pool's.
    pool: PgPool,
    known: Mutex<HashMap<TenantId, Known>>,
    /// One look at a time, so that a crowd asks once.
    look: tokio::sync::Mutex<()>,
}

/// A tenant's keys as read at an instant.
#[derive(Clone)]
struct Known {
    ring: Arc<Ring>,
    keys: Option<TenantKeys>,
    read_at: Instant,
}

/// A version of a tenant's key, as people see it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DataKey {
    /// Counts from 1.
    pub version: u32,
    /// The master key that wraps it.
    pub master_key: String,
    /// When it was made, in real time.
    pub created_at: DateTime<Utc>,
    /// From when on it seals, in real time.
    pub usable_at: DateTime<Utc>,
    /// When it was destroyed, in real time.
    pub destroyed_at: Option<DateTime<Utc>>,
}

impl fmt::Debug for Keyring {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let master = self.0.as_ref().map(|inner| &inner.master);
        f.debug_tuple("Keyring").field(&master).finish()
    }
}

impl Keyring {
    /// A keyring under a master key, with one connection of its own to the database.
    #[must_use]
    pub fn new(database: impl Into<Database>, master: Arc<dyn MasterKey>) -> Self {
        let one = PgPoolOptions::new().max_connections(1);
        let pool = database.into().open_lazily(one, Session::default());
        Self(Some(Arc::new(Inner {
            master,
            pool,
            known: Mutex::default(),
            look: tokio::sync::Mutex::default(),
        })))
    }

    /// Whether anything is sealed.
    #[must_use]
    pub fn seals(&self) -> bool {
        self.0.is_some()
    }

    /// A tenant's keys, to seal and to open with; made if there are none yet.
    ///
    /// # Errors
    /// [`EngineError::KeysDestroyed`], [`EngineError::MasterKey`].
    pub(crate) async fn of(&self, tenant: TenantId) -> Result<TenantKeys, EngineError> {
        let Some(inner) = self.0.as_deref() else {
            return Ok(TenantKeys::default());
        };
        let known = inner.find(tenant, true).await?;
        known.keys.ok_or(EngineError::KeysDestroyed(tenant))
    }

    /// A tenant's keys, to open with; when they cannot be had, what is read says so.
    ///
    /// # Errors
    /// When the database does not answer.
    pub(crate) async fn reader(&self, tenant: TenantId) -> Result<Reader, EngineError> {
        let Some(inner) = self.0.as_deref() else {
            return Ok(Reader::default());
        };
        match inner.find(tenant, false).await {
            Ok(known) => Ok(Reader::With(known.ring)),
            Err(EngineError::MasterKey(error)) => Ok(Reader::Away(error.to_string().into())),
            Err(error) => Err(error),
        }
    }

    /// As [`Keyring::reader`], where what is sealed must be read.
    ///
    /// # Errors
    /// Besides, [`MasterKeyError::Missing`].
    pub(crate) async fn required_reader(&self, tenant: TenantId) -> Result<Reader, EngineError> {
        self.inner()?;
        self.reader(tenant).await
    }

    /// Opens one key of each master key that wraps any, so that a process that could not read what
    /// is stored says so before it begins.
    ///
    /// # Errors
    /// [`EngineError::MasterKey`].
    pub async fn check(&self, conn: &mut PgConnection) -> Result<(), EngineError> {
        for (tenant, key) in store::data_key::list_one_per_master(conn).await? {
            let inner = self.inner()?;
            if let Some(wrapped) = &key.wrapped {
                inner
                    .unwrap(tenant, key.version.unsigned_abs(), &key, wrapped)
                    .await?;
            }
        }
        Ok(())
    }

    /// Forgets what was read, as when [`FRESH`] has passed.
    pub fn forget(&self) {
        if let Some(inner) = &self.0 {
            inner.known().clear();
        }
    }

    fn inner(&self) -> Result<&Inner, EngineError> {
        Ok(self.0.as_deref().ok_or(MasterKeyError::Missing)?)
    }
}

impl Inner {
    fn known(&self) -> std::sync::MutexGuard<'_, HashMap<TenantId, Known>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn fresh(&self, tenant: TenantId) -> Option<Known> {
        let known = self.known().get(&tenant).cloned()?;
        (clock::monotonic() - known.read_at < FRESH).then_some(known)
    }

    async fn find(&self, tenant: TenantId, make: bool) -> Result<Known, EngineError> {
        if let Some(known) = self.fresh(tenant) {
            return Ok(known);
        }
        let _turn = self.look.lock().await;
        if let Some(known) = self.fresh(tenant) {
            return Ok(known);
        }
        let mut conn = self.pool.acquire().await?;
        let mut stored = store::data_key::list(&mut conn, tenant).await?;
        if stored.is_empty() && make {
            self.make(&mut conn, tenant, 1, Duration::ZERO).await?;
            stored = store::data_key::list(&mut conn, tenant).await?;
        }
        let known = self.read(tenant, &stored).await?;
        // Without a key there is nothing to remember: the next who seals makes one.
        if !stored.is_empty() {
            self.known().insert(tenant, known.clone());
        }
        Ok(known)
    }

    /// Unwraps what is not known yet. What a key service said once need not be asked again.
    async fn read(&self, tenant: TenantId, stored: &[StoredKey]) -> Result<Known, EngineError> {
        let before = self.known().get(&tenant).map(|known| known.ring.clone());
        let mut ciphers = BTreeMap::new();
        let mut current = None;
        for key in stored {
            let version = key.version.unsigned_abs();
            let Some(wrapped) = &key.wrapped else {
                continue;
            };
            let known = before.as_ref().and_then(|ring| ring.ciphers.get(&version));
            let cipher = match known {
                Some(cipher) => cipher.clone(),
                None => self.unwrap(tenant, version, key, wrapped).await?,
            };
            ciphers.insert(version, cipher);
            if key.usable {
                current = Some(version);
            }
        }
        let ring = Arc::new(Ring { tenant, ciphers });
        Ok(Known {
            keys: current.and_then(|version| TenantKeys::new(&ring, version)),
            ring,
            read_at: clock::monotonic(),
        })
    }

    async fn unwrap(
        &self,
        tenant: TenantId,
        version: u32,
        key: &StoredKey,
        wrapped: &[u8],
    ) -> Result<XChaCha20Poly1305, EngineError> {
        let bound = context(tenant, version);
        let bytes = self.master.unwrap(&key.master_key, wrapped, &bound).await?;
        let broken = || MasterKeyError::Broken(key.master_key.clone());
        let bytes: [u8; KEY] = bytes.try_into().map_err(|_| broken())?;
        Ok(cipher(&bytes))
    }

    /// Makes a version of a tenant's key. Two who do so at once make one.
    async fn make(
        &self,
        conn: &mut PgConnection,
        tenant: TenantId,
        version: u32,
        lead: Duration,
    ) -> Result<(), EngineError> {
        let key: [u8; KEY] = rand::random();
        let wrapped = self.master.wrap(&key, &context(tenant, version)).await?;
        let version = i32::try_from(version).unwrap_or(i32::MAX);
        let master = self.master.id();
        store::data_key::insert(conn, tenant, version, master, &wrapped, lead).await?;
        Ok(())
    }
}

/// Makes a new version of a tenant's key in the caller's transaction; it seals from [`LEAD`] on.
/// Returns its version. The transaction must act as the engine.
///
/// # Errors
/// [`EngineError::KeysDestroyed`], [`EngineError::MasterKey`], [`EngineError::Malformed`] for a
/// bad reason.
pub async fn rotate(
    conn: &mut PgConnection,
    keyring: &Keyring,
    tenant: TenantId,
    author: &Author,
) -> Result<u32, EngineError> {
    operator::check_reason(&author.reason)?;
    let inner = keyring.inner()?;
    known_tenant(conn, tenant).await?;
    store::data_key::lock(conn, tenant).await?;
    let stored = store::data_key::list(conn, tenant).await?;
    if !stored.is_empty() && stored.iter().all(|key| key.wrapped.is_none()) {
        return Err(EngineError::KeysDestroyed(tenant));
    }
    let last = stored.last().map_or(0, |key| key.version.unsigned_abs());
    let lead = if last == 0 { Duration::ZERO } else { LEAD };
    inner.make(conn, tenant, last + 1, lead).await?;
    audit(conn, "rotate key", tenant, author, last, last + 1).await?;
    Ok(last + 1)
}

/// Destroys all versions of a tenant's key in the caller's transaction: what they sealed cannot be
/// read any more. Returns how many there were. The transaction must act as the engine.
///
/// # Errors
/// [`EngineError::NotAllowed`] while runs of the tenant have not ended or a legal hold stands on it,
/// [`EngineError::KeysDestroyed`], [`EngineError::Malformed`] for a bad reason.
pub async fn destroy(
    conn: &mut PgConnection,
    tenant: TenantId,
    author: &Author,
) -> Result<u32, EngineError> {
    operator::check_reason(&author.reason)?;
    let shard = known_tenant(conn, tenant).await?;
    store::data_key::lock(conn, tenant).await?;
    let held = store::data_key::find_obstacle(conn, tenant, shard).await?;
    if let Some(obstacle) = held {
        return Err(EngineError::NotAllowed {
            verb: "destroy keys",
            reason: obstacle.to_owned(),
        });
    }
    let stored = store::data_key::list(conn, tenant).await?;
    let live = stored.iter().filter(|key| key.wrapped.is_some()).count();
    if live == 0 && !stored.is_empty() {
        return Err(EngineError::KeysDestroyed(tenant));
    }
    store::data_key::destroy(conn, tenant).await?;
    let live = u32::try_from(live).unwrap_or(u32::MAX);
    audit(conn, "destroy keys", tenant, author, live, 0).await?;
    Ok(live)
}

/// Wraps anew, under the current master key, at most `limit` keys that another one wraps; how many
/// were. Call it until it says none, then the old master key can go.
///
/// # Errors
/// [`EngineError::MasterKey`] when the old master key is not configured any more;
/// [`EngineError::Malformed`] for a bad reason.
pub async fn rewrap(
    conn: &mut PgConnection,
    keyring: &Keyring,
    limit: u32,
    author: &Author,
) -> Result<u32, EngineError> {
    operator::check_reason(&author.reason)?;
    let inner = keyring.inner()?;
    let master = inner.master.id();
    let old = store::data_key::list_under_others(conn, master, i64::from(limit)).await?;
    let mut done = 0;
    for (tenant, key) in old {
        let Some(wrapped) = &key.wrapped else {
            continue;
        };
        let bound = context(tenant, key.version.unsigned_abs());
        let clear = inner
            .master
            .unwrap(&key.master_key, wrapped, &bound)
            .await?;
        let anew = inner.master.wrap(&clear, &bound).await?;
        done += store::data_key::rewrap(conn, tenant, &key, master, &anew).await?;
    }
    if done > 0 {
        let deed = Deed {
            action: "rewrap keys",
            subject: master,
            tenant: None,
            before: Value::Null,
            after: json!({ "rewrapped": done }),
        };
        store::control::insert(conn, id::random_uuid(), author, &deed).await?;
    }
    Ok(u32::try_from(done).unwrap_or(u32::MAX))
}

/// Lists the versions of a tenant's key, oldest first.
///
/// # Errors
/// [`EngineError::UnknownTenant`].
pub async fn list(conn: &mut PgConnection, tenant: TenantId) -> Result<Vec<DataKey>, EngineError> {
    known_tenant(conn, tenant).await?;
    let stored = store::data_key::list(conn, tenant).await?;
    let shown = stored.into_iter().map(|key| DataKey {
        version: key.version.unsigned_abs(),
        master_key: key.master_key,
        created_at: key.created_at,
        usable_at: key.usable_at,
        destroyed_at: key.destroyed_at,
    });
    Ok(shown.collect())
}

async fn known_tenant(conn: &mut PgConnection, tenant: TenantId) -> Result<ShardId, EngineError> {
    let place = store::run::find_place(conn, tenant).await?;
    let place = place.ok_or(EngineError::UnknownTenant(tenant))?;
    Ok(place.shard_id)
}

async fn audit(
    conn: &mut PgConnection,
    action: &str,
    tenant: TenantId,
    author: &Author,
    before: u32,
    after: u32,
) -> Result<(), EngineError> {
    let deed = Deed {
        action,
        subject: &tenant.to_string(),
        tenant: Some(tenant),
        before: json!({ "versions": before }),
        after: json!({ "versions": after }),
    };
    Ok(store::control::insert(conn, id::random_uuid(), author, &deed).await?)
}

//! Where the database is: one host or several, of which one takes writes; directly or behind a
//! pooler.
//!
//! # Several hosts
//!
//! sqlx knows one host. So the list is kept here, and the pools are told which of them to connect to:
//!
//! - whoever opens a pool looks for a host that takes writes. If several say so (an old primary that
//!   came back beside the new one), the one on the newest timeline is right;
//! - each new connection says whether its server takes writes, and is not used if it does not;
//! - one task per process keeps a connection to the present host and asks it twice a second. When it
//!   does not answer, or takes no writes any more, all hosts are asked, the pools are turned to the
//!   one that does, and connections from before are dropped when they are next wanted.
//!
//! A connection that is in use when its server goes away fails by itself.
//!
//! # Poolers
//!
//! Behind a pooler in transaction mode a session does not last: what it would set at its beginning,
//! the role above all, the login must have in the database. That is checked, as is whether the pooler
//! keeps prepared statements; for one that does not, see `unnamed`.
//!
//! # What is not here
//!
//! What a pool's connections speak as is `pool`'s business; what is done about commits that a
//! failover lost, `failover`'s.

use std::fmt;
use std::str::FromStr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use sqlx::postgres::{PgConnectOptions, PgPoolOptions, PgSslMode};
use sqlx::{ConnectOptions as _, Connection as _, PgConnection, PgPool, Row as _};
use tokio::sync::Notify;
use tokio::task::JoinSet;

use crate::clock;
use crate::pool::{self, Session};

use unnamed::Door;

mod unnamed;
mod url;

pub use url::UrlError;

/// How often the present host is asked, when there are others.
const WATCH_EVERY: Duration = Duration::from_millis(500);
/// How long a host may take to answer before it counts as away.
const ANSWER_WITHIN: Duration = Duration::from_secs(3);
/// How long the other hosts may take once one has said that it takes writes.
const OTHERS_WITHIN: Duration = Duration::from_millis(250);
/// How often all hosts are asked while none takes writes.
const LOOK_AGAIN: Duration = Duration::from_millis(250);
/// A connection that was idle for so long is asked before it is used.
const ASK_AFTER_IDLE: Duration = Duration::from_secs(30);

/// What stands between this process and the server.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Pooler {
    /// Nothing, or a pooler that gives each session a server connection of its own.
    #[default]
    None,
    /// A pooler in transaction mode that keeps prepared statements, as `PgBouncer` from 1.21 does.
    Prepared,
    /// A pooler in transaction mode that keeps none: no statement has a name.
    Unnamed,
}

/// What is asked of a host.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Needs {
    /// It takes writes.
    Writes,
    /// It answers.
    Reads,
}

/// A database, at one address or at several; cheap to clone. Clones share what they know of where
/// the writable host is.
#[derive(Clone)]
pub struct Database(Arc<Inner>);

struct Inner {
    hosts: Vec<Host>,
    needs: Needs,
    pooler: Pooler,
    /// Before each host, if statements must have no names.
    doors: Arc<[Door]>,
    present: Mutex<Present>,
    /// The pools that are turned around, each with its options by host.
    pools: Mutex<Vec<(PgPool, Vec<PgConnectOptions>)>>,
    watched: AtomicBool,
    /// Somebody met a host that takes no writes.
    doubted: Notify,
}

#[derive(Debug, Clone)]
pub(crate) struct Host {
    pub(crate) name: String,
    pub(crate) options: PgConnectOptions,
}

#[derive(Debug, Clone, Copy)]
struct Present {
    host: usize,
    /// Connections from before are not used any more.
    since: Option<Instant>,
}

/// What a host answered.
#[derive(Debug)]
struct Answer {
    conn: PgConnection,
    timeline: u32,
}

/// That no host of a database will do, and why not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NoHost {
    needs: &'static str,
    /// Each host, and why it was refused.
    pub refusals: Vec<(String, String)>,
}

impl fmt::Display for NoHost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "no host {}", self.needs)?;
        for (place, (host, reason)) in self.refusals.iter().enumerate() {
            let mark = if place == 0 { ": " } else { "; " };
            write!(f, "{mark}{host} {reason}")?;
        }
        Ok(())
    }
}

impl std::error::Error for NoHost {}

impl From<NoHost> for sqlx::Error {
    fn from(error: NoHost) -> Self {
        Self::Io(std::io::Error::other(error))
    }
}

impl From<PgConnectOptions> for Database {
    fn from(options: PgConnectOptions) -> Self {
        Self::of(
            vec![Host::at(options)],
            Needs::Writes,
            Pooler::None,
            Arc::default(),
        )
    }
}

/// From `postgres://user:password@host1:port1,host2:port2/database?target_session_attrs=read-write`,
/// as libpq has it; also with `?host=…,…&port=…,…`.
///
/// `target_session_attrs` is `read-write` unless given. With `any` the first host that answers will
/// do, which is enough for what only reads.
impl FromStr for Database {
    type Err = UrlError;

    fn from_str(url: &str) -> Result<Self, UrlError> {
        let (hosts, needs) = url::parse(url)?;
        Ok(Self::of(hosts, needs, Pooler::None, Arc::default()))
    }
}

impl fmt::Debug for Database {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Database").field(&self.hosts()).finish()
    }
}

impl Host {
    pub(crate) fn at(options: PgConnectOptions) -> Self {
        let name = match options.get_socket() {
            Some(socket) => socket.display().to_string(),
            None => format!("{}:{}", options.get_host(), options.get_port()),
        };
        Self { name, options }
    }
}

impl Database {
    fn of(hosts: Vec<Host>, needs: Needs, pooler: Pooler, doors: Arc<[Door]>) -> Self {
        Self(Arc::new(Inner {
            hosts,
            needs,
            pooler,
            doors,
            present: Mutex::new(Present {
                host: 0,
                since: None,
            }),
            pools: Mutex::default(),
            watched: AtomicBool::new(false),
            doubted: Notify::new(),
        }))
    }

    /// The hosts, in the order in which they were given.
    #[must_use]
    pub fn hosts(&self) -> Vec<&str> {
        let hosts = self.0.hosts.iter();
        hosts.map(|host| host.name.as_str()).collect()
    }

    /// The same database for sessions that write nothing: a standby will do.
    #[must_use]
    pub fn read_only(&self) -> Self {
        let hosts = self.0.hosts.iter().map(|host| {
            let mut options = host.options.clone();
            // A pooler would refuse it, or hand it on to whoever comes next.
            if self.0.pooler == Pooler::None {
                options = options.options([("default_transaction_read_only", "on")]);
            }
            Host {
                name: host.name.clone(),
                options,
            }
        });
        let (pooler, doors) = (self.0.pooler, self.0.doors.clone());
        Self::of(hosts.collect(), Needs::Reads, pooler, doors)
    }

    /// The same database, reached through a pooler. With [`Pooler::Unnamed`] a door is opened before
    /// it in this process, so this must be called within a runtime; it speaks to the pooler in clear.
    ///
    /// # Errors
    /// When the door cannot be opened, or the address asks for TLS and the door has none.
    pub fn behind(&self, pooler: Pooler) -> sqlx::Result<Self> {
        let mut hosts = self.0.hosts.clone();
        let mut doors = Vec::new();
        for host in &mut hosts {
            // Poolers refuse parameters of a session that they do not keep.
            if pooler != Pooler::None {
                host.options = host.options.clone().extra_float_digits(None::<i8>);
            }
            if pooler == Pooler::Unnamed {
                if !matches!(
                    host.options.get_ssl_mode(),
                    PgSslMode::Disable | PgSslMode::Allow | PgSslMode::Prefer
                ) {
                    return Err(sqlx::Error::Configuration(
                        "statements without names go to the pooler in clear: run it beside this \
                         process and leave sslmode out"
                            .into(),
                    ));
                }
                let (door, through) = Door::open(&host.options)?;
                host.options = through;
                doors.push(door);
            }
        }
        Ok(Self::of(hosts, self.0.needs, pooler, doors.into()))
    }

    /// What stands between this process and the server.
    #[must_use]
    pub fn pooler(&self) -> Pooler {
        self.0.pooler
    }

    /// One connection, to the host that takes writes. It speaks as the login, not as the engine.
    ///
    /// # Errors
    /// When no host will do: each is named, with the reason.
    pub async fn connect(&self) -> sqlx::Result<PgConnection> {
        let (_, answer) = self.look().await?;
        Ok(answer.conn)
    }

    /// Opens a pool, and has it turned around when another host takes the writes.
    ///
    /// # Errors
    /// When no host will do within the time that a caller waits for a connection.
    pub(crate) async fn open(
        &self,
        options: PgPoolOptions,
        session: Session,
    ) -> sqlx::Result<PgPool> {
        if self.0.pooler != Pooler::None {
            self.check_pooler(&session).await?;
        }
        let within = options.get_acquire_timeout();
        if self.0.hosts.len() == 1 {
            let pool = self.pool_options(options, &session);
            let opened = pool.connect_with(self.options_of(&session).remove(0)).await;
            return match opened {
                // Which says nothing; the host may.
                Err(sqlx::Error::PoolTimedOut) => match self.look().await {
                    Err(refused) => Err(refused.into()),
                    Ok(_) => Err(sqlx::Error::PoolTimedOut),
                },
                opened => opened,
            };
        }
        let started = clock::monotonic();
        let (host, answer) = loop {
            match self.look().await {
                Ok(found) => break found,
                Err(refused) if started.elapsed() >= within => return Err(refused.into()),
                Err(_) => clock::sleep(LOOK_AGAIN).await,
            }
        };
        self.0.present().host = host;
        let pool = self.open_lazily(options, session);
        drop(pool.acquire().await?);
        self.0.watch(host, answer.conn);
        Ok(pool)
    }

    /// As [`Database::open`], but connects when it is first used.
    pub(crate) fn open_lazily(&self, options: PgPoolOptions, session: Session) -> PgPool {
        let by_host = self.options_of(&session);
        let present = by_host[self.0.present().host].clone();
        let pool = self.pool_options(options, &session);
        let pool = pool.connect_lazy_with(present);
        if by_host.len() > 1 {
            let mut pools = lock(&self.0.pools);
            pools.push((pool.clone(), by_host));
        }
        pool
    }

    fn options_of(&self, session: &Session) -> Vec<PgConnectOptions> {
        let hosts = self.0.hosts.iter();
        let options = hosts.map(|host| match self.0.pooler {
            Pooler::None => session.apply(host.options.clone()),
            // The login has them in the database.
            Pooler::Prepared | Pooler::Unnamed => host.options.clone(),
        });
        options.collect()
    }

    /// Refuses a pooler that does not do what is expected of it.
    async fn check_pooler(&self, session: &Session) -> sqlx::Result<()> {
        let mut conn = self.connect().await?;
        if let Some(missing) = session.missing(&mut conn).await? {
            return Err(sqlx::Error::Configuration(missing.into()));
        }
        if self.0.pooler == Pooler::Prepared {
            let other = self.connect().await?;
            if !keeps_statements(&mut conn, other).await? {
                return Err(sqlx::Error::Configuration(
                    "the pooler keeps no prepared statements: use PgBouncer 1.21 or later with \
                     max_prepared_statements, or set the pooler to unnamed"
                        .into(),
                ));
            }
        }
        let _ = conn.close().await;
        Ok(())
    }

    fn pool_options(&self, options: PgPoolOptions, session: &Session) -> PgPoolOptions {
        let (inner, speaks) = (self.0.clone(), session.clone());
        let options = options.after_connect(move |conn, _| {
            let (inner, session) = (inner.clone(), speaks.clone());
            Box::pin(async move {
                let refused = match inner.pooler {
                    Pooler::None => session.begin(conn, inner.needs).await?,
                    Pooler::Prepared | Pooler::Unnamed => pool::refusal(conn, inner.needs).await?,
                };
                // A new connection is handed out without being asked for again below.
                match refused {
                    None => session.ready(conn).await,
                    Some(reason) => {
                        inner.doubted.notify_one();
                        Err(inner.no_host(vec![(inner.present_name(), reason)]).into())
                    }
                }
            })
        });
        let (inner, session) = (self.0.clone(), session.clone());
        options.before_acquire(move |conn, meta| {
            let (inner, session) = (inner.clone(), session.clone());
            Box::pin(async move {
                let since = inner.present().since;
                if since.is_some_and(|since| since.elapsed() < meta.age) {
                    return Ok(false);
                }
                if meta.idle_for >= ASK_AFTER_IDLE
                    && pool::refusal(conn, inner.needs).await?.is_some()
                {
                    inner.doubted.notify_one();
                    return Ok(false);
                }
                session.ready(conn).await?;
                Ok(true)
            })
        })
    }

    /// Asks all hosts at once and takes the right one.
    async fn look(&self) -> Result<(usize, Answer), NoHost> {
        self.0.clone().look().await
    }
}

impl Inner {
    fn present(&self) -> std::sync::MutexGuard<'_, Present> {
        lock(&self.present)
    }

    fn present_name(&self) -> String {
        self.hosts[self.present().host].name.clone()
    }

    fn no_host(&self, refusals: Vec<(String, String)>) -> NoHost {
        let needs = match self.needs {
            Needs::Writes => "takes writes",
            Needs::Reads => "answers",
        };
        NoHost { needs, refusals }
    }

    async fn look(self: Arc<Self>) -> Result<(usize, Answer), NoHost> {
        let mut asked = JoinSet::new();
        for (place, host) in self.hosts.iter().enumerate() {
            let (options, needs) = (host.options.clone(), self.needs);
            asked.spawn(async move {
                let answer = tokio::time::timeout(ANSWER_WITHIN, ask(&options, needs)).await;
                let late = format!("does not answer within {} s", ANSWER_WITHIN.as_secs());
                (place, answer.unwrap_or(Err(late)))
            });
        }
        let mut refusals = vec![String::new(); self.hosts.len()];
        let mut found: Option<(usize, Answer)> = None;
        loop {
            let next = asked.join_next();
            let next = if found.is_none() {
                next.await
            } else {
                let next = tokio::time::timeout(OTHERS_WITHIN, next).await;
                next.unwrap_or(None)
            };
            match next {
                Some(Ok((place, Ok(answer)))) => {
                    let better = found.as_ref().is_none_or(|(other, known)| {
                        (answer.timeline, *other) > (known.timeline, place)
                    });
                    if better {
                        found = Some((place, answer));
                    }
                }
                Some(Ok((place, Err(reason)))) => refusals[place] = reason,
                Some(Err(_)) => {}
                None => break,
            }
        }
        let names = self.hosts.iter().map(|host| host.name.clone());
        found.ok_or_else(|| self.no_host(names.zip(refusals).collect()))
    }

    /// Keeps the pools at the host that takes writes, until all of them are closed.
    fn watch(self: &Arc<Self>, host: usize, conn: PgConnection) {
        if !self.watched.swap(true, Ordering::AcqRel) {
            tokio::spawn(self.clone().keep_watching(host, conn));
        }
    }

    async fn keep_watching(self: Arc<Self>, mut host: usize, conn: PgConnection) {
        let mut held = Some(conn);
        let mut told = None;
        loop {
            tokio::select! {
                () = self.doubted.notified() => {}
                () = clock::sleep(WATCH_EVERY) => {}
            }
            if self.forget_closed() {
                return;
            }
            let fault = match &mut held {
                Some(conn) => self.fault(conn).await,
                None => Some("is not connected".to_owned()),
            };
            let Some(fault) = fault else {
                continue;
            };
            if held.take().is_some() {
                self.present().since = Some(clock::monotonic());
                tracing::warn!(
                    database.host = self.hosts[host].name,
                    reason = fault,
                    "the database's host will not do any more; looking for another"
                );
            }
            match self.clone().look().await {
                Ok((found, answer)) => {
                    tracing::warn!(
                        database.host = self.hosts[found].name,
                        database.timeline = answer.timeline,
                        "the database's writes go to this host now"
                    );
                    host = found;
                    self.turn(found);
                    held = Some(answer.conn);
                    told = None;
                }
                Err(refused) => {
                    if told.as_ref() != Some(&refused) {
                        tracing::error!(error = %refused, "the database is away; looking on");
                        told = Some(refused);
                    }
                    clock::sleep(LOOK_AGAIN).await;
                }
            }
        }
    }

    /// Why a host will not do any more.
    async fn fault(&self, conn: &mut PgConnection) -> Option<String> {
        match tokio::time::timeout(ANSWER_WITHIN, pool::refusal(conn, self.needs)).await {
            Ok(Ok(refusal)) => refusal,
            Ok(Err(error)) => Some(error.to_string()),
            Err(_) => Some("does not answer".to_owned()),
        }
    }

    fn turn(&self, host: usize) {
        let mut present = self.present();
        // Also when it is the same host: what was opened before it went away is of no use.
        present.host = host;
        present.since = Some(clock::monotonic());
        drop(present);
        for (pool, options) in lock(&self.pools).iter() {
            pool.set_connect_options(options[host].clone());
        }
    }

    /// Lets go of pools that were closed; true when none is left.
    fn forget_closed(&self) -> bool {
        let mut pools = lock(&self.pools);
        pools.retain(|(pool, _)| !pool.is_closed());
        let none = pools.is_empty();
        if none {
            self.watched.store(false, Ordering::Release);
        }
        none
    }
}

/// Connects to a host and asks whether it will do; why not, if not.
async fn ask(options: &PgConnectOptions, needs: Needs) -> Result<Answer, String> {
    let connected = options.connect().await;
    let mut conn = connected.map_err(|error| format!("cannot be connected to ({error})"))?;
    match pool::refusal(&mut conn, needs).await {
        Ok(None) => {}
        Ok(Some(reason)) => {
            let _ = conn.close().await;
            return Err(reason);
        }
        Err(error) => return Err(format!("gives no answer ({error})")),
    }
    // Not every service that speaks Postgres tells it; then the order of the list decides.
    let timeline = match needs {
        Needs::Reads => 0,
        Needs::Writes => timeline(&mut conn).await.unwrap_or_default(),
    };
    Ok(Answer { conn, timeline })
}

/// Whether a statement that was prepared on one server connection can be executed on another.
async fn keeps_statements(conn: &mut PgConnection, mut other: PgConnection) -> sqlx::Result<bool> {
    let kept = || sqlx::query("select 1 as kept");
    match kept().execute(&mut *conn).await {
        Err(sqlx::Error::Database(_)) => return Ok(false),
        tried => tried?,
    };
    // Takes the server connection that was used last.
    let mut held = other.begin().await?;
    sqlx::raw_sql("select 1").execute(&mut *held).await?;
    let again = tokio::time::timeout(ANSWER_WITHIN, kept().execute(&mut *conn)).await;
    held.rollback().await?;
    let _ = other.close().await;
    Ok(match again {
        Ok(Ok(_)) => true,
        Ok(Err(sqlx::Error::Database(_))) => false,
        Ok(Err(error)) => return Err(error),
        // There is one server connection only, which has it.
        Err(_) => true,
    })
}

/// The timeline that a primary writes: raised by each promotion.
pub(crate) async fn timeline(conn: &mut PgConnection) -> sqlx::Result<u32> {
    let asked = "select left(pg_walfile_name(pg_current_wal_insert_lsn()), 8) as timeline";
    let row = sqlx::raw_sql(asked).fetch_one(conn).await?;
    let text: String = row.try_get("timeline")?;
    Ok(u32::from_str_radix(&text, 16).unwrap_or_default())
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

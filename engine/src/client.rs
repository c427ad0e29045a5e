//! Start, signal, cancel, await: the door for the API and for Rust products.
//!
//! Each verb joins the caller's transaction: domain row and run commit together, or neither does.
//! After the commit, [`Client::ring`] wakes a worker at once; without it polling finds the work.

use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;

use serde_json::Value;
use sqlx::{PgConnection, PgPool};
use tokio_util::sync::CancellationToken;

use crate::bell::Bell;
use crate::breaker::Breakers;
use crate::error::EngineError;
use crate::gather::{self, Call, Gather};
use crate::id::{RunId, TenantId};
use crate::payload;
use crate::registry::Registry;
use crate::run::{InboxKind, Status};
use crate::start::{self, Origin, StartOptions, StartRequest, Started};
use crate::store;
use crate::store::inbox::NewMessage;
use crate::store::run::{Holder, Place};
use crate::tally;
use crate::workflow::Workflow;

/// The longest signal id, in bytes.
const MAX_SIGNAL_ID_BYTES: usize = 255;

/// The door for starting and signalling runs.
#[derive(Clone)]
pub struct Client {
    registry: Registry,
    pool: PgPool,
    bell: Bell,
    breakers: Arc<Breakers>,
}

/// Which run is meant.
#[derive(Debug, Clone, Copy)]
pub enum RunRef<'a> {
    /// By its id.
    Id(RunId),
    /// By its key, in the workflow that the verb names.
    Key(&'a str),
}

/// What came of a signal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Signalled {
    /// The receiver.
    pub run_id: RunId,
    /// False when a signal with this id had come before.
    pub created: bool,
}

/// Where a run is.
#[derive(Debug, Clone, PartialEq)]
pub struct Position<S> {
    /// Its state, as the present version reads it.
    pub state: S,
    /// Whether the state's *entered* has been answered.
    pub entered: bool,
}

impl Client {
    /// A client on the engine's pool (see [`connect`](crate::connect)). `stop` ends its notifier.
    #[must_use]
    pub fn new(pool: PgPool, registry: Registry, stop: CancellationToken) -> Self {
        let bell = Bell::new(pool.clone(), stop);
        Self {
            registry,
            pool,
            bell,
            breakers: Arc::default(),
        }
    }

    /// The workflows that this process knows.
    #[must_use]
    pub fn registry(&self) -> &Registry {
        &self.registry
    }

    /// The pool of the engine's role.
    #[must_use]
    pub fn pool(&self) -> &PgPool {
        &self.pool
    }

    pub(crate) fn breakers(&self) -> &Arc<Breakers> {
        &self.breakers
    }

    pub(crate) fn bell(&self) -> &Bell {
        &self.bell
    }

    /// Wakes workers; call it after the commit.
    pub fn ring(&self) {
        self.bell.ring();
    }

    /// Starts a run of `W`, due at once. The same key with the same input returns the first run.
    ///
    /// # Errors
    /// [`EngineError::KeyTaken`] for the same key with another input;
    /// [`EngineError::TenantClosing`] while the tenant is being deleted;
    /// [`EngineError::UnknownTenant`], [`EngineError::UnknownWorkflow`],
    /// [`EngineError::PayloadTooLarge`], [`EngineError::Malformed`] for a bad key.
    pub async fn start<W: Workflow>(
        &self,
        conn: &mut PgConnection,
        tenant: TenantId,
        key: &str,
        input: &W::Input,
    ) -> Result<Started, EngineError> {
        self.start_with::<W>(conn, tenant, key, input, StartOptions::default())
            .await
    }

    /// Starts a run of `W` as the options say: later, or of another priority than its workflow's.
    ///
    /// # Errors
    /// As [`Client::start`].
    pub async fn start_with<W: Workflow>(
        &self,
        conn: &mut PgConnection,
        tenant: TenantId,
        key: &str,
        input: &W::Input,
        options: StartOptions,
    ) -> Result<Started, EngineError> {
        let input = payload::to_value("input", W::NAME, input)?;
        self.begin(conn, tenant, (W::NAME, key), &input, options)
            .await
    }

    /// Starts a run by its workflow's name and its key, with its input as JSON.
    ///
    /// # Errors
    /// As [`Client::start`], [`EngineError::Malformed`] when the input does not fit, and
    /// [`EngineError::OwnDoor`] for a workflow whose runs start at a door of their own.
    pub async fn start_named(
        &self,
        conn: &mut PgConnection,
        tenant: TenantId,
        (workflow, key): (&str, &str),
        input: &Value,
        options: StartOptions,
    ) -> Result<Started, EngineError> {
        self.registry.guard(workflow).may_start(workflow)?;
        self.registry.refuse_masks(workflow, "input", input)?;
        self.begin(conn, tenant, (workflow, key), input, options)
            .await
    }

    async fn begin(
        &self,
        conn: &mut PgConnection,
        tenant: TenantId,
        (workflow, key): (&str, &str),
        input: &Value,
        options: StartOptions,
    ) -> Result<Started, EngineError> {
        let place = open_place_of(conn, &self.registry, tenant).await?;
        let request = StartRequest {
            workflow,
            key,
            input,
            origin: Origin::default(),
            options,
        };
        start::start(conn, &self.registry, tenant, &place, request).await
    }

    /// Puts a start into the run of `W` that gathers for `key`, or opens one, which starts with the last
    /// input once no other has come for a while. Each call counts, also with the same input. The run's
    /// key is `key`, a slash and its id. The transaction must act as the engine.
    ///
    /// # Errors
    /// As [`Client::start`] but never [`EngineError::KeyTaken`]; [`EngineError::Malformed`] when the
    /// times make no sense.
    pub async fn start_debounced<W: Workflow>(
        &self,
        conn: &mut PgConnection,
        tenant: TenantId,
        key: &str,
        input: &W::Input,
        (quiet, at_most): (Duration, Duration),
    ) -> Result<Started, EngineError> {
        let input = payload::to_value("input", W::NAME, input)?;
        let gather = Gather::Debounce { quiet, at_most };
        self.begin_gathered(conn, tenant, (W::NAME, key), &input, gather)
            .await
    }

    /// Puts an item into the run of `W` that gathers for `key`, or opens one, which starts with all of
    /// them once there are `size` or `at_most` has passed. As [`Client::start_debounced`] otherwise.
    ///
    /// # Errors
    /// As [`Client::start_debounced`].
    pub async fn start_batched<W: Workflow<Input = Vec<T>>, T: Serialize>(
        &self,
        conn: &mut PgConnection,
        tenant: TenantId,
        key: &str,
        item: &T,
        (size, at_most): (u32, Duration),
    ) -> Result<Started, EngineError> {
        let item = payload::to_value("input", W::NAME, item)?;
        let gather = Gather::Batch { size, at_most };
        self.begin_gathered(conn, tenant, (W::NAME, key), &item, gather)
            .await
    }

    /// Gathers a start by its workflow's name and key, with its input, or its item of a batch, as JSON.
    ///
    /// # Errors
    /// As [`Client::start_debounced`], and [`EngineError::OwnDoor`].
    pub async fn start_gathered_named(
        &self,
        conn: &mut PgConnection,
        tenant: TenantId,
        (workflow, key): (&str, &str),
        input: &Value,
        gather: Gather,
    ) -> Result<Started, EngineError> {
        self.registry.guard(workflow).may_start(workflow)?;
        self.registry.refuse_masks(workflow, "input", input)?;
        self.begin_gathered(conn, tenant, (workflow, key), input, gather)
            .await
    }

    async fn begin_gathered(
        &self,
        conn: &mut PgConnection,
        tenant: TenantId,
        (workflow, key): (&str, &str),
        input: &Value,
        gather: Gather,
    ) -> Result<Started, EngineError> {
        let place = open_place_of(conn, &self.registry, tenant).await?;
        let call = Call {
            tenant,
            place: &place,
            workflow,
            key,
            gather,
        };
        gather::start(conn, &self.registry, &call, input).await
    }

    /// Starts many runs of `W` in one statement; returns how many keys were free.
    ///
    /// # Errors
    /// As [`Client::start`]; a key that is taken is skipped, whatever its input was.
    pub async fn start_many<W: Workflow>(
        &self,
        conn: &mut PgConnection,
        tenant: TenantId,
        starts: &[(String, W::Input)],
    ) -> Result<Vec<RunId>, EngineError> {
        let place = open_place_of(conn, &self.registry, tenant).await?;
        let mut runs = Vec::with_capacity(starts.len());
        for (key, input) in starts {
            let input = payload::to_value("input", W::NAME, input)?;
            runs.push(start::prepare(
                &self.registry,
                &place,
                W::NAME,
                key,
                &input,
            )?);
        }
        // Keys are locked as they are inserted: in one order, whatever the caller's is.
        runs.sort_by(|one, other| one.key.cmp(&other.key));
        Ok(store::run::insert(conn, tenant, &place, Origin::default(), &runs).await?)
    }

    /// Sends a signal to a run of `W`; it is buffered until the run's state takes it.
    ///
    /// # Errors
    /// [`EngineError::RunNotFound`]; [`EngineError::RunFinished`] when the run has ended, in which
    /// case the signal is kept as late if the caller commits.
    pub async fn signal<W: Workflow>(
        &self,
        conn: &mut PgConnection,
        tenant: TenantId,
        run: RunRef<'_>,
        signal_id: &str,
        signal: &W::Signal,
    ) -> Result<Signalled, EngineError> {
        let signal = payload::to_value("signal", W::NAME, signal)?;
        let place = place_of(conn, &self.registry, tenant).await?;
        let receiver = find(conn, tenant, &place, W::NAME, run).await?;
        send(
            conn,
            &self.registry,
            tenant,
            &place,
            (receiver, signal_id),
            &signal,
        )
        .await
    }

    /// Finds the run of `W` that holds a key.
    ///
    /// # Errors
    /// [`EngineError::UnknownTenant`].
    pub async fn find_by_key<W: Workflow>(
        &self,
        conn: &mut PgConnection,
        tenant: TenantId,
        key: &str,
    ) -> Result<Option<RunId>, EngineError> {
        let place = find_place(conn, tenant).await?;
        let holder = store::run::find_by_key(conn, tenant, place.shard_id, W::NAME, key).await?;
        Ok(holder.map(|holder| holder.run_id))
    }

    /// Reads where a run of `W` is, for whoever foretells what it will do. What its inbox holds and it
    /// has not read is not in it.
    ///
    /// # Errors
    /// [`EngineError::RunNotFound`]; [`EngineError::Malformed`] when the state cannot be read.
    pub async fn find_position<W: Workflow>(
        &self,
        conn: &mut PgConnection,
        run: RunId,
    ) -> Result<Position<W::State>, EngineError> {
        let stored = store::run::find_stored(conn, run, run.shard()).await?;
        let stored = stored
            .filter(|stored| stored.workflow == W::NAME)
            .ok_or_else(|| EngineError::RunNotFound(run.to_string()))?;
        let misfit = |detail: String| EngineError::Malformed {
            what: "state",
            workflow: W::NAME.to_owned(),
            detail,
        };
        let reader = self.registry.keyring().reader(stored.tenant_id).await?;
        let data = reader
            .open(&stored.data)
            .map_err(|error| misfit(format!("{error:?}")))?;
        let handler = self.registry.require(W::NAME)?;
        let state = handler.lift(stored.version, &data).map_err(misfit)?;
        Ok(Position {
            state: serde_json::from_value(state).map_err(|error| misfit(error.to_string()))?,
            entered: stored.entered,
        })
    }

    /// Sends a signal to the run that holds `key`, and starts it with `input` if there is none.
    ///
    /// # Errors
    /// As [`Client::start`] and [`Client::signal`].
    pub async fn signal_with_start<W: Workflow>(
        &self,
        conn: &mut PgConnection,
        tenant: TenantId,
        key: &str,
        input: &W::Input,
        signal_id: &str,
        signal: &W::Signal,
    ) -> Result<Signalled, EngineError> {
        let place = place_of(conn, &self.registry, tenant).await?;
        let shard = place.shard_id;
        let holder = store::run::find_by_key(conn, tenant, shard, W::NAME, key).await?;
        let receiver = match holder {
            Some(holder) => Receiver::from(holder),
            None => {
                let started = self.start::<W>(conn, tenant, key, input).await?;
                identify(conn, tenant, &place, started.run_id).await?.1
            }
        };
        let signal = payload::to_value("signal", W::NAME, signal)?;
        send(
            conn,
            &self.registry,
            tenant,
            &place,
            (receiver, signal_id),
            &signal,
        )
        .await
    }

    /// Sends a signal, as JSON, to a run of whatever workflow it is.
    ///
    /// # Errors
    /// As [`Client::signal`], [`EngineError::Malformed`] when the workflow has no such signal,
    /// [`EngineError::OwnDoor`] for one that comes only through a door of its own, and
    /// [`EngineError::NeedsRole`] for one that only a person may send: see [`operator::signal`](crate::operator::signal).
    pub async fn signal_named(
        &self,
        conn: &mut PgConnection,
        tenant: TenantId,
        run_id: RunId,
        signal_id: &str,
        signal: &Value,
    ) -> Result<Signalled, EngineError> {
        let sender = Sender::Nobody;
        send_named(
            conn,
            &self.registry,
            tenant,
            (run_id, signal_id),
            signal,
            sender,
        )
        .await
    }

    /// Asks a run to end and clean up after itself.
    ///
    /// # Errors
    /// As [`Client::signal`].
    pub async fn cancel(
        &self,
        conn: &mut PgConnection,
        tenant: TenantId,
        run_id: RunId,
    ) -> Result<Signalled, EngineError> {
        let place = find_place(conn, tenant).await?;
        let (_, receiver) = identify(conn, tenant, &place, run_id).await?;
        refuse_finished(receiver)?;
        let message = NewMessage {
            kind: InboxKind::Cancel,
            name: "cancel",
            payload: b"null",
            ..message(tenant, &place, run_id, "cancel")
        };
        let created = store::inbox::insert(conn, &message).await?;
        Ok(Signalled { run_id, created })
    }
}

/// A run to which something is sent.
#[derive(Clone, Copy)]
struct Receiver {
    run_id: RunId,
    status: Status,
}

impl From<Holder> for Receiver {
    fn from(holder: Holder) -> Self {
        Self {
            run_id: holder.run_id,
            status: holder.status,
        }
    }
}

async fn find(
    conn: &mut PgConnection,
    tenant: TenantId,
    place: &Place,
    workflow: &str,
    run: RunRef<'_>,
) -> Result<Receiver, EngineError> {
    match run {
        RunRef::Id(run_id) => Ok(identify(conn, tenant, place, run_id).await?.1),
        RunRef::Key(key) => store::run::find_by_key(conn, tenant, place.shard_id, workflow, key)
            .await?
            .map(Receiver::from)
            .ok_or_else(|| EngineError::RunNotFound(format!("of {workflow} with key {key:?}"))),
    }
}

/// Who sends a signal that is JSON.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Sender<'a> {
    /// Nobody who is known.
    Nobody,
    /// A person, in a role.
    Person(&'a str),
    /// A workflow, as its own code says.
    Workflow,
}

/// Sends a signal, as JSON, to a run of whatever workflow it is; as [`Client::signal_named`].
pub(crate) async fn send_named(
    conn: &mut PgConnection,
    registry: &Registry,
    tenant: TenantId,
    (run_id, signal_id): (RunId, &str),
    signal: &Value,
    sender: Sender<'_>,
) -> Result<Signalled, EngineError> {
    let place = place_of(conn, registry, tenant).await?;
    let (workflow, receiver) = identify(conn, tenant, &place, run_id).await?;
    let (guard, name) = (registry.guard(&workflow), payload::variant_name(signal));
    match sender {
        Sender::Nobody => guard.may_signal(&workflow, name, None)?,
        Sender::Person(role) => guard.may_signal(&workflow, name, Some(role))?,
        Sender::Workflow => {}
    }
    if !matches!(sender, Sender::Workflow) {
        registry.refuse_masks(&workflow, "signal", signal)?;
    }
    if let Some(handler) = registry.find(&workflow) {
        handler.check_signal(signal)?;
    }
    send(
        conn,
        registry,
        tenant,
        &place,
        (receiver, signal_id),
        signal,
    )
    .await
}

async fn send(
    conn: &mut PgConnection,
    registry: &Registry,
    tenant: TenantId,
    place: &Place,
    (receiver, signal_id): (Receiver, &str),
    signal: &Value,
) -> Result<Signalled, EngineError> {
    if signal_id.is_empty() || signal_id.len() > MAX_SIGNAL_ID_BYTES || signal_id.contains('\0') {
        return Err(EngineError::Malformed {
            what: "signal id",
            workflow: String::new(),
            detail: format!("an id has 1 to {MAX_SIGNAL_ID_BYTES} bytes and no NUL"),
        });
    }
    let run_id = receiver.run_id;
    if receiver.status.is_finished()
        && !store::run::keep(conn, run_id, place.shard_id, tenant).await?
    {
        return Err(EngineError::RunNotFound(run_id.to_string()));
    }
    let payload = payload::to_bytes("signal", signal, registry.payload_limit())?;
    let message = NewMessage {
        name: payload::variant_name(signal),
        payload: &place.keys.seal(payload),
        ..message(tenant, place, run_id, signal_id)
    };
    let created = store::inbox::insert(conn, &message).await?;
    tally::signalled(created);
    refuse_finished(receiver)?;
    Ok(Signalled { run_id, created })
}

/// Finds a run of the tenant by its id, and its workflow.
async fn identify(
    conn: &mut PgConnection,
    tenant: TenantId,
    place: &Place,
    run_id: RunId,
) -> Result<(String, Receiver), EngineError> {
    let identity = store::run::find_identity(conn, run_id, place.shard_id)
        .await?
        .filter(|identity| identity.tenant_id == tenant)
        .ok_or_else(|| EngineError::RunNotFound(run_id.to_string()))?;
    let status = identity.status;
    Ok((identity.workflow, Receiver { run_id, status }))
}

fn message<'a>(
    tenant: TenantId,
    place: &Place,
    run_id: RunId,
    signal_id: &'a str,
) -> NewMessage<'a> {
    NewMessage {
        run_id,
        shard_id: place.shard_id,
        tenant_id: tenant,
        clock_id: place.clock_id,
        kind: InboxKind::Signal,
        position: 0,
        signal_id,
        name: "",
        payload: b"null",
    }
}

fn refuse_finished(receiver: Receiver) -> Result<(), EngineError> {
    if receiver.status.is_finished() {
        return Err(EngineError::RunFinished {
            run_id: receiver.run_id,
            status: receiver.status.word(),
        });
    }
    Ok(())
}

/// Where a tenant lives, with what its payloads are sealed with.
async fn place_of(
    conn: &mut PgConnection,
    registry: &Registry,
    tenant: TenantId,
) -> Result<Place, EngineError> {
    let place = find_place(conn, tenant).await?;
    let keys = registry.keyring().of(tenant).await?;
    Ok(Place { keys, ..place })
}

/// As [`place_of`], of a tenant for which something may be started.
async fn open_place_of(
    conn: &mut PgConnection,
    registry: &Registry,
    tenant: TenantId,
) -> Result<Place, EngineError> {
    let place = place_of(conn, registry, tenant).await?;
    if place.closing {
        return Err(EngineError::TenantClosing(tenant));
    }
    Ok(place)
}

async fn find_place(conn: &mut PgConnection, tenant: TenantId) -> Result<Place, EngineError> {
    store::run::find_place(conn, tenant)
        .await?
        .ok_or(EngineError::UnknownTenant(tenant))
}

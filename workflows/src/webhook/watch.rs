//! The watch over webhooks: finds events that were never delivered, and tries those again that nobody
//! could be found for.
//!
//! One run of the system tenant, for ever. Its state holds the place in the provider's list up to which
//! it has looked. Events are read that some endpoint has not taken yet; those that have come meanwhile
//! are known by their id. Stripe keeps events for thirty days, and itself tells to reconcile.

use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use serde::{Deserialize, Serialize};
use sqlx::PgConnection;
use tenure_engine::{
    Client, Context, EngineError, Event, Exhausted, ResultExt as _, RetryPolicy, SYSTEM_TENANT,
    StepError, Transition, Workflow,
};

use super::{EVENTS, Envelope, receive_listed, retry_due};
use crate::door::as_tenant;
use crate::environment::Environment;
use crate::ports::stripe::{EventPage, EventQuery, EventsFrom, STRIPE, may_pass};

/// The one key of the watch.
pub const KEY: &str = "stripe";

const LOOK: &str = "look";
/// How often it looks.
const LOOK_EVERY: Duration = Duration::from_secs(60);
/// How long the provider keeps events, less a day.
const KEPT: TimeDelta = TimeDelta::days(29);
/// Each so many looks it reads the list; quarantine it tries each time.
const LIST_EVERY: u32 = 5;

// Input.

/// Nothing.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Input {}

// States and signals.

/// Where the watch is.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub enum State {
    /// About to look for the first time.
    Starting,
    /// Looks now and then.
    Watching {
        /// Up to where it has looked.
        upto: Upto,
        /// Looks since the list was read.
        looks: u32,
    },
}

/// A place in the provider's list.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Upto {
    /// The last event that was read.
    Event(String),
    /// None was read yet; what was made before is of no interest.
    Instant(DateTime<Utc>),
}

/// What the watch may be told.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub enum Signal {
    /// Look now.
    Look,
}

/// The workflow.
pub struct WebhookWatchWorkflow {
    environment: Environment,
}

impl WebhookWatchWorkflow {
    /// With the outside that it reaches.
    #[must_use]
    pub fn new(environment: &Environment) -> Self {
        Self {
            environment: environment.clone(),
        }
    }
}

/// Starts the watch, if there is none. The caller's transaction speaks for the system tenant
/// afterwards.
///
/// # Errors
/// When the database does not answer.
pub async fn start(client: &Client, conn: &mut PgConnection) -> Result<(), EngineError> {
    as_tenant(conn, SYSTEM_TENANT).await?;
    client
        .start::<WebhookWatchWorkflow>(conn, SYSTEM_TENANT, KEY, &Input {})
        .await?;
    Ok(())
}

// Handle.

impl Workflow for WebhookWatchWorkflow {
    const NAME: &'static str = "webhook-watch";
    const VERSION: i32 = 1;
    /// Of the provider's events: what each is about, such as a customer.
    const PRIVATE: &'static [&'static str] = &["data"];
    type Input = Input;
    type State = State;
    type Signal = Signal;
    type Output = ();

    fn start(&self, _input: Input) -> State {
        State::Starting
    }

    async fn handle(
        &self,
        cx: &Context,
        state: State,
        event: Event<Signal>,
    ) -> Result<Transition<Self>, StepError> {
        match (state, event) {
            (State::Starting, Event::Entered) => {
                // An hour back: what was not delivered while this was being set up.
                let upto = Upto::Instant(cx.now() - TimeDelta::hours(1));
                self.look(cx, upto, LIST_EVERY).await
            }
            (State::Watching { upto, .. }, Event::Signal(Signal::Look)) => {
                self.look(cx, upto, LIST_EVERY).await
            }
            (State::Watching { upto, looks }, Event::Deadline(_)) => {
                self.look(cx, upto, looks + 1).await
            }
            (_, Event::CancelRequested) => Ok(Transition::cancelled()),
            (
                state,
                Event::Entered
                | Event::Signal(_)
                | Event::Deadline(_)
                | Event::RunFinished(_)
                | Event::Joined(_)
                | Event::RunDeadline,
            ) => Ok(Transition::stay(state)),
        }
    }
}

// Steps.

const LIST_EVENTS: &str = "list-events";
const TAKE_EVENTS: &str = "take-events";
const RETRY_QUARANTINED: &str = "retry-quarantined";

/// A page of the list, as far as mapping needs it.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Page {
    events: Vec<Envelope>,
    last: Option<String>,
    has_more: bool,
}

/// A provider that cannot be asked is asked at the next look: nothing waits for this.
const POLICY: RetryPolicy = RetryPolicy {
    max_attempts: 3,
    dependency: Some(STRIPE),
    exhausted: Exhausted::Return,
    ..RetryPolicy::DEFAULT
};

impl WebhookWatchWorkflow {
    async fn look(
        &self,
        cx: &Context,
        upto: Upto,
        looks: u32,
    ) -> Result<Transition<Self>, StepError> {
        let mut next = (upto, looks);
        let mut more = false;
        if looks >= LIST_EVERY {
            match self.list(cx, &next.0).await {
                Ok(page) => {
                    self.take(cx, &page).await?;
                    more = page.has_more;
                    let upto = page.last.map_or(next.0, Upto::Event);
                    // Page by page, each in a visit of its own.
                    next = (upto, if more { LIST_EVERY } else { 0 });
                }
                // The event to go on after is not kept any more: all that is kept is read anew.
                Err(error) if !may_pass(&error) => {
                    next = (Upto::Instant(cx.now() - KEPT), LIST_EVERY);
                }
                Err(_) => {}
            }
        }
        if !more {
            self.retry(cx).await?;
        }
        let (upto, looks) = next;
        let wait = if more { Duration::ZERO } else { LOOK_EVERY };
        Ok(Transition::go(State::Watching { upto, looks }).after(LOOK, wait))
    }

    async fn list(&self, cx: &Context, upto: &Upto) -> Result<Page, StepError> {
        cx.step(LIST_EVENTS, &POLICY, async |_| {
            let query = EventQuery {
                from: match upto {
                    Upto::Event(id) => EventsFrom::After(id.clone()),
                    Upto::Instant(at) => EventsFrom::Since(*at),
                },
                kinds: EVENTS.map(str::to_owned).to_vec(),
                undelivered: true,
            };
            let EventPage { events, has_more } =
                self.environment.stripe().list_events(&query).await?;
            let last = events.last().map(|event| event.id.clone());
            let read = |body: &String| serde_json::from_str(body).terminal("unreadable_event");
            let events = events.iter().map(|event| read(&event.body));
            Ok(Page {
                events: events.collect::<Result<_, StepError>>()?,
                last,
                has_more,
            })
        })
        .await
    }

    /// Twice is as once: an event that is known is left alone.
    async fn take(&self, cx: &Context, page: &Page) -> Result<(), StepError> {
        if page.events.is_empty() {
            return Ok(());
        }
        cx.step(TAKE_EVENTS, &RetryPolicy::DEFAULT, async |_| {
            let client = self.client()?;
            let mut conn = tenure_engine::begin(self.environment.engine()).await?;
            for event in &page.events {
                receive_listed(&client, &mut conn, event).await?;
            }
            conn.commit().await?;
            client.ring();
            Ok(())
        })
        .await
    }

    async fn retry(&self, cx: &Context) -> Result<(), StepError> {
        cx.step(RETRY_QUARANTINED, &RetryPolicy::DEFAULT, async |_| {
            let client = self.client()?;
            let mut conn = tenure_engine::begin(self.environment.engine()).await?;
            let tried = retry_due(&client, &mut conn).await?;
            conn.commit().await?;
            if tried > 0 {
                client.ring();
            }
            Ok(())
        })
        .await
    }

    fn client(&self) -> Result<Client, StepError> {
        self.environment
            .client()
            .ok_or_else(|| StepError::retryable("no_client", "this process is not up yet"))
    }
}

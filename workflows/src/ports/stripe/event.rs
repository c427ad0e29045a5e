//! The list of events: what webhooks would have told, for when they did not arrive.

use chrono::{DateTime, Utc};
use stripe_core::event::ListEvent;
use stripe_shared::Event;
use stripe_types::{List, RangeBoundsTs, RangeQueryTs};
use tenure_engine::StepError;

use super::{Stripe, failure};

/// Events of one page; Stripe's most.
const PAGE: i64 = 100;

/// Which events to list.
#[derive(Debug, Clone)]
pub struct EventQuery {
    /// Where to begin.
    pub from: EventsFrom,
    /// Kinds of events, at most 20; empty means all.
    pub kinds: Vec<String>,
    /// Only those that some endpoint has not taken yet.
    pub undelivered: bool,
}

/// Where a list of events begins.
#[derive(Debug, Clone)]
pub enum EventsFrom {
    /// Right after an event that was seen. Stripe keeps events for 30 days.
    After(String),
    /// At an instant of real time. The pages of all later events are read to find it, so this is
    /// for the first look only.
    Since(DateTime<Utc>),
}

/// Some events, oldest first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EventPage {
    /// The events.
    pub events: Vec<ListedEvent>,
    /// There are more, after the last of these.
    pub has_more: bool,
}

/// An event of the list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListedEvent {
    /// Stripe's id; a webhook of the same event has it too.
    pub id: String,
    /// Such as `charge.dispute.created`.
    pub kind: String,
    /// When it was made, in real time.
    pub created_at: DateTime<Utc>,
    /// The event as a webhook would have brought it, in JSON.
    pub body: String,
}

impl Stripe {
    /// Lists one page of events, oldest first, from where the query says.
    ///
    /// # Errors
    /// Retryable unless Stripe refuses the request for good, such as when it no longer keeps the
    /// event to begin after.
    pub async fn list_events(&self, query: &EventQuery) -> Result<EventPage, StepError> {
        match &query.from {
            EventsFrom::After(id) => {
                // Stripe lists newest first; the page that ends before an event is next to it.
                let page = self.page(request(query).ending_before(id.as_str())).await?;
                read(page.data, page.has_more)
            }
            EventsFrom::Since(instant) => self.oldest_since(query, *instant).await,
        }
    }

    /// Goes down the pages, newest first, and keeps the last.
    async fn oldest_since(
        &self,
        query: &EventQuery,
        instant: DateTime<Utc>,
    ) -> Result<EventPage, StepError> {
        let bounds = RangeBoundsTs {
            gte: Some(instant.timestamp()),
            ..RangeBoundsTs::default()
        };
        let request = request(query).created(RangeQueryTs::Bounds(bounds));
        let mut page = self.page(request.clone()).await?;
        let mut newer = false;
        while page.has_more
            && let Some(last) = page.data.last().map(|event| event.id.to_string())
        {
            page = self.page(request.clone().starting_after(last)).await?;
            newer = true;
        }
        read(page.data, newer)
    }

    async fn page(&self, request: ListEvent) -> Result<List<Event>, StepError> {
        request
            .send(&self.client)
            .await
            .map_err(|error| failure(&error))
    }
}

fn request(query: &EventQuery) -> ListEvent {
    let mut request = ListEvent::new().limit(PAGE);
    if !query.kinds.is_empty() {
        request = request.types(query.kinds.clone());
    }
    if query.undelivered {
        request = request.delivery_success(false);
    }
    request
}

fn read(newest_first: Vec<Event>, has_more: bool) -> Result<EventPage, StepError> {
    let events = newest_first.iter().rev().map(|event| {
        let unreadable = |detail: &str| StepError::terminal("unreadable_event", detail);
        Ok(ListedEvent {
            id: event.id.to_string(),
            kind: event.type_.as_str().to_owned(),
            created_at: DateTime::from_timestamp(event.created, 0)
                .ok_or_else(|| unreadable("its time is out of range"))?,
            body: serde_json::to_string(event).map_err(|error| unreadable(&error.to_string()))?,
        })
    });
    Ok(EventPage {
        events: events.collect::<Result<_, StepError>>()?,
        has_more,
    })
}

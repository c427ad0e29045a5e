//! The only place that awaits the server: questions and acts go out, events come back.

mod acts;
mod billing;
mod life;
mod names;
mod questions;

use crate::clock;
use crate::event::{Act, Answer, Content, Event, Part, Refusal, Request};
use acts::carry_out;
use names::Known;
use questions::ask;
use tenure_client::{Client, ClientError, IdempotencyKey};
use tokio::task::JoinSet;

/// Carries out what `update` wants.
pub(crate) struct Backend {
    client: Client,
    known: Known,
    tasks: JoinSet<Event>,
    /// The key of the last intent: sent again, it is the same wish.
    key: Option<(u64, IdempotencyKey)>,
}

impl Backend {
    /// A backend that speaks through `client`.
    pub(crate) fn new(client: Client) -> Self {
        Self {
            client,
            known: Known::default(),
            tasks: JoinSet::new(),
            key: None,
        }
    }

    /// Asks a question; the answer comes as an event.
    pub(crate) fn ask(&mut self, generation: u64, request: Request) {
        let (client, known) = (self.client.clone(), self.known.clone());
        self.tasks.spawn(async move {
            let answer = match ask(&client, &known, request).await {
                Ok(answer) => answer,
                Err(error) => Answer::Failed(refusal(error)),
            };
            Event::Answer {
                generation,
                at: clock::now(),
                answer,
            }
        });
    }

    /// Carries out an act; how it went comes as an event.
    pub(crate) fn act(&mut self, intent: u64, act: Act) {
        let client = self.client.clone();
        let key = self.key_of(intent);
        self.tasks.spawn(async move {
            let result = carry_out(&client, act, &key).await.map_err(refusal);
            Event::Acted { intent, result }
        });
    }

    /// Waits for the next event. Dropping the wait loses nothing.
    pub(crate) async fn next(&mut self) -> Event {
        match self.tasks.join_next().await {
            Some(Ok(event)) => event,
            Some(Err(error)) => match error.try_into_panic() {
                Ok(panic) => std::panic::resume_unwind(panic),
                Err(_) => Event::Terminate,
            },
            None => std::future::pending().await,
        }
    }

    fn key_of(&mut self, intent: u64) -> IdempotencyKey {
        let key = match self.key.take() {
            Some((last, key)) if last == intent => key,
            _ => IdempotencyKey::generate(),
        };
        self.key = Some((intent, key.clone()));
        key
    }
}

/// What the token may not see, or what is not there, is simply not shown.
fn visible<T>(answer: Result<T, ClientError>) -> Result<Option<T>, ClientError> {
    match answer {
        Ok(seen) => Ok(Some(seen)),
        Err(error) if is_lasting_problem(&error) => Ok(None),
        Err(error) => Err(error),
    }
}

/// A tab that the server refuses is told in the tab; the rest of the run can still be shown.
fn told(content: Result<Content, ClientError>) -> Result<Content, ClientError> {
    match content {
        Err(error) if is_lasting_problem(&error) => Ok(Content::Refused(error.to_string())),
        other => other,
    }
}

/// A part of an answer that the server refuses is told in its place; the others can still be shown.
fn part<T>(answer: Result<T, ClientError>) -> Result<Part<T>, ClientError> {
    match answer {
        Ok(seen) => Ok(Ok(seen)),
        Err(error) if is_lasting_problem(&error) => Ok(Err(error.to_string())),
        Err(error) => Err(error),
    }
}

fn is_lasting_problem(error: &ClientError) -> bool {
    error
        .problem()
        .is_some_and(|problem| !problem.retryable && problem.status < 500)
}

fn refusal(error: ClientError) -> Refusal {
    let (reached, retryable) = (error.problem().is_some(), error.is_retryable());
    let told = error.to_string();
    let cause = anyhow::Error::from(error).root_cause().to_string();
    // What lies between the two says how the request was sent, which helps nobody here.
    let words = if cause == told {
        told
    } else {
        format!("{told}: {cause}")
    };
    Refusal {
        reached,
        retryable,
        words,
    }
}

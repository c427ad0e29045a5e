//! The only place that awaits the server: questions and acts go out, events come back.

use crate::clock;
use crate::detail::Tab;
use crate::event::{Act, Answer, Content, Done, Event, Refusal, Request, RunAnswer, ScheduleVerb};
use tenure_client::{
    ActOnSchedule, Client, ClientError, IdempotencyKey, MailFilter, ScheduleFilter, SendSignal,
    Tenant, TestClock,
};
use tokio::task::JoinSet;
use uuid::Uuid;

/// Mails asked for at once.
const MAILS: u32 = 100;
/// Schedules asked for at once: the most that the server gives.
const SCHEDULES: u32 = 200;

/// Carries out what `update` wants.
pub(crate) struct Backend {
    client: Client,
    tasks: JoinSet<Event>,
    /// The key of the last intent: sent again, it is the same wish.
    key: Option<(u64, IdempotencyKey)>,
}

impl Backend {
    /// A backend that speaks through `client`.
    pub(crate) fn new(client: Client) -> Self {
        Self {
            client,
            tasks: JoinSet::new(),
            key: None,
        }
    }

    /// Asks a question; the answer comes as an event.
    pub(crate) fn ask(&mut self, generation: u64, request: Request) {
        let client = self.client.clone();
        self.tasks.spawn(async move {
            let answer = match ask(&client, request).await {
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

async fn ask(client: &Client, request: Request) -> Result<Answer, ClientError> {
    Ok(match request {
        Request::Runs(filter) => Answer::Runs(client.list_runs(&filter).await?),
        Request::Mails => {
            let filter = MailFilter {
                cursor: None,
                limit: Some(MAILS),
            };
            Answer::Mails(client.list_mails(&filter).await?.items)
        }
        Request::Schedules(chosen) => {
            let filter = ScheduleFilter {
                limit: Some(SCHEDULES),
                ..ScheduleFilter::default()
            };
            let chosen = async {
                match chosen {
                    // One that was taken away meanwhile is simply not there.
                    Some(schedule_id) => visible(client.schedule(schedule_id).await),
                    None => Ok(None),
                }
            };
            let (all, chosen) = tokio::try_join!(client.list_schedules(&filter), chosen)?;
            Answer::Schedules(all.items, chosen.map(Box::new))
        }
        Request::Run {
            run_id,
            tenant_id,
            tab,
            tenant,
        } => {
            let (run, around, content) = tokio::join!(
                client.run(run_id),
                surroundings(client, tenant_id, tenant),
                content(client, run_id, tenant_id, tab),
            );
            let (tenant, clock) = around?;
            let content = told(content)?;
            Answer::Run(Box::new(RunAnswer {
                run: run?,
                tenant,
                clock,
                content,
            }))
        }
    })
}

/// The tenant and its test clock, as far as the token may see them.
async fn surroundings(
    client: &Client,
    tenant_id: Uuid,
    known: Option<Box<Tenant>>,
) -> Result<(Option<Tenant>, Option<TestClock>), ClientError> {
    let tenant = match known {
        Some(tenant) => Some(*tenant),
        None => visible(client.tenant(tenant_id).await)?,
    };
    let clock = match tenant.as_ref().and_then(|tenant| tenant.test_clock_id) {
        Some(test_clock_id) => visible(client.test_clock(test_clock_id).await)?,
        None => None,
    };
    Ok((tenant, clock))
}

async fn content(
    client: &Client,
    run_id: Uuid,
    tenant_id: Uuid,
    tab: Tab,
) -> Result<Content, ClientError> {
    Ok(match tab {
        Tab::Timeline => {
            let (transitions, steps) =
                tokio::try_join!(client.list_transitions(run_id), client.list_steps(run_id))?;
            Content::Timeline(transitions, steps)
        }
        Tab::Data => Content::Data,
        Tab::Steps => Content::Steps(client.list_steps(run_id).await?),
        Tab::Signals => Content::Signals(client.list_signals(run_id).await?),
        Tab::Mails => Content::Mails(client.list_tenant_mails(tenant_id).await?),
    })
}

async fn carry_out(client: &Client, act: Act, key: &IdempotencyKey) -> Result<Done, ClientError> {
    match act {
        Act::Signal {
            run_id,
            signal,
            reason,
        } => {
            let id = format!("console-{}", key.as_str());
            let body = SendSignal {
                id,
                name: None,
                signal,
                reason: Some(reason),
            };
            let accepted = client.send_signal(run_id, &body, key).await?;
            Ok(Done::Did(format!(
                "The signal is in the run's inbox ({}).",
                accepted.signal_id
            )))
        }
        Act::Schedule {
            schedule_id,
            verb,
            body,
        } => {
            let words = act_on_schedule(client, schedule_id, verb, &body, key).await?;
            Ok(Done::Did(words))
        }
        Act::Verb { run_id, verb, body } => {
            let accepted = client.act_on_run(run_id, &verb, &body, key).await?;
            Ok(if accepted.dry_run {
                Done::Would(Box::new(accepted))
            } else {
                Done::Did(format!("Done: {verb}. {}", accepted.effects.join(" ")))
            })
        }
    }
}

async fn act_on_schedule(
    client: &Client,
    schedule_id: Uuid,
    verb: ScheduleVerb,
    body: &ActOnSchedule,
    key: &IdempotencyKey,
) -> Result<String, ClientError> {
    Ok(match verb {
        ScheduleVerb::Pause => {
            let paused = client.pause_schedule(schedule_id, body, key).await?;
            format!("Schedule {} is paused.", paused.name)
        }
        ScheduleVerb::Resume => {
            let resumed = client.resume_schedule(schedule_id, body, key).await?;
            format!("Schedule {} goes on.", resumed.name)
        }
        ScheduleVerb::RunNow => {
            let started = client.run_schedule_now(schedule_id, body, key).await?;
            format!("Run {} starts.", started.run_id)
        }
        ScheduleVerb::Delete => {
            client.delete_schedule(schedule_id, body, key).await?;
            "The schedule is gone; its runs stay.".to_owned()
        }
    })
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

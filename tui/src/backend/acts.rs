//! Acts: each is one call, and how it went in words.

use super::{billing, life};
use crate::deeds::retention::{held, words};
use crate::event::{Act, BulkAct, Done, Door, FlowAct, KeysAct, RetentionAct, ScheduleVerb};
use serde_json::Value;
use tenure_client::{
    ActOnSchedule, Client, ClientError, IdempotencyKey, RevealField, RewrapKeys, Schedule,
    SendSignal,
};
use uuid::Uuid;

/// Keys that one call wraps anew: the most that the server takes.
const REWRAPPED: u32 = 1_000;

/// Carries out an act, or asks what it would do.
pub(super) async fn carry_out(
    client: &Client,
    act: Act,
    key: &IdempotencyKey,
) -> Result<Done, ClientError> {
    match act {
        Act::Signal {
            run_id,
            signal,
            reason,
        } => signal_run(client, run_id, signal, reason, key)
            .await
            .map(Done::Did),
        Act::Reveal {
            run_id,
            field,
            reason,
        } => reveal(client, run_id, RevealField { field, reason }).await,
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
            let words = || format!("Done: {verb}. {}", accepted.effects.join(" "));
            Ok(match accepted.started_run_id {
                _ if accepted.dry_run => Done::Would(Box::new(accepted)),
                Some(started) => Done::Opens(words(), Door::Run(started)),
                None => Done::Did(words()),
            })
        }
        Act::Start(run) => {
            let started = client.start_run(&run, key).await?.summary;
            let words = format!("Run {} of {} is here.", started.key, started.workflow);
            Ok(Done::Opens(words, Door::Run(started.run_id)))
        }
        Act::MakeSchedule(schedule) => {
            let made = client.create_schedule(&schedule, key).await?;
            let words = format!("Schedule {} is made: {}.", made.name, next(&made));
            Ok(Done::Did(words))
        }
        Act::ChangeSchedule { schedule_id, body } => {
            let set = client.change_schedule(schedule_id, &body, key).await?;
            let words = format!("Schedule {} is changed: {}.", set.name, next(&set));
            Ok(Done::Did(words))
        }
        Act::Flow(act) => change_flow(client, act, key).await.map(Done::Did),
        Act::Bulk(act) => act_on_many(client, act, key).await,
        Act::Retention(act) => decide(client, act, key).await.map(Done::Did),
        Act::Billing {
            tenant_id,
            act,
            dry_run,
        } => billing::change(client, tenant_id, act, dry_run, key).await,
        Act::Keys { tenant_id, act } => change_keys(client, tenant_id, act, key)
            .await
            .map(Done::Did),
        Act::RewrapKeys(reason) => rewrap_keys(client, reason).await.map(Done::Did),
        Act::Life { act, dry_run } => life::act(client, act, dry_run, key).await,
    }
}

async fn signal_run(
    client: &Client,
    run_id: Uuid,
    signal: Value,
    reason: String,
    key: &IdempotencyKey,
) -> Result<String, ClientError> {
    let body = SendSignal {
        id: format!("console-{}", key.as_str()),
        name: None,
        signal,
        reason: Some(reason),
    };
    let accepted = client.send_signal(run_id, &body, key).await?;
    let id = accepted.signal_id;
    Ok(format!("The signal is in the run's inbox ({id})."))
}

async fn reveal(client: &Client, run_id: Uuid, asked: RevealField) -> Result<Done, ClientError> {
    let shown = client.reveal_field(run_id, &asked).await?;
    Ok(Done::Shows {
        run_id,
        field: shown.field,
        value: shown.value,
    })
}

async fn change_flow(
    client: &Client,
    act: FlowAct,
    key: &IdempotencyKey,
) -> Result<String, ClientError> {
    Ok(match act {
        FlowAct::SetLimit(name, body) => {
            let set = client.set_limit(&name, &body, key).await?;
            format!("Limit {} has its new numbers.", set.name)
        }
        FlowAct::Pause(body) => {
            client.pause_scope(&body, key).await?;
            format!("The {} {} is paused.", body.scope.as_str(), body.name)
        }
        FlowAct::Lift(body) => {
            client.lift_pause(&body, key).await?;
            format!("The {} {} goes on.", body.scope.as_str(), body.name)
        }
        FlowAct::OpenBreaker(name, body) => {
            let held = client.open_breaker(&name, &body, key).await?;
            format!("Breaker {} is held open.", held.name)
        }
        FlowAct::CloseBreaker(name, body) => {
            let closed = client.close_breaker(&name, &body, key).await?;
            format!("Breaker {} is closed.", closed.name)
        }
        FlowAct::SetWeight(body) => {
            client.set_weight(&body, key).await?;
            format!("The tenant weighs {} now.", body.weight)
        }
    })
}

async fn act_on_many(
    client: &Client,
    act: BulkAct,
    key: &IdempotencyKey,
) -> Result<Done, ClientError> {
    Ok(match act {
        BulkAct::Prepare(body) => {
            let made = client.prepare_bulk(&body, key).await?;
            let words = format!(
                "{} runs are selected; nothing was done to them yet.",
                made.selected
            );
            Done::Opens(words, Door::Bulk(Box::new(made)))
        }
        BulkAct::Confirm(id, body) => {
            let begun = client.confirm_bulk(id, &body, key).await?;
            Done::Did(format!(
                "{} runs are acted on: {}.",
                begun.selected, begun.verb
            ))
        }
        BulkAct::Abort(id, body) => {
            let ended = client.abort_bulk(id, &body, key).await?;
            Done::Did(format!("It ends; {} runs were acted on.", ended.done))
        }
    })
}

async fn decide(
    client: &Client,
    act: RetentionAct,
    key: &IdempotencyKey,
) -> Result<String, ClientError> {
    Ok(match act {
        RetentionAct::Put(workflow, body) => {
            let put = client.put_retention(&workflow, &body, key).await?;
            let kept = words(put.action, put.keep_days);
            format!("Finished runs of {} are {kept}.", put.workflow)
        }
        RetentionAct::Place(body) => {
            let placed = client.place_legal_hold(&body, key).await?;
            format!("Nothing of {} is dropped now.", held(&placed))
        }
        RetentionAct::Lift(id, body) => {
            let lifted = client.lift_legal_hold(id, &body, key).await?;
            format!("The hold on {} is lifted.", held(&lifted))
        }
    })
}

async fn change_keys(
    client: &Client,
    tenant_id: Uuid,
    act: KeysAct,
    key: &IdempotencyKey,
) -> Result<String, ClientError> {
    Ok(match act {
        KeysAct::Rotate(body) => {
            let keys = client.rotate_key(tenant_id, &body, key).await?;
            let newest = keys.last().map_or(0, |key| key.version);
            format!("Version {newest} of the key seals in two minutes.")
        }
        KeysAct::Destroy(body) => {
            client.destroy_keys(tenant_id, &body, key).await?;
            "The keys are destroyed.".to_owned()
        }
    })
}

/// Wraps keys anew until none is left. Each call is a wish of its own: what it comes to hangs on what
/// is left, and one that is sent once more only does less.
async fn rewrap_keys(client: &Client, reason: String) -> Result<String, ClientError> {
    let asked = RewrapKeys {
        limit: REWRAPPED,
        reason,
    };
    let mut total = 0;
    loop {
        let key = IdempotencyKey::generate();
        let done = client.rewrap_keys(&asked, &key).await?;
        total += done.rewrapped;
        if done.rewrapped == 0 {
            return Ok(format!("{total} keys are wrapped anew; none is left."));
        }
    }
}

/// When a schedule comes about next, in words.
fn next(schedule: &Schedule) -> String {
    match schedule.next_slot {
        Some(at) => format!("next {}", at.format("%a %d %b %Y %H:%M UTC")),
        None if schedule.paused => "it is paused".to_owned(),
        None => "no slot ever comes".to_owned(),
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

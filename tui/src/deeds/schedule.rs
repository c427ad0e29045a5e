//! Schedules that are there: the verbs that the server describes, and a change of what is set, which
//! takes a form of its own.

use super::start::rules;
use super::{Deed, Preview};
use crate::event::{Act, ScheduleVerb};
use crate::form::Form;
use crate::subject::{Offer, Subject, Target};
use serde_json::Value;
use tenure_client::{
    ActOnSchedule, CatchUpPolicy, ChangeSchedule, OverlapPolicy, Schedule, ScheduleDetail,
};

/// The verb that sets it otherwise.
const CHANGE: &str = "change";
/// The same in the server's word.
const UPDATE: &str = "update";

/// What can be done to a schedule of somebody.
pub(crate) fn offers(found: &ScheduleDetail, owner: &str) -> Vec<Offer> {
    let schedule = &found.schedule;
    let target = Target::Schedule(Box::new(schedule.clone()));
    let subject = Subject::new(target, format!("schedule {} of {owner}", schedule.name));
    let verbs = found.allowed_actions.iter();
    let known = verbs
        .clone()
        .filter(|action| ScheduleVerb::parse(&action.action).is_some());
    let known = known.map(|action| Offer::of_server(action, &subject, None));
    let change = verbs.filter(|action| action.action == UPDATE);
    let change = change.map(|action| Offer {
        form: change_form(schedule, &action.help),
        ..Offer::of_server(action, &subject, None)
    });
    known.chain(change).collect()
}

/// The form of a change, which begins with what is set.
fn change_form(schedule: &Schedule, help: &str) -> Form {
    let set = [
        schedule.input.to_string(),
        schedule.cron.clone(),
        schedule.zone.clone(),
        schedule.overlap.as_str().to_owned(),
        schedule.catch_up.as_str().to_owned(),
        schedule.jitter_seconds.to_string(),
    ];
    let args = rules().into_iter().zip(set);
    let args = args.map(|(arg, set)| arg.begins(set));
    Form::new(CHANGE, help, args.collect())
}

pub(super) fn act(deed: &Deed<'_>, schedule: &Schedule) -> Result<Act, String> {
    if deed.verb == CHANGE {
        return change(deed, schedule);
    }
    Ok(Act::Schedule {
        schedule_id: schedule.schedule_id,
        verb: ScheduleVerb::parse(deed.verb).ok_or_else(|| deed.unknown())?,
        body: ActOnSchedule {
            reason: deed.why(),
            revision: schedule.revision,
        },
    })
}

/// What is set otherwise than it is; the rest stays as it may be by then.
fn change(deed: &Deed<'_>, schedule: &Schedule) -> Result<Act, String> {
    let values = deed.values;
    let overlap = OverlapPolicy::parse(&values.text("overlap"));
    let overlap = overlap.ok_or("overlap: it is needed")?;
    let catch_up = CatchUpPolicy::parse(&values.text("catch_up"));
    let catch_up = catch_up.ok_or("catch_up: it is needed")?;
    let jitter: i32 = values.number("jitter_seconds")?.unwrap_or_default();
    let (cron, zone) = (values.text("cron"), values.text("zone"));
    let unchanged = ChangeSchedule {
        reason: deed.why(),
        revision: schedule.revision,
        ..ChangeSchedule::default()
    };
    let body = ChangeSchedule {
        input: Some(input(deed)).filter(|input| *input != schedule.input),
        cron: (cron != schedule.cron).then_some(cron),
        zone: (zone != schedule.zone).then_some(zone),
        overlap: (overlap != schedule.overlap).then_some(overlap),
        catch_up: (catch_up != schedule.catch_up).then_some(catch_up),
        jitter_seconds: (jitter != schedule.jitter_seconds).then_some(jitter),
        ..unchanged.clone()
    };
    if body == unchanged {
        return Err("all of it is set so already: change something first".to_owned());
    }
    Ok(Act::ChangeSchedule {
        schedule_id: schedule.schedule_id,
        body: Box::new(body),
    })
}

fn input(deed: &Deed<'_>) -> Value {
    deed.values.json("input").unwrap_or_default()
}

pub(super) fn preview(deed: &Deed<'_>, schedule: &Schedule, help: &str) -> Preview {
    if deed.verb != CHANGE {
        return Preview::words([help]);
    }
    let values = deed.values;
    let (cron, zone) = (values.text("cron"), values.text("zone"));
    let jitter = values.text_of("jitter_seconds");
    let counts = if (&cron, &zone) == (&schedule.cron, &schedule.zone) {
        "It counts from the next slot on; its runs go on as they are."
    } else {
        "Its next slot is the first after now; its runs go on as they are."
    };
    let (overlap, catch_up) = (schedule.overlap.as_str(), schedule.catch_up.as_str());
    Preview::words([counts])
        .changes("input", schedule.input.to_string(), input(deed).to_string())
        .changes("cron", schedule.cron.clone(), cron)
        .changes("zone", schedule.zone.clone(), zone)
        .changes("overlap", overlap.to_owned(), values.text("overlap"))
        .changes("catch_up", catch_up.to_owned(), values.text("catch_up"))
        .changes(
            "jitter_seconds",
            schedule.jitter_seconds.to_string(),
            jitter,
        )
}

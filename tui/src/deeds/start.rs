//! Runs and schedules that are not there yet.

use super::{Deed, Preview};
use crate::event::Act;
use crate::form::{Arg, Form, Kind, Values};
use crate::subject::{Needs, Offer, Subject, Target};
use tenure_client::{
    CatchUpPolicy, GatherStarts, NewSchedule, OverlapPolicy, Role, RunPriority, StartRun, Whoami,
};
use uuid::Uuid;

/// The verb that starts a run.
pub(crate) const START: &str = "start";
/// The verb that makes a schedule.
pub(crate) const CREATE: &str = "create";
const NEEDS: Needs = Needs::role(Role::Operator);
/// The fields that let many starts of a key become one run.
const DEBOUNCE: &str = "debounce_seconds";
const BATCH: &str = "batch_size";
const AT_MOST: &str = "at_most_seconds";
/// The most inputs of a batch.
const BATCH_MAX: i64 = 1_000;
/// The longest that starts are gathered: thirty days.
const GATHERING_SECONDS_MAX: i64 = 30 * 86_400;

/// To start a run, of a tenant and a workflow where one is at hand.
pub(crate) fn offer_run(
    who: &Whoami,
    tenant: Option<(Uuid, &str)>,
    workflow: Option<&str>,
) -> Offer {
    let title = tenant.map_or_else(
        || "a new run".to_owned(),
        |(_, name)| format!("a new run of {name}"),
    );
    let priorities = RunPriority::ALL.map(|one| one.as_str().to_owned()).to_vec();
    let args = vec![
        Arg::needed("workflow", Kind::Workflow).begins(workflow.unwrap_or_default()),
        tenant_arg(tenant),
        Arg::needed("key", Kind::Text),
        Arg::needed("input", Kind::Json),
        Arg::optional("priority", Kind::Choice(priorities)),
        Arg::optional("start_at", Kind::Time),
        Arg::optional(DEBOUNCE, Kind::Between(1, GATHERING_SECONDS_MAX)),
        Arg::optional(BATCH, Kind::Between(2, BATCH_MAX)),
        Arg::optional(AT_MOST, Kind::Between(1, GATHERING_SECONDS_MAX)),
    ];
    let help = "Starts a run. A key that the tenant's workflow had before finds that run instead.";
    let form = Form {
        reason: false,
        ..Form::new(START, help, args)
    };
    Offer::of_role(form, &Subject::new(Target::NewRun, title), who, NEEDS)
}

/// To make a schedule.
pub(crate) fn offer_schedule(who: &Whoami, tenant: Option<(Uuid, &str)>) -> Offer {
    let title = tenant.map_or_else(
        || "a new schedule".to_owned(),
        |(_, name)| format!("a new schedule of {name}"),
    );
    let mut args = vec![
        Arg::needed("name", Kind::Text),
        Arg::needed("workflow", Kind::Workflow),
        tenant_arg(tenant),
    ];
    args.extend(rules());
    let help = "Makes a schedule, whose slots start runs. Its first slot is the first after now.";
    let subject = Subject::new(Target::NewSchedule, title);
    Offer::of_role(Form::new(CREATE, help, args), &subject, who, NEEDS)
}

/// What can be set of a schedule, then and later, with what stands there at first.
pub(super) fn rules() -> [Arg; 6] {
    let overlaps = ["skip", "queue", "allow", "replace"];
    let catch_ups = ["none", "one", "all"];
    let choice = |words: &[&str]| Kind::Choice(words.iter().map(ToString::to_string).collect());
    [
        Arg::needed("input", Kind::Json),
        Arg::needed("cron", Kind::Text),
        Arg::needed("zone", Kind::Text).begins("UTC"),
        Arg::needed("overlap", choice(&overlaps)).begins("skip"),
        Arg::needed("catch_up", choice(&catch_ups)).begins("one"),
        Arg::needed("jitter_seconds", Kind::Number(0)).begins(0),
    ]
}

fn tenant_arg(tenant: Option<(Uuid, &str)>) -> Arg {
    let begin = tenant.map(|(id, _)| id.to_string());
    Arg::needed("tenant", Kind::Id).begins(begin.unwrap_or_default())
}

pub(super) fn run(deed: &Deed<'_>) -> Result<Act, String> {
    let values = deed.values;
    Ok(Act::Start(Box::new(StartRun {
        workflow: values.text("workflow"),
        tenant_id: values.id("tenant").ok_or("tenant: it is needed")?,
        key: values.text("key"),
        input: values.json("input").unwrap_or_default(),
        priority: RunPriority::parse(&values.text("priority")),
        start_at: values.time("start_at"),
        gather: gather(values)?,
    })))
}

/// How many starts become one run, where that is asked for, or the field that is wrong.
fn gather(values: &Values) -> Result<Option<GatherStarts>, String> {
    let quiet: Option<u32> = values.number(DEBOUNCE)?;
    let size: Option<u32> = values.number(BATCH)?;
    let at_most: Option<u32> = values.number(AT_MOST)?;
    if quiet.is_none() && size.is_none() {
        return match at_most {
            Some(_) => Err(format!("{AT_MOST}: it goes with {DEBOUNCE} or {BATCH}")),
            None => Ok(None),
        };
    }
    for own in ["priority", "start_at"] {
        if values.json(own).is_some() {
            return Err(format!(
                "{own}: leave it out: starts that are gathered have their workflow's priority and a \
                 time of their own"
            ));
        }
    }
    let at_most_seconds = at_most.ok_or_else(|| {
        format!("{AT_MOST}: it is needed: the latest start, so long after the first that comes")
    })?;
    match (quiet, size) {
        (Some(_), Some(_)) => Err(format!("{BATCH}: it is this or {DEBOUNCE}, not both")),
        (Some(quiet), None) if quiet > at_most_seconds => {
            Err(format!("{AT_MOST}: it is not less than {DEBOUNCE}"))
        }
        (Some(quiet_seconds), None) => Ok(Some(GatherStarts::Debounce {
            quiet_seconds,
            at_most_seconds,
        })),
        (None, size) => Ok(size.map(|size| GatherStarts::Batch {
            size,
            at_most_seconds,
        })),
    }
}

pub(super) fn schedule(deed: &Deed<'_>) -> Result<Act, String> {
    let values = deed.values;
    let (overlap, catch_up) = (values.text("overlap"), values.text("catch_up"));
    Ok(Act::MakeSchedule(Box::new(NewSchedule {
        tenant_id: values.id("tenant").ok_or("tenant: it is needed")?,
        name: values.text("name"),
        workflow: values.text("workflow"),
        input: values.json("input").unwrap_or_default(),
        cron: values.text("cron"),
        zone: values.text("zone"),
        overlap: OverlapPolicy::parse(&overlap).ok_or("overlap: it is needed")?,
        catch_up: CatchUpPolicy::parse(&catch_up).ok_or("catch_up: it is needed")?,
        jitter_seconds: values.number("jitter_seconds")?.unwrap_or_default(),
        reason: deed.why(),
    })))
}

pub(super) fn preview_run(deed: &Deed<'_>) -> Preview {
    let values = deed.values;
    let when = values.time("start_at").map_or_else(
        || "at once".to_owned(),
        |at| {
            format!(
                "at {}, in the tenant's time",
                at.format("%d %b %Y %H:%M UTC")
            )
        },
    );
    let (workflow, key) = (values.text("workflow"), values.text("key"));
    if let Ok(Some(gather)) = gather(values) {
        return preview_gathered(&workflow, &key, &gather);
    }
    Preview::words([
        format!("A run of {workflow} with key {key} starts {when}."),
        format!("If the tenant has a run of {workflow} with that key, that one is shown instead."),
    ])
}

fn preview_gathered(workflow: &str, key: &str, gather: &GatherStarts) -> Preview {
    let starts = match gather {
        GatherStarts::Debounce {
            quiet_seconds,
            at_most_seconds,
        } => format!(
            "A run of {workflow} starts with the last input, once no other start of {key} has come \
             for {quiet_seconds} s, at the latest {at_most_seconds} s after the first."
        ),
        GatherStarts::Batch {
            size,
            at_most_seconds,
        } => format!(
            "A run of {workflow} starts with the list of all inputs, once {size} starts of {key} have \
             come, at the latest {at_most_seconds} s after the first."
        ),
    };
    let counts = "Each start counts. The run's key is this one, a slash and its id.".to_owned();
    Preview::words([starts, counts])
}

pub(super) fn preview_schedule(deed: &Deed<'_>) -> Preview {
    let values = deed.values;
    Preview::words([
        format!(
            "A run of {} starts on each slot of \"{}\", read in {}.",
            values.text("workflow"),
            values.text("cron"),
            values.text("zone")
        ),
        format!(
            "A slot while an earlier run has not ended: {}. Slots that were missed: {}.",
            values.text("overlap"),
            values.text("catch_up")
        ),
    ])
}

//! Runs and schedules that are not there yet.

use super::{Deed, Preview};
use crate::event::Act;
use crate::form::{Arg, Form, Kind};
use crate::subject::{Needs, Offer, Subject, Target};
use tenure_client::{
    CatchUpPolicy, NewSchedule, OverlapPolicy, Role, RunPriority, StartRun, Whoami,
};
use uuid::Uuid;

/// The verb that starts a run.
pub(crate) const START: &str = "start";
/// The verb that makes a schedule.
pub(crate) const CREATE: &str = "create";
const NEEDS: Needs = Needs::role(Role::Operator);

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
    let overlaps = ["skip", "queue", "allow", "replace"];
    let catch_ups = ["none", "one", "all"];
    let choice = |words: &[&str]| Kind::Choice(words.iter().map(ToString::to_string).collect());
    let args = vec![
        Arg::needed("name", Kind::Text),
        Arg::needed("workflow", Kind::Workflow),
        tenant_arg(tenant),
        Arg::needed("input", Kind::Json),
        Arg::needed("cron", Kind::Text),
        Arg::needed("zone", Kind::Text).begins("UTC"),
        Arg::needed("overlap", choice(&overlaps)).begins("skip"),
        Arg::needed("catch_up", choice(&catch_ups)).begins("one"),
        Arg::needed("jitter_seconds", Kind::Number(0)).begins(0),
    ];
    let help = "Makes a schedule, whose slots start runs. Its first slot is the first after now.";
    let subject = Subject::new(Target::NewSchedule, title);
    Offer::of_role(Form::new(CREATE, help, args), &subject, who, NEEDS)
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
        gather: None,
    })))
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
    Preview::words([
        format!("A run of {workflow} with key {key} starts {when}."),
        format!("If the tenant has a run of {workflow} with that key, that one is shown instead."),
    ])
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

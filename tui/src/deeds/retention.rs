//! How long runs are kept, and legal holds.

use super::{Deed, Preview};
use crate::event::{Act, RetentionAct};
use crate::form::{Arg, Form, Kind};
use crate::subject::{Needs, Offer, Subject, Target};
use tenure_client::{
    LegalHold, LiftLegalHold, PlaceLegalHold, PutRetention, RetentionAction, RetentionPolicy, Role,
    Whoami,
};
use uuid::Uuid;

const SET: &str = "set-policy";
const PLACE: &str = "place-hold";
const LIFT: &str = "lift-hold";
const NEEDS: Needs = Needs::all(Role::Operator);
const ACTIONS: [RetentionAction; 3] = [
    RetentionAction::Keep,
    RetentionAction::Drop,
    RetentionAction::Archive,
];

/// What can be done to what the cursor is on, and then what always can.
pub(crate) fn offers(who: &Whoami, on: Option<&Target>) -> Vec<Offer> {
    let mut offers: Vec<Offer> = on.into_iter().filter_map(|on| offer(who, on)).collect();
    let holds = Subject::new(Target::Holds, "a tenant or a run");
    offers.push(place(who, &holds, None, None));
    offers
}

/// To place a hold on a tenant or a run.
pub(crate) fn place(
    who: &Whoami,
    subject: &Subject,
    tenant: Option<Uuid>,
    run: Option<Uuid>,
) -> Offer {
    let help =
        "Places a legal hold on a tenant or a run: nothing of it is dropped while it stands.";
    let filled = |name: &str, id: Option<Uuid>| {
        let id = id.map(|id| id.to_string());
        Arg::optional(name, Kind::Id).begins(id.unwrap_or_default())
    };
    let args = vec![filled("tenant", tenant), filled("run", run)];
    Offer::of_role(Form::new(PLACE, help, args), subject, who, NEEDS)
}

/// What can be done to a policy or a hold.
pub(crate) fn offer(who: &Whoami, on: &Target) -> Option<Offer> {
    let (form, title) = match on {
        Target::Policy(policy) => (form(policy), format!("runs of {}", policy.workflow)),
        Target::Hold(hold) => {
            let help = "Lifts the hold. What is past its time by then goes within hours.";
            (
                Form::new(LIFT, help, Vec::new()),
                format!("hold on {}", held(hold)),
            )
        }
        _ => return None,
    };
    let subject = Subject::new(on.clone(), title);
    Some(Offer::of_role(form, &subject, who, NEEDS))
}

/// What a hold keeps, in words.
pub(crate) fn held(hold: &LegalHold) -> String {
    match hold.run_id {
        Some(run) => format!("run {run}"),
        None => format!("tenant {}", hold.tenant_id),
    }
}

/// A policy in words.
pub(crate) fn words(action: RetentionAction, keep_days: Option<u32>) -> String {
    match (action, keep_days) {
        (RetentionAction::Drop, Some(days)) => format!("dropped after {days} days"),
        (RetentionAction::Archive, Some(days)) => format!("archived after {days} days"),
        (RetentionAction::Keep, _) => "kept for ever".to_owned(),
        (other, _) => other.as_str().to_owned(),
    }
}

fn form(policy: &RetentionPolicy) -> Form {
    let help = "Decides how long the workflow's finished runs are kept, over what its code says.";
    let actions = ACTIONS.map(|action| action.as_str().to_owned()).to_vec();
    let days = policy.keep_days.map(|days| days.to_string());
    let args = vec![
        Arg::needed("action", Kind::Choice(actions)).begins(policy.action.as_str()),
        Arg::optional("keep_days", Kind::Number(1)).begins(days.unwrap_or_default()),
    ];
    Form::new(SET, help, args)
}

fn asked(deed: &Deed<'_>) -> Result<(RetentionAction, Option<u32>), String> {
    let word = deed.values.text("action");
    let action = ACTIONS.into_iter().find(|action| action.as_str() == word);
    let action = action.ok_or("action: it is needed")?;
    let days = deed.values.number("keep_days")?;
    match (action, days) {
        (RetentionAction::Keep, Some(_)) => {
            Err("keep_days: leave it empty to keep for ever".into())
        }
        (RetentionAction::Drop | RetentionAction::Archive, None) => {
            Err("keep_days: after how many days?".into())
        }
        _ => Ok((action, days)),
    }
}

pub(super) fn act(deed: &Deed<'_>) -> Result<Act, String> {
    let reason = deed.why();
    let act = match (deed.verb, &deed.subject.target) {
        (SET, Target::Policy(policy)) => {
            let (action, keep_days) = asked(deed)?;
            let put = PutRetention {
                action,
                keep_days,
                reason,
            };
            RetentionAct::Put(policy.workflow.clone(), put)
        }
        (PLACE, _) => {
            let (tenant_id, run_id) = (deed.values.id("tenant"), deed.values.id("run"));
            if tenant_id.is_some() == run_id.is_some() {
                return Err("either a tenant or a run: leave the other empty".to_owned());
            }
            RetentionAct::Place(PlaceLegalHold {
                tenant_id,
                run_id,
                reason,
            })
        }
        (LIFT, Target::Hold(hold)) => RetentionAct::Lift(hold.hold_id, LiftLegalHold { reason }),
        _ => return Err(deed.unknown()),
    };
    Ok(Act::Retention(act))
}

pub(super) fn preview(deed: &Deed<'_>) -> Preview {
    const SOON: &str = "What is past its time by then goes within hours, and does not come back.";
    match (deed.verb, &deed.subject.target) {
        (SET, Target::Policy(policy)) => {
            let Ok((action, days)) = asked(deed) else {
                return Preview::default();
            };
            let before = words(policy.action, policy.keep_days);
            let goes = action != RetentionAction::Keep;
            let effects = goes.then_some(SOON);
            Preview::words(effects).changes("finished runs", before, words(action, days))
        }
        (LIFT, Target::Hold(hold)) => Preview::words([
            format!(
                "{} is no longer held since {}.",
                held(hold),
                hold.since.format("%d %b %Y")
            ),
            SOON.to_owned(),
        ]),
        _ => {
            let (tenant, run) = (deed.values.id("tenant"), deed.values.id("run"));
            let what = run.map(|run| format!("run {run}"));
            let tenant = || format!("tenant {}", tenant.unwrap_or_default());
            Preview::words([format!(
                "From now on nothing of {} is dropped, whatever its age, until the hold is lifted.",
                what.unwrap_or_else(tenant)
            )])
        }
    }
}

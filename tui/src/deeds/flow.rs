//! Limits, pauses of more than one run, breakers, weights.

use super::{Deed, Preview};
use crate::event::{Act, FlowAct};
use crate::form::{Arg, Form, Kind};
use crate::subject::{Needs, Offer, Subject, Target};
use crate::time;
use tenure_client::{
    ActOnBreaker, ActOnPause, FlowLimit, FlowRate, PauseScope, Role, SetFlowLimit, SetTenantWeight,
    Whoami,
};
use uuid::Uuid;

const SET_LIMIT: &str = "set-limit";
const PAUSE: &str = "pause";
const LIFT: &str = "lift-pause";
const OPEN: &str = "open-breaker";
const CLOSE: &str = "close-breaker";
const WEIGH: &str = "set-weight";
const NEEDS: Needs = Needs::all(Role::Operator);

/// What can be done to what the cursor is on, and then what always can.
pub(crate) fn offers(who: &Whoami, on: Option<&Target>, tenant: Option<Uuid>) -> Vec<Offer> {
    let mut offers = Vec::new();
    match on {
        Some(Target::Limit(limit)) => {
            let subject = subject(on);
            offers.push(Offer::of_role(limit_form(limit), &subject, who, NEEDS));
        }
        Some(Target::Pause(_)) => {
            let help = "Lifts the pause: what was blocked under it goes on.";
            let form = Form::new(LIFT, help, Vec::new());
            offers.push(Offer::of_role(form, &subject(on), who, NEEDS));
        }
        Some(Target::Breaker(breaker)) => {
            let close = Form::new(CLOSE, CLOSE_HELP, Vec::new());
            let open = Form::new(OPEN, OPEN_HELP, Vec::new());
            let closed = breaker.state == "closed" && !breaker.forced;
            let close = Offer::of_role(close, &subject(on), who, NEEDS);
            offers.push(close.unless(closed, "it is closed"));
            let open = Offer::of_role(open, &subject(on), who, NEEDS);
            offers.push(open.unless(breaker.forced, "it is held open already"));
        }
        Some(Target::Weight(weight)) => {
            let form = weight_form(Some(weight.tenant_id));
            offers.push(Offer::of_role(form, &subject(on), who, NEEDS));
        }
        _ => {}
    }
    let flow = Subject::new(Target::Flow, "what flows");
    let breaker = vec![Arg::needed("name", Kind::Text)];
    let mut forms = vec![pause_form(tenant)];
    if !matches!(on, Some(Target::Weight(_))) {
        forms.push(weight_form(tenant));
    }
    if !matches!(on, Some(Target::Breaker(_))) {
        forms.push(Form::new(OPEN, OPEN_HELP, breaker));
    }
    offers.extend(
        forms
            .into_iter()
            .map(|form| Offer::of_role(form, &flow, who, NEEDS)),
    );
    offers
}

/// What can be done to a tenant's share of the engine.
pub(crate) fn offers_on_tenant(who: &Whoami, tenant: Uuid, name: &str) -> Vec<Offer> {
    let subject = Subject::new(Target::Flow, name);
    let forms = [pause_form(Some(tenant)), weight_form(Some(tenant))];
    let offers = forms.into_iter();
    offers
        .map(|form| Offer::of_role(form, &subject, who, NEEDS))
        .collect()
}

const OPEN_HELP: &str =
    "Holds the breaker of an outside dependency open: its steps wait until it is closed by hand.";
const CLOSE_HELP: &str = "Closes the breaker: who waits for the dependency goes on.";

fn subject(on: Option<&Target>) -> Subject {
    let title = match on {
        Some(Target::Limit(limit)) => format!("limit {}", limit.name),
        Some(Target::Pause(pause)) => {
            format!("pause of {} {}", pause.scope.as_str(), pause.name)
        }
        Some(Target::Breaker(breaker)) => format!("breaker {}", breaker.name),
        Some(Target::Weight(weight)) => format!("weight of tenant {}", weight.tenant_id),
        _ => "what flows".to_owned(),
    };
    Subject::new(on.cloned().unwrap_or(Target::Flow), title)
}

fn limit_form(limit: &FlowLimit) -> Form {
    let help = "Sets its numbers, also for who waits. What is left empty is not bounded any more.";
    let filled = |name: &str, least: i64, number: Option<u32>| {
        let number = number.map(|number| number.to_string());
        Arg::optional(name, Kind::Number(least)).begins(number.unwrap_or_default())
    };
    let rate = limit.rate;
    let args = vec![
        filled("concurrency", 0, limit.concurrency),
        filled("rate", 1, rate.map(|rate| rate.count)),
        filled("per_seconds", 1, rate.map(|rate| rate.period_seconds)),
        filled("burst", 1, rate.map(|rate| rate.burst)),
    ];
    Form::new(SET_LIMIT, help, args)
}

fn pause_form(tenant: Option<Uuid>) -> Form {
    let help = "Pauses a workflow, a queue or a tenant (by its id): what becomes due is blocked.";
    let scopes = ["workflow", "queue", "tenant"].map(str::to_owned).to_vec();
    let scope = tenant.map_or("", |_| "tenant");
    let name = tenant.map(|tenant| tenant.to_string());
    let args = vec![
        Arg::needed("scope", Kind::Choice(scopes)).begins(scope),
        Arg::needed("name", Kind::Text).begins(name.unwrap_or_default()),
    ];
    Form::new(PAUSE, help, args)
}

fn weight_form(tenant: Option<Uuid>) -> Form {
    let help = "Gives a tenant more turns than others when all have work due, or as many again.";
    let tenant = tenant.map(|tenant| tenant.to_string());
    let args = vec![
        Arg::needed("tenant", Kind::Id).begins(tenant.unwrap_or_default()),
        Arg::needed("weight", Kind::Number(1)),
    ];
    Form::new(WEIGH, help, args)
}

pub(super) fn act(deed: &Deed<'_>) -> Result<Act, String> {
    let values = deed.values;
    let on = match &deed.subject.target {
        Target::Breaker(breaker) => Some(breaker),
        _ => None,
    };
    let breaker = ActOnBreaker {
        reason: deed.why(),
        seen: on.map(|breaker| breaker.seen()),
    };
    let named = || on.map_or_else(|| values.text("name"), |breaker| breaker.name.clone());
    let act = match (deed.verb, &deed.subject.target) {
        (SET_LIMIT, Target::Limit(limit)) => FlowAct::SetLimit(
            limit.name.clone(),
            SetFlowLimit {
                concurrency: values.number("concurrency")?,
                rate: rate(deed)?,
                reason: deed.why(),
                seen: Some(limit.seen()),
            },
        ),
        (LIFT, Target::Pause(pause)) => FlowAct::Lift(ActOnPause {
            scope: pause.scope,
            name: pause.name.clone(),
            reason: deed.why(),
            seen: Some(pause.seen()),
        }),
        (OPEN, _) => FlowAct::OpenBreaker(named(), breaker),
        (CLOSE, Target::Breaker(_)) => FlowAct::CloseBreaker(named(), breaker),
        (PAUSE, _) => FlowAct::Pause(ActOnPause {
            scope: PauseScope::parse(&values.text("scope")).ok_or("scope: it is needed")?,
            name: values.text("name"),
            reason: deed.why(),
            seen: None,
        }),
        (WEIGH, target) => {
            let tenant_id = values.id("tenant").ok_or("tenant: it is needed")?;
            // The form may have been turned to another tenant.
            let seen = match target {
                Target::Weight(one) if one.tenant_id == tenant_id => Some(one.weight),
                _ => None,
            };
            FlowAct::SetWeight(SetTenantWeight {
                tenant_id,
                weight: values.number("weight")?.ok_or("weight: it is needed")?,
                reason: deed.why(),
                seen,
            })
        }
        _ => return Err(deed.unknown()),
    };
    Ok(Act::Flow(act))
}

/// What is sent along as it was seen, so that the server refuses to overwrite anything else; nothing
/// where an act hangs on nothing.
pub(crate) fn seen(target: &Target) -> Option<String> {
    match target {
        Target::Limit(limit) => {
            let once = limit.concurrency.map(|most| format!("{most} at once"));
            let rate = limit.rate.map(|rate| rate_words(Some(rate)));
            let bounds: Vec<_> = once.into_iter().chain(rate).collect();
            Some(match bounds.as_slice() {
                [] => "not bounded".to_owned(),
                bounds => bounds.join(", "),
            })
        }
        Target::Pause(pause) => {
            let (by, since) = (&pause.paused_by, time::stamp(pause.since));
            Some(format!("by {by}, {since}: {}", pause.reason))
        }
        Target::Breaker(breaker) => {
            let held = if breaker.forced { ", held open" } else { "" };
            let by = breaker.changed_by.as_deref().unwrap_or("steps");
            Some(format!("{}{held}, by {by}", breaker.state))
        }
        Target::Weight(weight) => Some(weight.weight.to_string()),
        _ => None,
    }
}

/// All three numbers of a rate, or none.
fn rate(deed: &Deed<'_>) -> Result<Option<FlowRate>, String> {
    let numbers = (
        deed.values.number("rate")?,
        deed.values.number("per_seconds")?,
        deed.values.number("burst")?,
    );
    match numbers {
        (None, None, None) => Ok(None),
        (Some(count), Some(period_seconds), burst) => Ok(Some(FlowRate {
            count,
            period_seconds,
            burst: burst.unwrap_or(count),
        })),
        _ => {
            Err("rate: it takes rate and per_seconds, and burst where it is another number".into())
        }
    }
}

pub(super) fn preview(deed: &Deed<'_>) -> Preview {
    let values = deed.values;
    match (deed.verb, &deed.subject.target) {
        (SET_LIMIT, Target::Limit(limit)) => preview_limit(deed, limit),
        (LIFT, Target::Pause(pause)) => Preview::words([format!(
            "{} that became due under it go on, as limits and breakers let them.",
            runs(pause.waiting)
        )]),
        (CLOSE, Target::Breaker(breaker)) => Preview::words([format!(
            "{} that wait for {} go on. If it still fails, the breaker opens again.",
            runs(breaker.waiting),
            breaker.name
        )]),
        (OPEN, target) => {
            let name = match target {
                Target::Breaker(breaker) => breaker.name.clone(),
                _ => values.text("name"),
            };
            Preview::words([
                format!("Steps on {name} wait, and no probe lets them through."),
                "It stays open until somebody closes it here.".to_owned(),
            ])
        }
        (PAUSE, _) => Preview::words([
            format!(
                "What becomes due of {} {} is blocked until the pause is lifted.",
                values.text("scope"),
                values.text("name")
            ),
            "Visits under way end as they would; deadlines go on passing.".to_owned(),
        ]),
        _ => Preview::words([format!(
            "When all have work due, the tenant gets {} turns for one of another's. Workers hear of \
             it within seconds.",
            values.text_of("weight")
        )]),
    }
}

fn preview_limit(deed: &Deed<'_>, limit: &FlowLimit) -> Preview {
    let concurrency = deed.values.number::<u32>("concurrency").unwrap_or_default();
    let rate = rate(deed).unwrap_or_default();
    let mut effects = vec![format!(
        "It counts at once, also for the {} that wait.",
        runs(limit.waiting)
    )];
    if concurrency == Some(0) {
        effects.push("With 0 nobody begins any more.".to_owned());
    }
    Preview::words(effects)
        .changes("at once", bound(limit.concurrency), bound(concurrency))
        .changes("rate", rate_words(limit.rate), rate_words(rate))
}

/// A bound in words.
fn bound(number: Option<u32>) -> String {
    number.map_or_else(|| "not bounded".to_owned(), |number| number.to_string())
}

/// A rate in words.
pub(crate) fn rate_words(rate: Option<FlowRate>) -> String {
    rate.map_or_else(
        || "not bounded".to_owned(),
        |rate| {
            let (count, seconds, burst) = (rate.count, rate.period_seconds, rate.burst);
            format!("{count} per {seconds} s, burst {burst}")
        },
    )
}

/// So many runs.
pub(crate) fn runs(count: i64) -> String {
    if count == 1 {
        "1 run".to_owned()
    } else {
        format!("{count} runs")
    }
}

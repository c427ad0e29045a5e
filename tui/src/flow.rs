//! What bounds and halts the engine: limits, pauses, breakers, weights.

use crate::deeds::flow::{self, rate_words, runs};
use crate::event::{Answer, Door, FlowAnswer, Request};
use crate::keymap::Context;
use crate::place::{self, Place, cell, is_on, note, section};
use crate::subject::{Offer, Target};
use crate::theme::Tone;
use crate::time;
use crate::tree::{Folding, Node, Piece};
use tenure_client::{Breaker, FlowLimit, Pause, PauseScope, TenantWeight, Whoami};
use uuid::Uuid;

/// Columns for a name.
const NAME: usize = 24;

/// Flow control.
#[derive(Clone, Debug, Default)]
pub struct Flow {
    /// What the server said; `None` until the first answer.
    pub(crate) known: Option<FlowAnswer>,
    folding: Folding,
}

impl Flow {
    /// Everything that can be acted on, with the id of its line.
    fn targets(&self) -> Vec<(String, Target)> {
        let Some(known) = &self.known else {
            return Vec::new();
        };
        let limits = known.limits.iter().flatten();
        let limits = limits.map(|one| (limit_id(one), Target::Limit(Box::new(one.clone()))));
        let pauses = known.pauses.iter().flatten();
        let pauses = pauses.map(|one| (pause_id(one), Target::Pause(Box::new(one.clone()))));
        let breakers = known.breakers.iter().flatten();
        let breakers =
            breakers.map(|one| (breaker_id(one), Target::Breaker(Box::new(one.clone()))));
        let weights = known.weights.iter().flatten();
        let weights = weights.map(|one| (weight_id(one), Target::Weight(one.clone())));
        let all = limits.chain(pauses).chain(breakers).chain(weights);
        all.collect()
    }

    /// The tenant that the cursor is on, by its weight or its pause.
    fn tenant(&self, columns: usize) -> Option<Uuid> {
        let cursor = place::cursor(self, columns)?;
        let known = self.known.as_ref()?;
        let mut weights = known.weights.iter().flatten();
        let weighed = weights.find(|one| is_on(&cursor, &weight_id(one)));
        if let Some(weighed) = weighed {
            return Some(weighed.tenant_id);
        }
        let mut pauses = known.pauses.iter().flatten();
        let paused = pauses.find(|one| is_on(&cursor, &pause_id(one)))?;
        (paused.scope == PauseScope::Tenant)
            .then(|| paused.name.parse().ok())
            .flatten()
    }
}

impl Place for Flow {
    fn context(&self) -> Context {
        Context::Flow
    }

    fn request(&self) -> Request {
        Request::Flow
    }

    fn take(&mut self, answer: Answer) -> bool {
        if let Answer::Flow(known) = answer {
            self.known = Some(*known);
        }
        false
    }

    fn nodes(&self, _columns: usize) -> Vec<Node> {
        let Some(known) = &self.known else {
            return Vec::new();
        };
        vec![
            section("LIMITS", &known.limits, "no workflow names one", limit),
            section("PAUSES", &known.pauses, "none", pause),
            section(
                "BREAKERS",
                &known.breakers,
                "no dependency failed yet",
                breaker,
            ),
            section("WEIGHTS", &known.weights, "all tenants weigh 1", weight),
        ]
    }

    fn folding(&self) -> Folding {
        self.folding.clone()
    }

    fn folding_mut(&mut self) -> &mut Folding {
        &mut self.folding
    }

    fn offers(&self, who: &Whoami, columns: usize) -> Vec<Offer> {
        let cursor = place::cursor(self, columns).unwrap_or_default();
        let mut targets = self.targets().into_iter();
        let on = targets.find(|(id, _)| is_on(&cursor, id));
        let tenant = self.tenant(columns);
        flow::offers(who, on.map(|(_, target)| target).as_ref(), tenant)
    }

    fn latest(&self, target: &Target) -> Option<String> {
        let known = matches!(
            target,
            Target::Limit(_) | Target::Pause(_) | Target::Breaker(_) | Target::Weight(_)
        );
        let mut targets = self.targets().into_iter();
        known.then(|| {
            let now = targets.find(|(_, now)| now.is_same(target));
            now.map_or_else(|| "gone".to_owned(), |(_, now)| now.seen())
        })
    }

    fn door(&self, columns: usize) -> Option<Door> {
        self.tenant(columns)
            .map(|tenant| Door::Tenant(tenant, None))
    }
}

fn limit_id(limit: &FlowLimit) -> String {
    format!("limit {}", limit.name)
}

fn pause_id(pause: &Pause) -> String {
    format!("pause {} {}", pause.scope.as_str(), pause.name)
}

fn breaker_id(breaker: &Breaker) -> String {
    format!("breaker {}", breaker.name)
}

fn weight_id(weight: &TenantWeight) -> String {
    format!("weight {}", weight.tenant_id)
}

fn limit(limit: &FlowLimit) -> Node {
    let id = limit_id(limit);
    let (tone, used) = match limit.concurrency {
        Some(most) => {
            let full = limit.in_use >= i64::from(most);
            let tone = if full { Tone::Warn } else { Tone::Plain };
            (tone, format!("{} of {most} in use", limit.in_use))
        }
        None => (Tone::Plain, format!("{} in use", limit.in_use)),
    };
    let rate = limit.rate.map(|rate| rate_words(Some(rate)));
    let line = vec![
        cell(Tone::Strong, &limit.name, NAME),
        cell(tone, &used, 14),
        cell(Tone::Plain, &rate.unwrap_or_default(), 22),
        waiting(limit.waiting),
    ];
    let decided = match (&limit.changed_by, &limit.reason) {
        (Some(by), reason) => {
            let reason = reason.as_deref().unwrap_or_default();
            format!("set by {by}, {}: {reason}", time::stamp(limit.changed_at))
        }
        (None, _) => "the numbers are the code's; use and waiters are over all keys".to_owned(),
    };
    let children = note(&id, "decided", decided).into_iter().collect();
    Node::leaf(&id, line, &limit.name).with_children(children)
}

fn waiting(count: i64) -> Piece {
    match count {
        0 => (Tone::Dim, "none waits".to_owned()),
        1 => (Tone::Warn, "1 run waits".to_owned()),
        count => (Tone::Warn, format!("{} wait", runs(count))),
    }
}

fn pause(pause: &Pause) -> Node {
    let id = pause_id(pause);
    let line = vec![
        (Tone::Warn, "= ".to_owned()),
        cell(Tone::Plain, pause.scope.as_str(), 8),
        cell(Tone::Strong, &pause.name, 36),
        waiting(pause.waiting),
    ];
    let words = format!(
        "by {}, {}: {}",
        pause.paused_by,
        time::stamp(pause.since),
        pause.reason
    );
    let children = note(&id, "why", words).into_iter().collect();
    Node {
        open: true,
        ..Node::leaf(&id, line, &pause.name).with_children(children)
    }
}

fn breaker(breaker: &Breaker) -> Node {
    let id = breaker_id(breaker);
    let (tone, state) = match (breaker.state.as_str(), breaker.forced) {
        ("closed", _) => (Tone::Good, "+ closed"),
        ("probing", _) => (Tone::Warn, "~ probing"),
        ("open", true) => (Tone::Bad, "x held open"),
        ("open", false) => (Tone::Bad, "x open"),
        (other, _) => (Tone::Plain, other),
    };
    let probe = breaker.probe_at.filter(|_| breaker.state != "closed");
    let probe = probe.map(|at| format!("probe {}", at.format("%H:%M:%S")));
    let line = vec![
        cell(Tone::Strong, &breaker.name, NAME),
        cell(tone, state, 14),
        cell(Tone::Plain, &probe.unwrap_or_default(), 22),
        waiting(breaker.waiting),
    ];
    let by = breaker.changed_by.as_deref().unwrap_or("steps");
    let words = format!(
        "by {by}, {}: {}",
        time::stamp(breaker.changed_at),
        breaker.reason
    );
    let children = note(&id, "why", words).into_iter().collect();
    Node::leaf(&id, line, &breaker.name).with_children(children)
}

fn weight(weight: &TenantWeight) -> Node {
    let tenant = weight.tenant_id.to_string();
    let line = vec![
        cell(Tone::Strong, &tenant, 36),
        (Tone::Plain, format!("{} turns for one", weight.weight)),
    ];
    Node::leaf(weight_id(weight), line, tenant)
}

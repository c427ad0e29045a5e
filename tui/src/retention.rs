//! How long the runs of each workflow are kept, and legal holds.

use crate::deeds::retention::{self, held, words};
use crate::event::{Answer, Door, Request, RetentionAnswer};
use crate::keymap::Context;
use crate::place::{self, Place, cell, is_on, note, section};
use crate::subject::{Offer, Target};
use crate::theme::Tone;
use crate::time;
use crate::tree::{Folding, Node};
use tenure_client::{LegalHold, RetentionAction, RetentionPolicy, Whoami};

/// Retention and legal holds.
#[derive(Clone, Debug, Default)]
pub struct Retention {
    /// What the server said; `None` until the first answer.
    pub(crate) known: Option<RetentionAnswer>,
    folding: Folding,
}

impl Retention {
    fn targets(&self) -> Vec<(String, Target)> {
        let Some(known) = &self.known else {
            return Vec::new();
        };
        let policies = known.policies.iter().flatten();
        let policies = policies.map(|one| (policy_id(one), Target::Policy(Box::new(one.clone()))));
        let holds = known.holds.iter().flatten();
        let holds = holds.map(|one| (hold_id(one), Target::Hold(Box::new(one.clone()))));
        policies.chain(holds).collect()
    }

    fn target(&self, columns: usize) -> Option<Target> {
        let cursor = place::cursor(self, columns)?;
        let mut targets = self.targets().into_iter();
        let on = targets.find(|(id, _)| is_on(&cursor, id));
        on.map(|(_, target)| target)
    }
}

impl Place for Retention {
    fn context(&self) -> Context {
        Context::Retention
    }

    fn request(&self) -> Request {
        Request::Retention
    }

    fn take(&mut self, answer: Answer) -> bool {
        if let Answer::Retention(known) = answer {
            self.known = Some(*known);
        }
        false
    }

    fn nodes(&self, _columns: usize) -> Vec<Node> {
        let Some(known) = &self.known else {
            return Vec::new();
        };
        vec![
            section("HOLDS", &known.holds, "nothing is held", hold),
            section("POLICIES", &known.policies, "no workflow is known", policy),
        ]
    }

    fn folding(&self) -> Folding {
        self.folding.clone()
    }

    fn folding_mut(&mut self) -> &mut Folding {
        &mut self.folding
    }

    fn offers(&self, who: &Whoami, columns: usize) -> Vec<Offer> {
        retention::offers(who, self.target(columns).as_ref())
    }

    fn latest(&self, target: &Target) -> Option<String> {
        latest(self.targets().into_iter().map(|(_, now)| now), target)
    }

    fn door(&self, columns: usize) -> Option<Door> {
        match self.target(columns)? {
            Target::Hold(hold) => Some(hold_door(&hold)),
            _ => None,
        }
    }
}

/// How a policy or a hold is now.
pub(crate) fn latest(now: impl Iterator<Item = Target>, target: &Target) -> Option<String> {
    let mut now = now;
    matches!(target, Target::Policy(_) | Target::Hold(_)).then(|| {
        let found = now.find(|now| now.is_same(target));
        found.map_or_else(|| "gone".to_owned(), |now| now.seen())
    })
}

/// What a hold is on.
pub(crate) fn hold_door(hold: &LegalHold) -> Door {
    match hold.run_id {
        Some(run) => Door::Run(run),
        None => Door::Tenant(hold.tenant_id, None),
    }
}

fn policy_id(policy: &RetentionPolicy) -> String {
    format!("policy {}", policy.workflow)
}

/// The id of a hold's line.
pub(crate) fn hold_id(hold: &LegalHold) -> String {
    format!("hold {}", hold.hold_id)
}

fn policy(policy: &RetentionPolicy) -> Node {
    let id = policy_id(policy);
    let tone = match policy.action {
        RetentionAction::Keep => Tone::Good,
        _ => Tone::Plain,
    };
    let by = match &policy.changed_by {
        Some(by) => format!("by {by}"),
        None => "as its code says".to_owned(),
    };
    let line = vec![
        cell(Tone::Strong, &policy.workflow, 26),
        cell(tone, &words(policy.action, policy.keep_days), 26),
        (Tone::Dim, by),
    ];
    let at = policy.changed_at.map(time::stamp).unwrap_or_default();
    let why = policy.reason.as_ref().map(|why| format!("{at}: {why}"));
    let children = note(&id, "why", why.unwrap_or_default());
    Node::leaf(&id, line, &policy.workflow).with_children(children.into_iter().collect())
}

/// A hold as a line with its reason below it.
pub(crate) fn hold(hold: &LegalHold) -> Node {
    let id = hold_id(hold);
    let line = vec![
        (Tone::Warn, "# ".to_owned()),
        cell(Tone::Strong, &held(hold), 44),
        (
            Tone::Dim,
            format!("since {}", hold.since.format("%d %b %Y")),
        ),
    ];
    let why = format!("by {}: {}", hold.author, hold.reason);
    let children = note(&id, "why", why).into_iter().collect();
    Node {
        open: true,
        ..Node::leaf(&id, line, hold.hold_id.to_string()).with_children(children)
    }
}

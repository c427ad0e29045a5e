//! Deletions of tenants: a line each, and one of them closely with its steps and its certificate.

use super::named;
use crate::deeds::life as deeds;
use crate::event::{Answer, Door, Names, Request};
use crate::gauge;
use crate::json;
use crate::keymap::Context;
use crate::place::{self, Place, cell, note, section};
use crate::subject::{Offer, Target};
use crate::theme::Tone;
use crate::time;
use crate::tree::{Folding, Node, Piece};
use chrono::{DateTime, Utc};
use serde_json::Value;
use tenure_client::{Deletion, DeletionCertificate, DeletionDetail, DeletionStep, Whoami};

/// The lines that lead elsewhere.
const TENANT: &str = "tenant";
const RUN: &str = "run";
const EXPORT: &str = "export";

/// A deletion, looked at closely.
#[derive(Clone, Debug)]
pub struct DeletionPage {
    /// The deletion, as the server described it last.
    pub(crate) of: Deletion,
    /// Its steps and records; `None` until the first answer.
    pub(crate) detail: Option<DeletionDetail>,
    /// Its certificate, once there is one.
    certificate: Option<DeletionCertificate>,
    /// The link of the export that the tenant takes along; known only where it was just made.
    link: Option<String>,
    names: Names,
    folding: Folding,
}

impl DeletionPage {
    /// Opens a deletion.
    pub(crate) fn open(of: Deletion, link: Option<String>) -> Self {
        Self {
            of,
            detail: None,
            certificate: None,
            link,
            names: Names::new(),
            folding: Folding::default(),
        }
    }

    /// What people call the tenant.
    pub(crate) fn tenant(&self) -> String {
        named(&self.names, self.of.tenant_id)
    }

    /// How many of its steps are done, of how many; nothing before they are known.
    pub(crate) fn steps(&self) -> Option<(usize, usize)> {
        let steps = &self.detail.as_ref()?.steps;
        let done = steps.iter().filter(|step| step.done_at.is_some()).count();
        (!steps.is_empty()).then_some((done, steps.len()))
    }
}

impl Place for DeletionPage {
    fn context(&self) -> Context {
        Context::Deletion
    }

    fn request(&self) -> Request {
        Request::Deletion(self.of.deletion_id)
    }

    fn take(&mut self, answer: Answer) -> bool {
        if let Answer::Deletion(detail, certificate, names) = answer {
            self.of = detail.deletion.clone();
            self.detail = Some(*detail);
            self.certificate = certificate.map(|certificate| *certificate);
            self.names = names;
        }
        false
    }

    fn nodes(&self, columns: usize) -> Vec<Node> {
        let Some(detail) = &self.detail else {
            return Vec::new();
        };
        let link = self.link.as_ref().map(|link| link_node(link));
        let mut nodes: Vec<Node> = link.into_iter().collect();
        nodes.extend(self.certificate.as_ref().map(certificate_node));
        let steps = Ok(detail.steps.iter().enumerate().collect());
        let none = "none before the point of no return";
        nodes.push(section("STEPS", &steps, none, |(place, step)| {
            step_node(*place, step, columns)
        }));
        let records = Ok(detail.records.iter().enumerate().collect());
        let records = section(
            "WHAT WAS DONE",
            &records,
            "nothing yet",
            |(place, record)| record_node(*place, record),
        );
        nodes.push(Node {
            open: false,
            ..records
        });
        let (tenant, run) = (self.of.tenant_id, self.of.run_id);
        let dim = |words: String| vec![(Tone::Dim, words)];
        nodes.push(Node::leaf(
            TENANT,
            dim(format!("tenant {tenant}")),
            tenant.to_string(),
        ));
        nodes.push(Node::leaf(RUN, dim(format!("run {run}")), run.to_string()));
        let export = self.of.export_id.map(|export| {
            let words = format!("export {export}, which the tenant takes along");
            Node::leaf(EXPORT, dim(words), export.to_string())
        });
        nodes.extend(export);
        nodes
    }

    fn folding(&self) -> Folding {
        self.folding.clone()
    }

    fn folding_mut(&mut self) -> &mut Folding {
        &mut self.folding
    }

    fn offers(&self, who: &Whoami, _columns: usize) -> Vec<Offer> {
        let target = Target::Deletion(Box::new(self.of.clone()));
        deeds::offers(who, &target, &self.names)
    }

    fn latest(&self, target: &Target) -> Option<String> {
        let now = Target::Deletion(Box::new(self.of.clone()));
        now.is_same(target).then(|| now.seen())
    }

    fn door(&self, columns: usize) -> Option<Door> {
        match place::cursor(self, columns)?.as_str() {
            TENANT => Some(Door::Tenant(self.of.tenant_id, None)),
            RUN => Some(Door::Run(self.of.run_id)),
            _ => None,
        }
    }
}

/// A deletion as the shelf has it.
pub(super) fn thing(of: &Deletion) -> (String, Option<Target>, Option<Door>) {
    let target = Target::Deletion(Box::new(of.clone()));
    let door = Door::Deletion(Box::new(of.clone()), None);
    (id(of), Some(target), Some(door))
}

/// The id of a deletion's line.
pub(crate) fn id(of: &Deletion) -> String {
    format!("deletion {}", of.deletion_id)
}

/// Its state with a sign.
pub(crate) fn state(of: &Deletion) -> Piece {
    let (tone, sign) = match of.state.as_str() {
        "failed_step" => (Tone::Bad, '!'),
        "held" => (Tone::Warn, '#'),
        "requested" => (Tone::Warn, '?'),
        "cooling_off" => (Tone::Warn, '.'),
        "certified" => (Tone::Good, '+'),
        "cancelled" => (Tone::Dim, '-'),
        _ => (Tone::Good, '*'),
    };
    (tone, format!("{sign} {}", of.state.replace('_', " ")))
}

/// Until when it should be done, and how near that is.
pub(crate) fn due(of: &Deletion, now: Option<DateTime<Utc>>) -> Piece {
    let day = of.due_at.format("%d %b %Y");
    if of.ended_at.is_some() {
        return (Tone::Dim, format!("was due {day}"));
    }
    let near = now.map(|now| format!(" ({})", time::relative(of.due_at, now)));
    let near = near.unwrap_or_default();
    match of.alerts {
        0 => (Tone::Plain, format!("due {day}{near}")),
        1 => (Tone::Warn, format!("! due {day}{near}: soon")),
        _ => (Tone::Bad, format!("! was due {day}{near}: late")),
    }
}

/// The two people, and what it waits for.
pub(crate) fn people(of: &Deletion) -> String {
    let approved = match &of.approved_by {
        Some(by) => format!("approved by {by}"),
        None => "approved by nobody".to_owned(),
    };
    format!("asked for by {}; {approved}", of.requested_by)
}

/// Until when it can be taken back, or since when it cannot.
pub(crate) fn way_back(of: &Deletion) -> Option<String> {
    let minute = |at: DateTime<Utc>| at.format("%d %b %Y %H:%M UTC").to_string();
    match (of.final_at, of.cools_until, of.ended_at) {
        (Some(at), ..) => Some(format!("no way back since {}", minute(at))),
        (None, Some(at), None) => Some(format!("can be taken back until {}", minute(at))),
        _ => None,
    }
}

/// A deletion as a line, with what it waits for below it.
pub(crate) fn node(of: &Deletion, names: &Names) -> Node {
    let id = id(of);
    let (tone, state) = state(of);
    let line = vec![
        cell(tone, &state, 15),
        cell(Tone::Strong, &named(names, of.tenant_id), 24),
        due(of, None),
    ];
    let detail = of.detail.clone().unwrap_or_default();
    let notes = [
        note(&id, "detail", detail),
        note(&id, "people", people(of)),
        note(&id, "back", way_back(of).unwrap_or_default()),
        note(&id, "why", of.reason.clone()),
        note(&id, "id", format!("deletion {}", of.deletion_id)),
    ];
    Node {
        open: of.ended_at.is_none(),
        ..Node::leaf(&id, line, of.deletion_id.to_string())
            .with_children(notes.into_iter().flatten().collect())
    }
}

fn link_node(link: &str) -> Node {
    let line = vec![
        (Tone::Strong, "LINK  ".to_owned()),
        (Tone::Warn, "told this once: y copies it  ".to_owned()),
        (Tone::Plain, link.to_owned()),
    ];
    Node::leaf("link", line, link)
}

/// What was done to a table; what is not done yet is dim.
fn step_node(place: usize, step: &DeletionStep, columns: usize) -> Node {
    let id = format!("step {place}");
    let (tone, sign) = match step.done_at {
        Some(_) => (Tone::Good, '+'),
        None => (Tone::Dim, '.'),
    };
    let counts = [
        (step.rows, "erased"),
        (step.masked, "masked"),
        (step.kept, "kept"),
    ];
    let counts = counts.iter().filter(|(count, _)| *count > 0);
    let counts: Vec<_> = counts
        .map(|(count, word)| format!("{} {word}", gauge::count(*count)))
        .collect();
    let mut counts = counts.join(", ");
    if step.done_at.is_none() && !counts.is_empty() {
        counts.push_str(" so far");
    }
    let wide = if columns < 100 { 26 } else { 40 };
    let line = vec![
        cell(
            tone,
            &format!("{sign} {}", step.action.replace('_', " ")),
            11,
        ),
        cell(Tone::Strong, &step.name, wide),
        cell(Tone::Dim, &step.realm, 8),
        (Tone::Plain, counts),
    ];
    let basis = note(&id, "basis", step.basis.clone().unwrap_or_default());
    Node::leaf(&id, line, &step.name).with_children(basis.into_iter().collect())
}

fn record_node(place: usize, record: &Value) -> Node {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let body = record.get("body").unwrap_or(record);
    let kind = text(body.get("kind").unwrap_or(&Value::Null));
    let at = text(body.get("at").unwrap_or(&Value::Null));
    let at = at.parse::<DateTime<Utc>>().map(time::stamp);
    let id = format!("record {place}");
    let line = vec![
        cell(Tone::Strong, &kind.replace('_', " "), 20),
        (Tone::Dim, at.unwrap_or_default()),
    ];
    let children = json::nodes(&place::below(&id, "body"), body);
    Node::leaf(&id, line, record.to_string()).with_children(children)
}

/// What a certificate comes to, and all that it says below.
fn certificate_node(certificate: &DeletionCertificate) -> Node {
    let id = "certificate";
    let document = &certificate.document;
    let tables = document.get("tables").and_then(Value::as_array);
    let tables = tables.map(Vec::as_slice).unwrap_or_default();
    let sum = |name: &str| {
        let counts = tables.iter().filter_map(|table| table.get(name)?.as_i64());
        gauge::count(counts.sum())
    };
    let text = |path: &str| {
        let found = document
            .pointer(path)
            .or(certificate.signature.pointer(path));
        found.map(json::one_line).unwrap_or_default()
    };
    let rows = format!(
        "{} rows in {} tables: {} erased, {} masked, {} kept",
        sum("found"),
        tables.len(),
        sum("erased"),
        sum("masked"),
        sum("kept")
    );
    let destroyed = document.pointer("/keys/destroyed").map(json::one_line);
    let keys = format!(
        "keys destroyed: {}",
        destroyed.unwrap_or_else(|| "none".to_owned())
    );
    let line = vec![
        (Tone::Strong, "CERTIFICATE  ".to_owned()),
        (Tone::Good, format!("+ signed with key {}  ", text("/key"))),
        (
            Tone::Dim,
            "`tenure certificate verify` proves it".to_owned(),
        ),
    ];
    let notes = [
        note(id, "rows", rows),
        note(id, "keys", keys),
        note(
            id,
            "backups",
            format!("backups expire on {}", text("/backups/expire_on")),
        ),
        note(id, "chain", format!("chain {}", text("/chain"))),
    ];
    let whole = json::node(&place::below(id, "document"), "document", document);
    let whole = Node {
        open: false,
        ..whole
    };
    let children = notes.into_iter().flatten().chain(std::iter::once(whole));
    let copied = serde_json::json!({
        "document": document, "signature": certificate.signature,
    });
    Node {
        open: true,
        ..Node::leaf(id, line, copied.to_string()).with_children(children.collect())
    }
}

//! What people did, newest first: when, who, which verb, to what, and why. Below each line stands how that
//! was before and after.

mod filter;

use crate::changes;
use crate::event::{Answer, Door, Names, Request};
use crate::json;
use crate::keymap::Context;
use crate::life::named;
use crate::pages::{Paged, Pages};
use crate::place::{self, Place, below, cell, is_on, note};
use crate::text;
use crate::theme::Tone;
use crate::time;
use crate::tree::{Folding, Node, Piece};
use chrono::TimeDelta;
use filter::{FIELDS, Filter};
use serde_json::Value;
use tenure_client::{AuditLine, AuditQuery};
use tui_input::Input;
use uuid::Uuid;

/// Lines asked for at once.
const LINES: u32 = 100;
/// Changes that are told one by one.
const CHANGES: usize = 20;
/// From this width on, times are told with the year and to the second.
const WIDE: usize = 100;

/// A page of what people did.
#[derive(Clone, Debug, Default)]
pub struct Audit {
    /// Which acts are asked for.
    filter: Filter,
    /// The same while it is typed.
    pub(crate) editing: Option<Input>,
    /// The acts, and what the tenants in them are called; `None` until the first answer.
    pub(crate) known: Option<(Vec<AuditLine>, Names)>,
    pages: Pages,
    folding: Folding,
}

impl Audit {
    /// What was done to a run.
    pub(crate) fn of_run(run_id: Uuid) -> Self {
        let query = AuditQuery {
            run_id: Some(run_id),
            ..AuditQuery::default()
        };
        Self::asking(Filter {
            text: format!("run:{run_id}"),
            query,
        })
    }

    /// What was done to a tenant and what is its.
    pub(crate) fn of_tenant(tenant_id: Uuid) -> Self {
        let query = AuditQuery {
            tenant_id: Some(tenant_id),
            ..AuditQuery::default()
        };
        Self::asking(Filter {
            text: format!("tenant:{tenant_id}"),
            query,
        })
    }

    fn asking(filter: Filter) -> Self {
        Self {
            filter,
            ..Self::default()
        }
    }

    /// Lets the filter be typed.
    pub(crate) fn edit(&mut self) {
        self.editing = Some(Input::new(self.filter.text.clone()));
    }

    /// Uses the filter as typed, from the first page; not one that is wrong, which stays in the line.
    pub(crate) fn search(&mut self) -> bool {
        let typed = self.editing.as_ref().map(Input::value);
        let Some(Ok(filter)) = typed.map(Filter::parse) else {
            return false;
        };
        *self = Self::asking(filter);
        true
    }

    /// The filter in use, and the page on show.
    pub(crate) fn listed(&self) -> [Piece; 2] {
        let shown = if self.filter.is_empty() {
            "all acts"
        } else {
            &self.filter.text
        };
        [
            (Tone::Plain, shown.to_owned()),
            (Tone::Dim, self.pages.words()),
        ]
    }

    /// What is to be said about the filter that is being typed.
    pub(crate) fn typed(&self) -> Option<Piece> {
        let text = self.editing.as_ref()?.value();
        if text.is_empty() {
            let fields = FIELDS.join(", ");
            let words =
                format!("fields: {fields}; such as actor:ada action:\"set limit\" from:2027-01-31");
            return Some((Tone::Plain, words));
        }
        let wrong = Filter::parse(text).err()?;
        Some((Tone::Bad, format!("! {wrong}")))
    }

    /// What is said where nothing is listed.
    pub(crate) fn none(&self) -> &'static str {
        if self.filter.is_empty() {
            "Nobody did anything yet."
        } else {
            "Nobody did anything that passes."
        }
    }
}

impl Paged for Audit {
    fn pages(&self) -> &Pages {
        &self.pages
    }

    fn pages_mut(&mut self) -> &mut Pages {
        &mut self.pages
    }

    fn forget(&mut self) {
        self.known = None;
    }
}

impl Place for Audit {
    fn context(&self) -> Context {
        if self.editing.is_some() {
            Context::Filter
        } else {
            Context::Audit
        }
    }

    fn request(&self) -> Request {
        Request::Audit(AuditQuery {
            cursor: self.pages.cursor(),
            limit: Some(LINES),
            ..self.filter.query.clone()
        })
    }

    fn take(&mut self, answer: Answer) -> bool {
        if let Answer::Audit(page, names) = answer {
            self.pages.followed_by(page.next_cursor);
            self.known = Some((page.items, names));
        }
        false
    }

    /// People act more seldom than runs do.
    fn pause(&self) -> TimeDelta {
        TimeDelta::seconds(3)
    }

    fn nodes(&self, columns: usize) -> Vec<Node> {
        let Some((lines, names)) = &self.known else {
            return Vec::new();
        };
        let lines = lines.iter();
        lines.map(|line| node(line, names, columns)).collect()
    }

    fn folding(&self) -> Folding {
        self.folding.clone()
    }

    fn folding_mut(&mut self) -> &mut Folding {
        &mut self.folding
    }

    fn door(&self, columns: usize) -> Option<Door> {
        let cursor = place::cursor(self, columns)?;
        let (lines, names) = self.known.as_ref()?;
        let line = lines.iter().find(|line| is_on(&cursor, &id(line)))?;
        match (line.run_id, line.tenant_id) {
            (Some(run), _) => Some(Door::Run(run)),
            (None, Some(tenant)) => Some(Door::Tenant(tenant, names.get(&tenant).cloned())),
            (None, None) => None,
        }
    }
}

fn id(line: &AuditLine) -> String {
    format!("act {}", line.audit_id)
}

fn node(line: &AuditLine, names: &Names, columns: usize) -> Node {
    let id = id(line);
    let (when, size) = if columns < WIDE {
        (line.at.format("%d %b %H:%M").to_string(), 12)
    } else {
        (time::stamp(line.at), 19)
    };
    let row = vec![
        cell(Tone::Dim, &when, size),
        cell(Tone::Strong, &line.actor, 12),
        cell(Tone::Strong, &line.action, 16),
        cell(Tone::Plain, &what(line, names), 15),
        (Tone::Plain, line.reason.clone()),
    ];
    let copy = line.run_id.map(|run| run.to_string());
    let copy = copy.or_else(|| line.subject.clone()).unwrap_or_default();
    Node::leaf(&id, row, copy).with_children(closely(&id, line, names))
}

/// What it was done to, as short as it goes.
fn what(line: &AuditLine, names: &Names) -> String {
    match (line.run_id, &line.subject, line.tenant_id) {
        (Some(run), ..) => format!("run {}", text::end_of(run)),
        (None, Some(subject), _) => subject.clone(),
        (None, None, Some(tenant)) => named(names, tenant),
        (None, None, None) => String::new(),
    }
}

/// All that is known of an act.
fn closely(id: &str, line: &AuditLine, names: &Names) -> Vec<Node> {
    let revision = line.revision.map(|seen| format!(", saw revision {seen}"));
    let who = format!(
        "by {} ({}), {} UTC{}",
        line.actor,
        line.role,
        time::stamp(line.at),
        revision.unwrap_or_default()
    );
    let tenant = line.tenant_id.map(|tenant| {
        let name = names.get(&tenant).map(|name| format!("{name}, "));
        format!("tenant {}{tenant}", name.unwrap_or_default())
    });
    let run = line.run_id.map(|run| format!("run {run}"));
    let what: Vec<_> = [line.subject.clone(), run, tenant]
        .into_iter()
        .flatten()
        .collect();
    let notes = [
        note(id, "why", line.reason.clone()),
        note(id, "who", who),
        note(id, "what", what.join(", of ")),
    ];
    let mut nodes: Vec<Node> = notes.into_iter().flatten().collect();
    nodes.extend(changed(id, line));
    nodes.push(whole(id, "before", &line.before));
    nodes.push(whole(id, "after", &line.after));
    nodes
}

/// Each place that it changed, as forms tell it beforehand.
fn changed(id: &str, line: &AuditLine) -> Vec<Node> {
    let changes = changes::between(&line.before, &line.after).into_iter();
    // One that has no place is of the whole, which stands below; the revision rises with every act.
    let places = changes.filter(|one| !one.path.is_empty() && one.path != "revision");
    let nodes = places.take(CHANGES).enumerate().map(|(place, one)| {
        let words = format!("{}: {} -> {}", one.path, one.before, one.after);
        let told = vec![(Tone::Warn, words.clone())];
        Node::leaf(below(id, &format!("change {place}")), told, words)
    });
    nodes.collect()
}

fn whole(id: &str, name: &str, value: &Value) -> Node {
    Node {
        open: false,
        ..json::node(&below(id, name), name, value)
    }
}

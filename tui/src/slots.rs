//! A schedule, its coming slots and what became of the last, as lines that fold.

use crate::json;
use crate::text;
use crate::theme::{self, Tone};
use crate::time;
use crate::tree::{Node, Piece};
use chrono::{DateTime, Utc};
use tenure_client::{Schedule, ScheduleDetail, Slot, SlotOutcome};

/// The id of a schedule's node; those of what is below it begin with it.
pub(crate) fn id(schedule: &Schedule) -> String {
    format!("schedule {}", schedule.schedule_id)
}

/// The owner's name, or the end of its id.
pub(crate) fn owner(schedule: &Schedule) -> String {
    let name = schedule.tenant_name.clone();
    name.unwrap_or_else(|| text::end_of(schedule.tenant_id))
}

/// A schedule with what is known of it.
pub(crate) fn node(schedule: &Schedule, detail: Option<&ScheduleDetail>) -> Node {
    let next = match (schedule.paused, schedule.next_slot) {
        (true, _) => (Tone::Warn, "= paused".to_owned()),
        (false, Some(at)) => (Tone::Plain, format!("next {}", slot_time(at, schedule))),
        (false, None) => (Tone::Plain, "no slot ever comes".to_owned()),
    };
    let line = vec![
        (Tone::Strong, format!("{}  ", schedule.name)),
        (
            Tone::Plain,
            format!("{} of {}  ", schedule.workflow, owner(schedule)),
        ),
        next,
    ];
    let id = id(schedule);
    let children = below(&id, schedule, detail);
    Node::leaf(&id, line, schedule.schedule_id.to_string()).with_children(children)
}

fn below(id: &str, schedule: &Schedule, detail: Option<&ScheduleDetail>) -> Vec<Node> {
    let rules = format!(
        "{} {}, overlap {}, catch-up {}, jitter {} s",
        schedule.cron,
        schedule.zone,
        schedule.overlap.as_str(),
        schedule.catch_up.as_str(),
        schedule.jitter_seconds
    );
    let mut nodes = vec![Node::leaf(
        format!("{id} rules"),
        vec![(Tone::Dim, rules)],
        &schedule.cron,
    )];
    nodes.push(json::node(&format!("{id} input"), "input", &schedule.input));
    let Some(detail) = detail else {
        let asking = vec![(Tone::Dim, "Asking the server ...".to_owned())];
        nodes.push(Node::leaf(format!("{id} asking"), asking, ""));
        return nodes;
    };
    let coming = detail.coming.iter().enumerate().map(|(place, at)| {
        let words = slot_time(*at, schedule);
        let line = vec![(Tone::Plain, words.clone())];
        Node::leaf(format!("{id} coming {place}"), line, words)
    });
    nodes.push(heading(id, "coming", coming.collect()));
    let slots = detail.slots.iter().enumerate();
    let slots = slots.map(|(place, slot)| became(&format!("{id} slot {place}"), slot, schedule));
    nodes.push(heading(id, "what became of the last", slots.collect()));
    nodes
}

fn heading(id: &str, title: &str, children: Vec<Node>) -> Node {
    let words = match children.len() {
        0 => format!("{title}: none"),
        count => format!("{title}  [{count}]"),
    };
    Node {
        open: true,
        ..Node::leaf(format!("{id} {title}"), vec![(Tone::Strong, words)], "")
            .with_children(children)
    }
}

fn became(id: &str, slot: &Slot, schedule: &Schedule) -> Node {
    let until = slot
        .until
        .map(|until| format!(" to {}", time::stamp(until)));
    let when = format!(
        "{}{}  ",
        slot_time(slot.slot, schedule),
        until.unwrap_or_default()
    );
    let reason = slot.reason.as_deref().unwrap_or_default();
    let came: Piece = match (slot.outcome, slot.run_status) {
        (SlotOutcome::Started, Some(status)) => {
            (theme::status_tone(status), theme::status_words(status))
        }
        (SlotOutcome::Started, None) => (Tone::Plain, "started".to_owned()),
        (SlotOutcome::Queued, _) => (Tone::Warn, ". waits for an earlier run to end".to_owned()),
        (SlotOutcome::Skipped, _) => (Tone::Warn, format!("- skipped: {reason}")),
        (SlotOutcome::Unknown, _) => (Tone::Plain, "?".to_owned()),
    };
    let run = slot.run_id.map(|run| run.to_string());
    let line = vec![
        (Tone::Dim, when),
        came,
        (Tone::Dim, format!("  {}", slot.key)),
    ];
    Node::leaf(id, line, run.unwrap_or_default())
}

/// The time of a slot, with a mark where it is one on the tenant's test clock.
fn slot_time(at: DateTime<Utc>, schedule: &Schedule) -> String {
    let clock = schedule.test_clock_id.map_or("", |_| " (tenant's)");
    format!("{} UTC{clock}", at.format("%a %d %b %Y %H:%M"))
}

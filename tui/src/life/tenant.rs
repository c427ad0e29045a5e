//! What becomes of one tenant's data: the sections of its page, and what can be done to their lines.

use super::{deletion, export, placement};
use crate::deeds::life as deeds;
use crate::event::{Door, Names, TenantAnswer};
use crate::gauge;
use crate::place::{cell, is_on, note};
use crate::sections::Section;
use crate::subject::{Offer, Target};
use crate::theme::Tone;
use crate::tree::Node;
use tenure_client::{DataArchive, DataHold, Whoami};

/// Where its rows are.
pub(crate) fn product(known: &TenantAnswer, _columns: usize) -> Section {
    let place = known.life.placement.as_ref().map_err(Clone::clone);
    let place = place.map(|place| place.iter().collect::<Vec<_>>());
    Section::new(
        "PRODUCT DATA",
        "it has no place in the product",
        &place,
        |of| {
            let (tone, status) = placement::status(of);
            let line = vec![
                cell(tone, &status, 14),
                cell(Tone::Strong, &placement::words(&of.place), 24),
                (Tone::Warn, placement::other(of)),
            ];
            let id = format!("placement {}", of.tenant_id);
            let since = of.placed_at.format("%d %b %Y");
            let key = note(
                &id,
                "key",
                format!("key {}, there since {since}", of.place.key),
            );
            let node =
                Node::leaf(&id, line, &of.place.key).with_children(key.into_iter().collect());
            (node, of.run_id.map(Door::Run))
        },
    )
}

/// What is held of them.
pub(crate) fn holds(known: &TenantAnswer, _columns: usize) -> Section {
    Section::new("DATA HOLDS", "none", &known.life.holds, |hold| {
        (hold_node(hold), None)
    })
}

/// What was put together for it.
pub(crate) fn exports(known: &TenantAnswer, _columns: usize) -> Section {
    let tenant = known.tenant.tenant_id;
    Section::new("EXPORTS", "none yet", &known.life.exports, |of| {
        let (tone, status) = export::status(of);
        let line = vec![
            cell(tone, &status, 10),
            cell(Tone::Plain, &export::size(of), 24),
            (Tone::Dim, export::until(of)),
        ];
        let id = format!("export {}", of.export_id);
        let door = Door::Export(tenant, Box::new(of.clone()), None);
        (Node::leaf(id, line, of.export_id.to_string()), Some(door))
    })
}

/// What sweeps took out.
pub(crate) fn archives(known: &TenantAnswer, _columns: usize) -> Section {
    let archives = Section::new("ARCHIVES", "none yet", &known.life.archives, |of| {
        (archive_node(of), Some(Door::Run(of.sweep_id)))
    });
    archives.folded()
}

/// Whether it was asked to delete it.
pub(crate) fn deletions(known: &TenantAnswer, _columns: usize) -> Section {
    let tenant = &known.tenant;
    let names = Names::from([(tenant.tenant_id, tenant.name.clone())]);
    Section::new(
        "DELETION",
        "nobody asked for it",
        &known.life.deletions,
        |of| {
            let door = Door::Deletion(Box::new(of.clone()), None);
            (deletion::node(of, &names), Some(door))
        },
    )
}

/// That it is to be deleted, or was.
pub(crate) fn being_deleted(known: &TenantAnswer) -> Option<Node> {
    let mut all = known.life.deletions.iter().flatten();
    let of = all.find(|one| one.state != "cancelled")?;
    let (tone, state) = deletion::state(of);
    let line = vec![
        (Tone::Strong, "deletion  ".to_owned()),
        (tone, format!("{state}  ")),
        deletion::due(of, None),
    ];
    Some(Node::leaf("deletion", line, of.deletion_id.to_string()))
}

fn hold_id(hold: &DataHold) -> String {
    format!("data hold {}", hold.hold_id)
}

fn hold_node(hold: &DataHold) -> Node {
    let id = hold_id(hold);
    let what = match (&hold.table, &hold.matches) {
        (None, _) => "all its rows".to_owned(),
        (Some(table), None) => format!("all of {table}"),
        (Some(table), Some(matches)) => {
            let matches = matches.iter();
            let matches = matches.map(|(column, value)| format!("{column} = {value}"));
            format!(
                "{table} where {}",
                matches.collect::<Vec<_>>().join(" and ")
            )
        }
    };
    let until = hold
        .expires_at
        .map(|at| format!(" until {}", at.format("%d %b %Y")));
    let line = vec![
        (Tone::Warn, "# ".to_owned()),
        cell(Tone::Strong, &hold.case, 20),
        (Tone::Plain, what),
        (Tone::Dim, until.unwrap_or_default()),
    ];
    let why = format!("by {}: {}", hold.author, hold.reason);
    let why = note(&id, "why", why);
    Node::leaf(&id, line, hold.hold_id.to_string()).with_children(why.into_iter().collect())
}

fn archive_id(of: &DataArchive) -> String {
    format!("archive {}", of.archive_id)
}

fn archive_node(of: &DataArchive) -> Node {
    let tone = match of.status.as_str() {
        "destroyed" => Tone::Dim,
        "restoring" => Tone::Warn,
        _ => Tone::Good,
    };
    let until = match (of.destroyed_at, of.destroy_at) {
        (Some(at), _) => format!("destroyed {}", at.format("%d %b %Y")),
        (None, Some(at)) => format!("can be brought back until {}", at.format("%d %b %Y")),
        (None, None) => "stays".to_owned(),
    };
    let line = vec![
        cell(tone, &of.status, 10),
        cell(Tone::Strong, &of.table, 20),
        cell(Tone::Plain, &format!("{} rows", gauge::count(of.rows)), 14),
        (Tone::Dim, until),
    ];
    Node::leaf(archive_id(of), line, of.archive_id.to_string())
}

/// Everything of it that can be acted on, each with the id of its line.
fn targets(known: &TenantAnswer) -> Vec<(String, Target)> {
    let (life, tenant) = (&known.life, known.tenant.tenant_id);
    let place = life.placement.iter().flatten();
    let place = place.filter_map(|one| {
        let (id, target, _) = placement::thing(one);
        Some((id, target?))
    });
    let holds = life.holds.iter().flatten();
    let holds = holds.map(|one| (hold_id(one), Target::DataHold(Box::new(one.clone()))));
    let archives = life.archives.iter().flatten();
    let archives = archives.map(|one| {
        (
            archive_id(one),
            Target::Archive(tenant, Box::new(one.clone())),
        )
    });
    let deletions = life.deletions.iter().flatten();
    let deletions =
        deletions.map(|one| (deletion::id(one), Target::Deletion(Box::new(one.clone()))));
    place
        .chain(holds)
        .chain(archives)
        .chain(deletions)
        .collect()
}

/// What can be done to the line that the cursor is on.
pub(crate) fn on_line(who: &Whoami, known: &TenantAnswer, on: &str) -> Vec<Offer> {
    let tenant = &known.tenant;
    let names = Names::from([(tenant.tenant_id, tenant.name.clone())]);
    let mut targets = targets(known).into_iter();
    let found = targets.find(|(id, _)| is_on(on, id));
    found.map_or_else(Vec::new, |(_, target)| deeds::offers(who, &target, &names))
}

/// How a target is now, where it is one of these.
pub(crate) fn latest(known: &TenantAnswer, target: &Target) -> Option<String> {
    let one_of_these = matches!(
        target,
        Target::Placement(_) | Target::DataHold(_) | Target::Archive(..) | Target::Deletion(_)
    );
    let mut now = targets(known).into_iter();
    one_of_these.then(|| {
        let found = now.find(|(_, now)| now.is_same(target));
        found.map_or_else(|| "gone".to_owned(), |(_, now)| now.seen())
    })
}

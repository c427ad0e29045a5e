//! Where tenants' rows are, who is on the way elsewhere, and how far the product's migrations are.

use super::named;
use crate::event::{Around, Door, Names};
use crate::gauge;
use crate::place::{self, cell, note, section};
use crate::subject::Target;
use crate::theme::{self, Tone};
use crate::tree::{Node, Piece};
use tenure_client::{
    MigrationOutcome, MigrationPlace, Place, Placement, PlacementStatus, ProductMigration,
    RunSummary, TenancyModel,
};

/// What a move does, one after the other.
const MOVE: [&str; 9] = [
    "Preparing",
    "Copying",
    "Freezing",
    "CatchingUp",
    "Verifying",
    "Switching",
    "Kept",
    "Cleaning",
    "Thawing",
];

/// The shelf: what is on its way first, then where all are.
pub(super) fn nodes(
    all: &[Placement],
    around: &Around,
    names: &Names,
    columns: usize,
) -> Vec<Node> {
    let mut nodes = Vec::new();
    if let Around::Moves { moves, migrations } = around {
        nodes.push(section("UNDER WAY", moves, "no tenant is moved", |run| {
            move_node(run, names)
        }));
        nodes.push(section(
            "MIGRATIONS",
            migrations,
            "none was asked for",
            |one| migration_node(one, names, columns),
        ));
    }
    let all = Ok(all.iter().collect());
    nodes.push(section(
        "PLACEMENTS",
        &all,
        "no tenant has a place",
        |one| node(one, names),
    ));
    nodes
}

/// A placement as the shelf has it.
pub(super) fn thing(of: &Placement) -> (String, Option<Target>, Option<Door>) {
    let door = match of.run_id {
        Some(run) => Door::Run(run),
        None => Door::Tenant(of.tenant_id, None),
    };
    let target = Target::Placement(Box::new(of.clone()));
    (id(of), Some(target), Some(door))
}

/// A migration as the shelf has it.
pub(super) fn migration_thing(of: &ProductMigration) -> (String, Option<Target>, Option<Door>) {
    (migration_id(of), None, Some(Door::Run(of.run_id)))
}

fn id(of: &Placement) -> String {
    format!("placement {}", of.tenant_id)
}

fn migration_id(of: &ProductMigration) -> String {
    format!("migration {}", of.version)
}

/// A place in words: `main shared 17`, `rooms schema cedar`.
pub(crate) fn words(place: &Place) -> String {
    let own = match place.model {
        TenancyModel::Schema => place.schema.as_deref(),
        TenancyModel::Database => place.database.as_deref(),
        _ => None,
    };
    let own = own.map(|own| format!(" {own}")).unwrap_or_default();
    format!("{} {}{own}", place.source, place.model.as_str())
}

/// What may be done with the rows, with a sign.
pub(super) fn status(of: &Placement) -> Piece {
    let (tone, words) = match of.status {
        PlacementStatus::Provisioning => (Tone::Warn, "* provisioning"),
        PlacementStatus::Active => (Tone::Good, "+ active"),
        PlacementStatus::Moving => (Tone::Warn, "> moving"),
        PlacementStatus::Frozen => (Tone::Bad, "# frozen"),
        PlacementStatus::Cleaning => (Tone::Warn, "~ cleaning"),
        PlacementStatus::Unknown => (Tone::Plain, "? unknown"),
    };
    (tone, words.to_owned())
}

/// Where it goes, or what it has left.
pub(super) fn other(of: &Placement) -> String {
    let other = of.other.as_ref().map(words);
    match (of.status, other) {
        (_, None) => String::new(),
        (PlacementStatus::Cleaning, Some(left)) => format!("left {left}"),
        (_, Some(to)) => format!("to {to}"),
    }
}

fn node(of: &Placement, names: &Names) -> Node {
    let id = id(of);
    let (tone, status) = status(of);
    let line = vec![
        cell(tone, &status, 14),
        cell(Tone::Strong, &named(names, of.tenant_id), 20),
        cell(Tone::Plain, &words(&of.place), 20),
        (Tone::Warn, other(of)),
    ];
    let since = of.placed_at.format("%d %b %Y");
    let children = [
        note(
            &id,
            "key",
            format!("key {}, there since {since}", of.place.key),
        ),
        note(&id, "id", format!("tenant {}", of.tenant_id)),
    ];
    Node::leaf(&id, line, of.tenant_id.to_string())
        .with_children(children.into_iter().flatten().collect())
}

/// A tenant on its way. The key of such a run begins with the tenant's id.
fn move_node(run: &RunSummary, names: &Names) -> Node {
    let tenant = run.key.split('/').next().and_then(|id| id.parse().ok());
    let tenant = tenant.map_or_else(|| run.key.clone(), |tenant| named(names, tenant));
    let place = MOVE.iter().position(|state| *state == run.state);
    let far = match place {
        Some(place) => {
            let percent = gauge::percent(as_count(place), as_count(MOVE.len()));
            let (step, steps) = (place + 1, MOVE.len());
            format!(
                "{} {} ({step} of {steps})",
                gauge::bar(percent, 9),
                run.state
            )
        }
        None => run.state.clone(),
    };
    let line = vec![
        cell(
            theme::status_tone(run.status),
            &theme::status_words(run.status),
            12,
        ),
        cell(Tone::Strong, &tenant, 22),
        (Tone::Plain, far),
    ];
    let id = format!("run {}", run.run_id);
    let why = run.stuck_reason.clone().unwrap_or_default();
    let children = note(&id, "why", why).into_iter().collect();
    Node {
        open: true,
        ..Node::leaf(&id, line, run.run_id.to_string()).with_children(children)
    }
}

fn migration_node(
    (of, refused): &(ProductMigration, Vec<MigrationPlace>),
    names: &Names,
    columns: usize,
) -> Node {
    let id = migration_id(of);
    let all = of.applied + of.refused + of.pending;
    let (tone, sign) = match (of.refused, of.pending) {
        (0, 0) => (Tone::Good, '+'),
        (0, _) => (Tone::Good, '*'),
        _ => (Tone::Bad, '!'),
    };
    let counts = [(of.pending, "pending"), (of.refused, "refused")];
    let counts = counts.iter().filter(|(count, _)| *count > 0);
    let counts: String = counts
        .map(|(count, word)| format!(", {count} {word}"))
        .collect();
    let cells = if columns < 100 { 12 } else { 24 };
    let line = vec![
        (tone, format!("{sign} ")),
        cell(Tone::Strong, &of.version, 20),
        (
            Tone::Plain,
            gauge::bar(gauge::percent(of.applied, all), cells),
        ),
        (
            Tone::Plain,
            format!(" {} of {all} places{counts}", of.applied),
        ),
    ];
    let places = refused.iter().enumerate();
    let places =
        places.map(|(place, one)| place_node(&place::below(&id, &format!("{place}")), one, names));
    let why = note(&id, "why", format!("by {}: {}", of.author, of.reason));
    let children: Vec<_> = places.chain(why).collect();
    Node {
        open: of.refused > 0,
        ..Node::leaf(&id, line, &of.version).with_children(children)
    }
}

fn place_node(id: &str, of: &MigrationPlace, names: &Names) -> Node {
    let tenant = of
        .tenant_id
        .map(|tenant| format!(" of {}", named(names, tenant)));
    let (tone, word) = match of.outcome {
        MigrationOutcome::Refused => (Tone::Bad, "x refused"),
        MigrationOutcome::Applied => (Tone::Good, "+ applied"),
        MigrationOutcome::Pending | MigrationOutcome::Unknown => (Tone::Warn, ". pending"),
    };
    let what = format!("{} {}{}", of.source, of.place, tenant.unwrap_or_default());
    let detail = of.detail.clone().unwrap_or_default();
    let line = vec![
        (tone, format!("{word}  ")),
        (Tone::Strong, format!("{what}  ")),
        (Tone::Plain, detail.clone()),
    ];
    Node::leaf(id, line, detail)
}

fn as_count(count: usize) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

//! The sections of a tenant's page on its money and on what it may use.

use crate::event::TenantAnswer;
use crate::place::{cell, note};
use crate::sections::{Section, day, minute, numbers, zone};
use crate::theme::Tone;
use crate::tree::{Node, Piece};
use chrono_tz::Tz;
use serde_json::Value;
use tenure_client::{
    Credit, CreditEntry, CreditNote, Debt, DebtState, Entitlement, Entitlements, Hold, Holds,
    Service, SubscriptionDetail, SubscriptionIntent, Usage,
};

/// Entries of a balance that are shown.
const ENTRIES: usize = 10;

/// The id of a service hold's line.
pub(crate) fn hold_id(hold: &Hold) -> String {
    format!("service hold {}", hold.hold_id)
}

/// The id of a feature's line.
pub(crate) fn feature_id(feature: &str) -> String {
    format!("feature {feature}")
}

/// The id of a debt's line.
pub(crate) fn debt_id(debt: &Debt) -> String {
    format!("debt {}", debt.currency)
}

/// What a subscription has and what will become of it, below its line.
pub(crate) fn closely(id: &str, one: &SubscriptionDetail, zone: Tz) -> Vec<Node> {
    let items = one.items.iter().map(|item| {
        let words = format!("{} x {} at {}", item.quantity, item.name, item.unit_price);
        note(id, &format!("item {}", item.item), words)
    });
    let intents = one.intents.iter().map(|intent| {
        let words = coming(intent, zone);
        let node = note(id, &format!("intent {:?}", intent.kind), words);
        node.map(|node| Node {
            line: node
                .line
                .into_iter()
                .map(|(_, words)| (Tone::Warn, words))
                .collect(),
            ..node
        })
    });
    let moves = one.successor.as_ref().map(|next| {
        let at = minute(next.at, zone);
        let words = format!(
            "~ plan retired: moves to {} at {} {at}",
            next.name, next.price
        );
        note(id, "successor", words)
    });
    let moved = one.succeeds.as_ref().map(|plan| {
        let words = format!("was moved here when {plan} was retired");
        note(id, "succeeds", words)
    });
    let all = intents.chain(moves).chain(items).chain(moved);
    all.flatten().collect()
}

/// What will come about, and when.
fn coming(intent: &SubscriptionIntent, zone: Tz) -> String {
    let word = crate::deeds::billing::intent_word(intent.kind);
    let with = if intent.with_period {
        ", with the end of the period"
    } else {
        ""
    };
    let details = match &intent.details {
        Value::Object(all) if all.is_empty() => String::new(),
        Value::Null => String::new(),
        details => format!(": {}", crate::json::one_line(details)),
    };
    format!("~ will {word} {}{with}{details}", minute(intent.at, zone))
}

pub(crate) fn debts(known: &TenantAnswer, _columns: usize) -> Section {
    let zone = zone(known);
    Section::new(
        "DEBTS",
        "it never owed anything late",
        &known.billing.debts,
        |one| (debt(one, zone), None),
    )
}

fn debt(one: &Debt, zone: Tz) -> Node {
    let id = debt_id(one);
    let (tone, state) = match one.state {
        DebtState::Clear => (Tone::Good, "+ clear"),
        DebtState::PastDue => (Tone::Bad, "! past due"),
        DebtState::Grace => (Tone::Warn, "! grace"),
        DebtState::Suspended => (Tone::Bad, "x suspended"),
        DebtState::Exhausted => (Tone::Bad, "x exhausted"),
        DebtState::Unknown => (Tone::Warn, "? newer"),
    };
    let waits = one.unpaid.iter().find_map(|one| one.waits_for.as_ref());
    let next = match (one.next_attempt_at, one.ends_at, waits) {
        (Some(at), ..) => format!("tried again {}", minute(at, zone)),
        (None, Some(at), _) => format!("ends {}", minute(at, zone)),
        (None, None, Some(whom)) => format!("waits for the {whom}"),
        (None, None, None) => String::new(),
    };
    let line = vec![
        cell(tone, state, 12),
        cell(Tone::Strong, &one.owed.to_string(), 14),
        (Tone::Plain, next),
    ];
    let since = one.since.map(|at| format!("since {}", minute(at, zone)));
    let declined = one.last_decline.as_ref().map(|last| {
        format!(
            "declined {}: {} ({})",
            minute(last.at, zone),
            last.code,
            last.class
        )
    });
    let step = one.next_step.as_ref().zip(one.next_step_at);
    let step = step.map(|(step, at)| format!("then {step}, {}", minute(at, zone)));
    let policy = match (&one.policy, one.policy_version) {
        (Some(policy), Some(version)) => format!("policy {policy}, version {version}"),
        _ => "the policy that is built in".to_owned(),
    };
    let spared = one.exemption.as_ref().map(|one| {
        let (until, by) = (minute(one.ends_at, zone), &one.author);
        format!("spared until {until}, by {by}: {}", one.reason)
    });
    let children = [
        note(&id, "since", since.unwrap_or_default()),
        note(&id, "declined", declined.unwrap_or_default()),
        note(&id, "step", step.unwrap_or_default()),
        note(&id, "spared", spared.unwrap_or_default()),
        note(&id, "policy", policy),
    ];
    let children = children.into_iter().flatten().collect();
    Node::leaf(&id, line, one.owed.to_string()).with_children(children)
}

pub(crate) fn credit(known: &TenantAnswer, _columns: usize) -> Section {
    let zone = zone(known);
    let lines = |credit: &Credit| {
        let balances = credit.balances.iter().map(|balance| {
            let line = vec![
                (Tone::Strong, format!("{balance}  ")),
                (Tone::Plain, Credit::words(balance).to_owned()),
            ];
            Node::leaf(
                format!("balance {}", balance.currency),
                line,
                balance.to_string(),
            )
        });
        let entries = credit.entries.iter().take(ENTRIES).enumerate();
        let entries = entries.map(|(place, entry)| entry_node(place, entry, zone));
        balances.chain(entries).collect::<Vec<_>>()
    };
    let lines = known
        .billing
        .credit
        .as_ref()
        .map_err(Clone::clone)
        .map(lines);
    Section::new("CREDIT", "none", &lines, |node| (node.clone(), None))
}

fn entry_node(place: usize, entry: &CreditEntry, zone: Tz) -> Node {
    let why = entry.note.as_ref().map(|note| format!(": {note}"));
    let line = vec![
        cell(Tone::Dim, &day(entry.created_at, zone), 12),
        cell(Tone::Plain, &entry.amount.to_string(), 14),
        (
            Tone::Dim,
            format!(
                "{}, by {}{}",
                entry.reason.replace('_', " "),
                entry.author,
                why.unwrap_or_default()
            ),
        ),
    ];
    Node::leaf(
        format!("credit entry {place}"),
        line,
        entry.reference.to_string(),
    )
}

pub(crate) fn notes(known: &TenantAnswer, _columns: usize) -> Section {
    let zone = zone(known);
    let all = known.billing.notes.iter().flatten();
    let columns = numbers(all.map(|one| one.number.as_str()));
    let section = Section::new("CREDIT NOTES", "none", &known.billing.notes, |one| {
        (credit_note(one, columns, zone), None)
    });
    section.folded()
}

fn credit_note(one: &CreditNote, columns: usize, zone: Tz) -> Node {
    let id = format!("credit note {}", one.credit_note_id);
    let refund = one
        .refund_status
        .as_ref()
        .map(|status| format!("refund {status}"));
    let line = vec![
        cell(Tone::Strong, &one.number, columns),
        cell(Tone::Plain, &one.total.to_string(), 12),
        cell(Tone::Dim, &day(one.created_at, zone), 12),
        (Tone::Plain, refund.unwrap_or_default()),
    ];
    let went = format!(
        "{} off the debt, {} to the balance, {} to the method",
        one.to_debt, one.to_balance, one.to_refund
    );
    let children = [
        note(&id, "why", format!("by {}: {}", one.author, one.reason)),
        note(&id, "went", went),
        note(&id, "invoice", format!("of invoice {}", one.invoice_id)),
    ];
    let children = children.into_iter().flatten().collect();
    Node::leaf(&id, line, one.credit_note_id.to_string()).with_children(children)
}

pub(crate) fn service(known: &TenantAnswer, _columns: usize) -> Section {
    let zone = zone(known);
    let lines = |holds: &Holds| {
        let off = holds.service != Service::On;
        let tone = if off { Tone::Bad } else { Tone::Good };
        let line = vec![(
            tone,
            format!("service is {}", holds.service.as_str().replace('_', " ")),
        )];
        let head = Node::leaf("service", line, holds.service.as_str());
        let holds = holds.holds.iter().map(|hold| service_hold(hold, zone));
        std::iter::once(head).chain(holds).collect::<Vec<_>>()
    };
    let lines = known
        .billing
        .holds
        .as_ref()
        .map_err(Clone::clone)
        .map(lines);
    Section::new("SERVICE", "", &lines, |node| (node.clone(), None))
}

fn service_hold(hold: &Hold, zone: Tz) -> Node {
    let id = hold_id(hold);
    let blocks = [
        (hold.blocks.changes, "changes"),
        (hold.blocks.access, "access"),
        (hold.blocks.billing, "billing"),
    ];
    let blocks: Vec<&str> = blocks
        .into_iter()
        .filter_map(|(is, word)| is.then_some(word))
        .collect();
    let until = hold.ends_at.map(|at| format!(" until {}", day(at, zone)));
    let on = match hold.subscription_id {
        Some(_) => "a subscription",
        None => "all",
    };
    let line = vec![
        (Tone::Warn, "# ".to_owned()),
        cell(Tone::Strong, hold.kind.as_str(), 16),
        cell(Tone::Plain, on, 14),
        (
            Tone::Plain,
            format!("blocks {}{}", blocks.join(", "), until.unwrap_or_default()),
        ),
    ];
    let by = format!(
        "by {}, {}: {}",
        hold.author,
        day(hold.starts_at, zone),
        hold.reason
    );
    let of = hold.subscription_id.map(|id| format!("subscription {id}"));
    let children = [
        note(&id, "why", by),
        note(&id, "of", of.unwrap_or_default()),
    ];
    Node {
        open: true,
        ..Node::leaf(&id, line, hold.hold_id.to_string())
            .with_children(children.into_iter().flatten().collect())
    }
}

pub(crate) fn entitlements(known: &TenantAnswer, _columns: usize) -> Section {
    let used = known.billing.usage.as_deref().unwrap_or_default();
    let lines = |all: &Entitlements| {
        let has = all.features.iter();
        let has = has.map(|(feature, one)| entitlement(feature, one, used));
        let other = used
            .iter()
            .filter(|one| !all.features.contains_key(&one.feature));
        let other = other.map(|one| {
            let line = vec![
                cell(Tone::Strong, &one.feature, 20),
                (
                    Tone::Dim,
                    format!("{} used, which nothing limits", one.level),
                ),
            ];
            Node::leaf(feature_id(&one.feature), line, one.level.to_string())
        });
        has.chain(other).collect::<Vec<_>>()
    };
    let all = known.billing.entitlements.as_ref().map_err(Clone::clone);
    Section::new("MAY USE", "nothing", &all.map(lines), |node| {
        (node.clone(), None)
    })
    .folded()
}

fn entitlement(feature: &str, one: &Entitlement, used: &[Usage]) -> Node {
    let tone = if one.enabled { Tone::Plain } else { Tone::Bad };
    let mut line: Vec<Piece> = vec![
        cell(Tone::Strong, feature, 20),
        cell(tone, &crate::json::one_line(&one.value), 10),
        (Tone::Dim, one.because()),
    ];
    if let Some(used) = used.iter().find(|used| used.feature == feature) {
        let share = used.percent.map(|percent| format!(" ({percent} %)"));
        let tone = match used.percent {
            Some(100..) => Tone::Bad,
            Some(80..) => Tone::Warn,
            _ => Tone::Plain,
        };
        line.push((
            tone,
            format!("  {} used{}", used.level, share.unwrap_or_default()),
        ));
    }
    Node::leaf(feature_id(feature), line, one.value.to_string())
}

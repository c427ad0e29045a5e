//! The sections of a tenant's page. One more of them is a part of the answer, a function here and a
//! row of the table.

use crate::account;
use crate::contents;
use crate::deeds::billing::intent_word;
use crate::event::{Door, Part, TenantAnswer};
use crate::life;
use crate::place::{cell, note, section};
use crate::retention;
use crate::theme::{self, Tone};
use crate::tree::{Node, Piece};
use chrono::{DateTime, Utc};
use chrono_tz::Tz;
use std::collections::BTreeMap;
use tenure_client::{
    DeadlineClock, IntentKind, Invoice, InvoiceStatus, Money, RunSummary, Subscription,
    SubscriptionDetail, SubscriptionStatus,
};

/// All sections, from the top.
pub(crate) const SECTIONS: [fn(&TenantAnswer, usize) -> Section; 18] = [
    subscriptions,
    next,
    invoices,
    account::debts,
    account::credit,
    account::notes,
    account::service,
    account::entitlements,
    runs,
    schedules,
    holds,
    mails,
    keys,
    life::deletions,
    life::product,
    life::holds,
    life::exports,
    life::archives,
];

/// Lines under a heading, and where each leads.
pub(crate) struct Section {
    title: &'static str,
    none: &'static str,
    open: bool,
    /// The lines, or why they are not known.
    pub(crate) rows: Part<Vec<(Node, Option<Door>)>>,
}

impl Section {
    pub(crate) fn new<T>(
        title: &'static str,
        none: &'static str,
        part: &Part<Vec<T>>,
        row: impl FnMut(&T) -> (Node, Option<Door>),
    ) -> Self {
        let rows = part.as_ref().map_err(Clone::clone);
        Self {
            title,
            none,
            open: true,
            rows: rows.map(|items| items.iter().map(row).collect()),
        }
    }

    /// The same, folded until somebody looks.
    pub(crate) fn folded(self) -> Self {
        Self {
            open: false,
            ..self
        }
    }

    /// The section as a line that unfolds.
    pub(crate) fn into_node(self) -> Node {
        let node = section(self.title, &self.rows, self.none, |(node, _)| node.clone());
        Node {
            open: self.open,
            ..node
        }
    }
}

/// Who it is, how it pays, and what it owes.
pub(crate) fn head(known: &TenantAnswer) -> Vec<Node> {
    let (tenant, zone) = (&known.tenant, zone(known));
    let id = tenant.tenant_id.to_string();
    let seller = tenant.legal_entity.as_ref();
    let seller = seller.map_or(String::new(), |key| format!(", billed by {key}"));
    let who = vec![
        (Tone::Strong, format!("{}  ", tenant.name)),
        (Tone::Plain, format!("{}  ", tenant.email)),
        (Tone::Dim, format!("{} time{seller}", tenant.zone)),
    ];
    let mut pays = match &tenant.default_payment_method {
        Some(card) => vec![(
            Tone::Plain,
            format!("pays by {} ...{}", card.brand, card.last4),
        )],
        None => vec![(Tone::Warn, "has no payment method".to_owned())],
    };
    if let Some(error) = &tenant.payment_method_error {
        pays.push((Tone::Bad, format!("  ! the last one was refused: {error}")));
    }
    if let Some(clock) = &known.clock {
        let at = minute(clock.now, zone);
        pays.push((Tone::Warn, format!("  (on a test clock: {at})")));
    }
    let copy = |pieces: &[Piece]| {
        pieces
            .iter()
            .map(|(_, words)| words.as_str())
            .collect::<String>()
    };
    let since = format!("tenant {id}, since {}", day(tenant.created_at, zone));
    let owes = owes(&known.invoices);
    let words = copy(&pays);
    let mut lines = vec![
        Node::leaf("who", who, &tenant.email),
        Node::leaf("since", vec![(Tone::Dim, since)], id),
        Node::leaf("pays", pays, words),
        Node::leaf("owes", owes.clone(), copy(&owes)),
    ];
    // The section is far below, and all else hangs on this.
    lines.extend(life::being_deleted(known));
    lines
}

/// What is still to be paid and what was given up, by currency.
fn owes(invoices: &Part<Vec<Invoice>>) -> Vec<Piece> {
    let Ok(invoices) = invoices else {
        return vec![(Tone::Dim, "what it owes is not known".to_owned())];
    };
    let sum = |status: InvoiceStatus| {
        let mut sums: BTreeMap<&str, Money> = BTreeMap::new();
        let mut count = 0;
        let with = invoices.iter().filter(|invoice| invoice.status == status);
        for due in with.map(|invoice| &invoice.amount_due) {
            count += 1;
            sums.entry(&due.currency)
                .and_modify(|sum| sum.amount += due.amount)
                .or_insert_with(|| due.clone());
        }
        let sums: Vec<_> = sums.values().map(ToString::to_string).collect();
        let noun = if count == 1 { "invoice" } else { "invoices" };
        (count > 0).then(|| format!("{} on {count} {noun}", sums.join(" and ")))
    };
    let mut pieces = vec![match sum(InvoiceStatus::Open) {
        Some(words) => (Tone::Bad, format!("owes {words}")),
        None => (Tone::Good, "owes nothing".to_owned()),
    }];
    let given_up = sum(InvoiceStatus::Uncollectible);
    pieces.extend(given_up.map(|words| (Tone::Warn, format!("  given up: {words}"))));
    pieces
}

fn subscriptions(known: &TenantAnswer, _columns: usize) -> Section {
    let part = &known.subscriptions;
    Section::new("SUBSCRIPTIONS", "it never had one", part, |one| {
        let mut closely = known.billing.details.iter().flatten();
        let id = one.subscription_id;
        let closely = closely.find(|detail| detail.subscription.subscription_id == id);
        let node = subscription(one, closely, zone(known));
        (node, Some(Door::Run(one.run_id)))
    })
}

/// The id of a subscription's line.
pub(crate) fn subscription_id(one: &Subscription) -> String {
    format!("subscription {}", one.subscription_id)
}

/// The id of an invoice's line.
pub(crate) fn invoice_id(one: &Invoice) -> String {
    format!("invoice {}", one.invoice_id)
}

fn subscription(one: &Subscription, closely: Option<&SubscriptionDetail>, zone: Tz) -> Node {
    let id = subscription_id(one);
    let (tone, status) = match one.status {
        SubscriptionStatus::Trialing => (Tone::Good, ". trialing"),
        SubscriptionStatus::Active => (Tone::Good, "+ active"),
        SubscriptionStatus::PastDue => (Tone::Bad, "! past due"),
        SubscriptionStatus::Ending => (Tone::Warn, "~ ending"),
        SubscriptionStatus::Ended => (Tone::Dim, "- ended"),
        SubscriptionStatus::Incomplete => (Tone::Warn, "? incomplete"),
        SubscriptionStatus::Scheduled => (Tone::Dim, ". scheduled"),
        SubscriptionStatus::Paused => (Tone::Warn, "= paused"),
    };
    let when = match (
        one.ended_at,
        one.cancel_at,
        one.period_end,
        one.trial_ends_at,
    ) {
        (Some(at), ..) => format!("ended {}", day(at, zone)),
        (_, Some(at), ..) => format!("ends {}", day(at, zone)),
        (_, _, Some(at), _) => format!("period ends {}", day(at, zone)),
        (_, _, _, Some(at)) => format!("trial ends {}", day(at, zone)),
        _ => String::new(),
    };
    let why = one.end_reason.as_ref().map(|why| format!(" ({why})"));
    let line = vec![
        cell(tone, status, 12),
        cell(Tone::Strong, &one.plan, 16),
        cell(Tone::Plain, &one.price.to_string(), 14),
        (Tone::Plain, format!("{when}{}", why.unwrap_or_default())),
    ];
    let period = one.period_start.zip(one.period_end);
    let period =
        period.map(|(from, to)| format!("period {} to {}", day(from, zone), day(to, zone)));
    let notes = [
        note(&id, "period", period.unwrap_or_default()),
        note(&id, "id", format!("subscription {}", one.subscription_id)),
        note(&id, "run", format!("run {}", one.run_id)),
    ];
    let closer = closely.map(|closely| account::closely(&id, closely, zone));
    let children = closer.into_iter().flatten();
    let children = children.chain(notes.into_iter().flatten()).collect();
    let pending = closely.is_some_and(|closely| !closely.intents.is_empty());
    Node {
        // What will come about is not to be overlooked.
        open: pending,
        ..Node::leaf(&id, line, one.subscription_id.to_string()).with_children(children)
    }
}

/// A time at which something happens by itself.
struct Coming {
    at: DateTime<Utc>,
    what: String,
    door: Door,
    on_tenants_clock: bool,
}

fn next(known: &TenantAnswer, _columns: usize) -> Section {
    let mut coming = Vec::new();
    for one in known.subscriptions.iter().flatten() {
        let dates = [
            (one.trial_ends_at, "trial ends"),
            (one.period_end, "period ends"),
            (one.cancel_at, "ends"),
        ];
        let is_over = one.ended_at.is_some();
        let dates = dates.into_iter().filter(|_| !is_over);
        coming.extend(dates.filter_map(|(at, what)| {
            Some(Coming {
                at: at?,
                what: format!("{} {what}", one.plan),
                door: Door::Run(one.run_id),
                on_tenants_clock: known.clock.is_some(),
            })
        }));
    }
    for one in known.billing.details.iter().flatten() {
        // Its end stands among the subscription's own dates.
        let told = |kind| kind == IntentKind::Cancel && one.subscription.cancel_at.is_some();
        let intents = one.intents.iter().filter(|intent| !told(intent.kind));
        coming.extend(intents.map(|intent| Coming {
            at: intent.at,
            what: format!(
                "{} will {}",
                one.subscription.plan,
                intent_word(intent.kind)
            ),
            door: Door::Run(one.subscription.run_id),
            on_tenants_clock: known.clock.is_some(),
        }));
    }
    for run in known.runs.iter().flatten() {
        coming.extend(run.next_at.map(|at| Coming {
            at,
            what: format!("{} in {} acts  {}", run.workflow, run.state, run.key),
            door: Door::Run(run.run_id),
            on_tenants_clock: run.next_clock == Some(DeadlineClock::Tenant),
        }));
    }
    // A trial that has ended is no coming date.
    let past = |one: &Coming| {
        let clock = known.clock.as_ref().filter(|_| one.on_tenants_clock);
        clock.is_some_and(|clock| one.at < clock.now)
    };
    coming.retain(|one| !past(one));
    coming.sort_by_key(|one| one.at);
    let (mut place, zone) = (0, zone(known));
    Section::new("NEXT", "nothing by itself", &Ok(coming), |one| {
        place += 1;
        let mark = if one.on_tenants_clock {
            " (tenant's)"
        } else {
            ""
        };
        let line = vec![
            cell(Tone::Strong, &format!("{}{mark}", minute(one.at, zone)), 28),
            (Tone::Plain, one.what.clone()),
        ];
        let node = Node::leaf(format!("next {place}"), line, one.at.to_rfc3339());
        (node, Some(one.door.clone()))
    })
}

fn invoices(known: &TenantAnswer, _columns: usize) -> Section {
    let all = known.invoices.iter().flatten();
    let columns = numbers(all.filter_map(|one| one.number.as_deref()));
    Section::new("INVOICES", "none yet", &known.invoices, |one| {
        (invoice(one, columns, zone(known)), at_work_on(one, known))
    })
}

/// Room for numbers: they begin with a prefix where a legal entity gave them.
pub(crate) fn numbers<'a>(all: impl Iterator<Item = &'a str>) -> usize {
    all.map(str::len).fold(11, usize::max)
}

/// The run that is at work on an invoice: its key has the invoice's id in it.
fn at_work_on(invoice: &Invoice, known: &TenantAnswer) -> Option<Door> {
    let id = invoice.invoice_id.to_string();
    let mut runs = known.runs.iter().flatten();
    let run = runs.find(|run| run.key.contains(&id))?;
    Some(Door::Run(run.run_id))
}

fn invoice(one: &Invoice, columns: usize, zone: Tz) -> Node {
    let id = invoice_id(one);
    let (tone, status) = match one.status {
        InvoiceStatus::Draft => (Tone::Dim, ". draft"),
        InvoiceStatus::Open => (Tone::Bad, "! open"),
        InvoiceStatus::Paid => (Tone::Good, "+ paid"),
        InvoiceStatus::Void => (Tone::Dim, "- void"),
        InvoiceStatus::Uncollectible => (Tone::Warn, "x given up"),
    };
    let number = one.number.as_deref().unwrap_or("no number");
    let date = |at: DateTime<Utc>| at.with_timezone(&zone).format("%d %b %y").to_string();
    let period = format!("{} - {}", date(one.period_start), date(one.period_end));
    let due = format!("due {}", one.amount_due);
    let due = if one.status == InvoiceStatus::Open {
        due
    } else {
        String::new()
    };
    let line = vec![
        cell(tone, status, 11),
        cell(Tone::Strong, number, columns),
        cell(Tone::Plain, &one.total.to_string(), 12),
        cell(Tone::Bad, &due, 14),
        (Tone::Plain, period),
    ];
    let tried = match one.attempts {
        0 => String::new(),
        1 => "one payment was tried".to_owned(),
        count => format!("{count} payments were tried"),
    };
    let paid = one.paid_at.map(|at| format!("paid {}", minute(at, zone)));
    let children = [
        note(&id, "paid", paid.unwrap_or_default()),
        note(&id, "balance", one.balance_words().join(", ")),
        note(&id, "tried", tried),
        note(&id, "id", format!("invoice {}", one.invoice_id)),
    ];
    let children = children.into_iter().flatten().collect();
    Node::leaf(&id, line, one.invoice_id.to_string()).with_children(children)
}

fn runs(known: &TenantAnswer, _columns: usize) -> Section {
    Section::new("LIVE RUNS", "nothing runs for it", &known.runs, |run| {
        (live(run), Some(Door::Run(run.run_id)))
    })
}

fn live(run: &RunSummary) -> Node {
    let line = vec![
        cell(
            theme::status_tone(run.status),
            &theme::status_words(run.status),
            12,
        ),
        cell(Tone::Strong, &run.workflow, 16),
        cell(Tone::Plain, &run.state, 14),
        (Tone::Dim, run.key.clone()),
    ];
    Node::leaf(format!("run {}", run.run_id), line, run.run_id.to_string())
}

fn schedules(known: &TenantAnswer, _columns: usize) -> Section {
    let zone = zone(known);
    Section::new("SCHEDULES", "none", &known.schedules, |one| {
        let next = match (one.paused, one.next_slot) {
            (true, _) => (Tone::Warn, "= paused".to_owned()),
            (false, Some(at)) => (Tone::Plain, format!("next {}", minute(at, zone))),
            (false, None) => (Tone::Plain, "no slot ever comes".to_owned()),
        };
        let line = vec![
            cell(Tone::Strong, &one.name, 20),
            cell(Tone::Plain, &one.workflow, 16),
            next,
        ];
        let id = one.schedule_id;
        (
            Node::leaf(format!("schedule {id}"), line, id.to_string()),
            None,
        )
    })
}

fn holds(known: &TenantAnswer, _columns: usize) -> Section {
    Section::new("LEGAL HOLDS", "none", &known.holds, |hold| {
        (retention::hold(hold), hold.run_id.map(Door::Run))
    })
}

fn mails(known: &TenantAnswer, columns: usize) -> Section {
    let nodes = known.mails.as_ref().map_err(Clone::clone);
    let nodes = nodes.map(|mails| contents::mails(mails, columns));
    Section::new("MAILS", "none yet", &nodes, |node| (node.clone(), None)).folded()
}

fn keys(known: &TenantAnswer, _columns: usize) -> Section {
    let zone = zone(known);
    let section = Section::new("KEYS", "its payloads are not sealed", &known.keys, |key| {
        let state = match key.destroyed_at {
            Some(at) => (Tone::Bad, format!("x destroyed {}", minute(at, zone))),
            None => (
                Tone::Good,
                format!("+ seals from {}", minute(key.usable_at, zone)),
            ),
        };
        let line = vec![
            cell(Tone::Strong, &format!("version {}", key.version), 12),
            (state.0, format!("{}  ", state.1)),
            (Tone::Dim, format!("under {}", key.master_key)),
        ];
        (
            Node::leaf(
                format!("key {}", key.version),
                line,
                key.version.to_string(),
            ),
            None,
        )
    });
    section.folded()
}

/// Business dates are read in the tenant's zone: a period that ends at its midnight ends that day.
pub(crate) fn zone(known: &TenantAnswer) -> Tz {
    known.tenant.zone.parse().unwrap_or(Tz::UTC)
}

pub(crate) fn day(at: DateTime<Utc>, zone: Tz) -> String {
    at.with_timezone(&zone).format("%d %b %Y").to_string()
}

pub(crate) fn minute(at: DateTime<Utc>, zone: Tz) -> String {
    at.with_timezone(&zone).format("%d %b %Y %H:%M").to_string()
}

//! Backfills: a line each, and one of them closely with its ranges.

use super::named;
use crate::deeds::life as deeds;
use crate::event::{Answer, Door, Names, Request};
use crate::gauge;
use crate::keymap::Context;
use crate::pages::{Paged, Pages};
use crate::place::{self, Place, cell, is_on, note};
use crate::subject::{Offer, Target};
use crate::theme::Tone;
use crate::tree::{Folding, Node, Piece};
use tenure_client::{Backfill, BackfillRange, BackfillTrouble, Whoami};

/// The phases, in order.
const PHASES: [&str; 6] = [
    "expand",
    "dual-write",
    "fill",
    "verify",
    "switch",
    "contract",
];
/// What is looked for among the ranges, in the order in which Tab goes through.
const STATUSES: [Option<&str>; 10] = [
    None,
    Some("held"),
    Some("throttled"),
    Some("filling"),
    Some("paused"),
    Some("planned"),
    Some("verifying"),
    Some("skipped"),
    Some("filled"),
    Some("gone"),
];

/// A backfill, looked at closely.
#[derive(Clone, Debug)]
pub struct BackfillPage {
    /// The backfill, as the server described it last.
    pub(crate) of: Backfill,
    /// A page of its ranges; `None` until the first answer.
    pub(crate) ranges: Option<Vec<BackfillRange>>,
    status: Option<&'static str>,
    names: Names,
    pages: Pages,
    folding: Folding,
}

impl BackfillPage {
    /// Opens a backfill.
    pub(crate) fn open(of: Backfill) -> Self {
        Self {
            of,
            ranges: None,
            status: None,
            names: Names::new(),
            pages: Pages::default(),
            folding: Folding::default(),
        }
    }

    /// Looks for ranges in another status, so many further around the end.
    pub(crate) fn turn_status(&mut self, by: isize) {
        let here = STATUSES.iter().position(|one| *one == self.status);
        let count = STATUSES.len().cast_signed();
        let there = (here.unwrap_or(0).cast_signed() + by).rem_euclid(count);
        self.status = STATUSES.get(there.cast_unsigned()).copied().flatten();
        self.pages = Pages::default();
        self.ranges = None;
    }

    /// What is listed, in words: which ranges, and which page.
    pub(crate) fn listed(&self) -> String {
        let which = self.status.unwrap_or("all");
        format!("{which}{}", self.pages.words())
    }

    fn range(&self, columns: usize) -> Option<&BackfillRange> {
        let cursor = place::cursor(self, columns)?;
        let mut ranges = self.ranges.iter().flatten();
        ranges.find(|range| is_on(&cursor, &range.range_id.to_string()))
    }

    fn target(&self, range: &BackfillRange) -> Target {
        Target::Range(self.of.backfill_id, Box::new(range.clone()))
    }
}

impl Paged for BackfillPage {
    fn pages(&self) -> &Pages {
        &self.pages
    }

    fn pages_mut(&mut self) -> &mut Pages {
        &mut self.pages
    }

    fn forget(&mut self) {
        self.ranges = None;
    }
}

impl Place for BackfillPage {
    fn context(&self) -> Context {
        Context::Backfill
    }

    fn request(&self) -> Request {
        Request::Backfill {
            backfill_id: self.of.backfill_id,
            status: self.status,
            cursor: self.pages.cursor(),
        }
    }

    fn take(&mut self, answer: Answer) -> bool {
        if let Answer::Backfill(of, page, names) = answer {
            self.of = *of;
            self.names = names;
            self.pages.followed_by(page.next_cursor);
            self.ranges = Some(page.items);
        }
        false
    }

    fn nodes(&self, _columns: usize) -> Vec<Node> {
        let ranges = self.ranges.iter().flatten();
        ranges.map(|one| range_node(one, &self.names)).collect()
    }

    fn folding(&self) -> Folding {
        self.folding.clone()
    }

    fn folding_mut(&mut self) -> &mut Folding {
        &mut self.folding
    }

    /// What can be done to the range under the cursor, and to all of it.
    fn offers(&self, who: &Whoami, columns: usize) -> Vec<Offer> {
        let whole = Target::Backfill(Box::new(self.of.clone()));
        let range = self.range(columns).map(|range| self.target(range));
        let targets = std::iter::once(whole).chain(range);
        targets
            .flat_map(|target| deeds::offers(who, &target, &self.names))
            .collect()
    }

    fn latest(&self, target: &Target) -> Option<String> {
        let whole = Target::Backfill(Box::new(self.of.clone()));
        let ranges = self.ranges.iter().flatten();
        let mut now = ranges
            .map(|range| self.target(range))
            .chain(std::iter::once(whole));
        now.find(|now| now.is_same(target)).map(|now| now.seen())
    }

    fn door(&self, columns: usize) -> Option<Door> {
        self.range(columns)?.run_id.map(Door::Run)
    }
}

/// A backfill as the shelf has it.
pub(super) fn thing(of: &Backfill) -> (String, Option<Target>, Option<Door>) {
    let target = Target::Backfill(Box::new(of.clone()));
    let door = Door::Backfill(Box::new(of.clone()));
    (id(of), Some(target), Some(door))
}

fn id(of: &Backfill) -> String {
    format!("backfill {}", of.backfill_id)
}

/// Its status with a sign; a pause stands before what it rests in.
pub(crate) fn status(of: &Backfill) -> Piece {
    let (tone, sign) = match of.status.as_str() {
        "held" => (Tone::Bad, '!'),
        "waiting" => (Tone::Warn, '?'),
        "stopping" => (Tone::Warn, '<'),
        "terminated" => (Tone::Bad, 'x'),
        "ended" if of.phase == "undone" => (Tone::Dim, '-'),
        "ended" => (Tone::Good, '+'),
        _ if of.paused => return (Tone::Warn, "= paused".to_owned()),
        _ => (Tone::Good, '*'),
    };
    let words = match (of.phase.as_str(), of.status.as_str()) {
        (_, status @ "terminated") => status,
        (phase @ ("done" | "undone"), _) => phase,
        (_, status) => status,
    };
    (tone, format!("{sign} {words}"))
}

/// Which phase it is in, of how many.
pub(crate) fn phase(of: &Backfill) -> String {
    let place = PHASES.iter().position(|phase| *phase == of.phase);
    match place {
        Some(place) => format!("{} ({} of {})", of.phase, place + 1, PHASES.len()),
        None => of.phase.clone(),
    }
}

/// How fast it is and when its fill ends, as far as that is known.
pub(crate) fn speed(of: &Backfill) -> String {
    let far = &of.progress;
    let rate = far.rows_per_second;
    let rate = rate.map(|rate| format!("{} rows/s", gauge::count(rate as i64)));
    let left = gauge::left(far.earliest_seconds, far.latest_seconds);
    let parts: Vec<_> = rate.into_iter().chain(left).collect();
    parts.join(", ")
}

/// How many of its ranges are done, and what is wrong with others.
pub(crate) fn ranges(of: &Backfill) -> String {
    let far = &of.progress;
    let mut words = format!("{} of {} ranges done", far.finished_ranges, far.ranges);
    let counts = [
        (far.held_ranges, "held"),
        (far.skipped_ranges, "skipped"),
        (far.gone_ranges, "gone"),
    ];
    for (count, word) in counts {
        if count > 0 {
            words.push_str(&format!(", {count} {word}"));
        }
    }
    words
}

/// How many tenants read the new columns, once that is a question.
pub(crate) fn reads(of: &Backfill) -> Option<String> {
    let asked = matches!(of.phase.as_str(), "switch" | "contract") || of.percent_reading > 0;
    asked.then(|| {
        format!(
            "{} % of the tenants read the new columns",
            of.percent_reading
        )
    })
}

/// How many rows were looked at, of how many.
pub(crate) fn rows(of: &Backfill) -> String {
    let far = &of.progress;
    let (done, all) = (far.done_rows, far.estimated_rows);
    // What was believed may be less than what was found.
    format!(
        "{} of about {} rows",
        gauge::count(done),
        gauge::count(all.max(done))
    )
}

/// What a person should know: trouble, throttles, and what the next phase wants.
pub(crate) fn concerns(of: &Backfill) -> Vec<Piece> {
    let far = &of.progress;
    let mut concerns = Vec::new();
    if let Some(why) = &of.trouble {
        concerns.push((Tone::Bad, format!("! held: {}", trouble(why))));
    }
    if far.held_ranges > 0 {
        let words = format!("! {} ranges are held: retry or skip them", far.held_ranges);
        concerns.push((Tone::Bad, words));
    }
    for throttle in &far.throttled {
        let words = format!(
            "~ throttled, {} ranges: {}",
            throttle.ranges, throttle.reason
        );
        concerns.push((Tone::Warn, words));
    }
    if !far.unseen.is_empty() {
        let unseen = far.unseen.join(", ");
        concerns.push((
            Tone::Warn,
            format!("~ not seen, and so throttling nothing: {unseen}"),
        ));
    }
    if let Some(wrong) = of.mismatches.filter(|wrong| *wrong > 0) {
        let words = format!(
            "! the last verification found {} rows wrong",
            gauge::count(wrong)
        );
        concerns.push((Tone::Bad, words));
    }
    match &of.next {
        Some(next) if of.refusals.is_empty() => {
            concerns.push((
                Tone::Warn,
                format!("? {next} waits for somebody's word: advance"),
            ));
        }
        Some(next) => {
            let words = format!("- not yet {next}: {}", of.refusals.join("; "));
            concerns.push((Tone::Plain, words));
        }
        None => {}
    }
    concerns
}

fn trouble(why: &BackfillTrouble) -> String {
    let key = why.key.as_ref();
    let key = key.map(|key| format!(" (row {})", key.join(", ")));
    let key = key.unwrap_or_default();
    format!("{}: {}{key}. {}", why.kind, why.detail, why.remedy)
}

/// A backfill as a line, with what a person should know below it.
pub(super) fn node(of: &Backfill, columns: usize) -> Node {
    let id = id(of);
    let (tone, status) = status(of);
    let cells = if columns < 100 { 12 } else { 24 };
    let percent = of.progress.percent;
    let mut line = vec![
        cell(tone, &status, 10),
        cell(Tone::Strong, &of.name, 20),
        cell(Tone::Plain, &phase(of), 20),
    ];
    match of.ended_at {
        Some(at) => line.push((Tone::Dim, format!("ended {}", at.format("%d %b %Y %H:%M")))),
        None => line.extend([
            (Tone::Plain, gauge::bar(percent, cells)),
            (Tone::Strong, format!(" {percent:>5.1}%")),
        ]),
    }
    let live = of.ended_at.is_none();
    let fast = speed(of);
    let far = match fast.as_str() {
        "" => rows(of),
        fast => format!("{}, {fast}", rows(of)),
    };
    let concerns = concerns(of).into_iter().enumerate();
    let concerns = concerns.map(|(place, (tone, words))| {
        let id = place::below(&id, &format!("concern {place}"));
        Node::leaf(id, vec![(tone, words.clone())], words)
    });
    let notes = [
        note(&id, "reads", reads(of).unwrap_or_default()),
        note(&id, "why", format!("by {}: {}", of.started_by, of.reason)),
    ];
    let children = note(&id, "far", far).into_iter();
    let children = children.chain(concerns).chain(notes.into_iter().flatten());
    Node {
        open: live,
        ..Node::leaf(&id, line, &of.name).with_children(children.collect())
    }
}

fn range_status(range: &BackfillRange) -> Piece {
    let (tone, sign) = match range.status.as_str() {
        "held" => (Tone::Bad, '!'),
        "throttled" => (Tone::Warn, '~'),
        "paused" => (Tone::Warn, '='),
        "skipped" => (Tone::Warn, '-'),
        "filled" => (Tone::Good, '+'),
        "planned" | "gone" => (Tone::Dim, '.'),
        _ => (Tone::Good, '*'),
    };
    (tone, format!("{sign} {}", range.status))
}

fn range_node(range: &BackfillRange, names: &Names) -> Node {
    let id = range.range_id.to_string();
    let (tone, status) = range_status(range);
    let (done, all) = (range.done_rows, range.estimated_rows.max(range.done_rows));
    let is_over = matches!(range.status.as_str(), "filled" | "skipped" | "gone");
    let share = match range.status.as_str() {
        "filled" => 100.0,
        // What is left may be more than was believed.
        _ => gauge::percent(done, all).min(99.0),
    };
    let tenant = named(names, range.tenant_id);
    let part = match range.part {
        0 => tenant,
        part => format!("{tenant} /{part}"),
    };
    let why = range.trouble.as_ref().map(trouble);
    let why = why.or_else(|| range.detail.clone());
    let wrong = range.mismatches.filter(|wrong| *wrong > 0);
    let wrong = wrong.map(|wrong| format!("  {} wrong", gauge::count(wrong)));
    let line = vec![
        cell(tone, &status, 11),
        cell(Tone::Strong, &part, 20),
        (Tone::Plain, gauge::bar(share, 12)),
        (
            Tone::Plain,
            format!(" {} of {}", gauge::count(done), gauge::count(all)),
        ),
        (Tone::Bad, wrong.unwrap_or_default()),
    ];
    let key = |key: &Option<Vec<String>>, otherwise: &str| {
        let key = key.as_ref().map(|key| key.join(", "));
        key.unwrap_or_else(|| otherwise.to_owned())
    };
    let keys = format!(
        "after {}, up to {}",
        key(&range.after, "the beginning"),
        key(&range.to, "the end")
    );
    let next = format!(
        "at {}, {} rows at a time",
        key(&range.cursor, "none yet"),
        range.batch_rows
    );
    let first = range.first_mismatch.as_ref();
    let first = first.map(|first| format!("the first wrong row: {}", first.join(", ")));
    let written = format!("{} rows were written", gauge::count(range.written_rows));
    let more = [
        note(&id, "keys", keys),
        note(&id, "next", if is_over { String::new() } else { next }),
        note(&id, "written", written),
        note(&id, "id", format!("range {}", range.range_id)),
    ];
    let more = Node::leaf(
        place::below(&id, "more"),
        vec![(Tone::Dim, "keys and sizes".to_owned())],
        &id,
    )
    .with_children(more.into_iter().flatten().collect());
    let notes = [
        note(&id, "why", why.clone().unwrap_or_default()),
        note(&id, "wrong", first.unwrap_or_default()),
    ];
    let children = notes.into_iter().flatten().chain([more]);
    Node {
        open: why.is_some() && !is_over,
        ..Node::leaf(&id, line, &id).with_children(children.collect())
    }
}

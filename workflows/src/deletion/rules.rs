//! The rules of a deletion: what may follow what, what is to be erased in which order, what a failure
//! means, how large the next chunk is. Pure.

use std::collections::BTreeMap;

use chrono::{DateTime, Months, TimeDelta, Utc};
use serde::{Deserialize, Serialize};

use super::Unit;
use super::own::{self, Rule};
use crate::data_map::{self, Belongs, DataMap, Erase, Link, Model, Snapshot, TableRule};

/// How long before its deadline a deletion is said to be late.
const NEAR: TimeDelta = TimeDelta::days(7);

/// When a deletion should be done (Art. 12(3) GDPR: one month from the request).
#[must_use]
pub fn due_at(requested: DateTime<Utc>) -> DateTime<Utc> {
    requested
        .checked_add_months(Months::new(1))
        .unwrap_or(requested)
}

/// When somebody should be told that it might not be.
#[must_use]
pub fn near_at(due: DateTime<Utc>) -> DateTime<Utc> {
    due - NEAR
}

/// A stage of the work, which a failed or held deletion goes back to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Stage {
    /// Everything is looked at, nothing is done.
    Verified,
    /// It can be taken back.
    CoolingOff,
    /// What the tenant takes along is written.
    Exporting,
    /// The tenant's runs come to their end.
    Ending,
    /// The plan is made.
    Ready,
    /// Rows go.
    Erasing,
    /// Others are told.
    ThirdParties,
    /// It is looked for what should be gone.
    Verifying,
}

impl Stage {
    /// Whether what is done by then can be taken back.
    #[must_use]
    pub const fn is_restorable(self) -> bool {
        matches!(self, Self::Verified | Self::CoolingOff | Self::Exporting)
    }
}

/// Whose rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Realm {
    /// Archives in the store.
    Archive,
    /// The product's.
    Product,
    /// Those of schema `app`.
    Tenure,
    /// The engine's.
    Engine,
    /// The keys that sealed its payloads.
    Keys,
}

/// What is done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Action {
    /// Foreign keys are nulled, to break a ring.
    NullKeys,
    /// Rows go.
    Delete,
    /// Rows stay, personal fields go.
    Mask,
    /// Rows stay.
    Keep,
    /// The table, the schema or the database goes as a whole.
    Drop,
    /// Keys are destroyed.
    Shred,
}

impl Realm {
    const WORDS: [(&'static str, Self); 5] = [
        ("archive", Self::Archive),
        ("product", Self::Product),
        ("tenure", Self::Tenure),
        ("engine", Self::Engine),
        ("keys", Self::Keys),
    ];

    /// The stored word.
    #[must_use]
    pub fn word(self) -> &'static str {
        crate::data_map::word(&Self::WORDS, &self)
    }

    /// Reads the stored word.
    #[must_use]
    pub fn from_word(word: &str) -> Option<Self> {
        let mut words = Self::WORDS.into_iter();
        words.find(|(one, _)| *one == word).map(|(_, realm)| realm)
    }
}

impl Action {
    const WORDS: [(&'static str, Self); 6] = [
        ("null_keys", Self::NullKeys),
        ("delete", Self::Delete),
        ("mask", Self::Mask),
        ("keep", Self::Keep),
        ("drop", Self::Drop),
        ("shred", Self::Shred),
    ];

    /// The stored word.
    #[must_use]
    pub fn word(self) -> &'static str {
        crate::data_map::word(&Self::WORDS, &self)
    }

    /// Reads the stored word.
    #[must_use]
    pub fn from_word(word: &str) -> Option<Self> {
        let mut words = Self::WORDS.into_iter();
        words
            .find(|(one, _)| *one == word)
            .map(|(_, action)| action)
    }
}

/// One thing to erase.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Planned {
    /// Whose rows.
    pub realm: Realm,
    /// The table, or what else it is.
    pub name: String,
    /// What is done.
    pub action: Action,
    /// Why rows stay.
    pub basis: Option<String>,
}

/// What a tenant's schema or database is called where it is its own, for the step that drops it.
pub const WHOLE: &str = "(the rest)";
/// The step that destroys archives of its rows.
pub const ARCHIVES: &str = "archives";
/// The step that destroys the keys.
pub const KEYS: &str = "data keys";

/// The steps at the product: keys that close rings first, then whoever refers before what it refers
/// to. Where schema or database are the tenant's own, tables go whole.
///
/// The foreign keys are those that the database has now: the map may be older than a key, and binds
/// nobody where rows are kept. What they leave open, and rings, the map decides.
#[must_use]
pub fn plan_product(map: &DataMap, now: &Snapshot) -> Vec<Planned> {
    let own_tables = map.model != Model::Shared;
    let mut tables: Vec<(&String, &TableRule)> = map
        .tables
        .iter()
        .filter(|(_, rule)| !matches!(rule.belongs, Belongs::Nobody(_)))
        .collect();
    let places = places(&tables, now);
    tables.sort_by_key(|(name, rule)| (places.get(*name).copied(), rule.order, *name));
    let planned = |name: &str, action, basis| Planned {
        realm: Realm::Product,
        name: name.to_owned(),
        action,
        basis,
    };
    let mut plan: Vec<Planned> = tables
        .iter()
        .filter(|(_, rule)| !own_tables && !rule.nulled_first.is_empty())
        .map(|(name, _)| planned(name, Action::NullKeys, None))
        .collect();
    for (name, rule) in &tables {
        let action = match (is_masked(rule), rule.is_kept(), own_tables) {
            (true, _, _) => Action::Mask,
            (false, true, _) => Action::Keep,
            (false, false, true) => Action::Drop,
            (false, false, false) => Action::Delete,
        };
        let basis = rule.is_kept().then(|| basis_of(rule));
        plan.push(planned(name, action, basis));
    }
    let nothing_stays = tables.iter().all(|(_, rule)| !rule.is_kept());
    if own_tables && nothing_stays {
        plan.push(planned(WHOLE, Action::Drop, None));
    }
    plan
}

/// Whoever refers to a row that goes comes before it, whether it goes or is only emptied itself.
fn places(tables: &[(&String, &TableRule)], now: &Snapshot) -> BTreeMap<String, u32> {
    let names = tables.iter().map(|(name, _)| (*name).clone()).collect();
    let goes = |parent: &str| {
        let mut found = tables.iter().filter(|(name, _)| *name == parent);
        found.any(|(_, rule)| !rule.is_kept())
    };
    let links = tables.iter().flat_map(|(name, rule)| {
        let found = now.table(name).into_iter();
        let keys = found.flat_map(|table| &table.foreign_keys);
        let binds = keys.filter(|key| {
            key.parent != **name && goes(&key.parent) && !rule.nulled_first.contains(&key.name)
        });
        binds.map(|key| Link {
            child: (*name).clone(),
            parent: key.parent.clone(),
            constraint: key.name.clone(),
            nullable: false,
        })
    });
    let links: Vec<Link> = links.collect();
    data_map::arrange(&names, &links).places
}

fn is_masked(rule: &TableRule) -> bool {
    let mut columns = rule.columns.iter();
    columns.any(|column| matches!(column.erase, Erase::Null | Erase::Hash | Erase::Mask))
}

/// How a plan that was made anew differs from the one that stands.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Anew {
    /// Steps that have begun and are in no plan any more: they are done with what they came to.
    pub closes: Vec<i32>,
    /// Steps that have not begun and are in no plan any more.
    pub drops: Vec<i32>,
    /// Steps that stand, with their new turn.
    pub stands: Vec<(i32, i32)>,
    /// New steps, with their turn.
    pub adds: Vec<(i32, Planned)>,
}

impl Anew {
    /// Whether anything but turns differs.
    #[must_use]
    pub fn differs(&self) -> bool {
        !(self.closes.is_empty() && self.drops.is_empty() && self.adds.is_empty())
    }
}

/// Holds a new plan against the steps that there are: what has begun goes on if it is still wanted, what
/// is done stays done, and rows that are gone are not planned for.
#[must_use]
pub fn anew(standing: &[Unit], plan: Vec<Planned>) -> Anew {
    let mut plan = plan;
    let of = |unit: &Unit, step: &Planned| {
        (unit.planned.realm, &unit.planned.name) == (step.realm, &step.name)
    };
    let same = |unit: &Unit, step: &Planned| of(unit, step) && unit.planned.action == step.action;
    let is_gone = |unit: &Unit, step: &Planned| {
        let goes = matches!(unit.planned.action, Action::Delete | Action::Drop);
        unit.done_at.is_some() && of(unit, step) && (goes || unit.planned.action == step.action)
    };
    plan.retain(|step| !standing.iter().any(|unit| is_gone(unit, step)));
    // Who erases there takes turns with who places holds, which leaves a row of its own.
    let touches = |step: &Planned| matches!(step.realm, Realm::Product | Realm::Archive);
    let turn = own_step(own::TURN);
    if plan.iter().any(touches) && !plan.contains(&turn) {
        plan.push(turn);
    }
    let open = || standing.iter().filter(|unit| unit.done_at.is_none());
    let mut found = Anew::default();
    for unit in open().filter(|unit| !plan.iter().any(|step| same(unit, step))) {
        match unit.chunk {
            0 => found.drops.push(unit.seq),
            _ => found.closes.push(unit.seq),
        }
    }
    // In the order in which a certificate has what was done at once.
    found.closes.sort_unstable();
    for (place, step) in (1..).zip(plan) {
        match open().find(|unit| same(unit, &step)) {
            Some(unit) => found.stands.push((unit.seq, place)),
            None => found.adds.push((place, step)),
        }
    }
    found
}

/// Why a table's rows stay, by the map.
pub(super) fn basis_of(rule: &TableRule) -> String {
    let mut bases: Vec<&str> = rule.basis.as_deref().into_iter().collect();
    let columns = rule.columns.iter();
    bases.extend(columns.filter_map(|column| column.basis.as_deref()));
    bases.dedup();
    match bases.is_empty() {
        true => "the data map keeps it, and holds nothing personal".to_owned(),
        false => bases.join("; "),
    }
}

/// The steps over what Tenure has itself, after the product's: archives, schema `app`, the engine, the
/// keys.
#[must_use]
pub fn plan_tenure() -> Vec<Planned> {
    let own = own::TABLES.iter().map(step_of);
    let shelves = tenure_engine::forget::Shelf::ALL.into_iter();
    let engine = shelves.map(|shelf| Planned {
        realm: Realm::Engine,
        name: shelf.word().to_owned(),
        action: Action::Delete,
        basis: None,
    });
    let acts = Planned {
        realm: Realm::Engine,
        name: own::ACTS.to_owned(),
        action: Action::Mask,
        basis: Some(own::ACCOUNTABILITY.to_owned()),
    };
    let keys = Planned {
        realm: Realm::Keys,
        name: KEYS.to_owned(),
        action: Action::Shred,
        basis: None,
    };
    let archives = Planned {
        realm: Realm::Archive,
        name: ARCHIVES.to_owned(),
        action: Action::Delete,
        basis: None,
    };
    let own = std::iter::once(archives).chain(own);
    own.chain(engine).chain([acts, keys]).collect()
}

/// The step of one of our own tables.
fn own_step(name: &str) -> Planned {
    let table = own::TABLES.iter().find(|table| table.name == name);
    step_of(table.expect("the table is one of ours"))
}

fn step_of(table: &own::OwnTable) -> Planned {
    let (action, basis) = match table.rule {
        Rule::Delete => (Action::Delete, None),
        Rule::Minimise { basis, .. } => (Action::Mask, Some(basis)),
        Rule::Keep { basis } => (Action::Keep, Some(basis)),
    };
    Planned {
        realm: Realm::Tenure,
        name: table.name.to_owned(),
        action,
        basis: basis.map(ToOwned::to_owned),
    }
}

/// What became of a failure of the database.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Failure {
    /// It passes: the same is tried again.
    Passing,
    /// Somebody has to do something first; its code.
    Named(&'static str),
}

/// What a database's refusal means.
#[must_use]
pub fn failure(sqlstate: Option<&str>) -> Failure {
    let Some(code) = sqlstate else {
        return Failure::Passing;
    };
    match code {
        // Locks, deadlocks, a statement or a session that was ended, a server that goes down.
        "55P03" | "40P01" | "40001" | "57014" | "53300" => Failure::Passing,
        code if code.starts_with("08") || code.starts_with("57P") || code.starts_with("25P") => {
            Failure::Passing
        }
        "23503" => Failure::Named("row_of_two_tenants"),
        "23514" | "23502" | "23505" | "22001" => Failure::Named("refused_by_a_check"),
        "42703" => Failure::Named("column_gone"),
        "42P01" | "3F000" | "3D000" => Failure::Named("table_gone"),
        "42501" => Failure::Named("no_right"),
        "2BP01" => Failure::Named("something_depends_on_it"),
        "55006" => Failure::Passing,
        "P0001" | "P0002" | "P0003" | "P0004" | "P0000" => Failure::Named("trigger_failed"),
        _ => Failure::Named("refused"),
    }
}

/// What to do about a failure.
#[must_use]
pub fn remedy(code: &str) -> &'static str {
    match code {
        "row_of_two_tenants" => {
            "a row or a table of another tenant refers to what goes: mend that row, or drop that key, then retry"
        }
        "refused_by_a_check" => {
            "a constraint refuses what the data map asks for: choose another way \
                                 to erase the column, load the map, then retry"
        }
        "column_gone" | "table_gone" | "data_map" => {
            "the data map is no longer true: `tenure data-map check` tells, load a true one, then retry"
        }
        "no_right" => "give the login of the source the right that it misses, then retry",
        "something_depends_on_it" => "drop what depends on it, then retry",
        "trigger_failed" => "mend the trigger that refused, then retry",
        "key_without_index" | "tenant_without_index" => "make the index that it names, then retry",
        "chunk_too_slow" => {
            "find what it waits for (a key without an index, a trigger), mend it, then retry"
        }
        "statement_too_slow" => {
            "find what it waits for (its size, a lock, a trigger), mend it, then retry"
        }
        "look_too_slow" => {
            "find what it waits for (a lock, the size of a row), mend it, then retry"
        }
        "third_party_refused" => "mend what the provider names, then retry",
        "archive_damaged" => {
            "what the law keeps cannot be told without it: mend the object in the store, or take the \
             archive away there, then retry"
        }
        "leftovers" => "erase what was found and retry, or accept it with a reason",
        "archive_not_configured" => "name the store of archives (TENURE_ARCHIVE), then retry",
        "export_ended" => {
            "the export ended before it was ready: retry goes on without it, or cancel and ask anew"
        }
        "no_signing_key" => "configure a signing key (TENURE_CERTIFICATE_KEY), then retry",
        "placement" => "let the move of the tenant end, then retry",
        "source" => "name the tenant's database in the configuration (TENURE_PRODUCTS), then retry",
        _ => "mend what it names, then retry",
    }
}

/// What one chunk should take, so that no lock is held for longer than 100 ms.
const TARGET_MS: i64 = 25;
/// The fewest rows of a chunk that only was slow: where what it takes to find them is most of it,
/// fewer rows would be no quicker.
pub const MIN_CHUNK: i64 = 50;
/// The most rows of a chunk.
const MAX_CHUNK: i64 = 10_000;
/// The rows of the first chunk of a table.
pub const FIRST_CHUNK: i64 = 500;

/// How many rows the next chunk should have, by what the last one took.
#[must_use]
pub fn next_chunk(rows: i64, took_ms: i64) -> i64 {
    let rows = rows.clamp(1, MAX_CHUNK);
    let wanted = rows.saturating_mul(TARGET_MS) / took_ms.max(1);
    wanted.clamp(rows.min(MIN_CHUNK), (rows * 2).min(MAX_CHUNK))
}

/// How many rows are tried next when a chunk was cut off; `None` when it was a single one.
#[must_use]
pub fn half_chunk(rows: i64) -> Option<i64> {
    (rows > 1).then_some(rows / 2)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data_map;

    #[test]
    fn a_month_is_a_month_and_the_warning_comes_a_week_before() {
        let at = |text: &str| text.parse::<DateTime<Utc>>().unwrap();
        assert_eq!(
            due_at(at("2027-01-31T09:00:00Z")),
            at("2027-02-28T09:00:00Z")
        );
        assert_eq!(
            due_at(at("2027-03-01T09:00:00Z")),
            at("2027-04-01T09:00:00Z")
        );
        assert_eq!(
            near_at(at("2027-04-01T09:00:00Z")),
            at("2027-03-25T09:00:00Z")
        );
    }

    #[test]
    fn chunks_follow_the_time_that_they_took() {
        assert_eq!(next_chunk(500, 25), 500);
        assert_eq!(next_chunk(500, 1), 1_000, "it at most doubles");
        assert_eq!(next_chunk(500, 100), 125);
        assert_eq!(next_chunk(500, 60_000), 50);
        assert_eq!(next_chunk(10_000, 1), 10_000);
        // Below the fewest it comes only by being cut off, and from there it grows again.
        let halves = std::iter::successors(Some(500), |rows| half_chunk(*rows));
        let halves: Vec<i64> = halves.collect();
        assert_eq!(halves, [500, 250, 125, 62, 31, 15, 7, 3, 1]);
        assert_eq!(next_chunk(7, 2_000), 7);
        assert_eq!(next_chunk(7, 5), 14);
    }

    #[test]
    fn what_passes_is_tried_again_and_what_does_not_has_a_name_and_a_remedy() {
        for code in [
            None,
            Some("55P03"),
            Some("40P01"),
            Some("57P01"),
            Some("08006"),
        ] {
            assert_eq!(failure(code), Failure::Passing, "{code:?}");
        }
        for code in [
            "23503", "23514", "42703", "42P01", "42501", "2BP01", "P0001", "XX000",
        ] {
            let Failure::Named(name) = failure(Some(code)) else {
                panic!("{code} passes");
            };
            assert!(remedy(name).ends_with("retry"), "{name}");
        }
    }

    const MAP: &str = r#"
version = 1
model = "shared"
schemas = ["work"]

[tables."work.org"]
tenant = "id"
class = "core"
order = 3
[tables."work.org".columns]
id = { kind = "operational", erase = "delete" }

[tables."work.user"]
tenant = "org_id"
class = "core"
order = 1
nulled_first = ["user_project"]
[tables."work.user".columns]
org_id = { kind = "operational", erase = "delete" }

[tables."work.invoice"]
tenant = "org_id"
class = "books"
order = 2
basis = "§ 147 AO"
[tables."work.invoice".columns]
org_id = { kind = "operational", erase = "keep" }
buyer = { kind = "personal", erase = "mask" }
"#;

    #[test]
    fn rings_are_opened_first_and_whoever_refers_goes_before_what_it_refers_to() {
        let map = data_map::parse(MAP).unwrap();
        let plan = plan_product(&map, &Snapshot::default());
        let steps: Vec<(&str, Action)> = plan
            .iter()
            .map(|one| (one.name.as_str(), one.action))
            .collect();
        assert_eq!(
            steps,
            [
                ("work.user", Action::NullKeys),
                ("work.user", Action::Delete),
                ("work.invoice", Action::Mask),
                ("work.org", Action::Delete),
            ]
        );
        assert_eq!(plan[2].basis.as_deref(), Some("§ 147 AO"));
    }

    #[test]
    fn keys_that_the_database_has_now_come_before_the_order_of_the_map() {
        let map = data_map::parse(MAP).unwrap();
        let table = |name: &str, parents: &[&str]| data_map::Table {
            name: name.to_owned(),
            foreign_keys: parents.iter().map(|parent| refers_to(parent)).collect(),
            ..data_map::Table::default()
        };
        // The map says that users go first; an organisation refers to one by now, an invoice to both.
        let now = Snapshot {
            tables: vec![
                table("work.org", &["work.user"]),
                table("work.user", &[]),
                table("work.invoice", &["work.user", "work.org"]),
            ],
        };
        let plan = plan_product(&map, &now);
        let names: Vec<&str> = plan[1..].iter().map(|one| one.name.as_str()).collect();
        assert_eq!(names, ["work.invoice", "work.org", "work.user"]);
    }

    fn unit(seq: i32, planned: Planned, chunk: i64, done: bool) -> Unit {
        Unit {
            seq,
            planned,
            found: chunk,
            erased: chunk,
            masked: 0,
            kept: 0,
            chunk,
            after: None,
            place: seq,
            done_at: done.then(|| "2027-04-01T09:00:00Z".parse().unwrap()),
        }
    }

    #[test]
    fn a_plan_made_anew_keeps_what_is_done_goes_on_with_what_has_begun_and_drops_the_rest() {
        let step = |name: &str, action| Planned {
            realm: Realm::Product,
            name: name.to_owned(),
            action,
            basis: None,
        };
        let first = vec![
            step("work.comment", Action::Delete),
            step("work.task", Action::Delete),
            step("work.invoice", Action::Delete),
            step("work.note", Action::Mask),
            own_step(own::TURN),
        ];
        let made = anew(&[], first.clone());
        let places: Vec<i32> = made.adds.iter().map(|(place, _)| *place).collect();
        assert_eq!(places, [1, 2, 3, 4, 5]);
        let standing = [
            unit(1, first[0].clone(), 3, true),
            unit(2, first[1].clone(), 2, false),
            unit(3, first[2].clone(), 0, false),
            unit(4, first[3].clone(), 1, false),
            unit(5, first[4].clone(), 0, false),
        ];
        assert!(!anew(&standing, first).differs());
        let second = vec![
            step("work.copy", Action::Delete),
            step("work.comment", Action::Keep),
            step("work.task", Action::Delete),
            step("work.invoice", Action::Keep),
            step("work.note", Action::Delete),
            own_step(own::TURN),
        ];
        let found = anew(&standing, second.clone());
        let expected = Anew {
            closes: vec![4],
            drops: vec![3],
            stands: vec![(2, 2), (5, 5)],
            adds: vec![
                (1, second[0].clone()),
                (3, second[3].clone()),
                (4, second[4].clone()),
            ],
        };
        assert_eq!(
            found, expected,
            "rows of work.comment are gone, and stay so"
        );
        // All was done but for a table that the map had not named; whoever erases leaves a turn behind.
        let done: Vec<Unit> = standing
            .iter()
            .map(|one| unit(one.seq, one.planned.clone(), 1, true))
            .collect();
        let late = vec![step("work.copy", Action::Delete), own_step(own::TURN)];
        let found = anew(&done, late.clone());
        assert_eq!(found.adds, [(1, late[0].clone()), (2, late[1].clone())]);
        assert!(!anew(&done, vec![own_step(own::TURN)]).differs());
    }

    fn refers_to(parent: &str) -> data_map::ForeignKey {
        data_map::ForeignKey {
            name: format!("to {parent}"),
            columns: Vec::new(),
            parent: parent.to_owned(),
            parent_columns: Vec::new(),
            on_delete: data_map::OnDelete::Refuse,
            match_full: false,
        }
    }

    #[test]
    fn only_what_comes_before_the_end_of_its_runs_can_be_taken_back() {
        assert!(Stage::Verified.is_restorable() && Stage::CoolingOff.is_restorable());
        assert!(Stage::Exporting.is_restorable());
        for stage in [Stage::Ending, Stage::Erasing, Stage::Verifying] {
            assert!(!stage.is_restorable());
        }
    }
}

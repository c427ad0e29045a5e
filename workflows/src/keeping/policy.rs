//! How long rows are kept, as data: by class of the data map, and by table where one differs. Pure.
//!
//! A policy is a document that is checked against the data map when it is loaded. A class names what
//! becomes of its rows, after how many days, counted by which column, and what the law asks: a time for
//! which they must stay, and one after which they must be gone. A table may differ from its class, but
//! not from the class's law.
//!
//! *Archive* takes rows out of the product and keeps them in the archive. *Delete* does the same for
//! the days of the restore window and then destroys the archive: that is the soft delete, and it needs
//! no column in the product's tables that every query would have to ask. Without a window they are
//! deleted at once.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::data_map::{Belongs, DataMap, TableRule};

/// The longest time, in days.
const MAX_DAYS: u32 = 36_500;

/// What becomes of rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Action {
    /// They stay.
    Keep,
    /// They go to the archive, and stay there.
    Archive,
    /// They go; until the restore window ends they can be brought back.
    Delete,
}

impl Action {
    /// The word of documents.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Keep => "keep",
            Self::Archive => "archive",
            Self::Delete => "delete",
        }
    }
}

/// A policy.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Policy {
    /// By retention class, as the data map names it. Each class of the map is here.
    pub classes: BTreeMap<String, Class>,
    /// By table, where one differs from its class.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub tables: BTreeMap<String, Difference>,
}

/// What holds for a class.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Class {
    /// What becomes of its rows.
    pub action: Action,
    /// After so many days; none with `keep`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after_days: Option<u32>,
    /// With `delete`: for so many days they can be brought back.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub restore_days: Option<u32>,
    /// The column that a row's days are counted from; none with `keep`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub age: Option<String>,
    /// For so many days the law wants them kept.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub legal_min_days: Option<u32>,
    /// After so many days the law wants them gone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub legal_max_days: Option<u32>,
    /// Which law; needed where there is a minimum or a maximum.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub basis: Option<String>,
}

/// In what a table differs from its class.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Difference {
    /// What becomes of its rows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub action: Option<Action>,
    /// After so many days.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after_days: Option<u32>,
    /// For so many days they can be brought back.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub restore_days: Option<u32>,
    /// The column that a row's days are counted from; with `age_of` one of the table there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub age: Option<String>,
    /// Foreign keys, by name and from this table on, to the row that it is as old as.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub age_of: Vec<String>,
}

/// What holds for a table whose rows do not stay.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rule {
    /// The table.
    pub table: String,
    /// Archive or delete.
    pub action: Action,
    /// After so many days.
    pub after_days: u32,
    /// For so many days they can be brought back; `None` for ever, 0 for not at all.
    pub restore_days: Option<u32>,
    /// The column that days are counted from.
    pub age: String,
    /// The way to the row that has the column.
    pub age_of: Vec<String>,
}

/// What is wrong with a policy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Flaw {
    /// JSON Pointer (RFC 6901) into the document.
    pub place: String,
    /// What is wrong, and what would be right.
    pub detail: String,
}

/// Says what holds for each table whose rows do not stay, in the order of the map.
///
/// # Errors
/// All flaws of the policy, also against the map.
pub fn rules(policy: &Policy, map: &DataMap) -> Result<Vec<Rule>, Vec<Flaw>> {
    let mut flaws = Vec::new();
    for (name, class) in &policy.classes {
        let place = format!("/classes/{}", pointer(name));
        if !tables_of(map).any(|(_, table)| table.class == *name) {
            flaws.push(flaw(&place, "the data map has no such class"));
        }
        flaws.extend(check_law(&place, class));
    }
    for name in policy.tables.keys() {
        if !tables_of(map).any(|(table, _)| table == name) {
            let place = format!("/tables/{}", pointer(name));
            flaws.push(flaw(&place, "the data map has no such table of tenants"));
        }
    }
    let mut ordered: Vec<_> = tables_of(map).collect();
    ordered.sort_by_key(|(name, table)| (table.order, *name));
    let mut rules = Vec::new();
    for (name, table) in ordered {
        match rule_of(policy, name, table) {
            Ok(rule) => rules.extend(rule),
            Err(flaw) => flaws.push(flaw),
        }
    }
    flaws.sort_by(|one, other| one.place.cmp(&other.place));
    flaws.dedup();
    if flaws.is_empty() {
        Ok(rules)
    } else {
        Err(flaws)
    }
}

/// After how many days a policy takes rows of a table out, whatever it does with them; `None` where they
/// stay.
pub(crate) fn after_days(policy: &Policy, table: &str, class: &str) -> Option<u32> {
    let differs = policy.tables.get(table);
    let class = policy.classes.get(class);
    let action = differs.and_then(|one| one.action);
    let action = action.or_else(|| class.map(|class| class.action));
    if action.is_none_or(|action| action == Action::Keep) {
        return None;
    }
    let own = differs.and_then(|one| one.after_days);
    own.or_else(|| class.and_then(|class| class.after_days))
}

/// The tables that hold tenants' rows.
fn tables_of(map: &DataMap) -> impl Iterator<Item = (&String, &TableRule)> {
    let tables = map.tables.iter();
    tables.filter(|(_, table)| !matches!(table.belongs, Belongs::Nobody(_)))
}

/// What the law asks of a class, whatever a table does.
fn check_law(place: &str, class: &Class) -> Option<Flaw> {
    let (least, most) = (class.legal_min_days, class.legal_max_days);
    if (least.is_some() || most.is_some()) && class.basis.as_deref().is_none_or(str::is_empty) {
        return Some(flaw(
            &format!("{place}/basis"),
            "name the law that asks for it",
        ));
    }
    match (least, most) {
        (Some(least), Some(most)) if least > most => Some(flaw(
            &format!("{place}/legal_max_days"),
            &format!("it is less than legal_min_days, {least}"),
        )),
        _ => None,
    }
}

/// What holds for a table; `None` when its rows stay.
fn rule_of(policy: &Policy, name: &str, table: &TableRule) -> Result<Option<Rule>, Flaw> {
    let Some(class) = policy.classes.get(&table.class) else {
        let detail = format!(
            "say what becomes of class {:?}, which {name} is of",
            table.class
        );
        return Err(flaw("/classes", &detail));
    };
    let differs = policy.tables.get(name);
    // What is wrong with the class alone is told once, at the class.
    let place = match differs {
        Some(_) => format!("/tables/{}", pointer(name)),
        None => format!("/classes/{}", pointer(&table.class)),
    };
    let at = |field: &str, detail: &str| flaw(&format!("{place}/{field}"), detail);
    let differs = differs.cloned().unwrap_or_default();
    let action = differs.action.unwrap_or(class.action);
    if action == Action::Keep {
        let own = (differs.after_days, differs.restore_days, &differs.age);
        let set = match differs.action {
            Some(_) => own != (None, None, &None) || !differs.age_of.is_empty(),
            None => {
                class.after_days.is_some() || class.restore_days.is_some() || class.age.is_some()
            }
        };
        if set {
            return Err(at(
                "action",
                "what is kept has no after_days, restore_days and age",
            ));
        }
        if class.legal_max_days.is_some() {
            return Err(at(
                "action",
                "the law wants it gone after legal_max_days; delete it",
            ));
        }
        return Ok(None);
    }
    let days = differs.after_days.or(class.after_days);
    let after_days = days.filter(|days| *days <= MAX_DAYS);
    let after_days = after_days.ok_or_else(|| at("after_days", "0 to 36500 days"))?;
    let window = differs.restore_days.or(class.restore_days);
    let restore_days = match action {
        Action::Delete => Some(window.unwrap_or(0)),
        Action::Archive | Action::Keep if window.is_none() => None,
        Action::Archive | Action::Keep => {
            return Err(at("restore_days", "a window is for what is deleted"));
        }
    };
    if restore_days.is_some_and(|days| days > MAX_DAYS) {
        return Err(at("restore_days", "0 to 36500 days"));
    }
    within_law(class, action, after_days, restore_days).map_err(|why| at("after_days", why))?;
    let age = differs.age.clone().or_else(|| class.age.clone());
    let age = age.ok_or_else(|| at("age", "name the column that days are counted from"))?;
    if differs.age_of.is_empty() && table.column(&age).is_none() {
        let detail = format!(
            "{name} has no column {age:?}; name one of it, or by age_of the row that it is as old as"
        );
        return Err(flaw(&format!("/tables/{}/age", pointer(name)), &detail));
    }
    Ok(Some(Rule {
        table: name.to_owned(),
        action,
        after_days,
        restore_days,
        age,
        age_of: differs.age_of,
    }))
}

/// Whether the days are what the law wants of the class; why not otherwise.
fn within_law(
    class: &Class,
    action: Action,
    after_days: u32,
    restore_days: Option<u32>,
) -> Result<(), &'static str> {
    let least = class.legal_min_days.filter(|_| action == Action::Delete);
    if least.is_some_and(|least| after_days < least) {
        return Err("it is less than the legal_min_days of the class");
    }
    let gone = restore_days.map(|window| after_days + window);
    let most = class.legal_max_days;
    if most.is_some_and(|most| gone.is_none_or(|gone| gone > most)) {
        return Err(
            "with the restore window it is more than the legal_max_days of the class, or it stays in the archive for ever",
        );
    }
    Ok(())
}

fn flaw(place: &str, detail: &str) -> Flaw {
    Flaw {
        place: place.to_owned(),
        detail: detail.to_owned(),
    }
}

/// A name as a JSON Pointer holds it.
fn pointer(name: &str) -> String {
    name.replace('~', "~0").replace('/', "~1")
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::data_map;

    const MAP: &str = r#"
        version = 1
        model = "shared"
        schemas = ["work"]
        [tables."work.note"]
        tenant = "org_id"
        class = "content"
        order = 2
        [tables."work.note".columns]
        org_id = { kind = "operational", erase = "delete" }
        created_at = { kind = "operational", erase = "delete" }
        [tables."work.file"]
        tenant_path = ["file_note"]
        class = "content"
        order = 1
        [tables."work.file".columns]
        name = { kind = "personal", erase = "delete" }
        [tables."work.bill"]
        tenant = "org_id"
        class = "financial"
        order = 3
        [tables."work.bill".columns]
        issued_on = { kind = "financial", erase = "keep" }
        [tables."work.currency"]
        no_tenant = "the world's"
        class = "reference"
        order = 4
        [tables."work.currency".columns]
        code = { kind = "operational", erase = "keep" }
    "#;

    fn decide(document: Value) -> Result<Vec<Rule>, Vec<String>> {
        let map = data_map::parse(MAP).unwrap();
        let policy: Policy = serde_json::from_value(document).unwrap();
        rules(&policy, &map).map_err(|flaws| {
            let told = flaws.into_iter();
            told.map(|flaw| format!("{} {}", flaw.place, flaw.detail))
                .collect()
        })
    }

    fn good() -> Value {
        json!({
            "classes": {
                "content": { "action": "delete", "after_days": 365, "restore_days": 30, "age": "created_at" },
                "financial": { "action": "archive", "after_days": 4000, "age": "issued_on",
                    "legal_min_days": 3650, "basis": "§ 147 AO" }
            },
            "tables": { "work.file": { "age_of": ["file_note"] } }
        })
    }

    #[test]
    fn tables_go_in_the_order_of_the_map_with_what_their_class_says() {
        let rules = decide(good()).unwrap();
        let told: Vec<_> = rules
            .iter()
            .map(|rule| {
                (
                    rule.table.as_str(),
                    rule.action,
                    rule.after_days,
                    rule.restore_days,
                )
            })
            .collect();
        assert_eq!(
            told,
            [
                ("work.file", Action::Delete, 365, Some(30)),
                ("work.note", Action::Delete, 365, Some(30)),
                ("work.bill", Action::Archive, 4000, None),
            ]
        );
        assert_eq!(rules[0].age_of, ["file_note"]);
    }

    #[test]
    fn a_table_may_differ_but_not_from_the_law() {
        let mut kept = good();
        kept["tables"]["work.note"] = json!({ "action": "keep" });
        let rules = decide(kept).unwrap();
        assert!(
            rules.iter().all(|rule| rule.table != "work.note"),
            "{rules:?}"
        );
        let mut early = good();
        early["tables"]["work.bill"] = json!({ "action": "delete", "after_days": 30 });
        let told = decide(early).unwrap_err();
        assert!(told[0].contains("legal_min_days"), "{told:?}");
    }

    #[test]
    fn each_flaw_is_told_with_its_place() {
        let cases: [(&str, Value, &str); 9] = [
            (
                "/classes/financial",
                json!(null),
                "/classes say what becomes of class \"financial\"",
            ),
            (
                "/classes/other",
                json!({ "action": "keep" }),
                "/classes/other the data map has no such class",
            ),
            (
                "/tables/work.currency",
                json!({}),
                "/tables/work.currency the data map has no such table",
            ),
            (
                "/classes/content/after_days",
                json!(null),
                "/classes/content/after_days 0 to 36500",
            ),
            (
                "/classes/content/age",
                json!("made"),
                "/tables/work.note/age work.note has no column",
            ),
            (
                "/classes/financial/basis",
                json!(null),
                "/classes/financial/basis name the law",
            ),
            (
                "/classes/financial/legal_max_days",
                json!(9),
                "/classes/financial/legal_max_days it is less",
            ),
            (
                "/classes/financial/restore_days",
                json!(9),
                "/classes/financial/restore_days a window is for what is deleted",
            ),
            (
                "/classes/content",
                json!({ "action": "keep", "legal_max_days": 9, "basis": "x" }),
                "/classes/content/action the law wants it gone",
            ),
        ];
        for (place, value, expected) in cases {
            let mut document = good();
            let (parent, name) = place.rsplit_once('/').unwrap();
            let fields = document
                .pointer_mut(parent)
                .unwrap()
                .as_object_mut()
                .unwrap();
            match value {
                Value::Null => fields.remove(name),
                value => fields.insert(name.to_owned(), value),
            };
            let told = decide(document).unwrap_err();
            assert!(
                told.iter().any(|flaw| flaw.starts_with(expected)),
                "{place}: {told:?}"
            );
        }
    }

    #[test]
    fn a_window_that_outlasts_the_law_is_refused() {
        let mut document = good();
        document["classes"]["content"]["basis"] = json!("Art. 5 GDPR");
        for (most, fits) in [(394, false), (395, true)] {
            document["classes"]["content"]["legal_max_days"] = json!(most);
            assert_eq!(decide(document.clone()).is_ok(), fits, "{most}");
        }
    }
}

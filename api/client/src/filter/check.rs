//! The names of a filter against the workflows that there are: attributes with their types, states
//! as the code spells them.

use std::collections::BTreeSet;

use chrono::SecondsFormat;
use serde_json::Value;

use super::text::{Comparison, Term};
use super::{FIELDS, Filter, FilterError, value};
use crate::{AttributeKind, Workflow};

/// A test of one search attribute, with the value as it is stored.
#[derive(Clone, Debug, PartialEq)]
pub struct AttributeTest {
    /// The attribute's name.
    pub name: String,
    /// Whether runs that pass it are excluded.
    pub negated: bool,
    /// How it is compared.
    pub compare: Compare,
}

/// How an attribute is compared. A run without the attribute passes none of these.
#[derive(Clone, Debug, PartialEq)]
pub enum Compare {
    /// Is one of them.
    OneOf(Vec<Value>),
    /// `<`
    Under(Value),
    /// `<=`
    AtMost(Value),
    /// `>`
    Over(Value),
    /// `>=`
    AtLeast(Value),
}

impl Filter {
    /// Writes states as the code spells them, so that `past-due` finds `PastDue`.
    pub fn spell_states(&mut self, workflows: &[Workflow]) {
        let known: Vec<&String> = named(&self.workflow.any, workflows)
            .flat_map(|one| &one.states)
            .collect();
        for state in self.state.any.iter_mut().chain(&mut self.state.none) {
            let spelt = known.iter().find(|known| plain(known) == plain(state));
            if let Some(spelt) = spelt {
                *state = (*spelt).clone();
            }
        }
    }

    /// Refuses workflows and states that none of these workflows has. What people call a state may be
    /// an attribute, such as the stage of a debt, so attributes are told with the states.
    ///
    /// # Errors
    /// The first name that is unknown; the place is that of the whole filter, because names may have
    /// come from elsewhere.
    pub fn check_names(&self, workflows: &[Workflow]) -> Result<(), FilterError> {
        let refuse = |code, what: &str, name: &str, known: &str| FilterError {
            at: 0,
            code,
            detail: format!("no {what} is called \"{name}\"; there are {known}"),
        };
        for name in self.workflow.any.iter().chain(&self.workflow.none) {
            if !workflows.iter().any(|known| known.workflow == *name) {
                let known = workflows.iter().map(|known| known.workflow.as_str());
                let known = listed(known);
                return Err(refuse("unknown_workflow", "workflow", name, &known));
            }
        }
        let states = || named(&self.workflow.any, workflows).flat_map(|known| &known.states);
        for name in self.state.any.iter().chain(&self.state.none) {
            if !states().any(|state| state == name) {
                let mut known = listed(states().map(String::as_str));
                if let Some(attributes) = attributes_of(&self.workflow.any, workflows) {
                    known += &format!(", and {attributes}");
                }
                return Err(refuse("unknown_state", "state", name, &known));
            }
        }
        Ok(())
    }

    /// Reads the tests of attributes by the types that the workflows declare.
    ///
    /// # Errors
    /// An attribute that none of the workflows in question declares, or a value that is none.
    pub fn attributes(&self, workflows: &[Workflow]) -> Result<Vec<AttributeTest>, FilterError> {
        let mut tests = Vec::new();
        for term in &self.attributes {
            let name = term.field.strip_prefix("attr.").unwrap_or(&term.field);
            let kind = self.kind_of(term, name, workflows)?;
            for (compare, negated) in compare(term, kind)? {
                tests.push(AttributeTest {
                    name: name.to_owned(),
                    negated,
                    compare,
                });
            }
        }
        Ok(tests)
    }

    fn kind_of(
        &self,
        term: &Term,
        name: &str,
        workflows: &[Workflow],
    ) -> Result<AttributeKind, FilterError> {
        let mut kinds = named(&self.workflow.any, workflows)
            .flat_map(|known| &known.attributes)
            .filter(|known| known.name == name)
            .map(|known| known.kind);
        let Some(kind) = kinds.next() else {
            let known = attributes_of(&self.workflow.any, workflows);
            let known = known.unwrap_or_else(|| "no attributes".to_owned());
            let fields = FIELDS.join(", ");
            let wrong = format!("no field \"{name}\"; there are {fields}, and {known}");
            return Err(FilterError::new(term.at, wrong));
        };
        if kinds.any(|other| other != kind) {
            let wrong = format!("\"{name}\" has several types; name the workflow that is meant");
            return Err(FilterError::new(term.at, wrong));
        }
        Ok(kind)
    }
}

/// The workflows that a filter speaks of.
fn named<'a>(any: &'a [String], workflows: &'a [Workflow]) -> impl Iterator<Item = &'a Workflow> {
    let meant = move |known: &&Workflow| any.is_empty() || any.contains(&known.workflow);
    workflows.iter().filter(meant)
}

/// The attributes of the workflows that a filter speaks of, in words; `None` when there are none.
fn attributes_of(any: &[String], workflows: &[Workflow]) -> Option<String> {
    let known = named(any, workflows).flat_map(|known| &known.attributes);
    let known = listed(known.map(|known| known.name.as_str()));
    (!known.is_empty()).then(|| format!("the attributes {known}"))
}

/// Names in their order, each once.
fn listed<'a>(names: impl Iterator<Item = &'a str>) -> String {
    let names: BTreeSet<&str> = names.collect();
    Vec::from_iter(names).join(", ")
}

fn plain(name: &str) -> String {
    let letters = name
        .chars()
        .filter(|letter| !matches!(letter, '-' | '_' | ' '));
    letters.flat_map(char::to_lowercase).collect()
}

fn compare(term: &Term, kind: AttributeKind) -> Result<Vec<(Compare, bool)>, FilterError> {
    if kind == AttributeKind::Time {
        return times(term);
    }
    if term.comparison == Comparison::Is {
        let values = term.values.iter().map(|(at, value)| read(*at, value, kind));
        let values = values.collect::<Result<_, _>>()?;
        return Ok(vec![(Compare::OneOf(values), term.negated)]);
    }
    if kind != AttributeKind::Number {
        let wrong = format!(
            "{} is equal or not; only numbers and times are compared",
            term.field
        );
        return Err(FilterError::new(term.at, wrong));
    }
    let (at, number) = term.only()?;
    let number = read(at, number, kind)?;
    let compare = match term.comparison()? {
        Comparison::Is => Compare::OneOf(vec![number]),
        Comparison::Over => Compare::Over(number),
        Comparison::AtLeast => Compare::AtLeast(number),
        Comparison::Under => Compare::Under(number),
        Comparison::AtMost => Compare::AtMost(number),
    };
    Ok(vec![(compare, false)])
}

/// Times are compared by the stretch that the value covers.
fn times(term: &Term) -> Result<Vec<(Compare, bool)>, FilterError> {
    let (at, text) = term.only()?;
    let (first, after) = value::time(at, text)?;
    let stored = |time: chrono::DateTime<chrono::Utc>| {
        Value::String(time.to_rfc3339_opts(SecondsFormat::Micros, true))
    };
    let tests = match term.comparison()? {
        Comparison::Is => vec![
            Compare::AtLeast(stored(first)),
            Compare::Under(stored(after)),
        ],
        Comparison::Over => vec![Compare::AtLeast(stored(after))],
        Comparison::AtLeast => vec![Compare::AtLeast(stored(first))],
        Comparison::Under => vec![Compare::Under(stored(first))],
        Comparison::AtMost => vec![Compare::Under(stored(after))],
    };
    Ok(tests.into_iter().map(|test| (test, false)).collect())
}

fn read(at: usize, text: &str, kind: AttributeKind) -> Result<Value, FilterError> {
    let value = match kind {
        AttributeKind::Text | AttributeKind::Time => Some(Value::String(text.to_owned())),
        AttributeKind::Bool => match text {
            "true" | "yes" => Some(Value::Bool(true)),
            "false" | "no" => Some(Value::Bool(false)),
            _ => None,
        },
        AttributeKind::Number => text
            .parse::<f64>()
            .ok()
            .and_then(serde_json::Number::from_f64)
            .map(Value::Number),
    };
    value.ok_or_else(|| {
        let wanted = match kind {
            AttributeKind::Bool => "true or false",
            _ => "a number",
        };
        FilterError::new(at, format!("\"{text}\" is not {wanted}"))
    })
}

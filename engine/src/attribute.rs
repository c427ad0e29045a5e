//! Search attributes: what a workflow lets its runs be found by. Stored in clear, beside the state.
//!
//! They are a function of the state, so they cannot fall behind it and nothing has to be kept in
//! step by hand. A workflow that declares none pays nothing.

use chrono::{DateTime, SecondsFormat, Utc};
use serde_json::{Map, Value};

/// The longest text of an attribute, in characters; the rest is cut off.
pub const MAX_ATTRIBUTE_TEXT: usize = 255;

/// What the values of an attribute are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AttributeKind {
    /// Text, equal or not.
    Text,
    /// A number, for searching: an amount of money belongs in a row.
    Number,
    /// True or false.
    Bool,
    /// An instant.
    Time,
}

/// The attributes that a workflow declares: names in snake case, each with what its values are.
pub type AttributeNames = &'static [(&'static str, AttributeKind)];

/// A value of an attribute.
#[derive(Debug, Clone, PartialEq)]
enum Attribute {
    Text(String),
    Number(f64),
    Bool(bool),
    Time(DateTime<Utc>),
}

/// What a run can be found by in its present state.
///
/// ```
/// # use tenure_engine::Attributes;
/// let attributes = Attributes::none().text("plan", "starter").number("seats", 12.0);
/// ```
#[derive(Debug, Clone, Default, PartialEq)]
#[must_use]
pub struct Attributes(Vec<(&'static str, Attribute)>);

impl Attributes {
    /// Nothing beyond what every run is found by.
    pub fn none() -> Self {
        Self::default()
    }

    /// Adds a text.
    pub fn text(self, name: &'static str, value: &str) -> Self {
        let value = value.chars().take(MAX_ATTRIBUTE_TEXT).collect();
        self.with(name, Attribute::Text(value))
    }

    /// Adds a number. One that is not finite is left out.
    pub fn number(self, name: &'static str, value: f64) -> Self {
        self.with(name, Attribute::Number(value))
    }

    /// Adds a truth.
    pub fn bool(self, name: &'static str, value: bool) -> Self {
        self.with(name, Attribute::Bool(value))
    }

    /// Adds an instant.
    pub fn time(self, name: &'static str, value: DateTime<Utc>) -> Self {
        self.with(name, Attribute::Time(value))
    }

    fn with(mut self, name: &'static str, value: Attribute) -> Self {
        self.0.push((name, value));
        self
    }

    /// As it is stored, checked against what the workflow declares.
    pub(crate) fn encode(&self, declared: AttributeNames) -> Result<Value, String> {
        let mut stored = Map::new();
        for (name, value) in &self.0 {
            let kind = declared.iter().find(|(known, _)| known == name);
            match kind {
                Some((_, kind)) if *kind == value.kind() => {}
                Some((_, kind)) => return Err(format!("attribute {name} is declared as {kind:?}")),
                None => return Err(format!("attribute {name} is not declared")),
            }
            if let Some(value) = value.stored() {
                stored.insert((*name).to_owned(), value);
            }
        }
        Ok(Value::Object(stored))
    }
}

impl Attribute {
    const fn kind(&self) -> AttributeKind {
        match self {
            Self::Text(_) => AttributeKind::Text,
            Self::Number(_) => AttributeKind::Number,
            Self::Bool(_) => AttributeKind::Bool,
            Self::Time(_) => AttributeKind::Time,
        }
    }

    /// Times have one width and one zone, so that they compare as text.
    fn stored(&self) -> Option<Value> {
        match self {
            // Postgres takes no NUL.
            Self::Text(text) => Some(Value::String(text.replace('\0', ""))),
            Self::Number(number) => serde_json::Number::from_f64(*number).map(Value::Number),
            Self::Bool(truth) => Some(Value::Bool(*truth)),
            Self::Time(time) => Some(Value::String(
                time.to_rfc3339_opts(SecondsFormat::Micros, true),
            )),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::{AttributeKind, AttributeNames, Attributes};

    const NAMES: AttributeNames = &[
        ("plan", AttributeKind::Text),
        ("seats", AttributeKind::Number),
        ("ends", AttributeKind::Time),
    ];

    #[test]
    fn they_are_stored_as_plain_json() {
        let long = "x".repeat(300);
        let attributes = Attributes::none()
            .text("plan", &long)
            .number("seats", 49.9)
            .time("ends", "2027-01-31T09:00:00Z".parse().unwrap());
        let expected =
            json!({"plan": "x".repeat(255), "seats": 49.9, "ends": "2027-01-31T09:00:00.000000Z"});
        assert_eq!(attributes.encode(NAMES), Ok(expected));
        let endless = Attributes::none().number("seats", f64::NAN);
        assert_eq!(endless.encode(NAMES), Ok(json!({})));
    }

    #[test]
    fn what_is_not_declared_is_refused() {
        let other = Attributes::none().bool("plan", true);
        assert_eq!(
            other.encode(NAMES),
            Err("attribute plan is declared as Text".to_owned())
        );
        let unknown = Attributes::none().bool("colour", true);
        assert_eq!(
            unknown.encode(NAMES),
            Err("attribute colour is not declared".to_owned())
        );
    }
}

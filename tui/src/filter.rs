//! The filter line: `workflow:dunning state:grace status:stuck tenant:acme`.
//!
//! Terms are joined by *and*. A value with spaces stands in double quotes. What cannot be understood
//! is refused in words; nothing is guessed.

use tenure_client::{RunFilter, RunStatus};
use uuid::Uuid;

/// The fields a filter may name, as the hint lists them.
pub const FIELDS: [&str; 5] = ["workflow", "state", "status", "tenant", "key"];

/// A filter that was understood.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Filter {
    /// What was typed.
    pub text: String,
    /// What the API is asked, but for a tenant that is known by name only.
    pub query: RunFilter,
    /// The tenant as it was typed, when it is no id.
    pub tenant_name: Option<String>,
}

impl Filter {
    /// Understands a filter line, or says what is wrong with it.
    pub fn parse(text: &str) -> Result<Self, String> {
        let mut filter = Self {
            text: text.trim().to_owned(),
            ..Self::default()
        };
        for (field, value) in terms(text)? {
            filter.put(&field, value)?;
        }
        Ok(filter)
    }

    /// Whether every run passes.
    pub fn is_empty(&self) -> bool {
        self.text.is_empty()
    }

    fn put(&mut self, field: &str, value: String) -> Result<(), String> {
        match field {
            "workflow" => once(field, &mut self.query.workflow, value),
            "state" => once(field, &mut self.query.state, value),
            "key" => once(field, &mut self.query.key, value),
            "status" => once(field, &mut self.query.status, status(&value)?),
            "tenant" if self.tenant_name.is_some() || self.query.tenant_id.is_some() => {
                Err(twice(field))
            }
            "tenant" => {
                match value.parse::<Uuid>() {
                    Ok(id) => self.query.tenant_id = Some(id),
                    Err(_) => self.tenant_name = Some(value),
                }
                Ok(())
            }
            _ => Err(format!(
                "no field \"{field}\"; there are {}",
                FIELDS.join(", ")
            )),
        }
    }
}

fn once<T>(field: &str, place: &mut Option<T>, value: T) -> Result<(), String> {
    if place.is_some() {
        return Err(twice(field));
    }
    *place = Some(value);
    Ok(())
}

fn twice(field: &str) -> String {
    format!("\"{field}\" is named twice")
}

fn status(value: &str) -> Result<RunStatus, String> {
    let name = value.replace([' ', '-'], "_").to_lowercase();
    RunStatus::parse(&name).ok_or_else(|| {
        let names: Vec<_> = RunStatus::ALL
            .iter()
            .map(|status| status.as_str())
            .collect();
        format!("no status \"{value}\"; there are {}", names.join(", "))
    })
}

/// Splits a line into its terms.
fn terms(text: &str) -> Result<Vec<(String, String)>, String> {
    let mut terms = Vec::new();
    let mut rest = text.trim_start();
    while !rest.is_empty() {
        let end = rest.find([':', ' ']).unwrap_or(rest.len());
        let (field, tail) = rest.split_at(end);
        let Some(tail) = tail.strip_prefix(':') else {
            return Err(format!(
                "\"{field}\" needs a field, such as key:{field} or tenant:{field}"
            ));
        };
        let (value, tail) = value(field, tail)?;
        terms.push((field.to_lowercase(), value));
        rest = tail.trim_start();
    }
    Ok(terms)
}

fn value<'a>(field: &str, text: &'a str) -> Result<(String, &'a str), String> {
    let (value, rest) = match text.strip_prefix('"') {
        Some(quoted) => quoted
            .split_once('"')
            .ok_or_else(|| format!("the quote after {field}: is not closed"))?,
        None => text.split_at(text.find(' ').unwrap_or(text.len())),
    };
    if value.is_empty() {
        return Err(format!("{field}: needs a value"));
    }
    Ok((value.to_owned(), rest))
}

//! The filter language: `workflow:dunning state:past-due age:>3d attempt:>2 tenant:acme`.
//!
//! One parser for the API, the command line and the console. Terms are joined by *and*; `a,b` are
//! alternatives, a leading `-` excludes, a value with spaces or commas stands in double quotes, and
//! `>` `>=` `<` `<=` compare. Nothing is guessed: what cannot be understood is refused with its
//! place, and with the names or values that there are.
//!
//! | Field | Takes | Means |
//! |---|---|---|
//! | `workflow` `state` `status` `key` | names | is one of them |
//! | `tenant` | ids or names | belongs to one of them |
//! | `parent` | ids | was started by one of these runs |
//! | `age` | `>3d`, `<2h` (s, m, h, d, w) | since its start, on the tenant's clock |
//! | `attempt` `visit` | `>2`, `0` | failed attempts of this visit, number of the visit |
//! | `started` | `2027-01-31`, `>=2027-01-31T09:00:00Z` | when, on the tenant's clock; a date is a day in UTC |
//! | `attr.plan`, or `plan` | by its type | a search attribute that the workflow declares |
//!
//! An attribute may be named without `attr.` where no field above has its name.

mod check;
mod text;
mod value;

use chrono::{DateTime, Utc};
use uuid::Uuid;

use crate::RunStatus;
use text::{Comparison, Term};

pub use check::{AttributeTest, Compare};

/// The fields that every run has, as hints list them.
pub const FIELDS: [&str; 10] = [
    "workflow", "state", "status", "tenant", "key", "parent", "age", "attempt", "visit", "started",
];

/// A filter that was understood; what is not set holds for every run.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Filter {
    /// By workflow.
    pub workflow: OneOf<String>,
    /// By the name of the state.
    pub state: OneOf<String>,
    /// By status.
    pub status: OneOf<RunStatus>,
    /// By owner: ids or names.
    pub tenant: OneOf<String>,
    /// By the exact business key.
    pub key: OneOf<String>,
    /// By the run that started it.
    pub parent: OneOf<Uuid>,
    /// By seconds since the start.
    pub age: Span<i64>,
    /// By failed attempts of the current visit.
    pub attempt: Span<i64>,
    /// By the number of the visit.
    pub visit: Span<i64>,
    /// By the start.
    pub started: Span<DateTime<Utc>>,
    attributes: Vec<Term>,
}

/// Which values are wanted: one of `any`, unless that is empty, and none of `none`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OneOf<T> {
    /// One of these, or any if there are none.
    pub any: Vec<T>,
    /// None of these.
    pub none: Vec<T>,
}

impl<T> Default for OneOf<T> {
    fn default() -> Self {
        Self {
            any: Vec::new(),
            none: Vec::new(),
        }
    }
}

/// A half-open range.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span<T> {
    /// At least this.
    pub from: Option<T>,
    /// Less than this.
    pub before: Option<T>,
}

impl<T> Default for Span<T> {
    fn default() -> Self {
        Self {
            from: None,
            before: None,
        }
    }
}

/// What is wrong with a filter, and where.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("at character {at}: {detail}", at = .at + 1)]
#[non_exhaustive]
pub struct FilterError {
    /// Where it is, in characters from 0.
    pub at: usize,
    /// Stable snake-case code for programs.
    pub code: &'static str,
    /// What is wrong and what would be right, in words.
    pub detail: String,
}

impl FilterError {
    fn new(at: usize, detail: impl Into<String>) -> Self {
        Self {
            at,
            code: "invalid_filter",
            detail: detail.into(),
        }
    }
}

impl Filter {
    /// Understands a filter line. Names of workflows, states and attributes are not checked yet: see
    /// [`Filter::attributes`] and [`Filter::check_names`], for whoever knows the workflows.
    ///
    /// # Errors
    /// The first thing that cannot be understood.
    pub fn parse(text: &str) -> Result<Self, FilterError> {
        let mut filter = Self::default();
        for term in text::terms(text)? {
            filter.put(term)?;
        }
        Ok(filter)
    }

    fn put(&mut self, term: Term) -> Result<(), FilterError> {
        match term.field.as_str() {
            "workflow" => self.workflow.put(&term, name),
            "state" => self.state.put(&term, name),
            "status" => self.status.put(&term, value::status),
            "tenant" => self.tenant.put(&term, name),
            "key" => self.key.put(&term, name),
            "parent" => self.parent.put(&term, value::run_id),
            "age" if term.comparison == Comparison::Is => Err(FilterError::new(
                term.at,
                "an age is compared, such as age:>3d or age:<2h",
            )),
            "age" => self.age.put(&term, value::seconds),
            "attempt" => self.attempt.put(&term, value::count),
            "visit" => self.visit.put(&term, value::count),
            "started" => self.started.put(&term, value::time),
            _ => {
                self.attributes.push(term);
                Ok(())
            }
        }
    }
}

#[expect(clippy::unnecessary_wraps, reason = "as the other readers of values")]
fn name(_at: usize, value: &str) -> Result<String, FilterError> {
    Ok(value.to_owned())
}

impl<T> OneOf<T> {
    fn put(
        &mut self,
        term: &Term,
        read: impl Fn(usize, &str) -> Result<T, FilterError>,
    ) -> Result<(), FilterError> {
        if term.comparison != Comparison::Is {
            let field = &term.field;
            let wrong =
                format!("{field} is equal or not: {field}:this, {field}:this,that, -{field}:this");
            return Err(FilterError::new(term.at, wrong));
        }
        let values = term.values.iter().map(|(at, value)| read(*at, value));
        let values = values.collect::<Result<Vec<_>, _>>()?;
        if term.negated {
            self.none.extend(values);
            return Ok(());
        }
        if !self.any.is_empty() {
            return Err(twice(term));
        }
        self.any = values;
        Ok(())
    }
}

fn twice(term: &Term) -> FilterError {
    let field = &term.field;
    let wrong = format!("\"{field}\" is named twice; alternatives are written {field}:this,that");
    FilterError::new(term.at, wrong)
}

impl<T: Copy + Ord> Span<T> {
    /// Narrows by a term. A value stands for the stretch that it covers: a day, one number.
    fn put(
        &mut self,
        term: &Term,
        read: impl Fn(usize, &str) -> Result<(T, T), FilterError>,
    ) -> Result<(), FilterError> {
        let (at, value) = term.only()?;
        let (first, after) = read(at, value)?;
        let (from, before) = match term.comparison()? {
            Comparison::Is => (Some(first), Some(after)),
            Comparison::Over => (Some(after), None),
            Comparison::AtLeast => (Some(first), None),
            Comparison::Under => (None, Some(first)),
            Comparison::AtMost => (None, Some(after)),
        };
        self.from = self.from.max(from);
        self.before = match (self.before, before) {
            (Some(one), Some(other)) => Some(one.min(other)),
            (one, other) => one.or(other),
        };
        Ok(())
    }
}

#[cfg(test)]
mod tests;

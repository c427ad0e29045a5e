//! The filter line of the audit: `actor:ada action:"set limit" from:2027-01-31`. The names in it are the
//! server's to know.

use crate::form;
use chrono::{DateTime, NaiveDate, NaiveTime, Utc};
use tenure_client::AuditQuery;
use uuid::Uuid;

/// What can be asked for.
pub(super) const FIELDS: [&str; 7] = ["actor", "action", "run", "tenant", "subject", "from", "to"];

/// A filter of the right form.
#[derive(Clone, Debug, Default)]
pub(super) struct Filter {
    /// What was typed.
    pub(super) text: String,
    /// What the API is asked.
    pub(super) query: AuditQuery,
}

impl Filter {
    /// Reads a filter line, or says what is wrong with it.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let text = text.trim();
        let mut query = AuditQuery::default();
        let mut rest = text;
        while !rest.is_empty() {
            let (field, value, behind) = term(rest)?;
            ask(&mut query, field, value)?;
            rest = behind;
        }
        Ok(Self {
            text: text.to_owned(),
            query,
        })
    }

    /// Whether every act passes.
    pub(super) fn is_empty(&self) -> bool {
        self.text.is_empty()
    }
}

/// The first term's field and value, and what stands behind it.
fn term(text: &str) -> Result<(&str, &str, &str), String> {
    let split = text.split_once(':');
    let split = split.filter(|(field, _)| !field.contains(char::is_whitespace));
    let Some((field, rest)) = split else {
        let word = text.split_whitespace().next().unwrap_or_default();
        return Err(format!("{word:?} needs a field: {}", FIELDS.join(", ")));
    };
    let (value, behind) = match rest.strip_prefix('"') {
        Some(quoted) => {
            let closed = quoted.split_once('"');
            closed.ok_or_else(|| format!("the quote after {field}: is not closed"))?
        }
        None => rest.split_once(char::is_whitespace).unwrap_or((rest, "")),
    };
    if value.is_empty() {
        return Err(format!("{field}: needs a value"));
    }
    Ok((field, value, behind.trim_start()))
}

fn ask(query: &mut AuditQuery, field: &str, value: &str) -> Result<(), String> {
    let text = || value.to_owned();
    let is_twice = match field {
        "actor" => query.actor.replace(text()).is_some(),
        "action" => query.action.replace(text()).is_some(),
        "run" => query.run_id.replace(id(field, value)?).is_some(),
        "tenant" => query.tenant_id.replace(id(field, value)?).is_some(),
        "subject" => query.subject.replace(text()).is_some(),
        "from" => query.from.replace(time(field, value)?).is_some(),
        "to" => query.to.replace(time(field, value)?).is_some(),
        _ => {
            return Err(format!(
                "no field {field:?}; there are {}",
                FIELDS.join(", ")
            ));
        }
    };
    if is_twice {
        return Err(format!("{field:?} is named twice"));
    }
    Ok(())
}

fn id(field: &str, value: &str) -> Result<Uuid, String> {
    let id = value.parse::<Uuid>();
    id.map_err(|_| format!("{field}: {value:?} is no id"))
}

/// An instant, or the beginning of a day in UTC.
fn time(field: &str, value: &str) -> Result<DateTime<Utc>, String> {
    let day = || {
        let day = value.parse::<NaiveDate>().ok()?;
        Some(day.and_time(NaiveTime::MIN).and_utc())
    };
    let at = form::instant(value).or_else(day);
    at.ok_or_else(|| {
        format!("{field}: {value:?} is no time, such as 2027-01-31 or 2027-01-31T09:00:00Z")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_becomes_a_question() {
        let line = "  actor:ada action:\"set limit\" to:2027-01-31 \
            run:0190a000-0000-7000-8000-000000000001 ";
        let filter = Filter::parse(line).unwrap();
        let wanted = AuditQuery {
            actor: Some("ada".to_owned()),
            action: Some("set limit".to_owned()),
            run_id: "0190a000-0000-7000-8000-000000000001".parse().ok(),
            to: "2027-01-31T00:00:00Z".parse().ok(),
            ..AuditQuery::default()
        };
        assert_eq!(filter.query, wanted);
        assert!(wanted.run_id.is_some() && wanted.to.is_some());
        assert_eq!(filter.text, line.trim());
        assert!(Filter::parse(" ").unwrap().is_empty());
    }

    #[test]
    fn a_line_that_cannot_be_read_says_why() {
        let table = [
            ("ada", "\"ada\" needs a field: actor, action"),
            ("ada actor:x", "\"ada\" needs a field"),
            ("actor:", "actor: needs a value"),
            ("actor: x", "actor: needs a value"),
            ("who:ada", "no field \"who\"; there are actor"),
            ("actor:a actor:b", "\"actor\" is named twice"),
            (
                "action:\"set limit",
                "the quote after action: is not closed",
            ),
            ("run:7", "run: \"7\" is no id"),
            ("from:soon", "from: \"soon\" is no time, such as"),
        ];
        for (line, words) in table {
            let told = Filter::parse(line).unwrap_err();
            assert!(told.starts_with(words), "{line}: {told}");
        }
    }
}

//! What a verb asks a person for: its fields, what stands in them at first, and what is read there.

use chrono::{DateTime, NaiveDateTime, Utc};
use serde_json::{Map, Value, json};
use tenure_client::{ActionArg, AllowedAction, ArgKind, RunDetail, SignalKind};
use uuid::Uuid;

use crate::deeds::runs::SIGNAL;

/// What is written into a field.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Text.
    Text,
    /// Any JSON value.
    Json,
    /// An instant.
    Time,
    /// A whole number that is not less than this.
    Number(i64),
    /// A whole number from the first to the second.
    Between(i64, i64),
    /// One of these words.
    Choice(Vec<String>),
    /// A signal: the name of one of these, or what is to be sent as JSON.
    Signal(Vec<SignalKind>),
    /// `now`, `period-end`, or an instant.
    When,
    /// The name of a workflow. The server knows best which there are.
    Workflow,
    /// An id.
    Id,
    /// Exactly this, so that nobody does it by the way.
    Exactly(String),
}

/// A field.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Arg {
    /// Its name, as the API has it.
    pub(crate) name: String,
    /// What is written there.
    pub(crate) kind: Kind,
    /// Whether it is needed.
    pub(crate) required: bool,
    /// What stands there at first.
    pub(crate) begin: String,
}

impl Arg {
    /// A field that is needed.
    pub(crate) fn needed(name: &str, kind: Kind) -> Self {
        Self {
            name: name.to_owned(),
            kind,
            required: true,
            begin: String::new(),
        }
    }

    /// A field that may be left out.
    pub(crate) fn optional(name: &str, kind: Kind) -> Self {
        Self {
            required: false,
            ..Self::needed(name, kind)
        }
    }

    /// The same with something in it at first.
    pub(crate) fn begins(self, begin: impl ToString) -> Self {
        Self {
            begin: begin.to_string(),
            ..self
        }
    }

    /// The same as the server names it, with what a run has under that name where it is needed.
    pub(crate) fn of_server(arg: &ActionArg, run: Option<&RunDetail>) -> Self {
        let known = run.map(|run| run.signals.as_slice()).unwrap_or_default();
        let kind = match arg.kind {
            ArgKind::Json if arg.name == SIGNAL && !known.is_empty() => {
                Kind::Signal(known.to_vec())
            }
            ArgKind::Json => Kind::Json,
            ArgKind::Time => Kind::Time,
            ArgKind::Text => Kind::Text,
        };
        let begin = run.filter(|_| arg.required).map(|run| has(run, &arg.name));
        Self {
            required: arg.required,
            begin: begin.unwrap_or_default(),
            ..Self::needed(&arg.name, kind)
        }
    }
}

/// What a run has under the name of an argument.
fn has(run: &RunDetail, name: &str) -> String {
    let next = run.deadlines.iter().min_by_key(|deadline| deadline.at);
    match (name, next) {
        ("state", _) => run.data.to_string(),
        // The old key is taken.
        ("key", _) => format!("{}-again", run.summary.key),
        ("name", Some(next)) => next.name.clone(),
        ("at", Some(next)) => next.at.format("%Y-%m-%dT%H:%M:%SZ").to_string(),
        _ => String::new(),
    }
}

/// What a verb asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Form {
    /// The verb.
    pub(crate) verb: String,
    /// What it does, in a sentence or two.
    pub(crate) help: String,
    /// Its fields.
    pub(crate) args: Vec<Arg>,
    /// Whether a reason is asked for: wherever the audit keeps one.
    pub(crate) reason: bool,
    /// The reason that stands there at first.
    pub(crate) because: String,
    /// Whether the server can say beforehand what it would do.
    pub(crate) dry_run: bool,
}

impl Form {
    /// A form with a reason, of a verb whose effects the console tells.
    pub(crate) fn new(verb: &str, help: &str, args: Vec<Arg>) -> Self {
        Self {
            verb: verb.to_owned(),
            help: help.to_owned(),
            args,
            reason: true,
            because: String::new(),
            dry_run: false,
        }
    }

    /// The form of a verb that the server describes.
    pub(crate) fn of_server(action: &AllowedAction, run: Option<&RunDetail>) -> Self {
        let args = action.args.iter().map(|arg| Arg::of_server(arg, run));
        Self {
            dry_run: action.dry_run,
            ..Self::new(&action.action, &action.help, args.collect())
        }
    }
}

/// A field as it will be sent, nothing when it is left out, or what is wrong with it.
pub(crate) fn read(arg: &Arg, text: &str) -> Result<Option<Value>, String> {
    let text = text.trim();
    if text.is_empty() {
        return match (&arg.kind, arg.required) {
            (Kind::Choice(words), true) => Err(one_of(words)),
            (Kind::Signal(_), true) => Err("the first letters of one of these, or JSON".to_owned()),
            (Kind::Exactly(wanted), _) => Err(exactly(wanted)),
            (_, true) => Err("it is needed".to_owned()),
            (_, false) => Ok(None),
        };
    }
    let value = match &arg.kind {
        Kind::Text | Kind::Workflow => json!(text),
        Kind::Json => serde_json::from_str(text).map_err(|error| format!("not JSON: {error}"))?,
        Kind::Time => {
            let at = instant(text);
            json!(at.ok_or("no time: write it as 2027-02-14T09:00:00Z")?)
        }
        Kind::Number(least) => {
            let number = text.parse::<i64>().ok().filter(|number| number >= least);
            json!(number.ok_or_else(|| format!("a whole number from {least} on"))?)
        }
        Kind::Between(least, most) => {
            let number = text.parse::<i64>().ok();
            let number = number.filter(|number| (*least..=*most).contains(number));
            json!(number.ok_or_else(|| format!("a whole number from {least} to {most}"))?)
        }
        Kind::Signal(known) => signal(known, text)?,
        Kind::When => when(text)?,
        Kind::Choice(words) if words.iter().any(|word| word == text) => json!(text),
        Kind::Choice(words) => return Err(one_of(words)),
        Kind::Id => {
            let id = text.parse::<Uuid>();
            json!(id.map_err(|_| "an id, such as 0190a000-0000-7000-8000-000000000065")?)
        }
        Kind::Exactly(wanted) if wanted == text => json!(text),
        Kind::Exactly(wanted) => return Err(exactly(wanted)),
    };
    Ok(Some(value))
}

/// A signal by its name where it carries nothing, or as JSON.
fn signal(known: &[SignalKind], text: &str) -> Result<Value, String> {
    if let Ok(value) = serde_json::from_str(text) {
        return Ok(value);
    }
    let named = known.iter().find(|kind| kind.name == text);
    match named {
        Some(kind) if kind.sketch.is_string() => Ok(kind.sketch.clone()),
        Some(_) => Err("it carries more: Enter writes its form".to_owned()),
        None if text.starts_with(['{', '"', '[']) => match serde_json::from_str::<Value>(text) {
            Err(error) => Err(format!("not JSON: {error}")),
            Ok(value) => Ok(value),
        },
        None => Err("the first letters of one of these, or JSON".to_owned()),
    }
}

/// The signals that could be meant by what was typed.
pub(crate) fn meant<'a>(known: &'a [SignalKind], text: &str) -> Vec<&'a SignalKind> {
    let text = text.trim().to_lowercase();
    let fits = |kind: &&SignalKind| kind.name.to_lowercase().starts_with(&text);
    known.iter().filter(fits).collect()
}

/// What a field reads once what was begun in it is written out; nothing where that is not one thing.
pub(crate) fn completed(arg: &Arg, text: &str) -> Option<String> {
    let text = text.trim();
    let whole = match &arg.kind {
        Kind::Signal(known) if !text.is_empty() => {
            let exact = known.iter().find(|kind| kind.name == text);
            let meant = meant(known, text);
            let kind = exact.or(if meant.len() == 1 {
                meant.first().copied()
            } else {
                None
            })?;
            match kind.sketch.as_str() {
                Some(name) => name.to_owned(),
                None => kind.sketch.to_string(),
            }
        }
        Kind::Choice(words) if !text.is_empty() => {
            let mut meant = words.iter().filter(|word| word.starts_with(text));
            let first = meant.next()?;
            if meant.next().is_some() && first != text {
                return None;
            }
            first.clone()
        }
        _ => return None,
    };
    (whole != text).then_some(whole)
}

/// When something is to come about.
fn when(text: &str) -> Result<Value, String> {
    match text {
        "now" | "period-end" => Ok(json!(text)),
        text => instant(text)
            .map(|at| json!(at))
            .ok_or_else(|| "now, period-end, or a time such as 2027-02-14T09:00:00Z".to_owned()),
    }
}

fn one_of(words: &[String]) -> String {
    format!("one of {}", words.join(", "))
}

fn exactly(wanted: &str) -> String {
    format!("to go on, type {wanted}")
}

/// An instant, RFC 3339, or without a zone and seconds in UTC.
pub(crate) fn instant(text: &str) -> Option<DateTime<Utc>> {
    let exact = DateTime::parse_from_rfc3339(text).ok();
    exact.map(|at| at.to_utc()).or_else(|| {
        let short = NaiveDateTime::parse_from_str(text, "%Y-%m-%d %H:%M").ok()?;
        Some(short.and_utc())
    })
}

/// What was read from a form, by the names of its fields.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Values(pub(crate) Map<String, Value>);

impl Values {
    /// A field's text; empty when it was left out.
    pub(crate) fn text(&self, name: &str) -> String {
        let found = self.0.get(name).and_then(Value::as_str);
        found.unwrap_or_default().to_owned()
    }

    /// A field as it reads.
    pub(crate) fn text_of(&self, name: &str) -> String {
        match self.0.get(name) {
            Some(Value::String(text)) => text.clone(),
            Some(other) => other.to_string(),
            None => String::new(),
        }
    }

    /// A field's number, where it was given.
    pub(crate) fn number<T: TryFrom<i64>>(&self, name: &str) -> Result<Option<T>, String> {
        let Some(number) = self.0.get(name).and_then(Value::as_i64) else {
            return Ok(None);
        };
        let fits = T::try_from(number).map_err(|_| format!("{name}: too much"));
        fits.map(Some)
    }

    /// A field's id, where it was given.
    pub(crate) fn id(&self, name: &str) -> Option<Uuid> {
        self.0.get(name)?.as_str()?.parse().ok()
    }

    /// A field's time, where it was given.
    pub(crate) fn time(&self, name: &str) -> Option<DateTime<Utc>> {
        self.0.get(name)?.as_str()?.parse().ok()
    }

    /// A field's JSON, where it was given.
    pub(crate) fn json(&self, name: &str) -> Option<Value> {
        self.0.get(name).cloned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn signals() -> Vec<SignalKind> {
        let signal = |sketch: Value, name: &str| SignalKind {
            name: name.to_owned(),
            sketch,
            reception: None,
            reason: None,
        };
        vec![
            signal(json!("Void"), "Void"),
            signal(json!({"Change": {"plan": null}}), "Change"),
            signal(json!("Cancel"), "Cancel"),
        ]
    }

    #[test]
    fn what_was_begun_is_written_out_where_it_can_be_one_thing_only() {
        let signal = Arg::needed("signal", Kind::Signal(signals()));
        let words = ["credit", "refund", "none"].map(str::to_owned).to_vec();
        let choice = Arg::needed("credit", Kind::Choice(words));
        let table = [
            (&signal, "v", Some("Void")),
            (&signal, "Void", None),
            (&signal, "c", None),
            (&signal, "Ch", Some("{\"Change\":{\"plan\":null}}")),
            (&signal, "Change", Some("{\"Change\":{\"plan\":null}}")),
            (&signal, "", None),
            (&choice, "re", Some("refund")),
            (&choice, "refund", None),
            (&choice, "x", None),
        ];
        for (arg, text, whole) in table {
            assert_eq!(completed(arg, text).as_deref(), whole, "{text:?}");
        }
    }

    #[test]
    fn a_field_is_read_as_what_it_is_or_says_what_it_wants() {
        let words = vec!["keep".to_owned(), "drop".to_owned()];
        let told = |kind: Kind, text: &str| {
            let read = read(&Arg::needed("x", kind), text);
            read.map_or_else(|why| why, |value| value.unwrap_or_default().to_string())
        };
        let table = [
            (Kind::Number(1), " 7 ", "7"),
            (Kind::Number(1), "0", "a whole number from 1 on"),
            (Kind::Between(2, 9), "9", "9"),
            (Kind::Between(2, 9), "10", "a whole number from 2 to 9"),
            (Kind::Between(2, 9), "-2", "a whole number from 2 to 9"),
            (Kind::Choice(words.clone()), "drop", "\"drop\""),
            (Kind::Choice(words.clone()), "", "one of keep, drop"),
            (Kind::Choice(words), "burn", "one of keep, drop"),
            (
                Kind::Exactly("Acme".to_owned()),
                "acme",
                "to go on, type Acme",
            ),
            (Kind::Exactly("Acme".to_owned()), "Acme", "\"Acme\""),
            (Kind::Time, "2027-01-31 09:00", "\"2027-01-31T09:00:00Z\""),
            (Kind::Text, "", "it is needed"),
            (Kind::When, "period-end", "\"period-end\""),
            (Kind::When, "2027-01-31 09:00", "\"2027-01-31T09:00:00Z\""),
            (
                Kind::When,
                "soon",
                "now, period-end, or a time such as 2027-02-14T09:00:00Z",
            ),
            (Kind::Signal(signals()), "Void", "\"Void\""),
            (
                Kind::Signal(signals()),
                "Change",
                "it carries more: Enter writes its form",
            ),
            (
                Kind::Signal(signals()),
                "{\"Change\": {\"plan\": 1}}",
                "{\"Change\":{\"plan\":1}}",
            ),
            (
                Kind::Signal(signals()),
                "x",
                "the first letters of one of these, or JSON",
            ),
        ];
        for (kind, text, expected) in table {
            assert_eq!(told(kind.clone(), text), expected, "{kind:?} {text:?}");
        }
        assert!(told(Kind::Id, "acme").starts_with("an id"));
    }
}

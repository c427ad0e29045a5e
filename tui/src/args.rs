//! What an act takes, as a person types it: what stands there at first, and what it is read as.

use chrono::{DateTime, NaiveDateTime, Utc};
use serde_json::{Value, json};
use tenure_client::{ActionArg, ArgKind, RunDetail};
use tui_input::Input;

/// What an argument begins with: nothing, or what the run has under that name.
pub(crate) fn begin(arg: &ActionArg, run: Option<&RunDetail>) -> Input {
    let Some(run) = run.filter(|_| arg.required) else {
        return Input::default();
    };
    let next = run.deadlines.iter().min_by_key(|deadline| deadline.at);
    let text = match (arg.name.as_str(), next) {
        ("state", _) => run.data.to_string(),
        ("name", Some(next)) => next.name.clone(),
        ("at", Some(next)) => next.at.format("%Y-%m-%dT%H:%M:%SZ").to_string(),
        _ => String::new(),
    };
    Input::new(text)
}

/// An argument as it will be sent, nothing when it is left out, or what is wrong with it.
pub(crate) fn read(arg: &ActionArg, text: &str) -> Result<Option<Value>, String> {
    let text = text.trim();
    match (text.is_empty(), arg.required, arg.kind) {
        (true, true, _) => Err("it is needed".to_owned()),
        (true, false, _) => Ok(None),
        (false, _, ArgKind::Text) => Ok(Some(json!(text))),
        (false, _, ArgKind::Json) => serde_json::from_str(text)
            .map(Some)
            .map_err(|error| format!("not JSON: {error}")),
        (false, _, ArgKind::Time) => instant(text)
            .map(|at| Some(json!(at)))
            .ok_or_else(|| "no time: write it as 2027-02-14T09:00:00Z".to_owned()),
    }
}

/// An instant, RFC 3339, or without a zone and seconds in UTC.
fn instant(text: &str) -> Option<DateTime<Utc>> {
    let exact = DateTime::parse_from_rfc3339(text).ok();
    exact.map(|at| at.to_utc()).or_else(|| {
        let short = NaiveDateTime::parse_from_str(text, "%Y-%m-%d %H:%M").ok()?;
        Some(short.and_utc())
    })
}

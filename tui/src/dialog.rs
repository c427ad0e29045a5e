//! A dialog that prepares a change: what will happen, why, and the safe way out.

use crate::event::Act;
use serde_json::Value;
use tenure_client::RunSummary;
use tui_input::Input;

/// What a dialog is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// Send a signal.
    Signal,
    /// Try the failed step again.
    Retry,
}

/// A place in a dialog.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Field {
    /// The signal as JSON.
    Payload,
    /// The reason.
    Reason,
    /// The button that changes nothing.
    Keep,
    /// The button that acts.
    Go,
}

/// A change being prepared.
#[derive(Clone, Debug)]
pub(crate) struct Dialog {
    /// Names the wish as it is typed now.
    pub(crate) intent: u64,
    /// What it is for.
    pub(crate) purpose: Purpose,
    /// The run as it was when the dialog opened.
    pub(crate) run: RunSummary,
    /// The tenant's name.
    pub(crate) tenant: String,
    /// The revision that the person saw.
    pub(crate) revision: i64,
    /// The revision that the server named last.
    pub(crate) latest: i64,
    /// The signal as it is typed.
    pub(crate) payload: Input,
    /// The reason as it is typed.
    pub(crate) reason: Input,
    /// Where the cursor is.
    pub(crate) field: Field,
    /// Whether the change is under way.
    pub(crate) sending: bool,
    /// Why the last try came to nothing.
    pub(crate) refused: Option<String>,
}

impl Dialog {
    /// The places of the dialog in order. The safe button stands before the other one.
    pub(crate) fn fields(&self) -> &'static [Field] {
        match self.purpose {
            Purpose::Signal => &[Field::Payload, Field::Reason, Field::Keep, Field::Go],
            Purpose::Retry => &[Field::Reason, Field::Keep, Field::Go],
        }
    }

    /// Moves to another place, around the end.
    pub(crate) fn turn(&mut self, by: isize) {
        let fields = self.fields();
        let here = fields
            .iter()
            .position(|field| *field == self.field)
            .unwrap_or(0);
        let there = (here.cast_signed() + by).rem_euclid(fields.len().cast_signed());
        self.field = fields
            .get(there.cast_unsigned())
            .copied()
            .unwrap_or(Field::Keep);
    }

    /// The text field under the cursor.
    pub(crate) fn input_mut(&mut self) -> Option<&mut Input> {
        match self.field {
            Field::Payload => Some(&mut self.payload),
            Field::Reason => Some(&mut self.reason),
            Field::Keep | Field::Go => None,
        }
    }

    /// Whether the run changed while the dialog was open.
    pub(crate) fn is_stale(&self) -> bool {
        self.latest != self.revision
    }

    /// The change as it would be sent, or what is still missing.
    pub(crate) fn act(&self) -> Result<Act, String> {
        let run_id = self.run.run_id;
        let reason = self.reason.value().trim().to_owned();
        match self.purpose {
            Purpose::Signal => {
                let signal = parse_signal(self.payload.value())?;
                let reason = required(reason)?;
                Ok(Act::Signal {
                    run_id,
                    signal,
                    reason,
                })
            }
            Purpose::Retry if self.is_stale() => Err(format!(
                "the run changed since you opened this ({} -> {}): close it and look again",
                self.revision, self.latest
            )),
            Purpose::Retry => Ok(Act::Retry {
                run_id,
                revision: self.revision,
                reason: required(reason)?,
            }),
        }
    }

    /// What is to be said about the typed signal.
    pub(crate) fn payload_hint(&self) -> Result<String, String> {
        let signal = parse_signal(self.payload.value())?;
        Ok(match signal_name(&signal) {
            Some(name) => format!("JSON is fine; the run will get signal \"{name}\""),
            None => "JSON is fine; the server will read its name from it".to_owned(),
        })
    }

    /// What will happen, in short.
    pub(crate) fn consequence(&self) -> &'static str {
        match self.purpose {
            Purpose::Signal => "Goes to the run's inbox and cannot be taken back. Recorded.",
            Purpose::Retry => "Tries the run's visit again now. Recorded.",
        }
    }

    /// What will happen, in sentences.
    pub(crate) fn consequences(&self) -> Vec<String> {
        match self.purpose {
            Purpose::Signal => vec![
                "The signal goes to the run's inbox; the run takes it as soon as its state does."
                    .to_owned(),
                format!(
                    "What state \"{}\" does with it is the workflow's to say.",
                    self.run.state
                ),
                "It cannot be taken back. It is recorded with your name and reason.".to_owned(),
            ],
            Purpose::Retry => vec![
                format!(
                    "The visit in state \"{}\" is tried again now.",
                    self.run.state
                ),
                "Steps with an answer are not repeated; it goes on at the first one without."
                    .to_owned(),
                "It is recorded with your name and reason.".to_owned(),
            ],
        }
    }
}

/// The name a signal will have: externally tagged enums are a string or an object with one member.
fn signal_name(signal: &Value) -> Option<&str> {
    match signal {
        Value::String(name) => Some(name),
        Value::Object(members) if members.len() == 1 => members.keys().next().map(String::as_str),
        _ => None,
    }
}

fn parse_signal(text: &str) -> Result<Value, String> {
    if text.trim().is_empty() {
        return Err("write the signal, such as \"name\" or {\"name\": {...}}".to_owned());
    }
    let signal: Value = serde_json::from_str(text).map_err(|error| format!("not JSON: {error}"))?;
    match &signal {
        Value::String(name) if name.is_empty() => Err("the signal has no name".to_owned()),
        Value::String(_) | Value::Object(_) => Ok(signal),
        _ => Err("a signal is a name in quotes or an object".to_owned()),
    }
}

fn required(reason: String) -> Result<String, String> {
    if reason.is_empty() {
        Err("a reason is needed".to_owned())
    } else {
        Ok(reason)
    }
}

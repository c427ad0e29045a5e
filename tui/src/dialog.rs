//! A dialog that prepares a change: what the verb takes, why, what the server says will happen, and the
//! safe way out. The server says what each verb takes; nothing here knows a verb but `signal`, which
//! has a path of its own.

use crate::changes::{self, Change};
use crate::detail::Detail;
use crate::event::Act;
use chrono::{DateTime, NaiveDateTime, Utc};
use serde_json::{Map, Value, json};
use tenure_client::{
    ActOnRun, ActionAccepted, ActionArg, AllowedAction, ArgKind, RunDetail, RunSummary,
};
use tui_input::Input;

/// The verb that puts a message into the run's inbox.
pub(crate) const SIGNAL: &str = "signal";
/// The verb that tries again.
pub(crate) const RETRY: &str = "retry";

/// A place in a dialog.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Field {
    /// What the verb takes, by place.
    Arg(usize),
    /// The reason.
    Reason,
    /// The button that changes nothing.
    Keep,
    /// The button that goes on: to what will happen, and from there to the change.
    Go,
}

/// How far a change is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Stage {
    /// It is being written.
    Filling,
    /// The server is asked what will happen.
    Asking,
    /// What will happen is on show.
    Shown(Preview),
    /// It is under way, as it was shown.
    Sending(Preview),
}

/// What will happen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Preview {
    /// In the server's words.
    pub(crate) effects: Vec<String>,
    /// What becomes of the run.
    pub(crate) changes: Vec<Change>,
}

/// A change being prepared.
#[derive(Clone, Debug)]
pub(crate) struct Dialog {
    /// Names the wish as it is typed now.
    pub(crate) intent: u64,
    /// The verb, as the server describes it.
    pub(crate) action: AllowedAction,
    /// The run as it was when the dialog opened.
    pub(crate) run: RunSummary,
    /// The tenant's name.
    pub(crate) tenant: String,
    /// The revision that the person saw.
    pub(crate) revision: i64,
    /// The revision that the server named last.
    pub(crate) latest: i64,
    /// What the verb takes, as it is typed.
    pub(crate) args: Vec<Input>,
    /// The reason as it is typed.
    pub(crate) reason: Input,
    /// Where the cursor is.
    pub(crate) field: Field,
    /// How far it is.
    pub(crate) stage: Stage,
    /// Why the last try came to nothing.
    pub(crate) refused: Option<String>,
}

impl Dialog {
    /// Prepares a verb for the run on show. What the verb needs and the run has is filled in.
    pub(crate) fn open(intent: u64, action: AllowedAction, detail: &Detail) -> Option<Self> {
        let run = detail.run.as_ref()?;
        let args: Vec<_> = action.args.iter().map(|arg| begin(arg, run)).collect();
        Some(Self {
            intent,
            run: detail.summary.clone(),
            tenant: detail.tenant_name(),
            revision: run.revision,
            latest: run.revision,
            field: if args.is_empty() {
                Field::Reason
            } else {
                Field::Arg(0)
            },
            args,
            action,
            reason: Input::default(),
            stage: Stage::Filling,
            refused: None,
        })
    }

    /// Moves to another place, around the end. The safe button stands before the other one.
    pub(crate) fn turn(&mut self, by: isize) {
        let args = (0..self.args.len()).map(Field::Arg);
        let fields: Vec<_> = args
            .chain([Field::Reason, Field::Keep, Field::Go])
            .collect();
        let here = fields.iter().position(|field| *field == self.field);
        let there = here.unwrap_or(0).cast_signed() + by;
        let there = there.rem_euclid(fields.len().cast_signed());
        self.field = fields
            .get(there.cast_unsigned())
            .copied()
            .unwrap_or(Field::Keep);
    }

    /// The text field under the cursor.
    pub(crate) fn input_mut(&mut self) -> Option<&mut Input> {
        match self.field {
            Field::Arg(place) => self.args.get_mut(place),
            Field::Reason => Some(&mut self.reason),
            Field::Keep | Field::Go => None,
        }
    }

    /// Whether an answer is waited for.
    pub(crate) fn is_busy(&self) -> bool {
        matches!(self.stage, Stage::Asking | Stage::Sending(_))
    }

    /// Whether the run changed while the dialog was open.
    pub(crate) fn is_stale(&self) -> bool {
        self.latest != self.revision
    }

    /// Shows what will happen and moves to the button that does it.
    pub(crate) fn show(&mut self, would: &ActionAccepted) {
        let mut changes = changes::between(&would.before, &would.after);
        // It rises with every act, which tells nobody anything.
        changes.retain(|change| change.path != "revision");
        self.stage = Stage::Shown(Preview {
            effects: would.effects.clone(),
            changes,
        });
        self.field = Field::Go;
    }

    /// Takes a no. Without an answer the change may have been done, so that it can only be sent again
    /// as it is; what the server refused is to be mended.
    pub(crate) fn refuse(&mut self, reached: bool, words: String) {
        self.refused = Some(words);
        self.stage = match std::mem::replace(&mut self.stage, Stage::Filling) {
            Stage::Sending(preview) if !reached => Stage::Shown(preview),
            _ => Stage::Filling,
        };
    }

    /// Goes on: first to what will happen, then to the change. Answers what is to be sent, if
    /// anything is, or what is still missing.
    pub(crate) fn go(&mut self) -> Result<Option<Act>, String> {
        let shown = match &self.stage {
            Stage::Shown(preview) => Some(preview.clone()),
            _ => None,
        };
        let act = self.act(shown.is_none())?;
        if let Some(preview) = shown {
            self.stage = Stage::Sending(preview);
        } else if self.action.dry_run {
            self.stage = Stage::Asking;
        } else {
            self.show(&ActionAccepted {
                run_id: self.run.run_id,
                revision: self.revision,
                dry_run: true,
                before: Value::Null,
                after: Value::Null,
                effects: vec![self.action.help.clone()],
                started_run_id: None,
            });
            return Ok(None);
        }
        Ok(Some(act))
    }

    fn act(&self, dry_run: bool) -> Result<Act, String> {
        let mut args = Map::new();
        for (arg, input) in self.action.args.iter().zip(&self.args) {
            let value = read(arg, input.value()).map_err(|why| format!("{}: {why}", arg.name))?;
            args.extend(value.map(|value| (arg.name.clone(), value)));
        }
        let reason = self.reason.value().trim().to_owned();
        if reason.is_empty() {
            return Err("a reason is needed".to_owned());
        }
        let run_id = self.run.run_id;
        if self.action.action == SIGNAL {
            let signal = args.remove(SIGNAL).unwrap_or_default();
            return Ok(Act::Signal {
                run_id,
                signal,
                reason,
            });
        }
        if self.is_stale() {
            return Err(format!(
                "the run changed since you opened this ({} -> {}): close it and look again",
                self.revision, self.latest
            ));
        }
        let args = serde_json::from_value(Value::Object(args))
            .map_err(|error| format!("this console is older than the server: {error}"))?;
        Ok(Act::Verb {
            run_id,
            verb: self.action.action.clone(),
            body: Box::new(ActOnRun {
                reason,
                revision: self.revision,
                dry_run,
                args,
            }),
        })
    }
}

/// What an argument begins with: nothing, or what the run has under that name.
fn begin(arg: &ActionArg, run: &RunDetail) -> Input {
    if !arg.required {
        return Input::default();
    }
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

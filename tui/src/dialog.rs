//! A dialog that prepares a change: what the verb takes, why, what the server says will happen, and the
//! safe way out. The server says what each verb takes; nothing here knows a verb but `signal`, which
//! has a path of its own.

use crate::args;
use crate::changes::{self, Change};
use crate::event::{Act, ScheduleVerb};
use serde_json::{Map, Value};
use tenure_client::{ActOnRun, ActOnSchedule, ActionAccepted, AllowedAction, RunDetail};
use tui_input::Input;
use uuid::Uuid;

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

/// What is acted on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Subject {
    /// Its identity.
    pub(crate) id: SubjectId,
    /// What a person calls it.
    pub(crate) title: String,
    /// The revision that the person saw.
    pub(crate) revision: i64,
}

/// A run or a schedule.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SubjectId {
    /// A run.
    Run(Uuid),
    /// A schedule.
    Schedule(Uuid),
}

impl SubjectId {
    /// The word for its kind.
    pub(crate) const fn noun(self) -> &'static str {
        match self {
            Self::Run(_) => "run",
            Self::Schedule(_) => "schedule",
        }
    }

    /// Its number.
    pub(crate) const fn uuid(self) -> Uuid {
        match self {
            Self::Run(id) | Self::Schedule(id) => id,
        }
    }
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
    /// What is acted on, as it was when the dialog opened.
    pub(crate) subject: Subject,
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
    /// Prepares a verb. What the verb needs and the run has, where it is for one, is filled in.
    pub(crate) fn open(
        intent: u64,
        action: AllowedAction,
        subject: Subject,
        run: Option<&RunDetail>,
    ) -> Self {
        let args: Vec<_> = action
            .args
            .iter()
            .map(|arg| args::begin(arg, run))
            .collect();
        Self {
            intent,
            latest: subject.revision,
            subject,
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
        }
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
        self.latest != self.subject.revision
    }

    /// Shows what the server says will happen.
    pub(crate) fn show(&mut self, would: &ActionAccepted) {
        let mut changes = changes::between(&would.before, &would.after);
        // It rises with every act, which tells nobody anything.
        changes.retain(|change| change.path != "revision");
        self.shown(would.effects.clone(), changes);
    }

    /// Moves to the button that does it.
    fn shown(&mut self, effects: Vec<String>, changes: Vec<Change>) {
        self.stage = Stage::Shown(Preview { effects, changes });
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
            self.shown(vec![self.action.help.clone()], Vec::new());
            return Ok(None);
        }
        Ok(Some(act))
    }

    fn act(&self, dry_run: bool) -> Result<Act, String> {
        let mut args = Map::new();
        for (arg, input) in self.action.args.iter().zip(&self.args) {
            let value =
                args::read(arg, input.value()).map_err(|why| format!("{}: {why}", arg.name))?;
            args.extend(value.map(|value| (arg.name.clone(), value)));
        }
        let reason = self.reason.value().trim().to_owned();
        if reason.is_empty() {
            return Err("a reason is needed".to_owned());
        }
        let (verb, revision) = (self.action.action.as_str(), self.subject.revision);
        let older = || format!("this console is older than the server and cannot {verb}");
        match self.subject.id {
            SubjectId::Run(run_id) if verb == SIGNAL => Ok(Act::Signal {
                run_id,
                signal: args.remove(SIGNAL).unwrap_or_default(),
                reason,
            }),
            _ if self.is_stale() => Err(format!(
                "the {} changed since you opened this ({revision} -> {}): close it and look again",
                self.subject.id.noun(),
                self.latest
            )),
            SubjectId::Run(run_id) => Ok(Act::Verb {
                run_id,
                verb: verb.to_owned(),
                body: Box::new(ActOnRun {
                    reason,
                    revision,
                    dry_run,
                    args: serde_json::from_value(Value::Object(args)).map_err(|_| older())?,
                }),
            }),
            SubjectId::Schedule(schedule_id) => Ok(Act::Schedule {
                schedule_id,
                verb: ScheduleVerb::parse(verb).ok_or_else(older)?,
                body: ActOnSchedule { reason, revision },
            }),
        }
    }
}

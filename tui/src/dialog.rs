//! A dialog that prepares a change: what the verb takes, why, what the server says will happen, and the
//! safe way out.

use crate::changes;
use crate::deeds::{self, Deed, Preview, runs::SIGNAL};
use crate::event::Act;
use crate::form::{self, Form, Values};
use crate::subject::{Offer, Subject, Target};
use tenure_client::ActionAccepted;
use tui_input::Input;

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

/// A change being prepared.
#[derive(Clone, Debug)]
pub(crate) struct Dialog {
    /// Names the wish as it is typed now.
    pub(crate) intent: u64,
    /// The verb and what it asks for.
    pub(crate) form: Form,
    /// What is acted on, as it was when the dialog opened.
    pub(crate) subject: Subject,
    /// How the server described it last.
    pub(crate) latest: String,
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
    /// Prepares a verb. The cursor begins in its first field.
    pub(crate) fn open(intent: u64, offer: Offer) -> Self {
        let Offer { form, subject, .. } = offer;
        let args = form.args.iter().map(|arg| Input::new(arg.begin.clone()));
        let mut dialog = Self {
            intent,
            latest: subject.target.seen(),
            args: args.collect(),
            field: Field::Keep,
            reason: Input::new(form.because.clone()),
            form,
            subject,
            stage: Stage::Filling,
            refused: None,
        };
        dialog.field = dialog.fields().first().copied().unwrap_or(Field::Keep);
        dialog
    }

    /// All places, from the top. The safe button stands before the other one.
    fn fields(&self) -> Vec<Field> {
        let args = (0..self.args.len()).map(Field::Arg);
        let reason = self.form.reason.then_some(Field::Reason);
        args.chain(reason).chain([Field::Keep, Field::Go]).collect()
    }

    /// Whether the cursor is in the last field, from which Enter goes on.
    pub(crate) fn is_at_end(&self) -> bool {
        let fields = self.fields();
        let last = fields
            .len()
            .checked_sub(3)
            .and_then(|last| fields.get(last));
        last == Some(&self.field)
    }

    /// Moves to another place, around the end.
    pub(crate) fn turn(&mut self, by: isize) {
        let fields = self.fields();
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

    /// Writes out what was begun in the field under the cursor; says whether there was something to.
    pub(crate) fn complete(&mut self) -> bool {
        let Field::Arg(place) = self.field else {
            return false;
        };
        let (Some(arg), Some(input)) = (self.form.args.get(place), self.args.get_mut(place)) else {
            return false;
        };
        let whole = form::completed(arg, input.value());
        let found = whole.is_some();
        if let Some(whole) = whole {
            *input = Input::new(whole);
            self.refused = None;
        }
        found
    }

    /// Whether an answer is waited for.
    pub(crate) fn is_busy(&self) -> bool {
        matches!(self.stage, Stage::Asking | Stage::Sending(_))
    }

    /// Whether what is acted on changed while the dialog was open.
    pub(crate) fn is_stale(&self) -> bool {
        self.latest != self.subject.target.seen()
    }

    /// Shows what the server says will happen.
    pub(crate) fn show(&mut self, would: &ActionAccepted) {
        let mut changes = changes::between(&would.before, &would.after);
        // It rises with every act, which tells nobody anything.
        changes.retain(|change| change.path != "revision");
        self.shown(Preview {
            effects: would.effects.clone(),
            changes,
        });
    }

    /// Shows what the server says it comes to.
    pub(crate) fn tell(&mut self, words: Vec<String>) {
        self.shown(Preview::words(words));
    }

    /// Moves to the button that does it.
    fn shown(&mut self, preview: Preview) {
        self.stage = Stage::Shown(preview);
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
        let values = self.values()?;
        let reason = self.reason.value().trim().to_owned();
        if self.form.reason && reason.is_empty() {
            return Err("a reason is needed".to_owned());
        }
        let deed = Deed {
            subject: &self.subject,
            verb: &self.form.verb,
            values: &values,
            reason: &reason,
        };
        let act = deeds::act(&deed, shown.is_none())?;
        self.check()?;
        if let Some(preview) = shown {
            self.stage = Stage::Sending(preview);
        } else if self.form.dry_run {
            self.stage = Stage::Asking;
        } else {
            let preview = deeds::preview(&deed, &self.form.help);
            self.shown(preview);
            return Ok(None);
        }
        Ok(Some(act))
    }

    /// What the fields have in them, or what is wrong with the first that is wrong.
    fn values(&self) -> Result<Values, String> {
        let mut values = Values::default();
        for (arg, input) in self.form.args.iter().zip(&self.args) {
            let read = form::read(arg, input.value());
            let value = read.map_err(|why| format!("{}: {why}", arg.name))?;
            values
                .0
                .extend(value.map(|value| (arg.name.clone(), value)));
        }
        Ok(values)
    }

    /// Refuses to act on what moved on. A signal waits in the inbox of whatever became of the run.
    fn check(&self) -> Result<(), String> {
        let is_signal = matches!(self.subject.target, Target::Run(..)) && self.form.verb == SIGNAL;
        if is_signal || !self.is_stale() {
            return Ok(());
        }
        let (noun, seen) = (self.subject.target.noun(), self.subject.target.seen());
        let latest = &self.latest;
        Err(format!(
            "the {noun} changed since you opened this ({seen} -> {latest}): close it and look again"
        ))
    }
}

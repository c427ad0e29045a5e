//! What the server's answers change.

use super::commands;
use crate::event::{Answer, Done, Refusal};
use crate::model::Model;
use crate::theme::Tone;
use chrono::{DateTime, TimeDelta, Utc};

/// How long the list of runs is fresh.
const FRESH: TimeDelta = TimeDelta::seconds(1);

/// Takes an answer to the view on show.
pub(super) fn answer(model: &mut Model, at: DateTime<Utc>, answer: Answer) {
    model.now = model.now.max(at);
    if let Answer::Failed(refusal) = answer {
        return failed(model, at, refusal);
    }
    let pause = model.over.last().map(|screen| screen.place().pause());
    model.link.good(at, pause.unwrap_or(FRESH));
    // The generation says that the view on show asked, so the answer is its own.
    match (answer, model.over.last_mut()) {
        (Answer::Runs(page), None) => model.list.take_runs(page),
        (_, None) => {}
        (answer, Some(screen)) => {
            if screen.place_mut().take(answer) {
                model.link.hurry(at);
            }
            if let Some(dialog) = &mut model.dialog {
                let latest = screen.place().latest(&dialog.subject.target);
                dialog.latest = latest.unwrap_or_else(|| std::mem::take(&mut dialog.latest));
            }
        }
    }
}

/// Takes an answer to an act. A clear no is told in the dialog, where the words can be mended.
pub(super) fn acted(model: &mut Model, intent: u64, result: Result<Done, Refusal>) {
    model.link.hurry(model.now);
    let next_intent = model.new_intent();
    let dialog = model
        .dialog
        .as_mut()
        .filter(|dialog| dialog.intent == intent);
    match (result, dialog) {
        (Ok(Done::Would(would)), Some(dialog)) => dialog.show(&would),
        (Ok(Done::Told(words)), Some(dialog)) => dialog.tell(words),
        // Nothing was done, and nobody wants to know any more.
        (Ok(Done::Would(_) | Done::Told(_)), None) => {}
        (Ok(Done::Did(words)), dialog) => {
            if dialog.is_some() {
                model.dialog = None;
            }
            model.say(Tone::Good, words);
        }
        (Ok(Done::Opens(words, door)), dialog) => {
            // Who left the form meanwhile is elsewhere, and stays there.
            if dialog.is_some() {
                model.dialog = None;
                commands::enter_new(model, door);
            }
            model.say(Tone::Good, words);
        }
        (
            Ok(Done::Shows {
                run_id,
                field,
                value,
            }),
            dialog,
        ) => {
            if dialog.is_some() {
                model.dialog = None;
            }
            let (now, focused) = (model.now, model.focused);
            let detail = model.detail_mut();
            // Who left the run or the window meanwhile is not shown what is private of it.
            let words = match detail.filter(|page| page.run_id == run_id && focused) {
                Some(detail) => {
                    detail.revealed.add(&field, value, now);
                    format!("{field} is shown for a minute; the audit says that you saw it.")
                }
                None => format!("{field} is not shown: you have left its run."),
            };
            model.say(Tone::Good, words);
        }
        (Err(refusal), Some(dialog)) => {
            if refusal.reached {
                // The server decided, so the next try is a new wish; without an answer it is the same.
                dialog.intent = next_intent;
            }
            dialog.refuse(refusal.reached, refusal.words);
        }
        (Err(refusal), None) => model.say(Tone::Bad, refusal.words),
    }
}

/// Notes a failure. Its words stand in the message line for as long as it lasts.
fn failed(model: &mut Model, at: DateTime<Utc>, refusal: Refusal) {
    if refusal.reached && !refusal.retryable {
        model.link.refused(at, refusal.words);
    } else {
        model.link.failed(at, refusal.words);
    }
}

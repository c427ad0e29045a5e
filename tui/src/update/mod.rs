//! What follows from an event: a changed model, and what is to be done. No I/O, no clock.

mod acts;
mod answers;
mod commands;
mod keys;

use crate::event::{Action, Event};
use crate::model::Model;

pub(crate) use acts::refusal;

/// Takes an event in, and answers what is to be done outside.
pub fn update(model: &mut Model, event: Event) -> Vec<Action> {
    let mut actions = match event {
        Event::Terminal(event) => keys::terminal(model, &event),
        Event::Tick(now) => {
            model.now = now;
            model.toast.take_if(|toast| toast.until <= now);
            model.revealed_mut().for_each(|shown| shown.pass(now));
            Vec::new()
        }
        Event::Answer {
            generation,
            at,
            answer,
        } => {
            if generation == model.link.generation() {
                answers::answer(model, at, answer);
            }
            Vec::new()
        }
        Event::Acted { intent, result } => {
            answers::acted(model, intent, result);
            Vec::new()
        }
        Event::Terminate => vec![Action::Quit],
    };
    actions.extend(poll(model));
    actions
}

/// The next question, when it is time for one and somebody is looking.
fn poll(model: &mut Model) -> Option<Action> {
    if !model.focused || !model.link.is_due(model.now) {
        return None;
    }
    model.link.asked();
    Some(Action::Ask {
        generation: model.link.generation(),
        request: model.request(),
    })
}

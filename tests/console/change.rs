//! Changes: what a person must do before anything is sent, and that one wish is carried out once.

use super::desk::{Desk, refused};
use super::samples::{detail, id, run_answer};
use serde_json::json;
use tenure_console::crossterm::event::KeyCode;
use tenure_console::event::{Act, Content, Event, Refusal};

#[test]
fn a_signal_goes_only_as_json_with_a_reason_and_not_by_the_first_enter() {
    let mut desk = Desk::with_detail(true);
    desk.key(KeyCode::Char('S'));
    desk.type_text("{\"paid\": ");
    assert!(desk.text().contains("not JSON"));
    desk.type_text("{}}");
    assert!(desk.text().contains("the run will get signal \"paid\""));
    desk.key(KeyCode::Enter);
    desk.key(KeyCode::Enter);
    desk.key(KeyCode::Tab);
    desk.key(KeyCode::Enter);
    assert_eq!(desk.acted(), None);
    assert!(desk.text().contains("! a reason is needed"));
    desk.key(KeyCode::BackTab);
    desk.key(KeyCode::BackTab);
    desk.type_text("the bank called");
    desk.key(KeyCode::Enter);
    assert!(
        desk.text().contains("> [ Keep it as it is ]"),
        "the safe button comes first"
    );
    desk.key(KeyCode::Tab);
    desk.key(KeyCode::Enter);
    let signal = json!({"paid": {}});
    let wanted = Act::Signal {
        run_id: id(1),
        signal,
        reason: "the bank called".to_owned(),
    };
    assert_eq!(desk.acted().map(|(_, act)| act), Some(wanted));
    desk.key(KeyCode::Enter);
    assert_eq!(desk.acted(), None, "what is under way is not sent twice");
}

#[test]
fn the_safe_ways_out_of_a_dialog_send_nothing() {
    let mut desk = Desk::with_detail(true);
    desk.key(KeyCode::Char('R'));
    desk.type_text("because");
    desk.key(KeyCode::Enter);
    desk.key(KeyCode::Enter);
    assert_eq!((desk.acted(), desk.model.has_dialog()), (None, false));
    desk.key(KeyCode::Char('R'));
    desk.key(KeyCode::Esc);
    assert_eq!((desk.acted(), desk.model.has_dialog()), (None, false));
    assert_eq!(desk.model.toast(), Some("Nothing was changed."));
}

#[test]
fn a_retry_names_the_revision_that_was_seen_and_is_refused_on_a_newer_one() {
    let mut desk = Desk::with_detail(true);
    desk.retry("it is fixed");
    let wanted = Act::Retry {
        run_id: id(1),
        revision: 41,
        reason: "it is fixed".to_owned(),
    };
    assert_eq!(desk.acted().map(|(_, act)| act), Some(wanted));

    let mut desk = Desk::with_detail(true);
    desk.key(KeyCode::Char('R'));
    let mut newer = detail(1);
    newer.revision = 42;
    desk.refresh(run_answer(newer, Content::Data));
    assert!(
        desk.text()
            .contains("The run changed while this was open (revision 41 -> 42).")
    );
    desk.type_text("it is fixed");
    desk.key(KeyCode::Enter);
    desk.key(KeyCode::Tab);
    desk.key(KeyCode::Enter);
    assert_eq!(desk.acted(), None);
    assert!(desk.text().contains("close it and look again"));
}

#[test]
fn a_lost_answer_repeats_the_wish_and_a_refusal_ends_it() {
    let mut desk = Desk::with_detail(true);
    desk.retry("it is fixed");
    let (first, _) = desk.acted().unwrap();
    desk.send(Event::Acted {
        intent: first,
        result: Err(Refusal {
            reached: false,
            retryable: true,
            words: "no answer".to_owned(),
        }),
    });
    assert!(desk.text().contains("! no answer"));
    desk.key(KeyCode::Enter);
    let (second, _) = desk.acted().unwrap();
    assert_eq!(first, second, "the server may have done it already");
    desk.send(Event::Acted {
        intent: second,
        result: Err(refused("the run moved on")),
    });
    assert!(desk.text().contains("! the run moved on"));
    desk.key(KeyCode::Enter);
    let (third, _) = desk.acted().unwrap();
    assert_ne!(second, third);
    desk.send(Event::Acted {
        intent: third,
        result: Ok("The run is being tried again.".to_owned()),
    });
    assert!(!desk.model.has_dialog());
    assert_eq!(desk.model.toast(), Some("The run is being tried again."));
}

#[test]
fn other_words_are_another_wish() {
    let mut desk = Desk::with_detail(true);
    desk.retry("one");
    let (first, _) = desk.acted().unwrap();
    let lost = Refusal {
        reached: false,
        retryable: true,
        words: "no answer".to_owned(),
    };
    desk.send(Event::Acted {
        intent: first,
        result: Err(lost),
    });
    desk.key(KeyCode::BackTab);
    desk.key(KeyCode::BackTab);
    desk.type_text("!");
    desk.key(KeyCode::Tab);
    desk.key(KeyCode::Tab);
    desk.key(KeyCode::Enter);
    assert_ne!(desk.acted().unwrap().0, first);
}

#[test]
fn a_verb_that_the_server_refuses_says_why() {
    let mut desk = Desk::with_detail(false);
    desk.key(KeyCode::Char('R'));
    assert!(!desk.model.has_dialog());
    assert_eq!(
        desk.model.toast(),
        Some("You cannot retry this run now: needs role support")
    );
    desk.key(KeyCode::Char('?'));
    assert!(desk.text().contains("[not now: needs role support]"));
}

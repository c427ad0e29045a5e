//! Changes: what a person must do before anything is sent, and that one wish is carried out once.

use super::desk::{Desk, refused};
use super::samples::{detail, id, parse, run_answer, would};
use serde_json::json;
use tenure_client::{ActOnRun, ActionArgs};
use tenure_console::crossterm::event::KeyCode;
use tenure_console::event::{Act, Content, Done, Refusal};
use tenure_console::keymap::Context;

fn lost() -> Refusal {
    Refusal {
        reached: false,
        retryable: true,
        words: "no answer".to_owned(),
    }
}

/// A retry with a reason, as it is sent.
fn retry(reason: &str, dry_run: bool) -> Act {
    verb("retry", reason, dry_run, ActionArgs::default())
}

fn verb(word: &str, reason: &str, dry_run: bool, args: ActionArgs) -> Act {
    Act::Verb {
        run_id: id(1),
        verb: word.to_owned(),
        body: Box::new(ActOnRun {
            reason: reason.to_owned(),
            revision: 41,
            dry_run,
            args,
        }),
    }
}

#[test]
fn a_signal_goes_only_as_json_with_a_reason_and_after_it_was_told_what_will_happen() {
    let mut desk = Desk::with_detail(true);
    desk.key(KeyCode::Char('S'));
    desk.type_text("{\"paid\": ");
    assert!(desk.text().contains("signal *  not JSON"));
    desk.key(KeyCode::Enter);
    desk.key(KeyCode::Enter);
    assert_eq!(desk.acted(), None);
    assert!(desk.text().contains("! signal: not JSON"));
    desk.key(KeyCode::BackTab);
    desk.type_text("{}}");
    assert!(desk.text().contains("JSON is fine"));
    desk.key(KeyCode::Enter);
    desk.key(KeyCode::Enter);
    assert_eq!(desk.acted(), None);
    assert!(desk.text().contains("! a reason is needed"));
    desk.type_text("the bank called");
    desk.key(KeyCode::Enter);
    assert_eq!(desk.acted(), None);
    let text = desk.text();
    assert!(text.contains("- Puts a message into its inbox."), "{text}");
    assert!(text.contains("> [ Do it: signal ]"), "{text}");
    desk.key(KeyCode::Enter);
    let wanted = Act::Signal {
        run_id: id(1),
        signal: json!({"paid": {}}),
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
    desk.key(KeyCode::Tab);
    assert!(desk.text().contains("> [ Keep it as it is ]"));
    desk.key(KeyCode::Enter);
    assert_eq!((desk.acted(), desk.model.has_dialog()), (None, false));
    desk.key(KeyCode::Char('R'));
    desk.type_text("because");
    desk.key(KeyCode::Enter);
    desk.key(KeyCode::Esc);
    desk.done(Ok(would()));
    assert_eq!((desk.acted(), desk.model.has_dialog()), (None, false));
    assert_eq!(desk.model.toast(), Some("Nothing was changed."));
}

#[test]
fn a_verb_is_asked_about_first_and_then_done_with_the_revision_that_was_seen() {
    let mut desk = Desk::with_detail(true);
    desk.key(KeyCode::Char('R'));
    desk.type_text("it is fixed");
    desk.key(KeyCode::Enter);
    let asked = desk.acted().map(|(_, act)| act);
    assert_eq!(asked, Some(retry("it is fixed", true)));
    desk.key(KeyCode::Enter);
    assert_eq!(desk.acted(), None, "it waits for the answer");
    desk.done(Ok(would()));
    let text = desk.text();
    for told in [
        "- It is tried again now ^[[31m.",
        "- status: stuck -> due",
        "- data.tries: 3 -> 0",
    ] {
        assert!(text.contains(told), "{told} is not in\n{text}");
    }
    assert!(!text.contains("- revision"), "{text}");
    desk.key(KeyCode::Enter);
    let done = desk.acted().map(|(_, act)| act);
    assert_eq!(done, Some(retry("it is fixed", false)));
}

#[test]
fn a_run_that_changed_meanwhile_is_left_alone() {
    let mut desk = Desk::with_detail(true);
    desk.key(KeyCode::Char('R'));
    desk.type_text("it is fixed");
    desk.key(KeyCode::Enter);
    desk.done(Ok(would()));
    let mut newer = detail(1);
    newer.revision = 42;
    desk.refresh(run_answer(newer, Content::Data));
    let text = desk.text();
    assert!(text.contains("The run changed while this was open (revision 41 -> 42)."));
    desk.key(KeyCode::Enter);
    assert_eq!(desk.acted(), None);
    assert!(desk.text().contains("close it and look again"));
}

#[test]
fn other_words_must_be_asked_about_again() {
    let mut desk = Desk::with_detail(true);
    desk.key(KeyCode::Char('R'));
    desk.type_text("one");
    desk.key(KeyCode::Enter);
    let (first, _) = desk.acted().unwrap();
    desk.done(Ok(would()));
    desk.key(KeyCode::BackTab);
    desk.key(KeyCode::BackTab);
    desk.type_text("!");
    assert!(!desk.text().contains("What will happen\n"));
    desk.key(KeyCode::Enter);
    let (second, act) = desk.acted().unwrap();
    assert_eq!(act, retry("one!", true));
    assert_ne!(first, second, "other words are another wish");
}

#[test]
fn a_lost_answer_repeats_the_wish_and_a_refusal_ends_it() {
    let mut desk = Desk::with_detail(true);
    desk.retry("it is fixed");
    let (first, _) = desk.acted().unwrap();
    desk.done(Err(lost()));
    assert!(desk.text().contains("! no answer"));
    desk.key(KeyCode::Enter);
    let (second, act) = desk.acted().unwrap();
    assert_eq!(act, retry("it is fixed", false));
    assert_eq!(first, second, "the server may have done it already");
    desk.done(Err(refused("the run moved on")));
    assert!(desk.text().contains("! the run moved on"));
    desk.key(KeyCode::Enter);
    let (third, act) = desk.acted().unwrap();
    assert_eq!(act, retry("it is fixed", true), "it asks anew");
    assert_ne!(second, third);
    desk.done(Ok(would()));
    desk.key(KeyCode::Enter);
    desk.done(Ok(Done::Did("Done: retry.".to_owned())));
    assert!(!desk.model.has_dialog());
    assert_eq!(desk.model.toast(), Some("Done: retry."));
}

#[test]
fn a_verb_that_the_server_refuses_says_why() {
    let mut desk = Desk::with_detail(false);
    desk.key(KeyCode::Char('R'));
    assert!(!desk.model.has_dialog());
    let words = "You cannot retry this run now: needs role support";
    assert_eq!(desk.model.toast(), Some(words));
    desk.key(KeyCode::Char('?'));
    assert!(desk.text().contains("[not now: needs role support]"));
}

#[test]
fn the_menu_offers_every_verb_that_the_server_names_and_opens_the_same_form() {
    let mut desk = Desk::with_detail(true);
    desk.key(KeyCode::Char('a'));
    assert_eq!(desk.model.context(), Context::Menu);
    let text = desk.text();
    for action in detail(1).allowed_actions {
        assert!(text.contains(&action.action), "{text}");
    }
    assert!(text.contains("[not now: needs role operator]"), "{text}");
    desk.key(KeyCode::Down);
    desk.key(KeyCode::Down);
    desk.key(KeyCode::Enter);
    assert!(!desk.model.has_dialog(), "cancel is refused");
    assert_eq!(
        desk.model.toast(),
        Some("You cannot cancel this run now: needs role operator")
    );
    desk.key(KeyCode::Up);
    desk.key(KeyCode::Enter);
    desk.type_text("it is fixed");
    let by_menu = desk.frame(80, 24);
    let mut desk = Desk::with_detail(true);
    desk.key(KeyCode::Char('R'));
    desk.type_text("it is fixed");
    let by_key = desk.frame(80, 24);
    let form = |text: &str| {
        let (_, form) = text.split_once("retry, dunning").unwrap();
        form.split_once("See what").unwrap().0.to_owned()
    };
    assert_eq!(form(&by_menu), form(&by_key));
}

#[test]
fn the_signals_that_the_run_knows_are_listed_and_written_out_by_their_first_letters() {
    let mut desk = Desk::with_detail(true);
    let mut run = detail(1);
    run.signals = parse(json!([
        {"name": "Paid", "sketch": "Paid", "reception": "accept"},
        {"name": "PaymentFailed", "sketch": {"PaymentFailed": {"code": null}}},
        {"name": "Reevaluate", "sketch": "Reevaluate", "reception": "reject", "reason": "it is over"},
    ]));
    desk.refresh(run_answer(run, Content::Timeline(Vec::new(), Vec::new())));
    desk.key(KeyCode::Char('S'));
    insta::assert_snapshot!("signal_80x24", desk.frame(80, 24));
    desk.type_text("r");
    let text = desk.text();
    assert!(text.contains("it is rejected: it is over"), "{text}");
    assert!(!text.contains("PaymentFailed"), "{text}");
    desk.key(KeyCode::Backspace);
    desk.type_text("pay");
    desk.key(KeyCode::Enter);
    assert!(
        desk.text()
            .contains("> {\"PaymentFailed\":{\"code\":null}}")
    );
    desk.key(KeyCode::Enter);
    desk.type_text("the bank called");
    desk.enters(2);
    let sent = |signal| Act::Signal {
        run_id: id(1),
        signal,
        reason: "the bank called".to_owned(),
    };
    let wanted = sent(json!({"PaymentFailed": {"code": null}}));
    assert_eq!(desk.acted().map(|(_, act)| act), Some(wanted));
}

#[test]
fn the_menu_stays_on_its_verb_whatever_the_server_offers_meanwhile() {
    let mut desk = Desk::with_detail(true);
    let offered = |words: &[&str]| {
        let mut run = detail(1);
        run.allowed_actions
            .retain(|action| words.contains(&action.action.as_str()));
        run_answer(run, Content::Timeline(Vec::new(), Vec::new()))
    };
    desk.key(KeyCode::Char('a'));
    while !desk.text().contains("> restart") {
        desk.key(KeyCode::Down);
    }
    // The list is shorter, and the verb stands elsewhere in it.
    desk.refresh(offered(&["retry", "restart"]));
    assert!(desk.text().contains("> restart"), "{}", desk.text());
    // It is gone: what stands in its place was not looked at, and is not taken for it.
    desk.refresh(offered(&["retry"]));
    assert!(!desk.text().contains("│ > "), "{}", desk.text());
    desk.key(KeyCode::Enter);
    assert!(!desk.model.has_dialog());
    let words = "restart is not offered any more: it has changed meanwhile. Choose again.";
    assert_eq!(desk.model.toast(), Some(words));
    assert!(desk.text().contains("> retry"), "{}", desk.text());
    desk.key(KeyCode::Enter);
    assert!(desk.model.has_dialog());
}

#[test]
fn a_form_begins_with_what_the_run_has_and_sends_what_was_typed() {
    let mut desk = Desk::with_detail(true);
    desk.choose("move-deadline");
    let text = desk.text();
    assert!(text.contains("> retry-charge"), "{text}");
    assert!(text.contains("2026-11-23T15:00:00Z"), "{text}");
    desk.key(KeyCode::Enter);
    desk.type_text("no");
    assert!(desk.text().contains("no time: write it as"));
    for _ in 0.."2026-11-23T15:00:00Zno".len() {
        desk.key(KeyCode::Backspace);
    }
    desk.type_text("2026-12-24 18:30");
    desk.key(KeyCode::Enter);
    desk.type_text("over Christmas");
    desk.key(KeyCode::Enter);
    let args = ActionArgs {
        name: Some("retry-charge".to_owned()),
        at: Some("2026-12-24T18:30:00Z".parse().unwrap()),
        ..ActionArgs::default()
    };
    let wanted = verb("move-deadline", "over Christmas", true, args);
    assert_eq!(desk.acted().map(|(_, act)| act), Some(wanted));
}

#[test]
fn what_may_be_left_out_is_not_sent() {
    let mut desk = Desk::with_detail(true);
    desk.choose("restart");
    assert!(desk.text().contains("input  may be left out"));
    assert!(desk.text().contains("> sub_001-again"));
    desk.retype("again");
    desk.key(KeyCode::Enter);
    desk.key(KeyCode::Enter);
    desk.type_text("because");
    desk.key(KeyCode::Enter);
    let args = ActionArgs {
        key: Some("again".to_owned()),
        ..ActionArgs::default()
    };
    let wanted = verb("restart", "because", true, args);
    assert_eq!(desk.acted().map(|(_, act)| act), Some(wanted));
}

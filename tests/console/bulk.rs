//! One verb to many runs: counted, frozen, confirmed by its number, watched, ended.

use super::desk::{Desk, refused};
use super::samples::{bulk, id, page, results, run, verbs};
use tenure_client::{AbortBulk, ActionArgs, ConfirmBulk, PrepareBulk, RunCount};
use tenure_console::crossterm::event::KeyCode;
use tenure_console::event::{Act, Answer, BulkAct, Done, Door};
use tenure_console::keymap::Context;

/// The verbs for all runs that pass a filter, on show.
fn desk() -> Desk {
    let mut desk = Desk::with_runs(vec![run(1)]);
    desk.key(KeyCode::Char('/'));
    desk.type_text("status:stuck workflow:dunning");
    desk.key(KeyCode::Enter);
    desk.answer(Answer::Runs(page(vec![run(1)])));
    desk.key(KeyCode::Char('B'));
    assert_eq!(desk.question(), "Many(\"status:stuck workflow:dunning\")");
    let (runs, more) = (12, false);
    desk.answer(Answer::Many(RunCount { runs, more }, verbs()));
    desk
}

fn sent(desk: &Desk) -> BulkAct {
    match desk.acted() {
        Some((_, Act::Bulk(act))) => act,
        other => panic!("{other:?}"),
    }
}

/// A selection that was frozen and waits for its number.
fn prepared() -> Desk {
    let mut desk = desk();
    desk.key(KeyCode::Enter);
    desk.enters(2);
    desk.type_text("the provider is back");
    desk.enters(2);
    let door = Door::Bulk(Box::new(bulk("prepared")));
    desk.done(Ok(Done::Opens("12 runs are selected.".to_owned(), door)));
    desk
}

#[test]
fn without_a_filter_nothing_is_done_to_all_runs() {
    let mut desk = Desk::with_runs(vec![run(1)]);
    desk.key(KeyCode::Char('B'));
    assert_eq!(desk.model.context(), Context::List);
    assert!(
        desk.model
            .toast()
            .unwrap()
            .contains("filter the list first")
    );
}

#[test]
fn a_verb_is_prepared_with_its_arguments_a_pace_and_a_reason() {
    let mut desk = desk();
    insta::assert_snapshot!("many_80x24", desk.frame(80, 24));
    desk.key(KeyCode::End);
    desk.key(KeyCode::Enter);
    assert!(!desk.model.has_dialog(), "terminate is refused");
    desk.key(KeyCode::Up);
    desk.key(KeyCode::Enter);
    desk.type_text("{\"Paid\": {}}");
    desk.key(KeyCode::Enter);
    desk.retype("50");
    desk.key(KeyCode::Enter);
    desk.type_text("3");
    desk.key(KeyCode::Enter);
    desk.type_text("they paid by wire");
    desk.key(KeyCode::Enter);
    let text = desk.text();
    assert!(
        text.contains("Nothing is done to them: signal begins when you confirm"),
        "{text}"
    );
    desk.key(KeyCode::Enter);
    let wanted = PrepareBulk {
        filter: "status:stuck workflow:dunning".to_owned(),
        verb: "signal".to_owned(),
        args: ActionArgs {
            signal: Some(serde_json::json!({"Paid": {}})),
            ..ActionArgs::default()
        },
        reason: "they paid by wire".to_owned(),
        pace: 50,
        stop_after: Some(3),
    };
    assert_eq!(sent(&desk), BulkAct::Prepare(Box::new(wanted)));
    desk.done(Err(refused("Invalid: no run passes the filter")));
    assert!(desk.text().contains("! Invalid: no run passes the filter"));
}

#[test]
fn it_begins_only_with_the_number_that_was_selected() {
    let mut desk = prepared();
    assert_eq!(desk.model.context(), Context::Dialog, "it asks at once");
    insta::assert_snapshot!("bulk_confirm_80x24", desk.frame(80, 24));
    desk.type_text("11");
    desk.key(KeyCode::Enter);
    assert!(desk.text().contains("> the provider"), "as it was prepared");
    desk.retype("checked with Ada");
    desk.key(KeyCode::Enter);
    assert!(desk.text().contains("! runs: to go on, type 12"));
    desk.key(KeyCode::BackTab);
    desk.retype("12");
    desk.enters(2);
    let text = desk.text();
    assert!(
        text.contains("retry is done to 12 runs, 10 a second"),
        "{text}"
    );
    assert!(
        text.contains("It stops when 5 runs have refused."),
        "{text}"
    );
    desk.key(KeyCode::Enter);
    let confirm = ConfirmBulk {
        runs: 12,
        reason: "checked with Ada".to_owned(),
    };
    assert_eq!(sent(&desk), BulkAct::Confirm(id(60), confirm));
    desk.done(Ok(Done::Did("12 runs are acted on: retry.".to_owned())));
    desk.answer(Answer::Bulk(Box::new(bulk("acting")), page(results())));
    insta::assert_snapshot!("bulk_80x24", desk.frame(80, 24));
    insta::assert_snapshot!("bulk_40x12", desk.frame(40, 12));
}

#[test]
fn a_number_that_somebody_else_confirmed_meanwhile_is_not_confirmed_again() {
    let mut desk = prepared();
    desk.type_text("12");
    desk.key(KeyCode::Enter);
    desk.type_text("checked");
    desk.answer(Answer::Bulk(Box::new(bulk("acting")), page(results())));
    desk.enters(2);
    assert_eq!(desk.acted(), None);
    assert!(
        desk.text()
            .contains("changed since you opened this (prepared -> acting)")
    );
}

#[test]
fn results_are_looked_through_by_outcome_and_page_and_lead_to_the_run() {
    let mut desk = prepared();
    desk.key(KeyCode::Esc);
    let mut first = page(results());
    first.next_cursor = Some("more".to_owned());
    desk.answer(Answer::Bulk(Box::new(bulk("acting")), first));
    desk.key(KeyCode::Char('n'));
    assert!(
        desk.question().contains("cursor: Some(\"more\")"),
        "{}",
        desk.question()
    );
    desk.answer(Answer::Bulk(Box::new(bulk("acting")), page(results())));
    desk.key(KeyCode::Tab);
    let asked = desk.question();
    assert!(
        asked.contains("outcome: Some(Refused), cursor: None"),
        "{asked}"
    );
    desk.answer(Answer::Bulk(Box::new(bulk("acting")), page(results())));
    assert!(desk.text().contains("RUNS: refused"));
    desk.key(KeyCode::Down);
    desk.key(KeyCode::Enter);
    assert!(
        desk.question()
            .starts_with(&format!("Run {{ run_id: {}", id(2)))
    );
    desk.key(KeyCode::Esc);
    desk.choose("abort");
    desk.type_text("it was a mistake");
    desk.key(KeyCode::Enter);
    let text = desk.text();
    assert!(
        text.contains("What was done to 6 runs stays done."),
        "{text}"
    );
    assert!(text.contains("5 runs are left alone."), "{text}");
    desk.key(KeyCode::Enter);
    let abort = AbortBulk {
        reason: "it was a mistake".to_owned(),
    };
    assert_eq!(sent(&desk), BulkAct::Abort(id(60), abort));
}

#[test]
fn operations_are_listed_and_opened_and_one_that_ended_is_left_alone() {
    let mut desk = Desk::new();
    desk.key(KeyCode::Char('b'));
    assert_eq!(desk.question(), "Bulks");
    desk.answer(Answer::Bulks(vec![bulk("done")]));
    insta::assert_snapshot!("bulks_80x24", desk.frame(80, 24));
    desk.key(KeyCode::Char('a'));
    let text = desk.text();
    assert!(
        text.contains("[not now: it was confirmed or ended]"),
        "{text}"
    );
    assert!(text.contains("[not now: it has ended]"), "{text}");
    desk.key(KeyCode::Esc);
    desk.key(KeyCode::Enter);
    assert!(desk.question().starts_with("Bulk {"), "{}", desk.question());
    assert!(!desk.model.has_dialog());
}

//! The list of runs: what is asked when, what stays selected, and what a filter means.

use super::desk::{Desk, refused};
use super::samples::{detail, detail_answer, id, page, run, run_answer};
use tenure_console::crossterm::event::{Event as TerminalEvent, KeyCode};
use tenure_console::event::{Action, Answer, Content, Event, Refusal, Request};
use tenure_console::filter::Filter;
use tenure_console::keymap::Context;

#[test]
fn a_new_console_asks_for_all_runs_once() {
    let mut desk = Desk::new();
    let Some(Action::Ask {
        request: Request::Runs(query),
        ..
    }) = desk.asked()
    else {
        panic!("no question for runs");
    };
    assert_eq!((query.workflow, query.limit), (None, Some(100)));
    desk.tick(5);
    assert_eq!(desk.asked(), None, "one question at a time");
    desk.answer(Answer::Runs(page(vec![run(1)])));
    desk.tick(1);
    assert!(desk.asked().is_some(), "it keeps the list fresh");
}

#[test]
fn the_selection_stays_on_its_run_while_rows_move() {
    let mut desk = Desk::with_runs(vec![run(1), run(2), run(3)]);
    desk.key(KeyCode::Down);
    assert_eq!(desk.selected(), Some(id(2)));
    desk.refresh(Answer::Runs(page(vec![run(9), run(8), run(1), run(2)])));
    assert_eq!(desk.selected(), Some(id(2)));
    desk.refresh(Answer::Runs(page(vec![run(9), run(8), run(1)])));
    assert_eq!(
        desk.selected(),
        Some(id(1)),
        "a run that is gone leaves the selection in its place"
    );
    desk.refresh(Answer::Runs(page(vec![])));
    assert_eq!(desk.selected(), None);
}

#[test]
fn an_answer_to_a_view_that_was_left_is_dropped() {
    let mut desk = Desk::with_runs(vec![run(1), run(2)]);
    desk.tick(1);
    let old = desk.generation();
    desk.key(KeyCode::Enter);
    assert!(matches!(
        desk.asked(),
        Some(Action::Ask {
            request: Request::Run { .. },
            ..
        })
    ));
    desk.send(Event::Answer {
        generation: old,
        at: desk.now,
        answer: Answer::Failed(refused("too late")),
    });
    assert!(!desk.text().contains("too late"));
    desk.answer(detail_answer(1, Content::Data));
    assert!(desk.text().contains("WHY"));
}

#[test]
fn a_lost_server_is_asked_again_after_a_longer_pause_each_time() {
    let mut desk = Desk::with_runs(vec![run(1)]);
    for pause in [1, 2, 4, 8, 15, 15] {
        desk.tick(20);
        assert!(desk.asked().is_some());
        desk.answer(Answer::Failed(Refusal {
            reached: false,
            retryable: true,
            words: "the server cannot be reached".to_owned(),
        }));
        desk.tick(pause - 1);
        assert_eq!(desk.asked(), None, "before {pause} seconds are over");
        let text = desk.text();
        assert!(text.contains("! reconnecting"), "{text}");
        assert!(
            text.contains("the server cannot be reached") && text.contains("dunning"),
            "{text}"
        );
    }
    desk.tick(1);
    desk.answer(Answer::Runs(page(vec![run(1)])));
    assert!(desk.text().contains("+ live, data 0s old"));
    assert!(!desk.text().contains("cannot be reached"));
}

#[test]
fn nobody_looking_means_nothing_asked() {
    let mut desk = Desk::with_runs(vec![run(1)]);
    desk.send(Event::Terminal(TerminalEvent::FocusLost));
    desk.tick(60);
    assert_eq!(desk.asked(), None);
    assert!(
        desk.text()
            .contains("= paused until the window has focus, data 1m old")
    );
    desk.send(Event::Terminal(TerminalEvent::FocusGained));
    assert!(desk.asked().is_some());
}

#[test]
fn a_filter_is_refused_in_words_or_handed_to_the_server_as_it_is() {
    let mut desk = Desk::with_runs(vec![run(1)]);
    desk.key(KeyCode::Char('/'));
    desk.type_text("-workflow:notice plan:starter tenant:acme age:>3d ");
    desk.key(KeyCode::Enter);
    let Some(Action::Ask {
        request: Request::Runs(query),
        ..
    }) = desk.asked()
    else {
        panic!("no question for runs");
    };
    let line = "-workflow:notice plan:starter tenant:acme age:>3d";
    assert_eq!(query.filter.as_deref(), Some(line));
    for (text, words) in [
        ("acme", "\"acme\" needs a field"),
        ("status:lost", "no status \"lost\"; there are due, running"),
        ("state:", "state: needs a value"),
        ("age:>3", "\"3\" is no age"),
        ("key:\"a b", "the quote after key: is not closed"),
        ("key:a key:b", "\"key\" is named twice"),
    ] {
        let refusal = Filter::parse(text).unwrap_err();
        assert!(
            refusal.starts_with(words),
            "{text} was refused with: {refusal}"
        );
    }
}

#[test]
fn a_filter_that_is_wrong_changes_nothing_and_says_why() {
    let mut desk = Desk::with_runs(vec![run(1)]);
    desk.key(KeyCode::Char('/'));
    desk.type_text("status:lost");
    desk.refresh(Answer::Runs(page(vec![run(1)])));
    assert!(desk.text().contains("! no status \"lost\""));
    desk.key(KeyCode::Enter);
    assert_eq!(desk.model.context(), Context::Filter);
    desk.key(KeyCode::Esc);
    assert!(desk.text().contains("all runs") && desk.text().contains("dunning"));
}

#[test]
fn copying_gives_the_text_itself_and_says_how_much() {
    let mut desk = Desk::with_runs(vec![run(1)]);
    let actions = desk.key(KeyCode::Char('y'));
    assert!(actions.contains(&Action::Copy(id(1).to_string())));
    assert_eq!(desk.model.toast(), Some("Copied 36 characters."));
}

#[test]
fn a_date_on_a_test_clock_is_marked_and_never_counted() {
    let mut clocked = run(8);
    clocked.next_clock = Some(tenure_client::DeadlineClock::Tenant);
    clocked.next_at = Some("2027-02-11T09:00:00Z".parse().unwrap());
    let mut desk = Desk::with_runs(vec![run(7), clocked]);
    let text = desk.frame(80, 24);
    assert!(text.contains("NEXT (t)enant's"), "{text}");
    assert!(text.contains("(t) 11 Feb 2027"), "{text}");
    assert!(text.contains("1d  25 Nov 05:02"), "{text}");
    let text = desk.frame(120, 24);
    assert!(
        text.contains("NEXT UTC") && text.contains("tenant's 11 Feb 2027"),
        "{text}"
    );
    assert!(desk.frame(59, 15).contains("11 Feb 2027 (t)"));
    desk.key(KeyCode::Enter);
    let mut answer = detail(8);
    answer.deadlines.truncate(1);
    desk.answer(run_answer(answer, Content::Data));
    let text = desk.frame(80, 24);
    let unknown = "Next: downgrade  Thu 26 Nov 2026 09:00 UTC  (test clock)";
    assert!(text.contains(unknown), "{text}");
}

//! Runs and schedules that are not there yet.

use super::desk::{Desk, refused};
use super::samples::{id, page, run, schedule};
use serde_json::json;
use tenure_client::{CatchUpPolicy, NewSchedule, OverlapPolicy, RunPriority, StartRun};
use tenure_console::crossterm::event::KeyCode;
use tenure_console::event::{Act, Answer, Done, Door};
use tenure_console::keymap::Context;

#[test]
fn a_run_is_started_like_the_one_under_the_cursor_and_then_shown() {
    let mut desk = Desk::of("operator");
    desk.answer(Answer::Runs(page(vec![run(1)])));
    desk.key(KeyCode::Char('N'));
    insta::assert_snapshot!("start_80x24", desk.frame(80, 24));
    insta::assert_snapshot!("start_40x12", desk.frame(40, 12));
    desk.retype("no");
    assert!(desk.text().contains("one of notice"), "those that fit");
    desk.retype("dunning");
    assert!(!desk.text().contains("one of"), "it is one of them");
    desk.enters(2);
    desk.type_text("sub_900");
    desk.key(KeyCode::Enter);
    desk.type_text("{\"plan\": \"team\"");
    desk.key(KeyCode::Enter);
    desk.type_text("urgent");
    assert!(
        desk.text()
            .contains("one of highest, high, normal, low, lowest")
    );
    desk.retype("high");
    desk.enters(2);
    assert!(desk.text().contains("! input: not JSON"));
    desk.key(KeyCode::BackTab);
    desk.key(KeyCode::BackTab);
    desk.type_text("}");
    desk.enters(3);
    let text = desk.text();
    assert!(
        text.contains("A run of dunning with key sub_900 starts at once."),
        "{text}"
    );
    assert_eq!(desk.acted(), None);
    desk.key(KeyCode::Enter);
    let wanted = StartRun {
        workflow: "dunning".to_owned(),
        tenant_id: id(101),
        key: "sub_900".to_owned(),
        input: json!({"plan": "team"}),
        priority: Some(RunPriority::High),
        start_at: None,
        gather: None,
    };
    assert_eq!(
        desk.acted().map(|(_, act)| act),
        Some(Act::Start(Box::new(wanted)))
    );
    desk.done(Err(refused("Invalid: /input is no input of dunning")));
    assert!(
        desk.text()
            .contains("! Invalid: /input is no input of dunning")
    );
    desk.enters(2);
    desk.done(Ok(Done::Opens(
        "Run sub_900 is here.".to_owned(),
        Door::Run(id(9)),
    )));
    assert_eq!(desk.model.context(), Context::Detail);
    assert_eq!(desk.model.toast(), Some("Run sub_900 is here."));
}

#[test]
fn who_may_not_start_a_run_is_told() {
    let mut desk = Desk::of("viewer");
    desk.answer(Answer::Runs(page(vec![run(1)])));
    desk.key(KeyCode::Char('N'));
    assert!(!desk.model.has_dialog());
    let words = "You cannot start this run now: needs role operator";
    assert_eq!(desk.model.toast(), Some(words));
}

#[test]
fn a_schedule_is_made_from_a_form_that_fits_a_small_window() {
    let mut desk = Desk::of("operator");
    desk.key(KeyCode::Char('s'));
    desk.answer(Answer::Schedules(Vec::new(), None));
    desk.choose("create");
    let fields = [
        "nightly",
        "notice",
        &id(101).to_string(),
        "{}",
        "30 2 * * *",
    ];
    for field in fields {
        desk.type_text(field);
        desk.key(KeyCode::Enter);
    }
    desk.retype("Europe/Berlin");
    desk.key(KeyCode::Enter);
    desk.retype("queue");
    insta::assert_snapshot!("schedule_create_80x24", desk.frame(80, 24));
    desk.enters(3);
    desk.type_text("they want a report");
    desk.key(KeyCode::Enter);
    let text = desk.frame(80, 24);
    assert!(text.contains("> [ Do it: create ]"), "{text}");
    let text = desk.text();
    assert!(
        text.contains("on each slot of \"30 2 * * *\", read in Europe/Berlin"),
        "{text}"
    );
    desk.key(KeyCode::Enter);
    let wanted = NewSchedule {
        tenant_id: id(101),
        name: "nightly".to_owned(),
        workflow: "notice".to_owned(),
        input: json!({}),
        cron: "30 2 * * *".to_owned(),
        zone: "Europe/Berlin".to_owned(),
        overlap: OverlapPolicy::Queue,
        catch_up: CatchUpPolicy::One,
        jitter_seconds: 0,
        reason: "they want a report".to_owned(),
    };
    let wanted = Act::MakeSchedule(Box::new(wanted));
    assert_eq!(desk.acted().map(|(_, act)| act), Some(wanted));
    desk.done(Ok(Done::Did("Schedule nightly is made.".to_owned())));
    desk.refresh(Answer::Schedules(vec![schedule(1)], None));
    assert!(desk.text().contains("nightly-1"));
}

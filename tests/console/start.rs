//! Runs and schedules that are not there yet.

use super::desk::{Desk, refused};
use super::samples::{id, page, run, schedule};
use serde_json::json;
use tenure_client::{
    CatchUpPolicy, GatherStarts, NewSchedule, OverlapPolicy, RunPriority, StartRun,
};
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
    desk.enters(5);
    assert!(desk.text().contains("! input: not JSON"));
    for _ in 0..5 {
        desk.key(KeyCode::BackTab);
    }
    desk.type_text("}");
    desk.enters(6);
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

/// The form of a start, filled to its last fields: the cursor is in the first of those that gather.
fn gathering() -> Desk {
    let mut desk = Desk::of("operator");
    desk.answer(Answer::Runs(page(vec![run(1)])));
    desk.key(KeyCode::Char('N'));
    desk.enters(2);
    desk.type_text("sub_900");
    desk.key(KeyCode::Enter);
    desk.type_text("[1]");
    desk.enters(3);
    desk
}

/// Types into these fields, one after the other, and goes on from the last.
fn fill(desk: &mut Desk, fields: [&str; 3]) {
    for field in fields {
        desk.retype(field);
        desk.key(KeyCode::Enter);
    }
}

/// The words on show in one line, wherever the window breaks them.
fn told(desk: &Desk) -> String {
    let text = desk.text().replace('│', " ");
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// What was sent to be started.
fn gathered(desk: &Desk) -> Option<GatherStarts> {
    match desk.acted() {
        Some((_, Act::Start(start))) => start.gather,
        other => panic!("{other:?}"),
    }
}

#[test]
fn starts_of_one_key_are_debounced() {
    let mut desk = gathering();
    fill(&mut desk, ["30", "", "600"]);
    let words = told(&desk);
    let starts = "A run of dunning starts with the last input, once no other start of sub_900 has come \
        for 30 s, at the latest 600 s after the first.";
    assert!(words.contains(starts), "{words}");
    assert!(!words.contains("starts at once"), "{words}");
    assert_eq!(desk.acted(), None, "it tells first");
    desk.key(KeyCode::Enter);
    let wanted = GatherStarts::Debounce {
        quiet_seconds: 30,
        at_most_seconds: 600,
    };
    assert_eq!(gathered(&desk), Some(wanted));
}

#[test]
fn starts_of_one_key_become_a_batch() {
    let mut desk = gathering();
    fill(&mut desk, ["", "10", "600"]);
    let words = told(&desk);
    let starts = "A run of dunning starts with the list of all inputs, once 10 starts of sub_900 have \
        come, at the latest 600 s after the first.";
    assert!(words.contains(starts), "{words}");
    desk.key(KeyCode::Enter);
    let wanted = GatherStarts::Batch {
        size: 10,
        at_most_seconds: 600,
    };
    assert_eq!(gathered(&desk), Some(wanted));
}

#[test]
fn what_cannot_be_gathered_is_told_at_its_field() {
    let (quiet, size, latest) = ("debounce_seconds", "batch_size", "at_most_seconds");
    for (fields, field, why) in [
        (["0", "", "600"], quiet, "a whole number from 1 to 2592000"),
        (["-1", "", "600"], quiet, "a whole number from 1 to 2592000"),
        (["", "1", "600"], size, "a whole number from 2 to 1000"),
        (["", "1001", "600"], size, "a whole number from 2 to 1000"),
        (["5", "10", "600"], size, "it is this or debounce_seconds"),
        (["5", "", ""], latest, "it is needed"),
        (["601", "", "600"], latest, "it is not less than debounce"),
        (["", "", "600"], latest, "it goes with debounce_seconds or"),
    ] {
        let words = format!("! {field}: {why}");
        let mut desk = gathering();
        fill(&mut desk, fields);
        let text = desk.text();
        assert!(text.contains(&words), "{fields:?}: {text}");
        desk.key(KeyCode::Enter);
        assert_eq!(desk.acted(), None, "{fields:?}");
    }
    let mut desk = gathering();
    desk.key(KeyCode::BackTab);
    desk.key(KeyCode::BackTab);
    desk.type_text("high");
    desk.enters(2);
    fill(&mut desk, ["5", "", "600"]);
    let text = desk.text();
    assert!(text.contains("! priority: leave it out"), "{text}");
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

//! Schedules: what starts by itself, what became of it, and what a person may do about it.

use super::desk::Desk;
use super::samples::{id, schedule, schedule_detail};
use serde_json::json;
use tenure_client::{ActOnSchedule, ChangeSchedule, OverlapPolicy};
use tenure_console::crossterm::event::KeyCode;
use tenure_console::event::{Act, Action, Answer, Done, Request, ScheduleVerb};
use tenure_console::keymap::Context;

/// All schedules on show, and the first one closely.
fn desk() -> Desk {
    let mut desk = Desk::new();
    desk.key(KeyCode::Char('s'));
    assert_eq!(chosen(&desk), Some(None));
    desk.answer(Answer::Schedules(vec![schedule(1), schedule(2)], None));
    assert_eq!(chosen(&desk), Some(Some(id(1))), "it asks on at once");
    answer(&mut desk, 1);
    desk
}

/// The schedule that the last question was about.
fn chosen(desk: &Desk) -> Option<Option<uuid::Uuid>> {
    match desk.asked() {
        Some(Action::Ask {
            request: Request::Schedules(chosen),
            ..
        }) => Some(chosen),
        _ => None,
    }
}

fn answer(desk: &mut Desk, number: u8) {
    let all = vec![schedule(1), schedule(2)];
    let detail = Some(Box::new(schedule_detail(number)));
    desk.answer(Answer::Schedules(all, detail));
}

#[test]
fn the_schedule_under_the_cursor_is_known_closely() {
    let mut desk = desk();
    desk.key(KeyCode::Enter);
    insta::assert_snapshot!("schedules_80x24", desk.frame(80, 24));
    insta::assert_snapshot!("schedules_40x12", desk.frame(40, 12));
    desk.key(KeyCode::End);
    assert_eq!(chosen(&desk), Some(Some(id(2))), "it asks at once");
    answer(&mut desk, 2);
    desk.key(KeyCode::Enter);
    let text = desk.text();
    assert!(
        text.contains("Wed 10 Feb 2027 01:30 UTC (tenant's)"),
        "{text}"
    );
}

#[test]
fn a_schedule_is_paused_with_a_reason_and_the_revision_that_was_seen() {
    let mut desk = desk();
    desk.key(KeyCode::Char('a'));
    assert_eq!(desk.model.context(), Context::Menu);
    let text = desk.text();
    assert!(
        text.contains("act on schedule nightly-1 of Acme GmbH"),
        "{text}"
    );
    assert!(!text.contains("update"), "it is called a change here");
    desk.key(KeyCode::Enter);
    desk.type_text("the report is wrong");
    desk.key(KeyCode::Enter);
    assert_eq!(desk.acted(), None);
    assert!(desk.text().contains("- Stops its slots from coming about."));
    desk.key(KeyCode::Enter);
    let wanted = Act::Schedule {
        schedule_id: id(1),
        verb: ScheduleVerb::Pause,
        body: ActOnSchedule {
            reason: "the report is wrong".to_owned(),
            revision: 7,
        },
    };
    assert_eq!(desk.acted().map(|(_, act)| act), Some(wanted));
    desk.done(Ok(Done::Did("Schedule nightly-1 is paused.".to_owned())));
    assert_eq!(desk.model.toast(), Some("Schedule nightly-1 is paused."));
}

#[test]
fn a_schedule_that_changed_meanwhile_is_left_alone() {
    let mut desk = desk();
    desk.key(KeyCode::Char('a'));
    desk.key(KeyCode::Down);
    desk.key(KeyCode::Enter);
    assert!(!desk.model.has_dialog(), "resume is refused");
    let words = "You cannot resume this schedule now: it is not paused";
    assert_eq!(desk.model.toast(), Some(words));
    desk.key(KeyCode::Down);
    desk.key(KeyCode::Enter);
    desk.type_text("once more");
    let mut newer = schedule(1);
    newer.revision = 8;
    desk.tick(1);
    desk.answer(Answer::Schedules(vec![newer], None));
    desk.key(KeyCode::Enter);
    desk.key(KeyCode::Enter);
    assert_eq!(desk.acted(), None);
    let text = desk.text();
    assert!(
        text.contains("the schedule changed since you opened this (7 -> 8)"),
        "{text}"
    );
}

#[test]
fn a_change_of_a_schedule_begins_with_what_is_set_and_sends_only_what_differs() {
    let mut desk = desk();
    desk.choose("change");
    let text = desk.text();
    assert!(
        text.contains(&format!("schedule {}, revision 7", id(1))),
        "{text}"
    );
    for set in [
        "{\"recovered\":{}}",
        "30 2 * * *",
        "Europe/Berlin",
        "skip",
        "one",
    ] {
        assert!(text.contains(set), "{set}: {text}");
    }
    // Nothing is sent where nothing differs.
    desk.enters(6);
    desk.type_text("earlier");
    desk.key(KeyCode::Enter);
    let text = desk.text();
    assert!(text.contains("! all of it is set so already"), "{text}");
    assert_eq!(desk.acted(), None);

    for _ in 0..5 {
        desk.key(KeyCode::BackTab);
    }
    desk.retype("0 1 * * *");
    desk.enters(2);
    desk.retype("queue");
    desk.enters(4);
    assert_eq!(desk.acted(), None, "it tells first");
    let text = desk.text();
    assert!(text.contains("- cron: 30 2 * * * -> 0 1 * * *"), "{text}");
    assert!(text.contains("- overlap: skip -> queue"), "{text}");
    assert!(
        text.contains("Its next slot is the first after now"),
        "{text}"
    );
    assert!(!text.contains("- zone"), "that stays: {text}");
    desk.key(KeyCode::Enter);
    let wanted = Act::ChangeSchedule {
        schedule_id: id(1),
        body: Box::new(ChangeSchedule {
            cron: Some("0 1 * * *".to_owned()),
            overlap: Some(OverlapPolicy::Queue),
            reason: "earlier".to_owned(),
            revision: 7,
            ..ChangeSchedule::default()
        }),
    };
    assert_eq!(desk.acted().map(|(_, act)| act), Some(wanted));
    desk.done(Ok(Done::Did("Schedule nightly-1 is changed.".to_owned())));
    assert_eq!(desk.model.toast(), Some("Schedule nightly-1 is changed."));
}

#[test]
fn an_input_that_is_set_to_nothing_is_sent_as_that() {
    let mut desk = desk();
    desk.choose("change");
    desk.retype("null");
    desk.enters(6);
    desk.type_text("it takes none");
    desk.enters(2);
    let Some((_, Act::ChangeSchedule { body, .. })) = desk.acted() else {
        panic!("{}", desk.text());
    };
    let sent = serde_json::to_value(&body).unwrap();
    assert_eq!(
        sent,
        json!({"input": null, "reason": "it takes none", "revision": 7})
    );
    let read: ChangeSchedule = serde_json::from_value(sent).unwrap();
    assert_eq!(read, *body, "the server is told the same");
}

#[test]
fn who_may_not_change_a_schedule_is_told_why() {
    let mut desk = Desk::new();
    desk.key(KeyCode::Char('s'));
    desk.answer(Answer::Schedules(vec![schedule(1)], None));
    let mut detail = schedule_detail(1);
    let update = &mut detail.allowed_actions[0];
    update.allowed = false;
    update.reason = Some("needs role operator".to_owned());
    desk.answer(Answer::Schedules(vec![schedule(1)], Some(Box::new(detail))));
    desk.choose("change");
    assert!(!desk.model.has_dialog());
    let words = "You cannot change this schedule now: needs role operator";
    assert_eq!(desk.model.toast(), Some(words));
}

//! Retention and legal holds: shown, decided, placed and lifted.

use super::desk::Desk;
use super::samples::{detail, id, retention, run, run_answer};
use tenure_client::{LiftLegalHold, PlaceLegalHold, PutRetention, RetentionAction};
use tenure_console::crossterm::event::KeyCode;
use tenure_console::event::{Act, Answer, Content, RetentionAct};

fn desk(role: &str) -> Desk {
    let mut desk = Desk::of(role);
    desk.key(KeyCode::Char('h'));
    assert_eq!(desk.question(), "Retention");
    desk.answer(Answer::Retention(Box::new(retention())));
    desk
}

fn sent(desk: &Desk) -> RetentionAct {
    match desk.acted() {
        Some((_, Act::Retention(act))) => act,
        other => panic!("{other:?}"),
    }
}

#[test]
fn holds_and_policies_stand_on_one_page() {
    let mut desk = desk("operator");
    insta::assert_snapshot!("retention_80x24", desk.frame(80, 24));
    insta::assert_snapshot!("retention_40x12", desk.frame(40, 12));
}

#[test]
fn a_policy_is_decided_in_words_that_exist_and_with_days_that_fit() {
    let mut desk = desk("operator");
    desk.key(KeyCode::End);
    desk.choose("set-policy");
    desk.retype("burn");
    assert!(desk.text().contains("one of keep, drop, archive"));
    desk.retype("keep");
    desk.enters(2);
    desk.type_text("a lawsuit");
    desk.key(KeyCode::Enter);
    assert!(
        desk.text()
            .contains("! keep_days: leave it empty to keep for ever")
    );
    desk.key(KeyCode::BackTab);
    desk.retype("");
    desk.enters(2);
    let text = desk.text();
    assert!(
        text.contains("finished runs: dropped after 30 days -> kept for ever"),
        "{text}"
    );
    assert!(!text.contains("within hours"), "nothing goes");
    desk.key(KeyCode::Enter);
    let wanted = PutRetention {
        action: RetentionAction::Keep,
        keep_days: None,
        reason: "a lawsuit".to_owned(),
    };
    assert_eq!(sent(&desk), RetentionAct::Put("notice".to_owned(), wanted));
}

#[test]
fn a_hold_is_on_a_tenant_or_a_run_and_not_on_both() {
    let mut desk = desk("operator");
    desk.choose("place-hold");
    desk.type_text("acme");
    assert!(desk.text().contains("an id, such as"));
    desk.retype(&id(101).to_string());
    desk.key(KeyCode::Enter);
    desk.type_text(&id(1).to_string());
    desk.key(KeyCode::Enter);
    desk.type_text("a lawsuit");
    desk.key(KeyCode::Enter);
    assert!(desk.text().contains("! either a tenant or a run"));
    desk.key(KeyCode::BackTab);
    desk.retype("");
    desk.enters(2);
    let text = desk.text();
    assert!(
        text.contains(&format!("nothing of tenant {}", id(101))),
        "{text}"
    );
    desk.key(KeyCode::Enter);
    let wanted = PlaceLegalHold {
        tenant_id: Some(id(101)),
        run_id: None,
        reason: "a lawsuit".to_owned(),
    };
    assert_eq!(sent(&desk), RetentionAct::Place(wanted));
}

#[test]
fn a_hold_that_was_lifted_meanwhile_is_not_lifted_again() {
    let mut desk = desk("operator");
    desk.key(KeyCode::Down);
    desk.choose("lift-hold");
    desk.type_text("settled");
    desk.key(KeyCode::Enter);
    desk.key(KeyCode::Enter);
    let wanted = LiftLegalHold {
        reason: "settled".to_owned(),
    };
    assert_eq!(sent(&desk), RetentionAct::Lift(id(1), wanted));
    desk.key(KeyCode::Esc);
    desk.choose("lift-hold");
    desk.type_text("settled");
    let mut newer = retention();
    newer.holds = Ok(Vec::new());
    desk.refresh(Answer::Retention(Box::new(newer)));
    desk.enters(2);
    assert_eq!(desk.acted(), None);
    assert!(
        desk.text()
            .contains("the hold changed since you opened this (it stands -> gone)")
    );
}

#[test]
fn a_run_is_held_from_its_own_menu() {
    let mut desk = Desk::of("operator");
    desk.answer(Answer::Runs(super::samples::page(vec![run(1)])));
    desk.key(KeyCode::Enter);
    desk.answer(run_answer(detail(1), Content::Data));
    desk.choose("place-hold");
    desk.enters(2);
    desk.type_text("evidence");
    desk.enters(2);
    let wanted = PlaceLegalHold {
        tenant_id: None,
        run_id: Some(id(1)),
        reason: "evidence".to_owned(),
    };
    assert_eq!(sent(&desk), RetentionAct::Place(wanted));
}

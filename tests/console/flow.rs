//! Flow: what bounds and halts the engine, and what a person may do about it.

use super::desk::{Desk, refused};
use super::samples::{flow, id, parse};
use serde_json::json;
use tenure_client::{
    ActOnBreaker, ActOnPause, BreakerSeen, FlowRate, LimitSeen, PauseScope, PauseSeen,
    SetFlowLimit, SetTenantWeight, TenantWeight,
};
use tenure_console::crossterm::event::KeyCode;
use tenure_console::event::{Act, Answer, Done, FlowAct};

fn desk(role: &str) -> Desk {
    let mut desk = Desk::of(role);
    desk.key(KeyCode::Char('f'));
    assert_eq!(desk.question(), "Flow");
    desk.answer(Answer::Flow(Box::new(flow())));
    desk
}

fn sent(desk: &Desk) -> FlowAct {
    match desk.acted() {
        Some((_, Act::Flow(act))) => act,
        other => panic!("{other:?}"),
    }
}

#[test]
fn limits_pauses_breakers_and_weights_stand_on_one_page() {
    let mut desk = desk("operator");
    desk.key(KeyCode::Down);
    insta::assert_snapshot!("flow_80x24", desk.frame(80, 24));
    insta::assert_snapshot!("flow_40x12", desk.frame(40, 12));
    let text = desk.text();
    assert!(
        text.contains("WEIGHTS  ! Not found: tenants do not see this"),
        "{text}"
    );
    desk.key(KeyCode::Char('a'));
    insta::assert_snapshot!("flow_menu_80x24", desk.frame(80, 24));
}

#[test]
fn a_limit_is_given_other_numbers_after_it_was_told_what_changes() {
    let mut desk = desk("operator");
    desk.key(KeyCode::Down);
    desk.choose("set-limit");
    desk.retype("0");
    desk.enters(4);
    desk.type_text("we look into it");
    insta::assert_snapshot!("flow_limit_80x24", desk.frame(80, 24));
    desk.key(KeyCode::Enter);
    assert_eq!(desk.acted(), None, "it tells first");
    let text = desk.text();
    assert!(text.contains("at once: 5 -> 0"), "{text}");
    assert!(text.contains("also for the 12 runs that wait"), "{text}");
    assert!(text.contains("With 0 nobody begins any more."), "{text}");
    assert!(!text.contains("rate: 10"), "that stays as it is");
    desk.key(KeyCode::Enter);
    let rate = FlowRate {
        count: 10,
        period_seconds: 1,
        burst: 20,
    };
    let wanted = SetFlowLimit {
        concurrency: Some(0),
        rate: Some(rate),
        reason: "we look into it".to_owned(),
        seen: Some(LimitSeen {
            concurrency: Some(5),
            rate: Some(rate),
        }),
    };
    assert_eq!(sent(&desk), FlowAct::SetLimit("charges".to_owned(), wanted));
    desk.done(Ok(Done::Did(
        "Limit charges has its new numbers.".to_owned(),
    )));
    assert_eq!(
        desk.model.toast(),
        Some("Limit charges has its new numbers.")
    );
}

#[test]
fn half_a_rate_and_a_number_that_is_none_are_told() {
    let mut desk = desk("operator");
    desk.key(KeyCode::Down);
    desk.choose("set-limit");
    desk.retype("many");
    assert!(desk.text().contains("a whole number from 0 on"));
    desk.retype("5");
    desk.enters(2);
    desk.retype("");
    desk.enters(2);
    desk.type_text("x");
    desk.key(KeyCode::Enter);
    let text = desk.text();
    assert!(
        text.contains("! rate: it takes rate and per_seconds"),
        "{text}"
    );
    assert_eq!(desk.acted(), None);
}

#[test]
fn a_limit_that_somebody_else_set_meanwhile_is_left_alone() {
    let mut desk = desk("operator");
    desk.key(KeyCode::Down);
    desk.choose("set-limit");
    desk.enters(4);
    desk.type_text("mine");
    let mut newer = flow();
    let mut limits = newer.limits.unwrap();
    limits[0].changed_at = "2026-11-23T14:02:10Z".parse().unwrap();
    newer.limits = Ok(limits);
    desk.refresh(Answer::Flow(Box::new(newer)));
    let text = desk.text();
    assert!(
        text.contains("! The limit changed while this was open"),
        "{text}"
    );
    desk.enters(2);
    assert_eq!(desk.acted(), None);
    let text = desk.text();
    let words = "! the limit changed since you opened this (set since 23 Nov 2026 13:00:00";
    assert!(text.contains(words), "{text}");
    assert!(text.contains("close it and look again"), "{text}");
}

#[test]
fn a_weight_is_changed_as_it_was_seen() {
    let mut desk = Desk::of("operator");
    desk.key(KeyCode::Char('f'));
    let mut known = flow();
    known.weights = Ok(vec![TenantWeight {
        tenant_id: id(101),
        weight: 3,
    }]);
    desk.answer(Answer::Flow(Box::new(known)));
    desk.key(KeyCode::End);
    desk.choose("set-weight");
    assert!(desk.text().contains("As you saw it: 3"), "{}", desk.text());
    desk.key(KeyCode::Enter);
    desk.type_text("8");
    desk.key(KeyCode::Enter);
    desk.type_text("a contract");
    desk.enters(2);
    let set = |tenant_id, seen| {
        FlowAct::SetWeight(SetTenantWeight {
            tenant_id,
            weight: 8,
            reason: "a contract".to_owned(),
            seen,
        })
    };
    assert_eq!(sent(&desk), set(id(101), Some(3)));
    desk.done(Err(refused("Conflict: it is now: 5 (/seen)")));
    // Turned to another tenant, nothing of that one was seen.
    for _ in 0..4 {
        desk.key(KeyCode::BackTab);
    }
    desk.retype(&id(102).to_string());
    desk.enters(4);
    assert_eq!(sent(&desk), set(id(102), None));
}

#[test]
fn a_breaker_is_closed_and_a_tenant_goes_on() {
    let mut desk = desk("operator");
    desk.key(KeyCode::End);
    desk.key(KeyCode::Up);
    desk.choose("close-breaker");
    let text = desk.text();
    assert!(text.contains("As you saw it: open, by steps"), "{text}");
    desk.type_text("they are back");
    desk.key(KeyCode::Enter);
    assert!(desk.text().contains("3 runs that wait for stripe go on"));
    desk.key(KeyCode::Enter);
    let body = ActOnBreaker {
        reason: "they are back".to_owned(),
        seen: Some(BreakerSeen {
            state: "open".to_owned(),
            forced: false,
            changed_by: None,
        }),
    };
    assert_eq!(
        sent(&desk),
        FlowAct::CloseBreaker("stripe".to_owned(), body)
    );
    desk.done(Err(refused("Conflict: it is now: probing (/seen)")));
    assert!(
        desk.text()
            .contains("! Conflict: it is now: probing (/seen)")
    );
    desk.key(KeyCode::Esc);

    desk.key(KeyCode::Up);
    desk.key(KeyCode::Up);
    desk.choose("lift-pause");
    let words = "As you saw it: by ada, 2026-11-23 12:00:00: they move house";
    assert!(desk.text().contains(words), "{}", desk.text());
    desk.type_text("they moved");
    desk.enters(2);
    let body = ActOnPause {
        scope: PauseScope::Tenant,
        name: id(101).to_string(),
        reason: "they moved".to_owned(),
        seen: Some(PauseSeen {
            since: "2026-11-23T12:00:00Z".parse().unwrap(),
            paused_by: "ada".to_owned(),
            reason: "they move house".to_owned(),
        }),
    };
    assert_eq!(sent(&desk), FlowAct::Lift(body));
}

#[test]
fn who_only_looks_is_told_why_nothing_can_be_done() {
    let mut desk = desk("viewer");
    desk.key(KeyCode::Char('a'));
    let text = desk.text();
    assert_eq!(
        text.matches("[not now: needs role operator]").count(),
        3,
        "{text}"
    );
    desk.key(KeyCode::Enter);
    assert!(!desk.model.has_dialog());
    let words = "You cannot pause this flow now: needs role operator";
    assert_eq!(desk.model.toast(), Some(words));
    let who =
        json!({"token_name": "acme", "role": "admin", "environment": "dev", "tenant_id": id(101)});
    let mut desk = Desk::with_who(parse(who));
    desk.key(KeyCode::Char('f'));
    desk.answer(Answer::Flow(Box::new(flow())));
    desk.key(KeyCode::Char('a'));
    assert!(
        desk.text()
            .contains("needs a token that is not bound to a tenant")
    );
}

#[test]
fn from_a_pause_of_a_tenant_the_way_leads_to_the_tenant() {
    let mut desk = desk("viewer");
    for _ in 0..4 {
        desk.key(KeyCode::Down);
    }
    desk.key(KeyCode::Enter);
    assert_eq!(desk.question(), format!("Tenant({})", id(101)));
}

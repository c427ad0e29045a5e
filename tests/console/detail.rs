//! One run: its tabs and its times.

use super::desk::Desk;
use super::samples::{detail_answer, steps, transitions};
use tenure_console::crossterm::event::KeyCode;
use tenure_console::detail::Tab;
use tenure_console::event::{Action, Content, Request};

#[test]
fn a_tab_that_is_refused_leaves_the_run_on_show() {
    let mut desk = Desk::with_detail(true);
    desk.key(KeyCode::Char('5'));
    let asked = desk.asked();
    assert!(matches!(
        asked,
        Some(Action::Ask {
            request: Request::Run {
                tab: Tab::Mails,
                ..
            },
            ..
        })
    ));
    desk.answer(detail_answer(
        1,
        Content::Refused("Forbidden: mails need role support".to_owned()),
    ));
    let text = desk.text();
    assert!(
        text.contains("! Forbidden: mails need role support") && text.contains("WHY"),
        "{text}"
    );
}

#[test]
fn the_timeline_is_in_real_time_with_the_tenants_beside_it() {
    let mut moved = transitions();
    moved[1].tenant_at = Some("2027-02-14T09:00:00Z".parse().unwrap());
    let mut desk = Desk::with_detail(true);
    desk.refresh(detail_answer(1, Content::Timeline(moved, steps())));
    let line = "2026-11-20 16:12:40  retry: past_due, stuck, by sam (tenant's 14 Feb 2027)";
    let text = desk.frame(80, 24);
    assert!(text.contains(line), "{text}");
    desk.key(KeyCode::Enter);
    let text = desk.frame(80, 24);
    let line = "visit 2, at 2027-02-14 09:00:00 on the tenant's test clock";
    assert!(text.contains(line), "{text}");
}

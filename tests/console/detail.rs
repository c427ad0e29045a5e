//! One run: its tabs and its times.

use super::desk::{Desk, refused};
use super::samples::{detail, detail_answer, parse, run, run_answer, steps, transitions};
use serde_json::json;
use tenure_console::crossterm::event::KeyCode;
use tenure_console::detail::Tab;
use tenure_console::event::{Action, Answer, Content, Request};

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

#[test]
fn the_footer_has_the_verbs_that_the_run_allows_and_no_others() {
    let footer = |desk: &mut Desk| {
        let frame = desk.frame(120, 24);
        frame.lines().last().unwrap().to_owned()
    };
    let mut desk = Desk::with_runs(vec![run(1)]);
    desk.key(KeyCode::Enter);
    let asking = footer(&mut desk);
    assert!(
        !asking.contains("retry") && !asking.contains("signal"),
        "{asking}"
    );
    let table: [(&[&str], bool, bool); 4] = [
        (&["signal", "retry"], true, true),
        (&["signal"], true, false),
        (&["retry", "restart"], false, true),
        (&["restart"], false, false),
    ];
    for (allowed, signal, retry) in table {
        let mut run = detail(1);
        for action in &mut run.allowed_actions {
            action.allowed = allowed.contains(&action.action.as_str());
        }
        desk.refresh(run_answer(run, Content::Data));
        let footer = footer(&mut desk);
        assert_eq!(footer.contains("S signal"), signal, "{allowed:?}: {footer}");
        assert_eq!(footer.contains("R retry"), retry, "{allowed:?}: {footer}");
        assert!(
            footer.contains("a act") && footer.contains("? help"),
            "{footer}"
        );
    }
    // The help keeps the key, and says why it does nothing.
    desk.key(KeyCode::Char('?'));
    let help = desk.frame(120, 40);
    let line = help.lines().find(|line| line.starts_with("R ")).unwrap();
    assert!(line.contains("[not now: "), "{help}");
}

#[test]
fn nothing_that_is_told_of_a_run_is_cut_when_it_is_unfolded() {
    let mut desk = Desk::with_detail(true);
    let mut long = detail(1);
    let verbs = ["skip-step", "fail-step", "edit-state", "move", "resume"];
    for verb in verbs {
        let reason = "only a run that is stuck or paused can be changed under its own feet";
        let refused = json!({"action": verb, "help": "", "allowed": false, "reason": reason});
        long.allowed_actions.push(parse(refused));
    }
    long.deadlines[1].name = "a-deadline-with-a-name-that-leaves-no-room-for-its-time".to_owned();
    desk.refresh(run_answer(long, Content::Data));
    let folded = desk.frame(80, 24);
    assert!(folded.contains("WHY (w: 3 more)"), "{folded}");
    assert!(!folded.contains('…'), "{folded}");
    desk.key(KeyCode::Char('w'));
    let unfolded = desk.frame(80, 24);
    assert!(!unfolded.contains('…'), "{unfolded}");
    let words = unfolded.split_whitespace().collect::<Vec<_>>().join(" ");
    for told in [
        "Next: a-deadline-with-a-name-that-leaves-no-room-for-its-time in 57m 48s, Mon 23 Nov 2026 15:00 UTC",
        "You may: signal, retry, move-deadline, restart",
        "Not cancel: needs role operator",
        "Not skip-step, fail-step, edit-state, move, resume: only a run that is stuck or paused can be \
         changed under its own feet",
    ] {
        assert!(words.contains(told), "{told} is not in\n{unfolded}");
    }
    assert_eq!(desk.frame(80, 10).lines().count(), 10);
}

#[test]
fn a_long_message_takes_the_rows_that_it_needs() {
    let mut desk = Desk::with_runs(vec![run(1)]);
    let words = "the server says at length what is wrong, ".repeat(3);
    desk.refresh(Answer::Failed(refused(words.trim())));
    let text = desk.frame(80, 24);
    let told = text.split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(told.contains(words.trim()), "{text}");
    desk.tick(20);
    desk.answer(Answer::Failed(refused(&words.repeat(9))));
    let text = desk.frame(80, 24);
    let last = text.lines().rev().nth(1).unwrap();
    assert!(last.ends_with('…'), "{text}");
}

//! Private fields: shown on request, for a minute, on the run's own page, and never copied.

use super::desk::Desk;
use super::samples::{detail, id, parse, run, run_answer};
use serde_json::json;
use tenure_client::{MASK, RunDetail};
use tenure_console::crossterm::event::{Event as TerminalEvent, KeyCode};
use tenure_console::event::{Act, Action, Content, Done, Event};

/// A run whose data has two private fields.
fn private() -> RunDetail {
    let mut run = detail(1);
    run.data = json!({ "Open": { "card/no": MASK, "copies": 2, "email": MASK } });
    run.allowed_actions = vec![parse(json!({
        "action": "reveal", "allowed": true, "help": "Shows a private field.",
        "args": [{"name": "field", "kind": "text", "required": true}],
    }))];
    run
}

/// A console on the data of that run, with the cursor on its first private field.
fn on_data() -> Desk {
    let mut desk = Desk::with_runs(vec![run(1)]);
    desk.key(KeyCode::Enter);
    desk.key(KeyCode::Char('2'));
    desk.answer(run_answer(private(), Content::Data));
    desk.key(KeyCode::Down);
    desk
}

fn asked(field: &str) -> Act {
    Act::Reveal {
        run_id: id(1),
        field: field.to_owned(),
        reason: "ticket 17".to_owned(),
    }
}

/// Asks for the field under the cursor.
fn reveal(desk: &mut Desk) {
    desk.key(KeyCode::Char('v'));
    desk.key(KeyCode::Tab);
    desk.type_text("ticket 17");
    desk.enters(2);
}

fn shows(value: serde_json::Value) -> Done {
    Done::Shows {
        run_id: id(1),
        field: "/data/Open/card~1no".to_owned(),
        value,
    }
}

#[test]
fn a_private_field_is_shown_for_a_minute_once_somebody_said_why() {
    let mut desk = on_data();
    assert!(desk.text().contains(MASK), "{}", desk.text());
    reveal(&mut desk);
    assert_eq!(
        desk.acted().map(|(_, act)| act),
        Some(asked("/data/Open/card~1no"))
    );
    desk.done(Ok(shows(json!("4242"))));
    let text = desk.text();
    assert!(text.contains("card/no  4242"), "{text}");
    assert!(text.contains(&format!("email  \"{MASK}\"")), "{text}");
    // What the server sends meanwhile hides nothing again, and nothing more is shown.
    desk.refresh(run_answer(private(), Content::Data));
    assert!(desk.text().contains("4242"));
    desk.tick(58);
    assert!(desk.text().contains("4242"));
    desk.tick(2);
    assert!(!desk.text().contains("4242"), "{}", desk.text());
}

#[test]
fn what_is_shown_is_not_copied_and_hidden_when_the_window_is_left() {
    let mut desk = on_data();
    reveal(&mut desk);
    desk.done(Ok(shows(json!({ "number": "4242" }))));
    assert!(desk.text().contains("number  \"4242\""), "{}", desk.text());
    for _ in 0..2 {
        let copied = desk.key(KeyCode::Char('y'));
        let expected = Action::Copy(MASK.to_owned());
        assert!(copied.contains(&expected), "{copied:?}");
        desk.key(KeyCode::Down);
    }
    desk.send(Event::Terminal(TerminalEvent::FocusLost));
    assert!(!desk.text().contains("4242"), "{}", desk.text());
}

#[test]
fn a_long_text_is_shown_below_its_field() {
    let mut desk = on_data();
    reveal(&mut desk);
    let text = "Dear Ada,\nyour invoice is here.";
    desk.done(Ok(shows(json!(text))));
    let shown = desk.text();
    assert!(shown.contains("card/no  shown below"), "{shown}");
    assert!(shown.contains("Dear Ada,"), "{shown}");
    assert!(shown.contains("your invoice is here."), "{shown}");
}

#[test]
fn who_has_left_the_run_is_shown_nothing() {
    let mut desk = on_data();
    reveal(&mut desk);
    let (intent, _) = desk.acted().unwrap();
    desk.key(KeyCode::Esc);
    desk.key(KeyCode::Esc);
    desk.send(Event::Acted {
        intent,
        result: Ok(shows(json!("4242"))),
    });
    assert!(!desk.text().contains("4242"), "{}", desk.text());
    let told = desk.model.toast().unwrap_or_default();
    assert!(told.contains("you have left its run"), "{told}");
}

#[test]
fn a_field_that_is_not_private_is_not_asked_for_by_the_way() {
    let mut desk = on_data();
    desk.key(KeyCode::Down);
    reveal(&mut desk);
    assert_eq!(desk.acted(), None);
    assert!(desk.text().contains("field"), "{}", desk.text());
}

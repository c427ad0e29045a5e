//! The audit: what people did, newest first, and the way from an act to what it was done to.

use super::desk::{Desk, refused};
use super::life_samples::names;
use super::samples::{audit, id, page};
use tenure_console::crossterm::event::KeyCode;
use tenure_console::event::Answer;
use tenure_console::keymap::Context;

/// All acts on show.
fn desk() -> Desk {
    let mut desk = Desk::new();
    desk.key(KeyCode::Char('u'));
    let asked = desk.question();
    assert!(asked.starts_with("Audit(AuditQuery {"), "{asked}");
    assert!(asked.contains("actor: None"), "{asked}");
    assert!(asked.contains("cursor: None, limit: Some(100)"), "{asked}");
    desk.answer(Answer::Audit(page(audit()), names()));
    desk
}

/// A text without its gaps.
fn words(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[test]
fn what_people_did_stands_newest_first_with_who_what_and_why() {
    let mut desk = desk();
    let text = words(&desk.text());
    let rows = [
        "2026-11-23 14:00:00 ada set limit charges the provider ^[[31m asked us to",
        "2026-11-23 13:30:00 maria retry run ..00000001 the card is fixed",
        "2026-11-22 09:00:00 ada rotate key Acme GmbH once a year",
    ];
    let places: Vec<_> = rows.iter().map(|row| text.find(row)).collect();
    assert!(places.iter().all(Option::is_some), "{places:?}: {text}");
    assert!(places.is_sorted(), "{text}");
    assert!(text.contains("AUDIT: what people did, newest first"));
    assert!(text.contains("/ all acts"), "{text}");
    let narrow = words(&desk.frame(80, 24));
    assert!(
        narrow.contains("23 Nov 13:30 maria retry run ..00000001 the card is fixed"),
        "{narrow}"
    );
    let small = words(&desk.frame(40, 12));
    assert!(small.contains("23 Nov 14:00 ada"), "{small}");
}

#[test]
fn an_act_unfolds_to_what_changed_and_leads_to_what_it_was_done_to() {
    let mut desk = desk();
    desk.go_to("retry");
    desk.key(KeyCode::Char(' '));
    let text = desk.text();
    let told = [
        "by maria (support), 2026-11-23 13:30:00 UTC, saw revision 41".to_owned(),
        format!("run {}, of tenant Birch <202E>& Sons, {}", id(1), id(102)),
        "status: stuck -> due".to_owned(),
        "data.tries: 3 -> 0".to_owned(),
        "▸ before  {3 keys}".to_owned(),
        "▸ after  {3 keys}".to_owned(),
    ];
    for line in told {
        assert!(text.contains(&line), "{line} is not in\n{text}");
    }
    assert!(!text.contains("revision: 41"), "it rises with every act");
    desk.key(KeyCode::Enter);
    let asked = desk.question();
    assert!(
        asked.starts_with(&format!("Run {{ run_id: {}", id(1))),
        "{asked}"
    );
    desk.key(KeyCode::Esc);
    assert_eq!(desk.model.context(), Context::Audit);

    desk.answer(Answer::Audit(page(audit()), names()));
    desk.go_to("set limit");
    desk.key(KeyCode::Enter);
    let text = desk.text();
    assert!(text.contains("concurrency: 5 -> 7"), "{text}");
    assert_eq!(desk.model.context(), Context::Audit, "nothing is behind it");
    desk.go_to("rotate key");
    desk.key(KeyCode::Enter);
    assert_eq!(desk.question(), format!("Tenant({})", id(101)));
}

#[test]
fn acts_are_looked_for_by_who_and_what_and_a_wrong_line_says_why() {
    let mut desk = desk();
    desk.key(KeyCode::Char('/'));
    assert_eq!(desk.model.context(), Context::Filter);
    let text = desk.text();
    assert!(text.contains("fields: actor, action, run"), "{text}");
    desk.type_text("who:ada");
    desk.key(KeyCode::Enter);
    assert_eq!(desk.model.context(), Context::Filter, "it stays");
    let text = desk.text();
    assert!(text.contains("! no field \"who\"; there are"), "{text}");
    desk.key(KeyCode::Esc);
    assert_eq!(desk.model.context(), Context::Audit);
    assert!(desk.text().contains("the card is fixed"), "as it was");

    desk.key(KeyCode::Char('/'));
    desk.type_text("actor:ada action:\"set limit\"");
    desk.key(KeyCode::Enter);
    let asked = desk.question();
    let wanted = "actor: Some(\"ada\"), action: Some(\"set limit\")";
    assert!(asked.contains(wanted), "{asked}");
    desk.answer(Answer::Audit(page(Vec::new()), names()));
    let text = desk.text();
    assert!(text.contains("Nobody did anything that passes."), "{text}");
    assert!(text.contains("/ actor:ada action:"), "{text}");
    // The next one begins with the last.
    desk.key(KeyCode::Char('/'));
    desk.type_text(" to:2026-11-23");
    desk.key(KeyCode::Enter);
    let asked = desk.question();
    assert!(asked.contains(wanted), "{asked}");
    assert!(asked.contains("to: Some(2026-11-23T00:00:00Z)"), "{asked}");
}

#[test]
fn older_acts_are_on_the_next_page() {
    let mut desk = desk();
    desk.tick(3);
    let mut first = page(audit());
    first.next_cursor = Some("more".to_owned());
    desk.answer(Answer::Audit(first, names()));
    assert!(desk.text().contains("page 1, more follow"));
    desk.key(KeyCode::Char('n'));
    let asked = desk.question();
    assert!(asked.contains("cursor: Some(\"more\")"), "{asked}");
    desk.answer(Answer::Audit(page(audit()), names()));
    assert!(desk.text().contains("page 2, the last"));
    desk.key(KeyCode::Char('n'));
    assert_eq!(desk.model.toast(), Some("this is the last page"));
    desk.key(KeyCode::Char('p'));
    let asked = desk.question();
    assert!(asked.contains("cursor: None"), "{asked}");
}

#[test]
fn a_run_leads_to_what_people_did_to_it_and_back() {
    let mut desk = Desk::with_detail(true);
    desk.key(KeyCode::Char('u'));
    let asked = desk.question();
    assert!(
        asked.contains(&format!("run_id: Some({})", id(1))),
        "{asked}"
    );
    let text = desk.text();
    assert!(text.contains(&format!("/ run:{}", id(1))), "{text}");
    desk.key(KeyCode::Esc);
    assert_eq!(desk.model.context(), Context::Detail);
}

#[test]
fn who_may_not_read_it_is_told() {
    let mut desk = Desk::of("viewer");
    desk.key(KeyCode::Char('u'));
    desk.answer(Answer::Failed(refused("Forbidden: needs role support")));
    let text = desk.text();
    assert!(text.contains("! Forbidden: needs role support"), "{text}");
    assert!(text.contains("There is nothing to show"), "{text}");
}

//! A tenant: found by a few letters, then all that is its on one page.

use super::desk::Desk;
use super::samples::{detail, detail_answer, id, page, run_answer, tenant_answer, tenants};
use tenure_client::{
    CancelSubscription, ChangeLegalEntity, ChangeTax, CreditPolicy, DestroyKeys, IntentKind, Money,
    NewCreditNote, PlaceLegalHold, UndoIntent, When,
};
use tenure_console::crossterm::event::KeyCode;
use tenure_console::event::{Act, Answer, BillingAct, Content, Done, KeysAct, RetentionAct};
use tenure_console::keymap::Context;

fn desk(role: &str) -> Desk {
    let mut desk = Desk::of(role);
    desk.key(KeyCode::Char('t'));
    desk.answer(Answer::Tenants(page(tenants())));
    desk.type_text("acme");
    desk.key(KeyCode::Enter);
    assert_eq!(desk.question(), "Tenants(\"acme\")");
    desk.answer(Answer::Tenants(page(tenants())));
    desk.key(KeyCode::Enter);
    assert_eq!(desk.question(), format!("Tenant({})", id(101)));
    assert!(
        desk.text().contains("TENANT Acme GmbH"),
        "it is named at once"
    );
    desk.answer(Answer::Tenant(Box::new(tenant_answer())));
    desk
}

#[test]
fn a_tenant_is_found_by_what_is_typed() {
    let mut desk = Desk::new();
    desk.key(KeyCode::Char('t'));
    assert_eq!(desk.question(), "Tenants(\"\")");
    assert_eq!(desk.model.context(), Context::Find);
    desk.answer(Answer::Tenants(page(tenants())));
    desk.type_text("q?");
    insta::assert_snapshot!("find_80x24", desk.frame(80, 24));
    desk.key(KeyCode::Enter);
    desk.answer(Answer::Tenants(page(Vec::new())));
    assert!(desk.text().contains("No tenant has that in its name"));
    desk.key(KeyCode::Char('/'));
    desk.key(KeyCode::Esc);
    assert_eq!(desk.model.context(), Context::Tenants);
    desk.key(KeyCode::Esc);
    assert_eq!(desk.model.context(), Context::List);
}

#[test]
fn all_that_is_a_tenants_stands_on_one_page() {
    let mut desk = desk("admin");
    insta::assert_snapshot!("tenant_80x24", desk.frame(80, 24));
    insta::assert_snapshot!("tenant_120x40", desk.frame(120, 40));
    insta::assert_snapshot!("tenant_40x12", desk.frame(40, 12));
    let text = desk.text();
    assert!(
        !text.contains("19 Jan 2026"),
        "a trial that has passed is no coming date: {text}"
    );
    desk.key(KeyCode::Char('a'));
    insta::assert_snapshot!("tenant_menu_80x24", desk.frame(80, 24));
}

#[test]
fn a_part_that_is_refused_leaves_the_others_on_show() {
    let mut desk = desk("viewer");
    let mut answer = tenant_answer();
    answer.invoices = Err("Forbidden: needs role support".to_owned());
    desk.tick(3);
    desk.answer(Answer::Tenant(Box::new(answer)));
    let text = desk.text();
    assert!(
        text.contains("INVOICES  ! Forbidden: needs role support"),
        "{text}"
    );
    assert!(text.contains("what it owes is not known"), "{text}");
    assert!(text.contains("team-monthly"), "{text}");
}

#[test]
fn rows_lead_to_their_runs_and_back() {
    let mut desk = desk("viewer");
    let rows = [("past due", 5), ("2026-002", 1), ("! stuck", 1)];
    for (words, run) in rows {
        desk.go_to(words);
        desk.key(KeyCode::Enter);
        let asked = desk.question();
        assert!(
            asked.starts_with(&format!("Run {{ run_id: {}, tenant_id: None", id(run))),
            "{asked}"
        );
        assert_eq!(desk.model.context(), Context::Detail);
        desk.frame(80, 24);
        desk.key(KeyCode::Esc);
        assert_eq!(desk.model.context(), Context::Tenant);
    }
    desk.go_to("2026-001");
    desk.key(KeyCode::Enter);
    assert_eq!(
        desk.model.context(),
        Context::Tenant,
        "no run is at work on it"
    );
    assert!(
        desk.text().contains("paid 05 Nov 2026 10:01"),
        "it unfolds instead"
    );
}

#[test]
fn a_run_leads_to_its_tenant() {
    let mut desk = Desk::with_detail(true);
    desk.answer(detail_answer(1, Content::Data));
    desk.key(KeyCode::Char('t'));
    let tenant = detail(1).summary.tenant_id;
    assert_eq!(desk.question(), format!("Tenant({tenant})"));
    desk.answer(Answer::Tenant(Box::new(tenant_answer())));
    desk.key(KeyCode::Esc);
    assert_eq!(desk.model.context(), Context::Detail);
    desk.answer(run_answer(detail(1), Content::Data));
}

#[test]
fn a_tenant_is_held_and_its_keys_are_destroyed_only_by_its_name() {
    let mut desk = desk("admin");
    desk.choose("place-hold");
    desk.enters(2);
    desk.type_text("a lawsuit");
    desk.enters(2);
    let place = PlaceLegalHold {
        tenant_id: Some(id(101)),
        run_id: None,
        reason: "a lawsuit".to_owned(),
    };
    let wanted = Act::Retention(RetentionAct::Place(place));
    assert_eq!(desk.acted().map(|(_, act)| act), Some(wanted));
    desk.key(KeyCode::Esc);

    desk.choose("destroy-keys");
    desk.type_text("acme");
    desk.key(KeyCode::Enter);
    desk.type_text("they asked for it");
    desk.key(KeyCode::Enter);
    assert_eq!(desk.acted(), None);
    assert!(
        desk.text()
            .contains("! tenant_name: to go on, type Acme GmbH")
    );
    desk.key(KeyCode::BackTab);
    desk.retype("Acme GmbH");
    desk.enters(2);
    assert!(desk.text().contains("There is no way back."));
    desk.key(KeyCode::Enter);
    let act = KeysAct::Destroy(DestroyKeys {
        reason: "they asked for it".to_owned(),
    });
    let tenant_id = id(101);
    assert_eq!(
        desk.acted().map(|(_, act)| act),
        Some(Act::Keys { tenant_id, act })
    );
}

#[test]
fn the_keys_of_all_tenants_are_wrapped_anew_by_who_means_all_of_them() {
    let mut desk = desk("admin");
    desk.choose("rewrap-keys");
    let text = desk.text();
    assert!(
        text.contains("dev: rewrap-keys, keys of all tenants"),
        "{text}"
    );
    desk.type_text("Acme GmbH");
    desk.key(KeyCode::Enter);
    desk.type_text("a yearly change");
    desk.key(KeyCode::Enter);
    assert_eq!(desk.acted(), None);
    let text = desk.text();
    assert!(
        text.contains("! of_whom: to go on, type all tenants"),
        "{text}"
    );
    desk.key(KeyCode::BackTab);
    desk.retype("all tenants");
    desk.enters(2);
    assert_eq!(desk.acted(), None, "it tells first");
    let text = desk.text();
    assert!(text.contains("the old master key can go."), "{text}");
    desk.key(KeyCode::Enter);
    let wanted = Act::RewrapKeys("a yearly change".to_owned());
    assert_eq!(desk.acted().map(|(_, act)| act), Some(wanted));
    let words = "3 keys are wrapped anew; none is left.";
    desk.done(Ok(Done::Did(words.to_owned())));
    assert_eq!(desk.model.toast(), Some(words));
}

#[test]
fn a_tenant_leads_to_what_people_did_to_it() {
    let mut desk = desk("viewer");
    desk.key(KeyCode::Char('u'));
    assert_eq!(desk.model.context(), Context::Audit);
    let asked = desk.question();
    assert!(
        asked.contains(&format!("run_id: None, tenant_id: Some({})", id(101))),
        "{asked}"
    );
}

#[test]
fn who_only_looks_changes_nothing_of_a_tenant() {
    let mut desk = desk("viewer");
    desk.key(KeyCode::Char('a'));
    let text = desk.text();
    assert!(text.contains("[not now: needs role operator]"), "{text}");
    assert!(text.contains("[not now: needs role admin]"), "{text}");
    desk.key(KeyCode::Enter);
    assert!(!desk.model.has_dialog());
}

/// Types into the field under the cursor in place of what stands there, and goes on.
fn fill(desk: &mut Desk, text: &str) {
    desk.retype(text);
    desk.key(KeyCode::Enter);
}

#[test]
fn a_subscription_is_ended_after_the_servers_own_words_on_the_money() {
    let mut desk = desk("support");
    desk.go_to("past due");
    desk.choose("cancel");
    let text = desk.text();
    assert!(
        text.contains("dev: cancel, subscription to team-monthly"),
        "{text}"
    );
    fill(&mut desk, "now");
    // The first letters are enough, and what they became is seen before it counts.
    fill(&mut desk, "ref");
    assert!(desk.text().contains("> refund"), "{}", desk.text());
    desk.key(KeyCode::Enter);
    desk.type_text("they asked");
    desk.key(KeyCode::Enter);
    let cancel = |dry_run| Act::Billing {
        tenant_id: id(101),
        act: BillingAct::Cancel(
            id(70),
            CancelSubscription {
                when: When::Now,
                credit: CreditPolicy::Refund,
                reason: Some("they asked".to_owned()),
                dry_run: false,
            },
        ),
        dry_run,
    };
    let (first, asked) = desk.acted().unwrap();
    assert_eq!(asked, cancel(true));
    assert!(desk.text().contains("Asking the server"), "{}", desk.text());
    let words = [
        "It comes about 20 Dec 2026 09:00 UTC.",
        "Gives back 24.50 EUR of invoice 2026-001, all of it to the method.",
        "Nothing is charged.",
    ];
    desk.done(Ok(Done::Told(words.map(str::to_owned).to_vec())));
    insta::assert_snapshot!("cancel_80x24", desk.frame(80, 24));
    let text = desk.text();
    for line in words {
        assert!(text.contains(line), "{text}");
    }
    desk.key(KeyCode::Enter);
    assert_eq!(desk.acted(), Some((first, cancel(false))));
    desk.done(Ok(Done::Did("The run has been told.".to_owned())));
    assert!(!desk.model.has_dialog());
}

#[test]
fn a_subscription_that_moved_on_is_not_acted_on() {
    let mut desk = desk("support");
    desk.go_to("past due");
    desk.choose("pause");
    fill(&mut desk, "now");
    desk.key(KeyCode::Enter);
    desk.type_text("a holiday");
    let mut answer = tenant_answer();
    let mut one = answer.billing.details.unwrap().remove(0);
    one.intents.clear();
    answer.billing.details = Ok(vec![one]);
    desk.tick(3);
    desk.answer(Answer::Tenant(Box::new(answer)));
    assert!(
        desk.text()
            .contains("! The subscription changed while this was open")
    );
    desk.key(KeyCode::Enter);
    assert_eq!(desk.acted(), None);
    assert!(
        desk.text().contains("close it and look again"),
        "{}",
        desk.text()
    );
}

#[test]
fn what_is_to_come_is_taken_back_and_an_invoice_is_given_back() {
    let mut desk = desk("support");
    desk.go_to("past due");
    desk.choose("undo");
    desk.key(KeyCode::Enter);
    desk.type_text("a mistake");
    desk.enters(2);
    let text = desk.text();
    assert!(
        text.contains("The cancel on 05 Jan 2027 does not come about."),
        "{text}"
    );
    let undo = UndoIntent {
        intent: IntentKind::Cancel,
        reason: Some("a mistake".to_owned()),
    };
    let acted = |act, dry_run| Act::Billing {
        tenant_id: id(101),
        act,
        dry_run,
    };
    let wanted = acted(BillingAct::Undo(id(70), undo), false);
    assert_eq!(desk.acted().map(|(_, act)| act), Some(wanted));
    desk.done(Ok(Done::Did("Told.".to_owned())));

    desk.go_to("2026-001");
    desk.choose("refund");
    desk.type_text("12.50");
    desk.key(KeyCode::Enter);
    desk.type_text("an apology");
    desk.key(KeyCode::Enter);
    let note = NewCreditNote {
        amount: Some(Money {
            amount: "12.50".parse().unwrap(),
            currency: "EUR".to_owned(),
        }),
        refund: true,
        reason: "an apology".to_owned(),
        dry_run: false,
    };
    let wanted = acted(BillingAct::CreditNote(id(72), note), true);
    assert_eq!(desk.acted().map(|(_, act)| act), Some(wanted));
    desk.key(KeyCode::Esc);
    // It is paid, so there is nothing to collect.
    desk.key(KeyCode::Char('a'));
    desk.key(KeyCode::Home);
    assert!(desk.text().contains("> collect"), "{}", desk.text());
    desk.key(KeyCode::Enter);
    assert!(!desk.model.has_dialog());
    let why = "You cannot collect this invoice now: only an open invoice can be";
    assert_eq!(desk.model.toast(), Some(why));
}

#[test]
fn who_issues_its_invoices_is_shown_and_changed_after_the_next_number_was() {
    let mut desk = desk("support");
    let mut answer = tenant_answer();
    answer.tenant.legal_entity = Some("de".to_owned());
    answer.invoices.as_mut().unwrap()[0].number = Some("DE-INV-00002".to_owned());
    desk.tick(3);
    desk.answer(Answer::Tenant(Box::new(answer)));
    let text = desk.text();
    assert!(text.contains("time, billed by de"), "{text}");
    assert!(text.contains("DE-INV-00002 49.00 EUR"), "{text}");
    desk.choose("change-entity");
    desk.type_text("us");
    desk.key(KeyCode::Enter);
    desk.type_text("they moved");
    desk.key(KeyCode::Enter);
    let asked = ChangeLegalEntity {
        legal_entity: "us".to_owned(),
        reason: Some("they moved".to_owned()),
        dry_run: false,
    };
    let wanted = |dry_run| Act::Billing {
        tenant_id: id(101),
        act: BillingAct::ChangeLegalEntity(asked.clone()),
        dry_run,
    };
    assert_eq!(desk.acted().map(|(_, act)| act), Some(wanted(true)));
    desk.done(Ok(Done::Told(vec![
        "The next one is US-INV-00001.".to_owned(),
    ])));
    let text = desk.text();
    assert!(text.contains("The next one is US-INV-00001."), "{text}");
    desk.key(KeyCode::Enter);
    assert_eq!(desk.acted().map(|(_, act)| act), Some(wanted(false)));
}

#[test]
fn a_tax_is_set_after_it_was_told_and_a_rate_that_is_none_is_not_sent() {
    let mut desk = desk("support");
    desk.tick(3);
    desk.answer(Answer::Tenant(Box::new(tenant_answer())));
    desk.choose("set-tax");
    desk.type_text("VAT");
    desk.key(KeyCode::Enter);
    desk.type_text("much");
    desk.key(KeyCode::Enter);
    desk.key(KeyCode::Enter);
    desk.type_text("the office said so");
    desk.key(KeyCode::Enter);
    assert_eq!(desk.acted(), None);
    let text = desk.text();
    assert!(text.contains("percent: a number from 0 to 100"), "{text}");
    desk.key(KeyCode::Esc);
    desk.choose("clear-tax");
    desk.type_text("they are exempt");
    desk.key(KeyCode::Enter);
    let asked = ChangeTax {
        tax: None,
        reason: Some("they are exempt".to_owned()),
        dry_run: false,
    };
    let wanted = |dry_run| Act::Billing {
        tenant_id: id(101),
        act: BillingAct::ChangeTax(asked.clone()),
        dry_run,
    };
    assert_eq!(desk.acted().map(|(_, act)| act), Some(wanted(true)));
    desk.done(Ok(Done::Told(vec![
        "It would be billed with no tax.".to_owned(),
    ])));
    desk.key(KeyCode::Enter);
    assert_eq!(desk.acted().map(|(_, act)| act), Some(wanted(false)));
}

//! What becomes of tenants' data: backfills, placements, deletions, and what keeping rows comes to.

use super::desk::{Desk, refused};
use super::life_samples::{
    backfill, backfills, before_contract, certificate, deletion, deletions, erasing, export,
    keeping, names, placement, placements, ranges,
};
use super::samples::{id, page, parse, tenant_answer, tenants};
use serde_json::json;
use tenure_client::{
    ActOnBackfill, ActOnBackfillRange, BackOutPlacement, Backfill, DeletionAct, DeletionDetail,
    LiftDataHold, MovePlacement, PlaceDataHold, PlaceLegalHold, RequestDeletion, StartExport,
    StartRestore, StartSweep,
};
use tenure_console::crossterm::event::KeyCode;
use tenure_console::event::{Act, Answer, Done, Door, LifeAct, LifeAnswer, RetentionAct};
use tenure_console::keymap::Context;

/// The shelf with this number, answered.
fn desk(role: &str, shelf: char, answer: LifeAnswer) -> Desk {
    let mut desk = Desk::of(role);
    desk.key(KeyCode::Char('d'));
    desk.key(KeyCode::Char(shelf));
    assert_eq!(desk.model.context(), Context::Life);
    desk.answer(Answer::Life(Box::new(answer)));
    desk
}

/// A backfill's own page.
fn page_of(of: Backfill) -> Desk {
    let mut desk = desk("operator", '1', backfills(vec![of.clone()]));
    desk.key(KeyCode::Enter);
    assert!(
        desk.question()
            .starts_with(&format!("Backfill {{ backfill_id: {}", id(80)))
    );
    desk.answer(Answer::Backfill(Box::new(of), page(ranges()), names()));
    desk
}

fn deletion_page(role: &str, detail: DeletionDetail) -> Desk {
    let mut desk = desk(role, '3', deletions(vec![detail.deletion.clone()]));
    desk.key(KeyCode::Enter);
    assert_eq!(desk.question(), format!("Deletion({})", id(85)));
    desk.answer(Answer::Deletion(Box::new(detail), None, names()));
    desk
}

fn tenant(role: &str) -> Desk {
    let mut desk = Desk::of(role);
    desk.key(KeyCode::Char('t'));
    desk.answer(Answer::Tenants(page(tenants())));
    desk.key(KeyCode::Enter);
    desk.answer(Answer::Tenants(page(tenants())));
    desk.key(KeyCode::Enter);
    desk.answer(Answer::Tenant(Box::new(tenant_answer())));
    desk
}

/// What the menu says of a verb: why not, or nothing when it can be done.
fn why_not(desk: &mut Desk, verb: &str) -> Option<String> {
    desk.key(KeyCode::Char('a'));
    let text = desk.text();
    desk.key(KeyCode::Esc);
    let start = format!("  {verb} ");
    let marked = format!("> {verb} ");
    let mut lines = text.lines();
    let line = lines.find(|line| line.contains(&start) || line.contains(&marked));
    let line = line.unwrap_or_else(|| panic!("{verb} is not in\n{text}"));
    let (_, why) = line.split_once("[not now: ")?;
    Some(why.trim_end_matches(['│', ' ', ']']).to_owned())
}

fn sent(desk: &Desk) -> (LifeAct, bool) {
    match desk.acted() {
        Some((_, Act::Life { act, dry_run })) => (act, dry_run),
        other => panic!("{other:?}"),
    }
}

#[test]
fn the_shelves_stand_beside_each_other() {
    let mut desk = desk("operator", '1', backfills(vec![backfill(json!({}))]));
    insta::assert_snapshot!("backfills_80x24", desk.frame(80, 24));
    insta::assert_snapshot!("backfills_120x40", desk.frame(120, 40));
    insta::assert_snapshot!("backfills_40x12", desk.frame(40, 12));
    desk.key(KeyCode::Tab);
    assert_eq!(desk.question(), "Life { shelf: Placements, cursor: None }");
    let all = vec![placement(101, "active"), placement(102, "moving")];
    desk.answer(Answer::Life(Box::new(placements(all))));
    insta::assert_snapshot!("placements_80x24", desk.frame(80, 24));
    desk.key(KeyCode::Right);
    let all = vec![deletion("requested", json!({})), erasing().deletion];
    desk.answer(Answer::Life(Box::new(deletions(all))));
    insta::assert_snapshot!("deletions_80x24", desk.frame(80, 24));
    desk.key(KeyCode::Char('4'));
    desk.answer(Answer::Life(Box::new(keeping())));
    insta::assert_snapshot!("keeping_80x24", desk.frame(80, 24));
    desk.key(KeyCode::Tab);
    assert_eq!(desk.question(), "Life { shelf: Backfills, cursor: None }");
    desk.answer(Answer::Life(Box::new(backfills(Vec::new()))));
    assert!(desk.text().contains("No backfill was started yet"));
}

#[test]
fn pages_are_turned_and_another_shelf_begins_at_its_first() {
    let first = LifeAnswer {
        next_cursor: Some("more".to_owned()),
        ..deletions(vec![deletion("requested", json!({}))])
    };
    let mut desk = desk("operator", '3', first);
    assert!(desk.text().contains("newest first, page 1, more follow"));
    desk.key(KeyCode::Char('n'));
    assert_eq!(
        desk.question(),
        "Life { shelf: Deletions, cursor: Some(\"more\") }"
    );
    desk.answer(Answer::Life(Box::new(deletions(Vec::new()))));
    assert!(desk.text().contains("page 2, the last"));
    desk.key(KeyCode::Char('n'));
    assert_eq!(desk.model.toast(), Some("this is the last page"));
    desk.key(KeyCode::Tab);
    assert_eq!(desk.question(), "Life { shelf: Keeping, cursor: None }");
}

#[test]
fn a_backfill_is_shown_closely_and_its_ranges_by_status() {
    let mut desk = page_of(backfill(json!({})));
    insta::assert_snapshot!("backfill_80x24", desk.frame(80, 24));
    insta::assert_snapshot!("backfill_40x12", desk.frame(40, 12));
    desk.key(KeyCode::Tab);
    let asked = desk.question();
    assert!(
        asked.contains("status: Some(\"held\"), cursor: None"),
        "{asked}"
    );
    desk.answer(Answer::Backfill(
        Box::new(backfill(json!({}))),
        page(ranges()),
        names(),
    ));
    assert!(desk.text().contains("RANGES: held"));
    desk.go_to("Acme GmbH /1");
    desk.key(KeyCode::Enter);
    assert!(
        desk.question()
            .starts_with(&format!("Run {{ run_id: {}", id(5)))
    );
}

#[test]
fn a_backfill_offers_what_its_phase_allows() {
    let table: [(Backfill, &[&str]); 6] = [
        (backfill(json!({})), &["pause", "back"]),
        (backfill(json!({"paused": true})), &["resume", "back"]),
        (
            backfill(json!({"status": "held", "phase": "expand"})),
            &["pause", "retry", "back"],
        ),
        (
            before_contract(&["25 % of the tenants read the new columns: roll out to 100"]),
            &["roll-out", "pause", "retry", "verify", "back"],
        ),
        (
            before_contract(&[]),
            &["advance", "roll-out", "pause", "retry", "verify", "back"],
        ),
        (backfill(json!({"status": "ended", "phase": "done"})), &[]),
    ];
    let verbs = [
        "advance", "roll-out", "pause", "resume", "retry", "verify", "back",
    ];
    for (of, allowed) in table {
        let what = format!("{} {}", of.phase, of.status);
        let mut desk = desk("operator", '1', backfills(vec![of]));
        for verb in verbs {
            let refused = why_not(&mut desk, verb);
            assert_eq!(
                refused.is_none(),
                allowed.contains(&verb),
                "{what}: {verb} {refused:?}"
            );
        }
    }
    let mut desk = desk("support", '1', backfills(vec![backfill(json!({}))]));
    assert_eq!(why_not(&mut desk, "pause").unwrap(), "needs role operator");
}

#[test]
fn a_roll_out_is_tried_by_the_server_before_it_is_done() {
    let mut desk = page_of(before_contract(&["roll out to 100"]));
    desk.choose("roll-out");
    desk.retype("101");
    desk.enters(1);
    desk.type_text("looks well");
    desk.key(KeyCode::Enter);
    assert!(
        desk.text().contains("! percent: at most 100"),
        "{}",
        desk.text()
    );
    desk.key(KeyCode::BackTab);
    desk.retype("100");
    desk.enters(2);
    let act = |dry_run| {
        let body = ActOnBackfill {
            reason: "looks well".to_owned(),
            percent: Some(100),
            to: None,
            dry_run,
        };
        LifeAct::Backfill(id(80), "roll-out".to_owned(), body)
    };
    assert_eq!(sent(&desk), (act(true), true));
    desk.done(Ok(Done::Told(vec![
        "100 % of the tenants read them.".to_owned(),
    ])));
    assert!(desk.text().contains("100 % of the tenants read them."));
    desk.key(KeyCode::Enter);
    assert_eq!(sent(&desk), (act(false), false));
    desk.done(Ok(Done::Did(
        "task-state has been told: roll-out.".to_owned(),
    )));
    assert!(!desk.model.has_dialog());
}

#[test]
fn progress_does_not_make_a_dialog_stale_but_another_phase_does() {
    let mut desk = page_of(backfill(json!({})));
    desk.choose("back");
    let text = desk.text();
    assert!(text.contains("expand, dual-write, fill, undone"), "{text}");
    desk.type_text("verify");
    desk.enters(1);
    desk.type_text("wrong column");
    desk.key(KeyCode::Enter);
    assert!(desk.text().contains("! to: one of expand"), "it lies ahead");
    desk.key(KeyCode::BackTab);
    desk.retype("undone");
    let mut further = backfill(json!({}));
    further.progress.done_rows += 1_000;
    desk.refresh(Answer::Backfill(Box::new(further), page(ranges()), names()));
    desk.enters(2);
    assert!(sent(&desk).1, "the server is asked");
    desk.done(Err(refused("It contradicts: it goes back already")));
    let later = backfill(json!({"phase": "verify"}));
    desk.refresh(Answer::Backfill(Box::new(later), page(ranges()), names()));
    desk.enters(2);
    assert_eq!(desk.acted(), None);
    let text = desk.text();
    assert!(
        text.contains("the backfill changed since you opened this"),
        "{text}"
    );
}

#[test]
fn a_held_range_is_retried_or_skipped_and_no_other() {
    let mut desk = page_of(backfill(json!({})));
    assert_eq!(
        why_not(&mut desk, "skip-range").unwrap(),
        "the range is filled"
    );
    desk.go_to("Acme GmbH /1");
    desk.choose("skip-range");
    desk.type_text("a row of nobody");
    desk.enters(2);
    let body = ActOnBackfillRange {
        reason: "a row of nobody".to_owned(),
    };
    let act = LifeAct::Range(id(80), id(82), "skip".to_owned(), body);
    assert_eq!(sent(&desk), (act, false));
    desk.key(KeyCode::Esc);
    desk.go_to("Birch");
    assert_eq!(
        why_not(&mut desk, "retry-range").unwrap(),
        "the range is throttled"
    );
    assert_eq!(why_not(&mut desk, "skip-range"), None);
}

#[test]
fn a_tenant_is_moved_from_its_placement_and_backed_out_of_it() {
    let all = vec![placement(101, "active"), placement(102, "moving")];
    let mut desk = desk("operator", '2', placements(all));
    desk.go_to("+ active");
    assert_eq!(
        why_not(&mut desk, "back-out").unwrap(),
        "it is not being moved"
    );
    desk.choose("move");
    desk.retype("rooms");
    desk.key(KeyCode::Enter);
    desk.retype("schema");
    desk.enters(4);
    desk.key(KeyCode::Enter);
    desk.type_text("they have grown");
    desk.key(KeyCode::Enter);
    assert!(
        desk.text().contains("! schema: which one"),
        "{}",
        desk.text()
    );
    for _ in 0..4 {
        desk.key(KeyCode::BackTab);
    }
    desk.type_text("acme");
    desk.enters(5);
    let text = desk.text();
    assert!(
        text.contains("place: main shared -> rooms schema"),
        "{text}"
    );
    desk.key(KeyCode::Enter);
    let wanted: MovePlacement = parse(json!({
        "to": {"model": "schema", "source": "rooms", "schema": "acme", "key": "17"},
        "keep_hours": 24, "reason": "they have grown",
    }));
    assert_eq!(sent(&desk), (LifeAct::Move(id(101), wanted), false));
    desk.key(KeyCode::Esc);
    desk.go_to("> moving");
    assert_eq!(
        why_not(&mut desk, "move").unwrap(),
        "it is on its way already"
    );
    desk.choose("back-out");
    desk.type_text("they changed their mind");
    desk.enters(2);
    let reason = "they changed their mind".to_owned();
    let wanted = LifeAct::BackOut(id(102), BackOutPlacement { reason });
    assert_eq!(sent(&desk), (wanted, false));
    desk.key(KeyCode::Esc);
    desk.key(KeyCode::Enter);
    assert!(
        desk.question()
            .starts_with(&format!("Run {{ run_id: {}", id(7)))
    );
}

#[test]
fn a_deletion_is_approved_by_a_second_person_only() {
    let requested = deletion("requested", json!({}));
    let mut mine = requested.clone();
    mine.requested_by = "maria".to_owned();
    let mut desk = desk("admin", '3', deletions(vec![mine]));
    let refused = why_not(&mut desk, "approve").unwrap();
    assert!(refused.starts_with("you asked for it"), "{refused}");
    let mut desk = self::desk("operator", '3', deletions(vec![requested.clone()]));
    assert_eq!(why_not(&mut desk, "approve").unwrap(), "needs role admin");
    let mut desk = self::desk("admin", '3', deletions(vec![requested.clone()]));
    for verb in ["retry", "accept"] {
        assert!(why_not(&mut desk, verb).is_some(), "{verb}");
    }
    assert_eq!(why_not(&mut desk, "cancel"), None);
    desk.choose("approve");
    desk.type_text("ticket 17");
    desk.key(KeyCode::Enter);
    let text = desk.text();
    assert!(text.contains("For 14 days cancel restores it"), "{text}");
    let cooling = deletion("cooling_off", json!({"approved_by": "grace"}));
    desk.refresh(Answer::Life(Box::new(deletions(vec![cooling]))));
    desk.key(KeyCode::Enter);
    assert_eq!(desk.acted(), None, "somebody else has approved it");
    desk.key(KeyCode::Esc);
    desk.refresh(Answer::Life(Box::new(deletions(vec![requested]))));
    desk.choose("approve");
    desk.type_text("ticket 17");
    desk.enters(2);
    let body = DeletionAct {
        reason: "ticket 17".to_owned(),
    };
    let act = LifeAct::Deletion(id(85), "approve".to_owned(), body);
    assert_eq!(sent(&desk), (act, false));
}

#[test]
fn past_the_point_of_no_return_a_deletion_is_watched_and_can_be_held() {
    let mut desk = deletion_page("admin", erasing());
    insta::assert_snapshot!("deletion_80x24", desk.frame(80, 24));
    insta::assert_snapshot!("deletion_40x12", desk.frame(40, 12));
    assert!(desk.text().contains("1 of 3 steps done"));
    let refused = why_not(&mut desk, "cancel").unwrap();
    assert_eq!(refused, "it is erasing: the point of no return has passed");
    desk.choose("place-hold");
    desk.enters(2);
    desk.type_text("a lawsuit");
    desk.enters(2);
    let place = PlaceLegalHold {
        tenant_id: Some(id(101)),
        run_id: None,
        reason: "a lawsuit".to_owned(),
    };
    let act = desk.acted().unwrap().1;
    assert_eq!(act, Act::Retention(RetentionAct::Place(place)));
}

#[test]
fn what_failed_is_retried_and_only_leftovers_are_accepted() {
    let failed = |detail: &str| {
        let since = json!({"approved_by": "grace", "detail": detail,
            "final_at": "2026-11-23T12:00:00Z"});
        DeletionDetail {
            deletion: deletion("failed_step", since),
            ..erasing()
        }
    };
    let mut desk = deletion_page("admin", failed("trigger_failed: work.task"));
    assert_eq!(why_not(&mut desk, "retry"), None);
    assert!(why_not(&mut desk, "accept").is_some());
    let mut desk = deletion_page("admin", failed("leftovers: 3 rows in work.note"));
    assert_eq!(why_not(&mut desk, "accept"), None);
}

#[test]
fn a_certificate_is_summed_up_and_nothing_more_can_be_done() {
    let ended = json!({"approved_by": "grace", "final_at": "2026-11-23T12:00:00Z",
        "ended_at": "2026-11-23T13:00:00Z"});
    let detail = DeletionDetail {
        deletion: deletion("certified", ended),
        ..erasing()
    };
    let mut desk = deletion_page("admin", detail.clone());
    let certificate = Some(Box::new(certificate()));
    desk.refresh(Answer::Deletion(Box::new(detail), certificate, names()));
    insta::assert_snapshot!("certified_80x24", desk.frame(80, 24));
    for verb in ["approve", "cancel", "retry", "accept"] {
        assert!(why_not(&mut desk, verb).is_some(), "{verb}");
    }
}

#[test]
fn a_deletion_is_asked_for_by_name_after_the_server_said_what_it_would_do() {
    let mut desk = tenant("admin");
    desk.choose("delete-tenant");
    desk.retype("0");
    desk.enters(2);
    desk.type_text("30");
    desk.key(KeyCode::Enter);
    desk.type_text("Acme");
    desk.key(KeyCode::Enter);
    desk.type_text("the contract has ended");
    desk.key(KeyCode::Enter);
    assert!(
        desk.text()
            .contains("! tenant_name: to go on, type Acme GmbH")
    );
    desk.key(KeyCode::BackTab);
    desk.type_text(" GmbH");
    desk.enters(2);
    let wanted = RequestDeletion {
        tenant_id: id(101),
        cooling_off_days: 0,
        backup_days: 35,
        export_link_days: Some(30),
        reason: "the contract has ended".to_owned(),
    };
    let act = LifeAct::RequestDeletion(wanted);
    assert_eq!(sent(&desk), (act.clone(), true));
    desk.done(Ok(Done::Told(vec![
        "120,012 rows would be erased.".to_owned(),
    ])));
    assert!(desk.text().contains("120,012 rows would be erased."));
    desk.key(KeyCode::Enter);
    assert_eq!(sent(&desk), (act, false));
    let made = Box::new(deletion("requested", json!({})));
    let link = Some("/v1/exports/a/b/secret".to_owned());
    let door = Door::Deletion(made.clone(), link);
    desk.done(Ok(Done::Opens("It is asked for.".to_owned(), door)));
    let detail = DeletionDetail {
        deletion: *made,
        steps: Vec::new(),
        records: Vec::new(),
    };
    desk.answer(Answer::Deletion(Box::new(detail), None, names()));
    desk.go_to("told this once");
    desk.key(KeyCode::Char('y'));
    assert!(format!("{:?}", desk.actions).contains("/v1/exports/a/b/secret"));
}

#[test]
fn an_export_is_started_and_its_link_stays_on_show() {
    let mut desk = tenant("operator");
    desk.choose("start-export");
    desk.retype("30");
    desk.key(KeyCode::Enter);
    desk.type_text("Art. 20");
    desk.enters(2);
    let start = StartExport {
        link_days: Some(30),
        reason: "Art. 20".to_owned(),
    };
    assert_eq!(sent(&desk), (LifeAct::Export(id(101), start), false));
    let link = Some("/v1/exports/a/b/secret".to_owned());
    let door = Door::Export(id(101), Box::new(export("writing")), link);
    desk.done(Ok(Done::Opens("It is being written.".to_owned(), door)));
    assert_eq!(desk.question(), format!("Export({}, {})", id(101), id(87)));
    desk.answer(Answer::Export(Box::new(export("ready"))));
    insta::assert_snapshot!("export_80x24", desk.frame(80, 24));
    desk.go_to("/v1/exports");
    desk.key(KeyCode::Char('y'));
    assert!(format!("{:?}", desk.actions).contains("/v1/exports/a/b/secret"));
}

#[test]
fn rows_are_held_swept_and_brought_back_from_the_tenants_page() {
    let mut desk = tenant("operator");
    desk.choose("hold-data");
    desk.type_text("7 O 12/27");
    desk.enters(2);
    desk.type_text("{\"task_id\": \"0f00\"}");
    desk.enters(2);
    desk.type_text("a lawsuit");
    desk.key(KeyCode::Enter);
    assert!(desk.text().contains("! table: whose rows should match?"));
    for _ in 0..3 {
        desk.key(KeyCode::BackTab);
    }
    desk.type_text("work.task");
    desk.enters(5);
    let wanted: PlaceDataHold = parse(json!({"case": "7 O 12/27", "table": "work.task",
        "match": {"task_id": "0f00"}, "reason": "a lawsuit"}));
    assert_eq!(sent(&desk).0, LifeAct::PlaceHold(id(101), wanted));
    desk.key(KeyCode::Esc);

    desk.go_to("7 O 12/27");
    desk.choose("lift-data-hold");
    desk.type_text("settled");
    desk.enters(2);
    let lift = LiftDataHold {
        reason: "settled".to_owned(),
    };
    assert_eq!(sent(&desk).0, LifeAct::LiftHold(id(101), id(88), lift));
    desk.key(KeyCode::Esc);

    desk.choose("start-sweep");
    desk.enters(2);
    desk.type_text("how many?");
    desk.key(KeyCode::Enter);
    assert!(
        desk.text().contains("nothing is touched"),
        "it begins with counting"
    );
    desk.key(KeyCode::Enter);
    let sweep = StartSweep {
        dry_run: true,
        as_of: None,
        reason: Some("how many?".to_owned()),
    };
    assert_eq!(sent(&desk).0, LifeAct::Sweep(id(101), sweep));
    desk.key(KeyCode::Esc);

    desk.go_to("ARCHIVES");
    desk.key(KeyCode::Enter);
    desk.go_to("complete");
    desk.choose("restore-sweep");
    desk.type_text("it was too early");
    desk.enters(2);
    let restore = StartRestore {
        sweep_id: Some(id(9)),
        archive_id: None,
        reason: "it was too early".to_owned(),
    };
    assert_eq!(sent(&desk).0, LifeAct::Restore(id(101), restore));
}

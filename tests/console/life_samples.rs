//! What a server might answer of tenants' data.

use super::samples::{id, parse, run_json};
use serde_json::{Value, json};
use tenure_client::{
    Backfill, BackfillRange, DataExport, Deletion, DeletionCertificate, DeletionDetail, Placement,
};
use tenure_console::event::{Around, LifeAnswer, Lines, Names, TenantLife};

pub(crate) fn names() -> Names {
    Names::from([
        (id(101), "Acme GmbH".to_owned()),
        (id(102), "Birch \u{202e}& Sons".to_owned()),
    ])
}

/// A backfill that fills, throttled; or as the changes say.
pub(crate) fn backfill(changes: Value) -> Backfill {
    let mut value = json!({
        "backfill_id": id(80), "name": "task-state", "run_id": id(3), "phase": "fill",
        "targets": [{"source": "main", "map_version": 2, "table": "work.task"}],
        "status": "working", "paused": false, "percent_reading": 0, "refusals": [],
        "started_by": "ada", "reason": "ticket \u{1b}[31m 40", "started_at": "2026-11-23T13:00:00Z",
        "progress": {"ranges": 8, "finished_ranges": 3, "held_ranges": 0, "skipped_ranges": 0,
            "estimated_rows": 10_000_000, "done_rows": 5_230_000, "written_rows": 5_100_000,
            "percent": 52.3, "rows_per_second": 18_240.7, "earliest_seconds": 240,
            "latest_seconds": 310, "throttled": [
                {"reason": "replica_lag: 7 s, limit 5 s", "ranges": 2}]},
    });
    let members = value.as_object_mut().unwrap();
    members.extend(changes.as_object().unwrap().clone());
    parse(value)
}

/// One whose next phase is refused, or only waits for somebody's word.
pub(crate) fn before_contract(refusals: &[&str]) -> Backfill {
    backfill(json!({
        "phase": "switch", "percent_reading": 25, "next": "contract", "refusals": refusals,
        "mismatches": 0, "clean_since": "2026-11-23T12:00:00Z",
        "progress": {"ranges": 8, "finished_ranges": 8, "held_ranges": 0, "skipped_ranges": 0,
            "estimated_rows": 10_000_000, "done_rows": 10_000_000, "written_rows": 9_900_000,
            "percent": 100.0, "throttled": []},
    }))
}

pub(crate) fn ranges() -> Vec<BackfillRange> {
    parse(json!([
        {"range_id": id(81), "tenant_id": id(101), "part": 0, "status": "filled", "batch_rows": 900,
            "estimated_rows": 1_200_000, "done_rows": 1_200_000, "written_rows": 1_000_000},
        {"range_id": id(82), "tenant_id": id(101), "part": 1, "status": "held", "run_id": id(5),
            "batch_rows": 900, "estimated_rows": 800_000, "done_rows": 12_400, "written_rows": 12_400,
            "after": ["0f00"], "cursor": ["0f11"], "trouble": {"kind": "row_refused",
            "detail": "a check refuses it \u{1b}[31m", "key": ["0f12"], "remedy": "Mend it, then retry."}},
        {"range_id": id(83), "tenant_id": id(102), "part": 0, "status": "throttled", "run_id": id(6),
            "batch_rows": 900, "estimated_rows": 500, "done_rows": 900, "written_rows": 900,
            "detail": "7 s, limit 5 s"},
    ]))
}

pub(crate) fn deletion(state: &str, changes: Value) -> Deletion {
    let mut value = json!({
        "deletion_id": id(85), "tenant_id": id(101), "run_id": id(4), "state": state,
        "reason": "the contract \u{1b}[31m has ended", "requested_by": "ada",
        "requested_at": "2026-11-20T09:00:00Z", "due_at": "2026-12-20T09:00:00Z",
        "cooling_off_days": 14, "backup_days": 35, "alerts": 0,
    });
    let members = value.as_object_mut().unwrap();
    members.extend(changes.as_object().unwrap().clone());
    parse(value)
}

/// One past the point of no return, at its second step.
pub(crate) fn erasing() -> DeletionDetail {
    let since = json!({"approved_by": "grace", "final_at": "2026-11-23T12:00:00Z", "alerts": 1,
        "detail": "work.task: 120,000 rows so far"});
    let step = |name: &str, action: &str, rows: i64, done: Option<&str>| {
        json!({"realm": "product", "name": name, "action": action, "rows": rows, "masked": 0,
            "kept": 0, "done_at": done})
    };
    let done = Some("2026-11-23T13:00:00Z");
    let mut kept = step("work.invoice", "mask", 0, None);
    kept["basis"] = json!("tax law, ten years");
    DeletionDetail {
        deletion: deletion("erasing", since),
        steps: parse(json!([
            step("work.comment", "delete", 4_200, done),
            step("work.task", "delete", 120_000, None),
            kept,
        ])),
        records: vec![
            json!({"seq": 1, "hash": "ab", "body": {"kind": "requested", "at": "2026-11-20T09:00:00Z"}}),
        ],
    }
}

pub(crate) fn certificate() -> DeletionCertificate {
    parse(json!({
        "document": {"subject": id(101), "chain": "c0ffee", "keys": {"destroyed": 2},
            "backups": {"expire_on": "2026-12-30"}, "tables": [
                {"realm": "product", "name": "work.task", "action": "delete", "found": 120_000,
                    "erased": 120_000, "masked": 0, "kept": 0},
                {"realm": "product", "name": "work.invoice", "action": "mask", "found": 12,
                    "erased": 0, "masked": 12, "kept": 0}]},
        "signature": {"algorithm": "ed25519", "key": "2027", "value": "AA=="},
    }))
}

pub(crate) fn placement(number: u8, status: &str) -> Placement {
    let other = (status != "active")
        .then(|| json!({"model": "schema", "source": "rooms", "schema": "acme", "key": "17"}));
    parse(json!({
        "tenant_id": id(number), "place": {"model": "shared", "source": "main", "key": "17"},
        "status": status, "other": other, "revision": 3, "placed_at": "2026-01-05T09:00:00Z",
        "run_id": (status != "active").then(|| id(7)),
    }))
}

pub(crate) fn export(status: &str) -> DataExport {
    parse(json!({
        "export_id": id(87), "status": status, "asked_by": "ada", "reason": "Art. 20",
        "asked_at": "2026-11-23T13:00:00Z", "link_days": 7, "rows": 12_345, "bytes": 4_200_000,
        "expires_at": (status == "ready").then_some("2026-11-30T13:05:00Z"), "downloads": 0,
    }))
}

fn answer(lines: Lines, around: Around) -> LifeAnswer {
    LifeAnswer {
        lines,
        around,
        names: names(),
        next_cursor: None,
    }
}

pub(crate) fn backfills(all: Vec<Backfill>) -> LifeAnswer {
    answer(Lines::Backfills(all), Around::Nothing)
}

pub(crate) fn deletions(all: Vec<Deletion>) -> LifeAnswer {
    answer(Lines::Deletions(all), Around::Nothing)
}

pub(crate) fn placements(all: Vec<Placement>) -> LifeAnswer {
    let mut moving = run_json(5);
    moving["workflow"] = json!("tenant-move");
    moving["state"] = json!("CatchingUp");
    moving["key"] = json!(format!("{}/1", id(102)));
    let migration = json!({"version": "0042", "hash": "ab", "author": "ada", "reason": "ticket 7",
        "run_id": id(8), "loaded_at": "2026-11-22T09:00:00Z", "pending": 3, "applied": 5, "refused": 1});
    let refused = json!([{"source": "rooms", "place": "schema/cedar", "tenant_id": id(102),
        "outcome": "refused", "detail": "column \"state\" is there \u{1b}[31m",
        "changed_at": "2026-11-22T09:00:00Z"}]);
    let around = Around::Moves {
        moves: Ok(vec![parse(moving)]),
        migrations: Ok(vec![(parse(migration), parse(refused))]),
    };
    answer(Lines::Placements(all), around)
}

pub(crate) fn keeping() -> LifeAnswer {
    let mut sweep = run_json(5);
    sweep["workflow"] = json!("data-retention");
    sweep["state"] = json!("Halted");
    sweep["key"] = json!(format!("{}/1", id(101)));
    let policy = json!({"source": "main", "version": 2, "author": "ada", "reason": "as counsel says",
        "loaded_at": "2026-11-22T09:00:00Z", "document": {"classes": {"audit": {"action": "archive"}}}});
    let policies = vec![
        ("main".to_owned(), Some(parse(policy))),
        ("rooms".to_owned(), None),
    ];
    answer(
        Lines::Jobs(vec![parse(sweep)]),
        Around::Policies(Ok(policies)),
    )
}

/// What becomes of Acme's data.
pub(crate) fn tenant_life() -> TenantLife {
    TenantLife {
        placement: Ok(Some(placement(101, "active"))),
        holds: Ok(parse(json!([
            {"hold_id": id(88), "tenant_id": id(101), "case": "7 O 12/27", "table": "work.task",
                "match": {"task_id": "0f00"}, "reason": "a lawsuit", "author": "ada",
                "placed_at": "2026-11-01T09:00:00Z"},
        ]))),
        exports: Ok(vec![export("ready")]),
        archives: Ok(parse(json!([
            {"archive_id": id(89), "sweep_id": id(9), "table": "work.task", "status": "complete",
                "rows": 1_200, "bytes": 90_000, "manifest_sha256": "ab",
                "made_at": "2026-11-01T09:00:00Z", "destroy_at": "2026-12-01T09:00:00Z"},
        ]))),
        deletions: Ok(Vec::new()),
    }
}

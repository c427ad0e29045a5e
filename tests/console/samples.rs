//! What a server might answer.

use chrono::{DateTime, TimeDelta, Utc};
use serde_json::{Value, json};
use tenure_client::{
    AllowedAction, AuditLine, BulkOperation, BulkResult, LegalHold, Mail, Page, RunDetail,
    RunSummary, Schedule, ScheduleDetail, Signal, Step, Tenant, Transition,
};
use tenure_console::event::{
    Answer, BillingAnswer, Content, Done, FlowAnswer, RetentionAnswer, RunAnswer, TenantAnswer,
};
use uuid::Uuid;

pub(crate) fn start() -> DateTime<Utc> {
    "2026-11-23T14:02:11Z".parse().unwrap()
}

pub(crate) fn id(number: u8) -> Uuid {
    Uuid::from_u128(0x0190_a000_0000_7000_8000_0000_0000_0000 + u128::from(number))
}

pub(crate) fn parse<T: serde::de::DeserializeOwned>(value: Value) -> T {
    serde_json::from_value(value).unwrap()
}

pub(crate) fn page<T>(items: Vec<T>) -> Page<T> {
    Page {
        items,
        next_cursor: None,
    }
}

pub(crate) fn run(number: u8) -> RunSummary {
    parse(run_json(number))
}

/// Runs 1 to 13 have one status each.
pub(crate) fn run_json(number: u8) -> Value {
    let statuses = tenure_client::RunStatus::ALL;
    let status = statuses[usize::from(number + 7) % statuses.len()];
    let pick = |names: [&'static str; 3]| names[usize::from(number % 3)];
    let next_at = start() + TimeDelta::hours(i64::from(number) * 7 - 10);
    json!({
        "run_id": id(number),
        "tenant_id": id(100 + number % 3),
        "tenant_name": pick(["Acme GmbH", "Birch & Sons Limited", "東京商事"]),
        "workflow": pick(["subscription", "dunning", "invoice"]),
        "key": format!("sub_{number:03}"),
        "version": 13,
        "status": status,
        "state": pick(["grace", "trialing", "past_due"]),
        "epoch": 12,
        "visit": 4,
        "attempt": 3,
        "next_at": if status.is_terminal() { Value::Null } else { json!(next_at) },
        "started_at": start() - TimeDelta::hours(i64::from(number) * 30),
        "changed_at": start() - TimeDelta::hours(2),
    })
}

pub(crate) fn detail(number: u8) -> RunDetail {
    let mut value = run_json(number);
    let more = json!({
        "data": {
            "invoice": {"number": "2026-001", "big": 9_007_199_254_740_993_u64},
            "attempts": [1, 2],
            "note": "evil \u{1b}[31m text",
        },
        "deadlines": [
            {"name": "downgrade", "at": "2026-11-26T09:00:00Z", "clock": "tenant"},
            {"name": "retry-charge", "at": "2026-11-23T15:00:00Z", "clock": "real"},
        ],
        "why": {
            "kind": "stuck_step",
            "summary": "Step \"charge\" failed with a final error (account_closed). It waits for \
                signal \"payment_method_updated\" until Thu 26 Nov 09:00, then goes to \"downgrade\".",
            "evidence": [
                {"label": "last error", "value": "402 account_closed"},
                {"label": "attempts", "value": "12 of 12"},
            ],
        },
        "allowed_actions": [
            {"action": "signal", "allowed": true, "help": "Puts a message into its inbox.",
                "args": [{"name": "signal", "kind": "json", "required": true}]},
            {"action": "retry", "allowed": true, "help": "Tries again now.", "dry_run": true},
            {"action": "cancel", "allowed": false, "reason": "needs role operator",
                "help": "The workflow hears of it and ends as it sees fit.", "dry_run": true},
            {"action": "move-deadline", "allowed": true, "help": "Gives a deadline another time.",
                "args": [{"name": "name", "kind": "text", "required": true},
                    {"name": "at", "kind": "time", "required": true}], "dry_run": true},
            {"action": "restart", "allowed": true, "help": "Starts a new run.", "dry_run": true,
                "args": [{"name": "key", "kind": "text", "required": true},
                    {"name": "input", "kind": "json", "required": false}]},
        ],
        "revision": 41,
    });
    value
        .as_object_mut()
        .unwrap()
        .extend(more.as_object().unwrap().clone());
    parse(value)
}

/// What a server says that an act on run 1 would do.
pub(crate) fn would() -> Done {
    let before = json!({"status": "stuck", "state": "grace", "data": {"tries": 3}, "revision": 41});
    let after = json!({"status": "due", "state": "grace", "data": {"tries": 0}, "revision": 42});
    Done::Would(parse(json!({
        "run_id": id(1), "revision": 42, "dry_run": true, "before": before, "after": after,
        "effects": ["It is tried again now \u{1b}[31m."],
    })))
}

pub(crate) fn run_answer(run: RunDetail, content: Content) -> Answer {
    Answer::Run(Box::new(RunAnswer {
        run,
        tenant: None,
        clock: None,
        content,
    }))
}

pub(crate) fn detail_answer(number: u8, content: Content) -> Answer {
    run_answer(detail(number), content)
}

pub(crate) fn transitions() -> Vec<Transition> {
    parse(json!([
        {"visit": 1, "at": "2026-11-18T09:00:00Z", "event": "entered", "to_state": "past_due", "outcome": "moved"},
        {"visit": 2, "at": "2026-11-20T16:12:40Z", "event": "retry", "from_state": "past_due",
            "to_state": "past_due", "outcome": "stuck", "actor": "sam", "detail": {"reason": "card is fixed"}},
    ]))
}

pub(crate) fn steps() -> Vec<Step> {
    parse(json!([
        {"visit": 1, "seq": 0, "name": "notify", "answer": {"sent": true}, "recorded_at": "2026-11-18T08:59:58Z"},
        {"visit": 2, "seq": 0, "name": "charge", "recorded_at": "2026-11-20T16:12:40Z",
            "error": {"code": "account_closed", "message": "The account \u{1b}[1mis closed."}},
    ]))
}

pub(crate) fn signals() -> Vec<Signal> {
    parse(json!([
        {"signal_id": "evt_1", "name": "payment_failed", "payload": {"payment_failed": {"code": "x"}},
            "received_at": "2026-11-18T09:00:00Z", "outcome": "accepted"},
        {"signal_id": "evt_2", "name": "resume", "payload": "resume",
            "received_at": "2026-11-19T09:00:00Z", "outcome": "rejected", "reason": "grace rejects it"},
    ]))
}

pub(crate) fn mails() -> Vec<Mail> {
    parse(json!([
        {"notice_id": id(31), "tenant_id": id(101), "kind": "payment_failed", "to": "ops@acme.example",
            "subject": "Your payment \u{1b}]0;x\u{7}failed", "status": "sent", "sent_at": "2026-11-18T09:00:00Z",
            "body_text": "Dear Acme,\n\nwe could not charge your card. Please add another one before 26 November, \
                or your plan will change.\n"},
        {"notice_id": id(32), "tenant_id": id(101), "kind": "renewed", "to": "ops@acme.example",
            "subject": "Renewed", "status": "queued", "body_text": "Thank you."},
    ]))
}

/// Schedule 2 follows a test clock.
pub(crate) fn schedule(number: u8) -> Schedule {
    parse(schedule_json(number))
}

fn schedule_json(number: u8) -> Value {
    json!({
        "schedule_id": id(number), "tenant_id": id(101), "tenant_name": "Acme GmbH",
        "test_clock_id": (number == 2).then(|| id(90)), "name": format!("nightly-{number}"),
        "workflow": "notice", "input": {"recovered": {}}, "cron": "30 2 * * *", "zone": "Europe/Berlin",
        "overlap": "skip", "catch_up": "one", "jitter_seconds": 0, "paused": false, "revision": 7,
        "next_slot": "2026-11-24T01:30:00Z", "created_at": "2026-01-01T00:00:00Z",
        "changed_at": "2026-01-01T00:00:00Z",
    })
}

pub(crate) fn schedule_detail(number: u8) -> ScheduleDetail {
    let mut value = schedule_json(number);
    let more = json!({
        "coming": ["2027-02-09T01:30:00Z", "2027-02-10T01:30:00Z"],
        "slots": [
            {"slot": "2026-11-23T01:30:00Z", "outcome": "skipped", "reason": "overlap",
                "key": "nightly:2", "decided_at": "2026-11-23T01:30:00Z"},
            {"slot": "2026-11-22T01:30:00Z", "outcome": "started", "run_id": id(3), "run_status": "stuck",
                "key": "nightly:1 \u{1b}[2J", "decided_at": "2026-11-22T01:30:00Z"},
        ],
        "allowed_actions": [
            {"action": "update", "allowed": true, "help": "Changes it."},
            {"action": "pause", "allowed": true, "help": "Stops its slots from coming about."},
            {"action": "resume", "allowed": false, "help": "Goes on.", "reason": "it is not paused"},
            {"action": "run-now", "allowed": true, "help": "Starts an extra run."},
        ],
    });
    let members = value.as_object_mut().unwrap();
    members.extend(more.as_object().unwrap().clone());
    parse(value)
}

pub(crate) fn flow() -> FlowAnswer {
    FlowAnswer {
        limits: Ok(parse(json!([
            {"name": "charges", "concurrency": 5, "rate": {"count": 10, "period_seconds": 1, "burst": 20},
                "in_use": 5, "waiting": 12, "changed_at": "2026-11-23T13:00:00Z"},
            {"name": "mails \u{1b}[31m", "in_use": 1, "waiting": 0, "changed_at": "2026-11-22T13:00:00Z",
                "changed_by": "ada", "reason": "the provider asked us to"},
        ]))),
        pauses: Ok(parse(json!([
            {"scope": "tenant", "name": id(101), "since": "2026-11-23T12:00:00Z", "paused_by": "ada",
                "reason": "they move house", "waiting": 1},
        ]))),
        breakers: Ok(parse(json!([
            {"name": "stripe", "state": "open", "forced": false, "changed_at": "2026-11-23T14:00:00Z",
                "probe_at": "2026-11-23T14:05:00Z", "reason": "503 from upstream", "waiting": 3},
        ]))),
        weights: Err("Not found: tenants do not see this".to_owned()),
    }
}

pub(crate) fn hold(number: u8) -> LegalHold {
    let run = (number == 2).then(|| id(1));
    parse(
        json!({"hold_id": id(number), "tenant_id": id(101), "run_id": run,
        "since": "2026-10-01T09:00:00Z", "author": "ada", "reason": "a lawsuit"}),
    )
}

pub(crate) fn retention() -> RetentionAnswer {
    RetentionAnswer {
        policies: Ok(parse(json!([
            {"workflow": "dunning", "action": "keep"},
            {"workflow": "notice", "action": "drop", "keep_days": 30, "changed_by": "ada",
                "changed_at": "2026-11-01T09:00:00Z", "reason": "they hold addresses"},
        ]))),
        holds: Ok(vec![hold(1), hold(2)]),
    }
}

pub(crate) fn audit() -> Vec<AuditLine> {
    parse(json!([
        {"audit_id": id(203), "at": "2026-11-23T14:00:00Z", "actor": "ada", "role": "operator",
            "action": "set limit", "reason": "the provider \u{1b}[31m asked us to", "subject": "charges",
            "before": {"concurrency": 5, "rate": null}, "after": {"concurrency": 7, "rate": null}},
        {"audit_id": id(202), "at": "2026-11-23T13:30:00Z", "actor": "maria", "role": "support",
            "action": "retry", "reason": "the card is fixed", "run_id": id(1), "tenant_id": id(102),
            "revision": 41, "before": {"status": "stuck", "data": {"tries": 3}, "revision": 41},
            "after": {"status": "due", "data": {"tries": 0}, "revision": 42}},
        {"audit_id": id(201), "at": "2026-11-22T09:00:00Z", "actor": "ada", "role": "admin",
            "action": "rotate key", "reason": "once a year", "tenant_id": id(101),
            "before": null, "after": {"version": 2}},
    ]))
}

pub(crate) fn verbs() -> Vec<AllowedAction> {
    parse(json!([
        {"action": "retry", "allowed": true, "help": "Tries again now."},
        {"action": "signal", "allowed": true, "help": "Puts a message into its inbox.",
            "args": [{"name": "signal", "kind": "json", "required": true}]},
        {"action": "terminate", "allowed": false, "reason": "needs role operator", "help": "Ends it."},
    ]))
}

pub(crate) fn bulk(status: &str) -> BulkOperation {
    let done = if status == "prepared" { 0 } else { 6 };
    parse(
        json!({"bulk_operation_id": id(60), "status": status, "verb": "retry",
        "filter": "status:stuck workflow:dunning", "pace": 10, "stop_after": 5, "selected": 12,
        "done": done, "moved": done / 6, "refused": 0, "actor": "maria",
        "reason": "the provider \u{1b}[31m is back", "created_at": "2026-11-23T14:00:00Z"}),
    )
}

pub(crate) fn results() -> Vec<BulkResult> {
    parse(json!([
        {"run_id": id(1), "tenant_id": id(101), "tenant_name": "Acme GmbH", "workflow": "dunning", "key": "sub_001",
            "outcome": "done", "acted_at": "2026-11-23T14:02:00Z"},
        {"run_id": id(2), "tenant_id": id(102), "workflow": "dunning", "key": "sub_002",
            "outcome": "refused", "detail": "it is not stuck any more"},
        {"run_id": id(3), "tenant_id": id(103), "workflow": "dunning", "key": "sub_003",
            "outcome": "pending"},
    ]))
}

pub(crate) fn tenants() -> Vec<Tenant> {
    parse(json!([
        {"tenant_id": id(101), "name": "Acme GmbH", "email": "ops@acme.example", "zone": "Europe/Berlin",
            "shard_id": 7, "created_at": "2026-01-05T09:00:00Z", "test_clock_id": id(90),
            "default_payment_method": {"brand": "visa", "last4": "0341", "provider_id": "pm_1"}},
        {"tenant_id": id(102), "name": "Acme \u{202e}twin", "email": "x@acme.example", "zone": "UTC",
            "shard_id": 8, "created_at": "2026-01-06T09:00:00Z"},
    ]))
}

pub(crate) fn tenant_answer() -> TenantAnswer {
    let mut live = run_json(1);
    live["key"] = json!(format!("invoice-{}-0", id(71)));
    live["tenant_id"] = json!(id(101));
    TenantAnswer {
        tenant: tenants().remove(0),
        clock: Some(parse(
            json!({"test_clock_id": id(90), "tenant_id": id(101), "status": "ready",
            "now": "2026-12-20T09:00:00Z"}),
        )),
        subscriptions: Ok(parse(json!([
            {"subscription_id": id(70), "run_id": id(5), "tenant_id": id(101), "plan": "team-monthly",
                "plan_version": 1, "interval": "month", "status": "past_due", "price": {"amount": "49.00", "currency": "EUR"},
                "trial_ends_at": "2026-01-19T09:00:00Z", "period_start": "2026-12-05T09:00:00Z",
                "period_end": "2027-01-05T09:00:00Z"},
        ]))),
        invoices: Ok(parse(json!([
            {"invoice_id": id(71), "number": "2026-002", "status": "open", "attempts": 2,
                "reason": "cycle", "subtotal": {"amount": "49.00", "currency": "EUR"},
                "discount": nothing(), "tax": nothing(), "credited": nothing(), "balance_applied": nothing(),
                "total": {"amount": "49.00", "currency": "EUR"}, "period_start": "2026-12-05T09:00:00Z",
                "amount_due": {"amount": "49.00", "currency": "EUR"}, "period_end": "2027-01-05T09:00:00Z"},
            {"invoice_id": id(72), "number": "2026-001", "status": "paid", "attempts": 1,
                "reason": "cycle", "subtotal": {"amount": "49.00", "currency": "EUR"},
                "discount": nothing(), "tax": nothing(), "credited": nothing(), "balance_applied": nothing(),
                "total": {"amount": "49.00", "currency": "EUR"}, "period_start": "2026-11-05T09:00:00Z",
                "amount_due": {"amount": "0.00", "currency": "EUR"}, "period_end": "2026-12-05T09:00:00Z",
                "paid_at": "2026-11-05T09:01:00Z"},
        ]))),
        runs: Ok(vec![parse(live)]),
        schedules: Ok(vec![schedule(2)]),
        mails: Ok(mails()),
        holds: Ok(vec![hold(1)]),
        keys: Ok(parse(json!([
            {"version": 1, "master_key": "local", "created_at": "2026-01-05T09:00:00Z",
                "usable_at": "2026-01-05T09:00:00Z"},
        ]))),
        billing: billing(),
        life: super::life_samples::tenant_life(),
    }
}

/// The tenant's money, and what it may use.
pub(crate) fn billing() -> BillingAnswer {
    let eur = |amount: &str| json!({"amount": amount, "currency": "EUR"});
    BillingAnswer {
        details: Ok(vec![parse(json!({
            "subscription_id": id(70), "run_id": id(5), "tenant_id": id(101), "plan": "team-monthly",
            "plan_version": 1, "interval": "month", "status": "past_due", "price": eur("49.00"),
            "seats": 7, "period_start": "2026-12-05T09:00:00Z", "period_end": "2027-01-05T09:00:00Z",
            "items": [
                {"item": "plan", "name": "Team, monthly", "quantity": 1, "unit_price": eur("49.00")},
                {"item": "extra-storage", "name": "Extra storage", "quantity": 2, "unit_price": eur("10.00")},
            ],
            "intents": [
                {"kind": "cancel", "at": "2027-01-05T09:00:00Z", "with_period": true,
                    "details": {"credit": "none"}},
            ],
        }))]),
        debts: Ok(vec![parse(json!({
            "currency": "EUR", "state": "grace", "owed": eur("49.00"), "unpaid": [],
            "since": "2026-12-05T09:00:00Z", "next_attempt_at": "2026-12-24T09:00:00Z",
            "next_step": "shut", "next_step_at": "2026-12-26T09:00:00Z",
        }))]),
        credit: Ok(parse(json!({
            "balances": [eur("12.50")],
            "entries": [{"amount": eur("12.50"), "reason": "granted", "reference": id(73),
                "note": "an apology", "author": "maria", "created_at": "2026-12-01T09:00:00Z"}],
        }))),
        notes: Ok(Vec::new()),
        holds: Ok(parse(json!({
            "service": "read_only", "holds": [
                {"hold_id": id(74), "tenant_id": id(101), "kind": "fraud", "author": "maria",
                    "starts_at": "2026-12-06T09:00:00Z", "placed_at": "2026-12-06T09:00:00Z",
                    "blocks": {"changes": true, "access": false, "billing": false},
                    "reason": "ticket 17"},
            ],
        }))),
        entitlements: Ok(parse(json!({
            "tenant_id": id(101), "features": {
                "projects": {"value": 10, "enabled": true, "reason": "TARGETING_MATCH",
                    "source": {"kind": "plan", "subscription_id": id(70), "plan": "team-monthly", "version": 1}},
                "sso": {"value": true, "enabled": true, "reason": "STATIC",
                    "source": {"kind": "override", "author": "maria"}},
            },
        }))),
        usage: Ok(parse(json!([
            {"feature": "projects", "level": 8, "limit": 10, "percent": 80, "told_percent": 80,
                "reported_at": "2026-12-19T09:00:00Z"},
        ]))),
        plans: Ok(Vec::new()),
    }
}

fn nothing() -> serde_json::Value {
    json!({"amount": "0.00", "currency": "EUR"})
}

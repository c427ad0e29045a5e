//! The rules as tables.

use serde_json::json;

use super::*;

const CARD: &str = "pm_1";
/// Nothing was tried again within the ceiling's days.
static NEVER: BTreeMap<(String, Decimal), u32> = BTreeMap::new();

fn at(text: &str) -> DateTime<Utc> {
    text.parse().unwrap()
}

fn next(method: &str, usable: bool) -> Option<Next> {
    Some(Next {
        method: method.to_owned(),
        usable,
    })
}

fn unpaid(number: u128, subscription: u128, amount: i64, failed_at: &str) -> Unpaid {
    Unpaid {
        invoice_id: Uuid::from_u128(number),
        subscription_id: Uuid::from_u128(subscription),
        total: Money::new(Decimal::from(amount), "EUR".parse().unwrap()),
        finalized_at: at(failed_at),
        failed_at: at(failed_at),
        tried_at: at(failed_at),
        waits: Vec::new(),
        last: Attempt::Declined(Declined {
            generation: 1,
            class: DeclineClass::Soft,
        }),
        next: next(CARD, true),
    }
}

fn declined(class: DeclineClass) -> LastDecline {
    LastDecline {
        invoice_id: Uuid::from_u128(1),
        class,
        method: Some(CARD.to_owned()),
    }
}

fn facts<'a>(
    policy: &'a Policy,
    unpaid: &'a [Unpaid],
    last: &'a LastDecline,
    now: &str,
) -> Facts<'a> {
    Facts {
        unpaid,
        disputed: &[],
        last_decline: Some(last),
        retries: &NEVER,
        exempt_until: None,
        policy,
        asked_at: None,
        collect_now: false,
        now: at(now),
        zone: chrono_tz::UTC,
        seed: Uuid::from_u128(7),
    }
}

fn patient() -> Policy {
    let document = json!({
        "ladders": { "soft": { "days": [1, 3] } },
        "steps": [
            { "name": "grace", "day": 2, "action": "grace" },
            { "name": "suspension", "day": 5, "action": "suspend" },
        ],
        "end": { "day": 10, "action": "leave" },
    });
    Policy::parse(document).unwrap()
}

#[test]
fn the_built_in_ladder_climbs_at_ten_local_and_ends() {
    let policy = Policy::built_in();
    let berlin = calendar::zone("Europe/Berlin").unwrap();
    let soft = declined(DeclineClass::Soft);
    // Local day 2027-03-28, on which summer time begins.
    let open = [unpaid(1, 51, 19, "2027-03-27T23:00:00Z")];
    let mut facts = facts(&policy, &open, &soft, "2027-03-27T23:00:00Z");
    facts.zone = berlin;
    let mut seen = Vec::new();
    while let Some(next) = decide(&facts).retry_at {
        seen.push(next.to_rfc3339());
        facts.now = next;
        let due = decide(&facts);
        assert_eq!((due.rung, due.collect.len()), (true, 1), "{next}");
        facts.asked_at = Some(next);
        assert!(!decide(&facts).rung, "asked once");
    }
    assert_eq!(
        seen,
        [
            "2027-03-29T08:00:00+00:00",
            "2027-03-31T08:00:00+00:00",
            "2027-04-02T08:00:00+00:00",
            "2027-04-04T08:00:00+00:00",
        ]
    );
    let last = decide(&facts);
    assert_eq!(last.ends_at, Some(at("2027-04-06T08:00:00Z")));
    assert_eq!((last.stage, last.end), (Stage::PastDue, None));
    facts.now = at("2027-04-06T08:00:00Z");
    let over = decide(&facts);
    assert_eq!(
        (over.stage, over.end),
        (Stage::Exhausted, Some(EndAction::Cancel))
    );
    assert!(over.collect.is_empty() && over.retry_at.is_none() && over.holds.is_empty());
}

#[test]
fn the_stage_follows_from_the_day() {
    let policy = patient();
    let soft = declined(DeclineClass::Soft);
    let open = [unpaid(1, 51, 19, "2027-03-01T00:00:00Z")];
    let cases = [
        ("2027-03-01T12:00:00Z", Stage::PastDue, 0),
        ("2027-03-03T09:59:59Z", Stage::PastDue, 0),
        ("2027-03-03T10:00:00Z", Stage::Grace, 1),
        ("2027-03-06T09:59:59Z", Stage::Grace, 1),
        ("2027-03-06T10:00:00Z", Stage::Suspended, 1),
        // The end is to leave it: what was held stays held.
        ("2027-03-11T10:00:00Z", Stage::Exhausted, 1),
    ];
    for (now, stage, holds) in cases {
        let decision = decide(&facts(&policy, &open, &soft, now));
        assert_eq!(
            (decision.stage, decision.holds.len()),
            (stage, holds),
            "{now}"
        );
    }
    let decision = decide(&facts(&policy, &[], &soft, "2027-03-06T10:00:00Z"));
    assert_eq!(decision, Decision::clear(), "nothing is remembered");
    // With the older invoice gone the debt is younger.
    let younger = [unpaid(2, 51, 19, "2027-03-05T00:00:00Z")];
    let decision = decide(&facts(&policy, &younger, &soft, "2027-03-06T10:00:00Z"));
    assert_eq!(decision.stage, Stage::PastDue);
}

#[test]
fn what_is_held_is_what_is_unpaid() {
    let mut policy = patient();
    let soft = declined(DeclineClass::Soft);
    let day = "2027-03-01T00:00:00Z";
    let open = [
        unpaid(1, 51, 19, day),
        unpaid(2, 52, 19, day),
        unpaid(3, 51, 19, day),
    ];
    let now = "2027-03-04T00:00:00Z";
    let held = |policy: &Policy| -> Vec<Option<u128>> {
        let decision = decide(&facts(policy, &open, &soft, now));
        let on = decision.holds.iter().map(|hold| hold.subscription_id);
        on.map(|id| id.map(|id| id.as_u128())).collect()
    };
    assert_eq!(held(&policy), [Some(51), Some(52)]);
    policy.scope = Scope::Tenant;
    assert_eq!(held(&policy), [None]);
}

#[test]
fn each_class_has_its_ladder_and_another_method_begins_anew() {
    let mut policy = patient();
    policy.ladders.data.days = vec![4];
    let open = [unpaid(1, 51, 19, "2027-03-01T00:00:00Z")];
    let cases = [
        (DeclineClass::Soft, CARD, Some("2027-03-02T10:00:00Z")),
        (DeclineClass::Data, CARD, Some("2027-03-05T10:00:00Z")),
        (DeclineClass::Hard, CARD, None),
        (DeclineClass::Hard, "pm_2", Some("2027-03-02T10:00:00Z")),
    ];
    for (class, method, expected) in cases {
        let last = declined(class);
        let mut open = open.clone();
        open[0].next = next(method, true);
        let facts = facts(&policy, &open, &last, "2027-03-01T00:00:00Z");
        assert_eq!(
            decide(&facts).retry_at,
            expected.map(at),
            "{class:?} {method}"
        );
    }
    // Given again, it is tried at once, whatever it was declined for.
    let hard = declined(DeclineClass::Hard);
    let mut facts = facts(&policy, &open, &hard, "2027-03-01T00:00:00Z");
    facts.collect_now = true;
    assert_eq!(decide(&facts).collect.len(), 1);
}

#[test]
fn the_next_method_is_tried_at_once_or_on_the_ladder() {
    let at_once = patient();
    let mut on_ladder = patient();
    on_ladder.next_method = NextMethod::Ladder;
    let (start, rung) = ("2027-03-01T00:00:00Z", "2027-03-02T10:00:00Z");
    let cases = [
        (
            &at_once,
            DeclineClass::Hard,
            next("pm_2", true),
            1,
            Some(rung),
        ),
        (
            &at_once,
            DeclineClass::Data,
            next("pm_2", true),
            1,
            Some(rung),
        ),
        (
            &on_ladder,
            DeclineClass::Hard,
            next("pm_2", true),
            0,
            Some(rung),
        ),
        // Time may mend it: the same method is tried again.
        (
            &at_once,
            DeclineClass::Soft,
            next(CARD, true),
            0,
            Some(rung),
        ),
        // No method is left, whichever the provider would be asked for.
        (&at_once, DeclineClass::Hard, next(CARD, false), 0, None),
        (&at_once, DeclineClass::Hard, next("pm_2", false), 0, None),
        (&at_once, DeclineClass::Hard, None, 0, None),
    ];
    for (policy, class, next, switched, retry_at) in cases {
        let last = declined(class);
        let mut open = [unpaid(1, 51, 19, start)];
        open[0].last = Attempt::Declined(Declined {
            generation: 3,
            class,
        });
        open[0].next = next.clone();
        let decision = decide(&facts(policy, &open, &last, start));
        let expected = Switch {
            invoice_id: Uuid::from_u128(1),
            generation: 3,
        };
        assert_eq!(
            decision.switch,
            vec![expected; switched],
            "{class:?} {next:?}"
        );
        assert_eq!(decision.retry_at, retry_at.map(at), "{class:?} {next:?}");
        assert!(decision.collect.is_empty());
    }
}

#[test]
fn rungs_that_were_missed_are_one_attempt() {
    let policy = patient();
    let soft = declined(DeclineClass::Soft);
    let open = [unpaid(1, 51, 19, "2027-03-01T00:00:00Z")];
    let decision = decide(&facts(&policy, &open, &soft, "2027-03-04T12:00:00Z"));
    assert!(decision.rung);
    assert_eq!(decision.retry_at, None, "both rungs are behind");
    // An attempt that somebody else made on the way stands for the rungs before it.
    let mut tried = open.clone();
    tried[0].tried_at = at("2027-03-02T11:00:00Z");
    let decision = decide(&facts(&policy, &tried, &soft, "2027-03-02T12:00:00Z"));
    assert!(!decision.rung);
    assert_eq!(decision.retry_at, Some(at("2027-03-04T10:00:00Z")));
}

#[test]
fn the_ceiling_lets_the_oldest_through_first() {
    let policy = Policy::built_in();
    let soft = declined(DeclineClass::Soft);
    let day = "2027-03-01T00:00:00Z";
    let open = [unpaid(1, 51, 19, day), unpaid(2, 51, 19, day)];
    let tried = |method: &str, amount: i64, retries: u32| {
        BTreeMap::from([((method.to_owned(), Decimal::from(amount)), retries)])
    };
    for (retries, expected) in [(0, 2), (13, 2), (14, 1), (15, 0), (16, 0)] {
        let mut facts = facts(&policy, &open, &soft, "2027-03-02T10:00:00Z");
        let mut retries = tried(CARD, 19, retries);
        retries.extend(tried("pm_2", 19, 99));
        retries.extend(tried(CARD, 20, 99));
        facts.retries = &retries;
        let decision = decide(&facts);
        assert!(decision.rung);
        let first = decision.collect.first();
        assert_eq!(decision.collect.len(), expected, "{retries:?}");
        assert!(first.is_none_or(|first| first.as_u128() == 1));
    }
    let many = tried(CARD, 19, 99);
    let nothing = open.clone().map(|one| Unpaid { next: None, ..one });
    let mut without = facts(&policy, &nothing, &soft, "2027-03-02T10:00:00Z");
    without.retries = &many;
    assert_eq!(
        decide(&without).collect.len(),
        2,
        "nothing reaches a network"
    );
    // Each method has a ceiling of its own, and each amount on it.
    let mut several = open.clone();
    several[1].next = next("pm_2", true);
    let amounts = [unpaid(1, 51, 19, day), unpaid(2, 51, 20, day)];
    for open in [&several, &amounts] {
        let mut facts = facts(&policy, open, &soft, "2027-03-02T10:00:00Z");
        facts.retries = &many;
        let collected = decide(&facts).collect;
        assert_eq!(collected, [Uuid::from_u128(2)]);
    }
}

/// The same, with an attempt at it under way since an instant.
fn tried_since(one: Unpaid, since: Option<&str>) -> Unpaid {
    let attempt = UnderWay {
        since: since.map(at),
        waits_for: WaitsFor::Bank,
    };
    Unpaid {
        last: Attempt::UnderWay(attempt),
        ..one
    }
}

#[test]
fn what_an_attempt_is_under_way_for_stands_still() {
    let policy = patient();
    let soft = declined(DeclineClass::Soft);
    let owed = unpaid(1, 51, 19, "2027-03-01T00:00:00Z");
    let cases = [
        // Sent before grace, in it, and in the suspension; looked at whenever, also after the end.
        (Some("2027-03-02T10:00:00Z"), Stage::PastDue, 0),
        (Some("2027-03-04T10:00:00Z"), Stage::Grace, 1),
        (Some("2027-03-07T10:00:00Z"), Stage::Suspended, 1),
        (Some("2027-03-12T10:00:00Z"), Stage::Exhausted, 1),
    ];
    for (sent, stage, holds) in cases {
        let open = [tried_since(owed.clone(), sent)];
        for now in ["2027-03-12T11:00:00Z", "2027-04-20T00:00:00Z"] {
            let mut facts = facts(&policy, &open, &soft, now);
            facts.collect_now = true;
            let decision = decide(&facts);
            assert_eq!(
                (decision.stage, decision.holds.len()),
                (stage, holds),
                "{sent:?} {now}"
            );
            assert!(decision.waits && !decision.rung);
            assert!(decision.collect.is_empty() && decision.switch.is_empty());
            assert_eq!((decision.end, decision.retry_at), (None, None));
            assert_eq!((decision.next_step, decision.ends_at), (None, None));
        }
    }
    // About to be sent: as it is now.
    let open = [tried_since(owed, None)];
    let decision = decide(&facts(&policy, &open, &soft, "2027-03-04T10:00:00Z"));
    assert_eq!((decision.stage, decision.rung), (Stage::Grace, false));
}

#[test]
fn what_is_owed_beside_it_has_a_ladder_of_its_own() {
    let mut policy = Policy::built_in();
    let soft = declined(DeclineClass::Soft);
    let older = unpaid(1, 51, 19, "2027-03-01T00:00:00Z");
    let open = [
        tried_since(older.clone(), Some("2027-03-02T10:00:00Z")),
        unpaid(2, 52, 19, "2027-03-08T00:00:00Z"),
    ];
    let decided = |policy: &Policy, now: &str| decide(&facts(policy, &open, &soft, now));
    // The older one's ladder would have ended on the tenth.
    let decision = decided(&policy, "2027-03-10T10:00:00Z");
    assert_eq!((decision.stage, decision.end), (Stage::PastDue, None));
    assert_eq!(decision.since, Some(at("2027-03-08T00:00:00Z")));
    assert_eq!(decision.ends_at, Some(at("2027-03-17T10:00:00Z")));
    assert_eq!(decision.collect, [Uuid::from_u128(2)]);
    assert!(decision.waits);
    let decision = decided(&policy, "2027-03-17T10:00:00Z");
    assert_eq!(decision.end, Some(EndAction::Cancel));
    // What the older one was held for stays beside what the younger one is.
    policy.steps = patient().steps;
    let open = [
        tried_since(older, Some("2027-03-07T10:00:00Z")),
        unpaid(2, 52, 19, "2027-03-08T00:00:00Z"),
    ];
    let decision = decide(&facts(&policy, &open, &soft, "2027-03-10T10:00:00Z"));
    let held: Vec<(Option<u128>, Kind)> = decision
        .holds
        .iter()
        .map(|hold| (hold.subscription_id.map(|id| id.as_u128()), hold.kind))
        .collect();
    assert_eq!(
        held,
        [
            (Some(52), Kind::DebtGrace),
            (Some(51), Kind::DebtSuspension)
        ]
    );
}

#[test]
fn an_exemption_spares_steps_and_end_and_attempts_go_on() {
    let policy = patient();
    let soft = declined(DeclineClass::Soft);
    let open = [unpaid(1, 51, 19, "2027-03-01T00:00:00Z")];
    let until = at("2027-03-20T00:00:00Z");
    let mut facts = facts(&policy, &open, &soft, "2027-03-12T00:00:00Z");
    facts.exempt_until = Some(until);
    let spared = decide(&facts);
    assert_eq!((spared.stage, spared.end), (Stage::PastDue, None));
    assert!(spared.holds.is_empty());
    assert!(spared.rung, "attempts go on");
    assert_eq!(spared.ends_at, Some(until));
    assert_eq!(spared.exempt_until, Some(until));
    let next = spared.next_step.unwrap();
    assert_eq!((next.step.as_str(), next.at), ("suspension", until));
    facts.now = until;
    assert_eq!(decide(&facts).stage, Stage::Exhausted, "it is over");
}

#[test]
fn a_step_holds_only_while_its_conditions_do() {
    let soft = declined(DeclineClass::Soft);
    let day = "2027-03-01T00:00:00Z";
    let one = [unpaid(1, 51, 19, day)];
    let two = [unpaid(1, 51, 19, day), unpaid(2, 51, 19, day)];
    let step = |when: serde_json::Value| {
        let document = json!({
            "ladders": { "soft": {} },
            "steps": [{ "name": "shut", "day": 1, "action": "suspend", "when": when }],
            "end": { "day": 30, "action": "cancel" },
        });
        Policy::parse(document).unwrap()
    };
    let hard = declined(DeclineClass::Hard);
    let cases = [
        (json!({}), &one[..], &soft, true),
        (json!({ "unpaid_at_least": 2 }), &one[..], &soft, false),
        (json!({ "unpaid_at_least": 2 }), &two[..], &soft, true),
        (
            json!({ "amount_at_least": { "EUR": "19.00" } }),
            &one[..],
            &soft,
            true,
        ),
        (
            json!({ "amount_at_least": { "EUR": "19.01" } }),
            &one[..],
            &soft,
            false,
        ),
        (
            json!({ "amount_at_least": { "EUR": "38" } }),
            &two[..],
            &soft,
            true,
        ),
        (
            json!({ "amount_at_least": { "USD": "500" } }),
            &one[..],
            &soft,
            true,
        ),
        (
            json!({ "last_decline": ["hard", "data"] }),
            &one[..],
            &soft,
            false,
        ),
        (
            json!({ "last_decline": ["hard", "data"] }),
            &one[..],
            &hard,
            true,
        ),
        (json!({ "oldest_days_at_least": 3 }), &one[..], &soft, false),
        (json!({ "oldest_days_at_least": 2 }), &one[..], &soft, true),
    ];
    for (when, open, last, held) in cases {
        let policy = step(when.clone());
        let decision = decide(&facts(&policy, open, last, "2027-03-03T10:00:00Z"));
        assert_eq!(decision.stage == Stage::Suspended, held, "{when}");
        let comes = decision.next_step.map(|next| next.at);
        let aged = when.get("oldest_days_at_least").is_some() && !held;
        assert_eq!(comes, aged.then(|| at("2027-03-04T10:00:00Z")), "{when}");
    }
}

#[test]
fn jitter_stays_within_its_bound_and_is_the_same_each_time() {
    let mut policy = Policy::built_in();
    policy.jitter_minutes = 90;
    let soft = declined(DeclineClass::Soft);
    let open = [unpaid(1, 51, 19, "2027-03-01T00:00:00Z")];
    let mut seen = std::collections::BTreeSet::new();
    for seed in 0..50 {
        let mut facts = facts(&policy, &open, &soft, "2027-03-01T00:00:00Z");
        facts.seed = Uuid::from_u128(seed);
        let first = decide(&facts).retry_at.unwrap();
        assert_eq!(decide(&facts).retry_at, Some(first));
        assert!(first >= at("2027-03-02T10:00:00Z") && first < at("2027-03-02T11:30:00Z"));
        seen.insert(first);
    }
    assert!(seen.len() > 40, "{} different instants", seen.len());
}

#[test]
fn what_is_disputed_is_held_for_beside_what_is_unpaid() {
    let policy = patient();
    let soft = declined(DeclineClass::Soft);
    let one = |action| Disputed {
        subscription_id: Uuid::from_u128(52),
        lost: false,
        opened_at: at("2027-02-20T00:00:00Z"),
        action,
    };
    let suspends = [one(DisputeAction::Suspend)];
    let mut facts = facts(&policy, &[], &soft, "2027-03-01T12:00:00Z");
    facts.disputed = &suspends;
    let held = decide(&facts);
    assert_eq!((held.stage, held.holds.len()), (Stage::Suspended, 1));
    assert_eq!(held.since, Some(at("2027-02-20T00:00:00Z")));
    assert!(held.collect.is_empty() && held.retry_at.is_none());
    facts.exempt_until = Some(at("2027-03-10T00:00:00Z"));
    let spared = decide(&facts);
    assert_eq!((spared.stage, spared.holds.len()), (Stage::PastDue, 0));
    assert_eq!(spared.exempt_until, facts.exempt_until);
    facts.exempt_until = None;
    // The ladder's own hold on the same subscription gives way to one that suspends.
    let open = [unpaid(1, 52, 19, "2027-03-01T00:00:00Z")];
    facts.unpaid = &open;
    facts.now = at("2027-03-03T12:00:00Z");
    let both = decide(&facts);
    assert_eq!((both.stage, both.holds.len()), (Stage::Suspended, 1));
    assert_eq!(both.holds[0].kind, Kind::DebtSuspension);
    let leaves = [one(DisputeAction::Leave)];
    facts.disputed = &leaves;
    assert_eq!(decide(&facts).stage, Stage::Grace);
}

/// After which waits what is how, at an instant.
struct Late {
    /// When each attempt was sent, and answered.
    waits: &'static [(&'static str, &'static str)],
    now: &'static str,
    stage: Stage,
    retry: Option<&'static str>,
    step: Option<&'static str>,
    end: &'static str,
}

/// Grace on day 2, suspension on day 5, the end on day 10, each at ten; tried again on days 1 and 3.
const LATE: [Late; 6] = [
    // The rung of the first day waits for 19 days: two days to the next rung, as before.
    Late {
        waits: &[("2027-03-02T10:00:00Z", "2027-03-21T09:00:00Z")],
        now: "2027-03-21T09:00:00Z",
        stage: Stage::PastDue,
        retry: Some("2027-03-23T10:00:00Z"),
        step: Some("2027-03-22T10:00:00Z"),
        end: "2027-03-30T10:00:00Z",
    },
    // What had come when it was sent stays.
    Late {
        waits: &[("2027-03-04T10:00:00Z", "2027-03-10T08:00:00Z")],
        now: "2027-03-10T08:00:00Z",
        stage: Stage::Grace,
        retry: None,
        step: Some("2027-03-12T10:00:00Z"),
        end: "2027-03-17T10:00:00Z",
    },
    // Two that waited, one after the other.
    Late {
        waits: &[
            ("2027-03-02T10:00:00Z", "2027-03-07T12:00:00Z"),
            ("2027-03-09T10:00:00Z", "2027-03-14T12:00:00Z"),
        ],
        now: "2027-03-14T12:00:00Z",
        stage: Stage::Grace,
        retry: None,
        step: Some("2027-03-16T10:00:00Z"),
        end: "2027-03-21T10:00:00Z",
    },
    // An answer of the same day moves nothing.
    Late {
        waits: &[("2027-03-02T10:00:00Z", "2027-03-02T10:00:05Z")],
        now: "2027-03-02T11:00:00Z",
        stage: Stage::PastDue,
        retry: Some("2027-03-04T10:00:00Z"),
        step: Some("2027-03-03T10:00:00Z"),
        end: "2027-03-11T10:00:00Z",
    },
    // What would come with the answer comes a day later.
    Late {
        waits: &[("2027-03-03T08:00:00Z", "2027-03-08T11:00:00Z")],
        now: "2027-03-08T11:00:00Z",
        stage: Stage::PastDue,
        retry: Some("2027-03-09T10:00:00Z"),
        step: Some("2027-03-09T10:00:00Z"),
        end: "2027-03-16T10:00:00Z",
    },
    // One that was sent when the ladder had ended brings nothing back.
    Late {
        waits: &[("2027-03-12T10:00:00Z", "2027-03-19T10:00:00Z")],
        now: "2027-03-19T10:00:00Z",
        stage: Stage::Exhausted,
        retry: None,
        step: None,
        end: "2027-03-11T10:00:00Z",
    },
];

fn waited(one: Unpaid, waits: &[(&str, &str)]) -> Unpaid {
    let waits = waits.iter().map(|(sent, answered)| Waited {
        sent_at: at(sent),
        answered_at: at(answered),
    });
    let waits: Vec<Waited> = waits.collect();
    let tried_at = waits.last().unwrap().answered_at;
    Unpaid {
        waits,
        tried_at,
        ..one
    }
}

#[test]
fn after_a_late_no_what_lay_ahead_keeps_its_distance() {
    let policy = patient();
    let soft = declined(DeclineClass::Soft);
    let owed = unpaid(1, 51, 19, "2027-03-01T00:00:00Z");
    for late in LATE {
        let open = [waited(owed.clone(), late.waits)];
        let decision = decide(&facts(&policy, &open, &soft, late.now));
        let now = late.now;
        assert_eq!(decision.stage, late.stage, "{now}");
        assert_eq!(decision.retry_at, late.retry.map(at), "{now}");
        let next = decision.next_step.map(|next| next.at);
        assert_eq!(next, late.step.map(at), "{now}");
        match decision.end {
            Some(_) => assert!(at(late.end) <= at(now)),
            None => assert_eq!(decision.ends_at, Some(at(late.end)), "{now}"),
        }
        assert_eq!(decision.since, Some(at("2027-03-01T00:00:00Z")));
    }
    // Another debt that was not waited for comes first where it would have.
    let waits = [("2027-03-02T10:00:00Z", "2027-03-21T09:00:00Z")];
    let open = [
        waited(owed, &waits),
        unpaid(2, 52, 19, "2027-03-15T00:00:00Z"),
    ];
    let decision = decide(&facts(&policy, &open, &soft, "2027-03-21T09:00:00Z"));
    assert_eq!(decision.stage, Stage::Suspended);
    assert_eq!(decision.ends_at, Some(at("2027-03-25T10:00:00Z")));
}

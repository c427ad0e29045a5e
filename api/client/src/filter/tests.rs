//! The language by examples: what a line means, and what is said of one that means nothing.

use std::collections::BTreeMap;

use serde_json::json;

use super::{AttributeTest, Compare, Filter};
use crate::{AttributeKind, RunStatus, SearchAttribute, Workflow};

fn attribute(name: &str, kind: AttributeKind) -> SearchAttribute {
    SearchAttribute {
        name: name.to_owned(),
        kind,
    }
}

fn workflows() -> Vec<Workflow> {
    let workflow = |name: &str, states: &[&str], attributes: Vec<SearchAttribute>| Workflow {
        queue: "default".to_owned(),
        workflow: name.to_owned(),
        version: 1,
        states: states.iter().map(ToString::to_string).collect(),
        counts: BTreeMap::new(),
        attributes,
    };
    let subscription = vec![
        attribute("plan", AttributeKind::Text),
        attribute("ends", AttributeKind::Time),
        attribute("cancelled", AttributeKind::Bool),
        attribute("total", AttributeKind::Text),
    ];
    vec![
        workflow("dunning", &["Clear", "PastDue"], Vec::new()),
        workflow("subscription", &["Trialing", "Active"], subscription),
        workflow(
            "invoice",
            &["Open", "Active"],
            vec![attribute("total", AttributeKind::Number)],
        ),
    ]
}

#[test]
fn a_line_says_what_must_hold() {
    let line = r#"workflow:dunning -state:Clear status:stuck,no-handler tenant:"Acme GmbH, \"A\"" age:>3d attempt:>2 -visit:<=4 started:2027-01-31"#;
    let filter = Filter::parse(line).unwrap();
    assert_eq!(filter.workflow.any, ["dunning"]);
    assert_eq!(filter.state.none, ["Clear"]);
    assert_eq!(filter.status.any, [RunStatus::Stuck, RunStatus::NoHandler]);
    assert_eq!(filter.tenant.any, ["Acme GmbH, \"A\""]);
    assert_eq!((filter.age.from, filter.age.before), (Some(259_201), None));
    assert_eq!(
        (filter.attempt.from, filter.attempt.before),
        (Some(3), None)
    );
    assert_eq!((filter.visit.from, filter.visit.before), (Some(5), None));
    let run = "01a209f6-4a46-727d-af04-fed22f2f252b";
    let of = Filter::parse(&format!("parent:{run}")).unwrap();
    assert_eq!(of.parent.any, [run.parse::<uuid::Uuid>().unwrap()]);
    let refused = Filter::parse("parent:first").unwrap_err();
    assert_eq!(refused.detail, "\"first\" is no id of a run");
    let day = |text: &str| Some(text.parse().unwrap());
    assert_eq!(filter.started.from, day("2027-01-31T00:00:00Z"));
    assert_eq!(filter.started.before, day("2027-02-01T00:00:00Z"));
    assert_eq!(Filter::parse("  ").unwrap(), Filter::default());
}

#[test]
fn bounds_of_one_field_narrow_it() {
    let filter = Filter::parse("attempt:>=2 attempt:<5 attempt:<=8 attempt:>0").unwrap();
    assert_eq!(
        (filter.attempt.from, filter.attempt.before),
        (Some(2), Some(5))
    );
}

#[test]
fn what_cannot_be_understood_is_told_with_its_place() {
    let cases = [
        (
            "acme",
            "at character 1: \"acme\" needs a field, such as key:acme or tenant:acme",
        ),
        (
            "status:lost",
            "at character 8: no status \"lost\"; there are due, running,",
        ),
        (
            "key:a status:stuck,lost",
            "at character 20: no status \"lost\"",
        ),
        ("workflow:", "at character 10: workflow: needs a value"),
        (
            "key:\"a",
            "at character 5: the quote after key: is not closed",
        ),
        ("key:\"a\"b", "at character 8: a space is missing"),
        ("workflow:>a", "at character 1: workflow is equal or not"),
        (
            "key:a key:b",
            "at character 7: \"key\" is named twice; alternatives are written key:this,that",
        ),
        (
            "age:3d",
            "at character 1: an age is compared, such as age:>3d",
        ),
        ("age:>3", "at character 6: \"3\" is no age"),
        (
            "age:>99999999999d",
            "at character 6: \"99999999999d\" is no age",
        ),
        ("age:>é", "at character 6: \"é\" is no age"),
        ("attempt:many", "at character 9: \"many\" is no count"),
        ("attempt:1,2", "at character 11: attempt takes one value"),
        (
            "attempt:>1,2",
            "at character 12: attempt is compared with one value",
        ),
        (
            "-attempt:1",
            "at character 1: attempt cannot be excluded by one value",
        ),
        (
            "started:>soon",
            "at character 10: \"soon\" is no time; 2027-01-31",
        ),
        (
            "started:>+262142-12-31",
            "at character 10: \"+262142-12-31\" is no time",
        ),
        ("-:x", "at character 1: a field is missing"),
        ("tenant:äöü :x", "at character 12: a field is missing"),
    ];
    for (line, expected) in cases {
        let told = Filter::parse(line).unwrap_err().to_string();
        assert!(told.starts_with(expected), "{line}: {told}");
    }
}

#[test]
fn attributes_are_read_by_their_type() {
    let read = |line: &str| Filter::parse(line).unwrap().attributes(&workflows());
    let test = |name: &str, negated, compare| AttributeTest {
        name: name.to_owned(),
        negated,
        compare,
    };
    assert_eq!(
        read("attr.plan:starter,team -cancelled:yes ends:<2027-02-01").unwrap(),
        [
            test(
                "plan",
                false,
                Compare::OneOf(vec![json!("starter"), json!("team")])
            ),
            test("cancelled", true, Compare::OneOf(vec![json!(true)])),
            test(
                "ends",
                false,
                Compare::Under(json!("2027-02-01T00:00:00.000000Z"))
            ),
        ]
    );
    assert_eq!(
        read("workflow:invoice -total:>49.90").unwrap(),
        [test("total", false, Compare::AtMost(json!(49.9)))]
    );
    for (line, expected) in [
        (
            "colour:red",
            "at character 1: no field \"colour\"; there are workflow, state, status, tenant, key, parent, age, attempt, visit, started, and the attributes cancelled, ends, plan, total",
        ),
        (
            "workflow:dunning plan:x",
            "at character 18: no field \"plan\"; there are workflow, state, status, tenant, key, parent, age, attempt, visit, started, and no attributes",
        ),
        ("total:3", "at character 1: \"total\" has several types"),
        (
            "workflow:invoice total:much",
            "at character 24: \"much\" is not a number",
        ),
        (
            "workflow:invoice total:nan",
            "at character 24: \"nan\" is not a number",
        ),
        ("plan:>a", "at character 1: plan is equal or not"),
        (
            "cancelled:maybe",
            "at character 11: \"maybe\" is not true or false",
        ),
    ] {
        assert_eq!(
            read(line).unwrap_err().to_string().get(..expected.len()),
            Some(expected)
        );
    }
}

#[test]
fn states_are_found_as_people_write_them_and_unknown_names_are_refused() {
    let mut filter = Filter::parse("workflow:dunning state:past-due").unwrap();
    filter.spell_states(&workflows());
    assert_eq!(filter.state.any, ["PastDue"]);
    assert_eq!(filter.check_names(&workflows()), Ok(()));
    let told = |line: &str| {
        let filter = Filter::parse(line).unwrap();
        let error = filter.check_names(&workflows()).unwrap_err();
        (error.code, error.detail)
    };
    assert_eq!(
        told("workflow:dunnning"),
        (
            "unknown_workflow",
            "no workflow is called \"dunnning\"; there are dunning, invoice, subscription"
                .to_owned()
        )
    );
    assert_eq!(
        told("workflow:dunning state:Active"),
        (
            "unknown_state",
            "no state is called \"Active\"; there are Clear, PastDue".to_owned()
        )
    );
    let all = "no state is called \"Lost\"; there are Active, Clear, Open, PastDue, Trialing, and the attributes cancelled, ends, plan, total";
    assert_eq!(told("state:Lost"), ("unknown_state", all.to_owned()));
}

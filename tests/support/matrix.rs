//! What a story of the fault matrix has to show, and which workflows have one.

use std::collections::BTreeSet;
use std::path::Path;

use tenure_engine::testkit::Report;

/// Every fault was borne, and visits of these workflows were among what was broken.
pub(crate) fn assert_borne(report: &Report, workflows: &[&str]) {
    for workflow in workflows {
        let broken = report.workflows.contains(*workflow);
        assert!(broken, "no visit of {workflow} was broken: {report}");
    }
    assert!(report.is_clean(), "{report}");
}

/// The workflows of which some story of the suite says so, as its source shows.
pub(crate) fn borne_somewhere() -> BTreeSet<String> {
    let mut sources = Vec::new();
    let tests = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests");
    read_all(&tests, &mut sources);
    sources.iter().flat_map(|source| borne_in(source)).collect()
}

fn read_all(folder: &Path, sources: &mut Vec<String>) {
    for entry in std::fs::read_dir(folder).unwrap().flatten() {
        match entry.path() {
            path if path.is_dir() => read_all(&path, sources),
            path if path.extension().is_some_and(|end| end == "rs") => {
                sources.push(std::fs::read_to_string(path).unwrap());
            }
            _ => {}
        }
    }
}

/// What is in quotes in the calls of [`assert_borne`] by tests that play a matrix.
fn borne_in(source: &str) -> Vec<String> {
    let lines = source.lines();
    let code: Vec<&str> = lines
        .filter(|line| !line.trim_start().starts_with("//"))
        .collect();
    let code = code.join("\n");
    let mut borne = Vec::new();
    // A function ends with a brace that nothing stands before.
    for story in code.split("\n}\n") {
        if story.contains("#[tokio::test") && story.contains("= fault_matrix(") {
            for call in story.split(" assert_borne(").skip(1) {
                let call = call.split(");").next().unwrap_or_default();
                borne.extend(call.split('"').skip(1).step_by(2).map(str::to_owned));
            }
        }
    }
    borne
}

#[test]
fn only_a_test_that_plays_a_matrix_says_what_was_borne() {
    let story = "#[tokio::test]\nasync fn it_bears_every_fault() {
    let report = fault_matrix(scene, script).await.unwrap();
    // assert_borne(&report, &[\"hoped\"]);
    assert_borne(\n        &report,\n        &[\"one\", \"two\"],\n    );\n}\n";
    assert_eq!(borne_in(story), ["one", "two"]);
    assert!(borne_in(&story.replace("fault_matrix", "once")).is_empty());
    assert!(borne_in(&story.replace("#[tokio::test]", "")).is_empty());
}

//! The table of features names tests that exist.

use std::path::Path;

const TABLE: &str = include_str!("../docs/features.md");

/// The source of a test's module, and the test's own name.
fn source(test: &str) -> Option<(String, &str)> {
    let (module, name) = test.rsplit_once("::")?;
    let tests = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests");
    let file = tests.join(module.replace("::", "/")).with_extension("rs");
    Some((std::fs::read_to_string(file).ok()?, name))
}

#[test]
fn every_feature_has_a_test() {
    let rows = TABLE.lines().filter(|line| line.starts_with("| "));
    let rows = rows.filter(|line| !line.starts_with("| Feature"));
    let mut proven = 0;
    for row in rows {
        let last = row.trim_end_matches('|').rsplit('|').next().unwrap();
        let test = last.trim().trim_matches('`');
        let exists = source(test).is_some_and(|(source, name)| {
            let head = format!("fn {name}()");
            let before = source.split(&head).next().unwrap();
            source.contains(&head)
                && before
                    .lines()
                    .rev()
                    .take(8)
                    .any(|line| line.contains("test"))
        });
        assert!(exists, "no such test: {row}");
        proven += 1;
    }
    assert!(proven > 40, "{proven} features");
}

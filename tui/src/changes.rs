//! What differs between two JSON values, path by path.

use serde_json::{Map, Value};

/// One place at which a value changes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Change {
    /// Names on the way to it, joined by dots.
    pub(crate) path: String,
    /// What was there.
    pub(crate) before: String,
    /// What is there afterwards.
    pub(crate) after: String,
}

/// Every place at which `after` is not as `before`. Lists of another length are told as a whole.
pub(crate) fn between(before: &Value, after: &Value) -> Vec<Change> {
    let mut changes = Vec::new();
    collect("", Some(before), Some(after), &mut changes);
    changes
}

fn collect(path: &str, before: Option<&Value>, after: Option<&Value>, changes: &mut Vec<Change>) {
    if before == after {
        return;
    }
    match (before, after) {
        (Some(Value::Object(before)), Some(Value::Object(after))) if share(before, after) => {
            let added = after.keys().filter(|name| !before.contains_key(*name));
            for name in before.keys().chain(added) {
                let path = join(path, name);
                collect(&path, before.get(name), after.get(name), changes);
            }
        }
        (Some(Value::Array(before)), Some(Value::Array(after))) if before.len() == after.len() => {
            for (place, (before, after)) in before.iter().zip(after).enumerate() {
                let path = join(path, &place.to_string());
                collect(&path, Some(before), Some(after), changes);
            }
        }
        (before, after) => changes.push(Change {
            path: path.to_owned(),
            before: told(before),
            after: told(after),
        }),
    }
}

/// Whether two objects have a name in common: else one is not a change of the other.
fn share(before: &Map<String, Value>, after: &Map<String, Value>) -> bool {
    before.keys().any(|name| after.contains_key(name))
}

fn join(path: &str, name: &str) -> String {
    if path.is_empty() {
        name.to_owned()
    } else {
        format!("{path}.{name}")
    }
}

fn told(value: Option<&Value>) -> String {
    match value {
        None | Some(Value::Null) => "nothing".to_owned(),
        Some(Value::String(text)) => text.clone(),
        Some(other) => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn only_what_differs_is_told() {
        let before =
            json!({"status": "stuck", "data": {"Open": {"tries": 3, "id": "a"}}, "gone": 1});
        let after = json!({"status": "due", "data": {"Open": {"tries": 0, "id": "a"}}, "new": [1]});
        let told: Vec<_> = between(&before, &after)
            .into_iter()
            .map(|change| format!("{}: {} -> {}", change.path, change.before, change.after))
            .collect();
        let expected = [
            "data.Open.tries: 3 -> 0",
            "gone: 1 -> nothing",
            "status: stuck -> due",
            "new: nothing -> [1]",
        ];
        assert_eq!(told, expected);
    }

    #[test]
    fn another_state_is_told_as_a_whole() {
        let changes = between(&json!({"Open": {"a": 1}}), &json!({"Closed": {"b": 1}}));
        assert_eq!(changes.len(), 1);
        assert_eq!(changes[0].after, r#"{"Closed":{"b":1}}"#);
    }
}

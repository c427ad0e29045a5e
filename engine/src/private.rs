//! Private fields: which fields of payloads are shown to nobody unasked, and what stands in their place.
//!
//! A workflow names them in [`crate::Workflow::PRIVATE`]. A door that shows payloads to people shows
//! [`MASK`] for each, with all below it, and the audit keeps no more than that. Who edits what was shown
//! may leave masks where they stand: what they hide stays as it is. A mask that hides nothing is refused
//! from whoever sends it. Who has to see a field says why: [`crate::operator::reveal`].

use std::collections::BTreeSet;

use serde_json::Value;

/// What is shown in the place of a private field.
pub const MASK: &str = "[private]";

/// Which fields of a workflow's payloads are private.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Private(Names);

#[derive(Debug, Clone, PartialEq, Eq)]
enum Names {
    /// Fields of these names, at any depth.
    Only(BTreeSet<&'static str>),
    /// Nobody here knows what is private: everything.
    All,
}

impl Private {
    /// Fields of these names, at any depth.
    pub(crate) fn only(names: &[&'static str]) -> Self {
        Self(Names::Only(names.iter().copied().collect()))
    }

    /// Everything, where nobody knows what is private.
    pub(crate) const fn everything() -> Self {
        Self(Names::All)
    }

    /// What is private by either.
    #[must_use]
    pub fn or(self, other: Self) -> Self {
        match (self.0, other.0) {
            (Names::Only(mut names), Names::Only(more)) => {
                names.extend(more);
                Self(Names::Only(names))
            }
            _ => Self(Names::All),
        }
    }

    /// A payload as people are shown it.
    #[must_use]
    pub fn mask(&self, payload: Value) -> Value {
        match &self.0 {
            Names::Only(names) if names.is_empty() => payload,
            Names::Only(names) => mask(names, payload),
            // There is nothing to hide in it, and nobody could tell it from what is hidden.
            Names::All if payload.is_null() => payload,
            Names::All => MASK.into(),
        }
    }

    /// What was edited as it was shown, with what its masks hide. A list's item gets its own back only
    /// where the list is as long as it was and nothing else of the item was changed: nobody can tell
    /// otherwise which item it was. A mask that hides nothing stays.
    pub(crate) fn restore(&self, edited: Value, stored: &Value) -> Value {
        match &self.0 {
            Names::Only(names) if names.is_empty() => edited,
            Names::Only(names) => restore(names, edited, stored),
            Names::All if edited == MASK => stored.clone(),
            Names::All => edited,
        }
    }

    /// Where a mask stands in a payload that somebody sends, as a JSON Pointer (RFC 6901).
    pub(crate) fn find_mask(&self, payload: &Value) -> Option<String> {
        match &self.0 {
            Names::Only(names) if names.is_empty() => None,
            Names::Only(names) => find_mask(names, payload),
            Names::All => (payload == MASK).then(String::new),
        }
    }

    /// Looks for the field of a payload at the end of a path. A private one is one whole: what is in it is
    /// told to nobody who did not say why.
    pub(crate) fn find<'a>(&self, payload: &'a Value, path: &[String]) -> Found<'a> {
        if self.0 == Names::All {
            return if path.is_empty() {
                Found::Private(payload)
            } else {
                Found::Inside(0)
            };
        }
        let mut found = payload;
        for (depth, name) in path.iter().enumerate() {
            let below = match found {
                Value::Object(fields) => fields.get(name),
                Value::Array(items) => {
                    // Written as RFC 6901 writes it, so that one place has one name.
                    let place = name.parse::<usize>().ok();
                    let place = place.filter(|place| place.to_string() == *name);
                    place.and_then(|place| items.get(place))
                }
                _ => None,
            };
            let Some(below) = below else {
                return Found::Nowhere;
            };
            if found.is_object() && self.hides(name) {
                return if depth + 1 == path.len() {
                    Found::Private(below)
                } else {
                    Found::Inside(depth + 1)
                };
            }
            found = below;
        }
        Found::Shown
    }

    /// Where private fields of a payload are not as they were, as JSON Pointers.
    pub(crate) fn changed(&self, before: &Value, after: &Value) -> Vec<String> {
        let mut places = Vec::new();
        match &self.0 {
            Names::Only(names) => changed(names, Some(before), after, "", &mut places),
            Names::All if before == after => {}
            Names::All => places.push(String::new()),
        }
        places
    }

    fn hides(&self, name: &str) -> bool {
        match &self.0 {
            Names::Only(names) => names.contains(name),
            Names::All => true,
        }
    }
}

/// What a path leads to.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Found<'a> {
    /// A private field.
    Private(&'a Value),
    /// Something in a private field, which is one whole: so many names of the path lead to that.
    Inside(usize),
    /// Something that everybody is shown.
    Shown,
    /// Nothing.
    Nowhere,
}

fn changed(
    names: &BTreeSet<&str>,
    before: Option<&Value>,
    after: &Value,
    place: &str,
    places: &mut Vec<String>,
) {
    match after {
        Value::Object(fields) => {
            for (name, value) in fields {
                let place = format!("{place}/{}", escape(name));
                let before = before.and_then(|before| before.get(name));
                if !names.contains(name.as_str()) {
                    changed(names, before, value, &place, places);
                } else if before != Some(value) {
                    places.push(place);
                }
            }
        }
        Value::Array(items) => {
            for (nth, item) in items.iter().enumerate() {
                let before = before.and_then(|before| before.get(nth));
                changed(names, before, item, &format!("{place}/{nth}"), places);
            }
        }
        _ => {}
    }
}

fn mask(names: &BTreeSet<&str>, payload: Value) -> Value {
    match payload {
        Value::Object(fields) => {
            let fields = fields.into_iter().map(|(name, value)| {
                let value = if names.contains(name.as_str()) {
                    MASK.into()
                } else {
                    mask(names, value)
                };
                (name, value)
            });
            Value::Object(fields.collect())
        }
        Value::Array(items) => {
            let items = items.into_iter().map(|item| mask(names, item));
            Value::Array(items.collect())
        }
        plain => plain,
    }
}

fn restore(names: &BTreeSet<&str>, edited: Value, stored: &Value) -> Value {
    match (edited, stored) {
        (Value::Object(fields), Value::Object(kept)) => {
            let fields = fields.into_iter().map(|(name, value)| {
                let value = match kept.get(&name) {
                    Some(kept) if names.contains(name.as_str()) && value == MASK => kept.clone(),
                    Some(kept) => restore(names, value, kept),
                    None => value,
                };
                (name, value)
            });
            Value::Object(fields.collect())
        }
        (Value::Array(items), Value::Array(kept)) if items.len() == kept.len() => {
            let items = items.into_iter().zip(kept).map(|(item, kept)| {
                if item == mask(names, kept.clone()) {
                    kept.clone()
                } else {
                    item
                }
            });
            Value::Array(items.collect())
        }
        (edited, _) => edited,
    }
}

fn find_mask(names: &BTreeSet<&str>, payload: &Value) -> Option<String> {
    match payload {
        Value::Object(fields) => fields.iter().find_map(|(name, value)| {
            let step = format!("/{}", escape(name));
            if names.contains(name.as_str()) && value == MASK {
                return Some(step);
            }
            Some(step + &find_mask(names, value)?)
        }),
        Value::Array(items) => {
            let mut items = items.iter().enumerate();
            items.find_map(|(place, item)| Some(format!("/{place}{}", find_mask(names, item)?)))
        }
        _ => None,
    }
}

/// Why a payload does not fit a type. It is quoted only where no field of it is private.
pub(crate) fn misfit(private: &[&str], error: &serde_json::Error) -> String {
    let words = error.to_string();
    if private.is_empty() {
        words
    } else {
        unquoted(&words)
    }
}

/// What serde says of a payload that does not fit, without what it quotes of the payload.
fn unquoted(words: &str) -> String {
    let of_names = ["missing field", "duplicate field"];
    if of_names.iter().any(|start| words.starts_with(start)) {
        return words.to_owned();
    }
    match words.rsplit_once(", expected ") {
        Some((_, expected)) => format!("expected {expected}"),
        None => "something of it does not fit".to_owned(),
    }
}

/// The names along a JSON Pointer (RFC 6901), or `None` for what is none.
pub(crate) fn path_of(pointer: &str) -> Option<Vec<String>> {
    let names = pointer.strip_prefix('/')?.split('/');
    Some(
        names
            .map(|name| name.replace("~1", "/").replace("~0", "~"))
            .collect(),
    )
}

/// The JSON Pointer of a path.
pub(crate) fn pointer(path: &[String]) -> String {
    path.iter()
        .map(|name| format!("/{}", escape(name)))
        .collect()
}

fn escape(name: &str) -> String {
    name.replace('~', "~0").replace('/', "~1")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn private() -> Private {
        Private::only(&["email", "card"])
    }

    #[test]
    fn a_private_field_is_hidden_at_any_depth_with_all_below_it() {
        let payload = json!({
            "Waiting": {
                "email": "a@b.example",
                "note": "email",
                "people": [{ "email": null, "age": 3 }],
                "card": { "brand": "visa", "last4": "4242" },
            }
        });
        let shown = json!({
            "Waiting": {
                "email": MASK,
                "note": "email",
                "people": [{ "email": MASK, "age": 3 }],
                "card": MASK,
            }
        });
        assert_eq!(private().mask(payload.clone()), shown);
        assert_eq!(Private::only(&[]).mask(payload.clone()), payload);
        assert_eq!(Private::everything().mask(payload), MASK);
        assert_eq!(Private::everything().mask(Value::Null), Value::Null);
    }

    #[test]
    fn what_a_mask_hides_stays_and_a_mask_that_hides_nothing_is_found() {
        let stored = json!({
            "email": "a@b.example", "n": 1, "people": [{ "email": "x" }, { "email": "y", "age": 3 }],
        });
        let edited = |people: Value| json!({ "email": MASK, "n": 2, "people": people });
        let shown = json!([{ "email": MASK }, { "email": MASK, "age": 3 }]);
        let restored = private().restore(edited(shown), &stored);
        assert_eq!(restored["n"], 2);
        assert_eq!(restored["email"], "a@b.example");
        assert_eq!(restored["people"], stored["people"]);
        assert_eq!(private().find_mask(&restored), None);
        for (people, place) in [
            // One was taken out, or changed: whose address would it be?
            (json!([{ "email": MASK, "age": 3 }]), "/people/0/email"),
            (
                json!([{ "email": "z" }, { "email": MASK, "age": 4 }]),
                "/people/1/email",
            ),
            (
                json!([{ "email": "z" }, { "b/c~": { "card": MASK } }]),
                "/people/1/b~1c~0/card",
            ),
        ] {
            let restored = private().restore(edited(people), &stored);
            assert_eq!(private().find_mask(&restored).as_deref(), Some(place));
        }
        // In a field that is not private it is a text like any other.
        assert_eq!(private().find_mask(&json!({ "note": MASK })), None);
        let all = Private::everything();
        assert_eq!(all.restore(MASK.into(), &stored), stored);
        assert_eq!(all.find_mask(&stored), None);
    }

    #[test]
    fn a_field_is_found_by_its_pointer_and_a_private_one_is_one_whole() {
        let card = json!({ "last4": "4242" });
        let payload = json!({ "a/b": [{ "card": card }], "n": 1 });
        let find = |private: &Private, pointer: &str| {
            let path = path_of(pointer).expect("a pointer");
            match private.find(&payload, &path) {
                Found::Private(value) => value.to_string(),
                other => format!("{other:?}"),
            }
        };
        for (pointer, found) in [
            ("/a~1b/0/card", card.to_string().as_str()),
            ("/a~1b/0/card/last4", "Inside(3)"),
            ("/a~1b/0/card/elsewhere", "Inside(3)"),
            ("/a~1b/1", "Nowhere"),
            ("/a~1b/00/card", "Nowhere"),
            ("/n/x", "Nowhere"),
            ("/n", "Shown"),
        ] {
            assert_eq!(find(&private(), pointer), found, "{pointer}");
        }
        assert_eq!(find(&Private::everything(), "/n"), "Inside(0)");
        assert_eq!(
            Private::everything().find(&payload, &[]),
            Found::Private(&payload)
        );
        assert_eq!(find(&Private::only(&["n"]).or(private()), "/n"), "1");
        assert_eq!(private().or(Private::everything()), Private::everything());
        assert_eq!(path_of("n"), None);
    }

    #[test]
    fn private_fields_that_change_are_told_by_their_places() {
        let before = json!({ "email": "a", "people": [{ "email": "x" }], "n": 1 });
        let changed = |after: Value| private().changed(&before, &after);
        assert!(changed(before.clone()).is_empty());
        let after = json!({ "email": "b", "people": [{ "email": "x" }, { "card": null }], "n": 2 });
        assert_eq!(changed(after), ["/email", "/people/1/card"]);
    }

    #[test]
    fn what_does_not_fit_is_told_without_a_word_of_it() {
        for (words, told) in [
            (
                "invalid type: string \"a, expected b\", expected u32 at line 1 column 7",
                "expected u32 at line 1 column 7",
            ),
            ("unknown variant `Ada`, expected `Open`", "expected `Open`"),
            ("missing field `email`", "missing field `email`"),
            (
                "ada@a.example is no address",
                "something of it does not fit",
            ),
        ] {
            assert_eq!(unquoted(words), told);
        }
    }
}

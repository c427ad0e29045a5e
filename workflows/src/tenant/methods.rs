//! A tenant's payment methods in their order: which one is charged, and what becomes of the order. Pure.

use chrono::NaiveDate;

use crate::ports::stripe::Method;

/// Most methods of a tenant.
pub(super) const MAX_METHODS: usize = 20;

/// A method, as an attempt sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Offered {
    /// The method.
    pub(crate) method: Method,
    /// How often it was given.
    pub(crate) offer: i32,
    /// Whether what is to be charged was declined with it, since it was last given, in a way that time
    /// does not mend.
    pub(crate) refused: bool,
}

/// The method that an attempt is made with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Choice<'a> {
    /// Which one.
    pub(crate) offered: &'a Offered,
    /// Whether there is anything to be hoped of it.
    pub(crate) usable: bool,
}

/// Chooses of a tenant's methods, which come in its order: the first that has not expired and was not
/// refused. When there is none the provider has the last word: the first that has not expired, or the
/// first.
pub(crate) fn choose(methods: &[Offered], today: NaiveDate) -> Option<Choice<'_>> {
    let valid = |one: &&Offered| one.method.expires_on.is_none_or(|last| last >= today);
    let choice = |usable| move |offered| Choice { offered, usable };
    let first = methods.iter().find(|one| valid(one) && !one.refused);
    let hopeless = || methods.iter().find(valid).or(methods.first());
    first
        .map(choice(true))
        .or_else(|| hopeless().map(choice(false)))
}

/// The order once a method is given: at a place from 1 on, the others behind it; without a place it
/// takes that of the one that was charged first, which is gone then.
pub(super) fn place(order: &[String], method: &str, at: Option<u32>) -> Vec<String> {
    let replaced = order.first().filter(|_| at.is_none());
    let others = order
        .iter()
        .filter(|one| *one != method && Some(*one) != replaced);
    let mut order: Vec<String> = others.cloned().collect();
    let index = at.map_or(0, |at| at.saturating_sub(1));
    let index = usize::try_from(index).unwrap_or(usize::MAX);
    order.insert(index.min(order.len()), method.to_owned());
    order
}

/// The order as somebody wants it. Methods that came meanwhile and are not named follow as they were;
/// what is gone by then stays gone.
pub(super) fn reorder(order: &[String], wanted: &[String]) -> Vec<String> {
    let known = wanted.iter().filter(|one| order.contains(one));
    let rest = order.iter().filter(|one| !wanted.contains(one));
    known.chain(rest).cloned().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn offered(id: &str, expires_on: Option<&str>, refused: bool) -> Offered {
        Offered {
            method: Method {
                id: id.to_owned(),
                brand: "visa".to_owned(),
                last4: "4242".to_owned(),
                expires_on: expires_on.map(|day| day.parse().unwrap()),
            },
            offer: 1,
            refused,
        }
    }

    #[test]
    fn the_first_usable_method_is_charged() {
        let past = Some("2027-05-31");
        let today = Some("2027-06-01");
        let cases = [
            (vec![], None),
            (
                vec![("a", None, false), ("b", None, false)],
                Some(("a", true)),
            ),
            (
                vec![("a", None, true), ("b", None, false)],
                Some(("b", true)),
            ),
            (
                vec![("a", past, false), ("b", today, false)],
                Some(("b", true)),
            ),
            (
                vec![("a", None, true), ("b", past, false), ("c", None, false)],
                Some(("c", true)),
            ),
            // Nothing is left: the first that the provider may still take.
            (vec![("a", None, true)], Some(("a", false))),
            (
                vec![("a", None, true), ("b", None, true)],
                Some(("a", false)),
            ),
            (
                vec![("a", past, false), ("b", None, true)],
                Some(("b", false)),
            ),
            (
                vec![("a", past, false), ("b", past, true)],
                Some(("a", false)),
            ),
        ];
        for (methods, expected) in cases {
            let of =
                |(id, until, refused): &(&str, Option<&str>, bool)| offered(id, *until, *refused);
            let methods: Vec<Offered> = methods.iter().map(of).collect();
            let chosen = choose(&methods, "2027-06-01".parse().unwrap());
            let chosen = chosen.map(|one| (one.offered.method.id.as_str(), one.usable));
            assert_eq!(chosen, expected, "{methods:?}");
        }
    }

    #[test]
    fn a_method_takes_its_place() {
        let words =
            |text: &str| -> Vec<String> { text.split_whitespace().map(str::to_owned).collect() };
        let cases = [
            ("", "n", None, "n"),
            ("a b", "n", None, "n b"),
            ("a b", "b", None, "b"),
            ("a b", "a", None, "a b"),
            ("a b", "n", Some(1), "n a b"),
            ("a b", "n", Some(2), "a n b"),
            ("a b", "n", Some(9), "a b n"),
            ("a b c", "c", Some(1), "c a b"),
            ("a b c", "a", Some(2), "b a c"),
        ];
        for (before, method, at, after) in cases {
            let placed = place(&words(before), method, at);
            assert_eq!(placed, words(after), "{before} {method} {at:?}");
        }
        let reordered = reorder(&words("a b new"), &words("b gone a"));
        assert_eq!(reordered, words("b a new"));
    }
}

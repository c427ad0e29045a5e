//! The templates of mails, and the small language that they are written in. Pure.
//!
//! A template is a text file per kind and language: its first line is the subject, then come
//! paragraphs. `{name}` stands for a value. A paragraph that begins with `[name]` is there only if
//! the value is, one with `[!name]` only if it is not; several may stand in a row. The HTML part is
//! made of the same paragraphs, with all values escaped, so that the two parts cannot differ.

use std::collections::BTreeMap;

/// The values that a template may name.
pub(super) type Values = BTreeMap<&'static str, String>;

/// A language that mails are written in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Locale {
    /// English, which all others fall back to.
    En,
    /// German.
    De,
}

impl Locale {
    pub(super) const ALL: [Self; 2] = [Self::En, Self::De];

    /// The language of a BCP 47 tag, by its primary subtag; English for what nobody has written.
    pub(super) fn of_tag(tag: &str) -> Self {
        let primary = tag.split(['-', '_']).next().unwrap_or_default();
        Self::ALL
            .into_iter()
            .find(|locale| primary.eq_ignore_ascii_case(locale.tag()))
            .unwrap_or(Self::En)
    }

    /// Its own tag.
    pub(super) const fn tag(self) -> &'static str {
        match self {
            Self::En => "en",
            Self::De => "de",
        }
    }

    /// The template of that name.
    fn file(self, name: &str) -> Option<&'static str> {
        let files = match self {
            Self::En => FILES_EN,
            Self::De => FILES_DE,
        };
        files
            .iter()
            .find(|(known, _)| *known == name)
            .map(|(_, text)| *text)
    }
}

const FILES_EN: &[(&str, &str)] = &[
    ("layout", include_str!("../../templates/en/layout.txt")),
    ("reasons", include_str!("../../templates/en/reasons.txt")),
    (
        "trial_ending",
        include_str!("../../templates/en/trial_ending.txt"),
    ),
    (
        "renewal_coming",
        include_str!("../../templates/en/renewal_coming.txt"),
    ),
    ("receipt", include_str!("../../templates/en/receipt.txt")),
    (
        "payment_failed",
        include_str!("../../templates/en/payment_failed.txt"),
    ),
    (
        "action_needed",
        include_str!("../../templates/en/action_needed.txt"),
    ),
    (
        "card_expiring",
        include_str!("../../templates/en/card_expiring.txt"),
    ),
    ("grace", include_str!("../../templates/en/grace.txt")),
    (
        "suspended",
        include_str!("../../templates/en/suspended.txt"),
    ),
    (
        "final_notice",
        include_str!("../../templates/en/final_notice.txt"),
    ),
    (
        "cancelled",
        include_str!("../../templates/en/cancelled.txt"),
    ),
    (
        "recovered",
        include_str!("../../templates/en/recovered.txt"),
    ),
    ("limit", include_str!("../../templates/en/limit.txt")),
];

const FILES_DE: &[(&str, &str)] = &[
    ("layout", include_str!("../../templates/de/layout.txt")),
    ("reasons", include_str!("../../templates/de/reasons.txt")),
    (
        "trial_ending",
        include_str!("../../templates/de/trial_ending.txt"),
    ),
    (
        "renewal_coming",
        include_str!("../../templates/de/renewal_coming.txt"),
    ),
    ("receipt", include_str!("../../templates/de/receipt.txt")),
    (
        "payment_failed",
        include_str!("../../templates/de/payment_failed.txt"),
    ),
    (
        "action_needed",
        include_str!("../../templates/de/action_needed.txt"),
    ),
    (
        "card_expiring",
        include_str!("../../templates/de/card_expiring.txt"),
    ),
    ("grace", include_str!("../../templates/de/grace.txt")),
    (
        "suspended",
        include_str!("../../templates/de/suspended.txt"),
    ),
    (
        "final_notice",
        include_str!("../../templates/de/final_notice.txt"),
    ),
    (
        "cancelled",
        include_str!("../../templates/de/cancelled.txt"),
    ),
    (
        "recovered",
        include_str!("../../templates/de/recovered.txt"),
    ),
    ("limit", include_str!("../../templates/de/limit.txt")),
];

/// A written mail.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Words {
    pub(super) subject: String,
    pub(super) text: String,
    pub(super) html: String,
}

/// Writes a mail of a kind; `None` for a kind without a template.
pub(super) fn write(kind: &str, locale: Locale, values: &Values) -> Option<Words> {
    let source = locale.file(kind).or_else(|| Locale::En.file(kind))?;
    let layout = locale.file("layout").unwrap_or("{body}");
    let (subject, body) = source.split_once('\n').unwrap_or((source, ""));
    let subject = fill(subject.trim(), values, Part::Text);
    let part = |part: Part| {
        let paragraphs: Vec<String> = paragraphs(layout)
            .flat_map(|paragraph| match paragraph {
                "{body}" => present(body, values).collect(),
                fixed => vec![fixed],
            })
            .map(|paragraph| fill(paragraph, values, part))
            .collect();
        paragraphs
    };
    let text = format!("{}\n", part(Part::Text).join("\n\n"));
    let marked: String = part(Part::Html)
        .iter()
        .map(|paragraph| format!("<p>{paragraph}</p>"))
        .collect();
    let html = format!(
        "<!doctype html><html lang=\"{}\"><head><meta charset=\"utf-8\"><title>{}</title></head>\
         <body>{marked}</body></html>",
        locale.tag(),
        escape(&subject),
    );
    Some(Words {
        subject,
        text,
        html,
    })
}

/// Why a payment was refused, in words for the customer. A code that is not listed is told as a
/// refusal only: that a card counts as stolen is nothing to tell whoever uses it.
pub(super) fn reason(code: &str, locale: Locale) -> &'static str {
    let lines = locale.file("reasons").unwrap_or_default().lines();
    let known: BTreeMap<&str, &str> = lines.filter_map(|line| line.split_once(" = ")).collect();
    known
        .get(code)
        .or_else(|| known.get("*"))
        .copied()
        .unwrap_or_default()
}

fn paragraphs(text: &str) -> impl Iterator<Item = &str> {
    text.split("\n\n")
        .map(str::trim)
        .filter(|paragraph| !paragraph.is_empty())
}

/// The paragraphs whose conditions hold, without these.
fn present<'a>(body: &'a str, values: &Values) -> impl Iterator<Item = &'a str> {
    paragraphs(body).filter_map(|paragraph| {
        let mut rest = paragraph;
        while let Some((condition, after)) =
            rest.strip_prefix('[').and_then(|it| it.split_once(']'))
        {
            let holds = match condition.strip_prefix('!') {
                Some(absent) => !values.contains_key(absent),
                None => values.contains_key(condition),
            };
            if !holds {
                return None;
            }
            rest = after;
        }
        Some(rest.trim_start())
    })
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Part {
    Text,
    Html,
}

/// Fills values in. What a value holds is never read as a template.
fn fill(source: &str, values: &Values, part: Part) -> String {
    let mut filled = String::with_capacity(source.len());
    let mut rest = source;
    while let Some((before, after)) = rest.split_once('{') {
        filled.push_str(&fixed(before, part));
        let Some((name, after)) = after.split_once('}') else {
            rest = after;
            break;
        };
        let value = values.get(name).map_or("", String::as_str);
        match part {
            Part::Text => filled.push_str(value),
            Part::Html if name == "link" => {
                let value = escape(value);
                filled.push_str(&format!("<a href=\"{value}\">{value}</a>"));
            }
            Part::Html => filled.push_str(&escape(value)),
        }
        rest = after;
    }
    filled.push_str(&fixed(rest, part));
    filled
}

fn fixed(text: &str, part: Part) -> String {
    match part {
        Part::Text => text.to_owned(),
        Part::Html => escape(text),
    }
}

/// Escapes what HTML would take for markup.
pub(super) fn escape(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
        .replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_language_has_every_template_and_names_the_same_values() {
        let names = |text: &str| {
            let mut names: Vec<String> = text
                .split(['{', '['])
                .skip(1)
                .filter_map(|after| after.split(['}', ']']).next())
                .map(|name| name.trim_start_matches('!').to_owned())
                .collect();
            names.sort();
            names.dedup();
            names
        };
        for (name, english) in FILES_EN {
            let german = Locale::De.file(name).unwrap();
            assert_eq!(names(english), names(german), "{name}");
        }
        for kind in crate::notice::KINDS {
            assert!(Locale::En.file(kind).is_some(), "{kind}");
        }
        let keys = |text: &'static str| -> Vec<&str> {
            text.lines()
                .filter_map(|line| line.split(" = ").next())
                .collect()
        };
        let reasons = |locale: Locale| keys(locale.file("reasons").unwrap());
        assert_eq!(reasons(Locale::En), reasons(Locale::De));
    }

    #[test]
    fn a_language_is_found_by_its_first_part_and_falls_back_to_english() {
        let cases = [
            ("de", Locale::De),
            ("de-AT", Locale::De),
            ("DE_ch", Locale::De),
            ("en-GB", Locale::En),
            ("fr", Locale::En),
            ("deu", Locale::En),
            ("", Locale::En),
        ];
        for (tag, locale) in cases {
            assert_eq!(Locale::of_tag(tag), locale, "{tag}");
        }
    }

    #[test]
    fn a_stolen_card_is_not_told_to_whoever_uses_it() {
        assert_eq!(
            reason("insufficient_funds", Locale::En),
            "there was not enough money"
        );
        for code in [
            "stolen_card",
            "lost_card",
            "fraudulent",
            "some_new_code",
            "*",
        ] {
            assert_eq!(reason(code, Locale::En), "your bank refused it", "{code}");
        }
    }

    #[test]
    fn a_value_is_never_read_as_a_template_or_as_markup() {
        let values: Values = [("name", "{total} <b>Ada & Co</b>"), ("total", "19.00 EUR")]
            .map(|(name, value)| (name, value.to_owned()))
            .into();
        let words = write("recovered", Locale::En, &values).unwrap();
        assert!(
            words.text.starts_with("Hello {total} <b>Ada & Co</b>,\n\n"),
            "{}",
            words.text
        );
        let escaped = "<p>Hello {total} &lt;b&gt;Ada &amp; Co&lt;/b&gt;,</p>";
        assert!(words.html.contains(escaped), "{}", words.html);
    }
}

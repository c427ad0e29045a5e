//! What mails say. Pure.

use chrono::{DateTime, Utc};
use chrono_tz::Tz;

use super::Input;

/// A mail's words.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Words {
    pub(super) subject: String,
    pub(super) text: String,
}

/// Writes a mail to the tenant called `name`, with dates of its zone.
pub(super) fn write(input: &Input, name: &str, zone: Tz) -> Words {
    let (subject, body) = subject_and_body(input, zone);
    Words {
        subject,
        text: format!("Hello {name},\n\n{body}\n"),
    }
}

fn subject_and_body(input: &Input, zone: Tz) -> (String, String) {
    let day = |at: &DateTime<Utc>| at.with_timezone(&zone).format("%-d %B %Y").to_string();
    match input {
        Input::TrialEnding {
            plan,
            price,
            ends_at,
        } => (
            format!("Your trial ends on {}", day(ends_at)),
            format!(
                "Your trial of {plan} ends on {}. From then on it costs {price} a period, charged \
                 to your payment method. If you do nothing, everything goes on.",
                day(ends_at)
            ),
        ),
        Input::Receipt {
            number,
            total,
            paid_at,
        } => (
            format!("Receipt for invoice {number}: {total}"),
            format!(
                "We received {total} for invoice {number} on {}. Thank you.",
                day(paid_at)
            ),
        ),
        Input::PaymentFailed {
            code,
            next_attempt_at,
            ends_at,
            ..
        } => (
            "Your payment failed".to_owned(),
            payment_failed(
                code,
                next_attempt_at.as_ref().map(day),
                ends_at.as_ref().map(day),
            ),
        ),
        Input::Recovered {} => (
            "Your payment went through".to_owned(),
            "We received your payment. Nothing is owed any more, and everything goes on."
                .to_owned(),
        ),
        Input::Final {} => (
            "We could not collect your payment".to_owned(),
            "We tried several times and could not collect what is owed. Your subscription has \
             ended. You are welcome to start a new one."
                .to_owned(),
        ),
        Input::Cancelled {
            plan,
            ended_at,
            unpaid,
        } => (
            format!("{plan} has ended"),
            if *unpaid {
                format!(
                    "{plan} ended on {}, because it was not paid.",
                    day(ended_at)
                )
            } else {
                format!(
                    "{plan} ended on {}, as you wished. Thank you for having been with us.",
                    day(ended_at)
                )
            },
        ),
    }
}

fn payment_failed(code: &str, next: Option<String>, ends: Option<String>) -> String {
    let reason = code.replace('_', " ");
    match (next, ends) {
        (Some(next), _) => format!(
            "Your payment was refused ({reason}). We try again on {next}. If your card has \
             changed, give us the new one, and we try it at once."
        ),
        (None, Some(ends)) => format!(
            "Your payment was refused ({reason}). This was the last attempt: without another \
             payment method your subscription ends on {ends}."
        ),
        (None, None) => format!(
            "Your payment was refused ({reason}). We do not try this payment method again. Please \
             give us another one; we try it at once."
        ),
    }
}

/// The HTML part: the text, with what HTML would take for markup escaped.
pub(super) fn html(text: &str) -> String {
    let escaped = text
        .replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
        .replace('"', "&quot;");
    let paragraphs: String = escaped
        .split("\n\n")
        .map(|paragraph| format!("<p>{}</p>", paragraph.trim()))
        .collect();
    format!("<!doctype html><html><body>{paragraphs}</body></html>")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_cannot_smuggle_markup_into_the_html_part() {
        let words = write(&Input::Recovered {}, "<b>Ada & Co</b>", chrono_tz::UTC);
        let html = html(&words.text);
        assert!(html.contains("&lt;b&gt;Ada &amp; Co&lt;/b&gt;"), "{html}");
        assert!(!html.contains("<b>"), "{html}");
    }

    #[test]
    fn dates_are_the_tenants_days() {
        let zone = crate::calendar::zone("Europe/Berlin").unwrap();
        let input = Input::Cancelled {
            plan: "Team".to_owned(),
            ended_at: "2027-01-31T23:00:00Z".parse().unwrap(),
            unpaid: false,
        };
        let words = write(&input, "Ada", zone);
        assert!(
            words.text.contains("ended on 1 February 2027"),
            "{}",
            words.text
        );
    }
}

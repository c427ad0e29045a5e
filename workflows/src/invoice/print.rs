//! An invoice as a page: HTML of a template, with words in the tenant's language and dates of its
//! zone. Pure.

use chrono::{DateTime, Utc};
use chrono_tz::Tz;

use super::{InvoiceRow, LineRow};
use crate::money::Money;

const PAGE: &str = include_str!("../../templates/invoice/page.html");

/// The words of a language.
struct Words {
    lang: &'static str,
    invoice: &'static str,
    draft: &'static str,
    issued: &'static str,
    tax_id: &'static str,
    paid: &'static str,
    void: &'static str,
    what: &'static str,
    period: &'static str,
    quantity: &'static str,
    unit_price: &'static str,
    amount: &'static str,
    part: &'static str,
    discount: &'static str,
    tax_held: &'static str,
    total: &'static str,
    credited: &'static str,
    balance: &'static str,
    collected: &'static str,
    carried_over: &'static str,
    due: &'static str,
    proof: &'static str,
    day: &'static str,
}

const EN: Words = Words {
    lang: "en",
    invoice: "Invoice",
    draft: "Draft invoice",
    issued: "Issued",
    tax_id: "Tax ID",
    paid: "Paid",
    void: "Taken back: nothing is owed for it",
    what: "Item",
    period: "Period",
    quantity: "Quantity",
    unit_price: "Price",
    amount: "Amount",
    part: "of",
    discount: "Discount",
    tax_held: "of which",
    total: "Total",
    credited: "Credit notes",
    balance: "Paid from your balance",
    collected: "Carried over from earlier invoices",
    carried_over: "Carried over to the next invoice",
    due: "To be paid",
    proof: "Computed of",
    day: "%-d %B %Y",
};

const DE: Words = Words {
    lang: "de",
    invoice: "Rechnung",
    draft: "Rechnungsentwurf",
    issued: "Ausgestellt am",
    tax_id: "Steuer- oder USt-IdNr.",
    paid: "Bezahlt am",
    void: "Storniert: es ist nichts zu zahlen",
    what: "Position",
    period: "Zeitraum",
    quantity: "Menge",
    unit_price: "Einzelpreis",
    amount: "Betrag",
    part: "von",
    discount: "Nachlass",
    tax_held: "darin enthalten",
    total: "Gesamt",
    credited: "Gutschriften",
    balance: "Aus Ihrem Guthaben bezahlt",
    collected: "Übertrag aus früheren Rechnungen",
    carried_over: "Übertrag auf die nächste Rechnung",
    due: "Zu zahlen",
    proof: "Berechnet aus",
    day: "%d.%m.%Y",
};

/// For whom a page is.
#[derive(Debug, Clone)]
pub struct Addressee {
    /// The tenant's name.
    pub name: String,
    /// Its mail address.
    pub email: String,
    /// The zone of its dates.
    pub zone: Tz,
    /// BCP 47 tag of its language; English for what nobody has written.
    pub locale: String,
}

/// Writes an invoice as a page.
#[must_use]
pub fn page(row: &InvoiceRow, lines: &[LineRow], to: &Addressee) -> String {
    let german = to
        .locale
        .split(['-', '_'])
        .next()
        .is_some_and(|tag| tag.eq_ignore_ascii_case("de"));
    let words = if german { &DE } else { &EN };
    let title = match row.printed_number() {
        Some(number) => format!("{} {number}", words.invoice),
        None => words.draft.to_owned(),
    };
    let proof = row.priced_hash.as_ref();
    let proof = proof.map_or(String::new(), |hash| format!("{} {hash}", words.proof));
    let values = [
        ("lang", words.lang.to_owned()),
        ("title", escape(&title)),
        ("seller", seller(row, words)),
        ("tenant", escape(&to.name)),
        ("email", escape(&to.email)),
        ("dates", escape(&dates(row, to.zone, words))),
        ("what", words.what.to_owned()),
        ("period", words.period.to_owned()),
        ("quantity", words.quantity.to_owned()),
        ("unit_price", words.unit_price.to_owned()),
        ("amount", words.amount.to_owned()),
        ("lines", rows(row, lines, to.zone, words)),
        ("sums", sums(row, words)),
        ("proof", escape(&proof)),
    ];
    fill(PAGE, &values)
}

/// Fills a template in one pass, so that a value that looks like a place is none.
fn fill(template: &str, values: &[(&str, String)]) -> String {
    let mut page = String::with_capacity(template.len() * 2);
    let mut rest = template;
    while let Some(open) = rest.find('{') {
        let (before, after) = rest.split_at(open);
        page.push_str(before);
        let name = after[1..].split('}').next().unwrap_or_default();
        match values.iter().find(|(known, _)| *known == name) {
            Some((_, value)) => {
                page.push_str(value);
                rest = &after[name.len() + 2..];
            }
            None => {
                page.push('{');
                rest = &after[1..];
            }
        }
    }
    page.push_str(rest);
    page
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
        .replace('"', "&quot;")
}

/// Who issues it; nothing for the seller without a name.
fn seller(row: &InvoiceRow, words: &Words) -> String {
    let Some(seller) = &row.seller else {
        return String::new();
    };
    let lines = [&seller.name].into_iter().chain(&seller.address);
    let mut lines: Vec<String> = lines.map(|line| escape(line)).collect();
    lines.push(escape(&seller.country));
    if let Some(id) = &seller.tax_id {
        lines.push(format!("{} {}", words.tax_id, escape(id)));
    }
    format!("<p>{}</p>\n", lines.join("<br>"))
}

fn dates(row: &InvoiceRow, zone: Tz, words: &Words) -> String {
    let told = [(words.issued, row.finalized_at), (words.paid, row.paid_at)];
    let told = told.into_iter().filter_map(|(what, at)| Some((what, at?)));
    let mut told: Vec<String> = told
        .map(|(what, at)| format!("{what} {}", day(at, zone, words)))
        .collect();
    if row.status == "void" {
        told.push(words.void.to_owned());
    }
    told.join(" · ")
}

fn day(at: DateTime<Utc>, zone: Tz, words: &Words) -> String {
    at.with_timezone(&zone).format(words.day).to_string()
}

fn rows(row: &InvoiceRow, lines: &[LineRow], zone: Tz, words: &Words) -> String {
    let money = |amount| Money::new(amount, row.total.currency());
    let line = |line: &LineRow| {
        // The last day is the one before the end, which is exclusive.
        let last = line.period_end - chrono::TimeDelta::seconds(1);
        let mut period = format!(
            "{} – {}",
            day(line.period_start, zone, words),
            day(last.max(line.period_start), zone, words)
        );
        if line.units != line.units_of {
            period = format!("{period} ({} {} {})", line.units, words.part, line.units_of);
        }
        format!(
            "<tr><td>{}</td><td>{}</td><td class=\"amount\">{}</td><td class=\"amount\">{}</td><td class=\"amount\">{}</td></tr>\n",
            escape(&line.description),
            escape(&period),
            line.quantity.normalize(),
            money(line.unit_price),
            money(line.subtotal),
        )
    };
    lines.iter().map(line).collect()
}

fn sums(row: &InvoiceRow, words: &Words) -> String {
    let mut sums: Vec<(String, String)> = Vec::new();
    if !row.discount.is_zero() {
        sums.push((words.discount.to_owned(), format!("−{}", row.discount)));
    }
    if let Some(tax) = &row.tax_rate {
        let name = format!("{} {} %", tax.name, tax.percent.normalize());
        let name = if tax.inclusive {
            format!("{} {name}", words.tax_held)
        } else {
            name
        };
        sums.push((name, row.tax.to_string()));
    }
    sums.push((words.total.to_owned(), row.total.to_string()));
    let collected = row.collected();
    if !collected.is_zero() {
        sums.push((words.collected.to_owned(), collected.to_string()));
    }
    for (name, amount) in [
        (words.credited, row.credited),
        (words.balance, row.paid_by_balance()),
        (words.carried_over, row.carried_over),
    ] {
        if !amount.is_zero() {
            sums.push((name.to_owned(), format!("−{amount}")));
        }
    }
    sums.push((words.due.to_owned(), row.due().to_string()));
    let sum = |(name, amount): (String, String)| {
        format!(
            "<tr><th colspan=\"4\">{}</th><td class=\"amount\">{}</td></tr>\n",
            escape(&name),
            escape(&amount)
        )
    };
    sums.into_iter().map(sum).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::catalog::Seller;
    use crate::pricing::Tax;

    fn money(amount: &str) -> Money {
        Money::new(amount.parse().unwrap(), "EUR".parse().unwrap())
    }

    fn at(text: &str) -> DateTime<Utc> {
        text.parse().unwrap()
    }

    /// A change, open, of the seller without a name.
    fn row() -> InvoiceRow {
        InvoiceRow {
            invoice_id: uuid::Uuid::nil(),
            subscription_id: uuid::Uuid::nil(),
            status: "open".to_owned(),
            reason: "change".to_owned(),
            number: Some(7),
            legal_entity: Some(String::new()),
            seller: None,
            subtotal: money("32.67"),
            discount: money("2.67"),
            tax: money("5.70"),
            tax_rate: Some(Tax {
                name: "USt.".to_owned(),
                percent: "19".parse().unwrap(),
                inclusive: false,
            }),
            total: money("35.70"),
            credited: money("0"),
            balance_applied: money("5.70"),
            carried_over: money("0"),
            attempts: 0,
            period_start: at("2027-06-10T22:00:00Z"),
            period_end: at("2027-06-30T22:00:00Z"),
            finalized_at: Some(at("2027-06-10T23:30:00Z")),
            paid_at: None,
            priced_hash: Some("ab".repeat(32)),
            zone: None,
        }
    }

    fn addressee() -> Addressee {
        Addressee {
            name: "Bäcker & Co".to_owned(),
            email: "b@example.org".to_owned(),
            zone: "Europe/Berlin".parse().unwrap(),
            locale: "de-AT".to_owned(),
        }
    }

    #[test]
    fn a_page_tells_all_in_the_tenants_words_and_smuggles_nothing() {
        let row = row();
        let line = LineRow {
            line: 1,
            item: "plan".to_owned(),
            description: "<b>Team</b> {tenant}".to_owned(),
            quantity: "1".parse().unwrap(),
            unit_price: "49.00".parse().unwrap(),
            units: 20,
            units_of: 30,
            subtotal: "32.67".parse().unwrap(),
            discount: "2.67".parse().unwrap(),
            amount: "30.00".parse().unwrap(),
            tax: "5.70".parse().unwrap(),
            period_start: row.period_start,
            period_end: row.period_end,
        };
        let to = addressee();
        let page = page(&row, &[line], &to);
        for told in [
            "<title>Rechnung INV-00007</title>",
            "Bäcker &amp; Co<br>b@example.org",
            "Ausgestellt am 11.06.2027",
            "<td>&lt;b&gt;Team&lt;/b&gt; {tenant}</td>",
            "11.06.2027 – 30.06.2027 (20 von 30)",
            "USt. 19 %",
            "−5.70 EUR",
            "30.00 EUR",
        ] {
            assert!(page.contains(told), "{told} is not in {page}");
        }
        let english = super::page(
            &row,
            &[],
            &Addressee {
                locale: "pl".to_owned(),
                ..to
            },
        );
        assert!(english.contains("Issued 11 June 2027"), "{english}");
    }

    #[test]
    fn a_page_tells_what_was_carried_over_to_it_and_from_it() {
        let row = InvoiceRow {
            // 0.20 collected, and 35.90 carried over.
            balance_applied: money("35.70"),
            carried_over: money("35.90"),
            ..row()
        };
        let page = super::page(&row, &[], &addressee());
        for told in [
            "Übertrag aus früheren Rechnungen</th><td class=\"amount\">0.20 EUR",
            "Übertrag auf die nächste Rechnung</th><td class=\"amount\">−35.90 EUR",
            "Zu zahlen</th><td class=\"amount\">0.00 EUR",
        ] {
            assert!(page.contains(told), "{told} is not in {page}");
        }
        assert!(!page.contains("Guthaben"), "{page}");
    }

    #[test]
    fn a_page_names_its_seller_if_that_has_a_name() {
        let seller = Seller {
            legal_entity: "de".to_owned(),
            name: "Acme & Söhne GmbH".to_owned(),
            address: vec!["Lange Straße 1".to_owned(), "10115 Berlin".to_owned()],
            country: "DE".to_owned(),
            tax_id: Some("DE123456789".to_owned()),
            prefix: "DE".to_owned(),
        };
        let named = InvoiceRow {
            legal_entity: Some("de".to_owned()),
            seller: Some(seller),
            ..row()
        };
        let page = super::page(&named, &[], &addressee());
        let lines = "Acme &amp; Söhne GmbH<br>Lange Straße 1<br>10115 Berlin<br>DE<br>Steuer- oder USt-IdNr. DE123456789";
        let told = format!("<h1>Rechnung DE-INV-00007</h1>\n<p>{lines}</p>\n<p>Bäcker");
        assert!(page.contains(&told), "{told} is not in {page}");
        let plain = super::page(&row(), &[], &addressee());
        let told = "<h1>Rechnung INV-00007</h1>\n<p>Bäcker";
        assert!(plain.contains(told), "{told} is not in {plain}");
    }
}

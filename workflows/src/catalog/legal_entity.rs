//! Legal entities: who issues a tenant's invoices, and what must hold of all of them together. Numbers
//! begin with an entity's prefix, so that one is for ever; what else it is named by may change.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use sqlx::PgConnection;

use super::{Entry, NewEntry, Published, store};
use crate::door::DoorError;

/// The kind of its entries.
pub(super) const KIND: &str = "legal_entity";
/// Most lines of an address.
const LINES: usize = 10;
/// The codes of ISO 3166-1 alpha-2, as of 2026.
const COUNTRIES: &str = "AD AE AF AG AI AL AM AO AQ AR AS AT AU AW AX AZ BA BB BD BE BF BG BH BI BJ BL BM \
  BN BO BQ BR BS BT BV BW BY BZ CA CC CD CF CG CH CI CK CL CM CN CO CR CU CV CW CX CY CZ DE DJ DK DM DO \
  DZ EC EE EG EH ER ES ET FI FJ FK FM FO FR GA GB GD GE GF GG GH GI GL GM GN GP GQ GR GS GT GU GW GY HK \
  HM HN HR HT HU ID IE IL IM IN IO IQ IR IS IT JE JM JO JP KE KG KH KI KM KN KP KR KW KY KZ LA LB LC LI \
  LK LR LS LT LU LV LY MA MC MD ME MF MG MH MK ML MM MN MO MP MQ MR MS MT MU MV MW MX MY MZ NA NC NE NF \
  NG NI NL NO NP NR NU NZ OM PA PE PF PG PH PK PL PM PN PR PS PT PW PY QA RE RO RS RU RW SA SB SC SD SE \
  SG SH SI SJ SK SL SM SN SO SR SS ST SV SX SY SZ TC TD TF TG TH TJ TK TL TM TN TO TR TT TV TW TZ UA UG \
  UM US UY UZ VA VC VE VG VI VN VU WF WS YE YT ZA ZM ZW";

/// Who sells, as the catalogue names it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LegalEntityTerms {
    /// As its invoices name it.
    pub name: String,
    /// The lines of its address.
    pub address: Vec<String>,
    /// ISO 3166-1 alpha-2 code of its country.
    pub country: String,
    /// What the tax office calls it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tax_id: Option<String>,
    /// What its numbers begin with.
    pub prefix: String,
    /// Whether a tenant that names none has it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub default: bool,
}

/// A legal entity as an invoice names it: kept with what the invoice was computed of.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Seller {
    /// Its key.
    pub legal_entity: String,
    /// For people.
    pub name: String,
    /// The lines of its address.
    pub address: Vec<String>,
    /// ISO 3166-1 alpha-2 code of its country.
    pub country: String,
    /// What the tax office calls it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tax_id: Option<String>,
    /// What its numbers begin with.
    pub prefix: String,
}

impl Seller {
    fn new(key: &str, terms: LegalEntityTerms) -> Self {
        Self {
            legal_entity: key.to_owned(),
            name: terms.name,
            address: terms.address,
            country: terms.country,
            tax_id: terms.tax_id,
            prefix: terms.prefix,
        }
    }
}

// Doors.

/// Finds the legal entity of a tenant: the one that is wanted, or the default; an empty key where the
/// catalogue names none. Nobody retires it until the transaction ends.
///
/// # Errors
/// [`DoorError::Malformed`] for one that there is not; [`DoorError::Retired`].
pub(crate) async fn choose(
    conn: &mut PgConnection,
    wanted: Option<&str>,
) -> Result<String, DoorError> {
    store::share(conn).await?;
    let known = store::list_of_kind(conn, KIND).await?;
    let live = |one: &&Published| !one.retired;
    let Some(wanted) = wanted else {
        let mut live = known.iter().filter(live);
        let default =
            live.find(|one| matches!(&one.entry, Entry::LegalEntity(terms) if terms.default));
        return Ok(default.map_or_else(String::new, |one| one.key.clone()));
    };
    match known.iter().find(|one| one.key == wanted) {
        Some(found) if !found.retired => Ok(found.key.clone()),
        Some(_) => Err(DoorError::Retired {
            what: "legal entity",
            key: wanted.to_owned(),
        }),
        None => {
            let keys: Vec<&str> = known.iter().filter(live).map(|one| &*one.key).collect();
            let there = match keys.as_slice() {
                [] => "the catalogue has none".to_owned(),
                keys => format!("the catalogue has {}", keys.join(", ")),
            };
            Err(DoorError::Malformed {
                field: "legal_entity",
                detail: format!("no legal entity is called {wanted:?}; {there}"),
            })
        }
    }
}

/// Finds a legal entity as an invoice that is finalised now names it; none for the empty key.
pub(crate) async fn find_seller(
    conn: &mut PgConnection,
    key: &str,
) -> sqlx::Result<Option<Seller>> {
    if key.is_empty() {
        return Ok(None);
    }
    // A tenant has what was published, and what was published stays.
    match store::find_current(conn, KIND, key).await? {
        Some(Published {
            entry: Entry::LegalEntity(terms),
            ..
        }) => Ok(Some(Seller::new(key, terms))),
        _ => Err(sqlx::Error::RowNotFound),
    }
}

// Rules.

type All<'a> = BTreeMap<&'a str, (bool, &'a LegalEntityTerms)>;

fn of(entry: &Entry) -> Option<&LegalEntityTerms> {
    match entry {
        Entry::LegalEntity(terms) => Some(terms),
        Entry::Plan(_) | Entry::AddOn(_) | Entry::Coupon(_) => None,
    }
}

fn wrong(key: &str, field: &str, detail: String) -> DoorError {
    DoorError::BadCatalogue {
        place: format!("legal_entities.{key}.{field}"),
        detail,
    }
}

/// What is wrong with the terms of one, and in which field.
pub(super) fn check(terms: &LegalEntityTerms) -> Result<(), (&'static str, &'static str)> {
    let is_line = |line: &str, most: usize| {
        !line.trim().is_empty()
            && line.chars().count() <= most
            && !line.chars().any(char::is_control)
    };
    if !is_line(&terms.name, 200) {
        return Err(("name", "a name has 1 to 200 characters, on one line"));
    }
    let lines = terms.address.len();
    if lines == 0 || lines > LINES || !terms.address.iter().all(|line| is_line(line, 200)) {
        return Err(("address", "1 to 10 lines of 1 to 200 characters"));
    }
    if terms.country.len() != 2 || !COUNTRIES.split(' ').any(|code| code == terms.country) {
        return Err(("country", "an ISO 3166-1 code of two capitals, such as DE"));
    }
    if terms.tax_id.as_ref().is_some_and(|id| !is_line(id, 50)) {
        return Err(("tax_id", "1 to 50 characters; leave it out for none"));
    }
    let fits = |c: char| c.is_ascii_uppercase() || c.is_ascii_digit();
    if !(1..=8).contains(&terms.prefix.len()) || !terms.prefix.chars().all(fits) {
        return Err(("prefix", "1 to 8 characters of A-Z and 0-9"));
    }
    Ok(())
}

/// Checks the legal entities of a file against each other.
pub(super) fn check_file(new: &[NewEntry]) -> Result<(), DoorError> {
    let all: All<'_> = new.iter().filter_map(known_by_key).collect();
    check_together(new, &all)
}

/// Checks the legal entities of a publication against what is published already.
pub(super) fn check_published(current: &[Published], new: &[NewEntry]) -> Result<(), DoorError> {
    let mut all: All<'_> = current
        .iter()
        .filter_map(|one| Some((&*one.key, (one.retired, of(&one.entry)?))))
        .collect();
    for (key, (_, terms)) in new.iter().filter_map(known_by_key) {
        let given = all.get(key).map(|(_, known)| &known.prefix);
        if let Some(given) = given.filter(|given| **given != terms.prefix) {
            let detail = format!(
                "numbers of it begin with {given:?}, so its prefix never changes; for another one \
                 declare another legal entity and move tenants to it"
            );
            return Err(wrong(key, "prefix", detail));
        }
    }
    all.extend(new.iter().filter_map(known_by_key));
    check_together(new, &all)?;
    let mut live = all.values().filter(|(retired, _)| !retired).peekable();
    if live.peek().is_some() && !live.any(|(_, terms)| terms.default) {
        return Err(DoorError::BadCatalogue {
            place: "legal_entities".to_owned(),
            detail: "one has default = true: tenants that name none have it".to_owned(),
        });
    }
    Ok(())
}

fn known_by_key(new: &NewEntry) -> Option<(&str, (bool, &LegalEntityTerms))> {
    Some((&*new.key, (new.retired, of(&new.entry)?)))
}

/// Checks each of the new ones against all others: prefixes are unique, also those of retired ones, and
/// at most one is the default.
fn check_together(new: &[NewEntry], all: &All<'_>) -> Result<(), DoorError> {
    for (key, (retired, terms)) in new.iter().filter_map(known_by_key) {
        if retired && terms.default {
            let detail = "the default cannot be retired; make another one the default".to_owned();
            return Err(wrong(key, "retired", detail));
        }
        for (other, (other_retired, known)) in all.iter().filter(|(other, _)| **other != key) {
            if known.prefix == terms.prefix {
                let detail = format!("{:?} is the prefix of {other:?}", terms.prefix);
                return Err(wrong(key, "prefix", detail));
            }
            if terms.default && known.default && !other_retired {
                let detail = format!(
                    "{other:?} is the default; publish it without in the same file, or leave it"
                );
                return Err(wrong(key, "default", detail));
            }
        }
    }
    Ok(())
}

/// Those of a publication that tenants must not have any more.
pub(super) fn retired(new: &[NewEntry]) -> impl Iterator<Item = &str> {
    let retired = new.iter().filter(|one| one.retired);
    retired.filter_map(|one| of(&one.entry).map(|_| &*one.key))
}

/// A legal entity that a tenant has is not retired.
pub(super) fn in_use(key: &str, tenant: impl std::fmt::Display) -> DoorError {
    let detail = format!(
        "tenants have it, such as {tenant}; move them to another one first \
         (POST /v1/tenants/{{tenant_id}}/legal-entity, tenure tenant legal-entity)"
    );
    wrong(key, "retired", detail)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::catalog::parse;

    fn entity(prefix: &str, more: &str) -> String {
        format!(r#"{{"name":"N","address":["A"],"country":"DE","prefix":"{prefix}"{more}}}"#)
    }

    fn file(entities: &[(&str, String)]) -> String {
        let one = |(key, body): &(&str, String)| format!("\"{key}\": {body}");
        let all: Vec<String> = entities.iter().map(one).collect();
        format!("{{\"legal_entities\": {{{}}}}}", all.join(","))
    }

    fn published(json: &str) -> Vec<Published> {
        let entries = parse(json).unwrap().into_iter();
        let published = entries.map(|new| Published {
            key: new.key,
            version: 1,
            retired: new.retired,
            published_at: chrono::DateTime::UNIX_EPOCH,
            entry: new.entry,
        });
        published.collect()
    }

    #[test]
    fn the_codes_are_all_there() {
        let codes: Vec<&str> = COUNTRIES.split(' ').collect();
        assert_eq!(codes.len(), 249);
        assert!(codes.iter().all(|code| code.len() == 2));
        assert!(codes.is_sorted());
    }

    #[test]
    fn a_file_says_what_is_wrong_and_where() {
        let default = r#","default":true"#;
        let with = |from: &str, to: &str| file(&[("de", entity("DE", "").replace(from, to))]);
        let cases = [
            (
                with("\"DE\",\"prefix\"", "\"XX\",\"prefix\""),
                "de.country: an ISO 3166-1",
            ),
            (
                with("\"DE\",\"prefix\"", "\"de\",\"prefix\""),
                "de.country: an ISO 3166-1",
            ),
            (
                with("\"prefix\":\"DE\"", "\"prefix\":\"d\""),
                "de.prefix: 1 to 8",
            ),
            (
                with("\"prefix\":\"DE\"", "\"prefix\":\"ABCDEFGHI\""),
                "de.prefix: 1 to 8",
            ),
            (with("[\"A\"]", "[]"), "de.address: 1 to 10 lines"),
            (with("[\"A\"]", "[\"A\\nB\"]"), "de.address: 1 to 10 lines"),
            (with("\"N\"", "\" \""), "de.name: a name has"),
            (
                file(&[("de", entity("DE", r#","tax_id":"""#))]),
                "de.tax_id: 1 to 50",
            ),
            (
                file(&[("de", entity("DE", r#","vat":"1""#))]),
                "de.vat: unknown field",
            ),
            (file(&[("D E", entity("DE", ""))]), "D E: a key has"),
            (
                file(&[("de", entity("X", default)), ("us", entity("X", ""))]),
                "de.prefix: \"X\" is the prefix of \"us\"",
            ),
            (
                file(&[("de", entity("DE", default)), ("us", entity("US", default))]),
                "de.default: \"us\" is the default",
            ),
            (
                file(&[("de", entity("DE", r#","default":true,"retired":true"#))]),
                "de.retired: the default cannot be retired",
            ),
        ];
        for (json, expected) in cases {
            let error = parse(&json).unwrap_err().to_string();
            let expected = format!("legal_entities.{expected}");
            assert!(error.starts_with(&expected), "{error}, not {expected}");
        }
    }

    #[test]
    fn what_is_published_already_counts() {
        let default = r#","default":true"#;
        let de = published(&file(&[("de", entity("DE", default))]));
        let check = |known: &[Published], entities: &[(&str, String)]| {
            let told = check_published(known, &parse(&file(entities)).unwrap());
            told.map_err(|error| error.to_string())
                .err()
                .unwrap_or_default()
        };
        assert_eq!(check(&de, &[("us", entity("US", ""))]), "");
        let moved = [("us", entity("US", default)), ("de", entity("DE", ""))];
        assert_eq!(check(&de, &moved), "");
        let told = check(&de, &[("us", entity("US", default))]);
        assert!(
            told.starts_with("legal_entities.us.default: \"de\" is"),
            "{told}"
        );
        let told = check(&de, &[("us", entity("DE", ""))]);
        assert!(
            told.starts_with("legal_entities.us.prefix: \"DE\" is"),
            "{told}"
        );
        let told = check(&de, &[("de", entity("D", default))]);
        assert!(
            told.starts_with("legal_entities.de.prefix: numbers of it"),
            "{told}"
        );
        let told = check(&[], &[("de", entity("DE", ""))]);
        assert!(
            told.starts_with("legal_entities: one has default"),
            "{told}"
        );
        let last = [("de", entity("DE", r#","retired":true"#))];
        assert_eq!(check(&de, &last), "", "back to the seller without a name");
    }
}

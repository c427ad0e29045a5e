//! A catalogue as its file holds it. Pure: each error names its place.

use std::collections::BTreeMap;

use rust_decimal::Decimal;
use serde::Deserialize;
use serde_json::Value;

use super::{
    AddOnTerms, CouponTerms, Duration, Entry, LegalEntityTerms, NewEntry, Off, PlanTerms, Prices,
    Seats, legal_entity, successor,
};
use crate::door::DoorError;
use crate::money::Money;

/// The longest trial, in days.
const LONGEST_TRIAL: u32 = 730;
/// The most of anything that one subscription can have.
const MOST: u32 = 1_000_000;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct CatalogFile {
    #[serde(default)]
    plans: BTreeMap<String, Value>,
    #[serde(default)]
    add_ons: BTreeMap<String, Value>,
    #[serde(default)]
    coupons: BTreeMap<String, Value>,
    #[serde(default)]
    legal_entities: BTreeMap<String, Value>,
}

/// Reads a catalogue from JSON: `plans`, `add_ons`, `coupons` and `legal_entities`, each by key. An entry
/// with `"retired": true` is refused to everybody who does not have it.
///
/// # Errors
/// [`DoorError::BadCatalogue`], with the place that is wrong and what would be right.
pub fn parse(json: &str) -> Result<Vec<NewEntry>, DoorError> {
    from_value(serde_json::from_str(json).map_err(|error| malformed("", &error.to_string()))?)
}

/// Reads a catalogue from a value, as [`parse`] does from text.
///
/// # Errors
/// [`DoorError::BadCatalogue`], with the place that is wrong and what would be right.
pub fn from_value(value: Value) -> Result<Vec<NewEntry>, DoorError> {
    // A list would be taken for the fields in their order.
    if !value.is_object() {
        let detail = "an object with plans, add_ons, coupons and legal_entities";
        return Err(malformed("", detail));
    }
    let file: CatalogFile =
        serde_json::from_value(value).map_err(|error| malformed("", &error.to_string()))?;
    let mut entries = Vec::new();
    for (key, terms) in file.add_ons {
        let place = format!("add_ons.{key}");
        let (terms, retired): (AddOnTerms, bool) = read(&place, terms)?;
        check_add_on(&place, &terms)?;
        entries.push(entry(&place, key, retired, Entry::AddOn(terms))?);
    }
    for (key, terms) in file.plans {
        let place = format!("plans.{key}");
        let (terms, retired): (PlanTerms, bool) = read(&place, terms)?;
        check_plan(&place, &terms)?;
        let known = |add_on: &String| {
            entries
                .iter()
                .any(|one| one.key == *add_on && matches!(one.entry, Entry::AddOn(_)))
        };
        if let Some(unknown) = terms.add_ons.iter().find(|add_on| !known(add_on)) {
            let detail = format!("{unknown:?} is no add-on of this catalogue");
            return Err(malformed(&format!("{place}.add_ons"), &detail));
        }
        entries.push(entry(&place, key, retired, Entry::Plan(terms))?);
    }
    for (key, terms) in file.coupons {
        let place = format!("coupons.{key}");
        let (terms, retired): (CouponTerms, bool) = read(&place, terms)?;
        check_coupon(&place, &terms)?;
        entries.push(entry(&place, key, retired, Entry::Coupon(terms))?);
    }
    for (key, terms) in file.legal_entities {
        let place = format!("legal_entities.{key}");
        let (terms, retired): (LegalEntityTerms, bool) = read(&place, terms)?;
        legal_entity::check(&terms)
            .map_err(|(field, detail)| malformed(&format!("{place}.{field}"), detail))?;
        entries.push(entry(&place, key, retired, Entry::LegalEntity(terms))?);
    }
    legal_entity::check_file(&entries)?;
    successor::check_file(&entries)?;
    Ok(entries)
}

fn entry(place: &str, key: String, retired: bool, entry: Entry) -> Result<NewEntry, DoorError> {
    let fits = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    if key.is_empty() || key.len() > 100 || !key.chars().all(fits) {
        let detail = "a key has 1 to 100 characters of a-z, 0-9 and -";
        return Err(malformed(place, detail));
    }
    Ok(NewEntry {
        key,
        retired,
        entry,
    })
}

fn malformed(place: &str, detail: &str) -> DoorError {
    DoorError::BadCatalogue {
        place: place.to_owned(),
        detail: detail.to_owned(),
    }
}

/// Reads an entry's terms, and whether it is retired.
fn read<T: serde::de::DeserializeOwned>(
    place: &str,
    mut terms: Value,
) -> Result<(T, bool), DoorError> {
    let Some(fields) = terms.as_object_mut() else {
        return Err(malformed(place, "an object with the entry's fields"));
    };
    let retired = match fields.remove("retired") {
        None => false,
        Some(Value::Bool(retired)) => retired,
        Some(_) => return Err(malformed(&format!("{place}.retired"), "true or false")),
    };
    let terms = serde_path_to_error::deserialize(terms).map_err(|error| {
        let at = match error.path().to_string() {
            path if path == "." => place.to_owned(),
            path => format!("{place}.{path}"),
        };
        malformed(&at, &error.into_inner().to_string())
    })?;
    Ok((terms, retired))
}

fn check_plan(place: &str, terms: &PlanTerms) -> Result<(), DoorError> {
    check_name(place, &terms.name)?;
    check_trial(&format!("{place}.trial"), terms)?;
    if terms.periods == Some(0) {
        return Err(malformed(
            &format!("{place}.periods"),
            "a fixed term has 1 period or more; leave it out for none",
        ));
    }
    check_prices(&format!("{place}.prices"), &terms.prices)?;
    if !terms.setup_fee.is_empty() {
        check_also_sold(&format!("{place}.setup_fee"), &terms.setup_fee, terms)?;
    }
    if let Some(seats) = &terms.seats {
        check_seats(&format!("{place}.seats"), seats, terms)?;
    }
    check_features(place, &terms.features)
}

fn check_trial(place: &str, terms: &PlanTerms) -> Result<(), DoorError> {
    let trial = &terms.trial;
    if trial.days > LONGEST_TRIAL {
        let detail = format!("{} days; the most is {LONGEST_TRIAL}", trial.days);
        return Err(malformed(place, &detail));
    }
    if trial.prices.is_empty() {
        return Ok(());
    }
    if trial.days == 0 {
        let detail = "a trial that has a price has 1 day or more";
        return Err(malformed(&format!("{place}.days"), detail));
    }
    check_also_sold(&format!("{place}.prices"), &trial.prices, terms)
}

fn check_seats(place: &str, seats: &Seats, terms: &PlanTerms) -> Result<(), DoorError> {
    check_most(place, seats.most)?;
    if seats.most.is_some_and(|most| most < seats.included) {
        return Err(malformed(place, "more seats are included than can be had"));
    }
    check_also_sold(&format!("{place}.prices"), &seats.prices, terms)
}

fn check_add_on(place: &str, terms: &AddOnTerms) -> Result<(), DoorError> {
    check_name(place, &terms.name)?;
    check_most(place, terms.most)?;
    check_prices(&format!("{place}.prices"), &terms.prices)?;
    check_features(place, &terms.features)
}

fn check_coupon(place: &str, terms: &CouponTerms) -> Result<(), DoorError> {
    check_name(place, &terms.name)?;
    match &terms.off {
        Off::Percent(percent) if *percent <= Decimal::ZERO || *percent > Decimal::ONE_HUNDRED => {
            let detail = format!("{percent} per cent; above 0, at most 100");
            return Err(malformed(&format!("{place}.off.percent"), &detail));
        }
        Off::Percent(_) => {}
        Off::Amount(prices) => check_prices(&format!("{place}.off.amount"), prices)?,
    }
    if terms.duration == Duration::Periods(0) {
        let detail = "1 period or more, \"once\" or \"forever\"";
        return Err(malformed(&format!("{place}.duration"), detail));
    }
    Ok(())
}

fn check_name(place: &str, name: &str) -> Result<(), DoorError> {
    if name.trim().is_empty() || name.chars().count() > 200 || name.contains('\0') {
        let detail = "a name has 1 to 200 characters and no NUL";
        return Err(malformed(&format!("{place}.name"), detail));
    }
    Ok(())
}

fn check_most(place: &str, most: Option<u32>) -> Result<(), DoorError> {
    if most.is_some_and(|most| most == 0 || most > MOST) {
        let detail = format!("1 to {MOST}; leave it out for no bound of your own");
        return Err(malformed(&format!("{place}.most"), &detail));
    }
    Ok(())
}

fn check_features(place: &str, features: &BTreeMap<String, Value>) -> Result<(), DoorError> {
    for (feature, value) in features {
        let at = format!("{place}.features.{feature}");
        if !is_feature(feature) {
            let detail = "a feature's key has 1 to 100 characters of a-z, 0-9, -, _ and .";
            return Err(malformed(&at, detail));
        }
        match value {
            Value::Bool(_) | Value::String(_) => {}
            Value::Number(number) if number.as_u64().is_some() => {}
            _ => return Err(malformed(&at, "true, false, a whole number, or a text")),
        }
    }
    Ok(())
}

/// Whether a text can be a feature's key.
#[must_use]
pub fn is_feature(key: &str) -> bool {
    let fits = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "-_.".contains(c);
    (1..=100).contains(&key.len()) && key.chars().all(fits)
}

fn check_prices(place: &str, prices: &Prices) -> Result<(), DoorError> {
    if prices.is_empty() {
        return Err(malformed(place, "there is no price"));
    }
    for (currency, amount) in prices {
        if amount.is_sign_negative() || Money::new(*amount, *currency).amount() != *amount {
            let decimals = currency.decimals();
            let detail = format!("{amount} is negative or has more than {decimals} decimals");
            return Err(malformed(&format!("{place}.{currency}"), &detail));
        }
    }
    Ok(())
}

/// A part of a plan is sold in each currency that the plan is.
fn check_also_sold(place: &str, prices: &Prices, terms: &PlanTerms) -> Result<(), DoorError> {
    check_prices(place, prices)?;
    match terms.prices.keys().find(|code| !prices.contains_key(code)) {
        Some(missing) => Err(malformed(
            place,
            &format!("the plan is sold in {missing}, and this has no price in it"),
        )),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_demo_catalogue_is_valid() {
        let entries = parse(include_str!("../../../fixtures/seed/catalog.json")).unwrap();
        let plans: Vec<&PlanTerms> = entries
            .iter()
            .filter_map(|one| match &one.entry {
                Entry::Plan(terms) => Some(terms),
                _ => None,
            })
            .collect();
        assert!(plans.iter().any(|plan| plan.trial.days == 14));
        assert!(plans.iter().all(|plan| plan.prices.len() == 3));
    }

    fn plan(body: &str) -> String {
        format!(r#"{{"plans": {{"x": {body}}}}}"#)
    }

    #[test]
    fn errors_in_a_trials_price_name_their_place() {
        let cases = [
            (
                plan(
                    r#"{"name":"n","interval":"month","prices":{"JPY":"1"},"trial":{"days":7,"prices":{"EUR":"1"}}}"#,
                ),
                "plans.x.trial.prices: the plan is sold in JPY",
            ),
            (
                plan(
                    r#"{"name":"n","interval":"month","prices":{"JPY":"1"},"trial":{"days":7,"prices":{"JPY":"0.5"}}}"#,
                ),
                "plans.x.trial.prices.JPY: 0.5 is negative or has more than 0 decimals",
            ),
            (
                plan(
                    r#"{"name":"n","interval":"month","prices":{"JPY":"1"},"trial":{"prices":{"JPY":"1"}}}"#,
                ),
                "plans.x.trial.days: a trial that has a price has 1 day or more",
            ),
        ];
        for (json, expected) in cases {
            let error = parse(&json).unwrap_err().to_string();
            assert!(error.contains(expected), "{error}");
        }
    }

    #[test]
    fn errors_name_their_place() {
        let coupon = |body: &str| format!(r#"{{"coupons": {{"c": {{"name":"n", {body}}}}}}}"#);
        let cases = [
            (
                plan(r#"{"name": "n"}"#),
                "plans.x: missing field `interval`",
            ),
            (
                r#"{"plans": {"X Y": {"name":"n","interval":"month","prices":{"EUR":"1"}}}}"#
                    .to_owned(),
                "plans.X Y: a key has",
            ),
            (
                plan(r#"{"name":"n","interval":"month","prices":{"EURO":"1"}}"#),
                "plans.x.prices",
            ),
            (
                plan(r#"{"name":"n","interval":"month","prices":{"JPY":"1.5"}}"#),
                "plans.x.prices.JPY: 1.5 is negative or has more than 0 decimals",
            ),
            (
                plan(r#"{"name":"n","interval":"fortnight","prices":{"JPY":"1"}}"#),
                "plans.x.interval: \"fortnight\" is no interval",
            ),
            (
                plan(r#"{"name":"n","interval":"month","prices":{"JPY":"1"},"add_ons":["y"]}"#),
                "plans.x.add_ons: \"y\" is no add-on",
            ),
            (
                plan(
                    r#"{"name":"n","interval":"month","prices":{"JPY":"1","EUR":"1"},"setup_fee":{"EUR":"1"}}"#,
                ),
                "plans.x.setup_fee: the plan is sold in JPY",
            ),
            (
                plan(r#"{"name":"n","interval":"month","prices":{"JPY":"1"},"features":{"a":-1}}"#),
                "plans.x.features.a: true, false",
            ),
            (
                plan(r#"{"name":"n","interval":"month","prices":{"JPY":"1"},"features":{"A":1}}"#),
                "plans.x.features.A: a feature's key has",
            ),
            (plan("[]"), "plans.x: an object"),
            (
                r#"{"plan": {}}"#.to_owned(),
                "the catalogue: unknown field `plan`",
            ),
            (
                coupon(r#""off":{"percent":"120"},"duration":"once""#),
                "coupons.c.off.percent: 120 per cent",
            ),
            (
                coupon(r#""off":{"amount":{"EUR":"5"}},"duration":{"periods":0}"#),
                "coupons.c.duration: 1 period",
            ),
        ];
        for (json, expected) in cases {
            let error = parse(&json).unwrap_err().to_string();
            assert!(error.contains(expected), "{error}");
        }
    }
}

//! The catalogue: what can be subscribed to, at what price. Control tables, loaded from a file.

use std::collections::BTreeMap;

use rust_decimal::Decimal;
use serde::Deserialize;
use sqlx::PgConnection;

use crate::calendar::Interval;
use crate::door::DoorError;
use crate::money::{Currency, Money};

/// A plan with its prices.
#[derive(Debug, Clone, PartialEq)]
pub struct Plan {
    /// Its key.
    pub plan: String,
    /// For people.
    pub name: String,
    /// Length of a period.
    pub interval: Interval,
    /// Free local days before the first period.
    pub trial_days: u32,
    /// One price per currency.
    pub prices: Vec<Money>,
}

/// A catalogue as its file holds it.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct CatalogFile {
    plans: Vec<PlanEntry>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct PlanEntry {
    plan: String,
    name: String,
    interval: Interval,
    #[serde(default)]
    trial_days: u32,
    prices: BTreeMap<String, Decimal>,
}

/// Reads a catalogue from JSON; each error names its place.
///
/// # Errors
/// [`DoorError::Malformed`], with line and column or the plan that is wrong.
pub fn parse(json: &str) -> Result<Vec<Plan>, DoorError> {
    let file: CatalogFile =
        serde_json::from_str(json).map_err(|error| malformed(error.to_string()))?;
    let mut plans: Vec<Plan> = Vec::with_capacity(file.plans.len());
    for (index, entry) in file.plans.into_iter().enumerate() {
        let plan = check(entry).map_err(|detail| malformed(format!("plans[{index}]: {detail}")))?;
        if plans.iter().any(|known| known.plan == plan.plan) {
            return Err(malformed(format!(
                "plans[{index}]: {:?} comes twice",
                plan.plan
            )));
        }
        plans.push(plan);
    }
    Ok(plans)
}

fn malformed(detail: String) -> DoorError {
    DoorError::Malformed {
        field: "catalogue",
        detail,
    }
}

fn check(entry: PlanEntry) -> Result<Plan, String> {
    let fits = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    if entry.plan.is_empty() || !entry.plan.chars().all(fits) {
        return Err(format!("{:?} is no key (a-z, 0-9 and -)", entry.plan));
    }
    if entry.trial_days > 730 {
        return Err(format!(
            "a trial of {} days; the most is 730",
            entry.trial_days
        ));
    }
    if entry.prices.is_empty() {
        return Err(format!("{:?} has no price", entry.plan));
    }
    let mut prices = Vec::new();
    for (code, amount) in entry.prices {
        let currency: Currency = code.parse().map_err(|error| format!("prices: {error}"))?;
        let price = Money::new(amount, currency);
        if amount.is_sign_negative() || price.amount() != amount {
            return Err(format!(
                "prices.{code}: {amount} is negative or has more than {} decimals",
                currency.decimals()
            ));
        }
        prices.push(price);
    }
    Ok(Plan {
        plan: entry.plan,
        name: entry.name,
        interval: entry.interval,
        trial_days: entry.trial_days,
        prices,
    })
}

/// Writes a catalogue; plans and prices that exist are brought up to date. Subscriptions keep the
/// price that they were made at. The transaction must act as control.
///
/// # Errors
/// When the database does not answer.
pub async fn load(conn: &mut PgConnection, plans: &[Plan]) -> Result<(), DoorError> {
    for plan in plans {
        sqlx::query!(
            r#"
            insert into app.plan (plan, name, interval_unit, trial_days)
            values ($1, $2, $3, $4)
            on conflict (plan) do update
            set name = excluded.name,
              interval_unit = excluded.interval_unit,
              trial_days = excluded.trial_days
            "#,
            plan.plan,
            plan.name,
            plan.interval.word(),
            i32::try_from(plan.trial_days).unwrap_or(i32::MAX),
        )
        .execute(&mut *conn)
        .await?;
        for price in &plan.prices {
            sqlx::query!(
                r#"
                insert into app.price (plan, currency, amount)
                values ($1, $2, $3)
                on conflict (plan, currency) do update set amount = excluded.amount
                "#,
                plan.plan,
                price.currency().code(),
                price.amount(),
            )
            .execute(&mut *conn)
            .await?;
        }
    }
    Ok(())
}

/// Lists the plans with their prices, by key.
///
/// # Errors
/// When the database does not answer.
pub async fn list(conn: &mut PgConnection) -> Result<Vec<Plan>, DoorError> {
    let rows = sqlx::query!(
        r#"
        select plan.plan, plan.name, plan.interval_unit, plan.trial_days, price.currency, price.amount
        from app.plan
        join app.price using (plan)
        order by plan.plan, price.currency
        "#
    )
    .fetch_all(conn)
    .await?;
    let mut plans: Vec<Plan> = Vec::new();
    for row in rows {
        let price = Money::new(row.amount, row.currency.parse()?);
        match plans.last_mut().filter(|last| last.plan == row.plan) {
            Some(plan) => plan.prices.push(price),
            None => plans.push(Plan {
                plan: row.plan,
                name: row.name,
                interval: Interval::from_word(&row.interval_unit).unwrap_or(Interval::Month),
                trial_days: row.trial_days.unsigned_abs(),
                prices: vec![price],
            }),
        }
    }
    Ok(plans)
}

/// Finds a plan and its price in a currency.
///
/// # Errors
/// [`DoorError::UnknownPlan`], [`DoorError::UnknownCurrency`], [`DoorError::NotSoldIn`].
pub(crate) async fn find(
    conn: &mut PgConnection,
    plan: &str,
    currency: &str,
) -> Result<(Plan, Money), DoorError> {
    let wanted: Currency = currency.parse()?;
    let found = list(conn).await?;
    let found = found
        .into_iter()
        .find(|known| known.plan == plan)
        .ok_or_else(|| DoorError::UnknownPlan(plan.to_owned()))?;
    match found.prices.iter().find(|price| price.currency() == wanted) {
        Some(price) => Ok((found.clone(), *price)),
        None => Err(DoorError::NotSoldIn {
            plan: plan.to_owned(),
            currency: currency.to_owned(),
            sold_in: found
                .prices
                .iter()
                .map(|price| price.currency().to_string())
                .collect::<Vec<_>>()
                .join(", "),
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_demo_catalogue_is_valid() {
        let plans = parse(include_str!("../../fixtures/seed/catalog.json")).unwrap();
        assert!(plans.iter().any(|plan| plan.trial_days == 14));
        assert!(plans.iter().all(|plan| plan.prices.len() == 3));
    }

    #[test]
    fn errors_name_their_place() {
        let plan = |body: &str| format!("{{\"plans\": [{body}]}}");
        let cases = [
            (plan(r#"{"plan": "X Y"}"#), "missing field"),
            (
                plan(r#"{"plan":"X","name":"n","interval":"month","prices":{"EUR":"1"}}"#),
                "plans[0]: \"X\" is no key",
            ),
            (
                plan(r#"{"plan":"x","name":"n","interval":"month","prices":{"EURO":"1"}}"#),
                "\"EURO\" is no currency",
            ),
            (
                plan(r#"{"plan":"x","name":"n","interval":"month","prices":{"JPY":"1.5"}}"#),
                "prices.JPY: 1.5 is negative or has more than 0 decimals",
            ),
            (
                plan(r#"{"plan":"x","name":"n","interval":"week","prices":{"JPY":"1"}}"#),
                "unknown variant `week`",
            ),
        ];
        for (json, expected) in cases {
            let error = parse(&json).unwrap_err().to_string();
            assert!(error.contains(expected), "{error}");
        }
    }
}

//! An amount with its currency, as the API writes it.

use rust_decimal::Decimal;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// An amount of money. The amount travels as a string, so that no digit is lost on the way.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[schema(example = json!({"amount": "49.00", "currency": "EUR"}))]
pub struct Money {
    /// Decimal amount in the currency's major unit, with the currency's own number of decimals.
    #[serde(with = "rust_decimal::serde::str")]
    #[schema(value_type = String, example = "49.00")]
    pub amount: Decimal,
    /// ISO 4217 code in capitals.
    #[schema(example = "EUR")]
    pub currency: String,
}

impl std::fmt::Display for Money {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "{} {}", self.amount, self.currency)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_amount_keeps_its_digits_on_the_way() {
        let text = r#"{"amount":"49.00","currency":"EUR"}"#;
        let money: Money = serde_json::from_str(text).unwrap();
        assert_eq!(money.to_string(), "49.00 EUR");
        assert_eq!(serde_json::to_string(&money).unwrap(), text);
        assert!(serde_json::from_str::<Money>(r#"{"amount":49.0,"currency":"EUR"}"#).is_err());
    }
}

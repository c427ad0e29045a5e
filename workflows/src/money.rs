//! Amounts with their currency, and the one way to round them. Pure.
//!
//! Rounding is half away from zero to the currency's minor unit, once per line, before lines are
//! added: the rule that Kill Bill's, Lago's and Meteroid's published figures follow. Minor units
//! are those of ISO 4217.

use std::fmt;
use std::str::FromStr;

use rust_decimal::{Decimal, RoundingStrategy};
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A currency that Tenure knows the minor unit of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Currency(&'static str);

/// Currencies without a minor unit.
const ZERO_DECIMAL: [&str; 15] = [
    "BIF", "CLP", "DJF", "GNF", "JPY", "KMF", "KRW", "MGA", "PYG", "RWF", "VND", "VUV", "XAF",
    "XOF", "XPF",
];
/// Currencies with a minor unit of a thousandth.
const THREE_DECIMAL: [&str; 5] = ["BHD", "JOD", "KWD", "OMR", "TND"];
/// Currencies with a minor unit of a hundredth that Tenure accepts.
const TWO_DECIMAL: [&str; 27] = [
    "AED", "AUD", "BGN", "BRL", "CAD", "CHF", "CNY", "CZK", "DKK", "EUR", "GBP", "HKD", "ILS",
    "INR", "MXN", "MYR", "NOK", "NZD", "PHP", "PLN", "RON", "SAR", "SEK", "SGD", "THB", "USD",
    "ZAR",
];

/// The currency is not one that Tenure knows.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no currency that Tenure knows (three letters of ISO 4217, such as EUR)")]
pub struct UnknownCurrency(pub String);

impl Currency {
    /// How many decimals an amount has.
    #[must_use]
    pub fn decimals(self) -> u32 {
        let code = self.code();
        if ZERO_DECIMAL.contains(&code) {
            0
        } else if THREE_DECIMAL.contains(&code) {
            3
        } else {
            2
        }
    }

    /// The three letters.
    #[must_use]
    pub fn code(self) -> &'static str {
        self.0
    }
}

impl FromStr for Currency {
    type Err = UnknownCurrency;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let mut known = ZERO_DECIMAL
            .iter()
            .chain(&THREE_DECIMAL)
            .chain(&TWO_DECIMAL);
        known
            .find(|code| **code == text)
            .map(|code| Self(code))
            .ok_or_else(|| UnknownCurrency(text.to_owned()))
    }
}

impl Serialize for Currency {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.0)
    }
}

impl<'de> Deserialize<'de> for Currency {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(D::Error::custom)
    }
}

impl fmt::Display for Currency {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.code())
    }
}

/// An amount in a currency, with exactly the currency's decimals.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Money {
    amount: Decimal,
    currency: Currency,
}

/// Two amounts of different currencies were to be added.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("cannot add {0} to {1}")]
pub struct MixedCurrencies(pub Currency, pub Currency);

impl Money {
    /// An amount, rounded half away from zero to the currency's minor unit.
    #[must_use]
    pub fn new(amount: Decimal, currency: Currency) -> Self {
        let decimals = currency.decimals();
        let mut amount =
            amount.round_dp_with_strategy(decimals, RoundingStrategy::MidpointAwayFromZero);
        amount.rescale(decimals);
        Self { amount, currency }
    }

    /// Nothing.
    #[must_use]
    pub fn zero(currency: Currency) -> Self {
        Self::new(Decimal::ZERO, currency)
    }

    /// The amount, in units of the currency.
    #[must_use]
    pub fn amount(&self) -> Decimal {
        self.amount
    }

    /// The currency.
    #[must_use]
    pub fn currency(&self) -> Currency {
        self.currency
    }

    /// Whether it is nothing.
    #[must_use]
    pub fn is_zero(&self) -> bool {
        self.amount.is_zero()
    }

    /// The amount in minor units, as payment providers count; `None` when it is out of range.
    #[must_use]
    pub fn minor_units(&self) -> Option<i64> {
        i64::try_from(self.amount.mantissa()).ok()
    }

    /// The sum.
    ///
    /// # Errors
    /// When the currencies differ.
    pub fn plus(self, other: Self) -> Result<Self, MixedCurrencies> {
        if self.currency == other.currency {
            Ok(Self::new(self.amount + other.amount, self.currency))
        } else {
            Err(MixedCurrencies(other.currency, self.currency))
        }
    }
}

impl fmt::Display for Money {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.amount, self.currency)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn money(amount: &str, currency: &str) -> Money {
        Money::new(amount.parse().unwrap(), currency.parse().unwrap())
    }

    #[test]
    fn rounding_is_half_away_from_zero_to_the_minor_unit() {
        let cases = [
            ("0.005", "EUR", "0.01 EUR"),
            ("-0.005", "EUR", "-0.01 EUR"),
            ("0.0049", "EUR", "0.00 EUR"),
            ("49", "EUR", "49.00 EUR"),
            ("1234.5", "JPY", "1235 JPY"),
            ("1.2345", "KWD", "1.235 KWD"),
        ];
        for (amount, currency, expected) in cases {
            assert_eq!(money(amount, currency).to_string(), expected);
        }
    }

    #[test]
    fn minor_units_are_the_providers_count() {
        assert_eq!(money("49.00", "EUR").minor_units(), Some(4900));
        assert_eq!(money("6900", "JPY").minor_units(), Some(6900));
        assert_eq!(money("1.5", "KWD").minor_units(), Some(1500));
    }

    #[test]
    fn unknown_currencies_and_mixed_sums_are_refused() {
        for code in ["EURO", "eur", "XXX", "", "€"] {
            assert_eq!(
                code.parse::<Currency>(),
                Err(UnknownCurrency(code.to_owned()))
            );
        }
        let error = money("1", "EUR").plus(money("1", "USD")).unwrap_err();
        assert_eq!(error.to_string(), "cannot add USD to EUR");
    }
}

//! What a decline means. Pure.
//!
//! Stripe's advice comes first, where it gives any; then the code, after Stripe's list of declines
//! that are not retried and the practice collected in its page "Decline codes".

use serde::{Deserialize, Serialize};

use crate::ports::stripe::{
    AMOUNT_TOO_LARGE, CURRENCY_NOT_SUPPORTED, INVALID_CHARGE_AMOUNT, METHOD_GONE,
};

/// What a retry could change.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DeclineClass {
    /// Nothing: the method must change.
    Hard,
    /// Only corrected data would.
    Data,
    /// Time may.
    Soft,
    /// Nothing that the customer could do: the provider takes no such amount, by no method. An operator
    /// changes what is owed.
    Amount,
}

impl DeclineClass {
    /// The stored spelling.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Hard => "hard",
            Self::Data => "data",
            Self::Soft => "soft",
            Self::Amount => "amount",
        }
    }

    /// Reads the stored spelling.
    #[must_use]
    pub fn from_word(word: &str) -> Option<Self> {
        [Self::Hard, Self::Data, Self::Soft, Self::Amount]
            .into_iter()
            .find(|class| class.word() == word)
    }

    /// The classes that another try with the same method does not mend, as they are stored.
    #[must_use]
    pub fn finals() -> Vec<String> {
        [Self::Hard, Self::Data]
            .iter()
            .map(|class| class.word().to_owned())
            .collect()
    }

    /// Whether trying the same method again by itself makes sense.
    #[must_use]
    pub const fn is_retried(self) -> bool {
        matches!(self, Self::Soft)
    }
}

/// The bank wants the customer to confirm: nothing that time or another try would change.
pub const AUTHENTICATION_REQUIRED: &str = "authentication_required";

/// Our own word: the customer did not confirm in time. Another try asks anew.
pub const NOT_CONFIRMED: &str = "not_confirmed_in_time";
/// Our own word: the bank did not settle in time. It still may, so the same method is left alone.
pub const NOT_SETTLED: &str = "not_settled_in_time";

const HARD: [&str; 20] = [
    AUTHENTICATION_REQUIRED,
    METHOD_GONE,
    NOT_SETTLED,
    "card_not_supported",
    CURRENCY_NOT_SUPPORTED,
    "fraudulent",
    "highest_risk_level",
    "incorrect_number",
    "invalid_account",
    "lost_card",
    "merchant_blacklist",
    "no_payment_method",
    "pickup_card",
    "restricted_card",
    "revocation_of_all_authorizations",
    "revocation_of_authorization",
    "stolen_card",
    "stop_payment_order",
    "testmode_decline",
    "transaction_not_allowed",
];
const DATA: [&str; 6] = [
    "expired_card",
    "incorrect_address",
    "incorrect_cvc",
    "incorrect_zip",
    "invalid_expiry_month",
    "invalid_expiry_year",
];

/// What is refused whoever pays it, and whatever the provider advises.
const AMOUNT: [&str; 2] = [AMOUNT_TOO_LARGE, INVALID_CHARGE_AMOUNT];

/// Classes a decline.
#[must_use]
pub fn classify(code: &str, advice: Option<&str>) -> DeclineClass {
    match advice {
        _ if AMOUNT.contains(&code) => DeclineClass::Amount,
        Some("do_not_try_again") => DeclineClass::Hard,
        Some("confirm_card_data") => DeclineClass::Data,
        Some("try_again_later") => DeclineClass::Soft,
        _ if HARD.contains(&code) => DeclineClass::Hard,
        _ if DATA.contains(&code) => DeclineClass::Data,
        _ => DeclineClass::Soft,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn advice_comes_before_the_code() {
        let cases = [
            ("lost_card", None, DeclineClass::Hard),
            ("expired_card", None, DeclineClass::Data),
            ("insufficient_funds", None, DeclineClass::Soft),
            ("some_new_code", None, DeclineClass::Soft),
            (NOT_CONFIRMED, None, DeclineClass::Soft),
            (NOT_SETTLED, None, DeclineClass::Hard),
            (AMOUNT_TOO_LARGE, None, DeclineClass::Amount),
            (
                "insufficient_funds",
                Some("do_not_try_again"),
                DeclineClass::Hard,
            ),
            ("lost_card", Some("try_again_later"), DeclineClass::Soft),
            (
                "generic_decline",
                Some("confirm_card_data"),
                DeclineClass::Data,
            ),
            ("expired_card", Some("some_new_advice"), DeclineClass::Data),
        ];
        for (code, advice, expected) in cases {
            assert_eq!(classify(code, advice), expected, "{code} {advice:?}");
        }
    }
}

//! Dunning as data: when is tried again, what is held when, and how it ends. Pure.
//!
//! A policy is a document that is checked when it is loaded; nothing here or in the rules knows a
//! policy by its name. What may stand in it follows the peers: ladders by decline class (Stripe and
//! Recurly do not retry a hard decline; Kill Bill keeps gateway errors apart), a ceiling on retries
//! (networks charge for more than about fifteen in thirty days by card and amount), steps with conditions and with what
//! they block (Kill Bill's overdue states), and an end (Stripe, Chargebee: cancel, unpaid, leave).

use std::collections::BTreeMap;

use rust_decimal::Decimal;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::door::DoorError;
use crate::hold::{self, Blocks};
use crate::money::{Currency, Money};
use crate::payment::rules::DeclineClass;

/// The longest ladder, in days.
const MAX_DAYS: u32 = 365;
/// Most rungs of a ladder, and most steps.
const MAX_ENTRIES: usize = 60;

/// The earliest that a tenant is told of a card that expires, in days.
pub(crate) const MAX_CARD_EXPIRING_DAYS: u32 = 90;

/// A policy.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Policy {
    /// What a step holds.
    #[serde(default)]
    pub scope: Scope,
    /// When is tried again, by what a retry could change.
    pub ladders: Ladders,
    /// When a tenant's next method is tried after a decline that time does not mend.
    #[serde(default, skip_serializing_if = "NextMethod::is_default")]
    pub next_method: NextMethod,
    /// Attempts of a rung are spread over so many minutes after its hour; each debt by its own share.
    #[serde(default)]
    pub jitter_minutes: u32,
    /// How often one payment method is tried again for an amount at most.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ceiling: Option<Ceiling>,
    /// What happens on the way, in the order of days. The last one that has come holds.
    #[serde(default)]
    pub steps: Vec<Step>,
    /// How it ends.
    pub end: End,
    /// What concerns mails.
    #[serde(default)]
    pub notices: Notices,
    /// How long an attempt waits for somebody else.
    #[serde(default, skip_serializing_if = "Waiting::is_default")]
    pub waiting: Waiting,
    /// What a disputed payment holds.
    #[serde(default, skip_serializing_if = "Disputes::is_default")]
    pub disputes: Disputes,
}

/// What a step holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Scope {
    /// The subscriptions whose invoices are unpaid; what is paid for goes on.
    #[default]
    Subscription,
    /// All that is the tenant's.
    Tenant,
}

/// When the next method is tried.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum NextMethod {
    /// At once.
    #[default]
    AtOnce,
    /// At the next rung of the ladder of soft declines.
    Ladder,
}

impl NextMethod {
    #[expect(clippy::trivially_copy_pass_by_ref, reason = "serde calls it so")]
    const fn is_default(&self) -> bool {
        matches!(self, Self::AtOnce)
    }
}

/// When is tried again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Ladders {
    /// After a decline that time may mend.
    pub soft: Ladder,
    /// After a decline that corrected data would mend; usually never with the same data.
    #[serde(default = "Ladder::never")]
    pub data: Ladder,
    /// After a decline that nothing mends but another method; usually never.
    #[serde(default = "Ladder::never")]
    pub hard: Ladder,
    /// When the provider could not be asked: no decline, and no attempt that counts.
    #[serde(default)]
    pub gateway: Gateway,
}

impl Ladders {
    /// The ladder of a class.
    #[must_use]
    pub const fn of(&self, class: DeclineClass) -> &Ladder {
        match class {
            DeclineClass::Soft => &self.soft,
            DeclineClass::Data => &self.data,
            // No day mends an amount: an operator does.
            DeclineClass::Hard | DeclineClass::Amount => &self.hard,
        }
    }
}

/// The days on which is tried again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Ladder {
    /// Local days after the first failure, ascending.
    #[serde(default)]
    pub days: Vec<u32>,
    /// The local hour: when people can be reached and banks are open.
    #[serde(default = "ten")]
    pub hour: u32,
}

const fn ten() -> u32 {
    10
}

/// How long the provider is asked again when it cannot be reached. The same attempt each time, so
/// that what it may have charged already is found and not charged twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Gateway {
    /// The first wait; each further one is twice as long.
    pub first_minutes: u32,
    /// The longest wait.
    pub cap_minutes: u32,
    /// How often it is asked again before a person must look.
    pub attempts: u32,
}

impl Default for Gateway {
    /// Five minutes, doubling, eight times: Kill Bill's ladder, about 21 hours.
    fn default() -> Self {
        Self {
            first_minutes: 5,
            cap_minutes: 1_440,
            attempts: 8,
        }
    }
}

/// What is held while the bank weighs a payment that its customer disputes, and when it is lost.
/// Nothing, unless the policy says so: Stripe leaves a disputed invoice paid, too.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Disputes {
    /// The money is withdrawn, and the bank weighs.
    pub open: DisputeAction,
    /// The money is gone.
    pub lost: DisputeAction,
}

impl Disputes {
    fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

/// What a disputed payment holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DisputeAction {
    /// Nothing.
    #[default]
    Leave,
    /// A hold that gives time.
    Grace,
    /// A hold that suspends.
    Suspend,
}

impl DisputeAction {
    /// The kind of hold that it places.
    #[must_use]
    pub const fn hold(self) -> Option<hold::Kind> {
        match self {
            Self::Leave => None,
            Self::Grace => Some(hold::Kind::DebtGrace),
            Self::Suspend => Some(hold::Kind::DebtSuspension),
        }
    }
}

/// How long an attempt waits for somebody else before it is cancelled and counts as failed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Waiting {
    /// For the customer to confirm.
    pub action_hours: u32,
    /// For a bank to settle, by rails that are not named.
    pub processing_days: u32,
    /// For a bank to settle, by rail, as the provider names it.
    pub rails: BTreeMap<String, u32>,
}

impl Default for Waiting {
    /// As long as Stripe's incomplete subscriptions wait; for debits, what Stripe's pages of the rails
    /// say and some days more, since holidays differ.
    fn default() -> Self {
        let rails = [
            ("acss_debit", 14),
            ("au_becs_debit", 14),
            ("bacs_debit", 14),
            ("sepa_debit", 21),
            ("us_bank_account", 10),
        ];
        Self {
            action_hours: 23,
            processing_days: 7,
            rails: rails.map(|(rail, days)| (rail.to_owned(), days)).into(),
        }
    }
}

impl Waiting {
    fn is_default(&self) -> bool {
        *self == Self::default()
    }

    /// How many days a bank has.
    #[must_use]
    pub fn days_of(&self, rail: Option<&str>) -> u32 {
        let named = rail.and_then(|rail| self.rails.get(rail));
        named.copied().unwrap_or(self.processing_days)
    }
}

/// How often one method is tried again for an amount at most: attempts after a declined one, as networks
/// count them. What succeeds at once is none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Ceiling {
    /// So many retries,
    pub attempts: u32,
    /// within so many days.
    pub days: u32,
}

/// Something that happens on the way.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Step {
    /// Its name, for people.
    pub name: String,
    /// The local day after the first failure.
    pub day: u32,
    /// The local hour.
    #[serde(default = "ten")]
    pub hour: u32,
    /// What it does.
    pub action: Action,
    /// What its hold blocks; what grace or suspension do when it does not say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub blocks: Option<Blocks>,
    /// It holds only if all of these hold.
    #[serde(default)]
    pub when: When,
}

impl Step {
    /// What its hold blocks.
    #[must_use]
    pub fn blocked(&self) -> Blocks {
        self.blocks.unwrap_or(self.action.hold().blocks())
    }
}

/// What a step does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Action {
    /// Time to pay, with a hold that says so.
    Grace,
    /// The time is over.
    Suspend,
}

impl Action {
    /// The kind of hold that it places.
    #[must_use]
    pub const fn hold(self) -> hold::Kind {
        match self {
            Self::Grace => hold::Kind::DebtGrace,
            Self::Suspend => hold::Kind::DebtSuspension,
        }
    }
}

/// How it ends.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct End {
    /// The local day after the first failure.
    pub day: u32,
    /// The local hour.
    #[serde(default = "ten")]
    pub hour: u32,
    /// What is done.
    pub action: EndAction,
    /// It ends only if all of these hold.
    #[serde(default)]
    pub when: When,
}

/// What the end does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EndAction {
    /// What is unpaid stays open, and is suspended until it is paid.
    Suspend,
    /// The subscriptions whose invoices are unpaid end; the invoices are written off.
    Cancel,
    /// The invoices are written off; the subscriptions go on.
    Uncollectible,
    /// Nothing more is tried or done.
    Leave,
}

/// What must hold, all of it.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct When {
    /// The oldest unpaid invoice was finalised so many local days ago.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub oldest_days_at_least: Option<u32>,
    /// So many invoices are unpaid.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub unpaid_at_least: Option<u32>,
    /// So much is owed, by currency; one that is not named has no threshold.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub amount_at_least: BTreeMap<Currency, Decimal>,
    /// The last decline was of one of these classes; of any when none is named.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub last_decline: Vec<DeclineClass>,
}

/// What concerns mails.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Notices {
    /// When no mail is sent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub quiet: Option<Quiet>,
    /// How many local days before the renewal of a yearly plan its tenant is told; 0 for not at all.
    pub renewal_days: u32,
    /// How many local days before a card's last day its tenant is told; 0 for not at all.
    pub card_expiring_days: u32,
    /// The page on which a tenant pays or gives another card; `{tenant}` and `{invoice}` are filled in.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub billing_link: Option<String>,
}

impl Default for Notices {
    fn default() -> Self {
        Self {
            quiet: None,
            renewal_days: 7,
            card_expiring_days: 14,
            billing_link: None,
        }
    }
}

/// Local hours in which no mail is sent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Quiet {
    /// From this hour on,
    pub from: u32,
    /// to this one; over midnight if it is the smaller.
    pub to: u32,
    /// Kinds of mail that are sent at any hour.
    #[serde(default = "urgent")]
    pub except: Vec<String>,
}

fn urgent() -> Vec<String> {
    vec!["action_needed".to_owned()]
}

impl Policy {
    /// The policy that is built in: tried again on the days 1, 3, 5 and 7 at ten, cancelled on day 9.
    #[must_use]
    pub fn built_in() -> Self {
        Self {
            scope: Scope::Subscription,
            ladders: Ladders {
                soft: Ladder {
                    days: vec![1, 3, 5, 7],
                    hour: ten(),
                },
                data: Ladder::never(),
                hard: Ladder::never(),
                gateway: Gateway::default(),
            },
            next_method: NextMethod::default(),
            jitter_minutes: 0,
            ceiling: Some(Ceiling {
                attempts: 15,
                days: 30,
            }),
            steps: Vec::new(),
            end: End {
                day: 9,
                hour: ten(),
                action: EndAction::Cancel,
                when: When::default(),
            },
            notices: Notices::default(),
            waiting: Waiting::default(),
            disputes: Disputes::default(),
        }
    }

    /// Reads a document and checks it.
    ///
    /// # Errors
    /// [`DoorError::BadPolicy`] with the JSON Pointer to what is wrong.
    pub fn parse(document: Value) -> Result<Self, DoorError> {
        let policy: Self = serde_path_to_error::deserialize(document).map_err(|error| {
            let place = pointer(error.path());
            bad(place, error.into_inner().to_string())
        })?;
        policy.check()?;
        Ok(policy)
    }

    fn check(&self) -> Result<(), DoorError> {
        let ladders = [
            ("soft", &self.ladders.soft),
            ("data", &self.ladders.data),
            ("hard", &self.ladders.hard),
        ];
        for (name, ladder) in ladders {
            ladder.check(&format!("/ladders/{name}"), self.end.day)?;
        }
        self.ladders.gateway.check("/ladders/gateway")?;
        within("/jitter_minutes", self.jitter_minutes, 0, 720)?;
        if let Some(ceiling) = &self.ceiling {
            within("/ceiling/attempts", ceiling.attempts, 1, 100)?;
            within("/ceiling/days", ceiling.days, 1, MAX_DAYS)?;
        }
        self.check_steps()?;
        within("/end/day", self.end.day, 1, MAX_DAYS)?;
        within("/end/hour", self.end.hour, 0, 23)?;
        self.end.when.check("/end/when")?;
        self.waiting.check()?;
        self.notices.check()
    }

    fn check_steps(&self) -> Result<(), DoorError> {
        if self.steps.len() > MAX_ENTRIES {
            return Err(bad("/steps", format!("at most {MAX_ENTRIES} steps")));
        }
        for (index, step) in self.steps.iter().enumerate() {
            let place = format!("/steps/{index}");
            if step.name.is_empty() || step.name.chars().count() > 60 {
                return Err(bad(
                    format!("{place}/name"),
                    "a name has 1 to 60 characters",
                ));
            }
            let before = &self.steps[..index];
            if before.iter().any(|other| other.name == step.name) {
                let detail = format!("{:?} comes twice", step.name);
                return Err(bad(format!("{place}/name"), detail));
            }
            within(&format!("{place}/day"), step.day, 0, MAX_DAYS)?;
            within(&format!("{place}/hour"), step.hour, 0, 23)?;
            let late = (self.end.day, self.end.hour);
            if (step.day, step.hour) >= late {
                let detail = format!("the ladder ends on day {} at {}", late.0, late.1);
                return Err(bad(format!("{place}/day"), detail));
            }
            if let Some(last) = before.last()
                && (step.day, step.hour) <= (last.day, last.hour)
            {
                let detail = format!("it must be later than {:?} before it", last.name);
                return Err(bad(format!("{place}/day"), detail));
            }
            if !step.blocked().any() {
                let detail = "a hold blocks changes, access or billing, or several";
                return Err(bad(format!("{place}/blocks"), detail));
            }
            step.when.check(&format!("{place}/when"))?;
        }
        Ok(())
    }
}

impl Ladder {
    const fn never() -> Self {
        Self {
            days: Vec::new(),
            hour: ten(),
        }
    }

    fn check(&self, place: &str, end: u32) -> Result<(), DoorError> {
        if self.days.len() > MAX_ENTRIES {
            return Err(bad(
                format!("{place}/days"),
                format!("at most {MAX_ENTRIES} days"),
            ));
        }
        within(&format!("{place}/hour"), self.hour, 0, 23)?;
        for (index, day) in self.days.iter().enumerate() {
            let place = format!("{place}/days/{index}");
            within(&place, *day, 1, MAX_DAYS)?;
            if index > 0 && *day <= self.days[index - 1] {
                return Err(bad(place, "days ascend, each comes once"));
            }
            if *day > end {
                return Err(bad(place, format!("the ladder ends on day {end}")));
            }
        }
        Ok(())
    }
}

impl Gateway {
    fn check(&self, place: &str) -> Result<(), DoorError> {
        within(
            &format!("{place}/first_minutes"),
            self.first_minutes,
            1,
            1_440,
        )?;
        within(
            &format!("{place}/cap_minutes"),
            self.cap_minutes,
            self.first_minutes,
            7 * 1_440,
        )?;
        within(&format!("{place}/attempts"), self.attempts, 0, 50)
    }
}

impl Waiting {
    fn check(&self) -> Result<(), DoorError> {
        within("/waiting/action_hours", self.action_hours, 1, 30 * 24)?;
        within("/waiting/processing_days", self.processing_days, 1, 90)?;
        for (rail, days) in &self.rails {
            within(&format!("/waiting/rails/{rail}"), *days, 1, 90)?;
        }
        Ok(())
    }
}

impl When {
    fn check(&self, place: &str) -> Result<(), DoorError> {
        if let Some(days) = self.oldest_days_at_least {
            within(
                &format!("{place}/oldest_days_at_least"),
                days,
                0,
                3 * MAX_DAYS,
            )?;
        }
        if let Some(count) = self.unpaid_at_least {
            within(&format!("{place}/unpaid_at_least"), count, 1, 1_000)?;
        }
        for (currency, amount) in &self.amount_at_least {
            if amount.is_sign_negative() || Money::new(*amount, *currency).amount() != *amount {
                let detail = format!(
                    "{amount} is negative or has more than {} decimals",
                    currency.decimals()
                );
                return Err(bad(format!("{place}/amount_at_least/{currency}"), detail));
            }
        }
        Ok(())
    }
}

impl Notices {
    fn check(&self) -> Result<(), DoorError> {
        within("/notices/renewal_days", self.renewal_days, 0, 90)?;
        let days = self.card_expiring_days;
        within(
            "/notices/card_expiring_days",
            days,
            0,
            MAX_CARD_EXPIRING_DAYS,
        )?;
        if let Some(quiet) = &self.quiet {
            within("/notices/quiet/from", quiet.from, 0, 23)?;
            within("/notices/quiet/to", quiet.to, 0, 23)?;
            if quiet.from == quiet.to {
                let detail = "from and to are the same hour; leave quiet out for no quiet hours";
                return Err(bad("/notices/quiet/to", detail));
            }
            for (index, kind) in quiet.except.iter().enumerate() {
                if !crate::notice::KINDS.contains(&kind.as_str()) {
                    let kinds = crate::notice::KINDS.join(", ");
                    let detail = format!("{kind:?} is no kind of mail; there are {kinds}");
                    return Err(bad(format!("/notices/quiet/except/{index}"), detail));
                }
            }
        }
        match &self.billing_link {
            Some(link) if !link.starts_with("https://") && !link.starts_with("http://") => {
                Err(bad("/notices/billing_link", "it begins with https://"))
            }
            Some(link) if link.len() > 500 || link.contains(char::is_whitespace) => {
                let detail = "at most 500 characters, and no white space";
                Err(bad("/notices/billing_link", detail))
            }
            _ => Ok(()),
        }
    }
}

fn within(place: &str, value: u32, least: u32, most: u32) -> Result<(), DoorError> {
    if (least..=most).contains(&value) {
        return Ok(());
    }
    Err(bad(place, format!("it is {value}; {least} to {most}")))
}

fn bad(place: impl Into<String>, detail: impl Into<String>) -> DoorError {
    DoorError::BadPolicy {
        place: place.into(),
        detail: detail.into(),
    }
}

/// A path as a JSON Pointer (RFC 6901).
fn pointer(path: &serde_path_to_error::Path) -> String {
    use serde_path_to_error::Segment;
    path.iter()
        .map(|segment| match segment {
            Segment::Seq { index } => format!("/{index}"),
            Segment::Map { key } => format!("/{}", key.replace('~', "~0").replace('/', "~1")),
            Segment::Enum { variant } => format!("/{variant}"),
            Segment::Unknown => "/?".to_owned(),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn whole() -> Value {
        json!({
            "ladders": { "soft": { "days": [1, 3] } },
            "steps": [
                { "name": "grace", "day": 2, "action": "grace" },
                { "name": "shut", "day": 5, "action": "suspend", "blocks": { "access": true },
                  "when": { "amount_at_least": { "EUR": "10.00" } } },
            ],
            "end": { "day": 14, "action": "cancel" },
        })
    }

    #[test]
    fn what_is_left_out_has_a_default_and_what_is_written_is_read_back() {
        let policy = Policy::parse(whole()).unwrap();
        assert_eq!(policy.ladders.soft.hour, 10);
        assert!(policy.ladders.hard.days.is_empty());
        assert_eq!(policy.steps[0].blocked(), Blocks::new(true, false, false));
        assert_eq!(policy.steps[1].blocked(), Blocks::new(false, true, false));
        assert_eq!(policy.notices.renewal_days, 7);
        let written = serde_json::to_value(&policy).unwrap();
        assert_eq!(Policy::parse(written).unwrap(), policy);
        let built_in = serde_json::to_value(Policy::built_in()).unwrap();
        assert_eq!(Policy::parse(built_in).unwrap(), Policy::built_in());
    }

    /// Puts a value at a path of a policy that fits, and expects it refused at `place` below it.
    fn refused(path: &str, value: Value, place: &str, words: &str) {
        let mut document = whole();
        let (parent, name) = path.rsplit_once('/').unwrap();
        match document.pointer_mut(parent).unwrap() {
            Value::Array(array) => array[name.parse::<usize>().unwrap()] = value,
            object => object[name] = value,
        }
        match Policy::parse(document).unwrap_err() {
            DoorError::BadPolicy {
                place: told,
                detail,
            } => {
                assert_eq!(told, place, "{path}: {detail}");
                assert!(detail.contains(words), "{path}: {detail}");
            }
            other => panic!("{path}: {other}"),
        }
    }

    #[test]
    fn an_error_in_a_ladder_names_its_place() {
        let first = "/ladders/soft/days/0";
        let second = "/ladders/soft/days/1";
        refused("/ladders", json!(null), "/ladders", "invalid type");
        refused(second, json!(1), second, "days ascend");
        refused(second, json!(15), second, "ends on day 14");
        refused(first, json!("x"), first, "invalid type");
        refused("/end/day", json!(0), first, "ends on day 0");
        let hour = "/ladders/soft/hour";
        refused(hour, json!(24), hour, "it is 24; 0 to 23");
        let typo = "/ladders/sfot";
        refused(typo, json!({}), typo, "unknown field");
        let gateway = json!({ "attempts": 99 });
        let place = "/ladders/gateway/attempts";
        refused("/ladders/gateway", gateway, place, "0 to 50");
        let ceiling = json!({ "attempts": 0, "days": 30 });
        refused("/ceiling", ceiling, "/ceiling/attempts", "1 to 100");
    }

    #[test]
    fn an_error_in_a_step_or_the_end_names_its_place() {
        let day = "/steps/1/day";
        refused(day, json!(2), day, "later than \"grace\"");
        refused(day, json!(14), day, "the ladder ends on day 14");
        let name = "/steps/1/name";
        refused(name, json!("grace"), name, "comes twice");
        let action = "/steps/0/action";
        refused(action, json!("mail"), action, "unknown variant");
        let blocks = "/steps/0/blocks";
        refused(blocks, json!({}), blocks, "a hold blocks");
        let amount = "/steps/1/when/amount_at_least/EUR";
        refused(amount, json!("1.005"), amount, "more than 2 decimals");
        refused("/end/action", json!("forget"), "/end/action", "unknown");
    }

    #[test]
    fn an_error_about_mails_names_its_place() {
        let never = json!({ "quiet": { "from": 8, "to": 8 } });
        refused("/notices", never, "/notices/quiet/to", "same hour");
        let spam = json!({ "quiet": { "from": 20, "to": 8, "except": ["spam"] } });
        let place = "/notices/quiet/except/0";
        refused("/notices", spam, place, "\"spam\" is no kind of mail");
        let link = json!({ "billing_link": "ftp://x" });
        refused("/notices", link, "/notices/billing_link", "https://");
    }
}

//! What support does to what a tenant bought, owes and has. What costs or gives back money is shown
//! beforehand as the server computes it.

use super::{Deed, Preview};
use crate::event::{Act, BillingAct};
use crate::form::{Arg, Form, Kind, Values};
use crate::subject::{Needs, Offer, Subject, Target};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use tenure_client::{
    ActOnInvoice, AttachPaymentMethod, CancelSubscription, ChangeLegalEntity, ChangeSubscription,
    ChangeTax, ChangeZone, ClearOverride, CreditPolicy, DunningExemption, ExemptFromDunning,
    GrantCredit, Hold, HoldBlocks, HoldKind, IntentKind, Invoice, InvoiceStatus, LiftExemption,
    LiftHold, Money, MoveAnchor, NewCreditNote, PauseSubscription, PlaceHold, Plan,
    ResumeSubscription, Role, SetOverride, SubscriptionDetail, SubscriptionStatus, TaxRate,
    UndoIntent, When, Whoami,
};
use uuid::Uuid;

const CHANGE: &str = "change";
const CANCEL: &str = "cancel";
const PAUSE: &str = "pause";
const RESUME: &str = "resume";
const MOVE_ANCHOR: &str = "move-anchor";
const UNDO: &str = "undo";
const COLLECT: &str = "collect";
const VOID: &str = "void";
const WRITE_OFF: &str = "write-off";
const CREDIT_NOTE: &str = "credit-note";
const REFUND: &str = "refund";
const GRANT: &str = "grant-credit";
const HOLD: &str = "hold-service";
const LIFT: &str = "lift-service";
const OVERRIDE: &str = "set-override";
const CLEAR: &str = "clear-override";
const ATTACH: &str = "attach-method";
const EXEMPT: &str = "exempt";
const CHANGE_ZONE: &str = "change-zone";
const CHANGE_ENTITY: &str = "change-entity";
const SET_TAX: &str = "set-tax";
const CLEAR_TAX: &str = "clear-tax";
/// How prices stand to a tax.
const ADDED: &str = "added";
const HELD: &str = "held";
const LIFT_EXEMPTION: &str = "end-exemption";
const SUPPORT: Needs = Needs::role(Role::Support);
const SUPPORT_ALL: Needs = Needs::all(Role::Support);

/// The kinds of what may be to come, in the words of the API.
const INTENTS: [(&str, IntentKind); 5] = [
    ("change", IntentKind::Change),
    ("cancel", IntentKind::Cancel),
    ("pause", IntentKind::Pause),
    ("resume", IntentKind::Resume),
    ("move-anchor", IntentKind::MoveAnchor),
];
/// The kinds of hold that are for people.
const KINDS: [HoldKind; 3] = [HoldKind::CustomerPause, HoldKind::Fraud, HoldKind::Legal];

/// The word for a kind of what is to come.
pub(crate) fn intent_word(kind: IntentKind) -> &'static str {
    let found = INTENTS.iter().find(|(_, known)| *known == kind);
    found.map_or("change", |(word, _)| word)
}

/// A verb with fields, a reason, and a preview of the server's.
fn asks_server(verb: &str, help: &str, args: Vec<Arg>) -> Form {
    Form {
        dry_run: true,
        ..Form::new(verb, help, args)
    }
}

fn choice(words: &[&str]) -> Kind {
    Kind::Choice(words.iter().map(ToString::to_string).collect())
}

fn when(begin: &str) -> Arg {
    Arg::needed("when", Kind::When).begins(begin)
}

/// What can be done to a subscription.
pub(crate) fn on_subscription(
    who: &Whoami,
    one: &SubscriptionDetail,
    plans: &[Plan],
) -> Vec<Offer> {
    let known = &one.subscription;
    let subject = Subject::new(
        Target::Subscription(Box::new(one.clone())),
        format!("subscription to {}", known.plan),
    );
    let paused = known.status == SubscriptionStatus::Paused;
    let offer = |form| Offer::of_role(form, &subject, who, SUPPORT);
    let pending: Vec<&str> = one
        .intents
        .iter()
        .map(|one| intent_word(one.kind))
        .collect();
    let undo = Form::new(
        UNDO,
        "Takes back what was to come about.",
        vec![Arg::needed("intent", choice(&pending)).begins(pending.first().unwrap_or(&""))],
    );
    vec![
        offer(change_form(one, plans)),
        offer(asks_server(
            CANCEL,
            "Ends it: now, with what is paid for, or at a time of the tenant's.",
            vec![
                when("period-end"),
                Arg::needed("credit", choice(&["none", "credit", "refund"])).begins("none"),
            ],
        )),
        offer(asks_server(
            PAUSE,
            "Stops use and billing; what is paid for and not used becomes credit.",
            vec![when("now"), Arg::optional("until", Kind::Time)],
        ))
        .unless(paused, "it is paused"),
        offer(asks_server(
            RESUME,
            "Lets it go on: it is used and billed again.",
            vec![when("now")],
        ))
        .unless(!paused, "it is not paused"),
        offer(asks_server(
            MOVE_ANCHOR,
            "Lets its periods begin on another day of the month; the time up to it is charged.",
            vec![Arg::needed("day", Kind::Number(1)), when("now")],
        )),
        offer(undo).unless(pending.is_empty(), "nothing is to come"),
    ]
}

fn change_form(one: &SubscriptionDetail, plans: &[Plan]) -> Form {
    let known = &one.subscription;
    let codes: Vec<&str> = plans
        .iter()
        .filter(|plan| !plan.retired)
        .map(|plan| plan.plan.as_str())
        .collect();
    let kind = if codes.is_empty() {
        Kind::Text
    } else {
        choice(&codes)
    };
    let own = |item: &str| ["plan", "seats"].contains(&item);
    let add_ons = one.items.iter().filter(|item| !own(&item.item));
    let add_ons: Vec<String> = add_ons
        .map(|item| format!("{}={}", item.item, item.quantity))
        .collect();
    let seats = known.seats.map(|seats| seats.to_string());
    asks_server(
        CHANGE,
        "Changes plan, seats or add-ons (such as extra-storage=2, or none). What is left empty stays.",
        vec![
            Arg::optional("plan", kind),
            Arg::optional("seats", Kind::Number(0)).begins(seats.unwrap_or_default()),
            Arg::optional("add_ons", Kind::Text).begins(add_ons.join(", ")),
            when("now"),
        ],
    )
}

/// What can be done to an invoice.
pub(crate) fn on_invoice(who: &Whoami, tenant: Uuid, invoice: &Invoice) -> Vec<Offer> {
    let number = invoice.number.as_deref().unwrap_or("draft");
    let subject = Subject::new(
        Target::Invoice(tenant, Box::new(invoice.clone())),
        format!("invoice {number}"),
    );
    let offer = |form| Offer::of_role(form, &subject, who, SUPPORT_ALL);
    let open = invoice.status == InvoiceStatus::Open;
    let verbs = [
        (
            COLLECT,
            "Charges what is due now, whatever dunning has planned.",
        ),
        (
            VOID,
            "Takes it back: it counts as never billed, and what the balance paid goes back.",
        ),
        (WRITE_OFF, "Gives it up: it is not collected any more."),
    ];
    let acts = verbs.map(|(verb, help)| {
        offer(asks_server(verb, help, Vec::new())).unless(!open, "only an open invoice can be")
    });
    let given = matches!(invoice.status, InvoiceStatus::Draft | InvoiceStatus::Void);
    let amount = || Arg::optional("amount", Kind::Text);
    let back = [
        (
            CREDIT_NOTE,
            "Gives back of it, all that is left or an amount: off the debt, then to the balance.",
        ),
        (
            REFUND,
            "Gives back of it: off the debt, then to the payment method as far as that paid.",
        ),
    ];
    let back = back.map(|(verb, help)| {
        offer(asks_server(verb, help, vec![amount()])).unless(given, "nothing was billed by it")
    });
    acts.into_iter().chain(back).collect()
}

/// What can be done to a tenant's money and service as a whole.
pub(crate) fn on_tenant(who: &Whoami, tenant: Uuid, name: &str, currency: &str) -> Vec<Offer> {
    let subject = Subject::new(Target::Tenant(tenant), name);
    let offer = |form, needs| Offer::of_role(form, &subject, who, needs);
    let kinds = KINDS.map(HoldKind::as_str);
    vec![
        offer(
            Form::new(
                GRANT,
                "Gives the tenant credit: its next invoices are paid with it first.",
                vec![
                    Arg::needed("amount", Kind::Text),
                    Arg::needed("currency", Kind::Text).begins(currency),
                ],
            ),
            SUPPORT_ALL,
        ),
        offer(
            Form::new(
                HOLD,
                "Holds its service. What is blocked is its kind's to say unless it is named: changes, access, billing.",
                vec![
                    Arg::needed("kind", choice(&kinds)),
                    Arg::optional("blocks", Kind::Text),
                    Arg::optional("until", Kind::Time),
                ],
            ),
            SUPPORT_ALL,
        ),
        offer(
            Form::new(
                OVERRIDE,
                "Gives it a value of a feature in place of what it bought: true, false, a number, a text.",
                vec![
                    Arg::needed("feature", Kind::Text),
                    Arg::needed("value", Kind::Text),
                    Arg::optional("until", Kind::Time),
                ],
            ),
            SUPPORT_ALL,
        ),
        offer(
            Form::new(
                EXEMPT,
                "Spares it the steps and the end of dunning until a time; attempts go on.",
                vec![
                    Arg::needed("until", Kind::Time),
                    Arg::optional("currency", Kind::Text),
                ],
            ),
            SUPPORT_ALL,
        ),
        offer(zone_form(), SUPPORT),
        offer(entity_form(), SUPPORT),
        offer(tax_form(), SUPPORT),
        offer(clear_tax_form(), SUPPORT),
        offer(attach_form(), SUPPORT),
    ]
}

fn clear_tax_form() -> Form {
    asks_server(
        CLEAR_TAX,
        "Bills it without tax from now on; what was billed stays.",
        Vec::new(),
    )
}

fn attach_form() -> Form {
    Form {
        reason: false,
        ..Form::new(
            ATTACH,
            "Gives it a payment method of the provider's, at a place of its order or, without one, instead of its first.",
            vec![
                Arg::needed("payment_method", Kind::Text),
                Arg::optional("position", Kind::Number(1)),
            ],
        )
    }
}

fn zone_form() -> Form {
    asks_server(
        CHANGE_ZONE,
        "Lets its days begin in another zone (such as Europe/Berlin); what is paid for stays.",
        vec![Arg::needed("zone", Kind::Text)],
    )
}

fn entity_form() -> Form {
    asks_server(
        CHANGE_ENTITY,
        "Lets another legal entity issue its invoices from now on; what is finalised stays.",
        vec![Arg::needed("legal_entity", Kind::Text)],
    )
}

fn tax_form() -> Form {
    asks_server(
        SET_TAX,
        "Sets the tax on what it is billed from now on: added to prices, or held by them.",
        vec![
            Arg::needed("name", Kind::Text),
            Arg::needed("percent", Kind::Text),
            Arg::needed("prices", choice(&[ADDED, HELD])).begins(ADDED),
        ],
    )
}

/// To lift a hold that a person placed.
pub(crate) fn on_hold(who: &Whoami, hold: &Hold) -> Offer {
    let subject = Subject::new(
        Target::ServiceHold(Box::new(hold.clone())),
        format!("{} hold", hold.kind.as_str()),
    );
    let form = Form::new(LIFT, "Lifts the hold: what it blocked goes on.", Vec::new());
    let by_run = hold.source.is_some();
    Offer::of_role(form, &subject, who, SUPPORT_ALL)
        .unless(by_run, "a run placed it and lifts it by itself")
}

/// To end what spares a tenant.
pub(crate) fn on_exemption(who: &Whoami, tenant: Uuid, one: &DunningExemption) -> Offer {
    let target = Target::Exemption(tenant, Box::new(one.clone()));
    let form = Form::new(
        LIFT_EXEMPTION,
        "Takes the exemption back: the steps that were held back come.",
        Vec::new(),
    );
    let subject = Subject::new(target, "exemption from dunning");
    Offer::of_role(form, &subject, who, SUPPORT_ALL)
}

/// To let what was bought count again.
pub(crate) fn on_override(who: &Whoami, tenant: Uuid, feature: &str) -> Offer {
    let form = Form::new(
        CLEAR,
        "Takes the override away: what was bought counts again.",
        Vec::new(),
    );
    let target = Target::Override(tenant, feature.to_owned());
    let subject = Subject::new(target, format!("override of {feature}"));
    Offer::of_role(form, &subject, who, SUPPORT_ALL)
}

pub(super) fn act(deed: &Deed<'_>, dry_run: bool) -> Result<Act, String> {
    let (tenant_id, act) = match &deed.subject.target {
        Target::Subscription(one) => {
            let known = &one.subscription;
            (known.tenant_id, subscription(deed, known.subscription_id)?)
        }
        Target::Invoice(tenant, one) => (*tenant, invoice(deed, one)?),
        Target::Tenant(tenant) => (*tenant, on_whole(deed)?),
        Target::ServiceHold(one) => {
            let reason = deed.why();
            let lift = BillingAct::LiftHold(one.hold_id, LiftHold { reason });
            (one.tenant_id, lift)
        }
        Target::Exemption(tenant, one) => {
            let reason = deed.why();
            let lift = BillingAct::LiftExemption(one.exemption_id, LiftExemption { reason });
            (*tenant, lift)
        }
        Target::Override(tenant, feature) => {
            let reason = deed.why();
            let clear = BillingAct::ClearOverride(feature.clone(), ClearOverride { reason });
            (*tenant, clear)
        }
        _ => return Err(deed.unknown()),
    };
    Ok(Act::Billing {
        tenant_id,
        act,
        dry_run,
    })
}

fn subscription(deed: &Deed<'_>, id: Uuid) -> Result<BillingAct, String> {
    let (values, reason) = (deed.values, Some(deed.why()));
    let when = moment(values);
    let dry_run = false;
    Ok(match deed.verb {
        CHANGE => {
            let plan = Some(values.text("plan")).filter(|plan| !plan.is_empty());
            let asked = ChangeSubscription {
                plan,
                newest: false,
                seats: values.number("seats")?,
                add_ons: add_ons(&values.text("add_ons"))?,
                when,
                reason,
                dry_run,
            };
            BillingAct::Change(id, Box::new(asked))
        }
        CANCEL => BillingAct::Cancel(
            id,
            CancelSubscription {
                when,
                credit: credit(&values.text("credit")),
                reason,
                dry_run,
            },
        ),
        PAUSE => BillingAct::Pause(
            id,
            PauseSubscription {
                when,
                until: values.time("until"),
                reason,
                dry_run,
            },
        ),
        RESUME => BillingAct::Resume(
            id,
            ResumeSubscription {
                when,
                reason,
                dry_run,
            },
        ),
        MOVE_ANCHOR => BillingAct::MoveAnchor(
            id,
            MoveAnchor {
                day: values.number("day")?.ok_or("day: it is needed")?,
                when,
                reason,
                dry_run,
            },
        ),
        UNDO => {
            let word = values.text("intent");
            let found = INTENTS.iter().find(|(known, _)| *known == word);
            let (_, intent) = *found.ok_or("intent: it is needed")?;
            BillingAct::Undo(id, UndoIntent { intent, reason })
        }
        _ => return Err(deed.unknown()),
    })
}

fn moment(values: &Values) -> When {
    match values.text("when").as_str() {
        "period-end" => When::PeriodEnd,
        _ => values.time("when").map_or(When::Now, When::At),
    }
}

fn credit(word: &str) -> CreditPolicy {
    match word {
        "credit" => CreditPolicy::Credit,
        "refund" => CreditPolicy::Refund,
        _ => CreditPolicy::None,
    }
}

/// Add-ons as they are typed: `extra-storage=2, priority-support=1`, or `none`.
fn add_ons(text: &str) -> Result<Option<BTreeMap<String, u32>>, String> {
    match text.trim() {
        "" => return Ok(None),
        "none" => return Ok(Some(BTreeMap::new())),
        _ => {}
    }
    let one = |part: &str| {
        let (key, count) = part.trim().split_once('=')?;
        Some((key.trim().to_owned(), count.trim().parse().ok()?))
    };
    let all: Option<BTreeMap<String, u32>> = text.split(',').map(one).collect();
    all.map(Some)
        .ok_or_else(|| "add_ons: such as extra-storage=2, priority-support=1, or none".to_owned())
}

fn invoice(deed: &Deed<'_>, one: &Invoice) -> Result<BillingAct, String> {
    let (id, reason, dry_run) = (one.invoice_id, deed.why(), false);
    Ok(match deed.verb {
        COLLECT | VOID | WRITE_OFF => {
            let asked = ActOnInvoice { reason, dry_run };
            BillingAct::Invoice(id, deed.verb.to_owned(), asked)
        }
        CREDIT_NOTE | REFUND => {
            let typed = deed.values.text("amount");
            let amount = match typed.as_str() {
                "" => None,
                typed => Some(money(typed, &one.total.currency)?),
            };
            let note = NewCreditNote {
                amount,
                refund: deed.verb == REFUND,
                reason,
                dry_run,
            };
            BillingAct::CreditNote(id, note)
        }
        _ => return Err(deed.unknown()),
    })
}

/// An amount as it is typed, with or without its currency.
fn money(text: &str, currency: &str) -> Result<Money, String> {
    let (amount, named) = text.split_once(' ').unwrap_or((text, currency));
    let amount = json!({"amount": amount, "currency": named.trim()});
    serde_json::from_value(amount).map_err(|_| "amount: a number such as 12.50".to_owned())
}

fn on_whole(deed: &Deed<'_>) -> Result<BillingAct, String> {
    let (values, reason) = (deed.values, deed.why());
    Ok(match deed.verb {
        GRANT => BillingAct::Grant(GrantCredit {
            amount: money(&values.text("amount"), &values.text("currency"))?,
            reason,
            dry_run: false,
        }),
        HOLD => {
            let word = values.text("kind");
            let kind = KINDS.into_iter().find(|kind| kind.as_str() == word);
            BillingAct::Hold(PlaceHold {
                kind: kind.ok_or("kind: it is needed")?,
                subscription_id: None,
                starts_at: None,
                ends_at: values.time("until"),
                blocks: blocks(&values.text("blocks"))?,
                reason,
            })
        }
        OVERRIDE => {
            let typed = values.text("value");
            let number = typed.parse::<u64>().map(Value::from).ok();
            let switch = typed.parse::<bool>().map(Value::from).ok();
            let set = SetOverride {
                value: number.or(switch).unwrap_or_else(|| Value::from(typed)),
                expires_at: values.time("until"),
                reason,
            };
            BillingAct::Override(values.text("feature"), set)
        }
        EXEMPT => BillingAct::Exempt(ExemptFromDunning {
            currency: Some(values.text("currency")).filter(|text| !text.is_empty()),
            ends_at: values.time("until").ok_or("until: it is needed")?,
            reason,
        }),
        CHANGE_ZONE => BillingAct::ChangeZone(ChangeZone {
            zone: values.text("zone"),
            reason: Some(reason),
            dry_run: false,
        }),
        CHANGE_ENTITY => BillingAct::ChangeLegalEntity(ChangeLegalEntity {
            legal_entity: values.text("legal_entity"),
            reason: Some(reason),
            dry_run: false,
        }),
        SET_TAX => {
            let percent = values.text("percent");
            let percent = percent.trim().trim_end_matches('%').trim_end().parse();
            let rate = TaxRate {
                name: values.text("name"),
                percent: percent.map_err(|_| "percent: a number from 0 to 100, such as 19")?,
                inclusive: values.text("prices") == HELD,
            };
            BillingAct::ChangeTax(taxed(Some(rate), reason))
        }
        CLEAR_TAX => BillingAct::ChangeTax(taxed(None, reason)),
        ATTACH => BillingAct::Attach(AttachPaymentMethod {
            payment_method: values.text("payment_method"),
            position: values.number("position")?,
        }),
        _ => return Err(deed.unknown()),
    })
}

fn taxed(tax: Option<TaxRate>, reason: String) -> ChangeTax {
    ChangeTax {
        tax,
        reason: Some(reason),
        dry_run: false,
    }
}

/// What a hold blocks, as it is typed; as its kind does where nothing is.
fn blocks(text: &str) -> Result<Option<HoldBlocks>, String> {
    if text.trim().is_empty() {
        return Ok(None);
    }
    let mut blocks = HoldBlocks::default();
    for word in text.split(',').map(str::trim) {
        match word {
            "changes" => blocks.changes = true,
            "access" => blocks.access = true,
            "billing" => blocks.billing = true,
            _ => return Err("blocks: changes, access, billing, or several".to_owned()),
        }
    }
    Ok(Some(blocks))
}

/// What a deed without a preview of the server's will do.
pub(super) fn preview(deed: &Deed<'_>, help: &str) -> Preview {
    let values = deed.values;
    let until = values
        .time("until")
        .map(|at| at.format("%d %b %Y %H:%M UTC"));
    let until = until.map_or_else(
        || "until somebody ends it".to_owned(),
        |at| format!("until {at}"),
    );
    let words = match (deed.verb, &deed.subject.target) {
        (GRANT, _) => vec![
            format!(
                "{} {} is added to its balance.",
                values.text("amount"),
                values.text("currency")
            ),
            "Its next invoices are paid with it before a method is charged.".to_owned(),
        ],
        (HOLD, _) => vec![format!("The hold counts at once, {until}.")],
        (OVERRIDE, _) => vec![format!(
            "{} is {} at once, {until}; what it bought does not count meanwhile.",
            values.text("feature"),
            values.text("value")
        )],
        (EXEMPT, _) => vec![
            format!("No step of dunning comes {until}, and what stands is lifted."),
            "Attempts to collect go on.".to_owned(),
        ],
        (UNDO, Target::Subscription(one)) => {
            let word = values.text("intent");
            let mut pending = one.intents.iter();
            let found = pending.find(|one| intent_word(one.kind) == word);
            let at = found.map(|one| one.at.format(" on %d %b %Y").to_string());
            vec![
                format!("The {word}{} does not come about.", at.unwrap_or_default()),
                "Nothing is charged or given back for that.".to_owned(),
            ]
        }
        (LIFT, Target::ServiceHold(hold)) => vec![format!(
            "What it blocked since {} goes on, unless another hold blocks it, too.",
            hold.starts_at.format("%d %b %Y")
        )],
        _ => vec![help.to_owned()],
    };
    Preview::words(words)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_typed_is_read_or_says_what_it_wants() {
        let two = BTreeMap::from([("a".to_owned(), 2), ("b-c".to_owned(), 1)]);
        assert_eq!(add_ons("a=2, b-c = 1"), Ok(Some(two)));
        assert_eq!(add_ons(" "), Ok(None));
        assert_eq!(add_ons("none"), Ok(Some(BTreeMap::new())));
        assert!(add_ons("a=many").is_err());
        assert_eq!(money("12.50", "EUR").unwrap().to_string(), "12.50 EUR");
        assert_eq!(money("12.50 USD", "EUR").unwrap().to_string(), "12.50 USD");
        assert!(money("twelve", "EUR").is_err());
        let some = blocks("access, billing").unwrap().unwrap();
        assert_eq!(
            (some.changes, some.access, some.billing),
            (false, true, true)
        );
        assert_eq!(blocks(""), Ok(None));
        assert!(blocks("all").is_err());
    }
}

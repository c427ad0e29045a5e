//! A year of generated customers with every event, reconciled to the cent between invoices, payments,
//! credit and the provider's own books.
//!
//! Each customer does something every few days, by a seed: subscribes, changes, pauses, resumes,
//! cancels, moves its day, has its card declined and mended, gives other cards and puts them in order,
//! is given something back, disputes what it paid and wins or loses. Whatever they did, the books must
//! agree. The suite plays eight; `TENURE_SUITE_CUSTOMERS=1000` plays more.

use std::collections::BTreeMap;

use futures_util::StreamExt as _;
use rust_decimal::Decimal;
use sqlx::PgConnection;
use tenure_client::{
    CancelSubscription, ChangeSubscription, ChangeTax, CreditPolicy, GrantCredit, IdempotencyKey,
    Money, MoveAnchor, NewCreditNote, NewSubscription, NewTenant, OrderPaymentMethods,
    PauseSubscription, ResumeSubscription, SubscriptionStatus, TaxRate, UndoIntent, When,
};
use tenure_workflows::pricing::Bill;
use uuid::Uuid;

use crate::support::app::{Subscriber, TestApp};

const CURRENCIES: [&str; 3] = ["EUR", "USD", "JPY"];
const ZONES: [&str; 4] = ["UTC", "Europe/Berlin", "America/New_York", "Asia/Tokyo"];
const PLANS: [&str; 5] = [
    "starter-monthly",
    "team-monthly",
    "team-yearly",
    "scale-monthly",
    "pilot-quarter",
];
const CARDS: [&str; 3] = [
    "pm_card_visa",
    "pm_sandbox_insufficient_funds",
    "pm_card_visa",
];

/// Cards that stand beside others: some are refused for good.
const MORE_CARDS: [&str; 4] = [
    "pm_card_visa",
    "pm_sandbox_lost_card",
    "pm_sandbox_expired_card",
    "pm_sandbox_insufficient_funds",
];

/// Chance by a seed: xorshift (Marsaglia 2003), so that a failure can be played again.
struct Chance(u64);

impl Chance {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % bound
    }

    fn pick<'a>(&mut self, from: &[&'a str]) -> &'a str {
        from[self.below(from.len() as u64) as usize]
    }
}

fn key() -> IdempotencyKey {
    IdempotencyKey::generate()
}

fn when(chance: &mut Chance, customer_now: chrono::DateTime<chrono::Utc>) -> When {
    match chance.below(3) {
        0 => When::Now,
        1 => When::PeriodEnd,
        _ => When::At(customer_now + chrono::TimeDelta::days(1 + chance.below(20) as i64)),
    }
}

async fn arrive<'a>(app: &'a TestApp, chance: &mut Chance) -> (Subscriber<'a>, String) {
    let new = NewTenant {
        name: "Acme".to_owned(),
        email: "billing@acme.example".to_owned(),
        zone: chance.pick(&ZONES).to_owned(),
        locale: None,
        test_clock: Some("2027-01-30T09:00:00Z".parse().unwrap()),
        legal_entity: None,
    };
    let tenant = app.client.create_tenant(&new, &key()).await.unwrap();
    let customer = Subscriber {
        client: &app.client,
        clock: tenant.test_clock_id.unwrap(),
        tenant,
        subscription: Uuid::nil(),
    };
    customer.attach("pm_card_visa").await;
    if chance.below(2) == 0 {
        let tax = TaxRate {
            name: "VAT".to_owned(),
            percent: Decimal::from(7 + chance.below(14)),
            inclusive: chance.below(2) == 0,
        };
        let tenant = customer.tenant.tenant_id;
        let asked = ChangeTax {
            tax: Some(tax),
            reason: Some("it is due".to_owned()),
            dry_run: false,
        };
        app.client.change_tax(tenant, &asked, &key()).await.unwrap();
    }
    (customer, chance.pick(&CURRENCIES).to_owned())
}

async fn subscribe(customer: &mut Subscriber<'_>, currency: &str, chance: &mut Chance) {
    let coupon = match chance.below(4) {
        0 => Some("welcome-20".to_owned()),
        1 => Some("five-off".to_owned()),
        _ => None,
    };
    let new = NewSubscription {
        plan: chance.pick(&PLANS).to_owned(),
        currency: currency.to_owned(),
        coupon,
        anchor_day: (chance.below(3) == 0).then(|| 1 + chance.below(31) as u32),
        ..NewSubscription::default()
    };
    let tenant = customer.tenant.tenant_id;
    // While something is held nothing new is sold: that is an answer, too.
    if let Ok(made) = customer.client.subscribe(tenant, &new, &key()).await {
        customer.subscription = made.subscription_id;
    }
}

/// One act. Refusals are answers: that the books agree is all that is asked.
#[expect(
    clippy::too_many_lines,
    reason = "one arm for each thing that a customer may do"
)]
async fn act(
    app: &TestApp,
    customer: &mut Subscriber<'_>,
    currency: &str,
    disputes: &mut Vec<String>,
    chance: &mut Chance,
) {
    let (client, tenant) = (customer.client, customer.tenant.tenant_id);
    let id = customer.subscription;
    let now = customer.now().await;
    match chance.below(16) {
        0 | 1 => {
            let asked = ChangeSubscription {
                plan: Some(chance.pick(&PLANS).to_owned()),
                when: when(chance, now),
                ..ChangeSubscription::default()
            };
            let _ = client.change_subscription(tenant, id, &asked, &key()).await;
        }
        2 => {
            let storage = ("extra-storage".to_owned(), 1 + chance.below(5) as u32);
            let asked = ChangeSubscription {
                seats: Some(1 + chance.below(20) as u32),
                add_ons: (chance.below(2) == 0).then(|| BTreeMap::from([storage])),
                when: when(chance, now),
                ..ChangeSubscription::default()
            };
            let _ = client.change_subscription(tenant, id, &asked, &key()).await;
        }
        3 => {
            let asked = PauseSubscription {
                reason: None,
                when: when(chance, now),
                until: (chance.below(2) == 0).then(|| now + chrono::TimeDelta::days(45)),
                dry_run: false,
            };
            let _ = client.pause_subscription(tenant, id, &asked, &key()).await;
        }
        4 => {
            let asked = ResumeSubscription::default();
            let _ = client.resume_subscription(tenant, id, &asked, &key()).await;
        }
        5 => {
            let credit = [
                CreditPolicy::None,
                CreditPolicy::Credit,
                CreditPolicy::Refund,
            ];
            let asked = CancelSubscription {
                reason: None,
                when: when(chance, now),
                credit: credit[chance.below(3) as usize],
                dry_run: false,
            };
            let _ = client.cancel_subscription(tenant, id, &asked, &key()).await;
        }
        6 => {
            let asked = MoveAnchor {
                reason: None,
                day: 1 + chance.below(31) as u32,
                when: when(chance, now),
                dry_run: false,
            };
            let _ = client.move_anchor(tenant, id, &asked, &key()).await;
        }
        7 => {
            for intent in [
                tenure_client::IntentKind::Cancel,
                tenure_client::IntentKind::Change,
            ] {
                let _ = client
                    .undo_intent(
                        tenant,
                        id,
                        &UndoIntent {
                            reason: None,
                            intent,
                        },
                        &key(),
                    )
                    .await;
            }
        }
        8 | 9 => customer.attach(chance.pick(&CARDS)).await,
        10 => {
            let invoices = client.list_invoices(tenant).await.unwrap();
            if let Some(invoice) = invoices.first() {
                let note = NewCreditNote {
                    dry_run: false,
                    amount: None,
                    refund: chance.below(2) == 0,
                    reason: "an outage".to_owned(),
                };
                let of = invoice.invoice_id;
                let _ = client.give_credit_note(tenant, of, &note, &key()).await;
            }
        }
        11 => dispute(app, customer, disputes, chance).await,
        12 if !disputes.is_empty() => {
            let settled = disputes.swap_remove(chance.below(disputes.len() as u64) as usize);
            let won = chance.below(2) == 0;
            // An inquiry that nobody followed up has closed by itself.
            let _ = app.sandbox.control().close_dispute(&settled, won);
            customer.advance("0h").await;
        }
        13 => {
            let place = 1 + chance.below(3) as u32;
            customer
                .attach_at(chance.pick(&MORE_CARDS), Some(place))
                .await;
        }
        14 => {
            let methods = client.list_payment_methods(tenant).await.unwrap();
            let mut methods: Vec<String> = methods.into_iter().map(|one| one.provider_id).collect();
            if methods.is_empty() {
                return;
            }
            let first = chance.below(methods.len() as u64) as usize;
            if chance.below(3) == 0 {
                let gone = &methods[first];
                let _ = client.remove_payment_method(tenant, gone, &key()).await;
            } else {
                methods.rotate_left(first);
                let order = OrderPaymentMethods {
                    payment_methods: methods,
                };
                let _ = client.order_payment_methods(tenant, &order, &key()).await;
            }
            customer.advance("0h").await;
        }
        _ => {
            let grant = GrantCredit {
                amount: Money {
                    amount: Decimal::from(1 + chance.below(30)),
                    currency: currency.to_owned(),
                },
                reason: "a gift".to_owned(),
            };
            let _ = client.grant_credit(tenant, &grant, &key()).await;
        }
    }
}

/// The bank withdraws what is left of one of the customer's payments, or only asks about it.
async fn dispute(
    app: &TestApp,
    customer: &Subscriber<'_>,
    disputes: &mut Vec<String>,
    chance: &mut Chance,
) {
    let control = app.sandbox.control();
    let tenant = customer.tenant.tenant_id.to_string();
    let paid = control.charges(&[("tenant", tenant.as_str())]);
    let left: Vec<_> = paid
        .iter()
        .filter(|charge| charge.paid && charge.amount > charge.amount_refunded)
        .collect();
    if left.is_empty() {
        return;
    }
    let charge = &left[chance.below(left.len() as u64) as usize].id;
    let asks_only = chance.below(4) == 0;
    // One that is disputed already is not disputed again.
    if let Ok(opened) = control.open_dispute(charge, "fraudulent", None, asks_only) {
        disputes.push(opened);
    }
    customer.advance("0h").await;
}

async fn live(app: &TestApp, seed: u64) {
    let mut chance = Chance(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
    let (mut customer, currency) = arrive(app, &mut chance).await;
    subscribe(&mut customer, &currency, &mut chance).await;
    let mut disputes = Vec::new();
    for _ in 0..26 {
        customer
            .advance(&format!("{}d", 7 + chance.below(15)))
            .await;
        act(app, &mut customer, &currency, &mut disputes, &mut chance).await;
        if customer.subscription().await.status == SubscriptionStatus::Ended {
            subscribe(&mut customer, &currency, &mut chance).await;
        }
    }
    // With a good card all that is owed and can be paid is paid.
    customer.attach("pm_card_visa").await;
    customer.advance("20d").await;
}

async fn none(conn: &mut PgConnection, what: &str, query: &'static str) {
    let found: Vec<String> = sqlx::query_scalar(query).fetch_all(conn).await.unwrap();
    assert!(found.is_empty(), "{what}: {found:#?}");
}

#[expect(
    clippy::too_many_lines,
    reason = "one question to the books after the other"
)]
async fn reconcile(app: &TestApp) {
    let mut conn = crate::support::connect(&app.options).await;
    let conn = &mut conn;
    none(
        conn,
        "invoices whose lines do not add up",
        "select invoice.invoice_id::text from app.invoice
         join app.invoice_line as line using (invoice_id, shard_id)
         group by invoice.invoice_id, invoice.total, invoice.tax_inclusive, invoice.subtotal
         having invoice.total <> sum(line.amount) + case when invoice.tax_inclusive then 0 else sum(line.tax) end
           or invoice.subtotal <> sum(line.subtotal)",
    )
    .await;
    none(
        conn,
        "lines of which more was given back than they had",
        "select line.invoice_id::text from app.invoice_line as line
         join app.credit_note_line as note
           on note.invoice_id = line.invoice_id and note.invoice_line = line.line
         group by line.invoice_id, line.line, line.amount, line.tax
         having sum(note.amount) > line.amount or sum(note.tax) > line.tax",
    )
    .await;
    none(
        conn,
        "paid invoices that credit, balance and payments do not explain",
        // What is credited of a payment that was withdrawn comes on top; when the dispute is won after
        // all, it comes back as credit.
        "select invoice_id || ' ' || total || ': ' || beyond || ' of ' || withdrawn || ', came back ' || won
         from (
           select invoice.invoice_id, invoice.total,
             credited + balance_applied
               + coalesce((select sum(payment.amount) from app.payment
                   where payment.invoice_id = invoice.invoice_id and payment.status = 'succeeded'), 0)
               - coalesce((select sum(entry.amount) from app.credit_entry as entry
                   where entry.reference = invoice.invoice_id and entry.reason = 'overpaid'), 0)
               - total as beyond,
             coalesce((select sum(dispute.amount) from app.dispute
                 where dispute.invoice_id = invoice.invoice_id
                   and dispute.standing in ('open', 'lost')), 0) as withdrawn,
             coalesce((select sum(entry.amount) from app.credit_entry as entry
                 join app.dispute on dispute.dispute_id = entry.note
                 where dispute.invoice_id = invoice.invoice_id and entry.reason = 'dispute_won'), 0) as won
           from app.invoice
           where invoice.status = 'paid') as settled
         where beyond - won not between 0 and withdrawn",
    )
    .await;
    none(
        conn,
        "invoices that were paid twice",
        "select invoice_id::text from app.payment where status = 'succeeded'
         group by invoice_id having count(*) > 1",
    )
    .await;
    none(
        conn,
        "balances that are not the sum of their entries",
        "select balance.tenant_id || ' ' || balance.amount from app.credit_balance as balance
         where balance.amount <> (select coalesce(sum(entry.amount), 0) from app.credit_entry as entry
           where entry.tenant_id = balance.tenant_id and entry.currency = balance.currency)",
    )
    .await;
    none(
        conn,
        "credit that does not stand in the books of where it came from or went",
        "select tenant_id || ' ' || currency from (
           select tenant_id, currency,
             sum(amount) filter (where reason = 'credit_note') as given,
             sum(amount) filter (where reason in ('applied', 'released')) as applied
           from app.credit_entry group by tenant_id, currency) as entry
         where coalesce(given, 0) <> (select coalesce(sum(to_balance), 0) from app.credit_note as note
             where note.tenant_id = entry.tenant_id and note.currency = entry.currency)
           or -coalesce(applied, 0) <> (select coalesce(sum(balance_applied), 0) from app.invoice
             where invoice.tenant_id = entry.tenant_id and invoice.currency = entry.currency
               and invoice.status <> 'void')",
    )
    .await;
    none(
        conn,
        "numbers with gaps",
        "select tenant_id::text from app.invoice where number is not null
         group by tenant_id, legal_entity having max(number) <> count(*)
         union all
         select tenant_id::text from app.credit_note
         group by tenant_id, legal_entity having max(number) <> count(*)",
    )
    .await;
    let priced: Vec<(Uuid, String, String)> =
        sqlx::query_as("select invoice_id, priced, priced_hash from app.invoice")
            .fetch_all(&mut *conn)
            .await
            .unwrap();
    for (invoice, text, hash) in priced {
        assert_eq!(Bill::hash(&text), hash, "{invoice}");
        let bill: Bill = serde_json::from_str(&text).unwrap();
        assert_eq!(bill.to_text().unwrap(), text, "{invoice}");
        let amounts: Vec<Decimal> = sqlx::query_scalar(
            "select amount from app.invoice_line where invoice_id = $1 order by line",
        )
        .bind(invoice)
        .fetch_all(&mut *conn)
        .await
        .unwrap();
        let again: Vec<Decimal> = bill.price().into_iter().map(|line| line.amount).collect();
        assert_eq!(again, amounts, "{invoice}");
    }
    with_the_provider(app, conn).await;
}

/// What we think was paid and given back is what the provider's books hold.
async fn with_the_provider(app: &TestApp, conn: &mut PgConnection) {
    let ours: Vec<(Uuid, Decimal)> = sqlx::query_as(
        "select invoice_id, sum(amount) from (
           select invoice_id, amount * case when currency = 'JPY' then 1 else 100 end as amount
           from app.payment where status = 'succeeded'
           union all
           select invoice_id, -amount * case when currency = 'JPY' then 1 else 100 end
           from app.refund where status = 'succeeded') as moved
         group by invoice_id",
    )
    .fetch_all(&mut *conn)
    .await
    .unwrap();
    let ours: BTreeMap<String, Decimal> = ours
        .into_iter()
        .map(|(invoice, sum)| (invoice.to_string(), sum))
        .collect();
    let mut theirs: BTreeMap<String, Decimal> = BTreeMap::new();
    for charge in app.sandbox.control().charges(&[]) {
        if charge.paid {
            let left = Decimal::from(charge.amount - charge.amount_refunded);
            *theirs
                .entry(charge.metadata["invoice"].clone())
                .or_default() += left;
        }
    }
    for sums in [&ours, &theirs] {
        for invoice in sums.keys() {
            let sum = |of: &BTreeMap<String, Decimal>| of.get(invoice).copied().unwrap_or_default();
            assert_eq!(sum(&ours), sum(&theirs), "{invoice}");
        }
    }
    assert!(ours.len() > 20, "only {} invoices were paid", ours.len());
    // All that came in, went out, and was withdrawn, to the last cent of each customer.
    let ours: Vec<(String, String, Decimal)> = sqlx::query_as(
        "select provider_customer_id, lower(currency), sum(amount * case when currency = 'JPY' then 1 else 100 end)
         from (
           select tenant_id, currency, amount from app.payment where status = 'succeeded'
           union all
           select tenant_id, currency, -amount from app.refund where status = 'succeeded'
           union all
           select tenant_id, currency, -amount - fee from app.dispute where standing in ('open', 'lost')
         ) as moved
         join app.customer using (tenant_id)
         group by provider_customer_id, currency
         having sum(amount) <> 0",
    )
    .fetch_all(conn)
    .await
    .unwrap();
    let ours: BTreeMap<(String, String), Decimal> = ours
        .into_iter()
        .map(|(customer, currency, net)| ((customer, currency), net.normalize()))
        .collect();
    let theirs: BTreeMap<(String, String), Decimal> = app
        .sandbox
        .control()
        .ledger(None)
        .into_iter()
        .filter(|line| line.net != 0)
        .map(|line| {
            let customer = line.customer.unwrap_or_default();
            (
                (customer, line.currency),
                Decimal::from(line.net).normalize(),
            )
        })
        .collect();
    assert_eq!(ours, theirs);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_year_of_customers_adds_up_to_the_cent() {
    let wanted = std::env::var_os("TENURE_SUITE_CUSTOMERS");
    let wanted = wanted.map(|wanted| wanted.into_string().unwrap());
    let customers: u64 = wanted.map_or(8, |wanted| wanted.parse().unwrap());
    let app = TestApp::new().await;
    futures_util::stream::iter(1..=customers)
        .for_each_concurrent(6, |seed| live(&app, seed))
        .await;
    reconcile(&app).await;
    app.finish().await;
}

//! The books: invoices, credit notes, payments, refunds and credit, held against each other, against
//! what customers were told is done, and against the provider's own.

use std::collections::BTreeMap;

use rust_decimal::Decimal;
use sqlx::PgConnection;
use tenure_workflows::pricing::Bill;
use uuid::Uuid;

use super::life::World;
use super::tally::Done;

/// What must not be found, and the question that finds it.
const NONE: [(&str, &str); 13] = [
    (
        "invoices whose lines do not add up",
        "select invoice.invoice_id::text from app.invoice
         join app.invoice_line as line using (invoice_id, shard_id)
         group by invoice.invoice_id, invoice.total, invoice.tax_inclusive, invoice.subtotal
         having invoice.total <> sum(line.amount) + case when invoice.tax_inclusive then 0 else sum(line.tax) end
           or invoice.subtotal <> sum(line.subtotal)",
    ),
    (
        "lines of which more was given back than they had",
        "select line.invoice_id::text from app.invoice_line as line
         join app.credit_note_line as note
           on note.invoice_id = line.invoice_id and note.invoice_line = line.line
         group by line.invoice_id, line.line, line.amount, line.tax
         having sum(note.amount) > line.amount or sum(note.tax) > line.tax",
    ),
    // What is credited of a payment that was withdrawn comes on top; when the dispute is won after
    // all, it comes back as credit.
    (
        "paid invoices that credit, balance and payments do not explain",
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
    ),
    (
        "invoices that were paid twice",
        "select invoice_id::text from app.payment where status = 'succeeded'
         group by invoice_id having count(*) > 1",
    ),
    (
        "balances that are not the sum of their entries",
        "select balance.tenant_id || ' ' || balance.amount from app.credit_balance as balance
         where balance.amount <> (select coalesce(sum(entry.amount), 0) from app.credit_entry as entry
           where entry.tenant_id = balance.tenant_id and entry.currency = balance.currency)",
    ),
    (
        "credit that does not stand in the books of where it came from or went",
        "select tenant_id || ' ' || currency from (
           select tenant_id, currency,
             sum(amount) filter (where reason = 'credit_note') as given,
             sum(amount) filter (where reason in ('applied', 'released', 'carried_over', 'collected')) as applied
           from app.credit_entry group by tenant_id, currency) as entry
         where coalesce(given, 0) <> (select coalesce(sum(to_balance), 0) from app.credit_note as note
             where note.tenant_id = entry.tenant_id and note.currency = entry.currency)
           or -coalesce(applied, 0) <> (select coalesce(sum(balance_applied), 0) from app.invoice
             where invoice.tenant_id = entry.tenant_id and invoice.currency = entry.currency
               and invoice.status <> 'void')",
    ),
    (
        "balances that owe more than was carried over",
        "select balance.tenant_id || ' ' || balance.amount from app.credit_balance as balance
         where balance.amount < (select coalesce(sum(entry.amount), 0) from app.credit_entry as entry
           where entry.tenant_id = balance.tenant_id and entry.currency = balance.currency
             and entry.reason = 'carried_over')",
    ),
    (
        "numbers with gaps",
        "select tenant_id::text from app.invoice where number is not null
         group by tenant_id, legal_entity having max(number) <> count(*)
         union all
         select tenant_id::text from app.credit_note
         group by tenant_id, legal_entity having max(number) <> count(*)",
    ),
    (
        "invoices that are not paid and kept money",
        "select invoice.invoice_id || ' ' || invoice.status from app.invoice
         where invoice.status <> 'paid'
           and coalesce((select sum(payment.amount) from app.payment
               where payment.invoice_id = invoice.invoice_id and payment.status = 'succeeded'), 0)
             <> coalesce((select sum(entry.amount) from app.credit_entry as entry
               where entry.reference = invoice.invoice_id and entry.reason = 'overpaid'), 0)",
    ),
    (
        "late money that is no credit",
        "select tenant_id || ' ' || currency || ' ' || sum(amount) from (
           select tenant_id, currency, amount from app.payment where late_at is not null
           union all
           select tenant_id, currency, -amount from app.credit_entry where reason = 'late_payment') as moved
         group by tenant_id, currency having sum(amount) <> 0",
    ),
    (
        "refunds that failed and are no credit",
        "select tenant_id || ' ' || currency || ' ' || sum(amount) from (
           select tenant_id, currency, amount from app.refund where status = 'failed'
           union all
           select tenant_id, currency, -amount from app.credit_entry where reason = 'refund_failed') as moved
         group by tenant_id, currency having sum(amount) <> 0",
    ),
    (
        "credit notes whose refunds are not what they say",
        "select credit_note_id || ' ' || to_refund from app.credit_note as note
         where to_refund <> coalesce((select sum(refund.amount) from app.refund
           where refund.credit_note_id = note.credit_note_id), 0)",
    ),
    (
        "payments and refunds of which nobody knows what became",
        "select payment.invoice_id || ' payment ' || coalesce(run.state || ' ' || run.status || ' ' || coalesce(run.error::text, ''), 'without a run')
         from app.payment
         left join engine.run on workflow = 'payment' and key = payment.invoice_id || '/' || generation
         where payment.status = 'sent'
         union all
         select invoice_id || ' refund' from app.refund where status = 'sent'",
    ),
];

/// Holds all books against each other.
pub(super) async fn reconcile(world: &World<'_>) {
    let mut conn = crate::support::connect(world.options).await;
    let conn = &mut conn;
    for (what, question) in NONE {
        let found: Vec<String> = sqlx::query_scalar(question)
            .fetch_all(&mut *conn)
            .await
            .unwrap();
        assert!(found.is_empty(), "{what}: {found:#?}");
    }
    bills_compute_again(conn).await;
    with_the_customers(world, conn).await;
    with_the_provider(world, conn).await;
    customers_with_the_provider(world, conn).await;
}

/// What an invoice was computed of is kept as it was, and gives the same lines again.
async fn bills_compute_again(conn: &mut PgConnection) {
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
}

/// What customers were told is done was done, and once.
async fn with_the_customers(world: &World<'_>, conn: &mut PgConnection) {
    let counted: Vec<(Uuid, i64, i64)> = sqlx::query_as(
        "select tenant_id,
           (select count(*) from app.subscription where subscription.tenant_id = tenant.tenant_id),
           (select count(*) from app.credit_note as note
            where note.tenant_id = tenant.tenant_id and note.author = 'suite admin')
         from app.tenant",
    )
    .fetch_all(&mut *conn)
    .await
    .unwrap();
    let granted: Vec<(Uuid, String, Decimal)> = sqlx::query_as(
        "select tenant_id, currency, sum(amount) from app.credit_entry
         where reason = 'granted' group by tenant_id, currency",
    )
    .fetch_all(&mut *conn)
    .await
    .unwrap();
    let mut ours: BTreeMap<Uuid, Done> = BTreeMap::new();
    for (tenant, subscriptions, credit_notes) in counted {
        let done = ours.entry(tenant).or_default();
        done.subscriptions = subscriptions.try_into().unwrap();
        done.credit_notes = credit_notes.try_into().unwrap();
    }
    for (tenant, currency, amount) in granted {
        ours.entry(tenant)
            .or_default()
            .granted
            .insert(currency, amount.normalize());
    }
    ours.retain(|_, done| *done != Done::default());
    assert_eq!(ours, world.tally.done());
}

/// What we think was paid and given back of each invoice is what the provider's books hold.
async fn with_the_provider(world: &World<'_>, conn: &mut PgConnection) {
    let ours: Vec<(Uuid, Decimal)> = sqlx::query_as(
        "select invoice_id, sum(amount) from (
           select invoice_id, amount * case when currency = 'JPY' then 1 else 100 end as amount
           from app.payment where status = 'succeeded' or late_at is not null
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
    for charge in world.control.charges(&[]) {
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
}

/// All that came in, went out, and was withdrawn, to the last cent of each customer.
async fn customers_with_the_provider(world: &World<'_>, conn: &mut PgConnection) {
    let ours: Vec<(String, String, Decimal)> = sqlx::query_as(
        "select provider_customer_id, lower(currency), sum(amount * case when currency = 'JPY' then 1 else 100 end)
         from (
           select tenant_id, currency, amount from app.payment
           where status = 'succeeded' or late_at is not null
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
    let theirs: BTreeMap<(String, String), Decimal> = world
        .control
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

/// What comes about by itself in the course of things: a word, and the question that counts it.
const OUTCOMES: [(&str, &str); 20] = [
    (
        "trials that became paid",
        "select count(*) from app.subscription where trial_ends_at is not null and period_start is not null",
    ),
    (
        "subscriptions that were cancelled",
        "select count(*) from app.subscription where end_reason = 'canceled'",
    ),
    (
        "fixed terms that ended",
        "select count(*) from app.subscription where end_reason = 'expired'",
    ),
    (
        "invoices that were paid",
        "select count(*) from app.invoice where status = 'paid'",
    ),
    (
        "invoices that were taken back",
        "select count(*) from app.invoice where status = 'void'",
    ),
    (
        "invoices that were given up",
        "select count(*) from app.invoice where status = 'uncollectible'",
    ),
    (
        "soft declines",
        "select count(*) from app.payment where decline_class = 'soft'",
    ),
    (
        "hard declines",
        "select count(*) from app.payment where decline_class = 'hard'",
    ),
    (
        "invoices that were paid after a decline",
        "select count(*) from app.invoice where status = 'paid' and attempts > 1",
    ),
    (
        "refunds that arrived",
        "select count(*) from app.refund where status = 'succeeded'",
    ),
    (
        "refunds that came back",
        "select count(*) from app.refund where status = 'failed'",
    ),
    (
        "credit notes that lowered a debt",
        "select count(*) from app.credit_note where to_debt > 0",
    ),
    (
        "credit that paid an invoice",
        "select count(*) from app.credit_entry where reason = 'applied'",
    ),
    (
        "credit that an invoice gave back",
        "select count(*) from app.credit_entry where reason = 'released'",
    ),
    (
        "rests that were carried over",
        "select count(*) from app.credit_entry where reason = 'carried_over'",
    ),
    (
        "rests that a later invoice collected",
        "select count(*) from app.credit_entry where reason = 'collected'",
    ),
    (
        "late money",
        "select count(*) from app.payment where late_at is not null",
    ),
    (
        "disputes that were won",
        "select count(*) from app.dispute where standing = 'won'",
    ),
    (
        "disputes that were lost",
        "select count(*) from app.dispute where standing = 'lost'",
    ),
    (
        "holds of dunning",
        "select count(*) from app.hold where source is not null",
    ),
];

impl World<'_> {
    /// Whatever can come about has, at least once.
    pub(super) async fn assert_all_came_about(&self) {
        let mut conn = crate::support::connect(self.options).await;
        let mut told = String::new();
        let mut never: Vec<String> = Vec::new();
        for (what, question) in OUTCOMES {
            let count: i64 = sqlx::query_scalar(question)
                .fetch_one(&mut conn)
                .await
                .unwrap();
            told += &format!("\n{what}: {count}");
            if count == 0 {
                never.push(what.to_owned());
            }
        }
        let missing = self.tally.missing();
        println!("{told}");
        assert!(
            missing.is_empty() && never.is_empty(),
            "never came about: {missing:?} {never:?}"
        );
    }
}

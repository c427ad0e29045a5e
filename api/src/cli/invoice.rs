//! `tenure invoice`: what tenants were billed, for scripts, through the API.

use rust_decimal::Decimal;
use tenure_client::{
    ActOnInvoice, CreditNote, Dispute, IdempotencyKey, Invoice, InvoiceDetail, InvoiceStatus,
    Money, NewCreditNote,
};
use uuid::Uuid;

use super::run::{ApiArgs, print, rfc3339};

/// What to do with invoices.
#[derive(Debug, clap::Subcommand)]
pub(super) enum InvoiceCommand {
    /// List a tenant's invoices, newest first.
    List {
        #[command(flatten)]
        api: ApiArgs,
        /// The tenant.
        #[arg(long)]
        tenant: Uuid,
    },
    /// Show an invoice with its lines.
    Show {
        #[command(flatten)]
        one: OneArgs,
    },
    /// Print an invoice as an HTML page, in the tenant's language.
    Page {
        #[command(flatten)]
        one: OneArgs,
    },
    /// Charge what is due now.
    Collect(ActArgs),
    /// Take an open invoice back: nothing is owed for it.
    Void(ActArgs),
    /// Give an open invoice up.
    WriteOff(ActArgs),
    /// Give back of an invoice: off the debt, then to the tenant's balance.
    CreditNote(GiveArgs),
    /// Give back of an invoice: off the debt, then to the payment method as far as that paid.
    Refund(GiveArgs),
    /// List a tenant's credit notes, newest first.
    CreditNotes {
        #[command(flatten)]
        api: ApiArgs,
        /// The tenant.
        #[arg(long)]
        tenant: Uuid,
    },
    /// List what banks dispute of a tenant's payments.
    Disputes {
        #[command(flatten)]
        api: ApiArgs,
        /// The tenant.
        #[arg(long)]
        tenant: Uuid,
    },
}

/// One invoice of a tenant.
#[derive(Debug, clap::Args)]
pub(super) struct OneArgs {
    #[command(flatten)]
    api: ApiArgs,
    /// The tenant.
    #[arg(long)]
    tenant: Uuid,
    /// The invoice.
    invoice_id: Uuid,
}

/// An act on an invoice.
#[derive(Debug, clap::Args)]
pub(super) struct ActArgs {
    #[command(flatten)]
    one: OneArgs,
    /// Why; kept in the audit.
    #[arg(long)]
    reason: String,
    /// Only tell what it would come to.
    #[arg(long)]
    dry_run: bool,
}

/// A credit note to give.
#[derive(Debug, clap::Args)]
pub(super) struct GiveArgs {
    #[command(flatten)]
    act: ActArgs,
    /// How much, with tax, in the invoice's currency, such as 12.50; all that is left otherwise.
    #[arg(long)]
    amount: Option<Decimal>,
}

pub(super) async fn run(command: InvoiceCommand) -> anyhow::Result<()> {
    match command {
        InvoiceCommand::List { api, tenant } => {
            let found = api.client()?.list_invoices(tenant).await?;
            print(&api, &found, || found.iter().for_each(print_line))
        }
        InvoiceCommand::Show { one } => {
            let client = one.api.client()?;
            let found = client.invoice(one.tenant, one.invoice_id).await?;
            print(&one.api, &found, || print_detail(&found))
        }
        InvoiceCommand::Page { one } => {
            let client = one.api.client()?;
            let page = client.invoice_page(one.tenant, one.invoice_id).await?;
            print(&one.api, &page, || outln!("{page}"))
        }
        InvoiceCommand::Collect(args) => act(args, "collect").await,
        InvoiceCommand::Void(args) => act(args, "void").await,
        InvoiceCommand::WriteOff(args) => act(args, "write-off").await,
        InvoiceCommand::CreditNote(args) => give(args, false).await,
        InvoiceCommand::Refund(args) => give(args, true).await,
        InvoiceCommand::CreditNotes { api, tenant } => {
            let found = api.client()?.list_credit_notes(tenant).await?;
            print(&api, &found, || found.iter().for_each(print_note))
        }
        InvoiceCommand::Disputes { api, tenant } => {
            let found = api.client()?.list_disputes(tenant).await?;
            print(&api, &found, || found.iter().for_each(print_dispute))
        }
    }
}

fn print_dispute(dispute: &Dispute) {
    outln!(
        "{}  {}  {}  fee {}  {}  invoice {}",
        dispute.dispute_id,
        dispute.standing,
        dispute.amount,
        dispute.fee,
        dispute.reason,
        dispute.invoice_id,
    );
}

async fn act(args: ActArgs, verb: &str) -> anyhow::Result<()> {
    let ActArgs {
        one,
        reason,
        dry_run,
    } = args;
    let (client, key) = (one.api.client()?, IdempotencyKey::generate());
    let asked = ActOnInvoice { reason, dry_run };
    let (tenant, id) = (one.tenant, one.invoice_id);
    let told = client
        .act_on_invoice(tenant, id, verb, &asked, &key)
        .await?;
    print(&one.api, &told, || {
        for line in told.words() {
            outln!("{line}");
        }
        match &told.signal_id {
            Some(signal) => outln!("sent {signal} to run {}", told.run_id),
            None => outln!("nothing was done: this was a dry run"),
        }
    })
}

async fn give(args: GiveArgs, refund: bool) -> anyhow::Result<()> {
    let ActArgs {
        one,
        reason,
        dry_run,
    } = args.act;
    let (client, key) = (one.api.client()?, IdempotencyKey::generate());
    let (tenant, id) = (one.tenant, one.invoice_id);
    let amount = match args.amount {
        None => None,
        Some(amount) => {
            let currency = client.invoice(tenant, id).await?.invoice.total.currency;
            Some(Money { amount, currency })
        }
    };
    let note = NewCreditNote {
        amount,
        refund,
        reason,
        dry_run,
    };
    let given = client.give_credit_note(tenant, id, &note, &key).await?;
    print(&one.api, &given, || {
        for line in given.words() {
            outln!("{line}");
        }
        if dry_run {
            outln!("nothing was done: this was a dry run");
        }
    })
}

const fn status(status: InvoiceStatus) -> &'static str {
    match status {
        InvoiceStatus::Draft => "draft",
        InvoiceStatus::Open => "open",
        InvoiceStatus::Paid => "paid",
        InvoiceStatus::Void => "void",
        InvoiceStatus::Uncollectible => "uncollectible",
    }
}

fn print_line(invoice: &Invoice) {
    outln!(
        "{}  {}  {}  {}  due {}  {} to {}",
        invoice.invoice_id,
        invoice.number.as_deref().unwrap_or("no number"),
        status(invoice.status),
        invoice.total,
        invoice.amount_due,
        rfc3339(invoice.period_start),
        rfc3339(invoice.period_end),
    );
}

fn print_detail(found: &InvoiceDetail) {
    let invoice = &found.invoice;
    print_line(invoice);
    if let Some(seller) = &found.seller {
        let address = seller.address.join(", ");
        outln!("issued by {}, {address}, {}", seller.name, seller.country);
    }
    for line in &found.lines {
        outln!(
            "  {} x {} at {}: {} ({} of {})",
            line.quantity,
            line.description,
            line.unit_price,
            line.amount,
            line.units,
            line.units_of
        );
    }
    outln!(
        "subtotal {}, discount {}, tax {}, credited {}",
        invoice.subtotal,
        invoice.discount,
        invoice.tax,
        invoice.credited
    );
    for words in invoice.balance_words() {
        outln!("{words}");
    }
    if let Some(paid) = invoice.paid_at {
        outln!("paid {}", rfc3339(paid));
    }
    outln!("{} payments were tried", invoice.attempts);
}

fn print_note(note: &CreditNote) {
    outln!(
        "{}  {}  of invoice {}  {}: {}",
        note.number,
        note.total,
        note.invoice_id,
        note.author,
        note.reason
    );
}

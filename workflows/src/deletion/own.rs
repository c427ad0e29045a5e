//! Tenure's own map: what schema `app` holds of a tenant, and what becomes of it. Data; a test holds
//! it against the tables that there are, so that a new one cannot be forgotten.
//!
//! What the law wants to stay are the books: what was invoiced, credited, paid and refunded, in
//! Germany for eight to ten years (§ 147 AO, § 14b `UStG`); Art. 17(3)(b) GDPR lets them stay. What of
//! them is about a person and no part of a document is emptied. What goes has no such reason.

/// A table of schema `app`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OwnTable {
    /// Its name.
    pub name: &'static str,
    /// The condition that a row is the tenant's, `$1` its id, under the alias `t`.
    pub own: &'static str,
    /// What becomes of the rows.
    pub rule: Rule,
}

/// What becomes of a table's rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rule {
    /// They go.
    Delete,
    /// They stay, and these columns get these values.
    Minimise {
        /// The columns with what they become, as SQL.
        columns: &'static [(&'static str, &'static str)],
        /// Why the rows stay.
        basis: &'static str,
    },
    /// They stay as they are: nothing in them is about a person.
    Keep {
        /// Why.
        basis: &'static str,
    },
}

/// Why the books stay.
pub const BOOKS: &str = "§ 147 AO, § 14b UStG; Art. 17(3)(b) GDPR";
/// Why it stays who acted.
pub const ACCOUNTABILITY: &str =
    "Art. 5(2) GDPR: who acted, when and why; what the act was about is emptied";
/// The audit of acts on what is no run.
pub const ACTS: &str = "acts";

/// Where whoever erases takes turns with whoever places holds.
pub const TURN: &str = "keeping_turn";
/// The holds on its data.
pub const HOLDS: &str = "data_hold";
/// The answers that were given, by key.
pub const ANSWERS: &str = "idempotency";
/// By a column of its own.
const TENANT: &str = "t.tenant_id = $1";
/// Answers that name the tenant or were given to a token of its own.
pub const ANSWERED: &str = "(position(convert_to($1::text, 'UTF8') in t.body) > 0 \
   or t.token_id in (select token.token_id from app.token where token.tenant_id = $1))";
/// Events that name the tenant, or its customer at the provider.
const EVENTS: &str = "(position(convert_to($1::text, 'UTF8') in t.body) > 0 \
   or exists (select from app.customer where customer.tenant_id = $1 \
     and position(convert_to(customer.provider_customer_id, 'UTF8') in t.body) > 0))";

/// Exports, but the one that the deletion made for the tenant to take along: it lies sealed, only its
/// link opens it, and it is destroyed when the link ends.
const EXPORTS: &str = "(t.tenant_id = $1 and (t.status <> 'ready' or not exists ( \
   select from app.deletion where deletion.export_id = t.export_id and deletion.subject_id = $1)))";
/// Archives, but those that the law keeps: they outlive the tenant.
const ARCHIVES: &str = "(t.tenant_id = $1 and t.law_basis is null)";
/// Where backfills that have ended were in its rows. One under way has them until it ends: keys of rows
/// that are gone.
const RANGES: &str = "(t.owner_id = $1 and exists (select from app.backfill \
   where backfill.backfill_id = t.backfill_id and backfill.ended_at is not null))";

const fn delete(name: &'static str) -> OwnTable {
    OwnTable {
        name,
        own: TENANT,
        rule: Rule::Delete,
    }
}

const fn books(name: &'static str, columns: &'static [(&'static str, &'static str)]) -> OwnTable {
    OwnTable {
        name,
        own: TENANT,
        rule: match columns.is_empty() {
            true => Rule::Keep { basis: BOOKS },
            false => Rule::Minimise {
                columns,
                basis: BOOKS,
            },
        },
    }
}

/// All tables of schema `app` that hold a tenant's rows, in the order in which they are erased.
pub const TABLES: [OwnTable; 36] = [
    OwnTable {
        name: ANSWERS,
        own: ANSWERED,
        rule: Rule::Delete,
    },
    OwnTable {
        name: "webhook_event",
        own: EVENTS,
        rule: Rule::Delete,
    },
    delete("token"),
    delete("notice"),
    delete("entitlement_override"),
    delete("dunning_exemption"),
    OwnTable {
        name: "dunning_assignment",
        own: "t.scope = 'tenant' and t.subject = $1::text",
        rule: Rule::Delete,
    },
    delete("debt"),
    delete("usage"),
    delete(HOLDS),
    delete(TURN),
    delete("data_part"),
    OwnTable {
        name: "data_archive",
        own: ARCHIVES,
        rule: Rule::Delete,
    },
    OwnTable {
        name: "data_export",
        own: EXPORTS,
        rule: Rule::Delete,
    },
    OwnTable {
        name: "backfill_range",
        own: RANGES,
        rule: Rule::Delete,
    },
    delete("product_migration_place"),
    delete("subscription_intent"),
    delete("subscription_item"),
    delete("subscription"),
    delete("tenant_tax"),
    delete("hold"),
    delete("placement"),
    delete("payment_method"),
    delete("customer"),
    books("refund", &[]),
    books("dispute", &[]),
    books("payment", &[("method_id", "null")]),
    books("credit_note_line", &[]),
    books("credit_note", &[("reason", "'erased'")]),
    books("credit_entry", &[("note", "null")]),
    books("credit_balance", &[]),
    books("credit_series", &[]),
    books("invoice_line", &[]),
    books("invoice", &[]),
    books("invoice_series", &[]),
    // An invoice names its recipient; without one nothing does.
    OwnTable {
        name: "tenant",
        own: TENANT,
        rule: Rule::Minimise {
            columns: &[
                (
                    "name",
                    "case when exists (select from app.invoice where invoice.tenant_id = t.tenant_id \
                       and invoice.number is not null) then t.name else 'erased' end",
                ),
                ("email", "'erased@invalid'"),
                // Its documents name their seller themselves, which may be given up one day.
                ("legal_entity", "''"),
            ],
            basis: "the name that the invoices were made out to: § 14(4) UStG, § 147 AO; Art. 17(3)(b) GDPR",
        },
    },
];

/// Tables of schema `app` that hold nothing of a tenant that is deleted, and why.
pub const NOBODYS: [(&str, &str); 9] = [
    ("deletion_unit", "it belongs to the system tenant"),
    ("deletion_record", "it belongs to the system tenant"),
    (
        "deletion",
        "it belongs to the system tenant, and names the tenant by an id that says nothing",
    ),
    ("catalogue_entry", "what is sold"),
    ("dunning_policy", "how debts are treated"),
    ("data_map", "what products hold"),
    ("keeping_policy", "how long products keep rows"),
    ("product_migration", "how products change"),
    ("backfill", "it belongs to the system tenant"),
];

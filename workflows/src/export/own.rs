//! What Tenure itself keeps of a tenant, as an export gives it: what was sold, invoiced, paid and written
//! to it, and what it may use. Data; a test holds it against the tables that there are, so that a new one
//! cannot be forgotten.
//!
//! Art. 15 GDPR asks for a copy of all personal data, not only of the product's; Art. 15(4) and 20(4) leave
//! out what would touch others: who of the staff acted is left out of each row.

use sqlx::PgConnection;
use tenure_engine::{ShardId, TenantId};

use crate::keeping::store::{self, Page, Table};
use crate::product::ProductError;

/// Tables of schema `app` whose rows an export has, in its order.
pub const TABLES: [&str; 21] = [
    "tenant",
    "tenant_tax",
    "customer",
    "payment_method",
    "subscription",
    "subscription_item",
    "subscription_intent",
    "hold",
    "entitlement_override",
    "usage",
    "invoice",
    "invoice_line",
    "credit_note",
    "credit_note_line",
    "credit_entry",
    "credit_balance",
    "payment",
    "refund",
    "dispute",
    "debt",
    "notice",
];

/// Tables of schema `app` with a tenant's rows that an export has not, and why.
pub const LEFT_OUT: [(&str, &str); 15] = [
    ("idempotency", "answers that were given already"),
    ("webhook_event", "what the provider knows, it tells"),
    ("token", "digests of secrets"),
    ("dunning_assignment", "how debts are treated"),
    ("dunning_exemption", "how debts are treated"),
    ("data_hold", "a case may be a secret of the court's"),
    ("keeping_turn", "a lock"),
    ("data_part", "where archives lie"),
    ("data_archive", "where archives lie"),
    ("data_export", "keys and links"),
    ("backfill_range", "how far a change of the product is"),
    (
        "product_migration_place",
        "how far a change of the product is",
    ),
    ("placement", "where rows lie"),
    ("credit_series", "a counter"),
    ("invoice_series", "a counter"),
];

/// Columns that no row is given with: where it lies, and who of the staff acted.
pub const HIDDEN: [&str; 3] = ["shard_id", "author", "lifted_by"];

/// What a manifest calls a table of ours. No table of a product has a file of this name.
pub(super) fn manifest_name(table: &str) -> String {
    format!("tenure:{table}")
}

/// The name of a part's file.
pub(super) fn part_name(table: &str, number: u32) -> String {
    format!("tenure-{table}-{number:05}.jsonl.gz")
}

async fn look(
    conn: &mut PgConnection,
    tenant: TenantId,
    shard: ShardId,
    table: &str,
) -> Result<Table, ProductError> {
    let shown = manifest_name(table);
    // A UUID and a number: the text is safe.
    let own = format!(
        "t.tenant_id = '{tenant}'::uuid and t.shard_id = {}",
        shard.0
    );
    let found = store::look_at(conn, &shown, &format!("app.{table}"), own).await?;
    Ok(found.without(&HIDDEN))
}

/// The next rows of a table behind a key. The transaction must act as the tenant.
pub(super) async fn read(
    conn: &mut PgConnection,
    tenant: TenantId,
    shard: ShardId,
    table: &str,
    after: Option<&[String]>,
) -> Result<Page, ProductError> {
    store::enter(conn).await?;
    let table = look(conn, tenant, shard, table).await?;
    store::read_all(conn, &table, &[], after).await
}

/// The shapes of all of them. The transaction must act as the tenant.
pub(super) async fn shapes(
    conn: &mut PgConnection,
    tenant: TenantId,
    shard: ShardId,
) -> Result<Vec<crate::archive::TableShape>, ProductError> {
    let mut shapes = Vec::new();
    for table in TABLES {
        shapes.push(look(conn, tenant, shard, table).await?.shape());
    }
    Ok(shapes)
}

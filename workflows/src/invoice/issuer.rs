//! Who issues an invoice: the tenant's legal entity when it is finalised, as the catalogue names it then.
//!
//! It is kept with the invoice, among what the lines were computed of, so that the text and its hash
//! prove it, too. A draft gets it when something is given back of it, because a credit note is numbered
//! by whoever issues its invoice; whatever becomes of the tenant's legal entity afterwards, the invoice
//! keeps its own.

use sqlx::PgConnection;
use tenure_engine::{ShardId, StepError, TenantId};
use uuid::Uuid;

use super::store;
use crate::catalog::{self, Seller};
use crate::pricing::Bill;
use crate::tenant;

/// Who issues an invoice.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Issuer {
    /// The catalogue's key; empty for the seller without a name.
    pub(super) legal_entity: String,
    /// How it is named on the invoice.
    pub(super) seller: Option<Seller>,
    /// What the lines were computed of, with the seller; none where that stays as it is.
    pub(super) priced: Option<String>,
    /// Whether the invoice keeps it already.
    is_kept: bool,
}

/// Locks an invoice and finds who issues it, or would now. The transaction must act as the tenant.
///
/// # Errors
/// When there is no such invoice, or the database does not answer.
pub(super) async fn find(
    conn: &mut PgConnection,
    tenant: TenantId,
    shard: ShardId,
    invoice: Uuid,
) -> Result<Issuer, StepError> {
    let issued = store::lock_issued(conn, invoice, shard).await?;
    if let Some(legal_entity) = issued.legal_entity {
        return Ok(Issuer {
            legal_entity,
            seller: issued.seller.map(|seller| seller.0),
            priced: None,
            is_kept: true,
        });
    }
    let legal_entity = tenant::store::find_legal_entity(conn, tenant).await?;
    let seller = catalog::find_seller(conn, &legal_entity).await?;
    let priced = issued.priced.zip(seller.as_ref());
    let priced = priced.map(|(text, seller)| with_seller(&text, seller));
    Ok(Issuer {
        legal_entity,
        priced: priced.transpose()?,
        seller,
        is_kept: false,
    })
}

/// Finds who issues an invoice, and lets that be so from then on. The transaction must act as the
/// tenant.
///
/// # Errors
/// As [`find`].
pub(super) async fn keep(
    conn: &mut PgConnection,
    tenant: TenantId,
    shard: ShardId,
    invoice: Uuid,
) -> Result<Issuer, StepError> {
    let issuer = find(conn, tenant, shard, invoice).await?;
    if !issuer.is_kept {
        store::apply_issuer(conn, invoice, shard, &issuer).await?;
    }
    Ok(issuer)
}

/// The text of what lines were computed of, with the seller.
fn with_seller(text: &str, seller: &Seller) -> Result<String, serde_json::Error> {
    let mut bill: Bill = serde_json::from_str(text)?;
    bill.seller = Some(seller.clone());
    bill.to_text()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seller_joins_what_was_computed_and_changes_nothing_of_it() {
        let text = r#"{"rules":1,"currency":"EUR","charges":[]}"#;
        let seller = Seller {
            legal_entity: "de".to_owned(),
            name: "Acme Software GmbH".to_owned(),
            address: vec!["Lange Straße 1".to_owned()],
            country: "DE".to_owned(),
            tax_id: None,
            prefix: "DE".to_owned(),
        };
        let told = with_seller(text, &seller).unwrap();
        let bill: Bill = serde_json::from_str(&told).unwrap();
        assert_eq!((bill.rules, bill.seller.as_ref()), (1, Some(&seller)));
        assert_eq!(
            bill.to_text().unwrap(),
            told,
            "the same bytes, again and again"
        );
    }
}

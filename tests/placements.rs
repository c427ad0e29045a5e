//! The product's own databases in three tenancy models: what is seen through each door, what is done
//! there once, and tenants that are provisioned, moved and migrated.

use sqlx::AssertSqlSafe;
use tenure_engine::TenantId;
use tenure_workflows::as_control;
use tenure_workflows::product::{OnceKey, ProductError, Site, door, maps};
use uuid::Uuid;

use crate::support::connect;
use crate::support::product::{Member, Product, TABLES};

/// A member's place, opened.
async fn site(product: &Product, member: &Member) -> Site {
    let mut conn = connect(&product.app.options).await;
    let mut tx = sqlx::Connection::begin(&mut conn).await.unwrap();
    as_control(&mut tx).await.unwrap();
    let placement = door::find(&mut tx, TenantId(member.tenant)).await.unwrap();
    let map = maps::current(&mut tx, &placement.place.source)
        .await
        .unwrap();
    Site::open(&product.sources, &placement, &map)
        .await
        .unwrap()
}

/// The name of a table in a member's map.
fn mapped(site: &Site, table: &str) -> String {
    match site.place().schema {
        Some(_) => table.to_owned(),
        None => format!("work.{table}"),
    }
}

/// How many rows a site sees: of its own, and at all.
async fn seen(site: &Site, table: &str) -> (i64, i64) {
    let name = mapped(site, table);
    let (table, own) = (site.table(&name), site.own(&name));
    let asked = format!("select count(*) filter (where {own}), count(*) from {table} as t");
    let mut tx = site.begin().await.unwrap();
    sqlx::query_as(AssertSqlSafe(asked))
        .fetch_one(&mut *tx)
        .await
        .unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_site_sees_its_tenants_rows_and_no_others_in_every_model() {
    let product = Product::fleet().await;
    for member in product.members() {
        product.rows(member, 60).await;
    }
    for member in product.members() {
        let site = site(&product, member).await;
        let counts = product.counts(member, &member.place).await;
        assert_eq!(counts.len(), TABLES.len());
        for (table, count) in counts {
            assert!(count > 0, "{table} of {}", member.name);
            assert_eq!(
                seen(&site, table).await,
                (count, count),
                "{table} of {}",
                member.name
            );
        }
        // What is nobody's is not the tenant's.
        if member.place.schema.is_none() {
            assert_eq!(site.own("work.currency"), "false");
        }
    }
    product.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn work_is_done_once_in_every_model_and_what_fails_leaves_nothing() {
    let product = Product::fleet().await;
    let job = Uuid::from_u128(7);
    for member in [&product.birch, &product.cedar, &product.ilex] {
        let site = site(&product, member).await;
        let name = mapped(&site, "organisation");
        let rename = format!(
            "update {} as t set name = name || '!' where {}",
            site.table(&name),
            site.own(&name)
        );
        let key = OnceKey::new(job, "rename");
        let work = async || {
            site.once(&key, async |conn| {
                let done = sqlx::query(AssertSqlSafe(rename.clone()))
                    .execute(conn)
                    .await?;
                Ok(done.rows_affected())
            })
            .await
        };
        let failed: Result<u64, _> = site
            .once(&key, async |conn| {
                sqlx::query(AssertSqlSafe(rename.clone()))
                    .execute(conn)
                    .await?;
                Err(ProductError::Refused("not today".to_owned()))
            })
            .await;
        assert!(matches!(failed, Err(ProductError::Refused(_))));
        assert_eq!(site.recorded::<u64>(&key).await.unwrap(), None);
        // Two at once, and once more: one of them does it, all have its answer.
        let (one, two) = tokio::join!(work(), work());
        assert_eq!(
            (one.unwrap(), two.unwrap(), work().await.unwrap()),
            (1, 1, 1)
        );
        let rows = product
            .contents(member, &member.place, "organisation")
            .await;
        assert_eq!(rows[0]["name"], format!("{}!", member.name));
        site.forget(job).await.unwrap();
        assert_eq!(site.recorded::<u64>(&key).await.unwrap(), None);
    }
    product.finish().await;
}

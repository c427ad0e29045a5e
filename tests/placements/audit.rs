//! What people do with the places of tenants' rows, and with all places at once, is kept in the audit.

use tenure_client::{AuditLine, AuditQuery};

use super::*;

async fn kept(product: &Product, query: AuditQuery) -> Vec<AuditLine> {
    let page = product.app.client.list_audit(&query).await;
    page.unwrap().items
}

fn told(lines: &[AuditLine]) -> Vec<(&str, &str)> {
    let told = lines.iter();
    told.map(|line| (line.action.as_str(), line.reason.as_str()))
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_done_with_a_place_is_kept_in_the_audit() {
    let product = Product::fleet().await;
    let client = &product.app.client;
    let key = IdempotencyKey::generate;
    let of = |tenant: Uuid| AuditQuery {
        tenant_id: Some(tenant),
        ..AuditQuery::default()
    };
    let ash = product.add_shared("Ash Optics").await;
    product.rows(&ash, 40).await;
    let mut rooms = product.connect(&product.cedar.place).await;
    // A lock at the new place keeps the tenant on its way.
    for sql in ["call shared.provision('ash')", "begin; lock ash.comment"] {
        sqlx::raw_sql(sql).execute(&mut rooms).await.unwrap();
    }
    let to = place(TenancyModel::Schema, "rooms", Some("ash"), &ash.place.key);
    begin_move(&product, &ash, &to, None, 0).await;
    let back = async || {
        let (wish, once) = (back_out(), key());
        client.back_out_placement(ash.tenant, &wish, &once).await
    };
    back().await.unwrap();
    sqlx::raw_sql("rollback").execute(&mut rooms).await.unwrap();
    ended(&product, "tenant-move").await;
    // What is refused is no act.
    assert_eq!(status_of(&back().await.unwrap_err()).0, 409);
    let lines = kept(&product, of(ash.tenant)).await;
    let done = [
        ("back out of move", "they changed their mind"),
        ("move placement", "they have grown"),
        ("set placement", "it is there"),
    ];
    assert_eq!(told(&lines), done);
    assert_eq!(lines[1].after["other"]["schema"], "ash");
    assert_eq!(lines[2].after["place"]["source"], "main");

    let hazel = product.add_unplaced("Hazel Printing").await;
    let mut provision = ProvisionPlacement {
        place: place(TenancyModel::Schema, "rooms", Some("hazel"), "7"),
        sql: Some(ROOM.to_owned()),
        reason: " ".to_owned(),
    };
    let refused = client.provision_placement(hazel, &provision, &key()).await;
    assert_eq!(status_of(&refused.unwrap_err()).0, 422);
    assert!(client.placement(hazel).await.is_err(), "nothing is made");
    provision.reason = "they have signed".to_owned();
    let made = client.provision_placement(hazel, &provision, &key()).await;
    made.unwrap();
    at_rest(&product, hazel).await;
    let lines = kept(&product, of(hazel)).await;
    assert_eq!(told(&lines), [("provision placement", "they have signed")]);

    let migration = ApplyMigration {
        version: "12".to_owned(),
        sql: "alter table task add column note text".to_owned(),
        sources: vec!["rooms".to_owned()],
        at_most: None,
        reason: "ticket 7".to_owned(),
    };
    client.apply_migration(&migration, &key()).await.unwrap();
    let by_subject = AuditQuery {
        subject: Some("12".to_owned()),
        ..AuditQuery::default()
    };
    let lines = kept(&product, by_subject).await;
    assert_eq!(told(&lines), [("apply migration", "ticket 7")]);
    assert_eq!((lines[0].tenant_id, lines.len()), (None, 1));
    ended(&product, "product-migration").await;
    product.finish().await;
}

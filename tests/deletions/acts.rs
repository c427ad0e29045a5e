//! What people did to a tenant that is deleted: who, when and why stays, what it was about does not.

use serde_json::json;
use tenure_client::{ActOnPause, AuditQuery, IdempotencyKey, NewCreditNote, PauseScope};

use super::{act, reaches, request, second};
use crate::support::app::TestApp;

#[tokio::test(flavor = "multi_thread")]
async fn what_acts_on_a_deleted_tenant_were_about_is_told_no_more() {
    let app = TestApp::new().await;
    let make = app.customer();
    let customer = make.team("pm_card_visa").await;
    let other = make.team("pm_card_visa").await;
    let mut subjects = Vec::new();
    for one in [&customer, &other] {
        one.advance("30d").await;
        let invoice = one.invoices().await.remove(0).invoice_id;
        let tenant = one.tenant.tenant_id;
        let note = NewCreditNote {
            amount: None,
            refund: false,
            reason: "an outage".to_owned(),
            dry_run: false,
        };
        let key = IdempotencyKey::generate();
        let given = app.client.give_credit_note(tenant, invoice, &note, &key);
        given.await.unwrap();
        let pause = ActOnPause {
            scope: PauseScope::Tenant,
            name: tenant.to_string(),
            reason: "a look".to_owned(),
            seen: None,
        };
        let key = IdempotencyKey::generate();
        app.client.pause_scope(&pause, &key).await.unwrap();
        let key = IdempotencyKey::generate();
        app.client.lift_pause(&pause, &key).await.unwrap();
        subjects.push([invoice.to_string(), format!("tenant {tenant}")]);
    }
    let id = request(&app, customer.tenant.tenant_id, 0)
        .await
        .deletion_id;
    act(&second(&app).await, id, "approve").await.unwrap();
    reaches(&app, id, "ending").await;
    customer.advance("0h").await;
    reaches(&app, id, "certified").await;
    for (place, subjects) in subjects.iter().enumerate() {
        for subject in subjects {
            let query = AuditQuery {
                subject: Some(subject.clone()),
                ..AuditQuery::default()
            };
            let lines = app.client.list_audit(&query).await.unwrap().items;
            assert!(!lines.is_empty(), "{subject}");
            for line in lines {
                assert!(!line.actor.is_empty() && !line.reason.is_empty());
                let about = [&line.before, &line.after];
                let emptied = about.iter().all(|about| **about == json!({}));
                assert_eq!(emptied, place == 0, "{line:?}");
            }
        }
    }
    app.finish().await;
}

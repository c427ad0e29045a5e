//! The process that erases is killed, again and again.

use stripe_sandbox::{Sandbox, SandboxConfig};
use tenure_client::Client;
use tenure_workflows::certificate::{self, LocalSigningKey, SigningKey as _};

use super::{act, delete, request, second_token};
use crate::support::app::{CERTIFICATE_KEY, SANDBOX_KEY};
use crate::support::process::Server;
use crate::support::product::{Product, TABLES, as_login};
use crate::support::smtp::SmtpServer;
use crate::support::{self, eventually};

/// What a certificate says of the product's tables.
fn of_product(verified: &certificate::Verified) -> Vec<certificate::Table> {
    let tables = verified.tables.iter();
    let tables = tables.filter(|table| table.realm == "product");
    tables.cloned().collect()
}

/// How many rows all tenants have in a shared table.
async fn count(url: &str, table: &str) -> i64 {
    let mut conn = support::connect(&url.parse().unwrap()).await;
    let rows = format!("select count(*) from work.{table}");
    sqlx::query_scalar(sqlx::AssertSqlSafe(rows))
        .fetch_one(&mut conn)
        .await
        .unwrap()
}

#[tokio::test(flavor = "multi_thread")]
#[expect(clippy::too_many_lines, reason = "one story, told in order")]
async fn kill_9_in_the_middle_certifies_the_same_and_leaves_nothing() {
    let product = Product::fleet().await;
    let (oak, elm) = (
        product.add_shared("Oak Surveyors").await,
        product.add_shared("Elm Surveyors").await,
    );
    for member in [&oak, &elm, &product.birch] {
        product.rows(member, 400).await;
    }
    let found = product.counts(&elm, &elm.place).await;
    assert_eq!(product.counts(&oak, &oak.place).await, found);
    let app = &product.app;
    let (_, calm) = delete(app, oak.tenant).await;
    let id = request(app, elm.tenant, 0).await.deletion_id;
    let grace = second_token(&app.options, "ada").await;
    let own = support::url(&app.options).await;
    let url = |source: &str| format!("{source}={}", as_login(product.url(source)));
    let urls = ["main", "rooms", "vault"].map(url).join(" ");
    let main = product.url("main").to_owned();
    let mut before = Vec::new();
    for table in TABLES {
        before.push((table, count(&main, table).await));
    }
    product.finish().await;

    let smtp = SmtpServer::start().await;
    let sandbox = Sandbox::start(SandboxConfig::new(SANDBOX_KEY));
    let sandbox = sandbox.await.unwrap();
    let mut server = Server::new(own, sandbox.url().to_owned(), smtp.url());
    let client = Client::new(&server.url(), &grace).unwrap();
    let start = async |server: &mut Server| {
        let mut command = server.command();
        command.env("TENURE_PRODUCTS", &urls);
        command.env("TENURE_CERTIFICATE_KEY", CERTIFICATE_KEY);
        server.start_by(command);
        server.ready(&client).await;
    };
    start(&mut server).await;
    act(&client, id, "approve").await.unwrap();
    let mut under_way = 0;
    for kills in 0..5 {
        eventually("it came further", async || {
            let Ok(seen) = client.deletion(id).await else {
                return false;
            };
            let done = seen.steps.iter().filter(|step| step.done_at.is_some());
            let done = done.count();
            done > kills * 4 || seen.deletion.state == "certified"
        })
        .await;
        let seen = client.deletion(id).await.unwrap().deletion;
        assert_ne!(seen.state, "failed_step", "{seen:?}");
        under_way += usize::from(seen.final_at.is_some() && seen.ended_at.is_none());
        server.kill();
        start(&mut server).await;
    }
    assert!(under_way >= 2, "only {under_way} kills met it under way");
    eventually("it is certified", async || {
        let seen = client.deletion(id).await;
        seen.is_ok_and(|seen| seen.deletion.state == "certified")
    })
    .await;

    let signed = client.deletion_certificate(id).await.unwrap();
    let text = serde_json::to_string(&signed).unwrap();
    let key = LocalSigningKey::parse(CERTIFICATE_KEY).unwrap();
    let killed = certificate::verify(&text, &key.public()).unwrap();
    assert_eq!(killed.subject, elm.tenant.to_string());
    assert_eq!(of_product(&killed), of_product(&calm), "as without a kill");
    // All of it is gone but what the law keeps, and nobody else's.
    for ((table, all), (_, its)) in before.iter().zip(&found) {
        let kept = matches!(*table, "invoice" | "invoice_line" | "organisation");
        let gone = if kept { 0 } else { *its };
        assert!(gone > 0 || kept, "{table} had nothing to erase");
        assert_eq!(count(&main, table).await, all - gone, "{table}");
    }
    server.kill();
    sandbox.shutdown().await;
}

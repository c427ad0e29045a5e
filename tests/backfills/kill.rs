//! The process that fills is killed, again and again.

use stripe_sandbox::{Sandbox, SandboxConfig};
use tenure_client::Client;

use super::{Server, Story, eventually, with};
use crate::support;
use crate::support::app::SANDBOX_KEY;
use crate::support::product::{Product, as_login};
use crate::support::smtp::SmtpServer;

#[tokio::test(flavor = "multi_thread")]
#[expect(clippy::too_many_lines, reason = "one story, told in order")]
async fn kill_9_in_the_middle_leaves_the_same_rows_each_written_once() {
    let product = Product::fleet().await;
    product.rows(&product.birch, 4_000).await;
    let text = with(&[(
        "[columns.state]",
        "sources = [\"main\"]\nwait_at = [\"fill\", \"switch\"]\n",
    )]);
    let text = text.replace(
        "first_rows = 20",
        "first_rows = 20\nmax_rows = 20\nsub_batches = 3",
    );
    let story = Story::start(&product, &text).await;
    story.waits_before("fill").await;
    let (name, url) = (story.name.clone(), product.url("main").to_owned());
    let (own, token) = (
        support::url(&product.app.options).await,
        product.app.token.clone(),
    );
    let birch = product.birch.clone();
    product.finish().await;

    let smtp = SmtpServer::start().await;
    let sandbox = Sandbox::start(SandboxConfig::new(SANDBOX_KEY))
        .await
        .unwrap();
    let mut server = Server::new(own, sandbox.url().to_owned(), smtp.url());
    let client = Client::new(&server.url(), &token).unwrap();
    let start = async |server: &mut Server| {
        let mut command = server.command();
        command.env("TENURE_PRODUCTS", format!("main={}", as_login(&url)));
        server.start_by(command);
        eventually("the server answers", async || client.whoami().await.is_ok()).await;
    };
    start(&mut server).await;
    let act = tenure_client::ActOnBackfill {
        reason: "ticket 40".to_owned(),
        ..tenure_client::ActOnBackfill::default()
    };
    let key = tenure_client::IdempotencyKey::generate();
    client
        .act_on_backfill(&name, "advance", &act, &key)
        .await
        .unwrap();
    let mut under_way = 0;
    for part in 1..=4 {
        eventually("it came further", async || {
            let far = client.backfill(&name).await;
            far.is_ok_and(|of| of.progress.done_rows > part * 500 || of.phase != "fill")
        })
        .await;
        let of = client.backfill(&name).await.unwrap();
        under_way += usize::from(of.phase == "fill");
        server.kill();
        start(&mut server).await;
    }
    assert!(
        under_way >= 2,
        "only {under_way} kills met the fill under way"
    );
    eventually("it has filled and verified", async || {
        let of = client.backfill(&name).await;
        of.is_ok_and(|of| of.phase == "switch" && of.status == "waiting")
    })
    .await;
    let of = client.backfill(&name).await.unwrap();
    let mut conn = support::connect(&url.parse().unwrap()).await;
    let (all, right): (i64, i64) = sqlx::query_as(
        "select count(*), count(*) filter (
           where state = case status when 'open' then 0 when 'doing' then 1 else 2 end)
         from work.task",
    )
    .fetch_one(&mut conn)
    .await
    .unwrap();
    assert_eq!((right, of.mismatches), (all, Some(0)));
    assert_eq!(
        (of.progress.done_rows, of.progress.written_rows),
        (all, all),
        "{}",
        birch.name
    );
    server.kill();
    sandbox.shutdown().await;
}

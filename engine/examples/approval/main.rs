//! Runs one approval from start to end: a pool, a registry, a client, a worker.
//!
//! On a database that `tenure migrate up` has brought up, by a login that may act as the engine:
//! `DATABASE_URL=postgres://... cargo run -p tenure-engine --example approval`.

mod workflow;

use std::error::Error;

use tenure_engine::{
    Client, PoolConfig, Registry, RunRef, ShardId, StepError, TenantId, Worker, WorkerConfig,
    inspect, tenant,
};
use tokio_util::sync::CancellationToken;
use workflow::{Approval, Desk, Request, Signal};

/// A desk that prints what it is told.
struct Printer;

impl Desk for Printer {
    async fn tell(&self, key: &str, text: String) -> Result<(), StepError> {
        println!("{text} (key {key})");
        Ok(())
    }

    async fn refund(&self, key: &str, request: &Request) -> Result<String, StepError> {
        println!(
            "{} cents to {} (key {key})",
            request.cents, request.customer
        );
        Ok(format!("receipt for {}", request.customer))
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "an example has no command line to read it from"
)]
#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let database: tenure_engine::Database = std::env::var("DATABASE_URL")?.parse()?;
    let pool = tenure_engine::connect(database, &PoolConfig::default()).await?;
    let registry = Registry::builder().register(Approval(Printer)).build()?;
    let client = Client::new(pool, registry, CancellationToken::new());

    let shard = ShardId::any();
    let tenant = TenantId::new(shard);
    let mut tx = tenure_engine::begin(client.pool()).await?;
    tenant::register(&mut tx, tenant, shard, None).await?;
    let request = Request {
        customer: "Ada".to_owned(),
        cents: 12_000,
    };
    let started = client.start::<Approval<Printer>>(&mut tx, tenant, "refund-1", &request);
    let run = started.await?.run_id;
    let yes = Signal::Approve {
        by: "Maria".to_owned(),
    };
    client
        .signal::<Approval<Printer>>(&mut tx, tenant, RunRef::Id(run), "maria-1", &yes)
        .await?;
    tx.commit().await?;

    let mut worker = Worker::start(&client, WorkerConfig::default()).await?;
    worker.idle().await;
    worker.shutdown().await;
    let mut conn = client.pool().acquire().await?;
    let detail = inspect::detail(&mut conn, client.registry(), run).await?;
    println!("{}: {}", detail.summary.status, detail.why.summary);
    Ok(())
}

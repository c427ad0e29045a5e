//! W10: starts and signals over HTTP, 64 connections that each ask again as soon as they are
//! answered. API, worker, load and Postgres share the machine; every start leads to a run that is
//! carried out meanwhile.

use std::net::SocketAddr;
use std::time::Instant;

use futures_util::future::try_join_all;
use tenure_client::Role;
use tenure_engine::PoolConfig;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::entitlement::token;
use super::figure::{Measured, percentile};
use super::lane::Lane;
use super::load::Bench;
use super::workflows::Listener;
use crate::state::{AppState, Outside};

/// Connections.
const LANES: usize = 64;
/// Starts, and signals, of all lanes.
const REQUESTS: u32 = 12_800;

pub(super) async fn measure(bench: &Bench) -> anyhow::Result<Measured> {
    let token = token(bench.pool(), "bench", Role::Admin).await?;
    let api = serve(bench).await?;
    let listeners = listeners(bench).await?;
    let mut worker = bench.worker().await?;
    worker.idle().await;
    let each = bench.scaled(REQUESTS).div_ceil(LANES);
    let tenant = bench.tenant().0;

    let starts = drive(api.address, each, async |lane, _| {
        let key = tenure_engine::random_uuid().to_string();
        let body = format!(
            r#"{{"workflow":"bench-steps","tenant_id":"{tenant}","key":"{key}","input":1}}"#
        );
        lane.post("/v1/runs", (&token, &key), &body, " 201 ").await
    });
    let (starts_per_s, starts) = starts.await?;
    worker.idle().await;
    let signals = drive(api.address, each, async |lane, nth| {
        let (run, key) = (listeners[nth], tenure_engine::random_uuid());
        let path = format!("/v1/runs/{run}/signals");
        let body = format!(r#"{{"id":"{key}","signal":"Ping"}}"#);
        let key = key.to_string();
        lane.post(&path, (&token, &key), &body, " 202 ").await
    });
    let (signals_per_s, signals) = signals.await?;
    worker.idle().await;
    worker.shutdown().await;
    api.close().await?;
    Ok(vec![
        ("starts_per_s".to_owned(), starts_per_s),
        ("start_p50_ms".to_owned(), percentile(&starts, 0.5)),
        ("start_p99_ms".to_owned(), percentile(&starts, 0.99)),
        ("signals_per_s".to_owned(), signals_per_s),
        ("signal_p50_ms".to_owned(), percentile(&signals, 0.5)),
        ("signal_p99_ms".to_owned(), percentile(&signals, 0.99)),
    ])
}

/// Asks on all lanes, each so often; answers a second, and the milliseconds that each took.
async fn drive(
    address: SocketAddr,
    each: usize,
    ask: impl AsyncFn(&mut Lane, usize) -> anyhow::Result<()>,
) -> anyhow::Result<(f64, Vec<f64>)> {
    let mut lanes = Vec::new();
    for _ in 0..LANES {
        lanes.push(Lane::open(address).await?);
    }
    let ask = &ask;
    let began = Instant::now();
    let all = lanes.iter_mut().enumerate().map(async |(nth, lane)| {
        let mut times = Vec::with_capacity(each);
        for _ in 0..each {
            let asked = Instant::now();
            ask(lane, nth).await?;
            times.push(asked.elapsed().as_secs_f64() * 1000.0);
        }
        anyhow::Ok(times)
    });
    let times: Vec<f64> = try_join_all(all).await?.into_iter().flatten().collect();
    Ok((times.len() as f64 / began.elapsed().as_secs_f64(), times))
}

/// A run for each lane to signal.
async fn listeners(bench: &Bench) -> anyhow::Result<Vec<Uuid>> {
    let mut runs = Vec::new();
    for _ in 0..LANES {
        let key = tenure_engine::random_uuid().to_string();
        let mut conn = bench.pool().acquire().await?;
        let started = bench
            .client()
            .start::<Listener>(&mut conn, bench.tenant(), &key, &());
        runs.push(started.await?.run_id.0);
    }
    Ok(runs)
}

/// The API as it is served, over the bench's own workflows.
struct Api {
    address: SocketAddr,
    pools: [sqlx::PgPool; 2],
    server: tokio::task::JoinHandle<std::io::Result<()>>,
    stop: CancellationToken,
}

async fn serve(bench: &Bench) -> anyhow::Result<Api> {
    let options = (*bench.pool().connect_options()).clone();
    let config = PoolConfig::default();
    let pool = tenure_engine::connect(options.clone(), &config).await?;
    let readers = tenure_engine::connect_control(options, &config).await?;
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?;
    let app = crate::routes::app(AppState::new(
        bench.client().clone(),
        pool.clone(),
        Some(readers.clone()),
        Outside::default(),
        Vec::new(),
        "bench".to_owned(),
    ));
    let stop = CancellationToken::new();
    let stopped = stop.clone().cancelled_owned();
    let serve = axum::serve(listener, app).with_graceful_shutdown(stopped);
    Ok(Api {
        address,
        pools: [pool, readers],
        server: tokio::spawn(async move { serve.await }),
        stop,
    })
}

impl Api {
    async fn close(self) -> anyhow::Result<()> {
        self.stop.cancel();
        self.server.await??;
        for pool in self.pools {
            pool.close().await;
        }
        Ok(())
    }
}

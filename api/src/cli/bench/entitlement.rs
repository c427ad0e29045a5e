//! E1: what a tenant has, asked over HTTP at a steady rate, of many tenants.
//!
//! The load is open: each request has an instant at which it is due, whether or not earlier ones were
//! answered, and one that had to wait for its connection is timed from that instant. Load, API and
//! Postgres share the machine.

use std::time::{Duration, Instant};

use anyhow::Context as _;
use futures_util::future::try_join_all;
use sqlx::{Executor as _, PgPool};
use tenure_client::Role;
use tenure_engine::PoolConfig;
use tenure_workflows::catalog;
use tenure_workflows::ports::mail::MailConfig;
use tenure_workflows::product::Sources;
use tokio::net::TcpListener;
use uuid::Uuid;

use super::figure::{Measured, percentile};
use super::lane::{Lane, header};
use crate::auth::{self, NewToken};
use crate::config::StripeConfig;
use crate::serve::{Running, ServeConfig, start};

/// Requests a second.
const RATE: u32 = 2_000;
/// Connections that they go over.
const LANES: u32 = 16;
/// How long each part lasts.
const SECONDS: f64 = 10.0;
/// How many tenants there are.
const TENANTS: u32 = 100_000;
/// How many of them are asked about again and again, by somebody who knows the answer.
const POPULAR: u32 = 1_000;
/// The first bits of the tenants' ids.
const PREFIX: u128 = 0x00e1_0000_0000_7000_8000_0000_0000_0000;

/// Asks at the rate: of all tenants, of the popular ones with what is known, and of Postgres alone.
pub(crate) async fn measure(pool: &PgPool, scale: f64) -> anyhow::Result<Measured> {
    let tenants = ((f64::from(TENANTS) * scale) as u32).max(POPULAR);
    fill(pool, tenants).await?;
    let token = token(pool, "bench", Role::Viewer).await?;
    let mails = tempfile::tempdir()?;
    let (address, running) = serve(pool, mails.path()).await?;
    let pace = Pace {
        requests: (f64::from(RATE) * SECONDS * scale.min(1.0)) as u32,
        rate: RATE,
    };
    // Connections, plans and the catalogue's versions; what is measured is the steady state.
    let warm = Pace {
        requests: RATE,
        rate: RATE,
    };
    warm.drive(async || Asker::new(address, &token, tenants, false).await)
        .await?;
    let began = Instant::now();
    let read = pace
        .drive(async || Asker::new(address, &token, tenants, false).await)
        .await?;
    let took = began.elapsed().as_secs_f64();
    let again = pace
        .drive(async || Asker::new(address, &token, POPULAR, true).await)
        .await?;
    running.shutdown().await;
    let look = pace
        .drive(async || {
            Ok(Looker {
                pool: pool.clone(),
                tenants,
            })
        })
        .await?;
    Ok(vec![
        ("reads_per_s".to_owned(), read.len() as f64 / took),
        ("read_p50_ms".to_owned(), percentile(&read, 0.5)),
        ("read_p99_ms".to_owned(), percentile(&read, 0.99)),
        ("known_p50_ms".to_owned(), percentile(&again, 0.5)),
        ("known_p99_ms".to_owned(), percentile(&again, 0.99)),
        ("lookup_p50_ms".to_owned(), percentile(&look, 0.5)),
        ("lookup_p99_ms".to_owned(), percentile(&look, 0.99)),
    ])
}

/// Makes the tenants, with a subscription each and some with two, and a few holds and overrides.
async fn fill(pool: &PgPool, tenants: u32) -> anyhow::Result<()> {
    publish(pool).await?;
    let mut conn = pool.acquire().await?;
    // Rows are named in JSON, so that columns that come and go make no difference. Row-level security
    // is for all but a superuser, which the private Postgres's login is.
    conn.execute("reset role").await?;
    let ids = "create temp table bench_tenant as
         select n, ('00e10000-0000-7000-8000-' || lpad(to_hex(n), 12, '0'))::uuid as tenant_id,
           (n % 1024)::smallint as shard_id
         from generate_series(0, $1::int - 1) as n";
    sqlx::query("drop table if exists bench_tenant")
        .execute(&mut *conn)
        .await?;
    sqlx::query(sqlx::AssertSqlSafe(ids.replace("$1", &tenants.to_string())))
        .execute(&mut *conn)
        .await?;
    conn.execute(
        "insert into engine.tenant (tenant_id, shard_id)
         select tenant_id, shard_id from bench_tenant on conflict do nothing;
         insert into app.subscription
         select row.*
         from bench_tenant
         cross join generate_series(1, case when n % 10 = 0 then 2 else 1 end) as nth
         cross join lateral jsonb_populate_record(null::app.subscription, jsonb_build_object(
           'subscription_id', overlay(tenant_id::text placing '00e' || nth::text from 1 for 4),
           'shard_id', shard_id, 'tenant_id', tenant_id, 'run_id', tenant_id,
           'plan', case when nth = 2 then 'team-monthly' else 'starter-monthly' end,
           'plan_version', 1, 'interval_unit', 'month', 'billing_interval', 'month',
           'billing', 'in_advance', 'proration', 'day', 'currency', 'EUR', 'amount', 19, 'zone', 'UTC',
           'anchor_on', '2026-01-01', 'started_at', '2026-01-01T00:00:00Z', 'lifecycle', 'active')) as row
         on conflict do nothing;
         insert into app.hold
           (hold_id, shard_id, tenant_id, kind, starts_at, blocks_changes, blocks_access, blocks_billing,
            reason, author, placed_at)
         select tenant_id, shard_id, tenant_id, 'fraud', '2026-01-01T00:00:00Z', true, true, false, 'bench',
           'bench', '2026-01-01T00:00:00Z'
         from bench_tenant where n % 100 = 1 on conflict do nothing;
         insert into app.entitlement_override
           (tenant_id, feature, shard_id, value, reason, author, set_at)
         select tenant_id, 'projects', shard_id, '77', 'bench', 'bench', '2026-01-01T00:00:00Z'
         from bench_tenant where n % 100 = 2 on conflict do nothing;
         drop table bench_tenant;
         analyze engine.tenant, app.subscription, app.hold, app.entitlement_override;
         set role tenure_engine",
    )
    .await?;
    Ok(())
}

/// Publishes the demo catalogue.
pub(super) async fn publish(pool: &PgPool) -> anyhow::Result<()> {
    let mut tx = pool.begin().await?;
    tenure_workflows::as_control(&mut tx).await?;
    let demo = catalog::parse(include_str!("../../../../fixtures/seed/catalog.json"))?;
    catalog::publish(&mut tx, &demo).await?;
    tx.commit().await?;
    Ok(())
}

/// A token of a role.
pub(super) async fn token(pool: &PgPool, name: &str, role: Role) -> anyhow::Result<String> {
    let mut tx = pool.begin().await?;
    tenure_workflows::as_control(&mut tx).await?;
    let new = NewToken {
        name: name.to_owned(),
        role,
        tenant: None,
        // Longer than any workload moves the time.
        days: 400,
    };
    let token = auth::create(&mut tx, &new).await?;
    tx.commit().await?;
    Ok(token)
}

/// The API as it is served, with no worker.
async fn serve(
    pool: &PgPool,
    mails: &std::path::Path,
) -> anyhow::Result<(std::net::SocketAddr, Running)> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?;
    let running = start(served(pool, listener, mails)).await?;
    Ok((address, running))
}

/// What is served to be measured: the API alone, with nothing outside.
pub(super) fn served(pool: &PgPool, listener: TcpListener, mails: &std::path::Path) -> ServeConfig {
    ServeConfig {
        database: (*pool.connect_options()).clone().into(),
        listener: Some(listener),
        metrics: None,
        worker: None,
        allow_stranding: false,
        stripe: StripeConfig {
            url: "http://127.0.0.1:9".to_owned(),
            secret_key: "sk_test_bench".to_owned(),
            webhook_secrets: Vec::new(),
        },
        mail: MailConfig::Capture {
            folder: mails.to_owned(),
            from: "Bench <bench@tenure.example>".to_owned(),
        },
        master_key: None,
        certificate_key: None,
        products: Sources::default(),
        archive: None,
        environment: "bench".to_owned(),
        pool: PoolConfig::default(),
    }
}

/// So many requests, so many a second, over all lanes.
#[derive(Clone, Copy)]
pub(super) struct Pace {
    pub(super) requests: u32,
    pub(super) rate: u32,
}

/// What asks on a lane.
pub(super) trait Ask {
    async fn ask(&mut self, nth: u32) -> anyhow::Result<()>;
}

impl Pace {
    /// Asks; the milliseconds that each answer took.
    pub(super) async fn drive<A: Ask>(
        &self,
        open: impl AsyncFn() -> anyhow::Result<A>,
    ) -> anyhow::Result<Vec<f64>> {
        let mut lanes = Vec::new();
        for _ in 0..LANES {
            lanes.push(open().await?);
        }
        let began = Instant::now();
        let all = lanes.iter_mut().zip(0..LANES).map(async |(asker, lane)| {
            let mut times = Vec::new();
            for nth in (lane..self.requests).step_by(LANES as usize) {
                let due = began + Duration::from_secs_f64(f64::from(nth) / f64::from(self.rate));
                let ahead = due.saturating_duration_since(Instant::now());
                let asked = if ahead.is_zero() {
                    due
                } else {
                    tenure_engine::sleep(ahead).await;
                    Instant::now()
                };
                asker.ask(nth).await?;
                times.push(asked.elapsed().as_secs_f64() * 1000.0);
            }
            anyhow::Ok(times)
        });
        Ok(try_join_all(all).await?.into_iter().flatten().collect())
    }
}

/// The nth tenant to ask about: all over the place, and the same in each run.
fn tenant(nth: u32, tenants: u32) -> Uuid {
    let scattered = u64::from(nth).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32;
    Uuid::from_u128(PREFIX | u128::from(scattered % u64::from(tenants)))
}

/// One connection to the API.
struct Asker {
    lane: Lane,
    token: String,
    tenants: u32,
    known: Option<std::collections::HashMap<Uuid, String>>,
}

impl Asker {
    async fn new(
        address: std::net::SocketAddr,
        token: &str,
        tenants: u32,
        knows: bool,
    ) -> anyhow::Result<Self> {
        Ok(Self {
            lane: Lane::open(address).await?,
            token: token.to_owned(),
            tenants,
            known: knows.then(std::collections::HashMap::new),
        })
    }
}

impl Ask for Asker {
    async fn ask(&mut self, nth: u32) -> anyhow::Result<()> {
        let tenant = tenant(nth, self.tenants);
        let known = self.known.as_ref().and_then(|known| known.get(&tenant));
        let condition = known.map_or_else(String::new, |tag| format!("if-none-match: {tag}\r\n"));
        let request = format!(
            "GET /v1/tenants/{tenant}/entitlements HTTP/1.1\r\nhost: bench\r\n\
             authorization: Bearer {}\r\n{condition}\r\n",
            self.token
        );
        let expected = if known.is_some() { " 304 " } else { " 200 " };
        let head = self.lane.ask(&request).await?;
        let status = head.lines().next().unwrap_or_default();
        anyhow::ensure!(status.contains(expected), "the API answered {status:?}");
        if let Some(known) = &mut self.known {
            let tag = header(&head, "etag").context("an answer has an entity tag")?;
            known.insert(tenant, tag.to_owned());
        }
        Ok(())
    }
}

/// Postgres alone: one row by its primary key, over the same driver.
struct Looker {
    pool: PgPool,
    tenants: u32,
}

impl Ask for Looker {
    async fn ask(&mut self, nth: u32) -> anyhow::Result<()> {
        sqlx::query("select shard_id from engine.tenant where tenant_id = $1")
            .bind(tenant(nth, self.tenants))
            .fetch_one(&self.pool)
            .await?;
        Ok(())
    }
}

//! The ground of B1 and B2: a product's database beside Tenure's own, on the same server, in which
//! tenants share tables; Tenure served with a worker; and the product at work for other tenants.
//!
//! Each round makes the database anew and places a tenant that no round before has had.

use anyhow::Context as _;
use sqlx::postgres::{PgConnectOptions, PgPoolOptions};
use sqlx::{AssertSqlSafe, ConnectOptions as _, Executor as _, PgPool};
use tenure_client::{
    Client, IdempotencyKey, LoadDataMap, NewTenant, Place, Role, SetPlacement, TenancyModel,
};
use tenure_engine::WorkerConfig;
use tenure_workflows::certificate::LocalSigningKey;
use tenure_workflows::data_map::{self, Erase, Model};
use tenure_workflows::product::Sources;
use tokio::net::TcpListener;
use uuid::Uuid;

use super::entitlement::{Ask, Pace, served, token};
use super::load::Bench;
use crate::serve::{Running, ServeConfig, start};

/// The product's source, its database, and the login that row-level security binds.
const SOURCE: &str = "bench";
const DATABASE: &str = "bench_product";
/// Transactions of the product a second.
const RATE: u32 = 500;
/// How many seconds of them are one look; alone it looks so often, whatever the scale: in one second five
/// are the slowest hundredth.
const LOOK_SECONDS: u32 = 1;
const LOOKS_ALONE: u32 = 20;
/// Other tenants, and what each has in the first table.
const OTHERS: u32 = 50;
const ROWS_OF_OTHERS: u32 = 1_000;

pub(super) struct Ground {
    pub(super) client: Client,
    /// A second admin.
    pub(super) second: Client,
    pub(super) tenant: Uuid,
    /// A superuser's pool in the product's database.
    pub(super) product: PgPool,
    /// The product's own.
    own: PgPool,
    running: Running,
    _mails: tempfile::TempDir,
}

impl Ground {
    /// A tenant with so many rows in each of so many tables.
    pub(super) async fn make(bench: &Bench, tables: u32, rows: usize) -> anyhow::Result<Self> {
        let password = tenure_engine::random_uuid().simple().to_string();
        let key = tenure_engine::random_uuid();
        let options = database(bench.pool(), &password).await?;
        let product = PgPoolOptions::new().connect_with(options.clone()).await?;
        fill(&product, tables, rows, key).await?;
        let login = options.username(DATABASE).password(&password);
        let source = format!("{SOURCE}={}", login.to_url_lossy());
        let own = PgPoolOptions::new().max_connections(16);
        let own = own.connect_with(login).await?;

        let mails = tempfile::tempdir()?;
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let url = format!("http://{}", listener.local_addr()?);
        let signing = LocalSigningKey::generate("bench").map_err(anyhow::Error::msg)?;
        let signing = LocalSigningKey::parse(&signing).map_err(anyhow::Error::msg)?;
        let running = start(ServeConfig {
            worker: Some(WorkerConfig::default()),
            certificate_key: Some(std::sync::Arc::new(signing)),
            products: Sources::parse([source.as_str()])?,
            ..served(bench.pool(), listener, mails.path())
        })
        .await?;
        let admin = async |name| token(bench.pool(), name, Role::Admin).await;
        let client = Client::new(&url, &admin("bench").await?)?;
        let second = Client::new(&url, &admin("bench, too").await?)?;
        let tenant = place(&client, &product, key).await?;
        Ok(Self {
            client,
            second,
            tenant,
            product,
            own,
            running,
            _mails: mails,
        })
    }

    /// The product at work for a while, with nothing beside it; milliseconds of its transactions.
    pub(super) async fn alone(&self) -> anyhow::Result<Vec<f64>> {
        // Neither what the tables' making left to be written, nor connections that are opened.
        sqlx::raw_sql("checkpoint").execute(&self.product).await?;
        self.look().await?;
        let mut times = Vec::new();
        for _ in 0..LOOKS_ALONE {
            times.extend(self.look().await?);
        }
        Ok(times)
    }

    /// The same for one look, while something may go on.
    pub(super) async fn look(&self) -> anyhow::Result<Vec<f64>> {
        let pace = Pace {
            requests: RATE * LOOK_SECONDS,
            rate: RATE,
        };
        pace.drive(async || Ok(Work(self.own.clone()))).await
    }

    /// Ends what is served, and drops the product's database.
    pub(super) async fn end(self, bench: &Bench) -> anyhow::Result<()> {
        self.running.shutdown().await;
        self.own.close().await;
        self.product.close().await;
        let mut conn = bench.pool().acquire().await?;
        conn.execute("reset role").await?;
        let drop = format!("drop database {DATABASE} with (force)");
        conn.execute(AssertSqlSafe(drop)).await?;
        conn.execute("set role tenure_engine").await?;
        Ok(())
    }
}

/// Makes the product's database, empty; how the superuser connects to it. What an earlier round placed
/// there is placed nowhere any more.
async fn database(pool: &PgPool, password: &str) -> anyhow::Result<PgConnectOptions> {
    let mut conn = pool.acquire().await?;
    conn.execute("reset role").await?;
    let forget = "delete from app.placement where source = $1 or other ->> 'source' = $1";
    let login = format!(
        "do $$ begin create role {DATABASE} login;
         exception when duplicate_object then null; end $$;
         alter role {DATABASE} password '{password}'"
    );
    sqlx::query(forget).bind(SOURCE).execute(&mut *conn).await?;
    conn.execute(AssertSqlSafe(login)).await?;
    for statement in [
        format!("drop database if exists {DATABASE} with (force)"),
        format!("create database {DATABASE} owner {DATABASE}"),
    ] {
        conn.execute(AssertSqlSafe(statement))
            .await
            .context("the login that measures may make databases")?;
    }
    conn.execute("set role tenure_engine").await?;
    Ok((*pool.connect_options()).clone().database(DATABASE))
}

/// Makes the tables, as a careful product has them: keys that hold the tenant, an index to each,
/// row-level security that binds the owner. All but the first refer to the first.
async fn fill(product: &PgPool, tables: u32, rows: usize, key: Uuid) -> anyhow::Result<()> {
    let mut conn = product.acquire().await?;
    let prepare = format!("set role {DATABASE}; create schema work");
    conn.execute(AssertSqlSafe(prepare)).await?;
    for nth in 1..=tables {
        let table = table(nth);
        let refers = match nth {
            1 => String::new(),
            _ => format!(
                "alter table {table} add foreign key (org_id, part_of) references {first};
                 create index on {table} (org_id, part_of);",
                first = self::table(1)
            ),
        };
        let make = format!(
            "create table {table} (
               org_id uuid not null, id bigint not null, part_of bigint, amount integer not null,
               words text not null, primary key (org_id, id)
             );
             insert into {table}
             select '{key}', n, n, n % 1000, 'words that a tenant wrote, number ' || n
             from generate_series(1, {rows}) as n;
             insert into {table}
             select md5('other ' || other)::uuid, n, n, n % 1000, 'others wrote this ' || n
             from generate_series(1, {OTHERS}) as other, generate_series(1, {of_others}) as n;
             {refers}
             analyze {table}",
            of_others = if nth == 1 { ROWS_OF_OTHERS } else { 10 },
        );
        conn.execute(AssertSqlSafe(make)).await?;
    }
    // After the keys: Postgres looks whether rows fit a new one as the owner, who sees none by then.
    for table in (1..=tables).map(table) {
        let secure = format!(
            "alter table {table} enable row level security, force row level security;
             create policy tenant on {table}
               using (org_id = nullif(current_setting('bench.org', true), '')::uuid)"
        );
        conn.execute(AssertSqlSafe(secure)).await?;
    }
    conn.execute("reset role").await?;
    Ok(())
}

/// The name of a table.
pub(super) fn table(nth: u32) -> String {
    format!("work.part_{nth}")
}

/// Loads the map of the tables, all of whose rows go with their tenant, and places a new tenant.
async fn place(client: &Client, product: &PgPool, key: Uuid) -> anyhow::Result<Uuid> {
    let schemas = ["work".to_owned()];
    let mut conn = product.acquire().await?;
    let snapshot = data_map::read(&mut conn, Model::Shared, &schemas).await?;
    let mut map = data_map::draft(&snapshot, Model::Shared, &schemas, Some("org_id"));
    map.setting = Some("bench.org".to_owned());
    for column in map.tables.values_mut().flat_map(|rule| &mut rule.columns) {
        column.guess = false;
        column.erase = Erase::Delete;
    }
    let load = LoadDataMap {
        text: data_map::print(&map),
        unchecked: false,
    };
    let fresh = IdempotencyKey::generate;
    client.load_data_map(SOURCE, &load, &fresh()).await?;
    let new = NewTenant {
        name: "Bench".to_owned(),
        email: "bench@tenure.example".to_owned(),
        zone: "UTC".to_owned(),
        locale: None,
        test_clock: None,
        legal_entity: None,
    };
    let tenant = client.create_tenant(&new, &fresh()).await?.tenant_id;
    let place = Place {
        model: TenancyModel::Shared,
        source: SOURCE.to_owned(),
        database: None,
        schema: None,
        key: key.to_string(),
    };
    let set = SetPlacement {
        place,
        reason: "bench".to_owned(),
    };
    client.set_placement(tenant, &set, &fresh()).await?;
    Ok(tenant)
}

/// The product's own work: a transaction that reads and writes a row of another tenant.
struct Work(PgPool);

impl Ask for Work {
    async fn ask(&mut self, nth: u32) -> anyhow::Result<()> {
        let (other, row) = (nth % OTHERS + 1, (nth * 7) % ROWS_OF_OTHERS + 1);
        let mut tx = self.0.begin().await?;
        sqlx::query("select set_config('bench.org', md5('other ' || $1)::uuid::text, true)")
            .bind(other.to_string())
            .execute(&mut *tx)
            .await?;
        let changed = sqlx::query(
            "update work.part_1 set amount = amount + 1
             where org_id = current_setting('bench.org')::uuid and id = $1",
        )
        .bind(i64::from(row))
        .execute(&mut *tx)
        .await?;
        anyhow::ensure!(changed.rows_affected() == 1, "another tenant's row is gone");
        tx.commit().await?;
        Ok(())
    }
}

//! The sample product in all three models, as one fleet: its databases, their maps, its tenants and
//! their placements, and rows as a working office leaves them.
//!
//! ```text
//! source  model     tenants
//! main    shared    Birch, Salthouse, and whom a test adds
//! rooms   schema    Cedar in schema cedar, Quarry in schema quarry
//! vault   database  Ilex in the source's own database
//! bare    -         nobody: no map is loaded
//! ```
//!
//! The sources' login is `sample_product_tenure`: no superuser, so that row-level security binds it.

use std::path::Path;

use serde_json::Value;
use sqlx::{AssertSqlSafe, PgConnection};
use tenure_client::{
    Client, IdempotencyKey, LoadDataMap, NewTenant, Place, SetPlacement, TenancyModel,
};
use tenure_workflows::archive::ArchiveConfig;
use tenure_workflows::data_map;
use tenure_workflows::product::Sources;
use uuid::Uuid;

use super::app::TestApp;

pub(crate) const BIRCH: &str = "0c000000-0000-7000-8000-000000000001";
pub(crate) const SALTHOUSE: &str = "0c000000-0000-7000-8000-000000000002";

/// The tables of the product that hold tenants' rows, parents first.
pub(crate) const TABLES: [&str; 9] = [
    "organisation",
    "app_user",
    "project",
    "task",
    "comment",
    "attachment",
    "invoice",
    "invoice_line",
    "audit_event",
];

/// A fleet, and Tenure beside it.
pub(crate) struct Product {
    pub(crate) app: TestApp,
    pub(crate) sources: Sources,
    /// Source, and the superuser's URL of its database.
    urls: Vec<(&'static str, String)>,
    pub(crate) birch: Member,
    pub(crate) salthouse: Member,
    pub(crate) cedar: Member,
    pub(crate) quarry: Member,
    pub(crate) ilex: Member,
}

/// A tenant of the fleet.
#[derive(Debug, Clone)]
pub(crate) struct Member {
    pub(crate) tenant: Uuid,
    pub(crate) name: String,
    pub(crate) place: Place,
}

/// One of the sample product's files.
pub(crate) fn sample(file: &str) -> String {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/sample-product");
    std::fs::read_to_string(folder.join(file)).unwrap()
}

/// The login of the sources, in place of the superuser's.
pub(crate) fn as_login(url: &str) -> String {
    let (_, rest) = url.split_once('@').unwrap();
    format!("postgres://sample_product_tenure@{rest}")
}

async fn run(conn: &mut PgConnection, sql: impl Into<String>) {
    let sql: String = sql.into();
    let done = sqlx::raw_sql(AssertSqlSafe(sql.clone()))
        .execute(conn)
        .await;
    done.unwrap_or_else(|error| panic!("{error}: {sql}"));
}

const LOGIN: &str = "
    do $$
    begin
      create role sample_product_owner nologin;
    exception when duplicate_object or unique_violation then null;
    end $$;
    do $$
    begin
      create role sample_product_tenure login createdb in role sample_product_owner;
    exception when duplicate_object or unique_violation then null;
    end $$;
    do $$
    begin
      execute format('grant create on database %I to sample_product_tenure', current_database());
    end $$;";

/// A database of the product, made by the superuser; its URL.
pub(crate) async fn database(file: Option<&str>, after: &str) -> String {
    let url = super::empty_database_url().await;
    furnish(&url, file, after).await;
    url
}

/// Makes an empty database one of the product's.
pub(crate) async fn furnish(url: &str, file: Option<&str>, after: &str) {
    let mut conn = super::connect(&url.parse().unwrap()).await;
    run(&mut conn, LOGIN).await;
    if let Some(file) = file {
        run(&mut conn, sample(file)).await;
    }
    run(&mut conn, after).await;
}

/// What somebody does who has read a draft of the sample product: confirms the guesses, names the
/// law that keeps invoices, and says what is nobody's.
fn read_through(draft: &str) -> String {
    let mut lines = Vec::new();
    for line in draft.replace(", guess = true", "").lines() {
        let table = line.strip_prefix("[tables.\"");
        let table = table.and_then(|rest| rest.strip_suffix("\".columns]"));
        let bare = table.map(|table| table.trim_start_matches("work."));
        if matches!(bare, Some("invoice" | "invoice_line" | "organisation")) {
            lines.push("basis = \"tax law, ten years\"".to_owned());
        }
        lines.push(line.to_owned());
        if line == "[tables.\"work.currency\"]" {
            lines.push("no_tenant = \"the currencies of the world\"".to_owned());
        }
    }
    lines.join("\n") + "\n"
}

/// The map of a database, as somebody has read it.
pub(crate) async fn map_of(url: &str, model: data_map::Model, schema: &str) -> String {
    let mut conn = super::connect(&url.parse().unwrap()).await;
    let schemas = vec![schema.to_owned()];
    let snapshot = data_map::read(&mut conn, model, &schemas).await.unwrap();
    let map = data_map::draft(&snapshot, model, &schemas, None);
    let text = read_through(&data_map::print(&map));
    match model {
        data_map::Model::Shared => {
            text.replacen("\n[tables", "tenant_setting = \"work.org\"\n\n[tables", 1)
        }
        data_map::Model::Schema | data_map::Model::Database => text,
    }
}

/// Loads the map of a source's database, as somebody has read it.
pub(crate) async fn load_map(
    client: &Client,
    source: &str,
    url: &str,
    (model, schema): (data_map::Model, &str),
) {
    let load = LoadDataMap {
        text: map_of(url, model, schema).await,
        unchecked: false,
    };
    let key = IdempotencyKey::generate();
    let loaded = client.load_data_map(source, &load, &key).await;
    loaded.unwrap_or_else(|error| panic!("{source}: {error:?}\n{}", load.text));
}

pub(crate) fn place(model: TenancyModel, source: &str, schema: Option<&str>, key: &str) -> Place {
    Place {
        model,
        source: source.to_owned(),
        database: None,
        schema: schema.map(ToOwned::to_owned),
        key: key.to_owned(),
    }
}

impl Product {
    /// Makes the databases, serves Tenure with them, loads the maps and places the tenants.
    pub(crate) async fn fleet() -> Self {
        Self::fleet_with(None).await
    }

    /// The same, with a store of archives.
    pub(crate) async fn fleet_with(archive: Option<ArchiveConfig>) -> Self {
        let main = database(Some("shared.sql"), "").await;
        let rooms = "set role sample_product_owner";
        let rooms = format!(
            "call shared.provision('cedar'); call shared.provision('quarry');
             drop schema tenant_birch, tenant_salthouse cascade; {rooms}"
        );
        let rooms = database(Some("schema-per-tenant.sql"), &rooms).await;
        let owned = "grant create on database %I to sample_product_owner";
        let owned = format!(
            "do $$ begin execute format('{owned}', current_database()); end $$;
             set role sample_product_owner; {}",
            sample("database-per-tenant.sql")
        );
        let vault = database(None, &owned).await;
        let bare = vault.clone();
        let urls = vec![
            ("main", main),
            ("rooms", rooms),
            ("vault", vault),
            ("bare", bare),
        ];
        let pairs: Vec<String> = urls
            .iter()
            .map(|(name, url)| format!("{name}={}", as_login(url)))
            .collect();
        let sources = Sources::parse(pairs.iter().map(String::as_str)).unwrap();
        let app = match archive {
            Some(archive) => TestApp::with_archive(sources.clone(), archive).await,
            None => TestApp::with_products(sources.clone()).await,
        };
        for (source, model, schema) in [
            ("main", data_map::Model::Shared, "work"),
            ("rooms", data_map::Model::Schema, "cedar"),
            ("vault", data_map::Model::Database, "work"),
        ] {
            let url = &urls.iter().find(|(name, _)| *name == source).unwrap().1;
            load_map(&app.client, source, url, (model, schema)).await;
        }
        let key = |n: u8| format!("0c000000-0000-7000-8000-0000000000{n:02}");
        let birch = place(TenancyModel::Shared, "main", None, BIRCH);
        let birch = add(&app.client, "Birch & Barrow Architects", birch).await;
        let salthouse = place(TenancyModel::Shared, "main", None, SALTHOUSE);
        let salthouse = add(&app.client, "Salthouse Ferries", salthouse).await;
        let cedar = place(TenancyModel::Schema, "rooms", Some("cedar"), &key(3));
        let cedar = add(&app.client, "Cedar Street Dental", cedar).await;
        let quarry = place(TenancyModel::Schema, "rooms", Some("quarry"), &key(4));
        let quarry = add(&app.client, "Quarry Lane Bakery", quarry).await;
        let ilex = place(TenancyModel::Database, "vault", None, &key(5));
        let ilex = add(&app.client, "Ilex Translations", ilex).await;
        let product = Self {
            app,
            sources,
            urls,
            birch,
            salthouse,
            cedar,
            quarry,
            ilex,
        };
        for member in [&product.cedar, &product.quarry, &product.ilex] {
            product.found(member).await;
        }
        product
    }

    /// All members, the shared ones first.
    pub(crate) fn members(&self) -> [&Member; 5] {
        [
            &self.birch,
            &self.salthouse,
            &self.cedar,
            &self.quarry,
            &self.ilex,
        ]
    }

    /// The superuser's URL of a source's database.
    pub(crate) fn url(&self, source: &str) -> &str {
        let found = self.urls.iter().find(|(name, _)| *name == source);
        &found.unwrap().1
    }

    /// The URL of the database that a place is in, with the superuser's login.
    pub(crate) fn url_of(&self, place: &Place) -> String {
        let own = self.url(&place.source);
        let Some(database) = &place.database else {
            return own.to_owned();
        };
        let (head, options) = own.split_once('?').unwrap();
        let (server, _) = head.rsplit_once('/').unwrap();
        format!("{server}/{database}?{options}")
    }

    /// The superuser's connection to the database that a member's place is in.
    pub(crate) async fn connect(&self, place: &Place) -> PgConnection {
        super::connect(&self.url_of(place).parse().unwrap()).await
    }

    /// The product's own connection: its login, which row-level security binds.
    pub(crate) async fn connect_as_product(&self, place: &Place) -> PgConnection {
        super::connect(&as_login(&self.url_of(place)).parse().unwrap()).await
    }

    /// Adds a tenant to the shared tables, with a key of its own and an organisation.
    pub(crate) async fn add_shared(&self, name: &str) -> Member {
        let key = Uuid::from_u128(super::unique().into()).to_string();
        let shared = place(TenancyModel::Shared, "main", None, &key);
        let member = add(&self.app.client, name, shared).await;
        self.found(&member).await;
        member
    }

    /// Makes a tenant that is placed nowhere.
    pub(crate) async fn add_unplaced(&self, name: &str) -> Uuid {
        create(&self.app.client, name).await
    }

    /// The row that all others hang on.
    async fn found(&self, member: &Member) {
        let mut conn = self.connect(&member.place).await;
        found(&mut conn, member).await;
    }

    /// Lets a tenant work: `n` tasks, and what comes with them. May be called again.
    pub(crate) async fn rows(&self, member: &Member, n: usize) {
        fill(&self.url_of(&member.place), member, n).await;
    }

    /// Runs SQL of the superuser's at a member's place: `{w}` before a table, `{key}`, `{name}`, `{slug}`; and
    /// where tenants share tables `{o}` is their column in a list and `{k}` its value.
    pub(crate) async fn write(&self, member: &Member, sql: &str) {
        let mut conn = self.connect(&member.place).await;
        run(&mut conn, fit(member, sql)).await;
    }

    /// How many rows a tenant has in each table, at any place.
    pub(crate) async fn counts(&self, member: &Member, at: &Place) -> Vec<(&'static str, i64)> {
        let mut counts = Vec::new();
        for table in TABLES {
            let rows = self.contents(member, at, table).await;
            counts.push((table, i64::try_from(rows.len()).unwrap()));
        }
        counts
    }

    /// A tenant's rows of a table at any place, without the tenant column of shared tables, so that
    /// two places can be compared. The superuser reads them: nothing is hidden.
    pub(crate) async fn contents(&self, member: &Member, at: &Place, table: &str) -> Vec<Value> {
        let mut conn = self.connect(at).await;
        contents(&mut conn, member, at, table).await
    }

    /// Ends the app; no run may be stuck.
    pub(crate) async fn finish(self) {
        self.sources.close().await;
        self.app.finish().await;
    }
}

/// The row that all others of a member hang on.
pub(crate) async fn found(conn: &mut PgConnection, member: &Member) {
    let statement = "insert into {w}organisation (org_id, name, slug, billing_email, created_at)
         values ('{key}', '{name}', '{slug}', 'office@{slug}.example', '2026-03-02 08:15+00')";
    run(conn, fit(member, statement)).await;
}

/// What [`Product::contents`] tells, through a connection to the place's database.
pub(crate) async fn contents(
    conn: &mut PgConnection,
    member: &Member,
    at: &Place,
    table: &str,
) -> Vec<Value> {
    let moved = Member {
        place: at.clone(),
        ..member.clone()
    };
    let without = if table == "organisation" {
        ""
    } else {
        " - 'org_id'"
    };
    let condition = match (at.model, table) {
        (TenancyModel::Shared, "invoice_line") => {
            " where exists (select from {w}invoice i
                   where i.invoice_id = t.invoice_id and i.org_id = '{key}')"
        }
        (TenancyModel::Shared, _) => " where t.org_id = '{key}'",
        _ => "",
    };
    let asked = format!("select to_jsonb(t){without} from {{w}}{table} t{condition} order by 1");
    sqlx::query_scalar(AssertSqlSafe(fit(&moved, &asked)))
        .fetch_all(conn)
        .await
        .unwrap()
}

/// Lets a tenant work whose place is in the database of an URL.
pub(crate) async fn fill(url: &str, member: &Member, n: usize) {
    let mut conn = super::connect(&url.parse().unwrap()).await;
    let tasks = fit(member, "select count(*) from {w}task{where}");
    let first: i64 = sqlx::query_scalar(AssertSqlSafe(tasks))
        .fetch_one(&mut conn)
        .await
        .unwrap();
    let last = first + i64::try_from(n).unwrap();
    for statement in ROWS {
        let statement = statement
            .replace("{first}", &(first + 1).to_string())
            .replace("{last}", &last.to_string());
        run(&mut conn, fit(member, &statement)).await;
    }
}

/// One source without an app, for plays: `main` with shared tables, its superuser's URL and its map.
pub(crate) async fn shared_source() -> (Sources, String, String) {
    let url = database(Some("shared.sql"), "").await;
    let pair = format!("main={}", as_login(&url));
    let sources = Sources::parse([pair.as_str()]).unwrap();
    let map = map_of(&url, data_map::Model::Shared, "work").await;
    (sources, url, map)
}

async fn create(client: &Client, name: &str) -> Uuid {
    let new = NewTenant {
        name: name.to_owned(),
        email: "office@product.example".to_owned(),
        zone: "UTC".to_owned(),
        locale: None,
        test_clock: None,
        legal_entity: None,
    };
    let key = IdempotencyKey::generate();
    client.create_tenant(&new, &key).await.unwrap().tenant_id
}

/// Makes a tenant that is placed.
pub(crate) async fn add(client: &Client, name: &str, place: Place) -> Member {
    let tenant = create(client, name).await;
    let key = IdempotencyKey::generate();
    let set = SetPlacement {
        place: place.clone(),
        reason: "it is there".to_owned(),
    };
    client.set_placement(tenant, &set, &key).await.unwrap();
    Member {
        tenant,
        name: name.to_owned(),
        place,
    }
}

/// SQL as a member's place wants it.
fn fit(member: &Member, sql: &str) -> String {
    let Place { schema, key, .. } = &member.place;
    let shared = member.place.model == TenancyModel::Shared;
    let prefix = schema
        .as_ref()
        .map_or("work.".to_owned(), |schema| format!("\"{schema}\"."));
    let own = |text: &str| {
        if shared {
            text.to_owned()
        } else {
            String::new()
        }
    };
    sql.replace("{w}", &prefix)
        .replace("{o}", &own("org_id, "))
        .replace("{k}", &own(&format!("'{key}', ")))
        .replace("{where}", &own(&format!(" where org_id = '{key}'")))
        .replace("{and}", &own(&format!(" and t.org_id = '{key}'")))
        .replace("{key}", key)
        .replace("{name}", &member.name.replace('\'', "''"))
        .replace("{slug}", &key[key.len().saturating_sub(12)..])
}

/// What a tenant's people do; ids follow from the key and a number, so that nothing is doubled.
const ROWS: [&str; 9] = [
    "insert into {w}app_user ({o}user_id, email, full_name, avatar_url, last_ip, role, created_at)
     select {k}md5('{key}/user/' || n)::uuid, 'person' || n || '@{slug}.example',
       (array['Ines', 'Tomasz', 'Maeve', 'Åsa', 'José', 'Wei'])[n % 6 + 1] || ' ' ||
         (array['Morgenthal', 'Wrona', 'O''Tully', 'Lindqvist', 'Núñez'])[n % 5 + 1],
       case when n % 3 = 0 then 'https://cdn.example/a/' || n || '.png' end,
       case when n % 4 > 0 then ('203.0.113.' || n % 250)::inet end,
       (array['owner', 'member', 'member', 'guest'])[n % 4 + 1],
       timestamptz '2025-01-06 08:00+00' + n * interval '9 hours'
     from generate_series(0, {last} / 40) as n
     on conflict do nothing",
    "insert into {w}project ({o}project_id, name, lead_user_id, archived, created_at)
     select {k}md5('{key}/project/' || n)::uuid, 'Project ' || n, md5('{key}/user/' || n % 2 * 0)::uuid, n % 7 = 6,
       timestamptz '2025-01-07 09:30+00' + n * interval '2 days'
     from generate_series(0, {last} / 100) as n
     on conflict do nothing",
    "update {w}app_user t set default_project_id = md5('{key}/project/0')::uuid
     where default_project_id is null and exists (
       select from {w}project p where p.project_id = md5('{key}/project/0')::uuid){and}",
    "insert into {w}task
       ({o}task_id, project_id, parent_task_id, assignee_id, title, description, status, due_on, created_at)
     select {k}md5('{key}/task/' || n)::uuid, md5('{key}/project/' || n / 100)::uuid,
       case when n % 4 = 3 then md5('{key}/task/' || n - 1)::uuid end,
       case when n % 3 > 0 then md5('{key}/user/' || n / 40)::uuid end,
       (array['Order samples', 'Call the client', 'Check drawings', 'Write minutes – again'])[n % 4 + 1] || ' ' || n,
       case when n % 2 = 0 then repeat('As agreed on the phone; ask before the end of the week. ', n % 5 + 1) end,
       (array['open', 'doing', 'done'])[n % 3 + 1],
       case when n % 5 = 0 then date '2025-02-01' + n % 600 end,
       timestamptz '2025-01-08 08:00+00' + n * interval '47 minutes'
     from generate_series({first}, {last}) as n",
    "insert into {w}comment ({o}comment_id, task_id, author_id, body, created_at)
     select {k}md5('{key}/comment/' || n)::uuid, md5('{key}/task/' || n)::uuid, md5('{key}/user/0')::uuid,
       E'Done, please have a look.\\n\\t\"Quoted\" and \\\\ kept.', timestamptz '2025-01-08 11:00+00' + n * interval '47 minutes'
     from generate_series({first}, {last}) as n where n % 2 = 0",
    "insert into {w}attachment ({o}attachment_id, comment_id, file_name, storage_key, byte_size)
     select {k}md5('{key}/attachment/' || n)::uuid, md5('{key}/comment/' || n)::uuid, 'site-photo-' || n || '.jpg',
       'files/{key}/' || n, 184320 + n * 1024::bigint
     from generate_series({first}, {last}) as n where n % 6 = 0",
    "insert into {w}invoice
       ({o}invoice_id, number, ordered_by, buyer_name, buyer_address, currency, total, issued_on)
     select {k}md5('{key}/invoice/' || n)::uuid, 'T-' || lpad(n::text, 6, '0'), md5('{key}/user/0')::uuid,
       '{name}', 'Lindenweg 8, 04109 Leipzig', (array['EUR', 'USD'])[n % 2 + 1], 49.00 + n * 0.10,
       date '2025-01-31' + n
     from generate_series({first}, {last}) as n where n % 20 = 0",
    "insert into {w}invoice_line (invoice_id, line, description, quantity, amount)
     select md5('{key}/invoice/' || n)::uuid, line, 'Team plan, seats', 1.500, 24.50
     from generate_series({first}, {last}) as n, generate_series(1, 2) as line where n % 20 = 0",
    "insert into {w}audit_event ({o}happened_at, event_id, actor_id, action, details)
     select {k}timestamptz '2026-08-20 08:00+00' + n * interval '53 minutes', md5('{key}/event/' || n)::uuid,
       md5('{key}/user/0')::uuid, 'task.created', jsonb_build_object('n', n, 'ip', '203.0.113.17', 'tags', array['a', 'b'])
     from generate_series({first}, {last}) as n",
];

//! The shape of the tables: the way up and back on full tables, comments, and what distributing the
//! schema by shard asks of it.

use std::path::Path;
use std::process::{Command, Stdio};

use sqlx::{AssertSqlSafe, PgConnection};
use tenure_api::MIGRATOR;

use crate::support;
use crate::support::process::tenure;

async fn names(conn: &mut PgConnection, query: &'static str) -> Vec<String> {
    sqlx::query_scalar(query).fetch_all(conn).await.unwrap()
}

/// Sample rows of the tables of a migration.
fn samples(version: i64) -> Option<String> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/migrations");
    std::fs::read_to_string(folder.join(format!("{version:04}.sql"))).ok()
}

#[tokio::test(flavor = "multi_thread")]
async fn migrations_go_up_down_and_up_again_on_full_tables() {
    let options = support::empty_database().await;
    let mut conn = support::connect(&options).await;
    MIGRATOR.run(&mut conn).await.unwrap();
    let shape = "select table_schema || '.' || table_name || '.' || column_name || ' ' || data_type
                 from information_schema.columns
                 where table_schema in ('engine', 'app') and table_name !~ '_[0-9]{6}$'
                 order by 1";
    let first = names(&mut conn, shape).await;
    for migration in MIGRATOR
        .iter()
        .filter(|one| one.migration_type.is_up_migration())
    {
        let rows = samples(migration.version)
            .unwrap_or_else(|| panic!("migration {} has no sample rows", migration.version));
        sqlx::raw_sql(AssertSqlSafe(rows))
            .execute(&mut conn)
            .await
            .unwrap();
    }
    let tables = "select format('%I.%I', table_schema, table_name) from information_schema.tables
                  where table_schema in ('engine', 'app') and table_type = 'BASE TABLE'
                    and table_name !~ '_([0-9]{6}|default)$'";
    for table in names(&mut conn, tables).await {
        let row = format!("select 'one' from {table} limit 1");
        let row = sqlx::query(AssertSqlSafe(row)).fetch_optional(&mut conn);
        assert!(row.await.unwrap().is_some(), "{table} has no sample row");
    }
    MIGRATOR.undo(&mut conn, 0).await.unwrap();
    let left = "select nspname::text from pg_namespace where nspname in ('engine', 'app')";
    assert!(
        names(&mut conn, left).await.is_empty(),
        "the way back leaves something"
    );
    MIGRATOR.run(&mut conn).await.unwrap();
    assert_eq!(names(&mut conn, shape).await, first);
}

#[tokio::test(flavor = "multi_thread")]
async fn processes_that_migrate_at_once_wait_for_each_other() {
    let database = support::empty_database_url().await;
    let start = |_| {
        let mut command = Command::new(tenure());
        command.args(["migrate", "up"]).env_clear();
        command.env("DATABASE_URL", &database).stdout(Stdio::null());
        command.spawn().unwrap()
    };
    let children: Vec<_> = (0..4).map(start).collect();
    for child in children {
        let done = child.wait_with_output().unwrap();
        assert!(done.status.success());
    }
    let mut conn = support::connect(&database.parse().unwrap()).await;
    let broken = names(
        &mut conn,
        "select indexrelid::regclass::text from pg_index where not indisvalid",
    )
    .await;
    assert!(broken.is_empty(), "left half built: {broken:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn every_table_and_column_is_commented() {
    let mut conn = support::connect(&support::database().await).await;
    let bare = names(
        &mut conn,
        "select c.relnamespace::regnamespace || '.' || c.relname || coalesce('.' || a.attname, '')
         from pg_class c
         left join pg_attribute a on a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped
         where c.relnamespace in ('engine'::regnamespace, 'app'::regnamespace)
           and c.relkind in ('r', 'p') and not c.relispartition
           and (col_description(c.oid, a.attnum) is null or obj_description(c.oid) is null)",
    )
    .await;
    assert!(bare.is_empty(), "without a comment: {bare:?}");
}

/// The tables that name a tenant and have no shard, each with its reason. All are control tables.
const WITHOUT_SHARD: [(&str, &str); 5] = [
    (
        "app.product_migration_place",
        "It tells people what came of a migration at each place; a place may be that of many tenants.",
    ),
    (
        "app.token",
        "It is found by its digest, before anybody knows a tenant; most see all tenants.",
    ),
    (
        "engine.control_audit",
        "Most of it is about all tenants; it is read as a whole, newest first.",
    ),
    (
        "engine.data_key",
        "It is read by the tenant alone, and has rows only for those of whom something is sealed.",
    ),
    (
        "engine.tenant_weight",
        "Each worker reads all of it with its lease, whatever shards it claims from.",
    ),
];

#[tokio::test(flavor = "multi_thread")]
async fn a_table_that_names_a_tenant_has_its_shard_or_a_reason() {
    let mut conn = support::connect(&support::database().await).await;
    let without = names(
        &mut conn,
        "select c.relnamespace::regnamespace || '.' || c.relname
         from pg_class c
         join pg_attribute a on a.attrelid = c.oid and a.attname = 'tenant_id'
         where c.relnamespace in ('engine'::regnamespace, 'app'::regnamespace)
           and c.relkind in ('r', 'p') and not c.relispartition
           and not exists (
             select from pg_attribute a where a.attrelid = c.oid and a.attname = 'shard_id')
         order by 1",
    )
    .await;
    let known = WITHOUT_SHARD.map(|(table, _)| table);
    assert_eq!(
        without, known,
        "without shard_id, or without need of a reason"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn every_key_of_a_tenants_table_carries_the_shard() {
    let mut conn = support::connect(&support::database().await).await;
    let without = names(
        &mut conn,
        "select i.indexrelid::regclass::text
         from pg_index i
         join pg_class c on c.oid = i.indrelid
         where c.relnamespace in ('engine'::regnamespace, 'app'::regnamespace)
           and not c.relispartition and i.indisunique
           and exists (select from pg_attribute a where a.attrelid = c.oid and a.attname = 'shard_id')
           and c.relname not in ('tenant')
           and not exists (
             select from pg_attribute a
             where a.attrelid = c.oid and a.attname = 'shard_id' and a.attnum = any(i.indkey))",
    )
    .await;
    assert!(without.is_empty(), "unique without shard_id: {without:?}");
    let sharded_without_keys = names(
        &mut conn,
        "select k.conrelid::regclass || ' -> ' || k.confrelid::regclass
         from pg_constraint k
         where k.contype = 'f'
           and exists (select from pg_attribute a where a.attrelid = k.conrelid and a.attname = 'shard_id')
           and k.conrelid <> 'engine.tenant'::regclass
           and not exists (
             select from pg_attribute a
             where a.attrelid = k.conrelid and a.attname = 'shard_id' and a.attnum = any(k.conkey))",
    )
    .await;
    assert!(
        sharded_without_keys.is_empty(),
        "foreign keys: {sharded_without_keys:?}"
    );
    let forbidden = names(
        &mut conn,
        "select 'trigger ' || tgname from pg_trigger t join pg_class c on c.oid = t.tgrelid
         where not tgisinternal and c.relnamespace in ('engine'::regnamespace, 'app'::regnamespace)
         union all
         select 'sequence ' || relname from pg_class
         where relkind = 'S' and relnamespace in ('engine'::regnamespace, 'app'::regnamespace)
         union all
         select 'default of ' || adrelid::regclass from pg_attrdef d join pg_class c on c.oid = d.adrelid
         where c.relnamespace in ('engine'::regnamespace, 'app'::regnamespace)
           -- A constant is no trouble, and what a column added later needs.
           and pg_get_expr(d.adbin, d.adrelid) !~ '^(true|false|[0-9]+|''\\{\\}''::text\\[\\])$'",
    )
    .await;
    assert!(forbidden.is_empty(), "not distributable: {forbidden:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn every_tenants_table_is_under_forced_row_level_security() {
    let mut conn = support::connect(&support::database().await).await;
    let open = names(
        &mut conn,
        "select c.oid::regclass::text
         from pg_class c
         where c.relnamespace in ('engine'::regnamespace, 'app'::regnamespace)
           and c.relkind in ('r', 'p') and not c.relispartition
           and exists (select from pg_attribute a where a.attrelid = c.oid and a.attname = 'shard_id')
           and not (c.relrowsecurity and c.relforcerowsecurity)",
    )
    .await;
    assert!(
        open.is_empty(),
        "without forced row-level security: {open:?}"
    );
}

/// The tables that are distributed, as one shard of four would hold them.
const DISTRIBUTED: [&str; 13] = [
    "run",
    "bulk",
    "bulk_run",
    "due",
    "nudge",
    "clocked",
    "parked",
    "inbox",
    "audit",
    "step",
    "schedule",
    "slot",
    "legal_hold",
];

#[tokio::test(flavor = "multi_thread")]
async fn the_tables_can_be_partitioned_by_shard_and_a_keyed_statement_touches_one() {
    let mut conn = support::connect(&support::database().await).await;
    sqlx::raw_sql("create schema shaped")
        .execute(&mut conn)
        .await
        .unwrap();
    for table in DISTRIBUTED {
        // Postgres itself refuses every unique key without the partition column.
        let shaped = format!(
            "create table shaped.{table} (like engine.{table} including indexes) partition by list (shard_id);
             create table shaped.{table}_0 partition of shaped.{table} for values in (0, 1);
             create table shaped.{table}_1 partition of shaped.{table} for values in (2, 3);"
        );
        sqlx::raw_sql(sqlx::AssertSqlSafe(shaped))
            .execute(&mut conn)
            .await
            .unwrap_or_else(|error| panic!("engine.{table}: {error}"));
    }
    let touched = async |conn: &mut PgConnection, statement: &str| {
        let explain = format!("explain (verbose) {statement}");
        let plan: Vec<String> = sqlx::query_scalar(sqlx::AssertSqlSafe(explain))
            .fetch_all(conn)
            .await
            .unwrap();
        let plan = plan.join("\n");
        (plan.contains("shaped.run_0"), plan.contains("shaped.run_1"))
    };
    let keyed = "update shaped.run set nudged = true
                 where run_id = '01a209f6-4a46-727d-af04-fed22f2f252b' and shard_id = 1";
    assert_eq!(touched(&mut conn, keyed).await, (true, false));
    let forgotten = "update shaped.run set nudged = true
                     where run_id = '01a209f6-4a46-727d-af04-fed22f2f252b'";
    assert_eq!(touched(&mut conn, forgotten).await, (true, true));
}

//! The product's own databases in three tenancy models: what is seen through each door, what is done
//! there once, and tenants that are provisioned, moved and migrated.

mod audit;

use serde_json::Value;
use sqlx::AssertSqlSafe;
use tenure_client::{
    ApplyMigration, BackOutPlacement, Client, ClientError, IdempotencyKey, MigrationOutcome,
    MovePlacement, Place, Placement, PlacementFilter, PlacementStatus, ProvisionPlacement, Role,
    RunDetail, RunFilter, RunStatus, SetPlacement, TenancyModel,
};
use tenure_engine::testkit::{Play, PlayError, Scene, fault_matrix};
use tenure_engine::{PoolConfig, Status, TenantId};
use tenure_workflows::data_map::Model;
use tenure_workflows::placement::Migration;
use tenure_workflows::placement::door::{
    NewMove, begin_move as begin_place_move, migrate, migration_places, provision,
};
use tenure_workflows::ports::mail::{MailConfig, Mailer};
use tenure_workflows::ports::stripe::Stripe;
use tenure_workflows::product::{self, OnceKey, ProductError, Site, Sources, door, maps};
use tenure_workflows::{Environment, as_control};
use uuid::Uuid;

use crate::support::app::token;
use crate::support::matrix::assert_borne;
use crate::support::product::{Member, Product, SALTHOUSE, TABLES, as_login, map_of, sample};
use crate::support::{self, connect, eventually};

/// A member's place, opened.
async fn site(product: &Product, member: &Member) -> Site {
    let mut conn = connect(&product.app.options).await;
    let mut tx = sqlx::Connection::begin(&mut conn).await.unwrap();
    as_control(&mut tx).await.unwrap();
    let placement = door::find(&mut tx, TenantId(member.tenant)).await.unwrap();
    let map = maps::current(&mut tx, &placement.place.source)
        .await
        .unwrap();
    Site::open(&product.sources, &placement, &map)
        .await
        .unwrap()
}

/// The name of a table in a member's map.
fn mapped(site: &Site, table: &str) -> String {
    match site.place().schema {
        Some(_) => table.to_owned(),
        None => format!("work.{table}"),
    }
}

/// How many rows a site sees: of its own, and at all.
async fn seen(site: &Site, table: &str) -> (i64, i64) {
    let name = mapped(site, table);
    let (table, own) = (site.table(&name), site.own(&name));
    let asked = format!("select count(*) filter (where {own}), count(*) from {table} as t");
    let mut tx = site.begin().await.unwrap();
    sqlx::query_as(AssertSqlSafe(asked))
        .fetch_one(&mut *tx)
        .await
        .unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_site_sees_its_tenants_rows_and_no_others_in_every_model() {
    let product = Product::fleet().await;
    for member in product.members() {
        product.rows(member, 60).await;
    }
    for member in product.members() {
        let site = site(&product, member).await;
        let counts = product.counts(member, &member.place).await;
        assert_eq!(counts.len(), TABLES.len());
        for (table, count) in counts {
            assert!(count > 0, "{table} of {}", member.name);
            assert_eq!(
                seen(&site, table).await,
                (count, count),
                "{table} of {}",
                member.name
            );
        }
        // What is nobody's is not the tenant's.
        if member.place.schema.is_none() {
            assert_eq!(site.own("work.currency"), "false");
        }
    }
    product.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn work_is_done_once_in_every_model_and_what_fails_leaves_nothing() {
    let product = Product::fleet().await;
    let job = Uuid::from_u128(7);
    for member in [&product.birch, &product.cedar, &product.ilex] {
        let site = site(&product, member).await;
        let name = mapped(&site, "organisation");
        let rename = format!(
            "update {} as t set name = name || '!' where {}",
            site.table(&name),
            site.own(&name)
        );
        let key = OnceKey::new(job, "rename");
        let work = async || {
            site.once(&key, async |conn| {
                let done = sqlx::query(AssertSqlSafe(rename.clone()))
                    .execute(conn)
                    .await?;
                Ok(done.rows_affected())
            })
            .await
        };
        let failed: Result<u64, _> = site
            .once(&key, async |conn| {
                sqlx::query(AssertSqlSafe(rename.clone()))
                    .execute(conn)
                    .await?;
                Err(ProductError::Refused("not today".to_owned()))
            })
            .await;
        assert!(matches!(failed, Err(ProductError::Refused(_))));
        assert_eq!(site.recorded::<u64>(&key).await.unwrap(), None);
        // Two at once, and once more: one of them does it, all have its answer.
        let (one, two) = tokio::join!(work(), work());
        assert_eq!(
            (one.unwrap(), two.unwrap(), work().await.unwrap()),
            (1, 1, 1)
        );
        let rows = product
            .contents(member, &member.place, "organisation")
            .await;
        assert_eq!(rows[0]["name"], format!("{}!", member.name));
        site.forget(job).await.unwrap();
        assert_eq!(site.recorded::<u64>(&key).await.unwrap(), None);
    }
    product.finish().await;
}

fn status_of(error: &ClientError) -> (u16, String) {
    match error {
        ClientError::Problem(problem) => {
            (problem.status, problem.detail.clone().unwrap_or_default())
        }
        other => panic!("{other:?}"),
    }
}

fn place(model: TenancyModel, source: &str, name: Option<&str>, key: &str) -> Place {
    let name = name.map(str::to_owned);
    let is_schema = model == TenancyModel::Schema;
    Place {
        model,
        source: source.to_owned(),
        database: name.clone().filter(|_| !is_schema),
        schema: name.filter(|_| is_schema),
        key: key.to_owned(),
    }
}

fn back_out() -> BackOutPlacement {
    BackOutPlacement {
        reason: "they changed their mind".to_owned(),
    }
}

/// Makes a tenant's tables in a new schema.
const ROOM: &str = "call shared.make_tables()";

pub(crate) async fn at_rest(product: &Product, tenant: Uuid) -> Placement {
    eventually("the placement is at rest", async || {
        let found = product.app.client.placement(tenant).await;
        found.is_ok_and(|found| found.status == PlacementStatus::Active)
    })
    .await;
    product.app.client.placement(tenant).await.unwrap()
}

/// The one run of a workflow, once it has ended.
async fn ended(product: &Product, workflow: &str) -> RunDetail {
    let filter = RunFilter {
        workflow: Some(workflow.to_owned()),
        ..RunFilter::default()
    };
    let newest = async || {
        let page = product.app.client.list_runs(&filter).await.unwrap();
        page.items.first().map(|run| (run.run_id, run.status))
    };
    eventually("the run has ended", async || {
        newest().await.is_some_and(|(_, status)| {
            matches!(
                status,
                RunStatus::Completed | RunStatus::Failed | RunStatus::Cancelled
            )
        })
    })
    .await;
    let (run, _) = newest().await.unwrap();
    product.app.client.run(run).await.unwrap()
}

/// What is told of a run's end.
fn why(run: &RunDetail) -> String {
    format!("{:?}", run.why)
}

pub(crate) async fn begin_move(
    product: &Product,
    member: &Member,
    to: &Place,
    sql: Option<&str>,
    keep: u32,
) {
    let wanted = MovePlacement {
        to: to.clone(),
        sql: sql.map(str::to_owned),
        keep_hours: Some(keep),
        batch: Some(25),
        reason: "they have grown".to_owned(),
    };
    let key = IdempotencyKey::generate();
    let moved = product
        .app
        .client
        .move_placement(member.tenant, &wanted, &key)
        .await;
    assert_eq!(moved.unwrap().status, PlacementStatus::Moving);
}

/// All that a tenant has at a place, as it could be compared with another place.
async fn all(product: &Product, member: &Member, at: &Place) -> Vec<(&'static str, Vec<Value>)> {
    let mut found = Vec::new();
    for table in TABLES {
        found.push((table, product.contents(member, at, table).await));
    }
    found
}

#[tokio::test(flavor = "multi_thread")]
#[expect(clippy::too_many_lines, reason = "one story, told in order")]
async fn no_tenant_is_read_or_written_through_anothers_site_token_or_login() {
    let product = Product::fleet().await;
    for member in product.members() {
        product.rows(member, 20).await;
    }
    // The tables' owner, who forgets to say for whom, sees nothing; whoever says it sees one.
    let mut owner = product.connect_as_product(&product.birch.place).await;
    for table in TABLES {
        let asked = format!("select count(*) from work.{table}");
        let count: i64 = sqlx::query_scalar(AssertSqlSafe(asked))
            .fetch_one(&mut owner)
            .await
            .unwrap();
        assert_eq!(count, 0, "{table}");
    }
    let birch = site(&product, &product.birch).await;
    let steal = format!(
        "insert into work.project values ('{SALTHOUSE}', gen_random_uuid(), 'x', null, false, now())"
    );
    let mut tx = birch.begin().await.unwrap();
    let refused = sqlx::raw_sql(AssertSqlSafe(steal)).execute(&mut *tx).await;
    assert!(
        refused
            .unwrap_err()
            .to_string()
            .contains("row-level security")
    );
    drop(tx);
    // What is not named in full is looked for in the tenant's own schema only.
    let cedar = site(&product, &product.cedar).await;
    let mut tx = cedar.begin().await.unwrap();
    let schema: String = sqlx::query_scalar("select 'task'::regclass::oid::regclass::text")
        .fetch_one(&mut *tx)
        .await
        .unwrap();
    assert_eq!(schema, "task");
    let home: String = sqlx::query_scalar(
        "select relnamespace::regnamespace::text from pg_class where oid = 'task'::regclass",
    )
    .fetch_one(&mut *tx)
    .await
    .unwrap();
    assert_eq!(home, "cedar");
    drop(tx);
    // A login that row-level security does not bind opens no shared place.
    let url = format!("main={}", product.url("main"));
    let careless = Sources::parse([url.as_str()]).unwrap();
    let mut conn = connect(&product.app.options).await;
    let mut tx = sqlx::Connection::begin(&mut conn).await.unwrap();
    as_control(&mut tx).await.unwrap();
    let tenant = TenantId(product.birch.tenant);
    let placement = door::find(&mut tx, tenant).await.unwrap();
    let map = maps::current(&mut tx, "main").await.unwrap();
    let opened = Site::open(&careless, &placement, &map).await;
    assert!(matches!(opened, Err(ProductError::BypassesRowSecurity(_))));
    drop(tx);
    // A tenant's token sees its own placement, and no other thing of these.
    let bound = token(&mut conn, Role::Admin, Some(tenant)).await;
    let bound = Client::new(&product.app.url, &bound).unwrap();
    assert_eq!(bound.placement(tenant.0).await.unwrap().tenant_id, tenant.0);
    let key = IdempotencyKey::generate;
    let other = product.salthouse.tenant;
    let to = place(TenancyModel::Schema, "rooms", Some("theirs"), SALTHOUSE);
    let wanted = MovePlacement {
        to: to.clone(),
        sql: None,
        keep_hours: None,
        batch: None,
        reason: "why not".to_owned(),
    };
    let set = SetPlacement {
        place: to.clone(),
        reason: "why not".to_owned(),
    };
    let refused = [
        bound.placement(other).await.err(),
        bound
            .list_placements(&PlacementFilter::default())
            .await
            .err(),
        bound.list_sources().await.err(),
        bound.list_migrations().await.err(),
        bound.set_placement(other, &set, &key()).await.err(),
        bound.move_placement(tenant.0, &wanted, &key()).await.err(),
        bound
            .back_out_placement(tenant.0, &back_out(), &key())
            .await
            .err(),
    ];
    for (place, refused) in refused.iter().enumerate() {
        let (status, _) = status_of(refused.as_ref().unwrap());
        assert_eq!(status, 404, "{place}");
    }
    // And support may look, but neither move a tenant nor bring SQL along.
    let support = token(&mut conn, Role::Support, None).await;
    let support = Client::new(&product.app.url, &support).unwrap();
    assert_eq!(support.list_sources().await.unwrap().len(), 4);
    let refused = support.move_placement(tenant.0, &wanted, &key()).await;
    assert_eq!(status_of(&refused.unwrap_err()).0, 403);
    product.sources.close().await;
    product.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
#[expect(clippy::too_many_lines, reason = "one story, told in order")]
async fn a_place_is_made_with_the_products_own_sql_and_refused_where_something_else_is() {
    let product = Product::fleet().await;
    let client = &product.app.client;
    let provision = async |tenant: Uuid, place: &Place, sql: Option<&str>| {
        let provision = ProvisionPlacement {
            place: place.clone(),
            sql: sql.map(str::to_owned),
            reason: "they have signed".to_owned(),
        };
        let key = IdempotencyKey::generate();
        client.provision_placement(tenant, &provision, &key).await
    };
    let hazel = product.add_unplaced("Hazel Printing").await;
    let room = place(TenancyModel::Schema, "rooms", Some("hazel"), "7");
    let asked = provision(hazel, &room, Some(ROOM)).await.unwrap();
    assert_eq!(asked.status, PlacementStatus::Provisioning);
    assert_eq!(at_rest(&product, hazel).await.place, room);
    let member = Member {
        tenant: hazel,
        name: "Hazel Printing".to_owned(),
        place: room.clone(),
    };
    assert_eq!(seen(&site(&product, &member).await, "task").await, (0, 0));

    let rowan = product.add_unplaced("Rowan Freight").await;
    let name = format!("rowan_{}", rowan.simple());
    let vault = place(TenancyModel::Database, "vault", Some(&name), "8");
    let sql = sample("database-per-tenant.sql");
    provision(rowan, &vault, Some(&sql)).await.unwrap();
    assert_eq!(at_rest(&product, rowan).await.place, vault);

    // Each mistake by its own words.
    let alder = product.add_unplaced("Alder Law").await;
    let nowhere = place(TenancyModel::Schema, "attic", Some("alder"), "9");
    let unmapped = place(TenancyModel::Schema, "bare", Some("alder"), "9");
    let other = place(TenancyModel::Shared, "rooms", None, "9");
    let taken = place(TenancyModel::Schema, "rooms", Some("cedar"), "9");
    let free = place(TenancyModel::Schema, "rooms", Some("alder"), "9");
    for (tenant, place, expected) in [
        (
            alder,
            &nowhere,
            (404, "no product database is called \"attic\""),
        ),
        (alder, &unmapped, (409, "source \"bare\" has no data map")),
        (
            alder,
            &other,
            (422, "model: source rooms is of model schema"),
        ),
        (alder, &taken, (409, "is the place of tenant")),
        (
            hazel,
            &free,
            (409, "the tenant has a placement already, which is active"),
        ),
        (Uuid::nil(), &free, (404, "no tenant")),
    ] {
        let (status, detail) = status_of(&provision(tenant, place, Some(ROOM)).await.unwrap_err());
        assert_eq!(status, expected.0, "{detail}");
        assert!(detail.contains(expected.1), "{detail}");
    }
    // What only the product's database knows fails the run, and the tenant is placed nowhere.
    product
        .write(
            &member,
            "create schema alder; create table alder.task (id int)",
        )
        .await;
    for (sql, expected) in [
        (Some(ROOM), "schema alder exists already"),
        (None, "the database has no such table"),
    ] {
        provision(alder, &free, sql).await.unwrap();
        let run = ended(&product, "tenant-provision").await;
        assert_eq!(run.summary.status, RunStatus::Failed);
        let why = why(&run);
        assert!(why.contains(expected), "{why}");
        let (status, _) = status_of(&client.placement(alder).await.unwrap_err());
        assert_eq!(status, 404);
    }
    let late = place(TenancyModel::Schema, "rooms", Some("late"), "9");
    provision(alder, &late, Some("commit; select 1"))
        .await
        .unwrap();
    let why = why(&ended(&product, "tenant-provision").await);
    assert!(why.contains("the SQL ends the transaction"), "{why}");
    product.finish().await;
}

/// The product at work on a tenant of the shared tables, until it is refused: how many tasks it has
/// made, and why it stopped.
async fn work(product: &Product, member: &Member) -> (i64, String) {
    let mut conn = product.connect_as_product(&member.place).await;
    let key = &member.place.key;
    let mut made = 0;
    loop {
        let n = 100_000 + made;
        let statement = format!(
            "begin;
             set local work.org = '{key}';
             insert into work.task (org_id, task_id, project_id, parent_task_id, title, status, created_at)
               select '{key}', md5('{key}/task/{n}')::uuid, p.project_id,
                 (select max(task_id::text)::uuid from work.task), 'while it moves', 'open', now()
               from work.project p limit 1;
             with gone as (
               delete from work.attachment
               where attachment_id = (select min(attachment_id::text)::uuid from work.attachment)
               returning comment_id, file_name, storage_key, byte_size)
             insert into work.attachment
               select '{key}', md5('{key}/again/{n}')::uuid, comment_id, file_name, storage_key, byte_size
               from gone;
             delete from work.audit_event where event_id in (select event_id from work.audit_event limit 1);
             update work.app_user set full_name = full_name || '.';
             commit"
        );
        match sqlx::raw_sql(AssertSqlSafe(statement))
            .execute(&mut conn)
            .await
        {
            Ok(_) => made += 1,
            Err(error) => return (made, error.to_string()),
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tenant_moves_out_of_the_shared_tables_while_it_works_and_loses_nothing() {
    let product = Product::fleet().await;
    let oak = product.add_shared("Oak & Sons").await;
    product.rows(&oak, 200).await;
    product.rows(&product.salthouse, 30).await;
    let neighbours = all(&product, &product.salthouse, &product.salthouse.place).await;
    let before = product.counts(&oak, &oak.place).await;
    let to = place(TenancyModel::Schema, "rooms", Some("oak"), &oak.place.key);
    let ((made, why), ()) = tokio::join!(work(&product, &oak), async {
        begin_move(&product, &oak, &to, Some(ROOM), 1).await;
    });
    assert!(why.contains("is read only until it has switched"), "{why}");
    eventually("the tenant has switched", async || {
        let found = product.app.client.placement(oak.tenant).await.unwrap();
        found.status == PlacementStatus::Cleaning
    })
    .await;
    // Both places hold the same, and that is all that was ever committed.
    let moved = all(&product, &oak, &to).await;
    assert_eq!(moved, all(&product, &oak, &oak.place).await);
    let tasks = before.iter().find(|(table, _)| *table == "task").unwrap().1;
    let found = product.counts(&oak, &to).await;
    let there = |table: &str| found.iter().find(|(name, _)| *name == table).unwrap().1;
    assert_eq!(there("task"), tasks + made, "made {made}");
    let attachments = before.iter().find(|(table, _)| *table == "attachment");
    assert_eq!(there("attachment"), attachments.unwrap().1);
    let parents = product.contents(&oak, &to, "task").await;
    assert!(parents.iter().any(|task| !task["parent_task_id"].is_null()));

    // It works at the new place; the old one is shut for it, and open for others.
    let home = at(&product, &oak, &to).await;
    product
        .write(&home, "update {w}task set title = title || '!'")
        .await;
    let stray = "update {w}task set title = 'stray' where org_id = '{key}'";
    let mut old = product.connect(&oak.place).await;
    let stray = stray
        .replace("{w}", "work.")
        .replace("{key}", &oak.place.key);
    let refused = sqlx::raw_sql(AssertSqlSafe(stray)).execute(&mut old).await;
    assert!(refused.unwrap_err().to_string().contains("read only"));
    product.rows(&product.salthouse, 1).await;
    product
        .app
        .client
        .move_placement(
            oak.tenant,
            &MovePlacement {
                to: oak.place.clone(),
                sql: None,
                keep_hours: None,
                batch: None,
                reason: "back".to_owned(),
            },
            &IdempotencyKey::generate(),
        )
        .await
        .map(|_| ())
        .map_err(|error| status_of(&error))
        .unwrap_err();
    let (status, detail) = status_of(
        &product
            .app
            .client
            .back_out_placement(oak.tenant, &back_out(), &IdempotencyKey::generate())
            .await
            .unwrap_err(),
    );
    assert_eq!(
        (status, detail.as_str()),
        (409, "the tenant has switched; move it back")
    );
    assert!(neighbours.iter().all(|(_, rows)| !rows.is_empty()));
    product.finish().await;
}

/// A member at another place.
async fn at(_product: &Product, member: &Member, place: &Place) -> Member {
    Member {
        place: place.clone(),
        ..member.clone()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn old_rows_are_deleted_once_compared_and_a_move_leads_through_every_model_and_back() {
    let product = Product::fleet().await;
    let elm = product.add_shared("Elm Theatre").await;
    product.rows(&elm, 60).await;
    product.rows(&product.birch, 10).await;
    let neighbour = all(&product, &product.birch, &product.birch.place).await;
    let begun = all(&product, &elm, &elm.place).await;
    let key = elm.place.key.clone();
    let room = place(TenancyModel::Schema, "rooms", Some("elm"), &key);
    let name = format!("elm_{}", elm.tenant.simple());
    let vault = place(TenancyModel::Database, "vault", Some(&name), &key);
    let sql = sample("database-per-tenant.sql");
    let mut from = elm.place.clone();
    for (to, sql) in [
        (&room, Some(ROOM)),
        (&vault, Some(sql.as_str())),
        (&elm.place, None),
    ] {
        begin_move(&product, &elm, to, sql, 0).await;
        let placed = at_rest(&product, elm.tenant).await;
        assert_eq!((&placed.place, placed.other), (to, None));
        assert_eq!(all(&product, &elm, to).await, begun, "{to:?}");
        let left = product.counts(&elm, &from).await;
        assert!(
            left.iter().all(|(_, count)| *count == 0),
            "{from:?}: {left:?}"
        );
        from = to.clone();
    }
    assert_eq!(
        all(&product, &product.birch, &product.birch.place).await,
        neighbour
    );
    // Nothing of it is left behind: no guard, no key.
    for source in ["main", "rooms", "vault"] {
        let mut conn = connect(&product.url(source).parse().unwrap()).await;
        // Where a database was made and dropped again, nothing was done in the source itself.
        let ledger: bool = sqlx::query_scalar("select to_regclass('tenure.done') is not null")
            .fetch_one(&mut conn)
            .await
            .unwrap();
        assert_eq!(ledger, source != "vault", "{source}");
        let done = if ledger {
            "(select count(*) from tenure.done)"
        } else {
            "0"
        };
        let left: i64 = sqlx::query_scalar(AssertSqlSafe(format!(
            "select (select count(*) from pg_trigger where tgname ~ '^tenure_frozen')
               + (select count(*) from pg_proc where proname ~ '^frozen_')
               + {done}"
        )))
        .fetch_one(&mut conn)
        .await
        .unwrap();
        assert_eq!(left, 0, "{source}");
    }
    product.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_move_that_cannot_be_or_is_given_up_leaves_the_tenant_as_it_was() {
    let product = Product::fleet().await;
    let ash = product.add_shared("Ash Optics").await;
    product.rows(&ash, 40).await;
    let before = all(&product, &ash, &ash.place).await;
    // A place that holds somebody's rows is left alone.
    let mut rooms = product.connect(&product.cedar.place).await;
    let occupied = "call shared.provision('ash');
         insert into ash.organisation values (gen_random_uuid(), 'Other', 'other', null, null, now())";
    sqlx::raw_sql(occupied).execute(&mut rooms).await.unwrap();
    let to = place(TenancyModel::Schema, "rooms", Some("ash"), &ash.place.key);
    begin_move(&product, &ash, &to, None, 0).await;
    let why_not = why(&ended(&product, "tenant-move").await);
    assert!(
        why_not.contains("organisation holds rows where the tenant moves to"),
        "{why_not}"
    );
    assert_eq!(at_rest(&product, ash.tenant).await.place, ash.place);
    let others: i64 = sqlx::query_scalar("select count(*) from ash.organisation")
        .fetch_one(&mut rooms)
        .await
        .unwrap();
    assert_eq!(others, 1);

    // A row that the new place refuses for good is found before the switch.
    sqlx::raw_sql(
        "delete from ash.organisation; alter table ash.task add check (title !~ '^Call')",
    )
    .execute(&mut rooms)
    .await
    .unwrap();
    begin_move(&product, &ash, &to, None, 0).await;
    let why_not = why(&ended(&product, "tenant-move").await);
    assert!(
        why_not.contains("task: 40 rows where the tenant was, "),
        "{why_not}"
    );
    assert_eq!(at_rest(&product, ash.tenant).await.place, ash.place);
    let left = product.counts(&ash, &to).await;
    assert!(left.iter().all(|(_, count)| *count == 0), "{left:?}");
    // Unfrozen: the product writes again, and everything is there.
    assert_eq!(all(&product, &ash, &ash.place).await, before);
    product.rows(&ash, 3).await;

    // Somebody changes their mind while rows are copied: a lock at the new place holds it there.
    sqlx::raw_sql("alter table ash.task drop constraint task_title_check; begin; lock ash.comment")
        .execute(&mut rooms)
        .await
        .unwrap();
    begin_move(&product, &ash, &to, None, 0).await;
    let key = IdempotencyKey::generate();
    let asked = product
        .app
        .client
        .back_out_placement(ash.tenant, &back_out(), &key)
        .await;
    assert_eq!(asked.unwrap().status, PlacementStatus::Moving);
    sqlx::raw_sql("rollback").execute(&mut rooms).await.unwrap();
    let run = ended(&product, "tenant-move").await.summary;
    assert_eq!(run.status, RunStatus::Cancelled);
    assert_eq!(at_rest(&product, ash.tenant).await.place, ash.place);
    let left = product.counts(&ash, &to).await;
    assert!(left.iter().all(|(_, count)| *count == 0), "{left:?}");
    product.rows(&ash, 3).await;
    product.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
#[expect(clippy::too_many_lines, reason = "one story, told in order")]
async fn a_migration_is_applied_once_everywhere_and_one_tenants_failure_stops_no_other() {
    let product = Product::fleet().await;
    let client = &product.app.client;
    let apply = async |version: &str, sql: &str| {
        let migration = ApplyMigration {
            version: version.to_owned(),
            sql: sql.to_owned(),
            sources: vec!["main".to_owned(), "rooms".to_owned(), "vault".to_owned()],
            at_most: Some(2),
            reason: "ticket 7".to_owned(),
        };
        let key = IdempotencyKey::generate();
        client.apply_migration(&migration, &key).await
    };
    // One tenant's schema is not as it should be.
    product
        .write(
            &product.quarry,
            "alter table {w}task add column location int",
        )
        .await;
    let sql = "alter table task add column location text; create table applied (at timestamptz default now());
               insert into applied default values";
    apply("2026.11-1", sql).await.unwrap();
    let counted = async || {
        let found = client.migration("2026.11-1").await.unwrap();
        (found.pending, found.applied, found.refused)
    };
    eventually("all places have answered", async || {
        counted().await == (0, 3, 1)
    })
    .await;
    let run = ended(&product, "product-migration").await;
    assert_eq!(run.summary.status, RunStatus::Completed);
    let places = client.migration_places("2026.11-1").await.unwrap();
    assert_eq!(places[0].outcome, MigrationOutcome::Refused);
    assert_eq!(
        (places[0].place.as_str(), places[0].tenant_id),
        ("schema/quarry", Some(product.quarry.tenant))
    );
    assert!(
        places[0]
            .detail
            .as_ref()
            .unwrap()
            .contains("already exists")
    );

    // Mended and asked for again, it is applied where it was not, and nowhere twice.
    product
        .write(&product.quarry, "alter table {w}task drop column location")
        .await;
    apply("2026.11-1", sql).await.unwrap();
    eventually("the last one is migrated", async || {
        counted().await == (0, 4, 0)
    })
    .await;
    for (place, schema) in [
        (&product.birch.place, "work"),
        (&product.cedar.place, "cedar"),
        (&product.quarry.place, "quarry"),
        (&product.ilex.place, "work"),
    ] {
        let mut conn = product.connect(place).await;
        let asked = format!("select count(*) from {schema}.applied");
        let times: i64 = sqlx::query_scalar(AssertSqlSafe(asked))
            .fetch_one(&mut conn)
            .await
            .unwrap();
        assert_eq!(times, 1, "{schema}");
    }
    let (status, detail) = status_of(&apply("2026.11-1", "select 1").await.unwrap_err());
    assert_eq!(
        (status, detail.as_str()),
        (409, "version 2026.11-1 was loaded with another text")
    );
    let (status, detail) = status_of(&apply("a b", "select 1").await.unwrap_err());
    assert_eq!(status, 422, "{detail}");
    product.finish().await;
}

/// A product of two tables, with a team that is to move into a schema of its own.
const SMALL: &str = "
    create schema work authorization sample_product_owner;
    create schema model authorization sample_product_owner;
    set role sample_product_owner;
    create table work.team (org_id int primary key, name text not null);
    create table work.note (
      org_id int not null references work.team, note_id int not null, parent_id int, body text,
      primary key (org_id, note_id),
      constraint note_parent foreign key (org_id, parent_id) references work.note
    );
    create table model.team (org_id int primary key, name text not null);
    create table model.note (note_id int primary key, parent_id int constraint note_parent references model.note, body text);
    alter table work.team enable row level security;
    alter table work.team force row level security;
    alter table work.note enable row level security;
    alter table work.note force row level security;
    create policy own on work.team using (org_id = nullif(current_setting('work.org', true), '')::int);
    create policy own on work.note using (org_id = nullif(current_setting('work.org', true), '')::int);
    reset role;
    insert into work.team values (1, 'Fir'), (2, 'Yew');
    insert into work.note values (1, 1, null, 'a'), (1, 2, 1, 'b'), (1, 3, null, null), (2, 1, null, 'theirs')";

/// What the test kit sets up for each play.
struct Outside {
    database: sqlx::postgres::PgConnectOptions,
    url: String,
    sources: Sources,
}

async fn scene() -> Scene<Outside> {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let database = support::database().await;
    let url = support::product::database(None, SMALL).await;
    let login = as_login(&url);
    let sources = [format!("main={login}"), format!("rooms={login}")];
    let sources = Sources::parse(sources.iter().map(String::as_str)).unwrap();
    let config = PoolConfig::default();
    let pool = tenure_engine::connect(database.clone(), &config);
    let environment = Environment::new(
        Stripe::new("http://localhost:9/", "none").unwrap(),
        Mailer::new(&MailConfig::Smtp {
            url: "smtp://localhost:9".to_owned(),
            from: "nobody@localhost".to_owned(),
        })
        .unwrap(),
        pool.await.unwrap(),
        sources.clone(),
    );
    let mut conn = connect(&database).await;
    let mut tx = sqlx::Connection::begin(&mut conn).await.unwrap();
    as_control(&mut tx).await.unwrap();
    for (source, model, schema) in [
        ("main", Model::Shared, "work"),
        ("rooms", Model::Schema, "model"),
    ] {
        let text = map_of(&url, model, schema).await;
        let loaded = maps::load(&mut tx, &sources, source, &text, false, "suite")
            .await
            .unwrap();
        assert!(matches!(loaded, maps::Loaded::Version { .. }), "{loaded:?}");
    }
    tx.commit().await.unwrap();
    Scene {
        workflows: tenure_workflows::workflows(&environment),
        outside: Outside {
            database: database.clone(),
            url,
            sources,
        },
        database,
    }
}

/// What must not depend on what went wrong.
async fn left_behind(play: &Play, outside: &Outside) -> Vec<String> {
    let mut ours = connect(&outside.database).await;
    let placed: Vec<String> = sqlx::query_scalar(
        "select concat_ws(' ', source, schema_name, status, other) from app.placement where tenant_id = $1",
    )
    .bind(play.tenant().0)
    .fetch_all(&mut ours)
    .await
    .unwrap();
    let mut theirs = connect(&outside.url.parse().unwrap()).await;
    let rows: Vec<String> = sqlx::query_scalar(
        "select 'old ' || to_jsonb(n)::text from work.note n
         union all select 'new ' || to_jsonb(n)::text from fir.note n
         union all select 'new ' || to_jsonb(t)::text from fir.team t
         union all select 'guard ' || tgname from pg_trigger where not tgisinternal
         union all select 'key ' || name from tenure.done
         order by 1",
    )
    .fetch_all(&mut theirs)
    .await
    .unwrap();
    [placed, rows].concat()
}

/// Makes the team's tables in a schema of its own.
const TABLES_OF_TEAM: &str = "
    create table team (org_id int primary key, name text not null);
    create table note (note_id int primary key, parent_id int constraint note_parent references note, body text)";

/// Where the team is, or is to be.
fn team_at(model: Model, source: &str, schema: Option<&str>) -> product::Place {
    product::Place {
        model,
        source: source.to_owned(),
        database: None,
        schema: schema.map(str::to_owned),
        key: "1".to_owned(),
    }
}

/// Makes the play's tenant one that a product has, and that is placed nowhere.
async fn team_arrives(play: &Play, outside: &Outside) -> Result<TenantId, PlayError> {
    let tenant = play.tenant();
    let mut conn = connect(&outside.database).await;
    sqlx::query(
        "insert into app.tenant (tenant_id, shard_id, name, email, zone, locale, created_at, legal_entity)
         values ($1, $2, 'Fir', 'fir@product.example', 'UTC', 'en', now(), '')",
    )
    .bind(tenant.0)
    .bind(tenant.shard().0)
    .execute(&mut conn)
    .await?;
    Ok(tenant)
}

/// Moves the team, which a play owns.
async fn small_move(play: &mut Play, outside: &Outside) -> Result<Vec<String>, PlayError> {
    let tenant = team_arrives(play, outside).await?;
    let new = NewMove {
        to: team_at(Model::Schema, "rooms", Some("fir")),
        sql: Some(TABLES_OF_TEAM.to_owned()),
        keep_hours: 0,
        batch: 2,
        author: "suite".to_owned(),
        reason: "they have grown".to_owned(),
    };
    let mut tx = tenure_engine::begin(play.client().pool()).await?;
    as_control(&mut tx).await?;
    let main = team_at(Model::Shared, "main", None);
    door::set(&mut tx, &outside.sources, tenant, &main).await?;
    begin_place_move(play.client(), &mut tx, &outside.sources, tenant, &new).await?;
    tx.commit().await?;
    play.settle().await?;
    Ok(left_behind(play, outside).await)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_move_bears_a_kill_at_any_moment() {
    let report = fault_matrix(scene, small_move).await.unwrap();
    let found = &report.expected;
    assert!(found.contains("rooms fir active"), "{report}");
    let (new, old) = (
        found.matches("new {").count(),
        found.matches("old {").count(),
    );
    assert_eq!((new, old), (4, 1), "{report}");
    assert!(
        !found.contains("guard ") && !found.contains("key "),
        "{report}"
    );
    assert_borne(&report, &["tenant-move"]);
}

/// Asks for a place for the team and plays until it is made or refused; how that ended.
async fn provide(play: &Play, outside: &Outside, sql: &str) -> Result<Status, PlayError> {
    let (client, tenant) = (play.client(), play.tenant());
    let place = team_at(Model::Schema, "rooms", Some("fir"));
    let (sources, wanted) = (&outside.sources, (tenant, &place));
    let mut tx = tenure_engine::begin(client.pool()).await?;
    let asked = provision(client, &mut tx, sources, wanted, Some(sql), "suite").await?;
    tx.commit().await?;
    play.settle().await?;
    let run = asked.held_by.ok_or("nobody makes it")?;
    Ok(play.detail(run).await?.summary.status)
}

/// What is made for the team: its placement, its tables, and what the ledger says.
async fn provided(play: &Play, outside: &Outside) -> Result<Vec<String>, PlayError> {
    let mut ours = connect(&outside.database).await;
    let mut told: Vec<String> = sqlx::query_scalar(
        "select concat_ws(' ', source, schema_name, status) from app.placement where tenant_id = $1",
    )
    .bind(play.tenant().0)
    .fetch_all(&mut ours)
    .await?;
    let mut theirs = connect(&outside.url.parse()?).await;
    let made: Vec<String> = sqlx::query_scalar(
        "select 'table ' || tablename from pg_tables where schemaname = 'fir'
         union all select 'done ' || name from tenure.done
         order by 1",
    )
    .fetch_all(&mut theirs)
    .await?;
    told.extend(made);
    Ok(told)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_place_that_is_refused_and_then_made_bears_every_fault() {
    let script = async |play: &mut Play, outside: &Outside| {
        team_arrives(play, outside).await?;
        let refused = provide(play, outside, "create table team (org_id nonsense)").await?;
        let nothing = provided(play, outside).await?;
        let made = provide(play, outside, TABLES_OF_TEAM).await?;
        Ok((refused, nothing, made, provided(play, outside).await?))
    };
    let report = fault_matrix(scene, script).await.unwrap();
    assert_borne(&report, &["tenant-provision"]);
    let made = "[\"rooms fir active\", \"done make\", \"table note\", \"table team\"]";
    let expected = format!("(Failed, [], Completed, {made})");
    assert_eq!(report.expected, expected, "{report}");
}

/// Applies a migration to the shared tables, and to the team's, which refuse it.
async fn small_migration(play: &mut Play, outside: &Outside) -> Result<Vec<String>, PlayError> {
    let (client, tenant) = (play.client(), team_arrives(play, outside).await?);
    let mut theirs = connect(&outside.url.parse()?).await;
    sqlx::raw_sql("alter table model.note add column seen int")
        .execute(&mut theirs)
        .await?;
    let new = Migration {
        version: "2026.11-1".to_owned(),
        sql: "alter table note add column seen int; create table applied as select 1 as n"
            .to_owned(),
        sources: vec!["main".to_owned(), "rooms".to_owned()],
        at_most: 1,
        author: "suite".to_owned(),
        reason: "ticket 7".to_owned(),
    };
    let place = team_at(Model::Schema, "rooms", Some("model"));
    let mut tx = tenure_engine::begin(client.pool()).await?;
    as_control(&mut tx).await?;
    door::set(&mut tx, &outside.sources, tenant, &place).await?;
    let asked = migrate(client, &mut tx, &outside.sources, &new).await?;
    tx.commit().await?;
    play.settle().await?;
    let output: Value = play.output(asked.run).await?;
    let mut tx = tenure_engine::begin(client.pool()).await?;
    as_control(&mut tx).await?;
    let places = migration_places(&mut tx, &new.version, 10).await?;
    tx.rollback().await?;
    let places = places.iter().map(|one| {
        let why = one.detail.as_deref().unwrap_or("-");
        format!("{} {} {:?} {why}", one.source, one.place, one.outcome)
    });
    let mut told: Vec<String> = places.collect();
    told.push(output.to_string());
    let tables: Vec<String> = sqlx::query_scalar(
        "select schemaname || '.' || tablename from pg_tables where tablename = 'applied'",
    )
    .fetch_all(&mut theirs)
    .await?;
    told.extend(tables);
    Ok(told)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_migration_bears_every_fault() {
    let report = fault_matrix(scene, small_migration).await.unwrap();
    assert_borne(&report, &["product-migration", "product-migration-place"]);
    for told in [
        "main database Applied -",
        "rooms schema/model Refused column",
        "work.applied",
    ] {
        assert!(report.expected.contains(told), "{told}: {report}");
    }
    assert!(!report.expected.contains("model.applied"), "{report}");
}

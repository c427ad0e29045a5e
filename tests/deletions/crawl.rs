//! What would make erasing crawl is named before, or at the row that does not go.

use tenure_client::{IdempotencyKey, LoadDataMap};
use tenure_workflows::data_map::Model;

use super::{act, delete, reaches, request, second, table, verified};
use crate::support::product::{Product, map_of};

/// A table that refers to tasks, with no index that leads anywhere; loaded into the map.
const READING: &str = "
    create table work.reading (
      org_id uuid not null, reading_id bigint primary key, task_id uuid,
      constraint reading_task foreign key (org_id, task_id) references work.task
    ) with (autovacuum_enabled = false);
    alter table work.reading enable row level security, force row level security;
    create policy tenant on work.reading using (org_id = work.org());
    alter table work.reading owner to sample_product_owner;
    insert into work.reading
    select '{key}', n, (select min(task_id::text)::uuid from work.task where org_id = '{key}')
    from generate_series(1, 500) as n;
    analyze work.reading;";

/// Says that the table has a billion rows, as the statistics of a real one would.
const HUGE: &str = "
    update pg_class set reltuples = 1e9 where oid = 'work.reading'::regclass";

async fn load(product: &Product) {
    let load = LoadDataMap {
        text: map_of(product.url("main"), Model::Shared, "work").await,
        unchecked: false,
    };
    let key = IdempotencyKey::generate();
    let loaded = product.app.client.load_data_map("main", &load, &key).await;
    loaded.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_that_no_index_leads_to_is_refused_before_erasing_where_it_would_take_hours() {
    let product = Product::fleet().await;
    let (birch, salthouse) = (&product.birch, &product.salthouse);
    product.rows(birch, 120).await;
    product.rows(salthouse, 120).await;
    product.write(birch, READING).await;
    load(&product).await;
    let app = &product.app;
    // Small as it is, nobody minds.
    let found = app.client.preview_deletion(birch.tenant).await.unwrap();
    assert!(found.obstacles.is_empty(), "{:?}", found.obstacles);
    product.write(birch, HUGE).await;
    let found = app.client.preview_deletion(birch.tenant).await.unwrap();
    assert_eq!(found.obstacles.len(), 1, "{:?}", found.obstacles);
    assert!(found.steps.iter().any(|one| one.name == "work.reading"));

    let before = product.counts(birch, &birch.place).await;
    let id = request(app, birch.tenant, 0).await.deletion_id;
    act(&second(app).await, id, "approve").await.unwrap();
    let failed = reaches(app, id, "failed_step").await.deletion;
    assert!(failed.final_at.is_none(), "nothing has begun: {failed:?}");
    let detail = failed.detail.unwrap();
    let tasks = before.iter().find(|(table, _)| *table == "task").unwrap().1;
    let expected = format!(
        "{tasks} rows of work.task go, and for each of them 1000000000 rows of work.reading"
    );
    assert!(detail.starts_with("key_without_index: "), "{detail}");
    for words in [
        expected.as_str(),
        "no index leads to reading_task (org_id, task_id)",
        "make the index that it names, then retry",
    ] {
        assert!(detail.contains(words), "{words} is not in {detail}");
    }
    assert_eq!(product.counts(birch, &birch.place).await, before);
    let statement = "create index concurrently on \"work\".\"reading\" (\"org_id\", \"task_id\")";
    assert!(detail.contains(statement), "{detail}");

    // A tenant with no task has nothing to look for there.
    let elm = product.add_shared("Elm Surveyors").await;
    delete(app, elm.tenant).await;

    product.write(birch, statement).await;
    product.write(birch, HUGE).await;
    act(&app.client, id, "retry").await.unwrap();
    reaches(app, id, "certified").await;
    let verified = verified(app, id).await;
    assert_eq!(table(&verified, "work.task", "delete").erased, tasks);
    assert_eq!(table(&verified, "work.reading", "delete").erased, 500);
    product.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_chunk_that_is_cut_off_is_halved_and_a_single_row_that_does_not_go_is_named() {
    let product = Product::fleet().await;
    let birch = &product.birch;
    product.rows(birch, 120).await;
    let counts = product.counts(birch, &birch.place).await;
    // One user takes longer than a chunk may, and than a single row may.
    product
        .write(
            birch,
            "create function work.dawdle() returns trigger language plpgsql as
               $$ begin perform pg_sleep(11); return old; end $$;
             create trigger dawdle before delete on work.app_user
               for each row when (old.user_id = md5('{key}/user/0')::uuid)
               execute function work.dawdle()",
        )
        .await;
    let app = &product.app;
    let id = request(app, birch.tenant, 0).await.deletion_id;
    act(&second(app).await, id, "approve").await.unwrap();
    let failed = reaches(app, id, "failed_step").await;
    let detail = failed.deletion.detail.unwrap();
    let expected = "chunk_too_slow: a single row of work.app_user does not go within 10 s";
    assert!(detail.starts_with(expected), "{detail}");
    assert!(detail.contains("create index concurrently on "), "{detail}");
    let of_users = |counts: &[(&str, i64)]| {
        let mut counts = counts.iter();
        counts.find(|(table, _)| *table == "app_user").unwrap().1
    };
    let users = of_users(&counts);
    let left = product.counts(birch, &birch.place).await;
    let step = failed
        .steps
        .iter()
        .find(|one| one.name == "work.app_user" && one.action == "delete");
    let erased = step.unwrap().rows;
    // Where it stood in the way it was tried alone; whom it was tried with before is there as before.
    assert_eq!(of_users(&left), users - erased);
    assert!(erased < users, "{erased} of {users} users");
    product
        .write(birch, "drop trigger dawdle on work.app_user")
        .await;
    act(&app.client, id, "retry").await.unwrap();
    reaches(app, id, "certified").await;
    let verified = verified(app, id).await;
    assert_eq!(table(&verified, "work.app_user", "delete").erased, users);
    product.finish().await;
}

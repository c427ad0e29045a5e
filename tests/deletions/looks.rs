//! What happens before the point of no return, and how it is looked for what should be gone.

use tenure_client::{
    IdempotencyKey, MovePlacement, RequestDeletion, RunFilter, RunStatus, TenancyModel,
};

use tenure_workflows::archive::ArchiveConfig;

use super::{act, code, reaches, request, second, show, wanted};
use crate::keeping;
use crate::support::disk::Disk;
use crate::support::eventually;
use crate::support::product::{Product, place};

fn to_rooms(key: &str) -> MovePlacement {
    MovePlacement {
        to: place(TenancyModel::Schema, "rooms", Some("birch"), key),
        sql: Some("call shared.make_tables()".to_owned()),
        keep_hours: Some(0),
        batch: None,
        reason: "they have grown".to_owned(),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_tenant_takes_along_is_whole_before_there_is_no_way_back_and_nobody_moves_it_away() {
    let (_folder, config) = keeping::folder();
    let product = Product::fleet_with(Some(config)).await;
    let (app, birch) = (&product.app, &product.birch);
    product.rows(birch, 60).await;
    let wanted = RequestDeletion {
        export_link_days: Some(3),
        ..wanted(birch.tenant, 0)
    };
    let key = IdempotencyKey::generate();
    let asked = app.client.request_deletion(&wanted, &key).await.unwrap();
    let id = asked.deletion_id;
    let key = IdempotencyKey::generate();
    let to = to_rooms(&birch.place.key);
    let moved = app.client.move_placement(birch.tenant, &to, &key);
    let (status, detail) = code(moved.await);
    assert_eq!(status, 409);
    assert!(detail.contains("deletion"), "{detail}");
    act(&second(app).await, id, "approve").await.unwrap();
    reaches(app, id, "certified").await;
    let signed = app.client.deletion_certificate(id).await.unwrap();
    let records = signed.document["records"].as_array().unwrap().clone();
    let at = |kind: &str| {
        let mut records = records.iter();
        records.position(|one| one["body"]["kind"] == kind).unwrap()
    };
    assert!(at("export") < at("point_of_no_return"));
    product.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deletion_whose_export_halts_is_still_taken_back() {
    // There is no room for it.
    let mount = tempfile::tempdir().unwrap();
    let disk = Disk::of(mount.path(), "64k");
    let config = ArchiveConfig::Folder(mount.path().to_owned());
    let product = Product::fleet_with(Some(config)).await;
    std::fs::write(mount.path().join("filler"), vec![0; 60 << 10]).unwrap();
    let (app, birch) = (&product.app, &product.birch);
    product.rows(birch, 60).await;
    let before = product.counts(birch, &birch.place).await;
    let wanted = RequestDeletion {
        export_link_days: Some(3),
        ..wanted(birch.tenant, 0)
    };
    let key = IdempotencyKey::generate();
    let asked = app.client.request_deletion(&wanted, &key).await.unwrap();
    let id = asked.deletion_id;
    act(&second(app).await, id, "approve").await.unwrap();
    eventually("the export halts", async || {
        let seen = show(app, id).await.deletion;
        let detail = seen.detail.unwrap_or_default();
        seen.state == "exporting" && detail.contains("halted")
    })
    .await;
    assert_eq!(show(app, id).await.deletion.final_at, None);
    act(&app.client, id, "cancel").await.unwrap();
    reaches(app, id, "cancelled").await;
    assert_eq!(product.counts(birch, &birch.place).await, before);
    let filter = RunFilter {
        workflow: Some("data-export".to_owned()),
        ..RunFilter::default()
    };
    eventually("the export has ended", async || {
        let page = app.client.list_runs(&filter).await.unwrap();
        page.items
            .iter()
            .all(|run| run.status == RunStatus::Cancelled)
    })
    .await;
    // And the tenant may move again.
    let key = IdempotencyKey::generate();
    let to = to_rooms(&birch.place.key);
    let moved = app.client.move_placement(birch.tenant, &to, &key);
    moved.await.unwrap();
    eventually("it has moved", async || {
        let found = app.client.placement(birch.tenant).await.unwrap();
        found.place.source == "rooms" && found.other.is_none()
    })
    .await;
    product.finish().await;
    drop(disk);
}

/// Rows may be looked at so many at a time: each more is cut off, as by a statement's limit.
fn patience(rows: u32) -> String {
    format!(
        "create or replace function work.patience() returns boolean language plpgsql volatile cost 100000 as $$
         declare seen integer := coalesce(nullif(current_setting('work.seen', true), ''), '0')::integer;
         begin
           if seen >= {rows} then
             raise query_canceled using message = 'canceling statement due to statement timeout';
           end if;
           perform set_config('work.seen', (seen + 1)::text, true);
           return true;
         end $$;"
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn a_table_that_is_too_large_to_look_through_at_once_is_looked_through_in_chunks() {
    let product = Product::fleet().await;
    let (app, birch) = (&product.app, &product.birch);
    product.rows(birch, 60).await;
    product
        .write(
            birch,
            "create function work.refuse() returns trigger language plpgsql as
               $$ begin raise exception 'wait'; end $$;
             create trigger refuse before delete on work.app_user
               for each row execute function work.refuse()",
        )
        .await;
    let id = request(app, birch.tenant, 0).await.deletion_id;
    act(&second(app).await, id, "approve").await.unwrap();
    reaches(app, id, "failed_step").await;
    // No map names it, so it is looked through for known values.
    let tables = format!(
        "{} drop trigger refuse on work.app_user;
         create table work.ledger (line integer primary key, text text);
         insert into work.ledger select n, 'line ' || n from generate_series(1, 120) as n;
         alter table work.ledger enable row level security, force row level security;
         create policy patience on work.ledger using (work.patience());
         alter table work.ledger owner to sample_product_owner;
         analyze work.ledger",
        patience(0)
    );
    product.write(birch, &tables).await;
    act(&app.client, id, "retry").await.unwrap();
    eventually("it says what it cannot look through", async || {
        let seen = show(app, id).await.deletion;
        let detail = seen.detail.unwrap_or_default();
        seen.state == "failed_step" && detail.starts_with("look_too_slow: work.ledger")
    })
    .await;
    product.write(birch, &patience(50)).await;
    act(&app.client, id, "retry").await.unwrap();
    reaches(app, id, "certified").await;
    product.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_accepted_is_accepted_and_nothing_that_is_found_later() {
    let product = Product::fleet().await;
    let (app, birch) = (&product.app, &product.birch);
    product.rows(birch, 60).await;
    product
        .write(
            birch,
            "create function work.refuse() returns trigger language plpgsql as
               $$ begin raise exception 'wait'; end $$;
             create trigger refuse before delete on work.app_user
               for each row execute function work.refuse()",
        )
        .await;
    let id = request(app, birch.tenant, 0).await.deletion_id;
    act(&second(app).await, id, "approve").await.unwrap();
    reaches(app, id, "failed_step").await;
    let slug = &birch.place.key[birch.place.key.len() - 12..];
    let copy = |name: &str| {
        format!(
            "create table work.{name} (line text);
             grant select on work.{name} to public;
             insert into work.{name} values ('to: person1@{slug}.example');"
        )
    };
    let first = format!("drop trigger refuse on work.app_user; {}", copy("copy"));
    product.write(birch, &first).await;
    act(&app.client, id, "retry").await.unwrap();
    let told = async |table: &str| {
        eventually("it tells what is left", async || {
            let seen = show(app, id).await.deletion;
            let detail = seen.detail.unwrap_or_default();
            assert_ne!(seen.state, "certified");
            seen.state == "failed_step" && detail.contains(table)
        })
        .await;
    };
    told("rows of work.copy by known_value").await;
    product.write(birch, &copy("other")).await;
    act(&app.client, id, "accept").await.unwrap();
    told("rows of work.other by known_value").await;
    act(&app.client, id, "accept").await.unwrap();
    reaches(app, id, "certified").await;
    product.finish().await;
}

//! What the law keeps of a deleted tenant's archives, and the end of that.

use std::time::Duration;

use serde_json::{Value, json};
use tenure_client::{DataArchiveFilter, IdempotencyKey};
use tenure_engine::testkit::{Play, PlayError, Scene, fault_matrix};
use tenure_engine::{SYSTEM_TENANT, TenantId};
use tenure_workflows::certificate::{self, LocalSigningKey, SigningKey as _};
use tenure_workflows::deletion::{DeletionRow, KeptArchivesWorkflow};
use tenure_workflows::keeping::ArchiveFilter;
use tenure_workflows::{as_tenant, keeping as doors};
use uuid::Uuid;

use super::{act, approve, ask, because, delete, reaches, request, row, second, table};
use crate::keeping::{self, Office};
use crate::support::app::CERTIFICATE_KEY;
use crate::support::matrix::assert_borne;
use crate::support::product::Product;

/// As in docs/retention.md: invoices go to the archive before their time at law is over.
fn policy(prefix: &str) -> serde_json::Value {
    let mut document = keeping::policy(prefix, keeping::window());
    document["classes"]["financial"] =
        json!({ "action": "keep", "legal_min_days": 3650, "basis": "§ 147 AO" });
    document["tables"][format!("{prefix}invoice")] =
        json!({ "action": "archive", "after_days": 600, "age": "issued_on" });
    document["tables"][format!("{prefix}invoice_line")] = json!({
        "action": "archive", "after_days": 600, "age": "issued_on", "age_of": ["invoice_line_invoice"]
    });
    document
}

/// Invoices of before what is kept at hand, and not of before what the law keeps.
const OLD_BOOKS: &str = "update {w}invoice set issued_on = '2025-01-02'";

/// Asks for the deletion, approves it, and gives its runs time to end by themselves.
async fn delete_in(play: &Play) -> Result<DeletionRow, PlayError> {
    let id = ask(play, 0).await?;
    approve(play, id).await?;
    for _ in 0..60 {
        if row(play, id).await?.state == "certified" {
            break;
        }
        play.advance(Duration::from_secs(40));
        play.settle().await?;
    }
    row(play, id).await
}

/// How many archives of a tenant stand, and how many there were.
async fn standing(play: &Play) -> Result<(usize, usize), PlayError> {
    let mut tx = tenure_engine::begin(play.client().pool()).await?;
    as_tenant(&mut tx, play.tenant()).await?;
    let filter = ArchiveFilter::default();
    let rows = doors::list_archives(&mut tx, play.tenant(), &filter, None, 100).await?;
    let stand = rows.iter().filter(|one| one.destroyed_at.is_none());
    Ok((stand.count(), rows.len()))
}

#[tokio::test(flavor = "multi_thread")]
async fn archives_that_the_law_keeps_outlive_the_tenant_in_every_model_and_the_rest_goes() {
    let (folder, config) = keeping::folder();
    let product = Product::fleet_with(Some(config)).await;
    let app = &product.app;
    for (member, source, prefix) in [
        (&product.birch, "main", "work."),
        (&product.cedar, "rooms", ""),
        (&product.ilex, "vault", "work."),
    ] {
        keeping::load(&product, source, policy(prefix)).await;
        product.rows(member, 200).await;
        product.write(member, OLD_BOOKS).await;
        let swept = keeping::sweep(&product, member, false).await;
        assert_eq!(swept.summary.state, "Window", "{:?}", swept.data);
        let filter = DataArchiveFilter::default();
        let listed = app.client.list_data_archives(member.tenant, &filter).await;
        let made = listed.unwrap().items;
        let is_books = |table: &str| table.trim_start_matches("work.").starts_with("invoice");
        let books = made.iter().filter(|one| is_books(&one.table)).count();
        assert!(books >= 2 && books < made.len(), "{made:?}");

        let (id, verified) = delete(app, member.tenant).await;
        let archives = table(&verified, "archives", "delete");
        let (all, kept) = (i64::try_from(made.len()), i64::try_from(books));
        let (all, kept) = (all.unwrap(), kept.unwrap());
        assert_eq!((archives.kept, archives.erased), (kept, all - kept));
        assert!(archives.basis.is_some());
        let signed = app.client.deletion_certificate(id).await.unwrap();
        let records = signed.document["records"].as_array().unwrap().clone();
        let told = records
            .iter()
            .filter(|one| one["body"]["kind"] == "archives_kept");
        let told: Vec<_> = told.map(|one| one["body"].clone()).collect();
        assert_eq!(told.len(), 2, "invoices and their lines: {told:?}");
        for one in &told {
            assert_eq!(one["basis"], "§ 147 AO");
            let until = one["until"].as_str().unwrap();
            assert!(until.starts_with("203"), "{until}");
        }
        for one in &made {
            let path = folder.path().join(member.tenant.to_string());
            let path = path.join(one.archive_id.to_string()).join("manifest.json");
            assert_eq!(path.exists(), is_books(&one.table), "{}", one.table);
        }
    }
    product.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_law_kept_is_destroyed_when_its_time_is_over() {
    let Scene {
        database,
        workflows,
        outside: office,
    } = keeping::scene(None).await;
    let mut play = Play::open(database, workflows).await.unwrap();
    office.arrive(&mut play, 200).await.unwrap();
    office.write(OLD_BOOKS).await;
    office.sweep(&play, &policy("work.")).await.unwrap();
    let found = delete_in(&play).await.unwrap();
    assert_eq!(found.state, "certified", "{found:?}");
    let text = serde_json::to_string(&found.certificate.unwrap()).unwrap();
    let key = LocalSigningKey::parse(CERTIFICATE_KEY).unwrap();
    certificate::verify(&text, &key.public()).unwrap();
    let (stand, all) = standing(&play).await.unwrap();
    assert!(stand >= 2, "{stand} of {all}");
    assert!(!office.files().is_empty());
    let year = Duration::from_secs(365 * 86_400);
    play.advance(year * 8);
    play.settle().await.unwrap();
    let still = standing(&play).await.unwrap();
    assert_eq!(still.0, stand, "3,050 days are not over");
    play.advance(year);
    play.settle().await.unwrap();
    assert_eq!(standing(&play).await.unwrap().0, 0);
    assert!(office.files().is_empty(), "{:?}", office.files());
    play.close().await;
}

/// A scene whose tenant was deleted, and left archives that the law keeps.
struct Deleted {
    office: Office,
    tenant: TenantId,
    deletion: Uuid,
}

/// Lets the deletion happen before the story, with nothing broken: other stories break it.
async fn deleted() -> Scene<Deleted> {
    let Scene {
        database,
        workflows,
        outside: office,
    } = keeping::scene(None).await;
    // Nothing but books and a window, so that the play is short.
    let mut policy = policy("work.");
    policy["classes"]["audit"] = json!({ "action": "keep" });
    policy["tables"]["work.task"] = json!({ "action": "keep" });
    let mut play = Play::open(database.clone(), workflows).await.unwrap();
    office.arrive(&mut play, 40).await.unwrap();
    office.write(OLD_BOOKS).await;
    office.sweep(&play, &policy).await.unwrap();
    let found = delete_in(&play).await.unwrap();
    assert_eq!(found.state, "certified", "{found:?}");
    let tenant = play.tenant();
    play.close().await;
    Scene {
        database,
        workflows: tenure_workflows::workflows(&office.environment),
        outside: Deleted {
            office,
            tenant,
            deletion: found.deletion_id,
        },
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_end_of_what_the_law_keeps_bears_every_fault() {
    let script = async |play: &mut Play, deleted: &Deleted| {
        play.speak_for(deleted.tenant);
        let before = standing(play).await?;
        play.advance(Duration::from_secs(9 * 365 * 86_400));
        play.settle().await?;
        let client = play.client();
        let mut conn = client.pool().acquire().await?;
        let key = deleted.deletion.to_string();
        let run = client.find_by_key::<KeptArchivesWorkflow>(&mut conn, SYSTEM_TENANT, &key);
        let run = run.await?.ok_or("nobody waits for the end")?;
        drop(conn);
        let output: Value = play.output(run).await?;
        let files = deleted.office.files().len();
        let destroyed = output["destroyed"].as_u64();
        Ok((before, standing(play).await?, files, destroyed))
    };
    let report = fault_matrix(deleted, script).await.unwrap();
    assert_borne(&report, &["kept-archives"]);
    let expected = &report.expected;
    assert!(expected.starts_with("((2, "), "{report}");
    assert!(expected.contains("), (0, "), "{report}");
    assert!(expected.ends_with(", 0, Some(2))"), "{report}");
}

/// Loads a map by which comments stay, and so does what they cannot be without; it names a copy, which
/// it finds.
async fn load_newer_map(product: &Product) {
    let (app, birch) = (&product.app, &product.birch);
    let slug = &birch.place.key[birch.place.key.len() - 12..];
    product
        .write(
            birch,
            &format!(
                "create table work.copy (
                   org_id uuid not null, line text, primary key (org_id, line));
                 alter table work.copy enable row level security, force row level security;
                 create policy tenant on work.copy using (org_id = work.org());
                 alter table work.copy owner to sample_product_owner;
                 insert into work.copy values ('{{key}}', 'to: PERSON1@{slug}.example');
                 alter table work.comment drop constraint comment_author, drop constraint comment_task"
            ),
        )
        .await;
    let text = crate::support::product::map_of(
        product.url("main"),
        tenure_workflows::data_map::Model::Shared,
        "work",
    )
    .await;
    let comment = text.find("[tables.\"work.comment\".columns]").unwrap();
    let (head, tail) = text.split_at(comment);
    let end = tail[1..].find("\n[").map_or(tail.len(), |end| end + 1);
    let (columns, rest) = tail.split_at(end);
    let columns = columns
        .replace("erase = \"delete\"", "erase = \"keep\"")
        .replace(
            "kind = \"personal\"",
            "basis = \"a lawsuit\", kind = \"personal\"",
        );
    let load = tenure_client::LoadDataMap {
        text: format!("{head}{columns}{rest}").replace(
            "[tables.\"work.comment\"]\n",
            "[tables.\"work.comment\"]\nbasis = \"a lawsuit\"\n",
        ),
        unchecked: true,
    };
    let key = IdempotencyKey::generate();
    app.client
        .load_data_map("main", &load, &key)
        .await
        .unwrap_or_else(|error| panic!("{error:?}\n{}", load.text));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_plan_is_made_anew_by_the_map_that_a_retry_finds() {
    let product = Product::fleet().await;
    let birch = &product.birch;
    product.rows(birch, 120).await;
    let app = &product.app;
    let counts: std::collections::BTreeMap<_, _> = product
        .counts(birch, &birch.place)
        .await
        .into_iter()
        .collect();
    product
        .write(
            birch,
            "create function work.refuse() returns trigger language plpgsql as
               $$ begin raise exception 'comments are evidence'; end $$;
             create trigger refuse before delete on work.comment
               for each row execute function work.refuse()",
        )
        .await;
    let id = request(app, birch.tenant, 0).await.deletion_id;
    act(&second(app).await, id, "approve").await.unwrap();
    let failed = reaches(app, id, "failed_step").await.deletion;
    let detail = failed.detail.unwrap();
    assert!(detail.starts_with("trigger_failed"), "{detail}");

    load_newer_map(&product).await;
    let key = IdempotencyKey::generate();
    let newer = because("a newer map");
    let retry = app.client.act_on_deletion(id, "retry", &newer, &key);
    retry.await.unwrap();
    reaches(app, id, "certified").await;

    let verified = super::verified(app, id).await;
    let comments = table(&verified, "work.comment", "keep");
    assert_eq!(comments.kept, counts["comment"]);
    assert!(comments.basis.as_ref().unwrap().contains("a lawsuit"));
    assert_eq!(table(&verified, "work.copy", "delete").erased, 1);
    assert_eq!(
        table(&verified, "work.task", "delete").erased,
        counts["task"]
    );
    let left = product.contents(birch, &birch.place, "comment").await;
    assert_eq!(left.len(), usize::try_from(counts["comment"]).unwrap());
    product.finish().await;
}

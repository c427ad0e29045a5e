//! Exports in all three models: all of a tenant's rows and no other's, behind a link that only its
//! holder can open and that ends.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::process::{Command, Stdio};
use std::time::Duration;

use serde_json::Value;
use sha2::{Digest as _, Sha256};
use sqlx::{AssertSqlSafe, Connection as _};
use tenure_client::{
    AttachPaymentMethod, ClientError, DataExport, GrantCredit, IdempotencyKey, InvoiceStatus,
    Money, NewSubscription, RunStatus, SendSignal, StartExport, TenancyModel,
};
use tenure_engine::testkit::{Play, PlayError, Scene, fault_matrix};
use tenure_workflows::archive::{ArchiveConfig, Manifest};
use tenure_workflows::deletion::own as erased;
use tenure_workflows::export::{self, NewExport, Token, own};
use tenure_workflows::{DoorError, as_tenant};
use uuid::Uuid;

use crate::keeping::{Office, scene};
use crate::placements::{at_rest, begin_move};
use crate::support::disk::Disk;
use crate::support::matrix::assert_borne;
use crate::support::product::{self, Member, Product, TABLES};
use crate::support::s3::S3Server;
use crate::support::{connect, eventually};

fn asked() -> StartExport {
    StartExport {
        link_days: Some(3),
        reason: "Art. 20 GDPR".to_owned(),
    }
}

/// Starts an export and waits until it is ready; the link.
async fn export(product: &Product, member: &Member) -> (DataExport, String) {
    let client = &product.app.client;
    let key = IdempotencyKey::generate();
    let started = client
        .start_export(member.tenant, &asked(), &key)
        .await
        .unwrap();
    let again = client
        .start_export(member.tenant, &asked(), &key)
        .await
        .unwrap();
    assert_eq!(
        (again.export.export_id, again.link),
        (started.export.export_id, None)
    );
    let export_id = started.export.export_id;
    eventually("the export is ready", async || {
        let export = client.data_export(member.tenant, export_id).await.unwrap();
        let run = client.run(started.run_id).await.unwrap();
        assert_ne!(run.summary.status, RunStatus::Stuck, "{:?}", run.why);
        assert_ne!(run.summary.state, "Halted", "{:?}", run.data);
        export.status == "ready"
    })
    .await;
    let export = client.data_export(member.tenant, export_id).await.unwrap();
    (export, started.link.unwrap())
}

/// What a link opens, or why it opens nothing.
pub(crate) async fn fetch(url: &str) -> (u16, Vec<u8>) {
    let answer = reqwest::get(url).await.unwrap();
    let status = answer.status().as_u16();
    (status, answer.bytes().await.unwrap().to_vec())
}

/// Lets a program of the system's work on bytes.
fn through(program: &str, args: &[&str], bytes: &[u8]) -> Vec<u8> {
    let mut child = Command::new(program)
        .args(args)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let bytes = bytes.to_vec();
    let writing = std::thread::spawn(move || stdin.write_all(&bytes));
    let done = child.wait_with_output().unwrap();
    let _ = writing.join().unwrap();
    assert!(done.status.success(), "{program} {args:?}");
    done.stdout
}

/// What is in an export: its rows by bare table, each file compared with the manifest.
pub(crate) fn unpack(tar: &[u8]) -> BTreeMap<String, Vec<Value>> {
    let manifest: Manifest =
        serde_json::from_slice(&through("tar", &["-xOf", "-", "manifest.json"], tar)).unwrap();
    let mut tables = BTreeMap::new();
    for shape in &manifest.tables {
        assert!(
            !shape.columns.is_empty() && !shape.primary_key.is_empty(),
            "{shape:?}"
        );
        let bare = shape.name.trim_start_matches("work.").to_owned();
        tables.insert(bare, Vec::new());
    }
    for part in &manifest.parts {
        let packed = through("tar", &["-xOf", "-", &part.name], tar);
        let lines = through("gzip", &["-dc"], &packed);
        assert_eq!(
            hex::encode(Sha256::digest(&lines)),
            part.lines_sha256,
            "{}",
            part.name
        );
        let lines = String::from_utf8(lines).unwrap();
        let rows = lines
            .lines()
            .map(|line| serde_json::from_str(line).unwrap());
        let bare = part.table.trim_start_matches("work.");
        tables.get_mut(bare).unwrap().extend(rows);
    }
    let all: usize = tables.values().map(Vec::len).sum();
    assert_eq!(all as u64, manifest.rows);
    tables
}

fn sorted(mut rows: Vec<Value>) -> Vec<String> {
    for row in &mut rows {
        // `contents` leaves the tenant column out.
        row.as_object_mut().unwrap().remove("org_id");
    }
    let mut lines: Vec<String> = rows.iter().map(Value::to_string).collect();
    lines.sort();
    lines
}

#[tokio::test(flavor = "multi_thread")]
async fn an_export_has_all_rows_of_its_tenant_and_no_others_in_every_model() {
    let store = S3Server::start().await;
    let product = Product::fleet_with(Some(store.config())).await;
    for member in product.members() {
        product.rows(member, 600).await;
    }
    for member in [&product.birch, &product.quarry, &product.ilex] {
        let (export, link) = export(&product, member).await;
        let (status, tar) = fetch(&format!("{}{link}", product.app.url)).await;
        assert_eq!(status, 200, "{}", String::from_utf8_lossy(&tar));
        let mut tables = unpack(&tar);
        let ours = tables.extract_if(.., |name, _| name.starts_with("tenure:"));
        assert_eq!(ours.count(), own::TABLES.len());
        let names: Vec<&str> = tables.keys().map(String::as_str).collect();
        let mut expected = TABLES.to_vec();
        expected.sort_unstable();
        assert_eq!(names, expected);
        for (table, rows) in tables {
            let own = product.contents(member, &member.place, &table).await;
            assert!(!own.is_empty(), "{table} of {}", member.name);
            assert_eq!(sorted(rows), sorted(own), "{table} of {}", member.name);
        }
        assert!(export.expires_at.unwrap() > export.ready_at.unwrap());
        let client = &product.app.client;
        let fetched = client
            .data_export(member.tenant, export.export_id)
            .await
            .unwrap();
        assert_eq!(fetched.downloads, 1);
        let all = client.list_exports(member.tenant).await.unwrap();
        assert_eq!(all.len(), 1);
    }
    product.finish().await;
}

/// Subscribes a tenant to a plan that is paid at once, waits until it is, and grants it credit.
async fn buys(product: &Product, member: &Member) {
    let (client, tenant) = (&product.app.client, member.tenant);
    let attach = AttachPaymentMethod {
        payment_method: "pm_card_visa".to_owned(),
        position: None,
    };
    let key = IdempotencyKey::generate();
    let attached = client.attach_payment_method(tenant, &attach, &key).await;
    attached.unwrap();
    let new = NewSubscription {
        plan: "team-monthly".to_owned(),
        currency: "USD".to_owned(),
        ..NewSubscription::default()
    };
    let key = IdempotencyKey::generate();
    client.subscribe(tenant, &new, &key).await.unwrap();
    eventually("the first invoice is paid", async || {
        let invoices = client.list_invoices(tenant).await.unwrap();
        invoices
            .first()
            .is_some_and(|one| one.status == InvoiceStatus::Paid)
    })
    .await;
    let grant = GrantCredit {
        amount: Money {
            amount: "5.00".parse().unwrap(),
            currency: "USD".to_owned(),
        },
        reason: "for the trouble".to_owned(),
        dry_run: false,
    };
    let key = IdempotencyKey::generate();
    client.grant_credit(tenant, &grant, &key).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn an_export_has_what_tenure_itself_keeps_of_its_tenant_and_nothing_of_the_staff() {
    let folder = tempfile::tempdir().unwrap();
    let config = ArchiveConfig::Folder(folder.path().to_owned());
    let product = Product::fleet_with(Some(config)).await;
    let member = &product.birch;
    product.rows(member, 60).await;
    buys(&product, member).await;
    buys(&product, &product.salthouse).await;
    let (_, link) = export(&product, member).await;
    let (status, tar) = fetch(&format!("{}{link}", product.app.url)).await;
    assert_eq!(status, 200);
    let tables = unpack(&tar);
    let mut conn = connect(&product.app.options).await;
    for table in own::TABLES {
        let sql = format!("select to_jsonb(t) from app.{table} as t where tenant_id = $1");
        let mut kept: Vec<Value> = sqlx::query_scalar(AssertSqlSafe(sql))
            .bind(member.tenant)
            .fetch_all(&mut conn)
            .await
            .unwrap();
        for row in &mut kept {
            let row = row.as_object_mut().unwrap();
            row.retain(|column, _| !own::HIDDEN.contains(&column.as_str()));
        }
        let given = tables[&format!("tenure:{table}")].clone();
        assert_eq!(sorted(given), sorted(kept), "{table}");
    }
    for table in [
        "tenant",
        "subscription",
        "invoice_line",
        "payment",
        "notice",
    ] {
        assert!(!tables[&format!("tenure:{table}")].is_empty(), "{table}");
    }
    let granted = &tables["tenure:credit_entry"][0];
    assert_eq!(granted["note"], "for the trouble");
    assert_eq!(granted.get("author"), None, "{granted}");
    product.finish().await;
}

/// What is erased with a tenant is what is known of it, so each of those tables is given, or is not for a
/// reason.
#[test]
fn no_table_of_ours_with_a_tenants_rows_is_forgotten_by_an_export() {
    let mut known: Vec<&str> = erased::TABLES.iter().map(|table| table.name).collect();
    let left_out = own::LEFT_OUT.iter().map(|(table, _)| *table);
    let mut told: Vec<&str> = own::TABLES.into_iter().chain(left_out).collect();
    known.sort_unstable();
    told.sort_unstable();
    assert_eq!(told, known);
}

#[tokio::test(flavor = "multi_thread")]
async fn only_the_link_opens_an_export() {
    let folder = tempfile::tempdir().unwrap();
    let config = ArchiveConfig::Folder(folder.path().to_owned());
    let product = Product::fleet_with(Some(config)).await;
    let member = &product.birch;
    product.rows(member, 60).await;
    let (export, link) = export(&product, member).await;

    // Another token, another tenant, another export, no token: nothing is told of what is right.
    let (head, _) = link.rsplit_once('/').unwrap();
    let other = Token::generate();
    let mut details = Vec::new();
    for link in [
        format!("{head}/{}", other.as_str()),
        format!("{head}/none"),
        link.replace(
            &member.tenant.to_string(),
            &product.salthouse.tenant.to_string(),
        ),
    ] {
        let (status, problem) = fetch(&format!("{}{link}", product.app.url)).await;
        assert_eq!(status, 404, "{link}");
        let problem: Value = serde_json::from_slice(&problem).unwrap();
        details.push(problem["detail"].clone());
    }
    details.dedup();
    assert_eq!(details.len(), 1, "{details:?}");

    // Neither the store nor the database can read it.
    let mut conn = connect(&product.app.options).await;
    let row: String = sqlx::query_scalar("select to_jsonb(e)::text from app.data_export e")
        .fetch_one(&mut conn)
        .await
        .unwrap();
    assert!(row.contains("\"writing_key\": null"), "{row}");
    let token = link.rsplit_once('/').unwrap().1;
    assert!(!row.contains(token), "the token is nowhere");
    let kept: Option<String> = sqlx::query_scalar(
        "select string_agg(convert_from(body, 'UTF8'), '') from app.idempotency",
    )
    .fetch_one(&mut conn)
    .await
    .unwrap();
    assert!(!kept.unwrap().contains(token), "no kept answer has it");
    let folder = folder
        .path()
        .join(member.tenant.to_string())
        .join(export.export_id.to_string());
    let parts = std::fs::read_dir(folder).unwrap().flatten();
    let mut seen = 0;
    for part in parts.filter(|part| part.file_name() != "manifest.json") {
        let bytes = std::fs::read(part.path()).unwrap();
        assert_ne!(
            &bytes[..2],
            b"\x1f\x8b",
            "not even compressed lines are to be seen"
        );
        seen += 1;
    }
    assert!(seen > TABLES.len(), "{seen}");

    let bad = StartExport {
        link_days: Some(91),
        reason: "Art. 20 GDPR".to_owned(),
    };
    let key = IdempotencyKey::generate();
    let refused = product
        .app
        .client
        .start_export(member.tenant, &bad, &key)
        .await;
    assert!(matches!(refused, Err(ClientError::Problem(problem)) if problem.status == 422));
    product.finish().await;
}

/// Asks for an export in a play, and plays until it rests; its token.
async fn ask(play: &Play) -> Result<(Uuid, Token, tenure_engine::RunId), PlayError> {
    let client = play.client();
    let new = NewExport {
        link_days: 3,
        reason: "Art. 20 GDPR".to_owned(),
    };
    let token = Token::generate();
    let mut tx = tenure_engine::begin(client.pool()).await?;
    as_tenant(&mut tx, play.tenant()).await?;
    let asked = export::ask(&mut tx, play.tenant(), &new, &token, "suite").await?;
    tx.commit().await?;
    let mut tx = tenure_engine::begin(client.pool()).await?;
    let started = export::start(client, &mut tx, &asked.input).await?;
    tx.commit().await?;
    play.settle().await?;
    Ok((asked.row.export_id, token, started.run_id))
}

async fn open(
    play: &Play,
    office: &Office,
    export: Uuid,
    token: &Token,
) -> Result<export::Opened, DoorError> {
    let mut conn = play.client().pool().acquire().await?;
    let mut tx = conn.begin().await?;
    as_tenant(&mut tx, play.tenant()).await?;
    export::open(&mut tx, &office.archive, play.tenant(), export, token).await
}

#[tokio::test(flavor = "multi_thread")]
async fn an_export_bears_every_fault() {
    let script = async |play: &mut Play, office: &Office| {
        office.arrive(play, 40).await?;
        let (export, token, run) = ask(play).await?;
        let state = play.detail(run).await?.summary.state;
        let opened = open(play, office, export, &token).await?;
        let mut rows = BTreeMap::new();
        for part in &opened.manifest.parts {
            let lines = export::read_part(&office.archive, &opened, part).await?;
            assert!(lines.starts_with(b"\x1f\x8b"));
            *rows.entry(part.table.clone()).or_insert(0) += part.rows;
        }
        Ok((state, rows, opened.manifest.rows))
    };
    let report = fault_matrix(async || scene(None).await, script)
        .await
        .unwrap();
    assert_borne(&report, &["data-export"]);
    assert!(report.expected.contains("(\"Ready\", "), "{report}");
    assert!(report.plays > 20, "{report}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_link_ends_and_takes_the_export_with_it() {
    let Scene {
        database,
        workflows,
        outside: office,
    } = scene(None).await;
    let mut play = Play::open(database, workflows).await.unwrap();
    office.arrive(&mut play, 40).await.unwrap();
    let (export, token, run) = ask(&play).await.unwrap();
    assert!(open(&play, &office, export, &token).await.is_ok());
    assert!(!office.files().is_empty());
    play.advance(Duration::from_secs(3 * 86_400 + 60));
    // The instant decides, also while nobody works.
    let late = open(&play, &office, export, &token).await;
    assert!(matches!(late, Err(DoorError::Conflict(_))), "{late:?}");
    play.settle().await.unwrap();
    let output: export::Output = play.output(run).await.unwrap();
    assert!(output.rows > 0);
    assert!(office.files().is_empty(), "{:?}", office.files());
    let gone = open(&play, &office, export, &token).await;
    assert!(matches!(gone, Err(DoorError::Conflict(_))), "{gone:?}");
    play.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_export_whose_tenant_moves_begins_anew_and_holds_all_of_it() {
    let mount = tempfile::tempdir().unwrap();
    let disk = Disk::of(mount.path(), "32k");
    let config = ArchiveConfig::Folder(mount.path().to_owned());
    let product = Product::fleet_with(Some(config)).await;
    let oak = product.add_shared("Oak & Sons").await;
    product.rows(&oak, 700).await;
    let client = &product.app.client;
    let key = IdempotencyKey::generate();
    let started = client.start_export(oak.tenant, &asked(), &key).await;
    let started = started.unwrap();
    eventually("the disk is full", async || {
        let run = client.run(started.run_id).await.unwrap();
        run.summary.state == "Halted" && run.data["Halted"]["code"] == "archive_full"
    })
    .await;
    let room = product::place(TenancyModel::Schema, "rooms", Some("oak"), &oak.place.key);
    let tables = Some("call shared.make_tables()");
    begin_move(&product, &oak, &room, tables, 0).await;
    assert_eq!(at_rest(&product, oak.tenant).await.place, room);
    disk.resize("16m");
    let resume = SendSignal {
        id: "moved".to_owned(),
        name: None,
        signal: "Resume".into(),
        reason: Some("there is room again".to_owned()),
    };
    let key = IdempotencyKey::generate();
    let sent = client.send_signal(started.run_id, &resume, &key).await;
    sent.unwrap();
    let export_id = started.export.export_id;
    eventually("the export is ready", async || {
        let export = client.data_export(oak.tenant, export_id).await.unwrap();
        let run = client.run(started.run_id).await.unwrap();
        assert_ne!(run.summary.status, RunStatus::Stuck, "{:?}", run.why);
        export.status == "ready"
    })
    .await;
    let url = format!("{}{}", product.app.url, started.link.unwrap());
    let (status, tar) = fetch(&url).await;
    assert_eq!(status, 200);
    let tables = unpack(&tar);
    for table in TABLES {
        let there = product.contents(&oak, &room, table).await;
        assert_eq!(
            sorted(tables[table].clone()),
            sorted(there),
            "{table} as it is where the tenant is now"
        );
    }
    product.finish().await;
    drop(disk);
}

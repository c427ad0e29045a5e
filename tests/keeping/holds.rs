//! Holds on a product's rows hold what they say, wherever the rows go, and say how much that is.

use serde_json::{Value, json};
use tenure_client::{
    Client, ClientError, DataHold, HoldKind, IdempotencyKey, MovePlacement, PlaceDataHold,
    PlaceHold, PlacementStatus, TenancyModel,
};
use uuid::Uuid;

use super::{folder, load, policy, sweep, swept, window};
use crate::support::eventually;
use crate::support::product::{Member, Product, place};

async fn hold(
    client: &Client,
    tenant: Uuid,
    table: Option<&str>,
    matches: Option<Value>,
) -> Result<DataHold, ClientError> {
    let place = PlaceDataHold {
        case: "7 O 12/27".to_owned(),
        table: table.map(ToOwned::to_owned),
        matches: matches.map(|matches| serde_json::from_value(matches).unwrap()),
        expires_at: None,
        reason: "the court asked".to_owned(),
    };
    let key = IdempotencyKey::generate();
    client.place_data_hold(tenant, &place, &key).await
}

fn refused(answer: Result<DataHold, ClientError>) -> (u16, String, String) {
    match answer.unwrap_err() {
        ClientError::Problem(problem) => {
            let pointer = problem.errors.first().map(|error| error.pointer.clone());
            let detail = problem.detail.unwrap_or_default();
            (problem.status, pointer.unwrap_or_default(), detail)
        }
        other => panic!("{other:?}"),
    }
}

async fn done(product: &Product, member: &Member) -> usize {
    let tasks = product.contents(member, &member.place, "task").await;
    tasks.iter().filter(|task| task["status"] == "done").count()
}

async fn refuses_what_holds_nothing(client: &Client, birch: &Member) {
    for (table, matches, pointer, words) in [
        ("work.nothing", None, "/table", "work.task"),
        ("work.currency", None, "/table", "work.task"),
        (
            "work.task",
            Some(json!({ "colour": "red" })),
            "/match",
            "colour",
        ),
        (
            "work.task",
            Some(json!({ "task_id": "17" })),
            "/match",
            "uuid",
        ),
        (
            "work.invoice",
            Some(json!({ "total": "much" })),
            "/match",
            "numeric",
        ),
        (
            "work.task",
            Some(json!({ "org_id": birch.place.key })),
            "/match",
            "leave it out",
        ),
    ] {
        let answer = hold(client, birch.tenant, Some(table), matches).await;
        let (status, at, detail) = refused(answer);
        assert_eq!((status, at.as_str()), (422, pointer), "{table}: {detail}");
        assert!(detail.contains(words), "{detail}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hold_that_could_hold_nothing_is_refused_and_one_that_holds_says_how_much() {
    let product = Product::fleet().await;
    let (client, birch) = (&product.app.client, &product.birch);
    product.rows(birch, 60).await;
    product.rows(&product.salthouse, 60).await;
    refuses_what_holds_nothing(client, birch).await;
    let unplaced = product.add_unplaced("Aspen").await;
    let answer = hold(client, unplaced, Some("work.task"), None).await;
    assert_eq!(refused(answer).0, 409);

    let tasks = product.contents(birch, &birch.place, "task").await;
    let held = hold(client, birch.tenant, Some("task"), None)
        .await
        .unwrap();
    assert_eq!(
        held.table.as_deref(),
        Some("work.task"),
        "as the map names it"
    );
    assert_eq!(held.rows, Some(i64::try_from(tasks.len()).unwrap()));
    // What people write is what rows have: a number as a text, a UUID in capitals.
    let attachments = product.contents(birch, &birch.place, "attachment").await;
    let size = attachments[0]["byte_size"].as_i64().unwrap();
    let matches = json!({ "byte_size": size.to_string() });
    let held = hold(client, birch.tenant, Some("work.attachment"), Some(matches))
        .await
        .unwrap();
    let as_large = attachments.iter().filter(|one| one["byte_size"] == size);
    assert_eq!(held.rows, Some(i64::try_from(as_large.count()).unwrap()));
    assert_eq!(held.matches.unwrap()["byte_size"], json!(size));
    let id = tasks[0]["task_id"].as_str().unwrap().to_uppercase();
    let matches = json!({ "task_id": id });
    let held = hold(client, birch.tenant, Some("work.task"), Some(matches))
        .await
        .unwrap();
    assert_eq!(held.rows, Some(1));
    let matches = json!({ "task_id": Uuid::nil() });
    let held = hold(client, birch.tenant, Some("work.task"), Some(matches))
        .await
        .unwrap();
    assert_eq!(held.rows, Some(0), "it is told that it holds nothing now");
    product.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tenant_that_moves_takes_its_holds_along() {
    let (_folder, config) = folder();
    let product = Product::fleet_with(Some(config)).await;
    let (client, birch) = (&product.app.client, &product.birch);
    load(&product, "rooms", policy("", window())).await;
    product.rows(birch, 300).await;
    let matter = Some(json!({ "status": "done" }));
    hold(client, birch.tenant, Some("work.task"), matter)
        .await
        .unwrap();
    hold(client, birch.tenant, Some("work.comment"), None)
        .await
        .unwrap();
    let to = place(
        TenancyModel::Schema,
        "rooms",
        Some("birch"),
        &birch.place.key,
    );
    let moving = MovePlacement {
        to: to.clone(),
        sql: Some("call shared.make_tables()".to_owned()),
        keep_hours: Some(0),
        batch: None,
        reason: "they have grown".to_owned(),
    };
    let key = IdempotencyKey::generate();
    client
        .move_placement(birch.tenant, &moving, &key)
        .await
        .unwrap();
    eventually("it has moved", async || {
        let found = client.placement(birch.tenant).await.unwrap();
        found.place == to && found.status == PlacementStatus::Active
    })
    .await;
    let moved = Member {
        place: to,
        ..birch.clone()
    };
    let (before, comments) = (
        done(&product, &moved).await,
        product.contents(&moved, &moved.place, "comment").await,
    );
    let run = sweep(&product, &moved, false).await;
    let came = swept(&run);
    assert!(came["task"].deleted > 0, "{came:?}");
    assert!(came["comment"].kept.is_some(), "{came:?}");
    assert_eq!(
        done(&product, &moved).await,
        before,
        "no task that is done went"
    );
    let left = product.contents(&moved, &moved.place, "comment").await;
    assert_eq!(left, comments);
    product.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_legal_hold_on_a_tenants_subscriptions_keeps_its_rows_too() {
    let (_folder, config) = folder();
    let product = Product::fleet_with(Some(config)).await;
    let (client, birch) = (&product.app.client, &product.birch);
    load(&product, "main", policy("work.", window())).await;
    product.rows(birch, 300).await;
    let before = product.counts(birch, &birch.place).await;
    let legal = PlaceHold {
        kind: HoldKind::Legal,
        subscription_id: None,
        starts_at: None,
        ends_at: None,
        blocks: None,
        reason: "7 O 12/27".to_owned(),
    };
    let key = IdempotencyKey::generate();
    client.place_hold(birch.tenant, &legal, &key).await.unwrap();
    let halted = sweep(&product, birch, false).await;
    assert_eq!(
        halted.data["Halted"]["why"]["code"], "held",
        "{:?}",
        halted.data
    );
    assert_eq!(product.counts(birch, &birch.place).await, before);
    product.finish().await;
}

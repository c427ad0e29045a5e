//! One verb to many runs over HTTP: counted, confirmed by its number, told run by run.

use tenure_client::{
    AbortBulk, ActionArgs, BulkFilter, BulkOutcome, BulkResultFilter, BulkStatus, Client,
    ClientError, ConfirmBulk, IdempotencyKey, NewTenant, PrepareBulk, Role, RunFilter, RunStatus,
};
use tenure_engine::TenantId;
use uuid::Uuid;

use crate::support::app::{TestApp, token};
use crate::support::{connect, eventually};

async fn tenant(app: &TestApp, name: &str) -> Uuid {
    let new = NewTenant {
        name: name.to_owned(),
        email: "billing@acme.example".to_owned(),
        zone: "UTC".to_owned(),
        locale: None,
        test_clock: None,
        legal_entity: None,
    };
    let key = IdempotencyKey::generate();
    app.client
        .create_tenant(&new, &key)
        .await
        .unwrap()
        .tenant_id
}

fn pause(filter: &str) -> PrepareBulk {
    PrepareBulk {
        filter: filter.to_owned(),
        verb: "pause".to_owned(),
        args: ActionArgs::default(),
        reason: "the provider is down".to_owned(),
        pace: 100,
        stop_after: Some(1),
    }
}

fn refusal<T: std::fmt::Debug>(result: Result<T, ClientError>) -> (u16, String, String) {
    let error = result.unwrap_err();
    let problem = error.problem().unwrap();
    let field = problem.errors.first();
    let field = field.map_or(String::new(), |field| field.pointer.clone());
    (problem.status, problem.code.clone(), field)
}

fn expect(status: u16, code: &str, field: &str) -> (u16, String, String) {
    (status, code.to_owned(), field.to_owned())
}

/// All tenants' runs are at rest.
async fn at_rest(app: &TestApp, count: i64) {
    eventually("the tenants are provisioned", async || {
        let filter = tenure_client::RunCountFilter {
            filter: Some("workflow:tenant state:Ready status:waiting".to_owned()),
        };
        app.client.count_runs(&filter).await.unwrap().runs == count
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn many_runs_are_paused_and_each_says_what_came_of_it() {
    let app = TestApp::new().await;
    let client = &app.client;
    for name in ["Acme", "Birch", "Cedar"] {
        tenant(&app, name).await;
    }
    at_rest(&app, 3).await;
    let key = IdempotencyKey::generate();
    let prepared = client
        .prepare_bulk(&pause("workflow:tenant"), &key)
        .await
        .unwrap();
    let again = client
        .prepare_bulk(&pause("workflow:tenant"), &key)
        .await
        .unwrap();
    assert_eq!(prepared, again);
    assert_eq!(
        (prepared.status, prepared.selected),
        (BulkStatus::Prepared, 3)
    );
    let id = prepared.bulk_operation_id;

    let confirm = |runs| ConfirmBulk {
        runs,
        reason: "three it is".to_owned(),
    };
    let key = IdempotencyKey::generate();
    let wrong = client.confirm_bulk(id, &confirm(4), &key).await;
    assert_eq!(refusal(wrong), expect(409, "count_differs", "/runs"));
    let key = IdempotencyKey::generate();
    client.confirm_bulk(id, &confirm(3), &key).await.unwrap();
    eventually("the operation is done", async || {
        client.bulk_operation(id).await.unwrap().status == BulkStatus::Done
    })
    .await;
    let done = client.bulk_operation(id).await.unwrap();
    assert_eq!((done.done, done.moved, done.refused), (3, 0, 0));
    let mut results = BulkResultFilter {
        outcome: Some(BulkOutcome::Done),
        limit: Some(2),
        cursor: None,
    };
    let first = client.list_bulk_results(id, &results).await.unwrap();
    results.cursor = first.next_cursor;
    let second = client.list_bulk_results(id, &results).await.unwrap();
    assert_eq!((first.items.len(), second.items.len()), (2, 1));
    for run in first.items.iter().chain(&second.items) {
        let shown = client.run(run.run_id).await.unwrap();
        assert_eq!(shown.summary.status, RunStatus::Paused);
        assert_eq!(run.workflow, "tenant");
        assert!(run.tenant_name.is_some(), "they all have the same key");
    }
    let listed = client
        .list_bulk_operations(&BulkFilter::default())
        .await
        .unwrap();
    assert_eq!(listed.items, [done]);
    let abort = AbortBulk {
        reason: "too late".to_owned(),
    };
    let key = IdempotencyKey::generate();
    let late = client.abort_bulk(id, &abort, &key).await;
    assert_eq!(refusal(late), expect(409, "not_allowed", ""));
    app.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
#[expect(clippy::too_many_lines, reason = "one case a line")]
async fn an_operation_reaches_no_further_than_who_asks_for_it() {
    let app = TestApp::new().await;
    let acme = tenant(&app, "Acme").await;
    tenant(&app, "Birch").await;
    at_rest(&app, 2).await;
    let mut conn = connect(&app.options).await;
    let support = token(&mut conn, Role::Support, None).await;
    let support = Client::new(&app.url, &support).unwrap();
    let own = token(&mut conn, Role::Operator, Some(TenantId(acme))).await;
    let own = Client::new(&app.url, &own).unwrap();
    let prepare = async |client: &Client, prepare: &PrepareBulk| {
        client
            .prepare_bulk(prepare, &IdempotencyKey::generate())
            .await
    };
    let with = |verb: &str| PrepareBulk {
        verb: verb.to_owned(),
        ..pause("workflow:tenant")
    };
    for (client, asked, expected) in [
        (
            &support,
            pause("workflow:tenant"),
            expect(403, "forbidden", ""),
        ),
        (&app.client, pause(" "), expect(422, "invalid", "/filter")),
        (
            &app.client,
            pause("status:lost"),
            expect(400, "invalid_filter", ""),
        ),
        (
            &app.client,
            pause("workflow:nope"),
            expect(400, "unknown_workflow", ""),
        ),
        (
            &app.client,
            pause("key:none"),
            expect(422, "invalid", "/filter"),
        ),
        (
            &app.client,
            PrepareBulk {
                args: ActionArgs {
                    key: Some("one-for-all".to_owned()),
                    ..ActionArgs::default()
                },
                ..with("restart")
            },
            expect(422, "invalid", "/args/key"),
        ),
        (
            &app.client,
            with("signal"),
            expect(422, "invalid", "/args/signal"),
        ),
        (&app.client, with("burn"), expect(422, "invalid", "/verb")),
        (
            &app.client,
            with("fire-deadline"),
            expect(422, "invalid", "/args/name"),
        ),
    ] {
        let told = format!("{asked:?}");
        assert_eq!(refusal(prepare(client, &asked).await), expected, "{told}");
    }
    let all = prepare(&app.client, &pause("workflow:tenant"))
        .await
        .unwrap();
    assert_eq!(all.selected, 2);
    let hidden = own.bulk_operation(all.bulk_operation_id).await;
    assert_eq!(refusal(hidden), expect(404, "unknown_bulk_operation", ""));
    let mine = prepare(&own, &pause("workflow:tenant")).await.unwrap();
    assert_eq!(mine.selected, 1);
    let confirm = ConfirmBulk {
        runs: 1,
        reason: "mine".to_owned(),
    };
    let key = IdempotencyKey::generate();
    own.confirm_bulk(mine.bulk_operation_id, &confirm, &key)
        .await
        .unwrap();
    eventually("the operation is done", async || {
        let found = own.bulk_operation(mine.bulk_operation_id).await.unwrap();
        found.status == BulkStatus::Done
    })
    .await;
    let paused = RunFilter {
        status: Some(RunStatus::Paused),
        ..RunFilter::default()
    };
    let paused = app.client.list_runs(&paused).await.unwrap().items;
    assert_eq!((paused.len(), paused[0].tenant_id), (1, acme));
    app.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_can_be_done_to_many_runs_is_told_and_who_may() {
    let app = TestApp::new().await;
    let verbs = app.client.list_bulk_verbs().await.unwrap();
    assert!(verbs.iter().all(|verb| verb.allowed && !verb.dry_run));
    let restart = verbs.iter().find(|verb| verb.action == "restart");
    let args: Vec<_> = restart.unwrap().args.iter().map(|arg| &arg.name).collect();
    assert_eq!(
        args,
        ["state", "input"],
        "each new run has a key of its own"
    );
    let mut conn = connect(&app.options).await;
    let support = token(&mut conn, Role::Support, None).await;
    let client = Client::new(&app.url, &support).unwrap();
    let verbs = client.list_bulk_verbs().await.unwrap();
    let may: Vec<_> = verbs.iter().filter(|verb| verb.allowed).collect();
    assert_eq!(may.len(), 1);
    assert_eq!(may[0].action, "signal");
    let words = Some("needs role operator".to_owned());
    assert!(
        verbs
            .iter()
            .all(|verb| verb.allowed || verb.reason == words)
    );
    app.finish().await;
}

/// A prepared operation, confirmed by its number.
async fn begin(app: &TestApp, asked: &PrepareBulk) -> Uuid {
    let key = IdempotencyKey::generate();
    let prepared = app.client.prepare_bulk(asked, &key).await.unwrap();
    let id = prepared.bulk_operation_id;
    let confirm = ConfirmBulk {
        runs: prepared.selected.into(),
        reason: "as many as that".to_owned(),
    };
    let key = IdempotencyKey::generate();
    app.client.confirm_bulk(id, &confirm, &key).await.unwrap();
    id
}

/// The runs of an operation of which this came.
async fn runs_with(app: &TestApp, id: Uuid, outcome: BulkOutcome) -> Vec<Uuid> {
    let filter = BulkResultFilter {
        outcome: Some(outcome),
        ..BulkResultFilter::default()
    };
    let page = app.client.list_bulk_results(id, &filter).await.unwrap();
    page.items.iter().map(|one| one.run_id).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_operation_stops_by_itself_when_too_many_runs_refuse() {
    let app = TestApp::new().await;
    for name in ["Acme", "Birch", "Cedar"] {
        tenant(&app, name).await;
    }
    at_rest(&app, 3).await;
    // Nothing of them has failed, so there is nothing to try again.
    let asked = PrepareBulk {
        verb: "retry".to_owned(),
        stop_after: Some(2),
        ..pause("workflow:tenant")
    };
    let id = begin(&app, &asked).await;
    eventually("it has stopped", async || {
        app.client.bulk_operation(id).await.unwrap().status == BulkStatus::Stopped
    })
    .await;
    let stopped = app.client.bulk_operation(id).await.unwrap();
    let came = (stopped.done, stopped.refused, stopped.selected);
    assert_eq!(came, (0, 2, 3));
    assert_eq!(runs_with(&app, id, BulkOutcome::Refused).await.len(), 2);
    assert_eq!(runs_with(&app, id, BulkOutcome::Pending).await.len(), 1);
    let abort = AbortBulk {
        reason: "it has stopped".to_owned(),
    };
    let key = IdempotencyKey::generate();
    let late = app.client.abort_bulk(id, &abort, &key).await;
    assert_eq!(refusal(late), expect(409, "not_allowed", ""));
    app.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_operation_that_is_aborted_in_the_middle_leaves_the_rest_alone() {
    let app = TestApp::new().await;
    // One a second: the abort has many seconds to come in.
    let count = 12;
    for number in 0..count {
        tenant(&app, &format!("Acme {number}")).await;
    }
    at_rest(&app, count).await;
    let asked = PrepareBulk {
        pace: 1,
        ..pause("workflow:tenant")
    };
    let id = begin(&app, &asked).await;
    eventually("it has begun", async || {
        app.client.bulk_operation(id).await.unwrap().done > 0
    })
    .await;
    let abort = AbortBulk {
        reason: "the provider is back".to_owned(),
    };
    let key = IdempotencyKey::generate();
    app.client.abort_bulk(id, &abort, &key).await.unwrap();
    eventually("it has ended", async || {
        app.client.bulk_operation(id).await.unwrap().status == BulkStatus::Aborted
    })
    .await;
    // What was under way when it was aborted is done as well.
    eventually("nobody acts any more", async || {
        let filter = RunFilter {
            workflow: Some("bulk".to_owned()),
            ..RunFilter::default()
        };
        let runs = app.client.list_runs(&filter).await.unwrap().items;
        runs[0].status == RunStatus::Completed
    })
    .await;
    let done = runs_with(&app, id, BulkOutcome::Done).await;
    let left = runs_with(&app, id, BulkOutcome::Pending).await;
    assert_eq!(done.len() + left.len(), 12);
    assert!(!left.is_empty(), "it was aborted in the middle");
    for (runs, status) in [(done, RunStatus::Paused), (left, RunStatus::Waiting)] {
        for run in runs {
            let shown = app.client.run(run).await.unwrap();
            assert_eq!(shown.summary.status, status, "{run}");
        }
    }
    app.finish().await;
}

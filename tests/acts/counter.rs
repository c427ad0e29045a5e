//! The API before an engine of the tests' own: its workflows fail when they are told to, and its
//! time is moved by hand.

use std::process::Command;

use serde_json::Value;
use tenure_api::AppState;
use tenure_client::{
    ActionAccepted, ActionArgs, Client, IdempotencyKey, Role, RunDetail, SendSignal, StartRun,
};
use tenure_engine::Registry;
use tokio::net::TcpListener;
use uuid::Uuid;

use super::act;
use crate::engine::workflows::{Outside, registry};
use crate::support::app::token;
use crate::support::connect;
use crate::support::engine::TestEngine;
use crate::support::process::tenure;

/// A served engine, and an operator who asks it.
pub(super) struct Counter {
    pub(super) engine: TestEngine,
    /// What its workflows reach.
    pub(super) outside: Outside,
    pub(super) client: Client,
    pub(super) url: String,
    pub(super) token: String,
}

impl Counter {
    pub(super) async fn open() -> Self {
        let outside = Outside::default();
        Self {
            outside: outside.clone(),
            ..Self::with(registry(&outside)).await
        }
    }

    /// One that serves these workflows, which reach nothing outside.
    pub(super) async fn with(registry: Registry) -> Self {
        let engine = TestEngine::new(registry).await;
        let mut conn = connect(&engine.options).await;
        let token = token(&mut conn, Role::Operator, None).await;
        let state = AppState::new(
            engine.client.clone(),
            engine.pool().clone(),
            None,
            Default::default(),
            Vec::new(),
            "suite".to_owned(),
        );
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let app = tenure_api::app(state);
        tokio::spawn(async move { axum::serve(listener, app).await });
        Self {
            client: Client::new(&url, &token).unwrap(),
            engine,
            outside: Outside::default(),
            url,
            token,
        }
    }

    /// A start of the engine's one tenant.
    pub(super) fn new_run(&self, workflow: &str, key: &str, input: Value) -> StartRun {
        StartRun {
            workflow: workflow.to_owned(),
            tenant_id: self.engine.tenant.0,
            key: key.to_owned(),
            input,
            priority: None,
            start_at: None,
            gather: None,
        }
    }

    pub(super) async fn start(&self, workflow: &str, key: &str, input: Value) -> Uuid {
        let start = self.new_run(workflow, key, input);
        let once = IdempotencyKey::generate();
        let started = self.client.start_run(&start, &once).await;
        started.unwrap().summary.run_id
    }

    pub(super) async fn signal(&self, run: Uuid, id: &str, signal: Value) {
        let send = SendSignal {
            id: id.to_owned(),
            name: None,
            signal,
            reason: Some("because".to_owned()),
        };
        let once = IdempotencyKey::generate();
        self.client.send_signal(run, &send, &once).await.unwrap();
    }

    /// Does a verb to a run as it stands.
    pub(super) async fn act(&self, run: Uuid, verb: &str, args: ActionArgs) -> ActionAccepted {
        let revision = self.client.run(run).await.unwrap().revision;
        let done = act(&self.client, run, verb, revision, args, false).await;
        done.unwrap()
    }

    /// Works until nothing is due; what is shown of a run then.
    pub(super) async fn settled(&self, run: Uuid) -> RunDetail {
        self.engine.drain().await;
        self.client.run(run).await.unwrap()
    }

    /// What people did to a run and why, oldest first.
    pub(super) async fn audited(&self, run: Uuid) -> Vec<String> {
        let mut conn = connect(&self.engine.options).await;
        sqlx::query_scalar(
            "select action || ': ' || reason
             from engine.audit
             where run_id = $1
             order by at, audit_id",
        )
        .bind(run)
        .fetch_all(&mut conn)
        .await
        .unwrap()
    }

    /// Runs the program against it; whether it ended well, and what it printed.
    pub(super) fn command(&self, args: &[&str]) -> (bool, String) {
        let output = Command::new(tenure())
            .args(args)
            .args(["--url", &self.url, "--token", &self.token])
            .output()
            .unwrap();
        let text = [output.stdout, output.stderr].concat();
        (output.status.success(), String::from_utf8(text).unwrap())
    }
}

//! The same year while the server is killed over and over.
//!
//! Customers speak to a door that sends a request again, under its key, until it is answered: so does a
//! client that means what it asks for. The server behind it, the real program, is killed at random
//! moments, counted in requests that came to the door, or when the provider has done something and
//! keeps the answer back. What was done must be done once.

use std::sync::atomic::{AtomicU64, Ordering};

use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::{Method, Request, StatusCode, Uri};
use axum::response::Response;
use nix::sys::signal::Signal;
use stripe_sandbox::{Failure, FailureKind};
use tenure_client::Client;
use tokio::net::TcpListener;
use tokio::sync::watch;

use super::life::{Chance, World};
use super::{ENOUGH, customers, reconcile};
use crate::crash::Stage;
use crate::support::{self, eventually};

/// A door that sends what is not answered again.
#[derive(Clone)]
struct Door {
    http: reqwest::Client,
    server: String,
    /// How many requests have come.
    came: watch::Sender<u64>,
}

impl Door {
    /// Opens before a server; its own address.
    async fn open(server: String) -> (Self, String) {
        let door = Self {
            http: reqwest::Client::new(),
            server,
            came: watch::Sender::new(0),
        };
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let router = axum::Router::new().fallback(pass).with_state(door.clone());
        tokio::spawn(axum::serve(listener, router).into_future());
        (door, url)
    }

    /// Waits until so many more requests have come.
    async fn requests(&self, more: u64) {
        let last = *self.came.borrow() + more;
        let mut came = self.came.subscribe();
        came.wait_for(|came| *came >= last).await.unwrap();
    }
}

/// Whether the server could not answer: it is away, or another of its connections holds the key still.
fn sends_again(status: StatusCode, body: &[u8]) -> bool {
    let problem: tenure_client::Problem = serde_json::from_slice(body).unwrap_or_default();
    status == StatusCode::SERVICE_UNAVAILABLE || problem.code == "idempotency_key_in_use"
}

async fn pass(State(door): State<Door>, request: Request<Body>) -> Response {
    let (head, body) = request.into_parts();
    let body = axum::body::to_bytes(body, usize::MAX).await.unwrap();
    door.came.send_modify(|came| *came += 1);
    let mut tick = tokio::time::interval(std::time::Duration::from_millis(20));
    loop {
        let sent = send(&door, &head.method, &head.uri, &head.headers, body.clone()).await;
        if let Ok((status, body)) = sent
            && !sends_again(status, &body)
        {
            return Response::builder()
                .status(status)
                .body(Body::from(body))
                .unwrap();
        }
        tick.tick().await;
    }
}

async fn send(
    door: &Door,
    method: &Method,
    uri: &Uri,
    headers: &axum::http::HeaderMap,
    body: Bytes,
) -> reqwest::Result<(StatusCode, Bytes)> {
    let sent = door
        .http
        .request(method.clone(), format!("{}{uri}", door.server))
        .headers(headers.clone())
        .body(body)
        .send()
        .await?;
    Ok((sent.status(), sent.bytes().await?))
}

/// Kills the server over and over, for as long as it is let.
async fn kill(stage: &mut Stage, door: &Door, chance: &mut Chance, kills: &AtomicU64) {
    let direct = stage.client.clone();
    loop {
        door.requests(100 + chance.below(1_400)).await;
        let control = stage.sandbox.control();
        if chance.below(3) == 0 {
            let mut hold = Failure::new(FailureKind::Hold, 1);
            hold.method = Some("POST".to_owned());
            control.fail_next(hold);
            eventually("the provider keeps an answer back", async || {
                control.held_answers() > 0
            })
            .await;
        }
        stage.server.kill();
        kills.fetch_add(1, Ordering::Relaxed);
        if chance.heads() {
            control.forget_idempotency_keys(None).unwrap();
        }
        stage.server.start_ready(&direct).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_year_under_random_kills_adds_up_to_the_cent() {
    let database = support::database_url().await;
    let options = database.parse().unwrap();
    let mut stage = Stage::at(database, &options).await;
    let (door, url) = Door::open(stage.server.url()).await;
    let client = Client::new(&url, &stage.token).unwrap();
    let control = stage.sandbox.control().clone();
    let world = World::open(&client, &control, &options).await;
    let customers = customers(3);
    let mut chance = Chance::of(customers);
    let kills = AtomicU64::new(0);
    tokio::select! {
        () = world.play(customers) => {}
        () = kill(&mut stage, &door, &mut chance, &kills) => {}
    }
    control.forget_failures();
    stage.server.kill();
    let direct = stage.client.clone();
    stage.server.start_ready(&direct).await;
    world.settle().await;
    let kills = kills.into_inner() + 1;
    println!("{kills} kills\n{}", world.tally.told());
    reconcile(&world).await;
    if customers >= ENOUGH {
        world.assert_all_came_about().await;
    }
    assert!(kills >= 10, "only {kills} kills");
    stage.server.signal(Signal::SIGTERM);
    assert!(stage.server.wait(), "an orderly stop is a success");
}

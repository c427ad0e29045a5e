//! The workflows that the engine's promises are tested on.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tenure_engine::{
    ClosePolicy, Context, Event, Exhausted, Reception, Registry, RetryPolicy, StepError,
    Transition, Workflow,
};
use tokio::sync::Notify;

/// The outside: counts what is done to it by key, and misbehaves on request.
#[derive(Clone, Default)]
pub(crate) struct Outside(Arc<OutsideParts>);

#[derive(Default)]
struct OutsideParts {
    calls: Mutex<HashMap<String, Vec<String>>>,
    failures: Mutex<HashMap<String, u32>>,
    panics: Mutex<HashMap<String, u32>>,
    refusals: Mutex<HashMap<String, u32>>,
    /// Calls of which name are held; of any, when it is empty.
    held: Mutex<Option<String>>,
    arrived: Notify,
    released: Notify,
}

impl Outside {
    /// The next `times` calls of `name` fail.
    pub(crate) fn fail(&self, name: &str, times: u32) {
        self.0
            .failures
            .lock()
            .unwrap()
            .insert(name.to_owned(), times);
    }

    /// The next `times` calls of `name` panic.
    pub(crate) fn panic(&self, name: &str, times: u32) {
        self.0.panics.lock().unwrap().insert(name.to_owned(), times);
    }

    /// The next `times` calls of `name` are refused for good.
    pub(crate) fn refuse(&self, name: &str, times: u32) {
        self.0
            .refusals
            .lock()
            .unwrap()
            .insert(name.to_owned(), times);
    }

    /// Calls stay inside until they are released.
    pub(crate) fn hold(&self) {
        self.hold_at("");
    }

    /// Calls of one name stay inside until they are released.
    pub(crate) fn hold_at(&self, name: &str) {
        *self.0.held.lock().unwrap() = Some(name.to_owned());
    }

    pub(crate) fn release(&self) {
        *self.0.held.lock().unwrap() = None;
        self.0.released.notify_waiters();
    }

    /// Waits until a call is inside.
    pub(crate) async fn arrived(&self) {
        self.0.arrived.notified().await;
    }

    /// The idempotency keys with which `name` was called.
    pub(crate) fn keys(&self, name: &str) -> Vec<String> {
        let calls = self.0.calls.lock().unwrap();
        calls.get(name).cloned().unwrap_or_default()
    }

    pub(crate) fn note(&self, name: &str, key: String) {
        let mut calls = self.0.calls.lock().unwrap();
        calls.entry(name.to_owned()).or_default().push(key);
    }

    pub(crate) async fn call(&self, name: &str, key: String) -> Result<String, StepError> {
        self.note(name, key);
        let released = self.0.released.notified();
        let held = self.0.held.lock().unwrap().clone();
        if held.is_some_and(|held| held.is_empty() || held == name) {
            self.0.arrived.notify_one();
            released.await;
        }
        if take(&self.0.panics, name) {
            panic!("{name} panics");
        }
        if take(&self.0.refusals, name) {
            return Err(StepError::terminal("refused", format!("{name} is refused")));
        }
        if take(&self.0.failures, name) {
            return Err(StepError::retryable(
                "outside_down",
                format!("{name} is down"),
            ));
        }
        Ok(format!("{name} done"))
    }
}

fn take(counts: &Mutex<HashMap<String, u32>>, name: &str) -> bool {
    let mut counts = counts.lock().unwrap();
    match counts.get_mut(name) {
        Some(left) if *left > 0 => {
            *left -= 1;
            true
        }
        _ => false,
    }
}

/// Retries within the suite's patience.
pub(crate) const POLICY: RetryPolicy = RetryPolicy {
    initial: Duration::from_secs(60),
    factor: 2.0,
    cap: Duration::from_secs(600),
    max_attempts: 3,
    attempt_timeout: Duration::from_secs(30),
    exhausted: Exhausted::Stuck,
    ..RetryPolicy::DEFAULT
};

/// Two steps one after the other, then a database effect.
pub(crate) struct Errand(pub(crate) Outside);

#[derive(Serialize, Deserialize)]
pub(crate) enum ErrandState {
    Going { rows: i32 },
}

#[derive(PartialEq, Serialize, Deserialize)]
pub(crate) enum Nothing {}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct ErrandOutput {
    pub(crate) answers: Vec<String>,
    pub(crate) now_agrees: bool,
}

impl Workflow for Errand {
    const NAME: &'static str = "errand";
    const VERSION: i32 = 1;
    type Input = i32;
    type State = ErrandState;
    type Signal = Nothing;
    type Output = ErrandOutput;

    fn start(&self, rows: i32) -> ErrandState {
        ErrandState::Going { rows }
    }

    async fn handle(
        &self,
        cx: &Context,
        state: ErrandState,
        event: Event<Nothing>,
    ) -> Result<Transition<Self>, StepError> {
        if event == Event::CancelRequested {
            return Ok(Transition::cancelled());
        }
        let ErrandState::Going { rows } = state;
        let before = (cx.now(), cx.uuid());
        let first = cx
            .step("first", &POLICY, async |step| {
                self.0.call("first", step.key).await
            })
            .await?;
        let shard = cx.shard_id().0;
        let tenant = cx.tenant_id().0;
        let id = before.1;
        cx.transact("effect", async |tx| {
            for _ in 0..rows {
                sqlx::query(
                    "insert into app.debt (tenant_id, currency, shard_id, state) values ($1, $2, $3, 'clear')",
                )
                .bind(tenant)
                .bind(id.to_string())
                .bind(shard)
                .execute(&mut *tx)
                .await?;
            }
            Ok(())
        })
        .await?;
        let second = cx
            .step("second", &POLICY, async |step| {
                // The recorded time and id are the same in every attempt.
                let seen = format!("second {} {}", before.0, before.1);
                self.0.call("second", step.key.clone()).await?;
                self.0.call(&seen, step.key).await
            })
            .await?;
        let recorded = format!("second {} {}", before.0, before.1);
        Ok(Transition::complete(ErrandOutput {
            answers: vec![first, second],
            now_agrees: !self.0.keys(&recorded).is_empty(),
        }))
    }
}

/// A door that opens, closes, waits, and says what it heard.
pub(crate) struct Door;

#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum DoorState {
    Closed { heard: Vec<String> },
    Open { heard: Vec<String> },
}

#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum DoorSignal {
    Open,
    Knock(String),
    Push,
    Finish,
    Wait { seconds: i64 },
    Delay { seconds: u64 },
}

impl Workflow for Door {
    const NAME: &'static str = "door";
    const VERSION: i32 = 1;
    type Input = ();
    type State = DoorState;
    type Signal = DoorSignal;
    type Output = Vec<String>;

    fn start(&self, (): ()) -> DoorState {
        DoorState::Closed { heard: Vec::new() }
    }

    fn receive(&self, state: &DoorState, signal: &DoorSignal) -> Reception {
        match (state, signal) {
            (DoorState::Closed { .. }, DoorSignal::Knock(_)) => Reception::Defer,
            (DoorState::Closed { .. }, DoorSignal::Push) => Reception::Reject("the door is closed"),
            _ => Reception::Accept,
        }
    }

    async fn handle(
        &self,
        cx: &Context,
        state: DoorState,
        event: Event<DoorSignal>,
    ) -> Result<Transition<Self>, StepError> {
        Ok(match (state, event) {
            (DoorState::Closed { heard }, Event::Signal(DoorSignal::Open)) => {
                Transition::go(DoorState::Open { heard })
            }
            (DoorState::Open { mut heard }, Event::Signal(DoorSignal::Knock(who))) => {
                heard.push(who);
                Transition::stay(DoorState::Open { heard })
            }
            (
                DoorState::Open { heard } | DoorState::Closed { heard },
                Event::Signal(DoorSignal::Finish),
            ) => Transition::complete(heard),
            (DoorState::Open { heard }, Event::Signal(DoorSignal::Wait { seconds })) => {
                let at = cx.now() + chrono::TimeDelta::seconds(seconds);
                Transition::stay(DoorState::Open { heard }).at("bell", at)
            }
            (DoorState::Open { heard }, Event::Signal(DoorSignal::Delay { seconds })) => {
                Transition::stay(DoorState::Open { heard })
                    .after("timer", Duration::from_secs(seconds))
            }
            (DoorState::Open { mut heard }, Event::Deadline(name)) => {
                heard.push(name);
                Transition::stay(DoorState::Open { heard })
            }
            (_, Event::CancelRequested) => Transition::cancelled(),
            (state, _) => Transition::stay(state),
        })
    }
}

/// Starts children and waits for all of them.
pub(crate) struct Family;

#[derive(Serialize, Deserialize)]
pub(crate) enum FamilyState {
    Waiting {
        names: Vec<String>,
        ended: Vec<String>,
    },
}

impl Workflow for Family {
    const NAME: &'static str = "family";
    const VERSION: i32 = 1;
    type Input = Vec<String>;
    type State = FamilyState;
    type Signal = Nothing;
    type Output = Vec<String>;

    fn start(&self, names: Vec<String>) -> FamilyState {
        FamilyState::Waiting {
            names,
            ended: Vec::new(),
        }
    }

    async fn handle(
        &self,
        _cx: &Context,
        state: FamilyState,
        event: Event<Nothing>,
    ) -> Result<Transition<Self>, StepError> {
        let FamilyState::Waiting { names, mut ended } = state;
        Ok(match event {
            Event::Entered => {
                let mut transition = Transition::stay(FamilyState::Waiting {
                    names: names.clone(),
                    ended,
                });
                for name in names {
                    transition = transition.start::<Errand>(name, &0);
                }
                transition
            }
            Event::RunFinished(run) => {
                ended.push(format!("{} {}", run.key, run.status));
                if ended.len() == names.len() {
                    ended.sort();
                    Transition::complete(ended)
                } else {
                    Transition::stay(FamilyState::Waiting { names, ended })
                }
            }
            Event::CancelRequested => Transition::cancelled(),
            Event::Signal(_) | Event::Deadline(_) | Event::Joined(_) | Event::RunDeadline => {
                Transition::stay(FamilyState::Waiting { names, ended })
            }
        })
    }
}

/// Starts one door a policy, and ends on request.
pub(crate) struct House;

#[derive(Serialize, Deserialize)]
pub(crate) enum HouseState {
    Standing,
}

#[derive(Serialize, Deserialize)]
pub(crate) enum HouseSignal {
    Leave,
}

impl Workflow for House {
    const NAME: &'static str = "house";
    const VERSION: i32 = 1;
    type Input = ();
    type State = HouseState;
    type Signal = HouseSignal;
    type Output = ();

    fn start(&self, (): ()) -> HouseState {
        HouseState::Standing
    }

    async fn handle(
        &self,
        cx: &Context,
        state: HouseState,
        event: Event<HouseSignal>,
    ) -> Result<Transition<Self>, StepError> {
        let key = cx.key();
        Ok(match event {
            Event::Entered => Transition::stay(state)
                .start::<Door>(format!("{key}-left"), &())
                .start_closing::<Door>(format!("{key}-cancelled"), &(), ClosePolicy::Cancel)
                .start_closing::<Door>(format!("{key}-terminated"), &(), ClosePolicy::Terminate),
            Event::Signal(HouseSignal::Leave) => Transition::complete(()),
            Event::CancelRequested => Transition::cancelled(),
            Event::Deadline(_) | Event::RunFinished(_) | Event::Joined(_) | Event::RunDeadline => {
                Transition::stay(state)
            }
        })
    }
}

/// Books three things one after the other, and reverses them if it cannot have all.
pub(crate) struct Booking(pub(crate) Outside);

#[derive(Serialize, Deserialize)]
pub(crate) enum BookingState {
    Booking,
}

impl Workflow for Booking {
    const NAME: &'static str = "booking";
    const VERSION: i32 = 1;
    type Input = ();
    type State = BookingState;
    type Signal = Nothing;
    type Output = ();

    fn start(&self, (): ()) -> BookingState {
        BookingState::Booking
    }

    async fn handle(
        &self,
        cx: &Context,
        _state: BookingState,
        event: Event<Nothing>,
    ) -> Result<Transition<Self>, StepError> {
        if event == Event::CancelRequested {
            return Ok(Transition::cancelled());
        }
        for (number, (thing, reverse)) in [
            ("flight", "cancel-flight"),
            ("hotel", "cancel-hotel"),
            ("car", "cancel-car"),
        ]
        .into_iter()
        .enumerate()
        {
            cx.on_undo(reverse, &number);
            cx.step(thing, &POLICY, async |step| {
                self.0.call(thing, step.key).await
            })
            .await?;
        }
        Ok(Transition::complete(()))
    }

    async fn undo(
        &self,
        cx: &Context,
        name: &str,
        args: serde_json::Value,
    ) -> Result<(), StepError> {
        self.0.note("reversed", format!("{name} {args}"));
        let reverse = name.to_owned();
        cx.step("reverse", &POLICY, async |step| {
            self.0.call(&reverse, step.key).await
        })
        .await?;
        Ok(())
    }
}

/// A shop that is swept and locked when it is told to close.
pub(crate) struct Shop(pub(crate) Outside);

#[derive(Serialize, Deserialize)]
pub(crate) enum ShopState {
    Open,
}

impl Workflow for Shop {
    const NAME: &'static str = "shop";
    const VERSION: i32 = 1;
    type Input = ();
    type State = ShopState;
    type Signal = Nothing;
    type Output = ();

    fn start(&self, (): ()) -> ShopState {
        ShopState::Open
    }

    async fn handle(
        &self,
        cx: &Context,
        state: ShopState,
        event: Event<Nothing>,
    ) -> Result<Transition<Self>, StepError> {
        if event != Event::CancelRequested {
            return Ok(Transition::stay(state));
        }
        for thing in ["sweep", "lock"] {
            cx.step(thing, &POLICY, async |step| {
                self.0.call(thing, step.key).await
            })
            .await?;
        }
        Ok(Transition::cancelled())
    }
}

/// All of them.
pub(crate) fn registry(outside: &Outside) -> Registry {
    Registry::builder()
        .register(Errand(outside.clone()))
        .register(Door)
        .register(Family)
        .register(House)
        .register(Booking(outside.clone()))
        .register(Shop(outside.clone()))
        .build()
        .unwrap()
}

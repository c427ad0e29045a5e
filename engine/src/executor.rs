//! One held run: choose the event, visit, plan the settlement, settle; again while there is more.
//!
//! Runs on the worker's own threads, so that workflow code need not be `Send`. Nothing here
//! decides (see `choose.rs` and `plan.rs`) or writes (see `committer.rs`).

use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use futures_util::FutureExt;
use sqlx::PgPool;
use tokio_util::sync::CancellationToken;
use tracing::Instrument as _;
use tracing::field::Empty;

use crate::breaker::Breakers;
use crate::choose::{self, Mark, NextEvent};
use crate::clock;
use crate::committer::{Committer, Landing, SettleResult};
use crate::context::{self, Context, Occasion, Tools, panic_text};
use crate::error::EngineError;
use crate::gate::{self, Place};
use crate::gather;
use crate::id::WorkerId;
use crate::journal::Entry;
use crate::plan::{self, Settlement, VisitEnd};
use crate::registry::{ErasedEvent, Handler, Registry, Unfit, VisitError};
use crate::run::{ClaimedRun, InboxItem, SignalOutcome, Status};
use crate::seal::{self, Keyring, TenantKeys, Unreadable};
use crate::seats::Seats;
use crate::store;
use crate::store::settle::Settled;
use crate::tally;
use crate::testkit::Moment;
use crate::undo::{self, Reverse};
use crate::workflow::Reception;

/// How many visits a run may have in a row before others get their turn.
const MAX_VISITS_IN_A_ROW: u32 = 64;

/// A run in a worker's hands, with what was loaded for it.
#[derive(Debug)]
pub(crate) struct Held {
    pub(crate) run: ClaimedRun,
    pub(crate) inbox: Vec<InboxItem>,
    pub(crate) journal: Vec<Entry>,
    /// The event that the journal's answers belong to.
    pub(crate) pin: Option<String>,
    /// The room that it was given at the gate.
    pub(crate) permits: Vec<Place>,
    /// The inputs of a batch that has not begun.
    pub(crate) batch: Option<Vec<Vec<u8>>>,
    /// Why its payloads could not be opened, if they could not.
    pub(crate) sealed: Option<Sealed>,
    /// The record of its last step, while it is on its way.
    pub(crate) landing: Option<Landing>,
}

/// Why a run's payloads are not open.
#[derive(Debug)]
pub(crate) enum Sealed {
    /// Its keys cannot be had just now.
    ForNow(String),
    /// They never can.
    ForGood(String),
}

impl Held {
    /// Opens what was loaded.
    pub(crate) async fn open(&mut self, keyring: &Keyring) {
        let sealed = match keyring.of(self.run.tenant_id).await {
            Ok(keys) => self.open_with(keys).map_err(|error| match error {
                Unreadable::NoMasterKey => Sealed::ForNow(error.to_string()),
                _ => Sealed::ForGood(error.to_string()),
            }),
            Err(error @ EngineError::KeysDestroyed(_)) => Err(Sealed::ForGood(error.to_string())),
            Err(error) => Err(Sealed::ForNow(error.to_string())),
        };
        self.sealed = sealed.err();
    }

    fn open_with(&mut self, keys: TenantKeys) -> Result<(), Unreadable> {
        self.run.open(keys)?;
        if let Some(inputs) = &mut self.batch {
            for input in inputs.iter_mut() {
                seal::open_in_place(&self.run.keys, input)?;
            }
            self.run.data = gather::join_inputs(inputs.iter().map(Vec::as_slice));
        }
        for item in &mut self.inbox {
            seal::open_in_place(&self.run.keys, &mut item.payload)?;
        }
        for entry in &mut self.journal {
            seal::open_in_place(&self.run.keys, &mut entry.answer)?;
        }
        Ok(())
    }
}

/// How a run left a worker's hands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Departure {
    /// Written down: it rests, ended, or is parked.
    Settled,
    /// A newer version wrote it, and a worker that handles that has it now.
    HandedOver,
    /// Nothing was written: it is somebody else's by now, or still booked as held here.
    Unclear,
}

/// What every executor of a worker shares.
#[derive(Clone)]
pub(crate) struct Executor {
    pub(crate) pool: PgPool,
    pub(crate) registry: Registry,
    pub(crate) committer: Committer,
    pub(crate) draining: CancellationToken,
    pub(crate) worker: WorkerId,
    pub(crate) breakers: Arc<Breakers>,
    pub(crate) seats: Arc<Seats>,
}

impl Executor {
    /// Works on a held run until it rests, ends, or is somebody else's.
    pub(crate) async fn drive(&self, mut held: Held) -> Departure {
        let known = self.registry.find(&held.run.workflow);
        // What a newer version wrote is not for this build to judge: a rollback strands nothing.
        let able = known.filter(|handler| handler.version() >= held.run.version);
        let Some(handler) = able else {
            return self.give_back(&held.run).await;
        };
        if let Some(sealed) = &held.sealed {
            return self.leave_sealed(&held.run, sealed).await;
        }
        let mut visits = 0;
        loop {
            visits += 1;
            if !self.committer.is_trusted() {
                return Departure::Unclear;
            }
            let may_keep = visits < MAX_VISITS_IN_A_ROW && !self.draining.is_cancelled();
            let begun = clock::monotonic();
            // Below what is logged, for whoever exports traces.
            let span = tracing::debug_span!(
                "visit",
                run.id = %held.run.key.run_id,
                run.visit = held.run.visit,
                workflow = handler.name(),
                event = Empty,
                outcome = Empty,
            );
            let written = async {
                let settlement = self.visit(&*handler, &mut held, may_keep).await?;
                let (name, event) = (handler.name(), &settlement.log.event);
                if let Some(landing) = held.landing.as_mut().filter(|_| self.registry.is_played()) {
                    landing.known().await;
                }
                let moment = Moment::Settling;
                self.registry.pass(moment, name, event).await.ok()?;
                self.settle(&mut held, settlement).await
            };
            let written = written.instrument(span.clone()).await;
            let Some((settlement, settled)) = written else {
                // Whoever has the run next reads its journal: nothing of this hold may come after.
                if let Some(landing) = held.landing.take() {
                    let _ = landing.done().await;
                }
                span.record("outcome", tally::UNSETTLED);
                tally::visited(handler.name(), tally::UNSETTLED, begun.elapsed());
                return Departure::Unclear;
            };
            span.record("event", &settlement.log.event);
            span.record("outcome", settlement.log.outcome);
            tally::visited(handler.name(), settlement.log.outcome, begun.elapsed());
            if !settled.held {
                return Departure::Settled;
            }
            self.go_on(&mut held, *settlement, settled).await;
        }
    }

    /// One visit, planned to its settlement; `None` when nothing may be written.
    async fn visit(
        &self,
        handler: &dyn Handler,
        held: &mut Held,
        may_keep: bool,
    ) -> Option<Settlement> {
        begin_run(handler, &mut held.run);
        match choose(handler, held) {
            Ok((event, marks)) => self.answer(handler, held, may_keep, event, marks).await,
            Err(panic) => {
                let end = VisitEnd::Panicked(panic);
                plan::settle(&held.run, "claimed", None, end, clock::chance())
            }
        }
    }

    /// Answers the event that was chosen.
    async fn answer(
        &self,
        handler: &dyn Handler,
        held: &mut Held,
        mut may_keep: bool,
        event: NextEvent,
        mut marks: Vec<Mark>,
    ) -> Option<Settlement> {
        let (label, pin) = (event.label(), event.pin());
        let over = matches!(event, NextEvent::RunDeadline(_));
        let cancels = matches!(event, NextEvent::Cancel(_));
        let (erased, mut consumed, deadline) = match event {
            NextEvent::Nothing => return Some(rest(handler, held, marks)),
            NextEvent::Abandon => {
                let reverses = undo::registered(&held.journal);
                return Some(abandon(handler, held, reverses, may_keep));
            }
            NextEvent::UndoEnd => {
                let settled =
                    plan::settle(&held.run, &label, None, VisitEnd::Undone, clock::chance())?;
                return Some(finished(handler, held, settled, may_keep));
            }
            NextEvent::Undo(reverse) => {
                let end = self.run_reverse(handler, held, pin, &reverse).await;
                let settled = plan::settle(&held.run, &label, None, end, clock::chance())?;
                return Some(finished(handler, held, settled, may_keep));
            }
            NextEvent::Terminate(item) => return Some(terminate(&held.run, item)),
            NextEvent::Entered => (ErasedEvent::Entered, Vec::new(), None),
            NextEvent::Cancel(item) => (ErasedEvent::CancelRequested, vec![item], None),
            NextEvent::Signal(item) => {
                (ErasedEvent::Signal(item.payload.clone()), vec![item], None)
            }
            NextEvent::Finished(item) => {
                let (event, items) = ends(handler, item, &mut held.inbox);
                // What did not fit the page is read by the next claim.
                may_keep &= items.len() < store::claim::INBOX_PAGE;
                (event, items, None)
            }
            NextEvent::RunDeadline(deadline) => {
                (ErasedEvent::RunDeadline, Vec::new(), Some(deadline))
            }
            NextEvent::Deadline(deadline) => (
                ErasedEvent::Deadline(deadline.name.clone()),
                Vec::new(),
                Some(deadline),
            ),
        };
        let occasion = Occasion::of(pin.clone(), consumed.first());
        held.pin = Some(pin.clone());
        let (end, reverses) = self.run_handler(handler, held, occasion, erased).await;
        let answered = matches!(end, VisitEnd::Answered(_));
        let mut settlement =
            plan::settle(&held.run, &label, deadline.as_ref(), end, clock::chance())?;
        let gives_way = choose::gives_way(&held.run, &held.inbox, over, cancels);
        if settlement.status == Status::Stuck && gives_way {
            held.inbox.extend(consumed);
            return Some(abandon(handler, held, reverses, may_keep));
        }
        if let Some(error) = &mut settlement.run.error {
            error.event.get_or_insert(pin);
        }
        if answered {
            settlement.run.version = handler.version();
            marks.extend(consumed.drain(..).map(accepted));
        }
        if let Some(deadline) = deadline.filter(|_| over && answered) {
            settlement = plan::past_run_deadline(settlement, &deadline);
        }
        let mut settlement = undo_or_keep(settlement, reverses);
        settlement.marks = marks;
        if settlement.status == Status::Undoing {
            // What was consumed by the visit that failed is not handled again.
            settlement.marks.extend(consumed.into_iter().map(accepted));
        }
        Some(finished(handler, held, settlement, may_keep))
    }

    /// Runs the handler; how it ended, and the reverses that it registered.
    async fn run_handler(
        &self,
        handler: &dyn Handler,
        held: &mut Held,
        occasion: Occasion,
        event: ErasedEvent,
    ) -> (VisitEnd, Vec<Reverse>) {
        let cx = self.context(handler, held, occasion);
        let visit = handler.visit(&cx, held.run.version, &held.run.data, event);
        let answered = |answer| VisitEnd::Answered(Box::new(answer));
        let end = run_to_end(&cx, visit, answered).await;
        let end = land(&cx, held, end).await;
        (end, cx.take_reverses())
    }

    async fn run_reverse(
        &self,
        handler: &dyn Handler,
        held: &mut Held,
        pin: String,
        reverse: &Reverse,
    ) -> VisitEnd {
        let cx = self.context(handler, held, Occasion::of(pin, None));
        let end = run_to_end(&cx, handler.undo(&cx, reverse), |()| VisitEnd::Undone).await;
        land(&cx, held, end).await
    }

    fn context(&self, handler: &dyn Handler, held: &mut Held, occasion: Occasion) -> Context {
        let mut run = held.run.clone();
        run.version = handler.version();
        Context::new(
            run,
            occasion,
            std::mem::take(&mut held.journal),
            Tools {
                committer: self.committer.clone(),
                pool: self.pool.clone(),
                seats: self.seats.clone(),
                breakers: self.breakers.clone(),
                permits: held.permits.clone(),
                registry: self.registry.clone(),
            },
        )
    }

    /// Settles; a settlement that the database refuses (a bad value, a signal to nobody) is a failed
    /// attempt of the visit, and one that can never be made (a ring of children) its end.
    async fn settle(
        &self,
        held: &mut Held,
        mut settlement: Settlement,
    ) -> Option<(Box<Settlement>, Settled)> {
        let landing = held.landing.take();
        if let Some(dependency) = settlement.shut {
            return self.park(settlement, dependency).await;
        }
        let label = settlement.log.event.clone();
        let reverses = std::mem::take(&mut settlement.reverses);
        let marks = (!reverses.is_empty()).then(|| settlement.marks.clone());
        let end = match self.committer.settle(settlement, landing).await {
            SettleResult::Settled(settlement, settled) => return Some((settlement, settled)),
            SettleResult::Fenced => return None,
            SettleResult::Failed(error) => {
                tracing::warn!(error = %error, "a settlement was refused");
                VisitEnd::Failed(error)
            }
            SettleResult::Unrecorded(error) => {
                tracing::warn!(error = %error.message, "the record of a step was refused");
                VisitEnd::Suspended(context::not_recordable(error))
            }
        };
        let mut failed = plan::settle(&held.run, &label, None, end, clock::chance())?;
        if failed.stuck == Some("terminal_error") {
            failed = plan::begin_undo(failed, reverses);
        }
        if failed.status == Status::Undoing {
            failed.marks = marks.unwrap_or_default();
        }
        if let Some(error) = &mut failed.run.error {
            error.event = error.event.take().or(held.pin.take());
        }
        // It is let go, so there is nothing to go on with.
        plan::rest_or_keep(&mut failed, false, false);
        if let SettleResult::Failed(error) = self.committer.settle(failed, None).await {
            tracing::error!(error = %error, "cannot settle a failed attempt; the lease will tell");
        }
        None
    }

    /// Leaves a run at a breaker; when the database does not answer, the lease will tell.
    async fn park(
        &self,
        settlement: Settlement,
        dependency: &str,
    ) -> Option<(Box<Settlement>, Settled)> {
        match gate::park(&self.pool, self.worker, &settlement, dependency).await {
            Ok(settled) => {
                // It may be the one that probes.
                self.committer.ring();
                settled.map(|settled| (Box::new(settlement), settled))
            }
            Err(error) => {
                tracing::warn!(error = %error, "cannot leave a run at a breaker");
                None
            }
        }
    }

    /// Takes up the run again after a settlement that kept it.
    async fn go_on(&self, held: &mut Held, settlement: Settlement, settled: Settled) {
        held.run = settlement.run;
        held.run.visit += i64::from(settlement.cut);
        held.run.begun &= !settlement.cut;
        held.run.now = settled.now;
        held.run.tenant_now = settled.tenant_now;
        held.pin = None;
        held.journal.clear();
        if settled.nudged {
            match self.reload_inbox(&held.run).await {
                Ok(inbox) => held.inbox = inbox,
                // The mark stays on the run: it is looked at again when it rests.
                Err(error) => tracing::warn!(
                    run.id = %held.run.key.run_id, error = %error, "could not reload an inbox"
                ),
            }
        }
    }

    async fn reload_inbox(&self, run: &ClaimedRun) -> sqlx::Result<Vec<InboxItem>> {
        let mut conn = self.pool.acquire().await?;
        let mut inbox = store::claim::list_pending(&mut conn, &[run.key]).await?;
        for item in &mut inbox {
            let opened = seal::open_in_place(&run.keys, &mut item.payload);
            opened.map_err(|error| sqlx::Error::Decode(error.into()))?;
        }
        Ok(inbox)
    }

    /// A run whose workflow, or its version, this worker does not know: back to a worker that does,
    /// or parked.
    async fn give_back(&self, run: &ClaimedRun) -> Departure {
        let handled = match self.is_handled(run).await {
            Ok(handled) => handled,
            Err(_) => return Departure::Unclear,
        };
        let settlement = if handled {
            plan::hand_over(run, clock::chance())
        } else {
            plan::no_handler(run)
        };
        match self.committer.settle(settlement, None).await {
            SettleResult::Settled(..) => {}
            _ => return Departure::Unclear,
        }
        // A worker that came up in between has looked for parked runs before this one was there.
        if !handled && let Err(error) = self.unpark_if_handled(run).await {
            tracing::warn!(
                run.id = %run.key.run_id, error = %error, "could not look again for a handler"
            );
        }
        if handled && self.registry.knows(&run.workflow) {
            Departure::HandedOver
        } else {
            Departure::Settled
        }
    }

    /// A run whose payloads cannot be opened: later again, or stuck, with all as it is stored.
    async fn leave_sealed(&self, run: &ClaimedRun, sealed: &Sealed) -> Departure {
        match self
            .committer
            .settle(plan::sealed(run, sealed, clock::chance()), None)
            .await
        {
            SettleResult::Settled(..) => Departure::Settled,
            _ => Departure::Unclear,
        }
    }

    async fn is_handled(&self, run: &ClaimedRun) -> sqlx::Result<bool> {
        let mut conn = self.pool.acquire().await?;
        store::lease::is_handled(&mut conn, &run.workflow, run.version).await
    }

    async fn unpark_if_handled(&self, run: &ClaimedRun) -> sqlx::Result<()> {
        if self.is_handled(run).await? {
            let mut conn = self.pool.acquire().await?;
            let handled = [(run.workflow.clone(), run.version)];
            store::lease::unpark_handled(&mut conn, &handled).await?;
        }
        Ok(())
    }
}

/// The end of another run; all that wait, if the handler gathers.
fn ends(
    handler: &dyn Handler,
    item: InboxItem,
    inbox: &mut Vec<InboxItem>,
) -> (ErasedEvent, Vec<InboxItem>) {
    if !handler.gathers() {
        let event = ErasedEvent::RunFinished(item.payload.clone());
        return (event, vec![item]);
    }
    let items = choose::gather(item, inbox);
    let payloads = items.iter().map(|item| item.payload.clone());
    (ErasedEvent::Gathered(payloads.collect()), items)
}

/// A run that was never visited gets the deadline that its workflow gives to all.
fn begin_run(handler: &dyn Handler, run: &mut ClaimedRun) {
    let limit = handler.run_deadline().filter(|_| run.visit == 0);
    if let Some(limit) = limit.filter(|_| choose::run_deadline(run).is_none()) {
        let began = choose::starts_at(run).unwrap_or(run.started_at);
        plan::set_run_deadline(run, began + limit);
    }
}

/// The next event; an error when the workflow's code panics on the question.
fn choose(handler: &dyn Handler, held: &mut Held) -> Result<(NextEvent, Vec<Mark>), String> {
    // The gate asked and was not answered.
    handler.needs(held.run.version, &held.run.data)?;
    ask(handler, &held.run, &mut held.inbox, held.pin.as_deref())
}

fn ask(
    handler: &dyn Handler,
    run: &ClaimedRun,
    inbox: &mut Vec<InboxItem>,
    pin: Option<&str>,
) -> Result<(NextEvent, Vec<Mark>), String> {
    let mut panicked = None;
    let chosen = choose::next_event(run, inbox, pin, |item| {
        match handler.receive(run.version, &run.data, &item.payload) {
            Ok(reception) => Ok(reception),
            Err(Unfit::Malformed(reason)) => Err(reason),
            Err(Unfit::Panicked(panic)) => {
                panicked.get_or_insert(panic);
                Ok(Reception::Defer)
            }
        }
    });
    match panicked {
        Some(panic) => Err(panic),
        None => Ok(chosen),
    }
}

/// Nothing to do: rest until the earliest deadline, keeping the marks of rejected signals.
fn rest(handler: &dyn Handler, held: &Held, marks: Vec<Mark>) -> Settlement {
    let mut settlement = plan::rest(&held.run);
    settlement.marks = marks;
    finish_plan(handler, held, &mut settlement, false);
    settlement
}

/// Gives up the visit that fails; the cancel that waits comes next.
fn abandon(
    handler: &dyn Handler,
    held: &Held,
    reverses: Vec<Reverse>,
    may_keep: bool,
) -> Settlement {
    finished(handler, held, plan::abandon(&held.run, reverses), may_keep)
}

fn terminate(run: &ClaimedRun, asked: InboxItem) -> Settlement {
    let mut settlement = plan::terminated(run);
    settlement.marks = vec![accepted(asked)];
    settlement
}

fn accepted(item: InboxItem) -> Mark {
    Mark {
        signal_id: item.signal_id,
        outcome: SignalOutcome::Accepted,
        reason: None,
    }
}

/// Runs workflow code until it answers, is cut off, or panics.
async fn run_to_end<T>(
    cx: &Context,
    visit: impl Future<Output = Result<T, VisitError>>,
    answered: impl FnOnce(T) -> VisitEnd,
) -> VisitEnd {
    let visit = AssertUnwindSafe(cx.run_until_suspended(visit)).catch_unwind();
    match visit.await {
        Ok(Ok(Ok(answer))) => answered(answer),
        Ok(Ok(Err(VisitError::Failed(error)))) => VisitEnd::Failed(error),
        Ok(Ok(Err(VisitError::Undecodable(message)))) => VisitEnd::Undecodable(message),
        Ok(Err(suspension)) => VisitEnd::Suspended(suspension),
        Err(panic) => VisitEnd::Panicked(panic_text(&*panic)),
    }
}

/// Waits for what a visit has recorded. Only the newest record of one that answered is left on its way, for
/// the settlement to go with it; whatever else ended it comes after all of them.
async fn land(cx: &Context, held: &mut Held, end: VisitEnd) -> VisitEnd {
    let mut landings = cx.take_landings();
    if matches!(end, VisitEnd::Answered(_) | VisitEnd::Undone) {
        held.landing = landings.pop_back();
    }
    let mut cut_off = None;
    for landing in landings {
        let landed = landing.done().await;
        cut_off = cut_off.or(context::cut_off_by(landed));
    }
    cut_off.map_or(end, VisitEnd::Suspended)
}

/// Completes a plan: see [`finish_plan`].
fn finished(
    handler: &dyn Handler,
    held: &Held,
    mut settlement: Settlement,
    may_keep: bool,
) -> Settlement {
    finish_plan(handler, held, &mut settlement, may_keep);
    settlement
}

/// Begins to undo what failed for good; else what it registered stays with it.
fn undo_or_keep(mut settlement: Settlement, reverses: Vec<Reverse>) -> Settlement {
    if settlement.stuck == Some("terminal_error") {
        return plan::begin_undo(settlement, reverses);
    }
    settlement.reverses = reverses;
    settlement
}

/// Completes a plan with whether another event is ready for the state that the run goes to.
fn finish_plan(handler: &dyn Handler, held: &Held, settlement: &mut Settlement, may_keep: bool) {
    if settlement.status == Status::Undoing {
        plan::rest_or_keep(settlement, true, may_keep);
        return;
    }
    if settlement.status != Status::Waiting {
        return;
    }
    let mut inbox = held.inbox.clone();
    let run = &settlement.run;
    let more = match ask(handler, run, &mut inbox, None) {
        // Signals that the new state rejects need a visit's settlement of their own.
        Ok((next, marks)) => !matches!(next, NextEvent::Nothing) || !marks.is_empty(),
        // The next visit tells.
        Err(_) => true,
    };
    // What needs room asks for it at the gate.
    let needs = handler.needs(run.version, &run.data);
    let may_keep = may_keep && needs.is_ok_and(|needs| needs.is_empty());
    plan::rest_or_keep(settlement, more, may_keep);
}

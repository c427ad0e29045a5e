//! What each state does. A visit first writes down where the deletion is, in a journaled transaction of
//! the system tenant; what follows may be done again at any time, and decides where it goes.

use std::time::{Duration, Instant};

use chrono::{DateTime, Days, TimeDelta, Utc};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use sqlx::PgConnection;
use tenure_engine::forget;
use tenure_engine::operator::{Act, Verb};
use tenure_engine::{
    Context, EngineError, RetryPolicy, SYSTEM_TENANT, StepError, TenantId, Transition,
};
use uuid::Uuid;

use super::erase::{self, Eraser, Ground, Leftover, Reach, Trouble};
use super::rules::{self, FIRST_CHUNK, Planned, Realm, WHOLE};
use super::store::{self, Known};
use super::{
    COOLED, DeletionWorkflow, END_EVERY, EXPORT_EVERY, HOLD_EVERY, Job, KeptArchivesWorkflow, LOOK,
    NEAR, OVERDUE, Output, Stage, State, Unit, archives, as_eraser, deed, is_restorable, source,
};
use crate::certificate;
use crate::door::{as_control, as_engine, as_tenant};
use crate::export::{self, ExportWorkflow};
use crate::hold::{self, HoldRow, Kind};
use crate::keeping;
use crate::ports::stripe::STRIPE;
use crate::product::Place;
use crate::subscription::intent::{Act as SubscriptionAct, When};
use crate::subscription::money::CreditPolicy;
use crate::tenant;

type Moved = Result<Transition<DeletionWorkflow>, StepError>;

const NOTE: &str = "note";
const DECIDE: &str = "decide";
const DELETE_CUSTOMER: &str = "delete-customer";
const NOTE_RECEIPTS: &str = "note-receipts";
const NOTE_VERIFICATION: &str = "note-verification";
const CERTIFY: &str = "certify";

/// Why archives stay.
const ARCHIVES_STAY: &str = "what the law keeps, as it was archived; the records of kind archives_kept say which law and until when";
/// How long subscriptions, payments and mails may take to come to their own end.
const OWN_END: TimeDelta = TimeDelta::minutes(10);
/// How long what was asked to cancel may take, before it is terminated.
const ASKED_END: TimeDelta = TimeDelta::seconds(30);
/// How long one visit erases; then it is seen how far it is, and whether it is held.
const SLICE: Duration = Duration::from_secs(2);
/// What is waited for before anything is asked to cancel.
const OWN_END_FIRST: [&str; 4] = ["subscription", "payment", "refund", "notice"];

impl DeletionWorkflow {
    fn reach(&self) -> Reach<'_> {
        Reach::of(&self.environment)
    }

    /// Says where it is, with what was done on the way there, if that belongs into the chain.
    async fn note(
        &self,
        cx: &Context,
        job: &Job,
        (state, detail): (&'static str, Option<String>),
        record: Option<Value>,
    ) -> Result<(), StepError> {
        let deletion = job.deletion_id;
        cx.transact(NOTE, async |tx| {
            store::apply_state(tx, deletion, state, detail.as_deref()).await?;
            if let Some(record) = &record {
                store::append(tx, deletion, record).await?;
            }
            Ok(())
        })
        .await
    }

    pub(super) async fn wait_for_second(&self, cx: &Context, job: Job) -> Moved {
        let detail = "it waits for a second person to approve it".to_owned();
        let record = json!({ "kind": "requested", "at": cx.now() });
        self.note(cx, &job, ("requested", Some(detail)), Some(record))
            .await?;
        Ok(watched(State::Requested { job }))
    }

    pub(super) async fn approve(&self, cx: &Context, job: Job, by: &str) -> Moved {
        let (deletion, now) = (job.deletion_id, cx.now());
        let approved: bool = cx
            .transact(DECIDE, async |tx| {
                let approved = store::apply_approval(tx, deletion, by, now).await?;
                if approved {
                    store::append(tx, deletion, &deed("approved", by, None, now)).await?;
                }
                Ok(approved)
            })
            .await?;
        Ok(match approved {
            true => Transition::go(State::Verified { job }),
            false => Transition::stay(State::Requested { job }),
        })
    }

    /// Takes it back; the run says so and goes on where that is no longer possible.
    pub(super) async fn cancel(&self, cx: &Context, state: State, why: (&str, &str)) -> Moved {
        if !is_restorable(&state) {
            return Ok(Transition::stay(state));
        }
        let mut state = state;
        let job = state.job_mut().clone();
        let (deletion, now) = (job.deletion_id, cx.now());
        let (by, reason) = why;
        cx.transact(DECIDE, async |tx| {
            store::append(tx, deletion, &deed("cancelled", by, Some(reason), now)).await?;
            Ok(store::end(tx, deletion, "cancelled", None, now).await?)
        })
        .await?;
        let mut tx = tenure_engine::begin(self.environment.engine()).await?;
        let tenant_now = tenure_engine::tenant::now(&mut tx, job.subject).await?;
        tenure_engine::tenant::reopen(&mut tx, job.subject).await?;
        as_eraser(&mut tx, job.subject).await?;
        let placed = source(deletion);
        store::lift_hold(&mut tx, job.subject, &placed, why, tenant_now).await?;
        if let Some(export) = &job.export {
            as_tenant(&mut tx, job.subject).await?;
            let shard = tenant::find(&mut tx, job.subject).await?.shard_id;
            export::rows::end(&mut tx, shard, export.export_id).await?;
            self.end_export(&mut tx, export).await?;
        }
        tx.commit().await?;
        Ok(Transition::cancelled())
    }

    /// Lets the run of an export come to its end, if it has begun: what it wrote is destroyed.
    async fn end_export(
        &self,
        conn: &mut PgConnection,
        export: &export::Input,
    ) -> Result<(), StepError> {
        let nobody = || StepError::retryable("not_connected", "no worker can end runs here yet");
        let client = self.environment.client().ok_or_else(nobody)?;
        as_engine(conn).await?;
        let key = export.export_id.to_string();
        let run = client.find_by_key::<ExportWorkflow>(conn, SYSTEM_TENANT, &key);
        let Some(run) = run.await? else {
            return Ok(());
        };
        match client.cancel(conn, SYSTEM_TENANT, run).await {
            Ok(_) | Err(EngineError::RunFinished { .. }) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// Looks at everything that could stand in the way, and changes nothing.
    pub(super) async fn verify(&self, cx: &Context, mut job: Job) -> Moved {
        let detail = Some("it is looked at what could stand in the way".to_owned());
        self.note(cx, &job, ("verified", detail), None).await?;
        if let Some(reason) = self.held(job.subject).await? {
            return Ok(held(job, Stage::Verified, reason));
        }
        match self.check(&job).await {
            Ok(checked) => {
                if let (Some(export), Some((place, ground))) = (&mut job.export, &checked) {
                    // From here on it does not move; it may have since it was asked for.
                    export.source.clone_from(&place.source);
                    export.map_version = ground.map.version;
                }
                job.map_version = checked.map(|(_, ground)| ground.map.version);
                Ok(Transition::go(State::CoolingOff { job }))
            }
            Err(trouble) => failed(job, Stage::Verified, trouble),
        }
    }

    /// The tenant's place under the newest map, if the map is true of it.
    async fn check(&self, job: &Job) -> Result<Option<(Place, Ground)>, Trouble> {
        if self.environment.signing_key().is_none() {
            let words = "nothing signs certificates here";
            return Err(Trouble::named("no_signing_key", words));
        }
        let Some(place) = erase::find_place(self.reach(), job.subject).await? else {
            return Ok(None);
        };
        let ground = erase::open(self.reach(), job.subject, &place, None).await?;
        let findings = ground.findings();
        if let Some(first) = findings.first() {
            let column = first.column.as_ref().map(|name| format!(".{name}"));
            let message = format!(
                "the data map is not true in {} places, the first being {}{}: {}",
                findings.len(),
                first.table,
                column.unwrap_or_default(),
                first.detail
            );
            let code = serde_json::to_value(first.code).unwrap_or_default();
            let code = code.as_str().unwrap_or("data_map").to_owned();
            return Err(Trouble::Named { code, message });
        }
        ground.refuse_what_crawls().await?;
        Ok(Some((place, ground)))
    }

    /// What holds the tenant in law, if anything does.
    async fn held(&self, subject: TenantId) -> Result<Option<String>, StepError> {
        let mut tx = tenure_engine::begin(self.environment.engine()).await?;
        if let Some(reason) = forget::held(&mut tx, subject).await? {
            return Ok(Some(reason));
        }
        as_tenant(&mut tx, subject).await?;
        let standing = keeping::hold::is_held(&mut tx, subject).await?;
        Ok(standing.map(|standing| standing.case))
    }

    /// Shuts the tenant, in a way that can be taken back, for as long as was asked for.
    pub(super) async fn cool_off(&self, cx: &Context, job: Job) -> Moved {
        let (deletion, now) = (job.deletion_id, cx.now());
        let record = json!({ "kind": "verified", "data_map": job.map_version, "at": now });
        // Shut first, so that nobody is told so before it is.
        let mut tx = tenure_engine::begin(self.environment.engine()).await?;
        let tenant_now = tenure_engine::tenant::now(&mut tx, job.subject).await?;
        tenure_engine::tenant::close(&mut tx, job.subject).await?;
        as_tenant(&mut tx, job.subject).await?;
        let shard = tenant::find(&mut tx, job.subject).await?.shard_id;
        let name = source(deletion);
        let placed = HoldRow {
            hold_id: tenure_engine::new_uuid(shard),
            tenant_id: job.subject,
            subscription_id: None,
            kind: Kind::TenantDeletion,
            source: Some(name.clone()),
            starts_at: tenant_now,
            ends_at: None,
            blocks: Kind::TenantDeletion.blocks(),
            reason: "the tenant is to be deleted".to_owned(),
            author: name,
            placed_at: tenant_now,
            lifted: None,
        };
        hold::store::insert(&mut tx, shard, &placed).await?;
        tx.commit().await?;
        let until: DateTime<Utc> = cx
            .transact(NOTE, async |tx| {
                let row = store::list(tx, Some(deletion), None, None, 1).await?.pop();
                let row = row.ok_or_else(|| StepError::terminal("no_deletion", deletion))?;
                let until = row.cools_until.unwrap_or_else(|| {
                    let days = u64::from(row.cooling_off_days.unsigned_abs());
                    now.checked_add_days(Days::new(days)).unwrap_or(now)
                });
                let detail = format!("it can be taken back until {}", until.to_rfc3339());
                store::apply_state(tx, deletion, "cooling_off", Some(&detail)).await?;
                store::apply_times(tx, deletion, Some(until), None).await?;
                store::append(tx, deletion, &record).await?;
                Ok(until)
            })
            .await?;
        Ok(watched(State::CoolingOff { job }).at(COOLED, until))
    }

    pub(super) async fn cooled_off(&self, _cx: &Context, job: Job) -> Moved {
        if let Some(reason) = self.held(job.subject).await? {
            return Ok(held(job, Stage::CoolingOff, reason));
        }
        Ok(Transition::go(State::at(Stage::Exporting, job)))
    }

    pub(super) async fn hold(&self, cx: &Context, job: Job, back: Stage, reason: String) -> Moved {
        let detail = format!("a hold in law stands: {reason}");
        self.note(cx, &job, ("held", Some(detail)), None).await?;
        Ok(watched(State::Held { job, back, reason }).after(LOOK, HOLD_EVERY))
    }

    pub(super) async fn look_at_hold(
        &self,
        _cx: &Context,
        job: Job,
        back: Stage,
        reason: String,
    ) -> Moved {
        match self.held(job.subject).await? {
            Some(_) => {
                let state = State::Held { job, back, reason };
                Ok(Transition::stay(state).after(LOOK, HOLD_EVERY))
            }
            None => Ok(Transition::go(State::at(back, job))),
        }
    }

    /// Brings the tenant's runs to their end: subscriptions first, with their last invoices, then what
    /// is left; and takes its tokens back.
    pub(super) async fn end_runs(
        &self,
        cx: &Context,
        job: Job,
        since: Option<DateTime<Utc>>,
        asked: Option<DateTime<Utc>>,
    ) -> Moved {
        let now = cx.now();
        let Some(since) = since else {
            return self.begin_to_end(cx, job, now).await;
        };
        let mut conn = self.environment.engine().acquire().await?;
        let live = forget::live(&mut conn, job.subject).await?;
        drop(conn);
        let keys = self.keys_about(&job).await?;
        let mut conn = self.environment.engine().acquire().await?;
        let about = forget::about(&mut conn, job.subject, &keys).await?;
        drop(conn);
        if live.is_empty() && about.is_empty() {
            return Ok(Transition::go(State::Ready { job }));
        }
        let first = live
            .iter()
            .any(|(name, _)| OWN_END_FIRST.contains(&name.as_str()));
        let waits = first || self.has_drafts(job.subject).await?;
        let mut asked = asked;
        if !waits || now - since > OWN_END || asked.is_some() {
            let gives_up = asked.is_some_and(|asked| now - asked > ASKED_END);
            let verb = if gives_up {
                Verb::Terminate
            } else {
                Verb::Cancel
            };
            let why = format!("deletion {}", job.deletion_id);
            // A run that was just changing did not hear of it: now and then it is asked again.
            let again = asked.is_some_and(|asked| (now - asked).num_seconds() % 5 == 4);
            if asked.is_none() || again || gives_up {
                forget::end_live(cx, job.subject, &verb, &why).await?;
                for one in &about {
                    // A sweep that only waits to destroy its archives has nothing to bring to an end.
                    let waits = one.state == "Window";
                    let verb = if waits { &Verb::Terminate } else { &verb };
                    forget::end_about(cx, one, verb, &why).await?;
                }
            }
            asked = asked.or(Some(now));
        }
        let since = Some(since);
        let state = State::Ending { job, since, asked };
        Ok(Transition::stay(state).after(LOOK, END_EVERY))
    }

    async fn begin_to_end(&self, cx: &Context, job: Job, now: DateTime<Utc>) -> Moved {
        let (deletion, subject) = (job.deletion_id, job.subject);
        let detail = "its subscriptions and runs come to their end";
        cx.transact(NOTE, async |tx| {
            store::apply_state(tx, deletion, "ending", Some(detail)).await?;
            store::apply_times(tx, deletion, None, Some(now)).await?;
            let record = json!({ "kind": "point_of_no_return", "at": now });
            Ok(store::append(tx, deletion, &record).await?)
        })
        .await?;
        let mut tx = tenure_engine::begin(self.environment.engine()).await?;
        as_eraser(&mut tx, subject).await?;
        store::apply_hold_billing(&mut tx, subject, &source(deletion), false).await?;
        store::revoke_tokens(&mut tx, subject).await?;
        let subscriptions = store::list_subscriptions(&mut tx, subject).await?;
        tx.commit().await?;
        let act = SubscriptionAct::Cancel {
            credit: CreditPolicy::Refund,
        };
        let signal = crate::subscription::Signal::asking(act, When::Now);
        let signal = serde_json::to_value(signal)?;
        let id = format!("deletion:{deletion}");
        for run in subscriptions {
            let act = Act {
                actor: "tenure".to_owned(),
                role: "system".to_owned(),
                reason: format!("deletion {deletion}"),
                revision: 0,
            };
            forget::signal(cx, run, (&id, &signal), &act).await?;
        }
        let state = State::Ending {
            job,
            since: Some(now),
            asked: None,
        };
        Ok(watched(state).after(LOOK, END_EVERY))
    }

    async fn has_drafts(&self, subject: TenantId) -> Result<bool, StepError> {
        let mut tx = tenure_engine::begin(self.environment.engine()).await?;
        as_eraser(&mut tx, subject).await?;
        Ok(store::count_drafts(&mut tx, subject).await? > 0)
    }

    /// The keys of runs of the system tenant that are about this one and not named after it: exports,
    /// but the one that it takes along.
    async fn keys_about(&self, job: &Job) -> Result<Vec<String>, StepError> {
        let own = job.export.as_ref().map(|export| export.export_id);
        let mut tx = tenure_engine::begin(self.environment.engine()).await?;
        as_eraser(&mut tx, job.subject).await?;
        let exports = store::list_exports(&mut tx, job.subject).await?;
        let others = exports.into_iter().filter(|one| Some(*one) != own);
        Ok(others.map(|one| one.to_string()).collect())
    }

    /// Lets the export be written that the tenant takes along, and waits until it is ready: before the
    /// point of no return, so that it can be taken back if there is none. It lies sealed: only its link
    /// opens it, until that ends.
    pub(super) async fn export(&self, cx: &Context, mut job: Job, past: bool) -> Moved {
        let Some(asked) = job.export.clone() else {
            let record = json!({
                "kind": "export", "made": false, "why": "none was asked for", "at": cx.now(),
            });
            return self.exported(cx, job, past, record).await;
        };
        let mut tx = tenure_engine::begin_for(self.environment.engine(), job.subject).await?;
        let found = export::find(&mut tx, job.subject, asked.export_id).await?;
        tx.rollback().await?;
        match found.status.as_str() {
            "ready" => {
                let record = json!({
                    "kind": "export", "made": true, "export_id": found.export_id, "rows": found.rows,
                    "manifest_sha256": found.manifest_sha256, "link_ends": found.expires_at,
                    "at": cx.now(),
                });
                self.exported(cx, job, past, record).await
            }
            "writing" => {
                let detail = self.begin_export(&asked).await?;
                self.note(cx, &job, ("exporting", Some(detail)), None)
                    .await?;
                Ok(watched(State::Exporting { job, past }).after(LOOK, EXPORT_EVERY))
            }
            _ => {
                job.export = None;
                let words = format!("export {} has ended", asked.export_id);
                failed(job, Stage::Exporting, Trouble::named("export_ended", words))
            }
        }
    }

    /// What comes after the export: the point of no return, unless somebody holds the tenant by now.
    async fn exported(&self, cx: &Context, job: Job, past: bool, record: Value) -> Moved {
        if past {
            self.note(cx, &job, ("exporting", None), Some(record))
                .await?;
            return Ok(Transition::go(State::Ready { job }));
        }
        if let Some(reason) = self.held(job.subject).await? {
            return Ok(held(job, Stage::Exporting, reason));
        }
        self.note(cx, &job, ("exporting", None), Some(record))
            .await?;
        Ok(Transition::go(State::at(Stage::Ending, job)))
    }

    /// Starts the run of an export, once; what it does, in words.
    async fn begin_export(&self, asked: &export::Input) -> Result<String, StepError> {
        let nobody = || StepError::retryable("not_connected", "no worker can start runs here yet");
        let client = self.environment.client().ok_or_else(nobody)?;
        let mut tx = tenure_engine::begin(self.environment.engine()).await?;
        let started = export::start(&client, &mut tx, asked).await?;
        let keys = [asked.export_id.to_string()];
        let about = forget::about(&mut tx, asked.tenant_id, &keys).await?;
        tx.commit().await?;
        let run = started.run_id;
        let halted = about
            .iter()
            .any(|one| one.run_id == run && one.state == "Halted");
        Ok(match halted {
            true => format!("the export is halted: look at run {run}, and signal it"),
            false => format!("the export is written by run {run}"),
        })
    }

    /// Pins the map, makes the plan, and keeps what must not be found afterwards. Where there is a plan,
    /// it is made anew by the newest map: what has not begun gives way.
    pub(super) async fn plan(&self, cx: &Context, job: Job) -> Moved {
        let detail = Some("the plan is made".to_owned());
        self.note(cx, &job, ("ready", detail), None).await?;
        if let Some(reason) = self.held(job.subject).await? {
            return Ok(held(job, Stage::Ready, reason));
        }
        let mut job = job;
        match self.make_plan(cx, &mut job).await {
            Ok(of) => Ok(Transition::go(State::Erasing {
                job,
                step: 1,
                of,
                chunk: FIRST_CHUNK,
            })),
            Err(trouble) => failed(job, Stage::Ready, trouble),
        }
    }

    /// Writes the plan; how many steps it has.
    async fn make_plan(&self, cx: &Context, job: &mut Job) -> Result<i32, Trouble> {
        let deletion = job.deletion_id;
        let mut tx = tenure_engine::begin(self.environment.engine()).await?;
        as_control(&mut tx).await?;
        let standing = store::find_known(&mut tx, deletion).await?;
        tx.rollback().await?;
        let (known, ground) = match standing {
            None => self.first_look(job).await?,
            Some(known) => {
                let known: Known = serde_json::from_value(known).map_err(StepError::from)?;
                let ground = self.look_again(job, &known).await?;
                (known, ground)
            }
        };
        let mut plan = Vec::new();
        if let Some(ground) = &ground {
            plan = rules::plan_product(&ground.map.map, &ground.snapshot);
            job.map_version = Some(ground.map.version);
        }
        plan.extend(rules::plan_tenure());
        let of = self.count_lost(cx, job, ground.as_ref(), &plan).await?;
        let anew = rules::anew(&of, plan);
        let last = of.iter().map(|unit| unit.seq).max().unwrap_or(0);
        let record = json!({
            "kind": "planned_anew", "data_map": job.map_version, "at": cx.now(),
        });
        let mut tx = tenure_engine::begin(self.environment.engine()).await?;
        as_control(&mut tx).await?;
        let known = serde_json::to_value(&known).map_err(StepError::from)?;
        store::put_known(&mut tx, deletion, &known).await?;
        if last > 0 && anew.differs() {
            store::append(&mut tx, deletion, &record).await?;
        }
        for seq in &anew.closes {
            finish(&mut tx, deletion, *seq).await?;
        }
        store::plan_anew(&mut tx, deletion, &anew, last).await?;
        let steps = store::list_units(&mut tx, deletion).await?.len();
        tx.commit().await?;
        Ok(i32::try_from(steps).unwrap_or(i32::MAX))
    }

    /// What is known before anything is erased, and the place under a map that is true of it.
    async fn first_look(&self, job: &Job) -> Result<(Known, Option<Ground>), Trouble> {
        let checked = self.check(job).await?;
        let mut known = self.known(job).await?;
        let mut ground = None;
        if let Some((place, there)) = checked {
            known.values.extend(there.values().await?);
            known.place = Some(place);
            ground = Some(there);
        }
        known.values.sort_unstable();
        known.values.dedup();
        Ok((known, ground))
    }

    /// The place under the newest map, of which some tables may be gone by now.
    async fn look_again(&self, job: &Job, known: &Known) -> Result<Option<Ground>, Trouble> {
        let Some(place) = &known.place else {
            return Ok(None);
        };
        if erase::is_dropped(self.reach(), place).await? {
            return Ok(None);
        }
        let ground = erase::open(self.reach(), job.subject, place, None).await?;
        ground.refuse_what_crawls().await?;
        Ok(Some(ground))
    }

    /// The steps that there are; one that a new plan leaves out and of which only the product knows that
    /// it has begun is counted first.
    async fn count_lost(
        &self,
        cx: &Context,
        job: &Job,
        ground: Option<&Ground>,
        plan: &[Planned],
    ) -> Result<Vec<Unit>, Trouble> {
        let deletion = job.deletion_id;
        let mut tx = tenure_engine::begin(self.environment.engine()).await?;
        as_control(&mut tx).await?;
        let mut units = store::list_units(&mut tx, deletion).await?;
        let dropped = rules::anew(&units, plan.to_vec()).drops;
        for unit in units.iter_mut().filter(|unit| dropped.contains(&unit.seq)) {
            let Some(ground) = ground.filter(|_| unit.planned.realm == Realm::Product) else {
                continue;
            };
            if let Some(counts) = ground.recorded(cx.run_id(), unit).await? {
                store::add_chunk(&mut tx, deletion, (unit.seq, 0), counts, None).await?;
                unit.chunk = 1;
            }
        }
        tx.commit().await?;
        Ok(units)
    }

    /// What Tenure itself knows of the tenant.
    async fn known(&self, job: &Job) -> Result<Known, Trouble> {
        let subject = job.subject;
        let mut tx = tenure_engine::begin_for(self.environment.engine(), subject).await?;
        let row = tenant::find(&mut tx, subject).await?;
        let customer = tenant::store::find_customer(&mut tx, subject, row.shard_id).await?;
        as_eraser(&mut tx, subject).await?;
        let customer = customer.map(|customer| customer.provider_customer_id);
        let mut values = vec![row.email];
        values.extend(customer.clone());
        Ok(Known {
            values,
            customer,
            hash_key: format!(
                "{}{}",
                tenure_engine::random_uuid().simple(),
                tenure_engine::random_uuid().simple()
            ),
            place: None,
        })
    }

    async fn find_known(&self, job: &Job) -> Result<Known, StepError> {
        let mut tx = tenure_engine::begin(self.environment.engine()).await?;
        as_control(&mut tx).await?;
        let known = store::find_known(&mut tx, job.deletion_id).await?;
        let gone = || StepError::terminal("no_plan", "what was known of the tenant is gone");
        Ok(serde_json::from_value(known.ok_or_else(gone)?)?)
    }

    /// Erases for a while, chunk by chunk, step by step.
    pub(super) async fn erase(
        &self,
        cx: &Context,
        mut job: Job,
        (step, of): (i32, i32),
        chunk: i64,
    ) -> Moved {
        let detail = format!("step {step} of {of}");
        self.note(cx, &job, ("erasing", Some(detail)), None).await?;
        if let Some(reason) = self.held(job.subject).await? {
            return Ok(held(job, Stage::Erasing, reason));
        }
        let mut tx = tenure_engine::begin(self.environment.engine()).await?;
        as_control(&mut tx).await?;
        let units = store::list_units(&mut tx, job.deletion_id).await?;
        tx.rollback().await?;
        let of = i32::try_from(units.len()).unwrap_or(i32::MAX);
        let open: Vec<_> = units
            .into_iter()
            .filter(|unit| unit.done_at.is_none())
            .collect();
        if open.is_empty() {
            return Ok(Transition::go(State::ThirdParties { job }));
        }
        let before = of - i32::try_from(open.len()).unwrap_or(of);
        match self.erase_some(cx, &mut job, open, chunk).await {
            Ok((done, chunk)) => Ok(Transition::go(State::Erasing {
                job,
                step: (before + done + 1).min(of),
                of,
                chunk,
            })),
            Err(trouble) => failed(job, Stage::Erasing, trouble),
        }
    }

    /// Works on the steps that are open until the slice is over; how many it has done, and how large the
    /// next chunk is.
    async fn erase_some(
        &self,
        cx: &Context,
        job: &mut Job,
        open: Vec<Unit>,
        chunk: i64,
    ) -> Result<(i32, i64), Trouble> {
        let known = self.find_known(job).await?;
        let ground = self.ground(job, &known, &open).await?;
        let deletion = job.deletion_id;
        let mut eraser = Eraser {
            reach: self.reach(),
            run: cx.run_id(),
            job: &*job,
            known: &known,
            ground: ground.as_ref(),
            limit: chunk,
        };
        let began = Instant::now();
        let mut done = 0;
        for mut unit in open {
            loop {
                if began.elapsed() > SLICE {
                    return Ok((done, eraser.limit));
                }
                if !eraser.step(&mut unit).await? {
                    break;
                }
            }
            let mut tx = tenure_engine::begin(self.environment.engine()).await?;
            as_control(&mut tx).await?;
            finish(&mut tx, deletion, unit.seq).await?;
            tx.commit().await?;
            done += 1;
        }
        Ok((done, eraser.limit))
    }

    /// The product, if there is something left to do there.
    async fn ground(
        &self,
        job: &mut Job,
        known: &Known,
        open: &[Unit],
    ) -> Result<Option<Ground>, Trouble> {
        let of_product = |unit: &&Unit| unit.planned.realm == Realm::Product;
        let (Some(first), Some(place)) = (open.iter().find(of_product), &known.place) else {
            return Ok(None);
        };
        if first.planned.name == WHOLE && erase::is_dropped(self.reach(), place).await? {
            let mut tx = tenure_engine::begin(self.environment.engine()).await?;
            as_control(&mut tx).await?;
            finish(&mut tx, job.deletion_id, first.seq).await?;
            tx.commit().await?;
            let words = "the database was dropped";
            return Err(StepError::retryable("dropped", words).into());
        }
        let pinned = job.map_version;
        let ground = erase::open(self.reach(), job.subject, place, pinned).await?;
        job.map_version = Some(ground.map.version);
        Ok(Some(ground))
    }

    /// Tells the provider, and keeps what it answered.
    pub(super) async fn tell_others(&self, cx: &Context, job: Job) -> Moved {
        self.note(cx, &job, ("third_parties", None), None).await?;
        let known = self.find_known(&job).await?;
        let mut receipts = Vec::new();
        if let Some(customer) = &known.customer {
            let stripe = self.environment.stripe();
            let policy = RetryPolicy::DEFAULT.on(STRIPE);
            let told = cx.step(DELETE_CUSTOMER, &policy, async |_| {
                stripe.delete_customer(customer).await
            });
            let answer: String = match told.await {
                Err(error) if error.is_terminal() => {
                    let words = format!("{}: {}", error.code(), error.message());
                    let trouble = Trouble::named("third_party_refused", words);
                    return failed(job, Stage::ThirdParties, trouble);
                }
                told => told?,
            };
            receipts.push(json!({
                "kind": "receipt",
                "third_party": "stripe",
                "answer": answer,
                // The certificate stays; who has the id can tell that this was it.
                "customer_sha256": hex::encode(Sha256::digest(customer)),
                "note": "the customer and its payment methods are deleted; Stripe keeps what it must of \
                         payments, and erases that by its own redaction",
                "at": cx.now(),
            }));
        }
        receipts.push(json!({
            "kind": "receipt",
            "third_party": "mail",
            "answer": "nothing to erase",
            "note": "mails are handed over one by one; no list and no contact is kept there by us",
            "at": cx.now(),
        }));
        let deletion = job.deletion_id;
        cx.transact(NOTE_RECEIPTS, async |tx| {
            for receipt in &receipts {
                store::append(tx, deletion, receipt).await?;
            }
            Ok(())
        })
        .await?;
        Ok(Transition::go(State::Verifying { job }))
    }

    /// Looks for what should be gone, by the tenant's key and by known values; signs when nothing is
    /// there.
    pub(super) async fn certify(&self, cx: &Context, mut job: Job) -> Moved {
        let detail = Some("it is looked for what should be gone".to_owned());
        self.note(cx, &job, ("verifying", detail), None).await?;
        if let Some(reason) = self.held(job.subject).await? {
            return Ok(held(job, Stage::Verifying, reason));
        }
        let known = self.find_known(&job).await?;
        let found = match self.leftovers(cx, &job, &known).await {
            Ok(found) => found,
            Err(trouble) => return failed(job, Stage::Verifying, trouble),
        };
        let accepted = job.accepted.is_some() && found.iter().all(|one| one.is_among(&job.left));
        if !found.is_empty() && !accepted {
            (job.accepted, job.left) = (None, found.clone());
            let told: Vec<String> = found
                .iter()
                .map(|one| format!("{} rows of {} by {}", one.rows, one.table, one.by))
                .collect();
            let trouble = Trouble::named("leftovers", told.join(", "));
            return failed(job, Stage::Verifying, trouble);
        }
        let Some(key) = self.environment.signing_key() else {
            let words = "nothing signs certificates here";
            let trouble = Trouble::named("no_signing_key", words);
            return failed(job, Stage::Verifying, trouble);
        };
        let keeps = self.keeps_archives(&job).await?;
        let (deletion, now) = (job.deletion_id, cx.now());
        let record = json!({
            "kind": "verification",
            "by_tenant_key": true,
            "by_known_values": known.values.len(),
            "left": found,
            "accepted": job.accepted,
            "at": now,
        });
        let facts: Facts = cx
            .transact(NOTE_VERIFICATION, async |tx| {
                store::append(tx, deletion, &record).await?;
                let row = store::list(tx, Some(deletion), None, None, 1).await?.pop();
                let row = row.ok_or_else(|| StepError::terminal("no_deletion", deletion))?;
                let units = store::list_units(tx, deletion).await?;
                let records = store::list_records(tx, deletion).await?;
                Ok(facts(&row, &known, &job, (&units, records), now))
            })
            .await?;
        let document = certificate::document(facts.facts, &facts.tables, &facts.records);
        let chain = document["chain"].as_str().unwrap_or_default().to_owned();
        let signed = certificate::sign(document, key).await?;
        let signed = serde_json::to_value(signed)?;
        cx.transact(CERTIFY, async |tx| {
            Ok(store::end(tx, deletion, "certified", Some(&signed), now).await?)
        })
        .await?;
        let certified = Transition::complete(Output { chain });
        if !keeps {
            return Ok(certified);
        }
        // It waits for their end.
        let input = archives::Input {
            subject: job.subject,
        };
        let key = deletion.to_string();
        Ok(certified.launch::<KeptArchivesWorkflow>(key, &input))
    }

    /// Whether the law keeps archives of the tenant.
    async fn keeps_archives(&self, job: &Job) -> Result<bool, StepError> {
        let mut tx = tenure_engine::begin(self.environment.engine()).await?;
        as_eraser(&mut tx, job.subject).await?;
        let until = store::find_kept_until(&mut tx, job.subject).await?;
        Ok(until.is_some())
    }

    async fn leftovers(
        &self,
        cx: &Context,
        job: &Job,
        known: &Known,
    ) -> Result<Vec<Leftover>, Trouble> {
        let reach = self.reach();
        let mut found = Vec::new();
        erase::delete_told(reach, job.subject, known.customer.as_deref()).await?;
        if let Some(place) = &known.place
            && !erase::is_dropped(reach, place).await?
        {
            let pinned = job.map_version;
            let ground = erase::open(reach, job.subject, place, pinned).await?;
            found = ground.leftovers(&known.values).await?;
            if found.is_empty() {
                ground.forget(cx.run_id()).await?;
            }
        }
        found.extend(erase::archive_leftovers(reach, job).await?);
        found.extend(erase::own_leftovers(reach, job.subject, &known.values).await?);
        Ok(found)
    }

    pub(super) async fn fail_step(
        &self,
        cx: &Context,
        job: Job,
        at: Stage,
        (code, message): (String, String),
    ) -> Moved {
        let remedy = rules::remedy(&code);
        let detail = format!("{code}: {message}; {remedy}");
        self.note(cx, &job, ("failed_step", Some(detail)), None)
            .await?;
        let deletion = job.deletion_id;
        tracing::warn!(deletion.id = %deletion, code, "a deletion waits for somebody");
        Ok(watched(State::FailedStep {
            job,
            at,
            code,
            message,
        }))
    }

    pub(super) async fn retry(&self, cx: &Context, mut job: Job, at: Stage, by: &str) -> Moved {
        let (deletion, now) = (job.deletion_id, cx.now());
        cx.transact(DECIDE, async |tx| {
            Ok(store::append(tx, deletion, &deed("retried", by, None, now)).await?)
        })
        .await?;
        // A map that was mended is a newer one, and so is the plan.
        (job.map_version, job.accepted) = (None, None);
        let at = match at {
            Stage::Erasing | Stage::Verifying => Stage::Ready,
            at => at,
        };
        Ok(Transition::go(State::at(at, job)))
    }

    pub(super) async fn accept(&self, cx: &Context, mut job: Job, why: (&str, &str)) -> Moved {
        let (deletion, now) = (job.deletion_id, cx.now());
        let (by, reason) = why;
        cx.transact(DECIDE, async |tx| {
            let body = deed("leftovers_accepted", by, Some(reason), now);
            Ok(store::append(tx, deletion, &body).await?)
        })
        .await?;
        job.accepted = Some(format!("{by}: {reason}"));
        Ok(Transition::go(State::Verifying { job }))
    }

    /// Calls out that its deadline is near, or has passed.
    pub(super) async fn alert(&self, cx: &Context, state: State, alerts: i32) -> Moved {
        let mut state = state;
        let job = state.job_mut();
        job.alerts = job.alerts.max(alerts);
        let (deletion, due) = (job.deletion_id, job.due_at);
        let alerts = job.alerts;
        cx.transact(DECIDE, async |tx| {
            Ok(store::apply_alert(tx, deletion, alerts).await?)
        })
        .await?;
        metrics::counter!("tenure_deletion_alerts_total").increment(1);
        tracing::warn!(deletion.id = %deletion, deletion.due = %due, "a deletion is late, or soon will be");
        Ok(Transition::stay(state))
    }
}

/// Enters or rests in a state with an eye on the deadline of the whole.
fn watched(mut state: State) -> Transition<DeletionWorkflow> {
    let job = state.job_mut();
    let (alerts, due) = (job.alerts, job.due_at);
    let mut transition = Transition::stay(state);
    if alerts < 1 {
        transition = transition.at(NEAR, rules::near_at(due));
    }
    if alerts < 2 {
        transition = transition.at(OVERDUE, due);
    }
    transition
}

fn held(job: Job, back: Stage, reason: String) -> Transition<DeletionWorkflow> {
    Transition::go(State::Held { job, back, reason })
}

/// What passes is tried again by the engine; what does not waits for somebody.
fn failed(job: Job, at: Stage, trouble: Trouble) -> Moved {
    match trouble {
        Trouble::Passing(error) => Err(error),
        Trouble::Held(reason) => Ok(held(job, at, reason)),
        Trouble::Named { code, message } => Ok(Transition::go(State::FailedStep {
            job,
            at,
            code,
            message,
        })),
    }
}

/// Marks a step as done, and binds what it came to to the chain.
async fn finish(conn: &mut PgConnection, deletion: Uuid, seq: i32) -> Result<(), Trouble> {
    let Some(at) = store::finish_unit(conn, deletion, seq).await? else {
        return Ok(());
    };
    let units = store::list_units(conn, deletion).await?;
    let unit = units.iter().find(|one| one.seq == seq).map(table_of);
    let mut body = serde_json::to_value(unit).unwrap_or_default();
    body["kind"] = json!("table");
    body["at"] = json!(at);
    Ok(store::append(conn, deletion, &body).await?)
}

fn table_of(unit: &Unit) -> certificate::Table {
    certificate::Table {
        realm: unit.planned.realm.word().to_owned(),
        name: unit.planned.name.clone(),
        action: unit.planned.action.word().to_owned(),
        found: unit.found,
        erased: unit.erased,
        masked: unit.masked,
        kept: unit.kept,
        basis: match unit.planned.realm {
            Realm::Archive if unit.kept > 0 => Some(ARCHIVES_STAY.to_owned()),
            _ => unit.planned.basis.clone(),
        },
    }
}

/// What a certificate says, read in one transaction.
#[derive(Debug, serde::Serialize, serde::Deserialize)]
struct Facts {
    facts: Value,
    tables: Vec<certificate::Table>,
    records: Vec<certificate::Record>,
}

fn facts(
    row: &super::DeletionRow,
    known: &Known,
    job: &Job,
    (units, records): (&[Unit], Vec<certificate::Record>),
    now: DateTime<Utc>,
) -> Facts {
    let mut units: Vec<_> = units.iter().collect();
    let keys: i64 = units
        .iter()
        .filter(|unit| unit.planned.realm == Realm::Keys)
        .map(|unit| unit.erased)
        .sum();
    let destroyed_at = units
        .iter()
        .find(|unit| unit.planned.realm == Realm::Keys)
        .and_then(|unit| unit.done_at);
    // The tables stand in the order in which they were done, as their records do.
    units.sort_by_key(|unit| (unit.done_at, unit.seq));
    let days = u64::from(row.backup_days.unsigned_abs());
    let expire = now.checked_add_days(Days::new(days)).unwrap_or(now);
    let claim = match keys {
        0 => {
            "nothing of the tenant was encrypted under a key of its own, so nothing is claimed to be \
              unreadable by the destruction of keys"
        }
        _ => {
            "payloads of its runs that were encrypted under its keys; a backup that still holds the \
              wrapped keys, together with the master key, reads them until it expires"
        }
    };
    let place = known.place.as_ref().map(|place| {
        json!({ "source": place.source, "model": place.model.word(), "data_map": job.map_version })
    });
    Facts {
        facts: json!({
            "kind": "deletion of a tenant",
            "deletion_id": row.deletion_id,
            "subject": row.subject,
            "requested": { "by": row.requested_by, "at": row.requested_at, "due_at": row.due_at },
            "approved": { "by": row.approved_by, "at": row.approved_at },
            "point_of_no_return": row.final_at,
            "product": place,
            "keys": { "destroyed": keys, "destroyed_at": destroyed_at, "shredded": claim },
            "backups": {
                "expire_on": expire.date_naive(),
                "holds_for": "all that was not encrypted under the tenant's keys",
            },
            "certified_at": now,
        }),
        tables: units.into_iter().map(table_of).collect(),
        records,
    }
}

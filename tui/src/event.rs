//! Everything that can happen, everything that can be asked, and everything that may be answered.

use crate::detail::Tab;
use crate::life::Shelf;
use chrono::{DateTime, Utc};
use serde_json::Value;
use std::collections::BTreeMap;
use tenure_client::{
    AbortBulk, ActOnBackfill, ActOnBackfillRange, ActOnBreaker, ActOnInvoice, ActOnPause, ActOnRun,
    ActOnSchedule, ActionAccepted, AllowedAction, AttachPaymentMethod, AuditLine, AuditQuery,
    BackOutPlacement, Backfill, BackfillRange, Breaker, BulkOperation, BulkOutcome, BulkResult,
    CancelSubscription, ChangeLegalEntity, ChangeSchedule, ChangeSubscription, ChangeTax,
    ChangeZone, ClearOverride, ConfirmBulk, Credit, CreditNote, DataArchive, DataExport, DataHold,
    DataKey, Debt, Deletion, DeletionAct, DeletionCertificate, DeletionDetail, DestroyKeys,
    Entitlements, ExemptFromDunning, FlowLimit, GrantCredit, Holds, Invoice, KeepingPolicy,
    LegalHold, LiftDataHold, LiftExemption, LiftHold, LiftLegalHold, Mail, MigrationPlace,
    MoveAnchor, MovePlacement, NewCreditNote, NewSchedule, Page, Pause, PauseSubscription,
    PlaceDataHold, PlaceHold, PlaceLegalHold, Placement, Plan, PrepareBulk, ProductMigration,
    PutRetention, RequestDeletion, ResumeSubscription, RetentionPolicy, RotateKey, RunCount,
    RunDetail, RunFilter, RunSummary, Schedule, ScheduleDetail, SetFlowLimit, SetOverride,
    SetTenantWeight, Signal, StartExport, StartRestore, StartRun, StartSweep, Step, Subscription,
    SubscriptionDetail, Tenant, TenantWeight, TestClock, Transition, UndoIntent, Usage,
};
use uuid::Uuid;

/// Everything that can happen to the console.
#[derive(Clone, Debug)]
pub enum Event {
    /// A key, a paste, a new size, or the window's focus.
    Terminal(crossterm::event::Event),
    /// Time passed; it is now this late.
    Tick(DateTime<Utc>),
    /// The server answered a question.
    Answer {
        /// The generation of the view that asked.
        generation: u64,
        /// When the answer came.
        at: DateTime<Utc>,
        /// What it says.
        answer: Answer,
    },
    /// The server answered an act.
    Acted {
        /// The intent that the act carried out.
        intent: u64,
        /// What was done or would be, or why not.
        result: Result<Done, Refusal>,
    },
    /// The system asks the process to end.
    Terminate,
}

/// What `update` wants done.
#[derive(Clone, Debug, PartialEq)]
pub enum Action {
    /// Ask the server.
    Ask {
        /// Goes back with the answer.
        generation: u64,
        /// The question.
        request: Request,
    },
    /// Change something on the server.
    Act {
        /// Names the wish: the same intent is carried out once, however often it is sent.
        intent: u64,
        /// The change.
        act: Act,
    },
    /// Put text on the clipboard.
    Copy(String),
    /// Leave.
    Quit,
}

/// A question that changes nothing.
#[derive(Clone, Debug, PartialEq)]
pub enum Request {
    /// A page of runs.
    Runs(RunFilter),
    /// One run with the contents of a tab.
    Run {
        /// The run.
        run_id: Uuid,
        /// Its tenant, once it is known.
        tenant_id: Option<Uuid>,
        /// The tab that is open.
        tab: Tab,
        /// The tenant, once it is known.
        tenant: Option<Box<Tenant>>,
    },
    /// The newest mails to all tenants.
    Mails,
    /// All schedules, and one of them closely.
    Schedules(Option<Uuid>),
    /// Limits, pauses, breakers, weights.
    Flow,
    /// How long runs are kept, and legal holds.
    Retention,
    /// A page of what people did.
    Audit(AuditQuery),
    /// How many runs pass a filter, and what can be done to many.
    Many(String),
    /// The newest operations on many runs.
    Bulks,
    /// One of them, with a page of its runs.
    Bulk {
        /// The operation.
        bulk_operation_id: Uuid,
        /// Only runs of which this came.
        outcome: Option<BulkOutcome>,
        /// Where the page before ended.
        cursor: Option<String>,
    },
    /// Tenants whose name, mail address or id contains a text, or that the payment provider calls so.
    Tenants(String),
    /// All that is known of a tenant.
    Tenant(Uuid),
    /// A shelf of what becomes of tenants' data.
    Life {
        /// The shelf.
        shelf: Shelf,
        /// Where the page before ended.
        cursor: Option<String>,
    },
    /// A backfill, with a page of its ranges.
    Backfill {
        /// The backfill.
        backfill_id: Uuid,
        /// Only ranges that are so.
        status: Option<&'static str>,
        /// Where the page before ended.
        cursor: Option<String>,
    },
    /// A deletion with its steps, and its certificate once there is one.
    Deletion(Uuid),
    /// An export of a tenant.
    Export(Uuid, Uuid),
}

/// A change that a person confirmed.
#[derive(Clone, Debug, PartialEq)]
pub enum Act {
    /// Send a signal.
    Signal {
        /// The run.
        run_id: Uuid,
        /// The value of the workflow's signal enum.
        signal: Value,
        /// Why.
        reason: String,
    },
    /// Show a private field of a run.
    Reveal {
        /// The run.
        run_id: Uuid,
        /// Which, as a JSON Pointer.
        field: String,
        /// Why.
        reason: String,
    },
    /// Do a verb to a run, or ask what that would do.
    Verb {
        /// The run.
        run_id: Uuid,
        /// The verb, in the server's word.
        verb: String,
        /// The arguments, the reason and the revision that the person saw.
        body: Box<ActOnRun>,
    },
    /// Do a verb to a schedule.
    Schedule {
        /// The schedule.
        schedule_id: Uuid,
        /// The verb.
        verb: ScheduleVerb,
        /// The reason and the revision that the person saw.
        body: ActOnSchedule,
    },
    /// Start a run.
    Start(Box<StartRun>),
    /// Make a schedule.
    MakeSchedule(Box<NewSchedule>),
    /// Set a schedule otherwise.
    ChangeSchedule {
        /// The schedule.
        schedule_id: Uuid,
        /// What is set otherwise, the reason and the revision that the person saw.
        body: Box<ChangeSchedule>,
    },
    /// Change what flows.
    Flow(FlowAct),
    /// Do a verb to many runs.
    Bulk(BulkAct),
    /// Decide what is kept.
    Retention(RetentionAct),
    /// Change what a tenant bought, owes or has, or ask what that would come to.
    Billing {
        /// The tenant.
        tenant_id: Uuid,
        /// What is changed.
        act: BillingAct,
        /// Whether it is only tried.
        dry_run: bool,
    },
    /// Change the keys of a tenant.
    Keys {
        /// The tenant.
        tenant_id: Uuid,
        /// What becomes of them.
        act: KeysAct,
    },
    /// Wrap the keys of all tenants anew that another master key than the current one wraps; why.
    RewrapKeys(String),
    /// Change what becomes of tenants' data, or ask what that would come to.
    Life {
        /// What is done.
        act: LifeAct,
        /// Whether it is only tried.
        dry_run: bool,
    },
}

/// A change to what becomes of tenants' data in the product.
#[derive(Clone, Debug, PartialEq)]
pub enum LifeAct {
    /// Do a verb to a backfill.
    Backfill(Uuid, String, ActOnBackfill),
    /// Do a verb to a range of a backfill.
    Range(Uuid, Uuid, String, ActOnBackfillRange),
    /// Move a tenant's rows.
    Move(Uuid, MovePlacement),
    /// Leave them where they are.
    BackOut(Uuid, BackOutPlacement),
    /// Ask for the deletion of a tenant.
    RequestDeletion(RequestDeletion),
    /// Tell a deletion something, in the server's word.
    Deletion(Uuid, String, DeletionAct),
    /// Put together what the product keeps of a tenant.
    Export(Uuid, StartExport),
    /// Take out what is past its time, or count it.
    Sweep(Uuid, StartSweep),
    /// Bring back what a sweep took out.
    Restore(Uuid, StartRestore),
    /// Keep rows whatever their age.
    PlaceHold(Uuid, PlaceDataHold),
    /// As if there had been no hold.
    LiftHold(Uuid, Uuid, LiftDataHold),
}

/// A change to limits, pauses, breakers or weights.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FlowAct {
    /// Give a limit other numbers.
    SetLimit(String, SetFlowLimit),
    /// Pause a workflow, a queue or a tenant.
    Pause(ActOnPause),
    /// Lift such a pause.
    Lift(ActOnPause),
    /// Hold a breaker open.
    OpenBreaker(String, ActOnBreaker),
    /// Close a breaker.
    CloseBreaker(String, ActOnBreaker),
    /// Give a tenant a weight.
    SetWeight(SetTenantWeight),
}

/// A step of an operation on many runs.
#[derive(Clone, Debug, PartialEq)]
pub enum BulkAct {
    /// Freeze a selection.
    Prepare(Box<PrepareBulk>),
    /// Begin with the number that was typed.
    Confirm(Uuid, ConfirmBulk),
    /// End it before its time.
    Abort(Uuid, AbortBulk),
}

/// A decision on what is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RetentionAct {
    /// For how long, of a workflow.
    Put(String, PutRetention),
    /// For as long as a hold stands.
    Place(PlaceLegalHold),
    /// As if there had been no hold.
    Lift(Uuid, LiftLegalHold),
}

/// A change to what a tenant bought, owes or has.
#[derive(Clone, Debug, PartialEq)]
pub enum BillingAct {
    /// Another plan, other seats or add-ons.
    Change(Uuid, Box<ChangeSubscription>),
    /// The end of a subscription.
    Cancel(Uuid, CancelSubscription),
    /// No use and no billing.
    Pause(Uuid, PauseSubscription),
    /// It goes on.
    Resume(Uuid, ResumeSubscription),
    /// Periods begin on another day.
    MoveAnchor(Uuid, MoveAnchor),
    /// What was to come does not.
    Undo(Uuid, UndoIntent),
    /// Collect, take back or give up an invoice, in the server's word.
    Invoice(Uuid, String, ActOnInvoice),
    /// Give something back of an invoice.
    CreditNote(Uuid, NewCreditNote),
    /// Give credit.
    Grant(GrantCredit),
    /// Hold its service.
    Hold(PlaceHold),
    /// Let it go on.
    LiftHold(Uuid, LiftHold),
    /// Give a feature in place of what was bought.
    Override(String, SetOverride),
    /// What was bought counts again.
    ClearOverride(String, ClearOverride),
    /// Charge another payment method.
    Attach(AttachPaymentMethod),
    /// Spare it the steps of dunning for a while.
    Exempt(ExemptFromDunning),
    /// Its days begin in another zone.
    ChangeZone(ChangeZone),
    /// Another legal entity issues its invoices.
    ChangeLegalEntity(ChangeLegalEntity),
    /// Another tax, or none, on what it is billed.
    ChangeTax(ChangeTax),
    /// Dunning goes on.
    LiftExemption(Uuid, LiftExemption),
}

/// What becomes of a tenant's keys.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KeysAct {
    /// A new version seals.
    Rotate(RotateKey),
    /// Nothing can be read any more.
    Destroy(DestroyKeys),
}

/// What is done to a schedule by a word alone. To change one takes a form of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ScheduleVerb {
    /// Stop its slots from coming about.
    Pause,
    /// Go on with the first slot after now.
    Resume,
    /// Start an extra run.
    RunNow,
    /// Take it away.
    Delete,
}

impl ScheduleVerb {
    /// Understands the server's word.
    pub fn parse(word: &str) -> Option<Self> {
        Some(match word {
            "pause" => Self::Pause,
            "resume" => Self::Resume,
            "run-now" => Self::RunNow,
            "delete" => Self::Delete,
            _ => return None,
        })
    }
}

/// What the server said to an act.
#[derive(Clone, Debug, PartialEq)]
pub enum Done {
    /// What it would do; nothing was done.
    Would(Box<ActionAccepted>),
    /// The same in sentences.
    Told(Vec<String>),
    /// What it did, in words.
    Did(String),
    /// The same, and what came of it is to be looked at.
    Opens(String, Door),
    /// What a private field of a run holds.
    Shows {
        /// The run.
        run_id: Uuid,
        /// Which, as a JSON Pointer.
        field: String,
        /// What it holds.
        value: Value,
    },
}

/// The way to a screen.
#[derive(Clone, Debug, PartialEq)]
pub enum Door {
    /// A run.
    Run(Uuid),
    /// A tenant, and its name where that is known.
    Tenant(Uuid, Option<String>),
    /// An operation on many runs.
    Bulk(Box<BulkOperation>),
    /// A backfill.
    Backfill(Box<Backfill>),
    /// A deletion, and the link of the export that the tenant takes along, where it was just made.
    Deletion(Box<Deletion>, Option<String>),
    /// An export of a tenant, and its link, where it was just made.
    Export(Uuid, Box<DataExport>, Option<String>),
}

/// What the server said to a question.
#[derive(Clone, Debug)]
pub enum Answer {
    /// To [`Request::Runs`].
    Runs(Page<RunSummary>),
    /// To [`Request::Run`].
    Run(Box<RunAnswer>),
    /// To [`Request::Mails`].
    Mails(Vec<Mail>),
    /// To [`Request::Schedules`].
    Schedules(Vec<Schedule>, Option<Box<ScheduleDetail>>),
    /// To [`Request::Flow`].
    Flow(Box<FlowAnswer>),
    /// To [`Request::Retention`].
    Retention(Box<RetentionAnswer>),
    /// To [`Request::Audit`].
    Audit(Page<AuditLine>, Names),
    /// To [`Request::Many`].
    Many(RunCount, Vec<AllowedAction>),
    /// To [`Request::Bulks`].
    Bulks(Vec<BulkOperation>),
    /// To [`Request::Bulk`].
    Bulk(Box<BulkOperation>, Page<BulkResult>),
    /// To [`Request::Tenants`].
    Tenants(Page<Tenant>),
    /// To [`Request::Tenant`].
    Tenant(Box<TenantAnswer>),
    /// To [`Request::Life`].
    Life(Box<LifeAnswer>),
    /// To [`Request::Backfill`].
    Backfill(Box<Backfill>, Page<BackfillRange>, Names),
    /// To [`Request::Deletion`].
    Deletion(Box<DeletionDetail>, Option<Box<DeletionCertificate>>, Names),
    /// To [`Request::Export`].
    Export(Box<DataExport>),
    /// To any: no.
    Failed(Refusal),
}

/// A run with what surrounds it.
#[derive(Clone, Debug)]
pub struct RunAnswer {
    /// The run.
    pub run: RunDetail,
    /// Its tenant, where the asker may see it.
    pub tenant: Option<Tenant>,
    /// The tenant's test clock, where it is bound to one.
    pub clock: Option<TestClock>,
    /// The contents of the tab that was asked for.
    pub content: Content,
}

/// A part of an answer: what the server told, or its no, which leaves the other parts standing.
pub type Part<T> = Result<T, String>;

/// Tenants by what people call them, as far as that is known.
pub type Names = BTreeMap<Uuid, String>;

/// A shelf of what becomes of tenants' data.
#[derive(Clone, Debug)]
pub struct LifeAnswer {
    /// What is on it.
    pub lines: Lines,
    /// What is there for all tenants at once, whatever the page.
    pub around: Around,
    /// The tenants that it names.
    pub names: Names,
    /// Where the next page begins.
    pub next_cursor: Option<String>,
}

/// The lines of a shelf.
#[derive(Clone, Debug)]
pub enum Lines {
    /// Of [`Shelf::Backfills`].
    Backfills(Vec<Backfill>),
    /// Of [`Shelf::Placements`].
    Placements(Vec<Placement>),
    /// Of [`Shelf::Deletions`].
    Deletions(Vec<Deletion>),
    /// Of [`Shelf::Keeping`].
    Jobs(Vec<RunSummary>),
}

/// What is there for all tenants at once.
#[derive(Clone, Debug)]
pub enum Around {
    /// Nothing.
    Nothing,
    /// Beside placements: tenants on their way, and migrations with the places that refused them.
    Moves {
        /// The runs that make places and move tenants.
        moves: Part<Vec<RunSummary>>,
        /// The newest migrations.
        migrations: Part<Vec<(ProductMigration, Vec<MigrationPlace>)>>,
    },
    /// Beside sweeps, restores and exports: how long each source's rows are kept, where that is said.
    Policies(Part<Vec<(String, Option<KeepingPolicy>)>>),
}

/// What bounds and halts the engine.
#[derive(Clone, Debug)]
pub struct FlowAnswer {
    /// Named limits.
    pub limits: Part<Vec<FlowLimit>>,
    /// Pauses of more than one run.
    pub pauses: Part<Vec<Pause>>,
    /// Outside dependencies that failed.
    pub breakers: Part<Vec<Breaker>>,
    /// Tenants that have more turns than others.
    pub weights: Part<Vec<TenantWeight>>,
}

/// What becomes of that which has ended.
#[derive(Clone, Debug)]
pub struct RetentionAnswer {
    /// How long the runs of each workflow are kept.
    pub policies: Part<Vec<RetentionPolicy>>,
    /// What is kept whatever its age.
    pub holds: Part<Vec<LegalHold>>,
}

/// A tenant and all that is its. Another section of its page is another part here.
#[derive(Clone, Debug)]
pub struct TenantAnswer {
    /// The tenant.
    pub tenant: Tenant,
    /// Its test clock, where it is bound to one.
    pub clock: Option<TestClock>,
    /// What it bought.
    pub subscriptions: Part<Vec<Subscription>>,
    /// What it was billed.
    pub invoices: Part<Vec<Invoice>>,
    /// Its runs that have not ended, the newest.
    pub runs: Part<Vec<RunSummary>>,
    /// What starts by itself for it.
    pub schedules: Part<Vec<Schedule>>,
    /// What it was written.
    pub mails: Part<Vec<Mail>>,
    /// Legal holds on it and on its runs.
    pub holds: Part<Vec<LegalHold>>,
    /// Versions of the key that seals its payloads.
    pub keys: Part<Vec<DataKey>>,
    /// Its money, and what it may use.
    pub billing: BillingAnswer,
    /// What becomes of its data in the product.
    pub life: TenantLife,
}

/// What becomes of a tenant's data in the product.
#[derive(Clone, Debug)]
pub struct TenantLife {
    /// Where its rows are, if that was said.
    pub placement: Part<Option<Placement>>,
    /// What is held of them.
    pub holds: Part<Vec<DataHold>>,
    /// What was put together for it.
    pub exports: Part<Vec<DataExport>>,
    /// What sweeps took out, the newest.
    pub archives: Part<Vec<DataArchive>>,
    /// Whether it was asked to delete it.
    pub deletions: Part<Vec<Deletion>>,
}

/// A tenant's money, and what it may use.
#[derive(Clone, Debug)]
pub struct BillingAnswer {
    /// Its live subscriptions closely: what they have, and what will become of them.
    pub details: Part<Vec<SubscriptionDetail>>,
    /// Its debts, by currency.
    pub debts: Part<Vec<Debt>>,
    /// Its balances.
    pub credit: Part<Credit>,
    /// What was given back of its invoices.
    pub notes: Part<Vec<CreditNote>>,
    /// What stops its service, changes or billing.
    pub holds: Part<Holds>,
    /// What it may use, and why.
    pub entitlements: Part<Entitlements>,
    /// How much of that it uses.
    pub usage: Part<Vec<Usage>>,
    /// What can be subscribed to.
    pub plans: Part<Vec<Plan>>,
}

/// The contents of a tab.
#[derive(Clone, Debug, PartialEq)]
pub enum Content {
    /// Transitions and steps.
    Timeline(Vec<Transition>, Vec<Step>),
    /// Nothing beyond the run itself.
    Data,
    /// Steps.
    Steps(Vec<Step>),
    /// The inbox.
    Signals(Vec<Signal>),
    /// Mails to the tenant.
    Mails(Vec<Mail>),
    /// The server refused this tab, in its words.
    Refused(String),
}

/// A no, in words for a person.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// Whether the server was reached and answered for itself.
    pub reached: bool,
    /// Whether the same question may be answered later.
    pub retryable: bool,
    /// The problem's own words, or the transport's.
    pub words: String,
}

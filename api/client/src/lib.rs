//! The vocabulary of the HTTP API: one type for each request and answer, and a small client.
//!
//! The API serves these types, the console and the command line read them, and a Rust product may
//! use both. Nothing here knows the engine, the database or a workflow.
//!
//! ```no_run
//! # async fn example() -> Result<(), tenure_client::ClientError> {
//! let client = tenure_client::Client::new("http://127.0.0.1:7070", "a-token")?;
//! for run in client.list_runs(&tenure_client::RunFilter::default()).await?.items {
//!     println!("{} {} {}", run.workflow, run.key, run.status.as_str());
//! }
//! # Ok(())
//! # }
//! ```

mod audit;
mod backfill;
mod bulk;
mod deletion;
mod dunning;
mod entitlement;
mod error;
pub mod filter;
mod flow;
mod hold;
mod idempotency;
mod invoice;
mod keeping;
mod key;
mod mail;
mod money;
mod page;
mod placement;
mod plan;
mod retention;
mod run;
mod schedule;
mod status;
mod step;
mod subscription;
mod tenant;
mod test_clock;
mod token;
mod usage;
mod webhook;
mod workflow;

mod client;
mod transport;

pub use audit::{AuditLine, AuditQuery};
pub use backfill::{
    ActOnBackfill, ActOnBackfillRange, Backfill, BackfillFilter, BackfillObstacle, BackfillPlan,
    BackfillProgress, BackfillRange, BackfillRangeFilter, BackfillReads, BackfillStatement,
    BackfillTarget, BackfillThrottle, BackfillTrouble, StartBackfill,
};
pub use bulk::{
    AbortBulk, BulkFilter, BulkOperation, BulkOutcome, BulkResult, BulkResultFilter, BulkStatus,
    ConfirmBulk, PrepareBulk,
};
pub use client::Client;
pub use deletion::{
    Deletion, DeletionAct, DeletionCertificate, DeletionDetail, DeletionFilter, DeletionPreview,
    DeletionStep, RequestDeletion,
};
pub use dunning::{
    AssignDunningPolicy, Debt, DebtState, DunningAssignment, DunningExemption, DunningPolicy,
    DunningPolicyFilter, DunningScope, ExemptFromDunning, LastDecline, LiftExemption,
    LoadDunningPolicy, UnpaidInvoice,
};
pub use entitlement::{
    ClearOverride, Entitlement, EntitlementAddOn, EntitlementOverride, EntitlementReason,
    EntitlementSource, Entitlements, FeatureEntitlement, SetOverride,
};
pub use error::{ClientError, FieldError, Problem};
pub use flow::{
    ActOnBreaker, ActOnPause, Breaker, BreakerSeen, FlowLimit, FlowRate, LimitSeen, Pause,
    PauseScope, PauseSeen, SetFlowLimit, SetTenantWeight, TenantWeight,
};
pub use hold::{Hold, HoldBlocks, HoldFilter, HoldKind, Holds, LiftHold, PlaceHold, Service};
pub use idempotency::IdempotencyKey;
pub use invoice::{
    ActOnInvoice, ChangeTax, Credit, CreditEntry, CreditNote, CreditPays, Dispute, GrantCredit,
    Invoice, InvoiceAct, InvoiceDetail, InvoiceLine, InvoiceStatus, NewCreditNote, Seller,
    TaxChange, TaxRate,
};
pub use keeping::{
    DataArchive, DataArchiveFilter, DataExport, DataHold, DataHoldFilter, DataJob, ExportStarted,
    KeepingPolicy, LiftDataHold, LoadKeepingPolicy, PlaceDataHold, StartExport, StartRestore,
    StartSweep,
};
pub use key::{DataKey, DestroyKeys, KeysRewrapped, RewrapKeys, RotateKey};
pub use mail::{Mail, MailDetail, MailFilter, MailStatus, NoticePreview, NoticePreviewFilter};
pub use money::Money;
pub use page::Page;
pub use placement::{
    ApplyMigration, BackOutPlacement, DataMapVersion, LoadDataMap, MigrationOutcome,
    MigrationPlace, MovePlacement, Place, Placement, PlacementFilter, PlacementStatus,
    ProductMigration, ProductSource, ProvisionPlacement, SetPlacement, TenancyModel,
};
pub use plan::{
    CatalogChange, CatalogEntry, CatalogPublished, Plan, PlanSeats, PlanSuccessor, PublishCatalog,
};
pub use retention::{
    LegalHold, LegalHoldFilter, LiftLegalHold, PlaceLegalHold, PutRetention, RetentionAction,
    RetentionPolicy,
};
pub use run::{
    ActOnRun, ActionAccepted, ActionArg, ActionArgs, AllowedAction, ArgKind, Deadline,
    DeadlineClock, Evidence, GatherStarts, MASK, Progress, RevealField, RevealedField, RunCount,
    RunCountFilter, RunDetail, RunFilter, RunPriority, RunSummary, SendSignal, SignalAccepted,
    SignalKind, SignalReception, StartRun, Why,
};
pub use schedule::{
    ActOnSchedule, CatchUpPolicy, ChangeSchedule, NewSchedule, OverlapPolicy, Schedule,
    ScheduleDeleted, ScheduleDetail, ScheduleFilter, ScheduleRunStarted, Slot, SlotOutcome,
};
pub use status::RunStatus;
pub use step::{Signal, SignalOutcome, Step, Transition};
pub use subscription::{
    CancelSubscription, ChangeSubscription, CreditPolicy, CreditPreview, IntentKind, MoveAnchor,
    NewSubscription, PauseSubscription, ResumeSubscription, Subscribed, Subscription,
    SubscriptionAct, SubscriptionDetail, SubscriptionIntent, SubscriptionItem, SubscriptionStatus,
    SubscriptionSuccessor, UndoIntent, When,
};
pub use tenant::{
    AttachPaymentMethod, ChangeLegalEntity, ChangeZone, LegalEntityChange, NewTenant,
    OrderPaymentMethods, PaymentMethod, Tenant, TenantFilter, ZoneChange, ZoneChangeDates,
};
pub use test_clock::{AdvanceAccepted, AdvanceTestClock, TestClock, TestClockStatus};
pub use token::{Role, Whoami};
pub use usage::{ReportUsage, Usage};
pub use webhook::{ReplayWebhookEvent, WebhookEvent, WebhookEventFilter};
pub use workflow::{AttributeKind, SearchAttribute, Workflow};

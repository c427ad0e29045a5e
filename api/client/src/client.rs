//! The client: one method for each call of the API.

use crate::transport::Transport;
use crate::{
    AbortBulk, ActOnBackfill, ActOnBackfillRange, ActOnBreaker, ActOnInvoice, ActOnPause, ActOnRun,
    ActOnSchedule, ActionAccepted, AdvanceAccepted, AdvanceTestClock, AllowedAction,
    ApplyMigration, AssignDunningPolicy, AttachPaymentMethod, AuditLine, AuditQuery,
    BackOutPlacement, Backfill, BackfillFilter, BackfillPlan, BackfillRange, BackfillRangeFilter,
    BackfillReads, Breaker, BulkFilter, BulkOperation, BulkResult, BulkResultFilter,
    CancelSubscription, CatalogEntry, CatalogPublished, ChangeLegalEntity, ChangeSchedule,
    ChangeSubscription, ChangeTax, ChangeZone, ClearOverride, ClientError, ConfirmBulk, Credit,
    CreditNote, DataArchive, DataArchiveFilter, DataExport, DataHold, DataHoldFilter, DataJob,
    DataKey, DataMapVersion, Debt, Deletion, DeletionAct, DeletionCertificate, DeletionDetail,
    DeletionFilter, DeletionPreview, DestroyKeys, Dispute, DunningAssignment, DunningExemption,
    DunningPolicy, DunningPolicyFilter, EntitlementOverride, Entitlements, ExemptFromDunning,
    ExportStarted, FeatureEntitlement, FlowLimit, GrantCredit, Hold, HoldFilter, Holds,
    IdempotencyKey, Invoice, InvoiceAct, InvoiceDetail, KeepingPolicy, KeysRewrapped,
    LegalEntityChange, LegalHold, LegalHoldFilter, LiftDataHold, LiftExemption, LiftHold,
    LiftLegalHold, LoadDataMap, LoadDunningPolicy, LoadKeepingPolicy, Mail, MailDetail, MailFilter,
    MigrationPlace, MoveAnchor, MovePlacement, NewCreditNote, NewSchedule, NewSubscription,
    NewTenant, NoticePreview, NoticePreviewFilter, OrderPaymentMethods, Page, Pause,
    PauseSubscription, PaymentMethod, PlaceDataHold, PlaceHold, PlaceLegalHold, Placement,
    PlacementFilter, Plan, PrepareBulk, ProductMigration, ProductSource, ProvisionPlacement,
    PublishCatalog, PutRetention, ReplayWebhookEvent, ReportUsage, RequestDeletion,
    ResumeSubscription, RetentionPolicy, RevealField, RevealedField, RewrapKeys, RotateKey,
    RunCount, RunCountFilter, RunDetail, RunFilter, RunSummary, Schedule, ScheduleDeleted,
    ScheduleDetail, ScheduleFilter, ScheduleRunStarted, SendSignal, SetFlowLimit, SetOverride,
    SetPlacement, SetTenantWeight, Signal, SignalAccepted, StartBackfill, StartExport,
    StartRestore, StartRun, StartSweep, Step, Subscription, SubscriptionAct, SubscriptionDetail,
    TaxChange, TaxRate, Tenant, TenantFilter, TenantWeight, TestClock, Transition, UndoIntent,
    Usage, WebhookEvent, WebhookEventFilter, Whoami, Workflow, ZoneChange,
};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use uuid::Uuid;

/// What stands in a path as it is (RFC 3986, 2.3).
const SEGMENT: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'.')
    .remove(b'_')
    .remove(b'~');

/// Speaks to one server with one token. Cloning is cheap and shares the connections.
///
/// Every call that changes something takes an [`IdempotencyKey`]: one key for one intended change,
/// the same key when an answer was lost.
#[derive(Clone, Debug)]
pub struct Client {
    transport: Transport,
}

impl Client {
    /// Prepares a client for the server at `url`. For `https` the program must have installed a
    /// rustls provider; nothing is sent yet.
    pub fn new(url: &str, token: &str) -> Result<Self, ClientError> {
        Ok(Self {
            transport: Transport::new(url, token)?,
        })
    }

    /// The address that requests go to.
    pub fn url(&self) -> &str {
        self.transport.base().as_str()
    }

    /// Whether what is sent stays between this machine and the server: `https`, or the same machine.
    pub fn is_confidential(&self) -> bool {
        self.transport.is_confidential()
    }

    /// Asks whether the server's process lives.
    pub async fn livez(&self) -> Result<(), ClientError> {
        self.transport.probe("/livez").await
    }

    /// Asks whether the server can take requests.
    pub async fn readyz(&self) -> Result<(), ClientError> {
        self.transport.probe("/readyz").await
    }

    /// Asks what the server takes this token for.
    pub async fn whoami(&self) -> Result<Whoami, ClientError> {
        self.transport.get("/v1/whoami").await
    }

    /// Lists the workflows that workers offer.
    pub async fn list_workflows(&self) -> Result<Vec<Workflow>, ClientError> {
        self.transport.get("/v1/workflows").await
    }

    /// Lists the plans that can be subscribed to.
    pub async fn list_plans(&self) -> Result<Vec<Plan>, ClientError> {
        self.transport.get("/v1/plans").await
    }

    /// Lists all versions of a plan, newest first.
    pub async fn list_plan_versions(&self, plan: &str) -> Result<Vec<Plan>, ClientError> {
        let path = format!("/v1/plans/{}/versions", segment(plan));
        self.transport.get(&path).await
    }

    /// Lists the current version of every entry of the catalogue.
    pub async fn list_catalog(&self) -> Result<Vec<CatalogEntry>, ClientError> {
        self.transport.get("/v1/catalog").await
    }

    /// Publishes a catalogue, given as its file holds it; or tells what would become of it.
    pub async fn publish_catalog(
        &self,
        catalog: &serde_json::Value,
        publish: &PublishCatalog,
        key: &IdempotencyKey,
    ) -> Result<CatalogPublished, ClientError> {
        self.transport
            .post_with("/v1/catalog", publish, catalog, key)
            .await
    }
}

/// Tenants and what they buy.
impl Client {
    /// Creates a tenant.
    pub async fn create_tenant(
        &self,
        tenant: &NewTenant,
        key: &IdempotencyKey,
    ) -> Result<Tenant, ClientError> {
        self.transport.post("/v1/tenants", tenant, key).await
    }

    /// Lists tenants, a page at a time.
    pub async fn list_tenants(&self, filter: &TenantFilter) -> Result<Page<Tenant>, ClientError> {
        self.transport.get_with("/v1/tenants", filter).await
    }

    /// Looks at one tenant.
    pub async fn tenant(&self, tenant_id: Uuid) -> Result<Tenant, ClientError> {
        self.transport
            .get(&format!("/v1/tenants/{tenant_id}"))
            .await
    }

    /// Moves a tenant to another zone, or tells what that would come to.
    pub async fn change_zone(
        &self,
        tenant_id: Uuid,
        asked: &ChangeZone,
        key: &IdempotencyKey,
    ) -> Result<ZoneChange, ClientError> {
        let path = format!("/v1/tenants/{tenant_id}/zone");
        self.transport.post(&path, asked, key).await
    }

    /// Lets another legal entity issue a tenant's invoices, or tells what that would come to.
    pub async fn change_legal_entity(
        &self,
        tenant_id: Uuid,
        asked: &ChangeLegalEntity,
        key: &IdempotencyKey,
    ) -> Result<LegalEntityChange, ClientError> {
        let path = format!("/v1/tenants/{tenant_id}/legal-entity");
        self.transport.post(&path, asked, key).await
    }

    /// Lists a tenant's payment methods, the one that is charged first first.
    pub async fn list_payment_methods(
        &self,
        tenant_id: Uuid,
    ) -> Result<Vec<PaymentMethod>, ClientError> {
        let path = format!("/v1/tenants/{tenant_id}/payment-methods");
        self.transport.get(&path).await
    }

    /// Puts a tenant's payment methods into another order.
    pub async fn order_payment_methods(
        &self,
        tenant_id: Uuid,
        order: &OrderPaymentMethods,
        key: &IdempotencyKey,
    ) -> Result<SignalAccepted, ClientError> {
        let path = format!("/v1/tenants/{tenant_id}/payment-methods");
        self.transport.put(&path, order, key).await
    }

    /// Takes a payment method from a tenant, here and at the provider.
    pub async fn remove_payment_method(
        &self,
        tenant_id: Uuid,
        method: &str,
        key: &IdempotencyKey,
    ) -> Result<SignalAccepted, ClientError> {
        let path = format!(
            "/v1/tenants/{tenant_id}/payment-methods/{}",
            segment(method)
        );
        self.transport.delete(&path, &(), key).await
    }

    /// Gives a tenant a payment method; the tenant's run attaches it.
    pub async fn attach_payment_method(
        &self,
        tenant_id: Uuid,
        method: &AttachPaymentMethod,
        key: &IdempotencyKey,
    ) -> Result<SignalAccepted, ClientError> {
        self.transport
            .post(
                &format!("/v1/tenants/{tenant_id}/payment-methods"),
                method,
                key,
            )
            .await
    }

    /// Lists a tenant's holds, and whether its service is on.
    pub async fn list_holds(
        &self,
        tenant_id: Uuid,
        filter: &HoldFilter,
    ) -> Result<Holds, ClientError> {
        let path = format!("/v1/tenants/{tenant_id}/holds");
        self.transport.get_with(&path, filter).await
    }

    /// Places a hold on a tenant or one of its subscriptions.
    pub async fn place_hold(
        &self,
        tenant_id: Uuid,
        hold: &PlaceHold,
        key: &IdempotencyKey,
    ) -> Result<Hold, ClientError> {
        let path = format!("/v1/tenants/{tenant_id}/holds");
        self.transport.post(&path, hold, key).await
    }

    /// Lifts a hold that a person placed.
    pub async fn lift_hold(
        &self,
        tenant_id: Uuid,
        hold_id: Uuid,
        lift: &LiftHold,
        key: &IdempotencyKey,
    ) -> Result<Hold, ClientError> {
        let path = format!("/v1/tenants/{tenant_id}/holds/{hold_id}/lift");
        self.transport.post(&path, lift, key).await
    }

    /// Subscribes a tenant to a plan.
    pub async fn subscribe(
        &self,
        tenant_id: Uuid,
        subscription: &NewSubscription,
        key: &IdempotencyKey,
    ) -> Result<Subscription, ClientError> {
        let path = format!("/v1/tenants/{tenant_id}/subscriptions");
        self.transport.post(&path, subscription, key).await
    }

    /// Tells what subscribing would come to, and does nothing.
    pub async fn preview_subscription(
        &self,
        tenant_id: Uuid,
        subscription: &NewSubscription,
        key: &IdempotencyKey,
    ) -> Result<SubscriptionAct, ClientError> {
        let path = format!("/v1/tenants/{tenant_id}/subscriptions");
        let tried = NewSubscription {
            dry_run: true,
            ..subscription.clone()
        };
        self.transport.post(&path, &tried, key).await
    }

    /// Lists a tenant's subscriptions.
    pub async fn list_subscriptions(
        &self,
        tenant_id: Uuid,
    ) -> Result<Vec<Subscription>, ClientError> {
        self.transport
            .get(&format!("/v1/tenants/{tenant_id}/subscriptions"))
            .await
    }

    /// Looks at one subscription.
    pub async fn subscription(
        &self,
        tenant_id: Uuid,
        subscription_id: Uuid,
    ) -> Result<SubscriptionDetail, ClientError> {
        self.transport
            .get(&format!(
                "/v1/tenants/{tenant_id}/subscriptions/{subscription_id}"
            ))
            .await
    }

    /// Asks a subscription to end.
    pub async fn cancel_subscription(
        &self,
        tenant_id: Uuid,
        subscription_id: Uuid,
        asked: &CancelSubscription,
        key: &IdempotencyKey,
    ) -> Result<SubscriptionAct, ClientError> {
        let path = format!("/v1/tenants/{tenant_id}/subscriptions/{subscription_id}/cancel");
        self.transport.post(&path, asked, key).await
    }

    /// Changes a subscription's plan, seats or add-ons.
    pub async fn change_subscription(
        &self,
        tenant_id: Uuid,
        subscription_id: Uuid,
        asked: &ChangeSubscription,
        key: &IdempotencyKey,
    ) -> Result<SubscriptionAct, ClientError> {
        let path = format!("/v1/tenants/{tenant_id}/subscriptions/{subscription_id}/change");
        self.transport.post(&path, asked, key).await
    }

    /// Pauses a subscription.
    pub async fn pause_subscription(
        &self,
        tenant_id: Uuid,
        subscription_id: Uuid,
        asked: &PauseSubscription,
        key: &IdempotencyKey,
    ) -> Result<SubscriptionAct, ClientError> {
        let path = format!("/v1/tenants/{tenant_id}/subscriptions/{subscription_id}/pause");
        self.transport.post(&path, asked, key).await
    }

    /// Lets a paused subscription go on.
    pub async fn resume_subscription(
        &self,
        tenant_id: Uuid,
        subscription_id: Uuid,
        asked: &ResumeSubscription,
        key: &IdempotencyKey,
    ) -> Result<SubscriptionAct, ClientError> {
        let path = format!("/v1/tenants/{tenant_id}/subscriptions/{subscription_id}/resume");
        self.transport.post(&path, asked, key).await
    }

    /// Lets a subscription's periods begin on another day of the month.
    pub async fn move_anchor(
        &self,
        tenant_id: Uuid,
        subscription_id: Uuid,
        asked: &MoveAnchor,
        key: &IdempotencyKey,
    ) -> Result<SubscriptionAct, ClientError> {
        let path = format!("/v1/tenants/{tenant_id}/subscriptions/{subscription_id}/move-anchor");
        self.transport.post(&path, asked, key).await
    }

    /// Takes back what was to become of a subscription.
    pub async fn undo_intent(
        &self,
        tenant_id: Uuid,
        subscription_id: Uuid,
        asked: &UndoIntent,
        key: &IdempotencyKey,
    ) -> Result<SignalAccepted, ClientError> {
        let path = format!("/v1/tenants/{tenant_id}/subscriptions/{subscription_id}/undo");
        self.transport.post(&path, asked, key).await
    }

    /// Lists a tenant's credit notes, newest first.
    pub async fn list_credit_notes(&self, tenant_id: Uuid) -> Result<Vec<CreditNote>, ClientError> {
        self.transport
            .get(&format!("/v1/tenants/{tenant_id}/credit-notes"))
            .await
    }

    /// Lists a tenant's payments that are or were disputed, newest first.
    pub async fn list_disputes(&self, tenant_id: Uuid) -> Result<Vec<Dispute>, ClientError> {
        self.transport
            .get(&format!("/v1/tenants/{tenant_id}/disputes"))
            .await
    }

    /// Lists what the payment provider told, the latest first.
    pub async fn list_webhook_events(
        &self,
        filter: &WebhookEventFilter,
    ) -> Result<Vec<WebhookEvent>, ClientError> {
        self.transport.get_with("/v1/webhook-events", filter).await
    }

    /// Plays an event of the payment provider's again.
    pub async fn replay_webhook_event(
        &self,
        event_id: &str,
        asked: &ReplayWebhookEvent,
        key: &IdempotencyKey,
    ) -> Result<WebhookEvent, ClientError> {
        let path = format!("/v1/webhook-events/{event_id}/replay");
        self.transport.post(&path, asked, key).await
    }

    /// Gives something back of an invoice.
    pub async fn give_credit_note(
        &self,
        tenant_id: Uuid,
        invoice_id: Uuid,
        note: &NewCreditNote,
        key: &IdempotencyKey,
    ) -> Result<CreditNote, ClientError> {
        let path = format!("/v1/tenants/{tenant_id}/invoices/{invoice_id}/credit-notes");
        self.transport.post(&path, note, key).await
    }

    /// Does a verb to an invoice: `collect`, `void` or `write-off`.
    pub async fn act_on_invoice(
        &self,
        tenant_id: Uuid,
        invoice_id: Uuid,
        verb: &str,
        asked: &ActOnInvoice,
        key: &IdempotencyKey,
    ) -> Result<InvoiceAct, ClientError> {
        let path = format!("/v1/tenants/{tenant_id}/invoices/{invoice_id}/{verb}");
        self.transport.post(&path, asked, key).await
    }

    /// Shows the tax on what a tenant is billed.
    pub async fn tax(&self, tenant_id: Uuid) -> Result<Option<TaxRate>, ClientError> {
        self.transport
            .get(&format!("/v1/tenants/{tenant_id}/tax"))
            .await
    }

    /// Changes the tax on what a tenant is billed from now on, or tells what that would come to.
    pub async fn change_tax(
        &self,
        tenant_id: Uuid,
        asked: &ChangeTax,
        key: &IdempotencyKey,
    ) -> Result<TaxChange, ClientError> {
        let path = format!("/v1/tenants/{tenant_id}/tax");
        self.transport.put(&path, asked, key).await
    }

    /// Shows what a tenant has in credit.
    pub async fn credit(&self, tenant_id: Uuid) -> Result<Credit, ClientError> {
        self.transport
            .get(&format!("/v1/tenants/{tenant_id}/credit"))
            .await
    }

    /// Grants a tenant credit, or tells what that would come to.
    pub async fn grant_credit(
        &self,
        tenant_id: Uuid,
        grant: &GrantCredit,
        key: &IdempotencyKey,
    ) -> Result<Credit, ClientError> {
        let path = format!("/v1/tenants/{tenant_id}/credit");
        self.transport.post(&path, grant, key).await
    }

    /// Lists a tenant's invoices.
    pub async fn list_invoices(&self, tenant_id: Uuid) -> Result<Vec<Invoice>, ClientError> {
        self.transport
            .get(&format!("/v1/tenants/{tenant_id}/invoices"))
            .await
    }

    /// Looks at one invoice and its lines.
    pub async fn invoice(
        &self,
        tenant_id: Uuid,
        invoice_id: Uuid,
    ) -> Result<InvoiceDetail, ClientError> {
        self.transport
            .get(&format!("/v1/tenants/{tenant_id}/invoices/{invoice_id}"))
            .await
    }

    /// Prints one invoice as an HTML page, in the tenant's language.
    pub async fn invoice_page(
        &self,
        tenant_id: Uuid,
        invoice_id: Uuid,
    ) -> Result<String, ClientError> {
        let path = format!("/v1/tenants/{tenant_id}/invoices/{invoice_id}/html");
        self.transport.text(&path).await
    }

    /// Looks at one mail to a tenant, with its HTML part.
    pub async fn mail(&self, tenant_id: Uuid, notice_id: Uuid) -> Result<MailDetail, ClientError> {
        let path = format!("/v1/tenants/{tenant_id}/mails/{notice_id}");
        self.transport.get(&path).await
    }

    /// Lists the mails to a tenant, newest first.
    pub async fn list_tenant_mails(&self, tenant_id: Uuid) -> Result<Vec<Mail>, ClientError> {
        self.transport
            .get(&format!("/v1/tenants/{tenant_id}/mails"))
            .await
    }

    /// Lists the mails to all tenants, newest first, a page at a time; for operators.
    pub async fn list_mails(&self, filter: &MailFilter) -> Result<Page<Mail>, ClientError> {
        self.transport.get_with("/v1/mails", filter).await
    }

    /// Looks at a mail of a kind, with made-up facts.
    pub async fn preview_notice(
        &self,
        filter: &NoticePreviewFilter,
    ) -> Result<NoticePreview, ClientError> {
        self.transport.get_with("/v1/notices/preview", filter).await
    }

    /// Looks at a test clock.
    pub async fn test_clock(&self, test_clock_id: Uuid) -> Result<TestClock, ClientError> {
        self.transport
            .get(&format!("/v1/test-clocks/{test_clock_id}"))
            .await
    }

    /// Moves a test clock forward, deadline by deadline.
    pub async fn advance_test_clock(
        &self,
        test_clock_id: Uuid,
        advance: &AdvanceTestClock,
        key: &IdempotencyKey,
    ) -> Result<AdvanceAccepted, ClientError> {
        self.transport
            .post(
                &format!("/v1/test-clocks/{test_clock_id}/advance"),
                advance,
                key,
            )
            .await
    }
}

/// Entitlements.
impl Client {
    /// Asks which features and limits a tenant has now, and why.
    pub async fn entitlements(&self, tenant_id: Uuid) -> Result<Entitlements, ClientError> {
        let path = format!("/v1/tenants/{tenant_id}/entitlements");
        self.transport.get(&path).await
    }

    /// Asks what a tenant has of one feature; a feature that nothing names is not refused.
    pub async fn entitlement(
        &self,
        tenant_id: Uuid,
        feature: &str,
    ) -> Result<FeatureEntitlement, ClientError> {
        let feature = segment(feature);
        let path = format!("/v1/tenants/{tenant_id}/entitlements/{feature}");
        self.transport.get(&path).await
    }

    /// Lists what support gives a tenant in place of what it has bought, also what has expired.
    pub async fn list_overrides(
        &self,
        tenant_id: Uuid,
    ) -> Result<Vec<EntitlementOverride>, ClientError> {
        let path = format!("/v1/tenants/{tenant_id}/overrides");
        self.transport.get(&path).await
    }

    /// Gives a tenant a value of a feature in place of what it has bought.
    pub async fn set_override(
        &self,
        tenant_id: Uuid,
        feature: &str,
        set: &SetOverride,
        key: &IdempotencyKey,
    ) -> Result<EntitlementOverride, ClientError> {
        let path = format!("/v1/tenants/{tenant_id}/overrides/{}", segment(feature));
        self.transport.put(&path, set, key).await
    }

    /// Takes an override away: what it was.
    pub async fn clear_override(
        &self,
        tenant_id: Uuid,
        feature: &str,
        clear: &ClearOverride,
        key: &IdempotencyKey,
    ) -> Result<EntitlementOverride, ClientError> {
        let path = format!("/v1/tenants/{tenant_id}/overrides/{}", segment(feature));
        self.transport.delete(&path, clear, key).await
    }
}

/// Usage.
impl Client {
    /// Reports how much of a feature a tenant uses now; it is told by mail when that comes near a limit.
    pub async fn report_usage(
        &self,
        tenant_id: Uuid,
        feature: &str,
        report: &ReportUsage,
        key: &IdempotencyKey,
    ) -> Result<Usage, ClientError> {
        let path = format!("/v1/tenants/{tenant_id}/usage/{}", segment(feature));
        self.transport.put(&path, report, key).await
    }

    /// Lists what a tenant uses, as it was reported, and what it has of it.
    pub async fn list_usage(&self, tenant_id: Uuid) -> Result<Vec<Usage>, ClientError> {
        let path = format!("/v1/tenants/{tenant_id}/usage");
        self.transport.get(&path).await
    }
}

/// Dunning.
impl Client {
    /// Shows how a tenant's debts stand, by currency.
    pub async fn list_debts(&self, tenant_id: Uuid) -> Result<Vec<Debt>, ClientError> {
        self.transport
            .get(&format!("/v1/tenants/{tenant_id}/debt"))
            .await
    }

    /// Lists a tenant's exemptions from dunning, newest first, those that are over too.
    pub async fn list_exemptions(
        &self,
        tenant_id: Uuid,
    ) -> Result<Vec<DunningExemption>, ClientError> {
        self.transport
            .get(&format!("/v1/tenants/{tenant_id}/dunning-exemptions"))
            .await
    }

    /// Spares a tenant the steps and the end of dunning for a while.
    pub async fn exempt_from_dunning(
        &self,
        tenant_id: Uuid,
        exempt: &ExemptFromDunning,
        key: &IdempotencyKey,
    ) -> Result<DunningExemption, ClientError> {
        let path = format!("/v1/tenants/{tenant_id}/dunning-exemptions");
        self.transport.post(&path, exempt, key).await
    }

    /// Takes an exemption back.
    pub async fn lift_exemption(
        &self,
        tenant_id: Uuid,
        exemption_id: Uuid,
        lift: &LiftExemption,
        key: &IdempotencyKey,
    ) -> Result<DunningExemption, ClientError> {
        let path = format!("/v1/tenants/{tenant_id}/dunning-exemptions/{exemption_id}/lift");
        self.transport.post(&path, lift, key).await
    }

    /// Lists the versions of dunning policies, newest first.
    pub async fn list_dunning_policies(
        &self,
        filter: &DunningPolicyFilter,
    ) -> Result<Vec<DunningPolicy>, ClientError> {
        self.transport
            .get_with("/v1/dunning-policies", filter)
            .await
    }

    /// Loads a dunning policy as its next version.
    pub async fn load_dunning_policy(
        &self,
        policy: &str,
        load: &LoadDunningPolicy,
        key: &IdempotencyKey,
    ) -> Result<DunningPolicy, ClientError> {
        let policy = utf8_percent_encode(policy, SEGMENT);
        let path = format!("/v1/dunning-policies/{policy}");
        self.transport.put(&path, load, key).await
    }

    /// Lists who goes by which dunning policy.
    pub async fn list_dunning_assignments(&self) -> Result<Vec<DunningAssignment>, ClientError> {
        self.transport.get("/v1/dunning-assignments").await
    }

    /// Says who goes by a dunning policy; answers with all assignments.
    pub async fn assign_dunning_policy(
        &self,
        assign: &AssignDunningPolicy,
        key: &IdempotencyKey,
    ) -> Result<Vec<DunningAssignment>, ClientError> {
        self.transport
            .put("/v1/dunning-assignments", assign, key)
            .await
    }
}

/// Runs.
impl Client {
    /// Starts a run, or finds the one that was started under the same business key.
    pub async fn start_run(
        &self,
        run: &StartRun,
        key: &IdempotencyKey,
    ) -> Result<RunDetail, ClientError> {
        self.transport.post("/v1/runs", run, key).await
    }

    /// Lists runs, a page at a time.
    pub async fn list_runs(&self, filter: &RunFilter) -> Result<Page<RunSummary>, ClientError> {
        self.transport.get_with("/v1/runs", filter).await
    }

    /// Counts the runs that a filter finds.
    pub async fn count_runs(&self, filter: &RunCountFilter) -> Result<RunCount, ClientError> {
        self.transport.get_with("/v1/runs/count", filter).await
    }

    /// Looks at one run.
    pub async fn run(&self, run_id: Uuid) -> Result<RunDetail, ClientError> {
        self.transport.get(&format!("/v1/runs/{run_id}")).await
    }

    /// Lists a run's steps, oldest first.
    pub async fn list_steps(&self, run_id: Uuid) -> Result<Vec<Step>, ClientError> {
        self.transport
            .get(&format!("/v1/runs/{run_id}/steps"))
            .await
    }

    /// Lists a run's transitions, oldest first.
    pub async fn list_transitions(&self, run_id: Uuid) -> Result<Vec<Transition>, ClientError> {
        self.transport
            .get(&format!("/v1/runs/{run_id}/transitions"))
            .await
    }

    /// Lists a run's inbox, oldest first.
    pub async fn list_signals(&self, run_id: Uuid) -> Result<Vec<Signal>, ClientError> {
        self.transport
            .get(&format!("/v1/runs/{run_id}/signals"))
            .await
    }

    /// Sends a run a signal; the run takes each signal id once.
    pub async fn send_signal(
        &self,
        run_id: Uuid,
        signal: &SendSignal,
        key: &IdempotencyKey,
    ) -> Result<SignalAccepted, ClientError> {
        self.transport
            .post(&format!("/v1/runs/{run_id}/signals"), signal, key)
            .await
    }

    /// Does a verb to a run; refused when the run moved on from the revision seen.
    pub async fn act_on_run(
        &self,
        run_id: Uuid,
        verb: &str,
        act: &ActOnRun,
        key: &IdempotencyKey,
    ) -> Result<ActionAccepted, ClientError> {
        self.transport
            .post(&format!("/v1/runs/{run_id}/actions/{verb}"), act, key)
            .await
    }

    /// Shows a private field of a run, for a reason that the audit keeps.
    pub async fn reveal_field(
        &self,
        run_id: Uuid,
        reveal: &RevealField,
    ) -> Result<RevealedField, ClientError> {
        let key = IdempotencyKey::generate();
        self.transport
            .post(&format!("/v1/runs/{run_id}/reveal"), reveal, &key)
            .await
    }
}

/// Schedules.
impl Client {
    /// Makes a schedule.
    pub async fn create_schedule(
        &self,
        schedule: &NewSchedule,
        key: &IdempotencyKey,
    ) -> Result<Schedule, ClientError> {
        self.transport.post("/v1/schedules", schedule, key).await
    }

    /// Lists schedules, a page at a time.
    pub async fn list_schedules(
        &self,
        filter: &ScheduleFilter,
    ) -> Result<Page<Schedule>, ClientError> {
        self.transport.get_with("/v1/schedules", filter).await
    }

    /// Looks at one schedule, its coming slots and what became of the last ones.
    pub async fn schedule(&self, schedule_id: Uuid) -> Result<ScheduleDetail, ClientError> {
        self.transport
            .get(&format!("/v1/schedules/{schedule_id}"))
            .await
    }

    /// Changes a schedule; refused when it moved on from the revision seen.
    pub async fn change_schedule(
        &self,
        schedule_id: Uuid,
        change: &ChangeSchedule,
        key: &IdempotencyKey,
    ) -> Result<Schedule, ClientError> {
        self.transport
            .patch(&format!("/v1/schedules/{schedule_id}"), change, key)
            .await
    }

    /// Takes a schedule away; its runs stay.
    pub async fn delete_schedule(
        &self,
        schedule_id: Uuid,
        act: &ActOnSchedule,
        key: &IdempotencyKey,
    ) -> Result<ScheduleDeleted, ClientError> {
        self.transport
            .delete(&format!("/v1/schedules/{schedule_id}"), act, key)
            .await
    }

    /// Stops a schedule's slots from coming about.
    pub async fn pause_schedule(
        &self,
        schedule_id: Uuid,
        act: &ActOnSchedule,
        key: &IdempotencyKey,
    ) -> Result<Schedule, ClientError> {
        let path = format!("/v1/schedules/{schedule_id}/actions/pause");
        self.transport.post(&path, act, key).await
    }

    /// Lets a paused schedule go on with its first slot after now.
    pub async fn resume_schedule(
        &self,
        schedule_id: Uuid,
        act: &ActOnSchedule,
        key: &IdempotencyKey,
    ) -> Result<Schedule, ClientError> {
        let path = format!("/v1/schedules/{schedule_id}/actions/resume");
        self.transport.post(&path, act, key).await
    }

    /// Starts an extra run of a schedule at once.
    pub async fn run_schedule_now(
        &self,
        schedule_id: Uuid,
        act: &ActOnSchedule,
        key: &IdempotencyKey,
    ) -> Result<ScheduleRunStarted, ClientError> {
        let path = format!("/v1/schedules/{schedule_id}/actions/run-now");
        self.transport.post(&path, act, key).await
    }

    /// Lists the limits, with the room that is taken and the runs that wait.
    pub async fn list_limits(&self) -> Result<Vec<FlowLimit>, ClientError> {
        self.transport.get("/v1/limits").await
    }

    /// Sets a limit's numbers.
    pub async fn set_limit(
        &self,
        name: &str,
        set: &SetFlowLimit,
        key: &IdempotencyKey,
    ) -> Result<FlowLimit, ClientError> {
        let path = format!("/v1/limits/{}/actions/set", segment(name));
        self.transport.post(&path, set, key).await
    }

    /// Lists the pauses of workflows, queues and tenants.
    pub async fn list_pauses(&self) -> Result<Vec<Pause>, ClientError> {
        self.transport.get("/v1/pauses").await
    }

    /// Pauses a workflow, a queue or a tenant; the pauses that stand then.
    pub async fn pause_scope(
        &self,
        act: &ActOnPause,
        key: &IdempotencyKey,
    ) -> Result<Vec<Pause>, ClientError> {
        self.transport.post("/v1/pauses", act, key).await
    }

    /// Lifts a pause; the pauses that stand then.
    pub async fn lift_pause(
        &self,
        act: &ActOnPause,
        key: &IdempotencyKey,
    ) -> Result<Vec<Pause>, ClientError> {
        self.transport
            .post("/v1/pauses/actions/lift", act, key)
            .await
    }

    /// Lists the tenants whose weight is not 1, the heaviest first.
    pub async fn list_weights(&self) -> Result<Vec<TenantWeight>, ClientError> {
        self.transport.get("/v1/weights").await
    }

    /// Gives a tenant its weight; all whose weight is not 1 then.
    pub async fn set_weight(
        &self,
        set: &SetTenantWeight,
        key: &IdempotencyKey,
    ) -> Result<Vec<TenantWeight>, ClientError> {
        self.transport.post("/v1/weights", set, key).await
    }

    /// Lists the breakers of outside dependencies that failed at least once.
    pub async fn list_breakers(&self) -> Result<Vec<Breaker>, ClientError> {
        self.transport.get("/v1/breakers").await
    }

    /// Holds a breaker open until it is closed by hand.
    pub async fn open_breaker(
        &self,
        name: &str,
        act: &ActOnBreaker,
        key: &IdempotencyKey,
    ) -> Result<Breaker, ClientError> {
        let path = format!("/v1/breakers/{}/actions/open", segment(name));
        self.transport.post(&path, act, key).await
    }

    /// Closes a breaker.
    pub async fn close_breaker(
        &self,
        name: &str,
        act: &ActOnBreaker,
        key: &IdempotencyKey,
    ) -> Result<Breaker, ClientError> {
        let path = format!("/v1/breakers/{}/actions/close", segment(name));
        self.transport.post(&path, act, key).await
    }
}

/// A name as one segment of a path.
fn segment(name: &str) -> String {
    utf8_percent_encode(name, SEGMENT).to_string()
}

/// How long a product's rows are kept, and exports.
impl Client {
    /// Shows how long the rows of a source are kept.
    pub async fn keeping_policy(&self, source: &str) -> Result<KeepingPolicy, ClientError> {
        let path = format!("/v1/sources/{}/retention-policy", segment(source));
        self.transport.get(&path).await
    }

    /// Loads how long the rows of a source are kept.
    pub async fn load_keeping_policy(
        &self,
        source: &str,
        load: &LoadKeepingPolicy,
        key: &IdempotencyKey,
    ) -> Result<KeepingPolicy, ClientError> {
        let path = format!("/v1/sources/{}/retention-policy", segment(source));
        self.transport.post(&path, load, key).await
    }

    /// Lists what holds a tenant's rows in the product, newest first.
    pub async fn list_data_holds(
        &self,
        tenant_id: Uuid,
        filter: &DataHoldFilter,
    ) -> Result<Vec<DataHold>, ClientError> {
        let path = format!("/v1/tenants/{tenant_id}/data-holds");
        self.transport.get_with(&path, filter).await
    }

    /// Holds rows of a tenant in the product.
    pub async fn place_data_hold(
        &self,
        tenant_id: Uuid,
        place: &PlaceDataHold,
        key: &IdempotencyKey,
    ) -> Result<DataHold, ClientError> {
        let path = format!("/v1/tenants/{tenant_id}/data-holds");
        self.transport.post(&path, place, key).await
    }

    /// Lifts a hold on a tenant's rows.
    pub async fn lift_data_hold(
        &self,
        tenant_id: Uuid,
        hold_id: Uuid,
        lift: &LiftDataHold,
        key: &IdempotencyKey,
    ) -> Result<DataHold, ClientError> {
        let path = format!("/v1/tenants/{tenant_id}/data-holds/{hold_id}/lift");
        self.transport.post(&path, lift, key).await
    }

    /// Sweeps a tenant's rows in the product, or counts what a sweep would take.
    pub async fn start_sweep(
        &self,
        tenant_id: Uuid,
        start: &StartSweep,
        key: &IdempotencyKey,
    ) -> Result<DataJob, ClientError> {
        let path = format!("/v1/tenants/{tenant_id}/sweeps");
        self.transport.post(&path, start, key).await
    }

    /// Lists what was taken out of a tenant's rows, a page at a time.
    pub async fn list_data_archives(
        &self,
        tenant_id: Uuid,
        filter: &DataArchiveFilter,
    ) -> Result<Page<DataArchive>, ClientError> {
        let path = format!("/v1/tenants/{tenant_id}/archives");
        self.transport.get_with(&path, filter).await
    }

    /// Brings rows back into the product.
    pub async fn start_restore(
        &self,
        tenant_id: Uuid,
        start: &StartRestore,
        key: &IdempotencyKey,
    ) -> Result<DataJob, ClientError> {
        let path = format!("/v1/tenants/{tenant_id}/restores");
        self.transport.post(&path, start, key).await
    }

    /// Puts together all that the product keeps of a tenant.
    pub async fn start_export(
        &self,
        tenant_id: Uuid,
        start: &StartExport,
        key: &IdempotencyKey,
    ) -> Result<ExportStarted, ClientError> {
        let path = format!("/v1/tenants/{tenant_id}/exports");
        self.transport.post(&path, start, key).await
    }

    /// Lists a tenant's exports, newest first.
    pub async fn list_exports(&self, tenant_id: Uuid) -> Result<Vec<DataExport>, ClientError> {
        let path = format!("/v1/tenants/{tenant_id}/exports");
        self.transport.get(&path).await
    }

    /// Shows an export.
    pub async fn data_export(
        &self,
        tenant_id: Uuid,
        export_id: Uuid,
    ) -> Result<DataExport, ClientError> {
        let path = format!("/v1/tenants/{tenant_id}/exports/{export_id}");
        self.transport.get(&path).await
    }
}

/// Deletions of tenants.
impl Client {
    /// Tells what a deletion would do.
    pub async fn preview_deletion(&self, tenant_id: Uuid) -> Result<DeletionPreview, ClientError> {
        let path = format!("/v1/tenants/{tenant_id}/deletion-preview");
        self.transport.get(&path).await
    }

    /// Asks for a deletion.
    pub async fn request_deletion(
        &self,
        request: &RequestDeletion,
        key: &IdempotencyKey,
    ) -> Result<Deletion, ClientError> {
        self.transport.post("/v1/deletions", request, key).await
    }

    /// Lists deletions, a page at a time.
    pub async fn list_deletions(
        &self,
        filter: &DeletionFilter,
    ) -> Result<Page<Deletion>, ClientError> {
        self.transport.get_with("/v1/deletions", filter).await
    }

    /// Shows a deletion.
    pub async fn deletion(&self, deletion_id: Uuid) -> Result<DeletionDetail, ClientError> {
        let path = format!("/v1/deletions/{deletion_id}");
        self.transport.get(&path).await
    }

    /// Does a verb to a deletion: approve, cancel, retry or accept.
    pub async fn act_on_deletion(
        &self,
        deletion_id: Uuid,
        verb: &str,
        act: &DeletionAct,
        key: &IdempotencyKey,
    ) -> Result<Deletion, ClientError> {
        let path = format!("/v1/deletions/{deletion_id}/{}", segment(verb));
        self.transport.post(&path, act, key).await
    }

    /// Gives the signed certificate of a deletion.
    pub async fn deletion_certificate(
        &self,
        deletion_id: Uuid,
    ) -> Result<DeletionCertificate, ClientError> {
        let path = format!("/v1/deletions/{deletion_id}/certificate");
        self.transport.get(&path).await
    }
}

/// A product's databases.
impl Client {
    /// Lists the product's databases that the configuration names.
    pub async fn list_sources(&self) -> Result<Vec<ProductSource>, ClientError> {
        self.transport.get("/v1/sources").await
    }

    /// Lists the versions of a source's data map, newest first.
    pub async fn list_data_maps(&self, source: &str) -> Result<Vec<DataMapVersion>, ClientError> {
        let path = format!("/v1/sources/{}/data-maps", segment(source));
        self.transport.get(&path).await
    }

    /// Loads a data map as the newest version of a source's.
    pub async fn load_data_map(
        &self,
        source: &str,
        load: &LoadDataMap,
        key: &IdempotencyKey,
    ) -> Result<DataMapVersion, ClientError> {
        let path = format!("/v1/sources/{}/data-maps", segment(source));
        self.transport.post(&path, load, key).await
    }

    /// Lists placements, a page at a time.
    pub async fn list_placements(
        &self,
        filter: &PlacementFilter,
    ) -> Result<Page<Placement>, ClientError> {
        self.transport.get_with("/v1/placements", filter).await
    }

    /// Tells where a tenant's rows are.
    pub async fn placement(&self, tenant_id: Uuid) -> Result<Placement, ClientError> {
        let path = format!("/v1/tenants/{tenant_id}/placement");
        self.transport.get(&path).await
    }

    /// Makes a place for a tenant that has none.
    pub async fn provision_placement(
        &self,
        tenant_id: Uuid,
        provision: &ProvisionPlacement,
        key: &IdempotencyKey,
    ) -> Result<Placement, ClientError> {
        let path = format!("/v1/tenants/{tenant_id}/placement/provision");
        self.transport.post(&path, provision, key).await
    }

    /// Begins to move a tenant to another place.
    pub async fn move_placement(
        &self,
        tenant_id: Uuid,
        wanted: &MovePlacement,
        key: &IdempotencyKey,
    ) -> Result<Placement, ClientError> {
        let path = format!("/v1/tenants/{tenant_id}/placement/move");
        self.transport.post(&path, wanted, key).await
    }

    /// Asks a move to leave the tenant where it is.
    pub async fn back_out_placement(
        &self,
        tenant_id: Uuid,
        back_out: &BackOutPlacement,
        key: &IdempotencyKey,
    ) -> Result<Placement, ClientError> {
        let path = format!("/v1/tenants/{tenant_id}/placement/back-out");
        self.transport.post(&path, back_out, key).await
    }

    /// Begins to apply a migration of the product at every place.
    pub async fn apply_migration(
        &self,
        migration: &ApplyMigration,
        key: &IdempotencyKey,
    ) -> Result<ProductMigration, ClientError> {
        let path = "/v1/product-migrations";
        self.transport.post(path, migration, key).await
    }

    /// Lists the product's migrations, newest first.
    pub async fn list_migrations(&self) -> Result<Vec<ProductMigration>, ClientError> {
        self.transport.get("/v1/product-migrations").await
    }

    /// Tells how far a migration is.
    pub async fn migration(&self, version: &str) -> Result<ProductMigration, ClientError> {
        let path = format!("/v1/product-migrations/{}", segment(version));
        self.transport.get(&path).await
    }

    /// Lists what came of a migration at its places, what is not applied first.
    pub async fn migration_places(
        &self,
        version: &str,
    ) -> Result<Vec<MigrationPlace>, ClientError> {
        let path = format!("/v1/product-migrations/{}/places", segment(version));
        self.transport.get(&path).await
    }

    /// Says where a tenant's rows are already.
    pub async fn set_placement(
        &self,
        tenant_id: Uuid,
        set: &SetPlacement,
        key: &IdempotencyKey,
    ) -> Result<Placement, ClientError> {
        let path = format!("/v1/tenants/{tenant_id}/placement");
        self.transport.put(&path, set, key).await
    }
}

/// Backfills.
impl Client {
    /// Says what a backfill would do, and does nothing.
    pub async fn plan_backfill(
        &self,
        start: &StartBackfill,
        key: &IdempotencyKey,
    ) -> Result<BackfillPlan, ClientError> {
        self.transport.post("/v1/backfills/plan", start, key).await
    }

    /// Starts a backfill.
    pub async fn start_backfill(
        &self,
        start: &StartBackfill,
        key: &IdempotencyKey,
    ) -> Result<Backfill, ClientError> {
        self.transport.post("/v1/backfills", start, key).await
    }

    /// Lists backfills, newest first, a page at a time.
    pub async fn list_backfills(
        &self,
        filter: &BackfillFilter,
    ) -> Result<Page<Backfill>, ClientError> {
        self.transport.get_with("/v1/backfills", filter).await
    }

    /// Looks at a backfill, by its name or its id.
    pub async fn backfill(&self, name: &str) -> Result<Backfill, ClientError> {
        let path = format!("/v1/backfills/{}", segment(name));
        self.transport.get(&path).await
    }

    /// Does a verb to a backfill: advance, roll-out, back, retry, verify, pause or resume.
    pub async fn act_on_backfill(
        &self,
        name: &str,
        verb: &str,
        act: &ActOnBackfill,
        key: &IdempotencyKey,
    ) -> Result<Backfill, ClientError> {
        let path = format!("/v1/backfills/{}/actions/{}", segment(name), segment(verb));
        self.transport.post(&path, act, key).await
    }

    /// Lists the ranges of a backfill, a page at a time.
    pub async fn list_backfill_ranges(
        &self,
        name: &str,
        filter: &BackfillRangeFilter,
    ) -> Result<Page<BackfillRange>, ClientError> {
        let path = format!("/v1/backfills/{}/ranges", segment(name));
        self.transport.get_with(&path, filter).await
    }

    /// Retries a range that is held, or skips one.
    pub async fn act_on_backfill_range(
        &self,
        name: &str,
        range_id: Uuid,
        verb: &str,
        act: &ActOnBackfillRange,
        key: &IdempotencyKey,
    ) -> Result<BackfillRange, ClientError> {
        let (name, verb) = (segment(name), segment(verb));
        let path = format!("/v1/backfills/{name}/ranges/{range_id}/actions/{verb}");
        self.transport.post(&path, act, key).await
    }

    /// Tells whether a tenant reads the new columns.
    pub async fn backfill_reads(
        &self,
        name: &str,
        tenant_id: Uuid,
    ) -> Result<BackfillReads, ClientError> {
        let path = format!("/v1/backfills/{}/reads/{tenant_id}", segment(name));
        self.transport.get(&path).await
    }
}

/// One verb to many runs.
impl Client {
    /// Lists what can be done to many runs, and whether this token may.
    pub async fn list_bulk_verbs(&self) -> Result<Vec<AllowedAction>, ClientError> {
        self.transport.get("/v1/bulk-verbs").await
    }

    /// Freezes the runs that a filter finds; nothing is done until [`Client::confirm_bulk`].
    pub async fn prepare_bulk(
        &self,
        prepare: &PrepareBulk,
        key: &IdempotencyKey,
    ) -> Result<BulkOperation, ClientError> {
        let path = "/v1/bulk-operations";
        self.transport.post(path, prepare, key).await
    }

    /// Confirms the number of runs, and begins.
    pub async fn confirm_bulk(
        &self,
        bulk_operation_id: Uuid,
        confirm: &ConfirmBulk,
        key: &IdempotencyKey,
    ) -> Result<BulkOperation, ClientError> {
        let path = format!("/v1/bulk-operations/{bulk_operation_id}/confirm");
        self.transport.post(&path, confirm, key).await
    }

    /// Ends an operation before its time.
    pub async fn abort_bulk(
        &self,
        bulk_operation_id: Uuid,
        abort: &AbortBulk,
        key: &IdempotencyKey,
    ) -> Result<BulkOperation, ClientError> {
        let path = format!("/v1/bulk-operations/{bulk_operation_id}/abort");
        self.transport.post(&path, abort, key).await
    }

    /// Lists operations, newest first, a page at a time.
    pub async fn list_bulk_operations(
        &self,
        filter: &BulkFilter,
    ) -> Result<Page<BulkOperation>, ClientError> {
        self.transport.get_with("/v1/bulk-operations", filter).await
    }

    /// Looks at one operation.
    pub async fn bulk_operation(
        &self,
        bulk_operation_id: Uuid,
    ) -> Result<BulkOperation, ClientError> {
        let path = format!("/v1/bulk-operations/{bulk_operation_id}");
        self.transport.get(&path).await
    }

    /// Lists the runs of an operation and what came of each, a page at a time.
    pub async fn list_bulk_results(
        &self,
        bulk_operation_id: Uuid,
        filter: &BulkResultFilter,
    ) -> Result<Page<BulkResult>, ClientError> {
        let path = format!("/v1/bulk-operations/{bulk_operation_id}/results");
        self.transport.get_with(&path, filter).await
    }
}

/// What people did.
impl Client {
    /// Lists what people did to runs and to anything else, newest first, a page at a time.
    pub async fn list_audit(&self, query: &AuditQuery) -> Result<Page<AuditLine>, ClientError> {
        self.transport.get_with("/v1/audit", query).await
    }
}

/// How long what has ended is kept.
impl Client {
    /// Lists how long the finished runs of each workflow are kept.
    pub async fn list_retention(&self) -> Result<Vec<RetentionPolicy>, ClientError> {
        self.transport.get("/v1/retention").await
    }

    /// Decides how long the finished runs of a workflow are kept.
    pub async fn put_retention(
        &self,
        workflow: &str,
        put: &PutRetention,
        key: &IdempotencyKey,
    ) -> Result<RetentionPolicy, ClientError> {
        let path = format!("/v1/retention/{}", segment(workflow));
        self.transport.put(&path, put, key).await
    }

    /// Lists legal holds, a page at a time.
    pub async fn list_legal_holds(
        &self,
        filter: &LegalHoldFilter,
    ) -> Result<Page<LegalHold>, ClientError> {
        self.transport.get_with("/v1/legal-holds", filter).await
    }

    /// Places a legal hold on a tenant or a run.
    pub async fn place_legal_hold(
        &self,
        place: &PlaceLegalHold,
        key: &IdempotencyKey,
    ) -> Result<LegalHold, ClientError> {
        self.transport.post("/v1/legal-holds", place, key).await
    }

    /// Lists the versions of the key that seals a tenant's payloads, oldest first.
    pub async fn list_keys(&self, tenant_id: Uuid) -> Result<Vec<DataKey>, ClientError> {
        let path = format!("/v1/tenants/{tenant_id}/keys");
        self.transport.get(&path).await
    }

    /// Makes a new version of a tenant's key; all versions then.
    pub async fn rotate_key(
        &self,
        tenant_id: Uuid,
        rotate: &RotateKey,
        key: &IdempotencyKey,
    ) -> Result<Vec<DataKey>, ClientError> {
        let path = format!("/v1/tenants/{tenant_id}/keys");
        self.transport.post(&path, rotate, key).await
    }

    /// Destroys a tenant's keys; what is left of them. There is no way back.
    pub async fn destroy_keys(
        &self,
        tenant_id: Uuid,
        destroy: &DestroyKeys,
        key: &IdempotencyKey,
    ) -> Result<Vec<DataKey>, ClientError> {
        let path = format!("/v1/tenants/{tenant_id}/keys");
        self.transport.delete(&path, destroy, key).await
    }

    /// Wraps keys anew under the current master key.
    pub async fn rewrap_keys(
        &self,
        rewrap: &RewrapKeys,
        key: &IdempotencyKey,
    ) -> Result<KeysRewrapped, ClientError> {
        let path = "/v1/keys/actions/rewrap";
        self.transport.post(path, rewrap, key).await
    }

    /// Lifts a legal hold.
    pub async fn lift_legal_hold(
        &self,
        hold_id: Uuid,
        lift: &LiftLegalHold,
        key: &IdempotencyKey,
    ) -> Result<LegalHold, ClientError> {
        let path = format!("/v1/legal-holds/{hold_id}");
        self.transport.delete(&path, lift, key).await
    }
}

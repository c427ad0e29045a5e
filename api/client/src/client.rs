//! The client: one method for each call of the API.

use crate::transport::Transport;
use crate::{
    AbortBulk, ActOnBreaker, ActOnPause, ActOnRun, ActOnSchedule, ActionAccepted, AdvanceAccepted,
    AdvanceTestClock, AllowedAction, AttachPaymentMethod, Breaker, BulkFilter, BulkOperation,
    BulkResult, BulkResultFilter, CancelSubscription, ChangeSchedule, ClientError, ConfirmBulk,
    DataKey, DestroyKeys, FlowLimit, IdempotencyKey, Invoice, InvoiceDetail, KeysRewrapped,
    LegalHold, LegalHoldFilter, LiftLegalHold, Mail, MailFilter, NewSchedule, NewSubscription,
    NewTenant, Page, Pause, PlaceLegalHold, Plan, PrepareBulk, PutRetention, RetentionPolicy,
    RewrapKeys, RotateKey, RunCount, RunCountFilter, RunDetail, RunFilter, RunSummary, Schedule,
    ScheduleDeleted, ScheduleDetail, ScheduleFilter, ScheduleRunStarted, SendSignal, SetFlowLimit,
    SetTenantWeight, Signal, SignalAccepted, StartRun, Step, Subscription, Tenant, TenantFilter,
    TenantWeight, TestClock, Transition, Whoami, Workflow,
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

    /// Lists the plans of the catalogue.
    pub async fn list_plans(&self) -> Result<Vec<Plan>, ClientError> {
        self.transport.get("/v1/plans").await
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

    /// Gives a tenant a payment method; it becomes the default through the tenant's run.
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
    ) -> Result<Subscription, ClientError> {
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
        cancel: &CancelSubscription,
        key: &IdempotencyKey,
    ) -> Result<SignalAccepted, ClientError> {
        let path = format!("/v1/tenants/{tenant_id}/subscriptions/{subscription_id}/cancel");
        self.transport.post(&path, cancel, key).await
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

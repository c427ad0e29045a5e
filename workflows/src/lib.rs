//! The business: subscriptions, invoices, payments, dunning, notices, tenants.
//!
//! Each story has five bands in this order: input, states and signals, handle, steps, rules. What
//! to do next is decided in *handle* or in *rules*; a step does one thing. Rows in schema `app`,
//! written by the run that owns them, are the only truth on money and debt; a run's state keeps
//! position and ids. Runs talk by signals and by *run finished*.
//!
//! | Workflow | One run per | Owns |
//! |---|---|---|
//! | [`tenant`] | tenant | customer and payment method at the provider |
//! | [`subscription`] | subscription | lifecycle, periods, the wish to cancel |
//! | [`invoice`] | invoice | draft, open, paid, uncollectible |
//! | [`payment`] | attempt at an invoice | the charge and its outcome |
//! | [`charge`] | charge that is heard of again | late money, disputes |
//! | [`dunning`] | tenant and currency | the ladder, the debt and its holds |
//! | [`refund`] | credit note that goes back | what is given back to the payment method |
//! | [`notice`] | mail | one message, sent once |
//! | [`webhook::watch`] | provider | events that did not come, or found nobody |
//! | [`deletion`] | deletion of a tenant | its states, its chain, its certificate |
//! | [`clock`] | advance of a test clock | the clock's way to its target |
//! | [`backfill`] | change of a product's columns | its phases and ranges |
//! | [`keeping::sweep`] | sweep of a tenant's rows in the product | what is archived and deleted |
//! | [`keeping::restore`] | restore of archives | what is brought back |
//! | [`export`] | export of a tenant's data | its archive and its link |
//! | [`placement`] | tenant to place or move, product migration | the tenant's placement |
//! | [`BulkWorkflow`] | operation on many runs | one verb to each, at a pace (the engine's own) |

// Rules that all share: pure.
pub mod calendar;
pub mod money;
pub mod pricing;
// The outside.
mod environment;
pub mod ports;
// Stories.
pub mod archive;
pub mod backfill;
pub mod catalog;
pub mod certificate;
pub mod charge;
pub mod clock;
pub mod data_map;
pub mod deletion;
pub mod dunning;
pub mod entitlement;
pub mod export;
pub mod hold;
pub mod invoice;
pub mod keeping;
pub mod notice;
pub mod payment;
pub mod placement;
pub mod product;
pub mod refund;
pub mod subscription;
pub mod tenant;
pub mod usage;
pub mod webhook;
// Doors.
mod door;

pub use door::{DoorError, as_control, as_tenant};
pub use environment::Environment;
pub use tenure_engine::SYSTEM_TENANT;

use tenure_engine::bulk::BulkWorkflow;
use tenure_engine::{Registry, RegistryBuilder};

/// The complete list of workflows.
#[must_use]
pub fn workflows(environment: &Environment) -> RegistryBuilder {
    Registry::builder()
        .register(tenant::TenantWorkflow::new(environment))
        .register(subscription::SubscriptionWorkflow)
        .register(invoice::InvoiceWorkflow)
        .register(payment::PaymentWorkflow::new(environment))
        .register(charge::ChargeWorkflow::new(environment))
        .register(refund::RefundWorkflow::new(environment))
        .register(dunning::DunningWorkflow)
        .register(notice::NoticeWorkflow::new(environment))
        .register(webhook::watch::WebhookWatchWorkflow::new(environment))
        .register(clock::AdvanceWorkflow::new(environment))
        .register(backfill::BackfillWorkflow::new(environment))
        .register(backfill::RangeWorkflow::new(environment))
        .register(keeping::sweep::SweepWorkflow::new(environment))
        .register(keeping::restore::RestoreWorkflow::new(environment))
        .register(export::ExportWorkflow::new(environment))
        .register(placement::ProvisionWorkflow::new(environment))
        .register(placement::MoveWorkflow::new(environment))
        .register(placement::MigrationWorkflow::new(environment))
        .register(placement::MigrateWorkflow::new(environment))
        .register(deletion::DeletionWorkflow::new(environment))
        .register(deletion::KeptArchivesWorkflow::new(environment))
        .register(BulkWorkflow)
}

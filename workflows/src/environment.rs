//! The one bag of outside things, built once at start and shared by all workflows.

use std::sync::Arc;

use sqlx::PgPool;

use crate::ports::mail::Mailer;
use crate::ports::stripe::Stripe;

/// What workflows reach out to.
#[derive(Clone)]
pub struct Environment(Arc<Parts>);

struct Parts {
    stripe: Stripe,
    mailer: Mailer,
    engine: PgPool,
}

impl Environment {
    /// Puts the outside together. `engine` is a pool of the engine's role, for test clocks only.
    #[must_use]
    pub fn new(stripe: Stripe, mailer: Mailer, engine: PgPool) -> Self {
        Self(Arc::new(Parts {
            stripe,
            mailer,
            engine,
        }))
    }

    pub(crate) fn stripe(&self) -> &Stripe {
        &self.0.stripe
    }

    pub(crate) fn mailer(&self) -> &Mailer {
        &self.0.mailer
    }

    pub(crate) fn engine(&self) -> &PgPool {
        &self.0.engine
    }
}

//! The one bag of outside things, built once at start and shared by all workflows.

use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use sqlx::PgPool;
use tenure_engine::Client;

use crate::archive::{Archive, ArchiveError};
use crate::certificate::SigningKey;
use crate::ports::mail::{MailConfig, Mailer};
use crate::ports::stripe::Stripe;
use crate::product::Sources;

/// What workflows reach out to.
#[derive(Clone)]
pub struct Environment(Arc<Parts>);

#[derive(Clone)]
struct Parts {
    stripe: Stripe,
    mailer: Mailer,
    engine: PgPool,
    client: Arc<Mutex<Option<Client>>>,
    products: Sources,
    archive: Option<Archive>,
    signing_key: OnceLock<Arc<dyn SigningKey>>,
}

impl Environment {
    /// Puts the outside together. `engine` is a pool of the engine's role, for what is of all
    /// tenants: test clocks, placements, and the jobs on the product's data.
    #[must_use]
    pub fn new(stripe: Stripe, mailer: Mailer, engine: PgPool, products: Sources) -> Self {
        Self(Arc::new(Parts {
            stripe,
            mailer,
            engine,
            client: Arc::default(),
            products,
            archive: None,
            signing_key: OnceLock::new(),
        }))
    }

    /// Lets workflows of the system tenant start and signal runs of other tenants; without one, no
    /// more. It comes after the workflows that it is made of, and has to go before them.
    pub fn connect(&self, client: Option<Client>) {
        *self.0.client.lock().unwrap_or_else(PoisonError::into_inner) = client;
    }

    /// The same with a store of archives.
    #[must_use]
    pub fn with_archive(mut self, archive: Option<Archive>) -> Self {
        Arc::make_mut(&mut self.0).archive = archive;
        self
    }

    /// An environment that reaches nothing, for who only wants to know what the workflows could
    /// read: no visit may happen in it.
    ///
    /// # Errors
    /// Never, unless an adapter refuses an address of this machine.
    pub fn unplugged(engine: PgPool) -> Result<Self, String> {
        let nowhere = MailConfig::Smtp {
            url: "smtp://localhost:9".to_owned(),
            from: "nobody@localhost".to_owned(),
        };
        let stripe = Stripe::new("http://localhost:9/", "none")?;
        Ok(Self::new(
            stripe,
            Mailer::new(&nowhere)?,
            engine,
            Sources::default(),
        ))
    }

    /// Lets certificates be signed with a key; the first one stays.
    pub fn sign_with(&self, key: Arc<dyn SigningKey>) {
        let _ = self.0.signing_key.set(key);
    }

    /// What signs certificates, if anything does.
    #[must_use]
    pub fn signing_key(&self) -> Option<&dyn SigningKey> {
        self.0.signing_key.get().map(AsRef::as_ref)
    }

    pub(crate) fn stripe(&self) -> &Stripe {
        &self.0.stripe
    }

    pub(crate) fn mailer(&self) -> &Mailer {
        &self.0.mailer
    }

    pub(crate) fn client(&self) -> Option<Client> {
        let client = self.0.client.lock();
        client.unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The product's databases.
    #[must_use]
    pub fn products(&self) -> &Sources {
        &self.0.products
    }

    /// The store of archives.
    ///
    /// # Errors
    /// [`ArchiveError::NotConfigured`].
    pub fn archive(&self) -> Result<&Archive, ArchiveError> {
        self.0.archive.as_ref().ok_or(ArchiveError::NotConfigured)
    }

    pub(crate) fn engine(&self) -> &PgPool {
        &self.0.engine
    }
}

//! The bell: wake-ups within the process at once, between processes by coalesced NOTIFY.
//!
//! NOTIFY takes a lock that all committing transactions share, so it never rides in a step's or a
//! caller's transaction: one task per process sends at most one every few milliseconds. Each names its
//! bell, which has rung here already and would only make the worker look for nothing. Losing a ring
//! loses nothing but time: polling is the truth.

use std::sync::Arc;
use std::time::Duration;

use sqlx::PgPool;
use sqlx::postgres::PgListener;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use crate::clock;
use crate::id;

const CHANNEL: &str = "tenure_due";
const QUIET: Duration = Duration::from_millis(5);
const RECONNECT: Duration = Duration::from_secs(1);

/// Wakes workers, here and elsewhere.
#[derive(Clone, Debug)]
pub(crate) struct Bell {
    here: Arc<Notify>,
    elsewhere: Arc<Notify>,
    /// What its rings elsewhere are known by.
    name: Arc<str>,
}

impl Bell {
    /// Hangs up a bell; its notifier ends with the last pool handle or `stop`.
    pub(crate) fn new(pool: PgPool, stop: CancellationToken) -> Self {
        let bell = Self {
            here: Arc::new(Notify::new()),
            elsewhere: Arc::new(Notify::new()),
            name: id::random_uuid().simple().to_string().into(),
        };
        let (elsewhere, name) = (bell.elsewhere.clone(), bell.name.clone());
        tokio::spawn(async move {
            let send = async {
                loop {
                    elsewhere.notified().await;
                    let sent = sqlx::query("select pg_notify($1, $2)")
                        .bind(CHANNEL)
                        .bind(&*name)
                        .execute(&pool)
                        .await;
                    if let Err(error) = sent {
                        tracing::debug!(error = %error, "could not ring other processes");
                    }
                    clock::sleep(QUIET).await;
                }
            };
            stop.run_until_cancelled(send).await;
        });
        bell
    }

    /// Something may be due.
    pub(crate) fn ring(&self) {
        self.here.notify_one();
        self.elsewhere.notify_one();
    }

    /// Something may be due for this process's worker, and nobody else need know.
    pub(crate) fn ring_here(&self) {
        self.here.notify_one();
    }

    /// Waits for a ring.
    pub(crate) async fn heard(&self) {
        self.here.notified().await;
    }

    /// Turns NOTIFYs of other processes into rings, for ever; reconnects when cut off.
    pub(crate) async fn listen(&self, pool: &PgPool) {
        loop {
            if let Err(error) = self.listen_once(pool).await {
                tracing::debug!(error = %error, "listening was cut off; polling goes on");
            }
            clock::sleep(RECONNECT).await;
        }
    }

    async fn listen_once(&self, pool: &PgPool) -> sqlx::Result<()> {
        let mut listener = PgListener::connect_with(pool).await?;
        listener.listen(CHANNEL).await?;
        loop {
            if listener.recv().await?.payload() != &*self.name {
                self.here.notify_one();
            }
        }
    }
}

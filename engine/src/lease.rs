//! One lease per worker, and giving up early when it cannot be renewed.
//!
//! The lease in the database decides. In the process there is only a *trusted until*: the moment
//! of the last successful renewal's **start**, plus the lease, less a margin, on the monotonic
//! clock. A worker that is past it starts nothing more, which can only be too early, never too
//! late; what it still writes is fenced by the lease row.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crate::clock;
use crate::id::WorkerId;

/// The part of a lease that is not trusted: time for a write that is already under way.
const MARGIN: f64 = 0.2;

/// A worker's lease as the process sees it.
#[derive(Debug)]
pub(crate) struct Lease {
    pub(crate) worker: WorkerId,
    pub(crate) duration: Duration,
    origin: Instant,
    trusted_until_ms: AtomicU64,
}

impl Lease {
    /// A lease whose registration was sent at `sent`.
    pub(crate) fn new(worker: WorkerId, duration: Duration, sent: Instant) -> Self {
        let lease = Self {
            worker,
            duration,
            origin: sent,
            trusted_until_ms: AtomicU64::new(0),
        };
        lease.renewed(sent);
        lease
    }

    /// A renewal that was sent at `sent` has succeeded.
    pub(crate) fn renewed(&self, sent: Instant) {
        let until = (sent - self.origin) + self.duration.mul_f64(1.0 - MARGIN);
        self.trusted_until_ms
            .store(until.as_millis() as u64, Ordering::Release);
    }

    /// The lease has ended or is given back.
    pub(crate) fn end(&self) {
        self.trusted_until_ms.store(0, Ordering::Release);
    }

    /// Whether new work may be started.
    pub(crate) fn is_trusted(&self) -> bool {
        let elapsed = clock::monotonic() - self.origin;
        (elapsed.as_millis() as u64) < self.trusted_until_ms.load(Ordering::Acquire)
    }
}

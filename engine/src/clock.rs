//! The only file that may ask the machine for the time or sleep.
//!
//! Nothing here decides what is due: that is the database's clock, which arrives with each claimed
//! row. The process clock names ids, spaces out polls, and may only make a worker give up *sooner*.
#![expect(
    clippy::disallowed_methods,
    reason = "this file is where the banned calls live"
)]

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// Milliseconds since the Unix epoch, for the time part of ids; never compared with anything.
pub(crate) fn unix_millis() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |elapsed| elapsed.as_millis() as u64)
}

/// The process's monotonic clock.
pub(crate) fn monotonic() -> Instant {
    Instant::now()
}

/// Waits in process; used between polls, never by workflow code.
pub async fn sleep(duration: Duration) {
    tokio::time::sleep(duration).await;
}

/// A number in `0.0..1.0` for jitter.
pub(crate) fn chance() -> f64 {
    use rand::RngExt;
    rand::rng().random()
}

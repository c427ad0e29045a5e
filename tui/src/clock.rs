//! The only file that asks the machine for the time.

use chrono::{DateTime, Utc};

/// The time on the wall.
#[expect(
    clippy::disallowed_methods,
    reason = "the console's one clock; everything else is told the time"
)]
pub(crate) fn now() -> DateTime<Utc> {
    Utc::now()
}

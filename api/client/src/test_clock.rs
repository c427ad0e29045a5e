//! Test clocks: time that only `advance` moves.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use uuid::Uuid;

/// A clock that tenants are bound to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct TestClock {
    /// The clock.
    pub test_clock_id: Uuid,
    /// Where it stands.
    pub now: DateTime<Utc>,
    /// Whether it is being moved.
    pub status: TestClockStatus,
    /// Where it is being moved to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target: Option<DateTime<Utc>>,
}

/// Whether a test clock is being moved.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum TestClockStatus {
    /// It stands still.
    Ready,
    /// It moves from deadline to deadline.
    Advancing,
}

/// Body of `POST /v1/test-clocks/{id}/advance`: exactly one of the two.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct AdvanceTestClock {
    /// The instant to move to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub to: Option<DateTime<Utc>>,
    /// How far to move: a number and `h`, `d`, `mo` or `y`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(example = "14d")]
    pub by: Option<String>,
}

/// Answer to `advance`: the move is a run of its own.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct AdvanceAccepted {
    /// The run that moves the clock.
    pub run_id: Uuid,
    /// Where the clock will stand.
    pub target: DateTime<Utc>,
}

//! Advancing a test clock: a durable run of the system tenant, in real time.
//!
//! It moves the clock to the earliest deadline of its tenants, waits until they are quiet, and
//! repeats until the target: a year plays in seconds, in the right order, on the real engine. The
//! provider's test clocks go ahead by the same stops, so that what is charged bears the tenant's
//! time; a tenant is quiet only when they are, too, and what they have to tell has been heard.

use std::time::Duration;

use chrono::{DateTime, Months, TimeDelta, Utc};
use serde::{Deserialize, Serialize};
use sqlx::{Connection as _, PgConnection};
use tenure_engine::{
    Client, ClockId, Context, Event, SYSTEM_TENANT, Started, StepError, Transition, Workflow,
    test_clock,
};

use crate::door::{DoorError, as_tenant};
use crate::environment::Environment;
use crate::tenant;

// Input.

/// Which clock, and where to.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Input {
    /// The clock.
    pub clock_id: ClockId,
    /// Its time when the run completes.
    pub target: DateTime<Utc>,
}

// States and signals.

/// Where an advance is.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub enum State {
    /// Waits until the tenants are quiet, then moves on.
    Settling {
        /// Which clock, and where to.
        of: Input,
    },
}

/// An advance is told nothing.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub enum Signal {}

/// The workflow.
pub struct AdvanceWorkflow {
    environment: Environment,
}

impl AdvanceWorkflow {
    /// With the outside that it reaches.
    #[must_use]
    pub fn new(environment: &Environment) -> Self {
        Self {
            environment: environment.clone(),
        }
    }
}

const LOOK: &str = "look";
const LOOK_EVERY: Duration = Duration::from_millis(10);

// Handle.

impl Workflow for AdvanceWorkflow {
    const NAME: &'static str = "clock-advance";
    const VERSION: i32 = 1;
    type Input = Input;
    type State = State;
    type Signal = Signal;
    type Output = ();

    fn start(&self, of: Input) -> State {
        State::Settling { of }
    }

    async fn handle(
        &self,
        _cx: &Context,
        state: State,
        event: Event<Signal>,
    ) -> Result<Transition<Self>, StepError> {
        match (state, event) {
            (State::Settling { of }, Event::Entered | Event::Deadline(_)) => self.look(of).await,
            (_, Event::CancelRequested) => Ok(Transition::cancelled()),
            (state, Event::Signal(_) | Event::RunFinished(_)) => Ok(Transition::stay(state)),
        }
    }
}

// Steps: the moves are idempotent and their answers are not kept, so they need no journal.

impl AdvanceWorkflow {
    async fn look(&self, of: Input) -> Result<Transition<Self>, StepError> {
        let Input { clock_id, target } = of;
        let mut conn = self.environment.engine().acquire().await?;
        let again = Transition::stay(State::Settling { of }).after(LOOK, LOOK_EVERY);
        if !test_clock::is_quiet(&mut conn, clock_id).await? {
            return Ok(again);
        }
        let stop = test_clock::next_stop(&mut conn, clock_id, target).await?;
        let followers = self.provider_clocks(&mut conn, clock_id).await?;
        if !self.bring_along(&followers, stop).await? {
            return Ok(again);
        }
        // What the provider had to tell may have woken somebody since.
        if !test_clock::is_quiet(&mut conn, clock_id).await? {
            return Ok(again);
        }
        let moved = test_clock::move_to_next(&mut conn, clock_id, target).await?;
        if moved.arrived && test_clock::is_quiet(&mut conn, clock_id).await? {
            test_clock::set_target(&mut conn, clock_id, None).await?;
            return Ok(Transition::complete(()));
        }
        Ok(again)
    }

    /// The provider's clocks of the tenants that are bound to a clock.
    async fn provider_clocks(
        &self,
        conn: &mut PgConnection,
        clock: ClockId,
    ) -> Result<Vec<String>, StepError> {
        let mut found = Vec::new();
        for (tenant, shard) in test_clock::tenants(conn, clock).await? {
            let mut tx = conn.begin().await?;
            as_tenant(&mut tx, tenant).await?;
            found.extend(tenant::store::find_provider_clock(&mut tx, tenant, shard).await?);
            tx.rollback().await?;
        }
        Ok(found)
    }

    /// Moves the provider's clocks to `stop`; whether they are there, with nothing left to tell.
    async fn bring_along(&self, clocks: &[String], stop: DateTime<Utc>) -> Result<bool, StepError> {
        let stripe = self.environment.stripe();
        let mut ready = true;
        for clock in clocks {
            let mut stands = stripe.find_clock(clock).await?;
            if stands.ready && stands.seconds < stop.timestamp() {
                stands = stripe.advance_clock(clock, stop).await?;
            }
            ready &= stands.ready;
        }
        Ok(ready)
    }
}

// Rules.

/// Reads how far to go from `now`: `14d`, `2mo`, `1y`, `6h`.
///
/// # Errors
/// [`DoorError::Malformed`].
pub fn target_after(now: DateTime<Utc>, by: &str) -> Result<DateTime<Utc>, DoorError> {
    let malformed = || DoorError::Malformed {
        field: "by",
        detail: format!("{by:?}: a count and a unit, such as 6h, 14d, 13mo or 1y"),
    };
    let at = by
        .find(|c: char| !c.is_ascii_digit())
        .ok_or_else(malformed)?;
    let (count, unit) = by.split_at(at);
    let count: u32 = count.parse().map_err(|_| malformed())?;
    let target = match unit {
        "h" => now.checked_add_signed(TimeDelta::hours(i64::from(count))),
        "d" => now.checked_add_signed(TimeDelta::days(i64::from(count))),
        "mo" => now.checked_add_months(Months::new(count)),
        "y" => now.checked_add_months(Months::new(count.saturating_mul(12))),
        _ => None,
    };
    target.ok_or_else(malformed)
}

/// How far one advance may go, so that a mistyped year is not played for hours.
const MAX_ADVANCE: TimeDelta = TimeDelta::days(366 * 10);

// Doors.

/// Finds a clock.
///
/// # Errors
/// [`DoorError::NotFound`].
pub async fn find(
    conn: &mut PgConnection,
    clock: ClockId,
) -> Result<test_clock::TestClock, DoorError> {
    test_clock::find(conn, clock)
        .await?
        .ok_or_else(|| DoorError::not_found("test clock", clock))
}

/// Starts an advance to `target`. The transaction must act as the engine.
///
/// # Errors
/// [`DoorError::NotFound`]; [`DoorError::Malformed`] when the target lies behind the clock or more
/// than ten years ahead; [`DoorError::Conflict`] while another advance is under way.
pub async fn advance(
    client: &Client,
    conn: &mut PgConnection,
    clock_id: ClockId,
    target: DateTime<Utc>,
) -> Result<Started, DoorError> {
    let clock = find(conn, clock_id).await?;
    if let Some(going) = clock.target {
        return Err(DoorError::Conflict(format!(
            "the clock is on its way to {}; wait until it is ready",
            going.to_rfc3339()
        )));
    }
    if target < clock.now || target - clock.now > MAX_ADVANCE {
        return Err(DoorError::Malformed {
            field: "to",
            detail: format!(
                "the clock stands at {}; it moves forward only, by ten years at most",
                clock.now.to_rfc3339()
            ),
        });
    }
    test_clock::set_target(conn, clock_id, Some(target)).await?;
    let key = format!("{clock_id}/{}", tenure_engine::random_uuid());
    let input = Input { clock_id, target };
    Ok(client
        .start::<AdvanceWorkflow>(conn, SYSTEM_TENANT, &key, &input)
        .await?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_distance_is_a_count_and_a_unit() {
        let now: DateTime<Utc> = "2027-01-31T09:00:00Z".parse().unwrap();
        let cases = [
            ("6h", "2027-01-31T15:00:00+00:00"),
            ("14d", "2027-02-14T09:00:00+00:00"),
            ("1mo", "2027-02-28T09:00:00+00:00"),
            ("13mo", "2028-02-29T09:00:00+00:00"),
            ("1y", "2028-01-31T09:00:00+00:00"),
        ];
        for (by, expected) in cases {
            assert_eq!(
                target_after(now, by).unwrap().to_rfc3339(),
                expected,
                "{by}"
            );
        }
        for by in [
            "",
            "d",
            "14",
            "14 d",
            "-1d",
            "1w",
            "99999999999d",
            "4294967295y",
        ] {
            assert!(target_after(now, by).is_err(), "{by}");
        }
    }
}

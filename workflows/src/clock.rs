//! Advancing a test clock: a durable run of the system tenant, in real time.
//!
//! It moves the clock to the earliest deadline of its tenants, waits until they are quiet, and
//! repeats until the target: a year plays in seconds, in the right order, on the real engine. The
//! provider's test clocks go ahead by the same stops, so that what is charged bears the tenant's
//! time; a tenant is quiet only when they are, too, and what they have to tell has been heard, or
//! nobody takes it.

use std::time::Duration;

use chrono::{DateTime, Months, NaiveDate, SecondsFormat, TimeDelta, Utc};
use serde::{Deserialize, Serialize};
use sqlx::PgConnection;
use tenure_engine::{
    Client, ClockId, Context, Event, SYSTEM_TENANT, Started, StepError, Transition, Workflow,
    test_clock,
};

use crate::door::DoorError;
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
        /// Whether the provider's webhooks are still waited for.
        #[serde(default)]
        patience: Patience,
        /// Looks since the clock moved.
        #[serde(default)]
        looks: u32,
    },
}

/// How long an advance waits for what the provider has to tell. Where nobody takes its webhooks
/// (the endpoint is down, or frozen), it goes on without: late ones are harmless.
#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize)]
pub enum Patience {
    /// There is nothing to wait for at this moment.
    #[default]
    Fresh,
    /// Since this instant, in real time.
    Since(DateTime<Utc>),
    /// It has waited for long enough, and waits no more on its way.
    Spent,
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
/// The first wait for the tenants; each further one is twice as long, so that many clocks that move at
/// once do not keep the tenants that they wait for from work.
const FIRST_LOOK: Duration = Duration::from_millis(10);
/// The longest wait for the tenants.
const LONGEST_LOOK: Duration = Duration::from_millis(160);
/// How long the provider's webhooks are waited for.
const PATIENCE: TimeDelta = TimeDelta::seconds(5);

// Handle.

impl Workflow for AdvanceWorkflow {
    const NAME: &'static str = "clock-advance";
    const VERSION: i32 = 1;
    type Input = Input;
    type State = State;
    type Signal = Signal;
    type Output = ();

    fn start(&self, of: Input) -> State {
        State::Settling {
            of,
            patience: Patience::Fresh,
            looks: 0,
        }
    }

    async fn handle(
        &self,
        cx: &Context,
        state: State,
        event: Event<Signal>,
    ) -> Result<Transition<Self>, StepError> {
        match (state, event) {
            (
                State::Settling {
                    of,
                    patience,
                    looks,
                },
                Event::Entered | Event::Deadline(_),
            ) => self.look(cx, of, patience, looks).await,
            (_, Event::CancelRequested) => Ok(Transition::cancelled()),
            (
                state,
                Event::Signal(_) | Event::RunFinished(_) | Event::Joined(_) | Event::RunDeadline,
            ) => Ok(Transition::stay(state)),
        }
    }
}

// Steps: the moves are idempotent and their answers are not kept, so they need no journal.

impl AdvanceWorkflow {
    async fn look(
        &self,
        cx: &Context,
        of: Input,
        patience: Patience,
        looks: u32,
    ) -> Result<Transition<Self>, StepError> {
        let Input { clock_id, target } = of;
        let again = |patience, looks| {
            let settling = State::Settling {
                of: Input { clock_id, target },
                patience,
                looks,
            };
            Transition::stay(settling).after(LOOK, look_after(looks))
        };
        let mut conn = self.environment.engine().acquire().await?;
        if !test_clock::is_quiet(&mut conn, clock_id).await? {
            return Ok(again(patience, looks + 1));
        }
        let stop = test_clock::next_stop(&mut conn, clock_id, target).await?;
        let followers = self.provider_clocks(&mut conn, clock_id).await?;
        let ready = self.bring_along(&followers, stop).await?;
        let patience = wait(patience, ready, cx.now());
        if matches!(patience, Patience::Since(_)) {
            return Ok(again(patience, looks + 1));
        }
        // What the provider had to tell may have woken somebody since.
        if !test_clock::is_quiet(&mut conn, clock_id).await? {
            return Ok(again(patience, looks + 1));
        }
        let mut tx = tenure_engine::begin(self.environment.engine()).await?;
        let moved = test_clock::move_to_next(&mut tx, clock_id, target).await?;
        tx.commit().await?;
        if moved.arrived && test_clock::is_quiet(&mut conn, clock_id).await? {
            // This visit may be one that was carried out before and could not be settled.
            test_clock::arrive(&mut conn, clock_id, target).await?;
            return Ok(Transition::complete(()));
        }
        Ok(again(patience, 0))
    }

    /// The provider's clocks of the tenants that are bound to a clock.
    async fn provider_clocks(
        &self,
        conn: &mut PgConnection,
        clock: ClockId,
    ) -> Result<Vec<String>, StepError> {
        let mut found = Vec::new();
        for (tenant, shard) in test_clock::tenants(conn, clock).await? {
            let mut tx = tenure_engine::begin_for(self.environment.engine(), tenant).await?;
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

/// How long to wait before the next look.
fn look_after(looks: u32) -> Duration {
    let doubled = 2_u32.saturating_pow(looks);
    FIRST_LOOK.saturating_mul(doubled).min(LONGEST_LOOK)
}

/// Whether to go on waiting for the provider.
fn wait(patience: Patience, ready: bool, now: DateTime<Utc>) -> Patience {
    match patience {
        Patience::Spent => Patience::Spent,
        _ if ready => Patience::Fresh,
        Patience::Fresh => Patience::Since(now),
        Patience::Since(since) if now - since > PATIENCE => Patience::Spent,
        Patience::Since(since) => Patience::Since(since),
    }
}

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

/// Where test clocks end, so that every date that follows from theirs can be written down.
#[must_use]
pub fn latest() -> DateTime<Utc> {
    NaiveDate::from_ymd_opt(2200, 1, 1)
        .unwrap_or_default()
        .and_time(chrono::NaiveTime::MIN)
        .and_utc()
}

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
    let under_way = |going: Option<DateTime<Utc>>| {
        let going = going.unwrap_or(target);
        DoorError::Conflict(format!(
            "the clock is on its way to {}; wait until it is ready",
            going.to_rfc3339_opts(SecondsFormat::AutoSi, true)
        ))
    };
    if clock.target.is_some() {
        return Err(under_way(clock.target));
    }
    if target < clock.now || target - clock.now > MAX_ADVANCE || target > latest() {
        return Err(DoorError::Malformed {
            field: "to",
            detail: format!(
                "the clock stands at {}; it moves forward only, by ten years at most, and not past the year 2200",
                clock.now.to_rfc3339_opts(SecondsFormat::AutoSi, true)
            ),
        });
    }
    if !test_clock::set_out(conn, clock_id, target).await? {
        return Err(under_way(find(conn, clock_id).await?.target));
    }
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
    fn a_clock_that_waits_long_looks_less_often() {
        let waits = [0, 1, 2, 3, 4, 5, u32::MAX].map(|looks| look_after(looks).as_millis());
        assert_eq!(waits, [10, 20, 40, 80, 160, 160, 160]);
    }

    #[test]
    fn patience_with_the_provider_ends_and_does_not_come_back() {
        let now: DateTime<Utc> = "2027-01-31T09:00:00Z".parse().unwrap();
        let waiting = wait(Patience::Fresh, false, now);
        assert!(matches!(waiting, Patience::Since(since) if since == now));
        assert!(matches!(wait(waiting, true, now), Patience::Fresh));
        let later = now + PATIENCE + TimeDelta::seconds(1);
        let spent = wait(waiting, false, later);
        assert!(matches!(spent, Patience::Spent));
        assert!(matches!(wait(spent, true, later), Patience::Spent));
    }

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

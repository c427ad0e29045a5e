//! When to try again: attempt number and chance in, delay or "give up" out. Pure.
//!
//! Full jitter after the AWS Architecture Blog's "Exponential Backoff And Jitter": the delay is
//! uniform between zero and the exponential bound, so that a thousand runs that failed together do
//! not come back together.

use std::time::Duration;

/// How a step is retried.
///
/// Steps retry for minutes. A longer wait is a state, because a visit shuts signals out.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct RetryPolicy {
    /// Bound of the first delay.
    pub initial: Duration,
    /// What the bound is multiplied by for each further attempt.
    pub factor: f64,
    /// The bound never grows past this.
    pub cap: Duration,
    /// Give up after this many attempts, the first one included.
    pub max_attempts: u32,
    /// Cut off an attempt that takes longer than this, and count it as failed.
    pub attempt_timeout: Duration,
    /// What follows when the attempts are used up.
    pub exhausted: Exhausted,
    /// The outside dependency that the step asks. When it keeps failing, steps on it wait, of all
    /// runs and workers, without burning attempts, until one probe has gone well.
    pub dependency: Option<&'static str>,
    /// The attempts are used up, too, when the step as a whole has taken this long, waits between
    /// attempts included; an attempt under way is cut off. No limit otherwise.
    pub max_elapsed: Option<Duration>,
    /// Cut off an attempt that reports no progress for this long, and count it as failed; see
    /// [`RetryPolicy::report_within`].
    pub report_within: Option<Duration>,
}

/// What follows when a policy is exhausted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exhausted {
    /// The run becomes stuck with the step's last error; an operator decides.
    Stuck,
    /// The handler gets the error and takes another branch.
    Return,
}

/// For how long a database may be away from a step, or a visit, before its failures count. The engine's
/// own is back when a settlement can say so; one of the product's may be gone for good.
const AWAY_UNCOUNTED: Duration = Duration::from_secs(5 * 60);

/// How long to wait for a database that has been `away` for so long, with a chance in 0..1; none when
/// that is a failed attempt like others.
pub(crate) fn when_away(away: Duration, chance: f64) -> Option<Duration> {
    let delay = Duration::from_millis(250) + Duration::from_millis(750).mul_f64(chance);
    (away < AWAY_UNCOUNTED).then_some(delay)
}

impl RetryPolicy {
    /// Eight attempts over about two minutes, then stuck.
    pub const DEFAULT: Self = Self {
        initial: Duration::from_millis(500),
        factor: 2.0,
        cap: Duration::from_secs(60),
        max_attempts: 8,
        attempt_timeout: Duration::from_secs(30),
        exhausted: Exhausted::Stuck,
        dependency: None,
        max_elapsed: None,
        report_within: None,
    };

    /// One attempt only; the handler sees its error.
    pub const ONCE: Self = Self {
        max_attempts: 1,
        exhausted: Exhausted::Return,
        ..Self::DEFAULT
    };

    /// Names the outside dependency that the step asks.
    #[must_use]
    pub const fn on(mut self, dependency: &'static str) -> Self {
        self.dependency = Some(dependency);
        self
    }

    /// For a step that works long: an attempt may take as long as it reports progress at least this
    /// often ([`Step::progress`](crate::Step::progress)). Set `attempt_timeout` after this to bound it
    /// all the same.
    #[must_use]
    pub const fn report_within(self, duration: Duration) -> Self {
        Self {
            attempt_timeout: Duration::MAX,
            report_within: Some(duration),
            ..self
        }
    }

    /// Bounds the step as a whole; see [`RetryPolicy::max_elapsed`].
    #[must_use]
    pub const fn within(self, duration: Duration) -> Self {
        Self {
            max_elapsed: Some(duration),
            ..self
        }
    }

    /// How long an attempt may take that begins when the step has taken `spent` already.
    #[must_use]
    pub(crate) fn attempt_limit(&self, spent: Duration) -> Duration {
        let left = self.max_elapsed.map(|limit| limit.saturating_sub(spent));
        left.map_or(self.attempt_timeout, |left| left.min(self.attempt_timeout))
    }

    /// As [`RetryPolicy::delay`], or `None` when that would end past the limit of the whole step.
    #[must_use]
    pub(crate) fn delay_after(
        &self,
        spent: Duration,
        attempt: u32,
        chance: f64,
    ) -> Option<Duration> {
        let delay = self.delay(attempt, chance)?;
        self.fits(spent, delay).then_some(delay)
    }

    /// Whether an attempt after so long a delay still begins within the limit of the whole step.
    pub(crate) fn fits(&self, spent: Duration, delay: Duration) -> bool {
        self.max_elapsed.is_none_or(|limit| spent + delay < limit)
    }

    /// The delay before the next attempt, or `None` when `attempt` was the last one allowed.
    ///
    /// `attempt` counts from 1; `chance` lies in `0.0..1.0`.
    #[must_use]
    pub fn delay(&self, attempt: u32, chance: f64) -> Option<Duration> {
        if attempt >= self.max_attempts {
            return None;
        }
        let exponent = i32::try_from(attempt.saturating_sub(1)).unwrap_or(i32::MAX);
        let bound = self.initial.as_secs_f64() * self.factor.powi(exponent);
        let bound = bound.min(self.cap.as_secs_f64());
        Some(Duration::from_secs_f64(bound * chance.clamp(0.0, 1.0)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_step_as_a_whole_has_a_limit() {
        let policy = RetryPolicy::DEFAULT.within(Duration::from_secs(60));
        let seconds = Duration::from_secs;
        assert_eq!(policy.attempt_limit(seconds(0)), seconds(30));
        assert_eq!(policy.attempt_limit(seconds(50)), seconds(10));
        assert_eq!(policy.attempt_limit(seconds(70)), seconds(0));
        assert!(policy.delay_after(seconds(59), 1, 1.0).is_some());
        assert_eq!(policy.delay_after(seconds(60), 1, 1.0), None);
        let free = RetryPolicy::DEFAULT.report_within(seconds(5));
        assert_eq!(free.attempt_limit(seconds(9_999)), Duration::MAX);
        assert!(free.delay_after(seconds(9_999), 1, 1.0).is_some());
    }

    #[test]
    fn the_bound_doubles_to_the_cap_and_ends() {
        let policy = RetryPolicy {
            initial: Duration::from_secs(1),
            cap: Duration::from_secs(5),
            max_attempts: 5,
            ..RetryPolicy::DEFAULT
        };
        let bounds: Vec<_> = (1..=5)
            .map(|attempt| policy.delay(attempt, 1.0).map(|d| d.as_secs()))
            .collect();
        assert_eq!(bounds, [Some(1), Some(2), Some(4), Some(5), None]);
        assert_eq!(policy.delay(3, 0.0), Some(Duration::ZERO));
    }
}

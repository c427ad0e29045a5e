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
}

/// What follows when a policy is exhausted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exhausted {
    /// The run becomes stuck with the step's last error; an operator decides.
    Stuck,
    /// The handler gets the error and takes another branch.
    Return,
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

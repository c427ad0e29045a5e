//! The link to the server: when to ask next, and how old the data is.
//!
//! Pure bookkeeping over times that arrive with events. One question is under way at a time; a new
//! view starts a new generation, and answers to older ones are dropped.

use crate::time;
use chrono::{DateTime, TimeDelta, Utc};

/// Longest pause after failures.
const BACKOFF_MAX_SECONDS: i64 = 15;

/// The link to the server.
#[derive(Clone, Debug)]
pub struct Link {
    generation: u64,
    asking: bool,
    failures: u32,
    next_ask: DateTime<Utc>,
    last_good: Option<DateTime<Utc>>,
    trouble: Option<String>,
}

impl Link {
    /// A link that was never used and wants to ask at once.
    pub fn new(now: DateTime<Utc>) -> Self {
        let (asking, failures, trouble) = (false, 0, None);
        Self {
            generation: 0,
            asking,
            failures,
            next_ask: now,
            last_good: None,
            trouble,
        }
    }

    /// The generation of the view on show.
    pub fn generation(&self) -> u64 {
        self.generation
    }

    /// Starts a new view: what is under way no longer counts, and a question is due.
    pub fn renew(&mut self, now: DateTime<Utc>) {
        self.renew_part(now);
        self.last_good = None;
    }

    /// The same where most of the view stays, so that its data keeps its age.
    pub fn renew_part(&mut self, now: DateTime<Utc>) {
        self.generation += 1;
        self.asking = false;
        self.next_ask = now;
    }

    /// Makes a question due now.
    pub fn hurry(&mut self, now: DateTime<Utc>) {
        self.next_ask = now;
    }

    /// Whether a question is due.
    pub fn is_due(&self, now: DateTime<Utc>) -> bool {
        !self.asking && now >= self.next_ask
    }

    /// Notes that a question went out.
    pub fn asked(&mut self) {
        self.asking = true;
    }

    /// Notes that the server answered; what it said is fresh for a while.
    pub fn good(&mut self, at: DateTime<Utc>, pause: TimeDelta) {
        self.asking = false;
        self.failures = 0;
        self.trouble = None;
        self.last_good = Some(at);
        self.next_ask = at + pause;
    }

    /// Notes that no useful answer came; the next question waits longer each time.
    pub fn failed(&mut self, at: DateTime<Utc>, words: String) {
        self.asking = false;
        self.failures = self.failures.saturating_add(1);
        self.trouble = Some(words);
        let seconds = 1_i64
            .checked_shl(self.failures - 1)
            .unwrap_or(BACKOFF_MAX_SECONDS);
        self.next_ask = at + TimeDelta::seconds(seconds.clamp(1, BACKOFF_MAX_SECONDS));
    }

    /// Notes that the server answered with a no that will stay one; asking goes on, but slowly.
    pub fn refused(&mut self, at: DateTime<Utc>, words: String) {
        self.asking = false;
        self.failures = 0;
        self.trouble = Some(words);
        self.next_ask = at + TimeDelta::seconds(BACKOFF_MAX_SECONDS);
    }

    /// Whether the last question was answered.
    pub fn is_live(&self) -> bool {
        self.failures == 0
    }

    /// What is wrong, if something is.
    pub fn trouble(&self) -> Option<&str> {
        self.trouble.as_deref()
    }

    /// The state of the link in words.
    pub fn words(&self, now: DateTime<Utc>, focused: bool) -> String {
        let age = match self.last_good {
            Some(at) => format!("data {} old", time::short(now - at)),
            None => "no data yet".to_owned(),
        };
        if self.failures > 0 {
            let wait = self.next_ask - now;
            let next = if self.asking || wait < TimeDelta::seconds(1) {
                "now".to_owned()
            } else {
                format!("in {}", time::short(wait))
            };
            return format!("! reconnecting {next}, {age}");
        }
        if self.trouble.is_some() {
            return format!("x refused, {age}");
        }
        if !focused {
            return format!("= paused until the window has focus, {age}");
        }
        if self.last_good.is_none() {
            "* asking".to_owned()
        } else {
            format!("+ live, {age}")
        }
    }
}

//! What a workflow says about flow: the limits that its visits need room under. Pure values.
//!
//! How room is given and taken back is told in `gate.rs`; operators change the numbers while runs
//! go on (`flow.rs`).

use crate::id::TenantId;

/// A named bound on how many visits may run at once, how many may begin per period, or both.
///
/// The numbers here are what the limit begins with; an operator may change them at any time, and
/// what is stored then counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limit {
    /// Its name, shared by all workflows that name it; kebab-case.
    pub name: &'static str,
    /// Visits in flight at once, for each key.
    pub concurrency: Option<u32>,
    /// Visits that may begin per period, for each key.
    pub rate: Option<Rate>,
}

/// A token bucket: `count` tokens come per period, evenly; at most `burst` are saved up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rate {
    /// Tokens per period.
    pub count: u32,
    /// The period, in seconds.
    pub period_seconds: u32,
    /// The most tokens saved up, and what the bucket begins with.
    pub burst: u32,
}

impl Rate {
    /// So many per second, and as many at once.
    #[must_use]
    pub const fn per_second(count: u32) -> Self {
        Self {
            count,
            period_seconds: 1,
            burst: count,
        }
    }

    /// So many per minute, and as many at once.
    #[must_use]
    pub const fn per_minute(count: u32) -> Self {
        Self {
            count,
            period_seconds: 60,
            burst: count,
        }
    }

    /// Tokens that come in one second.
    pub(crate) fn tokens_per_second(self) -> f64 {
        f64::from(self.count) / f64::from(self.period_seconds.max(1))
    }
}

impl Limit {
    /// A limit without numbers yet; it lets everything through.
    #[must_use]
    pub const fn named(name: &'static str) -> Self {
        Self {
            name,
            concurrency: None,
            rate: None,
        }
    }

    /// Bounds the visits in flight at once.
    #[must_use]
    pub const fn concurrency(mut self, most: u32) -> Self {
        self.concurrency = Some(most);
        self
    }

    /// Bounds the visits that begin per period.
    #[must_use]
    pub const fn rate(mut self, rate: Rate) -> Self {
        self.rate = Some(rate);
        self
    }

    /// Needs room under this limit as all others do: one count for all.
    #[must_use]
    pub fn shared(&self) -> Need {
        self.for_key(String::new())
    }

    /// Needs room under this limit within the tenant: a count for each.
    #[must_use]
    pub fn for_tenant(&self, tenant: TenantId) -> Need {
        self.for_key(tenant.to_string())
    }

    /// Needs room under this limit within a key of the workflow's choice: a count for each.
    #[must_use]
    pub fn for_key(&self, key: impl Into<String>) -> Need {
        Need {
            limit: self.name,
            key: key.into(),
        }
    }
}

/// Room that a visit needs before it begins.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Need {
    /// The limit's name.
    pub limit: &'static str,
    /// Whose count; empty for the one that all share.
    pub key: String,
}

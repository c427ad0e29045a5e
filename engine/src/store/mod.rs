//! The shelves: all SQL of the engine, and only SQL. One function per statement.
//!
//! A shelf takes a connection, so that the caller owns the transaction; it never decides. Zero
//! rows from a guarded write is an answer (*fenced*), not an error. Ids, delays and chance are
//! bound from Rust; the only time is `engine.now()`.

pub(crate) mod audit;
pub(crate) mod breaker;
pub(crate) mod bulk;
pub(crate) mod claim;
pub(crate) mod claim_shard;
pub(crate) mod clock;
pub(crate) mod control;
pub(crate) mod data_key;
pub(crate) mod deploy;
pub(crate) mod failover;
pub(crate) mod fan_out;
pub(crate) mod forget;
pub(crate) mod gathering;
pub(crate) mod inbox;
pub(crate) mod inspect;
pub(crate) mod lease;
pub(crate) mod limit;
pub(crate) mod operator;
pub(crate) mod own_door;
pub(crate) mod pause;
pub(crate) mod permit;
pub(crate) mod progress;
pub(crate) mod retention;
pub(crate) mod ring;
pub(crate) mod run;
pub(crate) mod schedule;
pub(crate) mod search;
pub(crate) mod settle;
pub(crate) mod slot;
pub(crate) mod statistics;
pub(crate) mod step;
pub(crate) mod sweep;
pub(crate) mod waiter;
pub(crate) mod weight;

//! The counter: the HTTP API, the command line and the private Postgres. Thin.
//!
//! A handler extracts, calls one door and answers. `app` puts the routes together, `serve` runs
//! them beside a worker, and the binary `tenure` is the command line around both.

pub mod auth;
pub mod cli;
pub mod config;
mod entitlements;
pub mod error;
mod extract;
mod hear_out;
mod idempotency;
pub mod metrics;
mod migrate;
pub mod postgres;
pub mod routes;
pub mod serve;
mod settings;
mod state;
mod tar;
pub mod trace;

pub use migrate::MIGRATOR;
pub use routes::{app, openapi};
pub use state::AppState;

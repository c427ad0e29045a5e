//! The suite: the engine's promises, the business's stories, the two thin faces, the shape of the
//! tables. Each test has a database of its own on a real Postgres; none sleeps, none is skipped.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on says so")]

mod acts;
mod aftermath;
mod api;
mod backfills;
mod bench;
mod billing;
mod bulk;
mod catalog;
mod command_line;
mod command_routes;
mod config;
mod console;
mod console_pty;
mod console_verbs;
mod crash;
mod data_map;
mod deletions;
mod deploy;
mod doors;
mod dunning;
mod engine;
mod entitlements;
mod exports;
mod failover;
mod fault_matrix;
mod features;
mod filter;
mod flow;
mod holds;
mod keeping;
mod keys;
mod mails;
mod metrics;
mod payment_methods;
mod placements;
mod pooler;
mod postgres;
mod reconcile;
mod renewals;
mod retention;
mod schedules;
mod schema;
mod statements;
mod story;
mod stripe_sandbox;
mod support;
mod traces;
mod try_it;
mod versions;

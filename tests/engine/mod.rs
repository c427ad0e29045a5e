//! The engine's promises, one file each, on workflows of the tests' own.

mod bulk;
mod deploy;
mod example;
mod fan_out;
mod fence;
mod flow;
mod given_up;
mod idle;
mod inspect;
mod locks;
mod operator;
mod priorities;
mod progress;
mod retention;
mod run_deadline;
mod runs;
mod schedules;
mod seal;
mod search;
mod signals;
mod sql_doors;
mod steps;
mod tenants;
mod undo;
mod versions;
pub(crate) mod workflows;

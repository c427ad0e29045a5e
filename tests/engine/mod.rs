//! The engine's promises, one file each, on workflows of the tests' own.

mod fence;
mod inspect;
mod runs;
mod schedules;
mod signals;
mod steps;
mod tenants;
pub(crate) mod workflows;

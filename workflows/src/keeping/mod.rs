//! Keeping: how long a product's rows are kept, by class and table, and what a case at law holds.
//!
//! ```text
//! policy ─ checked against the data map ─ rules ─┐
//! holds ─────────────────────────────────────────┴─ sweep ─ archives ─ restored, or destroyed
//! ```
//!
//! The engine has a retention of its own, for finished runs; this is for the product's rows.
//!
//! Archives of a tenant are in `app.data_archive`; they lie in the store in a folder of the tenant's,
//! so that who deletes the tenant finds them.

mod door;
mod held;
pub mod hold;
pub(crate) mod place;
pub mod policy;
pub mod restore;
pub(crate) mod rows;
pub(crate) mod store;
pub mod sweep;

pub use door::{
    ArchiveFilter, find_policy, find_restorable, list_archives, load_policy, prepare_restore,
    prepare_sweep, start_restore, start_sweep,
};
pub use rows::{ArchiveRow, PolicyRow};

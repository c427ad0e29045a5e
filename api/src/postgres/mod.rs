//! The private Postgres: a real one that our process finds or fetches, starts and owns.
//!
//! ```text
//! find ─ is one here? ──┐
//! fetch ─ get one ──────┴─ Binaries ─ Cluster::start ─┬─ lock free: initdb, spawn, own
//!                                                     └─ lock held: attach to its server
//! ```
//!
//! The cluster listens on a Unix socket in a folder of ours and nowhere else, syncs to disk unless
//! it is scratch, never runs as root, and ends with the process that started it. A lock on its
//! folder is held for exactly as long as its server lives, so whoever gets the lock may start.
//! [`TestCluster`] gives tests a database each. Nothing here knows what is stored, and nothing here
//! reads the environment: paths arrive as arguments.

mod child;
mod cluster;
mod fetch;
mod find;
mod folder;
mod leftover;
mod owner;
mod server;
mod test_cluster;
mod unpack;

pub use cluster::Cluster;
pub use fetch::fetch;
pub use find::{Binaries, SearchPath, find};
pub use folder::default_home;
pub use server::{ClusterConfig, Durability};
pub use test_cluster::TestCluster;

/// The superuser of a private cluster; only reachable through its socket's folder.
pub const SUPERUSER: &str = "tenure";

//! The schema's migrations, embedded in the binary.

use sqlx::migrate::Migrator;

/// Numbered pairs of `migrations/`, in order, with the way back.
pub static MIGRATOR: Migrator = sqlx::migrate!("../migrations");

//! Keeping: how long a product's rows are kept, by class and table, and what a case at law holds.

pub mod hold;
pub(crate) mod rows;

//! What we ask of the outside, and the one real answer to each.

pub mod mail;
pub mod signature;
pub mod stripe;

//! The workflows that workers offer.

use crate::RunStatus;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use utoipa::ToSchema;

/// A workflow and how many runs it has.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Workflow {
    /// Name of the workflow.
    pub workflow: String,
    /// Newest version that a live worker handles.
    pub version: i32,
    /// The states its runs can be in, in the order of its code; what a list's `state` may ask for.
    pub states: Vec<String>,
    /// Runs by status; a status without runs may be absent.
    pub counts: BTreeMap<RunStatus, i64>,
}

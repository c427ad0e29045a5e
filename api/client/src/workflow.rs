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
    /// The queue that its runs stand in; what a pause of a queue names.
    #[serde(default)]
    pub queue: String,
    /// The states its runs can be in, in the order of its code; what a list's `state` may ask for.
    pub states: Vec<String>,
    /// Runs by status; a status without runs may be absent.
    pub counts: BTreeMap<RunStatus, i64>,
    /// The search attributes of its runs; what a filter may ask for.
    #[serde(default)]
    pub attributes: Vec<SearchAttribute>,
}

/// A search attribute that a workflow declares.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct SearchAttribute {
    /// Its name in a filter.
    pub name: String,
    /// What its values are.
    pub kind: AttributeKind,
}

/// What the values of a search attribute are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum AttributeKind {
    /// Text, equal or not.
    Text,
    /// A number.
    Number,
    /// True or false.
    Bool,
    /// An instant.
    Time,
}

impl AttributeKind {
    /// The name on the wire.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Text => "text",
            Self::Number => "number",
            Self::Bool => "bool",
            Self::Time => "time",
        }
    }
}

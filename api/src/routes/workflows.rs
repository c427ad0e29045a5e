//! The workflows that this server knows, and how many runs of each there are.

use std::collections::BTreeMap;

use axum::Json;
use axum::extract::State;
use tenure_client::{AttributeKind, Problem, SearchAttribute, Workflow};
use tenure_engine::{Registry, inspect};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::runs_view::status;
use crate::auth::Caller;
use crate::error::ApiError;
use crate::state::AppState;

pub(super) fn router() -> OpenApiRouter<AppState> {
    OpenApiRouter::new().routes(routes!(list))
}

/// List the workflows with their runs by status.
#[utoipa::path(get, path = "/v1/workflows", tag = "Runs", responses(
    (status = 200, body = Vec<Workflow>), (status = 401, body = Problem)))]
async fn list(
    State(state): State<AppState>,
    caller: Caller,
) -> Result<Json<Vec<Workflow>>, ApiError> {
    let mut tx = state.begin_for(&caller).await?;
    let mut counts: BTreeMap<String, BTreeMap<_, i64>> = BTreeMap::new();
    for (workflow, found, count) in inspect::counts(&mut tx).await? {
        counts
            .entry(workflow)
            .or_default()
            .insert(status(found), count);
    }
    let mut workflows = known(state.client().registry());
    for workflow in &mut workflows {
        workflow.counts = counts.remove(&workflow.workflow).unwrap_or_default();
    }
    Ok(Json(workflows))
}

/// The workflows with what a filter may ask of them, not counted.
pub(super) fn known(registry: &Registry) -> Vec<Workflow> {
    let workflows = registry
        .versions()
        .into_iter()
        .map(|(name, version)| Workflow {
            workflow: name.to_owned(),
            version,
            queue: registry.queue(name).to_owned(),
            states: registry
                .states(name)
                .unwrap_or_default()
                .iter()
                .map(ToString::to_string)
                .collect(),
            counts: BTreeMap::new(),
            attributes: registry
                .attributes(name)
                .unwrap_or_default()
                .iter()
                .map(|(name, kind)| SearchAttribute {
                    name: (*name).to_owned(),
                    kind: of_kind(*kind),
                })
                .collect(),
        });
    workflows.collect()
}

fn of_kind(kind: tenure_engine::AttributeKind) -> AttributeKind {
    match kind {
        tenure_engine::AttributeKind::Text => AttributeKind::Text,
        tenure_engine::AttributeKind::Number => AttributeKind::Number,
        tenure_engine::AttributeKind::Bool => AttributeKind::Bool,
        tenure_engine::AttributeKind::Time => AttributeKind::Time,
    }
}

//! How long the product's rows are kept, and what that comes to: sweeps, restores, exports.

use super::named;
use crate::event::{Around, Names};
use crate::json;
use crate::place::{self, cell, note, section};
use crate::theme::{self, Tone};
use crate::tree::Node;
use tenure_client::{KeepingPolicy, RunSummary};

/// The shelf: what was decided, and the jobs, the newest first.
pub(super) fn nodes(jobs: &[RunSummary], around: &Around, names: &Names) -> Vec<Node> {
    let mut nodes = Vec::new();
    if let Around::Policies(policies) = around {
        nodes.push(section(
            "POLICIES",
            policies,
            "no source is configured",
            |(source, policy)| policy_node(source, policy.as_ref()),
        ));
    }
    let jobs = Ok(jobs.iter().collect());
    nodes.push(section(
        "SWEEPS, RESTORES, EXPORTS",
        &jobs,
        "none yet",
        |run| job_node(run, names),
    ));
    nodes
}

fn policy_node(source: &str, policy: Option<&KeepingPolicy>) -> Node {
    let id = format!("policy {source}");
    let Some(policy) = policy else {
        let words = "nothing is said of how long its rows are kept";
        let line = vec![
            cell(Tone::Strong, source, 16),
            (Tone::Dim, words.to_owned()),
        ];
        return Node::leaf(id, line, source);
    };
    let at = policy.loaded_at.format("%d %b %Y");
    let line = vec![
        cell(Tone::Strong, source, 16),
        (Tone::Plain, format!("version {}  ", policy.version)),
        (
            Tone::Dim,
            format!("by {} on {at}: {}", policy.author, policy.reason),
        ),
    ];
    let children = json::nodes(&place::below(&id, "document"), &policy.document);
    Node::leaf(id, line, policy.document.to_string()).with_children(children)
}

/// What a person calls the workflow of a job.
fn word(workflow: &str) -> &str {
    match workflow {
        "data-retention" => "sweep",
        "data-restore" => "restore",
        "data-export" => "export",
        other => other,
    }
}

/// A job. The keys of sweeps and restores begin with the tenant's id.
fn job_node(run: &RunSummary, names: &Names) -> Node {
    let id = format!("run {}", run.run_id);
    let tenant = run.key.split_once('/').and_then(|(id, _)| id.parse().ok());
    let tenant = tenant.map_or_else(|| run.key.clone(), |tenant| named(names, tenant));
    let halted = run.state == "Halted" && run.finished_at.is_none();
    let tone = if halted { Tone::Bad } else { Tone::Plain };
    let mark = if halted { "! " } else { "" };
    let line = vec![
        cell(
            theme::status_tone(run.status),
            &theme::status_words(run.status),
            12,
        ),
        cell(Tone::Strong, word(&run.workflow), 8),
        cell(Tone::Plain, &tenant, 22),
        cell(tone, &format!("{mark}{}", run.state), 13),
        (Tone::Dim, run.started_at.format("%d %b %H:%M").to_string()),
    ];
    let halted = halted
        .then(|| "Enter opens its run, which says why; S there tells it Resume or Skip".to_owned());
    let stuck = run.stuck_reason.clone();
    let why = note(&id, "why", stuck.or(halted).unwrap_or_default());
    Node {
        open: true,
        ..Node::leaf(&id, line, run.run_id.to_string()).with_children(why.into_iter().collect())
    }
}

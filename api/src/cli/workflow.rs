//! `tenure workflow`: the workflows that there are, through the API.

use tenure_client::Workflow;

use super::run::{ApiArgs, print};

/// What to do with workflows.
#[derive(Debug, clap::Subcommand)]
pub(super) enum WorkflowCommand {
    /// List the workflows: version, states, runs by status, and what else a filter may ask for.
    List(ApiArgs),
}

pub(super) async fn run(command: WorkflowCommand) -> anyhow::Result<()> {
    match command {
        WorkflowCommand::List(api) => {
            let workflows = api.client()?.list_workflows().await?;
            print(&api, &workflows, || {
                workflows.iter().for_each(print_workflow)
            })
        }
    }
}

fn print_workflow(workflow: &Workflow) {
    let (name, version, queue) = (&workflow.workflow, workflow.version, &workflow.queue);
    outln!("{name}  version {version}, queue {queue}");
    outln!("  states      {}", workflow.states.join(", "));
    let runs = workflow.counts.iter().filter(|(_, runs)| **runs > 0);
    let runs: Vec<String> = runs
        .map(|(status, runs)| format!("{runs} {}", status.as_str()))
        .collect();
    outln!("  runs        {}", or_none(&runs));
    let attributes = workflow.attributes.iter();
    let attributes: Vec<String> = attributes
        .map(|attribute| format!("{} ({})", attribute.name, attribute.kind.as_str()))
        .collect();
    outln!("  attributes  {}", or_none(&attributes));
}

fn or_none(words: &[String]) -> String {
    if words.is_empty() {
        "none".to_owned()
    } else {
        words.join(", ")
    }
}

//! `tenure run`: the console's verbs for scripts, through the API.

use std::path::PathBuf;

use anyhow::Context as _;
use serde::Serialize;
use tenure_client::{Client, IdempotencyKey, RetryRun, RunFilter, RunStatus, SendSignal};
use uuid::Uuid;

/// Where the API is and who asks.
#[derive(Debug, clap::Args)]
pub(super) struct ApiArgs {
    /// Address of the API.
    #[arg(long, env = "TENURE_URL", default_value = "http://127.0.0.1:7070")]
    url: String,
    /// The token.
    #[arg(long, env = "TENURE_TOKEN", hide_env_values = true)]
    token: Option<String>,
    /// A file that holds the token.
    #[arg(long, env = "TENURE_TOKEN_FILE")]
    token_file: Option<PathBuf>,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

impl ApiArgs {
    pub(super) fn client(&self) -> anyhow::Result<Client> {
        let token = match (&self.token, &self.token_file) {
            (Some(token), _) => token.clone(),
            (None, Some(file)) => std::fs::read_to_string(file)
                .with_context(|| format!("cannot read {}", file.display()))?
                .trim()
                .to_owned(),
            (None, None) => anyhow::bail!("give a token: --token or TENURE_TOKEN"),
        };
        Ok(Client::new(&self.url, &token)?)
    }
}

/// What to do with runs.
#[derive(Debug, clap::Subcommand)]
pub(super) enum RunCommand {
    /// List runs, newest first.
    List {
        #[command(flatten)]
        api: ApiArgs,
        /// Of this workflow.
        #[arg(long)]
        workflow: Option<String>,
        /// In this status, such as stuck.
        #[arg(long, value_parser = parse_status)]
        status: Option<RunStatus>,
        /// In this state.
        #[arg(long)]
        state: Option<String>,
        /// Of this tenant.
        #[arg(long)]
        tenant: Option<Uuid>,
    },
    /// Show a run and why it is where it is.
    Show {
        #[command(flatten)]
        api: ApiArgs,
        /// The run.
        run_id: Uuid,
    },
    /// Send a run a signal.
    Signal {
        #[command(flatten)]
        api: ApiArgs,
        /// The run.
        run_id: Uuid,
        /// The signal, as JSON.
        signal: String,
        /// Its id: the run takes each once. A new one when none is given.
        #[arg(long)]
        id: Option<String>,
        /// Why.
        #[arg(long)]
        reason: String,
    },
    /// Try a run's failed step again now.
    Retry {
        #[command(flatten)]
        api: ApiArgs,
        /// The run.
        run_id: Uuid,
        /// Why.
        #[arg(long)]
        reason: String,
        /// The revision that was seen; the present one when none is given.
        #[arg(long)]
        revision: Option<i64>,
        /// Say what would happen, and do nothing.
        #[arg(long)]
        dry_run: bool,
    },
}

fn parse_status(text: &str) -> Result<RunStatus, String> {
    RunStatus::parse(text).ok_or_else(|| {
        let known: Vec<_> = RunStatus::ALL
            .iter()
            .map(|status| status.as_str())
            .collect();
        format!("one of {}", known.join(", "))
    })
}

#[expect(clippy::too_many_lines, reason = "one arm a verb")]
pub(super) async fn run(command: RunCommand) -> anyhow::Result<()> {
    match command {
        RunCommand::List {
            api,
            workflow,
            status,
            state,
            tenant,
        } => {
            let filter = RunFilter {
                workflow,
                status,
                state,
                tenant_id: tenant,
                ..RunFilter::default()
            };
            let page = api.client()?.list_runs(&filter).await?;
            print(&api, &page, || {
                for run in &page.items {
                    let next = run.next_at.map_or(String::new(), |at| at.to_rfc3339());
                    println!(
                        "{}  {:<12} {:<10} {:<14} {:<26} {}",
                        run.run_id,
                        run.workflow,
                        run.status.as_str(),
                        run.state,
                        next,
                        run.key
                    );
                }
            })
        }
        RunCommand::Show { api, run_id } => {
            let run = api.client()?.run(run_id).await?;
            print(&api, &run, || {
                let summary = &run.summary;
                println!(
                    "{} {} {} in state {}, revision {}",
                    summary.workflow,
                    summary.run_id,
                    summary.status.as_str(),
                    summary.state,
                    run.revision
                );
                println!("why: {}", run.why.summary);
                for evidence in &run.why.evidence {
                    println!("  {}: {}", evidence.label, evidence.value);
                }
            })
        }
        RunCommand::Signal {
            api,
            run_id,
            signal,
            id,
            reason,
        } => {
            let signal = serde_json::from_str(&signal).context("the signal is no JSON")?;
            let id = id.unwrap_or_else(|| tenure_engine::random_uuid().to_string());
            let send = SendSignal {
                id,
                name: None,
                signal,
                reason: Some(reason),
            };
            let key = IdempotencyKey::generate();
            let sent = api.client()?.send_signal(run_id, &send, &key).await?;
            print(&api, &sent, || println!("sent {}", sent.signal_id))
        }
        RunCommand::Retry {
            api,
            run_id,
            reason,
            revision,
            dry_run,
        } => retry(&api, run_id, reason, revision, dry_run).await,
    }
}

async fn retry(
    api: &ApiArgs,
    run_id: Uuid,
    reason: String,
    revision: Option<i64>,
    dry_run: bool,
) -> anyhow::Result<()> {
    let client = api.client()?;
    let run = client.run(run_id).await?;
    let revision = revision.unwrap_or(run.revision);
    if dry_run {
        let action = run.allowed_actions.iter().find(|one| one.action == "retry");
        let refused = action.and_then(|one| one.reason.as_deref());
        return print(api, &action, || match refused {
            None => println!("it would be tried again now; answered steps stay answered"),
            Some(reason) => println!("it would be refused: {reason}"),
        });
    }
    let retry = RetryRun { reason, revision };
    let done = client
        .retry_run(run_id, &retry, &IdempotencyKey::generate())
        .await?;
    print(api, &done, || {
        println!("it is due now, revision {}", done.revision)
    })
}

pub(super) fn print<T: Serialize>(
    api: &ApiArgs,
    value: &T,
    text: impl FnOnce(),
) -> anyhow::Result<()> {
    if api.json {
        println!("{}", serde_json::to_string_pretty(value)?);
    } else {
        text();
    }
    Ok(())
}

//! `tenure run`: the console's verbs for scripts, through the API.

use std::path::PathBuf;

use anyhow::Context as _;
use chrono::{DateTime, SecondsFormat, Utc};
use serde::Serialize;
use serde_json::Value;
use tenure_client::{
    ActOnRun, ActionArgs, Client, DeadlineClock, GatherStarts, IdempotencyKey, RevealField,
    RunCountFilter, RunFilter, RunPriority, RunStatus, SendSignal, StartRun,
};
use uuid::Uuid;

use super::retention::show_archived;

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

    pub(super) fn is_json(&self) -> bool {
        self.json
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
        /// A filter, such as "workflow:dunning state:past-due age:>3d"; see *Finding runs* in
        /// docs/operating.md.
        #[arg(long)]
        filter: Option<String>,
        /// Where the last page ended.
        #[arg(long)]
        cursor: Option<String>,
        /// Runs per page, at most 200.
        #[arg(long)]
        limit: Option<u32>,
    },
    /// Count the runs that a filter finds, up to 100,000.
    Count {
        #[command(flatten)]
        api: ApiArgs,
        /// The filter; all runs when none is given.
        #[arg(long)]
        filter: Option<String>,
    },
    /// Show a run and why it is where it is.
    Show {
        #[command(flatten)]
        api: ApiArgs,
        /// The run.
        run_id: Uuid,
        /// Out of this file of the archive, without asking the API.
        #[arg(long, value_name = "FILE")]
        archive: Option<PathBuf>,
    },
    /// Show the visits of a run, oldest first: what came, and where it went.
    Transitions(OfRun),
    /// Show the steps that a run has been answered, oldest first.
    Steps(OfRun),
    /// Show the messages to a run, oldest first, and what became of each.
    Signals(OfRun),
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
    /// Show a private field of a run. That you saw it and why is written into the audit.
    Reveal {
        #[command(flatten)]
        api: ApiArgs,
        /// The run.
        run_id: Uuid,
        /// Which field, as a JSON Pointer: /data/Open/email, /output/email, /steps/3/0/answer/email,
        /// /signals/some-id/payload/Paid/email or /progress/import/value/email.
        field: String,
        /// Why; kept in the audit.
        #[arg(long)]
        reason: String,
    },
    /// Start a run; the same key and input again is the first run.
    Start(StartArgs),
    /// Do a verb to a run: retry, skip-step, fail-step, pause, resume, edit-state, move,
    /// move-deadline, fire-deadline, cancel, terminate or restart.
    Act(Box<ActArgs>),
}

/// Which run.
#[derive(Debug, clap::Args)]
pub(super) struct OfRun {
    #[command(flatten)]
    api: ApiArgs,
    /// The run.
    run_id: Uuid,
}

/// `tenure run start`.
#[derive(Debug, clap::Args)]
pub(super) struct StartArgs {
    #[command(flatten)]
    api: ApiArgs,
    /// The workflow.
    workflow: String,
    /// The tenant that it belongs to.
    #[arg(long)]
    tenant: Uuid,
    /// Its key, unique per tenant and workflow.
    #[arg(long)]
    key: String,
    /// The input, as JSON.
    #[arg(long, value_parser = parse_json, default_value = "null")]
    input: Value,
    /// highest, high, normal, low or lowest; as its workflow says otherwise.
    #[arg(long, value_parser = parse_priority)]
    priority: Option<RunPriority>,
    /// When it starts, in the tenant's time, such as 2027-01-31T09:00:00Z; at once otherwise.
    #[arg(long)]
    at: Option<DateTime<Utc>>,
    /// Start once no other start of the key has come for so many seconds, with the last input.
    #[arg(long, value_name = "SECONDS", conflicts_with_all = ["at", "priority", "batch"])]
    debounce: Option<u32>,
    /// Start once so many starts of the key have come, with the list of their inputs.
    #[arg(long, value_name = "SIZE", conflicts_with_all = ["at", "priority"])]
    batch: Option<u32>,
    /// With --debounce or --batch: start at the latest so many seconds after the first.
    #[arg(long, value_name = "SECONDS", default_value_t = 300)]
    within: u32,
}

fn parse_priority(text: &str) -> Result<RunPriority, String> {
    let words = RunPriority::ALL.map(RunPriority::as_str).join(", ");
    RunPriority::parse(text).ok_or_else(|| format!("one of {words}"))
}

/// `tenure run act`.
#[derive(Debug, clap::Args)]
pub(super) struct ActArgs {
    #[command(flatten)]
    api: ApiArgs,
    /// The verb.
    verb: String,
    /// The run.
    run_id: Uuid,
    /// Why; kept in the audit.
    #[arg(long)]
    reason: String,
    /// The revision that was seen; the present one when none is given.
    #[arg(long)]
    revision: Option<i64>,
    /// Say what would happen, and do nothing.
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    args: VerbArgs,
}

/// What verbs take.
#[derive(Debug, Clone, clap::Args)]
pub(super) struct VerbArgs {
    /// What the step would have answered, as JSON: for skip-step.
    #[arg(long, value_parser = parse_json)]
    answer: Option<Value>,
    /// The error's code: for fail-step.
    #[arg(long)]
    code: Option<String>,
    /// The error in words: for fail-step.
    #[arg(long)]
    message: Option<String>,
    /// The whole state, as JSON: for edit-state, move and restart.
    #[arg(long, value_parser = parse_json)]
    state: Option<Value>,
    /// The deadline's name: for move-deadline and fire-deadline.
    #[arg(long)]
    name: Option<String>,
    /// When it passes, RFC 3339: for move-deadline.
    #[arg(long)]
    at: Option<DateTime<Utc>>,
    /// The new run's key: for restart.
    #[arg(long)]
    key: Option<String>,
    /// The input to start over with, as JSON: for restart.
    #[arg(long, value_parser = parse_json)]
    input: Option<Value>,
    /// The signal, as JSON: for signal, to many runs.
    #[arg(long, value_parser = parse_json)]
    signal: Option<Value>,
}

impl VerbArgs {
    /// As the API takes them.
    pub(super) fn into_args(self) -> ActionArgs {
        ActionArgs {
            answer: self.answer,
            code: self.code,
            message: self.message,
            state: self.state,
            name: self.name,
            at: self.at,
            key: self.key,
            input: self.input,
            signal: self.signal,
        }
    }
}

fn parse_json(text: &str) -> Result<Value, String> {
    serde_json::from_str(text).map_err(|error| format!("no JSON: {error}"))
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
            filter,
            cursor,
            limit,
        } => {
            let filter = RunFilter {
                workflow,
                status,
                state,
                tenant_id: tenant,
                key: None,
                filter,
                cursor,
                limit,
            };
            let page = api.client()?.list_runs(&filter).await?;
            print(&api, &page, || {
                for run in &page.items {
                    let next = run.next_at.map_or(String::new(), rfc3339);
                    let clock = match run.next_clock {
                        Some(DeadlineClock::Tenant) => "(test clock)",
                        _ => "",
                    };
                    outln!(
                        "{}  {:<12} {:<10} {:<14} {:<20} {clock:<12} {}",
                        run.run_id,
                        run.workflow,
                        run.status.as_str(),
                        run.state,
                        next,
                        run.key
                    );
                }
                if let Some(cursor) = &page.next_cursor {
                    eprintln!("There may be more: --cursor {cursor}");
                }
            })
        }
        RunCommand::Count { api, filter } => {
            let filter = RunCountFilter { filter };
            let count = api.client()?.count_runs(&filter).await?;
            let more = if count.more { " or more" } else { "" };
            print(&api, &count, || outln!("{}{more}", count.runs))
        }
        RunCommand::Show {
            run_id,
            archive: Some(file),
            ..
        } => show_archived(&file, run_id),
        RunCommand::Show { api, run_id, .. } => {
            let run = api.client()?.run(run_id).await?;
            print(&api, &run, || {
                let summary = &run.summary;
                outln!(
                    "{} {} {} in state {}, revision {}",
                    summary.workflow,
                    summary.run_id,
                    summary.status.as_str(),
                    summary.state,
                    run.revision
                );
                if let Some(parent) = run.parent_run_id {
                    outln!("started by: {parent}");
                }
                for (name, value) in run.attributes.iter().flat_map(Value::as_object).flatten() {
                    outln!("{name}: {value}");
                }
                outln!("why: {}", run.why.summary);
                for evidence in &run.why.evidence {
                    outln!("  {}: {}", evidence.label, evidence.value);
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
            print(&api, &sent, || outln!("sent {}", sent.signal_id))
        }
        RunCommand::Reveal {
            api,
            run_id,
            field,
            reason,
        } => {
            let asked = RevealField { field, reason };
            let shown = api.client()?.reveal_field(run_id, &asked).await?;
            print(&api, &shown, || outln!("{}", words(&shown.value)))
        }
        RunCommand::Transitions(of) => transitions(of).await,
        RunCommand::Steps(of) => steps(of).await,
        RunCommand::Signals(of) => signals(of).await,
        RunCommand::Start(args) => start(args).await,
        RunCommand::Act(act) => do_verb(*act).await,
    }
}

async fn transitions(OfRun { api, run_id }: OfRun) -> anyhow::Result<()> {
    let lines = api.client()?.list_transitions(run_id).await?;
    print(&api, &lines, || {
        for line in &lines {
            let from = line.from_state.as_deref().unwrap_or("-");
            let to = line.to_state.as_deref().unwrap_or("-");
            let detail = line.detail.as_ref().map_or(String::new(), words);
            let at = rfc3339(line.at);
            let line = format!(
                "{:>5}  {at}  {:<24} {from} -> {to}  {}  {detail}",
                line.visit, line.event, line.outcome
            );
            outln!("{}", line.trim_end());
        }
    })
}

async fn steps(OfRun { api, run_id }: OfRun) -> anyhow::Result<()> {
    let lines = api.client()?.list_steps(run_id).await?;
    print(&api, &lines, || {
        for line in &lines {
            let answer = match (&line.answer, &line.error) {
                (_, Some(error)) => format!("failed: {}", words(error)),
                (Some(answer), None) => words(answer),
                (None, None) => String::new(),
            };
            let at = rfc3339(line.recorded_at);
            // As a field of it is named for `tenure run reveal`.
            let place = format!("{}/{}", line.visit, line.seq);
            let line = format!("{place:>7}  {at}  {:<24} {answer}", line.name);
            outln!("{}", line.trim_end());
        }
    })
}

async fn signals(OfRun { api, run_id }: OfRun) -> anyhow::Result<()> {
    let lines = api.client()?.list_signals(run_id).await?;
    print(&api, &lines, || {
        for line in &lines {
            let reason = line.reason.as_deref().unwrap_or_default();
            let (at, outcome) = (rfc3339(line.received_at), line.outcome.as_str());
            let payload = words(&line.payload);
            let line = format!(
                "{at}  {outcome:<9} {:<16} {}  {payload}  {reason}",
                line.name, line.signal_id
            );
            outln!("{}", line.trim_end());
        }
    })
}

/// A text as it is, anything else as JSON.
fn words(value: &Value) -> String {
    value
        .as_str()
        .map_or_else(|| value.to_string(), str::to_owned)
}

async fn start(args: StartArgs) -> anyhow::Result<()> {
    let at_most_seconds = args.within;
    let gather = match (args.debounce, args.batch) {
        (Some(quiet_seconds), None) => Some(GatherStarts::Debounce {
            quiet_seconds,
            at_most_seconds,
        }),
        (None, Some(size)) => Some(GatherStarts::Batch {
            size,
            at_most_seconds,
        }),
        _ => None,
    };
    let start = StartRun {
        workflow: args.workflow,
        tenant_id: args.tenant,
        key: args.key,
        input: args.input,
        priority: args.priority,
        start_at: args.at,
        gather,
    };
    let client = args.api.client()?;
    let run = client
        .start_run(&start, &IdempotencyKey::generate())
        .await?;
    print(&args.api, &run, || {
        let summary = &run.summary;
        outln!(
            "{}  {}  {}",
            summary.run_id,
            summary.status.as_str(),
            summary.state
        );
    })
}

async fn do_verb(act: ActArgs) -> anyhow::Result<()> {
    let ActArgs {
        api, verb, run_id, ..
    } = &act;
    let client = api.client()?;
    let revision = match act.revision {
        Some(seen) => seen,
        None => client.run(*run_id).await?.revision,
    };
    let body = ActOnRun {
        reason: act.reason.clone(),
        revision,
        dry_run: act.dry_run,
        args: act.args.clone().into_args(),
    };
    let key = IdempotencyKey::generate();
    let done = client.act_on_run(*run_id, verb, &body, &key).await?;
    print(api, &done, || {
        for effect in &done.effects {
            outln!("{effect}");
        }
        match (done.dry_run, done.started_run_id) {
            (true, _) => outln!("Nothing was done: this was a dry run."),
            (false, Some(started)) => outln!("started {started}"),
            (false, None) => outln!("done, revision {}", done.revision),
        }
    })
}

pub(super) fn print<T: Serialize>(
    api: &ApiArgs,
    value: &T,
    text: impl FnOnce(),
) -> anyhow::Result<()> {
    if api.json {
        outln!("{}", serde_json::to_string_pretty(value)?);
    } else {
        text();
    }
    Ok(())
}

/// An instant, to the second.
pub(super) fn rfc3339(at: DateTime<Utc>) -> String {
    at.to_rfc3339_opts(SecondsFormat::Secs, true)
}

//! `tenure schedule`: cron entries for scripts, through the API.

use anyhow::Context as _;
use tenure_client::{
    ActOnSchedule, CatchUpPolicy, ChangeSchedule, IdempotencyKey, NewSchedule, OverlapPolicy,
    Schedule, ScheduleDetail, ScheduleFilter, Slot, SlotOutcome,
};
use uuid::Uuid;

use super::run::{ApiArgs, print, rfc3339};

/// What to do with schedules.
#[derive(Debug, clap::Subcommand)]
pub(super) enum ScheduleCommand {
    /// List schedules, newest first.
    List {
        #[command(flatten)]
        api: ApiArgs,
        /// Of this tenant.
        #[arg(long)]
        tenant: Option<Uuid>,
        /// Of this workflow.
        #[arg(long)]
        workflow: Option<String>,
        /// Only those that are paused (true) or not (false).
        #[arg(long)]
        paused: Option<bool>,
    },
    /// Show a schedule, its coming slots and what became of the last ones.
    Show {
        #[command(flatten)]
        api: ApiArgs,
        /// The schedule.
        schedule_id: Uuid,
    },
    /// Make a schedule.
    Create(Box<CreateArgs>),
    /// Change a schedule; what is not given stays.
    Update(Box<UpdateArgs>),
    /// Let no slot come about until it is resumed; none is made up.
    Pause(ActArgs),
    /// Go on with the first slot after now.
    Resume(ActArgs),
    /// Start an extra run at once, whatever policies and a pause say.
    RunNow(ActArgs),
    /// Take a schedule away; its runs stay.
    Delete(ActArgs),
}

/// A schedule to make.
#[derive(Debug, clap::Args)]
pub(super) struct CreateArgs {
    #[command(flatten)]
    api: ApiArgs,
    /// Its name, unique per tenant.
    name: String,
    /// The tenant that owns it and its runs.
    #[arg(long)]
    tenant: Uuid,
    /// The workflow that it starts.
    #[arg(long)]
    workflow: String,
    /// The input of each run, as JSON.
    #[arg(long, default_value = "null")]
    input: String,
    /// Minute, hour, day of month, month, day of week, such as "30 2 * * MON-FRI".
    #[arg(long)]
    cron: String,
    /// The IANA time zone in which it is read.
    #[arg(long, default_value = "UTC")]
    zone: String,
    /// While an earlier run goes on: skip, queue, allow or replace.
    #[arg(long, value_parser = parse_overlap, default_value = "skip")]
    overlap: OverlapPolicy,
    /// Of the slots that no worker was there for: none, one or all.
    #[arg(long, value_parser = parse_catch_up, default_value = "one")]
    catch_up: CatchUpPolicy,
    /// Up to how many seconds after its slot a run becomes due.
    #[arg(long, default_value_t = 0)]
    jitter_seconds: i32,
    /// Why.
    #[arg(long)]
    reason: String,
}

/// What to change of a schedule.
#[derive(Debug, clap::Args)]
pub(super) struct UpdateArgs {
    #[command(flatten)]
    act: ActArgs,
    /// The input of each run, as JSON.
    #[arg(long)]
    input: Option<String>,
    /// Minute, hour, day of month, month, day of week.
    #[arg(long)]
    cron: Option<String>,
    /// The IANA time zone in which it is read.
    #[arg(long)]
    zone: Option<String>,
    /// While an earlier run goes on: skip, queue, allow or replace.
    #[arg(long, value_parser = parse_overlap)]
    overlap: Option<OverlapPolicy>,
    /// Of the slots that no worker was there for: none, one or all.
    #[arg(long, value_parser = parse_catch_up)]
    catch_up: Option<CatchUpPolicy>,
    /// Up to how many seconds after its slot a run becomes due.
    #[arg(long)]
    jitter_seconds: Option<i32>,
}

/// An act on a schedule.
#[derive(Debug, clap::Args)]
pub(super) struct ActArgs {
    #[command(flatten)]
    api: ApiArgs,
    /// The schedule.
    schedule_id: Uuid,
    /// Why.
    #[arg(long)]
    reason: String,
    /// The revision that was seen; the present one when none is given.
    #[arg(long)]
    revision: Option<i64>,
}

impl ActArgs {
    /// The act as the API takes it.
    async fn act(&self) -> anyhow::Result<ActOnSchedule> {
        let revision = match self.revision {
            Some(revision) => revision,
            None => {
                let found = self.api.client()?.schedule(self.schedule_id).await?;
                found.schedule.revision
            }
        };
        Ok(ActOnSchedule {
            reason: self.reason.clone(),
            revision,
        })
    }
}

fn parse_overlap(text: &str) -> Result<OverlapPolicy, String> {
    OverlapPolicy::parse(text).ok_or_else(|| "one of skip, queue, allow, replace".to_owned())
}

fn parse_catch_up(text: &str) -> Result<CatchUpPolicy, String> {
    CatchUpPolicy::parse(text).ok_or_else(|| "one of none, one, all".to_owned())
}

pub(super) async fn run(command: ScheduleCommand) -> anyhow::Result<()> {
    match command {
        ScheduleCommand::List {
            api,
            tenant,
            workflow,
            paused,
        } => {
            let filter = ScheduleFilter {
                tenant_id: tenant,
                workflow,
                paused,
                ..ScheduleFilter::default()
            };
            let page = api.client()?.list_schedules(&filter).await?;
            print(&api, &page, || page.items.iter().for_each(print_line))
        }
        ScheduleCommand::Show { api, schedule_id } => {
            let found = api.client()?.schedule(schedule_id).await?;
            print(&api, &found, || print_detail(&found))
        }
        ScheduleCommand::Create(args) => create(*args).await,
        ScheduleCommand::Update(args) => update(*args).await,
        ScheduleCommand::Pause(args) => {
            let (client, act) = (args.api.client()?, args.act().await?);
            let key = IdempotencyKey::generate();
            let done = client.pause_schedule(args.schedule_id, &act, &key).await?;
            print(&args.api, &done, || print_line(&done))
        }
        ScheduleCommand::Resume(args) => {
            let (client, act) = (args.api.client()?, args.act().await?);
            let key = IdempotencyKey::generate();
            let done = client.resume_schedule(args.schedule_id, &act, &key).await?;
            print(&args.api, &done, || print_line(&done))
        }
        ScheduleCommand::RunNow(args) => {
            let (client, act) = (args.api.client()?, args.act().await?);
            let key = IdempotencyKey::generate();
            let done = client
                .run_schedule_now(args.schedule_id, &act, &key)
                .await?;
            print(&args.api, &done, || outln!("started run {}", done.run_id))
        }
        ScheduleCommand::Delete(args) => {
            let (client, act) = (args.api.client()?, args.act().await?);
            let key = IdempotencyKey::generate();
            let done = client.delete_schedule(args.schedule_id, &act, &key).await?;
            print(&args.api, &done, || {
                outln!("deleted {}; its runs stay", done.schedule_id);
            })
        }
    }
}

async fn create(args: CreateArgs) -> anyhow::Result<()> {
    let new = NewSchedule {
        tenant_id: args.tenant,
        name: args.name,
        workflow: args.workflow,
        input: serde_json::from_str(&args.input).context("the input is no JSON")?,
        cron: args.cron,
        zone: args.zone,
        overlap: args.overlap,
        catch_up: args.catch_up,
        jitter_seconds: args.jitter_seconds,
        reason: args.reason,
    };
    let client = args.api.client()?;
    let made = client
        .create_schedule(&new, &IdempotencyKey::generate())
        .await?;
    print(&args.api, &made, || print_line(&made))
}

async fn update(args: UpdateArgs) -> anyhow::Result<()> {
    let input = args.input.as_deref().map(serde_json::from_str);
    let act = args.act.act().await?;
    let change = ChangeSchedule {
        input: input.transpose().context("the input is no JSON")?,
        cron: args.cron,
        zone: args.zone,
        overlap: args.overlap,
        catch_up: args.catch_up,
        jitter_seconds: args.jitter_seconds,
        reason: act.reason,
        revision: act.revision,
    };
    let client = args.act.api.client()?;
    let done = client
        .change_schedule(args.act.schedule_id, &change, &IdempotencyKey::generate())
        .await?;
    print(&args.act.api, &done, || print_line(&done))
}

fn print_line(schedule: &Schedule) {
    let next = match schedule.next_slot {
        Some(next) => format!("next {}", rfc3339(next)),
        None if schedule.paused => "paused".to_owned(),
        None => "nothing follows".to_owned(),
    };
    outln!(
        "{}  {}  {}  {:?} {}  revision {}  {next}",
        schedule.schedule_id,
        schedule.name,
        schedule.workflow,
        schedule.cron,
        schedule.zone,
        schedule.revision,
    );
}

fn print_detail(found: &ScheduleDetail) {
    let schedule = &found.schedule;
    print_line(schedule);
    outln!(
        "overlap {}, catch-up {}, jitter up to {} s",
        schedule.overlap.as_str(),
        schedule.catch_up.as_str(),
        schedule.jitter_seconds,
    );
    for slot in &found.coming {
        outln!("  coming {}", rfc3339(*slot));
    }
    for slot in &found.slots {
        outln!("  {}", describe(slot));
    }
}

fn describe(line: &Slot) -> String {
    let mut when = rfc3339(line.slot);
    if let Some(until) = line.until {
        when = format!("{when} to {}", rfc3339(until));
    }
    let reason = line.reason.as_deref().unwrap_or_default();
    match (line.outcome, line.run_id) {
        (SlotOutcome::Started, Some(run)) => {
            let status = line.run_status.map_or("no longer kept", |one| one.as_str());
            format!("{when} started run {run} ({status})")
        }
        (SlotOutcome::Queued, _) => format!("{when} waits for the earlier run to end"),
        (SlotOutcome::Skipped, _) => format!("{when} skipped: {reason}"),
        (outcome, _) => format!("{when} {outcome:?}"),
    }
}

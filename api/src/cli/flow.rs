//! `tenure flow`: limits, pauses of more than one run, and breakers, through the API.

use serde::de::DeserializeOwned;
use tenure_client::{
    ActOnBreaker, ActOnPause, Breaker, FlowLimit, FlowRate, IdempotencyKey, Pause, PauseScope,
    SetFlowLimit, SetTenantWeight, TenantWeight,
};

use super::run::{ApiArgs, print};

/// What to do with the flow.
#[derive(Debug, clap::Subcommand)]
pub(super) enum FlowCommand {
    /// List the limits, with the room that is taken and the runs that wait.
    Limits(ApiArgs),
    /// Set a limit's numbers; what is not given is not bounded any more.
    SetLimit(SetLimitArgs),
    /// List the pauses of workflows, queues and tenants.
    Pauses(ApiArgs),
    /// Pause a workflow, a queue or a tenant: what becomes due is blocked.
    Pause(PauseArgs),
    /// Lift a pause.
    Lift(LiftArgs),
    /// List the tenants that get more than one turn when all have work due.
    Weights(ApiArgs),
    /// Give a tenant its weight: 1 as all have, to 100.
    SetWeight(WeightArgs),
    /// List the breakers of outside dependencies that failed.
    Breakers(ApiArgs),
    /// Hold a breaker open until it is closed by hand.
    OpenBreaker(BreakerArgs),
    /// Close a breaker.
    CloseBreaker(BreakerArgs),
}

/// New numbers for a limit.
#[derive(Debug, clap::Args)]
pub(super) struct SetLimitArgs {
    #[command(flatten)]
    api: ApiArgs,
    /// The limit.
    name: String,
    /// Visits in flight at once, per key; 0 lets nobody begin.
    #[arg(long)]
    concurrency: Option<u32>,
    /// Visits that may begin, such as 80/s, 100/m or 5000/h, per key.
    #[arg(long, value_parser = parse_rate)]
    rate: Option<FlowRate>,
    /// The most tokens saved up; the rate's count when none is given.
    #[arg(long, requires = "rate")]
    burst: Option<u32>,
    /// Why.
    #[arg(long)]
    reason: String,
    /// The limit as `limits --json` printed it; with other numbers than these it is refused.
    #[arg(long, value_name = "JSON", value_parser = parse_line::<FlowLimit>)]
    seen: Option<FlowLimit>,
}

/// A pause to make or lift.
#[derive(Debug, clap::Args)]
pub(super) struct PauseArgs {
    #[command(flatten)]
    api: ApiArgs,
    /// workflow, queue or tenant.
    #[arg(value_parser = parse_scope)]
    scope: PauseScope,
    /// Name of the workflow or queue, or id of the tenant.
    name: String,
    /// Why.
    #[arg(long)]
    reason: String,
}

/// A pause to lift.
#[derive(Debug, clap::Args)]
pub(super) struct LiftArgs {
    #[command(flatten)]
    pause: PauseArgs,
    /// The pause as `pauses --json` printed it; if another stands by now, it is refused.
    #[arg(long, value_name = "JSON", value_parser = parse_line::<Pause>)]
    seen: Option<Pause>,
}

/// A tenant's weight.
#[derive(Debug, clap::Args)]
pub(super) struct WeightArgs {
    #[command(flatten)]
    api: ApiArgs,
    /// The tenant.
    tenant: uuid::Uuid,
    /// Its turns for one of others.
    weight: i16,
    /// Why.
    #[arg(long)]
    reason: String,
    /// The weight as it was seen, 1 of a tenant that `weights` does not list; with another it is refused.
    #[arg(long, value_name = "WEIGHT")]
    seen: Option<i16>,
}

/// A breaker to set by hand.
#[derive(Debug, clap::Args)]
pub(super) struct BreakerArgs {
    #[command(flatten)]
    api: ApiArgs,
    /// The dependency, as steps name it.
    name: String,
    /// Why.
    #[arg(long)]
    reason: String,
    /// The breaker as `breakers --json` printed it; if it is not so any more, it is refused.
    #[arg(long, value_name = "JSON", value_parser = parse_line::<Breaker>)]
    seen: Option<Breaker>,
}

/// Reads a line of a list as `--json` prints it.
fn parse_line<T: DeserializeOwned>(text: &str) -> Result<T, String> {
    serde_json::from_str(text).map_err(|error| format!("not as --json prints it: {error}"))
}

fn parse_scope(text: &str) -> Result<PauseScope, String> {
    PauseScope::parse(text).ok_or_else(|| "one of workflow, queue, tenant".to_owned())
}

fn parse_rate(text: &str) -> Result<FlowRate, String> {
    let expected = || "a count and a period: 80/s, 100/m or 5000/h".to_owned();
    let (count, period) = text.split_once('/').ok_or_else(expected)?;
    let count = count.parse().map_err(|_| expected())?;
    let period_seconds = match period {
        "s" => 1,
        "m" => 60,
        "h" => 3_600,
        _ => return Err(expected()),
    };
    Ok(FlowRate {
        count,
        period_seconds,
        burst: count,
    })
}

#[expect(clippy::too_many_lines, reason = "one arm a command")]
pub(super) async fn run(command: FlowCommand) -> anyhow::Result<()> {
    let key = IdempotencyKey::generate();
    match command {
        FlowCommand::Limits(api) => {
            let limits = api.client()?.list_limits().await?;
            print(&api, &limits, || limits.iter().for_each(print_limit))
        }
        FlowCommand::SetLimit(args) => {
            let burst = args.burst;
            let set = SetFlowLimit {
                concurrency: args.concurrency,
                rate: args.rate.map(|rate| FlowRate {
                    burst: burst.unwrap_or(rate.burst),
                    ..rate
                }),
                reason: args.reason,
                seen: args.seen.map(|limit| limit.seen()),
            };
            let done = args.api.client()?.set_limit(&args.name, &set, &key).await?;
            print(&args.api, &done, || print_limit(&done))
        }
        FlowCommand::Pauses(api) => {
            let pauses = api.client()?.list_pauses().await?;
            print(&api, &pauses, || pauses.iter().for_each(print_pause))
        }
        FlowCommand::Pause(args) => {
            let (api, act) = args.act();
            let pauses = api.client()?.pause_scope(&act, &key).await?;
            print(&api, &pauses, || pauses.iter().for_each(print_pause))
        }
        FlowCommand::Lift(args) => {
            let seen = args.seen.map(|pause| pause.seen());
            let (api, act) = args.pause.act();
            let act = ActOnPause { seen, ..act };
            let pauses = api.client()?.lift_pause(&act, &key).await?;
            print(&api, &pauses, || pauses.iter().for_each(print_pause))
        }
        FlowCommand::Weights(api) => {
            let weights = api.client()?.list_weights().await?;
            print(&api, &weights, || weights.iter().for_each(print_weight))
        }
        FlowCommand::SetWeight(args) => {
            let set = SetTenantWeight {
                tenant_id: args.tenant,
                weight: args.weight,
                reason: args.reason,
                seen: args.seen,
            };
            let weights = args.api.client()?.set_weight(&set, &key).await?;
            print(&args.api, &weights, || {
                weights.iter().for_each(print_weight)
            })
        }
        FlowCommand::Breakers(api) => {
            let breakers = api.client()?.list_breakers().await?;
            print(&api, &breakers, || breakers.iter().for_each(print_breaker))
        }
        FlowCommand::OpenBreaker(args) => {
            let act = ActOnBreaker {
                reason: args.reason,
                seen: args.seen.map(|breaker| breaker.seen()),
            };
            let client = args.api.client()?;
            let done = client.open_breaker(&args.name, &act, &key).await?;
            print(&args.api, &done, || print_breaker(&done))
        }
        FlowCommand::CloseBreaker(args) => {
            let act = ActOnBreaker {
                reason: args.reason,
                seen: args.seen.map(|breaker| breaker.seen()),
            };
            let client = args.api.client()?;
            let done = client.close_breaker(&args.name, &act, &key).await?;
            print(&args.api, &done, || print_breaker(&done))
        }
    }
}

impl PauseArgs {
    fn act(self) -> (ApiArgs, ActOnPause) {
        let act = ActOnPause {
            scope: self.scope,
            name: self.name,
            reason: self.reason,
            seen: None,
        };
        (self.api, act)
    }
}

fn print_limit(limit: &FlowLimit) {
    let concurrency = limit
        .concurrency
        .map(|most| format!("{most} at once"))
        .into_iter();
    let rate = limit.rate.map(|rate| {
        let FlowRate {
            count,
            period_seconds,
            burst,
        } = rate;
        format!("{count} every {period_seconds} s, burst {burst}")
    });
    let bounds: Vec<String> = concurrency.chain(rate).collect();
    let bounds = if bounds.is_empty() {
        "not bounded".to_owned()
    } else {
        bounds.join(", ")
    };
    outln!(
        "{}  {bounds}  in use {}  waiting {}",
        limit.name,
        limit.in_use,
        limit.waiting
    );
}

fn print_pause(pause: &Pause) {
    outln!(
        "{} {}  since {}  by {}: {}  waiting {}",
        pause.scope.as_str(),
        pause.name,
        pause.since.to_rfc3339(),
        pause.paused_by,
        pause.reason,
        pause.waiting
    );
}

fn print_weight(weight: &TenantWeight) {
    outln!("{}  {}", weight.tenant_id, weight.weight);
}

fn print_breaker(breaker: &Breaker) {
    let forced = if breaker.forced { ", by hand" } else { "" };
    outln!(
        "{}  {}{forced}  since {}  waiting {}  {}",
        breaker.name,
        breaker.state,
        breaker.changed_at.to_rfc3339(),
        breaker.waiting,
        breaker.reason
    );
}

#[cfg(test)]
mod tests {
    use super::{parse_line, parse_rate};
    use tenure_client::{FlowLimit, LimitSeen};

    #[test]
    fn what_was_seen_is_a_line_as_it_was_printed() {
        let line = r#"{"name": "charges", "concurrency": 5, "in_use": 1, "waiting": 0,
            "changed_at": "2027-01-31T09:00:00Z"}"#;
        let seen = LimitSeen {
            concurrency: Some(5),
            rate: None,
        };
        assert_eq!(parse_line::<FlowLimit>(line).unwrap().seen(), seen);
        let wrong = parse_line::<FlowLimit>("5").unwrap_err();
        assert!(wrong.starts_with("not as --json prints it"), "{wrong}");
    }

    #[test]
    fn a_rate_is_a_count_and_a_period() {
        let rate = parse_rate("100/m").unwrap();
        assert_eq!(
            (rate.count, rate.period_seconds, rate.burst),
            (100, 60, 100)
        );
        for wrong in ["100", "x/s", "100/d", "-1/s"] {
            assert!(parse_rate(wrong).is_err(), "{wrong}");
        }
    }
}

//! `tenure test-clock`: clocks of tenants that only an advance moves, through the API.

use chrono::{DateTime, Utc};
use tenure_client::{AdvanceTestClock, IdempotencyKey, TestClockStatus};
use uuid::Uuid;

use super::run::{ApiArgs, print, rfc3339};

/// What to do with test clocks.
#[derive(Debug, clap::Subcommand)]
pub(super) enum ClockCommand {
    /// Show where a clock stands, and whether it moves.
    Show {
        #[command(flatten)]
        api: ApiArgs,
        /// The clock; `tenure tenant show` tells it.
        test_clock: Uuid,
    },
    /// Move a clock forward, deadline by deadline. Returns before it has arrived.
    Advance {
        #[command(flatten)]
        api: ApiArgs,
        /// The clock.
        test_clock: Uuid,
        /// By how much, such as 36h, 14d, 2mo or 1y.
        #[arg(long, required_unless_present = "to", conflicts_with = "to")]
        by: Option<String>,
        /// To which instant, such as 2027-01-31T09:00:00Z.
        #[arg(long)]
        to: Option<DateTime<Utc>>,
    },
}

pub(super) async fn run(command: ClockCommand) -> anyhow::Result<()> {
    match command {
        ClockCommand::Show { api, test_clock } => {
            let clock = api.client()?.test_clock(test_clock).await?;
            print(&api, &clock, || {
                let status = match clock.status {
                    TestClockStatus::Ready => "ready",
                    TestClockStatus::Advancing => "advancing",
                };
                outln!("{}  {status}", rfc3339(clock.now));
            })
        }
        ClockCommand::Advance {
            api,
            test_clock,
            by,
            to,
        } => {
            let (advance, key) = (AdvanceTestClock { to, by }, IdempotencyKey::generate());
            let client = api.client()?;
            let begun = client
                .advance_test_clock(test_clock, &advance, &key)
                .await?;
            print(&api, &begun, || {
                outln!("run {} moves it to {}", begun.run_id, rfc3339(begun.target));
            })
        }
    }
}

//! `tenure dev --demo`: customers that come and go, so that the console has something to show.
//!
//! Three at a time, each on a clock of its own, one move every few seconds. Their parts repeat; what
//! is played is the product itself, nothing is put into tables.

use std::time::Duration;

use chrono::{TimeZone as _, Utc};
use tenure_client::{Client, NewTenant, When};

use super::customer::Customer;

/// How many customers are on the stage at once.
const SEATS: usize = 3;
/// Between two moves of one customer, so that each can be watched.
const BEAT: Duration = Duration::from_secs(3);

/// What a customer does next.
#[derive(Debug, Clone, Copy)]
enum Move {
    /// Its clock goes on.
    Advance(&'static str),
    /// It gives another card.
    Card(&'static str),
    /// It cancels.
    Cancel(When),
}

/// One customer's life.
struct Part {
    name: &'static str,
    email: &'static str,
    zone: &'static str,
    plan: &'static str,
    currency: &'static str,
    moves: &'static [Move],
}

const GOOD_CARD: &str = "pm_card_visa";
const EMPTY_CARD: &str = "pm_sandbox_insufficient_funds";

const PARTS: &[Part] = &[
    Part {
        name: "Bruno's Bikes",
        email: "bruno@bikes.example",
        zone: "Europe/Paris",
        plan: "starter-monthly",
        currency: "EUR",
        moves: &[
            Move::Advance("10d"),
            Move::Advance("5d"),
            Move::Advance("1mo"),
            Move::Advance("1mo"),
            Move::Card(EMPTY_CARD),
            Move::Advance("1mo"),
            Move::Advance("3d"),
            Move::Card(GOOD_CARD),
            Move::Advance("1mo"),
            Move::Cancel(When::PeriodEnd),
            Move::Advance("15d"),
            Move::Advance("1mo"),
        ],
    },
    Part {
        name: "Chika Ceramics",
        email: "chika@ceramics.example",
        zone: "Asia/Tokyo",
        plan: "team-monthly",
        currency: "JPY",
        moves: &[
            Move::Advance("20d"),
            Move::Advance("1mo"),
            Move::Card(EMPTY_CARD),
            Move::Advance("1mo"),
            Move::Advance("5d"),
            Move::Advance("1mo"),
            Move::Advance("1mo"),
        ],
    },
    Part {
        name: "Delia's Diner",
        email: "delia@diner.example",
        zone: "America/New_York",
        plan: "team-yearly",
        currency: "USD",
        moves: &[
            Move::Advance("3mo"),
            Move::Advance("6mo"),
            Move::Advance("4mo"),
            Move::Advance("6mo"),
            Move::Cancel(When::Now),
            Move::Advance("1mo"),
        ],
    },
    Part {
        name: "Emil's Espresso",
        email: "emil@espresso.example",
        zone: "Europe/Vienna",
        plan: "starter-monthly",
        currency: "EUR",
        moves: &[
            Move::Advance("5d"),
            Move::Advance("5d"),
            Move::Cancel(When::Now),
            Move::Advance("1d"),
        ],
    },
];

/// Plays until it is dropped.
pub(super) async fn play(client: &Client) {
    tokio::join!(
        take_seat(client, 0),
        take_seat(client, 1),
        take_seat(client, 2)
    );
}

/// Plays one customer after the other. One that is interrupted, by a Postgres that is started again
/// or by somebody at the console, makes room for the next.
async fn take_seat(client: &Client, seat: usize) {
    for part in PARTS.iter().cycle().skip(seat).step_by(SEATS) {
        if let Err(error) = act(client, part).await {
            outln!("{} leaves the stage: {error:#}", part.name);
        }
        tenure_engine::sleep(BEAT).await;
    }
}

async fn act(client: &Client, part: &Part) -> anyhow::Result<()> {
    let new = NewTenant {
        name: part.name.to_owned(),
        email: part.email.to_owned(),
        zone: part.zone.to_owned(),
        locale: None,
        test_clock: Utc.with_ymd_and_hms(2027, 1, 31, 9, 0, 0).single(),
        legal_entity: None,
    };
    let customer = Customer::create(client, &new).await?;
    customer.attach(GOOD_CARD).await?;
    let subscription = customer.subscribe(part.plan, part.currency).await?;
    for next in part.moves {
        tenure_engine::sleep(BEAT).await;
        match next {
            Move::Advance(by) => customer.advance(by).await?,
            Move::Card(method) => customer.attach(method).await?,
            Move::Cancel(when) => {
                customer.cancel(subscription.subscription_id, *when).await?;
            }
        }
    }
    Ok(())
}

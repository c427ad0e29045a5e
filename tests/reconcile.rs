//! A year of generated customers with every event, reconciled to the cent between invoices, payments,
//! credit and the provider's own books.
//!
//! Each customer does something every few days, by a seed ([`kinds`]): subscribes, changes, pauses,
//! cancels, moves to another zone, has its card declined and mended, pays by debit, disputes what it
//! paid. Meanwhile the provider's webhooks come late, twice, out of order or not at all. Whatever they
//! did, the books ([`books`]) must agree; and everything that can come about has come about, or the
//! test fails. In the second story ([`kills`]) the server is killed over and over, and what was not
//! answered is sent again.
//!
//! The suite plays eight customers, and three under kills; `TENURE_SUITE_CUSTOMERS=1000` plays more.

mod acts;
mod books;
mod kills;
mod kinds;
mod life;
mod money;
mod tally;
mod weather;

use crate::support::app::TestApp;
use books::reconcile;
use life::World;

/// So many that whatever can come about does.
const ENOUGH: u64 = 8;

/// How many customers to play.
fn customers(usual: u64) -> u64 {
    let wanted = std::env::var_os("TENURE_SUITE_CUSTOMERS");
    let wanted = wanted.map(|wanted| wanted.into_string().unwrap());
    wanted.map_or(usual, |wanted| wanted.parse().unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_year_of_customers_adds_up_to_the_cent() {
    let app = TestApp::new().await;
    let world = World::open(&app.client, app.sandbox.control(), &app.options).await;
    world.play(customers(ENOUGH)).await;
    world.settle().await;
    println!("{}", world.tally.told());
    reconcile(&world).await;
    world.assert_all_came_about().await;
    app.finish().await;
}

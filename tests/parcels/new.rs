//! The second build of a small program, which `tests/deploy.rs` rolls out and back.

mod depot;
mod v2;

use std::error::Error;
use std::process::ExitCode;

use tenure_engine::Registry;

#[tokio::main]
async fn main() -> Result<ExitCode, Box<dyn Error>> {
    depot::run(|depot| {
        Registry::builder()
            .register(v2::Parcel(depot))
            .register(v2::Convoy)
    })
    .await
}

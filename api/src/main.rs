//! The binary `tenure`.

use std::process::ExitCode;

use clap::Parser as _;

fn main() -> ExitCode {
    let cli = tenure_api::cli::Cli::parse();
    let runtime = match tokio::runtime::Runtime::new() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("tenure: cannot start a runtime: {error}");
            return ExitCode::FAILURE;
        }
    };
    match runtime.block_on(tenure_api::cli::run(cli)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // The chain of causes on one line; a backtrace helps nobody who uses the program.
            eprintln!("tenure: {error:#}");
            ExitCode::FAILURE
        }
    }
}

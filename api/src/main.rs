//! The binary `tenure`.

use std::process::ExitCode;

fn main() -> ExitCode {
    let runtime = match tokio::runtime::Runtime::new() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("tenure: cannot start a runtime: {error}");
            return ExitCode::FAILURE;
        }
    };
    match runtime.block_on(tenure_api::cli::run(std::env::args_os())) {
        Ok(code) => code,
        Err(error) => {
            // The chain of causes on one line; a backtrace helps nobody who uses the program.
            eprintln!("tenure: {error:#}");
            ExitCode::FAILURE
        }
    }
}

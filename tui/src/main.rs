//! The console's process: flags in, exit code out.

use clap::Parser;
use std::io::Write as _;
use std::process::ExitCode;
use tenure_console::config::Args;
use tenure_console::{keymap, runner, text};

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let args = Args::parse();
    if args.keys {
        let mut out = std::io::stdout().lock();
        // A reader that has seen enough and went away is no trouble.
        let _ = out.write_all(keymap::printed().as_bytes());
        return ExitCode::SUCCESS;
    }
    // It fails only when a provider is installed already, which is as good.
    let _ = rustls::crypto::ring::default_provider().install_default();
    match runner::run(&args).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // The words may be the server's, so they are shown and not obeyed.
            eprintln!("tenure-console: {}", text::escape(&format!("{error:#}")));
            ExitCode::FAILURE
        }
    }
}

//! A console that falls when it is told to: the real one, from its flags to its terminal, beside a
//! panic on SIGUSR1. Nothing that a person or a server does makes `tenure-console` itself panic, as
//! far as anybody knows; this shows what happens on the day that something does.

use clap::Parser;
use std::convert::Infallible;
use tenure_console::config::Args;
use tenure_console::runner;
use tokio::signal::unix::{SignalKind, signal};

#[tokio::main(flavor = "current_thread")]
async fn main() -> anyhow::Result<()> {
    let args = Args::parse();
    let _ = rustls::crypto::ring::default_provider().install_default();
    tokio::select! {
        left = runner::run(&args) => left,
        fallen = fall() => match fallen? {},
    }
}

/// Panics on SIGUSR1.
async fn fall() -> anyhow::Result<Infallible> {
    let mut told = signal(SignalKind::user_defined1())?;
    told.recv().await;
    panic!("the console fell, as it was told to");
}

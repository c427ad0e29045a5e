//! Flags and environment of the console.

use crate::theme::Theme;
use anyhow::{Context, bail};
use clap::Parser;
use std::path::PathBuf;

/// Looks at the runs of a Tenure server, and helps those that are stuck.
#[derive(Clone, Debug, Parser)]
#[command(name = "tenure-console", version)]
pub struct Args {
    /// Address of the server.
    #[arg(long, env = "TENURE_URL", default_value = "http://127.0.0.1:7070")]
    pub url: String,
    /// API token. Better given by file or environment: flags are seen by other users of the machine.
    #[arg(long, env = "TENURE_TOKEN", hide_env_values = true)]
    pub token: Option<String>,
    /// File that holds the API token on its first line.
    #[arg(long, env = "TENURE_TOKEN_FILE")]
    pub token_file: Option<PathBuf>,
    /// Send the token over plain HTTP to another machine.
    #[arg(long, env = "TENURE_INSECURE_HTTP")]
    pub insecure_http: bool,
    /// Draw borders and rules in ASCII.
    #[arg(long, env = "TENURE_ASCII")]
    pub ascii: bool,
    /// Use no colour.
    #[arg(long, env = "NO_COLOR", value_parser = is_set)]
    pub no_color: bool,
    /// Print all keys and end.
    #[arg(long)]
    pub keys: bool,
}

impl Args {
    /// The token, from wherever it was given; a file is read here.
    pub fn read_token(&self) -> anyhow::Result<String> {
        if let Some(token) = &self.token {
            return Ok(token.trim().to_owned());
        }
        let Some(path) = &self.token_file else {
            bail!("a token is needed: set TENURE_TOKEN, or name a file with --token-file");
        };
        let text = std::fs::read_to_string(path)
            .with_context(|| format!("the token cannot be read from {}", path.display()))?;
        match text.lines().map(str::trim).find(|line| !line.is_empty()) {
            Some(token) => Ok(token.to_owned()),
            None => bail!("{} is empty, so there is no token", path.display()),
        }
    }

    /// How to draw.
    pub fn theme(&self) -> Theme {
        Theme {
            no_color: self.no_color,
            ascii: self.ascii,
        }
    }
}

/// `NO_COLOR` counts whenever it is set to anything at all; "false" is what clap says for an absent flag.
#[expect(
    clippy::unnecessary_wraps,
    reason = "clap wants a Result from a parser"
)]
fn is_set(text: &str) -> Result<bool, std::convert::Infallible> {
    Ok(!text.is_empty() && text != "false")
}

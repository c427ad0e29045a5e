//! `tenure certificate`: certificates of deletion, verified without any server.

use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context as _;
use serde_json::json;
use tenure_workflows::certificate::{self, LocalSigningKey, PublicKey, SigningKey as _};

/// What to do with certificates.
#[derive(Debug, clap::Subcommand)]
pub(super) enum CertificateCommand {
    /// Verify a certificate: its signature, its chain, and that what it says of the tables is what
    /// its records come to. Ends with 0 if it holds, 3 if it does not, 1 if it cannot be read.
    Verify {
        /// The certificate; `-` reads standard input.
        file: PathBuf,
        /// The public key, as `name:key`, or a file that holds it.
        #[arg(long)]
        key: String,
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
    /// Make a key that signs certificates, as `TENURE_CERTIFICATE_KEY` takes it. Keep it secret.
    NewKey {
        /// Its name, which certificates carry.
        name: String,
    },
    /// Print the public half of a key, for those who verify.
    PublicKey {
        /// A file that holds the key.
        file: PathBuf,
    },
}

pub(super) fn run(command: CertificateCommand) -> anyhow::Result<ExitCode> {
    match command {
        CertificateCommand::Verify { file, key, json } => return verify(&file, &key, json),
        CertificateCommand::NewKey { name } => {
            outln!(
                "{}",
                LocalSigningKey::generate(&name).map_err(anyhow::Error::msg)?
            );
        }
        CertificateCommand::PublicKey { file } => {
            let key = LocalSigningKey::parse(&read(&file)?).map_err(anyhow::Error::msg)?;
            outln!("{}", key.public());
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn verify(file: &Path, key: &str, as_json: bool) -> anyhow::Result<ExitCode> {
    let text = read(file)?;
    let key = match key.contains(':') {
        true => key.to_owned(),
        false => read(Path::new(key))?,
    };
    let key = PublicKey::parse(&key).map_err(anyhow::Error::msg)?;
    let verified = match certificate::verify(&text, &key) {
        Ok(verified) => verified,
        Err(broken) => {
            match as_json {
                true => outln!("{}", json!({ "holds": false, "why": broken.to_string() })),
                false => eprintln!("it does not hold: {broken}"),
            }
            return Ok(ExitCode::from(3));
        }
    };
    if as_json {
        let told = json!({
            "holds": true,
            "key": verified.key,
            "deletion_id": verified.deletion,
            "tenant_id": verified.subject,
            "records": verified.records,
            "tables": verified.tables,
        });
        outln!("{told}");
        return Ok(ExitCode::SUCCESS);
    }
    outln!(
        "it holds: deletion {} of tenant {}, signed with key {}, {} records",
        verified.deletion,
        verified.subject,
        verified.key,
        verified.records
    );
    for table in verified.tables {
        outln!(
            "{:<8} {:<24} {:<9} {:>9} erased {:>7} masked {:>7} kept  {}",
            table.realm,
            table.name,
            table.action,
            table.erased,
            table.masked,
            table.kept,
            table.basis.unwrap_or_default()
        );
    }
    Ok(ExitCode::SUCCESS)
}

fn read(file: &Path) -> anyhow::Result<String> {
    if file.as_os_str() == "-" {
        let mut text = String::new();
        std::io::stdin()
            .read_to_string(&mut text)
            .context("cannot read standard input")?;
        return Ok(text);
    }
    std::fs::read_to_string(file).with_context(|| format!("cannot read {}", file.display()))
}

//! Finding a Postgres on the machine: where to look, and which one to take.
//!
//! Getting one that is not there is `fetch`'s business.

use std::ffi::OsStr;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, bail};
use nix::unistd::Uid;

use super::owner;

/// The majors that Tenure runs on.
const SUPPORTED: std::ops::RangeInclusive<u32> = 15..=18;

/// Programs of one Postgres version.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Binaries {
    /// The folder that holds `postgres` and `initdb`.
    pub bin_dir: PathBuf,
    /// The major version, such as 15.
    pub major: u32,
    /// What `postgres --version` says.
    pub version: String,
}

/// Where to look; the environment is read by the caller.
#[derive(Debug, Clone, Default)]
pub struct SearchPath {
    /// The folder that the user named (`TENURE_PG_BIN`); nothing else is looked at then.
    pub named: Option<PathBuf>,
    /// The folders of `PATH`.
    pub path: Vec<PathBuf>,
    /// Folders of packaged installations that hold one folder per version.
    pub packaged: Vec<PathBuf>,
    /// Where fetched programs lie.
    pub cache: Option<PathBuf>,
}

impl SearchPath {
    /// How Debian, the PGDG packages for Red Hat, Homebrew and Postgres.app lay their versions out.
    const PACKAGED: [&'static str; 5] = [
        "/usr/lib/postgresql",
        "/usr",
        "/opt/homebrew/opt",
        "/usr/local/opt",
        "/Applications/Postgres.app/Contents/Versions",
    ];

    /// The usual places, with the text of `PATH` and the cache.
    #[must_use]
    pub fn usual(named: Option<PathBuf>, path: &OsStr, cache: PathBuf) -> Self {
        Self {
            named,
            path: std::env::split_paths(path).collect(),
            cache: Some(cache),
            ..Self::packaged()
        }
    }

    /// Only the places where packages put it.
    pub(super) fn packaged() -> Self {
        Self {
            packaged: Self::PACKAGED.map(PathBuf::from).to_vec(),
            ..Self::default()
        }
    }

    /// Folders that may hold the programs, the preferred ones first.
    fn candidates(&self) -> Vec<PathBuf> {
        if let Some(named) = &self.named {
            return vec![named.clone(), named.join("bin")];
        }
        let mut candidates = Vec::new();
        for dir in &self.path {
            // Packages put links on PATH, often to some of the programs only: follow them home.
            if let Ok(program) = dir.join("postgres").canonicalize()
                && let Some(home) = program.parent()
            {
                candidates.push(home.to_owned());
            }
        }
        for prefix in self.packaged.iter().chain(&self.cache) {
            let versions = std::fs::read_dir(prefix).into_iter().flatten().flatten();
            let mut found: Vec<PathBuf> = versions
                .map(|version| version.path().join("bin"))
                .filter(|bin| bin.join("postgres").exists())
                .collect();
            found.sort();
            candidates.append(&mut found);
        }
        candidates
    }

    fn described(&self) -> String {
        if let Some(named) = &self.named {
            return format!("{} (named by TENURE_PG_BIN)", named.display());
        }
        let mut places = vec![format!("PATH ({} folders)", self.path.len())];
        for prefix in self.packaged.iter().chain(&self.cache) {
            places.push(prefix.display().to_string());
        }
        places.join(", ")
    }
}

/// Finds the highest supported Postgres, or the one of the major that made an existing cluster
/// (`wanted`, from [`Cluster::wanted_major`](super::Cluster::wanted_major)). Runs each candidate's
/// `postgres --version`.
///
/// # Errors
/// When there is none: what was looked at, and what to do.
pub fn find(search: &SearchPath, wanted: Option<u32>) -> anyhow::Result<Binaries> {
    let mut rejected = String::new();
    let mut found: Vec<Binaries> = Vec::new();
    for dir in search.candidates() {
        match inspect(&dir, search.named.is_some()) {
            Ok(binaries) => found.push(binaries),
            Err(error) => {
                let _ = write!(rejected, "\n  {}: {error:#}", dir.display());
            }
        }
    }
    // Stable: among equals the first place wins.
    found.sort_by_key(|binaries| std::cmp::Reverse(binaries.major));
    let mut majors: Vec<String> = found.iter().map(|found| found.major.to_string()).collect();
    majors.dedup();
    let fits = |binaries: &Binaries| wanted.is_none_or(|wanted| binaries.major == wanted);
    if let Some(binaries) = found.into_iter().find(fits) {
        return Ok(binaries);
    }
    let places = search.described();
    match wanted {
        Some(wanted) => bail!(
            "the existing data was made by Postgres {wanted}, and here is only [{}]: install \
             Postgres {wanted}, name its folder in TENURE_PG_BIN, or start over with a fresh data \
             folder; looked at {places}{rejected}",
            majors.join(", ")
        ),
        None => bail!(
            "no Postgres {} to {} (`postgres` and `initdb`) was found: install one, for example \
             with `apt-get install postgresql`, or name its folder in TENURE_PG_BIN; looked at \
             {places}{rejected}",
            SUPPORTED.start(),
            SUPPORTED.end()
        ),
    }
}

/// Reads the version of the programs in a folder.
fn inspect(bin_dir: &Path, is_named: bool) -> anyhow::Result<Binaries> {
    for program in ["postgres", "initdb"] {
        if !bin_dir.join(program).is_file() {
            bail!("has no {program}");
        }
    }
    // One that was named may belong to the very user that the server will run as: the start sees.
    if Uid::effective().is_root()
        && !is_named
        && let Some(barrier) = owner::barred_to_some_at(bin_dir)?
    {
        bail!(
            "only root can enter {}, and Postgres does not run as root",
            barrier.display()
        );
    }
    let output = Command::new(bin_dir.join("postgres"))
        .arg("--version")
        .env_clear()
        .output()?;
    let version = String::from_utf8_lossy(&output.stdout).trim().to_owned();
    let major = major_of(&version).with_context(|| {
        let trouble = String::from_utf8_lossy(&output.stderr);
        format!("does not say its version: {version}{}", trouble.trim())
    })?;
    if !SUPPORTED.contains(&major) {
        bail!("is Postgres {major}");
    }
    Ok(Binaries {
        bin_dir: bin_dir.to_owned(),
        major,
        version,
    })
}

/// Reads what the programs of packagers and of betas say, such as `15.18 (Debian …)` and `18beta1`.
fn major_of(version: &str) -> Option<u32> {
    let number = version.strip_prefix("postgres (PostgreSQL) ")?;
    let end = number.find(|c: char| !c.is_ascii_digit());
    number[..end.unwrap_or(number.len())].parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_of_packagers_and_betas_are_read() {
        let debian = "postgres (PostgreSQL) 15.18 (Debian 15.18-0+deb12u1)";
        assert_eq!(major_of(debian), Some(15));
        assert_eq!(major_of("postgres (PostgreSQL) 18beta1"), Some(18));
        assert_eq!(major_of("postgres (PostgreSQL) 18"), Some(18));
        assert_eq!(major_of("pyenv: postgres: command not found"), None);
    }
}

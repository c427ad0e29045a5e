//! How a server is made and started: the arguments of `initdb` and `postgres`.
//!
//! Apart from `cluster`, which decides when; here is only what is asked of Postgres, and why.

use std::fs::File;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context as _, bail};
use nix::fcntl::Flock;

use super::SUPERUSER;
use super::child::{self, Server};
use super::find::Binaries;
use super::folder::{self, Folder};

/// A log longer than this is put aside at the next start.
const LOG_LIMIT_BYTES: u64 = 8 * 1024 * 1024;

/// Whether what is stored must survive a power cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Durability {
    /// `fsync` and all that belongs to it on.
    Durable,
    /// For tests: nothing is synced.
    Scratch,
}

/// What to start.
#[derive(Debug, Clone)]
pub struct ClusterConfig {
    /// A folder of its own: data, socket, log and lock lie in it.
    pub root: PathBuf,
    /// The programs.
    pub binaries: Binaries,
    /// Whether it must survive a power cut.
    pub durability: Durability,
}

impl ClusterConfig {
    /// Refuses programs of another major version than the one that made the data.
    pub(super) fn check_major(&self) -> anyhow::Result<()> {
        let have = self.binaries.major;
        match folder::data_major(&self.root) {
            Some(made_by) if made_by != have => bail!(
                "the data in {} was made by Postgres {made_by}, and {} is Postgres {have}: install \
                 Postgres {made_by}, or move the folder away to start over",
                self.root.display(),
                self.binaries.bin_dir.display()
            ),
            _ => Ok(()),
        }
    }

    /// Makes the data folder unless it is there. Takes about half a second.
    pub(super) fn initdb(&self, folder: &Folder) -> anyhow::Result<()> {
        if folder::data_major(folder.root()).is_some() {
            return Ok(());
        }
        // Made aside and renamed, so that an interrupted initdb is not taken for a cluster.
        let making = folder.data_in_the_making();
        if making.exists() {
            std::fs::remove_dir_all(&making)?;
        }
        let program = self.binaries.bin_dir.join("initdb");
        let mut command = child::command(&program, folder.owner);
        command.current_dir(folder.root());
        // `--locale=C` alone would make an SQL_ASCII cluster, whose text arrives as bytes.
        command
            .args(["-U", SUPERUSER, "-A", "trust", "-E", "UTF8", "--locale=C"])
            .arg("-D")
            .arg(&making);
        if self.durability == Durability::Scratch {
            command.arg("--no-sync");
        }
        let output = command
            .output()
            .with_context(|| format!("cannot run {}", program.display()))?;
        if !output.status.success() {
            let text = String::from_utf8_lossy(&output.stderr);
            bail!("initdb failed ({}): {}", output.status, text.trim());
        }
        std::fs::rename(&making, folder.data())?;
        Ok(())
    }

    /// Starts `postgres` itself: `pg_ctl` would add its own polling.
    pub(super) fn spawn(&self, folder: &Folder, lock: Flock<File>) -> anyhow::Result<Server> {
        let log = folder.log();
        if std::fs::metadata(&log).is_ok_and(|log| log.len() > LOG_LIMIT_BYTES) {
            std::fs::rename(&log, log.with_extension("old"))?;
        }
        let program = self.binaries.bin_dir.join("postgres");
        let mut command = child::command(&program, folder.owner);
        command.current_dir(folder.root());
        self.set_up(&mut command, folder);
        Server::spawn(command, &log, lock)
            .with_context(|| format!("cannot start {}", program.display()))
    }

    fn set_up(&self, command: &mut Command, folder: &Folder) {
        command.arg("-D").arg(folder.data());
        command.arg("-k").arg(&folder.socket_dir);
        let common = [
            "listen_addresses=",
            "port=5432",
            "unix_socket_permissions=0700",
            "max_connections=200",
            "shared_buffers=128MB",
            // What is asked here takes less time than to compile it would.
            "jit=off",
            "timezone=UTC",
            "log_timezone=UTC",
            "log_line_prefix=%m [%p] %d ",
        ];
        let durability = match self.durability {
            Durability::Durable => ["fsync=on", "full_page_writes=on", "synchronous_commit=on"],
            Durability::Scratch => [
                "fsync=off",
                "full_page_writes=off",
                "synchronous_commit=off",
            ],
        };
        for setting in common.iter().chain(&durability) {
            command.arg("-c").arg(setting);
        }
    }
}

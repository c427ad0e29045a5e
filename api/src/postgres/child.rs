//! The server as our child: its privileges, its environment, and its end with ours.
//!
//! Kept apart because it holds the only `unsafe` of the crate and the two traps of the
//! parent-death signal, told at [`Server::spawn`]. What is started is `server`'s business.

use std::fs::File;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, PoisonError, mpsc};
use std::time::Duration;

use anyhow::Context as _;
use nix::fcntl::Flock;
use nix::sys::signal::Signal;
use nix::unistd::Pid;

use super::owner::Owner;

/// A command that runs as the server's user, with nothing of our environment, and gets SIGINT when
/// the thread that starts it ends.
pub(super) fn command(program: &Path, owner: Option<Owner>) -> Command {
    let mut command = Command::new(program);
    // A stray PGHOST or PGDATA must not redirect us.
    command
        .env_clear()
        .env("LC_ALL", "C")
        .env("PATH", "/usr/bin:/bin")
        .stdin(Stdio::null())
        // Ctrl-C goes to the terminal's group: it must reach us alone, so that we end in order.
        .process_group(0);
    if let Some(owner) = owner {
        // The standard library drops the supplementary groups too when root changes the user.
        command.uid(owner.uid.as_raw()).gid(owner.gid.as_raw());
    }
    end_with_parent(&mut command);
    command
}

// Runs after the change of user, which would clear the signal.
#[cfg(target_os = "linux")]
#[expect(
    unsafe_code,
    reason = "the parent-death signal is set between fork and exec"
)]
fn end_with_parent(command: &mut Command) {
    let parent = nix::unistd::getpid();
    // SAFETY: prctl and getppid are async-signal-safe, and nothing here allocates or locks.
    unsafe {
        command.pre_exec(move || {
            nix::sys::prctl::set_pdeathsig(Signal::SIGINT)?;
            // The parent may have ended before the signal was set.
            if nix::unistd::getppid() != parent {
                return Err(nix::Error::ESRCH.into());
            }
            Ok(())
        });
    }
}

#[cfg(not(target_os = "linux"))]
fn end_with_parent(_command: &mut Command) {}

/// A server that we started.
#[derive(Debug)]
pub(super) struct Server {
    pid: Pid,
    /// Behind a lock only so that a cluster can be shared; nobody else waits for it.
    ended: Mutex<mpsc::Receiver<String>>,
    /// How it ended, once we know.
    status: Option<String>,
}

impl Server {
    /// Starts a server that gets SIGINT (a fast shutdown) when our process ends, however it ends,
    /// and writes to `log`. The lock is released when the server has ended.
    ///
    /// The kernel sends the signal when the *thread* that started the child ends, so a thread of
    /// its own starts it and stays until the child is gone; a thread of tokio's would not do.
    pub(super) fn spawn(
        mut command: Command,
        log: &Path,
        lock: Flock<File>,
    ) -> anyhow::Result<Self> {
        let out = File::options()
            .create(true)
            .append(true)
            .open(log)
            .with_context(|| format!("cannot write {}", log.display()))?;
        command.stdout(out.try_clone()?).stderr(out);
        let (started_tx, started) = mpsc::channel();
        let (ended_tx, ended) = mpsc::channel();
        std::thread::Builder::new()
            .name("postgres".to_owned())
            .spawn(move || match command.spawn() {
                Ok(mut child) => {
                    let _ = started_tx.send(Ok(child.id()));
                    let status = wait(&mut child);
                    drop(lock);
                    let _ = ended_tx.send(status);
                }
                Err(error) => drop(started_tx.send(Err(error))),
            })?;
        let pid = started
            .recv()
            .context("the thread that starts the server ended")?
            .context("the program cannot be run")?;
        Ok(Self {
            pid: Pid::from_raw(i32::try_from(pid)?),
            ended: Mutex::new(ended),
            status: None,
        })
    }

    /// Sends a signal, unless it has ended.
    pub(super) fn signal(&mut self, signal: Signal) {
        if self.status().is_none() {
            let _ = nix::sys::signal::kill(self.pid, signal);
        }
    }

    /// How it ended; `None` while it runs.
    pub(super) fn status(&mut self) -> Option<&str> {
        self.wait(Duration::ZERO)
    }

    /// Waits for its end; `None` when it still runs after `limit`.
    pub(super) fn wait(&mut self, limit: Duration) -> Option<&str> {
        if self.status.is_none() {
            let ended = self.ended.get_mut().unwrap_or_else(PoisonError::into_inner);
            self.status = ended.recv_timeout(limit).ok();
        }
        self.status.as_deref()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.signal(Signal::SIGINT);
    }
}

fn wait(child: &mut Child) -> String {
    match child.wait() {
        Ok(status) => status.to_string(),
        Err(error) => error.to_string(),
    }
}

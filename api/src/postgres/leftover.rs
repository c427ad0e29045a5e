//! A server that outlived its owner, or only its pid file.
//!
//! Whoever calls this holds the cluster's lock, so no other owner is there. A server may still be
//! shutting down after its owner was killed, or, where there is no parent-death signal, still serve.
//! It is ended and not adopted: only a child of ours dies with us.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::folder::Folder;

/// How often it is looked for while it ends.
const POLL: Duration = Duration::from_millis(5);

/// Ends the server that is left over, if any; blocks up to twice `limit`.
pub(super) fn end(folder: &Folder, limit: Duration) -> anyhow::Result<()> {
    let pid_file = folder.data().join("postmaster.pid");
    let Ok(text) = std::fs::read_to_string(&pid_file) else {
        return Ok(());
    };
    let Some(pid) = text.lines().next().and_then(|pid| pid.trim().parse().ok()) else {
        return Ok(());
    };
    let pid = Pid::from_raw(pid);
    if kill(pid, None).is_err() {
        // Gone; Postgres itself clears the file away, after looking for lone backends.
        return Ok(());
    }
    if !is_server_of(pid, &folder.data()) {
        // The number belongs to somebody else now, which is usual in a container that starts again
        // on the same volume. Postgres would refuse to start for as long as that one lives.
        return std::fs::remove_file(&pid_file)
            .with_context(|| format!("cannot remove {}", pid_file.display()));
    }
    tracing::info!(
        postgres.pid = pid.as_raw(),
        "ending a Postgres that outlived its owner"
    );
    for signal in [Signal::SIGINT, Signal::SIGQUIT] {
        let _ = kill(pid, signal);
        if ended_within(limit, || is_server_of(pid, &folder.data())) {
            return Ok(());
        }
    }
    bail!("the Postgres with pid {pid} outlived its owner and does not stop");
}

fn ended_within(limit: Duration, runs: impl Fn() -> bool) -> bool {
    let start = Instant::now();
    while runs() {
        if start.elapsed() > limit {
            return false;
        }
        pause();
    }
    true
}

#[expect(
    clippy::disallowed_methods,
    reason = "a foreign process cannot be waited for, and this runs on a blocking thread"
)]
fn pause() {
    std::thread::sleep(POLL);
}

/// Whether the process was started with this data folder.
#[cfg(target_os = "linux")]
fn is_server_of(pid: Pid, data: &Path) -> bool {
    let data = data.as_os_str().as_encoded_bytes();
    std::fs::read(format!("/proc/{pid}/cmdline"))
        .is_ok_and(|line| line.split(|&byte| byte == 0).any(|word| word == data))
}

/// Whether the process was started with this data folder.
#[cfg(not(target_os = "linux"))]
fn is_server_of(pid: Pid, data: &Path) -> bool {
    std::process::Command::new("ps")
        .args(["-o", "command=", "-p", &pid.to_string()])
        .output()
        .is_ok_and(|output| {
            String::from_utf8_lossy(&output.stdout).contains(&*data.to_string_lossy())
        })
}

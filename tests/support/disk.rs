//! A small disk, which fills up: a file system in memory, mounted for a test. It needs root, as the
//! machines of CI have.

use std::path::{Path, PathBuf};

use nix::mount::{MntFlags, MsFlags, mount, umount2};

/// A mounted disk; unmounted when it is dropped.
pub(crate) struct Disk {
    at: PathBuf,
}

impl Disk {
    pub(crate) fn of(at: &Path, size: &str) -> Self {
        let disk = Self { at: at.to_owned() };
        disk.mount(size, MsFlags::empty());
        disk
    }

    /// Makes it as large as this, with what is on it.
    pub(crate) fn resize(&self, size: &str) {
        self.mount(size, MsFlags::MS_REMOUNT);
    }

    fn mount(&self, size: &str, flags: MsFlags) {
        let size = format!("size={size}");
        let kind = Some("tmpfs");
        mount(kind, &self.at, kind, flags, Some(size.as_str())).expect("root may mount");
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _ = umount2(&self.at, MntFlags::MNT_DETACH);
    }
}

//! Whom the server runs as, and what that user can reach.
//!
//! Postgres refuses root, so root hands the server to somebody else, and that user must be able to
//! enter every folder on the way to the programs and to the data. Which folders there are is
//! `folder`'s business.

use std::fs::Metadata;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use nix::unistd::{Gid, Uid, User};

/// The user that a server runs as when we are root.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Owner {
    pub(super) uid: Uid,
    pub(super) gid: Gid,
}

impl Owner {
    /// `None` when we are not root: the server runs as ourselves. As root: the owner of the folder
    /// if that is somebody else, then `postgres`, then `nobody`.
    pub(super) fn of(folder: &Path) -> anyhow::Result<Option<Self>> {
        if !Uid::effective().is_root() {
            return Ok(None);
        }
        if let Ok(metadata) = std::fs::metadata(folder)
            && metadata.uid() != 0
        {
            return Ok(Some(Self {
                uid: Uid::from_raw(metadata.uid()),
                gid: Gid::from_raw(metadata.gid()),
            }));
        }
        for name in ["postgres", "nobody"] {
            if let Some(user) = User::from_name(name)? {
                return Ok(Some(Self {
                    uid: user.uid,
                    gid: user.gid,
                }));
            }
        }
        bail!("Postgres does not run as root, and there is no user postgres or nobody")
    }

    /// The first folder on the way to `path` that this user cannot enter, if there is one.
    pub(super) fn barred_at(self, path: &Path) -> anyhow::Result<Option<PathBuf>> {
        barred(path, |metadata| {
            let mode = metadata.permissions().mode();
            if metadata.uid() == self.uid.as_raw() {
                mode & 0o100 != 0
            } else if metadata.gid() == self.gid.as_raw() {
                mode & 0o010 != 0
            } else {
                mode & 0o001 != 0
            }
        })
    }
}

/// The first folder on the way to `path` that not everybody can enter, if there is one.
pub(super) fn barred_to_some_at(path: &Path) -> anyhow::Result<Option<PathBuf>> {
    barred(path, |metadata| metadata.permissions().mode() & 0o001 != 0)
}

fn barred(path: &Path, enterable: impl Fn(&Metadata) -> bool) -> anyhow::Result<Option<PathBuf>> {
    let path = path
        .canonicalize()
        .with_context(|| format!("cannot find {}", path.display()))?;
    for folder in path.ancestors() {
        if !enterable(&std::fs::metadata(folder)?) {
            return Ok(Some(folder.to_owned()));
        }
    }
    Ok(None)
}

//! The folder of a cluster: where it lies, what is in it, and whose it is.
//!
//! ```text
//! <root>/lock         held while a server of this folder lives
//!        data/        Postgres' own; PG_VERSION says which major made it
//!        data.new/    an initdb that did not finish
//!        log          what the server said
//!        socket/      or /tmp/tenure-<hash> when this path is too long for a socket
//! ```
//!
//! Only this file changes owners and modes, and only of what we made: a folder with strange
//! contents is refused, so that a slip in an option does not hand somebody's files to the server.

use std::fs::{File, Permissions};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use nix::unistd::Uid;
use sha2::{Digest as _, Sha256};

use super::owner::Owner;

/// The longest path of a socket's folder; the kernel takes about 100 bytes with the socket's name.
const MAX_SOCKET_DIR_BYTES: usize = 85;

/// Where Tenure keeps its files unless told otherwise: a system folder for root, whose home others
/// cannot enter, and the XDG state folder for everybody else.
#[must_use]
pub fn default_home(home: Option<&Path>, xdg_state_home: Option<&Path>) -> PathBuf {
    let uid = Uid::effective();
    if uid.is_root() {
        return PathBuf::from("/var/lib/tenure");
    }
    // The XDG rule: a relative path is to be ignored.
    if let Some(state) = xdg_state_home.filter(|path| path.is_absolute()) {
        return state.join("tenure");
    }
    home.filter(|path| path.is_dir()).map_or_else(
        || PathBuf::from(format!("/var/tmp/tenure-{uid}")),
        |home| home.join(".local/state/tenure"),
    )
}

/// A cluster's folder, ready for use.
#[derive(Debug, Clone)]
pub(super) struct Folder {
    root: PathBuf,
    /// Whom the server runs as, when that is not ourselves.
    pub(super) owner: Option<Owner>,
    /// Where the socket is.
    pub(super) socket_dir: PathBuf,
}

impl Folder {
    /// Makes the folder, or takes the one that is there, and hands it to the server's user.
    pub(super) fn prepare(root: &Path) -> anyhow::Result<Self> {
        let root = std::path::absolute(root)?;
        refuse_strange_contents(&root)?;
        let owner = Owner::of(&root)?;
        refuse_unreachable(&root, owner)?;
        make_folders(&root)?;
        make_private(&root, owner)?;
        // First of all files: it marks the folder as ours to a second start at the same moment.
        File::options()
            .create(true)
            .append(true)
            .open(root.join("lock"))?;
        let socket_dir = prepare_socket_dir(&root, owner)?;
        Ok(Self {
            root,
            owner,
            socket_dir,
        })
    }

    /// Makes the socket's folder again when [`Folder::tidy`] removed it.
    pub(super) fn ensure_socket_dir(&self) -> anyhow::Result<()> {
        prepare_socket_dir(&self.root, self.owner).map(drop)
    }

    /// Leaves nothing behind outside of the root; to be called when no server runs.
    pub(super) fn tidy(&self) {
        if !self.socket_dir.starts_with(&self.root) {
            // Not when somebody else's server has its socket in there by now: then it is not empty.
            let _ = std::fs::remove_dir(&self.socket_dir);
        }
    }

    pub(super) fn root(&self) -> &Path {
        &self.root
    }

    pub(super) fn data(&self) -> PathBuf {
        self.root.join("data")
    }

    pub(super) fn data_in_the_making(&self) -> PathBuf {
        self.root.join("data.new")
    }

    pub(super) fn log(&self) -> PathBuf {
        self.root.join("log")
    }

    pub(super) fn lock(&self) -> PathBuf {
        self.root.join("lock")
    }
}

/// The major version that made the data under `root`, if there is any.
pub(super) fn data_major(root: &Path) -> Option<u32> {
    let text = std::fs::read_to_string(root.join("data/PG_VERSION")).ok()?;
    text.trim().parse().ok()
}

fn refuse_strange_contents(root: &Path) -> anyhow::Result<()> {
    let Ok(mut entries) = std::fs::read_dir(root) else {
        return Ok(());
    };
    if entries.next().is_some() && !root.join("lock").is_file() {
        bail!(
            "{} is not empty and holds no cluster of ours: choose another folder",
            root.display()
        );
    }
    Ok(())
}

fn refuse_unreachable(root: &Path, owner: Option<Owner>) -> anyhow::Result<()> {
    // What does not exist yet will be made so that the server's user can enter it.
    let above = root.ancestors().skip(1).find(|folder| folder.exists());
    if let (Some(owner), Some(above)) = (owner, above)
        && let Some(barrier) = owner.barred_at(above)?
    {
        bail!(
            "the server does not run as root, and its user (uid {}) cannot enter {}: choose a \
             place outside of it for {}",
            owner.uid,
            barrier.display(),
            root.display()
        );
    }
    Ok(())
}

/// Makes a folder and those above it. Root's may be entered by all, whatever its umask says,
/// because the server's user has to come through.
pub(super) fn make_folders(path: &Path) -> anyhow::Result<()> {
    let mode = if Uid::effective().is_root() {
        0o755
    } else {
        0o700
    };
    let missing: Vec<&Path> = path.ancestors().take_while(|path| !path.exists()).collect();
    for folder in missing.into_iter().rev() {
        match std::fs::create_dir(folder) {
            Ok(()) => std::fs::set_permissions(folder, Permissions::from_mode(mode))?,
            Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {}
            Err(error) => {
                return Err(error).with_context(|| format!("cannot make {}", folder.display()));
            }
        }
    }
    Ok(())
}

/// Hands a folder to the server's user and shuts everybody else out.
fn make_private(folder: &Path, owner: Option<Owner>) -> anyhow::Result<()> {
    let metadata = std::fs::symlink_metadata(folder)?;
    let wanted = owner.map_or_else(Uid::effective, |owner| owner.uid);
    // A link or a folder of a stranger may lead anywhere; changing its owner would follow it.
    let ours = [wanted, Uid::effective()].contains(&Uid::from_raw(metadata.uid()));
    if !metadata.is_dir() || !ours {
        bail!("{} is no folder of ours", folder.display());
    }
    if let Some(owner) = owner {
        nix::unistd::chown(folder, Some(owner.uid), Some(owner.gid))
            .with_context(|| format!("cannot hand {} to the server", folder.display()))?;
    }
    std::fs::set_permissions(folder, Permissions::from_mode(0o700))
        .with_context(|| format!("cannot change the mode of {}", folder.display()))
}

/// The socket's folder: in the root, or in a short place named after it when its path is too long.
fn prepare_socket_dir(root: &Path, owner: Option<Owner>) -> anyhow::Result<PathBuf> {
    let mut dir = root.join("socket");
    if dir.as_os_str().len() > MAX_SOCKET_DIR_BYTES {
        let hash = Sha256::digest(root.as_os_str().as_encoded_bytes());
        // Not the user's TMPDIR, which may be long or closed to the server's user.
        dir = PathBuf::from(format!("/tmp/tenure-{}", hex::encode(&hash[..8])));
    }
    match std::fs::DirBuilder::new().mode(0o700).create(&dir) {
        Ok(()) => {}
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {}
        Err(error) => return Err(error).with_context(|| format!("cannot make {}", dir.display())),
    }
    make_private(&dir, owner)?;
    Ok(dir)
}

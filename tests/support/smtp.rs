//! A real SMTP server that somebody else wrote: `aiosmtpd`, in a Python environment of the suite's.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;

/// The version that the suite talks to.
const PACKAGE: &str = "aiosmtpd==1.4.6";

/// A running server that keeps what it gets in a folder (a Maildir).
pub(crate) struct SmtpServer {
    child: Child,
    port: u16,
    folder: tempfile::TempDir,
}

impl Drop for SmtpServer {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The environment's interpreter; made once.
fn python() -> &'static PathBuf {
    static PYTHON: OnceLock<PathBuf> = OnceLock::new();
    PYTHON.get_or_init(|| {
        let home = Path::new(env!("CARGO_TARGET_TMPDIR")).join("smtp-server");
        let python = home.join("bin/python");
        let works = Command::new(&python)
            .args(["-c", "import aiosmtpd"])
            .status();
        if !works.is_ok_and(|status| status.success()) {
            let venv = Command::new("python3")
                .args(["-m", "venv"])
                .arg(&home)
                .status();
            assert!(
                venv.expect("python3 runs").success(),
                "python3 -m venv works"
            );
            let pip = Command::new(&python)
                .args([
                    "-m",
                    "pip",
                    "install",
                    "--quiet",
                    "--disable-pip-version-check",
                    PACKAGE,
                ])
                .status();
            assert!(pip.expect("pip runs").success(), "pip installs {PACKAGE}");
        }
        python
    })
}

impl SmtpServer {
    pub(crate) async fn start() -> Self {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        drop(listener);
        let folder = tempfile::tempdir().unwrap();
        let child = Command::new(python())
            .args(["-m", "aiosmtpd", "--nosetuid", "--listen"])
            .arg(format!("127.0.0.1:{port}"))
            .args(["--class", "aiosmtpd.handlers.Mailbox"])
            .arg(folder.path().join("mail"))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let server = Self {
            child,
            port,
            folder,
        };
        super::eventually("the SMTP server answers", async || {
            tokio::net::TcpStream::connect(("127.0.0.1", port))
                .await
                .is_ok()
        })
        .await;
        server
    }

    pub(crate) fn url(&self) -> String {
        format!("smtp://127.0.0.1:{}", self.port)
    }

    /// The mails that it got, as it got them.
    pub(crate) fn mails(&self) -> Vec<String> {
        let new = self.folder.path().join("mail/new");
        let Ok(files) = std::fs::read_dir(new) else {
            return Vec::new();
        };
        let files = files.flatten();
        files
            .map(|file| std::fs::read_to_string(file.path()).unwrap())
            .collect()
    }
}

/// A header of a mail, unfolded.
pub(crate) fn header(mail: &str, name: &str) -> Option<String> {
    let prefix = format!("{}:", name.to_lowercase());
    let mut lines = mail.lines().take_while(|line| !line.is_empty());
    let found = lines.find(|line| line.to_lowercase().starts_with(&prefix))?;
    Some(found[prefix.len()..].trim().to_owned())
}

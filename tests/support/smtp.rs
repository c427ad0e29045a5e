//! A real SMTP server that somebody else wrote: `aiosmtpd`, in a Python environment of the suite's.

use std::process::{Child, Command, Stdio};

use super::python::Environment;

/// The version that the suite talks to.
static PYTHON: Environment = Environment::new("smtp-server", "aiosmtpd", "1.4.6");

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

impl SmtpServer {
    pub(crate) async fn start() -> Self {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        drop(listener);
        let folder = tempfile::tempdir().unwrap();
        let child = Command::new(PYTHON.python())
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

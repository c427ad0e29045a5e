//! An S3-compatible store that somebody else wrote: `moto`'s server, in a Python environment of the
//! suite's.

use std::process::{Child, Command, Stdio};

use tenure_workflows::archive::{ArchiveConfig, S3Config};

use super::python::Environment;

/// The version that the suite talks to.
static PYTHON: Environment = Environment::new("s3-server", "moto", "5.2.5").beside(&[
    "moto[s3]==5.2.5",
    "flask==3.1.3",
    "flask-cors==6.0.5",
]);

/// A running store with one bucket; it forgets all when it is dropped.
pub(crate) struct S3Server {
    child: Child,
    port: u16,
}

impl Drop for S3Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl S3Server {
    pub(crate) async fn start() -> Self {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        drop(listener);
        let child = Command::new(PYTHON.python())
            .args(["-m", "moto.server", "-H", "127.0.0.1", "-p"])
            .arg(port.to_string())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let server = Self { child, port };
        let http = reqwest::Client::new();
        let bucket = format!("{}/archive", server.url());
        super::eventually("the store makes a bucket", async || {
            let made = http.put(&bucket).send().await;
            made.is_ok_and(|answer| answer.status().is_success())
        })
        .await;
        server
    }

    pub(crate) fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    pub(crate) fn config(&self) -> ArchiveConfig {
        ArchiveConfig::S3(S3Config {
            bucket: "archive".to_owned(),
            prefix: "tenure/suite".to_owned(),
            endpoint: Some(self.url()),
            region: "us-east-1".to_owned(),
            access_key_id: "suite".to_owned(),
            secret_access_key: "suite".to_owned(),
        })
    }
}

//! A wire-tap between a pool and Postgres: counts what is really executed, by its text.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use sqlx::postgres::{PgConnectOptions, PgSslMode};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, UnixStream};

/// How often each statement was executed.
pub(crate) type Tally = BTreeMap<String, usize>;

/// A running wire-tap.
#[derive(Clone, Default)]
pub(crate) struct WireTap(Arc<Mutex<Tally>>);

impl WireTap {
    /// Taps a database; connections that are made with the returned options are counted.
    pub(crate) async fn on(options: &PgConnectOptions) -> (Self, PgConnectOptions) {
        let tap = Self::default();
        let folder = options
            .get_socket()
            .expect("the suite's cluster has a socket");
        let socket = folder.join(format!(".s.PGSQL.{}", options.get_port()));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        tokio::spawn(tap.clone().serve(listener, socket));
        let tapped = PgConnectOptions::new_without_pgpass()
            .host("127.0.0.1")
            .port(port)
            .username(options.get_username())
            .database(options.get_database().expect("a database of its own"))
            .ssl_mode(PgSslMode::Disable);
        (tap, tapped)
    }

    pub(crate) fn tally(&self) -> Tally {
        self.0.lock().unwrap().clone()
    }

    pub(crate) fn reset(&self) {
        self.0.lock().unwrap().clear();
    }

    async fn serve(self, listener: TcpListener, socket: PathBuf) {
        while let Ok((client, _)) = listener.accept().await {
            let server = UnixStream::connect(&socket).await.unwrap();
            let (client_reads, mut client_writes) = client.into_split();
            let (mut server_reads, server_writes) = server.into_split();
            let tap = self.clone();
            tokio::spawn(async move { tap.listen(client_reads, server_writes).await });
            tokio::spawn(async move {
                let _ = tokio::io::copy(&mut server_reads, &mut client_writes).await;
            });
        }
    }

    /// Passes a client's messages on and counts executions. Ends with the connection.
    async fn listen(
        self,
        mut from: tokio::net::tcp::OwnedReadHalf,
        mut to: tokio::net::unix::OwnedWriteHalf,
    ) -> std::io::Result<()> {
        let mut statements: BTreeMap<String, String> = BTreeMap::new();
        let mut bound = String::new();
        // The first message has no type.
        let mut kind = None;
        loop {
            let length = from.read_u32().await?;
            let mut body = vec![0; usize::try_from(length).unwrap() - 4];
            from.read_exact(&mut body).await?;
            match kind {
                Some(b'P') => {
                    let (name, rest) = text(&body);
                    statements.insert(name, text(rest).0);
                }
                Some(b'B') => {
                    let (_portal, rest) = text(&body);
                    bound = text(rest).0;
                }
                Some(b'E') => self.count(statements.get(&bound).map_or("", String::as_str)),
                Some(b'Q') => self.count(&text(&body).0),
                _ => {}
            }
            if let Some(kind) = kind {
                to.write_u8(kind).await?;
            }
            to.write_u32(length).await?;
            to.write_all(&body).await?;
            kind = Some(from.read_u8().await?);
        }
    }

    fn count(&self, statement: &str) {
        let words: Vec<&str> = statement.split_whitespace().collect();
        let mut tally = self.0.lock().unwrap();
        *tally.entry(words.join(" ")).or_default() += 1;
    }
}

/// A text that ends in a zero, and what follows it.
fn text(bytes: &[u8]) -> (String, &[u8]) {
    let end = bytes.iter().position(|byte| *byte == 0).unwrap();
    let words = String::from_utf8_lossy(&bytes[..end]).into_owned();
    (words, &bytes[end + 1..])
}

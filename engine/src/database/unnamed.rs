//! Statements without names, for a pooler that keeps none.
//!
//! sqlx names its statements and refers to them later, when a pooler in transaction mode may have
//! given it another server connection. Even without names it sends a statement and its execution in
//! two batches, between which an older pooler may change the server: then the execution meets no
//! statement, or somebody else's. So a door of our own stands before such a pooler, in this process,
//! and speaks the protocol: it keeps what was prepared, takes the names out, and puts the statement
//! before each execution, in one batch. A batch is what a pooler keeps on one server.
//!
//! Nothing of this runs unless it is asked for. It speaks to the pooler in clear.

use std::collections::{HashMap, VecDeque};
use std::io;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use sqlx::postgres::{PgConnectOptions, PgSslMode};
use tokio::io::{
    AsyncBufRead, AsyncBufReadExt as _, AsyncRead, AsyncReadExt as _, AsyncWrite,
    AsyncWriteExt as _, BufReader, BufWriter,
};
use tokio::net::{TcpStream, UnixListener, UnixStream};
use tokio::task::JoinHandle;

use crate::id;

/// The port in the name of the door's socket.
const PORT: u16 = 5432;
/// The longest message that is taken, as Postgres has it.
const LONGEST: usize = 1 << 30;

/// A door before one host; closed when it is dropped.
#[derive(Debug)]
pub(super) struct Door {
    folder: PathBuf,
    task: JoinHandle<()>,
}

impl Drop for Door {
    fn drop(&mut self) {
        self.task.abort();
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

impl Door {
    /// Opens a door; returns it, and how to connect to it. Its socket lies in a folder that only this
    /// user may enter, because the pooler may know us by our user.
    pub(super) fn open(options: &PgConnectOptions) -> io::Result<(Self, PgConnectOptions)> {
        let folder = PathBuf::from(format!("/tmp/tenure-{}", id::random_uuid()));
        std::fs::DirBuilder::new().mode(0o700).create(&folder)?;
        let listener = UnixListener::bind(folder.join(format!(".s.PGSQL.{PORT}")))?;
        let to = Arc::new(options.clone());
        let task = tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let to = to.clone();
                tokio::spawn(async move {
                    if let Err(error) = pass(client, &to).await {
                        tracing::debug!(error = %error, "a connection to the pooler ended");
                    }
                });
            }
        });
        let through = options
            .clone()
            .socket(&folder)
            .port(PORT)
            .ssl_mode(PgSslMode::Disable);
        Ok((Self { folder, task }, through))
    }
}

/// What the server owes an answer for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Owed {
    /// A statement; ours are not told to the client.
    Parse { ours: bool },
    /// The end of a batch.
    Ready,
}

type Ledger = Arc<Mutex<VecDeque<Owed>>>;

/// Passes one connection's messages both ways until either side ends.
async fn pass(mut client: UnixStream, to: &PgConnectOptions) -> io::Result<()> {
    if let Some(folder) = to.get_socket() {
        let socket = folder.join(format!(".s.PGSQL.{}", to.get_port()));
        match UnixStream::connect(&socket).await {
            Ok(server) => {
                let (reads, writes) = server.into_split();
                both_ways(client, reads, writes).await
            }
            Err(error) => refuse(&mut client, &error).await,
        }
    } else {
        match TcpStream::connect((to.get_host(), to.get_port())).await {
            Ok(server) => {
                server.set_nodelay(true)?;
                let (reads, writes) = server.into_split();
                both_ways(client, reads, writes).await
            }
            Err(error) => refuse(&mut client, &error).await,
        }
    }
}

async fn both_ways(
    client: UnixStream,
    server_reads: impl AsyncRead + Unpin,
    server_writes: impl AsyncWrite + Unpin,
) -> io::Result<()> {
    let (client_reads, client_writes) = client.into_split();
    // The greeting ends as a batch does.
    let ledger: Ledger = Arc::new(Mutex::new(VecDeque::from([Owed::Ready])));
    tokio::select! {
        done = ask(BufReader::new(client_reads), BufWriter::new(server_writes), ledger.clone()) => done,
        done = answer(BufReader::new(server_reads), BufWriter::new(client_writes), ledger) => done,
    }
}

/// Tells the client why the pooler cannot be reached, as a server would.
async fn refuse(client: &mut UnixStream, error: &io::Error) -> io::Result<()> {
    let mut fields = Vec::new();
    let text = format!("cannot reach the pooler: {error}");
    for (field, value) in [
        (b'S', "FATAL"),
        (b'V', "FATAL"),
        (b'C', "08006"),
        (b'M', &text),
    ] {
        fields.push(field);
        fields.extend(value.as_bytes());
        fields.push(0);
    }
    fields.push(0);
    write(client, b'E', &fields).await?;
    client.shutdown().await
}

/// What one client has prepared.
#[derive(Debug, Default)]
struct Prepared {
    /// By name: the statement and the types of its parameters.
    known: HashMap<Vec<u8>, Vec<u8>>,
    /// The one that the server holds within this batch.
    at_hand: Option<Vec<u8>>,
}

/// Passes what the client asks, without names.
async fn ask(
    mut from: impl AsyncBufRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
    ledger: Ledger,
) -> io::Result<()> {
    let length = from.read_u32().await?;
    let greeting = read_body(&mut from, length).await?;
    to.write_u32(length).await?;
    to.write_all(&greeting).await?;
    to.flush().await?;
    let mut prepared = Prepared::default();
    let owe = |owed| lock(&ledger).push_back(owed);
    loop {
        let kind = from.read_u8().await?;
        let length = from.read_u32().await?;
        let body = read_body(&mut from, length).await?;
        match kind {
            b'P' => {
                let (name, statement) = text(&body)?;
                prepared.known.insert(name.to_vec(), statement.to_vec());
                prepared.at_hand = Some(name.to_vec());
                owe(Owed::Parse { ours: false });
                write(&mut to, b'P', &[&[0], statement].concat()).await?;
            }
            b'D' if body.first() == Some(&b'S') => {
                let (name, _) = text(&body[1..])?;
                prepared.hand_over(name, &mut to, &owe).await?;
                write(&mut to, b'D', b"S\0").await?;
            }
            b'B' => {
                let (portal, rest) = text(&body)?;
                let (name, values) = text(rest)?;
                prepared.hand_over(name, &mut to, &owe).await?;
                write(&mut to, b'B', &[portal, &[0, 0], values].concat()).await?;
            }
            b'C' if body.first() == Some(&b'S') => {
                let (name, _) = text(&body[1..])?;
                prepared.known.remove(name);
                prepared.at_hand = None;
                write(&mut to, b'C', b"S\0").await?;
            }
            _ => {
                if matches!(kind, b'S' | b'Q') {
                    prepared.at_hand = None;
                    owe(Owed::Ready);
                }
                write(&mut to, kind, &body).await?;
            }
        }
        flush_when_idle(&mut from, &mut to).await?;
    }
}

impl Prepared {
    /// Puts a statement before what refers to it, unless it is at hand.
    async fn hand_over(
        &mut self,
        name: &[u8],
        to: &mut (impl AsyncWrite + Unpin),
        owe: &impl Fn(Owed),
    ) -> io::Result<()> {
        if self.at_hand.as_deref() == Some(name) {
            return Ok(());
        }
        // One that was never prepared is the server's to refuse.
        if let Some(statement) = self.known.get(name) {
            owe(Owed::Parse { ours: true });
            write(to, b'P', &[&[0], statement.as_slice()].concat()).await?;
            self.at_hand = Some(name.to_vec());
        }
        Ok(())
    }
}

/// Passes what the server answers, but for the answers to what we put in.
async fn answer(
    mut from: impl AsyncBufRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
    ledger: Ledger,
) -> io::Result<()> {
    loop {
        let kind = from.read_u8().await?;
        let length = from.read_u32().await?;
        let body = read_body(&mut from, length).await?;
        let is_ours = match kind {
            b'1' => lock(&ledger).pop_front() == Some(Owed::Parse { ours: true }),
            b'Z' => {
                // After an error the rest of the batch was not answered.
                let mut ledger = lock(&ledger);
                while ledger.pop_front().is_some_and(|owed| owed != Owed::Ready) {}
                false
            }
            _ => false,
        };
        if !is_ours {
            write(&mut to, kind, &body).await?;
        }
        flush_when_idle(&mut from, &mut to).await?;
    }
}

/// Sends what was written once nothing more has come in.
async fn flush_when_idle(
    from: &mut (impl AsyncBufRead + Unpin),
    to: &mut (impl AsyncWrite + Unpin),
) -> io::Result<()> {
    let has_more = tokio::select! {
        biased;
        more = from.fill_buf() => !more?.is_empty(),
        () = std::future::ready(()) => false,
    };
    if has_more {
        return Ok(());
    }
    to.flush().await
}

async fn read_body(from: &mut (impl AsyncRead + Unpin), length: u32) -> io::Result<Vec<u8>> {
    let length = usize::try_from(length).map_err(io::Error::other)?;
    if !(4..=LONGEST).contains(&length) {
        return Err(io::Error::other("a message has no length"));
    }
    let mut body = vec![0; length - 4];
    from.read_exact(&mut body).await?;
    Ok(body)
}

async fn write(to: &mut (impl AsyncWrite + Unpin), kind: u8, body: &[u8]) -> io::Result<()> {
    to.write_u8(kind).await?;
    let length = u32::try_from(body.len() + 4).map_err(io::Error::other)?;
    to.write_u32(length).await?;
    to.write_all(body).await
}

/// A text that ends in a zero, and what follows it.
fn text(bytes: &[u8]) -> io::Result<(&[u8], &[u8])> {
    let end = bytes.iter().position(|byte| *byte == 0);
    let end = end.ok_or_else(|| io::Error::other("a text has no end"))?;
    Ok((&bytes[..end], &bytes[end + 1..]))
}

fn lock(ledger: &Ledger) -> std::sync::MutexGuard<'_, VecDeque<Owed>> {
    ledger.lock().unwrap_or_else(PoisonError::into_inner)
}

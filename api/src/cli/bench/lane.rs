//! One connection to the API, with nothing of a client that would take the processor's time.

use std::net::SocketAddr;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

/// One connection, which asks one thing at a time.
pub(super) struct Lane {
    stream: TcpStream,
    buffer: Vec<u8>,
}

impl Lane {
    pub(super) async fn open(address: SocketAddr) -> anyhow::Result<Self> {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        Ok(Self {
            stream,
            buffer: Vec::with_capacity(8 * 1024),
        })
    }

    /// Sends a request as it is and reads the answer; its head.
    pub(super) async fn ask(&mut self, request: &str) -> anyhow::Result<String> {
        self.stream.write_all(request.as_bytes()).await?;
        self.buffer.clear();
        loop {
            self.read().await?;
            let Some(end) = self.buffer.windows(4).position(|four| four == b"\r\n\r\n") else {
                continue;
            };
            let head = String::from_utf8_lossy(&self.buffer[..end]).into_owned();
            let length = header(&head, "content-length").unwrap_or("0");
            let whole = end + 4 + length.parse::<usize>()?;
            while self.buffer.len() < whole {
                self.read().await?;
            }
            return Ok(head);
        }
    }

    /// Posts a JSON body to a path; the answer's status must be the one that is expected.
    pub(super) async fn post(
        &mut self,
        path: &str,
        (token, key): (&str, &str),
        body: &str,
        expected: &str,
    ) -> anyhow::Result<()> {
        let request = format!(
            "POST {path} HTTP/1.1\r\nhost: bench\r\nauthorization: Bearer {token}\r\n\
             idempotency-key: {key}\r\ncontent-type: application/json\r\n\
             content-length: {}\r\n\r\n{body}",
            body.len()
        );
        let head = self.ask(&request).await?;
        let status = head.lines().next().unwrap_or_default();
        anyhow::ensure!(status.contains(expected), "the API answered {status:?}");
        Ok(())
    }

    async fn read(&mut self) -> anyhow::Result<()> {
        let read = self.stream.read_buf(&mut self.buffer).await?;
        anyhow::ensure!(read > 0, "the API closed the connection");
        Ok(())
    }
}

/// A header's value.
pub(super) fn header<'a>(head: &'a str, name: &str) -> Option<&'a str> {
    let mut lines = head.lines().filter_map(|line| line.split_once(": "));
    lines.find_map(|(key, value)| key.eq_ignore_ascii_case(name).then_some(value))
}

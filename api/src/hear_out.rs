//! Bodies that are refused before their end.
//!
//! Whoever answers and closes while a client is still sending resets the connection, and the client
//! may never see the answer (RFC 9112 §9.6). So the rest of such a body is read and thrown away, up to
//! a bound.

use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::{Body, BodyDataStream, Bytes};
use axum::extract::Request;
use axum::http::{HeaderMap, header};
use axum::middleware::Next;
use axum::response::Response;
use futures_util::StreamExt as _;
use futures_util::stream::poll_fn;

/// What has at most so many bytes is read whole wherever a body is read.
const SMALL_BYTES: u64 = 256 * 1024;
/// The most bytes that are thrown away.
const MAX_THROWN_BYTES: usize = 16 * 1024 * 1024;
/// How long they are waited for.
const PATIENCE: Duration = Duration::from_secs(10);

/// Answers when all of a large body has come, or enough of it.
pub(crate) async fn hear_out(request: Request, next: Next) -> Response {
    if is_small(request.headers()) {
        return next.run(request).await;
    }
    let (parts, body) = request.into_parts();
    let rest = Rest(Arc::new(Mutex::new(body.into_data_stream())));
    let read = rest.clone();
    let body = Body::from_stream(poll_fn(move |cx| read.poll(cx)));
    let response = next.run(Request::from_parts(parts, body)).await;
    // Whoever is slower, or sends more, is cut off.
    let _ = tokio::time::timeout(PATIENCE, rest.throw_away()).await;
    response
}

fn is_small(headers: &HeaderMap) -> bool {
    let length = headers.get(header::CONTENT_LENGTH);
    let length = length.and_then(|value| value.to_str().ok()?.parse::<u64>().ok());
    match length {
        Some(length) => length <= SMALL_BYTES,
        None => !headers.contains_key(header::TRANSFER_ENCODING),
    }
}

/// What has not been read of a body.
#[derive(Clone)]
struct Rest(Arc<Mutex<BodyDataStream>>);

impl Rest {
    fn poll(&self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, axum::Error>>> {
        let mut stream = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        stream.poll_next_unpin(cx)
    }

    async fn throw_away(&self) {
        let mut left = MAX_THROWN_BYTES;
        while let Some(Ok(part)) = std::future::poll_fn(|cx| self.poll(cx)).await {
            match left.checked_sub(part.len()) {
                Some(less) => left = less,
                None => return,
            }
        }
    }
}

//! The write timeout of HTTP/2 streams.
//!
//! Each HTTP/2 stream has a flow-control window of its own. A client that reads its connection can therefore still
//! stop a single response or receive it byte by byte, and hyper waits for the window without a limit. So
//! [`in_pieces`] splits a response into pieces and yields each one once hyper has written and dropped the one before,
//! and [`StreamExecutor`] drops the task of a stream whose current piece takes longer than the timeout. That resets
//! the stream; other streams of the connection continue.
//!
//! hyper spawns the task of each stream on the executor, and polls the response body in it. The executor and the
//! body share a [`StreamProgress`] through a task-local.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use bytes::Bytes;
use futures_util::stream;
use http_body_util::{BodyExt as _, StreamBody};
use hyper::Response;
use hyper::body::Frame;
use hyper::header;
use hyper::rt::Executor;
use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::time::{Instant, sleep_until};

use super::MIN_PROGRESS_BYTES;

tokio::task_local! {
    /// The progress of the stream that the current task drives.
    static PROGRESS: Arc<StreamProgress>;
}

/// Whether hyper is writing a piece of a response, and since when.
#[derive(Debug, Default)]
struct StreamProgress {
    /// `None` while no piece is being written.
    since: Mutex<Option<Instant>>,
    /// Notified when a piece has been written or dropped.
    written: Notify,
}

impl StreamProgress {
    async fn wait_until_written(&self) {
        while self.since.lock().is_some() {
            self.written.notified().await;
        }
    }

    /// Waits until a piece has been in flight for `timeout`. May return up to one `timeout` later than that, because
    /// the timer does not restart with each piece.
    async fn wait_until_late(&self, timeout: Duration) {
        loop {
            let now = Instant::now();
            let since = *self.since.lock();
            let late = since.unwrap_or(now) + timeout;
            if late <= now {
                return;
            }
            sleep_until(late).await;
        }
    }
}

/// A piece of a response. Dropping it lets the body yield the next one.
struct ResponsePiece {
    bytes: Bytes,
    progress: Arc<StreamProgress>,
}

impl AsRef<[u8]> for ResponsePiece {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl Drop for ResponsePiece {
    fn drop(&mut self) {
        *self.progress.since.lock() = None;
        self.progress.written.notify_one();
    }
}

/// Runs the streams of HTTP/2 connections, and resets those whose client reads too slowly.
#[derive(Debug, Clone, Copy)]
pub(in crate::http) struct StreamExecutor {
    pub(in crate::http) write_timeout: Duration,
}

impl<F: Future<Output = ()> + Send + 'static> Executor<F> for StreamExecutor {
    fn execute(&self, stream: F) {
        let timeout = self.write_timeout;
        let progress = Arc::<StreamProgress>::default();
        let late = progress.clone();
        let stream = async move {
            tokio::select! {
                biased;
                () = stream => {}
                // Dropping the task of a stream resets the stream.
                () = late.wait_until_late(timeout) => {
                    tracing::debug!(?timeout, "resetting an HTTP/2 stream: its client reads too slowly");
                }
            }
        };
        tokio::spawn(PROGRESS.scope(progress, stream));
    }
}

/// Splits the response of an HTTP/2 stream into pieces of at most [`MIN_PROGRESS_BYTES`]. Responses of HTTP/1 are
/// returned unchanged.
pub(in crate::http) fn in_pieces(response: Response<Body>) -> Response<Body> {
    let Ok(progress) = PROGRESS.try_with(Arc::clone) else {
        return response;
    };
    let (mut head, body) = response.into_parts();
    if hyper::body::Body::is_end_stream(&body) {
        return Response::from_parts(head, body);
    }
    if let Some(len) = hyper::body::Body::size_hint(&body).exact() {
        let header = head.headers.entry(header::CONTENT_LENGTH);
        header.or_insert(len.into());
    }
    let pieces = stream::unfold((body, Bytes::new(), progress), async |pieces| {
        let (mut body, mut rest, progress) = pieces;
        // Waiting for the last piece too keeps the task alive until that is written.
        progress.wait_until_written().await;
        if rest.is_empty() {
            match body.frame().await?.map(Frame::into_data) {
                Ok(Ok(data)) => rest = data,
                Ok(Err(other)) => return Some((Ok(other), (body, rest, progress))),
                Err(error) => return Some((Err(error), (body, rest, progress))),
            }
        }
        let bytes = rest.split_to(rest.len().min(MIN_PROGRESS_BYTES));
        *progress.since.lock() = Some(Instant::now());
        let piece = ResponsePiece {
            bytes,
            progress: progress.clone(),
        };
        let frame = Frame::data(Bytes::from_owner(piece));
        Some((Ok::<_, axum::Error>(frame), (body, rest, progress)))
    });
    Response::from_parts(head, Body::new(StreamBody::new(pieces)))
}

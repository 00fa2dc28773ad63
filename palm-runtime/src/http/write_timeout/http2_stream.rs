//! Bounds the time that a client of HTTP/2 takes for a response.
//!
//! A client opens a window for each stream, so one that reads its connection can still stop a single response, or
//! receive it byte by byte. hyper waits for such a window without a limit. So a response is sent in pieces, each
//! once the one before has been written, and the task of a stream is ended if one piece takes too long: that
//! resets the stream, and others on the connection go on.
//!
//! hyper gives each stream to an executor, [`StreamExecutor`], which also polls the body of its response; the two
//! know each other by a task-local [`StreamProgress`]. Connections of HTTP/1 have no streams: [`WriteTimeout`] is enough.
//!
//! [`WriteTimeout`]: super::write_timeout::WriteTimeout

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use axum::body::Body;
use bytes::Bytes;
use futures_util::stream;
use http_body_util::{BodyExt as _, StreamBody};
use hyper::Response;
use hyper::body::Frame;
use hyper::header;
use hyper::rt::Executor;
use tokio::sync::Notify;
use tokio::time::{Instant, sleep_until};

/// What a client has to receive within its write timeout, in bytes.
pub(in crate::http) const MIN_PROGRESS_BYTES: usize = 64 * 1024;

tokio::task_local! {
    /// That of the stream whose task this is.
    static PROGRESS: Arc<StreamProgress>;
}

/// Whether a piece of a response is being written.
#[derive(Debug, Default)]
struct StreamProgress {
    /// Since when.
    since: Mutex<Option<Instant>>,
    /// It has been written, or dropped.
    written: Notify,
}

impl StreamProgress {
    fn since(&self) -> MutexGuard<'_, Option<Instant>> {
        self.since.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn wait_until_written(&self) {
        while self.since().is_some() {
            self.written.notified().await;
        }
    }

    /// Waits until a piece has taken `timeout` or more, and at most twice as much.
    async fn wait_until_late(&self, timeout: Duration) {
        loop {
            let now = Instant::now();
            let since = *self.since();
            let late = since.unwrap_or(now) + timeout;
            if late <= now {
                return;
            }
            sleep_until(late).await;
        }
    }
}

/// A piece of a response, whose stream gets the next one when this is dropped.
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
        *self.progress.since() = None;
        self.progress.written.notify_one();
    }
}

/// Runs the streams of HTTP/2 connections, and ends those whose client takes too long for a response.
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
                // The stream is dropped, which resets it.
                () = late.wait_until_late(timeout) => {
                    tracing::debug!("resetting a stream: its client has not read a response for {timeout:?}");
                }
            }
        };
        tokio::spawn(PROGRESS.scope(progress, stream));
    }
}

/// The same response in pieces, if it is one of a stream.
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
        // The last piece is waited for as well, so that the task lasts until it is written.
        progress.wait_until_written().await;
        if rest.is_empty() {
            match body.frame().await?.map(Frame::into_data) {
                Ok(Ok(data)) => rest = data,
                Ok(Err(other)) => return Some((Ok(other), (body, rest, progress))),
                Err(error) => return Some((Err(error), (body, rest, progress))),
            }
        }
        let bytes = rest.split_to(rest.len().min(MIN_PROGRESS_BYTES));
        *progress.since() = Some(Instant::now());
        let piece = ResponsePiece {
            bytes,
            progress: progress.clone(),
        };
        let frame = Frame::data(Bytes::from_owner(piece));
        Some((Ok::<_, axum::Error>(frame), (body, rest, progress)))
    });
    Response::from_parts(head, Body::new(StreamBody::new(pieces)))
}

//! [`BodyMemory`]: what bodies and results may have of it, and how a body is read into it.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use bytes::Bytes;
use http_body_util::BodyExt as _;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;

/// Bytes that may be in memory at once.
#[derive(Clone, Debug)]
pub(crate) struct BodyMemory(Arc<Semaphore>, u32);

/// A part of a [`BodyMemory`], which is given back when this is dropped.
#[derive(Debug)]
pub(crate) struct MemoryPermit(OwnedSemaphorePermit);

struct ReservedBytes {
    bytes: Bytes,
    _held: MemoryPermit,
}

impl AsRef<[u8]> for ReservedBytes {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

/// Why a body cannot be read.
#[derive(Debug, thiserror::Error)]
pub(super) enum BodyError {
    /// It has `len` bytes, where that was told before.
    #[error("the body has {}, the limit is {limit}", bytes(*.len))]
    TooLarge { len: Option<u64>, limit: usize },
    /// Others have all the memory.
    #[error("other requests take all the memory that there is for them")]
    OutOfMemory,
    /// The connection broke, or what came is no body.
    #[error("the body cannot be read: {0}")]
    Broken(axum::Error),
}

fn bytes(len: Option<u64>) -> String {
    len.map_or("more bytes".to_owned(), |len| format!("{len} bytes"))
}

impl Default for BodyMemory {
    /// 1 GiB.
    fn default() -> Self {
        Self::new(1024 * 1024 * 1024)
    }
}

impl BodyMemory {
    /// So many bytes, or 4 GiB, whichever is less.
    pub(super) fn new(bytes: usize) -> Self {
        let bytes = u32::try_from(bytes).unwrap_or(u32::MAX);
        Self(Arc::new(Semaphore::new(bytes as usize)), bytes)
    }

    /// Whether so many bytes are free, or all are.
    fn has(&self, bytes: usize) -> bool {
        self.0.available_permits() >= bytes.min(self.1 as usize)
    }

    /// Takes room for so many bytes, if there is any. What is larger than all of it takes all of it.
    pub(super) fn try_acquire(&self, bytes: usize) -> Option<MemoryPermit> {
        let bytes = u32::try_from(bytes).unwrap_or(u32::MAX).min(self.1);
        let permit = self.0.clone().try_acquire_many_owned(bytes);
        permit.ok().map(MemoryPermit)
    }
}

impl MemoryPermit {
    fn merge(&mut self, more: Self) {
        self.0.merge(more.0);
    }

    /// The same bytes, which give this back when the last of them are dropped. A body is dropped before,
    /// when hyper has them and has not written them yet.
    pub(super) fn keep_with(self, bytes: Bytes) -> Bytes {
        Bytes::from_owner(ReservedBytes { bytes, _held: self })
    }
}

/// Refuses a body whose announced length is over `limit`, or more than what is free of `memory`. A client that waits
/// for `100 Continue` has not sent it yet, and does not.
pub(super) fn check_length(
    body: &Body,
    limit: usize,
    memory: &BodyMemory,
) -> Result<(), BodyError> {
    let expected = hyper::body::Body::size_hint(body).lower();
    if expected > limit as u64 {
        let len = Some(expected);
        return Err(BodyError::TooLarge { len, limit });
    }
    match memory.has(expected as usize) {
        true => Ok(()),
        false => Err(BodyError::OutOfMemory),
    }
}

/// Reads what is left of a small body that is not needed. Many clients lose a response if the connection is closed
/// while they write.
pub(super) async fn discard(mut body: Body) {
    const MOST: u64 = 256 * 1024;
    const TIMEOUT: Duration = Duration::from_secs(1);

    if hyper::body::Body::size_hint(&body).lower() > MOST {
        return;
    }
    let read = async {
        let mut len = 0;
        while let Some(Ok(frame)) = body.frame().await {
            len += frame.data_ref().map_or(0, Bytes::len) as u64;
            if len > MOST {
                break;
            }
        }
    };
    // A slower client has its answer after this.
    let _ = timeout(TIMEOUT, read).await;
}

/// Reads a body of at most `limit` bytes.
pub(super) async fn read(
    mut body: Body,
    limit: usize,
    memory: &BodyMemory,
) -> Result<(Bytes, MemoryPermit), BodyError> {
    check_length(&body, limit, memory)?;
    let mut held = memory.try_acquire(0).ok_or(BodyError::OutOfMemory)?;
    let mut frames: Vec<Bytes> = Vec::new();
    let mut len = 0;
    while let Some(frame) = body.frame().await {
        let Ok(data) = frame.map_err(BodyError::Broken)?.into_data() else {
            // Trailers.
            continue;
        };
        len += data.len();
        if len > limit {
            return Err(BodyError::TooLarge { len: None, limit });
        }
        held.merge(
            memory
                .try_acquire(data.len())
                .ok_or(BodyError::OutOfMemory)?,
        );
        frames.push(data);
    }
    // Most bodies are one frame, which is not copied.
    let body = match &frames[..] {
        [frame] => frame.clone(),
        frames => frames.concat().into(),
    };
    Ok((body, held))
}

#[cfg(test)]
mod tests {
    use std::io;

    use futures_util::{FutureExt as _, stream};

    use super::*;

    fn read_now(
        frames: &[&'static str],
        memory: &BodyMemory,
    ) -> Result<(Bytes, MemoryPermit), BodyError> {
        let frames: Vec<_> = frames
            .iter()
            .map(|frame| match *frame {
                "broken" => Err(io::Error::other("it broke")),
                frame => Ok(frame),
            })
            .collect();
        let body = Body::from_stream(stream::iter(frames));
        let read = read(body, 10, memory).now_or_never();
        read.expect("all of it is there")
    }

    #[test]
    fn a_body_has_a_limit_and_all_of_them_together() {
        let memory = BodyMemory::new(15);
        let check = |frames: &[&'static str], expected: &str| match read_now(frames, &memory) {
            Ok((body, _)) => assert_eq!(body, expected),
            Err(error) => assert_eq!(error.to_string(), expected),
        };
        check(&[], "");
        check(&["one"], "one");
        check(&["12345", "67890"], "1234567890");
        let too_large = "the body has more bytes, the limit is 10";
        check(&["12345", "67890", "1"], too_large);
        check(&["one", "broken"], "the body cannot be read: it broke");

        let held = read_now(&["1234567890"], &memory);
        check(&["12345"], "12345");
        let busy = "other requests take all the memory that there is for them";
        check(&["12345", "6"], busy);
        // This length is announced.
        let read = read(Body::from("123456"), 10, &memory).now_or_never();
        let error = read.expect("nothing is read").expect_err("it is busy");
        assert_eq!(error.to_string(), busy);
        drop(held);
        check(&["12345", "6"], "123456");
    }

    #[test]
    fn a_length_that_is_told_before_is_refused_before() {
        let read = read(Body::from("12345678901"), 10, &BodyMemory::default()).now_or_never();
        let error = read.expect("nothing is read").expect_err("it is too large");
        let expected = "the body has 11 bytes, the limit is 10";
        assert_eq!(error.to_string(), expected);
    }
}

//! [`BodyMemory`]: a limit on the bytes of request bodies and results in memory, and how a body is read within it.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use bytes::Bytes;
use http_body_util::BodyExt as _;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;

/// A limit on the bytes that are in memory at once. Clones share the limit.
///
/// An eighth of it is reserved for bodies and results of at most [`SMALL_BYTES`], so that large ones do not lock small
/// ones out.
#[derive(Clone, Debug)]
pub(crate) struct BodyMemory(Arc<Semaphore>, u32);

/// A body or result up to this size is small.
const SMALL_BYTES: usize = 64 * 1024;

/// The part of the memory that is reserved for small bodies and results: one of so many.
const RESERVED_PARTS: u32 = 8;

/// The size of a whole body or result.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum BodySize {
    Small,
    /// Or unknown.
    Large,
}

impl From<usize> for BodySize {
    fn from(bytes: usize) -> Self {
        match bytes {
            0..=SMALL_BYTES => Self::Small,
            _ => Self::Large,
        }
    }
}

/// Bytes acquired from a [`BodyMemory`]. Dropping the permit returns them.
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

/// Error of reading a request body.
#[derive(Debug, thiserror::Error)]
pub(super) enum BodyError {
    /// The body is over `limit`. `len` is known if the request announced its length.
    #[error("the body has {}, the limit is {limit}", bytes(*.len))]
    TooLarge { len: Option<u64>, limit: usize },
    /// The bodies and results of other requests use up the memory.
    #[error("the bodies and results of other requests use all the memory of the gateway or worker")]
    OutOfMemory,
    /// The connection broke, or the body is malformed.
    #[error("the body cannot be read: {0}")]
    Broken(axum::Error),
}

fn bytes(len: Option<u64>) -> String {
    len.map_or("more bytes".to_owned(), |len| format!("{len} bytes"))
}

impl Default for BodyMemory {
    /// Returns a limit of 1 GiB.
    fn default() -> Self {
        Self::new(1024 * 1024 * 1024)
    }
}

impl BodyMemory {
    /// Creates a limit of `bytes`, or 4 GiB if that is less.
    pub(super) fn new(bytes: usize) -> Self {
        let bytes = u32::try_from(bytes).unwrap_or(u32::MAX);
        Self(Arc::new(Semaphore::new(bytes as usize)), bytes)
    }

    /// Bytes that a body or result of this size may not use.
    fn reserved(&self, size: BodySize) -> u32 {
        match size {
            BodySize::Small => 0,
            BodySize::Large => self.1 / RESERVED_PARTS,
        }
    }

    /// Returns whether `bytes` are free, or all that they may use if that is less.
    fn has(&self, bytes: usize) -> bool {
        let reserved = self.reserved(bytes.into());
        let bytes = bytes.min((self.1 - reserved) as usize);
        self.0.available_permits() >= bytes + reserved as usize
    }

    /// Acquires `bytes` for a whole body or result, if they are free. A request for more than it may use acquires all
    /// that it may use.
    pub(super) fn try_acquire(&self, bytes: usize) -> Option<MemoryPermit> {
        self.try_acquire_for(bytes.into(), bytes)
    }

    /// Acquires `bytes` of a body or result of this size.
    fn try_acquire_for(&self, size: BodySize, bytes: usize) -> Option<MemoryPermit> {
        let reserved = self.reserved(size);
        let bytes = u32::try_from(bytes)
            .unwrap_or(u32::MAX)
            .min(self.1 - reserved);
        // Threads that check at the same time may use a little of the reserve, which is there for longer.
        if self.0.available_permits() < bytes as usize + reserved as usize {
            return None;
        }
        let permit = self.0.clone().try_acquire_many_owned(bytes);
        permit.ok().map(MemoryPermit)
    }
}

impl MemoryPermit {
    fn merge(&mut self, more: Self) {
        self.0.merge(more.0);
    }

    /// Attaches the permit to `bytes`, so that it is returned with the last reference to them. A permit alongside the
    /// body would be returned too early: hyper drops a body before it has written its bytes.
    pub(super) fn keep_with(self, bytes: Bytes) -> Bytes {
        Bytes::from_owner(ReservedBytes { bytes, _held: self })
    }
}

/// Rejects a body whose announced length is over `limit` or over the free `memory`. A client that waits for
/// `100 Continue` then never sends the body.
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

/// Reads and drops the rest of a small body. Many clients lose a response if the connection is closed, or the stream of
/// HTTP/2 is reset, while they still send.
pub(super) async fn discard(mut body: Body) {
    const MAX_DISCARDED_BYTES: u64 = 256 * 1024;
    const TIMEOUT: Duration = Duration::from_secs(1);

    if hyper::body::Body::size_hint(&body).lower() > MAX_DISCARDED_BYTES {
        return;
    }
    let read = async {
        let mut len = 0;
        while let Some(Ok(frame)) = body.frame().await {
            len += frame.data_ref().map_or(0, Bytes::len) as u64;
            if len > MAX_DISCARDED_BYTES {
                break;
            }
        }
    };
    // A slower client receives its response after the timeout.
    let _ = timeout(TIMEOUT, read).await;
}

/// Reads a body of at most `limit` bytes.
pub(super) async fn read(
    mut body: Body,
    limit: usize,
    memory: &BodyMemory,
) -> Result<(Bytes, MemoryPermit), BodyError> {
    check_length(&body, limit, memory)?;
    let size = match hyper::body::Body::size_hint(&body).upper() {
        Some(bytes) => usize::try_from(bytes).unwrap_or(usize::MAX).into(),
        None => BodySize::Large,
    };
    let mut permit = memory.try_acquire(0).ok_or(BodyError::OutOfMemory)?;
    let mut frames: Vec<Bytes> = Vec::new();
    let mut len = 0;
    while let Some(frame) = body.frame().await {
        let Ok(data) = frame.map_err(BodyError::Broken)?.into_data() else {
            continue; // trailers
        };
        len += data.len();
        if len > limit {
            return Err(BodyError::TooLarge { len: None, limit });
        }
        permit.merge(
            memory
                .try_acquire_for(size, data.len())
                .ok_or(BodyError::OutOfMemory)?,
        );
        frames.push(data);
    }
    // Most bodies are a single frame, which needs no copy.
    let body = match &frames[..] {
        [frame] => frame.clone(),
        frames => frames.concat().into(),
    };
    Ok((body, permit))
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
        read.expect("every frame is available")
    }

    #[test]
    fn each_body_is_limited_and_so_are_all_bodies_together() {
        // Bodies of unknown length may use 15 of these bytes.
        let memory = BodyMemory::new(17);
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

        let permit = read_now(&["1234567890"], &memory);
        check(&["12345"], "12345");
        let busy =
            "the bodies and results of other requests use all the memory of the gateway or worker";
        check(&["12345", "6"], busy);
        // The length is announced.
        let read = read(Body::from("12345678"), 10, &memory).now_or_never();
        let error = read
            .expect("nothing is read")
            .expect_err("memory is used up");
        assert_eq!(error.to_string(), busy);
        drop(permit);
        check(&["12345", "6"], "123456");
    }

    #[test]
    fn large_bodies_leave_memory_to_small_ones() {
        let memory = BodyMemory::new(800_000);
        let large = [memory.try_acquire(400_000), memory.try_acquire(300_000)];
        assert!(large.iter().all(Option::is_some));
        assert!(!memory.has(SMALL_BYTES + 1));
        assert!(memory.try_acquire(SMALL_BYTES + 1).is_none());
        assert!(memory.try_acquire_for(BodySize::Large, 1).is_none());
        assert!(memory.has(SMALL_BYTES));
        let small = memory.try_acquire(SMALL_BYTES);
        assert!(small.is_some());
        assert!(!memory.has(SMALL_BYTES));
        drop((large, small));
        // A body larger than the memory is received alone.
        let permit = memory.try_acquire(usize::MAX);
        assert!(permit.is_some());
        assert!(memory.has(SMALL_BYTES));
    }

    #[test]
    fn body_is_rejected_by_its_announced_length_before_it_is_read() {
        let read = read(Body::from("12345678901"), 10, &BodyMemory::default()).now_or_never();
        let error = read.expect("nothing is read").expect_err("it is too large");
        let expected = "the body has 11 bytes, the limit is 10";
        assert_eq!(error.to_string(), expected);
    }
}

//! Memory of received messages that is used again.
//!
//! Without it, the system's allocator returns the memory of a large message at once, and the system clears the same
//! pages for the next one. The list keeps a handle of each buffer that messages refer to, and takes back those that no
//! message refers to any more.

use std::collections::VecDeque;

use bytes::BytesMut;
use parking_lot::Mutex;

/// Memory that a socket keeps.
const MAX_BYTES: usize = 8 * 1024 * 1024;

/// Size of the smallest and largest buffer that is kept.
const KEPT_BYTES: std::ops::RangeInclusive<usize> = 16 * 1024..=1024 * 1024;

/// Buffers that are tried for each request.
const MAX_TRIES: usize = 4;

#[derive(Debug, Default)]
pub(super) struct Buffers(Mutex<Kept>);

#[derive(Debug, Default)]
struct Kept {
    /// With their sizes, in the order in which they came.
    buffers: VecDeque<(BytesMut, usize)>,
    bytes: usize,
}

impl Buffers {
    /// Returns an empty buffer for as many bytes.
    pub(super) fn take(&self, bytes: usize) -> BytesMut {
        if KEPT_BYTES.contains(&bytes) {
            let mut kept = self.0.lock();
            for _ in 0..MAX_TRIES.min(kept.buffers.len()) {
                let Some((mut buffer, size)) = kept.buffers.pop_front() else {
                    break;
                };
                if size <= 4 * bytes && buffer.try_reclaim(bytes) {
                    kept.bytes -= size;
                    return buffer;
                }
                kept.buffers.push_back((buffer, size));
            }
        }
        BytesMut::with_capacity(bytes)
    }

    /// Keeps the rest of a buffer of as many bytes, of which messages may have parts.
    pub(super) fn put(&self, mut buffer: BytesMut, bytes: usize) {
        if !KEPT_BYTES.contains(&bytes) {
            return;
        }
        buffer.clear();
        let mut dropped = Vec::new();
        let mut kept = self.0.lock();
        kept.bytes += bytes;
        kept.buffers.push_back((buffer, bytes));
        while kept.bytes > MAX_BYTES
            && let Some((buffer, size)) = kept.buffers.pop_front()
        {
            kept.bytes -= size;
            dropped.push(buffer);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SIZE: usize = 64 * 1024;

    #[test]
    fn buffer_is_used_again_once_its_messages_are_dropped() {
        let buffers = Buffers::default();
        let mut buffer = buffers.take(SIZE);
        buffer.resize(SIZE, 1);
        let address = buffer.as_ptr();
        let message = buffer.split().freeze();
        buffers.put(buffer, SIZE);
        assert_ne!(buffers.take(SIZE).as_ptr(), address);
        drop(message);
        let again = buffers.take(SIZE);
        assert_eq!((again.as_ptr(), again.len()), (address, 0));
        assert!(again.capacity() >= SIZE);
    }

    #[test]
    fn kept_memory_is_bounded() {
        let buffers = Buffers::default();
        for _ in 0..1000 {
            buffers.put(BytesMut::with_capacity(SIZE), SIZE);
        }
        buffers.put(BytesMut::with_capacity(SIZE << 10), SIZE << 10);
        let kept = buffers.0.lock();
        assert_eq!((kept.bytes, kept.buffers.len()), (MAX_BYTES, 128));
    }
}

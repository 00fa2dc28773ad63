//! The memory of frames: that of large ones serves the next ones, and small ones share some.

use std::collections::VecDeque;

use bytes::{Bytes, BytesMut};

use super::codec::Content;

/// From this size on memory is kept: an allocator would give it back to the system, page by page, and
/// take it anew for the next frame, which costs more than to fill it.
const MIN_POOLED_BYTES: usize = 16 * 1024;
/// Up to this size frames share memory, and how much of it: a share costs less than a piece for each, and what
/// is left of one holds no more than this.
const MAX_SHARED_FRAME_BYTES: usize = 512;
const SHARED_BUFFER_BYTES: usize = 4096;
/// How much is kept.
const MAX_POOL_BYTES: usize = 8 * 1024 * 1024;

/// The frames that were made last, to be used again once nobody has them any more.
#[derive(Debug, Default)]
pub struct FramePool {
    /// What is left for small frames.
    small: BytesMut,
    frames: VecDeque<Bytes>,
    bytes: usize,
}

impl FramePool {
    /// Whether a frame of this size is worth the memory.
    fn keeps(len: usize) -> bool {
        (MIN_POOLED_BYTES..=MAX_POOL_BYTES / 8).contains(&len)
    }

    /// The message as one frame.
    pub fn encode(&mut self, content: Content<'_>) -> Bytes {
        let len = content.len();
        if len <= MAX_SHARED_FRAME_BYTES {
            return self.share(content, len);
        }
        if !Self::keeps(len) {
            return content.encode();
        }
        let mut out = self
            .oldest()
            .filter(|memory| memory.capacity() >= len)
            .unwrap_or_else(|| BytesMut::with_capacity(len));
        content.write(&mut out);
        let frame = out.freeze();
        self.frames.push_back(frame.clone());
        self.bytes += len;
        while self.bytes > MAX_POOL_BYTES {
            self.drop_oldest();
        }
        frame
    }

    fn share(&mut self, content: Content<'_>, len: usize) -> Bytes {
        if self.small.capacity() < len {
            self.small = BytesMut::with_capacity(SHARED_BUFFER_BYTES);
        }
        content.write(&mut self.small);
        self.small.split().freeze()
    }

    /// The memory of the oldest frame, if nobody else has it any more.
    fn oldest(&mut self) -> Option<BytesMut> {
        if !self.frames.front()?.is_unique() {
            return None;
        }
        let oldest = self.drop_oldest()?;
        let mut memory = oldest.try_into_mut().ok()?;
        memory.clear();
        Some(memory)
    }

    fn drop_oldest(&mut self) -> Option<Bytes> {
        let oldest = self.frames.pop_front()?;
        self.bytes -= oldest.len();
        Some(oldest)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::Message;

    fn content(payload: &[u8]) -> Content<'_> {
        Content {
            pipeline: b"pipeline",
            client: b"client",
            stage: 0,
            function: b"a.b",
            cache: b"id",
            payload,
            unknown: &[],
        }
    }

    #[test]
    fn memory_is_used_again_when_nobody_has_it() {
        let mut memory = FramePool::default();
        let large = vec![1; 50_000];
        let first = memory.encode(content(&large));
        let place = first.as_ptr();
        let second = memory.encode(content(&large));
        assert_eq!(first, second);
        drop(first);
        let other = vec![2; 49_000];
        let third = memory.encode(content(&other));
        assert_eq!(third.as_ptr(), place);
        assert_eq!(Message::decode(third).unwrap().payload(), &other);
        assert_eq!(Message::decode(second).unwrap().payload(), &large);
    }

    #[test]
    fn what_is_kept_is_bounded() {
        let mut memory = FramePool::default();
        let large = vec![1; 100_000];
        let frames: Vec<_> = (0..200).map(|_| memory.encode(content(&large))).collect();
        assert!(memory.bytes <= MAX_POOL_BYTES);
        assert!(frames.iter().all(|frame| *frame == frames[0]));
    }

    #[test]
    fn small_ones_share_memory() {
        let mut memory = FramePool::default();
        let frames: Vec<_> = (0..1000_u32)
            .map(|number| memory.encode(content(&number.to_le_bytes())))
            .collect();
        let [first, second, ..] = &frames[..] else {
            unreachable!("there are more");
        };
        assert_eq!(first.as_ptr_range().end, second.as_ptr());
        for (number, frame) in (0..1000_u32).zip(&frames) {
            let message = Message::decode(frame.clone()).unwrap();
            assert_eq!(message.payload(), &number.to_le_bytes()[..]);
        }
    }
}

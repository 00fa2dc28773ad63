//! Memory of encoded frames: large buffers are reused, and small frames share one.

use std::collections::VecDeque;

use bytes::{Bytes, BytesMut};

use super::codec::Content;

/// Smallest buffer that is pooled. An allocator returns larger ones to the system and requests them again for the next
/// frame, which costs more than writing the frame.
const MIN_POOLED_BYTES: usize = 16 * 1024;
/// Largest frame that shares a buffer with others, which saves an allocation for each.
const MAX_SHARED_FRAME_BYTES: usize = 512;
/// Size of a shared buffer. A frame that is kept keeps the whole buffer.
const SHARED_BUFFER_BYTES: usize = 4096;
/// Size of the pool.
const MAX_POOL_BYTES: usize = 8 * 1024 * 1024;

/// Encodes messages into buffers that are reused once their frames have been dropped.
#[derive(Debug, Default)]
pub struct FramePool {
    /// The rest of the shared buffer.
    small: BytesMut,
    /// Large frames, the oldest first.
    frames: VecDeque<Bytes>,
    bytes: usize,
}

impl FramePool {
    /// Returns whether a frame of this size is pooled.
    fn keeps(len: usize) -> bool {
        (MIN_POOLED_BYTES..=MAX_POOL_BYTES / 8).contains(&len)
    }

    /// Encodes a message as one frame.
    pub fn encode(&mut self, content: Content<'_>) -> Bytes {
        let len = content.encoded_len();
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

    /// Returns the buffer of the oldest frame, if that has been dropped everywhere else.
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
    fn buffer_is_reused_when_its_frame_is_dropped() {
        let mut memory = FramePool::default();
        let large = vec![1; 50_000];
        let first = memory.encode(content(&large));
        let address = first.as_ptr();
        let second = memory.encode(content(&large));
        assert_eq!(first, second);
        drop(first);
        let other = vec![2; 49_000];
        let third = memory.encode(content(&other));
        assert_eq!(third.as_ptr(), address);
        assert_eq!(Message::decode(third).unwrap().payload(), &other);
        assert_eq!(Message::decode(second).unwrap().payload(), &large);
    }

    #[test]
    fn pool_is_bounded() {
        let mut memory = FramePool::default();
        let large = vec![1; 100_000];
        let frames: Vec<_> = (0..200).map(|_| memory.encode(content(&large))).collect();
        assert!(memory.bytes <= MAX_POOL_BYTES);
        assert!(frames.iter().all(|frame| *frame == frames[0]));
    }

    #[test]
    fn small_frames_share_a_buffer() {
        let mut memory = FramePool::default();
        let frames: Vec<_> = (0..1000_u32)
            .map(|number| memory.encode(content(&number.to_le_bytes())))
            .collect();
        let [first, second, ..] = &frames[..] else {
            unreachable!("there are 1000 frames");
        };
        assert_eq!(first.as_ptr_range().end, second.as_ptr());
        for (number, frame) in (0..1000_u32).zip(&frames) {
            let message = Message::decode(frame.clone()).unwrap();
            assert_eq!(message.payload(), &number.to_le_bytes()[..]);
        }
    }
}

//! [`Output`]: encoded bytes for a peer.

use std::io::IoSlice;

use bytes::Bytes;
use omq_proto::frame_buffer::FrameBuffer;
use omq_proto::{Message, Payload};

/// Output for which an idle connection keeps a buffer.
const MAX_IDLE_OUTPUT: usize = 4 * 1024;

/// Length from which a message that is sent is not copied.
const SHARED_OUTPUT: usize = 4 * 1024;

/// Chunks that are written at once.
const MAX_CHUNKS: usize = 64;

/// Encoded bytes for a peer, in the order in which they are written.
pub(in super::super) struct Output {
    frames: FrameBuffer,
    /// Most bytes since the buffer was created.
    peak: usize,
    /// Bytes of commands, such as answers to PINGs.
    commands: usize,
}

impl Output {
    pub(in super::super) fn new() -> Self {
        Self {
            frames: new_buffer(),
            peak: 0,
            commands: 0,
        }
    }

    /// Encodes a message.
    pub(in super::super) fn push(&mut self, frames: impl Iterator<Item = Bytes>) {
        let message = Message::multipart_payloads(frames.map(Payload::from_bytes));
        self.frames.frame(&message);
        self.peak = self.peak.max(self.len());
    }

    /// Appends encoded commands.
    pub(super) fn push_commands(&mut self, commands: &[u8]) {
        self.frames.push_pre_framed(commands);
        self.commands += commands.len();
        self.peak = self.peak.max(self.len());
    }

    /// Returns the number of bytes.
    pub(in super::super) fn len(&self) -> usize {
        self.frames.total_bytes()
    }

    pub(in super::super) fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Returns how many bytes are those of commands, which are counted until all of the output is written.
    pub(in super::super) fn command_bytes(&self) -> usize {
        self.commands
    }

    /// Calls `write` with the first chunks.
    pub(in super::super) fn with_chunks<T>(&self, write: impl FnOnce(&[IoSlice<'_>]) -> T) -> T {
        let mut slices = [IoSlice::new(&[]); MAX_CHUNKS];
        let count = self.frames.io_slices(&mut slices);
        write(&slices[..count])
    }

    /// Removes bytes that were written.
    pub(in super::super) fn advance(&mut self, bytes: usize) {
        self.frames.advance(bytes);
        if self.is_empty() {
            self.commands = 0;
            if self.peak > MAX_IDLE_OUTPUT {
                self.frames = new_buffer();
                self.peak = 0;
            }
        }
    }
}

fn new_buffer() -> FrameBuffer {
    FrameBuffer::with_config_lazy(SHARED_OUTPUT, 1024)
}

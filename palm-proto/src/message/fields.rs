//! The fields of a message, as views of its frame or as values that were set.

use std::ops::Range;

use bytes::Bytes;
use bytestring::ByteString;

use super::codec::{Content, DecodeError, Layout};
use super::lease::Lease;

/// Boxed, because a message is moved many times and its fields are large.
#[derive(Clone, Default)]
pub(super) struct MessageFields {
    /// The frame that the message was decoded from.
    pub(super) frame: Bytes,
    /// Whether the fields differ from the frame.
    pub(super) changed: bool,
    pub(super) pipeline: TextField,
    pub(super) client: TextField,
    pub(super) stage: i64,
    pub(super) function: TextField,
    pub(super) cache: TextField,
    pub(super) payload: Bytes,
    /// Unknown fields, encoded. They include the extension fields.
    pub(super) unknown: Bytes,
    /// The task that the message belongs to, at a worker. Not sent.
    pub(super) task: Option<Lease>,
}

/// A text field of a message: usually a range of the frame, which needs no reference count of its own.
#[derive(Clone)]
pub(super) enum TextField {
    /// A range of the frame, checked to be UTF-8.
    InFrame(Range<usize>),
    Owned(ByteString),
}

impl Default for TextField {
    fn default() -> Self {
        Self::InFrame(0..0)
    }
}

impl MessageFields {
    /// Finds the fields of a frame.
    pub(super) fn decode(frame: Bytes) -> Result<Self, DecodeError> {
        let layout = Layout::parse(&frame)?;
        Ok(Self {
            pipeline: TextField::InFrame(layout.pipeline),
            client: TextField::InFrame(layout.client),
            stage: layout.stage,
            function: TextField::InFrame(layout.function),
            cache: TextField::InFrame(layout.cache),
            payload: frame.slice(layout.payload),
            unknown: layout.unknown.finish(&frame),
            task: None,
            changed: false,
            frame,
        })
    }

    pub(super) fn bytes<'a>(&'a self, text: &'a TextField) -> &'a [u8] {
        match text {
            TextField::InFrame(range) => &self.frame[range.clone()],
            TextField::Owned(text) => text.as_bytes(),
        }
    }

    pub(super) fn str<'a>(&'a self, text: &'a TextField) -> &'a str {
        match text {
            TextField::InFrame(range) => {
                let bytes = &self.frame[range.clone()];
                std::str::from_utf8(bytes).expect("decoding checks that text is UTF-8")
            }
            TextField::Owned(text) => text,
        }
    }

    pub(super) fn encode(&self) -> Bytes {
        self.content().encode()
    }

    pub(super) fn content(&self) -> Content<'_> {
        Content {
            pipeline: self.bytes(&self.pipeline),
            client: self.bytes(&self.client),
            stage: self.stage,
            function: self.bytes(&self.function),
            cache: self.bytes(&self.cache),
            payload: &self.payload,
            unknown: &self.unknown,
        }
    }
}

//! Encodes the messages of calls.

use std::borrow::Cow;

use bytes::Bytes;

use super::{CallError, Client};
use crate::function::Steps;
use crate::message::{Content, Deadline, Share};

impl Client {
    /// Returns the message that calls `steps`, and its length in bytes, unless it exceeds the limit.
    ///
    /// The message gets its id here, so that a master does not need to encode it again to add one.
    pub(super) fn content<'a>(
        &'a self,
        steps: &'a Steps,
        topic: &'a str,
        id: &'a str,
        extensions: &'a [u8],
        payload: &'a [u8],
    ) -> Result<(Content<'a>, usize), CallError> {
        let content = Content {
            pipeline: self.0.pipeline.as_bytes(),
            client: topic.as_bytes(),
            stage: 0,
            function: steps.text().as_bytes(),
            cache: id.as_bytes(),
            payload,
            unknown: extensions,
        };
        let (len, limit) = (content.encoded_len(), self.0.max_message_bytes);
        if len > limit {
            return Err(CallError::TooLarge {
                function: steps.to_string(),
                len,
                limit,
            });
        }
        Ok((content, len))
    }

    /// Encodes a message.
    pub(super) fn frame(&self, content: Content<'_>) -> Bytes {
        let mut memory = self.0.memory.lock();
        memory.encode(content)
    }
}

/// Encodes the extension fields of a call into `memory`, unless there are `more`, encoded: headers, and the trace.
pub(super) fn extensions<'a>(
    deadline: Option<Deadline>,
    share: Option<Share>,
    more: &[u8],
    memory: &'a mut [u8; 40],
) -> Cow<'a, [u8]> {
    let mut written = 0;
    if let Some(deadline) = deadline.map(Deadline::encode) {
        memory[..deadline.len()].copy_from_slice(&deadline);
        written = deadline.len();
    }
    if let Some(share) = share {
        written = share.write(memory, written);
    }
    match more {
        [] => Cow::Borrowed(&memory[..written]),
        more => Cow::Owned([&memory[..written], more].concat()),
    }
}

//! Finds the fields of a [`Message`](super::Message) in a frame, and encodes them.
//!
//! prost's generated code copies text into strings and drops fields that it does not know. This codec does neither.
//! Property tests compare the two.

use std::ops::Range;

use bytes::{Buf, BufMut, Bytes, BytesMut};

use super::error::RemoteError;
use super::proto::{Extensions, Share};
use super::wire_format::{
    WireFormatError, WireType, put_key, put_varint, read_key, read_varint, skip_value, varint_len,
};

const PIPELINE: u32 = 1;
const CLIENT: u32 = 2;
const STAGE: u32 = 3;
const FUNCTION: u32 = 4;
const CACHE: u32 = 5;
const PAYLOAD: u32 = 6;
const ERROR: u32 = 16;
const END: u32 = 20;

/// Error of decoding a [`Message`](super::Message).
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DecodeError {
    /// The bytes do not follow the protobuf wire format.
    #[error("not a protobuf message")]
    Malformed(#[from] WireFormatError),
    /// A known field has the wrong wire type.
    #[error("field {field} has wire type {wire_type}")]
    #[non_exhaustive]
    WireType {
        /// The number of the field.
        field: u32,
        /// The number of the wire type.
        wire_type: u8,
    },
    /// A field announces more bytes than are left.
    #[error("field {field} announces {announced} bytes, {left} are left")]
    #[non_exhaustive]
    Truncated {
        /// The number of the field.
        field: u32,
        /// Announced bytes.
        announced: u64,
        /// Bytes that are left.
        left: usize,
    },
    /// A text field is not UTF-8.
    #[error("field {field} is not UTF-8")]
    #[non_exhaustive]
    NotUtf8 {
        /// The number of the field.
        field: u32,
    },
}

/// The positions of fields in a frame.
#[derive(Default)]
pub(super) struct Layout {
    pub(super) pipeline: Range<usize>,
    pub(super) client: Range<usize>,
    pub(super) stage: i64,
    pub(super) function: Range<usize>,
    pub(super) cache: Range<usize>,
    pub(super) payload: Range<usize>,
    pub(super) unknown: UnknownFields,
}

impl Layout {
    pub(super) fn parse(frame: &[u8]) -> Result<Self, DecodeError> {
        let mut layout = Self::default();
        let mut rest = frame;
        while rest.has_remaining() {
            let start = frame.len() - rest.len();
            let (field, wire_type) = read_key(&mut rest)?;
            let mut chunk = || chunk(field, wire_type, frame, &mut rest);
            match field {
                PIPELINE => layout.pipeline = chunk()?,
                CLIENT => layout.client = chunk()?,
                STAGE => {
                    expect(field, wire_type, WireType::Varint)?;
                    // int64: a negative number is the two's complement in ten bytes.
                    layout.stage = read_varint(&mut rest)?.cast_signed();
                }
                FUNCTION => layout.function = chunk()?,
                CACHE => layout.cache = chunk()?,
                PAYLOAD => layout.payload = chunk()?,
                _ => {
                    skip_value(field, wire_type, &mut rest)?;
                    layout.unknown.push(frame, start..frame.len() - rest.len());
                }
            }
        }
        layout.check_text(frame)?;
        Ok(layout)
    }

    /// Checks that text fields are UTF-8.
    fn check_text(&self, frame: &[u8]) -> Result<(), DecodeError> {
        let texts = [
            (PIPELINE, &self.pipeline),
            (CLIENT, &self.client),
            (FUNCTION, &self.function),
            (CACHE, &self.cache),
        ];
        // One check if all are ASCII, together with the few bytes in between.
        let end = texts.iter().map(|(_, range)| range.end).max();
        if frame[..end.unwrap_or_default()].is_ascii() {
            return Ok(());
        }
        for (field, range) in texts {
            if std::str::from_utf8(&frame[range.clone()]).is_err() {
                return Err(DecodeError::NotUtf8 { field });
            }
        }
        Ok(())
    }
}

/// The fields of an answer that a client reads.
#[derive(Debug)]
pub struct Answered<'a> {
    /// The field `client`.
    pub client: &'a [u8],
    pub function: &'a str,
    pub stage: i64,
    /// The payload, or the error instead of it.
    pub result: Result<Bytes, Box<RemoteError>>,
    pub share: Option<Share>,
    /// Whether the message only reports that a call has no further answers.
    pub is_rest: bool,
}

/// Decodes a message as an answer.
pub fn answer(frame: &Bytes) -> Result<Answered<'_>, DecodeError> {
    let layout = Layout::parse(frame)?;
    let function = str::from_utf8(&frame[layout.function]).unwrap_or_default();
    let mut answered = Answered {
        client: &frame[layout.client],
        function,
        stage: layout.stage,
        result: Ok(frame.slice(layout.payload)),
        share: None,
        is_rest: false,
    };
    if !layout.unknown.is_empty() {
        let extensions = Extensions::read(&layout.unknown.finish(frame)).unwrap_or_default();
        answered.share = extensions.share;
        answered.is_rest = extensions.end.is_some() && extensions.error.is_none();
        if let Some(error) = extensions.error {
            let error = RemoteError::from_extension(error, function);
            answered.result = Err(Box::new(error));
        }
    }
    Ok(answered)
}

/// Decodes only the steps of a message and the index of the next one.
pub fn steps(frame: &[u8]) -> Result<(&str, i64), DecodeError> {
    let layout = Layout::parse(frame)?;
    let steps = str::from_utf8(&frame[layout.function]);
    let steps = steps.map_err(|_| DecodeError::NotUtf8 { field: FUNCTION })?;
    Ok((steps, layout.stage))
}

/// Returns whether extension fields contain an error or the end of a call, or are malformed.
pub(super) fn reports_an_end(unknown: &[u8]) -> bool {
    let mut rest = unknown;
    while !rest.is_empty() {
        match read_key(&mut rest) {
            Ok((ERROR | END, _)) | Err(_) => return true,
            Ok((field, wire_type)) => {
                if skip_value(field, wire_type, &mut rest).is_err() {
                    return true;
                }
            }
        }
    }
    false
}

/// Unknown fields in their order. If they are adjacent, as usual, they stay a view of the frame.
#[derive(Default)]
pub(super) struct UnknownFields {
    neighbours: Range<usize>,
    scattered: BytesMut,
}

impl UnknownFields {
    fn push(&mut self, frame: &[u8], field: Range<usize>) {
        if self.neighbours.end == field.start {
            self.neighbours.end = field.end;
        } else {
            self.scattered
                .extend_from_slice(&frame[self.neighbours.clone()]);
            self.neighbours = field;
        }
    }

    fn is_empty(&self) -> bool {
        self.neighbours.is_empty() && self.scattered.is_empty()
    }

    pub(super) fn finish(mut self, frame: &Bytes) -> Bytes {
        if self.scattered.is_empty() {
            return frame.slice(self.neighbours);
        }
        self.scattered.extend_from_slice(&frame[self.neighbours]);
        self.scattered.freeze()
    }
}

fn expect(field: u32, found: WireType, expected: WireType) -> Result<(), DecodeError> {
    if found == expected {
        Ok(())
    } else {
        let wire_type = found as u8;
        Err(DecodeError::WireType { field, wire_type })
    }
}

/// Skips a field with a length, and returns the position of its content in the frame.
fn chunk(
    field: u32,
    wire_type: WireType,
    frame: &[u8],
    rest: &mut &[u8],
) -> Result<Range<usize>, DecodeError> {
    expect(field, wire_type, WireType::LengthDelimited)?;
    let announced = read_varint(rest)?;
    match usize::try_from(announced) {
        Ok(len) if len <= rest.len() => {
            let start = frame.len() - rest.len();
            rest.advance(len);
            Ok(start..start + len)
        }
        _ => Err(DecodeError::Truncated {
            field,
            announced,
            left: rest.len(),
        }),
    }
}

/// The fields of a message to be encoded.
#[derive(Clone, Copy, Debug)]
pub struct Content<'a> {
    pub pipeline: &'a [u8],
    pub client: &'a [u8],
    pub stage: i64,
    pub function: &'a [u8],
    pub cache: &'a [u8],
    pub payload: &'a [u8],
    /// Unknown fields, encoded.
    pub unknown: &'a [u8],
}

impl Content<'_> {
    /// Returns the size of the frame in bytes.
    #[doc(hidden)]
    pub fn encoded_len(&self) -> usize {
        let texts = [self.pipeline, self.client, self.function, self.cache];
        let mut len = self.unknown.len() + delimited_len(self.payload.len());
        for text in texts {
            len += delimited_len(text.len());
        }
        if self.stage != 0 {
            len += 1 + varint_len(self.stage.cast_unsigned());
        }
        len
    }

    pub(super) fn write(&self, out: &mut impl BufMut) {
        put_delimited(out, PIPELINE, self.pipeline);
        put_delimited(out, CLIENT, self.client);
        if self.stage != 0 {
            put_key(STAGE, WireType::Varint, out);
            put_varint(self.stage.cast_unsigned(), out);
        }
        put_delimited(out, FUNCTION, self.function);
        put_delimited(out, CACHE, self.cache);
        put_delimited(out, PAYLOAD, self.payload);
        out.put_slice(self.unknown);
    }

    /// Encodes the message as one frame, with one allocation.
    #[doc(hidden)]
    pub fn encode(&self) -> Bytes {
        let len = self.encoded_len();
        let mut out = Vec::with_capacity(len);
        self.write(&mut out);
        debug_assert_eq!(out.len(), len);
        out.into()
    }
}

/// Empty fields are not written, as in proto3.
fn delimited_len(len: usize) -> usize {
    match len {
        0 => 0,
        len => 1 + varint_len(len as u64) + len,
    }
}

fn put_delimited(out: &mut impl BufMut, field: u32, bytes: &[u8]) {
    if !bytes.is_empty() {
        put_key(field, WireType::LengthDelimited, out);
        put_varint(bytes.len() as u64, out);
        out.put_slice(bytes);
    }
}

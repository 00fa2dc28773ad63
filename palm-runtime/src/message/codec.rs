//! The bytes of a [`Message`](super::Message), read and written field by field.
//!
//! prost's generated code copies text into strings and drops the fields that it does not know. This
//! codec does neither; it stands on prost's primitives, and a property test holds the two together.

use std::ops::Range;

use bytes::{Buf, Bytes, BytesMut};
use bytestring::ByteString;
use prost::encoding::{
    DecodeContext, WireType, decode_key, decode_varint, encode_key, encode_varint,
    encoded_len_varint, skip_field,
};

use super::encoded::Fields;

const PIPELINE: u32 = 1;
const CLIENT: u32 = 2;
const STAGE: u32 = 3;
const FUNCTION: u32 = 4;
const CACHE: u32 = 5;
const PAYLOAD: u32 = 6;

/// Why bytes are no [`Message`](super::Message).
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DecodeError {
    /// The bytes do not follow the protobuf encoding, or end within a field.
    #[error("not a protobuf message")]
    Malformed(#[source] prost::DecodeError),
    /// A field that we know has a wire type that it cannot have.
    #[error("field {field} has wire type {wire_type}")]
    WireType {
        /// The number of the field.
        field: u32,
        /// The wire type's number in the protobuf encoding.
        wire_type: u8,
    },
    /// A field announces more bytes than there are.
    #[error("field {field} announces {announced} bytes, {left} are left")]
    Truncated {
        /// The number of the field.
        field: u32,
        /// What its length says.
        announced: u64,
        /// What is there.
        left: usize,
    },
    /// A field of text holds bytes that are not UTF-8.
    #[error("field {field} is not UTF-8")]
    NotUtf8 {
        /// The number of the field.
        field: u32,
    },
}

pub(super) fn decode(frame: Bytes) -> Result<Fields, DecodeError> {
    let mut message = Fields::default();
    let mut unknown = Unknown::default();
    let mut rest = frame.clone();
    while rest.has_remaining() {
        let start = frame.len() - rest.len();
        let (field, wire_type) = decode_key(&mut rest).map_err(DecodeError::Malformed)?;
        match field {
            PIPELINE => message.pipeline = text(field, wire_type, &mut rest)?,
            CLIENT => message.client = text(field, wire_type, &mut rest)?,
            STAGE => {
                expect(field, wire_type, WireType::Varint)?;
                // int64: a negative number is the two's complement in ten bytes.
                message.stage = decode_varint(&mut rest)
                    .map_err(DecodeError::Malformed)?
                    .cast_signed();
            }
            FUNCTION => message.function = text(field, wire_type, &mut rest)?,
            CACHE => message.cache = text(field, wire_type, &mut rest)?,
            PAYLOAD => message.payload = chunk(field, wire_type, &mut rest)?,
            _ => {
                skip_field(wire_type, field, &mut rest, DecodeContext::default())
                    .map_err(DecodeError::Malformed)?;
                unknown.push(&frame, start..frame.len() - rest.len());
            }
        }
    }
    message.unknown = unknown.finish(&frame);
    message.frame = Some(frame);
    Ok(message)
}

/// The fields that we do not know, in their order. Usually they are neighbours and stay a view.
#[derive(Default)]
struct Unknown {
    neighbours: Range<usize>,
    scattered: BytesMut,
}

impl Unknown {
    fn push(&mut self, frame: &Bytes, field: Range<usize>) {
        if self.neighbours.end == field.start {
            self.neighbours.end = field.end;
        } else {
            self.scattered
                .extend_from_slice(&frame[self.neighbours.clone()]);
            self.neighbours = field;
        }
    }

    fn finish(mut self, frame: &Bytes) -> Bytes {
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

fn chunk(field: u32, wire_type: WireType, rest: &mut Bytes) -> Result<Bytes, DecodeError> {
    expect(field, wire_type, WireType::LengthDelimited)?;
    let announced = decode_varint(rest).map_err(DecodeError::Malformed)?;
    match usize::try_from(announced) {
        Ok(len) if len <= rest.len() => Ok(rest.split_to(len)),
        _ => Err(DecodeError::Truncated {
            field,
            announced,
            left: rest.len(),
        }),
    }
}

fn text(field: u32, wire_type: WireType, rest: &mut Bytes) -> Result<ByteString, DecodeError> {
    let bytes = chunk(field, wire_type, rest)?;
    ByteString::try_from(bytes).map_err(|_| DecodeError::NotUtf8 { field })
}

pub(super) fn encode(message: &Fields) -> Bytes {
    let texts = [
        (PIPELINE, &message.pipeline),
        (CLIENT, &message.client),
        (FUNCTION, &message.function),
        (CACHE, &message.cache),
    ];
    let mut len = message.unknown.len() + delimited_len(message.payload.len());
    for (_, text) in texts {
        len += delimited_len(text.len());
    }
    if message.stage != 0 {
        len += 1 + encoded_len_varint(message.stage.cast_unsigned());
    }

    let mut out = BytesMut::with_capacity(len);
    put_delimited(&mut out, PIPELINE, message.pipeline.as_bytes());
    put_delimited(&mut out, CLIENT, message.client.as_bytes());
    if message.stage != 0 {
        encode_key(STAGE, WireType::Varint, &mut out);
        encode_varint(message.stage.cast_unsigned(), &mut out);
    }
    put_delimited(&mut out, FUNCTION, message.function.as_bytes());
    put_delimited(&mut out, CACHE, message.cache.as_bytes());
    put_delimited(&mut out, PAYLOAD, &message.payload);
    out.extend_from_slice(&message.unknown);
    debug_assert_eq!(out.len(), len);
    out.freeze()
}

/// Empty is the default of proto3 and is not written.
fn delimited_len(len: usize) -> usize {
    match len {
        0 => 0,
        len => 1 + encoded_len_varint(len as u64) + len,
    }
}

fn put_delimited(out: &mut BytesMut, field: u32, bytes: &[u8]) {
    if !bytes.is_empty() {
        encode_key(field, WireType::LengthDelimited, out);
        encode_varint(bytes.len() as u64, out);
        out.extend_from_slice(bytes);
    }
}

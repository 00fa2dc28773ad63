//! The wire format of protobuf: varints, keys, and fields of unknown numbers.
//!
//! A message is a sequence of fields, and a field a key and a value. The key is a varint of the field's number and of
//! the value's wire type, which suffices to skip a value that the reader does not know. The format is described at
//! <https://protobuf.dev/programming-guides/encoding/>. prost has these functions too, but not in its public interface.
//!
//! Readers accept exactly the bytes that prost accepts, so that a component reads a message like any other peer of the
//! cluster. Property tests compare the two. A reader that fails may have consumed a part of its input.

use bytes::BufMut;

/// Bytes of the longest varint: ten times seven bits hold a `u64`.
const MAX_VARINT_BYTES: usize = 10;

/// Groups that may be open at once in an unknown field, as in prost. Groups are deprecated; without a limit, a few bytes
/// for each would exhaust the stack of the reader.
const MAX_GROUP_DEPTH: u32 = 100;

/// Error of decoding the protobuf wire format.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum WireFormatError {
    /// A varint ends with the input, or has more than 64 bits.
    #[error("a varint is truncated or has more than 64 bits")]
    Varint,
    /// A key has more than 32 bits, or the field number 0.
    #[error("a key has no valid field number")]
    FieldNumber,
    /// The wire types are 0 to 5.
    #[error("wire type {0} does not exist")]
    WireType(u8),
    /// A value is longer than the rest of the input.
    #[error("a value is truncated")]
    Truncated,
    /// A group ends that is not the innermost open one.
    #[error("a group ends that is not open")]
    UnexpectedGroupEnd,
    /// More than 100 groups are open.
    #[error("groups are nested too deeply")]
    TooDeep,
}

/// How a value is encoded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum WireType {
    Varint = 0,
    Fixed64 = 1,
    LengthDelimited = 2,
    GroupStart = 3,
    GroupEnd = 4,
    Fixed32 = 5,
}

impl WireType {
    /// Returns the wire type of a key, which its three lowest bits contain.
    #[inline]
    fn from_key(key: u32) -> Result<Self, WireFormatError> {
        Ok(match key & 7 {
            0 => Self::Varint,
            1 => Self::Fixed64,
            2 => Self::LengthDelimited,
            3 => Self::GroupStart,
            4 => Self::GroupEnd,
            5 => Self::Fixed32,
            other => return Err(WireFormatError::WireType(other as u8)),
        })
    }
}

/// Reads a varint from the beginning of `input`.
#[inline]
pub(super) fn read_varint(input: &mut &[u8]) -> Result<u64, WireFormatError> {
    // Most lengths and numbers have one byte.
    if let [byte @ 0..0x80, rest @ ..] = *input {
        *input = rest;
        return Ok(u64::from(*byte));
    }
    read_long_varint(input)
}

fn read_long_varint(input: &mut &[u8]) -> Result<u64, WireFormatError> {
    let mut value = 0;
    for (index, &byte) in input.iter().take(MAX_VARINT_BYTES).enumerate() {
        value |= u64::from(byte & 0x7f) << (7 * index);
        if byte < 0x80 {
            // Nine bytes have 63 bits, so the tenth has one.
            if index == MAX_VARINT_BYTES - 1 && byte > 1 {
                break;
            }
            *input = &input[index + 1..];
            return Ok(value);
        }
    }
    Err(WireFormatError::Varint)
}

/// Reads a key: the number of a field, and the wire type of its value.
#[inline]
pub(super) fn read_key(input: &mut &[u8]) -> Result<(u32, WireType), WireFormatError> {
    let key = read_varint(input)?;
    let key = u32::try_from(key).map_err(|_| WireFormatError::FieldNumber)?;
    let wire_type = WireType::from_key(key)?;
    match key >> 3 {
        0 => Err(WireFormatError::FieldNumber),
        field => Ok((field, wire_type)),
    }
}

/// Skips the value of a field whose key was read.
#[inline]
pub(super) fn skip_value(
    field: u32,
    wire_type: WireType,
    input: &mut &[u8],
) -> Result<(), WireFormatError> {
    skip_nested(field, wire_type, input, 0)
}

/// Appends the fields of `fields` to `out`, without those of the number `left_out`. The fields were checked by decoding.
pub(super) fn copy_fields_without(left_out: u32, fields: &[u8], out: &mut Vec<u8>) {
    let mut rest = fields;
    while !rest.is_empty() {
        let field = rest;
        let number = read_key(&mut rest).and_then(|(number, wire_type)| {
            skip_value(number, wire_type, &mut rest)?;
            Ok(number)
        });
        match number {
            Ok(number) if number == left_out => {}
            Ok(_) => out.extend_from_slice(&field[..field.len() - rest.len()]),
            Err(_) => break,
        }
    }
}

/// Skips a value within `depth` open groups.
fn skip_nested(
    field: u32,
    wire_type: WireType,
    input: &mut &[u8],
    depth: u32,
) -> Result<(), WireFormatError> {
    if depth == MAX_GROUP_DEPTH {
        return Err(WireFormatError::TooDeep);
    }
    let len = match wire_type {
        WireType::Varint => return read_varint(input).map(drop),
        WireType::Fixed32 => 4,
        WireType::Fixed64 => 8,
        WireType::LengthDelimited => read_varint(input)?,
        WireType::GroupStart => loop {
            match read_key(input)? {
                (end, WireType::GroupEnd) if end == field => return Ok(()),
                (_, WireType::GroupEnd) => return Err(WireFormatError::UnexpectedGroupEnd),
                (inner, wire_type) => skip_nested(inner, wire_type, input, depth + 1)?,
            }
        },
        WireType::GroupEnd => return Err(WireFormatError::UnexpectedGroupEnd),
    };
    let len = usize::try_from(len).map_err(|_| WireFormatError::Truncated)?;
    *input = input.get(len..).ok_or(WireFormatError::Truncated)?;
    Ok(())
}

/// Returns the bytes that [`put_varint`] writes for `value`.
#[inline]
pub(super) const fn varint_len(value: u64) -> usize {
    let bits = u64::BITS - (value | 1).leading_zeros();
    bits.div_ceil(7) as usize
}

/// Writes a varint.
#[inline]
pub(super) fn put_varint(mut value: u64, out: &mut impl BufMut) {
    while value >= 0x80 {
        out.put_u8(value as u8 | 0x80);
        value >>= 7;
    }
    out.put_u8(value as u8);
}

/// Writes a key.
#[inline]
pub(super) fn put_key(field: u32, wire_type: WireType, out: &mut impl BufMut) {
    put_varint(u64::from(field << 3 | wire_type as u32), out);
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use prost::Message as _;

    use super::*;
    use crate::message::proto::PalmMessage;
    use crate::message::{DecodeError, Message};

    /// Numbers of each length.
    fn any_number() -> impl Strategy<Value = u64> {
        (any::<u64>(), 0..64_u32).prop_map(|(number, shift)| number >> shift)
    }

    /// Bytes that are almost a field: right, wrong in one place, or anything.
    fn any_piece() -> impl Strategy<Value = Vec<u8>> {
        let varint = || {
            prop_oneof![
                4 => any_number().prop_map(|number| {
                    let mut out = Vec::new();
                    put_varint(number, &mut out);
                    out
                }),
                // More bytes than the number needs, up to more than a varint may have.
                1 => (0_u8..3, 0_usize..12).prop_map(|(last, len)| {
                    let mut out = vec![0x80; len];
                    out.push(last);
                    out
                }),
            ]
        };
        let key = || {
            prop_oneof![
                6 => (0_u8..24, 0_u8..8).prop_map(|(field, wire_type)| {
                    let mut out = Vec::new();
                    put_varint(u64::from(field << 3 | wire_type), &mut out);
                    out
                }),
                1 => varint(),
            ]
        };
        let delimited = (key(), prop::collection::vec(0_u8..0x80, 0..20), -1_i8..2);
        prop_oneof![
            (key(), varint()).prop_map(|(key, value)| [key, value].concat()),
            (key(), prop::collection::vec(any::<u8>(), 8))
                .prop_map(|(key, value)| [key, value].concat()),
            (key(), prop::collection::vec(any::<u8>(), 4))
                .prop_map(|(key, value)| [key, value].concat()),
            delimited.prop_map(|(mut out, content, error)| {
                out.push((content.len() as u8).saturating_add_signed(error));
                out.extend(content);
                out
            }),
            groups(),
        ]
    }

    /// Nested groups of one number, around a field or nothing. One may lack its end.
    fn groups() -> impl Strategy<Value = Vec<u8>> {
        let depths = prop_oneof![1_usize..4, 97_usize..103];
        let inner = prop_oneof![Just(&b""[..]), Just(&b"\x08\x01"[..]), Just(&b"\x04"[..])];
        (7_u32..40, depths, inner, any::<bool>()).prop_map(|(field, depth, inner, is_open)| {
            let mut out = Vec::new();
            for _ in 0..depth {
                put_key(field, WireType::GroupStart, &mut out);
            }
            out.extend(inner);
            for _ in usize::from(is_open)..depth {
                put_key(field, WireType::GroupEnd, &mut out);
            }
            out
        })
    }

    /// Reads bytes with this codec and with prost.
    #[track_caller]
    fn assert_same_acceptance(bytes: &[u8]) {
        let ours = Message::decode(bytes.to_vec().into());
        let theirs = PalmMessage::decode(bytes);
        assert_eq!(
            ours.is_ok(),
            theirs.is_ok(),
            "{bytes:?}: {ours:?} {theirs:?}"
        );
        if let (Ok(ours), Ok(theirs)) = (ours, theirs) {
            assert_eq!(PalmMessage::from(ours), theirs, "{bytes:?}");
        }
    }

    proptest! {
        #[test]
        fn varints_are_those_of_prost(number in any_number()) {
            let mut ours = Vec::new();
            put_varint(number, &mut ours);
            // A message of one field, whose key has one byte.
            let theirs = number.encode_to_vec();
            prop_assert_eq!(varint_len(number), ours.len());
            if number == 0 {
                prop_assert!(theirs.is_empty());
            } else {
                prop_assert_eq!(&theirs[1..], &ours[..]);
            }
            let mut input = &ours[..];
            prop_assert_eq!(read_varint(&mut input), Ok(number));
            prop_assert!(input.is_empty());
            for end in 0..ours.len() {
                prop_assert_eq!(read_varint(&mut &ours[..end]), Err(WireFormatError::Varint));
            }
        }

        #[test]
        fn keys_are_read_as_written(field in 1_u32..1 << 29) {
            for wire_type in [WireType::Varint, WireType::Fixed64, WireType::LengthDelimited, WireType::Fixed32] {
                let mut out = Vec::new();
                put_key(field, wire_type, &mut out);
                prop_assert_eq!(read_key(&mut &out[..]), Ok((field, wire_type)));
            }
        }

        #[test]
        fn malformed_fields_are_accepted_and_rejected_as_by_prost(
            pieces in prop::collection::vec(any_piece(), 0..6),
            cut in 0_usize..4,
        ) {
            let bytes = pieces.concat();
            assert_same_acceptance(&bytes);
            assert_same_acceptance(&bytes[..bytes.len().saturating_sub(cut)]);
        }

        #[test]
        fn one_random_byte_is_accepted_and_rejected_as_by_prost(
            pieces in prop::collection::vec(any_piece(), 1..6),
            byte: u8,
            at: prop::sample::Index,
        ) {
            let mut bytes = pieces.concat();
            let at = at.index(bytes.len());
            bytes[at] = byte;
            assert_same_acceptance(&bytes);
        }
    }

    /// Reads bytes that neither this codec nor prost accept.
    #[track_caller]
    fn check_error(bytes: &[u8], expected: WireFormatError) {
        assert_same_acceptance(bytes);
        let error = Message::decode(bytes.to_vec().into()).unwrap_err();
        assert_eq!(error, DecodeError::Malformed(expected), "{bytes:?}");
    }

    #[test]
    fn malformed_bytes_are_named() {
        check_error(b"\x38", WireFormatError::Varint);
        check_error(b"\x38\xff\xff", WireFormatError::Varint);
        check_error(
            b"\x18\xff\xff\xff\xff\xff\xff\xff\xff\xff\x02",
            WireFormatError::Varint,
        );
        check_error(
            b"\x18\x80\x80\x80\x80\x80\x80\x80\x80\x80\x80\x00",
            WireFormatError::Varint,
        );
        check_error(b"\x00\x01", WireFormatError::FieldNumber);
        check_error(
            b"\x80\x80\x80\x80\x80\x01\x01",
            WireFormatError::FieldNumber,
        );
        check_error(b"\x3e", WireFormatError::WireType(6));
        check_error(b"\x3f", WireFormatError::WireType(7));
        check_error(b"\x39\0\0\0\0\0\0\0", WireFormatError::Truncated);
        check_error(b"\x3d\0\0\0", WireFormatError::Truncated);
        check_error(b"\x3a\x02\x00", WireFormatError::Truncated);
        check_error(b"\x3c", WireFormatError::UnexpectedGroupEnd);
        check_error(b"\x3b\x44", WireFormatError::UnexpectedGroupEnd);
        check_error(b"\x3b", WireFormatError::Varint);
    }

    #[test]
    fn long_varints_and_large_field_numbers_are_accepted_as_by_prost() {
        for bytes in [
            &b"\x18\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01"[..],
            b"\x18\x81\x80\x80\x80\x00",
            b"\x98\x80\x00\x05",
            b"\x80\x80\x80\x80\x08\x05",
            b"\xf8\xff\xff\xff\x0f\x05",
        ] {
            assert_same_acceptance(bytes);
            Message::decode(bytes.to_vec().into()).unwrap();
        }
    }

    #[test]
    fn groups_are_limited_to_one_hundred() {
        let nested =
            |depth, inner: &[u8]| [vec![0x3b; depth], inner.to_vec(), vec![0x3c; depth]].concat();
        for (bytes, is_accepted) in [
            (nested(100, b""), true),
            (nested(99, b"\x08\x01"), true),
            (nested(100, b"\x08\x01"), false),
            (nested(101, b""), false),
        ] {
            assert_same_acceptance(&bytes);
            assert_eq!(Message::decode(bytes.into()).is_ok(), is_accepted);
        }
    }
}

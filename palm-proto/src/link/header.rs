//! The header that begins each ZeroMQ message of a link. The frames of its messages follow, see `framing`.

use bytes::Bytes;
use prost::Message as _;

use crate::message::proto::LinkHeader;

/// The value of the field `protocol`.
const PROTOCOL: u32 = u32::from_le_bytes(*b"PLK1");

/// The first bytes of each header: the encoded field `protocol`.
const PREFIX: &[u8] = b"\x0dPLK1";

/// The largest header, in bytes: a `hello`, and the numbers of 256 messages. Decoded, its list of functions can take
/// fifty times as much memory.
const MAX_HEADER_BYTES: usize = 2 * 1024 * 1024;

/// The length of a session's id, in bytes.
pub const SESSION_LEN: usize = 16;

/// Returns whether a frame begins like a header. No request does: it begins with an empty delimiter, or with a number
/// or routing id ahead of that.
#[inline]
pub fn is_header(frame: &[u8]) -> bool {
    frame.starts_with(PREFIX)
}

/// Decodes a header. Returns `None` if the frame is malformed, too long, or names no session.
pub fn decode(frame: Bytes) -> Option<LinkHeader> {
    if frame.len() > MAX_HEADER_BYTES {
        return None;
    }
    let header = LinkHeader::decode(frame).ok()?;
    let is_one = header.protocol == PROTOCOL && header.session.len() == SESSION_LEN;
    is_one.then_some(header)
}

/// Returns a header in which only the session is set.
pub fn new(session: Bytes) -> LinkHeader {
    LinkHeader {
        protocol: PROTOCOL,
        session,
        ..LinkHeader::default()
    }
}

/// Encodes a header.
pub fn encode(header: &LinkHeader) -> Bytes {
    let frame = Bytes::from(header.encode_to_vec());
    debug_assert!(is_header(&frame));
    frame
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn header_is_distinguished_from_requests() {
        let header = LinkHeader {
            first: 3,
            ..new(Bytes::from_static(&[7; SESSION_LEN]))
        };
        let frame = encode(&header);
        assert!(is_header(&frame));
        assert_eq!(decode(frame), Some(header));

        for request in [&b""[..], b"\x00\x6b\x8b\x45\x67", &0_u64.to_be_bytes()] {
            assert!(!is_header(request));
        }
    }

    #[test]
    fn malformed_or_oversized_header_is_rejected() {
        let session = |len: usize| new(vec![0; len].into());
        assert_eq!(decode(encode(&session(15))), None);
        assert_eq!(decode(Bytes::from_static(b"\x0dPLK1\xff")), None);
        assert_eq!(decode(Bytes::from_static(b"\x0dPLK2")), None);
        assert_eq!(decode(Bytes::new()), None);
        let mut long = encode(&session(SESSION_LEN)).to_vec();
        // The unknown field 100, of type bytes.
        long.extend(b"\xa2\x06\x80\x80\x80\x01");
        long.resize(long.len() + MAX_HEADER_BYTES, 0);
        assert_eq!(decode(long.into()), None);
    }

    #[test]
    fn unknown_fields_of_a_later_version_are_ignored() {
        let header = new(Bytes::from_static(&[7; SESSION_LEN]));
        // The unknown field 100, with the value 1.
        let frame = [&encode(&header)[..], b"\xa0\x06\x01"].concat();
        assert_eq!(decode(frame.into()), Some(header));
    }
}

//! A link's ZeroMQ messages: a header, and the messages that it brings, see [`pack`](super::pack).

use bytes::Bytes;
use prost::Message as _;

use crate::message::proto::LinkHeader;

/// What `protocol` has to be.
const PROTOCOL: u32 = u32::from_le_bytes(*b"PLK1");

/// How each header begins: the field `protocol`, which goes first.
const BEGINNING: &[u8] = b"\x0dPLK1";

/// How many bytes a header has at most: those of a `hello`, and numbers of 256 messages. Read, its functions can
/// take fifty times as many bytes.
const MAX_HEADER_BYTES: usize = 2 * 1024 * 1024;

/// The length of a session's id, in bytes.
pub(crate) const SESSION_LEN: usize = 16;

/// Whether a frame is a header, as far as its beginning tells: no request begins so, since the
/// delimiter of those is empty, and what stands in front of it is a number or a routing id.
pub(crate) fn is_header(frame: &[u8]) -> bool {
    frame.starts_with(BEGINNING)
}

/// Reads a header. `None`: it is none, is too long, or names no session.
pub(crate) fn decode(frame: Bytes) -> Option<LinkHeader> {
    if frame.len() > MAX_HEADER_BYTES {
        return None;
    }
    let header = LinkHeader::decode(frame).ok()?;
    let is_one = header.protocol == PROTOCOL && header.session.len() == SESSION_LEN;
    is_one.then_some(header)
}

/// A header that says nothing but which session it is of.
pub(crate) fn of(session: Bytes) -> LinkHeader {
    LinkHeader {
        protocol: PROTOCOL,
        session,
        ..LinkHeader::default()
    }
}

/// A header as a frame.
pub(crate) fn encode(header: &LinkHeader) -> Bytes {
    let frame = Bytes::from(header.encode_to_vec());
    debug_assert!(is_header(&frame));
    frame
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_are_told_from_requests() {
        let header = LinkHeader {
            first: 3,
            ..of(Bytes::from_static(&[7; SESSION_LEN]))
        };
        let frame = encode(&header);
        assert!(is_header(&frame));
        assert_eq!(decode(frame), Some(header));

        for request in [&b""[..], b"\x00\x6b\x8b\x45\x67", &0_u64.to_be_bytes()] {
            assert!(!is_header(request));
        }
    }

    #[test]
    fn what_is_no_header_is_none() {
        let session = |len: usize| of(vec![0; len].into());
        assert_eq!(decode(encode(&session(15))), None);
        assert_eq!(decode(Bytes::from_static(b"\x0dPLK1\xff")), None);
        assert_eq!(decode(Bytes::from_static(b"\x0dPLK2")), None);
        assert_eq!(decode(Bytes::new()), None);
        let mut long = encode(&session(SESSION_LEN)).to_vec();
        // Field 100, as bytes.
        long.extend(b"\xa2\x06\x80\x80\x80\x01");
        long.resize(long.len() + MAX_HEADER_BYTES, 0);
        assert_eq!(decode(long.into()), None);
    }

    #[test]
    fn fields_of_a_later_version_are_passed_over() {
        let header = of(Bytes::from_static(&[7; SESSION_LEN]));
        // Field 100, with the number 1.
        let frame = [&encode(&header)[..], b"\xa0\x06\x01"].concat();
        assert_eq!(decode(frame.into()), Some(header));
    }
}

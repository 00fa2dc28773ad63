//! The extension `share` of a message: which part of an input of a job it is, or stems from.
//!
//! All that is made of an input adds up to the whole, so that its client knows when nothing more comes:
//! Mattern's credit recovery ("Global quiescence detection based on credit distribution and recovery",
//! 1989), with numbers modulo 2^64 in the place of fractions, which never get too small to be split. A
//! part of several is found by hashing what is split, so that a call that is repeated gives the same
//! parts again, and a client can tell them; that some of them add up to the whole before all are there
//! has a chance of 1 in 2^64.

use prost::Message as _;

use super::proto::{Extensions, Share};
use super::wire_format::{read_key, read_varint, skip_value};

/// The field's number, and the key that it begins with.
const FIELD: u32 = 21;
const KEY: [u8; 2] = [0xaa, 0x01];

impl Extensions {
    /// What is told besides the fields of old. Usually that is a share which is not split, and found without
    /// looking for anything else.
    pub(super) fn read(unknown: &[u8]) -> Option<Self> {
        if let Some([len, share @ ..]) = unknown.strip_prefix(&KEY)
            && usize::from(*len) == share.len()
            && let Some(share) = Share::read_whole(share)
        {
            return Some(Self {
                share: Some(share),
                ..Self::default()
            });
        }
        Self::decode(unknown).ok()
    }
}

impl Share {
    /// What all parts of an input add up to.
    pub const WHOLE: u64 = 1;

    /// All of an input.
    pub fn of_input(input: u64) -> Self {
        Self {
            input,
            ..Self::default()
        }
    }

    /// One that says nothing but its input; `None` where it says more.
    fn read_whole(mut bytes: &[u8]) -> Option<Self> {
        if bytes.is_empty() {
            return Some(Self::default());
        }
        bytes = bytes.strip_prefix(&[0x08])?;
        let input = read_varint(&mut bytes).ok()?;
        bytes.is_empty().then(|| Self::of_input(input))
    }

    /// The extension field, written behind what is in `out`; tells how much is written in all.
    pub fn write(self, out: &mut [u8], at: usize) -> usize {
        let extensions = Extensions {
            share: Some(self),
            ..Extensions::default()
        };
        let len = extensions.encoded_len();
        let written = extensions.encode(&mut &mut out[at..]);
        written.expect("there is room for it");
        at + len
    }

    /// The part as a number.
    pub fn value(self) -> u64 {
        match self.part {
            0 => Self::WHOLE,
            part => part,
        }
    }

    /// One of the parts that it is split into.
    pub fn piece(self, index: u64) -> Self {
        // SplitMix64 (Steele, Lea and Flood 2014), of what is split and the place.
        let mut hash = self
            .value()
            .wrapping_add((index + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15));
        hash = (hash ^ (hash >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        hash = (hash ^ (hash >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        let part = (hash ^ (hash >> 31)).max(2);
        Self { part, ..self }
    }

    /// What is left once parts were given that add up to `given`.
    pub fn rest(self, given: u64) -> Self {
        let part = self.value().wrapping_sub(given);
        Self { part, ..self }
    }
}

/// A share that is split among what is made of a message.
#[derive(Debug, Clone, Copy)]
pub struct Split {
    of: Share,
    pieces: u64,
    given: u64,
}

impl Split {
    pub fn new(of: Share) -> Self {
        Self {
            of,
            pieces: 0,
            given: 0,
        }
    }

    /// The next part.
    pub fn piece(&mut self) -> Share {
        let piece = self.of.piece(self.pieces);
        self.pieces += 1;
        self.given = self.given.wrapping_add(piece.value());
        piece
    }

    /// What is left.
    pub fn rest(self) -> Share {
        self.of.rest(self.given)
    }
}

/// Fields that a plain message does not know, with another share.
pub(super) fn replace(unknown: &[u8], share: Option<Share>) -> Vec<u8> {
    let mut out = Vec::with_capacity(unknown.len() + 24);
    let mut rest = unknown;
    while !rest.is_empty() {
        let field = rest;
        let known = read_key(&mut rest).and_then(|(number, wire_type)| {
            skip_value(number, wire_type, &mut rest)?;
            Ok(number)
        });
        let Ok(number) = known else {
            // They were read once, so this cannot be.
            break;
        };
        if number != FIELD {
            out.extend_from_slice(&field[..field.len() - rest.len()]);
        }
    }
    if share.is_some() {
        let extensions = Extensions {
            share,
            ..Extensions::default()
        };
        out.extend(extensions.encode_to_vec());
    }
    out
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::message::Message;

    proptest! {
        #[test]
        fn parts_add_up(pieces in prop::collection::vec(0_u64..4, 0..20)) {
            // Each piece is split again into so many.
            let mut split = Split::new(Share::of_input(7));
            let mut sum = 0_u64;
            for further in pieces {
                let mut again = Split::new(split.piece());
                for _ in 0..further {
                    sum = sum.wrapping_add(again.piece().value());
                }
                prop_assert_ne!(sum, Share::WHOLE);
                sum = sum.wrapping_add(again.rest().value());
            }
            sum = sum.wrapping_add(split.rest().value());
            prop_assert_eq!(sum, Share::WHOLE);
        }
    }

    proptest! {
        #[test]
        fn a_share_is_read_as_any_other_field(
            input in prop_oneof![0_u64..300, any::<u64>()],
            part in prop_oneof![Just(0), any::<u64>()],
            incomplete: bool,
            deadline in prop_oneof![Just(0), any::<u64>()],
        ) {
            let share = Share { input, part, incomplete };
            let extensions = Extensions { share: Some(share), deadline, ..Extensions::default() };
            let bytes = extensions.encode_to_vec();
            prop_assert_eq!(Extensions::read(&bytes), Some(extensions));
            for end in 0..bytes.len() {
                let expected = Extensions::decode(&bytes[..end]).ok();
                prop_assert_eq!(Extensions::read(&bytes[..end]), expected);
            }
        }
    }

    #[test]
    fn pieces_are_those_of_splitmix64_on_every_version_of_palm() {
        // A call that is repeated by a worker of another version has to give the same parts. The first outputs
        // of the published generator for the seed 1.
        let whole = Share::of_input(7);
        let pieces = [0, 1].map(|index| whole.piece(index).value());
        assert_eq!(pieces, [0x910a_2dec_8902_5cc1, 0xbeeb_8da1_658e_ec67]);
        let mut split = Split::new(whole);
        assert_eq!([split.piece(), split.piece()].map(Share::value), pieces);
    }

    #[test]
    fn share_is_written_behind_what_is_there() {
        for share in [Share::of_input(0), Share::of_input(300).piece(5)] {
            let mut out = [b'x'; 64];
            let end = share.write(&mut out, 3);
            assert_eq!(&out[..3], b"xxx");
            assert!(out[end..].iter().all(|&byte| byte == b'x'));
            let read = Extensions::read(&out[3..end]).and_then(|read| read.share);
            assert_eq!(read, Some(share));
        }
    }

    #[test]
    fn a_repeated_call_gives_the_same_parts() {
        let share = Share::of_input(1).piece(3);
        assert_eq!(share.piece(5), share.piece(5));
        assert_ne!(share.piece(5), share.piece(6));
        assert_ne!(share.piece(0), Share::of_input(1).piece(0));
    }

    #[test]
    fn a_share_is_replaced_and_the_rest_stays() {
        let mut message = Message::new("a.b", "x");
        message.set_share(Some(Share::of_input(300)));
        message.end(2);
        message.set_share(Some(Share::of_input(300).piece(0)));
        let mut message = Message::decode(message.encode()).unwrap();
        assert_eq!(message.share(), Some(Share::of_input(300).piece(0)));
        assert!(message.is_done());
        message.doubt_share();
        assert!(message.share().unwrap().incomplete);
        message.set_share(None);
        assert_eq!((message.share(), message.is_done()), (None, true));
    }
}

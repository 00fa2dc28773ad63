//! The extension `share` of a message: its completion weight within an input of a job.
//!
//! The weights of all messages that stem from an input add up to the whole weight, which shows the client that the input
//! is complete. This is Mattern's credit recovery ("Global quiescence detection based on credit distribution and
//! recovery", 1989), with numbers modulo 2^64 instead of fractions, because these become too small to be split. Weights
//! are split by hashing, so that a repeated call yields the same weights and a client recognizes duplicates. The
//! probability that some weights add up to the whole before all have arrived is 1 in 2^64.

use prost::Message as _;

use super::proto::{Extensions, Share};
use super::wire_format::{copy_fields_without, read_varint};

/// The number of the field, and its encoded key.
const FIELD: u32 = 21;
const KEY: [u8; 2] = [0xaa, 0x01];

impl Extensions {
    /// Decodes extension fields. A whole completion weight as the only field, the usual case, has a fast path.
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
    /// The sum of the weights of an input.
    pub const WHOLE: u64 = 1;

    /// Returns the whole weight of an input.
    pub fn from_input(input: u64) -> Self {
        Self {
            input,
            ..Self::default()
        }
    }

    /// Decodes a whole weight, which has no field but the input. Returns `None` for others.
    fn read_whole(mut bytes: &[u8]) -> Option<Self> {
        if bytes.is_empty() {
            return Some(Self::default());
        }
        bytes = bytes.strip_prefix(&[0x08])?;
        let input = read_varint(&mut bytes).ok()?;
        bytes.is_empty().then(|| Self::from_input(input))
    }

    /// Writes the extension field to `out` from `at` on, and returns the position after it.
    pub fn write(self, out: &mut [u8], at: usize) -> usize {
        let extensions = Extensions {
            share: Some(self),
            ..Extensions::default()
        };
        let len = extensions.encoded_len();
        let written = extensions.encode(&mut &mut out[at..]);
        written.expect("the buffer has capacity for the field");
        at + len
    }

    /// Returns the weight as a number.
    pub fn value(self) -> u64 {
        match self.part {
            0 => Self::WHOLE,
            part => part,
        }
    }

    /// Returns one of the weights that this one is split into.
    pub fn piece(self, index: u64) -> Self {
        // SplitMix64 (Steele, Lea and Flood 2014) of the split weight and the index.
        let mut hash = self
            .value()
            .wrapping_add((index + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15));
        hash = (hash ^ (hash >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        hash = (hash ^ (hash >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        let part = (hash ^ (hash >> 31)).max(2);
        Self { part, ..self }
    }

    /// Returns the weight that is left after others with the sum `issued`.
    pub fn rest(self, issued: u64) -> Self {
        let part = self.value().wrapping_sub(issued);
        Self { part, ..self }
    }
}

/// Splits a completion weight among the messages that are made of one.
#[derive(Debug, Clone, Copy)]
pub struct Split {
    of: Share,
    pieces: u64,
    issued: u64,
}

impl Split {
    pub fn new(of: Share) -> Self {
        Self {
            of,
            pieces: 0,
            issued: 0,
        }
    }

    /// Returns the next weight.
    pub fn piece(&mut self) -> Share {
        let piece = self.of.piece(self.pieces);
        self.pieces += 1;
        self.issued = self.issued.wrapping_add(piece.value());
        piece
    }

    /// Returns the remaining weight.
    pub fn rest(self) -> Share {
        self.of.rest(self.issued)
    }
}

/// Replaces the completion weight among extension fields.
pub(super) fn replace(unknown: &[u8], share: Option<Share>) -> Vec<u8> {
    let mut out = Vec::with_capacity(unknown.len() + 24);
    copy_fields_without(FIELD, unknown, &mut out);
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
        fn weights_add_up_to_the_whole(pieces in prop::collection::vec(0_u64..4, 0..20)) {
            // Splits each weight again, into this number of pieces and the rest.
            let mut split = Split::new(Share::from_input(7));
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
        fn fast_path_decodes_weights_as_prost_does(
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
    fn weights_are_those_of_splitmix64_in_every_version() {
        // A call that a worker of another version repeats has to yield the same weights: the first outputs of the
        // published generator for the seed 1.
        let whole = Share::from_input(7);
        let pieces = [0, 1].map(|index| whole.piece(index).value());
        assert_eq!(pieces, [0x910a_2dec_8902_5cc1, 0xbeeb_8da1_658e_ec67]);
        let mut split = Split::new(whole);
        assert_eq!([split.piece(), split.piece()].map(Share::value), pieces);
    }

    #[test]
    fn weight_is_written_at_its_position() {
        for share in [Share::from_input(0), Share::from_input(300).piece(5)] {
            let mut out = [b'x'; 64];
            let end = share.write(&mut out, 3);
            assert_eq!(&out[..3], b"xxx");
            assert!(out[end..].iter().all(|&byte| byte == b'x'));
            let read = Extensions::read(&out[3..end]).and_then(|read| read.share);
            assert_eq!(read, Some(share));
        }
    }

    #[test]
    fn repeated_call_yields_the_same_weights() {
        let share = Share::from_input(1).piece(3);
        assert_eq!(share.piece(5), share.piece(5));
        assert_ne!(share.piece(5), share.piece(6));
        assert_ne!(share.piece(0), Share::from_input(1).piece(0));
    }

    #[test]
    fn weight_is_replaced_and_other_fields_are_kept() {
        let mut message = Message::new("a.b", "x");
        message.set_share(Some(Share::from_input(300)));
        message.end(2);
        message.set_share(Some(Share::from_input(300).piece(0)));
        let mut message = Message::decode(message.encode()).unwrap();
        assert_eq!(message.share(), Some(Share::from_input(300).piece(0)));
        assert!(message.is_done());
        message.mark_share_incomplete();
        assert!(message.share().unwrap().incomplete);
        message.set_share(None);
        assert_eq!((message.share(), message.is_done()), (None, true));
    }
}

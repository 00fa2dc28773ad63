//! Framing of the messages that follow a header: consecutive small messages share a frame.
//!
//! Sharing costs one copy, and saves the cost of a frame in each socket and system call, which is several times as
//! high. [`pack`] and [`unpack`] are inverse; the section on links in `proto/README.md` specifies the encoding.

use bytes::Bytes;
use smallvec::SmallVec;

use crate::message::{Batch, BatchSizes, MAX_BATCH_BYTES, MAX_SMALL_BYTES};

/// Maximum number of messages that follow one header.
const MAX_MESSAGES: usize = 4096;

/// The messages and batches that follow one header.
pub(super) type UnpackedBatches = SmallVec<[Batch; 4]>;

/// Messages as frames, with the fields of the header that describe them.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct PackedFrames {
    /// The size of each message; empty if each message has a frame of its own.
    pub(super) sizes: Vec<u64>,
    /// The number of messages in each batch; empty if no batch has several.
    pub(super) batch_lengths: Vec<u64>,
    pub(super) frames: Vec<Bytes>,
}

/// Packs messages into frames. Large messages are not copied.
pub(super) fn pack<'a>(batches: impl ExactSizeIterator<Item = &'a Batch> + Clone) -> PackedFrames {
    let is_small = |batch: &Batch| batch.bytes() <= MAX_SMALL_BYTES;
    let mut frames = Vec::new();
    let mut rest = batches.clone();
    while let Some(first) = rest.next() {
        let mut bytes = first.bytes();
        let mut run = 1;
        if is_small(first) {
            let others = rest.clone().take_while(|batch| {
                bytes += batch.bytes();
                is_small(batch) && bytes <= MAX_BATCH_BYTES
            });
            run += others.count();
        }
        if run == 1 {
            frames.push(first.frame().clone());
            continue;
        }
        let mut shared = Vec::with_capacity(bytes.min(MAX_BATCH_BYTES));
        shared.extend_from_slice(first.frame());
        for batch in rest.by_ref().take(run - 1) {
            shared.extend_from_slice(batch.frame());
        }
        frames.push(shared.into());
    }
    let mut packed = PackedFrames {
        frames,
        ..PackedFrames::default()
    };
    let messages: usize = batches.clone().map(Batch::len).sum();
    if packed.frames.len() < messages {
        let sizes = batches.clone().flat_map(Batch::sizes);
        packed.sizes = sizes.map(|size| size as u64).collect();
    }
    if batches.len() < messages {
        packed.batch_lengths = batches.map(|batch| batch.len() as u64).collect();
    }
    packed
}

/// Unpacks the messages of frames. Returns `None` if the frames do not have these sizes, hold too many messages, or
/// split a batch.
pub(super) fn unpack(
    sizes: &[u64],
    lengths: &[u64],
    mut frames: impl Iterator<Item = Bytes>,
) -> Option<UnpackedBatches> {
    if sizes.is_empty() {
        let is_plain = lengths.is_empty();
        return is_plain.then(|| frames.map(Batch::from).collect());
    }
    if sizes.len() > MAX_MESSAGES || lengths.len() > MAX_MESSAGES {
        return None;
    }
    let mut messages = UnpackedBatches::with_capacity(if lengths.is_empty() {
        sizes.len()
    } else {
        lengths.len()
    });
    let mut frame = Bytes::new();
    let mut take = |bytes: usize| {
        while frame.is_empty() && bytes > 0 {
            frame = frames.next()?;
        }
        (bytes <= frame.len()).then(|| frame.split_to(bytes))
    };
    if lengths.is_empty() {
        for &size in sizes {
            messages.push(take(usize::try_from(size).ok()?)?.into());
        }
    } else {
        let sizes = sizes.iter().map(|&size| u32::try_from(size));
        let mut sizes = BatchSizes::new(sizes.collect::<Result<_, _>>().ok()?);
        for &len in lengths {
            let sizes = sizes.split_to(usize::try_from(len).ok()?)?;
            messages.push(Batch::from_sizes(take(sizes.bytes())?, sizes)?);
        }
        if !sizes.is_empty() {
            return None;
        }
    }
    let is_all = frame.is_empty() && frames.all(|frame| frame.is_empty());
    is_all.then_some(messages)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn frames_with_sizes(sizes: &[usize]) -> Vec<Bytes> {
        let messages = sizes.iter().enumerate();
        messages
            .map(|(number, &size)| vec![number as u8; size].into())
            .collect()
    }

    fn singles(sizes: &[usize]) -> Vec<Batch> {
        frames_with_sizes(sizes)
            .into_iter()
            .map(Batch::from)
            .collect()
    }

    fn batch(sizes: &[u32]) -> Batch {
        let sizes = BatchSizes::new(sizes.into());
        Batch::from_sizes(vec![1; sizes.bytes()].into(), sizes).unwrap()
    }

    fn check_unpacked(packed: PackedFrames, batches: &[Batch]) {
        let PackedFrames {
            sizes,
            batch_lengths: lengths,
            frames,
        } = packed;
        let unpacked = unpack(&sizes, &lengths, frames.into_iter());
        assert_eq!(unpacked.as_deref(), Some(batches));
    }

    /// Checks the lengths of the frames into which messages of these sizes are packed.
    fn check_frames(sizes: &[usize], expected: &[usize]) {
        let messages = singles(sizes);
        let packed = pack(messages.iter());
        assert_eq!(packed.sizes.is_empty(), sizes == expected);
        assert!(packed.batch_lengths.is_empty());
        let lengths: Vec<_> = packed.frames.iter().map(Bytes::len).collect();
        assert_eq!(lengths, expected);
        check_unpacked(packed, &messages);
    }

    #[test]
    fn consecutive_small_messages_share_a_frame() {
        check_frames(&[], &[]);
        check_frames(&[10], &[10]);
        check_frames(&[10, 20], &[30]);
        check_frames(
            &[10, MAX_SMALL_BYTES, 5000, 30, 40],
            &[10 + MAX_SMALL_BYTES, 5000, 70],
        );
        check_frames(&[5000, 10, 5000], &[5000, 10, 5000]);
        let most = MAX_BATCH_BYTES / MAX_SMALL_BYTES;
        check_frames(
            &vec![MAX_SMALL_BYTES; most + 1],
            &[MAX_BATCH_BYTES, MAX_SMALL_BYTES],
        );
        check_frames(&[0, 0, 5000, 0], &[0, 5000, 0]);
    }

    #[test]
    fn large_messages_are_not_copied() {
        let messages = singles(&[1, 2, MAX_SMALL_BYTES + 1]);
        let packed = pack(messages.iter());
        assert_eq!(packed.frames[1].as_ptr(), messages[2].frame().as_ptr());
        let batch = batch(&[MAX_SMALL_BYTES as u32; 2]);
        let packed = pack([&batch].into_iter());
        assert_eq!(packed.frames[0].as_ptr(), batch.frame().as_ptr());
        assert_eq!((packed.sizes.len(), packed.batch_lengths), (2, vec![2]));
    }

    #[test]
    fn frames_that_do_not_match_their_sizes_are_rejected() {
        let check_batches = |sizes: &[u64], lengths: &[u64], frames: &[usize], expected: bool| {
            let unpacked = unpack(sizes, lengths, frames_with_sizes(frames).into_iter());
            assert_eq!(unpacked.is_some(), expected, "{sizes:?} in {frames:?}");
        };
        let check = |sizes: &[u64], frames: &[usize], expected: bool| {
            check_batches(sizes, &[], frames, expected);
        };
        check(&[3, 4], &[7], true);
        check(&[3, 4], &[3, 4], true);
        check(&[3, 4], &[3, 0, 4, 0], true);
        check(&[3, 4], &[], false);
        check(&[3, 4], &[8], false);
        check(&[3, 4], &[6], false);
        check(&[3, 4], &[7, 1], false);
        check(&[3, 4], &[4, 3], false);
        check(&[u64::MAX], &[7], false);
        check(&[0; MAX_MESSAGES], &[], true);
        check(&[0; MAX_MESSAGES + 1], &[], false);
        check_batches(&[3, 4, 5], &[2, 1], &[7, 5], true);
        check_batches(&[3, 4, 5], &[2, 1], &[12], true);
        check_batches(&[3, 4, 5], &[2, 1], &[3, 9], false);
        check_batches(&[3, 4, 5], &[2], &[12], false);
        check_batches(&[3, 4, 5], &[2, 2], &[12], false);
        check_batches(&[3, 4, 5], &[0, 3], &[12], false);
        check_batches(&[3, 4, 5], &[u64::MAX], &[12], false);
        check_batches(&[], &[1], &[12], false);
        check_batches(
            &[1; MAX_MESSAGES],
            &[1; MAX_MESSAGES],
            &[MAX_MESSAGES],
            true,
        );
        check_batches(
            &[1; MAX_MESSAGES],
            &[1; MAX_MESSAGES + 1],
            &[MAX_MESSAGES],
            false,
        );
        check_batches(&[u64::MAX, 1], &[2], &[0], false);
    }

    proptest! {
        #[test]
        fn packed_messages_are_unpacked_unchanged(
            sizes in prop::collection::vec(prop::collection::vec(0_u32..3000, 1..9), 0..30),
        ) {
            let batches: Vec<_> = sizes.iter().map(|sizes| batch(sizes)).collect();
            check_unpacked(pack(batches.iter()), &batches);
        }
    }
}

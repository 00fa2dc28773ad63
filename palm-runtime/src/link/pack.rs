//! The messages behind a header: small ones share a frame, which costs a copy and saves all that a frame
//! costs on its way, several times as much.

use bytes::Bytes;
use smallvec::SmallVec;

/// A longer message has a frame of its own and is not copied.
const SMALL: usize = 1024;

/// How long a frame with several messages gets: what is kept of it keeps all of it.
const SHARED: usize = 16 * 1024;

/// How many messages a peer may put into the frames behind one header.
const MOST: usize = 4096;

/// The messages of one header.
pub(super) type Messages = SmallVec<[Bytes; 4]>;

/// The frames for these messages, of which small ones that follow each other have common ones, and the size
/// of each message; no sizes where each still has a frame of its own.
pub(super) fn pack<'a>(
    messages: impl ExactSizeIterator<Item = &'a Bytes> + Clone,
) -> (Vec<u64>, Vec<Bytes>) {
    let is_small = |message: &Bytes| message.len() <= SMALL;
    let mut frames = Vec::new();
    let mut rest = messages.clone();
    while let Some(first) = rest.next() {
        let mut bytes = first.len();
        let mut run = 1;
        if is_small(first) {
            let others = rest.clone().take_while(|message| {
                bytes += message.len();
                is_small(message) && bytes <= SHARED
            });
            run += others.count();
        }
        if run == 1 {
            frames.push(first.clone());
            continue;
        }
        let mut shared = Vec::with_capacity(bytes.min(SHARED));
        shared.extend_from_slice(first);
        for message in rest.by_ref().take(run - 1) {
            shared.extend_from_slice(message);
        }
        frames.push(shared.into());
    }
    if frames.len() == messages.len() {
        return (Vec::new(), frames);
    }
    let sizes = messages.map(|message| message.len() as u64).collect();
    (sizes, frames)
}

/// Takes the messages out of the frames again. `None`: they have not these sizes, or are too many.
pub(super) fn unpack(sizes: &[u64], mut frames: impl Iterator<Item = Bytes>) -> Option<Messages> {
    if sizes.is_empty() {
        return Some(frames.collect());
    }
    if sizes.len() > MOST {
        return None;
    }
    let mut messages = Messages::with_capacity(sizes.len());
    let mut frame = Bytes::new();
    for &size in sizes {
        let size = usize::try_from(size).ok()?;
        while frame.is_empty() && size > 0 {
            frame = frames.next()?;
        }
        if size > frame.len() {
            return None;
        }
        messages.push(frame.split_to(size));
    }
    let is_all = frame.is_empty() && frames.all(|frame| frame.is_empty());
    is_all.then_some(messages)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn of(sizes: &[usize]) -> Vec<Bytes> {
        let messages = sizes.iter().enumerate();
        messages
            .map(|(number, &size)| vec![number as u8; size].into())
            .collect()
    }

    /// How long the frames are that messages of these sizes are in.
    fn check_frames(sizes: &[usize], expected: &[usize]) {
        let messages = of(sizes);
        let (told, frames) = pack(messages.iter());
        assert_eq!(told.is_empty(), sizes == expected);
        let lengths: Vec<_> = frames.iter().map(Bytes::len).collect();
        assert_eq!(lengths, expected);
        let unpacked = unpack(&told, frames.into_iter());
        assert_eq!(unpacked.as_deref(), Some(&messages[..]));
    }

    #[test]
    fn small_ones_that_follow_each_other_share_a_frame() {
        check_frames(&[], &[]);
        check_frames(&[10], &[10]);
        check_frames(&[10, 20], &[30]);
        check_frames(&[10, SMALL, 5000, 30, 40], &[10 + SMALL, 5000, 70]);
        check_frames(&[5000, 10, 5000], &[5000, 10, 5000]);
        check_frames(&[SMALL; 17], &[SHARED, SMALL]);
        check_frames(&[0, 0, 5000, 0], &[0, 5000, 0]);
    }

    #[test]
    fn large_ones_are_not_copied() {
        let messages = of(&[1, 2, SMALL + 1]);
        let (_, frames) = pack(messages.iter());
        assert_eq!(frames[1].as_ptr(), messages[2].as_ptr());
    }

    #[test]
    fn frames_of_other_sizes_are_none() {
        let check = |sizes: &[u64], frames: &[usize], expected: bool| {
            let unpacked = unpack(sizes, of(frames).into_iter());
            assert_eq!(unpacked.is_some(), expected, "{sizes:?} in {frames:?}");
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
        check(&[0; MOST], &[], true);
        check(&[0; MOST + 1], &[], false);
    }

    proptest! {
        #[test]
        fn what_was_packed_is_unpacked(sizes in prop::collection::vec(0_usize..3000, 0..100)) {
            let messages = of(&sizes);
            let (sizes, frames) = pack(messages.iter());
            prop_assert_eq!(unpack(&sizes, frames.into_iter()).unwrap().into_vec(), messages);
        }
    }
}

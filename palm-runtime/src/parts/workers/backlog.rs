//! [`TaskBacklog`]: tasks that are not assigned to a worker yet.

use std::collections::VecDeque;

use bytes::Bytes;

use crate::fair_queue::Flow;
use crate::message::{Batch, Message};
use crate::metrics::PartCounters;

/// Tasks that are not assigned to a worker yet, each with the flow of its client.
pub(super) type TaskBacklog = VecDeque<(Flow, Batch)>;

/// Takes the next task; counts malformed frames as errors.
pub(super) fn next_task(tasks: &mut TaskBacklog, counters: &PartCounters) -> Option<(Flow, Bytes)> {
    next(tasks, |frame| {
        let is_message = Message::read(frame.clone()).is_some();
        if !is_message {
            counters.count_error();
        }
        is_message
    })
}

/// Takes the next task, also from a batch, and drops malformed frames. Only the first frame of a batch was decoded
/// before.
fn next(tasks: &mut TaskBacklog, is_message: impl Fn(&Bytes) -> bool) -> Option<(Flow, Bytes)> {
    loop {
        let (flow, mut rest) = tasks.pop_front()?;
        if rest.len() == 1 {
            return Some((flow, rest.first()));
        }
        let first = rest.split_to(1).first();
        if rest.len() > 1 || is_message(&rest.first()) {
            tasks.push_front((flow, rest));
        }
        if is_message(&first) {
            return Some((flow, first));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::BatchSizes;

    #[test]
    fn next_task_skips_malformed_frames_of_a_batch() {
        let batch = |frame: &'static [u8]| {
            let sizes = BatchSizes::new(vec![1; frame.len()].into());
            Batch::from_sizes(Bytes::from_static(frame), sizes).unwrap()
        };
        for frame in [
            &b"abc"[..],
            b"xabc",
            b"axbxc",
            b"abcx",
            b"xaxbxcx",
            b"xxabxxc",
        ] {
            let flow = Flow::new(0);
            let mut tasks = VecDeque::from([(flow, batch(frame)), (flow, batch(b"d"))]);
            let tasks = std::iter::from_fn(|| next(&mut tasks, |frame| frame != "x"));
            let tasks: Vec<_> = tasks.map(|(_, task)| task).collect();
            assert_eq!(tasks.concat(), b"abcd");
        }
    }
}

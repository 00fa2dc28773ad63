//! [`CompletionTracker`] decides which inputs of a call or job are complete.
//!
//! Each message carries a completion weight. A component that produces several results splits the weight of its input
//! among them, so the weights of all results of an input add up to [`Share::WHOLE`] (Mattern's credit recovery). A
//! result whose weight was counted before is a duplicate, as after a redelivery.

use std::collections::HashSet;

use bytes::Bytes;

use crate::id_map::IdMap;
use crate::message::Share;

/// Inputs that are incomplete, and counts of the others.
#[derive(Debug, Default)]
pub(super) struct CompletionTracker {
    incomplete: IdMap<IncompleteInput>,
    pub(super) done: u64,
    pub(super) failed: u64,
    /// Finished inputs that were abandoned. Included in `done` and `failed`.
    abandoned: u64,
    /// Answers without duplicates.
    pub(super) answers: u64,
    /// Whether a component on the way did not pass completion weights on.
    pub(super) is_unreliable: bool,
}

/// An input whose results have not all arrived.
#[derive(Debug)]
pub(super) struct IncompleteInput {
    /// The message, if it is sent again when it is lost.
    pub(super) frame: Option<Bytes>,
    /// The sum of the weights so far.
    sum: u64,
    /// The weights so far, if the first one did not complete the input.
    seen: Option<HashSet<u64>>,
    failed: bool,
}

impl IncompleteInput {
    pub(super) fn new(frame: Option<Bytes>) -> Self {
        Self {
            frame,
            sum: 0,
            seen: None,
            failed: false,
        }
    }

    /// Records the weight of a result.
    pub(super) fn record(&mut self, weight: u64) -> Counted {
        let sum = self.sum.wrapping_add(weight);
        let completes = sum == Share::WHOLE;
        let is_new = if completes {
            let seen = self.seen.as_ref();
            seen.is_none_or(|seen| !seen.contains(&weight))
        } else {
            self.seen.get_or_insert_default().insert(weight)
        };
        if !is_new {
            return Counted::Duplicate;
        }
        self.sum = sum;
        Counted::First { completes }
    }
}

/// A kind of result of an input.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ResultKind {
    Answer,
    Error,
    /// Not an answer: the weight that the answers do not carry, or the whole weight if there were none.
    Remainder,
}

/// Whether a result counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Counted {
    /// The result has not arrived before.
    First {
        /// Whether the input is complete now.
        completes: bool,
    },
    /// The result has arrived before, or its input is complete or unknown.
    Duplicate,
}

impl CompletionTracker {
    /// Adds an input that is sent. `frame`: the message, if it is sent again when it is lost.
    pub(super) fn start(&mut self, number: u64, frame: Option<Bytes>) {
        self.incomplete.insert(number, IncompleteInput::new(frame));
    }

    /// Records a result of an input.
    pub(super) fn record(&mut self, share: Share, kind: ResultKind) -> Counted {
        self.is_unreliable |= share.incomplete;
        let Some(input) = self.incomplete.get_mut(&share.input) else {
            return Counted::Duplicate;
        };
        let Counted::First { completes } = input.record(share.value()) else {
            return Counted::Duplicate;
        };
        input.failed |= kind == ResultKind::Error;
        self.answers += u64::from(kind != ResultKind::Remainder);
        if completes {
            self.done += 1;
            self.failed += u64::from(input.failed);
            self.incomplete.remove(&share.input);
        }
        Counted::First { completes }
    }

    /// Counts the incomplete inputs as failed. Returns their numbers in order.
    pub(super) fn give_up(&mut self) -> Vec<u64> {
        let mut lost: Vec<_> = self.incomplete.drain().map(|(number, _)| number).collect();
        lost.sort_unstable();
        self.done += lost.len() as u64;
        self.failed += lost.len() as u64;
        self.abandoned += lost.len() as u64;
        lost
    }

    /// Returns how many inputs were completed by their results.
    pub(super) fn completed(&self) -> u64 {
        self.done - self.abandoned
    }

    /// Returns how many inputs are incomplete.
    pub(super) fn under_way(&self) -> u64 {
        self.incomplete.len() as u64
    }

    /// Returns the messages of incomplete inputs that are sent again when they are lost, in order.
    pub(super) fn frames(&self) -> Vec<Bytes> {
        let mut incomplete: Vec<_> = self.incomplete.iter().collect();
        incomplete.sort_unstable_by_key(|(number, _)| **number);
        let frames = incomplete
            .into_iter()
            .filter_map(|(_, input)| input.frame.clone());
        frames.collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn inputs(count: u64) -> CompletionTracker {
        let mut inputs = CompletionTracker::default();
        for input in 0..count {
            inputs.start(input, Some(input.to_string().into()));
        }
        inputs
    }

    const COMPLETES: Counted = Counted::First { completes: true };
    const COUNTS: Counted = Counted::First { completes: false };

    #[test]
    fn input_is_complete_when_its_weights_add_up() {
        let mut inputs = inputs(2);
        let whole = Share::from_input(1);
        let pieces = [whole.piece(0), whole.piece(1)];
        let rest = whole.rest(pieces[0].value().wrapping_add(pieces[1].value()));
        assert_eq!(inputs.under_way(), 2);
        assert_eq!(inputs.record(pieces[1], ResultKind::Answer), COUNTS);
        assert_eq!(inputs.record(rest, ResultKind::Remainder), COUNTS);
        assert_eq!(
            inputs.record(pieces[1], ResultKind::Answer),
            Counted::Duplicate
        );
        assert_eq!(
            inputs.record(Share::from_input(0), ResultKind::Error),
            COMPLETES
        );
        assert_eq!(inputs.frames(), ["1"]);
        assert_eq!(inputs.record(pieces[0], ResultKind::Answer), COMPLETES);
        for late in [pieces[0], rest, whole] {
            assert_eq!(inputs.record(late, ResultKind::Answer), Counted::Duplicate);
        }
        assert_eq!((inputs.done, inputs.failed, inputs.answers), (2, 1, 3));
        assert_eq!(inputs.under_way(), 0);
    }

    #[test]
    fn abandoned_inputs_count_as_failed_and_ignore_late_results() {
        let mut inputs = inputs(3);
        assert_eq!(
            inputs.record(Share::from_input(1), ResultKind::Answer),
            COMPLETES
        );
        assert_eq!(inputs.give_up(), [0, 2]);
        assert_eq!((inputs.done, inputs.failed, inputs.under_way()), (3, 2, 0));
        assert_eq!(inputs.completed(), 1);
        assert_eq!(
            inputs.record(Share::from_input(0), ResultKind::Answer),
            Counted::Duplicate
        );
        assert_eq!((inputs.answers, inputs.completed()), (1, 1));
        assert!(inputs.frames().is_empty() && inputs.give_up().is_empty());
    }

    #[test]
    fn abandoned_inputs_do_not_count_as_completed() {
        let mut inputs = inputs(5);
        for input in 0..3 {
            inputs.record(Share::from_input(input), ResultKind::Answer);
        }
        assert_eq!(inputs.give_up(), [3, 4]);
        assert_eq!((inputs.done, inputs.completed()), (5, 3));
    }

    #[test]
    fn result_without_its_weight_makes_the_count_unreliable() {
        let mut inputs = inputs(3);
        inputs.record(Share::from_input(0), ResultKind::Answer);
        assert!(!inputs.is_unreliable);
        let incomplete = Share {
            incomplete: true,
            ..Share::from_input(1)
        };
        inputs.record(incomplete, ResultKind::Answer);
        inputs.record(Share::from_input(2), ResultKind::Answer);
        assert!(inputs.is_unreliable);
    }

    #[test]
    fn duplicate_result_counts_once() {
        let mut inputs = inputs(1);
        let whole = Share::from_input(0);
        let first = whole.piece(0);
        assert_eq!(inputs.record(first, ResultKind::Answer), COUNTS);
        assert_eq!(inputs.record(first, ResultKind::Answer), Counted::Duplicate);
        assert_eq!(
            inputs.record(whole.rest(first.value()), ResultKind::Remainder),
            COMPLETES
        );
    }
}

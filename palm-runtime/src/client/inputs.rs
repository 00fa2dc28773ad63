//! Which inputs of a job are complete: those whose parts add up to the whole.

use std::collections::HashSet;

use bytes::Bytes;

use crate::by_number::ByNumber;
use crate::message::Share;

/// Inputs that are under way, and what has become of the others.
#[derive(Debug, Default)]
pub(super) struct Inputs {
    open: ByNumber<Open>,
    pub(super) done: u64,
    pub(super) failed: u64,
    /// Of these, the ones that no answer has completed.
    lost: u64,
    /// Answers that count.
    pub(super) answers: u64,
    /// Whether a peer was on the way that does not keep parts together.
    pub(super) incomplete: bool,
}

/// An input that is not complete.
#[derive(Debug)]
struct Open {
    /// The message, where it is to be sent again if it is lost.
    frame: Option<Bytes>,
    sum: u64,
    /// Where there are several.
    seen: Option<HashSet<u64>>,
    failed: bool,
}

/// What came of an input.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Part {
    Answer,
    Error,
    /// No answer: what is left when others were given, or none.
    Rest,
}

/// Whether it counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Counted {
    /// It is the first time that it comes.
    New {
        /// Whether the input is complete now.
        completes: bool,
    },
    /// It has come before, or its input is complete.
    Again,
}

impl Inputs {
    /// One more is sent; `frame` is sent again if it is lost.
    pub(super) fn begin(&mut self, input: u64, frame: Option<Bytes>) {
        let open = Open {
            frame,
            sum: 0,
            seen: None,
            failed: false,
        };
        self.open.insert(input, open);
    }

    /// Something has come.
    pub(super) fn take(&mut self, share: Share, part: Part) -> Counted {
        self.incomplete |= share.incomplete;
        let Some(open) = self.open.get_mut(&share.input) else {
            return Counted::Again;
        };
        let value = share.value();
        let sum = open.sum.wrapping_add(value);
        let completes = sum == Share::WHOLE;
        let is_new = if completes {
            open.seen.as_ref().is_none_or(|seen| !seen.contains(&value))
        } else {
            open.seen.get_or_insert_default().insert(value)
        };
        if !is_new {
            return Counted::Again;
        }
        open.sum = sum;
        open.failed |= part == Part::Error;
        self.answers += u64::from(part != Part::Rest);
        if completes {
            self.done += 1;
            self.failed += u64::from(open.failed);
            self.open.remove(&share.input);
        }
        Counted::New { completes }
    }

    /// Gives up the inputs that are not complete, and counts them as failed; returns their numbers.
    pub(super) fn lose(&mut self) -> Vec<u64> {
        let mut lost: Vec<_> = self.open.drain().map(|(input, _)| input).collect();
        lost.sort_unstable();
        self.done += lost.len() as u64;
        self.failed += lost.len() as u64;
        self.lost += lost.len() as u64;
        lost
    }

    /// How many were completed by their answers.
    pub(super) fn completed(&self) -> u64 {
        self.done - self.lost
    }

    /// How many are not complete.
    pub(super) fn under_way(&self) -> u64 {
        self.open.len() as u64
    }

    /// The messages that are sent again, of those that are not complete, in their order.
    pub(super) fn frames(&self) -> Vec<Bytes> {
        let mut open: Vec<_> = self.open.iter().collect();
        open.sort_unstable_by_key(|(input, _)| **input);
        let frames = open.into_iter().filter_map(|(_, open)| open.frame.clone());
        frames.collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn inputs(count: u64) -> Inputs {
        let mut inputs = Inputs::default();
        for input in 0..count {
            inputs.begin(input, Some(input.to_string().into()));
        }
        inputs
    }

    const COMPLETES: Counted = Counted::New { completes: true };
    const COUNTS: Counted = Counted::New { completes: false };

    #[test]
    fn an_input_is_complete_when_its_parts_add_up() {
        let mut inputs = inputs(2);
        let whole = Share::of_input(1);
        let pieces = [whole.piece(0), whole.piece(1)];
        let rest = whole.rest(pieces[0].value().wrapping_add(pieces[1].value()));
        assert_eq!(inputs.under_way(), 2);
        assert_eq!(inputs.take(pieces[1], Part::Answer), COUNTS);
        assert_eq!(inputs.take(rest, Part::Rest), COUNTS);
        assert_eq!(inputs.take(pieces[1], Part::Answer), Counted::Again);
        assert_eq!(inputs.take(Share::of_input(0), Part::Error), COMPLETES);
        assert_eq!(inputs.frames(), ["1"]);
        assert_eq!(inputs.take(pieces[0], Part::Answer), COMPLETES);
        for late in [pieces[0], rest, whole] {
            assert_eq!(inputs.take(late, Part::Answer), Counted::Again);
        }
        assert_eq!((inputs.done, inputs.failed, inputs.answers), (2, 1, 3));
        assert_eq!(inputs.under_way(), 0);
    }

    #[test]
    fn lost_inputs_count_as_failed_and_are_not_completed_later() {
        let mut inputs = inputs(3);
        assert_eq!(inputs.take(Share::of_input(1), Part::Answer), COMPLETES);
        assert_eq!(inputs.lose(), [0, 2]);
        assert_eq!((inputs.done, inputs.failed, inputs.under_way()), (3, 2, 0));
        assert_eq!(inputs.completed(), 1);
        assert_eq!(
            inputs.take(Share::of_input(0), Part::Answer),
            Counted::Again
        );
        assert_eq!((inputs.answers, inputs.completed()), (1, 1));
        assert!(inputs.frames().is_empty() && inputs.lose().is_empty());
    }

    #[test]
    fn inputs_that_were_lost_are_not_counted_as_completed() {
        let mut inputs = inputs(5);
        for input in 0..3 {
            inputs.take(Share::of_input(input), Part::Answer);
        }
        assert_eq!(inputs.lose(), [3, 4]);
        assert_eq!((inputs.done, inputs.completed()), (5, 3));
    }

    #[test]
    fn one_incomplete_share_makes_the_whole_count_unreliable() {
        let mut inputs = inputs(3);
        inputs.take(Share::of_input(0), Part::Answer);
        assert!(!inputs.incomplete);
        let incomplete = Share {
            incomplete: true,
            ..Share::of_input(1)
        };
        inputs.take(incomplete, Part::Answer);
        inputs.take(Share::of_input(2), Part::Answer);
        assert!(inputs.incomplete);
    }

    #[test]
    fn what_comes_twice_counts_once() {
        let mut inputs = inputs(1);
        let whole = Share::of_input(0);
        let first = whole.piece(0);
        assert_eq!(inputs.take(first, Part::Answer), COUNTS);
        assert_eq!(inputs.take(first, Part::Answer), Counted::Again);
        assert_eq!(
            inputs.take(whole.rest(first.value()), Part::Rest),
            COMPLETES
        );
    }
}

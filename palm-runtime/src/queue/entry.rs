//! The values of one flow that were sent at once, and how a receiver takes them.

use std::collections::VecDeque;

use super::Queued;
use crate::fair_queue::Usage;

/// The values of one flow that were sent at once.
#[derive(Debug)]
pub(super) struct QueueEntry<T> {
    /// The first value, so that a value that was sent alone needs no allocation.
    first: Option<T>,
    rest: VecDeque<T>,
}

impl<T> QueueEntry<T> {
    pub(super) fn one(value: T) -> Self {
        Self {
            first: Some(value),
            rest: VecDeque::new(),
        }
    }

    pub(super) fn many(rest: VecDeque<T>) -> Self {
        Self { first: None, rest }
    }

    fn front_mut(&mut self) -> Option<&mut T> {
        self.first.as_mut().or_else(|| self.rest.front_mut())
    }

    fn pop_front(&mut self) -> Option<T> {
        self.first.take().or_else(|| self.rest.pop_front())
    }

    fn drain(&mut self) -> impl Iterator<Item = T> {
        self.first.take().into_iter().chain(self.rest.drain(..))
    }
}

/// The unit in which a receiver counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum TakeUnit {
    /// Values with several messages are split.
    Messages,
    Values,
}

impl<T: Queued> QueueEntry<T> {
    /// Removes up to `most` messages of a batch with the usage `whole`; returns the count in `unit`s, and their usage.
    pub(super) fn take(
        &mut self,
        out: &mut Vec<T>,
        most: usize,
        whole: Usage,
        unit: TakeUnit,
    ) -> (usize, Usage) {
        if whole.messages <= most {
            let before = out.len();
            out.extend(self.drain());
            let count = match unit {
                TakeUnit::Messages => whole.messages,
                TakeUnit::Values => out.len() - before,
            };
            return (count, whole);
        }
        let (mut count, mut taken) = (0, Usage::default());
        while count < most
            && let Some(value) = self.front_mut()
        {
            let usage = value.usage();
            if unit == TakeUnit::Messages && count + usage.messages > most {
                if let Some(part) = value.split_to(most - count) {
                    taken.add(part.usage());
                    count = most;
                    out.push(part);
                    break;
                }
                if count > 0 {
                    break;
                }
            }
            taken.add(usage);
            count += match unit {
                TakeUnit::Messages => usage.messages,
                TakeUnit::Values => 1,
            };
            out.extend(self.pop_front());
        }
        (count, taken)
    }
}

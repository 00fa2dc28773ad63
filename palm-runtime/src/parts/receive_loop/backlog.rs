//! [`ReceiveBacklog`]: the messages of a receive loop that cannot be sent yet, queued per client and served in turn.

use std::collections::HashSet;
use std::collections::hash_map::Entry;

use super::source::{ConsumedMessages, Origin};
use crate::fair_queue::{FairQueue, FlowKey, Usage};
use crate::id_map::IdMap;
use crate::part::{Envelope, Outlet};
use crate::queue::{Queued, Releases};

/// The backlog of messages from sockets above which sockets are not read.
pub(super) const MAX_SOCKET_BACKLOG: Usage = Usage {
    messages: 1024,
    bytes: 16 * 1024 * 1024,
};

/// Maximum number of messages of a client that are sent in one turn while other clients wait.
const MAX_TURN_MESSAGES: usize = 16;

/// Messages for one route from one origin.
#[derive(Debug)]
pub(super) struct BacklogItem {
    pub(super) envelope: Envelope,
    pub(super) origin: Origin,
}

/// Messages that cannot be sent yet, by client.
#[derive(Default)]
pub(super) struct ReceiveBacklog {
    pub(super) waiting: FairQueue<Option<BacklogItem>>,
    /// The part of the backlog that came from sockets.
    pub(super) by_sockets: Usage,
    /// Messages that were handled when there was no capacity. They are sent before others of their flows.
    pub(super) unsent: Vec<Envelope>,
    /// Flows without capacity in the next queue.
    pub(super) full: HashSet<FlowKey>,
    /// Clients that do not read their answers.
    pub(super) unread: HashSet<FlowKey>,
    /// Release counter of the next queue when the first of these flows was added.
    pub(super) releases: Option<Releases>,
    /// The capacities that [`pop`](Self::pop) has read; kept to reuse the allocation.
    pub(super) capacities: IdMap<usize>,
    /// Messages for which credit is to be returned.
    pub(super) consumed: Vec<ConsumedMessages>,
}

impl BacklogItem {
    pub(super) fn usage(&self) -> Usage {
        self.envelope.usage()
    }

    /// Splits off the first `most` messages; `None` if there are no more than that.
    pub(super) fn split_to(&mut self, most: usize) -> Option<Self> {
        let envelope = self.envelope.split_to(most)?;
        let origin = self.origin;
        Some(Self { envelope, origin })
    }
}

impl ReceiveBacklog {
    /// Returns how many messages may be received from a socket: at most `left` in total, and `most` at once.
    pub(super) fn socket_capacity(&self, left: usize, most: usize) -> usize {
        if self.by_sockets.bytes >= MAX_SOCKET_BACKLOG.bytes {
            return 0;
        }
        let most_waiting = left.min(MAX_SOCKET_BACKLOG.messages.min(4 * most));
        most_waiting
            .saturating_sub(self.by_sockets.messages)
            .min(most)
    }

    /// Returns the messages that no link counts as unread: those from sockets, and those for which credit was returned.
    pub(super) fn held(&self) -> Usage {
        let mut held = self.by_sockets;
        for envelope in &self.unsent {
            held.add(envelope.usage());
        }
        held
    }

    pub(super) fn is_empty(&self) -> bool {
        self.waiting.busy_flows() == 0 && self.full.is_empty() && self.unread.is_empty()
    }

    pub(super) fn push(&mut self, waiting: BacklogItem) {
        let (flow, usage) = (waiting.envelope.flow, waiting.usage());
        if waiting.origin == Origin::Socket {
            self.by_sockets.add(usage);
        }
        self.waiting.push(flow, Some(waiting), usage);
    }

    pub(super) fn fill(&mut self, flow: FlowKey, releases: Option<Releases>) {
        // The oldest state is kept, so that a release since then is noticed.
        if self.full.is_empty() {
            self.releases = releases;
        }
        self.full.insert(flow);
        self.waiting.set_paused(flow, true);
    }

    pub(super) fn set_unread(&mut self, flow: FlowKey, is_unread: bool) {
        match is_unread {
            true => self.unread.insert(flow),
            false => self.unread.remove(&flow),
        };
        let is_paused = is_unread || self.full.contains(&flow);
        self.waiting.set_paused(flow, is_paused);
    }

    /// Resumes the flows that have capacity again after the next queue has released messages.
    pub(super) fn released(&mut self, outlet: &Outlet) {
        let mut releases = outlet.try_send_all(&mut self.unsent);
        let unsent: HashSet<_> = self.unsent.iter().map(|it| it.flow.key).collect();
        let mut full = std::mem::take(&mut self.full);
        full.retain(|flow| {
            let (capacity, since) = outlet.capacity(*flow);
            releases = releases.or(since);
            let is_full = unsent.contains(flow) || capacity == 0;
            if !is_full && !self.unread.contains(flow) {
                self.waiting.set_paused(*flow, false);
            }
            is_full
        });
        self.full = full;
        self.releases = releases;
    }

    /// Moves up to `max` messages whose turn it is, and for which there is capacity, to `out`.
    pub(super) fn pop(
        &mut self,
        outlet: &Outlet,
        max: usize,
        least_capacity: usize,
        out: &mut Vec<BacklogItem>,
    ) {
        let mut capacities = std::mem::take(&mut self.capacities);
        capacities.clear();
        let mut left = max;
        while left > 0
            && let Some(flow) = self.waiting.next_flow()
        {
            let capacity = match capacities.entry(flow) {
                Entry::Occupied(capacity) => capacity.into_mut(),
                Entry::Vacant(entry) => {
                    let (capacity, releases) = outlet.capacity(flow);
                    if capacity < least_capacity {
                        self.fill(flow, releases);
                        continue;
                    }
                    entry.insert(capacity)
                }
            };
            if *capacity == 0 {
                let (_, releases) = outlet.capacity(flow);
                self.fill(flow, releases);
                continue;
            }
            let mut most = left.min(*capacity);
            if self.waiting.busy_flows() > 1 {
                most = most.min(MAX_TURN_MESSAGES);
            }
            let taken = self.waiting.pop_part(|waiting, usage| {
                let part = match waiting {
                    Some(it) if usage.messages > most => it.split_to(most),
                    _ => None,
                };
                match part.or_else(|| waiting.take()) {
                    Some(part) => {
                        let usage = part.usage();
                        (Some(part), usage)
                    }
                    None => (None, usage),
                }
            });
            let Some((_, Some(part))) = taken else {
                break;
            };
            let usage = part.usage();
            if part.origin == Origin::Socket {
                self.by_sockets.subtract(usage);
            }
            *capacity = capacity.saturating_sub(usage.messages);
            left = left.saturating_sub(usage.messages);
            out.push(part);
        }
        self.capacities = capacities;
    }

    /// Adds messages for which credit is to be returned.
    pub(super) fn add_consumed(&mut self, origin: Origin, messages: usize, bytes: usize) {
        if origin == Origin::Socket {
            return;
        }
        let (messages, bytes) = (messages as u64, bytes as u64);
        match self.consumed.last_mut() {
            Some(last) if last.origin == origin => {
                last.messages += messages;
                last.bytes += bytes;
            }
            _ => self.consumed.push(ConsumedMessages {
                origin,
                messages,
                bytes,
            }),
        }
    }
}

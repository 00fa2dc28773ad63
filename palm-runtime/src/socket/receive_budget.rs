//! The memory for messages that the sockets of a component are receiving.
//!
//! A connection receives small messages without asking. It reserves memory for a larger one before it reads the rest of
//! it, and is not read while there is none. What a connection may reserve is a dynamic threshold, as in
//! [`palm_proto::budget`], so that a connection alone leaves memory to others. Memory that is released goes to the
//! connections that wait and whose messages fit: first to those that have delivered a message before, and among these to
//! the one that has waited longest.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use palm_proto::budget::capacity_left;
use palm_proto::id_map::IdMap;
use parking_lot::Mutex;
use tokio::sync::oneshot;

use crate::clock;

/// The memory that the sockets of a component share. Clones share it.
#[derive(Debug, Clone, Default)]
pub(crate) struct ReceiveBudget(Arc<Mutex<BudgetState>>);

/// All values are equal, because they do not affect how a socket behaves.
impl PartialEq for ReceiveBudget {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl Eq for ReceiveBudget {}

#[derive(Debug, Default)]
struct BudgetState {
    used: usize,
    /// Reserved bytes by connection.
    holders: IdMap<usize>,
    /// In the order in which memory is granted.
    waiting: VecDeque<WaitingRequest>,
    /// When memory was last reserved or released.
    changed: Option<Instant>,
}

#[derive(Debug)]
struct WaitingRequest {
    request: Request,
    granted: oneshot::Sender<Reservation>,
}

/// A request of a connection.
#[derive(Debug, Clone, Copy)]
pub(super) struct Request {
    /// The number of the connection, which no other socket of the process uses.
    pub(super) connection: u64,
    pub(super) bytes: usize,
    /// Memory that the same message has already.
    pub(super) held: usize,
    /// Whether the connection has delivered a message before.
    pub(super) is_known: bool,
    /// The limit in total.
    pub(super) limit: usize,
}

impl ReceiveBudget {
    /// Reserves memory, or returns a receiver of the reservation, which is granted later.
    pub(super) fn reserve(
        &self,
        request: Request,
    ) -> Result<Reservation, oneshot::Receiver<Reservation>> {
        let mut state = self.0.lock();
        if state.take(request, clock::now()) {
            return Ok(self.reservation(request));
        }
        let (granted, receiver) = oneshot::channel();
        let known = state.waiting.partition_point(|it| it.request.is_known);
        let place = if request.is_known {
            known
        } else {
            state.waiting.len()
        };
        state
            .waiting
            .insert(place, WaitingRequest { request, granted });
        Err(receiver)
    }

    /// Returns whether a connection waits for memory.
    pub(super) fn is_short(&self) -> bool {
        let mut state = self.0.lock();
        state.waiting.retain(|waiting| !waiting.granted.is_closed());
        !state.waiting.is_empty()
    }

    /// Returns whether no memory was reserved or released for a time.
    pub(super) fn is_stuck(&self, time: Duration) -> bool {
        let changed = self.0.lock().changed;
        changed.is_some_and(|changed| clock::since(changed) >= time)
    }

    fn reservation(&self, request: Request) -> Reservation {
        Reservation {
            budget: self.clone(),
            connection: request.connection,
            bytes: request.bytes,
        }
    }

    fn release(&self, connection: u64, bytes: usize) {
        let mut granted = Vec::new();
        let mut state = self.0.lock();
        state.release(connection, bytes);
        let now = clock::now();
        state.changed = Some(now);
        if !state.waiting.is_empty() {
            let mut waiting = std::mem::take(&mut state.waiting);
            waiting.retain(|it| !it.granted.is_closed());
            for it in waiting {
                if state.take(it.request, now) {
                    granted.push((it.granted, self.reservation(it.request)));
                } else {
                    state.waiting.push_back(it);
                }
            }
        }
        drop(state);
        // A reservation whose connection has ended is dropped here, without the lock.
        for (sender, reservation) in granted {
            let _ = sender.send(reservation);
        }
    }

    #[cfg(test)]
    fn used(&self) -> usize {
        self.0.lock().used
    }
}

impl BudgetState {
    /// Reserves memory if the connection may have it. A message may have any amount while no other has any.
    fn take(&mut self, request: Request, now: Instant) -> bool {
        let own = self
            .holders
            .get(&request.connection)
            .copied()
            .unwrap_or_default();
        let is_alone = request.held == self.used;
        if !is_alone && request.bytes > capacity_left(request.limit, self.used, own) {
            return false;
        }
        self.used += request.bytes;
        *self.holders.entry(request.connection).or_default() += request.bytes;
        self.changed = Some(now);
        true
    }

    fn release(&mut self, connection: u64, bytes: usize) {
        self.used -= bytes;
        if let Some(own) = self.holders.get_mut(&connection) {
            *own -= bytes;
            if *own == 0 {
                self.holders.remove(&connection);
            }
        }
    }
}

/// Memory of one connection, which is released when this is dropped.
#[derive(Debug)]
pub(super) struct Reservation {
    budget: ReceiveBudget,
    connection: u64,
    bytes: usize,
}

impl Reservation {
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Adds the memory of another reservation of the same connection.
    pub(super) fn add(&mut self, mut other: Self) {
        self.bytes += std::mem::take(&mut other.bytes);
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        if self.bytes > 0 {
            self.budget.release(self.connection, self.bytes);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(connection: u64, bytes: usize) -> Request {
        Request {
            connection,
            bytes,
            held: 0,
            is_known: connection >= 100,
            limit: 1000,
        }
    }

    #[test]
    fn one_connection_leaves_memory_to_others() {
        let budget = ReceiveBudget::default();
        let first = budget.reserve(request(1, 600)).unwrap();
        let mut more = budget.reserve(request(1, 201)).unwrap_err();
        assert!(more.try_recv().is_err());
        let second = budget.reserve(request(2, 300)).unwrap();
        assert!(budget.is_short());
        drop(second);
        assert!(
            more.try_recv().is_err(),
            "201 bytes more are more than 80 %"
        );
        drop(first);
        assert_eq!(more.try_recv().unwrap().bytes(), 201);
        assert!(!budget.is_short());
        assert_eq!(budget.used(), 0);
    }

    #[test]
    fn message_larger_than_the_limit_is_received_alone() {
        let budget = ReceiveBudget::default();
        let mut first = budget.reserve(request(1, 5000)).unwrap();
        let more = Request {
            held: 5000,
            ..request(1, 10)
        };
        first.add(budget.reserve(more).unwrap());
        assert!(budget.reserve(request(1, 1)).is_err(), "another message");
        let mut second = budget.reserve(request(2, 1)).unwrap_err();
        drop(first);
        assert!(second.try_recv().is_ok());
        assert_eq!(budget.used(), 0);
    }

    #[test]
    fn connections_that_have_waited_longest_are_next() {
        let budget = ReceiveBudget::default();
        let first = budget.reserve(request(1, 800)).unwrap();
        let mut large = budget.reserve(request(2, 700)).unwrap_err();
        let left = budget.reserve(request(3, 500)).unwrap_err();
        let mut small = budget.reserve(request(4, 200)).unwrap_err();
        drop(left);
        drop(first);
        let large = large.try_recv().unwrap();
        let small = small.try_recv().unwrap();
        assert_eq!(budget.used(), 900);
        drop((large, small));
        assert_eq!(budget.used(), 0);
    }

    #[test]
    fn connections_that_have_delivered_messages_are_first() {
        let budget = ReceiveBudget::default();
        let first = budget.reserve(request(1, 800)).unwrap();
        let mut unknown = budget.reserve(request(2, 500)).unwrap_err();
        let mut known = budget.reserve(request(100, 500)).unwrap_err();
        drop(first);
        let reservation = known.try_recv().unwrap();
        assert!(unknown.try_recv().is_err());
        drop(reservation);
        assert!(unknown.try_recv().is_ok());
    }
}

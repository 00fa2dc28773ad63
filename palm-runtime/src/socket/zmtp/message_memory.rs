//! The memory for the message that a connection is receiving, and whether the peer uses it.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use tokio::sync::oneshot;

use crate::clock;
use crate::socket::SocketOptions;
use crate::socket::receive_budget::{Request, Reservation};

/// Steps of the memory of a message of many frames.
const RESERVATION_STEP: usize = 64 * 1024;

/// Bytes of a message that a peer has to send within `receive_timeout` while others wait for memory.
const MIN_PROGRESS: usize = 64 * 1024;

/// Shortest time between two checks of the progress of a peer.
const MIN_INTERVAL: Duration = Duration::from_millis(100);

/// Memory beyond the allowance that every connection has.
pub(super) struct MessageMemory {
    held: Option<Reservation>,
    missing: Option<oneshot::Receiver<Reservation>>,
    /// Bytes that were received since `since`, fewer than [`MIN_PROGRESS`].
    progress: usize,
    since: Instant,
}

impl MessageMemory {
    pub(super) fn new() -> Self {
        Self {
            held: None,
            missing: None,
            progress: 0,
            since: clock::now(),
        }
    }

    pub(super) fn bytes(&self) -> usize {
        self.held.as_ref().map_or(0, Reservation::bytes)
    }

    /// Returns whether the connection waits for memory, and is not to be read.
    pub(super) fn is_waiting(&self) -> bool {
        self.missing.is_some()
    }

    /// Returns whether there is memory for `needed` bytes. It is granted later otherwise.
    pub(super) fn request(
        &mut self,
        connection: u64,
        needed: usize,
        is_known: bool,
        options: &SocketOptions,
    ) -> bool {
        if self.missing.is_some() {
            return false;
        }
        if self.held.is_none() {
            self.begin_progress();
        }
        let held = self.bytes();
        let reserved = options.receive_budget.reserve(Request {
            connection,
            bytes: (needed - held).max(RESERVATION_STEP),
            held,
            is_known,
            limit: options.max_receive_bytes,
        });
        match reserved {
            Ok(reservation) => {
                self.add(reservation);
                true
            }
            Err(receiver) => {
                self.missing = Some(receiver);
                false
            }
        }
    }

    fn add(&mut self, reservation: Reservation) {
        match &mut self.held {
            Some(held) => held.add(reservation),
            None => self.held = Some(reservation),
        }
    }

    /// Waits for the requested memory. Pending if none was requested.
    pub(super) fn poll_granted(&mut self, context: &mut Context<'_>) -> Poll<()> {
        let Some(missing) = &mut self.missing else {
            return Poll::Pending;
        };
        Pin::new(missing).poll(context).map(|granted| {
            self.missing = None;
            if let Ok(reservation) = granted {
                self.add(reservation);
            }
        })
    }

    /// Takes the memory, for the message that uses it.
    pub(super) fn take(&mut self) -> Option<Reservation> {
        self.held.take()
    }

    pub(super) fn add_progress(&mut self, bytes: usize) {
        self.progress += bytes;
        if self.progress >= MIN_PROGRESS {
            self.begin_progress();
        }
    }

    fn begin_progress(&mut self) {
        self.progress = 0;
        self.since = clock::now();
    }

    /// Returns the time until [`is_stalled`](Self::is_stalled) is to be called, if the connection has or needs memory.
    pub(super) fn next_check(&self, options: &SocketOptions) -> Option<Duration> {
        let timeout = options.receive_timeout;
        let left = timeout.saturating_sub(clock::since(self.since));
        let interval = (timeout / 4).max(MIN_INTERVAL);
        (self.held.is_some() || self.missing.is_some()).then_some(left.max(interval))
    }

    /// Returns whether the connection keeps memory from others without using it.
    pub(super) fn is_stalled(&self, options: &SocketOptions) -> bool {
        let budget = &options.receive_budget;
        clock::since(self.since) >= options.receive_timeout
            && match (&self.held, &self.missing) {
                (Some(_), None) => budget.is_short(),
                (Some(_), Some(_)) => budget.is_stuck(options.receive_timeout),
                (None, _) => false,
            }
    }
}

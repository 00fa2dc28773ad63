//! What a line is ordered to do, and what it has counted.

use std::io;
use std::ops::RangeInclusive;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::messages::Messages;

/// What a line has seen since it was made, and how it is now.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct LineStatus {
    /// Connections that were opened, up to the target.
    pub connections: u64,
    /// Those of them that are open.
    pub open: u64,
    /// What has passed from peers to the target.
    pub to_target: Passed,
    /// What has passed from the target to peers.
    pub to_peers: Passed,
    /// How often all connections were ended.
    pub cuts: u64,
    /// Whether nothing passes.
    pub is_held: bool,
    /// Whether nobody gets through.
    pub is_refused: bool,
}

impl LineStatus {
    /// Messages that have passed, in both directions.
    pub fn messages(&self) -> u64 {
        self.to_target.messages + self.to_peers.messages
    }
}

/// What has passed in one direction: the system has taken it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct Passed {
    /// ZeroMQ messages, whole ones.
    pub messages: u64,
    /// Bytes of all kinds.
    pub bytes: u64,
}

/// Whose bytes they are.
#[derive(Debug, Clone, Copy)]
pub(super) enum Direction {
    ToTarget,
    ToPeers,
}

/// What happens at a certain message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum AtMessage {
    Cut,
    Hold,
}

/// What all connections of a line have in common.
#[derive(Debug)]
pub(super) struct State {
    pub(super) orders: watch::Sender<Orders>,
    pub(super) status: watch::Sender<LineStatus>,
    /// Whoever takes a message past it does so under this lock, so that none is taken behind the one
    /// that a fault waits for.
    armed: Mutex<Option<Armed>>,
    generation: Mutex<Generation>,
}

/// The connections between one cut and the next.
#[derive(Debug, Clone, Default)]
pub(super) struct Generation {
    pub(super) cut: CancellationToken,
    pub(super) connections: TaskTracker,
}

#[derive(Debug, Clone)]
pub(super) struct Orders {
    /// As `host:port`.
    pub(super) target: Arc<str>,
    pub(super) delay: RangeInclusive<Duration>,
    pub(super) is_held: bool,
    pub(super) is_refused: bool,
    /// The message that a fault waits for is on its way, and everything else behind it.
    is_stopped: bool,
}

impl Orders {
    pub(super) fn lets_pass(&self) -> bool {
        !self.is_held && !self.is_stopped
    }
}

/// A fault that waits for a message.
#[derive(Debug)]
struct Armed {
    missing: u64,
    fault: AtMessage,
}

impl State {
    pub(super) fn new(target: Arc<str>) -> Self {
        let orders = Orders {
            target,
            delay: Duration::ZERO..=Duration::ZERO,
            is_held: false,
            is_refused: false,
            is_stopped: false,
        };
        Self {
            orders: watch::Sender::new(orders),
            status: watch::Sender::default(),
            armed: Mutex::default(),
            generation: Mutex::default(),
        }
    }

    fn armed(&self) -> MutexGuard<'_, Option<Armed>> {
        self.armed.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn order(&self, order: impl FnOnce(&mut Orders)) {
        self.orders.send_modify(order);
        self.status.send_modify(|status| {
            // Read under the lock of the status, so that the last one to write has read the last orders.
            let orders = self.orders.borrow();
            status.is_held = orders.is_held;
            status.is_refused = orders.is_refused;
        });
    }

    fn generation_lock(&self) -> MutexGuard<'_, Generation> {
        self.generation
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// The connections that the next cut ends.
    pub(super) fn generation(&self) -> Generation {
        self.generation_lock().clone()
    }

    /// Ends all connections. Whoever wants to know when they have ended may wait for what is returned.
    pub(super) fn cut(&self) -> TaskTracker {
        let ended = std::mem::take(&mut *self.generation_lock());
        ended.cut.cancel();
        ended.connections.close();
        self.status.send_modify(|status| status.cuts += 1);
        ended.connections
    }

    /// Lets `fault` happen after so many messages, in the place of whatever waits already.
    pub(super) fn arm(&self, missing: u64, fault: AtMessage) {
        if missing == 0 {
            self.disarm();
            self.happen(fault);
            return;
        }
        *self.armed() = Some(Armed { missing, fault });
    }

    pub(super) fn disarm(&self) {
        *self.armed() = None;
    }

    /// Lets everything pass that is held.
    pub(super) fn release(&self) {
        self.order(|orders| {
            orders.is_held = false;
            orders.is_stopped = false;
        });
    }

    /// Takes as many of `bytes` as may pass. `None` while nothing may; an error when the connection,
    /// which `cut` ends, was cut.
    pub(super) fn admit(
        self: &Arc<Self>,
        cut: &CancellationToken,
        messages: &mut Messages,
        bytes: &[u8],
    ) -> io::Result<Option<Admitted>> {
        let mut armed = self.armed();
        if !self.orders.borrow().lets_pass() {
            return Ok(None);
        }
        // After a look at the orders: a fault that cuts does so before it lets pass again.
        if cut.is_cancelled() {
            return Err(io::ErrorKind::ConnectionAborted.into());
        }
        let limit = armed.as_ref().map_or(u64::MAX, |armed| armed.missing);
        let (bytes, messages) = messages.take(bytes, limit);
        let mut fault = None;
        if let Some(waiting) = &mut *armed {
            waiting.missing -= messages;
            if waiting.missing == 0 {
                // It happens as soon as the message has passed. Until then, nothing else does.
                self.orders.send_modify(|orders| orders.is_stopped = true);
                fault = armed.take().map(|reached| Reached {
                    state: self.clone(),
                    fault: reached.fault,
                });
            }
        }
        Ok(Some(Admitted {
            bytes,
            messages,
            _fault: fault,
        }))
    }

    pub(super) fn count(&self, direction: Direction, admitted: &Admitted) {
        self.status.send_modify(|status| {
            let passed = match direction {
                Direction::ToTarget => &mut status.to_target,
                Direction::ToPeers => &mut status.to_peers,
            };
            passed.messages += admitted.messages;
            passed.bytes += admitted.bytes as u64;
        });
    }

    fn happen(&self, fault: AtMessage) {
        if fault == AtMessage::Cut {
            self.cut();
        }
        self.order(|orders| {
            orders.is_held |= fault == AtMessage::Hold;
            orders.is_stopped = false;
        });
    }
}

/// Bytes that may pass.
#[derive(Debug)]
pub(super) struct Admitted {
    pub(super) bytes: usize,
    messages: u64,
    /// What happens behind them, when this is dropped.
    _fault: Option<Reached>,
}

/// A fault whose message is on its way. It happens when this is dropped, also where the connection
/// ends before the message has passed.
#[derive(Debug)]
struct Reached {
    state: Arc<State>,
    fault: AtMessage,
}

impl Drop for Reached {
    fn drop(&mut self) {
        let is_stopped = self.state.orders.borrow().is_stopped;
        // Otherwise the line was released meanwhile.
        if is_stopped {
            self.state.happen(self.fault);
        }
    }
}

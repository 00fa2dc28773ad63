//! The settings, faults and counters of a fault proxy, shared by all of its connections.
//!
//! [`ProxySettings`] contains whether bytes may pass, and their delay. A [`Trigger`] waits for a message:
//! [`ProxyState::admit`] is called before bytes are written, and returns at most the bytes up to the end of that
//! message; the fault is injected when the returned [`AdmittedBytes`] are dropped, after they were written.
//! Invariant: no byte is admitted between these two moments, so a fault happens exactly at its message.

use std::io;
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::message_counter::MessageCounter;

/// The traffic of a fault proxy since it was made, and the faults that are active.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct FaultProxyStatus {
    /// Connections that were opened, including their connection to the target.
    pub connections: u64,
    /// Connections that are open now.
    pub open: u64,
    /// Traffic from peers to the target.
    pub to_target: ProxyTraffic,
    /// Traffic from the target to peers.
    pub to_peers: ProxyTraffic,
    /// Number of times that a fault closed all connections.
    pub cuts: u64,
    /// Whether traffic is held.
    pub is_held: bool,
    /// Whether connections are refused.
    pub is_refused: bool,
}

impl FaultProxyStatus {
    /// Returns the number of messages that have passed in both directions.
    pub fn messages(&self) -> u64 {
        self.to_target.messages + self.to_peers.messages
    }
}

/// The traffic of one direction that was written to a socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct ProxyTraffic {
    /// Complete ZeroMQ messages.
    pub messages: u64,
    /// All bytes, those of other protocols included.
    pub bytes: u64,
}

/// The direction in which bytes travel.
#[derive(Debug, Clone, Copy)]
pub(super) enum Direction {
    ToTarget,
    ToPeers,
}

/// A fault that happens after a certain message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum TriggeredFault {
    Cut,
    Hold,
}

/// The state that all connections of a fault proxy share.
#[derive(Debug)]
pub(super) struct ProxyState {
    pub(super) settings: watch::Sender<ProxySettings>,
    pub(super) status: watch::Sender<FaultProxyStatus>,
    /// Messages are admitted under this lock, so that none is admitted after the one that triggers a fault.
    armed: Mutex<Option<Trigger>>,
    generation: Mutex<ConnectionGeneration>,
}

/// The connections between one cut and the next.
#[derive(Debug, Clone, Default)]
pub(super) struct ConnectionGeneration {
    pub(super) cut: CancellationToken,
    pub(super) connections: TaskTracker,
}

#[derive(Debug, Clone)]
pub(super) struct ProxySettings {
    /// `host:port`.
    pub(super) target: Arc<str>,
    pub(super) delay: RangeInclusive<Duration>,
    pub(super) is_held: bool,
    pub(super) is_refused: bool,
    /// Whether the message that triggers a fault is being written. No other byte may pass meanwhile.
    is_triggering: bool,
}

impl ProxySettings {
    pub(super) fn is_passing(&self) -> bool {
        !self.is_held && !self.is_triggering
    }
}

/// A fault and the number of messages until it happens.
#[derive(Debug)]
struct Trigger {
    missing: u64,
    fault: TriggeredFault,
}

impl ProxyState {
    pub(super) fn new(target: Arc<str>) -> Self {
        let settings = ProxySettings {
            target,
            delay: Duration::ZERO..=Duration::ZERO,
            is_held: false,
            is_refused: false,
            is_triggering: false,
        };
        Self {
            settings: watch::Sender::new(settings),
            status: watch::Sender::default(),
            armed: Mutex::default(),
            generation: Mutex::default(),
        }
    }

    pub(super) fn configure(&self, order: impl FnOnce(&mut ProxySettings)) {
        self.settings.send_modify(order);
        self.status.send_modify(|status| {
            // Read under the lock of the status, so that the last writer has read the last settings.
            let settings = self.settings.borrow();
            status.is_held = settings.is_held;
            status.is_refused = settings.is_refused;
        });
    }

    /// Returns the connections that the next cut closes.
    pub(super) fn generation(&self) -> ConnectionGeneration {
        self.generation.lock().clone()
    }

    /// Closes all connections. The returned tracker waits until they are closed.
    pub(super) fn cut(&self) -> TaskTracker {
        let ended = std::mem::take(&mut *self.generation.lock());
        ended.cut.cancel();
        ended.connections.close();
        self.status.send_modify(|status| status.cuts += 1);
        ended.connections
    }

    /// Sets the trigger: `fault` happens after `missing` messages. Replaces an earlier trigger.
    pub(super) fn arm(&self, missing: u64, fault: TriggeredFault) {
        if missing == 0 {
            self.disarm();
            self.inject(fault);
            return;
        }
        *self.armed.lock() = Some(Trigger { missing, fault });
    }

    pub(super) fn disarm(&self) {
        *self.armed.lock() = None;
    }

    /// Resumes held traffic.
    pub(super) fn release(&self) {
        self.configure(|settings| {
            settings.is_held = false;
            settings.is_triggering = false;
        });
    }

    /// Returns how many of `bytes` may pass now, or `None` if traffic is held.
    ///
    /// # Errors
    ///
    /// `ConnectionAborted` if the connection was cut.
    pub(super) fn admit(
        self: &Arc<Self>,
        cut: &CancellationToken,
        messages: &mut MessageCounter,
        bytes: &[u8],
    ) -> io::Result<Option<AdmittedBytes>> {
        let mut armed = self.armed.lock();
        if !self.settings.borrow().is_passing() {
            return Ok(None);
        }
        // Checked after the settings: a fault that cuts cancels the token before it lets bytes pass again.
        if cut.is_cancelled() {
            return Err(io::ErrorKind::ConnectionAborted.into());
        }
        let limit = armed.as_ref().map_or(u64::MAX, |armed| armed.missing);
        let (bytes, messages) = messages.take(bytes, limit);
        let mut fault = None;
        if let Some(waiting) = &mut *armed {
            waiting.missing -= messages;
            if waiting.missing == 0 {
                // The fault happens once the message was written. Until then no other byte passes.
                self.settings
                    .send_modify(|settings| settings.is_triggering = true);
                fault = armed.take().map(|reached| FiredTrigger {
                    state: self.clone(),
                    fault: reached.fault,
                });
            }
        }
        Ok(Some(AdmittedBytes {
            bytes,
            messages,
            _fault: fault,
        }))
    }

    pub(super) fn count(&self, direction: Direction, admitted: &AdmittedBytes) {
        self.status.send_modify(|status| {
            let passed = match direction {
                Direction::ToTarget => &mut status.to_target,
                Direction::ToPeers => &mut status.to_peers,
            };
            passed.messages += admitted.messages;
            passed.bytes += admitted.bytes as u64;
        });
    }

    fn inject(&self, fault: TriggeredFault) {
        if fault == TriggeredFault::Cut {
            self.cut();
        }
        self.configure(|settings| {
            settings.is_held |= fault == TriggeredFault::Hold;
            settings.is_triggering = false;
        });
    }
}

/// Bytes that may pass.
#[derive(Debug)]
pub(super) struct AdmittedBytes {
    pub(super) bytes: usize,
    messages: u64,
    /// The fault that happens after these bytes, when this is dropped.
    _fault: Option<FiredTrigger>,
}

/// A fault whose message is being written. Dropping this injects the fault, also if the connection ended before
/// the message was written.
#[derive(Debug)]
struct FiredTrigger {
    state: Arc<ProxyState>,
    fault: TriggeredFault,
}

impl Drop for FiredTrigger {
    fn drop(&mut self) {
        let is_triggering = self.state.settings.borrow().is_triggering;
        // Otherwise `release` was called during the write.
        if is_triggering {
            self.state.inject(self.fault);
        }
    }
}

//! What a line is ordered to do, and what it has counted.

use std::io;
use std::ops::RangeInclusive;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::message_counter::MessageCounter;

/// What a line has seen since it was made, and how it is now.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct FaultProxyStatus {
    /// Connections that were opened, up to the target.
    pub connections: u64,
    /// Those of them that are open.
    pub open: u64,
    /// What has passed from peers to the target.
    pub to_target: ProxyTraffic,
    /// What has passed from the target to peers.
    pub to_peers: ProxyTraffic,
    /// How often all connections were ended.
    pub cuts: u64,
    /// Whether nothing passes.
    pub is_held: bool,
    /// Whether nobody gets through.
    pub is_refused: bool,
}

impl FaultProxyStatus {
    /// MessageCounter that have passed, in both directions.
    pub fn messages(&self) -> u64 {
        self.to_target.messages + self.to_peers.messages
    }
}

/// What has passed in one direction: the system has taken it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct ProxyTraffic {
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
pub(super) enum TriggeredFault {
    Cut,
    Hold,
}

/// What all connections of a line have in common.
#[derive(Debug)]
pub(super) struct ProxyState {
    pub(super) settings: watch::Sender<ProxySettings>,
    pub(super) status: watch::Sender<FaultProxyStatus>,
    /// Whoever takes a message past it does so under this lock, so that none is taken behind the one
    /// that a fault waits for.
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
    /// As `host:port`.
    pub(super) target: Arc<str>,
    pub(super) delay: RangeInclusive<Duration>,
    pub(super) is_held: bool,
    pub(super) is_refused: bool,
    /// The message that a fault waits for is on its way, and everything else behind it.
    is_stopped: bool,
}

impl ProxySettings {
    pub(super) fn lets_pass(&self) -> bool {
        !self.is_held && !self.is_stopped
    }
}

/// A fault that waits for a message.
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
            is_stopped: false,
        };
        Self {
            settings: watch::Sender::new(settings),
            status: watch::Sender::default(),
            armed: Mutex::default(),
            generation: Mutex::default(),
        }
    }

    fn armed(&self) -> MutexGuard<'_, Option<Trigger>> {
        self.armed.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn configure(&self, order: impl FnOnce(&mut ProxySettings)) {
        self.settings.send_modify(order);
        self.status.send_modify(|status| {
            // Read under the lock of the status, so that the last one to write has read the last settings.
            let settings = self.settings.borrow();
            status.is_held = settings.is_held;
            status.is_refused = settings.is_refused;
        });
    }

    fn generation_lock(&self) -> MutexGuard<'_, ConnectionGeneration> {
        self.generation
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// The connections that the next cut ends.
    pub(super) fn generation(&self) -> ConnectionGeneration {
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
    pub(super) fn arm(&self, missing: u64, fault: TriggeredFault) {
        if missing == 0 {
            self.disarm();
            self.inject(fault);
            return;
        }
        *self.armed() = Some(Trigger { missing, fault });
    }

    pub(super) fn disarm(&self) {
        *self.armed() = None;
    }

    /// Lets everything pass that is held.
    pub(super) fn release(&self) {
        self.configure(|settings| {
            settings.is_held = false;
            settings.is_stopped = false;
        });
    }

    /// Takes as many of `bytes` as may pass. `None` while nothing may; an error when the connection,
    /// which `cut` ends, was cut.
    pub(super) fn admit(
        self: &Arc<Self>,
        cut: &CancellationToken,
        messages: &mut MessageCounter,
        bytes: &[u8],
    ) -> io::Result<Option<AdmittedBytes>> {
        let mut armed = self.armed();
        if !self.settings.borrow().lets_pass() {
            return Ok(None);
        }
        // After a look at the settings: a fault that cuts does so before it lets pass again.
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
                self.settings
                    .send_modify(|settings| settings.is_stopped = true);
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
            settings.is_stopped = false;
        });
    }
}

/// Bytes that may pass.
#[derive(Debug)]
pub(super) struct AdmittedBytes {
    pub(super) bytes: usize,
    messages: u64,
    /// What happens behind them, when this is dropped.
    _fault: Option<FiredTrigger>,
}

/// A fault whose message is on its way. It happens when this is dropped, also where the connection
/// ends before the message has passed.
#[derive(Debug)]
struct FiredTrigger {
    state: Arc<ProxyState>,
    fault: TriggeredFault,
}

impl Drop for FiredTrigger {
    fn drop(&mut self) {
        let is_stopped = self.state.settings.borrow().is_stopped;
        // Otherwise the line was released meanwhile.
        if is_stopped {
            self.state.inject(self.fault);
        }
    }
}

//! The timers of a session: when it transmits although nothing has happened.
//!
//! | timer | runs while | fires | transmits |
//! |---|---|---|---|
//! | hello | the connecting end waits for `welcome` | [`RETRY_INTERVAL`] after the last `hello` | `hello` |
//! | acknowledgement | received messages are unacknowledged | [`ACK_DELAY`] after the first of them | a header |
//! | answer | a header is due that could not be sent | [`ACK_DELAY`] after the last header | the header |
//! | probe | sent messages are unacknowledged | [`RETRY_INTERVAL`] after the last progress | `answer` |
//! | heartbeat | the connecting end is open | the heartbeat interval after the last header | `answer` |
//!
//! A request for missing messages has no timer of its own: it is repeated when a header shows that messages are still
//! missing, at most once per [`RETRY_INTERVAL`]. Silence is measured here ([`Timers::last_heard`]), but ended by the
//! owner of the session.

use std::time::{Duration, Instant};

/// Delay of an acknowledgement, so that it can travel with a message.
pub const ACK_DELAY: Duration = Duration::from_millis(20);

/// The interval at which a `hello`, a request for missing messages, or a request for an acknowledgement is repeated.
pub(super) const RETRY_INTERVAL: Duration = Duration::from_millis(500);

/// The shortest interval between heartbeats, however short the peer's idle timeout is.
pub(super) const MIN_HEARTBEAT_INTERVAL: Duration = Duration::from_millis(50);

/// Reports that are due in the next header, immediately.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct DueFlags {
    /// The peer has requested a header, or a transmission has failed.
    pub(super) answer: bool,
    /// Missing messages are to be requested.
    pub(super) resend: bool,
    /// Flags of this side have changed.
    pub(super) notice: bool,
    /// The peer is asked for a report.
    pub(super) wants_report: bool,
    /// The report is to contain recent calls.
    pub(super) wants_calls: bool,
}

impl DueFlags {
    pub(super) fn any(self) -> bool {
        self.answer || self.resend || self.notice || self.wants_report
    }
}

/// The times from which the timers of a session run.
#[derive(Debug)]
pub(super) struct Timers {
    pub(super) heartbeat: Duration,
    pub(super) last_heard: Instant,
    pub(super) last_sent: Instant,
    /// When the last `hello` was sent; `None` if one is due.
    pub(super) hello_sent: Option<Instant>,
    /// When the peer last acknowledged a message, had none to acknowledge, or was probed.
    pub(super) progress_at: Instant,
    /// When the peer last acknowledged a message; at first, when the session began.
    pub(super) acknowledged_at: Instant,
    /// When an acknowledgement is due.
    pub(super) ack_at: Option<Instant>,
    /// When missing messages were last requested.
    pub(super) resend_requested_at: Option<Instant>,
}

impl Timers {
    pub(super) fn new(heartbeat: Duration, now: Instant) -> Self {
        Self {
            heartbeat,
            last_heard: now,
            last_sent: now,
            hello_sent: None,
            progress_at: now,
            acknowledged_at: now,
            ack_at: None,
            resend_requested_at: None,
        }
    }

    /// Shortens the heartbeat for a peer with this idle timeout.
    pub(super) fn limit_heartbeat(&mut self, idle_timeout: Duration) {
        let wanted = (idle_timeout / 2).max(MIN_HEARTBEAT_INTERVAL);
        self.heartbeat = self.heartbeat.min(wanted);
    }

    /// Starts the timer of the acknowledgement, unless it runs.
    pub(super) fn delay_ack(&mut self, now: Instant) {
        self.ack_at.get_or_insert(now + ACK_DELAY);
    }

    pub(super) fn is_ack_due(&self, now: Instant) -> bool {
        self.ack_at.is_some_and(|due| due <= now)
    }

    pub(super) fn is_hello_due(&self, now: Instant) -> bool {
        let waits = |sent| now.saturating_duration_since(sent) < RETRY_INTERVAL;
        !self.hello_sent.is_some_and(waits)
    }

    /// Returns whether missing messages may be requested (again).
    pub(super) fn is_resend_due(&self, now: Instant) -> bool {
        let waits = |requested| now.saturating_duration_since(requested) < RETRY_INTERVAL;
        !self.resend_requested_at.is_some_and(waits)
    }

    /// Returns when an answer is requested from the peer, by a probe or a heartbeat.
    pub(super) fn probe_at(
        &self,
        has_unacknowledged: bool,
        has_heartbeat: bool,
    ) -> Option<Instant> {
        let probe = has_unacknowledged.then(|| self.progress_at + RETRY_INTERVAL);
        let heartbeat = has_heartbeat.then(|| self.last_sent + self.heartbeat);
        probe.into_iter().chain(heartbeat).min()
    }

    /// Returns when a failed or requested header is sent.
    pub(super) fn answer_at(&self) -> Instant {
        self.last_sent + ACK_DELAY
    }

    /// Returns when the last `hello` is repeated.
    pub(super) fn hello_at(&self) -> Option<Instant> {
        self.hello_sent.map(|sent| sent + RETRY_INTERVAL)
    }

    /// Records that a header was sent, which acknowledges everything.
    pub(super) fn sent(&mut self, now: Instant, is_probe: bool) {
        self.last_sent = now;
        if is_probe {
            self.progress_at = now;
        }
        self.ack_at = None;
    }
}

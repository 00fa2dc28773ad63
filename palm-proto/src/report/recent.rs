//! [`RecentCall`]: a call that a component remembers.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::micros;
use crate::failure::FailureKind;
use crate::message::proto::recent_call::Kind;
use crate::message::{kind_from_wire, kind_to_wire, proto};

/// The most bytes of each text of a recent call.
const MAX_TEXT_BYTES: usize = 128;

/// A call that a component remembers because it was slow, failed, or is part of a sampled trace.
///
/// A component remembers 64 calls of each kind, without their payloads.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct RecentCall {
    /// What the component did.
    pub work: Work,
    /// The id of the call: the field `client` of its message. The inputs of a job have the same one.
    pub call: String,
    /// The id of the message: its field `cache`.
    pub id: String,
    /// The trace id; empty if the call is not part of a trace.
    pub trace: String,
    /// The function, as `server.function`.
    pub function: String,
    /// The index of the step.
    pub stage: i64,
    /// When the work began, by the clock of the component's host.
    pub begun_at: SystemTime,
    /// The time from the receipt of the message to the begin of the work.
    pub waited: Duration,
    /// The time of the work.
    pub worked: Duration,
    /// How the work failed; `None` if it did not.
    pub failure: Option<FailureKind>,
    /// How often the task was delivered to a worker, this time included. 0: unknown.
    pub delivery: u32,
    /// The name of the worker to which the task was delivered; empty for other work.
    pub worker: String,
}

/// What a component did for a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
#[non_exhaustive]
pub enum Work {
    /// It answered an HTTP request.
    Request,
    /// It delivered a task to a worker.
    Delivery,
    /// It ran a function.
    #[default]
    Step,
}

impl Work {
    /// Returns the work in lower case, such as `step`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Request => "request",
            Self::Delivery => "delivery",
            Self::Step => "step",
        }
    }
}

/// Returns the beginning of a text that a peer may have chosen.
fn beginning(text: &str) -> String {
    text[..text.floor_char_boundary(MAX_TEXT_BYTES)].to_owned()
}

impl RecentCall {
    /// Creates the record of work that begins now: no time, and no failure.
    pub fn new(work: Work, call: &str, id: &str, function: &str, stage: i64) -> Self {
        Self {
            work,
            call: beginning(call),
            id: beginning(id),
            trace: String::new(),
            function: beginning(function),
            stage,
            begun_at: UNIX_EPOCH,
            waited: Duration::ZERO,
            worked: Duration::ZERO,
            failure: None,
            delivery: 0,
            worker: String::new(),
        }
    }

    /// Returns whether one of its ids begins with `prefix`.
    pub fn matches(&self, prefix: &str) -> bool {
        let ids = [&self.call, &self.id, &self.trace];
        ids.iter().any(|id| id.starts_with(prefix))
    }

    pub(super) fn to_wire(&self) -> proto::RecentCall {
        let begun = self.begun_at.duration_since(UNIX_EPOCH);
        proto::RecentCall {
            kind: match self.work {
                Work::Request => Kind::Request,
                Work::Delivery => Kind::Delivery,
                Work::Step => Kind::Step,
            }
            .into(),
            call: self.call.clone(),
            id: self.id.clone(),
            trace: self.trace.clone(),
            function: self.function.clone(),
            stage: self.stage,
            begun_at_us: micros(begun.unwrap_or_default()),
            waited_us: micros(self.waited),
            worked_us: micros(self.worked),
            failed: self.failure.is_some(),
            failure: self
                .failure
                .map_or(0, |failure| kind_to_wire(failure).into()),
            delivery: self.delivery,
            worker: self.worker.clone(),
        }
    }

    pub(super) fn from_wire(wire: proto::RecentCall) -> Self {
        let begun_at = UNIX_EPOCH.checked_add(Duration::from_micros(wire.begun_at_us));
        Self {
            work: match wire.kind() {
                Kind::Request => Work::Request,
                Kind::Delivery => Work::Delivery,
                Kind::Step => Work::Step,
            },
            failure: wire.failed.then(|| kind_from_wire(wire.failure())),
            call: wire.call,
            id: wire.id,
            trace: wire.trace,
            function: wire.function,
            stage: wire.stage,
            begun_at: begun_at.unwrap_or(UNIX_EPOCH),
            waited: Duration::from_micros(wire.waited_us),
            worked: Duration::from_micros(wire.worked_us),
            delivery: wire.delivery,
            worker: wire.worker,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn recent_call_survives_the_wire_with_bounded_texts() {
        let long = "\u{e4}".repeat(100);
        let mut call = RecentCall::new(Work::Delivery, &long, "id/3", "images.resize", 1);
        assert_eq!(call.call, "\u{e4}".repeat(64));
        call.trace = "4bf92f3577b34da6a3ce929d0e0e4736".to_owned();
        call.begun_at = UNIX_EPOCH + Duration::from_micros(7);
        call.waited = Duration::from_micros(8);
        call.worked = Duration::from_micros(9);
        call.failure = Some(FailureKind::Unavailable);
        call.delivery = 2;
        call.worker = "one".to_owned();
        assert_eq!(RecentCall::from_wire(call.to_wire()), call);
        call.failure = None;
        assert_eq!(RecentCall::from_wire(call.to_wire()), call);
    }

    #[test]
    fn recent_call_is_found_by_the_beginning_of_an_id() {
        let mut call = RecentCall::new(Work::Step, "client/17", "message", "a.b", 0);
        call.trace = "4bf9".to_owned();
        for prefix in ["client/1", "message", "4b", ""] {
            assert!(call.matches(prefix), "{prefix}");
        }
        assert!(!call.matches("a.b"));
    }
}

//! Requests of operators to workers: a master passes them on over the session of the worker.
//!
//! A worker is addressed by its name or instance. The reply, or why there is none, is known within [`REPLY_TIMEOUT`];
//! `palm_proto`'s session repeats a request until then.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use tokio::sync::oneshot;

use super::peer::{LinkPeer, PeerRole};
use super::{LinkServer, ServerState};
use crate::function::nearest;
use crate::link::PeerKey;
use crate::link::session::REQUESTS_VERSION;
use crate::message::proto::forward_failure::Kind;

/// Time within which a worker has to reply.
const REPLY_TIMEOUT: Duration = Duration::from_secs(2);

/// The most requests to all workers that have no reply: fewer than the control service handles at once, so that workers
/// that do not reply delay no other request.
const MAX_REQUESTS: usize = 64;

/// The largest reply of a worker. A longer one counts as none.
const MAX_REPLY_BYTES: usize = 64 * 1024;

/// The most instances of workers with the same name that an error lists.
const MAX_LISTED: usize = 20;

/// Why a worker has not replied to a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct UnansweredRequest {
    pub(crate) kind: Kind,
    pub(crate) reason: String,
}

/// The requests to workers that have no reply.
#[derive(Debug, Default)]
pub(super) struct OpenRequests(AtomicUsize);

/// A request that was sent to a worker. Dropping it withdraws the request.
#[derive(Debug)]
struct SentRequest<'a> {
    links: &'a LinkServer,
    peer: PeerKey,
    number: u64,
}

impl LinkServer {
    /// Passes a request on to the worker with this name or instance, and returns its reply.
    ///
    /// # Errors
    ///
    /// [`UnansweredRequest`] has the reason. A worker that is lost or silent may have handled the request.
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped, the worker may handle the request nevertheless.
    pub(crate) async fn ask_worker(
        &self,
        worker: &str,
        verb: &str,
        payload: Bytes,
    ) -> Result<Bytes, UnansweredRequest> {
        let namesakes = self.state().workers_named(worker).count();
        if parse_instance(worker).is_some() || namesakes > 1 {
            // Only reports contain the instances of workers.
            self.observe(false).await;
        }
        let (_sent, reply) = self.send_request(worker, verb, payload)?;
        match tokio::time::timeout(REPLY_TIMEOUT, reply).await {
            Ok(Ok(reply)) if reply.is_empty() => Err(UnansweredRequest {
                kind: Kind::Unsupported,
                reason: format!("worker `{worker}` does not know the request `{verb}`"),
            }),
            Ok(Ok(reply)) => Ok(reply),
            Ok(Err(_)) => Err(UnansweredRequest {
                kind: Kind::Gone,
                reason: format!(
                    "worker `{worker}` has left or was lost before it replied to `{verb}`"
                ),
            }),
            Err(_) => Err(UnansweredRequest {
                kind: Kind::Timeout,
                reason: format!(
                    "worker `{worker}` has not replied to `{verb}` within {REPLY_TIMEOUT:?}: it is stopped or busy, and may handle the request later"
                ),
            }),
        }
    }

    fn send_request(
        &self,
        worker: &str,
        verb: &str,
        payload: Bytes,
    ) -> Result<(SentRequest<'_>, oneshot::Receiver<Bytes>), UnansweredRequest> {
        let now = self.now();
        let mut state = self.state();
        let peer = state.find_worker(worker, now)?;
        let ServerState {
            peers, scheduled, ..
        } = &mut *state;
        let busy = || UnansweredRequest {
            kind: Kind::Busy,
            reason: format!("too many requests to worker `{worker}` have no reply yet: try again"),
        };
        let peer = peers.get_mut(&peer).expect("the worker was found above");
        if peer.session.version() < REQUESTS_VERSION {
            return Err(UnansweredRequest {
                kind: Kind::Unsupported,
                reason: format!(
                    "worker `{worker}` is of an earlier version of palm (its link has version {}, and requests need {REQUESTS_VERSION}): it cannot be drained or configured through its master",
                    peer.session.version()
                ),
            });
        }
        let open = &self.open_requests.0;
        if open.load(Ordering::Relaxed) >= MAX_REQUESTS {
            return Err(busy());
        }
        let number = peer.session.request(verb, payload).ok_or_else(busy)?;
        open.fetch_add(1, Ordering::Relaxed);
        let (sender, reply) = oneshot::channel();
        peer.awaited_replies.push((number, sender));
        peer.schedule(scheduled);
        let sent = SentRequest {
            links: self,
            peer: peer.key,
            number,
        };
        self.flush(&mut state, now);
        Ok((sent, reply))
    }
}

impl Drop for SentRequest<'_> {
    fn drop(&mut self) {
        self.links.open_requests.0.fetch_sub(1, Ordering::Relaxed);
        let mut state = self.links.state();
        if let Some(peer) = state.peers.get_mut(&self.peer) {
            peer.withdraw(self.number);
        }
    }
}

impl LinkPeer {
    /// Passes the reply of a worker on to the request that waits for it.
    pub(super) fn record_reply(&mut self, number: u64, payload: Bytes) {
        let is_awaited = |(awaited, _): &(u64, _)| *awaited == number;
        let Some(index) = self.awaited_replies.iter().position(is_awaited) else {
            return;
        };
        let (_, awaited) = self.awaited_replies.swap_remove(index);
        let payload = match payload.len() <= MAX_REPLY_BYTES {
            true => payload,
            false => Bytes::new(),
        };
        // The request may have ended meanwhile.
        let _ = awaited.send(payload);
    }

    /// Ends the requests to a worker that was lost, which are not sent again if it returns.
    pub(super) fn withdraw_requests(&mut self) {
        for (number, _) in std::mem::take(&mut self.awaited_replies) {
            self.session.withdraw(number);
        }
    }

    fn withdraw(&mut self, number: u64) {
        self.awaited_replies
            .retain(|(awaited, _)| *awaited != number);
        self.session.withdraw(number);
    }

    fn is_worker(&self) -> bool {
        matches!(self.role, PeerRole::Worker { .. })
    }

    fn instance(&self) -> Option<u64> {
        let (report, _) = self.report.as_ref()?;
        Some(report.worker.instance)
    }
}

impl ServerState {
    fn workers_named<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a LinkPeer> {
        let workers = self.peers.values().filter(|peer| peer.is_worker());
        workers.filter(move |peer| *peer.name == *name)
    }

    /// Returns the connected worker with this name or instance.
    fn find_worker(&self, worker: &str, now: Instant) -> Result<PeerKey, UnansweredRequest> {
        let workers = || self.peers.values().filter(|peer| peer.is_worker());
        let instance = parse_instance(worker);
        let is_meant = |peer: &&LinkPeer| {
            *peer.name == *worker || instance.is_some_and(|it| peer.instance() == Some(it))
        };
        let meant: Vec<_> = workers().filter(is_meant).collect();
        let connected = meant.iter().filter(|peer| peer.is_connected());
        let connected: Vec<_> = connected.collect();
        let (kind, reason) = match (&connected[..], &meant[..]) {
            ([peer], _) => return Ok(peer.key),
            ([], []) => (Kind::Unknown, self.unknown_worker(worker)),
            ([], [peer, ..]) => {
                let silent = now.saturating_duration_since(peer.session.last_heard());
                let silent = Duration::from_secs(silent.as_secs());
                let reason = format!(
                    "worker `{worker}` is not connected; its last sign of life was {silent:?} ago"
                );
                (Kind::Gone, reason)
            }
            (several, _) => {
                let instances = several.iter().filter_map(|peer| peer.instance());
                let mut instances: Vec<_> = instances.map(|it| format!("{it:016x}")).collect();
                instances.sort_unstable();
                instances.truncate(MAX_LISTED);
                let reason = format!(
                    "{} workers are called `{worker}`: state the instance of one of them, {}",
                    several.len(),
                    instances.join(", ")
                );
                (Kind::Ambiguous, reason)
            }
        };
        Err(UnansweredRequest { kind, reason })
    }

    fn unknown_worker(&self, worker: &str) -> String {
        if !self.has_task_source {
            return "this component has no workers: state the address of their master".to_owned();
        }
        let workers = self.peers.values().filter(|peer| peer.is_worker());
        let connected = workers.filter(|peer| peer.is_connected());
        let mut names: Vec<_> = connected.map(|peer| &*peer.name).collect();
        names.sort_unstable();
        let hint = match names.is_empty() {
            true => "no worker with a link is connected".to_owned(),
            false => nearest(worker, &names),
        };
        format!("no worker is called `{worker}`; {hint}")
    }
}

/// Reads the instance of a worker as reports show it.
fn parse_instance(text: &str) -> Option<u64> {
    let is_instance = text.len() == 16 && text.bytes().all(|it| it.is_ascii_hexdigit());
    is_instance
        .then(|| u64::from_str_radix(text, 16).ok())
        .flatten()
}

#[cfg(test)]
mod tests;

//! The opening of sessions: a peer sends `hello`, and the component answers with `welcome` or a refusal.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use prost::Message as _;

use super::peer::{LinkPeer, PeerRole, SessionEnd};
use super::{LinkServer, ServerState, truncate_name};
use crate::fair_queue::MAX_WEIGHT;
use crate::link::session::{CreditWindow, MIN_VERSION, Session};
use crate::link::subscriptions::{BacklogSize, PeerOrigin, Subscription};
use crate::link::{CLIENT, PeerKey, SUBSCRIBER, WORKER, WORKER_CONTROL_VERSION};
use crate::message::proto::link_refusal::Kind;
use crate::message::proto::{LinkHello, LinkRefusal};

/// How much a peer may send ahead of what the component has consumed.
const WINDOW: CreditWindow = CreditWindow {
    messages: 4096,
    bytes: 8 * 1024 * 1024,
};

/// The largest `hello`, in bytes: a worker's functions, names and topics.
const MAX_HELLO_BYTES: usize = 1024 * 1024;

/// How much memory the `hello`s of all sessions may occupy, in bytes.
pub(super) const MAX_HELLOS_BYTES: usize = 64 * 1024 * 1024;

/// An estimate of the memory that a session occupies besides its `hello`.
const SESSION_OVERHEAD: usize = 2048;

/// An estimate of the memory that a worker's function occupies besides its bytes in the `hello`.
const FUNCTION_OVERHEAD: usize = 64;

/// How long a restarted component waits at most for its former followers before it publishes, so that none misses a
/// message: twice the longest delay between two attempts to connect.
pub(super) const RESUBSCRIBE_LIMIT: Duration = Duration::from_secs(2);

/// The wait of a restarted component for its former followers.
#[derive(Debug, Clone, Copy)]
pub(super) struct Resubscriptions {
    pub(super) until: Instant,
    /// How many followers the component had before, as far as a peer has told; 0 if none has.
    followers: usize,
    /// How many of them are back. A follower that is new, or was restarted too, is none of them.
    returned: usize,
}

impl Resubscriptions {
    /// Begins or continues the wait when a peer has returned, which says how many `followers` there were.
    pub(super) fn returned(
        waits: &mut Option<Self>,
        followers: u32,
        is_follower: bool,
        now: Instant,
    ) {
        let waits = waits.get_or_insert(Self {
            until: now + RESUBSCRIBE_LIMIT,
            followers: 0,
            returned: 0,
        });
        waits.followers = waits.followers.max(followers as usize);
        waits.returned += usize::from(is_follower);
    }

    /// Returns whether followers have not returned, and may still do so.
    pub(super) fn are_missing(self, now: Instant) -> bool {
        self.until > now && (self.followers == 0 || self.returned < self.followers)
    }
}

impl LinkServer {
    /// Resumes the session of a peer that introduces itself, or opens one.
    ///
    /// No session is opened if the `hello` refers to an earlier run of this component; the caller then answers by
    /// `closed`.
    ///
    /// # Errors
    ///
    /// Returns the refusal for a peer that cannot be served.
    pub(super) fn accept_hello(
        &self,
        state: &mut ServerState,
        id: &Bytes,
        route: &Bytes,
        hello: &LinkHello,
        now: Instant,
    ) -> Result<(), LinkRefusal> {
        let refuse = |kind: Kind, reason: String| {
            let kind = kind.into();
            Err(LinkRefusal { kind, reason })
        };
        let is_served = self.serves(state, &hello.role);
        if !is_served {
            return refuse(Kind::Role, not_served(&hello.role));
        }
        if hello.version < MIN_VERSION {
            let version = hello.version;
            let reason = format!(
                "the peer speaks version {version} of the link protocol; {MIN_VERSION} is the lowest one that is accepted"
            );
            return refuse(Kind::Version, reason);
        }
        if let Some(&key) = state.sessions.get(id) {
            state.attach(key, route, now);
            return Ok(());
        }
        if hello.instance != 0 {
            return Ok(());
        }
        let hello_bytes = hello.encoded_len();
        if hello_bytes > MAX_HELLO_BYTES {
            let reason = format!(
                "the `hello` has {hello_bytes} bytes, and at most {MAX_HELLO_BYTES} are accepted: register fewer functions or topics"
            );
            return refuse(Kind::Protocol, reason);
        }
        let following = match Subscription::from_hello(hello) {
            Ok(following) => following,
            Err(reason) => return refuse(Kind::Protocol, reason),
        };
        state.end_session_on(route, now);
        let name: Arc<str> = truncate_name(&hello.name).into();
        if state.peers.len() >= self.options.max_sessions && !state.evict() {
            let limit = self.options.max_sessions;
            let reason = format!("the component has {limit} sessions, its limit");
            return refuse(Kind::Crowded, reason);
        }
        state.last_key += 1;
        let key = state.last_key;
        let kept = hello_bytes + SESSION_OVERHEAD + hello.functions.len() * FUNCTION_OVERHEAD;
        if !state.hello_memory.capacity(&key).admits(kept)
            || !state.subscriptions.admits_event(&following)
        {
            let reason = "the component keeps too many functions and topics of other peers";
            let reason = reason.to_owned();
            return refuse(Kind::Crowded, reason);
        }
        state.hello_memory.add(key, kept);
        // Publications that are retained for a lost subscriber are for the next one of its name.
        let retained = state.take_retained_of(&name, &following);
        let predecessor = state.predecessor(&name, &following);
        // A slice would keep the whole frame, which may be large.
        let id = Bytes::copy_from_slice(id);
        let role = if hello.role == WORKER {
            if hello.version >= WORKER_CONTROL_VERSION {
                state.opened.functions.extend_from_slice(&hello.functions);
            }
            PeerRole::Worker {
                functions: hello.functions.clone(),
                concurrency: hello.concurrency,
                strays: 0,
            }
        } else {
            PeerRole::Consumer {
                withheld_credit: (0, 0),
                is_paused: false,
                finished: hello.role == SUBSCRIBER,
                makes_calls: hello.role == CLIENT,
            }
        };
        if hello.role == CLIENT {
            *state.callers.entry(name.clone()).or_default() += 1;
            state.opened.clients.push(name.clone());
        }
        let window = match hello.role == SUBSCRIBER {
            false => WINDOW,
            true => CreditWindow {
                messages: 0,
                bytes: 0,
            },
        };
        let (instance, _) = uuid::Uuid::new_v4().as_u64_pair();
        let idle_timeout = self.options.idle_timeout;
        let mut session = Session::accept(
            id.clone(),
            instance,
            self.component,
            window,
            idle_timeout,
            now,
        );
        if hello.role != WORKER {
            if hello.again {
                let (waits, is_follower) = (&mut state.resubscriptions, following.is_retained());
                Resubscriptions::returned(waits, hello.followers, is_follower, now);
            }
            if state.subscriptions_ready {
                session.set_subscriptions_ready();
            }
            if state.is_draining {
                session.drain();
            }
            for item in retained {
                session.submit(item, now);
            }
            state.subscriptions.add(key, following);
            self.progressed.notify_waiters();
            state
                .subscriptions
                .set_origin(key, PeerOrigin::from_hello(hello));
            match state.subscriptions.is_retained(key) {
                _ if hello.role == CLIENT => state.peer_log.client_connected(&name, now),
                true => tracing::info!(subscriber = %name, "subscriber connected"),
                // Clients open such sessions for answers, and workers of versions below 5 for cancellations.
                false => tracing::debug!(peer = %name, "subscriber connected"),
            }
        }
        let peer = LinkPeer {
            key,
            id: id.clone(),
            is_scheduled: false,
            name,
            role,
            weight: hello.weight.clamp(1, MAX_WEIGHT),
            session,
            route: route.clone(),
            disconnected_at: None,
            // Until the session is open.
            lost_at: Some(now),
            predecessor,
            unread: BacklogSize::default(),
            stalled: Duration::ZERO,
            redelivered: 0,
            report: None,
            awaited_replies: Vec::new(),
        };
        state.sessions.insert(id, key);
        state.routes.insert(route.clone(), key);
        state.peers.insert(key, peer);
        Ok(())
    }

    /// Returns whether the component has the parts that serve a role.
    pub(super) fn serves(&self, state: &ServerState, role: &str) -> bool {
        match role {
            WORKER => state.has_task_source && self.results.is_taken(),
            CLIENT => state.subscriptions.has_publisher && self.inputs.is_taken(),
            SUBSCRIBER => state.subscriptions.has_publisher,
            _ => false,
        }
    }
}

impl ServerState {
    /// Moves a session to this connection.
    pub(super) fn attach(&mut self, key: PeerKey, route: &Bytes, now: Instant) {
        if self.routes.get(route) != Some(&key) {
            self.end_session_on(route, now);
        }
        if let Some(peer) = self.peers.get_mut(&key) {
            if peer.route != *route {
                self.routes.remove(&peer.route);
                peer.route = route.clone();
            }
            peer.disconnected_at = None;
            self.routes.insert(route.clone(), key);
        }
    }

    /// Ends the session on a connection, whose peer now uses it for another session. Retained publications of a
    /// subscriber stay, since it is about to introduce itself again.
    pub(super) fn end_session_on(&mut self, route: &Bytes, now: Instant) {
        let Some(&key) = self.routes.get(route) else {
            return;
        };
        let name = self.peers.get(&key).map(|peer| peer.name.clone());
        tracing::debug!(peer = %name.unwrap_or_default(), "session replaced by another one");
        if !self.retain(key, now) {
            self.remove(key, SessionEnd::Replaced);
        }
        self.routes.remove(route);
    }

    /// Ends the session of the peer that was lost first, so that another one can open. Returns whether there was one.
    pub(super) fn evict(&mut self) -> bool {
        let lost = self.peers.values().filter(|peer| !peer.is_alive());
        let first = lost.min_by_key(|peer| peer.lost_at).map(|peer| peer.key);
        first
            .map(|key| self.remove(key, SessionEnd::Expired))
            .is_some()
    }
}

/// Explains why a peer of this role is refused.
fn not_served(role: &str) -> String {
    let role = truncate_name(role);
    match role {
        WORKER => "workers connect to a master or hub, and this component is neither: give the `db_address` of one of these".to_owned(),
        CLIENT => "clients call a server or master, and this component is neither: give the `db_address` of one of these".to_owned(),
        _ => format!("this component does not offer links for the role `{role}`"),
    }
}

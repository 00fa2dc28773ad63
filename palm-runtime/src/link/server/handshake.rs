//! The opening of sessions: a peer sends `hello`, and the component answers with `welcome` or a refusal.

use std::collections::VecDeque;
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
    /// No session is opened if the `hello` refers to an earlier run of this component, or to a session that has ended;
    /// the caller then answers by `closed`, or by the reason why the session was refused.
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
        self.check_hello(state, hello)?;
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
            return Err(refusal(Kind::Protocol, reason));
        }
        let following =
            Subscription::from_hello(hello).map_err(|reason| refusal(Kind::Protocol, reason))?;
        state.end_session_on(route, now);
        let name: Arc<str> = truncate_name(&hello.name).into();
        // Publications that are retained for a lost subscriber are for the next one of its name.
        let replaced = match hello.role == WORKER {
            true => None,
            false => state.replaced_session(&name, &following),
        };
        let key = self.reserve_session(state, hello, hello_bytes, &following, replaced)?;
        let retained = replaced.map_or_else(VecDeque::new, |key| state.take_retained_of(key));
        let predecessor = state.predecessor(&name, &following);
        // A slice would keep the whole frame, which may be large.
        let id = Bytes::copy_from_slice(id);
        state.record_opened(hello, &name);
        let mut peer = LinkPeer {
            key,
            id: id.clone(),
            is_scheduled: false,
            name,
            role: PeerRole::from_hello(hello),
            weight: hello.weight.clamp(1, MAX_WEIGHT),
            session: self.new_session(id.clone(), hello, now),
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
        if hello.role != WORKER {
            state.prepare_consumer(&mut peer.session, hello, &following, now);
            for item in retained {
                peer.session.submit(item, now);
            }
            self.add_subscription(state, &peer, hello, following, now);
        }
        state.refused.remove(&id);
        state.sessions.insert(id, key);
        state.routes.insert(route.clone(), key);
        state.peers.insert(key, peer);
        Ok(())
    }

    /// Checks that this component serves the role of a peer, and speaks its version of the link protocol.
    ///
    /// # Errors
    ///
    /// Returns the refusal otherwise.
    fn check_hello(&self, state: &ServerState, hello: &LinkHello) -> Result<(), LinkRefusal> {
        if !self.serves(state, &hello.role) {
            return Err(refusal(Kind::Role, not_served(&hello.role)));
        }
        if hello.version < MIN_VERSION {
            let version = hello.version;
            let reason = format!(
                "the peer speaks version {version} of the link protocol; {MIN_VERSION} is the lowest one that is accepted"
            );
            return Err(refusal(Kind::Version, reason));
        }
        Ok(())
    }

    /// Returns the key of a new session, for which the memory of its `hello` is reserved. At the limit of sessions, the
    /// session of the peer that was lost first ends, unless the new session replaces one.
    ///
    /// # Errors
    ///
    /// Returns the refusal if there are too many sessions, or their `hello`s occupy too much memory.
    fn reserve_session(
        &self,
        state: &mut ServerState,
        hello: &LinkHello,
        hello_bytes: usize,
        following: &Subscription,
        replaced: Option<PeerKey>,
    ) -> Result<PeerKey, LinkRefusal> {
        let others = state.peers.len() - usize::from(replaced.is_some());
        if others >= self.options.max_sessions && !state.evict() {
            let limit = self.options.max_sessions;
            let reason = format!("the component has {limit} sessions, its limit");
            return Err(refusal(Kind::Crowded, reason));
        }
        state.last_key += 1;
        let key = state.last_key;
        let kept = hello_bytes + SESSION_OVERHEAD + hello.functions.len() * FUNCTION_OVERHEAD;
        if !state.hello_memory.capacity(&key).admits(kept)
            || !state.subscriptions.admits_event(following)
        {
            let reason = "the component keeps too many functions and topics of other peers";
            return Err(refusal(Kind::Crowded, reason.to_owned()));
        }
        state.hello_memory.add(key, kept);
        Ok(key)
    }

    /// Creates the accepting end of a session. A subscriber has no credit, since it sends no messages.
    fn new_session(&self, id: Bytes, hello: &LinkHello, now: Instant) -> Session {
        let window = match hello.role == SUBSCRIBER {
            false => WINDOW,
            true => CreditWindow {
                messages: 0,
                bytes: 0,
            },
        };
        let (instance, _) = uuid::Uuid::new_v4().as_u64_pair();
        let idle_timeout = self.options.idle_timeout;
        Session::accept(id, instance, self.component, window, idle_timeout, now)
    }

    /// Adds the subscription of a new client or subscriber, and logs that it is connected.
    fn add_subscription(
        &self,
        state: &mut ServerState,
        peer: &LinkPeer,
        hello: &LinkHello,
        following: Subscription,
        now: Instant,
    ) {
        let (key, name) = (peer.key, &peer.name);
        state.subscriptions.add(key, following);
        self.progressed.notify_waiters();
        state
            .subscriptions
            .set_origin(key, PeerOrigin::from_hello(hello));
        match state.subscriptions.is_retained(key) {
            _ if hello.role == CLIENT => state.peer_log.client_connected(name, now),
            true => tracing::info!(subscriber = %name, "subscriber connected"),
            // Clients open such sessions for answers, and workers of versions below 5 for cancellations.
            false => tracing::debug!(peer = %name, "subscriber connected"),
        }
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

    /// Records the functions of a new worker, or the id of a new client, for the owner of the socket.
    fn record_opened(&mut self, hello: &LinkHello, name: &Arc<str>) {
        if hello.role == WORKER && hello.version >= WORKER_CONTROL_VERSION {
            self.opened.functions.extend_from_slice(&hello.functions);
        }
        if hello.role == CLIENT {
            *self.callers.entry(name.clone()).or_default() += 1;
            // Its session may have been evicted since the last tick.
            self.vanished.retain(|gone| gone != name);
            self.opened.clients.push(name.clone());
        }
    }

    /// Prepares the new session of a client or subscriber, which is informed whether this component has established its
    /// own subscriptions, and whether it drains. A peer whose session was forgotten begins or continues the wait for
    /// former followers.
    fn prepare_consumer(
        &mut self,
        session: &mut Session,
        hello: &LinkHello,
        following: &Subscription,
        now: Instant,
    ) {
        if hello.again {
            let (waits, is_follower) = (&mut self.resubscriptions, following.is_retained());
            Resubscriptions::returned(waits, hello.followers, is_follower, now);
        }
        if self.subscriptions_ready {
            session.set_subscriptions_ready();
        }
        if self.is_draining {
            session.drain();
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
        if let Some(key) = first {
            self.remove(key, SessionEnd::Expired);
        }
        first.is_some()
    }
}

impl PeerRole {
    /// Returns the role of a peer that opens a session.
    fn from_hello(hello: &LinkHello) -> Self {
        if hello.role == WORKER {
            Self::Worker {
                functions: hello.functions.clone(),
                concurrency: hello.concurrency,
                strays: 0,
            }
        } else {
            Self::Consumer {
                withheld_credit: (0, 0),
                is_paused: false,
                finished: hello.role == SUBSCRIBER,
                makes_calls: hello.role == CLIENT,
            }
        }
    }
}

fn refusal(kind: Kind, reason: String) -> LinkRefusal {
    let kind = kind.into();
    LinkRefusal { kind, reason }
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

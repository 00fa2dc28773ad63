//! The subscription and the origin of a peer, which its `hello` contains.

use super::backlog::CLIENT_BACKLOG;
use super::{BacklogSize, CANCEL_TOPIC, SUBSCRIBER_BACKLOG, client_of};
use crate::link::session::memory_bytes;
use crate::link::{CLIENT, MAX_NAME_BYTES};
use crate::message::proto::LinkHello;

/// Maximum number of topics of a peer.
pub(super) const MAX_TOPICS: usize = 64;

/// What a peer subscribes to: exact topics, and the answers to a client, whose topics are its id, or its id and a
/// slash ahead of the rest.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Subscription {
    pub topics: Vec<String>,
    pub client: String,
}

impl Subscription {
    /// Estimates the memory that the subscription occupies.
    pub(super) fn memory_bytes(&self) -> usize {
        let topics: usize = self.topics.iter().map(String::len).sum();
        memory_bytes(1 + self.topics.len(), topics + self.client.len())
    }

    /// Reads the subscription of a peer from its `hello`.
    ///
    /// # Errors
    ///
    /// Returns the reason for a refusal if there are too many topics, or one is too long.
    pub fn from_hello(hello: &LinkHello) -> Result<Self, String> {
        let topics = &hello.topics;
        let is_too_long = |topic: &String| topic.len() > MAX_NAME_BYTES;
        if topics.len() > MAX_TOPICS || topics.iter().chain([&hello.client]).any(is_too_long) {
            return Err(format!(
                "a peer may subscribe to {MAX_TOPICS} topics of {MAX_NAME_BYTES} bytes at most"
            ));
        }
        Ok(Self {
            topics: topics.clone(),
            client: hello.client.clone(),
        })
    }

    /// Returns whether answers under `topic` are for this client.
    pub fn is_of(&self, topic: &str) -> bool {
        !self.client.is_empty() && client_of(topic) == self.client
    }

    /// Returns whether publications are retained for the peer while it is disconnected: only if it subscribes to
    /// topics other than that of cancellations.
    pub fn is_retained(&self) -> bool {
        self.topics
            .iter()
            .any(|topic| topic.as_bytes() != CANCEL_TOPIC)
    }

    /// Returns the backlog at which the publisher waits for the peer; `None` if messages beyond it are dropped.
    pub fn backlog_limit(&self) -> Option<BacklogSize> {
        if self.is_retained() {
            Some(SUBSCRIBER_BACKLOG)
        } else {
            (!self.client.is_empty()).then_some(CLIENT_BACKLOG)
        }
    }
}

/// Properties of a peer from its `hello`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PeerOrigin {
    pub name: String,
    /// The id of a client that calls this component and receives its answers from another one. An answer for which no
    /// peer is subscribed is sent to such a client, as an error.
    pub caller: String,
    /// The `db_address` of the peer's component; empty if it has none.
    pub db_address: String,
}

impl PeerOrigin {
    pub fn from_hello(hello: &LinkHello) -> Self {
        let short = |text: &String| match text.len() <= MAX_NAME_BYTES {
            true => text.clone(),
            false => String::new(),
        };
        Self {
            name: short(&hello.name),
            caller: match hello.role == CLIENT && hello.client.is_empty() {
                true => short(&hello.name),
                false => String::new(),
            },
            db_address: short(&hello.db_address),
        }
    }
}

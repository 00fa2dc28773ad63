//! Subscriptions: which peer receives which publications, and the backlog of slow or disconnected peers.
//!
//! [`SubscriptionTable`] owns the topics of subscribers and the ids of clients. The messages themselves wait in the
//! peers' sessions, or are retained here while a subscriber is disconnected. **Backpressure:** the publisher waits
//! while any subscriber's backlog is full, which slows down everything upstream. A subscriber that reads nothing for
//! `slow_consumer_timeout` is disconnected as a slow consumer, as in NATS. Answers wait per client: a client with a
//! large backlog may make no further calls (`PAUSE_BACKLOG`). The publisher waits for a client only above
//! `CLIENT_BACKLOG`, and disconnects it after `CLIENT_STALL_TIMEOUT` (1 s), and later while it receives a large message.

use std::collections::{HashMap, VecDeque};
use std::time::{Duration, Instant};

use bytestring::ByteString;
use smallvec::SmallVec;

use super::PeerKey;
use super::session::{Session, TaggedBatch, message_count};
use crate::budget::{self, Budget, Reservation};
use crate::id_map::IdMap;
use crate::message::proto;
use crate::message::{Batch, client_id};
use crate::shrink::shrink;

mod backlog;
mod subscription;

pub use backlog::{BacklogSize, SUBSCRIBER_BACKLOG};
pub use subscription::{PeerOrigin, Subscription};

use backlog::{MIN_BACKLOG_BYTES, PAUSE_BACKLOG, client_stall_timeout};

/// The topic of cancellations. Their body lists topics of calls, one per line.
pub const CANCEL_TOPIC: &[u8] = b"\0palm.cancel";

/// Limit on the bytes of subscription events that the publisher has not read while it waits for subscribers.
const MAX_EVENT_BYTES: usize = 16 * 1024 * 1024;

/// Maximum number of downstream components in a descriptor.
pub const MAX_FOLLOWERS: usize = 1000;
/// Maximum length of that list, in bytes.
pub const MAX_FOLLOWER_BYTES: usize = 1024 * 1024;

/// An event for the part that publishes.
#[derive(Debug)]
pub enum SubscriptionEvent {
    /// A peer has subscribed.
    Subscribed(Subscription, EventReservation),
    /// Publications for a lost subscriber, which no other subscriber has received.
    Undelivered(Vec<LinkPublication>),
}

/// The part of `MAX_EVENT_BYTES` that an unread event occupies.
pub type EventReservation = Option<Reservation<()>>;

/// Messages to publish under one topic.
#[derive(Debug, Clone)]
pub struct LinkPublication {
    pub topic: ByteString,
    pub batch: Batch,
}

#[derive(Debug, Default)]
pub struct Subscriber {
    pub following: Subscription,
    pub origin: PeerOrigin,
    /// The publications that are retained for the subscriber's next session, once it accepts no more in this one.
    pub retained: Option<VecDeque<TaggedBatch>>,
    pub retained_size: BacklogSize,
}

impl Subscriber {
    #[inline]
    pub fn backlog(&self, session: &Session) -> BacklogSize {
        let (messages, bytes) = session.unacknowledged();
        let retained = self.retained_size;
        BacklogSize {
            messages: messages + retained.messages,
            bytes: bytes + retained.bytes,
        }
    }
}

/// The subscriptions of all peers.
#[derive(Debug)]
pub struct SubscriptionTable {
    /// The limit on the backlogs of all peers together, in bytes.
    max_backlog: usize,
    /// An upper bound of these backlogs, in bytes: acknowledged messages are counted until the next
    /// [`recount`](Self::recount).
    pub queued_bytes: usize,
    /// Whether the component has a part that publishes.
    pub has_publisher: bool,
    pub subscribers: IdMap<Subscriber>,
    /// How many of them are followers.
    followers: usize,
    /// The subscribers of each topic, with the tag by which each peer recognises the topic.
    topics: HashMap<String, SmallVec<[(PeerKey, u64); 1]>>,
    pub clients: HashMap<String, SmallVec<[PeerKey; 1]>>,
    /// Clients that call this component and receive their answers from another one, by their id.
    callers: HashMap<String, PeerKey>,
    /// Peers whose backlog is full, and since when.
    pub full_since: IdMap<Instant>,
    /// Events for the part that publishes. The owner takes them after each operation.
    pub events: Vec<SubscriptionEvent>,
    unread_events: Budget<()>,
}

impl Default for SubscriptionTable {
    fn default() -> Self {
        Self::new(usize::MAX)
    }
}

/// [`client_id`] of a topic as text.
#[inline]
pub fn client_of(topic: &str) -> &str {
    &topic[..client_id(topic.as_bytes()).len()]
}

impl SubscriptionTable {
    /// Creates an empty table. `max_backlog` limits the backlogs of all peers together, in bytes.
    pub fn new(max_backlog: usize) -> Self {
        Self {
            max_backlog,
            queued_bytes: 0,
            has_publisher: false,
            subscribers: IdMap::default(),
            followers: 0,
            topics: HashMap::new(),
            clients: HashMap::new(),
            callers: HashMap::new(),
            full_since: IdMap::default(),
            events: Vec::new(),
            unread_events: Budget::new(MAX_EVENT_BYTES),
        }
    }

    /// Returns whether a subscription can be added now and reported to the publisher.
    pub fn admits_event(&self, following: &Subscription) -> bool {
        !self.has_publisher
            || self
                .unread_events
                .reserve(&(), following.memory_bytes())
                .is_some()
    }

    /// Counts the backlogs again. The owner calls it every tick. `session` looks up the session of a peer.
    pub fn recount<'a>(&mut self, session: impl Fn(PeerKey) -> Option<&'a Session>) {
        let backlogs = self.subscribers.iter().filter_map(|(&key, subscriber)| {
            let backlog = subscriber.backlog(session(key)?);
            Some(backlog.memory_bytes())
        });
        self.queued_bytes = backlogs.sum();
    }

    /// Releases memory of tables that have become much smaller.
    pub fn shrink(&mut self) {
        shrink(&mut self.subscribers);
        shrink(&mut self.topics);
        shrink(&mut self.clients);
        shrink(&mut self.callers);
    }

    /// Returns the backlog that a single peer may have, in bytes.
    #[inline]
    pub fn backlog_share(&self) -> usize {
        let free = self.max_backlog.saturating_sub(self.queued_bytes);
        let share = free.saturating_mul(budget::THRESHOLD);
        share.max(MIN_BACKLOG_BYTES)
    }

    pub fn add(&mut self, key: PeerKey, following: Subscription) {
        for (index, topic) in following.topics.iter().enumerate() {
            let subscribers = self.topics.entry(topic.clone()).or_default();
            subscribers.push((key, index as u64 + 1));
        }
        if !following.client.is_empty() {
            let subscribers = self.clients.entry(following.client.clone()).or_default();
            subscribers.push(key);
        }
        if self.has_publisher {
            let reservation = self.unread_events.reserve(&(), following.memory_bytes());
            let event = SubscriptionEvent::Subscribed(following.clone(), reservation);
            self.events.push(event);
        }
        self.followers += usize::from(following.is_retained());
        let subscriber = Subscriber {
            following,
            ..Subscriber::default()
        };
        self.subscribers.insert(key, subscriber);
    }

    /// Returns how many peers follow the component: those for which publications are retained.
    pub fn followers(&self) -> usize {
        self.followers
    }

    /// Sets the origin of a peer that was added.
    pub fn set_origin(&mut self, key: PeerKey, origin: PeerOrigin) {
        if let Some(subscriber) = self.subscribers.get_mut(&key) {
            if !origin.caller.is_empty() {
                self.callers.insert(origin.caller.clone(), key);
            }
            subscriber.origin = origin;
        }
    }

    /// Returns whether the peer subscribes to cancellations and to nothing else.
    pub fn receives_only_cancellations(&self, key: PeerKey) -> bool {
        self.subscribers.get(&key).is_some_and(|subscriber| {
            let Subscription { topics, client } = &subscriber.following;
            let is_cancellations = |topic: &String| topic.as_bytes() == CANCEL_TOPIC;
            !topics.is_empty() && topics.iter().all(is_cancellations) && client.is_empty()
        })
    }

    /// Returns a peer as the descriptor lists it, if it subscribes to topics and has a `db_address`.
    pub fn descriptor_entry(&self, key: PeerKey) -> Option<proto::Follower> {
        let Subscriber {
            following, origin, ..
        } = self.subscribers.get(&key)?;
        let topics = following.topics.iter();
        let topics = topics.filter(|topic| topic.as_bytes() != CANCEL_TOPIC);
        let topics: Vec<_> = topics.cloned().collect();
        let is_known = !topics.is_empty() && !origin.db_address.is_empty();
        is_known.then(|| proto::Follower {
            name: origin.name.clone(),
            db_address: origin.db_address.clone(),
            topics,
        })
    }

    /// Returns the backlog of an expired subscriber to the publisher, except for messages that other subscribers
    /// receive as well.
    pub fn return_backlog(&mut self, key: PeerKey, items: VecDeque<TaggedBatch>) {
        let subscriber = self.subscribers.get(&key);
        let Some(subscriber) = subscriber.filter(|_| self.has_publisher) else {
            return;
        };
        let topics = &subscriber.following.topics;
        let topic =
            |item: &TaggedBatch| topics.get(usize::try_from(item.tag).ok()?.checked_sub(1)?);
        let is_alone = |topic: &String| {
            let followers = self.topics.get(topic);
            topic.as_bytes() != CANCEL_TOPIC && followers.is_some_and(|it| it.len() == 1)
        };
        let undelivered: Vec<_> = items
            .into_iter()
            .filter_map(|item| {
                let topic = topic(&item).filter(|topic| is_alone(topic))?;
                Some(LinkPublication {
                    topic: topic.as_str().into(),
                    batch: item.batch,
                })
            })
            .collect();
        if !undelivered.is_empty() {
            self.events
                .push(SubscriptionEvent::Undelivered(undelivered));
        }
    }

    pub fn remove(&mut self, key: PeerKey) {
        self.full_since.remove(&key);
        let Some(subscriber) = self.subscribers.remove(&key) else {
            return;
        };
        if self.callers.get(&subscriber.origin.caller) == Some(&key) {
            self.callers.remove(&subscriber.origin.caller);
        }
        self.followers -= usize::from(subscriber.following.is_retained());
        let Subscription { topics, client } = subscriber.following;
        for topic in topics {
            if let Some(keys) = self.topics.get_mut(&topic) {
                keys.retain(|(other, _)| *other != key);
                if keys.is_empty() {
                    self.topics.remove(&topic);
                }
            }
        }
        if let Some(keys) = self.clients.get_mut(&client) {
            keys.retain(|other| *other != key);
            if keys.is_empty() {
                self.clients.remove(&client);
            }
        }
    }

    pub fn targets(&self, topic: &str) -> SmallVec<[(PeerKey, u64); 2]> {
        let clients = self.clients.get(client_of(topic));
        let clients = clients.into_iter().flatten().map(|&key| (key, 0));
        let exact = self.topics.get(topic).into_iter().flatten().copied();
        let mut targets: SmallVec<_> = exact.chain(clients).collect();
        if targets.is_empty() {
            let caller = self.callers.get(client_of(topic));
            targets.extend(caller.map(|&key| (key, 0)));
        }
        targets
    }

    pub fn has_subscriber(&self, topic: &str) -> bool {
        self.topics.contains_key(topic) || self.clients.contains_key(client_of(topic))
    }

    pub fn has_caller(&self, topic: &str) -> bool {
        self.callers.contains_key(client_of(topic))
    }

    pub fn is_retained(&self, key: PeerKey) -> bool {
        let subscriber = self.subscribers.get(&key);
        subscriber.is_some_and(|subscriber| subscriber.following.is_retained())
    }

    pub fn has_subscription(&self, key: PeerKey, following: &Subscription) -> bool {
        let subscriber = self.subscribers.get(&key);
        subscriber.is_some_and(|subscriber| subscriber.following == *following)
    }

    /// Retains these messages and later publications for the peer's next session. The messages precede those that are
    /// retained already.
    pub fn retain(&mut self, key: PeerKey, mut items: VecDeque<TaggedBatch>) {
        if let Some(subscriber) = self.subscribers.get_mut(&key) {
            items.extend(subscriber.retained.take().unwrap_or_default());
            subscriber.retained_size = BacklogSize {
                messages: message_count(&items),
                bytes: items.iter().map(|item| item.batch.bytes()).sum(),
            };
            subscriber.retained = Some(items);
        }
    }

    /// Returns how many messages are retained for a peer.
    pub fn retained(&self, key: PeerKey) -> usize {
        let subscriber = self.subscribers.get(&key);
        subscriber.map_or(0, |subscriber| subscriber.retained_size.messages)
    }

    pub fn take_retained(&mut self, key: PeerKey) -> VecDeque<TaggedBatch> {
        let Some(subscriber) = self.subscribers.get_mut(&key) else {
            return VecDeque::new();
        };
        subscriber.retained_size = BacklogSize::default();
        subscriber.retained.take().unwrap_or_default()
    }

    /// Returns whether a client's backlog pauses its calls.
    pub fn is_backlogged(&self, key: PeerKey, session: &Session) -> bool {
        let subscriber = self.subscribers.get(&key);
        let limit = PAUSE_BACKLOG.at_most(self.backlog_share());
        subscriber.is_some_and(|subscriber| subscriber.backlog(session).reaches(limit))
    }

    /// Returns since when a peer's backlog is full, if it is.
    #[inline]
    pub fn full_since(&self, key: PeerKey) -> Option<Instant> {
        self.full_since.get(&key).copied()
    }

    /// Returns whether a peer is to be disconnected, because its backlog is full and it has not read for too long.
    ///
    /// `limit` applies to subscribers; `None` if the publisher waits for them without a limit.
    pub fn is_slow_consumer(
        &self,
        key: PeerKey,
        session: &Session,
        limit: Option<Duration>,
        now: Instant,
    ) -> bool {
        let Some(full_since) = self.full_since(key) else {
            return false;
        };
        let limit = if self.is_retained(key) {
            limit
        } else {
            Some(client_stall_timeout(session))
        };
        let since = full_since.max(session.acknowledged_at());
        limit.is_some_and(|limit| now.saturating_duration_since(since) > limit)
    }

    /// Records that a peer may have acknowledged messages. Returns whether its backlog has drained.
    pub fn has_drained(&mut self, key: PeerKey, session: &Session) -> bool {
        if !self.full_since.contains_key(&key) {
            return false;
        }
        let subscriber = self.subscribers.get(&key);
        let is_full = subscriber.is_some_and(|it| {
            let limit = it.following.backlog_limit().unwrap_or(SUBSCRIBER_BACKLOG);
            let limit = limit.at_most(self.backlog_share());
            it.backlog(session).reaches(limit.half())
        });
        if !is_full {
            self.full_since.remove(&key);
        }
        !is_full
    }
}

#[cfg(test)]
mod tests;

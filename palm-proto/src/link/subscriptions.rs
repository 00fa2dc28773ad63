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

use super::session::{Session, TaggedBatch, memory_bytes, message_count};
use super::{CLIENT, MAX_NAME_BYTES, PeerKey};
use crate::budget::{self, Budget, Reservation};
use crate::id_map::IdMap;
use crate::message::proto::{self, LinkHello};
use crate::message::{Batch, client_id};
use crate::shrink::shrink;

/// The topic of cancellations. Their body lists topics of calls, one per line.
pub const CANCEL_TOPIC: &[u8] = b"\0palm.cancel";

/// The backlog of a subscriber at which the publisher waits for it. A single message of any size is accepted.
pub const SUBSCRIBER_BACKLOG: BacklogSize = BacklogSize {
    messages: 10_000,
    bytes: 64 * 1024 * 1024,
};

/// The backlog of a client at which the publisher waits for it. The client's calls are paused long before, so
/// only the results of calls that already run reach it.
const CLIENT_BACKLOG: BacklogSize = BacklogSize {
    messages: 40_000,
    bytes: 256 * 1024 * 1024,
};

/// Time after which a client with a full backlog that reads nothing is disconnected. The publisher waits until then.
///
/// A client acknowledges whole messages, so it has more time while a large one is under way: a second for each
/// [`MIN_CLIENT_RATE`], up to [`MAX_CLIENT_STALL_TIMEOUT`]. Otherwise a client on a slow network would be disconnected
/// at each large result, and run its calls again and again.
const CLIENT_STALL_TIMEOUT: Duration = Duration::from_secs(1);

/// The limit of [`CLIENT_STALL_TIMEOUT`] for large messages.
const MAX_CLIENT_STALL_TIMEOUT: Duration = Duration::from_secs(15);

/// The bytes that a client with a full backlog has to receive in each second.
const MIN_CLIENT_RATE: f64 = 1024.0 * 1024.0;

fn client_stall_timeout(session: &Session) -> Duration {
    let seconds = session.first_bytes_under_way() as f64 / MIN_CLIENT_RATE;
    (CLIENT_STALL_TIMEOUT + Duration::from_secs_f64(seconds)).min(MAX_CLIENT_STALL_TIMEOUT)
}

/// The backlog of a client at which its calls are paused: no further ones are accepted.
const PAUSE_BACKLOG: BacklogSize = BacklogSize {
    messages: 4096,
    bytes: 16 * 1024 * 1024,
};

/// Backlog that each peer may have even if `LinkOptions::max_backlog_bytes` is used up.
const MIN_BACKLOG_BYTES: usize = 64 * 1024;

/// Limit on the bytes of subscription events that the publisher has not read while it waits for subscribers.
const MAX_EVENT_BYTES: usize = 16 * 1024 * 1024;

/// Maximum number of topics of a peer.
const MAX_TOPICS: usize = 64;

/// Maximum number of downstream components in a descriptor.
pub const MAX_FOLLOWERS: usize = 1000;
/// Maximum length of that list, in bytes.
pub const MAX_FOLLOWER_BYTES: usize = 1024 * 1024;

#[derive(Debug, Clone, Copy, Default)]
pub struct BacklogSize {
    pub messages: usize,
    pub bytes: usize,
}

impl BacklogSize {
    #[inline]
    pub fn reaches(self, limit: Self) -> bool {
        self.messages >= limit.messages || self.bytes >= limit.bytes
    }

    /// Returns this limit with at most `bytes`.
    #[inline]
    pub fn at_most(self, bytes: usize) -> Self {
        Self {
            bytes: self.bytes.min(bytes),
            ..self
        }
    }

    /// Estimates the memory that the messages occupy.
    pub fn memory_bytes(self) -> usize {
        memory_bytes(self.messages, self.bytes)
    }

    #[inline]
    fn half(self) -> Self {
        Self {
            messages: self.messages / 2,
            bytes: self.bytes / 2,
        }
    }
}

/// What a peer subscribes to: exact topics, and the answers to a client, whose topics are its id, or its id and a
/// slash ahead of the rest.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Subscription {
    pub topics: Vec<String>,
    pub client: String,
}

impl Subscription {
    /// Estimates the memory that the subscription occupies.
    fn memory_bytes(&self) -> usize {
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
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::link::session::CreditWindow;
    use crate::message::BatchSizes;
    use crate::message::proto::LinkHeader;

    fn following(topics: &[&str], client: &str) -> Subscription {
        Subscription {
            topics: topics.iter().map(|&topic| topic.to_owned()).collect(),
            client: client.to_owned(),
        }
    }

    fn targets(subscriptions: &SubscriptionTable, topic: &str) -> Vec<(PeerKey, u64)> {
        let mut targets = subscriptions.targets(topic).to_vec();
        targets.sort_unstable();
        targets
    }

    #[test]
    fn publication_is_sent_to_subscribers_of_its_exact_topic_and_answers_to_their_client() {
        let mut subscriptions = SubscriptionTable::default();
        subscriptions.add(1, following(&["news", "sport"], ""));
        subscriptions.add(2, following(&["sport"], ""));
        subscriptions.add(3, following(&[], "anna"));
        assert_eq!(targets(&subscriptions, "sport"), [(1, 2), (2, 1)]);
        assert_eq!(targets(&subscriptions, "news"), [(1, 1)]);
        // Topics match exactly; a client receives the answers of all of its calls.
        assert_eq!(targets(&subscriptions, "news/today"), []);
        assert_eq!(targets(&subscriptions, "anna"), [(3, 0)]);
        assert_eq!(targets(&subscriptions, "anna/17"), [(3, 0)]);
        assert_eq!(targets(&subscriptions, "anna2/17"), []);
        for topic in ["sport", "anna/1", "absent"] {
            assert_eq!(subscriptions.has_subscriber(topic), topic != "absent");
        }
        subscriptions.remove(1);
        subscriptions.remove(3);
        assert_eq!(targets(&subscriptions, "sport"), [(2, 1)]);
        assert!(!subscriptions.has_subscriber("news") && !subscriptions.has_subscriber("anna/17"));
        subscriptions.remove(2);
        assert!(subscriptions.topics.is_empty() && subscriptions.clients.is_empty());
    }

    #[test]
    fn answer_without_a_subscriber_is_sent_to_the_client_that_called() {
        let hello = |role: &str, client: &str| LinkHello {
            role: role.to_owned(),
            name: "anna".to_owned(),
            client: client.to_owned(),
            ..LinkHello::default()
        };
        assert_eq!(PeerOrigin::from_hello(&hello(CLIENT, "")).caller, "anna");
        assert_eq!(PeerOrigin::from_hello(&hello(CLIENT, "anna")).caller, "");
        assert_eq!(PeerOrigin::from_hello(&hello("subscriber", "")).caller, "");
        let mut subscriptions = SubscriptionTable::default();
        subscriptions.add(1, following(&[], ""));
        subscriptions.set_origin(1, PeerOrigin::from_hello(&hello(CLIENT, "")));
        assert_eq!(targets(&subscriptions, "anna/17"), [(1, 0)]);
        assert!(subscriptions.has_caller("anna/17") && !subscriptions.has_caller("bert/17"));
        assert!(!subscriptions.has_subscriber("anna/17"));
        assert!(!subscriptions.clients.contains_key("anna"));
        subscriptions.add(2, following(&[], "anna"));
        assert_eq!(targets(&subscriptions, "anna/17"), [(2, 0)]);
        subscriptions.remove(2);
        assert_eq!(targets(&subscriptions, "anna/17"), [(1, 0)]);
        subscriptions.remove(1);
        assert!(subscriptions.callers.is_empty() && targets(&subscriptions, "anna/17").is_empty());
    }

    #[test]
    fn backlog_of_an_expired_subscriber_is_returned_unless_others_are_subscribed() {
        let mut subscriptions = SubscriptionTable {
            has_publisher: true,
            ..SubscriptionTable::default()
        };
        subscriptions.add(1, following(&["news", "sport"], "anna"));
        subscriptions.add(2, following(&["sport"], ""));
        subscriptions.events.clear();
        let item = |tag: u64| TaggedBatch::new(tag, vec![tag as u8].into());
        // Answers to a client, and messages with an unknown tag, are not returned.
        let items = (0..4).map(item).chain([item(u64::MAX)]).collect();
        subscriptions.return_backlog(1, items);
        let Some(SubscriptionEvent::Undelivered(undelivered)) = subscriptions.events.pop() else {
            panic!("nothing is returned_clients");
        };
        let [LinkPublication { topic, batch }] = &undelivered[..] else {
            panic!("{undelivered:?}");
        };
        assert_eq!((&**topic, &batch.frame()[..]), ("news", &[1][..]));
        subscriptions.return_backlog(2, VecDeque::from([item(1)]));
        assert!(subscriptions.events.is_empty());
        subscriptions.remove(1);
        subscriptions.return_backlog(2, VecDeque::from([item(1)]));
        assert!(matches!(
            subscriptions.events.pop(),
            Some(SubscriptionEvent::Undelivered(_))
        ));
    }

    #[test]
    fn descriptor_lists_subscribers_with_an_address_and_their_topics() {
        let hello = |db_address: &str| LinkHello {
            name: "next".to_owned(),
            db_address: db_address.to_owned(),
            ..LinkHello::default()
        };
        let mut subscriptions = SubscriptionTable::default();
        let cancelled = str::from_utf8(CANCEL_TOPIC).unwrap();
        subscriptions.add(1, following(&["news", cancelled], ""));
        assert_eq!(subscriptions.descriptor_entry(1), None, "it has no address");
        subscriptions.set_origin(1, PeerOrigin::from_hello(&hello("tcp://127.0.0.1:1")));
        let expected = proto::Follower {
            name: "next".to_owned(),
            db_address: "tcp://127.0.0.1:1".to_owned(),
            topics: vec!["news".to_owned()],
        };
        assert_eq!(subscriptions.descriptor_entry(1), Some(expected));
        subscriptions.set_origin(
            1,
            PeerOrigin::from_hello(&hello(&"x".repeat(MAX_NAME_BYTES + 1))),
        );
        assert_eq!(
            subscriptions.descriptor_entry(1),
            None,
            "its address is too long"
        );
        // A worker subscribes to cancellations only.
        subscriptions.add(2, following(&[cancelled], ""));
        subscriptions.set_origin(2, PeerOrigin::from_hello(&hello("tcp://127.0.0.1:2")));
        assert_eq!(subscriptions.descriptor_entry(2), None);
        subscriptions.remove(1);
        assert_eq!(subscriptions.descriptor_entry(1), None);
    }

    #[test]
    fn retained_publications_stay_in_order() {
        let item = |number: u8| TaggedBatch::new(0, vec![number].into());
        let mut subscriptions = SubscriptionTable::default();
        subscriptions.add(1, following(&["news"], ""));
        assert!(
            subscriptions.is_retained(1)
                && subscriptions.has_subscription(1, &following(&["news"], ""))
        );
        subscriptions.retain(1, VecDeque::from([item(2)]));
        subscriptions.retain(1, VecDeque::from([item(0), item(1)]));
        assert_eq!(subscriptions.retained(1), 3);
        let numbers = subscriptions
            .take_retained(1)
            .into_iter()
            .map(|item| item.batch.frame()[0]);
        assert!(numbers.eq(0..3));
        subscriptions.add(2, following(&[], "anna"));
        assert!(
            !subscriptions.is_retained(2),
            "publications of clients are not retained"
        );
    }

    /// A session with this backlog.
    fn session(messages: usize, bytes: usize, now: Instant) -> Session {
        let window = CreditWindow {
            messages: 0,
            bytes: 0,
        };
        let id = Bytes::from_static(&[1; 16]);
        let mut session = Session::accept(id, 1, 1, window, Duration::from_secs(9), now);
        if messages > 0 {
            session.submit(item_of(messages, bytes), now);
        }
        session
    }

    /// A batch of messages, the last of which has all of the bytes.
    fn item_of(messages: usize, bytes: usize) -> TaggedBatch {
        let mut sizes = vec![0; messages];
        sizes[messages - 1] = bytes as u32;
        let batch = Batch::from_sizes(vec![0; bytes].into(), BatchSizes::new(sizes.into()));
        TaggedBatch::from_batch(0, 0, batch.unwrap())
    }

    #[test]
    fn client_is_paused_at_exactly_the_limit_of_its_backlog() {
        let now = Instant::now();
        let mut subscriptions = SubscriptionTable::default();
        subscriptions.add(1, following(&[], "anna"));
        let is_backlogged = |subscriptions: &SubscriptionTable, messages, bytes| {
            subscriptions.is_backlogged(1, &session(messages, bytes, now))
        };
        assert!(!is_backlogged(
            &subscriptions,
            PAUSE_BACKLOG.messages - 1,
            PAUSE_BACKLOG.bytes - 1
        ));
        assert!(is_backlogged(&subscriptions, PAUSE_BACKLOG.messages, 0));
        assert!(is_backlogged(&subscriptions, 1, PAUSE_BACKLOG.bytes));
        assert!(!subscriptions.is_backlogged(2, &session(PAUSE_BACKLOG.messages, 0, now)));
        // Retained messages count too.
        subscriptions.retain(1, VecDeque::from([item_of(96, 1000)]));
        assert!(!is_backlogged(
            &subscriptions,
            PAUSE_BACKLOG.messages - 97,
            0
        ));
        assert!(is_backlogged(
            &subscriptions,
            PAUSE_BACKLOG.messages - 96,
            0
        ));
        assert!(!is_backlogged(
            &subscriptions,
            1,
            PAUSE_BACKLOG.bytes - 1001
        ));
        assert!(is_backlogged(&subscriptions, 1, PAUSE_BACKLOG.bytes - 1000));
        subscriptions.take_retained(1);
        assert!(!is_backlogged(
            &subscriptions,
            PAUSE_BACKLOG.messages - 1,
            0
        ));
    }

    #[test]
    fn full_backlog_has_drained_below_half_of_its_limit() {
        let now = Instant::now();
        let cancelled = str::from_utf8(CANCEL_TOPIC).unwrap();
        let check = |following: Subscription, limit: BacklogSize| {
            let mut subscriptions = SubscriptionTable::default();
            subscriptions.add(1, following);
            assert!(
                !subscriptions.has_drained(1, &session(0, 0, now)),
                "it was not full"
            );
            subscriptions.full_since.insert(1, now);
            let half = limit.half();
            for (messages, bytes) in [(half.messages, 0), (1, half.bytes)] {
                assert!(!subscriptions.has_drained(1, &session(messages, bytes, now)));
                assert_eq!(subscriptions.full_since(1), Some(now));
            }
            assert!(subscriptions.has_drained(1, &session(half.messages - 1, half.bytes - 1, now)));
            assert_eq!(subscriptions.full_since(1), None);
        };
        check(following(&["news"], ""), SUBSCRIBER_BACKLOG);
        check(following(&["news"], "anna"), SUBSCRIBER_BACKLOG);
        check(following(&[], "anna"), CLIENT_BACKLOG);
        let half = |limit: BacklogSize| (limit.half().messages, limit.half().bytes >> 20);
        assert_eq!(half(SUBSCRIBER_BACKLOG), (5000, 32));
        assert_eq!(half(CLIENT_BACKLOG), (20_000, 128));
        assert!(following(&[cancelled], "").backlog_limit().is_none());
    }

    #[test]
    fn peer_with_a_full_backlog_is_a_slow_consumer_after_the_timeout_without_reading() {
        let now = Instant::now();
        let limit = Duration::from_secs(10);
        let moment = Duration::from_millis(1);
        let is_slow_consumer =
            |subscriptions: &SubscriptionTable, limit, session: &Session, after| {
                subscriptions.is_slow_consumer(1, session, limit, now + after)
            };
        let mut subscriber = SubscriptionTable::default();
        subscriber.add(1, following(&["news"], ""));
        let unread = session(1, 0, now);
        assert!(!is_slow_consumer(
            &subscriber,
            Some(limit),
            &unread,
            100 * limit
        ));
        subscriber.full_since.insert(1, now);
        assert!(!is_slow_consumer(&subscriber, Some(limit), &unread, limit));
        assert!(is_slow_consumer(
            &subscriber,
            Some(limit),
            &unread,
            limit + moment
        ));
        assert!(!is_slow_consumer(&subscriber, None, &unread, 100 * limit));
        let read = session(1, 0, now + limit);
        assert!(!is_slow_consumer(
            &subscriber,
            Some(limit),
            &read,
            2 * limit
        ));
        assert!(is_slow_consumer(
            &subscriber,
            Some(limit),
            &read,
            2 * limit + moment
        ));
        // The time of a client does not depend on the limit of subscribers.
        let mut client = SubscriptionTable::default();
        client.add(1, following(&[], "anna"));
        client.full_since.insert(1, now);
        for limit in [None, Some(limit)] {
            assert!(!is_slow_consumer(
                &client,
                limit,
                &unread,
                CLIENT_STALL_TIMEOUT
            ));
            assert!(is_slow_consumer(
                &client,
                limit,
                &unread,
                CLIENT_STALL_TIMEOUT + moment
            ));
        }
    }

    #[test]
    fn client_with_a_large_message_under_way_has_time_to_receive_it() {
        let now = Instant::now();
        let moment = Duration::from_millis(1);
        let mut client = SubscriptionTable::default();
        client.add(1, following(&[], "anna"));
        client.full_since.insert(1, now);
        for (megabytes, credit, expected) in [(4, 0, 1), (4, 1, 5), (100, 1, 15)] {
            let mut session = session(1, megabytes << 20, now);
            let header = LinkHeader {
                session: Bytes::from_static(&[1; 16]),
                credit_messages: credit,
                credit_bytes: credit,
                hello: Some(LinkHello::default()),
                ..LinkHeader::default()
            };
            session.receive(now, &header, std::iter::empty(), &mut Vec::new());
            while session.transmit(now).is_some() {}
            let limit = Duration::from_secs(expected);
            assert!(!client.is_slow_consumer(1, &session, None, now + limit));
            assert!(client.is_slow_consumer(1, &session, None, now + limit + moment));
        }
    }

    #[test]
    fn client_of_an_answer_is_the_topic_up_to_the_first_slash() {
        let anna = following(&["news"], "anna");
        assert!(anna.is_of("anna") && anna.is_of("anna/1/2"));
        assert!(!anna.is_of("anna2") && !anna.is_of("news") && !anna.is_of(""));
        assert!(!following(&["news"], "").is_of(""));
    }

    #[test]
    fn new_subscriptions_are_reported_to_the_publisher() {
        let mut subscriptions = SubscriptionTable {
            has_publisher: true,
            ..SubscriptionTable::default()
        };
        subscriptions.add(1, following(&["news"], ""));
        let Some(SubscriptionEvent::Subscribed(reported, _)) = subscriptions.events.pop() else {
            panic!("nothing is reported");
        };
        assert_eq!(reported, following(&["news"], ""));
        assert!(
            subscriptions.has_subscription(1, &reported)
                && !subscriptions.has_subscription(2, &reported)
        );
        assert!(!subscriptions.has_subscription(1, &following(&["sport"], "")));
    }

    #[test]
    fn subscription_of_a_hello_is_limited() {
        let hello = |topics: usize, len: usize| LinkHello {
            topics: vec!["x".repeat(len); topics],
            ..LinkHello::default()
        };
        assert!(Subscription::from_hello(&hello(MAX_TOPICS, MAX_NAME_BYTES)).is_ok());
        assert!(Subscription::from_hello(&hello(MAX_TOPICS + 1, 1)).is_err());
        assert!(Subscription::from_hello(&hello(1, MAX_NAME_BYTES + 1)).is_err());
    }
}

//! Publications over links: who follows which topic, and the backlog of peers that are slow or away.
//!
//! A publisher waits for subscribers with a full backlog, so that they slow down their upstream; one that reads
//! nothing for too long is disconnected as a slow consumer. Answers to clients wait per client: the publisher
//! does not wait for a client, unless a single call gives more results than any client may leave unread.

use std::collections::{HashMap, VecDeque};
use std::time::{Duration, Instant};

use bytestring::ByteString;
use prost::Message as _;
use smallvec::SmallVec;
use tokio::sync::mpsc;

use super::CLIENT;
use super::accept::{LONGEST_NAME, Links, PeerKey, State, shrink};
use super::session::{Item, Session, held_bytes, messages};
use crate::budget::{self, Budget, Reservation};
use crate::cancel::CANCEL_TOPIC;
use crate::message::Group;
use crate::message::proto::{self, LinkHello};

/// The backlog of a subscriber at which the publisher waits for it. One message is accepted however large it is.
const BACKLOG: Backlog = Backlog {
    messages: 10_000,
    bytes: 64 * 1024 * 1024,
};

/// The backlog of a client at which the publisher waits for it. Its calls stop being accepted long before, so
/// only the results of calls that already run get there.
const CLIENT_BACKLOG: Backlog = Backlog {
    messages: 40_000,
    bytes: 256 * 1024 * 1024,
};

/// How long a publisher waits for a client with a full backlog that reads nothing.
const CLIENT_STALL: Duration = Duration::from_secs(1);

/// The backlog of a client from which on no further calls of it are accepted.
const BEHIND: Backlog = Backlog {
    messages: 4096,
    bytes: 16 * 1024 * 1024,
};

/// However little is free of [`LinkOptions::max_backlog_bytes`](super::LinkOptions), a peer may have so many bytes.
const LEAST_BACKLOG_BYTES: usize = 64 * 1024;

/// How many bytes of news of peers the part that publishes may leave unread, while it waits for subscribers.
const MAX_NEWS_BYTES: usize = 16 * 1024 * 1024;

/// How many topics one peer may follow.
const MOST_TOPICS: usize = 64;

/// How many followers a component lists, and how many bytes the list has at most.
const MAX_FOLLOWERS: usize = 1000;
const MAX_FOLLOWER_BYTES: usize = 1024 * 1024;

#[derive(Debug, Clone, Copy, Default)]
struct Backlog {
    messages: usize,
    bytes: usize,
}

impl Backlog {
    fn reaches(self, limit: Self) -> bool {
        self.messages >= limit.messages || self.bytes >= limit.bytes
    }

    /// With at most so many bytes.
    fn at_most(self, bytes: usize) -> Self {
        Self {
            bytes: self.bytes.min(bytes),
            ..self
        }
    }

    /// What it keeps in memory, about.
    fn held(self) -> usize {
        held_bytes(self.messages, self.bytes)
    }

    fn half(self) -> Self {
        Self {
            messages: self.messages / 2,
            bytes: self.bytes / 2,
        }
    }
}

/// What a peer follows: topics, each exactly, and the answers to a client, under its id and under what
/// goes on with a slash.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Following {
    pub(crate) topics: Vec<String>,
    pub(crate) client: String,
}

impl Following {
    /// What it keeps in memory, about.
    fn held(&self) -> usize {
        let topics: usize = self.topics.iter().map(String::len).sum();
        held_bytes(1 + self.topics.len(), topics + self.client.len())
    }

    /// What a peer says that it follows.
    pub(super) fn of(hello: &LinkHello) -> Result<Self, String> {
        let topics = &hello.topics;
        let is_too_long = |topic: &String| topic.len() > LONGEST_NAME;
        if topics.len() > MOST_TOPICS || topics.iter().chain([&hello.client]).any(is_too_long) {
            return Err(format!(
                "a peer may follow {MOST_TOPICS} topics of {LONGEST_NAME} bytes"
            ));
        }
        Ok(Self {
            topics: topics.clone(),
            client: hello.client.clone(),
        })
    }

    /// Whether answers under `topic` are its client's.
    pub(crate) fn is_of(&self, topic: &str) -> bool {
        !self.client.is_empty() && client_of(topic) == self.client
    }

    /// Whether its publications wait while it is away: not if it only follows cancellations, or the answers of
    /// a client.
    pub(super) fn has_a_place(&self) -> bool {
        self.topics
            .iter()
            .any(|topic| topic.as_bytes() != CANCEL_TOPIC)
    }

    /// The backlog at which the publisher waits for it; `None`: what is beyond its backlog is dropped.
    fn backlog_limit(&self) -> Option<Backlog> {
        if self.has_a_place() {
            Some(BACKLOG)
        } else {
            (!self.client.is_empty()).then_some(CLIENT_BACKLOG)
        }
    }
}

/// Where a peer comes from, as it says itself.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Origin {
    pub(super) name: String,
    /// The id of a client that makes calls here. An answer whose client takes none anywhere on this component
    /// goes to it: for a client that expects its answers from another component, that is an error.
    pub(super) caller: String,
    /// The component's own; empty: it has none.
    pub(super) db_address: String,
}

impl Origin {
    pub(super) fn of(hello: &LinkHello) -> Self {
        let short = |text: &String| match text.len() <= LONGEST_NAME {
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

/// What the part that publishes is told.
#[derive(Debug)]
pub(crate) enum StreamNews {
    /// A peer follows this from now on.
    Follows(Following, NewsReservation),
    /// Publications of a subscriber that is gone, which no other subscriber has received.
    Undelivered(Vec<Delivery>),
}

/// What unread news takes of [`MAX_NEWS_BYTES`].
pub(crate) type NewsReservation = Option<Reservation<()>>;

/// Messages to be published.
#[derive(Debug, Clone)]
pub(crate) struct Delivery {
    pub(crate) topic: ByteString,
    pub(crate) group: Group,
}

#[derive(Debug, Default)]
struct Follower {
    following: Following,
    origin: Origin,
    /// What waits for who comes next, once this one takes no more.
    parked: Option<VecDeque<Item>>,
    parked_size: Backlog,
}

impl Follower {
    fn backlog(&self, session: &Session) -> Backlog {
        let (messages, bytes) = session.unacknowledged();
        let parked = self.parked_size;
        Backlog {
            messages: messages + parked.messages,
            bytes: bytes + parked.bytes,
        }
    }
}

/// Who follows what.
#[derive(Debug)]
pub(super) struct Streams {
    /// How many bytes may wait for all peers together.
    max_backlog: usize,
    /// How many wait, about: what was acknowledged since the last [`recount`](Self::recount) is still counted.
    held: usize,
    /// Whether there is a part that publishes.
    pub(super) publishes: bool,
    followers: HashMap<PeerKey, Follower>,
    /// With the tag that tells the peer the topic.
    topics: HashMap<String, SmallVec<[(PeerKey, u64); 1]>>,
    clients: HashMap<String, SmallVec<[PeerKey; 1]>>,
    /// Clients that call here and take their answers elsewhere, by their id.
    callers: HashMap<String, PeerKey>,
    /// Peers whose backlog is full, and since when.
    full: HashMap<PeerKey, Instant>,
    /// To the part that publishes.
    news: Option<mpsc::UnboundedSender<StreamNews>>,
    unread_news: Budget<()>,
}

impl Default for Streams {
    fn default() -> Self {
        Self::new(usize::MAX)
    }
}

/// The client of a topic: what stands in front of the first slash.
fn client_of(topic: &str) -> &str {
    topic.split('/').next().unwrap_or(topic)
}

impl Streams {
    /// `max_backlog`: how many bytes may wait for all peers together.
    pub(super) fn new(max_backlog: usize) -> Self {
        Self {
            max_backlog,
            held: 0,
            publishes: false,
            followers: HashMap::new(),
            topics: HashMap::new(),
            clients: HashMap::new(),
            callers: HashMap::new(),
            full: HashMap::new(),
            news: None,
            unread_news: Budget::new(MAX_NEWS_BYTES),
        }
    }

    /// Whether a peer with this may be added now.
    pub(super) fn admits_news(&self, following: &Following) -> bool {
        self.news.is_none() || self.unread_news.reserve(&(), following.held()).is_some()
    }

    /// Counts what waits for peers again; to be called every tick. `session`: the session of a peer.
    pub(super) fn recount<'a>(&mut self, session: impl Fn(PeerKey) -> Option<&'a Session>) {
        let backlogs = self.followers.iter().filter_map(|(&key, follower)| {
            let backlog = follower.backlog(session(key)?);
            Some(backlog.held())
        });
        self.held = backlogs.sum();
    }

    /// Returns memory that it took for more peers than there are.
    pub(super) fn shrink(&mut self) {
        shrink(&mut self.followers);
        shrink(&mut self.topics);
        shrink(&mut self.clients);
        shrink(&mut self.callers);
    }

    /// How many bytes may wait for any single peer.
    fn backlog_share(&self) -> usize {
        let free = self.max_backlog.saturating_sub(self.held);
        let share = free.saturating_mul(budget::THRESHOLD);
        share.max(LEAST_BACKLOG_BYTES)
    }

    pub(super) fn add(&mut self, key: PeerKey, following: Following) {
        for (index, topic) in following.topics.iter().enumerate() {
            let place = self.topics.entry(topic.clone()).or_default();
            place.push((key, index as u64 + 1));
        }
        if !following.client.is_empty() {
            let place = self.clients.entry(following.client.clone()).or_default();
            place.push(key);
        }
        if let Some(news) = &self.news {
            let reservation = self.unread_news.reserve(&(), following.held());
            // Without a taker the component has stopped.
            let _ = news.send(StreamNews::Follows(following.clone(), reservation));
        }
        let follower = Follower {
            following,
            ..Follower::default()
        };
        self.followers.insert(key, follower);
    }

    /// Says where a peer that was added comes from.
    pub(super) fn set_origin(&mut self, key: PeerKey, origin: Origin) {
        if let Some(follower) = self.followers.get_mut(&key) {
            if !origin.caller.is_empty() {
                self.callers.insert(origin.caller.clone(), key);
            }
            follower.origin = origin;
        }
    }

    /// A follower as the descriptor lists it: one that follows topics and has a `db_address`.
    fn described(&self, key: PeerKey) -> Option<proto::Follower> {
        let Follower {
            following, origin, ..
        } = self.followers.get(&key)?;
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

    /// Returns the backlog of a subscriber that is not coming back to the part that publishes, except for messages
    /// that others follow as well.
    pub(super) fn return_backlog(&mut self, key: PeerKey, items: VecDeque<Item>) {
        let (Some(follower), Some(news)) = (self.followers.get(&key), &self.news) else {
            return;
        };
        let topics = &follower.following.topics;
        let topic = |item: &Item| topics.get(usize::try_from(item.tag).ok()?.checked_sub(1)?);
        let is_alone = |topic: &String| {
            let followers = self.topics.get(topic);
            topic.as_bytes() != CANCEL_TOPIC && followers.is_some_and(|it| it.len() == 1)
        };
        let undelivered: Vec<_> = items
            .into_iter()
            .filter_map(|item| {
                let topic = topic(&item).filter(|topic| is_alone(topic))?;
                Some(Delivery {
                    topic: topic.as_str().into(),
                    group: item.group,
                })
            })
            .collect();
        if !undelivered.is_empty() {
            // Without a receiver the component has stopped.
            let _ = news.send(StreamNews::Undelivered(undelivered));
        }
    }

    pub(super) fn remove(&mut self, key: PeerKey) {
        self.full.remove(&key);
        let Some(follower) = self.followers.remove(&key) else {
            return;
        };
        if self.callers.get(&follower.origin.caller) == Some(&key) {
            self.callers.remove(&follower.origin.caller);
        }
        let Following { topics, client } = follower.following;
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

    fn targets(&self, topic: &str) -> SmallVec<[(PeerKey, u64); 2]> {
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

    fn has(&self, topic: &str) -> bool {
        self.topics.contains_key(topic) || self.clients.contains_key(client_of(topic))
    }

    fn has_caller(&self, topic: &str) -> bool {
        self.callers.contains_key(client_of(topic))
    }

    pub(super) fn has_a_place(&self, key: PeerKey) -> bool {
        let follower = self.followers.get(&key);
        follower.is_some_and(|follower| follower.following.has_a_place())
    }

    pub(super) fn follows(&self, key: PeerKey, following: &Following) -> bool {
        let follower = self.followers.get(&key);
        follower.is_some_and(|follower| follower.following == *following)
    }

    /// From now on what is published for a peer waits, behind these, for who comes next; they go in front of
    /// what waits already.
    pub(super) fn park(&mut self, key: PeerKey, mut items: VecDeque<Item>) {
        if let Some(follower) = self.followers.get_mut(&key) {
            items.extend(follower.parked.take().unwrap_or_default());
            follower.parked_size = Backlog {
                messages: messages(&items),
                bytes: items.iter().map(|item| item.group.bytes()).sum(),
            };
            follower.parked = Some(items);
        }
    }

    /// How many wait for who comes next.
    pub(super) fn parked(&self, key: PeerKey) -> usize {
        let follower = self.followers.get(&key);
        follower.map_or(0, |follower| follower.parked_size.messages)
    }

    pub(super) fn take_parked(&mut self, key: PeerKey) -> VecDeque<Item> {
        let Some(follower) = self.followers.get_mut(&key) else {
            return VecDeque::new();
        };
        follower.parked_size = Backlog::default();
        follower.parked.take().unwrap_or_default()
    }

    /// Whether a client is to make no further calls for now.
    pub(super) fn is_behind(&self, key: PeerKey, session: &Session) -> bool {
        let follower = self.followers.get(&key);
        let limit = BEHIND.at_most(self.backlog_share());
        follower.is_some_and(|follower| follower.backlog(session).reaches(limit))
    }

    /// Since when a peer's backlog is full, if it is.
    pub(super) fn full_since(&self, key: PeerKey) -> Option<Instant> {
        self.full.get(&key).copied()
    }

    /// Whether a peer with a full backlog has read nothing for so long that others are not to wait for it any
    /// more. `limit`: of a subscriber; `None`: it is waited for.
    pub(super) fn is_too_slow(
        &self,
        key: PeerKey,
        session: &Session,
        limit: Option<Duration>,
        now: Instant,
    ) -> bool {
        let Some(full_since) = self.full_since(key) else {
            return false;
        };
        let limit = if self.has_a_place(key) {
            limit
        } else {
            Some(CLIENT_STALL)
        };
        let since = full_since.max(session.acknowledged_at());
        limit.is_some_and(|limit| now.saturating_duration_since(since) > limit)
    }

    /// Something may have been taken. Tells whether there is room again where there was none.
    pub(super) fn drained(&mut self, key: PeerKey, session: &Session) -> bool {
        if !self.full.contains_key(&key) {
            return false;
        }
        let follower = self.followers.get(&key);
        let is_full = follower.is_some_and(|it| {
            let limit = it.following.backlog_limit().unwrap_or(BACKLOG);
            let limit = limit.at_most(self.backlog_share());
            it.backlog(session).reaches(limit.half())
        });
        if !is_full {
            self.full.remove(&key);
        }
        !is_full
    }
}

impl Links {
    /// There is a part that publishes. Of several the first one does; tells what is followed from now on.
    pub(crate) fn publish_here(&self) -> Option<mpsc::UnboundedReceiver<StreamNews>> {
        let streams = &mut self.state().streams;
        if std::mem::replace(&mut streams.publishes, true) {
            return None;
        }
        let (sender, news) = mpsc::unbounded_channel();
        streams.news = Some(sender);
        Some(news)
    }

    /// Whether a client takes the answers under `topic` here.
    pub(crate) fn has_client(&self, topic: &str) -> bool {
        let clients = &self.state().streams.clients;
        clients.contains_key(client_of(topic))
    }

    /// The components that follow this one and are connected, as its descriptor lists them: at most
    /// [`MAX_FOLLOWERS`], and [`MAX_FOLLOWER_BYTES`].
    pub(crate) fn followers(&self) -> Vec<proto::Follower> {
        let state = self.state();
        let there = state.peers.iter().filter(|(_, peer)| peer.is_there());
        let described = there.filter_map(|(&key, _)| state.streams.described(key));
        let mut bytes = 0;
        let mut followers: Vec<_> = described
            .take_while(|follower| {
                bytes += follower.encoded_len();
                bytes <= MAX_FOLLOWER_BYTES
            })
            .take(MAX_FOLLOWERS)
            .collect();
        drop(state);
        followers.sort_by(|one, other| {
            (&one.name, &one.db_address).cmp(&(&other.name, &other.db_address))
        });
        followers
    }

    /// Whether `topic` is that of a client that calls here and takes its answers elsewhere.
    pub(crate) fn is_caller(&self, topic: &str) -> bool {
        self.state().streams.has_caller(topic)
    }

    /// Whether somebody follows `topic`.
    pub(crate) fn is_followed(&self, topic: &str) -> bool {
        self.state().streams.has(topic)
    }

    /// Gives messages to all who follow their topics. What those do not take waits; see
    /// [`room`](Self::room). What nobody follows any more is left.
    pub(crate) fn publish(&self, deliveries: &mut Vec<Delivery>) {
        if deliveries.is_empty() {
            return;
        }
        let now = self.now();
        let mut state = self.state();
        let mut unheard = Vec::new();
        for run in deliveries.chunk_by(|one, next| one.topic == next.topic) {
            if !state.publish(run, now) {
                unheard.extend_from_slice(run);
            }
        }
        deliveries.clear();
        deliveries.append(&mut unheard);
        self.flush(&mut state, now);
    }

    /// Whether [`settled`](Self::settled) would wait.
    pub(crate) fn is_settling(&self) -> bool {
        let settled_at = self.state().settled_at;
        settled_at.is_some_and(|at| at > Instant::now())
    }

    /// Waits, after a restart, until those who were here before have had time to come back: what is published
    /// before then would be missed by some. Cancel safe.
    pub(crate) async fn settled(&self) {
        let settled_at = self.state().settled_at;
        if let Some(at) = settled_at {
            tokio::time::sleep_until(at.into()).await;
        }
    }

    /// Waits until no peer's backlog is full. Cancel safe.
    pub(crate) async fn room(&self) {
        self.until(|state| state.streams.full.is_empty()).await;
    }
}

impl State {
    /// Publishes messages under one topic. Tells whether anybody follows that.
    fn publish(&mut self, run: &[Delivery], now: Instant) -> bool {
        let targets = run.first().map(|first| self.streams.targets(&first.topic));
        let targets = targets.unwrap_or_default();
        for &(key, tag) in &targets {
            let share = self.streams.backlog_share();
            let follower = self.streams.followers.get_mut(&key);
            let (Some(follower), Some(peer)) = (follower, self.peers.get_mut(&key)) else {
                continue;
            };
            let limit = follower.following.backlog_limit();
            let limit = limit.map(|limit| limit.at_most(share));
            if limit.is_none() && follower.backlog(&peer.session).reaches(BACKLOG) {
                // Cancellations: the calls run to their end.
                continue;
            }
            let groups = run.iter().map(|delivery| &delivery.group);
            let items = groups.clone().map(|group| Item::of(tag, 0, group.clone()));
            let held = |group: &Group| held_bytes(group.len(), group.bytes());
            self.streams.held += groups.clone().map(held).sum::<usize>();
            match &mut follower.parked {
                Some(parked) => {
                    let size = &mut follower.parked_size;
                    size.messages += groups.clone().map(Group::len).sum::<usize>();
                    size.bytes += groups.map(Group::bytes).sum::<usize>();
                    parked.extend(items);
                }
                None => {
                    items.for_each(|item| peer.session.submit(item, now));
                    peer.stir(&mut self.stirred);
                }
            }
            if limit.is_some_and(|limit| follower.backlog(&peer.session).reaches(limit)) {
                self.streams.full.entry(key).or_insert(now);
            }
            peer.settle(&self.streams, &self.inputs);
        }
        !targets.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::link::session::Window;
    use crate::message::Sizes;

    fn following(topics: &[&str], client: &str) -> Following {
        Following {
            topics: topics.iter().map(|&topic| topic.to_owned()).collect(),
            client: client.to_owned(),
        }
    }

    fn targets(streams: &Streams, topic: &str) -> Vec<(PeerKey, u64)> {
        let mut targets = streams.targets(topic).to_vec();
        targets.sort_unstable();
        targets
    }

    #[test]
    fn who_follows_a_topic_gets_it() {
        let mut streams = Streams::default();
        streams.add(1, following(&["news", "sport"], ""));
        streams.add(2, following(&["sport"], ""));
        streams.add(3, following(&[], "anna"));
        assert_eq!(targets(&streams, "sport"), [(1, 2), (2, 1)]);
        assert_eq!(targets(&streams, "news"), [(1, 1)]);
        // Topics are followed exactly, and clients with all of their calls.
        assert_eq!(targets(&streams, "news/today"), []);
        assert_eq!(targets(&streams, "anna"), [(3, 0)]);
        assert_eq!(targets(&streams, "anna/17"), [(3, 0)]);
        assert_eq!(targets(&streams, "anna2/17"), []);
        for topic in ["sport", "anna/1", "nobody"] {
            assert_eq!(streams.has(topic), topic != "nobody");
        }
        streams.remove(1);
        streams.remove(3);
        assert_eq!(targets(&streams, "sport"), [(2, 1)]);
        assert!(!streams.has("news") && !streams.has("anna/17"));
        streams.remove(2);
        assert!(streams.topics.is_empty() && streams.clients.is_empty());
    }

    #[test]
    fn a_client_that_takes_its_answers_elsewhere_is_answered_where_it_calls_if_nobody_else_is() {
        let hello = |role: &str, client: &str| LinkHello {
            role: role.to_owned(),
            name: "anna".to_owned(),
            client: client.to_owned(),
            ..LinkHello::default()
        };
        assert_eq!(Origin::of(&hello(CLIENT, "")).caller, "anna");
        assert_eq!(Origin::of(&hello(CLIENT, "anna")).caller, "");
        assert_eq!(Origin::of(&hello("subscriber", "")).caller, "");
        let mut streams = Streams::default();
        streams.add(1, following(&[], ""));
        streams.set_origin(1, Origin::of(&hello(CLIENT, "")));
        assert_eq!(targets(&streams, "anna/17"), [(1, 0)]);
        assert!(streams.has_caller("anna/17") && !streams.has_caller("bert/17"));
        assert!(!streams.has("anna/17"));
        assert!(!streams.clients.contains_key("anna"));
        streams.add(2, following(&[], "anna"));
        assert_eq!(targets(&streams, "anna/17"), [(2, 0)]);
        streams.remove(2);
        assert_eq!(targets(&streams, "anna/17"), [(1, 0)]);
        streams.remove(1);
        assert!(streams.callers.is_empty() && targets(&streams, "anna/17").is_empty());
    }

    #[test]
    fn the_backlog_of_a_subscriber_that_is_gone_is_returned_unless_others_follow() {
        let (sender, mut news) = mpsc::unbounded_channel();
        let mut streams = Streams {
            news: Some(sender),
            ..Streams::default()
        };
        streams.add(1, following(&["news", "sport"], "anna"));
        streams.add(2, following(&["sport"], ""));
        while let Ok(StreamNews::Follows(..)) = news.try_recv() {}
        let item = |tag: u64| Item::new(tag, vec![tag as u8].into());
        // Items for the client, and for topics that it does not follow, have no caller to be answered.
        let items = (0..4).map(item).chain([item(u64::MAX)]).collect();
        streams.return_backlog(1, items);
        let Ok(StreamNews::Undelivered(undelivered)) = news.try_recv() else {
            panic!("nothing is returned");
        };
        let [Delivery { topic, group }] = &undelivered[..] else {
            panic!("{undelivered:?}");
        };
        assert_eq!((&**topic, &group.frame()[..]), ("news", &[1][..]));
        streams.return_backlog(2, VecDeque::from([item(1)]));
        assert!(news.try_recv().is_err());
        streams.remove(1);
        streams.return_backlog(2, VecDeque::from([item(1)]));
        assert!(matches!(news.try_recv(), Ok(StreamNews::Undelivered(_))));
    }

    #[test]
    fn followers_are_listed_with_the_topics_of_messages() {
        let hello = |db_address: &str| LinkHello {
            name: "next".to_owned(),
            db_address: db_address.to_owned(),
            ..LinkHello::default()
        };
        let mut streams = Streams::default();
        let cancelled = str::from_utf8(CANCEL_TOPIC).unwrap();
        streams.add(1, following(&["news", cancelled], ""));
        assert_eq!(streams.described(1), None, "it has no address");
        streams.set_origin(1, Origin::of(&hello("tcp://127.0.0.1:1")));
        let expected = proto::Follower {
            name: "next".to_owned(),
            db_address: "tcp://127.0.0.1:1".to_owned(),
            topics: vec!["news".to_owned()],
        };
        assert_eq!(streams.described(1), Some(expected));
        streams.set_origin(1, Origin::of(&hello(&"x".repeat(LONGEST_NAME + 1))));
        assert_eq!(streams.described(1), None, "its address is too long");
        // A worker receives cancellations, and nothing else.
        streams.add(2, following(&[cancelled], ""));
        streams.set_origin(2, Origin::of(&hello("tcp://127.0.0.1:2")));
        assert_eq!(streams.described(2), None);
        streams.remove(1);
        assert_eq!(streams.described(1), None);
    }

    #[test]
    fn what_waits_for_who_comes_next_stays_in_order() {
        let item = |number: u8| Item::new(0, vec![number].into());
        let mut streams = Streams::default();
        streams.add(1, following(&["news"], ""));
        assert!(streams.has_a_place(1) && streams.follows(1, &following(&["news"], "")));
        streams.park(1, VecDeque::from([item(2)]));
        streams.park(1, VecDeque::from([item(0), item(1)]));
        assert_eq!(streams.parked(1), 3);
        let numbers = streams
            .take_parked(1)
            .into_iter()
            .map(|item| item.group.frame()[0]);
        assert!(numbers.eq(0..3));
        streams.add(2, following(&[], "anna"));
        assert!(
            !streams.has_a_place(2),
            "nobody comes in the place of a client"
        );
    }

    /// A session whose peer has acknowledged none of so many messages and bytes.
    fn session(messages: usize, bytes: usize, now: Instant) -> Session {
        let window = Window {
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

    /// Messages of which the last one has all of the bytes.
    fn item_of(messages: usize, bytes: usize) -> Item {
        let mut sizes = vec![0; messages];
        sizes[messages - 1] = bytes as u32;
        let group = Group::of(vec![0; bytes].into(), Sizes::new(sizes.into()));
        Item::of(0, 0, group.unwrap())
    }

    #[test]
    fn client_that_leaves_many_answers_unread_is_behind_from_exactly_the_limit_on() {
        let now = Instant::now();
        let mut streams = Streams::default();
        streams.add(1, following(&[], "anna"));
        let is_behind = |streams: &Streams, messages, bytes| {
            streams.is_behind(1, &session(messages, bytes, now))
        };
        assert!(!is_behind(&streams, BEHIND.messages - 1, BEHIND.bytes - 1));
        assert!(is_behind(&streams, BEHIND.messages, 0));
        assert!(is_behind(&streams, 1, BEHIND.bytes));
        assert!(!streams.is_behind(2, &session(BEHIND.messages, 0, now)));
        // What waits for its next session counts too.
        streams.park(1, VecDeque::from([item_of(96, 1000)]));
        assert!(!is_behind(&streams, BEHIND.messages - 97, 0));
        assert!(is_behind(&streams, BEHIND.messages - 96, 0));
        assert!(!is_behind(&streams, 1, BEHIND.bytes - 1001));
        assert!(is_behind(&streams, 1, BEHIND.bytes - 1000));
        streams.take_parked(1);
        assert!(!is_behind(&streams, BEHIND.messages - 1, 0));
    }

    #[test]
    fn full_backlog_is_drained_below_half_of_its_limit() {
        let now = Instant::now();
        let cancelled = str::from_utf8(CANCEL_TOPIC).unwrap();
        let check = |following: Following, limit: Backlog| {
            let mut streams = Streams::default();
            streams.add(1, following);
            assert!(!streams.drained(1, &session(0, 0, now)), "it was not full");
            streams.full.insert(1, now);
            let half = limit.half();
            for (messages, bytes) in [(half.messages, 0), (1, half.bytes)] {
                assert!(!streams.drained(1, &session(messages, bytes, now)));
                assert_eq!(streams.full_since(1), Some(now));
            }
            assert!(streams.drained(1, &session(half.messages - 1, half.bytes - 1, now)));
            assert_eq!(streams.full_since(1), None);
        };
        check(following(&["news"], ""), BACKLOG);
        check(following(&["news"], "anna"), BACKLOG);
        check(following(&[], "anna"), CLIENT_BACKLOG);
        let half = |limit: Backlog| (limit.half().messages, limit.half().bytes >> 20);
        assert_eq!(half(BACKLOG), (5000, 32));
        assert_eq!(half(CLIENT_BACKLOG), (20_000, 128));
        assert!(following(&[cancelled], "").backlog_limit().is_none());
    }

    #[test]
    fn peer_with_a_full_backlog_is_too_slow_once_its_limit_has_passed_since_it_read() {
        let now = Instant::now();
        let limit = Duration::from_secs(10);
        let moment = Duration::from_millis(1);
        let is_too_slow = |streams: &Streams, limit, session: &Session, after| {
            streams.is_too_slow(1, session, limit, now + after)
        };
        let mut subscriber = Streams::default();
        subscriber.add(1, following(&["news"], ""));
        let unread = session(1, 0, now);
        assert!(!is_too_slow(&subscriber, Some(limit), &unread, 100 * limit));
        subscriber.full.insert(1, now);
        assert!(!is_too_slow(&subscriber, Some(limit), &unread, limit));
        assert!(is_too_slow(
            &subscriber,
            Some(limit),
            &unread,
            limit + moment
        ));
        assert!(!is_too_slow(&subscriber, None, &unread, 100 * limit));
        let read = session(1, 0, now + limit);
        assert!(!is_too_slow(&subscriber, Some(limit), &read, 2 * limit));
        assert!(is_too_slow(
            &subscriber,
            Some(limit),
            &read,
            2 * limit + moment
        ));
        // A client holds up others for a moment only, whatever the limit of subscribers.
        let mut client = Streams::default();
        client.add(1, following(&[], "anna"));
        client.full.insert(1, now);
        for limit in [None, Some(limit)] {
            assert!(!is_too_slow(&client, limit, &unread, CLIENT_STALL));
            assert!(is_too_slow(&client, limit, &unread, CLIENT_STALL + moment));
        }
    }

    #[test]
    fn answers_belong_to_the_client_that_is_named_before_the_first_slash() {
        let anna = following(&["news"], "anna");
        assert!(anna.is_of("anna") && anna.is_of("anna/1/2"));
        assert!(!anna.is_of("anna2") && !anna.is_of("news") && !anna.is_of(""));
        assert!(!following(&["news"], "").is_of(""));
    }

    #[test]
    fn followers_are_told_to_the_part_that_publishes() {
        let (sender, mut news) = mpsc::unbounded_channel();
        let mut streams = Streams {
            news: Some(sender),
            ..Streams::default()
        };
        streams.add(1, following(&["news"], ""));
        let Ok(StreamNews::Follows(told, _)) = news.try_recv() else {
            panic!("nothing is told");
        };
        assert_eq!(told, following(&["news"], ""));
        assert!(streams.follows(1, &told) && !streams.follows(2, &told));
        assert!(!streams.follows(1, &following(&["sport"], "")));
    }

    #[test]
    fn a_peer_says_what_it_follows_within_limits() {
        let hello = |topics: usize, len: usize| LinkHello {
            topics: vec!["x".repeat(len); topics],
            ..LinkHello::default()
        };
        assert!(Following::of(&hello(MOST_TOPICS, LONGEST_NAME)).is_ok());
        assert!(Following::of(&hello(MOST_TOPICS + 1, 1)).is_err());
        assert!(Following::of(&hello(1, LONGEST_NAME + 1)).is_err());
    }
}

//! The peers that the messages of a socket go to.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use palm_proto::budget::IdLedger;
use palm_proto::id_map::IdMap;
use smallvec::SmallVec;

use super::super::kind::Kind;
use super::super::subscriptions::{SubscriptionEvent, SubscriptionRequest, Subscriptions};
use super::peer::{Peer, Rejected};
use super::writer::WriteBy;
use crate::socket::{Frames, TrySendError};

/// The peers that have completed their handshake, in the order in which a socket of its kind sends to them.
#[derive(Debug)]
pub(super) enum Recipients {
    /// PUSH and DEALER: each message goes to the next peer with capacity.
    InTurn(Rotation),
    /// ROUTER: the first frame of a message names its peer.
    ByRoutingId(HashMap<Bytes, Arc<Peer>>),
    /// PUB: each message goes to the subscribers of its first frame.
    ByTopic(Subscribers),
    /// SUB: all peers have the same subscriptions.
    Publishers(Publishers),
    /// PULL.
    None,
}

#[derive(Debug, Default)]
pub(super) struct Rotation {
    peers: Vec<Arc<Peer>>,
    next: usize,
    /// Whether messages that were not encoded when their peer left go to another one: those of a PUSH do. Those of a
    /// DEALER are dropped, because a link starts each connection with an introduction.
    keeps_unsent: bool,
    /// Messages that are kept, for the next peer.
    unsent: Vec<Frames>,
}

#[derive(Debug)]
pub(super) struct Subscribers {
    peers: IdMap<Arc<Peer>>,
    subscriptions: Subscriptions,
    /// The bytes of the subscriptions of each peer.
    bytes: IdLedger,
}

#[derive(Debug, Default)]
pub(super) struct Publishers {
    peers: Vec<Arc<Peer>>,
    /// The prefixes that the socket subscribes to, once for each subscription.
    subscribed: Vec<Bytes>,
}

/// Limit of the subscriptions at a PUB, in bytes, of which a subscriber may have a dynamic threshold.
const MAX_SUBSCRIPTION_BYTES: usize = 64 * 1024 * 1024;

/// What a subscription counts besides its prefix.
const SUBSCRIPTION_COST: usize = 128;

/// The subscribers of a topic. Most topics have few.
type Matching<'a> = SmallVec<[&'a Arc<Peer>; 4]>;

impl Recipients {
    pub(super) fn new(kind: Kind) -> Self {
        match kind {
            Kind::Push | Kind::Dealer => Self::InTurn(Rotation {
                keeps_unsent: kind == Kind::Push,
                ..Rotation::default()
            }),
            Kind::Router => Self::ByRoutingId(HashMap::new()),
            Kind::Publish => Self::ByTopic(Subscribers {
                peers: IdMap::default(),
                subscriptions: Subscriptions::default(),
                bytes: IdLedger::new(MAX_SUBSCRIPTION_BYTES),
            }),
            Kind::Subscribe => Self::Publishers(Publishers::default()),
            Kind::Pull => Self::None,
        }
    }

    /// Adds a peer that has completed its handshake.
    pub(super) fn add(&mut self, id: &Bytes, peer: &Arc<Peer>) -> Result<(), Rejected> {
        match self {
            Self::InTurn(rotation) => {
                for frames in rotation.unsent.drain(..) {
                    peer.queue_any(frames);
                }
                rotation.peers.push(peer.clone());
            }
            Self::ByRoutingId(peers) => match peers.entry(id.clone()) {
                Entry::Vacant(entry) => {
                    entry.insert(peer.clone());
                }
                // A peer that has connected again tries until its former connection has ended.
                Entry::Occupied(_) => return Err(Rejected::RoutingIdInUse),
            },
            Self::ByTopic(subscribers) => {
                subscribers.peers.insert(peer.number, peer.clone());
            }
            Self::Publishers(publishers) => {
                for prefix in &publishers.subscribed {
                    peer.queue_any(SubscriptionRequest::Subscribe(prefix.clone()).into_message());
                }
                publishers.peers.push(peer.clone());
            }
            Self::None => {}
        }
        Ok(())
    }

    /// Removes a peer that has left.
    pub(super) fn remove(&mut self, id: &Bytes, peer: &Peer) {
        match self {
            Self::InTurn(rotation) => rotation.remove(peer),
            Self::ByRoutingId(peers) => {
                peers.remove(id);
            }
            Self::ByTopic(subscribers) => {
                subscribers.peers.remove(&peer.number);
                subscribers.subscriptions.remove_peer(peer.number);
                subscribers.bytes.release_all(&peer.number);
            }
            Self::Publishers(publishers) => {
                publishers.peers.retain(|it| it.number != peer.number);
            }
            Self::None => {}
        }
    }

    /// Queues a message for its peers: for all of them, or for none if one has no capacity. A message that has no peer is
    /// dropped at a ROUTER and a PUB, and returned otherwise. Returns the peer that the caller has to
    /// [write to](Peer::write_now), without a lock on `self`.
    pub(super) fn try_send(
        &mut self,
        frames: Frames,
        queue_len: usize,
        by: WriteBy,
    ) -> Result<Option<Arc<Peer>>, TrySendError<Frames>> {
        match self {
            Self::InTurn(rotation) => rotation.try_send(frames, queue_len, by),
            Self::ByRoutingId(peers) => match frames.first().and_then(|id| peers.get(id)) {
                Some(peer) => Ok(peer.queue(frames, queue_len, by)?.then(|| peer.clone())),
                None => Ok(None),
            },
            Self::ByTopic(subscribers) => {
                let peers = subscribers.matching(&frames);
                // Messages are only added while `self` is borrowed. Each full queue records that a message waits for it.
                let full = peers.iter().filter(|it| !it.has_capacity(queue_len));
                if full.count() > 0 {
                    return Err(TrySendError::Full(frames));
                }
                if let Some((last, others)) = peers.split_last() {
                    for peer in others {
                        peer.queue_any(frames.clone());
                    }
                    last.queue_any(frames);
                }
                Ok(None)
            }
            Self::Publishers(_) | Self::None => Err(TrySendError::Full(frames)),
        }
    }

    /// Adds or revokes a subscription of a peer. Returns the change, unless there is none.
    pub(super) fn request_subscription(
        &mut self,
        peer: &Peer,
        request: SubscriptionRequest,
    ) -> Result<Option<SubscriptionEvent>, Rejected> {
        match self {
            Self::ByTopic(subscribers) => subscribers.request(peer, request),
            _ => Ok(None),
        }
    }

    /// Returns the subscriptions of all subscribers of a PUB.
    pub(super) fn subscriptions(&self) -> Option<&Subscriptions> {
        match self {
            Self::ByTopic(subscribers) => Some(&subscribers.subscriptions),
            _ => None,
        }
    }

    /// Adds or revokes a subscription of a SUB. A publisher that does not read them is disconnected: the next connection
    /// begins with the subscriptions of then.
    pub(super) fn change_subscription(&mut self, request: &SubscriptionRequest, queue_len: usize) {
        let Self::Publishers(Publishers { peers, subscribed }) = self else {
            return;
        };
        match request {
            SubscriptionRequest::Subscribe(prefix) => subscribed.push(prefix.clone()),
            SubscriptionRequest::Cancel(prefix) => {
                let Some(position) = subscribed.iter().position(|it| it == prefix) else {
                    return;
                };
                subscribed.swap_remove(position);
            }
        }
        for peer in peers {
            if peer
                .queue(request.clone().into_message(), queue_len, WriteBy::Task)
                .is_err()
            {
                peer.closed.cancel();
            }
        }
    }

    /// Returns the subscribers of a message of a PUB that have no capacity, with the time since which they read nothing.
    pub(super) fn stalled(&self, frames: &Frames) -> Vec<(Arc<Peer>, Instant)> {
        let Self::ByTopic(subscribers) = self else {
            return Vec::new();
        };
        let peers = subscribers.matching(frames);
        let stalled = peers
            .into_iter()
            .filter_map(|peer| Some((peer.clone(), peer.full_since()?)));
        stalled.collect()
    }
}

impl Rotation {
    fn try_send(
        &mut self,
        mut frames: Frames,
        queue_len: usize,
        by: WriteBy,
    ) -> Result<Option<Arc<Peer>>, TrySendError<Frames>> {
        for _ in 0..self.peers.len() {
            let peer = &self.peers[self.next % self.peers.len()];
            self.next = (self.next + 1) % self.peers.len();
            frames = match peer.queue(frames, queue_len, by) {
                Err(TrySendError::Full(frames)) => frames,
                sent => return Ok(sent?.then(|| peer.clone())),
            };
        }
        Err(TrySendError::Full(frames))
    }

    fn remove(&mut self, peer: &Peer) {
        let Some(position) = self.peers.iter().position(|it| it.number == peer.number) else {
            return;
        };
        self.peers.remove(position);
        if self.next > position {
            self.next -= 1;
        }
        if !self.keeps_unsent {
            return;
        }
        let unsent = peer.take_unsent();
        match self.peers.get(self.next % self.peers.len().max(1)) {
            Some(next) => unsent.into_iter().for_each(|frames| next.queue_any(frames)),
            None => self.unsent.extend(unsent),
        }
    }
}

impl Subscribers {
    fn request(
        &mut self,
        peer: &Peer,
        request: SubscriptionRequest,
    ) -> Result<Option<SubscriptionEvent>, Rejected> {
        let number = peer.number;
        match request {
            SubscriptionRequest::Subscribe(prefix) => {
                let bytes = prefix.len() + SUBSCRIPTION_COST;
                if !self.bytes.capacity(&number).admits(bytes) {
                    return Err(Rejected::TooManySubscriptions);
                }
                self.bytes.add(number, bytes);
                // The received one is a part of a larger buffer.
                let prefix = Bytes::copy_from_slice(&prefix);
                self.subscriptions
                    .add(number, prefix.clone(), peer.connected);
                Ok(Some(SubscriptionEvent::Added(
                    number,
                    prefix,
                    peer.connected,
                )))
            }
            SubscriptionRequest::Cancel(prefix) => {
                if !self.subscriptions.remove(number, &prefix) {
                    return Ok(None);
                }
                self.bytes
                    .release(&number, prefix.len() + SUBSCRIPTION_COST);
                Ok(Some(SubscriptionEvent::Removed(number, prefix)))
            }
        }
    }

    fn matching(&self, frames: &Frames) -> Matching<'_> {
        let Some(topic) = frames.first() else {
            return Matching::new();
        };
        let mut numbers: SmallVec<[u64; 4]> = self.subscriptions.subscribers(topic).collect();
        // A peer may have several subscriptions that match.
        numbers.sort_unstable();
        numbers.dedup();
        let peers = numbers.iter().filter_map(|number| self.peers.get(number));
        peers.collect()
    }
}

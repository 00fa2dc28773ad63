//! Publications and answers: how they reach the sessions of subscribers and clients.

use std::time::Instant;

use prost::Message as _;
use tokio::sync::mpsc;

use super::{LinkServer, ServerState};
use crate::clock;
use crate::link::session::{TaggedBatch, memory_bytes};
use crate::link::subscriptions::{
    LinkPublication, MAX_FOLLOWER_BYTES, MAX_FOLLOWERS, SUBSCRIBER_BACKLOG, SubscriptionEvent,
    client_of,
};
use crate::message::Batch;
use crate::message::proto;

impl LinkServer {
    /// Registers the part that publishes, and returns the events for it; `None` if another part is registered.
    pub(crate) fn claim_publications(&self) -> Option<mpsc::UnboundedReceiver<SubscriptionEvent>> {
        let mut state = self.state();
        if std::mem::replace(&mut state.subscriptions.has_publisher, true) {
            return None;
        }
        let (sender, events) = mpsc::unbounded_channel();
        state.publisher = Some(sender);
        Some(events)
    }

    /// Returns whether a client receives the answers under `topic` from this component.
    pub(crate) fn has_client(&self, topic: &str) -> bool {
        let clients = &self.state().subscriptions.clients;
        clients.contains_key(client_of(topic))
    }

    /// Returns the connected downstream components, as the descriptor lists them: at most [`MAX_FOLLOWERS`] with
    /// [`MAX_FOLLOWER_BYTES`].
    pub(crate) fn followers(&self) -> Vec<proto::Follower> {
        let state = self.state();
        let there = state.peers.iter().filter(|(_, peer)| peer.is_alive());
        let described = there.filter_map(|(&key, _)| state.subscriptions.descriptor_entry(key));
        let mut bytes = 0;
        let mut followers: Vec<_> = described
            .take_while(|subscriber| {
                bytes += subscriber.encoded_len();
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

    /// Returns whether `topic` is that of a client that calls this component and receives its answers from another.
    pub(crate) fn is_caller(&self, topic: &str) -> bool {
        self.state().subscriptions.has_caller(topic)
    }

    /// Returns whether a peer is subscribed to `topic`.
    pub(crate) fn has_subscriber(&self, topic: &str) -> bool {
        self.state().subscriptions.has_subscriber(topic)
    }

    /// Sends messages to the subscribers of their topics, and leaves those without a subscriber in `deliveries`.
    ///
    /// Subscribers that are slow have a backlog. Call [`wait_for_capacity`](Self::wait_for_capacity) before publishing more.
    pub(crate) fn publish(&self, deliveries: &mut Vec<LinkPublication>) {
        if deliveries.is_empty() {
            return;
        }
        let now = self.now();
        let mut state = self.state();
        let mut unheard = Vec::new();
        for run in deliveries.chunk_by(|one, next| one.topic == next.topic) {
            if !state.publish_run(run, now) {
                unheard.extend_from_slice(run);
            }
        }
        deliveries.clear();
        deliveries.append(&mut unheard);
        self.flush(&mut state, now);
    }

    /// Returns whether [`wait_for_resubscriptions`](Self::wait_for_resubscriptions) would wait.
    pub(crate) fn awaits_resubscriptions(&self) -> bool {
        self.state().misses_followers()
    }

    /// Waits after a restart until all former followers are back, or have had time to return, so that none misses a
    /// publication.
    ///
    /// # Cancel safety
    ///
    /// This method is cancel safe.
    pub(crate) async fn wait_for_resubscriptions(&self) {
        let Some(resubscriptions) = self.state().resubscriptions else {
            return;
        };
        let returned = self.wait_until(|state| !state.misses_followers());
        let _ = tokio::time::timeout_at(resubscriptions.until.into(), returned).await;
    }

    /// Waits until no peer's backlog is full. Cancel safe.
    pub(crate) async fn wait_for_capacity(&self) {
        self.wait_until(|state| state.subscriptions.full_since.is_empty())
            .await;
    }
}

impl ServerState {
    /// Returns whether former followers have not returned since a restart, and may still do so.
    fn misses_followers(&self) -> bool {
        let waits = self.resubscriptions;
        waits.is_some_and(|it| it.are_missing(clock::now()))
    }

    /// Sends followers a header if their number has changed since the last one. The owner calls this at each tick, so
    /// that many followers that return at once cause one header each.
    pub(super) fn announce_followers(&mut self) {
        let followers = self.subscriptions.followers();
        if std::mem::replace(&mut self.announced_followers, followers) == followers {
            return;
        }
        for (&key, peer) in &mut self.peers {
            if self.subscriptions.is_retained(key) {
                peer.session.notify();
                peer.schedule(&mut self.scheduled);
            }
        }
    }

    /// Publishes messages of one topic. Returns whether the topic has subscribers.
    fn publish_run(&mut self, run: &[LinkPublication], now: Instant) -> bool {
        let targets = run
            .first()
            .map(|first| self.subscriptions.targets(&first.topic));
        let targets = targets.unwrap_or_default();
        for &(key, tag) in &targets {
            let share = self.subscriptions.backlog_share();
            let subscriber = self.subscriptions.subscribers.get_mut(&key);
            let (Some(subscriber), Some(peer)) = (subscriber, self.peers.get_mut(&key)) else {
                continue;
            };
            let limit = subscriber.following.backlog_limit();
            let limit = limit.map(|limit| limit.at_most(share));
            if limit.is_none()
                && subscriber
                    .backlog(&peer.session)
                    .reaches(SUBSCRIBER_BACKLOG)
            {
                // Only cancellations are dropped: their calls run to completion.
                continue;
            }
            let batches = run.iter().map(|delivery| &delivery.batch);
            let items = batches
                .clone()
                .map(|batch| TaggedBatch::from_batch(tag, 0, batch.clone()));
            let cost = |batch: &Batch| memory_bytes(batch.len(), batch.bytes());
            self.subscriptions.queued_bytes += batches.clone().map(cost).sum::<usize>();
            match &mut subscriber.retained {
                Some(retained) => {
                    let size = &mut subscriber.retained_size;
                    size.messages += batches.clone().map(Batch::len).sum::<usize>();
                    size.bytes += batches.map(Batch::bytes).sum::<usize>();
                    retained.extend(items);
                }
                None => {
                    items.for_each(|item| peer.session.submit(item, now));
                    peer.schedule(&mut self.scheduled);
                }
            }
            if limit.is_some_and(|limit| subscriber.backlog(&peer.session).reaches(limit)) {
                self.subscriptions.full_since.entry(key).or_insert(now);
            }
            peer.return_credit(&self.subscriptions, &self.inputs);
        }
        !targets.is_empty()
    }
}

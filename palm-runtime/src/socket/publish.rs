//! PUB and SUB: each message goes to all subscribers of its topic.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use super::kind::Kind;
use super::push_pull::{Peers, bind, connect, connect_to};
use super::subscriptions::{
    Subscriber, SubscriptionChange, SubscriptionEvent, SubscriptionRequest, Subscriptions,
};
use super::zmtp::{Receiver, Socket, SubscriptionEvents, WriteBy};
use super::{Address, Frames, SocketClosed, SocketError, SocketOptions, TrySendError};

/// The publishing end. It sends each message to the subscribers of its topic, and knows their subscriptions.
///
/// It waits for a slow subscriber for at most [`SocketOptions::slow_subscriber_timeout`].
#[derive(Debug)]
pub struct Publish {
    socket: Arc<Socket>,
    events: SubscriptionEvents,
    subscriptions: Subscriptions,
    changes: VecDeque<SubscriptionChange>,
}

impl Publish {
    /// Binds `address`, and returns it with the port that the system chose.
    ///
    /// # Errors
    ///
    /// [`SocketError::Bind`] if the address cannot be bound.
    pub async fn bind(
        address: &Address,
        options: &SocketOptions,
    ) -> Result<(Self, Address), SocketError> {
        let (socket, bound) = bind(Kind::Publish, address, options).await?;
        Ok((Self::new(socket), bound))
    }

    /// Opens a socket that is neither bound nor connected. [`Peers::bind`] binds it later.
    pub(crate) fn idle(options: &SocketOptions) -> Self {
        Self::new(Socket::new(Kind::Publish, options))
    }

    fn new(socket: Socket) -> Self {
        Self {
            events: socket.subscription_events(),
            socket: Arc::new(socket),
            subscriptions: Subscriptions::default(),
            changes: VecDeque::new(),
        }
    }

    pub(crate) fn peers(&self) -> Peers {
        Peers(self.socket.clone())
    }

    /// Returns whether a message of `topic` has a subscriber.
    pub fn is_subscribed(&self, topic: &[u8]) -> bool {
        self.subscriptions.matches(topic)
    }

    /// Returns the subscribers of exactly `topic`, without those of a shorter prefix.
    pub(crate) fn exact_subscribers(&self, topic: &[u8]) -> &[Subscriber] {
        self.subscriptions.exact(topic)
    }

    /// Returns the next change of the subscriptions, or `None` if there are no further ones.
    ///
    /// [`is_subscribed`](Self::is_subscribed) reflects all changes that had arrived.
    ///
    /// # Errors
    ///
    /// [`SocketClosed`] if the socket is closed.
    pub async fn next_change(&mut self) -> Result<Option<SubscriptionChange>, SocketClosed> {
        while self.changes.is_empty() {
            match self.events.try_next() {
                Some(event) => self.apply(event),
                None => return Ok(None),
            }
        }
        Ok(self.changes.pop_front())
    }

    /// Waits for a change of the subscriptions, which [`next_change`](Self::next_change) returns.
    ///
    /// # Errors
    ///
    /// [`SocketClosed`] if the socket is closed.
    ///
    /// # Cancel safety
    ///
    /// No change is lost.
    pub async fn changed(&mut self) -> Result<(), SocketClosed> {
        while self.changes.is_empty() {
            let event = self.events.next().await?;
            self.apply(event);
        }
        Ok(())
    }

    fn apply(&mut self, event: SubscriptionEvent) {
        match event {
            SubscriptionEvent::Added(peer, prefix, connected) => {
                self.subscriptions.add(peer, prefix.clone(), connected);
                self.changes.push_back(SubscriptionChange::Added(prefix));
            }
            SubscriptionEvent::Removed(peer, prefix) => {
                self.subscriptions.remove(peer, &prefix);
                self.changes.push_back(SubscriptionChange::Removed(prefix));
            }
            SubscriptionEvent::Gone(peer) => {
                let prefixes = self.subscriptions.remove_peer(peer);
                let removed = prefixes.into_iter().map(SubscriptionChange::Removed);
                self.changes.extend(removed);
            }
            SubscriptionEvent::Missed => {
                // The new events begin with all current subscriptions.
                self.events = self.socket.subscription_events();
                let prefixes = std::mem::take(&mut self.subscriptions).into_prefixes();
                let removed = prefixes.map(SubscriptionChange::Removed);
                self.changes.extend(removed);
            }
        }
    }

    /// Sends one message. Waits while the queue of a subscriber is full.
    ///
    /// # Errors
    ///
    /// [`SocketClosed`] if the socket is closed.
    ///
    /// # Cancel safety
    ///
    /// The message is queued for all subscribers or for none.
    pub async fn send(&self, topic: Bytes, body: Bytes) -> Result<(), SocketClosed> {
        match self.try_send(topic, body) {
            Ok(()) => Ok(()),
            Err(TrySendError::Full((topic, body))) => {
                self.socket.send(publication(topic, body)).await
            }
            Err(TrySendError::Closed(closed)) => Err(closed),
        }
    }

    /// Sends one message if all of its subscribers have capacity.
    ///
    /// # Errors
    ///
    /// [`TrySendError::Full`] with the message if a subscriber has no capacity.
    pub fn try_send(&self, topic: Bytes, body: Bytes) -> Result<(), TrySendError<(Bytes, Bytes)>> {
        match self
            .socket
            .try_send(publication(topic, body), WriteBy::Task)
        {
            Ok(()) => Ok(()),
            Err(TrySendError::Full(mut frames)) => {
                let body = frames.pop().unwrap_or_default();
                let topic = frames.pop().unwrap_or_default();
                Err(TrySendError::Full((topic, body)))
            }
            Err(TrySendError::Closed(closed)) => Err(TrySendError::Closed(closed)),
        }
    }

    /// Sends queued messages for at most `linger`, and closes the socket.
    pub async fn close(self, linger: Duration) {
        self.socket.close(linger).await;
    }
}

fn publication(topic: Bytes, body: Bytes) -> Frames {
    [topic, body].into_iter().collect()
}

/// A message that a subscriber received.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Publication {
    /// First frame of the message.
    pub topic: Bytes,
    /// Second frame. `None` if the message has one frame, or more than two.
    pub body: Option<Bytes>,
}

impl Publication {
    /// Creates a publication.
    pub fn new(topic: impl Into<Bytes>, body: Option<Bytes>) -> Self {
        Self {
            topic: topic.into(),
            body,
        }
    }
}

impl From<Frames> for Publication {
    fn from(frames: Frames) -> Self {
        let mut frames = frames.into_iter();
        let topic = frames.next().unwrap_or_default();
        let body = frames.next();
        match frames.next() {
            None => Self { topic, body },
            Some(_) => Self { topic, body: None },
        }
    }
}

/// The subscribing end. It receives messages of the topics that it has subscribed to.
#[derive(Debug)]
pub struct Subscribe {
    socket: Arc<Socket>,
    receiver: Receiver,
    messages: Vec<Frames>,
}

impl Subscribe {
    /// Connects to `address` as soon as a publisher listens there, without a subscription.
    ///
    /// # Errors
    ///
    /// [`SocketError::Connect`] if `address` is a wildcard or has no port.
    pub async fn connect(address: &Address, options: &SocketOptions) -> Result<Self, SocketError> {
        let socket = connect(Kind::Subscribe, address, options)?;
        Ok(Self {
            receiver: socket.receiver(),
            socket: Arc::new(socket),
            messages: Vec::new(),
        })
    }

    /// Connects to another publisher, in addition to those that the socket is connected to.
    ///
    /// # Errors
    ///
    /// [`SocketError::Connect`] if `address` is a wildcard or has no port.
    pub async fn connect_to(&self, address: &Address) -> Result<(), SocketError> {
        connect_to(&self.socket, address)
    }

    /// Subscribes to all topics that begin with `prefix`. The subscription is restored after reconnections.
    ///
    /// # Errors
    ///
    /// [`SocketClosed`] if the socket is closed.
    pub async fn subscribe(&self, prefix: impl Into<Bytes>) -> Result<(), SocketClosed> {
        let request = SubscriptionRequest::Subscribe(prefix.into());
        self.socket.change_subscription(&request)
    }

    /// Revokes one subscription to `prefix`.
    ///
    /// # Errors
    ///
    /// [`SocketClosed`] if the socket is closed.
    pub async fn unsubscribe(&self, prefix: impl Into<Bytes>) -> Result<(), SocketClosed> {
        let request = SubscriptionRequest::Cancel(prefix.into());
        self.socket.change_subscription(&request)
    }

    /// Waits for a message, and appends up to `max` received ones to `out`.
    ///
    /// # Errors
    ///
    /// [`SocketClosed`] if the socket is closed.
    ///
    /// # Cancel safety
    ///
    /// No message is lost.
    pub async fn recv_many(
        &mut self,
        out: &mut Vec<Publication>,
        max: usize,
    ) -> Result<(), SocketClosed> {
        self.receiver.recv_many(&mut self.messages, max).await?;
        out.extend(self.messages.drain(..).map(Publication::from));
        Ok(())
    }

    /// Appends up to `max` received messages to `out`, without waiting.
    pub fn try_recv_many(&mut self, out: &mut Vec<Publication>, max: usize) {
        self.receiver.try_recv_many(&mut self.messages, max);
        out.extend(self.messages.drain(..).map(Publication::from));
    }

    pub(crate) fn peers(&self) -> Peers {
        Peers(self.socket.clone())
    }

    /// Closes the socket.
    pub async fn close(self) {
        self.socket.close(Duration::ZERO).await;
    }
}

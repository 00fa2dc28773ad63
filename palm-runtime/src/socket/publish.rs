//! PUB and SUB: messages to all who asked for their topic.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use super::backend::{Kind, Receiver, Socket, SubscriptionEvent, SubscriptionEvents};
use super::push_pull::{Peers, bind, connect, connect_to};
use super::subscriptions::{Subscriber, SubscriptionChange, Subscriptions};
use super::{Address, Frames, SocketClosed, SocketError, SocketOptions, TrySendError};

/// Sends each message to all who asked for its topic, and knows what they asked for.
///
/// Waits for slow subscribers, for at most [`SocketOptions::slow_consumer_timeout`].
#[derive(Debug)]
pub struct Publish {
    socket: Arc<Socket>,
    events: SubscriptionEvents,
    subscriptions: Subscriptions,
    changes: VecDeque<SubscriptionChange>,
}

impl Publish {
    /// Binds `address`, and tells where.
    ///
    /// # Errors
    ///
    /// [`SocketError::Bind`] when the address cannot be bound.
    pub async fn bind(
        address: &Address,
        options: &SocketOptions,
    ) -> Result<(Self, Address), SocketError> {
        let (socket, bound) = bind(Kind::Publish, address, options).await?;
        Ok((Self::new(socket).await?, bound))
    }

    /// One that is not bound: no subscriber reaches it, unless it is bound later ([`Peers::bind`]).
    pub(crate) async fn idle(options: &SocketOptions) -> Result<Self, SocketError> {
        Ok(Self::new(Socket::new(Kind::Publish, options)).await?)
    }

    async fn new(socket: Socket) -> Result<Self, SocketClosed> {
        let events = socket.subscription_events().await?;
        Ok(Self {
            socket: Arc::new(socket),
            events,
            subscriptions: Subscriptions::default(),
            changes: VecDeque::new(),
        })
    }

    /// Its subscribers.
    pub(crate) fn peers(&self) -> Peers {
        Peers(self.socket.clone())
    }

    /// Whether somebody gets what is sent under `topic` now.
    pub fn is_subscribed(&self, topic: &[u8]) -> bool {
        self.subscriptions.matches(topic)
    }

    /// Who has asked for exactly `topic`, and not only for a prefix of it.
    pub(crate) fn exact_subscribers(&self, topic: &[u8]) -> &[Subscriber] {
        self.subscriptions.exact(topic)
    }

    /// Takes notice of what happened to the subscriptions until now, and returns one change after
    /// the other; `None` when there is no further one.
    ///
    /// # Errors
    ///
    /// [`SocketClosed`] when the socket is closed.
    pub async fn next_change(&mut self) -> Result<Option<SubscriptionChange>, SocketClosed> {
        while self.changes.is_empty() {
            match self.events.try_next() {
                Some(event) => self.take_notice(event).await?,
                None => return Ok(None),
            }
        }
        Ok(self.changes.pop_front())
    }

    /// Waits for something to happen to the subscriptions; see [`next_change`](Self::next_change).
    ///
    /// # Errors
    ///
    /// [`SocketClosed`] when the socket is closed.
    ///
    /// # Cancel safety
    ///
    /// No change is lost.
    pub async fn changed(&mut self) -> Result<(), SocketClosed> {
        while self.changes.is_empty() {
            let event = self.events.next().await?;
            self.take_notice(event).await?;
        }
        Ok(())
    }

    async fn take_notice(&mut self, event: SubscriptionEvent) -> Result<(), SocketClosed> {
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
                // What is there now is told anew.
                self.events = self.socket.subscription_events().await?;
                let prefixes = std::mem::take(&mut self.subscriptions).into_prefixes();
                let removed = prefixes.map(SubscriptionChange::Removed);
                self.changes.extend(removed);
            }
        }
        Ok(())
    }

    /// Sends one message; waits while a subscriber's queue is full.
    ///
    /// # Errors
    ///
    /// [`SocketClosed`] when the socket is closed.
    ///
    /// # Cancel safety
    ///
    /// The message is queued for all or for none.
    pub async fn send(&self, topic: Bytes, body: Bytes) -> Result<(), SocketClosed> {
        match self.try_send(topic, body) {
            Ok(()) => Ok(()),
            Err(TrySendError::Full((topic, body))) => self.socket.send(two(topic, body)).await,
            Err(TrySendError::Closed(closed)) => Err(closed),
        }
    }

    /// Sends one message if all of its subscribers have room for it, and gives it back if not.
    ///
    /// # Errors
    ///
    /// [`TrySendError`] with the message when there is no room.
    pub fn try_send(&self, topic: Bytes, body: Bytes) -> Result<(), TrySendError<(Bytes, Bytes)>> {
        match self.socket.try_send(two(topic, body)) {
            Ok(()) => Ok(()),
            Err(TrySendError::Full(mut frames)) => {
                let body = frames.pop().unwrap_or_default();
                let topic = frames.pop().unwrap_or_default();
                Err(TrySendError::Full((topic, body)))
            }
            Err(TrySendError::Closed(closed)) => Err(TrySendError::Closed(closed)),
        }
    }

    /// Sends what is queued, for at most `linger`, and closes.
    pub async fn close(self, linger: Duration) {
        self.socket.close(linger).await;
    }
}

fn two(topic: Bytes, body: Bytes) -> Frames {
    [topic, body].into_iter().collect()
}

/// A message as a subscriber gets it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Publication {
    /// What it was published under.
    pub topic: Bytes,
    /// The message; `None` when there was none, or more than one.
    pub body: Option<Bytes>,
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

/// Receives what is published under the topics that it asked for.
#[derive(Debug)]
pub struct Subscribe {
    socket: Arc<Socket>,
    receiver: Receiver,
    messages: Vec<Frames>,
}

impl Subscribe {
    /// Connects to `address`, now or as soon as somebody is there; asks for nothing yet.
    ///
    /// # Errors
    ///
    /// [`SocketError::Connect`] when it is no address to connect to.
    pub async fn connect(address: &Address, options: &SocketOptions) -> Result<Self, SocketError> {
        let socket = connect(Kind::Subscribe, address, options).await?;
        Ok(Self {
            receiver: socket.receiver(),
            socket: Arc::new(socket),
            messages: Vec::new(),
        })
    }

    /// Connects to one more publisher.
    ///
    /// # Errors
    ///
    /// [`SocketError::Connect`] when it is no address to connect to.
    pub async fn connect_to(&self, address: &Address) -> Result<(), SocketError> {
        connect_to(&self.socket, address).await
    }

    /// Asks for all topics that begin with `prefix`, also after each reconnection.
    ///
    /// # Errors
    ///
    /// [`SocketClosed`] when the socket is closed.
    pub async fn subscribe(&self, prefix: impl Into<Bytes>) -> Result<(), SocketClosed> {
        self.socket.subscribe(prefix.into()).await
    }

    /// Gives up what was asked for.
    ///
    /// # Errors
    ///
    /// [`SocketClosed`] when the socket is closed.
    pub async fn unsubscribe(&self, prefix: impl Into<Bytes>) -> Result<(), SocketClosed> {
        self.socket.unsubscribe(prefix.into()).await
    }

    /// Waits for a message, and takes up to `max` that are there.
    ///
    /// # Errors
    ///
    /// [`SocketClosed`] when the socket is closed.
    ///
    /// # Cancel safety
    ///
    /// Nothing is lost.
    pub async fn recv_many(
        &mut self,
        out: &mut Vec<Publication>,
        max: usize,
    ) -> Result<(), SocketClosed> {
        self.receiver.recv_many(&mut self.messages, max).await?;
        out.extend(self.messages.drain(..).map(Publication::from));
        Ok(())
    }

    /// Takes up to `max` messages that are there.
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

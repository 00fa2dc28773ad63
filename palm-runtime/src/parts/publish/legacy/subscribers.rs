//! [`LegacySubscribers`]: the PUB socket.

use std::time::Duration;

use bytes::Bytes;

use crate::socket::{Publish, SocketClosed, Subscriber, SubscriptionChange, TrySendError};

/// The subscribers at the PUB socket. A component with links only has no such socket, and so none of them.
#[derive(Debug)]
pub(in crate::parts::publish) struct LegacySubscribers(Option<Publish>);

impl LegacySubscribers {
    pub(in crate::parts::publish) fn new(socket: Option<Publish>) -> Self {
        Self(socket)
    }

    /// Returns whether there may be subscribers now or later.
    pub(in crate::parts::publish) fn are_possible(&self) -> bool {
        self.0.is_some()
    }

    /// See [`Publish::is_subscribed`].
    pub(in crate::parts::publish) fn is_subscribed(&self, topic: &[u8]) -> bool {
        let socket = self.0.as_ref();
        socket.is_some_and(|socket| socket.is_subscribed(topic))
    }

    /// See [`Publish::exact_subscribers`].
    pub(in crate::parts::publish) fn exact_subscribers(&self, topic: &[u8]) -> &[Subscriber] {
        let socket = self.0.as_ref();
        socket.map_or(&[], |socket| socket.exact_subscribers(topic))
    }

    /// See [`Publish::next_change`].
    pub(in crate::parts::publish) async fn next_change(
        &mut self,
    ) -> Result<Option<SubscriptionChange>, SocketClosed> {
        match &mut self.0 {
            Some(socket) => socket.next_change().await,
            None => Ok(None),
        }
    }

    /// See [`Publish::changed`]. Cancel safe.
    pub(in crate::parts::publish) async fn changed(&mut self) -> Result<(), SocketClosed> {
        match &mut self.0 {
            Some(socket) => socket.changed().await,
            None => std::future::pending().await,
        }
    }

    /// See [`Publish::send`]. Cancel safe.
    pub(in crate::parts::publish) async fn send(
        &self,
        topic: Bytes,
        body: Bytes,
    ) -> Result<(), SocketClosed> {
        match &self.0 {
            Some(socket) => socket.send(topic, body).await,
            None => Ok(()),
        }
    }

    /// See [`Publish::try_send`].
    pub(in crate::parts::publish) fn try_send(
        &self,
        topic: Bytes,
        body: Bytes,
    ) -> Result<(), TrySendError<(Bytes, Bytes)>> {
        match &self.0 {
            Some(socket) => socket.try_send(topic, body),
            None => Ok(()),
        }
    }

    /// Sends queued messages for at most `linger`, and closes the socket.
    pub(in crate::parts::publish) async fn close(self, linger: Duration) {
        if let Some(socket) = self.0 {
            socket.close(linger).await;
        }
    }
}

//! Publishes to followers and clients over links.
//!
//! [`Publisher::deliver`] waits until subscribers have capacity, so that a slow subscriber slows down everything
//! upstream. A link disconnects a subscriber as a slow consumer after `slow_consumer_timeout` (`link/subscriptions`);
//! [`Publisher::undelivered`] then drops its backlog.

use bytes::Bytes;
use bytestring::ByteString;

use super::pending::{Publication, Retention};
use super::publisher::Publisher;
use crate::function::has_next_step;
use crate::link::{CANCEL_TOPIC, LinkPublication, Subscription, client_of};
use crate::message::Message;
use crate::socket::SocketClosed;

impl Publisher {
    /// Returns whether messages under `topic` are sent over links: to its followers, or to the client with this id
    /// unless it has subscribed at the PUB socket.
    pub(super) fn has_subscriber(&self, topic: &str) -> bool {
        let links = &self.component_state.links;
        self.links
            && (links.has_subscriber(topic)
                || !self.subscribers.is_subscribed(topic.as_bytes()) && links.is_caller(topic))
    }

    /// Sends the collected deliveries over links, and waits until subscribers have capacity: backpressure.
    pub(super) async fn deliver(&mut self) {
        while self.linked.len() > 0 {
            let publications = self.linked.publications();
            self.component_state.links.publish(publications);
            // The subscribers of the remaining deliveries are lost. Keeping them may drop other publications, whose
            // errors are sent over links again; hence the loop.
            let undeliverable = std::mem::take(publications);
            if !undeliverable.is_empty() {
                self.direct_topic = None;
            }
            for (topic, frame) in undeliverable.into_iter().flat_map(each) {
                self.add_pending(topic, frame, Retention::Full);
            }
            self.component_state.links.wait_for_capacity().await;
        }
    }

    /// Handles a new subscription over a link: publishes the pending publications of its topics.
    pub(super) async fn follow(&mut self, following: &Subscription) -> Result<(), SocketClosed> {
        self.direct_topic = None;
        let mut released = Vec::new();
        self.was_followed |= following.topics.iter().any(|topic| *topic == *self.name);
        for topic in &following.topics {
            released.extend(self.pending.release_exactly(topic));
        }
        if !following.client.is_empty() {
            released.extend(self.pending.release_exactly(&following.client));
            let calls = format!("{}/", following.client);
            released.extend(self.pending.release(calls.as_bytes()));
            self.release_answers(following, &mut released);
        }
        for (topic, frame) in released {
            self.publish(topic, frame).await?;
        }
        Ok(())
    }

    /// Releases pending results of a last step to a client that has just connected to receive its answers here.
    ///
    /// After a restart of this component, results can arrive before their client has reconnected.
    pub(super) fn release_answers(
        &mut self,
        client: &Subscription,
        released: &mut Vec<(ByteString, Bytes)>,
    ) {
        if self.pipelined == Some(false) {
            return;
        }
        for (topic, frame) in self.pending.release_exactly(&self.name) {
            let mut message = Message::decode(frame.clone()).unwrap_or_default();
            let was_at = message.stage().saturating_sub(1);
            if client.is_of(message.client()) && !has_next_step(message.function(), was_at) {
                message.set_stage(was_at);
                released.push((message.client_topic(), message.into_frame()));
            } else {
                let retention = match client.is_of(message.client()) && !self.was_followed {
                    true => Retention::Short,
                    false => Retention::Full,
                };
                self.add_pending(topic, frame, retention);
            }
        }
    }

    /// Publishes a list of cancelled calls to downstream components.
    pub(super) async fn publish_cancellations(&mut self, list: Bytes) -> Result<(), SocketClosed> {
        let topic = str::from_utf8(CANCEL_TOPIC).expect("it is text");
        if self.has_subscriber(topic) {
            self.linked.push(topic.into(), list.clone().into());
        }
        if !self.subscribers.is_subscribed(CANCEL_TOPIC) {
            return Ok(());
        }
        let topic = Bytes::from_static(CANCEL_TOPIC);
        self.subscribers.send(topic, list).await
    }

    /// Drops the backlog of a subscriber that was disconnected.
    pub(super) fn undelivered(&mut self, deliveries: Vec<LinkPublication>) {
        let mut dropped = Vec::new();
        for publication in deliveries {
            if !self.subscribers.is_subscribed(publication.topic.as_bytes()) {
                dropped.extend(each(publication));
            }
        }
        // `drop_pending` pops them from the end.
        dropped.reverse();
        self.drop_pending(dropped);
    }
}

/// Returns each message of a publication with its topic. A batch may have messages of several calls of one client, and
/// has the topic of the first.
fn each(LinkPublication { topic, batch }: LinkPublication) -> impl Iterator<Item = Publication> {
    let has_several = batch.len() > 1;
    batch.frames().map(move |frame| {
        let message = has_several.then(|| Message::decode(frame.clone()).ok());
        let own = message.flatten().map(|message| message.client_topic());
        let own = own.filter(|own| client_of(own) == client_of(&topic));
        (own.unwrap_or_else(|| topic.clone()), frame)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::BatchBuilder;

    fn topics(topic: &'static str, clients: [&'static str; 2]) -> Vec<ByteString> {
        let mut builder = BatchBuilder::default();
        for client in clients {
            let mut message = Message::new("a.b c.d", "x");
            message.set_client(client);
            message.ensure_id();
            builder.join(message, 2).unwrap();
        }
        let batch = builder.take().unwrap();
        let topic = topic.into();
        each(LinkPublication { topic, batch })
            .map(|(topic, _)| topic)
            .collect()
    }

    #[test]
    fn each_message_of_a_batch_has_the_topic_of_its_call() {
        let calls = ["client/1", "client/2"];
        assert_eq!(topics("client/1", calls), calls);
        assert_eq!(topics("step", calls), ["step", "step"]);
    }
}

//! Runs the hooks `gather` and `handle_stream` on messages before they are published.

use super::publisher::Publisher;
use crate::context::Context;
use crate::failure::{CallFailure, catch_panic};
use crate::message::{Message, Split};
use crate::method::Emit;
use crate::socket::SocketClosed;

impl Publisher {
    pub(super) async fn gather(&mut self, message: Message) -> Result<(), SocketClosed> {
        let hooks = self.hooks.clone().filter(|it| it.overridden().gather);
        let Some(hooks) = hooks.filter(|_| !message.is_rest()) else {
            return self.publish_one(message).await;
        };
        let mut gathered = Vec::new();
        let context = Context::new(self.context.clone(), message.clone());
        let mut emit = Emit::new(&mut gathered);
        let hook = hooks.gather(message.clone(), context, &mut emit);
        if let Err(failure) = catch_panic(hook, Err).await {
            self.log_failure("gather", &message, &failure);
            gathered.push(message.clone().failed(&self.name, &failure));
        }
        split_weight(&message, &mut gathered);
        for message in gathered {
            self.publish_one(message).await?;
        }
        Ok(())
    }

    /// Finds the topic of a message and publishes it under that.
    pub(super) async fn publish_one(&mut self, message: Message) -> Result<(), SocketClosed> {
        let hooks = self.hooks.clone();
        let hooks = hooks.filter(|it| it.overridden().handle_stream);
        let Some(hooks) = hooks.filter(|_| !message.is_rest()) else {
            let (topic, message) = self.default_topic(message);
            return self.send(topic, message).await;
        };
        let context = Context::new(self.context.clone(), message.clone());
        let hook = hooks.handle_stream(message.clone(), context);
        let (topic, message) = match catch_panic(hook, Err).await {
            Ok(publication) => publication,
            Err(failure) => {
                self.log_failure("handle_stream", &message, &failure);
                self.default_topic(message.failed(&self.name, &failure))
            }
        };
        self.send(topic, message).await
    }

    pub(super) fn log_failure(&self, hook: &str, message: &Message, failure: &CallFailure) {
        self.counters.count_error();
        let function = message.function();
        let cause = failure.chain();
        tracing::error!(function, "`{hook}` {failure}: {cause}");
    }
}

/// Splits the completion weight of a message among the messages that a hook has made of it for the same client. If
/// there are none, adds a message that reports the whole weight.
fn split_weight(message: &Message, made: &mut Vec<Message>) {
    let Some(share) = message.share() else {
        return;
    };
    let mut split = Split::new(share);
    let is_same = |other: &Message| other.client() == message.client();
    let heirs = made.iter().filter(|other| is_same(other)).count();
    let mut left = heirs;
    for heir in &mut *made {
        if !is_same(heir) {
            heir.set_share(None);
            continue;
        }
        left -= 1;
        let share = if left == 0 {
            split.rest()
        } else {
            split.piece()
        };
        heir.set_share(Some(share));
    }
    if heirs == 0 {
        made.push(message.clone().into_rest(share));
    }
}

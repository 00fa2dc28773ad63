//! Sends the messages that hooks emit.

use std::time::Instant;

use bytes::Bytes;
use bytestring::ByteString;
use futures_core::future::BoxFuture;

use super::{Envelope, Outlet};
use crate::fair_queue::Flow;
use crate::message::{Message, Split};
use crate::method::EmitQueue;

/// Sends the messages that a hook emits to an outlet, each with an id.
pub(crate) struct EmitToOutlet<'a> {
    pub(crate) outlet: &'a Outlet,
    /// The flow of the message that was passed to the hook.
    pub(crate) flow: Flow,
    pub(crate) since: Instant,
    /// The answer to the last sent message.
    pub(crate) answer: Bytes,
    /// The completion weight that is split among the messages, and the client topic that it belongs to.
    pub(crate) share: Option<(Split, ByteString)>,
}

impl EmitToOutlet<'_> {
    /// Sends the remaining completion weight of `message` after its hook has returned.
    pub(crate) async fn finish(&mut self, message: impl FnOnce() -> Message) {
        if let Some((split, _)) = self.share.take() {
            let rest = message().into_rest(split.rest());
            let rest = Envelope::new(rest, self.flow, self.since);
            self.outlet.send_done(rest).await;
        }
    }
}

impl EmitQueue for EmitToOutlet<'_> {
    fn send(&mut self, mut message: Message) -> BoxFuture<'_, ()> {
        Box::pin(async move {
            message.ensure_id();
            if let Some((split, client)) = &mut self.share {
                let is_same = message.client() == &**client;
                message.set_share(is_same.then(|| split.piece()));
            }
            self.answer = self.outlet.send_in(message, self.flow, self.since).await;
        })
    }
}

impl EmitQueue for Vec<Message> {
    fn send(&mut self, message: Message) -> BoxFuture<'_, ()> {
        self.push(message);
        Box::pin(std::future::ready(()))
    }
}

//! [`AnyInboundHooks`]: the hooks of an inbound part, of any type.

use bytes::Bytes;
use futures_core::future::BoxFuture;
use futures_util::FutureExt;

use super::InboundHooks;
use crate::context::Context;
use crate::failure::CallFailure;
use crate::message::Message;
use crate::method::Emit;

/// The hooks of an inbound part. The default has none: messages are sent on unchanged.
#[derive(Default)]
pub(crate) struct AnyInboundHooks(Option<Box<dyn ErasedHooks>>);

trait ErasedHooks: Send {
    fn scatters(&self) -> bool;

    fn takes_feedback(&self) -> bool;

    fn scatter<'a>(
        &'a mut self,
        message: Message,
        context: Context,
        emit: &'a mut Emit<'_>,
    ) -> BoxFuture<'a, Result<(), CallFailure>>;

    fn handle_feedback(&mut self, feedback: &Bytes);

    fn reply_feedback(&mut self, feedback: Bytes) -> Bytes;
}

impl<H: InboundHooks> ErasedHooks for H {
    fn scatters(&self) -> bool {
        H::SCATTERS
    }

    fn takes_feedback(&self) -> bool {
        H::TAKES_FEEDBACK
    }

    fn scatter<'a>(
        &'a mut self,
        message: Message,
        context: Context,
        emit: &'a mut Emit<'_>,
    ) -> BoxFuture<'a, Result<(), CallFailure>> {
        InboundHooks::scatter(self, message, context, emit).boxed()
    }

    fn handle_feedback(&mut self, feedback: &Bytes) {
        InboundHooks::handle_feedback(self, feedback);
    }

    fn reply_feedback(&mut self, feedback: Bytes) -> Bytes {
        InboundHooks::reply_feedback(self, feedback)
    }
}

impl AnyInboundHooks {
    pub(crate) fn new(hooks: impl InboundHooks) -> Self {
        Self(Some(Box::new(hooks)))
    }

    /// Returns whether there are hooks.
    pub(crate) fn are_set(&self) -> bool {
        self.0.is_some()
    }

    /// Returns whether [`scatter`](Self::scatter) changes messages.
    pub(crate) fn scatters(&self) -> bool {
        self.0.as_ref().is_some_and(|hooks| hooks.scatters())
    }

    /// Returns whether messages are sent on unchanged and nothing takes the answers.
    pub(crate) fn pass_on(&self) -> bool {
        let hooks = self.0.as_ref();
        hooks.is_none_or(|hooks| !hooks.scatters() && !hooks.takes_feedback())
    }

    pub(crate) async fn scatter(
        &mut self,
        message: Message,
        context: Context,
        emit: &mut Emit<'_>,
    ) -> Result<(), CallFailure> {
        match &mut self.0 {
            Some(hooks) => hooks.scatter(message, context, emit).await,
            None => {
                emit.send(message).await;
                Ok(())
            }
        }
    }

    pub(crate) fn handle_feedback(&mut self, feedback: &Bytes) {
        if let Some(hooks) = &mut self.0 {
            hooks.handle_feedback(feedback);
        }
    }

    pub(crate) fn reply_feedback(&mut self, feedback: Bytes) -> Bytes {
        match &mut self.0 {
            Some(hooks) => hooks.reply_feedback(feedback),
            None => feedback,
        }
    }
}

impl std::fmt::Debug for AnyInboundHooks {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "AnyInboundHooks(are_set: {})", self.are_set())
    }
}

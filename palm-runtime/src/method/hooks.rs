//! [`Hooks`]: the hooks of a component of any type.

use std::fmt;

use bytestring::ByteString;
use futures_core::future::BoxFuture;

use super::{Emit, Shape, State};
use crate::context::Context;
use crate::failure::CallFailure;
use crate::message::Message;

/// The hooks of a [`Shape`] as a trait object, so that the code that calls hooks is compiled once, in this crate.
pub(crate) trait Hooks: Send + Sync {
    fn overridden(&self) -> OverriddenHooks;

    /// [`Shape::EXCLUSIVE`].
    fn is_exclusive(&self) -> bool;

    fn scatter<'a>(
        &'a self,
        message: Message,
        context: Context,
        emit: &'a mut Emit<'_>,
    ) -> BoxFuture<'a, Result<(), CallFailure>>;

    fn gather<'a>(
        &'a self,
        message: Message,
        context: Context,
        emit: &'a mut Emit<'_>,
    ) -> BoxFuture<'a, Result<(), CallFailure>>;

    fn handle_stream(
        &self,
        message: Message,
        context: Context,
    ) -> BoxFuture<'_, Result<(ByteString, Message), CallFailure>>;
}

/// The hooks that a user's type overrides. The others are not called.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct OverriddenHooks {
    pub(crate) scatter: bool,
    pub(crate) gather: bool,
    pub(crate) handle_stream: bool,
}

impl<C: Shape> Hooks for State<C> {
    fn overridden(&self) -> OverriddenHooks {
        OverriddenHooks {
            scatter: C::SCATTERS,
            gather: C::GATHERS,
            handle_stream: C::HANDLES_STREAM,
        }
    }

    fn is_exclusive(&self) -> bool {
        C::EXCLUSIVE
    }

    fn scatter<'a>(
        &'a self,
        message: Message,
        context: Context,
        emit: &'a mut Emit<'_>,
    ) -> BoxFuture<'a, Result<(), CallFailure>> {
        Box::pin(C::scatter(self, message, context, emit))
    }

    fn gather<'a>(
        &'a self,
        message: Message,
        context: Context,
        emit: &'a mut Emit<'_>,
    ) -> BoxFuture<'a, Result<(), CallFailure>> {
        Box::pin(C::gather(self, message, context, emit))
    }

    fn handle_stream(
        &self,
        message: Message,
        context: Context,
    ) -> BoxFuture<'_, Result<(ByteString, Message), CallFailure>> {
        Box::pin(C::handle_stream(self, message, context))
    }
}

impl fmt::Debug for dyn Hooks {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.overridden().fmt(formatter)
    }
}

//! The hooks of a user's type: `scatter`, `gather`, `handle_stream`.

use std::future::Future;

use bytestring::ByteString;

use super::{Emit, State};
use crate::context::Context;
use crate::failure::CallFailure;
use crate::message::Message;

/// Hooks that shape a stream of messages. Implemented by the macros, with an override for each hook
/// that the user wrote.
pub trait Shape: Sized + Send + Sync + 'static {
    /// The name that the component has unless its builder is told another.
    const NAME: &'static str;

    /// Whether a method or a hook takes `&mut self`, so that access needs a lock.
    const EXCLUSIVE: bool;

    /// Whether `scatter` is overridden. Where a hook is not, the default is taken without a call.
    const SCATTERS: bool = false;

    /// Whether `gather` is overridden.
    const GATHERS: bool = false;

    /// Whether `handle_stream` is overridden.
    const HANDLES_STREAM: bool = false;

    /// Turns an inbound message into those that go on to the workers. Default: the message itself.
    fn scatter(
        state: &State<Self>,
        message: Message,
        context: Context,
        emit: &mut Emit<'_>,
    ) -> impl Future<Output = Result<(), CallFailure>> + Send {
        let _ = (state, context);
        async move {
            emit.send(message).await;
            Ok(())
        }
    }

    /// Turns a worker's result into those that go on to be published. Default: the result itself.
    fn gather(
        state: &State<Self>,
        message: Message,
        context: Context,
        emit: &mut Emit<'_>,
    ) -> impl Future<Output = Result<(), CallFailure>> + Send {
        let _ = (state, context);
        async move {
            emit.send(message).await;
            Ok(())
        }
    }

    /// Says under which topic a message is published. Default: the client's, or the component's own
    /// name and the next stage when it is pipelined, which the publisher knows; so this body is
    /// never run.
    fn handle_stream(
        state: &State<Self>,
        message: Message,
        context: Context,
    ) -> impl Future<Output = Result<(ByteString, Message), CallFailure>> + Send {
        let _ = (state, context);
        let topic = message.client_topic();
        async move { Ok((topic, message)) }
    }
}

/// A component without functions and hooks of its own, only with a name.
#[derive(Debug, Clone, Copy, Default)]
pub struct Plain;

impl Shape for Plain {
    const NAME: &'static str = "";
    const EXCLUSIVE: bool = false;
}

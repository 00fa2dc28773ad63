//! [`Shape`]: the hooks that shape a stream of messages.

use std::future::Future;
use std::sync::Arc;

use bytestring::ByteString;

use super::{Emit, State};
use crate::context::Context;
use crate::failure::CallFailure;
use crate::message::Message;
use crate::payload::type_name;

/// Hooks that shape a stream of messages. Implemented by the macros, which override the hooks that the user wrote.
pub trait Shape: Sized + Send + Sync + 'static {
    /// The component's name, unless its builder sets another one. A worker has that of its master.
    const NAME: &'static str;

    /// Whether a method or a hook takes `&mut self`, so that access needs a lock.
    const EXCLUSIVE: bool;

    /// Whether `scatter` is overridden. A default hook is not called.
    const SCATTERS: bool = false;

    /// Whether `gather` is overridden.
    const GATHERS: bool = false;

    /// Whether `handle_stream` is overridden.
    const HANDLES_STREAM: bool = false;

    /// Returns the name. Default: [`NAME`](Self::NAME).
    fn name(&self) -> &str {
        Self::NAME
    }

    /// Returns the beginning of the default name of a worker. Default: the name of its type.
    fn worker_prefix(&self) -> String {
        type_name::<Self>()
    }

    /// Returns why the component cannot start, one sentence for each mistake. Default: none.
    fn mistakes(&self) -> Vec<String> {
        Vec::new()
    }

    /// Turns an inbound message into the messages for the workers. Default: the message itself.
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

    /// Turns a worker's result into the messages to publish. Default: the result itself.
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

    /// Returns the topic under which a message is published.
    ///
    /// Default: the client's topic; if the component is pipelined, its own name and the next stage. The publisher knows
    /// both, so the default hook is never called.
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

impl<C: Shape> State<C> {
    /// Creates the state of a component.
    pub fn new(value: C) -> Arc<Self> {
        Arc::new(match C::EXCLUSIVE {
            true => Self::locked(value),
            false => Self::without_lock(value),
        })
    }
}

/// A component that has only a name, without functions and hooks.
#[derive(Debug, Clone, Copy, Default)]
pub struct Plain;

impl Shape for Plain {
    const NAME: &'static str = "";
    const EXCLUSIVE: bool = false;
}

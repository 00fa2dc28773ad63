//! The table of functions that the macros implement on a user's type, and the call of one of them.

use std::future::Future;
use std::sync::Arc;

use bytes::Bytes;

use super::ResultEmitter;
use crate::context::Context;
use crate::failure::CallFailure;
use crate::method::{Emitted, FunctionInfo, IntoOutcome, Outcome, Shape, State};
use crate::payload::{FromPayload, type_name};

/// A type with functions that can be called from afar. Implemented by the macros.
pub trait Callable: Shape {
    /// Every function, in the order of declaration.
    const FUNCTIONS: &'static [FunctionInfo];

    /// The index in [`FUNCTIONS`](Self::FUNCTIONS) of the function called `name`.
    fn find(name: &str) -> Option<usize>;

    /// Calls function number `index`.
    fn call(
        state: Arc<State<Self>>,
        index: usize,
        call: Call,
    ) -> impl Future<Output = Outcome> + Send + 'static;
}

/// One call of a function: its payload, and what a method may ask for besides.
#[derive(Debug)]
pub struct Call {
    payload: Bytes,
    /// Present where [`FunctionInfo::takes_context`].
    context: Option<Context>,
    /// Present where [`Results::Many`].
    results: Option<ResultEmitter>,
}

impl Call {
    pub(crate) fn new(
        payload: Bytes,
        context: Option<Context>,
        results: Option<ResultEmitter>,
    ) -> Self {
        Self {
            payload,
            context,
            results,
        }
    }

    /// The argument, decoded.
    #[doc(hidden)]
    pub fn argument<T: FromPayload>(&mut self) -> Result<T, Outcome> {
        T::from_payload(std::mem::take(&mut self.payload)).map_err(|error| {
            Outcome::Failed(CallFailure::undecodable(type_name::<T>(), error.into()))
        })
    }

    /// The context, for a method that asks for it.
    #[doc(hidden)]
    pub fn context(&mut self) -> Context {
        self.context
            .take()
            .expect("the executor gives a function with `takes_context` its context, once")
    }

    /// Hands one of many results on, when there is room. Tells whether anybody still wants more.
    #[doc(hidden)]
    pub async fn emit<T: IntoOutcome>(&mut self, result: T) -> Emitted {
        self.emitter().emit(result.into_outcome()).await
    }

    /// [`emit`](Self::emit) for a thread that may block.
    #[doc(hidden)]
    pub fn blocking_emit<T: IntoOutcome>(&mut self, result: T) -> Emitted {
        let emit = self.emitter().emit(result.into_outcome());
        tokio::runtime::Handle::current().block_on(emit)
    }

    fn emitter(&mut self) -> &mut ResultEmitter {
        self.results
            .as_mut()
            .expect("the executor gives a function of `Results::Many` a place for them")
    }
}

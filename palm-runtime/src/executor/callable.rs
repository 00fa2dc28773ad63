//! [`Callable`]: the table of functions of a component, and [`Call`], one call of it.

use std::fmt;
use std::future::Future;
use std::sync::Arc;

use bytes::Bytes;

use super::ResultEmitter;
use super::call_future::CallFuture;
use crate::context::Context;
use crate::failure::CallFailure;
use crate::method::{Emitted, FunctionInfo, Hooks, IntoOutcome, Outcome, Shape, State};
use crate::payload::{FromPayload, type_name};

/// A type whose functions can be called remotely. Implemented by the macros, and by [`ClosureBuilder`] for closures.
///
/// [`ClosureBuilder`]: crate::component::ClosureBuilder
pub trait Callable: Shape {
    /// Returns all functions, in the order of their declaration.
    fn functions(state: &State<Self>) -> &[FunctionInfo];

    /// Returns the index in [`functions`](Self::functions) of the function called `name`.
    fn find(state: &State<Self>, name: &str) -> Option<usize>;

    /// Calls the function at `index`.
    fn call(
        state: Arc<State<Self>>,
        index: usize,
        call: Call,
    ) -> impl Future<Output = Outcome> + Send + 'static;
}

/// [`Callable`] as a trait object, so that the code that calls functions is compiled once, in this crate.
pub(crate) trait Methods: Hooks {
    fn functions(&self) -> &[FunctionInfo];

    fn find(&self, name: &str) -> Option<usize>;

    /// Sets `future` to a call of the function at `index`.
    fn call(self: Arc<Self>, index: usize, call: Call, future: &mut CallFuture);
}

impl<C: Callable> Methods for State<C> {
    fn functions(&self) -> &[FunctionInfo] {
        C::functions(self)
    }

    fn find(&self, name: &str) -> Option<usize> {
        C::find(self, name)
    }

    fn call(self: Arc<Self>, index: usize, call: Call, future: &mut CallFuture) {
        future.set(C::call(self, index, call));
    }
}

impl fmt::Debug for dyn Methods {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.functions().fmt(formatter)
    }
}

/// A call of a function: its payload, and what the method needs in addition.
#[derive(Debug)]
pub struct Call {
    payload: Bytes,
    /// Set if [`FunctionInfo::takes_context`].
    context: Option<Context>,
    /// Set if the function has [`Results::Many`](crate::method::Results::Many). Boxed, because most calls have none and
    /// each is moved.
    results: Option<Box<ResultEmitter>>,
}

impl Call {
    pub(crate) fn new(
        payload: Bytes,
        context: Option<Context>,
        results: Option<Box<ResultEmitter>>,
    ) -> Self {
        Self {
            payload,
            context,
            results,
        }
    }

    /// Returns the payload, the context, and the sender of several results.
    pub(crate) fn into_parts(self) -> (Bytes, Option<Context>, Option<Box<ResultEmitter>>) {
        (self.payload, self.context, self.results)
    }

    /// Decodes the argument.
    #[doc(hidden)]
    pub fn argument<T: FromPayload>(&mut self) -> Result<T, Outcome> {
        T::from_payload(std::mem::take(&mut self.payload)).map_err(|error| {
            Outcome::Failed(CallFailure::undecodable(type_name::<T>(), error.into()))
        })
    }

    /// Returns the context, for a method that takes it.
    #[doc(hidden)]
    pub fn context(&mut self) -> Context {
        self.context.take().expect(
            "the executor sets the context of a function with `takes_context`, which takes it once",
        )
    }

    /// Sends one of several results. Waits for capacity downstream. Returns whether further results are wanted.
    #[doc(hidden)]
    pub async fn emit<T: IntoOutcome>(&mut self, result: T) -> Emitted {
        self.emitter().emit(result.into_outcome()).await
    }

    /// Like [`emit`](Self::emit), for a thread that may block.
    #[doc(hidden)]
    pub fn blocking_emit<T: IntoOutcome>(&mut self, result: T) -> Emitted {
        let emit = self.emitter().emit(result.into_outcome());
        tokio::runtime::Handle::current().block_on(emit)
    }

    fn emitter(&mut self) -> &mut ResultEmitter {
        self.results
            .as_mut()
            .expect("the executor sets the emitter of a function with `Results::Many`")
    }
}

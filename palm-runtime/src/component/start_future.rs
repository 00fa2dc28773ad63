//! [`StartFuture`]: the future that starts a component. It has a name, so that a forgotten `.await` is reported with it.

use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll};

use futures_core::future::BoxFuture;

use crate::error::Result;

/// The start of a component, returned by `start` and `spawn`. Await it to start the component.
#[must_use = "a component starts when this future is awaited: add `.await`, in an `async fn main` with `#[tokio::main]`"]
pub struct StartFuture<T>(BoxFuture<'static, Result<T>>);

impl<T> StartFuture<T> {
    pub(super) fn new(start: impl Future<Output = Result<T>> + Send + 'static) -> Self {
        Self(Box::pin(start))
    }
}

impl<T> Future for StartFuture<T> {
    type Output = Result<T>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        self.0.as_mut().poll(context)
    }
}

impl<T> fmt::Debug for StartFuture<T> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("StartFuture")
    }
}

/// Mirrors methods of `Result`, so that a missing `.await` is a compile error that says so.
#[doc(hidden)]
impl<T> StartFuture<T> {
    pub fn unwrap(self) -> T
    where
        Self: StartIsAwaited,
    {
        unreachable!("`StartFuture` never implements `StartIsAwaited`")
    }

    pub fn expect(self, _: &str) -> T
    where
        Self: StartIsAwaited,
    {
        unreachable!("`StartFuture` never implements `StartIsAwaited`")
    }
}

/// A start that was awaited. No type implements it.
#[diagnostic::on_unimplemented(
    message = "the start of the component is not awaited",
    label = "this is a future, not its result",
    note = "add `.await` before it, in an `async fn main` with `#[tokio::main]`"
)]
pub trait StartIsAwaited {}

//! [`CallFuture`]: the future of a call.

use std::fmt;
use std::future::{Future, pending};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio_util::sync::ReusableBoxFuture;

use crate::failure::CallFailure;
use crate::method::Outcome;

/// The future of a call. Its memory is reused for the next call of the component that completes at its first poll.
///
/// A panic of the method is the outcome of the call.
pub(crate) struct CallFuture(ReusableBoxFuture<'static, Outcome>);

impl CallFuture {
    /// Replaces the future by that of another call.
    pub(crate) fn set(&mut self, call: impl Future<Output = Outcome> + Send + 'static) {
        self.0.set(call);
    }
}

/// A future that never completes, which needs no memory.
impl Default for CallFuture {
    fn default() -> Self {
        Self(ReusableBoxFuture::new(pending()))
    }
}

impl Future for CallFuture {
    type Output = Outcome;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Outcome> {
        let poll = || self.0.poll(context);
        catch_unwind(AssertUnwindSafe(poll))
            .unwrap_or_else(|panic| Poll::Ready(Outcome::Failed(CallFailure::panicked(&*panic))))
    }
}

impl fmt::Debug for CallFuture {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("CallFuture")
    }
}

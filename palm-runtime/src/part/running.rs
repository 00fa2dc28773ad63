//! [`Running`]: a part that is open, and runs once all parts of its component are open; and [`ClosedPart`], one that is
//! not open yet.

use futures_core::future::BoxFuture;
use futures_util::FutureExt;

use super::{Bypass, Inbound, Inlet, OpenError, Outbound, Outlet, Setup};
use crate::failure::BoxError;
use crate::stop::Stop;

/// The future of a part that runs.
pub(crate) type RunningPart = BoxFuture<'static, Result<(), BoxError>>;

/// A part that is open: what it does once all parts of its component are open.
///
/// `T` is what connects the part: an [`Outlet`], an [`Inlet`] and an [`Outlet`], or a [`Stop`].
#[must_use = "return it from `open`"]
pub struct Running<T>(Box<dyn FnOnce(T) -> RunningPart + Send>);

impl<T> Running<T> {
    fn new<F: Future<Output = Result<(), BoxError>> + Send + 'static>(
        run: impl FnOnce(T) -> F + Send + 'static,
    ) -> Self {
        Self(Box::new(|connections| run(connections).boxed()))
    }

    /// Runs the part.
    pub(crate) fn start(self, connections: T) -> RunningPart {
        (self.0)(connections)
    }
}

impl Running<Outlet> {
    /// Returns an inbound part that sends messages to the outlet until [`Outlet::stopped`] returns.
    ///
    /// An error ends the part, and the component then stops.
    pub fn inbound<F: Future<Output = Result<(), BoxError>> + Send + 'static>(
        run: impl FnOnce(Outlet) -> F + Send + 'static,
    ) -> Self {
        Self::new(run)
    }
}

impl Running<(Inlet, Outlet)> {
    /// Returns an outbound part that handles the messages of the inlet until it is closed and empty. The outlet leads to
    /// the part that answers are routed to, if any.
    ///
    /// An error ends the part, and the component then stops.
    pub fn outbound<F: Future<Output = Result<(), BoxError>> + Send + 'static>(
        run: impl FnOnce(Inlet, Outlet) -> F + Send + 'static,
    ) -> Self {
        Self::new(|(inlet, outlet)| run(inlet, outlet))
    }
}

impl Running<Stop> {
    /// Returns a bypass that runs until [`Stop::stopped`] returns.
    ///
    /// An error ends the part, and the component then stops.
    pub fn bypass<F: Future<Output = Result<(), BoxError>> + Send + 'static>(
        run: impl FnOnce(Stop) -> F + Send + 'static,
    ) -> Self {
        Self::new(run)
    }
}

impl<T> std::fmt::Debug for Running<T> {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Running").finish_non_exhaustive()
    }
}

/// The opening of a part whose type is erased.
type Opening<'a, T> = BoxFuture<'a, Result<Running<T>, OpenError>>;

type OpenFn<T> = dyn for<'a, 'b> FnOnce(&'a mut Setup<'b>) -> Opening<'a, T> + Send;

/// A part that was registered and is not open yet.
pub(crate) struct ClosedPart<T>(Box<OpenFn<T>>);

impl<T> ClosedPart<T> {
    fn new<F>(open: F) -> Self
    where
        F: for<'a, 'b> FnOnce(&'a mut Setup<'b>) -> Opening<'a, T> + Send + 'static,
    {
        Self(Box::new(open))
    }

    pub(crate) async fn open(self, setup: &mut Setup<'_>) -> Result<Running<T>, OpenError> {
        (self.0)(setup).await
    }
}

impl ClosedPart<Outlet> {
    pub(crate) fn inbound(part: impl Inbound) -> Self {
        Self::new(|setup| part.open(setup).boxed())
    }
}

impl ClosedPart<(Inlet, Outlet)> {
    pub(crate) fn outbound(part: impl Outbound) -> Self {
        Self::new(|setup| part.open(setup).boxed())
    }
}

impl ClosedPart<Stop> {
    pub(crate) fn bypass(part: impl Bypass) -> Self {
        Self::new(|setup| part.open(setup).boxed())
    }
}

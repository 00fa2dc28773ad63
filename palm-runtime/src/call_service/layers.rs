//! [`Layers`]: the layers of a component or client until it starts.

use std::fmt;

use parking_lot::Mutex;
use tower::Layer;

use super::error::CallServiceError;
use super::service::{CallService, LayeredService};

/// Layers in the order in which they were added.
///
/// They are applied in the runtime of the component or client, since some of tower's need one: they spawn a task or
/// create a timer. The lock makes builders `Sync` without that bound on layers.
pub(crate) struct Layers<E>(Mutex<Vec<Wrap<E>>>);

type Wrap<E> = Box<dyn FnOnce(CallService<E>) -> CallService<E> + Send>;

impl<E: CallServiceError> Layers<E> {
    /// Adds a layer around those that were added before.
    pub(crate) fn add<L>(&mut self, layer: L)
    where
        L: Layer<CallService<E>, Service: LayeredService> + Send + 'static,
    {
        let layers = self.0.get_mut();
        layers.push(Box::new(move |inner| {
            CallService::layered(layer.layer(inner))
        }));
    }

    /// Returns the outermost service, or `None` if there are no layers.
    pub(crate) fn into_service(self) -> Option<CallService<E>> {
        let layers = self.0.into_inner();
        let mut service = None;
        for wrap in layers {
            service = Some(wrap(service.unwrap_or_else(CallService::innermost)));
        }
        service
    }
}

impl<E> Default for Layers<E> {
    fn default() -> Self {
        Self(Mutex::new(Vec::new()))
    }
}

impl<E> fmt::Debug for Layers<E> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let layers = self.0.lock();
        write!(formatter, "Layers({})", layers.len())
    }
}

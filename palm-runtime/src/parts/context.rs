//! [`PartContext`]: the parts of a setup that most parts keep until they run.

use std::sync::Arc;

use crate::component_state::ComponentState;
use crate::context::ComponentContext;
use crate::discovery::Endpoint;
use crate::metrics::PartCounters;
use crate::part::{OpenError, Setup};
use crate::socket::{SocketError, SocketOptions};

/// The options, state and counters that a part keeps between its opening and its run.
#[derive(Debug)]
pub(super) struct PartContext {
    pub(super) options: SocketOptions,
    pub(super) context: Arc<ComponentContext>,
    pub(super) state: Arc<ComponentState>,
    pub(super) counters: Arc<PartCounters>,
}

impl PartContext {
    pub(super) fn new(setup: &Setup<'_>) -> Self {
        Self {
            options: setup.options.clone(),
            context: setup.context.clone(),
            state: setup.state.clone(),
            counters: setup.counters(),
        }
    }

    /// Returns the context of a part that connects to `endpoint`, after checking its address.
    pub(super) fn connecting(setup: &Setup<'_>, endpoint: &Endpoint) -> Result<Self, OpenError> {
        endpoint.check().map_err(SocketError::from)?;
        Ok(Self::new(setup))
    }
}

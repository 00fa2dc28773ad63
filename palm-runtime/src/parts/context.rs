//! What a part keeps from when it was opened until it runs.

use std::sync::Arc;

use crate::component_state::ComponentState;
use crate::context::ComponentContext;
use crate::discovery::Endpoint;
use crate::metrics::PartCounters;
use crate::part::{OpenError, Setup};
use crate::socket::{SocketError, SocketOptions};

/// What a part keeps from when it was opened until it runs.
#[derive(Debug)]
pub(super) struct PartContext {
    pub(super) options: SocketOptions,
    pub(super) context: Arc<ComponentContext>,
    pub(super) shared: Arc<ComponentState>,
    pub(super) counters: Arc<PartCounters>,
}

impl PartContext {
    pub(super) fn new(setup: &Setup<'_>) -> Self {
        Self {
            options: setup.options.clone(),
            context: setup.context.clone(),
            shared: setup.shared.clone(),
            counters: setup.counters(),
        }
    }

    /// Checks the address that the part connects to.
    pub(super) fn connecting(setup: &Setup<'_>, endpoint: &Endpoint) -> Result<Self, OpenError> {
        endpoint.check().map_err(SocketError::from)?;
        Ok(Self::new(setup))
    }
}

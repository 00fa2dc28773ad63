//! How full a queue is, for reports.

use std::sync::Arc;

use super::state::SharedQueue;
use crate::fair_queue::Usage;
use crate::report::Backlog;

trait Gauge: Send + Sync {
    fn usage(&self) -> Usage;

    fn limits(&self) -> Usage;
}

impl<T: Send> Gauge for SharedQueue<T> {
    fn usage(&self) -> Usage {
        self.lock().values.total()
    }

    fn limits(&self) -> Usage {
        self.lock().limits
    }
}

/// Reports how full a queue is.
pub(crate) struct QueueGauge(Arc<dyn Gauge>);

impl std::fmt::Debug for QueueGauge {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("QueueGauge").field(&self.0.usage()).finish()
    }
}

impl QueueGauge {
    pub(super) fn new<T: Send + 'static>(queue: Arc<SharedQueue<T>>) -> Self {
        Self(queue)
    }

    pub(crate) fn messages(&self) -> usize {
        self.0.usage().messages
    }

    #[cfg(test)]
    pub(crate) fn bytes(&self) -> usize {
        self.0.usage().bytes
    }

    /// Returns what waits in the queue, and its limits.
    pub(crate) fn backlog(&self) -> Backlog {
        let (usage, limits) = (self.0.usage(), self.0.limits());
        Backlog::new(usage.messages as u64, usage.bytes as u64)
            .with_limits(limits.messages as u64, limits.bytes as u64)
    }
}

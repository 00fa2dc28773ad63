//! The parts of a master that exchange tasks and results with workers.
//!
//! [`WorkerPushService`] assigns tasks to workers, [`WorkerPullService`] receives their results. Workers with a link
//! receive tasks from `link::dispatch`, which schedules them by load and redelivers the tasks of lost workers. Legacy
//! workers share one PUSH socket; what is needed for them only is in `legacy`.

mod backlog;
mod legacy;
mod pull;
mod push;
mod scheduler;

pub use pull::WorkerPullService;
pub(super) use pull::receive_results;
pub use push::WorkerPushService;
pub(super) use scheduler::TaskScheduler;

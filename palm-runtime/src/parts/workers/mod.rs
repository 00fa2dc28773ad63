//! The parts of a master that exchange tasks and results with workers.
//!
//! [`WorkerPushService`] assigns tasks to workers, [`WorkerPullService`] receives their results. Workers with a link
//! receive tasks from `link::dispatch`, which schedules them by load and redelivers the tasks of lost workers. Legacy
//! workers share one PUSH socket, which knows neither their load nor what became of their tasks, so these modules
//!
//! - count their tasks in `InFlightTasks`, so that a component that stops can wait for their results;
//! - split tasks between both kinds of workers in `legacy_balance`: least-loaded, with a bound of
//!   tasks for each legacy worker while others have links;
//! - push a task again if it has no result within `ack_wait`, if that is set (`legacy_push`).

mod legacy_balance;
mod legacy_push;
mod pull;
mod push;
mod scheduler;

pub use pull::WorkerPullService;
pub(super) use pull::receive_results;
pub use push::WorkerPushService;
pub(super) use scheduler::TaskScheduler;

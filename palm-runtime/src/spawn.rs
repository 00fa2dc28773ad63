//! Spawns tasks without a result, in a box.
//!
//! tokio's task is generic over its future. A box has one type for all futures, so that tokio's code is compiled once;
//! for each type of future it would be a twentieth of this crate's LLVM IR. Tasks of calls and requests are not boxed,
//! because a box for each of them costs time.

use futures_util::FutureExt;
use tokio::runtime::Handle;
use tokio::task::JoinHandle;

/// Spawns a task on the current runtime.
///
/// # Panics
///
/// Panics outside a runtime.
pub(crate) fn spawn(task: impl Future<Output = ()> + Send + 'static) -> JoinHandle<()> {
    tokio::spawn(task.boxed())
}

/// Spawns a task on a runtime.
pub(crate) fn spawn_on(
    runtime: &Handle,
    task: impl Future<Output = ()> + Send + 'static,
) -> JoinHandle<()> {
    runtime.spawn(task.boxed())
}

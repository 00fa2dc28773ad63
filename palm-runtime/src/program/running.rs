//! A component that runs until a signal, with its workers if they are in the same process.

use std::pin::pin;
use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::future::join_all;
use futures_util::stream::FuturesUnordered;
use tokio::time::{Instant, Interval, MissedTickBehavior};
use tokio_util::sync::CancellationToken;

use super::error::ProgramError;
use super::notify::Notifier;
use crate::component::{ComponentHandle, ComponentReadiness};
use crate::component_error::RunError;
use crate::signals::Signals;

/// How long after a signal another one counts as the same: `timeout` and terminals send signals to a process and to its
/// group.
const SAME_SIGNAL: Duration = Duration::from_millis(200);

/// How often the status is compared with the state of the components.
const REFRESH_INTERVAL: Duration = Duration::from_secs(1);

/// The components of this process.
pub(super) struct Started {
    pub(super) component: ComponentHandle,
    /// Its workers.
    pub(super) workers: Vec<ComponentHandle>,
}

/// Runs the components that `start` starts, until a signal or their end.
///
/// A signal during the start ends it. Later, a signal drains the component, and its workers after it; a second one ends
/// the program at once, unless it follows within [`SAME_SIGNAL`].
pub(super) async fn run(
    start: impl Future<Output = Result<Started, ProgramError>>,
    notifier: &Notifier,
) -> Result<(), ProgramError> {
    let mut signals = Signals::listen();
    notifier.status("starting");
    let started = tokio::select! {
        started = start => started?,
        () = signals.next() => return Ok(()),
    };
    let mut status = Status::new(&started);
    if status.changes() {
        notifier.status(&status.text);
    }
    let handles = std::iter::once(&started.component).chain(&started.workers);
    let mut connected = pin!(join_all(handles.map(ComponentHandle::in_place)));
    let mut is_ready = false;
    let mut watchdog = notifier.watchdog().map(beat);
    let mut refresh = notifier.is_read().then(|| beat(REFRESH_INTERVAL));
    let mut running = Running::new(started);
    let mut signalled: Option<Instant> = None;
    loop {
        tokio::select! {
            _ = &mut connected, if !is_ready => {
                is_ready = true;
                tracing::info!("{} is ready", status.component);
                status.text.clone_from(&status.component);
                notifier.ready(&status.text);
            }
            () = tick(&mut watchdog) => notifier.alive(),
            () = tick(&mut refresh), if signalled.is_none() => {
                if status.changes() {
                    notifier.status(&status.text);
                }
            }
            () = signals.next() => match signalled {
                None => {
                    signalled = Some(Instant::now());
                    notifier.stopping();
                    running.stop.cancel();
                }
                Some(first) if first.elapsed() < SAME_SIGNAL => {}
                Some(_) => return Err(ProgramError::Interrupted),
            },
            has_ended = running.next() => {
                if has_ended {
                    return running.outcome.map_err(|error| ProgramError::Failed(error.into()));
                }
            }
        }
    }
}

/// Describes the components of this process in a line.
struct Status {
    /// The name and address of the component.
    component: String,
    /// The component, and its workers.
    all: Vec<ComponentReadiness>,
    /// The current line: why a component is not ready, or the name and address.
    text: String,
}

impl Status {
    fn new(started: &Started) -> Self {
        let name = started.component.name();
        let mut addresses = ["db_address", "http_address"].into_iter();
        let component = match addresses.find_map(|key| started.component.address(key)) {
            Some(address) => format!("{name} at {address}"),
            None => name.to_owned(),
        };
        let handles = std::iter::once(&started.component).chain(&started.workers);
        Self {
            text: component.clone(),
            component,
            all: handles.map(ComponentHandle::readiness).collect(),
        }
    }

    /// Updates the line, and returns whether it has changed.
    fn changes(&mut self) -> bool {
        let mut all = self.all.iter().enumerate();
        let cause = all.find_map(|(number, it)| Some((number, it.name(), it.unready_cause()?)));
        let text = match cause {
            None => self.component.clone(),
            Some((0, _, cause)) => cause,
            Some((_, worker, cause)) => format!("worker {worker} {cause}"),
        };
        let has_changed = self.text != text;
        self.text = text;
        has_changed
    }
}

fn beat(interval: Duration) -> Interval {
    let mut interval = tokio::time::interval(interval);
    interval.set_missed_tick_behavior(MissedTickBehavior::Delay);
    interval
}

/// Waits for the next sign of life that is due. Cancel safe.
async fn tick(interval: &mut Option<Interval>) {
    match interval {
        Some(interval) => drop(interval.tick().await),
        None => std::future::pending().await,
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Role {
    Component,
    Worker,
}

/// The components that have not ended yet.
struct Running {
    /// Drains the component; its workers follow when it has ended, because it drains through them.
    stop: CancellationToken,
    stop_workers: CancellationToken,
    left: FuturesUnordered<futures_core::future::BoxFuture<'static, (Role, Result<(), RunError>)>>,
    /// The first failure.
    outcome: Result<(), RunError>,
}

impl Running {
    fn new(started: Started) -> Self {
        let (stop, stop_workers) = (CancellationToken::new(), CancellationToken::new());
        let left = FuturesUnordered::new();
        left.push(until(started.component, stop.clone(), Role::Component));
        for worker in started.workers {
            left.push(until(worker, stop_workers.clone(), Role::Worker));
        }
        Self {
            stop,
            stop_workers,
            left,
            outcome: Ok(()),
        }
    }

    /// Waits until a component ends, and returns whether it was the last one. Cancel safe.
    async fn next(&mut self) -> bool {
        let Some((role, outcome)) = self.left.next().await else {
            return true;
        };
        if role == Role::Component {
            self.stop_workers.cancel();
        } else if outcome.is_err() {
            self.stop.cancel();
        }
        if self.outcome.is_ok() {
            self.outcome = outcome;
        }
        self.left.is_empty()
    }
}

/// Waits until a component ends by itself, or drains it when `stop` is cancelled.
fn until(
    mut component: ComponentHandle,
    stop: CancellationToken,
    role: Role,
) -> futures_core::future::BoxFuture<'static, (Role, Result<(), RunError>)> {
    Box::pin(async move {
        tokio::select! {
            outcome = component.ended() => return (role, outcome),
            () = stop.cancelled() => {}
        }
        (role, component.shutdown().await)
    })
}

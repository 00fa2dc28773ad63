//! The tasks of a running component: their one owner starts, stops and awaits them.

use std::time::Duration;

use tokio::task::{JoinError, JoinSet};
use tokio_util::sync::CancellationToken;
use tracing::Instrument;

use crate::callable::catch_panic;
use crate::error::BoxError;
use crate::part::Stop;
use crate::socket::Kill;

/// Why a component stopped before it was told to.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RunError {
    /// A part failed.
    #[error("`{component}` stopped: its part `{part}` failed")]
    Part {
        /// The component's name.
        component: String,
        /// The part's name.
        part: String,
        /// The cause.
        source: BoxError,
    },
    /// The component did not finish what it had within its drain limit; the rest is lost.
    #[error("`{component}` was not done {limit:?} after it was told to stop: {parts} did not end")]
    Drain {
        /// The component's name.
        component: String,
        /// Its drain limit.
        limit: Duration,
        /// The parts that were not done.
        parts: String,
    },
}

type Ended = (String, Result<(), BoxError>);

/// The parts of a component, as tasks.
pub(super) struct Parts {
    component: String,
    stop: Stop,
    bypass_stop: CancellationToken,
    routed: JoinSet<Ended>,
    bypasses: JoinSet<Ended>,
    names: Vec<String>,
}

impl Parts {
    pub(super) fn new(component: String, stop: Stop) -> Self {
        Self {
            component,
            stop,
            bypass_stop: CancellationToken::new(),
            routed: JoinSet::new(),
            bypasses: JoinSet::new(),
            names: Vec::new(),
        }
    }

    pub(super) fn bypass_stop(&self) -> Stop {
        Stop {
            token: self.bypass_stop.clone(),
            linger: self.stop.linger,
        }
    }

    pub(super) fn spawn(
        &mut self,
        name: &str,
        part: impl Future<Output = Result<(), BoxError>> + Send + 'static,
    ) {
        self.names.push(name.to_owned());
        let name = name.to_owned();
        let part = catch_panic(part, |panic| Err(panic.into()));
        let part = async move { (name, part.await) };
        self.routed.spawn(part.in_current_span());
    }

    pub(super) fn spawn_bypass(
        &mut self,
        name: &str,
        part: impl Future<Output = Result<(), BoxError>> + Send + 'static,
    ) {
        let name = name.to_owned();
        let part = catch_panic(part, |panic| Err(panic.into()));
        let part = async move { (name, part.await) };
        self.bypasses.spawn(part.in_current_span());
    }

    fn ended(&mut self, ended: Result<Ended, JoinError>) -> Result<(), RunError> {
        let (part, result) = match ended {
            Ok(ended) => ended,
            // Only when the runtime is shut down: panics are caught.
            Err(error) => ("?".to_owned(), Err(error.into())),
        };
        self.names.retain(|name| *name != part);
        result.map_err(|source| RunError::Part {
            component: self.component.clone(),
            part,
            source,
        })
    }

    /// Once they are told to stop: lets all of them finish, within the limit, and ends the rest.
    pub(super) async fn drain(&mut self) -> Result<(), RunError> {
        let limit = self.stop.linger;
        // Closing sockets linger for as long as the limit, so a moment more is due to them.
        let end = tokio::time::Instant::now() + limit + Duration::from_millis(500);
        let mut failures = Vec::new();
        let drained = tokio::time::timeout_at(end, async {
            while let Some(ended) = self.routed.join_next().await {
                failures.extend(self.ended(ended).err());
            }
            self.bypass_stop.cancel();
            while let Some(ended) = self.bypasses.join_next().await {
                failures.extend(self.ended(ended).err());
            }
        });
        if drained.await.is_err() {
            failures.push(RunError::Drain {
                component: self.component.clone(),
                limit,
                parts: self.names.join(", "),
            });
        }
        self.routed.shutdown().await;
        self.bypasses.shutdown().await;
        failures.into_iter().next().map_or(Ok(()), Err)
    }

    /// Ends all of them where they are, and with them their sockets. A method that does not await is
    /// waited for, within the limit.
    async fn kill(&mut self, kill: &Kill) {
        self.bypass_stop.cancel();
        let ended = async {
            tokio::join!(self.routed.shutdown(), self.bypasses.shutdown());
            kill.closed().await;
        };
        let _ = tokio::time::timeout(self.stop.linger, ended).await;
        tracing::info!("{} was killed", self.component);
    }
}

/// Lets the component run until it stops, or is killed.
pub(super) async fn supervise(mut parts: Parts, kill: Kill) -> Result<(), RunError> {
    if let Some(outcome) = kill.or(run(&mut parts)).await {
        return outcome;
    }
    parts.kill(&kill).await;
    Ok(())
}

/// Waits until the component is told to stop, or a part fails; then lets it drain, and ends it.
async fn run(parts: &mut Parts) -> Result<(), RunError> {
    let mut outcome = Ok(());
    loop {
        let ended = tokio::select! {
            () = parts.stop.stopped() => break,
            Some(ended) = parts.routed.join_next() => ended,
            Some(ended) = parts.bypasses.join_next() => ended,
            else => break,
        };
        outcome = parts.ended(ended);
        // Without a part that is routed nothing is left to wait for.
        if outcome.is_err() || parts.routed.is_empty() {
            break;
        }
    }
    parts.stop.token.cancel();
    match &outcome {
        Ok(()) => tracing::info!("stops: finishes what it has"),
        Err(error) => tracing::error!("{}", crate::error::chain(error)),
    }
    let outcome = outcome.and(parts.drain().await);
    tracing::info!("{} stopped", parts.component);
    outcome
}

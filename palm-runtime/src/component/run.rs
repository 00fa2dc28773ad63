//! The tasks of a running component: their one owner starts, stops and awaits them.

use std::time::Duration;

use tokio::task::{JoinError, JoinSet};
use tokio_util::sync::CancellationToken;
use tracing::Instrument;

use crate::callable::catch_panic;
use crate::error::BoxError;
use crate::part::Stop;

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
    stop: Stop,
    bypass_stop: CancellationToken,
    routed: JoinSet<Ended>,
    bypasses: JoinSet<Ended>,
    names: Vec<String>,
}

impl Parts {
    pub(super) fn new(stop: Stop) -> Self {
        Self {
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
}

/// Waits until the component is told to stop, or a part fails; then lets it drain, and ends it.
pub(super) async fn supervise(mut parts: Parts, component: String) -> Result<(), RunError> {
    let mut outcome = Ok(());
    let failed = |ended: Result<Ended, JoinError>, names: &mut Vec<String>| {
        let (part, result) = match ended {
            Ok(ended) => ended,
            // Only when the runtime is shut down: panics are caught.
            Err(error) => ("?".to_owned(), Err(error.into())),
        };
        names.retain(|name| *name != part);
        result.map_err(|source| RunError::Part {
            component: component.clone(),
            part,
            source,
        })
    };

    loop {
        let ended = tokio::select! {
            () = parts.stop.stopped() => break,
            Some(ended) = parts.routed.join_next() => ended,
            Some(ended) = parts.bypasses.join_next() => ended,
            else => break,
        };
        outcome = failed(ended, &mut parts.names);
        // Without a part that is routed nothing is left to wait for.
        if outcome.is_err() || parts.routed.is_empty() {
            break;
        }
    }
    parts.stop.token.cancel();
    if let Err(error) = &outcome {
        tracing::error!("{}", crate::error::chain(error));
    } else {
        tracing::info!("stops: finishes what it has");
    }

    let limit = parts.stop.linger;
    let drain = async {
        while let Some(ended) = parts.routed.join_next().await {
            let ended = failed(ended, &mut parts.names);
            if outcome.is_ok() {
                outcome = ended;
            }
        }
        parts.bypass_stop.cancel();
        while let Some(ended) = parts.bypasses.join_next().await {
            let ended = failed(ended, &mut parts.names);
            if outcome.is_ok() {
                outcome = ended;
            }
        }
    };
    // Closing sockets linger for as long as the limit, so a moment more is due to them.
    let drained = tokio::time::timeout(limit + Duration::from_millis(500), drain).await;
    if drained.is_err() && outcome.is_ok() {
        outcome = Err(RunError::Drain {
            component: component.clone(),
            limit,
            parts: parts.names.join(", "),
        });
    }
    parts.routed.shutdown().await;
    parts.bypasses.shutdown().await;
    tracing::info!("{component} stopped");
    outcome
}

//! The errors of a component that does not start, or that stops because of a failure.

use std::time::Duration;

use crate::failure::BoxError;
use crate::network::ExposedError;
use crate::part::OpenError;

/// The error of a component that could not be started.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// The configuration has mistakes. No part was opened.
    ///
    /// Mistakes of a component are:
    ///
    /// - a name that is empty or contains a space or dot;
    /// - limits and timeouts of zero;
    /// - addresses that are malformed, that two parts bind, or that can only be bound although the component connects;
    /// - a pipeline or hub that follows no component or several, a sink that follows one twice, and a component that
    ///   follows itself.
    ///
    /// Further mistakes of a [`ServerTemplate`](crate::ServerTemplate) are:
    ///
    /// - no parts, two parts with one name, or two cache services;
    /// - routes that lead to missing parts or form a cycle;
    /// - inbound parts without a route, and outbound parts that no route leads to;
    /// - a [`WorkerPushService`](crate::parts::WorkerPushService) without a
    ///   [`WorkerPullService`](crate::parts::WorkerPullService).
    #[error("cannot start `{component}`")]
    #[non_exhaustive]
    Configuration {
        /// The component's name.
        component: String,
        /// All mistakes of the configuration.
        source: ConfigurationError,
    },
    /// A part could not be opened.
    #[error("cannot start `{component}`: its part `{part}` cannot be opened")]
    #[non_exhaustive]
    Open {
        /// The component's name.
        component: String,
        /// The part's name.
        part: String,
        /// The cause.
        source: OpenError,
    },
    /// Other hosts could reach an address that the component binds, and the network is not trusted.
    #[error("cannot start `{component}`: other hosts could reach its `{option}`")]
    #[non_exhaustive]
    Exposed {
        /// The component's name.
        component: String,
        /// The option or key of the address, such as `db_address`.
        option: &'static str,
        /// The address, and what to do.
        source: ExposedError,
    },
    /// The component's own thread could not be started.
    #[error("cannot start `{component}`: its own thread cannot be started")]
    #[non_exhaustive]
    Thread {
        /// The component's name.
        component: String,
        /// The cause.
        source: std::io::Error,
    },
    /// The members of a test cluster (`palm::testing::Cluster`) do not fit together.
    #[error("cannot start `{component}`: {problem}")]
    #[non_exhaustive]
    Topology {
        /// The component's name.
        component: String,
        /// The problem, and what to do.
        problem: String,
    },
    /// The `db_address` is malformed or cannot be used.
    #[error("cannot start `{component}`")]
    #[non_exhaustive]
    Address {
        /// The component's name.
        component: String,
        /// The cause.
        source: crate::socket::SocketError,
    },
    /// A component of a test cluster did not connect to its upstream components in time.
    #[error("`{component}` did not connect to its upstream components within {waited:?}")]
    #[non_exhaustive]
    Unconnected {
        /// The component's name.
        component: String,
        /// The timeout.
        waited: Duration,
    },
}

/// The error of a component that failed or did not drain.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RunError {
    /// A part failed.
    #[error("`{component}` stopped: its part `{part}` failed")]
    #[non_exhaustive]
    Part {
        /// The component's name.
        component: String,
        /// The part's name.
        part: String,
        /// The cause.
        source: BoxError,
    },
    /// The component did not drain within its limit.
    ///
    /// A worker has returned its remaining tasks to its master; clients send their calls again.
    #[error("`{component}` did not drain within {limit:?}: {parts} did not end")]
    #[non_exhaustive]
    Drain {
        /// The component's name.
        component: String,
        /// Its drain limit.
        limit: Duration,
        /// The parts that did not end.
        parts: String,
    },
}

/// The mistakes in the configuration of a component, each with its option or part and what to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigurationError {
    mistakes: Vec<String>,
}

impl ConfigurationError {
    pub(crate) fn new(mistakes: Vec<String>) -> Self {
        Self { mistakes }
    }

    /// Returns the mistakes, one sentence each. There is at least one.
    pub fn mistakes(&self) -> &[String] {
        &self.mistakes
    }
}

impl std::fmt::Display for ConfigurationError {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if let [mistake] = &*self.mistakes {
            return formatter.write_str(mistake);
        }
        write!(formatter, "{} mistakes", self.mistakes.len())?;
        for (index, mistake) in self.mistakes.iter().enumerate() {
            let before = if index == 0 { ": " } else { "; " };
            write!(formatter, "{before}({}) {mistake}", index + 1)?;
        }
        Ok(())
    }
}

impl std::error::Error for ConfigurationError {}

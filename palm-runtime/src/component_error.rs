//! Why a component does not start, or stops before it is told to.

use std::time::Duration;

use crate::failure::BoxError;
use crate::network::ExposedError;
use crate::part::OpenError;

/// Why a component could not be started.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// It cannot work as it is configured. Nothing was opened.
    ///
    /// Refused are: a name that is empty or has a space or dot; limits and timeouts of zero; addresses that are
    /// malformed, that two parts are to be bound to, or that can only be bound where it connects; a pipeline or
    /// hub with no component or two to follow, a sink with one of them twice, a follower of itself; and in a
    /// [`ServerTemplate`] two parts of one name, routes to parts that do not exist or that form a circle, inbound
    /// parts without a route, outbound parts that no route leads to, two cache services, a
    /// [`WorkerPushService`](crate::parts::WorkerPushService) without a
    /// [`WorkerPullService`](crate::parts::WorkerPullService), and no parts at all.
    #[error("cannot start `{component}`")]
    Configuration {
        /// The component's name.
        component: String,
        /// All mistakes.
        source: ConfigurationError,
    },
    /// A part could not be opened.
    #[error("cannot start `{component}`: its part `{part}` cannot be opened")]
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
    Exposed {
        /// The component's name.
        component: String,
        /// The option or key of the address, such as `db_address`.
        option: &'static str,
        /// Which address it is, and what to do.
        source: ExposedError,
    },
    /// The component's own thread could not be started.
    #[error("cannot start `{component}`: its own thread cannot be started")]
    Thread {
        /// The component's name.
        component: String,
        /// The cause.
        source: std::io::Error,
    },
    /// An option is missing or does not fit the others.
    #[error("cannot start `{component}`: {problem}")]
    Option {
        /// The component's name.
        component: String,
        /// What is wrong, and what to do.
        problem: String,
    },
    /// The `db_address` is no address, or cannot be used.
    #[error("cannot start `{component}`")]
    Address {
        /// The component's name.
        component: String,
        /// The cause.
        source: crate::socket::SocketError,
    },
    /// A component of a test cluster did not connect to its upstream components in time.
    #[error("`{component}` did not connect to its upstream components within {waited:?}")]
    Unconnected {
        /// The component's name.
        component: String,
        /// How long it was waited for.
        waited: Duration,
    },
}

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
    /// The component did not drain within its limit.
    ///
    /// A worker has returned its remaining tasks to its master; clients send their calls again.
    #[error("`{component}` did not drain within {limit:?}: {parts} did not end")]
    Drain {
        /// The component's name.
        component: String,
        /// Its drain limit.
        limit: Duration,
        /// The parts that were not done.
        parts: String,
    },
}

/// Why a component cannot work as it is configured: every mistake, with the names of the options or parts and
/// what to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigurationError {
    mistakes: Vec<String>,
}

impl ConfigurationError {
    pub(crate) fn new(mistakes: Vec<String>) -> Self {
        Self { mistakes }
    }

    /// The mistakes, one sentence each. There is at least one.
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

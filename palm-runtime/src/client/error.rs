//! [`ConnectError`] and [`CallError`].

use std::time::Duration;

use crate::failure::{BoxError, FailureKind};
use crate::function::{StepError, Steps, unfinished_step};
use crate::message::RemoteError;
use crate::payload::type_name;
use crate::socket::SocketError;

/// Error of [`Client::connect`](crate::Client::connect).
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConnectError {
    /// An address is invalid, or a socket cannot connect to it.
    #[error(transparent)]
    Socket(#[from] SocketError),
    /// The component at `db_address` did not answer in time.
    #[error("no answer from `{address}` within {waited:?}{}", suffix(cause))]
    #[non_exhaustive]
    NoAnswer {
        /// The `db_address`.
        address: String,
        /// The key that was requested.
        key: &'static str,
        /// The time that the client waited.
        waited: Duration,
        /// The cause of the wait, if it is known, for example `connection refused`.
        cause: Option<String>,
    },
    /// The host of an address was not found within a second.
    #[error("cannot connect to `{address}`: {cause}")]
    #[non_exhaustive]
    HostNotFound {
        /// The address.
        address: String,
        /// The error of the system.
        cause: String,
    },
    /// The component at `db_address` accepts no calls.
    #[error("{problem}")]
    #[non_exhaustive]
    NotCallable {
        /// The `db_address`.
        address: String,
        /// The kind of the component, and the kinds that accept calls.
        problem: String,
    },
    /// The component at `db_address` has another name.
    #[error("the component at `{address}` is called `{found}`, not `{expected}`: {hint}")]
    #[non_exhaustive]
    Name {
        /// The `db_address`.
        address: String,
        /// The name that was passed to the client.
        expected: String,
        /// The name that the component publishes.
        found: String,
        /// How to correct it.
        hint: String,
    },
    /// The component publishes a malformed address.
    #[error("the component at `{address}` publishes a malformed `{key}`: `{value}`")]
    #[non_exhaustive]
    BadAddress {
        /// The `db_address`.
        address: String,
        /// The key that was requested.
        key: &'static str,
        /// The value of the key.
        value: String,
    },
    /// The client could not connect to the component that answers, or its subscription was not confirmed in time.
    #[error(
        "no connection to `{address}`, where answers are published, within {waited:?}{}",
        suffix(cause)
    )]
    #[non_exhaustive]
    NoPublisher {
        /// The `pub_address` of the component that answers, or its `db_address` if it accepts links.
        address: String,
        /// The time that the client waited.
        waited: Duration,
        /// The cause of the wait, if it is known, for example `connection refused`.
        cause: Option<String>,
    },
    /// [`this_config`](crate::ClientBuilder::this_config) is set, and an address is missing.
    #[error("`this_config` requires `push_address` and `sub_address`")]
    Incomplete,
}

/// Error of a call.
///
/// Returned by [`Client::eval`](crate::Client::eval), [`Client::send`](crate::Client::send) and
/// [`Job::next`](crate::Job::next).
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CallError {
    /// The steps of the call are malformed. Nothing was sent.
    #[error(transparent)]
    Steps(#[from] StepError),
    /// The connected component does not have the function. Nothing was sent.
    #[error("unknown function `{function}`; {hint}")]
    #[non_exhaustive]
    UnknownFunction {
        /// The steps of the call.
        function: String,
        /// Functions with similar names, or a list of all functions.
        hint: String,
    },
    /// The component reported that the function failed or cannot be called.
    #[error(transparent)]
    Remote(#[from] RemoteError),
    /// No answer arrived in time.
    ///
    /// The message or the answer was lost, the function does not answer or is slow, or the message could not be sent in
    /// time.
    #[error(
        "no answer to {}`{function}` within {waited:?}{}",
        input_of(*input),
        suffix(cause)
    )]
    #[non_exhaustive]
    Timeout {
        /// The steps of the call.
        function: String,
        /// The number of the input of a job that was not answered while others were, from 0. `None` for a single
        /// call, and for the error that ends a job.
        input: Option<u64>,
        /// The time that the client waited; for a job, since the last answer.
        waited: Duration,
        /// The cause of the wait, if it is known: the connection is lost, or the called component reports a cause, as a
        /// master without workers does.
        cause: Option<String>,
    },
    /// The function or a later step returned no answer, and none will follow.
    #[error("`{function}` returned no answer")]
    #[non_exhaustive]
    NoAnswer {
        /// The steps of the call.
        function: String,
    },
    /// The component of the last step was not found. Nothing was sent.
    #[error("no route for `{function}`: {problem}")]
    #[non_exhaustive]
    NoRoute {
        /// The steps of the call.
        function: String,
        /// The step without a follower, and how to correct it.
        problem: String,
    },
    /// An earlier step than the last one answered, so the call has no result.
    ///
    /// A component that sends its results to clients by default needs `pipelined(true)` to send them to the next
    /// step. A hook `handle_stream` that answers the client before the last step must set the `stage` of the last
    /// step.
    #[error(
        "`{function}` was answered by step {}, `{answered}`, instead of its last step: set `.pipelined(true)` on the component of that step, or correct `.answered_by(..)` if it does not name the last component",
        step + 1
    )]
    #[non_exhaustive]
    Unfinished {
        /// The steps of the call.
        function: String,
        /// The number of the step that answered, from 0.
        step: usize,
        /// The step that answered, as `server.function`.
        answered: String,
    },
    /// A method called its own component, which keeps the order of answers: the answer to the inner call would have
    /// to wait for the outer one, which waits for the inner one. The client no longer waits for the answer.
    #[error(
        "deadlock: a method waits for `{function}` of its own component, which answers calls in order, so the answer would have to wait for the method: call the other method directly, or let a worker run it"
    )]
    #[non_exhaustive]
    Deadlock {
        /// The steps of the call.
        function: String,
    },
    /// The end of the job cannot be detected, because a component on the route is a legacy peer or has no links. Set the
    /// number of answers with [`Job::expect_answers`](crate::Job::expect_answers).
    #[error(
        "the end of the job `{function}` cannot be known, since a component on the way does not report completion: set the number of answers by `.expect_answers(n)`"
    )]
    #[non_exhaustive]
    Completion {
        /// The steps of the call.
        function: String,
    },
    /// The message exceeds the size that components accept. Nothing was sent.
    #[error("the message to `{function}` has {len} bytes, the limit is {limit}")]
    #[non_exhaustive]
    TooLarge {
        /// The steps of the call.
        function: String,
        /// Length of the message in bytes.
        len: usize,
        /// [`SocketOptions::max_message_bytes`](crate::socket::SocketOptions::max_message_bytes).
        limit: usize,
    },
    /// The argument cannot be encoded. Nothing was sent.
    #[error("the argument of `{function}` cannot be encoded: {source}")]
    #[non_exhaustive]
    Encode {
        /// The steps of the call.
        function: String,
        /// The error of encoding the argument.
        source: BoxError,
    },
    /// The answer is not of the type that the function is declared to return.
    #[error("the answer of `{function}` is not a `{expected}`: {source}")]
    #[non_exhaustive]
    Decode {
        /// The steps of the call.
        function: String,
        /// The declared type.
        expected: String,
        /// The error of decoding the answer, with the position.
        source: BoxError,
    },
    /// A layer of the client failed the call; see [`ClientBuilder::layer`](crate::ClientBuilder::layer).
    #[error("a layer failed `{function}`: {source}")]
    #[non_exhaustive]
    Layer {
        /// The steps of the call.
        function: String,
        /// The kind of failure: that of a [`CallFailure`](crate::CallFailure) among the causes,
        /// [`ResourceExhausted`](FailureKind::ResourceExhausted) for a call that `tower::load_shed` rejected, and
        /// [`Failed`](FailureKind::Failed) otherwise.
        kind: FailureKind,
        /// The error of the layer.
        source: BoxError,
    },
    /// The client is closed.
    #[error("the client is closed")]
    Closed,
}

/// Formats the cause at the end of an error's text.
fn suffix(cause: &Option<String>) -> String {
    cause
        .as_ref()
        .map_or_else(String::new, |cause| format!(": {cause}"))
}

fn input_of(input: Option<u64>) -> String {
    input.map_or_else(String::new, |input| format!("input {input} of "))
}

impl CallError {
    pub(crate) fn encode(function: impl std::fmt::Display, source: BoxError) -> Self {
        Self::Encode {
            function: function.to_string(),
            source,
        }
    }

    /// Returns an error if a result at `stage` of `function` does not come from the last step.
    pub(crate) fn unfinished(function: &str, stage: i64) -> Option<Self> {
        let (step, answered) = unfinished_step(function, stage)?;
        Some(Self::Unfinished {
            function: function.to_owned(),
            step,
            answered: answered.to_owned(),
        })
    }

    pub(super) fn deadlock(steps: &Steps) -> Self {
        Self::Deadlock {
            function: steps.to_string(),
        }
    }

    pub(super) fn timeout(steps: &Steps, waited: Duration, cause: Option<String>) -> Self {
        Self::Timeout {
            function: steps.to_string(),
            input: None,
            waited,
            cause,
        }
    }

    /// Returns whether all calls of the same function would fail in the same way.
    pub(super) fn is_unknown_function(&self) -> bool {
        matches!(self, Self::Remote(error) if error.kind == FailureKind::UnknownFunction)
    }

    /// The error of an answer that is not a `Value`.
    pub(crate) fn decode<Value>(function: String, source: BoxError) -> Self {
        Self::Decode {
            function,
            expected: type_name::<Value>(),
            source,
        }
    }

    /// Returns whether the same call may succeed if it is repeated.
    ///
    /// After a timeout the function may run twice if the call is repeated; see the guide, `palm::guide::delivery`.
    pub fn is_transient(&self) -> bool {
        match self {
            // The missing component may start later.
            Self::Timeout { .. } | Self::NoRoute { .. } => true,
            Self::Remote(RemoteError { kind, .. }) | Self::Layer { kind, .. } => {
                matches!(
                    kind,
                    FailureKind::Unavailable | FailureKind::ResourceExhausted
                )
            }
            _ => false,
        }
    }
}

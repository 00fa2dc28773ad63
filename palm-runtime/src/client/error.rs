//! What can go wrong for a client.

use std::time::Duration;

use bytes::Bytes;

use crate::failure::{BoxError, FailureKind};
use crate::function::{Answer, StepError, Steps, unfinished_step};
use crate::message::RemoteError;
use crate::payload::type_name;
use crate::socket::SocketError;

/// Why a client could not connect.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConnectError {
    /// An address is none, or cannot be connected to.
    #[error(transparent)]
    Socket(#[from] SocketError),
    /// The component at `db_address` has not answered in time.
    #[error("no answer from `{address}` within {waited:?}{}", suffix(cause))]
    NoAnswer {
        /// The `db_address`.
        address: String,
        /// What was asked for.
        key: &'static str,
        /// How long the client waited.
        waited: Duration,
        /// Why it waited, if that is known: for example `connection refused`.
        cause: Option<String>,
    },
    /// The host of an address is not found, and was not for a second. Waiting for it would rarely help.
    #[error("cannot connect to `{address}`: {cause}")]
    HostNotFound {
        /// The address.
        address: String,
        /// What the system reports.
        cause: String,
    },
    /// The component at `db_address` is not one that can be called.
    #[error("{problem}")]
    NotCallable {
        /// The `db_address`.
        address: String,
        /// Which kind of component it is, and which kinds can be called.
        problem: String,
    },
    /// Another component is at `db_address`.
    #[error("the component at `{address}` is called `{found}`, not `{expected}`: {hint}")]
    Name {
        /// The `db_address`.
        address: String,
        /// The name that the client was told.
        expected: String,
        /// The name that the component tells.
        found: String,
        /// What to do.
        hint: String,
    },
    /// The component tells something that is no address.
    #[error("the component at `{address}` tells no usable {key}: `{value}`")]
    BadAddress {
        /// The `db_address`.
        address: String,
        /// What was asked for.
        key: &'static str,
        /// What it told.
        value: String,
    },
    /// Nobody publishes answers.
    #[error(
        "no connection to `{address}`, where answers are published, within {waited:?}{}",
        suffix(cause)
    )]
    NoPublisher {
        /// The `pub_address` of the last component.
        address: String,
        /// How long the client waited.
        waited: Duration,
        /// Why it waited, if that is known: for example `connection refused`.
        cause: Option<String>,
    },
    /// `this_config` needs both addresses.
    #[error("with `this_config` both `push_address` and `sub_address` have to be given")]
    Incomplete,
}

/// Why a call has no answer.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CallError {
    /// What was to be called is no list of functions.
    #[error(transparent)]
    Steps(#[from] StepError),
    /// The component that the client is connected to has no such function; nothing was sent.
    #[error("unknown function `{function}`; {hint}")]
    UnknownFunction {
        /// What was called.
        function: String,
        /// The functions that may be meant, or all that there are.
        hint: String,
    },
    /// The function failed, or cannot be called; the component tells.
    #[error(transparent)]
    Remote(#[from] RemoteError),
    /// No answer came in time: it was lost, the function gave none, or it takes longer; or the message
    /// could not be sent in time.
    #[error(
        "no answer to {}`{function}` within {waited:?}{}",
        input_of(*input),
        suffix(cause)
    )]
    Timeout {
        /// What was called.
        function: String,
        /// The input of a job that was not answered, while others were: its number, from 0 on. `None` for a
        /// single call, and for a job that ends with this.
        input: Option<u64>,
        /// How long it was waited for; for a job, since the answer before.
        waited: Duration,
        /// Why the call waited in the end, if that is known: the connection is lost, or the component that was
        /// called reports why it waits itself, as a master without workers.
        cause: Option<String>,
    },
    /// The function, or a step behind it, has given no answer, and will give none.
    #[error("`{function}` gives no answer")]
    NoAnswer {
        /// What was called.
        function: String,
    },
    /// The component that does the last step was not found, so nothing was sent.
    #[error("no route for `{function}`: {problem}")]
    NoRoute {
        /// What was called.
        function: String,
        /// The step that no component follows for, and what to start or to say.
        problem: String,
    },
    /// The answer comes from an earlier step than the last one, so the call has no result. A component that
    /// sends its results to clients is told by `pipelined(true)` to send them to the next step. A hook
    /// `handle_stream` that answers the client before the last step sets the `stage` of the last step.
    #[error(
        "`{function}` was answered by step {}, `{answered}`, and not by its last step: the component of that step sends its results to the client (it needs `.pipelined(true)`), or the client is told another component than the last one by `.answered_by(..)`",
        step + 1
    )]
    Unfinished {
        /// What was called.
        function: String,
        /// The number of the step that has answered, from 0 on.
        step: usize,
        /// That step, as `server.function`.
        answered: String,
    },
    /// A method has called its own component, whose answers leave in the order of the calls: the inner call could
    /// only be answered after the outer one, which waits for it. Nothing waits for the answer any more.
    #[error(
        "a method of the component that runs `{function}` waits for it, but answers leave there in the order of the calls, so that the inner call could only be answered after the outer one: call the other method directly, or let a worker do it"
    )]
    Deadlock {
        /// What was called.
        function: String,
    },
    /// Whether all answers of a job have come cannot be known: a component on their way is of old, or has
    /// no links, and does not tell. [`Job::expect_answers`](crate::Job::expect_answers) says how many there will be.
    #[error(
        "whether all answers of `{function}` have come is not known, since a component on their way does not tell: say how many there will be by `.expect_answers(n)`"
    )]
    Completion {
        /// What was called.
        function: String,
    },
    /// The payload is larger than what components accept.
    #[error("the message to `{function}` has {len} bytes, the limit is {limit}")]
    TooLarge {
        /// What was called.
        function: String,
        /// Bytes of the message.
        len: usize,
        /// [`SocketOptions::max_message_bytes`](crate::socket::SocketOptions).
        limit: usize,
    },
    /// The argument cannot be written; nothing was sent.
    #[error("the argument of `{function}` cannot be written: {source}")]
    Encode {
        /// What was called.
        function: String,
        /// Why.
        source: BoxError,
    },
    /// The answer is not of the type that the function is said to give.
    #[error("the answer of `{function}` is no `{expected}`: {source}")]
    Decode {
        /// What was called.
        function: String,
        /// What it is said to give.
        expected: String,
        /// Why, and where.
        source: BoxError,
    },
    /// The client is closed.
    #[error("the client is closed")]
    Closed,
}

/// The end of the text of an error that has a cause.
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

    /// The error for a result at `stage` of `function`, if that is not the last step.
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

    /// Whether no other call of the same function would do better.
    pub(super) fn is_unknown_function(&self) -> bool {
        matches!(self, Self::Remote(error) if error.kind == FailureKind::UnknownFunction)
    }

    /// The value of an answer.
    pub(super) fn answer<Output: Answer>(
        payload: Bytes,
        function: impl FnOnce() -> String,
    ) -> Result<Output::Value, Self> {
        Output::read(payload).map_err(|source| Self::Decode {
            function: function(),
            expected: type_name::<Output::Value>(),
            source,
        })
    }

    /// Whether the same call may succeed if it is made again. After a timeout the function may then run
    /// twice.
    pub fn is_transient(&self) -> bool {
        match self {
            // Components that follow may be started later.
            Self::Timeout { .. } | Self::NoRoute { .. } => true,
            Self::Remote(error) => error.kind == FailureKind::Unavailable,
            _ => false,
        }
    }
}

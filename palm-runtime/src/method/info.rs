//! The description of a function, as components list it.

use std::time::Duration;

/// One function of a component, as it is listed and dispatched.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct FunctionInfo {
    /// The name that it is called by.
    pub name: &'static str,
    /// The first line of its documentation; empty where there is none.
    pub doc: &'static str,
    /// The type of its argument, as written; empty where it takes none.
    pub input: &'static str,
    /// The type of its result, as written; `()` where it gives none.
    pub output: &'static str,
    /// Whether it takes `&self` or `&mut self`.
    pub receiver: Receiver,
    /// How many results a call has.
    pub results: Results,
    /// Whether it asks for the [`Context`](crate::Context) of the call.
    pub takes_context: bool,
    /// Whether a call must not be run twice.
    pub at_most_once: bool,
    /// How long a call may run; then it fails, with [`FailureKind::DeadlineExceeded`].
    ///
    /// [`FailureKind::DeadlineExceeded`]: crate::FailureKind::DeadlineExceeded
    pub max_runtime: Option<Duration>,
}

impl FunctionInfo {
    #[doc(hidden)]
    pub const fn new(
        name: &'static str,
        doc: &'static str,
        types: (&'static str, &'static str),
        receiver: Receiver,
        results: Results,
        takes_context: bool,
    ) -> Self {
        let (input, output) = types;
        Self {
            name,
            doc,
            input,
            output,
            receiver,
            results,
            takes_context,
            at_most_once: false,
            max_runtime: None,
        }
    }

    /// A call of it may run for so many milliseconds.
    #[doc(hidden)]
    #[must_use]
    pub const fn max_runtime_ms(mut self, milliseconds: u64) -> Self {
        self.max_runtime = Some(Duration::from_millis(milliseconds));
        self
    }

    /// A call of it must not be run twice.
    #[doc(hidden)]
    #[must_use]
    pub const fn at_most_once(mut self) -> Self {
        self.at_most_once = true;
        self
    }
}

/// How a method takes its component.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Receiver {
    /// `&self`: calls run side by side.
    Shared,
    /// `&mut self`: one call at a time.
    Exclusive,
}

/// How many results a call of a function has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Results {
    /// At most one.
    One,
    /// An iterator or a stream of them.
    Many,
}

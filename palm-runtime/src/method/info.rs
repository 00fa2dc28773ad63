//! [`FunctionInfo`]: a function as it is listed in the descriptor and dispatched.

use std::borrow::Cow;
use std::time::Duration;

/// A function of a component, as it is listed in the descriptor and dispatched.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct FunctionInfo {
    /// The name by which it is called.
    pub name: Cow<'static, str>,
    /// The first line of its documentation. Empty if it has none.
    pub doc: Cow<'static, str>,
    /// The type of its argument, as written. Empty if it has none.
    pub input: Cow<'static, str>,
    /// The type of its result, as written. `()` if it has none.
    pub output: Cow<'static, str>,
    /// Whether it takes `&self` or `&mut self`.
    pub receiver: Receiver,
    /// The number of results of a call.
    pub results: Results,
    /// Whether it takes the [`Context`](crate::Context) of the call.
    pub takes_context: bool,
    /// Whether a call must not run twice.
    pub at_most_once: bool,
    /// Limit on the run time of a call. A call that exceeds it fails with [`FailureKind::DeadlineExceeded`].
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
            name: Cow::Borrowed(name),
            doc: Cow::Borrowed(doc),
            input: Cow::Borrowed(input),
            output: Cow::Borrowed(output),
            receiver,
            results,
            takes_context,
            at_most_once: false,
            max_runtime: None,
        }
    }

    /// Sets the limit on the run time of a call, in milliseconds.
    #[doc(hidden)]
    #[must_use]
    pub const fn max_runtime_ms(mut self, milliseconds: u64) -> Self {
        self.max_runtime = Some(Duration::from_millis(milliseconds));
        self
    }

    /// Returns what is wrong with the name, if it was chosen at run time.
    pub(crate) fn name_mistake(&self) -> Option<String> {
        let name = &self.name;
        let is_wrong = name.is_empty() || name.contains(|c: char| c == '.' || c.is_whitespace());
        is_wrong.then(|| {
            format!(
                "`{name}` cannot be the name of a method: a name has at least one character, and neither white space \
                 nor a dot"
            )
        })
    }

    /// Declares that a call must not run twice.
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
    /// `&self`: calls run concurrently.
    Shared,
    /// `&mut self`: one call runs at a time.
    Exclusive,
}

/// The number of results of a call of a function.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Results {
    /// At most one.
    One,
    /// Those of an iterator or a stream.
    Many,
}

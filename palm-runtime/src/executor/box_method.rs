//! [`BoxMethod`]: a method that is a closure, with its name and its types.

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use futures_core::future::BoxFuture;

use super::Call;
use crate::context::Context;
use crate::method::{FunctionInfo, IntoOutcome, Outcome, Receiver, Results};
use crate::payload::{FromPayload, type_name};

/// A method that is a closure, for a component without a macro ([`ClosureBuilder`](crate::component::ClosureBuilder)).
///
/// The closure has one parameter, any [`FromPayload`] type, and returns a future. Its output is what a method can return:
/// a payload ([`IntoPayload`](crate::IntoPayload)), `()`, an `Option`, or a `Result` of these, whose error converts to a
/// boxed error. The names of both types are published in the descriptor of the component. A closure without an argument
/// has the parameter `()`.
///
/// The type is the same for all closures, so a program can collect methods at run time, for example from plugins:
///
/// ```no_run
/// use palm::{Bind, BoxMethod, Server};
///
/// trait Plugin {
///     fn methods(&self) -> Vec<BoxMethod>;
/// }
///
/// # async fn example(plugins: Vec<Box<dyn Plugin>>) -> palm::Result<()> {
/// let methods = plugins.iter().flat_map(|plugin| plugin.methods());
/// Server::builder("text").methods(methods).bind("tcp://127.0.0.1:5555").start().await
/// # }
/// ```
pub struct BoxMethod {
    info: FunctionInfo,
    run: Box<dyn Fn(Call) -> BoxFuture<'static, Outcome> + Send + Sync>,
}

impl BoxMethod {
    /// Returns the method `name`, which runs `closure`.
    ///
    /// ```
    /// use palm::BoxMethod;
    ///
    /// let upper = BoxMethod::new("upper", |text: String| async move { text.to_uppercase() });
    /// assert_eq!(upper.info().input, "String");
    /// ```
    pub fn new<A, R>(
        name: impl Into<Cow<'static, str>>,
        closure: impl Fn(A) -> R + Send + Sync + 'static,
    ) -> Self
    where
        A: FromPayload + 'static,
        R: Future<Output: IntoOutcome> + Send + 'static,
    {
        Self::boxed(info::<A, R>(name.into(), false), move |call| {
            Ok(closure(call.argument()?))
        })
    }

    /// Returns the method `name`, which runs `closure` with the argument and the context of each call.
    ///
    /// ```
    /// use palm::{BoxMethod, CacheError, Context};
    ///
    /// BoxMethod::with_context("count", |word: String, context: Context| async move {
    ///     let count = context.cache().add(&word, 1).await?;
    ///     Ok::<_, CacheError>(count.to_string())
    /// });
    /// ```
    pub fn with_context<A, R>(
        name: impl Into<Cow<'static, str>>,
        closure: impl Fn(A, Context) -> R + Send + Sync + 'static,
    ) -> Self
    where
        A: FromPayload + 'static,
        R: Future<Output: IntoOutcome> + Send + 'static,
    {
        Self::boxed(info::<A, R>(name.into(), true), move |call| {
            Ok(closure(call.argument()?, call.context()))
        })
    }

    /// Returns a method that awaits the future that `start` returns.
    fn boxed<R: Future<Output: IntoOutcome> + Send + 'static>(
        info: FunctionInfo,
        start: impl Fn(&mut Call) -> Result<R, Outcome> + Send + Sync + 'static,
    ) -> Self {
        let start = Arc::new(start);
        let run = move |mut call| -> BoxFuture<'static, Outcome> {
            // The closure is called by the future, so that its panics are those of the call.
            let start = start.clone();
            Box::pin(async move {
                match start(&mut call) {
                    Ok(future) => future.await.into_outcome(),
                    Err(outcome) => outcome,
                }
            })
        };
        Self {
            info,
            run: Box::new(run),
        }
    }

    /// Sets the description in the descriptor of the component. Default: none.
    #[must_use]
    pub fn doc(mut self, doc: impl Into<Cow<'static, str>>) -> Self {
        self.info.doc = doc.into();
        self
    }

    /// Declares that a call must not run twice. Its task is not redelivered if the worker is lost after it has begun.
    #[must_use]
    pub fn at_most_once(mut self) -> Self {
        self.info = self.info.at_most_once();
        self
    }

    /// Sets the limit on the run time of a call. Default: none.
    ///
    /// A call that exceeds it fails with [`DeadlineExceeded`](crate::FailureKind::DeadlineExceeded) at its next
    /// `await`; a closure that does not await is not interrupted.
    #[must_use]
    pub fn max_runtime(mut self, limit: Duration) -> Self {
        self.info.max_runtime = Some(limit);
        self
    }

    /// Returns the name, types and options.
    pub fn info(&self) -> &FunctionInfo {
        &self.info
    }

    pub(crate) fn run(&self, call: Call) -> BoxFuture<'static, Outcome> {
        (self.run)(call)
    }
}

impl fmt::Debug for BoxMethod {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_tuple("BoxMethod")
            .field(&self.info)
            .finish()
    }
}

fn info<A: 'static, R: Future>(name: Cow<'static, str>, takes_context: bool) -> FunctionInfo {
    let input = match type_name::<A>() {
        // As for a method without a parameter.
        unit if unit == "()" => String::new(),
        name => name,
    };
    FunctionInfo {
        name,
        input: input.into(),
        output: type_name::<R::Output>().into(),
        ..FunctionInfo::new(
            "",
            "",
            ("", ""),
            Receiver::Shared,
            Results::One,
            takes_context,
        )
    }
}

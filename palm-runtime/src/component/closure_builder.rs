//! [`ClosureBuilder`]: a component whose methods are closures.

use std::borrow::Cow;
use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::fmt;
use std::marker::PhantomData;
use std::sync::Arc;

use super::builder::{Bind, Builder, Connect};
use super::kind::{Kind, Pipeline, Server, Sink, Worker};
use crate::context::Context;
use crate::executor::{BoxMethod, Call, Callable};
use crate::method::{FunctionInfo, IntoOutcome, Outcome, Shape, State};
use crate::payload::FromPayload;

/// A component of the kind `K` whose methods are closures.
///
/// Returned by [`Server::builder`], [`Pipeline::builder`], [`Sink::builder`] and [`Worker::builder`]. It is used like a
/// type with a macro: [`bind`](Bind::bind), or [`connect`](Connect::connect) for a worker, returns its [`Builder`], and tests
/// call it in a `palm::testing::Direct` or a `palm::testing::Cluster` (feature `testing`).
///
/// Calls run concurrently, up to [`concurrency`](Builder::concurrency). State that methods share is captured by their
/// closures. Each call has one result; for several results, `blocking` methods, `&mut self` and hooks, use a macro.
///
/// The component does not start if it has no method, a method has no valid name, or two methods have the same name:
/// [`StartError::Configuration`](crate::StartError::Configuration) lists all of these.
///
/// ```
/// use palm::prelude::*;
/// use palm::testing::Direct;
/// use palm::{Json, Server};
///
/// # #[tokio::main]
/// # async fn main() -> palm::Result<()> {
/// const DOUBLE: Function<Json<i64>, Json<i64>> = Function::new("math", "double");
///
/// let math = Server::builder("math")
///     .method("double", |Json(x): Json<i64>| async move { Json(x * 2) })
///     .method("divide", |Json((x, y)): Json<(i64, i64)>| async move {
///         x.checked_div(y).map(Json).ok_or("division by zero")
///     });
/// let Json(result) = Direct::new(math).call(DOUBLE, 21).await?;
/// assert_eq!(result, 42);
/// # Ok(())
/// # }
/// ```
///
/// A parameter without a codec does not compile:
///
/// ```compile_fail
/// # use palm::Server;
/// Server::builder("math")
///     .method("double", |x: i64| async move { x * 2 }); // error: `i64` is not a payload that can be read
/// ```
#[must_use = "a component does nothing until `.bind(..).start().await`, or `.connect(..).start().await` for a worker"]
pub struct ClosureBuilder<K> {
    name: String,
    methods: Vec<BoxMethod>,
    /// [`BoxMethod::info`] of each method.
    functions: Vec<FunctionInfo>,
    /// The index of the first method of each name.
    by_name: HashMap<Cow<'static, str>, usize>,
    kind: PhantomData<fn() -> K>,
}

impl<K> ClosureBuilder<K> {
    pub(super) fn new(name: String) -> Self {
        Self {
            name,
            methods: Vec::new(),
            functions: Vec::new(),
            by_name: HashMap::new(),
            kind: PhantomData,
        }
    }

    /// Adds the method `name`, which runs `closure`. See [`BoxMethod`] for its types.
    pub fn method<A, R>(
        self,
        name: impl Into<Cow<'static, str>>,
        closure: impl Fn(A) -> R + Send + Sync + 'static,
    ) -> Self
    where
        A: FromPayload + 'static,
        R: Future<Output: IntoOutcome> + Send + 'static,
    {
        self.methods([BoxMethod::new(name, closure)])
    }

    /// Adds the method `name`, which runs `closure` with the argument and the [`Context`] of each call.
    pub fn method_with_context<A, R>(
        self,
        name: impl Into<Cow<'static, str>>,
        closure: impl Fn(A, Context) -> R + Send + Sync + 'static,
    ) -> Self
    where
        A: FromPayload + 'static,
        R: Future<Output: IntoOutcome> + Send + 'static,
    {
        self.methods([BoxMethod::with_context(name, closure)])
    }

    /// Adds methods that were created before, for example by plugins, or with options.
    ///
    /// ```
    /// # use palm::{BoxMethod, Worker};
    /// let charge = BoxMethod::new("charge", |order: String| async move { order });
    /// Worker::builder("orders").methods([charge.doc("Charges an order.").at_most_once()])
    /// # ;
    /// ```
    pub fn methods(mut self, methods: impl IntoIterator<Item = BoxMethod>) -> Self {
        for method in methods {
            let info = method.info().clone();
            if let Entry::Vacant(entry) = self.by_name.entry(info.name.clone()) {
                entry.insert(self.methods.len());
            }
            self.methods.push(method);
            self.functions.push(info);
        }
        self
    }
}

impl<K> fmt::Debug for ClosureBuilder<K> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut debug = formatter.debug_struct("ClosureBuilder");
        debug.field("name", &self.name);
        debug.field("methods", &self.methods).finish()
    }
}

impl<K: Kind> Shape for ClosureBuilder<K> {
    const NAME: &'static str = "";
    const EXCLUSIVE: bool = false;

    fn name(&self) -> &str {
        &self.name
    }

    fn worker_prefix(&self) -> String {
        self.name.clone()
    }

    fn mistakes(&self) -> Vec<String> {
        let mut mistakes = Vec::new();
        if self.methods.is_empty() {
            mistakes
                .push("it has no methods: add one by `.method(\"<name>\", <closure>)`".to_owned());
        }
        for (index, function) in self.functions.iter().enumerate() {
            mistakes.extend(function.name_mistake());
            let name = &function.name;
            let earlier = self.functions[..index].iter();
            // Reported once, by the second of them.
            if earlier.filter(|other| &other.name == name).count() == 1 {
                mistakes.push(format!(
                    "several methods are called `{name}`: rename all but one"
                ));
            }
        }
        mistakes
    }
}

impl<K: Kind> Callable for ClosureBuilder<K> {
    fn functions(state: &State<Self>) -> &[FunctionInfo] {
        &state.unlocked().functions
    }

    fn find(state: &State<Self>, name: &str) -> Option<usize> {
        state.unlocked().by_name.get(name).copied()
    }

    fn call(
        state: Arc<State<Self>>,
        index: usize,
        call: Call,
    ) -> impl Future<Output = Outcome> + Send + 'static {
        state.unlocked().methods[index].run(call)
    }
}

macro_rules! builders {
    ($($kind:ident, $start:ident: $doc:literal, $name:literal;)+) => {$(
        impl $kind {
            #[doc = $doc]
            ///
            #[doc = $name]
            pub fn builder(name: impl Into<String>) -> ClosureBuilder<Self> {
                ClosureBuilder::new(name.into())
            }
        }

        impl $start for ClosureBuilder<$kind> {
            type Builder = Builder<Self, $kind>;
        }
    )+};
}

builders! {
    Server, Bind: "Returns a server without methods, whose methods will be closures.",
        "`name` is its name in calls, without dot and white space.";
    Pipeline, Bind: "Returns a pipeline without methods, whose methods will be closures.",
        "`name` is its name in calls, without dot and white space.";
    Sink, Bind: "Returns a sink without methods, whose methods will be closures.",
        "`name` is its name in calls, without dot and white space.";
    Worker, Connect: "Returns a worker without methods, whose methods will be closures.",
        "`name` is that of its master. The worker's own default name begins with it: `images@node7:4711`.";
}

//! [`Function`] and [`Route`]: what a client can call, with the types of arguments and results.

use std::fmt;
use std::hash::{Hash, Hasher};
use std::marker::PhantomData;

use bytes::Bytes;

use super::fit::{Feeds, Untyped};
use super::step::{StepError, Steps};

/// A function of a component, with the types of its argument and result.
///
/// Macros generate such a constant for each method: `Resizer::THUMBNAIL` is `images.thumbnail`. Write one yourself
/// for a function of a component that is not written in Rust.
///
/// Without type parameters, any payload can be sent, and the answer is bytes.
///
/// # Examples
///
/// ```
/// use palm::Function;
///
/// const COUNT: Function<String, String> = Function::new("words", "count");
/// assert_eq!(COUNT.to_string(), "words.count");
/// ```
pub struct Function<Input = Untyped, Output = Bytes> {
    server: &'static str,
    name: &'static str,
    types: PhantomData<fn(Input) -> Output>,
}

impl<Input, Output> Function<Input, Output> {
    /// Creates the function `name` of the component `server`.
    pub const fn new(server: &'static str, name: &'static str) -> Self {
        Self {
            server,
            name,
            types: PhantomData,
        }
    }

    /// Returns the name of the component. For a worker's function, this is the name of its master.
    pub const fn server(&self) -> &'static str {
        self.server
    }

    /// Returns the name of the function within the component.
    pub const fn name(&self) -> &'static str {
        self.name
    }

    /// Returns the same function without its types: any payload can be sent, and the answer is bytes.
    pub const fn untyped(self) -> Function {
        Function::new(self.server, self.name)
    }

    /// Returns the same function of the component called `server`, for example if two masters have the same workers.
    pub fn on(self, server: &str) -> Route<Input, Output> {
        Route::new(Steps::one(server, self.name))
    }

    /// Appends `next`, which receives the result of this function.
    ///
    /// # Examples
    ///
    /// ```
    /// use palm::Function;
    ///
    /// const SPLIT: Function<String, String> = Function::new("first", "split");
    /// const COUNT: Function<String, Vec<u8>> = Function::new("second", "count");
    ///
    /// assert_eq!(SPLIT.then(COUNT).to_string(), "first.split second.count");
    /// ```
    ///
    /// ```compile_fail
    /// # use palm::Function;
    /// # const SPLIT: Function<String, String> = Function::new("first", "split");
    /// # const COUNT: Function<String, Vec<u8>> = Function::new("second", "count");
    /// COUNT.then(SPLIT); // error: the first returns `Vec<u8>`, and the next one takes `String`
    /// ```
    pub fn then<Next: IntoSteps>(self, next: Next) -> Route<Input, Next::Output>
    where
        Output: Feeds<Next::Input>,
    {
        Route::<Input, Output>::new(self.into_steps()).then(next)
    }
}

impl<Input, Output> Clone for Function<Input, Output> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<Input, Output> Copy for Function<Input, Output> {}

impl<Input, Output> PartialEq for Function<Input, Output> {
    fn eq(&self, other: &Self) -> bool {
        (self.server, self.name) == (other.server, other.name)
    }
}

impl<Input, Output> Eq for Function<Input, Output> {}

impl<Input, Output> Hash for Function<Input, Output> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        (self.server, self.name).hash(state);
    }
}

impl<Input, Output> fmt::Debug for Function<Input, Output> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "Function({self})")
    }
}

impl<Input, Output> fmt::Display for Function<Input, Output> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}.{}", self.server, self.name)
    }
}

/// A sequence of steps, from the first one's `Input` to the last one's `Output`.
///
/// Created by [`Function::then`] and [`Function::on`]. An invalid name is reported when the route is called.
pub struct Route<Input = Untyped, Output = Bytes> {
    steps: Result<Steps, StepError>,
    types: PhantomData<fn(Input) -> Output>,
}

impl<Input, Output> Route<Input, Output> {
    fn new(steps: Result<Steps, StepError>) -> Self {
        Self {
            steps,
            types: PhantomData,
        }
    }

    /// Appends `next`, which receives the result of the last step.
    pub fn then<Next: IntoSteps>(self, next: Next) -> Route<Input, Next::Output>
    where
        Output: Feeds<Next::Input>,
    {
        let steps = self.steps.and_then(|steps| {
            let next = next.into_steps()?;
            Steps::join([steps.as_str(), next.as_str()])
        });
        Route::new(steps)
    }
}

impl<Input, Output> Clone for Route<Input, Output> {
    fn clone(&self) -> Self {
        Self::new(self.steps.clone())
    }
}

impl<Input, Output> fmt::Debug for Route<Input, Output> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_tuple("Route").field(&self.steps).finish()
    }
}

impl<Input, Output> fmt::Display for Route<Input, Output> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.steps {
            Ok(steps) => steps.fmt(formatter),
            Err(error) => write!(formatter, "({error})"),
        }
    }
}

/// What a client can call: one function, or several in sequence.
///
/// [`Function`] and [`Route`] have the types of their functions. A string, or an array, slice or `Vec` of values that
/// can be written as strings, is untyped: any payload can be sent, and the answer is bytes.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be called",
    label = "not a function of a component",
    note = "pass the constant that stands for the method (`Resizer::THUMBNAIL`), steps in a row (`A.then(B)`), or a string (`\"images.thumbnail\"`)"
)]
pub trait IntoSteps {
    /// The argument of the first step.
    type Input;

    /// The result of the last step.
    type Output;

    /// Checks the form of each step.
    ///
    /// # Errors
    ///
    /// [`StepError`] if the list is empty, or a step is not of the form `server.function`.
    fn into_steps(self) -> Result<Steps, StepError>;
}

impl<Input, Output> IntoSteps for Function<Input, Output> {
    type Input = Input;
    type Output = Output;

    fn into_steps(self) -> Result<Steps, StepError> {
        Steps::one(self.server, self.name)
    }
}

impl<Input, Output> IntoSteps for Route<Input, Output> {
    type Input = Input;
    type Output = Output;

    fn into_steps(self) -> Result<Steps, StepError> {
        self.steps
    }
}

impl<Input, Output> IntoSteps for &Route<Input, Output> {
    type Input = Input;
    type Output = Output;

    fn into_steps(self) -> Result<Steps, StepError> {
        self.steps.clone()
    }
}

/// Implements [`IntoSteps`] for types that carry no types of arguments and results.
macro_rules! untyped {
    ($([$($generics:tt)*] $type:ty: $this:ident => $steps:expr;)+) => {$(
        impl<$($generics)*> IntoSteps for $type {
            type Input = Untyped;
            type Output = Bytes;

            fn into_steps(self) -> Result<Steps, StepError> {
                let $this = self;
                $steps
            }
        }
    )+};
}

untyped! {
    [] Steps: steps => Ok(steps);
    [] &Steps: steps => Ok(steps.clone());
    [] &str: text => Steps::parse(text);
    [] String: text => Steps::parse(&text);
    [] &String: text => Steps::parse(text);
    [S: ToString] &[S]: steps => Steps::join(steps.iter().map(ToString::to_string));
    [S: ToString, const N: usize] [S; N]: steps => steps.as_slice().into_steps();
    [S: ToString] Vec<S>: steps => steps.as_slice().into_steps();
}

#[cfg(test)]
mod tests {
    use super::*;

    const FOO: Function<Vec<u8>, String> = Function::new("server", "foo");
    const BAR: Function<String, String> = Function::new("pipeline", "bar");

    fn check<S: IntoSteps>(steps: S, expected: Result<&str, &str>) {
        let steps = steps.into_steps();
        match expected {
            Ok(text) => assert_eq!(steps.unwrap().as_str(), text),
            Err(message) => assert_eq!(steps.unwrap_err().to_string(), message),
        }
    }

    #[test]
    fn into_steps_accepts_names_constants_and_lists() {
        let listed = "server.foo pipeline.bar";
        check(["server.foo", "pipeline.bar"], Ok(listed));
        check("server.foo  pipeline.bar", Ok(listed));
        check(FOO, Ok("server.foo"));
        check([FOO, FOO], Ok("server.foo server.foo"));
        check(vec![FOO.untyped().to_string(), BAR.to_string()], Ok(listed));
        check(
            "",
            Err("no function is named; name it as `server.function`"),
        );
        check(
            vec!["server"],
            Err("`server` is not of the form `server.function`"),
        );
        assert_eq!(listed.into_steps().unwrap().len(), 2);
    }

    #[test]
    fn route_joins_steps_with_matching_types() {
        let route: Route<Vec<u8>, String> = FOO.then(BAR.on("other")).then(BAR);
        check(&route, Ok("server.foo other.bar pipeline.bar"));
        assert_eq!(route.to_string(), "server.foo other.bar pipeline.bar");
        check(
            route.then("more.steps to.come"),
            Ok("server.foo other.bar pipeline.bar more.steps to.come"),
        );
    }

    #[test]
    fn route_with_an_invalid_server_name_fails_when_called() {
        check(
            FOO.on("a.b"),
            Err("`a.b.foo` is not of the form `server.function`"),
        );
        check(
            FOO.then(BAR.on("a.b")),
            Err("`a.b.bar` is not of the form `server.function`"),
        );
        // A space would split it into two steps.
        check(
            FOO.on("a.b c"),
            Err("`a.b c.foo` is not of the form `server.function`"),
        );
    }
}

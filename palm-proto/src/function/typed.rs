//! [`Function`] and [`Route`]: what can be called, with the types that go in and come out.

use std::fmt;
use std::hash::{Hash, Hasher};
use std::marker::PhantomData;

use bytes::Bytes;

use super::fit::{Feeds, Untyped};
use super::step::{StepError, Steps};

/// A function of a component that takes an `Input` and gives an `Output`.
///
/// The constants that the macros generate are such: `Resizer::THUMBNAIL` is `images.thumbnail`. For a
/// function of a component that is not written in Rust, write it yourself:
///
/// ```
/// use palm::Function;
///
/// const COUNT: Function<String, String> = Function::new("words", "count");
/// assert_eq!(COUNT.to_string(), "words.count");
/// ```
///
/// By default nothing is said of its types: any payload is sent, and bytes come back.
pub struct Function<Input = Untyped, Output = Bytes> {
    server: &'static str,
    name: &'static str,
    types: PhantomData<fn(Input) -> Output>,
}

impl<Input, Output> Function<Input, Output> {
    /// The function `name` of the component `server`.
    pub const fn new(server: &'static str, name: &'static str) -> Self {
        Self {
            server,
            name,
            types: PhantomData,
        }
    }

    /// The component that it belongs to; for a worker's function, the master.
    pub const fn server(&self) -> &'static str {
        self.server
    }

    /// Its name within the component.
    pub const fn name(&self) -> &'static str {
        self.name
    }

    /// The same function without its types: any payload is sent, and bytes come back.
    pub const fn untyped(self) -> Function {
        Function::new(self.server, self.name)
    }

    /// The same function of the component called `server`, as when two masters have the same workers.
    pub fn on(self, server: &str) -> Route<Input, Output> {
        Route::new(Steps::one(server, self.name))
    }

    /// This step, and then `next`, which takes what this one gives.
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
    /// COUNT.then(SPLIT); // error: the first gives `Vec<u8>`, and the next one takes `String`
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

/// Steps in a row, from the first one's `Input` to the last one's `Output`.
///
/// Made by [`Function::then`] and [`Function::on`]. A name that is none is an error of the call.
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

    /// These steps, and then `next`, which takes what the last one gives.
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

/// What can be called: one function or several in a row.
///
/// A [`Function`] or a [`Route`] brings its types. A string, or an array, slice or `Vec` of what can be
/// written as one, brings none: any payload is sent, and bytes come back.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is nothing that can be called",
    label = "not a function of a component",
    note = "pass the constant that stands for the method (`Resizer::THUMBNAIL`), steps in a row (`A.then(B)`), or a string (`\"images.thumbnail\"`)"
)]
pub trait IntoSteps {
    /// What the first step takes.
    type Input;

    /// What the last step gives.
    type Output;

    /// Checks the form of each step.
    ///
    /// # Errors
    ///
    /// [`StepError`] when there is no step, or one is not of the form `server.function`.
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

/// What says nothing of types.
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
    fn steps_come_from_names_constants_and_lists() {
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
    fn a_route_is_made_of_steps_that_fit() {
        let route: Route<Vec<u8>, String> = FOO.then(BAR.on("other")).then(BAR);
        check(&route, Ok("server.foo other.bar pipeline.bar"));
        assert_eq!(route.to_string(), "server.foo other.bar pipeline.bar");
        check(
            route.then("more.steps to.come"),
            Ok("server.foo other.bar pipeline.bar more.steps to.come"),
        );
    }

    #[test]
    fn a_server_that_is_no_name_is_an_error_of_the_call() {
        check(
            FOO.on("a.b"),
            Err("`a.b.foo` is not of the form `server.function`"),
        );
        check(
            FOO.then(BAR.on("a.b")),
            Err("`a.b.bar` is not of the form `server.function`"),
        );
        // A space would make two steps of it.
        check(
            FOO.on("a.b c"),
            Err("`a.b c.foo` is not of the form `server.function`"),
        );
    }
}

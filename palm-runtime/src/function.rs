//! The functions of a message: [`Function`] names one, [`Steps`] is the list that a client sends.
//!
//! On the wire a list is one string, `server.function` for each step with a space between. A client
//! parses it once, when the call is made; a component looks its own step up in the string, which
//! costs no allocation. No I/O here.

use bytestring::ByteString;

/// A function of a component, as the constants that the macros generate name it:
/// `Resizer::THUMBNAIL` is `images.thumbnail`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Function {
    server: &'static str,
    name: &'static str,
}

impl Function {
    /// The function `name` of the component `server`.
    pub const fn new(server: &'static str, name: &'static str) -> Self {
        Self { server, name }
    }

    /// The component that it belongs to; for a worker's function, the master.
    pub const fn server(&self) -> &'static str {
        self.server
    }

    /// Its name within the component.
    pub const fn name(&self) -> &'static str {
        self.name
    }
}

impl std::fmt::Display for Function {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "{}.{}", self.server, self.name)
    }
}

/// One step of a message: which function of which component.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Step<'a> {
    /// The component's name. A worker is called by its master's name and does not look at it.
    pub server: &'a str,
    /// The function's name.
    pub function: &'a str,
}

/// Why a message does not say which function is to be called.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum StepError {
    /// The message names no function at all.
    #[error("no function is named; name it as `server.function`")]
    Empty,
    /// The stage is beyond the list of steps, or negative.
    #[error("stage {stage} is not one of the {steps} steps of `{function}`")]
    OutOfRange {
        /// What the message says.
        stage: i64,
        /// How many there are.
        steps: usize,
        /// The list.
        function: String,
    },
    /// The step is not a component's name and a function's with one dot between.
    #[error("`{step}` is not of the form `server.function`")]
    Form {
        /// The step.
        step: String,
    },
}

/// The step number `stage` of `function`; where `function` is a single one, that whatever `stage` is.
pub(crate) fn step_at(function: &str, stage: i64) -> Result<Step<'_>, StepError> {
    // A space anywhere makes it a list, even if only one step is in it.
    if !function.contains(' ') {
        return parse_step(function);
    }
    let step = usize::try_from(stage)
        .ok()
        .and_then(|stage| function.split_whitespace().nth(stage));
    match step {
        Some(step) => parse_step(step),
        None => Err(StepError::OutOfRange {
            stage,
            steps: function.split_whitespace().count(),
            function: function.to_owned(),
        }),
    }
}

fn parse_step(step: &str) -> Result<Step<'_>, StepError> {
    if step.is_empty() {
        return Err(StepError::Empty);
    }
    match step.split_once('.') {
        Some((server, function)) if !function.is_empty() && !function.contains('.') => {
            Ok(Step { server, function })
        }
        _ => Err(StepError::Form {
            step: step.to_owned(),
        }),
    }
}

/// The steps that a message goes through, checked for their form.
///
/// Made from whatever [`IntoSteps`] takes: `"server.function"`, `"first.split second.count"`, a
/// generated constant, or an array, slice or `Vec` of these.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Steps {
    text: ByteString,
    len: usize,
}

impl Steps {
    /// Parses a list of steps separated by white space.
    ///
    /// # Errors
    ///
    /// [`StepError`] when there is no step, or one is not of the form `server.function`.
    pub fn parse(text: &str) -> Result<Self, StepError> {
        Self::join(text.split_whitespace())
    }

    fn join<S: AsRef<str>>(steps: impl IntoIterator<Item = S>) -> Result<Self, StepError> {
        let mut text = String::new();
        let mut len = 0;
        for step in steps {
            for step in step.as_ref().split_whitespace() {
                parse_step(step)?;
                if !text.is_empty() {
                    text.push(' ');
                }
                text.push_str(step);
                len += 1;
            }
        }
        if len == 0 {
            return Err(StepError::Empty);
        }
        Ok(Self {
            text: text.into(),
            len,
        })
    }

    /// As they are written in a message.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// How many there are; at least 1.
    #[expect(
        clippy::len_without_is_empty,
        reason = "there is no list without a step"
    )]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Step by step, in order.
    pub fn iter(&self) -> impl Iterator<Item = Step<'_>> {
        self.text
            .split(' ')
            .map(|step| parse_step(step).expect("checked when the list was made"))
    }

    pub(crate) fn text(&self) -> &ByteString {
        &self.text
    }
}

impl std::fmt::Display for Steps {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(&self.text)
    }
}

/// What can be called: one function or several in a row.
pub trait IntoSteps {
    /// Checks the form of each step.
    ///
    /// # Errors
    ///
    /// [`StepError`] when there is no step, or one is not of the form `server.function`.
    fn into_steps(self) -> Result<Steps, StepError>;
}

impl IntoSteps for Steps {
    fn into_steps(self) -> Result<Steps, StepError> {
        Ok(self)
    }
}

impl IntoSteps for &Steps {
    fn into_steps(self) -> Result<Steps, StepError> {
        Ok(self.clone())
    }
}

impl IntoSteps for Function {
    fn into_steps(self) -> Result<Steps, StepError> {
        Steps::parse(&self.to_string())
    }
}

impl IntoSteps for &str {
    fn into_steps(self) -> Result<Steps, StepError> {
        Steps::parse(self)
    }
}

impl IntoSteps for String {
    fn into_steps(self) -> Result<Steps, StepError> {
        Steps::parse(&self)
    }
}

impl IntoSteps for &String {
    fn into_steps(self) -> Result<Steps, StepError> {
        Steps::parse(self)
    }
}

impl<S: ToString> IntoSteps for &[S] {
    fn into_steps(self) -> Result<Steps, StepError> {
        Steps::join(self.iter().map(ToString::to_string))
    }
}

impl<S: ToString, const N: usize> IntoSteps for [S; N] {
    fn into_steps(self) -> Result<Steps, StepError> {
        self.as_slice().into_steps()
    }
}

impl<S: ToString> IntoSteps for Vec<S> {
    fn into_steps(self) -> Result<Steps, StepError> {
        self.as_slice().into_steps()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(function: &str, stage: i64, expected: Result<(&str, &str), &str>) {
        let step = step_at(function, stage);
        match expected {
            Ok((server, function)) => assert_eq!(step, Ok(Step { server, function })),
            Err(message) => assert_eq!(step.unwrap_err().to_string(), message),
        }
    }

    #[test]
    fn a_single_function_ignores_the_stage() {
        check("server.foo", 0, Ok(("server", "foo")));
        check("server.foo", 7, Ok(("server", "foo")));
        check("server.foo", -1, Ok(("server", "foo")));
    }

    #[test]
    fn of_several_the_stage_picks_one() {
        check("a.foo b.bar", 0, Ok(("a", "foo")));
        check("a.foo b.bar", 1, Ok(("b", "bar")));
        check("a.foo ", 0, Ok(("a", "foo")));
        check(
            "a.foo b.bar",
            2,
            Err("stage 2 is not one of the 2 steps of `a.foo b.bar`"),
        );
        check(
            "a.foo b.bar",
            -1,
            Err("stage -1 is not one of the 2 steps of `a.foo b.bar`"),
        );
    }

    #[test]
    fn a_step_has_exactly_one_dot_and_a_function() {
        check(
            "",
            0,
            Err("no function is named; name it as `server.function`"),
        );
        check("foo", 0, Err("`foo` is not of the form `server.function`"));
        check(
            "a.b.c",
            0,
            Err("`a.b.c` is not of the form `server.function`"),
        );
        check("a.", 0, Err("`a.` is not of the form `server.function`"));
        check(".foo", 0, Ok(("", "foo")));
        check("größe.maß", 0, Ok(("größe", "maß")));
    }

    #[test]
    fn steps_come_from_names_constants_and_lists() {
        const FOO: Function = Function::new("server", "foo");
        let listed = ["server.foo", "pipeline.bar"].into_steps().unwrap();
        assert_eq!(listed.as_str(), "server.foo pipeline.bar");
        assert_eq!(listed.len(), 2);
        assert_eq!("server.foo  pipeline.bar".into_steps().unwrap(), listed);
        assert_eq!(FOO.into_steps().unwrap().as_str(), "server.foo");
        assert_eq!([FOO, FOO].into_steps().unwrap().len(), 2);
        assert_eq!("".into_steps(), Err(StepError::Empty));
        assert!(vec!["server"].into_steps().is_err());
    }
}

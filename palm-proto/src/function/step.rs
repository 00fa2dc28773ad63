//! [`Steps`]: the functions that a message calls in sequence, as written on the wire.

use bytestring::ByteString;

/// One step of a message: a function of a component.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Step<'a> {
    /// The component's name. Steps of a worker have the name of its master; workers ignore it.
    pub server: &'a str,
    /// The function's name within the component.
    pub function: &'a str,
}

/// The error of a message that does not name a function to call.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum StepError {
    /// The message names no function.
    #[error("no function is named; name it as `server.function`")]
    Empty,
    /// The stage is negative, or not less than the number of steps.
    #[error("stage {stage} is not one of the {steps} steps of `{function}`")]
    #[non_exhaustive]
    OutOfRange {
        /// The stage of the message.
        stage: i64,
        /// The number of steps.
        steps: usize,
        /// The steps.
        function: String,
    },
    /// A step is not of the form `server.function`.
    #[error("`{step}` is not of the form `server.function`")]
    #[non_exhaustive]
    Form {
        /// The malformed step.
        step: String,
    },
}

/// Returns step `stage` of `function`. A single step is returned for every stage.
// A space makes it a list, even if it has only one step.
pub fn step_at(function: &str, stage: i64) -> Result<Step<'_>, StepError> {
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

/// Returns whether `function` has a step after `stage`.
pub fn has_next_step(function: &str, stage: i64) -> bool {
    function.contains(' ')
        && usize::try_from(stage)
            .is_ok_and(|stage| function.split_whitespace().nth(stage + 1).is_some())
}

/// Returns the number and text of the step that a result at `stage` of `function` comes from, or `None` if that is the
/// last step.
///
/// A component does not change `stage` when it sends the result of the last step. A hook may have increased it beyond
/// the last step.
pub fn unfinished_step(function: &str, stage: i64) -> Option<(usize, &str)> {
    if !function.contains(' ') {
        return None;
    }
    let last = function.split_whitespace().count().saturating_sub(1);
    let stage = usize::try_from(stage).unwrap_or(0);
    let step = function.split_whitespace().nth(stage).unwrap_or_default();
    (stage < last).then_some((stage, step))
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

/// The steps of a message in canonical form.
///
/// Created from anything that implements [`IntoSteps`](super::IntoSteps): `"server.function"`,
/// `"first.split second.count"`, a generated constant, or an array, slice or `Vec` of these.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Steps {
    text: ByteString,
    len: usize,
}

impl Steps {
    /// Parses steps separated by white space.
    ///
    /// # Errors
    ///
    /// [`StepError`] if the list is empty, or a step is not of the form `server.function`.
    pub fn parse(text: &str) -> Result<Self, StepError> {
        Self::join(text.split_whitespace())
    }

    /// Creates steps from a literal that `palm::steps!` has checked.
    #[doc(hidden)]
    pub fn __checked(text: &'static str) -> Self {
        Self {
            text: ByteString::from_static(text),
            len: text.split(' ').count(),
        }
    }

    pub(super) fn join<S: AsRef<str>>(
        steps: impl IntoIterator<Item = S>,
    ) -> Result<Self, StepError> {
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

    /// Creates the single step `function` of `server`.
    pub(super) fn one(server: &str, function: &str) -> Result<Self, StepError> {
        let step = [server, ".", function].concat();
        // White space would split it into several steps.
        if step.contains(char::is_whitespace) {
            return Err(StepError::Form { step });
        }
        parse_step(&step)?;
        Ok(Self {
            text: step.into(),
            len: 1,
        })
    }

    /// Returns the steps as they are written in a message.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Returns the number of steps, which is at least 1.
    #[expect(
        clippy::len_without_is_empty,
        reason = "there is always at least one step"
    )]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Returns an iterator over the steps, in order.
    pub fn iter(&self) -> impl Iterator<Item = Step<'_>> {
        self.text
            .split(' ')
            .map(|step| parse_step(step).expect("steps are checked when they are created"))
    }

    #[doc(hidden)]
    pub fn text(&self) -> &ByteString {
        &self.text
    }
}

impl std::fmt::Display for Steps {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(&self.text)
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
    fn step_at_ignores_the_stage_of_a_single_step() {
        check("server.foo", 0, Ok(("server", "foo")));
        check("server.foo", 7, Ok(("server", "foo")));
        check("server.foo", -1, Ok(("server", "foo")));
    }

    #[test]
    fn step_at_picks_the_step_of_the_stage() {
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
    fn has_next_step_is_true_before_the_last_step_of_a_list() {
        for (function, stage, expected) in [
            ("a.foo", 0, false),
            ("a.foo", 7, false),
            ("a.foo b.bar", 0, true),
            ("a.foo b.bar", 1, false),
            ("a.foo b.bar", 2, false),
            ("a.foo b.bar", -1, false),
            ("a.foo b.bar", i64::MAX, false),
            ("a.foo  b.bar ", 0, true),
            ("a.foo ", 0, false),
            ("", 0, false),
        ] {
            assert_eq!(
                has_next_step(function, stage),
                expected,
                "{function} {stage}"
            );
        }
    }

    #[test]
    fn unfinished_step_names_the_step_that_answered_instead_of_the_last() {
        for (function, stage, expected) in [
            ("a.foo", 0, None),
            ("a.foo", -7, None),
            ("a.foo ", 0, None),
            ("a.foo b.bar c.baz", 0, Some((0, "a.foo"))),
            ("a.foo b.bar c.baz", 1, Some((1, "b.bar"))),
            ("a.foo b.bar c.baz", 2, None),
            // A hook that counts beyond the last step, as some pylm hooks do.
            ("a.foo b.bar c.baz", 3, None),
            ("a.foo b.bar c.baz", -1, Some((0, "a.foo"))),
            ("a.foo b.bar", i64::MAX, None),
        ] {
            assert_eq!(
                unfinished_step(function, stage),
                expected,
                "{function} {stage}"
            );
        }
    }

    #[test]
    fn step_needs_exactly_one_dot_and_a_function() {
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
}

//! [`OptionValue`]: options as text and as values of a configuration file.

use std::time::Duration;

use tracing::Level;

#[cfg(feature = "http")]
use super::Secret;

/// A value of a configuration file, a command line or an environment variable.
#[derive(Debug, Clone, PartialEq, Eq)]
#[cfg_attr(
    not(feature = "serde"),
    allow(dead_code, reason = "arguments are texts")
)]
pub(crate) enum Value {
    Bool(bool),
    Integer(i64),
    Text(String),
    List(Vec<String>),
}

impl std::fmt::Display for Value {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Bool(value) => value.fmt(formatter),
            Self::Integer(value) => value.fmt(formatter),
            Self::Text(text) => write!(formatter, "\"{text}\""),
            Self::List(list) => write!(formatter, "{list:?}"),
        }
    }
}

/// An option as files, command lines and their help name it.
#[derive(Debug, Clone)]
#[cfg_attr(not(feature = "clap"), allow(dead_code, reason = "files have no help"))]
pub(crate) struct Described {
    /// The methods that set it, outermost first, with dots in between: `link_options.idle_timeout`.
    pub(crate) name: String,
    /// The documentation of its method.
    pub(crate) doc: &'static str,
    /// The form of its values.
    pub(crate) form: &'static str,
}

/// The type of an option, or a group of options.
pub(crate) trait OptionValue {
    /// Adds the option `name`, or the options of the group, to `list`.
    fn describe(name: &str, doc: &'static str, list: &mut Vec<Described>);

    /// Sets the option `name`, or the option of the group that is called `inner`.
    ///
    /// # Errors
    ///
    /// What is wrong with the value.
    fn assign(&mut self, name: &str, inner: &str, value: &Value) -> Result<(), String>;
}

/// Splits the name of the first method from the rest.
pub(crate) fn split(path: &str) -> (&str, &str) {
    path.split_once('.').unwrap_or((path, ""))
}

/// Reads a value that is not part of a struct of options.
pub(crate) fn read<T: OptionValue + Default>(name: &str, value: &Value) -> Result<T, String> {
    let mut read = T::default();
    read.assign(name, "", value)?;
    Ok(read)
}

macro_rules! values {
    ($($type:ty: $form:literal, |$name:ident, $value:ident| $read:expr;)*) => {
        $(impl OptionValue for $type {
            fn describe(name: &str, doc: &'static str, list: &mut Vec<Described>) {
                let form = match name.ends_with("bytes") {
                    true => "SIZE",
                    false => $form,
                };
                list.push(Described { name: name.to_owned(), doc, form });
            }

            fn assign(&mut self, $name: &str, _: &str, $value: &Value) -> Result<(), String> {
                *self = $read?;
                Ok(())
            }
        })*
    };
}

values! {
    bool: "BOOL", |name, value| boolean(name, value);
    u32: "NUMBER", |name, value| integer(name, value);
    u64: "NUMBER", |name, value| integer(name, value);
    usize: "NUMBER", |name, value| integer(name, value);
    Option<u64>: "NUMBER", |name, value| integer(name, value).map(Some);
    Option<bool>: "BOOL", |name, value| boolean(name, value).map(Some);
    Duration: "TIME", |name, value| duration(name, value);
    Option<Duration>: "TIME", |name, value| match value {
        Value::Text(none) if none == "none" => Ok(None),
        _ => duration(name, value).map(Some),
    };
    String: "TEXT", |name, value| text(name, value);
    Option<String>: "TEXT", |name, value| text(name, value).map(Some);
    Vec<String>: "LIST", |name, value| list(name, value);
    Option<Level>: "LEVEL", |name, value| match value {
        Value::Text(level) => level.parse().map(Some).map_err(|_| {
            invalid(name, value, "one of \"error\", \"warn\", \"info\", \"debug\" and \"trace\"")
        }),
        _ => Err(invalid(name, value, "a level, such as \"debug\"")),
    };
}

#[cfg(feature = "http")]
values! {
    Vec<Secret>: "LIST", |name, value| list(name, value).map(|it| it.into_iter().map(Secret).collect());
}

fn list(name: &str, value: &Value) -> Result<Vec<String>, String> {
    match value {
        Value::List(list) => Ok(list.clone()),
        _ => {
            let text = text(name, value)?;
            Ok(text.split(',').map(|it| it.trim().to_owned()).collect())
        }
    }
}

pub(crate) fn invalid(name: &str, value: &Value, expected: &str) -> String {
    format!("`{name}` is {value}, expected {expected}")
}

fn boolean(name: &str, value: &Value) -> Result<bool, String> {
    match value {
        Value::Bool(value) => Ok(*value),
        Value::Text(text) if text == "true" || text == "1" => Ok(true),
        Value::Text(text) if text == "false" || text == "0" => Ok(false),
        _ => Err(invalid(name, value, "true or false")),
    }
}

/// Reads an integer. A number of bytes may have a unit.
fn integer<T: TryFrom<u64>>(name: &str, value: &Value) -> Result<T, String> {
    let is_size = name.ends_with("bytes");
    let number = match value {
        Value::Integer(number) => u64::try_from(*number).ok(),
        Value::Text(text) if is_size => text.parse::<bytesize::ByteSize>().ok().map(|size| size.0),
        Value::Text(text) => text.parse().ok(),
        _ => None,
    };
    number
        .and_then(|number| T::try_from(number).ok())
        .ok_or_else(|| {
            let expected = match is_size {
                true => "a size, such as \"64MiB\"",
                false => "a whole number",
            };
            invalid(name, value, expected)
        })
}

fn duration(name: &str, value: &Value) -> Result<Duration, String> {
    let duration = match value {
        Value::Text(text) => humantime::parse_duration(text).ok(),
        _ => None,
    };
    duration.ok_or_else(|| {
        invalid(
            name,
            value,
            "a duration with a unit, such as \"30s\" or \"250ms\"",
        )
    })
}

fn text(name: &str, value: &Value) -> Result<String, String> {
    match value {
        Value::Text(text) => Ok(text.clone()),
        _ => Err(invalid(name, value, "text")),
    }
}

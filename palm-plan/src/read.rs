//! Values of the file: every value is compared with the table of keys, and then read.
//!
//! [`check_table`] finds all mistakes in the form of values; the other functions return `None` for a value that has one.

use std::time::Duration;

use bytesize::ByteSize;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use crate::keys::{Key, Value};
use crate::kind::Kind;
use crate::mistake::{Code, Mistake, Mistakes, Span, list, nearest, suggestion};

/// A value and its place.
pub(crate) type SpannedValue<'a> = Spanned<DeValue<'a>>;

/// A table, and how mistakes name it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Table<'a> {
    pub(crate) entries: &'a DeTable<'a>,
    pub(crate) keys: &'static [Key],
    /// The kind of the component, once it is known: keys that this kind does not have are not found.
    pub(crate) kind: Option<Kind>,
}

/// A key of a table with its value.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Entry<'a> {
    pub(crate) name: &'a Spanned<std::borrow::Cow<'a, str>>,
    pub(crate) value: &'a SpannedValue<'a>,
}

/// Returns the entries in the order of the file.
pub(crate) fn entries<'a>(table: &'a DeTable<'a>) -> Vec<Entry<'a>> {
    let entries = table.iter().map(|(name, value)| Entry { name, value });
    let mut entries: Vec<_> = entries.collect();
    entries.sort_by_key(|entry| entry.name.span().start);
    entries
}

impl<'a> Table<'a> {
    pub(crate) fn new(entries: &'a DeTable<'a>, keys: &'static [Key]) -> Self {
        Self {
            entries,
            keys,
            kind: None,
        }
    }

    /// Returns the entry with this name, which has to be in the table of keys.
    pub(crate) fn get(&self, name: &str) -> Option<Entry<'a>> {
        let key = self.keys.iter().find(|key| key.name == name);
        let key = key.expect("the names of values that are read are in the table of keys");
        // Replicas have a rule of their own.
        if self.kind.is_some_and(|kind| !key.kinds.contains(&kind)) && name != "replicas" {
            return None;
        }
        let found = self.entries.iter().find(|(key, _)| key.get_ref() == name);
        found.map(|(name, value)| Entry { name, value })
    }

    pub(crate) fn text(&self, name: &str) -> Option<Spanned<String>> {
        text(self.get(name)?.value)
    }

    pub(crate) fn bool(&self, name: &str) -> Option<Spanned<bool>> {
        let value = self.get(name)?.value;
        Some(Spanned::new(value.span(), value.get_ref().as_bool()?))
    }

    pub(crate) fn integer(&self, name: &str) -> Option<Spanned<u32>> {
        integer(self.get(name)?.value)
    }

    pub(crate) fn size(&self, name: &str) -> Option<Spanned<u64>> {
        let text = self.text(name)?;
        Some(Spanned::new(text.span(), parse_size(text.get_ref()).ok()?))
    }

    pub(crate) fn duration(&self, name: &str) -> Option<Duration> {
        parse_duration(self.text(name)?.get_ref()).ok()
    }

    /// Returns the texts of a list, or the only text; none if the key is missing.
    pub(crate) fn texts(&self, name: &str) -> Vec<Spanned<String>> {
        let Some(entry) = self.get(name) else {
            return Vec::new();
        };
        match entry.value.get_ref() {
            DeValue::Array(values) => values.iter().filter_map(text).collect(),
            _ => text(entry.value).into_iter().collect(),
        }
    }

    pub(crate) fn table(&self, name: &str) -> Option<&'a DeTable<'a>> {
        self.get(name)?.value.get_ref().as_table()
    }
}

pub(crate) fn text(value: &SpannedValue<'_>) -> Option<Spanned<String>> {
    let text = value.get_ref().as_str()?;
    Some(Spanned::new(value.span(), text.to_owned()))
}

pub(crate) fn integer(value: &SpannedValue<'_>) -> Option<Spanned<u32>> {
    let integer = value.get_ref().as_integer()?;
    let number = u32::from_str_radix(&integer.as_str().replace('_', ""), integer.radix()).ok()?;
    Some(Spanned::new(value.span(), number))
}

/// Reads a size such as `16MiB`, in bytes.
pub(crate) fn parse_size(text: &str) -> Result<u64, String> {
    match (text.trim().parse::<f64>(), text.parse::<ByteSize>()) {
        (Ok(_), _) => Err("the unit is missing".to_owned()),
        (_, Ok(size)) => Ok(size.as_u64()),
        (_, Err(_)) => Err(format!("`{text}` is not a number with a unit")),
    }
}

/// Returns a size as the file has it.
pub(crate) fn size_text(bytes: u64) -> String {
    let units = [(40, "TiB"), (30, "GiB"), (20, "MiB"), (10, "KiB")];
    let whole = |(shift, _): &(u32, &str)| bytes >= 1 << shift && bytes.is_multiple_of(1 << shift);
    match units.into_iter().find(whole) {
        Some((shift, unit)) => format!("{}{unit}", bytes >> shift),
        None => format!("{bytes}B"),
    }
}

/// Reads a duration such as `30s`.
pub(crate) fn parse_duration(text: &str) -> Result<Duration, String> {
    humantime::parse_duration(text).map_err(|error| match text.parse::<f64>() {
        Ok(_) => "the unit is missing".to_owned(),
        Err(_) => error.to_string(),
    })
}

/// Reads two durations such as `1s..60s`.
pub(crate) fn parse_durations(text: &str) -> Result<(Duration, Duration), String> {
    let Some((first, last)) = text.split_once("..") else {
        return Err("two durations with `..` between them are expected".to_owned());
    };
    let (first, last) = (parse_duration(first.trim())?, parse_duration(last.trim())?);
    match first <= last && !first.is_zero() {
        true => Ok((first, last)),
        false if first.is_zero() => Err("the first duration is 0".to_owned()),
        false => Err("the first duration is longer than the second one".to_owned()),
    }
}

/// Reports unknown and missing keys of a table, and values of a wrong form. `name` is how a mistake names the table.
pub(crate) fn check_table(table: Table<'_>, header: &Span, name: &str, mistakes: &mut Mistakes) {
    for entry in entries(table.entries) {
        match table
            .keys
            .iter()
            .find(|key| key.name == entry.name.get_ref())
        {
            Some(key) => check(key.value, entry, mistakes),
            None => mistakes.push(unknown_key(table.keys, entry, name)),
        }
    }
    for key in table.keys {
        if key.is_required && table.get(key.name).is_none() {
            let mistake = Mistake::new(
                Code::MissingKey,
                header.clone(),
                format!("{name} has no `{}`", key.name),
            );
            let mistake = mistake.label(format!("`{}` is missing", key.name));
            let expected = key.value.expected();
            mistakes.push(mistake.help(format!("`{}` is {expected}. {}", key.name, key.doc)));
        }
    }
}

fn unknown_key(keys: &[Key], entry: Entry<'_>, name: &str) -> Mistake {
    let written = entry.name.get_ref();
    let known = keys.iter().map(|key| key.name);
    let mistake = Mistake::new(
        Code::UnknownKey,
        entry.name.span(),
        format!("unknown key `{written}` in {name}"),
    );
    let mistake = mistake.help(suggestion(written, known.clone()));
    match keys.iter().any(|key| key.name == "options") && nearest(written, known).is_none() {
        true => mistake.help(format!(
            "options of the component, such as `concurrency`, are in `options`: `options = {{ {written} = .. }}`"
        )),
        false => mistake,
    }
}

/// Reports a value of a wrong form.
fn check(expected: Value, entry: Entry<'_>, mistakes: &mut Mistakes) {
    let name = entry.name.get_ref();
    let (value, span) = (entry.value.get_ref(), entry.value.span());
    if !fits(expected, value) {
        mistakes.push(wrong_type(expected, entry));
        return;
    }
    match (expected, value) {
        (Value::Either(one, other), value) => {
            let expected = if fits(*one, value) { *one } else { *other };
            check(expected, entry, mistakes);
        }
        (Value::Word(words), DeValue::String(word)) if !words.contains(&&**word) => {
            let mistake = Mistake::new(
                Code::UnknownWord,
                span,
                format!("unknown `{name}`: `{word}`"),
            );
            let known = words.iter().copied();
            let mistake = mistake.help(suggestion(word, known.clone()));
            mistakes.push(match nearest(word, known.clone()) {
                Some(_) => mistake.help(format!("there are {}", list(known))),
                None => mistake,
            });
        }
        (Value::Integer(min, max), _) => {
            let is_within =
                integer(entry.value).is_some_and(|it| (min..=max).contains(it.get_ref()));
            if !is_within {
                let mistake =
                    Mistake::new(Code::OutOfRange, span, format!("`{name}` is out of range"));
                mistakes.push(mistake.label(format!("expected {min} to {max}")));
            }
        }
        (Value::Size(min, max), DeValue::String(text)) => match parse_size(text) {
            Ok(size) if (min..=max).contains(&size) => {}
            Ok(_) => {
                let mistake =
                    Mistake::new(Code::OutOfRange, span, format!("`{name}` is out of range"));
                let (min, max) = (size_text(min), size_text(max));
                mistakes.push(mistake.label(format!("expected {min} to {max}")));
            }
            Err(problem) => {
                let message = format!("`{name}` is malformed: {problem}");
                let mistake = Mistake::new(Code::MalformedSize, span, message);
                mistakes.push(mistake.help(
                    "a number is followed by its unit, `KiB`, `MiB` or `GiB`, such as \"16MiB\"",
                ));
            }
        },
        (Value::Duration, DeValue::String(text)) => {
            if let Err(problem) = parse_duration(text) {
                mistakes.push(malformed_duration(entry, &problem, "30s"));
            }
        }
        (Value::Durations, DeValue::String(text)) => {
            if let Err(problem) = parse_durations(text) {
                mistakes.push(malformed_duration(entry, &problem, "1s..60s"));
            }
        }
        (Value::Texts | Value::TextOrTexts, DeValue::Array(values)) => {
            for value in values.iter().filter(|value| !value.get_ref().is_str()) {
                mistakes.push(wrong_type(Value::Text, Entry { value, ..entry }));
            }
        }
        (Value::Table(keys), DeValue::Table(entries)) => {
            let table = Table::new(entries, keys);
            check_table(table, &entry.name.span(), &format!("`{name}`"), mistakes);
        }
        // The components have their own names, and are checked one by one.
        (Value::Map(Value::Table(_)), _) => {}
        (Value::Map(expected), DeValue::Table(table)) => {
            for entry in entries(table) {
                check(*expected, entry, mistakes);
            }
        }
        _ => {}
    }
}

/// Returns whether the type of a value is the expected one.
fn fits(expected: Value, value: &DeValue<'_>) -> bool {
    match expected {
        Value::Text | Value::Word(_) | Value::Size(..) => value.is_str(),
        Value::Duration | Value::Durations => value.is_str(),
        Value::Bool => value.is_bool(),
        Value::Integer(..) => value.is_integer(),
        Value::Texts => value.is_array(),
        Value::TextOrTexts => value.is_str() || value.is_array(),
        Value::Table(_) | Value::Map(_) => value.is_table(),
        Value::Either(one, other) => fits(*one, value) || fits(*other, value),
        Value::Any => true,
    }
}

fn wrong_type(expected: Value, entry: Entry<'_>) -> Mistake {
    let found = match entry.value.get_ref() {
        DeValue::String(_) => "a text",
        DeValue::Integer(_) => "an integer",
        DeValue::Float(_) => "a number with a fraction",
        DeValue::Boolean(_) => "`true` or `false`",
        DeValue::Datetime(_) => "a date or time",
        DeValue::Array(_) => "a list",
        DeValue::Table(_) => "a table",
    };
    let name = entry.name.get_ref();
    let message = format!("`{name}` is {found}, but has to be {}", expected.expected());
    Mistake::new(Code::WrongType, entry.value.span(), message)
        .label(format!("expected {}", expected.expected()))
}

fn malformed_duration(entry: Entry<'_>, problem: &str, example: &str) -> Mistake {
    let message = format!("`{}` is malformed: {problem}", entry.name.get_ref());
    let mistake = Mistake::new(Code::MalformedDuration, entry.value.span(), message);
    mistake.help(format!(
        "a number is followed by its unit, `ms`, `s`, `m`, `h` or `d`, such as \"{example}\""
    ))
}

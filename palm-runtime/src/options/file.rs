//! Options from a file: a table of any format that serde reads.

use std::fmt;

use serde::de::{self, DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};

use super::value::{Described, Value};
use crate::function::nearest;

/// Reads a table with the options of `known`, and passes each to `set` by its name.
pub(crate) fn read<'de, D: Deserializer<'de>>(
    deserializer: D,
    known: &[Described],
    mut set: impl FnMut(&str, Value) -> Result<(), String>,
) -> Result<(), D::Error> {
    let mut found = Vec::new();
    let table = Table {
        prefix: String::new(),
        known,
        found: &mut found,
    };
    table.deserialize(deserializer)?;
    for (name, value) in found {
        set(&name, value).map_err(de::Error::custom)?;
    }
    Ok(())
}

/// A table of options, or one within it, whose names all begin with `prefix`.
struct Table<'a> {
    prefix: String,
    known: &'a [Described],
    found: &'a mut Vec<(String, Value)>,
}

impl<'de> DeserializeSeed<'de> for Table<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for Table<'_> {
    type Value = ();

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.prefix.strip_suffix('.') {
            Some(group) => write!(formatter, "a table of the options of `{group}`"),
            None => formatter.write_str("a table of options"),
        }
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        while let Some(key) = map.next_key::<String>()? {
            let name = format!("{}{key}", self.prefix);
            let group = format!("{name}.");
            if self.known.iter().any(|known| known.name == name) {
                let value = map.next_value_seed(AnyValue)?;
                self.found.push((name, value));
            } else if self
                .known
                .iter()
                .any(|known| known.name.starts_with(&group))
            {
                map.next_value_seed(Table {
                    prefix: group,
                    known: self.known,
                    found: self.found,
                })?;
            } else {
                let names = self.known.iter().filter_map(|known| {
                    let name = known.name.strip_prefix(&self.prefix)?;
                    name.split('.').next()
                });
                let mut names: Vec<_> = names.collect();
                names.dedup();
                let hint = nearest(&key, &names);
                return Err(de::Error::custom(format!(
                    "unknown option `{name}`; {hint}"
                )));
            }
        }
        Ok(())
    }
}

/// Reads a [`Value`] of any form.
struct AnyValue;

impl<'de> DeserializeSeed<'de> for AnyValue {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for AnyValue {
    type Value = Value;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("text, a whole number, true or false, or a list of texts")
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(Value::Integer(value))
    }

    fn visit_u64<E: de::Error>(self, value: u64) -> Result<Value, E> {
        let value = i64::try_from(value);
        value
            .map(Value::Integer)
            .map_err(|_| de::Error::custom("the number is too large"))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
        Ok(Value::Text(value.to_string()))
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(Value::Text(value.to_owned()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Value, A::Error> {
        let mut texts = Vec::new();
        while let Some(text) = list.next_element()? {
            texts.push(text);
        }
        Ok(Value::List(texts))
    }
}

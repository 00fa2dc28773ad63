//! Lines that are objects of JSON (RFC 8259). They are written here because each program with palm's subscriber would
//! otherwise build `serde_json` and its dependencies, 4 % of what palm costs it.

use std::fmt::{self, Write as _};

use tracing::Event;
use tracing::field::{Field, Visit};
use tracing_subscriber::fmt::format::Writer;

use crate::trace::CurrentCall;

use super::{ComponentSpan, now};

/// Writes an event of a component, or of none, as an object of JSON.
pub(super) fn write_event(
    mut writer: Writer<'_>,
    event: &Event<'_>,
    component: Option<ComponentSpan>,
) -> fmt::Result {
    let mut line = JsonLine::default();
    line.object.string("time", now());
    line.object.string("level", event.metadata().level());
    line.object.string("target", event.metadata().target());
    event.record(&mut line);
    // An event may be about another call.
    if let Some(call) = CurrentCall::current()
        && !line.object.has("call_id")
    {
        if !call.call_id.is_empty() {
            line.object.string("call_id", &call.call_id);
        }
        if let Some(trace_id) = &call.trace_id {
            line.object.string("trace_id", trace_id);
        }
    }
    if let Some(component) = component {
        line.object.string("component", component.name);
        if let Some(instance) = component.instance {
            line.object.string("instance", instance);
        }
    }
    if !line.fields.is_empty() {
        line.object.literal("fields", line.fields.text());
    }
    writeln!(writer, "{}", line.object.text())
}

/// The object of a line, and that of the fields of its event which have no place of their own.
#[derive(Default)]
struct JsonLine {
    object: JsonObject<'static>,
    fields: JsonObject<'static>,
}

impl JsonLine {
    /// Returns the object to which a field belongs.
    fn object_of(&mut self, field: &Field) -> &mut JsonObject<'static> {
        match field.name() {
            "message" | "call_id" | "trace_id" => &mut self.object,
            _ => &mut self.fields,
        }
    }
}

impl Visit for JsonLine {
    fn record_bool(&mut self, field: &Field, value: bool) {
        self.object_of(field).literal(field.name(), value);
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.object_of(field).literal(field.name(), value);
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.object_of(field).literal(field.name(), value);
    }

    fn record_f64(&mut self, field: &Field, value: f64) {
        let object = self.object_of(field);
        match value.is_finite() {
            true => object.literal(field.name(), format_args!("{value:?}")),
            false => object.literal(field.name(), "null"),
        }
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.object_of(field).string(field.name(), value);
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        let value = format_args!("{value:?}");
        self.object_of(field).string(field.name(), value);
    }
}

/// An object of JSON that is being written. Its keys are unique: the first value of a key counts.
#[derive(Default)]
struct JsonObject<'a> {
    keys: Vec<&'a str>,
    /// The members so far, without the braces.
    members: String,
}

impl<'a> JsonObject<'a> {
    fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }

    fn has(&self, key: &str) -> bool {
        self.keys.contains(&key)
    }

    fn text(&self) -> String {
        format!("{{{}}}", self.members)
    }

    /// Adds a member whose value is a string.
    fn string(&mut self, key: &'a str, value: impl fmt::Display) {
        if self.begin(key) {
            self.quoted(value);
        }
    }

    /// Adds a member whose value has the form of JSON already.
    fn literal(&mut self, key: &'a str, value: impl fmt::Display) {
        if self.begin(key) {
            let _ = write!(self.members, "{value}");
        }
    }

    /// Begins a member, unless there is one with this key.
    fn begin(&mut self, key: &'a str) -> bool {
        if self.has(key) {
            return false;
        }
        if !self.is_empty() {
            self.members.push(',');
        }
        self.keys.push(key);
        self.quoted(key);
        self.members.push(':');
        true
    }

    fn quoted(&mut self, value: impl fmt::Display) {
        self.members.push('"');
        let mut escaped = Escaped(&mut self.members);
        // Only the value can fail, and what it has written is logged.
        let _ = write!(escaped, "{value}");
        self.members.push('"');
    }
}

/// Writes text as the inside of a string (RFC 8259, section 7).
struct Escaped<'a>(&'a mut String);

impl fmt::Write for Escaped<'_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for character in text.chars() {
            match character {
                '"' | '\\' => self.0.extend(['\\', character]),
                '\n' => self.0.push_str("\\n"),
                '\t' => self.0.push_str("\\t"),
                '\0'..='\x1f' => write!(self.0, "\\u{:04x}", u32::from(character))?,
                _ => self.0.push(character),
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::*;

    proptest! {
        #[test]
        fn any_text_is_read_as_it_was_written(key in any::<String>(), value in any::<String>(), number in any::<i64>()) {
            let mut object = JsonObject::default();
            object.string(&key, &value);
            object.literal("number", number);
            object.literal(&key, number);
            let text = object.text();
            prop_assert!(!text.contains(|character| character < ' '), "{text:?}");
            let mut expected = json!({ "number": number });
            expected[&key] = value.into();
            prop_assert_eq!(serde_json::from_str::<Value>(&text).unwrap(), expected);
        }
    }
}

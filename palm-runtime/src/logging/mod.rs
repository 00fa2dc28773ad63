//! A subscriber for [`tracing`] that writes a line for each event to standard error: `time - name - LEVEL - text`. The time
//! is UTC, in the form of RFC 3339, so that lines of several hosts can be sorted.
//!
//! ```no_run
//! palm::logging::init();
//! ```
//!
//! The name is that of the component that logged the event. Outside of components it is the event's target.
//!
//! The environment variable `PALM_LOG` sets the level, or `RUST_LOG` if `PALM_LOG` is unset or empty. Both have the
//! syntax of [`Targets`]: `debug`, or a level for each target, `warn,my_crate=debug,palm=info`. The targets of palm's
//! events begin with `palm`. Directives for spans, such as `[request]=debug`, are malformed. Default: `info`. The levels are `off`, `error`, `warn`, `info`, `debug` and `trace`. A
//! malformed filter, such as `PALM_LOG=inof`, is reported on standard error and replaced by `info`.
//!
//! With `PALM_LOG_FORMAT=json` each line is an object of JSON, for programs:
//!
//! ```json
//! {"time":"2026-11-28T18:30:00.123Z","level":"ERROR","target":"my_crate::images",
//!  "message":"`resize` failed: no such file","call_id":"6f1c…/17","trace_id":"4bf92f3577b34da6a3ce929d0e0e4736",
//!  "component":"images","instance":"9f2c64e0b1d7a853","fields":{"function":"resize","stage":0}}
//! ```
//!
//! `component` and `instance`, which identifies the run of the component, are missing outside of components, and
//! `call_id` and `trace_id` in events that are neither about a call nor logged by a method while it runs one. Tasks and
//! threads that a method starts are not part of its call.
//!
//! The variables do not apply to a component with its own level ([`log_level`](crate::component::Builder::log_level)).

mod json;

use std::env;
use std::ffi::OsString;
use std::fmt;
use std::time::UNIX_EPOCH;

use humantime::format_rfc3339_millis;
use tracing::field::{Field, Visit};
use tracing::level_filters::LevelFilter;
use tracing::subscriber::Interest;
use tracing::{Event, Level, Metadata, Subscriber, span};
use tracing_subscriber::Layer;
use tracing_subscriber::filter::{Targets, filter_fn};
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::layer::{Context, Filter, SubscriberExt};
use tracing_subscriber::registry::{LookupSpan, SpanRef};
use tracing_subscriber::util::SubscriberInitExt;

use crate::clock;
use crate::trace::CurrentCall;

/// The environment variable that sets the level; it has priority over [`FALLBACK_VARIABLE`].
pub const VARIABLE: &str = "PALM_LOG";

/// The environment variable that sets the level if [`VARIABLE`] is unset or empty.
pub const FALLBACK_VARIABLE: &str = "RUST_LOG";

/// The environment variable that sets the format of lines: `text`, the default, or `json`.
pub const FORMAT_VARIABLE: &str = "PALM_LOG_FORMAT";

/// The names of the levels, in the order in which reports list them.
const LEVELS: [&str; 6] = ["off", "error", "warn", "info", "debug", "trace"];

/// Installs the subscriber for this program, unless the program has one.
pub fn init() {
    // The error of a program that has a subscriber.
    let _ = tracing_subscriber::registry().with(layer()).try_init();
}

/// Returns the layer that [`init`] installs, for use in another subscriber.
pub fn layer<S>() -> impl Layer<S>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
{
    let (filter, report) = filter(env::var_os);
    let (format, format_report) = LogFormat::of_environment(env::var_os);
    if format == LogFormat::Json {
        CurrentCall::want();
    }
    for report in report.into_iter().chain(format_report) {
        // The subscriber is not installed yet.
        eprintln!("{report}");
    }
    let format = tracing_subscriber::fmt::layer()
        .with_writer(std::io::stderr)
        .with_ansi(false)
        .event_format(format)
        .with_filter(ComponentFilter(filter));
    // A layer without a filter would enable all spans, also those of each call.
    let record = RecordComponents.with_filter(filter_fn(is_component));
    record.and_then(format)
}

/// Returns the filter of the environment variables, and a report of a value that is probably a mistake.
fn filter(variable: impl Fn(&'static str) -> Option<OsString>) -> (Targets, Option<String>) {
    let set = [VARIABLE, FALLBACK_VARIABLE].into_iter().find_map(|name| {
        let value = variable(name).filter(|value| !value.is_empty())?;
        Some((name, value))
    });
    let info = || Targets::new().with_default(LevelFilter::INFO);
    let Some((name, value)) = set else {
        return (info(), None);
    };
    let value = value.to_string_lossy();
    let unreadable = |cause: String| {
        let report = format!("{name}=\"{value}\" is not a filter: {cause}; using `info`");
        (info(), Some(report))
    };
    for directive in value.split(',').map(str::trim) {
        // `Targets` reads a misspelt level as a target, and then logs nothing else.
        let is_word = directive.chars().all(|char| char.is_ascii_alphanumeric());
        if !is_word || directive.parse::<LevelFilter>().is_ok() {
            continue;
        }
        let word = directive.to_ascii_lowercase();
        let distance = |level: &str| match word == "warning" && level == "warn" {
            true => 1,
            false => strsim::osa_distance(&word, level),
        };
        if let Some(level) = LEVELS.iter().min_by_key(|level| distance(level))
            && distance(level) <= 2.min(word.len() / 2)
        {
            return unreadable(format!(
                "`{directive}` is not a level, did you mean `{level}`?"
            ));
        }
        if name == VARIABLE && value == directive {
            let report = format!(
                "{name}=\"{value}\" is not a level ({}): only events whose target begins with `{value}` are logged",
                LEVELS.join(", "),
            );
            return (
                Targets::new().with_target(directive, LevelFilter::TRACE),
                Some(report),
            );
        }
    }
    let directives: Vec<_> = value.split(',').map(str::trim).collect();
    match directives.join(",").parse() {
        Ok(filter) => (filter, None),
        Err(error) => unreadable(error.to_string()),
    }
}

/// The fields of a component's span.
#[derive(Debug, Default, Clone)]
struct ComponentSpan {
    name: String,
    /// The run of the component, once it has begun.
    instance: Option<String>,
    level: Option<Level>,
}

impl Visit for ComponentSpan {
    fn record_str(&mut self, field: &Field, value: &str) {
        match field.name() {
            "name" => value.clone_into(&mut self.name),
            "instance" => self.instance = Some(value.to_owned()),
            "log_level" => self.level = value.parse().ok(),
            _ => {}
        }
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        match field.name() {
            "name" => self.name = format!("{value:?}"),
            // A text that is not a level stands for that of the program.
            "log_level" => self.level = format!("{value:?}").parse().ok(),
            _ => {}
        }
    }
}

fn is_component(metadata: &Metadata<'_>) -> bool {
    metadata.is_span() && metadata.name() == "component" && metadata.target().starts_with("palm")
}

/// Stores a [`ComponentSpan`] with the span of each component.
struct RecordComponents;

impl<S> Layer<S> for RecordComponents
where
    S: Subscriber + for<'a> LookupSpan<'a>,
{
    fn on_new_span(
        &self,
        attributes: &span::Attributes<'_>,
        id: &span::Id,
        context: Context<'_, S>,
    ) {
        if !is_component(attributes.metadata()) {
            return;
        }
        let mut component = ComponentSpan::default();
        attributes.record(&mut component);
        if let Some(span) = context.span(id) {
            span.extensions_mut().insert(component);
        }
    }

    fn on_record(&self, id: &span::Id, values: &span::Record<'_>, context: Context<'_, S>) {
        if let Some(span) = context.span(id)
            && let Some(component) = span.extensions_mut().get_mut::<ComponentSpan>()
        {
            values.record(component);
        }
    }
}

/// Returns the component to which a span belongs.
fn component_of<'a, S: LookupSpan<'a>>(span: SpanRef<'a, S>) -> Option<ComponentSpan> {
    span.scope()
        .find_map(|span| span.extensions().get::<ComponentSpan>().cloned())
}

/// Applies the level of a component that has one, and a filter to all other events.
struct ComponentFilter(Targets);

impl<S> Filter<S> for ComponentFilter
where
    S: Subscriber + for<'a> LookupSpan<'a>,
{
    fn enabled(&self, metadata: &Metadata<'_>, context: &Context<'_, S>) -> bool {
        if is_component(metadata) {
            return true;
        }
        if metadata.is_span() && metadata.target() == crate::trace::TARGET {
            return false;
        }
        let component = context.lookup_current().and_then(component_of);
        match component.and_then(|component| component.level) {
            Some(level) => *metadata.level() <= level,
            None => Filter::enabled(&self.0, metadata, context),
        }
    }

    fn callsite_enabled(&self, metadata: &'static Metadata<'static>) -> Interest {
        // Spans of calls are no lines, and cost nothing if no other layer enables them.
        match metadata.is_span() && metadata.target() == crate::trace::TARGET {
            true => Interest::never(),
            false => Interest::sometimes(),
        }
    }

    fn max_level_hint(&self) -> Option<LevelFilter> {
        // None, because components may log more than the filter admits.
        None
    }
}

/// The format of lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum LogFormat {
    /// `time - name - LEVEL - text`.
    Text,
    /// An object of JSON.
    Json,
}

impl LogFormat {
    /// Returns the format of the environment variable, and a report of a value that is a mistake.
    fn of_environment(
        variable: impl Fn(&'static str) -> Option<OsString>,
    ) -> (Self, Option<String>) {
        let value = variable(FORMAT_VARIABLE).unwrap_or_default();
        match &*value.to_string_lossy() {
            "" | "text" => (Self::Text, None),
            "json" => (Self::Json, None),
            other => {
                let report = format!(
                    "{FORMAT_VARIABLE}=\"{other}\" is not a format (text, json); using `text`"
                );
                (Self::Text, Some(report))
            }
        }
    }
}

impl<S, N> FormatEvent<S, N> for LogFormat
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(
        &self,
        context: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let component = context.lookup_current().and_then(component_of);
        if *self == Self::Json {
            return json::write_event(writer, event, component);
        }
        let metadata = event.metadata();
        let name = component
            .as_ref()
            .map_or(metadata.target(), |component| &component.name);
        write!(writer, "{} - {name} - {} - ", now(), metadata.level())?;
        context
            .field_format()
            .format_fields(writer.by_ref(), event)?;
        writeln!(writer)
    }
}

/// Returns the time for a line. A clock that is set before 1970 has no form.
fn now() -> impl fmt::Display {
    format_rfc3339_millis(clock::wall().max(UNIX_EPOCH))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use parking_lot::Mutex;
    use serde_json::Value;

    use super::*;

    /// Returns the filter and the report for values of `PALM_LOG` and `RUST_LOG`.
    fn check(palm: &str, rust: &str) -> (String, String) {
        let (filter, report) = filter(|name| match name {
            VARIABLE => Some(palm.into()),
            _ => Some(rust.into()),
        });
        (filter.to_string(), report.unwrap_or_default())
    }

    #[test]
    fn palm_log_has_priority_over_rust_log_over_info() {
        assert_eq!(filter(|_| None).0.to_string(), "info");
        let silent = |filter: &str| (filter.to_owned(), String::new());
        assert_eq!(check("", ""), silent("info"));
        assert_eq!(check("", "debug"), silent("debug"));
        assert_eq!(check("warn", "debug"), silent("warn"));
        assert_eq!(
            check("my_crate=debug,warn", ""),
            silent("my_crate=debug,warn")
        );
        assert_eq!(check("", "hyper"), silent("hyper=trace"));
    }

    #[test]
    fn malformed_filters_are_reported_and_replaced_by_info() {
        for (value, cause) in [
            ("inof", "`inof` is not a level, did you mean `info`?"),
            (
                "palm=debug,wran",
                "`wran` is not a level, did you mean `warn`?",
            ),
            ("palm=inof", "error parsing level filter"),
            (
                "palm=debug=1",
                "invalid filter directive: too many '=' in filter directive, expected 0 or 1",
            ),
        ] {
            for (palm, rust, name) in [(value, "", VARIABLE), ("", value, FALLBACK_VARIABLE)] {
                let (filter, report) = check(palm, rust);
                assert_eq!(filter, "info");
                let expected = format!("{name}=\"{value}\" is not a filter: {cause}");
                assert!(report.starts_with(&expected), "{report}");
                assert!(report.ends_with("; using `info`"), "{report}");
            }
        }
    }

    #[test]
    fn word_other_than_a_level_is_reported_as_a_target() {
        let (filter, report) = check("verbose", "");
        assert_eq!(filter, "verbose=trace");
        assert_eq!(
            report,
            "PALM_LOG=\"verbose\" is not a level (off, error, warn, info, debug, trace): \
             only events whose target begins with `verbose` are logged",
        );
    }

    #[test]
    fn log_enables_spans_of_components_and_not_of_calls() {
        let subscriber = tracing_subscriber::registry().with(layer());
        tracing::subscriber::with_default(subscriber, || {
            assert!(!tracing::error_span!("component", name = "any").is_disabled());
            assert!(!crate::trace::is_enabled());
        });
    }

    /// What a subscriber has written.
    #[derive(Clone, Default)]
    struct Written(Arc<Mutex<Vec<u8>>>);

    impl std::io::Write for Written {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().write(bytes)
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    /// Returns the lines that `run` logs with the filter `info`.
    fn logged(format: LogFormat, run: impl FnOnce()) -> Vec<String> {
        let written = Written::default();
        let writer = written.clone();
        let lines = tracing_subscriber::fmt::layer()
            .with_writer(move || writer.clone())
            .with_ansi(false)
            .event_format(format)
            .with_filter(ComponentFilter(filter(|_| None).0));
        let record = RecordComponents.with_filter(filter_fn(is_component));
        let subscriber = tracing_subscriber::registry().with(record.and_then(lines));
        tracing::subscriber::with_default(subscriber, run);
        let written = written.0.lock();
        let text = String::from_utf8(written.clone()).unwrap();
        text.lines().map(str::to_owned).collect()
    }

    #[test]
    fn format_is_that_of_the_environment() {
        let check = |value: &str| LogFormat::of_environment(|_| Some(value.into()));
        assert_eq!(LogFormat::of_environment(|_| None), (LogFormat::Text, None));
        assert_eq!(check("json"), (LogFormat::Json, None));
        assert_eq!(check("text"), (LogFormat::Text, None));
        let report = "PALM_LOG_FORMAT=\"xml\" is not a format (text, json); using `text`";
        assert_eq!(check("xml"), (LogFormat::Text, Some(report.to_owned())));
    }

    #[test]
    fn json_line_has_the_component_the_call_and_the_fields() {
        let lines = logged(LogFormat::Json, || {
            let instance = tracing::field::Empty;
            let span = tracing::error_span!("component", name = "images", instance);
            span.record("instance", "00ff");
            span.in_scope(|| {
                tracing::warn!(
                    tasks = 3,
                    call_id = "a/1",
                    trace_id = None::<&str>,
                    "a \"line\"\n"
                );
            });
            let lost = f64::NAN;
            tracing::info!(share = 0.5, least = 1e-300, lost, is_done = true, "outside");
        });
        assert_eq!(lines.len(), 2, "{lines:#?}");
        let objects = lines
            .iter()
            .map(|line| serde_json::from_str::<Value>(line).unwrap());
        let mut objects: Vec<_> = objects.collect();
        for object in &mut objects {
            let time = object.as_object_mut().unwrap().remove("time").unwrap();
            assert_eq!(
                time.as_str().unwrap().len(),
                "2026-11-28T18:30:00.123Z".len()
            );
        }
        let target = module_path!();
        let expected = serde_json::json!({
            "level": "WARN", "target": target, "message": "a \"line\"\n", "call_id": "a/1",
            "component": "images", "instance": "00ff", "fields": { "tasks": 3 },
        });
        assert_eq!(objects[0], expected);
        let expected = serde_json::json!({
            "level": "INFO", "target": target, "message": "outside",
            "fields": { "share": 0.5, "least": 1e-300, "lost": null, "is_done": true },
        });
        assert_eq!(objects[1], expected);
    }

    #[test]
    fn json_line_within_a_call_has_its_ids() {
        let mut message = crate::message::Message::new("images.resize", "");
        message.set_client("a/7");
        let mut trace = crate::message::Trace::default();
        trace.parent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01".to_owned();
        message.set_trace(&trace);
        CurrentCall::want();
        let call = CurrentCall::of(&message).unwrap();
        let lines = logged(LogFormat::Json, || {
            CurrentCall::enter(Some(&call), || {
                tracing::info!("in a method");
                tracing::warn!(call_id = "b/1", "about another call");
                tracing::warn!(trace_id = "c", "in another trace");
            });
            tracing::info!("afterwards");
        });
        let ids = lines.iter().map(|line| {
            let object: Value = serde_json::from_str(line).unwrap();
            ["call_id", "trace_id"].map(|name| object[name].as_str().map(str::to_owned))
        });
        let trace_id = Some("4bf92f3577b34da6a3ce929d0e0e4736".to_owned());
        let expected = [
            [Some("a/7".to_owned()), trace_id],
            [Some("b/1".to_owned()), None],
            [Some("a/7".to_owned()), Some("c".to_owned())],
            [None, None],
        ];
        assert_eq!(ids.collect::<Vec<_>>(), expected);
    }

    #[test]
    fn level_of_a_component_can_change() {
        let lines = logged(LogFormat::Text, || {
            let log_level = tracing::field::Empty;
            let span = tracing::error_span!("component", name = "images", log_level);
            let log = |text: &str| span.in_scope(|| tracing::debug!("{text}"));
            log("before");
            span.record("log_level", tracing::field::display(Level::DEBUG));
            log("at debug");
            span.record("log_level", "default");
            log("after");
        });
        assert_eq!(lines.len(), 1, "{lines:#?}");
        assert!(
            lines[0].ends_with(" - images - DEBUG - at debug"),
            "{}",
            lines[0]
        );
    }
}

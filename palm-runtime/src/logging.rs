//! A subscriber for [`tracing`] that writes a line for each event to standard error: `time - name - LEVEL - text`.
//!
//! ```no_run
//! palm::logging::init();
//! ```
//!
//! The name is that of the component that logged the event. Outside of components it is the event's target.
//!
//! The environment variable `PALM_LOG` sets the level, or `RUST_LOG` if `PALM_LOG` is unset or empty. Both have the
//! syntax of [`EnvFilter`]: `debug`, or a level for each target, `warn,my_crate=debug,palm=info`. The targets of palm's
//! events begin with `palm`. Default: `info`. The levels are `off`, `error`, `warn`, `info`, `debug` and `trace`. A
//! malformed filter, such as `PALM_LOG=inof`, is reported on standard error and replaced by `info`.
//!
//! The variables do not apply to a component with its own level ([`log_level`](crate::component::Builder::log_level)).

use std::env;
use std::ffi::OsString;
use std::fmt;

use tracing::field::{Field, Visit};
use tracing::level_filters::LevelFilter;
use tracing::subscriber::Interest;
use tracing::{Event, Level, Metadata, Subscriber, span};
use tracing_subscriber::filter::filter_fn;
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::time::{ChronoLocal, FormatTime};
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::layer::{Context, Filter, SubscriberExt};
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Layer};

/// The environment variable that sets the level; it has priority over [`FALLBACK_VARIABLE`].
pub const VARIABLE: &str = "PALM_LOG";

/// The environment variable that sets the level if [`VARIABLE`] is unset or empty.
pub const FALLBACK_VARIABLE: &str = "RUST_LOG";

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
    if let Some(report) = report {
        // The subscriber is not installed yet.
        eprintln!("{report}");
    }
    let format = tracing_subscriber::fmt::layer()
        .with_writer(std::io::stderr)
        .with_ansi(false)
        .event_format(LineFormat)
        .with_filter(ComponentFilter(filter));
    // A layer without a filter would enable all spans, also those of each call.
    let record = RecordComponents.with_filter(filter_fn(is_component));
    record.and_then(format)
}

/// Returns the filter of the environment variables, and a report of a value that is probably a mistake.
fn filter(variable: impl Fn(&'static str) -> Option<OsString>) -> (EnvFilter, Option<String>) {
    let set = [VARIABLE, FALLBACK_VARIABLE].into_iter().find_map(|name| {
        let value = variable(name).filter(|value| !value.is_empty())?;
        Some((name, value))
    });
    let Some((name, value)) = set else {
        return (EnvFilter::new("info"), None);
    };
    let value = value.to_string_lossy();
    let unreadable = |cause: String| {
        let report = format!("{name}=\"{value}\" is not a filter: {cause}; using `info`");
        (EnvFilter::new("info"), Some(report))
    };
    for directive in value.split(',').map(str::trim) {
        // `EnvFilter` reads a misspelt level as a target, and then logs nothing else.
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
            return (EnvFilter::new(directive), Some(report));
        }
    }
    match EnvFilter::builder()
        .with_default_directive(LevelFilter::INFO.into())
        .parse(&value)
    {
        Ok(filter) => (filter, None),
        Err(error) => unreadable(error.to_string()),
    }
}

/// The fields of a component's span.
#[derive(Debug, Default, Clone)]
struct ComponentSpan {
    name: String,
    level: Option<Level>,
}

impl Visit for ComponentSpan {
    fn record_str(&mut self, field: &Field, value: &str) {
        match field.name() {
            "name" => value.clone_into(&mut self.name),
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

fn component_of<S>(context: &Context<'_, S>) -> Option<ComponentSpan>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
{
    let span = context.lookup_current()?;
    span.scope()
        .find_map(|span| span.extensions().get::<ComponentSpan>().cloned())
}

/// Applies the level of a component that has one, and a filter to all other events.
struct ComponentFilter(EnvFilter);

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
        match component_of(context).and_then(|component| component.level) {
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

/// Formats an event as `time - name - LEVEL - text`.
struct LineFormat;

impl<S, N> FormatEvent<S, N> for LineFormat
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
        ChronoLocal::new("%Y-%m-%d %H:%M:%S,%3f".to_owned()).format_time(&mut writer)?;
        let component = context.lookup_current().and_then(|span| {
            span.scope().find_map(|span| {
                let extensions = span.extensions();
                extensions
                    .get::<ComponentSpan>()
                    .map(|component| component.name.clone())
            })
        });
        match component {
            Some(name) => write!(writer, " - {name} - ")?,
            None => write!(writer, " - {} - ", event.metadata().target())?,
        }
        write!(writer, "{} - ", event.metadata().level())?;
        context
            .field_format()
            .format_fields(writer.by_ref(), event)?;
        writeln!(writer)
    }
}

#[cfg(test)]
mod tests {
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
            ("palm=debug=1", "error parsing level filter"),
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
}

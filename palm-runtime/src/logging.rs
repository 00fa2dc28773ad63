//! A ready-made subscriber for [`tracing`]: one line an event on standard error, `time - name - LEVEL - text`.
//!
//! ```no_run
//! palm::logging::init();
//! ```
//!
//! The name is that of the component in which the event happened, otherwise the event's target.
//!
//! The environment variable `PALM_LOG` sets the level, and `RUST_LOG` does if `PALM_LOG` is unset or empty. Both
//! have the syntax of [`EnvFilter`]: `debug`, or a level for each target, `warn,my_crate=debug,palm=info`. palm's
//! own events have targets that begin with `palm`. Default: `info`. The levels are `off`, `error`, `warn`, `info`,
//! `debug` and `trace`. A filter that cannot be read, such as `PALM_LOG=inof`, is reported on standard error, and
//! `info` is used.
//!
//! A component with a level of its own ([`log_level`](crate::component::Builder::log_level)) logs what is at
//! least that severe, whatever the variables say.

use std::env;
use std::ffi::OsString;
use std::fmt;

use tracing::field::{Field, Visit};
use tracing::level_filters::LevelFilter;
use tracing::{Event, Level, Metadata, Subscriber, span};
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

/// The names of the levels, as a report of a misspelt one lists them.
const LEVELS: [&str; 6] = ["off", "error", "warn", "info", "debug", "trace"];

/// Logs the events of this program to standard error, unless the program has a subscriber already.
pub fn init() {
    // An error means that there is one.
    let _ = tracing_subscriber::registry().with(layer()).try_init();
}

/// Returns the layer that [`init`] installs, for a subscriber of your own.
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
        .event_format(Line)
        .with_filter(ByComponent(filter));
    Components.and_then(format)
}

/// The filter that the environment asks for, and a report of a value that cannot be meant as it is written.
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
        // `EnvFilter` reads a word that is not a level as a target, and then everything else is silent.
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

/// What the span of a component says.
#[derive(Debug, Default, Clone)]
struct Component {
    name: String,
    level: Option<Level>,
}

impl Visit for Component {
    fn record_str(&mut self, field: &Field, value: &str) {
        if field.name() == "name" {
            self.name = value.to_owned();
        }
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        match field.name() {
            "name" => self.name = format!("{value:?}"),
            "log_level" => self.level = format!("{value:?}").parse().ok(),
            _ => {}
        }
    }
}

fn is_component(metadata: &Metadata<'_>) -> bool {
    metadata.is_span() && metadata.name() == "component" && metadata.target().starts_with("palm")
}

/// Remembers what the span of each component says.
struct Components;

impl<S> Layer<S> for Components
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
        let mut component = Component::default();
        attributes.record(&mut component);
        if let Some(span) = context.span(id) {
            span.extensions_mut().insert(component);
        }
    }
}

fn component_of<S>(context: &Context<'_, S>) -> Option<Component>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
{
    let span = context.lookup_current()?;
    span.scope()
        .find_map(|span| span.extensions().get::<Component>().cloned())
}

/// A level for each component that has one, and a filter for all else.
struct ByComponent(EnvFilter);

impl<S> Filter<S> for ByComponent
where
    S: Subscriber + for<'a> LookupSpan<'a>,
{
    fn enabled(&self, metadata: &Metadata<'_>, context: &Context<'_, S>) -> bool {
        if is_component(metadata) {
            return true;
        }
        match component_of(context).and_then(|component| component.level) {
            Some(level) => *metadata.level() <= level,
            None => Filter::enabled(&self.0, metadata, context),
        }
    }

    fn max_level_hint(&self) -> Option<LevelFilter> {
        // A component may want more than all others.
        None
    }
}

/// `time - name - LEVEL - text`
struct Line;

impl<S, N> FormatEvent<S, N> for Line
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
                    .get::<Component>()
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

    /// The filter and the report for these values of `PALM_LOG` and `RUST_LOG`.
    fn check(palm: &str, rust: &str) -> (String, String) {
        let (filter, report) = filter(|name| match name {
            VARIABLE => Some(palm.into()),
            _ => Some(rust.into()),
        });
        (filter.to_string(), report.unwrap_or_default())
    }

    #[test]
    fn palm_log_wins_over_rust_log_over_info() {
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
    fn misspelt_filters_are_reported_and_info_is_used() {
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
    fn a_word_that_is_not_a_level_is_reported_as_a_target() {
        let (filter, report) = check("verbose", "");
        assert_eq!(filter, "verbose=trace");
        assert_eq!(
            report,
            "PALM_LOG=\"verbose\" is not a level (off, error, warn, info, debug, trace): \
             only events whose target begins with `verbose` are logged",
        );
    }
}

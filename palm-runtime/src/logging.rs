//! A ready-made subscriber for [`tracing`]: one line an event, `time - name - LEVEL - text`.
//!
//! ```no_run
//! palm_runtime::logging::init();
//! ```
//!
//! What is printed is set by the environment variable `PALM_LOG`, in the syntax of
//! [`EnvFilter`] (`PALM_LOG=debug`, `PALM_LOG=warn,my_crate=debug`), and
//! is `info` without it. A component that was given a level of its own
//! ([`log_level`](crate::component::Builder::log_level)) prints what is at least that severe, whatever
//! the variable says.

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

/// The environment variable that says what is printed.
pub const VARIABLE: &str = "PALM_LOG";

/// Prints the events of this program on standard output, unless it has a subscriber already.
pub fn init() {
    // An error means that there is one.
    let _ = tracing_subscriber::registry().with(layer()).try_init();
}

/// The layer that [`init`] installs, for a subscriber of your own.
pub fn layer<S>() -> impl Layer<S>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
{
    let format = tracing_subscriber::fmt::layer()
        .with_ansi(false)
        .event_format(Line)
        .with_filter(ByComponent(default_filter()));
    Components.and_then(format)
}

fn default_filter() -> EnvFilter {
    let filter = EnvFilter::builder().with_default_directive(LevelFilter::INFO.into());
    match filter.with_env_var(VARIABLE).try_from_env() {
        Ok(filter) => filter,
        Err(error) => {
            if std::env::var_os(VARIABLE).is_some() {
                // There is no log yet to say it in.
                eprintln!("{VARIABLE} is not understood ({error}); using `info`");
            }
            EnvFilter::new("info")
        }
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

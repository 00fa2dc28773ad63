//! [`install`] and [`layer`]: from spans to a collector.

use std::env;
use std::time::Duration;

use opentelemetry::trace::TracerProvider as _;
use opentelemetry_otlp::{ExporterBuildError, SpanExporter};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::error::OTelSdkError;
use opentelemetry_sdk::trace::SdkTracerProvider;
use palm::trace::{BridgeInstalledError, TARGET, set_bridge};
use tracing::Subscriber;
use tracing::level_filters::LevelFilter;
use tracing_subscriber::Layer;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::util::{SubscriberInitExt as _, TryInitError};

use crate::bridge::OtelBridge;

/// The variable that names the service in the traces.
const SERVICE_NAME: &str = "OTEL_SERVICE_NAME";

/// How long the last spans may take to leave when an [`Exporter`] is dropped.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(5);

/// Why no exporter was installed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum InstallError {
    /// A variable of OpenTelemetry has a value that is not usable, such as an endpoint that is not a URL.
    #[error("the exporter cannot be made from the variables `OTEL_EXPORTER_OTLP_*`")]
    Exporter(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// The program has a subscriber, to which `palm_otel::layer` can be added.
    #[error("the program has a subscriber already: add the layer of `palm_otel::layer` to it")]
    Subscriber(#[from] TryInitError),
    /// Another bridge connects palm's traces.
    #[error(transparent)]
    Bridge(#[from] BridgeInstalledError),
}

/// The last spans were not exported.
#[derive(Debug, thiserror::Error)]
#[error("the last spans were not exported: is there a collector at `OTEL_EXPORTER_OTLP_ENDPOINT`?")]
pub struct ShutdownError {
    #[source]
    source: Box<dyn std::error::Error + Send + Sync>,
}

/// Exports spans until it is dropped.
///
/// Dropping it sends the last spans, and blocks for at most 5 s. [`shutdown`](Self::shutdown) reports if that fails.
#[derive(Debug)]
#[must_use = "spans are exported until it is dropped"]
pub struct Exporter {
    provider: SdkTracerProvider,
    is_shut_down: bool,
}

impl Exporter {
    /// Sends the last spans, and stops. Blocks for at most 5 s.
    ///
    /// # Errors
    ///
    /// [`ShutdownError`] if the spans did not reach a collector.
    pub fn shutdown(mut self) -> Result<(), ShutdownError> {
        self.stop().map_err(|error| ShutdownError {
            source: error.into(),
        })
    }

    fn stop(&mut self) -> Result<(), OTelSdkError> {
        match std::mem::replace(&mut self.is_shut_down, true) {
            true => Ok(()),
            false => self.provider.shutdown_with_timeout(FLUSH_TIMEOUT),
        }
    }
}

impl Drop for Exporter {
    fn drop(&mut self) {
        // `shutdown` reports the error.
        let _ = self.stop();
    }
}

/// Installs a subscriber that writes palm's log and exports spans, under the name `service` unless `OTEL_SERVICE_NAME`
/// is set. Call it before components and clients start.
///
/// # Errors
///
/// [`InstallError`]: the program has a subscriber already, or a variable of OpenTelemetry is malformed. Nothing is
/// exported then.
pub fn install(service: impl Into<String>) -> Result<Exporter, InstallError> {
    let (layer, exporter) = layer(service)?;
    tracing_subscriber::registry()
        .with(palm::logging::layer())
        .with(layer)
        .try_init()?;
    Ok(exporter)
}

/// Returns a layer that exports spans, for a subscriber of the program's own, and connects palm's messages with them.
///
/// # Errors
///
/// [`InstallError`]: a variable of OpenTelemetry is malformed, or palm's traces are connected already.
pub fn layer<S>(service: impl Into<String>) -> Result<(impl Layer<S>, Exporter), InstallError>
where
    S: Subscriber + for<'span> LookupSpan<'span> + Send + Sync,
{
    let exporter = SpanExporter::builder().with_http().build();
    let exporter =
        exporter.map_err(|error: ExporterBuildError| InstallError::Exporter(error.into()))?;
    set_bridge(OtelBridge)?;
    let mut resource = Resource::builder();
    if env::var_os(SERVICE_NAME).is_none_or(|name| name.is_empty()) {
        resource = resource.with_service_name(service.into());
    }
    let provider = SdkTracerProvider::builder()
        .with_resource(resource.build())
        .with_batch_exporter(exporter)
        .build();
    // palm's other spans last as long as a component, and its log would repeat the failures of spans.
    let filter = Targets::new()
        .with_default(LevelFilter::INFO)
        .with_target("palm_proto", LevelFilter::OFF)
        .with_target("palm_runtime", LevelFilter::OFF)
        .with_target(TARGET, LevelFilter::DEBUG);
    let layer = tracing_opentelemetry::layer()
        .with_tracer(provider.tracer("palm"))
        .with_location(false)
        .with_threads(false)
        .with_tracked_inactivity(false)
        .with_filter(filter);
    let exporter = Exporter {
        provider,
        is_shut_down: false,
    };
    Ok((layer, exporter))
}

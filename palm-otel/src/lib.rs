#![doc = include_str!("../README.md")]
//!
//! [`install`] is all that a program needs. It installs a subscriber for [`tracing`] that writes palm's log, as
//! [`palm::logging`] does, and exports spans: those of palm ([`palm::trace`]), and those of the program from the level
//! `INFO` on. A program with a subscriber of its own adds [`layer`] to it.
//!
//! The environment variables of OpenTelemetry apply, above all:
//!
//! | variable | default |
//! |---|---|
//! | `OTEL_EXPORTER_OTLP_ENDPOINT` | `http://localhost:4318` |
//! | `OTEL_EXPORTER_OTLP_HEADERS` | none; such as `authorization=Bearer%20token` |
//! | `OTEL_SERVICE_NAME` | the name that is passed to [`install`] |
//! | `OTEL_RESOURCE_ATTRIBUTES` | none |
//! | `OTEL_TRACES_SAMPLER`, `OTEL_TRACES_SAMPLER_ARG` | `parentbased_always_on`: a call is traced unless its caller says otherwise |
//!
//! Spans are exported in batches by a thread of its own. If the collector is away, spans are dropped, and calls continue.

mod bridge;
mod exporter;

pub use bridge::OtelBridge;
pub use exporter::{Exporter, InstallError, ShutdownError, install, layer};

//! Metrics for [Prometheus](https://prometheus.io) and health checks, over HTTP.
//!
//! [`Builder::monitor`](crate::component::Builder::monitor), or the environment variable `PALM_MONITOR`, serves three
//! paths for a component:
//!
//! | path | response |
//! |---|---|
//! | `/metrics` | the [reports](crate::report) of the components as metrics, in the format OpenMetrics or in that of Prometheus |
//! | `/livez` | 200 while the process responds |
//! | `/readyz` | 200 if all components have started, are connected to their upstream components, and do not drain; otherwise 503, with the reasons as text |
//!
//! Components of one process that are monitored at the same address share it.
//!
//! [`Exporter`] serves the same for a whole cluster, [`Exposition`] encodes reports for a program with a server of its own.
//! `palm::guide::observe` lists the metrics, with rules for alerts.

mod collector;
mod exporter;
mod exposition;
mod part;
mod service;

pub use exporter::Exporter;
pub use exposition::{Exposition, Format};
pub(crate) use part::MonitorService;

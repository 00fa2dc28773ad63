//! [`Exposition`]: reports in the formats that Prometheus reads.

#[cfg(feature = "native-histograms")]
use prometheus_client::encoding::prometheus_protobuf;
use prometheus_client::encoding::{prometheus_text, text};
use prometheus_client::registry::Registry;

use super::collector::{Collected, ReportCollector};
use crate::inspect::{Answer, Cluster};
use crate::report::Report;

/// Reports, to be encoded as metrics.
///
/// The metrics are those of the reports: nothing is counted twice, and counters begin with the run of a component. An
/// exposition has a bounded number of series: 100 peers of each role of a component have series of their own, and the
/// further ones, and clients, share those of the peer `other`.
///
/// ```
/// use palm::monitor::{Exposition, Format};
/// use palm::prelude::*;
///
/// # #[tokio::main]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let master = Master::new("images").bind("tcp://127.0.0.1:0").spawn().await?;
/// let mut exposition = Exposition::new();
/// exposition.add(master.report().await);
/// let text = String::from_utf8(exposition.encode(Format::OpenMetrics))?;
/// assert!(text.contains("palm_tasks_waiting{component=\"images\",kind=\"master\"} 0\n"));
/// master.shutdown().await?;
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Default)]
pub struct Exposition {
    collected: Vec<Collected>,
}

/// A format of metrics.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Format {
    /// OpenMetrics 1.0.
    OpenMetrics,
    /// The text format 0.0.4 of Prometheus.
    Prometheus,
    /// The protobuf format of Prometheus, the only one that has native histograms.
    #[cfg(feature = "native-histograms")]
    Protobuf,
}

impl Format {
    /// Returns the value of the HTTP header `Content-Type`.
    pub fn content_type(self) -> &'static str {
        match self {
            Self::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
            Self::Prometheus => "text/plain; version=0.0.4; charset=utf-8",
            #[cfg(feature = "native-histograms")]
            Self::Protobuf => {
                "application/vnd.google.protobuf; proto=io.prometheus.client.MetricFamily; encoding=delimited"
            }
        }
    }

    /// Returns the format for the value of the HTTP header `Accept`: with the feature `native-histograms` protobuf if the
    /// client reads it, otherwise OpenMetrics if it reads that.
    ///
    /// Prometheus accepts protobuf if its own feature `native-histograms` is enabled.
    pub fn for_accept(accept: &str) -> Self {
        #[cfg(feature = "native-histograms")]
        if accept.contains("application/vnd.google.protobuf") {
            return Self::Protobuf;
        }
        match accept.contains("application/openmetrics-text") {
            true => Self::OpenMetrics,
            false => Self::Prometheus,
        }
    }
}

impl Exposition {
    /// Returns an empty exposition.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds the report of a component.
    ///
    /// If two reports have the same name and kind, the label `component` of the second one ends with `/2`.
    pub fn add(&mut self, report: Report) {
        let name = report.name.clone();
        let mut collected = Collected::new(None, Some(report));
        let mut number = 1;
        while self.collected.iter().any(|it| it.has_labels_of(&collected)) {
            number += 1;
            collected.component = format!("{name}/{number}");
        }
        self.collected.push(collected);
    }

    /// Adds all components of a cluster, each with its address as the label `instance`, and whether it answers.
    pub fn add_cluster(&mut self, cluster: Cluster) {
        for (address, answer) in cluster.components {
            let collected = match answer {
                Answer::Report(report) => Collected::new(Some(address), Some(*report)),
                Answer::NoReport { .. } => Collected::new(Some(address), None),
                Answer::Unreachable(_) => Collected::unreachable(address),
            };
            self.collected.push(collected);
        }
    }

    /// Returns the metrics in a format.
    pub fn encode(self, format: Format) -> Vec<u8> {
        let mut registry = Registry::default();
        registry.register_collector(Box::new(ReportCollector(self.collected)));
        let mut written = String::new();
        let encoded = match format {
            Format::OpenMetrics => text::encode(&mut written, &registry),
            Format::Prometheus => prometheus_text::encode(&mut written, &registry),
            #[cfg(feature = "native-histograms")]
            Format::Protobuf => {
                return prometheus_protobuf::encode_to_vec(&registry)
                    .expect("writing to a Vec cannot fail");
            }
        };
        encoded.expect("writing to a String cannot fail");
        written.into_bytes()
    }
}

//! [`ReportCollector`]: which metrics a report has, with their names, units and labels.
//!
//! Tables of [`Definition`]s define the metrics of components, parts, functions, peers and workers. Only counters that
//! never decrease during a run of the component become counters of Prometheus. The functions of a master do not: they are
//! merged from the workers that are connected, so they are left out, and `palm_worker_*` counts calls by worker.

use std::borrow::Cow;
use std::collections::HashSet;
use std::fmt;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, NoLabelSet};
use prometheus_client::metrics::MetricType;

use crate::report::{Durations, EdgeState, Report, Role, State};

mod definitions;
#[cfg(feature = "native-histograms")]
mod native;
mod peers;

use definitions::{COMPONENT, Definition, FUNCTION, PART, PEER, Value, WORKER, has_workers};
#[cfg(feature = "native-histograms")]
use native::NativeBuckets;
use peers::peer_groups;

/// The longest value of a label. Peers choose their names.
const MAX_LABEL_CHARS: usize = 128;

/// What is known of a component.
#[derive(Debug)]
pub(super) struct Collected {
    /// The address; only if several components are exposed for others to scrape.
    instance: Option<String>,
    /// The value of the label `component`.
    pub(super) component: String,
    is_up: bool,
    report: Option<Report>,
}

impl Collected {
    pub(super) fn new(instance: Option<String>, report: Option<Report>) -> Self {
        Self {
            instance,
            component: report
                .as_ref()
                .map(|it| it.name.clone())
                .unwrap_or_default(),
            is_up: true,
            report,
        }
    }

    pub(super) fn unreachable(address: String) -> Self {
        Self {
            is_up: false,
            ..Self::new(Some(address), None)
        }
    }

    pub(super) fn has_labels_of(&self, other: &Self) -> bool {
        self.kind() == other.kind() && self.labels() == other.labels()
    }

    fn kind(&self) -> &str {
        self.report.as_ref().map_or("", |report| &report.kind)
    }

    fn labels(&self) -> Labels<'_> {
        let instance = self.instance.as_deref().map(|it| ("instance", it));
        let own = [("component", &*self.component), ("kind", self.kind())];
        extended(&Vec::new(), instance.into_iter().chain(own))
    }
}

type Labels<'a> = Vec<(&'static str, Cow<'a, str>)>;

fn shortened(value: &str) -> &str {
    let end = value.char_indices().nth(MAX_LABEL_CHARS);
    end.map_or(value, |(end, _)| &value[..end])
}

/// Encodes reports.
#[derive(Debug)]
pub(super) struct ReportCollector(pub(super) Vec<Collected>);

impl Collector for ReportCollector {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let encoder = &mut encoder;
        self.encode_health(encoder)?;
        encode_all(encoder, COMPONENT, &self.reports().collect::<Vec<_>>())?;
        let parts = self.each(|report| {
            report
                .parts
                .iter()
                .map(|it| (vec![("part", &*it.name)], it))
                .collect()
        });
        encode_all(encoder, PART, &parts)?;
        let functions = self.each(|report| match has_workers(report) {
            true => Vec::new(),
            false => report
                .functions
                .iter()
                .map(|it| (vec![("function", &*it.name)], it))
                .collect(),
        });
        encode_all(encoder, FUNCTION, &functions)?;
        let groups: Vec<_> = self
            .reports()
            .map(|(labels, report)| (labels, peer_groups(report)))
            .collect();
        let mut peers = Vec::new();
        let mut workers = Vec::new();
        for (labels, groups) in &groups {
            for ((role, peer), group) in groups {
                let own = [("role", role.as_str()), ("peer", *peer)];
                peers.push((extended(labels, own), group));
                if let Some(worker) = group.single.as_ref().and_then(|edge| edge.worker.as_ref()) {
                    workers.push((extended(labels, [("worker", *peer)]), worker));
                }
            }
        }
        encode_all(encoder, PEER, &peers)?;
        encode_all(encoder, WORKER, &workers)
    }
}

impl ReportCollector {
    fn reports(&self) -> impl Iterator<Item = (Labels<'_>, &Report)> {
        self.0
            .iter()
            .filter_map(|it| Some((it.labels(), it.report.as_ref()?)))
    }

    /// Returns the items of all reports, each with its labels.
    fn each<'a, T>(
        &'a self,
        items: impl Fn(&'a Report) -> Vec<(Vec<(&'static str, &'a str)>, T)>,
    ) -> Vec<(Labels<'a>, T)> {
        let mut all = Vec::new();
        for (labels, report) in self.reports() {
            let items = items(report).into_iter();
            all.extend(items.map(|(own, item)| (extended(&labels, own), item)));
        }
        all
    }

    /// Encodes which components answer, what they are, and the states of their peers.
    fn encode_health(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let answers = self.0.iter().filter_map(|it| {
            let instance = it.instance.as_deref()?;
            Some((
                extended(&Vec::new(), [("instance", instance)]),
                u64::from(it.is_up),
            ))
        });
        encode_gauges(
            encoder,
            "up",
            "Whether the component answers",
            answers.collect(),
        )?;
        let details = self.reports().map(|(labels, report)| {
            let mut labels = extended(
                &labels,
                [("version", &*report.version), ("host", &*report.host)],
            );
            labels.push(("pid", report.pid.to_string().into()));
            (labels, 1)
        });
        encode_gauges(
            encoder,
            "component_info",
            "The version, host and process of the component",
            details.collect(),
        )?;
        let states = self.reports().flat_map(|(labels, report)| {
            let states = [State::Starting, State::Ready, State::Draining].into_iter();
            states.map(move |state| {
                (
                    extended(&labels, [("state", state.as_str())]),
                    u64::from(report.state == state),
                )
            })
        });
        encode_gauges(
            encoder,
            "component_state",
            "1 for the state that the component is in",
            states.collect(),
        )?;
        let mut peers = Vec::new();
        for (labels, report) in self.reports() {
            for role in [
                Role::Worker,
                Role::Client,
                Role::Subscriber,
                Role::Upstream,
                Role::Master,
            ] {
                for state in [
                    EdgeState::Connected,
                    EdgeState::Disconnected,
                    EdgeState::Lost,
                    EdgeState::Draining,
                ] {
                    let edges = report.edges_of(role).filter(|edge| edge.state == state);
                    let own = [("role", role.as_str()), ("state", state.as_str())];
                    peers.push((extended(&labels, own), edges.count() as u64));
                }
            }
        }
        encode_gauges(
            encoder,
            "peers",
            "Peers by role and state of their connection",
            peers,
        )
    }
}

fn extended<'a>(
    labels: &Labels<'a>,
    own: impl IntoIterator<Item = (&'static str, &'a str)>,
) -> Labels<'a> {
    let own = own
        .into_iter()
        .map(|(name, value)| (name, shortened(value).into()));
    labels.iter().cloned().chain(own).collect()
}

fn encode_gauges(
    encoder: &mut DescriptorEncoder<'_>,
    name: &str,
    help: &str,
    series: Vec<(Labels<'_>, u64)>,
) -> fmt::Result {
    if series.is_empty() {
        return Ok(());
    }
    let name = format!("palm_{name}");
    let mut metric = encoder.encode_descriptor(&name, help, None, MetricType::Gauge)?;
    for (labels, value) in series {
        metric.encode_family(&labels)?.encode_gauge(&value)?;
    }
    Ok(())
}

/// Encodes all metrics of a table. Those without a value have no descriptor either.
fn encode_all<T>(
    encoder: &mut DescriptorEncoder<'_>,
    definitions: &[Definition<T>],
    items: &[(Labels<'_>, &T)],
) -> fmt::Result {
    // A scrape with two series of the same labels would be rejected as a whole.
    let mut seen = HashSet::new();
    let items: Vec<_> = items
        .iter()
        .filter(|(labels, _)| seen.insert(labels))
        .collect();
    for definition in definitions {
        let series = items
            .iter()
            .filter_map(|(labels, item)| Some((labels, (definition.value)(item)?)));
        let mut series = series.peekable();
        if series.peek().is_none() {
            continue;
        }
        let name = format!("palm_{}", definition.name);
        let (unit, kind) = (definition.unit.as_ref(), definition.kind);
        let mut metric = encoder.encode_descriptor(&name, definition.help, unit, kind)?;
        for (labels, value) in series {
            let mut metric = metric.encode_family(labels)?;
            match (value, kind) {
                (Value::Count(count), MetricType::Counter) => {
                    metric.encode_counter::<NoLabelSet, _, f64>(&count, None)
                }
                (Value::Seconds(seconds), MetricType::Counter) => {
                    metric.encode_counter::<NoLabelSet, _, f64>(&seconds, None)
                }
                (Value::Count(count), _) => metric.encode_gauge(&count),
                (Value::Seconds(seconds), _) => metric.encode_gauge(&seconds),
                (Value::Histogram(durations, bounds), _) => {
                    let (sum, count) = (durations.sum().as_secs_f64(), durations.count());
                    let buckets = buckets(durations, bounds);
                    #[cfg(feature = "native-histograms")]
                    let encoded = metric.encode_histogram_with_native::<NoLabelSet>(
                        sum,
                        count,
                        &buckets,
                        None,
                        NativeBuckets::new(durations).histogram(),
                    );
                    #[cfg(not(feature = "native-histograms"))]
                    let encoded = metric.encode_histogram::<NoLabelSet>(sum, count, &buckets, None);
                    encoded
                }
            }?;
        }
    }
    Ok(())
}

/// Returns the upper bound of each bucket in seconds, and how many durations are in it. A bucket of the report counts for
/// the first bound that is not below its longest duration, always the same one, so that counts never decrease.
fn buckets(durations: &Durations, bounds: &[f64]) -> Vec<(f64, u64)> {
    let all = bounds.iter().copied().chain([f64::INFINITY]);
    let mut buckets: Vec<_> = all.map(|bound| (bound, 0)).collect();
    for (longest, count) in durations.buckets() {
        let index = bounds.partition_point(|bound| *bound < longest.as_secs_f64());
        buckets[index].1 += count;
    }
    buckets
}

#[cfg(test)]
mod tests;

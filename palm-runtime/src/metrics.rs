//! ComponentCounters and durations of each part and function of a component, which are always collected.
//!
//! ComponentCounters are atomics that only their part writes, and histograms have a fixed size. A snapshot ([`Metrics`]) reads
//! them without stopping the component.

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use histogram::{AtomicHistogram, Config, Histogram};

use crate::queue::QueueGauge;

/// The counters of a part.
#[derive(Debug, Default)]
pub(crate) struct PartCounters {
    messages: AtomicU64,
    bytes: AtomicU64,
    errors: AtomicU64,
    dropped: AtomicU64,
}

impl PartCounters {
    pub(crate) fn count(&self, messages: usize, bytes: usize) {
        self.messages.fetch_add(messages as u64, Ordering::Relaxed);
        self.bytes.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    pub(crate) fn count_error(&self) {
        self.errors.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn count_dropped(&self, messages: usize) {
        self.dropped.fetch_add(messages as u64, Ordering::Relaxed);
    }
}

/// The counters and histograms of a function.
pub(crate) struct FunctionCounters {
    name: Cow<'static, str>,
    calls: AtomicU64,
    errors: AtomicU64,
    running: AtomicU64,
    waiting: AtomicHistogram,
    working: AtomicHistogram,
}

/// Returns the scale of a histogram: nanoseconds up to 2^40 (18 minutes), with buckets at most 3 % wide, in 9 KiB.
fn scale() -> Config {
    Config::new(5, 40).expect("a valid scale: 5 < 40 < 64")
}

impl FunctionCounters {
    pub(crate) fn new(name: Cow<'static, str>) -> Self {
        Self {
            name,
            calls: AtomicU64::new(0),
            errors: AtomicU64::new(0),
            running: AtomicU64::new(0),
            waiting: AtomicHistogram::with_config(&scale()),
            working: AtomicHistogram::with_config(&scale()),
        }
    }

    pub(crate) fn begin(&self, waited: Duration) {
        self.calls.fetch_add(1, Ordering::Relaxed);
        self.running.fetch_add(1, Ordering::Relaxed);
        record(&self.waiting, waited);
    }

    pub(crate) fn end(&self, worked: Duration, failed: bool) {
        self.running.fetch_sub(1, Ordering::Relaxed);
        self.errors.fetch_add(u64::from(failed), Ordering::Relaxed);
        record(&self.working, worked);
    }

    fn snapshot(&self) -> FunctionMetrics {
        FunctionMetrics {
            name: self.name.clone(),
            calls: self.calls.load(Ordering::Relaxed),
            errors: self.errors.load(Ordering::Relaxed),
            running: self.running.load(Ordering::Relaxed),
            waiting: Durations(self.waiting.load()),
            working: Durations(self.working.load()),
        }
    }
}

impl fmt::Debug for FunctionCounters {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "FunctionCounters({})", self.name)
    }
}

fn record(histogram: &AtomicHistogram, duration: Duration) {
    const LONGEST: u64 = (1 << 40) - 1;
    let nanos = u64::try_from(duration.as_nanos())
        .unwrap_or(LONGEST)
        .min(LONGEST);
    histogram
        .increment(nanos)
        .expect("the value is within the scale");
}

/// All counters of a component.
#[derive(Debug, Default)]
pub(crate) struct ComponentCounters {
    pub(crate) parts: Vec<PartCountersEntry>,
    pub(crate) functions: Vec<Arc<FunctionCounters>>,
}

#[derive(Debug)]
pub(crate) struct PartCountersEntry {
    pub(crate) name: String,
    pub(crate) counters: Arc<PartCounters>,
    pub(crate) queue: Option<QueueGauge>,
}

impl ComponentCounters {
    pub(crate) fn snapshot(&self, sessions: usize) -> Metrics {
        let part = |entry: &PartCountersEntry| PartMetrics {
            name: entry.name.clone(),
            messages: entry.counters.messages.load(Ordering::Relaxed),
            bytes: entry.counters.bytes.load(Ordering::Relaxed),
            errors: entry.counters.errors.load(Ordering::Relaxed),
            dropped: entry.counters.dropped.load(Ordering::Relaxed),
            queued_messages: entry.queue.as_ref().map_or(0, QueueGauge::messages),
            queued_bytes: entry.queue.as_ref().map_or(0, QueueGauge::bytes),
        };
        let functions = self.functions.iter();
        Metrics {
            parts: self.parts.iter().map(part).collect(),
            functions: functions.map(|function| function.snapshot()).collect(),
            sessions,
        }
    }
}

/// The counters of a component since its start.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Metrics {
    /// The parts, in the order of registration.
    pub parts: Vec<PartMetrics>,
    /// The functions, in the order of declaration, and then `echo`.
    pub functions: Vec<FunctionMetrics>,
    /// Open sessions of links, including those of disconnected peers that have not expired.
    pub sessions: usize,
}

impl Metrics {
    /// Returns the part called `name`.
    pub fn part(&self, name: &str) -> Option<&PartMetrics> {
        self.parts.iter().find(|part| part.name == name)
    }

    /// Returns the function called `name`.
    pub fn function(&self, name: &str) -> Option<&FunctionMetrics> {
        self.functions.iter().find(|function| function.name == name)
    }
}

/// The counters of one part.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct PartMetrics {
    /// The registered name, such as `Pull`.
    pub name: String,
    /// Messages that the part has received or sent; for an executor, calls.
    pub messages: u64,
    /// Bytes of these messages.
    pub bytes: u64,
    /// Malformed messages, and messages that could not be handled.
    pub errors: u64,
    /// Messages that were dropped because no subscriber arrived in time, or a queue was full.
    pub dropped: u64,
    /// Messages that are queued for the part now.
    pub queued_messages: usize,
    /// Bytes of the queued messages.
    pub queued_bytes: usize,
}

/// The counters and durations of one function.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct FunctionMetrics {
    /// The name by which it is called.
    pub name: Cow<'static, str>,
    /// Calls that were started.
    pub calls: u64,
    /// Calls that failed.
    pub errors: u64,
    /// Calls that are running now.
    pub running: u64,
    /// The time between the receipt of a message and the start of its call.
    pub waiting: Durations,
    /// The run time of calls.
    pub working: Durations,
}

/// A histogram of durations.
#[derive(Clone)]
pub struct Durations(Histogram);

impl Durations {
    /// Returns the duration at `quantile`, such as 0.99, with an error of at most 3 %.
    ///
    /// `None` if nothing was recorded, or `quantile` is not between 0 and 1.
    pub fn quantile(&self, quantile: f64) -> Option<Duration> {
        let bucket = self.0.quantile_bucket(quantile).ok()??;
        Some(Duration::from_nanos(bucket.end()))
    }

    /// Returns the number of recorded durations.
    pub fn count(&self) -> u64 {
        self.0.iter().map(|bucket| bucket.count()).sum()
    }
}

impl fmt::Debug for Durations {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Durations")
            .field("count", &self.count())
            .field("p50", &self.quantile(0.5))
            .field("p99", &self.quantile(0.99))
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_exact_within_three_percent() {
        let counters = FunctionCounters::new("foo".into());
        for micros in 1..=1000 {
            counters.begin(Duration::from_micros(micros));
            counters.end(Duration::MAX, micros % 10 == 0);
        }
        let metrics = counters.snapshot();
        assert_eq!(
            (metrics.calls, metrics.errors, metrics.running),
            (1000, 100, 0)
        );
        let p50 = metrics.waiting.quantile(0.5).unwrap().as_secs_f64() * 1e6;
        assert!((485.0..=520.0).contains(&p50), "{p50}");
        assert_eq!(metrics.working.count(), 1000);
        assert_eq!(metrics.working.quantile(2.0), None);
        assert_eq!(
            FunctionCounters::new("foo".into())
                .snapshot()
                .waiting
                .quantile(0.5),
            None
        );
    }
}

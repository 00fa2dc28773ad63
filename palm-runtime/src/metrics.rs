//! Counts: what each part and each function has done, cheap enough to be always on.
//!
//! Counters are atomics that only their part writes, histograms have a fixed size; a snapshot
//! ([`Metrics`]) reads them without stopping anybody.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use histogram::{AtomicHistogram, Config, Histogram};

use crate::queue::QueueGauge;

/// What one part counts.
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

/// What the executor counts for one function.
pub(crate) struct FunctionCounters {
    name: &'static str,
    calls: AtomicU64,
    errors: AtomicU64,
    running: AtomicU64,
    waiting: AtomicHistogram,
    working: AtomicHistogram,
}

/// Nanoseconds up to 2^40 (18 minutes), each bucket at most 3 % wide: 9 KiB.
fn scale() -> Config {
    Config::new(5, 40).expect("a valid scale: 5 < 40 < 64")
}

impl FunctionCounters {
    pub(crate) fn new(name: &'static str) -> Self {
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
            name: self.name,
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

/// All counters of a component, by part and function.
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

/// What a component has counted since it started.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Metrics {
    /// Part by part, in the order of registration.
    pub parts: Vec<PartMetrics>,
    /// Function by function, in the order of declaration, then `echo`.
    pub functions: Vec<FunctionMetrics>,
    /// Sessions that peers have with the component over links now, including those of peers that are
    /// disconnected and may still come back.
    pub sessions: usize,
}

impl Metrics {
    /// The part called `name`.
    pub fn part(&self, name: &str) -> Option<&PartMetrics> {
        self.parts.iter().find(|part| part.name == name)
    }

    /// The function called `name`.
    pub fn function(&self, name: &str) -> Option<&FunctionMetrics> {
        self.functions.iter().find(|function| function.name == name)
    }
}

/// What one part has counted.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct PartMetrics {
    /// As registered, e.g. `Pull`.
    pub name: String,
    /// Messages that it took from or gave to its peers; for an executor, calls.
    pub messages: u64,
    /// Bytes of these.
    pub bytes: u64,
    /// What peers sent that is no message, and what could not be done.
    pub errors: u64,
    /// Messages that were dropped: nobody subscribed to them in time, or there was no room.
    pub dropped: u64,
    /// Messages that wait for the part now.
    pub queued_messages: usize,
    /// Bytes of these.
    pub queued_bytes: usize,
}

/// What an executor has counted for one function.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct FunctionMetrics {
    /// The name that it is called by.
    pub name: &'static str,
    /// Calls that began.
    pub calls: u64,
    /// Calls that failed.
    pub errors: u64,
    /// Calls that run now.
    pub running: u64,
    /// How long messages waited between their receipt and the call.
    pub waiting: Durations,
    /// How long the calls took.
    pub working: Durations,
}

/// How often which duration occurred.
#[derive(Clone)]
pub struct Durations(Histogram);

impl Durations {
    /// The duration that the fraction `quantile` of all stayed within, e.g. 0.99; within 3 %. `None`
    /// when nothing was recorded, or for a quantile that is not from 0 to 1.
    pub fn quantile(&self, quantile: f64) -> Option<Duration> {
        let bucket = self.0.quantile_bucket(quantile).ok()??;
        Some(Duration::from_nanos(bucket.end()))
    }

    /// How many were recorded.
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
        let counters = FunctionCounters::new("foo");
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
            FunctionCounters::new("foo")
                .snapshot()
                .waiting
                .quantile(0.5),
            None
        );
    }
}

//! The counters and durations of each part and function of a component, which are always collected.
//!
//! Counters are atomics that only their part writes, and histograms have a fixed size. A report reads them without
//! stopping the component; [`Metrics`] is an extract of it.

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use histogram::{AtomicHistogram, Config};

use crate::queue::QueueGauge;
use crate::report::{self, Backlog, Durations};

/// The counters of a part.
#[derive(Debug, Default)]
pub(crate) struct PartCounters {
    messages: AtomicU64,
    bytes: AtomicU64,
    errors: AtomicU64,
    dropped: AtomicU64,
    late: AtomicU64,
    /// Messages that the part has taken and not passed on, and their bytes.
    held_messages: AtomicU64,
    held_bytes: AtomicU64,
    /// Calls that an executor has taken from its queue, and whose results it has not passed on.
    calls_in_hand: AtomicU64,
}

impl PartCounters {
    /// Sets how many messages the part has taken and not passed on.
    pub(crate) fn set_held(&self, messages: usize, bytes: usize) {
        self.held_messages.store(messages as u64, Ordering::Relaxed);
        self.held_bytes.store(bytes as u64, Ordering::Relaxed);
    }

    /// Sets how many messages the part holds until the guard is dropped.
    pub(crate) fn hold(&self, messages: usize, bytes: usize) -> HeldGuard<'_> {
        self.set_held(messages, bytes);
        HeldGuard(self)
    }

    pub(crate) fn calls_taken(&self, calls: usize) {
        self.calls_in_hand
            .fetch_add(calls as u64, Ordering::Relaxed);
    }

    pub(crate) fn calls_passed_on(&self, calls: usize) {
        self.calls_in_hand
            .fetch_sub(calls as u64, Ordering::Relaxed);
    }

    pub(crate) fn count(&self, messages: usize, bytes: usize) {
        self.messages.fetch_add(messages as u64, Ordering::Relaxed);
        self.bytes.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    pub(crate) fn count_error(&self) {
        self.errors.fetch_add(1, Ordering::Relaxed);
    }

    /// Counts a call that was not done in time.
    pub(crate) fn count_late(&self) {
        self.late.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn count_dropped(&self, messages: usize) {
        self.dropped.fetch_add(messages as u64, Ordering::Relaxed);
    }
}

/// The part holds messages until this is dropped.
#[derive(Debug)]
pub(crate) struct HeldGuard<'a>(&'a PartCounters);

impl Drop for HeldGuard<'_> {
    fn drop(&mut self) {
        self.0.set_held(0, 0);
    }
}

/// The counters and histograms of a function.
///
/// A call is recorded in `waiting` when it begins, and in `working` when it ends, so these count the calls, too: each
/// counter more would cost small calls a measurable share of their time.
pub(crate) struct FunctionCounters {
    name: Cow<'static, str>,
    errors: AtomicU64,
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
            errors: AtomicU64::new(0),
            waiting: AtomicHistogram::with_config(&scale()),
            working: AtomicHistogram::with_config(&scale()),
        }
    }

    pub(crate) fn begin(&self, waited: Duration) {
        record(&self.waiting, waited);
    }

    pub(crate) fn end(&self, worked: Duration, failed: bool) {
        if failed {
            self.errors.fetch_add(1, Ordering::Relaxed);
        }
        record(&self.working, worked);
    }

    fn report(&self) -> report::Function {
        let durations = |histogram: &AtomicHistogram| Durations::estimated(&histogram.load());
        let mut function = report::Function::default();
        function.name = self.name.clone().into_owned();
        function.errors = self.errors.load(Ordering::Relaxed);
        // The ends are read first, so that each of them has its begin.
        function.working = durations(&self.working);
        function.waiting = durations(&self.waiting);
        function.calls = function.waiting.count();
        function.running = function.calls.saturating_sub(function.working.count());
        function
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
    /// Returns the parts and functions as they are reported.
    pub(crate) fn report(&self) -> (Vec<report::Part>, Vec<report::Function>) {
        let functions = self.functions.iter().map(|it| it.report());
        let functions: Vec<_> = functions.collect();
        let running: u64 = functions.iter().map(|function| function.running).sum();
        let part = |entry: &PartCountersEntry| {
            let counters = &entry.counters;
            let load = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
            let mut part = report::Part::default();
            part.name.clone_from(&entry.name);
            part.messages = load(&counters.messages);
            part.bytes = load(&counters.bytes);
            part.errors = load(&counters.errors);
            part.dropped = load(&counters.dropped);
            part.late = load(&counters.late);
            if let Some(queue) = &entry.queue {
                part.queue = queue.backlog();
            }
            // Only an executor counts calls in hand, and its running calls are those of its functions.
            let calls = load(&counters.calls_in_hand).saturating_sub(running);
            let held = load(&counters.held_messages) + calls;
            part.held = Backlog::new(held, load(&counters.held_bytes));
            part
        };
        (self.parts.iter().map(part).collect(), functions)
    }
}

/// The counters of a component since its start: an extract of its
/// [`Report`](crate::report::Report).
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
    pub(crate) fn new(
        parts: Vec<report::Part>,
        functions: Vec<report::Function>,
        sessions: usize,
    ) -> Self {
        let part = |part: report::Part| PartMetrics {
            name: part.name,
            messages: part.messages,
            bytes: part.bytes,
            errors: part.errors,
            dropped: part.dropped,
            queued_messages: part.queue.messages as usize,
            queued_bytes: part.queue.bytes as usize,
        };
        let function = |function: report::Function| FunctionMetrics {
            name: function.name.into(),
            calls: function.calls,
            errors: function.errors,
            running: function.running,
            waiting: function.waiting,
            working: function.working,
        };
        Self {
            parts: parts.into_iter().map(part).collect(),
            functions: functions.into_iter().map(function).collect(),
            sessions,
        }
    }

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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn function_counts_calls_errors_and_durations() {
        let counters = FunctionCounters::new("foo".into());
        for micros in 1..=1000 {
            counters.begin(Duration::from_micros(micros));
            counters.end(Duration::from_micros(2), micros % 10 == 0);
        }
        counters.begin(Duration::MAX);
        let report = counters.report();
        assert_eq!(
            (report.calls, report.errors, report.running),
            (1001, 100, 1)
        );
        assert_eq!(report.waiting.count(), 1001);
        let worked = report.working.sum().as_secs_f64();
        assert!((0.00194..=0.00206).contains(&worked), "{worked}");
    }
}

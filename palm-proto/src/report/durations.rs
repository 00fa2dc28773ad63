//! [`Durations`]: a histogram of durations that can be sent and merged.

use std::fmt;
use std::time::Duration;

use histogram::{Bucket, Config, Histogram, SparseHistogram};

use crate::message::proto;

/// A histogram of durations: sums and counts, which are merged without loss.
///
/// Durations have a resolution of a nanosecond, in buckets of equal width within each power of two: 1/32 of it for
/// functions (an error of 3 %), and 1/4 for edges. The longest is 18 minutes; longer ones count as that.
#[derive(Clone, PartialEq, Eq)]
pub struct Durations {
    histogram: SparseHistogram,
    sum_ns: u64,
}

impl Durations {
    /// Returns the histogram of what was recorded, with the sum of all durations in nanoseconds.
    #[doc(hidden)]
    pub fn new(recorded: &Histogram, sum_ns: u64) -> Self {
        let histogram = SparseHistogram::from(recorded);
        Self { histogram, sum_ns }
    }

    /// Returns the histogram of what was recorded, with a sum within 3 %: each duration counts as the middle of its
    /// bucket, so that recording one costs no second counter.
    #[doc(hidden)]
    pub fn estimated(recorded: &Histogram) -> Self {
        let histogram = SparseHistogram::from(recorded);
        let middle = |bucket: &Bucket| bucket.start() + (bucket.end() - bucket.start()) / 2;
        let sums = histogram.iter();
        let sums = sums.map(|bucket| bucket.count().saturating_mul(middle(&bucket)));
        let sum_ns = sums.fold(0, u64::saturating_add);
        Self { histogram, sum_ns }
    }

    /// Returns the number of recorded durations.
    pub fn count(&self) -> u64 {
        self.histogram.count().iter().sum()
    }

    /// Returns whether nothing was recorded.
    pub fn is_empty(&self) -> bool {
        self.histogram.is_empty()
    }

    /// Returns the sum of all durations; for a function within 3 %.
    pub fn sum(&self) -> Duration {
        Duration::from_nanos(self.sum_ns)
    }

    /// Returns the mean; `None` if nothing was recorded.
    pub fn mean(&self) -> Option<Duration> {
        let nanos = self.sum_ns.checked_div(self.count())?;
        Some(Duration::from_nanos(nanos))
    }

    /// Returns the duration at `quantile`, such as 0.99, with the error of a bucket's width.
    ///
    /// `None` if nothing was recorded, or `quantile` is not between 0 and 1.
    pub fn quantile(&self, quantile: f64) -> Option<Duration> {
        if !(0.0..=1.0).contains(&quantile) {
            return None;
        }
        let total = self.count();
        let rank = ((total as f64 * quantile).ceil() as u64).max(1);
        let mut below = 0;
        self.histogram.iter().find_map(|bucket| {
            below += bucket.count();
            (below >= rank).then(|| Duration::from_nanos(bucket.end()))
        })
    }

    /// Returns how many recorded durations are at most `limit`, with the error of a bucket's width.
    pub fn count_up_to(&self, limit: Duration) -> u64 {
        let limit = u64::try_from(limit.as_nanos()).unwrap_or(u64::MAX);
        let buckets = self.histogram.iter();
        let below = buckets.filter(|bucket| bucket.end() <= limit);
        below.map(|bucket| bucket.count()).sum()
    }

    /// Returns the buckets that are not empty, in ascending order: the longest duration of each, and its count.
    pub fn buckets(&self) -> impl Iterator<Item = (Duration, u64)> + '_ {
        let buckets = self.histogram.iter();
        buckets.map(|bucket| (Duration::from_nanos(bucket.end()), bucket.count()))
    }

    /// Adds the durations of `other`. Has no effect if the two have buckets of different widths, or a count overflows.
    pub fn merge(&mut self, other: &Self) {
        if self.is_empty() {
            *self = other.clone();
        } else if let Ok(merged) = self.histogram.checked_add(&other.histogram) {
            self.histogram = merged;
            self.sum_ns = self.sum_ns.saturating_add(other.sum_ns);
        }
    }

    /// Returns what was recorded since `earlier`, an earlier state of this histogram; `None` if it is none.
    pub fn since(&self, earlier: &Self) -> Option<Self> {
        if earlier.is_empty() {
            return Some(self.clone());
        }
        Some(Self {
            histogram: self.histogram.checked_sub(&earlier.histogram).ok()?,
            sum_ns: self.sum_ns.checked_sub(earlier.sum_ns)?,
        })
    }

    /// Returns the message; `None` if nothing was recorded.
    pub(super) fn to_wire(&self) -> Option<proto::DurationHistogram> {
        let config = self.histogram.config();
        (!self.is_empty()).then(|| proto::DurationHistogram {
            grouping_power: config.grouping_power().into(),
            max_value_power: config.max_value_power().into(),
            sum_ns: self.sum_ns,
            buckets: self.histogram.index().to_vec(),
            counts: self.histogram.count().to_vec(),
        })
    }

    /// Reads a message. A malformed one is read as an empty histogram.
    pub(super) fn from_wire(wire: proto::DurationHistogram) -> Self {
        let config = || {
            let grouping_power = u8::try_from(wire.grouping_power)
                .ok()
                .filter(|it| *it <= 7)?;
            Config::new(grouping_power, u8::try_from(wire.max_value_power).ok()?).ok()
        };
        let histogram = config()
            .and_then(|config| SparseHistogram::from_parts(config, wire.buckets, wire.counts).ok())
            // The sum of the counts must not overflow.
            .filter(|it| {
                let counts = it.count().iter();
                counts.copied().try_fold(0_u64, u64::checked_add).is_some()
            });
        histogram.map_or_else(Self::default, |histogram| Self {
            histogram,
            sum_ns: wire.sum_ns,
        })
    }
}

impl Default for Durations {
    fn default() -> Self {
        Self {
            histogram: SparseHistogram::new(5, 40).expect("a valid scale: 5 < 40 < 64"),
            sum_ns: 0,
        }
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

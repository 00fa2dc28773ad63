//! [`NativeBuckets`]: durations as a native histogram of Prometheus.

use std::collections::BTreeMap;

use prometheus_client::encoding::{NativeHistogram, NativeHistogramBuckets};

use crate::report::Durations;

/// The buckets are exponential, with `2^SCHEMA` of them for each power of two: each is 9 % wider than the one before.
const SCHEMA: i32 = 3;

/// The longest duration in seconds that counts as zero: less than a nanosecond.
const ZERO_THRESHOLD: f64 = 1.0 / (1 << 30) as f64;

/// The buckets of a native histogram.
#[derive(Debug, PartialEq)]
pub(super) struct NativeBuckets {
    zero_count: u64,
    /// Runs of buckets that are not empty: the number of empty ones before it, and its own.
    spans: Vec<(i32, u32)>,
    /// The count of each bucket, less that of the bucket before.
    deltas: Vec<i64>,
}

impl NativeBuckets {
    /// A bucket of the report counts for the one that has its longest duration, always the same one, so that counts
    /// never decrease.
    pub(super) fn new(durations: &Durations) -> Self {
        let mut zero_count = 0;
        let mut counts = BTreeMap::<i32, i64>::new();
        for (longest, count) in durations.buckets() {
            let seconds = longest.as_secs_f64();
            if seconds <= ZERO_THRESHOLD {
                zero_count += count;
            } else {
                let count = i64::try_from(count).unwrap_or(i64::MAX);
                *counts.entry(index(seconds)).or_default() += count;
            }
        }
        let mut spans = Vec::<(i32, u32)>::new();
        let mut deltas = Vec::new();
        let (mut next, mut previous) = (0, 0);
        for (index, count) in counts {
            match spans.last_mut() {
                Some((_, len)) if index == next => *len += 1,
                _ => spans.push((index - next, 1)),
            }
            deltas.push(count - previous);
            (next, previous) = (index + 1, count);
        }
        Self {
            zero_count,
            spans,
            deltas,
        }
    }

    pub(super) fn histogram(&self) -> NativeHistogram<'_> {
        NativeHistogram {
            schema: SCHEMA,
            zero_threshold: ZERO_THRESHOLD,
            zero_count: self.zero_count,
            negative: NativeHistogramBuckets {
                spans: &[],
                deltas: &[],
            },
            positive: NativeHistogramBuckets {
                spans: &self.spans,
                deltas: &self.deltas,
            },
            created: None,
        }
    }
}

/// Returns the index of a bucket: it ends with `2^(index / 2^SCHEMA)` seconds, and begins after the end of the one
/// before.
fn index(seconds: f64) -> i32 {
    (seconds.log2() * f64::from(1 << SCHEMA)).ceil() as i32
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use histogram::Histogram;
    use proptest::prelude::*;

    use super::*;

    fn recorded(values: &[u64]) -> Durations {
        let mut recorded = Histogram::new(5, 40).unwrap();
        for value in values {
            recorded.increment(*value).unwrap();
        }
        Durations::new(&recorded, values.iter().sum())
    }

    /// Returns the end of each bucket in seconds, and its count.
    fn decoded(buckets: &NativeBuckets) -> Vec<(f64, u64)> {
        let (mut index, mut count) = (0, 0);
        let mut deltas = buckets.deltas.iter();
        let mut decoded = Vec::new();
        for (gap, len) in &buckets.spans {
            index += gap;
            for _ in 0..*len {
                count += deltas.next().unwrap();
                decoded.push((2f64.powf(f64::from(index) / 8.0), count as u64));
                index += 1;
            }
        }
        assert_eq!(deltas.next(), None);
        decoded
    }

    #[test]
    fn nothing_has_no_buckets() {
        let buckets = NativeBuckets::new(&Durations::default());
        assert_eq!((buckets.zero_count, buckets.spans), (0, Vec::new()));
    }

    #[test]
    fn zero_has_a_bucket_of_its_own() {
        let buckets = NativeBuckets::new(&recorded(&[0, 0, 1]));
        assert_eq!(buckets.zero_count, 2);
        let end = decoded(&buckets)[0].0;
        assert!(end >= Duration::from_nanos(1).as_secs_f64());
    }

    proptest! {
        #[test]
        fn each_duration_is_in_a_bucket_at_most_3_percent_beyond(
            values in proptest::collection::vec(1_u64..1 << 40, 1..50)
        ) {
            let decoded = decoded(&NativeBuckets::new(&recorded(&values)));
            prop_assert_eq!(decoded.iter().map(|(_, count)| count).sum::<u64>(), values.len() as u64);
            let mut values = values;
            values.sort_unstable();
            let mut values = values.into_iter();
            for (end, count) in decoded {
                for value in values.by_ref().take(count as usize) {
                    let seconds = value as f64 / 1e9;
                    let begin = end / 2f64.powf(1.0 / 8.0);
                    prop_assert!(seconds <= end * 1.000_001 && seconds * 1.033 >= begin, "{seconds} {begin} {end}");
                }
            }
        }
    }
}

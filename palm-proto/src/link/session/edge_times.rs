//! [`EdgeTimes`]: how long messages take from their submission to their acknowledgement.

use std::time::{Duration, Instant};

use histogram::Histogram;

use crate::report::Durations;

/// One message of this many is measured.
const SAMPLE_INTERVAL: u64 = 64;

/// A sample of the times from submission to acknowledgement. One message is measured at a time.
#[derive(Debug, Default)]
pub(super) struct EdgeTimes {
    /// The number that follows the measured message, and the time of its submission.
    measured: Option<(u64, Instant)>,
    /// The number from which the next message is measured.
    next: u64,
    /// Allocated with the first time.
    times: Option<Box<(Histogram, u64)>>,
}

impl EdgeTimes {
    /// Notes that messages were submitted; the next one will have the number `end`.
    #[inline]
    pub(super) fn submitted(&mut self, end: u64, now: Instant) {
        if end > self.next && self.measured.is_none() {
            self.measured = Some((end, now));
            self.next = end + SAMPLE_INTERVAL;
        }
    }

    /// Notes that the messages below the number `base` were acknowledged.
    #[inline]
    pub(super) fn acknowledged(&mut self, base: u64, now: Instant) {
        if let Some((_, at)) = self.measured.take_if(|(end, _)| *end <= base) {
            self.record(now.saturating_duration_since(at));
        }
    }

    fn record(&mut self, time: Duration) {
        const LONGEST: u64 = (1 << 40) - 1;
        let nanos = u64::try_from(time.as_nanos())
            .unwrap_or(LONGEST)
            .min(LONGEST);
        // Buckets a quarter of a power of two wide, in 1.2 KiB.
        let new = || {
            let histogram = Histogram::new(2, 40).expect("a valid scale: 2 < 40 < 64");
            Box::new((histogram, 0))
        };
        let (histogram, sum) = &mut **self.times.get_or_insert_with(new);
        histogram
            .increment(nanos)
            .expect("the value is within the scale");
        *sum += nanos;
    }

    pub(super) fn durations(&self) -> Durations {
        let times = self.times.as_deref();
        times.map_or_else(Durations::default, |(histogram, sum)| {
            Durations::new(histogram, *sum)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_message_of_64_is_measured_until_its_acknowledgement() {
        let start = Instant::now();
        let at = |millis| start + Duration::from_millis(millis);
        let mut times = EdgeTimes::default();
        // Acknowledged 5 ms after its submission; those that are submitted meanwhile are not measured.
        times.submitted(1, at(0));
        times.submitted(200, at(4));
        times.acknowledged(0, at(4));
        times.acknowledged(1, at(5));
        times.submitted(201, at(6));
        times.acknowledged(201, at(26));
        // Within 64 messages of the last one.
        times.submitted(202, at(30));
        times.acknowledged(202, at(31));
        let durations = times.durations();
        assert_eq!(durations.count(), 2);
        assert_eq!(durations.sum(), Duration::from_millis(25));
    }
}

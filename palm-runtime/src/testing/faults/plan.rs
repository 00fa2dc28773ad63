//! [`FaultPlan`]: which fault comes when, as plain data.

use std::fmt;
use std::time::Duration;

use fastrand::Rng;
use tokio::time::Instant;

use super::line::Line;

/// No line has more faults in one plan.
const MAX_FAULTS: usize = 10_000;

/// No plan takes longer.
const LONGEST_PLAN: Duration = Duration::from_secs(86_400);

/// Between two faults of a line.
const LONGEST_PAUSE: Duration = Duration::from_millis(300);

/// Longest time that a line is held, delayed or refused.
const LONGEST_FAULT: Duration = Duration::from_millis(500);

/// Largest delay, in milliseconds.
const LARGEST_DELAY: u64 = 20;

/// Which fault comes when, on which of several lines. [`Faults::plan`](super::Faults::plan) makes it.
///
/// On each line one fault follows the other, after a pause of at most 300 ms: a cut, or that it is held,
/// delayed by up to 20 ms, or refused, for at most 500 ms. Lines do not wait for each other. Every fault
/// is over when the plan is.
///
/// Its `Display` has a line of text for each fault.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FaultPlan {
    lines: usize,
    duration: Duration,
    /// In the order of their begins.
    faults: Vec<PlannedFault>,
}

/// One fault of a [`FaultPlan`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct PlannedFault {
    /// When it begins, counted from the begin of the plan.
    pub at: Duration,
    /// The number of the line, from 0 on.
    pub line: usize,
    /// What happens.
    pub fault: Fault,
}

/// What happens to a line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Fault {
    /// All connections end: [`Line::cut`].
    Cut,
    /// Nothing passes for a time: [`Line::hold`].
    Hold(Duration),
    /// Chunks are late, from not at all up to `most`, for a time: [`Line::delay`].
    Delay {
        /// The largest delay.
        most: Duration,
        /// How long.
        lasts: Duration,
    },
    /// Nobody gets through for a time: [`Line::refuse`].
    Refuse(Duration),
}

impl Fault {
    /// How long it lasts. A cut is over at once.
    pub fn lasts(&self) -> Duration {
        match *self {
            Self::Cut => Duration::ZERO,
            Self::Hold(lasts) | Self::Delay { lasts, .. } | Self::Refuse(lasts) => lasts,
        }
    }

    fn random(rng: &mut Rng) -> Self {
        let lasts = up_to(rng, LONGEST_FAULT);
        match rng.u8(..4) {
            0 => Self::Cut,
            1 => Self::Hold(lasts),
            2 => Self::Refuse(lasts),
            _ => Self::Delay {
                most: Duration::from_millis(rng.u64(1..=LARGEST_DELAY)),
                lasts,
            },
        }
    }

    fn begin(&self, line: &Line) {
        match *self {
            Self::Cut => drop(line.order_cut()),
            Self::Hold(_) => line.hold(),
            Self::Delay { most, .. } => line.delay(Duration::ZERO..=most),
            Self::Refuse(_) => line.refuse(),
        }
    }

    fn end(&self, line: &Line) {
        match self {
            Self::Cut => {}
            Self::Hold(_) => line.release(),
            Self::Delay { .. } => line.no_delay(),
            Self::Refuse(_) => line.accept(),
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Cut => formatter.write_str("cut"),
            Self::Hold(lasts) => write!(formatter, "held for {lasts:?}"),
            Self::Delay { most, lasts } => {
                write!(formatter, "delayed by up to {most:?} for {lasts:?}")
            }
            Self::Refuse(lasts) => write!(formatter, "refused for {lasts:?}"),
        }
    }
}

fn up_to(rng: &mut Rng, longest: Duration) -> Duration {
    // In milliseconds, so that a plan can be read.
    Duration::from_millis(rng.u64(1..=longest.as_millis() as u64))
}

impl FaultPlan {
    pub(super) fn random(mut rng: Rng, lines: usize, duration: Duration) -> Self {
        let duration = duration.min(LONGEST_PLAN);
        let mut faults = Vec::new();
        for line in 0..lines {
            let mut now = Duration::ZERO;
            for _ in 0..MAX_FAULTS {
                let at = now + up_to(&mut rng, LONGEST_PAUSE);
                let fault = Fault::random(&mut rng);
                now = at + fault.lasts();
                if now > duration {
                    break;
                }
                faults.push(PlannedFault { at, line, fault });
            }
        }
        faults.sort_by_key(|planned| (planned.at, planned.line));
        Self {
            lines,
            duration,
            faults,
        }
    }

    /// How long it takes.
    pub fn duration(&self) -> Duration {
        self.duration
    }

    /// The faults, in the order in which they begin.
    pub fn faults(&self) -> &[PlannedFault] {
        &self.faults
    }

    /// Lets it happen, and returns when it is over and the lines are whole.
    ///
    /// # Panics
    ///
    /// When there are not as many lines as the plan is for.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future makes the lines whole at once.
    pub async fn run(&self, lines: &[&Line]) {
        assert_eq!(lines.len(), self.lines, "the plan is for so many lines");
        let _whole = HealOnDrop(lines);
        let begin = Instant::now();
        for (at, step) in self.steps() {
            tokio::time::sleep_until(begin + at).await;
            match step {
                Step::Begin(planned) => {
                    tracing::debug!("{planned}");
                    planned.fault.begin(lines[planned.line]);
                }
                Step::End(planned) => planned.fault.end(lines[planned.line]),
            }
        }
        tokio::time::sleep_until(begin + self.duration).await;
    }

    /// The begins and ends in their order. On one line the end of a fault is before the next begin.
    fn steps(&self) -> Vec<(Duration, Step)> {
        let ends = self.faults.iter();
        let ends = ends.map(|planned| (planned.at + planned.fault.lasts(), Step::End(*planned)));
        let begins = self.faults.iter();
        let begins = begins.map(|planned| (planned.at, Step::Begin(*planned)));
        let mut steps: Vec<_> = begins.chain(ends).collect();
        steps.sort_by_key(|(at, _)| *at);
        steps
    }
}

#[derive(Debug, Clone, Copy)]
enum Step {
    Begin(PlannedFault),
    End(PlannedFault),
}

struct HealOnDrop<'a>(&'a [&'a Line]);

impl Drop for HealOnDrop<'_> {
    fn drop(&mut self) {
        for line in self.0 {
            line.heal();
        }
    }
}

impl fmt::Display for PlannedFault {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { at, line, fault } = self;
        write!(formatter, "at {at:?} line {line} is {fault}")
    }
}

impl fmt::Display for FaultPlan {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        for planned in &self.faults {
            writeln!(formatter, "{planned}")?;
        }
        write!(formatter, "at {:?} all are whole", self.duration)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan(seed: u64, lines: usize, seconds: u64) -> FaultPlan {
        FaultPlan::random(Rng::with_seed(seed), lines, Duration::from_secs(seconds))
    }

    #[test]
    fn a_seed_is_a_plan() {
        assert_eq!(plan(42, 3, 10), plan(42, 3, 10));
        assert_ne!(plan(42, 3, 10), plan(43, 3, 10));
        // What a seed means stays the same from release to release, within one version of the crate
        // that the numbers come from.
        let text = plan(42, 2, 1).to_string();
        expect_test::expect![[r#"
            at 76ms line 1 is delayed by up to 17ms for 106ms
            at 238ms line 0 is refused for 247ms
            at 345ms line 1 is delayed by up to 15ms for 455ms
            at 497ms line 0 is held for 272ms
            at 1s all are whole"#]]
        .assert_eq(&text);
    }

    #[test]
    fn faults_of_a_line_follow_each_other_and_end_in_time() {
        for seed in 0..100 {
            let plan = plan(seed, 3, 5);
            for line in 0..3 {
                let mut now = Duration::ZERO;
                let faults = plan.faults().iter().filter(|planned| planned.line == line);
                for planned in faults {
                    assert!(planned.at > now);
                    now = planned.at + planned.fault.lasts();
                }
                assert!(now <= plan.duration());
                assert!(now >= plan.duration() - LONGEST_PAUSE - LONGEST_FAULT);
            }
        }
        assert!(plan(1, 0, 5).faults().is_empty());
        assert!(plan(1, 5, 0).faults().is_empty());
        let longest = FaultPlan::random(Rng::with_seed(1), 2, Duration::MAX);
        assert_eq!(longest.faults().len(), 2 * MAX_FAULTS);
    }
}

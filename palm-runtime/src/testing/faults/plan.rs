//! [`FaultPlan`]: which fault comes when, as plain data.

use std::fmt;
use std::time::Duration;

use fastrand::Rng;
use tokio::time::Instant;

use super::proxy::FaultProxy;

/// No proxy has more faults in one plan.
const MAX_FAULTS: usize = 10_000;

/// No plan takes longer.
const LONGEST_PLAN: Duration = Duration::from_secs(86_400);

/// Between two faults of a proxy.
const LONGEST_PAUSE: Duration = Duration::from_millis(300);

/// Longest time that a proxy is held, delayed or refused.
const LONGEST_FAULT: Duration = Duration::from_millis(500);

/// Largest delay, in milliseconds.
const LARGEST_DELAY: u64 = 20;

/// Which fault comes when, on which of several proxies. [`Faults::plan`](super::Faults::plan) makes it.
///
/// On each proxy one fault follows the other, after a pause of at most 300 ms: a cut, or that it is held,
/// delayed by up to 20 ms, or refused, for at most 500 ms. Lines do not wait for each other. Every fault
/// is over when the plan is.
///
/// Its `Display` has a proxy of text for each fault.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FaultPlan {
    proxies: usize,
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
    /// The number of the proxy, from 0 on.
    pub proxy: usize,
    /// What happens.
    pub fault: Fault,
}

/// What happens to a proxy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Fault {
    /// All connections end: [`FaultProxy::cut`].
    Cut,
    /// Nothing passes for a time: [`FaultProxy::hold`].
    Hold(Duration),
    /// Chunks are late, from not at all up to `most`, for a time: [`FaultProxy::delay`].
    Delay {
        /// The largest delay.
        most: Duration,
        /// How long.
        lasts: Duration,
    },
    /// Nobody gets through for a time: [`FaultProxy::refuse`].
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

    fn begin(&self, proxy: &FaultProxy) {
        match *self {
            Self::Cut => drop(proxy.order_cut()),
            Self::Hold(_) => proxy.hold(),
            Self::Delay { most, .. } => proxy.delay(Duration::ZERO..=most),
            Self::Refuse(_) => proxy.refuse(),
        }
    }

    fn end(&self, proxy: &FaultProxy) {
        match self {
            Self::Cut => {}
            Self::Hold(_) => proxy.release(),
            Self::Delay { .. } => proxy.no_delay(),
            Self::Refuse(_) => proxy.accept(),
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
    pub(super) fn random(mut rng: Rng, proxies: usize, duration: Duration) -> Self {
        let duration = duration.min(LONGEST_PLAN);
        let mut faults = Vec::new();
        for proxy in 0..proxies {
            let mut now = Duration::ZERO;
            for _ in 0..MAX_FAULTS {
                let at = now + up_to(&mut rng, LONGEST_PAUSE);
                let fault = Fault::random(&mut rng);
                now = at + fault.lasts();
                if now > duration {
                    break;
                }
                faults.push(PlannedFault { at, proxy, fault });
            }
        }
        faults.sort_by_key(|planned| (planned.at, planned.proxy));
        Self {
            proxies,
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

    /// Lets it happen, and returns when it is over and the proxies are whole.
    ///
    /// # Panics
    ///
    /// When there are not as many proxies as the plan is for.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future makes the proxies whole at once.
    pub async fn run(&self, proxies: &[&FaultProxy]) {
        assert_eq!(
            proxies.len(),
            self.proxies,
            "the plan is for so many proxies"
        );
        let _whole = HealOnDrop(proxies);
        let begin = Instant::now();
        for (at, step) in self.steps() {
            tokio::time::sleep_until(begin + at).await;
            match step {
                PlanStep::Begin(planned) => {
                    tracing::debug!("{planned}");
                    planned.fault.begin(proxies[planned.proxy]);
                }
                PlanStep::End(planned) => planned.fault.end(proxies[planned.proxy]),
            }
        }
        tokio::time::sleep_until(begin + self.duration).await;
    }

    /// The begins and ends in their order. On one proxy the end of a fault is before the next begin.
    fn steps(&self) -> Vec<(Duration, PlanStep)> {
        let ends = self.faults.iter();
        let ends =
            ends.map(|planned| (planned.at + planned.fault.lasts(), PlanStep::End(*planned)));
        let begins = self.faults.iter();
        let begins = begins.map(|planned| (planned.at, PlanStep::Begin(*planned)));
        let mut steps: Vec<_> = begins.chain(ends).collect();
        steps.sort_by_key(|(at, _)| *at);
        steps
    }
}

#[derive(Debug, Clone, Copy)]
enum PlanStep {
    Begin(PlannedFault),
    End(PlannedFault),
}

struct HealOnDrop<'a>(&'a [&'a FaultProxy]);

impl Drop for HealOnDrop<'_> {
    fn drop(&mut self) {
        for proxy in self.0 {
            proxy.heal();
        }
    }
}

impl fmt::Display for PlannedFault {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { at, proxy, fault } = self;
        write!(formatter, "at {at:?} proxy {proxy} is {fault}")
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

    fn plan(seed: u64, proxies: usize, seconds: u64) -> FaultPlan {
        FaultPlan::random(Rng::with_seed(seed), proxies, Duration::from_secs(seconds))
    }

    #[test]
    fn a_seed_is_a_plan() {
        assert_eq!(plan(42, 3, 10), plan(42, 3, 10));
        assert_ne!(plan(42, 3, 10), plan(43, 3, 10));
        // What a seed means stays the same from release to release, within one version of the crate
        // that the numbers come from.
        let text = plan(42, 2, 1).to_string();
        expect_test::expect![[r#"
            at 76ms proxy 1 is delayed by up to 17ms for 106ms
            at 238ms proxy 0 is refused for 247ms
            at 345ms proxy 1 is delayed by up to 15ms for 455ms
            at 497ms proxy 0 is held for 272ms
            at 1s all are whole"#]]
        .assert_eq(&text);
    }

    #[test]
    fn faults_of_a_line_follow_each_other_and_end_in_time() {
        for seed in 0..100 {
            let plan = plan(seed, 3, 5);
            for proxy in 0..3 {
                let mut now = Duration::ZERO;
                let faults = plan
                    .faults()
                    .iter()
                    .filter(|planned| planned.proxy == proxy);
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

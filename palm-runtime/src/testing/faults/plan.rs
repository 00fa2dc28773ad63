//! [`FaultPlan`]: a schedule of faults, as plain data.

use std::fmt;
use std::time::Duration;

use fastrand::Rng;
use tokio::time::Instant;

use super::proxy::FaultProxy;

/// Maximum number of faults of one proxy in a plan.
const MAX_FAULTS: usize = 10_000;

/// The longest duration of a plan.
const MAX_PLAN: Duration = Duration::from_secs(86_400);

/// The longest pause between two faults of a proxy.
const MAX_PAUSE: Duration = Duration::from_millis(300);

/// The longest time that a proxy holds, delays or refuses.
const MAX_FAULT: Duration = Duration::from_millis(500);

/// The longest delay of a chunk, in milliseconds.
const MAX_DELAY_MILLIS: u64 = 20;

/// A schedule of faults for several proxies. [`Faults::plan`](super::Faults::plan) makes it.
///
/// The faults of one proxy follow each other after pauses of at most 300 ms: a cut, or traffic that is held,
/// delayed by up to 20 ms, or refused, for at most 500 ms. Proxies have independent schedules. Every fault ends
/// within the plan.
///
/// Its `Display` writes one line for each fault.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FaultPlan {
    proxies: usize,
    duration: Duration,
    /// Sorted by start time.
    faults: Vec<PlannedFault>,
}

/// One fault of a [`FaultPlan`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct PlannedFault {
    /// When it starts, counted from the start of the plan.
    pub at: Duration,
    /// The index of the proxy.
    pub proxy: usize,
    /// The fault.
    pub fault: Fault,
}

/// A fault of a [`FaultProxy`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Fault {
    /// Closes all connections: [`FaultProxy::cut`].
    Cut,
    /// Stops traffic for a time: [`FaultProxy::hold`].
    Hold(Duration),
    /// Delays chunks by zero up to `most`, for a time: [`FaultProxy::delay`].
    Delay {
        /// The largest delay.
        most: Duration,
        /// The duration.
        lasts: Duration,
    },
    /// Closes all connections, and each new one, for a time: [`FaultProxy::refuse`].
    Refuse(Duration),
}

impl Fault {
    /// Returns how long the fault lasts: zero for a cut.
    pub fn lasts(&self) -> Duration {
        match *self {
            Self::Cut => Duration::ZERO,
            Self::Hold(lasts) | Self::Delay { lasts, .. } | Self::Refuse(lasts) => lasts,
        }
    }

    fn random(rng: &mut Rng) -> Self {
        let lasts = up_to(rng, MAX_FAULT);
        match rng.u8(..4) {
            0 => Self::Cut,
            1 => Self::Hold(lasts),
            2 => Self::Refuse(lasts),
            _ => Self::Delay {
                most: Duration::from_millis(rng.u64(1..=MAX_DELAY_MILLIS)),
                lasts,
            },
        }
    }

    fn begin(&self, proxy: &FaultProxy) {
        match *self {
            Self::Cut => drop(proxy.cut_now()),
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
    // In whole milliseconds, so that a plan is easy to read.
    Duration::from_millis(rng.u64(1..=longest.as_millis() as u64))
}

impl FaultPlan {
    pub(super) fn random(mut rng: Rng, proxies: usize, duration: Duration) -> Self {
        let duration = duration.min(MAX_PLAN);
        let mut faults = Vec::new();
        for proxy in 0..proxies {
            let mut now = Duration::ZERO;
            for _ in 0..MAX_FAULTS {
                let at = now + up_to(&mut rng, MAX_PAUSE);
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

    /// Returns the duration of the plan.
    pub fn duration(&self) -> Duration {
        self.duration
    }

    /// Returns the faults, sorted by start time.
    pub fn faults(&self) -> &[PlannedFault] {
        &self.faults
    }

    /// Injects the faults, and returns when the plan is over and all proxies are healed.
    ///
    /// # Panics
    ///
    /// If the number of proxies is not the one that the plan was made for.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future heals the proxies at once.
    pub async fn run(&self, proxies: &[&FaultProxy]) {
        assert_eq!(
            proxies.len(),
            self.proxies,
            "the plan was made for this number of proxies"
        );
        let _heal = HealOnDrop(proxies);
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

    /// Returns the starts and ends of all faults, sorted by time. The end of a fault precedes the next start on the
    /// same proxy.
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
        write!(formatter, "at {:?} all proxies are healed", self.duration)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan(seed: u64, proxies: usize, seconds: u64) -> FaultPlan {
        FaultPlan::random(Rng::with_seed(seed), proxies, Duration::from_secs(seconds))
    }

    #[test]
    fn plan_is_determined_by_its_seed() {
        assert_eq!(plan(42, 3, 10), plan(42, 3, 10));
        assert_ne!(plan(42, 3, 10), plan(43, 3, 10));
        // A seed keeps its plan from release to release, unless the crate of the random numbers changes.
        let text = plan(42, 2, 1).to_string();
        expect_test::expect![[r#"
            at 76ms proxy 1 is delayed by up to 17ms for 106ms
            at 238ms proxy 0 is refused for 247ms
            at 345ms proxy 1 is delayed by up to 15ms for 455ms
            at 497ms proxy 0 is held for 272ms
            at 1s all proxies are healed"#]]
        .assert_eq(&text);
    }

    #[test]
    fn faults_of_one_proxy_do_not_overlap_and_end_within_the_plan() {
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
                assert!(now >= plan.duration() - MAX_PAUSE - MAX_FAULT);
            }
        }
        assert!(plan(1, 0, 5).faults().is_empty());
        assert!(plan(1, 5, 0).faults().is_empty());
        let longest = FaultPlan::random(Rng::with_seed(1), 2, Duration::MAX);
        assert_eq!(longest.faults().len(), 2 * MAX_FAULTS);
    }
}

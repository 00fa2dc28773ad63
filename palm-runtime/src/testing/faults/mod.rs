//! [`Faults`]: what goes wrong in a cluster, on purpose and from a seed.
//!
//! A [`FaultProxy`] is what users hold; `relay` carries its bytes, under the orders and counts of `state`,
//! and `messages` finds out where in them a message ends. A [`FaultPlan`] is plain data.
//! [`Restartable`] kills and restarts a component.

mod message_counter;
mod plan;
mod proxy;
mod relay;
mod restartable;
mod state;

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use fastrand::Rng;

pub use plan::{Fault, FaultPlan, PlannedFault};
pub use proxy::{FaultProxy, FaultProxyError};
pub use restartable::{Restartable, until};
pub use state::{FaultProxyStatus, ProxyTraffic};

/// The variable that [`Faults::new`] takes its seed from.
const SEED: &str = "PALM_FAULTS_SEED";

/// Where faults come from: a seed, and the lines and plans that are made from it.
///
/// All that is random in them follows from the seed and from the order in which lines and plans are
/// made: a plan is the same down to the nanosecond, and a line delays what comes on its connections by
/// the same times. Which message is where at that moment is still up to the machine.
///
/// An example is at the top of `palm::testing`.
#[derive(Debug)]
pub struct Faults {
    seed: u64,
    rng: Mutex<Rng>,
}

impl Faults {
    /// Faults from a random seed, or from the one in the environment variable `PALM_FAULTS_SEED`. The
    /// seed is written to stderr, which tests show when they fail.
    ///
    /// # Panics
    ///
    /// When the variable is set, and no number below 2^64.
    pub fn new() -> Self {
        match std::env::var(SEED) {
            Ok(seed) => Self::seeded(seed.parse().unwrap_or_else(|_| {
                panic!("{SEED} is `{seed}`, and should be a number below 2^64")
            })),
            Err(_) => Self::seeded(fastrand::u64(..)),
        }
    }

    /// Faults from `seed`, which is written to stderr too.
    pub fn seeded(seed: u64) -> Self {
        // Without it a test that failed cannot be repeated, and few tests have a log.
        eprintln!("these faults again: {SEED}={seed}, or Faults::seeded({seed})");
        Self {
            seed,
            rng: Mutex::new(Rng::with_seed(seed)),
        }
    }

    /// The seed.
    pub fn seed(&self) -> u64 {
        self.seed
    }

    /// A line in front of `target`, e.g. a component's `db_address`: peers connect to
    /// [`FaultProxy::address`] in its place. Nobody has to be at the target yet.
    ///
    /// # Errors
    ///
    /// [`FaultProxyError`] when `target` is no `tcp://host:port`, or no port of 127.0.0.1 is free.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future leaves nothing behind.
    pub async fn proxy(&self, target: impl AsRef<str>) -> Result<FaultProxy, FaultProxyError> {
        let rng = self.fork();
        FaultProxy::new(target.as_ref(), rng).await
    }

    /// A plan of random faults on so many lines, within `duration`, a day at most.
    pub fn plan(&self, lines: usize, duration: Duration) -> FaultPlan {
        FaultPlan::random(self.fork(), lines, duration)
    }

    /// Makes a [`plan`](Self::plan) for `lines` and runs it. It takes `duration`, and leaves the lines
    /// whole.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future makes the lines whole at once.
    pub async fn random(&self, lines: &[&FaultProxy], duration: Duration) {
        let plan = self.plan(lines.len(), duration);
        tracing::info!("faults from seed {}:\n{plan}", self.seed);
        plan.run(lines).await;
    }

    pub(super) fn fork(&self) -> Rng {
        let mut rng = self.rng.lock().unwrap_or_else(PoisonError::into_inner);
        rng.fork()
    }
}

impl Default for Faults {
    fn default() -> Self {
        Self::new()
    }
}

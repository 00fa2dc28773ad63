//! [`Faults`]: fault injection from a seed.
//!
//! A [`FaultProxy`] (module `proxy`) is the handle of a test. `relay` carries the bytes of its connections according
//! to the settings in `state`, which also counts them; `message_counter` finds the ends of messages in the bytes.
//! A [`FaultPlan`] is plain data. [`Restartable`] kills and restarts a component, and a [`Soak`] makes calls meanwhile.

mod message_counter;
mod plan;
mod proxy;
mod relay;
mod restartable;
mod soak;
mod state;

use std::time::Duration;

use fastrand::Rng;
use parking_lot::Mutex;

use crate::client::Client;
use crate::function::IntoSteps;

pub use plan::{Fault, FaultPlan, PlannedFault};
pub use proxy::{FaultProxy, FaultProxyError};
pub use restartable::{Restartable, until};
pub use soak::{Soak, SoakFailure, SoakReport};
pub use state::{FaultProxyStatus, ProxyTraffic};

/// The environment variable from which [`Faults::new`] reads the seed.
const SEED: &str = "PALM_FAULTS_SEED";

/// A seeded source of faults: it makes proxies and plans.
///
/// Everything random follows from the seed and from the order in which proxies and plans are made. A plan is the
/// same down to the nanosecond, and a proxy delays the chunks of its connections by the same times. Which message
/// a fault meets still depends on the machine.
///
/// An example is at the top of `palm::testing`.
#[derive(Debug)]
pub struct Faults {
    seed: u64,
    rng: Mutex<Rng>,
}

impl Faults {
    /// Returns faults from a random seed, or from the seed in the environment variable `PALM_FAULTS_SEED`.
    ///
    /// Writes the seed to stderr, which the test harness shows when a test fails.
    ///
    /// # Panics
    ///
    /// If the variable is set and is not a number below 2^64.
    pub fn new() -> Self {
        match std::env::var(SEED) {
            Ok(seed) => Self::seeded(seed.parse().unwrap_or_else(|_| {
                panic!("{SEED} is `{seed}`, and should be a number below 2^64")
            })),
            Err(_) => Self::seeded(fastrand::u64(..)),
        }
    }

    /// Returns faults from `seed`, and writes the seed to stderr.
    pub fn seeded(seed: u64) -> Self {
        // A failed test cannot be repeated without its seed, and few tests have a log.
        eprintln!("these faults again: {SEED}={seed}, or Faults::seeded({seed})");
        Self {
            seed,
            rng: Mutex::new(Rng::with_seed(seed)),
        }
    }

    /// Returns the seed.
    pub fn seed(&self) -> u64 {
        self.seed
    }

    /// Starts a proxy in front of `target`, such as a component's `db_address`.
    ///
    /// Peers connect to [`FaultProxy::address`] instead of the target. The target need not be bound yet.
    ///
    /// # Errors
    ///
    /// [`FaultProxyError`] if `target` is not of the form `tcp://host:port`, or no port of 127.0.0.1 is free.
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped, its resources are released.
    pub async fn proxy(&self, target: impl AsRef<str>) -> Result<FaultProxy, FaultProxyError> {
        let rng = self.fork();
        FaultProxy::new(target.as_ref(), rng).await
    }

    /// Returns a plan of random faults on `proxies` proxies. The plan takes `duration`, at most a day.
    pub fn plan(&self, proxies: usize, duration: Duration) -> FaultPlan {
        FaultPlan::random(self.fork(), proxies, duration)
    }

    /// Makes a [`plan`](Self::plan) for `proxies` and runs it, which takes `duration`.
    ///
    /// All proxies are healed when this returns.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future heals the proxies at once.
    pub async fn random(&self, proxies: &[&FaultProxy], duration: Duration) {
        let plan = self.plan(proxies.len(), duration);
        tracing::info!(seed = self.seed, "running a plan of random faults:\n{plan}");
        plan.run(proxies).await;
    }

    /// Returns a load of calls of `steps`, during which faults are injected.
    ///
    /// # Panics
    ///
    /// If a step is not of the form `server.function`.
    pub fn soak<'a>(&self, client: Client, steps: impl IntoSteps) -> Soak<'a> {
        Soak::new(self.seed, self.fork(), client, steps)
    }

    pub(super) fn fork(&self) -> Rng {
        let mut rng = self.rng.lock();
        rng.fork()
    }
}

impl Default for Faults {
    fn default() -> Self {
        Self::new()
    }
}

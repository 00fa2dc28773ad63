//! [`Soak`]: a load of calls with faults meanwhile, which checks that each call is answered once.

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::marker::PhantomData;
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use fastrand::Rng;
use futures_core::future::LocalBoxFuture;
use futures_util::future::join_all;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};

use crate::client::{CallError, Client};
use crate::failure::BoxError;
use crate::function::{IntoSteps, Steps};

/// Maximum number of failures that a report keeps; further ones are counted.
const MAX_FAILURES: usize = 100;

/// Maximum number of failures that a report prints.
const MAX_PRINTED: usize = 10;

/// Maximum number of single calls that a client makes at once.
const MAX_SINGLES: u64 = 32;

/// The longest pause of a client between two jobs.
const MAX_CLIENT_PAUSE_MILLIS: u64 = 10;

/// A load of calls on a cluster, with faults meanwhile. Each call must be answered once.
///
/// Clients make jobs and single calls of random sizes, while one fault after the other is injected. The cluster may be a
/// [`Cluster`](crate::testing::Cluster), or any cluster that the clients reach; a fault is what the program makes of
/// it: it kills, restarts or cuts off something.
/// [`Faults::soak`](super::Faults::soak) returns it. The order and the times of the faults follow from the seed.
///
/// An example is in the chapter on testing of the guide.
#[must_use = "a soak does nothing until `.run().await`"]
pub struct Soak<'a> {
    seed: u64,
    rng: Rng,
    clients: Vec<Client>,
    steps: Steps,
    call: Arc<CallFn>,
    max_job_calls: u64,
    copies: u64,
    duration: Duration,
    answer_timeout: Duration,
    pause: RangeInclusive<Duration>,
    faults: Vec<(String, Box<dyn InjectFault + 'a>)>,
}

/// Returns the argument and the answer of a call.
type CallFn = dyn Fn(u64) -> (Bytes, Bytes) + Send + Sync;

/// An async closure as an object.
trait InjectFault {
    fn inject(&mut self) -> LocalBoxFuture<'_, Result<(), BoxError>>;
}

struct FaultFn<F, E>(F, PhantomData<E>);

impl<F: AsyncFnMut() -> Result<(), E>, E: Into<BoxError>> InjectFault for FaultFn<F, E> {
    fn inject(&mut self) -> LocalBoxFuture<'_, Result<(), BoxError>> {
        Box::pin(async { (self.0)().await.map_err(Into::into) })
    }
}

impl<'a> Soak<'a> {
    pub(super) fn new(seed: u64, rng: Rng, client: Client, steps: impl IntoSteps) -> Self {
        Self {
            seed,
            rng,
            clients: vec![client],
            steps: steps.into_steps().expect("steps are `server.function`"),
            call: Arc::new(|call| (call.to_string().into(), call.to_string().into())),
            max_job_calls: 1000,
            copies: 1,
            duration: Duration::from_secs(10),
            answer_timeout: Duration::from_secs(60),
            pause: Duration::from_millis(100)..=Duration::from_millis(1500),
            faults: Vec::new(),
        }
    }

    /// Adds another client that makes calls.
    pub fn client(mut self, client: Client) -> Self {
        self.clients.push(client);
        self
    }

    /// Sets the argument and the expected answer of each call, by its number.
    ///
    /// Default: the number as text, and the same text as the answer. Answers should differ, since two calls with one
    /// answer cannot be told apart.
    pub fn calls<A: Into<Bytes>, V: Into<Bytes>>(
        mut self,
        call: impl Fn(u64) -> (A, V) + Send + Sync + 'static,
    ) -> Self {
        self.call = Arc::new(move |number| {
            let (argument, answer) = call(number);
            (argument.into(), answer.into())
        });
        self
    }

    /// Sets the largest number of calls of a job. Default: 1000.
    pub fn max_job_calls(mut self, calls: u64) -> Self {
        self.max_job_calls = calls.max(1);
        self
    }

    /// Sets how many answers each call has, if the stream is copied on its way (a tee). Default: 1.
    ///
    /// With more than one, only jobs are made.
    pub fn copies(mut self, answers: u64) -> Self {
        self.copies = answers.max(1);
        self
    }

    /// Sets how long calls are made and faults are injected. Default: 10 s.
    pub fn duration(mut self, duration: Duration) -> Self {
        self.duration = duration;
        self
    }

    /// Sets the timeout of each call, and of each fault. Default: 60 s.
    pub fn answer_timeout(mut self, timeout: Duration) -> Self {
        self.answer_timeout = timeout;
        self
    }

    /// Sets the time between two faults, which is random. Default: 100 ms to 1.5 s.
    pub fn pause(mut self, pause: RangeInclusive<Duration>) -> Self {
        self.pause = pause;
        self
    }

    /// Adds a fault, which is injected again and again. The closure returns when the fault is over.
    ///
    /// Each time one of the faults is chosen at random. Default: none.
    pub fn fault<E: Into<BoxError> + 'a>(
        mut self,
        name: impl Into<String>,
        fault: impl AsyncFnMut() -> Result<(), E> + 'a,
    ) -> Self {
        let fault = FaultFn(fault, PhantomData);
        self.faults.push((name.into(), Box::new(fault)));
        self
    }

    /// Makes calls and injects faults, until the duration is over and all calls have ended.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future ends the calls, and the fault that is being injected.
    pub async fn run(mut self) -> SoakReport {
        let end = Instant::now() + self.duration;
        let mut report = SoakReport::new(self.seed, self.copies);
        let mut loads = JoinSet::new();
        let next_call = Arc::new(AtomicU64::new(0));
        for client in self.clients {
            let load = Load {
                client,
                steps: self.steps.clone(),
                call: self.call.clone(),
                next_call: next_call.clone(),
                max_job_calls: self.max_job_calls,
                answer_timeout: self.answer_timeout,
                tally: SoakReport::new(self.seed, self.copies),
            };
            loads.spawn(load.run(self.rng.fork(), end));
        }
        loop {
            let left = end.saturating_duration_since(Instant::now());
            sleep(random_pause(&mut self.rng, &self.pause).min(left)).await;
            if Instant::now() >= end {
                break;
            }
            if self.faults.is_empty() {
                continue;
            }
            let chosen = self.rng.usize(..self.faults.len());
            let (name, fault) = &mut self.faults[chosen];
            tracing::debug!(fault = name, "injecting a fault");
            *report.faults.entry(name.clone()).or_default() += 1;
            let error = match timeout(self.answer_timeout, fault.inject()).await {
                Ok(Ok(())) => continue,
                Ok(Err(error)) => error,
                Err(_) => format!("it did not end within {:?}", self.answer_timeout).into(),
            };
            let fault = name.clone();
            report.fail(SoakFailure::Fault { fault, error });
        }
        while let Some(load) = loads.join_next().await {
            match load {
                Ok(tally) => report.add(tally),
                Err(error) => std::panic::resume_unwind(error.into_panic()),
            }
        }
        report
    }
}

fn random_pause(rng: &mut Rng, pause: &RangeInclusive<Duration>) -> Duration {
    let (least, most) = (*pause.start(), *pause.end());
    least + most.saturating_sub(least).mul_f64(rng.f64())
}

impl fmt::Debug for Soak<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let faults: Vec<_> = self.faults.iter().map(|(name, _)| name).collect();
        formatter
            .debug_struct("Soak")
            .field("seed", &self.seed)
            .field("steps", &self.steps)
            .field("duration", &self.duration)
            .field("faults", &faults)
            .finish_non_exhaustive()
    }
}

/// The calls of one client.
struct Load {
    client: Client,
    steps: Steps,
    call: Arc<CallFn>,
    next_call: Arc<AtomicU64>,
    max_job_calls: u64,
    answer_timeout: Duration,
    tally: SoakReport,
}

impl Load {
    async fn run(mut self, mut rng: Rng, end: Instant) -> SoakReport {
        while Instant::now() < end {
            if self.tally.copies > 1 || rng.bool() {
                let count = rng.u64(1..=self.max_job_calls);
                self.job(count).await;
            } else {
                let count = rng.u64(1..=MAX_SINGLES);
                self.singles(count).await;
            }
            // Also lets a paused clock advance.
            sleep(Duration::from_millis(rng.u64(1..=MAX_CLIENT_PAUSE_MILLIS))).await;
        }
        self.tally
    }

    /// Returns the numbers, arguments and answers of the next calls.
    fn next_calls(&mut self, count: u64) -> Vec<(u64, Bytes, Bytes)> {
        self.tally.calls += count;
        let first = self.next_call.fetch_add(count, Ordering::Relaxed);
        let call = |number| {
            let (argument, answer) = (self.call)(number);
            (number, argument, answer)
        };
        (first..first + count).map(call).collect()
    }

    async fn singles(&mut self, count: u64) {
        let calls = self.next_calls(count);
        let singles = calls.into_iter().map(|(call, argument, expected)| {
            let eval = self.client.eval(&self.steps, argument);
            let eval = eval.timeout(self.answer_timeout).into_future();
            async move { (call, expected, eval.await) }
        });
        for (call, expected, answer) in join_all(singles).await {
            match answer {
                Ok(answer) if answer == expected => self.tally.answered += 1,
                Ok(answer) => self.tally.fail(SoakFailure::Wrong { answer }),
                Err(CallError::NoAnswer { .. }) => {
                    self.tally.fail(SoakFailure::Unanswered { call });
                }
                Err(error) => self.tally.fail(SoakFailure::Failed { error }),
            }
        }
    }

    async fn job(&mut self, count: u64) {
        let calls = self.next_calls(count);
        let mut open: HashMap<Bytes, Vec<u64>> = HashMap::new();
        let mut done = HashSet::new();
        let copies = self.tally.copies;
        for (call, _, answer) in &calls {
            let open = open.entry(answer.clone()).or_default();
            open.extend((0..copies).map(|_| *call));
        }
        let arguments = calls.into_iter().map(|(_, argument, _)| argument);
        let job = self.client.job(&self.steps, arguments);
        let mut job = job.timeout(self.answer_timeout);
        if copies > 1 {
            job = job.expect_answers(copies * count);
        }
        let mut errors = 0;
        while let Some(answer) = job.next().await {
            match answer {
                Ok(answer) => {
                    let failure = match open.get_mut(&answer) {
                        Some(calls) => {
                            calls.pop();
                            if calls.is_empty() {
                                open.remove(&answer);
                            }
                            self.tally.answered += 1;
                            done.insert(answer);
                            continue;
                        }
                        None if done.contains(&answer) => SoakFailure::Repeated { answer },
                        None => SoakFailure::Wrong { answer },
                    };
                    self.tally.fail(failure);
                }
                Err(error) => {
                    errors += 1;
                    self.tally.fail(SoakFailure::Failed { error });
                }
            }
        }
        // An error of a job does not say which of its calls failed.
        let mut unanswered: Vec<_> = open.into_values().flatten().collect();
        unanswered.sort_unstable();
        for call in unanswered.into_iter().skip(errors) {
            self.tally.fail(SoakFailure::Unanswered { call });
        }
    }
}

/// What a [`Soak`] has found.
///
/// Its `Display` is a summary, with the seed and the first failures.
#[must_use = "a soak that fails does not panic: call `.assert_all_answered()`"]
#[derive(Debug)]
pub struct SoakReport {
    seed: u64,
    copies: u64,
    calls: u64,
    answered: u64,
    faults: HashMap<String, u64>,
    failures: Vec<SoakFailure>,
    more_failures: u64,
}

/// A violation that a [`Soak`] has found.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SoakFailure {
    /// A call failed, or a job ended.
    #[error("a call failed")]
    #[non_exhaustive]
    Failed {
        /// Its error.
        #[source]
        error: CallError,
    },
    /// A call ended without an answer and without an error.
    #[error("call {call} has no answer")]
    #[non_exhaustive]
    Unanswered {
        /// The number of the call.
        call: u64,
    },
    /// An answer arrived again.
    #[error("the answer {answer:?} was repeated")]
    #[non_exhaustive]
    Repeated {
        /// The answer.
        answer: Bytes,
    },
    /// An answer is not the one of any call.
    #[error("the answer {answer:?} is wrong")]
    #[non_exhaustive]
    Wrong {
        /// The answer.
        answer: Bytes,
    },
    /// A fault could not be injected.
    #[error("the fault `{fault}` failed")]
    #[non_exhaustive]
    Fault {
        /// The name of the fault.
        fault: String,
        /// The error that its closure returned.
        #[source]
        error: BoxError,
    },
}

impl SoakReport {
    fn new(seed: u64, copies: u64) -> Self {
        Self {
            seed,
            copies,
            calls: 0,
            answered: 0,
            faults: HashMap::new(),
            failures: Vec::new(),
            more_failures: 0,
        }
    }

    fn fail(&mut self, failure: SoakFailure) {
        if self.failures.len() < MAX_FAILURES {
            self.failures.push(failure);
        } else {
            self.more_failures += 1;
        }
    }

    fn add(&mut self, tally: Self) {
        self.calls += tally.calls;
        self.answered += tally.answered;
        self.more_failures += tally.more_failures;
        for failure in tally.failures {
            self.fail(failure);
        }
    }

    /// Returns the number of calls.
    pub fn calls(&self) -> u64 {
        self.calls
    }

    /// Returns the number of expected answers that were received.
    pub fn answered(&self) -> u64 {
        self.answered
    }

    /// Returns how often a fault was injected.
    pub fn faults(&self, name: &str) -> u64 {
        self.faults.get(name).copied().unwrap_or_default()
    }

    /// Returns the first 100 failures.
    pub fn failures(&self) -> &[SoakFailure] {
        &self.failures
    }

    /// Asserts that calls were made, and that each was answered once.
    ///
    /// # Panics
    ///
    /// With the report as the message, if not.
    #[track_caller]
    pub fn assert_all_answered(&self) {
        let is_right =
            self.calls > 0 && self.answered == self.calls * self.copies && self.failures.is_empty();
        assert!(is_right, "{self}");
    }
}

impl fmt::Display for SoakReport {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            seed,
            calls,
            answered,
            ..
        } = self;
        write!(
            formatter,
            "{answered} answers to {calls} calls (seed {seed})"
        )?;
        let mut faults: Vec<_> = self.faults.iter().collect();
        faults.sort();
        for (name, times) in faults {
            write!(formatter, ", {times} × {name}")?;
        }
        for failure in self.failures.iter().take(MAX_PRINTED) {
            write!(formatter, "\n  {}", crate::failure::chain(failure))?;
        }
        let kept = self.failures.len().saturating_sub(MAX_PRINTED) as u64;
        match kept + self.more_failures {
            0 => Ok(()),
            more => write!(formatter, "\n  and {more} more failures"),
        }
    }
}

//! Detects methods that block their thread: executors publish the method that each thread polls, and the thread of
//! [`liveness`](crate::link::liveness) reads it.
//!
//! Each thread that polls calls has a slot with one number, which it changes before and after each poll. A
//! number that names a method and stays the same for longer than [`POLL_LIMIT`] shows a method that blocks its thread.
//! So a poll costs two stores, and reads no clock.

use std::collections::HashMap;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, LazyLock};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use parking_lot::{Mutex, MutexGuard};
use tracing::Span;

use crate::call_slots::{self, Scope};
use crate::trace::CurrentCall;

/// Duration of a poll from which it is logged.
const POLL_LIMIT: Duration = Duration::from_secs(1);

/// The shortest interval between two log lines about the same method.
const REPEAT_INTERVAL: Duration = Duration::from_secs(60);

/// The interval at which slots are checked.
pub(crate) const INTERVAL: Duration = Duration::from_millis(500);

/// The low bits of a slot's number name the method; the others count polls.
const METHOD_BITS: u32 = 24;
const METHOD_MASK: u64 = (1 << METHOD_BITS) - 1;

/// Identifies a method among all components of this process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct MethodId(u32);

/// The method that one thread polls; 0 in the bits of the method if it polls none.
#[derive(Debug, Default)]
struct PollSlot(AtomicU64);

impl PollSlot {
    /// Publishes that a method is polled. Returns the previous method, for [`end`](Self::end).
    fn begin(&self, method: MethodId) -> u64 {
        // Only the slot's own thread writes.
        let before = self.0.load(Ordering::Relaxed);
        self.set(before, u64::from(method.0) + 1);
        before & METHOD_MASK
    }

    fn end(&self, before: u64) {
        self.set(self.0.load(Ordering::Relaxed), before);
    }

    fn set(&self, number: u64, method: u64) {
        let polls = (number >> METHOD_BITS).wrapping_add(1);
        let next = polls << METHOD_BITS | (method & METHOD_MASK);
        self.0.store(next, Ordering::Relaxed);
    }
}

/// All slots and methods of the process.
#[derive(Debug, Default)]
struct MethodRegistry {
    slots: Vec<Arc<PollSlot>>,
    methods: Vec<(String, String)>,
    ids: HashMap<(String, String), MethodId>,
}

static REGISTRY: LazyLock<Mutex<MethodRegistry>> = LazyLock::new(Mutex::default);

fn registry() -> MutexGuard<'static, MethodRegistry> {
    REGISTRY.lock()
}

thread_local! {
    static SLOT: Arc<PollSlot> = {
        let slot = Arc::<PollSlot>::default();
        registry().slots.push(slot.clone());
        slot
    };
}

impl MethodId {
    /// Returns the id of a method, which is the same for all components of one name.
    pub(crate) fn new(component: &str, function: &str) -> Self {
        let mut registry = registry();
        let name = (component.to_owned(), function.to_owned());
        if let Some(&id) = registry.ids.get(&name) {
            return id;
        }
        let id = Self(u32::try_from(registry.methods.len()).unwrap_or(u32::MAX));
        registry.methods.push(name.clone());
        registry.ids.insert(name, id);
        id
    }

    /// Calls `poll`, and publishes meanwhile that the method is polled.
    pub(crate) fn poll<T>(self, poll: impl FnOnce() -> T) -> T {
        struct End<'a>(&'a PollSlot, u64);
        impl Drop for End<'_> {
            fn drop(&mut self) {
                self.0.end(self.1);
            }
        }
        let mut poll = Some(poll);
        let polled = SLOT.try_with(|slot| {
            let _end = End(slot, slot.begin(self));
            poll.take().map(|poll| poll())
        });
        match (polled, poll) {
            (Ok(Some(polled)), _) => polled,
            // The thread ends, and its slot has been removed.
            (_, Some(poll)) => poll(),
            _ => unreachable!("the closure is called once"),
        }
    }
}

/// A call whose polls are watched, in its scope.
#[derive(Debug)]
pub(crate) struct Watched<F> {
    pub(crate) method: MethodId,
    pub(crate) scope: Option<Scope>,
    /// The span in which the call is polled.
    pub(crate) span: Span,
    /// The ids of the call, if a logger wants them.
    pub(crate) logged: Option<Arc<CurrentCall>>,
    pub(crate) call: F,
}

impl<F: Future + Unpin> Future for Watched<F> {
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<F::Output> {
        let Self {
            method,
            scope,
            span,
            logged,
            call,
        } = &mut *self;
        let _entered = span.enter();
        let poll = || method.poll(|| Pin::new(&mut *call).poll(context));
        let poll = || CurrentCall::enter(logged.as_ref(), poll);
        call_slots::enter(scope, poll)
    }
}

/// A method that blocks its thread.
#[derive(Debug, PartialEq, Eq)]
struct BlockedThread {
    method: MethodId,
    elapsed: Duration,
}

/// Checks the slots of all threads.
#[derive(Debug, Default)]
pub(crate) struct Watchdog {
    /// By the address of each slot: its number, when that was first seen, and whether it was logged.
    seen: HashMap<usize, (u64, Instant, bool)>,
    warned: HashMap<MethodId, Instant>,
}

impl Watchdog {
    /// Logs each method that blocks its thread. Returns whether there is anything to watch.
    pub(crate) fn look(&mut self, now: Instant) -> bool {
        let slots = {
            let mut registry = registry();
            // Removes the slots of threads that have ended.
            registry.slots.retain(|slot| Arc::strong_count(slot) > 1);
            registry.slots.clone()
        };
        let numbers = slots.iter().map(|slot| {
            let address = Arc::as_ptr(slot) as usize;
            (address, slot.0.load(Ordering::Relaxed))
        });
        for BlockedThread { method, elapsed } in self.find_blocked(numbers, now) {
            let name = registry().methods.get(method.0 as usize).cloned();
            let Some((component, function)) = name else {
                continue;
            };
            tracing::warn!(
                component,
                function,
                ?elapsed,
                "the method `{function}` of `{component}` blocks its thread, so nothing else runs there: use `#[palm::method(blocking)]`"
            );
        }
        !slots.is_empty()
    }

    fn find_blocked(
        &mut self,
        numbers: impl Iterator<Item = (usize, u64)>,
        now: Instant,
    ) -> Vec<BlockedThread> {
        let mut blocked = Vec::new();
        let mut seen = HashMap::new();
        for (address, number) in numbers {
            let before = self.seen.get(&address).copied();
            let (_, since, mut is_warned) = before
                .filter(|(before, ..)| *before == number)
                .unwrap_or((number, now, false));
            let elapsed = now.saturating_duration_since(since);
            let method = (number & METHOD_MASK).checked_sub(1);
            if let Some(method) = method
                && elapsed >= POLL_LIMIT
                && !is_warned
            {
                is_warned = true;
                let method = MethodId(method as u32);
                let warned = self.warned.get(&method);
                if warned.is_none_or(|at| now.saturating_duration_since(*at) >= REPEAT_INTERVAL) {
                    self.warned.insert(method, now);
                    blocked.push(BlockedThread { method, elapsed });
                }
            }
            seen.insert(address, (number, since, is_warned));
        }
        self.seen = seen;
        blocked
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const METHOD: MethodId = MethodId(7);

    /// Returns the blocked polls that a watchdog finds in a slot.
    fn check(watchdog: &mut Watchdog, slot: &PollSlot, now: Instant) -> Vec<Duration> {
        let number = slot.0.load(Ordering::Relaxed);
        let blocked = watchdog.find_blocked(std::iter::once((1, number)), now);
        assert!(blocked.iter().all(|blocked| blocked.method == METHOD));
        blocked.into_iter().map(|blocked| blocked.elapsed).collect()
    }

    #[test]
    fn method_that_blocks_its_thread_is_logged_once_a_minute() {
        let (mut watchdog, slot) = (Watchdog::default(), PollSlot::default());
        let begin = Instant::now();
        let at = |seconds: f64| begin + Duration::from_secs_f64(seconds);
        let before = slot.begin(METHOD);
        assert_eq!(check(&mut watchdog, &slot, at(0.0)), []);
        assert_eq!(check(&mut watchdog, &slot, at(0.9)), []);
        let second = Duration::from_secs(1);
        assert_eq!(check(&mut watchdog, &slot, at(1.0)), [second]);
        assert_eq!(check(&mut watchdog, &slot, at(90.0)), [], "the same poll");
        slot.end(before);
        for (from, expected) in [(10.0, 0), (70.0, 1)] {
            let before = slot.begin(METHOD);
            assert_eq!(check(&mut watchdog, &slot, at(from)), []);
            let blocked = check(&mut watchdog, &slot, at(from + 1.0));
            assert_eq!(blocked.len(), expected, "{from}");
            slot.end(before);
        }
    }

    #[test]
    fn quick_polls_and_idle_threads_are_not_logged() {
        let (mut watchdog, slot) = (Watchdog::default(), PollSlot::default());
        let begin = Instant::now();
        for second in 0..10 {
            let before = slot.begin(METHOD);
            let now = begin + Duration::from_secs(second);
            assert_eq!(check(&mut watchdog, &slot, now), []);
            slot.end(before);
        }
        for second in 10..20 {
            let now = begin + Duration::from_secs(second);
            assert_eq!(check(&mut watchdog, &slot, now), []);
        }
    }

    #[test]
    fn outer_method_is_watched_again_after_a_nested_poll() {
        let slot = PollSlot::default();
        let outer = slot.begin(METHOD);
        let inner = slot.begin(MethodId(8));
        slot.end(inner);
        let number = slot.0.load(Ordering::Relaxed);
        assert_eq!(number & METHOD_MASK, u64::from(METHOD.0) + 1);
        slot.end(outer);
        assert_eq!(slot.0.load(Ordering::Relaxed) & METHOD_MASK, 0);
    }
}

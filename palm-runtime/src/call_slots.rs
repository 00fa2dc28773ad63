//! A call that waits for a call of its own component lends its concurrency slot.
//!
//! A component runs a limited number of calls at once. A method that calls its own component, for example a worker that
//! calls its master, would keep its slot while the inner call waits for one: as many such calls as there are slots
//! would deadlock. So a call lends its slot while it waits. The executor starts another call, and a worker reports one
//! more running call to its master.
//!
//! An executor publishes the [`Scope`] of the call that it polls in a thread-local. A client's [`LendWhilePending`] or
//! [`SlotLoan`] looks there whether it calls the component that runs it. Calls from spawned tasks or other threads are
//! not recognised.
//!
//! [`CallSlots`] also has how many tasks a worker prefetches, because credit follows both numbers.

use std::cell::RefCell;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytestring::ByteString;
use tokio::sync::watch;

/// Most slots that a component lends.
const MAX_LENT: u32 = 1000;

thread_local! {
    /// The scope of the call that this thread polls.
    static SCOPE: RefCell<Option<Scope>> = const { RefCell::new(None) };
}

/// How many tasks a worker prefetches besides those that it runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Prefetch {
    /// As many as the worker finishes in 10 ms, up to 1000, and none if a task takes longer.
    Measured,
    Fixed(u64),
}

/// The slots for the calls of a component: how many there are, and how many of them calls have lent.
#[derive(Debug, Default)]
pub(crate) struct CallSlots(watch::Sender<SlotCounts>);

/// The numbers of [`CallSlots`].
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct SlotCounts {
    /// How many calls the options allow at once, besides those that have lent their slots.
    initial: usize,
    /// How many an operator has allowed since.
    changed: Option<usize>,
    pub(crate) lent: u32,
    /// How many tasks are prefetched for the slots, if the component is a worker with a link.
    pub(crate) prefetch: Option<Prefetch>,
}

impl SlotCounts {
    /// Returns how many calls may run at once, besides those that have lent their slots.
    pub(crate) fn concurrency(&self) -> usize {
        self.changed.unwrap_or(self.initial)
    }
}

impl CallSlots {
    /// The largest fixed number of tasks that an operator lets a worker prefetch.
    pub(crate) const MAX_FIXED_PREFETCH: u64 = 1_000_000;

    /// The most calls that may run at once.
    pub(crate) const MAX_CONCURRENCY: usize = 1_000_000;

    #[cfg(test)]
    fn lent(&self) -> u32 {
        self.0.borrow().lent
    }

    /// Sets how many calls the options allow at once.
    pub(crate) fn begin_with(&self, calls: usize) {
        self.0.send_modify(|slots| slots.initial = calls);
    }

    /// Returns how many calls may run at once.
    pub(crate) fn concurrency(&self) -> usize {
        self.0.borrow().concurrency()
    }

    /// Returns how many tasks are prefetched; `None` if the component is not a worker with a link.
    pub(crate) fn prefetch(&self) -> Option<Prefetch> {
        self.0.borrow().prefetch
    }

    /// Sets how many tasks are prefetched.
    pub(crate) fn set_prefetch(&self, prefetch: Prefetch) {
        self.0.send_modify(|slots| slots.prefetch = Some(prefetch));
    }

    /// Changes how many calls may run at once. Running calls are not affected.
    pub(crate) fn set_concurrency(&self, calls: usize) {
        self.0.send_modify(|slots| slots.changed = Some(calls));
    }

    /// Returns how many calls an executor with this concurrency may run, including those that have lent their slots.
    pub(crate) fn all(&self, concurrency: usize) -> usize {
        let slots = *self.0.borrow();
        slots.changed.unwrap_or(concurrency) + slots.lent as usize
    }

    /// Returns a receiver that observes the numbers.
    pub(crate) fn subscribe(&self) -> watch::Receiver<SlotCounts> {
        self.0.subscribe()
    }

    fn lend(self: &Arc<Self>) -> Option<LentSlot> {
        let is_lent = self.0.send_if_modified(|slots| {
            let lends = slots.lent < MAX_LENT;
            slots.lent += u32::from(lends);
            lends
        });
        is_lent.then(|| LentSlot(self.clone()))
    }
}

/// A slot that a call has lent. Dropping it reclaims the slot: until another call ends, one more runs than there are
/// slots.
#[derive(Debug)]
struct LentSlot(Arc<CallSlots>);

impl Drop for LentSlot {
    fn drop(&mut self) {
        self.0.0.send_modify(|slots| slots.lent -= 1);
    }
}

/// The component that runs a call.
#[derive(Debug, Clone)]
pub(crate) struct Scope {
    /// The name by which it is called. For a worker, the name of its master.
    pub(crate) name: ByteString,
    pub(crate) slots: Arc<CallSlots>,
    /// Whether answers leave in the order of the calls, so that an inner call cannot be answered.
    pub(crate) keeps_order: bool,
}

/// Publishes a scope while `poll` runs.
pub(crate) fn enter<T>(scope: &mut Option<Scope>, poll: impl FnOnce() -> T) -> T {
    /// Swaps back, even if the call panics.
    struct Entered<'a>(&'a mut Option<Scope>);

    impl Drop for Entered<'_> {
        fn drop(&mut self) {
            SCOPE.with_borrow_mut(|current| std::mem::swap(current, self.0));
        }
    }

    SCOPE.with_borrow_mut(|current| std::mem::swap(current, scope));
    let _entered = Entered(scope);
    poll()
}

/// The inner call cannot be answered: the answer of the call that waits for it must leave first.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Deadlock;

/// The slot of a waiting call, if it has lent it.
#[derive(Debug, Default)]
pub(crate) struct SlotLoan(Option<LentSlot>);

impl SlotLoan {
    /// Lends the slot if the call waits for an answer of its own component.
    pub(crate) fn begin(&mut self, callee: &str) -> Result<(), Deadlock> {
        if self.0.is_some() {
            return Ok(());
        }
        SCOPE.with_borrow(|scope| match scope {
            Some(scope) if scope.name == callee => {
                if scope.keeps_order {
                    return Err(Deadlock);
                }
                self.0 = scope.slots.lend();
                Ok(())
            }
            _ => Ok(()),
        })
    }

    /// Reclaims the slot once there is an answer.
    pub(crate) fn end(&mut self) {
        self.0 = None;
    }
}

/// A future that waits for an answer of `callee` and lends the slot meanwhile.
#[derive(Debug)]
pub(crate) struct LendWhilePending<'a, F> {
    callee: &'a str,
    future: Pin<&'a mut F>,
    loan: SlotLoan,
}

impl<'a, F: Future> LendWhilePending<'a, F> {
    pub(crate) fn new(callee: &'a str, future: Pin<&'a mut F>) -> Self {
        Self {
            callee,
            future,
            loan: SlotLoan::default(),
        }
    }
}

impl<F: Future> Future for LendWhilePending<'_, F> {
    type Output = Result<F::Output, Deadlock>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let Self {
            callee,
            future,
            loan,
        } = &mut *self;
        if let Poll::Ready(output) = future.as_mut().poll(context) {
            loan.end();
            return Poll::Ready(Ok(output));
        }
        match loan.begin(callee) {
            Ok(()) => Poll::Pending,
            Err(deadlock) => Poll::Ready(Err(deadlock)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scope(keeps_order: bool) -> (Arc<CallSlots>, Option<Scope>) {
        let slots = Arc::<CallSlots>::default();
        let scope = Scope {
            name: "own".into(),
            slots: slots.clone(),
            keeps_order,
        };
        (slots, Some(scope))
    }

    #[test]
    fn call_of_the_own_component_lends_its_slot_while_it_waits() {
        let (slots, mut own) = scope(false);
        let mut loan = SlotLoan::default();
        assert_eq!(loan.begin("own"), Ok(()));
        assert_eq!(slots.lent(), 0, "no call is polled");
        enter(&mut own, || {
            assert_eq!(loan.begin("other"), Ok(()));
            assert_eq!(slots.lent(), 0);
            for _ in 0..2 {
                assert_eq!(loan.begin("own"), Ok(()));
                assert_eq!(slots.lent(), 1);
            }
            loan.end();
            assert_eq!(slots.lent(), 0);
            assert_eq!(loan.begin("own"), Ok(()));
        });
        drop(loan);
        assert_eq!(slots.lent(), 0);
    }

    #[test]
    fn number_of_lent_slots_is_bounded() {
        let (slots, _) = scope(false);
        let lent: Vec<_> = (0..=MAX_LENT).map(|_| slots.lend()).collect();
        assert_eq!(slots.lent(), MAX_LENT);
        assert!(lent[MAX_LENT as usize].is_none());
        drop(lent);
        assert_eq!(slots.lent(), 0);
    }

    #[test]
    fn inner_call_of_a_component_that_keeps_the_order_is_rejected() {
        let (slots, mut own) = scope(true);
        let mut loan = SlotLoan::default();
        let rejected = enter(&mut own, || loan.begin("own"));
        assert_eq!((rejected, slots.lent()), (Err(Deadlock), 0));
    }

    #[test]
    fn scope_ends_with_the_poll_and_scopes_nest() {
        let ((outer_slots, mut outer), (_, mut inner)) = (scope(false), scope(true));
        enter(&mut outer, || {
            let is_deadlock = enter(&mut inner, || SlotLoan::default().begin("own").is_err());
            assert!(is_deadlock);
            let panicked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
                enter(&mut inner, || panic!("a method panics"))
            }));
            assert!(panicked.is_err());
            let mut loan = SlotLoan::default();
            assert_eq!(loan.begin("own"), Ok(()));
            assert_eq!(outer_slots.lent(), 1);
        });
        assert_eq!(SlotLoan::default().begin("own"), Ok(()));
        assert!(outer.is_some() && inner.is_some());
    }
}

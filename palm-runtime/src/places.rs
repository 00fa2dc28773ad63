//! Calls that wait for calls of their own component lend their places.
//!
//! A component runs a limited number of calls at once. A method that calls its own component, as a worker its
//! master, would hold a place while it waits for the inner call, which needs one: as many such calls as there are
//! places would wait for each other for ever. So a call lends its place as long as it waits. The executor begins
//! another one, and a worker reports to its master that it runs one more.
//!
//! An executor publishes the [`Scope`] of the call that it polls in a thread-local. What a client waits with, a
//! [`Lending`], finds there whether the component that it calls is the one that runs it. Calls made in tasks that
//! a method has spawned, or on other threads, are not recognised.

use std::cell::RefCell;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytestring::ByteString;
use tokio::sync::watch;

/// How many places a component lends at most.
const MAX_LENT: u32 = 1000;

thread_local! {
    /// That of the call that this thread polls.
    static SCOPE: RefCell<Option<Scope>> = const { RefCell::new(None) };
}

/// How many places the calls of a component lend.
#[derive(Debug, Default)]
pub(crate) struct Places(watch::Sender<u32>);

impl Places {
    pub(crate) fn lent(&self) -> u32 {
        *self.0.borrow()
    }

    /// Follows [`lent`](Self::lent).
    pub(crate) fn subscribe(&self) -> watch::Receiver<u32> {
        self.0.subscribe()
    }

    fn lend(self: &Arc<Self>) -> Option<LentPlace> {
        let is_lent = self.0.send_if_modified(|lent| {
            let lends = *lent < MAX_LENT;
            *lent += u32::from(lends);
            lends
        });
        is_lent.then(|| LentPlace(self.clone()))
    }
}

/// A place that a call has lent. Dropping it takes the place back; until another call ends, one more runs than
/// there are places.
#[derive(Debug)]
struct LentPlace(Arc<Places>);

impl Drop for LentPlace {
    fn drop(&mut self) {
        self.0.0.send_modify(|lent| *lent -= 1);
    }
}

/// The component that runs a call.
#[derive(Debug, Clone)]
pub(crate) struct Scope {
    /// The name that it is called by: a worker's is its master's.
    pub(crate) name: ByteString,
    pub(crate) places: Arc<Places>,
    /// Whether answers leave in the order of the calls, so that no inner call can be answered.
    pub(crate) keeps_order: bool,
}

/// Publishes a scope while `poll` runs.
pub(crate) fn enter<T>(scope: &mut Option<Scope>, poll: impl FnOnce() -> T) -> T {
    /// Swaps back, also if the call panics.
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

/// The call cannot be answered, since it is made by one whose answer must leave first.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Deadlock;

/// The place of the call that waits, if it has lent it.
#[derive(Debug, Default)]
pub(crate) struct Waiting(Option<LentPlace>);

impl Waiting {
    /// To be called when an answer of `callee` has to be waited for.
    pub(crate) fn begin(&mut self, callee: &str) -> Result<(), Deadlock> {
        if self.0.is_some() {
            return Ok(());
        }
        SCOPE.with_borrow(|scope| match scope {
            Some(scope) if scope.name == callee => {
                if scope.keeps_order {
                    return Err(Deadlock);
                }
                self.0 = scope.places.lend();
                Ok(())
            }
            _ => Ok(()),
        })
    }

    /// To be called when there is an answer.
    pub(crate) fn end(&mut self) {
        self.0 = None;
    }
}

/// A future that waits for an answer of `callee`.
#[derive(Debug)]
pub(crate) struct Lending<'a, F> {
    callee: &'a str,
    future: Pin<&'a mut F>,
    waiting: Waiting,
}

impl<'a, F: Future> Lending<'a, F> {
    pub(crate) fn new(callee: &'a str, future: Pin<&'a mut F>) -> Self {
        Self {
            callee,
            future,
            waiting: Waiting::default(),
        }
    }
}

impl<F: Future> Future for Lending<'_, F> {
    type Output = Result<F::Output, Deadlock>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let Self {
            callee,
            future,
            waiting,
        } = &mut *self;
        if let Poll::Ready(output) = future.as_mut().poll(context) {
            waiting.end();
            return Poll::Ready(Ok(output));
        }
        match waiting.begin(callee) {
            Ok(()) => Poll::Pending,
            Err(deadlock) => Poll::Ready(Err(deadlock)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scope(keeps_order: bool) -> (Arc<Places>, Option<Scope>) {
        let places = Arc::<Places>::default();
        let scope = Scope {
            name: "own".into(),
            places: places.clone(),
            keeps_order,
        };
        (places, Some(scope))
    }

    #[test]
    fn call_of_the_own_component_lends_its_place_while_it_waits() {
        let (places, mut own) = scope(false);
        let mut waiting = Waiting::default();
        assert_eq!(waiting.begin("own"), Ok(()));
        assert_eq!(places.lent(), 0, "no call is polled");
        enter(&mut own, || {
            assert_eq!(waiting.begin("other"), Ok(()));
            assert_eq!(places.lent(), 0);
            for _ in 0..2 {
                assert_eq!(waiting.begin("own"), Ok(()));
                assert_eq!(places.lent(), 1);
            }
            waiting.end();
            assert_eq!(places.lent(), 0);
            assert_eq!(waiting.begin("own"), Ok(()));
        });
        drop(waiting);
        assert_eq!(places.lent(), 0);
    }

    #[test]
    fn number_of_lent_places_is_bounded() {
        let (places, _) = scope(false);
        let lent: Vec<_> = (0..=MAX_LENT).map(|_| places.lend()).collect();
        assert_eq!(places.lent(), MAX_LENT);
        assert!(lent[MAX_LENT as usize].is_none());
        drop(lent);
        assert_eq!(places.lent(), 0);
    }

    #[test]
    fn inner_call_of_a_component_that_keeps_the_order_is_refused() {
        let (places, mut own) = scope(true);
        let mut waiting = Waiting::default();
        let refused = enter(&mut own, || waiting.begin("own"));
        assert_eq!((refused, places.lent()), (Err(Deadlock), 0));
    }

    #[test]
    fn scope_ends_with_the_poll_and_scopes_nest() {
        let ((outer_places, mut outer), (_, mut inner)) = (scope(false), scope(true));
        enter(&mut outer, || {
            let is_deadlock = enter(&mut inner, || Waiting::default().begin("own").is_err());
            assert!(is_deadlock);
            let panicked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
                enter(&mut inner, || panic!("a method panics"))
            }));
            assert!(panicked.is_err());
            let mut waiting = Waiting::default();
            assert_eq!(waiting.begin("own"), Ok(()));
            assert_eq!(outer_places.lent(), 1);
        });
        assert_eq!(Waiting::default().begin("own"), Ok(()));
        assert!(outer.is_some() && inner.is_some());
    }
}

//! Futures that share a task: what one gives another is taken in the same turn, without asking the
//! scheduler.
//!
//! A message that goes through several tasks wakes each of them, and after a few the scheduler wakes another
//! thread for it, which takes longer than all that the tasks do. Futures in one task that are polled by
//! [`join!`](tokio::join) or `FuturesUnordered` wake their own task as well, which is then queued
//! behind others. Here whoever is woken while the task runs has its turn before that ends.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, Wake, Waker};

use futures_core::future::BoxFuture;
use futures_util::task::AtomicWaker;
use tokio::task::coop::has_budget_remaining;

/// How often futures have their turn until other tasks have theirs.
const MAX_ROUNDS: usize = 32;

/// Set while futures have their turn.
const RUNNING: u64 = 1 << 63;

/// Futures that share a task. Ends with the last of them.
pub(crate) struct Together {
    members: Vec<Option<TaskGroupMember>>,
    woken: Arc<WokenSet>,
}

struct TaskGroupMember {
    future: BoxFuture<'static, ()>,
    waker: Waker,
}

#[derive(Debug)]
struct WokenSet {
    /// A bit for each member that was woken, and [`RUNNING`].
    bits: AtomicU64,
    task: AtomicWaker,
}

/// What wakes one member.
#[derive(Debug)]
struct MemberWaker {
    bit: u64,
    woken: Arc<WokenSet>,
}

impl Wake for MemberWaker {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        if self.woken.bits.fetch_or(self.bit, Ordering::AcqRel) == 0 {
            self.woken.task.wake();
        }
    }
}

impl Together {
    /// How many can share a task.
    pub(crate) const MOST: usize = 63;

    /// Runs these, which have their turns in this order.
    ///
    /// # Panics
    ///
    /// When there are more than [`MOST`](Self::MOST).
    pub(crate) fn new(futures: impl IntoIterator<Item = BoxFuture<'static, ()>>) -> Self {
        let woken = Arc::new(WokenSet {
            bits: AtomicU64::new(0),
            task: AtomicWaker::new(),
        });
        let member = |(index, future)| {
            let (bit, woken) = (1_u64 << index, woken.clone());
            let waker = Arc::new(MemberWaker { bit, woken }).into();
            Some(TaskGroupMember { future, waker })
        };
        let members: Vec<_> = futures.into_iter().enumerate().map(member).collect();
        assert!(members.len() <= Self::MOST, "there is a bit for each");
        let all = (1_u64 << members.len()) - 1;
        woken.bits.store(all, Ordering::Release);
        Self { members, woken }
    }
}

impl Future for Together {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        let Self { members, woken } = &mut *self;
        woken.task.register(context.waker());
        for _ in 0..MAX_ROUNDS {
            let mut bits = woken.bits.swap(RUNNING, Ordering::AcqRel) & !RUNNING;
            if bits == 0 {
                break;
            }
            while bits != 0 {
                let member_slot = &mut members[bits.trailing_zeros() as usize];
                bits &= bits - 1;
                if let Some(TaskGroupMember { future, waker }) = member_slot
                    && let Poll::Ready(()) = future.as_mut().poll(&mut Context::from_waker(waker))
                {
                    *member_slot = None;
                }
            }
            if !has_budget_remaining() {
                break;
            }
        }
        if members.iter().all(Option::is_none) {
            return Poll::Ready(());
        }
        if woken.bits.fetch_and(!RUNNING, Ordering::AcqRel) != RUNNING {
            // They go on when other tasks have had their turn.
            context.waker().wake_by_ref();
        }
        Poll::Pending
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicUsize;
    use std::time::Duration;

    use futures_util::FutureExt;
    use tokio::sync::mpsc;

    use super::*;

    /// Counts how often its task is woken.
    #[derive(Default)]
    struct Count(AtomicUsize);

    impl Wake for Count {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Passes numbers on, one higher each, `depth` times.
    fn chain(
        depth: usize,
    ) -> (
        mpsc::UnboundedSender<u64>,
        mpsc::UnboundedReceiver<u64>,
        Together,
    ) {
        let (first, mut last) = mpsc::unbounded_channel::<u64>();
        let mut futures = Vec::new();
        for _ in 0..depth {
            let (sender, receiver) = mpsc::unbounded_channel();
            let mut from = std::mem::replace(&mut last, receiver);
            let step = async move {
                while let Some(number) = from.recv().await {
                    let _ = sender.send(number + 1);
                }
            };
            futures.push(step.boxed());
        }
        (first, last, Together::new(futures))
    }

    #[test]
    fn what_one_gives_another_is_taken_in_the_same_turn() {
        let (first, mut last, mut together) = chain(5);
        let count = Arc::new(Count::default());
        let waker = count.clone().into();
        let mut context = Context::from_waker(&waker);
        assert!(together.poll_unpin(&mut context).is_pending());
        assert_eq!(count.0.load(Ordering::Relaxed), 0);
        for number in 1..4 {
            first.send(number).unwrap();
            assert_eq!(count.0.load(Ordering::Relaxed), 1, "once, for all of them");
        }
        assert!(together.poll_unpin(&mut context).is_pending());
        assert_eq!(count.0.load(Ordering::Relaxed), 1, "it did not wake itself");
        let came: Vec<_> = std::iter::from_fn(|| last.try_recv().ok()).collect();
        assert_eq!(came, [6, 7, 8]);
        drop(first);
        assert!(together.poll_unpin(&mut context).is_ready());
    }

    #[test]
    fn nobody_is_done_at_once() {
        assert!(Together::new([]).now_or_never().is_some());
    }

    #[test]
    fn whoever_always_has_something_to_do_lets_others_have_their_turn() {
        let busy = futures_util::future::poll_fn(|context| {
            context.waker().wake_by_ref();
            Poll::<()>::Pending
        });
        let mut together = Together::new([busy.boxed()]);
        let count = Arc::new(Count::default());
        let waker = count.clone().into();
        let mut context = Context::from_waker(&waker);
        for turns in 1..4 {
            assert!(together.poll_unpin(&mut context).is_pending());
            assert_eq!(count.0.load(Ordering::Relaxed), turns);
        }
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn nothing_is_missed_that_comes_from_other_threads() {
        let (first, mut last, together) = chain(3);
        let running = tokio::spawn(together);
        let sum = async {
            let mut sum = 0;
            while let Some(number) = last.recv().await {
                sum += number - 3;
            }
            sum
        };
        let send = async move {
            for number in 0..10_000_u64 {
                first.send(number).unwrap();
                if number % 7 == 0 {
                    tokio::task::yield_now().await;
                }
            }
        };
        let limit = Duration::from_secs(30);
        let (sum, ()) = tokio::time::timeout(limit, async {
            tokio::join!(sum, tokio::spawn(send).map(Result::unwrap))
        })
        .await
        .unwrap();
        assert_eq!(sum, 9_999 * 10_000 / 2);
        running.await.unwrap();
    }
}

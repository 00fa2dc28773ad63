//! Futures that are polled in one task, and wake each other without the scheduler.
//!
//! A message that passes through several tasks wakes each of them, and after a few the scheduler wakes another
//! thread, which takes longer than the tasks' work. Futures that are polled by [`join!`](tokio::join) or
//! `FuturesUnordered` wake their own task as well, which is then queued behind others. A [`TaskGroup`] polls members
//! that are woken while it runs before it returns: tokio's LIFO slot does the same for one task.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, Wake, Waker};

use futures_core::future::BoxFuture;
use futures_util::task::AtomicWaker;
use tokio::task::coop::has_budget_remaining;

/// Number of rounds of woken members that are polled before other tasks run.
const MAX_ROUNDS: usize = 32;

/// The bit that is set while members are polled.
const RUNNING: u64 = 1 << 63;

/// Futures that are polled in one task. Completes with the last of them.
pub(crate) struct TaskGroup {
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

/// The waker of one member.
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

impl TaskGroup {
    /// Maximum number of futures in a group: each has one bit.
    pub(crate) const MAX_MEMBERS: usize = 63;

    /// Creates a group of futures, which are polled in this order.
    ///
    /// # Panics
    ///
    /// Panics if there are more than [`MAX_MEMBERS`](Self::MAX_MEMBERS).
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
        assert!(
            members.len() <= Self::MAX_MEMBERS,
            "there is a bit for each"
        );
        let all = (1_u64 << members.len()) - 1;
        woken.bits.store(all, Ordering::Release);
        Self { members, woken }
    }
}

impl Future for TaskGroup {
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
            // Woken members are polled after other tasks have run.
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

    /// A chain of `depth` members, each of which passes on numbers plus one.
    fn chain(
        depth: usize,
    ) -> (
        mpsc::UnboundedSender<u64>,
        mpsc::UnboundedReceiver<u64>,
        TaskGroup,
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
        (first, last, TaskGroup::new(futures))
    }

    #[test]
    fn message_passes_all_members_in_one_poll() {
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
    fn empty_group_completes_at_once() {
        assert!(TaskGroup::new([]).now_or_never().is_some());
    }

    #[test]
    fn busy_member_yields_to_other_tasks() {
        let busy = futures_util::future::poll_fn(|context| {
            context.waker().wake_by_ref();
            Poll::<()>::Pending
        });
        let mut together = TaskGroup::new([busy.boxed()]);
        let count = Arc::new(Count::default());
        let waker = count.clone().into();
        let mut context = Context::from_waker(&waker);
        for turns in 1..4 {
            assert!(together.poll_unpin(&mut context).is_pending());
            assert_eq!(count.0.load(Ordering::Relaxed), turns);
        }
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn wakeups_from_other_threads_are_not_missed() {
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

//! The bounded queue between two parts: a bound in messages and one in bytes.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use smallvec::{SmallVec, smallvec};
use tokio::sync::{AcquireError, Semaphore, SemaphorePermit, mpsc};

/// How much a queue holds before senders have to wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct QueueLimits {
    /// Messages. Default: 1000.
    pub messages: usize,
    /// Bytes of their payloads and headers. Default: 64 MiB. One message is always let in, however
    /// large it is.
    pub bytes: usize,
}

impl Default for QueueLimits {
    fn default() -> Self {
        Self {
            messages: 1000,
            bytes: 64 * 1024 * 1024,
        }
    }
}

pub(crate) fn queue<T>(limits: QueueLimits) -> (Sender<T>, Receiver<T>) {
    let room = Arc::new(Room {
        messages: Bound::new(limits.messages),
        bytes: Bound::new(limits.bytes),
    });
    // Bounded by the room.
    let (sender, receiver) = mpsc::unbounded_channel();
    let sender = Sender {
        batches: sender,
        room: room.clone(),
    };
    let receiver = Receiver {
        batches: receiver,
        room,
        made_room: false,
    };
    (sender, receiver)
}

/// One of the two bounds.
#[derive(Debug)]
struct Bound {
    free: Semaphore,
    limit: u32,
    /// How many wait for room.
    waiting: AtomicUsize,
}

impl Bound {
    fn new(limit: usize) -> Self {
        let limit = u32::try_from(limit).unwrap_or(u32::MAX).max(1);
        let limit = limit.min(u32::try_from(Semaphore::MAX_PERMITS).unwrap_or(u32::MAX));
        Self {
            free: Semaphore::new(limit as usize),
            limit,
            waiting: AtomicUsize::new(0),
        }
    }

    /// What `amount` takes of it: never more than there is.
    fn clamp(&self, amount: usize) -> u32 {
        u32::try_from(amount).unwrap_or(u32::MAX).min(self.limit)
    }

    async fn acquire(&self, amount: u32) -> Result<SemaphorePermit<'_>, AcquireError> {
        if let Ok(permit) = self.free.try_acquire_many(amount) {
            return Ok(permit);
        }
        self.waiting.fetch_add(1, Ordering::Relaxed);
        let _waits = Waits(&self.waiting);
        self.free.acquire_many(amount).await
    }

    /// Gives room back. Tells whether anybody waited for it.
    fn release(&self, amount: u32) -> bool {
        let waited = self.waiting.load(Ordering::Relaxed) > 0;
        self.free.add_permits(amount as usize);
        waited
    }

    fn used(&self) -> usize {
        (self.limit as usize).saturating_sub(self.free.available_permits())
    }
}

/// Somebody who waits, until it is dropped.
struct Waits<'a>(&'a AtomicUsize);

impl Drop for Waits<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// What a value takes of the room of a queue.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Weight {
    pub(crate) messages: usize,
    pub(crate) bytes: usize,
}

#[derive(Debug)]
struct Room {
    messages: Bound,
    bytes: Bound,
}

/// What was sent at once: it costs one step of the channel, however much it is.
#[derive(Debug)]
struct Batch<T> {
    values: SmallVec<[T; 1]>,
    messages: u32,
    bytes: u32,
}

#[derive(Debug)]
pub(crate) struct Sender<T> {
    batches: mpsc::UnboundedSender<Batch<T>>,
    room: Arc<Room>,
}

impl<T> Clone for Sender<T> {
    fn clone(&self) -> Self {
        Self {
            batches: self.batches.clone(),
            room: self.room.clone(),
        }
    }
}

/// The receiver is gone.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Closed;

impl<T> Sender<T> {
    /// Waits for room. Cancel safe: the value is in the queue or it is dropped with the future.
    pub(crate) async fn send(&self, value: T, bytes: usize) -> Result<(), Closed> {
        self.send_batch(1, bytes, || smallvec![value]).await
    }

    /// Sends all values, in their order; waits for room. `weigh` tells what one takes of it.
    ///
    /// Cancel safe: what is not in the queue is still in `values`.
    pub(crate) async fn send_all(
        &self,
        values: &mut Vec<T>,
        weigh: impl Fn(&T) -> Weight,
    ) -> Result<(), Closed> {
        while let Some(first) = values.first() {
            let most = BATCH_BYTES.min(self.room.bytes.limit as usize);
            let Weight {
                mut messages,
                mut bytes,
            } = weigh(first);
            let mut count = 1;
            for value in &values[1..] {
                let more = weigh(value);
                let more = Weight {
                    messages: messages.saturating_add(more.messages),
                    bytes: bytes.saturating_add(more.bytes),
                };
                if more.messages > self.room.messages.limit as usize || more.bytes > most {
                    break;
                }
                Weight { messages, bytes } = more;
                count += 1;
            }
            let take = || {
                if count < values.len() {
                    return values.drain(..count).collect();
                }
                // The next batch will be as large.
                let empty = Vec::with_capacity(count);
                SmallVec::from_vec(std::mem::replace(values, empty))
            };
            self.send_batch(messages, bytes, take).await?;
        }
        Ok(())
    }

    async fn send_batch(
        &self,
        messages: usize,
        bytes: usize,
        values: impl FnOnce() -> SmallVec<[T; 1]>,
    ) -> Result<(), Closed> {
        let room = &*self.room;
        let messages = room.messages.clamp(messages);
        let bytes = room.bytes.clamp(bytes);
        let places = room.messages.acquire(messages).await;
        let space = room.bytes.acquire(bytes).await;
        let (Ok(places), Ok(space)) = (places, space) else {
            return Err(Closed);
        };
        let batch = Batch {
            values: values(),
            messages,
            bytes,
        };
        self.batches.send(batch).map_err(|_| Closed)?;
        // The receiver gives both back when it takes the values.
        places.forget();
        space.forget();
        Ok(())
    }

    /// How many messages the queue holds.
    pub(crate) fn limit(&self) -> usize {
        self.room.messages.limit as usize
    }

    /// Whether the receiver is gone.
    pub(crate) fn is_closed(&self) -> bool {
        self.batches.is_closed()
    }

    pub(crate) fn gauge(&self) -> QueueGauge {
        QueueGauge(self.room.clone())
    }
}

/// The bytes of several values that are sent at once.
const BATCH_BYTES: usize = 1024 * 1024;

#[derive(Debug)]
pub(crate) struct Receiver<T> {
    batches: mpsc::UnboundedReceiver<Batch<T>>,
    room: Arc<Room>,
    /// Whether somebody has waited for room that was made.
    made_room: bool,
}

impl<T> Receiver<T> {
    /// Waits for a value and takes what was sent with it, and more until there are `enough`; adds
    /// none when no sender is left and the queue is empty. Cancel safe: nothing is lost.
    pub(crate) async fn recv_many(&mut self, out: &mut Vec<T>, enough: usize) -> usize {
        let before = out.len();
        let mut next = self.batches.recv().await;
        while let Some(batch) = next {
            self.release(&batch);
            out.extend(batch.values);
            if out.len() - before >= enough {
                break;
            }
            next = self.batches.try_recv().ok();
        }
        out.len() - before
    }
}

impl<T> Receiver<T> {
    /// Takes what is there.
    pub(crate) fn try_recv_all(&mut self, out: &mut Vec<T>) {
        while let Ok(batch) = self.batches.try_recv() {
            self.release(&batch);
            out.extend(batch.values);
        }
    }

    fn release(&mut self, batch: &Batch<T>) {
        self.made_room |= self.room.messages.release(batch.messages);
        self.made_room |= self.room.bytes.release(batch.bytes);
    }

    /// Whether somebody has waited for room that was made since this was asked last.
    pub(crate) fn made_room(&mut self) -> bool {
        std::mem::take(&mut self.made_room)
    }
}

impl<T> Drop for Receiver<T> {
    fn drop(&mut self) {
        // Whoever waits for room learns that there will be none.
        self.room.messages.free.close();
        self.room.bytes.free.close();
    }
}

/// Sight of how full a queue is.
#[derive(Debug)]
pub(crate) struct QueueGauge(Arc<Room>);

impl QueueGauge {
    pub(crate) fn messages(&self) -> usize {
        self.0.messages.used()
    }

    pub(crate) fn bytes(&self) -> usize {
        self.0.bytes.used()
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;

    fn weigh<T>(bytes: usize) -> impl Fn(&T) -> Weight {
        let messages = 1;
        move |_| Weight { messages, bytes }
    }

    #[tokio::test]
    async fn senders_wait_for_messages_and_for_bytes() {
        let limits = QueueLimits {
            messages: 3,
            bytes: 100,
        };
        let (sender, mut receiver) = queue(limits);
        let gauge = sender.gauge();
        sender.send("large", 1000).await.unwrap();
        assert!(sender.send("waits for bytes", 1).now_or_never().is_none());
        assert_eq!((gauge.messages(), gauge.bytes()), (1, 100));

        let mut taken = Vec::new();
        assert_eq!(receiver.recv_many(&mut taken, 10).await, 1);
        assert!(!receiver.made_room(), "who has waited does not any more");
        for _ in 0..3 {
            sender.send("small", 0).await.unwrap();
        }
        assert!(sender.send("waits for a place", 0).now_or_never().is_none());
        assert_eq!((gauge.messages(), gauge.bytes()), (3, 0));

        drop(sender);
        assert_eq!(receiver.recv_many(&mut taken, 10).await, 3);
        assert_eq!(receiver.recv_many(&mut taken, 10).await, 0);
        assert_eq!(gauge.messages(), 0);
    }

    #[tokio::test]
    async fn the_receiver_knows_whether_somebody_waited_for_room() {
        let limits = QueueLimits {
            messages: 1,
            bytes: 100,
        };
        let (sender, mut receiver) = queue(limits);
        sender.send("first", 1).await.unwrap();
        let mut second = std::pin::pin!(sender.send("second", 1));
        assert!(second.as_mut().now_or_never().is_none());
        let mut taken = Vec::new();
        receiver.recv_many(&mut taken, 1).await;
        assert!(receiver.made_room());
        assert!(!receiver.made_room());
        second.await.unwrap();
        receiver.recv_many(&mut taken, 1).await;
        assert!(!receiver.made_room());
    }

    #[tokio::test]
    async fn senders_learn_that_the_receiver_is_gone() {
        let (sender, receiver) = queue(QueueLimits::default());
        drop(receiver);
        assert_eq!(sender.send("x", 1).await, Err(Closed));
        let mut values = vec!["y"];
        assert_eq!(sender.send_all(&mut values, weigh(1)).await, Err(Closed));
        assert_eq!(values, ["y"]);
    }
    #[tokio::test]
    async fn many_are_sent_in_order_and_within_the_limits() {
        let limits = QueueLimits {
            messages: 3,
            bytes: 100,
        };
        let (sender, mut receiver) = queue(limits);
        let mut values: Vec<_> = (0..8).collect();
        let send = sender.send_all(&mut values, weigh(1));
        assert!(send.now_or_never().is_none());
        assert_eq!(values, [3, 4, 5, 6, 7]);
        let mut taken = Vec::new();
        receiver.recv_many(&mut taken, 1).await;
        let send = sender.send_all(&mut values, weigh(60));
        assert!(send.now_or_never().is_none());
        assert_eq!(receiver.recv_many(&mut taken, 10).await, 1);
        assert_eq!(taken, [0, 1, 2, 3]);
        assert_eq!(values, [4, 5, 6, 7]);
    }
}

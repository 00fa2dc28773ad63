//! The bounded queue between two parts: a bound in messages and one in bytes.

use std::sync::Arc;

use tokio::sync::{Semaphore, mpsc};

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
    let (sender, receiver) = mpsc::channel(limits.messages.max(1));
    let limit = u32::try_from(limits.bytes).unwrap_or(u32::MAX).max(1);
    let bytes = Arc::new(Semaphore::new(limit as usize));
    let sender = Sender {
        items: sender,
        bytes: bytes.clone(),
        limit,
    };
    let receiver = Receiver {
        items: receiver,
        bytes,
        taken: Vec::new(),
    };
    (sender, receiver)
}

#[derive(Debug)]
struct Item<T> {
    value: T,
    bytes: u32,
}

#[derive(Debug)]
pub(crate) struct Sender<T> {
    items: mpsc::Sender<Item<T>>,
    bytes: Arc<Semaphore>,
    limit: u32,
}

impl<T> Clone for Sender<T> {
    fn clone(&self) -> Self {
        Self {
            items: self.items.clone(),
            bytes: self.bytes.clone(),
            limit: self.limit,
        }
    }
}

impl<T> Sender<T> {
    /// Waits for room. `Err` gives the value back: the receiver is gone.
    ///
    /// Cancel safe: the value is in the queue or it is dropped with the future.
    pub(crate) async fn send(&self, value: T, bytes: usize) -> Result<(), T> {
        let bytes = u32::try_from(bytes).unwrap_or(u32::MAX).min(self.limit);
        let permit = match self.bytes.try_acquire_many(bytes) {
            Ok(permit) => permit,
            Err(_) => match self.bytes.acquire_many(bytes).await {
                Ok(permit) => permit,
                Err(_) => return Err(value),
            },
        };
        match self.items.send(Item { value, bytes }).await {
            Ok(()) => {
                // The receiver gives it back when it takes the value.
                permit.forget();
                Ok(())
            }
            Err(mpsc::error::SendError(item)) => Err(item.value),
        }
    }

    /// Whether the receiver is gone.
    pub(crate) fn is_closed(&self) -> bool {
        self.items.is_closed()
    }

    pub(crate) fn gauge(&self) -> QueueGauge
    where
        T: Send + 'static,
    {
        // A weak sender: a gauge must not keep the queue open.
        let items = self.items.downgrade();
        let messages = move || {
            items
                .upgrade()
                .map_or(0, |items| items.max_capacity() - items.capacity())
        };
        QueueGauge {
            messages: Box::new(messages),
            bytes: self.bytes.clone(),
            limit: self.limit,
        }
    }
}

#[derive(Debug)]
pub(crate) struct Receiver<T> {
    items: mpsc::Receiver<Item<T>>,
    bytes: Arc<Semaphore>,
    taken: Vec<Item<T>>,
}

impl<T> Receiver<T> {
    /// Waits for a value and takes up to `max` that are there; 0 when no sender is left and the
    /// queue is empty. Cancel safe: nothing is lost.
    pub(crate) async fn recv_many(&mut self, out: &mut Vec<T>, max: usize) -> usize {
        let count = self.items.recv_many(&mut self.taken, max).await;
        let mut bytes = 0;
        out.extend(self.taken.drain(..).map(|item| {
            bytes += item.bytes as usize;
            item.value
        }));
        self.bytes.add_permits(bytes);
        count
    }
}

impl<T> Drop for Receiver<T> {
    fn drop(&mut self) {
        // Whoever waits for bytes learns that nobody will take them.
        self.bytes.close();
    }
}

/// Sight of how full a queue is.
pub(crate) struct QueueGauge {
    messages: Box<dyn Fn() -> usize + Send + Sync>,
    bytes: Arc<Semaphore>,
    limit: u32,
}

impl QueueGauge {
    pub(crate) fn messages(&self) -> usize {
        (self.messages)()
    }

    pub(crate) fn bytes(&self) -> usize {
        (self.limit as usize).saturating_sub(self.bytes.available_permits())
    }
}

impl std::fmt::Debug for QueueGauge {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "QueueGauge({} messages)", self.messages())
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;

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
    async fn a_value_comes_back_when_the_receiver_is_gone() {
        let (sender, receiver) = queue(QueueLimits::default());
        drop(receiver);
        assert_eq!(sender.send("x", 1).await, Err("x"));
    }
}

//! [`Writer`]: encodes the queued messages to a peer, and writes them.
//!
//! The task of a connection writes all messages that are queued until it runs. A sender may write its message itself
//! ([`WriteBy::Sender`]) if no output waits: a call then does not wait until the task runs, often on another thread. A
//! sender that finds the writer locked, or cannot write everything, wakes the task for the rest.

use std::fmt;
use std::io;
use std::task::{Context, Poll, Waker, ready};

use super::super::kind::Kind;
use super::codec::{Codec, Output};
use super::outbox::{MAX_IDLE_CAPACITY, OutboxState};
use super::stream::WriteHalf;
use crate::socket::Frames;

/// Output that is written before further messages are encoded.
const WRITE_BYTES: usize = 64 * 1024;

/// Bytes of messages that are encoded at once.
const ENCODE_BYTES: usize = 1024 * 1024;

/// What writes a message to its connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum WriteBy {
    /// The task of the connection, with all that is queued until it runs.
    Task,
    /// The thread that sends, if the connection is idle.
    Sender,
}

/// The direction of a connection to its peer.
pub(super) struct Writer {
    stream: WriteHalf,
    output: Output,
    batch: Vec<Frames>,
    /// Number of frames of a message that are not sent: the routing id at a ROUTER.
    envelope: usize,
}

impl fmt::Debug for Writer {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = formatter.debug_struct("Writer");
        shown.field("output", &self.output.len());
        shown.finish_non_exhaustive()
    }
}

impl Writer {
    pub(super) fn new(stream: WriteHalf, kind: Kind) -> Self {
        Self {
            stream,
            output: Output::new(),
            batch: Vec::new(),
            envelope: usize::from(kind == Kind::Router),
        }
    }

    /// Returns whether all encoded output is written.
    pub(super) fn is_idle(&self) -> bool {
        self.output.is_empty()
    }

    /// Returns the bytes of commands among the output, such as answers to PINGs.
    pub(super) fn command_bytes(&self) -> usize {
        self.output.command_bytes()
    }

    /// Encodes the commands of the codec.
    pub(super) fn encode_commands(&mut self, codec: &mut Codec) {
        codec.take_commands(&mut self.output);
    }

    /// Returns whether the peer has to read before further messages are encoded.
    pub(super) fn is_full(&self) -> bool {
        self.output.len() >= WRITE_BYTES
    }

    /// Encodes queued messages, which `take` moves to a batch up to a number of bytes. Returns the state of the queue then,
    /// or `HasMessages` if the writer [is full](Self::is_full). Not for a SUB, whose messages are commands.
    pub(super) fn encode(
        &mut self,
        take: impl FnOnce(&mut Vec<Frames>, usize) -> OutboxState,
    ) -> OutboxState {
        if self.is_full() {
            return OutboxState::HasMessages;
        }
        let outbox = take(&mut self.batch, ENCODE_BYTES);
        for frames in self.batch.drain(..) {
            self.output.push(frames.into_iter().skip(self.envelope));
        }
        if self.batch.capacity() > MAX_IDLE_CAPACITY {
            self.batch = Vec::new();
        }
        outbox
    }

    /// Writes some of the output.
    pub(super) fn poll_write(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let Self { stream, output, .. } = self;
        let written = output.with_chunks(|chunks| stream.poll_write(context, chunks));
        match ready!(written)? {
            0 => Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
            count => {
                output.advance(count);
                Poll::Ready(Ok(()))
            }
        }
    }

    /// [Encodes](Self::encode) and writes queued messages from the thread that sends them. Returns whether nothing is left
    /// for the task of the connection, which polls for the rest, and learns that a write has failed.
    pub(super) fn write_now(
        &mut self,
        take: impl FnOnce(&mut Vec<Frames>, usize) -> OutboxState,
    ) -> bool {
        if !self.is_idle() || self.encode(take) != OutboxState::Empty {
            return false;
        }
        if self.is_idle() {
            // The task has written them.
            return true;
        }
        let mut context = Context::from_waker(Waker::noop());
        matches!(self.poll_write(&mut context), Poll::Ready(Ok(()))) && self.is_idle()
    }

    /// Closes the direction to the peer.
    pub(super) fn poll_shutdown(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.stream.poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use std::iter;
    use std::sync::Arc;
    use std::time::Duration;

    use bytes::Bytes;
    use futures_util::FutureExt as _;
    use tokio::runtime::{Builder, Runtime};
    use tokio_util::sync::CancellationToken;

    use super::super::peer::Peer;
    use super::super::stream::Stream;
    use super::*;
    use crate::socket::{Address, Dealer, Router, SocketOptions};

    const LIMIT: Duration = Duration::from_secs(10);

    fn runtime() -> Runtime {
        Builder::new_current_thread().enable_all().build().unwrap()
    }

    fn message(body: Bytes) -> Frames {
        iter::once(body).collect()
    }

    /// Receives `count` messages, and returns them without their routing ids.
    async fn receive(router: &mut Router, count: usize) -> Vec<Bytes> {
        let mut received = Vec::new();
        while received.len() < count {
            let arrived = tokio::time::timeout(LIMIT, router.recv_many(&mut received, count));
            arrived.await.expect("messages arrive").unwrap();
        }
        received.into_iter().map(|mut it| it.remove(1)).collect()
    }

    /// Binds a ROUTER and connects a DEALER, which has sent a first message.
    async fn pair(address: &str) -> (Router, Dealer) {
        let options = SocketOptions::default();
        let address: Address = address.parse().unwrap();
        let (mut router, address) = Router::bind(&address, &options).await.unwrap();
        let dealer = Dealer::connect(&address, &options).await.unwrap();
        dealer
            .send(message(Bytes::from_static(b"hello")))
            .await
            .unwrap();
        assert_eq!(receive(&mut router, 1).await, ["hello"]);
        (router, dealer)
    }

    #[test]
    fn sender_wakes_the_task_only_for_what_it_leaves() {
        let (stream, _far) = tokio::io::duplex(64 * 1024);
        let (_, write) = Stream::Inproc(stream).split();
        let peer = Peer::new(Arc::default(), CancellationToken::new());
        let writer = peer.open_writer(Writer::new(write, Kind::Dealer));
        let is_woken_by = |bytes: usize| {
            let body = Bytes::from(vec![0; bytes]);
            let is_first = peer.queue(message(body), 10, WriteBy::Sender).unwrap();
            assert!(is_first, "all earlier messages are written or encoded");
            peer.write_now();
            peer.wake.notified().now_or_never().is_some()
        };
        assert!(!is_woken_by(10));
        peer.set_keeps_received(true);
        assert!(is_woken_by(10), "to deliver what it has received");
        peer.set_keeps_received(false);
        assert!(!is_woken_by(10));
        assert!(is_woken_by(100_000), "for the rest");
        drop(writer);
        peer.take_unsent();
        assert!(is_woken_by(10), "the connection is closed");
    }

    #[test]
    fn sender_writes_to_an_idle_connection_while_no_task_runs() {
        let (sender_side, receiver_side) = (runtime(), runtime());
        let options = SocketOptions::default();
        let bound = receiver_side.block_on(async {
            let address = "tcp://127.0.0.1:0".parse().unwrap();
            Router::bind(&address, &options).await.unwrap()
        });
        let (mut router, address) = bound;
        let (first, is_first) = std::sync::mpsc::channel();
        let receiver = std::thread::spawn(move || {
            receiver_side.block_on(async {
                receive(&mut router, 1).await;
                first.send(()).unwrap();
                receive(&mut router, 1).await
            })
        });
        let dealer = sender_side.block_on(async {
            let dealer = Dealer::connect(&address, &options).await.unwrap();
            dealer
                .send(message(Bytes::from_static(b"hello")))
                .await
                .unwrap();
            // The task of the connection runs while the first message is received.
            let wait = tokio::task::spawn_blocking(move || is_first.recv_timeout(LIMIT));
            wait.await.unwrap().unwrap();
            dealer
        });
        let body = Bytes::from_static(b"at once");
        dealer
            .sender()
            .try_send(message(body), WriteBy::Sender)
            .unwrap();
        // The runtime of the DEALER's tasks is not polled meanwhile.
        assert_eq!(receiver.join().unwrap(), ["at once"]);
    }

    #[test]
    fn messages_of_sender_and_task_arrive_in_order_when_the_peer_reads_slowly() {
        for address in ["tcp://127.0.0.1:0", "ipc://@*", "inproc://*"] {
            runtime().block_on(async {
                let (mut router, dealer) = pair(address).await;
                let sender = dealer.sender();
                let mut expected = Vec::new();
                // More than the system and the queues of the peer hold, so writes are incomplete.
                for number in 0..600_u32 {
                    let mut body = vec![0; 16 * 1024 * (number as usize % 3)];
                    body.extend_from_slice(&number.to_be_bytes());
                    let body = Bytes::from(body);
                    expected.push(body.clone());
                    let by = match number % 5 {
                        0 => WriteBy::Task,
                        _ => WriteBy::Sender,
                    };
                    sender.try_send(message(body), by).unwrap();
                    if number % 100 == 0 {
                        tokio::task::yield_now().await;
                    }
                }
                assert!(receive(&mut router, 600).await == expected, "{address}");
            });
        }
    }
}

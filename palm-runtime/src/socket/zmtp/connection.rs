//! One connection: handshake, then messages both ways.
//!
//! A connection is read while its messages fit into the [inbox](super::inbox) and there is memory for the message that it is
//! receiving. Its task locks the inbox once for each read of the socket, and the receive budget only for messages of more than
//! [`ALLOWANCE`] bytes.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::io;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use tokio::time::{Instant, Sleep};

use super::super::kind::Kind;
use super::super::subscriptions::SubscriptionRequest;
use super::MAX_TAKEN;
use super::codec::{ALLOWANCE, Codec, Role, Step, ZmtpError, frames};
use super::core::Core;
use super::inbox::Received;
use super::message_memory::MessageMemory;
use super::outbox::{MAX_IDLE_CAPACITY, OutboxState};
use super::peer::{OpenWriter, Peer, Rejected};
use super::stream::{ReadHalf, Stream};
use super::writer::Writer;

/// Smallest and largest number of bytes that a read is prepared for. A full read doubles it, a small one halves it.
const READ_BYTES: std::ops::RangeInclusive<usize> = 4 * 1024..=32 * 1024;

/// Number of bytes that a read is prepared for after a large frame. The beginning of the next one is copied.
const LARGE_READ_BYTES: usize = 4 * 1024;

/// Bytes of answers to PINGs that a peer may leave unread before it is not read any more.
const MAX_ANSWER_BYTES: usize = 16 * 1024;

/// Time in which the peer may close a connection that was closed here, so that it reads what was sent before.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(1);

/// Why a connection ended.
#[derive(Debug, thiserror::Error)]
pub(super) enum ConnectionEnd {
    #[error("the peer closed it")]
    Peer(#[source] io::Error),
    #[error(transparent)]
    Malformed(#[from] ZmtpError),
    #[error("no handshake in time")]
    HandshakeTimeout,
    #[error(transparent)]
    Rejected(#[from] Rejected),
    #[error("no sign of life")]
    Silent,
    #[error("it stopped within a message while others wait for memory")]
    Stalled,
    #[error("it was closed here")]
    Closed,
}

impl From<io::Error> for ConnectionEnd {
    fn from(error: io::Error) -> Self {
        Self::Peer(error)
    }
}

/// Runs a connection to its end.
pub(super) async fn run(core: Arc<Core>, stream: Stream, role: Role, peer: Arc<Peer>) {
    let (stream, write) = stream.split();
    let mut connection = Connection {
        core: &core,
        peer: &peer,
        writer: peer.open_writer(Writer::new(write, core.kind)),
        stream,
        codec: Codec::new(
            role,
            core.kind,
            core.options.max_message_bytes,
            core.buffers.clone(),
        ),
        read_bytes: *READ_BYTES.start(),
        envelope: None,
        received: VecDeque::new(),
        memory: MessageMemory::new(),
        timer: None,
    };
    let end = tokio::select! {
        end = connection.serve() => end.err(),
        () = peer.closed.cancelled() => None,
    };
    core.remove(&peer);
    match end {
        Some(ConnectionEnd::Stalled) => core.log_stalled(&connection.stream.peer()),
        Some(end) => tracing::debug!(peer = connection.stream.peer(), "connection closed: {end}"),
        None => {}
    }
}

struct Connection<'a> {
    core: &'a Core,
    peer: &'a Arc<Peer>,
    writer: OpenWriter<'a>,
    stream: ReadHalf,
    codec: Codec,
    read_bytes: usize,
    /// The first frame of all messages at a ROUTER.
    envelope: Option<Bytes>,
    /// Decoded messages that the inbox has no capacity for.
    received: VecDeque<Received>,
    memory: MessageMemory,
    timer: Option<Pin<Box<Sleep>>>,
}

/// What a connection has waited for.
#[derive(Default)]
struct Turn {
    written: Option<io::Result<()>>,
    read: Option<io::Result<usize>>,
    is_granted: bool,
    is_woken: bool,
    is_timer: bool,
}

impl Turn {
    fn is_empty(&self) -> bool {
        self.written.is_none()
            && self.read.is_none()
            && !self.is_granted
            && !self.is_woken
            && !self.is_timer
    }
}

impl Connection<'_> {
    async fn serve(&mut self) -> Result<(), ConnectionEnd> {
        let handshake = tokio::time::timeout(
            self.core.options.handshake_timeout,
            // It is large, and ends soon.
            Box::pin(self.shake_hands()),
        );
        let routing_id = match handshake.await {
            Ok(Ok(routing_id)) => routing_id,
            Ok(Err(end)) => {
                self.write_rest().await;
                return Err(end);
            }
            Err(_) => return Err(ConnectionEnd::HandshakeTimeout),
        };
        self.envelope = self.core.introduce(self.peer, routing_id)?;
        self.exchange().await
    }

    /// Returns the routing id that the peer chose.
    async fn shake_hands(&mut self) -> Result<Bytes, ConnectionEnd> {
        loop {
            let step = self.codec.step(ALLOWANCE);
            // It precedes the messages to the peer, which may be sent from now on.
            self.writer.with(|it| it.encode_commands(&mut self.codec));
            match step? {
                Step::Introduced(routing_id) => return Ok(routing_id),
                // It ends after the handshake, so there are no messages.
                Step::Messages | Step::NeedsMemory(_) | Step::Incomplete => {}
            }
            if self.core.closing.is_cancelled() {
                return Err(ConnectionEnd::Closed);
            }
            let turn = self.turn(true).await;
            self.apply_io(turn.written, turn.read)?;
        }
    }

    /// Writes what is left for the peer, such as why its handshake is rejected, if the system accepts it.
    async fn write_rest(&mut self) {
        poll_fn(|context| {
            self.writer.with(|it| {
                while !it.is_idle() && matches!(it.poll_write(context), Poll::Ready(Ok(()))) {}
            });
            Poll::Ready(())
        })
        .await;
    }

    async fn exchange(&mut self) -> Result<(), ConnectionEnd> {
        self.set_timer();
        self.decode()?;
        loop {
            let outbox = self.encode()?;
            let (is_idle, commands) = self.writer.with(|it| (it.is_idle(), it.command_bytes()));
            if outbox == OutboxState::Finished && is_idle {
                return self.close().await;
            }
            let reads = outbox != OutboxState::Finished
                && self.received.is_empty()
                && !self.memory.is_waiting()
                && commands < MAX_ANSWER_BYTES;
            let turn = self.turn(reads).await;
            let has_read = turn.read.is_some();
            self.apply_io(turn.written, turn.read)?;
            if has_read {
                self.peer.activity.set_heard(self.core.now());
            }
            if has_read || turn.is_granted || !self.received.is_empty() {
                self.decode()?;
            }
            if turn.is_timer {
                self.on_timer()?;
            }
        }
    }

    /// Waits until there is something to do, and reads and writes once. Cancel safe.
    async fn turn(&mut self, reads: bool) -> Turn {
        let Self {
            peer,
            writer,
            stream,
            codec,
            read_bytes,
            memory,
            timer,
            ..
        } = self;
        let mut woken = pin!(peer.wake.notified());
        poll_fn(|context| {
            let written = writer.with(|writer| match writer.is_idle() {
                true => None,
                false => ready(writer.poll_write(context)),
            });
            let mut turn = Turn {
                written,
                ..Turn::default()
            };
            if reads {
                turn.read = ready(poll_read(stream, codec, read_bytes, context));
            }
            turn.is_granted = memory.poll_granted(context).is_ready();
            if turn.is_empty() {
                turn.is_woken = woken.as_mut().poll(context).is_ready();
                turn.is_timer = match timer {
                    Some(timer) => timer.as_mut().poll(context).is_ready(),
                    None => false,
                };
            }
            match turn.is_empty() {
                true => Poll::Pending,
                false => Poll::Ready(turn),
            }
        })
        .await
    }

    fn apply_io(
        &mut self,
        written: Option<io::Result<()>>,
        read: Option<io::Result<usize>>,
    ) -> Result<(), ConnectionEnd> {
        if written.transpose()?.is_some() && self.core.kind == Kind::Publish {
            self.peer.note_written();
        }
        match read.transpose()? {
            Some(0) => return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into()),
            Some(count) => self.memory.add_progress(count),
            None => {}
        }
        Ok(())
    }

    /// Decodes what was read, and delivers the messages.
    fn decode(&mut self) -> Result<(), ConnectionEnd> {
        loop {
            self.encode()?;
            if self.deliver() {
                break;
            }
            match self.codec.step(ALLOWANCE.max(self.memory.bytes()))? {
                Step::Messages if !self.core.receives() => self.take_requests()?,
                Step::Messages => {
                    for message in self.codec.take_messages() {
                        let bytes = message.byte_len();
                        self.received.push_back(Received {
                            frames: frames(self.envelope.as_ref(), message),
                            bytes,
                            reservation: None,
                        });
                    }
                    if let Some(memory) = self.memory.take()
                        && let Some(last) = self.received.back_mut()
                    {
                        last.reservation = Some(memory);
                        self.read_bytes = LARGE_READ_BYTES;
                    }
                }
                Step::NeedsMemory(bytes) => {
                    if !self.has_memory(bytes) {
                        break;
                    }
                }
                Step::Introduced(_) => {}
                Step::Incomplete => break,
            }
        }
        Ok(())
    }

    /// Takes the subscription requests of a subscriber. Nothing else is expected from the peer of a PUB or PUSH.
    fn take_requests(&mut self) -> Result<(), ConnectionEnd> {
        let mut requests = self.codec.take_subscription_requests();
        let messages = self.codec.take_messages();
        requests
            .extend(messages.filter_map(|it| SubscriptionRequest::from_message(&frames(None, it))));
        for request in requests {
            self.core.request_subscription(self.peer, request)?;
            self.peer.activity.set_active();
        }
        Ok(())
    }

    /// Delivers the decoded messages. Returns whether some do not fit.
    fn deliver(&mut self) -> bool {
        if !self.received.is_empty() {
            self.peer.activity.set_active();
            self.peer.set_keeps_received(true);
            let unsent = self.unsent();
            let inbox = &self.core.inbox;
            let peer = self.peer;
            inbox.push(peer.number, &peer.wake, &mut self.received, unsent);
            peer.set_keeps_received(!self.received.is_empty());
            if self.received.is_empty() && self.received.capacity() > MAX_IDLE_CAPACITY {
                self.received = VecDeque::new();
            }
        }
        !self.received.is_empty()
    }

    /// Returns whether there is memory for `needed` bytes of the incomplete message. It is granted later otherwise.
    fn has_memory(&mut self, needed: usize) -> bool {
        let options = &self.core.options;
        if self.memory.next_check(options).is_none() && options.zmtp_heartbeat.is_some() {
            // It may be too late. A timer for an earlier message is not.
            self.timer = None;
        }
        let is_known = self.peer.activity.is_active();
        let number = self.peer.number;
        let has_memory = self.memory.request(number, needed, is_known, options);
        self.set_timer();
        has_memory
    }

    /// Sets the timer if there is something to wait for.
    fn set_timer(&mut self) {
        if self.timer.is_some() {
            return;
        }
        let options = &self.core.options;
        let receive = self.memory.next_check(options);
        if let Some(time) = receive.into_iter().chain(options.zmtp_heartbeat).min() {
            self.timer = Some(Box::pin(tokio::time::sleep(time)));
        }
    }

    /// Closes a connection that keeps memory from others without using it, and one without a sign of life.
    fn on_timer(&mut self) -> Result<(), ConnectionEnd> {
        let options = &self.core.options;
        if self.received.is_empty() && self.memory.is_stalled(options) {
            return Err(ConnectionEnd::Stalled);
        }
        if let Some(heartbeat) = options.zmtp_heartbeat {
            let is_read = self.received.is_empty() && !self.memory.is_waiting();
            let silence = self.core.now().saturating_sub(self.peer.activity.heard());
            if is_read && silence > 2 * heartbeat {
                return Err(ConnectionEnd::Silent);
            }
            if is_read && silence >= heartbeat {
                self.codec.send_ping()?;
            }
        }
        self.timer = None;
        self.set_timer();
        Ok(())
    }

    /// Returns the number of messages that were taken from the inbox, or answered, and are not encoded yet.
    ///
    /// The queue to a peer that reads slowly so has capacity for the answers to all that were received from it.
    fn unsent(&self) -> usize {
        if self.core.kind != Kind::Router {
            return 0;
        }
        let taken = MAX_TAKEN.min(self.core.queue_len() / 2);
        self.peer.queued_output() + taken
    }

    /// Encodes queued messages. Returns the state of the queue then, or `HasMessages` while the peer does not read.
    fn encode(&mut self) -> Result<OutboxState, ConnectionEnd> {
        let Self { peer, codec, .. } = self;
        self.writer.with(|writer| {
            writer.encode_commands(codec);
            if self.core.kind != Kind::Subscribe {
                return Ok(writer.encode(|batch, bytes| peer.take_output(batch, bytes)));
            }
            if writer.is_full() {
                return Ok(OutboxState::HasMessages);
            }
            let mut requests = Vec::new();
            let outbox = peer.take_output(&mut requests, usize::MAX);
            let requests = requests
                .iter()
                .filter_map(SubscriptionRequest::from_message);
            for request in requests {
                codec.send_subscription(request)?;
            }
            writer.encode_commands(codec);
            Ok(outbox)
        })
    }

    /// Ends a connection. What the peer still sends is read for a moment: the system would otherwise discard what the
    /// peer has not read.
    async fn close(&mut self) -> Result<(), ConnectionEnd> {
        poll_fn(|context| self.writer.with(|it| it.poll_shutdown(context))).await?;
        let deadline = Instant::now() + CLOSE_TIMEOUT;
        let mut unread = vec![0; 16 * 1024];
        while let Ok(Ok(1..)) =
            tokio::time::timeout_at(deadline, self.stream.read(&mut unread)).await
        {}
        Err(ConnectionEnd::Closed)
    }
}

/// Reads once: the rest of a large frame, or whatever there is.
fn poll_read(
    stream: &mut ReadHalf,
    codec: &mut Codec,
    read_bytes: &mut usize,
    context: &mut Context<'_>,
) -> Poll<io::Result<usize>> {
    // Memory is taken once there are bytes.
    match stream.poll_read_ready(context) {
        Poll::Ready(Ok(())) => {}
        Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
        Poll::Pending => {
            codec.release_buffers();
            return Poll::Pending;
        }
    }
    if let Some((payload, missing)) = codec.large_payload() {
        return stream.poll_read(context, payload, missing);
    }
    let limit = *read_bytes;
    let read = stream.poll_read(context, codec.input(limit), limit);
    match read {
        Poll::Ready(Ok(count)) if count == limit => {
            *read_bytes = (limit * 2).min(*READ_BYTES.end());
        }
        Poll::Ready(Ok(count)) if count < limit / 4 => {
            *read_bytes = (limit / 2).max(*READ_BYTES.start());
        }
        Poll::Ready(_) => {}
        Poll::Pending => codec.release_buffers(),
    }
    read
}

fn ready<T>(poll: Poll<T>) -> Option<T> {
    match poll {
        Poll::Ready(value) => Some(value),
        Poll::Pending => None,
    }
}

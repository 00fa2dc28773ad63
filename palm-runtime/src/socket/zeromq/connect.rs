//! The tasks of connecting sockets, one for each address.

use std::collections::BTreeSet;
use std::sync::Arc;

use bytes::{BufMut, Bytes, BytesMut};
use futures_util::StreamExt as _;
use tokio::sync::{Semaphore, mpsc};
use zeromq::{PushSocket, Socket as _, SocketEvent, SocketSend, XSubSocket, ZmqMessage};

use super::native::{NativeSocket, message};
use super::{ConnectionLost, Kind, SocketCore};
use crate::socket::{Address, Frames};

/// Messages that one native socket may hold unwritten. Fewer than its queue admits, so that sending never waits.
const MAX_UNWRITTEN: usize = 128;

/// The messages and subscriptions for an address, which outlast each connection to it.
pub(super) struct SendQueue {
    pub(super) sender: mpsc::Sender<Frames>,
    pub(super) queue: mpsc::Receiver<Frames>,
    /// A message that the native socket did not accept.
    pub(super) returned: Option<Frames>,
    wanted: BTreeSet<Bytes>,
    changes: mpsc::UnboundedReceiver<(Bytes, bool)>,
    unwritten: Arc<Semaphore>,
}

impl SendQueue {
    pub(super) fn new(
        queue_len: usize,
        wanted: BTreeSet<Bytes>,
        changes: mpsc::UnboundedReceiver<(Bytes, bool)>,
    ) -> Self {
        let (sender, queue) = mpsc::channel(queue_len);
        let unwritten = Arc::new(Semaphore::new(queue_len.min(MAX_UNWRITTEN)));
        Self {
            sender,
            queue,
            returned: None,
            wanted,
            changes,
            unwritten,
        }
    }

    /// Sends queued messages until the connection is lost, which is an error, or until all are sent and the socket is
    /// closing. Cancel safe: no message is lost.
    pub(super) async fn send_all(
        &mut self,
        core: &SocketCore,
        socket: &mut impl SocketSend,
    ) -> Result<(), ConnectionLost> {
        loop {
            let permit = self
                .unwritten
                .clone()
                .acquire_owned()
                .await
                .map_err(|_| ConnectionLost)?;
            let frames = match self.returned.take() {
                Some(frames) => frames,
                None => tokio::select! {
                    biased;
                    Some(frames) = self.queue.recv() => frames,
                    () = core.closing.cancelled() => return Ok(()),
                },
            };
            core.capacity.notify_waiters();
            // Never waits, because the permits are fewer than the capacity of the crate's queue.
            let sent = socket.send(message(frames.clone(), Some(permit))).await;
            if sent.is_err() {
                self.returned = Some(frames);
                return Err(ConnectionLost);
            }
        }
    }

    /// Applies a change of the subscriptions, and returns the message that requests it.
    fn change(&mut self, (prefix, wanted): (Bytes, bool)) -> ZmqMessage {
        let mut frame = BytesMut::with_capacity(1 + prefix.len());
        frame.put_u8(wanted.into());
        frame.put_slice(&prefix);
        if wanted {
            self.wanted.insert(prefix);
        } else {
            self.wanted.remove(&prefix);
        }
        frame.freeze().into()
    }
}

/// Connects to an address, and again with backoff after each loss of the connection.
pub(super) async fn stay_connected(core: Arc<SocketCore>, address: Address, mut queue: SendQueue) {
    let options = &core.options;
    let (shortest, longest) = (options.min_reconnect_delay, options.max_reconnect_delay);
    let mut delay = shortest;
    loop {
        let connected = match core.kind {
            Kind::Push => push(&core, &address, &mut queue).await,
            Kind::Subscribe => subscribe(&core, &address, &mut queue).await,
            // A PUB binds; the others run on no backend.
            Kind::Publish | Kind::Pull | Kind::Router | Kind::Dealer => return,
        };
        if core.closing.is_cancelled() && queue.queue.is_empty() {
            return;
        }
        delay = if connected {
            shortest
        } else {
            (delay * 2).min(longest)
        };
        // Jitter, so that the peers of a restarted component do not all reconnect at the same moment.
        let jitter = u32::from(uuid::Uuid::new_v4().as_bytes()[0]);
        tokio::select! {
            () = tokio::time::sleep(delay + delay * jitter / 1024) => {}
            () = core.closing.cancelled(), if queue.queue.is_empty() => return,
        }
    }
}

/// Connects a native socket. Returns `None` if no peer accepts in time.
async fn connect<'a, S: zeromq::Socket>(
    core: &'a SocketCore,
    address: &Address,
    socket: &mut S,
    queue_is_empty: bool,
) -> Option<ConnectedPeer<'a>> {
    // The crate retries with delays that grow from 50 ms. A new attempt begins before they get too long.
    let timeout = (core.options.max_reconnect_delay * 2).min(core.options.handshake_timeout);
    let address = address.to_string();
    tokio::select! {
        connected = tokio::time::timeout(timeout, socket.connect(&address)) => {
            connected.ok()?.ok()?;
        }
        () = core.closing.cancelled(), if queue_is_empty => return None,
    }
    core.peer_connected();
    Some(ConnectedPeer(core))
}

/// Counts a peer as connected until it is dropped.
struct ConnectedPeer<'a>(&'a SocketCore);

impl Drop for ConnectedPeer<'_> {
    fn drop(&mut self) {
        self.0.peer_disconnected();
    }
}

async fn disconnected(monitor: &mut (impl futures_core::Stream<Item = SocketEvent> + Unpin)) {
    while let Some(event) = monitor.next().await {
        if let SocketEvent::Disconnected(_) = event {
            return;
        }
    }
}

/// Runs one connection of a PUSH. Returns whether it was established, as the functions below do.
async fn push(core: &Arc<SocketCore>, address: &Address, queue: &mut SendQueue) -> bool {
    let mut native = NativeSocket::<PushSocket>::new();
    let mut monitor = native.socket.monitor();
    let connected = connect(core, address, &mut native.socket, queue.queue.is_empty()).await;
    let Some(_connected) = connected else {
        return false;
    };
    let registration = core.register(queue.sender.clone());
    let drained = tokio::select! {
        biased;
        () = disconnected(&mut monitor) => false,
        sent = queue.send_all(core, &mut native.socket) => sent.is_ok(),
    };
    drop(registration);
    if drained {
        drop(native.socket);
        native.backend.flushed(1).await;
    }
    true
}

/// Runs one connection of a SUB, with the crate's XSUB, because its SUB accepts only topics that are text.
async fn subscribe(core: &SocketCore, address: &Address, queue: &mut SendQueue) -> bool {
    let mut native = NativeSocket::<XSubSocket>::new();
    let mut monitor = native.socket.monitor();
    while let Ok(change) = queue.changes.try_recv() {
        queue.change(change);
    }
    for prefix in queue.wanted.clone() {
        // The crate queues subscriptions until the socket has connected.
        let _ = native.socket.send(queue.change((prefix, true))).await;
    }
    let Some(_connected) = connect(core, address, &mut native.socket, true).await else {
        return false;
    };
    loop {
        tokio::select! {
            biased;
            () = core.closing.cancelled() => return true,
            Some(change) = queue.changes.recv() => {
                if native.socket.send(queue.change(change)).await.is_err() {
                    return true;
                }
            }
            received = core.receive(&mut native.socket) => {
                if received.is_err() {
                    return true;
                }
            }
            () = disconnected(&mut monitor) => return true,
        }
    }
}

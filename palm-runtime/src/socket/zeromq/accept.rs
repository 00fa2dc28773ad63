//! The tasks of bound sockets.

use std::collections::BTreeSet;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::StreamExt as _;
use tokio::sync::mpsc;
use zeromq::util::PeerIdentity;
use zeromq::{PushSocket, SocketEvent, SocketRecv, SocketSend, XPubSocket};

use super::bound::BoundListener;
use super::connect::SendQueue;
use super::native::{NativeSocket, POLL_INTERVAL, message};
use super::{SocketCore, queue_len};
use crate::log_limit::LimitLog;

type Monitor = std::pin::Pin<Box<dyn futures_core::Stream<Item = SocketEvent> + Send>>;

/// Accepts peers into one native socket after the other, and runs `serve` for each of them.
///
/// A native socket stops listening once its first peer has completed the handshake. Peers whose handshakes complete in
/// that moment share it.
pub(super) async fn accept<S, F>(
    core: Arc<SocketCore>,
    bound: BoundListener,
    serve: impl Fn(Arc<SocketCore>, PeerGroup<S>) -> F + Send,
) where
    S: zeromq::Socket + 'static,
    F: Future<Output = ()> + Send + 'static,
{
    let mut log = LimitLog::default();
    while !core.closing.is_cancelled() {
        let mut native = NativeSocket::<S>::new();
        let mut monitor: Monitor = Box::pin(native.socket.monitor());
        let endpoint = match bound.share() {
            Ok(listener) => native.socket.bind_listener(listener).await.ok(),
            Err(_) => None,
        };
        let Some(endpoint) = endpoint else {
            // The process has probably no free file descriptors.
            tokio::time::sleep(core.options.max_reconnect_delay).await;
            continue;
        };
        let first = async {
            loop {
                if let SocketEvent::Accepted(_, name) = monitor.next().await? {
                    return Some(name.into());
                }
            }
        };
        let first = core.closing.run_until_cancelled(first).await.flatten();
        let _ = native.socket.unbind(endpoint).await;
        if let Some(first) = first {
            core.peer_connected();
            let names = vec![first];
            let group = PeerGroup {
                native,
                monitor,
                names,
            };
            let max_connections = core.options.max_connections;
            if core.peers.borrow().count > max_connections {
                core.peer_disconnected();
                let is_replaced = core.remove_unsubscribed();
                if let Some(times) = log.record(crate::clock::now()) {
                    tracing::warn!(
                        times,
                        max_connections,
                        "closing connections: the socket has `SocketOptions::max_connections`"
                    );
                }
                if !is_replaced {
                    continue;
                }
            }
            core.clone().spawn(serve(core.clone(), group));
        }
    }
}

/// A native socket that accepted peers, usually one.
pub(super) struct PeerGroup<S: zeromq::Socket> {
    native: NativeSocket<S>,
    monitor: Monitor,
    names: Vec<Bytes>,
}

impl<S: zeromq::Socket> Drop for PeerGroup<S> {
    fn drop(&mut self) {
        // A dropped XPUB of the crate keeps its connections.
        for name in self.names.drain(..) {
            if let Ok(name) = PeerIdentity::try_from(name) {
                self.native.backend.0.peer_disconnected(&name);
            }
        }
    }
}

impl<S: zeromq::Socket> PeerGroup<S> {
    /// Counts a peer that connected or disconnected. Returns whether the group has peers.
    fn apply(&mut self, core: &SocketCore, event: Option<SocketEvent>) -> bool {
        if let Some(event) = &event {
            core.apply(event);
        }
        match event {
            Some(SocketEvent::Accepted(_, name)) => self.names.push(name.into()),
            Some(SocketEvent::Disconnected(name)) => self.names.retain(|known| **known != *name),
            _ => {}
        }
        !self.names.is_empty()
    }

    /// Removes disconnected peers, and returns whether any peers remain in the group.
    ///
    /// The crate's XPUB does not report them, but it drops the names of peers that have left: such a name has no reference
    /// but the one here.
    fn remove_departed(&mut self, core: &SocketCore) -> bool {
        let before = self.names.len();
        self.names.retain(|name| !name.is_unique());
        for _ in self.names.len()..before {
            core.peer_disconnected();
        }
        !self.names.is_empty()
    }
}

/// Sends the messages of a bound PUSH to a group of peers.
pub(super) async fn send_to_group(core: Arc<SocketCore>, mut group: PeerGroup<PushSocket>) {
    let changes = mpsc::unbounded_channel().1;
    let mut send_queue = SendQueue::new(queue_len(&core.options), BTreeSet::new(), changes);
    let registration = core.register(send_queue.sender.clone());
    loop {
        let drained = tokio::select! {
            biased;
            event = group.monitor.next() => {
                if !group.apply(&core, event) {
                    break;
                }
                false
            }
            sent = send_queue.send_all(&core, &mut group.native.socket) => sent.is_ok(),
        };
        if drained {
            // Two owners are no writers: this group and the native socket.
            return group.native.backend.flushed(2).await;
        }
    }
    drop(registration);
    send_queue.queue.close();
    let mut state = core.state();
    state.left_over.extend(send_queue.returned.take());
    while let Ok(frames) = send_queue.queue.try_recv() {
        state.left_over.push_back(frames);
    }
    state.enqueue_left_over();
}

/// Sends the publications of a bound PUB to a group of subscribers, and reports their subscriptions.
pub(super) async fn publish_to_group(core: Arc<SocketCore>, mut group: PeerGroup<XPubSocket>) {
    let (sender, mut queue) = mpsc::channel(queue_len(&core.options));
    let registration = core.register(sender);
    let mut look = tokio::time::interval(POLL_INTERVAL);
    loop {
        tokio::select! {
            biased;
            received = group.native.socket.recv() => {
                if let Ok(message) = received {
                    core.apply_subscription(registration.id, message);
                } else if !group.remove_departed(&core) {
                    return;
                }
            }
            frames = queue.recv() => {
                // The queue ends when the socket is closing and all messages were sent.
                let Some(frames) = frames else { return };
                core.capacity.notify_waiters();
                let sent = group.native.socket.send(message(frames, None));
                let sent = tokio::time::timeout(core.options.slow_subscriber_timeout, sent).await;
                if !matches!(sent, Ok(Ok(()))) {
                    break;
                }
            }
            event = group.monitor.next() => {
                if !group.apply(&core, event) {
                    return;
                }
            }
            _ = look.tick() => {
                if !group.remove_departed(&core) {
                    return;
                }
            }
        }
    }
    // The native socket does not report which peer stopped reading, so all peers of the group are disconnected.
    for _ in &group.names {
        core.peer_disconnected();
    }
}

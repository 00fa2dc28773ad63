//! Sockets that are bound.

use std::collections::BTreeSet;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::StreamExt as _;
use tokio::sync::mpsc;
use zeromq::util::PeerIdentity;
use zeromq::{
    PullSocket, PushSocket, RouterSocket, Socket as _, SocketEvent, SocketRecv, SocketSend,
    XPubSocket, ZmqMessage,
};

use super::bound::BoundListener;
use super::connect::SendQueue;
use super::native::{NativeSocket, POLL_INTERVAL, message};
use super::{SocketCore, queue_len};

type Monitor = std::pin::Pin<Box<dyn futures_core::Stream<Item = SocketEvent> + Send>>;

/// Accepts into one socket after the other, each for the peers that introduce themselves at once.
pub(super) async fn accept<S, F>(
    core: Arc<SocketCore>,
    bound: BoundListener,
    serve: impl Fn(Arc<SocketCore>, PeerGroup<S>) -> F + Send,
) where
    S: zeromq::Socket + 'static,
    F: Future<Output = ()> + Send + 'static,
{
    while !core.closing.is_cancelled() {
        let mut native = NativeSocket::<S>::new();
        let mut monitor: Monitor = Box::pin(native.socket.monitor());
        let endpoint = match bound.share() {
            Ok(listener) => native.socket.bind_listener(listener).await.ok(),
            Err(_) => None,
        };
        let Some(endpoint) = endpoint else {
            // Out of file descriptors, most likely.
            tokio::time::sleep(core.options.reconnect.1).await;
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
            core.clone().spawn(serve(core.clone(), group));
        }
    }
}

/// A bound socket of the crate and its peers: one of them, mostly.
pub(super) struct PeerGroup<S: zeromq::Socket> {
    native: NativeSocket<S>,
    monitor: Monitor,
    names: Vec<Bytes>,
}

impl<S: zeromq::Socket> Drop for PeerGroup<S> {
    fn drop(&mut self) {
        // The crate's XPUB keeps its connections otherwise, even when it is dropped.
        for name in self.names.drain(..) {
            if let Ok(name) = PeerIdentity::try_from(name) {
                self.native.backend.0.peer_disconnected(&name);
            }
        }
    }
}

impl<S: zeromq::Socket> PeerGroup<S> {
    /// Counts the peers of the group that came or went, and says whether one is left.
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

    /// The crate's XPUB does not tell that a peer went, but it keeps the name of each peer that it
    /// has: a name that is only here is that of one that has gone.
    fn remove_departed(&mut self, core: &SocketCore) -> bool {
        let before = self.names.len();
        self.names.retain(|name| !name.is_unique());
        for _ in self.names.len()..before {
            core.peer_disconnected();
        }
        !self.names.is_empty()
    }
}

/// PUSH, bound.
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
            // The socket itself owns the backend, too.
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

/// PUB, bound.
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
                // No further one only when the socket is closing and everything is sent.
                let Some(frames) = frames else { return };
                core.capacity.notify_waiters();
                let sent = group.native.socket.send(message(frames, None));
                let sent = tokio::time::timeout(core.options.slow_consumer_timeout, sent).await;
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
    // Whoever stopped reading, all peers of this socket lose their connection.
    for _ in &group.names {
        core.peer_disconnected();
    }
}

/// PULL, bound.
pub(super) async fn receive_from_all(
    core: Arc<SocketCore>,
    _bound: BoundListener,
    mut native: NativeSocket<PullSocket>,
) {
    let mut monitor = native.socket.monitor();
    loop {
        tokio::select! {
            biased;
            () = core.closing.cancelled() => break,
            Some(event) = monitor.next() => core.apply(&event),
            // An error is that of one peer, which the crate drops.
            _ = core.receive(&mut native.socket) => {}
        }
    }
    native.socket.unbind_all().await;
}

/// ROUTER, bound.
pub(super) async fn route(
    core: Arc<SocketCore>,
    _bound: BoundListener,
    mut native: NativeSocket<RouterSocket>,
    mut outbox: mpsc::UnboundedReceiver<ZmqMessage>,
) {
    let mut monitor = native.socket.monitor();
    let (mut sender, mut receiver) = native.socket.split();
    loop {
        tokio::select! {
            biased;
            Some(event) = monitor.next() => {
                core.apply(&event);
                if let SocketEvent::Disconnected(name) = event {
                    core.state().routes.remove(&name[..]);
                }
            }
            message = outbox.recv() => match message {
                // An error says that the peer has gone.
                Some(message) => drop(sender.send(message).await),
                // The socket is closing and everything is sent.
                None => break,
            },
            _ = core.receive(&mut receiver) => {}
        }
    }
    drop((sender, receiver));
    native.backend.flushed(1).await;
}

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

use super::bound::Bound;
use super::connect::Line;
use super::native::{LOOK, Open, message};
use super::{Core, queue_len};

type Monitor = std::pin::Pin<Box<dyn futures_core::Stream<Item = SocketEvent> + Send>>;

/// Accepts into one socket after the other, each for the peers that introduce themselves at once.
pub(super) async fn accept<S, F>(
    core: Arc<Core>,
    bound: Bound,
    serve: impl Fn(Arc<Core>, Group<S>) -> F + Send,
) where
    S: zeromq::Socket + 'static,
    F: Future<Output = ()> + Send + 'static,
{
    while !core.closing.is_cancelled() {
        let mut open = Open::<S>::new();
        let mut monitor: Monitor = Box::pin(open.socket.monitor());
        let endpoint = match bound.share() {
            Ok(listener) => open.socket.bind_listener(listener).await.ok(),
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
        let _ = open.socket.unbind(endpoint).await;
        if let Some(first) = first {
            core.peer_came();
            let names = vec![first];
            let group = Group {
                open,
                monitor,
                names,
            };
            core.clone().spawn(serve(core.clone(), group));
        }
    }
}

/// A bound socket of the crate and its peers: one of them, mostly.
pub(super) struct Group<S: zeromq::Socket> {
    open: Open<S>,
    monitor: Monitor,
    names: Vec<Bytes>,
}

impl<S: zeromq::Socket> Drop for Group<S> {
    fn drop(&mut self) {
        // The crate's XPUB keeps its connections otherwise, even when it is dropped.
        for name in self.names.drain(..) {
            if let Ok(name) = PeerIdentity::try_from(name) {
                self.open.end.0.peer_disconnected(&name);
            }
        }
    }
}

impl<S: zeromq::Socket> Group<S> {
    /// Counts the peers of the group that came or went, and says whether one is left.
    fn take_notice(&mut self, core: &Core, event: Option<SocketEvent>) -> bool {
        if let Some(event) = &event {
            core.take_notice(event);
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
    fn look(&mut self, core: &Core) -> bool {
        let before = self.names.len();
        self.names.retain(|name| !name.is_unique());
        for _ in self.names.len()..before {
            core.peer_went();
        }
        !self.names.is_empty()
    }
}

/// PUSH, bound.
pub(super) async fn send_to_group(core: Arc<Core>, mut group: Group<PushSocket>) {
    let changes = mpsc::unbounded_channel().1;
    let mut line = Line::new(queue_len(&core.options), BTreeSet::new(), changes);
    let entered = core.enter(line.sender.clone());
    loop {
        let drained = tokio::select! {
            biased;
            event = group.monitor.next() => {
                if !group.take_notice(&core, event) {
                    break;
                }
                false
            }
            sent = line.send_all(&core, &mut group.open.socket) => sent.is_ok(),
        };
        if drained {
            // The socket itself owns the backend, too.
            return group.open.end.written(2).await;
        }
    }
    drop(entered);
    line.queue.close();
    let mut state = core.state();
    state.left_over.extend(line.returned.take());
    while let Ok(frames) = line.queue.try_recv() {
        state.left_over.push_back(frames);
    }
    state.place_left_over();
}

/// PUB, bound.
pub(super) async fn publish_to_group(core: Arc<Core>, mut group: Group<XPubSocket>) {
    let (sender, mut queue) = mpsc::channel(queue_len(&core.options));
    let entered = core.enter(sender);
    let mut look = tokio::time::interval(LOOK);
    loop {
        tokio::select! {
            biased;
            received = group.open.socket.recv() => {
                if let Ok(message) = received {
                    core.take_notice_of_subscription(entered.id, message);
                } else if !group.look(&core) {
                    return;
                }
            }
            frames = queue.recv() => {
                // No further one only when the socket is closing and everything is sent.
                let Some(frames) = frames else { return };
                core.room.notify_waiters();
                let sent = group.open.socket.send(message(frames, None));
                let sent = tokio::time::timeout(core.options.slow_consumer_timeout, sent).await;
                if !matches!(sent, Ok(Ok(()))) {
                    break;
                }
            }
            event = group.monitor.next() => {
                if !group.take_notice(&core, event) {
                    return;
                }
            }
            _ = look.tick() => {
                if !group.look(&core) {
                    return;
                }
            }
        }
    }
    // Whoever stopped reading, all peers of this socket lose their connection.
    for _ in &group.names {
        core.peer_went();
    }
}

/// PULL, bound.
pub(super) async fn receive_from_all(core: Arc<Core>, _bound: Bound, mut open: Open<PullSocket>) {
    let mut monitor = open.socket.monitor();
    loop {
        tokio::select! {
            biased;
            () = core.closing.cancelled() => break,
            Some(event) = monitor.next() => core.take_notice(&event),
            // An error is that of one peer, which the crate drops.
            _ = core.receive(&mut open.socket) => {}
        }
    }
    open.socket.unbind_all().await;
}

/// ROUTER, bound.
pub(super) async fn route(
    core: Arc<Core>,
    _bound: Bound,
    mut open: Open<RouterSocket>,
    mut outbox: mpsc::UnboundedReceiver<ZmqMessage>,
) {
    let mut monitor = open.socket.monitor();
    let (mut sender, mut receiver) = open.socket.split();
    loop {
        tokio::select! {
            biased;
            Some(event) = monitor.next() => {
                core.take_notice(&event);
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
    open.end.written(1).await;
}

//! Sockets that connect, again and again.

use std::collections::BTreeSet;
use std::sync::Arc;

use bytes::{BufMut, Bytes, BytesMut};
use futures_util::StreamExt as _;
use tokio::sync::{Semaphore, mpsc};
use zeromq::{
    DealerSocket, PullSocket, PushSocket, Socket as _, SocketEvent, SocketSend, XSubSocket,
    ZmqMessage,
};

use super::native::{Open, message};
use super::{Core, Failure, Kind};
use crate::socket::{Address, Frames};

/// Messages of one socket of the crate that may wait in its queue to be written.
const UNDER_WAY: usize = 128;

/// What belongs to an address that is connected to, over all connections to it.
pub(super) struct Line {
    pub(super) sender: mpsc::Sender<Frames>,
    pub(super) queue: mpsc::Receiver<Frames>,
    /// What the crate did not take.
    pub(super) returned: Option<Frames>,
    wanted: BTreeSet<Bytes>,
    changes: mpsc::UnboundedReceiver<(Bytes, bool)>,
    under_way: Arc<Semaphore>,
}

impl Line {
    pub(super) fn new(
        queue_len: usize,
        wanted: BTreeSet<Bytes>,
        changes: mpsc::UnboundedReceiver<(Bytes, bool)>,
    ) -> Self {
        let (sender, queue) = mpsc::channel(queue_len);
        let under_way = Arc::new(Semaphore::new(queue_len.min(UNDER_WAY)));
        Self {
            sender,
            queue,
            returned: None,
            wanted,
            changes,
            under_way,
        }
    }

    /// Sends what comes until the connection ends, which is an error, or until everything is sent
    /// when the socket is closing. Dropping this future loses nothing.
    pub(super) async fn send_all(
        &mut self,
        core: &Core,
        socket: &mut impl SocketSend,
    ) -> Result<(), Failure> {
        loop {
            let permit = self
                .under_way
                .clone()
                .acquire_owned()
                .await
                .map_err(|_| Failure)?;
            let frames = match self.returned.take() {
                Some(frames) => frames,
                None => tokio::select! {
                    biased;
                    Some(frames) = self.queue.recv() => frames,
                    () = core.closing.cancelled() => return Ok(()),
                },
            };
            core.room.notify_waiters();
            // Never waits: the permits are fewer than the places in the crate's queue.
            let sent = socket.send(message(frames.clone(), Some(permit))).await;
            if sent.is_err() {
                self.returned = Some(frames);
                return Err(Failure);
            }
        }
    }

    /// Takes over one change of what is wanted.
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

/// Connects to an address, again and again.
pub(super) async fn keep_connected(core: Arc<Core>, address: Address, mut line: Line) {
    let (shortest, longest) = core.options.reconnect;
    let mut pause = shortest;
    loop {
        let connected = match core.kind {
            Kind::Push => push(&core, &address, &mut line).await,
            Kind::Pull => pull(&core, &address).await,
            Kind::Subscribe => subscribe(&core, &address, &mut line).await,
            Kind::Dealer => deal(&core, &address, &mut line).await,
            Kind::Publish | Kind::Router => return,
        };
        if core.closing.is_cancelled() && line.queue.is_empty() {
            return;
        }
        pause = if connected {
            shortest
        } else {
            (pause * 2).min(longest)
        };
        // Ends do not all come back at the same moment.
        let jitter = u32::from(uuid::Uuid::new_v4().as_bytes()[0]);
        tokio::select! {
            () = tokio::time::sleep(pause + pause * jitter / 1024) => {}
            () = core.closing.cancelled(), if line.queue.is_empty() => return,
        }
    }
}

/// Connects one socket; `None` when that takes too long or nobody is there.
async fn connect<'a, S: zeromq::Socket>(
    core: &'a Core,
    address: &Address,
    socket: &mut S,
    line_is_empty: bool,
) -> Option<Connected<'a>> {
    // The crate tries again when nobody is there, after 50 ms and then ever more rarely: it begins
    // anew before that takes too long.
    let timeout = (core.options.reconnect.1 * 2).min(core.options.handshake_timeout);
    let address = address.to_string();
    tokio::select! {
        connected = tokio::time::timeout(timeout, socket.connect(&address)) => {
            connected.ok()?.ok()?;
        }
        () = core.closing.cancelled(), if line_is_empty => return None,
    }
    core.peer_came();
    Some(Connected(core))
}

/// Counts a peer as connected while it lives.
struct Connected<'a>(&'a Core);

impl Drop for Connected<'_> {
    fn drop(&mut self) {
        self.0.peer_went();
    }
}

async fn disconnected(monitor: &mut (impl futures_core::Stream<Item = SocketEvent> + Unpin)) {
    while let Some(event) = monitor.next().await {
        if let SocketEvent::Disconnected(_) = event {
            return;
        }
    }
}

/// PUSH, connecting. Like all of these, says in the end whether it was connected.
async fn push(core: &Arc<Core>, address: &Address, line: &mut Line) -> bool {
    let mut open = Open::<PushSocket>::new();
    let mut monitor = open.socket.monitor();
    let connected = connect(core, address, &mut open.socket, line.queue.is_empty()).await;
    let Some(_connected) = connected else {
        return false;
    };
    let entered = core.enter(line.sender.clone());
    let drained = tokio::select! {
        biased;
        () = disconnected(&mut monitor) => false,
        sent = line.send_all(core, &mut open.socket) => sent.is_ok(),
    };
    drop(entered);
    if drained {
        drop(open.socket);
        open.end.written(1).await;
    }
    true
}

/// PULL, connecting.
async fn pull(core: &Core, address: &Address) -> bool {
    let mut open = Open::<PullSocket>::new();
    let mut monitor = open.socket.monitor();
    let Some(_connected) = connect(core, address, &mut open.socket, true).await else {
        return false;
    };
    tokio::select! {
        biased;
        () = core.closing.cancelled() => {}
        () = async { while core.receive(&mut open.socket).await.is_ok() {} } => {}
        () = disconnected(&mut monitor) => {}
    }
    true
}

/// SUB: the crate's XSUB, for the sake of topics that are no text.
async fn subscribe(core: &Core, address: &Address, line: &mut Line) -> bool {
    let mut open = Open::<XSubSocket>::new();
    let mut monitor = open.socket.monitor();
    while let Ok(change) = line.changes.try_recv() {
        line.change(change);
    }
    for prefix in line.wanted.clone() {
        // The crate keeps these for the peer that it connects to.
        let _ = open.socket.send(line.change((prefix, true))).await;
    }
    let Some(_connected) = connect(core, address, &mut open.socket, true).await else {
        return false;
    };
    loop {
        tokio::select! {
            biased;
            () = core.closing.cancelled() => return true,
            Some(change) = line.changes.recv() => {
                if open.socket.send(line.change(change)).await.is_err() {
                    return true;
                }
            }
            received = core.receive(&mut open.socket) => {
                if received.is_err() {
                    return true;
                }
            }
            () = disconnected(&mut monitor) => return true,
        }
    }
}

/// DEALER.
async fn deal(core: &Arc<Core>, address: &Address, line: &mut Line) -> bool {
    let mut open = Open::<DealerSocket>::new();
    let mut monitor = open.socket.monitor();
    let connected = connect(core, address, &mut open.socket, line.queue.is_empty()).await;
    let Some(_connected) = connected else {
        return false;
    };
    let (mut sender, mut receiver) = open.socket.split();
    let entered = core.enter(line.sender.clone());
    let drained = tokio::select! {
        biased;
        () = async { while core.receive(&mut receiver).await.is_ok() {} } => false,
        sent = line.send_all(core, &mut sender) => sent.is_ok(),
        () = disconnected(&mut monitor) => false,
    };
    drop((entered, sender, receiver));
    if drained {
        open.end.written(1).await;
    }
    true
}

//! The backend on the crate `omq-tokio`, whose sockets run as tasks of the current tokio runtime.
//!
//! This module adds missing functions of the crate: it reconnects when the crate stops trying ([`keep_connecting`]),
//! limits the connections of a bound socket ([`limit_connections`]), and ends receivers whose runtime is shut down
//! ([`close_when_driver_is_gone`]). [`configure`] has all settings.

use std::collections::{BTreeMap, HashMap};
use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};
use std::task::{Context, Waker};
use std::time::{Duration, Instant};

use bytes::Bytes;
use omq_tokio::{
    Endpoint, KeepAlive, Message, MonitorEvent, MonitorRecvError, MonitorStream, Options,
    ReconnectPolicy, SocketType,
};
use tokio_util::sync::{CancellationToken, DropGuard};
use tokio_util::task::AbortOnDropHandle;

use super::kind::Kind;
use super::options::{Kill, SocketOptions};
use super::subscriptions::SubscriptionEvent;
use super::{Address, Frames, SocketClosed, TrySendError};
use crate::clock;
use crate::log_limit::LimitLog;

/// A socket of `omq-tokio` with palm's settings.
#[derive(Debug)]
pub(super) struct Socket {
    native: omq_tokio::Socket,
    kind: Kind,
    closed: AtomicBool,
    /// The longest delay before a reconnection.
    delay: Duration,
    connections: Mutex<HashMap<Address, AbortOnDropHandle<()>>>,
    max_connections: usize,
    /// Closes connections beyond `max_connections`, for a socket that binds.
    limiter: OnceLock<AbortOnDropHandle<()>>,
    kill: Kill,
}

impl Drop for Socket {
    fn drop(&mut self) {
        self.kill.close(|| {
            let (native, driver) = (self.native.clone(), self.native.clone_shared());
            async move {
                let _ = native.close_with_linger(Some(Duration::ZERO)).await;
                // The driver holds the bound addresses.
                let _ = tokio::time::timeout(Duration::from_secs(1), driver_gone(&driver)).await;
            }
        });
    }
}

impl Socket {
    pub(super) fn new(kind: Kind, options: &SocketOptions) -> Self {
        let (socket_type, native) = configure(kind, options);
        Self {
            native: omq_tokio::Socket::new(socket_type, native),
            kind,
            closed: AtomicBool::new(false),
            delay: options.max_reconnect_delay,
            connections: Mutex::default(),
            max_connections: options.max_connections,
            limiter: OnceLock::new(),
            kill: options.kill.clone(),
        }
    }

    pub(super) async fn bind(&self, address: &Address) -> io::Result<Address> {
        if let Some(path) = address.ipc_path() {
            reject_path_in_use(path).await?;
        }
        if self.limiter.get().is_none() {
            let (native, monitor) = (self.native.clone_shared(), self.native.monitor());
            let limiter = limit_connections(native, monitor, self.kind, self.max_connections);
            let _ = self
                .limiter
                .set(AbortOnDropHandle::new(tokio::spawn(limiter)));
        }
        let address = address.with_unused_name();
        let bound = self.native.bind(&*address.to_string()).await;
        let endpoint = bound.map_err(|error| match error {
            omq_tokio::Error::InvalidEndpoint(_) if address.is_inproc() => {
                io::ErrorKind::AddrInUse.into()
            }
            error => to_io(error),
        })?;
        endpoint.to_string().parse().map_err(io::Error::other)
    }

    pub(super) async fn connect(&self, address: &Address) -> io::Result<()> {
        let endpoint: Endpoint = address.to_string().parse().map_err(to_io)?;
        let monitor = self.native.monitor();
        let connecting = match self.native.connect(endpoint.clone()).await {
            Ok(()) => true,
            // The host is not found yet.
            Err(omq_tokio::Error::Io(_)) => false,
            Err(error) => return Err(to_io(error)),
        };
        let native = self.native.clone_shared();
        let keep = keep_connecting(native, monitor, endpoint, connecting, self.delay);
        let keep = AbortOnDropHandle::new(tokio::spawn(keep));
        self.connections().insert(address.clone(), keep);
        Ok(())
    }

    fn connections(&self) -> MutexGuard<'_, HashMap<Address, AbortOnDropHandle<()>>> {
        self.connections
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) async fn disconnect(&self, address: &Address) -> io::Result<()> {
        drop(self.connections().remove(address));
        match self.native.disconnect(&*address.to_string()).await {
            Ok(()) | Err(omq_tokio::Error::Unroutable) => Ok(()),
            Err(error) => Err(to_io(error)),
        }
    }

    pub(super) async fn subscribe(&self, prefix: Bytes) -> Result<(), SocketClosed> {
        self.native
            .subscribe(prefix)
            .await
            .map_err(|_| SocketClosed)
    }

    pub(super) async fn unsubscribe(&self, prefix: Bytes) -> Result<(), SocketClosed> {
        self.native
            .unsubscribe(prefix)
            .await
            .map_err(|_| SocketClosed)
    }

    /// Returns whether a peer has completed its handshake, for sockets that need one to send.
    ///
    /// Without this check, the crate queues messages for a peer during its handshake, and drops them if that fails.
    pub(super) fn has_peer(&self) -> bool {
        !matches!(self.kind, Kind::Push | Kind::Dealer) || self.native.ready_peer_count() > 0
    }

    pub(super) fn try_send(&self, frames: Frames) -> Result<(), TrySendError<Frames>> {
        if self.kill.is_ordered() {
            return Err(TrySendError::Closed(SocketClosed));
        }
        if !self.has_peer() && !self.closed.load(Ordering::Acquire) {
            return Err(TrySendError::Full(frames));
        }
        match self.native.try_send(message(frames)) {
            Ok(()) => Ok(()),
            Err(omq_tokio::TrySendError::Full(message)) => {
                Err(TrySendError::Full(message.iter().collect()))
            }
            Err(_) => Err(TrySendError::Closed(SocketClosed)),
        }
    }

    pub(super) async fn send(&self, frames: Frames) -> Result<(), SocketClosed> {
        loop {
            if self.kill.is_ordered() {
                return Err(SocketClosed);
            }
            let seen = self.peers_generation();
            if self.has_peer() {
                break;
            }
            self.peers_changed(seen).await?;
        }
        self.native
            .send(message(frames))
            .await
            .map_err(|_| SocketClosed)
    }

    pub(super) async fn peers(&self) -> Result<usize, SocketClosed> {
        let peers = self.native.connections().await.map_err(|_| SocketClosed)?;
        Ok(peers.iter().filter(|peer| peer.peer_info.is_some()).count())
    }

    pub(super) fn peers_generation(&self) -> u64 {
        self.native.connections_generation()
    }

    pub(super) async fn peers_changed(&self, seen: u64) -> Result<(), SocketClosed> {
        match self.native.connections_changed(seen).await {
            Ok(_) => Ok(()),
            Err(_) => Err(SocketClosed),
        }
    }

    pub(super) async fn subscription_events(&self) -> Result<SubscriptionEvents, SocketClosed> {
        let (monitor, peers) = self
            .native
            .monitor_with_subscriptions()
            .await
            .map_err(|_| SocketClosed)?;
        let now = clock::now();
        let known = peers
            .into_iter()
            .flat_map(|peer| {
                let id = peer.peer.connection_id;
                let added = peer.prefixes.into_iter();
                added.map(move |prefix| SubscriptionEvent::Added(id, prefix, now))
            })
            .collect();
        Ok(SubscriptionEvents {
            known,
            connected: HashMap::new(),
            monitor,
        })
    }

    pub(super) fn departures(&self) -> Departures {
        Departures(self.native.monitor())
    }

    pub(super) async fn close(&self, linger: Duration) {
        self.closed.store(true, Ordering::Release);
        // With a linger of zero, the crate does not wait for its driver, which holds the address.
        let linger = linger.max(Duration::from_millis(1));
        // The crate consumes one handle to close the socket of all.
        let _ = self.native.clone().close_with_linger(Some(linger)).await;
    }

    pub(super) fn receiver(&self) -> Receiver {
        let stop = CancellationToken::new();
        tokio::spawn(close_when_driver_is_gone(
            CloseOnDrop(Some(self.native.clone_shared())),
            stop.clone(),
        ));
        Receiver {
            socket: self.native.clone_shared(),
            messages: Vec::new(),
            _guard: stop.drop_guard(),
        }
    }
}

/// The receiving side of a socket.
#[derive(Debug)]
pub(super) struct Receiver {
    socket: omq_tokio::Socket,
    /// A buffer that batches reuse.
    messages: Vec<Message>,
    /// Ends the task that watches the driver.
    _guard: DropGuard,
}

impl Receiver {
    pub(super) async fn recv_many(
        &mut self,
        out: &mut Vec<Frames>,
        max: usize,
    ) -> Result<usize, SocketClosed> {
        let count = self.try_recv_many(out, max);
        if count > 0 || max == 0 {
            return Ok(count);
        }
        let received = self.socket.recv_many_into(max, &mut self.messages).await;
        let count = received.map_err(|_| SocketClosed)?;
        out.extend(self.messages.drain(..).map(frames));
        Ok(count)
    }

    pub(super) fn try_recv_many(&mut self, out: &mut Vec<Frames>, max: usize) -> usize {
        let count = self.socket.try_recv_many_into(max, &mut self.messages);
        out.extend(self.messages.drain(..).map(frames));
        count.unwrap_or(0)
    }
}

/// Closes a socket once the task that drives it has ended, or this task is dropped.
///
/// Without its driver, the crate's `recv` loops within one poll until the socket is closed. A runtime that shuts down
/// drops the driver while its other threads may still receive. The thread that drops the driver also drops this task,
/// which ends those loops.
async fn close_when_driver_is_gone(mut socket: CloseOnDrop, stop: CancellationToken) {
    let Some(native) = &socket.0 else { return };
    if stop
        .run_until_cancelled(driver_gone(native))
        .await
        .is_none()
    {
        socket.0 = None;
    }
}

/// Waits until the task that drives a socket has ended. Cancel safe.
async fn driver_gone(native: &omq_tokio::Socket) {
    loop {
        let seen = native.connections_generation();
        if native.connections_changed(seen).await.is_err() {
            return;
        }
    }
}

struct CloseOnDrop(Option<omq_tokio::Socket>);

impl Drop for CloseOnDrop {
    fn drop(&mut self) {
        if let Some(native) = self.0.take() {
            let close = native.close_with_linger(Some(Duration::ZERO));
            let mut close = std::pin::pin!(tokio::task::unconstrained(close));
            let mut context = Context::from_waker(Waker::noop());
            // With a linger of zero, the future yields once and does not wait.
            while close.as_mut().poll(&mut context).is_pending() {}
        }
    }
}

/// The peers that leave a ROUTER.
#[derive(Debug)]
pub(super) struct Departures(MonitorStream);

impl Departures {
    pub(super) async fn next(&mut self) -> Result<Bytes, SocketClosed> {
        loop {
            match self.0.recv().await {
                Ok(MonitorEvent::Disconnected { peer, .. }) => {
                    return Ok(routing_id(peer.connection_id));
                }
                Ok(_) | Err(MonitorRecvError::Lagged(_)) => {}
                Err(_) => return Err(SocketClosed),
            }
        }
    }
}

/// Returns the routing id that the crate assigns to a peer: a zero, and the number of its connection.
fn routing_id(connection_id: u64) -> Bytes {
    std::iter::once(0)
        .chain(connection_id.to_be_bytes())
        .collect()
}

#[derive(Debug)]
pub(super) struct SubscriptionEvents {
    known: Vec<SubscriptionEvent>,
    /// The time of each connection.
    connected: HashMap<u64, Instant>,
    monitor: MonitorStream,
}

impl SubscriptionEvents {
    pub(super) async fn next(&mut self) -> Result<SubscriptionEvent, SocketClosed> {
        if let Some(event) = self.known.pop() {
            return Ok(event);
        }
        loop {
            match self.monitor.recv().await {
                Ok(event) => {
                    if let Some(event) = self.subscription_event(event) {
                        return Ok(event);
                    }
                }
                Err(omq_tokio::MonitorRecvError::Lagged(_)) => {
                    return Ok(SubscriptionEvent::Missed);
                }
                Err(_) => return Err(SocketClosed),
            }
        }
    }

    fn subscription_event(&mut self, event: MonitorEvent) -> Option<SubscriptionEvent> {
        match event {
            MonitorEvent::Accepted { connection_id, .. } => {
                self.connected.insert(connection_id, clock::now());
                None
            }
            MonitorEvent::SubscribeReceived {
                connection_id,
                prefix,
            } => {
                let connected = self.connected.get(&connection_id).copied();
                let connected = connected.unwrap_or_else(Instant::now);
                Some(SubscriptionEvent::Added(connection_id, prefix, connected))
            }
            MonitorEvent::UnsubscribeReceived {
                connection_id,
                prefix,
            } => Some(SubscriptionEvent::Removed(connection_id, prefix)),
            MonitorEvent::Disconnected { peer, .. } => {
                self.connected.remove(&peer.connection_id);
                Some(SubscriptionEvent::Gone(peer.connection_id))
            }
            _ => None,
        }
    }

    pub(super) fn try_next(&mut self) -> Option<SubscriptionEvent> {
        if let Some(event) = self.known.pop() {
            return Some(event);
        }
        loop {
            match self.monitor.try_recv() {
                Ok(event) => {
                    if let Some(event) = self.subscription_event(event) {
                        return Some(event);
                    }
                }
                Err(omq_tokio::MonitorTryRecvError::Lagged(_)) => {
                    return Some(SubscriptionEvent::Missed);
                }
                Err(_) => return None,
            }
        }
    }
}

/// Connects again when the crate stops trying: while the host is not found, and after a peer sent an ERROR.
async fn keep_connecting(
    socket: omq_tokio::Socket,
    mut monitor: MonitorStream,
    endpoint: Endpoint,
    mut connecting: bool,
    delay: Duration,
) {
    loop {
        while !connecting {
            tokio::time::sleep(delay).await;
            connecting = match socket.connect(endpoint.clone()).await {
                Ok(()) => true,
                Err(omq_tokio::Error::Io(_)) => false,
                Err(_) => return,
            };
        }
        match monitor.recv().await {
            Ok(MonitorEvent::ConnectStopped {
                endpoint: stopped, ..
            }) => {
                connecting = stopped != endpoint;
            }
            Ok(_) => {}
            // The event may be among those that were missed.
            Err(MonitorRecvError::Lagged(_)) => match socket.connections().await {
                Ok(current) if current.is_empty() => {
                    // Otherwise, two attempts might be under way.
                    let _ = socket.disconnect(endpoint.clone()).await;
                    connecting = false;
                }
                Ok(_) => {}
                Err(_) => return,
            },
            Err(_) => return,
        }
    }
}

/// Closes a connection for each new one while there are more than `max`: at a PUB the oldest without a subscription, if
/// there is one, otherwise the new one. The peers of a PUSH send nothing, so a silent one cannot be told from others.
async fn limit_connections(
    socket: omq_tokio::Socket,
    mut monitor: MonitorStream,
    kind: Kind,
    max: usize,
) {
    let mut log = LimitLog::default();
    // By number, so in order of age: whether the connection has to be kept.
    let mut connections = BTreeMap::new();
    loop {
        match monitor.recv().await {
            Ok(MonitorEvent::HandshakeSucceeded { peer, .. }) => {
                connections.insert(peer.connection_id, kind != Kind::Publish);
            }
            Ok(MonitorEvent::SubscribeReceived { connection_id, .. }) => {
                if let Some(is_kept) = connections.get_mut(&connection_id) {
                    *is_kept = true;
                }
                continue;
            }
            Ok(MonitorEvent::Disconnected { peer, .. }) => {
                connections.remove(&peer.connection_id);
                continue;
            }
            Ok(_) => continue,
            Err(MonitorRecvError::Lagged(_)) => {
                let Ok(current) = socket.connections().await else {
                    return;
                };
                let is_kept = |id| *connections.get(&id).unwrap_or(&true);
                let ids = current.iter().map(|it| it.connection_id);
                connections = ids.map(|id| (id, is_kept(id))).collect();
            }
            Err(_) => return,
        }
        while connections.len() > max {
            let silent = connections.iter().find(|(_, is_kept)| !**is_kept);
            let surplus = silent.or_else(|| connections.last_key_value());
            let Some(surplus) = surplus.map(|(id, _)| *id) else {
                break;
            };
            connections.remove(&surplus);
            // The peer may have closed it.
            let _ = socket.disconnect_peer(surplus).await;
            if let Some(times) = log.record(clock::now()) {
                tracing::warn!(
                    times,
                    max_connections = max,
                    "closing connections: the socket has `SocketOptions::max_connections`"
                );
            }
        }
    }
}

/// Bytes that the crate adds to the size of a message of a few frames for its own accounting.
const ACCOUNTING_BYTES: usize = 1024;

/// Largest subscription and other command that a PUB or PUSH accepts.
const MAX_COMMAND_BYTES: usize = 16 * 1024;

fn configure(kind: Kind, options: &SocketOptions) -> (SocketType, Options) {
    let (min, max) = (options.min_reconnect_delay, options.max_reconnect_delay);
    let max_bytes = options.max_message_bytes.saturating_add(ACCOUNTING_BYTES);
    let mut native = Options::new()
        .send_hwm(options.queue_len)
        .recv_hwm(options.queue_len)
        .max_message_size(match kind {
            // Its peers send nothing but commands.
            Kind::Push | Kind::Publish => max_bytes.min(MAX_COMMAND_BYTES),
            _ => max_bytes,
        })
        .linger(Duration::from_secs(1))
        .reconnect(ReconnectPolicy::Exponential { min, max })
        .tcp_keepalive(KeepAlive::Enabled {
            idle: Duration::from_secs(10),
            intvl: Duration::from_secs(5),
            cnt: 3,
        });
    native.handshake_timeout = Some(options.handshake_timeout);
    native.max_pending_handshakes = options.max_handshakes;
    native.heartbeat_interval = options.zmtp_heartbeat;
    let socket_type = match kind {
        Kind::Push => SocketType::Push,
        Kind::Pull => SocketType::Pull,
        Kind::Publish => {
            // Messages wait for slow subscribers instead of being dropped. The system closes the connection of a
            // subscriber that has stopped reading.
            native.xpub_nodrop = true;
            native.tcp_user_timeout = Some(options.slow_subscriber_timeout);
            native.monitor_capacity = 16 * 1024;
            SocketType::Pub
        }
        Kind::Subscribe => SocketType::Sub,
        Kind::Router => {
            native.router_mandatory = true;
            SocketType::Router
        }
        Kind::Dealer => SocketType::Dealer,
    };
    (socket_type, native)
}

/// Rejects the path of a socket in use, or of a file.
///
/// The crate replaces any file at the path. Only a socket without a listener, a remainder of an earlier process, may be
/// replaced.
async fn reject_path_in_use(path: &str) -> io::Result<()> {
    #[cfg(unix)]
    if !path.starts_with('@') {
        use std::os::unix::fs::FileTypeExt as _;
        match std::fs::symlink_metadata(path) {
            Ok(file) if file.file_type().is_socket() => {}
            Ok(_) => return Err(io::ErrorKind::AlreadyExists.into()),
            Err(_) => return Ok(()),
        }
        match tokio::net::UnixStream::connect(path).await {
            Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {}
            // Its process has just removed it.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            _ => return Err(io::ErrorKind::AddrInUse.into()),
        }
    }
    Ok(())
}

fn message(mut frames: Frames) -> Message {
    match frames.len() {
        1 => Message::single(frames.pop().unwrap_or_default()),
        _ => Message::multipart(frames),
    }
}

fn frames(message: Message) -> Frames {
    match message.into_bytes() {
        Ok(frame) => std::iter::once(frame).collect(),
        Err(message) => message.iter().collect(),
    }
}

fn to_io(error: omq_tokio::Error) -> io::Error {
    match error {
        omq_tokio::Error::Io(error) => error,
        error => io::Error::other(error),
    }
}

#[cfg(test)]
mod tests {
    use std::iter;
    use std::sync::{Arc, mpsc};

    use crate::socket::Backend;
    use crate::socket::backend::Socket;
    use crate::socket::push_pull::wait_for_peers;

    use super::{Bytes, Duration, Kind, SocketOptions};

    fn options() -> SocketOptions {
        SocketOptions {
            backend: Backend::Omq,
            ..SocketOptions::default()
        }
    }

    /// The reason for [`close_when_driver_is_gone`](super::close_when_driver_is_gone).
    #[test]
    fn runtime_shuts_down_while_sockets_receive() {
        let (done, ended) = mpsc::channel();
        std::thread::spawn(move || {
            for _ in 0..500 {
                let runtime = tokio::runtime::Builder::new_multi_thread()
                    .worker_threads(2)
                    .enable_all()
                    .build()
                    .unwrap();
                runtime.block_on(async {
                    let options = options();
                    let any = "inproc://*".parse().unwrap();
                    let pull = Arc::new(Socket::open(Kind::Pull, Some(&any), &options));
                    let address = pull.bind(&any).await.unwrap();
                    let push = Socket::open(Kind::Push, Some(&address), &options);
                    push.connect(&address).await.unwrap();
                    wait_for_peers(&push, true).await.unwrap();
                    for _ in 0..4 {
                        let mut receiver = pull.receiver();
                        tokio::spawn(async move {
                            let mut out = Vec::new();
                            while receiver.recv_many(&mut out, 1).await.is_ok() {}
                        });
                    }
                    for _ in 0..100 {
                        let frame = Bytes::from_static(b"x");
                        push.send(iter::once(frame).collect()).await.unwrap();
                    }
                });
            }
            done.send(()).unwrap();
        });
        let ended = ended.recv_timeout(Duration::from_secs(30));
        assert!(ended.is_ok(), "the runtime's shutdown hangs");
    }

    /// The crate does not report the routing id of a peer that leaves; see [`routing_id`](super::routing_id).
    #[tokio::test]
    async fn departures_have_the_routing_ids_of_messages() {
        let options = options();
        let any = "inproc://*".parse().unwrap();
        let router = Socket::open(Kind::Router, Some(&any), &options);
        let mut departures = router.departures();
        let address = router.bind(&any).await.unwrap();
        let mut receiver = router.receiver();
        let mut dealers = Vec::new();
        let mut names = Vec::new();
        for _ in 0..3 {
            let dealer = Socket::open(Kind::Dealer, Some(&address), &options);
            dealer.connect(&address).await.unwrap();
            let frame = Bytes::from_static(b"x");
            dealer.send(iter::once(frame).collect()).await.unwrap();
            let mut received = Vec::new();
            receiver.recv_many(&mut received, 1).await.unwrap();
            names.push(received[0][0].clone());
            dealers.push(dealer);
        }
        for number in [1, 0, 2] {
            dealers[number].close(Duration::ZERO).await;
            let limit = Duration::from_secs(10);
            let gone = tokio::time::timeout(limit, departures.next()).await;
            assert_eq!(gone.unwrap().unwrap(), names[number]);
        }
    }
}

//! REQ and REP without lockstep: many concurrent requests, each matched to its reply.
//!
//! A [`Request`] is a DEALER that sends a number and the empty delimiter before each request. A REP socket of any
//! ZeroMQ library, pylm's included, returns the frames before the delimiter with its reply (RFC 28/REQREP). The number
//! identifies the request, so a lost reply does not block others. A [`Reply`] is a ROUTER, and its [`Responder`]s
//! return these frames to the peers.
//!
//! The DEALER of a [`Request`] may be shared with another protocol, whose owner takes it
//! ([`Request::take_dealer`]) and passes on the replies that it receives.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

use super::router_dealer::{DealerSender, RouterSender};
use super::zmtp::{MAX_TAKEN, Receiver, Socket, WriteBy};
use super::{
    Address, Dealer, Frames, Peers, Router, RouterDepartures, SocketClosed, SocketError,
    SocketOptions, TrySendError,
};
use crate::id_map::IdMap;

/// Error of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RequestError {
    /// No reply arrived in time.
    #[error("no reply within {waited:?}")]
    #[non_exhaustive]
    Timeout {
        /// The timeout of the request.
        waited: Duration,
    },
    /// The socket is closed.
    #[error(transparent)]
    Closed(#[from] SocketClosed),
}

/// The requesting end, for any number of concurrent requests. Clones share the socket.
#[derive(Debug, Clone)]
pub struct Request(Arc<RequestInner>);

struct RequestInner {
    address: Address,
    /// The socket, which is replaced if its owner opens another connection.
    socket: Mutex<Arc<Socket>>,
    pending: Arc<Pending>,
    /// Receives replies, unless another owner of the socket does.
    reader: Mutex<Option<ReplyReader>>,
}

impl std::fmt::Debug for RequestInner {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut shown = formatter.debug_struct("RequestInner");
        shown.field("address", &self.address);
        shown.finish_non_exhaustive()
    }
}

/// The task that receives replies. It returns the receiver when `stop` is cancelled.
#[derive(Debug)]
struct ReplyReader {
    stop: CancellationToken,
    task: AbortOnDropHandle<Receiver>,
}

#[derive(Debug, Default)]
struct Pending(Mutex<PendingReplies>);

#[derive(Debug, Default)]
struct PendingReplies {
    next: u64,
    replies: IdMap<oneshot::Sender<Bytes>>,
}

impl Pending {
    /// Passes a reply to the request that it belongs to. A late or unknown one is dropped.
    fn receive(&self, frames: &[Bytes]) {
        let [id, delimiter, body] = frames else {
            return;
        };
        let id = id[..].try_into().map(u64::from_be_bytes);
        if let (true, Ok(id)) = (delimiter.is_empty(), id)
            && let Some(sender) = self.lock().replies.remove(&id)
        {
            let _ = sender.send(body.clone());
        }
    }

    fn lock(&self) -> parking_lot::MutexGuard<'_, PendingReplies> {
        self.0.lock()
    }
}

/// Removes a pending request when its future completes or is dropped.
struct PendingRequest<'a> {
    id: u64,
    pending: &'a Pending,
}

impl Drop for PendingRequest<'_> {
    fn drop(&mut self) {
        self.pending.lock().replies.remove(&self.id);
    }
}

impl Request {
    /// Connects to `address` as soon as a peer listens there, and again after each loss of the connection.
    ///
    /// # Errors
    ///
    /// [`SocketError::Connect`] if `address` is a wildcard or has no port.
    pub async fn connect(address: &Address, options: &SocketOptions) -> Result<Self, SocketError> {
        let (socket, receiver) = Dealer::connect(address, options).await?.split();
        let pending = Arc::<Pending>::default();
        let stop = CancellationToken::new();
        let reader = read_replies(receiver, pending.clone(), stop.clone());
        let task = AbortOnDropHandle::new(tokio::spawn(reader));
        Ok(Self(Arc::new(RequestInner {
            address: address.clone(),
            socket: Mutex::new(socket),
            pending,
            reader: Mutex::new(Some(ReplyReader { stop, task })),
        })))
    }

    fn socket(&self) -> Arc<Socket> {
        self.0.socket.lock().clone()
    }

    /// Returns the socket, whose messages the caller receives from now on: it passes replies to
    /// [`receive_reply`](Self::receive_reply). `None` if another owner has the socket.
    ///
    /// If the future is dropped, no further replies arrive until [`use_dealer`](Self::use_dealer) is called.
    pub(crate) async fn take_dealer(&self) -> Option<Dealer> {
        let reader = self.0.reader.lock().take();
        let ReplyReader { stop, task } = reader?;
        stop.cancel();
        let receiver = task.await.ok()?;
        Some(Dealer::from_parts(self.socket(), receiver))
    }

    /// Sends requests over another socket from now on, which replaces one that was [taken](Self::take_dealer).
    pub(crate) fn use_dealer(&self, dealer: DealerSender) {
        *self.0.socket.lock() = dealer.into_socket();
    }

    /// Receives a reply that has arrived at a socket that was [taken](Self::take_dealer).
    pub(crate) fn receive_reply(&self, frames: &[Bytes]) {
        self.0.pending.receive(frames);
    }

    /// The address that it connects to.
    pub fn address(&self) -> &Address {
        &self.0.address
    }

    pub(crate) fn peers(&self) -> Peers {
        Peers(self.socket())
    }

    /// Sends a message over the current socket. Cancel safe: the message is queued or it is not.
    async fn send(&self, frames: Frames) -> Result<(), SocketClosed> {
        loop {
            let socket = self.socket();
            if socket.send(frames.clone()).await.is_ok() {
                return Ok(());
            }
            if Arc::ptr_eq(&socket, &self.socket()) {
                return Err(SocketClosed);
            }
            // The socket was replaced.
        }
    }

    /// Sends a request and returns its reply.
    ///
    /// # Errors
    ///
    /// [`RequestError`] if no reply arrives within `timeout`, or the socket is closed.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future drops the reply. The peer may still handle the request.
    pub async fn request(&self, body: Bytes, timeout: Duration) -> Result<Bytes, RequestError> {
        let (sender, reply) = oneshot::channel();
        let id = {
            let mut pending = self.0.pending.lock();
            let id = pending.next;
            pending.next += 1;
            pending.replies.insert(id, sender);
            id
        };
        let _request = PendingRequest {
            id,
            pending: &self.0.pending,
        };
        let id = Bytes::copy_from_slice(&id.to_be_bytes());
        let exchange = async {
            self.send([id, Bytes::new(), body].into_iter().collect())
                .await?;
            reply.await.map_err(|_| RequestError::Closed(SocketClosed))
        };
        match tokio::time::timeout(timeout, exchange).await {
            Ok(reply) => reply,
            Err(_) => Err(RequestError::Timeout { waited: timeout }),
        }
    }
}

async fn read_replies(
    mut receiver: Receiver,
    pending: Arc<Pending>,
    stop: CancellationToken,
) -> Receiver {
    let mut messages = Vec::new();
    loop {
        tokio::select! {
            () = stop.cancelled() => return receiver,
            received = receiver.recv_many(&mut messages, 256) => if received.is_err() {
                // The socket is closed.
                return receiver;
            }
        }
        for frames in messages.drain(..) {
            pending.receive(&frames);
        }
    }
}

/// The replying end, for requests of many peers. Replies may be sent in any order.
#[derive(Debug)]
pub struct Reply {
    router: Router,
    messages: Vec<Frames>,
}

impl Reply {
    /// Binds `address`, and returns it with the port that the system chose.
    ///
    /// # Errors
    ///
    /// [`SocketError::Bind`] if the address cannot be bound.
    pub async fn bind(
        address: &Address,
        options: &SocketOptions,
    ) -> Result<(Self, Address), SocketError> {
        let (router, bound) = Router::bind(address, options).await?;
        let messages = Vec::new();
        Ok((Self { router, messages }, bound))
    }

    /// Connects to a REQ or DEALER that binds `address`.
    ///
    /// # Errors
    ///
    /// [`SocketError::Connect`] if `address` is a wildcard or has no port.
    pub async fn connect(address: &Address, options: &SocketOptions) -> Result<Self, SocketError> {
        let router = Router::connect(address, options).await?;
        let messages = Vec::new();
        Ok(Self { router, messages })
    }

    /// Waits for a request. Messages without a delimiter are dropped.
    ///
    /// # Errors
    ///
    /// [`SocketClosed`] if the socket is closed.
    ///
    /// # Cancel safety
    ///
    /// No request is lost.
    pub async fn recv(&mut self) -> Result<(Frames, Responder), SocketClosed> {
        loop {
            let request = self.recv_or_other(|_| false, &mut Vec::new()).await?;
            if let Some(request) = request {
                return Ok(request);
            }
        }
    }

    /// Waits for a request, or for messages of another kind that peers send to the same socket.
    ///
    /// `is_other` recognizes such a message by its second frame. Consecutive ones are appended to `others`, and `None` is
    /// returned. Cancel safe.
    pub(crate) async fn recv_or_other(
        &mut self,
        is_other: impl Fn(&[u8]) -> bool,
        others: &mut Vec<Frames>,
    ) -> Result<Option<(Frames, Responder)>, SocketClosed> {
        loop {
            while let Some(frames) = self.messages.pop() {
                if frames.get(1).is_some_and(|frame| is_other(frame)) {
                    others.push(frames);
                    continue;
                }
                if let Some(request) = self.request(frames) {
                    return Ok(Some(request));
                }
            }
            if !others.is_empty() {
                return Ok(None);
            }
            self.router.recv_many(&mut self.messages, MAX_TAKEN).await?;
            self.messages.reverse();
        }
    }

    /// Splits a message at its delimiter, if it has one.
    fn request(&self, mut envelope: Frames) -> Option<(Frames, Responder)> {
        // The routing id of the peer, and the peer's own frames, precede the delimiter.
        let delimiter = envelope.iter().skip(1).position(Bytes::is_empty)?;
        let body = envelope.drain(delimiter + 2..).collect();
        let sender = self.router.sender();
        Some((body, Responder { sender, envelope }))
    }

    /// Returns a sender to all peers.
    pub(crate) fn sender(&self) -> RouterSender {
        self.router.sender()
    }

    /// Returns a stream of the peers that disconnect from now on.
    pub(crate) fn departures(&self) -> RouterDepartures {
        self.router.departures()
    }

    /// Sends queued messages for at most `linger`, and closes the socket.
    pub async fn close(self, linger: Duration) {
        self.router.close(linger).await;
    }
}

/// Sends the reply to one request.
#[derive(Debug)]
pub struct Responder {
    sender: RouterSender,
    envelope: Frames,
}

impl Responder {
    /// Returns the routing id of the peer, and the frames before the delimiter of its request.
    pub(crate) fn envelope(&self) -> &[Bytes] {
        &self.envelope
    }

    /// Sends the reply. If the peer has left, the reply is dropped.
    ///
    /// # Errors
    ///
    /// [`TrySendError::Full`] with the reply if the peer's queue is full, because it does not read its replies.
    pub fn reply(mut self, body: Bytes) -> Result<(), TrySendError<Bytes>> {
        self.envelope.push(body);
        match self.sender.try_send(self.envelope, WriteBy::Task) {
            Err(TrySendError::Full(mut frames)) => {
                Err(TrySendError::Full(frames.pop().unwrap_or_default()))
            }
            _ => Ok(()),
        }
    }
}

//! REQ and REP, without their lockstep: many requests at once, each matched to its reply.
//!
//! A [`Request`] is a DEALER that puts a number and the empty delimiter in front of each request. A
//! REP socket of any ZeroMQ library, pylm's included, sends back what stands in front of the
//! delimiter (RFC 28/REQREP), so that a reply finds its request, and a lost one blocks no other. A
//! [`Reply`] is a ROUTER that does the same for the peers that ask it.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::oneshot;
use tokio_util::task::AbortOnDropHandle;

use super::backend::{Receiver, Socket};
use super::router_dealer::RouterSender;
use super::{
    Address, Dealer, Frames, Peers, Router, RouterDepartures, SocketClosed, SocketError,
    SocketOptions, TrySendError,
};

/// Why a request has no reply.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RequestError {
    /// No reply came in time.
    #[error("no reply within {waited:?}")]
    Timeout {
        /// How long it was waited for.
        waited: Duration,
    },
    /// The socket is closed.
    #[error(transparent)]
    Closed(#[from] SocketClosed),
}

/// Sends requests and awaits their replies, any number at once. Clones share the socket.
#[derive(Debug, Clone)]
pub struct Request(Arc<RequestInner>);

#[derive(Debug)]
struct RequestInner {
    address: Address,
    socket: Arc<Socket>,
    pending: Arc<Pending>,
    _replies: AbortOnDropHandle<()>,
}

#[derive(Debug, Default)]
struct Pending(Mutex<PendingReplies>);

#[derive(Debug, Default)]
struct PendingReplies {
    next: u64,
    replies: HashMap<u64, oneshot::Sender<Bytes>>,
}

impl Pending {
    fn lock(&self) -> std::sync::MutexGuard<'_, PendingReplies> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A request that is waited for; forgotten when that ends, however it ends.
struct Waiting<'a> {
    id: u64,
    pending: &'a Pending,
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.pending.lock().replies.remove(&self.id);
    }
}

impl Request {
    /// Connects to `address`, now or as soon as somebody is there.
    ///
    /// # Errors
    ///
    /// [`SocketError::Connect`] when it is no address to connect to.
    pub async fn connect(address: &Address, options: &SocketOptions) -> Result<Self, SocketError> {
        let (socket, receiver) = Dealer::connect(address, options).await?.split();
        let pending = Arc::<Pending>::default();
        let replies = tokio::spawn(match_replies(receiver, pending.clone()));
        Ok(Self(Arc::new(RequestInner {
            address: address.clone(),
            socket,
            pending,
            _replies: AbortOnDropHandle::new(replies),
        })))
    }

    /// Where it is connected to.
    pub fn address(&self) -> &Address {
        &self.0.address
    }

    /// Who is at the other end.
    pub(crate) fn peers(&self) -> Peers {
        Peers(self.0.socket.clone())
    }

    /// Sends `body` and waits at most `timeout` for the reply.
    ///
    /// # Errors
    ///
    /// [`RequestError`] when no reply comes in time, or the socket is closed.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future gives up the reply; the request may be handled all the same.
    pub async fn request(&self, body: Bytes, timeout: Duration) -> Result<Bytes, RequestError> {
        let (sender, reply) = oneshot::channel();
        let id = {
            let mut pending = self.0.pending.lock();
            let id = pending.next;
            pending.next += 1;
            pending.replies.insert(id, sender);
            id
        };
        let _waiting = Waiting {
            id,
            pending: &self.0.pending,
        };
        let id = Bytes::copy_from_slice(&id.to_be_bytes());
        let exchange = async {
            let frames = [id, Bytes::new(), body].into_iter().collect();
            self.0.socket.send(frames).await?;
            reply.await.map_err(|_| RequestError::Closed(SocketClosed))
        };
        match tokio::time::timeout(timeout, exchange).await {
            Ok(reply) => reply,
            Err(_) => Err(RequestError::Timeout { waited: timeout }),
        }
    }
}

async fn match_replies(mut receiver: Receiver, pending: Arc<Pending>) {
    let mut messages = Vec::new();
    while receiver.recv_many(&mut messages, 256).await.is_ok() {
        for frames in messages.drain(..) {
            let waiting = match &frames[..] {
                [id, delimiter, body] if delimiter.is_empty() => id[..]
                    .try_into()
                    .ok()
                    .and_then(|id| pending.lock().replies.remove(&u64::from_be_bytes(id)))
                    .map(|sender| (sender, body.clone())),
                _ => None,
            };
            // A reply that is late, or that nobody asked for, is dropped.
            if let Some((sender, body)) = waiting {
                let _ = sender.send(body);
            }
        }
    }
}

/// Receives requests of any number of peers, and replies to each when it likes.
#[derive(Debug)]
pub struct Reply {
    router: Router,
    messages: Vec<Frames>,
}

impl Reply {
    /// Binds `address`, and tells where.
    ///
    /// # Errors
    ///
    /// [`SocketError::Bind`] when the address cannot be bound.
    pub async fn bind(
        address: &Address,
        options: &SocketOptions,
    ) -> Result<(Self, Address), SocketError> {
        let (router, bound) = Router::bind(address, options).await?;
        let messages = Vec::new();
        Ok((Self { router, messages }, bound))
    }

    /// Connects to `address`, now or as soon as somebody is there: a REQ that binds, or a DEALER.
    ///
    /// # Errors
    ///
    /// [`SocketError::Connect`] when it is no address to connect to.
    pub async fn connect(address: &Address, options: &SocketOptions) -> Result<Self, SocketError> {
        let router = Router::connect(address, options).await?;
        let messages = Vec::new();
        Ok(Self { router, messages })
    }

    /// Waits for a request. What comes without a delimiter is no request and is passed over.
    ///
    /// # Errors
    ///
    /// [`SocketClosed`] when the socket is closed.
    ///
    /// # Cancel safety
    ///
    /// Nothing is lost.
    pub async fn recv(&mut self) -> Result<(Frames, Responder), SocketClosed> {
        loop {
            let request = self.recv_or_other(|_| false, &mut Vec::new()).await?;
            if let Some(request) = request {
                return Ok(request);
            }
        }
    }

    /// As [`recv`](Self::recv), for who has other business with its peers over the same socket: what
    /// `is_other` says of the second frame of a message. Messages of that kind that come in a row come
    /// together.
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
            self.router.recv_many(&mut self.messages, 64).await?;
            self.messages.reverse();
        }
    }

    /// A message that has a delimiter.
    fn request(&self, mut envelope: Frames) -> Option<(Frames, Responder)> {
        // The first frame names the peer; what follows up to the delimiter is the peer's.
        let delimiter = envelope.iter().skip(1).position(Bytes::is_empty)?;
        let body = envelope.drain(delimiter + 2..).collect();
        let sender = self.router.sender();
        Some((body, Responder { sender, envelope }))
    }

    /// What sends to any peer.
    pub(crate) fn sender(&self) -> RouterSender {
        self.router.sender()
    }

    /// Who leaves from now on.
    pub(crate) fn departures(&self) -> RouterDepartures {
        self.router.departures()
    }

    /// Sends what is queued, for at most `linger`, and closes.
    pub async fn close(self, linger: Duration) {
        self.router.close(linger).await;
    }
}

/// Where the reply to one request goes.
#[derive(Debug)]
pub struct Responder {
    sender: RouterSender,
    envelope: Frames,
}

impl Responder {
    /// The routing id of the peer, and the frames in front of its request's delimiter.
    pub(crate) fn envelope(&self) -> &[Bytes] {
        &self.envelope
    }

    /// Replies, if the peer is still there and takes replies.
    ///
    /// # Errors
    ///
    /// [`TrySendError::Full`] when the peer leaves so many replies unread that its queue is full;
    /// this one is then lost.
    pub fn reply(mut self, body: Bytes) -> Result<(), TrySendError<Bytes>> {
        self.envelope.push(body);
        match self.sender.try_send(self.envelope) {
            Err(TrySendError::Full(mut frames)) => {
                Err(TrySendError::Full(frames.pop().unwrap_or_default()))
            }
            _ => Ok(()),
        }
    }
}

//! The connecting side of links: a worker, client or subscriber with a session over a DEALER.
//!
//! [`LinkClient`] owns the socket and the current session. One task calls [`drive`](LinkClient::drive), which connects,
//! reconnects and receives until the link is closed; the other methods may be called from any task.
//!
//! If the peer does not know the session, because it was restarted or the session has expired, the client opens a new
//! one. **Invariant:** each unacknowledged message is resent, dropped, or reported to its sender, as its
//! [`ResendPolicy`] says. Prefetched tasks of the old session are revoked; running ones continue.

use std::collections::VecDeque;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use bytes::Bytes;
use parking_lot::{Mutex, MutexGuard};
use tokio::sync::Notify;
use uuid::Uuid;

use super::liveness::LinkLiveness;
use super::options::LinkOptions;
use super::session::{CreditWindow, Session, SessionEvent, TaggedBatch, VERSION, message_count};
use super::{WORKER, header};
use crate::cancellation::Cancellations;
use crate::clock;
use crate::message::lease::LinkReceipt;
use crate::message::proto::LinkHello;
use crate::report::{Backlog, Edge, EdgeState};
use crate::socket::{Address, Dealer, DealerSender, Request, SocketOptions};
use crate::wait_cause::{Connecting, WaitCause};

mod arrivals;
mod call_batch;
mod drive;
mod linked_worker;
mod open_tasks;
mod prefetch;
mod receive;
mod result_batch;
mod send;
mod settings;
mod silence;
mod tasks;

pub(crate) use arrivals::{LinkArrival, LinkArrivals};
pub(crate) use linked_worker::LinkedWorker;
pub(crate) use result_batch::ResultBatcher;
pub(crate) use settings::{LinkSettings, ResendPolicy};

use arrivals::ArrivalQueue;
use call_batch::CallBatcher;
use open_tasks::OpenTasks;
use prefetch::PrefetchWindow;
use send::OUTBOX_LIMIT;

/// Limit on the bytes of unconsumed messages that this side accepts.
const WINDOW_BYTES: u64 = 64 * 1024 * 1024;

/// Limit on sending the last header when a link is closed.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(1);

/// A link with the component at an address.
#[derive(Debug)]
pub(crate) struct LinkClient {
    address: Address,
    sockets: SocketOptions,
    options: LinkOptions,
    hello: LinkHello,
    /// The socket, locked by the task that drives the link.
    dealer: tokio::sync::Mutex<Option<Dealer>>,
    state: Mutex<ClientState>,
    /// Notified when the session or its connection begins, drains or ends, which is rare.
    changed: Notify,
    /// Notified when the peer may have acknowledged messages, which happens with every message.
    progressed: Notify,
    /// Notified when calls wait in the batcher, and are to be sent when other tasks have added theirs.
    calls_added: Notify,
    liveness: Arc<LinkLiveness>,
    arrivals: Arc<ArrivalQueue>,
    /// The requests that travel over the same connection.
    requests: Option<Request>,
    cancellations: Option<Arc<Cancellations>>,
    connecting: Connecting,
    /// The reason of the peer's last refusal.
    refused: WaitCause,
    /// The worker whose link this is.
    worker: OnceLock<Box<dyn LinkedWorker>>,
}

#[derive(Debug)]
struct ClientState {
    dealer: Option<DealerSender>,
    session: Session,
    /// The number of the current session; the first one is 1.
    session_number: u64,
    pace: PrefetchWindow,
    /// Number of tasks that are accepted, counted from the beginning of this session.
    task_limit: u64,
    /// Number of tasks that have arrived in this session.
    received_tasks: u64,
    is_draining: bool,
    /// Whether arriving tasks are returned at once.
    is_returning: bool,
    /// Whether the peer has sent its last message in this session, or this side drains and the session is over.
    peer_finished: bool,
    /// Whether the peer accepts no further messages in this session.
    peer_is_draining: bool,
    /// Calls that are sent with the next flush.
    calls: CallBatcher,
    /// The messages that are to be sent in the next session.
    next_session: VecDeque<TaggedBatch>,
    /// Whether the peer has lost the state of the last session, which is reported when the next one begins.
    is_lost: bool,
    /// When the next session may begin, after a refusal.
    retry_at: Option<Instant>,
    /// Whether any session was ever open.
    is_open: bool,
    /// How many followers the peer had in the last session that said so.
    peer_followers: u32,
    /// Whether the end of a session was logged, and the next one is to be.
    has_logged_end: bool,
    /// The last session whose peer does not handle registration and cancellation over the link; 0 if there was none.
    older_session: u64,
    events: Vec<SessionEvent>,
    tasks: OpenTasks,
    liveness: Arc<LinkLiveness>,
}

impl LinkClient {
    /// Creates a link that is not connected yet, and the receiver of what it delivers.
    pub(crate) fn new(
        address: &Address,
        sockets: &SocketOptions,
        introduction: LinkSettings,
        options: LinkOptions,
    ) -> (Arc<Self>, LinkArrivals) {
        Self::with_requests(address, None, sockets, introduction, options)
    }

    /// Creates a link over the connection of `requests`. Requests need a task that [`drive`](Self::drive)s the link from
    /// then on, and fail once it is closed.
    pub(crate) fn sharing(
        requests: &Request,
        sockets: &SocketOptions,
        introduction: LinkSettings,
        options: LinkOptions,
    ) -> (Arc<Self>, LinkArrivals) {
        let address = requests.address();
        let requests = Some(requests.clone());
        Self::with_requests(address, requests, sockets, introduction, options)
    }

    fn with_requests(
        address: &Address,
        requests: Option<Request>,
        sockets: &SocketOptions,
        introduction: LinkSettings,
        options: LinkOptions,
    ) -> (Arc<Self>, LinkArrivals) {
        let LinkSettings {
            role,
            name,
            functions,
            following,
            db_address,
            weight,
            concurrency,
            prefetch,
            cancellations,
        } = introduction;
        let arrivals = Arc::<ArrivalQueue>::default();
        let received = LinkArrivals::new(arrivals.clone());
        let hello = LinkHello {
            version: VERSION,
            role: role.to_owned(),
            name,
            functions,
            topics: following.topics,
            client: following.client,
            concurrency: match role {
                WORKER => u32::try_from(concurrency.max(1)).unwrap_or(u32::MAX),
                _ => 0,
            },
            weight,
            db_address,
            ..LinkHello::default()
        };
        let now = clock::now();
        let pace = PrefetchWindow::new(concurrency as u64, prefetch, now);
        let session = new_session(&hello, pace.window(), options.heartbeat, now);
        let liveness = LinkLiveness::new(address, sockets);
        let link = Self {
            address: address.clone(),
            sockets: sockets.clone(),
            options,
            hello,
            dealer: tokio::sync::Mutex::new(None),
            state: Mutex::new(ClientState {
                dealer: None,
                session,
                session_number: 1,
                pace,
                task_limit: u64::MAX,
                received_tasks: 0,
                is_draining: false,
                is_returning: false,
                peer_finished: false,
                peer_is_draining: false,
                calls: CallBatcher::default(),
                next_session: VecDeque::new(),
                is_lost: false,
                retry_at: None,
                is_open: false,
                peer_followers: 0,
                has_logged_end: false,
                older_session: 0,
                events: Vec::new(),
                tasks: OpenTasks::default(),
                liveness: liveness.clone(),
            }),
            changed: Notify::new(),
            progressed: Notify::new(),
            calls_added: Notify::new(),
            liveness,
            arrivals,
            requests,
            cancellations,
            connecting: Connecting::new(address),
            refused: WaitCause::default(),
            worker: OnceLock::new(),
        };
        (Arc::new(link), received)
    }

    fn state(&self) -> MutexGuard<'_, ClientState> {
        self.state.lock()
    }

    /// Accepts no more than `messages` in all.
    pub(crate) fn set_task_limit(&self, messages: u64) {
        let mut state = self.state();
        state.task_limit = messages;
        state.session.set_limit(messages);
    }

    /// Returns the address of the peer.
    pub(crate) fn address(&self) -> &Address {
        &self.address
    }

    /// Explains why the link is not open, if the cause is known.
    pub(crate) fn wait_cause(&self) -> Option<Arc<str>> {
        self.connecting.cause().or_else(|| self.refused.get())
    }

    /// Returns whether the peer is connected.
    pub(crate) fn is_connected(&self) -> bool {
        self.state().is_connected()
    }

    /// Waits until the first session is open. Cancel safe.
    pub(crate) async fn opened(&self) {
        self.wait_until(|state| state.is_open).await;
    }

    /// Waits until a session later than number `after` is open, whose peer does not register the functions of a `hello`
    /// and reports no cancelled calls over the link. Returns its number. Cancel safe.
    pub(crate) async fn older_session(&self, after: u64) -> u64 {
        self.wait_until(|state| state.older_session > after).await;
        self.state().older_session
    }

    /// Drains: grants no further credit, and reports that to the peer.
    pub(crate) fn drain(&self) {
        let mut state = self.state();
        state.is_draining = true;
        state.session.drain();
        state.flush(clock::now());
        drop(state);
        self.notify_changed();
    }

    /// Waits until the peer has sent its last message, or is disconnected while this side drains. Cancel safe.
    pub(crate) async fn drained(&self) {
        self.wait_until(|state| {
            state.peer_finished || (state.is_draining && !state.is_connected())
        })
        .await;
    }

    /// Waits until the peer has sent its last message, or the session is over. Cancel safe.
    pub(crate) async fn finished(&self) {
        self.wait_until(|state| state.peer_finished || state.session.is_over())
            .await;
    }

    /// Returns credit for consumed messages.
    pub(crate) fn consume(&self, messages: impl Iterator<Item = LinkReceipt>) {
        let now = clock::now();
        let mut state = self.state();
        for message in messages {
            if message.session == state.session_number {
                state.session.consume(message.messages, message.bytes);
            }
        }
        state.flush(now);
    }

    /// Waits until the session or its connection has changed in this way.
    async fn wait_until(&self, done: impl Fn(&ClientState) -> bool) {
        self.wait(&self.changed, done).await;
    }

    /// Waits until the peer has acknowledged as much as `done` says.
    async fn wait_for_progress(&self, done: impl Fn(&ClientState) -> bool) {
        self.wait(&self.progressed, done).await;
    }

    async fn wait(&self, notify: &Notify, done: impl Fn(&ClientState) -> bool) {
        loop {
            let mut notified = std::pin::pin!(notify.notified());
            notified.as_mut().enable();
            if done(&self.state()) {
                return;
            }
            notified.await;
        }
    }

    fn notify_changed(&self) {
        self.changed.notify_waiters();
        self.progressed.notify_waiters();
    }

    /// Returns the edge of the link, without its role and topics.
    pub(crate) fn edge(&self) -> Edge {
        let now = clock::now();
        let state = self.state();
        let counts = state.session.message_counts();
        let mut edge = Edge::default();
        edge.db_address = self.address.to_string();
        edge.age = now.saturating_duration_since(state.session.opened_at());
        edge.silent = now.saturating_duration_since(state.session.last_heard());
        edge.state = match (state.is_connected(), state.peer_is_draining) {
            (false, _) => EdgeState::Disconnected,
            (true, true) => EdgeState::Draining,
            (true, false) => EdgeState::Connected,
        };
        edge.sent = counts.sent;
        edge.acknowledged = counts.acknowledged;
        edge.received = counts.received;
        let (messages, bytes) = state.session.unacknowledged();
        let (more, more_bytes) = size_of(&state.next_session);
        edge.waiting = Backlog::new((messages + more) as u64, (bytes + more_bytes) as u64)
            .with_limits(OUTBOX_LIMIT.0 as u64, OUTBOX_LIMIT.1 as u64);
        if self.hello.role != WORKER {
            let (messages, bytes) = state.session.unconsumed();
            edge.unread = Backlog::new(messages, bytes);
        }
        edge.time = state.session.acknowledgement_times();
        edge
    }

    /// Sends the last header of the session, without waiting until it is sent.
    pub(crate) fn say_goodbye(&self) {
        let mut state = self.state();
        if !state.session.is_over() {
            let header = state.session.close();
            state.send(header::encode(&header), Vec::new());
        }
        state.liveness.set_session(None);
        state.dealer = None;
    }

    /// Closes the link. No task may [`drive`](Self::drive) it any more.
    pub(crate) async fn close(&self) {
        let dealer = self.dealer.lock().await.take();
        let limit = match self.state().is_connected() {
            true => CLOSE_TIMEOUT,
            false => Duration::ZERO,
        };
        self.say_goodbye();
        if let Some(dealer) = dealer {
            dealer.close(limit).await;
        }
    }
}

/// Returns the number of messages, and their bytes.
fn size_of(items: &VecDeque<TaggedBatch>) -> (usize, usize) {
    let bytes = items.iter().map(|item| item.batch.bytes()).sum();
    (message_count(items), bytes)
}

fn new_session(hello: &LinkHello, window: u64, heartbeat: Duration, now: Instant) -> Session {
    let id = Bytes::copy_from_slice(Uuid::new_v4().as_bytes());
    let window = CreditWindow {
        messages: window,
        bytes: WINDOW_BYTES,
    };
    Session::connect(id, hello.clone(), window, heartbeat, now)
}

impl ClientState {
    fn is_connected(&self) -> bool {
        self.dealer.as_ref().is_some_and(DealerSender::has_peer)
    }
}

#[cfg(test)]
mod tests;

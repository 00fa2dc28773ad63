//! The connecting side of links: a worker, client or subscriber with a session over a DEALER.
//!
//! [`LinkClient`] owns the socket and the current session. One task calls [`drive`](LinkClient::drive), which connects,
//! reconnects and receives until the link is closed; the other methods may be called from any task.
//!
//! If the peer does not know the session, because it was restarted or the session has expired, the client opens a new
//! one. **Invariant:** each unacknowledged message is resent, dropped, or reported to its sender, as its
//! [`ResendPolicy`] says. Prefetched tasks of the old session are revoked; running ones continue.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::future::poll_fn;
use std::pin::pin;
use std::sync::{Arc, OnceLock};
use std::task::Poll;
use std::time::{Duration, Instant};

use bytes::Bytes;
use parking_lot::{Mutex, MutexGuard};
use tokio::sync::Notify;
use uuid::Uuid;

use super::liveness::LinkLiveness;
use super::options::LinkOptions;
use super::session::{
    ACK_DELAY, CreditWindow, LIVENESS_VERSION, RETURNS_VERSION, Session, SessionEvent, TaggedBatch,
    VERSION, WORKER_CONTROL_VERSION, message_count,
};
use super::{SUBSCRIBER, WORKER, write_by};
use crate::cancellation::Cancellations;
use crate::clock;
use crate::link::{header, is_header};
use crate::message::lease::{Lease, LeaseOutcome, LeaseState, LeasedTasks, Lessor, LinkReceipt};
use crate::message::proto::LinkHello;
use crate::message::{Batch, Message};
use crate::report::{Backlog, Edge, EdgeState};
use crate::socket::{
    Address, Dealer, DealerSender, Frames, Request, SocketClosed, SocketError, SocketOptions,
    TrySendError,
};
use crate::wait_cause::{Connecting, WaitCause};

mod arrivals;
mod call_batch;
mod linked_worker;
mod open_tasks;
mod prefetch;
mod result_batch;
mod settings;
mod silence;

pub(crate) use arrivals::{LinkArrival, LinkArrivals};
pub(crate) use linked_worker::LinkedWorker;
pub(crate) use result_batch::ResultBatcher;
pub(crate) use settings::{LinkSettings, ResendPolicy};

use arrivals::ArrivalQueue;
use call_batch::CallBatcher;
use open_tasks::OpenTasks;
use prefetch::PrefetchWindow;
use silence::SilenceLimit;

/// Limit on the bytes of unconsumed messages that this side accepts.
const WINDOW_BYTES: u64 = 64 * 1024 * 1024;

/// Limits on the unacknowledged messages of this side and on their bytes. Senders wait at either limit.
const OUTBOX_LIMIT: (usize, usize) = (10_000, 64 * 1024 * 1024);

/// Limit on sending the last header when a link is closed.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(1);

/// Time after which the acknowledgements of a disconnected peer are no longer awaited.
const DISCONNECTED_TIMEOUT: Duration = Duration::from_secs(1);

/// A timer that fires this late shows that this process was stopped, or that a method blocked its thread.
const STALL_THRESHOLD: Duration = Duration::from_millis(500);

/// Delay of a new session after a refusal.
const REFUSED_RETRY_DELAY: Duration = Duration::from_secs(1);

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

    /// Leases the tasks of a received batch. Returns each task that is to run here, with its message.
    ///
    /// Tasks whose session is over are left out, as are those that still run for an earlier session. After
    /// [`return_waiting`](Self::return_waiting) all tasks are returned to the master instead.
    pub(crate) fn tasks(
        self: &Arc<Self>,
        received: LinkReceipt,
        batch: &Batch,
    ) -> impl Iterator<Item = (Lease, Bytes)> + use<> {
        let now = clock::now();
        let mut state = self.state();
        let component = state.session.component();
        let tasks = received.each(batch).map(|(task, _)| task);
        let tasks = LeasedTasks::new(self.clone(), component, tasks);
        if received.session != state.session_number || state.session.is_over() {
            for entry in tasks.entries() {
                entry.progress.revoke();
            }
        } else {
            state.register(&tasks, now);
        }
        drop(state);
        let tasks = tasks.tasks().zip(batch.frames());
        tasks.filter(|(task, _)| !task.is_over())
    }

    /// Returns the prefetched tasks to the master, and each task that still arrives. Returns how many were prefetched.
    ///
    /// A master of an earlier protocol version redelivers them when the link closes, unless they are done by then.
    pub(crate) fn return_waiting(&self) -> usize {
        self.return_tasks(LeaseState::revoke_waiting)
    }

    /// Returns all unfinished tasks to the master, prefetched and running. Returns how many they were.
    pub(crate) fn return_all(&self) -> usize {
        self.return_tasks(LeaseState::give_back)
    }

    fn return_tasks(&self, revoke: impl Fn(&LeaseState) -> bool) -> usize {
        let now = clock::now();
        let mut state = self.state();
        if state.session.is_over() || state.session.version() < RETURNS_VERSION {
            return 0;
        }
        state.is_returning = true;
        let revoked = state.tasks.revoke(state.session_number, revoke);
        let count = revoked.len();
        for task in revoked {
            state.return_task(task);
        }
        state.flush(now);
        count
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

    /// Waits until the peer has acknowledged all messages. Cancel safe.
    pub(crate) async fn acknowledged(&self) {
        self.wait_for_progress(|state| {
            state.next_session.is_empty()
                && state.calls.is_empty()
                && (state.session.is_over() || state.session.is_acknowledged())
        })
        .await;
    }

    /// Returns whether further messages may be sent without exceeding [`OUTBOX_LIMIT`].
    pub(crate) fn has_capacity(&self) -> bool {
        self.state().has_capacity()
    }

    /// Returns whether a message is best sent at once, because hardly any other would share its batch.
    pub(crate) fn is_quiet(&self) -> bool {
        self.state().session.is_quiet()
    }

    /// Waits as [`acknowledged`](Self::acknowledged), but no longer than [`DISCONNECTED_TIMEOUT`] for a disconnected
    /// peer. Cancel safe.
    pub(crate) async fn acknowledged_or_gone(&self) {
        let gone = async {
            loop {
                self.wait_until(|state| !state.is_connected()).await;
                let connected = self.wait_until(ClientState::is_connected);
                let back = tokio::time::timeout(DISCONNECTED_TIMEOUT, connected);
                if back.await.is_err() {
                    return;
                }
            }
        };
        tokio::select! {
            () = self.acknowledged() => {}
            () = gone => {}
        }
    }

    /// Waits until further messages may be sent without exceeding [`OUTBOX_LIMIT`]. Cancel safe.
    pub(crate) async fn wait_for_capacity(&self) {
        self.wait_for_progress(ClientState::has_capacity).await;
    }

    /// Queues messages. Those that one session does not deliver move to the next one, as `resend` says.
    pub(crate) fn send_all(&self, resend: ResendPolicy, messages: impl Iterator<Item = Batch>) {
        let now = clock::now();
        let mut state = self.state();
        state.submit_calls(now);
        for batch in messages {
            state.send_or_keep(TaggedBatch::from_batch(resend.tag(), 0, batch), now);
        }
        state.flush(now);
    }

    /// Queues the message of one call, like [`send_all`](Self::send_all). Waits for capacity. Cancel safe.
    ///
    /// Unless the session is [quiet](Session::is_quiet), the message waits for a batch: the task that
    /// [`drive`](Self::drive)s the link yields once, so that other tasks can add their calls, and then sends the batch.
    /// `function` is the text of the steps.
    pub(crate) async fn send_call(&self, resend: ResendPolicy, function: &str, mut frame: Bytes) {
        while let Err(unsent) = self.try_send_call(resend, function, frame) {
            frame = unsent;
            self.wait_for_capacity().await;
        }
    }

    /// Like [`send_call`](Self::send_call), but returns the message if the queue is full.
    pub(crate) fn try_send_call(
        &self,
        resend: ResendPolicy,
        function: &str,
        frame: Bytes,
    ) -> Result<(), Bytes> {
        let mut state = self.state();
        if !state.has_capacity() {
            return Err(frame);
        }
        let now = clock::now();
        if state.session.is_quiet() {
            state.submit_calls(now);
            let item = TaggedBatch::from_batch(resend.tag(), 0, frame.into());
            state.send_or_keep(item, now);
            state.flush(now);
            return Ok(());
        }
        // While calls wait for the next flush, the driving task has been woken for it.
        let is_first = state.calls.is_empty();
        state.add_call(resend, function, frame, now);
        drop(state);
        if is_first {
            self.calls_added.notify_one();
        }
        Ok(())
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

    /// Sends results of tasks to the master. Returns how many bytes they have.
    pub(crate) fn submit(
        &self,
        results: impl Iterator<Item = Message>,
        batcher: &mut ResultBatcher,
    ) -> usize {
        let now = clock::now();
        let mut state = self.state();
        let mut ended = 0;
        let mut returned = Vec::new();
        let mut items = Vec::new();
        for mut result in results {
            let (tag, is_last) = match result.take_task().map(Lease::submit) {
                // The master accepts only results of tasks that it has assigned.
                None => {
                    tracing::error!("bug in palm: a worker's message belongs to no task");
                    continue;
                }
                // The session of the task is over: the master, or its clients, run the task again.
                Some((task, _)) if task.session != state.session_number => continue,
                // The task was returned before.
                Some((_, LeaseOutcome::Over)) => continue,
                Some((task, LeaseOutcome::Open)) => (task.tag, false),
                Some((task, LeaseOutcome::Ended)) => {
                    state.session.consume(1, task.bytes);
                    ended += 1;
                    (task.tag | 1, true)
                }
                Some((task, LeaseOutcome::Returned)) => {
                    returned.push(task);
                    (task.tag, false)
                }
            };
            batcher.add((tag, is_last), result, &mut items);
        }
        items.extend(batcher.take());
        let bytes = items.iter().map(|item| item.batch.bytes()).sum();
        for item in items {
            state.submit(item, now);
        }
        for task in returned {
            state.return_task(task);
        }
        state.finish_tasks(ended, now);
        state.flush(now);
        bytes
    }

    /// Drives the link, and runs `receive`, which waits for its [`LinkArrivals`], until one of them ends. Returns the
    /// output of `receive` if that ended.
    ///
    /// # Errors
    ///
    /// As [`drive`](Self::drive).
    ///
    /// # Cancel safety
    ///
    /// This method is cancel safe if `receive` is.
    pub(crate) async fn drive_with<T>(
        &self,
        receive: impl Future<Output = T>,
    ) -> Result<Option<T>, SocketError> {
        let mut drive = pin!(self.drive());
        let mut receive = pin!(receive);
        poll_fn(|context| {
            self.arrivals.set_polled_next(true);
            let driven = drive.as_mut().poll(context);
            self.arrivals.set_polled_next(false);
            match driven {
                Poll::Ready(ended) => Poll::Ready(ended.map(|()| None)),
                Poll::Pending => receive.as_mut().poll(context).map(|it| Ok(Some(it))),
            }
        })
        .await
    }

    /// Connects, reconnects and receives, until the socket is closed.
    ///
    /// If several tasks call it, one drives the link, and when its future is dropped, the next one takes over.
    ///
    /// # Errors
    ///
    /// [`SocketError::Connect`] if the address cannot be connected to.
    ///
    /// # Cancel safety
    ///
    /// This method is cancel safe: no message is lost.
    pub(crate) async fn drive(&self) -> Result<(), SocketError> {
        let mut slot = self.dealer.lock().await;
        let _driven = self.liveness.drive();
        let mut silence_limit = SilenceLimit::new(self.options.idle_timeout);
        loop {
            let dealer = match &mut *slot {
                Some(dealer) => dealer,
                None => {
                    let shared = match &self.requests {
                        Some(requests) => requests.take_dealer().await,
                        None => None,
                    };
                    let dealer = match shared {
                        Some(shared) => shared,
                        None => self.connect().await?,
                    };
                    self.state().dealer = Some(dealer.sender());
                    slot.insert(dealer)
                }
            };
            let sender = dealer.sender();
            let connected = clock::now();
            let conversed = tokio::select! {
                biased;
                conversed = self.drive_connection(dealer, silence_limit.get()) => conversed,
                never = self.explain_disconnections(&sender) => match never {},
            };
            if conversed.is_err() {
                // The socket is closed, since the component has stopped.
                return Ok(());
            }
            tracing::warn!(
                address = %self.address,
                silence_limit = ?silence_limit.get(),
                "no sign of life from the peer: reconnecting"
            );
            let is_received = self.state().session.last_heard() > connected;
            silence_limit.connection_ended(is_received, fastrand::f32());
            self.state().dealer = None;
            self.notify_changed();
            // Requests wait for the new socket, so it replaces the old one before that is closed.
            let dealer = self.connect().await?;
            {
                let mut state = self.state();
                state.dealer = Some(dealer.sender());
                state.session.reconnected();
            }
            if let Some(silent) = slot.replace(dealer) {
                silent.close(Duration::ZERO).await;
            }
        }
    }

    /// Opens a connection, which requests use as well.
    async fn connect(&self) -> Result<Dealer, SocketError> {
        let dealer = Dealer::connect(&self.address, &self.sockets).await?;
        if let Some(requests) = &self.requests {
            requests.use_dealer(dealer.sender());
        }
        Ok(dealer)
    }

    /// Logs why the connection is missing, if it is for longer than a moment. Never completes. Cancel safe.
    async fn explain_disconnections(&self, sender: &DealerSender) -> Infallible {
        let unanswered =
            || "it accepts connections, but no link opens: it is stopped or busy".to_owned();
        loop {
            let seen = sender.peers_generation();
            let changed = sender.peers_changed(seen);
            let changed = if sender.has_peer() {
                self.connecting.is_over();
                changed.await
            } else {
                tokio::select! {
                    changed = changed => changed,
                    never = self.connecting.explain(&unanswered) => match never {},
                }
            };
            if changed.is_err() {
                // The socket is closed.
                return std::future::pending().await;
            }
        }
    }

    /// Drives the session over one connection, until the peer has been silent for `silence_limit`.
    async fn drive_connection(
        &self,
        dealer: &mut Dealer,
        silence_limit: Duration,
    ) -> Result<(), SocketClosed> {
        let mut begin = clock::now();
        let mut planned = begin;
        let sender = dealer.sender();
        let mut messages = Vec::new();
        // These live as long as the connection, so that a message does not register each of them again.
        let mut changed = pin!(sender.peers_changed(sender.peers_generation()));
        let mut calls_added = pin!(self.calls_added.notified());
        let mut timer = pin!(tokio::time::sleep(self.options.idle_timeout));
        loop {
            let now = clock::now();
            if now.saturating_duration_since(planned)
                > STALL_THRESHOLD.min(self.options.idle_timeout / 4)
            {
                // This process was stalled and has not read its socket, so the peer may not have been silent.
                begin = now;
            }
            let due = {
                let mut state = self.state();
                self.renew_session(&mut state, now);
                state.flush(now);
                // A disconnected peer is not expected to show signs of life.
                let silent = state.is_connected().then(|| {
                    let heard = state.session.last_heard().max(begin);
                    heard + silence_limit
                });
                if silent.is_some_and(|silent| silent <= now) {
                    return Ok(());
                }
                let due = [state.session.timeout(), state.retry_at, silent];
                let due = due.into_iter().flatten().min();
                let due = due.map_or(now + self.options.idle_timeout, |due| due.max(now));
                self.liveness.driven(due, state.session.heartbeat());
                due
            };
            planned = due;
            // Tokio's timers have a resolution of 1 ms.
            let due = tokio::time::Instant::from(due + Duration::from_millis(1));
            // Each message starts a timer of the session, which the next one stops. Therefore each message puts `timer`
            // off, by the shortest delay of a session, so that it fires only in a pause. Setting it to an earlier time
            // would cost more: the lock of tokio's timer wheel, and often a wakeup of the thread that waits for it.
            let due = match timer.is_elapsed() {
                true => due,
                false => due.min(timer.deadline().max((now + ACK_DELAY).into())),
            };
            if due != timer.deadline() {
                timer.as_mut().reset(due);
            }
            tokio::select! {
                biased;
                received = dealer.recv_many(&mut messages, 256) => received?,
                is_open = &mut changed => {
                    is_open?;
                    changed.set(sender.peers_changed(sender.peers_generation()));
                    let mut state = self.state();
                    state.session.reconnected();
                    drop(state);
                    self.notify_changed();
                }
                // The flush at the beginning of the loop sends the calls that other tasks add until then.
                () = &mut calls_added => {
                    calls_added.set(self.calls_added.notified());
                    tokio::task::yield_now().await;
                }
                () = &mut timer => {}
            }
            if !messages.is_empty() {
                self.receive(messages.drain(..));
            }
        }
    }

    /// Begins a new session if the last one is over.
    fn renew_session(&self, state: &mut ClientState, now: Instant) {
        if !state.session.is_over()
            || state.is_draining
            || state.retry_at.is_some_and(|end| end > now)
        {
            return;
        }
        state.retry_at = None;
        state.session_number += 1;
        state.peer_is_draining = false;
        state.peer_finished = false;
        state.task_limit = state.task_limit.saturating_sub(state.received_tasks);
        state.received_tasks = 0;
        let window = state.pace.window();
        if state.session.peer_followers() > 0 {
            state.peer_followers = state.session.peer_followers();
        }
        let hello = LinkHello {
            again: state.is_open,
            followers: state.peer_followers,
            concurrency: match self.hello.concurrency {
                0 => 0,
                _ => state.concurrency(),
            },
            ..self.hello.clone()
        };
        state.session = new_session(&hello, window, self.options.heartbeat, now);
        state.session.set_lent_slots(state.pace.lent);
        state.session.set_limit(state.task_limit);
        for item in std::mem::take(&mut state.next_session) {
            state.session.submit(item, now);
        }
        if std::mem::take(&mut state.is_lost) {
            self.arrivals.push(vec![LinkArrival::Renewed]);
        }
    }

    fn receive(&self, messages: impl Iterator<Item = Frames>) {
        let now = clock::now();
        let mut state = self.state();
        let state = &mut *state;
        let mut arrivals = Vec::new();
        let mut has_changed = false;
        for mut frames in messages {
            if let Some(requests) = &self.requests
                && !frames.first().is_some_and(|first| is_header(first))
            {
                requests.receive_reply(&frames);
                continue;
            }
            let mut frames = frames.drain(..);
            let header = frames.next().and_then(header::decode);
            let Some(header) = header else {
                tracing::warn!(address = %self.address, "dropping a message of the peer: the link header is malformed");
                continue;
            };
            if header.session != *state.session.id() {
                continue;
            }
            let mut events = std::mem::take(&mut state.events);
            state.session.receive(now, &header, frames, &mut events);
            for event in events.drain(..) {
                has_changed |= changes_session(&event);
                self.handle_event(state, event, now, &mut arrivals);
            }
            state.events = events;
        }
        state.flush(now);
        self.arrivals.push(arrivals);
        match has_changed {
            true => self.notify_changed(),
            false => self.progressed.notify_waiters(),
        }
    }

    /// Handles an event of the session. Adds what is for the owner of the link to `arrivals`.
    fn handle_event(
        &self,
        state: &mut ClientState,
        event: SessionEvent,
        now: Instant,
        arrivals: &mut Vec<LinkArrival>,
    ) {
        match event {
            SessionEvent::Opened => {
                state.is_open = true;
                if std::mem::take(&mut state.has_logged_end) {
                    tracing::info!(address = %self.address, "the link is open again");
                }
                self.refused.clear();
                state.show_life();
                if state.session.version() < WORKER_CONTROL_VERSION {
                    state.older_session = state.session_number;
                }
            }
            SessionEvent::Messages(item) => {
                let received = state.receipt_of(&item, now);
                if self.hello.role == SUBSCRIBER {
                    let each = received.each(&item.batch);
                    let each = each.map(|(one, frame)| LinkArrival::Messages(one, frame.into()));
                    arrivals.extend(each);
                } else {
                    arrivals.push(LinkArrival::Messages(received, item.batch));
                }
            }
            SessionEvent::SubscriptionsReady => arrivals.push(LinkArrival::SubscriptionsReady),
            SessionEvent::Cancelled(list) => {
                if let Some(cancellations) = &self.cancellations {
                    cancellations.cancel(&list);
                }
            }
            SessionEvent::ReportWanted { calls } => self.send_report(state, calls),
            SessionEvent::Request(request) => self.handle_request(state, &request),
            SessionEvent::Report(_) | SessionEvent::Reply { .. } => {}
            SessionEvent::Draining => state.handle_draining(),
            SessionEvent::Finished => state.peer_finished = true,
            SessionEvent::Forgotten => {
                tracing::info!(address = %self.address, "the peer does not know the session: opening a new one");
                state.has_logged_end = true;
                state.end_session(false, now);
            }
            SessionEvent::Closed { is_settled } => {
                tracing::info!(address = %self.address, "the peer has closed the link");
                state.has_logged_end = true;
                // Results for one run of a master mean nothing to the next one.
                let is_settled = is_settled && self.hello.role != WORKER;
                state.end_session(is_settled, now);
            }
            SessionEvent::Refused(refusal) => {
                let reason = refusal.reason;
                if self.refused.set(&reason) {
                    tracing::warn!(address = %self.address, "the peer has refused the link: {reason}");
                }
                state.end_session(false, now);
                state.retry_at = Some(now + REFUSED_RETRY_DELAY);
            }
        }
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

/// Returns whether a session begins, drains or ends with this event.
fn changes_session(event: &SessionEvent) -> bool {
    match event {
        SessionEvent::Opened
        | SessionEvent::Draining
        | SessionEvent::Finished
        | SessionEvent::Forgotten
        | SessionEvent::Closed { .. }
        | SessionEvent::Refused(_) => true,
        SessionEvent::Messages(_)
        | SessionEvent::SubscriptionsReady
        | SessionEvent::Cancelled(_)
        | SessionEvent::ReportWanted { .. }
        | SessionEvent::Report(_)
        | SessionEvent::Request(_)
        | SessionEvent::Reply { .. } => false,
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
    /// Counts the messages of a batch that has arrived, and returns their receipt.
    fn receipt_of(&mut self, item: &TaggedBatch, now: Instant) -> LinkReceipt {
        let messages = item.len() as u64;
        self.received_tasks += messages;
        self.pace.began(messages, now);
        LinkReceipt {
            session: self.session_number,
            tag: item.tag,
            step: item.step,
            messages,
            bytes: item.batch.bytes() as u64,
        }
    }

    /// Lets the liveness thread show signs of life for the open session while its task cannot run.
    fn show_life(&self) {
        let session = &self.session;
        let knows_it = session.version() >= LIVENESS_VERSION;
        let session = knows_it.then(|| (session.id().clone(), session.heartbeat()));
        self.liveness.set_session(session);
    }

    fn is_connected(&self) -> bool {
        self.dealer.as_ref().is_some_and(DealerSender::has_peer)
    }

    fn has_capacity(&self) -> bool {
        let (unacknowledged, bytes) = self.session.unacknowledged();
        unacknowledged + message_count(&self.next_session) < OUTBOX_LIMIT.0
            && bytes < OUTBOX_LIMIT.1
    }

    /// Queues a message for this session, or for the next one if this one accepts no further messages.
    fn send_or_keep(&mut self, item: TaggedBatch, now: Instant) {
        if self.peer_is_draining || self.session.is_over() {
            self.next_session.push_back(item);
        } else {
            self.session.submit(item, now);
        }
    }

    /// Adds the message of a call to the batch of the next flush.
    fn add_call(&mut self, resend: ResendPolicy, function: &str, frame: Bytes, now: Instant) {
        if self.calls.add(resend, function, &frame) {
            return;
        }
        self.submit_calls(now);
        if !self.calls.add(resend, function, &frame) {
            self.send_or_keep(TaggedBatch::from_batch(resend.tag(), 0, frame.into()), now);
        }
    }

    fn submit_calls(&mut self, now: Instant) {
        if let Some(item) = self.calls.take() {
            self.send_or_keep(item, now);
        }
    }

    /// Handles a peer that drains: messages beyond its credit move to the next session.
    fn handle_draining(&mut self) {
        self.peer_is_draining = true;
        let unsent = self.session.take_unsent();
        self.next_session.extend(unsent);
        self.session.finish();
    }

    /// Queues a result of a worker, or the end of a task.
    fn submit(&mut self, item: TaggedBatch, now: Instant) {
        if !self.peer_is_draining && !self.session.is_over() {
            self.session.submit(item, now);
        }
    }

    /// Registers tasks that have arrived in this session, and revokes those that must not run here.
    fn register(&mut self, tasks: &Arc<LeasedTasks>, now: Instant) {
        for entry in tasks.entries() {
            let task = entry.received();
            if self.tasks.resume(task, tasks.component()) {
                entry.progress.revoke();
                self.session.consume(1, task.bytes);
                self.pace.returned(1);
            } else if self.is_returning {
                entry.progress.revoke();
                self.return_task(task);
            }
        }
        if self.is_returning {
            self.flush(now);
        } else {
            self.tasks.add(tasks);
        }
    }

    /// Returns a task to the master, which redelivers it to another worker.
    fn return_task(&mut self, task: LinkReceipt) {
        if self.session.is_over() {
            return;
        }
        self.pace.returned(1);
        if self.session.version() < RETURNS_VERSION {
            // The end of the session returns all of its tasks. While this side drains, the session ends anyway.
            if !self.is_draining {
                let header = self.session.close();
                self.send(header::encode(&header), Vec::new());
                self.end_session(false, clock::now());
            }
            return;
        }
        self.session.consume(1, task.bytes);
        self.submit(TaggedBatch::new(task.tag & !1, Bytes::new()), clock::now());
    }

    /// Ends the session, and selects the messages for the next one. `is_settled` is set if the peer has handled
    /// all messages that it has acknowledged.
    fn end_session(&mut self, is_settled: bool, now: Instant) {
        self.liveness.set_session(None);
        self.tasks.session_is_over(self.session_number);
        let mut untransmitted = self.session.take_unsent();
        let mut waiting = self.session.take_unacknowledged();
        untransmitted.append(&mut self.next_session);
        if !is_settled {
            // Results of a worker are dropped, since their tasks run again.
            waiting.retain(|item| item.tag == ResendPolicy::ByLink.tag());
            untransmitted.retain(|item| {
                item.tag == ResendPolicy::ByLink.tag()
                    || item.tag == ResendPolicy::IfUntransmitted.tag()
            });
            self.is_lost = true;
        }
        waiting.append(&mut untransmitted);
        self.next_session = waiting;
        self.peer_finished |= self.is_draining;
        self.pace.forget(now);
    }

    fn finish_tasks(&mut self, tasks: u64, now: Instant) {
        if tasks > 0 {
            self.pace.ended(tasks, now);
            if !self.is_draining {
                self.session.set_window(self.pace.window());
            }
        }
    }

    fn flush(&mut self, now: Instant) {
        self.submit_calls(now);
        while let Some(transmission) = self.session.transmit(now) {
            let first = transmission.header.first;
            let header = header::encode(&transmission.header);
            if !self.send(header, transmission.frames) {
                // Without a connection, or with a full queue, the session repeats the transmission later.
                self.session.retry_from(first);
                break;
            }
        }
    }

    fn send(&self, header: Bytes, frames: Vec<Bytes>) -> bool {
        let Some(dealer) = &self.dealer else {
            return false;
        };
        let by = write_by(&self.session, &frames);
        let message = std::iter::once(header).chain(frames).collect();
        !matches!(dealer.try_send(message, by), Err(TrySendError::Full(_)))
    }
}

impl Lessor for LinkClient {
    fn settle(&self, task: LinkReceipt, outcome: LeaseOutcome) {
        let now = clock::now();
        let mut state = self.state();
        if task.session != state.session_number {
            return;
        }
        if outcome == LeaseOutcome::Ended {
            state.session.consume(1, task.bytes);
            let item = TaggedBatch::new(task.tag | 1, Bytes::new());
            state.submit(item, now);
            state.finish_tasks(1, now);
        } else {
            state.return_task(task);
        }
        state.flush(now);
    }
}

#[cfg(test)]
mod tests;

//! The side of a link that connects, as a worker, a client or a subscriber: a session over a DEALER, and
//! another one when the other side knows nothing of the first any more.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant};

use bytes::Bytes;
use tokio::sync::{Notify, mpsc};
use uuid::Uuid;

use super::header;
use super::liveness::LinkLiveness;
use super::options::LinkOptions;
use super::session::{
    CreditWindow, LIVENESS_VERSION, RETURNS_VERSION, Session, SessionEvent, TASK_TAG_STEP,
    TaggedBatch, VERSION, message_count,
};
use super::streams::Following;
use super::{SUBSCRIBER, WORKER};
use crate::message::lease::{Lease, LeaseOutcome, LeaseState, LeasedTasks, Lessor, Received};
use crate::message::proto::{Function, LinkHello};
use crate::message::{Batch, BatchBuilder, FramePool, Message};
use crate::socket::{
    Address, Dealer, DealerSender, Frames, SocketClosed, SocketError, SocketOptions, TrySendError,
};
use crate::wait_cause::{Connecting, WaitCause};

/// How many bytes may be on their way to this side, or wait here.
const WINDOW_BYTES: u64 = 64 * 1024 * 1024;

/// How many messages, and bytes, may wait until the other side has them.
const OUTBOX_LIMIT: (usize, usize) = (10_000, 64 * 1024 * 1024);

/// How long the tasks that a worker holds besides those it runs should take, and how many may be.
const PREFETCH_TIME: Duration = Duration::from_millis(10);
const MAX_PREFETCH: u64 = 1000;

/// How long the goodbye may take.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(1);

/// How long a peer that is not connected is waited for until what it has not acknowledged is given up.
const DISCONNECTED_TIMEOUT: Duration = Duration::from_secs(1);

/// A timer that comes so late shows that this process was stopped, or its thread held by a method.
const STALL_THRESHOLD: Duration = Duration::from_millis(500);

/// How long after a refusal to try again.
const REFUSED_RETRY_DELAY: Duration = Duration::from_secs(1);

/// How many tasks a worker holds besides those that it runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Prefetch {
    /// As many as it does in 10 ms, 1000 at most: none where a task takes longer.
    Measured,
    Fixed(u64),
}

/// Who connects.
#[derive(Debug)]
pub(crate) struct Introduction {
    pub(crate) role: &'static str,
    pub(crate) name: String,
    /// What a worker can do.
    pub(crate) functions: Vec<Function>,
    pub(crate) following: Following,
    /// Its `db_address`; empty: it has none.
    pub(crate) db_address: String,
    /// A client's, where clients share the component.
    pub(crate) weight: u32,
    /// How many messages are dealt with at once, and how many more may come ahead.
    pub(crate) concurrency: usize,
    pub(crate) prefetch: Prefetch,
}

impl Introduction {
    /// One that takes what it follows.
    pub(crate) fn following(role: &'static str, name: &str, following: Following) -> Self {
        Self {
            role,
            name: name.to_owned(),
            functions: Vec::new(),
            following,
            db_address: String::new(),
            weight: 0,
            concurrency: 1,
            prefetch: Prefetch::Fixed(4095),
        }
    }
}

/// Which of the messages of a client are sent again that the peer has not acknowledged, when the peer was restarted and
/// has forgotten the session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Resend {
    /// The link sends them again.
    ByLink,
    /// Their sender does, when [`Arrival::Renewed`] comes, with those that were acknowledged.
    BySender,
    /// Only messages that were never transmitted are sent, since a call must not run twice.
    IfUntransmitted,
}

impl Resend {
    /// The tag of such messages. That of the last kind is none that a task has.
    fn tag(self) -> u64 {
        match self {
            Self::ByLink => 0,
            Self::BySender => 1,
            Self::IfUntransmitted => u64::MAX,
        }
    }
}

/// What comes over a link.
#[derive(Debug)]
pub(crate) enum Arrival {
    /// Messages that go the same way: for a subscriber, one.
    Messages(Received, Batch),
    /// All that the other side follows itself is in place.
    InPlace,
    /// The other side is gone with what it had, and there is another session. What was not answered will
    /// not be, unless it is sent again.
    Renewed,
}

/// What has come over a link, all that came together at once.
#[derive(Debug)]
pub(crate) struct Arrivals {
    batches: mpsc::UnboundedReceiver<Vec<Arrival>>,
    rest: std::vec::IntoIter<Arrival>,
}

impl Arrivals {
    /// Waits for arrivals, takes up to `max`, and tells how many; none when nothing will come any more. Cancel
    /// safe.
    pub(crate) async fn recv_many(&mut self, out: &mut Vec<Arrival>, max: usize) -> usize {
        let before = out.len();
        if self.rest.len() == 0 {
            self.rest = self.batches.recv().await.unwrap_or_default().into_iter();
        }
        self.try_recv_many(out, max);
        out.len() - before
    }

    /// Takes up to `max` that are there.
    pub(crate) fn try_recv_many(&mut self, out: &mut Vec<Arrival>, max: usize) {
        let most = out.len().saturating_add(max);
        loop {
            out.extend(self.rest.by_ref().take(most - out.len()));
            if out.len() == most {
                return;
            }
            let Ok(batch) = self.batches.try_recv() else {
                return;
            };
            self.rest = batch.into_iter();
        }
    }
}

/// A link with the component that this side connects to.
#[derive(Debug)]
pub(crate) struct Link {
    /// Where the other side is.
    address: Address,
    sockets: SocketOptions,
    options: LinkOptions,
    hello: LinkHello,
    /// The socket, for who receives from it.
    dealer: tokio::sync::Mutex<Option<Dealer>>,
    state: Mutex<ClientState>,
    /// Told when something has changed that one who waits may wait for.
    changed: Notify,
    liveness: Arc<LinkLiveness>,
    arrivals: mpsc::UnboundedSender<Vec<Arrival>>,
    connecting: Connecting,
    /// Why the other side has refused the last session.
    refused: WaitCause,
}

#[derive(Debug)]
struct ClientState {
    dealer: Option<DealerSender>,
    session: Session,
    /// How many sessions there have been.
    session_number: u64,
    pace: PrefetchWindow,
    /// How many tasks may still come, of all sessions; what has come in this session.
    task_limit: u64,
    received_tasks: u64,
    is_draining: bool,
    /// Whether tasks that arrive are returned at once.
    is_returning: bool,
    /// Whether the other side will send no more.
    peer_finished: bool,
    /// Whether the other side takes no more in this session.
    peer_is_draining: bool,
    /// What goes over the next session.
    next_session: VecDeque<TaggedBatch>,
    /// Whether the last session is over and what was in it is lost.
    is_lost: bool,
    /// Not before then a new session begins.
    retry_at: Option<Instant>,
    /// Whether the first session is open.
    is_open: bool,
    events: Vec<SessionEvent>,
    tasks: OpenTasks,
    liveness: Arc<LinkLiveness>,
}

/// The tasks of a worker that may have no outcome yet.
#[derive(Debug, Default)]
struct OpenTasks {
    /// Those that arrived, of all sessions; some are gone by now.
    groups: Vec<Weak<LeasedTasks>>,
    /// How many groups there may be until those that are gone are taken out.
    most: usize,
    /// The run of the master that the tasks are of, and the highest tag that arrived of it.
    component: u64,
    highest: u64,
}

impl OpenTasks {
    fn add(&mut self, group: &Arc<LeasedTasks>) {
        if self.groups.len() >= self.most {
            self.groups.retain(|group| group.strong_count() > 0);
            self.most = 2 * self.groups.len() + 16;
        }
        self.groups.push(Arc::downgrade(group));
    }

    /// Revokes the tasks of a session for which `revoke` says so, and returns what they are.
    fn revoke(&self, session: u64, revoke: impl Fn(&LeaseState) -> bool) -> Vec<Received> {
        let mut revoked = Vec::new();
        for group in self.groups.iter().filter_map(Weak::upgrade) {
            for entry in group.entries() {
                let received = entry.received();
                if received.session == session && revoke(&entry.progress) {
                    revoked.push(received);
                }
            }
        }
        revoked
    }

    /// A session is over: what is prefetched in it must not run. What runs may be sent again.
    fn session_is_over(&self, session: u64) {
        self.revoke(session, LeaseState::revoke_waiting);
    }

    /// Whether a task that arrives from this run of the master is here already: the master has lost sight of
    /// this worker for a while, and sends it again. Its result is then for the session in which it was sent
    /// last. Tags of new tasks grow, so only what is redelivered is looked for.
    fn resume(&mut self, task: Received, component: u64) -> bool {
        if self.component != component {
            self.component = component;
            self.highest = 0;
        }
        let is_new = task.tag > self.highest;
        self.highest = self.highest.max(task.tag);
        if is_new || component == 0 {
            return false;
        }
        let open = self.groups.iter().filter_map(Weak::upgrade);
        for group in open.filter(|group| group.component() == component) {
            for entry in group.entries() {
                let is_here = entry.progress.is_begun()
                    || entry.progress.is_waiting() && entry.received().session == task.session;
                if entry.tag() == task.tag && is_here {
                    entry.move_to(task.session);
                    return true;
                }
            }
        }
        false
    }
}

impl Link {
    /// A link that is not connected yet. What comes over it comes out of the second one.
    pub(crate) fn new(
        address: &Address,
        sockets: &SocketOptions,
        introduction: Introduction,
        options: LinkOptions,
    ) -> (Arc<Self>, Arrivals) {
        let Introduction {
            role,
            name,
            functions,
            following,
            db_address,
            weight,
            concurrency,
            prefetch,
        } = introduction;
        let (arrivals, batches) = mpsc::unbounded_channel();
        let received = Arrivals {
            batches,
            rest: Vec::new().into_iter(),
        };
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
        let now = Instant::now();
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
                next_session: VecDeque::new(),
                is_lost: false,
                retry_at: None,
                is_open: false,
                events: Vec::new(),
                tasks: OpenTasks::default(),
                liveness: liveness.clone(),
            }),
            changed: Notify::new(),
            liveness,
            arrivals,
            connecting: Connecting::new(address),
            refused: WaitCause::default(),
        };
        (Arc::new(link), received)
    }

    fn state(&self) -> MutexGuard<'_, ClientState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes no more than `messages` in all.
    pub(crate) fn limit(&self, messages: u64) {
        let mut state = self.state();
        state.task_limit = messages;
        state.session.set_limit(messages);
    }

    /// Where the other side is.
    pub(crate) fn address(&self) -> &Address {
        &self.address
    }

    /// Why nothing comes over the link, if that is known.
    pub(crate) fn wait_cause(&self) -> Option<Arc<str>> {
        self.connecting.cause().or_else(|| self.refused.get())
    }

    /// Reports to the master how many tasks of this worker wait for other calls of it, so that as many more run.
    pub(crate) fn set_lent(&self, tasks: u32) {
        let mut state = self.state();
        state.set_lent(tasks);
        state.flush(Instant::now());
    }

    /// Whether there is a connection just now.
    pub(crate) fn is_connected(&self) -> bool {
        self.state().is_connected()
    }

    /// Waits until the other side has answered once. Cancel safe.
    pub(crate) async fn opened(&self) {
        self.wait_until(|state| state.is_open).await;
    }

    /// Each of the tasks that arrived together and are to run here, and its message.
    ///
    /// Tasks are left out whose session is over by now, and those that still run for an earlier session with
    /// the same run of the master. While this side drains, they are returned.
    pub(crate) fn tasks(
        self: &Arc<Self>,
        received: Received,
        group: &Batch,
    ) -> impl Iterator<Item = (Lease, Bytes)> + use<> {
        let now = Instant::now();
        let mut state = self.state();
        let component = state.session.component();
        let tasks = received.each(group).map(|(task, _)| task);
        let tasks = LeasedTasks::new(self.clone(), component, tasks);
        if received.session != state.session_number || state.session.is_over() {
            for entry in tasks.entries() {
                entry.progress.revoke();
            }
        } else {
            state.register(&tasks, now);
        }
        drop(state);
        let tasks = tasks.tasks().zip(group.frames());
        tasks.filter(|(task, _)| !task.is_over())
    }

    /// Returns all tasks to the master that are not begun, and those that still arrive. Returns how many were
    /// here. A master of an earlier version gets them back when the link closes, unless they are done by then.
    pub(crate) fn return_waiting(&self) -> usize {
        self.return_tasks(LeaseState::revoke_waiting)
    }

    /// Returns all tasks to the master that have no last result yet. Returns how many those were.
    pub(crate) fn return_all(&self) -> usize {
        self.return_tasks(LeaseState::give_back)
    }

    fn return_tasks(&self, revoke: impl Fn(&LeaseState) -> bool) -> usize {
        let now = Instant::now();
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

    /// Takes no more than what is under way.
    pub(crate) fn drain(&self) {
        let mut state = self.state();
        state.is_draining = true;
        state.session.drain();
        state.flush(Instant::now());
        // Who waits for something to do looks again.
        self.changed.notify_waiters();
        self.changed.notify_one();
    }

    /// Waits until the other side sends no more: it has said so, or there is none. Cancel safe.
    pub(crate) async fn drained(&self) {
        self.wait_until(|state| {
            state.peer_finished || (state.is_draining && !state.is_connected())
        })
        .await;
    }

    /// Waits until the other side has said that it sends no more; for as long as it takes until that is heard.
    /// Cancel safe.
    pub(crate) async fn finished(&self) {
        self.wait_until(|state| state.peer_finished || state.session.is_over())
            .await;
    }

    /// Waits until the other side has all that was given to it. Cancel safe.
    pub(crate) async fn acknowledged(&self) {
        self.wait_until(|state| {
            state.next_session.is_empty()
                && (state.session.is_over() || state.session.is_acknowledged())
        })
        .await;
    }

    /// Whether there is room for what is to be sent.
    pub(crate) fn has_room(&self) -> bool {
        self.state().has_capacity()
    }

    /// [`acknowledged`](Self::acknowledged), or until the other side has not been connected for a while.
    /// Cancel safe.
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

    /// Waits until there is room for what is to be sent. Cancel safe.
    pub(crate) async fn room(&self) {
        self.wait_until(ClientState::has_capacity).await;
    }

    /// Sends messages. What one session does not bring goes over the next one, as `resend` says.
    pub(crate) fn send_all(&self, resend: Resend, messages: impl Iterator<Item = Batch>) {
        let now = Instant::now();
        let mut state = self.state();
        let is_closed = state.peer_is_draining || state.session.is_over();
        for group in messages {
            let item = TaggedBatch::of(resend.tag(), 0, group);
            if is_closed {
                state.next_session.push_back(item);
            } else {
                state.session.submit(item, now);
            }
        }
        state.flush(now);
    }

    /// Messages were taken: their places are free.
    pub(crate) fn taken(&self, messages: impl Iterator<Item = Received>) {
        let now = Instant::now();
        let mut state = self.state();
        for message in messages {
            if message.session == state.session_number {
                state.session.consume(message.messages, message.bytes);
            }
        }
        state.flush(now);
    }

    async fn wait_until(&self, done: impl Fn(&ClientState) -> bool) {
        loop {
            let mut changed = std::pin::pin!(self.changed.notified());
            changed.as_mut().enable();
            if done(&self.state()) {
                return;
            }
            changed.await;
        }
    }

    /// Gives results to the master, each of which belongs to a task. Tells how many bytes they have.
    pub(crate) fn submit(
        &self,
        results: impl Iterator<Item = Message>,
        batcher: &mut ResultGroups,
    ) -> usize {
        let now = Instant::now();
        let mut state = self.state();
        let mut ended = 0;
        let mut returned = Vec::new();
        let mut items = Vec::new();
        for mut result in results {
            let (tag, is_last) = match result.take_task().map(Lease::submit) {
                // The master accepts results only for tasks that it has given.
                None => {
                    tracing::error!("bug in palm: a worker's message belongs to no task");
                    continue;
                }
                // The master that wanted it is gone, and whoever asked it asks again.
                Some((task, _)) if task.session != state.session_number => continue,
                // The task was returned.
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
        let bytes = items.iter().map(|item| item.group.bytes()).sum();
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

    /// Keeps the link up, and lets tasks come out; does not end as long as there is a component. Of
    /// several that do so one does, and when it is dropped, the next. Cancel safe: nothing is lost.
    ///
    /// # Errors
    ///
    /// [`SocketError::Connect`] when the address is none to connect to.
    pub(crate) async fn drive(&self) -> Result<(), SocketError> {
        let mut slot = self.dealer.lock().await;
        let _driven = self.liveness.drive();
        loop {
            let dealer = match &mut *slot {
                Some(dealer) => dealer,
                None => {
                    let dealer = Dealer::connect(&self.address, &self.sockets).await?;
                    self.state().dealer = Some(dealer.sender());
                    slot.insert(dealer)
                }
            };
            let sender = dealer.sender();
            let conversed = tokio::select! {
                biased;
                conversed = self.drive_connection(dealer) => conversed,
                never = self.explain_disconnections(&sender) => match never {},
            };
            if conversed.is_err() {
                // The socket is closed: the component is gone.
                return Ok(());
            }
            tracing::warn!("`{}` is silent; connecting again", self.address);
            self.state().dealer = None;
            self.changed.notify_waiters();
            if let Some(dealer) = slot.take() {
                dealer.close(Duration::ZERO).await;
            }
            self.state().session.reconnected();
        }
    }

    /// Logs the cause if the connection is missing for longer than a moment. Does not end. Cancel safe.
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
                    never = self.connecting.explain(unanswered) => match never {},
                }
            };
            if changed.is_err() {
                // The socket is closed.
                return std::future::pending().await;
            }
        }
    }

    /// Talks to the master until it has been silent for too long.
    async fn drive_connection(&self, dealer: &mut Dealer) -> Result<(), SocketClosed> {
        let mut begin = Instant::now();
        let mut planned = begin;
        let sender = dealer.sender();
        let mut seen = sender.peers_generation();
        let mut messages = Vec::new();
        loop {
            let now = Instant::now();
            if now.saturating_duration_since(planned)
                > STALL_THRESHOLD.min(self.options.idle_timeout / 4)
            {
                // This side was held up, and has not read its socket: the silence is its own.
                begin = now;
            }
            let due = {
                let mut state = self.state();
                self.renew_session(&mut state, now);
                state.flush(now);
                // Who is not connected need not be heard of.
                let silent = state.is_connected().then(|| {
                    let heard = state.session.last_heard().max(begin);
                    heard + self.options.idle_timeout
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
            // Timers are no finer than this.
            let due = (due + Duration::from_millis(1)).into();
            tokio::select! {
                biased;
                received = dealer.recv_many(&mut messages, 256) => received?,
                changed = sender.peers_changed(seen) => {
                    changed?;
                    seen = sender.peers_generation();
                    let mut state = self.state();
                    state.session.reconnected();
                    self.changed.notify_waiters();
                }
                () = tokio::time::sleep_until(due) => {}
            }
            if !messages.is_empty() {
                self.receive(messages.drain(..));
            }
        }
    }

    /// Begins a new session where the last one is over.
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
        state.task_limit = state.task_limit.saturating_sub(state.received_tasks);
        state.received_tasks = 0;
        let window = state.pace.window();
        let hello = LinkHello {
            again: state.is_open,
            ..self.hello.clone()
        };
        state.session = new_session(&hello, window, self.options.heartbeat, now);
        state.session.set_lent_slots(state.pace.lent);
        state.session.set_limit(state.task_limit);
        for item in std::mem::take(&mut state.next_session) {
            state.session.submit(item, now);
        }
        if std::mem::take(&mut state.is_lost) {
            self.deliver(vec![Arrival::Renewed]);
        }
    }

    fn receive(&self, messages: impl Iterator<Item = Frames>) {
        let now = Instant::now();
        let mut state = self.state();
        let state = &mut *state;
        let mut arrivals = Vec::new();
        let is_subscriber = self.hello.role == SUBSCRIBER;
        for mut frames in messages {
            let mut frames = frames.drain(..);
            let header = frames.next().and_then(header::decode);
            let Some(header) = header else {
                tracing::warn!("`{}` sent what is no header of a link", self.address);
                continue;
            };
            if header.session != *state.session.id() {
                continue;
            }
            let mut events = std::mem::take(&mut state.events);
            state.session.receive(now, &header, frames, &mut events);
            for event in events.drain(..) {
                match event {
                    SessionEvent::Opened => {
                        state.is_open = true;
                        self.refused.clear();
                        state.show_life();
                    }
                    SessionEvent::Messages(item) => {
                        let messages = item.len() as u64;
                        state.received_tasks += messages;
                        state.pace.began(messages, now);
                        let received = Received {
                            session: state.session_number,
                            tag: item.tag,
                            step: item.step,
                            messages,
                            bytes: item.group.bytes() as u64,
                        };
                        if is_subscriber {
                            let each = received.each(&item.group);
                            let each =
                                each.map(|(one, frame)| Arrival::Messages(one, frame.into()));
                            arrivals.extend(each);
                        } else {
                            arrivals.push(Arrival::Messages(received, item.group));
                        }
                    }
                    SessionEvent::SubscriptionsReady => arrivals.push(Arrival::InPlace),
                    SessionEvent::Draining => state.handle_draining(),
                    SessionEvent::Finished => state.peer_finished = true,
                    SessionEvent::Forgotten => {
                        tracing::info!("`{}` begins anew, and so does the link", self.address);
                        state.end_session(false, now);
                    }
                    SessionEvent::Closed { is_settled } => {
                        tracing::info!("`{}` has closed the link", self.address);
                        // Results of one master mean nothing to the next.
                        let is_settled = is_settled && self.hello.role != WORKER;
                        state.end_session(is_settled, now);
                    }
                    SessionEvent::Refused(refusal) => {
                        let reason = refusal.reason;
                        if self.refused.set(&reason) {
                            tracing::warn!("`{}` has closed the link: {reason}", self.address);
                        }
                        state.end_session(false, now);
                        state.retry_at = Some(now + REFUSED_RETRY_DELAY);
                    }
                }
            }
            state.events = events;
        }
        state.flush(now);
        self.deliver(arrivals);
        self.changed.notify_waiters();
    }

    /// Gives on what has come; without a receiver the component has stopped.
    fn deliver(&self, arrivals: Vec<Arrival>) {
        if !arrivals.is_empty() {
            let _ = self.arrivals.send(arrivals);
        }
    }

    /// Says goodbye without waiting until it is sent.
    pub(crate) fn say_goodbye(&self) {
        let mut state = self.state();
        if !state.session.is_over() {
            let header = state.session.close();
            state.send(header::encode(&header), Vec::new());
        }
        state.liveness.set_session(None);
        state.dealer = None;
    }

    /// Says goodbye. Nobody may [`drive`](Self::drive) any more.
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

fn new_session(hello: &LinkHello, window: u64, heartbeat: Duration, now: Instant) -> Session {
    let id = Bytes::copy_from_slice(Uuid::new_v4().as_bytes());
    let window = CreditWindow {
        messages: window,
        bytes: WINDOW_BYTES,
    };
    Session::connect(id, hello.clone(), window, heartbeat, now)
}

impl ClientState {
    /// The session is open: its peer is shown that this process lives if its task cannot run.
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

    /// The other side takes no more: what it has no credit for goes over the next session.
    fn handle_draining(&mut self) {
        self.peer_is_draining = true;
        let unsent = self.session.take_unsent();
        self.next_session.extend(unsent);
        self.session.finish();
    }

    /// Sends a result of a worker, or the end of a task.
    fn submit(&mut self, item: TaggedBatch, now: Instant) {
        if !self.peer_is_draining && !self.session.is_over() {
            self.session.submit(item, now);
        }
    }

    /// Tasks have arrived in this session. Revokes those that must not run here.
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

    /// Returns a task to the master, which gives it to another worker.
    fn return_task(&mut self, task: Received) {
        if self.session.is_over() {
            return;
        }
        self.pace.returned(1);
        if self.session.version() < RETURNS_VERSION {
            // The end of the session returns all of its tasks; while this side drains, that comes anyway.
            if !self.is_draining {
                let header = self.session.close();
                self.send(header::encode(&header), Vec::new());
                self.end_session(false, Instant::now());
            }
            return;
        }
        self.session.consume(1, task.bytes);
        self.submit(
            TaggedBatch::new(task.tag & !1, Bytes::new()),
            Instant::now(),
        );
    }

    /// The session is over, and with it what was to be done; unless all that was acknowledged has been.
    fn end_session(&mut self, is_settled: bool, now: Instant) {
        self.liveness.set_session(None);
        self.tasks.session_is_over(self.session_number);
        let mut untransmitted = self.session.take_unsent();
        let mut waiting = self.session.take_unacknowledged();
        untransmitted.append(&mut self.next_session);
        if !is_settled {
            // The results of a worker are not wanted any more.
            waiting.retain(|item| item.tag == Resend::ByLink.tag());
            untransmitted.retain(|item| {
                item.tag == Resend::ByLink.tag() || item.tag == Resend::IfUntransmitted.tag()
            });
            self.is_lost = true;
        }
        waiting.append(&mut untransmitted);
        self.next_session = waiting;
        self.peer_finished |= self.is_draining;
        self.pace.forget(now);
    }

    fn set_lent(&mut self, tasks: u32) {
        self.pace.lent = tasks;
        self.session.set_lent_slots(tasks);
        if !self.is_draining {
            self.session.set_window(self.pace.window());
        }
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
        while let Some(transmission) = self.session.transmit(now) {
            let first = transmission.header.first;
            let header = header::encode(&transmission.header);
            if !self.send(header, transmission.frames) {
                // Without a connection, or with a full queue: the link sends the header again later.
                self.session.retry_from(first);
                break;
            }
        }
    }

    fn send(&self, header: Bytes, frames: Vec<Bytes>) -> bool {
        let Some(dealer) = &self.dealer else {
            return false;
        };
        let message = std::iter::once(header).chain(frames).collect();
        !matches!(dealer.try_send(message), Err(TrySendError::Full(_)))
    }
}

/// Results that go to the master together.
#[derive(Debug, Default)]
pub(crate) struct ResultGroups {
    builder: BatchBuilder,
    /// That of the first one.
    tag: u64,
    /// Of those that do not.
    memory: FramePool,
}

/// How many results go together.
const MAX_BATCH_RESULTS: usize = 256;

impl ResultGroups {
    /// Adds a result, the last one of its task or not. What it does not go together with goes to `out`, and so
    /// does the result where it goes alone.
    fn add(&mut self, (tag, is_last): (u64, bool), result: Message, out: &mut Vec<TaggedBatch>) {
        let next = self.tag + TASK_TAG_STEP * self.builder.len() as u64;
        let result = if is_last && tag == next {
            self.join(tag, result)
        } else {
            Err(result)
        };
        let Err(result) = result else {
            return;
        };
        out.extend(self.take());
        let result = if is_last {
            self.join(tag, result)
        } else {
            Err(result)
        };
        if let Err(result) = result {
            let frame = result.into_frame_in(&mut self.memory);
            out.push(TaggedBatch::new(tag, frame));
        }
    }

    fn join(&mut self, tag: u64, result: Message) -> Result<(), Message> {
        let is_first = self.builder.is_empty();
        self.builder.join(result, MAX_BATCH_RESULTS)?;
        if is_first {
            self.tag = tag;
        }
        Ok(())
    }

    fn take(&mut self) -> Option<TaggedBatch> {
        let group = self.builder.take()?;
        Some(TaggedBatch::of(self.tag, TASK_TAG_STEP, group))
    }
}

/// How fast a worker is, and so how many tasks it should hold.
#[derive(Debug)]
struct PrefetchWindow {
    concurrency: u64,
    /// How many tasks wait for other calls, so that as many more run.
    lent: u32,
    prefetch: Prefetch,
    /// Tasks that are here.
    tasks: u64,
    /// Since when the next task that ends has been under way.
    since: Instant,
    /// How long one takes, in seconds, where the worker is busy: a moving average.
    seconds: f64,
}

impl PrefetchWindow {
    fn new(concurrency: u64, prefetch: Prefetch, now: Instant) -> Self {
        Self {
            concurrency: concurrency.max(1),
            lent: 0,
            prefetch,
            tasks: 0,
            since: now,
            seconds: 1.0,
        }
    }

    fn began(&mut self, tasks: u64, now: Instant) {
        if self.tasks == 0 {
            self.since = now;
        }
        self.tasks += tasks;
    }

    fn ended(&mut self, tasks: u64, now: Instant) {
        self.tasks = self.tasks.saturating_sub(tasks);
        let each = now.saturating_duration_since(self.since).as_secs_f64() / tasks as f64;
        let weight = (0.2 * tasks as f64).min(1.0);
        self.seconds += weight * (each - self.seconds);
        self.since = now;
    }

    /// Tasks were returned without being run.
    fn returned(&mut self, tasks: u64) {
        self.tasks = self.tasks.saturating_sub(tasks);
    }

    fn forget(&mut self, now: Instant) {
        self.tasks = 0;
        self.since = now;
    }

    fn window(&self) -> u64 {
        let ahead = match self.prefetch {
            Prefetch::Fixed(tasks) => tasks,
            Prefetch::Measured => {
                let tasks = PREFETCH_TIME.as_secs_f64() / self.seconds.max(1e-9);
                (tasks as u64).min(MAX_PREFETCH)
            }
        };
        self.concurrency + u64::from(self.lent) + ahead
    }
}

impl Lessor for Link {
    fn settle(&self, task: Received, outcome: LeaseOutcome, now: Instant) {
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
mod tests {
    use super::*;

    fn worker() -> Arc<Link> {
        let address = "tcp://127.0.0.1:9".parse().expect("it is an address");
        let introduction = Introduction::following(WORKER, "worker", Following::default());
        let options = LinkOptions::default();
        Link::new(&address, &SocketOptions::default(), introduction, options).0
    }

    fn task(session: u64, tag: u64) -> Received {
        Received {
            session,
            tag,
            step: TASK_TAG_STEP,
            messages: 1,
            bytes: 3,
        }
    }

    #[test]
    fn task_that_arrives_again_while_it_runs_is_not_begun_a_second_time() {
        let (master, restarted) = (5, 6);
        let mut open = OpenTasks::default();
        let group = [task(1, 2), task(1, 4), task(1, 6)];
        let group = LeasedTasks::new(worker(), master, group.into_iter());
        for entry in group.entries() {
            assert!(!open.resume(entry.received(), master));
        }
        open.add(&group);
        let tasks: Vec<_> = group.clone().tasks().collect();
        assert!(tasks[0].begin());
        for tag in [2, 4] {
            assert!(open.resume(task(1, tag), master), "it is here");
        }
        assert!(!open.resume(task(1, 8), master), "it is a new one");

        open.session_is_over(1);
        assert!(open.resume(task(2, 2), master));
        assert_eq!(group.entries()[0].received(), task(2, 2));
        assert!(!open.resume(task(2, 4), master), "it was not begun");
        assert!(!tasks[1].begin(), "its session is over");
        assert!(!open.resume(task(3, 2), restarted));
        assert!(!open.resume(task(3, 2), 0), "the master does not tell");
    }

    #[test]
    fn prefetched_tasks_are_revoked_and_running_ones_are_not() {
        let mut open = OpenTasks::default();
        let group = LeasedTasks::new(worker(), 5, [task(1, 2), task(1, 4)].into_iter());
        open.add(&group);
        let tasks: Vec<_> = group.tasks().collect();
        assert!(tasks[0].begin());
        assert_eq!(open.revoke(1, LeaseState::revoke_waiting), [task(1, 4)]);
        assert_eq!(open.revoke(1, LeaseState::revoke_waiting), []);
        assert_eq!(open.revoke(1, LeaseState::revoke), [task(1, 2)]);
        drop(tasks);
        open.most = 0;
        let next = LeasedTasks::new(worker(), 5, [task(1, 6)].into_iter());
        open.add(&next);
        assert_eq!(open.groups.len(), 1, "tasks that are gone are forgotten");
    }

    fn window_after(tasks: u64, each: Duration) -> u64 {
        let mut now = Instant::now();
        let mut pace = PrefetchWindow::new(2, Prefetch::Measured, now);
        for _ in 0..tasks {
            pace.began(1, now);
            now += each;
            pace.ended(1, now);
        }
        pace.window()
    }

    #[test]
    fn short_tasks_are_fetched_ahead_and_long_ones_are_not() {
        assert_eq!(window_after(0, Duration::ZERO), 2);
        assert_eq!(window_after(100, Duration::from_millis(11)), 2);
        assert_eq!(window_after(100, Duration::from_millis(6)), 2 + 1);
        assert!((98..=102).contains(&window_after(100, Duration::from_micros(100))));
        assert_eq!(
            window_after(100, Duration::from_nanos(100)),
            2 + MAX_PREFETCH
        );
        let pace = PrefetchWindow::new(3, Prefetch::Fixed(5), Instant::now());
        assert_eq!(pace.window(), 8);
    }

    #[test]
    fn idle_time_is_no_work() {
        let mut now = Instant::now();
        let mut pace = PrefetchWindow::new(1, Prefetch::Measured, now);
        for _ in 0..100 {
            now += Duration::from_secs(10);
            pace.began(1, now);
            now += Duration::from_micros(100);
            pace.ended(1, now);
        }
        assert!(pace.window() > 10);
    }
}

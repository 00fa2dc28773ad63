//! The control service: owns the ROUTER at a component's `db_address`.
//!
//! The type is called [`CacheService`], as in pylm, in which only the cache is at this address. palm has links and
//! control requests there as well, hence the name of this module.
//!
//! The service dispatches each message: headers of links to the link server, cache requests to the cache's service, and
//! the component's own verbs to the functions in this file: `cancel` (cancels calls), `offer` (registers the functions of
//! a worker without a link of the current version), `inspect` (reports the state of the component), those of operators, and
//! `forward` (passes one of these on to a worker). It also registers the functions that workers list when they open
//! sessions, and forwards cancelled calls to their links.
//!
//! [`OpenCacheService::serve`] never awaits a request in its loop, since links share the socket: requests run concurrently
//! (`running`), wait for a slot (`waiting`), or wait for a change (`watching`). Each holds a reservation of a byte
//! budget until its reply is made, and replies hold one until they are sent, so that peers which flood the service or
//! do not read their replies cannot exhaust memory.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::stream::{BoxStream, FuturesUnordered, SelectAll};
use futures_util::{StreamExt, stream};
use parking_lot::Mutex;
use prost::Message as _;
use tokio::time::MissedTickBehavior;

use crate::budget::{Budget, Reservation};
use crate::cache::service::{
    self, Handled, IdempotencyCache, LiveKeys, Poll, RejectedRequest, ServiceError,
};
use crate::cache::{CacheError, ComponentStore};
use crate::clock;
use crate::component_state::{ComponentState, OperatorRequestError};
use crate::discovery::{
    ControlVerb, IntoAddress, ParsedAddress, RegistrationError, RegistrationOutcome, descriptor,
};
use crate::failure::catch_panic;
use crate::failure::{BoxError, chain};
use crate::link::is_header;
use crate::link::server::{TICK, UnansweredRequest};
use crate::log_limit::{LimitLog, UnknownLog};
use crate::memory_trimmer::Trimmer;
use crate::message::proto::forward_failure::Kind;
use crate::message::proto::{ForwardFailure, ForwardReply, ForwardRequest};
use crate::metrics::PartCounters;
use crate::part::{Binding, Bypass, OpenError, Running, Setup};
use crate::report::ReportRequest;
use crate::socket::{Frames, Reply, Responder, RouterDepartures, SocketClosed};
use crate::stop::{FLUSH_TIMEOUT, Stop};

/// Largest request to a worker.
const MAX_FORWARDED_BYTES: usize = 64 * 1024;

/// The most bytes of a list of cancelled calls. Clients remember 4096 calls.
const MAX_CANCEL_BYTES: usize = 2 * 1024 * 1024;

/// The most requests that run at once, and that wait for it. Further ones are dropped, and their peers retry. They
/// cannot wait in the socket, since messages of links would wait as well.
const MAX_RUNNING_REQUESTS: usize = 256;
const MAX_WAITING_REQUESTS: usize = 10_000;

/// The most bytes of requests without a reply, those of watchers included. One connection may use at most four times
/// the free bytes.
const MAX_REQUEST_BYTES: usize = 256 * 1024 * 1024;

/// The approximate memory of a request besides its bytes.
const REQUEST_OVERHEAD: usize = 1024;

/// The most bytes of unsent replies. One connection may use at most four times the free bytes.
const MAX_REPLY_BYTES: usize = 512 * 1024 * 1024;

/// Smaller replies are not counted, since the queue of a connection holds at most 1000 of them.
const SMALL_REPLY: usize = 256;

/// A tick that is this late shows that the process was stopped, or its thread blocked by a method.
const LATE_TICK: Duration = Duration::from_millis(500);

/// The most watchers that wait for a change at once. Further ones are answered at once and poll again after a second.
const MAX_WATCHERS: usize = 1024;

/// A bypass that serves the component's cache, and its links, at one address. Announced as `db_address`.
///
/// The cache contains the component's configuration and the keys that peers and methods set. In a component with a
/// [`WorkerPushService`](crate::parts::WorkerPushService) and a
/// [`WorkerPullService`](crate::parts::WorkerPullService), workers also connect to it by links.
///
/// ```
/// use palm::parts::*;
/// use palm::{Client, ServerTemplate};
///
/// # #[tokio::main]
/// # async fn main() -> palm::Result<()> {
/// let mut server = ServerTemplate::new("server");
/// server.preset_cache("motto", "nothing is lost");
/// server.register_inbound(PullService::bind("tcp://127.0.0.1:0"), "Pull").route("Pub");
/// server.register_outbound(PubService::bind("tcp://127.0.0.1:0"), "Pub");
/// server.register_bypass(CacheService::bind("tcp://127.0.0.1:0"), "Cache");
/// let server = server.spawn().await?;
///
/// let client = Client::connect("server", server.db_address()).await?;
/// assert_eq!(client.get("motto").await?.as_deref(), Some(&b"nothing is lost"[..]));
/// server.shutdown().await?;
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct CacheService {
    address: ParsedAddress,
}

#[derive(Debug)]
struct OpenCacheService {
    reply: Reply,
    store: Arc<ComponentStore>,
    state: Arc<ComponentState>,
    counters: Arc<PartCounters>,
}

impl CacheService {
    /// Binds `address`.
    pub fn bind(address: impl IntoAddress) -> Self {
        Self {
            address: address.into_address(),
        }
    }
}

impl Bypass for CacheService {
    fn forwards_only(&self) -> bool {
        true
    }

    fn binds(&self) -> Vec<Binding> {
        vec![Binding::new("db_address", &self.address)]
    }

    async fn open(self, setup: &mut Setup<'_>) -> Result<Running<Stop>, OpenError> {
        let address = setup.bind_address("db_address", &self.address)?;
        let (reply, bound) = Reply::bind(&address, setup.options).await?;
        setup.announce("db_address", &bound);
        setup.state.links.set_router(reply.sender());
        let opened = OpenCacheService {
            reply,
            store: setup.store.clone(),
            state: setup.state.clone(),
            counters: setup.counters(),
        };
        Ok(Running::bypass(|stop| opened.serve(stop)))
    }
}

impl OpenCacheService {
    async fn serve(self, stop: Stop) -> Result<(), BoxError> {
        let Self {
            mut reply,
            store,
            state,
            counters,
        } = self;
        let links = &state.links;
        let service = &ControlService::new(&store, &state, &counters);
        let mut running = FuturesUnordered::new();
        let mut watching = FuturesUnordered::new();
        let mut waiting = VecDeque::new();
        let serves_links = !links.offered().is_empty();
        let departures = serves_links.then(|| reply.departures());
        let mut events = events(&stop, &state, departures);
        let mut others = Vec::new();
        let mut ticked = clock::now();
        let mut trimmer = Trimmer::default();
        loop {
            let received = if running.len() < MAX_RUNNING_REQUESTS && !waiting.is_empty() {
                waiting.pop_front()
            } else {
                tokio::select! {
                    biased;
                    // Polled before requests: they are rarely ready, and a flood of requests must not delay the detection
                    // of disconnected peers.
                    Some(event) = events.next() => {
                        match event {
                            ControlEvent::Stopped => break,
                            ControlEvent::Disconnected(peer) => links.record_disconnect(&peer?),
                            ControlEvent::Cancelled(list) => links.cancel(&list),
                            ControlEvent::Tick => {
                                let last = std::mem::replace(&mut ticked, clock::now());
                                service.tick(clock::since(last) > LATE_TICK);
                                if trimmer.is_due(links.take_ended(), ticked) {
                                    tokio::task::spawn_blocking(palm_malloc::return_freed_memory);
                                }
                            }
                        }
                        None
                    }
                    Some(waits) = running.next() => {
                        if let Some((poll, request)) = waits {
                            if watching.len() < MAX_WATCHERS {
                                watching.push(service.watch(poll, request, &stop));
                            } else {
                                service.replies.send(request.responder, poll.crowded());
                            }
                        }
                        None
                    }
                    Some(()) = watching.next() => None,
                    request = reply.recv_or_other(is_header, &mut others) => {
                        request?.and_then(|(frames, responder)| service.admit(frames, responder))
                    }
                }
            };
            if !others.is_empty() {
                if serves_links {
                    service.receive_over_links(others.drain(..));
                } else {
                    others.clear();
                }
            }
            let Some(request) = received else {
                continue;
            };
            if running.len() < MAX_RUNNING_REQUESTS {
                running.push(service.answer(request));
            } else if waiting.len() < MAX_WAITING_REQUESTS {
                waiting.push_back(request);
            } else {
                counters.count_dropped(1);
            }
        }
        while let Some(waits) = running.next().await {
            if let Some((poll, request)) = waits {
                service.replies.send(request.responder, poll.crowded());
            }
        }
        while watching.next().await.is_some() {}
        links.close(stop.is_complete());
        reply.close(stop.linger().min(FLUSH_TIMEOUT)).await;
        Ok(())
    }
}

/// What the handling of messages at the ROUTER shares.
struct ControlService<'a> {
    store: &'a ComponentStore,
    state: &'a ComponentState,
    counters: &'a PartCounters,
    idempotency: IdempotencyCache,
    /// The bytes of requests without a reply.
    requests: Budget<Bytes>,
    replies: ReplySender<'a>,
    dropped_log: Mutex<LimitLog>,
    rejected_log: Mutex<UnknownLog>,
}

impl<'a> ControlService<'a> {
    fn new(
        store: &'a ComponentStore,
        state: &'a ComponentState,
        counters: &'a PartCounters,
    ) -> Self {
        Self {
            store,
            state,
            counters,
            idempotency: IdempotencyCache::default(),
            requests: Budget::new(MAX_REQUEST_BYTES),
            replies: ReplySender {
                budget: Budget::new(MAX_REPLY_BYTES),
                log: Mutex::default(),
                counters,
            },
            dropped_log: Mutex::default(),
            rejected_log: Mutex::default(),
        }
    }

    /// Checks the links; called every [`TICK`]. `is_late`: since the last call this process was stopped, or its thread was
    /// blocked.
    fn tick(&self, is_late: bool) {
        let links = &self.state.links;
        if is_late {
            links.record_stall();
        }
        links.report_wait(self.state.wait_cause());
        for client in links.tick() {
            tracing::info!(%client, "client vanished, cancelling its calls");
            let prefix = format!("{client}/");
            self.state.cancellations.cancel(prefix.as_bytes());
        }
    }

    /// Receives messages of links. For the sessions that they open, registers the functions of workers, and forgets that
    /// the calls of clients were cancelled.
    fn receive_over_links(&self, messages: impl Iterator<Item = Frames>) {
        let opened = self.state.links.receive(messages);
        for client in opened.clients {
            self.state.cancellations.restore(&client);
        }
        if opened.functions.is_empty() {
            return;
        }
        let registered = self.state.functions.add(opened.functions);
        if let Err(error) = list_functions(self.store, self.state, registered) {
            let cause = chain(&error);
            if self.is_new_rejection(&cause) {
                tracing::warn!("functions of workers were not registered: {cause}");
            }
        }
    }

    /// Returns a request that is to be answered; `None` if the byte budget of requests is exhausted.
    fn admit(&self, frames: Frames, responder: Responder) -> Option<PendingRequest> {
        let request = PendingRequest::new(frames, responder, &self.requests);
        if request.is_none() {
            self.counters.count_dropped(1);
            let mut log = self.dropped_log.lock();
            if let Some(times) = log.record(clock::now()) {
                tracing::warn!(
                    times,
                    limit_bytes = MAX_REQUEST_BYTES,
                    "dropping cache requests: the byte budget of requests is exhausted"
                );
            }
        }
        request
    }

    /// Answers a request. Returns one that waits for a change instead.
    async fn answer(&self, mut request: PendingRequest) -> Option<(Poll, PendingRequest)> {
        let frames = std::mem::take(&mut request.frames);
        self.counters.count(1, frames.iter().map(Bytes::len).sum());
        let handled = handle(self.store, self.state, &self.idempotency, &frames);
        let handled = catch_panic(handled, |panic| {
            Err(RejectedRequest::from(ServiceError::Panicked(panic)))
        });
        let answer = match handled.await {
            Ok(Handled::Reply(answer)) => answer,
            Ok(Handled::Waits(poll)) => return Some((poll, request)),
            Err(RejectedRequest { reply, error }) => {
                self.counters.count_error();
                let cause = chain(&error);
                if let ServiceError::Cache(CacheError::Store(_)) = error {
                    // The component has logged that its store fails.
                    tracing::debug!("a cache request failed: {cause}");
                } else if self.is_new_rejection(&cause) {
                    tracing::warn!("a cache request failed: {cause}");
                }
                reply
            }
        };
        self.replies.send(request.responder, answer);
        None
    }

    /// Answers a request once its key changes, or the component stops.
    async fn watch(&self, poll: Poll, request: PendingRequest, stop: &Stop) {
        let answer = poll.answer(self.store, stop.stopped()).await;
        self.replies.send(request.responder, answer);
    }

    /// Returns whether a rejection for this cause is to be logged.
    fn is_new_rejection(&self, cause: &str) -> bool {
        let mut log = self.rejected_log.lock();
        log.record(clock::now(), cause).is_some()
    }
}

/// A change that a control service handles besides requests and messages of links.
enum ControlEvent {
    Stopped,
    Disconnected(Result<Bytes, SocketClosed>),
    Cancelled(Bytes),
    Tick,
}

/// Returns the events of a control service as one stream; without `departures` there is only the end of the part. The
/// stream polls an event only after a wake-up for it, so that a message does not poll each.
fn events<'a>(
    stop: &'a Stop,
    state: &'a ComponentState,
    departures: Option<RouterDepartures>,
) -> SelectAll<BoxStream<'a, ControlEvent>> {
    let stopped = stream::once(stop.stopped()).map(|()| ControlEvent::Stopped);
    let mut events = stream::select_all([stopped.boxed()]);
    if let Some(departures) = departures {
        let disconnected = stream::unfold(departures, async |mut departures| {
            Some((
                ControlEvent::Disconnected(departures.next().await),
                departures,
            ))
        });
        let mut ticks = tokio::time::interval(TICK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let ticks = stream::unfold(ticks, async |mut ticks| {
            ticks.tick().await;
            Some((ControlEvent::Tick, ticks))
        });
        events.push(disconnected.boxed());
        events.push(
            state
                .cancellations
                .relay()
                .map(ControlEvent::Cancelled)
                .boxed(),
        );
        events.push(ticks.boxed());
    }
    events
}

/// The error of one of the component's own verbs.
#[derive(Debug, thiserror::Error)]
enum ControlError {
    #[error("a list of cancelled calls has {bytes} bytes, and at most {MAX_CANCEL_BYTES} are read")]
    LongList { bytes: usize },
    #[error(transparent)]
    Registration(#[from] RegistrationError),
    #[error("the component's descriptor cannot be read")]
    Descriptor(#[from] prost::DecodeError),
    #[error(transparent)]
    Operator(#[from] OperatorRequestError),
    #[error("a request to a worker has {bytes} bytes, and at most {MAX_FORWARDED_BYTES} are read")]
    LongForward { bytes: usize },
    #[error("a request to a worker cannot be read")]
    Forward(#[source] prost::DecodeError),
}

/// Handles one request: a verb of the component itself, or of its cache.
async fn handle(
    store: &ComponentStore,
    state: &ComponentState,
    idempotency: &IdempotencyCache,
    frames: &[Bytes],
) -> Result<Handled, RejectedRequest> {
    let message = service::decode(frames)?;
    let Some(verb) = ControlVerb::parse(service::verb(&message)?) else {
        return service::handle(store, state, idempotency, &message).await;
    };
    let outcome = match verb {
        ControlVerb::Cancel => cancel(state, message.payload()),
        ControlVerb::Offer => register(store, state, message.payload()),
        ControlVerb::Inspect => {
            let request = ReportRequest::decode(message.payload().clone());
            Ok(state.report(&request).await.encode())
        }
        ControlVerb::Operator(verb) => {
            let reply = state.operate(verb, message.payload()).await;
            reply.map_err(ControlError::from)
        }
        ControlVerb::Forward => forward(state, message.payload()).await,
    };
    match outcome {
        Ok(reply) => Ok(Handled::Reply(reply)),
        Err(error) => Err(ServiceError::Control(error.into()).into()),
    }
}

fn cancel(state: &ComponentState, topics: &Bytes) -> Result<Bytes, ControlError> {
    let bytes = topics.len();
    if bytes > MAX_CANCEL_BYTES {
        return Err(ControlError::LongList { bytes });
    }
    state.cancellations.cancel(topics);
    Ok(Bytes::new())
}

/// Passes a request of an operator on to a worker of the component.
async fn forward(state: &ComponentState, request: &Bytes) -> Result<Bytes, ControlError> {
    let bytes = request.len();
    if bytes > MAX_FORWARDED_BYTES {
        return Err(ControlError::LongForward { bytes });
    }
    let request = ForwardRequest::decode(request.clone()).map_err(ControlError::Forward)?;
    let ForwardRequest {
        worker,
        verb,
        payload,
    } = request;
    let reply = match state.links.ask_worker(&worker, &verb, payload).await {
        Ok(payload) => ForwardReply {
            payload,
            failure: None,
        },
        Err(UnansweredRequest { kind, mut reason }) => {
            if kind == Kind::Unknown && state.any_legacy_worker() {
                reason.push_str(
                    "; workers without a link, such as pylm's, have no name here, and cannot be drained or configured",
                );
            }
            let kind = kind.into();
            ForwardReply {
                payload: Bytes::new(),
                failure: Some(ForwardFailure { kind, reason }),
            }
        }
    };
    Ok(reply.encode_to_vec().into())
}

/// Registers the functions of a worker, if the component has workers.
fn register(
    store: &ComponentStore,
    state: &ComponentState,
    worker: &Bytes,
) -> Result<Bytes, ControlError> {
    if state.has_workers() {
        let registered = state.functions.add_descriptor(worker)?;
        list_functions(store, state, registered)?;
    }
    Ok(Bytes::from_static(b"1"))
}

/// Lists newly registered functions in the component's descriptor.
fn list_functions(
    store: &ComponentStore,
    state: &ComponentState,
    registered: RegistrationOutcome,
) -> Result<(), ControlError> {
    if registered.is_new {
        let descriptor = store.configured(descriptor::KEY).unwrap_or_default();
        let descriptor = descriptor::listing(&descriptor, &state.functions.functions())?;
        store.configure([(descriptor::KEY.to_owned(), descriptor)]);
    }
    match registered.rejected {
        Some(rejected) => Err(rejected.into()),
        None => Ok(()),
    }
}

impl LiveKeys for ComponentState {
    async fn value(&self, store: &ComponentStore, key: &str) -> Result<Option<Bytes>, CacheError> {
        if key == descriptor::WAIT_KEY {
            return Ok(self.wait_cause().map(Bytes::from));
        }
        if key.ends_with("_address") {
            self.on_demand.bind(key).await;
        }
        let value = store.get(key).await?;
        Ok(match value {
            // The descriptor lists the current peers.
            Some(value) if key == descriptor::KEY => {
                let followers = self.links.followers();
                let unregistered_workers = self.any_legacy_worker();
                Some(descriptor::with_peers(
                    value,
                    followers,
                    unregistered_workers,
                ))
            }
            value => value,
        })
    }
}

/// A request that has no reply yet.
#[derive(Debug)]
struct PendingRequest {
    frames: Frames,
    responder: Responder,
    _reservation: Reservation<Bytes>,
}

impl PendingRequest {
    /// Returns `None` if the byte budget of requests is exhausted.
    fn new(frames: Frames, responder: Responder, requests: &Budget<Bytes>) -> Option<Self> {
        let envelope = responder.envelope();
        let frame_bytes = |frames: &[Bytes]| frames.iter().map(Bytes::len).sum::<usize>();
        let bytes = frame_bytes(&frames) + frame_bytes(envelope) + REQUEST_OVERHEAD;
        let reservation = requests.reserve(&peer(envelope), bytes)?;
        Some(Self {
            frames,
            responder,
            _reservation: reservation,
        })
    }
}

/// Returns the routing id of the connection of an envelope.
fn peer(envelope: &[Bytes]) -> Bytes {
    envelope.first().cloned().unwrap_or_default()
}

/// Sends replies, and drops those of peers that do not read them.
struct ReplySender<'a> {
    budget: Budget<Bytes>,
    log: Mutex<LimitLog>,
    counters: &'a PartCounters,
}

impl ReplySender<'_> {
    fn send(&self, responder: Responder, reply: Bytes) {
        let reply = match reply.len() {
            0..SMALL_REPLY => Some(reply),
            bytes => {
                let reservation = self.budget.reserve(&peer(responder.envelope()), bytes);
                reservation.map(|reservation| reservation.keep_with(reply))
            }
        };
        if reply.is_some_and(|reply| responder.reply(reply).is_ok()) {
            return;
        }
        self.counters.count_dropped(1);
        let mut log = self.log.lock();
        if let Some(times) = log.record(clock::now()) {
            tracing::warn!(
                times,
                "dropping replies of the cache: peers do not read those that they have requested"
            );
        }
    }
}

//! [`Executor`]: the part that runs a user's methods.
//!
//! For each message, [`CallLoop`] finds the function, checks that the message is addressed to this component, polls the
//! call once, and sends the result downstream in the message that called it. A call that completes at its first poll,
//! as every synchronous method does, costs neither a task nor an allocation. Any other call becomes a task of its own,
//! of which at most `concurrency` run at once.
//!
//! The stages of a call: `begin` ([`StartedCall`]), `poll_once`, then `complete` or `spawn_pending`, and
//! [`ResultSender`]. If the order is kept, a [`DeliveryTurn`] lets each call wait for the delivery of the one before. A
//! panic is a failed call.

mod callable;
mod standalone;

pub use callable::{Call, Callable};
pub(crate) use standalone::standalone;

use std::future::{Future, poll_fn};
use std::iter;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Poll;
use std::time::{Duration, Instant};

use bytes::Bytes;
use tokio::sync::{mpsc, oneshot};
use tokio::task::{JoinError, JoinSet};
use tokio_util::sync::{CancellationToken, DropGuard};
use tracing::Instrument;

use crate::component_state::ComponentState;
use crate::context::{ComponentContext, Context};
use crate::failure::{BoxError, CallFailure, FailureKind, catch_panic};
use crate::fair_queue::Flow;
use crate::link::liveness;
use crate::log_limit::UnknownLog;
use crate::message::{Deadline, Message, Share};
use crate::method::{Emitted, FunctionInfo, Outcome, Receiver, Results, State};
use crate::metrics::{FunctionCounters, PartCounters};
use crate::part::{Envelope, Inlet, OpenError, Outbound, Outlet, Pace, Setup};
use crate::places::{self, Scope};
use crate::watchdog::{MethodId, Watched};

/// Time after which the loop yields to other tasks of its thread.
const YIELD_INTERVAL: Duration = Duration::from_micros(200);

/// Longest time that a result waits for further ones to be sent together with it.
const BATCH_DELAY: Duration = Duration::from_micros(20);

/// The function that every component has.
const ECHO: FunctionInfo = FunctionInfo::new(
    "echo",
    "Returns the payload.",
    ("Bytes", "Bytes"),
    Receiver::Shared,
    Results::One,
    false,
);

/// The order in which answers are sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Order {
    /// The order in which messages arrived.
    Kept,
    /// The order in which calls complete.
    AsDone,
}

/// Which calls an [`Executor`] runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Addressee {
    /// Calls that name this component, as in servers, pipelines and sinks.
    ByName,
    /// All calls, as in workers, which are called by the name of their master.
    Any,
}

/// The part that runs the methods of `C`.
///
/// By default it runs calls that name the component, as many at once as there are CPUs, and sends answers in the
/// order of the messages.
#[derive(Debug)]
pub struct Executor<C> {
    state: Arc<State<C>>,
    concurrency: usize,
    order: Order,
    addressee: Addressee,
    opened: Option<OpenedExecutor>,
}

#[derive(Debug)]
struct OpenedExecutor {
    context: Arc<ComponentContext>,
    shared: Arc<ComponentState>,
    counters: Arc<PartCounters>,
    /// In the order of [`Callable::FUNCTIONS`], followed by `echo`.
    functions: Vec<Arc<FunctionCounters>>,
}

impl<C: Callable> Executor<C> {
    /// Creates an executor for the methods of `state`.
    pub fn new(state: Arc<State<C>>) -> Self {
        Self {
            state,
            concurrency: default_concurrency(),
            order: Order::Kept,
            addressee: Addressee::ByName,
            opened: None,
        }
    }

    /// Sets how many calls run at once. Default: the number of CPUs. 0 counts as 1.
    #[must_use]
    pub fn concurrency(mut self, calls: usize) -> Self {
        self.concurrency = calls.max(1);
        self
    }

    /// Sets the order of answers. Default: [`Order::Kept`].
    #[must_use]
    pub fn order(mut self, order: Order) -> Self {
        self.order = order;
        self
    }

    /// Sets which calls are run. Default: [`Addressee::ByName`].
    #[must_use]
    pub fn addressee(mut self, addressee: Addressee) -> Self {
        self.addressee = addressee;
        self
    }
}

pub(crate) fn default_concurrency() -> usize {
    std::thread::available_parallelism().map_or(1, Into::into)
}

impl<C: Callable> Outbound for Executor<C> {
    async fn open(&mut self, setup: &mut Setup<'_>) -> Result<(), OpenError> {
        let names = C::FUNCTIONS.iter().map(|function| function.name);
        let functions: Vec<_> = names
            .chain([ECHO.name])
            .map(|name| Arc::new(FunctionCounters::new(name)))
            .collect();
        setup.functions.extend(functions.iter().cloned());
        setup.described.extend_from_slice(C::FUNCTIONS);
        if C::find(ECHO.name).is_none() {
            setup.described.push(ECHO);
        }
        self.opened = Some(OpenedExecutor {
            context: setup.context.clone(),
            shared: setup.shared.clone(),
            counters: setup.counters(),
            functions,
        });
        Ok(())
    }

    async fn run(self, mut inlet: Inlet, outlet: Outlet) -> Result<(), BoxError> {
        let opened = self.opened.expect("a part is opened before it runs");
        let mut calls = CallLoop {
            state: self.state,
            addressee: self.addressee,
            methods: C::FUNCTIONS
                .iter()
                .map(|function| MethodId::new(&opened.context.name, function.name))
                .collect(),
            functions: opened.functions,
            last_found: None,
            scope: None,
            sender: Arc::new(ResultSender {
                unknown: Mutex::default(),
                context: opened.context,
                shared: opened.shared,
                counters: opened.counters,
                outlet,
            }),
            order: self.order,
            last: None,
            tasks: JoinSet::new(),
            finished: Vec::new(),
            oldest: Instant::now(),
        };

        liveness::start();
        let stop = inlet.stop.clone();
        let done = stop.within(calls.run_all(&mut inlet, self.concurrency));
        if done.await.is_none() {
            // The remaining tasks are dropped: the tasks of a worker are returned to its master, and clients send
            // other calls again.
            let running = calls.tasks.len();
            tracing::warn!(calls = running, "drain limit reached, stopping calls");
            let stopped = calls.tasks.shutdown();
            let _ = tokio::time::timeout(stop.flush_time(), stopped).await;
        }
        Ok(())
    }
}

impl<C: Callable> CallLoop<C> {
    /// Runs messages until the inlet is closed and all calls are done.
    async fn run_all(&mut self, inlet: &mut Inlet, concurrency: usize) {
        let calls = self;
        let mut batch = Vec::new();
        let mut pace = Pace::default();
        // Whether the last batch had calls that were pending after their first poll. Then each call of the next one
        // needs a slot.
        let mut pends = false;
        // The allocation of a call that completed at once is reused for the next one.
        let mut spare = None;
        loop {
            calls.wait_for_slot(concurrency).await;
            let free = calls.free_slots(concurrency);
            let most = if pends { free } else { usize::MAX };
            if inlet.recv_many(&mut batch, pace.messages().min(most)).await == 0 {
                break;
            }
            inlet.yield_to_senders().await;
            pends = false;
            // The end of one call is the start of the next one, so that the clock is read once per call.
            let mut now = Instant::now();
            let (mut turn, mut begin) = (now, now);
            let (taken, mut handled) = (batch.len(), 0);
            let mut envelopes = batch.drain(..);
            while let Some(envelope) = envelopes.next() {
                if envelope.message.is_returned() {
                    continue;
                }
                let is_over = pace.is_over(now.duration_since(begin));
                if handled > 0 && (is_over || !calls.has_slot(concurrency)) {
                    // Other clients get their turn before the rest.
                    inlet.restore(iter::once(envelope).chain(envelopes));
                    break;
                }
                handled += 1;
                if !envelope.message.begin_task() {
                    continue;
                }
                let (call, started) = match calls.begin(envelope, now) {
                    NextCall::Poll(call, started) => (call, started),
                    NextCall::Done(outcome, started) => {
                        calls.complete(started, outcome, now).await;
                        continue;
                    }
                };
                let future = catch_panic(
                    C::call(calls.state.clone(), started.index, call),
                    Outcome::Failed,
                );
                let mut future: Pin<Box<_>> = match spare.take() {
                    Some(mut spare) => {
                        Pin::set(&mut spare, future);
                        spare
                    }
                    None => Box::pin(future),
                };
                if C::FUNCTIONS[started.index].results == Results::Many {
                    // Results of a stream are sent at once, after the results of earlier calls.
                    calls.flush().await;
                }
                let method = calls.methods[started.index];
                let polled = poll_once(method, &mut calls.scope, future.as_mut());
                match polled.await {
                    Poll::Ready(outcome) => {
                        spare = Some(future);
                        now = Instant::now();
                        calls.complete(started, outcome, now).await;
                    }
                    Poll::Pending => {
                        calls.flush().await;
                        calls.spawn_pending(started, future);
                        pends = true;
                        now = Instant::now();
                    }
                }
                if now.duration_since(turn) > YIELD_INTERVAL {
                    calls.flush().await;
                    let paused = now;
                    tokio::task::yield_now().await;
                    now = Instant::now();
                    turn = now;
                    begin += now.duration_since(paused);
                }
            }
            pace.handled(taken, handled, now.duration_since(begin));
            calls.flush().await;
        }
        while let Some(ended) = calls.tasks.join_next().await {
            surface_panic(ended);
        }
    }
}

/// Propagates a panic of a task. Panics of user code are caught in the call, so this one is a bug.
fn surface_panic(ended: Result<(), JoinError>) {
    if let Err(error) = ended
        && let Ok(panic) = error.try_into_panic()
    {
        std::panic::resume_unwind(panic);
    }
}

/// Polls a call once, observed by the watchdog and within the scope of its concurrency slot.
async fn poll_once<F: Future>(
    method: MethodId,
    scope: &mut Option<Scope>,
    mut future: Pin<&mut F>,
) -> Poll<F::Output> {
    poll_fn(|context| {
        let poll = || method.poll(|| future.as_mut().poll(context));
        Poll::Ready(places::enter(scope, poll))
    })
    .await
}

/// The state of a running [`Executor`].
struct CallLoop<C> {
    state: Arc<State<C>>,
    addressee: Addressee,
    functions: Vec<Arc<FunctionCounters>>,
    /// In the order of [`Callable::FUNCTIONS`].
    methods: Vec<MethodId>,
    /// The function and stage of the last message, and the index that they resolved to.
    last_found: Option<(String, i64, usize)>,
    /// The scope of calls under the name of the last message.
    scope: Option<Scope>,
    sender: Arc<ResultSender>,
    order: Order,
    /// Cancelled once the previous call has delivered its result, if the order is kept.
    last: Option<CancellationToken>,
    /// Calls that were pending after their first poll. They are aborted with the executor.
    tasks: JoinSet<()>,
    /// Results that are sent together.
    finished: Vec<Envelope>,
    /// Start of the call whose result is the first of them.
    oldest: Instant,
}

/// A call that has started, and what is needed to deliver its result.
struct StartedCall {
    index: usize,
    header: Message,
    flow: Flow,
    feedback: Option<oneshot::Sender<Bytes>>,
    started_at: Instant,
    /// When the caller stops waiting.
    deadline: Option<Deadline>,
    /// What the caller asks to be told about the completion of the call.
    completion: CompletionRequest,
    /// Counters of the function, if it exists.
    counters: Option<Arc<FunctionCounters>>,
    /// The position in the order of delivery.
    turn: DeliveryTurn,
    /// Results that wait for the end of the call.
    collected: Option<mpsc::UnboundedReceiver<(Option<Share>, Outcome)>>,
}

impl StartedCall {
    /// Counts the call as one of a function.
    fn count(&mut self, counters: &Arc<FunctionCounters>, waited: Duration) {
        counters.begin(waited);
        self.counters = Some(counters.clone());
    }

    /// Sends the results of the call when it is its turn.
    async fn deliver(self, sender: &ResultSender, outcome: Outcome) {
        self.turn.wait().await;
        if let Some(mut collected) = self.collected {
            while let Ok((share, outcome)) = collected.try_recv() {
                let result = CallResult::partial(self.header.clone(), share, outcome);
                sender.send(result, self.flow).await;
            }
        }
        let last = CallResult {
            message: self.header,
            outcome,
            feedback: self.feedback,
            completion: self.completion,
            is_last: true,
        };
        sender.send(last, self.flow).await;
    }
}

/// A position in the order of delivery. Dropping it lets the next call deliver.
#[derive(Debug, Default)]
struct DeliveryTurn {
    before: Option<CancellationToken>,
    after: Option<DropGuard>,
}

impl DeliveryTurn {
    async fn wait(&self) {
        if let Some(before) = &self.before {
            before.cancelled().await;
        }
    }
}

impl<C: Callable> CallLoop<C> {
    /// Finds the function of a message, and prepares its call.
    fn begin(&mut self, envelope: Envelope, now: Instant) -> NextCall {
        let Envelope {
            message,
            flow,
            since,
            feedback,
            ..
        } = envelope;
        self.sender.counters.count(1, message.payload().len());
        let waited = now.saturating_duration_since(since);
        let mut started = StartedCall {
            index: C::FUNCTIONS.len(),
            header: message,
            flow,
            feedback,
            started_at: now,
            counters: None,
            deadline: None,
            completion: CompletionRequest::default(),
            turn: self.turn(),
            collected: None,
        };
        let extensions = started.header.extensions().unwrap_or_default();
        if extensions.error.is_some() || extensions.end.is_some() {
            // An earlier step failed or has no further results, so this step is skipped.
            let payload = started.header.payload().clone();
            return NextCall::Done(Outcome::Payload(payload), started);
        }
        if self.sender.shared.cancellations.concern(&started.header) || self.is_abandoned(&started)
        {
            return NextCall::Done(Outcome::Failed(CallFailure::given_up()), started);
        }
        started.completion.end = extensions.wants_end;
        started.completion.share = extensions.share;
        if let Some(deadline) = Deadline::from_extension(extensions.deadline) {
            if deadline.has_passed() {
                return NextCall::Done(Outcome::Failed(CallFailure::late()), started);
            }
            started.deadline = Some(deadline);
        }
        started.index = match self.find(&started.header) {
            Ok(FoundFunction::Function(index)) => index,
            Ok(FoundFunction::Echo) => {
                started.count(&self.functions[started.index], waited);
                let payload = started.header.payload().clone();
                return NextCall::Done(Outcome::Payload(payload), started);
            }
            Err(failure) => return NextCall::Done(Outcome::Failed(failure), started),
        };
        let info = &C::FUNCTIONS[started.index];
        if info.at_most_once && !started.header.run_task_once() {
            return NextCall::Done(Outcome::Failed(CallFailure::given_up()), started);
        }
        started.count(&self.functions[started.index], waited);
        let context = info
            .takes_context
            .then(|| Context::new(self.sender.context.clone(), started.header.detached()));
        let emitter = match info.results {
            Results::One => None,
            Results::Many => Some(self.emitter(&mut started)),
        };
        let payload = started.header.payload().clone();
        NextCall::Poll(Call::new(payload, context, emitter), started)
    }

    /// Returns whether the result can only be sent to a request that has ended.
    fn is_abandoned(&self, started: &StartedCall) -> bool {
        let is_gone = started
            .feedback
            .as_ref()
            .is_some_and(oneshot::Sender::is_closed);
        is_gone && !self.sender.outlet.has_route()
    }

    /// Returns the sender of the results of a call with many results.
    fn emitter(&self, started: &mut StartedCall) -> ResultEmitter {
        // A hook, or an earlier call, may need the lock that this call holds while this call waits for either.
        // Results then wait for the end of the call.
        let waits = C::HANDLES_STREAM || self.order == Order::Kept;
        let collect = (C::EXCLUSIVE && waits).then(|| {
            let (sender, receiver) = mpsc::unbounded_channel();
            started.collected = Some(receiver);
            sender
        });
        let emitted = started
            .completion
            .is_requested()
            .then(Arc::<Mutex<EmittedResults>>::default);
        started.completion.emitted = emitted;
        ResultEmitter {
            header: started.header.clone(),
            flow: started.flow,
            sender: self.sender.clone(),
            before: started.turn.before.clone(),
            completion: started.completion.clone(),
            collect,
            collected: 0,
        }
    }

    /// Finds the function of a message. Usually it is that of the message before.
    fn find(&mut self, message: &Message) -> Result<FoundFunction, CallFailure> {
        if let Some((function, stage, index)) = &self.last_found
            && message.asks_for(function, *stage)
        {
            return Ok(FoundFunction::Function(*index));
        }
        let found = self.look_up(message)?;
        if let FoundFunction::Function(index) = found {
            let name = message.step().map_or("", |step| step.server);
            if self.scope.as_ref().is_none_or(|scope| scope.name != name) {
                self.scope = Some(Scope {
                    name: name.into(),
                    places: self.sender.shared.places.clone(),
                    keeps_order: self.order == Order::Kept,
                });
            }
            self.last_found = Some((message.function().to_owned(), message.stage(), index));
        }
        Ok(found)
    }

    fn look_up(&self, message: &Message) -> Result<FoundFunction, CallFailure> {
        let step = message
            .step()
            .map_err(|error| CallFailure::unknown(error.into()))?;
        let name = &self.sender.context.name;
        if self.addressee == Addressee::ByName && step.server != name {
            let error = format!("the message is for `{}`, this is `{name}`", step.server);
            return Err(CallFailure::unknown(error.into()));
        }
        match C::find(step.function) {
            Some(index) => Ok(FoundFunction::Function(index)),
            None if step.function == ECHO.name => Ok(FoundFunction::Echo),
            None => {
                let known = C::FUNCTIONS.iter().map(|function| function.name);
                let known: Vec<_> = known.chain([ECHO.name]).collect();
                let known = known.join("`, `");
                let error = format!("no function `{}` here; there are `{known}`", step.function);
                Err(CallFailure::unknown(error.into()))
            }
        }
    }

    fn turn(&mut self) -> DeliveryTurn {
        // Usually all previous calls have delivered, and nothing is allocated.
        self.last = self.last.take().filter(|last| !last.is_cancelled());
        DeliveryTurn {
            before: self.last.clone(),
            after: None,
        }
    }

    /// Returns whether fewer than `concurrency` calls are running.
    fn has_slot(&mut self, concurrency: usize) -> bool {
        while let Some(ended) = self.tasks.try_join_next() {
            surface_panic(ended);
        }
        self.free_slots(concurrency) > 0
    }

    /// Returns how many further calls may start.
    fn free_slots(&self, concurrency: usize) -> usize {
        let slots = concurrency + self.sender.shared.places.lent() as usize;
        slots.saturating_sub(self.tasks.len())
    }

    /// Waits until fewer than `concurrency` calls are running, not counting those that have lent their slots.
    async fn wait_for_slot(&mut self, concurrency: usize) {
        if self.has_slot(concurrency) {
            return;
        }
        let mut lent = self.sender.shared.places.subscribe();
        while !self.has_slot(concurrency) {
            self.flush().await;
            tokio::select! {
                Some(ended) = self.tasks.join_next() => surface_panic(ended),
                _ = lent.changed() => {}
            }
        }
    }

    /// Sends the results that are ready.
    async fn flush(&mut self) {
        self.sender.outlet.send_all(&mut self.finished).await;
    }

    /// Handles the result of a call that completed at its first poll, and delivers it when it is its turn.
    async fn complete(&mut self, started: StartedCall, outcome: Outcome, now: Instant) {
        let failed = matches!(outcome, Outcome::Failed(_));
        if let Some(counters) = &started.counters {
            counters.end(now.duration_since(started.started_at), failed);
        }
        if started.turn.before.is_some() {
            self.flush().await;
            self.spawn(started, std::future::ready((outcome, None)));
        } else if started.collected.is_some() || self.sender.outlet.block {
            self.flush().await;
            started.deliver(&self.sender, outcome).await;
        } else if let Some(message) = self.sender.message(CallResult {
            message: started.header,
            outcome,
            feedback: started.feedback,
            completion: started.completion,
            is_last: true,
        }) {
            if self.finished.is_empty() {
                self.oldest = started.started_at;
            }
            self.finished
                .push(Envelope::new(message, started.flow, now));
            if now.duration_since(self.oldest) > BATCH_DELAY {
                self.flush().await;
            }
        }
    }

    /// Continues a pending call as a task.
    fn spawn_pending(
        &mut self,
        mut started: StartedCall,
        call: Pin<Box<impl Future<Output = Outcome> + Send + 'static>>,
    ) {
        let method = self.methods[started.index];
        let scope = self.scope.clone();
        let call = Watched {
            method,
            scope,
            call,
        };
        let (started_at, counters) = (started.started_at, started.counters.clone());
        let deadline = started.deadline;
        let max_runtime = C::FUNCTIONS
            .get(started.index)
            .and_then(|it| it.max_runtime);
        let topic = started.header.client_topic();
        let shared = self.sender.shared.clone();
        // Without a route downstream, the result can only be sent to the request that waits for it.
        let mut only_answer = match self.sender.outlet.has_route() {
            true => None,
            false => started.feedback.take(),
        };
        let call = async move {
            let abandoned = async {
                match &mut only_answer {
                    Some(answer) => answer.closed().await,
                    None => std::future::pending().await,
                }
            };
            let late = async {
                match deadline {
                    Some(deadline) => tokio::time::sleep(deadline.left()).await,
                    None => std::future::pending().await,
                }
            };
            let overrun = async {
                match max_runtime {
                    Some(limit) => {
                        tokio::time::sleep_until((started_at + limit).into()).await;
                        limit
                    }
                    None => std::future::pending().await,
                }
            };
            // An async method is dropped at its next await. A method on a thread of its own runs to its end, and its
            // result is discarded.
            let outcome = tokio::select! {
                biased;
                outcome = call => outcome,
                () = late => Outcome::Failed(CallFailure::late()),
                limit = overrun => Outcome::Failed(CallFailure::overrun(limit)),
                () = shared.cancellations.of(&topic) => Outcome::Failed(CallFailure::given_up()),
                () = abandoned => Outcome::Failed(CallFailure::given_up()),
            };
            if let Some(counters) = counters {
                counters.end(started_at.elapsed(), matches!(outcome, Outcome::Failed(_)));
            }
            (outcome, only_answer)
        };
        self.spawn(started, call);
    }

    /// Spawns the delivery of a call. `call` also returns the request that waits for the result, if it has watched it.
    fn spawn(
        &mut self,
        mut started: StartedCall,
        call: impl Future<Output = (Outcome, Option<oneshot::Sender<Bytes>>)> + Send + 'static,
    ) {
        if self.order == Order::Kept {
            let delivered = CancellationToken::new();
            started.turn.after = Some(delivered.clone().drop_guard());
            self.last = Some(delivered);
        }
        let sender = self.sender.clone();
        let deliver = async move {
            let (outcome, answer) = call.await;
            started.feedback = started.feedback.or(answer);
            started.deliver(&sender, outcome).await;
        };
        self.tasks.spawn(deliver.in_current_span());
    }
}

/// What to do with a message.
enum NextCall {
    Poll(Call, StartedCall),
    /// The message calls `echo` or cannot be called.
    Done(Outcome, StartedCall),
}

enum FoundFunction {
    Function(usize),
    Echo,
}

/// Sends results downstream.
#[derive(Debug)]
struct ResultSender {
    /// Limits the log of calls to unknown functions.
    unknown: Mutex<UnknownLog>,
    context: Arc<ComponentContext>,
    shared: Arc<ComponentState>,
    counters: Arc<PartCounters>,
    outlet: Outlet,
}

/// One result of a call, before it is sent downstream.
#[derive(Debug)]
struct CallResult {
    message: Message,
    outcome: Outcome,
    feedback: Option<oneshot::Sender<Bytes>>,
    /// As in [`StartedCall`].
    completion: CompletionRequest,
    /// Whether the call has no further result.
    is_last: bool,
}

/// What the caller asks to be told about the completion of a call.
#[derive(Debug, Clone, Default)]
struct CompletionRequest {
    /// Whether it asks for the end of the results.
    end: bool,
    /// The completion weight of the call, which its results share.
    share: Option<Share>,
    /// Results that were sent, if there may be several.
    emitted: Option<Arc<Mutex<EmittedResults>>>,
}

/// Counts the results of a call that were sent.
#[derive(Debug, Default)]
struct EmittedResults {
    results: u64,
    /// The sum of their completion weights.
    sum: u64,
}

impl CompletionRequest {
    fn is_requested(&self) -> bool {
        self.end || self.share.is_some()
    }

    fn emitted(&self) -> Option<MutexGuard<'_, EmittedResults>> {
        let emitted = self.emitted.as_ref()?.lock();
        Some(emitted.unwrap_or_else(PoisonError::into_inner))
    }

    /// Records one of several results. Returns its completion weight.
    fn record_result(&self) -> Option<Share> {
        let mut emitted = self.emitted()?;
        let piece = self.share.map(|share| share.piece(emitted.results));
        emitted.results += 1;
        emitted.sum = emitted.sum.wrapping_add(piece.map_or(0, Share::value));
        piece
    }

    /// Returns the number of results that were sent, and the remaining completion weight.
    fn rest(&self) -> (u64, Option<Share>) {
        match self.emitted() {
            Some(emitted) => (
                emitted.results,
                self.share.map(|share| share.rest(emitted.sum)),
            ),
            None => (0, self.share),
        }
    }
}

impl CallResult {
    /// Creates one of several results.
    fn partial(mut message: Message, share: Option<Share>, outcome: Outcome) -> Self {
        if share.is_some() {
            message.set_share(share);
        }
        message.set_result();
        Self {
            message,
            outcome,
            feedback: None,
            completion: CompletionRequest::default(),
            is_last: false,
        }
    }
}

impl ResultSender {
    /// Logs a failure. Repeated calls of an unknown function are summarized.
    fn log_failure(&self, message: &Message, failure: &CallFailure) {
        if failure.kind() != FailureKind::UnknownFunction {
            log_failure(message, failure);
            return;
        }
        let function = message.function();
        let unknown = self.unknown.lock();
        let mut unknown = unknown.unwrap_or_else(PoisonError::into_inner);
        let suppressed = unknown.record(Instant::now(), function);
        drop(unknown);
        match suppressed {
            None => {}
            Some(0) => log_failure(message, failure),
            Some(calls) => {
                log_failure(message, failure);
                tracing::error!(
                    function,
                    calls,
                    "further calls of unknown function `{function}` failed"
                );
            }
        }
    }

    async fn send(&self, result: CallResult, flow: Flow) {
        if let Some(message) = self.message(result) {
            self.outlet.send_in(message, flow, Instant::now()).await;
        }
    }

    /// Returns the message to send downstream, if there is one.
    fn message(&self, result: CallResult) -> Option<Message> {
        let CallResult {
            mut message,
            outcome,
            feedback,
            completion,
            is_last,
        } = result;
        if is_last {
            message.set_last_result();
        }
        match outcome {
            Outcome::Payload(payload) => message.set_payload(payload),
            Outcome::Nothing => {
                if !completion.is_requested() {
                    if is_last {
                        message.finish_task();
                    }
                    return None;
                }
                let (results, rest) = completion.rest();
                if rest.is_some() {
                    message.set_share(rest);
                }
                message.end(results);
                return Some(message.with_payload(Bytes::new()));
            }
            Outcome::Failed(failure) => {
                self.counters.count_error();
                self.log_failure(&message, &failure);
                message = message.failed(&self.context.name, &failure);
                let (results, rest) = completion.rest();
                if results > 0 && rest.is_some() {
                    message.set_share(rest);
                }
                if completion.end {
                    // The error is the last result.
                    message.end(results + 1);
                }
            }
        }
        if let Some(feedback) = feedback {
            let _ = feedback.send(message.encode());
        }
        Some(message)
    }
}

pub(crate) fn log_failure(message: &Message, failure: &CallFailure) {
    let (function, stage) = (message.function(), message.stage());
    let cause = failure.chain();
    if failure.kind() == FailureKind::Cancelled {
        // No caller waits for it, and there may be many of them.
        tracing::debug!(function, stage, "`{function}` {failure}: {cause}");
    } else {
        tracing::error!(function, stage, "`{function}` {failure}: {cause}");
    }
}

/// Sends the results of a call that has several.
#[derive(Debug)]
pub(crate) struct ResultEmitter {
    header: Message,
    flow: Flow,
    sender: Arc<ResultSender>,
    before: Option<CancellationToken>,
    completion: CompletionRequest,
    collect: Option<mpsc::UnboundedSender<(Option<Share>, Outcome)>>,
    /// Bytes of results that wait for the end of the call.
    collected: usize,
}

/// Limit on the results that wait for the end of a call.
const MAX_COLLECTED_BYTES: usize = 64 * 1024 * 1024;
/// Bytes that each waiting result counts in addition to its payload.
const RESULT_OVERHEAD_BYTES: usize = 64;

impl ResultEmitter {
    pub(crate) async fn emit(&mut self, result: Outcome) -> Emitted {
        let share = match &result {
            Outcome::Payload(_) | Outcome::Failed(_) => self.completion.record_result(),
            Outcome::Nothing => None,
        };
        if let Some(collect) = &self.collect {
            if let Outcome::Payload(payload) = &result {
                self.collected += payload.len() + RESULT_OVERHEAD_BYTES;
            }
            if self.collected > MAX_COLLECTED_BYTES {
                let error = "more than 64 MiB of results wait for the end of the call, since the component has methods that take `&mut self`";
                let failed = Outcome::Failed(CallFailure::failed(error.into()));
                let _ = collect.send((share, failed));
                return Emitted::Unwanted;
            }
            return match collect.send((share, result)) {
                Ok(()) => Emitted::Wanted,
                Err(_) => Emitted::Unwanted,
            };
        }
        if let Some(before) = self.before.take() {
            before.cancelled().await;
        }
        let result = CallResult::partial(self.header.clone(), share, result);
        self.sender.send(result, self.flow).await;
        if self.sender.outlet.is_closed() {
            Emitted::Unwanted
        } else {
            Emitted::Wanted
        }
    }
}

//! The part that runs a user's methods.
//!
//! For each message it finds the function, checks that it is meant, calls it, and sends the result
//! on in a message that is otherwise the same. A call that is done at its first poll, as every
//! synchronous method is, costs no task and no allocation; one that is not goes on as a task of its
//! own. How many run at once is bounded; answers keep the order of the messages where that is asked
//! for; a panic is a failed call and no more.

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

/// How long calls may keep the thread before others that run on it get their turn.
const TURN: Duration = Duration::from_micros(200);

/// How long results wait for further ones that go on together with them.
const BATCH_DELAY: Duration = Duration::from_micros(20);

/// The function that each component has.
const ECHO: FunctionInfo = FunctionInfo::new(
    "echo",
    "Gives the payload back.",
    ("Bytes", "Bytes"),
    Receiver::Shared,
    Results::One,
    false,
);

/// In which order answers leave.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Order {
    /// In the order in which the messages came.
    Kept,
    /// As soon as each is done.
    AsDone,
}

/// Whose calls are answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Addressee {
    /// Only those that name this component, as in servers, pipelines and sinks.
    ByName,
    /// All, as in workers, which are called by their master's name.
    Any,
}

/// Runs the methods of `C`.
#[derive(Debug)]
pub struct Executor<C> {
    state: Arc<State<C>>,
    concurrency: usize,
    order: Order,
    addressee: Addressee,
    opened: Option<Opened>,
}

#[derive(Debug)]
struct Opened {
    context: Arc<ComponentContext>,
    shared: Arc<ComponentState>,
    counters: Arc<PartCounters>,
    /// As [`Callable::FUNCTIONS`], then `echo`.
    functions: Vec<Arc<FunctionCounters>>,
}

impl<C: Callable> Executor<C> {
    /// Runs the methods of `state` for calls that name the component, as many at once as there are
    /// processors, and keeps the order.
    pub fn new(state: Arc<State<C>>) -> Self {
        Self {
            state,
            concurrency: default_concurrency(),
            order: Order::Kept,
            addressee: Addressee::ByName,
            opened: None,
        }
    }

    /// How many calls may run at once. Default: as many as there are processors. 0 counts as 1.
    #[must_use]
    pub fn concurrency(mut self, calls: usize) -> Self {
        self.concurrency = calls.max(1);
        self
    }

    /// In which order answers leave. Default: [`Order::Kept`].
    #[must_use]
    pub fn order(mut self, order: Order) -> Self {
        self.order = order;
        self
    }

    /// Whose calls are answered. Default: [`Addressee::ByName`].
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
        self.opened = Some(Opened {
            context: setup.context.clone(),
            shared: setup.shared.clone(),
            counters: setup.counters(),
            functions,
        });
        Ok(())
    }

    async fn run(self, mut inlet: Inlet, outlet: Outlet) -> Result<(), BoxError> {
        let opened = self.opened.expect("a part is opened before it runs");
        let mut running = Running {
            state: self.state,
            addressee: self.addressee,
            methods: C::FUNCTIONS
                .iter()
                .map(|function| MethodId::new(&opened.context.name, function.name))
                .collect(),
            functions: opened.functions,
            found: None,
            scope: None,
            finisher: Arc::new(Finisher {
                unknown: Mutex::default(),
                context: opened.context,
                shared: opened.shared,
                counters: opened.counters,
                outlet,
            }),
            order: self.order,
            last: None,
            tasks: JoinSet::new(),
            done: Vec::new(),
            oldest: Instant::now(),
        };

        liveness::start();
        let stop = inlet.stop.clone();
        let done = stop.within(running.run_all(&mut inlet, self.concurrency));
        if done.await.is_none() {
            // What is left is dropped: a worker's tasks are returned, and calls are left to their clients.
            let calls = running.tasks.len();
            tracing::warn!(calls, "calls are stopped: the drain limit has passed");
            let stopped = running.tasks.shutdown();
            let _ = tokio::time::timeout(stop.flush_time(), stopped).await;
        }
        Ok(())
    }
}

impl<C: Callable> Running<C> {
    /// Runs what comes until the inlet has run dry and all calls are done.
    async fn run_all(&mut self, inlet: &mut Inlet, concurrency: usize) {
        let running = self;
        let mut batch = Vec::new();
        let mut pace = Pace::default();
        // Whether calls of the last batch were not done at once, so that each has a place.
        let mut pends = false;
        // The memory of a call that was done at once serves the next one.
        let mut spare = None;
        loop {
            running.wait_for_place(concurrency).await;
            let free = running.free_places(concurrency);
            let most = if pends { free } else { usize::MAX };
            if inlet.recv_many(&mut batch, pace.messages().min(most)).await == 0 {
                break;
            }
            inlet.yield_to_senders().await;
            pends = false;
            // The end of one call is the begin of the next: one look at the clock for each.
            let mut now = Instant::now();
            let (mut turn, mut begin) = (now, now);
            let (taken, mut handled) = (batch.len(), 0);
            let mut envelopes = batch.drain(..);
            while let Some(envelope) = envelopes.next() {
                if envelope.message.is_returned() {
                    continue;
                }
                let is_over = pace.is_over(now.duration_since(begin));
                if handled > 0 && (is_over || !running.has_place(concurrency)) {
                    // Other clients have their turn before the rest.
                    inlet.restore(iter::once(envelope).chain(envelopes));
                    break;
                }
                handled += 1;
                if !envelope.message.begin_task() {
                    continue;
                }
                let (call, begun) = match running.begin(envelope, now) {
                    Work::Call(call, begun) => (call, begun),
                    Work::Done(outcome, begun) => {
                        running.done(begun, outcome, now).await;
                        continue;
                    }
                };
                let future = catch_panic(
                    C::call(running.state.clone(), begun.index, call),
                    Outcome::Failed,
                );
                let mut future: Pin<Box<_>> = match spare.take() {
                    Some(mut spare) => {
                        Pin::set(&mut spare, future);
                        spare
                    }
                    None => Box::pin(future),
                };
                if C::FUNCTIONS[begun.index].results == Results::Many {
                    // What it gives leaves at once, and not before the results of earlier calls.
                    running.flush().await;
                }
                let method = running.methods[begun.index];
                let polled = poll_once(method, &mut running.scope, future.as_mut());
                match polled.await {
                    Poll::Ready(outcome) => {
                        spare = Some(future);
                        now = Instant::now();
                        running.done(begun, outcome, now).await;
                    }
                    Poll::Pending => {
                        running.flush().await;
                        running.go_on(begun, future);
                        pends = true;
                        now = Instant::now();
                    }
                }
                if now.duration_since(turn) > TURN {
                    running.flush().await;
                    let paused = now;
                    tokio::task::yield_now().await;
                    now = Instant::now();
                    turn = now;
                    begin += now.duration_since(paused);
                }
            }
            pace.handled(taken, handled, now.duration_since(begin));
            running.flush().await;
        }
        while let Some(ended) = running.tasks.join_next().await {
            surface_panic(ended);
        }
    }
}

/// What runs a call catches the panics of the user's code. Another one is a bug, and ends the part.
fn surface_panic(ended: Result<(), JoinError>) {
    if let Err(error) = ended
        && let Ok(panic) = error.try_into_panic()
    {
        std::panic::resume_unwind(panic);
    }
}

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

struct Running<C> {
    state: Arc<State<C>>,
    addressee: Addressee,
    functions: Vec<Arc<FunctionCounters>>,
    /// As [`Callable::FUNCTIONS`].
    methods: Vec<MethodId>,
    /// What was asked for last, at which step, and which function that is.
    found: Option<(String, i64, usize)>,
    /// That of calls by the name which the last one had.
    scope: Option<Scope>,
    finisher: Arc<Finisher>,
    order: Order,
    /// Cancelled when the call before has delivered, where the order is kept.
    last: Option<CancellationToken>,
    /// Calls that were not done at once. They end with the executor.
    tasks: JoinSet<()>,
    /// Results that go on together.
    done: Vec<Envelope>,
    /// When the call began that gave the first of them.
    oldest: Instant,
}

/// A call that has begun: what is needed to deliver its result.
struct Begun {
    index: usize,
    header: Message,
    flow: Flow,
    feedback: Option<oneshot::Sender<Bytes>>,
    started: Instant,
    /// Until when its result is wanted.
    deadline: Option<Deadline>,
    /// What its caller wants to be told of its results.
    wanted: Wanted,
    /// Of the function, where there is one.
    counters: Option<Arc<FunctionCounters>>,
    /// Until when delivery has to wait, and who waits for it.
    turn: Turn,
    /// Results that wait for the end of the call.
    collected: Option<mpsc::UnboundedReceiver<(Option<Share>, Outcome)>>,
}

impl Begun {
    /// Counts the call as one of a function.
    fn count(&mut self, counters: &Arc<FunctionCounters>, waited: Duration) {
        counters.begin(waited);
        self.counters = Some(counters.clone());
    }

    /// Sends on what the call came to, when it is its turn.
    async fn deliver(self, finisher: &Finisher, outcome: Outcome) {
        self.turn.wait().await;
        if let Some(mut collected) = self.collected {
            while let Ok((share, outcome)) = collected.try_recv() {
                let result = Finished::result(self.header.clone(), share, outcome);
                finisher.finish(result, self.flow).await;
            }
        }
        let finished = Finished {
            message: self.header,
            outcome,
            feedback: self.feedback,
            wanted: self.wanted,
            is_last: true,
        };
        finisher.finish(finished, self.flow).await;
    }
}

/// The place in the order of delivery. Dropping it lets the next one deliver.
#[derive(Debug, Default)]
struct Turn {
    before: Option<CancellationToken>,
    after: Option<DropGuard>,
}

impl Turn {
    async fn wait(&self) {
        if let Some(before) = &self.before {
            before.cancelled().await;
        }
    }
}

impl<C: Callable> Running<C> {
    /// Finds the function of a message, and what is needed to call it.
    fn begin(&mut self, envelope: Envelope, now: Instant) -> Work {
        let Envelope {
            message,
            flow,
            since,
            feedback,
            ..
        } = envelope;
        self.finisher.counters.count(1, message.payload().len());
        let waited = now.saturating_duration_since(since);
        let mut begun = Begun {
            index: C::FUNCTIONS.len(),
            header: message,
            flow,
            feedback,
            started: now,
            counters: None,
            deadline: None,
            wanted: Wanted::default(),
            turn: self.turn(),
            collected: None,
        };
        let extensions = begun.header.extensions().unwrap_or_default();
        if extensions.error.is_some() || extensions.end.is_some() {
            // An earlier step failed, or has no more to give: this one is left out.
            let payload = begun.header.payload().clone();
            return Work::Done(Outcome::Payload(payload), begun);
        }
        if self.finisher.shared.cancellations.concern(&begun.header) || self.is_abandoned(&begun) {
            return Work::Done(Outcome::Failed(CallFailure::given_up()), begun);
        }
        begun.wanted.end = extensions.wants_end;
        begun.wanted.share = extensions.share;
        if let Some(deadline) = Deadline::from_extension(extensions.deadline) {
            if deadline.has_passed() {
                return Work::Done(Outcome::Failed(CallFailure::late()), begun);
            }
            begun.deadline = Some(deadline);
        }
        begun.index = match self.find(&begun.header) {
            Ok(Found::Function(index)) => index,
            Ok(Found::Echo) => {
                begun.count(&self.functions[begun.index], waited);
                let payload = begun.header.payload().clone();
                return Work::Done(Outcome::Payload(payload), begun);
            }
            Err(failure) => return Work::Done(Outcome::Failed(failure), begun),
        };
        let info = &C::FUNCTIONS[begun.index];
        if info.at_most_once && !begun.header.run_task_once() {
            return Work::Done(Outcome::Failed(CallFailure::given_up()), begun);
        }
        begun.count(&self.functions[begun.index], waited);
        let context = info
            .takes_context
            .then(|| Context::new(self.finisher.context.clone(), begun.header.detached()));
        let emitter = match info.results {
            Results::One => None,
            Results::Many => Some(self.emitter(&mut begun)),
        };
        let payload = begun.header.payload().clone();
        Work::Call(Call::new(payload, context, emitter), begun)
    }

    /// Whether the result can only go to a request that is gone.
    fn is_abandoned(&self, begun: &Begun) -> bool {
        let is_gone = begun
            .feedback
            .as_ref()
            .is_some_and(oneshot::Sender::is_closed);
        is_gone && !self.finisher.outlet.has_route()
    }

    /// Where a call with many results puts them.
    fn emitter(&self, begun: &mut Begun) -> Emitter {
        // A hook, or a call that came before, may need the lock that this call holds, and this call
        // would wait for either: then results wait for the end of the call.
        let waits = C::HANDLES_STREAM || self.order == Order::Kept;
        let collect = (C::EXCLUSIVE && waits).then(|| {
            let (sender, receiver) = mpsc::unbounded_channel();
            begun.collected = Some(receiver);
            sender
        });
        let given = begun.wanted.is_any().then(Arc::<Mutex<Given>>::default);
        begun.wanted.given = given;
        Emitter {
            header: begun.header.clone(),
            flow: begun.flow,
            finisher: self.finisher.clone(),
            before: begun.turn.before.clone(),
            wanted: begun.wanted.clone(),
            collect,
            collected: 0,
        }
    }

    /// The function that a message asks for: usually the one that the message before has asked for.
    fn find(&mut self, message: &Message) -> Result<Found, CallFailure> {
        if let Some((function, stage, index)) = &self.found
            && message.asks_for(function, *stage)
        {
            return Ok(Found::Function(*index));
        }
        let found = self.look_up(message)?;
        if let Found::Function(index) = found {
            let name = message.step().map_or("", |step| step.server);
            if self.scope.as_ref().is_none_or(|scope| scope.name != name) {
                self.scope = Some(Scope {
                    name: name.into(),
                    places: self.finisher.shared.places.clone(),
                    keeps_order: self.order == Order::Kept,
                });
            }
            self.found = Some((message.function().to_owned(), message.stage(), index));
        }
        Ok(found)
    }

    fn look_up(&self, message: &Message) -> Result<Found, CallFailure> {
        let step = message
            .step()
            .map_err(|error| CallFailure::unknown(error.into()))?;
        let name = &self.finisher.context.name;
        if self.addressee == Addressee::ByName && step.server != name {
            let error = format!("the message is for `{}`, this is `{name}`", step.server);
            return Err(CallFailure::unknown(error.into()));
        }
        match C::find(step.function) {
            Some(index) => Ok(Found::Function(index)),
            None if step.function == ECHO.name => Ok(Found::Echo),
            None => {
                let known = C::FUNCTIONS.iter().map(|function| function.name);
                let known: Vec<_> = known.chain([ECHO.name]).collect();
                let known = known.join("`, `");
                let error = format!("no function `{}` here; there are `{known}`", step.function);
                Err(CallFailure::unknown(error.into()))
            }
        }
    }

    fn turn(&mut self) -> Turn {
        // Usually everything before has been delivered, and nothing is allocated.
        self.last = self.last.take().filter(|last| !last.is_cancelled());
        Turn {
            before: self.last.clone(),
            after: None,
        }
    }

    /// Whether fewer than `concurrency` calls go on.
    fn has_place(&mut self, concurrency: usize) -> bool {
        while let Some(ended) = self.tasks.try_join_next() {
            surface_panic(ended);
        }
        self.free_places(concurrency) > 0
    }

    /// How many further calls may begin.
    fn free_places(&self, concurrency: usize) -> usize {
        let places = concurrency + self.finisher.shared.places.lent() as usize;
        places.saturating_sub(self.tasks.len())
    }

    /// Waits until fewer than `concurrency` calls go on, besides those that have lent their places.
    async fn wait_for_place(&mut self, concurrency: usize) {
        if self.has_place(concurrency) {
            return;
        }
        let mut lent = self.finisher.shared.places.subscribe();
        while !self.has_place(concurrency) {
            self.flush().await;
            tokio::select! {
                Some(ended) = self.tasks.join_next() => surface_panic(ended),
                _ = lent.changed() => {}
            }
        }
    }

    /// Gives on the results that wait for that.
    async fn flush(&mut self) {
        self.finisher.outlet.send_all(&mut self.done).await;
    }

    /// Takes the result of a call that was done at once; delivers it when it is its turn.
    async fn done(&mut self, begun: Begun, outcome: Outcome, now: Instant) {
        let failed = matches!(outcome, Outcome::Failed(_));
        if let Some(counters) = &begun.counters {
            counters.end(now.duration_since(begun.started), failed);
        }
        if begun.turn.before.is_some() {
            self.flush().await;
            self.spawn(begun, std::future::ready((outcome, None)));
        } else if begun.collected.is_some() || self.finisher.outlet.block {
            self.flush().await;
            begun.deliver(&self.finisher, outcome).await;
        } else if let Some(message) = self.finisher.finished(Finished {
            message: begun.header,
            outcome,
            feedback: begun.feedback,
            wanted: begun.wanted,
            is_last: true,
        }) {
            if self.done.is_empty() {
                self.oldest = begun.started;
            }
            self.done.push(Envelope::new(message, begun.flow, now));
            if now.duration_since(self.oldest) > BATCH_DELAY {
                self.flush().await;
            }
        }
    }

    /// Lets a call that was not done at once go on as a task of its own.
    fn go_on(
        &mut self,
        mut begun: Begun,
        call: Pin<Box<impl Future<Output = Outcome> + Send + 'static>>,
    ) {
        let method = self.methods[begun.index];
        let scope = self.scope.clone();
        let call = Watched {
            method,
            scope,
            call,
        };
        let (started, counters) = (begun.started, begun.counters.clone());
        let deadline = begun.deadline;
        let max_runtime = C::FUNCTIONS.get(begun.index).and_then(|it| it.max_runtime);
        let topic = begun.header.client_topic();
        let shared = self.finisher.shared.clone();
        // Without a route the result can only go to the request that waits for it.
        let mut only_answer = match self.finisher.outlet.has_route() {
            true => None,
            false => begun.feedback.take(),
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
                        tokio::time::sleep_until((started + limit).into()).await;
                        limit
                    }
                    None => std::future::pending().await,
                }
            };
            // A method that awaits is dropped where it does; one that has a thread goes on for nobody.
            let outcome = tokio::select! {
                biased;
                outcome = call => outcome,
                () = late => Outcome::Failed(CallFailure::late()),
                limit = overrun => Outcome::Failed(CallFailure::overrun(limit)),
                () = shared.cancellations.of(&topic) => Outcome::Failed(CallFailure::given_up()),
                () = abandoned => Outcome::Failed(CallFailure::given_up()),
            };
            if let Some(counters) = counters {
                counters.end(started.elapsed(), matches!(outcome, Outcome::Failed(_)));
            }
            (outcome, only_answer)
        };
        self.spawn(begun, call);
    }

    /// `call` also returns the request that waits for its result, if it has watched that.
    fn spawn(
        &mut self,
        mut begun: Begun,
        call: impl Future<Output = (Outcome, Option<oneshot::Sender<Bytes>>)> + Send + 'static,
    ) {
        if self.order == Order::Kept {
            let delivered = CancellationToken::new();
            begun.turn.after = Some(delivered.clone().drop_guard());
            self.last = Some(delivered);
        }
        let finisher = self.finisher.clone();
        let deliver = async move {
            let (outcome, answer) = call.await;
            begun.feedback = begun.feedback.or(answer);
            begun.deliver(&finisher, outcome).await;
        };
        self.tasks.spawn(deliver.in_current_span());
    }
}

/// What is to be done with a message.
enum Work {
    Call(Call, Begun),
    /// It is `echo`, or cannot be called: there is nothing to call.
    Done(Outcome, Begun),
}

enum Found {
    Function(usize),
    Echo,
}

/// Sends results on.
#[derive(Debug)]
struct Finisher {
    /// Calls of functions that do not exist.
    unknown: Mutex<UnknownLog>,
    context: Arc<ComponentContext>,
    shared: Arc<ComponentState>,
    counters: Arc<PartCounters>,
    outlet: Outlet,
}

/// A call, or one of its results, as it is sent on.
#[derive(Debug)]
struct Finished {
    message: Message,
    outcome: Outcome,
    feedback: Option<oneshot::Sender<Bytes>>,
    /// As in [`Begun`].
    wanted: Wanted,
    /// Whether the call has no further result.
    is_last: bool,
}

/// What the caller wants to be told of a call's results.
#[derive(Debug, Clone, Default)]
struct Wanted {
    /// Whether it wants to know that they were all.
    end: bool,
    /// What they add up to.
    share: Option<Share>,
    /// Those that were given, where there may be many.
    given: Option<Arc<Mutex<Given>>>,
}

/// Results that were given.
#[derive(Debug, Default)]
struct Given {
    results: u64,
    /// What their shares add up to.
    sum: u64,
}

impl Wanted {
    fn is_any(&self) -> bool {
        self.end || self.share.is_some()
    }

    fn given(&self) -> Option<MutexGuard<'_, Given>> {
        let given = self.given.as_ref()?.lock();
        Some(given.unwrap_or_else(PoisonError::into_inner))
    }

    /// One of many is given: tells which share it has.
    fn give(&self) -> Option<Share> {
        let mut given = self.given()?;
        let piece = self.share.map(|share| share.piece(given.results));
        given.results += 1;
        given.sum = given.sum.wrapping_add(piece.map_or(0, Share::value));
        piece
    }

    /// How many were given before, and which share is left; `None` where there were none.
    fn rest(&self) -> (u64, Option<Share>) {
        match self.given() {
            Some(given) => (given.results, self.share.map(|share| share.rest(given.sum))),
            None => (0, self.share),
        }
    }
}

impl Finished {
    /// One of many.
    fn result(mut message: Message, share: Option<Share>, outcome: Outcome) -> Self {
        if share.is_some() {
            message.set_share(share);
        }
        message.set_result();
        Self {
            message,
            outcome,
            feedback: None,
            wanted: Wanted::default(),
            is_last: false,
        }
    }
}

impl Finisher {
    /// Logs a failure. A function that does not exist is usually called many times.
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
                    "further calls of `{function}` failed alike"
                );
            }
        }
    }

    async fn finish(&self, finished: Finished, flow: Flow) {
        if let Some(message) = self.finished(finished) {
            self.outlet.send_in(message, flow, Instant::now()).await;
        }
    }

    /// The message that goes on, if any.
    fn finished(&self, finished: Finished) -> Option<Message> {
        let Finished {
            mut message,
            outcome,
            feedback,
            wanted,
            is_last,
        } = finished;
        if is_last {
            message.set_last_result();
        }
        match outcome {
            Outcome::Payload(payload) => message.set_payload(payload),
            Outcome::Nothing => {
                if !wanted.is_any() {
                    if is_last {
                        message.finish_task();
                    }
                    return None;
                }
                let (results, rest) = wanted.rest();
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
                let (results, rest) = wanted.rest();
                if results > 0 && rest.is_some() {
                    message.set_share(rest);
                }
                if wanted.end {
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
        // Nobody wants it, and there may be many.
        tracing::debug!(function, stage, "`{function}` {failure}: {cause}");
    } else {
        tracing::error!(function, stage, "`{function}` {failure}: {cause}");
    }
}

/// Where a call with many results puts them.
#[derive(Debug)]
pub(crate) struct Emitter {
    header: Message,
    flow: Flow,
    finisher: Arc<Finisher>,
    before: Option<CancellationToken>,
    wanted: Wanted,
    collect: Option<mpsc::UnboundedSender<(Option<Share>, Outcome)>>,
    /// Bytes that wait for the end of the call.
    collected: usize,
}

/// How many bytes of results may wait for the end of a call, each with what it takes besides.
const COLLECTED: usize = 64 * 1024 * 1024;
const BESIDES: usize = 64;

impl Emitter {
    pub(crate) async fn emit(&mut self, result: Outcome) -> Emitted {
        let share = match &result {
            Outcome::Payload(_) | Outcome::Failed(_) => self.wanted.give(),
            Outcome::Nothing => None,
        };
        if let Some(collect) = &self.collect {
            if let Outcome::Payload(payload) = &result {
                self.collected += payload.len() + BESIDES;
            }
            if self.collected > COLLECTED {
                let error = "more than 64 MiB of results wait for the end of the call, as they do beside methods that take `&mut self`";
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
        let result = Finished::result(self.header.clone(), share, result);
        self.finisher.finish(result, self.flow).await;
        if self.finisher.outlet.is_closed() {
            Emitted::Unwanted
        } else {
            Emitted::Wanted
        }
    }
}

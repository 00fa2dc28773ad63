//! [`CallLoop`] runs the calls of an executor, at most `concurrency` at once.

use std::future::{Future, poll_fn};
use std::iter;
use std::sync::Arc;
use std::task::Poll;
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::FutureExt as _;
use tokio::sync::oneshot;
use tokio::task::{JoinError, JoinSet};
use tokio_util::sync::CancellationToken;
use tracing::{Instrument as _, Span};

use super::call_future::CallFuture;
use super::callable::{Call, Methods};
use super::layered::call_layered;
use super::result::{CallResult, ResultSender};
use super::started_call::{NextCall, StartedCall};
use super::{Addressee, Order};
use crate::call_service::MethodService;
use crate::call_slots::{self, Scope};
use crate::clock;
use crate::failure::CallFailure;
use crate::method::{Outcome, Results};
use crate::part::{Envelope, Inlet, Pace};
use crate::trace::{CurrentCall, StepSpan};
use crate::watchdog::{MethodId, Watched};

/// Time after which the loop yields to other tasks of its thread.
const YIELD_INTERVAL: Duration = Duration::from_micros(200);

/// Longest time that a result waits for further ones of the same batch.
const BATCH_DELAY: Duration = Duration::from_micros(20);

/// The state of a running [`Executor`](super::Executor).
pub(super) struct CallLoop {
    pub(super) component: Arc<dyn Methods>,
    pub(super) addressee: Addressee,
    /// The outermost layer; `None` without layers.
    pub(super) layers: Option<MethodService>,
    /// In the order of [`Methods::functions`].
    pub(super) methods: Vec<MethodId>,
    /// The function and stage of the last message, and the index that they resolved to.
    pub(super) last_found: Option<(String, i64, usize)>,
    /// The scope of calls under the name of the last message.
    pub(super) scope: Option<Scope>,
    pub(super) sender: Arc<ResultSender>,
    pub(super) order: Order,
    /// Cancelled once the previous call has delivered its result, if the order is kept.
    pub(super) last: Option<CancellationToken>,
    /// Calls that were pending after their first poll. They are aborted with the executor.
    pub(super) tasks: JoinSet<()>,
    /// Results of the next batch.
    pub(super) finished: Vec<Envelope>,
    /// Calls that were begun and are not counted yet, and the bytes of their payloads.
    pub(super) begun: usize,
    pub(super) begun_bytes: usize,
    /// Calls that are over, of which some have results in `finished`.
    pub(super) unsent: usize,
    /// When `finished` is sent, unless it is empty.
    pub(super) flush_at: Instant,
    /// When the period of the recent calls ends, once it is known.
    pub(super) period_end: Option<Instant>,
}

impl CallLoop {
    /// Runs messages until the inlet is closed and all calls are done.
    pub(super) async fn run_all(&mut self, inlet: &mut Inlet, concurrency: usize) {
        let calls = self;
        let mut batch = Vec::new();
        let mut pace = Pace::default();
        // Whether the last batch had calls that were pending after their first poll. Then each call of the next one
        // needs a slot.
        let mut pends = false;
        // The memory of a call that completed at once is reused for the next one.
        let mut future = CallFuture::default();
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
            let mut now = clock::now();
            let (mut begin, mut end) = (now, Pace::deadline(now));
            let mut turn_end = now + YIELD_INTERVAL;
            if calls.period_end.is_none_or(|end| now >= end) {
                calls.period_end = Some(calls.sender.state.recent.end_period(now));
            }
            let (taken, mut handled) = (batch.len(), 0);
            calls.sender.counters.calls_taken(taken);
            let mut envelopes = batch.drain(..);
            while let Some(envelope) = envelopes.next() {
                if envelope.message.is_returned() {
                    calls.unsent += 1;
                    continue;
                }
                if handled > 0 && (now > end || !calls.has_slot(concurrency)) {
                    // Other clients get their turn before the rest.
                    calls.sender.counters.calls_passed_on(1 + envelopes.len());
                    inlet.restore(iter::once(envelope).chain(envelopes));
                    break;
                }
                handled += 1;
                if !envelope.message.begin_task() {
                    calls.unsent += 1;
                    continue;
                }
                let (started, next) = calls.begin(envelope, now);
                let polled = match next {
                    NextCall::Done(outcome) => Poll::Ready(outcome),
                    NextCall::Poll(call) => {
                        let polled = calls.poll_first(&started, call, &mut future).await;
                        now = clock::now();
                        polled
                    }
                };
                match polled {
                    Poll::Ready(outcome) => match calls.add_result(started, outcome, now) {
                        Some((started, outcome)) => calls.deliver_alone(started, outcome).await,
                        None if calls.is_flush_due(now) => calls.flush().await,
                        None => {}
                    },
                    Poll::Pending => {
                        calls.flush().await;
                        calls.spawn_pending(started, std::mem::take(&mut future));
                        pends = true;
                        now = clock::now();
                    }
                }
                if now > turn_end {
                    calls.flush().await;
                    let paused = now;
                    tokio::task::yield_now().await;
                    now = clock::now();
                    turn_end = now + YIELD_INTERVAL;
                    let pause = now.duration_since(paused);
                    (begin, end) = (begin + pause, end + pause);
                }
            }
            pace.handled(taken, handled, now.duration_since(begin));
            calls.flush().await;
        }
        while let Some(ended) = calls.tasks.join_next().await {
            surface_panic(ended);
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
        let slots = self.sender.state.slots.all(concurrency);
        slots.saturating_sub(self.tasks.len())
    }

    /// Waits until fewer than `concurrency` calls are running, not counting those that have lent their slots.
    async fn wait_for_slot(&mut self, concurrency: usize) {
        if self.has_slot(concurrency) {
            return;
        }
        let mut slots = self.sender.state.slots.subscribe();
        while !self.has_slot(concurrency) {
            self.flush().await;
            tokio::select! {
                Some(ended) = self.tasks.join_next() => surface_panic(ended),
                _ = slots.changed() => {}
            }
        }
    }

    /// Counts the calls that were begun, and sends the results that are ready.
    async fn flush(&mut self) {
        let (begun, bytes) = (
            std::mem::take(&mut self.begun),
            std::mem::take(&mut self.begun_bytes),
        );
        if begun > 0 {
            self.sender.counters.count(begun, bytes);
        }
        self.sender.outlet.send_all(&mut self.finished).await;
        let passed_on = std::mem::take(&mut self.unsent);
        if passed_on > 0 {
            self.sender.counters.calls_passed_on(passed_on);
        }
    }

    /// Begins a call, and polls it once, observed by the watchdog and within the scope of its concurrency slot.
    async fn poll_first(
        &mut self,
        started: &StartedCall,
        call: Call,
        future: &mut CallFuture,
    ) -> Poll<Outcome> {
        let (component, index) = (self.component.clone(), started.index);
        match &self.layers {
            None => component.call(index, call, future),
            Some(layers) => {
                future.set(call_layered(
                    layers,
                    component,
                    index,
                    call,
                    &started.header,
                ));
            }
        }
        if self.component.functions()[index].results == Results::Many {
            // Results of a stream are sent at once, after the results of earlier calls.
            self.flush().await;
        }
        let (method, scope) = (self.methods[index], &mut self.scope);
        let span = started.span.as_deref().map(StepSpan::span);
        let logged = CurrentCall::of(&started.header);
        poll_fn(|context| {
            let _entered = span.map(Span::enter);
            let poll = || method.poll(|| future.poll_unpin(context));
            let poll = || CurrentCall::enter(logged.as_ref(), poll);
            Poll::Ready(call_slots::enter(scope, poll))
        })
        .await
    }

    /// Adds the result of a call that completed at its first poll to the next batch. Returns the call if it has to be
    /// delivered by itself.
    fn add_result(
        &mut self,
        mut started: StartedCall,
        outcome: Outcome,
        now: Instant,
    ) -> Option<(StartedCall, Outcome)> {
        drop(started.end.take());
        started.record_end(&self.sender, &outcome, now);
        let waits = started.turn.before.is_some() || started.collected.is_some();
        if waits || self.sender.outlet.block {
            return Some((started, outcome));
        }
        self.unsent += 1;
        let message = self.sender.message(CallResult {
            message: started.header,
            outcome,
            feedback: started.feedback,
            completion: started.completion,
            is_last: true,
        })?;
        if self.finished.is_empty() {
            self.flush_at = started.started_at + BATCH_DELAY;
        }
        let envelope = Envelope::new(message, started.flow, now);
        self.finished.push(envelope);
        None
    }

    fn is_flush_due(&self, now: Instant) -> bool {
        !self.finished.is_empty() && now > self.flush_at
    }

    /// Delivers the result of a call that completed at its first poll when it is its turn.
    async fn deliver_alone(&mut self, started: StartedCall, outcome: Outcome) {
        self.flush().await;
        if started.turn.before.is_some() {
            self.spawn(started, std::future::ready((outcome, None)));
        } else {
            started.deliver(&self.sender, outcome).await;
            self.sender.counters.calls_passed_on(1);
        }
    }

    /// Continues a pending call as a task.
    fn spawn_pending(&mut self, mut started: StartedCall, call: CallFuture) {
        let method = self.methods[started.index];
        let scope = self.scope.clone();
        let mut call = Watched {
            method,
            scope,
            span: started.span(),
            logged: CurrentCall::of(&started.header),
            call,
        };
        let end = started.end.take();
        let started_at = started.started_at;
        let deadline = started.deadline;
        let max_runtime = self.component.functions()[started.index].max_runtime;
        let topic = started.header.client_topic();
        let state = self.sender.state.clone();
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
                    Some(deadline) => tokio::time::sleep(deadline.left(clock::wall())).await,
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
            let result = tokio::select! {
                biased;
                outcome = &mut call => Ok(outcome),
                () = late => Err(CallFailure::late()),
                limit = overrun => Err(CallFailure::overrun(limit)),
                () = state.cancellations.cancelled(&topic) => Err(CallFailure::cancelled()),
                () = abandoned => Err(CallFailure::cancelled()),
            };
            let is_cancelled = result.is_err() && end.is_some();
            drop(end);
            if is_cancelled {
                // The method may wait for `Context::cancelled`, which is ready now.
                let _ = (&mut call).now_or_never();
            }
            (result.unwrap_or_else(Outcome::Failed), only_answer)
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
            started.record_end(&sender, &outcome, clock::now());
            started.feedback = started.feedback.or(answer);
            started.deliver(&sender, outcome).await;
            sender.counters.calls_passed_on(1);
        };
        self.tasks.spawn(deliver.in_current_span());
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

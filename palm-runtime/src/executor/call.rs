//! [`CallLoop::begin`] finds the function of a message and prepares its call.

use std::sync::Arc;
use std::time::Instant;

use parking_lot::Mutex;
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;

use super::callable::Call;
use super::emit::ResultEmitter;
use super::result::{CompletionRequest, EmittedResults};
use super::run::CallLoop;
use super::started_call::{DeliveryTurn, NextCall, StartedCall};
use super::{Addressee, ECHO, Order};
use crate::call_slots::Scope;
use crate::clock;
use crate::context::Context;
use crate::failure::CallFailure;
use crate::message::{Deadline, Message, Trace};
use crate::method::{Outcome, Results};
use crate::part::Envelope;
use crate::trace::StepSpan;

enum FoundFunction {
    Function(usize),
    Echo,
}

impl CallLoop {
    /// Finds the function of a message, and prepares its call.
    pub(super) fn begin(&mut self, envelope: Envelope, now: Instant) -> (StartedCall, NextCall) {
        let Envelope {
            message,
            flow,
            since,
            feedback,
            ..
        } = envelope;
        self.begun += 1;
        self.begun_bytes += message.payload().len();
        let waited = now.saturating_duration_since(since);
        let mut started = StartedCall {
            index: self.component.functions().len(),
            header: message,
            flow,
            feedback,
            received_at: since,
            started_at: now,
            is_counted: false,
            deadline: None,
            completion: CompletionRequest::default(),
            turn: self.turn(),
            collected: None,
            end: None,
            span: None,
            is_sampled: false,
            is_over: false,
        };
        let extensions = started.header.extensions().unwrap_or_default();
        if extensions.error.is_some() || extensions.end.is_some() {
            // An earlier step failed or has no further results, so this step is skipped.
            let payload = started.header.payload().clone();
            started.is_over = true;
            return (started, NextCall::Done(Outcome::Payload(payload)));
        }
        if self.sender.state.cancellations.concern(&started.header) || self.is_abandoned(&started) {
            return (started, NextCall::failed(CallFailure::cancelled()));
        }
        started.completion.end = extensions.wants_end;
        started.completion.share = extensions.share;
        if let Some(deadline) = Deadline::from_extension(extensions.deadline) {
            if deadline.has_passed(clock::wall()) {
                return (started, NextCall::failed(CallFailure::late()));
            }
            started.deadline = Some(deadline);
        }
        started.index = match self.find(&started.header) {
            Ok(FoundFunction::Function(index)) => index,
            Ok(FoundFunction::Echo) => {
                started.count(&self.sender, waited);
                let payload = started.header.payload().clone();
                return (started, NextCall::Done(Outcome::Payload(payload)));
            }
            Err(failure) => return (started, NextCall::failed(failure)),
        };
        let info = &self.component.functions()[started.index];
        if info.at_most_once && !started.header.run_task_once() {
            return (started, NextCall::failed(CallFailure::cancelled()));
        }
        started.count(&self.sender, waited);
        if let Some(trace) = extensions.trace {
            started.is_sampled = Trace::from_wire(trace, 0).is_sampled();
        }
        let component = &self.sender.context.name;
        started.span = StepSpan::begin(component, &mut started.header, waited).map(Box::new);
        let takes_context = info.takes_context || self.layers.is_some();
        let context = takes_context.then(|| {
            let ended = CancellationToken::new();
            started.end = Some(ended.clone().drop_guard());
            let context = Context::new(self.sender.context.clone(), started.header.detached());
            context.with_end(ended)
        });
        let emitter = match info.results {
            Results::One => None,
            Results::Many => Some(Box::new(self.emitter(&mut started))),
        };
        let payload = started.header.payload().clone();
        (
            started,
            NextCall::Poll(Call::new(payload, context, emitter)),
        )
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
        let component = &self.component;
        let waits = component.overridden().handle_stream || self.order == Order::Kept;
        let collect = (component.is_exclusive() && waits).then(|| {
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
            && message.is_at_step(function, *stage)
        {
            return Ok(FoundFunction::Function(*index));
        }
        let found = self.look_up(message)?;
        if let FoundFunction::Function(index) = found {
            let name = message.step().map_or("", |step| step.server);
            if self.scope.as_ref().is_none_or(|scope| scope.name != name) {
                self.scope = Some(Scope {
                    name: name.into(),
                    slots: self.sender.state.slots.clone(),
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
        match self.component.find(step.function) {
            Some(index) => Ok(FoundFunction::Function(index)),
            None if step.function == ECHO.name => Ok(FoundFunction::Echo),
            None => {
                let known = self.component.functions().iter();
                let known = known.map(|function| &*function.name);
                let known: Vec<_> = known.chain([&*ECHO.name]).collect();
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
}

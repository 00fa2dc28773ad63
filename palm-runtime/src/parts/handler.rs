//! [`Handler`]: an outbound part that runs user code.

use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;

use crate::clock;
use crate::context::{ComponentContext, Context};
use crate::executor::log_failure;
use crate::failure::{BoxError, catch_panic};
use crate::message::lease::Lease;
use crate::message::{Message, Split};
use crate::method::Emit;
use crate::metrics::PartCounters;
use crate::part::{
    EmitToOutlet, Envelope, Inlet, OpenError, Outbound, OutboundHooks, Outlet, Pace, Running, Setup,
};

/// An outbound part that passes each message to [`OutboundHooks::handle`], one at a time, and sends the messages that
/// the hook emits.
///
/// A message that [is done](Message::is_done), such as the error of an earlier step, is sent on without the hook.
///
/// In a worker ([`MasterConnection`](crate::parts::MasterConnection)), a task ends with its hook, and the messages that
/// the hook emits are its results.
///
/// A hook may emit any number of messages without affecting the completion of a job: clones of the message share its
/// completion weight, and the remaining weight is sent after them.
///
/// ```
/// use std::time::Duration;
///
/// use palm::callable::Emit;
/// use palm::part::OutboundHooks;
/// use palm::parts::*;
/// use palm::socket::{Pull, Request, SocketOptions};
/// use palm::{CallFailure, Context, Message, ServerTemplate};
///
/// # #[tokio::main]
/// # async fn main() -> Result<(), palm::BoxError> {
/// /// Replaces each payload by the number of bytes so far.
/// struct Meter(usize);
///
/// impl OutboundHooks for Meter {
///     async fn handle(
///         &mut self,
///         message: Message,
///         _: Context,
///         emit: &mut Emit<'_>,
///     ) -> Result<(), CallFailure> {
///         self.0 += message.payload().len();
///         emit.send(message.with_payload(self.0.to_string())).await;
///         Ok(())
///     }
/// }
///
/// let mut server = ServerTemplate::new("server");
/// server.register_inbound(RepService::bind("tcp://127.0.0.1:0"), "Rep").route("Meter");
/// server.register_outbound(Handler::new(Meter(0)), "Meter").route("Push");
/// server.register_outbound(PushService::bind("tcp://127.0.0.1:0"), "Push");
/// let server = server.spawn().await?;
/// let address = |key| server.address(key).expect("the part announces it");
///
/// let request = Request::connect(&address("rep_address").parse()?, &SocketOptions::default()).await?;
/// let mut pull = Pull::connect(&address("push_address").parse()?, &SocketOptions::default()).await?;
/// for (payload, sum) in [("hello", "5"), ("world", "10")] {
///     let message = Message::new("server.meter", payload).encode();
///     request.request(message, Duration::from_secs(10)).await?;
///     let mut frames = Vec::new();
///     pull.recv_many(&mut frames, 1).await?;
///     assert_eq!(Message::decode(frames.remove(0))?.payload(), sum);
/// }
/// server.shutdown().await?;
/// # Ok(())
/// # }
/// ```
///
/// With `#[palm::outbound]` the same is `fn handle(&mut self, message: Message) -> Message`.
#[derive(Debug)]
pub struct Handler<H> {
    hooks: H,
}

impl<H: OutboundHooks> Handler<H> {
    /// Returns a part that handles messages with `hooks`.
    pub fn new(hooks: H) -> Self {
        Self { hooks }
    }
}

impl<H: OutboundHooks> Outbound for Handler<H> {
    async fn open(self, setup: &mut Setup<'_>) -> Result<Running<(Inlet, Outlet)>, OpenError> {
        let (context, counters) = (setup.context.clone(), setup.counters());
        Ok(Running::outbound(|inlet, outlet| {
            self.handle_all(context, counters, inlet, outlet)
        }))
    }
}

impl<H: OutboundHooks> Handler<H> {
    async fn handle_all(
        mut self,
        context: Arc<ComponentContext>,
        counters: Arc<PartCounters>,
        mut inlet: Inlet,
        outlet: Outlet,
    ) -> Result<(), BoxError> {
        let mut batch = Vec::new();
        let mut pace = Pace::default();
        while inlet.recv_many(&mut batch, pace.messages()).await > 0 {
            inlet.yield_to_senders().await;
            let (begin, taken) = (Instant::now(), batch.len());
            let mut handled = 0;
            let mut envelopes = batch.drain(..);
            while let Some(envelope) = envelopes.next() {
                handled += 1;
                self.handle_one(envelope, &context, &counters, &outlet)
                    .await;
                if envelopes.len() > 0 && pace.is_over(begin.elapsed()) {
                    // Other clients are served before the rest.
                    inlet.restore(envelopes);
                    break;
                }
            }
            pace.handled(taken, handled, begin.elapsed());
        }
        Ok(())
    }

    /// Runs the hook on one message, and answers the part that sent it.
    async fn handle_one(
        &mut self,
        envelope: Envelope,
        context: &Arc<ComponentContext>,
        counters: &PartCounters,
        outlet: &Outlet,
    ) {
        let Envelope {
            mut message,
            flow,
            feedback,
            ..
        } = envelope;
        // The hook may keep its message, which must not keep the task open.
        let task = message.take_task();
        if task.as_ref().is_some_and(|task| !task.begin()) {
            // It was returned to the master.
            return;
        }
        counters.count(1, message.payload().len());
        let is_done = message.is_done();
        let share = message.share().filter(|_| !is_done);
        let share = share.map(|share| (Split::new(share), message.client_topic()));
        let context = Context::new(context.clone(), message);
        let mut answer = Bytes::new();
        let mut emitted = HandlerEmit {
            to: EmitToOutlet {
                outlet,
                flow,
                since: clock::now(),
                answer: Bytes::new(),
                share,
            },
            task: task.as_ref(),
            last: feedback.is_some().then_some(&mut answer),
            count: 0,
        };
        let message = context.message().clone();
        let mut emit = Emit::new(&mut emitted);
        let handled = if is_done {
            // An earlier step has failed, or has no more results: the hook is skipped.
            emit.send(message).await;
            Ok(())
        } else {
            let handling = self.hooks.handle(message, context.clone(), &mut emit);
            catch_panic(handling, Err).await
        };
        if let Err(failure) = handled {
            counters.count_error();
            log_failure(context.message(), &failure);
            let failed = context.message().clone().failed(context.name(), &failure);
            Emit::new(&mut emitted).send(failed).await;
        }
        let is_nothing = emitted.count == 0 && !is_done;
        if emitted.to.share.is_some() {
            let message = result_of(task.as_ref(), context.message().clone());
            emitted.to.finish(|| message).await;
        } else if is_nothing && context.message().wants_end() {
            // The number of results is reported only if it is zero: downstream parts may change others.
            let message = context.message().clone().with_payload(Bytes::new());
            let mut end = result_of(task.as_ref(), message);
            end.end(0);
            let end = Envelope::new(end, flow, clock::now());
            outlet.send_done(end).await;
        }
        if let Some(task) = task {
            task.finish();
        }
        if let Some(feedback) = feedback {
            // The receiver is gone if the component stops.
            let _ = feedback.send(answer);
        }
    }
}

/// Makes a message one of the results of a task, if there is one.
fn result_of(task: Option<&Lease>, mut message: Message) -> Message {
    if let Some(task) = task {
        message.belongs_to(task.clone());
        message.set_result();
    }
    message
}

/// Sends the messages that a hook emits, and keeps the last one if a peer waits for it.
struct HandlerEmit<'a> {
    to: EmitToOutlet<'a>,
    /// The task of a master whose results the messages are.
    task: Option<&'a Lease>,
    last: Option<&'a mut Bytes>,
    count: u64,
}

impl crate::method::EmitQueue for HandlerEmit<'_> {
    fn send(&mut self, message: Message) -> futures_core::future::BoxFuture<'_, ()> {
        self.count += 1;
        let message = result_of(self.task, message);
        if let Some(last) = &mut self.last {
            **last = message.encode();
        }
        self.to.send(message)
    }
}

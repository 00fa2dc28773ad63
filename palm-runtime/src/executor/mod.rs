//! [`Executor`]: the part that runs a user's methods.
//!
//! For each message, [`CallLoop`] finds the function, checks that the message is addressed to this component, and polls
//! the call once. The result is sent downstream in the message of the call. A call that completes at its first poll (a
//! synchronous method that is not `blocking` and does not wait for exclusive access) costs neither a task nor an
//! allocation. Any other call becomes a task of its own, of which at most `concurrency` run at once.
//!
//! The stages of a call: `begin` ([`StartedCall`](started_call::StartedCall)), `poll_first`, then `add_result`,
//! `deliver_alone` or `spawn_pending`, and [`ResultSender`]. If the order is kept, each call waits for the delivery of the
//! previous one by a [`DeliveryTurn`](started_call::DeliveryTurn). A panic is a failed call.

mod box_method;
mod call;
mod call_future;
mod callable;
mod emit;
mod layered;
mod result;
mod run;
#[cfg(any(feature = "http", feature = "testing"))]
mod standalone;
mod started_call;

pub use box_method::BoxMethod;
pub(crate) use callable::Methods;
pub use callable::{Call, Callable};
pub(crate) use emit::ResultEmitter;
pub(crate) use result::log_failure;
#[cfg(any(feature = "http", feature = "testing"))]
pub(crate) use standalone::standalone;

use std::marker::PhantomData;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::task::JoinSet;
use tower::Layer;

use self::result::ResultSender;
use self::run::CallLoop;
use crate::call_service::{LayeredService, Layers, MethodService};
use crate::clock;
use crate::component_state::ComponentState;
use crate::context::ComponentContext;
use crate::failure::{BoxError, CallFailure};
use crate::link::liveness;
use crate::method::{FunctionInfo, Receiver, Results, State};
use crate::metrics::{FunctionCounters, PartCounters};
use crate::part::{Inlet, OpenError, Outbound, Outlet, Running, Setup};
use crate::watchdog::MethodId;

/// The function that every component has.
static ECHO: FunctionInfo = FunctionInfo::new(
    "echo",
    "Returns the payload.",
    ("Bytes", "Bytes"),
    Receiver::Shared,
    Results::One,
    false,
);

/// The order in which answers are sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Order {
    /// The order in which messages arrived.
    Kept,
    /// The order in which calls complete.
    AsDone,
}

/// Which calls an [`Executor`] runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
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
    executor: AnyExecutor,
    component: PhantomData<fn() -> C>,
}

impl<C: Callable> Executor<C> {
    /// Creates an executor for the methods of `state`.
    pub fn new(state: Arc<State<C>>) -> Self {
        Self {
            executor: AnyExecutor::new(state),
            component: PhantomData,
        }
    }

    /// Sets how many calls run at once. Default: the number of CPUs. 0 counts as 1.
    #[must_use]
    pub fn concurrency(mut self, calls: usize) -> Self {
        self.executor = self.executor.concurrency(calls);
        self
    }

    /// Sets the order of answers. Default: [`Order::Kept`].
    #[must_use]
    pub fn order(mut self, order: Order) -> Self {
        self.executor.order = order;
        self
    }

    /// Sets which calls are run. Default: [`Addressee::ByName`].
    #[must_use]
    pub fn addressee(mut self, addressee: Addressee) -> Self {
        self.executor.addressee = addressee;
        self
    }

    /// Adds a layer around the calls and the layers that were added before. See
    /// [`Builder::layer`](crate::component::Builder::layer).
    #[must_use]
    pub fn layer<L>(mut self, layer: L) -> Self
    where
        L: Layer<MethodService, Service: LayeredService> + Send + 'static,
    {
        self.executor.layers.add(layer);
        self
    }
}

impl<C: Callable> Outbound for Executor<C> {
    async fn open(self, setup: &mut Setup<'_>) -> Result<Running<(Inlet, Outlet)>, OpenError> {
        self.executor.open(setup).await
    }
}

/// An [`Executor`] of any component.
#[derive(Debug)]
pub(crate) struct AnyExecutor {
    component: Arc<dyn Methods>,
    concurrency: usize,
    order: Order,
    addressee: Addressee,
    layers: Layers<CallFailure>,
}

#[derive(Debug)]
struct OpenedExecutor {
    context: Arc<ComponentContext>,
    state: Arc<ComponentState>,
    counters: Arc<PartCounters>,
    /// In the order of [`Methods::functions`], followed by `echo`.
    functions: Vec<Arc<FunctionCounters>>,
    /// `None` without layers.
    layers: Option<MethodService>,
}

impl AnyExecutor {
    pub(crate) fn new(component: Arc<dyn Methods>) -> Self {
        Self {
            component,
            concurrency: default_concurrency(),
            order: Order::Kept,
            addressee: Addressee::ByName,
            layers: Layers::default(),
        }
    }

    pub(crate) fn concurrency(mut self, calls: usize) -> Self {
        self.concurrency = calls.max(1);
        self
    }

    pub(crate) fn order(mut self, order: Order) -> Self {
        self.order = order;
        self
    }

    pub(crate) fn addressee(mut self, addressee: Addressee) -> Self {
        self.addressee = addressee;
        self
    }

    /// Sets the layers around the calls.
    pub(crate) fn layers(mut self, layers: Layers<CallFailure>) -> Self {
        self.layers = layers;
        self
    }
}

impl Outbound for AnyExecutor {
    async fn open(mut self, setup: &mut Setup<'_>) -> Result<Running<(Inlet, Outlet)>, OpenError> {
        let known = self.component.functions();
        let names = known.iter().map(|function| function.name.clone());
        let functions: Vec<_> = names
            .chain([ECHO.name.clone()])
            .map(|name| Arc::new(FunctionCounters::new(name)))
            .collect();
        setup.functions.extend(functions.iter().cloned());
        setup.state.slots.begin_with(self.concurrency);
        setup.described.extend_from_slice(known);
        if self.component.find(&ECHO.name).is_none() {
            setup.described.push(ECHO.clone());
        }
        let opened = OpenedExecutor {
            context: setup.context.clone(),
            state: setup.state.clone(),
            counters: setup.counters(),
            functions,
            layers: std::mem::take(&mut self.layers).into_service(),
        };
        Ok(Running::outbound(|inlet, outlet| {
            self.run_calls(opened, inlet, outlet)
        }))
    }
}

impl AnyExecutor {
    async fn run_calls(
        self,
        opened: OpenedExecutor,
        mut inlet: Inlet,
        outlet: Outlet,
    ) -> Result<(), BoxError> {
        let methods = self.component.functions().iter();
        let methods = methods
            .map(|function| MethodId::new(&opened.context.name, &function.name))
            .collect();
        let mut calls = CallLoop {
            component: self.component,
            addressee: self.addressee,
            methods,
            layers: opened.layers,
            last_found: None,
            scope: None,
            sender: Arc::new(ResultSender {
                unknown: Mutex::default(),
                context: opened.context,
                state: opened.state,
                counters: opened.counters,
                functions: opened.functions,
                outlet,
            }),
            order: self.order,
            last: None,
            tasks: JoinSet::new(),
            finished: Vec::new(),
            begun: 0,
            begun_bytes: 0,
            unsent: 0,
            flush_at: clock::now(),
            period_end: None,
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

pub(crate) fn default_concurrency() -> usize {
    std::thread::available_parallelism().map_or(1, Into::into)
}

//! An executor without a component, between two queues. Used by HTTP workers and by tests.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use super::AnyExecutor;
use crate::cache::ComponentStore;
use crate::component_state::ComponentState;
use crate::context::ComponentContext;
use crate::failure::BoxError;
use crate::link::LinkOptions;
use crate::part::{AnyInboundHooks, Envelope, Inlet, Outbound, Outlet, Setup, Stop};
use crate::queue::{QueueLimits, Sender, queue};
use crate::socket::SocketOptions;

/// Opens `executor`. Returns the queue of its calls and the future that runs them.
///
/// The future ends once all senders of the queue are dropped and all calls are done. Results are sent to `results`;
/// without it, each call is answered through its envelope.
pub(crate) async fn standalone(
    executor: AnyExecutor,
    context: &Arc<ComponentContext>,
    store: &Arc<ComponentStore>,
    results: Option<Sender<Envelope>>,
) -> (
    Sender<Envelope>,
    impl Future<Output = Result<(), BoxError>> + Send + use<>,
) {
    let mut setup = Setup {
        context,
        state: &Arc::new(ComponentState::new(LinkOptions::default())),
        store,
        options: &SocketOptions::default(),
        advertised_host: None,
        links_only: false,
        announced: &mut BTreeMap::new(),
        option: &mut None,
        counters: Arc::default(),
        hooks: AnyInboundHooks::default(),
        functions: &mut Vec::new(),
        described: &mut Vec::new(),
    };
    let executor = executor.open(&mut setup).await;
    let executor = executor.expect("opening an executor cannot fail");
    let stop = Stop::new(Duration::ZERO);
    let (calls, inlet) = queue(QueueLimits::default());
    let inlet = Inlet {
        queue: inlet,
        stop: stop.clone(),
    };
    let outlet = Outlet {
        block: results.is_none(),
        route: results,
        failures: None,
        log: false,
        part: "Executor".into(),
        remaining: None,
        stop,
    };
    (calls, executor.start((inlet, outlet)))
}

//! [`WorkerPushService`]: the outbound part of a master, which sends tasks to workers.

use super::scheduler::TaskScheduler;
use crate::discovery::IntoAddress;
use crate::part::{Binding, Inlet, LegacyAddress, OpenError, Outbound, Outlet, Running, Setup};
use crate::socket::Push;

/// An outbound part that assigns each task to a worker. Announced as `worker_push_address`.
///
/// Workers with a link receive their tasks over it, see [`LinkOptions`](crate::LinkOptions): the least-loaded worker
/// that has the function receives the next task, and the tasks of a lost worker are redelivered. Legacy workers
/// connect to the PUSH socket. The component also needs a [`WorkerPullService`](crate::parts::WorkerPullService) and a
/// [`CacheService`](crate::parts::CacheService).
///
/// A message that is not a task, such as the error of an earlier step or a remaining completion weight, is sent where
/// results are sent: along the part's route, or if it has none the route of the component's [`WorkerPullService`](crate::parts::WorkerPullService).
/// Tasks that no worker can run are sent there with an error, unless the part has a route for failures.
///
/// ```
/// use palm::ServerTemplate;
/// use palm::parts::*;
///
/// # #[tokio::main]
/// # async fn main() -> palm::Result<()> {
/// let mut master = ServerTemplate::new("master");
/// master.register_inbound(PullService::bind("tcp://127.0.0.1:0"), "Pull").route("WorkerPush");
/// master.register_outbound(WorkerPushService::bind("tcp://127.0.0.1:0"), "WorkerPush").failures("Pub");
/// master.register_inbound(WorkerPullService::bind("tcp://127.0.0.1:0"), "WorkerPull").route("Pub");
/// master.register_outbound(PubService::bind("tcp://127.0.0.1:0"), "Pub");
/// master.register_bypass(CacheService::bind("tcp://127.0.0.1:0"), "Cache");
/// let master = master.spawn().await?;
/// println!("workers connect to {}", master.db_address());
/// master.shutdown().await?;
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct WorkerPushService {
    address: LegacyAddress,
}

impl WorkerPushService {
    /// Binds `address`.
    pub fn bind(address: impl IntoAddress) -> Self {
        Self::at(LegacyAddress::configured(address.into_address()))
    }

    pub(crate) fn at(address: LegacyAddress) -> Self {
        Self { address }
    }
}

impl Outbound for WorkerPushService {
    fn forwards_only(&self) -> bool {
        true
    }

    fn binds(&self) -> Vec<Binding> {
        vec![Binding::legacy(
            "worker_push_address",
            &self.address.address,
        )]
    }

    async fn open(self, setup: &mut Setup<'_>) -> Result<Running<(Inlet, Outlet)>, OpenError> {
        let push = setup
            .legacy_socket(
                "worker_push_address",
                &self.address,
                Push::idle,
                Push::peers,
            )
            .await?;
        setup.state.outstanding.open();
        // The first of several such parts counts.
        let _ = setup.state.workers.set(push.as_ref().map(Push::peers));
        // Tasks are also sent over links, unless another part does that.
        let is_linked = setup.state.links.claim_tasks();
        let (context, state) = (setup.context.clone(), setup.state.clone());
        let counters = setup.counters();
        Ok(Running::outbound(move |mut inlet, outlet| async move {
            let tasks = TaskScheduler {
                links: is_linked.then_some(&state.links),
                push: push.as_ref(),
                name: &context.name,
                state: &state,
                counters: &counters,
                outlet: &outlet,
                replies: None,
            };
            let result = tasks.push_all(&mut inlet).await;
            state.outstanding.close();
            result?;
            if let Some(push) = push {
                push.close(inlet.linger()).await;
            }
            Ok(())
        }))
    }
}

//! [`PushPullService`]: sends tasks to workers and receives their results in one part.

use super::context::PartContext;
use super::pending_replies::PendingReplies;
use super::workers::{TaskScheduler, receive_results};
use crate::discovery::IntoAddress;
use crate::part::{Binding, Inlet, LegacyAddress, OpenError, Outbound, Outlet, Running, Setup};
use crate::socket::{Pull, Push};

/// An outbound part that assigns each message to a worker, receives the result, and sends it along its route.
///
/// An inbound part that is registered with `block` receives the result as its answer. The sockets are announced as
/// `worker_push_address` and `worker_pull_address`. In a component with a
/// [`CacheService`](crate::parts::CacheService), workers receive their tasks over links instead.
///
/// A REQ peer or an HTTP client can call workers through it, without a palm client:
///
/// ```
/// use std::time::Duration;
///
/// use palm::parts::*;
/// use palm::socket::{Request, SocketOptions};
/// use palm::{Message, ServerTemplate};
/// # use palm::{CallFailure, Context, callable::Emit, part::OutboundHooks};
/// # struct Shout;
/// # impl OutboundHooks for Shout {
/// #     async fn handle(
/// #         &mut self,
/// #         message: Message,
/// #         _: Context,
/// #         emit: &mut Emit<'_>,
/// #     ) -> Result<(), CallFailure> {
/// #         let loud = message.payload().to_ascii_uppercase();
/// #         emit.send(message.with_payload(loud)).await;
/// #         Ok(())
/// #     }
/// # }
///
/// # #[tokio::main]
/// # async fn main() -> Result<(), palm::BoxError> {
/// let workers = PushPullService::bind("tcp://127.0.0.1:0", "tcp://127.0.0.1:0");
/// let mut server = ServerTemplate::new("server");
/// server.register_inbound(RepService::bind("tcp://127.0.0.1:0"), "Rep").route("Workers").block(true);
/// server.register_outbound(workers, "Workers");
/// server.register_bypass(CacheService::bind("tcp://127.0.0.1:0"), "Cache");
/// let server = server.spawn().await?;
/// let address = |key| server.address(key).expect("the part announces it");
///
/// // A worker, whose `Shout` replies in capitals.
/// let tasks = PullConnection::connect(address("worker_push_address"));
/// let results = PushConnection::connect(address("worker_pull_address"));
/// let mut worker = ServerTemplate::new("worker");
/// worker.register_inbound(tasks, "TaskScheduler").route("Shout");
/// worker.register_outbound(Handler::new(Shout), "Shout").route("Results");
/// worker.register_outbound(results, "Results");
/// let worker = worker.spawn().await?;
///
/// let request = Request::connect(&address("rep_address").parse()?, &SocketOptions::default()).await?;
/// let question = Message::new("server.shout", "hello").encode();
/// let answer = request.request(question, Duration::from_secs(10)).await?;
/// assert_eq!(Message::decode(answer)?.payload(), "HELLO");
/// worker.shutdown().await?;
/// server.shutdown().await?;
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct PushPullService {
    push_address: LegacyAddress,
    pull_address: LegacyAddress,
}

/// The sockets and links of an open part.
impl PushPullService {
    /// Binds `push_address`, where tasks are sent, and `pull_address`, where results are received.
    pub fn bind(push_address: impl IntoAddress, pull_address: impl IntoAddress) -> Self {
        Self {
            push_address: LegacyAddress::configured(push_address.into_address()),
            pull_address: LegacyAddress::configured(pull_address.into_address()),
        }
    }
}

impl Outbound for PushPullService {
    fn forwards_only(&self) -> bool {
        true
    }

    fn binds(&self) -> Vec<Binding> {
        vec![
            Binding::legacy("worker_push_address", &self.push_address.address),
            Binding::legacy("worker_pull_address", &self.pull_address.address),
        ]
    }

    async fn open(self, setup: &mut Setup<'_>) -> Result<Running<(Inlet, Outlet)>, OpenError> {
        let (push_address, pull_address) = (&self.push_address, &self.pull_address);
        let push = setup
            .legacy_socket("worker_push_address", push_address, Push::idle, Push::peers)
            .await?;
        let pull = setup
            .legacy_socket("worker_pull_address", pull_address, Pull::idle, Pull::peers)
            .await?;
        setup.state.outstanding.open();
        // The first of several such parts counts.
        let _ = setup.state.workers.set(push.as_ref().map(Push::peers));
        let links = &setup.state.links;
        let (is_linked, linked) = (links.claim_tasks(), links.take_results());
        let opened = PartContext::new(setup);
        Ok(Running::outbound(move |mut inlet, outlet| async move {
            let (state, name) = (opened.state.clone(), opened.context.name.clone());
            let counters = opened.counters.clone();
            let replies = PendingReplies::default();
            let linger = inlet.linger();
            let task_outlet = outlet.clone();
            let tasks = TaskScheduler {
                push: push.as_ref(),
                name: &name,
                state: &state,
                counters: &counters,
                outlet: &task_outlet,
                links: is_linked.then_some(&state.links),
                replies: Some(&replies),
            };
            let push_all = async {
                let pushed = tasks.push_all(&mut inlet).await;
                state.outstanding.close();
                pushed
            };
            let results = receive_results(pull, opened, Some(&replies), linked, outlet);
            let (pushed, taken) = tokio::join!(push_all, results);
            pushed?;
            taken?;
            if let Some(push) = push {
                push.close(linger).await;
            }
            Ok(())
        }))
    }
}

//! A pair of PUSH and PULL: tasks go out and results come back in one part.

use super::answers::Answers;
use super::whereabouts::{Given, IntoAddress, Opened};
use super::workers::{Tasks, take_results};
use crate::error::BoxError;
use crate::part::{Inlet, OpenError, Outbound, Outlet, Setup};
use crate::socket::{Pull, Push, SocketError};

/// Gives each message to one of the workers that connect, takes their results, and sends these on along
/// its route; an inbound part that is registered with `block` gets the result as its answer. Announced as
/// `worker_push_address` and `worker_pull_address`, where workers look.
///
/// With it a REQ peer or an HTTP client can call workers without a client of ours:
///
/// ```
/// use std::time::Duration;
///
/// use palm_runtime::parts::*;
/// use palm_runtime::socket::{Request, SocketOptions};
/// use palm_runtime::{Message, ServerTemplate};
/// # use palm_runtime::{CallFailure, Context, callable::Emit, part::OutboundHooks};
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
/// # async fn main() -> Result<(), palm_runtime::BoxError> {
/// let workers = PushPullService::bind("tcp://127.0.0.1:0", "tcp://127.0.0.1:0");
/// let mut server = ServerTemplate::new("server");
/// server.register_inbound(RepService::bind("tcp://127.0.0.1:0"), "Rep").route("Workers").block(true);
/// server.register_outbound(workers, "Workers");
/// server.register_bypass(CacheService::bind("tcp://127.0.0.1:0"), "Cache");
/// let server = server.spawn().await?;
/// let address = |key| server.address(key).expect("it was announced");
///
/// // A worker, whose `Shout` answers in capitals.
/// let tasks = PullConnection::connect(address("worker_push_address"));
/// let results = PushConnection::connect(address("worker_pull_address"));
/// let mut worker = ServerTemplate::new("worker");
/// worker.register_inbound(tasks, "Tasks").route("Shout");
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
    push_address: Given,
    pull_address: Given,
    opened: Option<(Push, Pull, Opened)>,
}

impl PushPullService {
    /// Binds `push_address`, where tasks go out, and `pull_address`, where results come in.
    pub fn bind(push_address: impl IntoAddress, pull_address: impl IntoAddress) -> Self {
        Self {
            push_address: push_address.into_address(),
            pull_address: pull_address.into_address(),
            opened: None,
        }
    }
}

impl Outbound for PushPullService {
    fn only_passes_on(&self) -> bool {
        true
    }

    async fn open(&mut self, setup: &mut Setup<'_>) -> Result<(), OpenError> {
        let push_address = self.push_address.clone().map_err(SocketError::from)?;
        let pull_address = self.pull_address.clone().map_err(SocketError::from)?;
        let (push, push_bound) = Push::bind(&push_address, setup.options).await?;
        let (pull, pull_bound) = Pull::bind(&pull_address, setup.options).await?;
        setup.announce("worker_push_address", &push_bound);
        setup.announce("worker_pull_address", &pull_bound);
        setup.shared.outstanding.open();
        // Of several such parts the first one counts.
        let _ = setup.shared.workers.set(push.peers());
        self.opened = Some((push, pull, Opened::of(setup)));
        Ok(())
    }

    async fn run(self, mut inlet: Inlet, outlet: Outlet) -> Result<(), BoxError> {
        let (push, pull, opened) = self.opened.expect("a part is opened before it runs");
        let (shared, name) = (opened.shared.clone(), opened.context.name.clone());
        let counters = opened.counters.clone();
        let answers = Answers::default();
        let linger = inlet.linger();
        // What cannot be done goes where results go.
        let failed = Outlet {
            failures: outlet.failures.clone().or(outlet.route.clone()),
            ..outlet.clone()
        };
        let tasks = Tasks {
            push: &push,
            name: &name,
            shared: &shared,
            counters: &counters,
            outlet: &failed,
            links: None,
            answers: Some(&answers),
        };
        let push_all = async {
            let pushed = tasks.push_all(&mut inlet).await;
            shared.outstanding.close();
            pushed
        };
        let results = take_results(pull, opened, Some(&answers), None, outlet);
        let (pushed, taken) = tokio::join!(push_all, results);
        pushed?;
        taken?;
        push.close(linger).await;
        Ok(())
    }
}

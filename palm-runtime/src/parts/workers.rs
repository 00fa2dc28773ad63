//! A master's two sides towards its workers: tasks go out, results come in.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use tokio::sync::Notify;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use super::answers::Answers;
use super::intake::{Ids, Intake, Source};
use super::whereabouts::{self, Given, IntoAddress};
use crate::error::{BoxError, CallFailure};
use crate::executor::log_failure;
use crate::message::{Deadline, Message};
use crate::metrics::PartCounters;
use crate::part::{
    BATCH, Envelope, Inbound, Inlet, NoHooks, OpenError, Outbound, Outlet, Setup, Shared, Stop,
};
use crate::socket::{Pull, Push, SocketClosed, SocketError, TrySendError};

/// How many tasks are with workers, as far as counting results tells. A function that gives several
/// makes it too low while its tasks are out, one that gives none too high.
///
/// The parts of a component share it, so that those that push tasks and those that take results stop
/// together.
#[derive(Debug, Default)]
pub(crate) struct Outstanding {
    tasks: AtomicU64,
    /// Parts by which further tasks can go out.
    pushing: AtomicU64,
    changed: Notify,
}

impl Outstanding {
    /// One more part pushes tasks, until it is [`close`](Self::close)d.
    pub(super) fn open(&self) {
        self.pushing.fetch_add(1, Ordering::Relaxed);
    }

    fn went_out(&self) {
        self.tasks.fetch_add(1, Ordering::Relaxed);
    }

    fn came_back(&self, results: usize) {
        let results = results as u64;
        let less = |tasks: u64| Some(tasks.saturating_sub(results));
        let tasks = &self.tasks;
        let before = tasks.fetch_update(Ordering::Relaxed, Ordering::Relaxed, less);
        if before.is_ok_and(|before| before <= results) {
            self.changed.notify_one();
        }
    }

    pub(super) fn close(&self) {
        self.pushing.fetch_sub(1, Ordering::Release);
        self.changed.notify_one();
    }

    /// Waits until all tasks have gone out and come back, but no longer than `limit`.
    async fn done(&self, limit: Duration) {
        if tokio::time::timeout(limit, self.all_back()).await.is_err() {
            let tasks = self.tasks.load(Ordering::Relaxed);
            tracing::warn!("{tasks} tasks have no result yet, or their functions give none");
        }
    }

    async fn all_back(&self) {
        loop {
            let closed = self.pushing.load(Ordering::Acquire) == 0;
            if closed && self.tasks.load(Ordering::Relaxed) == 0 {
                return;
            }
            self.changed.notified().await;
        }
    }
}

/// Gives each task to one of the workers that connect to it, in turn. Announced as
/// `worker_push_address`.
///
/// ```
/// use palm_runtime::ServerTemplate;
/// use palm_runtime::parts::*;
///
/// # #[tokio::main]
/// # async fn main() -> palm_runtime::Result<()> {
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
    address: Given,
    opened: Option<Opened>,
}

impl WorkerPushService {
    /// Binds `address`.
    pub fn bind(address: impl IntoAddress) -> Self {
        Self {
            address: address.into_address(),
            opened: None,
        }
    }
}

impl Outbound for WorkerPushService {
    async fn open(&mut self, setup: &mut Setup<'_>) -> Result<(), OpenError> {
        let address = self.address.clone().map_err(SocketError::from)?;
        let (push, bound) = Push::bind(&address, setup.options).await?;
        setup.announce("worker_push_address", &bound);
        setup.shared.outstanding.open();
        // Of several such parts the first one counts.
        let _ = setup.shared.workers.set(push.peers());
        self.opened = Some(Opened {
            push,
            name: setup.context.name.clone(),
            shared: setup.shared.clone(),
            counters: setup.counters(),
        });
        Ok(())
    }

    async fn run(self, mut inlet: Inlet, outlet: Outlet) -> Result<(), BoxError> {
        let Opened {
            push,
            name,
            shared,
            counters,
        } = self.opened.expect("a part is opened before it runs");
        let tasks = Tasks {
            push: &push,
            name: &name,
            shared: &shared,
            counters: &counters,
            outlet: &outlet,
            answers: None,
        };
        let result = tasks.push_all(&mut inlet).await;
        shared.outstanding.close();
        result?;
        push.close(inlet.linger()).await;
        Ok(())
    }
}

#[derive(Debug)]
pub(super) struct Opened {
    push: Push,
    /// The component's.
    name: String,
    shared: Arc<Shared>,
    counters: Arc<PartCounters>,
}

/// What pushes tasks.
pub(super) struct Tasks<'a> {
    pub(super) push: &'a Push,
    pub(super) name: &'a str,
    pub(super) shared: &'a Shared,
    pub(super) counters: &'a PartCounters,
    pub(super) outlet: &'a Outlet,
    /// Where results are awaited; otherwise who waits for an answer has an empty one at once.
    pub(super) answers: Option<&'a Answers>,
}

impl Tasks<'_> {
    /// Pushes until the inlet has run dry. What waits for a worker until its deadline is answered with
    /// an error.
    pub(super) async fn push_all(&self, inlet: &mut Inlet) -> Result<(), SocketClosed> {
        let mut batch = Vec::new();
        while inlet.recv_many(&mut batch, BATCH).await > 0 {
            for envelope in batch.drain(..) {
                let Envelope {
                    message, feedback, ..
                } = envelope;
                match (feedback, self.answers) {
                    (Some(feedback), Some(answers)) => answers.expect(&message, feedback),
                    (Some(feedback), None) => {
                        // Nobody waits any more: the component stops.
                        let _ = feedback.send(Bytes::new());
                    }
                    (None, _) => {}
                }
                if self.shared.cancellations.has(message.client()) {
                    self.fail(message, &CallFailure::given_up()).await;
                    continue;
                }
                let deadline = message.deadline();
                let frame = message.into_frame();
                self.counters.count(1, frame.len());
                self.shared.outstanding.went_out();
                match self.push.try_send(frame) {
                    Ok(()) => {}
                    Err(TrySendError::Full(frame)) => self.push_in_time(frame, deadline).await?,
                    Err(TrySendError::Closed(_)) => return Err(SocketClosed),
                }
            }
        }
        Ok(())
    }

    async fn push_in_time(
        &self,
        frame: Bytes,
        deadline: Option<Deadline>,
    ) -> Result<(), SocketClosed> {
        let Some(deadline) = deadline else {
            return self.push.send(frame).await;
        };
        // A view of the same memory.
        let sent = timeout(deadline.left(), self.push.send(frame.clone())).await;
        if let Ok(sent) = sent {
            return sent;
        }
        self.shared.outstanding.came_back(1);
        self.counters.count_error();
        let failure = if self.push.peers().any().await? {
            CallFailure::late()
        } else {
            CallFailure::unavailable("no worker is connected".into())
        };
        if let Ok(message) = Message::decode(frame) {
            self.fail(message, &failure).await;
        }
        Ok(())
    }

    /// Answers a task that no worker gets.
    async fn fail(&self, message: Message, failure: &CallFailure) {
        log_failure(&message, failure);
        let failed = message.failed(self.name, failure);
        if let Some(answers) = self.answers {
            answers.answer(&failed.encode());
        }
        self.outlet.send_failed(failed, Instant::now()).await;
    }
}

/// Takes the results of workers, which connect to it and push. Announced as `worker_pull_address`.
///
/// An example is at [`WorkerPushService`].
#[derive(Debug)]
pub struct WorkerPullService {
    address: Given,
    opened: Option<(Pull, whereabouts::Opened)>,
}

impl WorkerPullService {
    /// Binds `address`.
    pub fn bind(address: impl IntoAddress) -> Self {
        Self {
            address: address.into_address(),
            opened: None,
        }
    }
}

impl Inbound for WorkerPullService {
    async fn open(&mut self, setup: &mut Setup<'_>) -> Result<(), OpenError> {
        let address = self.address.clone().map_err(SocketError::from)?;
        let (pull, bound) = Pull::bind(&address, setup.options).await?;
        setup.announce("worker_pull_address", &bound);
        self.opened = Some((pull, whereabouts::Opened::of(setup)));
        Ok(())
    }

    async fn run(self, outlet: Outlet) -> Result<(), BoxError> {
        let (pull, opened) = self.opened.expect("a part is opened before it runs");
        take_results(pull, opened, None, outlet).await
    }
}

/// Takes results and sends them on, until the component stops and all tasks that are out have come back.
pub(super) async fn take_results(
    pull: Pull,
    opened: whereabouts::Opened,
    answers: Option<&Answers>,
    mut outlet: Outlet,
) -> Result<(), BoxError> {
    // The limit on messages is for what comes in, not for what comes back.
    outlet.left = None;
    let component = outlet.stop.clone();
    let token = CancellationToken::new();
    outlet.stop = Stop {
        token: token.clone(),
        linger: component.linger,
    };
    let mut source = Results {
        pull,
        shared: opened.shared.clone(),
        answers,
    };
    let intake = Intake {
        hooks: NoHooks,
        ids: Ids::LeftAlone,
        context: opened.context,
        counters: opened.counters,
        outlet,
        batch: Vec::new(),
    };
    let stopping = async {
        component.stopped().await;
        opened.shared.outstanding.done(component.linger).await;
        token.cancel();
    };
    let (result, ()) = tokio::join!(intake.run(&mut source), stopping);
    result?;
    source.pull.close().await;
    Ok(())
}

/// A PULL that counts what comes back.
struct Results<'a> {
    pull: Pull,
    shared: Arc<Shared>,
    answers: Option<&'a Answers>,
}

impl Results<'_> {
    fn count(&self, frames: &[Bytes]) {
        if let Some(answers) = self.answers {
            frames.iter().for_each(|frame| answers.answer(frame));
        }
        self.shared.outstanding.came_back(frames.len());
    }
}

impl Source for Results<'_> {
    async fn recv_many(&mut self, out: &mut Vec<Bytes>, max: usize) -> Result<(), SocketClosed> {
        let before = out.len();
        self.pull.recv_many(out, max).await?;
        self.count(&out[before..]);
        Ok(())
    }

    fn try_recv_many(&mut self, out: &mut Vec<Bytes>, max: usize) {
        let before = out.len();
        self.pull.try_recv_many(out, max);
        self.count(&out[before..]);
    }
}

//! The two parts of a worker that exchange tasks and results with its master.
//!
//! [`TaskConnection`] reads the descriptor of the master, and decides the [`WorkerTransport`] for both parts: one link,
//! or the PULL and PUSH sockets of a legacy master. [`ResultConnection`] waits for this decision.
//!
//! A link is the worker's only connection to its master: it registers the worker's functions, reports cancelled calls,
//! and carries requests to the master's cache. For masters that cannot do so over a link, see [`older_master`].
//!
//! A worker that stops returns the tasks that it has not begun at once, so that other workers run them. Running tasks
//! have until the drain limit, and are returned then.

mod master_connection;
mod older_master;

use std::sync::Arc;

use bytes::Bytes;
use parking_lot::Mutex;
use prost::Message as _;
use tokio::sync::watch;

pub use master_connection::MasterConnection;

use self::master_connection::MasterPeer;
use self::older_master::OlderMaster;

use super::context::PartContext;
use super::{PullConnection, PushConnection};
use crate::cache::ComponentStore;
use crate::call_slots::Prefetch;
use crate::clock;
use crate::component_state::StreamId;
use crate::discovery::Directory;
use crate::discovery::descriptor;
use crate::failure::{BoxError, chain};
use crate::flow::IN_ORDER;
use crate::link::client::{LinkArrival, LinkArrivals, LinkClient, LinkSettings, ResultBatcher};
use crate::link::peer_log::listed;
use crate::link::{Subscription, WORKER};
use crate::message::Message;
use crate::message::proto::Descriptor;
use crate::method::FunctionInfo;
use crate::metrics::PartCounters;
use crate::part::{BATCH, Envelope, Inbound, Inlet, OpenError, Outbound, Outlet, Running, Setup};
use crate::queue::Shortcut;
use crate::report::Role;

/// The way in which a worker and its master exchange tasks and results.
#[derive(Debug, Clone)]
enum WorkerTransport {
    /// With the descriptor of the master, if it was read.
    Sockets(Option<Descriptor>),
    Link(Arc<LinkClient>),
}

/// The inbound part of a worker, which receives tasks: one of [`MasterConnection::parts`].
#[derive(Debug)]
pub struct TaskConnection {
    master: Arc<MasterPeer>,
    functions: Vec<FunctionInfo>,
    concurrency: Option<usize>,
    prefetch: Prefetch,
    transport: watch::Sender<Option<WorkerTransport>>,
}

/// The outbound part of a worker, which sends results: one of [`MasterConnection::parts`].
#[derive(Debug)]
pub struct ResultConnection {
    master: Arc<MasterPeer>,
    transport: watch::Receiver<Option<WorkerTransport>>,
}

impl Inbound for TaskConnection {
    fn forwards_only(&self) -> bool {
        true
    }

    async fn open(self, setup: &mut Setup<'_>) -> Result<Running<Outlet>, OpenError> {
        let opened = PartContext::new(setup);
        let store = setup.store.clone();
        if let Some(mistake) = self.functions.iter().find_map(FunctionInfo::name_mistake) {
            return Err(OpenError::Custom(mistake.into()));
        }
        setup.described.extend(self.functions);
        let directory = self.master.directory(setup.options).await?;
        let mut sockets = PullConnection::to_master(self.master.pull_from(&directory));
        let stream = sockets.expect_tasks(&setup.state.streams);
        let sockets = sockets.open(setup).await?;
        let tasks = LinkedTasks {
            directory,
            may_link: self.master.may_link(),
            concurrency: self.concurrency,
            prefetch: self.prefetch,
            transport: self.transport,
            opened,
            store,
            stream,
        };
        Ok(Running::inbound(|outlet| tasks.receive(sockets, outlet)))
    }
}

/// Receives tasks over a link, if the master offers one.
struct LinkedTasks {
    directory: Arc<Directory>,
    may_link: bool,
    concurrency: Option<usize>,
    prefetch: Prefetch,
    transport: watch::Sender<Option<WorkerTransport>>,
    opened: PartContext,
    store: Arc<ComponentStore>,
    /// The stream of tasks.
    stream: StreamId,
}

impl LinkedTasks {
    /// Waits until a master answers, if a link may be used, and returns its descriptor. Cancel safe.
    async fn master(&self) -> Option<Descriptor> {
        if !self.opened.state.links.options().enabled || !self.may_link {
            return None;
        }
        let role = self.directory.serves_role(WORKER, "worker_push_address");
        Some(role.await)
    }

    /// Receives tasks over a link, or with `sockets`.
    async fn receive(self, sockets: Running<Outlet>, outlet: Outlet) -> Result<(), BoxError> {
        let master = tokio::select! {
            () = outlet.stopped() => {
                if let Some(cause) = self.directory.wait_cause() {
                    tracing::warn!("stopped before a master was found: {cause}");
                }
                return Ok(());
            }
            master = self.master() => master,
        };
        match master {
            Some(master) if descriptor::offers_link(&master, WORKER) => {
                self.receive_over_link(&master.name, outlet).await
            }
            master => {
                let transport = WorkerTransport::Sockets(master);
                self.transport.send_replace(Some(transport));
                let address = self.directory.request().address();
                let state = &self.opened.state;
                state.report_sockets(Role::Master, Vec::new(), address);
                sockets.start(outlet).await
            }
        }
    }

    async fn receive_over_link(self, master: &str, outlet: Outlet) -> Result<(), BoxError> {
        let Self { opened, store, .. } = &self;
        let own = store.get(descriptor::KEY).await?.unwrap_or_default();
        let own = Descriptor::decode(own)?;
        let slots = &opened.state.slots;
        if let Some(concurrency) = self.concurrency {
            slots.begin_with(concurrency);
        } else if slots.concurrency() == 0 {
            slots.begin_with(1);
        }
        let (concurrency, prefetch) = (slots.concurrency(), self.prefetch);
        slots.set_prefetch(prefetch);
        let mut slots = slots.subscribe();
        let functions = listed(own.functions.iter());
        if own.functions.is_empty() {
            tracing::warn!(
                "no tasks arrive, because the worker has no functions: name them with `MasterConnection::function`"
            );
        }
        let worker = LinkSettings {
            db_address: String::new(),
            weight: 0,
            role: WORKER,
            following: Subscription::default(),
            name: opened.context.name.clone(),
            functions: own.functions,
            concurrency,
            prefetch,
            cancellations: Some(opened.state.cancellations.clone()),
        };
        let request = self.directory.request();
        let address = request.address();
        let options = opened.state.links.options().clone();
        let (link, tasks) = LinkClient::sharing(request, &opened.options, worker, options);
        opened.state.streams.is_opening(self.stream, &link);
        link.set_task_limit(outlet.remaining() as u64);
        opened.state.report_link(Role::Master, Vec::new(), &link);
        link.set_worker(Arc::downgrade(&opened.state));
        self.transport
            .send_replace(Some(WorkerTransport::Link(link.clone())));
        let forward = TaskForwarder {
            link: &link,
            opened,
            outlet: &outlet,
            envelopes: Vec::new(),
        };
        let connected = async {
            link.opened().await;
            tracing::info!(functions, "joined `{master}` at {address}");
            opened.state.streams.is_in_place(self.stream);
            std::future::pending().await
        };
        let drain = async {
            outlet.stopped().await;
            link.drain();
            // At its limit of messages, the component runs the tasks that it has accepted.
            if outlet.remaining() > 0 {
                let tasks = link.return_waiting();
                if tasks > 0 {
                    tracing::info!(tasks, "returned prefetched tasks to the master");
                }
            }
            std::future::pending().await
        };
        let resized = async {
            while slots.changed().await.is_ok() {
                link.resize(*slots.borrow_and_update());
            }
        };
        tokio::select! {
            ended = link.drive_with(forward.run(tasks)) => {
                ended?;
            }
            () = resized => {}
            () = connected => {}
            () = drain => {}
            () = outlet.stop.expired() => {}
        }
        Ok(())
    }
}

/// Sends the tasks of a link to the outlet.
struct TaskForwarder<'a> {
    link: &'a Arc<LinkClient>,
    opened: &'a PartContext,
    outlet: &'a Outlet,
    envelopes: Vec<Envelope>,
}

impl TaskForwarder<'_> {
    /// Runs until the component stops and the master has acknowledged that it sends no more tasks.
    async fn run(mut self, mut tasks: LinkArrivals) {
        let mut received = Vec::new();
        let drained = async {
            self.outlet.stopped().await;
            self.link.drained().await;
        };
        let mut drained = std::pin::pin!(drained);
        loop {
            tokio::select! {
                biased;
                () = tasks.recv_many(&mut received, BATCH) => self.pass_on(&mut received).await,
                () = &mut drained => break,
            }
        }
        tasks.try_recv_many(&mut received, usize::MAX);
        self.pass_on(&mut received).await;
    }

    async fn pass_on(&mut self, received: &mut Vec<LinkArrival>) {
        let since = clock::now();
        let counters = &self.opened.counters;
        let (mut count, mut bytes) = (0, 0);
        for arrival in received.drain(..) {
            let LinkArrival::Messages(received, batch) = arrival else {
                continue;
            };
            count += batch.len();
            bytes += batch.bytes();
            for (task, frame) in self.link.tasks(received, &batch) {
                match Message::decode(frame) {
                    Ok(mut message) => {
                        message.belongs_to(task);
                        self.envelopes.push(Envelope::new(message, IN_ORDER, since));
                    }
                    Err(error) => {
                        // No other worker could decode it either.
                        task.finish();
                        counters.count_error();
                        let cause = chain(&error);
                        tracing::warn!("dropping a malformed task: {cause}");
                    }
                }
            }
        }
        self.outlet.take_remaining(count);
        counters.count(count, bytes);
        self.outlet.send_all(&mut self.envelopes).await;
    }
}

impl Outbound for ResultConnection {
    fn forwards_only(&self) -> bool {
        true
    }

    async fn open(self, setup: &mut Setup<'_>) -> Result<Running<(Inlet, Outlet)>, OpenError> {
        let opened = PartContext::new(setup);
        let store = setup.store.clone();
        let directory = self.master.directory(setup.options).await?;
        let sockets = PushConnection::to(self.master.push_to(&directory));
        let sockets = sockets.open(setup).await?;
        let mut transport = self.transport;
        Ok(Running::outbound(move |inlet, outlet| async move {
            let transport = transport.wait_for(Option::is_some).await;
            let Ok(Some(transport)) = transport.map(|transport| transport.clone()) else {
                // The component stopped before its master was found.
                return Ok(());
            };
            let master = OlderMaster {
                directory: &directory,
                opened: &opened,
                store: &store,
            };
            let results = async {
                match &transport {
                    WorkerTransport::Link(link) => {
                        send_results(link, &opened.counters, inlet).await
                    }
                    WorkerTransport::Sockets(_) => sockets.start((inlet, outlet)).await,
                }
            };
            tokio::select! {
                ended = results => ended,
                failed = master.serve(&transport) => match failed? {},
            }
        }))
    }
}

/// Sends results over a link, also on the thread of the executor.
struct ResultSubmission {
    link: Arc<LinkClient>,
    counters: Arc<PartCounters>,
    batcher: Mutex<ResultBatcher>,
}

impl Shortcut<Envelope> for ResultSubmission {
    fn is_open(&self) -> bool {
        // With much to send, results share batches in the queue.
        self.link.is_quiet()
    }

    fn pass_on(&self, envelopes: &mut dyn Iterator<Item = Envelope>) {
        let mut count = 0;
        let results = envelopes.map(|envelope| {
            count += 1;
            envelope.answer(Bytes::new())
        });
        let mut batcher = self.batcher.lock();
        let bytes = self.link.submit(results, &mut batcher);
        drop(batcher);
        self.counters.count(count, bytes);
    }
}

/// Sends results over a link until the inlet is closed, and then closes the link.
async fn send_results(
    link: &Arc<LinkClient>,
    counters: &Arc<PartCounters>,
    mut inlet: Inlet,
) -> Result<(), BoxError> {
    let stop = inlet.stop.clone();
    let mut envelopes = Vec::new();
    let submission = Arc::new(ResultSubmission {
        link: link.clone(),
        counters: counters.clone(),
        batcher: Mutex::default(),
    });
    inlet.queue.set_shortcut(Some(submission.clone()));
    let deliver = async {
        let done = stop.within(async {
            while inlet.recv_many(&mut envelopes, BATCH).await > 0 {
                link.wait_for_capacity().await;
                submission.pass_on(&mut envelopes.drain(..));
            }
        });
        if done.await.is_none() {
            inlet.queue.set_shortcut(None);
            inlet.queue.try_recv_all(&mut envelopes);
            submission.pass_on(&mut envelopes.drain(..));
            let tasks = link.return_all();
            tracing::warn!(
                tasks,
                "returned running tasks to the master: the drain limit has passed"
            );
        }
        let acknowledged = link.acknowledged_or_gone();
        let _ = tokio::time::timeout(stop.flush_time(), acknowledged).await;
    };
    tokio::select! {
        () = deliver => {}
        // Drives the link after the inbound part has ended.
        ended = link.drive() => ended?,
    }
    inlet.queue.set_shortcut(None);
    link.close().await;
    Ok(())
}

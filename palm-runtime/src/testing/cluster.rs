//! [`Cluster`]: a whole cluster in one process.
//!
//! Components are added to a [`Cluster`], which starts them in that order: `palm_plan::topology` decides which components each
//! one is downstream of, and their `db_address`es are added to its builder before it starts.

use std::fmt;
use std::pin::pin;
use std::time::Duration;

use fastrand::Rng;
use futures_core::future::BoxFuture;
use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use palm_plan::topology::{Member, Topology, TopologyError};
use tokio::time::Instant;

use super::faults::{FaultProxy, FaultProxyError, Faults};
use crate::client::{Client, ClientBuilder, ConnectError};
use crate::component::{
    Bind, Builder, ComponentHandle, Compose, Connect, HubBuilder, Kind, MasterBuilder,
    PipelineBuilder, ServerBuilder, SinkBuilder, WorkerBuilder,
};
use crate::component_error::{RunError, StartError};
use crate::component_kind::ComponentKind;
use crate::error::Result;
use crate::executor::Callable;
use crate::method::Shape;
use crate::part::OpenError;

/// A free port of this machine.
const ANY_PORT: &str = "tcp://127.0.0.1:0";

/// A name that no other socket of this process has.
const ANY_NAME: &str = "inproc://*";

/// The description of a cluster that runs in one process; [`start`](Self::start) starts it.
///
/// Add components in the order in which messages pass through them. Each is downstream of components that were
/// added before it:
///
/// | component | is downstream of |
/// |---|---|
/// | server, master | none: clients call it |
/// | pipeline, hub | the last component before it that is not a worker |
/// | sink | all components before it that have no follower yet |
/// | worker | the last master or hub before it |
///
/// [`downstream_of`](Self::downstream_of) overrides the default. Components have the same defaults as outside of tests: a result
/// follows the steps of its message, and the client finds the component of the last step.
///
/// All addresses are free ports of 127.0.0.1, or names within the process ([`inproc`](Self::inproc)). Each kind has two methods: `server(..)` adds a component with default
/// options, and `server_with(.., options)` passes the component's [`Builder`] to `options`. A component that follows
/// another one by its own options is not connected to the components of the cluster.
///
/// An example is at the top of `palm::testing`.
#[must_use = "a cluster does nothing until `.start().await`"]
pub struct Cluster {
    members: Vec<Member>,
    spawns: Vec<Spawn>,
    /// The upstream components of the next component.
    upstream: Vec<String>,
    connect_timeout: Duration,
    is_inproc: bool,
    /// The source of random numbers for fault proxies; `None` if there are none.
    fault_proxies: Option<Rng>,
}

/// Starts a component that is connected to its upstream components.
type Spawn = Box<dyn FnOnce(Upstreams) -> BoxFuture<'static, Result<ComponentHandle>> + Send>;

/// The upstream components of a component that starts.
struct Upstreams {
    /// The address that the component binds.
    any: &'static str,
    /// The `db_address` of each, or of the fault proxy in front of it.
    db_addresses: Vec<String>,
}

impl Cluster {
    /// Returns a cluster without components.
    pub fn new() -> Self {
        Self {
            members: Vec::new(),
            spawns: Vec::new(),
            upstream: Vec::new(),
            connect_timeout: Duration::from_secs(10),
            is_inproc: false,
            fault_proxies: None,
        }
    }

    /// Sets how long components may take to connect to their upstream components. Default: 10 s.
    pub fn connect_timeout(mut self, timeout: Duration) -> Self {
        self.connect_timeout = timeout;
        self
    }

    /// Connects the components by queues within the process instead of TCP.
    ///
    /// A cluster like this uses neither ports nor any input and output of the system, so a test can
    /// [pause time](crate::testing#paused-time).
    pub fn inproc(mut self) -> Self {
        self.is_inproc = true;
        self
    }

    /// Puts a [`FaultProxy`] between each component and each of its upstream components, in front of the
    /// `db_address` of the latter.
    ///
    /// [`ClusterHandle::fault_proxy`] returns them. Default: none.
    pub fn fault_proxies(mut self, faults: &Faults) -> Self {
        self.fault_proxies = Some(faults.fork());
        self
    }

    /// Puts the next component downstream of the first component called `name`.
    ///
    /// A sink may be downstream of several components: call this once for each. Default: see [`Cluster`].
    ///
    /// ```
    /// # use palm::testing::Cluster;
    /// # use palm::{Hub, Master};
    /// Cluster::new()
    ///     .master(Master::new("images"))
    ///     .hub(Hub::new("large"))
    ///     .downstream_of("images") // not of `large`
    ///     .hub(Hub::new("small"))
    /// # ;
    /// ```
    pub fn downstream_of(mut self, name: impl Into<String>) -> Self {
        self.upstream.push(name.into());
        self
    }

    /// Adds a server.
    pub fn server<C: Callable>(self, server: impl Bind<Builder = ServerBuilder<C>>) -> Self {
        self.server_with(server, |builder| builder)
    }

    /// Adds a server with options.
    pub fn server_with<C: Callable>(
        self,
        server: impl Bind<Builder = ServerBuilder<C>>,
        options: impl FnOnce(ServerBuilder<C>) -> ServerBuilder<C>,
    ) -> Self {
        self.add(options(server.bind(ANY_PORT)), |builder, _| builder)
    }

    /// Adds a master. Add its workers after it.
    pub fn master<C: Shape>(self, master: impl Bind<Builder = MasterBuilder<C>>) -> Self {
        self.master_with(master, |builder| builder)
    }

    /// Adds a master with options.
    pub fn master_with<C: Shape>(
        self,
        master: impl Bind<Builder = MasterBuilder<C>>,
        options: impl FnOnce(MasterBuilder<C>) -> MasterBuilder<C>,
    ) -> Self {
        self.add(options(master.bind(ANY_PORT)), |builder, _| builder)
    }

    /// Adds a pipeline.
    pub fn pipeline<C: Callable>(self, pipeline: impl Bind<Builder = PipelineBuilder<C>>) -> Self {
        self.pipeline_with(pipeline, |builder| builder)
    }

    /// Adds a pipeline with options.
    pub fn pipeline_with<C: Callable>(
        self,
        pipeline: impl Bind<Builder = PipelineBuilder<C>>,
        options: impl FnOnce(PipelineBuilder<C>) -> PipelineBuilder<C>,
    ) -> Self {
        self.add(options(pipeline.bind(ANY_PORT)), |builder, upstreams| {
            let db_addresses = upstreams.db_addresses.into_iter();
            db_addresses.fold(builder, PipelineBuilder::follow)
        })
    }

    /// Adds a hub. Add its workers after it.
    pub fn hub<C: Shape>(self, hub: impl Bind<Builder = HubBuilder<C>>) -> Self {
        self.hub_with(hub, |builder| builder)
    }

    /// Adds a hub with options.
    pub fn hub_with<C: Shape>(
        self,
        hub: impl Bind<Builder = HubBuilder<C>>,
        options: impl FnOnce(HubBuilder<C>) -> HubBuilder<C>,
    ) -> Self {
        self.add(options(hub.bind(ANY_PORT)), |builder, upstreams| {
            upstreams
                .db_addresses
                .into_iter()
                .fold(builder, HubBuilder::follow)
        })
    }

    /// Adds a sink, which follows all components that have no follower yet.
    pub fn sink<C: Callable>(self, sink: impl Bind<Builder = SinkBuilder<C>>) -> Self {
        self.sink_with(sink, |builder| builder)
    }

    /// Adds a sink with options.
    pub fn sink_with<C: Callable>(
        self,
        sink: impl Bind<Builder = SinkBuilder<C>>,
        options: impl FnOnce(SinkBuilder<C>) -> SinkBuilder<C>,
    ) -> Self {
        self.add(options(sink.bind(ANY_PORT)), |builder, upstreams| {
            upstreams
                .db_addresses
                .into_iter()
                .fold(builder, SinkBuilder::follow)
        })
    }

    /// Adds a worker, or a mux worker, of the last master or hub.
    pub fn worker<C: Callable>(self, worker: impl Connect<Builder = WorkerBuilder<C>>) -> Self {
        self.worker_with(worker, |builder| builder)
    }

    /// Adds a worker, or a mux worker, with options. Give it a [`name`](Builder::name) to find it by.
    pub fn worker_with<C: Callable>(
        self,
        worker: impl Connect<Builder = WorkerBuilder<C>>,
        options: impl FnOnce(WorkerBuilder<C>) -> WorkerBuilder<C>,
    ) -> Self {
        // The address of its master is known only when the master runs.
        self.add(options(worker.connect(ANY_PORT)), |builder, upstreams| {
            upstreams
                .db_addresses
                .into_iter()
                .fold(builder, WorkerBuilder::at)
        })
    }

    fn add<C, K: Kind>(
        mut self,
        builder: Builder<C, K>,
        configure: fn(Builder<C, K>, Upstreams) -> Builder<C, K>,
    ) -> Self
    where
        Builder<C, K>: Compose + Send + 'static,
    {
        self.members.push(Member {
            name: builder.current_name().to_owned(),
            kind: place_of(K::KIND),
            upstream: std::mem::take(&mut self.upstream),
            follows_others: builder.has_sources(),
        });
        self.spawns.push(Box::new(move |at| {
            let any = at.any;
            let builder = configure(builder.at(any), at);
            Box::pin(builder.spawn())
        }));
        self
    }

    /// Starts all components in the order in which they were added, and returns once each is connected to its
    /// upstream components.
    ///
    /// # Errors
    ///
    /// [`Error::Start`](crate::Error::Start) if a component has no fitting upstream component
    /// ([`StartError::Topology`]), cannot be started, or does not connect upstream within
    /// [`connect_timeout`](Self::connect_timeout) ([`StartError::Unconnected`]). Components that run by then stop
    /// in the background.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future stops the components that were started, in the background.
    pub async fn start(self) -> Result<ClusterHandle> {
        let Self {
            members,
            spawns,
            upstream,
            connect_timeout,
            is_inproc,
            fault_proxies: mut rng,
        } = self;
        if is_inproc && rng.is_some() {
            let problem =
                "fault proxies are TCP proxies: remove `.inproc()` or `.fault_proxies(..)`";
            return Err(StartError::Topology {
                component: "cluster".to_owned(),
                problem: problem.to_owned(),
            }
            .into());
        }
        let any = if is_inproc { ANY_NAME } else { ANY_PORT };
        if !upstream.is_empty() {
            let problem = format!(
                "no component was added downstream of `{}`: call `.downstream_of(..)` before the component",
                upstream.join("`, `")
            );
            let component = "cluster".to_owned();
            return Err(StartError::Topology { component, problem }.into());
        }
        let topology = Topology::new(&members).map_err(misplaced)?;
        let mut handles: Vec<ComponentHandle> = Vec::new();
        let mut fault_proxies = Vec::new();
        for (number, spawn) in spawns.into_iter().enumerate() {
            let mut db_addresses = Vec::new();
            for &upstream in &topology.upstream[number] {
                let mut address = handles[upstream].db_address().to_owned();
                if let Some(rng) = &mut rng {
                    let proxy = FaultProxy::new(&address, rng.fork()).await;
                    let proxy = proxy.map_err(|error| no_proxy(&members[number], error))?;
                    address = proxy.address().to_owned();
                    fault_proxies.push((members[number].name.clone(), proxy));
                }
                db_addresses.push(address);
            }
            handles.push(spawn(Upstreams { any, db_addresses }).await?);
        }
        let deadline = Instant::now() + connect_timeout;
        for handle in &handles {
            let in_place = tokio::time::timeout_at(deadline, handle.in_place()).await;
            in_place.map_err(|_| StartError::Unconnected {
                component: handle.name().to_owned(),
                waited: connect_timeout,
            })?;
        }

        let entry_point = |(number, member): (usize, &Member)| {
            member.kind.is_entry_point().then(|| EntryPoint {
                name: handles[number].name().to_owned(),
                db_address: handles[number].db_address().to_owned(),
            })
        };
        Ok(ClusterHandle {
            entry_points: members.iter().enumerate().filter_map(entry_point).collect(),
            handles,
            fault_proxies,
        })
    }

    /// Starts all components, and runs them until `stop` completes, a component fails, or all of them have ended.
    ///
    /// The components are then [shut down](ClusterHandle::shutdown) in the order in which they were added. The output
    /// of `stop` is ignored.
    ///
    /// # Errors
    ///
    /// Those of [`start`](Self::start), and [`Error::Run`](crate::Error::Run) if a component fails or its drain is
    /// incomplete.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future stops all components at once, in the background.
    pub async fn start_until(self, stop: impl Future) -> Result<()> {
        let mut stop = pin!(stop);
        let mut cluster = tokio::select! {
            biased;
            started = self.start() => started?,
            _ = &mut stop => return Ok(()),
        };
        let outcome = cluster.run_until(stop).await;
        Ok(outcome.and(cluster.shutdown().await)?)
    }
}

/// Returns the kind that determines which components are upstream.
fn place_of(kind: ComponentKind) -> palm_plan::Kind {
    match kind {
        ComponentKind::Server => palm_plan::Kind::Server,
        ComponentKind::Pipeline => palm_plan::Kind::Pipeline,
        ComponentKind::Sink => palm_plan::Kind::Sink,
        ComponentKind::Master => palm_plan::Kind::Master,
        ComponentKind::Hub => palm_plan::Kind::Hub,
        ComponentKind::Worker | ComponentKind::MuxWorker | ComponentKind::HttpWorker => {
            palm_plan::Kind::Worker
        }
    }
}

fn misplaced(error: TopologyError) -> StartError {
    let TopologyError { component, problem } = error;
    StartError::Topology { component, problem }
}

fn no_proxy(member: &Member, error: FaultProxyError) -> StartError {
    StartError::Open {
        component: member.name.clone(),
        part: "fault proxy".to_owned(),
        source: OpenError::Custom(error.into()),
    }
}

impl Default for Cluster {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for Cluster {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Cluster")
            .field("members", &self.members)
            .field("upstream", &self.upstream)
            .finish_non_exhaustive()
    }
}

/// A running cluster. Dropping it stops all of its components, which drain in the background.
#[must_use = "dropping it stops the cluster"]
#[derive(Debug)]
pub struct ClusterHandle {
    /// In the order in which they were added.
    handles: Vec<ComponentHandle>,
    entry_points: Vec<EntryPoint>,
    /// Each with the name of the component that connects through it.
    fault_proxies: Vec<(String, FaultProxy)>,
}

/// A component that clients call.
#[derive(Debug)]
struct EntryPoint {
    name: String,
    db_address: String,
}

impl ClusterHandle {
    /// Connects a client to the first server or master.
    ///
    /// The client has the options of [`Client::connect`]; use [`client_builder`](Self::client_builder) to set others.
    ///
    /// # Errors
    ///
    /// [`ConnectError`] if the component was stopped.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future closes the connections that it has opened.
    pub async fn client(&self) -> Result<Client, ConnectError> {
        let entry_point = self.entry_points.first();
        let entry_point = entry_point.expect("a cluster without a server or master does not start");
        entry_point.client().connect().await
    }

    /// Returns the builder of a client of the server or master called `name`; `None` if the cluster has no such
    /// component.
    pub fn client_builder(&self, name: &str) -> Option<ClientBuilder> {
        let entry_point = self
            .entry_points
            .iter()
            .find(|entry_point| entry_point.name == name);
        entry_point.map(EntryPoint::client)
    }

    /// Returns the first component called `name`.
    pub fn handle(&self, name: &str) -> Option<&ComponentHandle> {
        self.handles.iter().find(|handle| handle.name() == name)
    }

    /// Returns all components, in the order in which they were added.
    pub fn handles(&self) -> &[ComponentHandle] {
        &self.handles
    }

    /// Returns the first proxy through which the component called `name` reaches an upstream component.
    ///
    /// The proxy outlives a component that is [taken](Self::take), so that its replacement can connect through it.
    /// `None` without [`Cluster::fault_proxies`].
    pub fn fault_proxy(&self, name: &str) -> Option<&FaultProxy> {
        let found = self
            .fault_proxies
            .iter()
            .find(|(downstream, _)| downstream == name);
        found.map(|(_, proxy)| proxy)
    }

    /// All fault_proxies, in the order in which the components were added.
    pub fn fault_proxies(&self) -> Vec<&FaultProxy> {
        self.fault_proxies.iter().map(|(_, proxy)| proxy).collect()
    }

    /// Removes the first component called `name` from the cluster, so that a test can shut it down or
    /// [kill](ComponentHandle::kill) it.
    pub fn take(&mut self, name: &str) -> Option<ComponentHandle> {
        let index = self.handles.iter().position(|handle| handle.name() == name);
        index.map(|index| self.handles.remove(index))
    }

    /// Ends the first component called `name` as a crash would ([`ComponentHandle::kill`]), and removes it from the
    /// cluster. Returns `false` if there is none.
    ///
    /// # Cancel safety
    ///
    /// The component ends even if the future is dropped.
    pub async fn kill(&mut self, name: &str) -> bool {
        let Some(handle) = self.take(name) else {
            return false;
        };
        handle.kill().await;
        true
    }

    /// Waits until `stop` completes, a component fails, or all components have ended. Removes those that have ended.
    async fn run_until(&mut self, stop: impl Future) -> Result<(), RunError> {
        let ends = self.handles.iter_mut().enumerate();
        let ends = ends.map(|(index, handle)| async move { (index, handle.ended().await) });
        let mut ends: FuturesUnordered<_> = ends.collect();
        let mut ended = Vec::new();
        let mut stop = pin!(stop);
        let outcome = loop {
            let next = tokio::select! {
                _ = &mut stop => break Ok(()),
                next = ends.next() => next,
            };
            let Some((index, outcome)) = next else {
                break Ok(());
            };
            ended.push(index);
            if outcome.is_err() {
                break outcome;
            }
        };
        drop(ends);
        ended.sort_unstable();
        for index in ended.into_iter().rev() {
            drop(self.handles.remove(index));
        }
        outcome
    }

    /// Shuts down all components one after the other, in the order in which they were added, so that each handles
    /// the messages of those upstream. Each takes at most its [`drain_limit`](Builder::drain_limit).
    ///
    /// # Errors
    ///
    /// The first [`RunError`]. The remaining components are shut down all the same.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future stops all components at once, in the background.
    pub async fn shutdown(self) -> Result<(), RunError> {
        let mut outcome = Ok(());
        for handle in self.handles {
            outcome = outcome.and(handle.shutdown().await);
        }
        outcome
    }
}

impl EntryPoint {
    fn client(&self) -> ClientBuilder {
        Client::builder(&*self.name, &*self.db_address)
    }
}

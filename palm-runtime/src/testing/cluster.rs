//! [`Cluster`]: a whole cluster in one process.

use std::fmt;
use std::time::Duration;

use fastrand::Rng;
use futures_core::future::BoxFuture;
use tokio::time::Instant;

use super::faults::{FaultProxy, FaultProxyError, Faults};
use super::topology::{Topology, TopologyMember};
use crate::Result;
use crate::callable::{Callable, Shape};
use crate::client::{Client, ClientBuilder, ConnectError};
use crate::component::{
    Bind, Builder, ComponentHandle, Compose, Connect, HubBuilder, Kind, MasterBuilder,
    PipelineBuilder, RunError, ServerBuilder, SinkBuilder, StartError, WorkerBuilder,
};
use crate::part::OpenError;

/// Any free port of this machine.
const ANY: &str = "tcp://127.0.0.1:0";

/// A whole cluster in one process, as it is written down; [`start`](Self::start) starts it.
///
/// Components are added in the order in which messages pass them, and each has its place behind those
/// that were added before:
///
/// | component | is behind |
/// |---|---|
/// | server, master | nobody: clients call it |
/// | pipeline, hub | the component before it, workers aside |
/// | sink | all components before it that nobody follows yet |
/// | worker | the last master or hub before it |
///
/// [`downstream_of`](Self::downstream_of) says otherwise. Each component has the defaults that it has outside of a test: a
/// result goes on by the steps of its message, and the client finds the component that does the last one.
///
/// All addresses are free ports of 127.0.0.1. For every kind there are two methods: `server(..)` for a
/// component with the default options, and `server_with(.., options)`, where `options` gets the
/// component's [`Builder`] and returns it. An option that is set there comes before what the cluster would set:
/// which component a step follows.
///
/// An example is at the top of `palm::testing`.
#[must_use = "a cluster does nothing until `.start().await`"]
pub struct Cluster {
    members: Vec<TopologyMember>,
    spawns: Vec<Spawn>,
    /// Whom the next component is behind.
    behind: Vec<String>,
    connect_timeout: Duration,
    /// Where fault_proxies between components get their random numbers from; without it there are none.
    fault_proxies: Option<Rng>,
}

/// Starts a component at its place.
type Spawn = Box<dyn FnOnce(Upstreams) -> BoxFuture<'static, Result<ComponentHandle>> + Send>;

/// What a component is told of the others.
struct Upstreams {
    /// The `db_address` of those that it is behind.
    behind: Vec<String>,
}

impl Cluster {
    /// A cluster without components.
    pub fn new() -> Self {
        Self {
            members: Vec::new(),
            spawns: Vec::new(),
            behind: Vec::new(),
            connect_timeout: Duration::from_secs(10),
            fault_proxies: None,
        }
    }

    /// How long components may take to find those that they are behind. Default: 10 s.
    pub fn connect_timeout(mut self, timeout: Duration) -> Self {
        self.connect_timeout = timeout;
        self
    }

    /// Puts a [`FaultProxy`] between each component and each of those that it is behind, in front of the
    /// `db_address` of the latter: [`ClusterHandle::fault_proxy`]. Default: there are none.
    pub fn fault_proxies(mut self, faults: &Faults) -> Self {
        self.fault_proxies = Some(faults.fork());
        self
    }

    /// Says whom the next component is behind: the first one called `name`. A sink may be behind several;
    /// then call it once for each. Default: see [`Cluster`].
    ///
    /// ```
    /// # use palm::testing::Cluster;
    /// # use palm::{Hub, Master};
    /// Cluster::new()
    ///     .master(Master::new("images"))
    ///     .hub(Hub::new("large"))
    ///     .downstream_of("images") // not behind `large`
    ///     .hub(Hub::new("small"))
    /// # ;
    /// ```
    pub fn downstream_of(mut self, name: impl Into<String>) -> Self {
        self.behind.push(name.into());
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
        self.add(options(server.bind(ANY)), |builder, _| builder)
    }

    /// Adds a master. Its workers come after it.
    pub fn master<C: Shape>(self, master: impl Bind<Builder = MasterBuilder<C>>) -> Self {
        self.master_with(master, |builder| builder)
    }

    /// Adds a master with options.
    pub fn master_with<C: Shape>(
        self,
        master: impl Bind<Builder = MasterBuilder<C>>,
        options: impl FnOnce(MasterBuilder<C>) -> MasterBuilder<C>,
    ) -> Self {
        self.add(options(master.bind(ANY)), |builder, _| builder)
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
        self.add(options(pipeline.bind(ANY)), |builder, place| {
            let behind = place.behind.into_iter();
            behind.fold(builder, PipelineBuilder::follow)
        })
    }

    /// Adds a hub. Its workers come after it.
    pub fn hub<C: Shape>(self, hub: impl Bind<Builder = HubBuilder<C>>) -> Self {
        self.hub_with(hub, |builder| builder)
    }

    /// Adds a hub with options.
    pub fn hub_with<C: Shape>(
        self,
        hub: impl Bind<Builder = HubBuilder<C>>,
        options: impl FnOnce(HubBuilder<C>) -> HubBuilder<C>,
    ) -> Self {
        self.add(options(hub.bind(ANY)), |builder, place| {
            place.behind.into_iter().fold(builder, HubBuilder::follow)
        })
    }

    /// Adds a sink, which gathers the streams that nobody follows yet.
    pub fn sink<C: Callable>(self, sink: impl Bind<Builder = SinkBuilder<C>>) -> Self {
        self.sink_with(sink, |builder| builder)
    }

    /// Adds a sink with options.
    pub fn sink_with<C: Callable>(
        self,
        sink: impl Bind<Builder = SinkBuilder<C>>,
        options: impl FnOnce(SinkBuilder<C>) -> SinkBuilder<C>,
    ) -> Self {
        self.add(options(sink.bind(ANY)), |builder, place| {
            place.behind.into_iter().fold(builder, SinkBuilder::follow)
        })
    }

    /// Adds a worker, or a mux worker, of the last master or hub.
    pub fn worker<C: Callable>(self, worker: impl Connect<Builder = WorkerBuilder<C>>) -> Self {
        self.worker_with(worker, |builder| builder)
    }

    /// Adds a worker, or a mux worker, with options: with a [`name`](Builder::name) it can be found again.
    pub fn worker_with<C: Callable>(
        self,
        worker: impl Connect<Builder = WorkerBuilder<C>>,
        options: impl FnOnce(WorkerBuilder<C>) -> WorkerBuilder<C>,
    ) -> Self {
        // The address of its master is not known yet.
        self.add(options(worker.connect(ANY)), |builder, place| {
            place.behind.into_iter().fold(builder, WorkerBuilder::at)
        })
    }

    fn add<C, K: Kind>(
        mut self,
        builder: Builder<C, K>,
        place: fn(Builder<C, K>, Upstreams) -> Builder<C, K>,
    ) -> Self
    where
        Builder<C, K>: Compose + Send + 'static,
    {
        self.members.push(TopologyMember {
            name: builder.given_name().to_owned(),
            kind: K::KIND,
            behind: std::mem::take(&mut self.behind),
            follows_others: builder.follows_somebody(),
        });
        self.spawns.push(Box::new(move |at| {
            let builder = place(builder, at);
            Box::pin(builder.spawn())
        }));
        self
    }

    /// Starts all components, in the order in which they were added. When it returns, each is connected
    /// to those that it is behind.
    ///
    /// # Errors
    ///
    /// [`Error::Start`](crate::Error::Start): a component has no place ([`StartError::Option`]), cannot be
    /// started, or has not found those that it is behind in time ([`StartError::Unconnected`]). Those
    /// that run by then stop in the background.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future stops what has been started, in the background.
    pub async fn start(self) -> Result<ClusterHandle> {
        let Self {
            members,
            spawns,
            behind,
            connect_timeout,
            fault_proxies: mut rng,
        } = self;
        if !behind.is_empty() {
            let problem = format!("nobody was added who is behind `{}`", behind.join("`, `"));
            let component = "cluster".to_owned();
            return Err(StartError::Option { component, problem }.into());
        }
        let topology = Topology::of(&members)?;
        let mut handles: Vec<ComponentHandle> = Vec::new();
        let mut fault_proxies = Vec::new();
        for (number, spawn) in spawns.into_iter().enumerate() {
            let mut behind = Vec::new();
            for &before in &topology.behind[number] {
                let mut address = handles[before].db_address().to_owned();
                if let Some(rng) = &mut rng {
                    let proxy = FaultProxy::new(&address, rng.fork()).await;
                    let proxy = proxy.map_err(|error| no_proxy(&members[number], error))?;
                    address = proxy.address().to_owned();
                    fault_proxies.push((members[number].name.clone(), proxy));
                }
                behind.push(address);
            }
            handles.push(spawn(Upstreams { behind }).await?);
        }
        let deadline = Instant::now() + connect_timeout;
        for handle in &handles {
            let in_place = tokio::time::timeout_at(deadline, handle.in_place()).await;
            in_place.map_err(|_| StartError::Unconnected {
                component: handle.name().to_owned(),
                waited: connect_timeout,
            })?;
        }

        let entry_point = |(number, member): (usize, &TopologyMember)| {
            member.is_entry_point().then(|| EntryPoint {
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
}

fn no_proxy(member: &TopologyMember, error: FaultProxyError) -> StartError {
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
            .field("behind", &self.behind)
            .finish_non_exhaustive()
    }
}

/// A cluster that runs. Dropping it tells all of its components to stop: they drain in the background.
#[must_use = "dropping it stops the cluster"]
#[derive(Debug)]
pub struct ClusterHandle {
    /// In the order in which they were added.
    handles: Vec<ComponentHandle>,
    entry_points: Vec<EntryPoint>,
    /// With the name of the component that connects through it.
    fault_proxies: Vec<(String, FaultProxy)>,
}

/// A component that clients call.
#[derive(Debug)]
struct EntryPoint {
    name: String,
    db_address: String,
}

impl ClusterHandle {
    /// A client of the first server or master.
    ///
    /// It has the options of [`Client::connect`]; with others it is made by
    /// [`client_builder`](Self::client_builder).
    ///
    /// # Errors
    ///
    /// [`ConnectError`] when the component has been stopped.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future closes what it had opened.
    pub async fn client(&self) -> Result<Client, ConnectError> {
        let entry_point = self.entry_points.first();
        let entry_point = entry_point.expect("a cluster without a server or master does not start");
        entry_point.client().connect().await
    }

    /// A client of the server or master called `name`, as [`client`](Self::client) makes it, with options:
    /// as a shorter `timeout`. `None` if the cluster has no such component.
    pub fn client_builder(&self, name: &str) -> Option<ClientBuilder> {
        let entry_point = self
            .entry_points
            .iter()
            .find(|entry_point| entry_point.name == name);
        entry_point.map(EntryPoint::client)
    }

    /// The component called `name`; of several the first one.
    pub fn handle(&self, name: &str) -> Option<&ComponentHandle> {
        self.handles.iter().find(|handle| handle.name() == name)
    }

    /// All components, in the order in which they were added.
    pub fn handles(&self) -> &[ComponentHandle] {
        &self.handles
    }

    /// The line through which the component called `name` reaches the one that it is behind; of several
    /// the first one. It stays when the component is [taken](Self::take), so that one which is started in
    /// its place may connect through it. `None` without [`Cluster::fault_proxies`].
    pub fn fault_proxy(&self, name: &str) -> Option<&FaultProxy> {
        let found = self.fault_proxies.iter().find(|(behind, _)| behind == name);
        found.map(|(_, proxy)| proxy)
    }

    /// All fault_proxies, in the order in which the components were added.
    pub fn fault_proxies(&self) -> Vec<&FaultProxy> {
        self.fault_proxies.iter().map(|(_, proxy)| proxy).collect()
    }

    /// Takes the component called `name` out of the cluster, as to shut it down or to
    /// [kill](ComponentHandle::kill) it; of several the first one.
    ///
    /// What others send to it before they notice that it has gone is lost, as on any network: a master
    /// may still give a task to a worker whose shutdown is done, and that call ends by its timeout.
    pub fn take(&mut self, name: &str) -> Option<ComponentHandle> {
        let place = self.handles.iter().position(|handle| handle.name() == name);
        place.map(|place| self.handles.remove(place))
    }

    /// Shuts all components down, one after the other in the order in which they were added, so that each
    /// finishes what those before it had. Each takes at most its
    /// [`drain_limit`](Builder::drain_limit).
    ///
    /// # Errors
    ///
    /// The first [`RunError`]; the components behind are shut down all the same.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future stops all of them at once, in the background.
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

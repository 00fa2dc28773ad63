//! [`Builder`]: the options of a component, for all kinds in one place.

use std::marker::PhantomData;

use tower::Layer;

use super::any_options::{AnyOptions, StreamAddress, StreamSource, worker_name};
use super::kind::{
    Calls, Follows, HasWorkers, HttpWorker, Hub, Kind, Master, Pipeline, Publishes, Pulls, Server,
    Sink, Worker,
};
use super::settings::{Store, settings};
use crate::cache::KeyValue;
use crate::call_service::{LayeredService, MethodService};
use crate::call_slots::Prefetch;
use crate::discovery::{IntoAddress, ParsedAddress};
#[cfg(feature = "http")]
use crate::http::{Gateway, GatewayOptions, Listener};
use crate::method::Shape;
use crate::options::builder_options;
use crate::parts::PendingLimits;

/// The options of a component of the kind `K`, and its start.
///
/// [`bind`](Bind::bind), or [`connect`](Connect::connect) for a worker, returns it, and takes the only address that
/// has to be set. All other addresses are for legacy peers, and default to ports that the system picks. Legacy peers
/// request them at `db_address`; a port is opened when the first peer requests it (on Linux; elsewhere when the
/// component starts).
#[must_use = "a component does nothing until `.start().await` or `.spawn().await`"]
#[derive(Debug)]
pub struct Builder<C, K> {
    pub(super) component: C,
    pub(super) options: AnyOptions,
    kind: PhantomData<K>,
}

/// The options of a server.
pub type ServerBuilder<C> = Builder<C, Server>;
/// The options of a pipeline.
pub type PipelineBuilder<C> = Builder<C, Pipeline>;
/// The options of a sink.
pub type SinkBuilder<C> = Builder<C, Sink>;
/// The options of a master.
pub type MasterBuilder<C> = Builder<C, Master>;
/// The options of a hub.
pub type HubBuilder<C> = Builder<C, Hub>;
/// The options of a worker, or of a mux worker.
pub type WorkerBuilder<C> = Builder<C, Worker>;

/// The options of an HTTP worker that a program starts. Its address is that of its web server.
pub type HttpWorkerBuilder<C> = Builder<C, HttpWorker>;

/// A component that peers connect to. Implemented by the macros.
#[diagnostic::on_unimplemented(
    message = "`{Self}` binds no address",
    label = "a worker connects to its master",
    note = "give a worker the `db_address` of its master or hub: `.connect(\"tcp://127.0.0.1:5559\")`"
)]
pub trait Bind: Sized {
    /// The builder of its kind.
    type Builder: FromComponent<Self>;

    /// Returns a builder of the component, whose cache service binds `db_address`.
    ///
    /// This is the address that clients and workers connect to. Other addresses default to free ports of the same
    /// host, which are opened when a legacy peer requests them.
    fn bind(self, db_address: impl IntoAddress) -> Self::Builder {
        FromComponent::from_component(self, db_address.into_address())
    }

    /// Exists for the compile error of a component that is not a worker.
    #[doc(hidden)]
    fn connect(self, db_address: impl IntoAddress) -> <Self as Connect>::Builder
    where
        Self: Connect,
    {
        Connect::connect(self, db_address)
    }
}

/// A worker, which connects to its master. Implemented by the macros.
#[diagnostic::on_unimplemented(
    message = "`{Self}` connects to no master",
    label = "only a worker connects to a master",
    note = "a server, pipeline, sink, master or hub binds an address: `.bind(\"tcp://127.0.0.1:5555\")`"
)]
pub trait Connect: Sized {
    /// The builder of a worker.
    type Builder: FromComponent<Self>;

    /// Returns a builder of the worker; `db_address` is that of its master.
    fn connect(self, db_address: impl IntoAddress) -> Self::Builder {
        FromComponent::from_component(self, db_address.into_address())
    }

    /// Exists for the compile error of a worker, which binds no address.
    #[doc(hidden)]
    fn bind(self, db_address: impl IntoAddress) -> <Self as Bind>::Builder
    where
        Self: Bind,
    {
        Bind::bind(self, db_address)
    }
}

/// A builder that can be made from a component.
pub trait FromComponent<C> {
    #[doc(hidden)]
    fn from_component(component: C, db_address: ParsedAddress) -> Self;
}

impl<C: Shape, K: Kind> FromComponent<C> for Builder<C, K> {
    fn from_component(component: C, db_address: ParsedAddress) -> Self {
        // The name of a worker identifies its process; that of the component is the name of its master.
        let name = match K::KIND {
            Worker::KIND | HttpWorker::KIND => worker_name(&component.worker_prefix()),
            _ => component.name().to_owned(),
        };
        Self::new(component, name, db_address)
    }
}

impl<C, K: Kind> Builder<C, K> {
    pub(super) fn new(component: C, name: String, db_address: ParsedAddress) -> Self {
        Self {
            component,
            options: AnyOptions::new(name, db_address),
            kind: PhantomData,
        }
    }

    /// Sets the store of the component's cache. Default: in memory, up to 1 GiB.
    pub fn cache(mut self, store: impl KeyValue) -> Self {
        self.options.settings.store = Store::new(store);
        self
    }
}

/// What a cluster in a test asks and changes.
#[cfg(feature = "testing")]
impl<C, K: Kind> Builder<C, K> {
    /// Returns the current name.
    pub(crate) fn current_name(&self) -> &str {
        &self.options.name
    }

    /// Replaces the `db_address`.
    pub(crate) fn at(mut self, db_address: impl IntoAddress) -> Self {
        self.options.db_address = db_address.into_address();
        self
    }

    /// Returns whether the options name a component to follow.
    pub(crate) fn has_sources(&self) -> bool {
        !self.options.sources.is_empty()
    }
}

settings! { @methods [<C, K: Kind>] Builder<C, K>, [options.settings] }

builder_options! {
    "Kind": impl[<C, K: Kind>] Builder<C, K> {
        /// Sets the component's name. Default: the one in its macro; of a worker its type, host and process id.
        ///
        /// An example of the latter is `Resizer@node7:4711`, or `images@node7:4711` if the worker's methods are closures
        /// and its master is `images`. Later workers of the same type and process have a number appended.
        name: String = |options, name: impl Into<String>| options.name = name.into();
    }
    "Calls": impl[<C, K: Calls>] Builder<C, K> {
        /// Sets how many calls may run at once. Default: the number of processors. With 0 the component does not start.
        concurrency: usize = |options, calls: usize| options.concurrency = calls;
    }
    "Pulls": impl[<C, K: Pulls>] Builder<C, K> {
        /// Sets the address at which legacy clients push their messages.
        pull_address: String = |options, address: impl IntoAddress| options.pull_address = Some(address.into_address());
    }
    "Publishes": impl[<C, K: Publishes>] Builder<C, K> {
        /// Sets the address at which results are published to legacy peers.
        pub_address: String = |options, address: impl IntoAddress| options.pub_address = Some(address.into_address());
        /// Sets whether results are published to the components that follow this one (`true`) or to the client (`false`),
        /// whatever steps the message has.
        ///
        /// Default: the steps of each message decide. The result of a step with a further one is published to followers,
        /// and its caller receives an error if there are none. The result of the last step is sent to the client; a
        /// pipeline or sink publishes it to followers if the client does not receive answers from it over a link.
        pipelined: bool = |options, pipelined: bool| options.pipelined = Some(pipelined);
        [group]
        /// Sets the bounds of results that are kept until their topic has a subscriber. Default: 10 s, 10 000 messages,
        /// 64 MiB.
        pending_limits: PendingLimits;
    }
    "HasWorkers": impl[<C, K: HasWorkers>] Builder<C, K> {
        /// Sets the address at which legacy workers pull tasks.
        worker_push_address: String =
            |options, address: impl IntoAddress| options.worker_push_address = Some(address.into_address());
        /// Sets the address at which legacy workers push results.
        worker_pull_address: String =
            |options, address: impl IntoAddress| options.worker_pull_address = Some(address.into_address());
    }
    "Follows": impl[<C, K: Follows>] Builder<C, K> {
        /// Follows the component with this `pub_address`.
        ///
        /// Either this or [`follow`](Self::follow) is required, once: a pipeline or hub follows a single component.
        sub_address: String = |options, address: impl IntoAddress| options.sources.push(StreamSource {
            address: StreamAddress::Publisher(address.into_address()),
            previous: None,
        });
        /// Sets the topic to follow: the name of the component upstream, unless its hook `handle_stream` publishes under
        /// other topics. Required with [`sub_address`](Self::sub_address).
        previous: String = |options, topic: impl Into<String>| options.previous = Some(topic.into());
        /// Follows the component with this `db_address`, where its name and `pub_address` are discovered.
        ///
        /// A pipeline or hub follows a single component; a sink follows several.
        follow: String = |options, db_address: impl IntoAddress| options.sources.push(StreamSource {
            address: StreamAddress::Component(db_address.into_address()),
            previous: None,
        });
    }
    "Worker": impl[<C>] Builder<C, Worker> {
        /// Sets how many tasks the worker fetches besides those that it runs, so that it does not wait for the next one.
        ///
        /// Default: as many as it completes in 10 ms, at most 1000, and none if a task takes longer, since other workers
        /// cannot run prefetched tasks. Only over a link, see [`LinkOptions`](crate::LinkOptions).
        prefetch: u64 = |options, tasks: u64| options.prefetch = Prefetch::Fixed(tasks);
        /// Sets the address at which the master pushes tasks, its `worker_push_address`. Default: discovered at `db_address`.
        push_address: String = |options, address: impl IntoAddress| options.push_address = Some(address.into_address());
        /// Sets the address at which the master pulls results, its `worker_pull_address`. Default: discovered at
        /// `db_address`.
        pull_address: String = |options, address: impl IntoAddress| options.pull_address = Some(address.into_address());
    }
    "HttpWorker": impl[<C>] Builder<C, HttpWorker> {
        /// Sets how many calls may run at once; further ones wait. Default: the number of processors. With 0 the component
        /// does not start.
        concurrency: usize = |options, calls: usize| options.concurrency = calls;
    }
}

impl<C, K: Calls> Builder<C, K> {
    /// Puts a layer around the calls of methods: any [`tower::Layer`] whose service receives a
    /// [`CallRequest`](crate::middleware::CallRequest). Default: none.
    ///
    /// Each layer wraps those that were added before, so the last one receives a call first. Layers are created when
    /// the component starts, in its runtime. A layer receives each call of a method, and of a job each message on its
    /// own; it does not receive calls of `echo` and of unknown functions, and messages whose call was cancelled, failed
    /// in an earlier step, or is past its deadline.
    ///
    /// The chapter `palm::guide::middleware` describes layers, errors, and their limits.
    ///
    /// ```
    /// # use palm::prelude::*;
    /// # use palm::middleware::{CallRequest, CallResponse, Next, from_fn};
    /// # struct Math;
    /// # #[palm::server(name = "math")]
    /// # impl Math { #[palm::method] fn double(&self, text: String) -> String { text.repeat(2) } }
    /// async fn timed(call: CallRequest, next: Next) -> Result<CallResponse, palm::CallFailure> {
    ///     let (begun, function) = (std::time::Instant::now(), call.function().to_owned());
    ///     let answer = next.run(call).await;
    ///     println!("{function} took {:?}", begun.elapsed());
    ///     answer
    /// }
    ///
    /// # async fn example() -> palm::Result<()> {
    /// Math.bind("tcp://127.0.0.1:5555").layer(from_fn(timed)).start().await
    /// # }
    /// ```
    ///
    /// [`tower::Layer`]: https://docs.rs/tower/0.5/tower/trait.Layer.html
    pub fn layer<L>(mut self, layer: L) -> Self
    where
        L: Layer<MethodService, Service: LayeredService> + Send + 'static,
    {
        self.options.layers.add(layer);
        self
    }
}

impl<C, K: Publishes> Builder<C, K> {
    /// Sets whether results are published to the client: the opposite of [`pipelined`](Self::pipelined).
    pub fn to_client(self, to_client: bool) -> Self {
        self.pipelined(!to_client)
    }
}

#[cfg(feature = "http")]
impl<C, K: HasWorkers> Builder<C, K> {
    /// Serves the functions of the workers over HTTP at `listener`, an address such as `"127.0.0.1:8080"`.
    ///
    /// The path names a function, and the body is its payload. Results of HTTP requests are not passed to the hooks
    /// `gather` and `handle_stream`. Default: no HTTP.
    pub fn http(self, listener: impl Into<Listener>) -> Self {
        self.gateway(listener, GatewayOptions::new())
    }

    /// Serves HTTP at `listener`, as [`http`](Self::http) does, with the options of a gateway.
    pub fn gateway(mut self, listener: impl Into<Listener>, options: GatewayOptions) -> Self {
        self.options.http = Some((Gateway::with_options(options), Some(listener.into())));
        self
    }

    /// Handles the requests of a gateway whose service is mounted in an application of your own.
    pub fn mounted_gateway(mut self, gateway: &Gateway) -> Self {
        self.options.http = Some((gateway.clone(), None));
        self
    }
}

#[cfg(feature = "monitor")]
impl<C, K: Kind> Builder<C, K> {
    /// Serves metrics for Prometheus and health checks over HTTP at `listener`, an address such as
    /// `"127.0.0.1:9600"`. [`monitor`](mod@crate::monitor) describes the paths.
    ///
    /// Components of one process with the same address share it. Default: the address in the environment variable
    /// `PALM_MONITOR`, and no monitor if it is not set. The URL is announced as `monitor_address`.
    pub fn monitor(mut self, listener: impl Into<Listener>) -> Self {
        self.options.settings.monitor.set(listener.into());
        self
    }
}

/// A builder in a build of palm with the feature `monitor`, which this one is not.
#[cfg(not(feature = "monitor"))]
#[diagnostic::on_unimplemented(
    message = "a monitor needs the feature `monitor` of palm",
    label = "the feature `monitor` is not enabled",
    note = "add `features = [\"monitor\"]` to the dependency in Cargo.toml"
)]
pub trait MonitorFeature {}

/// Exists for the compile error that names the feature.
#[cfg(not(feature = "monitor"))]
#[doc(hidden)]
impl<C, K: Kind> Builder<C, K> {
    pub fn monitor<L>(self, _: L) -> Self
    where
        Self: MonitorFeature,
    {
        self
    }
}

/// A builder in a build of palm with the feature `http`, which this one is not.
#[cfg(not(feature = "http"))]
#[diagnostic::on_unimplemented(
    message = "HTTP needs the feature `http` of palm",
    label = "the feature `http` is not enabled",
    note = "add `features = [\"http\"]` to the dependency in Cargo.toml"
)]
pub trait HttpFeature {}

/// Exist for the compile error that names the feature.
#[cfg(not(feature = "http"))]
#[doc(hidden)]
impl<C, K: HasWorkers> Builder<C, K> {
    pub fn http<L>(self, _: L) -> Self
    where
        Self: HttpFeature,
    {
        self
    }

    pub fn gateway<L, G>(self, _: L, _: G) -> Self
    where
        Self: HttpFeature,
    {
        self
    }

    pub fn mounted_gateway<G>(self, _: G) -> Self
    where
        Self: HttpFeature,
    {
        self
    }
}

impl<C> Builder<C, Sink> {
    /// Adds a stream to follow: the topic `previous` of the component whose `pub_address` is `sub_address`.
    ///
    /// Call this once for each stream.
    pub fn stream(mut self, sub_address: impl IntoAddress, previous: impl Into<String>) -> Self {
        self.options.sources.push(StreamSource {
            address: StreamAddress::Publisher(sub_address.into_address()),
            previous: Some(previous.into()),
        });
        self
    }

    /// Adds a stream to follow: the topic of the component with this `db_address`, which is its name.
    pub fn follow(mut self, db_address: impl IntoAddress) -> Self {
        self.options.sources.push(StreamSource {
            address: StreamAddress::Component(db_address.into_address()),
            previous: None,
        });
        self
    }
}

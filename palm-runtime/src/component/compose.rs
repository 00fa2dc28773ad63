//! The parts and routes of each kind of component.

use std::sync::Arc;
use std::time::Duration;

use futures_core::future::BoxFuture;

use super::any_options::{AnyOptions, StreamAddress};
use super::builder::{Bind, Builder, FromComponent};
use super::configuration::Mistakes;
use super::kind::{self, Kind};
use super::part_registration::InboundEntry;
use super::template::ServerTemplate;
use crate::cache::Cache;
use crate::component_error::StartError;
use crate::component_kind::ComponentKind;
use crate::context::Context;
use crate::discovery::{Directory, ParsedAddress};
use crate::executor::{Addressee, AnyExecutor, Methods, Order};
use crate::failure::CallFailure;
#[cfg(feature = "http")]
use crate::http::{Gateway, Listener};
use crate::message::{Message, new_id};
use crate::method::{Emit, Hooks, Plain};
use crate::network::NetworkTrust;
use crate::part::{Binding, InboundHooks, LegacyAddress};
#[cfg(feature = "http")]
use crate::parts::HttpGateway;
use crate::parts::{
    AnyPubService, CacheService, MasterConnection, PullService, SubConnection, WorkerPullService,
    WorkerPushService,
};
use crate::socket::{Address, SocketError};

/// A master without hooks, which distributes calls to its workers.
///
/// ```no_run
/// # async fn example() -> palm::Result<()> {
/// use palm::{Bind, Master};
///
/// Master::new("images").bind("tcp://127.0.0.1:5559").start().await
/// # }
/// ```
#[derive(Debug, Clone)]
pub struct Master {
    name: String,
}

impl Master {
    /// Returns a master called `name`.
    pub fn new(name: impl Into<String>) -> Self {
        let name = name.into();
        Self { name }
    }
}

impl Bind for Master {
    type Builder = Builder<Plain, kind::Master>;
}

impl FromComponent<Master> for Builder<Plain, kind::Master> {
    fn from_component(component: Master, db_address: ParsedAddress) -> Self {
        Self::new(Plain, component.name, db_address)
    }
}

/// A hub without hooks, which distributes the messages of a stream to its workers.
#[derive(Debug, Clone)]
pub struct Hub {
    name: String,
}

impl Hub {
    /// Returns a hub called `name`.
    pub fn new(name: impl Into<String>) -> Self {
        let name = name.into();
        Self { name }
    }
}

impl Bind for Hub {
    type Builder = Builder<Plain, kind::Hub>;
}

impl FromComponent<Hub> for Builder<Plain, kind::Hub> {
    fn from_component(component: Hub, db_address: ParsedAddress) -> Self {
        Self::new(Plain, component.name, db_address)
    }
}

/// A builder of a kind of component that can be composed of parts.
pub trait Compose: Sized {
    /// Returns the component as a template.
    #[doc(hidden)]
    fn compose(self) -> Composing;
}

/// A component of any type, whose kind is a value.
#[derive(Debug)]
pub(super) struct AnyComponent {
    pub(super) kind: ComponentKind,
    pub(super) options: AnyOptions,
    /// What [`Shape::mistakes`](crate::method::Shape::mistakes) returns.
    pub(super) mistakes: Vec<String>,
    pub(super) hooks: Arc<dyn Hooks>,
}

/// The composition of a component.
pub(super) type Composing = BoxFuture<'static, std::result::Result<ServerTemplate, StartError>>;

impl AnyComponent {
    /// Returns all mistakes of the configuration as one error.
    pub(super) fn check(&self) -> std::result::Result<(), StartError> {
        let mut mistakes = Mistakes::default();
        let (kind, options) = (self.kind, &self.options);
        let is_worker = kind == kind::Worker::KIND;
        let is_http_worker = kind == kind::HttpWorker::KIND;
        mistakes.check_name(Some(kind), &options.name);
        for mistake in &self.mistakes {
            mistakes.add(mistake);
        }
        if options.concurrency == 0 {
            mistakes.add("with `.concurrency(0)` no call could run: it has to be at least 1");
        }
        mistakes.check_settings(&options.settings);
        if is_worker {
            let connected = [
                ("the `db_address`", Some(&options.db_address)),
                ("`.push_address(..)`", options.push_address.as_ref()),
                ("`.pull_address(..)`", options.pull_address.as_ref()),
            ];
            for (option, address) in connected {
                if let Some(address) = address {
                    let peer = "its master or hub";
                    check_connected(&mut mistakes, kind, option, address, peer);
                }
            }
        } else if !is_http_worker {
            let addresses = [
                ("pull_address", &options.pull_address),
                ("pub_address", &options.pub_address),
                ("worker_push_address", &options.worker_push_address),
                ("worker_pull_address", &options.worker_pull_address),
            ];
            let legacy = addresses.into_iter().filter_map(|(option, address)| {
                let address = address.as_ref()?;
                Some((None, Binding::legacy(option, address)))
            });
            let db_address = (None, Binding::new("db_address", &options.db_address));
            let bound = std::iter::once(db_address).chain(legacy);
            mistakes.check_bound(options.settings.links_only, bound);
            self.check_sources(&mut mistakes);
        }
        mistakes.finish(&options.name)
    }

    /// Checks the components that the component follows.
    fn check_sources(&self, mistakes: &mut Mistakes) {
        let (kind, options) = (self.kind, &self.options);
        let follows_one = [kind::Pipeline::KIND, kind::Hub::KIND].contains(&kind);
        let is_sink = kind == kind::Sink::KIND;
        if !follows_one && !is_sink {
            return;
        }
        if options.sources.is_empty() {
            let how = match is_sink {
                true => "`.stream(\"<its pub_address>\", \"<its name>\")`",
                false => "`.sub_address(\"<its pub_address>\").previous(\"<its name>\")`",
            };
            mistakes.add(format!(
                "a {kind} follows another component, but none is named: add `.follow(\"<its db_address>\")`, or {how}"
            ));
        }
        if follows_one && options.sources.len() > 1 {
            let sources: Vec<_> = options.sources.iter().map(ToString::to_string).collect();
            mistakes.add(format!(
                "a {kind} follows one component, but {} name {}: keep one, or use a sink, which follows several",
                sources.join(" and "),
                sources.len()
            ));
        }
        if is_sink {
            let sources = options.sources.iter().map(ToString::to_string);
            mistakes.check_twice("the stream", sources);
        }
        for source in &options.sources {
            let (option, own) = match &source.address {
                StreamAddress::Publisher(_) => ("`.sub_address(..)`", options.pub_address.as_ref()),
                StreamAddress::Component(_) => ("`.follow(..)`", Some(&options.db_address)),
            };
            let address = source.address.get();
            let peer = "the component that it follows";
            check_connected(mistakes, kind, option, address, peer);
            let Ok(address) = address else {
                continue;
            };
            if let Some(Ok(own)) = own
                && own == address
                && address.can_be_connected_to()
            {
                mistakes.add(format!(
                    "it follows itself: {source} is its own address; set that of the component upstream"
                ));
            }
            let has_topic = source.previous.is_some() || options.previous.is_some();
            if matches!(source.address, StreamAddress::Publisher(_)) && !has_topic {
                mistakes.add(format!(
                    "it follows no topic of `{address}`: add `.previous(\"<topic>\")`, usually with the name of the component there"
                ));
            }
        }
    }
}

/// Checks an address that the component connects to, which must not be one that can only be bound.
fn check_connected(
    mistakes: &mut Mistakes,
    kind: crate::component_kind::ComponentKind,
    option: &str,
    address: &ParsedAddress,
    peer: &str,
) {
    match address {
        Err(error) => mistakes.add(format!("{option}: {error}")),
        Ok(address) if !address.can_be_connected_to() => mistakes.add(format!(
            "{option} is `{address}`, which can only be bound, and a {kind} connects: set the host and port of {peer}"
        )),
        Ok(_) => {}
    }
}

impl AnyComponent {
    pub(super) fn server(self, methods: Arc<dyn Methods>) -> Composing {
        Box::pin(async move {
            self.check()?;
            let pull_address = self.legacy_address("pull", &self.options.pull_address)?;
            let pull = PullService::at(pull_address);
            let mut parts = self.calling_parts(methods, false)?;
            parts
                .template
                .register_inbound(pull, "Pull")
                .route("Executor");
            parts.finish()
        })
    }

    pub(super) fn pipeline(mut self, methods: Arc<dyn Methods>) -> Composing {
        Box::pin(async move {
            self.check()?;
            let subscription = self.single_stream().await?;
            let mut parts = self.calling_parts(methods, true)?;
            let inbound = parts.template.register_inbound(subscription, "Sub");
            inbound.route("Executor");
            parts.finish()
        })
    }

    pub(super) fn sink(mut self, methods: Arc<dyn Methods>) -> Composing {
        Box::pin(async move {
            self.check()?;
            let streams = self.streams().await?;
            let mut parts = self.calling_parts(methods, true)?;
            for (number, subscription) in streams.into_iter().enumerate() {
                let subscription = subscription.announced(format!("sub_address_{number}"));
                let name = format!("Sub{number}");
                let inbound = parts.template.register_inbound(subscription, name);
                inbound.route("Executor");
            }
            parts.finish()
        })
    }

    pub(super) fn master(self) -> Composing {
        Box::pin(async move {
            self.check()?;
            let pull_address = self.legacy_address("pull", &self.options.pull_address)?;
            let pull = PullService::at(pull_address);
            let scatter = self.scatter();
            let mut parts = self.worker_parts()?;
            route_to_workers(parts.template.register_inbound(pull, "Pull"), scatter);
            parts.finish()
        })
    }

    pub(super) fn hub(mut self) -> Composing {
        Box::pin(async move {
            self.check()?;
            let subscription = self.single_stream().await?;
            let scatter = self.scatter();
            let mut parts = self.worker_parts()?;
            let inbound = parts.template.register_inbound(subscription, "Sub");
            route_to_workers(inbound, scatter);
            parts.finish()
        })
    }

    pub(super) fn worker(mut self, methods: Arc<dyn Methods>) -> Composing {
        /// Time for which a method waits for the cache of its master.
        const CACHE_TIMEOUT: Duration = Duration::from_secs(10);

        Box::pin(async move {
            self.check()?;
            let db_address = self.db_address()?;
            let id = new_id();
            let sockets = self.options.settings.own_sockets();
            let directory = Directory::connect(&db_address, &id, sockets)
                .await
                .map_err(|source| self.address_error(source))?;
            let connection = MasterConnection::to(&directory, self.options.prefetch);
            let (push_address, pull_address) =
                (self.options.push_address, self.options.pull_address);
            let (tasks, results) = connection.sockets(push_address, pull_address).parts();

            let request = directory.request().clone();
            let cache = Cache::remote(request, "_", &id, CACHE_TIMEOUT, "");
            let executor = AnyExecutor::new(methods)
                .concurrency(self.options.concurrency)
                .order(Order::AsDone)
                .addressee(Addressee::Any)
                .layers(self.options.layers);
            let mut template = ServerTemplate::with_settings(
                kind::Worker::KIND,
                self.options.name,
                self.options.settings,
            );
            template.set_context_cache(cache);
            template.register_inbound(tasks, "Pull").route("Executor");
            template
                .register_outbound(executor, "Executor")
                .route("Push");
            template.register_outbound(results, "Push");
            Ok(template)
        })
    }
}

/// A template with the parts that several kinds share, and the values that further parts need.
struct CommonParts {
    template: ServerTemplate,
    db_address: Address,
}

impl CommonParts {
    /// Adds the parts of an HTTP gateway. Returns the name of the part that results are routed to.
    #[cfg(feature = "http")]
    fn add_gateway(&mut self, gateway: &Gateway, listener: Option<Listener>) -> &'static str {
        const DEALER: &str = "gateway_dealer";
        self.template
            .register_inbound(gateway.router(), "gateway_router")
            .route("WorkerPush");
        self.template
            .register_outbound(gateway.dealer(), DEALER)
            .route("Pub");
        if let Some(listener) = listener {
            let gateway = HttpGateway::bind(listener, gateway);
            self.template.register_bypass(gateway, "HttpGateway");
        }
        DEALER
    }

    /// Adds the cache service. It is the last part, so that peers find the addresses of all others.
    fn finish(mut self) -> std::result::Result<ServerTemplate, StartError> {
        let cache = CacheService::bind(self.db_address);
        self.template.register_bypass(cache, "Cache");
        Ok(self.template)
    }
}

impl AnyComponent {
    /// Returns the parts that run methods and publish their results.
    fn calling_parts(
        mut self,
        methods: Arc<dyn Methods>,
        last_step_to_followers: bool,
    ) -> std::result::Result<CommonParts, StartError> {
        let concurrency = self.options.concurrency;
        let layers = std::mem::take(&mut self.options.layers);
        let mut parts = self.publishing_parts(last_step_to_followers)?;
        let executor = AnyExecutor::new(methods)
            .concurrency(concurrency)
            .layers(layers);
        parts
            .template
            .register_outbound(executor, "Executor")
            .route("Pub");
        Ok(parts)
    }

    /// Returns the parts that send tasks to workers and publish their results.
    fn worker_parts(self) -> std::result::Result<CommonParts, StartError> {
        let push_address = self.legacy_address("worker_push", &self.options.worker_push_address)?;
        let pull_address = self.legacy_address("worker_pull", &self.options.worker_pull_address)?;
        let push = WorkerPushService::at(push_address);
        let pull = WorkerPullService::at(pull_address);
        #[cfg(feature = "http")]
        let http = self.options.http.clone();
        let mut parts = self.publishing_parts(false)?;
        #[cfg(feature = "http")]
        let results = match http {
            Some((gateway, listener)) => parts.add_gateway(&gateway, listener),
            None => "Pub",
        };
        #[cfg(not(feature = "http"))]
        let results = "Pub";
        parts
            .template
            .register_outbound(push, "WorkerPush")
            .failures(results);
        parts
            .template
            .register_inbound(pull, "WorkerPull")
            .route(results);
        Ok(parts)
    }

    fn publishing_parts(
        self,
        last_step_to_followers: bool,
    ) -> std::result::Result<CommonParts, StartError> {
        let db_address = self.db_address()?;
        // Checked before the other addresses, which default to ports of the same host.
        let network = NetworkTrust::new(self.options.settings.trust_network);
        let checked = db_address.check(&network);
        checked.map_err(|source| StartError::Exposed {
            component: self.options.name.clone(),
            option: "db_address",
            source,
        })?;
        let pub_address = self.legacy_address("pub", &self.options.pub_address)?;
        let publish = AnyPubService::new(pub_address, self.hooks)
            .pipelined_or(self.options.pipelined, last_step_to_followers)
            .pending_limits(self.options.pending_limits);
        let mut template =
            ServerTemplate::with_settings(self.kind, self.options.name, self.options.settings);
        template.register_outbound(publish, "Pub");
        Ok(CommonParts {
            template,
            db_address,
        })
    }

    pub(super) fn db_address(&self) -> std::result::Result<Address, StartError> {
        let configured = self.options.db_address.clone();
        configured.map_err(|error| self.address_error(error.into()))
    }

    /// Returns the configured address of a socket for legacy peers, or a free one on the host of `db_address`.
    fn legacy_address(
        &self,
        suffix: &str,
        configured: &Option<ParsedAddress>,
    ) -> std::result::Result<LegacyAddress, StartError> {
        let address = match configured.clone() {
            Some(configured) => configured.map_err(|error| self.address_error(error.into()))?,
            None => self.db_address()?.sibling(suffix),
        };
        Ok(LegacyAddress {
            address: Ok(address),
            is_default: configured.is_none(),
        })
    }

    /// Returns the subscriptions of the component. [`check`](Self::check) has rejected invalid ones.
    async fn streams(&mut self) -> std::result::Result<Vec<SubConnection>, StartError> {
        let sockets = self.options.settings.own_sockets().clone();
        let mut streams = Vec::new();
        for source in &self.options.sources {
            let address = source.address.get().clone();
            let address = address.map_err(|error| self.address_error(error.into()))?;
            let topic = source
                .previous
                .clone()
                .or_else(|| self.options.previous.clone());
            streams.push(match &source.address {
                StreamAddress::Publisher(_) => {
                    SubConnection::connect(&address, topic.unwrap_or_default())
                }
                StreamAddress::Component(_) => {
                    let directory = Directory::connect(&address, &new_id(), &sockets)
                        .await
                        .map_err(|source| self.address_error(source))?;
                    SubConnection::follow(directory, topic)
                }
            });
        }
        Ok(streams)
    }

    /// Returns the only subscription of the component.
    async fn single_stream(&mut self) -> std::result::Result<SubConnection, StartError> {
        let mut streams = self.streams().await?;
        let stream = streams.pop().expect("there is a source, or an error");
        Ok(stream.announced("sub_address"))
    }

    fn address_error(&self, source: SocketError) -> StartError {
        StartError::Address {
            component: self.options.name.clone(),
            source,
        }
    }

    /// Returns the hook `scatter`, if the user's type overrides it.
    fn scatter(&self) -> Option<Scatter> {
        let is_overridden = self.hooks.overridden().scatter;
        is_overridden.then(|| Scatter(self.hooks.clone()))
    }
}

/// Routes the messages of a part to the workers, through the hook `scatter` if the user's type has it.
fn route_to_workers(inbound: InboundEntry<'_>, scatter: Option<Scatter>) {
    let inbound = match scatter {
        Some(scatter) => inbound.hooks(scatter),
        None => inbound,
    };
    inbound.route("WorkerPush").failures("Pub");
}

/// The hook `scatter` of the user's type, as hooks of an inbound part.
struct Scatter(Arc<dyn Hooks>);

impl InboundHooks for Scatter {
    const TAKES_FEEDBACK: bool = false;

    async fn scatter(
        &mut self,
        message: Message,
        context: Context,
        emit: &mut Emit<'_>,
    ) -> std::result::Result<(), CallFailure> {
        if !self.0.is_exclusive() {
            return self.0.scatter(message, context, emit).await;
        }
        // An exclusive hook holds the lock of the user's value. Messages are sent after it was released: waiting for
        // capacity under the lock would deadlock with downstream hooks that need it.
        let mut emitted = Vec::new();
        let mut held = Emit::new(&mut emitted);
        let hook = self.0.scatter(message, context, &mut held).await;
        for message in emitted {
            emit.send(message).await;
        }
        hook
    }
}

//! [`ServerTemplate`]: a component composed of parts, and its start.
//!
//! The start has the following steps: all mistakes of the configuration are refused; every part is opened, in the
//! order of registration; the addresses and the descriptor are announced; the routes become bounded queues; every part
//! starts to run, owned by [`PartTasks`]. If a part cannot be opened, those before it are stopped as in a shutdown.

use std::any::{Any, TypeId};
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use futures_core::future::BoxFuture;
use futures_util::FutureExt;
use tokio_util::sync::CancellationToken;
use tracing::Instrument;

use super::configuration::Mistakes;
use super::dedicated_thread::start_on;
use super::description::{Description, PartDescription};
use super::handle::ComponentHandle;
use super::settings::{Settings, settings_methods};
use super::supervisor::{PartTasks, supervise};
use super::until_signal::until_stopped;
use crate::cache::{Cache, ComponentStore};
use crate::component_error::StartError;
use crate::component_kind::ComponentKind;
use crate::component_state::ComponentState;
use crate::context::ComponentContext;
use crate::discovery::descriptor;
use crate::error::{Error, Result};
use crate::failure::BoxError;
use crate::metrics::{ComponentCounters, PartCounters, PartCountersEntry};
use crate::network::{ExposedError, NetworkTrust};
use crate::part::{Binding, Bypass, Inbound, Inlet, OpenError, Outbound, Outlet, Setup, Stop};
use crate::parts::{CacheService, WorkerPullService, WorkerPushService};
use crate::payload::type_name;
use crate::queue::queue;
use crate::router::{self, PartKind, RouteEntry};
use crate::socket::{Kill, SocketError};

/// A component that is composed of parts and routes.
///
/// ```no_run
/// # async fn example() -> palm::Result<()> {
/// use palm::ServerTemplate;
/// use palm::parts::*;
///
/// let mut server = ServerTemplate::new("server");
/// server.register_inbound(PullService::bind("tcp://127.0.0.1:5555"), "Pull").route("WorkerPush");
/// server.register_inbound(WorkerPullService::bind("tcp://127.0.0.1:5557"), "WorkerPull").route("Pub");
/// server.register_outbound(WorkerPushService::bind("tcp://127.0.0.1:5558"), "WorkerPush");
/// server.register_outbound(PubService::bind("tcp://127.0.0.1:5556"), "Pub");
/// server.register_bypass(CacheService::bind("tcp://127.0.0.1:5559"), "Cache");
/// server.start().await
/// # }
/// ```
#[must_use = "a component does nothing until `.start().await` or `.spawn().await`"]
#[derive(Debug)]
pub struct ServerTemplate {
    name: String,
    entries: Vec<RouteEntry>,
    /// The registration of each entry.
    registrations: Vec<PartRegistration>,
    presets: BTreeMap<String, String>,
    /// `None` if the component is composed by hand.
    kind: Option<ComponentKind>,
    settings: Settings,
    context_cache: Option<Cache>,
}

struct PartRegistration {
    part: AnyPart,
    /// The name of the type of the part.
    type_name: String,
    role: PartRole,
    block: bool,
    log: bool,
}

impl PartRegistration {
    fn binds(&self) -> Vec<Binding> {
        match &self.part {
            AnyPart::Inbound(part) => part.binds(),
            AnyPart::Outbound(part) => part.binds(),
            AnyPart::Bypass(part) => part.binds(),
        }
    }

    fn forwards_only(&self) -> bool {
        match &self.part {
            AnyPart::Inbound(part) => part.forwards_only(),
            AnyPart::Outbound(part) => part.forwards_only(),
            AnyPart::Bypass(part) => part.forwards_only(),
        }
    }
}

impl std::fmt::Debug for PartRegistration {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            formatter,
            "PartRegistration(block: {}, log: {})",
            self.block, self.log
        )
    }
}

/// The role of a part for other parts, if the template needs it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum PartRole {
    Other,
    /// Sends tasks to workers, whose results another part receives.
    SendsTasks,
    /// Receives the results of workers.
    ReceivesResults,
    /// The cache service.
    Cache,
}

impl PartRole {
    fn from_part<P: Any>(_: &P) -> Self {
        let part = TypeId::of::<P>();
        if part == TypeId::of::<WorkerPushService>() {
            Self::SendsTasks
        } else if part == TypeId::of::<WorkerPullService>() {
            Self::ReceivesResults
        } else if part == TypeId::of::<CacheService>() {
            Self::Cache
        } else {
            Self::Other
        }
    }
}

enum AnyPart {
    Inbound(Box<dyn ErasedInbound>),
    Outbound(Box<dyn ErasedOutbound>),
    Bypass(Box<dyn ErasedBypass>),
}

type Opening<'a> = BoxFuture<'a, std::result::Result<(), OpenError>>;
pub(super) type RunningPart = BoxFuture<'static, std::result::Result<(), BoxError>>;

trait ErasedInbound: Send {
    fn forwards_only(&self) -> bool;
    fn binds(&self) -> Vec<Binding>;
    fn open<'a>(&'a mut self, setup: &'a mut Setup<'_>) -> Opening<'a>;
    fn run(self: Box<Self>, outlet: Outlet) -> RunningPart;
}

impl<P: Inbound> ErasedInbound for P {
    fn forwards_only(&self) -> bool {
        Inbound::forwards_only(self)
    }

    fn binds(&self) -> Vec<Binding> {
        Inbound::binds(self)
    }

    fn open<'a>(&'a mut self, setup: &'a mut Setup<'_>) -> Opening<'a> {
        Inbound::open(self, setup).boxed()
    }

    fn run(self: Box<Self>, outlet: Outlet) -> RunningPart {
        Inbound::run(*self, outlet).boxed()
    }
}

trait ErasedOutbound: Send {
    fn forwards_only(&self) -> bool;
    fn binds(&self) -> Vec<Binding>;
    fn open<'a>(&'a mut self, setup: &'a mut Setup<'_>) -> Opening<'a>;
    fn run(self: Box<Self>, inlet: Inlet, outlet: Outlet) -> RunningPart;
}

impl<P: Outbound> ErasedOutbound for P {
    fn forwards_only(&self) -> bool {
        Outbound::forwards_only(self)
    }

    fn binds(&self) -> Vec<Binding> {
        Outbound::binds(self)
    }

    fn open<'a>(&'a mut self, setup: &'a mut Setup<'_>) -> Opening<'a> {
        Outbound::open(self, setup).boxed()
    }

    fn run(self: Box<Self>, inlet: Inlet, outlet: Outlet) -> RunningPart {
        Outbound::run(*self, inlet, outlet).boxed()
    }
}

trait ErasedBypass: Send {
    fn forwards_only(&self) -> bool;
    fn binds(&self) -> Vec<Binding>;
    fn open<'a>(&'a mut self, setup: &'a mut Setup<'_>) -> Opening<'a>;
    fn run(self: Box<Self>, stop: Stop) -> RunningPart;
}

impl<P: Bypass> ErasedBypass for P {
    fn forwards_only(&self) -> bool {
        Bypass::forwards_only(self)
    }

    fn binds(&self) -> Vec<Binding> {
        Bypass::binds(self)
    }

    fn open<'a>(&'a mut self, setup: &'a mut Setup<'_>) -> Opening<'a> {
        Bypass::open(self, setup).boxed()
    }

    fn run(self: Box<Self>, stop: Stop) -> RunningPart {
        Bypass::run(*self, stop).boxed()
    }
}

impl StartError {
    fn open(component: &str, part: &str, option: Option<&'static str>, source: OpenError) -> Self {
        let component = component.to_owned();
        let exposed = match &source {
            OpenError::Socket(SocketError::Exposed(error)) => Some(error.clone()),
            OpenError::Custom(error) => error.downcast_ref::<ExposedError>().cloned(),
            OpenError::Socket(_) => None,
        };
        match (option, exposed) {
            (Some(option), Some(source)) => Self::Exposed {
                component,
                option,
                source,
            },
            _ => Self::Open {
                component,
                part: part.to_owned(),
                source,
            },
        }
    }
}

/// The routes and options of a registered inbound part.
#[derive(Debug)]
pub struct InboundEntry<'a> {
    entry: &'a mut RouteEntry,
    registration: &'a mut PartRegistration,
}

impl InboundEntry<'_> {
    /// Sets the outbound part that receives its messages. Required.
    pub fn route(self, outbound: impl Into<String>) -> Self {
        self.entry.route = Some(outbound.into());
        self
    }

    /// Sets the outbound part that receives a message with the error in it if the hook `scatter` fails.
    ///
    /// Usually that is the part that publishes, so that the caller receives the error. Default: that of the
    /// [`route`](Self::route), whose parts forward the message.
    pub fn failures(self, outbound: impl Into<String>) -> Self {
        self.entry.failures = Some(outbound.into());
        self
    }

    /// Sets whether the part waits for the outbound part's answer to each message. Default: no.
    pub fn block(self, block: bool) -> Self {
        self.registration.block = block;
        self
    }

    /// Sets whether each message is logged, at level DEBUG. Default: no.
    pub fn log(self, log: bool) -> Self {
        self.registration.log = log;
        self
    }
}

/// The routes and options of a registered outbound part.
#[derive(Debug)]
pub struct OutboundEntry<'a> {
    entry: &'a mut RouteEntry,
    registration: &'a mut PartRegistration,
}

impl OutboundEntry<'_> {
    /// Sets the outbound part that receives its answers. Default: none.
    ///
    /// A part that publishes needs no route, nor does one whose answers are returned to an inbound part that
    /// [waits](InboundEntry::block).
    pub fn route(self, outbound: impl Into<String>) -> Self {
        self.entry.route = Some(outbound.into());
        self
    }

    /// Sets the outbound part that receives a message with the error in it if it could not be handled. Default: that of
    /// the [`route`](Self::route).
    pub fn failures(self, outbound: impl Into<String>) -> Self {
        self.entry.failures = Some(outbound.into());
        self
    }

    /// Sets whether each answer is logged, at level DEBUG. Default: no.
    pub fn log(self, log: bool) -> Self {
        self.registration.log = log;
        self
    }
}

/// Returns the name of a part's type without its generic arguments.
fn part_type<P>(_: &P) -> String {
    let name = type_name::<P>();
    name.split('<').next().unwrap_or(&name).to_owned()
}

impl ServerTemplate {
    /// Returns a component called `name` without parts.
    pub fn new(name: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            entries: Vec::new(),
            registrations: Vec::new(),
            presets: BTreeMap::new(),
            kind: None,
            settings: Settings::default(),
            context_cache: None,
        }
    }

    pub(super) fn with_settings(kind: ComponentKind, name: String, settings: Settings) -> Self {
        Self {
            kind: Some(kind),
            settings,
            ..Self::new(name)
        }
    }

    /// Sets the cache that methods use instead of the component's own.
    pub(super) fn set_context_cache(&mut self, cache: Cache) {
        self.context_cache = Some(cache);
    }

    settings_methods!();

    /// Adds an inbound part.
    pub fn register_inbound(
        &mut self,
        part: impl Inbound,
        name: impl Into<String>,
    ) -> InboundEntry<'_> {
        let (type_name, role) = (part_type(&part), PartRole::from_part(&part));
        let part = AnyPart::Inbound(Box::new(part));
        let (entry, registration) = self.register(part, type_name, role, name.into());
        InboundEntry {
            entry,
            registration,
        }
    }

    /// Adds an outbound part.
    pub fn register_outbound(
        &mut self,
        part: impl Outbound,
        name: impl Into<String>,
    ) -> OutboundEntry<'_> {
        let (type_name, role) = (part_type(&part), PartRole::from_part(&part));
        let part = AnyPart::Outbound(Box::new(part));
        let (entry, registration) = self.register(part, type_name, role, name.into());
        OutboundEntry {
            entry,
            registration,
        }
    }

    /// Adds a bypass.
    pub fn register_bypass(&mut self, part: impl Bypass, name: impl Into<String>) {
        let (type_name, role) = (part_type(&part), PartRole::from_part(&part));
        let part = AnyPart::Bypass(Box::new(part));
        self.register(part, type_name, role, name.into());
    }

    /// Returns the registered parts and routes, to print or draw them.
    pub fn describe(&self) -> Description {
        let parts = self.entries.iter().zip(&self.registrations);
        let part = |(entry, registration): (&RouteEntry, &PartRegistration)| PartDescription {
            entry: entry.clone(),
            type_name: registration.type_name.clone(),
            waits: registration.block,
        };
        Description {
            component: self.name.clone(),
            parts: parts.map(part).collect(),
        }
    }

    fn register(
        &mut self,
        part: AnyPart,
        type_name: String,
        role: PartRole,
        name: String,
    ) -> (&mut RouteEntry, &mut PartRegistration) {
        let kind = match &part {
            AnyPart::Inbound(_) => PartKind::Inbound,
            AnyPart::Outbound(_) => PartKind::Outbound,
            AnyPart::Bypass(_) => PartKind::Bypass,
        };
        self.entries.push(RouteEntry {
            name,
            kind,
            route: None,
            failures: None,
            is_cache: role == PartRole::Cache,
        });
        self.registrations.push(PartRegistration {
            part,
            type_name,
            role,
            block: false,
            log: false,
        });
        let last = self.entries.len() - 1;
        (&mut self.entries[last], &mut self.registrations[last])
    }

    /// Sets a key of the component's configuration, which peers can read and not change.
    ///
    /// `name` and the addresses that parts announce are always set; a preset overrides them.
    pub fn preset_cache(&mut self, key: impl Into<String>, value: impl Into<String>) {
        self.presets.insert(key.into(), value.into());
    }

    /// Starts the component, and runs it until SIGTERM, Ctrl-C, its limit of [`messages`](Self::messages) or an error.
    ///
    /// The component drains before this returns. A second signal ends it at once.
    ///
    /// # Errors
    ///
    /// [`Error::Start`] if the component cannot be started, [`Error::Run`] if a part fails or the drain is incomplete.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future stops the component: it drains in the background.
    pub async fn start(self) -> Result<()> {
        until_stopped(self.spawn()).await
    }

    /// Starts the component, and returns once all of its sockets are bound.
    ///
    /// # Errors
    ///
    /// [`Error::Start`] if the configuration has mistakes ([`StartError::Configuration`] lists all of them), or a part
    /// cannot be opened. No part runs then.
    ///
    /// # Cancel safety
    ///
    /// No part runs if the future is dropped before it is ready.
    pub async fn spawn(self) -> Result<ComponentHandle> {
        let (own_thread, name) = (self.settings.own_thread, self.name.clone());
        start_on(own_thread, name, self.spawn_here()).await
    }

    /// Starts the component in the current runtime.
    pub(super) async fn spawn_here(self) -> Result<ComponentHandle> {
        let name = self.name.clone();
        let level = self.settings.log_level;
        let span = match level {
            Some(level) => tracing::error_span!("component", name, log_level = %level),
            None => tracing::error_span!("component", name),
        };
        self.open().instrument(span).await.map_err(Error::Start)
    }

    /// Returns all mistakes of the configuration as one error.
    fn check(&self) -> std::result::Result<(), StartError> {
        let mut mistakes = Mistakes::default();
        mistakes.check_name(self.kind, &self.name);
        mistakes.check_settings(&self.settings);
        if self.entries.is_empty() {
            mistakes.add("it has no parts: register at least one");
        }
        for error in router::check(&self.entries) {
            mistakes.add(error.to_string());
        }
        let parts = || self.entries.iter().zip(&self.registrations);
        let part_with = |role| parts().find(|(_, it)| it.role == role);
        if let Some((tasks, _)) = part_with(PartRole::SendsTasks)
            && part_with(PartRole::ReceivesResults).is_none()
        {
            mistakes.add(format!(
                "`{}` sends tasks to workers, but no part receives their results: register a `WorkerPullService`",
                tasks.name
            ));
        }
        let bindings = parts().flat_map(|(entry, registration)| {
            let binds = registration.binds().into_iter();
            binds.map(|binding| (Some(entry.name.as_str()), binding))
        });
        mistakes.check_bound(self.settings.links_only, bindings);
        mistakes.finish(&self.name)
    }

    async fn open(mut self) -> std::result::Result<ComponentHandle, StartError> {
        self.check()?;
        let store = ComponentStore::new(self.settings.store.clone(), self.settings.cache_limits);
        let store = Arc::new(store);
        let cache = self.context_cache.take();
        let context = Arc::new(ComponentContext {
            name: self.name.clone(),
            cache: cache.unwrap_or_else(|| Cache::local(store.clone())),
        });

        let shared = Arc::new(ComponentState::new(self.settings.link.clone()));
        // The options are a copy: a user may pass the same ones to several components.
        let kill = Kill::default();
        self.settings.socket.kill = kill.clone();
        let network = NetworkTrust::new(self.settings.trust_network);
        self.settings.socket.network = Some(network.clone());
        let mut addresses = BTreeMap::new();
        let mut functions = Vec::new();
        let mut described = Vec::new();
        let mut counters = Vec::new();
        let mut failed = None;
        for (entry, registration) in self.entries.iter().zip(&mut self.registrations) {
            let part_counters = Arc::<PartCounters>::default();
            let (mut announced, mut option) = (BTreeMap::new(), None);
            let mut setup = Setup {
                context: &context,
                shared: &shared,
                store: &store,
                options: &self.settings.socket,
                advertised_host: self.settings.advertised_host.as_deref(),
                links_only: self.settings.links_only,
                announced: &mut announced,
                option: &mut option,
                counters: part_counters.clone(),
                functions: &mut functions,
                described: &mut described,
            };
            let opening = match &mut registration.part {
                AnyPart::Inbound(part) => part.open(&mut setup),
                AnyPart::Outbound(part) => part.open(&mut setup),
                AnyPart::Bypass(part) => part.open(&mut setup),
            };
            if let Err(source) = opening.await {
                failed = Some(StartError::open(&self.name, &entry.name, option, source));
                break;
            }
            addresses.extend(announced);
            counters.push(part_counters);
        }
        if let Some(failed) = failed {
            // Releases the addresses of the parts that are open, as a component that stops does.
            self.entries.truncate(counters.len());
            self.registrations.truncate(counters.len());
            let stop = Stop::new(Duration::ZERO);
            stop.token.cancel();
            let (mut parts, _) = self.run_parts(&stop, counters);
            let _ = parts.drain().await;
            return Err(failed);
        }

        let kind = self
            .kind
            .map_or("component".to_owned(), |kind| kind.to_string());
        if let Some(db_address) = addresses.get("db_address") {
            tracing::info!("{kind} `{}` at {db_address}", self.name);
        }
        // Addresses of sockets that are bound on demand are not logged: the operator has not configured them.
        let bound = addresses
            .iter()
            .filter(|(key, _)| !shared.on_demand.contains(key));
        let bound: BTreeMap<_, _> = bound.map(|(key, it)| (key.clone(), it.clone())).collect();
        for (key, address) in bound.iter().filter(|(key, _)| *key != "db_address") {
            tracing::info!("{key} is {address}");
        }
        network.warn();

        let mut configuration = addresses.clone();
        configuration.insert("name".to_owned(), self.name.clone());
        configuration.append(&mut self.presets);
        store.configure(configuration);
        let has_workers = shared.workers.get().is_some();
        let links = shared.links.offered().into_iter().map(str::to_owned);
        let links = links.collect();
        let offer = descriptor::Advertisement {
            addresses: &bound,
            functions: &described,
            is_incomplete: has_workers,
            links,
        };
        let descriptor = descriptor::encode(self.kind, &self.name, offer);
        if shared.functions.add(&descriptor).is_err() {
            tracing::error!("bug in palm: a descriptor that cannot be read");
        }
        store.configure([(descriptor::KEY.to_owned(), descriptor)]);

        let stop = Stop::new(self.settings.drain_limit);
        if self.settings.messages == Some(0) {
            stop.token.cancel();
        }
        for entry in &self.entries {
            if let Some(route) = &entry.route {
                tracing::debug!("{} is routed to {route}", entry.name);
            }
        }
        let name = self.name.clone();
        let (parts, entries) = self.run_parts(&stop, counters);
        tracing::info!("{name} started");

        let counters = ComponentCounters {
            parts: entries,
            functions,
        };
        let has_ended = CancellationToken::new();
        let supervisor = {
            let ended = has_ended.clone().drop_guard();
            let kill = kill.clone();
            async move {
                let outcome = supervise(parts, kill).await;
                drop(ended);
                outcome
            }
        };
        Ok(ComponentHandle {
            name,
            addresses,
            counters: Arc::new(counters),
            shared,
            cache_health: store.health().clone(),
            stop: stop.token,
            kill,
            has_ended,
            outcome: tokio::spawn(supervisor.in_current_span()),
        })
    }

    /// Returns the route of results, along which messages that are not tasks bypass the workers.
    fn results_route(&self) -> Option<String> {
        let mut parts = self.entries.iter().zip(&self.registrations);
        let results = parts.find(|(_, it)| it.role == PartRole::ReceivesResults);
        results.and_then(|(entry, _)| entry.route.clone())
    }

    /// Connects the parts by queues according to their routes, and starts them.
    fn run_parts(
        mut self,
        stop: &Stop,
        counters: Vec<Arc<PartCounters>>,
    ) -> (PartTasks, Vec<PartCountersEntry>) {
        let mut inlets = HashMap::new();
        let mut queues = HashMap::new();
        for entry in &self.entries {
            if entry.kind == PartKind::Outbound {
                let (sender, receiver) = queue(self.settings.queue);
                queues.insert(entry.name.clone(), sender);
                let inlet = Inlet {
                    queue: receiver,
                    stop: stop.clone(),
                };
                inlets.insert(entry.name.clone(), inlet);
            }
        }

        // Outbound parts share a task only if no part runs user code. User code may block its thread, and with it the
        // task that it has woken last, which sits in the thread's LIFO slot: the part that receives its results.
        let all_forward = self
            .registrations
            .iter()
            .all(PartRegistration::forwards_only);
        let remaining = self.settings.messages.map(AtomicU64::new).map(Arc::new);
        for index in 0..self.entries.len() {
            let sends_tasks = self.registrations[index].role == PartRole::SendsTasks;
            if sends_tasks && self.entries[index].route.is_none() {
                // A part that is routed to itself would never end.
                let route = self.results_route();
                let route = route.filter(|to| !router::leads_to(&self.entries, to, index));
                self.entries[index].route = route;
            }
        }
        let mut parts = PartTasks::new(self.name, stop.clone());
        let mut entries = Vec::new();
        for ((entry, registration), counters) in self
            .entries
            .into_iter()
            .zip(self.registrations)
            .zip(counters)
        {
            let to = |route: &String| queues.get(route).cloned();
            let outlet = Outlet {
                route: entry.route.as_ref().and_then(to),
                failures: entry.failures.as_ref().and_then(to),
                block: registration.block,
                log: registration.log,
                part: entry.name.as_str().into(),
                remaining: remaining.clone(),
                stop: stop.clone(),
            };
            let name = &entry.name;
            let shares_task =
                registration.forwards_only() && (all_forward || entry.kind != PartKind::Outbound);
            match registration.part {
                AnyPart::Inbound(part) => parts.run(name, shares_task, part.run(outlet)),
                AnyPart::Outbound(part) => {
                    let inlet = inlets.remove(name);
                    let inlet = inlet.expect("every outbound part has an inlet");
                    parts.run(name, shares_task, part.run(inlet, outlet));
                }
                AnyPart::Bypass(part) => {
                    let stop = parts.bypass_stop();
                    parts.run_bypass(name, shares_task, part.run(stop));
                }
            }
            entries.push(PartCountersEntry {
                queue: queues.get(&entry.name).map(|queue| queue.gauge()),
                name: entry.name,
                counters,
            });
        }
        parts.spawn_shared();
        // Only parts hold senders now, so that each queue is closed when the parts upstream have ended.
        (parts, entries)
    }
}

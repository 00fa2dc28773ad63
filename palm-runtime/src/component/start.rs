//! The start of a component.
//!
//! The configuration is checked, and one error reports all of its mistakes; every part is opened, in the order of registration; the addresses and
//! the descriptor are announced; the routes become bounded queues (`wiring`); and every part starts to run, owned by
//! the supervisor. If a part cannot be opened, those before it are stopped as in a shutdown.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio_util::sync::CancellationToken;
use tracing::Instrument;

use super::configuration::Mistakes;
use super::dedicated_thread::start_on;
use super::handle::ComponentHandle;
use super::part_registration::{OpenedPart, PartRegistration, PartRole};
use super::start_future::StartFuture;
use super::supervisor::supervise;
use super::template::ServerTemplate;
use super::until_signal::{until_completed, until_stopped};
use super::wiring::run_parts;
use crate::cache::{Cache, ComponentStore};
use crate::clock;
use crate::component_error::StartError;
use crate::component_kind::ComponentKind;
use crate::component_state::{ComponentState, LiveSettings, Reporter};
use crate::context::ComponentContext;
use crate::discovery::descriptor;
use crate::error::{Error, Result};
use crate::method::FunctionInfo;
use crate::metrics::{ComponentCounters, FunctionCounters, PartCounters};
use crate::network::{ExposedError, NetworkTrust};
use crate::part::{OpenError, Setup, Stop};
use crate::router;
use crate::socket::{Kill, SocketError};

impl ServerTemplate {
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
    pub fn start(self) -> StartFuture<()> {
        until_stopped(self.spawn())
    }

    /// Starts the component, and runs it until `stop` completes, its limit of [`messages`](Self::messages) or an error.
    ///
    /// The component then drains, as [`start`](Self::start) does after SIGTERM, before this returns. The output of
    /// `stop` is ignored. Signals are not handled: a program that has handlers of its own, or none, uses this.
    ///
    /// # Errors
    ///
    /// [`Error::Start`] if the component cannot be started, [`Error::Run`] if a part fails or the drain is incomplete.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future stops the component: it drains in the background.
    pub async fn start_until(self, stop: impl Future) -> Result<()> {
        until_completed(self.spawn(), stop).await
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
    pub fn spawn(self) -> StartFuture<ComponentHandle> {
        let (own_thread, name) = (self.settings.own_thread, self.name.clone());
        let start = Box::pin(self.spawn_here());
        StartFuture::new(start_on(own_thread, name, start))
    }

    /// Starts the component in the current runtime.
    pub(super) async fn spawn_here(self) -> Result<ComponentHandle> {
        let name = self.name.clone();
        let level = self.settings.log_level;
        let log_level = level.map(tracing::field::display);
        let instance = tracing::field::Empty;
        let span = tracing::error_span!("component", name, instance, log_level);
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
        for (entry, _) in parts().filter(|(_, it)| it.hooks.are_set() && !it.runs_hooks) {
            mistakes.add(format!(
                "`{}` is a part that runs no hooks: remove `.hooks(..)`, or register a part with a socket, such as a `PullService`",
                entry.name
            ));
        }
        let bindings = parts().flat_map(|(entry, registration)| {
            let binds = registration.binds.iter().cloned();
            binds.map(|binding| (Some(entry.name.as_str()), binding))
        });
        mistakes.check_bound(self.settings.links_only, bindings);
        mistakes.finish(&self.name)
    }

    async fn open(mut self) -> std::result::Result<ComponentHandle, StartError> {
        #[cfg(feature = "monitor")]
        self.add_monitor();
        self.check()?;
        clock::detect_pause();
        let shared = self.share();
        let network = NetworkTrust::new(self.settings.trust_network);
        let sockets = self.settings.own_sockets();
        sockets.network = Some(network.clone());
        let kill = sockets.kill.clone();
        let mut opened = OpenParts::default();
        if let Err(failed) = self.open_parts(&shared, &mut opened).await {
            // Releases the addresses of the parts that are open, as a component that stops does.
            let stop = Stop::new(Duration::ZERO);
            stop.token.cancel();
            let (mut parts, _) = run_parts(self.name, &self.settings, &stop, opened.parts);
            let _ = parts.drain().await;
            return Err(failed);
        }
        let bound = self.log_addresses(&shared.state, &opened.addresses);
        network.warn();
        self.publish_configuration(&shared, &opened, &bound);
        Ok(self.run(shared, opened, kill))
    }

    /// Creates what the parts share.
    fn share(&mut self) -> SharedByParts {
        let store = ComponentStore::new(self.settings.store.0.clone(), self.settings.cache_limits);
        let store = Arc::new(store);
        let cache = self.context_cache.take();
        let state = Arc::new(ComponentState::new(self.settings.link_options.clone()));
        let instance = format!("{:016x}", state.links.component());
        tracing::Span::current().record("instance", &*instance);
        state
            .links
            .record_deliveries(&self.name, state.recent.clone());
        let context = Arc::new(ComponentContext {
            name: self.name.clone(),
            cache: cache.unwrap_or_else(|| Cache::local(store.clone())),
            cancellations: state.cancellations.clone(),
        });
        SharedByParts {
            store,
            state,
            context,
        }
    }

    /// Opens the parts in their order, and adds them to `opened`, until one fails.
    async fn open_parts(
        &mut self,
        shared: &SharedByParts,
        opened: &mut OpenParts,
    ) -> std::result::Result<(), StartError> {
        for (entry, registration) in self.entries.drain(..).zip(self.registrations.drain(..)) {
            let counters = Arc::<PartCounters>::default();
            let (mut announced, mut option) = (BTreeMap::new(), None);
            let PartRegistration {
                part,
                role,
                forwards_only,
                hooks,
                block,
                log,
                ..
            } = registration;
            let forwards_only = forwards_only && hooks.pass_on();
            let mut setup = Setup {
                context: &shared.context,
                state: &shared.state,
                store: &shared.store,
                options: &self.settings.socket_options,
                advertised_host: self.settings.advertised_host.as_deref(),
                links_only: self.settings.links_only,
                announced: &mut announced,
                option: &mut option,
                counters: counters.clone(),
                hooks,
                functions: &mut opened.functions,
                described: &mut opened.described,
            };
            let running = part.open(&mut setup).await;
            let running = running
                .map_err(|source| StartError::open(&self.name, &entry.name, option, source))?;
            opened.addresses.extend(announced);
            opened.parts.push(OpenedPart {
                running,
                entry,
                role,
                forwards_only,
                block,
                log,
                counters,
            });
        }
        Ok(())
    }

    /// Logs the addresses, and returns them without those of sockets that are bound on demand: the operator has not
    /// configured these.
    fn log_addresses(
        &self,
        state: &ComponentState,
        addresses: &BTreeMap<String, String>,
    ) -> BTreeMap<String, String> {
        let kind = self.kind;
        let shown = kind.map_or("component".to_owned(), |kind| kind.to_string());
        if let Some(db_address) = addresses.get("db_address") {
            tracing::info!("{shown} `{}` at {db_address}", self.name);
        }
        let mut bound = addresses.clone();
        bound.retain(|key, _| !state.on_demand.contains(key));
        for (key, address) in bound.iter().filter(|(key, _)| *key != "db_address") {
            tracing::info!("{key} is {address}");
        }
        bound
    }

    /// Publishes the component's configuration and its descriptor in its cache.
    fn publish_configuration(
        &mut self,
        shared: &SharedByParts,
        opened: &OpenParts,
        bound: &BTreeMap<String, String>,
    ) {
        let SharedByParts { store, state, .. } = shared;
        let mut configuration = opened.addresses.clone();
        configuration.insert("name".to_owned(), self.name.clone());
        configuration.append(&mut self.presets);
        store.configure(configuration);
        let links = state.links.offered().into_iter().map(str::to_owned);
        let offer = descriptor::Advertisement {
            addresses: bound,
            functions: &opened.described,
            is_incomplete: state.has_workers(),
            links: links.collect(),
            instance: state.links.component(),
        };
        let descriptor = descriptor::encode(self.kind, &self.name, offer);
        if state.functions.add_descriptor(&descriptor).is_err() {
            tracing::error!("bug in palm: a descriptor that cannot be read");
        }
        store.configure([(descriptor::KEY.to_owned(), descriptor)]);
    }

    /// Runs the open parts, and supervises them in a task.
    fn run(self, shared: SharedByParts, opened: OpenParts, kill: Kill) -> ComponentHandle {
        let SharedByParts { store, state, .. } = shared;
        let OpenParts {
            parts,
            addresses,
            functions,
            ..
        } = opened;
        let kind = self.kind;
        let stop = Stop::new(self.settings.drain_limit);
        if self.settings.messages == Some(0) {
            stop.token.cancel();
        }
        for OpenedPart { entry, .. } in &parts {
            if let Some(route) = &entry.route {
                tracing::debug!("{} is routed to {route}", entry.name);
            }
        }
        let name = self.name.clone();
        let (parts, entries) = run_parts(self.name, &self.settings, &stop, parts);
        tracing::info!("{name} started");

        let counters = Arc::new(ComponentCounters {
            parts: entries,
            functions,
        });
        let reporter = Reporter {
            name: name.clone(),
            kind,
            db_address: addresses.get("db_address").cloned().unwrap_or_default(),
            counters,
            started: (clock::wall(), clock::now()),
            settings: LiveSettings {
                // A component that is composed by hand may have several executors.
                slots: kind.filter(runs_calls).map(|_| state.slots.clone()),
                stop: stop.clone(),
                span: tracing::Span::current(),
                log_level: Mutex::new(self.settings.log_level),
            },
        };
        let was_set = state.reporter.set(reporter);
        was_set.expect("a component starts once");
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
        ComponentHandle {
            name,
            addresses,
            state,
            cache_health: store.health().clone(),
            stop: stop.token,
            kill,
            has_ended,
            outcome: tokio::spawn(supervisor.in_current_span()),
        }
    }
}

/// What the parts of a component share.
struct SharedByParts {
    store: Arc<ComponentStore>,
    state: Arc<ComponentState>,
    context: Arc<ComponentContext>,
}

/// The parts of a component that are open, and what they have registered.
#[derive(Default)]
struct OpenParts {
    parts: Vec<OpenedPart>,
    addresses: BTreeMap<String, String>,
    functions: Vec<Arc<FunctionCounters>>,
    described: Vec<FunctionInfo>,
}

/// Returns whether the component runs calls itself, so that an operator may change how many run at once.
fn runs_calls(kind: &ComponentKind) -> bool {
    matches!(
        kind,
        ComponentKind::Server
            | ComponentKind::Pipeline
            | ComponentKind::Sink
            | ComponentKind::Worker
            | ComponentKind::MuxWorker
    )
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

//! [`ServerTemplate`]: a component composed of parts and routes.

use std::collections::BTreeMap;

use super::description::{Description, PartDescription};
use super::part_registration::{InboundEntry, OutboundEntry, PartRegistration, PartRole};
use super::settings::{Settings, Store, settings};
use crate::cache::{Cache, KeyValue};
use crate::component_kind::ComponentKind;
#[cfg(feature = "monitor")]
use crate::http::Listener;
#[cfg(feature = "monitor")]
use crate::monitor::MonitorService;
use crate::part::{Bypass, Inbound, Outbound};
use crate::router::RouteEntry;

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
    pub(super) name: String,
    pub(super) entries: Vec<RouteEntry>,
    /// The registration of each entry.
    pub(super) registrations: Vec<PartRegistration>,
    pub(super) presets: BTreeMap<String, String>,
    /// `None` if the component is composed by hand.
    pub(super) kind: Option<ComponentKind>,
    pub(super) settings: Settings,
    pub(super) context_cache: Option<Cache>,
}

settings! { @methods [] ServerTemplate, [settings] }

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

    /// Sets the store of the component's cache. Default: in memory, up to 1 GiB.
    pub fn cache(mut self, store: impl KeyValue) -> Self {
        self.settings.store = Store::new(store);
        self
    }

    /// Adds the part that serves metrics and health, if an address is configured.
    #[cfg(feature = "monitor")]
    pub(super) fn add_monitor(&mut self) {
        if let Some(listener) = self.settings.monitor.listener() {
            self.register_bypass(MonitorService::bind(listener), "Monitor");
        }
    }

    /// Adds an inbound part.
    pub fn register_inbound(
        &mut self,
        part: impl Inbound,
        name: impl Into<String>,
    ) -> InboundEntry<'_> {
        let registration = PartRegistration::inbound(part);
        let (entry, registration) = self.register(registration, name.into());
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
        let registration = PartRegistration::outbound(part);
        let (entry, registration) = self.register(registration, name.into());
        OutboundEntry {
            entry,
            registration,
        }
    }

    /// Adds a bypass.
    pub fn register_bypass(&mut self, part: impl Bypass, name: impl Into<String>) {
        self.register(PartRegistration::bypass(part), name.into());
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
        registration: PartRegistration,
        name: String,
    ) -> (&mut RouteEntry, &mut PartRegistration) {
        self.entries.push(RouteEntry {
            name,
            kind: registration.part.kind(),
            route: None,
            failures: None,
            is_cache: registration.role == PartRole::Cache,
        });
        self.registrations.push(registration);
        let last = self.entries.len() - 1;
        (&mut self.entries[last], &mut self.registrations[last])
    }

    /// Sets a key of the component's configuration, which peers can read and not change.
    ///
    /// `name` and the addresses that parts announce are always set; a preset overrides them.
    pub fn preset_cache(&mut self, key: impl Into<String>, value: impl Into<String>) {
        self.presets.insert(key.into(), value.into());
    }
}

#[cfg(feature = "monitor")]
impl ServerTemplate {
    /// Serves metrics for Prometheus and health checks over HTTP at `listener`, an address such as
    /// `"127.0.0.1:9600"`. [`monitor`](mod@crate::monitor) describes the paths.
    ///
    /// Components of one process with the same address share it. Default: the address in the environment variable
    /// `PALM_MONITOR`, and no monitor if it is not set. The URL is announced as `monitor_address`.
    pub fn monitor(mut self, listener: impl Into<Listener>) -> Self {
        self.settings.monitor.set(listener.into());
        self
    }
}

//! [`MonitorService`]: the part that serves the metrics and the health of its component.
//!
//! Components of a process that are monitored at the same address share a socket. Each of them accepts some of its
//! connections, and answers for all, so the socket has no owner among them: it is closed with the last component.

use std::collections::HashMap;
use std::sync::{Arc, Weak};

use futures_util::future::join_all;
use parking_lot::Mutex;

use super::exposition::Exposition;
use super::service::{self, Source};
use crate::component_state::ComponentState;
use crate::failure::BoxError;
use crate::http::{BoundListener, Listener, SharedSocket};
use crate::network::NetworkTrust;
use crate::part::{Bypass, OpenError, Running, Setup, Stop};
use crate::report::ReportRequest;
use crate::stop::FLUSH_TIMEOUT;

/// The monitors of this process, by the address that was configured.
static MONITORS: tokio::sync::Mutex<Option<HashMap<String, Weak<Monitor>>>> =
    tokio::sync::Mutex::const_new(None);

/// A socket, and the components that it answers for.
#[derive(Debug)]
struct Monitor {
    socket: SharedSocket,
    components: Mutex<Vec<MonitoredComponent>>,
}

#[derive(Debug, Clone)]
struct MonitoredComponent {
    name: String,
    state: Arc<ComponentState>,
}

impl Monitor {
    /// Returns the monitor of this process at the address of `listener`, which is bound if there is none.
    async fn open(listener: Listener, network: &NetworkTrust) -> Result<Arc<Self>, BoxError> {
        let address = listener.address().to_owned();
        let mut monitors = MONITORS.lock().await;
        let monitors = monitors.get_or_insert_default();
        monitors.retain(|_, monitor| monitor.strong_count() > 0);
        if let Some(monitor) = monitors.get(&address).and_then(Weak::upgrade) {
            return Ok(monitor);
        }
        let bound = BoundListener::bind(listener, network).await?;
        let monitor = Arc::new(Self {
            socket: bound.share()?,
            components: Mutex::default(),
        });
        // Every monitor at port 0 has a port of its own.
        if !address.ends_with(":0") {
            monitors.insert(address, Arc::downgrade(&monitor));
        }
        Ok(monitor)
    }

    /// Answers for a further component.
    fn register(self: &Arc<Self>, name: &str, state: &Arc<ComponentState>) -> Registered {
        self.components.lock().push(MonitoredComponent {
            name: name.to_owned(),
            state: state.clone(),
        });
        Registered {
            monitor: self.clone(),
            state: state.clone(),
        }
    }
}

impl Source for Monitor {
    async fn exposition(&self) -> Exposition {
        let components = self.components.lock().clone();
        // One that is starting has no report yet.
        let started = components
            .iter()
            .filter(|it| it.state.reporter.initialized());
        let request = ReportRequest::default();
        let reports = join_all(started.map(|it| it.state.report(&request))).await;
        let mut exposition = Exposition::new();
        reports
            .into_iter()
            .for_each(|report| exposition.add(report));
        exposition
    }

    async fn unready_causes(&self) -> Vec<String> {
        let components = self.components.lock();
        let causes = components.iter().filter_map(|component| {
            let cause = component.state.unready_cause()?;
            Some(format!("`{}` is not ready: it {cause}", component.name))
        });
        causes.collect()
    }
}

/// Serves `/metrics`, `/livez` and `/readyz` for a component. A builder registers it with `monitor`.
#[derive(Debug)]
pub(crate) struct MonitorService {
    listener: Listener,
}

/// The component is monitored until this is dropped.
#[derive(Debug)]
struct Registered {
    monitor: Arc<Monitor>,
    state: Arc<ComponentState>,
}

impl Drop for Registered {
    fn drop(&mut self) {
        let mut components = self.monitor.components.lock();
        components.retain(|it| !Arc::ptr_eq(&it.state, &self.state));
    }
}

impl MonitorService {
    pub(crate) fn bind(listener: Listener) -> Self {
        Self { listener }
    }
}

impl Bypass for MonitorService {
    fn forwards_only(&self) -> bool {
        // The part only accepts connections, which have tasks of their own.
        true
    }

    async fn open(self, setup: &mut Setup<'_>) -> Result<Running<Stop>, OpenError> {
        *setup.option = Some("monitor");
        let untrusted = NetworkTrust::new(false);
        let network = setup.options.network.as_ref().unwrap_or(&untrusted);
        let monitor = Monitor::open(self.listener, network).await?;
        let bound = monitor.socket.listen().map_err(BoxError::from)?;
        tracing::info!(url = bound.url(), "serving metrics and health");
        setup
            .announced
            .insert("monitor_address".to_owned(), bound.url());
        let registered = monitor.register(setup.component(), setup.state);
        Ok(Running::bypass(|stop: Stop| async move {
            let linger = stop.linger().min(FLUSH_TIMEOUT);
            let service = service::service(monitor);
            bound.serve(service, stop.token.clone(), linger).await;
            drop(registered);
            Ok(())
        }))
    }
}

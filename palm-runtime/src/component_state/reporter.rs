//! [`Reporter`]: the report of a component, made of the counters of its parts and the state of its links.

use std::sync::{Arc, Weak};
use std::time::{Instant, SystemTime};

use super::{ComponentState, LiveSettings};
use crate::clock;
use crate::component_kind::ComponentKind;
use crate::link::client::LinkClient;
use crate::metrics::ComponentCounters;
#[cfg(any(feature = "main", feature = "monitor"))]
use crate::report::EdgeState;
use crate::report::{Edge, Legacy, Report, ReportRequest, Role, State, Worker, WorkerState};
use crate::socket::Address;

/// What a component reports besides the state of its links.
#[derive(Debug)]
pub(crate) struct Reporter {
    pub(crate) name: String,
    pub(crate) kind: Option<ComponentKind>,
    /// Empty for a component without a control service, such as a worker.
    pub(crate) db_address: String,
    pub(crate) counters: Arc<ComponentCounters>,
    pub(crate) started: (SystemTime, Instant),
    pub(crate) settings: LiveSettings,
}

/// A component that this one is connected to.
#[derive(Debug)]
pub(super) struct OpenedConnection {
    role: Role,
    topics: Vec<String>,
    peer: ConnectedPeer,
}

/// How a component is connected to another one.
#[derive(Debug)]
enum ConnectedPeer {
    Link(Weak<LinkClient>),
    /// By the sockets of a component at this `db_address`, which count nothing.
    Sockets(Address),
}

impl OpenedConnection {
    /// Returns the edge; `None` if the link was closed.
    fn edge(&self) -> Option<Edge> {
        let mut edge = match &self.peer {
            ConnectedPeer::Link(link) => link.upgrade()?.edge(),
            ConnectedPeer::Sockets(address) => {
                let mut edge = Edge::default();
                edge.db_address = address.to_string();
                edge
            }
        };
        edge.role = self.role;
        edge.topics.clone_from(&self.topics);
        Some(edge)
    }

    /// Returns why the connection is broken; `None` if it is not.
    #[cfg(any(feature = "main", feature = "monitor"))]
    fn problem(&self) -> Option<String> {
        let edge = self
            .edge()
            .filter(|edge| edge.state != EdgeState::Connected)?;
        let upstream = edge.role.as_str();
        let problem = format!(
            "its {upstream} at {} is {}",
            edge.db_address,
            edge.state.as_str()
        );
        let cause = match &self.peer {
            ConnectedPeer::Link(link) => link.upgrade().and_then(|link| link.wait_cause()),
            ConnectedPeer::Sockets(_) => None,
        };
        Some(match cause {
            Some(cause) => format!("{problem}: {cause}"),
            None => problem,
        })
    }

    fn is_open(&self) -> bool {
        match &self.peer {
            ConnectedPeer::Link(link) => link.strong_count() > 0,
            ConnectedPeer::Sockets(_) => true,
        }
    }
}

impl Reporter {
    /// Returns the report of the component with this state.
    pub(crate) async fn report(&self, state: &ComponentState, request: &ReportRequest) -> Report {
        state.links.observe(request.recent.is_some()).await;
        let links = state.links.report();
        let mut report = Report::new(state.links.component(), &self.name);
        report.kind = self.kind.map(|it| it.to_string()).unwrap_or_default();
        report.version = env!("CARGO_PKG_VERSION").to_owned();
        report.pid = std::process::id();
        report.host = host_name();
        (report.started_at, report.uptime) = (self.started.0, clock::since(self.started.1));
        report.state = self.state(state);
        report.db_address.clone_from(&self.db_address);
        (report.parts, report.functions) = self.counters.report();
        report.functions.extend(links.functions);
        report.edges = links.edges;
        report.edges.extend(
            state
                .connections()
                .iter()
                .filter_map(OpenedConnection::edge),
        );
        #[cfg(feature = "http")]
        {
            report.requests = state.http.requests();
            report.edges.extend(state.http.edge(report.uptime));
        }
        report.legacy = state.legacy().await;
        report.waits = state.wait_cause().unwrap_or_default();
        report.tasks = links.tasks;
        match &request.recent {
            Some(prefix) => {
                report.recent = state.recent.list();
                report.retain_recent(prefix);
            }
            // Workers were asked for them by an earlier request.
            None => report.clear_recent(),
        }
        report
    }

    fn state(&self, state: &ComponentState) -> State {
        match (
            self.settings.stop.token.is_cancelled(),
            state.streams.are_in_place(),
        ) {
            (true, _) => State::Draining,
            (false, true) => State::Ready,
            (false, false) => State::Starting,
        }
    }

    /// Returns what a worker reports to its master. The link adds the tasks that the worker has.
    pub(crate) fn worker(&self, component: u64) -> WorkerState {
        let (parts, functions) = self.counters.report();
        let sum =
            |counter: fn(&crate::report::Function) -> u64| functions.iter().map(counter).sum();
        let mut worker = Worker::new(component);
        worker.pid = std::process::id();
        worker.host = host_name();
        env!("CARGO_PKG_VERSION").clone_into(&mut worker.version);
        (worker.started_at, worker.uptime) = (self.started.0, clock::since(self.started.1));
        worker.log_level = self.settings.log_level();
        worker.running = sum(|it| it.running);
        worker.calls = sum(|it| it.calls);
        worker.errors = sum(|it| it.errors);
        worker.late = parts.iter().map(|part| part.late).sum();
        worker.worked = functions.iter().map(|it| it.working.sum()).sum();
        let called = functions.into_iter().filter(|function| function.calls > 0);
        WorkerState::new(worker, called.collect())
    }
}

/// Returns the name of this host; an empty one if the system has none.
pub(crate) fn host_name() -> String {
    let name = hostname::get().unwrap_or_default();
    name.to_string_lossy().into_owned()
}

impl ComponentState {
    /// Returns the report, once the component has started. Cancel safe.
    pub(crate) async fn report(&self, request: &ReportRequest) -> Report {
        self.reporter.wait().await.report(self, request).await
    }

    /// Returns why the component is not ready to work, as a sentence without a subject; `None` if it is ready.
    ///
    /// It is ready if it has started, is connected to its upstream components, and does not drain. `/readyz`, `READY=1`
    /// and the state of a [`Report`] mean this.
    #[cfg(any(feature = "main", feature = "monitor"))]
    pub(crate) fn unready_cause(&self) -> Option<String> {
        let Some(reporter) = self.reporter.get() else {
            return Some("is starting".to_owned());
        };
        match reporter.state(self) {
            State::Draining => return Some("is draining".to_owned()),
            State::Starting => {
                let cause = self.streams.wait_cause()?;
                return Some(format!("waits for {cause}"));
            }
            _ => {}
        }
        let connections = self.connections();
        let mut broken = connections.iter().filter_map(OpenedConnection::problem);
        broken
            .next()
            .map(|problem| format!("waits, because {problem}"))
    }

    /// Returns what this worker reports to its master, with its recent calls if `calls`; `None` until it has started.
    pub(crate) fn worker_report(&self, calls: bool) -> Option<WorkerState> {
        let reporter = self.reporter.get()?;
        let mut report = reporter.worker(self.links.component());
        if calls {
            report.worker.recent = self.recent.list();
        }
        Some(report)
    }

    /// Adds a link that this component has opened to its report.
    pub(crate) fn report_link(&self, role: Role, topics: Vec<String>, link: &Arc<LinkClient>) {
        let peer = ConnectedPeer::Link(Arc::downgrade(link));
        self.add_connection(OpenedConnection { role, topics, peer });
    }

    /// Adds a component that this one is connected to by sockets to its report.
    pub(crate) fn report_sockets(&self, role: Role, topics: Vec<String>, db_address: &Address) {
        let peer = ConnectedPeer::Sockets(db_address.clone());
        self.add_connection(OpenedConnection { role, topics, peer });
    }

    fn add_connection(&self, connection: OpenedConnection) {
        let mut connections = self.connections();
        connections.retain(OpenedConnection::is_open);
        connections.push(connection);
    }

    /// Returns the peers without links.
    async fn legacy(&self) -> Legacy {
        let count = async |peers: Option<&crate::socket::Peers>| match peers {
            Some(peers) => peers.count().unwrap_or_default() as u64,
            None => 0,
        };
        let mut legacy = Legacy::default();
        legacy.workers = count(self.legacy_workers()).await;
        legacy.clients = count(self.callers.get()).await;
        legacy.subscribers = count(self.followers.get()).await;
        legacy.tasks = self.outstanding.sent();
        legacy
    }
}

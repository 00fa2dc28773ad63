//! Asks the components of a running cluster for their reports.
//!
//! [`Inspector::inspect`] begins at one component and finds the others: upstream by what each follows, and downstream by
//! its subscribers. Components describe themselves, so no registry, agent or further port is needed. A cluster that
//! is not asked does no work for it.
//!
//! ```
//! use palm::inspect::{Answer, Inspector};
//! use palm::prelude::*;
//!
//! struct Text;
//!
//! #[palm::server(name = "text")]
//! impl Text {
//!     #[palm::method]
//!     fn double(&self, text: String) -> String {
//!         text.repeat(2)
//!     }
//! }
//!
//! # #[tokio::main]
//! # async fn main() -> palm::Result<()> {
//! let server = Text.bind("tcp://127.0.0.1:0").spawn().await?;
//! let mut inspector = Inspector::new(server.db_address()).expect("it is an address");
//! let cluster = inspector.inspect().await;
//! let report = cluster.report("text").expect("the server answers");
//! assert_eq!(report.kind, "server");
//! assert!(report.function("double").is_some());
//! server.shutdown().await?;
//! # Ok(())
//! # }
//! ```

mod operator;

pub use operator::{DrainEnd, Draining, Operator, OperatorError, WorkerFailure};

use std::collections::{BTreeMap, HashMap, HashSet};
use std::time::Duration;

use bytes::Bytes;
use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use prost::Message as _;
use tokio::time::{Instant, timeout, timeout_at};

use crate::cache::service::{self, Verb};
use crate::discovery::{ControlVerb, IntoAddress, descriptor};
use crate::message::proto::Descriptor;
use crate::report::{MAX_REPORT_BYTES, Report, ReportRequest, Role};
use crate::socket::{Address, AddressError, Request, SocketOptions, probe};

/// Time within which a component has to answer.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(2);

/// Time within which all components have to answer.
const WALK_TIMEOUT: Duration = Duration::from_secs(5);

/// Time after which the cause of a missing answer is looked for.
const PROBE_DELAY: Duration = Duration::from_millis(500);

/// The reason of a component that listens and does not answer.
const SILENT: &str =
    "it is connected, but does not answer: it is stopped, busy, or not a palm component";

/// The most bytes of a name of a component that does not report. It may be any program.
const MAX_NAME_BYTES: usize = 1024;

/// The most components that are asked.
const MAX_COMPONENTS: usize = 1000;

/// The most components that are asked at the same time.
const MAX_CONCURRENT: usize = 64;

/// Asks the components of a cluster for their reports. Connections are kept for the next time.
#[derive(Debug)]
pub struct Inspector {
    first: Address,
    further: Vec<Address>,
    options: SocketOptions,
    request: ReportRequest,
    connections: HashMap<Address, Request>,
}

/// The components of a cluster that were found.
#[derive(Debug, Clone, Default)]
#[non_exhaustive]
pub struct Cluster {
    /// The components by address, sorted.
    pub components: BTreeMap<String, Answer>,
    /// Whether there are further components, beyond 1000 or 5 s.
    pub is_incomplete: bool,
}

impl Cluster {
    /// Returns the reports, sorted by address.
    pub fn reports(&self) -> impl Iterator<Item = &Report> {
        self.components.values().filter_map(Answer::report)
    }

    /// Returns the report of the component called `name`: the first one, if several have the name.
    pub fn report(&self, name: &str) -> Option<&Report> {
        self.reports().find(|report| report.name == name)
    }
}

/// The answer of a component, or why there is none.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Answer {
    /// The component has reported.
    Report(Box<Report>),
    /// The component does not report: it is one of pylm, or of an earlier version of palm.
    NoReport {
        /// The name of the component; empty if it has none.
        name: String,
        /// The kind of the component; empty if it is not palm's.
        kind: String,
        /// The version of palm; empty if it is not palm's.
        version: String,
    },
    /// The component does not answer, for this reason.
    Unreachable(String),
}

impl Answer {
    /// Returns the report, if the component has sent one.
    pub fn report(&self) -> Option<&Report> {
        match self {
            Self::Report(report) => Some(report),
            _ => None,
        }
    }
}

impl Inspector {
    /// Creates an inspector that begins at the component with this `db_address`. Does not connect yet.
    ///
    /// # Errors
    ///
    /// [`AddressError`] if the text is not an address.
    pub fn new(address: impl IntoAddress) -> Result<Self, AddressError> {
        Ok(Self {
            first: address.into_address()?,
            further: Vec::new(),
            options: SocketOptions::default(),
            request: ReportRequest::default(),
            connections: HashMap::new(),
        })
    }

    /// Sets the options of the sockets. Default: [`SocketOptions::default`].
    #[must_use]
    pub fn socket_options(mut self, options: SocketOptions) -> Self {
        self.options = options;
        self
    }

    /// Asks also for the calls that components remember ([`Report::recent`]): those of which an id begins with `prefix`,
    /// or all if it is empty. Default: reports are without calls.
    #[must_use]
    pub fn recent_calls(mut self, prefix: impl Into<String>) -> Self {
        self.request.recent = Some(prefix.into());
        self
    }

    /// Sets further addresses at which [`inspect`](Self::inspect) begins: with those that it has found before, it asks a
    /// component also if no other one leads to it any more. Texts that are not addresses are left out.
    pub fn begin_also_at<'a>(&mut self, addresses: impl IntoIterator<Item = &'a str>) {
        let addresses = addresses.into_iter().filter_map(|it| it.parse().ok());
        self.further = addresses.collect();
    }

    /// Asks the first component for its report.
    ///
    /// # Cancel safety
    ///
    /// This method is cancel safe.
    pub async fn inspect_first(&mut self) -> Answer {
        let address = self.first.clone();
        let connection = self.connections.remove(&address);
        let (answer, connection) = ask(&address, connection, &self.options, &self.request).await;
        self.connections.extend(connection.map(|it| (address, it)));
        answer
    }

    /// Asks all components of the cluster for their reports: at most 1000, within 5 s, each once.
    ///
    /// A component that does not answer is listed with the reason.
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped, only connections are lost, which the next call opens again.
    pub async fn inspect(&mut self) -> Cluster {
        let end = Instant::now() + WALK_TIMEOUT;
        let mut cluster = Cluster::default();
        let mut connections = std::mem::take(&mut self.connections);
        let first = std::iter::once(&self.first).chain(&self.further);
        let mut found: HashSet<_> = first.take(MAX_COMPONENTS).cloned().collect();
        let mut next: Vec<_> = found.iter().cloned().collect();
        let mut asked = FuturesUnordered::new();
        loop {
            while asked.len() < MAX_CONCURRENT
                && let Some(address) = next.pop()
            {
                let connection = connections.remove(&address);
                let (options, request) = (&self.options, &self.request);
                asked.push(async move {
                    let (answer, connection) = ask(&address, connection, options, request).await;
                    (address, answer, connection)
                });
            }
            let (address, answer, connection) = match timeout_at(end, asked.next()).await {
                Ok(Some(answered)) => answered,
                Ok(None) => break,
                Err(_) => {
                    cluster.is_incomplete = true;
                    break;
                }
            };
            for neighbour in answer.report().map(neighbours).unwrap_or_default() {
                if found.contains(&neighbour) {
                    continue;
                }
                if found.len() >= MAX_COMPONENTS {
                    cluster.is_incomplete = true;
                    break;
                }
                found.insert(neighbour.clone());
                next.push(neighbour);
            }
            self.connections
                .extend(connection.map(|it| (address.clone(), it)));
            cluster.components.insert(address.to_string(), answer);
        }
        cluster
    }
}

/// Returns the addresses of the components upstream and downstream.
fn neighbours(report: &Report) -> Vec<Address> {
    let edges = report.edges.iter().filter(|edge| {
        matches!(
            edge.role,
            Role::Upstream | Role::Subscriber | Role::Master | Role::Other
        )
    });
    edges
        .filter_map(|edge| edge.db_address.parse().ok())
        .collect()
}

/// Asks a component, and returns its answer and the connection if it works.
async fn ask(
    address: &Address,
    connection: Option<Request>,
    options: &SocketOptions,
    wanted: &ReportRequest,
) -> (Answer, Option<Request>) {
    let request = match connection {
        Some(request) => request,
        None => match Request::connect(address, options).await {
            Ok(request) => request,
            Err(error) => return (Answer::Unreachable(error.to_string()), None),
        },
    };
    let answer = async {
        let body = ControlVerb::Inspect.request("_", wanted.encode());
        let reply = request.request(body, ANSWER_TIMEOUT).await.ok()?;
        if reply.len() > MAX_REPORT_BYTES {
            return Some(Answer::Unreachable(format!(
                "its answer has {} bytes, and a report has {MAX_REPORT_BYTES} at most",
                reply.len()
            )));
        }
        Some(match Report::decode(reply) {
            Ok(report) => Answer::Report(Box::new(report)),
            Err(_) => describe(&request).await,
        })
    };
    let reason = tokio::select! {
        biased;
        answer = answer => match answer {
            Some(answer) => return (answer, Some(request)),
            None => SILENT.to_owned(),
        },
        cause = unreachable_cause(address) => cause,
    };
    (Answer::Unreachable(reason), None)
}

/// Returns why nothing listens at `address`. Does not end if something does.
async fn unreachable_cause(address: &Address) -> String {
    tokio::time::sleep(PROBE_DELAY).await;
    match probe(address).await {
        Ok(()) => std::future::pending().await,
        Err(fault) => fault.to_string(),
    }
}

/// Describes a component that does not report.
async fn describe(request: &Request) -> Answer {
    let get = async |key: &str| {
        let body = service::request("_", "", Verb::Get, key, Bytes::new());
        let reply = request.request(body, ANSWER_TIMEOUT).await;
        reply.unwrap_or_default()
    };
    let own = Descriptor::decode(get(descriptor::KEY).await).unwrap_or_default();
    let name = match own.name.is_empty() {
        true => String::from_utf8_lossy(&get("name").await).into_owned(),
        false => own.name,
    };
    let short = |mut text: String| {
        text.truncate(text.floor_char_boundary(MAX_NAME_BYTES));
        text
    };
    Answer::NoReport {
        name: short(name),
        kind: short(own.kind),
        version: short(own.version),
    }
}

/// Asks the component at `address` for its report.
///
/// # Errors
///
/// [`AddressError`] if the text is not an address.
///
/// # Cancel safety
///
/// This function is cancel safe.
pub async fn inspect(address: impl IntoAddress) -> Result<Answer, AddressError> {
    let mut inspector = Inspector::new(address)?;
    let answer = timeout(WALK_TIMEOUT, inspector.inspect_first()).await;
    Ok(answer.unwrap_or_else(|_| Answer::Unreachable("it does not answer in time".to_owned())))
}

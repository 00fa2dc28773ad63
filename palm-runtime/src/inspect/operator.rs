//! [`Operator`]: drains a running component, and changes its settings.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use prost::Message as _;

use super::{ANSWER_TIMEOUT, unreachable_cause};
use crate::discovery::{ControlVerb, IntoAddress, OperatorVerb};
use crate::message::proto::forward_failure::Kind;
use crate::message::proto::{
    ConfigureReply, ConfigureRequest, DrainReply, ForwardReply, ForwardRequest, Setting,
};
use crate::report::{Edge, EdgeState, Report, Role};
use crate::socket::{Address, AddressError, Request, SocketOptions, probe};

/// Time between two reports of a component that drains.
const PROGRESS_INTERVAL: Duration = Duration::from_millis(250);

/// Time within which a master has to pass on what a worker replies, or why it does not.
const FORWARD_TIMEOUT: Duration = Duration::from_secs(5);

/// Drains a running component, and changes its settings: what `palm drain` and `palm configure` use.
///
/// ```
/// use palm::inspect::Operator;
/// use palm::prelude::*;
///
/// # #[tokio::main]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let master = Master::new("images").bind("tcp://127.0.0.1:0").spawn().await?;
/// let operator = Operator::connect(master.db_address()).await?;
/// let settings = operator.configure([("drain_limit", "30s")]).await?;
/// assert_eq!(settings["drain_limit"], "30s");
/// let draining = operator.drain().await?;
/// assert_eq!(draining.limit().as_secs(), 30);
/// draining.ended(|report| println!("{} messages", report.messages_inside())).await;
/// master.join().await?;
/// # Ok(())
/// # }
/// ```
///
/// A worker has no address. [`worker`](Self::worker) addresses it at its master, which passes the requests on over the
/// link of the worker.
#[derive(Debug)]
pub struct Operator {
    address: Address,
    request: Request,
    /// The name or instance of a worker of the component, if it is meant.
    worker: Option<String>,
}

/// A component that drains. [`Operator::drain`] returns it; dropping it has no effect on the component.
#[derive(Debug)]
pub struct Draining<'a> {
    operator: &'a Operator,
    instance: u64,
    limit: Duration,
}

impl Draining<'_> {
    /// Returns how long the component may take to drain.
    pub fn limit(&self) -> Duration {
        self.limit
    }

    /// Waits until the component has stopped: nothing listens at its address, or another run of it does; of a worker,
    /// until its master reports that it has left or was lost. Returns which of these happened. Calls `progress` with each
    /// report of the component, or of the worker's master, four times a second.
    ///
    /// # Cancel safety
    ///
    /// This method is cancel safe.
    pub async fn ended(&self, mut progress: impl FnMut(&Report)) -> DrainEnd {
        let Operator {
            address,
            request,
            worker,
        } = self.operator;
        // While a master is away, its workers may run.
        while worker.is_some() || probe(address).await.is_ok() {
            let body = ControlVerb::Inspect.request("_", Bytes::new());
            let reply = request.request(body, ANSWER_TIMEOUT).await;
            if let Some(report) = reply.ok().and_then(|reply| Report::decode(reply).ok()) {
                let edge = worker.as_ref().map(|name| self.edge(&report, name));
                match edge.map(|edge| edge.map(|edge| edge.state)) {
                    Some(Some(EdgeState::Lost)) => return DrainEnd::Lost,
                    Some(None) => return DrainEnd::Stopped,
                    None if report.instance != self.instance => return DrainEnd::Stopped,
                    _ => progress(&report),
                }
            }
            tokio::time::sleep(PROGRESS_INTERVAL).await;
        }
        DrainEnd::Stopped
    }

    /// Returns the edge of the worker that drains in a report of its master; `None` if it has left or was lost, or if a
    /// component without [`Operator::worker`] drains.
    pub fn worker<'a>(&self, report: &'a Report) -> Option<&'a Edge> {
        let edge = self.edge(report, self.operator.worker.as_ref()?)?;
        (edge.state != EdgeState::Lost).then_some(edge)
    }

    /// Returns the edge of the worker that drains, which may be lost.
    fn edge<'a>(&self, report: &'a Report, name: &str) -> Option<&'a Edge> {
        let mut workers = report.edges_of(Role::Worker);
        workers.find(|edge| match &edge.worker {
            Some(worker) => worker.instance == self.instance,
            // It has not reported yet.
            None => edge.name == *name,
        })
    }
}

/// How a drain ended, see [`Draining::ended`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum DrainEnd {
    /// The component has stopped. Whether it was killed before it had finished its work is not known.
    Stopped,
    /// The worker was lost before it had finished its tasks. Its master redelivers them.
    Lost,
}

/// Why a component was not drained or configured.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OperatorError {
    /// The text is not an address.
    #[error(transparent)]
    Address(#[from] AddressError),
    /// The component does not answer.
    #[error("{address}: {reason}")]
    #[non_exhaustive]
    Unreachable {
        /// The address of the component.
        address: String,
        /// Why it does not answer, as far as is known.
        reason: String,
    },
    /// The component is one of pylm, or of an earlier version of palm.
    #[error(
        "the component at {address} does not know this request: it is one of pylm, or of an earlier version of palm"
    )]
    #[non_exhaustive]
    Unsupported {
        /// The address of the component.
        address: String,
    },
    /// A worker has not answered its master.
    #[error("{reason}")]
    #[non_exhaustive]
    Worker {
        /// What is wrong.
        failure: WorkerFailure,
        /// The same as a text, with the name of the worker and what to do.
        reason: String,
    },
    /// The component has rejected settings, and has changed none.
    #[error("{}", .mistakes.join("; "))]
    #[non_exhaustive]
    Settings {
        /// What is wrong with each of them.
        mistakes: Vec<String>,
    },
}

/// Why a worker has not answered a request that its master should pass on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum WorkerFailure {
    /// The component has no worker with this name or instance.
    Unknown,
    /// Several workers have the name. The reason lists their instances.
    Ambiguous,
    /// The worker is of an earlier version of palm.
    Unsupported,
    /// The worker is not connected, or has left or was lost before it answered.
    Gone,
    /// The worker has not answered in time. It may handle the request later.
    Timeout,
    /// Too many requests to the worker are not answered yet.
    Busy,
}

impl WorkerFailure {
    fn from_wire(kind: Kind) -> Self {
        match kind {
            Kind::Unknown => Self::Unknown,
            Kind::Ambiguous => Self::Ambiguous,
            Kind::Unsupported => Self::Unsupported,
            Kind::Gone => Self::Gone,
            Kind::Timeout => Self::Timeout,
            Kind::Busy => Self::Busy,
        }
    }
}

impl Operator {
    /// Connects to the component with this `db_address`.
    ///
    /// # Errors
    ///
    /// [`OperatorError::Address`] if the text is not an address, [`OperatorError::Unreachable`] if no socket can be
    /// opened. That nothing answers there is an error of the first request.
    ///
    /// # Cancel safety
    ///
    /// This method is cancel safe.
    pub async fn connect(address: impl IntoAddress) -> Result<Self, OperatorError> {
        let address = address.into_address()?;
        let request = Request::connect(&address, &SocketOptions::default()).await;
        let request = request.map_err(|error| OperatorError::Unreachable {
            address: address.to_string(),
            reason: error.to_string(),
        })?;
        Ok(Self {
            address,
            request,
            worker: None,
        })
    }

    /// Addresses a worker of the component, which is a master or hub: by its name, or by its instance as 16 hexadecimal
    /// digits if several workers have the name. The component passes requests on to it.
    ///
    /// An unknown worker is an error of the first request ([`OperatorError::Worker`]).
    ///
    /// ```
    /// use palm::inspect::Operator;
    /// use palm::prelude::*;
    ///
    /// struct Hand;
    ///
    /// #[palm::worker(server = "images")]
    /// impl Hand {
    ///     #[palm::method]
    ///     fn resize(&self, image: Bytes) -> Bytes {
    ///         image
    ///     }
    /// }
    ///
    /// # #[tokio::main]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let master = Master::new("images").bind("tcp://127.0.0.1:0").spawn().await?;
    /// let worker = Hand.connect(master.db_address()).name("hand").spawn().await?;
    /// # let client = Client::connect("images", master.db_address()).await?;
    /// # client.eval("images.resize", "").await?;
    /// let operator = Operator::connect(master.db_address()).await?.worker("hand");
    /// let settings = operator.configure([("prefetch", "0")]).await?;
    /// assert_eq!(settings["prefetch"], "0");
    /// operator.drain().await?.ended(|_| ()).await;
    /// worker.join().await?;
    /// # master.shutdown().await?;
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn worker(mut self, worker: impl Into<String>) -> Self {
        self.worker = Some(worker.into());
        self
    }

    /// Makes the component drain, as SIGTERM does, without waiting for the end.
    ///
    /// The component accepts no further messages, finishes and delivers those that it has, and stops. Until then
    /// [`Inspector`](super::Inspector) shows it as draining. A repeated request has no effect.
    ///
    /// # Errors
    ///
    /// [`OperatorError`] says why the component does not drain.
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped, the component may drain nevertheless.
    pub async fn drain(&self) -> Result<Draining<'_>, OperatorError> {
        let reply = self.ask(OperatorVerb::Drain, Bytes::new()).await?;
        let reply = DrainReply::decode(reply).map_err(|_| self.unsupported())?;
        Ok(Draining {
            operator: self,
            instance: reply.instance,
            limit: Duration::from_millis(reply.drain_limit_ms),
        })
    }

    /// Returns the settings that can be changed while the component runs, by name.
    ///
    /// # Errors
    ///
    /// [`OperatorError::Unreachable`] or [`OperatorError::Unsupported`] if the component does not answer.
    ///
    /// # Cancel safety
    ///
    /// This method is cancel safe.
    pub async fn settings(&self) -> Result<BTreeMap<String, String>, OperatorError> {
        self.configure::<&str, &str>([]).await
    }

    /// Changes settings, and returns all of them. Names and values are those of configuration files:
    ///
    /// | name | value |
    /// |---|---|
    /// | `concurrency` | how many calls may run at once; running calls are not affected |
    /// | `drain_limit` | how long the component may take to drain, such as `30s` |
    /// | `log_level` | `error`, `warn`, `info`, `debug` or `trace`; `default` for that of the program |
    /// | `prefetch` | how many tasks a worker holds besides those that it runs; `measured` for as many as it completes in 10 ms |
    ///
    /// The settings last until the component stops.
    ///
    /// # Errors
    ///
    /// [`OperatorError::Settings`] lists all mistakes; then nothing is changed.
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped, the settings may be changed nevertheless.
    pub async fn configure<N: Into<String>, V: Into<String>>(
        &self,
        settings: impl IntoIterator<Item = (N, V)>,
    ) -> Result<BTreeMap<String, String>, OperatorError> {
        let settings = settings.into_iter().map(|(name, value)| Setting {
            name: name.into(),
            value: value.into(),
        });
        let settings = settings.collect();
        let request = ConfigureRequest { settings }.encode_to_vec();
        let reply = self.ask(OperatorVerb::Configure, request.into()).await?;
        let reply = ConfigureReply::decode(reply).map_err(|_| self.unsupported())?;
        if !reply.mistakes.is_empty() {
            let mistakes = reply.mistakes;
            return Err(OperatorError::Settings { mistakes });
        }
        let settings = reply.settings.into_iter();
        Ok(settings.map(|it| (it.name, it.value)).collect())
    }

    /// Sends a request, and returns the reply, which is not empty.
    async fn ask(&self, verb: OperatorVerb, payload: Bytes) -> Result<Bytes, OperatorError> {
        let verb = ControlVerb::Operator(verb);
        let Some(worker) = &self.worker else {
            return self.ask_component(verb, payload, ANSWER_TIMEOUT).await;
        };
        let request = ForwardRequest {
            worker: worker.clone(),
            verb: verb.name().to_owned(),
            payload,
        };
        let request = request.encode_to_vec().into();
        let reply = self.ask_component(ControlVerb::Forward, request, FORWARD_TIMEOUT);
        let reply = ForwardReply::decode(reply.await?).map_err(|_| self.unsupported())?;
        match reply.failure {
            Some(failure) => Err(OperatorError::Worker {
                failure: WorkerFailure::from_wire(failure.kind()),
                reason: failure.reason,
            }),
            // Neither the master nor the worker says it so.
            None if reply.payload.is_empty() => Err(self.unsupported()),
            None => Ok(reply.payload),
        }
    }

    async fn ask_component(
        &self,
        verb: ControlVerb,
        payload: Bytes,
        limit: Duration,
    ) -> Result<Bytes, OperatorError> {
        let reply = async {
            let request = self.request.request(verb.request("_", payload), limit);
            request.await.map_err(|_| super::SILENT.to_owned())
        };
        let reply = tokio::select! {
            biased;
            reply = reply => reply,
            cause = unreachable_cause(&self.address) => Err(cause),
        };
        let reply = reply.map_err(|reason| OperatorError::Unreachable {
            address: self.address.to_string(),
            reason,
        })?;
        // A component without the verb replies with nothing.
        match reply.is_empty() {
            true => Err(self.unsupported()),
            false => Ok(reply),
        }
    }

    fn unsupported(&self) -> OperatorError {
        OperatorError::Unsupported {
            address: self.address.to_string(),
        }
    }
}

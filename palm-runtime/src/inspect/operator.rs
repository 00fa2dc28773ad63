//! [`Operator`]: drains a running component, and changes its settings.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use prost::Message as _;

use super::{ANSWER_TIMEOUT, unreachable_cause};
use crate::discovery::{ControlVerb, IntoAddress};
use crate::message::proto::{ConfigureReply, ConfigureRequest, DrainReply, Setting};
use crate::report::Report;
use crate::socket::{Address, AddressError, Request, SocketOptions, probe};

/// Time between two reports of a component that drains.
const PROGRESS_INTERVAL: Duration = Duration::from_millis(250);

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
#[derive(Debug)]
pub struct Operator {
    address: Address,
    request: Request,
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

    /// Waits until the component has stopped: nothing listens at its address, or another run of it does. Calls
    /// `progress` with each of its reports, four times a second.
    ///
    /// # Cancel safety
    ///
    /// This method is cancel safe.
    pub async fn ended(&self, mut progress: impl FnMut(&Report)) {
        let Operator { address, request } = self.operator;
        while probe(address).await.is_ok() {
            let body = ControlVerb::Inspect.request("_", Bytes::new());
            let reply = request.request(body, ANSWER_TIMEOUT).await;
            if let Some(report) = reply.ok().and_then(|reply| Report::decode(reply).ok()) {
                if report.instance != self.instance {
                    return;
                }
                progress(&report);
            }
            tokio::time::sleep(PROGRESS_INTERVAL).await;
        }
    }
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
    Unsupported {
        /// The address of the component.
        address: String,
    },
    /// The component has rejected settings, and has changed none.
    #[error("{}", .mistakes.join("; "))]
    Settings {
        /// What is wrong with each of them.
        mistakes: Vec<String>,
    },
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
        Ok(Self { address, request })
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
        let reply = self.ask(ControlVerb::Drain, Bytes::new()).await?;
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
        let reply = self.ask(ControlVerb::Configure, request.into()).await?;
        let reply = ConfigureReply::decode(reply).map_err(|_| self.unsupported())?;
        if !reply.mistakes.is_empty() {
            let mistakes = reply.mistakes;
            return Err(OperatorError::Settings { mistakes });
        }
        let settings = reply.settings.into_iter();
        Ok(settings.map(|it| (it.name, it.value)).collect())
    }

    /// Sends a request, and returns the reply, which is not empty.
    async fn ask(&self, verb: ControlVerb, payload: Bytes) -> Result<Bytes, OperatorError> {
        let reply = async {
            let request = self
                .request
                .request(verb.request("_", payload), ANSWER_TIMEOUT);
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

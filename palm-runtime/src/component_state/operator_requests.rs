//! The requests of operators: a component is drained, and its settings are changed.
//!
//! A component with a control service receives them at its `db_address`, and a worker from its master, over its link.

use std::sync::Weak;

use bytes::Bytes;
use prost::Message as _;

use super::{ComponentState, LiveSettings};
use crate::discovery::{ControlVerb, OperatorVerb};
use crate::failure::chain;
use crate::link::client::LinkedWorker;
use crate::message::proto::{ConfigureReply, ConfigureRequest, DrainReply, Setting};
use crate::report::WorkerState;

/// Limit on the bytes of a request for settings.
const MAX_SETTINGS_BYTES: usize = 64 * 1024;

/// Why a request of an operator cannot be handled.
#[derive(Debug, thiserror::Error)]
pub(crate) enum OperatorRequestError {
    #[error("a request for settings has {bytes} bytes, and at most {MAX_SETTINGS_BYTES} are read")]
    TooLong { bytes: usize },
    #[error("a request for settings cannot be read")]
    Malformed(#[from] prost::DecodeError),
}

impl ComponentState {
    /// Handles a request of an operator once the component has started, and returns the reply. Cancel safe.
    pub(crate) async fn operate(
        &self,
        verb: OperatorVerb,
        payload: &Bytes,
    ) -> Result<Bytes, OperatorRequestError> {
        let reporter = self.reporter.wait().await;
        self.handle_operator(&reporter.settings, verb, payload)
    }

    fn handle_operator(
        &self,
        settings: &LiveSettings,
        verb: OperatorVerb,
        payload: &Bytes,
    ) -> Result<Bytes, OperatorRequestError> {
        Ok(match verb {
            OperatorVerb::Drain => self.drain(settings).encode_to_vec().into(),
            OperatorVerb::Configure => settings.configure(payload)?.encode_to_vec().into(),
        })
    }

    /// Makes the component drain, as after SIGTERM.
    fn drain(&self, settings: &LiveSettings) -> DrainReply {
        let stop = &settings.stop;
        if !stop.token.is_cancelled() {
            tracing::info!("an operator drains the component");
            stop.token.cancel();
        }
        let limit = stop.linger().as_millis();
        DrainReply {
            instance: self.links.component(),
            drain_limit_ms: u64::try_from(limit).unwrap_or(u64::MAX),
        }
    }
}

impl LiveSettings {
    fn configure(&self, request: &Bytes) -> Result<ConfigureReply, OperatorRequestError> {
        let bytes = request.len();
        if bytes > MAX_SETTINGS_BYTES {
            return Err(OperatorRequestError::TooLong { bytes });
        }
        let request = ConfigureRequest::decode(request.clone())?;
        let changes = request.settings.iter().map(|it| (&*it.name, &*it.value));
        let mistakes = self.change(changes).err().unwrap_or_default();
        let values = self.values().into_iter();
        let settings = values.map(|(name, value)| Setting {
            name: name.to_owned(),
            value,
        });
        let settings = settings.collect();
        Ok(ConfigureReply { settings, mistakes })
    }
}

impl LinkedWorker for Weak<ComponentState> {
    fn report(&self, calls: bool) -> Option<WorkerState> {
        self.upgrade()?.worker_report(calls)
    }

    fn handle(&self, verb: &str, payload: &Bytes) -> Option<Bytes> {
        let state = self.upgrade()?;
        let settings = &state.reporter.get()?.settings;
        let Some(ControlVerb::Operator(verb)) = ControlVerb::parse(verb) else {
            return Some(Bytes::new());
        };
        let reply = state.handle_operator(settings, verb, payload);
        Some(reply.unwrap_or_else(|error| {
            tracing::warn!("a request of an operator failed: {}", chain(&error));
            Bytes::new()
        }))
    }
}

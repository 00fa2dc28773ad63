//! Calls of a client as a tower service, and the errors of its layers.

use super::CallError;
use crate::call_service::{CallService, CallServiceError, LayerFailure, failure_kind};
use crate::failure::FailureKind;

/// The service that a layer of a client wraps: the innermost one, which makes the call, or a layered one.
pub type ClientService = CallService<CallError>;

impl CallServiceError for CallError {
    fn from_layer(failure: LayerFailure) -> Self {
        let LayerFailure {
            function,
            waited,
            error,
        } = failure;
        let source = match error.downcast::<Self>() {
            Ok(error) => return *error,
            Err(source) => source,
        };
        let function = function.to_string();
        match failure_kind(&*source) {
            FailureKind::DeadlineExceeded => Self::Timeout {
                function,
                input: None,
                waited,
                cause: Some(format!("a layer of the client: {source}")),
            },
            kind => Self::Layer {
                function,
                kind,
                source,
            },
        }
    }
}

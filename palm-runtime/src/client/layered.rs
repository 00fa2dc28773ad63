//! Single calls that pass the layers of their client.

use std::sync::{Arc, Weak};

use bytestring::ByteString;
use futures_core::future::BoxFuture;

use super::eval::PreparedCall;
use super::service::ClientService;
use super::state::ClientState;
use super::{CallError, Client};
use crate::call_service::{CallRequest, CallResponse, InnermostCall};
use crate::clock;
use crate::failure::{BoxError, CallFailure, catch_panic};
use crate::function::Steps;
use crate::message::Deadline;
use crate::type_map::TypeMap;

/// The innermost part of a layered call. A layer that keeps the request does not keep the client open.
struct ClientCall {
    client: Weak<ClientState>,
    steps: Steps,
    id: Option<ByteString>,
}

impl InnermostCall for ClientCall {
    fn run(
        self: Arc<Self>,
        request: CallRequest,
    ) -> BoxFuture<'static, Result<CallResponse, BoxError>> {
        Box::pin(async move {
            let client = self.client.upgrade().map(Client);
            let client = client.ok_or(CallError::Closed)?;
            let timeout = request.time_left();
            let call = PreparedCall {
                client: &client,
                steps: Ok(self.steps.clone()),
                payload: Ok(request.payload),
                id: self.id.clone(),
                headers: request.headers,
                timeout: timeout.unwrap_or(client.0.timeout),
            };
            let (_, payload) = call.exchange().await?;
            Ok(CallResponse::new(payload))
        })
    }
}

impl PreparedCall<'_> {
    /// Makes the call through layers.
    pub(super) async fn run_layered(
        self,
        layers: &ClientService,
    ) -> Result<(Steps, bytes::Bytes), CallError> {
        let (steps, timeout) = (self.steps?, self.timeout);
        let payload = self.payload;
        let payload = payload.map_err(|source| CallError::encode(&steps, source))?;
        let client = &self.client.0;
        let request = CallRequest {
            function: steps.text().clone(),
            client: client.answers.id().clone(),
            headers: self.headers,
            payload,
            deadline: Some(Deadline::after(timeout, clock::wall())),
            runs_once: client.known.is_at_most_once(&steps),
            extensions: TypeMap::default(),
            context: None,
            innermost: Some(Arc::new(ClientCall {
                client: Arc::downgrade(client),
                steps: steps.clone(),
                id: self.id,
            })),
        };
        let panicked = |failure: CallFailure| {
            Err(CallError::Layer {
                function: steps.to_string(),
                kind: failure.kind(),
                source: failure.into(),
            })
        };
        let answer = catch_panic(layers.run(request), panicked);
        match tokio::time::timeout(timeout, answer).await {
            Ok(answer) => match answer?.into_payload() {
                Some(payload) => Ok((steps, payload)),
                None => Err(CallError::NoAnswer {
                    function: steps.to_string(),
                }),
            },
            Err(_) => Err(CallError::timeout(&steps, timeout, client.wait_cause())),
        }
    }
}

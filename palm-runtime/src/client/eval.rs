//! [`Eval`]: one call.

use std::future::IntoFuture;
use std::time::Duration;

use bytes::Bytes;
use bytestring::ByteString;
use futures_core::future::BoxFuture;
use tokio::sync::oneshot;

use super::answers::Waiting;
use super::{CallError, Client};
use crate::function::{StepError, Steps};

/// One call, made by [`Client::eval`]: await it.
#[must_use = "a call is not made until it is awaited"]
#[derive(Debug)]
pub struct Eval<'a> {
    client: &'a Client,
    steps: Result<Steps, StepError>,
    payload: Bytes,
    id: Option<ByteString>,
    timeout: Duration,
}

impl<'a> Eval<'a> {
    pub(super) fn new(client: &'a Client, steps: Result<Steps, StepError>, payload: Bytes) -> Self {
        Self {
            client,
            steps,
            payload,
            id: None,
            timeout: client.0.timeout,
        }
    }

    /// How long to wait for the answer. Default: the client's.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// The id of the message, in its field `cache`. Default: one of its own.
    pub fn cache(mut self, id: impl Into<String>) -> Self {
        self.id = Some(id.into().into());
        self
    }

    async fn call(self) -> Result<Bytes, CallError> {
        let steps = self.steps?;
        let connection = &self.client.0;
        let (sender, answer) = oneshot::channel();
        // The place for the answer is there before the message is sent: it can come back before
        // `send` returns.
        let topic = connection.answers.topic(Waiting::One(sender));
        let id = self.id.unwrap_or_else(|| topic.text.clone());
        let frame = self.client.frame(&steps, &topic.text, &id, &self.payload)?;
        let exchange = async {
            connection
                .push
                .send(frame)
                .await
                .map_err(|_| CallError::Closed)?;
            let answer = answer.await.map_err(|_| CallError::Closed)?;
            answer.map_err(CallError::Remote)
        };
        match tokio::time::timeout(self.timeout, exchange).await {
            Ok(answer) => answer,
            Err(_) => Err(CallError::Timeout {
                function: steps.to_string(),
                waited: self.timeout,
            }),
        }
    }
}

impl<'a> IntoFuture for Eval<'a> {
    type Output = Result<Bytes, CallError>;
    type IntoFuture = BoxFuture<'a, Self::Output>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(self.call())
    }
}

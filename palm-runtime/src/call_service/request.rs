//! [`CallRequest`] and [`CallResponse`]: a call as layers see it.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use bytestring::ByteString;
use futures_core::future::BoxFuture;

use crate::clock;
use crate::context::Context;
use crate::failure::BoxError;
use crate::message::{Deadline, Headers};
use crate::type_map::TypeMap;

/// A call on its way through layers, at a component or at a client.
///
/// Clones share payload and extensions, so a retry copies nothing. The innermost service runs the call of a request
/// once for each clone that it receives; see [`runs_once`](Self::runs_once).
#[derive(Clone)]
pub struct CallRequest {
    pub(crate) function: ByteString,
    pub(crate) client: ByteString,
    pub(crate) headers: Headers,
    pub(crate) payload: Bytes,
    pub(crate) deadline: Option<Deadline>,
    pub(crate) runs_once: bool,
    pub(crate) extensions: TypeMap,
    /// `None` at a client.
    pub(crate) context: Option<Context>,
    /// `None` if a program has created the request.
    pub(crate) innermost: Option<Arc<dyn InnermostCall>>,
}

/// Runs one call: its method, or its exchange of messages.
pub(crate) trait InnermostCall: Send + Sync {
    fn run(
        self: Arc<Self>,
        request: CallRequest,
    ) -> BoxFuture<'static, Result<CallResponse, BoxError>>;
}

impl CallRequest {
    /// Returns a request that belongs to no call, for tests of layers.
    ///
    /// The innermost service of a component or client rejects it.
    pub fn new(function: impl Into<ByteString>, payload: impl Into<Bytes>) -> Self {
        Self {
            function: function.into(),
            client: ByteString::new(),
            headers: Headers::new(),
            payload: payload.into(),
            deadline: None,
            runs_once: false,
            extensions: TypeMap::default(),
            context: None,
            innermost: None,
        }
    }

    /// Returns the called function, as `server.function`. At a client, all steps of the call, separated by spaces.
    pub fn function(&self) -> &str {
        &self.function
    }

    /// Returns the id of the client that makes the call. Clients choose their ids, so it authenticates nothing.
    pub fn client(&self) -> &str {
        // Each call has a topic of its own: the id, a slash and a number.
        let client = self.client.split_once('/');
        client.map_or(&*self.client, |(client, _)| client)
    }

    /// Returns the headers of the call.
    pub fn headers(&self) -> &Headers {
        &self.headers
    }

    /// Returns the headers, to change them. Changes at a client are sent; those at a component are for inner layers.
    pub fn headers_mut(&mut self) -> &mut Headers {
        &mut self.headers
    }

    /// Returns the argument.
    pub fn payload(&self) -> &Bytes {
        &self.payload
    }

    /// Replaces the argument.
    pub fn set_payload(&mut self, payload: impl Into<Bytes>) {
        self.payload = payload.into();
    }

    /// Returns the time until the caller stops waiting, or `None` if it has set no deadline.
    pub fn time_left(&self) -> Option<Duration> {
        self.deadline.map(|deadline| deadline.left(clock::wall()))
    }

    /// Returns whether the innermost service accepts only one clone of this request: the method is `at_most_once`, or,
    /// at a component, returns several results.
    ///
    /// A component rejects further ones. A client does not: a layer that retries has to ask. If the client does not
    /// know the function, as before the first worker has registered it, this is `false`.
    pub fn runs_once(&self) -> bool {
        self.runs_once
    }

    /// Returns the context of the call at a component: its name and cache, the received message, and whether the call
    /// is [cancelled](Context::cancelled). `None` at a client.
    pub fn context(&self) -> Option<&Context> {
        self.context.as_ref()
    }

    /// Attaches a value, for inner layers and for the method, which receives it by
    /// [`Context::extension`](Context::extension). Replaces a value of the same type. Not sent.
    pub fn insert_extension<T: Send + Sync + 'static>(&mut self, value: T) {
        self.extensions.insert(value);
    }

    /// Returns the attached value of the type `T`.
    pub fn extension<T: 'static>(&self) -> Option<&T> {
        self.extensions.get()
    }

    /// Runs the call, in the innermost service.
    pub(super) async fn run(mut self) -> Result<CallResponse, BoxError> {
        match self.innermost.take() {
            Some(innermost) => innermost.run(self).await,
            None => Err(
                "the request belongs to no call: pass on the request that the layer received"
                    .into(),
            ),
        }
    }
}

impl std::fmt::Debug for CallRequest {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("CallRequest")
            .field("function", &self.function)
            .field("client", &self.client())
            .field("headers", &self.headers)
            .field("payload_bytes", &self.payload.len())
            .finish_non_exhaustive()
    }
}

/// The answer to a call, as layers see it.
#[derive(Clone, Default)]
pub struct CallResponse {
    payload: Option<Bytes>,
}

impl CallResponse {
    /// Returns an answer with a result.
    pub fn new(payload: impl Into<Bytes>) -> Self {
        let payload = Some(payload.into());
        Self { payload }
    }

    /// Returns the answer of a method that returned nothing.
    pub fn empty() -> Self {
        Self::default()
    }

    /// Returns the result. `None` if the method returned nothing, or several results: these are sent one by one, and
    /// the response is their end.
    pub fn payload(&self) -> Option<&Bytes> {
        self.payload.as_ref()
    }

    /// Returns the result, as [`payload`](Self::payload) does.
    pub fn into_payload(self) -> Option<Bytes> {
        self.payload
    }
}

impl std::fmt::Debug for CallResponse {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("CallResponse")
            .field("payload_bytes", &self.payload.as_ref().map(Bytes::len))
            .finish()
    }
}

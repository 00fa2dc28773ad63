//! [`PendingCall`]: a call whose results an HTTP request waits for.
//!
//! Every call has a client id of its own, with the prefix of its gateway, by which [`GatewayInner::deliver`] finds the
//! call of a result. So a result without a pending call is either late (it has the prefix, and is dropped) or does not
//! belong to the gateway (it is routed on). Dropping a [`PendingCall`] that expects results cancels the call.

use std::collections::HashMap;

use bytestring::ByteString;
use parking_lot::MutexGuard;
use tokio::sync::{mpsc, oneshot};

use super::super::body_memory::{BodyError, BodyMemory, MemoryPermit};
use super::super::problem::Problem;
use super::{Gateway, GatewayInner};
use crate::component_state::{Counted, HttpCounters};
use crate::message::{Message, new_id};

/// Concurrent calls of a gateway.
const MAX_CALLS: usize = 16_384;
/// Bytes of results of one call that its client has not read, `RESULT_OVERHEAD` for each result included.
const MAX_BACKLOG_BYTES: usize = 64 * 1024 * 1024;
const RESULT_OVERHEAD: usize = 256;

/// Where the results of a call are delivered.
#[derive(Debug)]
pub(super) enum ResultSink {
    Single {
        result: oneshot::Sender<OneResult>,
        /// Covers the body of the request, until the result replaces it.
        body: Option<MemoryPermit>,
    },
    Stream(ResultStream),
}

/// The only result of a call, with the permit that covers it.
pub(in crate::http) type OneResult = Result<(Message, MemoryPermit), Problem>;

/// The backlog of results of a call that its client has not read. The channel is bounded by bytes, not by messages,
/// because results arrive in bursts.
#[derive(Debug)]
pub(super) struct ResultStream {
    results: mpsc::UnboundedSender<StreamedResult>,
    backlog: BodyMemory,
}

/// A result of a streamed call, with the permits that cover it.
#[derive(Debug)]
pub(in crate::http) struct StreamedResult {
    pub(in crate::http) message: Message,
    /// Part of the gateway's memory. Keep it until the result is written.
    pub(in crate::http) permit: MemoryPermit,
    /// Part of the call's backlog.
    _backlog_permit: MemoryPermit,
    _counted: Option<Counted>,
}

impl ResultStream {
    /// Returns `false` if the backlog or the memory is full, or if the request was dropped.
    fn send(&self, message: Message, gateway: &GatewayInner) -> bool {
        let bytes = message.weight() + RESULT_OVERHEAD;
        let (Some(_backlog_permit), Some(permit)) = (
            self.backlog.try_acquire(bytes),
            gateway.memory.try_acquire(bytes),
        ) else {
            return false;
        };
        let result = StreamedResult {
            message,
            permit,
            _backlog_permit,
            _counted: gateway.counters().map(HttpCounters::result),
        };
        self.results.send(result).is_ok()
    }
}

impl GatewayInner {
    fn calls(&self) -> MutexGuard<'_, HashMap<ByteString, ResultSink>> {
        self.calls.lock()
    }

    /// Returns a client id for a new call.
    pub(in crate::http) fn new_call(&self) -> ByteString {
        format!("{}{}", self.prefix, new_id()).into()
    }

    /// Delivers a result to its pending call. Returns a message that does not belong to this gateway. Drops a result
    /// whose request was dropped.
    pub(crate) fn deliver(&self, message: Message) -> Option<Message> {
        let mut calls = self.calls();
        match calls.remove(message.client()) {
            None => Some(message).filter(|message| !message.client().starts_with(&self.prefix)),
            // Parts of a user's own may reorder an end and the results that it counts.
            Some(waiting @ ResultSink::Single { .. }) if message.promises_results() => {
                calls.insert(message.client_topic(), waiting);
                None
            }
            Some(ResultSink::Single { result, body }) => {
                drop(body);
                let permit = self.memory.try_acquire(message.weight() + RESULT_OVERHEAD);
                let permit = permit.ok_or_else(|| Problem::from(BodyError::OutOfMemory));
                let counted = self.counters().map(HttpCounters::result);
                // The client may have disconnected.
                let _ = result.send(permit.map(|permit| (message, permit)));
                drop(counted);
                None
            }
            Some(ResultSink::Stream(stream)) => {
                let call = message.client_topic();
                // A client that reads too slowly loses its stream instead of blocking other calls.
                if stream.send(message, self) {
                    calls.insert(call, ResultSink::Stream(stream));
                }
                None
            }
        }
    }

    /// Fails all pending calls, because the component delivers no further results.
    pub(crate) fn end(&self) {
        self.calls().clear();
    }

    fn begin(&self, call: &ByteString, waiting: ResultSink) -> Result<(), Problem> {
        let mut calls = self.calls();
        if calls.len() >= MAX_CALLS {
            return Err(Problem::unavailable("too many concurrent calls"));
        }
        calls.insert(call.clone(), waiting);
        Ok(())
    }
}

/// A call whose results a request waits for. Dropping it while `is_open` cancels the call.
#[derive(Debug)]
pub(in crate::http) struct PendingCall {
    pub(in crate::http) gateway: Gateway,
    call: ByteString,
    /// Whether the call may have further results.
    pub(in crate::http) is_open: bool,
    _counted: Option<Counted>,
}

impl PendingCall {
    /// Registers a call with one result. `body` covers the body of the request until the result arrives.
    pub(in crate::http) fn single(
        gateway: &Gateway,
        call: ByteString,
        body: Option<MemoryPermit>,
    ) -> Result<(Self, oneshot::Receiver<OneResult>), Problem> {
        let (sender, receiver) = oneshot::channel();
        let result = sender;
        gateway
            .0
            .begin(&call, ResultSink::Single { result, body })?;
        Ok((Self::new(gateway, call), receiver))
    }

    /// Registers a call whose results are streamed.
    pub(in crate::http) fn stream(
        gateway: &Gateway,
        call: ByteString,
    ) -> Result<(Self, mpsc::UnboundedReceiver<StreamedResult>), Problem> {
        // Bounded by `backlog`.
        let (sender, results) = mpsc::unbounded_channel();
        let stream = ResultStream {
            results: sender,
            backlog: BodyMemory::new(MAX_BACKLOG_BYTES),
        };
        gateway.0.begin(&call, ResultSink::Stream(stream))?;
        Ok((Self::new(gateway, call), results))
    }

    fn new(gateway: &Gateway, call: ByteString) -> Self {
        Self {
            _counted: gateway.0.counters().map(HttpCounters::request),
            gateway: gateway.clone(),
            call,
            is_open: true,
        }
    }

    /// Sends the message of the call. Cancel safe.
    pub(in crate::http) async fn send(&self, message: Message) -> Result<(), Problem> {
        let gateway = &*self.gateway.0;
        let stopped = || Problem::unavailable("the component is stopping");
        let counted = gateway.counters().map(HttpCounters::unrouted);
        tokio::select! {
            biased;
            () = gateway.closed.cancelled() => Err(stopped()),
            sent = gateway.sender.send((message, counted)) => sent.map_err(|_| stopped()),
        }
    }
}

impl Drop for PendingCall {
    fn drop(&mut self) {
        self.gateway.0.calls().remove(&self.call);
        if self.is_open
            && let Some(component) = self.gateway.0.component()
        {
            component.state.cancellations.cancel(self.call.as_bytes());
        }
    }
}

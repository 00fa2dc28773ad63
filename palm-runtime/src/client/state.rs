//! [`ClientState`] owns the connections of a client.
//!
//! [`Client::close`](super::Client::close) or the drop of the last clone cancels pending calls, flushes the links and
//! says goodbye.

use std::sync::Arc;
use std::time::Duration;

use bytestring::ByteString;
use futures_util::future::join_all;
use parking_lot::Mutex;
use tokio::runtime::{Handle, RuntimeFlavor};

use super::Reader;
use super::answer_link::AnswerLink;
use super::descriptor_cache::DescriptorCache;
use super::in_flight::InFlightCalls;
use super::routes::Routes;
use super::service::ClientService;
use super::transport::Transport;
use crate::cache::Cache;
use crate::function::Steps;
use crate::link::client::ResendPolicy;
use crate::message::{FramePool, Headers};
use crate::spawn::spawn_on;
use crate::wait_cause::WaitCause;

/// Limit on the wait for acknowledgements in [`Client::close`](crate::Client::close).
pub(super) const FLUSH_TIMEOUT: Duration = Duration::from_secs(5);

/// Limit on the wait for acknowledgements once the client has ended, including those of its cancellations.
pub(super) const END_TIMEOUT: Duration = Duration::from_secs(1);

/// Limit on the time that dropping a client blocks its thread, which is usually less than a millisecond.
const DROP_TIMEOUT: Duration = Duration::from_millis(200);

/// The shared state of all clones of a client.
pub(super) struct ClientState {
    pub(super) server: String,
    pub(super) pipeline: ByteString,
    pub(super) transport: Transport,
    /// Whether calls and answers travel over links, so that the end of a job is known.
    pub(super) tracks_completion: bool,
    pub(super) answers: Arc<InFlightCalls>,
    pub(super) timeout: Duration,
    pub(super) window: usize,
    pub(super) max_message_bytes: usize,
    pub(super) memory: Mutex<FramePool>,
    /// Headers of all messages, and their encoding.
    pub(super) headers: Headers,
    pub(super) encoded_headers: Vec<u8>,
    /// The outermost layer around single calls; `None` without layers.
    pub(super) layers: Option<ClientService>,
    pub(super) cache: Cache,
    pub(super) known: Arc<DescriptorCache>,
    pub(super) routes: Routes,
    /// Why calls wait for answers, as reported by the called component.
    pub(super) callee_wait_cause: Arc<WaitCause>,
    /// `None` once the client is closed.
    pub(super) connections: Mutex<Option<OpenConnections>>,
    /// The runtime that runs the client's tasks.
    pub(super) runtime: Handle,
}

/// Shows no headers, which may contain secrets.
impl std::fmt::Debug for ClientState {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut shown = formatter.debug_struct("ClientState");
        shown.field("server", &self.server);
        shown.field("session", &self.pipeline);
        shown.finish_non_exhaustive()
    }
}

impl ClientState {
    /// Returns why calls wait for answers, if it is known.
    pub(super) fn wait_cause(&self) -> Option<String> {
        let cause = self
            .transport
            .wait_cause()
            .or_else(|| self.callee_wait_cause.get());
        cause.map(|cause| cause.to_string())
    }

    /// Returns how calls that were lost with a component are sent again.
    ///
    /// A function that the descriptor of the first component marks as `at_most_once` is not sent again. `completes`:
    /// whether the end of the call is known.
    pub(super) fn resend(&self, steps: &Steps, completes: bool) -> ResendPolicy {
        if self.known.is_at_most_once(steps) {
            ResendPolicy::IfUntransmitted
        } else if completes {
            ResendPolicy::BySender
        } else {
            ResendPolicy::ByLink
        }
    }
}

impl ClientState {
    /// Cancels all calls. Returns the open connections on the first call.
    pub(super) fn end(&self) -> Option<OpenConnections> {
        let mut open = self.connections.lock().take()?;
        self.answers.cancel_all();
        open.links.extend(self.routes.close());
        Some(open)
    }
}

impl Drop for ClientState {
    /// Says goodbye in the background.
    ///
    /// A program whose `main` ends here may end its runtime at once, and with it the task that sends the goodbye. So
    /// this blocks for a moment if other threads run that task.
    fn drop(&mut self) {
        let Some(open) = self.end() else {
            return;
        };
        let transport = self.transport.clone();
        let (done, closed) = std::sync::mpsc::channel::<()>();
        let has_threads = self.runtime.runtime_flavor() == RuntimeFlavor::MultiThread;
        let is_task = tokio::task::try_id().is_some();
        let close = async move {
            open.close(transport, END_TIMEOUT).await;
            drop(done);
        };
        spawn_on(&self.runtime, close);
        if has_threads && !is_task {
            let _ = closed.recv_timeout(DROP_TIMEOUT);
        }
    }
}

/// The links and tasks of a client until it is closed.
#[derive(Debug)]
pub(super) struct OpenConnections {
    pub(super) links: Vec<AnswerLink>,
    pub(super) tasks: Vec<Reader>,
    /// Sends cancellations. Ends when the last one is sent.
    pub(super) cancel: Reader,
}

impl OpenConnections {
    /// Waits at most `flush` for acknowledgements, and says goodbye to each component.
    pub(super) async fn close(self, transport: Transport, flush: Duration) {
        let sent = async { tokio::join!(transport.delivered(), self.cancel) };
        let _ = tokio::time::timeout(flush, sent).await;
        let links = self.links.into_iter().map(AnswerLink::into_parts);
        // The socket of a link is free once its reader is dropped.
        let links: Vec<_> = links.map(|(link, _)| link).collect();
        drop(self.tasks);
        join_all(links.iter().map(|link| link.close())).await;
    }
}

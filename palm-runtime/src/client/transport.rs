//! [`Transport`] sends calls: over a link if the component accepts one, otherwise over a PUSH socket. [`read`] receives
//! answers over a link.

use std::sync::Arc;

use bytes::Bytes;
use tokio::sync::watch;

use super::in_flight::{CloseOnDrop, InFlightCalls};
use crate::discovery::Readiness;
use crate::link::client::{LinkArrival, LinkArrivals, LinkClient, ResendPolicy};
use crate::message::{self, Batch};
use crate::part::BATCH;
use crate::socket::{Push, SocketClosed, TrySendError};

/// The outgoing connection of a client.
#[derive(Debug, Clone)]
pub(super) enum Transport {
    Sockets(Push),
    Link(Arc<LinkClient>),
}

impl Transport {
    /// Sends a batch. Waits for capacity. `resend`: as in
    /// [`LinkClient::send_all`](crate::link::client::LinkClient::send_all).
    pub(super) async fn send(
        &self,
        resend: ResendPolicy,
        batch: Batch,
    ) -> Result<(), SocketClosed> {
        match self {
            Self::Sockets(push) => {
                for frame in batch.frames() {
                    push.send(frame).await?;
                }
            }
            Self::Link(link) => {
                link.wait_for_capacity().await;
                link.send_all(resend, std::iter::once(batch));
            }
        }
        Ok(())
    }

    /// Sends the message of one call, possibly in a batch with other calls. Returns the message if the queue is full.
    pub(super) fn try_send_call(
        &self,
        resend: ResendPolicy,
        function: &str,
        frame: Bytes,
    ) -> Result<(), Bytes> {
        match self {
            // `send` reports a closed socket.
            Self::Sockets(_) => Err(frame),
            Self::Link(link) => link.try_send_call(resend, function, frame),
        }
    }

    /// Sends the message of one call, possibly in a batch with other calls. Waits for capacity.
    pub(super) async fn send_call(
        &self,
        resend: ResendPolicy,
        function: &str,
        frame: Bytes,
    ) -> Result<(), SocketClosed> {
        match self {
            Self::Sockets(push) => push.send(frame).await,
            Self::Link(link) => {
                link.send_call(resend, function, frame).await;
                Ok(())
            }
        }
    }

    /// Sends as much as there is capacity for, and leaves the rest in `batches`.
    pub(super) fn try_send(
        &self,
        resend: ResendPolicy,
        batches: &mut Vec<Batch>,
    ) -> Result<(), SocketClosed> {
        match self {
            Self::Sockets(push) => {
                let rest = std::mem::take(batches).into_iter();
                let mut rest = rest.flat_map(|batch| batch.frames());
                while let Some(frame) = rest.next() {
                    match push.try_send(frame) {
                        Ok(()) => {}
                        Err(TrySendError::Full(frame)) => {
                            batches.push(frame.into());
                            batches.extend(rest.map(Batch::from));
                            return Ok(());
                        }
                        Err(TrySendError::Closed(closed)) => return Err(closed),
                    }
                }
            }
            Self::Link(link) => {
                if link.has_capacity() {
                    link.send_all(resend, batches.drain(..));
                }
            }
        }
        Ok(())
    }

    /// Returns why the link waits, if it is known.
    pub(super) fn wait_cause(&self) -> Option<Arc<str>> {
        match self {
            Self::Sockets(_) => None,
            Self::Link(link) => link.wait_cause(),
        }
    }

    /// Waits until the peer has acknowledged everything that was sent. Returns at once without a link. Cancel safe.
    pub(super) async fn delivered(&self) {
        if let Self::Link(link) = self {
            link.acknowledged().await;
        }
    }
}

/// Drives a link and delivers each answer that it receives.
///
/// If the peer has lost its memory (a restart), incomplete calls are sent again through `calls`. `last` is the name of
/// the component if the client has discovered it; then only calls whose last step it runs are sent again.
pub(super) async fn read(
    link: Arc<LinkClient>,
    mut arrivals: LinkArrivals,
    answers: Arc<InFlightCalls>,
    calls: watch::Receiver<Option<Transport>>,
    ready: watch::Sender<Option<Readiness>>,
    last: Option<String>,
) {
    // No answer arrives after this ends, whether it returns or is dropped with its runtime. A discovered component is
    // not the only source of answers.
    let _close = last.is_none().then(|| CloseOnDrop(answers.clone()));
    let answers = &answers;
    let receive = async {
        let mut arrived = Vec::new();
        let mut consumed = Vec::new();
        loop {
            arrivals.recv_many(&mut arrived, BATCH).await;
            let mut answer_batches = Vec::new();
            for arrival in arrived.drain(..) {
                match arrival {
                    LinkArrival::Messages(received, batch) => {
                        consumed.push(received);
                        for frame in batch.frames() {
                            answers.read(&frame, None, &mut answer_batches);
                        }
                    }
                    LinkArrival::SubscriptionsReady => {
                        ready.send_replace(Some(Readiness::UpstreamConnected));
                    }
                    LinkArrival::Renewed => {
                        answers.deliver(std::mem::take(&mut answer_batches)).await;
                        if let Some(Transport::Link(calls)) = &*calls.borrow() {
                            let mut frames = answers.incomplete_frames();
                            if let Some(last) = &last {
                                frames.retain(|frame| is_answered_by(frame, last));
                            }
                            tracing::info!(calls = frames.len(), "sending incomplete calls again");
                            calls.send_all(
                                ResendPolicy::BySender,
                                frames.into_iter().map(Batch::from),
                            );
                        }
                    }
                }
            }
            answers.deliver(answer_batches).await;
            link.consume(consumed.drain(..));
        }
    };
    let opened = async {
        link.opened().await;
        report_opened(&ready);
        std::future::pending().await
    };
    tokio::select! {
        ended = link.drive_with(receive) => {
            if let Err(error) = ended {
                tracing::error!(%error, "link failed");
            }
        }
        () = opened => {}
    }
}

/// Returns whether the component called `name` runs the last step of a message.
fn is_answered_by(frame: &Bytes, name: &str) -> bool {
    let function = message::answer(frame).map_or("", |it| it.function);
    let last = function.split_whitespace().next_back().unwrap_or_default();
    last.split_once('.')
        .is_some_and(|(server, _)| server == name)
}

/// Reports that the peer has answered, unless it has reported more.
fn report_opened(ready: &watch::Sender<Option<Readiness>>) {
    ready.send_if_modified(|said| said.is_none() && said.replace(Readiness::Subscribed).is_none());
}

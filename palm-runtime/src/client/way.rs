//! How calls go out and answers come in: over a link where one is offered, and over PUSH and SUB
//! otherwise.

use std::sync::Arc;

use bytes::Bytes;
use tokio::sync::watch;

use super::answers::{AnswerBatch, InFlightCalls};
use crate::discovery::Readiness;
use crate::link::connection::{Arrival, Arrivals, Link, Resend};
use crate::message::{self, Group};
use crate::part::BATCH;
use crate::socket::{Push, SocketClosed, TrySendError};

/// How calls go out.
#[derive(Debug, Clone)]
pub(super) enum Transport {
    Sockets(Push),
    Link(Arc<Link>),
}

impl Transport {
    /// Sends messages; waits for room. `resend`: as in [`Link::send_all`].
    pub(super) async fn send(&self, resend: Resend, group: Group) -> Result<(), SocketClosed> {
        match self {
            Self::Sockets(push) => {
                for frame in group.frames() {
                    push.send(frame).await?;
                }
            }
            Self::Link(link) => {
                link.room().await;
                link.send_all(resend, std::iter::once(group));
            }
        }
        Ok(())
    }

    /// Sends messages as far as there is room; what there is none for is left.
    pub(super) fn try_send(
        &self,
        resend: Resend,
        groups: &mut Vec<Group>,
    ) -> Result<(), SocketClosed> {
        match self {
            Self::Sockets(push) => {
                let rest = std::mem::take(groups).into_iter();
                let mut rest = rest.flat_map(|group| group.frames());
                while let Some(frame) = rest.next() {
                    match push.try_send(frame) {
                        Ok(()) => {}
                        Err(TrySendError::Full(frame)) => {
                            groups.push(frame.into());
                            groups.extend(rest.map(Group::from));
                            return Ok(());
                        }
                        Err(TrySendError::Closed(closed)) => return Err(closed),
                    }
                }
            }
            Self::Link(link) => {
                if link.has_room() {
                    link.send_all(resend, groups.drain(..));
                }
            }
        }
        Ok(())
    }

    /// Why nothing comes or goes, if that is known.
    pub(super) fn wait_cause(&self) -> Option<Arc<str>> {
        match self {
            Self::Sockets(_) => None,
            Self::Link(link) => link.wait_cause(),
        }
    }

    /// Waits until the other side has what was sent, where that is known. Cancel safe.
    pub(super) async fn delivered(&self) {
        if let Self::Link(link) = self {
            link.acknowledged().await;
        }
    }
}

/// Keeps a link up, and gives each answer that comes over it to its call. What is lost with the other
/// side's memory is sent again by `calls`; `last`: if it is that of this component, which the client has found.
pub(super) async fn read(
    link: Arc<Link>,
    mut arrivals: Arrivals,
    answers: Arc<InFlightCalls>,
    calls: watch::Receiver<Option<Transport>>,
    ready: watch::Sender<Option<Readiness>>,
    last: Option<String>,
) {
    // However this ends, also with its runtime, no further answer comes. There may be other last components.
    let _close = last.is_none().then(|| CloseOnDrop(answers.clone()));
    let answers = &answers;
    let receive = async {
        let mut batch = Vec::new();
        let mut consumed = Vec::new();
        while arrivals.recv_many(&mut batch, BATCH).await > 0 {
            let mut batches = Vec::new();
            for arrival in batch.drain(..) {
                match arrival {
                    Arrival::Messages(received, group) => {
                        consumed.push(received);
                        for frame in group.frames() {
                            AnswerBatch::read(&frame, None, &mut batches);
                        }
                    }
                    Arrival::InPlace => {
                        ready.send_replace(Some(Readiness::InPlace));
                    }
                    Arrival::Renewed => {
                        answers.deliver(std::mem::take(&mut batches)).await;
                        if let Some(Transport::Link(calls)) = &*calls.borrow() {
                            let mut frames = answers.incomplete_frames();
                            if let Some(last) = &last {
                                frames.retain(|frame| is_answered_by(frame, last));
                            }
                            tracing::info!("sends {} calls again", frames.len());
                            calls.send_all(Resend::BySender, frames.into_iter().map(Group::from));
                        }
                    }
                }
            }
            answers.deliver(batches).await;
            link.taken(consumed.drain(..));
        }
    };
    let opened = async {
        link.opened().await;
        report_opened(&ready);
        std::future::pending().await
    };
    tokio::select! {
        // In this task, so that answers are given on without waking another one.
        ended = link.drive() => {
            if let Err(error) = ended {
                tracing::error!(%error, "the link cannot be kept");
            }
        }
        () = receive => {}
        () = opened => {}
    }
}

/// Whether the last step of a message is one of the component called `name`.
fn is_answered_by(frame: &Bytes, name: &str) -> bool {
    let function = message::answer(frame).map_or("", |it| it.function);
    let last = function.split_whitespace().next_back().unwrap_or_default();
    last.split_once('.')
        .is_some_and(|(server, _)| server == name)
}

/// Closes the answers of a client with what reads them.
#[derive(Debug)]
pub(super) struct CloseOnDrop(pub(super) Arc<InFlightCalls>);

impl Drop for CloseOnDrop {
    fn drop(&mut self) {
        self.0.close();
    }
}

/// The other side has answered.
fn report_opened(ready: &watch::Sender<Option<Readiness>>) {
    ready.send_if_modified(|said| said.is_none() && said.replace(Readiness::Heard).is_none());
}

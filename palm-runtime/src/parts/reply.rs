//! REP: messages of peers that wait for an answer.

use std::panic::AssertUnwindSafe;
use std::time::Instant;

use bytes::Bytes;
use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;

use super::intake::{handle_feedback, scatter};
use super::whereabouts::{Given, IntoAddress, Opened};
use crate::error::{BoxError, chain};
use crate::message::Message;
use crate::metrics::PartCounters;
use crate::part::{Inbound, InboundHooks, NoHooks, OpenError, Outlet, Setup};
use crate::socket::{Reply, Responder, SocketError};

/// Requests that wait for their answers at once; further ones wait in the socket.
const CONCURRENCY: usize = 1000;

/// What a request is answered that is no message.
const MALFORMED: Bytes = Bytes::from_static(b"0");

/// Takes messages from REQ peers and answers each: with the outbound part's answer where it is
/// registered with `block`, with `1` otherwise. Announced as `rep_address`.
#[derive(Debug)]
pub struct RepService<H = NoHooks> {
    address: Given,
    hooks: H,
    opened: Option<(Reply, Opened)>,
}

impl RepService {
    /// Binds `address`.
    pub fn bind(address: impl IntoAddress) -> Self {
        Self {
            address: address.into_address(),
            hooks: NoHooks,
            opened: None,
        }
    }
}

impl<H> RepService<H> {
    /// Runs `hooks` on each message.
    pub fn hooks<G: InboundHooks>(self, hooks: G) -> RepService<G> {
        RepService {
            address: self.address,
            hooks,
            opened: None,
        }
    }
}

impl<H: InboundHooks> Inbound for RepService<H> {
    async fn open(&mut self, setup: &mut Setup<'_>) -> Result<(), OpenError> {
        let address = self.address.clone().map_err(SocketError::from)?;
        let (reply, bound) = Reply::bind(&address, setup.options).await?;
        setup.announce("rep_address", &bound);
        self.opened = Some((reply, Opened::of(setup)));
        Ok(())
    }

    async fn run(mut self, outlet: Outlet) -> Result<(), BoxError> {
        let (mut reply, opened) = self.opened.expect("a part is opened before it runs");
        let Opened {
            context, counters, ..
        } = opened;
        let mut waiting = FuturesUnordered::new();
        while outlet.left() > 0 {
            let (frames, responder) = tokio::select! {
                biased;
                () = outlet.stopped() => break,
                Some((answer, responder)) = waiting.next() => {
                    answer_peer(&mut self.hooks, answer, responder, &counters);
                    continue;
                }
                request = reply.recv(), if waiting.len() < CONCURRENCY => request?,
            };
            outlet.take(1);
            counters.count(1, frames.iter().map(Bytes::len).sum());
            let since = Instant::now();
            let message = match &frames[..] {
                [frame] => Message::decode(frame.clone()).map_err(|error| chain(&error)),
                frames => Err(format!("it has {} frames", frames.len())),
            };
            let mut message = match message {
                Ok(message) => message,
                Err(cause) => {
                    counters.count_error();
                    tracing::warn!("a peer sent what is no message: {cause}");
                    answer_peer(&mut self.hooks, MALFORMED, responder, &counters);
                    continue;
                }
            };
            if H::SCATTERS {
                let answer = scatter(&mut self.hooks, &context, message, &outlet, since).await;
                let answer = answer.unwrap_or(MALFORMED);
                answer_peer(&mut self.hooks, answer, responder, &counters);
            } else {
                message.ensure_id();
                let outlet = &outlet;
                waiting.push(async move { (outlet.send_since(message, since).await, responder) });
            }
        }
        while let Some((answer, responder)) = waiting.next().await {
            answer_peer(&mut self.hooks, answer, responder, &counters);
        }
        drop(waiting);
        reply.close(outlet.stop.linger()).await;
        Ok(())
    }
}

fn answer_peer<H: InboundHooks>(
    hooks: &mut H,
    feedback: Bytes,
    responder: Responder,
    counters: &PartCounters,
) {
    handle_feedback(hooks, &feedback);
    let hook = AssertUnwindSafe(|| hooks.reply_feedback(feedback));
    let answer = std::panic::catch_unwind(hook).unwrap_or_else(|_| {
        tracing::error!("reply_feedback panicked");
        MALFORMED
    });
    if responder.reply(answer).is_err() {
        counters.count_dropped(1);
        tracing::warn!("a peer reads none of its replies; one is lost");
    }
}

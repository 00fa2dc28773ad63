//! Sends the messages of a job: looks up the function, encodes arguments while the window is open, and sends them in
//! batches.

use std::fmt::Write as _;
use std::task::{Context, Poll, ready};

use futures_core::future::BoxFuture;
use futures_util::{FutureExt as _, StreamExt as _};

use super::Job;
use crate::client::CallError;
use crate::client::encode::extensions;
use crate::clock;
use crate::link::client::ResendPolicy;
use crate::message::{Batch, Deadline, Share};
use crate::part::BATCH;

/// The state of the lookup before the first message.
pub(super) enum Precheck {
    Due,
    Running(BoxFuture<'static, Result<(), CallError>>),
    Done,
}

impl<Value> Job<'_, Value> {
    /// Sends as many messages as the window and the transport allow. Returns `Ready` once all arguments are sent, or
    /// with an error.
    pub(super) fn poll_send(&mut self, context: &mut Context<'_>) -> Poll<Result<(), CallError>> {
        if self.steps.is_none() {
            return Poll::Ready(Ok(()));
        }
        ready!(self.poll_check(context))?;
        ready!(self.poll_sending(context))?;
        let steps = self.steps.as_ref();
        let completes = self.is_tracked();
        let resend = steps.map_or(ResendPolicy::ByLink, |it| {
            self.client.0.resend(it, completes)
        });
        let repeats = resend == ResendPolicy::BySender;
        let filled = self.poll_fill(repeats, context);
        self.close_batch(repeats);
        if !self.batches.is_empty() {
            let transport = &self.client.0.transport;
            let sent = transport.try_send(resend, &mut self.batches);
            sent.map_err(|_| CallError::Closed)?;
            if !self.batches.is_empty() {
                let (transport, batches) = (transport.clone(), std::mem::take(&mut self.batches));
                self.sending = Some(Box::pin(async move {
                    for batch in batches {
                        transport.send(resend, batch).await?;
                    }
                    Ok(())
                }));
                ready!(self.poll_sending(context))?;
            }
        }
        ready!(filled)?;
        let is_unanswered = self.left == Some(0) && self.window.taken == 0;
        if is_unanswered && !std::mem::replace(&mut self.all_sent, true) {
            // No answer will confirm that the messages have arrived, and the program may exit as soon as the job ends.
            let transport = self.client.0.transport.clone();
            self.sending = Some(Box::pin(async move {
                transport.delivered().await;
                Ok(())
            }));
            ready!(self.poll_sending(context))?;
        }
        Poll::Ready(Ok(()))
    }

    /// Looks up the function and the component that answers, unless both are known.
    fn poll_check(&mut self, context: &mut Context<'_>) -> Poll<Result<(), CallError>> {
        if let (Precheck::Due, Some(steps)) = (&self.check, &self.steps) {
            let connection = &self.client.0;
            if self.left.is_none() && !connection.tracks_completion {
                let function = self.called();
                self.check = Precheck::Done;
                return Poll::Ready(Err(CallError::Completion { function }));
            }
            let may_not_complete = self.is_tracked() && connection.known.may_run_unlisted(steps);
            let is_known = connection.known.has(steps) && !connection.routes.needs_search(steps);
            self.check = if is_known && !may_not_complete {
                Precheck::Done
            } else {
                let limit = self.timeout / 4 * 3;
                let (client, steps) = (self.client.clone(), steps.clone());
                let check = async move {
                    client.0.known.check(&steps).await?;
                    if may_not_complete {
                        client.0.known.check_completion(&steps).await?;
                    }
                    client.0.routes.ensure(&steps, limit).await
                };
                Precheck::Running(check.boxed())
            };
        }
        if let Precheck::Running(check) = &mut self.check {
            let checked = ready!(check.as_mut().poll(context));
            self.check = Precheck::Done;
            // The lookup does not count as idle time.
            self.progress = true;
            checked?;
        }
        Poll::Ready(Ok(()))
    }

    fn poll_sending(&mut self, context: &mut Context<'_>) -> Poll<Result<(), CallError>> {
        if let Some(sending) = &mut self.sending {
            let sent = ready!(sending.as_mut().poll(context));
            self.sending = None;
            sent.map_err(|_| CallError::Closed)?;
        }
        Poll::Ready(Ok(()))
    }

    /// Encodes the next messages. Returns `Ready` once there are no further arguments, or with an error. `repeats`:
    /// whether lost messages are sent again.
    fn poll_fill(
        &mut self,
        repeats: bool,
        context: &mut Context<'_>,
    ) -> Poll<Result<(), CallError>> {
        let is_tracked = self.is_tracked();
        let under_way = |job: &Self| job.inputs.lock().under_way() + job.builder.len() as u64;
        let mut open = is_tracked.then(|| under_way(self));
        for _ in 0..BATCH {
            if open.is_some_and(|open| open >= self.window.len) {
                // Some inputs may have completed meanwhile.
                open = Some(under_way(self));
            }
            let (Some(payloads), Some(steps)) = (&mut self.payloads, &self.steps) else {
                return Poll::Ready(Ok(()));
            };
            ready!(self.window.poll_open(open, context));
            let Some(payload) = ready!(payloads.poll_next_unpin(context)) else {
                self.payloads = None;
                return Poll::Ready(Ok(()));
            };
            let number = self.window.sent;
            if !self.same_id {
                self.id.truncate(self.topic.text.len());
                let _ = write!(self.id, "/{number}");
            }
            let payload = payload.map_err(|source| CallError::encode(steps, source))?;
            let deadline = self
                .deadline
                .map(|time| Deadline::after(time, clock::wall()));
            let share = is_tracked.then(|| Share::from_input(number));
            let mut memory = [0; 40];
            let extensions = extensions(deadline, share, &self.more, &mut memory);
            let (topic, id) = (&self.topic.text, &self.id);
            let (content, len) = self
                .client
                .content(steps, topic, id, &extensions, &payload)?;
            // Each message of a batch must have an id.
            let most = if id.is_empty() { 0 } else { BATCH };
            if self.builder.has_capacity(len, most) {
                self.builder.push(content, len);
            } else {
                let frame = self.client.frame(content);
                self.close_batch(repeats);
                self.push_batch(frame.into(), repeats);
            }
            self.window.sent += 1;
            open = open.map(|open| open + 1);
            self.topic.set_awaited(true);
            // The job is not idle while it sends.
            self.progress = true;
        }
        // Let other tasks run, then continue.
        context.waker().wake_by_ref();
        Poll::Pending
    }

    /// Queues the current batch.
    fn close_batch(&mut self, repeats: bool) {
        if let Some(batch) = self.builder.take() {
            self.push_batch(batch, repeats);
        }
    }

    fn push_batch(&mut self, batch: Batch, repeats: bool) {
        if self.is_tracked() {
            let mut inputs = self.inputs.lock();
            for (input, frame) in (self.begun..).zip(batch.frames()) {
                inputs.start(input, repeats.then_some(frame));
            }
        }
        self.begun += batch.len() as u64;
        self.batches.push(batch);
    }
}

//! Sends messages over a link, with a limit on those that the peer has not acknowledged.

use std::time::{Duration, Instant};

use bytes::Bytes;

use super::{ClientState, LinkClient, ResendPolicy};
use crate::clock;
use crate::link::session::{TaggedBatch, message_count};
use crate::link::{header, write_by};
use crate::message::Batch;
use crate::socket::TrySendError;

/// Limits on the unacknowledged messages of this side and on their bytes. Senders wait at either limit.
pub(super) const OUTBOX_LIMIT: (usize, usize) = (10_000, 64 * 1024 * 1024);

/// Time after which the acknowledgements of a disconnected peer are no longer awaited.
const DISCONNECTED_TIMEOUT: Duration = Duration::from_secs(1);

impl LinkClient {
    /// Returns whether further messages may be sent without exceeding [`OUTBOX_LIMIT`].
    pub(crate) fn has_capacity(&self) -> bool {
        self.state().has_capacity()
    }

    /// Returns whether a message is best sent at once, because hardly any other would share its batch.
    pub(crate) fn is_quiet(&self) -> bool {
        self.state().session.is_quiet()
    }

    /// Waits until further messages may be sent without exceeding [`OUTBOX_LIMIT`]. Cancel safe.
    pub(crate) async fn wait_for_capacity(&self) {
        self.wait_for_progress(ClientState::has_capacity).await;
    }

    /// Waits until the peer has acknowledged all messages. Cancel safe.
    pub(crate) async fn acknowledged(&self) {
        self.wait_for_progress(|state| {
            state.next_session.is_empty()
                && state.calls.is_empty()
                && (state.session.is_over() || state.session.is_acknowledged())
        })
        .await;
    }

    /// Waits as [`acknowledged`](Self::acknowledged), but no longer than [`DISCONNECTED_TIMEOUT`] for a disconnected
    /// peer. Cancel safe.
    pub(crate) async fn acknowledged_or_gone(&self) {
        let gone = async {
            loop {
                self.wait_until(|state| !state.is_connected()).await;
                let connected = self.wait_until(ClientState::is_connected);
                let back = tokio::time::timeout(DISCONNECTED_TIMEOUT, connected);
                if back.await.is_err() {
                    return;
                }
            }
        };
        tokio::select! {
            () = self.acknowledged() => {}
            () = gone => {}
        }
    }

    /// Queues messages. Those that one session does not deliver move to the next one, as `resend` says.
    pub(crate) fn send_all(&self, resend: ResendPolicy, messages: impl Iterator<Item = Batch>) {
        let now = clock::now();
        let mut state = self.state();
        state.submit_calls(now);
        for batch in messages {
            state.send_or_keep(TaggedBatch::from_batch(resend.tag(), 0, batch), now);
        }
        state.flush(now);
    }

    /// Queues the message of one call, like [`send_all`](Self::send_all). Waits for capacity. Cancel safe.
    ///
    /// Unless the session is [quiet](crate::link::session::Session::is_quiet), the message waits for a batch: the task
    /// that [`drive`](Self::drive)s the link yields once, so that other tasks can add their calls, and then sends the
    /// batch. `function` is the text of the steps.
    pub(crate) async fn send_call(&self, resend: ResendPolicy, function: &str, mut frame: Bytes) {
        while let Err(unsent) = self.try_send_call(resend, function, frame) {
            frame = unsent;
            self.wait_for_capacity().await;
        }
    }

    /// Like [`send_call`](Self::send_call), but returns the message if the queue is full.
    pub(crate) fn try_send_call(
        &self,
        resend: ResendPolicy,
        function: &str,
        frame: Bytes,
    ) -> Result<(), Bytes> {
        let mut state = self.state();
        if !state.has_capacity() {
            return Err(frame);
        }
        let now = clock::now();
        if state.session.is_quiet() {
            state.submit_calls(now);
            let item = TaggedBatch::from_batch(resend.tag(), 0, frame.into());
            state.send_or_keep(item, now);
            state.flush(now);
            return Ok(());
        }
        // While calls wait for the next flush, the driving task has been woken for it.
        let is_first = state.calls.is_empty();
        state.add_call(resend, function, frame, now);
        drop(state);
        if is_first {
            self.calls_added.notify_one();
        }
        Ok(())
    }
}

impl ClientState {
    fn has_capacity(&self) -> bool {
        let (unacknowledged, bytes) = self.session.unacknowledged();
        unacknowledged + message_count(&self.next_session) < OUTBOX_LIMIT.0
            && bytes < OUTBOX_LIMIT.1
    }

    /// Queues a message for this session, or for the next one if this one accepts no further messages.
    fn send_or_keep(&mut self, item: TaggedBatch, now: Instant) {
        if self.peer_is_draining || self.session.is_over() {
            self.next_session.push_back(item);
        } else {
            self.session.submit(item, now);
        }
    }

    /// Adds the message of a call to the batch of the next flush.
    fn add_call(&mut self, resend: ResendPolicy, function: &str, frame: Bytes, now: Instant) {
        if self.calls.add(resend, function, &frame) {
            return;
        }
        self.submit_calls(now);
        if !self.calls.add(resend, function, &frame) {
            self.send_or_keep(TaggedBatch::from_batch(resend.tag(), 0, frame.into()), now);
        }
    }

    fn submit_calls(&mut self, now: Instant) {
        if let Some(item) = self.calls.take() {
            self.send_or_keep(item, now);
        }
    }

    pub(super) fn flush(&mut self, now: Instant) {
        self.submit_calls(now);
        while let Some(transmission) = self.session.transmit(now) {
            let first = transmission.header.first;
            let header = header::encode(&transmission.header);
            if !self.send(header, transmission.frames) {
                // Without a connection, or with a full queue, the session repeats the transmission later.
                self.session.retry_from(first);
                break;
            }
        }
    }

    pub(super) fn send(&self, header: Bytes, frames: Vec<Bytes>) -> bool {
        let Some(dealer) = &self.dealer else {
            return false;
        };
        let by = write_by(&self.session, &frames);
        let message = std::iter::once(header).chain(frames).collect();
        !matches!(dealer.try_send(message, by), Err(TrySendError::Full(_)))
    }
}

//! [`SendWindow`] bounds the messages of a job that are in flight.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::time::Instant;

use super::timer::LazyTimer;

/// Time without an answer until the messages in flight count as answered.
const ANSWER_TIMEOUT: Duration = Duration::from_millis(200);

/// Decides how many more messages may be sent before answers arrive.
///
/// If the job does not track completion, a function that answers only some messages would use the window up. So if no
/// answer arrives for [`ANSWER_TIMEOUT`], the messages in flight count as answered.
pub(super) struct SendWindow {
    pub(super) len: u64,
    pub(super) sent: u64,
    /// Answers that the client's reader has received.
    pub(super) received: Arc<AtomicU64>,
    /// Answers that the job has yielded.
    pub(super) taken: u64,
    /// Errors among the yielded answers.
    pub(super) failed: u64,
    /// Messages that count as answered although no answer arrived.
    pub(super) forgiven: u64,
    pub(super) timer: LazyTimer,
    /// The value of `received` when `timer` was set.
    pub(super) waiting_at: Option<u64>,
}

impl SendWindow {
    /// Returns `Ready` if one more message may be sent. `open`: the number of incomplete inputs, if it is tracked.
    pub(super) fn poll_open(&mut self, open: Option<u64>, context: &mut Context<'_>) -> Poll<()> {
        let received = self.received.load(Ordering::Relaxed);
        if let Some(open) = open {
            let untaken = received.saturating_sub(self.taken);
            // Either an answer will arrive or one can be received. Both wake the job.
            return match open + untaken < self.len {
                true => Poll::Ready(()),
                false => Poll::Pending,
            };
        }
        let under_way = self.sent.saturating_sub(received + self.forgiven);
        // Unread answers count as in flight, so that a slow consumer is not flooded.
        let untaken = received.saturating_sub(self.taken);
        if under_way + untaken < self.len {
            self.waiting_at = None;
            return Poll::Ready(());
        }
        if self.waiting_at != Some(received) {
            self.waiting_at = Some(received);
            self.timer.set(Instant::now() + ANSWER_TIMEOUT);
        }
        ready!(self.timer.poll(context));
        self.waiting_at = None;
        self.forgiven += under_way;
        if untaken < self.len {
            return Poll::Ready(());
        }
        // Unread answers keep the window closed. The consumer reads them next.
        Poll::Pending
    }
}

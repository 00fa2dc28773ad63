//! The upstream components that a component is not connected to yet.

use tokio::sync::watch;

/// Counts the streams that a component follows and is not connected to yet.
#[derive(Debug, Default)]
pub(crate) struct FollowedStreams(watch::Sender<usize>);

impl FollowedStreams {
    pub(crate) fn expect_one_more(&self) {
        self.0.send_modify(|missing| *missing += 1);
    }

    pub(crate) fn one_is_in_place(&self) {
        self.0
            .send_modify(|missing| *missing = missing.saturating_sub(1));
    }

    pub(crate) fn are_in_place(&self) -> bool {
        *self.0.borrow() == 0
    }

    /// Waits until all streams are connected. Cancel safe.
    pub(crate) async fn in_place(&self) {
        // An error is impossible: `self` keeps the sender.
        let _ = self.0.subscribe().wait_for(|missing| *missing == 0).await;
    }
}

//! The part by which a worker learns from its master that callers have given up.

use super::whereabouts::{Opened, Whereabouts};
use crate::cancel::CANCEL_TOPIC;
use crate::error::BoxError;
use crate::part::{BATCH, Bypass, OpenError, Setup, Stop};
use crate::socket::{Publication, Subscribe};

/// Follows the cancellations that a master publishes.
#[derive(Debug)]
pub(crate) struct CancelConnection {
    whereabouts: Whereabouts,
    opened: Option<Opened>,
}

impl CancelConnection {
    /// To where a master publishes.
    pub(crate) fn to(whereabouts: Whereabouts) -> Self {
        Self {
            whereabouts,
            opened: None,
        }
    }
}

impl Bypass for CancelConnection {
    async fn open(&mut self, setup: &mut Setup<'_>) -> Result<(), OpenError> {
        self.opened = Some(self.whereabouts.open(setup)?);
        Ok(())
    }

    async fn run(self, stop: Stop) -> Result<(), BoxError> {
        let opened = self.opened.expect("a part is opened before it runs");
        let locate = async {
            // A master that is put together by hand may publish nothing.
            if !self.whereabouts.exists().await {
                std::future::pending::<()>().await;
            }
            self.whereabouts.locate().await
        };
        let address = tokio::select! {
            () = stop.stopped() => return Ok(()),
            address = locate => address?,
        };
        let mut subscribe = Subscribe::connect(&address, &opened.options).await?;
        subscribe.subscribe(CANCEL_TOPIC).await?;
        let _following = self.whereabouts.follow(subscribe.peers(), address, |_| {});
        let take = async {
            let mut publications = Vec::new();
            loop {
                if let Err(closed) = subscribe.recv_many(&mut publications, BATCH).await {
                    return closed;
                }
                for Publication { topic, body } in publications.drain(..) {
                    if let (CANCEL_TOPIC, Some(list)) = (&*topic, body) {
                        opened.shared.cancellations.cancel(&list);
                    }
                }
            }
        };
        tokio::select! {
            () = stop.stopped() => {}
            closed = take => return Err(closed.into()),
        }
        subscribe.close().await;
        Ok(())
    }
}

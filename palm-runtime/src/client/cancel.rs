//! Sends cancellations of calls to the first component.

use std::sync::Arc;
use std::time::Duration;

use bytestring::ByteString;
use tokio::sync::mpsc;

use super::descriptor_cache::DescriptorCache;
use crate::discovery::ControlVerb;
use crate::socket::Request;

/// Most cancellations in one request.
const BATCH: usize = 256;

/// Limit on the wait for the component's confirmation.
const CANCEL_TIMEOUT: Duration = Duration::from_secs(5);

/// Sends the topics of cancelled calls to the first component, as requests, so that they overtake queued calls. A legacy
/// peer does not support cancellations and receives none.
pub(super) async fn send_cancellations(
    request: Request,
    known: Arc<DescriptorCache>,
    mut topics: mpsc::Receiver<ByteString>,
) {
    let mut batch = Vec::new();
    while topics.recv_many(&mut batch, BATCH).await > 0 {
        let list = batch.join("\n");
        batch.clear();
        let Some(descriptor) = known.descriptor() else {
            continue;
        };
        let message = ControlVerb::Cancel.request(&descriptor.name, list.into());
        if let Err(error) = request.request(message, CANCEL_TIMEOUT).await {
            tracing::debug!(%error, "could not send cancellations");
        }
    }
}

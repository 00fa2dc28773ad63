//! How components get to know of calls that are given up before they are answered.

use std::sync::Arc;
use std::time::Duration;

use bytestring::ByteString;
use tokio::sync::mpsc;

use super::known::DescriptorCache;
use crate::discovery::ControlVerb;
use crate::socket::Request;

/// Calls that are told of at once.
const BATCH: usize = 256;

/// How long the component may take to say that it has heard.
const CANCEL_TIMEOUT: Duration = Duration::from_secs(5);

/// Tells the first component which calls were given up, ahead of all that is queued for it. One of old
/// would not understand.
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
            tracing::debug!(%error, "the component was not told of calls that were given up");
        }
    }
}

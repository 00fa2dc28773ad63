//! How a subscriber learns that its subscriptions, and those of all components upstream, are active.
//!
//! A subscription to a topic that starts with [`READY_PREFIX`] is answered under that topic (`proto/README.md`, part 2).
//! A legacy publisher never publishes under such a topic.

use std::time::Duration;

use bytes::Bytes;
use tokio::sync::watch;
use tokio::time::timeout;

pub(crate) const READY_PREFIX: &[u8] = b"\0palm.ready.";

/// A legacy publisher does not answer. Its subscription is assumed to be active after this time.
const LEGACY_TIMEOUT: Duration = Duration::from_millis(250);
/// Time for which a subscriber waits for the components upstream of its publisher, one of which may never start.
pub(crate) const UPSTREAM_TIMEOUT: Duration = Duration::from_secs(2);

/// Returns the topic by which the subscriber `id` queries whether its earlier subscriptions are active.
pub(crate) fn ready_topic(id: &str) -> Bytes {
    [READY_PREFIX, id.as_bytes()].concat().into()
}

/// The answer of a publisher under such a topic.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Readiness {
    /// The subscription is active, but the publisher is not connected to its own upstream yet.
    Subscribed,
    /// The publisher is also connected upstream.
    UpstreamConnected,
}

impl Readiness {
    pub(crate) fn body(self) -> Bytes {
        match self {
            Self::Subscribed => Bytes::from_static(b"heard"),
            Self::UpstreamConnected => Bytes::new(),
        }
    }

    /// Decodes a publication, if it is under such a topic.
    pub(crate) fn from_publication(topic: &[u8], body: Option<&Bytes>) -> Option<Self> {
        if !topic.starts_with(READY_PREFIX) {
            return None;
        }
        match body {
            Some(body) if !body.is_empty() => Some(Self::Subscribed),
            _ => Some(Self::UpstreamConnected),
        }
    }
}

/// Waits until the publisher reports that it is connected upstream, or the timeouts have passed. Cancel safe.
pub(crate) async fn until_upstream_connected(mut readiness: watch::Receiver<Option<Readiness>>) {
    let heard = timeout(LEGACY_TIMEOUT, readiness.wait_for(Option::is_some)).await;
    if heard
        .is_ok_and(|heard| heard.is_ok_and(|readiness| *readiness == Some(Readiness::Subscribed)))
    {
        let connected =
            readiness.wait_for(|readiness| *readiness == Some(Readiness::UpstreamConnected));
        if timeout(UPSTREAM_TIMEOUT, connected).await.is_err() {
            tracing::warn!("a component downstream is still not connected to its upstream");
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::Instant;

    use super::*;

    async fn check(reports: &[Readiness], after: Duration, waited: Duration) {
        let (readiness, reported) = watch::channel(None);
        let start = Instant::now();
        let report = async {
            for ready in reports {
                tokio::time::sleep(after).await;
                readiness.send_replace(Some(*ready));
            }
            std::future::pending::<()>().await;
        };
        tokio::select! {
            () = until_upstream_connected(reported) => {}
            () = report => {}
        }
        assert_eq!(start.elapsed().as_millis(), waited.as_millis());
    }

    #[tokio::test(start_paused = true)]
    async fn wait_for_a_publisher_is_bounded_by_its_answers() {
        let soon = Duration::from_millis(10);
        check(&[Readiness::UpstreamConnected], soon, soon).await;
        check(
            &[Readiness::Subscribed, Readiness::UpstreamConnected],
            soon,
            2 * soon,
        )
        .await;
        check(&[Readiness::Subscribed], soon, soon + UPSTREAM_TIMEOUT).await;
        check(&[], soon, LEGACY_TIMEOUT).await;
    }
}

//! How a subscriber learns that what it asked for is in place, and what comes before it as well.
//!
//! A subscription to a topic that begins with [`READY_PREFIX`] is answered under that topic. Part 2 of
//! the protocol, see `proto/README.md`; a publisher of old never sends anything under such a topic.

use std::time::Duration;

use bytes::Bytes;
use tokio::sync::watch;
use tokio::time::timeout;

pub(crate) const READY_PREFIX: &[u8] = b"\0palm.ready.";

/// A publisher of pylm says nothing; it has heard a subscription when it had this time for it.
const SILENCE: Duration = Duration::from_millis(250);
/// How long the streams that a publisher follows itself are waited for. One of several may be missing
/// for good.
pub(crate) const STREAMS: Duration = Duration::from_secs(2);

/// The topic that asks whether all that the subscriber `id` asked for before is in place.
pub(crate) fn ready_topic(id: &str) -> Bytes {
    [READY_PREFIX, id.as_bytes()].concat().into()
}

/// What a publisher says under such a topic.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Readiness {
    /// It has heard, but what it follows itself is not in place yet.
    Heard,
    InPlace,
}

impl Readiness {
    pub(crate) fn body(self) -> Bytes {
        match self {
            Self::Heard => Bytes::from_static(b"heard"),
            Self::InPlace => Bytes::new(),
        }
    }

    /// What a publication says, if it is under such a topic.
    pub(crate) fn from_publication(topic: &[u8], body: Option<&Bytes>) -> Option<Self> {
        if !topic.starts_with(READY_PREFIX) {
            return None;
        }
        match body {
            Some(body) if !body.is_empty() => Some(Self::Heard),
            _ => Some(Self::InPlace),
        }
    }
}

/// Waits until the publisher says that all is in place, or can be taken to mean that. Cancel safe.
pub(crate) async fn until_in_place(mut said: watch::Receiver<Option<Readiness>>) {
    let heard = timeout(SILENCE, said.wait_for(Option::is_some)).await;
    if heard.is_ok_and(|heard| heard.is_ok_and(|said| *said == Some(Readiness::Heard))) {
        let in_place = said.wait_for(|said| *said == Some(Readiness::InPlace));
        if timeout(STREAMS, in_place).await.is_err() {
            tracing::warn!("a component further on still waits for a stream that it follows");
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::Instant;

    use super::*;

    async fn check(says: &[Readiness], after: Duration, waited: Duration) {
        let (said, saying) = watch::channel(None);
        let start = Instant::now();
        let say = async {
            for ready in says {
                tokio::time::sleep(after).await;
                said.send_replace(Some(*ready));
            }
            std::future::pending::<()>().await;
        };
        tokio::select! {
            () = until_in_place(saying) => {}
            () = say => {}
        }
        assert_eq!(start.elapsed().as_millis(), waited.as_millis());
    }

    #[tokio::test(start_paused = true)]
    async fn a_publisher_is_waited_for_as_long_as_it_makes_sense() {
        let soon = Duration::from_millis(10);
        check(&[Readiness::InPlace], soon, soon).await;
        check(&[Readiness::Heard, Readiness::InPlace], soon, 2 * soon).await;
        check(&[Readiness::Heard], soon, soon + STREAMS).await;
        check(&[], soon, SILENCE).await;
    }
}

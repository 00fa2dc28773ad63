//! The upstream components that a component is not connected to yet.

use std::sync::{Arc, Weak};

use tokio::sync::watch;

use crate::discovery::Endpoint;
use crate::link::client::LinkClient;
use crate::report::Role;

/// The streams that a component follows and is not connected to yet; for a worker that of its master.
#[derive(Debug, Default)]
pub(crate) struct FollowedStreams(watch::Sender<MissingStreams>);

#[derive(Debug, Default)]
struct MissingStreams {
    streams: Vec<MissingStream>,
    next: StreamId,
}

/// Identifies a stream of a component.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct StreamId(usize);

#[derive(Debug)]
#[cfg_attr(
    not(any(feature = "main", feature = "monitor")),
    allow(dead_code, reason = "nothing reports what is waited for")
)]
struct MissingStream {
    id: StreamId,
    role: Role,
    address: String,
    progress: StreamProgress,
}

/// How far the connection of a stream is.
#[derive(Debug)]
#[cfg_attr(
    not(any(feature = "main", feature = "monitor")),
    allow(dead_code, reason = "nothing reports what is waited for")
)]
enum StreamProgress {
    /// The component upstream has not answered.
    Searching(Endpoint),
    /// Its link is not open.
    Opening(Weak<LinkClient>),
    /// It is connected, and has not reported that it is connected to its own upstream.
    AwaitingUpstream,
}

#[cfg(any(feature = "main", feature = "monitor"))]
impl StreamProgress {
    fn wait_cause(&self) -> Option<Arc<str>> {
        match self {
            Self::Searching(endpoint) => endpoint.wait_cause(),
            Self::Opening(link) => link.upgrade()?.wait_cause(),
            Self::AwaitingUpstream => {
                Some("it is not connected to its own upstream component".into())
            }
        }
    }
}

impl FollowedStreams {
    /// Adds a stream that the component is not ready without.
    pub(crate) fn expect(&self, role: Role, endpoint: &Endpoint) -> StreamId {
        let mut id = StreamId::default();
        self.0.send_modify(|missing| {
            id = missing.next;
            missing.next.0 += 1;
            missing.streams.push(MissingStream {
                id,
                role,
                address: endpoint.upstream_address(),
                progress: StreamProgress::Searching(endpoint.clone()),
            });
        });
        id
    }

    /// The component upstream has answered, and this link to it is being opened.
    pub(crate) fn is_opening(&self, id: StreamId, link: &Arc<LinkClient>) {
        self.advance(id, StreamProgress::Opening(Arc::downgrade(link)));
    }

    /// The component upstream is connected, but may still wait for its own upstream.
    pub(crate) fn awaits_upstream(&self, id: StreamId) {
        self.advance(id, StreamProgress::AwaitingUpstream);
    }

    fn advance(&self, id: StreamId, progress: StreamProgress) {
        self.0.send_if_modified(|missing| {
            let stream = missing.streams.iter_mut().find(|stream| stream.id == id);
            if let Some(stream) = stream {
                stream.progress = progress;
            }
            // Only the number of streams is waited for.
            false
        });
    }

    /// The stream is connected. It is not expected again if the connection breaks.
    pub(crate) fn is_in_place(&self, id: StreamId) {
        self.0
            .send_modify(|missing| missing.streams.retain(|stream| stream.id != id));
    }

    pub(crate) fn are_in_place(&self) -> bool {
        self.0.borrow().streams.is_empty()
    }

    /// Waits until all streams are connected. Cancel safe.
    pub(crate) async fn in_place(&self) {
        // An error is impossible: `self` keeps the sender.
        let mut missing = self.0.subscribe();
        let _ = missing.wait_for(|missing| missing.streams.is_empty()).await;
    }

    /// Returns what the first missing stream waits for, such as `its master at tcp://10.0.0.7:5559: connection refused`.
    #[cfg(any(feature = "main", feature = "monitor"))]
    pub(crate) fn wait_cause(&self) -> Option<String> {
        let missing = self.0.borrow();
        let stream = missing.streams.first()?;
        let upstream = match stream.role {
            Role::Master => "master",
            _ => "upstream component",
        };
        let wait = format!("its {upstream} at {}", stream.address);
        Some(match stream.progress.wait_cause() {
            Some(cause) => format!("{wait}: {cause}"),
            None => wait,
        })
    }
}

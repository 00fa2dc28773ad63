//! The types of sockets.

/// The types of sockets that palm uses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Push,
    Pull,
    Publish,
    Subscribe,
    Router,
    Dealer,
}

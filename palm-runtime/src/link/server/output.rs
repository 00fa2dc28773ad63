//! Where a link server sends headers and messages.

#[cfg(test)]
use std::collections::VecDeque;

use bytes::Bytes;

use crate::link::header;
use crate::message::proto::LinkHeader;
#[cfg(test)]
use crate::socket::Frames;
use crate::socket::{RouterSender, TrySendError, WriteBy};

/// The destination of headers and messages.
#[derive(Debug)]
pub(super) enum ServerOutput {
    /// The component does not run.
    None,
    Router(RouterSender),
    #[cfg(test)]
    Recorded(VecDeque<Frames>),
}

impl ServerOutput {
    pub(super) fn is_some(&self) -> bool {
        !matches!(self, Self::None)
    }

    /// Returns `false` if the socket's queue is full.
    pub(super) fn send(
        &mut self,
        route: Bytes,
        header: &LinkHeader,
        frames: Vec<Bytes>,
        by: WriteBy,
    ) -> bool {
        let message = || {
            let head = [route, header::encode(header)];
            head.into_iter().chain(frames).collect()
        };
        match self {
            Self::None => true,
            Self::Router(router) => {
                !matches!(router.try_send(message(), by), Err(TrySendError::Full(_)))
            }
            #[cfg(test)]
            Self::Recorded(sent) => {
                sent.push_back(message());
                true
            }
        }
    }
}

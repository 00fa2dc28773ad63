//! [`LinkFactory`] opens the links of a client, and [`AnswerLink`] reads answers from one.

use std::sync::Arc;

use bytestring::ByteString;
use futures_util::FutureExt as _;
use tokio::sync::watch;
use tokio_util::task::AbortOnDropHandle;

use super::Reader;
use super::in_flight::InFlightCalls;
use super::transport::{self, Transport};
use crate::discovery::{Readiness, until_upstream_connected};
use crate::link::client::{LinkArrivals, LinkClient, LinkSettings};
use crate::link::{LinkOptions, Subscription};
use crate::socket::{Address, Request, SocketOptions};
use crate::spawn::spawn;
use crate::task_group::TaskGroup;

/// Opens the links of a client.
#[derive(Debug)]
pub(super) struct LinkFactory {
    pub(super) id: ByteString,
    pub(super) sockets: SocketOptions,
    pub(super) options: LinkOptions,
    pub(super) weight: u32,
    pub(super) answers: Arc<InFlightCalls>,
    pub(super) transport: watch::Receiver<Option<Transport>>,
}

impl LinkFactory {
    /// Opens a link over the connection of `requests`, so that a component has one connection of a client.
    ///
    /// `takes_answers`: whether the client receives answers from this component.
    pub(super) fn open(
        &self,
        requests: &Request,
        role: &'static str,
        takes_answers: bool,
    ) -> AnswerLink {
        let (settings, options) = (self.settings(role, takes_answers), self.options.clone());
        let opened = LinkClient::sharing(requests, &self.sockets, settings, options);
        self.read(opened, None)
    }

    /// Opens a link with the component called `name`, which the client has discovered, and takes its answers. If the link
    /// fails, the client continues without it.
    pub(super) fn open_discovered(
        &self,
        address: &Address,
        role: &'static str,
        name: &str,
    ) -> AnswerLink {
        let (settings, options) = (self.settings(role, true), self.options.clone());
        let opened = LinkClient::new(address, &self.sockets, settings, options);
        self.read(opened, Some(name))
    }

    fn settings(&self, role: &'static str, takes_answers: bool) -> LinkSettings {
        let following = Subscription {
            client: match takes_answers {
                true => self.id.to_string(),
                false => String::new(),
            },
            ..Subscription::default()
        };
        LinkSettings {
            weight: self.weight,
            ..LinkSettings::following(role, &self.id, following)
        }
    }

    fn read(
        &self,
        (link, arrivals): (Arc<LinkClient>, LinkArrivals),
        last: Option<&str>,
    ) -> AnswerLink {
        let (ready_sender, ready) = watch::channel(None);
        let (answers, transport) = (self.answers.clone(), self.transport.clone());
        let last = last.map(str::to_owned);
        let reader = transport::read(
            link.clone(),
            arrivals,
            answers,
            transport,
            ready_sender,
            last,
        );
        let reader = spawn(TaskGroup::new([reader.boxed()]));
        AnswerLink {
            link,
            reader: AbortOnDropHandle::new(reader),
            ready,
        }
    }
}

/// A link and the task that reads answers from it.
#[derive(Debug)]
pub(super) struct AnswerLink {
    pub(super) link: Arc<LinkClient>,
    reader: Reader,
    ready: watch::Receiver<Option<Readiness>>,
}

impl AnswerLink {
    /// Waits until the component has answered and its own upstream subscriptions are in place. Returns `false` if the
    /// reader has ended. Cancel safe.
    pub(super) async fn ready(mut ready: watch::Receiver<Option<Readiness>>) -> bool {
        if ready.wait_for(Option::is_some).await.is_err() {
            return false;
        }
        until_upstream_connected(ready).await;
        true
    }

    pub(super) fn readiness(&self) -> watch::Receiver<Option<Readiness>> {
        self.ready.clone()
    }

    pub(super) fn into_parts(self) -> (Arc<LinkClient>, Reader) {
        (self.link, self.reader)
    }
}

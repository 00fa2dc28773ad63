//! Links without sockets: a peer's end of the session exchanges headers with the link.

use futures_util::FutureExt as _;

use super::*;
use crate::link::{SUBSCRIBER, Subscription};

/// Returns a link whose connection is missing.
fn link(role: &'static str) -> Arc<LinkClient> {
    let address = "tcp://127.0.0.1:9".parse().expect("it is an address");
    let introduction = LinkSettings::following(role, "name", Subscription::default());
    let options = LinkOptions::default();
    LinkClient::new(&address, &SocketOptions::default(), introduction, options).0
}

/// Opens the current session, and returns the peer's end.
fn open(link: &LinkClient) -> Session {
    let now = clock::now();
    link.renew_session(&mut link.state(), now);
    let window = CreditWindow {
        messages: 10,
        bytes: 1000,
    };
    let id = link.state().session.id().clone();
    let mut peer = Session::accept(id, 1, 1, window, Duration::from_secs(1), now);
    let hello = link.state().session.transmit(now).expect("`hello` is due");
    peer.receive(
        now,
        &hello.header,
        hello.frames.into_iter(),
        &mut Vec::new(),
    );
    let welcome = peer.transmit(now).expect("`welcome` is due");
    receive(link, &welcome.header);
    peer
}

/// Passes a header without messages to the link.
fn receive(link: &LinkClient, header: &crate::message::proto::LinkHeader) {
    link.receive(std::iter::once(
        std::iter::once(header::encode(header)).collect(),
    ));
}

#[test]
fn end_of_an_earlier_session_does_not_finish_the_next_one() {
    for role in [WORKER, SUBSCRIBER] {
        let link = link(role);
        let mut peer = open(&link);
        assert!(link.finished().now_or_never().is_none());
        let last = peer.close();
        assert!(last.finished, "the peer has nothing to send");
        receive(&link, &last);
        assert!(link.finished().now_or_never().is_some());

        let mut peer = open(&link);
        link.drain();
        assert!(link.finished().now_or_never().is_none(), "{role}");
        peer.finish();
        let last = peer.transmit(clock::now()).expect("`finished` is due");
        receive(&link, &last.header);
        assert!(link.finished().now_or_never().is_some());
    }
}

//! Peers that write the headers of a link by hand, and violate the protocol.

use bytes::Bytes;
use palm::prelude::*;
use palm::socket::{Dealer, Frames};
use palm::{ComponentHandle, LinkOptions};
use palm_proto::message::proto::link_refusal::Kind;
use palm_proto::message::proto::{LinkHeader, LinkHello, LinkWelcome};
use prost::Message as _;

use super::setup::{ANY, Gate, address, check, connect, eventually, options, soon};

struct Counting {
    gate: Gate,
}

#[palm::server(name = "counting")]
impl Counting {
    #[palm::method]
    fn count(&self, payload: Bytes) -> Bytes {
        self.gate.count_one();
        payload
    }
}

async fn counting(links: LinkOptions) -> (ComponentHandle, Gate) {
    let gate = Gate::closed();
    let server = Counting { gate: gate.clone() }.bind(ANY);
    (server.link_options(links).spawn().await.unwrap(), gate)
}

/// The client's end of a link.
struct RawClient {
    dealer: Dealer,
    session: Bytes,
    sent: u64,
}

impl RawClient {
    /// Sends the `hello`, and returns the first header of the component.
    async fn connect(component: &ComponentHandle, name: &str) -> (Self, LinkHeader) {
        let at = address(component.db_address());
        let dealer = Dealer::connect(&at, &options()).await.unwrap();
        let session = Bytes::copy_from_slice(&fastrand::u128(..).to_be_bytes());
        let mut client = Self {
            dealer,
            session,
            sent: 0,
        };
        let header = LinkHeader {
            hello: Some(LinkHello {
                version: 3,
                role: "client".to_owned(),
                name: name.to_owned(),
                client: name.to_owned(),
                ..LinkHello::default()
            }),
            credit_messages: 1_000_000,
            credit_bytes: 1 << 40,
            ..client.header()
        };
        client.send(header, Vec::new()).await;
        let answer = client.receive().await;
        (client, answer)
    }

    fn header(&self) -> LinkHeader {
        LinkHeader {
            protocol: u32::from_le_bytes(*b"PLK1"),
            session: self.session.clone(),
            first: self.sent,
            credit_messages: 1_000_000,
            credit_bytes: 1 << 40,
            ..LinkHeader::default()
        }
    }

    async fn send(&mut self, header: LinkHeader, messages: Vec<Bytes>) {
        self.sent += messages.len() as u64;
        let frames: Frames = std::iter::once(header.encode_to_vec().into())
            .chain(messages)
            .collect();
        soon("sending", self.dealer.send(frames)).await.unwrap();
    }

    /// Sends calls after one header.
    async fn call(&mut self, calls: Vec<Bytes>) {
        let header = self.header();
        self.send(header, calls).await;
    }

    async fn receive(&mut self) -> LinkHeader {
        let mut received = Vec::new();
        soon("a header", self.dealer.recv_many(&mut received, 1))
            .await
            .unwrap();
        LinkHeader::decode(received[0][0].clone()).unwrap()
    }

    /// Waits until the component ends the session, and returns the reason.
    async fn refusal(&mut self) -> (Kind, String) {
        loop {
            if let Some(refusal) = self.receive().await.refusal {
                return (refusal.kind(), refusal.reason);
            }
        }
    }
}

fn call(client: &str, payload: Vec<u8>) -> Bytes {
    let mut message = Message::new("counting.count", payload);
    message.set_client(client);
    message.encode()
}

async fn still_answers(server: &ComponentHandle) {
    let client = connect("counting", server).await;
    let answer = client.eval("counting.echo", "x").into_future();
    assert_eq!(soon("an answer", answer).await.unwrap(), "x");
}

#[test]
fn peer_that_sends_more_messages_than_its_credit_is_refused() {
    check(async {
        let (server, gate) = counting(LinkOptions::default()).await;
        let (mut client, welcome) = RawClient::connect(&server, "raw").await;
        let credit = welcome.credit_messages as usize;
        assert_eq!(credit, 4096, "the documented limit");
        client.call(vec![call("raw", vec![]); credit]).await;
        eventually("all calls run", || gate.count() == credit).await;

        let (mut client, _) = RawClient::connect(&server, "greedy").await;
        client.call(vec![call("greedy", vec![]); credit + 1]).await;
        let (kind, reason) = client.refusal().await;
        assert_eq!(kind, Kind::Protocol);
        assert!(reason.contains("credit"), "{reason}");
        still_answers(&server).await;
    });
}

#[test]
fn peer_that_sends_more_bytes_than_its_credit_is_refused() {
    check(async {
        let (server, gate) = counting(LinkOptions::default()).await;
        let (mut client, welcome) = RawClient::connect(&server, "raw").await;
        let credit = welcome.credit_bytes as usize;
        assert_eq!(credit, 8 * 1024 * 1024, "the documented limit");
        let overhead = call("raw", vec![0; credit / 2]).len() - credit / 2;
        let of_size = |size: usize| call("raw", vec![0; size - overhead]);
        // The message that reaches the limit may exceed it.
        client.call(vec![of_size(credit - 1), of_size(100)]).await;
        eventually("both calls run", || gate.count() == 2).await;

        let (mut client, _) = RawClient::connect(&server, "greedy").await;
        client.call(vec![of_size(credit), of_size(100)]).await;
        assert_eq!(client.refusal().await.0, Kind::Protocol);
        still_answers(&server).await;
    });
}

#[test]
fn welcome_states_the_idle_timeout_of_the_component() {
    check(async {
        let links = LinkOptions::new().idle_timeout(std::time::Duration::from_millis(1234));
        let (server, _) = counting(links).await;
        let (_client, header) = RawClient::connect(&server, "raw").await;
        let Some(LinkWelcome {
            idle_timeout_ms, ..
        }) = header.welcome
        else {
            panic!("{header:?}");
        };
        assert_eq!(idle_timeout_ms, 1234);
    });
}

//! Malformed bytes close only the connection that they arrive on.

use std::time::Duration;

use bytes::Bytes;
use palm_runtime::socket::{
    Address, Dealer, Publish, Pull, Push, Reply, Request, Router, SocketOptions, Subscribe,
};

use super::harness::check;
use super::raw::{
    COMMAND, MORE, RawListener, RawPeer, command, frame, greeting, long_header, property,
    random_bytes, ready,
};
use super::request_reply::{Echo, echo, send_request};
use super::setup::{
    added, any_tcp, bind_again, change, numbered, options, publications, recv_one, soon,
    unbound_tcp,
};

fn hasty() -> SocketOptions {
    options(|options| options.handshake_timeout(Duration::from_millis(500)))
}

/// A bound end of each type, with a well-behaved peer.
struct Served {
    pull: (Pull, Push, Address),
    reply: (Echo, Request, Address),
    publish: (Publish, Subscribe, Address),
}

impl Served {
    async fn new() -> Self {
        let options = hasty();
        let (pull, at) = Pull::bind(&any_tcp(), &options).await.unwrap();
        let pull = (pull, Push::connect(&at, &options).await.unwrap(), at);
        let (reply, at) = Reply::bind(&any_tcp(), &options).await.unwrap();
        let reply = (
            echo(reply),
            Request::connect(&at, &options).await.unwrap(),
            at,
        );
        let (mut publish, at) = Publish::bind(&any_tcp(), &options).await.unwrap();
        let subscribe = Subscribe::connect(&at, &options).await.unwrap();
        subscribe.subscribe("topic").await.unwrap();
        assert_eq!(change(&mut publish).await, added("topic"));
        Self {
            pull,
            reply,
            publish: (publish, subscribe, at),
        }
    }

    /// Returns the address of each end, and the socket type of its peers.
    fn targets(&self) -> [(Address, &'static str); 3] {
        [
            (self.pull.2.clone(), "PUSH"),
            (self.reply.2.clone(), "DEALER"),
            (self.publish.2.clone(), "SUB"),
        ]
    }

    /// Exchanges messages with the well-behaved peers.
    async fn serve(&mut self) {
        for round in 0..10 {
            let (pull, push, _) = &mut self.pull;
            push.send(Bytes::from(format!("message {round}")))
                .await
                .unwrap();
            while recv_one(pull).await != format!("message {round}") {}
            send_request(&self.reply.1, numbered(round, 64)).await;
            let (publish, subscribe, _) = &mut self.publish;
            let body = Bytes::from(format!("publication {round}"));
            publish
                .send(Bytes::from_static(b"topic"), body.clone())
                .await
                .unwrap();
            assert_eq!(publications(subscribe, 1).await[0].body, Some(body));
        }
    }
}

/// Attacks each bound end, first by one peer and then by many concurrently, and checks that other peers are served.
async fn others_are_served(attack: impl AsyncFn(Address, &'static str)) {
    let mut served = Served::new().await;
    served.serve().await;
    for (address, peer_type) in served.targets() {
        attack(address, peer_type).await;
        served.serve().await;
    }
    for (address, peer_type) in served.targets() {
        let attacks = (0..10).map(|_| attack(address.clone(), peer_type));
        let attacks = futures_util::future::join_all(attacks);
        tokio::join!(attacks, served.serve());
    }
    served.serve().await;
    // New peers are served as well.
    let options = hasty();
    let newcomer = Push::connect(&served.pull.2, &options).await.unwrap();
    newcomer
        .send(Bytes::from_static(b"newcomer"))
        .await
        .unwrap();
    while recv_one(&mut served.pull.0).await != "newcomer" {}
    let newcomer = Request::connect(&served.reply.2, &options).await.unwrap();
    send_request(&newcomer, numbered(0, 64)).await;
}

/// [`others_are_served`] with an attack of bytes instead of the command READY.
async fn in_place_of_ready(bytes: impl Fn(&'static str) -> Vec<u8>) {
    others_are_served(async |address, peer_type| {
        let mut peer = RawPeer::connect(&address).await;
        peer.write(&greeting(0)).await.unwrap();
        let _ = peer.write(&bytes(peer_type)).await;
        peer.closed().await;
    })
    .await;
}

/// [`others_are_served`] with an attack of bytes after a valid handshake, which have to close the connection.
async fn after_the_handshake(bytes: &[u8]) {
    others_are_served(async |address, peer_type| {
        let mut peer = RawPeer::introduced(&address, peer_type).await;
        let _ = peer.write(bytes).await;
        peer.closed().await;
    })
    .await;
}

#[test]
fn random_bytes_in_place_of_a_greeting_close_only_their_connection() {
    check(async {
        others_are_served(async |address, _| {
            let mut peer = RawPeer::connect(&address).await;
            let _ = peer.write(&random_bytes(10_000)).await;
            peer.closed().await;
        })
        .await;
    });
}

#[test]
fn http_request_closes_only_its_connection() {
    check(async {
        others_are_served(async |address, _| {
            let mut peer = RawPeer::connect(&address).await;
            let request = b"GET / HTTP/1.1\r\nHost: localhost\r\nUser-Agent: curl/8.0\r\n\r\n";
            let _ = peer.write(request).await;
            peer.closed().await;
        })
        .await;
    });
}

#[test]
fn silence_after_half_a_greeting_closes_only_its_connection() {
    check(async {
        others_are_served(async |address, _| {
            let mut peer = RawPeer::connect(&address).await;
            peer.write(&greeting(0)[..30]).await.unwrap();
            peer.closed().await;
        })
        .await;
    });
}

#[test]
fn connection_that_ends_in_its_greeting_disturbs_no_other() {
    check(async {
        others_are_served(async |address, _| {
            let mut peer = RawPeer::connect(&address).await;
            peer.write(&greeting(0)[..30]).await.unwrap();
        })
        .await;
    });
}

#[test]
fn unknown_mechanism_closes_only_its_connection() {
    check(async {
        others_are_served(async |address, _| {
            let mut peer = RawPeer::connect(&address).await;
            let mut greeting = greeting(0);
            greeting[12..17].copy_from_slice(b"MAGIC");
            peer.write(&greeting).await.unwrap();
            peer.closed().await;
        })
        .await;
    });
}

#[test]
fn huge_frame_before_the_handshake_closes_only_its_connection() {
    check(async {
        for len in [1 << 36, 1 << 60, 1 << 63, u64::MAX] {
            in_place_of_ready(|_| long_header(COMMAND, len).to_vec()).await;
        }
    });
}

#[test]
fn huge_frame_after_the_handshake_closes_only_its_connection() {
    check(async {
        for len in [1 << 36, 1 << 60, 1 << 63, u64::MAX] {
            after_the_handshake(&long_header(0, len)).await;
        }
    });
}

#[test]
fn huge_frame_within_a_message_closes_only_its_connection() {
    check(async {
        after_the_handshake(&[&frame(MORE, b"begin"), &long_header(0, 1 << 60)[..]].concat()).await;
    });
}

#[test]
fn huge_command_after_the_handshake_closes_only_its_connection() {
    check(async {
        after_the_handshake(&long_header(COMMAND, 1 << 60)).await;
    });
}

#[test]
fn reserved_bits_in_a_header_close_only_their_connection() {
    check(async {
        after_the_handshake(&[0xf8, 1, b'x']).await;
    });
}

#[test]
fn random_bytes_after_the_handshake_close_only_their_connection() {
    // Not all random bytes are malformed, but these are.
    check(async {
        after_the_handshake(&[&[0xff][..], &random_bytes(10_000)].concat()).await;
    });
}

#[test]
fn message_in_place_of_ready_closes_only_its_connection() {
    check(async {
        in_place_of_ready(|_| frame(0, b"too early")).await;
    });
}

#[test]
fn wrong_socket_type_closes_only_its_connection() {
    check(async {
        in_place_of_ready(|_| ready("PAIR", b"")).await;
    });
}

#[test]
fn missing_socket_type_closes_only_its_connection() {
    check(async {
        in_place_of_ready(|_| command("READY", &property("Color", b"green"))).await;
    });
}

#[test]
fn properties_that_overrun_their_frame_close_only_their_connection() {
    check(async {
        in_place_of_ready(|peer_type| {
            let mut data = property("Socket-Type", peer_type.as_bytes());
            data.extend_from_slice(b"\x08Identity\xff\xff\xff\xffx");
            command("READY", &data)
        })
        .await;
    });
}

#[test]
fn command_name_that_overruns_its_frame_closes_only_its_connection() {
    check(async {
        in_place_of_ready(|_| frame(COMMAND, b"\xffREADY")).await;
    });
}

#[test]
fn empty_command_closes_only_its_connection() {
    check(async {
        in_place_of_ready(|_| frame(COMMAND, b"")).await;
        after_the_handshake(&frame(COMMAND, b"")).await;
    });
}

#[test]
fn unknown_command_after_the_handshake_disturbs_no_other_connection() {
    // The backend may close the connection or keep it.
    check(async {
        others_are_served(async |address, peer_type| {
            let mut peer = RawPeer::introduced(&address, peer_type).await;
            peer.write(&command("DANCE", b"please")).await.unwrap();
            let _ = peer.write(&command("DANCE", b"again")).await;
        })
        .await;
    });
}

#[test]
fn connection_that_ends_in_mid_frame_disturbs_no_other() {
    check(async {
        others_are_served(async |address, peer_type| {
            let mut peer = RawPeer::introduced(&address, peer_type).await;
            peer.write(&[&long_header(0, 100_000)[..], b"only the beginning"].concat())
                .await
                .unwrap();
        })
        .await;
    });
}

#[test]
fn connection_that_ends_in_mid_message_disturbs_no_other() {
    check(async {
        others_are_served(async |address, peer_type| {
            let mut peer = RawPeer::introduced(&address, peer_type).await;
            peer.write(&frame(MORE, b"to be continued")).await.unwrap();
        })
        .await;
    });
}

#[test]
fn connection_that_ends_in_mid_header_disturbs_no_other() {
    check(async {
        others_are_served(async |address, peer_type| {
            let mut peer = RawPeer::introduced(&address, peer_type).await;
            peer.write(&long_header(0, 100_000)[..4]).await.unwrap();
        })
        .await;
    });
}

#[test]
fn malformed_subscriptions_are_ignored() {
    check(async {
        let mut served = Served::new().await;
        let mut peer = RawPeer::introduced(&served.publish.2, "SUB").await;
        for nonsense in [
            b"".as_slice(),
            b"\x02topic",
            b"\x00never subscribed",
            b"\xff",
        ] {
            peer.send(nonsense).await;
        }
        peer.write(&[frame(MORE, b"\x01two"), frame(0, b"frames")].concat())
            .await
            .unwrap();
        served.serve().await;
        assert!(!served.publish.0.is_subscribed(b"never subscribed"));
    });
}

/// Connecting ends survive malformed bytes of a server, and connect to the next server.
async fn connecting_ends_survive(bytes: impl Fn(&str) -> Vec<u8>) {
    let options = hasty();
    let attack = async |listener: RawListener, peer_type: &str| {
        for _ in 0..3 {
            let mut peer = listener.accept().await;
            peer.write(&greeting(0)).await.unwrap();
            let _ = peer.write(&bytes(peer_type)).await;
            peer.closed().await;
        }
    };

    let (listener, at) = RawListener::bind(&unbound_tcp());
    let mut pull = Pull::connect(&at, &options).await.unwrap();
    attack(listener, "PUSH").await;
    let (push, _) = bind_again(async || Push::bind(&at, &options).await).await;
    push.send(Bytes::from_static(b"after all")).await.unwrap();
    while recv_one(&mut pull).await != "after all" {}

    let (listener, at) = RawListener::bind(&unbound_tcp());
    let mut subscribe = Subscribe::connect(&at, &options).await.unwrap();
    subscribe.subscribe("topic").await.unwrap();
    attack(listener, "PUB").await;
    let (mut publish, _) = bind_again(async || Publish::bind(&at, &options).await).await;
    assert_eq!(change(&mut publish).await, added("topic"));
    publish
        .send(Bytes::from_static(b"topic"), Bytes::new())
        .await
        .unwrap();
    assert_eq!(publications(&mut subscribe, 1).await[0].topic, "topic");

    let (listener, at) = RawListener::bind(&unbound_tcp());
    let mut dealer = Dealer::connect(&at, &options).await.unwrap();
    attack(listener, "ROUTER").await;
    let (mut router, _) = bind_again(async || Router::bind(&at, &options).await).await;
    dealer
        .send(std::iter::once(Bytes::from_static(b"after all")).collect())
        .await
        .unwrap();
    let mut messages = Vec::new();
    soon("the request", router.recv_many(&mut messages, 1))
        .await
        .unwrap();
    router.try_send(messages.remove(0)).unwrap();
    soon("the reply", dealer.recv_many(&mut messages, 1))
        .await
        .unwrap();
    assert_eq!(messages[0][0], "after all");
}

#[test]
fn connecting_sockets_recover_from_a_huge_frame_of_a_server() {
    check(async {
        connecting_ends_survive(|_| long_header(COMMAND, 1 << 60).to_vec()).await;
        connecting_ends_survive(|server_type| {
            [&ready(server_type, b"")[..], &long_header(0, 1 << 60)[..]].concat()
        })
        .await;
    });
}

#[test]
fn connecting_sockets_recover_from_random_bytes_of_a_server() {
    check(async {
        connecting_ends_survive(|_| random_bytes(10_000)).await;
        connecting_ends_survive(|server_type| {
            [
                &ready(server_type, b"")[..],
                &[0xff],
                &random_bytes(10_000)[..],
            ]
            .concat()
        })
        .await;
    });
}

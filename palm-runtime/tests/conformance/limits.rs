//! Limits on messages, handshakes and heartbeats.

use std::time::Duration;

use bytes::Bytes;
use palm_runtime::socket::{Dealer, Publish, Pull, Push, Router, SocketOptions, Subscribe};

use super::harness::{check, check_with_open_files};
use super::publish_subscribe::published;
use super::raw::{MORE, RawListener, RawPeer, command, frame, greeting, long_header, ready};
use super::setup::{
    IpcFolder, added, any_tcp, change, numbered, options, publications, published_numbers,
    push_to_pull, recv, recv_numbers, recv_one, soon,
};

const MIB: usize = 1024 * 1024;

#[test]
fn a_message_of_64_mib_arrives() {
    check(async {
        let folder = IpcFolder::new();
        let large = Bytes::from(vec![42; 64 * MIB]);
        for address in folder.all("a") {
            let (push, mut pull) =
                push_to_pull("pull", &address, &options(|options| options)).await;
            push.send(large.clone()).await.unwrap();
            assert!(recv_one(&mut pull).await == large);
        }
        let (mut router, bound) = Router::bind(&any_tcp(), &options(|options| options))
            .await
            .unwrap();
        let mut dealer = Dealer::connect(&bound, &options(|options| options))
            .await
            .unwrap();
        dealer
            .send(std::iter::once(large.clone()).collect())
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
        assert!(messages[0][0] == large);
    });
}

fn one_mib() -> SocketOptions {
    options(|options| options.max_message_bytes(MIB))
}

#[test]
fn a_message_of_exactly_the_limit_is_accepted() {
    check(async {
        let (mut pull, bound) = Pull::bind(&any_tcp(), &one_mib()).await.unwrap();
        let mut peer = RawPeer::introduced(&bound, "PUSH").await;
        peer.send(&vec![1; MIB]).await;
        assert_eq!(recv_one(&mut pull).await.len(), MIB);
        peer.write(&frame(MORE, &vec![1; MIB / 2])).await.unwrap();
        peer.send(&vec![1; MIB / 2]).await;
        let halves = recv(&mut pull, 2).await;
        assert_eq!([halves[0].len(), halves[1].len()], [MIB / 2; 2]);
    });
}

#[test]
fn a_message_over_the_limit_closes_only_its_connection() {
    check(async {
        let (mut pull, bound) = Pull::bind(&any_tcp(), &one_mib()).await.unwrap();
        let push = Push::connect(&bound, &one_mib()).await.unwrap();
        push.send(numbered(0, 64)).await.unwrap();
        recv_numbers(&mut pull, 0..1).await;

        let mut whole = RawPeer::introduced(&bound, "PUSH").await;
        let _ = whole.write(&frame(0, &vec![1; 2 * MIB])).await;
        whole.closed().await;
        let mut in_frames = RawPeer::introduced(&bound, "PUSH").await;
        for _ in 0..4 {
            let _ = in_frames.write(&frame(MORE, &vec![1; MIB / 2])).await;
        }
        in_frames.closed().await;

        push.send(numbered(1, 64)).await.unwrap();
        recv_numbers(&mut pull, 1..2).await;
    });
}

#[test]
fn a_message_over_the_limit_closes_its_connection_at_the_header() {
    check(async {
        let (_pull, bound) = Pull::bind(&any_tcp(), &one_mib()).await.unwrap();
        let mut peer = RawPeer::introduced(&bound, "PUSH").await;
        // The header alone announces too many bytes.
        peer.write(&long_header(0, 2 * MIB as u64)).await.unwrap();
        peer.closed().await;
    });
}

#[test]
fn a_message_of_endless_empty_frames_closes_its_connection() {
    check(async {
        let (_pull, bound) = Pull::bind(&any_tcp(), &one_mib()).await.unwrap();
        let mut peer = RawPeer::introduced(&bound, "PUSH").await;
        let frames = frame(MORE, b"").repeat(10_000);
        let endless = async { while peer.write(&frames).await.is_ok() {} };
        soon("the end of the connection", endless).await;
    });
}

fn hasty() -> SocketOptions {
    options(|options| options.handshake_timeout(Duration::from_millis(300)))
}

#[test]
fn a_silent_peer_is_disconnected() {
    check(async {
        let folder = IpcFolder::new();
        for address in folder.both("a") {
            let (_pull, bound) = Pull::bind(&address, &hasty()).await.unwrap();
            let mut silent = RawPeer::connect(&bound).await;
            silent.closed().await;
            let mut half = RawPeer::connect(&bound).await;
            half.write(&greeting(0)[..32]).await.unwrap();
            half.closed().await;
            let mut without_ready = RawPeer::connect(&bound).await;
            without_ready.write(&greeting(0)).await.unwrap();
            without_ready.closed().await;
        }
    });
}

#[test]
fn a_handshake_byte_by_byte_is_disconnected() {
    check(async {
        let (_pull, bound) = Pull::bind(&any_tcp(), &hasty()).await.unwrap();
        let mut peer = RawPeer::connect(&bound).await;
        let trickle = async {
            for byte in greeting(0) {
                if peer.write(&[byte]).await.is_err() {
                    return;
                }
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
            panic!("still there after more than 3 s");
        };
        trickle.await;
    });
}

#[test]
fn a_peer_connects_after_many_silent_ones() {
    check(async {
        let options = options(|options| {
            options
                .handshake_timeout(Duration::from_millis(500))
                .max_handshakes(8)
        });
        let (mut pull, bound) = Pull::bind(&any_tcp(), &options).await.unwrap();
        let mut silent = Vec::new();
        for _ in 0..32 {
            silent.push(RawPeer::connect(&bound).await);
        }
        let push = Push::connect(&bound, &options).await.unwrap();
        push.send(numbered(0, 64)).await.unwrap();
        recv_numbers(&mut pull, 0..1).await;
    });
}

#[test]
fn a_peer_is_served_among_2000_silent_ones() {
    check_with_open_files(8192, async {
        let options = options(|options| options);
        let (mut pull, bound) = Pull::bind(&any_tcp(), &options).await.unwrap();
        let early = Push::connect(&bound, &options).await.unwrap();
        early.send(numbered(0, 64)).await.unwrap();
        recv_numbers(&mut pull, 0..1).await;
        let mut silent = Vec::new();
        for _ in 0..2_000 {
            silent.push(RawPeer::connect(&bound).await);
        }
        early.send(numbered(1, 64)).await.unwrap();
        recv_numbers(&mut pull, 1..2).await;
        let late = Push::connect(&bound, &options).await.unwrap();
        // On a busy machine, the system delays a connection after so many others.
        late.send(numbered(2, 64)).await.unwrap();
        let mut first = Vec::new();
        let received = pull.recv_many(&mut first, 1);
        let received = tokio::time::timeout(Duration::from_secs(60), received).await;
        received.expect("the late peer is served").unwrap();
        assert_eq!(first, [numbered(2, 64)]);
        for number in 3..1_000 {
            late.send(numbered(number, 64)).await.unwrap();
        }
        recv_numbers(&mut pull, 3..1_000).await;
    });
}

/// Options for few connections.
fn crowded() -> SocketOptions {
    options(|options| options.max_connections(8))
}

#[test]
fn a_peer_connects_when_silent_peers_hold_all_connections() {
    check(async {
        let (mut pull, bound) = Pull::bind(&any_tcp(), &crowded()).await.unwrap();
        let early = Push::connect(&bound, &crowded()).await.unwrap();
        early.send(numbered(0, 64)).await.unwrap();
        recv_numbers(&mut pull, 0..1).await;
        let mut silent = Vec::new();
        for round in 0..16 {
            // Half of them complete the handshake.
            let mut peer = RawPeer::connect(&bound).await;
            if round % 2 == 0 {
                let _ = peer.introduce("PUSH", b"").await;
            }
            silent.push(peer);
        }
        let late = Push::connect(&bound, &crowded()).await.unwrap();
        late.send(numbered(1, 64)).await.unwrap();
        recv_numbers(&mut pull, 1..2).await;
        // Those without a handshake make room first.
        for peer in silent[..8].iter_mut().skip(1).step_by(2) {
            peer.closed().await;
        }
        early.send(numbered(2, 64)).await.unwrap();
        recv_numbers(&mut pull, 2..3).await;
    });
}

#[test]
fn a_dealer_connects_when_silent_peers_hold_all_connections() {
    check(async {
        let (mut router, bound) = Router::bind(&any_tcp(), &crowded()).await.unwrap();
        let mut silent = Vec::new();
        for _ in 0..20 {
            let mut peer = RawPeer::connect(&bound).await;
            let _ = peer.introduce("DEALER", b"").await;
            silent.push(peer);
        }
        let dealer = Dealer::connect(&bound, &crowded()).await.unwrap();
        dealer
            .send(std::iter::once(Bytes::from_static(b"alive")).collect())
            .await
            .unwrap();
        let mut messages = Vec::new();
        soon("the living peer", router.recv_many(&mut messages, 1))
            .await
            .unwrap();
        assert_eq!(messages[0][1], "alive");
    });
}

#[test]
fn a_subscriber_connects_when_silent_peers_hold_all_connections() {
    check(async {
        let (mut publish, bound) = Publish::bind(&any_tcp(), &crowded()).await.unwrap();
        let mut silent = Vec::new();
        for _ in 0..20 {
            let mut peer = RawPeer::connect(&bound).await;
            let _ = peer.introduce("SUB", b"").await;
            silent.push(peer);
        }
        let mut subscribe = Subscribe::connect(&bound, &crowded()).await.unwrap();
        subscribe.subscribe("topic").await.unwrap();
        assert_eq!(change(&mut publish).await, added("topic"));
        let topic = Bytes::from_static(b"topic");
        publish.send(topic, numbered(0, 64)).await.unwrap();
        published_numbers(&mut subscribe, 0..1).await;
    });
}

/// Options with memory for one message of 3 MiB at a time.
fn scarce() -> SocketOptions {
    options(|options| {
        options
            .max_receive_bytes(4 * MIB)
            .receive_timeout(Duration::from_millis(500))
    })
}

#[test]
fn a_message_waits_for_the_memory_of_another() {
    check(async {
        let folder = IpcFolder::new();
        for address in folder.both("a") {
            let (mut pull, bound) = Pull::bind(&address, &scarce()).await.unwrap();
            let message = frame(0, &vec![1; 3 * MIB]);
            let (begin, end) = message.split_at(2 * MIB);
            let mut first = RawPeer::introduced(&bound, "PUSH").await;
            first.write(begin).await.unwrap();
            // Small messages need no memory of others.
            let push = Push::connect(&bound, &scarce()).await.unwrap();
            push.send(numbered(0, 64)).await.unwrap();
            recv_numbers(&mut pull, 0..1).await;
            first.write(end).await.unwrap();
            let second = tokio::spawn(async move {
                push.send(vec![2; 3 * MIB].into()).await.unwrap();
                push
            });
            // The first message keeps its memory until it is received.
            assert_eq!(recv_one(&mut pull).await[0], 1);
            assert_eq!(recv_one(&mut pull).await[0], 2);
            second.await.unwrap();
        }
    });
}

#[test]
fn a_half_sent_message_makes_room_for_others_after_a_timeout() {
    check(async {
        let (mut pull, bound) = Pull::bind(&any_tcp(), &scarce()).await.unwrap();
        let message = frame(0, &vec![1; 3 * MIB]);
        let mut stalled = Vec::new();
        for _ in 0..3 {
            let mut peer = RawPeer::introduced(&bound, "PUSH").await;
            peer.write(&message[..MIB / 8]).await.unwrap();
            stalled.push(peer);
        }
        let push = Push::connect(&bound, &scarce()).await.unwrap();
        push.send(vec![2; 3 * MIB].into()).await.unwrap();
        assert_eq!(recv_one(&mut pull).await[0], 2);
        // Without others that wait, a peer may take its time.
        let mut slow = RawPeer::introduced(&bound, "PUSH").await;
        slow.write(&message[..MIB]).await.unwrap();
        tokio::time::sleep(Duration::from_millis(1500)).await;
        slow.write(&message[MIB..]).await.unwrap();
        assert_eq!(recv_one(&mut pull).await[0], 1);
    });
}

#[test]
fn a_connecting_socket_has_the_memory_limit_of_one_that_binds() {
    check(async {
        let message = frame(0, &vec![1; 3 * MIB]);
        // Clones of the options share their limit, as the sockets of a component do.
        let scarce = scarce();
        let (first, first_address) = RawListener::bind(&any_tcp());
        let mut pull = Pull::connect(&first_address, &scarce).await.unwrap();
        let mut stalled = first.accept_as("PUSH").await;
        stalled.write(&message[..2 * MIB]).await.unwrap();
        let (second, second_address) = RawListener::bind(&any_tcp());
        let mut dealer = Dealer::connect(&second_address, &scarce).await.unwrap();
        let mut waiting = second.accept_as("ROUTER").await;
        let writer = tokio::spawn({
            let message = message.clone();
            async move {
                waiting.write(&message).await.unwrap();
                waiting
            }
        });
        // The first server stops within its message, so its connection ends, and its memory is free for the second one.
        let mut messages = Vec::new();
        soon("the second message", dealer.recv_many(&mut messages, 1))
            .await
            .unwrap();
        assert_eq!(messages[0][0].len(), 3 * MIB);
        writer.await.unwrap();
        stalled.closed().await;
        let mut again = first.accept_as("PUSH").await;
        again.write(&message).await.unwrap();
        assert_eq!(recv_one(&mut pull).await.len(), 3 * MIB);
    });
}

#[test]
fn a_subscriber_has_the_memory_limit_of_other_sockets() {
    check(async {
        let scarce = scarce();
        let message = frame(0, &vec![1; 3 * MIB]);
        let (pushes, address) = RawListener::bind(&any_tcp());
        let _pull = Pull::connect(&address, &scarce).await.unwrap();
        let mut stalled = pushes.accept_as("PUSH").await;
        stalled.write(&message[..2 * MIB]).await.unwrap();
        let (publishes, address) = RawListener::bind(&any_tcp());
        let mut subscribe = Subscribe::connect(&address, &scarce).await.unwrap();
        let mut publisher = publishes.accept_as("PUB").await;
        let writer = tokio::spawn(async move {
            publisher.write(&message).await.unwrap();
            publisher
        });
        // The publication has no memory until the other message is given up.
        stalled.closed().await;
        let publication = publications(&mut subscribe, 1).await.remove(0);
        assert_eq!(publication.topic.len(), 3 * MIB);
        writer.await.unwrap();
    });
}

#[test]
fn a_peer_with_too_many_subscriptions_is_disconnected() {
    check(async {
        let (mut publish, mut subscribe, bound) =
            published(&any_tcp(), &options(|options| options), &["topic"]).await;
        let mut greedy = RawPeer::introduced(&bound, "SUB").await;
        // 75 MiB, of which a peer may have 51.
        let prefix = vec![1; 15_000];
        for _ in 0..5_000 {
            if greedy.write(&frame(0, &prefix)).await.is_err() {
                break;
            }
        }
        greedy.closed().await;
        let removed = async {
            while publish.is_subscribed(&prefix[1..]) {
                publish.changed().await.unwrap();
                while publish.next_change().await.unwrap().is_some() {}
            }
        };
        soon("the end of the subscriptions", removed).await;
        publish
            .send(Bytes::from_static(b"topic"), numbered(0, 64))
            .await
            .unwrap();
        published_numbers(&mut subscribe, 0..1).await;
    });
}

#[test]
fn a_heartbeat_is_answered() {
    check(async {
        let (_pull, bound) = Pull::bind(&any_tcp(), &options(|options| options))
            .await
            .unwrap();
        let mut peer = RawPeer::introduced(&bound, "PUSH").await;
        peer.write(&command("PING", b"\x00\x00context"))
            .await
            .unwrap();
        let (_, answer) = soon("the answer", peer.frame()).await.unwrap();
        assert_eq!(answer, b"\x04PONGcontext");
    });
}

#[test]
fn a_peer_without_a_heartbeat_is_disconnected() {
    check(async {
        let options = options(|options| options.zmtp_heartbeat(Duration::from_millis(400)));
        let (mut pull, bound) = Pull::bind(&any_tcp(), &options).await.unwrap();
        let mut dead = RawPeer::introduced(&bound, "PUSH").await;
        let mut alive = RawPeer::introduced(&bound, "PUSH").await;
        let living = tokio::spawn(async move {
            // The peer is alive for five intervals; two without a sign of life end its connection.
            for _ in 0..5 {
                let (_, ping) = soon("a heartbeat", alive.frame()).await.unwrap();
                assert!(ping.starts_with(b"\x04PING"), "{ping:?}");
                alive.write(&command("PONG", &ping[7..])).await.unwrap();
            }
            alive.send(b"alive").await;
            alive
        });
        dead.closed().await;
        assert_eq!(recv_one(&mut pull).await, "alive");
        living.await.unwrap();
    });
}

#[test]
fn a_peer_with_an_overlong_routing_id_is_rejected() {
    check(async {
        let (mut router, bound) = Router::bind(&any_tcp(), &options(|options| options))
            .await
            .unwrap();
        let mut peer = RawPeer::connect(&bound).await;
        peer.write(&greeting(0)).await.unwrap();
        peer.write(&ready("DEALER", &[b'n'; 256])).await.unwrap();
        peer.closed().await;
        let mut longest = RawPeer::introduced_as(&bound, "DEALER", &[b'n'; 255]).await;
        longest.send(b"here").await;
        let mut messages = Vec::new();
        soon("the longest name", router.recv_many(&mut messages, 1))
            .await
            .unwrap();
        assert_eq!(messages[0][0].len(), 255);
    });
}

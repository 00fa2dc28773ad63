//! Connecting before the other side binds, and after each loss of a connection.

use std::time::{Duration, Instant};

use bytes::Bytes;
use palm_runtime::socket::{
    Address, Dealer, Frames, Publish, Pull, Push, Router, SocketOptions, Subscribe,
};

use super::harness::check;
use super::raw::{RawListener, RawPeer, command, greeting};
use super::setup::{
    IpcFolder, STALLED, added, any_tcp, bind_again, change, fill, number, numbered, options,
    recv_numbers, recv_one, soon, topics, unbound_tcp,
};

/// Addresses that are not bound.
fn unbound(folder: &IpcFolder) -> [Address; 2] {
    [unbound_tcp(), folder.ipc("unbound")]
}

/// Sends until a message arrives. Messages to a lost peer are lost until the loss is detected.
async fn flows(push: &Push, pull: &mut Pull) {
    let sending = async {
        loop {
            push.send(numbered(0, 64)).await.unwrap();
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::select! {
        () = sending => {}
        _ = recv_one(pull) => {}
    }
}

/// [`flows`] in the other direction.
async fn answers(dealer: &mut Dealer, router: &mut Router) {
    let sending = async |dealer: &Dealer| {
        loop {
            dealer
                .send(std::iter::once(numbered(0, 64)).collect())
                .await
                .unwrap();
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    let mut messages: Vec<Frames> = Vec::new();
    let arriving = async {
        tokio::select! {
            () = sending(dealer) => {}
            received = router.recv_many(&mut messages, 1) => received.unwrap(),
        }
    };
    soon("a message at the router", arriving).await;
    router.try_send(messages.remove(0)).unwrap();
    soon(
        "an answer at the dealer",
        dealer.recv_many(&mut messages, 1),
    )
    .await
    .unwrap();
}

#[test]
fn a_push_connects_before_its_pull_binds() {
    check(async {
        let folder = IpcFolder::new();
        let options = options(|options| options);
        for address in unbound(&folder) {
            let push = Push::connect(&address, &options).await.unwrap();
            let sending = tokio::spawn(async move {
                for number in 0..100 {
                    push.send(numbered(number, 64)).await.unwrap();
                }
                push
            });
            let (mut pull, _) = Pull::bind(&address, &options).await.unwrap();
            recv_numbers(&mut pull, 0..100).await;
            sending.await.unwrap();
        }
    });
}

#[test]
fn a_pull_connects_before_its_push_binds() {
    check(async {
        let folder = IpcFolder::new();
        let options = options(|options| options);
        for address in unbound(&folder) {
            let mut pull = Pull::connect(&address, &options).await.unwrap();
            let (push, _) = Push::bind(&address, &options).await.unwrap();
            for number in 0..100 {
                push.send(numbered(number, 64)).await.unwrap();
            }
            recv_numbers(&mut pull, 0..100).await;
        }
    });
}

#[test]
fn a_subscriber_connects_before_its_publisher_binds() {
    check(async {
        let folder = IpcFolder::new();
        let options = options(|options| options);
        for address in unbound(&folder) {
            let mut subscribe = Subscribe::connect(&address, &options).await.unwrap();
            subscribe.subscribe("topic").await.unwrap();
            let (mut publish, _) = Publish::bind(&address, &options).await.unwrap();
            assert_eq!(change(&mut publish).await, added("topic"));
            publish
                .send(Bytes::from_static(b"topic"), Bytes::new())
                .await
                .unwrap();
            assert_eq!(topics(&mut subscribe, 1).await, ["topic"]);
        }
    });
}

#[test]
fn a_dealer_connects_before_its_router_binds() {
    check(async {
        let folder = IpcFolder::new();
        let options = options(|options| options);
        for address in unbound(&folder) {
            let mut dealer = Dealer::connect(&address, &options).await.unwrap();
            let (mut router, _) = Router::bind(&address, &options).await.unwrap();
            answers(&mut dealer, &mut router).await;
        }
    });
}

#[test]
fn a_push_reconnects() {
    check(async {
        let folder = IpcFolder::new();
        let options = options(|options| options);
        for address in folder.all("a") {
            let (mut pull, bound) = Pull::bind(&address, &options).await.unwrap();
            let push = Push::connect(&bound, &options).await.unwrap();
            for _ in 0..5 {
                flows(&push, &mut pull).await;
                soon("closing", pull.close()).await;
                pull = bind_again(async || Pull::bind(&bound, &options).await)
                    .await
                    .0;
            }
            flows(&push, &mut pull).await;
        }
    });
}

#[test]
fn a_pull_reconnects() {
    check(async {
        let folder = IpcFolder::new();
        let options = options(|options| options);
        for address in folder.all("a") {
            let (mut push, bound) = Push::bind(&address, &options).await.unwrap();
            let mut pull = Pull::connect(&bound, &options).await.unwrap();
            for _ in 0..5 {
                flows(&push, &mut pull).await;
                soon("closing", push.close(Duration::ZERO)).await;
                push = bind_again(async || Push::bind(&bound, &options).await)
                    .await
                    .0;
            }
            flows(&push, &mut pull).await;
        }
    });
}

#[test]
fn a_dealer_reconnects() {
    check(async {
        let folder = IpcFolder::new();
        let options = options(|options| options);
        for address in folder.all("a") {
            let (mut router, bound) = Router::bind(&address, &options).await.unwrap();
            let mut dealer = Dealer::connect(&bound, &options).await.unwrap();
            for _ in 0..5 {
                answers(&mut dealer, &mut router).await;
                soon("closing", router.close(Duration::ZERO)).await;
                router = bind_again(async || Router::bind(&bound, &options).await)
                    .await
                    .0;
            }
            answers(&mut dealer, &mut router).await;
        }
    });
}

#[test]
fn a_subscriber_reconnects_and_subscribes_again() {
    check(async {
        let folder = IpcFolder::new();
        let options = options(|options| options);
        for address in folder.all("a") {
            let (mut publish, bound) = Publish::bind(&address, &options).await.unwrap();
            let mut subscribe = Subscribe::connect(&bound, &options).await.unwrap();
            subscribe.subscribe("topic").await.unwrap();
            for _ in 0..5 {
                assert_eq!(change(&mut publish).await, added("topic"));
                publish
                    .send(Bytes::from_static(b"topic"), Bytes::new())
                    .await
                    .unwrap();
                assert_eq!(topics(&mut subscribe, 1).await, ["topic"]);
                soon("closing", publish.close(Duration::ZERO)).await;
                publish = bind_again(async || Publish::bind(&bound, &options).await)
                    .await
                    .0;
            }
        }
    });
}

#[test]
fn subscriptions_may_change_without_a_connection() {
    check(async {
        let options = options(|options| options);
        let (mut publish, bound) = Publish::bind(&unbound_tcp(), &options).await.unwrap();
        let mut subscribe = Subscribe::connect(&bound, &options).await.unwrap();
        subscribe.subscribe("old").await.unwrap();
        assert_eq!(change(&mut publish).await, added("old"));
        soon("closing", publish.close(Duration::ZERO)).await;
        subscribe.unsubscribe("old").await.unwrap();
        subscribe.subscribe("new").await.unwrap();
        let bind = async || Publish::bind(&bound, &options).await;
        let (mut publish, _) = bind_again(bind).await;
        assert_eq!(change(&mut publish).await, added("new"));
        assert!(!publish.is_subscribed(b"old"));
        publish
            .send(Bytes::from_static(b"old"), Bytes::new())
            .await
            .unwrap();
        publish
            .send(Bytes::from_static(b"new"), Bytes::new())
            .await
            .unwrap();
        assert_eq!(topics(&mut subscribe, 1).await, ["new"]);
    });
}

/// Checks that a PUSH survives `misbehave` on some of its connections, which stay open if they are returned.
async fn a_push_survives(
    times: usize,
    options: &SocketOptions,
    misbehave: impl AsyncFn(RawPeer) -> Option<RawPeer>,
) {
    let (listener, bound) = RawListener::bind(&unbound_tcp());
    let push = Push::connect(&bound, options).await.unwrap();
    let mut kept = Vec::new();
    for _ in 0..times {
        kept.extend(misbehave(listener.accept().await).await);
    }
    drop((listener, kept));
    let (mut pull, _) = bind_again(async || Pull::bind(&bound, options).await).await;
    flows(&push, &mut pull).await;
}

#[test]
fn a_peer_that_hangs_up_is_tried_again() {
    check(async {
        a_push_survives(10, &options(|options| options), async |mut peer| {
            peer.write(&greeting(0)).await.unwrap();
            None
        })
        .await;
    });
}

#[test]
fn a_silent_peer_is_disconnected_and_tried_again() {
    check(async {
        let hasty = Duration::from_millis(300);
        let options = options(|options| options.handshake_timeout(hasty));
        a_push_survives(3, &options, async |peer| Some(peer)).await;
    });
}

#[test]
fn a_peer_that_refuses_is_tried_again() {
    check(async {
        a_push_survives(3, &options(|options| options), async |mut peer| {
            peer.write(&greeting(0)).await.unwrap();
            peer.write(&command("ERROR", b"\x04busy")).await.unwrap();
            peer.closed().await;
            None
        })
        .await;
    });
}

#[test]
fn a_peer_of_the_wrong_type_is_tried_again() {
    check(async {
        a_push_survives(3, &options(|options| options), async |mut peer| {
            peer.write(&greeting(0)).await.unwrap();
            peer.write(&super::raw::ready("PUB", b"")).await.unwrap();
            peer.closed().await;
            None
        })
        .await;
    });
}

#[test]
fn reconnecting_backs_off() {
    check(async {
        let options = options(|options| {
            options
                .min_reconnect_delay(Duration::from_millis(50))
                .max_reconnect_delay(Duration::from_millis(400))
        });
        let (listener, bound) = RawListener::bind(&any_tcp());
        let _push = Push::connect(&bound, &options).await.unwrap();
        let begin = Instant::now();
        for _ in 0..6 {
            drop(listener.accept().await);
        }
        // Delays of 50, 100, 200, 400 and 400 ms, with jitter. Without backoff there were none.
        let waited = begin.elapsed();
        assert!(
            waited > Duration::from_millis(500),
            "6 connections within {waited:?}"
        );
    });
}

#[test]
fn messages_sent_without_a_peer_arrive_after_reconnection() {
    check(async {
        let options = options(|options| options);
        let (listener, bound) = RawListener::bind(&any_tcp());
        let push = Push::connect(&bound, &options).await.unwrap();
        for round in 0..5 {
            // The next connection shows that the end of the last one was detected.
            let peer = listener.accept().await;
            let sender = push.clone();
            let sending = tokio::spawn(async move {
                for number in 0..10 {
                    sender
                        .send(numbered(10 * round + number, 64))
                        .await
                        .unwrap();
                }
            });
            tokio::task::yield_now().await;
            // This peer does not complete its handshake, so no message may be lost with it.
            drop(peer);
            let mut peer = listener.accept_as("PULL").await;
            for number in 0..10 {
                assert_eq!(self::number(&peer.message().await[0]), 10 * round + number);
            }
            sending.await.unwrap();
        }
    });
}

#[test]
fn messages_that_were_not_begun_go_to_the_next_peer() {
    check(async {
        let few = options(|options| options.queue_len(16));
        for has_other_peer in [true, false] {
            let (push, bound) = Push::bind(&any_tcp(), &few).await.unwrap();
            let stalled = RawPeer::introduced(&bound, "PULL").await;
            let count = fill(&push, 64 * 1024, 0, 1_000).await;
            let mut other = None;
            if has_other_peer {
                other = Some(RawPeer::introduced(&bound, "PULL").await);
                push.send(numbered(count, 64)).await.unwrap();
                let first = other.as_mut().unwrap().message().await;
                assert_eq!(number(&first[0]), count);
            }
            drop(stalled);
            let mut next = match other {
                Some(other) => other,
                None => RawPeer::introduced(&bound, "PULL").await,
            };
            for expected in count - 16..count {
                assert_eq!(number(&next.message().await[0]), expected);
            }
        }
    });
}

/// A link starts each connection with an introduction, which older messages must not precede.
#[test]
fn messages_for_a_lost_connection_of_a_dealer_are_dropped() {
    check(async {
        let few = options(|options| options.queue_len(16));
        let (listener, bound) = RawListener::bind(&any_tcp());
        let dealer = Dealer::connect(&bound, &few).await.unwrap();
        let stalled = listener.accept_as("ROUTER").await;
        let message = |number| std::iter::once(numbered(number, 64 * 1024)).collect();
        let mut count = 0;
        while tokio::time::timeout(STALLED, dealer.send(message(count)))
            .await
            .is_ok()
        {
            count += 1;
        }
        drop(stalled);
        let mut next = listener.accept_as("ROUTER").await;
        soon("a message", dealer.send(message(count)))
            .await
            .unwrap();
        assert_eq!(number(&next.message().await[0]), count);
    });
}

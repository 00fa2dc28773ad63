//! A closing end sends its queued messages, up to a deadline.

use std::time::{Duration, Instant};

use bytes::Bytes;
use palm_runtime::socket::{
    Dealer, Frames, Publish, Pull, Push, Router, SocketClosed, Subscribe, TrySendError,
};

use super::harness::check;
use super::raw::RawPeer;
use super::setup::{
    IpcFolder, SOON, added, any_tcp, change, fill, number, numbered, options, published_numbers,
    push_to_pull, recv_numbers, soon, unbound_tcp,
};

const COUNT: usize = 50_000;
/// Longer than [`soon`] waits.
const LONG: Duration = Duration::from_secs(20);

#[test]
fn close_of_a_push_sends_all_queued_messages() {
    check(async {
        let folder = IpcFolder::new();
        for binds in ["push", "pull"] {
            for address in folder.all(binds) {
                let (push, mut pull) =
                    push_to_pull(binds, &address, &options(|options| options)).await;
                let sending = tokio::spawn(async move {
                    for number in 0..COUNT {
                        push.send(numbered(number, 64)).await.unwrap();
                    }
                    push.close(LONG).await;
                });
                recv_numbers(&mut pull, 0..COUNT).await;
                soon("closing", sending).await.unwrap();
            }
        }
    });
}

#[test]
fn close_of_a_push_waits_for_a_pull_that_begins_to_read_later() {
    check(async {
        let folder = IpcFolder::new();
        for address in folder.all("a") {
            let (push, mut pull) =
                push_to_pull("pull", &address, &options(|options| options)).await;
            let count = fill(&push, 16 * 1024, 0, 10_000).await;
            let closing = tokio::spawn(push.close(LONG));
            recv_numbers(&mut pull, 0..count).await;
            soon("closing", closing).await.unwrap();
        }
    });
}

#[test]
fn close_of_a_publisher_sends_all_queued_publications() {
    check(async {
        let folder = IpcFolder::new();
        let options = options(|options| options);
        for address in folder.all("a") {
            let (mut publish, bound) = Publish::bind(&address, &options).await.unwrap();
            let mut subscribe = Subscribe::connect(&bound, &options).await.unwrap();
            subscribe.subscribe("").await.unwrap();
            assert_eq!(change(&mut publish).await, added(""));
            let sending = tokio::spawn(async move {
                for number in 0..COUNT {
                    let topic = Bytes::from_static(b"topic");
                    publish.send(topic, numbered(number, 64)).await.unwrap();
                }
                publish.close(LONG).await;
            });
            published_numbers(&mut subscribe, 0..COUNT).await;
            soon("closing", sending).await.unwrap();
        }
    });
}

#[test]
fn close_of_a_dealer_sends_all_queued_messages() {
    check(async {
        let options = options(|options| options);
        let (mut router, bound) = Router::bind(&any_tcp(), &options).await.unwrap();
        let dealer = Dealer::connect(&bound, &options).await.unwrap();
        let sending = tokio::spawn(async move {
            for number in 0..COUNT {
                dealer
                    .send(std::iter::once(numbered(number, 64)).collect())
                    .await
                    .unwrap();
            }
            dealer.close(LONG).await;
        });
        let mut messages = Vec::new();
        while messages.len() < COUNT {
            soon("a message", router.recv_many(&mut messages, 256))
                .await
                .unwrap();
        }
        for (expected, message) in messages.iter().enumerate() {
            assert_eq!(number(&message[1]), expected);
        }
        soon("closing", sending).await.unwrap();
    });
}

#[test]
fn close_of_a_router_sends_all_queued_messages() {
    check(async {
        let options = options(|options| options);
        let (mut router, bound) = Router::bind(&any_tcp(), &options).await.unwrap();
        let mut dealer = Dealer::connect(&bound, &options).await.unwrap();
        dealer
            .send(std::iter::once(Bytes::from_static(b"here")).collect())
            .await
            .unwrap();
        let mut messages: Vec<Frames> = Vec::new();
        soon("the dealer", router.recv_many(&mut messages, 1))
            .await
            .unwrap();
        let name = messages.remove(0).remove(0);
        let count = 500;
        for number in 0..count {
            router
                .try_send([name.clone(), numbered(number, 1024)].into_iter().collect())
                .unwrap();
        }
        let closing = tokio::spawn(router.close(LONG));
        while messages.len() < count {
            soon("a message", dealer.recv_many(&mut messages, 256))
                .await
                .unwrap();
        }
        for (expected, message) in messages.iter().enumerate() {
            assert_eq!(number(&message[0]), expected);
        }
        soon("closing", closing).await.unwrap();
    });
}

#[test]
fn flushing_ends_at_the_deadline() {
    check(async {
        let folder = IpcFolder::new();
        let options = options(|options| options.queue_len(16));
        for address in folder.both("a") {
            for linger in [Duration::ZERO, Duration::from_millis(300)] {
                let (push, bound) = Push::bind(&address, &options).await.unwrap();
                let mut peer = RawPeer::introduced(&bound, "PULL").await;
                fill(&push, 64 * 1024, 0, 1_000).await;
                let begin = Instant::now();
                soon("closing", push.close(linger)).await;
                let took = begin.elapsed();
                assert!(
                    took >= linger && took < linger + Duration::from_secs(2),
                    "{took:?} instead of {linger:?}"
                );
                peer.closed().await;
            }
        }
    });
}

#[test]
fn closing_with_nothing_to_send_does_not_wait() {
    check(async {
        let address = unbound_tcp();
        let options = options(|options| options);
        soon(
            "closing",
            Push::connect(&address, &options).await.unwrap().close(LONG),
        )
        .await;
        soon(
            "closing",
            Dealer::connect(&address, &options)
                .await
                .unwrap()
                .close(LONG),
        )
        .await;
        soon(
            "closing",
            Push::bind(&any_tcp(), &options)
                .await
                .unwrap()
                .0
                .close(LONG),
        )
        .await;
        soon(
            "closing",
            Publish::bind(&any_tcp(), &options)
                .await
                .unwrap()
                .0
                .close(LONG),
        )
        .await;
        soon(
            "closing",
            Router::bind(&any_tcp(), &options)
                .await
                .unwrap()
                .0
                .close(LONG),
        )
        .await;
        let (push, pull) = push_to_pull("pull", &any_tcp(), &options).await;
        soon("closing", push.close(LONG)).await;
        soon("closing", pull.close()).await;
    });
}

#[test]
fn a_closed_socket_returns_socket_closed() {
    check(async {
        let (push, _) = Push::bind(&any_tcp(), &options(|options| options))
            .await
            .unwrap();
        let sender = push.clone();
        let sending = tokio::spawn(async move { sender.send(numbered(0, 64)).await });
        let late = push.clone();
        tokio::task::yield_now().await;
        soon("closing", push.close(Duration::ZERO)).await;
        assert_eq!(
            soon("the waiting sender", sending).await.unwrap(),
            Err(SocketClosed)
        );
        assert_eq!(
            soon("a late sender", late.send(numbered(1, 64))).await,
            Err(SocketClosed)
        );
        let rejected = late.try_send(numbered(2, 64));
        assert!(
            matches!(rejected, Err(TrySendError::Closed(_))),
            "{rejected:?}"
        );
    });
}

#[test]
fn a_dropped_end_closes_its_connections() {
    check(async {
        let folder = IpcFolder::new();
        let options = options(|options| options);
        for address in folder.both("a") {
            let (pull, bound) = Pull::bind(&address, &options).await.unwrap();
            let mut peer = RawPeer::introduced(&bound, "PUSH").await;
            drop(pull);
            peer.closed().await;

            let (push, bound) =
                super::setup::bind_again(async || Push::bind(&address, &options).await).await;
            let mut peer = RawPeer::introduced(&bound, "PULL").await;
            drop(push);
            peer.closed().await;

            let (publish, bound) =
                super::setup::bind_again(async || Publish::bind(&address, &options).await).await;
            let mut peer = RawPeer::introduced(&bound, "SUB").await;
            drop(publish);
            peer.closed().await;

            let (router, bound) =
                super::setup::bind_again(async || Router::bind(&address, &options).await).await;
            let mut peer = RawPeer::introduced(&bound, "DEALER").await;
            drop(router);
            peer.closed().await;
        }
    });
}

#[test]
fn a_dropped_end_releases_its_address() {
    check(async {
        let folder = IpcFolder::new();
        let options = options(|options| options);
        for address in folder.all("a") {
            let (pull, bound) = Pull::bind(&address, &options).await.unwrap();
            drop(pull);
            super::setup::bind_again(async || Pull::bind(&bound, &options).await).await;
        }
    });
}

#[test]
fn a_peer_receives_flushed_messages_before_the_connection_closes() {
    check(async {
        let (push, bound) = Push::bind(&any_tcp(), &options(|options| options))
            .await
            .unwrap();
        let mut peer = RawPeer::introduced(&bound, "PULL").await;
        for number in 0..1_000 {
            push.send(numbered(number, 64)).await.unwrap();
        }
        soon("closing", push.close(SOON)).await;
        for expected in 0..1_000 {
            assert_eq!(number(&peer.message().await[0]), expected);
        }
        peer.closed().await;
    });
}

//! ROUTER and DEALER: order, frames and routing ids.

use bytes::Bytes;
use palm_runtime::socket::{Address, Dealer, Frames, Router, TrySendError};

use super::harness::check;
use super::raw::{RawListener, RawPeer, frame, greeting, ready};
use super::setup::{IpcFolder, any_tcp, number, numbered, options, soon, unbound_tcp};

fn frames(frames: &[&[u8]]) -> Frames {
    frames
        .iter()
        .map(|frame| Bytes::copy_from_slice(frame))
        .collect()
}

/// Receives `count` messages at a dealer.
async fn at_dealer(dealer: &mut Dealer, count: usize) -> Vec<Frames> {
    let mut messages = Vec::new();
    while messages.len() < count {
        soon(
            "a message for the dealer",
            dealer.recv_many(&mut messages, 256),
        )
        .await
        .unwrap();
    }
    messages
}

async fn at_router(router: &mut Router, count: usize) -> Vec<Frames> {
    let mut messages = Vec::new();
    while messages.len() < count {
        soon(
            "a message for the router",
            router.recv_many(&mut messages, 256),
        )
        .await
        .unwrap();
    }
    messages
}

#[test]
fn a_router_that_connects_answers_and_connects_again() {
    check(async {
        let (listener, address) = RawListener::bind(&any_tcp());
        let options = options(|options| options);
        let mut router = Router::connect(&address, &options).await.unwrap();
        for body in [b"first", b"again"] {
            let mut dealer = listener.accept_as("DEALER").await;
            dealer.send(body).await;
            let message = at_router(&mut router, 1).await.remove(0);
            assert_eq!(message[1], &body[..]);
            router.try_send(message).unwrap();
            assert_eq!(soon("the answer", dealer.message()).await, [body]);
        }
    });
}

#[test]
fn messages_are_sent_to_the_peer_of_their_routing_id() {
    check(async {
        let folder = IpcFolder::new();
        let options = options(|options| options);
        for address in folder.all("a") {
            let (mut router, bound) = Router::bind(&address, &options).await.unwrap();
            let mut dealers = Vec::new();
            for number in 0..10 {
                let dealer = Dealer::connect(&bound, &options).await.unwrap();
                dealer
                    .send(frames(&[b"I am", &numbered(number, 8)]))
                    .await
                    .unwrap();
                dealers.push(dealer);
            }
            for message in at_router(&mut router, 10).await {
                assert_eq!(message.len(), 3);
                assert!(!message[0].is_empty(), "a peer has a name");
                let answer = frames(&[&message[0], b"you are", &message[2]]);
                router.try_send(answer).unwrap();
            }
            for (expected, dealer) in dealers.iter_mut().enumerate() {
                let message = at_dealer(dealer, 1).await.remove(0);
                assert_eq!(message[0], "you are");
                assert_eq!(number(&message[1]), expected);
            }
        }
    });
}

#[test]
fn every_message_arrives_once_and_in_order_both_ways() {
    check(async {
        let options = options(|options| options);
        let (mut router, bound) = Router::bind(&any_tcp(), &options).await.unwrap();
        let mut dealer = Dealer::connect(&bound, &options).await.unwrap();
        let answering = tokio::spawn(async move {
            for number in 0..20_000 {
                let mut messages = Vec::new();
                router.recv_many(&mut messages, 1).await.unwrap();
                assert_eq!(super::setup::number(&messages[0][1]), number);
                let mut message = messages.remove(0);
                while let Err(TrySendError::Full(back)) = router.try_send(message) {
                    message = back;
                    tokio::task::yield_now().await;
                }
            }
            router
        });
        let mut next = 0;
        for number in 0..20_000 {
            dealer.send(frames(&[&numbered(number, 64)])).await.unwrap();
            // Few unanswered messages, so that no queue is full.
            while number - next > 500 {
                let mut messages = Vec::new();
                soon("an answer", dealer.recv_many(&mut messages, 256))
                    .await
                    .unwrap();
                for message in messages {
                    assert_eq!(super::setup::number(&message[0]), next);
                    next += 1;
                }
            }
        }
        for message in at_dealer(&mut dealer, 20_000 - next).await {
            assert_eq!(number(&message[0]), next);
            next += 1;
        }
        answering.await.unwrap();
    });
}

#[test]
fn frames_arrive_unchanged() {
    check(async {
        let options = options(|options| options);
        let (mut router, bound) = Router::bind(&any_tcp(), &options).await.unwrap();
        let mut dealer = Dealer::connect(&bound, &options).await.unwrap();
        let large = vec![7; 300_000];
        let shapes: [&[&[u8]]; 5] = [
            &[b"one"],
            &[b""],
            &[b"", b"", b""],
            &[b"", b"delimited"],
            &[b"a", b"b", b"", b"d", &large],
        ];
        for shape in shapes {
            dealer.send(frames(shape)).await.unwrap();
            let message = at_router(&mut router, 1).await.remove(0);
            assert!(
                message[1..] == frames(shape)[..],
                "a message of {} frames",
                shape.len()
            );
            router.try_send(message).unwrap();
            assert!(at_dealer(&mut dealer, 1).await[0] == frames(shape));
        }
    });
}

#[test]
fn a_message_to_an_unknown_peer_is_dropped() {
    check(async {
        let (router, _) = Router::bind(&any_tcp(), &options(|options| options))
            .await
            .unwrap();
        for name in [b"absent".as_slice(), b"", &[0; 300]] {
            router.try_send(frames(&[name, b"hello"])).unwrap();
        }
    });
}

#[test]
fn a_dealer_waits_for_its_router() {
    check(async {
        let address = unbound_tcp();
        let options = options(|options| options.queue_len(4));
        let dealer = Dealer::connect(&address, &options).await.unwrap();
        let sending = tokio::spawn(async move {
            for number in 0..100 {
                dealer.send(frames(&[&numbered(number, 64)])).await.unwrap();
            }
            dealer
        });
        let (mut router, _) = Router::bind(&address, &options).await.unwrap();
        for (expected, message) in at_router(&mut router, 100).await.iter().enumerate() {
            assert_eq!(number(&message[1]), expected);
        }
        sending.await.unwrap();
    });
}

/// Checks that a second peer with the routing id of `first` does not receive its messages.
async fn keeps_its_name(mut router: Router, bound: &Address, mut first: RawPeer) {
    first.send(b"first").await;
    let name = at_router(&mut router, 1).await.remove(0).remove(0);

    let mut second = RawPeer::connect(bound).await;
    second.write(&greeting(0)).await.unwrap();
    second.write(&ready("DEALER", &name)).await.unwrap();
    let _ = second.write(&frame(0, b"second")).await;
    // The second peer is either rejected or has another routing id.
    tokio::select! {
        () = second.closed() => {}
        messages = at_router(&mut router, 1) => assert_ne!(messages[0][0], name),
    }
    router.try_send(frames(&[&name, b"for the first"])).unwrap();
    assert_eq!(first.message().await, [b"for the first"]);
    first.send(b"still first").await;
    assert_eq!(
        at_router(&mut router, 1).await[0][..],
        frames(&[&name, b"still first"])[..]
    );
}

#[test]
fn a_peer_cannot_take_an_assigned_routing_id() {
    check(async {
        let (router, bound) = Router::bind(&any_tcp(), &options(|options| options))
            .await
            .unwrap();
        let first = RawPeer::introduced(&bound, "DEALER").await;
        keeps_its_name(router, &bound, first).await;
    });
}

#[test]
fn a_peer_cannot_take_a_chosen_routing_id() {
    check(async {
        let (router, bound) = Router::bind(&any_tcp(), &options(|options| options))
            .await
            .unwrap();
        let first = RawPeer::introduced_as(&bound, "DEALER", b"name").await;
        keeps_its_name(router, &bound, first).await;
    });
}

#[test]
fn a_returning_peer_has_its_chosen_routing_id() {
    check(async {
        let (mut router, bound) = Router::bind(&any_tcp(), &options(|options| options))
            .await
            .unwrap();
        for _ in 0..5 {
            let mut peer = RawPeer::introduced_as(&bound, "DEALER", b"name").await;
            peer.send(b"hello").await;
            assert_eq!(
                at_router(&mut router, 1).await[0][..],
                frames(&[b"name", b"hello"])[..]
            );
            router.try_send(frames(&[b"name", b"welcome"])).unwrap();
            assert_eq!(peer.message().await, [b"welcome"]);
            drop(peer);
            // No event shows that the router has detected the loss. It must have by the time it receives another message.
            let dealer = Dealer::connect(&bound, &options(|options| options))
                .await
                .unwrap();
            dealer.send(frames(&[b"meanwhile"])).await.unwrap();
            at_router(&mut router, 1).await;
        }
    });
}

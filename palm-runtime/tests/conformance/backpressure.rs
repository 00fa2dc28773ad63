//! Queues are bounded, a full queue makes its sender wait, and no peer can stop another.

use std::time::Duration;

use bytes::Bytes;
use palm_runtime::socket::{
    Address, Dealer, Frames, Publish, Pull, Push, Reply, Request, Router, SocketOptions, Subscribe,
    TrySendError,
};

use super::harness::{check, check_within};
use super::raw::{MORE, RawListener, RawPeer, frame};
use super::request_reply::{echo, send_request};
use super::setup::{
    IpcFolder, STALLED, added, any_tcp, assert_full, change, fill, number, numbered, options,
    publications, published_numbers, push_to_pull, recv_numbers, recv_one, removed, soon,
    unbound_tcp,
};

/// Size of the messages of these tests: so large that the system's buffers hold few of them.
const LEN: usize = 64 * 1024;

/// More messages than a queue of [`few`], the buffers of the crate and those of the system hold together.
const MOST: usize = 1_000;

/// Options with short queues.
fn few(change: impl FnOnce(SocketOptions) -> SocketOptions) -> SocketOptions {
    options(|options| change(options.queue_len(16)))
}

#[test]
fn a_bound_sender_without_peers_waits() {
    check(async {
        let options = few(|options| options);
        let (push, bound) = Push::bind(&any_tcp(), &options).await.unwrap();
        assert_full(&push, numbered(0, 64));
        let waiting = tokio::spawn(async move { push.send(numbered(1, 64)).await.map(|()| push) });
        tokio::task::yield_now().await;
        assert!(!waiting.is_finished());
        let mut pull = Pull::connect(&bound, &options).await.unwrap();
        recv_numbers(&mut pull, 1..2).await;
        soon("the waiting sender", waiting).await.unwrap().unwrap();
    });
}

#[test]
fn a_connecting_sender_without_peers_waits() {
    check(async {
        let address = unbound_tcp();
        let options = few(|options| options);
        let push = Push::connect(&address, &options).await.unwrap();
        let count = fill(&push, LEN, 0, MOST).await;
        assert_full(&push, numbered(count, LEN));
        let sender = push.clone();
        let waiting = tokio::spawn(async move { sender.send(numbered(count, LEN)).await });
        let (mut pull, _) = Pull::bind(&address, &options).await.unwrap();
        recv_numbers(&mut pull, 0..count + 1).await;
        soon("the waiting sender", waiting).await.unwrap().unwrap();
    });
}

async fn waits_for_a_peer_that_does_not_read(push: Push, mut peer: RawPeer) {
    let count = fill(&push, LEN, 0, MOST).await;
    assert_full(&push, numbered(count, LEN));
    let sender = push.clone();
    let waiting = tokio::spawn(async move { sender.send(numbered(count, LEN)).await });
    for expected in 0..=count {
        assert_eq!(number(&peer.message().await[0]), expected);
    }
    soon("the waiting sender", waiting).await.unwrap().unwrap();
}

#[test]
fn a_bound_sender_waits_for_a_peer_that_does_not_read() {
    check(async {
        let folder = IpcFolder::new();
        for address in folder.both("a") {
            let (push, bound) = Push::bind(&address, &few(|options| options)).await.unwrap();
            let peer = RawPeer::introduced(&bound, "PULL").await;
            waits_for_a_peer_that_does_not_read(push, peer).await;
        }
    });
}

#[test]
fn a_connecting_sender_waits_for_a_peer_that_does_not_read() {
    check(async {
        let folder = IpcFolder::new();
        for address in folder.both("a") {
            let (listener, bound) = RawListener::bind(&address);
            let push = Push::connect(&bound, &few(|options| options))
                .await
                .unwrap();
            let peer = listener.accept_as("PULL").await;
            waits_for_a_peer_that_does_not_read(push, peer).await;
        }
    });
}

#[test]
fn an_unread_end_makes_its_peer_wait() {
    check(async {
        let folder = IpcFolder::new();
        for binds in ["push", "pull"] {
            for address in folder.all(binds) {
                let (push, mut pull) = push_to_pull(binds, &address, &few(|options| options)).await;
                let count = fill(&push, LEN, 0, MOST).await;
                assert_full(&push, numbered(count, LEN));
                recv_numbers(&mut pull, 0..count).await;
                push.send(numbered(count, LEN)).await.unwrap();
                recv_numbers(&mut pull, count..count + 1).await;
            }
        }
    });
}

#[test]
fn a_dealer_waits_for_a_router_that_does_not_read() {
    check(async {
        let options = few(|options| options);
        let (mut router, bound) = Router::bind(&any_tcp(), &options).await.unwrap();
        let dealer = Dealer::connect(&bound, &options).await.unwrap();
        let mut count = 0;
        loop {
            let message = std::iter::once(numbered(count, LEN)).collect();
            match tokio::time::timeout(STALLED, dealer.send(message)).await {
                Ok(sent) => sent.unwrap(),
                Err(_) => break,
            }
            count += 1;
            assert!(count <= MOST, "took {count} messages that no peer reads");
        }
        let mut messages = Vec::new();
        while messages.len() < count {
            soon("a message", router.recv_many(&mut messages, 16))
                .await
                .unwrap();
        }
        for (expected, message) in messages.iter().enumerate() {
            assert_eq!(number(&message[1]), expected);
        }
    });
}

/// Sends numbered messages to the peer of this routing id until its queue stays full.
async fn fill_route(router: &Router, name: &Bytes) -> usize {
    let (mut count, mut waited) = (0, false);
    loop {
        let message = [name.clone(), numbered(count, LEN)].into_iter().collect();
        match router.try_send(message) {
            Ok(()) => {
                count += 1;
                assert!(count <= MOST, "took {count} messages that no peer reads");
                waited = false;
                tokio::task::yield_now().await;
            }
            Err(TrySendError::Full(message)) => {
                assert_eq!(message[0], *name);
                assert_eq!(number(&message[1]), count);
                if waited {
                    return count;
                }
                tokio::time::sleep(STALLED).await;
                waited = true;
            }
            Err(closed) => panic!("{closed}"),
        }
    }
}

#[test]
fn a_router_with_a_full_queue_for_one_peer_sends_to_another() {
    check(async {
        let options = few(|options| options);
        let (mut router, bound) = Router::bind(&any_tcp(), &options).await.unwrap();
        let mut stalled = RawPeer::introduced(&bound, "DEALER").await;
        stalled.send(b"here").await;
        let mut messages: Vec<Frames> = Vec::new();
        soon("the stalled peer", router.recv_many(&mut messages, 1))
            .await
            .unwrap();
        let count = fill_route(&router, &messages[0][0]).await;

        let mut dealer = Dealer::connect(&bound, &options).await.unwrap();
        for round in 0..100 {
            dealer
                .send(std::iter::once(numbered(round, 64)).collect())
                .await
                .unwrap();
            messages.clear();
            soon("a message", router.recv_many(&mut messages, 1))
                .await
                .unwrap();
            router.try_send(messages.remove(0)).unwrap();
            soon("an answer", dealer.recv_many(&mut messages, 1))
                .await
                .unwrap();
            assert_eq!(number(&messages[0][0]), round);
        }
        for expected in 0..count {
            assert_eq!(number(&stalled.message().await[0]), expected);
        }
    });
}

#[test]
fn a_peer_that_does_not_read_loses_only_its_own_replies() {
    check(async {
        let (mut reply, bound) = Reply::bind(&any_tcp(), &few(|options| options))
            .await
            .unwrap();
        let mut stalled = RawPeer::introduced(&bound, "DEALER").await;
        // All requests are received before the first reply: a component receives no more requests than it has capacity
        // for replies.
        let mut responders = Vec::new();
        for _ in 0..=MOST {
            stalled
                .write(&[frame(MORE, b""), frame(0, b"?")].concat())
                .await
                .unwrap();
            let (_, responder) = soon("a request", reply.recv()).await.unwrap();
            responders.push(responder);
        }
        let mut replies = 0;
        for responder in responders {
            match responder.reply(numbered(replies, LEN)) {
                Ok(()) => replies += 1,
                Err(TrySendError::Full(body)) => {
                    assert_eq!(number(&body), replies);
                    break;
                }
                Err(closed) => panic!("{closed}"),
            }
            assert!(replies <= MOST, "took {replies} replies that no peer reads");
        }
        let _echo = echo(reply);
        let request = Request::connect(&bound, &options(|options| options))
            .await
            .unwrap();
        for round in 0..100 {
            send_request(&request, numbered(round, 64)).await;
        }
    });
}

#[test]
fn a_pull_that_stops_reading_does_not_stop_another() {
    check(async {
        let (push, bound) = Push::bind(&any_tcp(), &few(|options| options))
            .await
            .unwrap();
        let mut stalled = RawPeer::introduced(&bound, "PULL").await;
        push.send(numbered(0, 64)).await.unwrap();
        assert_eq!(number(&stalled.message().await[0]), 0);
        let mut pull = Pull::connect(&bound, &few(|options| options))
            .await
            .unwrap();
        const COUNT: usize = 4_000;
        let sending = tokio::spawn(async move {
            // A number beyond the count ends the loop below, whichever peer received the last message.
            for number in 0.. {
                if push.send(numbered(number, 16 * 1024)).await.is_err() {
                    break;
                }
            }
        });
        let (mut received, mut last) = (0, 0);
        while last < COUNT {
            last = number(&recv_one(&mut pull).await);
            received += 1;
        }
        assert!(
            received > COUNT * 2 / 3,
            "the reading peer received {received} of {COUNT}"
        );
        sending.abort();
        drop(stalled);
    });
}

#[test]
fn a_peer_that_dies_without_reading_releases_its_sender() {
    check(async {
        let folder = IpcFolder::new();
        for address in folder.both("a") {
            let (push, bound) = Push::bind(&address, &few(|options| options)).await.unwrap();
            let first = RawPeer::introduced(&bound, "PULL").await;
            let second = RawPeer::introduced(&bound, "PULL").await;
            let count = fill(&push, LEN, 0, MOST).await;
            let waiting = tokio::spawn(async move {
                push.send(numbered(count, LEN)).await.unwrap();
                push
            });
            drop((first, second));
            let mut pull = Pull::connect(&bound, &few(|options| options))
                .await
                .unwrap();
            let released = async { while number(&recv_one(&mut pull).await) != count {} };
            soon("the waiting sender's message", released).await;
            soon("the waiting sender", waiting).await.unwrap();
        }
    });
}

/// A publisher with a subscriber that reads, and one that never reads.
async fn with_a_stalled_subscriber(
    address: &Address,
    options: &SocketOptions,
    stalled: &'static str,
    reading: &'static str,
) -> (Publish, RawPeer, Subscribe) {
    let (mut publish, bound) = Publish::bind(address, options).await.unwrap();
    let mut peer = RawPeer::introduced(&bound, "SUB").await;
    peer.send(format!("\x01{stalled}").as_bytes()).await;
    assert_eq!(change(&mut publish).await, added(stalled));
    let subscribe = Subscribe::connect(&bound, options).await.unwrap();
    subscribe.subscribe(reading).await.unwrap();
    assert_eq!(change(&mut publish).await, added(reading));
    (publish, peer, subscribe)
}

fn topic(topic: &'static str) -> Bytes {
    Bytes::from_static(topic.as_bytes())
}

/// Publishes more than all buffers hold, so that it waits for the slow consumer timeout.
async fn a_stalled_subscriber_is_dropped(address: &Address) {
    const COUNT: usize = 1_000;
    let options = few(|options| options.slow_subscriber_timeout(Duration::from_secs(1)));
    let (mut publish, mut stalled, mut subscribe) =
        with_a_stalled_subscriber(address, &options, "topic", "").await;
    let sending = tokio::spawn(async move {
        for number in 0..COUNT {
            let sent = publish.send(topic("topic"), numbered(number, LEN));
            soon("publishing", sent).await.unwrap();
        }
        assert_eq!(change(&mut publish).await, removed("topic"));
        publish
    });
    published_numbers(&mut subscribe, 0..COUNT).await;
    sending.await.unwrap();
    stalled.closed().await;
}

#[test]
fn a_subscriber_that_stops_reading_is_disconnected_and_others_lose_nothing() {
    check(async { a_stalled_subscriber_is_dropped(&any_tcp()).await });
}

#[test]
fn a_local_subscriber_that_stops_reading_is_disconnected_and_others_lose_nothing() {
    check(async {
        let folder = IpcFolder::new();
        a_stalled_subscriber_is_dropped(&folder.ipc("a")).await;
    });
}

#[test]
fn a_subscriber_that_stops_reading_does_not_delay_other_topics() {
    check(async {
        let options = few(|options| options.slow_subscriber_timeout(Duration::from_secs(60)));
        let (publish, _stalled, mut subscribe) =
            with_a_stalled_subscriber(&any_tcp(), &options, "stalled", "other").await;
        let mut count = 0;
        loop {
            let sent = publish.send(topic("stalled"), numbered(count, LEN));
            if tokio::time::timeout(STALLED, sent).await.is_err() {
                break;
            }
            count += 1;
            assert!(count <= MOST, "took {count} messages that no peer reads");
        }
        for number in 0..100 {
            let sent = publish.send(topic("other"), numbered(number, 64));
            soon("publishing on another topic", sent).await.unwrap();
        }
        published_numbers(&mut subscribe, 0..100).await;
    });
}

#[test]
fn a_publisher_waits_for_a_subscriber_that_does_not_read() {
    check(async {
        let folder = IpcFolder::new();
        for address in folder.all("a") {
            let options = few(|options| options.slow_subscriber_timeout(Duration::from_secs(60)));
            let (mut publish, bound) = Publish::bind(&address, &options).await.unwrap();
            let mut subscribe = Subscribe::connect(&bound, &options).await.unwrap();
            subscribe.subscribe("").await.unwrap();
            assert_eq!(change(&mut publish).await, added(""));
            let mut count = 0;
            loop {
                let sent = publish.send(topic("topic"), numbered(count, LEN));
                if tokio::time::timeout(STALLED, sent).await.is_err() {
                    break;
                }
                count += 1;
                assert!(count <= MOST, "took {count} messages that no peer reads");
            }
            published_numbers(&mut subscribe, 0..count).await;
            publish
                .send(topic("topic"), numbered(count, LEN))
                .await
                .unwrap();
            published_numbers(&mut subscribe, count..count + 1).await;
        }
    });
}

#[test]
fn a_subscriber_that_pauses_for_less_than_the_slow_subscriber_timeout_stays() {
    check_within(Duration::from_secs(60), async {
        let options = few(|options| options.slow_subscriber_timeout(Duration::from_secs(4)));
        let (mut publish, bound) = Publish::bind(&any_tcp(), &options).await.unwrap();
        let mut subscribe = Subscribe::connect(&bound, &options).await.unwrap();
        subscribe.subscribe("").await.unwrap();
        assert_eq!(change(&mut publish).await, added(""));
        let sending = tokio::spawn(async move {
            for number in 0..1_000 {
                publish
                    .send(topic("topic"), numbered(number, LEN))
                    .await
                    .unwrap();
            }
            publish
        });
        let mut next = 0;
        for pause in 0..3 {
            // The pause is the subject of the test.
            tokio::time::sleep(Duration::from_secs(2)).await;
            let count = if pause < 2 { 200 } else { 600 };
            for publication in publications(&mut subscribe, count).await {
                assert_eq!(number(&publication.body.unwrap()), next);
                next += 1;
            }
        }
        sending.await.unwrap();
    });
}

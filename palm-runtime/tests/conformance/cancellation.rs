//! A dropped future either has had no effect, or has completed.

use std::time::Duration;

use bytes::Bytes;
use palm_runtime::socket::{
    Dealer, Frames, Publish, Pull, Push, Reply, Router, SocketOptions, Subscribe,
};

use super::harness::check;
use super::raw::{MORE, RawPeer, frame};
use super::setup::{
    STALLED, added, any_tcp, change, fill, number, numbered, options, publications, push_to_pull,
    recv, soon,
};

const LEN: usize = 64 * 1024;
const MOST: usize = 1_000;

/// The number in messages that must not arrive.
const DROPPED: usize = 1_000_000;

/// The number in the last message.
const END: usize = 2_000_000;

fn few() -> SocketOptions {
    options(|options| options.queue_len(16))
}

/// Polls a future once, and drops it.
async fn drop_once_polled<T>(future: impl Future<Output = T>) -> Option<T> {
    tokio::select! {
        biased;
        output = future => Some(output),
        () = std::future::ready(()) => None,
    }
}

/// Polls a future, yields, and drops the future unless it is complete.
async fn hurry<T>(future: impl Future<Output = T>) -> Option<T> {
    tokio::select! {
        biased;
        output = future => Some(output),
        () = tokio::task::yield_now() => None,
    }
}

#[test]
fn a_dropped_send_sends_nothing() {
    check(async {
        let (push, bound) = Push::bind(&any_tcp(), &few()).await.unwrap();
        let mut peer = RawPeer::introduced(&bound, "PULL").await;
        let count = fill(&push, LEN, 0, MOST).await;
        for number in 0..1_000 {
            let sent = drop_once_polled(push.send(numbered(DROPPED + number, LEN))).await;
            assert_eq!(sent, None, "the queue is full");
        }
        for expected in 0..count {
            assert_eq!(number(&peer.message().await[0]), expected);
        }
        push.send(numbered(count, LEN)).await.unwrap();
        assert_eq!(number(&peer.message().await[0]), count);
    });
}

#[test]
fn a_dropped_send_does_not_skip_a_peer() {
    check(async {
        let (push, bound) = Push::bind(&any_tcp(), &few()).await.unwrap();
        let mut first = Pull::connect(&bound, &few()).await.unwrap();
        push.send(numbered(DROPPED, 64)).await.unwrap();
        assert_eq!(number(&recv(&mut first, 1).await[0]), DROPPED);
        let mut second = Pull::connect(&bound, &few()).await.unwrap();
        let mut messages = Vec::new();
        while messages.is_empty() {
            push.send(numbered(DROPPED, 64)).await.unwrap();
            hurry(first.recv_many(&mut Vec::new(), 16)).await;
            hurry(second.recv_many(&mut messages, 16)).await;
        }
        let mut count = 0;
        for _ in 0..5 {
            count += fill(&push, LEN, count, 2 * MOST).await;
            for number in 0..100 {
                drop_once_polled(push.send(numbered(DROPPED + number, LEN))).await;
            }
            let mut messages = Vec::new();
            while messages.len() < count / 2 {
                hurry(first.recv_many(&mut messages, 16)).await;
                hurry(second.recv_many(&mut messages, 16)).await;
                // Messages of earlier rounds may still arrive.
                messages.retain(|frames| number(frames) < DROPPED);
            }
            count -= messages.len();
        }
        // Both peers receive the remaining messages and the following ones.
        let sending =
            tokio::spawn(async move { while push.send(numbered(0, LEN)).await.is_ok() {} });
        recv(&mut first, 2 * MOST).await;
        recv(&mut second, 2 * MOST).await;
        sending.abort();
    });
}

#[test]
fn senders_are_woken_though_others_are_dropped() {
    check(async {
        let (push, mut pull) = push_to_pull("pull", &any_tcp(), &few()).await;
        let sending: Vec<_> = (0..50)
            .map(|sender| {
                let push = push.clone();
                tokio::spawn(async move {
                    for number in 0..100 {
                        let timeout = Duration::from_micros(50 * (1 + number % 20));
                        let message = numbered(sender * 1_000 + number as usize, 1024);
                        while tokio::time::timeout(timeout, push.send(message.clone()))
                            .await
                            .is_err()
                        {}
                    }
                })
            })
            .collect();
        let mut next = [0; 50];
        for _ in 0..50 * 100 {
            let message = recv(&mut pull, 1).await.remove(0);
            let (sender, number) = (number(&message) / 1_000, number(&message) % 1_000);
            assert_eq!(number, next[sender], "sender {sender}");
            next[sender] += 1;
            tokio::task::yield_now().await;
        }
        for sending in sending {
            soon("a sender", sending).await.unwrap();
        }
    });
}

#[test]
fn a_dropped_publication_is_not_sent() {
    check(async {
        let options = options(|options| {
            options
                .queue_len(16)
                .slow_subscriber_timeout(Duration::from_secs(60))
        });
        let (mut publish, bound) = Publish::bind(&any_tcp(), &options).await.unwrap();
        let mut slow = RawPeer::introduced(&bound, "SUB").await;
        slow.send(b"\x01").await;
        assert_eq!(change(&mut publish).await, added(""));
        let mut quick = Subscribe::connect(&bound, &options).await.unwrap();
        quick.subscribe("").await.unwrap();
        assert_eq!(change(&mut publish).await, added(""));

        let reading = tokio::spawn(async move {
            let mut numbers = Vec::new();
            loop {
                let publication = publications(&mut quick, 1).await.remove(0);
                match number(&publication.body.unwrap()) {
                    END => return numbers,
                    number => numbers.push(number),
                }
            }
        });
        let topic = Bytes::from_static(b"topic");
        let mut sent = Vec::new();
        loop {
            let next = sent.len();
            let send = publish.send(topic.clone(), numbered(next, LEN));
            match tokio::time::timeout(STALLED, send).await {
                Ok(done) => done.unwrap(),
                Err(_) => break,
            }
            sent.push(next);
            assert!(next <= MOST);
        }
        for number in 0..100 {
            let send = publish.send(topic.clone(), numbered(DROPPED + number, LEN));
            assert_eq!(drop_once_polled(send).await, None, "the queue is full");
        }
        for expected in &sent {
            assert_eq!(number(&slow.message().await[1]), *expected);
        }
        publish.send(topic, numbered(END, LEN)).await.unwrap();
        assert_eq!(number(&slow.message().await[1]), END);
        assert_eq!(
            soon("the account of the quick one", reading).await.unwrap(),
            sent
        );
    });
}

#[test]
fn a_dropped_recv_loses_nothing() {
    check(async {
        let (push, mut pull) = push_to_pull("pull", &any_tcp(), &options(|options| options)).await;
        let sending = tokio::spawn(async move {
            for number in 0..20_000 {
                push.send(numbered(number, 64)).await.unwrap();
                if number % 100 == 0 {
                    tokio::task::yield_now().await;
                }
            }
            push
        });
        let mut messages = Vec::new();
        while messages.len() < 20_000 {
            if let Some(received) = hurry(pull.recv_many(&mut messages, 3)).await {
                received.unwrap();
            }
        }
        for (expected, message) in messages.iter().enumerate() {
            assert_eq!(number(message), expected);
        }
        sending.await.unwrap();
    });
}

#[test]
fn a_dropped_recv_of_a_router_or_dealer_loses_nothing() {
    check(async {
        let options = options(|options| options);
        let (mut router, bound) = Router::bind(&any_tcp(), &options).await.unwrap();
        let mut dealer = Dealer::connect(&bound, &options).await.unwrap();
        for round in 0..2_000 {
            let message: Frames = std::iter::once(numbered(round, 64)).collect();
            dealer.send(message.clone()).await.unwrap();
            let mut messages = Vec::new();
            while messages.is_empty() {
                hurry(router.recv_many(&mut messages, 3)).await;
            }
            assert_eq!(messages[0][1..], message[..]);
            router.try_send(messages.remove(0)).unwrap();
            while messages.is_empty() {
                hurry(dealer.recv_many(&mut messages, 3)).await;
            }
            assert_eq!(messages, [message]);
        }
    });
}

#[test]
fn a_dropped_recv_of_a_subscriber_loses_nothing() {
    check(async {
        let options = options(|options| options);
        let (mut publish, bound) = Publish::bind(&any_tcp(), &options).await.unwrap();
        let mut subscribe = Subscribe::connect(&bound, &options).await.unwrap();
        subscribe.subscribe("").await.unwrap();
        assert_eq!(change(&mut publish).await, added(""));
        let sending = tokio::spawn(async move {
            for number in 0..10_000 {
                let topic = Bytes::from_static(b"topic");
                publish.send(topic, numbered(number, 64)).await.unwrap();
            }
            publish
        });
        let mut received = Vec::new();
        while received.len() < 10_000 {
            hurry(subscribe.recv_many(&mut received, 3)).await;
        }
        for (expected, publication) in received.into_iter().enumerate() {
            assert_eq!(number(&publication.body.unwrap()), expected);
        }
        sending.await.unwrap();
    });
}

#[test]
fn a_dropped_recv_of_requests_loses_nothing() {
    check(async {
        let (mut reply, bound) = Reply::bind(&any_tcp(), &options(|options| options))
            .await
            .unwrap();
        let mut peer = RawPeer::introduced(&bound, "DEALER").await;
        for round in 0..1_000 {
            let request = [frame(MORE, b""), frame(0, &numbered(round, 8))].concat();
            peer.write(&request.repeat(3)).await.unwrap();
            for _ in 0..3 {
                let (body, _) = loop {
                    if let Some(request) = hurry(reply.recv()).await {
                        break request.unwrap();
                    }
                };
                assert_eq!(number(&body[0]), round);
            }
        }
    });
}

#[test]
fn a_dropped_wait_for_changes_loses_none() {
    check(async {
        let options = options(|options| options);
        let (mut publish, bound) = Publish::bind(&any_tcp(), &options).await.unwrap();
        let subscribe = Subscribe::connect(&bound, &options).await.unwrap();
        subscribe.subscribe("0").await.unwrap();
        assert_eq!(change(&mut publish).await, added("0"));
        for round in 1..200 {
            subscribe.subscribe(round.to_string()).await.unwrap();
            while hurry(publish.changed()).await.is_none() {}
            let change = publish.next_change().await.unwrap();
            let topic = Bytes::from(round.to_string());
            assert_eq!(
                change,
                Some(palm_runtime::socket::SubscriptionChange::Added(topic))
            );
        }
    });
}

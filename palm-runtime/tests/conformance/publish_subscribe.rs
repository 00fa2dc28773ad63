//! PUB and SUB: subscriptions and publications.

use std::time::Duration;

use bytes::Bytes;
use palm_runtime::socket::{Address, Publication, Publish, SocketOptions, Subscribe};

use super::harness::check;
use super::raw::{MORE, RawListener, frame};
use super::setup::{
    IpcFolder, added, any_tcp, change, numbered, options, publications, published_numbers, removed,
    soon, topics,
};

/// A publisher and a subscriber of `topics`, once the publisher has received the subscriptions.
pub(crate) async fn published(
    address: &Address,
    options: &SocketOptions,
    topics: &[&'static str],
) -> (Publish, Subscribe, Address) {
    let (mut publish, bound) = Publish::bind(address, options).await.unwrap();
    let subscribe = Subscribe::connect(&bound, options).await.unwrap();
    for topic in topics {
        subscribe.subscribe(*topic).await.unwrap();
    }
    // Subscriptions before the connection may arrive in any order.
    let mut missing: Vec<_> = topics.iter().map(|topic| added(topic)).collect();
    while !missing.is_empty() {
        let change = change(&mut publish).await;
        let known = missing.iter().position(|missing| *missing == change);
        missing.remove(known.unwrap_or_else(|| panic!("{change:?} was not subscribed to")));
    }
    (publish, subscribe, bound)
}

async fn send(publish: &Publish, topic: &'static str) {
    let sent = publish.send(
        Bytes::from_static(topic.as_bytes()),
        Bytes::from_static(b"body"),
    );
    soon("publishing", sent).await.unwrap();
}

#[test]
fn every_publication_arrives_once_and_in_order() {
    check(async {
        let folder = IpcFolder::new();
        for address in folder.all("a") {
            let (publish, mut subscribe, _) =
                published(&address, &options(|options| options), &[""]).await;
            let sending = tokio::spawn(async move {
                for number in 0..20_000 {
                    let topic = Bytes::from_static(b"numbers");
                    publish.send(topic, numbered(number, 64)).await.unwrap();
                }
                publish
            });
            published_numbers(&mut subscribe, 0..20_000).await;
            sending.await.unwrap();
        }
    });
}

#[test]
fn topics_match_by_prefix() {
    check(async {
        let folder = IpcFolder::new();
        for address in folder.all("a") {
            let (publish, mut subscribe, _) =
                published(&address, &options(|options| options), &["server", "end"]).await;
            for topic in [
                "serve",
                "server",
                "client",
                "server_too",
                "",
                "Server",
                "end",
            ] {
                send(&publish, topic).await;
            }
            assert_eq!(
                topics(&mut subscribe, 3).await,
                ["server", "server_too", "end"]
            );
        }
    });
}

#[test]
fn topics_may_be_any_bytes() {
    check(async {
        let (mut publish, bound) = Publish::bind(&any_tcp(), &options(|options| options))
            .await
            .unwrap();
        let mut subscribe = Subscribe::connect(&bound, &options(|options| options))
            .await
            .unwrap();
        let topic = Bytes::from_static(b"\xff\x00\xfe");
        subscribe.subscribe(topic.clone()).await.unwrap();
        soon("the subscription", publish.changed()).await.unwrap();
        while publish.next_change().await.unwrap().is_some() {}
        assert!(publish.is_subscribed(b"\xff\x00\xfe\x00"));
        publish
            .send(topic.clone(), Bytes::from_static(b"body"))
            .await
            .unwrap();
        assert_eq!(topics(&mut subscribe, 1).await, [topic]);
    });
}

#[test]
fn an_empty_prefix_matches_everything() {
    check(async {
        let (publish, mut subscribe, _) =
            published(&any_tcp(), &options(|options| options), &[""]).await;
        assert!(publish.is_subscribed(b""));
        assert!(publish.is_subscribed(b"anything"));
        for topic in ["", "anything"] {
            send(&publish, topic).await;
        }
        assert_eq!(topics(&mut subscribe, 2).await, ["", "anything"]);
    });
}

#[test]
fn changes_of_subscriptions_are_seen_in_order() {
    check(async {
        let folder = IpcFolder::new();
        for address in folder.all("a") {
            let (mut publish, subscribe, _) =
                published(&address, &options(|options| options), &["first"]).await;
            assert!(publish.is_subscribed(b"first"));
            assert!(!publish.is_subscribed(b"second"));
            subscribe.subscribe("second").await.unwrap();
            subscribe.unsubscribe("first").await.unwrap();
            subscribe.subscribe("third").await.unwrap();
            assert_eq!(change(&mut publish).await, added("second"));
            assert_eq!(change(&mut publish).await, removed("first"));
            assert_eq!(change(&mut publish).await, added("third"));
            assert!(!publish.is_subscribed(b"first"));
            assert!(publish.is_subscribed(b"second"));
            assert!(publish.is_subscribed(b"third"));
        }
    });
}

#[test]
fn publications_after_a_subscription_are_delivered() {
    check(async {
        let (mut publish, mut subscribe, _) =
            published(&any_tcp(), &options(|options| options), &["known"]).await;
        for round in 0..100 {
            // The first publication after the change must not be lost.
            let topic = Bytes::from(format!("topic {round}"));
            subscribe.subscribe(topic.clone()).await.unwrap();
            soon("the subscription", publish.changed()).await.unwrap();
            while publish.next_change().await.unwrap().is_some() {}
            assert!(publish.is_subscribed(&topic));
            publish.send(topic.clone(), Bytes::new()).await.unwrap();
            assert_eq!(topics(&mut subscribe, 1).await, [topic]);
        }
    });
}

#[test]
fn publications_of_a_revoked_subscription_are_not_delivered() {
    check(async {
        let (mut publish, mut subscribe, _) = published(
            &any_tcp(),
            &options(|options| options),
            &["abandoned", "end"],
        )
        .await;
        send(&publish, "abandoned").await;
        assert_eq!(topics(&mut subscribe, 1).await, ["abandoned"]);
        subscribe.unsubscribe("abandoned").await.unwrap();
        assert_eq!(change(&mut publish).await, removed("abandoned"));
        send(&publish, "abandoned").await;
        send(&publish, "end").await;
        assert_eq!(topics(&mut subscribe, 1).await, ["end"]);
    });
}

#[test]
fn a_subscription_lasts_until_its_last_subscriber_revokes_it() {
    check(async {
        let options = options(|options| options);
        let (mut publish, first, bound) = published(&any_tcp(), &options, &["topic"]).await;
        let mut second = Subscribe::connect(&bound, &options).await.unwrap();
        second.subscribe("topic").await.unwrap();
        second.subscribe("end").await.unwrap();
        let mut changes = [change(&mut publish).await, change(&mut publish).await];
        changes.sort_by_key(|change| *change == added("end"));
        assert_eq!(changes, [added("topic"), added("end")]);

        first.unsubscribe("topic").await.unwrap();
        assert_eq!(change(&mut publish).await, removed("topic"));
        assert!(publish.is_subscribed(b"topic"), "the second still has it");
        send(&publish, "topic").await;
        send(&publish, "end").await;
        assert_eq!(topics(&mut second, 2).await, ["topic", "end"]);
    });
}

#[test]
fn subscriptions_of_a_subscriber_that_leaves_are_removed() {
    check(async {
        let folder = IpcFolder::new();
        for address in folder.all("a") {
            let (mut publish, subscribe, _) =
                published(&address, &options(|options| options), &["one", "two"]).await;
            soon("closing", subscribe.close()).await;
            let mut changes = [change(&mut publish).await, change(&mut publish).await];
            changes.sort_by_key(|change| *change == removed("two"));
            assert_eq!(changes, [removed("one"), removed("two")]);
            assert!(!publish.is_subscribed(b"one"));
            assert!(!publish.is_subscribed(b"two"));
        }
    });
}

#[test]
fn publishing_without_subscribers_does_not_wait() {
    check(async {
        let (publish, _, _) = published(&any_tcp(), &options(|options| options), &["other"]).await;
        for _ in 0..10_000 {
            send(&publish, "unsubscribed").await;
        }
    });
}

#[test]
fn a_publication_reaches_every_subscriber() {
    check(async {
        let options = options(|options| options);
        let (mut publish, first, bound) = published(&any_tcp(), &options, &["topic"]).await;
        let mut subscribers = vec![first];
        for _ in 1..20 {
            let subscribe = Subscribe::connect(&bound, &options).await.unwrap();
            subscribe.subscribe("topic").await.unwrap();
            assert_eq!(change(&mut publish).await, added("topic"));
            subscribers.push(subscribe);
        }
        for number in 0..500 {
            publish
                .send(Bytes::from_static(b"topic"), numbered(number, 64))
                .await
                .unwrap();
        }
        for subscribe in &mut subscribers {
            published_numbers(subscribe, 0..500).await;
        }
    });
}

#[test]
fn a_subscriber_follows_several_publishers() {
    check(async {
        let options = options(|options| options);
        let (first, mut subscribe, _) = published(&any_tcp(), &options, &["topic"]).await;
        let (mut second, bound) = Publish::bind(&any_tcp(), &options).await.unwrap();
        subscribe.connect_to(&bound).await.unwrap();
        assert_eq!(change(&mut second).await, added("topic"));
        send(&first, "topic of the first").await;
        assert_eq!(topics(&mut subscribe, 1).await, ["topic of the first"]);
        send(&second, "topic of the second").await;
        assert_eq!(topics(&mut subscribe, 1).await, ["topic of the second"]);
    });
}

#[test]
fn a_publication_of_one_frame_has_no_body() {
    check(async {
        let options = options(|options| options);
        let (listener, bound) = RawListener::bind(&any_tcp());
        let mut subscribe = Subscribe::connect(&bound, &options).await.unwrap();
        subscribe.subscribe("").await.unwrap();
        let mut peer = listener.accept_as("PUB").await;
        assert_eq!(peer.message().await, [b"\x01"]);
        peer.send(b"bare").await;
        peer.write(&[frame(MORE, b"full"), frame(0, b"body")].concat())
            .await
            .unwrap();
        let overfull = [
            frame(MORE, b"overfull"),
            frame(MORE, b"body"),
            frame(0, b"body"),
        ];
        peer.write(&overfull.concat()).await.unwrap();
        let publication = |topic: &'static str, body: Option<&'static str>| {
            Publication::new(topic, body.map(Bytes::from))
        };
        assert_eq!(
            publications(&mut subscribe, 3).await,
            [
                publication("bare", None),
                publication("full", Some("body")),
                publication("overfull", None),
            ]
        );
    });
}

#[test]
fn a_slow_subscriber_loses_nothing() {
    check(async {
        let few = options(|options| options.queue_len(8));
        let (publish, mut subscribe, _) = published(&any_tcp(), &few, &[""]).await;
        let sending = tokio::spawn(async move {
            for number in 0..2_000 {
                let topic = Bytes::from_static(b"numbers");
                publish
                    .send(topic, numbered(number, 16 * 1024))
                    .await
                    .unwrap();
            }
            publish.close(Duration::from_secs(20)).await;
        });
        for number in 0..2_000 {
            for _ in 0..50 {
                tokio::task::yield_now().await;
            }
            published_numbers(&mut subscribe, number..number + 1).await;
        }
        sending.await.unwrap();
    });
}

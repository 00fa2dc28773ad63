//! Tests of subscriptions.

use bytes::Bytes;

use super::backlog::{CLIENT_BACKLOG, CLIENT_STALL_TIMEOUT};
use super::subscription::MAX_TOPICS;
use super::*;
use crate::link::session::CreditWindow;
use crate::link::{CLIENT, MAX_NAME_BYTES};
use crate::message::BatchSizes;
use crate::message::proto::{LinkHeader, LinkHello};

fn following(topics: &[&str], client: &str) -> Subscription {
    Subscription {
        topics: topics.iter().map(|&topic| topic.to_owned()).collect(),
        client: client.to_owned(),
    }
}

fn targets(subscriptions: &SubscriptionTable, topic: &str) -> Vec<(PeerKey, u64)> {
    let mut targets = subscriptions.targets(topic).to_vec();
    targets.sort_unstable();
    targets
}

#[test]
fn publication_is_sent_to_subscribers_of_its_exact_topic_and_answers_to_their_client() {
    let mut subscriptions = SubscriptionTable::default();
    subscriptions.add(1, following(&["news", "sport"], ""));
    subscriptions.add(2, following(&["sport"], ""));
    subscriptions.add(3, following(&[], "anna"));
    assert_eq!(targets(&subscriptions, "sport"), [(1, 2), (2, 1)]);
    assert_eq!(targets(&subscriptions, "news"), [(1, 1)]);
    // Topics match exactly; a client receives the answers of all of its calls.
    assert_eq!(targets(&subscriptions, "news/today"), []);
    assert_eq!(targets(&subscriptions, "anna"), [(3, 0)]);
    assert_eq!(targets(&subscriptions, "anna/17"), [(3, 0)]);
    assert_eq!(targets(&subscriptions, "anna2/17"), []);
    for topic in ["sport", "anna/1", "absent"] {
        assert_eq!(subscriptions.has_subscriber(topic), topic != "absent");
    }
    subscriptions.remove(1);
    subscriptions.remove(3);
    assert_eq!(targets(&subscriptions, "sport"), [(2, 1)]);
    assert!(!subscriptions.has_subscriber("news") && !subscriptions.has_subscriber("anna/17"));
    subscriptions.remove(2);
    assert!(subscriptions.topics.is_empty() && subscriptions.clients.is_empty());
}

#[test]
fn answer_without_a_subscriber_is_sent_to_the_client_that_called() {
    let hello = |role: &str, client: &str| LinkHello {
        role: role.to_owned(),
        name: "anna".to_owned(),
        client: client.to_owned(),
        ..LinkHello::default()
    };
    assert_eq!(PeerOrigin::from_hello(&hello(CLIENT, "")).caller, "anna");
    assert_eq!(PeerOrigin::from_hello(&hello(CLIENT, "anna")).caller, "");
    assert_eq!(PeerOrigin::from_hello(&hello("subscriber", "")).caller, "");
    let mut subscriptions = SubscriptionTable::default();
    subscriptions.add(1, following(&[], ""));
    subscriptions.set_origin(1, PeerOrigin::from_hello(&hello(CLIENT, "")));
    assert_eq!(targets(&subscriptions, "anna/17"), [(1, 0)]);
    assert!(subscriptions.has_caller("anna/17") && !subscriptions.has_caller("bert/17"));
    assert!(!subscriptions.has_subscriber("anna/17"));
    assert!(!subscriptions.clients.contains_key("anna"));
    subscriptions.add(2, following(&[], "anna"));
    assert_eq!(targets(&subscriptions, "anna/17"), [(2, 0)]);
    subscriptions.remove(2);
    assert_eq!(targets(&subscriptions, "anna/17"), [(1, 0)]);
    subscriptions.remove(1);
    assert!(subscriptions.callers.is_empty() && targets(&subscriptions, "anna/17").is_empty());
}

#[test]
fn backlog_of_an_expired_subscriber_is_returned_unless_others_are_subscribed() {
    let mut subscriptions = SubscriptionTable {
        has_publisher: true,
        ..SubscriptionTable::default()
    };
    subscriptions.add(1, following(&["news", "sport"], "anna"));
    subscriptions.add(2, following(&["sport"], ""));
    subscriptions.events.clear();
    let item = |tag: u64| TaggedBatch::new(tag, vec![tag as u8].into());
    // Answers to a client, and messages with an unknown tag, are not returned.
    let items = (0..4).map(item).chain([item(u64::MAX)]).collect();
    subscriptions.return_backlog(1, items);
    let Some(SubscriptionEvent::Undelivered(undelivered)) = subscriptions.events.pop() else {
        panic!("nothing is returned_clients");
    };
    let [LinkPublication { topic, batch }] = &undelivered[..] else {
        panic!("{undelivered:?}");
    };
    assert_eq!((&**topic, &batch.frame()[..]), ("news", &[1][..]));
    subscriptions.return_backlog(2, VecDeque::from([item(1)]));
    assert!(subscriptions.events.is_empty());
    subscriptions.remove(1);
    subscriptions.return_backlog(2, VecDeque::from([item(1)]));
    assert!(matches!(
        subscriptions.events.pop(),
        Some(SubscriptionEvent::Undelivered(_))
    ));
}

#[test]
fn descriptor_lists_subscribers_with_an_address_and_their_topics() {
    let hello = |db_address: &str| LinkHello {
        name: "next".to_owned(),
        db_address: db_address.to_owned(),
        ..LinkHello::default()
    };
    let mut subscriptions = SubscriptionTable::default();
    let cancelled = str::from_utf8(CANCEL_TOPIC).unwrap();
    subscriptions.add(1, following(&["news", cancelled], ""));
    assert_eq!(subscriptions.descriptor_entry(1), None, "it has no address");
    subscriptions.set_origin(1, PeerOrigin::from_hello(&hello("tcp://127.0.0.1:1")));
    let expected = proto::Follower {
        name: "next".to_owned(),
        db_address: "tcp://127.0.0.1:1".to_owned(),
        topics: vec!["news".to_owned()],
    };
    assert_eq!(subscriptions.descriptor_entry(1), Some(expected));
    subscriptions.set_origin(
        1,
        PeerOrigin::from_hello(&hello(&"x".repeat(MAX_NAME_BYTES + 1))),
    );
    assert_eq!(
        subscriptions.descriptor_entry(1),
        None,
        "its address is too long"
    );
    // A worker subscribes to cancellations only.
    subscriptions.add(2, following(&[cancelled], ""));
    subscriptions.set_origin(2, PeerOrigin::from_hello(&hello("tcp://127.0.0.1:2")));
    assert_eq!(subscriptions.descriptor_entry(2), None);
    subscriptions.remove(1);
    assert_eq!(subscriptions.descriptor_entry(1), None);
}

#[test]
fn retained_publications_stay_in_order() {
    let item = |number: u8| TaggedBatch::new(0, vec![number].into());
    let mut subscriptions = SubscriptionTable::default();
    subscriptions.add(1, following(&["news"], ""));
    assert!(
        subscriptions.is_retained(1)
            && subscriptions.has_subscription(1, &following(&["news"], ""))
    );
    subscriptions.retain(1, VecDeque::from([item(2)]));
    subscriptions.retain(1, VecDeque::from([item(0), item(1)]));
    assert_eq!(subscriptions.retained(1), 3);
    let numbers = subscriptions
        .take_retained(1)
        .into_iter()
        .map(|item| item.batch.frame()[0]);
    assert!(numbers.eq(0..3));
    subscriptions.add(2, following(&[], "anna"));
    assert!(
        !subscriptions.is_retained(2),
        "publications of clients are not retained"
    );
}

/// A session with this backlog.
fn session(messages: usize, bytes: usize, now: Instant) -> Session {
    let window = CreditWindow {
        messages: 0,
        bytes: 0,
    };
    let id = Bytes::from_static(&[1; 16]);
    let mut session = Session::accept(id, 1, 1, window, Duration::from_secs(9), now);
    if messages > 0 {
        session.submit(item_of(messages, bytes), now);
    }
    session
}

/// A batch of messages, the last of which has all of the bytes.
fn item_of(messages: usize, bytes: usize) -> TaggedBatch {
    let mut sizes = vec![0; messages];
    sizes[messages - 1] = bytes as u32;
    let batch = Batch::from_sizes(vec![0; bytes].into(), BatchSizes::new(sizes.into()));
    TaggedBatch::from_batch(0, 0, batch.unwrap())
}

#[test]
fn client_is_paused_at_exactly_the_limit_of_its_backlog() {
    let now = Instant::now();
    let mut subscriptions = SubscriptionTable::default();
    subscriptions.add(1, following(&[], "anna"));
    let is_backlogged = |subscriptions: &SubscriptionTable, messages, bytes| {
        subscriptions.is_backlogged(1, &session(messages, bytes, now))
    };
    assert!(!is_backlogged(
        &subscriptions,
        PAUSE_BACKLOG.messages - 1,
        PAUSE_BACKLOG.bytes - 1
    ));
    assert!(is_backlogged(&subscriptions, PAUSE_BACKLOG.messages, 0));
    assert!(is_backlogged(&subscriptions, 1, PAUSE_BACKLOG.bytes));
    assert!(!subscriptions.is_backlogged(2, &session(PAUSE_BACKLOG.messages, 0, now)));
    // Retained messages count too.
    subscriptions.retain(1, VecDeque::from([item_of(96, 1000)]));
    assert!(!is_backlogged(
        &subscriptions,
        PAUSE_BACKLOG.messages - 97,
        0
    ));
    assert!(is_backlogged(
        &subscriptions,
        PAUSE_BACKLOG.messages - 96,
        0
    ));
    assert!(!is_backlogged(
        &subscriptions,
        1,
        PAUSE_BACKLOG.bytes - 1001
    ));
    assert!(is_backlogged(&subscriptions, 1, PAUSE_BACKLOG.bytes - 1000));
    subscriptions.take_retained(1);
    assert!(!is_backlogged(
        &subscriptions,
        PAUSE_BACKLOG.messages - 1,
        0
    ));
}

#[test]
fn full_backlog_has_drained_below_half_of_its_limit() {
    let now = Instant::now();
    let cancelled = str::from_utf8(CANCEL_TOPIC).unwrap();
    let check = |following: Subscription, limit: BacklogSize| {
        let mut subscriptions = SubscriptionTable::default();
        subscriptions.add(1, following);
        assert!(
            !subscriptions.has_drained(1, &session(0, 0, now)),
            "it was not full"
        );
        subscriptions.full_since.insert(1, now);
        let half = limit.half();
        for (messages, bytes) in [(half.messages, 0), (1, half.bytes)] {
            assert!(!subscriptions.has_drained(1, &session(messages, bytes, now)));
            assert_eq!(subscriptions.full_since(1), Some(now));
        }
        assert!(subscriptions.has_drained(1, &session(half.messages - 1, half.bytes - 1, now)));
        assert_eq!(subscriptions.full_since(1), None);
    };
    check(following(&["news"], ""), SUBSCRIBER_BACKLOG);
    check(following(&["news"], "anna"), SUBSCRIBER_BACKLOG);
    check(following(&[], "anna"), CLIENT_BACKLOG);
    let half = |limit: BacklogSize| (limit.half().messages, limit.half().bytes >> 20);
    assert_eq!(half(SUBSCRIBER_BACKLOG), (5000, 32));
    assert_eq!(half(CLIENT_BACKLOG), (20_000, 128));
    assert!(following(&[cancelled], "").backlog_limit().is_none());
}

#[test]
fn peer_with_a_full_backlog_is_a_slow_consumer_after_the_timeout_without_reading() {
    let now = Instant::now();
    let limit = Duration::from_secs(10);
    let moment = Duration::from_millis(1);
    let is_slow_consumer = |subscriptions: &SubscriptionTable, limit, session: &Session, after| {
        subscriptions.is_slow_consumer(1, session, limit, now + after)
    };
    let mut subscriber = SubscriptionTable::default();
    subscriber.add(1, following(&["news"], ""));
    let unread = session(1, 0, now);
    assert!(!is_slow_consumer(
        &subscriber,
        Some(limit),
        &unread,
        100 * limit
    ));
    subscriber.full_since.insert(1, now);
    assert!(!is_slow_consumer(&subscriber, Some(limit), &unread, limit));
    assert!(is_slow_consumer(
        &subscriber,
        Some(limit),
        &unread,
        limit + moment
    ));
    assert!(!is_slow_consumer(&subscriber, None, &unread, 100 * limit));
    let read = session(1, 0, now + limit);
    assert!(!is_slow_consumer(
        &subscriber,
        Some(limit),
        &read,
        2 * limit
    ));
    assert!(is_slow_consumer(
        &subscriber,
        Some(limit),
        &read,
        2 * limit + moment
    ));
    // The time of a client does not depend on the limit of subscribers.
    let mut client = SubscriptionTable::default();
    client.add(1, following(&[], "anna"));
    client.full_since.insert(1, now);
    for limit in [None, Some(limit)] {
        assert!(!is_slow_consumer(
            &client,
            limit,
            &unread,
            CLIENT_STALL_TIMEOUT
        ));
        assert!(is_slow_consumer(
            &client,
            limit,
            &unread,
            CLIENT_STALL_TIMEOUT + moment
        ));
    }
}

#[test]
fn client_with_a_large_message_under_way_has_time_to_receive_it() {
    let now = Instant::now();
    let moment = Duration::from_millis(1);
    let mut client = SubscriptionTable::default();
    client.add(1, following(&[], "anna"));
    client.full_since.insert(1, now);
    for (megabytes, credit, expected) in [(4, 0, 1), (4, 1, 5), (100, 1, 15)] {
        let mut session = session(1, megabytes << 20, now);
        let header = LinkHeader {
            session: Bytes::from_static(&[1; 16]),
            credit_messages: credit,
            credit_bytes: credit,
            hello: Some(LinkHello::default()),
            ..LinkHeader::default()
        };
        session.receive(now, &header, std::iter::empty(), &mut Vec::new());
        while session.transmit(now).is_some() {}
        let limit = Duration::from_secs(expected);
        assert!(!client.is_slow_consumer(1, &session, None, now + limit));
        assert!(client.is_slow_consumer(1, &session, None, now + limit + moment));
    }
}

#[test]
fn client_of_an_answer_is_the_topic_up_to_the_first_slash() {
    let anna = following(&["news"], "anna");
    assert!(anna.is_of("anna") && anna.is_of("anna/1/2"));
    assert!(!anna.is_of("anna2") && !anna.is_of("news") && !anna.is_of(""));
    assert!(!following(&["news"], "").is_of(""));
}

#[test]
fn new_subscriptions_are_reported_to_the_publisher() {
    let mut subscriptions = SubscriptionTable {
        has_publisher: true,
        ..SubscriptionTable::default()
    };
    subscriptions.add(1, following(&["news"], ""));
    let Some(SubscriptionEvent::Subscribed(reported, _)) = subscriptions.events.pop() else {
        panic!("nothing is reported");
    };
    assert_eq!(reported, following(&["news"], ""));
    assert!(
        subscriptions.has_subscription(1, &reported)
            && !subscriptions.has_subscription(2, &reported)
    );
    assert!(!subscriptions.has_subscription(1, &following(&["sport"], "")));
}

#[test]
fn subscription_of_a_hello_is_limited() {
    let hello = |topics: usize, len: usize| LinkHello {
        topics: vec!["x".repeat(len); topics],
        ..LinkHello::default()
    };
    assert!(Subscription::from_hello(&hello(MAX_TOPICS, MAX_NAME_BYTES)).is_ok());
    assert!(Subscription::from_hello(&hello(MAX_TOPICS + 1, 1)).is_err());
    assert!(Subscription::from_hello(&hello(1, MAX_NAME_BYTES + 1)).is_err());
}

//! Options, addresses and messages that most tests share.

use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};
use palm_runtime::socket::{
    Address, Publication, Publish, Pull, Push, SocketError, SocketOptions, Subscribe,
    SubscriptionChange, TrySendError,
};
use tempfile::TempDir;

/// Time within which an expected event has to happen.
pub(crate) const SOON: Duration = Duration::from_secs(10);

/// Time without progress after which a sender counts as waiting. No event shows that nothing happens.
pub(crate) const STALLED: Duration = Duration::from_millis(300);

/// Awaits a future. If it takes too long, the test fails with `what`.
pub(crate) async fn soon<T>(what: &str, future: impl Future<Output = T>) -> T {
    match tokio::time::timeout(SOON, future).await {
        Ok(value) => value,
        Err(_) => panic!("{what}: not within {SOON:?}"),
    }
}

/// Options with short reconnect delays, changed by `change`.
pub(crate) fn options(change: impl FnOnce(SocketOptions) -> SocketOptions) -> SocketOptions {
    let options = SocketOptions::new()
        .min_reconnect_delay(Duration::from_millis(10))
        .max_reconnect_delay(Duration::from_millis(100));
    change(options)
}

/// A TCP address of this machine with a free port, to be bound.
pub(crate) fn any_tcp() -> Address {
    "tcp://127.0.0.1:0".parse().unwrap()
}

/// A TCP address that is not bound, and that no other test uses, so that it can be bound again.
pub(crate) fn unbound_tcp() -> Address {
    palm_runtime::testing::unused_address()
        .unwrap()
        .parse()
        .unwrap()
}

/// Addresses to bind. The directory of the ipc path is deleted when this is dropped.
pub(crate) struct IpcFolder(TempDir);

impl IpcFolder {
    pub(crate) fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    pub(crate) fn ipc(&self, name: &str) -> Address {
        format!("ipc://{}/{name}", self.0.path().display())
            .parse()
            .unwrap()
    }

    /// Returns a TCP and an IPC address, which raw peers can connect to.
    pub(crate) fn both(&self, name: &str) -> [Address; 2] {
        [unbound_tcp(), self.ipc(name)]
    }

    /// Returns an address of each transport.
    pub(crate) fn all(&self, name: &str) -> [Address; 3] {
        let [tcp, ipc] = self.both(name);
        [tcp, ipc, "inproc://*".parse().unwrap()]
    }
}

/// A message of `len` bytes that begins with its number.
pub(crate) fn numbered(number: usize, len: usize) -> Bytes {
    let mut message = BytesMut::with_capacity(len.max(8));
    message.put_u64(number as u64);
    message.resize(len.max(8), b'.');
    message.freeze()
}

/// The number of a [`numbered`] message.
pub(crate) fn number(message: &[u8]) -> usize {
    let number = u64::from_be_bytes(message[..8].try_into().unwrap());
    number.try_into().unwrap()
}

/// Binds an address that was just released. It stays in use for a moment if another test starts a process, which has
/// copies of all sockets until it executes its program.
pub(crate) async fn bind_again<T>(bind: impl AsyncFn() -> Result<T, SocketError>) -> T {
    let again = async {
        loop {
            match bind().await {
                Ok(bound) => return bound,
                Err(_) => tokio::time::sleep(Duration::from_millis(5)).await,
            }
        }
    };
    soon("binding again", again).await
}

/// A PUSH and a PULL, of which one binds `address`.
pub(crate) async fn push_to_pull(
    binds: &str,
    address: &Address,
    options: &SocketOptions,
) -> (Push, Pull) {
    if binds == "push" {
        let (push, bound) = Push::bind(address, options).await.unwrap();
        (push, Pull::connect(&bound, options).await.unwrap())
    } else {
        let (pull, bound) = Pull::bind(address, options).await.unwrap();
        (Push::connect(&bound, options).await.unwrap(), pull)
    }
}

/// Receives the next `count` messages.
pub(crate) async fn recv(pull: &mut Pull, count: usize) -> Vec<Bytes> {
    let mut messages = Vec::new();
    while messages.len() < count {
        let seen = messages.len();
        let max = (count - seen).min(256);
        let what = format!("message {seen} of {count}");
        soon(&what, pull.recv_many(&mut messages, max))
            .await
            .unwrap();
    }
    messages
}

/// Receives the next message.
pub(crate) async fn recv_one(pull: &mut Pull) -> Bytes {
    recv(pull, 1).await.remove(0)
}

/// Receives the messages with these numbers, in this order.
pub(crate) async fn recv_numbers(pull: &mut Pull, numbers: std::ops::Range<usize>) {
    for (expected, message) in numbers.clone().zip(recv(pull, numbers.len()).await) {
        assert_eq!(number(&message), expected, "lost, doubled or out of order");
    }
}

/// Receives the next `count` publications.
pub(crate) async fn publications(subscribe: &mut Subscribe, count: usize) -> Vec<Publication> {
    let mut publications = Vec::new();
    while publications.len() < count {
        let seen = publications.len();
        let max = (count - seen).min(256);
        let what = format!("publication {seen} of {count}");
        soon(&what, subscribe.recv_many(&mut publications, max))
            .await
            .unwrap();
    }
    publications
}

/// Receives the next `count` publications, and returns their topics.
pub(crate) async fn topics(subscribe: &mut Subscribe, count: usize) -> Vec<Bytes> {
    let publications = publications(subscribe, count).await;
    publications
        .into_iter()
        .map(|publication| publication.topic)
        .collect()
}

/// Receives the publications whose bodies have these numbers, in this order.
pub(crate) async fn published_numbers(subscribe: &mut Subscribe, numbers: std::ops::Range<usize>) {
    for (expected, publication) in numbers
        .clone()
        .zip(publications(subscribe, numbers.len()).await)
    {
        let body = publication.body.expect("a publication has a body");
        assert_eq!(number(&body), expected, "lost, doubled or out of order");
    }
}

/// Receives the next change of the subscriptions.
pub(crate) async fn change(publish: &mut Publish) -> SubscriptionChange {
    soon("a change of the subscriptions", publish.changed())
        .await
        .unwrap();
    publish
        .next_change()
        .await
        .unwrap()
        .expect("`changed` said so")
}

pub(crate) fn added(topic: &'static str) -> SubscriptionChange {
    SubscriptionChange::Added(Bytes::from_static(topic.as_bytes()))
}

pub(crate) fn removed(topic: &'static str) -> SubscriptionChange {
    SubscriptionChange::Removed(Bytes::from_static(topic.as_bytes()))
}

/// Sends numbered messages from `from` on until the sender has to wait. Returns their number, and fails if there are
/// more than `most`.
pub(crate) async fn fill(push: &Push, len: usize, from: usize, most: usize) -> usize {
    let mut count = 0;
    loop {
        match tokio::time::timeout(STALLED, push.send(numbered(from + count, len))).await {
            Ok(sent) => sent.unwrap(),
            Err(_) => return count,
        }
        count += 1;
        assert!(
            count <= most,
            "sent {count} messages of {len} bytes that no peer reads"
        );
    }
}

/// Asserts that no queue has capacity, and that the message is returned.
pub(crate) fn assert_full(push: &Push, message: Bytes) {
    match push.try_send(message.clone()) {
        Err(TrySendError::Full(returned)) => assert_eq!(returned, message),
        other => panic!("expected `Full`, got {other:?}"),
    }
}

//! What most tests need.

use std::future::Future;
use std::sync::{Arc, Mutex, Once, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use palm::socket::{Address, Publication, Push, SocketOptions, Subscribe};
use palm::{Client, ComponentHandle, Message};
use tempfile::TempDir;
use tokio::sync::watch;

/// How long what must happen may take.
pub(crate) const SOON: Duration = Duration::from_secs(15);

/// How long nothing must happen to count as nothing.
pub(crate) const STALLED: Duration = Duration::from_millis(300);

/// How long a test may take.
const LIMIT: Duration = Duration::from_secs(60);

/// Any free port of this machine.
pub(crate) const ANY: &str = "tcp://127.0.0.1:0";

/// What methods and hooks panic with on purpose. Every other panic fails the test in which it happens, also in a task
/// that is never joined.
const PANICS_ON_PURPOSE: &[&str] = &[
    "as told",
    "on purpose",
    "not printable",
    "there is nothing to shout",
];

/// Panics that are not on purpose: the name of the thread, and what it says.
static PANICS: Mutex<Vec<(String, String)>> = Mutex::new(Vec::new());

fn watch_panics() {
    static WATCHING: Once = Once::new();
    WATCHING.call_once(|| {
        let report = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            // A payload that is not text is on purpose too.
            let is_accident =
                |text: &str| !PANICS_ON_PURPOSE.iter().any(|part| text.contains(part));
            if panic.payload_as_str().is_some_and(is_accident) {
                let thread = std::thread::current();
                let name = thread.name().unwrap_or_default().to_owned();
                let mut panics = PANICS.lock().unwrap_or_else(PoisonError::into_inner);
                panics.push((name, panic.to_string()));
            }
            report(panic);
        }));
    });
}

/// The panics in threads of this test, or in threads without a test's name: a component with a thread of its own
/// names it after itself.
fn panics_of(test: &str) -> Vec<String> {
    let mut panics = PANICS.lock().unwrap_or_else(PoisonError::into_inner);
    let is_of_test = |(thread, _): &mut (String, String)| thread == test || !thread.contains("::");
    let panics = panics.extract_if(.., is_of_test);
    panics.map(|(_, text)| text).collect()
}

/// Runs a test on a runtime of its own, within the limit; what hangs then is left behind. No task may panic.
pub(crate) fn check(body: impl Future<Output = ()>) {
    check_on(
        tokio::runtime::Builder::new_multi_thread().worker_threads(2),
        body,
    );
}

/// [`check`] for a test that takes longer.
pub(crate) fn check_for(limit: Duration, body: impl Future<Output = ()>) {
    let mut builder = tokio::runtime::Builder::new_multi_thread();
    check_within(limit, builder.worker_threads(2), body);
}

/// [`check`] on a runtime that is set up in a certain way.
pub(crate) fn check_on(builder: &mut tokio::runtime::Builder, body: impl Future<Output = ()>) {
    check_within(LIMIT, builder, body);
}

fn check_within(
    limit: Duration,
    builder: &mut tokio::runtime::Builder,
    body: impl Future<Output = ()>,
) {
    watch_panics();
    // The threads of the runtime are known by the test.
    let test = std::thread::current();
    let test = test.name().unwrap_or_default();
    let runtime = builder.thread_name(test).enable_all().build().unwrap();
    let done = runtime.block_on(async { tokio::time::timeout(limit, body).await.is_ok() });
    runtime.shutdown_background();
    assert!(done, "not done within {limit:?}");
    let panics = panics_of(test);
    assert!(panics.is_empty(), "a task panicked: {panics:#?}");
}

/// What a future gives; `what` says what did not happen when it takes too long.
pub(crate) async fn soon<T>(what: &str, future: impl Future<Output = T>) -> T {
    match tokio::time::timeout(SOON, future).await {
        Ok(value) => value,
        Err(_) => panic!("{what}: not within {SOON:?}"),
    }
}

/// [`soon`], for so much work that a busy machine takes longer for it.
pub(crate) async fn finally<T>(what: &str, future: impl Future<Output = T>) -> T {
    const FINALLY: Duration = Duration::from_secs(45);
    match tokio::time::timeout(FINALLY, future).await {
        Ok(value) => value,
        Err(_) => panic!("{what}: not within {FINALLY:?}"),
    }
}

/// Waits until `done`, which no event tells of, e.g. that a counter has a value.
pub(crate) async fn eventually(what: &str, mut done: impl FnMut() -> bool) {
    let poll = async {
        while !done() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    soon(what, poll).await;
}

/// A place for ipc addresses, which lasts as long as this.
pub(crate) struct Place(TempDir);

impl Place {
    pub(crate) fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    /// A file in it.
    pub(crate) fn path(&self, name: &str) -> std::path::PathBuf {
        self.0.path().join(name)
    }

    pub(crate) fn ipc(&self, name: &str) -> String {
        format!("ipc://{}/{name}", self.0.path().display())
    }
}

/// A TCP address that nobody has bound.
pub(crate) fn unbound() -> String {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    format!("tcp://{}", listener.local_addr().unwrap())
}

/// Waits until the component listens at all of its addresses: a port for legacy peers is opened when it is asked for.
pub(crate) async fn listens(component: &ComponentHandle) {
    for at in component.addresses().values() {
        let Some(at) = at.strip_prefix("tcp://") else {
            continue;
        };
        let listens = async {
            while tokio::net::TcpStream::connect(at).await.is_err() {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        soon(&format!("listening at {at}"), listens).await;
    }
}

pub(crate) fn address(text: &str) -> Address {
    text.parse().unwrap()
}

/// The default options with quick reconnection.
pub(crate) fn options() -> SocketOptions {
    let mut options = SocketOptions::default();
    options.reconnect = (Duration::from_millis(10), Duration::from_millis(100));
    options
}

/// An error and its causes in one line.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}

/// A client of old: it pushes single messages, and sees all that is published to its id.
pub(crate) struct Caller {
    push: Push,
    subscribe: Subscribe,
    publications: std::vec::IntoIter<Publication>,
    id: String,
}

impl Caller {
    /// Calls `component`.
    pub(crate) async fn of(component: &ComponentHandle, id: &str) -> Self {
        let pull = component.address("pull_address").unwrap();
        Self::at(pull, component.address("pub_address").unwrap(), id).await
    }

    /// Pushes to one address, and listens at the other.
    pub(crate) async fn at(pull: &str, publishes: &str, id: &str) -> Self {
        let push = Push::connect(&address(pull), &options()).await.unwrap();
        let subscribe = Subscribe::connect(&address(publishes), &options())
            .await
            .unwrap();
        subscribe.subscribe(id.to_owned()).await.unwrap();
        Self {
            push,
            subscribe,
            publications: Vec::new().into_iter(),
            id: id.to_owned(),
        }
    }

    pub(crate) async fn send(&self, function: &str, payload: impl Into<Bytes>) {
        let mut message = Message::new(function, payload.into());
        message.set_client(self.id.clone());
        self.send_message(message).await;
    }

    pub(crate) async fn send_message(&self, message: Message) {
        soon("room to send", self.push.send(message.into_frame()))
            .await
            .unwrap();
    }

    /// The next publication: its topic and the message.
    pub(crate) async fn publication(&mut self) -> (Bytes, Message) {
        loop {
            if let Some(Publication { topic, body }) = self.publications.next() {
                return (topic, Message::decode(body.unwrap()).unwrap());
            }
            let mut publications = Vec::new();
            let received = self.subscribe.recv_many(&mut publications, 256);
            // Later than what the test itself waits for, which says more.
            let received = tokio::time::timeout(2 * SOON, received).await;
            received.expect("a publication in time").unwrap();
            self.publications = publications.into_iter();
        }
    }

    /// The payload of the next publication.
    pub(crate) async fn answer(&mut self) -> Bytes {
        self.publication().await.1.payload().clone()
    }

    /// The payloads of the next publications.
    pub(crate) async fn answers(&mut self, count: usize) -> Vec<Bytes> {
        let mut answers = Vec::new();
        for _ in 0..count {
            answers.push(self.answer().await);
        }
        answers
    }
}

/// A place where calls wait until it is opened, and where they are counted.
#[derive(Debug, Clone)]
pub(crate) struct Gate(Arc<(watch::Sender<usize>, watch::Sender<bool>)>);

impl Gate {
    pub(crate) fn closed() -> Self {
        Self(Arc::new((watch::Sender::new(0), watch::Sender::new(false))))
    }

    /// Counts without waiting.
    pub(crate) fn count_one(&self) {
        self.0.0.send_modify(|arrived| *arrived += 1);
    }

    /// Waits until the gate is open.
    pub(crate) async fn pass(&self) {
        let (_, open) = &*self.0;
        self.count_one();
        open.subscribe().wait_for(|open| *open).await.unwrap();
    }

    pub(crate) fn open(&self) {
        self.0.1.send_replace(true);
    }

    /// How many calls have come here.
    pub(crate) fn count(&self) -> usize {
        *self.0.0.borrow()
    }

    /// Waits until `count` calls have come here.
    pub(crate) async fn arrived(&self, count: usize) {
        let mut arrived = self.0.0.subscribe();
        let what = format!("{count} calls at the gate");
        soon(&what, arrived.wait_for(|arrived| *arrived >= count))
            .await
            .unwrap();
    }
}

/// A client of `component`, which is called `name`.
pub(crate) async fn connect(name: &str, component: &ComponentHandle) -> Client {
    soon("connecting", Client::connect(name, component.db_address()))
        .await
        .unwrap()
}

/// A client of `first` whose answers come from `last`.
pub(crate) async fn connect_through(first: &ComponentHandle, last: &ComponentHandle) -> Client {
    let client = Client::builder(first.name(), first.db_address())
        .sub_address(last.address("pub_address").unwrap());
    soon("connecting", client.connect()).await.unwrap()
}

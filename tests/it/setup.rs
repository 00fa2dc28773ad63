//! Set-up that most tests share: limits, addresses, clients, and gates.

use std::future::Future;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, Once, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use palm::socket::{Address, Publication, Push, SocketOptions, Subscribe};
use palm::{Client, ComponentHandle, Message};
use tempfile::TempDir;
use tokio::sync::watch;

/// Time within which an expected event must happen.
pub(crate) const SOON: Duration = Duration::from_secs(15);

/// Time without an event after which the event counts as absent.
pub(crate) const STALLED: Duration = Duration::from_millis(300);

/// Time within which a test must end.
const LIMIT: Duration = Duration::from_secs(60);

/// The same with paused time. If all tasks of a test wait for each other, this time passes at once.
const PAUSED_LIMIT: Duration = Duration::from_secs(24 * 3600);

/// Any free port of this machine.
pub(crate) const ANY: &str = "tcp://127.0.0.1:0";

/// An unused name, for sockets within this process. Tests in [`paused`] use it.
pub(crate) const ANY_NAME: &str = "inproc://*";

/// Messages of deliberate panics in methods and hooks. Every other panic fails its test, also in a task that is never
/// joined.
const PANICS_ON_PURPOSE: &[&str] = &[
    "as requested",
    "on purpose",
    "not printable",
    "there is nothing to shout",
    "calls (seed 7)",
];

/// Accidental panics: the name of the thread, and the message.
static PANICS: Mutex<Vec<(String, String)>> = Mutex::new(Vec::new());

fn watch_panics() {
    static WATCHING: Once = Once::new();
    WATCHING.call_once(|| {
        let report = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            // A payload that is not text is deliberate as well.
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

/// Returns the panics in threads of this test, and in threads without the name of a test, such as that of a component
/// with its own thread.
fn panics_of(test: &str) -> Vec<String> {
    let mut panics = PANICS.lock().unwrap_or_else(PoisonError::into_inner);
    let is_of_test = |(thread, _): &mut (String, String)| thread == test || !thread.contains("::");
    let panics = panics.extract_if(.., is_of_test);
    panics.map(|(_, text)| text).collect()
}

/// Runs a test on its own runtime, within the time limit, and asserts that no task panics. Tasks that hang are left
/// behind.
pub(crate) fn check(body: impl Future<Output = ()>) {
    check_on(
        tokio::runtime::Builder::new_multi_thread().worker_threads(2),
        body,
    );
}

/// [`check`] with paused time on one thread, for tests without sockets of the system, processes and threads.
///
/// Time advances only when all tasks wait, so that waiting costs none, and durations are exact.
pub(crate) fn paused(body: impl Future<Output = ()>) {
    let mut builder = tokio::runtime::Builder::new_current_thread();
    check_within(PAUSED_LIMIT, builder.start_paused(true), body);
}

/// Simulates work. With [`paused`] time it takes none.
pub(crate) async fn work(milliseconds: u64) {
    tokio::time::sleep(Duration::from_millis(milliseconds)).await;
}

/// Waits for [`STALLED`]. [`paused`] time advances only when all tasks wait, so an event that has not happened by then
/// is absent.
///
/// # Panics
///
/// Panics if time is not paused: the event could then be late.
pub(crate) async fn settle() {
    let (begin, real) = (tokio::time::Instant::now(), std::time::Instant::now());
    while std::time::Instant::now() == real {
        std::hint::spin_loop();
    }
    assert_eq!(tokio::time::Instant::now(), begin, "time is not paused");
    tokio::time::sleep(STALLED).await;
}

/// [`check`] for a test that takes longer.
pub(crate) fn check_for(limit: Duration, body: impl Future<Output = ()>) {
    let mut builder = tokio::runtime::Builder::new_multi_thread();
    check_within(limit, builder.worker_threads(2), body);
}

/// [`check`] on the runtime of this builder.
pub(crate) fn check_on(builder: &mut tokio::runtime::Builder, body: impl Future<Output = ()>) {
    check_within(LIMIT, builder, body);
}

fn check_within(
    limit: Duration,
    builder: &mut tokio::runtime::Builder,
    body: impl Future<Output = ()>,
) {
    watch_panics();
    // Names the runtime's threads after the test.
    let test = std::thread::current();
    let test = test.name().unwrap_or_default();
    let runtime = builder.thread_name(test).enable_all().build().unwrap();
    let done = runtime.block_on(async { tokio::time::timeout(limit, body).await.is_ok() });
    runtime.shutdown_background();
    assert!(done, "not done within {limit:?}");
    let panics = panics_of(test);
    assert!(panics.is_empty(), "a task panicked: {panics:#?}");
}

/// Awaits a future that must end soon. Otherwise the test fails, and `what` says what did not happen.
pub(crate) async fn soon<T>(what: &str, future: impl Future<Output = T>) -> T {
    match tokio::time::timeout(SOON, future).await {
        Ok(value) => value,
        Err(_) => panic!("{what}: not within {SOON:?}"),
    }
}

/// [`soon`] for work that takes longer on a busy machine.
pub(crate) async fn finally<T>(what: &str, future: impl Future<Output = T>) -> T {
    const FINALLY: Duration = Duration::from_secs(45);
    match tokio::time::timeout(FINALLY, future).await {
        Ok(value) => value,
        Err(_) => panic!("{what}: not within {FINALLY:?}"),
    }
}

/// Polls until `done` returns true, for conditions without an event, e.g. the value of a counter.
pub(crate) async fn eventually(what: &str, mut done: impl FnMut() -> bool) {
    let poll = async {
        while !done() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    soon(what, poll).await;
}

/// Polls until `attempt` succeeds, for example to bind an address that is about to be released.
pub(crate) async fn succeeds<T, E>(
    what: &str,
    mut attempt: impl AsyncFnMut() -> Result<T, E>,
) -> T {
    let poll = async {
        loop {
            match attempt().await {
                Ok(value) => return value,
                Err(_) => tokio::time::sleep(Duration::from_millis(5)).await,
            }
        }
    };
    soon(what, poll).await
}

/// Starts a component at TCP addresses that another one of this process had until now.
///
/// While another test starts a process, the new process has copies of all sockets until it executes its program. So a
/// port can stay in use for a moment after its socket was closed.
pub(crate) async fn starts_again(
    mut start: impl AsyncFnMut() -> palm::Result<ComponentHandle>,
) -> ComponentHandle {
    let started = async {
        loop {
            match start().await {
                Err(error) if chain(&error).contains("in use") => {
                    tokio::time::sleep(Duration::from_millis(5)).await;
                }
                started => return started.unwrap(),
            }
        }
    };
    soon("starting again", started).await
}

/// A folder for IPC addresses, which is deleted when this is dropped.
pub(crate) struct TempFolder(TempDir);

impl TempFolder {
    pub(crate) fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    /// Returns the path of a file in the folder.
    pub(crate) fn path(&self, name: &str) -> std::path::PathBuf {
        self.0.path().join(name)
    }

    pub(crate) fn ipc(&self, name: &str) -> String {
        format!("ipc://{}/{name}", self.0.path().display())
    }
}

/// Returns a TCP address that is not bound, and that no other test uses.
pub(crate) fn unbound() -> String {
    palm::testing::unused_address().unwrap()
}

/// Returns an address as [`unbound`] does, for protocols other than ZeroMQ's.
pub(crate) fn unbound_socket() -> std::net::SocketAddr {
    unbound().trim_start_matches("tcp://").parse().unwrap()
}

/// Returns an address within this process that is not bound.
pub(crate) fn unbound_name() -> String {
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    format!("inproc://test-{}", NEXT.fetch_add(1, Ordering::Relaxed))
}

/// Waits until the component listens at all of its addresses, since ports for legacy peers are opened on demand.
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

/// Returns the default options with quick reconnection.
pub(crate) fn options() -> SocketOptions {
    SocketOptions::new()
        .min_reconnect_delay(Duration::from_millis(10))
        .max_reconnect_delay(Duration::from_millis(100))
}

/// Returns an error and its causes in one line.
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

/// A legacy client, which pushes single messages and receives all publications of its id.
pub(crate) struct Caller {
    push: Push,
    subscribe: Subscribe,
    publications: std::vec::IntoIter<Publication>,
    id: String,
}

impl Caller {
    /// Connects to the legacy sockets of `component`.
    pub(crate) async fn new(component: &ComponentHandle, id: &str) -> Self {
        let pull = component.address("pull_address").unwrap();
        Self::at(pull, component.address("pub_address").unwrap(), id).await
    }

    /// Connects to one address to push, and to another to subscribe.
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
        soon("capacity to send", self.push.send(message.into_frame()))
            .await
            .unwrap();
    }

    /// Waits for the next publication, and returns its topic and message.
    pub(crate) async fn publication(&mut self) -> (Bytes, Message) {
        loop {
            if let Some(Publication { topic, body, .. }) = self.publications.next() {
                return (topic, Message::decode(body.unwrap()).unwrap());
            }
            let mut publications = Vec::new();
            let received = self.subscribe.recv_many(&mut publications, 256);
            // Longer than the limits within the test, whose messages are more specific.
            let received = tokio::time::timeout(2 * SOON, received).await;
            received.expect("a publication in time").unwrap();
            self.publications = publications.into_iter();
        }
    }

    /// Waits for the next publication, and returns its payload.
    pub(crate) async fn answer(&mut self) -> Bytes {
        self.publication().await.1.payload().clone()
    }

    /// Waits for the next publications, and returns their payloads.
    pub(crate) async fn answers(&mut self, count: usize) -> Vec<Bytes> {
        let mut answers = Vec::new();
        for _ in 0..count {
            answers.push(self.answer().await);
        }
        answers
    }
}

/// A gate at which calls wait until it is opened, and which counts them.
#[derive(Debug, Clone)]
pub(crate) struct Gate(Arc<(watch::Sender<usize>, watch::Sender<bool>)>);

impl Gate {
    pub(crate) fn closed() -> Self {
        Self(Arc::new((watch::Sender::new(0), watch::Sender::new(false))))
    }

    /// Counts a call without waiting.
    pub(crate) fn count_one(&self) {
        self.0.0.send_modify(|arrived| *arrived += 1);
    }

    /// Counts a call, and waits until the gate is open.
    pub(crate) async fn pass(&self) {
        let (_, open) = &*self.0;
        self.count_one();
        open.subscribe().wait_for(|open| *open).await.unwrap();
    }

    pub(crate) fn open(&self) {
        self.0.1.send_replace(true);
    }

    /// Returns how many calls have arrived.
    pub(crate) fn count(&self) -> usize {
        *self.0.0.borrow()
    }

    /// Waits until `count` calls have arrived.
    pub(crate) async fn arrived(&self, count: usize) {
        let mut arrived = self.0.0.subscribe();
        let what = format!("{count} calls at the gate");
        soon(&what, arrived.wait_for(|arrived| *arrived >= count))
            .await
            .unwrap();
    }
}

/// Connects a client to `component`, whose name is `name`.
pub(crate) async fn connect(name: &str, component: &ComponentHandle) -> Client {
    soon("connecting", Client::connect(name, component.db_address()))
        .await
        .unwrap()
}

/// Connects a client to `first` whose answers come from `last`.
pub(crate) async fn connect_through(first: &ComponentHandle, last: &ComponentHandle) -> Client {
    let client = Client::builder(first.name(), first.db_address())
        .sub_address(last.address("pub_address").unwrap());
    soon("connecting", client.connect()).await.unwrap()
}

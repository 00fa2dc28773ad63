//! Tests of requests to workers, without sockets and with paused time.

use std::collections::VecDeque;
use std::pin::pin;
use std::task::Poll;

use futures_util::poll;

use super::*;
use crate::clock;
use crate::link::header;
use crate::link::server::ServerOutput;
use crate::link::session::{CreditWindow, Session, SessionEvent, VERSION};
use crate::link::{LinkOptions, WORKER};
use crate::message::proto::{LinkHeader, LinkHello, LinkRequest};
use crate::report::{Worker, WorkerState};
use crate::socket::Frames;

/// A worker's end of a link, without a socket.
struct Remote {
    route: Bytes,
    session: Session,
    instance: u64,
    requests: Vec<LinkRequest>,
}

impl Remote {
    fn new(number: u64, name: &str, version: u32) -> Self {
        let hello = LinkHello {
            version,
            role: WORKER.to_owned(),
            name: name.to_owned(),
            concurrency: 1,
            ..LinkHello::default()
        };
        let window = CreditWindow {
            messages: 100,
            bytes: 1_000_000,
        };
        let id = Bytes::copy_from_slice(uuid::Uuid::new_v4().as_bytes());
        let heartbeat = Duration::from_secs(5);
        Self {
            route: Bytes::copy_from_slice(&number.to_be_bytes()),
            session: Session::connect(id, hello, window, heartbeat, clock::now()),
            instance: 0xa0 + number,
            requests: Vec::new(),
        }
    }

    fn receive(&mut self, header: &LinkHeader) {
        let mut events = Vec::new();
        let frames = std::iter::empty();
        self.session
            .receive(clock::now(), header, frames, &mut events);
        for event in events {
            match event {
                SessionEvent::Request(request) => self.requests.push(request),
                SessionEvent::ReportWanted { .. } => {
                    let report = WorkerState::new(Worker::new(self.instance), Vec::new());
                    self.session.send_report(report.encode());
                }
                _ => {}
            }
        }
    }
}

fn links() -> LinkServer {
    let links = LinkServer::new(LinkOptions::default());
    links.state().output = ServerOutput::Recorded(VecDeque::new());
    links
}

fn serve_workers(links: &LinkServer) {
    assert!(links.claim_tasks());
    let _ = links.take_results();
}

/// A master with workers of the current version, called so.
fn master(names: &[&str]) -> (LinkServer, Vec<Remote>) {
    let links = links();
    serve_workers(&links);
    let workers = names.iter().zip(1..);
    let workers = workers.map(|(name, number)| Remote::new(number, name, VERSION));
    let mut workers: Vec<_> = workers.collect();
    exchange(&links, &mut workers);
    assert_eq!(links.workers(), names.len());
    (links, workers)
}

/// Delivers all headers.
fn exchange(links: &LinkServer, workers: &mut [Remote]) {
    for _ in 0..5 {
        for worker in &mut *workers {
            while let Some(sent) = worker.session.transmit(clock::now()) {
                send(links, worker, &sent.header);
            }
        }
        let mut state = links.state();
        let ServerOutput::Recorded(sent) = &mut state.output else {
            panic!("the output is recorded");
        };
        let sent: Vec<Frames> = std::mem::take(sent).into();
        drop(state);
        for frames in sent {
            let to = |worker: &&mut Remote| worker.route == frames[0];
            let worker = workers.iter_mut().find(to).unwrap();
            worker.receive(&header::decode(frames[1].clone()).unwrap());
        }
    }
}

fn send(links: &LinkServer, worker: &Remote, header: &LinkHeader) {
    let frames = [worker.route.clone(), header::encode(header)];
    links.receive(std::iter::once(frames.into_iter().collect()));
}

fn kind(reply: Result<Bytes, UnansweredRequest>) -> (Kind, String) {
    let UnansweredRequest { kind, reason } = reply.unwrap_err();
    (kind, reason)
}

#[tokio::test(start_paused = true)]
async fn reply_of_a_worker_returns_to_the_request() {
    let (links, mut workers) = master(&["a", "b"]);
    let mut asked = pin!(links.ask_worker("b", "configure", "x".into()));
    assert!(poll!(&mut asked).is_pending());
    exchange(&links, &mut workers);
    assert!(workers[0].requests.is_empty());
    let request = LinkRequest {
        number: 1,
        verb: "configure".to_owned(),
        payload: "x".into(),
    };
    assert_eq!(workers[1].requests, [request]);
    workers[1].session.reply(1, "done".into());
    exchange(&links, &mut workers);
    assert_eq!(poll!(&mut asked), Poll::Ready(Ok("done".into())));
}

#[tokio::test(start_paused = true)]
async fn request_to_a_worker_that_cannot_be_asked_fails_at_once() {
    let (links, _workers) = master(&["hand", "anvil"]);
    let misspelt = links.ask_worker("hnad", "drain", Bytes::new()).await;
    let text = "no worker is called `hnad`; did you mean `hand`?";
    assert_eq!(kind(misspelt), (Kind::Unknown, text.to_owned()));
    let (links, _) = master(&[]);
    let (unknown, text) = kind(links.ask_worker("hand", "drain", Bytes::new()).await);
    assert_eq!(unknown, Kind::Unknown);
    assert!(
        text.ends_with("no worker with a link is connected"),
        "{text}"
    );
    // A component that sends no tasks.
    let server = self::links();
    let (unknown, text) = kind(server.ask_worker("hand", "drain", Bytes::new()).await);
    assert_eq!(unknown, Kind::Unknown);
    assert!(text.contains("has no workers"), "{text}");
}

#[tokio::test(start_paused = true)]
async fn worker_of_an_earlier_version_is_not_asked() {
    let links = links();
    serve_workers(&links);
    let mut workers = [Remote::new(1, "old", REQUESTS_VERSION - 1)];
    exchange(&links, &mut workers);
    let (refused, text) = kind(links.ask_worker("old", "drain", Bytes::new()).await);
    assert_eq!(refused, Kind::Unsupported);
    assert!(text.contains("an earlier version of palm"), "{text}");
    exchange(&links, &mut workers);
    assert!(workers[0].requests.is_empty());
}

#[tokio::test(start_paused = true)]
async fn worker_that_does_not_know_the_verb_is_reported() {
    let (links, mut workers) = master(&["a"]);
    let mut asked = pin!(links.ask_worker("a", "dance", Bytes::new()));
    assert!(poll!(&mut asked).is_pending());
    exchange(&links, &mut workers);
    workers[0].session.reply(1, Bytes::new());
    exchange(&links, &mut workers);
    let (unsupported, text) = kind(asked.await);
    assert_eq!(unsupported, Kind::Unsupported);
    assert!(text.contains("`dance`"), "{text}");
}

#[tokio::test(start_paused = true)]
async fn worker_that_never_replies_ends_the_request_by_a_timeout() {
    let (links, mut workers) = master(&["a"]);
    let begun = clock::now();
    let (timeout, text) = kind(links.ask_worker("a", "drain", Bytes::new()).await);
    assert_eq!(clock::now() - begun, REPLY_TIMEOUT);
    assert_eq!(timeout, Kind::Timeout);
    assert!(text.contains("within 2s"), "{text}");
    // The request was withdrawn, so the next one is sent at once.
    let mut asked = pin!(links.ask_worker("a", "configure", Bytes::new()));
    assert!(poll!(&mut asked).is_pending());
    exchange(&links, &mut workers);
    let last = workers[0].requests.last().unwrap();
    assert_eq!((last.number, &*last.verb), (2, "configure"));
}

#[tokio::test(start_paused = true)]
async fn request_ends_when_its_worker_leaves_or_is_lost() {
    let (links, mut workers) = master(&["leaves", "lost"]);
    let mut leaves = pin!(links.ask_worker("leaves", "drain", Bytes::new()));
    let mut lost = pin!(links.ask_worker("lost", "drain", Bytes::new()));
    assert!(poll!(&mut leaves).is_pending());
    assert!(poll!(&mut lost).is_pending());
    exchange(&links, &mut workers);
    let closed = workers[0].session.close();
    send(&links, &workers[0], &closed);
    assert_eq!(kind(leaves.await).0, Kind::Gone);
    links.record_disconnect(&workers[1].route);
    let (gone, text) = kind(links.ask_worker("lost", "drain", Bytes::new()).await);
    assert_eq!(gone, Kind::Gone);
    assert!(text.contains("is not connected"), "{text}");
    assert!(poll!(&mut lost).is_pending(), "it may return");
    tokio::time::advance(LinkOptions::default().reconnect_grace * 2).await;
    links.tick();
    assert_eq!(kind(lost.await).0, Kind::Gone);
    assert_eq!(links.open_requests.0.load(Ordering::Relaxed), 0);
}

#[tokio::test(start_paused = true)]
async fn worker_with_a_common_name_is_addressed_by_its_instance() {
    let (links, mut workers) = master(&["same", "same"]);
    let (ambiguous, text) = {
        let mut asked = pin!(links.ask_worker("same", "drain", Bytes::new()));
        assert!(poll!(&mut asked).is_pending(), "it asks for reports");
        exchange(&links, &mut workers);
        kind(asked.await)
    };
    assert_eq!(ambiguous, Kind::Ambiguous);
    let instances = "00000000000000a1, 00000000000000a2";
    assert!(text.ends_with(instances), "{text}");
    let mut asked = pin!(links.ask_worker("00000000000000a2", "drain", Bytes::new()));
    assert!(poll!(&mut asked).is_pending());
    exchange(&links, &mut workers);
    assert_eq!(
        [workers[0].requests.len(), workers[1].requests.len()],
        [0, 1]
    );
}

#[tokio::test(start_paused = true)]
async fn requests_without_a_reply_are_bounded() {
    let (links, mut workers) = master(&["a", "b", "c", "d", "e"]);
    let ask = |name| links.ask_worker(name, "drain", Bytes::new());
    let mut asked = Vec::new();
    for name in ["a", "b", "c", "d"] {
        for _ in 0..16 {
            let mut request = Box::pin(ask(name));
            assert!(poll!(&mut request).is_pending());
            asked.push(request);
        }
        assert_eq!(kind(ask(name).await).0, Kind::Busy);
    }
    assert_eq!(asked.len(), MAX_REQUESTS);
    assert_eq!(kind(ask("e").await).0, Kind::Busy);
    // A request that is abandoned returns capacity for another one.
    asked.pop();
    let mut other = pin!(ask("e"));
    assert!(poll!(&mut other).is_pending());
    exchange(&links, &mut workers);
    assert_eq!(workers[4].requests.len(), 1);
}

#[tokio::test(start_paused = true)]
async fn changed_concurrency_of_a_worker_is_remembered() {
    let (links, mut workers) = master(&["a"]);
    workers[0].session.set_concurrency(3);
    exchange(&links, &mut workers);
    let state = links.state();
    let peer = state.peers.values().next().unwrap();
    let PeerRole::Worker { concurrency, .. } = peer.role else {
        panic!("it is a worker");
    };
    assert_eq!(concurrency, 3);
}

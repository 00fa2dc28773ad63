//! Peers of libzmq: Python processes with pyzmq.

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::join_all;
use palm_runtime::socket::{
    Address, Dealer, Frames, Publication, Publish, Pull, Push, Reply, Request, Router, Subscribe,
    SubscriptionChange,
};
use tokio::sync::mpsc;

use super::harness::check;
use super::request_reply::{echo, send_request};
use super::setup::{
    IpcFolder, SOON, added, any_tcp, bind_again, change, fill, number, numbered, options,
    publications, recv, recv_numbers, recv_one, removed, soon, unbound_tcp,
};

/// A socket of libzmq that executes orders, see `peer.py`.
struct Libzmq {
    child: Child,
    stdin: ChildStdin,
    answers: mpsc::UnboundedReceiver<String>,
}

impl Libzmq {
    fn new(socket_type: &str) -> Self {
        let python = std::env::var("PALM_PYTHON").expect("PALM_PYTHON names a Python with pyzmq");
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/conformance/peer.py");
        let mut command = Command::new(python);
        command
            .args([script, socket_type])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let stdin = child.stdin.take().unwrap();
        let stdout = BufReader::new(child.stdout.take().unwrap());
        let (sender, answers) = mpsc::unbounded_channel();
        std::thread::spawn(move || {
            for line in stdout.lines().map_while(Result::ok) {
                if sender.send(line).is_err() {
                    break;
                }
            }
        });
        Self {
            child,
            stdin,
            answers,
        }
    }

    /// Sends an order without waiting for its execution.
    fn begin(&mut self, order: &str) {
        writeln!(self.stdin, "{order}").unwrap();
    }

    /// Waits for the answer to the oldest unanswered order.
    async fn answer(&mut self) -> String {
        let answer = soon("an answer of the libzmq peer", self.answers.recv()).await;
        answer.expect("the libzmq peer has died")
    }

    async fn done(&mut self) {
        assert_eq!(self.answer().await, "done");
    }

    async fn order(&mut self, order: &str) {
        self.begin(order);
        self.done().await;
    }

    async fn bound(socket_type: &str, address: &Address) -> (Self, Address) {
        let mut peer = Self::new(socket_type);
        peer.begin(&format!("bind {}", address.to_string().replace(":0", ":*")));
        let bound = peer.answer().await;
        (
            peer,
            bound
                .parse()
                .unwrap_or_else(|_| panic!("cannot bind: {bound}")),
        )
    }

    async fn connected(socket_type: &str, address: &Address) -> Self {
        let mut peer = Self::new(socket_type);
        peer.order(&format!("connect {address}")).await;
        peer
    }

    async fn send(&mut self, frames: &[&[u8]]) {
        self.order(&format!("send {}", hex(frames))).await;
    }

    async fn recv(&mut self) -> Vec<Vec<u8>> {
        self.begin("recv");
        let answer = self.answer().await;
        answer.split(',').map(bytes_of_hex).collect()
    }

    /// Kills the process with SIGKILL and waits until it has ended.
    fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

impl Drop for Libzmq {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn hex(frames: &[&[u8]]) -> String {
    let frame = |frame: &&[u8]| match frame {
        [] => "-".to_owned(),
        frame => frame.iter().map(|byte| format!("{byte:02x}")).collect(),
    };
    frames.iter().map(frame).collect::<Vec<_>>().join(",")
}

fn bytes_of_hex(word: &str) -> Vec<u8> {
    if word == "-" {
        return Vec::new();
    }
    let digits = |at| {
        word.get(at..at + 2)
            .and_then(|byte| u8::from_str_radix(byte, 16).ok())
    };
    let byte = |at| digits(at).unwrap_or_else(|| panic!("the libzmq peer answered {word}"));
    (0..word.len()).step_by(2).map(byte).collect()
}

/// Messages in each direction.
const COUNT: usize = 10_000;

async fn push_numbers(push: &Push) {
    for number in 0..COUNT {
        push.send(numbered(number, 64)).await.unwrap();
    }
}

#[test]
#[ignore = "needs PALM_PYTHON, an interpreter that has pyzmq"]
fn a_push_binds_and_a_pull_of_libzmq_connects() {
    check(async {
        let folder = IpcFolder::new();
        for address in folder.both("a") {
            let (push, bound) = Push::bind(&address, &options(|options| options))
                .await
                .unwrap();
            let mut peer = Libzmq::connected("PULL", &bound).await;
            peer.begin(&format!("recv_many {COUNT}"));
            push_numbers(&push).await;
            peer.done().await;
        }
    });
}

#[test]
#[ignore = "needs PALM_PYTHON, an interpreter that has pyzmq"]
fn a_push_connects_to_a_pull_of_libzmq() {
    check(async {
        let folder = IpcFolder::new();
        for address in folder.both("a") {
            let (mut peer, bound) = Libzmq::bound("PULL", &address).await;
            let push = Push::connect(&bound, &options(|options| options))
                .await
                .unwrap();
            peer.begin(&format!("recv_many {COUNT}"));
            push_numbers(&push).await;
            peer.done().await;
        }
    });
}

#[test]
#[ignore = "needs PALM_PYTHON, an interpreter that has pyzmq"]
fn a_pull_binds_and_a_push_of_libzmq_connects() {
    check(async {
        let folder = IpcFolder::new();
        for address in folder.both("a") {
            let (mut pull, bound) = Pull::bind(&address, &options(|options| options))
                .await
                .unwrap();
            let mut peer = Libzmq::connected("PUSH", &bound).await;
            peer.begin(&format!("send_many {COUNT} 64"));
            recv_numbers(&mut pull, 0..COUNT).await;
            peer.done().await;
            peer.send(&[b"two", b"frames"]).await;
            assert_eq!(recv(&mut pull, 2).await, ["two", "frames"]);
        }
    });
}

#[test]
#[ignore = "needs PALM_PYTHON, an interpreter that has pyzmq"]
fn a_pull_connects_to_a_push_of_libzmq() {
    check(async {
        let folder = IpcFolder::new();
        for address in folder.both("a") {
            let (mut peer, bound) = Libzmq::bound("PUSH", &address).await;
            let mut pull = Pull::connect(&bound, &options(|options| options))
                .await
                .unwrap();
            peer.begin(&format!("send_many {COUNT} 64"));
            recv_numbers(&mut pull, 0..COUNT).await;
            peer.done().await;
        }
    });
}

#[test]
#[ignore = "needs PALM_PYTHON, an interpreter that has pyzmq"]
fn a_large_message_goes_to_libzmq_and_back() {
    check(async {
        let (mut reply, bound) = Reply::bind(&any_tcp(), &options(|options| options))
            .await
            .unwrap();
        let (mut peer, at) = Libzmq::bound("REP", &any_tcp()).await;
        peer.begin("echo 1");
        let request = Request::connect(&at, &options(|options| options))
            .await
            .unwrap();
        let large = Bytes::from(vec![7; 8 * 1024 * 1024]);
        assert!(request.request(large.clone(), SOON).await.unwrap() == large);
        peer.done().await;

        let mut peer = Libzmq::connected("REQ", &bound).await;
        peer.send(&[b"small"]).await;
        let (_, responder) = soon("the request", reply.recv()).await.unwrap();
        responder.reply(Bytes::from(vec![b'x'; 100_000])).unwrap();
        assert_eq!(peer.recv().await, [vec![b'x'; 100_000]]);
    });
}

#[test]
#[ignore = "needs PALM_PYTHON, an interpreter that has pyzmq"]
fn libzmq_subscriber_receives_its_topic_from_a_publisher() {
    check(async {
        let folder = IpcFolder::new();
        for address in folder.both("a") {
            let (mut publish, bound) = Publish::bind(&address, &options(|options| options))
                .await
                .unwrap();
            let mut peer = Libzmq::connected("SUB", &bound).await;
            peer.order(&format!("subscribe {}", hex(&[b"numbers"])))
                .await;
            assert_eq!(change(&mut publish).await, added("numbers"));
            assert!(publish.is_subscribed(b"numbers too"));
            peer.begin(&format!("recv_many {COUNT}"));
            for number in 0..COUNT {
                publish
                    .send(Bytes::from_static(b"others"), Bytes::new())
                    .await
                    .unwrap();
                let topic = Bytes::from_static(b"numbers");
                publish.send(topic, numbered(number, 64)).await.unwrap();
            }
            peer.done().await;
            peer.order(&format!("unsubscribe {}", hex(&[b"numbers"])))
                .await;
            assert_eq!(change(&mut publish).await, removed("numbers"));
            peer.order(&format!("subscribe {}", hex(&[b"\xff\x00"])))
                .await;
            let binary = Bytes::from_static(b"\xff\x00");
            assert_eq!(
                change(&mut publish).await,
                SubscriptionChange::Added(binary.clone())
            );
            peer.kill();
            assert_eq!(
                change(&mut publish).await,
                SubscriptionChange::Removed(binary)
            );
        }
    });
}

#[test]
#[ignore = "needs PALM_PYTHON, an interpreter that has pyzmq"]
fn a_subscriber_follows_a_publisher_of_libzmq() {
    check(async {
        let folder = IpcFolder::new();
        for address in folder.both("a") {
            let (mut peer, bound) = Libzmq::bound("XPUB", &address).await;
            let mut subscribe = Subscribe::connect(&bound, &options(|options| options))
                .await
                .unwrap();
            subscribe.subscribe("topic").await.unwrap();
            assert_eq!(peer.recv().await, [b"\x01topic"]);
            peer.send(&[b"other", b"body"]).await;
            peer.send(&[b"topic", b"body"]).await;
            peer.send(&[b"topical"]).await;
            assert_eq!(
                publications(&mut subscribe, 2).await,
                [
                    Publication::new("topic", Some("body".into())),
                    Publication::new("topical", None),
                ]
            );
            subscribe.unsubscribe("topic").await.unwrap();
            assert_eq!(peer.recv().await, [b"\x00topic"]);
        }
    });
}

#[test]
#[ignore = "needs PALM_PYTHON, an interpreter that has pyzmq"]
fn a_req_of_libzmq_is_answered() {
    check(async {
        let folder = IpcFolder::new();
        for address in folder.both("a") {
            let (reply, bound) = Reply::bind(&address, &options(|options| options))
                .await
                .unwrap();
            let _echo = echo(reply);
            let mut peers = Vec::new();
            for _ in 0..3 {
                peers.push(Libzmq::connected("REQ", &bound).await);
            }
            for round in 0..20_u8 {
                for (peer, name) in peers.iter_mut().zip(0_u8..) {
                    peer.send(&[&[round, name]]).await;
                }
                for (peer, name) in peers.iter_mut().zip(0_u8..) {
                    assert_eq!(peer.recv().await, [[round, name]]);
                }
            }
        }
    });
}

#[test]
#[ignore = "needs PALM_PYTHON, an interpreter that has pyzmq"]
fn a_request_goes_through_a_router_of_libzmq() {
    check(async {
        let (mut peer, bound) = Libzmq::bound("ROUTER", &any_tcp()).await;
        let request = Request::connect(&bound, &options(|options| options))
            .await
            .unwrap();
        let answering = async {
            let envelope = peer.recv().await;
            // The routing id, the number of the request, the delimiter, and the body.
            assert_eq!(envelope.len(), 4);
            assert!(envelope[2].is_empty());
            let frames: Vec<&[u8]> = envelope.iter().map(Vec::as_slice).collect();
            peer.send(&frames).await;
        };
        tokio::join!(answering, send_request(&request, numbered(0, 64)));
    });
}

#[test]
#[ignore = "needs PALM_PYTHON, an interpreter that has pyzmq"]
fn a_rep_of_libzmq_answers() {
    check(async {
        let folder = IpcFolder::new();
        for address in folder.both("a") {
            let (mut peer, bound) = Libzmq::bound("REP", &address).await;
            peer.begin("echo 1001");
            let request = Request::connect(&bound, &options(|options| options))
                .await
                .unwrap();
            join_all((0..1_000).map(|number| send_request(&request, numbered(number, 64)))).await;
            send_request(&request, Bytes::new()).await;
            peer.done().await;
        }
    });
}

#[test]
#[ignore = "needs PALM_PYTHON, an interpreter that has pyzmq"]
fn a_router_talks_to_a_dealer_of_libzmq() {
    check(async {
        let folder = IpcFolder::new();
        for address in folder.both("a") {
            let (mut router, bound) = Router::bind(&address, &options(|options| options))
                .await
                .unwrap();
            let mut peer = Libzmq::connected("DEALER", &bound).await;
            peer.send(&[b"", b"a", b""]).await;
            let mut messages: Vec<Frames> = Vec::new();
            soon("the message", router.recv_many(&mut messages, 1))
                .await
                .unwrap();
            assert_eq!(messages[0][1..], ["", "a", ""].map(Bytes::from));
            router.try_send(messages.remove(0)).unwrap();
            assert_eq!(
                peer.recv().await,
                [b"".to_vec(), b"a".to_vec(), b"".to_vec()]
            );
        }
    });
}

#[test]
#[ignore = "needs PALM_PYTHON, an interpreter that has pyzmq"]
fn a_dealer_talks_to_a_router_of_libzmq() {
    check(async {
        let folder = IpcFolder::new();
        for address in folder.both("a") {
            let (mut peer, bound) = Libzmq::bound("ROUTER", &address).await;
            let mut dealer = Dealer::connect(&bound, &options(|options| options))
                .await
                .unwrap();
            for round in 0..100 {
                dealer
                    .send([Bytes::new(), numbered(round, 64)].into_iter().collect())
                    .await
                    .unwrap();
            }
            peer.order("echo 100").await;
            let mut messages = Vec::new();
            while messages.len() < 100 {
                soon("an answer", dealer.recv_many(&mut messages, 100))
                    .await
                    .unwrap();
            }
            for (expected, message) in messages.iter().enumerate() {
                assert_eq!(number(&message[1]), expected);
            }
        }
    });
}

#[test]
#[ignore = "needs PALM_PYTHON, an interpreter that has pyzmq"]
fn a_push_finds_a_killed_pull_of_libzmq_again() {
    check(async {
        let address = unbound_tcp();
        let push = Push::connect(&address, &options(|options| options))
            .await
            .unwrap();
        for _ in 0..3 {
            let (mut peer, _) = Libzmq::bound("PULL", &address).await;
            let sending = async {
                loop {
                    push.send(Bytes::from_static(b"again")).await.unwrap();
                    tokio::time::sleep(Duration::from_millis(5)).await;
                }
            };
            tokio::select! {
                () = sending => {}
                frames = peer.recv() => assert_eq!(frames, [b"again"]),
            }
            peer.kill();
        }
    });
}

#[test]
#[ignore = "needs PALM_PYTHON, an interpreter that has pyzmq"]
fn a_pull_finds_a_killed_push_of_libzmq_again() {
    check(async {
        let address = unbound_tcp();
        let mut pull = Pull::connect(&address, &options(|options| options))
            .await
            .unwrap();
        for _ in 0..3 {
            let (mut peer, _) = Libzmq::bound("PUSH", &address).await;
            peer.send(&[b"again"]).await;
            assert_eq!(recv_one(&mut pull).await, "again");
            peer.kill();
        }
    });
}

#[test]
#[ignore = "needs PALM_PYTHON, an interpreter that has pyzmq"]
fn a_subscriber_finds_a_killed_publisher_of_libzmq_again() {
    check(async {
        let address = unbound_tcp();
        let mut subscribe = Subscribe::connect(&address, &options(|options| options))
            .await
            .unwrap();
        subscribe.subscribe("topic").await.unwrap();
        for _ in 0..3 {
            let (mut peer, _) = Libzmq::bound("XPUB", &address).await;
            assert_eq!(peer.recv().await, [b"\x01topic"]);
            peer.send(&[b"topic", b"again"]).await;
            assert_eq!(
                publications(&mut subscribe, 1).await[0].body,
                Some("again".into())
            );
            peer.kill();
        }
    });
}

#[test]
#[ignore = "needs PALM_PYTHON, an interpreter that has pyzmq"]
fn a_request_finds_a_killed_rep_of_libzmq_again() {
    check(async {
        let address = unbound_tcp();
        let request = Request::connect(&address, &options(|options| options))
            .await
            .unwrap();
        for round in 0..3 {
            let (mut peer, _) = Libzmq::bound("REP", &address).await;
            peer.begin("echo 1000");
            // Requests to the dead peer have no answer until its loss is detected.
            let requests = async {
                let timeout = Duration::from_millis(200);
                while request.request(numbered(round, 64), timeout).await.is_err() {}
            };
            soon("an answer", requests).await;
            send_request(&request, numbered(round, 64)).await;
            peer.kill();
        }
    });
}

#[test]
#[ignore = "needs PALM_PYTHON, an interpreter that has pyzmq"]
fn bound_ends_are_found_again_by_libzmq() {
    check(async {
        let options = options(|options| options);
        let (push, at) = Push::bind(&unbound_tcp(), &options).await.unwrap();
        let mut pull = Libzmq::connected("PULL", &at).await;
        push.send(Bytes::from_static(b"first")).await.unwrap();
        assert_eq!(pull.recv().await, [b"first"]);
        soon("closing", push.close(Duration::ZERO)).await;
        let (push, _) = bind_again(async || Push::bind(&at, &options).await).await;
        push.send(Bytes::from_static(b"second")).await.unwrap();
        assert_eq!(pull.recv().await, [b"second"]);

        let (mut publish, at) = Publish::bind(&unbound_tcp(), &options).await.unwrap();
        let mut sub = Libzmq::connected("SUB", &at).await;
        sub.order(&format!("subscribe {}", hex(&[b"topic"]))).await;
        assert_eq!(change(&mut publish).await, added("topic"));
        soon("closing", publish.close(Duration::ZERO)).await;
        // libzmq subscribes again only while its socket is in use.
        let receiving = sub.recv();
        let publishing = async {
            let bind = async || Publish::bind(&at, &options).await;
            let (mut publish, _) = bind_again(bind).await;
            assert_eq!(change(&mut publish).await, added("topic"));
            publish.send("topic".into(), "again".into()).await.unwrap();
            publish
        };
        let (received, _publish) = tokio::join!(receiving, publishing);
        assert_eq!(received, [b"topic".as_slice(), b"again"]);
    });
}

#[test]
#[ignore = "needs PALM_PYTHON, an interpreter that has pyzmq"]
fn a_killed_pull_of_libzmq_does_not_stop_a_push() {
    check(async {
        let few = options(|options| options.queue_len(16));
        let (push, bound) = Push::bind(&any_tcp(), &few).await.unwrap();
        let mut peer = Libzmq::connected("PULL", &bound).await;
        push.send(Bytes::from_static(b"here")).await.unwrap();
        assert_eq!(peer.recv().await, [b"here"]);
        // libzmq receives into its own queue until that is full. Then the sender waits.
        let count = fill(&push, 64 * 1024, 0, 3_000).await;
        let waiting = tokio::spawn(async move {
            push.send(numbered(count, 64)).await.unwrap();
            push
        });
        peer.kill();
        let mut pull = Pull::connect(&bound, &few).await.unwrap();
        let released = async { while number(&recv_one(&mut pull).await) != count {} };
        soon("the waiting sender's message", released).await;
        waiting.await.unwrap();
    });
}

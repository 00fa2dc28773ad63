//! How many calls run at once, which of them exclude each other, and the order of their answers.

use std::sync::{Barrier, Mutex, mpsc};
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::StreamExt;
use palm::prelude::*;
use palm::{ComponentHandle, LinkOptions};

use super::super::setup::{ANY, Caller, Gate, check, check_on, eventually, soon};

/// A method whose calls wait for each other.
struct Meeting {
    together: tokio::sync::Barrier,
    threads: Barrier,
}

/// The number of calls that wait for each other.
const TOGETHER: usize = 4;

#[palm::server(name = "meeting")]
impl Meeting {
    #[palm::method]
    async fn meet(&self) -> &'static str {
        self.together.wait().await;
        "met"
    }

    #[palm::method(blocking)]
    fn meet_on_threads(&self) -> &'static str {
        self.threads.wait();
        "met"
    }
}

impl Meeting {
    fn new() -> Self {
        Self {
            together: tokio::sync::Barrier::new(TOGETHER),
            threads: Barrier::new(TOGETHER),
        }
    }
}

#[test]
fn calls_of_shared_methods_run_concurrently() {
    check(async {
        let server = Meeting::new()
            .bind(ANY)
            .concurrency(TOGETHER)
            .spawn()
            .await
            .unwrap();
        let mut caller = Caller::new(&server, "caller").await;
        for function in ["meeting.meet", "meeting.meet_on_threads"] {
            for _ in 0..2 * TOGETHER {
                caller.send(function, "").await;
            }
            assert_eq!(caller.answers(2 * TOGETHER).await, ["met"; 2 * TOGETHER]);
        }
    });
}

#[test]
fn calls_that_fail_to_decode_do_not_delay_other_calls() {
    check(async {
        let server = Meeting::new()
            .bind(ANY)
            .concurrency(2 * TOGETHER)
            .spawn()
            .await
            .unwrap();
        let mut caller = Caller::new(&server, "caller").await;
        // These fail immediately, but are answered in order after the first call, which waits for the last ones.
        for between in ["meeting.echo", "meeting.unknown", "other.meet", "no dot"] {
            for number in 0..TOGETHER {
                caller.send("meeting.meet", "").await;
                if number == 0 {
                    caller.send(between, "0").await;
                }
            }
            let what = format!("calls after `{between}`");
            assert_eq!(
                soon(&what, caller.answers(5)).await,
                ["met", "0", "met", "met", "met"]
            );
        }
    });
}

/// Methods that wait at a gate.
struct Gated {
    gate: Gate,
    open: Gate,
}

impl Gated {
    fn new() -> (Self, Gate) {
        let gate = Gate::closed();
        let open = Gate::closed();
        open.open();
        (
            Self {
                gate: gate.clone(),
                open,
            },
            gate,
        )
    }
}

#[palm::server(name = "gated")]
impl Gated {
    #[palm::method]
    async fn shared(&self, text: String) -> String {
        self.gate.pass().await;
        text
    }

    #[palm::method]
    async fn alone(&mut self, text: String) -> String {
        self.gate.pass().await;
        text
    }

    #[palm::method(blocking)]
    fn alone_on_a_thread(&mut self, text: String) -> String {
        tokio::runtime::Handle::current().block_on(self.gate.pass());
        text
    }

    #[palm::method]
    fn at_once(&self, text: String) -> String {
        text
    }

    #[palm::method(blocking)]
    fn at_once_on_a_thread(&self, text: String) -> String {
        text
    }

    #[palm::method]
    fn many_alone(&mut self, text: String) -> impl Iterator<Item = String> + use<> {
        std::iter::repeat_n(text, 2)
    }

    #[palm::method]
    async fn free(&self, text: String) -> String {
        self.open.pass().await;
        text
    }
}

#[test]
fn at_most_concurrency_calls_run() {
    check(async {
        let (server, gate) = Gated::new();
        let server = server.bind(ANY).concurrency(3).spawn().await.unwrap();
        let mut caller = Caller::new(&server, "caller").await;
        for number in 0..6 {
            caller.send("gated.shared", number.to_string()).await;
        }
        gate.arrived(3).await;
        received(&server, 6).await;
        assert_eq!(gate.count(), 3);
        assert_eq!(server.metrics().function("shared").unwrap().running, 3);
        gate.open();
        assert_eq!(caller.answers(6).await, ["0", "1", "2", "3", "4", "5"]);
    });
}

/// Waits until the server has received so many messages, and its tasks have been polled.
async fn received(server: &ComponentHandle, messages: u64) {
    eventually("messages taken", || {
        server.metrics().part("Pull").unwrap().messages >= messages
    })
    .await;
    for _ in 0..100 {
        tokio::task::yield_now().await;
    }
}

#[test]
fn calls_of_exclusive_methods_run_alone() {
    check(async {
        for function in ["gated.alone", "gated.alone_on_a_thread"] {
            let (server, gate) = Gated::new();
            let server = server.bind(ANY).concurrency(8).spawn().await.unwrap();
            let mut caller = Caller::new(&server, "caller").await;
            for number in 0..6 {
                caller.send(function, number.to_string()).await;
            }
            gate.arrived(1).await;
            received(&server, 6).await;
            assert_eq!(gate.count(), 1, "{function}");
            gate.open();
            assert_eq!(caller.answers(6).await, ["0", "1", "2", "3", "4", "5"]);
        }
    });
}

#[test]
fn server_answers_in_the_order_of_the_calls() {
    check(async {
        let (server, gate) = Gated::new();
        let server = server.bind(ANY).concurrency(8).spawn().await.unwrap();
        let mut caller = Caller::new(&server, "caller").await;
        caller.send("gated.shared", "slow").await;
        gate.arrived(1).await;
        for number in 0..5 {
            caller.send("gated.free", number.to_string()).await;
        }
        // The later calls are done, and their answers wait for the first.
        eventually("the later calls", || {
            server.metrics().function("free").unwrap().working.count() == 5
        })
        .await;
        gate.open();
        assert_eq!(caller.answers(6).await, ["slow", "0", "1", "2", "3", "4"]);
    });
}

#[test]
fn ordered_answers_and_exclusive_methods_do_not_deadlock() {
    // With one thread for blocking methods, an earlier call can start after a later one.
    let mut builder = tokio::runtime::Builder::new_multi_thread();
    check_on(builder.worker_threads(2).max_blocking_threads(1), async {
        let (server, gate) = Gated::new();
        let server = server.bind(ANY).concurrency(8).spawn().await.unwrap();
        let mut caller = Caller::new(&server, "caller").await;
        // This call occupies the thread.
        let busy = gate.clone();
        let runtime = tokio::runtime::Handle::current();
        tokio::task::spawn_blocking(move || runtime.block_on(busy.pass()));
        gate.arrived(1).await;
        // This call waits for the thread, and then for the lock.
        caller.send("gated.at_once_on_a_thread", "first").await;
        // This call holds the lock, and its answer waits for that of the first.
        caller.send("gated.many_alone", "second").await;
        received(&server, 2).await;
        gate.open();
        let answers = soon("answers in order", caller.answers(3)).await;
        assert_eq!(answers, ["first", "second", "second"]);
    });
}

/// A method that blocks its thread, for as long as the payload says.
struct Keeps {
    begun: Gate,
    released: Mutex<mpsc::Receiver<()>>,
}

#[palm::server(name = "keeps")]
impl Keeps {
    #[palm::method]
    fn step(&self, payload: Bytes) -> Bytes {
        if payload == "long" {
            self.begun.count_one();
            let released = self.released.lock().unwrap();
            released.recv_timeout(Duration::from_secs(20)).unwrap();
        } else {
            // Long enough that its result is sent alone.
            let begin = Instant::now();
            while begin.elapsed() < Duration::from_micros(25) {
                std::hint::spin_loop();
            }
        }
        payload
    }
}

#[test]
fn method_that_blocks_its_thread_does_not_delay_other_peers() {
    let mut two_threads = tokio::runtime::Builder::new_multi_thread();
    check_on(two_threads.worker_threads(2), async {
        let begun = Gate::closed();
        let (release, released) = mpsc::channel();
        let keeps = Keeps {
            begun: begun.clone(),
            released: Mutex::new(released),
        };
        let server = keeps.bind(ANY).spawn().await.unwrap();
        let no_link = LinkOptions::new().enabled(false);
        let client = Client::builder("keeps", server.db_address()).link_options(no_link);
        let client = client.connect().await.unwrap();
        for round in 1..=10 {
            let job = client.job(Keeps::STEP, ["short", "long"].map(Bytes::from));
            let job = tokio::spawn(job.expect_answers(2).count());
            begun.arrived(round).await;
            soon("what the cache has", client.get("name"))
                .await
                .unwrap();
            release.send(()).unwrap();
            assert_eq!(soon("both answers", job).await.unwrap(), 2);
        }
        server.shutdown().await.unwrap();
    });
}
